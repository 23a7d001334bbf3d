import ast
from pathlib import Path

import pytest

import serkit
from serkit import registry
from serkit.errors import SerkitError
from serkit.parameters import Range, kinds_of, objection
from serkit.recipe import parse_recipe

HERE = Path(serkit.__file__).parent / "models" / "cross_attention.py"


def objection_to(annotation: str, value) -> str:
    return objection(kinds_of(ast.parse(annotation, mode="eval").body, HERE), value)


@pytest.mark.parametrize(
    ("annotation", "good", "bad"),
    [
        ("int", [0, -3], [1.0, "1", None, True]),
        ("float", [0, 0.5, -2.0], ["x", None, False, float("nan"), float("inf")]),
        ("bool", [True, False], [0, 1, "true", None]),
        ("str | None", ["", "x", None], [3, False]),
        ("Size", [1, 9], [0, -4, 8.5, None]),
        ("Rate | None", [0, 0.99, None], [1, 2, -0.1]),
        ("Literal['a', 'b']", ["a", "b"], ["c", None, 1, ["a"]]),
        ("Pooling", ["scaled", "statistics"], ["foo"]),
        ("Size | Mapping[str, Size]", [1, {"a": 2}], [0, {"a": 0}, [1]]),
        ("tuple[str, ...]", [["a"], []], ["a", [1]]),
        ("Sequence[NotNegative]", [[0, 1.5]], [[-1], 1]),
        ("Annotated[Size, Needs('tuning', 'lora')]", [1, 9], [0, 2.5]),
        ("Annotated[Rate | None, Needs('heads')]", [0, 0.5, None], [1, "x"]),
        ("Tensor | None", [None, 3, "anything"], []),
        ("typing.Any", [None, 3], []),
    ],
)
def test_an_annotation_says_what_a_value_may_be(annotation, good, bad):
    assert not [value for value in good if objection_to(annotation, value)]
    assert not [value for value in bad if not objection_to(annotation, value)]


def test_what_is_wrong_is_told_in_words():
    assert objection_to("Size", 0) == "is 0, expected a whole number, at least 1"
    assert objection_to("Rate | None", 2) == "is 2, expected a number, at least 0, less than 1 or null"
    assert objection_to("Attention", "per_quer") == "is 'per_quer'; did you mean 'per_query'?"
    assert objection_to("Attention", None) == "is null, expected 'per_pair' or 'per_query'"
    assert str(Range(above=0, high=1)) == "more than 0, at most 1"


def test_every_default_is_what_its_annotation_allows():
    for kind in registry.Kind.__args__:
        for name in registry.names(kind):
            member = registry.member(kind, name)
            for key, source in member.parameters.items():
                try:
                    default = ast.literal_eval(str(source))
                except ValueError:  # written as a name
                    continue
                assert source is None or not objection(member.kinds[key], default), (kind, name, key)


def test_words_and_numbers_of_networks_losses_and_augmentations_are_checked():
    """What a recipe sets most is not left to be found out after extraction."""
    loose = {("models", "speech_backbone", "backbone"), ("models", "joint_backbones", "backbone")}  # name or mapping
    loose |= {("models", "joint_backbones", "text_backbone")}
    for kind in ("models", "losses", "augment"):
        for name in registry.names(kind):
            member = registry.member(kind, name)
            assert {(kind, name, key) for key, kinds in member.kinds.items() if not kinds} <= loose


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.attention=foo", r"systems\.b\.model: attention of model .* is 'foo'; known: per_pair, per_query"),
        ("model.pooling=men", "pooling of model .* is 'men'; did you mean 'mean'"),
        ("model.normalize=trainn", "did you mean 'train'"),
        ("model.hidden=0", "hidden of model .* is 0, expected a whole number, at least 1"),
        ("model.hidden=8.5", "is 8.5, expected a whole number"),
        ("model.hidden=null", "is null, expected a whole number"),
        ("model.dropout=2", "is 2, expected a number, at least 0, less than 1"),
        ("model.gru_layers=0", "is 0, expected a whole number, at least 1"),
        ("model.noise=-0.5", "is -0.5, expected a number, at least 0"),
        ("losses.cross_entropy.label_smoothing=7", "is 7, expected a number, at least 0, at most 1"),
        ("losses.cross_entropy.weight=-1", "greater than or equal to 0"),
        ("stack.decimals=-1", "stack.decimals: .* greater than or equal to 0"),
        ("stack.max_depth=0", "stack.max_depth: .* greater than or equal to 1"),
        ("augment.gain.low_db=loud", "is 'loud', expected a number"),
    ],
)
def test_a_recipe_with_such_a_value_is_refused_in_one_line(override, message):
    text = """
name: r
systems:
  b: {features: [logmel/24], model: cross_attention, augment: [gain], losses: [cross_entropy]}
"""
    with pytest.raises(SerkitError, match=message) as error:
        parse_recipe(text, [override])
    assert "\n" not in str(error.value)
