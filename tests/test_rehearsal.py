"""What the parts of a recipe refuse is told by ``prepare``, before any work, and names the system."""

from __future__ import annotations

import dataclasses
import shutil
import time

import pytest
import torch

from made import made_manifest
from rehearsed import prepare
from serkit import pipeline
from serkit.errors import SerkitError
from serkit.recipe import load_recipe, parse_recipe

RATED = dataclasses.replace(
    made_manifest(),
    utterances=tuple(dataclasses.replace(u, votes={"anger": 2, "sadness": 1}, valence=0.5) for u in made_manifest()),
)


@pytest.mark.parametrize(
    ("system", "said"),
    [
        (
            "model: compact, losses: [cross_entropy, neutral_margin]",
            "neutral_margin: this network has no neutral logit; set neutral_head: true in its model",
        ),
        (
            "model: {name: cross_attention, neutral_head: true}, losses: [{name: neutral_margin, neutral: neutrl}]",
            "neutral_margin: no label 'neutrl'; did you mean 'neutral'?",
        ),
        (
            "model: compact, losses: [ccc]",
            "the loss 'ccc' needs a network with an attribute head, but this one gives emotion only: set "
            "attribute_head: true in a model that has it, or leave the loss out",
        ),
        (
            "model: {name: compact, attribute_head: true}, losses: [ccc]",
            "the loss 'ccc' needs arousal, valence or dominance, but these clips have none: leave it out",
        ),
        (
            "model: mean_pool, losses: [supcon]",
            "the loss 'supcon' at frame level needs a network with frames; or set level: utterance",
        ),
        ("model: mean_pool, losses: [{name: focal, class_weights: [1, 2]}]", "expected 3 numbers, none negative"),
        ("model: mean_pool, losses: [focal, focal]", "the loss 'focal' occurs twice in one system"),
        ("model: mean_pool, augment: [annotator_dropout]", "set train.targets: votes"),
        (
            "model: mean_pool, augment: [{name: seq_aug, encoders: [logmel]}]",
            "augmentation 'seq_aug': no feature 'logmel' here",
        ),
    ],
)
def test_what_a_loss_or_augmentation_needs_is_told_before_any_work(tmp_path, system, said):
    with pytest.raises(SerkitError) as refused:
        prepare(tmp_path, system)
    line = str(refused.value)
    assert line.startswith("systems.mine: "), line
    assert said in line
    assert "\n" not in line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("stage", "said"),
    [
        (
            "losses: [supcon, cross_entropy]",
            "the loss 'supcon' at frame level needs a network with frames",
        ),
        ("losses: [focal, focal]", "the loss 'focal' occurs twice in one system"),
        ("losses: [neutral_margin]", "neutral_margin: this network has no neutral logit"),
    ],
)
def test_what_a_loss_of_a_second_stage_needs_is_told_before_any_work(tmp_path, stage, said):
    system = f"model: {{name: mean_pool, neutral_head: false}}, second_stage: {{after_epochs: 1, lr: 1e-5, {stage}}}"
    with pytest.raises(SerkitError) as refused:
        prepare(tmp_path, system)
    assert str(refused.value).startswith(f"systems.mine.second_stage: {said}")


def test_a_second_stage_need_not_teach_all_that_the_first_has_taught(tmp_path):
    system = (
        "model: {name: compact, attribute_head: true}, losses: [kl_soft, ccc], train: {targets: votes}, "
        "second_stage: {after_epochs: 1, lr: 1e-5, losses: [cross_entropy]}"
    )
    prepare(tmp_path, system, RATED)
    assert (tmp_path / "run" / "recipe.yaml").is_file()


def test_what_a_second_stage_need_not_do_a_first_one_must_though_it_is_the_same(tmp_path):
    votes, hard = "train: {targets: votes, epochs: 3}", "losses: [{name: cross_entropy, soft: false}]"
    net = "features: [mfcc], model: {name: mean_pool, neutral_head: false}"
    text = (
        f"name: r\nsystems:\n  a: {{{net}, losses: [kl_soft], {votes}, "
        f"second_stage: {{after_epochs: 1, lr: 1e-5, {hard}}}}}\n  b: {{{net}, {hard}, {votes}}}\n"
    )
    with pytest.raises(SerkitError, match=r"systems\.b: train\.targets is votes, but its losses"):
        pipeline.prepare(parse_recipe(text, ["crossfit=null", "stack=null"]), RATED, tmp_path / "r")
    alone = parse_recipe(text[: text.index("  b:")], ["crossfit=null", "stack=null"])
    assert pipeline.prepare(alone, RATED, tmp_path / "r").done("prepare")


def test_what_only_later_clips_are_rated_by_is_learned(tmp_path):
    made = [dataclasses.replace(u, arousal=float(k % 5)) for k, u in enumerate(made_manifest())]
    late = len(made) // 3
    rows = made[:late] + [dataclasses.replace(u, valence=float(k % 7)) for k, u in enumerate(made[late:])]
    manifest = dataclasses.replace(made_manifest(), utterances=tuple(rows))
    losses = "[kl_soft, {name: ccc, weights: [0, 1, 0]}]"
    run = prepare(tmp_path, f"model: {{name: flam, attribute_head: true}}, losses: {losses}", manifest)
    assert len(run.manifest) == len(manifest)


def test_a_second_system_that_differs_in_what_selects_it_is_asked_too(tmp_path):
    one = "features: [logmel/24], model: compact, losses: [kl_soft]"
    text = f"name: r\nsystems: {{a: {{{one}}}, b: {{{one}, train: {{select: ccc}}}}}}\ncrossfit: null\nstack: null\n"
    rows = tuple(dataclasses.replace(u, valence=float(k % 5)) for k, u in enumerate(made_manifest()))
    with pytest.raises(SerkitError, match=r"systems\.b: train\.select is ccc, and the network gives emotion only"):
        pipeline.prepare(parse_recipe(text), dataclasses.replace(RATED, utterances=rows), tmp_path / "run")


@pytest.mark.parametrize(
    ("system", "said"),
    [
        ("model: {name: compact, attribute_head: true}, losses: [kl_soft]", "no loss of the system trains it"),
        (
            "model: {name: flam, attribute_head: true}, losses: [{name: ccc, weights: [1, 0, 1]}, focal]",
            "no loss of the system trains it",  # valence is all that is known
        ),
        ("model: compact, losses: [kl_soft], train: {select: ccc}", "the network gives emotion only"),
        (
            "model: {name: compact, attribute_head: true}, losses: [ccc]",
            r"no loss of the system \(ccc\) trains the emotion classifier",
        ),
        ("model: compact, losses: [center_loss, supcon]", "trains the emotion classifier"),
        (
            "model: {name: deepser, attribute_head: true}, losses: [kl_soft, attribute_mse]",
            r"rated from 0\.5 to 0\.5, and the attribute head answers 1 to 7: set model\.attribute_low",
        ),
    ],
)
def test_heads_that_nothing_teaches_are_refused(tmp_path, system, said):
    with pytest.raises(SerkitError, match=said):
        prepare(tmp_path, system, RATED)


@pytest.mark.parametrize(
    "system",
    [
        "model: {name: compact, attribute_head: true}, losses: [ccc, kl_soft]",
        "model: mean_pool, losses: [kl_soft], augment: [annotator_dropout], train: {targets: votes}",
        "model: compact, losses: [focal, center_loss, supcon]",
    ],
)
def test_what_it_has_is_not_refused(tmp_path, system):
    assert len(prepare(tmp_path, system, RATED).manifest) == len(RATED)


@pytest.mark.parametrize("loss", ["cross_entropy", "{name: cross_entropy, soft: false, label_smoothing: 0.1}"])
def test_votes_that_no_loss_would_learn_are_refused(tmp_path, loss):
    with pytest.raises(SerkitError, match=r"systems.mine: train.targets is votes, but its losses \(cross_ent"):
        prepare(tmp_path, f"model: mean_pool, losses: [{loss}], train: {{targets: votes}}", RATED)
    for soft in ("kl_soft", "focal", "generalized_cross_entropy", "{name: cross_entropy, soft: true}"):
        shutil.rmtree(tmp_path / "run", ignore_errors=True)
        prepare(tmp_path, f"model: mean_pool, losses: [{soft}], train: {{targets: votes}}", RATED)


@pytest.mark.parametrize("reader", ["hashed_text/32", "roberta/large"])
def test_texts_that_nobody_brings_are_missed_before_any_work(tmp_path, reader):
    text = f"name: r\nsystems:\n  a: {{features: [{reader}], model: mean_pool}}\ncrossfit: null\nstack: null\n"
    with pytest.raises(SerkitError, match=f"encoder '{reader}' reads text and the recipe names no transcripts"):
        pipeline.prepare(parse_recipe(text), made_manifest(), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    assert pipeline.prepare(parse_recipe(text, ["transcripts=corpus"]), made_manifest(), tmp_path / "run").models


def test_the_random_state_is_left_alone_and_the_published_recipes_pass_at_once(tmp_path):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    begun = time.process_time()
    pipeline.prepare(load_recipe("offline12", ["stack.folds=2", "crossfit.folds=2"]), made_manifest(), tmp_path / "run")
    assert time.process_time() - begun < 20
    assert torch.equal(torch.get_rng_state(), before)
