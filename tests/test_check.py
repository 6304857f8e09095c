"""lessons_src.check: promises and exercises. A checker never raises, whatever it is given."""

import pytest
import torch
from IPython.core.interactiveshell import InteractiveShell

from lessons_src import check, data
from lessons_src.check import Case, between, exercise


def double(x):
    return 2 * x


CASES = [Case((1.5,), 3.0, "Twice the input."), Case((torch.ones(2, 3),), torch.full((2, 3), 2.0))]


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    monkeypatch.setattr(check, "passed", {})
    monkeypatch.setattr(data, "_standins_used", set())


def verdict(capsys, answer, cases=CASES, **options):
    result = exercise("double", answer, cases, **options)
    return result, capsys.readouterr().out


def test_a_right_answer_passes_and_is_counted(capsys):
    """One line, and the tally."""
    assert verdict(capsys, double) == (True, "✓ double: 2 of 2 checks passed\n")
    check.summary()
    assert capsys.readouterr().out == "1 of 1 exercises solved\n"


def test_jupyter_prints_no_bool_below_the_verdict(capsys):
    """A cell that ends with a checker's call shows its line, and nothing more."""
    result, _ = verdict(capsys, double)
    assert InteractiveShell.instance().display_formatter.format(result) == ({}, {})


def not_implemented(x):
    raise NotImplementedError


@pytest.mark.parametrize(
    "stub", [lambda x: None, lambda x: ..., not_implemented, None, ...],
    ids=["none", "ellipsis", "NotImplementedError", "no function", "dots"],
)  # fmt: skip
def test_a_stub_is_not_attempted_yet(capsys, stub):
    """Nothing is wrong with an empty stub, and nothing is raised."""
    assert verdict(capsys, stub) == (False, "○ double: not attempted yet\n")


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (lambda x: x, "0 of 2 checks passed, then, for 1.5:\n  expected 3, received 1.5\n  Twice"),
        (lambda x: 2 * x if isinstance(x, float) else x, "1 of 2 checks"),
        (lambda x: "3", "expected 3, received '3'"),
        (lambda x: 1 / 0, "your function raised ZeroDivisionError: division by zero"),
        (lambda x, y: x, "your function raised TypeError"),
        (lambda x: torch.tensor([3.0]), r"expected the shape (), received the shape (1,)"),
        (lambda x: float("nan"), "received nan"),
        (3.0, "expected a function, received 3"),
    ],
)
def test_a_wrong_answer_is_told_on_which_input(capsys, wrong, told):
    """What was expected, what was received, for which input, and the likely mistake."""
    result, printed = verdict(capsys, wrong)
    assert not result and told in printed


def test_dtype_and_shape_of_tensors_are_compared(capsys):
    """Integers where floats are due, or a broadcastable shape, are wrong answers."""
    cases = [Case((torch.ones(3),), torch.full((3,), 2.0))]
    _, printed = verdict(capsys, lambda x: torch.full((3,), 2), cases)
    assert "expected the dtype torch.float32, received torch.int64" in printed
    _, printed = verdict(capsys, lambda x: torch.full((1, 3), 2.0), cases)
    assert "expected the shape (3,), received the shape (1, 3)" in printed


def test_the_readers_function_gets_copies(capsys):
    """A function that changes its input does not spoil the next comparison."""
    inputs = torch.ones(3)

    def in_place(x):
        return x.mul_(2)

    cases = [Case((inputs,), torch.full((3,), 2.0))] * 2
    assert verdict(capsys, in_place, cases)[0]
    assert torch.equal(inputs, torch.ones(3))


def test_tuples_dicts_and_strings(capsys):
    """Several results are compared one by one, and the one that is wrong is named."""
    cases = [Case((1,), (1.0, "a", {"w": 2.0}))]
    assert verdict(capsys, lambda x: (1.0, "a", {"w": 2.0}), cases)[0]
    assert "value 2: expected 'a'" in verdict(capsys, lambda x: (1.0, "b", {"w": 2.0}), cases)[1]
    assert "expected 3 values" in verdict(capsys, lambda x: 1.0, cases)[1]
    wrong_keys = verdict(capsys, lambda x: (1.0, "a", {"v": 2.0}), cases)[1]
    assert "value 3: expected a dict with the keys ['w']" in wrong_keys


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
    with pytest.raises(AssertionError, match="test accuracy: .* is outside what is promised"):
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
    check.between(torch.tensor(0.5, requires_grad=True), 0, 1, "a share")
    assert not recwarn.list
