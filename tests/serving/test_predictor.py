"""One recording, one answer: however it is handed in, however long or broken it is."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import soundfile

import serkit
from serkit.errors import SerkitError
from serkit.serving.bundle import open_bundle, write_bundle
from serkit.serving.predictor import Model
from serkit.serving.results import Prediction
from serkit.serving.thresholds import Thresholds

from .signals import GOLDEN, RATE, most_memory, quiet, talk, voice, wav


def shares(prediction: Prediction) -> np.ndarray:
    return np.array(list(prediction.probabilities.values()))


def test_file_bytes_array_and_stream_agree_to_the_last_digit(tmp_path: Path, model: Model) -> None:
    sound = np.round(talk(3) * 32768) / 32768
    path = tmp_path / "a recording – with spaces.wav"
    path.write_bytes(wav(sound, subtype="PCM_16"))
    stream = model.stream()
    for at in range(0, len(sound), 1000):
        stream.push(sound[at : at + 1000])
    stream.finish()
    with path.open("rb") as file:
        ways = [model.predict(path), model.predict(str(path)), model.predict(path.read_bytes()), model.predict(file)]
    ways += [model.predict(sound, rate_hz=RATE), model.predict((sound * 32768).astype(np.int16), rate_hz=RATE)]
    ways.append(stream.prediction)
    rows = [{**p.to_row(), "path": None} for p in ways]
    assert all(row == rows[0] for row in rows)
    assert len(ways[0].segments) == 3
    assert ways[0].path == str(path)


def test_a_batch_is_each_clip_alone(model: Model) -> None:
    clips = [voice(0.4 + 0.5 * k, k, 100.0 + 40 * k) for k in range(5)]
    together = model.predict_proba(clips, rate_hz=RATE)
    alone = np.stack([shares(model.predict(x, rate_hz=RATE, by="clip")) for x in clips])
    assert np.abs(together - alone).max() < 1e-5
    assert np.allclose(together.sum(axis=1), 1)
    assert np.ptp(together[:, 0]) > 0.01
    assert list(model.classes_) == list(model.labels)
    assert model.predict_proba([]).shape == (0, 5)


def test_labels_restrict_and_renormalise(model: Model) -> None:
    sound = voice(1.5)
    whole = model.predict(sound, rate_hz=RATE).probabilities
    some = model.predict(sound, rate_hz=RATE, labels=("sadness", "anger")).probabilities
    assert list(some) == ["sadness", "anger"]
    assert sum(some.values()) == pytest.approx(1)
    assert some["anger"] / some["sadness"] == pytest.approx(whole["anger"] / whole["sadness"])
    with pytest.raises(SerkitError, match="did you mean 'anger'"):
        model.predict(sound, rate_hz=RATE, labels=("angr", "sadness"))
    with pytest.raises(SerkitError, match="two or more, each once"):
        model.predict(sound, rate_hz=RATE, labels=("anger", "anger"))


def test_unsure_is_below_what_was_measured(model: Model) -> None:
    sound = voice(1.5)
    confidence = model.predict(sound, rate_hz=RATE).confidence
    cut = model.unsure_below(model.labels, None)
    assert (model.predict(sound, rate_hz=RATE).abstain == "unsure") == (confidence < cut)
    probabilities, truth = model.bundle.held_out
    right = probabilities.argmax(axis=1) == truth
    wanted = float(right.mean())
    reached = model.unsure_below(model.labels, wanted)
    assert right[probabilities.max(axis=1) >= reached].mean() >= wanted
    with pytest.raises(SerkitError, match="no confidence reached that precision"):
        model.predict(sound, rate_hz=RATE, threshold=0.999)


def test_a_threshold_for_labels_that_were_never_measured_is_refused(model: Model) -> None:
    bundle = open_bundle(GOLDEN)
    probabilities, truth = bundle.held_out
    kept = truth < 2
    bundle.held_out = probabilities[kept], truth[kept]
    labels = bundle.labels[2:4]
    with pytest.raises(SerkitError, match=f"no threshold for {labels[0]}, {labels[1]}: the model keeps no measured"):
        Thresholds(bundle).unsure_below(labels, 0.8)
    assert Thresholds(bundle).unsure_below(labels, None) == 0.0


@pytest.mark.parametrize(("n", "cut"), [(19, 0.0), (20, 1.01)])
def test_fewer_than_twenty_measured_answers_call_none_unsure(n: int, cut: float) -> None:
    bundle = open_bundle(GOLDEN)
    probabilities, _ = bundle.held_out
    bundle.held_out = probabilities[:n], (probabilities[:n].argmax(axis=1) + 1) % len(bundle.labels)  # all wrong
    assert Thresholds(bundle).unsure_below(bundle.labels, None) == cut


def test_thresholds_follow_the_labels_asked_for(model: Model) -> None:
    two = model.unsure_below(("anger", "sadness"), None)
    assert two != model.unsure_below(model.labels, None)


@pytest.mark.parametrize("sound", [np.zeros(3 * RATE, np.float32), quiet(4), quiet(4, 0.05), np.zeros(240, np.float32)])
def test_no_speech_is_said_and_the_label_filled(sound: np.ndarray, model: Model) -> None:
    found = model.predict(sound, rate_hz=RATE)
    assert found.no_speech
    assert found.abstain == "no_speech"
    assert found.label in model.labels
    assert shares(found).sum() == pytest.approx(1)
    assert found.segments == ()


def test_the_answer_of_a_long_recording_is_the_mean_of_its_parts(model: Model) -> None:
    sound = talk(16)
    assert len(sound) > 20 * RATE
    found = model.predict(sound, rate_hz=RATE)
    weights = np.array([s.speech_s for s in found.segments])
    parts = np.array([list(s.probabilities.values()) for s in found.segments])
    assert np.allclose(shares(found), weights @ parts / weights.sum(), atol=1e-9)
    clip = model.predict(sound, rate_hz=RATE, by="clip")
    assert clip.segments == ()
    assert np.array_equal(shares(clip), shares(found))


def test_a_short_recording_is_answered_as_it_is(model: Model) -> None:
    sound = talk(2)
    found = model.predict(sound, rate_hz=RATE)
    assert shares(found) == pytest.approx(model.predict_proba([sound], rate_hz=RATE)[0], abs=1e-6)


def test_probabilities_of_many_are_those_of_each_however_long(model: Model, tmp_path: Path) -> None:
    path = tmp_path / "long.wav"
    path.write_bytes(wav(talk(16)))
    assert model.predict(path).duration_s > model.max_clip_s
    with path.open("rb") as file:
        many = [voice(1.0), talk(16), talk(2)]
        found = model.predict_proba(many, rate_hz=RATE)
        alone = np.stack([shares(model.predict(x, rate_hz=RATE, by="clip")) for x in many])
        assert np.abs(found - alone).max() < 1e-5
        files = [path, str(path), path.read_bytes(), file]
        assert np.abs(model.predict_proba(files) - shares(model.predict(path, by="clip"))).max() < 1e-5  # type: ignore[arg-type]


def test_what_is_no_recording_is_said_in_one_line(model: Model) -> None:
    torch = pytest.importorskip("torch")
    sound = voice(1.0)
    wanted = shares(model.predict(sound, rate_hz=RATE))
    assert np.array_equal(shares(model.predict(torch.from_numpy(sound), rate_hz=RATE)), wanted)
    data = wav(sound)
    assert np.array_equal(shares(model.predict(bytearray(data))), shares(model.predict(data)))
    assert np.array_equal(shares(model.predict(memoryview(data))), shares(model.predict(data)))
    for wrong, reason in (
        (sound.tolist(), "got a list; expected a path, .* several recordings see predict_many"),
        (None, "got a NoneType; expected a path"),
        ({"path": "a.wav"}, "got a dict"),
    ):
        for ask in (model.predict, model.embed):
            with pytest.raises(SerkitError, match=reason):
                ask(wrong)  # type: ignore[operator]
    with pytest.raises(SerkitError, match="takes a list of recordings, got a single one"):
        model.predict_proba("a.wav")  # type: ignore[arg-type]
    with pytest.raises(SerkitError, match=r"example: no such file; the recording included .* is serkit\.example\(\)"):
        model.predict("example")
    with pytest.raises(SerkitError, match="2 recordings and 1 texts"):
        model.predict_proba([sound, sound], rate_hz=RATE, texts=["a"])
    with pytest.raises(SerkitError, match=r"write \['anger', 'neutral'\]"):
        model.predict(sound, rate_hz=RATE, labels="anger,neutral")
    assert repr(model).startswith(f"Model({model.id}: anger, ")


class Entry:
    """Something with a path, as an entry of a folder is."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __fspath__(self) -> str:
        return str(self.path)


class Table:
    """Columns of paths, as pandas has them."""

    columns = ("path",)

    def __array__(self, dtype: object = None, copy: object = None) -> np.ndarray:
        return np.array([["a.wav"]], dtype=object)


def test_recordings_as_other_programs_hand_them_over(model: Model, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    sound, path = voice(1.0), tmp_path / "a.wav"
    path.write_bytes(wav(sound, subtype="FLOAT"))
    wanted = model.predict(path)
    assert model.predict(Entry(path)).probabilities == wanted.probabilities  # type: ignore[call-overload]
    assert model.predict(np.array(str(path))).probabilities == wanted.probabilities
    entry = next(os.scandir(tmp_path))
    for many in ([Entry(path)], [entry], [bytearray(path.read_bytes())], np.array([path], dtype=object)):
        assert list(model.predict(many)) == [wanted.label]  # type: ignore[call-overload]
    assert list(model.predict([torch.from_numpy(sound)], rate_hz=RATE)) == [wanted.label]
    reading, writing = os.pipe()
    os.close(writing)
    closed, pipe = path.open("rb"), os.fdopen(reading, "rb")
    closed.close()
    with pipe, (tmp_path / "b").open("wb") as written:
        for wrong, reason in (
            ((sound, RATE), r"samples together with their rate; expected predict\(samples, rate_hz=rate\)"),
            ((np.float64(RATE), sound), "samples together with their rate"),
            (np.array([["a.wav"], ["b.wav"]]), "got a ndarray of texts or objects; expected .* one column of paths"),
            (Table(), "got a Table of texts or objects; expected samples, or one column"),
            (closed, "a file that is closed"),
            (written, "a file opened for writing"),
            (pipe, r"such as a pipe; give its content: predict\(file\.read\(\)\)"),
            ("", "an empty name; expected the path of a recording"),
            ("file:///tmp/a.wav", "give the path itself, without file://"),
            (Path("https://example.org/a.wav"), "addresses are not fetched"),
            ("~/none.wav", "~ is expanded by shells alone"),
            (b"PK\x03\x04" + bytes(60), "a zip archive, to be unpacked first"),
        ):
            with pytest.raises(SerkitError, match=reason):
                model.predict(wrong)  # type: ignore[call-overload]
    with pytest.raises(SerkitError, match="takes a list of recordings, got a Table: give one column of it"):
        model.predict_many(Table())  # type: ignore[arg-type]
    with pytest.raises(serkit.SerkitError, match=r"no option 'sample_rate'; .*rate_hz"):
        model.predict(sound, sample_rate=RATE)


def test_a_long_recording_without_speech(model: Model) -> None:
    found = model.predict(quiet(25), rate_hz=RATE)
    assert found.abstain == "no_speech"
    assert found.duration_s == 25
    assert found.label in model.labels


@pytest.mark.parametrize(
    ("rate", "kind", "subtype", "channels"),
    [
        (8_000, "WAV", "PCM_U8", 1),
        (96_000, "WAV", "PCM_24", 2),
        (44_100, "FLAC", "PCM_16", 1),
        (48_000, "WAV", "FLOAT", 8),
        (16_000, "OGG", "VORBIS", 1),
        (22_050, "AIFF", "PCM_16", 1),
        (16_000, "MP3", None, 1),
    ],
)
def test_every_format_is_answered(rate: int, kind: str, subtype: str | None, channels: int, model: Model) -> None:
    import soxr

    sound = soxr.resample(voice(1.5), RATE, rate)
    content = wav(np.repeat(sound[:, None], channels, axis=1), rate, kind, subtype)
    found = model.predict(content)
    assert found.duration_s == pytest.approx(1.5, abs=0.06)
    assert not found.no_speech


def broken() -> dict[str, tuple[bytes, str]]:
    good = wav(voice(1.0))
    flac = wav(voice(2.0), kind="FLAC", subtype="PCM_16")
    hole = voice(1.0)
    hole[500] = np.nan
    huge = voice(1.0) * 1000
    return {
        "empty": (b"", "is empty"),
        "text": (b"this is not audio at all, but a letter", "not audio"),
        "zeros": (bytes(5000), "not audio"),
        "only a header": (good[:44], "no samples|not audio|truncated"),
        "cut WAV": (good[: len(good) // 2], "truncated"),
        "cut FLAC": (flac[: len(flac) // 2], "truncated|damaged"),
        "NaN": (wav(hole, subtype="FLOAT"), "NaN or infinite"),
        "another scale": (wav(huge, subtype="FLOAT"), "divide by full scale"),
    }


@pytest.mark.parametrize("name", sorted(broken()))
def test_bad_audio_is_one_clear_line(name: str, model: Model) -> None:
    content, reason = broken()[name]
    with pytest.raises(SerkitError, match=reason) as found:
        model.predict(content)
    assert "\n" not in str(found.value)


def test_bad_arrays_are_one_clear_line(model: Model) -> None:
    cases: list[tuple[np.ndarray, float | None, str]] = [
        (voice(1), None, "needs its sampling rate"),
        (voice(1), 0, "sampling rate"),
        (voice(1), float("nan"), "sampling rate"),
        (np.zeros(0, np.float32), RATE, "not empty"),
        (np.zeros((2, 3, 4), np.float32), RATE, "expected"),
        (np.full(100, np.inf, np.float32), RATE, "NaN or infinite"),
        (np.array([b"a"]), RATE, "expected float"),
        (np.array(["a"]), RATE, "a: no such file"),
    ]
    for sound, rate, reason in cases:
        with pytest.raises(SerkitError, match=reason):
            model.predict(sound, rate_hz=rate)
    with pytest.raises(SerkitError, match="a file has its own"):
        model.predict(wav(voice(1)), rate_hz=RATE)
    with pytest.raises(SerkitError, match="predict_many takes the rest"):
        model.predict([voice(1)], rate_hz=RATE, threshold=0.0)
    with pytest.raises(SerkitError, match=r"labels \(none\): expected two or more"):
        model.predict(voice(1), rate_hz=RATE, labels=[])
    with pytest.raises(SerkitError, match="did you mean 'threshold'"):
        model.predict(voice(1), rate_hz=RATE, thresholds=0.5)


def test_what_is_too_long_is_refused() -> None:
    import serkit

    from .signals import GOLDEN

    short = serkit.load(GOLDEN, max_s=3.0)
    assert short.predict(voice(2.9), rate_hz=RATE).label
    with pytest.raises(SerkitError, match="limit"):
        short.predict(wav(voice(3.5)))
    with pytest.raises(SerkitError, match="longer than 3 s"):
        short.predict(voice(3.5), rate_hz=RATE)


def test_many_go_on_after_a_bad_one(tmp_path: Path, model: Model) -> None:
    (tmp_path / "good.wav").write_bytes(wav(voice(1)))
    (tmp_path / "bad.wav").write_bytes(b"x")
    found = model.predict_many([tmp_path / "bad.wav", tmp_path / "good.wav"], errors="return", by="clip")
    assert isinstance(found[0], SerkitError)
    assert isinstance(found[1], Prediction)
    with pytest.raises(SerkitError, match="not audio"):
        model.predict_many([tmp_path / "bad.wav"])


def test_embeddings_are_of_unit_length_and_tell_voices_apart(model: Model) -> None:
    one, two = (model.embed(voice(1.5, 1, p), rate_hz=RATE) for p in (110.0, 240.0))
    assert one.dtype == np.float32
    assert np.linalg.norm(one) == pytest.approx(len(model.bundle.networks) ** 0.5, rel=1e-5)
    assert np.array_equal(one, model.embed(voice(1.5, 1, 110.0), rate_hz=RATE))
    assert np.abs(one - two).max() > 0.01


def test_the_embedding_of_a_long_recording_is_the_mean_over_its_speech(model: Model) -> None:
    """It was one clip of that length for the networks, which took all memory of a machine."""
    sound = np.concatenate([talk(6), quiet(25)])
    assert len(sound) > model.max_clip_s * RATE
    found = model.embed(sound, rate_hz=RATE)
    parts = model.predict(sound, rate_hz=RATE).segments
    clips = [sound[round(p.start_s * RATE) : round(p.end_s * RATE)] for p in parts]
    sums = sum(p.speech_s * model.embed(clip, rate_hz=RATE) for p, clip in zip(parts, clips, strict=True))
    ends = np.cumsum([len(one) for one in model.scorer.embedded(clips[0], None)])
    expected = [one / np.linalg.norm(one) for one in np.split(sums, ends[:-1])]
    np.testing.assert_allclose(found, np.concatenate(expected), atol=1e-5)
    assert np.array_equal(found, model.embed(wav(sound, subtype="FLOAT")))
    silent = quiet(30)
    begin = silent[: round(model.max_clip_s * RATE)]
    assert np.array_equal(model.embed(silent, rate_hz=RATE), model.embed(begin, rate_hz=RATE))


def test_what_is_handed_over_wrongly_is_one_line(tmp_path: Path, model: Model) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(wav(voice(1)))
    with path.open(encoding="latin-1") as file, pytest.raises(SerkitError, match=r'open.path, "rb"'):
        model.predict(file)  # type: ignore[call-overload]
    with pytest.raises(SerkitError, match="sampling rate '16000' Hz, expected a whole number"):
        model.predict(voice(1), rate_hz="16000")  # type: ignore[call-overload]
    for turn in ((0, 1, "A"), {"start_s": 0, "end_s": 1}):
        with pytest.raises(SerkitError, match=rf"got a {type(turn).__name__}; expected serkit.serving.timeline.Turn"):
            model.predict(path, by="turn", turns=[turn])  # type: ignore[call-overload]
    with pytest.raises(SerkitError, match="errors 'ignore'; known: raise, return"):
        model.predict_many([path], errors="ignore")  # type: ignore[arg-type]


def test_a_number_that_is_a_text_is_one_line(model: Model) -> None:
    """As from a configuration."""
    for option in ("threshold", "coverage", "window_s"):
        options = {option: "0.8", "by": "window"}
        with pytest.raises(SerkitError, match=rf"^{option} '0\.8': expected a number, got a str$"):
            model.predict(talk(1), rate_hz=RATE, **options)
    with pytest.raises(SerkitError, match=r"^partial_s '1': expected a number"):
        model.stream(partial_s="1")  # type: ignore[arg-type]  # that is the point


def test_a_pickled_model_is_loaded_from_where_its_bundle_lies(tmp_path: Path) -> None:
    """As in another process; one that was replaced meanwhile is another model."""
    path = tmp_path / "mine.zip"
    path.write_bytes(GOLDEN.read_bytes())
    found = serkit.load(path, threads=2, max_s=7.0, calls=GOLDEN)
    content = pickle.dumps(found)
    assert len(content) < 1000
    again = pickle.loads(content)
    assert again.predict(talk(1), rate_hz=RATE) == found.predict(talk(1), rate_hz=RATE)
    assert (again._threads, again._max_s) == (2, 7.0)
    assert again.calls is not None
    assert again.calls.id == found.id
    bundle = open_bundle(path)
    path.unlink()
    write_bundle({**bundle.head, "name": "another"}, open_bundle(GOLDEN).contents(), path)
    with pytest.raises(SerkitError, match=r"is 'another@\w+' now, and the model that was pickled was 'tiny@"):
        pickle.loads(content)


def test_memory_does_not_grow_with_the_recording(tmp_path: Path, model: Model) -> None:
    block = np.concatenate([talk(4), quiet(5)])
    short, long = (most_memory(model, tmp_path / f"{n}.flac", block, RATE, n, parts=5) for n in (0.7, 3))
    assert long < short + 2_000_000


@pytest.mark.slow
def test_three_hours_take_bounded_memory(tmp_path: Path, model: Model) -> None:
    import resource

    path = tmp_path / "long.flac"
    block = np.concatenate([talk(2), quiet(40)])
    with soundfile.SoundFile(path, "w", RATE, 1, format="FLAC") as file:
        for _ in range(round(3 * 3600 * RATE / len(block))):
            file.write(block)
    model.predict(talk(8), rate_hz=RATE)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = model.predict(path)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert found.duration_s > 2.9 * 3600
    assert grown < 150_000  # kB


def test_only_networks_whose_features_changed_are_run_again(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = []

    class Counted:
        def __init__(self, key: tuple[str, str]) -> None:
            self.key, self.run_it = key, model.scorer.sessions[key].run

        def run(self, *asked: object) -> list[np.ndarray]:
            ran.append(self.key)
            return self.run_it(*asked)  # type: ignore[no-any-return]

    monkeypatch.setattr(model.scorer, "_last", None)
    monkeypatch.setitem(vars(model.scorer), "sessions", {key: Counted(key) for key in model.scorer.sessions})
    sound, columns = voice(1.0), model.columns(None)
    first = model.score_one(sound, None, columns)
    assert sorted(ran) == sorted(model.scorer.sessions)
    assert np.array_equal(model.score_one(sound, None, columns), first)
    assert len(ran) == len(model.scorer.sessions)
    features = model.scorer.features(sound, None)
    one = next(iter(features))
    monkeypatch.setattr(model.scorer, "features", lambda *_: {**features, one: features[one] * 1.5})
    found = model.score_one(sound, None, columns)
    reads = {key for key, entry in model.scorer.entries.items() if one in entry.features}
    assert set(ran[len(model.scorer.sessions) :]) == reads
    model.scorer._last = None
    assert np.array_equal(model.score_one(sound, None, columns), found)
    assert not np.allclose(found, first)
