"""FACodec: names and shapes of the published files, values of the published classes, parts against numpy."""

from __future__ import annotations

import json
import os
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pretrained_checks import check_padding_changes_nothing, clips, worst

from serkit.encoders.facodec import Facodec
from serkit.encoding import n_frames
from serkit.errors import SerkitError
from serkit.foundation.tiny import tiny_folder

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

DATA = Path(os.environ.get("SERKIT_DATA", Path(__file__).parents[3] / "shared" / "data"))
GOLDEN = Path(__file__).with_name("facodec_v2_names.json")

# Of the published reference classes (Amphion, FACodecEncoderV2 and FACodecDecoderV2) with the weights of
# `filled` and the clip of `chirp`: frame, feature, value of prosody ⊕ timbre frames.
# fmt: off
REFERENCE: tuple[tuple[int, int, float], ...] = (
    (0, 0, 2.14988), (0, 1, -2.213153), (0, 128, -0.121078), (0, 255, 1.915399),
    (0, 256, -0.887105), (0, 300, -1.010183), (0, 511, 1.661796), (17, 0, 2.197926),
    (17, 1, -2.303404), (17, 128, -0.304292), (17, 255, 1.78857), (17, 256, -0.895991),
    (17, 300, -1.04275), (17, 511, 1.661045), (40, 0, 2.185556), (40, 1, -2.2777),
    (40, 128, -0.246681), (40, 255, 1.831101), (40, 256, -0.886304), (40, 300, -1.03345),
    (40, 511, 1.67065), (61, 0, 2.184922), (61, 1, -2.276451), (61, 128, -0.244016),
    (61, 255, 1.833009), (61, 256, -0.884031), (61, 300, -0.987995), (61, 511, 1.662509),
)
# fmt: on


def filled(own: dict[str, Any]) -> dict[str, Any]:
    """Weights that are the same everywhere: sines of the position, phase by name, scaled by kind."""
    made = {}
    for name, old in own.items():
        if name.endswith(("filter", "pe", "mel_basis", "hann_window")):
            made[name] = old
            continue
        wave = np.sin(0.37 * np.arange(old.numel()) + zlib.crc32(name.encode()) % 1000).reshape(tuple(old.shape))
        if name.endswith(("weight_g", "ln_1.weight", "ln_2.weight", "last_ln.weight")):
            wave = 1.0 + 0.2 * wave
        elif old.dim() == 1:
            wave = 0.1 * wave
        elif not name.endswith(("weight_v", "_codebook.weight")):
            wave = 1.5 * wave / np.sqrt(np.prod(old.shape[1:]))
        made[name] = torch.from_numpy(wave.astype(np.float32))
    return made


def chirp(n: int = 12_345) -> np.ndarray:
    t = np.arange(n) / 16_000
    return (0.3 * np.sin(2 * np.pi * (150 * t + 900 * t**2)) * (1 + 0.5 * np.sin(40 * t))).astype(np.float32)


def mel_basis() -> Any:
    from transformers.audio_utils import mel_filter_bank

    bands = mel_filter_bank(513, 80, 0.0, 8000.0, 16_000, norm="slaney", mel_scale="slaney")
    return torch.from_numpy(bands.T.astype(np.float32))


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with both files in full size, every published name in them, deterministic weights."""
    from serkit.foundation.facodec_model import FacodecDecoder, FacodecEncoder

    folder = tmp_path_factory.mktemp("facodec")
    golden = json.loads(GOLDEN.read_text())
    for part, key, stem in ((FacodecEncoder(), "encoder_v2", "encoder"), (FacodecDecoder(), "decoder_v2", "decoder")):
        tensors = filled(part.state_dict())
        if stem == "encoder":
            tensors["mel_transform.mel_basis"] = mel_basis()
        for name in golden[key]:
            tensors.setdefault(name, torch.zeros(1))  # ignored by prefix; its shape is not looked at
        torch.save(tensors, folder / f"ns3_facodec_{stem}_v2.bin")
    return folder


def test_needed_and_ignored_names_are_the_published_ones_exactly() -> None:
    from serkit.foundation.facodec_model import IGNORED, FacodecDecoder, FacodecEncoder

    golden = json.loads(GOLDEN.read_text())
    with torch.device("meta"):
        parts = {"encoder_v2": FacodecEncoder(), "decoder_v2": FacodecDecoder()}
    for key, part in parts.items():
        own = {name: list(tensor.shape) for name, tensor in part.state_dict().items()}
        ignored = {name for name in golden[key] if name.startswith(IGNORED)}
        assert set(own) | ignored == set(golden[key])
        assert not set(own) & ignored
        assert own == {name: golden[key][name] for name in own}
    assert all(any(n.startswith(p) for n in golden["decoder_v2"]) for p in IGNORED), "a prefix that ignores nothing"
    assert not any(n.startswith(IGNORED) for n in golden["encoder_v2"])


def test_the_names_kept_here_are_those_handed_over() -> None:
    original = DATA.parent / "golden" / "facodec_v2_state_dict.json"
    if not original.is_file():
        pytest.skip(f"no {original}")
    given = json.loads(original.read_text())
    assert json.loads(GOLDEN.read_text()) == {k: given[k] for k in ("encoder_v2", "decoder_v2")}


def test_values_of_the_published_classes(published: Path) -> None:
    frames = Facodec("facodec/prosody_speaker", source=published, speaker="frames")([chirp()])[0]
    assert frames.shape == (62, 512)
    for frame, feature, value in REFERENCE:
        assert frames[frame, feature] == pytest.approx(value, abs=2e-4), (frame, feature)
    mean = Facodec("facodec/prosody_speaker", source=published)([chirp()])[0]
    np.testing.assert_array_equal(mean[:, :256], frames[:, :256])
    np.testing.assert_allclose(mean[:, 256:], np.tile(frames[:, 256:].mean(axis=0), (62, 1)), atol=1e-6)
    np.testing.assert_array_equal(Facodec(f"path:{published}")([chirp()])[0], mean)
    prosody = Facodec("facodec/prosody", source=published)
    np.testing.assert_array_equal(prosody([chirp()])[0], frames[:, :256])
    assert (prosody.spec.dim, prosody.spec.rate_hz) == (256, 80.0)


def test_weights_are_strict(tmp_path: Path) -> None:
    tiny_folder("facodec", tmp_path)
    tensors = torch.load(tmp_path / "ns3_facodec_decoder_v2.bin", weights_only=True)
    Facodec("facodec/prosody", source=tmp_path).load()
    torch.save({**tensors, "strange": torch.zeros(1)}, tmp_path / "ns3_facodec_decoder_v2.bin")
    with pytest.raises(SerkitError, match="unexpected weight 'strange'"):
        Facodec("facodec/prosody", source=tmp_path).load()
    tensors.pop("timbre_linear.bias")
    torch.save(tensors, tmp_path / "ns3_facodec_decoder_v2.bin")
    with pytest.raises(SerkitError, match=r"lacks weight 'timbre_linear\.bias'"):
        Facodec("facodec/prosody", source=tmp_path).load()
    (tmp_path / "ns3_facodec_decoder_v2.bin").unlink()
    with pytest.raises(SerkitError, match=r"no ns3_facodec_decoder_v2\.bin"):
        Facodec("facodec/prosody", source=tmp_path).load()


@pytest.mark.parametrize("speaker", ["mean", "frames"])
def test_padding_changes_nothing(speaker: Any) -> None:
    check_padding_changes_nothing(Facodec("facodec/random", speaker=speaker), clips((960, 16_000, 35_000, 199, 200, 1)))


def test_frames_and_long_clips() -> None:
    encoder = Facodec("facodec/random", chunk_s=4.0, context_s=1.0)
    for n in (1, 199, 200, 201, 960, 40_000):
        assert len(encoder(clips((n,)))[0]) == n_frames(n, encoder.spec) == 1 + n // 200
    long = np.tile(clips((16_000,))[0], 25)
    prosody = Facodec("facodec/prosody", source=tiny_folder("facodec"), chunk_s=10.0, context_s=1.0)
    assert prosody([long])[0].shape == (2_001, 16)
    whole = Facodec("facodec/random", speaker="frames")
    cut = Facodec("facodec/random", speaker="frames", chunk_s=4.0, context_s=1.9)
    assert whole.spec.fingerprint != cut.spec.fingerprint
    assert len(whole([long[:100_000]])[0]) == len(cut([long[:100_000]])[0]) == 501
    with pytest.raises(SerkitError, match="speaker 'men'"):
        Facodec("facodec/random", speaker="men")  # type: ignore[arg-type]


def test_the_resampling_filter_and_activation_against_numpy() -> None:
    """Upsampled by stuffing zeros and filtering, activated, filtered, decimated: with numpy convolutions."""
    from scipy.signal import firwin

    from serkit.foundation.facodec_model import SmoothSnake, kaiser_sinc

    taps = kaiser_sinc().flatten().double().numpy()
    beta = 0.1102 * (2.285 * 5 * np.pi * 1.2 + 7.95 - 8.7)  # Kaiser, above 50 dB
    np.testing.assert_allclose(taps, firwin(12, 0.5, window=("kaiser", beta)), atol=1e-6)

    torch.manual_seed(3)
    layer = SmoothSnake(2)
    torch.nn.init.normal_(layer.act.alpha, std=0.3)
    torch.nn.init.normal_(layer.act.beta, std=0.3)
    x = torch.randn(1, 2, 30)
    got = layer(x, None)[0].detach().numpy()
    for channel in range(2):
        row = np.pad(x[0, channel].double().numpy(), 20, mode="edge")
        stuffed = np.zeros(2 * len(row))
        stuffed[::2] = row
        wide = 2 * np.convolve(stuffed, taps)[5 : 5 + 2 * len(row)][40:-40]
        a, b = np.exp([layer.act.alpha[channel].item(), layer.act.beta[channel].item()])
        wide = wide + np.sin(a * wide) ** 2 / (b + 1e-9)
        edged = np.pad(wide, (5, 6), mode="edge")
        expected = np.correlate(edged, taps, mode="valid")[::2]
        np.testing.assert_allclose(got[channel], expected, atol=1e-5)


def test_mel_and_codebook_against_numpy() -> None:
    from serkit.foundation.facodec_model import Codebook, FacodecEncoder

    samples = clips((2_000,))[0]
    mel = FacodecEncoder(2, 4).mel_transform
    mel.mel_basis.copy_(mel_basis())
    mirrored = np.pad(samples.astype(np.float64), 412, mode="reflect")
    got = mel(torch.from_numpy(mirrored.astype(np.float32))[None])[0].numpy()
    window = np.zeros(1024)
    window[112:912] = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(800) / 800)
    for k in range(10):
        spectrum = np.abs(np.fft.rfft(mirrored[200 * k : 200 * k + 1024] * window))
        bands = mel_basis().numpy() @ np.sqrt(spectrum**2 + 1e-9)
        np.testing.assert_allclose(got[:, k], np.log(np.maximum(bands, 1e-5)), atol=2e-4)

    torch.manual_seed(1)
    book = Codebook(6, inner=3, entries=16)
    x = torch.randn(1, 9, 6)
    table = book._codebook.weight.detach().numpy()

    def matrix(layer: Any) -> np.ndarray:
        v, g = layer.weight_v.detach().numpy(), layer.weight_g.detach().numpy()
        return np.asarray(g * v / np.linalg.norm(v, axis=1, keepdims=True))

    for row, out in zip(x[0].numpy(), book(x)[0].detach().numpy(), strict=True):
        inner = matrix(book.in_proj) @ row + book.in_proj.bias.detach().numpy()
        cosine = table @ inner / np.linalg.norm(table, axis=1) / np.linalg.norm(inner)
        expected = matrix(book.out_proj) @ table[cosine.argmax()] + book.out_proj.bias.detach().numpy()
        np.testing.assert_allclose(out, expected, atol=1e-5)


def test_attention_and_weight_norm_against_torch() -> None:
    from serkit.foundation.facodec_model import FrameTransformer, NormedConv

    torch.manual_seed(2)
    stack = FrameTransformer(8, heads=4, inner=12, layers=1).eval()
    layer, x = stack.layers[0], torch.randn(2, 7, 8)
    other = torch.nn.MultiheadAttention(8, 4, batch_first=True).eval()
    other.load_state_dict(layer.self_attn.state_dict())
    expected, _ = other(x, x, x)
    np.testing.assert_allclose(layer.self_attn(x, None).detach(), expected.detach(), atol=1e-6)
    np.testing.assert_allclose(stack(x, None)[1].detach(), stack(x[1:], None)[0].detach(), atol=1e-6)

    conv = NormedConv(3, 5, 7, stride=2, dilation=1, padding=3)
    twin = torch.nn.utils.parametrizations.weight_norm(torch.nn.Conv1d(3, 5, 7, stride=2, padding=3))
    with torch.no_grad():
        conv.weight_g.uniform_(0.5, 2.0)
        twin.parametrizations.weight.original0.copy_(conv.weight_g)
        twin.parametrizations.weight.original1.copy_(conv.weight_v)
        twin.bias.copy_(conv.bias)
    y = torch.randn(2, 3, 21)
    assert worst([conv(y, None).detach().numpy()], [twin(y).detach().numpy()]) < 1e-6
