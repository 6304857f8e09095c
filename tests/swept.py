"""Cases of which `make test` tries some, and `make slow` or `make sweep` the others."""

from collections.abc import Callable, Iterable

import pytest


def some(
    values: Iterable, kept: Callable[[object], bool], others=pytest.mark.sweep
) -> list:
    """The values as parameters: those that are not kept are marked as `others`."""
    values = list(values)
    assert any(map(kept, values)), "make test would try none of these"
    return [v if kept(v) else pytest.param(v, marks=others) for v in values]
