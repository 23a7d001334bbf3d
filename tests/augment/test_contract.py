"""Promises every augmentation keeps; the folder is discovered, so a new file is held to them too."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from serkit import registry
from serkit.augment import Augmentation, Example, apply_chain, split_chain
from serkit.errors import SerkitError

NAMES = registry.names("augment")


SMALL: dict[str, dict[str, object]] = {"crop": {"max_s": 0.15}}  # where the default leaves short clips alone


def make(name: str, **parameters: object) -> Augmentation:
    return registry.find("augment", name)(**SMALL.get(name, {}), **parameters)


def clip(seed: int, n: int = 8000, frames: int = 50, label: int = 0) -> Example:
    rng = np.random.default_rng(seed)
    samples = (0.3 * rng.standard_normal(n)).clip(-1, 1).astype(np.float32)
    features = {"a": rng.standard_normal((frames, 12)).astype(np.float32)}
    votes = np.array([3.0, 1.0, 1.0])
    example = Example(np.eye(3)[label], samples, features, votes, np.array([1.0, 2.0, 3.0]))
    for array in (samples, features["a"], votes, example.target):
        array.setflags(write=False)  # changing one in place raises
    return example


def run(step: Augmentation, example: Example, seed: int = 0, partner: Example | None = None) -> Example:
    given = partner if partner is not None or not step.needs_partner else clip(99, label=2)
    return step(example, np.random.default_rng(seed), given)


def same(a: Example, b: Example) -> bool:
    samples = a.samples is b.samples or np.array_equal(a.samples, b.samples)
    features = all(np.array_equal(a.features[k], b.features[k]) for k in a.features)
    return samples and features and np.array_equal(a.target, b.target) and a.features.keys() == b.features.keys()


@pytest.mark.parametrize("name", NAMES)
def test_is_a_frozen_dataclass_that_names_its_kind_and_has_a_test(name: str) -> None:
    step = make(name)
    assert dataclasses.is_dataclass(step)
    assert type(step).__name__ == registry.camel_case(name)
    with pytest.raises(dataclasses.FrozenInstanceError):
        step.probability = 0.1  # type: ignore[misc]
    assert step.kind in ("samples", "features", "target")
    assert isinstance(step.needs_partner, bool)
    assert set(registry.member("augment", name).parameters) == {f.name for f in dataclasses.fields(step)}
    assert (Path(__file__).parent / f"test_{name}.py").is_file()
    with pytest.raises(SerkitError, match="probability"):
        make(name, probability=1.5)


@pytest.mark.parametrize("name", NAMES)
def test_same_generator_same_bytes_and_nothing_in_place(name: str) -> None:
    step = make(name)
    results = [run(step, clip(1), seed) for seed in (0, 0, *range(1, 12))]
    assert same(results[0], results[1])
    assert any(not same(r, clip(1)) for r in results), "it never changed anything"
    if name not in ("lam", "polarity"):  # the two that draw nothing
        assert any(not same(r, results[0]) for r in results[2:]), "it does not depend on the generator"


@pytest.mark.parametrize("name", NAMES)
def test_changes_only_its_own_part(name: str) -> None:
    step = make(name)
    before, after = clip(1), run(step, clip(1), 3)
    if step.kind != "samples":
        assert after.samples is before.samples or np.array_equal(after.samples, before.samples)
    if step.kind != "features":
        assert np.array_equal(after.features["a"], before.features["a"])
    if step.kind != "target" and not step.needs_partner:
        assert np.array_equal(after.target, before.target)
        assert np.array_equal(after.votes, before.votes)


@pytest.mark.parametrize("name", NAMES)
def test_result_is_a_valid_example(name: str) -> None:
    step = make(name)
    for seed in range(20):
        after = run(step, clip(1, n=3000 + 411 * seed, frames=1 + seed), seed)
        assert after.samples.dtype == np.float32
        assert np.isfinite(after.samples).all()
        assert np.abs(after.samples).max() <= 1.0
        assert after.features["a"].dtype == np.float32
        assert np.isfinite(after.features["a"]).all()
        assert after.target.sum() == pytest.approx(1.0)
        assert (after.target >= 0).all()


@pytest.mark.parametrize("name", [n for n in NAMES if make(n).kind == "samples"])
@pytest.mark.parametrize("n", [0, 1, 2, 3, 10, 700])
def test_silent_and_very_short_clips_pass(name: str, n: int) -> None:
    step = make(name)
    silent = dataclasses.replace(clip(1), samples=np.zeros(n, dtype=np.float32))
    assert same(run(step, silent), silent)
    short = dataclasses.replace(clip(1), samples=np.full(n, 0.25, dtype=np.float32))
    for seed in range(5):
        after = run(step, short, seed)
        assert np.isfinite(after.samples).all()
        assert len(after.samples) >= min(n, 1)
    without = dataclasses.replace(clip(1), samples=None)
    assert run(step, without).samples is None


@pytest.mark.parametrize("name", [n for n in NAMES if make(n).needs_partner])
def test_mixers_leave_the_example_without_a_real_partner(name: str) -> None:
    step = make(name)
    assert step(clip(1), np.random.default_rng(0), None) is not None
    assert same(step(clip(1), np.random.default_rng(0), None), clip(1))
    if step.kind == "samples":
        for n in (0, 1, 5000):
            hush = dataclasses.replace(clip(2, label=2), samples=np.zeros(n, dtype=np.float32))
            assert same(run(step, clip(1), partner=hush), clip(1))


@pytest.mark.parametrize("name", [n for n in NAMES if make(n).needs_partner])
def test_mixers_mix_labels_attributes_and_end_votes(name: str) -> None:
    step = make(name)
    other = dataclasses.replace(clip(5, n=9000, label=2), attributes=np.array([3.0, 4.0, np.nan]))
    after = run(step, clip(1), 4, other)
    share = after.target[2]
    assert 0 < share < 1
    assert after.target.tolist() == pytest.approx([1 - share, 0, share])
    assert after.votes is None
    assert after.attributes[:2].tolist() == pytest.approx([1 + 2 * share, 2 + 2 * share])
    assert np.isnan(after.attributes[2])
    nobody = dataclasses.replace(other, target=np.zeros(3))
    assert not run(step, clip(1), 4, nobody).target.any(), "half a label is no label"
    with pytest.raises(SerkitError, match="classes"):
        run(step, clip(1), 4, dataclasses.replace(other, target=np.eye(4)[0]))


@pytest.mark.parametrize("name", [n for n in NAMES if make(n).needs_partner])
def test_mixing_a_clip_with_itself_keeps_its_label(name: str) -> None:
    after = run(make(name), clip(1), 0, clip(1))
    assert after.target.tolist() == pytest.approx([1, 0, 0])


def test_a_chain_applies_each_step_with_its_probability() -> None:
    always, never = make("polarity", probability=1.0), make("polarity", probability=0.0)
    rng = np.random.default_rng(0)
    assert np.array_equal(apply_chain([always], clip(1), rng).samples, -clip(1).samples)
    assert same(apply_chain([never, always, never, always], clip(1), rng), clip(1))
    sometimes = make("polarity", probability=0.3)
    turned = sum(not same(apply_chain([sometimes], clip(1, n=10), rng), clip(1, n=10)) for _ in range(2000))
    assert turned == pytest.approx(600, abs=4 * np.sqrt(2000 * 0.3 * 0.7))


def test_a_chain_draws_a_partner_only_where_it_mixes_and_treats_it_like_the_clip() -> None:
    drawn = []

    def draw(rng: np.random.Generator) -> Example:
        drawn.append(1)
        return dataclasses.replace(clip(2, label=2), samples=np.full(4000, 0.5, dtype=np.float32))

    upside_down, mix = make("polarity", probability=1.0), make("lam", probability=1.0, normalize=False)
    main = dataclasses.replace(clip(1), samples=np.full(4000, 0.5, dtype=np.float32))
    result = apply_chain([upside_down, mix], main, np.random.default_rng(0), draw)
    assert len(drawn) == 1
    assert result.samples.tolist() == pytest.approx([-0.5] * 4000), "the partner went through the first step too"
    apply_chain([make("lam", probability=0.0)], main, np.random.default_rng(0), draw)
    assert len(drawn) == 1
    with pytest.raises(SerkitError, match="Lam mixes two clips"):
        apply_chain([mix], main, np.random.default_rng(0))


def test_a_chain_splits_where_features_are_computed() -> None:
    votes, noise, masks = make("annotator_dropout"), make("noise"), make("spec_augment")
    assert split_chain([votes, noise, masks]) == ([votes, noise], [masks])
    assert split_chain([]) == ([], [])
    with pytest.raises(SerkitError, match="put waveforms first"):
        split_chain([masks, noise])


@pytest.mark.parametrize("target", [[0.5, 0.6], [1.5, -0.5], [[1.0]]])
def test_a_target_is_a_distribution(target: list[float]) -> None:
    with pytest.raises(SerkitError, match="distribution"):
        Example(np.array(target))


def test_shapes_of_an_example_are_checked() -> None:
    with pytest.raises(SerkitError, match="mono"):
        Example(np.eye(2)[0], samples=np.zeros((2, 5), dtype=np.float32))
    with pytest.raises(SerkitError, match=r"\(time, dim\)"):
        Example(np.eye(2)[0], features={"a": np.zeros(5, dtype=np.float32)})
