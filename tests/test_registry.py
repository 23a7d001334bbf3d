import re
import subprocess
import sys

import pytest

from serkit import registry
from serkit.errors import SerkitError


def outside(x: int = 3) -> int:
    """Of the user's own."""
    return x


def test_names_are_the_files():
    assert {"focal", "cross_entropy", "neutral_margin", "center_loss"} <= set(registry.names("losses"))
    assert {"toy", "table", "ravdess"} <= set(registry.names("corpora"))
    assert not [n for kind in registry.Kind.__args__ for n in registry.names(kind) if n.startswith("_")]


def test_functions_classes_and_dataclasses_are_described_from_their_source():
    margin = registry.member("losses", "focal")
    assert "gamma" in margin.parameters
    assert not {"outputs", "batch", "class_counts"} & set(margin.parameters)
    center = registry.member("losses", "center_loss")
    assert center.attribute == "CenterLoss"
    noise = registry.member("augment", "noise")
    assert "probability" in noise.parameters
    assert all(registry.member(kind, n).doc for kind in registry.Kind.__args__ for n in registry.names(kind))


def test_a_class_takes_what_the_class_that_it_is_made_of_takes():
    for name in ("wavlm", "bert"):
        parameters = registry.member("encoders", name).parameters
        assert parameters["layer"] == "'last'"
        assert parameters["name"] is None
    with pytest.raises(SerkitError, match="precision of encoder 'wavlm' is 'fp61'; did you mean 'fp16'"):
        registry.check_parameters("encoders", "wavlm", {"name": "wavlm/base", "precision": "fp61"}, "here")


def test_every_member_can_be_imported_and_is_what_was_described():
    for kind in registry.Kind.__args__:
        for name in registry.names(kind):
            assert registry.find(kind, name).__name__ == registry.member(kind, name).attribute


def test_describing_imports_nothing_heavy():
    code = (
        "import sys; from serkit import registry\n"
        "for kind in registry.Kind.__args__:\n"
        "    [registry.member(kind, n) for n in registry.names(kind)]\n"
        "assert not {'torch', 'sklearn', 'transformers', 'scipy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_dotted_name_is_imported_as_it_stands():
    assert registry.find("losses", "test_registry.outside") is outside
    described = registry.member("losses", "test_registry.outside")
    assert described.parameters == {"x": "3"}
    registry.check_parameters("losses", "test_registry.outside", {"x": 1}, "here")
    with pytest.raises(SerkitError, match=r"loss 'test_registry\.nothing' cannot be imported"):
        registry.find("losses", "test_registry.nothing")
    with pytest.raises(SerkitError, match="cannot be imported"):
        registry.find("models", "no_such_lab.mine")


def test_a_file_of_a_package_of_ones_own_is_found(tmp_path, monkeypatch):
    folder = tmp_path / "ownlab" / "losses"
    folder.mkdir(parents=True)
    (folder / "mine.py").write_text("def mine(outputs, batch, *, power=2.0):\n    return 0.0\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert registry.find("losses", "ownlab.losses.mine").__name__ == "mine"
    assert registry.find("losses", "ownlab.losses.mine.mine").__name__ == "mine"
    with pytest.raises(
        SerkitError, match=r"mein' cannot be imported: module 'ownlab.losses' has no 'mein'; did you me"
    ):
        registry.find("losses", "ownlab.losses.mein")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def mine(outputs, batch:\n    return 1\n", r"SyntaxError: '\(' was never closed \(FILE, line 1\)$"),
        ("import math\n\nX = mth.pi\n", r"NameError: name 'mth' is not defined \(FILE, line 3\)$"),
        ("import math\n\nX = math.pie\n", r"AttributeError: module 'math' has no attribute 'pie' \(FILE, line 3\)$"),
        ("import no_such_package\n", "No module named 'no_such_package'$"),
    ],
)
def test_a_file_of_ones_own_that_cannot_be_imported_is_named_with_its_line(tmp_path, monkeypatch, text, said):
    (tmp_path / "own_broken.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    where = re.escape(str(tmp_path / "own_broken.py"))
    with pytest.raises(SerkitError, match="^loss 'own_broken.mine' cannot be imported: " + said.replace("FILE", where)):
        registry.find("losses", "own_broken.mine")


@pytest.mark.parametrize("name", ["no_such_lab.mine", "no_such_lab.losses.mine"])
def test_a_module_that_is_not_on_the_path_is_told_where_to_be(name):
    with pytest.raises(SerkitError, match=r"named 'no_such_lab'; install it, or put its folder on PYTHONPATH"):
        registry.find("losses", name)


def test_a_missing_parameter_is_said(monkeypatch):
    member = registry.Member("x", "x", {"needed": None, "given": "1"}, "doc")
    monkeypatch.setattr(registry, "member", lambda kind, name: member)
    with pytest.raises(SerkitError, match="here: model 'x' needs the parameter 'needed'"):
        registry.check_parameters("models", "x", {"given": 2}, "here")
    with pytest.raises(SerkitError, match="has no parameter 'gven'; did you mean 'given'"):
        registry.check_parameters("models", "x", {"gven": 2}, "here")
