"""Groups of clips: values, bins of numbers, columns of a table, refusals."""

from __future__ import annotations

import numpy as np
import pytest

from serkit.errors import SerkitError
from serkit.evaluate_settings import Group
from serkit.groupings import check, groupings, parse_groups
from serkit.types import Utterance


def rows(values, column="age", speakers=20, **fields):
    return [
        Utterance(f"u{k}", "x.wav", speaker=f"s{k % speakers}", meta={} if v is None else {column: v}, **fields)
        for k, v in enumerate(values)
    ]


def grouped(utterances, *asked):
    found = {g.name: g for g in groupings(utterances, asked)}
    return {name: [g.groups[k] for k in g.index] for name, g in found.items()}, {n: g.groups for n, g in found.items()}


def test_a_column_of_words_has_a_group_for_each_and_one_for_none():
    given = ["north", "south", None, "east", " south ", "n/a"]
    _, names = grouped(rows(given, "accent"))
    assert names == {}, "nothing is grouped by a column that nobody asked for"
    each, names = grouped(rows(given, "accent"), Group(name="accent"))
    assert names["accent"] == ("east", "north", "south", "unknown")
    assert each["accent"] == ["north", "south", "unknown", "east", "south", "unknown"]


def test_few_numbers_are_groups_and_many_are_quarters():
    _, names = grouped(rows([10, 2.0, "2", 1]), Group(name="age"))
    assert names["age"] == ("1", "2", "10"), "by size, whatever they are written as"
    ages = np.arange(20, 60)
    each, names = grouped(rows([str(a) for a in ages]), Group(name="age"))
    assert names["age"] == ("below 30", "30 to 40", "40 to 50", "from 50")
    assert [each["age"].count(n) for n in names["age"]] == [10, 10, 10, 10]
    assert each["age"][10] == "30 to 40", "an edge is in the bin above it"
    _, names = grouped(rows([0.12345, 1.5, 2.25, 3.123456, 4.0, 5.0, 6.0, 7.0] * 3), Group(name="age"))
    assert names["age"] == ("below 2.06", "2.06 to 3.56", "3.56 to 5.25", "from 5.25")


@pytest.mark.parametrize(
    ("first", "step", "names"),
    [
        (20260101, 1, ("below 20260111", "20260111 to 20260121", "20260121 to 20260131", "from 20260131")),
        (1_700_000_000, 5, ("below 1700000049", "1700000049 to 1700000098", "1700000098 to 1700000147")),
        (2001.5, 0.1, ("below 2002.5", "2002.5 to 2003.5", "2003.5 to 2004.4", "from 2004.4")),
    ],
)
def test_large_numbers_that_differ_little_are_quarters_too(first, step, names):
    """Regression: dates were two groups of one name, the first of them without a clip, which no evaluation took."""
    given = [first + step * k for k in range(40)]
    for group in (Group(name="date"), Group(name="date", edges=(given[9], given[20], given[30]))):
        each, found = grouped(rows(given, "date"), group)
        assert len(found["date"]) == len(set(found["date"])) == 4
        assert [each["date"].count(name) for name in found["date"]] == pytest.approx([10] * 4, abs=1)
        if not group.edges:
            assert found["date"][: len(names)] == names


@pytest.mark.parametrize(("speakers", "groups"), [(40, 4), (20, 4), (19, 3), (14, 2), (3, 2)])
def test_fewer_speakers_have_larger_bins(speakers, groups):
    given = [20 + k % speakers for k in range(120)]
    many = [a + k / 1000 for k, a in enumerate(given)]
    _, names = grouped(rows(many, speakers=speakers), Group(name="age"))
    assert len(names["age"]) == groups


@pytest.mark.parametrize(("n", "groups"), [(6, 6), (7, 4)])
def test_up_to_six_numbers_are_a_group_each(n, groups):
    _, names = grouped(rows([k % n for k in range(84)]), Group(name="age"))
    assert len(names["age"]) == groups


def test_a_duration_that_is_an_edge_is_in_the_third_above_it():
    lengths = [1.0] * 8 + [2.0] * 7 + [3.0] * 7 + [4.0] * 8
    some = [Utterance(f"u{k}", "x.wav", end_s=s) for k, s in enumerate(lengths)]
    each, names = grouped(some)
    assert names["duration"] == ("1 below 2.00 s", "2 2.00 to 3.00 s", "3 from 3.00 s")
    assert [each["duration"].count(name) for name in names["duration"]] == [8, 7, 15]


def test_given_edges_and_numbers_that_are_alike():
    each, names = grouped(rows([18, 30, 49.9, 50, None]), Group(name="age", edges=(30, 50)))
    assert names["age"] == ("below 30", "30 to 50", "from 50", "unknown")
    assert each["age"] == ["below 30", "30 to 50", "30 to 50", "from 50", "unknown"]
    _, names = grouped(rows([0] * 90 + list(range(10))), Group(name="age"))
    assert names["age"] == tuple("0123456789"), "quarters would all begin at 0"


def test_speakers_are_names_and_never_bins():
    _, names = grouped(rows([None] * 30, speakers=15), Group(name="speaker"))
    assert len(names["speaker"]) == 15
    numbered = [Utterance(f"u{k}", "x.wav", speaker=f"{k % 12}") for k in range(24)]
    _, names = grouped(numbered, Group(name="speaker"))
    assert names["speaker"] == tuple(str(k) for k in range(12))


def test_what_is_always_there_comes_first_and_can_be_asked_for_with_edges():
    some = [
        Utterance(f"u{k}", "x.wav", end_s=1 + k / 10, gender="female" if k % 2 else "male", meta={"site": "lab"})
        for k in range(30)
    ]
    _, names = grouped(some, Group(name="site"), Group(name="duration", edges=(2,)))
    assert list(names) == ["gender", "duration", "site"]
    assert names["duration"] == ("below 2", "from 2")
    assert names["site"] == ("lab",), "asked for, so shown, though all are alike"
    _, names = grouped(some)
    assert list(names) == ["gender", "duration"]
    assert names["duration"][0] == "1 below 1.97 s"


def test_ratings_are_columns_too():
    some = [Utterance(f"u{k}", "x.wav", speaker=f"s{k}", arousal=k / 4) for k in range(24)]
    _, names = grouped(some, Group(name="arousal"))
    assert len(names["arousal"]) == 4


def test_the_sentence_is_a_column_too():
    some = [Utterance(f"u{k}", "x.wav", speaker=f"s{k}", text=("Dogs.", "Kids.")[k % 2]) for k in range(24)]
    _, names = grouped(some, Group(name="text"))
    assert names["text"] == ("Dogs.", "Kids.")


def test_columns_that_are_no_groups_are_refused():
    with pytest.raises(SerkitError, match="no utterance has a value in the column 'acccent'; did you mean 'accent'"):
        check(rows(["a", "b"], "accent"), [Group(name="acccent")])
    with pytest.raises(SerkitError, match="'note' has 50 different values, such as 'n0'; groups need"):
        check(rows([f"n{k}" for k in range(50)], "note"), [Group(name="note")])
    with pytest.raises(SerkitError, match="group 'age' has edges, but one of its values is 'old' and no number"):
        check(rows([20, "old"]), [Group(name="age", edges=(30,))])
    check(rows([20, "old"]), [Group(name="age")])


def test_groups_on_the_command_line():
    assert parse_groups(["accent", " age =30, 50.5"]) == (Group(name="accent"), Group(name="age", edges=(30, 50.5)))
    for wrong in ("", "=3", "age=", "age=50,30", "age=30,30", "age=x", "age=nan"):
        with pytest.raises(SerkitError, match="expected the name of a column, or a name with rising edges"):
            parse_groups([wrong])
    with pytest.raises(SerkitError, match="'age' is given twice"):
        parse_groups(["age", "age=30"])
