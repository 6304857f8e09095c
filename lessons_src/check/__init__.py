"""What a lesson calls to check a measured number (`between`) or the reader's answer.

`check.<exercise>(your_function)` runs the reader's function on a few inputs and says what it
was expected to give on which input. A checker never raises: an empty stub is "not attempted yet".
Each lesson's checkers stand in a file of their own in this package.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from IPython.display import Markdown, display

from lessons_src import data


@dataclass
class Case:
    """One input of an exercise: the arguments, what should come back, and what a wrong
    answer most likely means."""

    inputs: tuple
    expected: object
    hint: str = ""
    shown: str = ""  # how the input is named to the reader; else its own repr
    named: dict = field(default_factory=dict)


class Verdict(int):
    """True or False, which Jupyter does not print below the verdict's own line."""

    def _ipython_display_(self):
        pass


passed: dict[str, bool] = {}  # exercise -> solved, for `summary`


def exercise(
    name: str, answer: Callable | None, cases: list[Case], tolerance: float = 1e-5
) -> Verdict:
    """Run the reader's `answer` on every case, print one line of verdict, and count.

    The reader's function gets copies of the inputs. Values may be numbers, tensors, strings or
    tuples and dicts of them; floats are compared to `tolerance`, relative and absolute.
    """
    right = 0
    for case in cases:
        problem = _problem(answer, case, tolerance)
        if problem == "stub":
            passed[name] = False
            print(f"○ {name}: not attempted yet")
            return Verdict(False)
        if problem:
            passed[name] = False
            shown = case.shown or ", ".join(map(_show, case.inputs))
            print(
                f"✗ {name}: {right} of {len(cases)} checks passed, then, for {shown}:\n  {problem}"
            )
            if case.hint:
                print(f"  {case.hint}")
            return Verdict(False)
        right += 1
    passed[name] = True
    print(f"✓ {name}: {right} of {len(cases)} checks passed")
    return Verdict(True)


def summary() -> None:
    """Say how many of the exercises tried so far are solved."""
    print(f"{sum(passed.values())} of {len(passed)} exercises solved")


def _problem(answer, case: Case, tolerance: float) -> str:
    """Why the answer is not right on this case: "" if it is, "stub" if it gives nothing."""
    if answer is None or answer is Ellipsis:
        return "stub"
    if not callable(answer):
        return f"expected a function, received {_show(answer)}"
    try:
        got = answer(*map(_copy, case.inputs), **case.named)
    except NotImplementedError:
        return "stub"
    except Exception as error:  # the reader's own code: whatever it raises is shown, not raised
        return f"your function raised {type(error).__name__}: {error}"
    if got is None or got is Ellipsis:
        return "stub"
    return _difference(got, case.expected, tolerance)


def _difference(got, expected, tolerance: float) -> str:
    if isinstance(expected, dict):
        if not isinstance(got, dict) or got.keys() != expected.keys():
            return f"expected a dict with the keys {list(expected)}, received {_show(got)}"
        got, expected = tuple(got[k] for k in expected), tuple(expected.values())
    if isinstance(expected, tuple | list):
        if not isinstance(got, tuple | list) or len(got) != len(expected):
            return f"expected {len(expected)} values, received {_show(got)}"
        parts = (_difference(g, e, tolerance) for g, e in zip(got, expected, strict=True))
        return next((f"value {k}: {p}" for k, p in enumerate(parts, 1) if p), "")
    if isinstance(expected, str | bool):
        return "" if got == expected else f"expected {expected!r}, received {_show(got)}"
    return _tensor_difference(got, expected, tolerance)


def _tensor_difference(got, expected, tolerance: float) -> str:
    try:
        got_t, expected_t = torch.as_tensor(got).detach(), torch.as_tensor(expected).detach()
    except (TypeError, ValueError, RuntimeError):
        return f"expected {_show(expected)}, received {_show(got)}"
    if got_t.shape != expected_t.shape:
        return (f"expected the shape {tuple(expected_t.shape)}, "
                f"received the shape {tuple(got_t.shape)}")  # fmt: skip
    if isinstance(expected, torch.Tensor) and (
        got_t.is_floating_point() != expected_t.is_floating_point()
    ):
        return f"expected the dtype {expected_t.dtype}, received {got_t.dtype}"
    if torch.allclose(got_t.double(), expected_t.double(), tolerance, tolerance, equal_nan=True):
        return ""
    return f"expected {_show(expected)}, received {_show(got)}"


def _copy(value):
    return value.clone() if isinstance(value, torch.Tensor) else value


def _show(value) -> str:
    if not isinstance(value, torch.Tensor):
        text = f"{value:.6g}" if isinstance(value, float) else repr(value)
        return text if len(text) <= 160 else text[:157] + "..."
    if value.numel() > 12:
        return f"a tensor {tuple(value.shape)} {value.dtype}"
    numbers = value.detach().tolist()
    return str(_rounded(numbers))


def _rounded(numbers):
    if isinstance(numbers, list):
        return [_rounded(n) for n in numbers]
    return float(f"{numbers:.4g}") if isinstance(numbers, float) else numbers


def between(value: float, low: float, high: float, what: str, *, unit: str = "",
            standin: tuple[float, float] | None = None) -> None:  # fmt: skip
    """Print a measured value with its promise, and fail where the promise does not hold.

    low, high: promised for the real data. standin: the range where the stand-in was loaded
    (none given: the same). unit: "%" shows a share of 0 to 1 in percent; any other is written
    behind. AssertionError outside the range.
    """
    if standin and data.using_standin():
        low, high = standin
    value = float(value.detach() if isinstance(value, torch.Tensor) else value)

    def written(x):
        return f"{x:.2%}" if unit == "%" else f"{x:.4g}{' ' * bool(unit)}{unit}"

    promise = f"promised: {written(low)} to {written(high)}"
    if not low <= value <= high:  # a NaN is in no range
        raise AssertionError(f"{what}: {written(value)} is outside what is {promise}")
    print(f"✓ {what}: {written(value)} ({promise})")


def say(text: str) -> None:
    """Show Markdown made by code. Write measured numbers in bold: nbval masks bold digits."""
    display(Markdown(text))
