"""Waveforms, raters and mixed labels on their way into a batch."""

import dataclasses

import numpy as np
import pytest
import torch

from made import made_config, made_manifest, made_system
from serkit.augment import apply_chain
from serkit.augment.annotator_dropout import AnnotatorDropout
from serkit.augment.eam import Eam
from serkit.augment.feature_mixup import FeatureMixup
from serkit.augment.gain import Gain
from serkit.augment.spec_augment import SpecAugment
from serkit.encoders.logmel import Logmel
from serkit.encoders.waveform import Waveform
from serkit.errors import SerkitError
from serkit.examples import Examples, Hearing, Remembered
from serkit.extraction import compute
from serkit.sampling import Loader
from serkit.training import train_network
from serkit.types import Manifest, Utterance

LABELS = ("anger", "neutral", "sadness")


class Stored:
    """Frames of made-up waveforms, as extraction leaves them."""

    def __init__(self, waves, encoder):
        self.frames_of = {k: compute(w, {"x": encoder})["x"] for k, w in waves.items()}
        self.reads = []

    def get(self, utterance_id):
        self.reads.append(utterance_id)
        return self.frames_of[utterance_id]

    def frames(self, utterance_id):
        return len(self.frames_of[utterance_id])


def wave(k, n=None):
    rng = np.random.default_rng(k)
    return (0.2 * rng.standard_normal(n or 2_000 + 400 * (k % 5))).astype(np.float32)


def heard(manifest=None, encoders=None, **options):
    """Examples of a manifest whose clips are noise, and which can be heard again."""
    manifest = manifest or made_manifest(24).split("train")
    encoders = encoders or {"logmel/24": Logmel("logmel/24")}
    waves = {name: wave(k) for k, name in enumerate(manifest.ids)}
    sources = {key: Stored(waves, e) for key, e in encoders.items()}
    hearing = Hearing(Stored(waves, Waveform()), encoders)
    return Examples.of(manifest, sources, hearing=hearing, **options), waves


def tensors(batch):
    found = [*batch.features.values(), *batch.lengths.values(), batch.labels]
    return found + [t for t in (batch.targets, batch.class_mask) if t is not None]


def equal(a, b):
    return a.ids == b.ids and all(torch.equal(x, y) for x, y in zip(tensors(a), tensors(b), strict=True))


def test_a_step_that_never_comes_leaves_the_stored_features_and_reads_no_encoder(monkeypatch):
    examples, _ = heard()
    monkeypatch.setattr(Hearing, "features", lambda *_: pytest.fail("nothing was changed"))
    plain = list(Loader(examples, 5, seed=3).epoch(1))
    never = list(Loader(examples, 5, seed=3, augment=[Gain(probability=0.0)]).epoch(1))
    assert all(equal(a, b) for a, b in zip(plain, never, strict=True))


def test_features_are_those_of_the_augmented_waveform():
    """Against a slow loop: draw the generator of each place, apply the chain, compute the features."""
    examples, waves = heard()
    chain = [Gain(probability=0.5), Eam(probability=0.6)]
    loader = Loader(examples, 6, seed=4, augment=chain)
    changed = 0
    for rows, batch in zip(loader.batch_rows(2), loader.epoch(2), strict=True):
        for place, row in enumerate(rows):
            rng = np.random.default_rng([4, 3, int(row), place])
            one = examples.example(int(row), heard=True)
            assert np.array_equal(one.samples, waves[examples.ids[row]])
            clip = apply_chain(chain, one, rng, lambda r: examples.example(int(r.integers(len(examples))), heard=True))
            wanted = compute(clip.samples, [Logmel("logmel/24")])["logmel/24"].astype(np.float32)
            n = int(batch.lengths["logmel/24"][place])
            assert n == len(wanted)
            assert np.array_equal(batch.features["logmel/24"][place, :n].numpy(), wanted)
            assert not batch.features["logmel/24"][place, n:].any()
            assert np.allclose(batch.targets[place].numpy(), clip.target, atol=1e-7)
            changed += clip.samples is not one.samples
    assert 0 < changed < len(examples)


def test_an_epoch_is_a_function_of_seed_epoch_and_row():
    examples, _ = heard()
    loader = Loader(examples, 5, seed=1, augment=[Eam(), SpecAugment()])
    first, again = list(loader.epoch(3)), list(Loader(examples, 5, seed=1, augment=[Eam(), SpecAugment()]).epoch(3))
    assert all(equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(equal(a, b) for a, b in zip(first, loader.epoch(4), strict=True))
    assert [b.ids for b in loader.in_order()] == [b.ids for b in Loader(examples, 5).in_order()]
    assert all(b.targets is None for b in loader.in_order()), "scoring is never augmented"


@pytest.mark.parametrize("steps", [[Eam()], [Gain(probability=0.5), Eam(), SpecAugment(probability=0.5)]])
def test_remembered_clips_are_those_made_anew_to_the_bit(steps, monkeypatch):
    encoders = {"logmel/24": Logmel("logmel/24"), "waveform": Waveform()}  # one float16 holds, and one it does not
    plain, _ = heard(encoders=encoders)
    hearing = dataclasses.replace(plain.hearing, remembered=Remembered())
    examples = dataclasses.replace(plain, hearing=hearing)
    expected = list(Loader(plain, 5, seed=1, augment=steps).epoch(2))
    computed = []
    features = Hearing.features
    monkeypatch.setattr(Hearing, "features", lambda self, x: computed.append(len(x)) or features(self, x))
    for times in range(2):
        loader = Loader(examples, 5, seed=1, augment=steps)
        batches = list(loader.epoch(2))
        assert all(equal(a, b) for a, b in zip(batches, expected, strict=True))
        assert all(torch.equal(a.attributes.nan_to_num(), b.attributes.nan_to_num())
                   for a, b in zip(batches, expected, strict=True))  # fmt: skip
        assert bool(computed) == (times == 0), "the second time nothing is computed"
        computed.clear()
    other = list(Loader(examples, 5, seed=2, augment=steps).epoch(2))
    assert computed, "another seed draws other clips"
    assert all(equal(a, b) for a, b in zip(other, Loader(plain, 5, seed=2, augment=steps).epoch(2), strict=True))


def test_what_is_remembered_is_bounded():
    examples, _ = heard()
    clip = dataclasses.replace(examples.example(0), features={"x": np.ones((10, 10), dtype=np.float32)})
    remembered = Remembered(largest_bytes=500)  # room for two of 200 bytes
    for k in range(4):
        remembered.keep((k,), clip)
    assert [remembered.get((k,)) is not None for k in range(4)] == [True, True, False, False]
    found = remembered.get((0,))
    assert found.features["x"].dtype == np.float32
    assert np.array_equal(found.features["x"], clip.features["x"])
    assert found.samples is None


def test_steps_on_features_follow_and_their_partner_was_heard_too(monkeypatch):
    examples, _ = heard()
    calls = []
    features = Hearing.features
    monkeypatch.setattr(Hearing, "features", lambda self, s: calls.append(len(s)) or features(self, s))
    rows = np.arange(4)
    Loader(examples, 4, augment=[Gain(probability=1.0), FeatureMixup(probability=1.0)]).collate(rows, epoch=0)
    assert len(calls) == 8, "the clip and its partner, both with their gain"


def test_a_system_on_waveforms_gets_the_augmented_samples():
    examples, waves = heard(encoders={"waveform": Waveform()})
    batch = Loader(examples, 4, augment=[Gain(low_db=-6.0, high_db=-6.0, probability=1.0)]).collate(np.arange(4), 0)
    for place, name in enumerate(batch.ids):
        n = len(waves[name])
        assert int(batch.lengths["waveform"][place]) == n
        assert np.allclose(batch.features["waveform"][place, :n, 0], waves[name] * 10 ** (-6 / 20), atol=1e-6)


def test_texts_stay_as_they_are_stored():
    examples, waves = heard()
    texts = Stored(dict.fromkeys(waves, wave(7)), Logmel("logmel/40"))
    joined = dataclasses.replace(examples, sources={**examples.sources, "text": texts})
    batch = Loader(joined, 3, augment=[Gain(probability=1.0)]).collate(np.arange(3), 0)
    assert np.array_equal(batch.features["text"][0].numpy(), texts.get(joined.ids[0]).astype(np.float32))


def voted(n=12):
    rows = [
        Utterance(f"u{k}", "x", speaker=f"s{k}", split="train", votes={"anger": 3, "neutral": 2}) for k in range(n - 1)
    ]
    rows.append(Utterance(f"u{n}", "x", speaker="z", split="train", emotion="sadness"))
    return Manifest("c", LABELS, tuple(rows))


def test_raters_reach_the_dropout_of_raters():
    examples, _ = heard(voted(), targets="votes")
    assert examples.votes[0].tolist() == [3.0, 2.0, 0.0]
    assert examples.example(0).votes.tolist() == [3.0, 2.0, 0.0]
    assert examples.example(11).votes is None, "a label is no rater"
    loader = Loader(examples, 12, augment=[AnnotatorDropout(rate=0.5)])
    seen = {tuple(np.round(t, 3)) for e in range(5) for t in loader.collate(np.arange(12), e).targets.numpy().tolist()}
    possible = {(a / (a + b), b / (a + b), 0.0) for a in range(4) for b in range(3) if a + b} | {(0.0, 0.0, 1.0)}
    assert seen <= {tuple(np.round(t, 3)) for t in possible}
    assert len(seen) > 4
    plain = Loader(examples, 12).collate(np.arange(12), 0)
    assert plain.targets[0].tolist() == pytest.approx([0.6, 0.4, 0.0])


def test_raters_and_waveforms_that_are_not_there_are_refused(tmp_path):
    manifest = made_manifest()
    examples, _ = heard(manifest.split("train"))
    dropout = made_system(features=["logmel/24"], augment=["annotator_dropout"])
    with pytest.raises(SerkitError, match=r"'annotator_dropout' changes the raters' distribution.*targets: votes"):
        train_network(dropout, made_config(dropout), examples, examples, tmp_path, device="cpu")
    deaf = dataclasses.replace(examples, hearing=None)
    eam = made_system(features=["logmel/24"], augment=["eam"])
    with pytest.raises(SerkitError, match="'eam' changes waveforms, and these examples have none"):
        train_network(eam, made_config(eam), deaf, deaf, tmp_path, device="cpu")
    late = made_system(features=["logmel/24"], augment=["spec_augment", "eam"])
    with pytest.raises(SerkitError, match="comes after SpecAugment"):
        train_network(late, made_config(late), examples, examples, tmp_path, device="cpu")


def test_a_mixture_may_have_the_classes_of_both_corpora_and_attributes_mix():
    rows = [
        Utterance("a0", "x", speaker="a", corpus="a", split="train", emotion="anger", arousal=1.0, valence=3.0),
        Utterance("b0", "x", speaker="b", corpus="b", split="train", emotion="sadness", arousal=5.0),
    ]
    sets = {"a": ("anger", "neutral"), "b": ("neutral", "sadness")}
    examples, _ = heard(Manifest("a+b", LABELS, tuple(rows), class_sets=sets))
    loader = Loader(examples, 2, augment=[Eam(probability=1.0)])
    mixed = 0
    for epoch in range(12):
        batch = loader.collate(np.array([0, 1]), epoch)
        share = float(batch.targets[0, 2])
        assert batch.class_mask[0].tolist() == [True, True, share > 0]
        assert float(batch.attributes[0, 0]) == pytest.approx(1.0 + 4.0 * share, abs=1e-5)
        assert torch.isnan(batch.attributes[0, 1:]).tolist() == [share > 0, True], "unknown in one, unknown in both"
        mixed += share > 0
    assert mixed > 2
    plain = loader.collate(np.array([0, 1]))
    assert plain.class_mask.tolist() == [[True, True, False], [False, True, True]]
    assert plain.attributes[0, :2].tolist() == [1.0, 3.0]


@pytest.mark.parametrize("stop_after", [1, 2])
def test_training_on_augmented_waveforms_is_resumed_bit_for_bit(tmp_path, stop_after):
    manifest = made_manifest(36)
    train, _ = heard(manifest.split("train"))
    dev, _ = heard(manifest.split("dev"))
    system = made_system(
        features=["logmel/24"],
        model={"name": "compact", "channels": 16, "heads": 2, "n_blocks": 1},
        losses=["kl_soft", "focal", {"name": "center_loss", "width": 8}, "supcon"],
        augment=["eam", "gain", "spec_augment"],
        train={"loss_scale": "running_max", "schedule": "exponential"},
    )
    config = dataclasses.replace(
        made_config(system), dims={"logmel/24": 25}, model={"name": "compact", **system.model.parameters}
    )

    def stop(event):
        if event.epoch == stop_after:
            raise KeyboardInterrupt

    train_network(system, config, train, dev, tmp_path / "whole", device="cpu")
    with pytest.raises(KeyboardInterrupt):
        train_network(system, config, train, dev, tmp_path / "cut", device="cpu", on_epoch=stop)
    train_network(system, config, train, dev, tmp_path / "cut", device="cpu")
    for name in ("model.safetensors", "history.jsonl", "config.json"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
