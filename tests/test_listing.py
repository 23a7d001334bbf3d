import json

import pytest

from serkit import listing, registry
from serkit.recipe import recipe_names
from tiny_checkpoints import without_hub


def test_every_member_is_listed_with_one_line():
    for rows, names in (
        (listing.corpora(), registry.names("corpora")),
        (listing.recipes(), recipe_names()),
        *((listing.members(kind), registry.names(kind)) for kind in ("models", "losses", "augment")),
    ):
        assert tuple(r["name"] for r in rows) == names
        assert all(r["line"] and "\n" not in r["line"] for r in rows)
        json.dumps(rows)


def test_encoders_are_listed_by_full_name_whether_installed_or_not():
    rows = listing.encoders()
    assert {r["family"] for r in rows} == set(registry.names("encoders"))
    assert "whisper/large-v3" in {r["name"] for r in rows}
    assert all(r["line"] for r in rows)


def test_tokens_are_free_where_their_model_is(tmp_path, monkeypatch):
    pytest.importorskip("transformers")
    without_hub(tmp_path, monkeypatch)
    allowed = {row["name"]: row["commercial"] for row in listing.encoders()}
    known = {name for name in allowed if name.startswith("tokens/") and not name.endswith("random")}
    assert known
    assert all(allowed[name] == allowed[name.removeprefix("tokens/")] for name in known)
    assert None in {allowed[name] for name in known}, "of some it is unknown"
    (row,), (model,) = (listing.checked([name]) for name in ("tokens/roberta/large", "roberta/large"))
    assert (row["name"], row["loadable"]) == ("roberta/large", False)
    assert row["reason"] == model["reason"]
    (tiny,) = listing.checked(["tokens/roberta/random"])
    assert tiny["loadable"]


def test_sources_and_licences_are_said():
    for row in listing.corpora():
        assert row["licence"]
        assert row["protocols"]
        assert row["layout"]
    assert "12 systems" in next(r["line"] for r in listing.recipes() if r["name"] == "toy")


def test_a_corpus_without_a_language_or_an_address_leaves_no_gap():
    for row in listing.corpora():
        assert "(," not in row["line"], row["line"]
        assert "; )" not in row["line"], row["line"]
        assert row["url"] in row["line"]


def test_recipes_say_what_they_need():
    rows = {row["name"]: row for row in listing.recipes()}
    assert (rows["offline12"]["extras"], rows["ueda2025"]["extras"]) == ([], ["foundation"])
    assert "reads functionals, silero, voice, silero/functionals, logmel/80; base install)" in rows["offline12"]["line"]
    alone = "base install and pip install --no-deps 'pipecat-ai>=1.0,<2')"
    assert alone in rows["turn"]["line"]
    assert rows["ueda2025"]["line"].endswith("; extra: foundation)")
    assert rows["mll2026"]["encoders"] == ["waveform", "wavlm/large"]
    assert rows["wavlm_baseline"]["extras"] == ["foundation"]


def test_models_and_losses_say_where_they_come_from():
    for kind in ("models", "losses"):
        for row in listing.members(kind):
            said = any(char.isdigit() for char in row["doc"].rpartition("(")[2]) or "serkit's own" in row["doc"]
            assert said, f"{row['name']}: the docstring's first sentence ends (author year) or (serkit's own)"
