"""What a run makes of the machine it is on."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from serkit import pipeline
from serkit.corpora.toy import toy
from serkit.errors import SerkitError
from serkit.pipeline.measure import provenance
from serkit.processes import cores
from serkit.recipe import load_recipe


def test_auto_is_one_process_where_there_is_a_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pipeline.Machine(tmp_path).workers == cores()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert pipeline.Machine(tmp_path).workers == 1
    assert pipeline.Machine(tmp_path, "cuda").workers == 1
    assert pipeline.Machine(tmp_path, "cpu").workers == cores()
    assert pipeline.Machine(tmp_path, jobs=3).workers == 3


def test_a_precision_that_a_cpu_does_not_train_in_is_refused_before_anything_is_done(
    toy_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """fp16 without a GPU gave the numbers of fp32, to the byte, and the report said fp16."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    run = pipeline.prepare(load_recipe("mll_offline", ["train.precision=fp16"]), toy(toy_root), tmp_path / "run")
    for device in ("cpu", "auto"):
        with pytest.raises(SerkitError, match=r"train\.precision 'fp16' needs a GPU: on a CPU it would be fp32"):
            pipeline.run_all(run, pipeline.Machine(tmp_path / "store", device))
    with pytest.raises(SerkitError, match="this torch finds no GPU"):
        pipeline.run_all(run, pipeline.Machine(tmp_path / "store", "cuda"))
    assert not (tmp_path / "store").exists()


def test_the_report_says_what_storing_cost(finished: Path) -> None:
    run = pipeline.Run(finished)
    errors = provenance([run], None)["run"]["rounding_error"]
    assert set(errors) == set(run.features)
    assert all(errors[key] == found.store.rounding_error for key, found in run.features.items())
    assert 1e-6 < errors["logmel/24[pool=8]"] < 1e-3, "float16"


def test_the_report_names_the_device_that_was_used(
    finished: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run = pipeline.Run(finished)
    for there, device in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        assert provenance([run], pipeline.Machine(tmp_path))["run"]["device"] == device
