from pathlib import Path

import pytest

from serkit import config
from serkit.errors import SerkitError


@pytest.fixture
def roots(tmp_path, monkeypatch):
    monkeypatch.setenv("SERKIT_CONFIG", str(tmp_path))
    return tmp_path / "roots.yaml"


def test_folders_are_relative_to_the_file_that_names_them(roots, tmp_path):
    roots.write_text("corpora: {ravdess: data/r, toy: /abs}\ncheckpoints: {whisper/tiny: w}\nstore: s\n")
    assert config.corpus_root("ravdess") == tmp_path / "data" / "r"
    assert config.corpus_root("toy") == Path("/abs")
    assert config.corpus_root("other") is None
    assert config.checkpoint_folders() == {"whisper/tiny": tmp_path / "w"}
    assert config.store_folder() == tmp_path / "s"
    assert config.store_folder(Path("x")) == Path("x")


def test_without_a_file_there_is_the_cache(roots, tmp_path, monkeypatch):
    monkeypatch.setenv("SERKIT_CACHE", str(tmp_path / "c"))
    assert config.load_config() == {}
    assert config.store_folder() == tmp_path / "c" / "store"
    monkeypatch.delenv("SERKIT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert config.cache_folder() == tmp_path / "xdg" / "serkit"
    monkeypatch.delenv("SERKIT_CONFIG")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "conf"))
    assert config.config_path() == tmp_path / "conf" / "serkit" / "roots.yaml"
    monkeypatch.setenv("SERKIT_CONFIG", str(tmp_path / "mine.yml"))
    assert config.config_path() == tmp_path / "mine.yml"


def test_plugins_are_those_of_the_environment_else_of_the_file(roots, monkeypatch):
    monkeypatch.delenv("SERKIT_PLUGINS", raising=False)
    assert config.plugins() == ()
    roots.write_text("plugins: [mylab, other.ears]\n")
    assert config.plugins() == ("mylab", "other.ears")
    monkeypatch.setenv("SERKIT_PLUGINS", " mine ,,yours.x")
    assert config.plugins() == ("mine", "yours.x")
    monkeypatch.setenv("SERKIT_PLUGINS", "")
    assert config.plugins() == ()
    monkeypatch.delenv("SERKIT_PLUGINS")
    for wrong in ("mylab", "{mylab: x}", "[3]"):
        roots.write_text(f"plugins: {wrong}\n")
        with pytest.raises(SerkitError, match=r"plugins is .*, expected a list of modules, such as \[mylab\]"):
            config.plugins()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("corpora: [", "is not valid YAML"),
        ("- a", "expected a mapping"),
        ("corpus: {a: b}", "unknown key 'corpus'; did you mean 'corpora'"),
        ("corpora: [a]", "expected 'corpora:' with a folder by name"),
        ("corpora:\n  a: /x\n  a: /y", "key 'a' occurs twice"),
        ("corpora: {a: 2024-13-45}", "is not valid YAML"),
        ("corpora: {a: 3}", "corpora.a is 3, expected a folder"),
    ],
)
def test_a_file_that_does_not_hold_is_said(roots, text, message):
    roots.write_text(text)
    with pytest.raises(SerkitError, match=message):
        config.corpus_root("a")


def test_a_user_without_a_home_is_told_what_to_set(monkeypatch):
    """As in a container that is run with a user id of its own."""

    def unknown(path):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", unknown)
    for name in ("SERKIT_CONFIG", "SERKIT_CACHE", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for asked in (config.load_config, config.cache_folder, config.store_folder):
        with pytest.raises(
            SerkitError, match="this user has no home folder; set HOME, or SERKIT_CONFIG and SERKIT_CACHE"
        ):
            asked()
