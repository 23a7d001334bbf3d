"""Log-mel bands in a graph are those of the encoder."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("onnx")

from serkit.encoders.logmel import Logmel
from serkit.serving.sound_graphs.logmel import logmel

from ..signals import voice, wide
from .running import run


@pytest.mark.parametrize("n_bands", [24, 80])
@pytest.mark.parametrize("sound", [wide(1.0), voice(0.025), np.zeros(900)], ids=["speech", "one frame", "silence"])
def test_bands(n_bands: int, sound: np.ndarray) -> None:
    (found,) = run(lambda graph, x: [logmel(graph, x, n_bands)], x=sound)
    expected = Logmel(f"logmel/{n_bands}")([sound.astype(np.float32)])[0]
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < 1e-3
