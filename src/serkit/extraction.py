"""From a manifest to features: into the store (:func:`extract`), or in memory (:func:`compute`, for serving)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from serkit.batching import Batch, Item, items_of, kept, planned, share, text_of
from serkit.contents import SilentClips, item_key, text_key
from serkit.encoding import Encoder, WithWeights
from serkit.engines import Outcome, Run, encode, ray_cluster, run_local, run_ray
from serkit.errors import RunFailed, SerkitError, check_known
from serkit.features import Features
from serkit.fetching import require
from serkit.foundation.base import Pretrained
from serkit.hashes import ContentHashes
from serkit.progress import Meter, ProgressCallback
from serkit.residency import Turn, free_memory, turns
from serkit.sizes import SizeEstimate, estimated, refuse_small_disk
from serkit.store import SHARD_BYTES, SHARD_S, Failure, FeatureStore, StoreWriter, round_frames
from serkit.types import Manifest, Utterance

ENGINES = ("local", "ray")
_RAY_PARTS = 64  # a small extraction is cut into as many batches, whatever the size of the cluster
BATCH_S, GPU_BATCH_S = 120.0, 960.0  # the most that an encoder computes at once on a GPU (Whisper)
MAX_ITEMS, GPU_MAX_ITEMS = 256, 1024


def compute(
    samples: np.ndarray | None, encoders: Mapping[str, Encoder] | Sequence[Encoder], *, text: str | None = None
) -> dict[str, np.ndarray]:
    """Features of one clip in memory: the numbers that :func:`extract` would have stored for it.

    Args:
        samples: (samples,) float32 mono 16 kHz in [-1, 1], for audio encoders.
        encoders: by name, or a sequence that is named by its specs. text: for text encoders.

    Returns:
        By encoder name, (frames, dim) in the dtype of its spec.

    Raises:
        SerkitError: a modality is absent, or an encoder refuses the clip.
        RunFailed: an encoder failed.
    """
    found: dict[str, np.ndarray] = {}
    for name, encoder in _named(encoders).items():
        content = samples if encoder.spec.modality == "audio" else text
        if content is None:
            raise SerkitError(f"encoder '{name}' reads {encoder.spec.modality}, and none was given")
        encoder.load()
        result = encode(encoder, [content], ["clip"])[0]
        if isinstance(result, SerkitError):
            raise result
        found[name] = round_frames(result, encoder.spec)
    return found


def extract(
    manifest: Manifest,
    encoders: Mapping[str, Encoder] | Sequence[Encoder],
    store: Path | str,
    *,
    jobs: int = 1,
    device: str = "cpu",
    engine: str = "local",
    address: str | None = None,
    progress: ProgressCallback | None = None,
    announce: Callable[[SizeEstimate], None] | None = None,
    batch_seconds: float | None = None,
    texts: Mapping[str, str] | None = None,
    empty_text: bool = False,
    exclude: Iterable[str] = (),
    retry: bool = False,
    shard_bytes: int = SHARD_BYTES,
    shard_s: float = SHARD_S,
    reserved: int = 0,
) -> dict[str, Features]:
    """Bring the features of a manifest into the store; what is there already is not done again.

    Every recording is decoded once for all encoders that fit into memory beside each other
    (:func:`serkit.residency.turns`); the others wait for their turn. Workers decode and encode; this process alone
    writes, so that one shard per encoder is open. A recording that cannot be read is listed with its
    reason and does not stop the others: :func:`serkit.features.require_complete` refuses the result then.
    Going on with an extraction that was stopped gives the bytes of an unbroken one: :func:`serkit.batching.planned`.

    Args:
        manifest: what to extract. encoders: by name, or a sequence that is named by its specs.
        store: folder of all features, shared by runs and corpora.
        jobs: worker processes. device: of the encoders. engine: who works: ``local``, or ``ray``, a cluster.
        address: of the Ray cluster; see :func:`serkit.engines.ray_cluster`.
        progress: handed a :class:`serkit.progress.Progress` now and then, for each of three stages and each turn.
        announce: handed the :class:`SizeEstimate` of what is left to do, before the first byte is written.
        batch_seconds: encoders get items of similar length, up to this many seconds; by default what suits the device.
        texts: by id, for text encoders; where absent, the corpus's own text.
        empty_text: an utterance without text is read as an empty one.
        exclude: ids to leave out. retry: try again what failed before with the same content.
        shard_bytes, shard_s: a shard is finished at this size or age; a crash loses at most the open one.
        reserved: bytes that must be left on the disk for what is extracted later.

    Returns:
        By encoder name, its :class:`Features`.

    Raises:
        SerkitError: an unknown id or engine, a missing text, an encoder that cannot be loaded.
        RunFailed: the disk is too small or full, an encoder failed, a worker died. Finished shards stay.
    """
    check_known(engine, ENGINES, f"no extraction engine '{engine}'")
    utterances, root = kept(manifest, exclude), Path(store)
    plan = _plan(manifest, utterances, _named(encoders), root, jobs, progress, texts, empty_text, retry)
    size = estimated([i for i in plan.items if i.encoders], {n: e.spec for n, e in plan.encoders.items()}, root)
    if announce is not None:
        announce(size)
    if plan.busy:
        refuse_small_disk(size, root, reserved)
        how = _How(jobs, device, engine == "ray", address, batch_seconds, shard_bytes, shard_s)
        _carry_out(plan, how, SilentClips(root), progress)
    silent = SilentClips(root).keys
    paths = {u.id: str(manifest.audio_path(u)) for u in utterances}
    found: dict[str, Features] = {}
    for name, there in plan.stores.items():
        keys = plan.keys[name]
        found[name] = Features(there, keys, _reasons(there, keys, paths), silent)
    return found


def lacking(
    manifest: Manifest,
    encoders: Mapping[str, Encoder],
    store: Path | str,
    *,
    jobs: int = 1,
    progress: ProgressCallback | None = None,
) -> SizeEstimate:
    """What :func:`extract` of the same audio would announce: the features that are not in the store yet."""
    plan = _plan(manifest, tuple(manifest), dict(encoders), Path(store), jobs, progress, None, False, False)
    return estimated([i for i in plan.items if i.encoders], {n: e.spec for n, e in encoders.items()}, Path(store))


@dataclass(frozen=True)
class _How:
    """Who works, and how much at once; see :func:`extract`."""

    jobs: int
    device: str
    far: bool
    address: str | None
    batch_seconds: float | None
    shard_bytes: int
    shard_s: float


@dataclass(frozen=True)
class _Plan:
    """What there is to do: by encoder name its store, the key of each utterance, and the keys that it lacks."""

    encoders: dict[str, Encoder]
    stores: dict[str, FeatureStore]
    keys: dict[str, dict[str, str]]
    wanted: dict[str, set[str]]
    items: list[Item]

    @property
    def busy(self) -> dict[str, Encoder]:
        """The encoders that lack something."""
        return {name: encoder for name, encoder in self.encoders.items() if self.wanted[name]}


def _plan(
    manifest: Manifest,
    utterances: Sequence[Utterance],
    named: dict[str, Encoder],
    root: Path,
    jobs: int,
    progress: ProgressCallback | None,
    texts: Mapping[str, str] | None,
    empty_text: bool,
    retry: bool,
) -> _Plan:
    audio = tuple(name for name, e in named.items() if e.spec.modality == "audio")
    readers = tuple(name for name, e in named.items() if e.spec.modality == "text")
    shared: dict[str, FeatureStore] = {}
    stores = {n: shared.setdefault(e.spec.fingerprint, FeatureStore(root, e.spec)) for n, e in named.items()}
    said = _texts(utterances, texts, empty_text, readers)
    heard, lost = _audio_keys(manifest, utterances, root, jobs, progress) if audio else ({}, [])
    written = {u: text_key(text) for u, text in said.items()}
    keys = {name: heard if name in audio else written for name in named}
    wanted = _wanted(stores, keys, {name: lost if name in audio else [] for name in named}, retry)
    shut = {failure.key for failure in lost}
    opened = {u: key for u, key in heard.items() if key not in shut}
    items = items_of(
        manifest, utterances, opened, said, {n: wanted[n] for n in audio}, {n: wanted[n] for n in readers}, progress
    )
    return _Plan(named, stores, keys, wanted, items)


def _carry_out(plan: _Plan, how: _How, silence: SilentClips, progress: ProgressCallback | None) -> None:
    """Bring what is lacking into the stores, one group of encoders that fit into memory after the other."""
    busy, jobs, device = plan.busy, how.jobs, how.device
    order = turns(busy, jobs, device, 0 if how.far else free_memory(device))
    work = _batches(plan, how)
    with ray_cluster(how.address) if how.far else contextlib.nullcontext():
        here = () if how.far else tuple(busy.values())
        require(e.resolved for e in here if isinstance(e, Pretrained))
        for encoder in here:
            if isinstance(encoder, WithWeights):
                encoder.fetch()  # what cannot be had is said before hours of another's turn
        for number, turn in enumerate(order, start=1):
            mine = share(work, {name: plan.wanted[name] for name in turn.names})
            run = _run(mine, {name: busy[name] for name in turn.names}, turn, device, how.far)
            meter = _meter("extract" if len(order) == 1 else f"extract {number} of {len(order)}", mine, progress)
            stores = {name: plan.stores[name] for name in turn.names}
            _write(run, stores, plan.wanted, meter, silence, how)


def _batches(plan: _Plan, how: _How) -> list[Batch]:
    """All that there is to do, audio first."""
    parts = _RAY_PARTS if how.far else 4 * how.jobs if how.jobs > 1 else 1
    longest_s, most = (BATCH_S, MAX_ITEMS) if how.device == "cpu" else (GPU_BATCH_S, GPU_MAX_ITEMS)
    whole = {n for n, e in plan.busy.items() if isinstance(e, WithWeights) and e.resident_bytes(how.device)}
    work: list[Batch] = []
    for is_text in (False, True):
        chosen = [item for item in plan.items if (item.text is not None) == is_text]
        work += planned(chosen, how.batch_seconds or longest_s, parts, most, whole)
    return work


def _run(work: Sequence[Batch], encoders: Mapping[str, Encoder], turn: Turn, device: str, far: bool) -> Run:
    if far:
        return run_ray(work, encoders, device=device, memory=turn.bytes)
    return run_local(work, encoders, jobs=turn.jobs, device=device, threads=turn.threads)


def _meter(stage: str, work: Iterable[Batch], progress: ProgressCallback | None) -> Meter:
    items = [item for batch in work for item in batch if item.n_utterances]
    total = sum(item.n_utterances for item in items)
    return Meter(stage, total, progress, total_audio_s=sum(item.duration_s for item in items))


def _named(encoders: Mapping[str, Encoder] | Sequence[Encoder]) -> dict[str, Encoder]:
    if isinstance(encoders, Mapping):
        return dict(encoders)
    named: dict[str, Encoder] = {}
    for encoder in encoders:
        if encoder.spec.name in named:
            raise SerkitError(f"encoder '{encoder.spec.name}' is given twice; each must have its own name")
        named[encoder.spec.name] = encoder
    return named


def _texts(
    utterances: Sequence[Utterance], texts: Mapping[str, str] | None, empty_text: bool, readers: Sequence[str]
) -> dict[str, str]:
    """Text by id, where some encoder reads."""
    if not readers:
        return {}
    said = {u.id: text_of(u, texts) for u in utterances}
    silent = [name for name, text in said.items() if text is None]
    if silent and not empty_text:
        shown = ", ".join(f"'{name}'" for name in silent[:3]) + (", …" if len(silent) > 3 else "")
        raise SerkitError(
            f"encoder '{readers[0]}' reads text, and {len(silent)} of {len(said)} utterances have none: {shown}; give "
            "transcripts, or allow empty texts"
        )
    return {name: text or "" for name, text in said.items()}


def _audio_keys(
    manifest: Manifest, utterances: Sequence[Utterance], root: Path, jobs: int, progress: ProgressCallback | None
) -> tuple[dict[str, str], list[Failure]]:
    """Content key by id, and a failure for each recording that cannot be opened at all."""
    paths = {u.id: manifest.audio_path(u) for u in utterances}
    meter = Meter("hash", len(set(paths.values())), progress, unit="files")
    hashes = ContentHashes(root / "hashes.jsonl").of(list(paths.values()), jobs=jobs, meter=meter)
    keys: dict[str, str] = {}
    lost: list[Failure] = []
    for u in utterances:
        content = hashes[paths[u.id]]
        if isinstance(content, SerkitError):
            keys[u.id] = text_key(f"no content: {paths[u.id]}")
            lost.append(Failure(keys[u.id], u.id, str(paths[u.id]), str(content)))
        else:
            keys[u.id] = item_key(content, u.start_s, u.end_s, u.channel)
    return keys, lost


def _wanted(
    stores: Mapping[str, FeatureStore],
    keys: Mapping[str, Mapping[str, str]],
    lost: Mapping[str, list[Failure]],
    retry: bool,
) -> dict[str, set[str]]:
    """By encoder name, the keys to extract; of two names for one store, the first does the work."""
    wanted: dict[str, set[str]] = {}
    taken: set[Path] = set()
    for name, store in stores.items():
        known = store.failures
        store.record_failures(failure for failure in lost[name] if known.get(failure.key) != failure)
        left_out = {failure.key for failure in lost[name]} | (set() if retry else set(known))
        wanted[name] = set() if store.folder in taken else set(store.missing(keys[name].values())) - left_out
        taken.add(store.folder)
    return wanted


def _write(
    run: Run,
    stores: Mapping[str, FeatureStore],
    wanted: Mapping[str, set[str]],
    meter: Meter,
    silence: SilentClips,
    how: _How,
) -> None:
    """Take what workers give into the stores, and list what they could not do; what is not wanted is passed over."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.closing(run))
        writers = {
            name: stack.enter_context(store.writer(shard_bytes=how.shard_bytes, shard_s=how.shard_s))
            for name, store in stores.items()
        }
        for batch, outcomes in run:
            failures: dict[str, list[Failure]] = {}
            silence.add(item.key for item, outcome in zip(batch, outcomes, strict=True) if outcome.silent)
            for item, outcome in zip(batch, outcomes, strict=True):
                _store(item, outcome, {n: w for n, w in writers.items() if item.key in wanted[n]})
                reasons = {name: reason for name, reason in outcome.reasons.items() if item.key in wanted[name]}
                for name, reason in reasons.items():
                    failures.setdefault(name, []).append(Failure(item.key, item.id, item.path, reason))
                n = item.n_utterances
                meter.advance(n, audio_s=item.duration_s if n else 0.0, failed=n if reasons else 0)
            for name, rows in failures.items():
                stores[name].record_failures(rows)


def _store(item: Item, outcome: Outcome, writers: Mapping[str, StoreWriter]) -> None:
    """Write an item's features; what cannot be stored becomes a reason."""
    for name, writer in writers.items():
        if name not in outcome.features:
            continue
        try:
            writer.add(item.key, outcome.features[name])
        except RunFailed:
            raise
        except SerkitError as error:
            outcome.reasons[name] = str(error)


def _reasons(store: FeatureStore, keys: Mapping[str, str], paths: Mapping[str, str]) -> dict[str, str]:
    """Why an utterance has no features; of copies of one file, each under its own path, not the one it was met as."""
    failures = store.failures
    found = {name: failures[key] for name, key in keys.items() if key in failures}
    return {name: f.reason.replace(f.path, paths[name]) if f.path else f.reason for name, f in found.items()}
