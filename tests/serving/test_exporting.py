"""A whole model as one ONNX file answers what the model answers, with onnxruntime alone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

import serkit
from command_line import ask
from serkit.encoders.mfcc import Mfcc
from serkit.errors import RunFailed, SerkitError
from serkit.pipeline import Run
from serkit.serving import exporting
from serkit.serving.adaptation import Adaptation
from serkit.serving.building import build
from serkit.serving.bundle import open_bundle
from serkit.serving.bundle_graph import to_onnx
from serkit.serving.correction import Correction
from serkit.serving.exporting import export
from serkit.serving.graphs import Graph
from serkit.serving.predictor import Model
from serkit.serving.scorer import Scorer

from .signals import GOLDEN, quiet, talk, voice, wav, wide
from .sound_graphs.running import run

CLIPS = {
    "speech": wide(1.7, 3),
    "with silence": np.concatenate([quiet(0.7), voice(1.1, 2), quiet(0.4)]),
    "with an offset": voice(0.8, 1) + np.float32(0.2),
    "silence": np.zeros(9000, dtype=np.float32),
    "short": voice(0.03),
    "one sample": np.ones(1, dtype=np.float32),
}


def session(content: bytes | Path) -> onnxruntime.InferenceSession:
    given = content if isinstance(content, bytes) else str(content)
    return onnxruntime.InferenceSession(given, providers=["CPUExecutionProvider"])


def differences(model: Model, content: bytes) -> dict[str, float]:
    """The largest difference of a probability, by clip."""
    graph, found = session(content), {}
    for name, clip in CLIPS.items():
        [given] = graph.run(["probabilities"], {"samples": clip})
        assert given.shape == (len(model.labels),)
        assert given.sum() == pytest.approx(1.0, abs=1e-5)
        found[name] = float(np.abs(given - model.score_clips([clip])[0]).max())
    return found


def test_a_whole_model_answers_the_same(model: Model) -> None:
    assert max(differences(model, to_onnx(model.bundle)).values()) < 1e-4


def test_so_does_one_whose_features_are_adapted_and_whose_answers_are_corrected() -> None:
    bundle, rng = open_bundle(GOLDEN), np.random.default_rng(7)
    before = Model(bundle).score_clips([CLIPS["speech"]])
    width = {name: int(row["spec"]["dim"]) for name, row in bundle.features.items()}
    moved = {name: rng.normal(size=dim).astype(np.float32) for name, dim in width.items() if name.startswith("mfcc")}
    vars(bundle)["adaptation"] = Adaptation({k: 1 + 0.1 * v for k, v in moved.items()}, moved)
    dim = len(Model(bundle).embed(CLIPS["speech"], rate_hz=16_000))
    columns = np.array([2, 0])
    weights = rng.normal(size=(dim, 2)).astype(np.float32)
    vars(bundle)["correction"] = Correction(weights, np.array([0.3, -0.2]), columns)
    model = Model(bundle)
    assert np.abs(model.score_clips([CLIPS["speech"]]) - before).max() > 0.01
    assert max(differences(model, to_onnx(bundle)).values()) < 1e-4


def test_a_system_of_a_run_and_what_reads_text(finished: Path, tmp_path: Path) -> None:
    done = Run(finished)
    alone = serkit.load(build(done, tmp_path / "alone", system="sound").path)
    assert max(differences(alone, to_onnx(alone.bundle)).values()) < 1e-4
    both = open_bundle(build(done, tmp_path / "both").path)
    with pytest.raises(SerkitError, match=r"reads text \(hashed_text/32\).*--system NAME"):
        to_onnx(both)


def test_the_default_model(tmp_path: Path) -> None:
    default = serkit.load("default")
    made = export(default, tmp_path / "default.onnx")
    assert made.differences.max() < 1e-3
    assert made.changed == 0
    assert made.n_bytes < 9e6
    assert max(differences(default, (tmp_path / "default.onnx").read_bytes()).values()) < 1e-3


def test_an_imported_classifier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from serkit.serving.importing import import_checkpoint
    from tiny_checkpoints import classifier, without_hub

    without_hub(tmp_path, monkeypatch)
    classifier(tmp_path / "published", "Wav2Vec2")
    made = import_checkpoint(f"path:{tmp_path / 'published'}", tmp_path / "b.zip")
    imported = serkit.load(made.path)
    found = export(imported, tmp_path / "m.onnx")
    assert found.differences.max() < 1e-4
    assert any("not calibrated" in note for note in found.notes)


def test_a_network_that_torch_wrote_becomes_part_of_a_graph() -> None:
    torch = pytest.importorskip("torch")
    from serkit.serving.traced import traced
    from serkit.tensors import Batch, Outputs

    class Mean(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.out = torch.nn.Linear(5, 3)

        def forward(self, batch: Batch) -> Outputs:
            mask = batch.mask("a")[:, :, None]
            return Outputs(self.out((batch.features["a"] * mask).sum(1) / batch.lengths["a"][:, None]))

    network, frames = Mean().eval(), np.random.default_rng(7).normal(size=(9, 5)).astype(np.float32)
    content = traced(network, {"a": 5}, {})

    def build_twice(graph: Graph, x: str) -> list[str]:
        feeds = {"x0": graph.unsqueeze(x, 0), "n0": graph("Shape", x, start=0, end=1)}
        return [graph.inline(content, feeds)["emotion"] for _ in range(2)]

    expected = network.out(torch.from_numpy(frames.mean(axis=0))).detach().numpy()
    for found in run(build_twice, x=frames):
        assert found[0] == pytest.approx(expected, abs=1e-5)
    graph = Graph()
    other = onnx.load_from_string(content)
    other.opset_import[0].version += 1
    with pytest.raises(SerkitError, match="opset"):
        graph.inline(other.SerializeToString(), {})


def test_the_file_says_what_it_is_and_gives_embeddings(model: Model, tmp_path: Path) -> None:
    out = tmp_path / "m.onnx"
    made = export(model, out)
    assert (made.path, made.n_bytes, made.labels) == (out, out.stat().st_size, model.labels)
    assert made.differences.max() < 1e-4
    assert made.changed == 0
    graph = session(out)
    about = graph.get_modelmeta().custom_metadata_map
    assert json.loads(about["labels"]) == list(model.labels)
    assert json.loads(about["attributes"]) == []
    assert (about["rate_hz"], float(about["max_clip_s"])) == ("16000", model.max_clip_s)
    assert float(about["unsure_below"]) == model.unsure_below(model.labels, None) > 0
    assert (about["name"], about["serkit"]) == (model.id, serkit.__version__)
    assert [o.name for o in graph.get_outputs()] == ["probabilities", "embedding"]
    [embedding] = graph.run(["embedding"], {"samples": CLIPS["speech"]})
    expected = model.embed(CLIPS["speech"], rate_hz=16_000)
    assert embedding == pytest.approx(expected, abs=1e-4)
    assert to_onnx(model.bundle) == out.read_bytes()


def test_recordings_of_ones_own_are_compared_too(model: Model, tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(wav(talk(9)))
    own = export(model, tmp_path / "m.onnx").differences
    both = export(model, tmp_path / "m.onnx", check=[tmp_path / "a.wav"]).differences
    assert len(both) == len(own) + 1
    assert both.max() < 1e-4


def test_what_cannot_be_read_is_named_and_left_out(model: Model, tmp_path: Path) -> None:
    text, sound, out, lines = tmp_path / "text.wav", tmp_path / "a.wav", tmp_path / "m.onnx", list[str]()
    text.write_text("no sound\n")
    sound.write_bytes(wav(talk(9)))
    with pytest.raises(SerkitError, match="not audio"):
        export(model, out, check=[text])
    with pytest.raises(SerkitError, match="none of the 2 recordings to compare on can be read"):
        export(model, out, check=[text, text])
    assert not out.exists()
    own = export(model, out).differences
    some = export(model, out, check=[text, sound], complain=lines.append).differences
    assert len(some) == len(own) + 1
    assert [str(text) in line for line in lines] == [True]


def test_of_a_long_recording_the_first_part_is_compared(model: Model, tmp_path: Path) -> None:
    n = int(model.max_clip_s * 16_000)
    long = np.concatenate([wide(model.max_clip_s, 3), wide(12.0, 4)])
    (tmp_path / "long.wav").write_bytes(wav(long))
    clip = exporting._clip(model, tmp_path / "long.wav")
    assert (clip.shape, clip.dtype) == ((n,), np.float32)
    assert clip == pytest.approx(long[:n], abs=1e-4)


def test_ctrl_c_during_the_comparison_leaves_the_old_file(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.wav").write_bytes(wav(talk(9)))
    (tmp_path / "m.onnx").write_text("old")

    def stopped(*given: object) -> np.ndarray:
        raise KeyboardInterrupt

    monkeypatch.setattr(exporting, "_clip", stopped)
    with pytest.raises(KeyboardInterrupt):
        export(model, tmp_path / "m.onnx", check=[tmp_path / "a.wav"])
    assert (tmp_path / "m.onnx").read_text() == "old"


@pytest.mark.parametrize("wrong", [0.5, float("nan")])
def test_answers_that_differ_are_not_written(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: float
) -> None:
    right, asked = Scorer.one, []

    def last_wrong(self: Scorer, samples: np.ndarray, text: str | None) -> np.ndarray:
        asked.append(samples)  # the last is silence, and before all the others silence makes ready
        found = right(self, samples, text)
        return found if samples.any() or len(asked) == 1 else np.full_like(found, wrong)

    monkeypatch.setattr(Scorer, "one", last_wrong)
    with pytest.raises(RunFailed, match="nothing was written"):
        export(model, tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())


def test_what_has_no_form_is_refused(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SerkitError, match=r"ends in \.onnx"):
        export(model, tmp_path / "m.zip")
    (tmp_path / "folder.onnx").mkdir()
    with pytest.raises(SerkitError, match="is a folder; name a file in it"):
        export(model, tmp_path / "folder.onnx")

    class Other(Mfcc):
        pass

    bundle = open_bundle(GOLDEN)
    encoders = {name: Other("mfcc/13", pool=4) if "mfcc" in name else e for name, e in bundle.encoders().items()}
    monkeypatch.setattr(bundle, "encoders", lambda: encoders)
    with pytest.raises(SerkitError, match=r"no ONNX form of the encoder 'mfcc/13\[pool=4\]'; those of .*logmel.* have"):
        to_onnx(bundle)
    monkeypatch.setattr(Other, "write_onnx", lambda self, graph, samples: graph.unsqueeze(samples, 1), raising=False)
    assert len(to_onnx(bundle)) > 1000


def test_the_command(tmp_path: Path) -> None:
    (tmp_path / "calls").mkdir()
    (tmp_path / "calls" / "a.wav").write_bytes(wav(voice(1.0)))
    words = ["export", str(GOLDEN), "-o", str(tmp_path / "m.onnx"), "--check", str(tmp_path / "calls")]
    code, said, complained = ask(*words)
    assert code == 0, complained
    assert "note: it answers one clip of at most" in said
    assert "8 clips: answers differ by at most" in said
    assert "on 0 another class is the most probable" in said


ALONE = """
import sys, numpy, onnxruntime
graph = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
print(graph.run(["probabilities"], {"samples": numpy.zeros(16000, numpy.float32)})[0].tolist())
assert not [name for name in sys.modules if name.startswith(("serkit", "torch", "onnx."))]
"""


def test_it_runs_without_serkit(model: Model, tmp_path: Path) -> None:
    export(model, tmp_path / "m.onnx")
    done = subprocess.run(
        [sys.executable, "-c", ALONE, str(tmp_path / "m.onnx")], capture_output=True, text=True, check=True
    )
    expected = model.score_clips([np.zeros(16_000, dtype=np.float32)])[0]
    assert json.loads(done.stdout) == pytest.approx(expected.tolist(), abs=1e-4)
