"""What the tests of the pretrained families share: clips, tiny folders, and the promises each must keep."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serkit.errors import SerkitError
from serkit.foundation.pieces import pieces

LENGTHS = (960, 16_000, 35_000, 36_000, 100, 400, 37_777)


def clips(lengths: tuple[int, ...] = LENGTHS, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [(0.1 * rng.standard_normal(n)).astype(np.float32) for n in lengths]


def worst(together: list[np.ndarray], alone: list[np.ndarray]) -> float:
    assert [len(a) for a in together] == [len(a) for a in alone]
    return max(float(np.abs(a - b).max()) for a, b in zip(together, alone, strict=True))


def rms(together: list[np.ndarray], alone: list[np.ndarray]) -> float:
    difference = np.concatenate(together).astype(np.float64) - np.concatenate(alone)
    return float(np.sqrt(np.mean(difference**2)))


def speech_states(folder: Path, samples: np.ndarray) -> list[np.ndarray]:
    """All hidden states, (time, dim) each, that transformers itself gives of a waveform."""
    import torch
    import transformers

    front = transformers.AutoFeatureExtractor.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder).eval()
    values = torch.from_numpy(front(samples, sampling_rate=16_000, return_tensors="np")["input_values"])
    with torch.inference_mode():
        output = model(values, output_hidden_states=True)
    return [s[0].numpy() for s in (*output.hidden_states[:-1], output.last_hidden_state)]


def check_padding_changes_nothing(encoder: Any, items: list[Any], bound: float = 1e-4) -> None:
    """Every item alone, then all in one batch, padded to the longest."""
    encoder.batch_s = 1e6
    assert worst(encoder(items), [encoder([item])[0] for item in items]) <= bound


def check_bfloat16_stays_near(cls: Any, folder: Path, items: list[Any], by: Any = rms, **choices: Any) -> None:
    """The bound that docs/encoders.md states: shares of the features' deviation, by root mean square or ``worst``."""
    exact = cls(f"path:{folder}", **choices)
    rough = cls(f"path:{folder}", precision="bf16", **choices)
    reference, together = exact(items), rough(items)
    spread = float(np.concatenate(reference).std())
    assert 0 < by(together, reference) < 0.25 * spread
    assert rms(together, [rough([item])[0] for item in items]) < 0.05 * spread
    assert rough.spec.fingerprint != exact.spec.fingerprint


def check_layers(cls: Any, folder: Path, item: Any, reference: list[np.ndarray], **choices: Any) -> None:
    """Every choice of layer against all hidden states (time, dim) that transformers itself gives."""
    n_layers = len(reference) - 1

    def chosen(layer: Any) -> np.ndarray:
        return cls("path:" + str(folder), layer=layer, **choices)([item])[0]

    for k, expected in enumerate(reference):
        np.testing.assert_allclose(chosen(k), expected, rtol=1e-4, atol=2e-5, err_msg=f"layer {k}")
    np.testing.assert_allclose(chosen("last"), reference[-1], rtol=1e-4, atol=2e-5)
    if n_layers >= 4:
        np.testing.assert_allclose(chosen("mean_last_4"), np.mean(reference[-4:], axis=0), rtol=1e-4, atol=2e-5)
    everything = cls("path:" + str(folder), layer="all", **choices)
    assert everything.spec.params["n_layers"] == n_layers + 1
    stacked = everything([item])[0]
    assert stacked.shape[1] == everything.spec.dim == (n_layers + 1) * reference[0].shape[1]
    parts = stacked.reshape(len(stacked), n_layers + 1, -1)
    np.testing.assert_allclose(parts, np.stack(reference, axis=1), rtol=1e-4, atol=2e-5)
    for wrong in (n_layers + 1, -1, "first"):
        with pytest.raises(SerkitError, match="layer"):
            cls("path:" + str(folder), layer=wrong, **choices)
    prints = {cls("path:" + str(folder), layer=layer, **choices).spec.fingerprint for layer in (0, 1, "last", "all")}
    assert len(prints) == 4


def check_strict_names(cls: Any, folder: Path) -> None:
    """A weight taken away, and one too many, are errors that name it."""
    from safetensors.torch import load_file, save_file

    file = folder / "model.safetensors"
    tensors = load_file(file)
    inner = [k for k in tensors if re.search(r"(^|\.)layers?\.1\.", k) and "decoder" not in k]
    name = min(k for k in inner if k.endswith("weight"))
    save_file({k: v for k, v in tensors.items() if k != name}, file, {"format": "pt"})
    with pytest.raises(SerkitError, match="lacks weight"):
        cls("path:" + str(folder)).load()
    save_file({**tensors, "strange.weight": tensors[name].clone()}, file, {"format": "pt"})
    with pytest.raises(SerkitError, match=r"unexpected weight 'strange\.weight'"):
        cls("path:" + str(folder)).load()
    save_file({**tensors, name: tensors[name][:3].clone()}, file, {"format": "pt"})
    with pytest.raises(SerkitError, match="another shape"):
        cls("path:" + str(folder)).load()


TEXTS = ["I am so happy, isn't it great?", "no", "Été… 日本語 ሰላም", "Leave me alone! " * 12, "the door " * 40]


def check_text_encoder(cls: Any, folder: Path) -> None:
    """Against transformers itself, alone and in a batch; special tokens, empty and long texts."""
    import torch
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder).eval()

    def published(text: str) -> list[np.ndarray]:
        with torch.inference_mode():
            output = model(**tokenizer(text, return_tensors="pt"), output_hidden_states=True)
        return [s[0].numpy() for s in (*output.hidden_states[:-1], output.last_hidden_state)]

    check_layers(cls, folder, TEXTS[0], published(TEXTS[0]))
    encoder = cls(f"path:{folder}", special_tokens="keep")
    for text, frames in zip(TEXTS, encoder(TEXTS), strict=True):
        np.testing.assert_allclose(frames, published(text)[-1], rtol=1e-4, atol=2e-5)
    dropped = cls(f"path:{folder}", special_tokens="drop")
    for text, frames in zip(TEXTS, dropped(TEXTS), strict=True):
        np.testing.assert_allclose(frames, published(text)[-1][1:-1], rtol=1e-4, atol=2e-5)
    for one in (encoder, dropped):
        np.testing.assert_allclose(one([""])[0], published("")[-1][:1], rtol=1e-4, atol=2e-5)
    assert encoder.spec.fingerprint != dropped.spec.fingerprint

    long = "the door was quiet and she left. " * 20
    n = len(encoder.tokens(long))
    windowed = cls(f"path:{folder}", max_tokens=66, overlap=16)
    assert len(windowed([long])[0]) == n + 2, "a long text is windowed, not cut"
    first = pieces(n, 64, 16)[0]
    ids = torch.tensor([[*encoder._prefix, *encoder.tokens(long)[: first.end], *encoder._suffix]])
    with torch.inference_mode():
        head = model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state[0].numpy()
    kept = first.keep_end + 1  # the marker before the text stays
    np.testing.assert_allclose(windowed([long])[0][:kept], head[:kept], rtol=1e-4, atol=2e-5)
    np.testing.assert_allclose(windowed([long, "no"])[0], windowed([long])[0], atol=1e-4)
    input_layer = cls(f"path:{folder}", layer=0, special_tokens="drop", max_tokens=66, overlap=0)
    np.testing.assert_array_equal(len(input_layer([long])[0]), n)
    assert windowed.spec.fingerprint != encoder.spec.fingerprint
    with pytest.raises(SerkitError, match="special_tokens 'kept'; did you mean 'keep'"):
        cls(f"path:{folder}", special_tokens="kept")
    with pytest.raises(SerkitError, match="overlap"):
        cls(f"path:{folder}", max_tokens=66, overlap=33)
