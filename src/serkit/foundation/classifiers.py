"""Published classifiers of speech: what the files of a checkpoint say.

What its network computes is told in :mod:`serkit.foundation.classifier_networks`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serkit import checkpoints, emotion2vec_files, fetching
from serkit.checkpoint_files import read_json, weights_hash
from serkit.checkpoint_table import BY_NAME, UNKNOWN
from serkit.errors import SerkitError, did_you_mean, on_one_line
from serkit.foundation import author_classes
from serkit.foundation.loading import transformers_package
from serkit.foundation.speech import CLASSES
from serkit.hub import hub_errors, hub_package, unreached
from serkit.recordings import canonical_label, near_label
from serkit.types import ATTRIBUTES, CANONICAL_LABELS
from serkit.yaml_text import parse

ARCHITECTURES: Mapping[str, str] = {
    "Wav2Vec2ForSequenceClassification": "wav2vec2",
    "HubertForSequenceClassification": "hubert",
    "WavLMForSequenceClassification": "wavlm",
    "Wav2Vec2ForSpeechClassification": "wav2vec2",
    "HubertForSpeechClassification": "hubert",
    "WavLMForSpeechClassification": "wavlm",
    "WhisperForAudioClassification": "whisper",
}
"""Classes that are read, and their families."""
_PRETRAINED = re.compile(
    r"(Wav2Vec2|Hubert|WavLM)(Model|ForCTC|ForPreTraining|ForMaskedLM)|Whisper(Model|ForConditionalGeneration)"
)
_NAMELESS = re.compile(r"(label[_ -]?)?\d+", re.IGNORECASE)
_COMMIT = re.compile(r"[0-9a-f]{40}")
EMOTION2VEC = "Emotion2vec"  # class of FunASR
_OF_RATINGS = "EmotionModel"  # audEERING's code, whose weights and answers are those of …ForSpeechClassification
_LONGEST = 200  # characters of what a README says


@dataclass(frozen=True)
class Published:
    """What the files of a checkpoint say.

    Attributes:
        name: as asked for. short: its last part. title: where it is from, without a place on this machine.
        folder: of its files. architecture: class in its config.json.
        words: its own names of its classes, in their order; or of the ratings that it gives. labels: serkit's names.
        before_5: whether a transformers before version 5 wrote it, or it does not say.
        revision: commit of the hub, or ``weights-HASH`` of a folder. weights: hash of what decides its numbers.
        licence, datasets, languages: as the head of its README has them; ``unknown`` or empty where it has none.
    """

    name: str
    short: str
    title: str
    folder: Path
    architecture: str
    words: tuple[str, ...]
    labels: tuple[str, ...]
    before_5: bool
    revision: str
    weights: str
    licence: str
    datasets: tuple[str, ...]
    languages: tuple[str, ...]

    @property
    def rated(self) -> bool:
        """Whether it has no classes and gives ratings."""
        return is_rated(self.labels)

    @property
    def stem(self) -> str:
        """What the names of transformers' classes of its family begin with."""
        return self.architecture.partition("For")[0]


def read(name: str, renamed: Mapping[str, str] | None = None) -> Published:
    """What a checkpoint says of itself; brings its files from the hub, once its configuration is understood.

    Args:
        name: ``hub:ORG/MODEL``, or ``path:DIR``, a folder in the hub's layout; or ``emotion2vec/plus-base``, as in the
            table of checkpoints. renamed: see :func:`labels_of`.

    Raises:
        SerkitError: no such model, one that is none of :data:`ARCHITECTURES` or emotion2vec+, labels that
            :func:`labels_of` refuses, ratings without arousal or valence, or files that are missing.
        MissingExtra: transformers is not installed.
    """
    row = _emotion2vec_row(name)
    if row is None and not name.startswith(("hub:", "path:")):
        raise SerkitError(f"'{name}': expected hub:ORG/MODEL or path:DIR{_with_prefix(name)}")
    try:
        found = author_classes.resolve(row or name)
    except checkpoints.OtherType as error:
        raise SerkitError(f"'{name}' is of model_type '{error.kind}'; {_readable()}") from None
    if found.family == "emotion2vec":
        return _emotion2vec(name, found, renamed or {})
    transformers_package(name)
    if found.family in author_classes.CLASSES.values():
        return _of_author(name, found, renamed or {})
    words = _words(name, found.config)
    architecture = _architecture(name, found.config)
    labels = labels_of(name, words, renamed or {})
    _check_task(name, found.config, labels)
    folder = fetching.fetch(found)
    config = read_json(folder / "config.json", dict)
    if (_architecture(name, config), _words(name, config)) != (architecture, words):
        raise SerkitError(f"'{name}' changed on the hub while it was read; run the command again")
    before_5 = _major(config.get("transformers_version")) < 5
    return _published(name, found, folder, architecture, words, labels, before_5=before_5)


def _published(
    name: str,
    found: checkpoints.Resolved,
    folder: Path,
    architecture: str,
    words: tuple[str, ...],
    labels: tuple[str, ...],
    *,
    before_5: bool = True,
) -> Published:
    """With what the files and the README in a folder say."""
    said = _readme(found, folder)
    at_commit = found.folder is None and found.revision == "main" and _COMMIT.fullmatch(folder.name)
    return Published(
        name=name,
        short=found.hub.rpartition("/")[2] if found.hub else folder.resolve().name,
        title=_title(found, folder),
        folder=folder,
        architecture=architecture,
        words=words,
        labels=labels,
        before_5=before_5,
        revision=folder.name if at_commit else found.revision,
        weights=weights_hash(folder),
        licence=_licence(said),
        datasets=_listed(said.get("datasets")),
        languages=_listed(said.get("language")),
    )


def _of_author(name: str, found: checkpoints.Resolved, renamed: Mapping[str, str]) -> Published:
    """What the files of a class of :mod:`serkit.foundation.author_classes` say."""
    words = _words(name, author_classes.named(name, found.config))
    labels = labels_of(name, words, renamed)
    architecture = author_classes.architecture(name, found.config)
    folder = fetching.fetch(found)
    if read_json(folder / "config.json", dict) != found.config:
        raise SerkitError(f"'{name}' changed on the hub while it was read; run the command again")
    return _published(name, found, folder, architecture, words, labels)


def _emotion2vec_row(name: str) -> str | None:
    """The name of emotion2vec in serkit's table, of itself or of its id on the hub."""
    if name in checkpoints.replaced_sources() and name.startswith("hub:"):
        return None
    rows = checkpoints.rows("emotion2vec")
    return next((row.name for row in rows if name in (row.name, f"hub:{row.hub}")), None)


def _emotion2vec(name: str, found: checkpoints.Resolved, renamed: Mapping[str, str]) -> Published:
    """What the files of emotion2vec+ say.

    Raises:
        SerkitError: it has no classifier.
    """
    headless = SerkitError(
        f"'{name}' is emotion2vec without a classifier ({emotion2vec_files.TOKENS}), which only emotion2vec+ has. "
        f"Import emotion2vec/plus-base, or use its features: features: [{found.name}] in a recipe"
    )
    if found.folder is None and found.name == "emotion2vec/base":
        raise headless
    folder = fetching.fetch(found)
    if not (folder / emotion2vec_files.TOKENS).is_file():
        raise headless
    words = tuple(label for label in emotion2vec_files.labels(folder) if label is not None)
    if len(words) < 2:
        raise SerkitError(f"'{name}': {emotion2vec_files.TOKENS} has {len(words)} used class, expected two or more")
    return _published(name, found, folder, EMOTION2VEC, words, labels_of(name, words, renamed))


def is_rated(words: Sequence[str]) -> bool:
    """Whether the names of a checkpoint's answers are those of ratings.

    >>> is_rated(["Arousal", "valence"]), is_rated(["anger"])
    (True, False)
    """
    return bool(words) and {word.lower() for word in words} <= set(ATTRIBUTES)


def _by_word(name: str, words: Sequence[str], renamed: Mapping[str, str]) -> dict[str, str]:
    """New names by the checkpoint's own words, from what ``--labels`` says by these or by numbers."""
    numbers = {str(k): word for k, word in enumerate(words)}
    given: dict[str, str] = {}
    for key, value in renamed.items():
        word = key if key in words else numbers.get(key)
        if word is None:
            raise SerkitError(f"'{name}' has no label '{key}'" + did_you_mean(key, words))
        near = near_label(value, CANONICAL_LABELS) if canonical_label(value) not in CANONICAL_LABELS else None
        if near is not None:
            raise SerkitError(f"--labels {key}={value}: '{value}' is not a known emotion; did you mean '{near}'?")
        given[word] = value
    return given


def labels_of(name: str, words: Sequence[str], renamed: Mapping[str, str]) -> tuple[str, ...]:
    """The classes of a checkpoint by serkit's names: the canonical one where its own word is clear, else that word.

    Or the ratings that it gives, where all names are of ratings.

    Args:
        name: of the checkpoint, for messages. words: its own.
        renamed: names by its own words, or by the numbers of its classes; they come before all else.

    Raises:
        SerkitError: a word that the checkpoint does not have, classes without a name, two of one name, a name with a
            comma or a bar, or names of ratings without arousal or valence.
    """
    given = _by_word(name, words, renamed)
    if is_rated(rated := [given.get(word, word) for word in words]):
        return _ratings(name, rated)
    nameless = [word for word in words if _NAMELESS.fullmatch(word) and word not in given]
    if nameless:
        example = ",".join(f"{word}=NAME" for word in nameless[:2])
        raise SerkitError(
            f"'{name}' does not say what its classes are: {', '.join(nameless)}. Its README may; name them: "
            f"--labels {example}{',…' if len(nameless) > 2 else ''}"
        )
    found = tuple(canonical_label(given.get(word, word)) or word for word in words)
    for number, label in enumerate(found):
        if any(mark in label for mark in ",|"):
            raise SerkitError(
                f"'{name}': the label '{label}' has a comma or a bar, which divide labels in --labels and in tables of "
                f"answers; give it another name: --labels {number}=NAME"
            )
    twice = [label for label, n in Counter(found).items() if n > 1]
    if twice:
        own = ", ".join(word for word, label in zip(words, found, strict=True) if label == twice[0])
        raise SerkitError(
            f"'{name}': {own} would all be '{twice[0]}', and classes are not added up; give them different "
            "names: --labels WORD=NAME,…"
        )
    return found


def _ratings(name: str, names: Sequence[str]) -> tuple[str, ...]:
    """Ratings that a checkpoint gives by serkit's names."""
    found = tuple(word.lower() for word in names)
    if len(set(found)) != len(found) or not {"arousal", "valence"} <= set(found):
        raise SerkitError(
            f"'{name}' gives {', '.join(names)} as numbers, expected arousal and valence, and perhaps dominance, each "
            "once"
        )
    return found


def _check_task(name: str, config: Mapping[str, Any], labels: Sequence[str]) -> None:
    """Refuse a checkpoint that was trained for something else than its labels say."""
    task, expected = config.get("problem_type"), "regression" if is_rated(labels) else "single_label_classification"
    if task not in (None, expected):
        way_out = "; if its numbers are ratings, name them: --labels WORD=arousal,…" if task == "regression" else ""
        raise SerkitError(f"'{name}' is for {task}, expected {expected} of {', '.join(labels)}{way_out}")


def _title(found: checkpoints.Resolved, folder: Path) -> str:
    if found.hub is None:
        return f"the local folder {folder.resolve().name}"
    return f"hub:{found.hub}" + (" (the files of a local folder in its place)" if found.substituted else "")


def _major(version: Any) -> int:
    """The first number of a version; 0 where there is none."""
    found = re.match(r"\d+", str(version))
    return int(found[0]) if found else 0


def _with_prefix(name: str) -> str:
    if name in BY_NAME:
        family = BY_NAME[name].family
        trained = f"serkit run finetune --set model.backbone={name}" if family in CLASSES else f"features: [{name}]"
        return f"; that is a network without a classifier: {trained}"
    if name.startswith("emotion2vec/"):
        return did_you_mean(name, [row.name for row in checkpoints.rows("emotion2vec")])
    if Path(name).is_dir():
        return f"; did you mean path:{name}?"
    return f"; did you mean hub:{name}?" if re.fullmatch(r"[\w.-]+/[\w.-]+", name) else ""


def _readable() -> str:
    own = ", ".join(author_classes.CLASSES)
    return f"import reads {', '.join(ARCHITECTURES)}, {own}, and emotion2vec+"


def _architecture(name: str, config: Mapping[str, Any]) -> str:
    """The class of a checkpoint, refused where it is none of :data:`ARCHITECTURES`."""
    listed, kind = config.get("architectures"), str(config.get("model_type"))
    found = str(listed[0]) if isinstance(listed, list) and listed else ""
    if ARCHITECTURES.get(found) == kind:
        return found
    if _PRETRAINED.fullmatch(found):
        what = (
            "recognises words"
            if found.endswith(("ForCTC", "ForConditionalGeneration"))
            else "is a network without a classifier"
        )
        raise SerkitError(
            f"'{name}' {what} ({found}) and answers no emotions. Train a classifier on it: serkit run finetune --set "
            f"model.backbone={name}, or name it under features: in a recipe"
        )
    if not found:
        raise SerkitError(f"'{name}': its config.json names no architectures: which class is it? {_readable()}")
    if found in ARCHITECTURES:
        raise SerkitError(f"'{name}': its config.json says {found} and model_type '{kind}', which do not agree")
    if found == _OF_RATINGS and kind in ARCHITECTURES.values() and is_rated(_words(name, config)):
        near = (c for c, family in ARCHITECTURES.items() if family == kind and c.endswith("ForSpeechClassification"))
        if copied := next(near, None):
            return copied
    if found.endswith(("ForSpeechClassification", "EmotionModel")):
        raise SerkitError(
            f"'{name}' is of the class {found}, which is code of its author's own and no part of transformers; serkit "
            f"runs no such code; {_readable()}"
        )
    raise SerkitError(f"'{name}' is of the class {found} (model_type '{kind}'), which is not supported; {_readable()}")


def _words(name: str, config: Mapping[str, Any]) -> tuple[str, ...]:
    """The checkpoint's own names of its classes, in their order."""
    table = config.get("id2label")
    if table is None:
        table = {"0": "LABEL_0", "1": "LABEL_1"}  # as transformers has it
    try:
        by_number = {int(k): " ".join(str(v).split()) for k, v in dict(table).items()}
    except (TypeError, ValueError):
        by_number = {}
    if sorted(by_number) != list(range(len(by_number))) or not all(w and on_one_line(w) for w in by_number.values()):
        raise SerkitError(f"'{name}': id2label of its config.json is damaged: expected a name for each of 0, 1, 2 …")
    words = tuple(by_number[k] for k in range(len(by_number)))
    if len(words) < 2 or len(set(words)) != len(words):
        raise SerkitError(f"'{name}': its labels are {', '.join(words) or 'none'}, expected two or more, each once")
    return words


def _readme(found: checkpoints.Resolved, folder: Path) -> dict[str, Any]:
    """The head of a checkpoint's README, which says of licence and data; empty where there is none."""
    at = folder / "README.md"
    if not at.is_file() and found.folder is None:
        hub = hub_package(found.name)
        revision = folder.name if _COMMIT.fullmatch(folder.name) else found.revision
        try:
            at = Path(
                hub.hf_hub_download(found.hub, "README.md", revision=revision, local_files_only=bool(unreached(hub)))
            )
        except hub_errors(hub):
            return {}
    try:
        text = at.read_text(encoding="utf-8", errors="replace")
        begin, head, _ = re.split(r"^---[ \t]*\r?$", text, maxsplit=2, flags=re.MULTILINE)
        said = {} if begin.strip("\ufeff \n\r\t") else parse(head, str(at))
    except (OSError, ValueError, SerkitError):
        return {}
    return said if isinstance(said, dict) else {}


def _listed(value: Any) -> tuple[str, ...]:
    """Words of a README, one or a list of them, each in one line."""
    many = value if isinstance(value, list) else [] if value is None else [value]
    lines = (" ".join("".join(c if c.isprintable() else " " for c in str(one)).split())[:_LONGEST] for one in many)
    return tuple(line for line in lines if line)


def _licence(said: Mapping[str, Any]) -> str:
    names = ", ".join(_listed(said.get("license")))
    own = ", ".join(_listed(said.get("license_name")))
    return f"{names} ({own})" if names and own else names or own or UNKNOWN
