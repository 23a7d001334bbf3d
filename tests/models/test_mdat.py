"""The network of the UFG team: against its steps written out for one clip, and what its masks are for."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from serkit.errors import SerkitError
from serkit.models.mdat import Mdat
from serkit.tensors import Batch, pad_sequences

DIMS = {"speech": 5, "text": 3, "f0": 6}
LENGTHS = [(7, 2, 4), (4, 5, 9), (1, 1, 1), (6, 3, 2)]


def clips(seed=0):
    g = torch.Generator().manual_seed(seed)
    rows = []
    for a, b, c in LENGTHS:
        shares = torch.eye(6)[torch.randint(0, 6, (c,), generator=g)]
        rows.append({"speech": torch.randn(a, 5, generator=g), "text": torch.randn(b, 3, generator=g), "f0": shares})
    return rows


def batch_of(items, extra=0, names=tuple(DIMS)):
    features, lengths = {}, {}
    for name in names:
        padded, lengths[name] = pad_sequences([item[name] for item in items])
        features[name] = F.pad(padded, (0, 0, 0, extra))
    return Batch(tuple(map(str, range(len(items)))), features, lengths, torch.zeros(len(items), dtype=torch.int64))


def made(**options):
    torch.manual_seed(0)
    options = {"hidden": 8, "heads": 2, "feed_forward": 16, "head_hidden": 6, "embed": {"f0": 4}, **options}
    return Mdat(dims=DIMS, n_classes=4, **options).eval()


def torch_layer(layer, heads):
    """A layer of torch with the weights of one of ours."""
    other = nn.TransformerEncoderLayer(8, heads, 16, dropout=0.0, batch_first=True).eval()
    other.self_attn.load_state_dict(layer.attention.inner.state_dict())
    pairs = ((other.linear1, layer.inner[0]), (other.linear2, layer.inner[3]))
    for theirs, ours in (*pairs, (other.norm1, layer.norm_attention), (other.norm2, layer.norm_inner)):
        theirs.load_state_dict(ours.state_dict())
    return other


def attended(layer, frames):
    """Graph attention over every pair of frames, laid out as the equations have it."""
    nodes = layer.transform(frames)
    rows = []
    for i in range(len(nodes)):
        scores = [F.leaky_relu(layer.score(torch.cat([nodes[i], nodes[j]])), 0.2) for j in range(len(nodes))]
        rows.append(torch.cat(scores).softmax(0) @ nodes)
    return torch.stack(rows)


def one_clip(network, clip):
    """Logits of a clip alone, step by step as the released code does them."""
    index = clip["f0"].argmax(1)
    vectors = F.embedding(index, network.embed.table("f0").weight.t())
    a, t, f0 = (project(x) for project, x in zip(network.project, (clip["speech"], clip["text"], vectors), strict=True))
    a, t = attended(network.graph[0], a), attended(network.graph[1], t)
    affinity = network.affinity[0](a) @ network.affinity[1](t).t()
    states = (a + affinity.softmax(1) @ t, t + affinity.t().softmax(1) @ a)
    pooled = []
    for k, x in enumerate(states):
        x = torch_layer(network.transformer[k], 2)(x[None])[0]
        pooled.append((network.weigh[k](x).softmax(0) * x).sum(0))
    return network.emotion(torch.cat([*pooled, f0.mean(0)]))


@pytest.mark.parametrize("activation", ["relu", "swiglu"])
def test_agrees_with_its_steps_written_out_clip_by_clip_whatever_is_padded(activation):
    """Regression: the released code has no masks, so what it learns from depends on the longest clip of a batch."""
    network = made(activation=activation)
    with torch.no_grad():
        outputs = network(batch_of(clips(), extra=3))
        for row, clip in enumerate(clips()):
            torch.testing.assert_close(outputs.emotion[row], one_clip(network, clip), atol=1e-5, rtol=1e-5)
    assert outputs.embedding.shape == (4, 24)


def test_two_modalities_fuse_and_one_is_refused():
    network = Mdat(dims={"speech": 5, "text": 3}, n_classes=4, hidden=8, heads=1).eval()
    assert network(batch_of(clips(), names=("speech", "text"))).emotion.shape == (4, 4)
    with pytest.raises(SerkitError, match="fuses the first two of the features, and got 1"):
        Mdat(dims={"speech": 5}, n_classes=4)
    with pytest.raises(SerkitError, match="embed 'f1' is not a modality of this network; known: f0, speech, text"):
        made(embed={"f1": 3})


def test_every_published_width_is_the_default():
    network = Mdat(dims={"whisper": 1280, "roberta": 1024, "f0_bins": 256}, n_classes=8, embed={"f0_bins": 512})
    assert network.embedding_dim == 1536
    # projections, embedding, graph attention, co-attention, two transformer layers, pooling, classifier
    project = 1281 * 512 + 1025 * 512 + 513 * 512
    layer = 4 * 512 * 513 + 512 * 2049 + 2048 * 513 - 512 + 512 + 4 * 512
    fusion = 2 * (512 * 512 + 1024) + 2 * 512 * 512 + 2 * layer + 2 * 512 * 513
    assert sum(p.numel() for p in network.parameters()) == project + 256 * 512 + fusion + 1537 * 768 + 769 * 8
