"""What the parts of a recipe refuse is told by ``prepare``, before any work, and names the system."""

from __future__ import annotations

import dataclasses
import time

import pytest
import torch

from made import made_manifest
from serkit import pipeline
from serkit.errors import SerkitError
from serkit.recipe import load_recipe, parse_recipe

RATED = dataclasses.replace(
    made_manifest(),
    utterances=tuple(dataclasses.replace(u, votes={"anger": 2, "sadness": 1}, valence=0.5) for u in made_manifest()),
)


def prepare(tmp_path, system, manifest=None):
    text = f"name: r\nsystems:\n  mine: {{features: [logmel/24], {system}}}\ncrossfit: null\nstack: null\n"
    return pipeline.prepare(parse_recipe(text), manifest or made_manifest(), tmp_path / "run")


@pytest.mark.parametrize(
    ("system", "said"),
    [
        (
            "model: compact, losses: [cross_entropy, neutral_margin]",
            "neutral_margin: this network gives no neutral logit; set neutral_head: true in its model",
        ),
        (
            "model: {name: cross_attention, neutral_head: true}, losses: [{name: neutral_margin, neutral: neutrl}]",
            "neutral_margin: no label 'neutrl'; did you mean 'neutral'?",
        ),
        (
            "model: compact, losses: [ccc]",
            "the loss 'ccc' needs a network with an attribute head and this one gives emotion only: set "
            "attribute_head: true in a model that has it, or leave the loss out",
        ),
        (
            "model: {name: compact, attribute_head: true}, losses: [ccc]",
            "the loss 'ccc' needs arousal, valence or dominance and these clips have none: leave it out",
        ),
        (
            "model: mean_pool, losses: [supcon]",
            "the loss 'supcon' at frame level needs a network with frames; or set level: utterance",
        ),
        ("model: mean_pool, losses: [{name: focal, class_weights: [1, 2]}]", "expected 3 numbers, none negative"),
        ("model: mean_pool, losses: [focal, focal]", "the loss 'focal' stands twice in one system"),
        ("model: mean_pool, augment: [annotator_dropout]", "set train.targets: votes"),
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
    "system",
    [
        "model: {name: compact, attribute_head: true}, losses: [ccc, kl_soft]",
        "model: mean_pool, losses: [kl_soft], augment: [annotator_dropout], train: {targets: votes}",
        "model: compact, losses: [center_loss, supcon]",
    ],
)
def test_what_it_has_is_not_refused(tmp_path, system):
    assert len(prepare(tmp_path, system, RATED).manifest) == len(RATED)


def test_the_random_state_is_left_alone_and_the_published_recipes_pass_at_once(tmp_path):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    begun = time.monotonic()
    pipeline.prepare(load_recipe("offline12", ["stack.folds=2", "crossfit.folds=2"]), made_manifest(), tmp_path / "run")
    assert time.monotonic() - begun < 20
    assert torch.equal(torch.get_rng_state(), before)
