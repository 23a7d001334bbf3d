"""Tiny checkpoints of the real classes, with real tokenizers and feature extractors, in the hub's layout.

Weights are random and the same everywhere for a seed. They teach nothing; they let every path be walked
through ``from_pretrained`` on a machine without a network.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from serkit.checkpoint_files import FACODEC_STEMS
from serkit.errors import SerkitError, check_known
from serkit.files import replacing_folder
from serkit.foundation import tiny_text
from serkit.foundation.loading import quiet, transformers_package

Builder = Callable[[Any, Path, Mapping[str, Any]], None]
VERSION = 3  # counts up when what is written changes
_TIMES = tuple(f"<|{digit}" for digit in "0123456789")


def tiny_folder(family: str, folder: Path | str | None = None, **changes: Any) -> Path:
    """Write a tiny checkpoint and return its folder; without ``folder``, one in the temporary directory, once.

    Args:
        family: file in ``encoders/``. folder: where to write; made where absent.
        changes: fields of the model's configuration, such as ``hidden_size``; need a ``folder``.

    Raises:
        SerkitError: no such family, changes without a folder of their own, or a folder of that name of another user.
        MissingExtra: transformers is not installed.
    """
    check_known(family, BUILDERS, f"no tiny checkpoint of '{family}'")
    if folder is None and changes:
        raise SerkitError("a tiny checkpoint with changes needs a folder of its own")
    import torch

    name = f"serkit-tiny-{VERSION}-{torch.__version__}-{os.getuid() if hasattr(os, 'getuid') else 0}"
    target = Path(folder) if folder is not None else Path(tempfile.gettempdir()) / name / family
    if folder is None and target.is_dir():
        if hasattr(os, "getuid") and {os.getuid()} != {target.stat().st_uid, target.parent.stat().st_uid}:
            raise SerkitError(
                f"{target.parent} belongs to another user; remove it, or set TMPDIR to a folder of your own"
            )
        return target
    with contextlib.suppress(FileExistsError), replacing_folder(target) as part:  # or another process was first
        with quiet(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(7)
            BUILDERS[family](transformers_package(family), part, changes)
        if folder is not None:
            shutil.rmtree(target, ignore_errors=True)
    return target


def _lively(model: Any) -> Any:
    """Larger weights than an initialisation has, so that a mistake shows in the output."""
    import torch

    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(3.0)
            else:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def _speech(kind: str, norm: str, layers: int) -> Builder:
    def build(transformers: Any, folder: Path, changes: Mapping[str, Any]) -> None:
        stable = norm == "layer"
        config = getattr(transformers, f"{kind}Config")(
            **{
                "hidden_size": 16, "num_hidden_layers": layers, "num_attention_heads": 2, "intermediate_size": 24,
                "conv_dim": (8,) * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4,
                "feat_extract_norm": norm, "conv_bias": stable, "do_stable_layer_norm": stable,
                "num_buckets": 32, "max_bucket_distance": 80, "vocab_size": 4, "codevector_dim": 8,
                "proj_codevector_dim": 8, "num_codevectors_per_group": 4,
            } | dict(changes)
        )  # fmt: skip
        _lively(getattr(transformers, f"{kind}Model")(config)).save_pretrained(folder)
        transformers.Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=stable).save_pretrained(folder)

    return build


def _whisper(transformers: Any, folder: Path, changes: Mapping[str, Any]) -> None:
    tokenizer, special = _whisper_tokenizer(transformers, folder)
    config = transformers.WhisperConfig(
        **{
            "d_model": 16, "encoder_layers": 4, "decoder_layers": 1, "encoder_attention_heads": 2,
            "decoder_attention_heads": 2, "encoder_ffn_dim": 24, "decoder_ffn_dim": 24, "num_mel_bins": 80,
            "vocab_size": len(tokenizer), "pad_token_id": special["<|endoftext|>"],
            "bos_token_id": special["<|endoftext|>"], "eos_token_id": special["<|endoftext|>"],
            "decoder_start_token_id": special["<|startoftranscript|>"], "suppress_tokens": [],
            "begin_suppress_tokens": [], "max_target_positions": 64,
        } | dict(changes)
    )  # fmt: skip
    model = _lively(transformers.WhisperForConditionalGeneration(config))
    model.generation_config = transformers.GenerationConfig(
        bos_token_id=special["<|endoftext|>"],
        eos_token_id=special["<|endoftext|>"],
        pad_token_id=special["<|endoftext|>"],
        decoder_start_token_id=special["<|startoftranscript|>"],
        max_length=24,
    )
    model.generation_config.is_multilingual = True
    model.generation_config.lang_to_id = {"<|en|>": special["<|en|>"], "<|de|>": special["<|de|>"]}
    model.generation_config.task_to_id = {
        "transcribe": special["<|transcribe|>"],
        "translate": special["<|translate|>"],
    }
    model.generation_config.no_timestamps_token_id = special["<|notimestamps|>"]
    model.generation_config.max_initial_timestamp_index = 5  # 0.1 s, so that clips of a second have words
    letters = {*"abcdefghijklmnopqrstuvwxyz\u0120", "<|endoftext|>"}  # and times: no other byte, no other mark
    model.generation_config.suppress_tokens = [
        i for word, i in tokenizer.get_vocab().items() if word not in letters and not word.startswith(_TIMES)
    ]
    model.generation_config.alignment_heads = [[0, 0], [0, 1]]
    model.save_pretrained(folder)
    frames = config.max_source_positions
    transformers.WhisperFeatureExtractor(
        feature_size=config.num_mel_bins, chunk_length=max(1, frames // 50)
    ).save_pretrained(folder)


def _whisper_tokenizer(transformers: Any, folder: Path) -> tuple[Any, dict[str, int]]:
    """Byte-level vocabulary without merges, with Whisper's special tokens in their published order."""
    from tokenizers.pre_tokenizers import ByteLevel

    vocabulary = {c: i for i, c in enumerate(sorted(ByteLevel.alphabet()))}
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    words = ["<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|de|>", "<|translate|>", "<|transcribe|>",
             "<|startoflm|>", "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>"]  # fmt: skip
    tokenizer = transformers.WhisperTokenizer(vocab=str(folder / "vocab.json"), merges=str(folder / "merges.txt"))
    tokenizer.add_special_tokens({"additional_special_tokens": words[1:]})
    tokenizer.add_tokens([f"<|{0.02 * k:.2f}|>" for k in range(1501)])
    tokenizer.save_pretrained(folder)
    return tokenizer, {w: tokenizer.convert_tokens_to_ids(w) for w in words}


def _facodec(transformers: Any, folder: Path, changes: Mapping[str, Any]) -> None:
    import torch

    from serkit.foundation.facodec_model import FacodecDecoder, FacodecEncoder

    sizes = {"channels": 2, "dim": 16, "inner": 24} | dict(changes)
    (folder / "config.json").write_text(json.dumps({"model_type": "facodec", **sizes}), encoding="utf-8")
    encoder = _lively(FacodecEncoder(sizes["channels"], sizes["dim"]))
    bands = transformers.audio_utils.mel_filter_bank(513, 80, 0.0, 8000.0, 16_000, norm="slaney", mel_scale="slaney")
    encoder.mel_transform.mel_basis.copy_(torch.from_numpy(bands.T))
    decoder = _lively(FacodecDecoder(sizes["dim"], sizes["inner"]))
    for stem, part in zip(FACODEC_STEMS, (encoder, decoder), strict=True):
        torch.save(part.state_dict(), folder / f"{stem}.bin")


def _emotion2vec(transformers: Any, folder: Path, changes: Mapping[str, Any]) -> None:
    """The files as published, with the decoder of the pretraining and a classifier of nine classes."""
    import torch
    import yaml

    from serkit import emotion2vec_files
    from serkit.foundation.emotion2vec_model import IGNORED, PREFIX, Emotion2vecModel

    audio = {
        "prenet_depth": 2, "num_extra_tokens": 3, "num_alibi_heads": 2, "conv_pos_width": 25, "conv_pos_groups": 4,
        "conv_pos_depth": 5, "feature_encoder_spec": "[(8, 10, 5)] + [(8, 3, 2)] * 4 + [(8,2,2)] + [(8,2,2)]",
    }  # fmt: skip
    network = {"embed_dim": 16, "num_heads": 2, "depth": 2, "mlp_ratio": 1.5, "norm_eps": 1e-5} | dict(changes)
    table = {"model": "Emotion2vec", "model_conf": network | {"modalities": {"audio": audio}}}
    (folder / emotion2vec_files.CONFIG).write_text(yaml.safe_dump(table), encoding="utf-8")
    classes = ("angry", "disgusted", "fearful", "happy", "neutral", "other", "sad", "surprised")
    (folder / emotion2vec_files.TOKENS).write_text("".join(f"-/{c}\n" for c in classes) + "<unk>\n", encoding="utf-8")
    model = _lively(Emotion2vecModel(emotion2vec_files.sizes(folder), len(classes) + 1))
    with torch.no_grad():
        model.audio.alibi_scale.copy_(torch.linspace(0.5, 2.0, model.audio.alibi_scale.numel()).view(1, 1, -1, 1, 1))
    tensors = {(k if k.startswith("proj.") else PREFIX + k): t for k, t in model.state_dict().items()}
    tensors[f"{PREFIX}{IGNORED[0]}proj.bias"] = torch.zeros(16)
    torch.save({"model": tensors, "args": None}, folder / "model.pt")


def _text(make: Callable[[Any, Path, Mapping[str, Any]], Any]) -> Builder:
    def build(transformers: Any, folder: Path, changes: Mapping[str, Any]) -> None:
        _lively(make(transformers, folder, changes)).save_pretrained(folder)

    return build


BUILDERS: Mapping[str, Builder] = {
    "whisper": _whisper,
    "wavlm": _speech("WavLM", "layer", 4),
    "hubert": _speech("Hubert", "layer", 4),
    "wav2vec2": _speech("Wav2Vec2", "group", 4),
    "distilhubert": _speech("Hubert", "group", 2),
    "facodec": _facodec,
    "emotion2vec": _emotion2vec,
    "roberta": _text(tiny_text.roberta),
    "bert": _text(tiny_text.bert),
    "deberta": _text(tiny_text.deberta),
    "modernbert": _text(tiny_text.modernbert),
}
