"""What a run makes of the machine it is on."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from serkit import pipeline
from serkit.pipeline.measure import provenance
from serkit.processes import cores


def test_auto_is_one_process_where_there_is_a_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pipeline.Machine(tmp_path).workers == cores()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert pipeline.Machine(tmp_path).workers == 1
    assert pipeline.Machine(tmp_path, "cuda").workers == 1
    assert pipeline.Machine(tmp_path, "cpu").workers == cores()
    assert pipeline.Machine(tmp_path, jobs=3).workers == 3


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
