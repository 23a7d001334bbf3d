"""Recordings asked about, and what is said."""

from __future__ import annotations

from serkit.serving.pool import Asked
from serkit.serving.predicting import predict

from .signals import GOLDEN

LABELS = ["anger", "fear", "happiness", "neutral", "sadness"]


def asked(*inputs: object, **options: object) -> Asked:
    return Asked(tuple(str(i) for i in inputs), model=str(GOLDEN), **options)  # type: ignore[arg-type]


def ask(what: Asked) -> tuple[int, str, list[str]]:
    written: list[str] = []
    complaints: list[str] = []
    failed = predict(what, written.append, complaints.append)
    return failed, "".join(written), complaints
