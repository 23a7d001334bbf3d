"""Listening: a file played as a microphone, a microphone that is not there, and one that is made up."""

from __future__ import annotations

import builtins
import json
import os
import signal
import subprocess
import sys
import time
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr
from typer.testing import CliRunner

from command_line import ask as run
from serkit.cli import app
from serkit.errors import MissingExtra, SerkitError
from serkit.remarks import Remarks
from serkit.segments import Segmenter
from serkit.serving import example, listening
from serkit.serving.predictor import Model
from serkit.serving.stream import StreamEvent

from .signals import GOLDEN, RATE, quiet, talk, wav


def test_the_finals_are_the_file_s_answer(model: Model, tmp_path: Path) -> None:
    path = tmp_path / "talk.wav"
    path.write_bytes(wav(talk(3), subtype="PCM_16"))
    events: list[StreamEvent] = []
    heard = listening.listen(model, listening.played(path, paced=False), RATE, events.append)
    whole = model.predict(path)
    assert tuple(e.segment for e in events if e.kind == "final") == whole.segments == heard.prediction.segments
    assert any(e.kind == "partial" for e in events)
    assert len(heard.latencies_s) == 3
    assert heard.real_time_factor == heard.work_s / heard.heard_s > 0
    assert heard.prediction.probabilities == whole.probabilities


def test_played_as_fast_as_it_was_spoken(tmp_path: Path) -> None:
    path = tmp_path / "talk.wav"
    path.write_bytes(wav(talk(1)[: RATE // 2]))
    began = time.monotonic()
    chunks = list(listening.played(path))
    assert time.monotonic() - began > 0.4
    assert [len(c) for c in chunks] == [1600] * 5


def test_ctrl_c_ends_with_the_answer_for_what_was_heard(model: Model) -> None:
    def interrupted() -> Iterator[np.ndarray]:
        yield talk(2)
        raise KeyboardInterrupt

    heard = listening.listen(model, interrupted(), RATE, lambda event: None)
    assert len(heard.prediction.segments) == 2


def test_ctrl_c_before_anything_was_heard_is_ctrl_c(model: Model) -> None:
    def interrupted() -> Iterator[np.ndarray]:
        raise KeyboardInterrupt
        yield talk(2)

    with pytest.raises(KeyboardInterrupt):
        listening.listen(model, interrupted(), RATE, lambda event: None)


def test_ctrl_c_in_the_middle_of_a_chunk_comes_after_it(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stream was left half-way, and what it was asked for afterwards was a traceback."""
    sound, real, begun = talk(2), Segmenter.push, []

    def push(self: Segmenter, samples: np.ndarray) -> Any:
        begun.append(len(samples))
        if len(begun) == 20:
            os.kill(os.getpid(), signal.SIGINT)
            for _ in range(1000):  # time for Python to call its handler
                pass
        return real(self, samples)

    chunks = (sound[k : k + 1600] for k in range(0, len(sound), 1600))
    monkeypatch.setattr(Segmenter, "push", push)
    heard = listening.listen(model, chunks, RATE, lambda event: None, partial_s=0.5)
    monkeypatch.undo()
    n_heard = round(heard.heard_s * RATE)
    assert RATE < n_heard < len(sound)
    assert heard.prediction.segments == model.predict(sound[:n_heard], rate_hz=RATE).segments


def test_it_stops_by_itself(model: Model, tmp_path: Path) -> None:
    path = tmp_path / "talk.wav"
    path.write_bytes(wav(talk(3)))
    heard = listening.listen(model, listening.played(path, paced=False), RATE, lambda e: None, longest_s=1.0)
    assert heard.heard_s == pytest.approx(1.0)


def test_rows_and_lines_of_the_command() -> None:
    given = ["listen", "--from", "example", "--fast", "--model", str(GOLDEN)]
    done = CliRunner().invoke(app, [*given, "--json"])
    assert done.exit_code == 0, done.output
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert {r["type"] for r in rows} == {"partial", "final", "whole"}
    assert rows[-1]["type"] == "whole"
    assert len(rows[-1]["segments"]) == sum(r["type"] == "final" for r in rows) == 5
    assert all(0 <= r["latency_s"] < 60 for r in rows[:-1])
    shown = CliRunner().invoke(app, [*given, "--labels", "anger,fear", "--partial", "0"]).stdout
    assert "after its end" in shown
    assert "real-time factor" in shown
    assert "…" not in shown


def test_what_the_answer_notes_is_told(tmp_path: Path) -> None:
    voices, rate_hz = soundfile.read(example.path(), dtype="float32")
    soundfile.write(tmp_path / "call.wav", soxr.resample(voices, rate_hz, 8000), 8000)
    given = ["listen", "--from", str(tmp_path / "call.wav"), "--fast", "--partial", "0"]
    done = CliRunner().invoke(app, given)
    assert done.exit_code == 0, done.output
    assert done.stderr.startswith("serkit: note: nothing above 4 kHz, as in calls: answered by the model 'telephone'")
    done = CliRunner().invoke(app, [*given, "--json"])
    assert done.stderr == ""
    assert len(json.loads(done.stdout.splitlines()[-1])["notes"]) == 1
    done = CliRunner().invoke(app, [*given, "--json", "--calls", "none"])
    assert "answered by the model 'telephone'" not in done.stdout
    assert "recording of 8 kHz or less" in json.loads(done.stdout.splitlines()[-1])["notes"][0]


def test_what_a_recording_that_is_played_says_of_itself_is_told_as_by_predict(model: Model, tmp_path: Path) -> None:
    """Two sides of a call that are mixed, and an end that is missing."""
    path, mp3 = tmp_path / "call.wav", tmp_path / "call.mp3"
    soundfile.write(path, np.stack([np.r_[talk(2), quiet(6)], np.r_[quiet(6), talk(2)]], axis=1), RATE)
    soundfile.write(mp3, talk(3), RATE)
    mp3.write_bytes(mp3.read_bytes()[:9000])
    for one, said in ((path, "hold different voices"), (mp3, "truncated")):
        remarks = Remarks()
        chunks = listening.played(one, paced=False, remarks=remarks)
        heard = listening.listen(model, chunks, RATE, lambda event: None, remarks=remarks)
        assert said in "".join(heard.prediction.notes)
        assert heard.prediction.notes == model.predict(one).notes
    done = CliRunner().invoke(app, ["listen", "--from", str(path), "--fast", "--partial", "0"])
    assert "hold different voices" in done.stderr


def test_fast_is_of_a_recording() -> None:
    done = CliRunner().invoke(app, ["listen", "--fast", "--model", str(GOLDEN)])
    assert str(done.exception).startswith("--fast needs --from FILE")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--seconds", "0"], "--seconds 0: expected a time above 0"),
        (["--seconds", "nan"], "--seconds nan: expected a time above 0"),
        (["--device", "3"], "--device chooses a microphone, and --from reads a recording: leave one of the two out"),
    ],
)
def test_what_makes_no_sense_is_refused(given: list[str], said: str) -> None:
    done = CliRunner().invoke(app, ["listen", "--from", "example", "--fast", "--model", str(GOLDEN), *given])
    assert str(done.exception) == said


def test_a_signal_ends_the_command_cleanly() -> None:
    command = [sys.executable, "-m", "serkit.cli", "listen", "--from", str(example.path()), "--model", str(GOLDEN)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    first = process.stdout.readline()
    process.send_signal(signal.SIGINT)
    rest, complaints = process.communicate(timeout=60)
    assert "…" in first
    assert "in all: " in rest
    assert process.returncode == 0, complaints


def test_without_the_package_or_portaudio_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    imported = builtins.__import__

    def failing(error: Exception) -> Any:
        def fake(name: str, *rest: Any, **options: Any) -> Any:
            if name == "sounddevice":
                raise error
            return imported(name, *rest, **options)

        return fake

    monkeypatch.setattr(builtins, "__import__", failing(ImportError("no")))
    with pytest.raises(MissingExtra, match=r"serkit\[mic\]"):
        listening.Microphone()
    monkeypatch.setattr(builtins, "__import__", failing(OSError("PortAudio library not found")))
    with pytest.raises(SerkitError, match="apt install libportaudio2"):
        listening.Microphone()


class _Input:
    """A stream of sounddevice that hands over a second of talk when it is opened."""

    def __init__(self, *, callback: Any, samplerate: int, blocksize: int, **options: Any) -> None:
        self._callback, self._size = callback, blocksize

    def __enter__(self) -> None:
        sound = talk(1)[: 10 * self._size]
        for k in range(10):
            block = sound[k * self._size : (k + 1) * self._size, None]
            self._callback(block, len(block), None, types.SimpleNamespace(input_overflow=k == 3))

    def __exit__(self, *rest: Any) -> None:
        return


def fake_sounddevice(known: list[dict[str, Any]]) -> types.ModuleType:
    package = types.ModuleType("sounddevice")

    def query(device: Any = None, kind: str | None = None) -> Any:
        if kind is None:
            return known
        if not known:
            raise ValueError("no input device matching")
        return known[0]

    package.query_devices = query  # type: ignore[attr-defined]
    package.InputStream = _Input  # type: ignore[attr-defined]
    package.PortAudioError = type("PortAudioError", (Exception,), {})  # type: ignore[attr-defined]
    return package


def test_a_microphone(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    known = [{"name": "Built-in", "max_input_channels": 1, "default_samplerate": 16000.0}]
    monkeypatch.setitem(sys.modules, "sounddevice", fake_sounddevice(known))
    microphone = listening.Microphone()
    assert microphone.rate_hz == RATE
    heard = listening.listen(model, microphone.chunks(), microphone.rate_hz, lambda e: None, longest_s=1.0)
    assert heard.heard_s == pytest.approx(1.0)
    assert microphone.lost == 1
    monkeypatch.setattr(listening, "_SILENT_S", 0.05)
    quiet = listening.Microphone().chunks()
    with pytest.raises(SerkitError, match="sent nothing"):
        list(quiet)


def test_no_microphone_names_those_that_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", fake_sounddevice([]))
    with pytest.raises(SerkitError, match=r"no microphone 'usb'.*this machine has none"):
        listening.Microphone("usb")


@pytest.mark.parametrize("command", [["predict"], ["listen", "--fast", "--from"]])
def test_a_recording_that_cannot_be_read_is_a_failure_for_both_commands(tmp_path: Path, command: list[str]) -> None:
    (tmp_path / "bad.wav").write_bytes(b"not audio")
    for name in ("bad.wav", "none.wav"):
        code, said, complaint = run(*command, tmp_path / name, "--model", GOLDEN)
        assert (code, said.count("all:")) == (1, 0)
        (line,) = [row for row in complaint.splitlines() if name in row]
        assert "Traceback" not in line
