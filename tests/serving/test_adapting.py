"""A model adapted to recordings without labels: what changes, what does not, and what is refused."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import serkit
from serkit.cli import app
from serkit.errors import DiskFull, SerkitError, Stopped
from serkit.progress import Meter, Progress
from serkit.serving import adapting
from serkit.serving.adaptation_sums import Kept, Listened
from serkit.serving.bundle import Bundle, open_bundle, write_bundle

from .asking import alike
from .signals import GOLDEN, RATE, quiet, talk, voice, wav


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fourteen clips, one long recording, a silent one, and a text that is called .wav."""
    folder = tmp_path_factory.mktemp("recordings")
    for k in range(14):
        (folder / f"clip{k:02}.wav").write_bytes(wav(0.3 * voice(1.0 + 0.1 * k, seed=k, pitch_hz=90 + 12 * k)))
    (folder / "long.wav").write_bytes(wav(talk(6)))
    (folder / "silent.wav").write_bytes(wav(quiet(2.0)))
    (folder / "text.wav").write_text("no sound in here", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def adapted(recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    out = tmp_path_factory.mktemp("bundle") / "mine.zip"
    said: list[str] = []
    made = adapting.adapt("default", sorted(recordings.iterdir()), complain=said.append)
    assert len(said) == 1
    assert "text.wav" in said[0]
    return adapting.write(made, out)


def test_it_says_what_it_is_and_earlier_versions_refuse_it(adapted: Bundle) -> None:
    default = open_bundle("default")
    facts = adapted.head["adapted"]
    assert facts["recordings"] == 15
    assert facts["pieces"] >= 14 + 4, "the long one by its stretches of speech"
    assert facts["from"] == f"default@{default.fingerprint[:12]}"
    assert adapted.name == "default-adapted"
    assert adapted.fingerprint != default.fingerprint
    assert (adapted.head["format"], default.head["format"]) == (2, 1)
    card = adapted.text("card.md")
    assert card.startswith("# default-adapted\n"), "the card is that of this model"
    assert card.startswith(default.text("card.md").replace("# default\n", "# default-adapted\n", 1).rstrip())
    assert "To 15 recordings without labels" in card


def test_networks_hear_the_trainings_mean_and_deviation(adapted: Bundle, recordings: Path) -> None:
    """Features of the same clips, seen as the networks see them, are nearer to where the training's were."""
    plain, moved = serkit.load("default"), serkit.load(adapted.source)
    key = next(iter(adapted.inputs))
    mean, deviation = adapted.inputs[key]
    clips = [wav_samples(path) for path in sorted(recordings.glob("clip*.wav"))]
    away = []
    for model in (plain, moved):
        rows = np.concatenate([model.scorer.features(clip, None)[key] for clip in clips])
        away.append(float(np.abs((rows.mean(axis=0) - mean) / deviation).mean()))
    assert away[1] < 0.75 * away[0]


def wav_samples(path: Path) -> np.ndarray:
    from serkit import audio

    return audio.load(path)


def test_batch_single_and_stream_agree_in_an_adapted_model(adapted: Bundle, recordings: Path) -> None:
    model = serkit.load(adapted.source)
    paths = sorted(recordings.glob("clip*.wav"))[:5]
    alone = alike(model, paths)
    plain = serkit.load("default").predict_proba(paths)
    assert np.abs(plain - alone).max() > 0.01, "it answers otherwise"


def test_again_is_anew_and_the_same_bytes(adapted: Bundle, recordings: Path) -> None:
    files = sorted(recordings.iterdir())
    once = adapting.adapt("default", files)
    again = adapting.adapt(adapted, files, jobs=2)
    assert once[1] == again[1]
    assert once[0]["adapted"] == again[0]["adapted"]
    fewer = adapting.adapt("default", sorted(recordings.glob("clip*")), at_most=11)
    assert fewer[0]["adapted"]["recordings"] == 11  # type: ignore[index]


def stop_after(n: int) -> Callable[[Progress], None]:
    """Ctrl-C once so many recordings are heard."""

    def told(now: Progress) -> None:
        if now.done > n:
            raise KeyboardInterrupt

    return told


@pytest.fixture
def stopped(recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[list[Path], Path]:
    """Files, and where the bundle would be, of an adaptation that was stopped after six of them."""
    monkeypatch.setattr(Meter, "_tell", lambda meter: meter._callback and meter._callback(meter.now()))
    copied = tmp_path / "recordings"
    shutil.copytree(recordings, copied)
    files, out = sorted(copied.iterdir()), tmp_path / "mine.zip"
    with pytest.raises(Stopped, match="run the same command again to resume"):
        adapting.adapt_to("default", files, out, progress=stop_after(6))
    assert [p.name for p in tmp_path.iterdir() if p.name != "recordings"] == [".mine.zip.heard"]
    return files, out


def test_stopped_it_goes_on_and_comes_to_the_same_bytes(stopped: tuple[list[Path], Path], adapted: Bundle) -> None:
    files, out = stopped
    said: list[str] = []
    made = adapting.adapt_to("default", files, out, complain=said.append)
    assert said[0] == "6 of 17 recordings are already processed"
    assert made.fingerprint == adapted.fingerprint
    assert not out.with_name(".mine.zip.heard").exists()


def test_a_call_that_is_wrong_loses_nothing(stopped: tuple[list[Path], Path]) -> None:
    files, out = stopped
    for wrong, options in (("defaults", {}), ("default", {"at_most": 0})):
        with pytest.raises(SerkitError, match=r"did you mean 'default'|expected 1 or more"):
            adapting.adapt_to(wrong, files, out, **options)
    assert out.with_name(".mine.zip.heard").exists()


def test_what_could_not_be_read_is_tried_again(
    stopped: tuple[list[Path], Path], adapted: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, out = stopped
    out.with_name(".mine.zip.heard").unlink()
    read = adapting.Listener.hear

    def without_a_drive(listener: adapting.Listener, path: Path) -> Listened:
        if "clip02" in str(path):
            raise SerkitError(f"{path}: not there just now")
        return read(listener, path)

    monkeypatch.setattr(adapting.Listener, "hear", without_a_drive)
    with pytest.raises(Stopped):
        adapting.adapt_to("default", files, out, progress=stop_after(6))
    monkeypatch.setattr(adapting.Listener, "hear", read)
    said: list[str] = []
    made = adapting.adapt_to("default", files, out, complain=said.append)
    assert said[0] == "5 of 17 recordings are already processed"
    assert made.head["adapted"] == adapted.head["adapted"]


@pytest.mark.parametrize("spoilt", ["another recording", "half a file", "another question"])
def test_what_was_heard_of_others_is_not_taken(stopped: tuple[list[Path], Path], spoilt: str) -> None:
    files, out = stopped
    kept = out.with_name(".mine.zip.heard")
    question = {"model": open_bundle("default").fingerprint, "most_s": adapting.MOST_S}
    assert len(Kept(kept, question, files).heard) == 6
    if spoilt == "another recording":
        files[2].write_bytes(wav(talk(1)))
    elif spoilt == "half a file":
        kept.write_bytes(kept.read_bytes()[:5000])
    else:
        question["most_s"] = 1.0
    found = Kept(kept, question, files)
    assert (found.heard, found.total) == ([], Listened())


def test_ctrl_c_leaves_no_recording_among_the_sums_that_is_not_among_the_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a second thread the system told that one, and Python broke off between the two: it was heard twice later."""

    def interrupted(total: Listened, found: Listened) -> None:
        add(total, found)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.2)  # for the other thread to be told

    add, over = Listened.add, threading.Event()
    monkeypatch.setattr(Listened, "add", interrupted)
    other = threading.Thread(target=over.wait)
    other.start()
    kept = Kept(None, {}, ["a.wav"])
    with pytest.raises(KeyboardInterrupt):
        kept.add(0, Listened(recordings=1))
    over.set()
    other.join()
    assert (kept.total.recordings, kept.heard) == (1, [0])


def test_a_place_that_cannot_be_written_is_refused_before_any_work(recordings: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SerkitError, match=r"mine\.zip cannot be written: (Not a directory|File exists)"):
        serkit.adapt([recordings], tmp_path / "file" / "mine.zip")


@pytest.mark.parametrize("name", ["mine.zip", "mine"])
def test_a_full_disk_leaves_no_part_of_a_bundle(
    adapted: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("zipfile.ZipFile.writestr", full)
    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(DiskFull, match=r"the disk is full .* while writing .*mine"):
        write_bundle(dict(adapted.head), adapted.contents(), tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("n", [0, 3])
def test_too_little_speech_is_refused(recordings: Path, n: int) -> None:
    files = [recordings / "silent.wav", *sorted(recordings.glob("clip*"))[:n]]
    recordings_ = "1 recording" if n == 0 else f"{n + 1} recordings"
    with pytest.raises(SerkitError, match=rf"heard {n} stretches of speech in {recordings_} .*1 without speech"):
        adapting.adapt("default", files)


def test_recordings_that_another_model_answers_are_told_of(tmp_path: Path) -> None:
    low, high = tmp_path / "low.wav", tmp_path / "high.wav"
    low.write_bytes(wav(voice(1.5)[::2], 8000))
    high.write_bytes(wav(np.random.default_rng(0).normal(0, 0.1, 2 * RATE).astype(np.float32)))
    gone, told = tmp_path / "gone.wav", list[str]()
    bundle = open_bundle("default")
    for source, recordings in (
        ("default", [high, high, low]),
        (bundle, [low]),
        (bundle.source, [low]),
        ("default", []),
    ):
        adapting.tell_of_calls(bundle, source, recordings, told.append)
    assert told == []
    adapting.tell_of_calls(bundle, "default", [low, low, gone], told.append)
    [line] = told
    assert "'telephone' answers these in place of 'default'" in line
    assert "--model telephone" in line


def test_recordings_with_two_voices_mixed_are_told_of(tmp_path: Path) -> None:
    one, other = voice(3.0, pitch_hz=110), voice(3.0, pitch_hz=210)
    none, told = np.zeros_like(one), list[str]()
    call, alone = tmp_path / "call.wav", tmp_path / "alone.wav"
    call.write_bytes(wav(np.stack([np.r_[one, none], np.r_[none, other]], axis=1)))
    alone.write_bytes(wav(one))
    adapting.tell_of_calls(open_bundle(GOLDEN), GOLDEN, [alone, tmp_path / "gone.wav"], told.append)
    assert told == []
    adapting.tell_of_calls(open_bundle(GOLDEN), GOLDEN, [alone, call, call], told.append)
    [line] = told
    assert "in 2 of 3 recordings looked at: they are mixed" in line


def test_a_bundle_without_statistics_is_refused(recordings: Path) -> None:
    with pytest.raises(SerkitError, match=r"tiny\.zip cannot be adapted: it has no statistics"):
        adapting.adapt(GOLDEN, sorted(recordings.iterdir()))


def test_by_command_line_and_light(recordings: Path, tmp_path: Path) -> None:
    out = tmp_path / "mine.zip"
    done = CliRunner().invoke(app, ["adapt", str(recordings), "-o", str(out)])
    assert done.exit_code == 0, done.stderr
    assert "adapted to 15 recordings" in done.stdout
    assert "predict with --calls telephone; if all are, adapt that model: --model telephone" in done.stdout
    assert done.stderr.count("\n") == 1
    assert "text.wav" in done.stderr
    answered = CliRunner().invoke(
        app, ["predict", str(recordings / "clip00.wav"), "--model", str(out), "--format", "csv"]
    )
    assert answered.exit_code == 0
    assert answered.stdout.startswith("path,label")
    refused = re.escape(f"{out} exists already; choose another place, or remove it first")
    with pytest.raises(SerkitError, match=refused):
        CliRunner().invoke(app, ["adapt", str(recordings), "-o", str(out)], catch_exceptions=False)
    code = (
        "import sys; from pathlib import Path; from serkit.serving import adapting; "
        f"adapting.adapt('default', sorted(Path({str(recordings)!r}).glob('clip*'))); "
        "print([m for m in ('torch', 'sklearn', 'transformers', 'scipy') if m in sys.modules])"
    )
    light = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert light.stdout.strip() == "[]"
