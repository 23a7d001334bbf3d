"""The network logistic_regression is scikit-learn's, and leaves out classes that a corpus does not have."""

from __future__ import annotations

import dataclasses
import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from serkit import pipeline
from serkit.corpora.toy import toy
from serkit.errors import SerkitError
from serkit.losses._targets import target_rows
from serkit.models.logistic_regression import LogisticRegression
from serkit.recipe import load_recipe, parse_recipe
from serkit.tensors import Batch

DIMS = {"a": 5, "b": 4}
N_CLASSES = 3


def some_clips(n: int, seed: int = 0) -> Batch:
    """Classes of unequal size, with something to learn."""
    g = torch.Generator().manual_seed(seed)
    labels = (torch.arange(n) % 6).clamp(max=N_CLASSES - 1)
    features = {name: torch.randn(n, 2, dim, generator=g) + labels[:, None, None] for name, dim in DIMS.items()}
    lengths = {name: torch.full((n,), 2) for name in DIMS}
    return Batch(tuple(f"u{k}" for k in range(n)), features, lengths, labels)


def fitted(batches: list[Batch], **options: object) -> LogisticRegression:
    torch.manual_seed(0)
    network = LogisticRegression(
        dims=DIMS, n_classes=N_CLASSES, start="fitted", **{"normalize": "none", **options}
    ).eval()  # type: ignore[arg-type]
    network.solve((batch, target_rows(batch, N_CLASSES, torch.zeros(()))[0]) for batch in batches)
    return network


def logits(network: LogisticRegression, batch: Batch) -> torch.Tensor:
    with torch.no_grad():
        return network(batch).emotion


@pytest.mark.parametrize("class_weight", ["balanced", "none"])
def test_it_is_scikit_learns(class_weight: str) -> None:
    from sklearn import linear_model

    train, others = some_clips(60), some_clips(15, seed=1)
    network = fitted([train], c=0.3, class_weight=class_weight)
    reference = linear_model.LogisticRegression(
        C=0.3, class_weight="balanced" if class_weight == "balanced" else None, tol=1e-10, max_iter=10_000
    )
    with torch.no_grad():
        x, z = (network(b).embedding.double().numpy() for b in (train, others))  # type: ignore[union-attr]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reference.fit(x, train.labels.numpy())
    found = logits(network, others).softmax(1).numpy()
    np.testing.assert_allclose(found, reference.predict_proba(z), atol=5e-4)


def test_a_class_that_a_corpus_does_not_have_is_left_out_of_its_clips() -> None:
    """They say nothing against that class, so it is answered more often than if it had been possible there."""
    train = some_clips(60)
    few = torch.ones(60, N_CLASSES, dtype=torch.bool)
    few[:, 2] = False
    two = dataclasses.replace(train, labels=train.labels.clamp(max=1), class_mask=few)
    network = fitted([some_clips(40, seed=3), two], c=1.0)
    plain = fitted([some_clips(40, seed=3), dataclasses.replace(two, class_mask=None)], c=1.0)
    others = some_clips(30, seed=1)
    shares = [logits(n, others).softmax(1)[:, 2].mean() for n in (network, plain)]
    assert shares[0] > shares[1] + 0.1
    never = fitted([two])
    assert float(never.linear.weight.detach()[2].abs().max()) == 0.0, "nothing was learned of a class that nobody has"
    assert logits(never, others).isfinite().all()


def test_the_order_of_clips_changes_nothing_beyond_rounding() -> None:
    first, second, others = some_clips(20), some_clips(20, seed=2), some_clips(9, seed=1)
    one, other = (logits(fitted(b), others) for b in ([first, second], [second, first]))
    torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)
    assert torch.equal(one, logits(fitted([first, second]), others))


def test_votes_are_weighted_classes() -> None:
    """A clip whose raters are divided counts as a share of a clip of each class."""
    train, others = some_clips(24), some_clips(9, seed=1)
    rows = target_rows(train, N_CLASSES, torch.zeros(()))[0]
    shared = 0.75 * rows + 0.25 * rows.roll(1, 0)
    torch.manual_seed(0)
    network = LogisticRegression(dims=DIMS, n_classes=N_CLASSES, start="fitted", class_weight="none").eval()
    network.solve([(train, shared)])
    four = [(train, rows)] * 3 + [(train, rows.roll(1, 0))]
    torch.manual_seed(0)
    copied = LogisticRegression(dims=DIMS, n_classes=N_CLASSES, start="fitted", class_weight="none", c=0.025).eval()
    copied.solve(four)
    torch.testing.assert_close(logits(network, others), logits(copied, others), atol=1e-4, rtol=1e-4)


def test_clips_without_a_label_are_refused() -> None:
    nothing = dataclasses.replace(some_clips(4), labels=torch.full((4,), -1))
    for batches in ([nothing], []):
        with pytest.raises(SerkitError, match="needs training clips with a label"):
            fitted(batches)


def test_features_of_very_unequal_size_are_refused_rather_than_half_fitted() -> None:
    train = some_clips(60)
    scaled = {"a": train.features["a"] * torch.logspace(-3, 8, 5), "b": train.features["b"]}
    with pytest.raises(SerkitError, match=r"no minimum was found in \d+ steps .* set model\.normalize: train"):
        fitted([dataclasses.replace(train, features=scaled)])


def uar_of(run: pipeline.Run) -> float:
    tree = json.loads((run.folder / "report" / "report.json").read_text())
    return float(tree["systems"]["simple"]["test"]["uar"]["value"])


def test_epochs_may_follow_or_not(tmp_path: Path, toy_root: Path, toy_store: Path) -> None:
    text = """
name: simple
labels: corpus
systems:
  simple:
    features: [functionals]
    model: {name: logistic_regression, start: fitted, normalize: train}
    train: {epochs: 0, select: last}
crossfit: null
stack: null
"""
    machine = pipeline.Machine(toy_store, "cpu", jobs=1)
    found = {}
    for epochs in (0, 2):
        run = pipeline.prepare(parse_recipe(text, [f"train.epochs={epochs}"]), toy(toy_root), tmp_path / str(epochs))
        pipeline.run_all(run, machine)
        found[epochs] = run.predictions("simple", "test")
        assert uar_of(run) > 1.5 / len(run.manifest.labels), "it learned something"
    assert not np.allclose(found[0].scores, found[2].scores)
    with pytest.raises(SerkitError, match=r"logistic_regression would learn nothing: only quadratic with start: ridge"):
        parse_recipe(text, ["model.start=random"])
    with pytest.raises(SerkitError, match=r"--set model\.c: it"):
        parse_recipe(text, ["model.start=random", "train.epochs=1", "model.c=2"])


def test_the_recipe_is_the_baseline() -> None:
    (system,) = load_recipe("egemaps").systems.values()
    assert [f.name for f in system.features] == ["opensmile/egemaps-functionals"]
    assert system.model.parameters["start"] == "fitted"
    assert system.train.epochs == 0
