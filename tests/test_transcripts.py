"""Transcripts: sources, resume, guards against invented words, and the real classes with tiny weights."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile

from serkit import checkpoints, transcripts
from serkit.errors import MissingExtra, SerkitError
from serkit.foundation import asr
from serkit.foundation.asr import FasterWhisper, Heard, timed_words
from serkit.foundation.tiny import tiny_folder
from serkit.journal import read_rows
from serkit.transcripts import Transcript, read_transcripts, transcribe, windows
from serkit.types import Manifest, Utterance

RATE = 16_000


def voice(seconds: float, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    t = np.arange(int(seconds * RATE)) / RATE
    wave = sum(np.sin(2 * np.pi * 120 * k * t) / k for k in range(1, 20)) * np.maximum(0, np.sin(2 * np.pi * 2 * t))
    return np.asarray(0.1 * wave + 0.003 * rng.standard_normal(len(t)), dtype=np.float32)


class Parrot:
    """A recogniser that says how long each window is, and counts what it was asked."""

    key = "parrot"
    asked = 0

    def __init__(self, no_speech: float = 0.0, text: str | None = None) -> None:
        self.no_speech, self.text = no_speech, text

    def __call__(self, given: Sequence[np.ndarray]) -> list[Heard]:
        Parrot.asked += len(given)
        return [Heard(((0.0, len(w) / RATE, self.text or f"{len(w)} samples"),), "en", self.no_speech) for w in given]


@pytest.fixture(autouse=True)
def _own_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("SERKIT_CONFIG", str(tmp_path / "config"))
    Parrot.asked = 0


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    clips = {"a": voice(1.0), "b": voice(2.0, 1), "c": np.zeros(RATE, dtype=np.float32), "d": voice(0.06, 2)}
    for name, samples in clips.items():
        soundfile.write(tmp_path / f"{name}.wav", samples, RATE)
    rows = tuple(Utterance(k, f"{k}.wav", text=f"text of {k}") for k in clips)
    return Manifest("toy", (), (*rows, Utterance("e", "b.wav", start_s=0.5, end_s=1.5, text="")), root=str(tmp_path))


@pytest.fixture
def parrot(monkeypatch: pytest.MonkeyPatch) -> Any:
    def use(**kwargs: Any) -> None:
        monkeypatch.setattr(transcripts, "TransformersWhisper", lambda *_: Parrot(**kwargs))

    use()
    return use


def test_the_corpus_or_a_table_needs_no_model(manifest: Manifest, tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    assert transcribe(manifest, "corpus", path)["b"].text == "text of b"
    table = tmp_path / "t.csv"
    table.write_text("id,text\n" + "".join(f'{i},"said, {i}"\n' for i in manifest.ids))
    assert transcribe(manifest, str(table), path)["d"] == Transcript("said, d")
    table.write_text("id,text\na,x\n")
    with pytest.raises(SerkitError, match="4 of 5 utterances have no text, first 'b'"):
        transcribe(manifest, str(table), path)
    silent = dataclasses.replace(
        manifest, utterances=(*manifest.utterances[:4], dataclasses.replace(manifest.utterances[4], text=None))
    )
    with pytest.raises(
        SerkitError, match=r"1 of 5 utterances have no text, .*: name a recogniser .* or a CSV .* \(exclude\)"
    ):
        transcribe(silent, "corpus", path)
    table.write_text("name,words\na,x\n")
    with pytest.raises(SerkitError, match="expected the columns id and text, got name, words"):
        transcribe(manifest, str(table), path)
    table.write_text("id,text\na,x\na,y\n")
    with pytest.raises(SerkitError, match="occurs twice"):
        transcribe(manifest, str(table), path)
    assert not path.exists()


def test_one_row_per_stretch_reused_and_resumed(manifest: Manifest, tmp_path: Path, parrot: Any) -> None:
    path = tmp_path / "t.jsonl"
    first = transcribe(manifest, "whisper/random", path, batch_size=2)
    assert list(first) == list(manifest.ids)
    assert first["b"].text == "32000 samples"
    assert first["e"].text == "16000 samples", "the stretch, not the file"
    assert first["c"] == Transcript("", None, (), 1.0, 0.0, ("silent",))
    assert Parrot.asked == 4, "silence is not sent to the recogniser"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(rows) == 5
    assert {r["model"] for r in rows} == {rows[0]["model"]}
    again = transcribe(manifest, "whisper/random", path)
    assert again == first
    assert Parrot.asked == 4, "nothing is heard twice"
    transcribe(manifest, "whisper/random", path, language="de")
    assert Parrot.asked == 8, "another language is another answer"
    assert len(read_transcripts(path)) == 10
    moved = Manifest(
        "other", (), tuple(Utterance(f"x-{u.id}", u.audio) for u in manifest if u.id != "e"), root=manifest.root
    )
    transcribe(moved, "whisper/random", path)
    assert Parrot.asked == 8, "named by content, not by id or corpus"


def test_broken_recordings_are_named_once_the_others_are_heard(manifest: Manifest, tmp_path: Path, parrot: Any) -> None:
    (tmp_path / "a.wav").write_text("not a recording")
    (tmp_path / "d.wav").unlink()
    path = tmp_path / "t.jsonl"
    with pytest.raises(
        SerkitError, match=r"^2 of 5 utterances have no transcript: 'a' \(.*\); 'd' \(.*exclude: \[a, d\]$"
    ):
        transcribe(manifest, "whisper/random", path)
    assert len(read_transcripts(path)) == 3, "what can be heard is heard and kept"
    Parrot.asked = 0
    rest = transcribe(manifest.where(lambda u: u.id not in ("a", "d")), "whisper/random", path)
    assert list(rest) == ["b", "c", "e"]
    assert Parrot.asked == 0


def test_a_torn_row_costs_that_row(manifest: Manifest, tmp_path: Path, parrot: Any) -> None:
    path = tmp_path / "t.jsonl"
    first = transcribe(manifest, "whisper/random", path, batch_size=1)
    whole = path.read_bytes()
    path.write_bytes(whole[: whole.rindex(b'"text"')])
    Parrot.asked = 0
    assert transcribe(manifest, "whisper/random", path) == first
    assert Parrot.asked == 1
    assert len(read_transcripts(path)) == 5


def transcribing(folder: Path, n_rows: int) -> tuple[Path, subprocess.Popen[bytes]]:
    """A process that has begun to transcribe so many stretches, one at a time, 20 ms each; its file and itself."""
    if not (folder / "v.wav").is_file():
        soundfile.write(folder / "v.wav", voice(n_rows / 10 + 1), RATE)
    path = folder / "t.jsonl"
    code = f"""
import sys, time
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from serkit import checkpoints, transcripts
from serkit.types import Manifest, Utterance
from test_transcripts import Parrot
class Slow(Parrot):
    def __call__(self, given):
        time.sleep(0.02)
        return super().__call__(given)
transcripts.TransformersWhisper = lambda *_: Slow()
rows = tuple(Utterance(f"u{{k}}", "v.wav", start_s=k / 10, end_s=k / 10 + 0.5) for k in range({n_rows}))
print("go", flush=True)
manifest = Manifest("toy", (), rows, root={str(folder)!r})
transcripts.transcribe(manifest, "whisper/random", Path({str(path)!r}), batch_size=1)
"""
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    child = subprocess.Popen([sys.executable, "-c", code], env=env, stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline() == b"go\n"
    child.stdout.close()
    return path, child


def kill_often(folder: Path, n_rows: int, moments_s: Sequence[float]) -> list[int]:
    """Kill at each moment, then let it finish; rows kept after each kill. Whole rows stay, none is there twice."""
    kept: list[int] = []
    before: dict[Any, Transcript] = {}
    for moment_s in moments_s:
        path, child = transcribing(folder, n_rows)
        time.sleep(moment_s)
        child.send_signal(signal.SIGKILL)
        child.wait()
        now = read_transcripts(path)
        assert {k: now.get(k) for k in before} == before, "what was on the disk stays"
        before = now
        kept.append(len(now))
    path, child = transcribing(folder, n_rows)
    assert child.wait(timeout=300) == 0
    rows = list(read_rows(path))
    assert len({(r["audio"], r["model"]) for r in rows}) == len(rows) == n_rows
    assert {k: read_transcripts(path)[k] for k in before} == before
    return kept


def test_killed_at_random_moments_nothing_is_lost_or_doubled(tmp_path: Path) -> None:
    kill_often(tmp_path, 60, (0.2, 0.5, 0.3))


@pytest.mark.slow
def test_killed_twenty_times_nothing_is_lost_or_doubled(tmp_path: Path) -> None:
    kept = kill_often(tmp_path, 400, [float(m) for m in np.random.default_rng(5).uniform(0.1, 0.9, 20)])
    assert kept == sorted(kept)
    assert kept[0] < 400, "at least the first kill came in the middle"


def test_invented_words_are_dropped_or_flagged(manifest: Manifest, tmp_path: Path, parrot: Any) -> None:
    rng = np.random.default_rng(0)
    soundfile.write(tmp_path / "noise.wav", 0.01 * rng.standard_normal(3 * RATE), RATE)
    rows = (Utterance("noise", "noise.wav"), Utterance("speech", "b.wav"))
    both = Manifest("toy", (), rows, root=str(tmp_path))
    parrot(no_speech=0.95, text="Thanks for watching!")
    found = transcribe(both, "whisper/random", tmp_path / "n.jsonl")
    assert (found["noise"].text, found["noise"].flags) == ("", ("no_speech",))
    assert (found["speech"].text, found["speech"].flags) == ("Thanks for watching!", ("doubtful",))
    parrot(text="so so " * 40)
    found = transcribe(both, "whisper/random", tmp_path / "r.jsonl")
    assert found["speech"].flags == ("repetitive", "too_fast")
    parrot(text="I am glad.")
    assert transcribe(both, "whisper/random", tmp_path / "g.jsonl")["speech"].flags == ()


def test_long_clips_are_cut_where_it_is_quiet() -> None:
    samples = np.ones(70 * RATE, dtype=np.float32)
    samples[int(27.35 * RATE) : int(27.65 * RATE)] = 0.0
    cut = windows(samples)
    assert np.concatenate([w for _, w in cut]).shape == samples.shape
    assert [start for start, _ in cut] == [0, *np.cumsum([len(w) for _, w in cut])[:-1]]
    assert all(len(w) <= 30 * RATE for _, w in cut)
    assert 27.3 * RATE < len(cut[0][1]) < 27.7 * RATE
    assert [len(w) for _, w in windows(samples[: 30 * RATE])] == [30 * RATE]
    assert len(windows(samples[:0])) == 1


def test_the_real_classes_with_tiny_weights(manifest: Manifest, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    found = transcribe(manifest, "whisper/random", tmp_path / "t.jsonl")
    assert found["c"].flags == ("silent",)
    assert {t.language for t in found.values()} <= {"en", "de", None}
    for t in found.values():
        assert t.no_speech is not None
        assert 0 <= t.no_speech <= 1
        assert all(0 <= a <= b <= 30 for a, b, _ in t.segments)
    alone = transcribe(manifest, "whisper/random", tmp_path / "one.jsonl", batch_size=1)
    assert alone == transcribe(manifest, "whisper/random", tmp_path / "four.jsonl", batch_size=4) == found
    forced = transcribe(manifest, "whisper/random", tmp_path / "t.jsonl", language="de")
    assert {t.language for k, t in forced.items() if k != "c"} == {"de"}
    with pytest.raises(SerkitError, match="does not know the language 'fr'; known: de, en"):
        transcribe(manifest, "whisper/random", tmp_path / "t.jsonl", language="fr")
    with pytest.raises(SerkitError, match="no encoder 'whisper/larg-v3'; did you mean 'whisper/large-v3'"):
        transcribe(manifest, "whisper/larg-v3", tmp_path / "t.jsonl")
    with pytest.raises(SerkitError, match="no engine 'faster'"):
        transcribe(manifest, "whisper/random", tmp_path / "t.jsonl", engine="faster")  # type: ignore[arg-type]


def test_faster_whisper_is_an_extra(manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faster_whisper", None)
    with pytest.raises(MissingExtra, match=r"pip install 'serkit\[asr\]'"):
        transcribe(manifest, "whisper/base", tmp_path / "t.jsonl", engine="faster-whisper")

    class WhisperModel:
        """A stand-in with the two calls of the package that are used."""

        def __init__(self, size: str, device: str, compute_type: str) -> None:
            self.size = size

        def transcribe(self, window: np.ndarray, **choices: Any) -> Any:
            said = SimpleNamespace(start=0.1, end=0.9, text=f" {self.size} ", no_speech_prob=0.2, words=None)
            if choices.get("word_timestamps"):
                said.words = [SimpleNamespace(start=0.2, end=0.5, word=f" {self.size}"), SimpleNamespace(word=" ")]
            return iter([said]), SimpleNamespace(language=choices["language"] or "en")

    def download_model(size: str, local_files_only: bool) -> str:
        raise FileNotFoundError(size)

    package = SimpleNamespace(WhisperModel=WhisperModel, download_model=download_model)
    monkeypatch.setitem(sys.modules, "faster_whisper", package)
    monkeypatch.setattr(asr, "unreached", lambda hub: "ConnectError")
    with pytest.raises(
        SerkitError, match=r"faster-whisper 'base' cannot be downloaded here: this machine cannot reach"
    ):
        transcribe(manifest, "whisper/base", tmp_path / "t.jsonl", engine="faster-whisper")
    monkeypatch.setattr(asr, "unreached", lambda hub: "")
    found = transcribe(manifest, "whisper/base", tmp_path / "t.jsonl", engine="faster-whisper")
    assert found["b"].text == "base"
    assert found["b"].segments == ((0.1, 0.9, "base"),)
    assert FasterWhisper("base", "de", "cpu")([voice(0.1)])[0].language == "de"
    assert FasterWhisper("base", "de", "cpu")([voice(0.1)])[0].words == ()
    assert FasterWhisper("base", "de", "cpu", words=True)([voice(0.1)])[0].words == (((0.2, 0.5, "base"),),)


class NamedBySize:
    """A stand-in for the package of faster-whisper: its model says the last part of what it was loaded from."""

    class WhisperModel:
        def __init__(self, size: str, device: str, compute_type: str) -> None:
            if (Path(size) / "model.bin").is_file() and not (Path(size) / "model.bin").read_bytes():
                raise RuntimeError("Variable 'x' has an invalid payload size\nand more")
            if (Path(size) / "model.bin").is_file() and (Path(size) / "model.bin").read_bytes() == b"mute":
                raise ValueError
            self.size = size

        def transcribe(self, window: np.ndarray, **choices: Any) -> Any:
            said = SimpleNamespace(start=0.1, end=0.9, text=Path(self.size).name, no_speech_prob=0.2, words=())
            return iter([said]), SimpleNamespace(language="en")

    @staticmethod
    def download_model(size: str, local_files_only: bool) -> str:
        return size


def test_folders_for_faster_whisper(manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By path and in roots.yaml; of the hub's layout only what transformers is to read."""
    monkeypatch.setitem(sys.modules, "faster_whisper", NamedBySize)
    monkeypatch.setattr(transcripts, "find_spec", lambda name: True)
    monkeypatch.setattr(transcripts, "TransformersWhisper", lambda found, *_, **__: Parrot(text=str(found.folder)))
    path, converted, published = tmp_path / "t.jsonl", tmp_path / "converted", tmp_path / "published"
    for folder, file in ((converted, "model.bin"), (published, "model.safetensors")):
        folder.mkdir()
        (folder / file).write_bytes(b"1")
    (published / "config.json").write_text('{"model_type": "whisper", "d_model": 8, "encoder_layers": 1}')

    def heard(name: str) -> str:
        return transcripts.listener(name)([voice(1.0)])[0].text

    assert heard(str(converted)) == heard(f"path:{converted}") == "converted"
    assert heard("whisper/base") == "base", "nothing in roots.yaml: its own published model"
    roots = Path(os.environ["SERKIT_CONFIG"]) / "roots.yaml"
    roots.parent.mkdir()
    roots.write_text(f"checkpoints: {{whisper/base: {converted}, whisper/tiny: {published}}}")
    assert heard("whisper/base") == "converted"
    assert heard("whisper/tiny") == str(published), "faster-whisper cannot read it"
    with pytest.raises(SerkitError, match=r"no folder .*elsewhere \(from the name\)"):
        heard(f"path:{tmp_path / 'elsewhere'}")

    for name in (f"path:{converted}", "whisper/base"):
        assert transcribe(manifest, name, path, engine="faster-whisper")["b"].text == "converted"
    assert transcribe(manifest, "whisper/tiny", path, engine="faster-whisper")["b"].text == "tiny"
    with pytest.raises(SerkitError, match=r"published holds no model for faster-whisper \(model.bin\); engine: tran"):
        transcribe(manifest, f"path:{published}", path, engine="faster-whisper")
    n_rows = len(path.read_text().splitlines())
    transcribe(manifest, f"path:{converted}", path, engine="faster-whisper")
    assert len(path.read_text().splitlines()) == n_rows
    (converted / "model.bin").write_bytes(b"other")
    transcribe(manifest, f"path:{converted}", path, engine="faster-whisper")
    assert len(path.read_text().splitlines()) == n_rows + len(manifest), "other weights, other transcripts"
    (converted / "model.bin").write_bytes(b"")
    with pytest.raises(SerkitError, match=r"converted' cannot be loaded: Variable 'x' has an invalid payload size$"):
        heard(str(converted))
    (converted / "model.bin").write_bytes(b"mute")
    with pytest.raises(SerkitError, match=r"converted' cannot be loaded: ValueError$"):
        heard(str(converted))


# ---------------------------------------------------------------- the times of words


def test_words_from_tokens_with_times() -> None:
    """Tokens of one byte each: a word begins at a space, a character ends with its last byte."""

    def decode(tokens: list[int]) -> str:
        return bytes(tokens).decode("utf-8", errors="replace")

    def timed(text: str, *, spaced: bool) -> list[tuple[float, float, str]]:
        tokens = [(float(k), k + 1.0, byte) for k, byte in enumerate(text.encode())]
        return list(timed_words(tokens, decode, spaced=spaced))

    assert timed(" so, été!", spaced=True) == [(0, 4, "so,"), (4, 11, "été!")]
    assert timed("so", spaced=True) == [(0, 2, "so")], "the first word needs no space"
    assert timed("好吗？", spaced=False) == [(0, 3, "好"), (3, 9, "吗？")]
    assert timed("  ", spaced=True) == []
    pieces = [" good", b" caf\xc3", b"\xa9", b"\xe4\xbd", b"\xa0\xe5", b"\xa5\xbd"]  # characters cut by tokens

    def parts(tokens: list[int]) -> str:
        raw = b"".join(p if isinstance(p, bytes) else p.encode() for p in (pieces[t] for t in tokens))
        return raw.decode("utf-8", errors="replace")

    found = timed_words([(float(k), k + 1.0, k) for k in range(6)], parts, spaced=True)
    assert found == ((0.0, 1.0, "good"), (1.0, 6.0, "café你好"))
    assert timed_words([(0.0, 1.0, 0), (1.0, 2.0, 1)], parts, spaced=True) == ((0.0, 1.0, "good"), (1.0, 2.0, "caf"))


def heard_words(samples: Sequence[np.ndarray], folder: Path | None = None) -> list[Heard]:
    found = checkpoints.resolve("whisper/random", folder or tiny_folder("whisper"), family="whisper")
    return asr.TransformersWhisper(found, "en", "cpu", "float32", words=True)(samples)


def test_a_whisper_gives_the_times_of_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real classes; then with answers whose times are known."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    clips = [voice(3, 1), voice(7.0208, 2)]
    both = heard_words(clips)
    for clip, heard in zip(clips, both, strict=True):
        assert len(heard.words) == len(heard.segments) > 0
        assert sum(map(len, heard.words)) > 0
        for words in heard.words:
            assert all(0 <= a <= b <= len(clip) / RATE and w == w.strip() != "" for a, b, w in words)
            assert [w[0] for w in words] == sorted(w[0] for w in words)
    assert [heard_words([c])[0].words for c in clips] == [h.words for h in both], "a window's words are its own"

    tokenizer = transformers.WhisperTokenizer.from_pretrained(tiny_folder("whisper"))
    text = " so, good!"
    tokens = tokenizer.encode(f"<|0.50|>{text}<|2.00|>", add_special_tokens=False)
    assert len(tokens) == len(text) + 2
    times = torch.tensor([0.5, *(0.6 + 0.1 * k for k in range(len(text))), 9.0])
    segment = {"start": 0.5, "end": 2.0, "tokens": torch.tensor(tokens), "token_timestamps": times}
    asked: dict[str, Any] = {}

    def generate(self: Any, **given: Any) -> dict[str, Any]:
        asked.update(given)
        return {"segments": [[segment]]}

    monkeypatch.setattr(transformers.WhisperForConditionalGeneration, "generate", generate)
    (heard,) = heard_words([voice(1.2)])
    assert heard.segments == ((0.5, 1.2, "so, good!"),)
    assert [w for _, _, w in heard.words[0]] == ["so,", "good!"]
    np.testing.assert_allclose([(a, b) for a, b, _ in heard.words[0]], [(0.5, 0.9), (0.9, 1.2)], atol=1e-6)
    assert asked["return_token_timestamps"]
    assert asked["attention_mask"].sum() == 120


def test_what_follows_a_stop_between_two_segments_is_heard_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The decoder may end with two times; the next pass hears the samples from there on, not the same ones again."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    tokenizer = transformers.WhisperTokenizer.from_pretrained(tiny_folder("whisper"))
    said = [
        ("<|0.50|> one<|2.00|><|2.00|>", 0.5, 2.0),
        ("<|1.00|> two<|3.00|>", 1.0, 3.0),
        ("<|0.50|> no<|9.00|>", 0.5, 9.0),
    ]
    heard_states: list[Any] = []

    def generate(self: Any, **given: Any) -> dict[str, Any]:
        heard_states.append(given["encoder_outputs"].last_hidden_state)
        assert given["force_unique_generate_call"]
        text, start, end = said[len(heard_states) - 1]
        tokens = torch.tensor(tokenizer.encode(text, add_special_tokens=False))
        times = torch.linspace(start, end, len(tokens))
        return {"segments": [[{"start": start, "end": end, "tokens": tokens, "token_timestamps": times}]]}

    monkeypatch.setattr(transformers.WhisperForConditionalGeneration, "generate", generate)
    clip = voice(6, 3)
    (heard,) = heard_words([clip])
    assert heard.segments == ((0.5, 2.0, "one"), (3.0, 5.0, "two"))
    assert [w for words in heard.words for _, _, w in words] == ["one", "two"]
    assert all(3.0 <= a <= b <= 5.0 for a, b, _ in heard.words[1])
    first, second = heard_states
    assert not torch.equal(first, second)
    heard_states.clear()
    heard_words([clip[2 * RATE :]])
    assert torch.equal(heard_states[0], second)


def test_a_checkpoint_without_alignment_heads_gives_no_words(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    folder = tmp_path / "whisper"
    shutil.copytree(tiny_folder("whisper"), folder)
    settings = json.loads((folder / "generation_config.json").read_text())
    del settings["alignment_heads"]
    (folder / "generation_config.json").write_text(json.dumps(settings))
    (heard,) = heard_words([voice(3)], folder)
    assert heard.segments
    assert heard.words == ()


def test_the_decoder_starts_as_transformers_own_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The token in generation_config.json goes before that in config.json, which may be a default of the class."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    folder = tmp_path / "whisper"
    shutil.copytree(tiny_folder("whisper"), folder)
    expected = heard_words([voice(3)], folder)
    settings = json.loads((folder / "generation_config.json").read_text())
    config = json.loads((folder / "config.json").read_text())
    first = settings["decoder_start_token_id"]
    (folder / "config.json").write_text(json.dumps({**config, "decoder_start_token_id": first - 1}))
    started: list[int] = []
    forward = transformers.WhisperForConditionalGeneration.forward

    @functools.wraps(forward)  # transformers looks at its signature
    def spy(self: Any, *args: Any, **given: Any) -> Any:
        started.append(int(torch.as_tensor(given["decoder_input_ids"])[0, 0]))
        return forward(self, *args, **given)

    monkeypatch.setattr(transformers.WhisperForConditionalGeneration, "forward", spy)
    assert heard_words([voice(3)], folder) == expected
    assert started[0] == first


def test_settings_of_generation_by_others_change_nothing_or_are_one_line(tmp_path: Path) -> None:
    """Greedy whatever they say: regression, a million beams took all memory."""
    folder = tmp_path / "whisper"
    shutil.copytree(tiny_folder("whisper"), folder)
    expected = heard_words([voice(1)], folder)
    path = folder / "generation_config.json"
    settings = json.loads(path.read_text())
    path.write_text(json.dumps({**settings, "num_beams": 1_000_000, "do_sample": True}))
    assert heard_words([voice(1)], folder) == expected
    for changes in ({"lang_to_id": ["<|en|>"]}, {"lang_to_id": {"<|en|>": "x"}}, {"decoder_start_token_id": 10**9}):
        path.write_text(json.dumps({**settings, **changes}))
        with pytest.raises(SerkitError, match=r"generation_config\.json"):
            heard_words([voice(1)], folder)
    path = folder / "preprocessor_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "feature_size": 128}))  # of large-v3, say
    with pytest.raises(SerkitError, match="has a front end of 128 mel bands, its weights take 80"):
        heard_words([voice(1)], folder)


def test_words_are_told_from_the_begin_of_the_clip(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of several windows, and without those that are dropped because nobody speaks."""

    class Wordy(Parrot):
        def __call__(self, given: Sequence[np.ndarray]) -> list[Heard]:
            return [
                dataclasses.replace(h, words=(((0.1, 0.4, "first"), (0.4, 0.9, "last")),))
                for h in super().__call__(given)
            ]

    monkeypatch.setattr(transcripts, "TransformersWhisper", lambda *_, **options: Wordy() if options["words"] else 0)
    hear = transcripts.listener("whisper/random", engine="transformers", words=True)
    (found,) = hear([voice(40)])
    assert len(found.segments) == len(found.words) == 2
    (first, _), (later, _) = found.words
    assert first == (0.1, 0.4, "first")
    assert later[0] == pytest.approx(found.segments[1][0] + 0.1)
    hiss = (0.01 * np.random.default_rng(0).standard_normal(2 * RATE)).astype(np.float32)
    monkeypatch.setattr(transcripts, "TransformersWhisper", lambda *_, **options: Wordy(no_speech=0.9))
    (quiet,) = transcripts.listener("whisper/random", engine="transformers", words=True)([hiss])
    assert quiet.flags == ("no_speech",)
    assert quiet.segments == quiet.words == ()
