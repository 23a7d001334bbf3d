"""``serkit encoders``: what can be loaded here, what an hour of audio costs, commits pinned, licences filtered."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from serkit import availability, checkpoints, listing
from serkit.checkpoint_table import BY_NAME
from serkit.cli import app
from serkit.config import config_path
from serkit.errors import RunFailed, SerkitError
from serkit.foundation.tiny import tiny_folder
from tiny_checkpoints import without_hub


@pytest.fixture(autouse=True)
def _offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("transformers")
    without_hub(tmp_path, monkeypatch)


def ask(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["encoders", *words])
    if isinstance(result.exception, SerkitError):
        return result.exception.exit_code, str(result.exception)
    return result.exit_code, result.stdout


def test_a_model_that_is_not_here_is_priced_and_exits_1() -> None:
    code, said = ask("--check", "whisper/large-v3", "--json")
    (row,) = json.loads(said)
    assert code == 1
    assert (row["loadable"], row["where"], row["size_gb"], row["licence"]) == (False, "hub", 3.09, "apache-2.0")
    assert row["tflop_per_audio_hour"] == pytest.approx(1637, rel=0.001)
    assert row["tflop_window_clip"] == pytest.approx(236, rel=0.001)
    assert row["gb_per_audio_hour"] == pytest.approx(180_000 * 1280 * 2 / 1e9)
    assert row["processor_gflops"] > 0
    code, said = ask("--check", "whisper/large-v3")
    assert code == 1
    assert "loadable: no (not downloaded yet: openai/whisper-large-v3 at " in said
    assert "3.09 GB; licence: apache-2.0; an hour of audio in 5-s clips: 1640 TFLOP (each is" in said
    assert "is computed as 30 s; with window: clip 236), at best " in said


def test_a_folder_in_roots_and_what_needs_no_download_exit_0(tmp_path: Path) -> None:
    folder = tiny_folder("wavlm", tmp_path / "mine")
    config_path().parent.mkdir()
    config_path().write_text(f"checkpoints:\n  wavlm/large: {folder}\n")
    code, said = ask("--check", "wavlm/large", "--check", f"path:{folder}", "--check", "logmel/40", "--json")
    rows = json.loads(said)
    assert code == 0
    assert [row["loadable"] for row in rows] == [True] * 3
    assert [row["where"] for row in rows] == ["folder", "folder", "serkit"]
    assert rows[0]["folder"] == str(folder)
    assert rows[0]["licence"] == "unknown"
    assert rows[0]["tflop_per_audio_hour"] == pytest.approx(0.0207, rel=0.01), "of the folder's own size"
    assert rows[0]["tflop_window_clip"] is None
    assert ask("--check", "wavlm/random")[0] == 0


def test_what_was_looked_at_is_said_and_what_was_not(tmp_path: Path) -> None:
    """Loadable it was called whatever numbers, or bytes that are none, stood in a file of the right size."""
    code, said = ask("--check", f"path:{tiny_folder('wavlm', tmp_path / 'mine')}")
    assert code == 0
    assert "loadable: yes, by its files, sizes, shapes, names of the layers; its values are read when" in said
    (row,) = json.loads(ask("--check", f"path:{tiny_folder('facodec', tmp_path / 'codec')}", "--json")[1])
    assert (row["loadable"], row["looked_at"]) == (True, "files, sizes"), "a .bin says little before it is read"
    file = tmp_path / "mine" / "model.safetensors"
    file.write_bytes(bytes(file.stat().st_size))
    code, said = ask("--check", f"path:{file.parent}")
    assert code == 1
    assert f"loadable: no ({file} is not a safetensors file)" in said


def test_several_names_may_follow(monkeypatch: pytest.MonkeyPatch) -> None:
    code, said = ask("--check", "logmel/40", "wavlm/random", "logmel/40", "mfcc/13", "--json")
    assert code == 0
    assert [row["name"] for row in json.loads(said)] == ["logmel/40", "wavlm/random", "mfcc/13"]
    code, said = ask("logmel/40", "mfcc/13")
    assert code == 2
    assert "to check some: serkit encoders --check logmel/40 mfcc/13" in said
    hub_with(monkeypatch)
    assert ask("--lock", "wavlm/large", "wavlm/base")[0] == 0
    assert set(checkpoints.locked()) == {"wavlm/large", "wavlm/base"}


@pytest.mark.parametrize("name", ["facodec/prosody", "path"])
def test_a_folder_of_the_other_facodec_has_a_hint_of_its_own(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "v1"
    folder.mkdir()
    for part in ("encoder", "decoder"):
        (folder / f"ns3_facodec_{part}.bin").write_bytes(b"PK")
    config_path().parent.mkdir()
    config_path().write_text(f"checkpoints:\n  facodec/prosody: {folder}\n")
    code, said = ask("--check", name if name != "path" else f"path:{folder}")
    assert code == 1
    assert (
        f"{folder} holds FACodec's V1 (ns3_facodec_encoder.bin), whose features are others; expected its V2: "
        "ns3_facodec_encoder_v2.bin and ns3_facodec_decoder_v2.bin" in said
    )


@pytest.mark.parametrize(("name", "dim"), [("facodec/prosody", 16), ("facodec/prosody_speaker", 32)])
def test_facodec_has_sizes_of_its_own(name: str, dim: int, tmp_path: Path) -> None:
    folder = tiny_folder("facodec", tmp_path / "mine")
    config_path().parent.mkdir()
    config_path().write_text(f"checkpoints:\n  {name}: {folder}\n")
    found = availability.check(name)
    assert found.loadable
    assert found.gb_per_audio_hour == pytest.approx(80 * 3600 * dim * 2 / 1e9)


def test_a_name_that_does_not_exist_is_a_row_with_the_nearest_and_hides_no_other() -> None:
    code, said = ask(*(w for n in ("logmel/40", "wavlm/larg", "wavlmm/large", "wavlm/random") for w in ("--check", n)))
    assert code == 1
    first, second, third, last = said.splitlines()
    assert "loadable: yes" in first
    assert (
        second == "wavlm/larg    no encoder 'wavlm/larg'; did you mean 'wavlm/large'? (or give hub:ORG/MODEL, path:DIR)"
    )
    assert "did you mean 'wavlm'?" in third
    assert "loadable: yes" in last
    row = json.loads(ask("--check", "path:/nowhere/at/all", "--json")[1])[0]
    assert (row["name"], row["loadable"], row["where"]) == ("path:/nowhere/at/all", False, "nowhere")
    assert "no folder /nowhere/at/all" in row["reason"]


@pytest.mark.parametrize(
    ("name", "package"),
    [("wavlm/large", "transformers"), ("deberta/xxlarge-v2", "sentencepiece"), ("facodec/prosody", None)],
)
def test_an_absent_package_is_named_with_its_install_line(
    name: str, package: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tiny_folder(name.split("/")[0], tmp_path / "mine")
    config_path().parent.mkdir()
    config_path().write_text(f"checkpoints:\n  {name}: {folder}\n")
    assert availability.check(name).loadable
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda n, *a: None if n == package else real(n, *a))
    found = availability.check(name)
    assert found.loadable == (package is None)
    if package is not None:
        assert f"needs the package '{package}'" in found.reason
        assert "pip install 'serkit[foundation]'" in found.reason


def test_only_commercial_licences() -> None:
    names = {row["name"] for row in listing.encoders(commercial=True)}
    everything = {row["name"] for row in listing.encoders()}
    assert {"logmel/40", "whisper/large-v3", "roberta/large", "wavlm/random"} <= names < everything
    assert not names & {"wavlm/large", "opensmile/egemaps", "facodec/prosody"}
    assert all(BY_NAME[name].commercial for name in names & set(BY_NAME))
    code, said = ask("--commercial", "--json")
    assert code == 0
    assert {row["name"] for row in json.loads(said)} == names


def hub_with(monkeypatch: pytest.MonkeyPatch, refused: str | None = None, down: bool = False) -> None:
    class Gone(Exception):
        pass

    def model_info(hub_id: str) -> Any:
        if down:
            raise OSError("no route")
        if hub_id == refused:
            raise Gone(hub_id)
        return SimpleNamespace(sha=f"{len(hub_id):040x}")

    package = SimpleNamespace(
        HfApi=lambda: SimpleNamespace(model_info=model_info), errors=SimpleNamespace(HfHubHTTPError=Gone)
    )
    monkeypatch.setattr(availability, "hub_package", lambda name: package)


def test_lock_keeps_commits_that_specs_then_carry(monkeypatch: pytest.MonkeyPatch) -> None:
    from serkit.encoders.whisper import Whisper

    before = Whisper("whisper/tiny").spec
    hub_with(monkeypatch)
    code, said = ask("--lock", "--json")
    assert code == 0
    assert {row["name"] for row in json.loads(said)} == set(BY_NAME)
    assert checkpoints.locked()["whisper/tiny"] == f"{len('openai/whisper-tiny'):040x}"
    after = Whisper("whisper/tiny").spec
    assert after.revision == checkpoints.locked()["whisper/tiny"]
    assert after.fingerprint != before.fingerprint, "features of another commit are other features"


def test_a_refused_model_does_not_stop_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    hub_with(monkeypatch, refused="openai/whisper-tiny")
    with pytest.raises(RunFailed, match=r"has no commit of whisper/tiny \(openai/whisper-tiny\); \d+ others"):
        availability.lock()
    assert set(checkpoints.locked()) == set(BY_NAME) - {"whisper/tiny"}


def test_lock_of_one_name_and_without_a_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    hub_with(monkeypatch)
    assert ask("--lock", "--check", "wavlm/large")[0] == 0
    assert set(checkpoints.locked()) == {"wavlm/large"}
    hub_with(monkeypatch, down=True)
    code, said = ask("--lock")
    assert code == 2
    assert "the hub does not answer for openai/whisper-tiny: no route" in said
    assert set(checkpoints.locked()) == {"wavlm/large"}, "what was pinned stays"
