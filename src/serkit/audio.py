"""Sound in: a file, bytes or an array becomes ``(samples,)`` float32 mono 16 kHz, or one clear error message.

Decoding is libsndfile's (WAV, FLAC, OGG, MP3, AIFF and more), resampling soxr's at its HQ setting.
M4A, MP4 and other containers go through :mod:`serkit.containers`. Files are decoded block by block, so
memory follows what is returned, not what a header claims.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from serkit import containers, opening
from serkit.containers import AudioInfo, Source
from serkit.encoding import SAMPLE_RATE_HZ
from serkit.errors import SerkitError
from serkit.remarks import Remarks

MAX_DURATION_S = 3600.0
MAX_CHANNELS = 64
MIN_RATE_HZ, MAX_RATE_HZ = 1_000, 768_000
END_TOLERANCE_S = 0.5  # an end time this far past the end of a recording is cut, further is refused
MAX_PEAK = 8.0  # float files overshoot 1.0 a little; beyond this they hold another scale
SILENCE_DB = -70.0  # re full scale: a recording that never exceeds it holds nothing to hear
SHORTEST_S = 0.1  # less than this is no word, but a wrong time or a cut
_BLOCK_S = 10.0
_BLOCK_SAMPLES = 1 << 24  # of all channels together: 64 MiB, whatever a header claims
_MARGIN_S = 0.05  # decoded on both sides of a stretch, so that the resampling filter sees its neighbours


def load(
    source: Source,
    *,
    start_s: float | None = None,
    end_s: float | None = None,
    channel: int | None = None,
    max_s: float | None = MAX_DURATION_S,
    remarks: Remarks | None = None,
) -> np.ndarray:
    """Read a recording, or a stretch of it, as mono 16 kHz.

    Channels are averaged, unless one is chosen. Only the stretch is decoded; its length is
    ``round(16000 end_s) - round(16000 start_s)`` and it equals that slice of the whole (exactly at
    16 kHz, within the resampling filter's tails otherwise). Float samples beyond full scale are cut.
    Silence is not an error (see :func:`is_silent`).

    Args:
        source: path, the bytes of a file, or an open binary file.
        start_s, end_s: the stretch in seconds; ``None`` is begin and end.
        channel: the one that is heard, 1 the first: what a file of this channel alone would give. ``None``: their mean.
        max_s: refuse more than this many seconds; ``None`` is no limit.
        remarks: gathers what else is worth knowing of it, such as an end that is missing.

    Returns:
        (samples,) float32 in [-1, 1].

    Raises:
        SerkitError: no such file, empty, not audio, truncated, NaN or infinite samples, too long, or
            a stretch outside the recording, or a channel that it does not have.
    """
    parts = list(blocks(source, start_s=start_s, end_s=end_s, channel=channel, max_s=max_s, remarks=remarks))
    return np.concatenate(parts) if len(parts) > 1 else parts[0]


def blocks(
    source: Source,
    *,
    start_s: float | None = None,
    end_s: float | None = None,
    channel: int | None = None,
    max_s: float | None = None,
    remarks: Remarks | None = None,
    apart: bool = False,
) -> Iterator[np.ndarray]:
    """Yield a recording in order, about ten seconds at a time: :func:`load` in constant memory.

    Args and errors as :func:`load`; errors deep in a file appear when its block is reached. ``remarks`` gathers
    what is worth knowing besides. ``apart`` does not average the channels.

    Yields:
        (samples,) float32 mono 16 kHz in [-1, 1], never empty; (samples, channels) with ``apart``, where each channel
        is what a file of this channel alone would give.
    """
    name = opening.label(source)
    start = 0.0 if start_s is None else float(start_s)
    if not (math.isfinite(start) and start >= 0) or (end_s is not None and not end_s > start):
        raise SerkitError(f"{name}: the stretch {start_s} to {end_s} s is empty: expected 0 <= start_s < end_s")
    if max_s is not None and end_s is not None and end_s - start > max_s:
        raise SerkitError(f"{name}: {end_s - start:.1f} s requested, the limit is {max_s:g} s (max_s)")
    remarks = Remarks() if remarks is None else remarks
    kind = opening.container(source)
    with containers.opened(source, name, kind) if kind else opening.opened(source) as file:
        _refuse_odd(file, name)
        _refuse_absent(channel, int(file.channels), name)
        remarks.rate_hz = float(file.samplerate)
        yield from _decoded(file, name, start, end_s, max_s, remarks, channel=channel, apart=apart)
    if not remarks.ending and kind in ("", "mov", "ogg", "wav"):
        remarks.look_at(source)


def info(source: Source) -> AudioInfo:
    """Read the header of a recording; nothing is decoded.

    Raises:
        SerkitError: no such file, empty, or not audio.
    """
    if kind := opening.container(source):
        return containers.probe(source, opening.label(source), kind)
    with opening.opened(source) as file:
        _refuse_odd(file, opening.label(source))
        frames = int(file.frames)
        return AudioInfo(
            duration_s=frames / file.samplerate if frames < containers.UNKNOWN_FRAMES else math.inf,
            rate_hz=int(file.samplerate),
            channels=int(file.channels),
            frames=frames,
            format=f"{file.format}/{file.subtype}",
        )


def to_mono_16k(samples: np.ndarray, rate_hz: float, remarks: Remarks | None = None, *, at: int = 0) -> np.ndarray:
    """Turn an array of any rate, width and channel count into what encoders take.

    Args:
        samples: (samples,) or (samples, channels); float in [-1, 1], or integers of at most 32 bits at full scale.
        rate_hz: its sampling rate.
        remarks: given with each chunk of a stream, which is then judged as a whole: see
            :meth:`serkit.remarks.Remarks.refuse_narrow`. at: samples of it before this chunk.

    Returns:
        (samples,) float32 mono 16 kHz in [-1, 1].

    Raises:
        SerkitError: another shape, empty, not finite, far beyond full scale or below it, or an impossible rate.
    """
    samples = np.asarray(samples)
    if samples.ndim not in (1, 2) or samples.size == 0:
        raise SerkitError(f"array of shape {samples.shape}: expected (samples,) or (samples, channels), not empty")
    if samples.ndim == 2 and samples.shape[1] > MAX_CHANNELS:
        raise SerkitError(f"array of shape {samples.shape}: expected (samples, channels); transpose it first")
    rate = _whole_rate(rate_hz, "array")
    heard = Remarks() if remarks is None else remarks
    heard.measure(samples)
    if remarks is None:
        heard.refuse_narrow()
    samples = _full_scale(samples)
    columns = samples[:, None] if samples.ndim == 1 else samples
    _refuse_foreign(columns, "array", at)
    mono = _mono(columns, heard)
    if rate != SAMPLE_RATE_HZ:
        import soxr

        mono = np.asarray(soxr.resample(mono, rate, SAMPLE_RATE_HZ, quality="HQ"), dtype=np.float32)
        if len(mono) == 0:
            mono = np.zeros(1, dtype=np.float32)
    return np.asarray(np.clip(mono, -1.0, 1.0), dtype=np.float32)


def _full_scale(samples: np.ndarray) -> np.ndarray:
    """Integers to float in [-1, 1]."""
    kind, size = samples.dtype.kind, samples.dtype.itemsize
    if kind == "f":
        return samples
    if kind not in "iu" or size > 4:
        raise SerkitError(f"array of dtype {samples.dtype}: expected float in [-1, 1], int16, int32 or uint8")
    half = float(2 ** (8 * size - 1))
    return (samples - half) / half if kind == "u" else samples / half


def is_silent(samples: np.ndarray, threshold_db: float = SILENCE_DB) -> bool:
    """Whether no sample, its mean removed, exceeds ``threshold_db`` re full scale.

    >>> is_silent(np.zeros(100, dtype=np.float32))
    True
    """
    if len(samples) == 0:
        return True
    return bool(np.abs(samples - samples.mean()).max() <= 10 ** (threshold_db / 20))


def _whole_rate(rate_hz: float, name: str) -> int:
    if not (math.isfinite(rate_hz) and MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ and rate_hz == int(rate_hz)):
        raise SerkitError(f"{name}: sampling rate {rate_hz} Hz, expected a whole number {MIN_RATE_HZ} to {MAX_RATE_HZ}")
    return int(rate_hz)


def _resampler(rate: int) -> Any:
    """Of one channel."""
    import soxr

    return soxr.ResampleStream(rate, SAMPLE_RATE_HZ, 1, dtype="float32", quality="HQ")


def _through(streams: Sequence[Any], samples: np.ndarray, *, last: bool) -> np.ndarray:
    """(samples,) through the one resampler, or each channel of (samples, channels) through its own."""
    columns = samples[:, None] if samples.ndim == 1 else samples
    found = [
        stream.resample_chunk(np.ascontiguousarray(column), last=last)
        for stream, column in zip(streams, columns.T, strict=True)
    ]
    return np.asarray(np.clip(found[0] if samples.ndim == 1 else np.stack(found, axis=1), -1.0, 1.0))


def _refuse_foreign(block: np.ndarray, name: str, at: int = 0) -> None:
    """Refuse (samples, channels) from sample ``at`` on with NaN, infinite samples, or of another scale."""
    peak = float(np.abs(block).max(initial=0.0))  # NaN and inf come through max
    if not math.isfinite(peak):
        bad = at + int(np.flatnonzero(~np.isfinite(block).all(axis=1))[0])
        raise SerkitError(f"{name}: NaN or infinite samples (first at sample {bad}); repair the recording")
    if peak > MAX_PEAK:
        raise SerkitError(f"{name}: float samples reach {peak:.6g}, expected -1 to 1; divide by full scale first")


def _apart(block: np.ndarray) -> np.ndarray:
    """(samples, channels) float to float32 in [-1, 1]."""
    return np.asarray(np.clip(block, -1.0, 1.0), dtype=np.float32)


def _mono(block: np.ndarray, remarks: Remarks) -> np.ndarray:
    """(samples, channels) float to (samples,) float32 in [-1, 1]."""
    mono = block[:, 0] if block.shape[1] == 1 else block.mean(axis=1)
    remarks.hear(block, mono)
    return np.asarray(np.clip(mono, -1.0, 1.0), dtype=np.float32)


def _refuse_odd(file: Any, name: str) -> None:
    _whole_rate(file.samplerate, name)
    if file.channels > MAX_CHANNELS:
        raise SerkitError(f"{name}: {file.channels} channels, expected at most {MAX_CHANNELS}")


def _refuse_absent(channel: int | None, n_channels: int, name: str) -> None:
    if channel is not None and not 1 <= channel <= n_channels:
        has = "one channel" if n_channels == 1 else f"{n_channels} channels"
        raise SerkitError(f"{name}: channel {channel} is asked for, and it has {has}, counted from 1")


def _decoded(
    file: Any,
    name: str,
    start: float,
    end_s: float | None,
    max_s: float | None,
    remarks: Remarks,
    *,
    channel: int | None,
    apart: bool,
) -> Iterator[np.ndarray]:
    """Blocks of the stretch, from an open file: the mean of its channels, one of them, or the channels ``apart``."""
    rate = int(file.samplerate)
    known = file.frames < containers.UNKNOWN_FRAMES
    length_s = file.frames / rate if known else math.inf
    if start >= length_s:
        raise SerkitError(f"{name}: start_s {start:g} is after the end of the recording at {length_s:.3f} s")
    _refuse_end_outside(end_s, length_s, name)
    if max_s is not None and end_s is None and known and length_s - start > max_s:
        raise SerkitError(f"{name}: {length_s - start:.1f} s long, the limit is {max_s:g} s (max_s)")
    first, last, skip = _frames_around(start, end_s, rate, int(file.frames))
    keep = None if end_s is None else _n_samples(start, end_s, length_s)
    limit = None if max_s is None else math.ceil(max_s * SAMPLE_RATE_HZ) + 1
    given = 0
    for block in _resampled(file, name, rate, first, last, remarks, channel=channel, apart=apart):
        part = block[skip:]
        skip -= len(block) - len(part)
        if keep is not None:
            part = part[: keep - given]
        given += len(part)
        if limit is not None and given > limit:
            raise SerkitError(f"{name}: continues after {max_s:g} s, the limit (max_s)")
        if len(part):
            yield part
    if not known:  # the end is known only now
        if given == 0 and start > 0:
            raise SerkitError(f"{name}: start_s {start:g} is after the end of the recording")
        _refuse_end_outside(end_s, start + given / SAMPLE_RATE_HZ, name)
    if given == 0:
        yield np.zeros((1, file.channels) if apart else 1, dtype=np.float32)


def _refuse_end_outside(end_s: float | None, length_s: float, name: str) -> None:
    if end_s is not None and end_s > length_s + END_TOLERANCE_S:
        raise SerkitError(f"{name}: end_s {end_s:g} is after the end of the recording at {length_s:.3f} s")


def _frames_around(start: float, end_s: float | None, rate: int, n_frames: int) -> tuple[int, int, int]:
    """Which frames of a file to decode for a stretch, with a margin on both sides for the resampling filter.

    Args:
        start, end_s: of the stretch, in seconds. rate, n_frames: of the file.

    Returns:
        The first frame, the one after the last, and how many of the samples at 16 kHz come before the stretch.
    """
    gcd = math.gcd(rate, SAMPLE_RATE_HZ)
    up, down = SAMPLE_RATE_HZ // gcd, rate // gcd
    margin = 0 if up == down else _MARGIN_S
    # the first source sample lies on the grid where source and target instants meet
    first = max(0, math.floor((start - margin) * rate / down)) * down
    last = n_frames if end_s is None else min(n_frames, math.ceil((end_s + margin) * rate))
    return first, last, round(start * SAMPLE_RATE_HZ) - first * up // down


def _n_samples(start: float, end_s: float, length_s: float) -> int:
    """Samples at 16 kHz of a stretch, as far as the recording reaches; ``length_s`` is infinite where not known."""
    wanted = round(end_s * SAMPLE_RATE_HZ) - round(start * SAMPLE_RATE_HZ)
    if length_s == math.inf:
        return wanted
    whole = math.floor(length_s * SAMPLE_RATE_HZ + 0.5)
    return max(1, min(wanted, whole - round(start * SAMPLE_RATE_HZ)))


def _resampled(
    file: Any, name: str, rate: int, first: int, last: int, remarks: Remarks, *, channel: int | None, apart: bool
) -> Iterator[np.ndarray]:
    """(samples,) or, ``apart``, (samples, channels) float32 at 16 kHz of the frames from ``first`` to ``last``."""
    import soundfile

    n_streams = 0 if rate == SAMPLE_RATE_HZ else file.channels if apart else 1
    streams = [_resampler(rate) for _ in range(n_streams)]
    size = min(int(_BLOCK_S * rate), _BLOCK_SAMPLES // file.channels)
    at, known = first, file.frames < containers.UNKNOWN_FRAMES
    lossy = file.format in ("MP3", "OGG", "MPEG")
    try:
        if first:
            file.seek(first)
        while at < last:
            block = file.read(min(size, last - at), dtype="float32", always_2d=True)
            if len(block) == 0:
                if known and not lossy:
                    raise SerkitError(f"{name}: truncated: {file.frames} samples promised, {at} could be decoded")
                if known:
                    remarks.fell_short(at, int(file.frames), rate)
                elif file.complaint:
                    remarks.was_complained_of(file.complaint, at / rate)
                break
            block = block if channel is None else block[:, channel - 1 : channel]
            _refuse_foreign(block, name, at)
            at += len(block)
            heard = _apart(block) if apart else _mono(block, remarks)
            yield _through(streams, heard, last=at >= last) if streams else heard
        if streams and at < last:
            rest = np.zeros((0, file.channels) if apart else 0, dtype=np.float32)
            yield _through(streams, rest, last=True)
    except soundfile.SoundFileError as error:
        reason = str(getattr(error, "error_string", error)).split("\n")[0]
        where = f"between {at / rate:.2f} and {min(at + size, last) / rate:.2f} s"
        raise SerkitError(f"{name}: damaged or truncated {where} ({reason})") from None
