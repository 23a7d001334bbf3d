"""Networks trained on waveforms, from a recipe to a report, on tiny random backbones of the real classes.

They cannot hear. What is shown is that every part does its work: recordings in, trained, killed and resumed to the
same bytes, loaded without the backbone's folder, stacked beside a network on features.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import warm
from serkit import fitting as parts
from serkit import pipeline
from serkit.corpora.ravdess import ravdess
from serkit.corpora.toy import toy
from serkit.errors import SerkitError
from serkit.examples import Examples
from serkit.networks import load_config, load_network
from serkit.pipeline.inputs import needed_features
from serkit.pipeline.run import threads_of
from serkit.recipe import Recipe, load_recipe, parse_recipe
from serkit.types import Manifest, Utterance

pytest.importorskip("transformers")

DATA = Path(os.environ.get("SERKIT_DATA", Path(__file__).resolve().parents[1].parent / "shared" / "data"))
QUICK = ("train.epochs=2", "train.batch_size=8", "model.heads=4", "evaluate.draws=10")
NETWORK = ("model.safetensors", "history.jsonl", "config.json")


@pytest.fixture
def wavlm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tiny WavLM of the real class, which ``roots.yaml`` puts in the place of the published ones."""
    from serkit.foundation.tiny import tiny_folder

    monkeypatch.setenv("SERKIT_CONFIG", str(tmp_path / "config"))
    monkeypatch.setenv("SERKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    folder = tiny_folder("wavlm", tmp_path / "models" / "wavlm")
    (tmp_path / "config").mkdir()
    names = {name: str(folder) for name in ("wavlm/large", "wavlm/base")}
    (tmp_path / "config" / "roots.yaml").write_text(yaml.safe_dump({"checkpoints": names}))
    return folder


def few(toy_root: Path) -> Manifest:
    return toy(toy_root).where(lambda u: u.id.endswith("_1"))


def run_on(recipe: Recipe, manifest: Manifest, tmp_path: Path, name: str = "run") -> pipeline.Run:
    run = pipeline.prepare(recipe, manifest, tmp_path / name)
    pipeline.run_all(run, pipeline.Machine(tmp_path / "store", "cpu", jobs=1))
    return pipeline.Run(run.folder)


def report(run: pipeline.Run) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run.folder / "report" / "report.json").read_text(encoding="utf-8"))
    return found


DIE = """
import os, signal, sys
from pathlib import Path
import torch
torch.set_num_threads({threads})
from serkit import pipeline
from serkit.training import EpochEnd
def tell(event):
    if isinstance(event, EpochEnd):
        os.kill(os.getpid(), signal.SIGKILL)
pipeline.run_all(pipeline.Run({run!r}), pipeline.Machine(Path({store!r}), "cpu", jobs=1), tell)
"""


def killed_and_resumed(recipe: Recipe, manifest: Manifest, tmp_path: Path) -> None:
    """Train once uninterrupted and once killed after an epoch: the same network and scores; then bundle it."""

    whole = run_on(recipe, manifest, tmp_path, "whole")
    cut = pipeline.prepare(recipe, manifest, tmp_path / "cut")
    threads = threads_of(1)
    code = DIE.format(threads=threads, run=str(cut.folder), store=str(tmp_path / "store"))
    warm.killed(code, tmp_path / "program")
    system = next(iter(recipe.systems))
    folder = cut.network(system, "full")
    assert (folder / "state.pt").is_file()
    assert not (folder / "model.safetensors").exists()
    pipeline.run_all(cut, pipeline.Machine(tmp_path / "store", "cpu", jobs=1))
    for name in (*NETWORK, *(["tokenizer.json"] if (folder / "tokenizer.json").exists() else [])):
        assert (folder / name).read_bytes() == (whole.network(system, "full") / name).read_bytes(), name
    a, b = (r.predictions(system, "test") for r in (whole, cut))
    assert np.array_equal(a.scores, b.scores)
    assert len({tuple(row) for row in np.round(a.scores, 4).tolist()}) > len(a.ids) // 2, "clips are told apart"
    answers_as_measured(cut, tmp_path)


def test_the_published_recipe_is_killed_resumed_and_saved_whole(wavlm: Path, toy_root: Path, tmp_path: Path) -> None:
    recipe = load_recipe("mll2026", QUICK)
    killed_and_resumed(recipe, few(toy_root), tmp_path)
    folder = tmp_path / "cut" / "systems" / "mll" / "full"
    rows = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    assert {"loss_kl_soft", "loss_focal", "loss_center_loss", "loss_supcon"} <= rows[0].keys()
    config = load_config(folder)
    assert config.backbone is not None
    assert config.backbone["note"].startswith("substituted: weights from")
    page = (tmp_path / "cut" / "report" / "report.html").read_text(encoding="utf-8").replace("<wbr>", "")
    assert "wavlm/large (trained in mll)" in page
    assert "in place of microsoft/wavlm-large" in page, "people read the page, not the JSON"
    card = (tmp_path / "card.md").read_text(encoding="utf-8")
    assert "1 network (float32 weights) of the system `mll`, " in card
    began = f"`wavlm/large` (revision {config.backbone['revision']}, licence {config.backbone['licence']})"
    assert f"Fine-tuned and included: {began}. Also needed: none" in card, "its licence matters too"
    shutil.rmtree(wavlm)
    network, _ = load_network(folder)
    sizes = {name: p.numel() for name, p in network.named_parameters()}
    assert sum(sizes.values()) > 10_000
    told = json.loads((tmp_path / "cut" / "report" / "report.json").read_text(encoding="utf-8"))["design"]["mll"]
    of_backbone = sum(n for name, n in sizes.items() if name.startswith("backbone."))
    assert told["weights"] >= sum(sizes.values()), "a size that leaves out the encoder is that of another model"
    assert of_backbone > sum(sizes.values()) // 2


def made_fitting(batch_size: int, accumulate: int, precision: str = "fp32", family: str = "wavlm") -> Any:
    """A fitting of the published recipe without dropout and mixup, its losses plain means, on noise of many lengths."""
    import torch

    from serkit.fitting import Fitting, make_accelerator
    from serkit.networks import NetworkConfig, build_network

    backbone = {"name": f"{family}/random", "dropout": 0.0}
    sizes = [f"train.batch_size={batch_size}", f"train.accumulate={accumulate}", f"train.precision={precision}"]
    fixed = ["losses=[kl_soft, focal]", "augment=[]", "train.loss_scale=fixed", "train.bucket=false", "model.heads=4"]
    system = load_recipe("mll2026", [*sizes, *fixed]).systems["mll"]
    rows = [Utterance(f"u{k}", "x", emotion="ab"[k % 2], speaker="s", split="train") for k in range(16)]
    frames = {u.id: np.random.default_rng(k).normal(size=(600 + 300 * k, 1)) for k, u in enumerate(rows)}
    examples = Examples.of(Manifest("made", ("a", "b"), tuple(rows)), {"waveform": Held(frames)})
    model = {**system.model.parameters, "name": "speech_backbone", "backbone": backbone}
    config = NetworkConfig("mll", model, {"waveform": 1}, {}, ("a", "b"), 1, {})
    torch.manual_seed(0)
    network = build_network(config)
    return Fitting(system, config, "full", examples, network, make_accelerator(system.train, "cpu"))


class Held:
    """Frames by id."""

    def __init__(self, frames: dict[str, np.ndarray]) -> None:
        self.held = frames

    def get(self, utterance_id: str) -> np.ndarray:
        return self.held[utterance_id]

    def frames(self, utterance_id: str) -> int:
        return len(self.held[utterance_id])


def test_accumulation_over_waveforms_is_the_large_batch_and_every_batch_moves_the_weights() -> None:
    import torch

    found = []
    for batch_size, accumulate in ((16, 1), (4, 4)):
        fitting = made_fitting(batch_size, accumulate)
        steps: list[dict[str, Any]] = []
        named = dict(fitting.network.named_parameters())
        fitting.optimizer.step = lambda s=steps, n=named: s.append(
            {k: p.grad.clone() for k, p in n.items() if p.grad is not None}
        )
        fitting.epoch(0)
        found.append(steps)
    assert [len(s) for s in found] == [1, 1]
    for name, grad in found[0][0].items():
        torch.testing.assert_close(found[1][0][name], grad, atol=2e-5, rtol=1e-3, msg=name)
    fitting = made_fitting(4, 1)
    moved, before = [], None
    for batch in fitting.loaders[0].epoch(0):
        before = fitting.network.head.pool.score.weight.detach().clone()
        fitting.update([batch], parts._Means(), 0)
        moved.append(float((fitting.network.head.pool.score.weight - before).abs().max().detach()))
    assert len(moved) == 4
    assert min(moved) > 0


def test_half_precision_trains_a_backbone() -> None:
    fitting = made_fitting(8, 1, "bf16")
    row = fitting.epoch(0)
    assert np.isfinite(row["loss"])
    assert all(p.dtype.itemsize == 4 for p in fitting.network.parameters()), "weights stay as they are"


@pytest.mark.parametrize("family", ["wavlm", "hubert", "wav2vec2", "distilhubert", "whisper"])
def test_half_precision_has_the_loss_and_gradients_of_float32(family: str) -> None:
    """On any CPU: oneDNN's bf16 convolution in groups is wrong on one with AMX, and is not used."""
    import torch

    def trained(precision: str) -> tuple[float, torch.Tensor]:
        fitting = made_fitting(16, 1, precision, family)
        fitting.optimizer.step = lambda: None
        loss = fitting.epoch(0)["loss"]
        grads = {k: p.grad for k, p in fitting.network.named_parameters() if p.grad is not None}
        assert family == "whisper" or any("pos_conv_embed" in name for name in grads)
        return loss, torch.cat([grads[name].flatten() for name in sorted(grads)])

    (exact_loss, exact), (rough_loss, rough) = trained("fp32"), trained("bf16")
    assert rough_loss != exact_loss
    assert rough_loss == pytest.approx(exact_loss, rel=0.005)  # found: 0.001
    assert float((rough - exact).norm()) < 0.1 * float(exact.norm())  # found: 0.01 to 0.03; with oneDNN's 0.3 to 1.2


@pytest.mark.slow
def test_the_published_recipe_on_real_recordings(wavlm: Path, tmp_path: Path) -> None:
    if not (DATA / "ravdess").is_dir():
        pytest.skip(f"no real recordings at {DATA / 'ravdess'} (set SERKIT_DATA)")
    actors = ("01", "02", "04", "05", "09", "10", "11", "12")  # a woman and a man of test and dev, four of train
    clips = ravdess(DATA / "ravdess").where(
        lambda u: u.speaker in actors and u.meta["repetition"] == 1 and u.meta["statement"] == 1
    )
    killed_and_resumed(load_recipe("mll2026", QUICK), clips, tmp_path)


def test_a_network_on_waveforms_is_one_more_column_of_the_stack(wavlm: Path, toy_root: Path, tmp_path: Path) -> None:
    mll = load_recipe("mll2026", QUICK).model_dump(mode="json")["systems"]["mll"]
    text = {
        "name": "both",
        "systems": {
            "mll": {**mll, "train": {**mll["train"], "epochs": 1}},
            "sound": {
                "features": [{"name": "logmel/24", "pool": 8}],
                "model": {"name": "mean_pool", "hidden": 8, "normalize": "train"},
                "train": {"epochs": 2, "lr": 5e-3},
            },
        },
        "crossfit": {"folds": 2},
        "stack": {"trees": 5, "min_leaf": 2, "min_split": 2, "folds": 2},
        "evaluate": {"draws": 10},
    }
    run = run_on(parse_recipe(yaml.safe_dump(text)), few(toy_root), tmp_path)
    tree = report(run)
    assert set(tree["systems"]) >= {"mll", "sound", "stack"}
    assert run.predictions("mll", "train").ids == run.predictions("sound", "train").ids
    assert not run.predictions("mll", "train").seen.any()
    assert tree["systems"]["stack"]["test"]["macro_f1"]["n"] == len(run.manifest.split("test"))


def test_a_soup_of_adapters_is_the_mean_of_the_merged_networks(
    wavlm: Path, toy_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mean of the adapters would be another one: a product of means is no mean of products."""
    pytest.importorskip("peft")
    from safetensors.numpy import load_file

    from serkit import training

    monkeypatch.setattr(training, "forget_members", lambda folder: None)
    tuned = ("model.backbone=wavlm/base", "model.tuning=lora", "model.backbone_lr=1e-2")
    soup = ("train.epochs=1", "train.batch_size=8", "train.soup=2", "evaluate.draws=10")
    run = run_on(load_recipe("finetune", [*tuned, *soup]), few(toy_root), tmp_path)
    (system,) = run.recipe.systems
    folder = run.network(system, "full")
    members = [load_file(folder / training.MEMBERS / str(k) / "model.safetensors") for k in (1, 2)]
    found = load_file(folder / "model.safetensors")
    assert found.keys() == members[0].keys()
    assert not any("lora_" in name for name in found)
    adapted = [name for name in found if not np.array_equal(members[0][name], members[1][name])]
    assert any(name.startswith("backbone.") for name in adapted)
    frozen = set(found) - set(adapted)
    assert any(name.startswith("backbone.") for name in frozen)
    for name, value in found.items():
        assert np.allclose(value, (members[0][name].astype(np.float64) + members[1][name]) / 2, atol=1e-7)
        assert name in adapted or np.array_equal(value, members[0][name]), "what is frozen stays, to the bit"


@pytest.mark.parametrize("tuning", ["lora", "frozen"])
def test_one_option_puts_a_pretrained_network_under_the_head(
    tuning: str, wavlm: Path, toy_root: Path, tmp_path: Path
) -> None:
    pytest.importorskip("peft")
    recipe = load_recipe("finetune", [f"model.tuning={tuning}", "model.backbone=wavlm/base", "train.epochs=1"])
    system = recipe.systems["finetune"]
    assert [f.key for f in system.features] == ["waveform[trim=true]"]
    assert system.model.parameters["backbone"] == "wavlm/base"
    assert "waveform" in needed_features(recipe)
    run = run_on(recipe, few(toy_root), tmp_path)
    assert report(run)["systems"]["finetune"]["test"]["uar"]["n"] == len(run.manifest.split("test"))
    if tuning == "lora":
        answers_as_measured(run, tmp_path)
    kept = (run.network("finetune", "full") / "model.safetensors").read_bytes()
    assert b"lora_" not in kept[:200_000], "adapters are merged"


def test_whisper_is_trained_in_all_layers_bundled_and_answers(toy_root: Path, tmp_path: Path) -> None:
    backbone = "model.backbone={name: whisper/random, dropout: 0.1, layers: 3}"
    more = (
        "model.states=weighted",
        "model.frozen_layers=1",
        "model.layer_decay=0.8",
        "model.gradient_checkpointing=true",
    )
    run = run_on(load_recipe("finetune", [backbone, *more, *QUICK]), few(toy_root), tmp_path)
    answers_as_measured(run, tmp_path)
    config = load_config(run.network("finetune", "full"))
    assert config.backbone is not None
    assert config.backbone["family"] == "whisper"


def test_the_option_goes_back_and_keeps_what_both_have() -> None:
    recipe = load_recipe("mll2026", ["model.backbone=compact", "model.channels=32"])
    system = recipe.systems["mll"]
    assert system.model.name == "compact"
    assert system.model.parameters == {"heads": 16, "pooling": "attention", "bottleneck": 64, "channels": 32}
    assert [f.key for f in system.features] == ["logmel/80"]
    assert load_recipe("finetune", ["model.backbone=compact"]) == load_recipe("finetune")
    other = load_recipe("mll2026", ["model.backbone=hubert/large"]).systems["mll"]
    assert other.model.parameters["backbone"] == "hubert/large"
    assert "backbone_lr" not in other.model.parameters
    with pytest.raises(SerkitError, match=r"model\.backbone: no system has this key"):
        load_recipe("toy", ["model.backbone=wavlm/base"])


def test_a_backbone_that_cannot_be_is_refused_before_any_work(toy_root: Path, tmp_path: Path) -> None:
    recipe = load_recipe("finetune", ["model.backbone=wavlm/bas"])
    with pytest.raises(SerkitError, match="did you mean 'wavlm/base'"):
        pipeline.prepare(recipe, few(toy_root), tmp_path / "run")
    assert not (tmp_path / "run").exists()


TOGETHER = """
name: both
transcripts: corpus
systems:
  both:
    features: [waveform, tokens/roberta/large]
    model: {name: joint_backbones, backbone: wavlm/large, text_backbone: roberta/large, backbone_lr: 5.0e-3, hidden: 8}
    losses: [cross_entropy, {name: multi_layer_contrastive, width: 8}]
    augment: [{name: crop, max_s: 0.5}]
    train: {epochs: 2, batch_size: 8, lr: 1.0e-2}
crossfit: null
stack: null
evaluate: {draws: 10}
"""


def with_words(manifest: Manifest) -> Manifest:
    """Each clip with words of its own, which tell its emotion."""
    rows = (dataclasses.replace(u, text=f"{u.emotion} it is, said {u.speaker}") for u in manifest)
    return dataclasses.replace(manifest, utterances=tuple(rows))


def test_speech_and_text_trained_together_are_killed_resumed_bundled_and_answer(
    toy_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bundle is whole: it answers when both checkpoints are gone and nothing can be fetched."""
    from tiny_checkpoints import in_roots

    folders = in_roots(tmp_path, monkeypatch, {"wavlm/large": {}, "roberta/large": {}})
    recipe = parse_recipe(TOGETHER)
    killed_and_resumed(recipe, with_words(few(toy_root)), tmp_path)
    run = pipeline.Run(tmp_path / "cut")
    assert load_network(run.network("both", "full"))[0].text_backbone.tokenizer
    card = (tmp_path / "card.md").read_text(encoding="utf-8")
    assert card.count("Fine-tuned and included: `wavlm/large` (revision") == 1
    assert "`roberta/large` (revision" in card
    assert "Also needed: none" in card, "the tokenizer is inside"
    page = (tmp_path / "cut" / "report" / "report.html").read_text(encoding="utf-8").replace("<wbr>", "")
    assert "roberta/large (trained in both)" in page
    for folder in folders.values():
        shutil.rmtree(folder)
    (tmp_path / "config" / "roots.yaml").write_text("{}")
    bundle_of_text_alone_answers(tmp_path, monkeypatch)


def bundle_of_text_alone_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import serkit
    from serkit.serving.exporting import export

    for name in ("fetching.fetch", "checkpoints.resolve"):
        monkeypatch.setattr(f"serkit.{name}", lambda *_, **__: pytest.fail("a checkpoint was asked for"))
    model = serkit.load(tmp_path / "mine.serkit")
    files = [name for name in model.bundle.head["files"] if name.startswith("tokenizers/")]
    assert len(files) == 1
    assert model.bundle.features["tokens/roberta/large"]["tokenizer"] == files[0]
    clip = serkit.example()
    said = [model.predict(clip, text=text).probabilities for text in ("anger it is", "sadness", "anger it is")]
    assert said[0] == said[2]
    assert said[0] != said[1], "words count"
    assert model.predict(clip).notes, "an answer without words says so"
    code = (
        "import serkit, sys\n"
        f"print(serkit.load({str(tmp_path / 'mine.serkit')!r}).predict(serkit.example(), text='anger').label)\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    with pytest.raises(
        SerkitError, match=r"reads text \(tokens/roberta/large\), and an ONNX file of a whole model hears"
    ):
        export(model, tmp_path / "x.onnx")


def test_a_text_model_without_an_onnx_form_is_trained_and_not_bundled(toy_root: Path, tmp_path: Path) -> None:
    from serkit.foundation.tiny import tiny_folder
    from serkit.serving.building import build

    tree = yaml.safe_load(TOGETHER)
    system = tree["systems"]["both"]
    name = f"path:{tiny_folder('bert', tmp_path / 'bert', hidden_act='relu')}"
    system["features"] = [f"tokens/{name}"]
    system["model"] = {"name": "joint_backbones", "text_backbone": name, "hidden": 8}
    system["augment"], system["train"]["epochs"] = [], 1
    run = run_on(parse_recipe(yaml.safe_dump(tree)), with_words(few(toy_root)), tmp_path)
    assert report(run)["systems"]["both"]["test"]["uar"]["n"] == len(run.manifest.split("test"))
    with pytest.raises(SerkitError, match="both/full: no ONNX form of a text backbone with 'relu'"):
        build(run, tmp_path / "mine.serkit")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (
            "features",
            ["waveform", "tokens/bert/random"],
            "tokens/bert/random are not the tokens of text_backbone roberta",
        ),
        ("model", "cross_attention", "tokens/roberta/large is for model joint_backbones with text_backbone"),
        ("features", ["waveform"], "got waveform with backbone and text_backbone"),
        ("augment", [{"name": "seq_aug"}], "'seq_aug' changes numbers, and tokens/roberta/large are ids of tokens"),
        ("augment", ["feature_mixup"], "'feature_mixup' changes numbers"),
        ("features", ["waveform", "tokens/roberta/larg"], "tokens/roberta/larg are not the tokens of text_backbone"),
    ],
)
def test_tokens_that_no_model_reads_are_refused_before_any_work(
    key: str, value: Any, message: str, toy_root: Path, tmp_path: Path
) -> None:
    tree = yaml.safe_load(TOGETHER)
    tree["systems"]["both"][key] = value
    with pytest.raises(SerkitError, match=message):
        pipeline.prepare(parse_recipe(yaml.safe_dump(tree)), with_words(few(toy_root)), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_compact_is_trained_bundled_and_answers(toy_root: Path, tmp_path: Path) -> None:
    sizes = ("model.channels=32", "model.heads=4", "train.epochs=2", "evaluate.draws=10")
    answers_as_measured(run_on(load_recipe("finetune", sizes), few(toy_root), tmp_path), tmp_path)


def answers_as_measured(run: pipeline.Run, tmp_path: Path) -> None:
    """The bundle of a run gives each test clip the class that the run measured."""
    pytest.importorskip("onnx")
    import serkit
    from serkit.serving.building import build

    manifest = run.manifest
    built = build(run, tmp_path / "mine.serkit")
    assert built.difference < 1e-4
    model = serkit.load(tmp_path / "mine.serkit")
    (tmp_path / "card.md").write_text(model.bundle.text("card.md"), encoding="utf-8")
    test = manifest.split("test")
    texts = [u.text or "" for u in test] if model.reads_text else None
    answers = model.predict_proba([manifest.audio_path(u) for u in test], texts=texts)
    logits = run.predictions(next(iter(run.recipe.systems)), "test").take(list(test.ids)).scores
    order = np.argsort(logits, axis=1)
    assert np.array_equal(answers.argmax(axis=1), order[:, -1]), "the bundle answers what the run measured"
