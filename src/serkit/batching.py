"""Pending work in batches of similar length that do not depend on what is already done."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from serkit.audio import blocks, info
from serkit.contents import text_key
from serkit.encoding import SAMPLE_RATE_HZ
from serkit.errors import SerkitError, did_you_mean
from serkit.foundation import pieces
from serkit.progress import Meter, ProgressCallback
from serkit.types import Manifest, Utterance

_TEXT_LETTERS_PER_S = 15.0  # about what English speech carries; only for making batches of equal work


@dataclass(frozen=True, slots=True)
class Item:
    """One stretch of audio or one text.

    Attributes:
        key: as in :mod:`serkit.contents`. id: of the first utterance with this content.
        encoders: names of those that are to compute it.
        path, start_s, end_s, channel: where the audio lies; ``path`` is empty for a text.
        text: for text encoders. duration_s: length of the audio as its header says, 0 for a text.
        n_utterances: how many have this content and are counted as done with it.
    """

    key: str
    id: str
    encoders: tuple[str, ...]
    path: str = ""
    start_s: float | None = None
    end_s: float | None = None
    channel: int | None = None
    text: str | None = None
    duration_s: float = 0.0
    n_utterances: int = 1

    @property
    def work_s(self) -> float:
        """Its share of a batch's budget, in seconds of speech."""
        return self.duration_s if self.text is None else len(self.text) / _TEXT_LETTERS_PER_S


Batch = tuple[Item, ...]


def kept(manifest: Manifest, exclude: Iterable[str]) -> list[Utterance]:
    """The utterances to go through; raises ``SerkitError`` for an ``exclude`` that names none."""
    left_out = set(exclude)
    for name in sorted(left_out - set(manifest.ids)):
        raise SerkitError(f"exclude: no utterance '{name}' in {manifest.corpus}" + did_you_mean(name, manifest.ids))
    return [u for u in manifest if u.id not in left_out]


def text_of(utterance: Utterance, texts: Mapping[str, str] | None) -> str | None:
    """What was said: a given text by id, or else the corpus's own."""
    text = None if texts is None else texts.get(utterance.id)
    return utterance.text if text is None else text


def audio_item(manifest: Manifest, utterance: Utterance, key: str, encoders: tuple[str, ...]) -> Item:
    """The stretch of audio of an utterance; the header is read where the utterance does not say its end."""
    path = manifest.audio_path(utterance)
    end_s = utterance.end_s
    if end_s is None:
        try:
            end_s = info(path).duration_s
            if math.isinf(end_s):  # a container written as a stream: only decoding tells
                end_s = sum(map(len, blocks(path, channel=utterance.channel))) / SAMPLE_RATE_HZ
        except SerkitError:  # said again, and listed, when it is decoded
            end_s = 0.0
    duration_s = max(0.0, end_s - (utterance.start_s or 0.0))
    place = (str(path), utterance.start_s, utterance.end_s, utterance.channel)
    return Item(key, utterance.id, encoders, *place, duration_s=duration_s)


def items_of(
    manifest: Manifest,
    utterances: Sequence[Utterance],
    heard: Mapping[str, str],
    said: Mapping[str, str],
    audio: Mapping[str, Collection[str]],
    readers: Mapping[str, Collection[str]],
    progress: ProgressCallback | None = None,
) -> list[Item]:
    """Each content once, what no encoder wants included: it decides who is whose neighbour in a batch.

    Args:
        manifest, utterances: what to go through. heard: content key by id, of audio that can be opened.
        said: text by id. audio, readers: by the name of an audio or text encoder, the keys that it wants.

    Returns:
        Audio where any audio encoder wants any, and texts likewise; with the encoders that want each.
    """
    found: dict[str, Item] = {}
    heard = heard if any(audio.values()) else {}
    said = said if any(readers.values()) else {}
    meter = Meter("measure", len(utterances), progress)
    for u in utterances:
        for key, wanted in ((heard.get(u.id), audio), (text_key(said[u.id]) if u.id in said else None, readers)):
            if key is None:
                continue
            if key in found:
                found[key] = replace(found[key], n_utterances=found[key].n_utterances + 1)
                continue
            names = tuple(name for name, keys in wanted.items() if key in keys)
            if wanted is audio:
                found[key] = audio_item(manifest, u, key, names)
            else:
                found[key] = Item(key, u.id, names, text=said[u.id])
        meter.advance()
    return list(found.values())


def batches(items: Iterable[Item], budget_s: float, max_items: int = 256) -> list[Batch]:
    """Group items of similar length, so that little is padded; texts and audio apart, the longest batch first.

    Args:
        items: any order. budget_s: longest item times number of items stays within this many seconds,
            or the item is alone. max_items: in a batch.
    """
    made: list[Batch] = []
    for is_text in (False, True):
        chosen = sorted((i for i in items if (i.text is not None) == is_text), key=lambda i: i.key)
        alike = pieces.batches([i.work_s for i in chosen], budget_s, similar=0.0, most=max_items)
        made += [tuple(chosen[k] for k in batch) for batch in alike]
    return made


def planned(
    items: Sequence[Item], longest_s: float, parts: int, max_items: int, whole: Collection[str] = ()
) -> list[Batch]:
    """Batches made of everything, of which those that nobody wants are left out.

    What was stopped half way is stored up to some item of this order. Going on, every batch is then the one it would
    have been, to the bit: the batch that was cut is computed whole, and what is stored of it is not stored again.
    Where several batches of an encoder are done in part (clips were added to a corpus), that would compute much
    twice; then batches are made of what is wanted alone.

    Args:
        items: of one modality, wanted or not. longest_s, max_items: of a batch, see :func:`batches`.
        parts: at least so many batches are aimed at, by less than ``longest_s`` in each; 1: as few as there may be.
        whole: names of the encoders whose numbers depend on the batch, in their last digits; others compute what they
            lack and nothing else.
    """
    total_s = sum(item.work_s for item in items)
    budget_s = max(1.0, min(longest_s, total_s / parts) if parts > 1 else longest_s)
    found: list[Batch] = []
    cut: Counter[str] = Counter()
    for batch in batches(items, budget_s, max_items):
        names = dict.fromkeys(name for item in batch for name in item.encoders if name in whole)
        cut.update(name for name in names if any(name not in item.encoders for item in batch))
        full = tuple(replace(item, encoders=tuple(dict.fromkeys((*item.encoders, *names)))) for item in batch)
        found.append(tuple(item for item in full if item.encoders))
    found = [batch for batch in found if batch]
    if max(cut.values(), default=0) <= 1:
        return found
    return batches([item for item in items if item.encoders], budget_s, max_items)


def share(work: Sequence[Batch], wanted: Mapping[str, Collection[str]]) -> list[Batch]:
    """What some encoders have to do of all batches.

    Args:
        wanted: by name of these encoders, the keys they lack. An item that none of them lacks and that is there for
            its neighbours' sake counts for no utterance; neither does a text where audio is heard.
    """
    found: list[Batch] = []
    hears = any(item.text is None and set(item.encoders) & wanted.keys() for batch in work for item in batch)
    for batch in work:
        mine: list[Item] = []
        for item in batch:
            names = tuple(name for name in item.encoders if name in wanted)
            new = any(item.key in wanted[name] for name in names) and not (hears and item.text is not None)
            if names:
                mine.append(replace(item, encoders=names, n_utterances=item.n_utterances if new else 0))
        if mine:
            found.append(tuple(mine))
    return found
