"""The stages in order, and the folder they leave: prepare, extract, train, stack, evaluate, report."""

from serkit.pipeline.cv import cross_validate, leave_out, pool_runs, runs_of
from serkit.pipeline.run import Machine, Run
from serkit.pipeline.stages import (
    evaluate_run,
    extract_run,
    prepare,
    report_run,
    run_all,
    stack_run,
    train_run,
    verify_features,
)

__all__ = [
    "Machine",
    "Run",
    "cross_validate",
    "evaluate_run",
    "extract_run",
    "leave_out",
    "pool_runs",
    "prepare",
    "report_run",
    "run_all",
    "runs_of",
    "stack_run",
    "train_run",
    "verify_features",
]
