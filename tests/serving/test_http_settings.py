"""Keys and origins of the service: what would open it to everybody, or to nobody, is refused before it starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from serkit.errors import SerkitError
from serkit.serving.http.settings import KEYS_ENVIRONMENT, ServiceSettings, read_keys


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEYS_ENVIRONMENT, raising=False)


def test_keys_of_all_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "keys"
    file.write_text(
        "# of ann\n  key-of-ann \n\nkey-of-bob\n", encoding="utf-8-sig"
    )  # with the mark that Windows puts first
    monkeypatch.setenv(KEYS_ENVIRONMENT, "key-of-cleo, key-of-ann,")
    assert read_keys(" key-of-dan ", file) == ("key-of-dan", "key-of-ann", "key-of-bob", "key-of-cleo")


@pytest.mark.parametrize("given", ["", "  "])
def test_an_empty_key_does_not_open_the_service(given: str) -> None:
    with pytest.raises(SerkitError, match="--api-key is empty"):
        read_keys(given, None)


def test_a_variable_without_a_key_does_not_either(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEYS_ENVIRONMENT, " , ")
    with pytest.raises(SerkitError, match=f"{KEYS_ENVIRONMENT} holds no key"):
        read_keys(None, None)
    monkeypatch.setenv(KEYS_ENVIRONMENT, "")  # as compose.yaml has it where none is set
    assert read_keys(None, None) == ()


@pytest.mark.parametrize("key", ["schlüssel-12", "two\tparts-12"])
def test_a_key_that_no_header_carries_is_refused(key: str) -> None:
    with pytest.raises(SerkitError, match="printable ASCII"):
        read_keys(key, None)


def test_a_file_that_is_not_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "keys").write_bytes(b"\xff\xfe12345678")
    with pytest.raises(SerkitError, match=r"keys: keys cannot be read: it is not text in UTF-8"):
        read_keys(None, tmp_path / "keys")
    with pytest.raises(SerkitError, match=r"absent: keys cannot be read: No such file or directory$"):
        read_keys(None, tmp_path / "absent")


def test_origins_as_browsers_send_them() -> None:
    origins = (
        "https://example.org",
        "http://localhost:3000",
        "http://[::1]:3000",
        "http://[::1]",
        "http://a.org:443",
        "*",
        "null",
    )
    assert ServiceSettings(origins=origins).origins == origins


@pytest.mark.parametrize(
    ("given", "nearest"),
    [
        ("https://example.org/", "https://example.org"),
        ("https://Example.org/page?x=1", "https://example.org"),
        ("example.org", "https://example.org"),
        ("localhost:3000", "https://localhost:3000"),
        (" http://localhost:3000", "http://localhost:3000"),
        ("https://example.org:443", "https://example.org"),
        ("http://example.org:80/", "http://example.org"),
        ("https://me@example.org", "https://example.org"),
    ],
)
def test_an_origin_that_no_browser_sends_is_refused(given: str, nearest: str) -> None:
    with pytest.raises(SerkitError, match=f"did you mean '{nearest}'"):
        ServiceSettings(origins=(given,))


def test_an_origin_that_is_a_pattern_is_refused() -> None:
    with pytest.raises(SerkitError, match="there are no patterns; expected each origin whole, or \\* for all"):
        ServiceSettings(origins=("https://*.example.org",))


@pytest.mark.parametrize("given", ["", "https://", "://", "https://:443"])
def test_an_origin_without_a_host_is_refused(given: str) -> None:
    with pytest.raises(SerkitError, match=f"origin '{given}': expected it as browsers send it"):
        ServiceSettings(origins=(given,))
