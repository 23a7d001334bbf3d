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
