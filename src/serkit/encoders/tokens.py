"""The tokens of a text, as a feature that networks with a pretrained text model in them are trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

import numpy as np

from serkit import checkpoints, fetching
from serkit.encoding import EncoderSpec
from serkit.errors import SerkitError, did_you_mean
from serkit.foundation.base import Pretrained
from serkit.foundation.tiny import tiny_folder
from serkit.foundation.tokenizing import FAMILIES, Tokenizer


class Tokens(Pretrained):
    """Token ids of a text as frames one wide, for networks trained end to end: (tokens, 1), markers at both ends.

    Needs the tokenizer of a text model and not its weights: nothing worth a thought is in memory. Float32 holds every
    id exactly. A text is never cut; one longer than the model sees at once is cut into windows by the network
    (:class:`serkit.foundation.trainable_text.TextBackbone`). An empty text is its first marker alone.

    Args:
        name: ``tokens/`` and the text model that reads them: ``tokens/roberta/large``, ``tokens/hub:ORG/MODEL``,
            ``tokens/path:DIR``, or ``tokens/roberta/random`` (of tiny random weights).

    Attributes:
        model: name of the text model. tokenizer: once it is loaded.

    Raises:
        SerkitError: an unknown name, or a model that does not read text.
    """

    FAMILY: ClassVar[str] = "tokens"
    MODALITY: ClassVar[Literal["audio", "text"]] = "text"

    tokenizer: Tokenizer

    def __init__(self, name: str = "tokens/roberta/large") -> None:
        self.model = name.removeprefix(f"{self.FAMILY}/")
        if name not in self.names() and not self.model.startswith(("hub:", "path:")):
            raise SerkitError(f"no encoder '{name}'" + did_you_mean(name, self.names()))
        family, _, rest = self.model.partition("/")
        tiny = rest == "random" and self.model not in checkpoints.replaced_sources()
        self.resolved = checkpoints.resolve(self.model, tiny_folder(family) if tiny else None)
        if self.resolved.family not in FAMILIES:
            raise SerkitError(
                f"encoder '{name}': '{self.model}' is of the family '{self.resolved.family}', expected one that reads "
                f"text: {', '.join(FAMILIES)}"
            )
        found = self.resolved
        self._described(
            EncoderSpec(
                name, "text", dim=1, source=found.source, revision=found.revision, dtype="float32",
                licence=found.licence, note=found.note,
            )
        )  # fmt: skip

    def _described(self, spec: EncoderSpec) -> None:
        self.spec, self._loaded, self._of_load = spec, False, set()

    @classmethod
    def of_file(cls, spec: EncoderSpec, content: bytes) -> Self:
        """The encoder of a ``tokenizer.json`` that was kept with a trained network, which needs no checkpoint.

        Args:
            spec: as it was in training. content: of the file.
        """
        made = cls.__new__(cls)
        made.model = spec.name.partition("/")[2]
        made._described(spec)
        made.tokenizer, made._loaded = Tokenizer(content, spec.name), True
        return made

    @classmethod
    def names(cls) -> Mapping[str, str]:
        """Name to one line of description with its licence."""
        rows = [row for family in FAMILIES for row in checkpoints.rows(family)]
        known = {f"{cls.FAMILY}/{row.name}": f"token ids for a trained {row.name} ({row.licence})" for row in rows}
        tiny = {
            f"{cls.FAMILY}/{family}/random": "token ids for tiny random weights (Apache-2.0)" for family in FAMILIES
        }
        return known | tiny

    @classmethod
    def tiny(cls) -> Self:
        """The tokens of tiny random weights."""
        return cls("tokens/roberta/random")

    def load(self, device: str = "cpu") -> None:
        """Read the tokenizer, fetching its model where that is not on this machine.

        Raises:
            MissingExtra: a package of ``serkit[foundation]`` is not installed.
            SerkitError: no such files, or damaged ones.
        """
        if not self._loaded:
            self.tokenizer = Tokenizer.of_folder(self.spec.name, fetching.fetch(self.resolved))
            self._of_load, self._loaded = {"tokenizer"}, True

    def fetch(self) -> None:
        """Bring the files of the model to this machine, where the tokenizer is not read yet."""
        if not self._loaded:
            super().fetch()

    def unload(self) -> None:
        """Forget the tokenizer, unless it came without a model to read it from again."""
        if self._of_load:
            super().unload()

    def resident_bytes(self, device: str = "cpu") -> int:
        """0: a tokenizer is not worth a thought."""
        return 0

    def __call__(self, items: Sequence[Any]) -> list[np.ndarray]:
        """One (tokens, 1) float32 array per text, in order."""
        self.load()
        return [self.tokenizer.frames(self._checked(item)) for item in items]
