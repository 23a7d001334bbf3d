"""Stretches of speech: found where it is, the same in any chunks, in constant memory."""

from __future__ import annotations

import importlib.util
import itertools
import tracemalloc

import numpy as np
import pytest

from serkit.errors import SerkitError
from serkit.segments import Segmenter, SegmentSettings, SileroVad, SpectralVad, Stretch
from serving.signals import RATE, find_speech, quiet, voice


def joined() -> np.ndarray:
    return np.concatenate([quiet(1.5), voice(2.0), quiet(1.2), voice(1.0, 3), quiet(2.0)])


def test_speech_is_found_where_it_is() -> None:
    found = list(find_speech([joined()]))
    assert len(found) == 2
    for stretch, (start, end) in zip(found, [(1.5, 3.5), (4.7, 5.7)], strict=True):
        assert stretch.start_s == pytest.approx(start - 0.2, abs=0.15)
        assert stretch.end_s == pytest.approx(end + 0.2, abs=0.25)
        assert 0.3 * (end - start) < stretch.speech / RATE <= stretch.end_s - stretch.start_s


@pytest.mark.parametrize("sizes", [(1,), (160,), (477, 3), (16_000,), (50_000,), (7, 90_000)])
def test_chunks_of_any_size_give_the_same_stretches(sizes: tuple[int, ...]) -> None:
    sound = joined()[: 4 * RATE] if sizes == (1,) else joined()
    whole = list(find_speech([sound]))
    chunks, at, k = [], 0, 0
    while at < len(sound):
        chunks.append(sound[at : at + sizes[k % len(sizes)]])
        at += sizes[k % len(sizes)]
        k += 1
    assert list(find_speech(chunks)) == whole
    assert len(whole) > 0


@pytest.mark.parametrize("vad", [SpectralVad, SileroVad])
@pytest.mark.parametrize("n", [0, 1, 159, 160, 511, 512, 3440, 16_000, 16_001])
def test_one_score_for_every_begun_hop(vad: type, n: int) -> None:
    if vad is SileroVad and importlib.util.find_spec("silero_vad") is None:
        pytest.skip("silero-vad is not installed")
    detector = vad()
    scores = np.concatenate([detector.push(voice(2)[:n]), detector.finish()])
    assert len(scores) == -(-n // detector.hop)
    assert ((scores >= 0) & (scores <= 1)).all()


@pytest.mark.parametrize("level", [0.0, 1e-4, 0.05])
def test_silence_and_steady_noise_hold_no_speech(level: float) -> None:
    assert list(find_speech([quiet(10, level)])) == []


def test_a_steady_tone_holds_no_speech() -> None:
    time = np.arange(8 * RATE) / RATE
    tone = (0.3 * np.sin(2 * np.pi * 440 * time)).astype(np.float32)
    assert sum(s.speech for s in find_speech([tone])) < 0.5 * RATE


def test_a_click_is_no_speech() -> None:
    sound = quiet(3)
    sound[24_000:24_080] = 0.5
    assert list(find_speech([sound])) == []


def test_long_speech_is_cut_without_a_gap() -> None:
    sound = np.concatenate([quiet(1), voice(20), quiet(1)])
    found = list(find_speech([sound], SegmentSettings(max_s=6.0)))
    assert len(found) >= 4
    assert all(s.end - s.start <= 6.5 * RATE for s in found)
    assert all(a.end == b.start for a, b in itertools.pairwise(found))


def test_stretches_never_overlap_and_stay_inside() -> None:
    rng = np.random.default_rng(5)
    parts = [voice(rng.uniform(0.2, 2), k) if k % 2 else quiet(rng.uniform(0.3, 1), seed=k) for k in range(30)]
    sound = np.concatenate(parts)
    found = list(find_speech([sound], SegmentSettings(pad_s=1.0, max_s=3.0)))
    assert len(found) > 5
    assert found[0].start >= 0
    assert found[-1].end <= len(sound)
    assert all(a.end <= b.start for a, b in itertools.pairwise(found))


def test_speech_at_both_ends_of_a_clip_is_kept() -> None:
    sound = voice(0.8)
    found = list(find_speech([sound]))
    assert [(s.start, s.end) for s in found] == [(0, len(sound))] or found[0].start_s < 0.2


def test_what_is_needed_is_never_given_up_too_early() -> None:
    """A buffer that drops samples before ``needed_from`` still holds every stretch."""
    segmenter, sound = Segmenter(SegmentSettings(max_s=3.0)), np.concatenate([joined(), voice(9), quiet(1)])
    kept_from, found = 0, []
    for at in range(0, len(sound), 700):
        for stretch in segmenter.push(sound[at : at + 700]):
            assert stretch.start >= kept_from
            found.append(stretch)
        opened = segmenter.open_from
        assert opened is None or opened >= kept_from
        assert segmenter.needed_from >= kept_from
        kept_from = segmenter.needed_from
    assert all(s.start >= kept_from for s in segmenter.finish())
    assert len(found) > 3


def test_memory_does_not_grow_with_the_recording() -> None:
    block = np.concatenate([voice(4), quiet(1)])
    tracemalloc.start()
    segmenter, n = Segmenter(), 0
    for _ in range(10):
        n += len(segmenter.push(block))
    first = tracemalloc.get_traced_memory()[1]
    for _ in range(20):
        n += len(segmenter.push(block))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert n > 25
    assert peak - first < 200_000
    assert segmenter.needed_from > len(block) * 28


def test_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(SerkitError, match="did you mean 'silero'"):
        SegmentSettings(vad="silera")  # type: ignore[arg-type]
    with pytest.raises(SerkitError, match=r"off 0\.6 and on 0\.5"):
        SegmentSettings(off=0.6)
    with pytest.raises(SerkitError, match="max_s at least 1 s"):
        SegmentSettings(max_s=0.1)


def test_silero_without_its_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SerkitError, match="pip install 'silero-vad"):
        Segmenter(SegmentSettings(vad="silero"))


def test_a_stretch_knows_its_seconds() -> None:
    assert (Stretch(8000, 24_000, 100).start_s, Stretch(8000, 24_000, 100).end_s) == (0.5, 1.5)
