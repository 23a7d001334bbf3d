"""Small trainings for tests, and what they leave."""

import json
import os
import subprocess
import sys
from pathlib import Path

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


TWO = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
import test_soups, test_training_stopped
from made import voted
from trained import fit
{training}
import torch.distributed
assert torch.distributed.get_world_size() == 2
"""


def in_two_processes(training, folder):
    """A training, as a line of Python, by two processes of torchrun; ``sys.argv[1]`` is the folder."""
    script = folder.with_suffix(".py")
    script.write_text(TWO.format(tests=str(Path(__file__).parent), training=training))
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run(
        [*launch, str(script), str(folder)], capture_output=True, timeout=500, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()[-3000:]
