import dataclasses

import pytest

from serkit import registry
from serkit.errors import SerkitError
from serkit.idle import idle_everywhere, idle_notes, settings_with_needs
from serkit.parameters import Needs
from serkit.recipe import load_recipe, parse_recipe, recipe_names
from serkit.settings import System, Train

BASE = """
name: r
systems:
  a: {features: [logmel/24], losses: [supcon, cross_entropy], augment: [noise]}
  b: {features: [logmel/24]}
"""
BACKBONE = "name: r\nsystems: {a: {features: [waveform], model: {name: speech_backbone, backbone: wavlm/base}}}"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["train.decay=0.5"],
            "train.decay: it has no effect while schedule is 'cosine_epoch'; it needs schedule 'exp",
        ),
        (["systems.b.train.decay=0.5"], "systems.b.train.decay: it has no effect"),
        (["train.lr_min=0", "train.schedule=constant"], "needs schedule 'cosine_epoch' or 'cosine'"),
        (["train.draw=passes"], "train.draw: it has no effect while balance is null; it needs balance to be on"),
        (["systems.a.balance=class", "systems.b.train.draw=passes"], "systems.b.train.draw: it has no effect"),
        (["losses.supcon.max_frames=4", "losses.supcon.level=utterance"], "supcon.max_frames: it has no effect"),
        (["augment.noise.color=pink", "augment.noise.folder=rooms"], "color: .* while folder is 'rooms'; .* null"),
    ],
)
def test_an_override_that_changes_nothing_anywhere_is_refused(overrides, message):
    with pytest.raises(SerkitError, match=message) as error:
        parse_recipe(BASE, overrides)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "overrides",
    [
        ["train.decay=0.5", "train.schedule=exponential"],
        ["systems.a.balance=class", "train.draw=passes"],  # of one system of the two that it is set in
        ["train.lr_min=0"],
        ["losses.supcon.max_frames=4"],
        ["systems.a.train.lr_min=0", "systems={b: {features: [logmel/24]}}"],  # the system is gone, and so is the key
    ],
)
def test_an_override_that_changes_something_somewhere_is_taken(overrides):
    assert parse_recipe(BASE, overrides).fingerprint != parse_recipe(BASE).fingerprint


STAGED = BASE.replace("b: {", "b: {second_stage: {after_epochs: 3, lr: 1e-5}, ")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["train.epochs=3", "second_stage.lr=1e-3"],
            r"lr: it has no effect while train\.epochs is 3; it needs more than 3",
        ),
        (
            ["train.epochs=3", "second_stage={after_epochs: 3, lr: 1}"],
            "second_stage: it has no effect while train.epochs",
        ),
        (["second_stage.draw=undersample"], "draw: it has no effect while balance is null"),
        (
            ["balance=class", "second_stage.balance=none", "second_stage.draw=passes"],
            "draw: it has no effect while bal",
        ),
        (
            ["second_stage.losses=[{name: supcon, level: utterance}]", "second_stage.losses.supcon.max_frames=4"],
            "second_stage.losses.supcon.max_frames: it has no effect while level",
        ),
        (["second_stage.without_agreement=0.1"], "while targets is 'labels'; it needs targets 'votes'"),
        (["train.members=greedy"], "train.members: it has no effect while soup is null"),
        (["train.shared_epochs=1"], "train.shared_epochs: it has no effect while soup is null"),
        (
            ["train.draw=passes", "second_stage.draw=undersample", "second_stage.balance=class"],
            "train.draw: it has no ef",
        ),
        (["train.decay=0.5", "second_stage.schedule=cosine"], "train.decay: it has no effect"),
    ],
)
def test_settings_of_a_second_stage_and_a_soup_that_change_nothing_are_refused(overrides, message):
    with pytest.raises(SerkitError, match=message) as error:
        parse_recipe(STAGED, overrides)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "overrides",
    [
        ["train.draw=passes", "second_stage.balance=class"],  # used in the second stage alone
        ["train.schedule=constant", "train.lr_min=0", "second_stage.schedule=cosine"],
        ["balance=class", "second_stage.draw=undersample"],
        ["train.soup=2", "train.members=greedy", "train.shared_epochs=1"],
    ],
)
def test_settings_of_the_first_stage_that_the_second_uses_are_taken(overrides):
    recipe = parse_recipe(STAGED, overrides)
    assert idle_notes(recipe.systems, recipe.systems) == []


def test_a_second_stage_that_never_begins_is_told_once():
    written = parse_recipe(STAGED).systems
    (note,) = idle_notes(parse_recipe(STAGED, ["train.epochs=2"]).systems, written)
    assert note == "second_stage has no effect while train.epochs is 2; it needs more than 3"
    assert idle_notes(written, written) == []


def test_adapters_and_rates_of_a_backbone_need_their_tuning():
    for key, tuning in (
        ("lora_rank=4", "full"),
        ("freeze_feature_encoder=false", "lora"),
        ("backbone_lr=1e-5", "frozen"),
        ("attention_dropout=0.1", "full"),
    ):
        with pytest.raises(SerkitError, match="has no effect"):
            parse_recipe(BACKBONE, [f"model.{key}", f"model.tuning={tuning}"])
    parse_recipe(BACKBONE, ["model.lora_rank=4", "model.tuning=lora", "model.heads=4", "model.attention_dropout=0.1"])


def test_a_setting_of_the_file_that_changes_nothing_is_told_and_not_refused():
    text = BASE.replace("b: {", "b: {train: {schedule: cosine, decay: 0.8}, ")
    recipe = parse_recipe(text)
    (note,) = idle_notes(recipe.systems, recipe.systems)
    assert note.startswith("train.decay has no effect while schedule is ")
    used = parse_recipe(text, ["systems.b.train.schedule=exponential"])
    assert idle_notes(used.systems, recipe.systems) == []
    frozen = load_recipe("finetune", ["model.backbone=wavlm/base", "model.tuning=frozen"])
    assert "model.backbone_lr" in idle_everywhere(frozen.systems)
    assert idle_notes(frozen.systems, load_recipe("finetune").systems) == []  # nobody wrote it


@pytest.mark.parametrize("name", recipe_names())
def test_no_recipe_of_the_package_has_a_setting_that_changes_nothing(name):
    systems = load_recipe(name).systems
    assert idle_notes(systems, systems) == []


def test_every_need_names_a_setting_that_is_there():
    system = set(System.model_fields)
    for field in Train.model_fields.values():
        for need in field.metadata:
            assert not isinstance(need, Needs) or need.key in system | set(Train.model_fields)
    for kind in ("models", "losses", "augment"):
        for name in registry.names(kind):
            member = registry.member(kind, name)
            for need in member.needs.values():
                assert need.key in member.parameters
    keys = {key for _, key, _, _ in settings_with_needs(parse_recipe(BASE).systems)}
    assert keys >= {"train.decay", "train.draw", "losses.supcon.max_frames", "augment.noise.color"}


def test_a_need_is_unmet_in_words():
    need = Needs("tuning", "full", "lora")
    assert need.unmet("lora") == ""
    assert need.unmet("frozen") == "has no effect while tuning is 'frozen'; it needs tuning 'full' or 'lora'"
    assert [bool(Needs("heads").unmet(value)) for value in (None, False, 0, "none", 1, "class")] == [True] * 4 + [
        False
    ] * 2
    assert Needs("folder", None).unmet(None) == ""
    assert dataclasses.astuple(need) == ("tuning", ("full", "lora"))
