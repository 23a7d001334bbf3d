"""Rows that name a channel of a recording: heard as a file of that channel alone, in a run and before it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from made_calls import calls
from made_clips import RATE, by_code, manifest, save, speech
from serkit import audio, pipeline, transcripts
from serkit.audit import audit
from serkit.contents import item_key
from serkit.corpora.table import table
from serkit.corpora.toy import toy
from serkit.crossfit import crossfit_folds
from serkit.encoders.logmel import Logmel
from serkit.errors import SerkitError
from serkit.extraction import extract
from serkit.foundation.asr import Heard
from serkit.groupings import groupings, parse_groups
from serkit.recipe import parse_recipe
from serkit.remarks import Remarks
from serkit.types import Manifest, Utterance

RECIPE = """
name: sided
systems:
  sound:
    features: [{name: logmel/24, pool: 8}]
    model: {name: mean_pool, hidden: 8}
    train: {epochs: 2, batch_size: 16}
crossfit: {folds: 2}
stack: null
evaluate: {draws: 10}
"""


@pytest.mark.parametrize(
    ("rate", "kind", "subtype"), [(16_000, "WAV", "PCM_16"), (44_100, "FLAC", "PCM_24"), (8_000, "OGG", None)]
)
def test_a_channel_is_what_a_file_of_it_alone_gives(tmp_path: Path, rate: int, kind: str, subtype: str | None) -> None:
    time = np.arange(rate * 12) / rate
    sound = np.stack([0.4 * np.sin(2 * np.pi * (150 * k + 9 * time) * time) for k in (1, 2, 3)], axis=1)
    path = tmp_path / f"a.{kind.lower()}"
    soundfile.write(path, sound, rate, subtype=subtype)
    decoded, _ = soundfile.read(path, dtype="float32")
    for channel in (1, 2, 3):
        alone = tmp_path / f"{channel}.wav"
        soundfile.write(alone, decoded[:, channel - 1], rate, subtype="FLOAT")
        assert np.array_equal(audio.load(path, channel=channel), audio.load(alone))
        part = {"start_s": 1.25, "end_s": 11.5}
        assert np.array_equal(audio.load(path, channel=channel, **part), audio.load(alone, **part))
    assert np.abs(audio.load(path) - audio.load(path, channel=1)).max() > 0.1
    for channel in (0, 4, -1):
        with pytest.raises(
            SerkitError, match=rf"a\.\w+: channel {channel} is asked for, and it has 3 channels, counted from 1"
        ):
            audio.load(path, channel=channel)
    with pytest.raises(SerkitError, match="channel 2 is asked for, and it has one channel"):
        audio.load(alone, channel=2)


def test_what_is_wrong_with_another_channel_is_not_told(tmp_path: Path) -> None:
    one, other = speech(1), speech(2)
    broken = other.copy()
    broken[50] = np.nan
    soundfile.write(tmp_path / "nan.wav", np.stack([one, broken], axis=1), RATE, subtype="FLOAT")
    soundfile.write(tmp_path / "turned.wav", np.stack([one, -one], axis=1), RATE, subtype="FLOAT")
    assert np.array_equal(audio.load(tmp_path / "nan.wav", channel=1), one)
    with pytest.raises(SerkitError, match="NaN"):
        audio.load(tmp_path / "nan.wav", channel=2)
    remarks = Remarks()
    assert np.array_equal(audio.load(tmp_path / "turned.wav", channel=2, remarks=remarks), -one)
    assert (remarks.notes, remarks.two_sided) == ((), False)


def test_a_row_without_a_channel_is_what_it_was(tmp_path: Path) -> None:
    """Fingerprints, keys and files of manifests that name no channel are those of before there were any."""
    bare = Manifest("c", ("anger",), (Utterance("a", "a.wav", 0.5, 2.0, "s", "train", "anger", meta={"x": 1}),))
    assert bare.fingerprint == "0d26797c9c7228d7"
    bare.save(tmp_path / "m.jsonl")
    row = {"id": "a", "audio": "a.wav", "start_s": 0.5, "end_s": 2.0, "speaker": "s", "split": "train"}
    row |= {"emotion": "anger", "corpus": "c", "meta": {"x": 1}}
    assert (tmp_path / "m.jsonl").read_text().splitlines()[1] == json.dumps(row)
    sided = dataclasses.replace(bare, utterances=(dataclasses.replace(bare.utterances[0], channel=2),))
    assert sided.fingerprint != bare.fingerprint
    sided.save(tmp_path / "m.jsonl")
    assert json.loads((tmp_path / "m.jsonl").read_text().splitlines()[1]) == {**row, "channel": 2}
    assert Manifest.load(tmp_path / "m.jsonl") == sided
    assert item_key("ab", 0.5, 2.0) == item_key("ab", 0.5, 2.0, None) == "06a111580fa026fe1297c658994865b1"
    assert len({item_key("ab", 0.5, 2.0, k) for k in (None, 1, 2)}) == 3
    for wrong in (0, -1, 1.0, "left", True):
        with pytest.raises(
            SerkitError, match=r"utterance 'a': channel is .*, expected a whole number, 1 for the first"
        ):
            Utterance("a", "a.wav", channel=wrong)  # type: ignore[arg-type]


def test_columns_of_a_table(tmp_path: Path) -> None:
    for name in ("a.wav", "b.wav"):
        save(tmp_path, name, np.stack([speech(1), speech(2)], axis=1))
    path = tmp_path / "t.csv"

    def read(lines: str, **options: Any) -> Manifest:
        path.write_text("path,emotion,speaker,Channel,start_s\n" + lines)
        return table(path, test_only=True, **options)

    found = read(
        "a.wav,anger,s,1,\na.wav,sadness,t,2,\nb.wav,anger,s,Left,0.5\nb.wav,anger,t,right,0.5\nb.wav,fear,u,,\n"
    )
    assert [u.channel for u in found] == [1, 2, 1, 2, None]
    assert found.ids == ("a_channel1", "a_channel2", "b_0.5-end_channel1", "b_0.5-end_channel2", "b")
    assert all("channel" not in u.meta for u in found)
    [sides] = (g for g in groupings(found.utterances, parse_groups(["channel"])) if g.name == "channel")
    assert (sides.groups, sides.index.tolist()) == (("1", "2", "unknown"), [0, 1, 0, 1, 2])
    assert [u.channel for u in read("a.wav,anger,s,1.0,\nb.wav,fear,t,na,\n")] == [1, None], (
        "as tables with gaps have it"
    )
    for name in ("t.jsonl", "t.parquet"):
        other = tmp_path / name
        if name == "t.jsonl":
            found.save(other)  # a manifest is a table too
        else:
            import pyarrow
            import pyarrow.parquet

            columns = {"path": [u.audio for u in found], "channel": [u.channel for u in found]}
            columns |= {"emotion": [u.emotion for u in found], "speaker": [u.speaker for u in found]}
            columns["start_s"] = [u.start_s for u in found]
            pyarrow.parquet.write_table(pyarrow.table(columns), other)
        again = table(other, test_only=True)
        assert [(u.id, u.channel) for u in again] == [(u.id, u.channel) for u in found]
    for wrong in ("phone", "0", "1.5", "-1"):
        with pytest.raises(
            SerkitError, match=rf"t\.csv, line 3: channel is '{wrong}', expected 1 for the first channel"
        ):
            read(f"a.wav,anger,s,1,\nb.wav,fear,t,{wrong},\n")
    with pytest.raises(SerkitError, match=r"lines 2 and 3 are the same stretch of a\.wav: keep one, or give .*channel"):
        read("a.wav,anger,s,2,\na.wav,fear,t,right,\n")


@pytest.mark.parametrize("rate", [16_000, 8_000])
def test_features_are_those_of_the_files_of_one_channel(tmp_path: Path, toy_root: Path, rate: int) -> None:
    few = toy(toy_root).where(lambda u: u.id.endswith("_1"))
    sided, alone = calls(tmp_path / "calls", few, rate=rate)
    encoders = {"mel": Logmel("logmel/24")}
    one, two = (extract(each, encoders, tmp_path / f"store{k}")["mel"] for k, each in enumerate((sided, alone)))
    keys = [one.keys[u.id] for u in sided]
    assert len(set(keys)) == len(keys) == len(two.keys)
    for u in sided:
        assert np.array_equal(one.get(u.id), two.get(u.id))
    absent = dataclasses.replace(sided, utterances=(dataclasses.replace(sided.utterances[0], channel=3),))
    [reason] = extract(absent, encoders, tmp_path / "store0")["mel"].missing.values()
    assert "call0.wav: channel 3 is asked for, and it has 2 channels" in reason


def test_a_run_is_that_of_the_files_of_one_channel(tmp_path: Path, toy_root: Path) -> None:
    sided, alone = calls(tmp_path / "calls", toy(toy_root))
    machine = pipeline.Machine(tmp_path / "store", "cpu", jobs=1)
    scores = []
    for name, each in (("sided", sided), ("alone", alone)):
        run = pipeline.prepare(parse_recipe(RECIPE), each, tmp_path / name)
        pipeline.run_all(run, machine)
        scores.append(run.predictions("sound", "test").scores)
    assert np.abs(scores[0] - scores[1]).max() < 1e-6
    saved = Manifest.load(tmp_path / "sided" / "manifest.jsonl")
    assert [u.channel for u in saved] == [u.channel for u in sided]
    pipeline.run_all(pipeline.Run(tmp_path / "sided"), machine)


def test_words_are_those_of_the_channel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transcripts, "TransformersWhisper", lambda *_: _Listener())
    save(tmp_path, "call.wav", np.stack([speech(1), 0.5 * speech(2)], axis=1))
    save(tmp_path, "left.wav", speech(1))
    rows = [Utterance("one", "call.wav", channel=1), Utterance("two", "call.wav", channel=2)]
    rows += [Utterance("both", "call.wav"), Utterance("left", "left.wav")]
    found = transcripts.transcribe(manifest(tmp_path, rows), "whisper/tiny", tmp_path / "t.jsonl")
    said = {name: one.text for name, one in found.items()}
    assert said["one"] == said["left"]
    assert len(set(said.values())) == 3


class _Listener:
    """A recogniser that says how loud each window is."""

    key = "listener"

    def __call__(self, given: Any) -> list[Heard]:
        return [Heard(((0.0, len(w) / RATE, f"{float(np.square(w).sum()):.6f}"),), "en", 0.0) for w in given]


def test_audit_hears_each_channel(tmp_path: Path) -> None:
    save(tmp_path, "call.wav", np.stack([speech(1), speech(2)], axis=1))
    save(tmp_path, "copy.wav", speech(2))
    save(tmp_path, "same.wav", np.stack([speech(3), speech(3)], axis=1))
    save(tmp_path, "half.wav", np.stack([speech(4), np.zeros_like(speech(4))], axis=1))

    def row(name: str, file: str, split: str | None = "train", channel: int | None = None) -> Utterance:
        return Utterance(name, file, speaker=name, split=split, emotion="anger", channel=channel)

    def told(*rows: Utterance) -> dict[str, Any]:
        return by_code(audit(manifest(tmp_path, list(rows))))

    sides = told(row("a", "call.wav", "train", 1), row("b", "call.wav", "train", 2))
    assert not {"same-audio-twice", "duplicate", "near-duplicate", "recording-across-splits"} & set(sides)
    apart = told(row("a", "call.wav", "train", 1), row("b", "call.wav", "test", 2))
    assert "same-audio-across-splits" not in apart
    assert "channels in several splits, which share a conversation" in apart["recording-across-splits"].message
    mixed = told(row("a", "call.wav", "train", None), row("b", "call.wav", "test", 2))
    assert mixed["same-audio-across-splits"].ids == ("a", "b")
    copies = told(row("a", "call.wav", "train", 2), row("b", "copy.wav", "test"))
    assert copies["duplicate-across-splits"].ids == ("a", "b")
    assert "duplicate" in told(row("a", "same.wav", channel=1), row("b", "same.wav", channel=2))
    silent = told(row("a", "half.wav", channel=1), row("b", "half.wav", channel=2))
    assert silent["silent"].ids == ("b",)
    absent = told(row("a", "copy.wav", channel=1), row("b", "copy.wav", channel=2))
    assert absent["unreadable"].ids == ("b",)
    assert "copy.wav: channel 2 is asked for, and it has one channel" in absent["unreadable"].message


def test_both_sides_of_a_call_of_unknown_speakers_stay_together(tmp_path: Path) -> None:
    lines = ["path,emotion,channel"]
    for k in range(12):
        save(tmp_path, f"{k}.wav", np.stack([speech(k), speech(20 + k)], axis=1))
        lines += [f"{k}.wav,{('anger', 'sadness')[k % 2]},{channel}" for channel in (1, 2)]
    (tmp_path / "t.csv").write_text("\n".join(lines))
    found = table(tmp_path / "t.csv", assume_speakers="utterance")
    assert {u.split for u in found} == {"train", "dev", "test"}
    train = found.split("train")
    for rows, side in ((found, [u.split for u in found]), (train, crossfit_folds(train, 2, 0).tolist())):
        of = {(u.audio, s) for u, s in zip(rows, side, strict=True)}
        assert len(of) == len({u.audio for u in rows})
