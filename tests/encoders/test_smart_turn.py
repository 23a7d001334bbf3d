"""Smart Turn's encoder: as transformers' Whisper computes it, from the published weights where their package is."""

from __future__ import annotations

import importlib.machinery
import importlib.util
from pathlib import Path

import numpy as np
import pytest

from serkit import package_files
from serkit.encoders import _smart_turn
from serkit.encoders.smart_turn import SmartTurn, _random
from serkit.errors import MissingExtra, SerkitError
from serkit.onnx_weights import initializers

RATE = 16_000


def voice(seconds: float, seed: int = 0) -> np.ndarray:
    """Syllables of harmonics with a little noise, a whole number of frames long."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * RATE) // 320 * 320) / RATE
    phase = 2 * np.pi * np.cumsum(130 + 40 * np.sin(2 * np.pi * 0.9 * t + seed)) / RATE
    sound = sum(np.sin(k * phase) / k for k in range(1, 30)) * np.maximum(0, np.sin(2 * np.pi * 2 * t))
    return (0.1 * sound + 0.001 * rng.standard_normal(len(t))).astype(np.float32)


@pytest.fixture(scope="module")
def package() -> bytes:
    """The file of the installed package."""
    try:
        return package_files.find(package_files.PIPECAT, _smart_turn.FILE, "this test").read_bytes()
    except MissingExtra as error:
        pytest.skip(str(error))


def by_transformers(weights: dict[str, np.ndarray], bands: np.ndarray, *, heads: int, layers: int) -> list[np.ndarray]:
    """The states of transformers' own encoder for one clip, from (2 * time, 80)."""
    import torch
    from transformers import WhisperConfig
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    dim, time = weights["conv1.bias"].shape[0], len(bands) // 2
    config = WhisperConfig(
        d_model=dim,
        encoder_layers=layers,
        encoder_attention_heads=heads,
        encoder_ffn_dim=len(weights["layers.0.fc1.bias"]),
        max_source_positions=time,
        num_mel_bins=80,
    )
    encoder = WhisperEncoder(config).eval()
    state = {name: torch.from_numpy(np.array(values)) for name, values in weights.items()}
    state["embed_positions.weight"] = state["embed_positions.weight"][-time:]
    encoder.load_state_dict(state, strict=True)
    with torch.no_grad():
        found = encoder(torch.from_numpy(bands.T.copy())[None], output_hidden_states=True)
    return [states[0].numpy() for states in found.hidden_states]


def random_weights(network: _smart_turn.Network) -> dict[str, np.ndarray]:
    """What a network was made of, by transformers' names."""
    found = {"embed_positions.weight": network.positions}
    for k, (weight, bias, _) in enumerate(network.convolutions, 1):
        found[f"conv{k}.weight"] = weight.reshape(3, -1, len(bias)).transpose(2, 1, 0)
        found[f"conv{k}.bias"] = bias
    for k, layer in enumerate(network.layers):
        for name, matrix, bias in zip(_smart_turn._LINEAR, layer.matrices, layer.biases, strict=True):
            found[f"layers.{k}.{name}.weight"] = matrix.T
            if name != "self_attn.k_proj":
                found[f"layers.{k}.{name}.bias"] = bias
        for name, (weight, bias) in zip(_smart_turn._NORMS, layer.norms, strict=True):
            found[f"layers.{k}.{name}.weight"], found[f"layers.{k}.{name}.bias"] = weight, bias
    dim = len(found["conv1.bias"])
    return {**found, "layer_norm.weight": np.ones(dim, np.float32), "layer_norm.bias": np.zeros(dim, np.float32)}


def test_states_are_those_of_transformers() -> None:
    pytest.importorskip("transformers", reason="needs the extra foundation")
    network, bands = _random(), np.random.default_rng(1).standard_normal((60, 80)).astype(np.float32)
    wanted = by_transformers(random_weights(network), bands, heads=2, layers=2)
    found = network.states(bands, 2)
    for k in range(2):  # the last of transformers' has been normalised once more
        np.testing.assert_allclose(found[k], wanted[k], atol=2e-5)
    last = found[2] - found[2].mean(-1, keepdims=True)
    np.testing.assert_allclose(last / np.sqrt(found[2].var(-1, keepdims=True) + 1e-5), wanted[2], atol=1e-4)


def test_log_mel_is_that_of_transformers_at_the_end_of_a_window_of_8_seconds() -> None:
    transformers = pytest.importorskip("transformers", reason="needs the extra foundation")
    front = transformers.WhisperFeatureExtractor(chunk_length=8)
    for seconds in (0.02, 1.0, 3.3, 7.9):
        sound = voice(seconds)
        whole = np.pad(sound, (8 * RATE - len(sound), 0))
        wanted = front(whole, sampling_rate=RATE, do_normalize=True, return_tensors="np").input_features[0].T
        np.testing.assert_allclose(_smart_turn.log_mel(sound), wanted[-2 * (len(sound) // 320) :], atol=2e-4)


def test_published_weights_have_every_place_of_whisper_tiny(package: bytes) -> None:
    pytest.importorskip("transformers", reason="needs the extra foundation")
    weights = _smart_turn.weights_of(initializers(package))
    bands = _smart_turn.log_mel(voice(2.0))
    wanted = by_transformers(weights, bands, heads=6, layers=4)
    found = _smart_turn.published().states(bands, 4)
    for k in range(4):
        np.testing.assert_allclose(found[k], wanted[k], atol=2e-4)


def test_published_states_are_near_those_of_the_published_graph(package: bytes) -> None:
    onnx = pytest.importorskip("onnx", reason="needs the extra onnx")
    import onnxruntime

    graph = onnx.load_from_string(package)
    leaving = ("add_20", "add_146", "add_268", "add_390", "add_512")  # what each layer adds up to
    for name in leaving:
        graph.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    bands = _smart_turn.log_mel(voice(8.0))
    wanted = session.run(list(leaving), {"input_features": bands.T[None]})
    alike = [
        np.corrcoef(ours.ravel(), theirs[0].ravel())[0, 1]
        for ours, theirs in zip(_smart_turn.published().states(bands, 4), wanted, strict=True)
    ]
    assert (np.array(alike) > (0.99, 0.95, 0.95, 0.8, 0.7)).all(), alike  # the graph rounds between layers


def test_level_does_not_matter_and_layers_do() -> None:
    encoder, sound = SmartTurn.tiny(), voice(1.5)
    np.testing.assert_allclose(encoder([sound])[0], encoder([sound * 0.5])[0], atol=0.01)
    network = encoder._made
    assert network is not None
    states = network.states(_smart_turn.log_mel(sound), 2)
    assert not np.allclose(states[1], states[2], atol=0.1)
    pooled = states[2][: len(states[2]) // 2 * 2].reshape(-1, 2, 16).mean(1)
    np.testing.assert_allclose(encoder([sound])[0][: len(pooled)], pooled, atol=1e-5)


def test_a_long_clip_is_cut_into_stretches_of_one_length() -> None:
    encoder, sound = SmartTurn.tiny(), voice(12.0)
    halves = [encoder([part])[0] for part in (sound[: len(sound) // 2], sound[len(sound) // 2 :])]
    np.testing.assert_allclose(encoder([sound])[0], np.concatenate(halves), atol=1e-5)


def test_functionals_are_mean_and_deviation_of_a_layer(package: bytes) -> None:
    sound = voice(1.2)
    states = _smart_turn.published().states(_smart_turn.log_mel(sound), 2)
    for layer in (1, 2):
        frames = SmartTurn(layer=layer)([sound])[0]
        np.testing.assert_allclose(frames, states[layer], atol=1e-4)
        whole = SmartTurn("smart_turn/functionals", layer=layer)([sound])[0]
        assert whole.shape == (1, 768)
        np.testing.assert_allclose(whole[0], np.concatenate([frames.mean(0), frames.std(0)]), atol=1e-4)
    assert SmartTurn(layer=1).spec.fingerprint != SmartTurn(layer=2).spec.fingerprint


@pytest.mark.parametrize("layer", [-1, 5, 1.5, True, "last"])
def test_a_layer_that_there_is_not_is_refused(layer: object) -> None:
    with pytest.raises(SerkitError, match="expected a whole number from 0 to 4"):
        SmartTurn(layer=layer)  # type: ignore[arg-type]


def test_what_would_pool_a_single_frame_is_refused() -> None:
    with pytest.raises(SerkitError, match="'smart_turn' has pool and pooling"):
        SmartTurn("smart_turn/functionals", pool=2)


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    _smart_turn.published.cache_clear()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"pip install --no-deps 'pipecat-ai>=1\.0,<2'"):
        SmartTurn().load()


def test_other_weights_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / _smart_turn.FILE
    path.parent.mkdir(parents=True)
    spec = importlib.machinery.ModuleSpec("pipecat", None, is_package=True)
    spec.submodule_search_locations = [str(tmp_path)]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    _smart_turn.published.cache_clear()
    again = r"pip install --force-reinstall --no-deps 'pipecat-ai>=1\.0,<2'$"  # pip has that version, it thinks
    with pytest.raises(SerkitError, match=rf"has no smart-turn-v3\.2-cpu\.onnx.* {again}"):
        SmartTurn().load()
    path.write_bytes(b"other")
    with pytest.raises(SerkitError, match=rf"does not have the weights of Smart Turn 3\.2.* {again}"):
        SmartTurn().load()
    _smart_turn.published.cache_clear()
