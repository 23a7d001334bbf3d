import dataclasses
import json
import zlib

import numpy as np
import pytest
import torch
import yaml

from made import MadeSource, made_manifest
from serkit import registry, stacking, yaml_text
from serkit.errors import SerkitError
from serkit.examples import Examples, Hearing
from serkit.extraction import compute
from serkit.networks import NetworkConfig, load_network
from serkit.recipe import ENSEMBLES, Recipe, load_recipe, parse_recipe, recipe_names
from serkit.training import train_network

BASE = """
name: r
x-shelf: &shelf {epochs: 3, lr: 1e-5}
systems:
  a: {features: [logmel/24], train: *shelf}
  b: {features: [{name: mfcc/13, pool: 4}, hashed_text/32], model: {name: cross_attention, hidden: 8}}
"""


def test_numbers_are_read_as_yaml_1_2_has_them():
    recipe = parse_recipe(BASE)
    assert recipe.systems["a"].train.lr == 1e-5
    assert recipe.systems["a"].train.epochs == 3
    assert parse_recipe(BASE, ["train.lr=2e-4"]).systems["b"].train.lr == 2e-4


def test_the_optimisers_second_decay_is_written_where_it_was_set():
    plain, other = parse_recipe(BASE), parse_recipe(BASE, ["train.beta2=0.98"])
    written = plain.model_dump(mode="json")["systems"]["a"]["train"]
    assert "beta2" not in written, "as before there was one: the fingerprint is the same"
    assert plain.systems["a"].train.beta2 == 0.999
    assert other.systems["a"].train.beta2 == parse_recipe(other.to_yaml()).systems["a"].train.beta2 == 0.98
    assert parse_recipe(BASE, ["train.beta2=0.999"]).fingerprint == plain.fingerprint != other.fingerprint


@pytest.mark.parametrize("corpus", ["iemocap", "iemocap+msp_improv", "table-calls", "mylab.corpora.mine"])
def test_published_figures_are_of_a_corpus_that_can_be_read(corpus):
    """Regression: a misspelt corpus was taken, and no report ever had the figures."""
    said = "\npublished: [{corpus: %s, text: 0.5 by others}]\n"
    (figures,) = parse_recipe(BASE + said % corpus).published
    assert figures.corpus_in_reports == corpus.replace("mylab.corpora.", "")
    with pytest.raises(SerkitError, match=r"published\.corpus: no corpus 'msp_podcats'; did you mean 'msp_podcast'"):
        parse_recipe(BASE + said % f"{corpus}+msp_podcats")


def test_published_figures_may_be_of_one_row_of_the_report():
    assert {n: [p.answer for p in load_recipe(n).published] for n in ("ufg2025", "odyssey2024", "medusa2025")} == {
        "ufg2025": ["vote"], "odyssey2024": ["vote"], "medusa2025": [None],
    }  # fmt: skip
    said = BASE + "\npublished: [{corpus: iemocap, text: 0.5 by others, answer: %s}]\n"
    assert parse_recipe(said % "b").published[0].answer == "b"
    assert set(ENSEMBLES) == set(stacking.ENSEMBLES)
    with pytest.raises(SerkitError, match=r"published\.answer: no ensemble or system 'votes'; did you mean 'vote'"):
        parse_recipe(said % "votes")


def test_groups_are_names_or_have_edges():
    plain = parse_recipe(BASE)
    assert "groups" not in plain.model_dump(mode="json")["evaluate"], "as before: the fingerprint is the same"
    told = parse_recipe(BASE, ["evaluate.groups=[accent, {name: age, edges: [30, 50]}]"])
    assert [(g.name, g.edges) for g in told.evaluate.groups] == [("accent", ()), ("age", (30.0, 50.0))]
    assert told.model_dump(mode="json")["evaluate"]["groups"] == ["accent", {"name": "age", "edges": [30.0, 50.0]}]
    assert parse_recipe(told.to_yaml()) == told
    with pytest.raises(SerkitError, match="expected rising edges, got 50, 30"):
        parse_recipe(BASE, ["evaluate.groups=[{name: age, edges: [50, 30]}]"])
    with pytest.raises(SerkitError, match="a group occurs twice: age, age"):
        parse_recipe(BASE, ["evaluate.groups=[age, {name: age, edges: [50]}]"])
    with pytest.raises(SerkitError, match=r"unknown key 'evaluate\.groups.*edge'; did you mean 'edges'"):
        parse_recipe(BASE, ["evaluate.groups=[{name: age, edge: [50]}]"])
    with pytest.raises(SerkitError, match=r"evaluate\.groups: expected a list"):
        parse_recipe(BASE, ["evaluate.groups=age"])


def test_transcripts_are_a_name_or_a_mapping():
    bare = parse_recipe(BASE, ["transcripts=corpus"])
    assert bare.transcripts.name == "corpus"
    assert bare.model_dump(mode="json")["transcripts"] == "corpus", "as before: the fingerprint is the same"
    told = parse_recipe(BASE + "transcripts: {name: whisper/small, engine: faster-whisper, batch_size: 2}\n")
    assert (told.transcripts.engine, told.transcripts.batch_size, told.transcripts.language) == (
        "faster-whisper",
        2,
        None,
    )
    assert parse_recipe(told.to_yaml()) == told
    assert told == parse_recipe(BASE, ["transcripts={name: whisper/small, engine: faster-whisper, batch_size: 2}"])
    forced = parse_recipe(BASE, ["transcripts=whisper/small", "transcripts.language=de"])
    assert forced.transcripts.language == "de"
    assert parse_recipe(BASE, ["transcripts=whisper/small"]).fingerprint != forced.fingerprint
    with pytest.raises(SerkitError, match=r"unknown key 'transcripts\.lang'; did you mean 'language'"):
        parse_recipe(BASE, ["transcripts={name: whisper/small, lang: de}"])
    with pytest.raises(SerkitError, match="'corpus' is read and not recognised; it takes no language"):
        parse_recipe(BASE, ["transcripts={name: corpus, language: de}"])


def test_features_are_told_apart_by_their_parameters():
    recipe = parse_recipe(BASE, ["systems.a.features=[{name: mfcc/13, pool: 2}]"])
    assert list(recipe.features) == ["mfcc/13[pool=2]", "mfcc/13[pool=4]", "hashed_text/32"]
    assert recipe.systems["b"].features[0].family == "mfcc"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: r\nsystems: {a: {featurs: [logmel]}}", "unknown key 'systems.a.featurs'; did you mean 'features'"),
        ("name: r\nsystms: {}\n", "unknown key 'systms'; did you mean 'systems'"),
        ("name: r\nsystems: {a: {features: [logml/24]}}", "no encoder 'logml'; did you mean 'logmel'"),
        ("name: r\nsystems: {a: {features: [logmel], losses: [focall]}}", "no loss 'focall'; did you mean 'focal'"),
        ("name: r\nsystems: {a: {features: [logmel], model: cross_atention}}", "no model 'cross_atention'"),
        ("name: r\nsystems: {a: {features: [logmel], augment: [noize]}}", "no augmentation 'noize'"),
        (
            "name: r\nsystems: {a: {features: [logmel], model: {name: mean_pool, hiden: 3}}}",
            "systems.a.model: model 'mean_pool' has no parameter 'hiden'; did you mean 'hidden'",
        ),
        ("name: r\nsystems: {a: {features: [logmel], losses: [{name: focal, gama: 2}]}}", "did you mean 'gamma'"),
        ("name: r\nsystems: {a: {features: [logmel], losses: [{name: ccc, weihgt: 2}]}}", "did you mean 'weight'"),
        ("name: r\nsystems: {a: {features: [logmel], train: {epoch: 3}}}", "did you mean 'epochs'"),
        ("name: r\nsystems: {a: {features: [logmel], train: {epochs: ten}}}", "systems.a.train.epochs: .*, got 'ten'"),
        ("name: r\nsystems: {a: {features: [logmel], train: {lr: -1}}}", "systems.a.train.lr: .*greater than 0"),
        ("name: r\nsystems: {a: {features: [logmel], balance: clas}}", "systems.a.balance"),
        ("name: r\nsystems: {a: {features: []}}", "systems.a.features"),
        ("name: r\nsystems: {a: {features: [logmel, logmel]}}", "the same feature occurs twice"),
        ("name: r\nsystems: {}", "systems"),
        ("systems: {a: {features: [logmel]}}", "name: field required"),
        ("name: r\nsystems: {a: {features: [logmel]}}\ncrossfit: null", "a stack needs out-of-fold scores"),
        ("name: r\nname: s\nsystems: {a: {features: [logmel]}}", "key 'name' occurs twice"),
        ("name: [", "is not valid YAML"),
        ("- a", "expected a mapping"),
        ("", "expected a mapping"),
        ("name: r\nsystems: {a: {features: [logmel]}}\nstack: {trees: 0}", "stack.trees"),
        ("name: r\nsystems: {a: {features: [nolab.mine]}}", "no encoder|cannot be imported"),
        ("name: r\nsystems: {a: {features: [logmel], losses: [nolab.mine]}}", "'nolab.mine' cannot be imported"),
    ],
)
def test_what_does_not_hold_is_refused_in_one_line(text, message):
    with pytest.raises(SerkitError, match=message) as error:
        parse_recipe(text)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.epoch=3", r"no system has this key; did you mean 'train.epochs'"),
        ("model.hiden=3", "did you mean 'model.hidden'"),
        ("systems.c.train.epochs=3", "no system 'c'"),
        ("systems.a.train.epoch=3", "system 'a' has no such key"),
        ("crossfit.fold=2", "'crossfit' has no key 'fold'; did you mean 'folds'"),
        ("stack.tree=2", "did you mean 'trees'"),
        ("crossfit.folds.x=1", "'crossfit.folds' is one value, without keys of its own"),
        ("exclude=2024-13-45", "is not valid YAML"),
        ("exclude={[a]: 1}", "is not valid YAML"),
        ("epochs=3", "no system has this key"),
        ("train.epochs", "expected KEY=VALUE"),
        ("=3", "expected KEY=VALUE"),
        ("train.epochs=many", "train.epochs: .*got 'many'"),
        ("losses.focal.gamma=2", "no system has this key"),
        ("seed=x", "seed: expected a whole number, got 'x'"),
        ("stack=none", "stack: expected a mapping, got 'none'"),
        ("train.bucket=maybe", "bucket: expected true or false, got 'maybe'"),
        ("train.lr=fast", "lr: expected a number, got 'fast'"),
        ("systems=3", "systems"),
        ("name.x=3", "name"),
    ],
)
def test_what_cannot_be_set_is_refused_in_one_line(override, message):
    with pytest.raises(SerkitError, match=message) as error:
        parse_recipe(BASE, [override])
    assert "\n" not in str(error.value)


def test_a_key_is_set_in_what_was_just_written_short():
    for overrides, model in (
        (["model=mean_pool", "model.pooling=statistics"], {"name": "mean_pool", "pooling": "statistics"}),
        (["model={name: flam}", "model.heads=2"], {"name": "flam", "heads": 2}),
    ):
        assert parse_recipe(BASE, overrides).systems["a"].model.model_dump() == model
    losses = parse_recipe(BASE, ["losses=[focal]", "losses.focal.gamma=3"]).systems["b"].losses
    assert [(loss.name, loss.parameters) for loss in losses] == [("focal", {"gamma": 3})]
    features = parse_recipe(BASE, ["features=[logmel/24]", "features.logmel/24.pool=2"]).features
    assert list(features) == ["logmel/24[pool=2]"]
    whole = parse_recipe(BASE, ["systems={c: {features: [logmel/24]}}", "model.hidden=8", "train.epochs=2"])
    assert whole.systems["c"].model.parameters == {"hidden": 8}
    assert (whole.systems["c"].model.name, whole.systems["c"].train.epochs) == ("cross_attention", 2)
    assert parse_recipe(BASE, ["crossfit=null", "stack=null", "crossfit.folds=4"]).crossfit.folds == 4


RAMP = "losses.cross_entropy.weight={first: 1, last: 0.01, epochs: 5}"


def test_a_weight_is_a_number_or_changes_over_epochs():
    plain, ramp = parse_recipe(BASE), parse_recipe(BASE, [RAMP])
    written = [r.model_dump(mode="json")["systems"]["a"]["losses"] for r in (plain, ramp)]
    assert written == [
        [{"name": "cross_entropy", "weight": 1.0}],
        [{"name": "cross_entropy", "weight": {"first": 1.0, "last": 0.01, "epochs": 5}}],
    ]
    assert plain.fingerprint != ramp.fingerprint == parse_recipe(ramp.to_yaml()).fingerprint
    (loss,) = ramp.systems["b"].losses
    assert [loss.weight_at(e) for e in (0, 5, 6, 1000)] == [1.0, 0.01, 0.01, 0.01]
    assert loss.weight_at(2) == pytest.approx(1 - 2 / 5 * 0.99)
    assert loss.largest_weight == 1.0
    assert parse_recipe(BASE, [RAMP, "losses.cross_entropy.weight=1"]).fingerprint == plain.fingerprint


@pytest.mark.parametrize(
    ("weight", "said"),
    [
        ("abc", "weight: expected a number, got 'abc'"),
        ("-1", "weight: input should be greater than or equal to 0, got -1"),
        ("[1, 2]", "weight: expected a number"),
        ("{first: 1, last: -2, epochs: 5}", "weight.last: input should be greater than or equal to 0, got -2"),
        ("{first: 1, last: .inf, epochs: 5}", "weight.last: input should be a finite number"),
        ("{first: 1, last: 0.1}", "weight.epochs: field required"),
        ("{first: 1, last: 0.1, epochs: 0}", "weight.epochs: input should be greater than or equal to 1"),
        ("{first: 1, last: 0.1, epoch: 2, epochs: 2}", "weight.epoch'; did you mean 'epochs'"),
    ],
)
def test_a_weight_that_is_neither_says_what_was_expected(weight, said):
    with pytest.raises(SerkitError) as refused:
        parse_recipe(BASE, [f"systems.a.losses.cross_entropy.weight={weight}"])
    assert said in str(refused.value)
    assert "systems.a.losses.0.weight" in str(refused.value)


@pytest.mark.parametrize("loss", ["cross_entropy", "focal", "kl_soft", "vector_scaling"])
def test_class_weights_are_written_alike_for_every_loss(loss):
    for written, value in (("null", None), ("none", "none"), ("[1, 2]", [1, 2]), ("inverse_frequency",) * 2):
        found = parse_recipe(BASE, [f"losses=[{loss}]", f"losses.{loss}.class_weights={written}"]).systems["b"].losses
        assert found[0].parameters == {"class_weights": value}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["crossfit=3", "crossfit.folds=4"], "--set crossfit.folds: crossfit is 3, expected a mapping"),
        (["model=3", "model.hidden=4"], "--set model.hidden: model: expected a name, or a mapping with a name"),
        (["model={hidden: 3}", "model.hidden=4"], "expected a name, or a mapping with a name"),
        (["losses=focal", "losses.focal.gamma=2"], "losses is 'focal', expected a list"),
        (["losses=[3]", "losses.focal.gamma=2"], "expected a list of names or mappings with a name"),
        (["train=null", "train.epochs=2"], "--set train.epochs: train: expected a mapping"),
        (["features=null", "model.hidden=4"], "features is None, expected a list"),
        (["systems={a: {}}", "model.hidden=4"], r"systems\.a\.features: field required"),
        (["systems=3", "train.epochs=2"], "systems: expected a mapping of systems by name"),
        (["systems={a: null}", "train.epochs=2"], "systems: expected a mapping of systems by name"),
        (["systems.a=null"], r"--set systems\.a: a system is set key by key, such as systems\.a\.train\.epochs=3"),
        (["systems.c=null"], "no system 'c'"),
        (["losses.cross_entropi.label_smoothing=0.1"], r"did you mean 'losses\.cross_entropy\.label_smoothing'"),
        (["model=mean_pol", "model.hidden=4"], "no model 'mean_pol'; did you mean 'mean_pool'"),
    ],
)
def test_overrides_that_do_not_go_together_are_refused_in_one_line(overrides, message):
    with pytest.raises(SerkitError, match=message) as error:
        parse_recipe(BASE, overrides)
    assert "\n" not in str(error.value)


def test_keys_are_set_where_they_are():
    text = BASE + "  c: {features: [logmel], losses: [{name: focal}], model: {name: mean_pool}}\n"
    recipe = parse_recipe(
        text,
        [
            "train.epochs=9", "systems.b.train.epochs=2", "losses.focal.gamma=3", "model.hidden=5", "crossfit.folds=4",
            "stack=null", "balance=class", "systems.c.balance=null", "seed=99", "drop_labels=[fear]",
        ],
    )  # fmt: skip
    assert [s.train.epochs for s in recipe.systems.values()] == [9, 2, 9]
    assert recipe.systems["c"].losses[0].parameters == {"gamma": 3}
    assert [s.model.parameters.get("hidden") for s in recipe.systems.values()] == [5, 5, 5]
    assert (recipe.crossfit.folds, recipe.stack, recipe.seed, recipe.drop_labels) == (4, None, 99, ("fear",))
    assert [s.balance for s in recipe.systems.values()] == ["class", "class", None]


STAGED = """
name: r
systems:
  a:
    features: [logmel/24]
    train: {targets: votes, epochs: 5}
    losses: [kl_soft]
    second_stage: {after_epochs: 2, lr: 1e-5, losses: [{name: focal, weight: 0.5}]}
  b: {features: [logmel/24]}
"""


def test_keys_of_a_second_stage_are_set_where_there_is_one():
    given = ["second_stage.lr=1e-3", "second_stage.losses.focal.gamma=3", "losses.kl_soft.weight=2"]
    recipe = parse_recipe(STAGED, given)
    a, b = recipe.systems.values()
    assert (a.second_stage.lr, b.second_stage) == (1e-3, None)
    (loss,) = a.second_stage.losses
    assert (loss.name, loss.weight, loss.parameters) == ("focal", 0.5, {"gamma": 3})
    assert a.losses[0].weight == 2
    assert parse_recipe(recipe.to_yaml()) == recipe
    gone = parse_recipe(STAGED, ["second_stage=null"])
    assert gone.systems["a"].second_stage is None
    assert "second_stage" not in gone.to_yaml()
    both = parse_recipe(STAGED, ["second_stage={after_epochs: 1, lr: 1e-6}", "systems.b.second_stage.lr=1e-4"])
    assert [s.second_stage.lr for s in both.systems.values()] == [1e-6, 1e-4]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["second_stage={lr: 1}"], r"second_stage\.after_epochs: field required"),
        (["second_stage={after_epochs: 1, lr: 1, balances: class}"], "second_stage.balances'; did you mean 'balance'"),
        (["second_stage.balance=clas"], "second_stage.balance: .* 'class', .*got 'clas'"),
        (["second_stage.losses=focal"], r"second_stage\.losses: expected a list, such as \[focal\]"),
        (["second_stage.losses=[]"], r"second_stage\.losses: .*at least 1 item"),
        (["second_stage.losses=[focl]"], "no loss 'focl'; did you mean 'focal'"),
        (["second_stage.losses.focal.gama=1"], r"a\.second_stage\.losses: loss 'focal' has no parameter 'gama'"),
        (["second_stage.lrr=1"], "no system has this key; did you mean 'second_stage.lr'"),
        (["second_stage.losses.focl.weight=1"], "did you mean 'second_stage.losses.focal.weight'"),
        (["second_stage=null", "second_stage.lr=1"], r"there is no second stage: set second_stage=\{after_epochs: 4, "),
        (["systems.b.second_stage.lr=1"], "system 'b' has no such key; there is no second stage: set second_stage="),
        (["second_stage=5", "second_stage.lr=1"], "--set second_stage.lr: second_stage: expected a mapping"),
        (["train.soup=1"], "train.soup: input should be greater than or equal to 2"),
        (["train.soup=3", "train.shared_epochs=99"], "a soup needs more epochs than 99, which it shares; got 5"),
    ],
)
def test_second_stages_and_soups_that_cannot_be_are_refused_in_one_line(overrides, message):
    with pytest.raises(SerkitError, match=message) as error:
        parse_recipe(STAGED, overrides)
    assert "\n" not in str(error.value)


def test_recipes_without_them_are_what_they_were():
    """Fingerprints of before there were second stages and soups."""
    assert load_recipe("toy").fingerprint == "43cbd69607f75657"
    assert load_recipe("offline12").fingerprint == "919ba7cfc36613fa"
    assert not {"second_stage", "soup", "shared_epochs", "members"} & set(
        load_recipe("toy").to_yaml().replace(":", " ").split()
    )


def test_what_one_override_sets_everywhere_another_changes_in_one_place():
    """Regression: both systems had the same list, so that a change in one was a change in both."""
    given = ["losses=[{name: focal, gamma: 1}]", "systems.a.losses.focal.gamma=3", "train={epochs: 3}"]
    a, b = parse_recipe(STAGED, ["second_stage=null", *given, "systems.a.train.epochs=5"]).systems.values()
    assert [s.losses[0].parameters["gamma"] for s in (a, b)] == [3, 1]
    assert [s.train.epochs for s in (a, b)] == [5, 3]


def test_the_description_changes_no_number():
    recipe = parse_recipe(BASE)
    assert parse_recipe(BASE + "description: words\n").fingerprint == recipe.fingerprint
    assert parse_recipe(BASE, ["seed=8"]).fingerprint != recipe.fingerprint


def test_unknown_recipes_and_files_are_said(tmp_path):
    with pytest.raises(SerkitError, match="no recipe 'ofline12'; did you mean 'offline12'"):
        load_recipe("ofline12")
    with pytest.raises(SerkitError, match="no recipe file at"):
        load_recipe(tmp_path / "none.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SerkitError, match="is not a text file"):
        load_recipe(tmp_path / "binary.yaml")


# ---------------------------------------------------------------- the contract of every recipe in the package


def tiny_systems(recipe: Recipe) -> dict[str, dict]:
    """Every system of a recipe, small and short, with the widths of the encoders' tiny() ones."""
    found = {}
    for name, system in recipe.systems.items():
        dims = {f.key: registry.find("encoders", f.family).tiny().spec.dim for f in system.features}
        model = {**system.model.model_dump(), **({"hidden": 8} if "hidden" in _parameters(system) else {})}
        train = system.train.model_copy(update={"epochs": 1, "batch_size": 16})
        small = system.model_copy(update={"train": train, "model": type(system.model)(**model)})
        found[name] = {"system": small, "dims": dims}
    return found


def _parameters(system):
    return registry.member("models", system.model.name).parameters


@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_parses_resolves_and_comes_back(name):
    recipe = load_recipe(name)
    assert recipe.name == name
    assert recipe.description
    again = parse_recipe(recipe.to_yaml())
    assert again == recipe
    assert again.fingerprint == recipe.fingerprint
    assert yaml.safe_load(recipe.to_yaml())["systems"].keys() == recipe.systems.keys()


class MadeWaves(MadeSource):
    """A third of a second of noise at a level of each clip's own, and the features that encoders compute of it."""

    def __init__(self, manifest, encoder=None):
        super().__init__(manifest, 1)
        self.encoder = encoder or registry.find("encoders", "waveform").tiny()

    def get(self, utterance_id):
        rng = np.random.default_rng(zlib.crc32(utterance_id.encode()))
        samples = (rng.uniform(0.05, 0.2) * rng.standard_normal(5_000)).astype(np.float32)
        return compute(samples, {"x": self.encoder})["x"]

    def frames(self, utterance_id):
        return len(self.get(utterance_id))


class MadeTexts(MadeWaves):
    """What an encoder that reads text makes of the words of each clip."""

    def get(self, utterance_id):
        return self.encoder([f"the clip {utterance_id}"])[0]


def made_inputs(settings, dims, manifest):
    """Sources by feature key, and how to hear a clip again where the chain changes waveforms."""
    steps = [registry.find("augment", step.name) for step in settings.augment]
    tiny = {f.key: registry.find("encoders", f.family).tiny() for f in settings.features}
    if not any(step.kind == "samples" for step in steps) and "waveform" not in dims:
        return {key: MadeSource(manifest, dim) for key, dim in dims.items()}, None
    audio = {key: e for key, e in tiny.items() if e.spec.modality == "audio"}
    sources = {key: (MadeWaves if key in audio else MadeTexts)(manifest, e) for key, e in tiny.items()}
    return sources, Hearing(MadeWaves(manifest), audio)


@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_trains_briefly_with_tiny_encoders(name, tmp_path):
    rated = tuple(
        dataclasses.replace(u, arousal=1.0 + k % 7, valence=4.0, votes={str(u.emotion): 2.0})
        for k, u in enumerate(made_manifest(36))
    )
    manifest = dataclasses.replace(made_manifest(36), utterances=rated)
    trained = set()
    for system, small in tiny_systems(load_recipe(name)).items():
        settings, dims = small["system"], small["dims"]
        model = {"name": settings.model.name, **settings.model.parameters}
        for key, backbone in settings.backbones.items():
            pytest.importorskip("transformers")
            if settings.has_adapters:
                pytest.importorskip("peft", reason="the extra finetune is not installed")
            wanted = model[key] if isinstance(model[key], dict) else {}
            model[key] = {**wanted, "name": f"{backbone.split('/')[0]}/random"}
            if "frozen_layers" in model:
                model["frozen_layers"] = min(model["frozen_layers"], 2)  # the tiny ones have two layers or four
        shape = (len(dims), settings.model, settings.losses, settings.balance)
        if str(shape) in trained:  # the same network on features of other names
            continue
        trained.add(str(shape))
        sources, hearing = made_inputs(settings, dims, manifest)
        train, dev = (
            Examples.of(manifest.split(s), sources, hearing=hearing, targets=settings.train.targets)
            for s in ("train", "dev")
        )
        config = NetworkConfig(system, model, dims, {}, manifest.labels, 1, {})
        network = train_network(settings, config, train, dev, tmp_path / system, device="cpu")
        assert all(np.isfinite(p.detach().numpy()).all() for p in network.parameters())
        again, _ = load_network(tmp_path / system)
        # NaN is the mean of an attribute that nobody taught
        torch.testing.assert_close(again.state_dict(), network.state_dict(), rtol=0, atol=0, equal_nan=True)
    assert trained


def test_a_recipe_is_frozen():
    with pytest.raises((dataclasses.FrozenInstanceError, ValueError)):
        load_recipe("toy").seed = 3


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("losses=focal", "systems.a.losses: expected a list, such as [focal], got 'focal'"),
        ("labels=", "labels: input should be 'corpus', 'votes', 'quadrants' or 'octants' or expected a list"),
        (
            "stack.per_class=0",
            "per_class is 0, expected 2 rows or more of each class, or auto",
        ),
        ("seed=-1", "seed: input should be greater than or equal to 0, got -1"),
        ("stack.seed=5000000000", "stack.seed: input should be less than or equal to 4294967295"),
    ],
)
def test_a_value_of_the_wrong_kind_says_what_was_expected(override, said):
    with pytest.raises(SerkitError) as refused:
        parse_recipe("name: r\nsystems: {a: {features: [logmel]}}\n", [override])
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-5", 1e-5), ("5e12ab34", "5e12ab34"), ("1e5.wav", "1e5.wav"), ("-2.5E+3", -2500.0), ("12e", "12e")],
)
def test_a_number_is_a_number_from_end_to_end(text, value):
    """Regression: a name that begins as a number does ended in a traceback."""
    assert yaml_text.parse(f"a: {text}", "x") == {"a": value}


@pytest.mark.parametrize("name", ["../../x", "/abs", "a/b", "a\\b", "a\nb", "", "..", " ", "x" * 200, "a\0b"])
def test_a_name_that_leads_out_of_the_folder_of_a_run_is_refused(name):
    """Regression: the networks of a system called ``../../x`` were written outside the run."""
    at = json.dumps(name)
    for text in (
        f"name: {at}\nsystems: {{a: {{features: [logmel]}}}}",
        f"name: r\nsystems: {{{at}: {{features: [logmel]}}}}",
    ):
        with pytest.raises(SerkitError, match="cannot be the name of a file"):
            parse_recipe(text)
    assert list(parse_recipe("name: r b\nsystems: {a.b+2: {features: [logmel]}}").systems) == ["a.b+2"]
