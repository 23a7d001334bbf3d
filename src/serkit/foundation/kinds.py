"""The kinds of pretrained networks that a model can be built on, by the parameter that names one."""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Any

from serkit.foundation import backbones, text_backbones

KINDS: Mapping[str, ModuleType] = {"backbone": backbones, "text_backbone": text_backbones}


def wanted(parameters: Mapping[str, Any]) -> dict[str, ModuleType]:
    """Which of them the parameters of a model name, each with the module that describes and builds such a network."""
    return {key: module for key, module in KINDS.items() if parameters.get(key) is not None}
