import dataclasses
import json

import pytest
import torch

from made import made_config, made_system
from serkit.errors import SerkitError
from serkit.networks import build_network, load_config, load_network, save_network


@pytest.fixture
def saved(tmp_path):
    config = made_config(made_system())
    torch.manual_seed(3)
    network = build_network(config)
    save_network(network, config, tmp_path)
    return tmp_path, network, config


def test_a_network_comes_back_as_it_was(saved):
    folder, network, config = saved
    again, read = load_network(folder)
    assert not again.training
    assert read.fingerprint == config.fingerprint
    for key, value in network.state_dict().items():
        assert torch.equal(again.state_dict()[key], value), key


def test_the_fingerprint_follows_what_changes_the_numbers(saved):
    _, _, config = saved
    assert dataclasses.replace(config, seed=9).fingerprint != config.fingerprint
    assert dataclasses.replace(config, dims={"x": 5}).fingerprint != config.fingerprint


def test_what_does_not_fit_is_said(saved):
    folder = saved[0]
    row = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**row, "dims": {"x": 7}}))
    with pytest.raises(SerkitError, match=r"model.safetensors does not fit its config.json"):
        load_network(folder)
    (folder / "config.json").write_text(json.dumps({**row, "format": 99}))
    with pytest.raises(SerkitError, match="written by a later serkit"):
        load_config(folder)
    for text in ("{", "{}", "[]"):
        (folder / "config.json").write_text(text)
        with pytest.raises(SerkitError, match=r"config.json is damaged"):
            load_config(folder)
    for change in (
        {"features": [1]},
        {"model": {"name": "mean_pool", "hidden": -1}},
        {"model": {"name": "mean_pool", "x": 1}},
    ):
        (folder / "config.json").write_text(json.dumps({**row, **change}))
        with pytest.raises(SerkitError, match=r"config.json describes no network: ") as refused:
            load_network(folder)
        assert "\n" not in str(refused.value)
    (folder / "config.json").write_text(json.dumps(row))
    (folder / "model.safetensors").write_bytes(b"\x00" * 20)
    with pytest.raises(SerkitError, match=r"model.safetensors is damaged: .*delete"):
        load_network(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(SerkitError, match=r"model.safetensors is missing"):
        load_network(folder)
    with pytest.raises(SerkitError, match=r"config.json is missing"):
        load_network(folder / "none")
