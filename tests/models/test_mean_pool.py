import pytest
import torch

from serkit.errors import SerkitError
from serkit.models.mean_pool import MeanPool
from serkit.tensors import Batch

BATCH = Batch(
    ("a", "b"),
    {"x": torch.randn(2, 4, 3), "y": torch.randn(2, 2, 2)},
    {"x": torch.tensor([4, 1]), "y": torch.tensor([2, 2])},
    torch.tensor([0, 1]),
)


def test_embedding_is_the_masked_means_side_by_side():
    network = MeanPool(dims={"x": 3, "y": 2}, n_classes=4, hidden=6)
    out = network(BATCH)
    expected = torch.cat([BATCH.features["x"][1, 0], BATCH.features["y"][1].mean(0)])
    torch.testing.assert_close(out.embedding[1], expected)
    assert out.emotion.shape == (2, 4)
    assert network.embedding_dim == 5


def test_statistics_double_the_embedding():
    assert MeanPool(dims={"x": 3}, n_classes=4, pooling="statistics")(BATCH).embedding.shape == (2, 6)


def test_missing_modality_is_named():
    with pytest.raises(SerkitError, match="without features of 'z'"):
        MeanPool(dims={"z": 3}, n_classes=4)(BATCH)


def test_values_beyond_the_limit_are_cut_before_pooling():
    network = MeanPool(dims={"x": 3}, n_classes=4, limit=0.1)
    expected = BATCH.features["x"][0].clamp(-0.1, 0.1).mean(0)
    torch.testing.assert_close(network.eval()(BATCH).embedding[0], expected)
    with pytest.raises(SerkitError, match="limit"):
        MeanPool(dims={"x": 3}, n_classes=4, limit=0.0)


def test_projections_are_of_the_pooled_vectors_and_come_before_concatenation():
    torch.manual_seed(0)
    network = MeanPool(dims={"x": 3, "y": 2}, n_classes=4, hidden=6, project=5).eval()
    out = network(BATCH)
    vectors = [BATCH.features["x"][1, 0], BATCH.features["y"][1].mean(0)]
    expected = [part[0](v).relu() for part, v in zip(network.project, vectors, strict=True)]
    torch.testing.assert_close(out.embedding[1], torch.cat(expected))
    assert network.embedding_dim == out.embedding.shape[1] == 10


def test_shares_of_bins_become_the_mean_of_learned_vectors_without_padding():
    """Regression: in the code of UFG the vector of the padding is averaged in like any other."""
    torch.manual_seed(0)
    options = {"normalize": "train", "limit": 0.1, "embed": {"y": 7}}
    network = MeanPool(dims={"x": 3, "y": 4}, n_classes=4, hidden=6, **options).eval()
    for name, dim in network.dims.items():
        network.set_statistics(name, torch.full((dim,), 0.3), torch.full((dim,), 0.2))
    bins = torch.tensor([[2, 2, 1], [3, 0, 0]])
    lengths = {"x": torch.tensor([2, 2]), "y": torch.tensor([3, 1])}
    shares = torch.eye(4)[bins] * (torch.arange(3)[None, :] < lengths["y"][:, None])[:, :, None]
    out = network(Batch(("a", "b"), {"x": torch.zeros(2, 2, 3), "y": shares}, lengths, torch.tensor([0, 1])))
    vectors = torch.nn.functional.embedding(bins, network.embed.table("y").weight.t())
    torch.testing.assert_close(out.embedding[0, 3:], vectors[0].mean(0))
    torch.testing.assert_close(out.embedding[1, 3:], vectors[1, 0])
    assert 0.5 < float(network.embed.table("y").weight.detach().std()) < 1.5, "it starts as nn.Embedding does"
    with pytest.raises(SerkitError, match="embed 'z' is not a modality"):
        MeanPool(dims={"x": 3}, n_classes=4, embed={"z": 2})
