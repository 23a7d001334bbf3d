from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

import pytest

from serkit import protocols, recordings
from serkit.audit import audit
from serkit.cards import Card, Count, Protocol
from serkit.corpora.table import table
from serkit.errors import SerkitError
from serkit.types import Manifest, Utterance

ONE = Protocol("p", 3, 4, "speakers in folds")
SHARED = Protocol("q", 1, 1, "speakers shared", speakers_shared=True)
CARD = Card(
    "mine", "Mine", "CC0", "url", "me", ("en",), "acted", {"a": "anger", "s": "sadness"}, ("anger", "sadness"),
    (ONE, SHARED), Count(5, "paper"), Count(40, "paper"), {"anger": Count(20, "paper")}, "NAME.wav", ("a trap",),
)  # fmt: skip


def row(k: int, speaker: str | None, emotion: str | None = "anger", **fields: object) -> Utterance:
    return Utterance(f"u{k}", f"u{k}.wav", speaker=speaker, emotion=emotion, **fields)  # type: ignore[arg-type]


def rows(n_speakers: int = 12, n_each: int = 10) -> list[Utterance]:
    """Speakers with unequal numbers of clips; women and men; two emotions; a third of one speaker only."""
    out: list[Utterance] = []
    for s in range(n_speakers):
        for k in range(n_each + 5 * (s % 3)):
            gender = "female" if s < n_speakers // 2 else "male"
            out.append(row(len(out), f"s{s:02d}", "anger" if k % 2 else "sadness", gender=gender))
    return out


def test_labels_have_one_map() -> None:
    assert recordings.canonical_label(" HAPPY ") == "happiness"
    assert recordings.canonical_label("fear") == "fear"
    assert recordings.canonical_label("Pleasant Surprise") == "surprise"
    assert recordings.canonical_label("No agreement") is None
    assert recordings.canonical_label("Schadenfreude") == "Schadenfreude"


def test_mistyped_labels_are_found_and_a_column_of_sentences_takes_no_time():
    assert recordings.mistyped_label({"happiness": 9, "Hapiness": 30}) == ("Hapiness", "happiness")
    assert recordings.mistyped_label({"happiness": 9, "Hapiness": 30}, ["Hapiness"]) is None
    assert recordings.mistyped_label({"relief": 40, "releif": 4}) == ("releif", "relief")
    assert recordings.mistyped_label({"relief": 40, "releif": 30}) is None
    start = time.process_time()
    assert recordings.mistyped_label({f"sentence {k} of many": 1 for k in range(20_000)}) is None
    assert time.process_time() - start < 10
    assert set(recordings.LABEL_SYNONYMS.values()) <= set(recordings.CANONICAL_LABELS)
    assert recordings.order_labels(["zest", "sadness", "anger", "awe"]) == ("anger", "sadness", "awe", "zest")


def test_ids_are_safe_and_long_ones_stay_apart() -> None:
    assert recordings.safe_id("ä/b c") == "u__b_c"
    one, two = recordings.safe_id("x" * 300 + "1"), recordings.safe_id("x" * 300 + "2")
    assert one != two
    assert len(one) <= 200
    Utterance(one, "a.wav")


def test_flags_from_the_command_line() -> None:
    assert recordings.as_flag("True", "x") is True
    assert recordings.as_flag(False, "x") is False
    with pytest.raises(SerkitError, match="option x is 'maybe', expected true or false"):
        recordings.as_flag("maybe", "x")


def test_folds_of_consecutive_speakers_are_as_equal_as_can_be() -> None:
    folds = protocols.fold_of_speakers([f"{k:02d}" for k in range(1, 24)], 6)
    assert list(folds) == sorted(folds)
    assert sorted(Counter(folds.values()).values()) == [3, 4, 4, 4, 4, 4]
    assert max(protocols.fold_of_speakers("abcd", 6).values()) == 4
    with pytest.raises(SerkitError, match=r"2 speakers here \(a, b\)"):
        protocols.fold_of_speakers("ab", 6)


def test_dealt_folds_spread_clips_and_gender() -> None:
    data = rows()
    folds = protocols.fold_of_speakers({u.speaker for u in data if u.speaker}, 4, protocols.speaker_counts(data))
    load = Counter((folds[u.speaker], u.gender) for u in data if u.speaker)
    sizes = [load[k, "female"] + load[k, "male"] for k in range(1, 5)]
    assert max(sizes) - min(sizes) <= 15
    assert all(load[k, g] > 0 for k in range(1, 5) for g in ("female", "male"))


def test_test_dev_and_train_of_every_fold() -> None:
    data = [*rows(), row(9999, None)]
    folds = protocols.fold_of_speakers({u.speaker for u in data if u.speaker}, 4)
    for fold in range(1, 5):
        split = protocols.split_by_speaker(data, fold, folds)
        where = {u.speaker: u.split for u in split}
        for speaker, k in folds.items():
            expected = "test" if k == fold else "dev" if k == fold % 4 + 1 else "train"
            assert where[speaker] == expected
        assert where[None] is None, "an unknown speaker belongs to no fold"
        assert [u.id for u in split] == [u.id for u in data]
    with pytest.raises(SerkitError, match="has folds 1 to 4, got fold 5"):
        protocols.split_by_speaker(data, 5, folds)


@pytest.mark.parametrize("seed", range(8))
def test_random_split_keeps_speakers_apart_and_classes_in_train(seed: int) -> None:
    data = [*rows(), *(row(5000 + k, "s03", "fear") for k in range(3))]  # fear has one speaker
    split = protocols.random_speaker_split(data, seed)
    assert protocols.shared_speakers(split) == {"train/dev": 0, "train/test": 0, "dev/test": 0}
    share = Counter(u.split for u in split)
    assert 0.55 < share["train"] / len(split) < 0.85
    assert share["dev"] > 0
    assert share["test"] > 0
    assert {u.emotion for u in split if u.split == "train"} == {"anger", "sadness", "fear"}
    assert [u.split for u in protocols.random_speaker_split(data, seed)] == [u.split for u in split]


def test_three_speakers_are_enough_and_two_are_not() -> None:
    split = protocols.random_speaker_split(rows(3), 0)
    assert {u.split for u in split} == {"train", "dev", "test"}
    with pytest.raises(SerkitError, match="needs three or more"):
        protocols.random_speaker_split(rows(2), 0)


def test_random_utterance_split_is_stratified() -> None:
    data = [row(k, None, "anger" if k < 100 else "sadness") for k in range(140)]
    split = protocols.random_utterance_split(data, 1)
    n = Counter((u.emotion, u.split) for u in split)
    assert (n["anger", "test"], n["anger", "dev"], n["sadness", "test"]) == (15, 15, 6)
    few = protocols.random_utterance_split([row(0, None, "anger"), row(1, None, "sadness"), row(2, None, "sadness")], 0)
    assert Counter((u.emotion, u.split) for u in few) == {
        ("anger", "train"): 1,
        ("sadness", "train"): 1,
        ("sadness", "test"): 1,
    }


def test_a_random_split_of_unknown_speakers_keeps_a_recording_together() -> None:
    data = [
        Utterance(f"u{k}", f"{k // 4}.wav", emotion="anger" if k % 4 or k % 8 else "sadness", start_s=k % 4, end_s=9)
        for k in range(160)
    ]
    where: dict[str, set[str | None]] = {}
    for u in protocols.random_utterance_split(data, 1):
        where.setdefault(u.audio, set()).add(u.split)
    assert all(len(splits) == 1 for splits in where.values())
    assert Counter(next(iter(splits)) for splits in where.values()) == {"train": 28, "dev": 6, "test": 6}


def test_a_table_keeps_stretches_of_a_recording_together_or_says_that_they_are_not(tmp_path: Path) -> None:
    rows = [f"{k // 2}.wav,{k % 2},{k % 2 + 1},{'happy' if k // 2 % 2 else 'sad'}" for k in range(40)]
    for k in range(20):
        (tmp_path / f"{k}.wav").touch()

    def read(lines: list[str], more: str = "") -> Manifest:
        path = tmp_path / "data.csv"
        path.write_text("\n".join([f"path,start_s,end_s,emotion{more}", *lines]) + "\n")
        return table(path, assume_speakers="utterance")

    manifest = read(rows)
    for name in ("train", "dev", "test"):
        assert sorted(u.audio for u in manifest.split(name))[::2] == sorted({u.audio for u in manifest.split(name)})
    assert not any("in several splits" in note for note in manifest.info["notes"])
    given = read([f"{line},{('train', 'dev', 'test')[k % 3]}" for k, line in enumerate(rows)], ",split")
    said = "20 recordings of unknown speakers in several splits: test has voices and rooms that training heard"
    assert said in given.info["notes"]
    with pytest.raises(SerkitError, match="the 4 rows are stretches of 2 recordings, and train, dev and test need one"):
        read(rows[:4])


def test_a_table_keeps_files_cut_from_one_recording_together_or_says_that_they_are_not(tmp_path: Path) -> None:
    for k in range(40):
        (tmp_path / f"{k}.wav").touch()
    rows = [f"{k}.wav,call {k // 2},{'happy' if k // 2 % 2 else 'sad'}" for k in range(40)]
    path = tmp_path / "data.csv"
    path.write_text("\n".join(["path,recording,emotion", *rows]) + "\n")
    made = table(path, assume_speakers="utterance")
    where = {call: {u.split for u in made if u.recording == call} for call in {u.recording for u in made}}
    assert len(where) == 20
    assert all(len(splits) == 1 for splits in where.values())
    given = [f"{line},{('train', 'dev', 'test')[k % 3]}" for k, line in enumerate(rows)]
    path.write_text("\n".join(["path,recording,emotion,split", *given]) + "\n")
    divided = table(path, assume_speakers="utterance")
    assert any(note.startswith("20 recordings of unknown speakers in several") for note in divided.info["notes"])
    found = {f.code: f for f in audit(divided, decode=False)}
    assert found["recording-across-splits"].severity == "warning"
    assert len(found["recording-across-splits"].ids) == 40


@pytest.mark.parametrize("recordings", [3, 4, 6, 7])
def test_a_few_long_recordings_of_unknown_speakers_are_in_all_splits(recordings: int) -> None:
    """Each holds all emotions, and most of one: so few have the same that no class alone reaches all splits."""
    data = [
        Utterance(f"u{r}-{k}", f"{r}.wav", emotion="abc"[r % 3 if k % 4 else k // 4 % 3], start_s=k, end_s=k + 1)
        for r in range(recordings)
        for k in range(24)
    ]
    found = protocols.random_utterance_split(data, 1)
    assert {(u.split, u.emotion) for u in found} == {(s, e) for s in ("train", "dev", "test") for e in "abc"}
    assert {u.split for u in protocols.random_utterance_split(data, 1, (0.8, 0.2, 0.0))} == {"train", "dev"}
    rare = [u for u in data if u.audio == "0.wav" or u.emotion != "a"]
    assert {u.split for u in protocols.random_utterance_split(rare, 1) if u.emotion == "a"} == {"train"}


def test_thousands_of_stretches_of_one_recording_are_split_at_once() -> None:
    data = [Utterance(f"u{k}", f"{k % 3}.wav", emotion=f"e{k % 9}", start_s=k, end_s=k + 1) for k in range(60_000)]
    began = time.process_time()
    protocols.random_utterance_split(data, 1)
    assert time.process_time() - began < 3


def test_dev_is_carved_from_whole_train_speakers() -> None:
    data = [protocols.with_split(u, "test" if u.speaker in ("s00", "s01") else "train") for u in rows()]
    split = protocols.carve_dev(data, 4)
    assert protocols.shared_speakers(split) == {"train/dev": 0, "train/test": 0, "dev/test": 0}
    assert [u.id for u in split if u.split == "test"] == [u.id for u in data if u.split == "test"]
    assert 0 < sum(u.split == "dev" for u in split) < 60
    alone = [protocols.with_split(u, "train" if u.speaker == "s05" else "test") for u in rows()]
    with pytest.raises(SerkitError, match="train has 1 known speaker"):
        protocols.carve_dev(alone, 0)


def test_a_split_without_labels_lacks_no_class() -> None:
    data = [row(k, f"s{k}", "anger", split=("train", "dev")[k % 2]) for k in range(8)]
    data += [row(20 + k, f"t{k}", None, split="test") for k in range(3)]
    assert protocols.class_findings(data, ("anger",)) == []


def test_rows_without_a_split_are_counted(tmp_path: Path) -> None:
    data = [row(k, f"s{k % 4}", split=("train", "dev", "test", None)[k % 4]) for k in range(20)]
    data += [row(30, None, split=None), row(31, None, split="train")]
    notes = protocols.finish(CARD, data, root=tmp_path, protocol=ONE, fold=1, folds=1, version="7").info["notes"]
    assert "6 of 22 rows have no split and are not used" in notes
    assert "1 of 16 rows have no known speaker: in intervals each counts as one" in notes


def test_manifest_says_what_is_here_and_what_should_be(tmp_path: Path) -> None:
    data = protocols.split_by_speaker(
        [row(k, f"s{k % 4}", "anger" if k < 20 else "sadness") for k in range(30)],
        1,
        {f"s{k}": k + 1 for k in range(4)},
    )
    manifest = protocols.finish(CARD, data, root=tmp_path, protocol=ONE, fold=1, folds=4, version="7", notes=["so"])
    info = manifest.info
    assert (info["corpus_version"], info["protocol"], info["protocol_version"], info["folds"]) == ("7", "p", 3, 4)
    assert info["count_findings"] == [
        {"what": "speakers", "here": 4, "published": 5, "source": "paper"},
        {"what": "utterances", "here": 30, "published": 40, "source": "paper"},
    ]
    assert info["notes"] == ["a trap", "so", "partial copy: 4 of 5 speakers; 4 folds made from those present"]
    assert info["speakers"] == {"train": ["s2", "s3"], "dev": ["s1"], "test": ["s0"]}
    assert info["speakers_shared"] is False


def test_shared_speakers_are_refused_unless_the_protocol_says_so(tmp_path: Path) -> None:
    data = [row(0, "s", "anger", split="train"), row(1, "s", "anger", split="test")]
    with pytest.raises(SerkitError, match="speaker 's' is in train and in test"):
        protocols.finish(CARD, data, root=tmp_path, protocol=ONE, fold=1, folds=1)
    manifest = protocols.finish(CARD, data, root=tmp_path, protocol=SHARED, fold=1, folds=1)
    assert "speakers shared: 1 in train/test" in manifest.info["notes"]


def test_thin_classes_get_one_line_each() -> None:
    data = [
        *(row(k, f"s{k}", "anger", split=("train", "dev", "test")[k % 3]) for k in range(9)),
        *(row(20 + k, "s1", "fear", split=("train", "dev", "test")[k]) for k in range(3)),
        *(row(30 + k, f"s{k}", "sadness", split="train") for k in range(4)),
        row(40, "s1", "disgust", split="train"),
    ]
    lines = protocols.class_findings(data, ("anger", "disgust", "fear", "sadness"))
    assert [line.split(":")[0] for line in lines] == [
        "class 'disgust' has 1 clip",
        "class 'fear' is spoken by one speaker only",
        "class 'sadness' has no clip in dev and test",
    ]


def test_finding_recordings(tmp_path: Path) -> None:
    def parse(path: object) -> Utterance | None:
        stem = Path(str(path)).stem
        return Utterance(stem, str(path)) if stem.startswith("x") else None

    for name in (
        "b/x1.mp3",
        "a/x1.WAV",
        "c/x1.wav",
        "x2.flac",
        "y.wav",
        "._x3.wav",
        "__MACOSX/x4.wav",
        ".git/x5.wav",
        "x6.txt",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "loop").symlink_to(tmp_path)
    found, rest = recordings.recognise(tmp_path, CARD, parse)
    assert [(u.id, u.audio) for u in found] == [("x1", "a/x1.WAV"), ("x2", "x2.flac")]
    assert rest["unrecognised_audio"] == {"count": 1, "examples": ["y.wav"]}
    assert rest["duplicate_names"] == {"count": 2, "examples": ["b/x1.mp3", "c/x1.wav"]}
    assert recordings.missing_audio(tmp_path, [*found, Utterance("z", "z.wav")]) == ["z.wav"]


def test_choosing_a_protocol() -> None:
    assert protocols.choose_protocol(CARD, None) is ONE
    with pytest.raises(SerkitError, match="mine has no protocol 'r'; known: p, q"):
        protocols.choose_protocol(CARD, "r")
