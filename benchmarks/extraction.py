"""Features of foundation models: serkit's batches against the published way, in one process.

    python benchmarks/extraction.py [--quick] [--size base|large] [--device cpu|cuda] [--precision float32|bf16]

The published way is one clip at a time through transformers, 30-s Whisper windows, texts padded to 80 tokens,
all hidden states asked for and one file per clip. serkit's way is length-bucketed batches, the layer asked
for, and the feature store. Both sides have the same random weights in the same shapes, compute in the same
precision, and hear noise of the durations of MSP-Podcast turns, so that only the way differs. They take turns,
and the ratio of the medians is printed per family, one line of JSON each: by the clock, and by processor time, which
other work on the machine disturbs less; with the share of the device's matrix peak where ``--peak-tflops`` says what
that is. Whisper stands twice: with ``30s`` the numbers are the published ones, with ``clip`` they are others, and how
other is printed too. ``--quick`` is 16 clips and one counted turn: minutes on two cores.
"""

from __future__ import annotations

import argparse
import csv
import importlib
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from serkit.availability import tflop_per_audio_hour
from serkit.checkpoints import Resolved
from serkit.foundation.tiny import tiny_folder
from serkit.store import FeatureStore

LENGTHS = Path(__file__).parent / "data" / "msp_podcast_lengths.csv"
RATE = 16_000
GROUP = 4
SHAPES: dict[str, tuple[int, int, int, int]] = {"base": (768, 12, 12, 3072), "large": (1024, 24, 16, 4096)}
WHISPER: dict[str, tuple[int, int, int, int]] = {"base": (512, 6, 8, 2048), "large": (1280, 32, 20, 5120)}
TEXT = ("roberta", "bert", "deberta")
WORDS_PER_S = 2.5
WORDS = ("well", "I", "did", "not", "expect", "that", "now", "you", "are", "glad", "the", "door", "was", "quiet")


def lengths_s(n: int) -> list[float]:
    """Durations of ``n`` turns, mixed: groups of four alike, evenly through the sorted distribution.

    Of thousands of clips, four neighbours by length differ by nothing, and batches have hardly any padding; ``n``
    clips spread alone would have more than any real corpus.
    """
    with LENGTHS.open(newline="") as file:
        rows = list(csv.DictReader(file))
    values = np.sort(np.repeat([float(r["length_s"]) for r in rows], [int(r["clips"]) for r in rows]))
    ranks = (np.arange(n) // GROUP + 0.5) / -(-n // GROUP)
    chosen = values[(ranks * len(values)).astype(int)]
    return [float(x) for x in np.random.default_rng(0).permutation(chosen)]


def checkpoint(family: str, size: str, folder: Path) -> Path:
    """A folder with random weights in the published shape."""
    if family == "whisper":
        dim, layers, heads, inner = WHISPER[size]
        changes: dict[str, Any] = {"d_model": dim, "encoder_layers": layers, "encoder_attention_heads": heads,
                                   "encoder_ffn_dim": inner, "decoder_attention_heads": heads,
                                   "num_mel_bins": 128 if size == "large" else 80}  # fmt: skip
    else:
        dim, layers, heads, inner = SHAPES[size]
        changes = {"hidden_size": dim, "num_hidden_layers": layers, "num_attention_heads": heads,
                   "intermediate_size": inner}  # fmt: skip
    if family in ("wavlm", "hubert", "wav2vec2"):
        changes |= {"conv_dim": (512,) * 7, "num_conv_pos_embeddings": 128, "num_conv_pos_embedding_groups": 16,
                    "num_buckets": 320, "max_bucket_distance": 800}  # fmt: skip
    return tiny_folder(family, folder / f"{family}-{size}", **changes)


def published(family: str, folder: Path, device: str, kind: torch.dtype) -> Callable[[Any], np.ndarray]:
    """One item at a time, as the published extraction scripts do."""
    if family in TEXT:
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        model = transformers.AutoModel.from_pretrained(folder, dtype=kind).eval().to(device)

        def of_text(text: str) -> np.ndarray:
            given = tokenizer(text, padding="max_length", max_length=80, truncation=True, return_tensors="pt")
            return np.asarray(model(**given.to(device), output_hidden_states=True).last_hidden_state[0].float().cpu())

        return of_text
    front = transformers.AutoFeatureExtractor.from_pretrained(folder)
    if family == "whisper":
        encoder = transformers.WhisperModel.from_pretrained(folder, dtype=kind).encoder.eval().to(device)

        def of_window(samples: np.ndarray) -> np.ndarray:
            mel = front(samples, sampling_rate=RATE, return_tensors="pt")["input_features"].to(device, kind)
            states = encoder(mel, output_hidden_states=True).last_hidden_state[0]
            return np.asarray(states[: -(-len(samples) // 320)].float().cpu())

        return of_window
    model = transformers.AutoModel.from_pretrained(folder, dtype=kind).eval().to(device)

    def of_clip(samples: np.ndarray) -> np.ndarray:
        values = front(samples, sampling_rate=RATE, return_tensors="pt")["input_values"].to(device, kind)
        return np.asarray(model(values, output_hidden_states=True).last_hidden_state[0].float().cpu())

    return of_clip


def material(family: str, durations: list[float]) -> list[Any]:
    """Noise, or words, of the given durations."""
    rng = np.random.default_rng(1)
    if family in TEXT:
        return [" ".join(rng.choice(WORDS, max(1, round(WORDS_PER_S * s)))) for s in durations]
    return [(0.1 * rng.standard_normal(round(s * RATE))).astype(np.float32) for s in durations]


def file_per_clip(alone: Callable[[Any], np.ndarray], items: list[Any], to: Path) -> list[np.ndarray]:
    """The published way."""
    to.mkdir()
    with torch.inference_mode():
        found = [alone(item) for item in items]
    for k, frames in enumerate(found):
        np.save(to / f"{k}.npy", frames)
    return found


def stored(encoder: Any, items: list[Any], to: Path) -> list[np.ndarray]:
    """serkit's way."""
    found: list[np.ndarray] = encoder(items)

    def rows() -> Iterator[tuple[str, np.ndarray]]:
        for k, frames in enumerate(found):
            yield f"{k:032x}", frames

    FeatureStore(to, encoder.spec).write(rows())
    return found


def distance(a: list[np.ndarray], b: list[np.ndarray]) -> float:
    """Root mean square difference as a share of ``b``'s standard deviation; NaN where shapes differ."""
    if any(x.shape != y.shape for x, y in zip(a, b, strict=True)):
        return float("nan")
    one, two = np.concatenate(a).astype(np.float64), np.concatenate(b).astype(np.float64)
    return float(np.sqrt(np.mean((one - two) ** 2)) / two.std())


def compare(family: str, choices: dict[str, Any], arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Both ways in turns; seconds, ratios, and how far the features are apart."""
    source = checkpoint(family, arguments.size, folder)
    durations = lengths_s(arguments.clips)
    items = material(family, durations)
    kind = {"float32": torch.float32, "bf16": torch.bfloat16}[arguments.precision]
    alone = published(family, source, arguments.device, kind)
    encoder = getattr(importlib.import_module(f"serkit.encoders.{family}"), family.capitalize())(
        f"path:{source}", precision=arguments.precision, **choices
    )
    encoder.load(arguments.device)
    ways: dict[str, Callable[[list[Any], Path], list[np.ndarray]]] = {
        "published": lambda given, to: file_per_clip(alone, given, to),
        "serkit": lambda given, to: stored(encoder, given, to),
    }
    kept: dict[str, list[np.ndarray]] = {}
    wall: dict[str, list[float]] = {way: [] for way in ways}
    busy: dict[str, list[float]] = {way: [] for way in ways}
    for turn in range(arguments.turns + 1):  # the first turn warms up, on a few items, and is not counted
        for way, run in ways.items():
            with tempfile.TemporaryDirectory(dir=folder) as place:
                start, start_busy = time.perf_counter(), time.process_time()
                kept[way] = run(items if turn else items[:2], Path(place) / "features")
                if arguments.device != "cpu":
                    torch.cuda.synchronize()
                if turn:
                    wall[way].append(time.perf_counter() - start)
                    busy[way].append(time.process_time() - start_busy)
    mine, theirs = statistics.median(wall["serkit"]), statistics.median(wall["published"])
    row = {
        "family": family, **choices, "size": arguments.size, "device": arguments.device,
        "precision": arguments.precision, "clips": len(items), "audio_s": round(sum(durations), 1),
        "turns": arguments.turns, "published_s": round(theirs, 3), "serkit_s": round(mine, 3),
        "ratio": round(theirs / mine, 2),
        "processor_ratio": round(statistics.median(busy["published"]) / statistics.median(busy["serkit"]), 2),
        "utterances_per_s": round(len(items) / mine, 2),
        "apart_share_of_std": float(f"{distance(kept['serkit'], kept['published']):.2g}"),
    }  # fmt: skip
    if arguments.peak_tflops:
        cost = tflop_per_audio_hour(Resolved("x", family, None, source, "", encoder.resolved.config))
        row["share_of_peak"] = round(cost * sum(durations) / 3600 / mine / arguments.peak_tflops, 4)
    return row


def main() -> None:
    """Measure each family and print one line of JSON per family and choice."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="16 clips, one counted turn")
    parser.add_argument("--clips", type=int, help="[default: 24]")
    parser.add_argument("--turns", type=int, help="counted turns [default: 3]")
    parser.add_argument("--size", choices=sorted(SHAPES), default="base")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=("float32", "bf16"), default="float32")
    parser.add_argument("--peak-tflops", type=float, default=0.0)
    parser.add_argument("--families", default="whisper,wavlm,hubert,roberta")
    arguments = parser.parse_args()
    arguments.clips = arguments.clips or (16 if arguments.quick else 24)
    arguments.turns = arguments.turns or (1 if arguments.quick else 3)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as name:
        for family in arguments.families.split(","):
            for choices in [{"window": "30s"}, {"window": "clip"}] if family == "whisper" else [{}]:
                print(json.dumps(compare(family, choices, arguments, Path(name))), flush=True)


if __name__ == "__main__":
    main()
