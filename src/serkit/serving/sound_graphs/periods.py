"""The periods of the voice in a graph: how they change in length and in height."""

from __future__ import annotations

import numpy as np

from serkit.encoders import _pitch
from serkit.encoding import SAMPLE_RATE_HZ
from serkit.serving.graphs import Graph
from serkit.serving.sound_graphs import signals

_STEP = 4  # samples of the sound to one of the filtered signal
_LEAST_EPOCHS = 4


def perturbation(graph: Graph, samples: str, f0_hz: str) -> tuple[str, str]:
    """As :func:`serkit.encoders._pitch.perturbation`.

    Args:
        samples: (samples,) float32. f0_hz: (time,) float32, 0 where unvoiced.

    Returns:
        jitter (time,), a ratio, and shimmer (time,) in dB, float32; 0 where there are no two periods.
    """
    nothing = graph.times(f0_hz, graph.constant(0.0))
    voiced = graph("Greater", f0_hz, graph.constant(0.0))
    n_voiced = graph.total(graph.cast(voiced, np.int64), 0)

    def of_voice() -> list[str]:
        low = _low(graph, samples)
        at = graph.cast(signals.count_up(graph, signals.size(graph, low)), np.float64)
        where = graph.add(graph.times(at, graph.double(_STEP)), graph.double((_STEP - 1) / 2))
        period = _period(graph, where, f0_hz, voiced)
        signal = _filtered(graph, low, period)
        before, after = signals.neighbours(graph, signal)
        zero = graph.double(0.0)
        rises = graph("And", graph("Less", before, zero), graph("GreaterOrEqual", after, zero))
        rise = graph.squeeze(graph("NonZero", rises), 0)

        def of_epochs() -> tuple[str, str]:
            at, below, above, lengths = (graph("Gather", x, rise, axis=0) for x in (where, before, after, period))
            way = graph("Div", graph.times(below, graph.double(_STEP)), graph("Sub", below, above))
            return _of_epochs(graph, samples, graph.add(at, way), lengths, voiced)

        many = graph("GreaterOrEqual", signals.size(graph, rise), signals.number(graph, _LEAST_EPOCHS))
        return graph.either(many, of_epochs, lambda: [nothing, nothing])

    jitter, shimmer = graph.either(
        graph("Greater", n_voiced, signals.number(graph, 0)), of_voice, lambda: [nothing, nothing]
    )
    return jitter, shimmer


def _full(graph: Graph, value: int, n: str) -> str:
    """(n,) int64, the same number everywhere; n is () int64."""
    return graph("Expand", signals.number(graph, value), graph.unsqueeze(n, 0))


def _clipped(graph: Graph, x: str, low: str, high: str) -> str:
    """``np.clip``."""
    return graph("Min", graph("Max", x, low), high)


def _low(graph: Graph, samples: str) -> str:
    """(samples // 4,) float64: the means of four samples each."""
    step = signals.number(graph, _STEP)
    whole = graph.times(graph("Div", signals.size(graph, samples), step), step)
    fours = graph("Reshape", signals.sliced(graph, samples, 0, whole), graph.constant([-1, _STEP], np.int64))
    return signals.mean(graph, graph.cast(fours, np.float64), 1)


def _period(graph: Graph, where: str, f0_hz: str, voiced: str) -> str:
    """The period in samples at each place: on the line between the voiced frames beside it, at the ends theirs.

    Args:
        where: (places,) float64, in samples. f0_hz, voiced: (time,), at least one of them voiced.
    """
    at = graph.squeeze(graph("NonZero", voiced), 0)
    known = graph("Div", graph.double(SAMPLE_RATE_HZ), graph.cast(graph("Gather", f0_hz, at, axis=0), np.float64))
    middle = _pitch.WINDOW / 2
    centre = graph.add(graph.times(graph.cast(at, np.float64), graph.double(_pitch.HOP)), graph.double(middle))
    zero, one = signals.number(graph, 0), signals.number(graph, 1)
    done = graph("CumSum", graph.cast(voiced, np.int64), zero)
    done = graph("Concat", graph.constant([0], np.int64), done, axis=0)  # frames that are voiced, before each frame
    frame = graph("Floor", graph("Div", graph("Sub", where, graph.double(middle)), graph.double(_pitch.HOP)))
    frame = graph.add(graph.cast(frame, np.int64), one)  # centres at this place or before it
    n_before = graph("Gather", done, _clipped(graph, frame, zero, signals.size(graph, f0_hz)), axis=0)
    left = graph("Max", graph("Sub", n_before, one), zero)
    right = graph("Min", n_before, graph("Sub", signals.size(graph, at), one))
    (x, high_x), (y, high_y) = (
        [graph("Gather", values, side, axis=0) for side in (left, right)] for values in (centre, known)
    )
    apart = graph("Max", graph("Sub", high_x, x), graph.double(1.0))
    slope = graph("Div", graph("Sub", high_y, y), apart)
    return graph.add(graph.times(slope, graph("Sub", where, x)), y)


def _filtered(graph: Graph, low: str, period: str) -> str:
    """(places,) float64: the signal filtered at zero frequency; it is close to a sine of the pitch."""
    scaled = graph("Div", graph.times(period, graph.double(0.75)), graph.double(_STEP))
    reach = graph("Max", graph.cast(graph("Round", scaled), np.int64), signals.number(graph, 1))
    n, zero = signals.size(graph, low), signals.number(graph, 0)
    at = signals.count_up(graph, n)
    first = graph("Max", graph("Sub", at, reach), zero)
    end = graph("Min", graph.add(graph.add(at, reach), signals.number(graph, 1)), n)
    width = graph.cast(graph("Sub", end, first), np.float64)
    signal = graph("Sub", low, signals.mean(graph, low, 0, keep=True))
    for _ in range(3):  # each as serkit.encoders._pitch._detrended
        signal = graph("CumSum", signal, zero)
        total = graph("Concat", graph.double([0.0]), graph("CumSum", signal, zero), axis=0)
        inside = graph("Sub", graph("Gather", total, end, axis=0), graph("Gather", total, first, axis=0))
        signal = graph("Sub", signal, graph("Div", inside, width))
    return signal


def _of_epochs(graph: Graph, samples: str, epochs: str, period: str, voiced: str) -> tuple[str, str]:
    """Jitter and shimmer of the frames.

    Args:
        epochs, period: (epochs,) float64, in samples; four or more. voiced: (time,) bool.
    """
    marks, height = _peaks(graph, samples, epochs, period)
    length, expected = signals.changes(graph, marks), signals.sliced(graph, period, 0, -1)
    n = signals.size(graph, voiced)
    middle = graph.add(signals.sliced(graph, marks, 0, -1), graph("Div", length, graph.double(2.0)))
    frame = graph("Div", graph("Sub", middle, graph.double(_pitch.WINDOW / 2)), graph.double(_pitch.HOP))
    frame = graph.cast(graph("Round", frame), np.int64)
    last_frame = graph("Sub", n, signals.number(graph, 1))
    frame = _clipped(graph, frame, signals.number(graph, 0), last_frame)
    good = graph("Gather", voiced, frame, axis=0)
    good = graph("And", good, graph("Greater", length, graph.times(expected, graph.double(0.75))))
    good = graph("And", good, graph("Less", length, graph.times(expected, graph.double(1.33))))
    good = graph("And", good, graph("Greater", height, graph.constant(0.0)))
    sums = _pairs(graph, length, expected, height, good)
    first = _counted(graph, signals.sliced(graph, marks, 0, -2), n)  # pairs that start before the frame does
    ends = signals.sliced(graph, marks, 2, signals.size(graph, marks))
    last = _counted(graph, graph("Sub", ends, graph.double(_pitch.WINDOW)), n)  # that end before it ends
    last = graph("Max", last, first)
    running = graph("CumSum", sums, signals.number(graph, 1))
    running = graph("Concat", graph.double(np.zeros((4, 1))), running, axis=1)
    found = graph("Sub", graph("Gather", running, last, axis=1), graph("Gather", running, first, axis=1))
    count, change, mean, level = (graph("Gather", found, signals.number(graph, k), axis=0) for k in range(4))
    enough = graph("And", voiced, graph("Greater", count, graph.double(0.5)))
    jitter = graph("Div", change, graph("Max", mean, graph.double(1e-9)))
    shimmer = graph("Div", level, graph("Max", count, graph.double(1.0)))
    jitter, shimmer = (graph("Where", enough, x, graph.double(0.0)) for x in (jitter, shimmer))
    return graph.cast(jitter, np.float32), graph.cast(shimmer, np.float32)


def _pairs(graph: Graph, length: str, expected: str, height: str, good: str) -> str:
    """(4, pairs) float64 of neighbouring periods: whether they count, change of length, mean length, change of level.

    Args:
        length, expected: (periods,) float64, in samples. height: (periods,) float32. good: (periods,) bool.
    """
    level = graph("Log", graph("Max", graph.cast(height, np.float64), graph.double(1e-9)))
    level = graph.times(level, graph.double(20 / np.log(10)))
    change, step = (graph("Abs", signals.changes(graph, x)) for x in (length, level))
    allowed = graph.times(signals.neighbours(graph, expected)[1], graph.double(0.2))
    pair = graph("And", graph("And", *signals.neighbours(graph, good)), graph("Less", change, allowed))
    counts = graph.cast(pair, np.float64)
    mean = graph.times(graph.add(*signals.neighbours(graph, length)), graph.double(0.5))
    rows = [counts, *(graph.times(x, counts) for x in (change, mean, step))]
    return graph("Concat", *(graph.unsqueeze(row, 0) for row in rows), axis=0)


def _counted(graph: Graph, places: str, n: str) -> str:
    """(n,) int64: how many places, in samples, lie before the start of each frame; n is () int64."""
    one = signals.number(graph, 1)
    frame = graph("Floor", graph("Div", places, graph.double(_pitch.HOP)))
    frame = _clipped(graph, graph.add(graph.cast(frame, np.int64), one), signals.number(graph, 0), n)
    ones = _full(graph, 1, signals.size(graph, places))
    hits = graph("ScatterElements", _full(graph, 0, graph.add(n, one)), frame, ones, axis=0, reduction="add")
    return signals.sliced(graph, graph("CumSum", hits, signals.number(graph, 0)), 0, n)


def _peaks(graph: Graph, samples: str, epochs: str, period: str) -> tuple[str, str]:
    """As :func:`serkit.encoders._pitch._peaks`; epochs lie more than four samples apart, so no stretch is empty.

    Returns:
        marks (epochs,) float64, in samples; and (epochs - 1,) float32: from the lowest to the highest sample between
        epochs.
    """
    half = graph.times(signals.sliced(graph, period, 0, 1), graph.double(0.5))
    first = graph("Sub", signals.sliced(graph, epochs, 0, 1), half)
    middles = graph.times(graph.add(*signals.neighbours(graph, epochs)), graph.double(0.5))
    last_period = graph("Gather", period, signals.number(graph, -1), axis=0)
    n_samples = signals.size(graph, samples)
    latest = graph("Sub", n_samples, signals.number(graph, 2))
    starts, ends = [], []
    for edges in (graph("Concat", first, middles, axis=0), epochs):
        start = graph.cast(graph("Round", edges), np.int64)
        start = _clipped(graph, start, signals.number(graph, 0), latest)
        last = graph.cast(graph("Gather", start, signals.number(graph, -1), axis=0), np.float64)
        end = graph("Min", graph.cast(graph.add(last, last_period), np.int64), n_samples)
        starts.append(start)
        ends.append(graph("Concat", signals.neighbours(graph, start)[1], graph.unsqueeze(end, 0), axis=0))
    waves = graph("Concat", *(graph.unsqueeze(x, 0) for x in (samples, graph("Neg", samples))), axis=0)
    size = graph("Sub", graph("Concat", *ends, axis=0), graph("Concat", *starts, axis=0))
    highest = _tops(graph, waves, graph("Concat", *starts, axis=0), size)
    tops = graph.many("Split", highest, n_outputs=2, axis=1)
    marks = []
    for top, start, end in zip(tops, starts, ends, strict=True):
        for sign in (signals.number(graph, 0), signals.number(graph, 1)):
            wave, heights = (graph("Gather", x, sign, axis=0) for x in (waves, top))
            marks.append(graph.unsqueeze(_marks(graph, wave, heights, start, end), 0))
    height = signals.sliced(graph, graph.total(tops[1], 0), 0, -1)
    return _evenest(graph, graph("Concat", *marks, axis=0), period), height


def _tops(graph: Graph, waves: str, starts: str, sizes: str) -> str:
    """(2, stretches): the highest sample of each wave in stretches of any sizes.

    A stretch is put together of lengths that are powers of two; the highest sample of such a length from every place
    on is known from those of half the length.

    Args:
        waves: (2, samples). starts, sizes: (stretches,) int64, sizes 1 or more.
    """
    n = signals.size(graph, waves, 1)
    lengths = graph.constant(2 ** np.arange(31), np.int64)
    fits = graph("LessOrEqual", lengths, signals.highest(graph, sizes, 0))
    lengths = signals.sliced(graph, lengths, 0, graph.total(graph.cast(fits, np.int64), 0))
    end = graph("Sub", n, signals.number(graph, 1))

    def step(states: list[str], items: list[str]) -> tuple[list[str], list[str]]:
        table, best, at = states
        length = items[0]
        has = graph("Mod", graph("Div", sizes, length), signals.number(graph, 2))
        higher = graph("Max", best, graph("Gather", table, graph("Min", at, end), axis=1))
        best = graph("Where", graph.cast(has, bool), higher, best)
        at = graph.add(at, graph.times(has, length))
        rest = graph("Sub", n, length)
        near, far = signals.sliced(graph, table, 0, rest, axis=1), signals.sliced(graph, table, length, n, axis=1)
        tail = signals.sliced(graph, table, rest, n, axis=1)
        return [graph("Concat", graph("Max", near, far), tail, axis=1), best, at], []

    return graph.scan([waves, graph("Gather", waves, starts, axis=1), starts], [lengths], step)[1]


def _marks(graph: Graph, wave: str, tops: str, starts: str, ends: str) -> str:
    """(stretches,) float64: where the highest sample of each stretch stands, to a fraction of a sample.

    Args:
        wave: (samples,) float32. tops: (stretches,) its highest samples. starts, ends: (stretches,) int64; each
            stretch starts where the one before it ends.
    """
    zero, one = signals.number(graph, 0), signals.number(graph, 1)
    none = _full(graph, 0, signals.size(graph, wave))
    begins = graph("ScatterElements", none, starts, _full(graph, 1, signals.size(graph, starts)), axis=0)
    stretch = graph("Max", graph("Sub", graph("CumSum", begins, zero), one), zero)
    is_top = graph("Equal", wave, graph("Gather", tops, stretch, axis=0))
    n_before = graph("CumSum", graph.cast(is_top, np.int64), zero, exclusive=1)
    hits = graph.squeeze(graph("NonZero", is_top), 0)
    at = graph("Gather", hits, graph("Gather", n_before, starts, axis=0), axis=0)  # the first in its stretch
    lowest = graph.add(graph("Gather", starts, zero, axis=0), one)
    highest = graph("Sub", graph("Gather", ends, signals.number(graph, -1), axis=0), signals.number(graph, 2))
    inside = _clipped(graph, at, lowest, highest)
    left, middle, right = (
        graph("Gather", wave, graph.add(inside, signals.number(graph, k)), axis=0) for k in (-1, 0, 1)
    )
    shift = signals.vertex(graph, left, middle, right, 1e-12)
    return graph.add(graph.cast(inside, np.float64), graph.cast(shift, np.float64))


def _evenest(graph: Graph, marks: str, period: str) -> str:
    """The one of (ways, epochs) marks whose distances repeat best: the lowest median change, in periods."""
    bend = signals.changes(graph, signals.changes(graph, marks, axis=1), axis=1)
    share = graph("Div", graph("Abs", bend), signals.sliced(graph, period, 1, -1))
    two = signals.number(graph, 2)
    n = signals.size(graph, share, 1)
    upper = graph("Div", n, two)
    lower = graph("Div", graph("Sub", n, signals.number(graph, 1)), two)
    falling = graph("TopK", share, graph.unsqueeze(graph.add(upper, signals.number(graph, 1)), 0), n_outputs=2, axis=1)
    median = graph.add(*(graph("Gather", falling, k, axis=1) for k in (lower, upper)))
    return graph("Gather", marks, graph("ArgMin", median, axis=0, keepdims=0), axis=0)
