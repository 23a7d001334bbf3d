"""Silero's states: of the published network, whatever the level, and a clear word where its weights are absent."""

from __future__ import annotations

import importlib.machinery
import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from serkit import dsp
from serkit.encoders import _silero
from serkit.encoders.silero import Silero
from serkit.errors import SerkitError

RATE = 16_000


@pytest.fixture
def voice() -> np.ndarray:
    """Syllables of harmonics between two silences, 2.4 s."""
    rng = np.random.default_rng(3)
    t = np.arange(round(2.4 * RATE)) / RATE
    phase = 2 * np.pi * np.cumsum(130 + 40 * np.sin(2 * np.pi * 0.9 * t)) / RATE
    sound = sum(np.sin(k * phase) / k for k in range(1, 30)) * np.maximum(0, np.sin(2 * np.pi * 2 * t))
    sound[: RATE // 2] = sound[-RATE // 2 :] = 0
    return (0.1 * sound + 0.001 * rng.standard_normal(len(t))).astype(np.float32)


class Published(torch.nn.Module):
    """The package's tinygrad_model.py, said again with torch's own layers; weights by their published names."""

    def __init__(self) -> None:
        super().__init__()
        self.stft_conv = torch.nn.Conv1d(1, 258, 256, stride=128, bias=False)
        self.conv1 = torch.nn.Conv1d(129, 128, 3, padding=1)
        self.conv2 = torch.nn.Conv1d(128, 64, 3, stride=2, padding=1)
        self.conv3 = torch.nn.Conv1d(64, 64, 3, stride=2, padding=1)
        self.conv4 = torch.nn.Conv1d(64, 128, 3, padding=1)
        self.lstm_cell = torch.nn.LSTMCell(128, 128)
        self.final_conv = torch.nn.Conv1d(128, 1, 1)

    @torch.no_grad()
    def forward(self, chunks: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        states, scores, memory = [], [], None
        for chunk in chunks:
            waves = self.stft_conv(torch.nn.functional.pad(chunk[None, None], (0, 64), mode="reflect"))
            third = self.conv3(self.conv2(self.conv1(waves[:, :129].hypot(waves[:, 129:])).relu()).relu()).relu()
            fourth = self.conv4(third).relu()[..., 0]
            memory = self.lstm_cell(fourth, memory)
            scores.append(self.final_conv(memory[0].relu()[..., None]).sigmoid().item())
            states.append(torch.cat([third[0, :, 0], fourth[0], memory[0][0]]).numpy())
        return np.stack(states), np.array(scores)


def test_it_is_the_published_network(voice: np.ndarray) -> None:
    folder = Path(str(importlib.util.find_spec("silero_vad").submodule_search_locations[0]))  # type: ignore[union-attr, index]
    published = Published()
    published.load_state_dict(load_file(folder / "data" / "silero_vad_16k.safetensors"))
    chunks = dsp.framed(voice, _silero.CONTEXT + _silero.HOP, _silero.HOP)
    states, scores = _silero.network().states(chunks)
    expected, speech = published(torch.from_numpy(chunks.copy()))
    assert states.shape == (len(chunks), 320)
    np.testing.assert_allclose(states, expected, atol=2e-4)
    np.testing.assert_allclose(scores, speech, atol=1e-5)


def test_long_clips_are_cut_inside_and_stay_the_same(voice: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Silero()([voice])[0]
    monkeypatch.setattr(dsp.chunks, "__defaults__", (7,))
    chunks = dsp.framed(voice * np.float32(0.5 / np.abs(voice).max()), 576, 512)
    np.testing.assert_allclose(_silero.network().states(chunks)[0], whole, atol=1e-5)


@pytest.mark.parametrize("name", ["silero", "silero/functionals"])
def test_the_level_does_not_matter(name: str, voice: np.ndarray) -> None:
    loud, faint = Silero(name)([voice, voice * np.float32(0.03)])
    np.testing.assert_allclose(loud, faint, atol=1e-3)


def test_functionals_are_of_the_frames_that_hold_speech(voice: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = Silero()([voice])[0].astype(np.float64)
    heard = np.arange(len(frames)) % 3 == 0
    states = _silero.Network.states
    monkeypatch.setattr(_silero.Network, "states", lambda self, chunks: (states(self, chunks)[0], heard * 1.0))
    found = Silero("silero/functionals")([voice * np.float32(0.999)])[0]
    chosen = frames[heard]
    assert found.shape == (1, 640)
    np.testing.assert_allclose(found[0], np.concatenate([chosen.mean(0), chosen.std(0)]), atol=2e-3)


@pytest.mark.parametrize("seconds", [0.001, 0.03, 0.06, 0.5])
def test_silence_and_short_clips_have_statistics(seconds: float) -> None:
    for samples in (np.zeros(round(seconds * RATE), np.float32), np.full(round(seconds * RATE), 0.3, np.float32)):
        found = Silero("silero/functionals")([samples])[0]
        assert found.shape == (1, 640)
        assert np.isfinite(found).all()


def test_a_whole_clip_has_nothing_to_pool() -> None:
    with pytest.raises(SerkitError, match="'silero' has pool"):
        Silero("silero/functionals", pool=2)


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    _silero.network.cache_clear()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SerkitError, match=r"pip install 'silero-vad>=6\.2\.3,<6\.3'"):
        Silero().load()


@pytest.mark.parametrize(("content", "said"), [(b"other", "has other weights"), (None, "has no silero_vad_16k")])
def test_other_weights_are_refused(
    content: bytes | None, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").mkdir()
    if content is not None:
        (tmp_path / "data" / "silero_vad_16k.safetensors").write_bytes(content)
    spec = importlib.machinery.ModuleSpec("silero_vad", None, is_package=True)
    spec.submodule_search_locations = [str(tmp_path)]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    _silero.network.cache_clear()
    with pytest.raises(SerkitError, match=said):
        Silero().load()
    _silero.network.cache_clear()


def test_frames_and_statistics_of_a_clip_share_one_reading(voice: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    states = _silero.Network.states
    monkeypatch.setattr(
        _silero.Network, "states", lambda self, chunks: read.append(len(chunks)) or states(self, chunks)
    )
    shifted = voice + np.float32(1e-3) * np.arange(len(voice), dtype=np.float32) / len(voice)
    frames = Silero(pool=2, trim=True)([shifted])[0]
    alone = Silero("silero/functionals", trim=True)([shifted])[0]
    assert len(read) == 1
    assert frames.shape[1] == 320
    assert alone.shape == (1, 640)
