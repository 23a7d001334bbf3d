from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from made_clips import RATE, by_code, good, manifest, save, speech
from serkit.audit import audit
from serkit.findings import Finding, to_json, to_rows
from serkit.progress import Progress
from serkit.recordings import not_there
from serkit.types import Utterance

# ---------------------------------------------------------------- the table


def test_a_sound_corpus_gives_no_errors_and_its_durations(tmp_path: Path) -> None:
    findings = audit(manifest(tmp_path, good(tmp_path)))
    found = by_code(findings)
    assert {f.severity for f in found.values()} == {"warning", "info"}
    assert set(found) == {"thin-class", "durations"}
    assert "6 recordings decoded" in found["durations"].message
    one_line = "classes of few clips in train (under 20): anger 1, neutral 1; one clip of anger is 100 points of its "
    assert f"{one_line}recall" in [f.message for f in findings]


def test_speakers_across_splits_unknown_and_alone() -> None:
    rows = [
        Utterance("a", "a.wav", speaker="x", split="train", emotion="anger"),
        Utterance("b", "b.wav", speaker="x", split="test", emotion="anger"),
        Utterance("c", "c.wav", speaker="y", split="test", emotion="neutral"),
        Utterance("d", "d.wav", split="dev", emotion="neutral"),
    ]
    found = by_code(audit(manifest(Path(), rows, speakers_shared=True), decode=False))
    assert found["speakers-shared"].ids == ("b",)
    assert "1 of 2 test speakers (x) also speak in train" in found["speakers-shared"].message
    assert found["speaker-unknown"].ids == ("d",)
    alone = by_code(audit(manifest(Path(), rows[:2], speakers_shared=True), decode=False))
    assert "only x speaks" in alone["one-speaker"].message


def test_labels_missing_thin_and_once() -> None:
    rows = [Utterance(f"n{k}", "n.wav", k, k + 1, speaker="s", split="train", emotion="neutral") for k in range(30)]
    rows += [Utterance("a", "a.wav", speaker="s", split="train", emotion="anger")]
    rows += [Utterance(f"t{k}", f"t{k}.wav", speaker="t", split="test", emotion="neutral") for k in range(2)]
    rows += [Utterance("u", "u.wav", speaker="t", split="test")]
    found = by_code(audit(manifest(Path(), rows, ("anger", "fear", "neutral")), decode=False))
    assert found["label-once"].severity == "error"
    assert found["label-once"].ids == ("a",)
    assert "fear" in found["label-without-clips"].message
    assert "no 'anger' in test" in found["class-missing"].message
    assert "every 'neutral' in train is spoken by s" in found["class-of-one-speaker"].message
    assert found["unlabelled-test"].ids == ("u",)
    assert found["unlabelled-test"].severity == "warning"
    assert "no row is in dev" in found["empty-split"].message
    assert found["missing-files"].severity == "error"


def test_a_label_that_stands_once_is_told_with_the_nearest() -> None:
    rows = [Utterance(f"n{k}", "n.wav", k, k + 1, speaker="s", split="train", emotion="neutral") for k in range(3)]
    rows += [Utterance(x, "a.wav", k, k + 1, split="train", emotion=x) for k, x in enumerate(("hapiness", "pride"))]
    found = by_code(audit(manifest(Path(), rows, ("hapiness", "neutral", "pride")), decode=False))
    assert "(hapiness, did you mean 'happiness'?, pride): a typo?" in found["label-once"].message


def test_a_test_split_without_any_label_is_an_error() -> None:
    rows = [
        Utterance("a", "a.wav", speaker="x", split="train", emotion="anger"),
        Utterance("b", "b.wav", speaker="y", split="test"),
    ]
    assert by_code(audit(manifest(Path(), rows), decode=False))["unlabelled-test"].severity == "error"


def test_counts_against_published_ones() -> None:
    info = {
        "count_findings": [
            {"what": "utterances", "here": 1080, "published": 1440, "source": "a paper"},
            {"what": "speakers", "here": 25, "published": 24, "source": "a paper"},
        ],
        "missing_audio": {"count": 3, "examples": ["x", "y", "z"]},
        "unrecognised_audio": {"count": 0, "examples": []},
    }
    findings = audit(manifest(Path(), [], info=info), decode=False)
    counts = [f for f in findings if f.code == "count-differs"]
    assert [f.severity for f in counts] == ["warning", "info"]  # more than there can be weighs more
    assert "1080 here, 1440 published (a paper)" in counts[1].message
    fewer = [{**info["count_findings"][0], "what": f"rows of {word}"} for word in ("anger", "fear")]
    (both,) = audit(manifest(Path(), [], info={"count_findings": fewer}), decode=False)[-1:]
    assert both.message.startswith(
        "rows of anger: 1080 here, 1440 published, rows of fear: 1080 here, 1440 published (a paper): a partial copy"
    ), "one line for all that is fewer, and its source once"
    found = by_code(findings)
    assert "3 listed rows have no recording and were left out" in found["rows-without-audio"].message
    assert "files-not-used" not in found
    kept = {"missing_audio": {"count": 1, "examples": ["x"], "rows_kept": True}}
    kept_found = by_code(audit(manifest(Path(), [], info=kept), decode=False))
    assert "1 listed rows have no recording; they are in the manifest" in kept_found["rows-without-audio"].message

    both = manifest(Path(), [], info={"corpora": {"one": info, "two": kept}})
    assert not_there(both) == ["one: 3 listed rows have no recording and are left out (such as x, y, z)"]
    joined = audit(both, decode=False)
    told = [f.message for f in joined if f.code in ("count-differs", "rows-without-audio")]
    assert [line.split(": ")[0] for line in told] == ["one", "one", "two", "one"]  # by severity, then corpus
    assert sum("utterances: 1080 here" in line for line in told) == 1


def test_ratings_off_the_scale_of_the_others() -> None:
    rows = [
        Utterance(f"u{k}", f"{k}.wav", speaker=f"s{k % 4}", emotion="anger", valence=1.0 + k % 5, arousal=3.0)
        for k in range(40)
    ]
    rows[7] = replace(rows[7], valence=36.3)
    found = by_code(audit(manifest(Path(), rows), decode=False))
    assert found["rating-off-scale"].ids == ("u7",)
    assert "valence: 1 rows are rated off the scale of the others (such as 36.3)" in found["rating-off-scale"].message
    scaled = manifest(Path(), rows, info={"rating_scale": (1, 4)})
    assert set(by_code(audit(scaled, decode=False))["rating-off-scale"].ids) == {
        u.id for u in rows if (u.valence or 0) > 4
    }
    joined = manifest(
        Path(), [replace(u, corpus="a") for u in rows[:20]] + [replace(u, corpus="b") for u in rows[20:]],
        info={"corpora": {"a": {"rating_scale": (1, 40)}, "b": {"rating_scale": (1, 5)}}},
    )  # fmt: skip
    assert "rating-off-scale" not in by_code(audit(joined, decode=False))


def test_stretches_of_one_recording() -> None:
    def row(name: str, split: str, start: float | None, end: float | None) -> Utterance:
        return Utterance(name, "long.wav", start, end, speaker=f"s{split}", split=split, emotion="anger")

    apart = [row("a", "train", 0, 1), row("b", "test", 1, 2)]
    assert "same-audio-across-splits" not in by_code(audit(manifest(Path(), apart), decode=False))
    across = by_code(audit(manifest(Path(), [*apart, row("c", "test", 0.5, None)]), decode=False))
    assert across["same-audio-across-splits"].severity == "error"
    assert across["same-audio-across-splits"].ids == ("a", "c")
    assert across["same-audio-twice"].ids == ("c", "b")


def test_words_that_give_the_label_away() -> None:
    def rows(emotion_of: Any) -> list[Utterance]:
        return [
            Utterance(
                f"u{k}",
                f"{k}.wav",
                speaker=f"s{k % 2}",
                split=("train", "test")[k % 2],
                text=f"Sentence {k // 2 % 10}",
                emotion=emotion_of(k),
            )
            for k in range(80)
        ]

    def told(k: int) -> str:
        return ("anger", "neutral")[k // 2 % 2]

    def balanced(k: int) -> str:
        return ("anger", "neutral")[k // 20 % 2]

    found = by_code(audit(manifest(Path(), rows(told)), decode=False))
    assert "words alone predict the emotion of 40" in found["text-gives-label"].message
    assert "text-gives-label" not in by_code(audit(manifest(Path(), rows(balanced)), decode=False))
    mostly = by_code(audit(manifest(Path(), rows(lambda k: "neutral" if k % 20 < 2 else "anger")), decode=False))
    assert "text-gives-label" not in mostly, "nine in ten are of one label, whatever is said"
    others = [replace(u, id=f"o{u.id}", text=f"Other {u.id}") for u in rows(told) * 4 if u.split == "test"]
    others = [replace(u, id=f"{u.id}-{k}", text=f"{u.text} {k}") for k, u in enumerate(others)]
    some = [*rows(told), *others]
    assert "text-gives-label" not in by_code(audit(manifest(Path(), some[8:]), decode=False)), "36 of 196 are in train"


# ---------------------------------------------------------------- the sound


def test_bad_sound_is_named(tmp_path: Path) -> None:
    rows = good(tmp_path)
    loud = np.clip(20 * speech(50), -1, 1)
    nan = speech(51).copy()
    nan[100] = np.nan
    made: dict[str, np.ndarray] = {
        "short": speech(52)[:320],
        "silent": np.zeros(RATE, dtype=np.float32),
        "clipped": loud,
        "long": np.tile(speech(53), 31),
    }
    for name, samples in made.items():
        save(tmp_path, f"{name}.wav", samples)
    save(tmp_path, "nan.wav", nan, subtype="FLOAT")
    save(tmp_path, "phone.wav", speech(54)[::2], rate=8000)
    (tmp_path / "text.wav").write_text("this is not a recording", encoding="utf-8")
    (tmp_path / "empty.wav").touch()
    names = [*made, "nan", "phone", "text", "empty", "gone"]
    rows += [Utterance(n, f"{n}.wav", speaker="s0", split="train", emotion="anger") for n in names]
    found = by_code(audit(manifest(tmp_path, rows)))
    assert found["missing-files"].ids == ("empty", "gone")
    assert found["unreadable"].ids == ("text",)
    assert "text.wav" in found["unreadable"].message
    assert found["not-finite"].ids == ("nan",)
    assert found["too-short"].ids == ("short",)
    assert found["too-long"].ids == ("long",)
    assert found["silent"].ids == ("silent",)
    assert found["clipped"].ids == ("clipped",)
    assert found["mixed-rates"].ids == ("phone",)
    assert found["narrow-band"].ids == ("phone",)
    assert found["missing-files"].severity == found["unreadable"].severity == found["not-finite"].severity == "error"


@pytest.mark.parametrize(("hz", "top"), [(440, 0.9), (200, 0.9), (100, 0.45)])
def test_a_loud_or_a_low_tone_is_not_clipped(tmp_path: Path, hz: int, top: float) -> None:
    """Near its peaks fewer than three samples in a row are the highest, or it is far from full scale."""
    save(tmp_path, "tone.wav", top * np.sin(2 * np.pi * hz * (np.arange(2 * RATE) + 0.5) / RATE))
    rows = [Utterance("tone", "tone.wav", speaker="s0", split="train", emotion="anger")]
    assert "clipped" not in by_code(audit(manifest(tmp_path, rows)))


def test_a_copy_that_is_in_no_split_is_a_copy_within_one(tmp_path: Path) -> None:
    rows = good(tmp_path)
    save(tmp_path, "unused.flac", speech(0))  # c0 is in train
    rows.append(replace(rows[0], id="unused", audio="unused.flac", split=None))
    found = by_code(audit(manifest(tmp_path, rows)))
    assert found["duplicate"].ids == ("c0", "unused")
    assert "duplicate-across-splits" not in found


def test_what_is_odd_about_a_recording_that_can_be_read_is_told(tmp_path: Path) -> None:
    rows = good(tmp_path)
    save(tmp_path, "whole.mp3", speech(60), subtype="MPEG_LAYER_III")
    content = (tmp_path / "whole.mp3").read_bytes()
    (tmp_path / "part.mp3").write_bytes(content[: len(content) // 2])
    save(tmp_path, "turned.wav", np.stack([speech(61), -speech(61)], axis=1))
    names = {"whole": "whole.mp3", "part": "part.mp3", "turned": "turned.wav"}
    rows += [Utterance(n, path, speaker="s0", split="train", emotion="anger") for n, path in names.items()]
    found = by_code(audit(manifest(tmp_path, rows)))
    assert found["broken-off"].ids == ("part",)
    assert found["broken-off"].severity == "warning"
    assert "is truncated" in found["broken-off"].message
    assert found["channels-cancel"].ids == ("turned",)


def test_the_same_sound_in_two_files(tmp_path: Path) -> None:
    rows = good(tmp_path)
    save(tmp_path, "copy.flac", speech(0))  # c0 is in train
    rows.append(Utterance("copy", "copy.flac", speaker="other", split="test", emotion="neutral"))
    save(tmp_path, "again.wav", speech(0))
    rows.append(Utterance("again", "again.wav", speaker="s0", split="train", emotion="anger"))
    found = by_code(audit(manifest(tmp_path, rows)))
    assert found["duplicate-across-splits"].severity == "error"
    assert found["duplicate-across-splits"].ids == ("c0", "copy", "again")
    assert "duplicate-other-label" in found
    assert "near-duplicate" not in found
    silence = [replace(rows[0], id=f"z{k}", audio=f"z{k}.wav") for k in range(2)]
    for row in silence:
        save(tmp_path, row.audio, np.zeros(RATE, dtype=np.float32))
    assert "duplicate" not in by_code(audit(manifest(tmp_path, silence))), "two silences are not a copy"


def test_a_changed_copy_in_another_split_is_found(tmp_path: Path) -> None:
    rows = good(tmp_path)
    cut = 0.3 * speech(0)[5003:25003]
    save(tmp_path, "cut.wav", cut + np.random.default_rng(0).normal(0, 1e-3, len(cut)))
    rows.append(Utterance("cut", "cut.wav", speaker="other", split="test", emotion="anger"))
    found = by_code(audit(manifest(tmp_path, rows)))
    assert found["near-duplicate-across-splits"].ids == ("c0", "cut")
    assert "near-duplicate-other-label" not in found


def test_progress_part_of_the_files_and_any_number_of_threads(tmp_path: Path) -> None:
    table = manifest(tmp_path, good(tmp_path, 9))
    calls: list[tuple[int, int]] = []
    found = by_code(audit(table, max_files=4, progress=lambda p: calls.append((p.done, p.total))))
    assert calls[-1] == (4, 4)
    assert "4 of 9 recordings were decoded" in found["partly-decoded"].message
    assert audit(table, jobs=1) == audit(table, jobs=3)

    def stop(p: Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        audit(table, progress=stop)


def test_rows_and_json_are_plain(tmp_path: Path) -> None:
    table = manifest(tmp_path, good(tmp_path), info={"protocol": "p"})
    findings = [*audit(table), Finding("error", "x", "seven", tuple("abcdefg"))]
    assert to_rows(findings)[-1]["ids"] == "a, b, c, d, e and 2 more"
    whole = json.loads(json.dumps(to_json(table, findings)))
    assert whole["n_utterances"] == 6
    assert whole["splits"] == {"train": 2, "dev": 2, "test": 2}
    assert whole["errors"] == 1
    assert whole["findings"][-1] == {"severity": "error", "code": "x", "message": "seven", "ids": list("abcdefg")}
    assert whole["split_hash"] == table.split_hash
    assert whole["protocol"] == "p"
