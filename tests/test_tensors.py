import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from serkit.errors import SerkitError
from serkit.tensors import Batch, length_mask, pad_sequences

LENGTHS = st.lists(st.integers(1, 9), min_size=1, max_size=6)


@given(LENGTHS)
@settings(max_examples=25, deadline=None)
def test_padding_keeps_every_frame_and_adds_zeros(lengths):
    clips = [torch.randn(n, 3) for n in lengths]
    padded, found = pad_sequences(clips)
    assert found.tolist() == lengths
    assert padded.shape == (len(lengths), max(lengths), 3)
    for clip, row in zip(clips, padded, strict=True):
        assert torch.equal(row[: len(clip)], clip)
        assert not row[len(clip) :].any()


def test_padding_widens_stored_half_precision():
    padded, _ = pad_sequences([torch.ones(2, 1, dtype=torch.float16)])
    assert padded.dtype == torch.float32


@pytest.mark.parametrize("clips", [[], [torch.zeros(0, 2)], [torch.zeros(2, 2), torch.zeros(2, 3)], [torch.zeros(2)]])
def test_what_cannot_be_padded_is_refused(clips):
    with pytest.raises(SerkitError):
        pad_sequences(clips)


def test_mask_marks_real_frames_of_the_named_modality():
    batch = Batch(("a", "b"), {"x": torch.zeros(2, 3, 1)}, {"x": torch.tensor([1, 3])}, torch.tensor([0, -1]))
    assert batch.mask("x").tolist() == [[True, False, False], [True, True, True]]
    assert length_mask(torch.tensor([0]), 2).tolist() == [[False, False]]
    assert len(batch.to("cpu")) == 2
