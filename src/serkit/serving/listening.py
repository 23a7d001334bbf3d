"""Live listening: a microphone, or a file played in real time, into a stream."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from serkit import audio
from serkit.encoding import SAMPLE_RATE_HZ
from serkit.errors import MissingExtra, RunFailed, SerkitError
from serkit.interrupts import interrupts_after
from serkit.remarks import Remarks
from serkit.serving.predictor import Model
from serkit.serving.results import Prediction
from serkit.serving.stream import StreamEvent

CHUNK_S = 0.1
_HELD = 600  # chunks that may wait: a minute
_SILENT_S = 5.0  # a microphone that says nothing for so long is gone


@dataclass(frozen=True)
class Heard:
    """What came of listening.

    Attributes:
        prediction: for all that was heard. latencies_s: of the final answers, in order.
        heard_s, work_s: seconds heard, and seconds of computing. lost: times the microphone's buffer ran over.
    """

    prediction: Prediction
    latencies_s: tuple[float, ...]
    heard_s: float
    work_s: float
    lost: int = 0

    @property
    def real_time_factor(self) -> float:
        """Seconds of computing for each second heard."""
        return self.work_s / self.heard_s


class Microphone:
    """Chunks of a microphone, through PortAudio.

    Args:
        device: its number or part of its name, as sounddevice has them; ``None``: the system's choice.

    Attributes:
        rate_hz: its own sampling rate. lost: times its buffer ran over.

    Raises:
        MissingExtra: sounddevice is not installed.
        SerkitError: no PortAudio, no such microphone, or it cannot be opened.
    """

    def __init__(self, device: str | None = None) -> None:
        self._package = _sounddevice()
        chosen = int(device) if device is not None and device.isdecimal() else device
        try:
            found = self._package.query_devices(chosen, "input")
        except (ValueError, self._package.PortAudioError) as error:
            raise SerkitError(f"no microphone{_named(device)}: {error}; {self._known()}") from None
        self._device, self.rate_hz = chosen, int(found["default_samplerate"])
        self.lost = 0
        self._waiting: queue.Queue[np.ndarray] = queue.Queue(_HELD)

    def chunks(self) -> Generator[np.ndarray, None, None]:
        """Yield (n,) float32 chunks until it is closed.

        Raises:
            SerkitError: it cannot be opened, or says nothing any more.
        """
        try:
            stream = self._package.InputStream(
                samplerate=self.rate_hz, blocksize=round(CHUNK_S * self.rate_hz), device=self._device, channels=1,
                dtype="float32", callback=self._hear,
            )  # fmt: skip
        except self._package.PortAudioError as error:
            raise SerkitError(f"the microphone{_named(self._device)} cannot be opened: {error}") from None
        with stream:
            while True:
                try:
                    yield self._waiting.get(timeout=_SILENT_S)
                except queue.Empty:
                    raise SerkitError(
                        f"the microphone has sent nothing for {_SILENT_S:g} s; is it connected?"
                    ) from None

    def _hear(self, data: Any, n_frames: int, moment: Any, status: Any) -> None:
        """Called by PortAudio in a thread of its own: must not wait."""
        if status.input_overflow:
            self.lost += 1
        try:
            self._waiting.put_nowait(np.array(data[:, 0], dtype=np.float32))
        except queue.Full:
            self.lost += 1

    def _known(self) -> str:
        names = [f"{k} {d['name']}" for k, d in enumerate(self._package.query_devices()) if d["max_input_channels"] > 0]
        return f"available: {', '.join(names)}" if names else "this machine has none; --from FILE reads a recording"


def played(path: Path | str, *, paced: bool = True, remarks: Remarks | None = None) -> Iterator[np.ndarray]:
    """A recording in chunks of 0.1 s at 16 kHz, as fast as it was spoken, or as fast as it goes.

    Args:
        remarks: gathers what else is worth knowing of it; :func:`listen` takes the same.

    Raises:
        RunFailed: it cannot be read; for ``predict``, too, such a recording is a failure, not a wrong option.
    """
    size, began, at = round(CHUNK_S * SAMPLE_RATE_HZ), time.monotonic(), 0
    for block in _blocks(path, remarks):
        for first in range(0, len(block), size):
            chunk = block[first : first + size]
            at += len(chunk)
            if paced:
                time.sleep(max(0.0, began + at / SAMPLE_RATE_HZ - time.monotonic()))
            yield chunk


def _blocks(path: Path | str, remarks: Remarks | None) -> Iterator[np.ndarray]:
    try:
        yield from audio.blocks(path, remarks=remarks)
    except SerkitError as error:
        raise RunFailed(str(error)) from None


def listen(
    model: Model,
    chunks: Iterator[np.ndarray],
    rate_hz: float,
    tell: Callable[[StreamEvent], None],
    *,
    longest_s: float | None = None,
    remarks: Remarks | None = None,
    **options: Any,
) -> Heard:
    """Hear chunks until they end, Ctrl-C, or ``longest_s``; every answer is told as it comes.

    Args:
        chunks: (n,) each. rate_hz: of them. tell: is handed each answer.
        longest_s: stop by itself. remarks: of the recording, where the chunks are one that is played.
        options: as for :meth:`Model.stream`.

    Raises:
        SerkitError: nothing was heard. KeyboardInterrupt: Ctrl-C before anything was.
    """
    model.predict(np.zeros(SAMPLE_RATE_HZ, dtype=np.float32), rate_hz=SAMPLE_RATE_HZ)  # loads what answers need
    stream = model.stream(rate_hz=rate_hz, **options)
    if remarks is not None:
        stream.remarks = remarks  # of the file: its chunks are mono at 16 kHz, and tell nothing of it
    latencies: list[float] = []

    def told(events: list[StreamEvent]) -> None:
        for event in events:
            if event.kind == "final":
                latencies.append(event.latency_s)
            tell(event)

    try:
        for chunk in chunks:
            with interrupts_after():  # a stream that is left in the middle of a chunk has no answer
                told(stream.push(chunk))
            if longest_s is not None and stream.heard_s >= longest_s:
                break
    except KeyboardInterrupt:  # that is how one stops listening
        if not stream.heard_s:
            raise
    finally:
        if isinstance(chunks, Generator):
            chunks.close()
    told(stream.finish())
    return Heard(stream.prediction, tuple(latencies), stream.heard_s, stream.work_s)


def _sounddevice() -> Any:
    try:
        import sounddevice
    except ImportError:
        raise MissingExtra("sounddevice", "mic", "the microphone") from None
    except OSError as error:
        raise SerkitError(
            f"the microphone needs PortAudio ({error}): apt install libportaudio2, or brew install portaudio"
        ) from None
    return sounddevice


def _named(device: object) -> str:
    return "" if device is None else f" '{device}'"
