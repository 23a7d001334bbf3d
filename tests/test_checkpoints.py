"""Names to folders and revisions, without loading a model; the table; the hub's layout; what is refused."""

from __future__ import annotations

import json
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serkit import availability, checkpoints, fetching
from serkit.checkpoint_files import weight_files, weights_hash
from serkit.checkpoint_table import BY_NAME, REMEMBERED, TABLE, UNKNOWN
from serkit.encoders.hubert import Hubert
from serkit.encoders.wavlm import Wavlm
from serkit.encoders.whisper import Whisper
from serkit.errors import SerkitError
from serkit.foundation.pieces import Window, batches, encoded, pieces
from serkit.foundation.tiny import tiny_folder
from tiny_checkpoints import without_hub

PUBLISHED = ("whisper/large-v3", "wavlm/large", "hubert/xlarge-ls960-ft", "wav2vec2/large-robust", "distilhubert/base",
             "roberta/large", "deberta/xlarge-v2", "deberta/xxlarge-v2", "facodec/prosody",
             "facodec/prosody_speaker")  # fmt: skip


@pytest.fixture(autouse=True)
def _own_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_hub(tmp_path, monkeypatch)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny_folder("wavlm", tmp_path / "tiny")


def test_the_table_guesses_nothing() -> None:
    assert len({row.name for row in TABLE}) == len(TABLE)
    assert set(PUBLISHED) <= set(BY_NAME)
    for row in TABLE:
        for fact in ("dim", "layers", "parameters_m", "languages", "licence"):
            known = getattr(row, fact) not in (None, UNKNOWN)
            assert (fact in row.sources) == known, (row.name, fact)
            assert not known or row.sources[fact], (row.name, fact)
        assert row.revision == UNKNOWN or len(row.revision) == 40
        assert row.commercial is None or row.licence.lower() in ("mit", "apache-2.0")
    assert BY_NAME["wavlm/base"].sources["dim"] == REMEMBERED
    assert BY_NAME["wavlm/large"].licence == UNKNOWN


def test_only_what_a_licence_allows_is_commercial() -> None:
    names = {row.name for row in checkpoints.rows(commercial=True)}
    assert "whisper/large-v3" in names
    assert "wavlm/large" not in names
    assert {row.family for row in checkpoints.rows("hubert")} == {"hubert"}


def test_a_known_name_has_a_spec_without_torch() -> None:
    code = """
import sys
NAMES = sys.argv[1:]
from serkit.registry import find
from serkit.encoding import n_frames
for name in NAMES:
    spec = find("encoders", name.split("/")[0])(name).spec
    print(name, spec.dim, spec.fingerprint, n_frames(16000, spec) if spec.modality == "audio" else "")
bad = [m for m in ("torch", "transformers", "huggingface_hub") if m in sys.modules]
assert not bad, bad
"""
    done = subprocess.run([sys.executable, "-c", code, *PUBLISHED], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines()}
    dims = {"whisper/large-v3": "1280", "wavlm/large": "1024", "hubert/xlarge-ls960-ft": "1280",
            "roberta/large": "1024", "deberta/xxlarge-v2": "1536", "facodec/prosody": "256",
            "facodec/prosody_speaker": "512"}  # fmt: skip
    assert {k: found[k][0] for k in dims} == dims
    assert found["whisper/large-v3"][2] == "50"
    assert found["facodec/prosody"][2] == "81"
    assert len({v[1] for v in found.values()}) == len(PUBLISHED)


def test_roots_replace_the_source_of_a_name(folder: Path, tmp_path: Path) -> None:
    published = Wavlm("wavlm/large").spec
    assert published.source == "microsoft/wavlm-large"
    assert published.revision == BY_NAME["wavlm/large"].revision
    config = tmp_path / "config" / "roots.yaml"
    config.parent.mkdir()
    config.write_text(f"checkpoints:\n  wavlm/large: {folder}\n")
    spec = Wavlm("wavlm/large").spec
    assert (spec.name, spec.dim, spec.source) == ("wavlm/large", 16, "local")
    assert spec.revision == f"weights-{weights_hash(folder)}"
    assert spec.note == f"substituted: weights from {folder} in place of microsoft/wavlm-large"
    assert spec.licence == UNKNOWN
    assert spec.fingerprint != published.fingerprint
    assert Wavlm("wavlm/large")([np.zeros(800, dtype=np.float32)])[0].shape == (2, 16)
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(folder, elsewhere)
    assert Wavlm("wavlm/large", source=elsewhere).spec.fingerprint == spec.fingerprint, "weights, not paths"
    config.write_text("checkpoints:\n  wavlm/large: /nowhere/at/all\n")
    with pytest.raises(SerkitError, match=r"no folder /nowhere/at/all \(from .*roots\.yaml\)"):
        Wavlm("wavlm/large")


def test_a_name_in_roots_that_there_is_not_is_refused(folder: Path, tmp_path: Path) -> None:
    config = tmp_path / "config" / "roots.yaml"
    config.parent.mkdir()
    for name, nearest in (
        ("whisper/larg-v3", "; did you mean 'whisper/large-v3'"),
        ("mine", " (or hub:ORG/MODEL; a m"),
    ):
        config.write_text(f"checkpoints:\n  {name}: {folder}\n")
        with pytest.raises(
            SerkitError, match=r"roots\.yaml: checkpoints: no encoder '" + re.escape(f"{name}'{nearest}")
        ):
            Whisper("whisper/large-v3")
    config.write_text(f"checkpoints:\n  'hub:me/mine': {folder}\n  wavlm/random: {folder}\n")
    assert Wavlm("hub:me/mine").spec.source == "local"
    assert Wavlm("wavlm/random").resolved.folder == folder


def test_the_published_files_of_facodec_need_no_configuration(tmp_path: Path) -> None:
    folder = tiny_folder("facodec", tmp_path / "codec")
    (folder / "config.json").unlink()
    found = checkpoints.resolve(f"path:{folder}")
    assert (found.family, found.dim, found.layers) == ("facodec", 512, 1)
    assert availability.check(f"path:{folder}").loadable
    (folder / "ns3_facodec_decoder_v2.bin").unlink()
    assert "no ns3_facodec_decoder_v2.bin in" in availability.check(f"path:{folder}").reason


def test_other_weights_are_another_revision(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    before = Wavlm(f"path:{folder}").spec.fingerprint
    tensors = load_file(folder / "model.safetensors")
    first = next(iter(tensors))
    save_file({**tensors, first: tensors[first] + 1e-3}, folder / "model.safetensors", {"format": "pt"})
    assert Wavlm(f"path:{folder}").spec.fingerprint != before
    front = json.loads((folder / "preprocessor_config.json").read_text())
    between = Wavlm(f"path:{folder}").spec.fingerprint
    (folder / "preprocessor_config.json").write_text(json.dumps({**front, "do_normalize": False}))
    assert Wavlm(f"path:{folder}").spec.fingerprint != between


def test_a_bin_is_read_as_tensors_only_and_converted_once(folder: Path, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file

    items = [np.ones(4_000, dtype=np.float32), np.zeros(9_000, dtype=np.float32)]
    expected = Wavlm(f"path:{folder}")(items)
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(tensors, folder / "pytorch_model.bin")
    for a, b in zip(Wavlm(f"path:{folder}")(items), expected, strict=True):
        np.testing.assert_array_equal(a, b)
    converted = list((tmp_path / "cache" / "converted").iterdir())
    assert len(converted) == 1
    Wavlm(f"path:{folder}").load()
    assert list((tmp_path / "cache" / "converted").iterdir()) == converted

    class Payload:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "owned",))

    with (folder / "pytorch_model.bin").open("wb") as file:
        pickle.dump({"x": Payload()}, file, protocol=2)
    with pytest.raises(SerkitError, match="damaged or holds more than tensors"):
        Wavlm(f"path:{folder}").load()
    assert not (tmp_path / "owned").exists()


def test_shards_are_read(folder: Path) -> None:
    import transformers

    expected = Wavlm(f"path:{folder}")([np.ones(4_000, dtype=np.float32)])
    model = transformers.WavLMModel.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="10KB")
    assert (folder / "model.safetensors.index.json").is_file()
    assert len(weight_files(folder)) > 1
    np.testing.assert_array_equal(Wavlm(f"path:{folder}")([np.ones(4_000, dtype=np.float32)])[0], expected[0])


def test_code_in_a_folder_is_not_run(folder: Path, tmp_path: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoModel": "evil.Evil", "AutoConfig": "evil.EvilConfig"}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    Wavlm(f"path:{folder}").load()
    assert not (tmp_path / "ran").exists()


def test_names_that_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(SerkitError, match="did you mean 'wavlm/large'"):
        Wavlm("wavlm/larg")
    with pytest.raises(SerkitError, match=r"model_type 'wavlm', expected a hubert model"):
        Hubert(f"path:{folder}")
    with pytest.raises(SerkitError, match="no folder"):
        Wavlm("path:" + str(tmp_path / "none"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(SerkitError, match=r"config\.json is missing or names no model_type"):
        Wavlm("path:" + str(tmp_path / "empty"))
    assert checkpoints.family_of(f"path:{folder}") == "wavlm"
    assert checkpoints.family_of("whisper/large-v3") == "whisper"
    assert checkpoints.family_of("whisper/random") == "whisper"


def test_without_a_network_the_error_says_what_to_do() -> None:
    with pytest.raises(
        SerkitError, match=r"openai/whisper-large-v3 cannot be downloaded.*roots\.yaml.*whisper/large-v3: DIR"
    ):
        Whisper("whisper/large-v3").load()
    with pytest.raises(SerkitError, match=r"config\.json of some/model cannot be downloaded"):
        Whisper("hub:some/model")


def test_all_that_cannot_be_had_is_named_in_one_line(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "part")
    (tmp_path / "part" / "preprocessor_config.json").unlink()
    names = ("whisper/large-v3", f"path:{folder}", "wavlm/large", f"path:{tmp_path / 'part'}", "whisper/large-v3")
    with pytest.raises(SerkitError) as error:
        fetching.require(checkpoints.resolve(name) for name in names)
    said = str(error.value)
    assert said.startswith("2 models cannot be downloaded here: this machine cannot reach the hub (")
    assert "): whisper/large-v3 (openai/whisper-large-v3), wavlm/large (microsoft/wavlm-large); put downloaded" in said
    assert "'checkpoints: {whisper/large-v3: DIR, wavlm/large: DIR}'; encoder 'path:" in said
    assert said.count("no front end in") == 1
    assert "\n" not in said
    fetching.require([checkpoints.resolve(f"path:{folder}")])


def test_check_says_whether_where_and_how_large(folder: Path, tmp_path: Path) -> None:
    absent = availability.check("whisper/large-v3")
    assert (absent.loadable, absent.where, absent.size_gb, absent.licence) == (False, "hub", 3.09, "apache-2.0")
    assert "not downloaded yet" in absent.reason
    here = availability.check(f"path:{folder}")
    assert (here.loadable, here.where, here.folder) == (True, "folder", folder)
    assert here.size_gb is not None
    assert 0 < here.size_gb < 0.01
    with pytest.raises(SerkitError, match="the hub does not answer"):
        availability.lock(["whisper/tiny"])
    checkpoints.lock_path().parent.mkdir(exist_ok=True)
    checkpoints.lock_path().write_text(json.dumps({"whisper/tiny": "0" * 40}))
    assert Whisper("whisper/tiny").spec.revision == "0" * 40
    assert "not pinned" in Whisper("whisper/small").spec.note
    for damaged in ("{", "[1]"):
        checkpoints.lock_path().write_text(damaged)
        with pytest.raises(SerkitError, match=r"encoders\.lock\.json is damaged .* remove it"):
            checkpoints.locked()


@pytest.mark.parametrize("n", [0, 1, 9, 10, 11, 25, 100])
@pytest.mark.parametrize(("size", "context"), [(10, 0), (10, 3), (10, 4), (10, 9), (1, 1)])
def test_pieces_cover_every_position_once(n: int, size: int, context: int) -> None:
    cut = pieces(n, size, context)
    assert [k for p in cut for k in range(p.keep_start, p.keep_end)] == list(range(n))
    assert all(0 <= p.start <= p.keep_start <= p.keep_end <= p.end <= n and p.end - p.start <= size for p in cut)


def test_batches_hold_everything_once_within_the_budget() -> None:
    lengths = [int(x) for x in np.random.default_rng(0).integers(1, 500, 200)]
    found = list(batches(lengths, 1_000))
    assert sorted(k for batch in found for k in batch) == list(range(200))
    for batch in found:
        longest = max(lengths[k] for k in batch)
        assert len(batch) == 1 or longest * len(batch) <= 1_000
        assert min(lengths[k] for k in batch) >= 0.7 * longest


def test_windows_are_joined_by_item_whatever_their_batches() -> None:
    rng = np.random.default_rng(0)
    items = [rng.random((int(n), 2)) for n in (5, 300, 1, 47, 120)]
    windows = [
        Window(k, item[p.start : p.end], p.kept) for k, item in enumerate(items) for p in pieces(len(item), 40, 6)
    ]
    sizes: list[int] = []

    def encode(seen: list[np.ndarray]) -> list[np.ndarray]:
        sizes.append(len(seen))
        return [2 * rows for rows in seen]

    for found, item in zip(encoded(windows, encode, 100), items, strict=True):
        np.testing.assert_array_equal(found, 2 * item)
    assert sum(sizes) == len(windows)
    assert 1 < max(sizes) <= 50


def test_batches_hold_no_more_than_asked_for() -> None:
    assert list(batches([3.0, 1.0, 2.0, 0.5], 100.0, similar=0.0, most=3)) == [[0, 2, 1], [3]]
