"""The parts of a recipe that say how results are measured, and what its authors measured."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from serkit.settings import Frozen, from_name


class Group(Frozen):
    """A column whose values are groups of clips: ``accent``, or ``{name: age, edges: [30, 50]}``.

    Attributes:
        name: of the column. edges: where a column of numbers is cut, rising; without them it is cut into quarters.
    """

    name: str = Field(min_length=1)
    edges: tuple[Annotated[float, Field(allow_inf_nan=False)], ...] = ()

    @model_validator(mode="after")
    def _rising(self) -> Group:
        if any(a >= b for a, b in zip(self.edges, self.edges[1:], strict=False)):
            raise ValueError(f"expected rising edges, got {', '.join(f'{e:g}' for e in self.edges)}")
        return self

    @model_serializer
    def _written(self) -> str | dict[str, Any]:
        return {"name": self.name, "edges": list(self.edges)} if self.edges else self.name


class Published(Frozen):
    """Figures of the authors of a published system, for the reports of it on the same corpus with the same classes.

    Attributes:
        corpus: they were measured on, as the command line names it; several as one are joined by ``+``.
        classes: how many classes, of emotions; ``None``: the figures are of no classes.
        text: whose they are, on which clips, and the figures: one sentence.
        answer: the ensemble, or the system, that their final figure is of; ``None``: what a run of the recipe leads
            with anyhow.
    """

    corpus: str = Field(min_length=1)
    classes: int | None = Field(None, ge=2)
    text: str = Field(min_length=1)
    answer: str | None = Field(None, min_length=1)

    @property
    def corpus_in_reports(self) -> str:
        """What a report calls the corpus: of a reader of the user's own, ``mylab.corpora.mine``, the last part."""
        return "+".join(name.rpartition(".")[2] for name in self.corpus.split("+"))


class Evaluate(Frozen):
    """How results are measured: draws of the speaker bootstrap, the seed of every draw, and further groups of clips."""

    draws: int = Field(1000, ge=10)
    seed: int = Field(0, ge=0, le=2**32 - 1)
    groups: tuple[Annotated[Group, BeforeValidator(from_name)], ...] = ()

    @model_validator(mode="after")
    def _distinct(self) -> Evaluate:
        names = [g.name for g in self.groups]
        if len(set(names)) != len(names):
            raise ValueError(f"a group occurs twice: {', '.join(names)}")
        return self

    @model_serializer(mode="wrap")
    def _written(self, written: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without ``groups`` where there are none, as before they could be asked for: fingerprints are the same."""
        tree: dict[str, Any] = written(self)
        if not self.groups:
            tree.pop("groups", None)
        return tree
