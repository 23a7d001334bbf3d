import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serkit.errors import SerkitError
from serkit.sampling import Examples, Loader, bucket_batches, draw_epoch
from serkit.types import Manifest, Utterance


class Source:
    def __init__(self, lengths, dim=3):
        self.lengths, self.dim = lengths, dim

    def get(self, utterance_id):
        n = self.lengths[utterance_id]
        return np.full((n, self.dim), int(utterance_id[1:]), dtype=np.float16)

    def frames(self, utterance_id):
        return self.lengths[utterance_id]


def corpus(n=200, neutral=0.2, seed=0):
    rng = np.random.default_rng(seed)
    labels = ("anger", "neutral", "sadness")
    rows, lengths = [], {}
    for k in range(n):
        emotion = "neutral" if rng.random() < neutral else ("anger", "sadness")[k % 2]
        rows.append(Utterance(f"u{k}", "x.wav", emotion=emotion, speaker=f"s{k % 7}", split="train"))
        lengths[f"u{k}"] = int(rng.integers(5, 20)) + (30 if emotion == "neutral" else 0)  # neutral is longer
    return Manifest("c", labels, tuple(rows)), Source(lengths)


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 300), st.integers(1, 4), st.sampled_from(["replacement", "passes"]), st.integers(0, 99))
def test_draw_is_as_long_as_the_corpus_and_even(n, n_groups, draw, seed):
    groups = np.arange(n) % min(n_groups, n)
    groups[: n // 2] = 0
    rows = draw_epoch(groups, np.random.default_rng(seed), draw)
    assert len(rows) == n
    counts = np.bincount(np.unique(groups, return_inverse=True)[1][rows])
    assert counts.max() - counts.min() <= 1
    if len(np.unique(groups)) == 1:
        assert sorted(rows) == list(range(n))


def test_passes_repeat_no_row_before_its_group_is_through():
    groups = np.array([0] * 10 + [1] * 30)
    rows = draw_epoch(groups, np.random.default_rng(0), "passes")
    expressive = rows[groups[rows] == 1]
    assert len(set(expressive.tolist())) == len(expressive) == 20
    later = [draw_epoch(groups, np.random.default_rng(seed), "passes") for seed in range(1, 20)]
    assert set(np.concatenate([rows, *later]).tolist()) == set(range(40)), "over the epochs every row has its turn"


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 400), st.integers(1, 33), st.integers(0, 99))
def test_buckets_keep_every_draw_once(n, batch_size, seed):
    rng = np.random.default_rng(seed)
    lengths, groups = rng.integers(1, 90, n), rng.integers(0, 3, n)
    rows = rng.integers(0, n, n)
    batches = bucket_batches(rows, lengths, groups, batch_size, rng)
    assert sorted(np.concatenate(batches)) == sorted(rows)
    assert max(len(b) for b in batches) <= batch_size


def test_buckets_save_padding_and_keep_the_balance():
    manifest, source = corpus(2000)
    examples = Examples.of(manifest, {"x": source})
    groups = examples.groups("neutral")

    def padding(loader):
        cells = sum(len(b) * examples.lengths[b].max() for b in loader.batch_rows(1))
        return cells / sum(examples.lengths[b].sum() for b in loader.batch_rows(1))

    bucketed = Loader(examples, 32, balance="neutral")
    plain = Loader(examples, 32, balance="neutral", bucket=False)
    assert padding(bucketed) < 0.95 * padding(plain)
    # neutral clips are all longer than the others: a plain length sort would give batches of one kind
    share = np.array([groups[b].mean() for e in range(5) for b in bucketed.batch_rows(e) if len(b) == 32])
    assert abs(share.mean() - 0.5) < 0.01
    assert share.std() < 0.05


def test_batches_of_similar_length_come_in_no_order_of_length():
    lengths, groups = np.arange(400), np.zeros(400, dtype=np.int64)
    batches = bucket_batches(np.arange(400), lengths, groups, 8, np.random.default_rng(0))
    means = [lengths[b].mean() for b in batches]
    assert abs(np.corrcoef(means, np.arange(len(means)))[0, 1]) < 0.5


def test_neutral_share_in_expectation_matches_the_published_sampler():
    manifest, source = corpus(999, neutral=0.4)
    examples = Examples.of(manifest, {"x": source})
    groups = examples.groups("neutral")
    seen = np.concatenate([np.concatenate(Loader(examples, 64, balance="neutral").batch_rows(e)) for e in range(20)])
    assert abs(groups[seen].mean() - 0.5) < 0.005
    per_row = np.bincount(seen, minlength=len(examples))
    assert abs(per_row[groups == 1].mean() / per_row[groups == 0].mean() - (groups == 0).sum() / groups.sum()) < 0.05


@pytest.mark.parametrize("balance", [None, "neutral"])
@pytest.mark.parametrize("bucket", [True, False])
@pytest.mark.parametrize("draw", ["replacement", "passes"])
def test_a_loader_knows_its_length_without_drawing(balance, bucket, draw):
    manifest, source = corpus(333)
    examples = Examples.of(manifest, {"x": source})
    for size in (1, 2, 16, 333, 400):
        loader = Loader(examples, size, balance=balance, bucket=bucket, draw=draw)
        assert len(loader) == len(loader.batch_rows(0)) == len(loader.batch_rows(1))


def test_an_epoch_depends_on_seed_and_number_alone():
    manifest, source = corpus()
    examples = Examples.of(manifest, {"x": source})
    first = [b.ids for b in Loader(examples, 16, seed=3).epoch(2)]
    assert first == [b.ids for b in Loader(examples, 16, seed=3).epoch(2)]
    assert first != [b.ids for b in Loader(examples, 16, seed=3).epoch(3)]
    assert first != [b.ids for b in Loader(examples, 16, seed=4).epoch(2)]


def test_batches_hold_the_right_frames_and_zeros_behind():
    manifest, source = corpus(50)
    for batch in Loader(Examples.of(manifest, {"x": source}), 8).epoch(0):
        for row, name in enumerate(batch.ids):
            n = int(batch.lengths["x"][row])
            assert n == source.lengths[name]
            assert (batch.features["x"][row, :n] == int(name[1:])).all()
            assert (batch.features["x"][row, n:] == 0).all()


def test_ranks_share_a_batch_without_overlap():
    manifest, source = corpus(65)
    loader = Loader(Examples.of(manifest, {"x": source}), 16)
    whole = [set(b.ids) for b in loader.epoch(0)]
    parts = [[set(b.ids) for b in loader.epoch(0, rank=r, world=2)] for r in range(2)]
    assert [a | b for a, b in zip(*parts, strict=True)] == whole
    single = [len(b) == 1 for b in whole]  # of which no rank may have nothing
    assert sum(single) == 1
    assert [a == b for a, b in zip(*parts, strict=True)] == single
    assert all(one or not (a & b) for a, b, one in zip(*parts, single, strict=True))


def test_class_balance_and_corpus_masks():
    manifest, source = corpus()
    joined = Manifest("c", manifest.labels, manifest.utterances, class_sets={"c": ("anger", "neutral")})
    examples = Examples.of(joined, {"x": source})
    assert examples.class_mask is not None
    assert examples.class_mask[0].tolist() == [True, True, False]
    rows = np.concatenate(Loader(examples, 16, balance="class").batch_rows(0))
    counts = np.bincount(examples.labels[rows], minlength=3)
    assert counts.max() - counts.min() <= 1


def test_votes_keep_clips_without_agreement():
    rows = (
        Utterance("a", "x", votes={"anger": 1, "neutral": 1}, split="train"),
        Utterance("b", "x", emotion="anger", split="train"),
        Utterance("c", "x", split="train"),
    )
    manifest = Manifest("c", ("anger", "neutral"), rows)
    source = Source({"a": 1, "b": 2, "c": 3})
    assert Examples.of(manifest, {"x": source}).ids == ("b",)
    soft = Examples.of(manifest, {"x": source}, targets="votes")
    assert soft.ids == ("a", "b")
    assert soft.targets is not None
    assert soft.targets.tolist() == [[0.5, 0.5], [1.0, 0.0]]
    assert Examples.of(manifest, {"x": source}, targets="all").ids == ("a", "b", "c")


def test_a_balance_that_cannot_be_is_refused():
    manifest = Manifest("c", ("anger",), (Utterance("u1", "x", emotion="anger"),))
    examples = Examples.of(manifest, {"x": Source({"u1": 3})})
    with pytest.raises(SerkitError, match="needs the label 'neutral'"):
        examples.groups("neutral")
    with pytest.raises(SerkitError, match="only one group"):
        examples.groups("class")
