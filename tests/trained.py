"""Small trainings for tests, and what they leave."""

import json

from made import made_config, made_examples, made_system
from serkit.training import train_network

HARD = {
    "losses": [{"name": "cross_entropy", "class_weights": "inverse_frequency"}, "neutral_margin"],
    "balance": "neutral",
}

DROPOUT = {"model": {"name": "cross_attention", "hidden": 8, "dropout": 0.3, "normalize": "train"}}


def fit(folder, system=None, manifest=None, on_epoch=None, seed=1, **options):
    system = system or made_system()
    train, dev = made_examples(manifest, **options)
    return train_network(system, made_config(system, seed), train, dev, folder, device="cpu", on_epoch=on_epoch)


def content(folder):
    return [(folder / name).read_bytes() for name in ("model.safetensors", "history.jsonl", "config.json")]


def history(folder):
    return [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
