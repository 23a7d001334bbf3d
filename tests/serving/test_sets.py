"""Sets of classes in answers: the same in every way that asks for them, and nothing of them where nobody does."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import serkit
from serkit import cli
from serkit.conformal import least_probability
from serkit.corpora.toy import toy
from serkit.errors import SerkitError
from serkit.probabilities import restricted
from serkit.serving import measured_lines, measuring
from serkit.serving.adaptation import Adaptation
from serkit.serving.bundle import Bundle, open_bundle
from serkit.serving.correction import Correction
from serkit.serving.predictor import Model
from serkit.serving.results import Prediction
from serkit.serving.thresholds import Thresholds
from serkit.types import Manifest, Utterance

from .asking import LABELS, ask, asked
from .signals import GOLDEN, RATE, talk, voice, wav, wide


def least(bundle: Bundle, coverage: float, labels: tuple[str, ...] | None = None) -> float:
    """The cut, from the held-out clips themselves."""
    p, truth = bundle.held_out
    columns = [bundle.labels.index(x) for x in labels or bundle.labels]
    kept = np.isin(truth, columns)
    return least_probability(coverage, restricted(p[kept], columns), np.array([columns.index(k) for k in truth[kept]]))


def of(found: Prediction, cut: float) -> tuple[str, ...]:
    ranked = sorted(found.probabilities, key=lambda name: -found.probabilities[name])
    return tuple(name for name in ranked if name == found.label or found.probabilities[name] >= cut)


def test_a_set_is_the_label_and_what_reaches_the_cut(model: Model) -> None:
    sizes = []
    for seed in range(6):
        sound = voice(1.5, seed, 90.0 + 40 * seed)
        for coverage in (0.5, 0.8, 0.9, 0.95):
            found = model.predict(sound, rate_hz=RATE, coverage=coverage)
            assert found.set == of(found, least(model.bundle, coverage))
            assert found.set[0] == found.label
            assert found.coverage == coverage
            sizes.append(len(found.set))
    assert len(set(sizes)) > 2


def test_nothing_is_said_of_sets_where_none_was_asked_for(model: Model) -> None:
    sound = voice(1.5)
    plain, with_set = model.predict(sound, rate_hz=RATE), model.predict(sound, rate_hz=RATE, coverage=0.9)
    assert (plain.set, plain.coverage) == (None, None)
    row = with_set.to_row()
    assert list(plain.to_row()) == [name for name in row if name not in ("coverage", "set")]
    assert plain.to_row() == {name: row[name] for name in plain.to_row()}
    assert (row["coverage"], row["set"]) == (0.9, list(with_set.set or ()))


def test_among_some_labels_the_cut_is_of_their_clips(model: Model) -> None:
    labels = ("sadness", "anger", "fear")
    found = model.predict(voice(1.5), rate_hz=RATE, coverage=0.9, labels=labels, threshold=0.3)
    assert found.set == of(found, least(model.bundle, 0.9, labels))
    assert set(found.set) <= set(labels)
    assert model.thresholds.in_set_from(labels, 0.9) != model.thresholds.in_set_from(model.labels, 0.9)
    same = model.predict(voice(1.5), rate_hz=RATE, labels=labels, threshold=0.3)
    assert (found.label, found.abstain, found.probabilities) == (same.label, same.abstain, same.probabilities)


def test_only_the_whole_recording_has_a_set(model: Model) -> None:
    found = model.predict(talk(2), rate_hz=RATE, coverage=0.9)
    assert found.segments
    assert all("set" not in part.to_row() for part in found.segments)
    assert not any("coverage" in note for note in found.notes)
    long = model.predict(talk(16), rate_hz=RATE, coverage=0.9, by="clip")
    assert long.set == of(long, least(model.bundle, 0.9))
    assert any("coverage of such a set was not measured" in note for note in long.notes)
    with pytest.raises(SerkitError, match="by 'channel' answers for several speakers"):
        model.predict(talk(1), rate_hz=RATE, coverage=0.9, by="channel")
    with pytest.raises(SerkitError, match="predict_many takes the rest"):
        model.predict([wav(voice(1))], coverage=0.9)  # type: ignore[call-overload]
    many = model.predict_many([wav(voice(1))], coverage=0.9)
    assert isinstance(many[0], Prediction)
    assert many[0].set is not None


def test_a_stream_ends_with_the_set_of_the_file(model: Model) -> None:
    sound = voice(1.5)
    stream = model.stream(by="clip", coverage=0.9)
    for chunk in np.array_split(sound, 7):
        stream.push(chunk)
    stream.finish()
    assert stream.prediction.set == model.predict(sound, rate_hz=RATE, by="clip", coverage=0.9).set


def test_every_format_has_it(folder: Path) -> None:
    (folder / "b.wav").unlink()
    answers = json.loads(ask(asked(folder, kind="json", coverage=0.9))[1])
    assert [len(one["set"]) for one in answers] != [0, 0]
    lines = ask(asked(folder, kind="jsonl", coverage=0.9))[1].splitlines()
    assert [json.loads(line) for line in lines] == answers
    head, *rows = ask(asked(folder, kind="csv", coverage=0.9))[1].splitlines()
    assert head == "path,label,confidence,abstain,set," + ",".join(LABELS)
    assert [row.split(",")[4] for row in rows] == ["|".join(one["set"]) for one in answers]
    assert [row.split(",")[:4] + row.split(",")[5:] for row in rows] == [
        row.split(",") for row in ask(asked(folder, kind="csv"))[1].splitlines()[1:]
    ]
    table = ask(asked(folder, coverage=0.9))[1].splitlines()
    assert [line.partition("; 90% set: ")[2] for line in table] == [", ".join(one["set"]) for one in answers]
    timeline = ask(asked(folder / "a.wav", timeline=True, coverage=0.9))[1]
    assert timeline.startswith(table[0] + "\n")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"kind": "csv", "timeline": True}, "--format csv with a timeline writes only its parts: take json or table"),
        ({"kind": "rttm"}, "--format rttm writes only its parts"),
        ({"kind": "srt"}, "--format srt writes only its parts"),
        ({"timeline": True, "by": "channel"}, "by 'channel' answers for several speakers"),
        ({"coverage": 90.0}, "coverage 90: expected a share between 0 and 1, such as 0.9"),
        ({"coverage": 0.999}, r"no sets of 'tiny' for anger, .*: coverage 0.999 takes 999 held-out clips or more"),
    ],
)
def test_what_has_no_place_for_it_is_refused_before_work(folder: Path, options: dict[str, object], said: str) -> None:
    with pytest.raises(SerkitError, match=said):
        ask(asked(folder / "a.wav", **{"coverage": 0.9, **options}))


def test_the_command_shows_it_or_ends_with_2_and_one_line(folder: Path) -> None:
    command = ["predict", str(folder / "a.wav"), "--model", str(GOLDEN), "--coverage"]
    done = CliRunner().invoke(cli.app, [*command, "0.9"])
    assert done.exit_code == 0
    assert "; 90% set: " in done.stdout
    refused = subprocess.run([sys.executable, "-m", "serkit", *command, "90"], capture_output=True, text=True)
    assert refused.returncode == 2
    assert refused.stderr == "serkit: coverage 90: expected a share between 0 and 1, such as 0.9\n"
    assert refused.stdout == ""


def test_answers_with_and_without_sets_do_not_go_into_one_file(folder: Path, tmp_path: Path) -> None:
    for kind, said in (("jsonl", "coverage: none there, 0.9 now"), ("csv", "different columns")):
        out = tmp_path / f"out.{kind}"
        ask(asked(folder, kind=kind, out=out))
        with pytest.raises(SerkitError, match=said):
            ask(asked(folder, kind=kind, out=out, coverage=0.9))
    assert "coverage" not in (tmp_path / ".out.jsonl.asked").read_text(encoding="utf-8")
    ask(asked(folder, kind="csv", out=tmp_path / "sets.csv", coverage=0.9))
    again = ask(asked(folder, kind="csv", out=tmp_path / "sets.csv", coverage=0.9))[2]
    assert "2 of 3 recordings are already answered" in again[0]
    with pytest.raises(SerkitError, match=r"coverage: 0.9 there, 0.8 now"):
        ask(asked(folder, kind="csv", out=tmp_path / "sets.csv", coverage=0.8))


def test_a_bundle_that_keeps_too_few_clips_has_no_sets() -> None:
    bundle = open_bundle(GOLDEN)
    p, truth = bundle.held_out
    bundle.held_out = p[truth < 2], truth[truth < 2]
    found = Thresholds(bundle)
    assert 0 <= found.in_set_from(bundle.labels, 0.9) <= 1
    with pytest.raises(SerkitError, match=r"no sets of 'tiny' for .*: coverage 0.9: 0 held-out clips, and 20 or more"):
        found.in_set_from(bundle.labels[2:4], 0.9)


@pytest.mark.parametrize(("n", "given"), [(19, ()), (20, (0.8, 0.9, 0.95)), (0, ())])
def test_a_bundle_says_which_coverages_it_has_sets_for(n: int, given: tuple[float, ...]) -> None:
    bundle = open_bundle(GOLDEN)
    p, truth = bundle.held_out
    bundle.held_out = p[:n], truth[:n]
    assert Thresholds(bundle).coverages() == given


def test_a_bundle_adapted_without_labels_has_no_sets_and_one_adapted_with_labels_has_its_own() -> None:
    bundle = open_bundle(GOLDEN)
    bundle.adaptation = Adaptation({}, {})
    with pytest.raises(SerkitError, match="is adapted to recordings without labels, and what it answers"):
        Thresholds(bundle).in_set_from(bundle.labels, 0.9)
    assert Thresholds(bundle).coverages() == ()
    bundle.correction = Correction(np.zeros((1, 2), np.float32), np.zeros(2), np.arange(2))
    assert Thresholds(bundle).in_set_from(bundle.labels, 0.9) == least(bundle, 0.9)


def test_measure_counts_how_often_sets_hold_the_true_class(toy_root: Path) -> None:
    rows = toy(toy_root).where(lambda u: u.split == "test")
    found = measuring.measure(GOLDEN, rows, draws=20, coverage=0.9)
    model = serkit.load(GOLDEN)
    sets = [
        model.predict(rows.audio_path(u), labels=found.labels, by="clip", coverage=0.9).set or ()
        for u in found.manifest
    ]
    right = [u.emotion in one for u, one in zip(found.manifest, sets, strict=True)]
    assert found.sets is not None
    assert found.sets.held.value == pytest.approx(np.mean(right))
    assert found.sets.size.value == pytest.approx(np.mean([len(one) for one in sets]))
    plain = measuring.measure(GOLDEN, rows, draws=20)
    assert plain.sets is None
    assert {**plain.to_row(), "sets": found.sets.to_row()} == found.to_row()
    text = "\n".join(measured_lines.lines(found))
    assert f"  sets at 0.9: the share that holds the true class is {np.mean(right):.3f} [" in text
    assert "sets at" not in "\n".join(measured_lines.lines(plain))
    with pytest.raises(SerkitError, match="coverage 9: expected a share"):
        measuring.measure(GOLDEN, rows, draws=20, coverage=9.0)


def test_measure_makes_the_set_of_a_call_by_the_model_that_answers_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, labels = [], open_bundle("default").labels
    for k in range(8):
        sound, rate = wide(1.5, k, 90.0 + 30 * k), RATE if k % 2 else RATE // 2
        (tmp_path / f"{k}.wav").write_bytes(wav(sound[:: RATE // rate], rate=rate))
        rows.append(Utterance(f"c{k}", f"{k}.wav", speaker=f"s{k}", emotion=labels[k // 2]))
    monkeypatch.setattr(Thresholds, "in_set_from", lambda one, *_: float(one._bundle.name != "telephone"))
    found = measuring.measure("default", Manifest("mine", labels, rows, root=tmp_path), draws=20, coverage=0.9)
    assert list(found.answered_by.values()) == [4, 4]
    assert found.sets is not None
    assert found.sets.size.value == (4 * len(found.labels) + 4) / 8
    assert found.sets.held.value >= 0.5
    assert serkit.load("default").predict(tmp_path / "0.wav", coverage=0.9).set != (rows[0].emotion,)
