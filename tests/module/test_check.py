"""lessons_src.check: promises of measured numbers."""

import pytest
import torch

from lessons_src import data
from lessons_src.check import between


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    monkeypatch.setattr(data, "_standins_used", set())


def test_between_prints_the_promise(capsys):
    """Value and promise in one line; a share is shown in percent."""
    between(0.9213, 0.9, 0.93, "test accuracy", unit="%")
    between(3.14159, 3, 4, "ratio")
    between(2, 1, 3, "pass", unit="s")
    assert capsys.readouterr().out == (
        "✓ test accuracy: 92.13% (promised: 90.00% to 93.00%)\n"
        "✓ ratio: 3.142 (promised: 3 to 4)\n"
        "✓ pass: 2 s (promised: 1 s to 3 s)\n"
    )


@pytest.mark.parametrize("value", [0.89, 0.94, float("nan"), float("inf")])
def test_between_fails_outside_the_promise(value):
    """NaN is in no range."""
    with pytest.raises(
        AssertionError, match="test accuracy: .* is outside what is promised"
    ):
        between(value, 0.9, 0.93, "test accuracy")


def test_between_has_a_second_range_on_the_standin(monkeypatch):
    """Used only where the stand-in was served."""
    with pytest.raises(AssertionError):
        between(0.85, 0.9, 0.93, "accuracy", standin=(0.8, 0.9))
    monkeypatch.setattr(data, "_standins_used", {"mnist"})
    between(0.85, 0.9, 0.93, "accuracy", standin=(0.8, 0.9))


def test_between_takes_tensors():
    """A 0-d tensor is a number."""
    between(torch.tensor(0.5), 0, 1, "share")


def test_between_takes_a_tensor_that_autograd_follows(recwarn):
    """A number is a number: no warning on a page."""
    between(torch.tensor(0.5, requires_grad=True), 0, 1, "a share")
    assert not recwarn.list
