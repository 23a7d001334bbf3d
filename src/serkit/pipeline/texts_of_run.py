"""The texts of a run: their source, and their accuracy for the report."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from serkit import availability, checkpoints, fetching, sizes, word_errors
from serkit.encoding import Encoder
from serkit.errors import SerkitError
from serkit.files import write_json, write_text
from serkit.foundation.base import Pretrained
from serkit.pipeline.run import Machine, Run, device_of
from serkit.settings import Transcripts
from serkit.store import FeatureStore
from serkit.types import Manifest


def texts_of(
    run: Run,
    manifest: Manifest,
    encoders: Mapping[str, Encoder],
    machine: Machine,
    listener: Callable[[Any], None] | None = None,
) -> dict[str, str] | None:
    """Transcripts by id, where an encoder reads text; kept in the store and, for reading, in the run.

    Args:
        run: of the recipe that names their source. manifest: what is to be read. encoders: of the run, by key.
        machine: where it is heard. listener: told the progress.

    Raises:
        SerkitError: the recipe names no transcripts, or some are unavailable.
    """
    readers = [e.spec.name for e in encoders.values() if e.spec.modality == "text"]
    if not readers:
        return None
    source = check_source(run.recipe.transcripts, readers[0])
    from serkit.transcripts import transcribe

    found = transcribe(
        manifest,
        source.name,
        machine.store / "transcripts.jsonl",
        language=source.language,
        engine=source.engine,
        device=device_of(machine),
        precision=source.precision,
        batch_size=source.batch_size,
        callback=listener,
        before=lambda: check_before_hearing(manifest, encoders, machine, listener, source),
    )
    rows = [
        json.dumps({"id": i, "text": t.text, "language": t.language, "flags": list(t.flags)}, ensure_ascii=False)
        for i, t in found.items()
    ]
    write_text(run.folder / "transcripts.jsonl", "\n".join(rows) + "\n")
    said = describe_texts(manifest, source, {i: (t.text, t.flags) for i, t in found.items()})
    write_json(run.folder / "transcripts.json", said)
    return {i: t.text for i, t in found.items()}


def check_source(source: Transcripts | None, reader: str) -> Transcripts:
    """The source of the texts that an encoder reads.

    Raises:
        SerkitError: there is none.
    """
    if source is None:
        raise SerkitError(
            f"encoder '{reader}' reads text and the recipe names no transcripts: set transcripts=corpus (its own "
            "text), whisper/large-v3, or a CSV file with id and text"
        )
    return source


def check_before_hearing(
    manifest: Manifest,
    encoders: Mapping[str, Encoder],
    machine: Machine,
    listener: Callable[[Any], None] | None = None,
    source: Transcripts | None = None,
) -> None:
    """Refuse what would fail once hours of transcription are done; brings weights from the hub that are not here.

    Args:
        manifest: what is to be extracted. encoders: by key, not loaded. machine: where it is done.
        listener: told the estimate of the features, without texts that are not known yet.
        source: of the transcripts, whose weights are asked for too.

    Raises:
        SerkitError: unavailable weights, of all models in one line. RunFailed: a disk that is too small.
    """
    models = [e.resolved for e in encoders.values() if isinstance(e, Pretrained)]
    models = [found for found in models if machine.engine == "local" or found.folder is not None]
    heard = []
    if source is not None and source.is_heard and source.engine == "transformers" and source.name != "whisper/random":
        heard = [checkpoints.resolve(source.name, family="whisper")]
    fetching.require([*heard, *models])
    for found in models:
        fetching.fetch(found)
        if reason := availability.absent_package(found):
            raise SerkitError(reason)
    specs = {key: encoder.spec for key, encoder in encoders.items()}
    size = sizes.estimate(manifest, specs, machine.store)
    if listener is not None:
        listener(size)
    there = {key: FeatureStore(machine.store, spec).n_bytes for key, spec in specs.items()}
    left = {key: max(0, n - there[key]) for key, n in size.bytes.items()}  # other corpora's count: never too strict
    sizes.refuse_small_disk(dataclasses.replace(size, bytes=left), machine.store)


def describe_texts(
    manifest: Manifest, source: Transcripts, texts: Mapping[str, tuple[str, Sequence[str]]]
) -> dict[str, Any]:
    """Source, number, flags and error rates of transcripts, as plain values.

    Args:
        manifest: rows with the corpus's own text, where it has any: the reference.
        source: as the recipe names it. texts: text and flags by utterance id.

    Returns:
        ``name``, ``texts``, ``flags`` (how many carry each) and, for a recogniser, what the recipe chose for it, its
        ``revision``, ``licence`` and ``note``, and ``wer`` and ``cer`` (rate, errors, n, texts) over the utterances
        with a reference.
    """
    flags = Counter(flag for _, given in texts.values() for flag in given)
    row: dict[str, Any] = {"name": source.name, "texts": len(texts), "flags": dict(sorted(flags.items()))}
    if source.name == "corpus":
        return row
    row |= source.choices
    if source.engine == "faster-whisper":
        row |= {"revision": "published", "licence": "unknown", "note": "as converted for faster-whisper"}
    elif source.is_heard and not source.name.endswith("/random"):
        found = checkpoints.resolve(source.name, family="whisper")
        row |= {"revision": found.revision, "licence": found.licence, "note": found.note}
    given = {u.id: u.text for u in manifest if u.text is not None and u.id in texts}
    if given:
        heard = [texts[name][0] for name in given]
        for key, measure in (("wer", word_errors.wer), ("cer", word_errors.cer)):
            found_rate = measure(list(given.values()), heard)
            row[key] = {"rate": found_rate.rate if found_rate.n else None, "errors": found_rate.errors,
                        "n": found_rate.n, "texts": found_rate.texts}  # fmt: skip
    return row
