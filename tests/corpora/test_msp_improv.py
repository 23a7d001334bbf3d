from __future__ import annotations

from pathlib import Path

import pytest

from serkit.corpora.msp_improv import msp_improv
from serkit.errors import SerkitError

from .examples import touch


def stem(session: int, code: str, gender: str) -> str:
    return f"IMPROV-S01{code}-{gender}0{session}-P-{gender}M01"


def build(root: Path, sessions: int = 6) -> Path:
    lines = []
    for session in range(1, sessions + 1):
        for code in "AHNSOX":
            for gender in "FM":
                name = stem(session, code, gender)
                target = "N" if code in "OX" else code
                touch(root / "Audio" / f"session{session}" / f"S01{target}" / "P", [f"MSP-{name}.wav"])
                lines += [
                    f"UTD-{name}.avi; {code}; A:3.250000; V:2.500000; D:3.000000 ; N:4.000000;",
                    "W1-p1; Angry; Angry,Frustrated; A:4.0; V:2.0; D:3.0; N:4.0;",
                    "W2-p1; Happy; Happy; A:2.0; V:3.0; D:3.0; N:4.0;",
                    "W3-p2; Other (bored to bits); Other; A:2.0; V:3.0; D:3.0; N:4.0;",
                    "",
                ]
    (root / "Evalution.txt").write_text("\n".join(lines), encoding="utf-8")
    texts = root / "Human_transcriptions" / "All_human_transcriptions"
    texts.mkdir(parents=True)
    (texts / f"MSP-{stem(1, 'A', 'F')}.txt").write_text("How can I not?\n", encoding="utf-8")
    return root


TABLES = ("Evalution.txt",)
N_ROWS = 48
EXPECTED = {
    f"MSP-{stem(1, 'A', 'F')}": {
        "speaker": "F01",
        "gender": "female",
        "emotion": "anger",
        "arousal": 3.25,
        "valence": 2.5,
        "dominance": 3.0,
        "votes": {"anger": 1.0, "happiness": 1.0, "other": 1.0},
        "text": "How can I not?",
        "meta": {"label": "A", "session": 1, "target": "A", "style": "between takes", "turn": "FM01"},
    },
    f"MSP-{stem(6, 'S', 'M')}": {"speaker": "M06", "emotion": "sadness", "text": None},
}


def test_session_k_is_test_and_the_next_is_dev(tmp_path: Path) -> None:
    build(tmp_path)
    for fold in range(1, 7):
        manifest = msp_improv(tmp_path, fold=fold)
        assert manifest.info["speakers"]["test"] == [f"F0{fold}", f"M0{fold}"]
        assert manifest.info["speakers"]["dev"] == [f"F0{fold % 6 + 1}", f"M0{fold % 6 + 1}"]


def test_other_and_no_agreement(tmp_path: Path) -> None:
    build(tmp_path)
    assert msp_improv(tmp_path).info["left_out"] == {"O": 12, "X": 12}
    full = msp_improv(tmp_path, protocol="msp-improv-full-6session")
    assert full.counts()["other"] == 12
    assert sum(u.emotion is None for u in full) == 12
    assert all(u.votes for u in full)


def test_without_its_table_or_with_another_class(tmp_path: Path) -> None:
    build(tmp_path)
    path = tmp_path / "Evalution.txt"
    path.write_text(path.read_text(encoding="utf-8").replace("; X;", "; Q;"), encoding="utf-8")
    with pytest.raises(SerkitError, match="class 'Q'"):
        msp_improv(tmp_path)
    path.unlink()
    with pytest.raises(SerkitError, match=r"no Evalution\.txt"):
        msp_improv(tmp_path)


def test_a_rating_that_is_no_number(tmp_path: Path) -> None:
    path = build(tmp_path) / "Evalution.txt"
    lines = path.read_text(encoding="utf-8").split("\n")
    lines[0] = lines[0].replace("A:", "A:1.")
    path.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(SerkitError, match=r"Evalution\.txt, line 1: A is '1\..*', expected a number"):
        msp_improv(tmp_path)
