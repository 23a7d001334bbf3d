"""How soon after a turn of the user its EmotionFrame is there in a Pipecat pipeline, and how long the event loop waits.

Run: ``python benchmarks/voice_agent.py [--turns N] [--model NAME]``; needs ``pip install 'serkit[pipecat]'``. Parts of
the example recording are sent in real time, in frames of 20 ms, once with nothing else in the pipeline and once with an
``EmotionProcessor``. ``stop``: from the frame that ends a turn, no pause before it. ``paused``: likewise, half a second
after the VAD's frame for the pause. ``loop``: what a task that sleeps for 1 ms sleeps too long.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import time

import numpy as np
import soundfile
from loguru import logger
from pipecat.frames.frames import (
    EndFrame,
    Frame,
    InputAudioRawFrame,
    UserStartedSpeakingFrame,
    UserStoppedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.tests.utils import run_test

import serkit
from serkit.serving.pipecat import EmotionFrame, EmotionProcessor
from serkit.serving.predictor import Model

STEP_S = 0.02
LOADED_S = 2.0


class Caller(FrameProcessor):
    """Holds the end of the session until all turns were sent, each in real time.

    Attributes:
        ended: when each turn ended, in seconds of ``time.perf_counter``. late: what a sleep of 1 ms took too long.
    """

    def __init__(self, length_s: float, pause_s: float, turns: int) -> None:
        super().__init__()
        self._sound, self._rate_hz = soundfile.read(serkit.example(), dtype="int16")
        self._length_s, self._pause_s, self._turns = length_s, pause_s, turns
        self.ended: list[float] = []
        self.late: list[float] = []

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Pass a frame on."""
        await super().process_frame(frame, direction)
        if isinstance(frame, EndFrame):
            await asyncio.sleep(LOADED_S)
            ticking = asyncio.create_task(self._tick())
            for _ in range(self._turns):
                await self._turn()
            ticking.cancel()
        await self.push_frame(frame, direction)

    async def _tick(self) -> None:
        while True:
            before = time.perf_counter()
            await asyncio.sleep(0.001)
            self.late.append(time.perf_counter() - before - 0.001)

    async def _turn(self) -> None:
        """A turn, with a second of silence before and after it."""
        start = random.randrange(len(self._sound))
        await self._send(np.zeros(self._rate_hz, np.int16))
        await self.push_frame(UserStartedSpeakingFrame())
        await self._send(np.resize(np.roll(self._sound, -start), round(self._length_s * self._rate_hz)))
        if self._pause_s:
            await self.push_frame(VADUserStoppedSpeakingFrame(stop_secs=0.2))
            await self._send(np.zeros(round(self._pause_s * self._rate_hz), np.int16))
        self.ended.append(time.perf_counter())
        await self.push_frame(UserStoppedSpeakingFrame())
        await self._send(np.zeros(self._rate_hz, np.int16))

    async def _send(self, sound: np.ndarray) -> None:
        """Frames of 20 ms, each when it is due."""
        size, due = round(STEP_S * self._rate_hz), time.perf_counter()
        for k in range(0, len(sound), size):
            frame = InputAudioRawFrame(sound[k : k + size].tobytes(), self._rate_hz, 1)
            await self.push_frame(frame)
            due += STEP_S
            await asyncio.sleep(max(0.0, due - time.perf_counter()))


class Heard(FrameProcessor):
    """Notes when answers come."""

    def __init__(self) -> None:
        super().__init__()
        self.came: list[float] = []

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Pass a frame on."""
        await super().process_frame(frame, direction)
        if isinstance(frame, EmotionFrame):
            self.came.append(time.perf_counter())
        await self.push_frame(frame, direction)


async def measured(model: Model | None, length_s: float, pause_s: float, turns: int) -> None:
    """Print one line for turns of one length."""
    caller, heard = Caller(length_s, pause_s, turns), Heard()
    ours = [] if model is None else [EmotionProcessor(model)]
    await run_test(Pipeline([caller, *ours, heard]), frames_to_send=[])
    waits = 1000 * np.array(caller.late)
    line = f"loop, ms: median {np.median(waits):.1f}, 99 % {np.quantile(waits, 0.99):.1f}, max {waits.max():.1f}"
    if model is not None:
        took = 1000 * (np.array(heard.came) - np.array(caller.ended))
        line += f"; ms to the answer: median {np.median(took):.0f}, max {took.max():.0f}"
    name = "no processor" if model is None else f"{length_s:g} s, {'paused' if pause_s else 'stop'}"
    print(f"{name:14} n={turns}  {line}", flush=True)


def main() -> None:
    """Print one line for each length."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=10)
    parser.add_argument("--model", default="default")
    asked = parser.parse_args()
    logger.remove()
    random.seed(7)
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    model = serkit.load(asked.model)
    asyncio.run(measured(None, 3.0, 0.0, asked.turns))
    for length_s in (1.0, 3.0, 10.0):
        for pause_s in (0.0, 0.5):
            asyncio.run(measured(model, length_s, pause_s, asked.turns))
    print(f"load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
