"""A bundle under conditions: the same answers in any order, in pairs with the unchanged recordings."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from serkit import audio, cli, comparison
from serkit.corpora.toy import toy
from serkit.errors import SerkitError
from serkit.metrics import confusion_matrix
from serkit.metrics import measure as metric
from serkit.predictions import Predictions
from serkit.serving import asking, robustness
from serkit.serving.conditions import parse
from serkit.serving.measuring import Measured, measure, measure_under
from serkit.serving.predictor import Model
from serkit.types import Manifest

from .signals import GOLDEN, wav, wide

UNDER = parse(["noise:0", "gain:-20"])


@pytest.fixture(scope="module")
def rows(toy_root: Path) -> Manifest:
    chosen = [u for u in toy(toy_root) if u.split == "test"][::3]
    return dataclasses.replace(toy(toy_root), utterances=tuple(chosen))


@pytest.fixture(scope="module")
def found(rows: Manifest) -> tuple[Measured, ...]:
    return measure_under(GOLDEN, rows, UNDER, draws=50)


def by_id(measured: Measured) -> dict[str, list[float]]:
    table = measured.predictions
    return dict(zip(table.ids, table.scores.tolist(), strict=True))


def uar(measured: Measured, answers: dict[str, list[float]]) -> float:
    truth = np.array([measured.labels.index(str(u.emotion)) for u in measured.manifest])
    given = np.array([int(np.argmax(answers[u.id])) for u in measured.manifest])
    return float(metric("uar", confusion_matrix(truth, given, len(measured.labels))))


def test_answers_are_those_of_predict_to_the_degraded_clips(
    model: Model, rows: Manifest, found: tuple[Measured, ...]
) -> None:
    assert [m.condition for m in found] == [None, *UNDER]
    assert found[0].to_row() == measure(GOLDEN, rows, draws=50).to_row()
    for measured, condition in zip(found[1:], UNDER, strict=True):
        for u in list(rows)[:3]:
            heard = condition.heard(audio.load(rows.audio_path(u)))
            alone = model.predict(heard, rate_hz=16_000, labels=measured.labels, by="clip")
            assert by_id(measured)[u.id] == pytest.approx(list(alone.probabilities.values()), abs=1e-12)
        sure = [max(p) for p in by_id(measured).values()]
        assert measured.confidence == pytest.approx(np.mean(sure))
        assert measured.answered_by == {model.id: len(rows)}
        assert measured.report.system == f"{model.id} under '{condition.name}'"
    assert by_id(found[1]) != by_id(found[0])


def test_order_processes_and_other_conditions_change_nothing(rows: Manifest, found: tuple[Measured, ...]) -> None:
    backwards = dataclasses.replace(rows, utterances=tuple(reversed(rows.utterances)))
    again = measure_under(GOLDEN, backwards, UNDER[::-1], draws=10)
    assert by_id(again[2]) == by_id(found[1])
    assert by_id(again[1]) == by_id(found[2])
    both = measure_under(GOLDEN, rows, UNDER, draws=50, jobs=2)
    assert [m.to_row() for m in both] == [m.to_row() for m in found]
    assert by_id(measure_under(GOLDEN, rows, UNDER[:1], draws=10, seed=1)[1]) != by_id(found[1])


def test_changes_are_in_pairs_and_adjusted_over_the_conditions(found: tuple[Measured, ...]) -> None:
    changed = [{d.metric: d for d in one} for one in robustness.changes(found, draws=200)]
    before = uar(found[0], by_id(found[0]))
    for measured, one in zip(found[1:], changed, strict=True):
        after = uar(measured, by_id(measured))
        assert one["uar"].value_a == pytest.approx(after)
        assert one["uar"].value_b == pytest.approx(before)
        assert one["uar"].difference == pytest.approx(after - before)
        pairs = comparison.compare(
            measured.predictions, found[0].predictions, found[0].manifest, split="test", draws=200
        )
        alone = dataclasses.replace(one["uar"], p_holm=None, p_permutation_holm=None)
        assert alone == next(d for d in pairs if d.metric == "uar")
    for name in ("uar", "macro_f1"):
        assert [one[name].p_holm for one in changed] == list(comparison.holm([one[name].p for one in changed]))
    assert all(d.difference == 0 for d in robustness.changes([found[1], found[1]], draws=20)[0])


def test_what_was_answered_before_ctrl_c_is_not_asked_again(
    rows: Manifest, found: tuple[Measured, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep, answer = tmp_path / "answers.jsonl", asking._answer

    def counting(asked: list[asking.Job], until: int) -> Callable[..., asking.Answer | str]:
        def answered(model: Model, task: asking.Job) -> asking.Answer | str:
            if len(asked) == until:
                raise KeyboardInterrupt
            asked.append(task)
            return answer(model, task)

        return answered

    first: list[asking.Job] = []
    monkeypatch.setattr(asking, "_answer", counting(first, len(rows) + 2))
    with pytest.raises(KeyboardInterrupt):
        measure_under(GOLDEN, rows, UNDER, draws=50, keep=keep)
    second: list[asking.Job] = []
    monkeypatch.setattr(asking, "_answer", counting(second, 10**6))
    resumed = measure_under(GOLDEN, rows, UNDER, draws=50, keep=keep)
    assert [m.to_row() for m in resumed] == [m.to_row() for m in found]
    assert len(first) + len(second) == 3 * len(rows)
    third: list[asking.Job] = []
    monkeypatch.setattr(asking, "_answer", counting(third, 10**6))
    measure_under(GOLDEN, rows, [*UNDER, *parse(["reverb"])], draws=10, keep=keep)
    assert [t.condition.name for t in third if t.condition] == ["reverb"] * len(rows)
    third.clear()
    measure_under(GOLDEN, rows, UNDER, draws=10, keep=keep, seed=1)
    assert len(third) == 2 * len(rows), "of the recordings as they are nothing is random"


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight clips with sound above 4 kHz, and one that is none."""
    folder = tmp_path_factory.mktemp("wide")
    lines = ["path,emotion,speaker"]
    for k in range(8):
        (folder / f"{k}.wav").write_bytes(wav(wide(1.2, seed=k, pitch_hz=100.0 + 20 * k)))
        lines.append(f"{k}.wav,{('anger', 'sadness')[k % 2]},s{k // 4}")
    (folder / "broken.wav").write_bytes(b"no sound")
    (folder / "t.csv").write_text("\n".join([*lines, "broken.wav,anger,s0"]))
    return folder / "t.csv"


def run(table: Path, *more: str) -> tuple[int, str, str]:
    command = ["measure", "default", "--corpus", "table", "--root", str(table), "--draws", "20", *more]
    done = CliRunner().invoke(cli.app, command)
    return done.exit_code, done.stdout, done.stderr


def test_the_command_tells_who_answered_and_writes_a_page(table: Path, tmp_path: Path) -> None:
    code, out, errors = run(table, "--under", "8khz", "--under", "gain:-6", "--out", str(tmp_path))
    assert code == 1
    assert errors.count("broken: ") == 1, "told once, not for every condition"
    assert "condition  UAR [95 %]" in out
    assert "answered by telephone@" in out
    assert ": 8khz (8 of 8)" in out
    assert "with 20 draws and 2 conditions no p Holm is below 0.190: more --draws" in out
    tree = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert [u["condition"] for u in tree["under"]] == ["8khz", "gain:-6"]
    assert [d["metric"] for d in tree["under"][0]["changes"][0]][:1] == ["macro_f1"]
    assert sum(tree["under"][1]["models"][0]["answered_by"].values()) == 8
    assert {f.name for f in tmp_path.glob("conditions.*")} == {"conditions.html", "conditions.md"}
    assert (tmp_path / "figures" / "conditions.svg").is_file()
    assert out.endswith(f"report: {tmp_path / 'report.html'}\n")
    assert 'href="conditions.html"' in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert 'href="report.html"' in (tmp_path / "conditions.html").read_text(encoding="utf-8")
    [degraded] = tmp_path.glob("default@*.gain_-6.parquet")
    assert len(Predictions.load(degraded)) == 8
    code, alone, _ = run(table, "--under", "8khz", "--calls", "none")
    assert "answered by" not in alone


def test_two_bundles_are_compared_under_each_condition(table: Path) -> None:
    code, out, _ = run(table, "--under", "noise:0", "--beside", str(GOLDEN), "--json")
    assert code == 1
    tree = json.loads(out)
    [under] = tree["under"]
    names = [m["system"] for m in under["models"]]
    difference = next(d for d in under["differences"] if d["metric"] == "uar")
    assert [difference["a"], difference["b"]] == names
    assert difference["value_a"] == under["models"][0]["metrics"]["uar"]["value"]
    assert [d["b"] for d in under["changes"][1]] == [tree["models"][1]["system"]] * len(under["changes"][1])
    _, out, _ = run(table, "--under", "noise:0", "--beside", str(GOLDEN))
    assert "under each condition\n  condition  a " in out


def test_a_wrong_condition_is_refused_before_any_work(table: Path) -> None:
    with pytest.raises(SerkitError, match="did you mean 'telephone'"):
        CliRunner().invoke(
            cli.app,
            ["measure", "nowhere.zip", "--corpus", "table", "--root", str(table), "--under", "telefone"],
            catch_exceptions=False,
        )
