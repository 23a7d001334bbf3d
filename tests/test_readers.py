import dataclasses
import json
import re
import sys
from pathlib import Path

import pytest

from serkit import config, recordings
from serkit.errors import SerkitError
from serkit.readers import card, default_root, fold_numbers, parse_options, read_corpora


def test_one_corpus_with_fold_and_protocol(toy_root):
    first = read_corpora(["toy"], [toy_root])
    second = read_corpora(["toy"], [toy_root], fold=2, protocol="toy-4fold-speaker")
    assert first.corpus == "toy"
    assert first.split_hash != second.split_hash


def test_a_root_may_be_configured_and_toy_has_one_anyway(toy_root, tmp_path, monkeypatch):
    monkeypatch.setenv("SERKIT_CONFIG", str(tmp_path))
    assert default_root("toy") == config.cache_folder() / "toy"
    (tmp_path / "roots.yaml").write_text(f"corpora: {{toy: {toy_root}}}\n")
    assert len(read_corpora(["toy"], [])) == 80
    with pytest.raises(SerkitError, match=r"corpus 'ravdess' needs --root DIR, or a line under .*roots.yaml"):
        default_root("ravdess")


@pytest.mark.parametrize(
    ("names", "roots", "options", "message"),
    [
        (["tooy"], 1, {}, "no corpus 'tooy'; did you mean 'toy'"),
        (["toy", "table"], 1, {}, "2 --corpus and 1 --root"),
        (["toy"], 1, {"fold": 5}, "has folds 1 to 4, got fold 5"),
        (["toy"], 1, {"fold": 0}, "has folds 1 to 4, got fold 0"),
        (["toy"], 1, {"protocol": "toy-4fold-speker"}, "no protocol 'toy-4fold-speker'; did you mean"),
        (["toy"], 1, {"options": ["speakers_shared=true"]}, "--option speakers_shared: no reader of toy takes it"),
        (["table"], 1, {"options": ["own_label=x"]}, "no reader of table takes it; did you mean 'own_labels'"),
        (["toy"], 1, {"options": ["x"]}, "expected KEY=VALUE"),
        (["toy"], 1, {"options": ["x=[1"]}, "^--option x is not valid YAML: .* column 3"),
        (["toy", "toy"], 2, {}, "--corpus toy is given twice"),
    ],
)
def test_what_cannot_be_read_is_said(toy_root, names, roots, options, message):
    with pytest.raises(SerkitError, match=message):
        read_corpora(names, [toy_root] * roots, **options)


def test_an_option_reaches_the_reader_that_takes_it(toy_root, tmp_path):
    clips = sorted(Path(toy_root).rglob("*.wav"))
    path = tmp_path / "t.csv"
    rows = [f"{clip},{('anger', 'fear')[k % 2]}" for k, clip in enumerate(clips[:12])]
    path.write_text("path,emotion\n" + "\n".join(rows) + "\n")
    with pytest.raises(SerkitError, match="speaker"):
        read_corpora(["table"], [path])
    found = parse_options(["a=1", "b=[x, y]", "c="])
    assert {one.name: one.value for one in found} == {"a": 1, "b": ["x", "y"], "c": None}
    read = read_corpora(["table"], [path], options=["assume_speakers=utterance"])
    assert read.utterances[0].speaker is None
    assert read.info["options"] == {"assume_speakers": "utterance"}, "the report says what was asked of the reader"
    joined = read_corpora(["toy", "table"], [toy_root, path], options=["assume_speakers=utterance"])
    assert [info.get("options") for info in joined.info["corpora"].values()] == [None, read.info["options"]]
    beside = read_corpora(["toy", "table"], [toy_root, path], options=["assume_speakers=utterance"], test_on=["table"])
    assert beside.info["corpora"]["table"]["options"] == read.info["options"], "and nothing that was not asked"


@pytest.mark.parametrize("label", ["no", "1", "2.50", "~", "2024-01-01", "#x", "{a: b}"])
def test_a_label_that_yaml_reads_as_something_else_is_confirmed_as_told(toy_root, tmp_path, label):
    clips = sorted(Path(toy_root).rglob("*.wav"))
    path = tmp_path / "t.jsonl"
    rows = [
        {"path": str(clip), "emotion": (label, "fear")[k % 2], "speaker": f"s{k // 4}"}
        for k, clip in enumerate(clips[:12])
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    seen = []
    real = recordings.refuse_mistyped
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            recordings, "refuse_mistyped", lambda rows, own, *rest: (seen.append(own), real(rows, own, *rest))
        )
        read_corpora(["table"], [path], options=[f"own_labels={label}"])
        read_corpora(["table"], [path], options=[f"own_labels=['{label}', no, 1]"])
    assert seen == [[label], [label, "no", "1"]]


@pytest.mark.parametrize(
    ("corpus", "option", "message"),
    [
        ("crema_d", "labels=1", "crema_d: no labels '1'; known: intended, perceived"),
        ("crema_d", "labels=[a]", r"crema_d: no labels '\[a\]'"),
        ("crema_d", "labels=", "crema_d: no labels ''"),
        ("emobox", "dataset=1", "emobox: no lists in"),
        ("iemocap", "votes=no", "option votes is 'no', expected evaluators or all"),
        ("msp_podcast", "other=null", "option other is 'null', expected drop, keep or none"),
        ("msp_podcast", "transcripts=2", "option transcripts is '2', expected true or false"),
        ("table", "assume_speakers=[x]", r"assume_speakers is '\[x\]', expected 'utterance' or nothing"),
    ],
)
def test_the_value_of_an_option_is_what_its_reader_takes_or_one_line(tmp_path, corpus, option, message):
    (tmp_path / "clip.wav").write_bytes(b"RIFF")
    root = tmp_path
    if corpus == "table":
        root = tmp_path / "t.csv"
        root.write_text("path,emotion\nclip.wav,sad\n")
    with pytest.raises(SerkitError, match=message):
        read_corpora([corpus], [root], options=[option])


def test_an_option_of_a_corpus_of_ones_own_keeps_to_its_default(toy_root, tmp_path, monkeypatch):
    (tmp_path / "numbered.py").write_text(
        "from serkit.corpora.toy import CARD, toy\n"
        "def mine(root, *, protocol=None, fold=1, seed=0, n=3):\n"
        "    n + 1\n"
        "    return toy(root, protocol=protocol, fold=fold, seed=seed)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert len(read_corpora(["numbered.mine"], [toy_root], options=["n=4"])) == 80
    with pytest.raises(
        SerkitError, match=r"--option n of corpus 'numbered.mine' is 'x', expected a number .*such as 3"
    ):
        read_corpora(["numbered.mine"], [toy_root], options=["n=x"])


def test_two_tables_are_told_apart_by_the_names_of_their_files(toy_root, tmp_path):
    clips = sorted(Path(toy_root).rglob("*.wav"))
    files = []
    for place in ("a/mine.csv", "a/other.csv", "b/mine.csv"):
        files.append(tmp_path / place)
        files[-1].parent.mkdir(exist_ok=True)
        rows = [f"{clip},{('anger', 'fear')[k % 2]},s{k // 2}" for k, clip in enumerate(clips[:12])]
        files[-1].write_text("path,emotion,speaker\n" + "\n".join(rows) + "\n")
    both = read_corpora(["table", "toy", "table"], [files[0], Path(toy_root), files[1]])
    assert both.corpus == "table-mine+toy+table-other"
    assert set(both.class_sets) == {u.corpus for u in both} == {"table-mine", "toy", "table-other"}
    assert len({u.speaker for u in both if u.corpus != "toy"}) == 12
    assert "6 speaker names (s0, s1, s2) stand in table-mine, too" in both.info["corpora"]["table-other"]["notes"][-1]
    assert both.audio_path(both.utterances[0]).is_file()
    with pytest.raises(SerkitError, match="table is given twice with the same file"):
        read_corpora(["table", "table"], [files[0], files[0]])
    with pytest.raises(SerkitError, match=r"table is given twice with files of one name, .*: rename one"):
        read_corpora(["table", "table"], [files[0], files[2]])


def test_cards_are_found():
    assert card("toy").name == "toy"
    with pytest.raises(SerkitError, match="no corpus"):
        card("nothing")


def test_without_a_test_split_its_speakers_train_and_the_manifest_says_so(toy_root):
    measured = read_corpora(["toy"], [toy_root])
    used = read_corpora(["toy"], [toy_root], test=False)
    assert {u.split for u in used} == {"train", "dev"}
    assert {u.id for u in used.split("dev")} == {u.id for u in measured.split("dev")}
    assert len(used.split("train")) == len(measured.split("train")) + len(measured.split("test"))
    assert used.info["no_test"]
    assert "nothing here is a test result" in used.info["notes"][-1]
    assert used.fingerprint != measured.fingerprint


OWN = """
from serkit.cards import Card, Protocol
from serkit.corpora.toy import CARD as TOY, toy
CARD = TOY

def mine(root, *, protocol=None, fold=1, seed=0):
    return toy(root, protocol=protocol, fold=fold, seed=seed)

def broken(root, *, protocol=None, fold=1, seed=0):
    return toyy(root)

def other(root, *, protocol=None, fold=1, seed=0):
    return list(toy(root))
"""


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "broken",
            r"corpus 'own_corpora.broken' cannot be read: NameError: name 'toyy' is not defined \(FILE, line 10\)$",
        ),
        ("other", "corpus 'own_corpora.other' makes a list, expected a serkit.types.Manifest$"),
        ("minne", "corpus 'own_corpora.minne' cannot be imported: .*; did you mean 'mine'?"),
    ],
)
def test_a_corpus_of_ones_own_is_read_or_refused_in_one_line(toy_root, tmp_path, monkeypatch, name, said):
    (tmp_path / "own_corpora.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "own_corpora", raising=False)
    assert len(read_corpora(["own_corpora.mine"], [toy_root])) == len(read_corpora(["toy"], [toy_root]))
    with pytest.raises(SerkitError, match=said.replace("FILE", re.escape(str(tmp_path / "own_corpora.py")))):
        read_corpora([f"own_corpora.{name}"], [toy_root])


def test_the_folds_of_a_corpus_of_ones_own_stand_on_its_card(tmp_path, monkeypatch):
    (tmp_path / "own_corpora.py").write_text(OWN)
    (tmp_path / "bare_corpora.py").write_text("def mine(root, *, protocol=None, fold=1, seed=0):\n    return None\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "own_corpora", raising=False)
    assert fold_numbers(["own_corpora.mine"], None, "all") == [1, 2, 3, 4]
    monkeypatch.setattr(
        sys.modules["own_corpora"], "CARD", dataclasses.replace(sys.modules["own_corpora"].CARD, protocols=())
    )
    with pytest.raises(SerkitError, match="has no protocol: its card names none"):
        fold_numbers(["own_corpora.mine"], None, "all")
    with pytest.raises(SerkitError, match=r"corpus 'bare_corpora.mine' has no card with its protocols"):
        fold_numbers(["bare_corpora.mine"], None, "1,2")


@pytest.mark.parametrize("folds", ["²", "0", "1,,2", "one", "1;2", "9"])
def test_what_is_no_list_of_folds_is_refused(folds):
    with pytest.raises(SerkitError, match=f"--fold '{folds}': expected all, or numbers from 1 to 4"):
        fold_numbers(["toy"], None, folds)
