"""Sound through a codec and back, in memory, by libsndfile."""

from __future__ import annotations

import io

import numpy as np

from serkit.errors import SerkitError

MP3_DELAY = 1105  # samples: 576 of the encoder, 529 of the decoder


def check_coding(name: str, container: str, coding: str) -> None:
    """Refuse a coding that the installed libsndfile does not have; for ``__post_init__``.

    Args:
        name: of the augmentation, for the message. container, coding: a format and a subtype, as soundfile has them.

    Raises:
        SerkitError: see above.
    """
    import soundfile

    if not soundfile.check_format(container, coding):
        raise SerkitError(
            f"augmentation '{name}': libsndfile {soundfile.__libsndfile_version__} has no {container} with {coding}; "
            "a newer soundfile brings one that has"
        )


def coded(samples: np.ndarray, rate_hz: int, container: str, coding: str, level: float | None = None) -> np.ndarray:
    """(n,) float32 samples within ±1 to (n,) float32 after coding and decoding, without a shift in time.

    What one version of libsndfile gives is the same every time; another version, or another processor, may differ.

    Args:
        samples: (n,) float32, n >= 1, at a rate that the coding takes. container, coding: see :func:`check_coding`.
        level: libsndfile's level of compression, from 0 (largest) to 1; ``None`` where the coding has one rate.

    >>> coded(np.array([0.0, 0.5, -1.0], dtype=np.float32), 8000, "RAW", "ULAW").astype(float).round(2).tolist()
    [0.0, 0.51, -0.98]
    """
    import soundfile

    what = {"format": container, "subtype": coding}
    buffer = io.BytesIO()
    mode = "CONSTANT" if container == "MP3" else None  # its levels are of bit rates in this mode alone
    soundfile.write(buffer, samples, rate_hz, compression_level=level, bitrate_mode=mode, **what)
    buffer.seek(0)
    raw = {"samplerate": rate_hz, "channels": 1, **what} if container == "RAW" else {}
    heard = np.asarray(soundfile.read(buffer, dtype="float32", **raw)[0])
    if container == "MP3" and len(heard) > len(samples):  # of low rates: no room for the tag that says the delay
        heard = heard[MP3_DELAY:]
    heard = heard[: len(samples)]  # of whole frames
    return np.pad(heard, (0, len(samples) - len(heard)))
