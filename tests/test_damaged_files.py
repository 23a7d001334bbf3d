"""Whatever stands in a file that a person may have touched, it is read, or refused in one line that names it."""

import json

import pytest

from made import made_manifest
from serkit import checkpoints, config, networks, stacking
from serkit.corpora.table import table
from serkit.errors import SerkitError
from serkit.pipeline import Run
from serkit.predictions import Predictions
from serkit.recipe import load_recipe
from serkit.reporting import reading
from serkit.serving import bundle, timeline
from serkit.types import Manifest

DAMAGE = {
    "empty": b"",
    "not UTF-8": b"\xff\xfe\x00" * 20,
    "zeros": bytes(100),
    "cut short": b'{"_manifest": {"corp',
    "a list": b"[1]",
    "a number": b"1",
    "null": b"null",
    "a mapping": b'{"format": 1, "labels": {"b": 1}, "segments": 1, "systems": 2, "corpora": 3}',
    "a long number": b"1" * 5000,
    "deep": b"[" * 100_000,
    "words": b"SPEAKER a b c\n1 2 3\n00:00:00,000 --> x\n",
}
READERS = {
    "manifest.jsonl": Manifest.load,
    "net.test.parquet": Predictions.load,
    "recipe.yaml": load_recipe,
    "roots.yaml": lambda path: (config.load_config(), config.corpus_root("toy"), config.store_folder()),
    "encoders.lock.json": lambda path: checkpoints.locked(),
    "config.json": lambda path: networks.load_config(path.parent),
    "stack.json": lambda path: stacking.load(path.parent),
    "report/report.json": lambda path: reading.read(path.parent),
    "features/00.json": lambda path: Run(path.parent.parent).features,
    "state.json": lambda path: Run(path.parent)._state(),
    "bundle.json": lambda path: bundle.open_bundle(path.parent),
    "turns.rttm": timeline.read_rttm,
    **dict.fromkeys(("words.srt", "words.vtt", "words.json", "words.jsonl"), timeline.read_transcript),
    **dict.fromkeys(("t.csv", "t.tsv", "t.jsonl", "t.parquet"), table),
}
RECIPE = {"name": "x", "systems": {"a": {"features": ["logmel/80"], "model": "mean_pool"}}}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("name", READERS)
def test_a_damaged_file_is_one_clear_line(tmp_path, monkeypatch, name, damage):
    monkeypatch.setenv("SERKIT_CONFIG", str(tmp_path))
    if name.startswith("features"):
        (tmp_path / "recipe.yaml").write_text(json.dumps(RECIPE))
        made_manifest().save(tmp_path / "manifest.jsonl")
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(DAMAGE[damage])
    said = path.name
    try:
        READERS[name](path)
    except SerkitError as error:
        said = str(error)
    assert "\n" not in said
    assert len(said) < 1000
    assert path.name in said or str(path.parent) in said
