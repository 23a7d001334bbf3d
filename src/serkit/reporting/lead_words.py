"""Words for the metric that a page leads with, of which more or less is better."""

from __future__ import annotations

from serkit.leads import LESS_IS_BETTER


def minus(metric: str, one: str, other: str) -> str:
    """What a difference is, so that it is positive where the one is better.

    >>> minus("uar", "the chosen trial", "the other"), minus("kl", "the chosen trial", "the other")
    ('the chosen trial minus the other', 'the other minus the chosen trial')
    """
    return f"{other} minus {one}" if metric in LESS_IS_BETTER else f"{one} minus {other}"


def apart(metric: str) -> str:
    """What a difference is called: ``difference``, or of a metric of which less is better how much nearer it is."""
    return "nearer by" if metric in LESS_IS_BETTER else "difference"


def extreme(metric: str) -> str:
    """``highest``, or ``lowest`` of a metric of which less is better."""
    return "lowest" if metric in LESS_IS_BETTER else "highest"
