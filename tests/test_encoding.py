import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serkit.encoding import EncoderSpec, n_frames, pool_frames
from serkit.errors import SerkitError

SPEC = EncoderSpec("x", "audio", dim=3, window=400, hop=160)


@given(st.integers(0, 50_000), st.integers(1, 800), st.integers(1, 400), st.integers(0, 500), st.integers(1, 9))
def test_the_frame_rule_counts_windows_that_fit(n_samples, window, hop, padding, pool):
    spec = EncoderSpec("x", "audio", dim=1, window=window, hop=hop, padding=padding, pool=pool)
    length = max(n_samples + padding, window)
    starts = len(range(0, length - window + 1, hop))
    assert n_frames(n_samples, spec) == len(range(0, starts, pool)) >= 1


@given(st.integers(1, 40), st.integers(1, 9))
def test_pooling_averages_neighbours(time, pool):
    frames = np.random.default_rng(0).normal(size=(time, 2)).astype(np.float32)
    found = pool_frames(frames, pool)
    wanted = [frames[k : k + pool].mean(axis=0) for k in range(0, time, pool)]
    assert found.dtype == np.float32
    assert np.allclose(found, wanted, atol=1e-6)


def test_the_fingerprint_follows_the_numbers_and_nothing_else():
    assert dataclasses.replace(SPEC, licence="MIT", note="said").fingerprint == SPEC.fingerprint
    for change in (
        {"dim": 4},
        {"layer": 3},
        {"pool": 2},
        {"revision": "2"},
        {"params": {"a": 1}},
        {"dtype": "float32"},
    ):
        assert dataclasses.replace(SPEC, **change).fingerprint != SPEC.fingerprint, change


def test_rates_and_refusals():
    assert SPEC.rate_hz == 100.0
    assert dataclasses.replace(SPEC, pool=4).rate_hz == 25.0
    assert np.isnan(EncoderSpec("t", "text", dim=2).rate_hz)
    with pytest.raises(SerkitError, match="window 0 and hop 0"):
        EncoderSpec("x", "audio", dim=1)
    with pytest.raises(SerkitError, match="dim 0"):
        EncoderSpec("x", "text", dim=0)
    for dtype, nearest in (("float64", "did you mean 'float"), ("int8", "known: float16, float32")):
        with pytest.raises(SerkitError, match=f"encoder 'x': dtype '{dtype}'; {nearest}"):
            dataclasses.replace(SPEC, dtype=dtype)
