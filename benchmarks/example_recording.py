"""Write the example that comes with serkit: two voices of the toy corpus's generator, taking turns, and their words.

Run as ``python benchmarks/example_recording.py``: the recording is the same every time.
"""

from __future__ import annotations

import json

import numpy as np
import soundfile

from serkit.corpora import toy
from serkit.serving.example import path, transcript_path

RATE_HZ = 16_000
PAUSE_S = 0.7
STEP = 2.0**-8  # as coarse as the voices' own noise is loud: so FLAC keeps it small
VOICES = (("Ada", 4), ("Ben", 1))  # a woman and a man among the speakers of the toy corpus
TALK = (
    ("neutral", "tell me about it", 0),
    ("happiness", "we did it at last", 1),
    ("happiness", "that is great news", 1),
    ("anger", "you ruined it again", 0),
    ("sadness", "i miss her so much", 1),
)


def make() -> tuple[np.ndarray, list[dict[str, object]]]:
    """(samples,) float64 mono 16 kHz in [-1, 1], on a grid of 2⁻⁸, and who says what when."""
    speakers = toy._speakers(np.random.default_rng([toy._SEED, 0]))
    parts = [np.zeros(RATE_HZ // 2)]
    at, sentences = len(parts[0]), []
    for k, (emotion, text, who) in enumerate(TALK):
        rng = np.random.default_rng([7, k])
        name, voice = VOICES[who]
        clip = toy._synthesise(text, toy._vary(rng, emotion, speakers[voice]), speakers[voice], rng)
        times = {"start_s": round(at / RATE_HZ, 2), "end_s": round((at + len(clip)) / RATE_HZ, 2)}
        sentences.append({**times, "speaker": name, "text": text})
        parts += [clip, np.zeros(round(PAUSE_S * RATE_HZ))]
        at += len(clip) + len(parts[-1])
    sound = np.concatenate(parts)
    sound = 0.9 * sound / np.abs(sound).max()
    dither = np.random.default_rng(5).uniform(-0.5, 0.5, len(sound)) * STEP
    return np.round((sound + dither) / STEP) * STEP, sentences


def main() -> None:
    """Write the recording and its words."""
    sound, sentences = make()
    soundfile.write(path(), sound, RATE_HZ, subtype="PCM_16", format="FLAC", compression_level=1.0)
    transcript_path().write_text(json.dumps(sentences, indent=1) + "\n", encoding="utf-8")
    print(f"{path()}: {path().stat().st_size} bytes")


if __name__ == "__main__":
    main()
