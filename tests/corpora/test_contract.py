"""What every corpus promises. Adding one is a file in src/serkit/corpora and a test file with
``build(root) -> root`` and ``EXPECTED`` (id → fields) here; nothing else."""

from __future__ import annotations

import importlib
import inspect
import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import serkit.corpora
from serkit.cards import Card
from serkit.errors import SerkitError
from serkit.recordings import order_labels
from serkit.types import CANONICAL_LABELS, Manifest

from .examples import check_rows, touch

FOLDER = Path(serkit.corpora.__file__).parent
NAMES = sorted(p.stem for p in FOLDER.glob("*.py") if not p.stem.startswith("_"))
INFO_KEYS = (
    "corpus_version", "protocol", "protocol_version", "fold", "folds", "label_map", "speakers", "speakers_shared",
    "count_findings", "notes",
)  # fmt: skip


def corpus(name: str) -> tuple[ModuleType, Any]:
    module = importlib.import_module(f"serkit.corpora.{name}")
    return module, getattr(module, name)


def example(name: str) -> ModuleType:
    """The test file of a corpus, which holds ``build`` and ``EXPECTED``; and, where there are some, ``TABLES``, the
    files that labels come from, ``OPTIONS`` of the reader, and ``SKIP_PROTOCOLS``."""
    try:
        module = importlib.import_module(f".test_{name}", __package__)
    except ModuleNotFoundError:
        pytest.fail(f"corpus '{name}' has no tests/corpora/test_{name}.py with build(root) and EXPECTED")
    assert callable(module.build)
    assert module.EXPECTED
    return module


@pytest.fixture(scope="module", params=NAMES)
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A corpus and the root of its example tree, made once."""
    name: str = request.param
    return name, example(name).build(tmp_path_factory.mktemp(name))


def read(name: str, root: Path, **keywords: Any) -> Manifest:
    options = dict(getattr(example(name), "OPTIONS", {}))  # keywords that the example tree needs
    manifest = corpus(name)[1](root, **{**options, **keywords})
    assert isinstance(manifest, Manifest)
    return manifest


def test_there_are_corpora() -> None:
    assert {"toy", "table", "ravdess", "ased", "emodb", "savee", "crema_d", "tess"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_card(name: str) -> None:
    card = corpus(name)[0].CARD
    assert isinstance(card, Card)
    assert card.name == name
    assert card.title
    assert card.licence
    assert card.layout
    assert card.protocols
    if card.kind not in ("any", "synthetic"):
        assert card.url
        assert card.citation
    assert order_labels(card.labels) == tuple(card.labels), "labels in canonical order"
    assert set(card.labels) <= set(CANONICAL_LABELS)
    if card.labels:
        assert set(card.labels) <= set(card.label_map.values())
    assert {x for x in card.label_map.values() if x is not None} <= set(CANONICAL_LABELS)
    assert set(card.counts) <= set(card.labels)
    for count in (card.speakers, card.utterances, *card.counts.values()):
        assert count.source, "a published number says where it was read"
    names = [p.name for p in card.protocols]
    assert len(set(names)) == len(names)
    for protocol in card.protocols:
        assert protocol.version >= 1
        assert protocol.folds >= 1
        assert len(protocol.description) > 20
        if protocol.speakers_shared:
            assert "shar" in protocol.description.lower(), "a protocol that shares speakers says so"


@pytest.mark.parametrize("name", NAMES)
def test_one_public_callable_with_the_agreed_signature(name: str) -> None:
    module, function = corpus(name)
    public = [
        key
        for key, value in vars(module).items()
        if callable(value) and not key.startswith("_") and getattr(value, "__module__", None) == module.__name__
    ]
    assert public == [name]
    parameters = inspect.signature(function).parameters
    assert next(iter(parameters)) == "root"
    for key, default in (("protocol", None), ("fold", 1), ("seed", 0)):
        assert parameters[key].kind is inspect.Parameter.KEYWORD_ONLY
        assert parameters[key].default == default
    for key, parameter in parameters.items():
        assert key == "root" or parameter.default is not inspect.Parameter.empty, f"{key} has a default"
    assert function.__doc__


def test_importing_corpora_stays_light() -> None:
    lines = [f"import serkit.corpora.{name}" for name in NAMES]
    heavy = ("torch", "sklearn", "scipy", "pyarrow", "soundfile", "transformers", "audformat", "pandas", "librosa")
    code = "\n".join(["import sys, json", *lines, f"print(json.dumps([x for x in {heavy!r} if x in sys.modules]))"])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []


def test_example_tree_gives_the_expected_rows(built: tuple[str, Path]) -> None:
    name, root = built
    manifest = read(name, root)
    check_rows(manifest, example(name).EXPECTED)
    n_rows = getattr(example(name), "N_ROWS", None)
    assert n_rows is None or len(manifest) == n_rows
    for u in manifest:
        assert "label" in u.meta or u.emotion is None, "the corpus's own word stays in meta"
    card = corpus(name)[0].CARD
    assert manifest.corpus == name
    if card.labels:
        assert set(manifest.labels) <= set(card.labels)


def test_info_says_what_a_report_needs(built: tuple[str, Path]) -> None:
    name, root = built
    card = corpus(name)[0].CARD
    info = read(name, root).info
    assert [key for key in INFO_KEYS if key not in info] == []
    assert info["protocol"] == card.protocols[0].name
    assert info["protocol_version"] == card.protocols[0].version
    json.dumps(info)  # plain values only: it is written into the manifest
    for note in card.notes:
        assert note in info["notes"]


def test_the_same_tree_gives_the_same_manifest_anywhere(built: tuple[str, Path], tmp_path: Path) -> None:
    name, root = built
    first, second = read(name, root), read(name, root)
    assert first.fingerprint == second.fingerprint
    base = root if root.is_dir() else root.parent
    copy = shutil.copytree(base, tmp_path / "elsewhere")
    moved = read(name, copy if root.is_dir() else copy / root.name)
    assert moved.fingerprint == first.fingerprint
    assert moved.split_hash == first.split_hash
    moved.save(tmp_path / "manifest.jsonl")
    assert Manifest.load(tmp_path / "manifest.jsonl").fingerprint == first.fingerprint


def test_every_protocol_keeps_its_word(built: tuple[str, Path]) -> None:
    name, root = built
    skipped = getattr(example(name), "SKIP_PROTOCOLS", ())  # protocols that the example tree is too small for
    for protocol in corpus(name)[0].CARD.protocols:
        if protocol.name in skipped:
            continue
        first = read(name, root, protocol=protocol.name)
        folds = int(first.info["folds"])
        assert 1 <= folds <= protocol.folds
        tested: set[str | None] = set()
        for fold in range(1, folds + 1):
            manifest = read(name, root, protocol=protocol.name, fold=fold)
            who = {s: {u.speaker for u in manifest.split(s)} - {None} for s in ("train", "dev", "test")}
            assert all(len(manifest.split(s)) for s in who), (protocol.name, fold, "every split has rows")
            tested |= who["test"]
            if not protocol.speakers_shared and not manifest.speakers_shared:
                assert not who["train"] & who["dev"]
                assert not who["train"] & who["test"]
                assert not who["dev"] & who["test"]
            else:
                assert any("share" in note for note in manifest.info["notes"]), "said aloud in every report"
        if folds > 1:
            speakers = {u.speaker for u in first if u.speaker is not None}
            assert tested == speakers, "every speaker is tested once over the folds"


def test_the_same_clip_in_other_formats_changes_nothing(built: tuple[str, Path], tmp_path: Path) -> None:
    name, root = built
    base = root if root.is_dir() else root.parent
    copy = shutil.copytree(base, tmp_path / "twice")
    for clip in [*copy.rglob("*.wav")]:
        for suffix in (".flac", ".mp3", ".aiff"):
            shutil.copy(clip, clip.with_suffix(suffix))
    again = read(name, copy if root.is_dir() else copy / root.name)
    assert again.fingerprint == read(name, root).fingerprint


TABLES = [(name, table) for name in NAMES for table in getattr(example(name), "TABLES", ())]
DAMAGE = {
    "no text": lambda content: bytes(range(128, 256)),
    "empty": lambda content: b"",
    "cut short": lambda content: content[: len(content) * 2 // 3],
    "another encoding at the end": lambda content: content + "zażółć\n".encode("utf-16"),
    "words for numbers": lambda content: content.replace(b"0", b"zero").replace(b"1", b"one.x"),
    "one bracket": lambda content: b"[",
    "a stray quote": lambda content: content + b'"abc,"d\n',
}
SURE = ("no text", "one bracket")  # of which nothing can be left to read


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize(("name", "table"), TABLES)
def test_a_damaged_file_of_a_corpus_is_one_clear_line(name: str, table: str, damage: str, tmp_path: Path) -> None:
    root = example(name).build(tmp_path / "there")
    read(name, root)
    path = (root if root.is_dir() else root.parent) / table
    path.write_bytes(DAMAGE[damage](path.read_bytes()))
    said = ""
    try:
        read(name, root)
    except SerkitError as error:
        said = str(error)
    assert said or damage not in SURE
    assert "\n" not in said
    assert not said or any(word in said for word in (path.name, str(root), name)), said


def refused(name: str, root: Path, **keywords: Any) -> str:
    with pytest.raises(SerkitError) as caught:
        read(name, root, **keywords)
    message = str(caught.value)
    assert "\n" not in message, "one line"
    assert caught.value.exit_code == 2
    return message


def test_unknown_protocol_and_fold_are_refused(built: tuple[str, Path]) -> None:
    name, root = built
    known = corpus(name)[0].CARD.protocols[0].name
    assert known in refused(name, root, protocol=known + "x")
    assert "fold" in refused(name, root, fold=0)
    assert "99" in refused(name, root, fold=99)


@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_root_is_one_clear_line(name: str, tmp_path: Path) -> None:
    if corpus(name)[0].CARD.kind != "synthetic":  # which writes itself into a new folder
        assert "nowhere" in refused(name, tmp_path / "nowhere")
        (tmp_path / "empty").mkdir()
        refused(name, tmp_path / "empty")
    other = touch(tmp_path / "other", ["holiday/beach.wav", "holiday/sea.flac"])
    assert "other" in refused(name, other)
    (tmp_path / "file.bin").write_bytes(b"\0\1")
    refused(name, tmp_path / "file.bin")
