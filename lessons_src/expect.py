"""How the public functions say that they were given something else than they need.

One sentence for all: "NAME must be WHAT, received WHAT". Where torch's own error says as
much, there is no check.
"""

import math
from numbers import Integral, Real

from torch import Tensor


def expect(is_right, needed: str, received) -> None:
    """ValueError, `needed` and what was received instead, unless `is_right`."""
    if not is_right:
        raise ValueError(f"{needed}, received {describe(received)}")


def describe(thing) -> str:
    """A tensor or an array by shape and dtype, a plain value as it is, else its type."""
    if isinstance(thing, Tensor):
        place = "" if thing.device.type == "cpu" else f" on {thing.device}"
        return f"{tuple(thing.shape)} {thing.dtype}{place}"
    if hasattr(thing, "dtype") and hasattr(thing, "shape"):
        return (
            f"a NumPy array {thing.shape} {thing.dtype} "
            "(torch.from_numpy makes a tensor of it)"
        )
    if thing is None or isinstance(thing, str | Real):
        return repr(thing)
    if isinstance(thing, type):
        return f"the class {thing.__name__}"
    return type(thing).__name__


def expect_int(name: str, value, low: int = 1, high: int | None = None) -> None:
    """ValueError unless the value is a whole number from `low` on, up to `high`."""
    is_whole = isinstance(value, Integral) and not isinstance(value, bool)
    fits = is_whole and value >= low and (high is None or value <= high)
    upper = "or more" if high is None else f"to {high}"
    expect(fits, f"{name} must be a whole number, {low} {upper}", value)


def expect_between(name: str, value, low=0.0, high=1.0, ends=True) -> None:
    """ValueError unless the value is a number from `low` to `high`; ends: these too."""
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    fits = is_number and math.isfinite(value) and low <= value <= high
    fits = fits and (ends or value not in (low, high))
    between = f"from {low:g} to {high:g}" if ends else f"between {low:g} and {high:g}"
    expect(fits, f"{name} must be a number {between}", value)


def expect_bool(name: str, value) -> None:
    """ValueError unless the value is True or False: "no" would count as True."""
    expect(isinstance(value, bool), f"{name} must be True or False", value)


def expect_images(x) -> None:
    """ValueError unless x is a batch of images (B, C, H, W)."""
    fits = isinstance(x, Tensor) and x.ndim == 4
    expect(fits, "the images must be a tensor (B, C, H, W)", x)


def expect_type(name: str, thing, kind: type, hint: str = "") -> None:
    """ValueError unless the thing is of this kind; hint: what to write."""
    article = "an" if kind.__name__[0] in "AEIO" else "a"
    needed = f"{name} must be {article} {kind.__name__}{hint}"
    expect(isinstance(thing, kind), needed, thing)
