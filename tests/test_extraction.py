import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from serkit.encoders.logmel import Logmel
from serkit.encoding import SAMPLE_RATE_HZ, EncoderSpec, n_frames
from serkit.engines import encode
from serkit.errors import RunFailed, SerkitError
from serkit.extraction import compute, extract, lacking
from serkit.features import require_complete
from serkit.progress import Progress
from serkit.sizes import estimate
from serkit.store import FeatureStore
from serkit.types import Manifest, Utterance

SOURCES = Path(__file__).parents[1] / "src"


class Level:
    """Mean and peak of every 100 ms, times ``gain``; counts its calls."""

    def __init__(self, gain: float = 1.0, name: str = "level") -> None:
        self.spec = EncoderSpec(name, "audio", dim=2, window=1600, hop=1600, params={"gain": gain})
        self.gain, self.seen, self.loads = gain, 0, 0

    def load(self, device: str = "cpu") -> None:
        self.loads += 1

    def __call__(self, items: Sequence[Any]) -> list[np.ndarray]:
        self.seen += len(items)
        found = []
        for samples in items:
            frames = n_frames(len(samples), self.spec)
            padded = np.pad(samples, (0, max(0, frames * 1600 - len(samples))))[: frames * 1600].reshape(frames, 1600)
            found.append(np.stack([padded.mean(1), padded.max(1)], axis=1) * np.float32(self.gain))
        return found


class Letters:
    """Code of each letter."""

    def __init__(self) -> None:
        self.spec = EncoderSpec("letters", "text", dim=1)
        self.seen: list[str] = []

    def load(self, device: str = "cpu") -> None:
        """Nothing to load."""

    def __call__(self, items: Sequence[Any]) -> list[np.ndarray]:
        self.seen += items
        return [np.array([[ord(c)] for c in text or " "], dtype=np.float32) for text in items]


def corpus(folder: Path, n: int = 6, **more: Mapping[str, object]) -> Manifest:
    """``n`` clips of noise, 0.3 s and longer; ``more`` are further fields by utterance id."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    rows = []
    for k in range(n):
        name = f"u{k}"
        soundfile.write(folder / f"{name}.wav", rng.uniform(-0.5, 0.5, 4800 + 1600 * k), SAMPLE_RATE_HZ)
        rows.append(Utterance(**{"id": name, "audio": f"{name}.wav", "text": f"word {k}", **more.get(name, {})}))
    return Manifest("noise", (), tuple(rows), root=str(folder))


def test_what_is_stored_is_what_compute_gives_bit_for_bit(tmp_path: Path) -> None:
    manifest = corpus(tmp_path / "audio")
    encoders = {"a": Level(), "mel": Logmel("logmel/24"), "t": Letters()}
    extracted = extract(manifest, encoders, tmp_path / "store")
    require_complete(extracted)
    for u in manifest:
        samples = soundfile.read(manifest.audio_path(u), dtype="float32")[0]
        served = compute(samples, encoders, text=u.text)
        for name, encoder in encoders.items():
            stored = extracted[name].get(u.id)
            assert stored.dtype == served[name].dtype == np.float16
            assert stored.tobytes() == served[name].tobytes()
            assert extracted[name].frames(u.id) == len(stored)
            assert stored.shape[1] == encoder.spec.dim
    assert extracted["a"].ids == manifest.ids
    with pytest.raises(SerkitError, match="no utterance 'u00'; did you mean 'u0'"):
        extracted["a"].get("u00")
    with pytest.raises(SerkitError, match="reads text, and none was given"):
        compute(samples, [Letters()])


@pytest.mark.parametrize("jobs", [1, 2])
def test_recordings_without_a_sound_are_known_by_name_also_after_a_resume(tmp_path: Path, jobs: int) -> None:
    manifest = corpus(tmp_path / "audio")
    soundfile.write(tmp_path / "audio" / "u2.wav", np.zeros(8000), SAMPLE_RATE_HZ)
    soundfile.write(tmp_path / "audio" / "u4.wav", np.full(8000, 0.25), SAMPLE_RATE_HZ)  # an offset is no sound
    for encoder in (Level(), Level(gain=2.0)):
        for _ in range(2):
            found = extract(manifest, {"level": encoder, "t": Letters()}, tmp_path / "store", jobs=jobs)
            assert found["level"].silent == ("u2", "u4")
            assert found["t"].silent == ()


def test_nothing_is_done_twice_and_content_decides_what_is_the_same(tmp_path: Path) -> None:
    manifest = corpus(tmp_path / "audio")
    encoder = Level()
    extract(manifest, [encoder], tmp_path / "store")
    extract(manifest, [encoder], tmp_path / "store")
    assert encoder.seen == 6
    shutil.move(tmp_path / "audio", tmp_path / "moved")
    renamed = Manifest(
        "other", (), tuple(Utterance(f"x-{u.id}", u.audio) for u in manifest), root=str(tmp_path / "moved")
    )
    require_complete(extract(renamed, [encoder], tmp_path / "store"))
    assert encoder.seen == 6, "another folder, corpus and id, the same content"
    loud = np.full(4800, 0.9)
    soundfile.write(tmp_path / "moved" / "u0.wav", loud, SAMPLE_RATE_HZ)
    features = extract(renamed, [encoder], tmp_path / "store")["level"]
    assert encoder.seen == 7
    assert features.get("x-u0")[0, 0] == pytest.approx(0.9, abs=1e-3), "a replaced file is not served stale"


def test_stretches_of_one_recording_are_items_of_their_own(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "long.wav", np.repeat([0.1, 0.2, 0.3], 8000), SAMPLE_RATE_HZ)
    rows = tuple(Utterance(f"s{k}", "long.wav", start_s=k * 0.5, end_s=k * 0.5 + 0.5) for k in range(3))
    same = Utterance("again", "long.wav", start_s=0.5, end_s=1.0)
    encoder = Level()
    features = extract(Manifest("x", (), (*rows, same), root=str(tmp_path)), [encoder], tmp_path / "store")["level"]
    means = [float(features.get(f"s{k}")[0, 0]) for k in range(3)]
    assert means == pytest.approx([0.1, 0.2, 0.3], abs=1e-3)
    np.testing.assert_array_equal(features.get("again"), features.get("s1"))
    assert encoder.seen == 3


def test_audio_is_decoded_once_for_all_encoders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from serkit import engines

    decoded: list[str] = []
    load = engines.load
    monkeypatch.setattr(engines, "load", lambda path, **times: decoded.append(path) or load(path, **times))
    manifest = corpus(tmp_path / "audio")
    extract(manifest, {"one": Level(), "two": Level(2.0), "alias": Level()}, tmp_path / "store")
    assert len(decoded) == 6
    extract(manifest, {"one": Level(), "three": Level(3.0)}, tmp_path / "store")
    assert len(decoded) == 12


def broken(folder: Path) -> Manifest:
    manifest = corpus(folder, 9)
    (folder / "u0.wav").write_text("this is not audio")
    (folder / "u1.wav").write_bytes(b"")
    soundfile.write(folder / "u2.wav", np.full(800, np.nan), SAMPLE_RATE_HZ, subtype="FLOAT")
    (folder / "u3.wav").unlink()
    soundfile.write(folder / "u4.wav", np.full(320, 0.5), SAMPLE_RATE_HZ)  # 20 ms
    soundfile.write(folder / "u5.wav", np.zeros(16000), SAMPLE_RATE_HZ)
    return manifest


@pytest.mark.parametrize("jobs", [1, 2])
def test_broken_files_are_listed_stop_nothing_and_are_excluded_by_name(tmp_path: Path, jobs: int) -> None:
    manifest = broken(tmp_path / "audio")
    encoder = Logmel("logmel/24")
    extracted = extract(manifest, {"mel": encoder}, tmp_path / "store", jobs=jobs)
    features = extracted["mel"]
    assert features.ids == ("u4", "u5", "u6", "u7", "u8")
    assert list(features.missing) == ["u0", "u1", "u2", "u3"]
    for name, words in {"u0": "looks like text", "u1": "empty", "u2": "NaN", "u3": "no such file"}.items():
        assert words in features.missing[name]
    with pytest.raises(SerkitError, match=r"'u2' has no features: .*NaN"):
        features.get("u2")
    with pytest.raises(SerkitError, match=r"^4 of 9 utterances .*'u0' \(.*; and 1 more.*exclude: \[u0, u1, u2, u3\]$"):
        require_complete(extracted)
    rows = features.store.failures
    assert {f.id for f in rows.values()} == {"u0", "u1", "u2", "u3"}
    require_complete(extract(manifest, {"mel": encoder}, tmp_path / "store", exclude=["u0", "u1", "u2", "u3"]))
    with pytest.raises(SerkitError, match="no utterance 'u33' in noise; did you mean 'u3'"):
        extract(manifest, {"mel": encoder}, tmp_path / "store", exclude=["u33"])


def test_a_failure_is_tried_again_when_asked_or_when_the_file_changes(tmp_path: Path) -> None:
    class Shy(Level):
        refuses = True

        def __call__(self, items: Sequence[Any]) -> list[np.ndarray]:
            if self.refuses and any(len(samples) == 4800 for samples in items):
                raise SerkitError("too short for me")
            return super().__call__(items)

    manifest, encoder = corpus(tmp_path / "audio"), Shy()
    features = extract(manifest, {"shy": encoder}, tmp_path / "store")["shy"]
    assert features.missing == {"u0": "too short for me"}
    assert len(features) == 5, "the others of its batch are done"
    encoder.refuses, encoder.seen = False, 0
    assert "u0" in extract(manifest, {"shy": encoder}, tmp_path / "store")["shy"].missing
    assert encoder.seen == 0
    require_complete(extract(manifest, {"shy": encoder}, tmp_path / "store", retry=True))
    assert encoder.seen == 1
    (tmp_path / "audio" / "u1.wav").write_text("spoilt")
    assert "u1" in extract(manifest, {"shy": encoder}, tmp_path / "store")["shy"].missing
    soundfile.write(tmp_path / "audio" / "u1.wav", np.zeros(6000), SAMPLE_RATE_HZ)
    require_complete(extract(manifest, {"shy": encoder}, tmp_path / "store"))


def test_an_encoder_that_fails_names_the_utterance_and_finished_work_stays(tmp_path: Path) -> None:
    class Fragile(Level):
        def __call__(self, items: Sequence[Any]) -> list[np.ndarray]:
            if any(len(samples) == 4800 for samples in items):
                raise ZeroDivisionError("by\nzero")
            return super().__call__(items)

    manifest = corpus(tmp_path / "audio")
    with pytest.raises(
        RunFailed, match=r"^encoder 'level' failed on utterance 'u0': ZeroDivisionError: by zero; .*\[u0\]$"
    ):
        extract(manifest, [Fragile()], tmp_path / "store", batch_seconds=0.1)
    assert len(FeatureStore(tmp_path / "store", Level().spec)) == 5
    with pytest.raises(RunFailed, match=r"'huge'.*dtype: float32"):
        extract(manifest, [Level(1e9, "huge")], tmp_path / "store")
    wrong = Level()
    wrong.__class__ = type("Wrong", (Level,), {"__call__": lambda self, items: [np.zeros((3, 2), np.float32)] * 99})
    with pytest.raises(RunFailed, match="gave 99 arrays"):
        encode(wrong, [np.zeros(1600, np.float32)], ["u0"])


def test_texts_come_from_the_corpus_or_from_transcripts_and_a_missing_one_is_named(tmp_path: Path) -> None:
    manifest = corpus(tmp_path / "audio", 4, u1={"text": None}, u2={"text": "same"}, u3={"text": "same"})
    encoder = Letters()
    with pytest.raises(SerkitError, match=r"'letters' reads text, and 1 of 4 utterances have none: 'u1'"):
        extract(manifest, [encoder], tmp_path / "store")
    features = extract(manifest, [encoder], tmp_path / "store", texts={"u1": "heard", "u2": "same"})["letters"]
    assert sorted(encoder.seen) == ["heard", "same", "word 0"], "one text is encoded once"
    assert "".join(chr(int(c)) for c in features.get("u1")[:, 0]) == "heard"
    np.testing.assert_array_equal(features.get("u2"), features.get("u3"))
    empty = extract(manifest, [encoder], tmp_path / "store", empty_text=True)["letters"]
    assert empty.get("u1").shape == (1, 1)


def test_the_size_is_said_before_the_first_byte_and_a_small_disk_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = corpus(tmp_path / "audio")
    encoders = {"mel": Logmel("logmel/24"), "t": Letters()}
    before = estimate(manifest, {n: e.spec for n, e in encoders.items()}, tmp_path / "store")
    assert not (tmp_path / "store").exists()
    said = []

    def announce(size: Any) -> None:
        said.append(size)
        assert not list((tmp_path / "store").glob("*/shard*"))

    features = extract(manifest, encoders, tmp_path / "store", announce=announce)["mel"]
    assert said == [before] or said[0].bytes == before.bytes
    assert before.bytes["mel"] == features.store.n_bytes
    assert before.frames["mel"] == sum(features.frames(i) for i in features.ids)
    assert before.audio_s == pytest.approx(sum(0.3 + 0.1 * k for k in range(6)))
    assert "h of audio (mel" in str(before)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(1, 1, 1000))
    with pytest.raises(RunFailed, match=r"need .* kB \(mel alone .*1 kB left: choose another place with --store"):
        extract(manifest, encoders, tmp_path / "other")
    assert not list((tmp_path / "other").glob("*/shard*"))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(1, 1, before.total_bytes + 100))
    louder = {"louder": Level(2.0)}
    later = lacking(manifest, louder, tmp_path / "other")
    assert later.bytes == estimate(manifest, {"louder": louder["louder"].spec}, tmp_path / "other").bytes
    with pytest.raises(RunFailed, match=r"kB \(.*\), and later ones \d+ B, the disk of"):
        extract(manifest, encoders, tmp_path / "other", reserved=later.total_bytes + 100)
    require_complete(extract(manifest, encoders, tmp_path / "store"))  # nothing left to write: no refusal


def test_progress_counts_utterances_and_audio(tmp_path: Path) -> None:
    seen: list[Progress] = []
    manifest = broken(tmp_path / "audio")
    extract(manifest, [Level(), Letters()], tmp_path / "store", progress=seen.append)
    last = {p.stage: p for p in seen}
    assert (last["hash"].done, last["hash"].total, last["hash"].failed) == (9, 9, 1)
    assert last["extract"].done == last["extract"].total == 8
    assert last["extract"].failed == 3
    assert last["extract"].audio_s == pytest.approx(last["extract"].total_audio_s)


def test_workers_and_this_process_store_the_same(tmp_path: Path) -> None:
    manifest = corpus(tmp_path / "audio", 12)
    encoders = {"mel": Logmel("logmel/24")}
    alone = extract(manifest, encoders, tmp_path / "one", jobs=1)["mel"]
    together = extract(manifest, encoders, tmp_path / "two", jobs=2)["mel"]
    for name in manifest.ids:
        assert alone.get(name).tobytes() == together.get(name).tobytes()
    local = type("Local", (Level,), {})
    with pytest.raises(SerkitError, match=r"cannot be sent to another process .* jobs=1"):
        extract(manifest, [local()], tmp_path / "two", jobs=2)
    with pytest.raises(SerkitError, match="no extraction engine 'loacl'; did you mean 'local'"):
        extract(manifest, encoders, tmp_path / "two", engine="loacl")


class Threads(Level):
    """Says on how many threads it may compute."""

    def __call__(self, items: Sequence[Any]) -> list[np.ndarray]:
        return [np.full((1, 2), float(os.environ["OMP_NUM_THREADS"]), np.float32) for _ in items]


def test_workers_compute_on_one_thread_unless_told_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = corpus(tmp_path / "audio")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert extract(manifest, [Threads()], tmp_path / "a", jobs=2)["level"].get("u0")[0, 0] == 1
    assert "OMP_NUM_THREADS" not in os.environ
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert extract(manifest, [Threads()], tmp_path / "b", jobs=2)["level"].get("u0")[0, 0] == 3


RUN = """
import sys
import serkit.store
from serkit.encoders.logmel import Logmel
from serkit.extraction import extract
from serkit.types import Manifest
if __name__ == "__main__":
    def tell(p):
        print(p.stage, p.done, flush=True)
    extract(Manifest.load(sys.argv[1]), [Logmel("logmel/24")], sys.argv[2], jobs=int(sys.argv[3]), batch_seconds=1.0,
            shard_bytes=20_000, progress=tell)
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_run_that_is_stopped_goes_on_where_it_was(tmp_path: Path, how: signal.Signals) -> None:
    manifest = corpus(tmp_path / "audio", 120)
    manifest.save(tmp_path / "manifest.jsonl")
    script = tmp_path / "run.py"
    script.write_text(RUN)
    run = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path / "manifest.jsonl"), str(tmp_path / "store"), "2"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(SOURCES)},
    )  # fmt: skip
    assert run.stdout is not None
    while not list((tmp_path / "store").glob("*/shard-*.json")):
        assert run.poll() is None or list((tmp_path / "store").glob("*/shard-*.json"))
        time.sleep(0.002)
    workers: list[str] = []
    with contextlib.suppress(OSError):  # no /proc, or the run is over already
        workers = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()
    run.send_signal(how)
    run.communicate(timeout=60)
    encoder = Logmel("logmel/24")
    kept = len(FeatureStore(tmp_path / "store", encoder.spec))
    assert kept > 0
    seen: list[Progress] = []
    features = extract(manifest, {"mel": encoder}, tmp_path / "store", progress=seen.append)
    require_complete(features)
    assert [p for p in seen if p.stage == "extract"][-1].total == 120 - kept if kept < 120 else True
    assert features["mel"].store.verify() == []
    assert list((tmp_path / "store").glob("*/*.part")) == []
    deadline = time.monotonic() + 60
    while any(Path(f"/proc/{pid}").exists() for pid in workers):
        assert time.monotonic() < deadline, "workers outlive the run"
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("device", "given", "budget"),
    [("cpu", None, "120 s, 256"), ("cuda", None, "960 s, 1024"), ("cuda", 7.0, "7 s, 1024")],
)
def test_a_gpu_gets_larger_batches(
    device: str, given: float | None, budget: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(items: object, budget_s: float, max_items: int) -> None:
        raise SerkitError(f"{budget_s:g} s, {max_items}")

    monkeypatch.setattr("serkit.batching.batches", stop)
    with pytest.raises(SerkitError, match=f"^{budget}$"):
        extract(corpus(tmp_path / "audio"), [Level()], tmp_path / "store", device=device, batch_seconds=given)
