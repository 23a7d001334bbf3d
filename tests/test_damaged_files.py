"""Whatever stands in a file that a person may have touched, it is read, or refused in one line that names it."""

import json
import os

import numpy as np
import pytest

from made import made_manifest
from serkit import checkpoints, config, networks, stacking, yaml_text
from serkit.corpora.table import table
from serkit.encoding import EncoderSpec
from serkit.errors import SerkitError
from serkit.pipeline import Run
from serkit.predictions import Predictions
from serkit.recipe import load_recipe
from serkit.reporting import reading
from serkit.serving import bundle, timeline
from serkit.store import FeatureStore
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


BOMB = "\n".join(
    f"x{k}: &x{k} {{ {', '.join(f'k{j}: *x{k - 1}' for j in range(9)) if k else 'k: 1'} }}" for k in range(12)
)
MERGED = "\n".join(
    f"x{k}: &x{k} {{ {'<<: [' + ', '.join(9 * [f'*x{k - 1}']) + ']' if k else 'k: 1'} }}" for k in range(12)
)


@pytest.mark.parametrize("text", [BOMB, MERGED, "a: &a [*a]"], ids=["values", "merged", "itself"])
def test_aliases_without_an_end_are_refused(text):
    """A few lines that written out would fill the memory."""
    with pytest.raises(SerkitError, match="r is not valid YAML: aliases add more than 100000 values"):
        yaml_text.parse(text, "r")


def test_a_long_list_has_no_aliases(monkeypatch):
    """Such as of recordings that are left out."""
    monkeypatch.setattr(yaml_text, "MOST", 10)
    assert yaml_text.parse(f"exclude: {list(range(20))}", "r") == {"exclude": list(range(20))}


def test_a_table_of_very_many_columns_is_one_line(tmp_path):
    """Regression: a transposed table took hours, each column being compared with the others."""
    path = tmp_path / "t.csv"
    path.write_text("path,emotion," + ",".join(map(str, range(200_000))) + "\n")
    with pytest.raises(SerkitError, match=r"t\.csv has 200002 columns, expected at most 10000; is it transposed\?"):
        table(path)


def test_a_table_with_a_time_that_no_calendar_has_is_one_line(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    times = pa.array([2**60], pa.timestamp("ms"))
    pq.write_table(pa.table({"path": ["a.wav"], "emotion": ["anger"], "at": times}), tmp_path / "t.parquet")
    with pytest.raises(SerkitError, match=r"t\.parquet is not a Parquet file"):
        table(tmp_path / "t.parquet")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes of POSIX")
def test_a_pipe_or_a_device_in_the_place_of_a_table_is_refused(tmp_path):
    """Regression: it was waited for without an end, or read until the memory was full."""
    os.mkfifo(tmp_path / "t.csv")
    (tmp_path / "t.jsonl").symlink_to("/dev/zero")
    for name in ("t.csv", "t.jsonl"):
        with pytest.raises(SerkitError, match=f"{name} is a pipe or device, expected a file"):
            table(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("spec.json", {"name": None}),
        ("spec.json", {"name": 1}),
        ("spec.json", "[" * 100_000),
        ("spec.json", "[]"),
        ("shard", {"squared": 10**400}),
        ("shard", {"frames": [1e400]}),
        ("shard", "[" * 100_000),
        ("shard", "[]"),
        ("failures.jsonl", '[]\n5\n{"key": [], "id": 1, "path": 2, "reason": 3}\n'),
    ],
)
def test_a_damaged_store_is_one_line_or_extracted_again(tmp_path, name, change):
    spec = EncoderSpec("family/model", "audio", dim=5, window=400, hop=160)
    store = FeatureStore(tmp_path, spec)
    store.write([("k", np.ones((2, 5), dtype=np.float32))])
    path = next(store.folder.glob("shard-*.json")) if name == "shard" else store.folder / name
    path.write_text(change if isinstance(change, str) else json.dumps({**json.loads(path.read_text()), **change}))
    if name == "spec.json":
        with pytest.raises(SerkitError, match=r"spec\.json"):
            FeatureStore.open(store.folder)
        return
    again = FeatureStore.open(store.folder)
    assert again.failures == {}
    assert again.missing(["k"]) == (["k"] if name == "shard" else [])


@pytest.mark.parametrize("change", [{"feature": [1]}, {"keys": ["a"]}, {"keys": {"a": [1]}}, {"store": 5}])
def test_damaged_features_of_a_run_are_one_line(tmp_path, change):
    (tmp_path / "recipe.yaml").write_text(json.dumps(RECIPE))
    made_manifest().save(tmp_path / "manifest.jsonl")
    row = {"feature": "logmel/80", "modality": "audio", "store": "s", "keys": {"a": "k"}, **change}
    (tmp_path / "features").mkdir()
    (tmp_path / "features" / "00.json").write_text(json.dumps(row))
    with pytest.raises(SerkitError, match=r"00\.json is damaged; delete it and run extract again"):
        _ = Run(tmp_path).features
