"""Several bundles as one: their networks answer together, by the mean of the bundles' calibrated log probabilities.

Needs neither torch nor the runs that the bundles were made of. The one bundle is like any other afterwards: files,
streams, service, export and adaptation read it as they read its parts.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from serkit import __version__, calibration, metrics
from serkit.errors import SerkitError
from serkit.files import fingerprint
from serkit.probabilities import COMBINED_FLOOR, softmax
from serkit.reporting.text import count, listed
from serkit.serving import adaptation
from serkit.serving.bundle import HELD_OUT, INPUTS, STACK, Bundle, open_bundle, write_bundle
from serkit.serving.bundle_files import check_new
from serkit.serving.bundle_parts import arrays_file, held_out_file, sureness
from serkit.serving.card_parts import DIAGRAM, INTENDED, licences, literal, reliability_diagram, sureness_text

_READ = (
    ("calibrated_on", "splits"), ("calibration", "record", "speakers"), ("trained_on", "corpus"),
    ("trained_on", "manifest"), ("trained_on", "recipe"), ("licence", "weights"), ("licence", "code"), ("weights",),
    ("largest_difference",),
)  # fmt: skip
JOINABLE = ("alone", "mean_logit", "log_pool")  # stacks that are a weighted sum of log probabilities


def join(
    sources: Sequence[str | Path], out: Path, *, name: str | None = None, shares: Sequence[float] | None = None
) -> Bundle:
    """Make one bundle of several that were trained on the same clips.

    ``log p = sum_b share_b log p_b - log Z`` of the bundles' calibrated probabilities ``p_b``, the logarithmic opinion
    pool (Genest & Zidek 1986), then temperature scaling again. It is fitted, and thresholds are measured, on the clips
    that every bundle keeps as held out.

    Args:
        sources: bundles, as :func:`serkit.load` takes them. out: folder, or a file ending in .zip or .serkit.
        name: of the new bundle; theirs joined by ``+`` where ``None``.
        shares: one number above 0 for each, equal ones where ``None``; they are divided by their sum.

    Returns:
        The new bundle, opened.

    Raises:
        SerkitError: fewer than two bundles, or one twice; shares that are not one for each; bundles that do not go
            together (other labels, folds, held-out clips or encoder revisions); a bundle that was imported or adapted,
            answers ratings, or whose stack or calibration is no weighted sum of log probabilities; ``out`` is there
            already.
    """
    check_new(out)
    bundles = [open_bundle(source) for source in sources]
    weights = _shares(bundles, shares)
    for bundle in bundles:
        _check_alone(bundle)
        _check_whole(bundle)
    for bundle in bundles[1:]:
        _check_together(bundles[0], bundle)
    names = _names(bundles)
    features = _features(bundles)
    networks, files, systems, pool = _networks(bundles, names, weights)
    beside = _beside(bundles, files)
    probabilities = _pooled(bundles, weights)
    truth, labels = bundles[0].held_out[1], bundles[0].labels
    fitted, held = calibration.fit_and_measure(probabilities, truth, [None] * len(truth), labels)
    first = bundles[0].head
    splits = list(first["calibrated_on"]["splits"])
    record = {**fitted.record, "speakers": first["calibration"]["record"]["speakers"], "splits": splits}
    about: dict[str, Any] = {
        "name": name or "+".join(bundle.name for bundle in bundles),
        "serkit": __version__,
        "description": f"{listed([bundle.name for bundle in bundles])} together",
        "labels": list(labels),
        "system": "log_pool",
        "features": features,
        "networks": networks,
        "stack": {"kind": "log_pool", "systems": systems, "labels": list(labels), "name": "log_pool"},
        "calibration": {**fitted.to_row(), "record": record},
        **sureness(held, truth),
        "weights": "+".join(dict.fromkeys(str(bundle.head["weights"]) for bundle in bundles)),
        "largest_difference": max(float(bundle.head["largest_difference"]) for bundle in bundles),
        "max_clip_s": min(bundle.max_clip_s for bundle in bundles),
        **_hears_calls(bundles),
        "licence": _licence(bundles),
        "trained_on": {**first["trained_on"], "recipe": fingerprint([b.head["trained_on"]["recipe"] for b in bundles])},
        "calibrated_on": first["calibrated_on"],
        "measured": _right(held, truth),
        "joined": [
            {"name": b.name, "fingerprint": b.fingerprint, "share": share, **_right(*b.held_out)}
            for b, share in zip(bundles, weights, strict=True)
        ],
    }
    files[STACK] = arrays_file({"weights": np.array(pool)})
    files[HELD_OUT] = held_out_file(held, truth)
    if statistics := _statistics(bundles, features):
        files[INPUTS] = statistics
    files[DIAGRAM] = reliability_diagram(about).encode()
    files["card.md"] = _card(about, bundles, beside).encode()
    write_bundle(about, files, out)
    return open_bundle(out)


def _shares(bundles: Sequence[Bundle], shares: Sequence[float] | None) -> list[float]:
    if len(bundles) < 2:
        raise SerkitError(f"{count(len(bundles), 'bundle')} to join, expected two or more")
    twice = [b for k, b in enumerate(bundles) if b.fingerprint in {other.fingerprint for other in bundles[:k]}]
    if twice:
        raise SerkitError(f"'{twice[0].name}' ({twice[0].source}) is there twice; a share of 2 gives it more weight")
    given = [1.0] * len(bundles) if shares is None else [float(share) for share in shares]
    if len(given) != len(bundles) or not all(0.0 < share < float("inf") for share in given):
        said = ", ".join(f"{share:g}" for share in given)
        raise SerkitError(f"shares {said}: expected {len(bundles)} numbers above 0, one for each bundle")
    return [share / sum(given) for share in given]


def _check_alone(bundle: Bundle) -> None:
    """Refuse a bundle that no sum of log probabilities stands for."""
    kind, scaled = bundle.head["stack"]["kind"], bundle.calibration
    reason = (
        "was imported, and keeps no held-out clips" if "imported" in bundle.head
        else "was adapted; join the original ones, and adapt what comes of it" if bundle.adaptation or bundle.correction
        else f"answers {listed(list(bundle.attributes))} too" if bundle.attributes
        else f"answers by a {kind}; bundle its run with --system mean_logit" if kind not in JOINABLE
        else f"is calibrated by {scaled.method} scaling; bundle its run with --calibration temperature"
        if scaled.method not in ("none", "temperature") else ""
    )  # fmt: skip
    if reason:
        raise SerkitError(f"'{bundle.name}' ({bundle.source}) cannot be joined: it {reason}")


def _check_whole(bundle: Bundle) -> None:
    """Refuse a bundle whose head lacks what only joining reads."""
    for path in _READ:
        at: Any = bundle.head
        for key in path:
            if not isinstance(at, Mapping) or key not in at:
                raise SerkitError(
                    f"'{bundle.name}' ({bundle.source}): bundle.json is damaged: {'.'.join(path)} is missing"
                )
            at = at[key]


def _check_together(one: Bundle, two: Bundle) -> None:
    """Refuse two bundles that were not trained on the same clips and folds, for the same labels."""
    both = f"'{one.name}' and '{two.name}' cannot be joined"
    if one.labels != two.labels:
        raise SerkitError(f"{both}: they answer with {', '.join(one.labels)}, and with {', '.join(two.labels)}")
    folds = [listed(list(dict.fromkeys(n.model for n in b.networks))) for b in (one, two)]
    if folds[0] != folds[1]:
        raise SerkitError(f"{both}: their networks are of {folds[0]}, and of {folds[1]}; expected the same folds")
    same = one.head["trained_on"]["manifest"] == two.head["trained_on"]["manifest"]
    if not same or not np.array_equal(one.held_out[1], two.held_out[1]):
        raise SerkitError(
            f"{both}: they were not trained on the same clips and splits ({one.head['trained_on']['corpus']}, manifest "
            f"{one.head['trained_on']['manifest']}; {two.head['trained_on']['corpus']}, manifest "
            f"{two.head['trained_on']['manifest']}), so no clips are held out from both; train them with the same "
            "corpora, protocol, fold and seed"
        )


def _features(bundles: Sequence[Bundle]) -> dict[str, Any]:
    """The features of all, where no two bundles read different ones by the same key."""
    found: dict[str, Any] = {}
    first: dict[str, Bundle] = {}
    for bundle in bundles:
        for key, row in bundle.features.items():
            if found.setdefault(key, row) != row:
                raise SerkitError(
                    f"'{first[key].name}' and '{bundle.name}' cannot be joined: they were trained on different "
                    f"revisions of '{key}'; train the older one again"
                )
            first.setdefault(key, bundle)
    return found


def _hears_calls(bundles: Sequence[Bundle]) -> dict[str, bool]:
    """Whether all were trained on calls; nothing where one does not say it, and none says no."""
    said = [bundle.head.get("hears_calls") for bundle in bundles]
    return {} if None in said and False not in said else {"hears_calls": all(said)}


def _names(bundles: Sequence[Bundle]) -> list[dict[str, str]]:
    """For each bundle, what its systems are called in the new one: as before, where no two are called the same."""
    every = [name for bundle in bundles for name in dict.fromkeys(n.system for n in bundle.networks)]
    found, taken = [], set()
    for k, bundle in enumerate(bundles, 1):
        renamed = {}
        for system in dict.fromkeys(n.system for n in bundle.networks):
            name = system if every.count(system) == 1 else f"{system}-{k}"
            while name in taken:
                name += "_"
            taken.add(name)
            renamed[system] = name
        found.append(renamed)
    return found


def _networks(
    bundles: Sequence[Bundle], names: Sequence[Mapping[str, str]], shares: Sequence[float]
) -> tuple[list[dict[str, Any]], dict[str, bytes], list[str], list[float]]:
    """Entries and files of all networks, and the systems with their weights in the pool."""
    entries: list[dict[str, Any]] = []
    files: dict[str, bytes] = {}
    systems: list[str] = []
    pool: list[float] = []
    for bundle, renamed, share in zip(bundles, names, shares, strict=True):
        for row in bundle.head["networks"]:
            system = renamed[row["system"]]
            file = f"networks/{system}.{row['model']}.onnx"
            files[file] = bundle.read(row["file"])
            entries.append({**row, "system": system, "file": file})
        stack: Any = bundle.stack
        of = (
            stack.weights_
            if bundle.head["stack"]["kind"] == "log_pool"
            else [1 / len(stack.systems_)] * len(stack.systems_)
        )
        scale = bundle.calibration.weights[0] if bundle.calibration.method == "temperature" else 1.0
        systems += [renamed[system] for system in stack.systems_]
        pool += [share * scale * float(weight) for weight in of]
        files |= {name: bundle.read(name) for name in bundle.head["files"] if name.startswith("tokenizers/")}
    return entries, files, systems, pool


def _beside(bundles: Sequence[Bundle], files: dict[str, bytes]) -> list[dict[str, str]]:
    """Recipes, licences and diagrams of the parts into ``files``; for each bundle, their new names by their old ones.

    A part that was joined itself has several of each.
    """
    found, counts = [], Counter[str]()
    for bundle in bundles:
        renamed: dict[str, str] = {}
        for name in sorted(bundle.head["files"], key=lambda name: (len(name), name)):
            stem, suffix = name.split(".", 1)[0], name.rsplit(".", 1)[-1]
            if f"{stem}.{suffix}" in ("recipe.yaml", "LICENCE.md", DIAGRAM):
                counts[stem] += 1
                plain = counts[stem] == 1 and f"{stem}.{suffix}" != DIAGRAM  # that is the diagram of all together
                renamed[name] = f"{stem}.{suffix}" if plain else f"{stem}.{counts[stem]}.{suffix}"
                files[renamed[name]] = bundle.read(name)
        found.append(renamed)
    return found


def _pooled(bundles: Sequence[Bundle], shares: Sequence[float]) -> np.ndarray:
    """(rows, classes) probabilities of the pool for the held-out clips."""
    logs = [np.log(np.maximum(bundle.held_out[0], COMBINED_FLOOR)) for bundle in bundles]
    return softmax(np.tensordot(shares, logs, 1))


def _right(probabilities: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Accuracy, UAR and calibration error of held-out answers among all classes."""
    n = probabilities.shape[1]
    matrix = metrics.confusion_matrix(truth, probabilities.argmax(axis=1), n)
    found = {key: float(metrics.measure(key, matrix)) for key in ("accuracy", "uar")}
    return {**found, "ece": float(metrics.ece(probabilities, truth)), "clips": len(truth)}


def _statistics(bundles: Sequence[Bundle], features: Mapping[str, Any]) -> bytes | None:
    """Mean and deviation of training's frames; of a feature that several bundles read, those of the first."""
    known = {key: pair for bundle in reversed(bundles) for key, pair in bundle.inputs.items()}
    if not known:
        return None
    means = [{key: pair[k] for key, pair in known.items()} for k in (0, 1)]
    return arrays_file(adaptation.to_arrays(means, ("mean", "deviation"), features))


def _licence(bundles: Sequence[Bundle]) -> dict[str, str]:
    weights = dict.fromkeys(str(bundle.head["licence"]["weights"]) for bundle in bundles)
    return {"weights": "; ".join(weights), "code": str(bundles[0].head["licence"]["code"])}


def _card(about: Mapping[str, Any], bundles: Sequence[Bundle], beside: Sequence[Mapping[str, str]]) -> str:
    """The card, with those of the parts at its end, which name their files as they are called now."""
    rows = [(f"`{part['name']}` (share {part['share']:.2f})", part) for part in about["joined"]]
    table = ["| model | UAR | accuracy | calibration error | clips |", "|---|---|---|---|---|"]
    for title, one in [*rows, ("together", about["measured"])]:
        table.append(f"| {title} | {one['uar']:.3f} | {one['accuracy']:.3f} | {one['ece']:.3f} | {one['clips']} |")
    parts = [
        f"# {about['name']}",
        f"{about['description']}: the weighted mean of their calibrated log probabilities. Their cards follow below.",
        f"Labels: {literal(', '.join(about['labels']))}.",
        "## Intended use",
        INTENDED,
        "## Data",
        f"All were trained on the same clips ({about['trained_on']['corpus']}), which their cards describe.",
        "## Measured results",
        "On held-out clips, all corpora together and among all classes, without intervals because a bundle does not "
        "keep who speaks. Results by corpus, class and group are in the cards of the parts; of all together they were "
        "not measured.",
        "\n".join(table),
        "## Calibration",
        sureness_text(about),
        "## Known failures",
        "Those of the parts; see their cards.",
        "## What is in it",
        f"{count(len(about['networks']), 'network')} of {count(len(about['stack']['systems']), 'system')}, "
        f"unchanged. A recording longer than {about['max_clip_s']:g} s is answered by its stretches of speech. serkit "
        f"{about['serkit']}.",
        "## Licence",
        licences(about),
    ]
    for bundle, renamed in zip(bundles, beside, strict=True):
        text = bundle.text("card.md").rstrip() if "card.md" in bundle.head["files"] else "It has none."
        for old in reversed(list(renamed)):  # the highest number first: none becomes one that is still to be renamed
            text = text.replace(f"]({old})", f"]({renamed[old]})")
        parts += [f"## The card of `{bundle.name}`", _two_levels_down(text)]
    return "\n\n".join(parts) + "\n"


def _two_levels_down(text: str) -> str:
    """Markdown whose headings are two levels lower, the sixth being the last; what is between fences stays."""
    lines, inside = [], False
    for line in text.split("\n"):
        inside ^= line.startswith("```")
        found = None if inside else re.match("#+(?= )", line)
        lines.append(line if found is None else "#" * min(6, len(found[0]) + 2) + line[found.end() :])
    return "\n".join(lines)
