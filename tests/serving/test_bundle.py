"""A bundle is read whole or refused in one line; loading it runs nothing and loads nothing heavy."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import serkit
from serkit.errors import SerkitError
from serkit.files import content_hash
from serkit.serving import bundle as bundles
from serkit.serving.bundle import open_bundle, write_bundle

from .signals import GOLDEN


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with zipfile.ZipFile(GOLDEN) as archive:
        archive.extractall(tmp_path / "tiny")
    return tmp_path / "tiny"


def rewrite(folder: Path, **changes: Any) -> None:
    head = json.loads((folder / "bundle.json").read_text(encoding="utf-8"))
    (folder / "bundle.json").write_text(json.dumps({**head, **changes}), encoding="utf-8")


def test_answering_loads_neither_torch_nor_scikit_learn(tmp_path: Path) -> None:
    code = (
        "import sys, numpy as np, serkit\n"
        f"model = serkit.load({str(GOLDEN)!r})\n"
        "print(model.predict(np.sin(np.arange(16000) / 9).astype('f4'), rate_hz=16000, threshold=None).label)\n"
        "heavy = ('torch', 'sklearn', 'skops', 'scipy', 'transformers', 'pyarrow', 'pandas', 'matplotlib', 'pickle5')\n"
        "print([m for m in heavy if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    label, loaded = done.stdout.splitlines()
    assert label in ("anger", "fear", "happiness", "neutral", "sadness")
    assert loaded == "[]"


def test_nothing_is_there() -> None:
    with pytest.raises(SerkitError, match="no bundle at nowhere/at/all"):
        serkit.load("nowhere/at/all")
    with pytest.raises(SerkitError, match="no bundle 'basic': neither a path nor a name"):
        serkit.load("basic")


def test_names_are_found_in_the_package(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundles, "NAMED", folder.parent)
    (folder.parent / "notes.txt").write_text("no bundle")
    (folder.parent / "other.zip").write_bytes(GOLDEN.read_bytes())
    assert bundles.names() == ("other", "tiny")
    assert serkit.load("other").id == serkit.load("tiny").id
    with pytest.raises(SerkitError, match="did you mean 'tiny'"):
        open_bundle("tinny")


def test_a_run_is_not_a_bundle(tmp_path: Path) -> None:
    for name in ("recipe.yaml", "manifest.jsonl"):
        (tmp_path / name).write_text("x")
    with pytest.raises(SerkitError, match="make a bundle of it with 'serkit bundle"):
        open_bundle(tmp_path)


def test_a_later_format_is_refused(folder: Path) -> None:
    rewrite(folder, format=99, serkit="7.0")
    with pytest.raises(SerkitError, match=r"written by a later serkit \(7\.0\)"):
        open_bundle(folder)


@pytest.mark.parametrize("name", ["networks/cross.fold0.onnx", "stack.safetensors", "calibration.safetensors"])
def test_a_changed_byte_is_noticed(folder: Path, name: str) -> None:
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(bytes(content))
    bundle = open_bundle(folder)
    with pytest.raises(SerkitError, match=f"'{name}' is damaged"):
        bundle.read(name)


@pytest.mark.parametrize("key", ["labels", "features", "networks", "files", "max_clip_s"])
def test_a_damaged_head_is_one_line(folder: Path, key: str) -> None:
    head = json.loads((folder / "bundle.json").read_text(encoding="utf-8"))
    del head[key]
    (folder / "bundle.json").write_text(json.dumps(head))
    with pytest.raises(SerkitError, match=r"bundle\.json is damaged") as found:
        open_bundle(folder)
    assert "\n" not in str(found.value)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("labels", ["a", "\x1b[31mb"], r"labels\[1\] is '\\x1b\[31mb', expected text on one line"),
        ("name", "a\nb", r"name is 'a\\nb', expected text on one line"),
        ("max_clip_s", 0, "max_clip_s is 0, expected more than 0"),
    ],
)
def test_a_head_with_values_that_cannot_be_is_one_line(folder: Path, key: str, value: object, said: str) -> None:
    head = json.loads((folder / "bundle.json").read_text(encoding="utf-8"))
    (folder / "bundle.json").write_text(json.dumps({**head, key: value}))
    with pytest.raises(SerkitError, match=rf"bundle\.json is damaged: {said}") as found:
        open_bundle(folder)
    assert str(found.value).isprintable()


def test_names_and_labels_may_have_what_joins_letters(folder: Path) -> None:
    head = json.loads((folder / "bundle.json").read_text(encoding="utf-8"))
    labels = ["بی\u200cتفاوت", "très\u00a0gai", *head["labels"][2:]]
    (folder / "bundle.json").write_text(json.dumps({**head, "labels": labels, "name": "👩\u200d💻"}))
    assert open_bundle(folder).labels == tuple(labels)


def test_text_that_is_no_json(folder: Path) -> None:
    (folder / "bundle.json").write_text("{")
    with pytest.raises(SerkitError, match="damaged"):
        open_bundle(folder)
    (folder / "bundle.json").write_text("[]")
    with pytest.raises(SerkitError, match="does not describe a bundle"):
        open_bundle(folder)


def test_files_that_are_not_listed_are_not_read(folder: Path) -> None:
    bundle = open_bundle(folder)
    (folder / "extra.py").write_text("boom")
    with pytest.raises(SerkitError, match=r"has no file 'extra\.py'"):
        bundle.read("extra.py")


def test_names_that_leave_the_bundle_are_refused(folder: Path) -> None:
    secret = folder.parent / "secret"
    secret.write_text("x")
    for name in ("../secret", str(secret), "a/../../secret", "..\\secret", "C:/secret", ""):
        head = json.loads(zipfile.ZipFile(GOLDEN).read("bundle.json"))
        head["files"][name] = {"bytes": 1, "blake2b": content_hash(b"x")}
        (folder / "bundle.json").write_text(json.dumps(head))
        with zipfile.ZipFile(folder.parent / "a.zip", "w") as archive:  # adapt would write it beside what it makes
            archive.writestr("bundle.json", json.dumps(head))
            archive.writestr(name or ".", "x")
        for place in (folder, folder.parent / "a.zip"):
            with pytest.raises(SerkitError, match="which is no name inside the bundle"):
                open_bundle(place)


def test_a_system_may_have_a_colon_in_its_name(tmp_path: Path) -> None:
    """As a recipe allows it: such a run could be trained, and not be made a bundle of."""
    write_bundle({}, {"networks/whisper:large.fold0.onnx": b"x"}, tmp_path / "bundle")
    assert (tmp_path / "bundle" / "networks" / "whisper:large.fold0.onnx").read_bytes() == b"x"


def test_no_file_is_written_outside_a_bundle(tmp_path: Path) -> None:
    """As the networks of a system called ``../../x`` would be, which join takes over from a bundle."""
    with pytest.raises(SerkitError, match="which is no name inside the bundle"):
        write_bundle({}, {"networks/../../x.onnx": b"x"}, tmp_path / "out" / "bundle")
    assert not list((tmp_path / "out").rglob("*"))
    assert not (tmp_path / "x.onnx").exists()


@pytest.mark.parametrize(
    ("at", "value"),
    [
        pytest.param(6, b"\x63\x00", id="version"),
        pytest.param(8, b"\x00\x08\x00\x00\x00\x00\x00\x00" + bytes(30) + b"\xff", id="name"),
        pytest.param(42, b"\xf0\xff\xff\xff", id="place"),
        pytest.param(20, b"\xf0\xff\xff\xff\xf0\xff\xff\xff", id="size"),
    ],
)
def test_a_zip_whose_table_of_contents_is_damaged_is_one_line(tmp_path: Path, at: int, value: bytes) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("bundle.json", "{}")
    content = bytearray(path.read_bytes())
    entry = content.index(b"PK\x01\x02") + at
    content[entry : entry + len(value)] = value
    path.write_bytes(content)
    with pytest.raises(SerkitError, match=r"a\.zip"):
        open_bundle(path)


def test_a_link_to_nothing_is_no_place_for_a_bundle(tmp_path: Path) -> None:
    """Regression: it was found out when the bundle was made and had to be put there."""
    (tmp_path / "out").symlink_to("out")
    with pytest.raises(SerkitError, match="exists already"):
        bundles.check_new(tmp_path / "out")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes of POSIX")
def test_a_pipe_or_a_device_is_refused_before_it_is_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.zip")
    for place in (tmp_path / "a.zip", Path("/dev/zero")):
        with pytest.raises(SerkitError, match="is a pipe or device, expected a file"):
            open_bundle(place)


def with_network(folder: Path, content: bytes) -> Path:
    """The bundle with another network, which it lists as its own."""
    name = "networks/pooled.fold0.onnx"
    head = json.loads((folder / "bundle.json").read_text(encoding="utf-8"))
    head["files"][name] = {"bytes": len(content), "blake2b": content_hash(content)}
    (folder / name).write_bytes(content)
    (folder / "bundle.json").write_text(json.dumps(head))
    return folder


def test_weights_in_a_file_of_the_working_folder_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    onnx = pytest.importorskip("onnx")
    network = onnx.load(folder / "networks" / "pooled.fold0.onnx")
    tensor = max(network.graph.initializer, key=lambda t: len(t.raw_data))
    (folder.parent / "secret").write_bytes(tensor.raw_data)
    onnx.external_data_helper.set_external_data(tensor, "secret")
    tensor.ClearField("raw_data")
    monkeypatch.chdir(folder.parent)
    model = serkit.load(with_network(folder, network.SerializeToString()))
    with pytest.raises(SerkitError, match=r"pooled\.fold0\.onnx' has weights in another file, which is not in"):
        model.predict(np.zeros(16_000, np.float32), rate_hz=16_000)


@pytest.mark.parametrize("key", [b"\x0a\x88\x00location", b"\x0a\x88\x80\x00location", b"\x8a\x00\x08location"])
def test_a_file_of_weights_is_found_however_its_key_is_written(folder: Path, key: bytes) -> None:
    bundle = open_bundle(with_network(folder, b"\x6a\x13" + key + b"\x12\x05w.bin"))
    [entry] = (n for n in bundle.networks if n.file == "networks/pooled.fold0.onnx")
    with pytest.raises(SerkitError, match="has weights in another file"):
        bundle.network(entry)


def test_a_network_that_is_none_is_one_line(folder: Path) -> None:
    model = serkit.load(with_network(folder, b"no graph"))
    with pytest.raises(SerkitError, match=r"pooled\.fold0\.onnx' is no network that onnxruntime can load: ") as found:
        model.predict(np.zeros(16_000, np.float32), rate_hz=16_000)
    assert "\n" not in str(found.value)


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="no device to read from")
def test_a_device_in_place_of_a_file_is_not_read(folder: Path) -> None:
    (folder / "card.md").unlink()
    (folder / "card.md").symlink_to("/dev/zero")
    with pytest.raises(SerkitError, match=r"'card\.md' is not a file"):
        open_bundle(folder).read("card.md")


@pytest.mark.parametrize("name", ["bundle.json", "stack.safetensors"])
def test_a_sparse_file_is_refused_before_it_is_read(folder: Path, name: str) -> None:
    """It takes no room on disk, and was read into memory whole: a MemoryError, or a killed process."""
    with (folder / name).open("r+b") as file:
        file.truncate(1 << 40)
    with pytest.raises(SerkitError, match=rf"'{name}' has {1 << 40} bytes, expected at most \d+: it is damaged"):
        open_bundle(folder).read(name)


def test_a_member_that_says_it_is_huge_is_refused(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "b.zip"
    with zipfile.ZipFile(path, "w") as packed:
        for file in (p for p in folder.rglob("*") if p.is_file()):
            packed.write(file, file.relative_to(folder))
    content = path.read_bytes()
    at = content.rindex(b"PK\x01\x02", 0, content.rindex(b"bundle.json"))
    path.write_bytes(content[: at + 20] + b"\xf0\xff\xff\xff" * 2 + content[at + 28 :])
    with pytest.raises(SerkitError, match=r"'bundle\.json' has 4294967280 bytes, expected at most 16777216"):
        open_bundle(path)


def test_a_compressed_zip_is_refused(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "packed.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in folder.rglob("*"):
            if file.is_file():
                archive.write(file, file.relative_to(folder))
    with pytest.raises(SerkitError, match="is compressed"):
        open_bundle(path)


def test_an_encrypted_zip_is_refused(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "locked.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(folder / "bundle.json", "bundle.json")
    content = bytearray(path.read_bytes())
    content[6] |= 1  # the flag of encryption, in the member's own header and in the directory
    content[content.rindex(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    with pytest.raises(SerkitError, match=r"'bundle\.json' is damaged or encrypted: .*password"):
        open_bundle(path)


@pytest.mark.parametrize("content", [b"", b"not a zip", GOLDEN.read_bytes()[:20_000]])
def test_a_file_that_is_no_bundle(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.zip").write_bytes(content)
    with pytest.raises(SerkitError, match="is not a bundle"):
        open_bundle(tmp_path / "x.zip")
    (tmp_path / "x.onnx").write_bytes(content)
    with pytest.raises(SerkitError, match=r"x\.onnx is not a bundle: it is a graph, as serkit export writes it"):
        open_bundle(tmp_path / "x.onnx")


def test_another_revision_of_an_encoder_is_refused(folder: Path) -> None:
    head = json.loads((folder / "bundle.json").read_text(encoding="utf-8"))
    head["features"]["mfcc/13[pool=4]"]["fingerprint"] = "0" * 16
    (folder / "bundle.json").write_text(json.dumps(head))
    with pytest.raises(SerkitError, match="whose numbers differ"):
        serkit.load(folder)


def test_of_two_that_write_one_folder_the_first_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, write = tmp_path / "mine", Path.write_bytes

    def other_is_first(path: Path, data: bytes) -> int:
        if not out.exists():
            out.mkdir()
            write(out / "a.txt", b"other")
        return write(path, data)

    monkeypatch.setattr("pathlib.Path.write_bytes", other_is_first)
    with pytest.raises(SerkitError, match="exists already"):
        write_bundle({}, {"a.txt": b"one"}, out)
    assert [p.name for p in tmp_path.iterdir()] == ["mine"]
    assert (out / "a.txt").read_bytes() == b"other"


def test_the_same_content_gives_the_same_bytes(tmp_path: Path) -> None:
    files = {"a.txt": b"one", "b/c.txt": b"two"}
    head = {"name": "x", "labels": ["a", "b"]}
    for name in ("one.zip", "two.zip"):
        write_bundle(dict(head), files, tmp_path / name)
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()
    write_bundle(dict(head), files, tmp_path / "folder")
    assert (tmp_path / "folder" / "b" / "c.txt").read_bytes() == b"two"
    with pytest.raises(SerkitError, match="exists already"):
        write_bundle(dict(head), files, tmp_path / "folder")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["folder", "one.zip", "two.zip"]


def test_importing_serkit_stays_light() -> None:
    code = "import serkit, sys; print([m for m in ('numpy', 'onnxruntime', 'torch') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
