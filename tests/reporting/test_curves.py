"""Learning curves: what their dots are."""

from __future__ import annotations

from pathlib import Path

from .example import report, write


def test_where_the_kept_epoch_is_not_the_one_of_the_best_f1_the_curves_say_so(tmp_path: Path) -> None:
    said = {
        "macro_f1": "a dot at the best epoch.",
        "last": "a dot at the highest epoch (the last one is kept).",
        "ccc": "a dot at the highest epoch (if train.select says so, the kept one is chosen by CCC).",
    }
    for select, words in said.items():
        tree = report()
        tree["provenance"]["recipe"]["systems"] = {"voice_text": {"train": {"select": select}}}
        assert words in write(tree, tmp_path)


def test_networks_on_all_of_train_are_no_folds(tmp_path: Path) -> None:
    for crossfit, kinds in (
        ({"refit": False}, "(folds)"),
        ({"refit": True}, "(folds, and those on all of train)"),
        ({"refit": 2, "with_dev": True}, "(folds, and those on all of train and dev, which hold out none)"),
    ):
        tree = report()
        tree["provenance"]["recipe"]["crossfit"] = {"folds": 3, **crossfit}
        assert f"models {kinds} of a system" in write(tree, tmp_path)
