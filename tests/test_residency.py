"""Which encoders are in memory at once, what they take, and that they leave again."""

from __future__ import annotations

import gc
import pickle
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from serkit import engines, registry, residency
from serkit.batching import Item
from serkit.copies import CopyEncoder
from serkit.encoders.logmel import Logmel
from serkit.encoding import WithWeights
from serkit.errors import SerkitError
from serkit.extraction import extract
from serkit.progress import Progress
from serkit.residency import GPU_WORKING_BYTES, WORKING_BYTES, free_memory, turns
from test_extraction import Letters, Level, broken, corpus

GB = 10**9
FAMILIES = ("whisper", "wavlm", "hubert", "wav2vec2", "distilhubert", "facodec", "emotion2vec", "roberta", "bert",
            "deberta", "modernbert")  # fmt: skip


class Heavy:
    def __init__(self, gb: float) -> None:
        self.gb, self.loaded = gb, False

    def resident_bytes(self, device: str = "cpu") -> int:
        return int(self.gb * GB)

    def fetch(self) -> None: ...

    def unload(self) -> None: ...


# about ueda2025, in float32
SIX: dict[str, Any] = {"whisper": Heavy(2.5), "hubert": Heavy(3.8), "wavlm": Heavy(1.2), "roberta": Heavy(1.7),
                       "deberta": Heavy(6.2), "facodec": Heavy(0.1)}  # fmt: skip


def chosen(jobs: int, device: str, gb: float, encoders: dict[str, Any] = SIX) -> list[tuple[tuple[str, ...], int, int]]:
    return [(t.names, t.jobs, t.threads) for t in turns(encoders, jobs, device, gb * GB)]


def test_what_fits_works_at_once_and_the_rest_when_its_turn_comes() -> None:
    everything = tuple(SIX)
    assert chosen(1, "cpu", 64) == [(everything, 1, 1)]
    assert chosen(8, "cuda", 139) == [(everything, 8, 1)], "one process computes, eight threads decode"
    for jobs, device, gb, working in ((1, "cpu", 16, WORKING_BYTES), (4, "cpu", 64, WORKING_BYTES),
                                      (1, "cuda", 24, GPU_WORKING_BYTES), (16, "cpu", 8, WORKING_BYTES)):  # fmt: skip
        found = turns(SIX, jobs, device, gb * GB)
        assert sorted(n for t in found for n in t.names) == sorted(SIX)
        assert len(found) > 1
        for turn in found:
            needed = sum(SIX[n].gb for n in turn.names) * GB + working
            assert turn.bytes == pytest.approx(needed)
            processes = turn.jobs if device == "cpu" else 1
            assert processes * needed <= 0.8 * gb * GB or len(turn.names) == processes == 1
    assert chosen(8, "cpu", 25, {"deberta": SIX["deberta"]}) == [(("deberta",), 2, 4)], "fewer processes, more threads"
    assert chosen(8, "cpu", 0) == [((name,), 8, 1) for name in SIX], "unknown memory"


def test_encoders_without_weights_are_never_kept_waiting() -> None:
    light = {"mel": Logmel("logmel/24"), "copy": CopyEncoder(Logmel("logmel/24"), [gain()], 1)}
    assert chosen(8, "cpu", 0.001, light) == [(("mel", "copy"), 8, 1)]
    both = {"deberta": SIX["deberta"], **light, "hubert": SIX["hubert"]}
    assert chosen(1, "cpu", 12, both) == [(("mel", "copy", "deberta"), 1, 1), (("hubert",), 1, 1)]


def gain() -> Any:
    return registry.find("augment", "gain")()


def test_free_memory_is_what_machine_and_container_leave(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert free_memory("cpu") > 0
    (tmp_path / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable:    2000000 kB\n")
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("500000000\n")
    real = Path
    moved = {"/proc/meminfo": tmp_path / "meminfo", "/sys/fs/cgroup": tmp_path}
    monkeypatch.setattr(residency, "Path", lambda name: moved.get(name) or real(name))
    assert free_memory("cpu") == 2_048_000_000
    (tmp_path / "memory.max").write_text("1500000000\n")
    assert free_memory("cpu") == 1_000_000_000
    (tmp_path / "meminfo").unlink()
    (tmp_path / "memory.max").unlink()
    assert free_memory("cpu") == 0, "unknown"


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_leaves_memory_and_comes_back(family: str) -> None:
    pytest.importorskip("transformers")
    from torch import nn

    encoder: Any = registry.find("encoders", family).tiny()
    for one in (encoder, CopyEncoder(encoder, [gain()], 1)) if encoder.spec.modality == "audio" else (encoder,):
        assert isinstance(one, WithWeights)
        assert not one.loaded
        one.unload()
        one.fetch()
        assert not one.loaded
        assert one.resident_bytes() == 4 * encoder.n_weights > 0
    item = "so quiet" if encoder.spec.modality == "text" else np.sin(np.arange(8000, dtype=np.float32))
    (first,) = encoder([item])
    models = [weakref.ref(v) for v in vars(encoder).values() if isinstance(v, nn.Module)]
    assert models
    assert encoder.loaded
    encoder.unload()
    gc.collect()
    assert not any(model() for model in models)
    assert not encoder.loaded
    assert encoder([item])[0].tobytes() == first.tobytes()


BASE = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}


@pytest.mark.parametrize(
    ("family", "kind", "config"),
    [
        ("wavlm", "WavLM", BASE),
        ("hubert", "Hubert", {**BASE, "hidden_size": 1024, "num_attention_heads": 16, "intermediate_size": 4096}),
        ("wav2vec2", "Wav2Vec2", BASE),
        ("whisper", "Whisper", {"d_model": 512, "encoder_layers": 6, "encoder_attention_heads": 8,
                                "encoder_ffn_dim": 2048, "decoder_layers": 1, "decoder_attention_heads": 8}),
        ("roberta", "Roberta", {**BASE, "vocab_size": 50265}),
        ("bert", "Bert", {**BASE, "vocab_size": 30522}),
        ("deberta", "DebertaV2", {**BASE, "vocab_size": 128100, "relative_attention": True, "position_buckets": 256,
                                  "share_att_key": True, "pos_att_type": ["p2c", "c2p"]}),
        ("modernbert", "ModernBert", {**BASE, "num_hidden_layers": 22, "intermediate_size": 1152,
                                      "vocab_size": 50368}),
    ],
)  # fmt: skip
def test_sizes_are_about_right(family: str, kind: str, config: dict[str, Any]) -> None:
    """Computed from width and depth against the model itself, built without memory."""
    transformers = pytest.importorskip("transformers")
    import torch

    from serkit.checkpoints import Resolved
    from serkit.foundation.base import Pretrained

    with torch.device("meta"):
        model = getattr(transformers, f"{kind}Model")(getattr(transformers, f"{kind}Config")(**config))
    model = model.encoder if family == "whisper" else model
    found = Pretrained()
    found.resolved = Resolved("x", family, None, None, "", config)
    found.MODALITY = "audio" if family in ("wavlm", "hubert", "wav2vec2", "whisper") else "text"  # type: ignore[misc]
    exact = sum(p.numel() for p in model.parameters())
    assert 0.95 < found.n_weights / exact < 1.4


class Weighty(Level):
    """A level with weights, which says who is in memory."""

    here: ClassVar[set[str]] = set()

    def __init__(self, name: str, gb: float, gain: float) -> None:
        super().__init__(gain, name)
        self.gb, self.loaded, self.broken = gb, False, ""

    def resident_bytes(self, device: str = "cpu") -> int:
        return int(self.gb * 1e9)

    def fetch(self) -> None:
        if self.broken:
            raise SerkitError(self.broken)

    def load(self, device: str = "cpu") -> None:
        self.loads += not self.loaded
        self.loaded = True
        self.here.add(self.spec.name)

    def unload(self) -> None:
        self.loaded = False
        self.here.discard(self.spec.name)

    def __call__(self, items: Sequence[Any]) -> list[np.ndarray]:
        assert self.loaded
        assert sum(gb for name, gb in (("a", 3), ("b", 3), ("c", 1)) if name in self.here) <= 4
        return super().__call__(items)


def test_encoders_that_do_not_fit_beside_each_other_take_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[str] = []
    load = engines.load
    monkeypatch.setattr(engines, "load", lambda path, **times: decoded.append(path) or load(path, **times))
    monkeypatch.setattr("serkit.extraction.free_memory", lambda device: 6.1e9 / 0.8)
    manifest = broken(tmp_path / "audio")
    three = {"a": Weighty("a", 3, 1.0), "b": Weighty("b", 3, 2.0), "mel": Logmel("logmel/24"), "t": Letters()}
    three["c"] = Weighty("c", 1, 3.0)
    seen: list[Progress] = []
    found = extract(manifest, three, tmp_path / "store", progress=seen.append)
    assert len(decoded) == 2 * 8, "a, c and what has no weights heard one decoding, b another"
    assert not Weighty.here
    assert [three[name].loads for name in "abc"] == [1, 1, 1]
    last = {p.stage: p for p in seen}
    for stage in ("extract 1 of 2", "extract 2 of 2"):
        assert (last[stage].done, last[stage].total, last[stage].failed) == (8, 8, 3)
        assert last[stage].audio_s == pytest.approx(last[stage].total_audio_s)
    for name in ("a", "b", "c", "mel"):
        assert list(found[name].missing) == ["u0", "u1", "u2", "u3"]
    plain = extract(manifest, {"b": Level(2.0, "b")}, tmp_path / "other")["b"]
    for u in plain.ids:
        assert plain.get(u).tobytes() == found["b"].get(u).tobytes()
    extract(manifest, three, tmp_path / "store")
    assert [three[name].loads for name in "abc"] == [1, 1, 1], "nothing left to do, nothing loaded"
    kept = Weighty("c", 1, 4.0)
    kept.load()
    extract(manifest, {"a": three["a"], "kept": kept}, tmp_path / "store")
    assert kept.loaded, "what was loaded before stays"
    assert three["a"].loads == 1, "and who has no work is not loaded beside it"
    kept.unload()
    three["b"].broken, three["b"].spec = "no such model on this machine", Weighty("b", 3, 9.0).spec
    fresh = Weighty("a", 3, 8.0)
    with pytest.raises(SerkitError, match="no such model on this machine"):
        extract(manifest, {"a": fresh, "b": three["b"]}, tmp_path / "store")
    assert fresh.loads == 0, "said before the first turn"


def test_a_process_loads_what_it_has_work_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = corpus(tmp_path / "audio", 2)
    encoders = {"a": Weighty("a", 3, 1.0), "t": Letters()}
    for name, value in {"packed": pickle.dumps(encoders), "encoders": None, "loaded": set()}.items():
        monkeypatch.setattr(engines._Worker, name, value)
    (said,) = engines._work((Item("k", "u0", ("t",), text="word"),))
    assert said.features["t"].shape == (4, 1)
    assert engines._Worker.loaded == {"t"}
    assert not engines._Worker.encoders["a"].loaded
    engines._work((Item("l", "u0", ("a",), str(manifest.audio_path(manifest.utterances[0]))),))
    assert engines._Worker.encoders["a"].loads == 1
