import json

from serkit import listing, registry
from serkit.recipe import recipe_names


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


def test_sources_and_licences_are_said():
    for row in listing.corpora():
        assert row["licence"]
        assert row["protocols"]
        assert row["layout"]
    assert "12 systems" in next(r["line"] for r in listing.recipes() if r["name"] == "toy")
