"""Tiny text checkpoints: the part of :mod:`serkit.foundation.tiny` that makes vocabularies."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from serkit.extras import optional

TEXTS = (
    "I did not expect that at all, and now I am glad.",
    "Kids are talking by the door. Dogs are sitting by the door.",
    "Leave me alone! Why would you ever say such a thing to her?",
    "Well, it was a quiet evening; nobody said much about the weather.",
    "That is so sad... he waited for seven hours, and then he left.",
)
MERGES = ("t h", "th e", "Ġ the", "Ġ a", "i n", "Ġ s", "e r", "l l")
SIZES = {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 24}


def roberta(transformers: Any, folder: Path, changes: Mapping[str, Any]) -> Any:
    """Byte-level pieces in ``vocab.json`` and ``merges.txt``."""
    from tokenizers.pre_tokenizers import ByteLevel

    pieces = ["<s>", "<pad>", "</s>", "<unk>", *sorted(ByteLevel.alphabet()), *(m.replace(" ", "") for m in MERGES)]
    vocabulary = {piece: k for k, piece in enumerate([*pieces, "<mask>"])}
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *MERGES]) + "\n", encoding="utf-8")
    transformers.RobertaTokenizer(
        vocab=str(folder / "vocab.json"), merges=str(folder / "merges.txt"), model_max_length=512
    ).save_pretrained(folder)
    sizes = SIZES | {"vocab_size": len(vocabulary), "max_position_embeddings": 514, "type_vocab_size": 1}
    ids = {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2}
    return transformers.RobertaForMaskedLM(transformers.RobertaConfig(**(sizes | ids | dict(changes))))


def bert(transformers: Any, folder: Path, changes: Mapping[str, Any]) -> Any:
    """Characters and the texts' words in ``vocab.txt``."""
    text = " ".join(TEXTS).lower()
    characters = sorted(set(text) - {" "})
    words = sorted({"".join(c for c in w if c.isalpha()) for w in text.split()} - set(characters))
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = [*special, *characters, *(f"##{c}" for c in characters if c.isalpha()), *words]
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    transformers.BertTokenizer(
        vocab={piece: k for k, piece in enumerate(vocabulary)}, do_lower_case=True, model_max_length=512
    ).save_pretrained(folder)
    return transformers.BertForMaskedLM(
        transformers.BertConfig(**(SIZES | {"vocab_size": len(vocabulary)} | dict(changes)))
    )


def deberta(transformers: Any, folder: Path, changes: Mapping[str, Any]) -> Any:
    """Pieces in ``spm.model``, as the published v2 and v3 folders have them and nothing else."""
    sentencepiece = optional("sentencepiece", "foundation", "encoder 'deberta'")
    buffer = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS * 4), model_writer=buffer, vocab_size=90, model_type="unigram",
        hard_vocab_limit=False, pad_id=0, bos_id=1, eos_id=2, unk_id=3, pad_piece="[PAD]", bos_piece="[CLS]",
        eos_piece="[SEP]", unk_piece="[UNK]", minloglevel=2, num_threads=1,
    )  # fmt: skip
    (folder / "spm.model").write_bytes(buffer.getvalue())
    (folder / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": False, "vocab_type": "spm"}))
    config = transformers.DebertaV2Config(
        **(
            SIZES
            | {
                "vocab_size": 160, "relative_attention": True, "position_buckets": 16, "norm_rel_ebd": "layer_norm",
                "share_att_key": True, "pos_att_type": ["p2c", "c2p"], "position_biased_input": False,
                "conv_kernel_size": 3, "conv_act": "gelu", "type_vocab_size": 0, "max_relative_positions": -1,
            }
            | dict(changes)
        )
    )  # fmt: skip
    return transformers.DebertaV2ForMaskedLM(config)


def modernbert(transformers: Any, folder: Path, changes: Mapping[str, Any]) -> Any:
    """Byte-level pieces in ``tokenizer.json``, local and global attention in turn."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

    special = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"]
    pieces = [*special, *sorted(pre_tokenizers.ByteLevel.alphabet()), *(m.replace(" ", "") for m in MERGES)]
    vocabulary = {piece: k for k, piece in enumerate(pieces)}
    merges = [(a, b) for a, b in (m.split(" ") for m in MERGES)]
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])]
    )
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=core, unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]", pad_token="[PAD]",
        mask_token="[MASK]", model_max_length=8192, model_input_names=["input_ids", "attention_mask"],
    ).save_pretrained(folder)  # fmt: skip
    config = transformers.ModernBertConfig(
        **(
            SIZES
            | {
                "vocab_size": len(vocabulary), "local_attention": 16, "global_attn_every_n_layers": 2,
                "pad_token_id": 3, "bos_token_id": 1, "cls_token_id": 1, "eos_token_id": 2, "sep_token_id": 2,
            }
            | dict(changes)
        )
    )  # fmt: skip
    return transformers.ModernBertForMaskedLM(config)
