"""Silero's states: of the published networks, whatever the level, and a clear word where its weights are absent."""

from __future__ import annotations

import importlib.machinery
import importlib.util
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import soxr
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


def forget() -> None:
    """Read the weights anew next time."""
    _silero.network.cache_clear()
    _silero.basis.cache_clear()


def folder() -> Path:
    """Where the package's weights lie."""
    found = importlib.util.find_spec("silero_vad")
    assert found is not None
    assert found.submodule_search_locations is not None
    return Path(found.submodule_search_locations[0]) / "data"


def run(file: str, chunks: np.ndarray, **given: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One of the package's ONNX graphs in onnxruntime: (time,) probabilities and (time, 128) recurrent states."""
    onnxruntime.set_default_logger_severity(3)
    session = onnxruntime.InferenceSession(str(folder() / file))
    memory, speech, states = np.zeros((2, 1, 128), np.float32), [], []
    for chunk in chunks:
        answer, memory = session.run(None, {"input": chunk[None], "state": memory, **given})
        speech.append(answer.item())
        states.append(memory[0, 0])
    return np.array(speech), np.stack(states)


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
    published = Published()
    published.load_state_dict(load_file(folder() / "silero_vad_16k.safetensors"))
    chunks = dsp.framed(voice, _silero.CONTEXT + _silero.HOP, _silero.HOP)
    [(states, scores)] = _silero.states([_silero.network()], chunks)
    expected, speech = published(torch.from_numpy(chunks.copy()))
    assert states.shape == (len(chunks), 320)
    np.testing.assert_allclose(states, expected, atol=2e-4)
    np.testing.assert_allclose(scores, speech, atol=1e-5)


def test_the_network_of_half_the_precision_is_the_published_one(voice: np.ndarray) -> None:
    chunks = dsp.framed(voice, 576, 512)
    [(states, scores)] = _silero.states([_silero.network("half")], chunks)
    speech, recurrent = run("silero_vad_half.onnx", chunks)
    np.testing.assert_allclose(states[:, 192:], recurrent, atol=1e-4)
    np.testing.assert_allclose(scores, speech, atol=1e-5)


def test_the_network_for_8_khz_hears_what_it_would_at_8_khz(voice: np.ndarray) -> None:
    [(states, scores)] = _silero.states([_silero.network("8k")], dsp.framed(voice, 576, 512))
    slow = soxr.resample(voice, 16_000, 8_000).astype(np.float32)
    speech, recurrent = run("silero_vad_op18_ifless.onnx", dsp.framed(slow, 288, 256), sr=np.array(8000))
    n = min(len(scores), len(speech))
    assert np.corrcoef(scores[:n], speech[:n])[0, 1] > 0.98
    assert np.corrcoef(states[:n, 192:].ravel(), recurrent[:n].ravel())[0, 1] > 0.98


def test_all_are_the_three_side_by_side(voice: np.ndarray) -> None:
    chunks = dsp.framed(voice * np.float32(0.5 / np.abs(voice).max()), 576, 512)
    alone = [_silero.states([_silero.network(name)], chunks)[0] for name in ("16k", "half", "8k")]
    found = Silero("silero/all")([voice])[0]
    np.testing.assert_allclose(found, np.concatenate([states for states, _ in alone], axis=1), atol=1e-5)
    whole = Silero("silero/all/functionals")([voice])[0]
    spoken = [states[speech > 0.5] if (speech > 0.5).sum() >= 3 else states for states, speech in alone]
    expected = np.concatenate([part for clip in spoken for part in (clip.mean(0), clip.std(0))])
    np.testing.assert_allclose(whole[0], expected, atol=1e-5)
    np.testing.assert_allclose(whole[0, :640], Silero("silero/functionals")([voice])[0][0], atol=1e-5)


def test_long_clips_are_cut_inside_and_stay_the_same(voice: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Silero()([voice])[0]
    monkeypatch.setattr(dsp.chunks, "__defaults__", (7,))
    chunks = dsp.framed(voice * np.float32(0.5 / np.abs(voice).max()), 576, 512)
    np.testing.assert_allclose(_silero.states([_silero.network()], chunks)[0][0], whole, atol=1e-5)


@pytest.mark.parametrize("name", list(Silero.names()))
def test_the_level_does_not_matter(name: str, voice: np.ndarray) -> None:
    loud, faint = Silero(name)([voice, voice * np.float32(0.03)])
    np.testing.assert_allclose(loud, faint, atol=1e-3)


def test_functionals_are_of_the_frames_that_hold_speech(voice: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = Silero()([voice])[0].astype(np.float64)
    heard = np.arange(len(frames)) % 3 == 0
    monkeypatch.setattr(_silero.Network, "speech", lambda self, recurrent: heard * 1.0)
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
    with pytest.raises(SerkitError, match="'silero/all' has pool"):
        Silero("silero/all/functionals", pool=2)


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    forget()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SerkitError, match=r"pip install 'silero-vad>=6\.2\.3,<6\.3'"):
        Silero().load()


@pytest.mark.parametrize(("content", "said"), [(b"other", "does not have the"), (None, "has no silero_vad_16k")])
def test_other_weights_are_refused(
    content: bytes | None, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").mkdir()
    if content is not None:
        (tmp_path / "data" / "silero_vad_16k.safetensors").write_bytes(content)
    spec = importlib.machinery.ModuleSpec("silero_vad", None, is_package=True)
    spec.submodule_search_locations = [str(tmp_path)]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    forget()
    with pytest.raises(SerkitError, match=said):
        Silero().load()
    forget()


def test_frames_and_statistics_of_a_clip_share_one_reading(voice: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    speech = _silero.Network.speech
    monkeypatch.setattr(
        _silero.Network, "speech", lambda self, recurrent: read.append(len(recurrent)) or speech(self, recurrent)
    )
    shifted = voice + np.float32(1e-3) * np.arange(len(voice), dtype=np.float32) / len(voice)
    frames = Silero(pool=2, trim=True)([shifted])[0]
    alone = Silero("silero/functionals", trim=True)([shifted])[0]
    assert len(read) == 1
    assert frames.shape[1] == 320
    assert alone.shape == (1, 640)
