"""The quadratic model is kernel ridge regression, kept small."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from serkit import pipeline
from serkit.corpora.toy import toy
from serkit.errors import SerkitError
from serkit.examples import Examples
from serkit.first_values import solve
from serkit.losses._targets import target_rows
from serkit.models.quadratic import Quadratic
from serkit.recipe import Recipe, parse_recipe
from serkit.tensors import Batch

DIMS = {"a": 5, "b": 4}
N_CLASSES = 3


def some_clips(n: int, seed: int = 0) -> Batch:
    g = torch.Generator().manual_seed(seed)
    features = {name: torch.randn(n, 2, dim, generator=g) for name, dim in DIMS.items()}
    lengths = {name: torch.full((n,), 2) for name in DIMS}
    labels = torch.arange(n) % N_CLASSES
    mask = torch.ones(n, N_CLASSES, dtype=torch.bool)
    mask[labels != 2, 2] = torch.arange(n)[labels != 2] % 2 == 0  # some clips' corpus has no third class
    return Batch(tuple(f"u{k}" for k in range(n)), features, lengths, labels, class_mask=mask)


def solved(batches: list[Batch], **options: object) -> Quadratic:
    torch.manual_seed(0)
    network = Quadratic(dims=DIMS, n_classes=N_CLASSES, start="ridge", **options).eval()  # type: ignore[arg-type]
    network.solve((batch, target_rows(batch, N_CLASSES, torch.zeros(()))[0]) for batch in batches)
    return network


def test_with_every_eigenvalue_it_is_scikit_learns_kernel_ridge() -> None:
    from sklearn.kernel_ridge import KernelRidge

    train, others = some_clips(40), some_clips(15, seed=1)
    network = solved([train], rank=sum(DIMS.values()), curvature=0.7, ridge=0.2, scale=1.0)
    with torch.no_grad():
        x, z = network.embed(train).double().numpy(), network.embed(others).double().numpy()
        found = network(others).emotion.numpy()
    possible = train.class_mask.double().numpy()  # type: ignore[union-attr]
    targets = np.eye(N_CLASSES)[train.labels.numpy()] - possible / possible.sum(1, keepdims=True)
    kernel = lambda p, q: p @ q.T + 0.7 * (p @ q.T) ** 2  # noqa: E731  # the formula of the docstring
    reference = KernelRidge(alpha=0.2, kernel="precomputed").fit(kernel(x, x), targets)
    np.testing.assert_allclose(found, reference.predict(kernel(z, x)), atol=2e-4)


def test_the_largest_eigenvalues_are_kept() -> None:
    train, others = some_clips(40), some_clips(15, seed=1)
    whole = solved([train], rank=sum(DIMS.values()))
    away = []
    for rank in (1, 3, 6):
        small = solved([train], rank=rank)
        assert torch.allclose(small.weights, whole.weights[:, :rank], atol=1e-3)
        assert (small.weights.abs().diff(dim=1) <= 1e-6).all()
        with torch.no_grad():
            away.append(float((small(others).emotion - whole(others).emotion).abs().max()))
    assert away[0] > away[1] > away[2]


def test_the_order_of_clips_changes_nothing_beyond_rounding() -> None:
    first, second, others = some_clips(20), some_clips(20, seed=2), some_clips(9, seed=1)
    with torch.no_grad():
        one, other = (solved(b, rank=4)(others).emotion for b in ([first, second], [second, first]))
    torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-3)
    assert torch.equal(one, solved([first, second], rank=4)(others).emotion)


def test_of_too_many_clips_some_are_taken_at_even_distances() -> None:
    whole, others = some_clips(9), some_clips(5, seed=1)
    every_second = Batch(
        whole.ids[::2], {k: x[::2] for k, x in whole.features.items()}, {k: n[::2] for k, n in whole.lengths.items()},
        whole.labels[::2], class_mask=whole.class_mask[::2],  # type: ignore[index]
    )  # fmt: skip
    with torch.no_grad():
        found = solved([whole], rank=3, most_rows=5)(others).emotion
        torch.testing.assert_close(found, solved([every_second], rank=3)(others).emotion)
        assert not torch.allclose(found, solved([whole], rank=3)(others).emotion)


def test_clips_without_a_label_are_refused() -> None:
    nothing = dataclasses.replace(some_clips(4), labels=torch.full((4,), -1))
    with pytest.raises(SerkitError, match="needs training clips with a label"):
        solved([nothing])


class Stored:
    def __init__(self, rows: torch.Tensor) -> None:
        self.rows = rows.numpy()

    def get(self, utterance_id: str) -> np.ndarray:
        return self.rows[int(utterance_id[1:])]

    def frames(self, utterance_id: str) -> int:
        return len(self.get(utterance_id))


def test_training_clips_count_once_and_once_in_each_copy() -> None:
    plain, copy = some_clips(12), some_clips(12, seed=5)
    sources = {name: Stored(x) for name, x in plain.features.items()}
    examples = Examples(
        plain.ids, sources, np.full((12, 2), 2), plain.labels.numpy(), ("x", "y", "z"), ("c",) * 12,
        class_mask=plain.class_mask.numpy(), attributes=np.full((12, 3), np.nan, dtype=np.float32),  # type: ignore[union-attr]
        copies=({name: Stored(x) for name, x in copy.features.items()},),
    )  # fmt: skip
    torch.manual_seed(0)
    network = Quadratic(dims=DIMS, n_classes=N_CLASSES, start="ridge", rank=3)
    solve(network, examples)
    expected = solved([plain, dataclasses.replace(copy, labels=plain.labels, class_mask=plain.class_mask)], rank=3)
    torch.testing.assert_close(network.linear.weight, expected.linear.weight)
    untouched = Quadratic(dims=DIMS, n_classes=N_CLASSES)
    before = untouched.linear.weight.clone()
    solve(untouched, examples)
    assert torch.equal(untouched.linear.weight, before)


def test_only_a_network_that_is_solved_does_without_epochs() -> None:
    def recipe(**model: object) -> Recipe:
        system = {"features": ["mfcc"], "model": model, "train": {"epochs": 0}}
        return Recipe.model_validate({"name": "x", "systems": {"s": system}})

    recipe(name="quadratic", start="ridge")
    layers = "features: [{name: wavlm/large, layer: all}], model: {name: quadratic, start: ridge}"
    with pytest.raises(SerkitError, match=r"systems\.s: start: ridge learns no weights of layers"):
        parse_recipe(f"{{name: x, systems: {{s: {{{layers}}}}}}}")
    with pytest.raises(SerkitError, match=r"systems\.s: train\.epochs is 0, so mean_pool would learn nothing"):
        parse_recipe("{name: x, systems: {s: {features: [mfcc], model: mean_pool, train: {epochs: 0}}}}")
    for model in ({"name": "mean_pool"}, {"name": "quadratic"}):
        with pytest.raises(ValueError, match=r"train\.epochs is 0, so \w+ would learn nothing"):
            recipe(**model)


def test_a_run_without_epochs_has_a_report_and_resumes(toy_root: Path, toy_store: Path, tmp_path: Path) -> None:
    text = """
name: solved
systems: {s: {features: [mfcc], model: {name: quadratic, start: ridge, rank: 2, normalize: train}, train: {epochs: 0}}}
crossfit: {folds: 2}
stack: null
evaluate: {draws: 20}
"""
    run = pipeline.prepare(parse_recipe(text), toy(toy_root), tmp_path / "run")
    machine = pipeline.Machine(toy_store, "cpu", jobs=1)
    pipeline.run_all(run, machine, lambda _: None)
    [row] = [json.loads(line) for line in (run.network("s", "fold0") / "history.jsonl").read_text().splitlines()]
    assert row["epoch"] == 0
    assert 0 <= row["dev_macro_f1"] <= 1
    assert "loss" not in row
    whole = (run.folder / "report" / "report.json").read_text()
    assert json.loads(whole)["systems"]["s"]["test"]["uar"]["n"] > 0
    assert "squares, solved" in (run.folder / "report" / "report.md").read_text()
    weights = (run.network("s", "fold1") / "model.safetensors").read_bytes()
    (run.network("s", "fold1") / "model.safetensors").unlink()
    (run.folder / "state.json").unlink()
    pipeline.run_all(pipeline.prepare(parse_recipe(text), toy(toy_root), tmp_path / "run"), machine, lambda _: None)
    assert (run.network("s", "fold1") / "model.safetensors").read_bytes() == weights
