"""Whatever stands in bundle.json, predict ends with an answer or with one line."""

from __future__ import annotations

import copy
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from command_line import ask
from serkit.errors import SerkitError
from serkit.serving import bundle as bundles
from serkit.serving.bundle_head import check_head

from .signals import GOLDEN, voice, wav

Place = tuple[str | int, ...]  # keys and indices
HEAD: dict[str, Any] = json.loads(zipfile.ZipFile(GOLDEN).read("bundle.json"))
OTHER = st.sampled_from(
    [None, True, -1, 0, 1.5, 10**30, float("nan"), "", "x", "a\nb", "\ud800", [], [1], ["x"], [[]], {}, {"x": 1}]
)


def places(value: Any, at: Place = ()) -> list[Place]:
    """Where values are in a head: keys and indices."""
    rows = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(place for key, one in rows for place in places(one, (*at, key)))]


def with_other(at: Place, value: object) -> dict[str, Any]:
    head = copy.deepcopy(HEAD)
    holder: Any = head
    for key in at[:-1]:
        holder = holder[key]
    holder[at[-1]] = value
    return head


@pytest.mark.parametrize(
    ("at", "value", "said"),
    [
        (("labels",), None, "labels is null, expected a list"),
        (("labels", 1), 7, "labels[1] is 7, expected text on one line"),
        (("networks", 0, "file"), ["a"], "networks[0].file is a list, expected text on one line"),
        (("networks", 0, "batches"), "yes", "networks[0].batches is 'yes', expected true or false"),
        (("stack", "kind"), {}, "stack.kind is an object, expected text on one line"),
        (("calibration", "weights", 0), True, "calibration.weights[0] is true, expected a number"),
        (("calibration", "bias"), 10**40, f"calibration.bias is 1{'0' * 39}…, expected a list"),
        (("max_clip_s",), float("inf"), "max_clip_s is inf, expected a number"),
        (("licence",), "MIT", "licence is 'MIT', expected an object"),
        (("rating_scale",), [], "rating_scale is '[]', expected the lowest and the highest rating"),
        (("rating_scale",), [7, 1], "rating_scale is '[7, 1]', expected the lowest and the highest rating"),
    ],
)  # fmt: skip
def test_the_key_what_was_expected_and_what_is_there(at: Place, value: object, said: str) -> None:
    with pytest.raises(SerkitError) as found:
        check_head(with_other(at, value), "here.zip")
    assert str(found.value) == f"here.zip: bundle.json is damaged: {said}"


def test_a_key_that_is_missing_is_named_with_its_place() -> None:
    head = copy.deepcopy(HEAD)
    feature = next(iter(head["features"]))
    del head["features"][feature]["fingerprint"]
    with pytest.raises(SerkitError, match=r"features\..*\.fingerprint is missing"):
        check_head(head, "here.zip")


@pytest.mark.parametrize(("key", "value"), [("revision", 2), ("hop", 160.0), ("licence", None)])
def test_what_an_encoder_of_one_s_own_says_of_itself_is_no_damage(key: str, value: object) -> None:
    spec = ("features", next(iter(HEAD["features"])), "spec")
    check_head(with_other((*spec, key), value), "here.zip")
    with pytest.raises(SerkitError, match=r"features\..*\.spec"):
        check_head(with_other(spec, value), "here.zip")


@pytest.mark.parametrize("name", bundles.names())
def test_the_bundles_that_come_with_serkit_fit(name: str) -> None:
    assert bundles.open_bundle(name).calibration.labels == bundles.open_bundle(name).labels


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("written")
    with zipfile.ZipFile(GOLDEN) as archive:
        archive.extractall(folder / "tiny")
    (folder / "a.wav").write_bytes(wav(voice(0.8)))
    return folder


def check(folder: Path, at: Place, other: object) -> None:
    text = json.dumps(with_other(at, other), ensure_ascii=True)
    (folder / "tiny" / "bundle.json").write_text(text, encoding="utf-8")
    code, out, said = ask("predict", folder / "a.wav", "--model", folder / "tiny", "--format", "json")
    of_network = code == 1 and "networks/" in said  # networks are read at the first answer
    assert (code, bool(out)) in ((0, True), (2, False)) or of_network, said
    assert code == 0 or (said and "\n" not in said.strip())


@settings(max_examples=8, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(at=st.sampled_from(places(HEAD)[1:]), other=OTHER)
def test_a_value_of_another_kind_is_one_line_or_no_matter(written: Path, at: Place, other: object) -> None:
    check(written, at, other)


@pytest.mark.slow
@settings(max_examples=600, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(at=st.sampled_from(places(HEAD)[1:]), other=OTHER)
def test_any_of_many_values_is_one_line_or_no_matter(written: Path, at: Place, other: object) -> None:
    check(written, at, other)


def test_arrays_that_do_not_fit_the_labels_are_one_line(written: Path) -> None:
    """They are listed with their hash by whoever wrote the bundle."""
    from serkit.files import content_hash
    from serkit.serving.bundle import HELD_OUT, Bundle
    from serkit.serving.bundle_parts import arrays_file

    for arrays in (
        {"truth": np.zeros(3, np.int16)},
        {"probabilities": np.zeros((3, 2), np.float32), "truth": np.zeros(3, np.int16)},
        {"probabilities": np.full((3, len(HEAD["labels"])), 0.2, np.float32), "truth": np.full(3, 99, np.int16)},
        {"probabilities": np.full((3, len(HEAD["labels"])), np.nan, np.float32), "truth": np.zeros(3, np.int16)},
    ):
        content = arrays_file(arrays)
        head = with_other(("files", HELD_OUT), {"bytes": len(content), "blake2b": content_hash(content)})
        with pytest.raises(SerkitError, match=f"here: '{HELD_OUT}' does not fit"):
            _ = Bundle(head, lambda _, content=content: content, "here").held_out


def test_labels_of_others_make_no_links_tags_or_columns_in_a_card() -> None:
    from serkit.serving.card_parts import literal

    assert literal("[x](javascript:alert(1))") == "[x\\](javascript:alert(1))"
    assert literal("![x][y] <img src=x>\n| a") == "![x\\][y] \\<img src=x> \\| a"
    assert literal("low_arousal, [0.1, 0.2]") == "low_arousal, [0.1, 0.2]"
