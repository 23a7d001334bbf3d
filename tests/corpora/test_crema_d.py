from __future__ import annotations

from pathlib import Path

import pytest

from serkit.corpora.crema_d import crema_d
from serkit.errors import SerkitError

from .examples import touch

ACTORS = (1001, 1002, 1003, 1004, 1005, 1006)
# The shapes of the official files, read in the repository of the corpus.
TABULATED = """"","A","D","F","H","N","S","fileName","numResponses","agreement","emoVote"
"100009",5,5,0,0,1,1,"1001_IEO_ANG_MD",12,0.41,"A:D"
"100010",2,6,0,0,1,0,"1001_IEO_ANG_HI",9,0.66,"D"
"200010",9,0,0,0,0,0,"1001_IEO_ANG_HI",9,1,"A"
"300010",0,0,0,0,9,0,"1001_IEO_ANG_HI",9,1,"N"
"""
SUMMARY = """"","FileName","VoiceVote","VoiceLevel","FaceVote","FaceLevel","MultiModalVote","MultiModalLevel"
"9","1001_IEO_ANG_MD","A:D","37.2:58.6","A","45.5","A","44.2"
"10","1001_IEO_ANG_HI","D","67","A","65.56","A","63.25"
"11","1002_IEO_ANG_XX","N","67","A","65.56","A","63.25"
"""
PEOPLE = '"ActorID","Age","Sex","Race","Ethnicity"\n1001,51,"Male","x","y"\n1002,21,"Female","x","y"\n'
RESPONSES = """"","localid","pos","ans","ttr","queryType","numTries","clipNum","questNum","clipName","respEmo","lvl"
"1","a",1,"A_50",1,1,0,1,1,"1001_IEO_ANG_HI","A",50
"2","b",1,"D_50",1,1,0,1,1,"1001_IEO_ANG_HI","D",50
"3","c",1,"D_70",1,1,0,1,1,"1001_IEO_ANG_HI","D",70
"4","d",1,"H_70",1,2,0,1,1,"1001_IEO_ANG_HI","H",70
"""


def build(root: Path) -> Path:
    labels = ("ANG", "DIS", "FEA", "HAP", "NEU", "SAD")
    touch(root, [f"AudioWAV/{a}_IEO_{label}_XX.wav" for a in ACTORS for label in labels])
    touch(root, ["AudioWAV/1001_IEO_ANG_MD.wav", "AudioWAV/1001_IEO_ANG_HI.wav", "AudioWAV/1004_ITH_SAD_X.wav"])
    touch(root, ["AudioMP3/1001_IEO_ANG_HI.mp3"])
    (root / "processedResults").mkdir()
    (root / "processedResults" / "tabulatedVotes.csv").write_text(TABULATED)
    (root / "processedResults" / "summaryTable.csv").write_text(SUMMARY)
    (root / "VideoDemographics.csv").write_text(PEOPLE)
    return root


TABLES = ("processedResults/tabulatedVotes.csv", "processedResults/summaryTable.csv", "VideoDemographics.csv")
N_ROWS = 39
EXPECTED = {
    "1001_IEO_ANG_HI": {
        "audio": "AudioWAV/1001_IEO_ANG_HI.wav",
        "speaker": "1001",
        "gender": "male",
        "emotion": "anger",
        "votes": {"anger": 2.0, "disgust": 6.0, "neutral": 1.0},
        "text": "It's eleven o'clock.",
        "meta": {"label": "ANG", "sentence": "IEO", "intensity": "high", "voice_vote": "D"},
    },
    "1002_IEO_HAP_XX": {
        "gender": "female",
        "emotion": "happiness",
        "votes": None,
        "meta": {"intensity": "unspecified"},
    },
    "1004_ITH_SAD_X": {"gender": None, "emotion": "sadness"},
}


def test_votes_are_those_of_the_voice_alone(tmp_path: Path) -> None:
    info = crema_d(build(tmp_path)).info
    assert info["votes_source"] == "tabulatedVotes.csv"
    assert info["rows_with_votes"] == 2
    assert info["duplicate_names"] == {"count": 1, "examples": ["AudioMP3/1001_IEO_ANG_HI.mp3"]}


def test_perceived_labels_and_ties(tmp_path: Path) -> None:
    build(tmp_path)
    manifest = crema_d(tmp_path, labels="perceived")
    emotion = {u.id: u.emotion for u in manifest}
    assert emotion["1001_IEO_ANG_HI"] == "disgust"
    assert emotion["1001_IEO_ANG_MD"] is None, "a tie is no agreement"
    assert emotion["1002_IEO_ANG_XX"] == "neutral", "from summaryTable where votes are not tabulated"
    assert manifest.split_hash == crema_d(tmp_path).split_hash, "both kinds of labels have the same folds"
    with pytest.raises(SerkitError, match="did you mean 'perceived'"):
        crema_d(tmp_path, labels="percieved")


def test_votes_from_single_responses(tmp_path: Path) -> None:
    build(tmp_path)
    (tmp_path / "processedResults" / "tabulatedVotes.csv").unlink()
    (tmp_path / "finishedResponses.csv").write_text(RESPONSES)
    rows = {u.id: u for u in crema_d(tmp_path / "AudioWAV")}  # the tables lie beside the audio folder
    assert rows["1001_IEO_ANG_HI"].votes == {"anger": 1.0, "disgust": 2.0}


def test_without_votes_that_is_said(tmp_path: Path) -> None:
    touch(tmp_path, [f"{a}_IEO_ANG_XX.wav" for a in ACTORS])
    assert any("no file of votes" in note for note in crema_d(tmp_path).info["notes"])
    with pytest.raises(SerkitError, match="needs tabulatedVotes"):
        crema_d(tmp_path, labels="perceived")


def test_a_table_of_another_shape_is_one_line(tmp_path: Path) -> None:
    build(tmp_path)
    (tmp_path / "processedResults" / "summaryTable.csv").write_text("FileName,Vote\n1,2\n")
    with pytest.raises(SerkitError, match="no column 'voicevote'"):
        crema_d(tmp_path)
