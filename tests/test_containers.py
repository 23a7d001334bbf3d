"""Containers: what ffmpeg is asked for, what is made of its answer, and that the real one agrees with a WAV."""

from __future__ import annotations

import io
import json
import math
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile

from programs import MP4, au, contained, real, stand_in, stand_ins
from serkit import audio, containers
from serkit.containers import UNKNOWN_FRAMES, AudioInfo, Track
from serkit.errors import SerkitError
from serkit.remarks import Remarks

RATE = 16_000


def sounds(seconds: float = 3.0, rate: int = RATE, channels: int = 2) -> np.ndarray:
    """(n, channels): a loud chirp in each, higher from channel to channel."""
    time = np.arange(round(seconds * rate)) / rate
    return np.stack([0.9 * np.sin(2 * np.pi * (150 * (k + 1) + 60 * time) * time) for k in range(channels)], axis=1)


def as_wav(samples: np.ndarray, rate: int) -> bytes:
    handle = io.BytesIO()
    soundfile.write(handle, samples, rate, format="WAV", subtype="PCM_16")
    return handle.getvalue()


def track(content: bytes, failed: str = "", code: int | None = None) -> Track:
    return Track(io.BytesIO(content), "x.m4a", lambda: (bool(failed) if code is None else code, failed))


def test_ffmpeg_is_asked_for_all_channels_from_the_beginning() -> None:
    command = containers._decoder("ffmpeg", "/a/x.m4a", "mov")
    assert "file:/a/x.m4a" in command
    assert not {"-ss", "-t", "-ac", "-ar", "-af"} & set(command)
    assert command[command.index("-protocol_whitelist") + 1] == "file"


def test_a_track_is_read_and_sought_by_frames() -> None:
    samples = sounds(0.01, channels=3).astype(np.float32)
    found = track(au(samples, 8_000, b"annotation  ") + b"\1\2\3")
    assert (found.samplerate, found.channels, found.frames) == (8_000, 3, UNKNOWN_FRAMES)
    np.testing.assert_array_equal(found.read(7), samples[:7])
    found.seek(20)
    np.testing.assert_array_equal(found.read(10_000), samples[27:])
    found.seek(5)
    assert found.read(1).shape == (0, 3)


def test_what_is_no_track_is_refused_in_one_line() -> None:
    silent = np.zeros((0, 2))
    for content, failed, words in [
        (b"", "moov atom not found", r"found no sound in it \(moov atom not found\)"),
        (b"", "", r"found no sound in it \(no samples\)"),
        (au(silent, RATE), "", r"found no sound in it \(no samples\)"),
        (au(sounds(0.1), RATE), "invalid data", r"found no sound in it \(invalid data\)"),
        (b"RIFF" + bytes(40), "", "did not write the samples"),
        (au(np.zeros((1, 1)), RATE).replace(b"\0\0\0\6", b"\0\0\0\3"), "", "did not write the samples"),
    ]:
        with pytest.raises(SerkitError, match=words) as error:
            track(content, failed).read(10_000)
        assert "\n" not in str(error.value)
    with pytest.raises(SerkitError, match=r"found no sound in it \(exit 3\)"):
        track(au(sounds(0.1), RATE), code=3).read(10_000)


def test_a_header_without_a_length_is_one_of_unknown_length() -> None:
    stream = {"codec_name": "opus", "sample_rate": "48000", "channels": 2}
    told = {"streams": [stream], "format": {"format_name": "webm"}}
    assert containers._told(json.dumps(told)) == AudioInfo(math.inf, 48_000, 2, UNKNOWN_FRAMES, "webm/opus")
    told["format"] = {"format_name": "webm", "duration": "1.5"}
    assert containers._told(json.dumps(told)) == AudioInfo(1.5, 48_000, 2, 72_000, "webm/opus")
    stream["duration"] = "2.0"
    found = containers._told(json.dumps(told))
    assert found is not None
    assert found.duration_s == 2.0
    for answer in ("", "{}", '{"streams": []}', '{"streams": [{"channels": 2}]}', "null"):
        assert containers._told(answer) is None


def test_a_container_without_ffmpeg_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    path = tmp_path / "a.m4a"
    path.write_bytes(MP4)
    for call in (audio.load, audio.info):
        with pytest.raises(SerkitError, match=r"a\.m4a.*not installed; install ffmpeg"):
            call(path)


@stand_ins
def test_a_container_goes_through_ffmpeg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    samples = sounds(0.5)
    stand_in(tmp_path, "ffmpeg", au(samples, RATE))
    whole = audio.load(MP4)
    np.testing.assert_allclose(whole, samples.mean(axis=1), atol=1e-6)
    assert "-ss" not in (tmp_path / "ffmpeg.arguments").read_text().split("\n")
    np.testing.assert_array_equal(audio.load(MP4, start_s=0.1, end_s=0.3), whole[1_600:4_800])
    for options in ({"max_s": 0.25}, {"start_s": 0.6}, {"start_s": 0.6, "end_s": 0.8}, {"end_s": 1.5}):
        with pytest.raises(SerkitError, match=r"limit|after the end"):
            audio.load(MP4, **options)


@stand_ins
@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (MP4, "mov"),
        (b"<!--ftypjp2 --><MPD profiles='urn:mpeg:dash:profile:isoff-on-demand:2011'>", "mov"),  # names other files
        (b"\x1a\x45\xdf\xa3" + bytes(60), "matroska"),
        (b"\x30\x26\xb2\x75" + bytes(60), "asf"),
        (b"RIFF\0\0\0\0AVI " + bytes(60), "avi"),
        (b"#!AMR\n" + bytes(60), "amr"),
        (b"\xff\xf1" + bytes(60), "aac"),
        (b"ID3\4\0\0\0\0\1\2" + bytes(130) + b"ID3\4\0\x10\0\0\0\3" + bytes(13) + b"\xff\xf1" + bytes(60), "aac"),
        (b"RIFF\0\0\0\0WAVEbext\3\0\0\0abc\0fmt \x10\0\0\0\x45\0" + bytes(60), "wav"),  # G.726
        (b"OggS" + bytes(24) + b"Speex   1.2" + bytes(60), "ogg"),
    ],
)
def test_the_programs_are_told_which_container_it_is(
    content: bytes, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    stand_in(tmp_path, "ffmpeg", au(sounds(0.1), RATE))
    stand_in(tmp_path, "ffprobe", b'{"streams": [{"codec_name": "x", "sample_rate": "8000", "channels": 1}]}')
    audio.load(content)
    audio.info(content)
    for program in ("ffmpeg", "ffprobe"):
        given = (tmp_path / f"{program}.arguments").read_text().split("\n")
        assert given[given.index("-f") + 1] == kind
        assert ("-i" not in given) or given.index("-f") < given.index("-i")  # of what is read, not of what is written


@stand_ins
@pytest.mark.parametrize(
    ("program", "content", "complains", "words"),
    [
        ("ffmpeg", au(np.zeros((9, 65)), RATE), "", "65 channels, expected at most 64"),
        ("ffmpeg", b"", "[mov,mp4 @ 0x36cd] moov atom not found\nError", r"\(moov atom not found\)"),
        ("ffprobe", b"{}", "", r"found no sound in it$"),
        ("ffprobe", b"{}", "moov atom not found", r"found no sound in it \(moov atom not found\)$"),
    ],
)
def test_what_the_programs_complain_of_is_said(
    program: str, content: bytes, complains: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    stand_in(tmp_path, program, content, complains=complains, code=1 if complains else 0)
    with pytest.raises(SerkitError, match=words):
        (audio.load if program == "ffmpeg" else audio.info)(MP4)


@stand_ins
def test_a_complaint_that_is_no_failure_is_a_remark_once_the_end_is_reached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    stand_in(tmp_path, "ffmpeg", au(sounds(0.5), RATE), complains="[webm @ 0x36cd] File ended prematurely")
    whole, stretch = Remarks(), Remarks()
    audio.load(MP4, remarks=whole)
    assert "truncated or damaged: ffmpeg says 'File ended prematurely'; only the 0.50 s" in "".join(whole.notes)
    audio.load(MP4, end_s=0.3, remarks=stretch)
    assert not stretch.notes


@stand_ins
def test_memory_follows_the_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two minutes of stereo are 46 MB as they come: never in memory at once, wherever the stretch begins."""
    monkeypatch.setenv("PATH", str(tmp_path))
    stand_in(tmp_path, "ffmpeg", au(np.tile(sounds(1.0, 48_000), (120, 1)), 48_000))
    tracemalloc.start()
    n = sum(len(b) for b in audio.blocks(MP4, start_s=100.0))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert abs(n - 20 * RATE) <= 1
    assert peak < 30e6


@real
@pytest.mark.parametrize(("rate", "channels"), [(RATE, 1), (RATE, 2), (RATE, 8), (44_100, 2), (48_000, 6)])
def test_a_lossless_container_is_the_wav(tmp_path: Path, rate: int, channels: int) -> None:
    samples = sounds(2.0, rate, channels)
    wanted = audio.load(as_wav(samples, rate))
    path = tmp_path / "x.mkv"
    contained(samples, rate, path, "-c:a", "flac")
    np.testing.assert_array_equal(audio.load(path), wanted)
    np.testing.assert_array_equal(audio.load(path.read_bytes()), wanted)
    assert len(wanted) == 2 * RATE
    found = audio.info(path)
    assert (found.rate_hz, found.channels) == (rate, channels)


@real
@pytest.mark.parametrize("suffix", ["m4a", "mp4", "mov"])
def test_an_aac_begins_where_it_was_recorded(tmp_path: Path, suffix: str) -> None:
    samples = sounds(3.0)
    wanted = samples.mean(axis=1)
    path = tmp_path / f"x.{suffix}"
    contained(samples, RATE, path, "-c:a", "aac", "-b:a", "128k")
    whole = audio.load(path)
    assert 0 <= len(whole) - len(wanted) < 1024, "some versions of ffmpeg give the end of the last frame, too"
    assert np.abs(whole[: len(wanted)] - wanted)[:8_000].mean() < 0.05  # late by 64 ms it is 0.4
    for start, end in ((0.0, 0.5), (1.0, 2.0), (0.0123, 2.9), (2.5, 3.0)):
        part = audio.load(path, start_s=start, end_s=end)
        np.testing.assert_array_equal(part, whole[round(start * RATE) : round(end * RATE)])


@real
def test_a_stream_without_a_length_is_read(tmp_path: Path) -> None:
    samples = sounds(2.0)
    content = contained(samples, RATE, None, "-c:a", "flac", "-f", "matroska")
    found = audio.info(content)
    assert (found.duration_s, found.frames) == (math.inf, UNKNOWN_FRAMES)
    np.testing.assert_array_equal(audio.load(content, max_s=2.0), audio.load(as_wav(samples, RATE)))
    with pytest.raises(SerkitError, match="limit"):
        audio.load(content, max_s=1.5)


@real
@pytest.mark.parametrize(("suffix", "options"), [(".webm", ("-c:a", "libopus")), (".mp4", ("-movflags", "faststart"))])
def test_a_container_that_breaks_off_says_so(suffix: str, options: tuple[str, ...], tmp_path: Path) -> None:
    """As an upload that was cut: ffmpeg gives what is there, and exits with 0."""
    path = tmp_path / f"x{suffix}"
    contained(sounds(4.0), RATE, path, *options)
    remarks = Remarks()
    audio.load(path, remarks=remarks)
    assert not remarks.notes
    content = path.read_bytes()
    part = audio.load(content[: len(content) // 2], remarks=remarks)
    assert 0.5 < len(part) / RATE < 3.5
    assert "truncated or damaged: ffmpeg says '" in remarks.notes[0]


@real
@pytest.mark.parametrize(("coding", "rate"), [("adpcm_g726", 8_000), ("g723_1", 8_000)])
def test_a_coding_of_calls_in_a_wav_goes_through_ffmpeg(coding: str, rate: int, tmp_path: Path) -> None:
    """libsndfile calls it malformed, and so it was called damaged."""
    samples, path = sounds(4.0, rate, 1), tmp_path / "x.wav"
    contained(samples, rate, path, "-c:a", coding)
    remarks, wanted = Remarks(), audio.load(as_wav(samples, rate))
    assert abs(len(audio.load(path, remarks=remarks)) - len(wanted)) < 0.06 * RATE
    assert not remarks.notes
    content = path.read_bytes()
    part = audio.load(content[: len(content) // 2], remarks=remarks)
    assert 0.4 < len(part) / len(wanted) < 0.6
    assert "the WAV is truncated: " in remarks.notes[0]


@real
@pytest.mark.parametrize("quality", ["1", "9"])
def test_an_mp3_in_a_wav_is_read_to_its_end(quality: str, tmp_path: Path) -> None:
    """libsndfile guesses its length from the first frame: it left out the rest, or whole files were truncated."""
    samples, path = sounds(4.0, RATE, 1), tmp_path / "x.wav"
    contained(samples, RATE, path, "-c:a", "libmp3lame", "-q:a", quality)
    remarks = Remarks()
    assert 0 <= len(audio.load(path, remarks=remarks)) - len(samples) < 0.2 * RATE
    assert not remarks.notes


@real
def test_an_mp4_cut_between_fragments_says_so_by_its_index(tmp_path: Path) -> None:
    """ffmpeg finds no fault with it: every fragment that is there is whole."""
    content = contained(
        sounds(4.0), RATE, tmp_path / "x.mp4", "-movflags", "dash+global_sidx", "-frag_duration", "1000000"
    )
    remarks = Remarks()
    audio.load(content, remarks=remarks)
    assert not remarks.notes
    third = [k for k in range(len(content)) if content[k : k + 4] == b"moof"][2] - 4
    part = audio.load(content[:third], remarks=remarks)
    assert 1.5 < len(part) / RATE < 2.5
    assert remarks.notes[0].startswith("the MP4 is truncated: ")


@real
def test_a_film_without_sound_says_why(tmp_path: Path) -> None:
    path = tmp_path / "x.mkv"
    picture = ("-f", "lavfi", "-i", "color=size=32x32:duration=0.2", "-map", "1:v", "-c:v", "mpeg4")
    contained(sounds(0.1), RATE, path, *picture)
    with pytest.raises(SerkitError, match=r"found no sound in it \(Stream map .* matches no streams"):
        audio.load(path)
    with pytest.raises(SerkitError, match=r"found no sound in it$"):
        audio.info(path)


@real
def test_a_container_that_is_all_but_gone_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.mkv"
    contained(sounds(1.0), RATE, path, "-c:a", "flac")
    path.write_bytes(path.read_bytes()[:40])
    for call in (audio.load, audio.info):
        with pytest.raises(SerkitError, match=r"found no sound in it \(.+\)$"):
            call(path)
