"""Cases of which `make test` tries some, and `make sweep` all."""

from collections.abc import Callable, Iterable

import pytest


def some(values: Iterable, kept: Callable[[object], bool]) -> list:
    """The values as parameters: those that are not kept are marked for the sweep."""
    values = list(values)
    assert any(map(kept, values)), "make test would try none of these"
    return [v if kept(v) else pytest.param(v, marks=pytest.mark.sweep) for v in values]
