"""Tables of a report: what stands in a cell."""

from __future__ import annotations

from serkit.reporting.data_tables import networks, settings
from serkit.reporting.reading import Source
from serkit.reporting.tables import short_features, systems

from .example import report


def test_a_system_says_how_many_weights_a_network_of_it_has() -> None:
    found = networks(Source(report()))
    assert found is not None
    assert [[cell.text for cell in row.cells] for row in found.rows] == [
        ["voice_text", "cross_attention", "voice[pool=4] + hashed_text/32", "12\u202f345"]
    ]
    assert "Those of the encoders whose features it reads are not counted" in found.notes[0]
    old = report()
    for design in old["design"].values():
        design.pop("weights", None)
    assert networks(Source(old)) is None


def test_features_are_shortened_to_what_tells_them_apart() -> None:
    tree = report()
    voice = "voice[pool=4,trim=true]"
    tree["design"]["voice_text"]["features"] = [voice, "silero[pool=5,pooling=mean+std,trim=true]", "hashed_text/32"]
    tree["design"]["voice_neutral"]["features"] = [voice, "silero[pool=2,trim=true]", "silero"]
    assert set(short_features(Source(tree)).values()) == {
        "voice", "silero[pool=5,pooling=mean+std,trim=true]", "hashed_text/32", "silero[pool=2,trim=true]", "silero",
    }  # fmt: skip
    tree["design"]["voice_neutral"]["features"].pop()
    short = short_features(Source(tree))
    assert short[voice] == "voice"
    assert short["silero[pool=2,trim=true]"] == "silero[pool=2]"
    assert short["silero[pool=5,pooling=mean+std,trim=true]"] == "silero[pool=5,pooling=mean+std]"
    cut = ["silero[trim={'margin_s': 0.1, 'threshold_db': -30}]", "silero[trim={'margin_s': 0.1, 'threshold_db': -40}]"]
    tree["design"] = {"one": {"features": cut}}
    assert short_features(Source(tree)) == dict(zip(cut, cut, strict=True)), "an option that is a mapping stays whole"


def test_published_figures_of_the_recipe_stand_under_its_first_table() -> None:
    """Regression: every report on MSP-Podcast had those of Ueda et al., whatever the recipe was."""
    tree = report() | {"corpus": "msp_podcast"}
    assert not any("Ueda et al. (2025, table 2) report" in note for note in systems(Source(tree)).notes)
    tree["published"] = ["Published: 0.5 by others."]
    assert systems(Source(tree)).notes[-1] == "Published: 0.5 by others."


def test_the_options_of_a_reader_stand_as_they_are_given() -> None:
    tree = report()
    tree["provenance"]["corpus_info"]["options"] = {"other": "none", "unlabelled_test": True, "rating_scale": [1, 7]}
    (corpus,) = (t for t in settings(Source(tree)) if t.key.startswith("corpus"))
    rows = {row.cells[0].text: row.cells[1].text for row in corpus.rows}
    assert rows["options of its reader"] == "other=none, unlabelled_test=true, rating_scale=[1, 7]"
    del tree["provenance"]["corpus_info"]["options"]
    (corpus,) = (t for t in settings(Source(tree)) if t.key.startswith("corpus"))
    assert "options of its reader" not in {row.cells[0].text for row in corpus.rows}


def test_a_second_stage_of_the_same_losses_does_not_list_them_again() -> None:
    tree = report()
    design = tree["design"]["voice_text"]
    stage = {"after_epochs": 4, "losses": design["losses"], "balance": "class"}
    design["second_stage"] = stage
    (row,) = (row for row in systems(Source(tree)).rows if row.cells[0].text == "voice_text")
    assert "(after epoch 4: the same, balanced: class)" in str(row.cells[1].sub)
    weighted = [{"name": name, "class_weights": "inverse_frequency"} for name in design["losses"]]
    told = {}
    for key, first, later in (
        ("weights", weighted, [{"name": name} for name in design["losses"]]),
        ("settings", [{"name": n, "weight": 2.0} for n in design["losses"]], [{"name": n} for n in design["losses"]]),
    ):
        tree["design"]["voice_text"] = {**design, "loss_settings": first}
        tree["design"]["voice_text"]["second_stage"] = {**stage, "loss_settings": later}
        (row,) = (row for row in systems(Source(tree)).rows if row.cells[0].text == "voice_text")
        told[key] = f"{row.cells[1].text} {row.cells[1].sub}"
    assert told == {
        "weights": "weighted cross entropy (after epoch 4: cross entropy, balanced: class)",
        "settings": "cross entropy (after epoch 4: the same losses, set otherwise, balanced: class)",
    }, "regression: stages that differ in their weights of classes were called the same"
    tree["design"]["voice_text"] = design
    design["second_stage"] = {**stage, "losses": ["focal"]}
    (row,) = (row for row in systems(Source(tree)).rows if row.cells[0].text == "voice_text")
    assert "(after epoch 4: focal, balanced: class)" in str(row.cells[1].sub)
