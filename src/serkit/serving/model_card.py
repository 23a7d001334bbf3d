"""The model card of a bundle: what a user should know before trusting a prediction, from the run's own numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from serkit import across, regions
from serkit.augment.noise import Noise
from serkit.checkpoint_table import BY_NAME
from serkit.checkpoints import FAMILIES
from serkit.concordance import name_of
from serkit.errors import SerkitError
from serkit.labels import teaching
from serkit.pipeline.networks_of_run import learned_from
from serkit.pipeline.run import Run
from serkit.readers import card
from serkit.recipe import Recipe
from serkit.reporting.group_words import sentences
from serkit.reporting.text import count, listed, voices
from serkit.serving.bundle_encoders import TOKENIZER, own_modules
from serkit.serving.card_parts import INTENDED, licences, literal, sets_table, sureness_text
from serkit.text_rows import json_object
from serkit.types import ATTRIBUTES

_IN_PACKAGES = {  # where weights lie that are neither in the bundle nor in a folder of checkpoints
    "silero-vad": "in the package silero-vad, installed with serkit",
    "smart-turn-v3.2-cpu.onnx": "in the package pipecat-ai, which is not installed with serkit",
}
METRICS = (("uar", "UAR"), ("macro_f1", "Macro-F1"), ("accuracy", "Accuracy"))


def write_card(run: Run, about: Mapping[str, Any], notes: str = "") -> str:
    """The card as Markdown.

    Args:
        run: with a written report. about: what ``bundle.json`` says.
        notes: further Markdown, from whoever made the bundle.

    Raises:
        SerkitError: the run was not evaluated.
    """
    path = run.folder / "report" / "report.json"
    if not path.is_file():
        raise SerkitError(f"{run.folder}: no report yet; evaluate the run before it is bundled")
    report = json_object(path)
    system = str(about["system"])
    parts = [
        f"# {about['name']}",
        about["description"] or "",
        f"Labels: {literal(', '.join(about['labels']))}." + of_ratings(about),
        "## Intended use",
        INTENDED,
        "## Data",
        _data(run),
        "## Measured results",
        _results(report, system, run),
        "## By class",
        _classes(report, system, run),
        *_groups(report, system, run),
        "## Calibration",
        sureness_text(about),
        *(["## Sets of classes", sets_table(about["sets"])] if about["sets"] else []),
        *(["## Notes", notes.strip()] if notes.strip() else []),
        "## Known failures",
        _failures(report, about, run),
        "## What is in it",
        _content(about, run),
        "## Licence",
        licences(about),
    ]
    return "\n\n".join(p for p in parts if p) + "\n"


def of_ratings(about: Mapping[str, Any]) -> str:
    """Sentences on ratings that a bundle answers, and on classes that were made from ratings."""
    return _attributes(about) + _regions(about)


def _attributes(about: Mapping[str, Any]) -> str:
    """A sentence on arousal, valence and dominance, where the bundle answers some."""
    names = about.get("attributes")
    if not names:
        return ""
    scale = about.get("rating_scale")
    told = f"{scale[0]:g} to {scale[1]:g}" if scale else "the scale of its training data"
    return f" Also predicts {listed(names)}, as numbers on {told}."


def _regions(about: Mapping[str, Any]) -> str:
    """What classes that were made from ratings stand for."""
    said = regions.meaning(about["labels"])
    return f" These are classes of ratings, no emotions: {said}" if said else ""


def _data(run: Run) -> str:
    lines = ["| corpus | kind | languages | clips in training | speakers | licence |", "|---|---|---|---|---|---|"]
    notes = []
    train = teaching(learned_from(run.manifest, run.recipe), run.recipe)
    for name in sorted({u.corpus or "" for u in train}):
        rows = [u for u in train if u.corpus == name]
        speakers = len({u.speaker for u in rows if u.speaker is not None})
        try:
            about = card(name)
            kind, title, licence = about.kind, about.title, about.licence
            languages = ", ".join(sorted({u.language for u in rows if u.language} or about.languages))
            notes += [f"- {title}: {note}" for note in about.notes]
        except SerkitError:
            kind, title, licence = "any", name, "unknown"
            languages = ", ".join(sorted({u.language for u in rows if u.language})) or "unknown"
        lines.append(f"| {literal(title)} | {kind} | {literal(languages)} | {len(rows)} | {speakers} | {licence} |")
    counts = Counter(u.emotion for u in train)
    lines += [
        "",
        "Training clips by class: " + ", ".join(f"{literal(k)} {counts[k]}" for k in run.manifest.labels) + ".",
    ]
    return "\n".join(lines + (["", *notes] if notes else []))


def _results(report: Mapping[str, Any], system: str, run: Run) -> str:
    """Dev, test and the out-of-fold scores of train, of all corpora together and of each."""
    out_of_fold, with_dev = run.recipe.crossfit is not None, _with_dev(run)
    lines = ["| rows | corpus | metric | value | interval | clips | speakers |", "|---|---|---|---|---|---|---|"]
    for split in ("train", "dev", "test"):
        row = report["systems"].get(system, {}).get(split)
        if row is None or (split == "train" and not out_of_fold):
            continue
        name = f"{split}, out-of-fold" if split == "train" or (split == "dev" and with_dev) else split
        parts = report["details"].get(system, {}).get(split, {}).get("slices", {}).get("corpus", {})
        lines += [_metric_line(name, "all", title, row[key]) for key, title in METRICS]
        lines += [_metric_line(name, "all", f"CCC, {k}", row[key]) for k in ATTRIBUTES if (key := name_of(k)) in row]
        lines += [_metric_line(name, corpus, "UAR", numbers["uar"]) for corpus, numbers in parts.items()]
    said = [_shared(report) or "No speaker is scored by a network trained on that speaker."]
    if elsewhere := (run.manifest.info.get(across.KEY) or {}).get("tested_on"):
        said.append(f"Test is {listed(elsewhere)}: nothing of it was used for training.")
    if any("| all |" not in line for line in lines[2:]):
        said.append("Each corpus is scored among its own classes.")
    if run.recipe.crossfit is not None:
        refits = len(run.recipe.crossfit.refit_models)
        others = f"other networks, {refits} of each system, that were trained on all of these speakers"
        said.append(
            "Out-of-fold: each clip is scored by the networks that were not trained on its speaker; predictions are "
            f"the average of {others if refits else 'all networks'}."
        )
        if refits and with_dev:
            said.append("Calibration, thresholds and sets were fitted on those out-of-fold scores.")
    if any(system.train.select != "last" for system in run.recipe.systems.values()):
        chosen = "its held-out clips" if with_dev else "dev"
        said.append(f"The epoch of each network was chosen on {chosen}, so its numbers are slightly optimistic.")
    return "\n".join([*lines, "", " ".join(said)])


def _with_dev(run: Run) -> bool:
    """Whether the speakers of dev train too, each scored by the networks that did not hear it."""
    return run.recipe.crossfit is not None and run.recipe.crossfit.with_dev


def _leading(details: Mapping[str, Any], run: Run) -> tuple[str, str]:
    """The split that details are given of, and what it is called."""
    if "test" in details:
        elsewhere = (run.manifest.info.get(across.KEY) or {}).get("tested_on")
        return "test", f"test ({listed(elsewhere)}, not in training)" if elsewhere else "test"
    return ("train", "train, out-of-fold") if _with_dev(run) else ("dev", "dev")


def _metric_line(split: str, corpus: str, title: str, m: Mapping[str, Any]) -> str:
    span = f"{m['low']:.3f} to {m['high']:.3f} ({m['interval']})"
    return f"| {split} | {literal(corpus)} | {title} | {m['value']:.3f} | {span} | {m['n']} | {m['speakers']} |"


def _shared(report: Mapping[str, Any]) -> str:
    shared = report["provenance"].get("speakers_shared")
    return (
        "**Some speakers are in several splits of this corpus: the numbers are not for held-out speakers.**"
        if shared
        else ""
    )


def _answers_on_test(run: Run) -> set[str]:
    """The classes that can be an answer on test: all, or those that a test corpus shares with training."""
    shared = (run.manifest.info.get(across.KEY) or {}).get("shared")
    return {label for names in shared.values() for label in names} if shared else set(run.manifest.labels)


def _classes(report: Mapping[str, Any], system: str, run: Run) -> str:
    details = report["details"].get(system, {})
    split, called = _leading(details, run)
    lines = [f"On {called}:", "", "| class | precision | recall | F1 | clips |", "|---|---|---|---|---|"]
    impossible = set(run.manifest.labels) - _answers_on_test(run) if split == "test" else set()
    for label, row in details[split]["per_class"].items():
        if label in impossible:
            continue
        numbers = " | ".join(f"{row[k]:.2f}" for k in ("precision", "recall", "f1"))
        lines.append(f"| {literal(label)} | {numbers} | {row['support']:.0f} |")
    return "\n".join(lines)


def _groups(report: Mapping[str, Any], system: str, run: Run) -> list[str]:
    """UAR by gender and language with the gaps, where the rows differ in them: a heading and a list, or nothing."""
    details = report["details"].get(system, {})
    split, called = _leading(details, run)
    gaps = report.get("gaps", {}).get(system, {}).get(split, {})
    lines = []
    for column in ("gender", "language"):
        groups = details[split]["slices"].get(column, {})
        parts = [
            f"{name} {m['value']:.3f} ({m['low']:.3f} to {m['high']:.3f}; {m['n']} clips, {voices(m['speakers'])}"
            f"{', rough' if 'rough' in m['interval'] else ''})"
            for name, m in ((literal(name), numbers["uar"]) for name, numbers in groups.items())
        ]
        said = " ".join(sentences(gaps.get(column, {})))
        lines += [f"- UAR by {column}: {'; '.join(parts)}. {said}".rstrip()] if parts else []
    return ["## By group", f"On {called}, 95% intervals:\n\n" + "\n".join(lines)] if lines else []


def _failures(report: Mapping[str, Any], about: Mapping[str, Any], run: Run) -> str:
    details = report["details"].get(str(about["system"]), {})
    split, called = _leading(details, run)
    confusion = np.array(details[split]["confusion"], dtype=float)
    labels = [literal(label) for label in report["labels"]]
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    np.fill_diagonal(shares, 0)
    lines = []
    for flat in np.argsort(-shares, axis=None)[:3]:
        truth, answer = np.unravel_index(flat, shares.shape)
        if shares[truth, answer] > 0:
            lines.append(
                f"- {shares[truth, answer]:.0%} of the {labels[truth]} clips of {called} are labelled {labels[answer]}."
            )
    kinds = set()
    for name in {u.corpus or "" for u in run.manifest}:
        try:
            kinds.add(card(name).kind)
        except SerkitError:
            kinds.add("any")
    if kinds & {"acted", "synthetic"}:
        lines.append(
            "- Trained on acted or generated speech: everyday speech is less expressive, and accuracy on it is lower."
        )
    known = sorted({u.language for u in run.manifest if u.language})
    lines.append(f"- Languages other than {literal(', '.join(known)) or 'those of the data'} were not measured.")
    lines.append(f"- {_unheard(run.recipe)}")
    if any(row["spec"].get("modality") == "text" for row in about["features"].values()):
        lines.append(f"- {_words(run.recipe)}")
    return "\n".join(lines)


def _words(recipe: Recipe) -> str:
    """Whose texts the numbers are with, and that they are not of an answer without."""
    name = recipe.transcripts.name if recipe.transcripts is not None else "corpus"
    heard = f"recognised by `{name}`" if name.startswith("whisper/") else "from a table"
    whose = "as the corpora have them" if name == "corpus" else heard
    return (
        f"It also uses text, and the numbers are with texts {whose}. If none is given (`--text`, `--transcript`, "
        "`--asr`), an empty text is used, which was not measured."
    )


def _unheard(recipe: Recipe) -> str:
    """What the numbers are not of, and what of it training heard by copies and augmentations."""
    steps = [step for copy in recipe.copies for step in copy]
    steps += [step for system in recipe.systems.values() for step in system.augment]
    absent, heard = ["children's voices", "singing", "whispering"], []
    if any(step.name == "telephone" for step in steps):
        heard.append("over a telephone line")
    else:
        absent.append("telephone lines")
    if noises := [Noise(**step.parameters) for step in steps if step.name == "noise"]:
        heard.append(f"in noise, the voice at least {min(n.snr_low_db for n in noises):g} dB louder")
    else:
        absent.append("strong noise")
    line = (
        f"The numbers by split and class are for recordings as the corpora have them: {', '.join(absent[:-1])} and "
        f"{absent[-1]} were not among them."
    )
    if heard:
        line += f" Training included clips modified to sound as {' and '.join(heard)}; the numbers are not for those."
    return line


def _weights_of(row: Mapping[str, Any]) -> str:
    """The weights that an encoder needs beside the bundle; empty: none."""
    name, source = str(row["spec"]["name"]), str(row["spec"].get("source", "serkit"))
    known = BY_NAME.get(name)
    if source == "local":  # with the published ones the bundle is refused
        instead = "" if name.startswith("path:") else " in place of the published ones"
        return f"`{name}` (`{row['spec']['revision']}` of a folder{instead})"
    if known is not None or ":" in name or name.partition("/")[0] in FAMILIES:
        millions = f"{known.parameters_m:g} million parameters" if known and known.parameters_m else "size unknown"
        return f"`{name}` ({f'{known.download_gb:g} GB' if known and known.download_gb else millions})"
    if source == "serkit":
        return ""
    return f"`{name}` ({_IN_PACKAGES.get(source, f'`{source}`, which does not come with serkit')})"


def _needed(about: Mapping[str, Any]) -> str:
    """What the bundle needs that is not in it: weights of encoders, modules of the user's own."""
    rows = about["features"].values()
    beside = dict.fromkeys(filter(None, (_weights_of(row) for row in rows if TOKENIZER not in row)))
    weights = f"the weights of {', '.join(beside)}" if beside else ""
    own = own_modules(str(row["spec"]["name"]) for row in rows)
    code = f"code that is not in the bundle, the modules {', '.join(f'`{name}`' for name in own)}" if own else ""
    return "; ".join(filter(None, (code, weights))) or "none: its encoders have no weights"


def _content(about: Mapping[str, Any], run: Run) -> str:
    """What the bundle holds, how large it is, and what it needs beside it."""
    from serkit.networks import load_config, load_network

    stack, networks = about["stack"], about["networks"]
    loaded = [load_network(run.network(n["system"], n["model"]))[0] for n in networks]
    n_parameters = sum(p.numel() for network in loaded for p in network.parameters())
    encoders = "; ".join(
        f"`{k}` (licence {row['spec'].get('licence', 'unknown')})" for k, row in about["features"].items()
    )
    configs = [load_config(run.network(n["system"], n["model"])) for n in networks]
    grown = _grown_from([b for c in configs for b in (c.backbone, c.text_backbone) if b is not None])
    alone = stack["kind"] == "alone"
    of = f"the system `{stack['systems'][0]}`" if alone else f"{len(stack['systems'])} systems"
    combined = "" if alone else f", combined by {stack.get('name', stack['kind'])}"
    return (
        f"{count(len(networks), 'network')} ({about['weights']} weights) of {of}{combined}, {n_parameters} parameters "
        f"in all. {grown}Also needed: {_needed(about)}. "
        f"Encoders: {encoders}. Largest difference of a logit between "
        f"ONNX and torch: {about['largest_difference']:.1e}. Recipe `{about['trained_on']['recipe']}`, data "
        f"`{about['trained_on']['manifest']}`, serkit {about['serkit']}."
    )


def _grown_from(backbones: Sequence[Mapping[str, Any]]) -> str:
    """The pretrained networks that some of a bundle's began as: they are inside, and so their licences matter too."""
    rows = [f"`{b['name']}` (revision {b.get('revision')}, licence {b.get('licence')})" for b in backbones]
    return f"Fine-tuned and included: {', '.join(dict.fromkeys(rows))}. " if rows else ""
