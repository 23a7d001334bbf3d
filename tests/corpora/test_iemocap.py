from __future__ import annotations

from pathlib import Path

import pytest

from serkit.corpora.iemocap import iemocap
from serkit.errors import SerkitError

from .examples import touch

CODES = ("neu", "hap", "exc", "sad", "ang", "fru", "xxx")


def evaluation(session: int) -> str:
    """One evaluation file, of a dialogue in which the woman wears the markers and both speak."""
    lines = ["% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]", ""]
    for k, code in enumerate(CODES):
        turn = f"Ses0{session}F_impro01_{'FM'[k % 2]}00{k}"
        lines += [
            f"[{6.29 + k:.4f} - {8.23 + k:.4f}]\t{turn}\t{code}\t[2.5000, 3.5000, -1.0000]",
            "C-E2:\tNeutral;\t()",
            "C-E3:\tAnger; Frustration;\t(a comment; with a mark)",
            "C-E4:\tExcited;\t()",
            "C-F1:\tHappiness;\t()",
            "A-E3:\tval 3; act 2; dom  2;\t()",
            "",
        ]
    return "\n".join(lines)


def build(root: Path, sessions: int = 5) -> Path:
    for s in range(1, sessions + 1):
        base = root / f"Session{s}" / "dialog"
        for name in ("EmoEvaluation", "transcriptions"):
            (base / name).mkdir(parents=True)
        (base / "EmoEvaluation" / f"Ses0{s}F_impro01.txt").write_text(evaluation(s), encoding="utf-8")
        text = f"Ses0{s}F_impro01_F000 [006.2901-008.2357]: Excuse me.\nSes0{s}F_impro01_M001 [007.5-008.1]: Yeah.\n"
        (base / "transcriptions" / f"Ses0{s}F_impro01.txt").write_text(text, encoding="utf-8")
        clips = [f"Ses0{s}F_impro01_{'FM'[k % 2]}00{k}.wav" for k in range(len(CODES))]
        touch(root / f"Session{s}" / "sentences" / "wav" / "Ses01F_impro01", clips)
        touch(root / f"Session{s}" / "dialog" / "wav", [f"Ses0{s}F_impro01.wav"])
    return root


N_ROWS = 25  # of seven turns, five are of the four classes
EXPECTED = {
    "Ses01F_impro01_F000": {
        "speaker": "Ses01F",
        "gender": "female",
        "emotion": "neutral",
        "text": "Excuse me.",
        "valence": 2.5,
        "arousal": 3.5,
        "dominance": None,
        "votes": {"neutral": 1.0, "anger": 0.5, "frustration": 0.5, "happiness": 1.0},
        "meta": {"label": "neu", "session": 1, "style": "improvised"},
    },
    "Ses01F_impro01_M001": {"speaker": "Ses01M", "gender": "male", "emotion": "happiness", "meta": {"label": "hap"}},
    "Ses05F_impro01_F002": {"emotion": "happiness", "meta": {"label": "exc"}, "text": None},
}


def test_session_k_is_test_and_the_next_is_dev(tmp_path: Path) -> None:
    build(tmp_path)
    for fold in range(1, 6):
        manifest = iemocap(tmp_path, fold=fold)
        assert {u.meta["session"] for u in manifest.split("test")} == {fold}
        assert {u.meta["session"] for u in manifest.split("dev")} == {fold % 5 + 1}
        assert len({u.meta["session"] for u in manifest.split("train")}) == 3


def test_four_classes_merge_excitement_and_count_what_they_leave_out(tmp_path: Path) -> None:
    manifest = iemocap(build(tmp_path))
    assert manifest.labels == ("anger", "happiness", "neutral", "sadness")
    assert manifest.counts() == {"anger": 5, "happiness": 10, "neutral": 5, "sadness": 5}
    assert manifest.info["left_out"] == {"fru": 5, "xxx": 5}
    published = {c["what"]: c["published"] for c in manifest.info["count_findings"]}
    assert sum(published.values()) == 5531


def test_all_labels_keep_disagreement_as_none(tmp_path: Path) -> None:
    manifest = iemocap(build(tmp_path), protocol="iemocap-full-5session")
    rows = {u.meta["label"]: u for u in manifest}
    assert rows["xxx"].emotion is None
    assert rows["xxx"].votes == {"neutral": 1.0, "anger": 0.5, "frustration": 0.5, "excitement": 1.0}
    assert rows["exc"].emotion == "excitement"
    assert len(manifest) == 35


def test_the_actors_own_votes_only_when_asked_for(tmp_path: Path) -> None:
    build(tmp_path)
    mine = iemocap(tmp_path, votes="all").utterances[0]
    assert mine.votes is not None
    assert mine.votes["happiness"] == 2.0
    with pytest.raises(SerkitError, match="evaluators or all"):
        iemocap(tmp_path, votes="some")


def test_a_partial_copy_makes_the_folds_it_can(tmp_path: Path) -> None:
    build(tmp_path / "three", sessions=3)
    manifest = iemocap(tmp_path / "three", fold=3)
    assert manifest.info["folds"] == 3
    assert any("partial copy" in note for note in manifest.info["notes"])
    build(tmp_path / "two", sessions=2)
    with pytest.raises(SerkitError, match="need three sessions"):
        iemocap(tmp_path / "two")


def test_missing_clips_and_unknown_labels(tmp_path: Path) -> None:
    build(tmp_path)
    next(tmp_path.rglob("Ses01F_impro01_F000.wav")).unlink()
    assert iemocap(tmp_path).info["missing_audio"] == {"count": 1, "examples": ["Ses01F_impro01_F000"]}
    path = tmp_path / "Session1" / "dialog" / "EmoEvaluation" / "Ses01F_impro01.txt"
    path.write_text(evaluation(1).replace("\thap\t", "\tzzz\t"), encoding="utf-8")
    with pytest.raises(SerkitError, match="label 'zzz'"):
        iemocap(tmp_path)
