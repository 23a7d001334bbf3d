"""The classifier that several networks share."""

import pytest
import torch
from torch import nn

from serkit.errors import SerkitError
from serkit.models._emotion_head import EmotionHead, SwiGlu, hidden_layer


def test_head_without_neutral_gives_none():
    head = EmotionHead(4, 3, 5, 0.0, neutral_head=False)
    x = torch.randn(2, 4)
    emotion, neutral, hidden = head(x)
    assert torch.equal(emotion, head.emotion(head.norm(x)))
    assert torch.equal(hidden, head.emotion[0](head.norm(x)))
    assert neutral is None
    assert isinstance(EmotionHead(4, 3, 5, 0.0, True).neutral, nn.Sequential)


def test_swiglu_is_the_gate_of_shazeer():
    """Against eq. 5 of arXiv 2002.05202, written out."""
    torch.manual_seed(0)
    layer, x = SwiGlu(4, 3), torch.randn(2, 4)
    gate, value = (x @ part.weight.t() + part.bias for part in (layer.gate, layer.value))
    torch.testing.assert_close(layer(x), gate / (1 + torch.exp(-gate)) * value)
    assert hidden_layer(4, 3, 5, 0.5, "swiglu")(x).shape == (2, 5)


def test_both_heads_are_gated_and_a_wrong_word_is_named():
    head = EmotionHead(4, 3, 5, 0.0, True, "swiglu")
    assert all(isinstance(part[0], SwiGlu) for part in (head.emotion, head.neutral))
    with pytest.raises(SerkitError, match="no activation 'swiglue'; did you mean 'swiglu'"):
        hidden_layer(4, 3, 5, 0.0, "swiglue")
