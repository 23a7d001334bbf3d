"""Token ids as features: those of transformers, exact in the store, from the file that a bundle keeps as well."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serkit.encoders.tokens import Tokens
from serkit.encoding import WithWeights
from serkit.errors import SerkitError
from serkit.foundation.tiny import tiny_folder
from serkit.foundation.tokenizing import FAMILIES, Tokenizer
from serkit.residency import turns
from serkit.store import FeatureStore

transformers = pytest.importorskip("transformers")

TEXTS = (
    "I am so happy, isn't it great?", "no", " ", "Été… 日本語 ሰላም", "<s> <pad> [CLS] </s> [MASK] you", "\x00\ufffd",
    "the door " * 400,
)  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
def test_ids_are_those_of_transformers_with_both_markers(family: str) -> None:
    encoder = Tokens(f"tokens/{family}/random")
    theirs = transformers.AutoTokenizer.from_pretrained(tiny_folder(family))
    for text, frames in zip(TEXTS, encoder(TEXTS), strict=True):
        ids = theirs(text, split_special_tokens=True)["input_ids"]
        inner = theirs(text, split_special_tokens=True, add_special_tokens=False)["input_ids"]
        assert frames[:, 0].tolist() == (ids if inner else ids[:1])
        if family != "deberta":  # whose pieces have the markers among them
            assert not set(inner) & {theirs.pad_token_id, theirs.cls_token_id}, "a marker in a transcript is text"
    assert encoder([""])[0].tolist() == [[theirs.cls_token_id]], "an empty text is its first marker"


@pytest.mark.parametrize("family", FAMILIES)
def test_the_file_alone_gives_the_same_ids(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = Tokens(f"tokens/{family}/random")
    wanted = encoder(TEXTS)
    content = encoder.tokenizer.content
    assert content == Tokenizer.of_folder("x", tiny_folder(family)).content, "the same file every time"
    monkeypatch.setattr("serkit.fetching.fetch", lambda *_: pytest.fail("the model was asked for"))
    kept = Tokens.of_file(encoder.spec, content)
    kept.load()
    kept.fetch()
    kept.unload()
    assert kept.spec == encoder.spec
    for one, other in zip(wanted, kept(TEXTS), strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_largest_id_is_exact_in_the_store(tmp_path: Path) -> None:
    encoder = Tokens.tiny()
    ids = np.array([[0.0], [250_001.0], [2.0**24 - 1]], dtype=np.float32)
    store = FeatureStore(tmp_path, encoder.spec)
    store.write([("k", ids)])
    assert np.asarray(store.get("k"))[:, 0].astype(np.int64).tolist() == [0, 250_001, 2**24 - 1]


def test_no_model_is_in_memory() -> None:
    encoder = Tokens.tiny()
    encoder.load()
    assert isinstance(encoder, WithWeights)
    assert encoder.resident_bytes() == 0
    assert [t.names for t in turns({"tokens": encoder}, 4, "cpu", 1e9)] == [("tokens",)]
    assert not hasattr(encoder, "_model")
    encoder.unload()
    assert not encoder.loaded
    assert encoder(["no"])[0].shape[1] == 1


def test_what_decides_the_ids_is_in_the_fingerprint(tmp_path: Path) -> None:
    folder = tiny_folder("roberta", tmp_path / "other", hidden_size=8)
    one, other = Tokens.tiny().spec, Tokens(f"tokens/path:{folder}").spec
    assert one.fingerprint != other.fingerprint
    assert (one.modality, one.dim, one.dtype) == ("text", 1, "float32")
    assert Tokens("tokens/roberta/large").spec.licence == "mit"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tokens", "no encoder 'tokens'; known: tokens/bert/base"),
        ("tokens/roberta/larg", "no encoder 'tokens/roberta/larg'; did you mean 'tokens/roberta/large'"),
        ("tokens/wavlm/large", "no encoder 'tokens/wavlm/large'"),
    ],
)
def test_an_unknown_name_is_refused(name: str, message: str) -> None:
    with pytest.raises(SerkitError, match=message):
        Tokens(name)


def test_a_model_that_reads_no_text_is_refused(tmp_path: Path) -> None:
    folder = tiny_folder("wavlm", tmp_path / "wavlm")
    with pytest.raises(SerkitError, match="is of the family 'wavlm', expected one that reads text"):
        Tokens(f"tokens/path:{folder}")
    with pytest.raises(SerkitError, match="item of type int, expected str"):
        Tokens.tiny()([3])


def test_a_damaged_file_is_refused() -> None:
    spec = Tokens.tiny().spec
    for content in (b"{}", b"\xff", b'{"version": "1.0"'):
        with pytest.raises(SerkitError, match=r"its tokenizer\.json is damaged"):
            Tokens.of_file(spec, content)


def test_a_tokenizer_without_markers_is_refused() -> None:
    import json

    row: dict[str, Any] = json.loads(Tokenizer.of_folder("x", tiny_folder("bert")).content)
    row["post_processor"] = None
    with pytest.raises(SerkitError, match="puts no marker before a text"):
        Tokenizer(json.dumps(row).encode(), "x")


def test_half_a_character_is_read_as_the_sign_for_one() -> None:
    """A lone surrogate, as from a file name or a cut emoji, is no text for tokenizers."""
    pytest.importorskip("transformers")
    encoder = Tokens.tiny()
    cut, sign, whole = encoder(["a \ud83d b", "a \ufffd b", "a \U0001f600 b"])
    np.testing.assert_array_equal(cut, sign)
    assert len(whole) != len(sign) or not np.array_equal(whole, sign)
