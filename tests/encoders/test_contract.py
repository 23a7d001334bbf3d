"""What every encoder promises, whatever is in it: the folder is read, each member is held to the same."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import serkit.encoders
from serkit import dsp
from serkit.encoding import n_frames
from serkit.errors import MissingExtra, SerkitError

FAMILIES = sorted(p.stem for p in Path(serkit.encoders.__path__[0]).glob("[!_]*.py"))
RATE = 16_000


def public_class(family: str) -> Any:
    module = importlib.import_module(f"serkit.encoders.{family}")
    found = getattr(module, "".join(part.capitalize() for part in family.split("_")), None)
    assert inspect.isclass(found), f"{family}.py has no class in CamelCase of its name"
    return found


def public_callables(family: str) -> list[str]:
    module = importlib.import_module(f"serkit.encoders.{family}")
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (inspect.isclass(value) or inspect.isfunction(value))
        and value.__module__ == module.__name__
    ]


@pytest.fixture(params=FAMILIES)
def encoder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    try:
        built = public_class(request.param).tiny()
        built.load()
    except MissingExtra as error:
        pytest.skip(str(error))
    return built


def speech(seconds: float, seed: int = 0) -> np.ndarray:
    """Something like a voice: harmonics of a gliding pitch in syllables, and noise."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * RATE)) / RATE
    phase = 2 * np.pi * np.cumsum(120 + 40 * np.sin(2 * np.pi * 0.7 * t + seed)) / RATE
    voice = sum(np.sin(k * phase) / k for k in range(1, 20)) * np.maximum(0, np.sin(2 * np.pi * 2 * t))
    return (0.1 * voice + 0.003 * rng.standard_normal(len(t))).astype(np.float32)


def items(encoder: Any) -> list[Any]:
    if encoder.spec.modality == "text":
        return ["I am so happy, isn't it great?", "no", "", "¡Qué día!  Été… 日本語 ሰላም"]
    return [speech(1.0), speech(0.35, 1), speech(0.06, 2), speech(1.7, 3)]


def test_one_public_class_named_like_its_file() -> None:
    for family in FAMILIES:
        assert public_callables(family) == [public_class(family).__name__], family


@pytest.mark.parametrize("family", FAMILIES)
def test_names_describe_with_a_licence(family: str) -> None:
    names = public_class(family).names()
    assert names
    for name, line in names.items():
        assert name == family or name.startswith(f"{family}/")
        assert "\n" not in line
        assert "(" in line, f"{name}: the licence stands in brackets at the end"


def test_dim_dtype_and_frame_rule(encoder: Any) -> None:
    given = items(encoder)
    for item, frames in zip(given, encoder(given), strict=True):
        assert frames.dtype == np.float32
        assert frames.ndim == 2
        assert frames.shape[1] == encoder.spec.dim
        assert len(frames) >= 1
        assert np.isfinite(frames).all()
        if encoder.spec.modality == "audio":
            assert len(frames) == n_frames(len(dsp.prepared(item, encoder.spec)), encoder.spec)


def test_frame_rule_at_the_edges_of_a_window(encoder: Any) -> None:
    if encoder.spec.modality == "text":
        assert len(encoder([""])[0]) == 1
        return
    window, hop = encoder.spec.window, min(encoder.spec.hop, RATE)  # some have one frame a clip
    signal = speech((window + 12 * hop) / RATE + 0.1)
    for n in (1, window - 1, window, window + hop - 1, window + hop, window + 9 * hop + 1):
        clip = signal[:n]
        assert len(encoder([clip])[0]) == n_frames(n, encoder.spec)


def test_an_item_does_not_depend_on_its_neighbours(encoder: Any) -> None:
    given = items(encoder)
    together, backwards = encoder(given), encoder(given[::-1])[::-1]
    for item, one, other in zip(given, together, backwards, strict=True):
        alone = encoder([item])[0]
        np.testing.assert_allclose(one, alone, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(other, alone, rtol=1e-4, atol=1e-4)


def test_the_same_again_and_from_a_second_one(encoder: Any) -> None:
    given = items(encoder)
    first, second = encoder(given), encoder(given)
    other = type(encoder).tiny()
    other.load()
    assert other.spec == encoder.spec
    for a, b, c in zip(first, second, other(given), strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(a, c)


def test_the_input_is_left_alone(encoder: Any) -> None:
    if encoder.spec.modality == "text":
        return
    clip = speech(0.5)
    kept = clip.copy()
    clip.flags.writeable = False
    encoder([clip])
    np.testing.assert_array_equal(clip, kept)


def test_odd_clips_give_finite_features(encoder: Any) -> None:
    if encoder.spec.modality == "text":
        odd: list[Any] = ["", " ", "!!!", "a" * 500, "\x00\ufffd", "word " * 600]
    else:
        rng = np.random.default_rng(0)
        square = np.sign(np.sin(2 * np.pi * 200 * np.arange(8_000) / RATE)).astype(np.float32)
        odd = [
            np.zeros(8_000, dtype=np.float32),
            np.zeros(1, dtype=np.float32),
            np.full(8_000, 0.5, dtype=np.float32),
            np.ones(320, dtype=np.float32),
            square,
            np.clip(rng.standard_normal(8_000), -1, 1).astype(np.float32),
            np.eye(1, 8_000, 4_000, dtype=np.float32)[0],
            (1e-30 * rng.standard_normal(8_000)).astype(np.float32),
            speech(0.02),
        ]
    for frames in encoder(odd):
        assert np.isfinite(frames).all()
        if encoder.spec.dtype == "float16":
            assert np.isfinite(frames.astype(np.float16)).all()


def test_the_fingerprint_follows_what_changes_the_numbers(encoder: Any) -> None:
    cls, name = type(encoder), encoder.spec.name
    assert type(encoder).tiny().spec.fingerprint == encoder.spec.fingerprint
    if encoder.spec.modality == "audio" and "pool" in inspect.signature(cls.__init__).parameters:
        rebuilt = {cls(name, pool=pool).spec.fingerprint for pool in (1, 2, 4)}
        assert len(rebuilt) == 3
    others = [other for other in cls.names() if other != name][:1]
    for other in others:
        assert cls(other).spec.fingerprint != cls(name).spec.fingerprint


@pytest.mark.parametrize("family", FAMILIES)
def test_an_unknown_name_is_refused_with_the_nearest(family: str) -> None:
    known = next(iter(public_class(family).names()))
    with pytest.raises(SerkitError) as error:
        public_class(family)(known + "x")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("family", FAMILIES)
def test_each_has_a_test_of_its_own(family: str) -> None:
    assert Path(__file__).with_name(f"test_{family}.py").is_file()
