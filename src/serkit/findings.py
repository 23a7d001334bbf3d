"""One thing that an audit finds in a corpus, and how findings are written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from serkit.types import SPLITS, Manifest

Severity = Literal["error", "warning", "info"]
SHOWN = 5  # ids of a finding in a table


class HasId(Protocol):
    """An utterance, or what is known of one."""

    @property
    def id(self) -> str:
        """Of the utterance."""


@dataclass(frozen=True)
class Finding:
    """One thing worth knowing before a number is believed.

    Attributes:
        severity: ``error`` (a result would be wrong), ``warning`` (it needs a sentence), ``info``.
        code: short name that stays the same between versions, such as ``speakers-shared``.
        message: one line: what, where, what to do.
        ids: the utterances it is about, in manifest order; empty where it is about the whole.
    """

    severity: Severity
    code: str
    message: str
    ids: tuple[str, ...] = ()

    def to_row(self) -> dict[str, Any]:
        """As a JSON-able row."""
        return {"severity": self.severity, "code": self.code, "message": self.message, "ids": list(self.ids)}


def finding(severity: Severity, code: str, message: str, rows: Iterable[HasId] = ()) -> Finding:
    """A finding about some rows, each named once."""
    return Finding(severity, code, message, tuple(dict.fromkeys(u.id for u in rows)))


def to_rows(findings: Iterable[Finding]) -> list[dict[str, str]]:
    """Findings as plain rows for a table: ``severity, code, message, ids`` (at most :data:`SHOWN` of them)."""
    rows = []
    for f in findings:
        more = f" and {len(f.ids) - SHOWN} more" if len(f.ids) > SHOWN else ""
        ids = ", ".join(f.ids[:SHOWN]) + more
        rows.append({"severity": f.severity, "code": f.code, "message": f.message, "ids": ids})
    return rows


def to_json(manifest: Manifest, findings: Sequence[Finding]) -> dict[str, Any]:
    """The whole audit as one JSON-able object, findings with all their ids.

    Keys: ``corpus, fingerprint, split_hash, protocol, n_utterances, n_speakers, splits`` (rows by split),
    ``errors, warnings, infos`` (how many) and ``findings`` (as :meth:`Finding.to_row`).
    """
    tally = Counter(f.severity for f in findings)
    return {
        "corpus": manifest.corpus,
        "fingerprint": manifest.fingerprint,
        "split_hash": manifest.split_hash,
        "protocol": manifest.info.get("protocol"),
        "n_utterances": len(manifest),
        "n_speakers": len({u.speaker for u in manifest if u.speaker is not None}),
        "splits": {name: sum(u.split == name for u in manifest) for name in SPLITS},
        "errors": tally["error"],
        "warnings": tally["warning"],
        "infos": tally["info"],
        "findings": [f.to_row() for f in findings],
    }
