"""The pretrained checkpoints serkit knows by name: one line each, every fact with its source.

Nothing here is guessed. Where a fact was not found it is ``unknown``; width and depth that were only
remembered say so, and :mod:`serkit.foundation.loading` refuses a checkpoint whose configuration differs.
``revision`` is a commit that was seen on the hub; ``serkit encoders --lock`` replaces it by the newest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

UNKNOWN = "unknown"
HUB = "read: hub page of that revision"
REMEMBERED = "remembered; checked against the configuration when loaded"
UEDA = "read: Ueda et al. 2025 (arXiv 2505.20007), table of encoders; layers remembered"
WHISPER = "read: openai/whisper README, model table (whole model)"
DEBERTA = "read: microsoft/DeBERTa README, model table (backbone)"
BERT = "read: google-research/bert README"
FACODEC = "read: parameter names and shapes of the published reference classes"
E2V = "read: config.yaml on the hub"
E2V_LARGE = "read: config.yaml on the hub, a part of it; the layers of the context encoder from lists of its weights"
E2V_COUNTED = "counted: weights of a network of this shape"


@dataclass(frozen=True)
class Checkpoint:
    """What is known of one checkpoint.

    Attributes:
        name: ``family/checkpoint``, as recipes write it. hub: its id on the model hub.
        dim, layers: width of a hidden state, number of transformer layers (of the encoder).
        parameters_m: millions of parameters. download_gb: size of the weights file, 10^9 bytes.
        languages, licence: as published. commercial: whether the licence allows commercial use.
        revision: a commit of the hub, or ``unknown`` (then the hub's newest is taken).
        sources: where each fact comes from, by field; those not named are from the hub page of the revision.
    """

    name: str
    hub: str
    dim: int
    layers: int
    parameters_m: float | None = None
    download_gb: float | None = None
    languages: str = UNKNOWN
    licence: str = UNKNOWN
    commercial: bool | None = None
    revision: str = UNKNOWN
    sources: Mapping[str, str] = field(default_factory=dict)

    @property
    def family(self) -> str:
        """File in ``encoders/``: what stands before the slash."""
        return self.name.split("/", 1)[0]

    def line(self) -> str:
        """One line for a listing: size, languages, licence."""
        size = f"{self.download_gb:g} GB" if self.download_gb else "size unknown"
        return f"{self.hub}, {self.dim}-d, {self.layers} layers, {size}, languages: {self.languages} ({self.licence})"


def _row(
    name: str,
    hub: str,
    dim: int,
    layers: int,
    shape: str,
    *,
    millions: tuple[float, str] | None = None,
    gb: float | None = None,
    languages: tuple[str, str] | None = None,
    licence: tuple[str, str] | None = None,
    revision: str = UNKNOWN,
) -> Checkpoint:
    sources = {"dim": shape, "layers": shape}
    for key, fact in (("parameters_m", millions), ("languages", languages), ("licence", licence)):
        if fact is not None:
            sources[key] = fact[1]
    return Checkpoint(
        name, hub, dim, layers,
        parameters_m=millions[0] if millions else None,
        download_gb=gb,
        languages=languages[0] if languages else UNKNOWN,
        licence=licence[0] if licence else UNKNOWN,
        commercial=True if licence and licence[0].lower() in ("mit", "apache-2.0") else None,
        revision=revision, sources=sources,
    )  # fmt: skip


_MIT, _APACHE = ("mit", HUB), ("apache-2.0", HUB)
_EN, _99 = ("en", HUB), ("99 languages", HUB)
_OPENAI = ("MIT", "read: openai/whisper README, 'code and model weights'")
_GOOGLE = ("apache-2.0", BERT)
_FUNASR = ("other: model-license of FunASR", "read: model card; its link leads to the repository of FunASR")

# fmt: off
TABLE: tuple[Checkpoint, ...] = (
    _row("whisper/tiny", "openai/whisper-tiny", 384, 4, REMEMBERED, millions=(39, WHISPER), licence=_OPENAI),
    _row("whisper/base", "openai/whisper-base", 512, 6, REMEMBERED, millions=(74, WHISPER), gb=0.29, languages=_99, licence=_APACHE, revision="15ec5e35b3b840df9eb2a22a2cea891bfd3ef763"),
    _row("whisper/small", "openai/whisper-small", 768, 12, REMEMBERED, millions=(244, WHISPER), licence=_OPENAI),
    _row("whisper/medium", "openai/whisper-medium", 1024, 24, REMEMBERED, millions=(769, WHISPER), licence=_OPENAI),
    _row("whisper/large-v2", "openai/whisper-large-v2", 1280, 32, REMEMBERED, millions=(1550, WHISPER), licence=_OPENAI),
    _row("whisper/large-v3", "openai/whisper-large-v3", 1280, 32, UEDA, millions=(1550, WHISPER), gb=3.09, languages=_99, licence=_APACHE, revision="4a83ae28a5e231da2f568c43291ba44edbe9beca"),
    _row("whisper/large-v3-turbo", "openai/whisper-large-v3-turbo", 1280, 32, REMEMBERED, millions=(809, WHISPER), licence=_OPENAI),
    _row("wavlm/base", "microsoft/wavlm-base", 768, 12, REMEMBERED, languages=("en", "read: model card")),
    _row("wavlm/base-plus", "microsoft/wavlm-base-plus", 768, 12, REMEMBERED, languages=("en", "read: model card")),
    # the hub names no licence; torchaudio calls the same weights MIT, others CC BY-SA 3.0: unknown until someone asks
    _row("wavlm/large", "microsoft/wavlm-large", 1024, 24, UEDA, gb=1.26, languages=_EN, revision="c1423ed94bb01d80a3f5ce5bc39f6026a0f4828c"),
    _row("hubert/base-ls960", "facebook/hubert-base-ls960", 768, 12, REMEMBERED, gb=0.378, languages=_EN, licence=_APACHE, revision="e16f1b664ae8372daa0194c516e976dbae1f5b88"),
    _row("hubert/large-ls960-ft", "facebook/hubert-large-ls960-ft", 1024, 24, REMEMBERED),
    _row("hubert/xlarge-ls960-ft", "facebook/hubert-xlarge-ls960-ft", 1280, 48, UEDA, gb=3.85, languages=_EN, licence=_APACHE, revision="86a09e67e0c8d074533992379242405825516eca"),
    _row("wav2vec2/base", "facebook/wav2vec2-base", 768, 12, REMEMBERED),
    _row("wav2vec2/large-robust", "facebook/wav2vec2-large-robust", 1024, 24, REMEMBERED, gb=1.27, languages=_EN, licence=_APACHE, revision="b0f1fc09a26486a009ebd4afaddb69c4cd6f0882"),
    _row("wav2vec2/xls-r-300m", "facebook/wav2vec2-xls-r-300m", 1024, 24, REMEMBERED),
    _row("distilhubert/base", "ntu-spml/distilhubert", 768, 2, REMEMBERED, gb=0.094, languages=_EN, licence=_APACHE, revision="fa87d96265d6b7af66e112faff6ff44df419cec9"),
    # whether FunASR's licence for its models holds for these has been asked (ddlBoJack/emotion2vec #78), without an answer
    _row("emotion2vec/base", "emotion2vec/emotion2vec_base", 768, 12, E2V, millions=(93.2, E2V_COUNTED), gb=1.13, licence=_FUNASR, revision="0c9a3152734f9d7a7a05b4ee6bfb3c109d288664"),
    _row("emotion2vec/plus-seed", "emotion2vec/emotion2vec_plus_seed", 768, 12, E2V, millions=(93.2, E2V_COUNTED), licence=_FUNASR, revision="7be9a30d52bdc793cc24e6f7d25358d6648927c1"),
    _row("emotion2vec/plus-base", "emotion2vec/emotion2vec_plus_base", 768, 12, E2V, millions=(93.2, E2V_COUNTED), gb=1.12, licence=_FUNASR, revision="b318240bfe67db81a8c572ecb37ce9c3759b81c9"),
    _row("emotion2vec/plus-large", "emotion2vec/emotion2vec_plus_large", 1024, 12, E2V_LARGE, millions=(162.1, E2V_COUNTED), gb=1.95, licence=_FUNASR, revision="6c303ba987b86b93193de93e34bb2b077a6bedc4"),
    _row("roberta/base", "FacebookAI/roberta-base", 768, 12, REMEMBERED),
    _row("roberta/large", "FacebookAI/roberta-large", 1024, 24, UEDA, gb=1.42, languages=_EN, licence=_MIT, revision="5069d8a2a32a7df4c69ef9b56348be04152a2341"),
    _row("roberta/xlm-large", "FacebookAI/xlm-roberta-large", 1024, 24, REMEMBERED),
    _row("deberta/xlarge-v2", "microsoft/deberta-v2-xlarge", 1536, 24, DEBERTA, millions=(710, DEBERTA), gb=1.78, languages=_EN, licence=_MIT, revision="30597019711d3531f994d1e21defffd0d8cd55ab"),
    _row("deberta/xxlarge-v2", "microsoft/deberta-v2-xxlarge", 1536, 48, DEBERTA, millions=(1320, DEBERTA), languages=_EN, licence=_MIT, revision="19a66b84838562603de01f157002fd45295d36bf"),
    _row("deberta/v3-base", "microsoft/deberta-v3-base", 768, 12, DEBERTA, millions=(86, DEBERTA)),
    _row("deberta/v3-large", "microsoft/deberta-v3-large", 1024, 24, DEBERTA, millions=(304, DEBERTA), gb=0.874, languages=_EN, licence=_MIT, revision="ac8fbdf0d619d908c69b9d68c285e61835ace5e0"),
    _row("deberta/v3-base-multilingual", "microsoft/mdeberta-v3-base", 768, 12, DEBERTA, millions=(86, DEBERTA), languages=("102 languages", DEBERTA)),
    _row("modernbert/base", "answerdotai/ModernBERT-base", 768, 22, REMEMBERED),
    _row("modernbert/large", "answerdotai/ModernBERT-large", 1024, 28, REMEMBERED, gb=1.58, languages=_EN, licence=_APACHE, revision="e829787a68677321312ff287fda2f8ef1a36e02a"),
    _row("bert/base-uncased", "google-bert/bert-base-uncased", 768, 12, BERT, millions=(110, BERT), languages=("en", BERT), licence=_GOOGLE),
    _row("bert/large-uncased", "google-bert/bert-large-uncased", 1024, 24, BERT, millions=(340, BERT), languages=("en", BERT), licence=_GOOGLE),
    _row("bert/base-multilingual-cased", "google-bert/bert-base-multilingual-cased", 768, 12, REMEMBERED),
    # the hub page seen (of an earlier commit, before the V2 files) says apache-2.0, Amphion's source files say MIT
    _row("facodec/prosody", "lifeiteng/naturalspeech3_facodec", 256, 1, FACODEC),
    _row("facodec/prosody_speaker", "lifeiteng/naturalspeech3_facodec", 512, 1, FACODEC),
)
# fmt: on
BY_NAME: Mapping[str, Checkpoint] = {row.name: row for row in TABLE}
