"""What is noted of a recording: channels that cancel, a missing end, a wrong width; and of whole ones nothing."""

from __future__ import annotations

import io
import json
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

import serkit
from serkit import audio
from serkit.errors import SerkitError
from serkit.remarks import Damage, Remarks, broken_off
from serkit.serving.predictor import Model
from serkit.serving.stream import TWO_VOICES
from serkit.serving.timeline import Turn
from serving.signals import quiet, voice

GOLDEN = Path(__file__).parent / "serving" / "golden" / "tiny.zip"
RATE = 16_000
CANCEL = "the channels cancel each other"
LOSSY = [("MP3", "MPEG_LAYER_III"), ("OGG", "VORBIS"), ("OGG", "OPUS")]


@pytest.fixture(scope="module")
def model() -> Model:
    return serkit.load(GOLDEN)


def chirp(seconds: float = 4.0, rate: int = RATE) -> np.ndarray:
    time = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(0).normal(0, 0.05, len(time))
    return 0.5 * np.sin(2 * np.pi * (200 + 100 * time) * time) + noise


def encoded(samples: np.ndarray, kind: str = "WAV", subtype: str = "PCM_16", rate: int = RATE) -> bytes:
    handle = io.BytesIO()
    soundfile.write(handle, samples, rate, format=kind, subtype=subtype)
    return handle.getvalue()


def notes(content: bytes) -> tuple[str, ...]:
    remarks = Remarks()
    assert sum(map(len, audio.blocks(content, remarks=remarks))) > 0
    return remarks.notes


def test_a_note_of_damage_is_one_by_its_kind_and_stays_one_in_another_process() -> None:
    """By its words it was one wherever a note had the word "damaged" or "truncated"."""
    cut = encoded(chirp(), "OGG", "VORBIS")
    [damage] = notes(cut[: len(cut) * 2 // 3])
    [other] = notes(encoded(np.stack([chirp(), -chirp()], axis=1)))
    assert isinstance(pickle.loads(pickle.dumps(damage)), Damage)
    assert not isinstance(other, Damage)
    assert json.dumps([damage]) == json.dumps([str(damage)])


def xing(promised: int, frames: int, there: int, *, place: int = 36, fields: int = 3, tag: int = 0) -> io.BytesIO:
    """The begin of an MP3 with such a header; zeros to the given size."""
    frame = bytearray(b"\xff\xfb\x90\x64" + bytes(max(0, there - 4)))
    struct.pack_into(">4sIII", frame, place, b"Info", fields, frames, promised)
    head = b"ID3\x04\0\0" + bytes([tag >> 21 & 127, tag >> 14 & 127, tag >> 7 & 127, tag & 127]) if tag else b""
    return io.BytesIO(head + b"\xff" * tag + bytes(frame))


@pytest.mark.parametrize(("kind", "subtype"), LOSSY)
@pytest.mark.parametrize(("rate", "channels"), [(RATE, 1), (RATE, 2), (48_000, 2)])
def test_a_cut_file_says_so_and_a_whole_one_does_not(kind: str, subtype: str, rate: int, channels: int) -> None:
    content = encoded(np.repeat(chirp(rate=rate)[:, None], channels, axis=1), kind, subtype, rate)
    assert notes(content) == ()
    half = notes(content[: len(content) // 2])
    assert len(half) == 1
    assert "is truncated" in half[0]
    if kind == "MP3":
        assert half[0] == "the MP3 is truncated: 50% of what its header declares is present"


@pytest.mark.parametrize(("kind", "subtype"), [("WAV", "PCM_16"), ("FLAC", "PCM_16"), ("AIFF", "PCM_16")])
def test_other_formats_are_not_looked_into(kind: str, subtype: str) -> None:
    assert notes(encoded(chirp(), kind, subtype)) == ()


def test_the_header_of_an_mp3_is_found_where_it_lies() -> None:
    for place in (13, 21, 36):
        assert "40% of" in broken_off(xing(10_000, 100, 4_000, place=place))
    assert "40% of" in broken_off(xing(10_000, 100, 4_000, tag=70_000)), "behind a picture"
    assert broken_off(xing(10_000, 100, 10_000)) == ""
    assert broken_off(xing(10_000, 100, 9_750)) == "", "two frames: a matter of how they are counted"
    assert broken_off(xing(10_000, 100, 9_700)) != ""
    assert broken_off(xing(10_000, 100, 12_000)) == "", "another tag at the end"
    for promised, frames, fields in ((0, 100, 3), (10_000, 0, 3), (10_000, 100, 1), (10_000, 100, 0)):
        assert broken_off(xing(promised, frames, 4_000, fields=fields)) == ""
    for content in (b"", b"\xff", b"ID3", b"ID3\x04\0\0\x7f\x7f\x7f\x7f", b"OggS"[:3], b"\xff\xfb" + bytes(40)):
        assert broken_off(io.BytesIO(content)) == ""


def test_every_cut_within_a_page_of_an_ogg_is_told() -> None:
    content = encoded(chirp(), "OGG", "VORBIS")
    last = content.rfind(b"OggS")
    for n in (last + 4, last + 26, last + 40, len(content) - 1):
        assert "within a page" in broken_off(io.BytesIO(content[:n])), n
    assert broken_off(io.BytesIO(content)) == ""
    assert broken_off(io.BytesIO(content[:last])) == "", "between two pages nothing tells"


def framed(*, says_length: bool) -> bytes:
    """An MP3, with its Xing header or without."""
    content = encoded(chirp(), "MP3", "MPEG_LAYER_III")
    mark = next(mark for mark in (b"Xing", b"Info") if mark in content[:64])
    return content if says_length else content.replace(mark, bytes(4), 1)


@pytest.mark.parametrize("says_length", [True, False])
def test_what_a_decoder_leaves_out_of_a_whole_mp3_is_said(says_length: bool) -> None:
    """A decoder stops at what looks like a frame of another rate, and what it had was answered as if it were all."""
    content, other = framed(says_length=says_length), encoded(chirp(0.5, 44_100), "MP3", "MPEG_LAYER_III", 44_100)
    at = content.index(content[:2], len(content) // 2 if says_length else 300)  # a frame begins there
    assert notes(content) == ()
    (line,) = notes(content[:at] + other + content[at:])
    assert line.startswith("the recording is damaged: only ")
    assert line.endswith(" could be decoded, and only that was used")
    assert ("of 4.00 s" in line) == says_length


def test_what_is_damaged_within_an_ogg_is_said() -> None:
    content = encoded(chirp(), "OGG", "VORBIS")
    middle = len(content) // 2
    (line,) = notes(content[:middle] + bytes(9_000) + content[middle + 9_000 :])
    assert line.startswith("the recording is damaged: only ")


def test_a_file_is_left_where_it_was(tmp_path: Path) -> None:
    content = encoded(chirp(), "MP3", "MPEG_LAYER_III")[:3_000]
    path = tmp_path / "a.mp3"
    path.write_bytes(content)
    remarks = Remarks()
    with path.open("rb") as file:
        file.seek(17)
        remarks.look_at(file)
        assert file.tell() == 17
    assert "is truncated" in remarks.ending
    for source in (path, str(path), content):
        again = Remarks()
        again.look_at(source)
        assert again.ending == remarks.ending
    remarks.look_at(tmp_path / "absent.mp3")
    assert remarks.ending == ""


def test_channels_that_cancel_are_told_from_those_that_differ() -> None:
    one, other = chirp(), np.random.default_rng(1).normal(0, 0.2, 4 * RATE)
    quiet = np.zeros_like(one)
    for channels in ((one, -one), (one, -0.9 * one), (one + 0.1, -one + 0.1), (one, -one, quiet)):
        (line,) = notes(encoded(np.stack(channels, axis=1), subtype="FLOAT"))
        assert line.startswith(CANCEL)
    for channels in (
        (one, one), (one, quiet), (one, other), (one, -0.7 * one), (quiet, quiet), (0.2 + quiet, -0.2 + quiet),
        (one, *[quiet] * 7), (one,),
    ):  # fmt: skip
        assert notes(encoded(np.stack(channels, axis=1), subtype="FLOAT")) == (), len(channels)


def test_a_call_with_a_side_on_each_channel_is_told_from_other_stereo(model: Model) -> None:
    sides = [
        np.concatenate([voice(2.5, 1), quiet(3.5), voice(2.0, 3)]),
        np.concatenate([quiet(3.0), voice(2.5, 2, 190.0)]),
    ]
    n = max(map(len, sides))
    left, right = (np.pad(side, (0, n - len(side))) for side in sides)
    rng = np.random.default_rng(3)
    hall = 0.3 * np.convolve(left + right, rng.normal(0, 1, 4000) * np.exp(-np.arange(4000) / 800))[:n] / 10
    ordinary = {
        "the same": (left + right, left + right),
        "a little softer": (left + right, 0.5 * (left + right)),
        "late": (left + right, np.roll(left + right, 12)),
        "one is silent": (left + right, 0 * left),
        "one is noise": (left + right, quiet(n / RATE)[:n]),
        "two in a room": (left + 0.5 * right + hall, 0.5 * left + right + np.roll(hall, 50)),
        "music in the one": (left + right, 0.5 * np.sin(np.arange(n) * 0.1)),
        "a room and noise": (left + right + hall + quiet(n / RATE)[:n] * 9, left + right - hall),
        "a knock on the other": (left + right, np.where(np.arange(n) // 1600 == 20, 0.3 * rng.normal(0, 1, n), 0)),
    }
    for name, channels in ordinary.items():
        for rate in (RATE, 48_000):
            assert TWO_VOICES not in model.predict(np.stack(channels, axis=1), rate_hz=rate).notes, name
    leaking = (left + 0.1 * right + quiet(n / RATE)[:n], right + 0.1 * left)
    at_once = (np.roll(left, 2_000) + 0.9 * np.roll(left, -3 * RATE), left + right)
    for channels in ((left, right), (right, 0.3 * left), leaking, at_once, (at_once[0], 0.2 * at_once[1])):
        sound = np.stack(channels, axis=1)
        found = model.predict(encoded(sound))
        assert found.notes == (TWO_VOICES,)
        assert model.predict(sound, rate_hz=RATE).notes == (TWO_VOICES,)
        stream = model.stream()
        for start in range(0, n, 777):
            stream.push(sound[start : start + 777])
        stream.finish()
        assert stream.prediction.notes == (TWO_VOICES,)
        assert model.predict(encoded(sound), by="channel").notes == ()
    assert model.predict(0.0 * sound, rate_hz=RATE).notes == (), "no voice at all"
    assert model.predict(sound, rate_hz=RATE, turns=[Turn(0.0, 1.0, "Ann")]).notes == (), "who speaks is known"
    assert model.predict(np.stack([*channels, left], axis=1), rate_hz=RATE).notes == (), "three"


def test_integers_that_are_narrower_than_their_dtype_are_refused() -> None:
    narrow = np.round(chirp(1.0) * 32767).astype(np.int16)
    for dtype in (np.int64, np.uint64):
        with pytest.raises(SerkitError, match=r"int64: expected float in \[-1, 1\], int16, int32 or uint8"):
            audio.to_mono_16k(narrow.astype(dtype), RATE)
    for wide in (narrow.astype(np.int32), narrow.astype(np.uint16).astype(np.uint32)):
        with pytest.raises(SerkitError, match=f"{wide.dtype} that reaches .* look like 16-bit values"):
            audio.to_mono_16k(wide, RATE)
    wanted = audio.to_mono_16k(narrow, RATE)
    np.testing.assert_array_equal(audio.to_mono_16k(narrow.astype(np.int32) << 16, RATE), wanted)
    np.testing.assert_allclose(
        audio.to_mono_16k(((narrow.astype(np.int64) << 16) + 2**31).astype(np.uint32), RATE), wanted, atol=1e-6
    )
    assert not audio.to_mono_16k(np.zeros(RATE, np.int32), RATE).any()
    assert audio.to_mono_16k(np.array([1 << 16, 0, -5], np.int32), RATE)[0] == 2**-15
    assert len(audio.to_mono_16k(np.full(9, -(2**31), np.int32), RATE)) == 9


def test_notes_come_with_the_answer(model: Model, tmp_path: Path) -> None:
    stereo = np.stack([chirp(), -chirp()], axis=1)
    path = tmp_path / "a.wav"
    path.write_bytes(encoded(stereo))
    for found in (
        model.predict(path),
        model.predict(stereo, rate_hz=RATE),
        model.predict(encoded(stereo, rate=48_000)),
    ):
        assert found.no_speech
        (line,) = found.notes
        assert line.startswith(CANCEL)
    cut = encoded(chirp(), "OGG", "VORBIS")
    assert "is truncated" in model.predict(cut[: len(cut) // 2]).notes[0]
    assert model.predict(chirp(), rate_hz=RATE).notes == ()


def test_a_stream_of_wide_integers_is_judged_as_a_whole(model: Model) -> None:
    narrow = np.round(chirp(1.0) * 32767).astype(np.int32)
    stream = model.stream()
    stream.push(narrow[:8_000])
    stream.push(narrow[8_000:])
    with pytest.raises(SerkitError, match="look like 16-bit values"):
        stream.finish()
    fades_in = model.stream()
    fades_in.push(narrow >> 8)
    fades_in.push(narrow << 16)
    fades_in.finish()
    assert fades_in.prediction.duration_s == 2.0
    with pytest.raises(SerkitError, match="look like 16-bit values"):
        model.predict(narrow, rate_hz=RATE)
    with pytest.raises(SerkitError, match="array of dtype int64"):
        model.predict(narrow.astype(np.int64), rate_hz=RATE)


@pytest.mark.parametrize("version", [0, 1])
def test_an_mp4_in_fragments_is_truncated_by_its_index(version: int) -> None:
    def box(kind: bytes, content: bytes = b"") -> bytes:
        return struct.pack(">I4s", 8 + len(content), kind) + content

    times = struct.pack(">II" if version == 0 else ">QQ", 0, 0)
    listed = struct.pack(">III", 100, 0, 0) + struct.pack(">III", 50, 0, 0)
    index = box(b"sidx", bytes([version, 0, 0, 0]) + bytes(8) + times + struct.pack(">HH", 0, 2) + listed)
    fragments = box(b"moof", bytes(92)) + box(b"mdat", bytes(42))
    whole = box(b"ftyp", b"isom") + index + fragments
    assert broken_off(io.BytesIO(whole)) == ""
    said = f"the MP4 is truncated: {(len(whole) - 50) / len(whole):.0%} of what its index lists is present"
    assert broken_off(io.BytesIO(whole[:-50])) == said
    for odd in (
        struct.pack(">I4sQ", 1, b"free", 1 << 63), box(b"sidx"), box(b"sidx", bytes(30)),
        struct.pack(">I4s", 3, b"free"), struct.pack(">I4s", 0, b"mdat") + bytes(9), box(b"free") * 200_000,
    ):  # fmt: skip
        assert broken_off(io.BytesIO(box(b"ftyp", b"isom") + odd)) == ""
