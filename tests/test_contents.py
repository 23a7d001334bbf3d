"""Names of what features are of: the content, and hashes that are kept."""

from serkit.contents import item_key, text_key


def test_keys_are_content() -> None:
    assert len({item_key("a"), item_key("b"), item_key("a", 1.0), item_key("a", None, 1.0), text_key("a")}) == 5
    assert item_key("a", 0.0, 2.5) == item_key("a", None, 2.5)
    assert len(item_key("a")) == 32
