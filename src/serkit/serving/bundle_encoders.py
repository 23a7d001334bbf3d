"""The encoders of a bundle, from what ``bundle.json`` says of its features."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from serkit import registry
from serkit.checkpoints import family_of, is_unlisted
from serkit.encoding import Encoder, EncoderSpec
from serkit.errors import SerkitError, in_one_line

TOKENIZER = "tokenizer"  # key of a feature whose tokenizer is in the bundle: the name of its file


def own_modules(encoders: Iterable[str]) -> dict[str, str]:
    """Modules that encoders with dotted names would be imported from, each with the dotted name of one of them."""
    families = (name.split("/", 1)[0] for name in encoders if not is_unlisted(name))  # as encoders_of looks them up
    return {name.rpartition(".")[0]: name for name in families if "." in name}


def encoders_of(
    features: Mapping[str, Any], source: str, version: str, read: Callable[[str], bytes]
) -> dict[str, Encoder]:
    """The encoders of a bundle by feature key, not loaded; a dotted name is imported, see :meth:`Bundle.check_plugins`.

    Args:
        features: as ``bundle.json`` has them. source, version: the bundle and its serkit, for messages.
        read: content of a file of the bundle, of which a tokenizer is one.

    Raises:
        SerkitError, MissingExtra: as for :meth:`Bundle.encoders`.
    """
    made: dict[str, Encoder] = {}
    for key, row in features.items():
        name = str(row["name"])
        family = family_of(name) if is_unlisted(name) else name.split("/", 1)[0]
        make = registry.find("encoders", family)
        kept = TOKENIZER in row and family == "tokens"
        encoder: Encoder = _with_tokenizer(make, row, source, read) if kept else _made(make, row, source)
        if encoder.spec.fingerprint != row["fingerprint"]:
            theirs = str(row["spec"].get("revision"))
            remedy = f"train the bundle again or use serkit {version}"
            if theirs != encoder.spec.revision and theirs.startswith("weights-"):
                remedy = f"put the folder with those weights into roots.yaml (checkpoints: {name}: DIR), or train again"
            raise SerkitError(
                f"{source}: trained with revision {theirs} of '{name}', and here is revision {encoder.spec.revision}, "
                f"whose numbers differ; {remedy}"
            )
        made[key] = encoder
    return made


def _made(make: Any, row: Mapping[str, Any], source: str) -> Encoder:
    try:
        found: Encoder = make(row["name"], **row["parameters"])
    except (TypeError, ValueError, AttributeError, LookupError, ArithmeticError) as error:  # of parameters it has not
        said = in_one_line(error)
        raise SerkitError(
            f"{source}: no encoder '{row['name']}' with parameters {row['parameters']}: {said}"
        ) from error
    return found


def _with_tokenizer(make: Any, row: Mapping[str, Any], source: str, read: Callable[[str], bytes]) -> Encoder:
    """The encoder of a feature whose tokenizer is in the bundle; it needs nothing else."""
    try:
        spec = EncoderSpec(**row["spec"])
    except TypeError as error:
        raise SerkitError(f"{source}: bundle.json is damaged: {error}") from None
    found: Encoder = make.of_file(spec, read(str(row[TOKENIZER])))
    return found
