"""What a bundle is asked of labelled recordings, as they are or under a condition, here or in several processes."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from serkit import audio
from serkit.encoding import SAMPLE_RATE_HZ
from serkit.errors import SerkitError
from serkit.processes import here_or_in_processes
from serkit.remarks import Remarks
from serkit.serving.bundle import Bundle
from serkit.serving.conditions import Condition
from serkit.serving.predictor import CALL_HZ, MAX_S, Model, load
from serkit.serving.results import Prediction
from serkit.serving.stream import TWO_VOICES
from serkit.types import Utterance

MIXED = (
    "the two channels hold different voices, like a call with one side on each, and were mixed: what is measured is an "
    "answer to both; name the channel of each row (column channel of a table)"
)


@dataclass(frozen=True)
class Job:
    """A recording, or a stretch of it, and what is asked of it.

    Attributes:
        path, start_s, end_s, channel: where it is. text: its words. labels: what is chosen from.
        condition: what is done to it before it is answered; ``None``: nothing. seed: of what is random in that.
    """

    path: str
    start_s: float | None
    end_s: float | None
    text: str | None
    labels: tuple[str, ...]
    condition: Condition | None = None
    seed: int = 0
    channel: int | None = None

    def to_row(self) -> list[Any]:
        """What its answer depends on, as plain values."""
        row = [self.path, self.start_s, self.end_s, self.text, list(self.labels)]
        row += [] if self.channel is None else [f"channel {self.channel}"]
        if self.condition is None:
            return row
        sources = self.condition.sources
        return [*row, self.condition.to_row(), self.seed, *([] if sources is None else [sources])]


@dataclass(frozen=True)
class Answer:
    """What is kept of an answer.

    Attributes:
        numbers: (labels + attributes,). abstain: as :class:`serkit.serving.results.Prediction` has it. model: its id.
        remarks: what is wrong with the recording itself, a line each: it is damaged, or two voices were mixed. None
            under a condition, which is of the same recording.
    """

    numbers: tuple[float, ...]
    abstain: str
    model: str
    remarks: tuple[str, ...] = ()

    @classmethod
    def of(cls, row: Sequence[Any]) -> Answer:
        """Of what :meth:`to_row` gave."""
        numbers, abstain, model, remarks = row
        return cls(tuple(numbers), abstain, model, tuple(remarks))

    def to_row(self) -> list[Any]:
        """As plain values."""
        return [list(self.numbers), self.abstain, self.model, list(self.remarks)]


def answers_to(tasks: Sequence[Job], source: str, calls: str, jobs: int) -> Iterator[Answer | str]:
    """The answer to each task, in order, or what is wrong with its recording in one line.

    Args:
        source, calls: the bundle, see :func:`serkit.serving.predictor.load`. jobs: processes; 0 is one per core.
    """
    return here_or_in_processes(functools.partial(load, source, calls=calls), _answer, tasks, jobs)


def _answer(model: Model, task: Job) -> Answer | str:
    """The answer to a recording, or what is wrong with it in one line."""
    try:
        words = task.text if model.reads_text else None
        if task.start_s is None and task.end_s is None and task.condition is None:
            found = _whole(model, task, words)
            answering = model if found.model == model.id else model.for_rate(CALL_HZ)
            of_model = answering.notes(words, (), CALL_HZ)
            notes = [note for note in found.notes if note not in of_model]
        else:
            remarks = Remarks()
            samples = audio.load(
                task.path, start_s=task.start_s, end_s=task.end_s, channel=task.channel, remarks=remarks
            )
            notes = [] if task.condition else [*remarks.notes, *(TWO_VOICES,) * remarks.two_sided]
            if task.condition is not None:
                samples = task.condition.heard(samples, task.seed)
            found = model.for_rate(remarks.rate_hz).predict(
                samples, rate_hz=SAMPLE_RATE_HZ, labels=task.labels, text=words, by="clip"
            )
    except SerkitError as error:
        return str(error)
    said = tuple(MIXED if note == TWO_VOICES else note for note in notes)
    return Answer(tuple(found.numbers), found.abstain, found.model, said)


def _whole(model: Model, task: Job, words: str | None) -> Prediction:
    """The answer to a whole recording, or to one of its channels, in constant memory."""
    if task.channel is None:
        return model.predict(task.path, labels=task.labels, text=words, by="clip")
    stream = model.stream(partial_s=None, by="clip", labels=task.labels, text=words)
    for block in audio.blocks(task.path, channel=task.channel, max_s=MAX_S, remarks=stream.remarks):
        stream.push(block)
    stream.finish()
    return stream.prediction


def remarked(ids: Iterable[str], answers: Iterable[Answer]) -> dict[str, list[str]]:
    """What is wrong with recordings that were answered all the same: ids by remark, the most frequent first."""
    found: dict[str, list[str]] = {}
    for name, answer in zip(ids, answers, strict=True):
        for remark in answer.remarks:
            found.setdefault(remark, []).append(name)
    return dict(sorted(found.items(), key=lambda item: -len(item[1])))


def reads_text(bundle: Bundle) -> bool:
    """Whether an encoder of the bundle reads what was said."""
    return any((row.get("spec") or {}).get("modality") == "text" for row in bundle.features.values())


def silent_rows(bundle: Bundle, rows: Iterable[Utterance]) -> int:
    """How many rows have no text, if the bundle reads texts: an empty one was used for these."""
    return sum(u.text is None for u in rows) if reads_text(bundle) else 0
