"""Why a model answers as it does, by asking it again: with a stretch silenced, a word left out, the clip altered.

All of it describes the model, and none of it the speaker. Works on any bundle, for nothing is asked of its networks.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from serkit.augment import Example
from serkit.augment.gain import Gain
from serkit.augment.noise import Noise
from serkit.augment.pitch import Pitch
from serkit.augment.reverb import Reverb
from serkit.augment.speed import Speed
from serkit.augment.telephone import Telephone
from serkit.encoders.voice import FEATURES, Voice
from serkit.encoding import SAMPLE_RATE_HZ
from serkit.errors import SerkitError, did_you_mean
from serkit.probabilities import restricted
from serkit.progress import Meter, ProgressCallback
from serkit.remarks import Remarks
from serkit.serving import formats, inputs
from serkit.serving.explanation import Altered, Cue, Explanation, Stretch, SystemAnswer, Word
from serkit.serving.inputs import Recording

if TYPE_CHECKING:
    from serkit.serving.predictor import Model
    from serkit.serving.scorer import Features

STRETCH_S = 0.15  # of Nasr et al.'s windows
MOST_STRETCHES = 60
MOST_WORDS = 60
N_SALIENT = 5
HINT_S = 60.0  # of a long recording, read to tell where it has speech
N_TOLD = 3  # stretches of speech in a message
RAMP_S = 0.01
PEAK_S = 0.025
QUIET_PERCENTILE = 10
SMALLEST = 1e-6  # of a probability, so that log-odds stay finite
TOGETHER = 8  # clips whose networks run at once
LEAST_EFFECT = 1e-3  # nats; below it a stretch tells nothing
LEAST_FRAMES = 5  # voiced frames, for a mean to be worth telling


class Variation(NamedTuple):
    """A way to alter a clip. name: short. words: what is done. step: what does it, always the same way."""

    name: str
    words: str
    step: Callable[[Example, np.random.Generator], Example]


VARIATIONS = (
    Variation("softer", "10 dB softer", Gain(-10.0, -10.0)),
    Variation("louder", "10 dB louder, up to full scale", Gain(10.0, 10.0)),
    Variation("deeper", "2 semitones deeper, same pace", Pitch(-2.0, -2.0)),
    Variation("higher", "2 semitones higher, same pace", Pitch(2.0, 2.0)),
    Variation("slower", "10 % slower, and deeper as a tape", Speed(0.9, 0.9)),
    Variation("faster", "10 % faster, and higher as a tape", Speed(1.1, 1.1)),
    Variation("noise", "with pink noise 15 dB below it", Noise(15.0, 15.0, color="pink")),
    Variation("room", "in a room with a reverberation time of 0.5 s", Reverb(0.5, 0.5, 6.0, 6.0)),
    Variation("telephone", "over a telephone", Telephone(300.0, 300.0, 3400.0, 3400.0, codec="mu-law")),
)
# the six that Nasr et al. compare: descriptor, words, unit
CUES = (
    ("loudness", "loudness", ""),
    ("f0_semitones", "pitch", "Hz"),
    ("hnr_db", "harmonics to noise (low: breathy)", "dB"),
    ("jitter", "jitter (rough pitch)", "%"),
    ("shimmer_db", "shimmer (rough loudness)", "dB"),
    ("slope_500_1500", "spectral slope 500-1500 Hz (high: shrill)", "dB/kHz"),
)


def explain(
    model: Model,
    recording: Recording,
    *,
    rate_hz: float | None = None,
    label: str | None = None,
    labels: Sequence[str] | None = None,
    text: str | None = None,
    start_s: float | None = None,
    end_s: float | None = None,
    channel: int | None = None,
    progress: ProgressCallback | None = None,
) -> Explanation:
    """Explain a model's answer to a clip.

    Stretches (occlusion, Zeiler & Fergus 2014; 0.15 s long and the five most telling ones as in Nasr, Ren & Johnson
    2025, arXiv 2511.11691): each in turn is made as quiet as the quietest tenth of the clip, and the fall of the
    label's log-odds is its effect. Effects do not add up: two stretches may tell the model the same. There are at most
    60, of longer clips longer ones. Cues (also Nasr et al.): descriptors of the voice in the five most telling
    stretches, beside those of the whole clip, in voiced frames.

    Args:
        model: what answered. recording, rate_hz: as for :meth:`serkit.serving.predictor.Model.predict`.
        label: what to explain; unless given, what the model answers. labels: the answer is one of these alone.
        text: what is said, for a model that reads. start_s, end_s: a part of the recording.
        channel: the one of its channels that is heard, 1 the first; ``None``: their mean.
        progress: is told how many of the altered clips have been answered.

    Raises:
        SerkitError: no audio, no speech, an unknown label, or longer than what the model answers at once.
    """
    samples, begin_s, path, model = _clip(model, recording, rate_hz, start_s, end_s, channel)
    chosen = inputs.names(labels)
    names = [model.labels[k] for k in model.columns(chosen)]
    answer = model.predict(samples, rate_hz=SAMPLE_RATE_HZ, labels=chosen, text=text, by="clip")
    if answer.no_speech:
        raise SerkitError(f"{path or 'the array'}: no speech was found, so that there is no answer to explain")
    if label is not None and label not in names:
        raise SerkitError(f"label '{label}'" + did_you_mean(label, names))
    told = label or answer.label
    pieces, words = pieces_of(samples), _words(text) if model.reads_text else []
    meter = Meter("explain", len(pieces) + len(words) + len(VARIATIONS), progress, unit="altered clips")
    asker = _Asker(model, samples, text, names, told, meter)
    effects = asker.silenced(pieces)
    times = [(begin_s + a / SAMPLE_RATE_HZ, begin_s + b / SAMPLE_RATE_HZ) for a, b in pieces]
    salient = sorted(range(len(pieces)), key=lambda k: -effects[k])[:N_SALIENT]
    salient = [k for k in salient if effects[k] > LEAST_EFFECT]
    return Explanation(
        label=told,
        probability=asker.probability,
        answer=answer.label,
        confidence=answer.confidence,
        probabilities=answer.probabilities,
        abstain=answer.abstain,
        stretches=[Stretch(*time, effect) for time, effect in zip(times, effects, strict=True)],
        cues=_cues(samples, [pieces[k] for k in salient]),
        words=asker.without(words),
        altered=asker.altered(),
        systems=asker.alone(),
        n_salient=len(salient),
        peaks=_peaks(samples),
        peak_s=PEAK_S,
        start_s=begin_s,
        end_s=begin_s + len(samples) / SAMPLE_RATE_HZ,
        model=model.id,
        path=path,
        channel=channel,
    )


class _Asker:
    """Asks a model about a clip that is altered.

    Args:
        model: what is asked. samples, text: the clip and its words. names: labels that it may answer with.
        told: the label that is explained. meter: counts the altered clips.
    """

    def __init__(
        self, model: Model, samples: np.ndarray, text: str | None, names: Sequence[str], told: str, meter: Meter
    ) -> None:
        self._model, self._samples, self._names, self._meter = model, samples, list(names), meter
        self._columns, self._told = model.columns(names), self._names.index(told)
        self._sound = model.scorer.heard(samples, None, only="audio")
        self._spoken = model.scorer.heard(samples, text, only="text")
        self._text = text
        self.probability = float(self._shares([{**self._sound, **self._spoken}])[0, self._told])

    def silenced(self, pieces: Sequence[tuple[int, int]]) -> list[float]:
        """The effect of each stretch."""
        level = quiet_level(self._samples)
        return [self._fall(row) for row in self._asked([silence(self._samples, a, b, level) for a, b in pieces])]

    def altered(self) -> list[Altered]:
        """The answer to each variation of the clip."""
        answers = self._asked([_alter(self._samples, v.step) for v in VARIATIONS])
        return [Altered(v.name, v.words, *self._told_of(row)) for v, row in zip(VARIATIONS, answers, strict=True)]

    def without(self, words: Sequence[str]) -> list[Word]:
        """The effect of each word of the text."""
        found = []
        for k, word in enumerate(words):
            rest = " ".join([*words[:k], *words[k + 1 :]])
            row = {**self._sound, **self._model.scorer.heard(self._samples, rest, only="text")}
            found.append(Word(word, self._fall(self._shares([row])[0])))
            self._meter.advance()
        return found

    def alone(self) -> list[SystemAnswer]:
        """What each system answers: the mean logit of its networks, not calibrated."""
        found = []
        for system, row in self._model.scorer.alone(self._samples, self._text):
            found.append(SystemAnswer(system, *self._told_of(restricted(row[None, :], self._columns)[0])))
        return found

    def _asked(self, clips: Sequence[np.ndarray]) -> np.ndarray:
        """(clips, labels) probabilities of (samples,) clips with the same words."""
        found = []
        for start in range(0, len(clips), TOGETHER):
            rows = []
            for clip in clips[start : start + TOGETHER]:
                rows.append({**self._model.scorer.heard(clip, None, only="audio"), **self._spoken})
                self._meter.advance()
            found.append(self._shares(rows))
        return np.concatenate(found)

    def _shares(self, rows: list[Features]) -> np.ndarray:
        """(rows, labels) probabilities."""
        found = self._model.scorer.answered(rows)[:, : len(self._model.labels)]
        return restricted(found, self._columns)

    def _fall(self, row: np.ndarray) -> float:
        """How far the log-odds of the label lie under those of the clip as it is."""
        return log_odds(self.probability) - log_odds(row[self._told])

    def _told_of(self, row: np.ndarray) -> tuple[str, float, float]:
        """The most probable label, its probability, and that of the explained label."""
        k = int(np.argmax(row))
        return self._names[k], float(row[k]), float(row[self._told])


def _clip(
    model: Model,
    recording: Recording,
    rate_hz: float | None,
    start_s: float | None,
    end_s: float | None,
    channel: int | None,
) -> tuple[np.ndarray, float, str | None, Model]:
    """(samples,) of the part that is asked for, where it begins, what its file is called, and what answers it."""
    recording, remarks = inputs.known(recording), Remarks()
    path = str(recording) if isinstance(recording, (str, Path)) else None
    named = None if path is None else formats.shown(path)
    blocks = model.blocks(recording, rate_hz, remarks, start_s=start_s, end_s=end_s, channel=channel)
    clip = inputs.whole(blocks, model.max_clip_s)
    if clip is None:
        hint = "" if path is None else _parts(model, path, channel)
        raise SerkitError(
            f"{named or 'the recording'}: longer than the {model.max_clip_s:g} s that can be explained at once; choose "
            f"a part by its start and end (--start, --end; start_s, end_s){hint}"
        )
    answering = model.for_rate(remarks.rate_hz)
    return clip, start_s or 0.0, named, answering.for_sound(clip) or answering


def _parts(model: Model, path: str, channel: int | None) -> str:
    """Where the first stretches of speech are in a file, or a channel, as a hint; only its first minute is read."""
    stream = model.stream()
    with closing(model.blocks(path, None, channel=channel)) as blocks:
        for block in blocks:
            stream.push(block)
            if stream.heard_s >= HINT_S:
                break
    stream.finish()
    segments = stream.prediction.segments
    found = [f"{s.start_s:.2f} to {s.end_s:.2f} s" for s in segments[:N_TOLD]]
    return f"; speech is at {', '.join(found)}{', …' if len(segments) > N_TOLD else ''}" if found else ""


def pieces_of(samples: np.ndarray) -> list[tuple[int, int]]:
    """First and last sample (exclusive) of each stretch; of a clip shorter than one, the whole clip."""
    length = max(STRETCH_S * SAMPLE_RATE_HZ, len(samples) / MOST_STRETCHES)
    n = max(1, round(len(samples) / length))
    edges = np.linspace(0, len(samples), n + 1).round().astype(int)
    return [(int(a), int(b)) for a, b in itertools.pairwise(edges)]


def _words(text: str | None) -> list[str]:
    """The words of a text; of a long one, groups of neighbours."""
    words = (text or "").split()
    size = math.ceil(len(words) / MOST_WORDS)
    return [" ".join(words[k : k + size]) for k in range(0, len(words), size)] if size > 1 else words


def quiet_level(samples: np.ndarray) -> float:
    """Root mean square that a tenth of the clip's frames of 20 ms do not reach."""
    size = min(len(samples), round(0.02 * SAMPLE_RATE_HZ))
    frames = samples[: len(samples) // size * size].reshape(-1, size).astype(np.float64)
    return float(np.percentile(np.sqrt((frames**2).mean(axis=1)), QUIET_PERCENTILE))


def silence(samples: np.ndarray, start: int, end: int, level: float) -> np.ndarray:
    """(samples,) float32 with a stretch turned down to a root mean square of ``level``, ramps of 10 ms within it."""
    stretch = samples[start:end].astype(np.float64)
    factor = min(1.0, level / max(float(np.sqrt((stretch**2).mean())), 1e-9))
    ramp = min(round(RAMP_S * SAMPLE_RATE_HZ), len(stretch) // 2)
    down = 1.0 - (1.0 - factor) * (0.5 - 0.5 * np.cos(np.pi * (np.arange(ramp) + 0.5) / max(ramp, 1)))
    gains = np.full(len(stretch), factor)
    gains[:ramp], gains[len(stretch) - ramp :] = down, down[::-1]
    found = samples.astype(np.float32, copy=True)
    found[start:end] = stretch * gains
    return found


def _alter(samples: np.ndarray, step: Callable[[Example, np.random.Generator], Example]) -> np.ndarray:
    """(samples,) float32 after an augmentation, the same every time."""
    altered = step(Example(target=np.zeros(1), samples=samples.astype(np.float32)), np.random.default_rng(0)).samples
    return np.asarray(altered, dtype=np.float32)


def _cues(samples: np.ndarray, salient: Sequence[tuple[int, int]]) -> list[Cue]:
    """Descriptors of the voice in some stretches beside those of the whole clip; none where too little is voiced."""
    frames = Voice(unvoiced="zero")([samples])[0].astype(np.float64)
    column = {name: frames[:, FEATURES.index(name)] for name, _, _ in CUES}
    middle = Voice.HOP * np.arange(len(frames)) + Voice.WINDOW / 2
    voiced = column["f0_semitones"] > 0
    within = voiced & sum(((middle >= a) & (middle < b) for a, b in salient), np.zeros(len(frames), dtype=bool))
    if within.sum() < LEAST_FRAMES:
        return []
    found = []
    for name, words, unit in CUES:
        here, everywhere = float(column[name][within].mean()), float(column[name][voiced].mean())
        spread = float(column[name][voiced].std())
        deviations = (here - everywhere) / spread if spread > 0 else 0.0
        told, usual = _natural(name, here), _natural(name, everywhere)
        found.append(Cue(name, words, unit, told, usual, deviations, int(within.sum())))
    return found


def _natural(name: str, value: float) -> float:
    """A descriptor in the unit that is shown: semitones above 27.5 Hz in Hz, jitter in per cent."""
    if name == "f0_semitones":
        return float(27.5 * 2.0 ** (value / 12.0))
    return 100.0 * value if name == "jitter" else value


def _peaks(samples: np.ndarray) -> list[float]:
    """Highest absolute amplitude of every 25 ms."""
    size = round(PEAK_S * SAMPLE_RATE_HZ)
    padded = np.pad(np.abs(samples), (0, -len(samples) % size))
    return [round(float(p), 4) for p in padded.reshape(-1, size).max(axis=1)]


def log_odds(probability: float) -> float:
    """In nats, finite even of 0 and 1.

    >>> log_odds(0.5), log_odds(1.0) < 14
    (0.0, True)
    """
    p = min(max(float(probability), SMALLEST), 1.0 - SMALLEST)
    return math.log(p / (1.0 - p))
