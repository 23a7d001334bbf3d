import dataclasses
import datetime

import numpy as np
import pytest

from serkit.errors import SerkitError
from serkit.predictions import Predictions


def table(ids=("a", "b"), models=None, kind="logit", scores=None, seen=None):
    ids = tuple(ids)
    scores = np.arange(2.0 * len(ids)).reshape(-1, 2) if scores is None else np.array(scores, dtype=float)
    return Predictions(
        "net", ("x", "y"), kind, ids, models or ("m",) * len(ids), np.zeros(len(ids)) if seen is None else seen, scores
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ids": ("a", "a")}, "an utterance occurs twice for the same model"),
        ({"scores": [[1, np.nan], [0, 0]]}, "the scores of 'a' are not finite"),
        ({"scores": [[1, 2]]}, r"expected \(2, 2\)"),
        ({"kind": "prob", "scores": [[0.5, 0.5], [0.9, 0.3]]}, "probabilities of 'b' do not sum to 1"),
        ({"kind": "prob", "scores": [[0.5, 0.5], [1.2, -0.2]]}, "a probability of 'b' is -0.2, below 0"),
        ({"kind": "probs"}, "neither 'logit' nor 'prob'"),
    ],
)
def test_what_does_not_hold_is_refused(changes, message):
    with pytest.raises(SerkitError, match=message):
        table(**changes)


def test_it_comes_back_from_parquet_and_opens_without_serkit(tmp_path):
    made = table(models=("fold0", "fold1"), seen=[True, False])
    made.save(tmp_path / "net.dev.parquet")
    again = Predictions.load(tmp_path / "net.dev.parquet")
    assert (again.ids, again.models, again.labels, again.kind, again.system) == (
        ("a", "b"), ("fold0", "fold1"), ("x", "y"), "logit", "net",
    )  # fmt: skip
    assert again.seen.tolist() == [True, False]
    assert np.array_equal(again.scores, made.scores)
    import pyarrow.parquet as pq

    assert pq.read_table(tmp_path / "net.dev.parquet").column_names == ["id", "model", "seen", "x", "y"]
    assert [p.name for p in tmp_path.iterdir()] == ["net.dev.parquet"]


def test_what_is_not_a_table_is_said(tmp_path):
    with pytest.raises(SerkitError, match="no predictions at"):
        Predictions.load(tmp_path / "none.parquet")
    (tmp_path / "bad.parquet").write_text("not parquet")
    with pytest.raises(SerkitError, match="is not a table of predictions"):
        Predictions.load(tmp_path / "bad.parquet")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({b"kind": b"probability"}, "its kind is 'probability', expected logit or prob"),
        ({b"kind": None}, "is not a table of predictions: 'kind'"),
        ({b"system": None}, "is not a table of predictions: 'system'"),
        ("seen", "is not a table of predictions: .*seen"),
        ("id", "is not a table of predictions: .*id"),
        ({b"labels": b"null"}, "is not a table of predictions: 'NoneType'"),
        ({b"labels": b'["a", ["b"]]'}, "is not a table of predictions"),
        ({b"labels": b"[" * 100_000}, "is not a table of predictions: maximum recursion depth"),
        ({"a": ["x"]}, "is not a table of predictions: could not convert string to float: 'x'"),
        ({"a": [[1.0]]}, "is not a table of predictions"),
        ({"a": [{"x": 1.0}]}, "is not a table of predictions"),
        ({"a": [datetime.datetime(2024, 1, 1)]}, "is not a table of predictions"),
        ({"attribute:arousal": ["x"]}, "is not a table of predictions: could not convert string"),
        ({"seen": ["no idea"]}, "is not a table of predictions: .*no idea"),
        ({"a": [float("nan")]}, "the scores of 'u' are not finite"),
    ],
)
def test_a_table_that_lacks_something_is_refused_in_one_line(tmp_path, change, message):
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = Predictions("net", ("a", "b"), "prob", ("u",), ("m",), np.array([False]), np.array([[0.4, 0.6]]))
    path = tmp_path / "net.parquet"
    table.save(path)
    found = pq.read_table(path)
    if isinstance(change, str):
        found = found.drop_columns([change])
    elif isinstance(next(iter(change)), str):
        found = pa.table(
            {**dict(zip(found.column_names, found.columns, strict=True)), **change}, metadata=found.schema.metadata
        )
    else:
        meta = {**found.schema.metadata, **change}
        found = found.replace_schema_metadata({k: v for k, v in meta.items() if v is not None})
    pq.write_table(found, path)
    with pytest.raises(SerkitError, match=message):
        Predictions.load(path)


def test_a_folder_in_its_place_is_one_line(tmp_path):
    with pytest.raises(SerkitError, match="is not a table of predictions"):
        Predictions.load(tmp_path)


def test_pooled_is_the_mean_over_models_and_seen_by_any():
    made = table(("a", "b", "a"), ("m0", "m0", "m1"), scores=[[0, 2], [5, 5], [4, 4]], seen=[False, False, True])
    pooled = made.pooled()
    assert pooled.ids == ("a", "b")
    assert pooled.scores.tolist() == [[2, 3], [5, 5]]
    assert pooled.seen.tolist() == [True, False]
    assert dataclasses.replace(made, seen=[True, False, False]).pooled().seen.tolist() == [True, False], "by any model"
    assert set(pooled.models) == {"mean"}


def test_take_keeps_the_order_asked_for():
    made = table(("a", "b", "c"))
    assert made.take(["c", "a"]).ids == ("c", "a")
    with pytest.raises(SerkitError, match="1 of 2 utterances have no row, first 'z'"):
        made.take(["a", "z"])
    with pytest.raises(SerkitError, match="pool them first"):
        table(("a", "a"), ("m0", "m1")).take(["a"])


def test_probabilities_are_a_softmax_without_overflow():
    found = table(scores=[[1000, 0], [0, 0]]).probabilities()
    assert found.tolist() == [[1.0, 0.0], [0.5, 0.5]]


def test_attributes_of_an_ensemble_are_means_over_the_systems_that_know_them():
    known = ([[1.0, 2.0, np.nan], [3.0, np.nan, np.nan]], [[3.0, np.nan, np.nan], [5.0, 4.0, np.nan]])
    systems = [dataclasses.replace(table(), attributes=np.array(a)) for a in known]
    found = table().with_attributes_of([*systems, table()]).attributes
    np.testing.assert_array_equal(found, [[2.0, 2.0, np.nan], [4.0, 4.0, np.nan]])


def test_among_other_labels_what_is_left_sums_to_one():
    whole = Predictions("net", ("x", "y", "z"), "prob", ("a",), ("m",), np.zeros(1), np.array([[0.2, 0.2, 0.6]]))
    np.testing.assert_allclose(whole.among(("z", "new", "y")).scores, [[0.75, 0.0, 0.25]])
