"""Batches of like length, the same whether an extraction is stopped or not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from programs import MP4, au, stand_in, stand_ins
from serkit.batching import Item, audio_item, batches, planned, share
from serkit.extraction import extract
from serkit.progress import Progress
from serkit.store import FeatureStore
from serkit.types import Manifest, Utterance
from test_extraction import Level, corpus


def test_batches_hold_like_lengths_within_the_budget() -> None:
    rng = np.random.default_rng(0)
    items = [
        Item(f"{k:03d}", f"u{k}", ("a",), "x.wav", duration_s=float(d)) for k, d in enumerate(rng.uniform(0, 20, 300))
    ]
    items += [Item("t", "t", ("b",), text="hello"), Item("long", "long", ("a",), "y.wav", duration_s=500.0)]
    made = batches(items, 60.0)
    assert sorted(i.key for b in made for i in b) == sorted(i.key for i in items)
    assert made[0] == (items[-1],), "the longest first, alone where it exceeds the budget"
    real = padded = 0.0
    for batch in made[1:]:
        lengths = [item.work_s for item in batch]
        assert max(lengths) * len(batch) <= 60.0
        assert len({item.text is None for item in batch}) == 1
        real, padded = real + sum(lengths), padded + max(lengths) * len(batch)
    assert real / padded > 0.9
    assert max(len(b) for b in batches([Item(str(k), str(k), ("a",), "x") for k in range(1000)], 60.0)) == 256


def shown(work: Any) -> list[list[str]]:
    return [[f"{item.key}:{'+'.join(item.encoders)}" for item in batch] for batch in work]


def items(wanted: dict[int, tuple[str, ...]]) -> list[Item]:
    return [Item(str(k), f"u{k}", wanted.get(k, ()), "x", duration_s=10.0 - k) for k in range(8)]


def test_a_batch_that_was_cut_is_done_whole_and_no_more_than_one() -> None:
    both, b = ("a", "b"), ("b",)
    assert [[i.key for i in batch] for batch in batches(items({}), 24.0, 9)] == [["0", "1"], list("234"), list("567")]
    work = planned(items({3: b, 4: both, 5: both, 6: both, 7: both}), 24.0, 1, 9, {"a", "b"})
    assert shown(work) == [["2:b+a", "3:b+a", "4:a+b"], ["5:a+b", "6:a+b", "7:a+b"]]
    (first, _) = share(work, {"a": set("4567")})
    assert shown([first]) == [["2:a", "3:a", "4:a"]]
    assert [i.n_utterances for i in first] == [0, 0, 1], "there for the sake of a neighbour, not counted"
    light = planned(items({3: b, 4: both, 7: both}), 24.0, 1, 9)
    assert sorted(k for batch in shown(light) for k in batch) == ["3:b", "4:a+b", "7:a+b"]
    scattered = planned(items({1: b, 4: b, 7: b}), 24.0, 1, 9, {"b"})
    assert shown(scattered) == [["1:b", "4:b"], ["7:b"]], "clips that were added: only these"
    assert planned(items({}), 24.0, 1, 9, {"a"}) == []


class Stop(Exception):
    pass


@pytest.mark.parametrize("stop", [3, pytest.param(7, marks=pytest.mark.slow), 11])
def test_a_resumed_extraction_has_the_bytes_of_an_unbroken_one(tmp_path: Path, stop: int) -> None:
    """Of encoders with weights too, whose last digits depend on the batch."""
    pytest.importorskip("transformers")
    from serkit.encoders.roberta import Roberta
    from serkit.encoders.wavlm import Wavlm

    def encoders() -> dict[str, Any]:
        return {"wavlm": Wavlm("wavlm/random", dtype="float32"), "roberta": Roberta("roberta/random", dtype="float32"),
                "level": Level()}  # fmt: skip

    manifest = corpus(tmp_path / "audio", 13)
    whole = extract(manifest, encoders(), tmp_path / "whole", batch_seconds=4.0)

    def tell(progress: Progress) -> None:
        if progress.stage == "extract" and progress.done == stop:
            raise Stop

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("serkit.progress.Meter._tell", lambda self: tell(self.now()))
        with pytest.raises(Stop):
            extract(manifest, encoders(), tmp_path / "cut", batch_seconds=4.0)
    given = encoders()
    done = len(FeatureStore(tmp_path / "cut", given["wavlm"].spec))
    assert 0 < done < 13
    resumed = extract(manifest, given, tmp_path / "cut", batch_seconds=4.0)
    assert given["level"].seen == 13 - done, "without weights nothing is done twice"
    for name in whole:
        assert len(resumed[name].store) == 13
        for u in manifest.ids:
            assert resumed[name].get(u).tobytes() == whole[name].get(u).tobytes(), (name, u)


@stand_ins
def test_a_length_that_no_header_says_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "a.webm").write_bytes(MP4)
    told = {"streams": [{"sample_rate": "16000", "channels": 2}], "format": {}}
    stand_in(tmp_path / "bin", "ffprobe", json.dumps(told).encode())
    stand_in(tmp_path / "bin", "ffmpeg", au(np.zeros((24_000, 2)), 16_000))
    one = Utterance("u", "a.webm", start_s=0.25)
    manifest = Manifest("made", ("anger",), (one,), root=tmp_path)
    assert audio_item(manifest, one, "k", ("e",)).duration_s == 1.25
