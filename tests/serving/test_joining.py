"""Several bundles joined to one: the answers are the mean of the calibrated log probabilities, by every way."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

import serkit
from command_line import ask
from serkit import calibration, metrics
from serkit.errors import SerkitError
from serkit.files import content_hash
from serkit.pipeline import Run
from serkit.probabilities import softmax
from serkit.serving import exporting
from serkit.serving.building import build
from serkit.serving.bundle import open_bundle
from serkit.serving.joining import join


@pytest.fixture(scope="module")
def parts(_finished: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Bundles of one run: its two systems, and both by their mean logit and by weights."""
    root, run = tmp_path_factory.mktemp("parts"), Run(_finished)
    systems = [*run.recipe.systems, "mean_logit", "log_pool"]
    return {system: build(run, root / f"{system}.zip", system=system, name=system).path for system in systems}


def recordings(finished: Path) -> list[Path]:
    run = Run(finished)
    return [run.manifest.audio_path(u) for u in run.manifest if u.split == "test"]


def pooled(paths: list[Path], shares: list[float], clips: list[Path]) -> np.ndarray:
    """(clips, classes): what the joined answers are, before they are scaled, from what the parts answer."""
    logs = sum(
        share * np.log(np.maximum(serkit.load(path).predict_proba(clips), 1e-12))
        for path, share in zip(paths, shares, strict=True)
    )
    raised = np.exp(logs - logs.max(axis=1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))


@pytest.mark.parametrize(("shares", "expected"), [(None, [0.5, 0.5]), ([3, 1], [0.75, 0.25])])
def test_answers_are_the_pool_of_those_of_the_parts(
    finished: Path, parts: dict[str, Path], tmp_path: Path, shares: list[float] | None, expected: list[float]
) -> None:
    two, clips = list(parts.values())[:2], recordings(finished)
    joined = join(two, tmp_path / "both.zip", shares=shares)
    found = serkit.load(tmp_path / "both.zip").predict_proba(clips)
    wanted = joined.calibration.apply(pooled(two, expected, clips))
    assert np.abs(found - wanted).max() < 1e-5
    assert np.ptp(wanted, axis=0).max() > 0.001
    alone = [serkit.load(path).predict_proba(clips) for path in two]
    assert all(np.abs(found - one).max() > 1e-3 for one in alone), "no part answers alone"


def test_bundles_of_the_same_systems_keep_them_apart(finished: Path, parts: dict[str, Path], tmp_path: Path) -> None:
    three, clips = [parts["mean_logit"], parts["log_pool"], next(iter(parts.values()))], recordings(finished)
    joined = join(three, tmp_path / "three", name="three")
    found = serkit.load(tmp_path / "three").predict_proba(clips)
    assert np.abs(found - joined.calibration.apply(pooled(three, [1 / 3] * 3, clips))).max() < 1e-5
    systems = list(Run(finished).recipe.systems)
    assert [n.system for n in joined.networks if n.model == joined.networks[0].model] == [
        *(f"{system}-1" for system in systems),
        *(f"{system}-2" for system in systems),
        f"{systems[0]}-3",
    ]


def test_a_name_that_is_taken_and_what_else_is_in_the_parts(
    finished: Path, parts: dict[str, Path], tmp_path: Path
) -> None:
    """A system that is called as another one is renamed, a tokenizer beside the networks, clips of other lengths."""

    def renamed(head: dict[str, Any]) -> None:
        head["max_clip_s"] = 7.0
        head["stack"]["systems"] = ["sound-1"]
        for row in head["networks"]:
            row["system"] = "sound-1"
        add_file(tmp_path / "other", head, "tokenizers/0.json", b"{}")

    three = [parts["sound"], parts["log_pool"], changed(parts["sound"], tmp_path / "other", renamed)]
    joined, clips = join(three, tmp_path / "three"), recordings(finished)
    assert list(dict.fromkeys(n.system for n in joined.networks)) == ["sound-1", "sound-2", "both", "sound-1_"]
    assert joined.max_clip_s == 7.0
    assert joined.contents()["tokenizers/0.json"] == b"{}"
    found = serkit.load(tmp_path / "three").predict_proba(clips)
    assert np.abs(found - joined.calibration.apply(pooled(three, [1 / 3] * 3, clips))).max() < 1e-5


def test_what_was_held_out_from_all_is_what_precision_is_measured_on(parts: dict[str, Path], tmp_path: Path) -> None:
    two = list(parts.values())[:2]
    joined = join(two, tmp_path / "both")
    bundles = [open_bundle(path) for path in two]
    assert np.array_equal(joined.held_out[1], bundles[0].held_out[1])
    logs = np.mean([np.log(np.maximum(b.held_out[0], 1e-12)) for b in bundles], axis=0)
    right = float((logs.argmax(axis=1) == joined.held_out[1]).mean())
    assert joined.head["measured"]["accuracy"] == pytest.approx(right)
    assert joined.head["levels"][0]["precision"] == pytest.approx(right)
    assert joined.head["calibration"]["record"]["ece_after"] == pytest.approx(metrics.ece(*joined.held_out), abs=1e-5)
    assert joined.head["unsure_below"] == pytest.approx(calibration.unsure_below(*joined.held_out), abs=1e-5)
    assert np.abs(joined.held_out[0] - softmax(logs)).max() > 1e-3, "they are calibrated"
    assert [part["name"] for part in joined.head["joined"]] == [b.name for b in bundles]
    card = joined.text("card.md")
    for bundle in bundles:
        assert f"## The card of `{bundle.name}`" in card
        assert f"\n### {bundle.name}\n" in card
    assert "#### Intended use" in card
    assert f"| together | {joined.head['measured']['uar']:.3f} | {right:.3f} |" in card
    assert joined.text("reliability.svg").startswith("<svg")
    for k, bundle in enumerate(bundles, 1):
        assert joined.text(f"reliability.{k}.svg") == bundle.text("reliability.svg"), "each card shows its own diagram"
    assert re.findall(r"\]\((reliability\S*)\)", card) == [f"reliability{k}.svg" for k in ("", ".1", ".2")]
    assert set(joined.inputs) == {key for b in bundles for key in b.inputs}


def test_what_was_joined_joins_again_with_all_that_is_in_it(
    finished: Path, parts: dict[str, Path], tmp_path: Path
) -> None:
    one, two, three = list(parts.values())[:3]

    def licensed(head: dict[str, Any]) -> None:
        add_file(tmp_path / head["name"], head, "LICENCE.md", f"# Licence of {head['name']}\n".encode())

    copies = [changed(path, tmp_path / open_bundle(path).name, licensed) for path in (one, two, three)]
    inner = join(copies[:2], tmp_path / "inner.zip", shares=[2, 1])
    outer = join([tmp_path / "inner.zip", copies[2]], tmp_path / "outer.zip")
    names = [open_bundle(copy).name for copy in copies]
    found = [outer.text(name) for name in ("LICENCE.md", "LICENCE.2.md", "LICENCE.3.md")]
    assert found == [f"# Licence of {name}\n" for name in names]
    assert {name for name in outer.contents() if name.startswith("recipe")} == {
        "recipe.yaml", "recipe.2.yaml", "recipe.3.yaml"
    }  # fmt: skip
    card, links = outer.text("card.md"), ["", ".1", ".2", ".3", ".4"]
    assert re.findall(r"\]\((reliability\S*)\)", card) == [f"reliability{k}.svg" for k in links]
    assert outer.text("reliability.1.svg") == inner.text("reliability.svg")
    assert outer.text("reliability.4.svg") == open_bundle(three).text("reliability.svg")
    assert f"\n##### {names[0]}\n" in card
    assert "\n###### Intended use\n" in card
    clips = recordings(finished)
    found = serkit.load(tmp_path / "outer.zip").predict_proba(clips)
    wanted = outer.calibration.apply(pooled([tmp_path / "inner.zip", three], [0.5, 0.5], clips))
    assert np.abs(found - wanted).max() < 1e-5


def test_whether_it_hears_calls_is_said_where_all_say_it(parts: dict[str, Path], tmp_path: Path) -> None:
    one, two = list(parts.values())[:2]
    for k, (said, wanted) in enumerate([((True, True), True), ((True, False), False), ((None, True), None)]):
        copies = []
        for n, (path, hears) in enumerate(zip((one, two), said, strict=True)):

            def telling(head: dict[str, Any], hears: bool | None = hears) -> None:
                head.pop("hears_calls")
                head |= {} if hears is None else {"hears_calls": hears}

            copies.append(changed(path, tmp_path / f"{k}{n}", telling))
        assert join(copies, tmp_path / f"{k}.zip").head.get("hears_calls") is wanted


def test_one_file_streams_adapts_and_exports_as_any_other(
    finished: Path, parts: dict[str, Path], tmp_path: Path
) -> None:
    sound = "sound"
    joined = join([parts[sound], parts["mean_logit"]], tmp_path / "both.zip")
    model, clip = serkit.load(tmp_path / "both.zip"), recordings(finished)[0]
    whole = model.predict(clip, by="clip").probabilities
    stream = model.stream(by="clip", partial_s=None)
    for block in model.blocks(clip, None):
        stream.push(block)
    stream.finish()
    assert stream.prediction.probabilities == pytest.approx(whole, abs=1e-6)
    assert model.id == f"{sound}+mean_logit@{joined.fingerprint[:12]}"
    shutil.rmtree(tmp_path / "again", ignore_errors=True)
    assert join([parts[sound], parts["mean_logit"]], tmp_path / "again").fingerprint == joined.fingerprint


def test_the_bundled_models_join_and_one_graph_answers_as_they_do(tmp_path: Path) -> None:
    """`default` and `telephone` were trained on the same clips; joining needs none of their packages."""
    joined = join(["default", "telephone"], tmp_path / "both.zip")
    assert joined.head["measured"]["clips"] == 3176
    assert {n.system for n in joined.networks} >= {"statistics-1", "statistics-2", "spectrum"}
    assert not joined.head["hears_calls"]
    made = exporting.export(serkit.load(tmp_path / "both.zip"), tmp_path / "both.onnx")
    assert made.differences.max() < 0.01


def test_joining_loads_no_torch(parts: dict[str, Path], tmp_path: Path) -> None:
    one, two = list(parts.values())[:2]
    code = (
        "import sys; from serkit.serving.joining import join; "
        f"join([{str(one)!r}, {str(two)!r}], __import__('pathlib').Path({str(tmp_path / 'both.zip')!r})); "
        "print([m for m in ('torch', 'transformers') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def changed(path: Path, to: Path, change: Any) -> Path:
    """A copy of a bundle as a folder, its head changed."""
    with zipfile.ZipFile(path) as archive:
        archive.extractall(to)
    head = json.loads((to / "bundle.json").read_text(encoding="utf-8"))
    change(head)
    (to / "bundle.json").write_text(json.dumps(head), encoding="utf-8")
    return to


def add_file(folder: Path, head: dict[str, Any], name: str, content: bytes) -> None:
    """Write a file into a bundle that is a folder, and its hash into the head."""
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(content)
    head["files"][name] = {"bytes": len(content), "blake2b": content_hash(content)}


def test_what_does_not_go_together_is_refused_in_one_line(
    finished: Path, parts: dict[str, Path], tmp_path: Path
) -> None:
    run, (one, two) = Run(finished), list(parts.values())[:2]

    def said(*given: Path | str, **options: Any) -> str:
        with pytest.raises(SerkitError) as error:
            join(given, tmp_path / "out.zip", **options)
        assert not (tmp_path / "out.zip").exists()
        assert "\n" not in str(error.value)
        return str(error.value)

    assert "1 bundle to join, expected two or more" in said(one)
    assert "is there twice; a share of 2 gives it more weight" in said(one, two, one)
    for shares in ([1.0], [1.0, 0.0], [1.0, float("nan")]):
        assert "expected 2 numbers above 0, one for each bundle" in said(one, two, shares=shares)
    logistic = build(run, tmp_path / "logistic", system="logistic").path
    assert "it answers by a logistic; bundle its run with --system mean_logit" in said(one, logistic)
    vector = build(run, tmp_path / "vector", system="mean_logit", method="vector").path
    assert "it is calibrated by vector scaling; bundle its run with --calibration temperature" in said(one, vector)
    assert f"they answer with {', '.join(open_bundle(one).labels)}, and with" in said(one, "default")

    def other_manifest(head: dict[str, Any]) -> None:
        head["trained_on"]["manifest"] = "0" * 16

    elsewhere = changed(two, tmp_path / "elsewhere", other_manifest)
    assert "not trained on the same clips and splits (toy, manifest" in said(one, elsewhere)

    def other_truth(head: dict[str, Any]) -> None:
        held, truth = open_bundle(two).held_out
        content = save({"probabilities": held.astype(np.float32), "truth": np.roll(truth, 1).astype(np.int16)})
        add_file(tmp_path / "truth", head, "calibration.safetensors", content)

    assert "not trained on the same clips and splits" in said(one, changed(two, tmp_path / "truth", other_truth))

    def other_folds(head: dict[str, Any]) -> None:
        head["networks"] = [n for n in head["networks"] if n["model"] != "fold0"]

    assert "expected the same folds" in said(one, changed(two, tmp_path / "folds", other_folds))

    def other_revision(head: dict[str, Any]) -> None:
        for row in head["features"].values():
            row["spec"]["revision"] = "0"

    def other_text(head: dict[str, Any]) -> None:
        head["features"]["hashed_text/32"]["spec"]["revision"] = "0"

    revised = changed(parts["mean_logit"], tmp_path / "revised", other_revision)
    assert "different revisions of" in said(one, revised)
    assert "'both' and 'mean_logit' cannot be joined: they were trained on different revisions of" in said(
        parts["sound"], parts["both"], changed(parts["mean_logit"], tmp_path / "other", other_text)
    ), "not only the first is compared with the others"

    def rated(head: dict[str, Any]) -> None:
        head["attributes"] = ["arousal"]

    assert "it answers arousal too" in said(one, changed(two, tmp_path / "rated", rated))

    def imported(head: dict[str, Any]) -> None:
        head["imported"] = {}

    assert "it was imported, and keeps no held-out clips" in said(one, changed(two, tmp_path / "imported", imported))


@pytest.mark.parametrize("path", [("calibrated_on", "splits"), ("trained_on", "recipe"), ("weights",), ("licence",)])
def test_a_head_that_lacks_something_is_one_line(parts: dict[str, Path], tmp_path: Path, path: tuple[str, ...]) -> None:
    one, two = list(parts.values())[:2]

    def without(head: dict[str, Any]) -> None:
        for key in path[:-1]:
            head = head[key]
        del head[path[-1]]

    spoiled = changed(two, tmp_path / "spoiled", without)
    with pytest.raises(SerkitError, match=rf"bundle\.json is damaged: {'.'.join(path)} is missing"):
        join([one, spoiled], tmp_path / "out.zip")


def test_the_command(parts: dict[str, Path], tmp_path: Path) -> None:
    one, two = list(parts.values())[:2]
    out = tmp_path / "both.zip"
    code, said, error = ask("join", one, two, "-o", out, "--shares", "2,1", "--name", "ours")
    assert code == 0, error
    assert [line.split(": share ")[1][:4] for line in said.splitlines()[:2]] == ["0.67", "0.33"]
    assert f"{out}: 'ours', " in said
    assert serkit.load(out).id.startswith("ours@")
    code, _, error = ask("join", one, two, "-o", out)
    assert (code, "exists already" in error) == (2, True)
    code, _, error = ask("join", one, two, "-o", tmp_path / "b.zip", "--shares", "2;1")
    assert (code, "expected numbers, such as 2,1" in error) == (2, True)
