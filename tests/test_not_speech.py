from __future__ import annotations

import numpy as np
import pytest

from serkit.not_speech import NotSpeech
from serving.signals import RATE, voice
from test_noises import EIGHTHS, drums, hits
from test_tones import dial_tone, melody

SOUND = np.concatenate([dial_tone(4), melody(4), hits(EIGHTHS, drums, 4), voice(4)])


def hearing(chunk: int, **what: bool) -> NotSpeech:
    found = NotSpeech(**what)
    for at in range(0, len(SOUND), chunk):
        found.push(SOUND[at : at + chunk])
    return found


@pytest.mark.parametrize("chunk", [777, len(SOUND)])
def test_each_ear_hears_its_own(chunk: int) -> None:
    heard = {
        (tones, noises): [
            hearing(chunk, tones=tones, noises=noises).between(k * 4 * RATE, (k + 1) * 4 * RATE) for k in range(4)
        ]
        for tones in (False, True)
        for noises in (False, True)
    }
    assert heard == {
        (False, False): [False, False, False, False],
        (False, True): [False, False, True, False],
        (True, False): [True, True, False, False],
        (True, True): [True, True, True, False],
    }


def test_what_is_forgotten_or_to_come_is_taken_for_speech() -> None:
    ears = hearing(777)
    assert ears.is_noise_or_melody(4 * RATE, 8 * RATE)
    assert not ears.between(12 * RATE, 17 * RATE)
    ears.forget(5 * RATE)
    assert not ears.between(4 * RATE, 8 * RATE)
    assert ears.between(5 * RATE, 8 * RATE)
    assert ears.between(8 * RATE, 12 * RATE)
