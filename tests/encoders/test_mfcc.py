from __future__ import annotations

import numpy as np
import pytest

from serkit import dsp
from serkit.encoders.logmel import Logmel
from serkit.encoders.mfcc import Mfcc
from serkit.errors import SerkitError

SAMPLES = (0.1 * np.random.default_rng(0).standard_normal(8_000)).astype(np.float32)


def test_is_scipys_cosine_transform_of_the_log_bands() -> None:
    from scipy.fft import dct

    bands = Logmel("logmel/40")([SAMPLES])[0][:, :-1]
    expected = dct(bands, type=2, norm="ortho", axis=1)[:, :20]
    np.testing.assert_allclose(Mfcc("mfcc/20", deltas=0)([SAMPLES])[0], expected, atol=2e-4)


def test_slopes_follow_the_coefficients() -> None:
    plain = Mfcc("mfcc/13", deltas=0)([SAMPLES])[0]
    both = Mfcc("mfcc/13", deltas=2)([SAMPLES])[0]
    assert both.shape[1] == 39
    np.testing.assert_array_equal(both[:, :13], plain)
    np.testing.assert_allclose(both[:, 13:26], dsp.deltas(plain), atol=1e-5)
    np.testing.assert_allclose(both[:, 26:], dsp.deltas(dsp.deltas(plain)), atol=1e-5)
    assert Mfcc(deltas=0).spec.fingerprint != Mfcc(deltas=1).spec.fingerprint
    with pytest.raises(SerkitError, match="expected 0, 1 or 2"):
        Mfcc(deltas=3)
