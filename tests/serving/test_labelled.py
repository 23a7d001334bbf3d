"""A model adapted to labelled clips: what it learns, what stays, and what is refused."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import serkit
from command_line import ask
from serkit import cli, conformal
from serkit.corpora.toy import toy
from serkit.errors import SerkitError, Stopped
from serkit.progress import Meter, Progress
from serkit.serving import adapting, labelled, measuring
from serkit.serving.bundle import Bundle, open_bundle, write_bundle
from serkit.serving.card_parts import sets_table
from serkit.serving.correction import Correction
from serkit.serving.labelled import Taught
from serkit.serving.thresholds import Thresholds
from serkit.types import Manifest

from .asking import alike
from .signals import GOLDEN, RATE, talk, wav

SWAPPED = {"anger": "sadness", "sadness": "anger", "fear": "neutral", "neutral": "fear"}
CLIPS = 40


@pytest.fixture(scope="module")
def rows(toy_root: Path) -> Manifest:
    """Clips whose labels are other words than those that the model learned: with labels it can be told."""
    found = toy(toy_root)
    renamed = tuple(
        replace(u, emotion=SWAPPED.get(u.emotion or "", u.emotion), split=None, corpus="mine") for u in found
    )
    return replace(found, utterances=renamed, corpus="mine", class_sets={})


@pytest.fixture(scope="module")
def taught(rows: Manifest) -> Taught:
    return labelled.adapt(GOLDEN, rows, at_most=CLIPS, draws=20)


@pytest.fixture(scope="module")
def bundle(taught: Taught, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return adapting.write((taught.head, dict(taught.files)), tmp_path_factory.mktemp("bundle") / "mine.zip")


def test_it_says_what_it_was_taught_by(bundle: Bundle, taught: Taught) -> None:
    golden, facts = open_bundle(GOLDEN), bundle.head["labelled"]
    assert (bundle.head["format"], golden.head["format"]) == (3, 1)
    assert (facts["clips"], facts["speakers"], sum(facts["classes"].values())) == (CLIPS, 8, CLIPS)
    assert facts["from"] == f"tiny@{golden.fingerprint[:12]}"
    assert facts["measured"] == "cross-validated by speaker, 5 folds"
    assert bundle.head["trained_on"]["corpus"].split("+")[0] == "toy"
    assert bundle.head["licence"] == golden.head["licence"]
    card = bundle.text("card.md")
    assert card.startswith(golden.text("card.md").replace("# tiny\n", "# tiny-adapted\n", 1).rstrip())
    assert f"To {CLIPS} labelled clips of 8 speakers" in card
    uar = [one.report.metrics["uar"].value for one in (taught.before, taught.after)]
    for title, value in zip(("before", "adapted, cross-validated"), uar, strict=True):
        assert f"| {title} | UAR | {value:.3f} |" in card
    assert uar[1] > uar[0] + 0.1
    same = {name for name in golden.contents() if bundle.contents()[name] == golden.contents()[name]}
    assert set(golden.contents()) - same == {"card.md", "calibration.safetensors"}
    assert bundle.held_out[0] == pytest.approx(taught.after.predictions.scores, abs=1e-6), "thresholds are of its own"


def test_it_says_that_the_model_was_trained_on_the_corpus_of_the_clips(toy_root: Path, taught: Taught) -> None:
    said = "trained on toy too: it may know these speakers"
    assert said not in "\n".join(labelled.lines(taught))
    assert said not in taught.files["card.md"].decode()
    found = toy(toy_root)
    renamed = tuple(replace(u, emotion=SWAPPED.get(u.emotion or "", u.emotion)) for u in found)
    known = labelled.adapt(GOLDEN, replace(found, utterances=renamed), at_most=20, draws=10)
    assert f"  {said}" in labelled.lines(known)
    assert f"\n\nNote: {said}." in known.files["card.md"].decode()


def test_sets_are_of_its_own_clips(bundle: Bundle) -> None:
    p, truth = bundle.held_out
    assert len(truth) == CLIPS
    found = Thresholds(bundle)
    assert found.in_set_from(bundle.labels, 0.9) == pytest.approx(conformal.least_probability(0.9, p, truth), abs=1e-6)
    sets = bundle.head["sets"]
    assert [row["coverage"] for row in sets] == [0.8, 0.9, 0.95]
    assert {row["measured"].partition(",")[0] for row in sets} == {"cross-validated by speaker"}
    assert sets_table(sets) in bundle.text("card.md")
    with pytest.raises(SerkitError, match=f"takes 999 held-out clips or more, and there are {CLIPS}"):
        found.in_set_from(bundle.labels, 0.999)


def test_before_is_what_measure_says_of_the_original(taught: Taught) -> None:
    measured = measuring.measure(GOLDEN, taught.before.manifest, draws=20)
    assert taught.before.predictions.scores == pytest.approx(measured.predictions.scores, abs=1e-6)
    assert taught.before.report.metrics["uar"].value == measured.report.metrics["uar"].value
    assert taught.before.left_out == {f"beyond the {CLIPS} sampled": 40}


def test_answers_are_the_original_ones_corrected(bundle: Bundle, rows: Manifest) -> None:
    model, golden = serkit.load(bundle.source), serkit.load(GOLDEN)
    path = rows.audio_path(rows.utterances[2])
    shares = np.array([list(golden.predict(path, by="clip").probabilities.values())])
    correction = bundle.correction
    assert isinstance(correction, Correction)
    wanted = correction.apply(shares, golden.embed(path)[None, :])[0]
    assert list(model.predict(path, by="clip").probabilities.values()) == pytest.approx(wanted, abs=1e-5)
    assert np.abs(wanted - shares[0]).max() > 0.02, "it answers otherwise"
    assert model.embed(path).tolist() == golden.embed(path).tolist(), "networks are what they were"


def test_single_batch_and_stream_agree_with_all_labels_and_some(bundle: Bundle, rows: Manifest) -> None:
    model = serkit.load(bundle.source)
    paths = [rows.audio_path(u) for u in rows.utterances[::17]]
    alone = alike(model, paths)
    some = model.predict(paths[0], by="clip", labels=["anger", "fear"]).probabilities
    anger, fear = (alone[0][bundle.labels.index(x)] for x in ("anger", "fear"))
    assert list(some.values()) == pytest.approx([anger / (anger + fear), fear / (anger + fear)], abs=1e-6)
    parts = model.predict(talk(3), rate_hz=RATE)
    assert all(sum(s.probabilities.values()) == pytest.approx(1.0) for s in parts.segments)
    assert model.explain(paths[0]).probability == pytest.approx(alone[0].max(), abs=1e-5)


def test_clips_beyond_the_most_are_left_out_of_each_voice_alike() -> None:
    chosen = np.array(labelled._drawn(1000, 500))  # of two voices in turn, evenly spaced clips would be one's alone
    assert len(set(chosen.tolist())) == 500
    assert np.array_equal(chosen, np.sort(chosen))
    assert all(100 < np.count_nonzero(half % 2) < 150 for half in (chosen[chosen < 500], chosen[chosen >= 500]))
    assert np.array_equal(chosen, labelled._drawn(1000, 500))


def test_neither_order_nor_processes_matter(taught: Taught, rows: Manifest) -> None:
    backwards = replace(rows, utterances=rows.utterances[::-1])
    again = labelled.adapt(GOLDEN, backwards, at_most=CLIPS, draws=10, jobs=2)
    assert again.files["labelled.safetensors"] == taught.files["labelled.safetensors"]
    assert again.head["labelled"] | {"manifest": ""} == taught.head["labelled"] | {"manifest": ""}  # type: ignore[operator]


def test_stopped_it_goes_on_and_comes_to_the_same_bytes(
    taught: Taught, rows: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Meter, "_tell", lambda meter: meter._callback and meter._callback(meter.now()))
    out, said = tmp_path / "mine.zip", list[str]()
    options = {"at_most": CLIPS, "draws": 20, "complain": said.append}
    with pytest.raises(Stopped, match="run the same command again to resume"):
        labelled.adapt_to(GOLDEN, rows, out, progress=stop_after(7), **options)
    assert [p.name for p in tmp_path.iterdir()] == [".mine.zip.labelled"]
    made, _ = labelled.adapt_to(GOLDEN, rows, out, **options)
    assert said == [f"7 of {CLIPS} recordings are already processed"]
    assert made.contents() == taught.files
    assert [p.name for p in tmp_path.iterdir()] == ["mine.zip"]


def test_ctrl_c_while_it_is_written_does_not_promise_to_resume(
    bundle: Bundle, taught: Taught, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def written(*given: Any) -> Path:
        signal.raise_signal(signal.SIGINT)
        return write_bundle(*given)

    (keep := tmp_path / ".mine.zip.labelled").write_text("")
    monkeypatch.setattr(adapting, "write_bundle", written)
    with pytest.raises(KeyboardInterrupt):  # and not Stopped, which says that the same command resumes
        adapting.write((taught.head, dict(taught.files)), tmp_path / "mine.zip", keep)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.zip"]


def stop_after(n: int) -> Callable[[Progress], None]:
    """Ctrl-C once so many recordings are heard."""

    def told(now: Progress) -> None:
        if now.done > n:
            raise KeyboardInterrupt

    return told


def test_long_clips_are_learned_part_by_part(tmp_path: Path) -> None:
    (tmp_path / "long.wav").write_bytes(wav(np.tile(talk(4), 4)))
    model = labelled._listener(str(GOLDEN))
    found = labelled._listen(model, (str(tmp_path / "long.wav"), None, None, None))
    assert isinstance(found, np.ndarray)
    assert len(found) > 4, "its stretches of speech"
    mean = np.average(found[:, 1 : 1 + len(model.labels)], axis=0, weights=found[:, 0])
    assert model.predict(tmp_path / "long.wav", by="clip").numbers == pytest.approx(mean, abs=1e-6)
    part = labelled._listen(model, (str(tmp_path / "long.wav"), 1.0, 3.0, None))
    assert isinstance(part, np.ndarray)
    assert len(part) == 1


def test_what_was_taught_is_not_taught_again_or_measured_in_silence(bundle: Bundle, rows: Manifest) -> None:
    with pytest.raises(SerkitError, match=r"adapted to labelled clips already; adapt the model .* 'tiny@"):
        labelled.adapt(bundle, rows)
    with pytest.raises(SerkitError, match="adapted to labelled clips already"):
        adapting.adapt(bundle, [])
    few = rows.where(lambda u: u.id in set(rows.ids[:10]))
    assert measuring.measure(bundle.source, few, draws=20).trained_on == ("mine",)
    assert measuring.measure(GOLDEN, few, draws=20).trained_on == ()


def test_only_the_split_that_taught_is_said_to_be_known(rows: Manifest, tmp_path: Path) -> None:
    first = set(sorted({str(u.speaker) for u in rows})[::2])
    dealt = tuple(replace(u, split="train" if u.speaker in first else "test") for u in rows)
    manifest = replace(rows, utterances=dealt)
    taught, _ = labelled.adapt_to(GOLDEN, manifest, tmp_path / "mine.zip", split="train", at_most=CLIPS, draws=20)
    asked = {s: measuring.measure(taught.source, manifest, split=s, draws=20) for s in ("train", "test", "all")}
    said = {s: "these clips" in one.trained_on for s, one in asked.items()}
    assert said == {"train": True, "test": False, "all": True}


def test_clips_that_do_not_help_are_refused_and_nothing_is_kept(rows: Manifest, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    drawn = rng.permutation([str(u.emotion) for u in rows])
    by_chance = tuple(replace(u, emotion=str(x)) for u, x in zip(rows.utterances, drawn, strict=True))
    with pytest.raises(SerkitError, match=r"do not make the model better on clips held out by speaker: log loss"):
        labelled.adapt_to(GOLDEN, replace(rows, utterances=by_chance), tmp_path / "mine.zip", at_most=CLIPS)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(SerkitError, match=r"5 labelled clips of \d classes \(0 unreadable\): .* takes 20 clips"):
        labelled.adapt(GOLDEN, rows, at_most=5)
    with pytest.raises(SerkitError, match="no recording of split 'dev'; splits there: none"):
        labelled.adapt(GOLDEN, rows, split="dev")
    with pytest.raises(SerkitError, match="share 1 label"):
        labelled.adapt(GOLDEN, rows, labels=["anger"])


def test_by_command_line(rows: Manifest, tmp_path: Path) -> None:
    table = ["path,emotion,speaker"]
    table += [f"{rows.audio_path(u)},{u.emotion},{u.speaker}" for u in rows.utterances[:CLIPS]]
    (tmp_path / "broken.wav").write_bytes(b"no sound")
    extra = [f"{tmp_path / 'broken.wav'},anger,s", f"{rows.audio_path(rows.utterances[-1])},boredom,s"]
    (tmp_path / "t.csv").write_text("\n".join([*table, *extra]) + "\n")
    out = tmp_path / "mine.zip"
    words = ["adapt", "--corpus", "table", "--root", str(tmp_path / "t.csv"), "-o", str(out), "--draws", "20"]
    done = CliRunner().invoke(cli.app, [*words, "--model", str(GOLDEN), "--name", "mine"])
    assert done.exit_code == 0, done.output
    assert "broken: " in done.stderr
    assert "left out: 1 of 'boredom'" in done.stdout
    assert "tiny before, mine cross-validated by speaker" in done.stdout
    assert f"'mine', adapted to {CLIPS} labelled clips of " in done.stdout
    assert ", permuted 0." in done.stdout  # of few speakers p of the bootstrap alone is too small
    assert "--calls" not in done.stdout  # nothing but that model answered calls before
    measured = CliRunner().invoke(cli.app, ["measure", str(out), *words[1:5], "--draws", "20", "--json"])
    assert json.loads(measured.stdout)["models"][0]["trained_on"] == ["these clips"]
    code, _, said = ask("adapt", "a.wav", "--labels", "anger,sadness", "-o", tmp_path / "x.zip")
    assert code == 2
    assert said.startswith("--labels is for labelled recordings")
    for wrong in (["adapt", "-o", tmp_path / "x.zip"], ["adapt", "a.wav", *words[1:5], "-o", "x.zip"]):
        code, _, said = ask(*wrong)
        assert code == 2
        assert "give recordings without labels, or labelled ones by --corpus" in said
    code, _, said = ask("adapt", "Labels.csv", "-o", "x.zip")
    assert code == 2
    assert said.startswith("Labels.csv is a table, not a recording: --corpus table --root Labels.csv")


def test_in_python_and_light_to_load(rows: Manifest, tmp_path: Path) -> None:
    model = serkit.adapt(rows, tmp_path / "mine.zip", GOLDEN, at_most=CLIPS, draws=20)
    assert model.bundle.correction is not None
    code = (
        f"import sys, serkit; m = serkit.load({str(tmp_path / 'mine.zip')!r}); "
        f"m.predict({str(rows.audio_path(rows.utterances[0]))!r}); "
        "print([m for m in ('torch', 'sklearn', 'transformers', 'scipy', 'skops') if m in sys.modules])"
    )
    light = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert light.stdout.strip() == "[]"
