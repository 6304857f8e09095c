"""A measured number with its promise (`between`), and sentences made by code (`say`)."""

import torch
from IPython.display import Markdown, display

from lessons_src import data


def between(
    value: float,
    low: float,
    high: float,
    what: str,
    *,
    unit: str = "",
    standin: tuple[float, float] | None = None,
) -> None:
    """Print a measured value with its promise, and fail where the promise does not hold.

    low, high: promised for the real data. standin: the range where the stand-in was
    loaded (none given: the same). unit: "%" shows a share of 0 to 1 in percent; any
    other is written behind. AssertionError outside the range.
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
    """Show Markdown made by code. Write measured numbers in bold: nbval masks bold
    digits."""
    display(Markdown(text))
