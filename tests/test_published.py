"""Recipes of published systems, small, from recordings to a report: tiny random checkpoints of the real classes.

They cannot hear. What is shown is that each recipe's parts go together and learn, and that what is known to be wrong in
released code of these systems is not so here.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from made import made_config, made_examples, made_manifest, made_system, voted
from serkit import pipeline, regions
from serkit.corpora.toy import toy
from serkit.fitting import Fitting, make_accelerator
from serkit.labels import apply_labels
from serkit.listing import recipes
from serkit.losses.multi_layer_contrastive import MultiLayerContrastive
from serkit.models.cross_attention import CrossAttention
from serkit.networks import build_network, load_config, load_network
from serkit.pipeline.measure import published, told_by_authors
from serkit.recipe import Recipe, load_recipe, parse_recipe, recipe_names
from serkit.sampling import Loader
from serkit.schedules import learning_rate
from serkit.serving.agreement import largest_difference
from serkit.serving.export import to_onnx
from serkit.types import Manifest, Utterance
from tiny_checkpoints import in_roots

CHECKPOINTS = (
    "whisper/large-v2", "whisper/large-v3", "hubert/large-ls960-ft", "hubert/xlarge-ls960-ft", "wavlm/large",
    "roberta/large", "modernbert/large",
)  # fmt: skip
QUICK = ("train.epochs=1", "train.lr=1e-3", "evaluate.draws=10")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the checkpoints are; no test changes them."""
    return tmp_path_factory.mktemp("models")


@pytest.fixture
def folders(tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """A tiny checkpoint of the real class for each name, in ``roots.yaml`` of this machine."""
    pytest.importorskip("transformers")
    layers = {"num_hidden_layers": 4}  # as many as mean_last_4 takes
    names = {name: {} if name.startswith("whisper") else layers for name in CHECKPOINTS}
    return in_roots(tmp_path, monkeypatch, names, models)


def small(name: str, *overrides: str, systems: tuple[str, ...] | None = None) -> Recipe:
    """A recipe with small networks and one epoch, and only some of its systems where they are named."""
    tree = load_recipe(name).model_dump(mode="json")
    if systems is not None:
        tree["systems"] = {key: tree["systems"][key] for key in systems}
    return parse_recipe(yaml.safe_dump(tree), (*QUICK, *overrides))


def finish(recipe: Recipe, toy_root: Path, toy_store: Path, tmp_path: Path) -> tuple[pipeline.Run, dict[str, Any]]:
    """Run on half of the toy corpus's clips; every system is measured and learned by the losses it names."""
    clips = toy(toy_root).where(lambda u: u.id.endswith("_1"))
    run = pipeline.prepare(recipe, clips, tmp_path / "run")
    pipeline.run_all(run, pipeline.Machine(toy_store, "cpu", jobs=1))
    run = pipeline.Run(run.folder)
    tree: dict[str, Any] = json.loads((run.folder / "report" / "report.json").read_text(encoding="utf-8"))
    for name, system in recipe.systems.items():
        found = tree["systems"][name]["test"]["macro_f1"]
        assert 0.0 <= found["value"] <= 1.0
        assert found["n"] == len(run.manifest.split("test"))
        for history in (run.folder / "systems" / name).glob("*/history.jsonl"):
            row = json.loads(history.read_text().splitlines()[0])
            assert {f"loss_{loss.name}" for loss in system.losses} <= row.keys()
            assert np.isfinite([v for v in row.values() if isinstance(v, float)]).all()
    return run, tree


SMALL_LEGS = ("transcripts=corpus", "model.hidden=8", "model.feed_forward=16", "train.batch_size=16")


EIGHT = ("anger", "contempt", "disgust", "fear", "happiness", "neutral", "sadness", "surprise")
ON_MSP_PODCAST = {
    "ueda2025", "medusa2025", "sailer2025", "sailer_text2025", "abhinaya2025", "ufg2025", "odyssey2024", "crab2026",
    "wavlm_baseline", "sail2025",
}  # fmt: skip


@pytest.mark.parametrize("name", recipe_names())
def test_published_figures_are_of_the_recipe_s_own_authors_and_of_its_task(name: str) -> None:
    """Regression: reports of any recipe on MSP-Podcast, quadrants once too, had the figures of Ueda et al."""
    recipe, manifest = load_recipe(name), Manifest("msp_podcast", EIGHT, ())
    said = published(recipe, manifest)
    assert ["Ueda et al. (2025, table 2)" in text for text in said] == [name == "ueda2025"] * len(said)
    assert bool(said) is (name in ON_MSP_PODCAST)
    told = told_by_authors(recipe, manifest, [*recipe.systems, "vote", "mean_logit"])
    assert told.get("published", []) == said
    assert told.get("published_answer") == {"ufg2025": "vote", "odyssey2024": "vote"}.get(name)
    assert "published_answer" not in told_by_authors(recipe, manifest, list(recipe.systems)), "a row that is not there"
    assert not published(recipe, replace(manifest, corpus="iemocap+msp_podcast"))
    divided = replace(manifest, info={regions.KEY: {"kind": "octants"}})
    for other in (replace(manifest, labels=EIGHT[:4]), replace(manifest, labels=(*EIGHT, "other")), divided):
        assert bool(published(recipe, other)) is (name == "sail2025"), "CCC is of no classes"


def test_odyssey2024_ends_in_the_vote_of_its_seven(
    folders: dict[str, Path], toy_root: Path, toy_store: Path, tmp_path: Path
) -> None:
    recipe = small("odyssey2024", *SMALL_LEGS)
    run, tree = finish(recipe, toy_root, toy_store, tmp_path)
    assert len(recipe.systems) == 7
    assert "stack" not in tree["systems"]
    names = list(recipe.systems)
    rows = [run.predictions(name, "test") for name in names]
    voted = tree["systems"]["vote"]["test"]["macro_f1"]
    assert voted["n"] == len(rows[0].ids)
    assert {f.name for f in recipe.features.values()} == {
        "wavlm/large", "hubert/xlarge-ls960-ft", "whisper/large-v3", "roberta/large",
    }  # fmt: skip


def test_medusa2025_learns_votes_and_attributes(
    folders: dict[str, Path], toy_root: Path, toy_store: Path, tmp_path: Path
) -> None:
    chosen = ("whisper_roberta", "wavlm_hubert_modernbert")
    staged = (
        "train.epochs=2", "second_stage.after_epochs=1", "crossfit.folds=2", "stack.folds=2", "stack.trees=10",
    )  # fmt: skip
    recipe = small("medusa2025", *SMALL_LEGS, *staged, systems=chosen)
    run, tree = finish(recipe, toy_root, toy_store, tmp_path)
    assert {"stack", "vote"} <= tree["systems"].keys()
    config = load_config(run.network("wavlm_hubert_modernbert", "fold0"))
    assert len(config.dims) == 3
    assert config.model["mixup"] == 0.3
    for rows in run.history("whisper_roberta").values():
        assert [(r["stage"], r["lr"]) for r in rows] == [(1, pytest.approx(1e-3)), (2, pytest.approx(1e-6))]
        assert {"loss_kl_soft", "loss_attribute_mse"} <= rows[1].keys()


def test_medusa2025_holds_what_was_read_of_its_second_stage() -> None:
    """Read in the released code (812e4d3), train_deepser.py and utils/dataset/dataset.py."""
    recipe = load_recipe("medusa2025")
    for system in recipe.systems.values():
        first, second = system.stages
        assert (first.train.epochs, second.train.epochs) == (4, 46)
        assert [(s.train.lr, s.train.schedule) for s in (first, second)] == [(1e-5, "constant"), (1e-6, "constant")]
        assert [[(x.name, x.weight, x.parameters) for x in s.losses] for s in (first, second)] == [
            [("kl_soft", 1.5, {"class_weights": "sqrt_inverse_frequency"}), ("attribute_mse", 0.4, {})],
            [("kl_soft", 1.5, {}), ("attribute_mse", 0.4, {})],
        ]
        assert (second.balance, second.train.draw) == ("class", "undersample_once")
        assert system.train.soup is None
    examples, _ = made_examples(voted(n=480), targets="votes")
    balanced = Loader(examples, 32, 7, "class", "undersample_once", without_agreement=0.125)
    seen = [np.concatenate(balanced.batch_rows(epoch)) for epoch in range(3)]
    agreed = [sorted(rows[examples.labels[rows] >= 0]) for rows in seen]
    assert agreed[0] == agreed[1] == agreed[2], "the same ones in every epoch: random_state=42 there"
    alone = [sorted(rows[examples.labels[rows] < 0]) for rows in seen]
    assert alone[0] != alone[1] != alone[2], "others in every epoch"
    assert {len(rows) for rows in alone} == {len(agreed[0]) // 8}, "an eighth, rounded down"


def test_ufg2025_adds_f0_in_bins_and_ends_in_a_vote(
    folders: dict[str, Path], toy_root: Path, toy_store: Path, tmp_path: Path
) -> None:
    chosen = ("mean_pool", "mdat_f0", "ce_balanced", "wavlm_focal")
    narrow = ("model.heads=2", "model.project=8", "model.head_hidden=8", "train.warmup_steps=2")
    recipe = small("ufg2025", *SMALL_LEGS, *narrow, systems=chosen)
    run, tree = finish(recipe, toy_root, toy_store, tmp_path)
    assert {*chosen, "vote"} <= tree["systems"].keys()
    network, _ = load_network(run.network("ce_balanced", "full"))
    assert dict(network.dims)["f0_bins"] == network.embed.table("f0_bins").in_features == 256
    assert network.embed.dims["f0_bins"] == 256
    assert largest_difference(network, to_onnx(network, "mdat", run.manifest.labels)) < 1e-4


def test_ufg2025_holds_what_was_read() -> None:
    systems = load_recipe("ufg2025").systems
    assert len({s.model_dump_json() for s in systems.values()}) == len(systems) == 11
    for name, system in systems.items():
        changed = [encoder for step in system.augment for encoder in step.parameters["encoders"]]
        frozen = [f.key for f in system.features if f.key != "f0_bins"]
        assert changed == ([] if name in ("mean_pool", "mdat", "mdat_f0") else frozen), "each apart, and F0 not at all"
    fitting = made_fitting(**systems["ce"].train.model_dump(include={"beta2", "weight_decay"}))
    group = fitting.optimizer.param_groups[0]
    assert (group["betas"], group["eps"], group["weight_decay"]) == ((0.9, 0.98), 1e-8, 1e-6)


def test_abhinaya2025_is_its_speech_system_alone(
    folders: dict[str, Path], toy_root: Path, toy_store: Path, tmp_path: Path
) -> None:
    recipe = small("abhinaya2025", "model.hidden=8", "train.batch_size=8")
    run, tree = finish(recipe, toy_root, toy_store, tmp_path)
    assert list(recipe.systems) == ["s1"]
    assert recipe.systems["s1"].losses[0].parameters == {"gamma": 2.0, "class_weights": "inverse_frequency"}
    assert "in place of microsoft/wavlm-large" in json.dumps(tree), "the substitution is told"
    network, _ = load_network(run.network("s1", "full"))
    assert network.head.pool.pooling == "attentive_statistics"
    assert not network.backbone.normalise, "samples as they are"


def test_emosphere2025_keeps_its_auxiliary_loss_at_the_floor(
    folders: dict[str, Path], toy_root: Path, toy_store: Path, tmp_path: Path
) -> None:
    """In the release the weight is computed as 0.01 from the sixth epoch on, and the term is dropped."""
    narrow = ("model.hidden=8", "model.style_width=8", "labels=quadrants", "train.epochs=7")
    run, tree = finish(small("emosphere2025", *narrow), toy_root, toy_store, tmp_path)
    rows = [json.loads(line) for line in (run.network("wavlm", "full") / "history.jsonl").read_text().splitlines()]
    weights = [row["scaled_cross_entropy"] / row["loss_cross_entropy"] for row in rows]
    assert weights == pytest.approx([1.0, 0.802, 0.604, 0.406, 0.208, 0.01, 0.01], rel=1e-3)
    assert tree["systems"]["wavlm"]["dev"]["ccc"]["value"] == pytest.approx(max(r["dev_ccc"] for r in rows), abs=1e-4)
    network, _ = load_network(run.network("wavlm", "full"))
    assert type(network.head.pool).__name__ == "StylePooling"
    assert network.head.attributes is not None
    assert tree["labels"] == ["a+v+", "a+v-", "a-v+", "a-v-"]


def test_emosphere2025_is_as_released_where_it_was_read() -> None:
    recipe = load_recipe("emosphere2025")
    (system,) = recipe.systems.values()
    assert recipe.labels == "octants"
    ccc, octants = system.losses
    assert (ccc.name, ccc.weight_at(0), ccc.weight_at(19)) == ("ccc", 1.0, 1.0)
    released = [1 - (e / 5) * (1 - 0.01) for e in range(5)] + [0.01] * 15
    assert [octants.weight_at(e) for e in range(20)] == pytest.approx(released)
    train = system.train
    assert (train.batch_size * train.accumulate, train.lr, train.epochs, train.select) == (64, 1e-5, 20, "ccc")


def test_the_baseline_of_the_challenge(
    folders: dict[str, Path], toy_root: Path, toy_store: Path, tmp_path: Path
) -> None:
    run, tree = finish(small("wavlm_baseline", "model.hidden=8", "train.batch_size=8"), toy_root, toy_store, tmp_path)
    network, _ = load_network(run.network("wavlm", "full"))
    assert network.normalisation.keeps_statistics, "samples by the training set"
    sizes = {
        part: sum(v.numel() for v in getattr(network, part).state_dict().values()) for part in ("backbone", "head")
    }
    weights = tree["design"]["wavlm"]["weights"]
    assert weights >= sum(sizes.values()) > 2 * sizes["head"], (
        "the tuned encoder counts: elsewhere only heads were given"
    )


@pytest.mark.parametrize(
    ("name", "batch_size", "accumulation_steps"), [("wavlm_baseline", 32, 4), ("emosphere2025", 64, 4)]
)
def test_a_step_has_as_many_clips_as_in_the_challenge_s_code(
    name: str, batch_size: int, accumulation_steps: int
) -> None:
    """Its loader is given ``BATCH_SIZE // ACCUMULATION_STEP``; the baseline had batches of 32, 128 clips a step."""
    (system,) = load_recipe(name).systems.values()
    assert (system.train.batch_size, system.train.accumulate) == (batch_size // accumulation_steps, accumulation_steps)


def test_sailer2025_learns_votes_by_adapters(
    folders: dict[str, Path], toy_root: Path, toy_store: Path, tmp_path: Path
) -> None:
    pytest.importorskip("peft")
    narrow = ("model.hidden=8", "model.frame_width=8", "model.lora_rank=2", "model.frozen_layers=2")
    run, tree = finish(small("sailer2025", *narrow, "train.batch_size=8"), toy_root, toy_store, tmp_path)
    wavlm, _ = load_network(run.network("wavlm", "full"))
    weights = wavlm.layer_weights.weights()
    assert len(weights) == 5
    assert len(weights.unique()) > 1, "they were learned"
    whisper, _ = load_network(run.network("whisper", "full"))
    assert (whisper.layer_weights, whisper.backbone.frames) == (None, 750)
    for network in (wavlm, whisper):
        assert largest_difference(network, to_onnx(network, "speech_backbone", run.manifest.labels)) < 1e-4
    assert "mean_probability" in tree["systems"]


def test_sailer_text2025_adapts_whisper_and_reads_the_words(
    folders: dict[str, Path], toy_root: Path, toy_store: Path, tmp_path: Path
) -> None:
    pytest.importorskip("peft")
    narrow = ("transcripts=corpus", "model.hidden=8", "model.lora_rank=2", "train.batch_size=8")
    run, _ = finish(small("sailer_text2025", *narrow), toy_root, toy_store, tmp_path)
    network, config = load_network(run.network("whisper_roberta", "full"))
    assert network.backbone.frames == 750, "windows of 15 s"
    plain = {k.replace(".base_layer", ""): v for k, v in build_network(config).state_dict().items()}
    moved = {k for k, v in network.state_dict().items() if not torch.equal(v, plain[k])}
    adapted = {k for k in moved if k.startswith("backbone.")}
    assert adapted
    assert all(".fc1." in k or ".fc2." in k for k in adapted)
    assert not [k for k in moved if k.startswith("text_backbone.")], "RoBERTa is as it was"
    assert largest_difference(network, to_onnx(network, "joint_backbones", run.manifest.labels)) < 1e-4


def test_the_ninth_output_of_sailer_is_what_other_votes_are_for() -> None:
    """Its network has one for votes that are for none of the eight classes; ``labels: votes`` makes it."""
    rows = [
        Utterance(f"u{k}", "x.wav", speaker=f"s{k}", split="train", emotion=emotion, votes={emotion: 3.0, "other": 1.0})
        for k, emotion in enumerate(("anger", "neutral"))
    ]
    manifest = Manifest("m", ("anger", "neutral"), tuple(rows))
    for name in ("sailer2025", "sailer_text2025"):
        assert apply_labels(manifest, load_recipe(name)).labels == ("anger", "neutral")
        nine = apply_labels(manifest, load_recipe(name, ["labels=votes"]))
        assert nine.labels == ("anger", "neutral", "other")
        assert nine.votes()[0].tolist() == [0.75, 0.0, 0.25]


@pytest.mark.parametrize(("name", "layers"), [("wavlm", 24), ("whisper", 32)])
def test_the_released_layers_of_sailer_are_those_that_adapt(name: str, layers: int) -> None:
    """Read in its code: those whose number, from 0, is above half of them."""
    system = load_recipe("sailer2025").systems[name]
    assert system.model.parameters["frozen_layers"] == len([k for k in range(layers) if not k > layers // 2])


def test_em2ldl2025_learns_the_distribution_of_votes_over_a_class_that_labels_no_clip(
    folders: dict[str, Path], toy_root: Path, toy_store: Path, tmp_path: Path
) -> None:
    clips = toy(toy_root).where(lambda u: u.id.endswith("_1"))
    rows = tuple(replace(u, emotion=None) if u.emotion == "sadness" else u for u in clips)
    clips = replace(clips, labels=tuple(x for x in clips.labels if x != "sadness"), utterances=rows)
    recipe = small("em2ldl2025", "train.batch_size=8", "train.epochs=2")
    run = pipeline.prepare(recipe, clips, tmp_path / "run")
    assert run.manifest.labels[-1] == "sadness"
    assert run.manifest.counts()["sadness"] == 0
    pipeline.run_all(run, pipeline.Machine(toy_store, "cpu", jobs=1))
    found = json.loads((run.folder / "report" / "report.json").read_text())["systems"]["hubert"]["test"]
    assert found["kl"]["n"] == found["kl_prior"]["n"] == len(run.manifest.split("test")), "with and without a label"
    assert found["macro_f1"]["n"] < found["kl"]["n"]
    last = run.history("hubert")["full"][-1]
    assert last["scaled_cosine"] == pytest.approx(0.3 * last["loss_cosine"])
    assert last["scaled_kl_soft"] == pytest.approx(last["loss_kl_soft"])
    assert last["dev_kl"] > 0
    network, config = load_network(run.network("hubert", "full"))
    plain = build_network(config).state_dict()
    moved = [k for k, v in network.state_dict().items() if not torch.equal(v, plain[k])]
    assert any("feature_extractor" in k for k in moved), "the convolutions too, as in the release"
    on_top = {k: v.shape for k, v in network.state_dict().items() if k.startswith("head.")}
    assert sorted(map(tuple, on_top.values())) == [(5,), (5, network.backbone.dim)], "one linear layer"
    assert largest_difference(network, to_onnx(network, "speech_backbone", run.manifest.labels)) < 1e-4


def test_em2ldl2025_is_as_released_where_it_was_read() -> None:
    recipe = load_recipe("em2ldl2025")
    (system,) = recipe.systems.values()
    assert recipe.labels == "votes"
    assert [(x.name, x.weight) for x in system.losses] == [("kl_soft", 1.0), ("cosine", 0.3)]
    train = system.train
    assert (train.lr, train.weight_decay, train.batch_size, train.accumulate, train.epochs) == (1e-5, 0.0, 32, 1, 20)
    assert (train.schedule, train.select, train.targets) == ("constant", "kl", "votes")
    assert system.model.parameters["backbone"] == {"name": "hubert/large-ls960-ft", "layer_drop": 0.1}
    assert not system.model.parameters["freeze_feature_encoder"]


def test_sail2025_learns_ratings_and_the_gender_beside_them(
    folders: dict[str, Path], toy_root: Path, toy_store: Path, tmp_path: Path
) -> None:
    run, tree = finish(
        small("sail2025", "transcripts=corpus", "model.hidden=8", "losses.gender.width=4"),
        toy_root,
        toy_store,
        tmp_path,
    )
    n = tree["systems"]["mean_probability"]["test"]["ccc"]["n"]
    assert n == len(run.manifest.split("test"))
    drawn = {name: run.history(name)["full"][0] for name in ("wavlm", "wavlm_roberta")}
    for row in drawn.values():
        assert row["scaled_gender"] == pytest.approx(0.1 * row["loss_gender"], rel=1e-4)
        assert row["scaled_cross_entropy"] == pytest.approx(0.01 * row["loss_cross_entropy"], rel=1e-4)
        assert row["dev_ccc"] == pytest.approx(
            np.mean([row[f"dev_ccc_{k}"] for k in ("arousal", "valence", "dominance")])
        )
    network, _ = load_network(run.network("wavlm_roberta", "full"))
    assert len(network.head.attributes[0].parts) == 3
    assert not [key for key in network.state_dict() if "gender" in key], "no network tells a gender"
    each = [run.predictions(name, "test") for name in drawn]
    mean = run.predictions("mean_probability", "test").take(each[0].ids).attributes
    np.testing.assert_allclose(mean, (each[0].attributes + each[1].take(each[0].ids).attributes) / 2, atol=1e-6)
    assert largest_difference(network, to_onnx(network, "joint_backbones", run.manifest.labels)) < 1e-4


def test_sail2025_holds_what_was_read() -> None:
    recipe = load_recipe("sail2025")
    assert recipe.labels == "quadrants"
    assert [list(s.backbones.values()) for s in recipe.systems.values()] == [
        ["wavlm/large"], ["wavlm/large", "roberta/large"],
    ]  # fmt: skip
    for system in recipe.systems.values():
        assert [(x.name, x.weight) for x in system.losses][:2] == [("ccc", 1.0), ("gender", 0.1)]
        assert (system.balance, system.train.draw, system.train.select) == ("class", "undersample", "ccc")


@pytest.mark.slow
def test_medusa2025_whole(folders: dict[str, Path], toy_root: Path, toy_store: Path, tmp_path: Path) -> None:
    recipe = small("medusa2025", *SMALL_LEGS, "crossfit.folds=2", "stack.folds=2", "stack.trees=10")
    finish(recipe, toy_root, toy_store, tmp_path)
    assert len(recipe.systems) == 12
    assert len({system.model_dump_json(include={"features"}) for system in recipe.systems.values()}) == 12


@pytest.mark.slow
def test_ufg2025_whole(folders: dict[str, Path], toy_root: Path, toy_store: Path, tmp_path: Path) -> None:
    narrow = ("model.heads=2", "model.project=8", "model.head_hidden=8", "train.warmup_steps=2")
    finish(small("ufg2025", *SMALL_LEGS, *narrow), toy_root, toy_store, tmp_path)


CRAB = ("transcripts=corpus", "model.hidden=8", "losses.multi_layer_contrastive.width=8")


def test_crab2026_trains_both_backbones_and_supervises_five_layers(
    folders: dict[str, Path], toy_root: Path, toy_store: Path, tmp_path: Path
) -> None:
    run, tree = finish(small("crab2026", *CRAB, "model.backbone_lr=1e-3"), toy_root, toy_store, tmp_path)
    network, config = load_network(run.network("crab", "full"))
    assert len(network.layer_dims) == 5
    assert not [key for key in network.state_dict() if "contrast" in key], "the projections stay with the training"
    plain = build_network(config)
    assert network.state_dict().keys() == plain.state_dict().keys()
    moved = [k for k, v in plain.state_dict().items() if not torch.equal(v, network.state_dict()[k])]
    assert any(k.startswith("backbone.model.encoder.layers.0.") for k in moved)
    assert any(k.startswith("text_backbone.model.encoder.layer.0.") for k in moved)
    assert not any("feature_extractor" in k for k in moved), "WavLM without its convolutions"
    assert largest_difference(network, to_onnx(network, "joint_backbones", run.manifest.labels)) < 1e-4
    trained = [name for name in tree["provenance"]["features"] if "trained in crab" in name]
    assert trained == ["wavlm/large (trained in crab)", "roberta/large (trained in crab)"]
    described = next(row for row in recipes() if row["name"] == "crab2026")
    assert described["encoders"] == ["waveform", "tokens/roberta/large", "wavlm/large", "roberta/large"]
    assert described["extras"] == ["foundation"]


def test_a_soup_of_crab2026_keeps_its_tokenizer(
    folders: dict[str, Path], toy_root: Path, toy_store: Path, tmp_path: Path
) -> None:
    run, tree = finish(
        small("crab2026", *CRAB, "model.backbone_lr=1e-3", "train.soup=2"), toy_root, toy_store, tmp_path
    )
    assert tree["design"]["crab"]["soup"] == 2
    folder = run.network("crab", "full")
    assert {p.name for p in folder.iterdir() if p.suffix != ".parquet"} == {
        "config.json", "history.jsonl", "model.safetensors", "tokenizer.json",
    }  # fmt: skip
    network, _ = load_network(folder)
    assert network.text_backbone.tokenizer == (folder / "tokenizer.json").read_bytes()


def test_crab2026_frozen_by_one_option(
    folders: dict[str, Path], toy_root: Path, toy_store: Path, tmp_path: Path
) -> None:
    run, _ = finish(small("crab2026", *CRAB, "model.tuning=frozen"), toy_root, toy_store, tmp_path)
    network, config = load_network(run.network("crab", "full"))
    plain = build_network(config)
    moved = {k for k, v in plain.state_dict().items() if not torch.equal(v, network.state_dict()[k])}
    assert moved
    assert all(k.startswith("head.") for k in moved)


def test_crab2026_holds_what_was_read() -> None:
    system = load_recipe("crab2026").systems["crab"]
    top = {k: v for k, v in system.model.parameters.items() if "backbone" not in k}
    network = CrossAttention(dims={"waveform": 1024, "tokens/roberta/large": 1024}, n_classes=8, **top)
    loss = MultiLayerContrastive(layer_dims=network.layer_dims)
    counts = [sum(p.numel() for p in part.parameters()) for part in (network, loss)]
    assert counts == [16_811_530, 2_626_048], "as of the layers listed in the released code, counted apart"
    assert [(x.name, x.weight) for x in system.losses] == [("cross_entropy", 1.0), ("multi_layer_contrastive", 2.0)]
    assert (system.train.batch_size, system.train.accumulate, system.train.lr_min) == (8, 4, 1e-6)
    assert (system.train.lr, system.model.parameters["backbone_lr"]) == (1e-5, 1e-6)
    assert system.backbones == {"backbone": "wavlm/large", "text_backbone": "roberta/large"}
    for step in (0, 7, 19):
        assert learning_rate(system.train, 1e-6, step, 1) == pytest.approx(1e-6), "lr_min is the rate of the backbones"


# ---------------------------------------------------------------- what is wrong in released code


def made_fitting(seed: int = 1, second_stage: dict[str, Any] | None = None, **train: Any) -> Fitting:
    """A fitting of the network and losses of medusa2025, small, on made-up features with votes of distributions.

    Args:
        second_stage: what it has otherwise than the published one; without any there is none.
    """
    published = load_recipe("medusa2025").systems["wavlm_roberta"]
    model = {"name": "deepser", **published.model.parameters, "hidden": 8, "feed_forward": 16, "attribute_head": False}
    losses = [{"name": "kl_soft", "class_weights": "sqrt_inverse_frequency"}]
    stage = None
    manifest = made_manifest()
    if second_stage is not None and published.second_stage is not None:
        stage = {**published.second_stage.model_dump(), "losses": ["kl_soft"], **second_stage}
        manifest, train = voted(), {"targets": "votes", **train}
    system = made_system(model=model, losses=losses, train={"schedule": "constant", **train}, second_stage=stage)
    config = made_config(system, seed)
    torch.manual_seed(seed)
    examples, _ = made_examples(manifest, targets=system.train.targets)
    return Fitting(system, config, "full", examples, build_network(config), make_accelerator(system.train, "cpu"))


def test_every_batch_of_an_epoch_is_learned_from() -> None:
    """Regression: in MEDUSA's release the loss stands outside of the loop, and one batch an epoch is learned."""
    fitting = made_fitting(batch_size=8, accumulate=2)
    backward, steps, step = [], [], fitting.optimizer.step
    original = fitting.accelerator.backward
    fitting.accelerator.backward = lambda loss: (backward.append(float(loss.detach())), original(loss))
    fitting.optimizer.step = lambda *a, **k: (steps.append(1), step(*a, **k))
    fitting.epoch(0)
    n = len(fitting.loaders[0])
    assert n > 2
    assert len(backward) == n
    assert len(steps) == -(-n // 2)
    heard = [i for batch in fitting.loaders[0].epoch(0) for i in batch.ids]
    assert sorted(heard) == sorted(fitting.loaders[0].examples.ids), "and every clip is in one of them"


@pytest.mark.parametrize("after_epochs", [9, 1])
def test_the_optimiser_keeps_its_state_over_epochs_and_stages(after_epochs: int) -> None:
    """Regression: MEDUSA's released script makes a new AdamW in every epoch of its second stage."""
    fitting = made_fitting(epochs=3, second_stage={"after_epochs": after_epochs})
    optimizer, n = fitting.optimizer, []
    for epoch in range(3):
        moments = [v["exp_avg"].clone() for v in optimizer.state_dict()["state"].values()]
        fitting.epoch(epoch)
        n.append(-(-fitting.rows(epoch) // fitting.settings.batch_size))
        assert {float(v["step"]) for v in optimizer.state_dict()["state"].values()} == {float(sum(n))}
        assert len(moments) == (len(optimizer.state_dict()["state"]) if epoch else 0)
    assert fitting.optimizer is optimizer
    assert (n[1] < n[0]) == (after_epochs == 1), "the second stage is balanced by leaving out"
    rate = optimizer.param_groups[0]["lr"]
    assert rate == pytest.approx(1e-6 if after_epochs == 1 else fitting.settings.lr)


def crab_fitting() -> Fitting:
    """A fitting of the network and losses of crab2026, small, on made-up features in place of its backbones."""
    published = load_recipe("crab2026").systems["crab"]
    top = {k: v for k, v in published.model.parameters.items() if "backbone" not in k}
    model = {"name": "cross_attention", **top, "hidden": 8}
    losses = [x.model_dump() for x in published.losses]
    system = made_system(model=model, losses=losses, train={"schedule": "constant"})
    config = made_config(system)
    torch.manual_seed(1)
    return Fitting(
        system, config, "full", made_examples()[0], build_network(config), make_accelerator(system.train, "cpu")
    )


def resumed_is_uninterrupted(make: Callable[[], Fitting]) -> tuple[Fitting, list[dict[str, Any]]]:
    """Two epochs in one go, whose rows are returned, and with a stop between them: the same network and losses."""
    whole, first, second = (make() for _ in range(3))
    torch.manual_seed(3)
    rows = [whole.epoch(0), whole.epoch(1)]
    torch.manual_seed(3)
    first.epoch(0)
    state = first.state_dict()
    torch.manual_seed(99)
    second.load_state_dict(state)
    second.epoch(1)
    for ours, resumed in ((whole.network, second.network), (whole.losses[0], second.losses[0])):
        for a, b in zip(ours.parameters(), resumed.parameters(), strict=True):
            assert torch.equal(a, b)
    return whole, rows


def test_the_projections_of_crab2026_learn_and_are_resumed() -> None:
    before = [p.detach().clone() for p in crab_fitting().losses[0].parameters()]
    whole, rows = resumed_is_uninterrupted(crab_fitting)
    assert all(not torch.equal(a, b) for a, b in zip(before, whole.losses[0].parameters(), strict=True))
    assert rows[1]["loss_multi_layer_contrastive"] < rows[0]["loss_multi_layer_contrastive"]


def test_training_with_mixup_goes_on_where_it_was_stopped() -> None:
    resumed_is_uninterrupted(made_fitting)
