"""The report of a run, for comparisons."""

import json

import pytest


def report(folder):
    tree = json.loads((folder / "report" / "report.json").read_text())
    for split, row in tree["scaled"][tree["lead"]].items():
        gap = sum(r["n"] * abs(r["confidence"] - r["accuracy"]) for r in row["reliability"])
        assert gap / row["ece"]["n"] == pytest.approx(row["ece"]["value"]), split
    tree["provenance"].pop("run")
    return tree
