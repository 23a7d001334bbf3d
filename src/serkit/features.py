"""The features of a manifest by utterance id, and the refusal to continue while some are missing."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from serkit.audio import SHORTEST_S
from serkit.encoding import EncoderSpec
from serkit.errors import SerkitError, did_you_mean, without
from serkit.store import FeatureStore


class Features:
    """The features of one encoder for a manifest: the store, seen by utterance id.

    Args:
        store: of the encoder. keys: utterance id to content key.
        reasons: by id, why there are none.
        silent: content keys of the recordings without a sound, or too short for a word.

    Attributes:
        ids: utterances that have features, in the manifest's order.
        missing: by id, why the others have none.
        silent: utterances that have features, and hold nothing to hear.
    """

    def __init__(
        self,
        store: FeatureStore,
        keys: Mapping[str, str],
        reasons: Mapping[str, str] | None = None,
        silent: Collection[str] = (),
    ) -> None:
        self.store, self.keys = store, dict(keys)
        self.ids = tuple(name for name, key in self.keys.items() if key in store)
        self.silent = tuple(name for name in self.ids if self.keys[name] in silent)
        self.missing = {
            name: (reasons or {}).get(name, "not extracted yet") for name, key in self.keys.items() if key not in store
        }

    @property
    def spec(self) -> EncoderSpec:
        """Of the encoder."""
        return self.store.spec

    def __len__(self) -> int:
        return len(self.ids)

    def __contains__(self, utterance_id: object) -> bool:
        return utterance_id in self.keys and utterance_id not in self.missing

    def get(self, utterance_id: str) -> np.ndarray:
        """(frames, dim) read-only view in the stored dtype.

        Raises:
            SerkitError: the utterance is unknown or has no features; the message says why.
        """
        return self.store.get(self._key(utterance_id))

    def frames(self, utterance_id: str) -> int:
        """Number of frames of an utterance; errors as :meth:`get`."""
        return self.store.frames(self._key(utterance_id))

    def _key(self, utterance_id: str) -> str:
        key = self.keys.get(utterance_id)
        if key is None:
            near = did_you_mean(utterance_id, self.keys)
            raise SerkitError(f"encoder '{self.spec.name}': no utterance '{utterance_id}'{near}")
        if utterance_id in self.missing:
            raise SerkitError(
                f"encoder '{self.spec.name}': utterance '{utterance_id}' has no features: {self.missing[utterance_id]}"
            )
        return key


def nothing_to_hear(names: Sequence[str], total: int) -> str:
    """One line about recordings without a sound, or too short for a word: how many, which, how to leave them out.

    >>> nothing_to_hear(["a"], 9).partition("; ")[0]
    'nothing audible, or less than 0.1 s, in 1 of 9 recordings, which are kept as they are'
    """
    shown = ", ".join(names[:20]) + (", …" if len(names) > 20 else "")
    return (
        f"nothing audible, or less than {SHORTEST_S} s, in {len(names)} of {total} recordings, which are kept as they "
        f"are; to leave them out: exclude: [{shown}]"
    )


def require_complete(extracted: Mapping[str, Features]) -> None:
    """Refuse features with holes.

    Raises:
        SerkitError: utterances without features, with reasons, and how to leave them out by name.
    """
    reasons: dict[str, str] = {}
    for features in extracted.values():
        for name, reason in features.missing.items():
            reasons.setdefault(name, reason)
    if not reasons:
        return
    total = len({name for features in extracted.values() for name in features.keys})
    raise SerkitError(without(reasons, total, "no features"))
