"""What a recipe is made of: encoders, losses, networks, training, cross-fitting, stack."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    SerializerFunctionWrapHandler,
    Tag,
    field_serializer,
    model_serializer,
    model_validator,
)

from serkit.parameters import Needs

BACKBONES = ("backbone", "text_backbone")  # parameters of a model that name a pretrained network to build it on
Draw = Literal["replacement", "passes", "undersample", "undersample_once"]


class Frozen(BaseModel):
    """Refuses unknown keys; cannot be changed."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Named(BaseModel):
    """A member of the file tree by name, with its parameters beside the name.

    A bare string stands for a name without parameters.
    """

    model_config = ConfigDict(extra="allow", frozen=True)
    name: str

    @property
    def parameters(self) -> dict[str, Any]:
        """Everything beside ``name`` (and a loss's ``weight``)."""
        return dict(self.model_extra or {})


class Feature(Named):
    """An encoder with its choices: ``whisper/large-v3`` or ``{name: logmel, pool: 4}``."""

    @property
    def family(self) -> str:
        """The file in ``encoders/``: what stands before the slash."""
        return self.name.split("/", 1)[0]

    @property
    def key(self) -> str:
        """Name of the modality inside a system: the name, with the parameters where there are any."""
        if not self.parameters:
            return self.name
        inner = ",".join(f"{k}={_plain(v)}" for k, v in sorted(self.parameters.items()))
        return f"{self.name}[{inner}]"


Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Ramp(Frozen):
    """A weight that goes from ``first`` to ``last`` in a straight line, and stays there.

    Attributes:
        first: in the first epoch. last: once ``epochs`` have passed, and in every later one. epochs: of the line.
    """

    first: Weight
    last: Weight
    epochs: int = Field(ge=1)

    def at(self, epoch: int) -> float:
        """The weight in an epoch, counted from 0.

        >>> [round(Ramp(first=1.0, last=0.01, epochs=5).at(e), 3) for e in (0, 1, 4, 5, 6, 100)]
        [1.0, 0.802, 0.208, 0.01, 0.01, 0.01]
        """
        return self.last if epoch >= self.epochs else self.first + (self.last - self.first) * epoch / self.epochs


class Loss(Named):
    """A loss with the weight it has in the sum: one number, or a mapping of one that changes over epochs."""

    weight: Annotated[  # a message says where it is without these tags (recipe._keys)
        Annotated[Weight, Tag("constrained-weight")] | Annotated[Ramp, Tag("constrained-ramp")],
        Discriminator(lambda given: f"constrained-{'ramp' if isinstance(given, Mapping | Ramp) else 'weight'}"),
    ] = 1.0

    def weight_at(self, epoch: int) -> float:
        """The weight in an epoch, counted from 0."""
        return self.weight.at(epoch) if isinstance(self.weight, Ramp) else self.weight

    @property
    def largest_weight(self) -> float:
        """The largest that it has in any epoch: 0 of a loss that never acts."""
        return max(self.weight.first, self.weight.last) if isinstance(self.weight, Ramp) else self.weight


def from_name(value: Any) -> Any:
    """A name alone stands for an entry without parameters."""
    return {"name": value} if isinstance(value, str) else value


class Transcripts(Frozen):
    """What text encoders read: the corpus's own text, a table, or what a recogniser hears.

    Attributes:
        name: ``corpus``, a ``.csv`` file with id and text, or a Whisper name such as ``whisper/large-v3``.
        engine: ``transformers``, or ``faster-whisper`` (extra ``asr``), the quick choice on a CPU.
        language: ISO 639 code; ``None`` takes the utterance's own where the corpus says it, else the model's guess.
        precision: of the recogniser. batch_size: windows of 30 s at a time; does not change the text.

    With nothing beside its name it is written as the bare name, as it may be read.
    """

    name: str = Field(min_length=1)
    engine: Literal["transformers", "faster-whisper"] = "transformers"
    language: str | None = None
    precision: Literal["float32", "bf16", "fp16"] = "float32"
    batch_size: int = Field(8, ge=1)

    @property
    def is_heard(self) -> bool:
        """Whether a recogniser is asked at all."""
        return self.name != "corpus" and not self.name.endswith(".csv")

    @property
    def choices(self) -> dict[str, Any]:
        """What differs from the defaults, beside the name."""
        kinds = type(self).model_fields
        return {k: getattr(self, k) for k in kinds if k != "name" and getattr(self, k) != kinds[k].default}

    @model_validator(mode="after")
    def _choices_are_of_a_recogniser(self) -> Transcripts:
        if self.choices and not self.is_heard:
            raise ValueError(f"'{self.name}' is read and not recognised; it takes no {next(iter(self.choices))}")
        return self

    @model_serializer
    def _written(self) -> str | dict[str, Any]:
        return {"name": self.name, **self.choices} if self.choices else self.name


class Train(Frozen):
    """How one network is trained (defaults: paper and code of Ueda et al. 2025, unless said).

    Attributes:
        epochs, batch_size, lr, weight_decay: as usual; AdamW. beta2: decay of its mean of squared gradients.
        schedule: ``cosine_epoch`` (published: one step an epoch, to ``lr_min``), ``cosine`` (every
            step, after ``warmup_steps``), ``exponential`` (times ``decay`` each epoch), ``constant``.
        select: metric of the whole dev set that picks the checkpoint, ``ccc`` the mean CCC of the attributes learned,
            ``kl`` the smallest divergence from the raters' votes; ``last`` picks none and keeps the last epoch.
        patience: epochs without a better dev metric before stopping; ``None`` runs all epochs.
        clip_norm: largest gradient norm. accumulate: batches per optimiser step.
        precision: ``fp32``, ``bf16`` or ``fp16`` (AMP; ``fp16`` on a GPU alone).
        bucket: length-bucketed batches (same draw in expectation, less padding).
        draw: with ``balance``, rows are drawn with ``replacement`` (published), in shuffled ``passes``, or by
            ``undersample``: as many of each group as the smallest has, others in each epoch, or the same rows with
            ``undersample_once``.
        ema: keep an exponential moving average of the weights with this decay and select by it
            (``None``: none, as published).
        loss_scale: how the sum of losses is scaled: ``fixed``, ``initial``, ``running_max``, ``uncertainty``.
        targets: ``labels``, or ``votes`` to train on rater distributions.
        soup: train the network so many times, from the same first weights, and keep the mean of their weights
            (Wortsman et al. 2022); ``None`` trains it once. shared_epochs: their first epochs, trained once for all of
            them, of which none is selected. members: of that mean: ``all``, or those that a ``greedy`` choice by
            ``select`` adds.
    """

    epochs: int = Field(20, ge=0)
    batch_size: int = Field(64, ge=1)
    lr: float = Field(1e-4, gt=0)
    lr_min: Annotated[float, Needs("schedule", "cosine_epoch", "cosine")] = Field(1e-6, ge=0)
    weight_decay: float = Field(1e-6, ge=0)
    beta2: float = Field(0.999, ge=0, lt=1)
    schedule: Literal["cosine_epoch", "cosine", "exponential", "constant"] = "cosine_epoch"
    decay: Annotated[float, Needs("schedule", "exponential")] = Field(0.9, gt=0, le=1)
    draw: Annotated[Draw, Needs("balance")] = "replacement"
    warmup_steps: int = Field(0, ge=0)
    select: Literal["macro_f1", "uar", "accuracy", "weighted_f1", "ccc", "kl", "last"] = "macro_f1"
    patience: int | None = Field(None, ge=1)
    clip_norm: float | None = Field(None, gt=0)
    accumulate: int = Field(1, ge=1)
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    bucket: bool = True
    ema: float | None = Field(None, gt=0, lt=1)
    loss_scale: Literal["fixed", "initial", "running_max", "uncertainty"] = "fixed"
    targets: Literal["labels", "votes"] = "labels"
    soup: int | None = Field(None, ge=2)
    shared_epochs: Annotated[int, Needs("soup")] = Field(0, ge=0)
    members: Annotated[Literal["all", "greedy"], Needs("soup")] = "all"

    @model_serializer(mode="wrap")
    def _written(self, written: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without what came later, where it is the default, as before there was it: fingerprints are the same."""
        tree: dict[str, Any] = written(self)
        for key in ("beta2", "soup", "shared_epochs", "members"):
            if getattr(self, key) == type(self).model_fields[key].default:
                tree.pop(key, None)
        return tree

    @model_validator(mode="after")
    def _metric_and_epochs_are_there(self) -> Train:
        if self.select == "last" and self.patience is not None:
            raise ValueError("patience waits for a better dev metric and select: last has none; set patience: null")
        if self.select == "kl" and self.targets != "votes":
            raise ValueError("select: kl is the divergence from votes; set targets: votes, or select another metric")
        if self.soup is not None and self.shared_epochs >= self.epochs:
            raise ValueError(f"a soup needs more epochs than {self.shared_epochs}, which it shares; got {self.epochs}")
        if self.soup is not None and self.members == "greedy" and self.select == "last":
            raise ValueError("members: greedy adds networks by the dev metric and select: last has none")
        return self


class SecondStage(Frozen):
    """What a training does otherwise after some epochs; ``None`` is as in the first stage.

    The optimiser, the moving average and the best epoch so far go on. ``train.schedule`` ends with the first stage.
    ``train.patience`` begins to count anew, and stops nothing before. The best epoch may be one of either stage.

    Attributes:
        after_epochs: how many the first stage has. lr: where the rate begins; groups with a rate of their own change in
            proportion to ``train.lr``. schedule: ``constant``, or ``cosine`` over the epochs left, to ``train.lr_min``.
        balance: which groups are drawn equally often; ``none`` balances nothing. draw: see :class:`Train`.
        without_agreement: clips without agreement, as a share of the drawn clips that have it, rounded down and other
            ones in each epoch; there are never more than the corpus has. ``None`` draws them as any clip, by the class
            that most raters named.
        losses: the sum of these is minimised. A loss with state that is given as in the first stage keeps its state.
    """

    after_epochs: int = Field(ge=1)
    lr: float = Field(gt=0)
    schedule: Literal["constant", "cosine"] = "constant"
    balance: Literal["none", "neutral", "class", "corpus", "corpus_class"] | None = None
    draw: Annotated[Draw | None, Needs("balance")] = None
    without_agreement: Annotated[float | None, Needs("targets", "votes")] = Field(None, ge=0, allow_inf_nan=False)
    losses: tuple[Annotated[Loss, BeforeValidator(from_name)], ...] | None = Field(None, min_length=1)


class System(Frozen):
    """One network of the ensemble: what it reads, what it is, what it minimises."""

    features: Annotated[
        tuple[Annotated[Feature, BeforeValidator(from_name)], ...],
        Field(min_length=1),
    ]
    model: Annotated[Named, BeforeValidator(from_name)] = Named(name="cross_attention")
    losses: Annotated[tuple[Annotated[Loss, BeforeValidator(from_name)], ...], Field(min_length=1)] = (
        Loss(name="cross_entropy"),
    )
    balance: Literal["neutral", "class", "corpus", "corpus_class"] | None = None
    augment: tuple[Annotated[Named, BeforeValidator(from_name)], ...] = ()
    train: Train = Train()
    second_stage: SecondStage | None = None

    @property
    def stages(self) -> tuple[System, ...]:
        """Each stage of the training as a system without stages; this one alone where no second stage begins."""
        second, train = self.second_stage, self.train
        if second is None or train.epochs <= second.after_epochs:
            return (self,)
        first = train.model_copy(update={"epochs": second.after_epochs})
        changes = {"epochs": train.epochs - second.after_epochs, "lr": second.lr, "schedule": second.schedule}
        later = train.model_copy(update={**changes, "warmup_steps": 0, "draw": second.draw or train.draw})
        balance = self.balance if second.balance is None else None if second.balance == "none" else second.balance
        of_later = {"losses": second.losses or self.losses, "balance": balance, "train": later, "second_stage": None}
        return self.model_copy(update={"train": first, "second_stage": None}), self.model_copy(update=of_later)

    @model_serializer(mode="wrap")
    def _written(self, written: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without ``second_stage`` where there is none, as before there could be one: fingerprints are the same."""
        tree: dict[str, Any] = written(self)
        if self.second_stage is None:
            tree.pop("second_stage", None)
        return tree

    @property
    def has_stack(self) -> bool:
        """Whether a feature holds all layers of its model; then the model takes ``layer_weights``."""
        return any(f.parameters.get("layer") == "all" for f in self.features)

    @property
    def backbones(self) -> dict[str, str]:
        """Names of the pretrained networks that its model is built on, by the parameter that names them."""
        given = {key: self.model.parameters.get(key) for key in BACKBONES}
        return {
            key: str(value.get("name") if isinstance(value, dict) else value)
            for key, value in given.items()
            if value is not None
        }

    @property
    def has_adapters(self) -> bool:
        """Whether low-rank adapters are trained in one of them."""
        return "lora" in (self.model.parameters.get("tuning"), self.model.parameters.get("text_tuning"))

    @model_validator(mode="after")
    def _trained_at_all(self) -> System:
        start = self.model.parameters.get("start")
        solved = (self.model.name, start) in (("quadratic", "ridge"), ("logistic_regression", "fitted"))
        if solved and self.has_stack and self.model.parameters.get("layer_weights") != "none":
            raise ValueError(
                f"start: {start} learns no weights of layers: choose one layer, or set model.layer_weights: none"
            )
        if not self.train.epochs and "." not in self.model.name and not solved:
            raise ValueError(
                f"train.epochs is 0, so {self.model.name} would learn nothing: only quadratic with start: ridge and "
                "logistic_regression with start: fitted can do without epochs"
            )
        return self

    @model_validator(mode="after")
    def _tokens_have_their_model(self) -> System:
        for feature in self.features if "." not in self.model.name else ():
            reader, (family, _, model) = self.backbones.get("text_backbone"), feature.name.partition("/")
            if family == "tokens" and reader is None:
                other = "" if self.model.name == "joint_backbones" else f", not for {self.model.name}"
                raise ValueError(f"{feature.name} is for model joint_backbones with text_backbone: {model}{other}")
            if family == "tokens" and model != reader:
                raise ValueError(f"{feature.name} are not the tokens of text_backbone {reader}; they must be the same")
        return self

    @model_validator(mode="after")
    def _distinct(self) -> System:
        keys = [f.key for f in self.features]
        if len(set(keys)) != len(keys):
            raise ValueError(f"the same feature occurs twice: {keys}")
        return self


class Crossfit(Frozen):
    """Out-of-fold scores of the base systems, by speaker.

    Attributes:
        folds: models per system. refit: how many more to train on all of train (``true``: one), which differ in
            their seeds, and to use on dev and test; without one, dev and test get every fold model's scores. Scores
            of several models are averaged after the stack.
        with_dev: the speakers of dev are dealt into the folds too, so that every one of them trains most of the
            models; a model is watched on the fold it holds out, and dev is out-of-fold as train is. For a
            model that is to be used, on all the speech there is. With ``refit``, the models on all of it are watched
            on nothing, so that each keeps its last epoch.
        seed: of the speaker folds.
    """

    folds: int = Field(3, ge=2)
    refit: int = Field(0, ge=0)
    with_dev: bool = False
    seed: int = Field(0, ge=0, le=2**32 - 1)

    @field_serializer("refit")
    def _one_is_true(self, refit: int) -> bool | int:
        return bool(refit) if refit < 2 else refit  # the fingerprint of recipes of before there could be several

    @property
    def fold_models(self) -> tuple[str, ...]:
        """Names of the networks that each hold out a fold."""
        return tuple(f"fold{k}" for k in range(self.folds))

    @property
    def refit_models(self) -> tuple[str, ...]:
        """Names of the networks on all of train."""
        return tuple("full" if k == 0 else f"full{k + 1}" for k in range(self.refit))


class Stack(Frozen):
    """The meta-model (Ueda et al. 2025: 5 folds, 200 trees, depth 8, leaf and split 10, balanced rows)."""

    name: Literal["random_forest", "logistic", "log_pool", "auto"] = "random_forest"
    trees: int = Field(200, ge=1)
    max_depth: int | None = Field(8, ge=1)
    min_leaf: int = Field(10, ge=1)
    min_split: int = Field(10, ge=2)
    folds: int = Field(5, ge=2)
    per_class: int | Literal["auto"] = "auto"
    decimals: int | None = Field(None, ge=0)
    in_sample: bool = False
    seed: int = Field(42, ge=0, le=2**32 - 1)

    @model_validator(mode="after")
    def _enough_of_each(self) -> Stack:
        if self.per_class != "auto" and self.per_class < 2:
            raise ValueError(f"per_class is {self.per_class}, expected 2 rows or more of each class, or auto")
        return self


def _plain(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
