"""emotion2vec: names derived from the public module, its values, the formulae in numpy, strict files."""

from __future__ import annotations

import json
import math
import pickle
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from pretrained_checks import check_bfloat16_stays_near, check_layers, check_padding_changes_nothing, clips, worst

from serkit import availability, checkpoints, emotion2vec_files
from serkit.checkpoint_files import wanted_files
from serkit.checkpoint_table import BY_NAME
from serkit.encoders.emotion2vec import Emotion2vec
from serkit.encoding import n_frames
from serkit.errors import SerkitError
from serkit.foundation.tiny import tiny_folder

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

# Names and shapes of FunASR's module built from the published config.yaml; no checkpoint was read for them.
GOLDEN = json.loads(Path(__file__).with_name("emotion2vec_names.json").read_text())
SIZES: dict[str, Any] = {
    "hidden_size": 768, "num_hidden_layers": 12, "prenet_layers": 4, "num_attention_heads": 12,
    "intermediate_size": 3072, "layer_norm_eps": 1e-5, "conv_dim": [512] * 7, "conv_kernel": [10, 3, 3, 3, 3, 2, 2],
    "conv_stride": [5, 2, 2, 2, 2, 2, 2], "conv_pos_depth": 5, "conv_pos_kernel": 19, "conv_pos_groups": 16,
    "num_extra_tokens": 10,
}  # fmt: skip
LARGE = SIZES | {"hidden_size": 1024, "num_attention_heads": 16, "intermediate_size": 4096}
WIDE = LARGE | {"num_hidden_layers": 2, "prenet_layers": 1}  # of the large one, as few layers as there can be

# Of FunASR's module (commit 3c58cb56) with the weights of `filled` and the clip of `chirp`: frame, feature, value; and
# the logits of its classifier.
# fmt: off
REFERENCE: dict[str, tuple[list[tuple[int, int, float]], list[float]]] = {
    "base": (
        [(0, 0, -0.11689), (0, 7, -0.76442), (0, 384, 0.52626), (0, 767, 0.45668), (1, 0, 0.152), (1, 7, -1.3208),
         (1, 384, 0.51371), (1, 767, 0.61534), (20, 0, -0.01515), (20, 7, -0.96754), (20, 384, 0.40322),
         (20, 767, 0.63133), (40, 0, 0.14899), (40, 7, -0.96257), (40, 384, 0.23747), (40, 767, 0.36919),
         (74, 0, 0.04045), (74, 7, -0.86969), (74, 384, 0.45315), (74, 767, 0.53016)],
        [0.63835, -0.77049, -2.15746, -1.92117, 0.33675, 0.97356, 2.13048, -2.68478, -1.28397],
    ),
    "wide": (
        [(0, 0, -2.6137), (0, 7, 1.88848), (0, 512, -0.58166), (0, 1023, -0.10684), (1, 0, -1.07988),
         (1, 7, 2.96529), (1, 512, -0.33845), (1, 1023, -0.3065), (20, 0, -1.76066), (20, 7, 3.12117),
         (20, 512, 0.08884), (20, 1023, 0.04497), (40, 0, -2.04396), (40, 7, 1.78057), (40, 512, 0.35135),
         (40, 1023, 0.19386), (74, 0, -2.57407), (74, 7, 2.31507), (74, 512, -0.15158), (74, 1023, 0.50569)],
        [0.82075, -2.00646, -1.61176, -0.78245, -0.83438, -0.14232, -0.94527, -0.22535, 0.10455],
    ),
}
# fmt: on
NORMS = ("norm1.weight", "norm2.weight", "norm.weight", "2.1.weight", "features.1.weight", "alibi_scale")
CONV = "modality_encoders.AUDIO.local_encoder.conv_layers.{}.{}"
AUDIO = "modality_encoders.AUDIO."


def filled(own: dict[str, Any]) -> dict[str, Any]:
    """Weights that are the same everywhere: one random vector, begun elsewhere for each name, scaled by kind."""
    vector = (np.random.PCG64(7).random_raw(65_537) >> np.uint64(11)) * 2.0**-52 - 1
    made = {}
    for name, old in own.items():
        wave = np.resize(np.roll(vector, zlib.crc32(name.encode())), tuple(old.shape)).astype(np.float32)
        if name.endswith(NORMS):
            wave = 1 + 0.35 * wave
        elif old.dim() == 1:
            wave = 0.2 * wave
        elif not name.endswith("extra_tokens"):
            gain = 1.0 if "attn" in name or "mlp" in name else 2.5
            wave = gain * wave / np.sqrt(np.prod(old.shape[1:]), dtype=np.float32)
        made[name] = torch.from_numpy(wave)
    return made


def chirp(n: int = 24_321) -> np.ndarray:
    t = np.arange(n) / 16_000
    return (0.3 * np.sin(2 * np.pi * (150 * t + 300 * t**2)) * (1 + 0.5 * np.sin(40 * t))).astype(np.float32)


def shapes(config: dict[str, Any], classes: int = 0) -> dict[str, list[int]]:
    from serkit.foundation.emotion2vec_model import Emotion2vecModel

    with torch.device("meta"):
        return {name: list(t.shape) for name, t in Emotion2vecModel(config, classes).state_dict().items()}


def test_needed_and_ignored_names_are_those_of_the_public_module_exactly() -> None:
    from serkit.foundation.emotion2vec_model import HEAD, IGNORED, PREFIX

    base = GOLDEN["base"]
    own = shapes(SIZES)
    assert {n for n in base if not n.startswith(IGNORED)} == set(own)
    assert all(any(n.startswith(p) for n in base) for p in IGNORED), "a prefix that ignores nothing"
    assert own == {name: base[name] for name in own}
    large = shapes(LARGE, 9)
    assert {name if name in HEAD else PREFIX + name: shape for name, shape in large.items()} == GOLDEN["plus-large"]


def test_the_files_on_the_hub_are_as_large_as_these_weights_and_two_moments_of_each() -> None:
    counts = {"base": GOLDEN["base"], "plus-base": shapes(SIZES, 9), "plus-large": GOLDEN["plus-large"]}
    for name, table in counts.items():
        total = sum(math.prod(shape) for shape in table.values())
        assert round(12 * total / 1e9, 2) == BY_NAME[f"emotion2vec/{name}"].download_gb
    counted = sum(math.prod(shape) for shape in shapes(SIZES).values())
    assert BY_NAME["emotion2vec/base"].parameters_m == round(counted / 1e6, 1)
    assert 0.95 < Emotion2vec("emotion2vec/base").n_weights / counted < 1.4


@pytest.mark.parametrize(("key", "config"), [("base", SIZES), ("wide", WIDE)])
def test_values_of_the_public_module(key: str, config: dict[str, Any]) -> None:
    from serkit.foundation.emotion2vec_model import Emotion2vecClassifier, Emotion2vecModel, normalised

    with torch.device("meta"):
        model = Emotion2vecModel(config, 9)
    model.load_state_dict(filled(model.state_dict()), assign=True)
    values, logits = REFERENCE[key]
    n = config["num_hidden_layers"]
    with torch.inference_mode():
        frames = model.states(torch.from_numpy(normalised(chirp(), 400))[None], None, [n])[n][0]
    assert tuple(frames.shape) == (75, config["hidden_size"])
    for frame, feature, value in values:
        assert float(frames[frame, feature]) == pytest.approx(value, abs=2e-4), (frame, feature)
    found = Emotion2vecClassifier(model, (None,) * 9).logits([chirp()])[0]
    np.testing.assert_allclose(found, logits, atol=2e-4)


def slow_states(folder: Path, samples: np.ndarray) -> list[np.ndarray]:
    """All hidden states, (frames, dim), one clip alone, in float64 numpy from the formulae."""
    table = torch.load(folder / "model.pt", weights_only=True)["model"]
    weights = {k.removeprefix("d2v_model."): v.double().numpy() for k, v in table.items()}
    config = emotion2vec_files.sizes(folder)

    def gelu(x: np.ndarray) -> np.ndarray:
        return 0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))

    def norm(x: np.ndarray, name: str | None = None) -> np.ndarray:
        x = (x - x.mean(axis=-1, keepdims=True)) / np.sqrt(x.var(axis=-1, keepdims=True) + 1e-5)
        return x if name is None else x * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    def linear(x: np.ndarray, name: str) -> np.ndarray:
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    wave = np.pad(samples.astype(np.float64), (0, max(0, 400 - len(samples))))
    x = ((wave - wave.mean()) / np.sqrt(wave.var() + 1e-5))[:, None]
    for k, (kernel, stride) in enumerate(zip(config["conv_kernel"], config["conv_stride"], strict=True)):
        weight = weights[CONV.format(k, "0.weight")]
        starts = range(0, len(x) - kernel + 1, stride)
        x = np.array([np.einsum("oik,ki->o", weight, x[at : at + kernel]) for at in starts])
        x = gelu(norm(x, CONV.format(k, "2.1")))
    x = linear(norm(x, AUDIO + "project_features.1"), AUDIO + "project_features.2")
    position, groups, kernel = x, config["conv_pos_groups"], config["conv_pos_kernel"]
    for k in range(config["conv_pos_depth"]):
        name = f"{AUDIO}relative_positional_encoder.{k + 1}.0"
        wide = np.pad(position, ((kernel // 2, kernel // 2), (0, 0)))
        inside = [np.split(wide[at : at + kernel], groups, axis=1) for at in range(len(position))]
        outside = np.split(weights[f"{name}.weight"], groups)
        made = [[np.einsum("oik,ki->o", w, part) for w, part in zip(outside, row, strict=True)] for row in inside]
        position = gelu(norm(np.array(made).reshape(len(position), -1) + weights[f"{name}.bias"]))
    tokens = weights[AUDIO + "extra_tokens"][0]
    n, heads, dim = len(tokens), config["num_attention_heads"], x.shape[1]
    x = norm(np.concatenate([tokens, x + position]), AUDIO + "context_encoder.norm")
    states = [x[n:]]
    for k in range(config["num_hidden_layers"]):
        below = config["prenet_layers"]
        name = f"{AUDIO}context_encoder.blocks.{k}" if k < below else f"blocks.{k - below}"
        query, key, value = np.split(linear(x, f"{name}.attn.qkv"), 3, axis=1)
        mixed = []
        for head in range(heads):
            at = slice(head * dim // heads, (head + 1) * dim // heads)
            scores = query[:, at] @ key[:, at].T / math.sqrt(dim / heads)
            slope = 2.0 ** (-8 * (head + 1) / heads) * weights[AUDIO + "alibi_scale"].flatten()[head]
            frames = np.arange(len(x) - n)
            scores[n:, n:] -= slope * np.abs(frames[:, None] - frames[None, :])
            shares = np.exp(scores - scores.max(axis=1, keepdims=True))
            mixed.append(shares / shares.sum(axis=1, keepdims=True) @ value[:, at])
        x = norm(x + linear(np.concatenate(mixed, axis=1), f"{name}.attn.proj"), f"{name}.norm1")
        x = norm(x + linear(gelu(linear(x, f"{name}.mlp.fc1")), f"{name}.mlp.fc2"), f"{name}.norm2")
        states.append(x[n:])
    return states


def test_every_layer_is_the_one_asked_for(folder: Path) -> None:
    samples = clips((9_000,))[0]
    check_layers(Emotion2vec, folder, samples, [s.astype(np.float32) for s in slow_states(folder, samples)])


def test_without_tokens_and_penalty_it_is_the_data2vec_of_transformers() -> None:
    """Another implementation of the front end, the position and the layers; data2vec 1 has neither of the two."""
    from transformers import Data2VecAudioConfig, Data2VecAudioModel

    from serkit.foundation.emotion2vec_model import Emotion2vecModel

    shared = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 24}
    ours = SIZES | shared | {"prenet_layers": 2, "conv_dim": [8] * 7, "conv_pos_groups": 4, "num_extra_tokens": 0}
    torch.manual_seed(5)
    model = Emotion2vecModel(ours).eval()
    for parameter in model.parameters():
        parameter.data = torch.randn_like(parameter) * 0.5
    model.audio.alibi_scale.data = torch.full((1, 1, 2, 1, 1), -1.0)  # below zero is taken as zero
    config = Data2VecAudioConfig(**shared, conv_dim=(8,) * 7, num_conv_pos_embedding_groups=4, mask_time_prob=0.0)
    theirs = Data2VecAudioModel(config).eval()
    weights = {k.removeprefix(AUDIO): v for k, v in model.state_dict().items()}
    renamed = {}
    for key in theirs.state_dict():
        parts = key.split(".")
        end = parts[-1]
        if key.startswith("feature_extractor."):
            name = f"local_encoder.conv_layers.{parts[2]}.{'0' if parts[3] == 'conv' else '2.1'}.{end}"
        elif key.startswith("feature_projection."):
            name = f"project_features.{'1' if parts[1] == 'layer_norm' else '2'}.{end}"
        elif "pos_conv_embed" in key:
            name = f"relative_positional_encoder.{int(parts[3]) + 1}.0.{end}"
        elif key.startswith("encoder.layer_norm."):
            name = f"context_encoder.norm.{end}"
        elif key.startswith("encoder.layers."):
            at = int(parts[2])
            layer = f"context_encoder.blocks.{at}" if at < 2 else f"blocks.{at - 2}"
            inner = {"layer_norm": "norm1", "final_layer_norm": "norm2", "intermediate_dense": "mlp.fc1",
                     "output_dense": "mlp.fc2", "out_proj": "attn.proj"}.get(parts[-2])  # fmt: skip
            if inner is None:
                which = ("q_proj", "k_proj", "v_proj").index(parts[-2])
                renamed[key] = weights[f"{layer}.attn.qkv.{end}"].chunk(3)[which]
                continue
            name = f"{layer}.{inner}.{end}"
        else:
            assert key == "masked_spec_embed"
            continue
        renamed[key] = weights[name]
    theirs.load_state_dict(renamed, strict=False)
    samples = torch.randn(1, 9_000)
    with torch.inference_mode():
        expected = theirs(samples).last_hidden_state.numpy()
        found = model.states(samples, None, [3])[3].numpy()
    assert expected.std() > 0.1
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_padding_changes_nothing(folder: Path) -> None:
    for layer in (0, "last"):
        check_padding_changes_nothing(Emotion2vec(f"path:{folder}", layer=layer), clips(), bound=3e-5)


def test_bfloat16_stays_near(folder: Path) -> None:
    check_bfloat16_stays_near(Emotion2vec, folder, clips())


def test_long_clips_are_computed_in_stretches_with_the_one_frame_rule(folder: Path) -> None:
    long = clips((160_000 + 123,))[0]
    cut = Emotion2vec(f"path:{folder}", chunk_s=4.0, context_s=1.0)
    assert len(cut([long])[0]) == n_frames(len(long), cut.spec) == 500
    at_once = Emotion2vec(f"path:{folder}", layer=0)([long])[0]
    assert worst([at_once], [Emotion2vec(f"path:{folder}", layer=0, chunk_s=4.0, context_s=1.0)([long])[0]]) < 1e-4
    check_padding_changes_nothing(cut, [long, long[:70_000], long[:900]])


def test_weights_are_strict_with_and_without_their_prefix(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    tiny_folder("emotion2vec", tmp_path)
    clip = clips((4_000,))
    expected = Emotion2vec(f"path:{tmp_path}")(clip)[0]
    table = torch.load(tmp_path / "model.pt", weights_only=True)["model"]
    plain = {k.removeprefix("d2v_model."): t for k, t in table.items()}

    def refused(tensors: Any, match: str, name: str = "model.pt") -> None:
        torch.save(tensors, tmp_path / name)
        with pytest.raises(SerkitError, match=match):
            Emotion2vec(f"path:{tmp_path}").load()

    refused({**table, "d2v_model.strange": torch.zeros(1)}, "unexpected weight 'strange'")
    lost = {k: t for k, t in table.items() if k != "d2v_model.blocks.1.mlp.fc1.bias"}
    refused({"model": lost}, r"lacks weight 'blocks\.1\.mlp\.fc1\.bias'")
    refused({"model": {**table, "d2v_model.blocks.0.norm1.bias": torch.zeros(3)}}, "another shape for weight 'blocks.0")
    refused({"model": {**table, **plain}}, "has weights twice")
    refused({"model": {**table, "_ema": {"a": torch.zeros(1)}}}, "is not a table of tensors")
    refused({"model": table, "task": Emotion2vec}, "damaged or holds more than tensors")
    torch.save({"model": {k: t.double() for k, t in plain.items() if not k.startswith("proj.")}}, tmp_path / "model.pt")
    (tmp_path / "model.pt").rename(tmp_path / "emotion2vec_base.pt")
    np.testing.assert_array_equal(Emotion2vec(f"path:{tmp_path}")(clip)[0], expected)
    (tmp_path / "emotion2vec_base.pt").unlink()
    with pytest.raises(SerkitError, match=r"no weights in .*: expected model\.pt or emotion2vec_base\.pt"):
        Emotion2vec(f"path:{tmp_path}")
    save_file({k: t.contiguous().clone() for k, t in plain.items()}, tmp_path / "model.safetensors", {"format": "pt"})
    np.testing.assert_array_equal(Emotion2vec(f"path:{tmp_path}")(clip)[0], expected)


def test_a_pickle_with_code_is_never_run(tmp_path: Path) -> None:
    class Harm:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "harmed",))

    tiny_folder("emotion2vec", tmp_path / "e")
    (tmp_path / "e" / "model.pt").write_bytes(pickle.dumps({"model": Harm()}, protocol=2))
    with pytest.raises(SerkitError, match="damaged or holds more than tensors"):
        Emotion2vec(f"path:{tmp_path / 'e'}").load()
    assert not (tmp_path / "harmed").exists()


def test_a_local_folder_needs_no_other_package(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("transformers", "huggingface_hub", "funasr", "fairseq", "modelscope"):
        monkeypatch.setitem(sys.modules, package, None)
    encoder = Emotion2vec(f"path:{folder}")
    encoder.fetch()
    assert encoder(clips((800,)))[0].shape == (2, 16)


def changed(folder: Path, tmp_path: Path, part: str, **changes: Any) -> Path:
    table = yaml.safe_load((folder / "config.yaml").read_text())
    network = table["model_conf"]
    (network["modalities"]["audio"] if part == "audio" else network).update(changes)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(table))
    return tmp_path


@pytest.mark.parametrize(
    ("part", "changes", "match"),
    [
        ("network", {"layer_norm_first": True}, "layer_norm_first is True, serkit computes layer_norm_first False"),
        ("network", {"embed_dim": "wide"}, "embed_dim is 'wide', expected a whole number of 1 or more"),
        ("network", {"num_heads": 4}, "expected as many of both"),
        ("network", {"modalities": None}, "has no modalities"),
        ("audio", {"learned_alibi": True}, "learned_alibi is True"),
        ("audio", {"extractor_mode": "default"}, "extractor_mode is 'default'"),
        ("audio", {"feature_encoder_spec": "__import__('os').abort()"}, "feature_encoder_spec is"),
    ],
)
def test_another_network_is_refused(
    part: str, changes: dict[str, Any], match: str, folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(SerkitError, match=match):
        emotion2vec_files.sizes(changed(folder, tmp_path, part, **changes))


def test_what_the_published_configurations_say(folder: Path, tmp_path: Path) -> None:
    published = {
        "prenet_depth": 4, "num_extra_tokens": 10, "num_alibi_heads": 12, "conv_pos_width": 95, "conv_pos_groups": 16,
        "feature_encoder_spec": "[(512, 10, 5)] + [(512, 3, 2)] * 4 + [(512,2,2)] + [(512,2,2)]",
    }  # fmt: skip
    changed(folder, tmp_path, "audio", **published)
    changed(tmp_path, tmp_path, "network", embed_dim=768, num_heads=12, depth=8, mlp_ratio=4.0)
    assert emotion2vec_files.sizes(tmp_path) == SIZES | {"model_type": "emotion2vec"}
    with pytest.raises(SerkitError, match=r"config\.yaml is missing"):
        Emotion2vec("emotion2vec/plus-base", source=tmp_path / "..")


def test_classes_are_those_of_the_published_list(folder: Path, tmp_path: Path) -> None:
    from serkit.foundation.emotion2vec_model import Emotion2vecClassifier

    nine = ("angry", "disgusted", "fearful", "happy", "neutral", "other", "sad", "surprised", "unknown")
    assert emotion2vec_files.labels(folder) == nine
    seed = "生气/angry\nunuse_0\nunuse_1\n开心/happy\n中立/neutral\nunuse_2\n难过/sad\nunuse_3\n<unk>"
    (tmp_path / "tokens.txt").write_text(seed, encoding="utf-8")
    used = ("angry", None, None, "happy", "neutral", None, "sad", None, "unknown")
    assert emotion2vec_files.labels(tmp_path) == used
    for text, match in (("angry\nangry\n", "each once"), ("\n", "got none")):
        (tmp_path / "tokens.txt").write_text(text)
        with pytest.raises(SerkitError, match=match):
            emotion2vec_files.labels(tmp_path)
    (tmp_path / "tokens.txt").unlink()
    with pytest.raises(SerkitError, match="only emotion2vec"):
        Emotion2vecClassifier.load(tmp_path)

    loaded = Emotion2vecClassifier.load(folder)
    assert loaded.labels == nine
    table = torch.load(folder / "model.pt", weights_only=True)["model"]
    pair = clips((4_000, 100, 61 * 16_000))
    for clip, logits in zip(pair, loaded.logits(pair), strict=True):
        mean = Emotion2vec(f"path:{folder}")([clip])[0].mean(axis=0)
        expected = table["proj.weight"].numpy() @ mean + table["proj.bias"].numpy()
        np.testing.assert_allclose(logits, expected, atol=1e-4)


def test_a_folder_takes_the_place_of_the_published_files(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SERKIT_CONFIG", str(tmp_path))
    (tmp_path / "roots.yaml").write_text(f"checkpoints: {{emotion2vec/plus-large: {folder}}}\n")
    encoder = Emotion2vec("emotion2vec/plus-large")
    assert encoder.spec.note.endswith("in place of emotion2vec/emotion2vec_plus_large")
    assert (encoder.spec.dim, encoder.spec.rate_hz, encoder([chirp(8_000)])[0].shape) == (16, 50.0, (24, 16))
    found = availability.check("emotion2vec/plus-large")
    assert (found.loadable, found.where, found.licence) == (True, "folder", "unknown")
    assert checkpoints.family_of(f"path:{folder}") == "emotion2vec"
    published = Emotion2vec("emotion2vec/base")
    assert (published.spec.dim, published.resolved.layers, published.spec.window, published.spec.hop) == (
        768, 12, 400, 320,
    )  # fmt: skip
    assert wanted_files(["README.md", "model.pt", "tokens.txt", "example/test.wav"]) == ["model.pt"]
