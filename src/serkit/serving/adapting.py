"""A model adapted to unlabelled recordings: the one feature path reads them, and a new bundle is written."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from serkit import audio
from serkit.bandwidth import narrow
from serkit.encoding import SAMPLE_RATE_HZ
from serkit.errors import SerkitError
from serkit.interrupts import interrupts_after, resumable
from serkit.processes import here_or_in_processes
from serkit.progress import Meter, ProgressCallback
from serkit.remarks import Remarks
from serkit.reporting.text import count
from serkit.serving import inputs
from serkit.serving.adaptation import Adaptation, Moments, to_arrays
from serkit.serving.adaptation_sums import Kept, Listened
from serkit.serving.bundle import ADAPTED, Bundle, for_calls, open_bundle, write_bundle
from serkit.serving.bundle_files import check_new
from serkit.serving.bundle_parts import arrays_file, head_of
from serkit.serving.predictor import CALL_HZ, Model
from serkit.serving.stream import Stream

LEAST_PIECES = 10
MOST_RECORDINGS = 500  # of which the moments hardly change any more
MOST_S = 600.0  # heard of each recording
_LOOKED_AT = 20  # recordings, to tell whether most are calls


class Listener(Model):
    """A model that answers nothing and keeps the features it would have answered by."""

    def __init__(self, bundle: Bundle) -> None:
        super().__init__(bundle)
        self._rows: list[dict[str, np.ndarray]] = []

    def hear(self, path: str | Path) -> Listened:
        """Features of a recording's clip, or of its stretches of speech where it is long.

        Raises:
            SerkitError: it cannot be read.
        """
        self._rows = []
        stream = Stream(self, SAMPLE_RATE_HZ, self._settings(by="clip"))
        heard = 0
        for block in audio.blocks(path, max_s=self._max_s):
            stream.push(block)
            heard += len(block)
            if heard >= MOST_S * SAMPLE_RATE_HZ:
                break
        stream.finish()
        if stream.prediction.no_speech:
            return Listened(silent=1)
        found = Listened(pieces=len(self._rows), seconds=heard / SAMPLE_RATE_HZ, recordings=1)
        for key in self.bundle.inputs:
            found.moments[key] = functools.reduce(Moments.__add__, (Moments.of(row[key]) for row in self._rows))
        return found

    def score_one(self, samples: np.ndarray, text: str | None, columns: Sequence[int]) -> np.ndarray:
        """Keep the features as they were heard, unless they are the last ones again; every class is as likely."""
        features = self.scorer.heard(samples, text)
        if not self._rows or inputs.unchanged(self._rows[-1], features) != set(features):
            self._rows.append(features)
        return np.array([1.0 / len(columns)] * len(columns) + [0.0] * len(self.attributes))


def adapt(
    source: str | Path | Bundle,
    recordings: Sequence[str | Path],
    *,
    name: str | None = None,
    at_most: int = MOST_RECORDINGS,
    jobs: int = 1,
    complain: Callable[[str], None] = lambda line: None,
    progress: ProgressCallback | None = None,
    keep: Path | None = None,
) -> tuple[Mapping[str, object], dict[str, bytes]]:
    """What a bundle adapted to recordings says and holds; for :func:`serkit.serving.bundle.write_bundle`.

    The features of the recordings are moved to mean and deviation of the training's, dimension by dimension, before
    every network that standardises by them. No label is needed, no weight is changed. The recordings should be a fair
    sample of what will be asked, all emotions among them: what they share is taken for the channel.

    Args:
        source: the bundle, or its name or place; one that is adapted already is adapted anew.
        recordings: files. name: of the new bundle; ``NAME-adapted`` where ``None``.
        at_most: so many of them are heard, evenly chosen, of each the first 10 min.
        jobs: processes; 0 is one per core.
        complain: told in one line of a recording that cannot be read; the others count all the same.
        keep: file that holds what was heard so far; one that is there of the same recordings is taken up.

    Raises:
        SerkitError: a bundle that cannot be adapted, or fewer than 10 stretches of speech in the recordings.
    """
    bundle = source if isinstance(source, Bundle) else open_bundle(source)
    refuse_corrected(bundle)
    if not bundle.inputs:
        raise SerkitError(
            f"{bundle.source} cannot be adapted: it has no statistics of its training's features (networks with "
            "normalize: train or level have them, in bundles that this version of serkit makes); labelled clips can "
            "adapt any bundle: --corpus"
        )
    chosen = [recordings[k] for k in evenly(len(recordings), at_most)]
    tell_of_calls(bundle, source, chosen, complain)
    total = _heard(bundle, chosen, jobs, complain, progress, keep)
    if total.pieces < LEAST_PIECES:
        forget(keep)
        raise SerkitError(
            f"heard {count(total.pieces, 'stretch', 'stretches')} of speech in {count(len(chosen), 'recording')} "
            f"({total.failed} unreadable, {total.silent} without speech); adapting takes {LEAST_PIECES} or more"
        )
    return _adapted(bundle, total, name)


def adapt_to(source: str | Path | Bundle, recordings: Sequence[str | Path], out: Path, **options: Any) -> Bundle:
    """:func:`adapt`, written to ``out`` and opened; stopped and called again it goes on with what it has heard.

    Args:
        options: as for :func:`adapt`.

    Raises:
        SerkitError: as there; ``out`` is there already, or cannot be written.
    """
    check_new(out)
    keep = out.with_name(f".{out.name}.heard")
    with resumable():
        made = adapt(source, recordings, keep=keep, **options)
    return write(made, out, keep)


def write(made: tuple[Mapping[str, object], dict[str, bytes]], out: Path, keep: Path | None = None) -> Bundle:
    """Write what :func:`adapt` made, remove what was kept meanwhile, and open it; Ctrl-C comes after the first two.

    So it is never said that the same command resumes, which would find its bundle there and refuse it.
    """
    with interrupts_after(), resumable():
        write_bundle(dict(made[0]), made[1], out)
        forget(keep)
    return open_bundle(out)


def forget(keep: Path | None) -> None:
    """Remove what was kept of work that is done, or would be refused again."""
    if keep is not None:
        keep.unlink(missing_ok=True)


def refuse_corrected(bundle: Bundle) -> None:
    """Raise :class:`SerkitError` of a bundle that labelled clips taught: what they taught belongs to what it was."""
    if bundle.correction is not None:
        raise SerkitError(
            f"{bundle.source} is adapted to labelled clips already; adapt the model that it was made from, "
            f"'{bundle.head['labelled']['from']}'"
        )


def tell_of_calls(
    bundle: Bundle,
    source: str | Path | Bundle,
    recordings: Sequence[str | Path],
    complain: Callable[[str], None],
    *,
    channels: Sequence[int | None] = (),
) -> None:
    """Say where most recordings are calls that another bundle answers, and where some hold two voices, which are mixed.

    Args:
        source: how the bundle was named. recordings: of which some are looked at. complain: told a line of each.
        channels: the one of each recording that is heard; none are given where all are mixed.
    """
    companion = None if isinstance(source, Bundle) else for_calls(bundle, source, "auto")
    of_each = channels or [None] * len(recordings)
    some = [_beginning(recordings[k], of_each[k]) for k in evenly(len(recordings), _LOOKED_AT)]
    if companion is not None and 2 * sum(call for call, _ in some) > len(some):
        complain(
            f"most recordings have nothing above 4 kHz, as calls: '{companion.name}' answers these in place of "
            f"'{bundle.name}', which is adapted here; adapt with --model {companion.name} too, and compare both by "
            "serkit measure --beside"
        )
    n_mixed = sum(two_sided for _, two_sided in some)
    if n_mixed:
        complain(
            f"note: different voices on two channels, like a call with one side on each, in {n_mixed} of "
            f"{count(len(some), 'recording')} looked at: they are mixed; make each channel a recording of its own, or "
            "give a table with the column channel (--corpus)"
        )


def _beginning(path: str | Path, channel: int | None) -> tuple[bool, bool]:
    """Whether the first seconds of a recording, or of a channel, are of a call, and hold two voices, which are mixed.

    Neither, where it cannot be read.
    """
    remarks = Remarks()
    try:
        first = next(audio.blocks(path, channel=channel, remarks=remarks), np.zeros(0, dtype=np.float32))
    except (SerkitError, OSError):
        return False, False
    return 0 < remarks.rate_hz <= CALL_HZ or bool(narrow(first)), remarks.two_sided


def pieces_of(facts: Mapping[str, int | float]) -> str:
    """How many parts a model was adapted by, in words."""
    return count(int(facts["pieces"]), "clip or stretch of speech", "clips or stretches of speech")


def evenly(n: int, at_most: int) -> list[int]:
    """Places of so many of n items at most, evenly chosen, ascending.

    >>> evenly(5, 3), evenly(2, 3), evenly(0, 3)
    ([0, 2, 4], [0, 1], [])

    Raises:
        SerkitError: fewer than 1.
    """
    if at_most < 1:
        raise SerkitError(f"at most {at_most} recordings: expected 1 or more")
    return sorted({round(place) for place in np.linspace(0, n - 1, min(at_most, n)).tolist()})


def _heard(
    bundle: Bundle,
    chosen: Sequence[str | Path],
    jobs: int,
    complain: Callable[[str], None],
    progress: ProgressCallback | None,
    keep: Path | None,
) -> Listened:
    """All that is heard of some recordings, from where it was stopped."""
    kept = Kept(keep, {"model": bundle.fingerprint, "most_s": MOST_S}, chosen)
    left = kept.left
    if kept.heard:
        complain(f"{len(kept.heard)} of {count(len(chosen), 'recording')} are already processed")
    meter = Meter("adapt", len(left), progress, unit="files")
    make = functools.partial(_listener, bundle.source)
    try:
        asked = here_or_in_processes(make, _listen, [chosen[place] for place in left], jobs)
        with contextlib.closing(asked) as answers:
            for place, found in zip(left, answers, strict=True):
                meter.advance(failed=int(isinstance(found, str)))
                if isinstance(found, str):
                    complain(found if str(chosen[place]) in found else f"{chosen[place]}: {found}")
                kept.add(place, Listened(failed=1) if isinstance(found, str) else found)
    finally:
        kept.save()
    return kept.total


def _adapted(bundle: Bundle, heard: Listened, name: str | None) -> tuple[Mapping[str, object], dict[str, bytes]]:
    found = Adaptation.from_moments(heard.moments, bundle.inputs, heard.pieces)
    files = {key: content for key, content in bundle.contents().items() if key != ADAPTED}
    files[ADAPTED] = arrays_file(to_arrays((found.scale, found.offset), ("scale", "offset"), bundle.features))
    facts = {"recordings": heard.recordings, "pieces": heard.pieces, "hours": round(heard.seconds / 3600.0, 3)}
    before = bundle.head.get("adapted", {}).get("from", bundle.id)
    called = name or adapted_name(bundle.name)
    head = {**head_of(bundle), "name": called, "adapted": {"from": before, **facts}}
    said = (
        f"To {count(heard.recordings, 'recording')} without labels ({facts['hours']:.2f} h, {pieces_of(facts)}), "
        f"from `{before}`: features are shifted to match the training data; no weights "
        "are changed. Everything above was measured before that. Whether it predicts those recordings better was not "
        "measured: there are no labels."
    )
    files["card.md"] = card_with(bundle, called, "Adapted", said).encode()
    return head, files


def card_with(bundle: Bundle, name: str, heading: str, said: str) -> str:
    """The card of a bundle under another name, with a section at its end in place of the one that is there."""
    card = bundle.text("card.md").split(f"\n\n## {heading}\n", 1)[0].rstrip() if "card.md" in bundle.contents() else ""
    card = card.replace(f"# {bundle.name}\n", f"# {name}\n", 1) if card.startswith("# ") else card
    return f"{card}\n\n## {heading}\n\n{said}\n"


def adapted_name(name: str) -> str:
    """What a model is called once it is adapted."""
    return name if name.endswith("-adapted") else f"{name}-adapted"


def _listener(source: str) -> Listener:
    return Listener(open_bundle(source))


def _listen(listener: Listener, path: str | Path) -> Listened | str:
    """What was heard, or what is wrong with the recording in one line."""
    try:
        return listener.hear(path)
    except SerkitError as error:
        return str(error)
    except OSError as error:
        return f"{path}: cannot be read: {error.strerror or error}"
