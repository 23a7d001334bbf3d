import numpy as np
import pytest

from serkit.errors import SerkitError
from serkit.recent import Recent


def test_what_is_at_hand_is_given_whole_in_any_chunks():
    sound, recent = np.arange(100, dtype=np.float32), Recent()
    for at in range(0, 100, 7):
        recent.push(sound[at : at + 7])
    recent.push(sound[:0])
    assert recent.end == 100
    for start, end in ((0, 100), (7, 14), (6, 8), (99, 100)):
        np.testing.assert_array_equal(recent.take(start, end), sound[start:end])
    recent.forget(20)
    assert recent.holds(14, 100)
    assert not recent.holds(13, 100)
    np.testing.assert_array_equal(recent.take(20, 30), sound[20:30])


@pytest.mark.parametrize(("start", "end"), [(0, 5), (90, 101), (50, 50), (60, 50)])
def test_what_is_not_at_hand_is_refused(start, end):
    recent = Recent()
    recent.push(np.zeros(10, dtype=np.float32))
    recent.push(np.zeros(90, dtype=np.float32))
    recent.forget(10)
    assert not recent.holds(start, end)
    with pytest.raises(SerkitError, match=r"not available \(10 to 100 are\)"):
        recent.take(start, end)
