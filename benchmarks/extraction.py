"""Features of foundation models: serkit's extraction against the published way, in one process, family by family.

    python benchmarks/extraction.py [--quick] [--size base|large] [--device cpu|cuda] [--precision float32|bf16]

The published way is one clip at a time: its file read, 30-s Whisper windows, texts padded to 80 tokens, all hidden
states asked for, one file of features per clip. serkit's way is :func:`serkit.extraction.extract` with one job: hashes,
length-bucketed batches, the layer asked for, the feature store. Weights are loaded before either begins. Both sides
have the same random weights in the same shapes, compute and store in the same precision, and hear noise of the
durations of MSP-Podcast turns, or read texts of the tokens that such turns have, so that only the way differs. FACodec
has no second implementation here: its published way is serkit's model, one clip at a time. They take turns, and the
ratio of the medians is printed per family, one line of JSON each: by the clock, and by processor time, which other work
on the machine disturbs less; with the share of the device's matrix peak where ``--peak-tflops`` says what that is.
Whisper stands twice: with ``30s`` the numbers are the published ones, with ``clip`` they are others, and how other is
printed too. ``--quick`` is 8 clips and one counted turn: minutes on two cores.
"""

from __future__ import annotations

import argparse
import csv
import importlib
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
import transformers

from serkit.availability import tflop_per_audio_hour
from serkit.checkpoints import Resolved
from serkit.extraction import extract
from serkit.features import require_complete
from serkit.foundation.tiny import tiny_folder
from serkit.registry import camel_case
from serkit.types import Manifest, Utterance

LENGTHS = Path(__file__).parent / "data" / "msp_podcast_lengths.csv"
RATE = 16_000
GROUP = 4
SHAPES: dict[str, tuple[int, int, int, int]] = {"base": (768, 12, 12, 3072), "large": (1024, 24, 16, 4096)}
WHISPER: dict[str, tuple[int, int, int, int]] = {"base": (512, 6, 8, 2048), "large": (1280, 32, 20, 5120)}
MODERNBERT: dict[str, tuple[int, int, int, int]] = {"base": (768, 22, 12, 1152), "large": (1024, 28, 16, 2624)}
SPEECH = ("wavlm", "hubert", "wav2vec2", "distilhubert")
TEXT = ("roberta", "bert", "deberta", "modernbert")
FAMILIES = ("whisper", *SPEECH, "facodec", *TEXT)
TOKENS_PER_S = 2.5 * 1.3  # 150 words a minute, 1.3 tokens a word
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
    """A folder with random weights in the published shape; FACodec and DistilHuBERT have one."""
    shapes = WHISPER if family == "whisper" else MODERNBERT if family == "modernbert" else SHAPES
    dim, layers, heads, inner = shapes["base" if family == "distilhubert" else size]
    changes: dict[str, Any]
    if family == "facodec":
        changes = {"channels": 32, "dim": 256, "inner": 1024}
    elif family == "whisper":
        changes = {"d_model": dim, "encoder_layers": layers, "encoder_attention_heads": heads,
                   "encoder_ffn_dim": inner, "decoder_attention_heads": heads,
                   "num_mel_bins": 128 if size == "large" else 80}  # fmt: skip
    else:
        changes = {"hidden_size": dim, "num_hidden_layers": 2 if family == "distilhubert" else layers,
                   "num_attention_heads": heads, "intermediate_size": inner}  # fmt: skip
    if family in SPEECH:
        changes |= {"conv_dim": (512,) * 7, "num_conv_pos_embeddings": 128, "num_conv_pos_embedding_groups": 16,
                    "num_buckets": 320, "max_bucket_distance": 800}  # fmt: skip
        if size == "base" or family == "distilhubert":
            changes |= {"feat_extract_norm": "group", "conv_bias": False, "do_stable_layer_norm": False}
    if family == "modernbert":
        changes |= {"local_attention": 128, "global_attn_every_n_layers": 3}
    if family == "deberta":
        changes |= {"position_buckets": 256}
    return tiny_folder(family, folder / f"{family}-{size}", **changes)


def published(family: str, folder: Path, device: str, kind: torch.dtype, encoder: Any) -> Callable[[Any], np.ndarray]:
    """One item at a time, as the published extraction scripts do."""
    if family == "facodec":
        return lambda samples: np.asarray(encoder([samples])[0])
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


def corpus(family: str, encoder: Any, durations: list[float], folder: Path) -> Manifest:
    """Recordings of noise of the given durations, or texts with as many tokens as speech of that duration has."""
    folder.mkdir()
    rng = np.random.default_rng(1)
    rows: list[Utterance] = []
    for k, seconds in enumerate(durations):
        text: str | None = None
        if family in TEXT:  # the tiny vocabularies cut words into letters: a piece stands for a token
            text = str(rng.choice(WORDS))
            while len(encoder.tokens(text)) < TOKENS_PER_S * seconds:
                text += " " + str(rng.choice(WORDS))
        else:
            noise = 0.1 * rng.standard_normal(round(seconds * RATE))
            soundfile.write(folder / f"{k}.wav", noise.astype(np.float32), RATE, subtype="PCM_16")
        rows.append(Utterance(f"u{k}", f"{k}.wav", text=text))
    return Manifest("made", (), tuple(rows), root=str(folder))


def file_per_clip(alone: Callable[[Any], np.ndarray], manifest: Manifest, to: Path) -> dict[str, np.ndarray]:
    """The published way: read, encode, save, one after the other."""
    to.mkdir()
    found: dict[str, np.ndarray] = {}
    with torch.inference_mode():
        for u in manifest:
            given = u.text if u.text is not None else soundfile.read(manifest.audio_path(u), dtype="float32")[0]
            found[u.id] = alone(given)
            np.save(to / f"{u.id}.npy", found[u.id])
    return found


def extracted(encoder: Any, manifest: Manifest, to: Path, device: str) -> dict[str, np.ndarray]:
    """serkit's way."""
    features = extract(manifest, {"it": encoder}, to, device=device)
    require_complete(features)
    return {name: features["it"].get(name) for name in manifest.ids}


def distance(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> float:
    """Root mean square difference as a share of ``b``'s standard deviation; NaN where shapes differ."""
    if any(a[name].shape != b[name].shape for name in b):
        return float("nan")
    one, two = (np.concatenate([x[name] for name in b]).astype(np.float64) for x in (a, b))
    return float(np.sqrt(np.mean((one - two) ** 2)) / two.std())


def compare(family: str, choices: dict[str, Any], arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Both ways in turns; seconds, ratios, and how far the features are apart."""
    source = checkpoint(family, arguments.size, folder)
    durations = lengths_s(arguments.clips)
    kind = {"float32": torch.float32, "bf16": torch.bfloat16}[arguments.precision]
    name = f"path:{source}"
    if family == "facodec":  # prosody alone, as ueda2025 has it
        name, choices = "facodec/prosody", {**choices, "source": source}
    else:
        choices = {**choices, "precision": arguments.precision}
    module = importlib.import_module(f"serkit.encoders.{family}")
    encoder = getattr(module, camel_case(family))(name, dtype="float32", **choices)
    choices.pop("source", None)
    encoder.load(arguments.device)
    place = Path(tempfile.mkdtemp(dir=folder))
    manifest = corpus(family, encoder, durations, place / "corpus")
    few = Manifest("few", (), manifest.utterances[:2], root=manifest.root)
    alone = published(family, source, arguments.device, kind, encoder)
    ways: dict[str, Callable[[Manifest, Path], dict[str, np.ndarray]]] = {
        "published": lambda given, to: file_per_clip(alone, given, to),
        "serkit": lambda given, to: extracted(encoder, given, to, arguments.device),
    }
    kept: dict[str, dict[str, np.ndarray]] = {}
    wall: dict[str, list[float]] = {way: [] for way in ways}
    busy: dict[str, list[float]] = {way: [] for way in ways}
    for turn in range(arguments.turns + 1):  # the first turn warms up, on a few items, and is not counted
        for way, run in ways.items():
            start, start_busy = time.perf_counter(), time.process_time()
            kept[way] = run(manifest if turn else few, place / f"{way}-{turn}")
            if arguments.device != "cpu":
                torch.cuda.synchronize()
            if turn:
                wall[way].append(time.perf_counter() - start)
                busy[way].append(time.process_time() - start_busy)
    mine, theirs = statistics.median(wall["serkit"]), statistics.median(wall["published"])
    row = {
        "family": family, **choices, "size": arguments.size, "device": arguments.device,
        "clips": len(manifest), "audio_s": round(sum(durations), 1),
        "turns": arguments.turns, "published_s": round(theirs, 3), "serkit_s": round(mine, 3),
        "ratio": round(theirs / mine, 2),
        "published_processor_s": round(statistics.median(busy["published"]), 2),
        "serkit_processor_s": round(statistics.median(busy["serkit"]), 2),
        "processor_ratio": round(statistics.median(busy["published"]) / statistics.median(busy["serkit"]), 2),
        "utterances_per_s": round(len(manifest) / mine, 2),
        "apart_share_of_std": float(f"{distance(kept['serkit'], kept['published']):.2g}"),
    }  # fmt: skip
    if arguments.peak_tflops:
        cost = tflop_per_audio_hour(Resolved("x", family, None, source, "", encoder.resolved.config))
        row["share_of_peak"] = round(cost * sum(durations) / 3600 / mine / arguments.peak_tflops, 4)
    return row


def main() -> None:
    """Measure each family and print one line of JSON per family and choice."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="8 clips, one counted turn")
    parser.add_argument("--clips", type=int, help="[default: 24]")
    parser.add_argument("--turns", type=int, help="counted turns [default: 3]")
    parser.add_argument("--size", choices=sorted(SHAPES), default="base")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=("float32", "bf16"), default="float32")
    parser.add_argument("--peak-tflops", type=float, default=0.0)
    parser.add_argument("--families", default=",".join(FAMILIES))
    arguments = parser.parse_args()
    arguments.clips = arguments.clips or (8 if arguments.quick else 24)
    arguments.turns = arguments.turns or (1 if arguments.quick else 3)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as name:
        for family in arguments.families.split(","):
            for choices in [{"window": "30s"}, {"window": "clip"}] if family == "whisper" else [{}]:
                print(json.dumps(compare(family, choices, arguments, Path(name))), flush=True)


if __name__ == "__main__":
    main()
