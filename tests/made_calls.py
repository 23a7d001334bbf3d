"""Recordings with a clip on each channel, and the same clips as recordings of their own."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile

from serkit import audio
from serkit.types import Manifest, Utterance

RATE = 16_000


def calls(folder: Path, manifest: Manifest, *, rate: int = RATE) -> tuple[Manifest, Manifest]:
    """The clips of a manifest two by two in recordings of two channels; and each as a file of its own.

    Returns:
        The rows that name a channel, and the same rows of the files of one channel.
    """
    folder.mkdir(parents=True)
    sided: list[Utterance] = []
    alone: list[Utterance] = []
    rows: Sequence[Utterance] = manifest.utterances
    for k in range(0, len(rows) - 1, 2):
        pair = rows[k : k + 2]
        found = [audio.load(manifest.audio_path(u)) for u in pair]
        size = max(map(len, found))
        call = np.stack([np.pad(one, (0, size - len(one))) for one in found], axis=1)
        soundfile.write(folder / f"call{k}.wav", call, rate)
        for channel, u in enumerate(pair, start=1):
            soundfile.write(folder / f"{u.id}.wav", call[:, channel - 1], rate)
            sided.append(dataclasses.replace(u, audio=f"call{k}.wav", channel=channel))
            alone.append(dataclasses.replace(u, audio=f"{u.id}.wav"))
    both = (dataclasses.replace(manifest, utterances=tuple(found), root=str(folder)) for found in (sided, alone))
    return next(both), next(both)
