"""Two results compared as a reader would compare them.

What counts as the same, and in which words a difference is told.
"""

from collections.abc import Callable, Iterator
from decimal import Decimal
from itertools import islice
from numbers import Real

import numpy as np
import torch
from torch import Tensor

MAX_ITEMS = 10_000  # values that are taken from an iterator: it may never end


def plain_value(value, depth: int = 9):
    """The value in plain kinds: lists for iterators, floats for Fraction and Decimal, str
    for kinds of str; within lists, tuples and dicts too, to this depth."""
    if type(value) in (float, int, str, Tensor) or depth == 0:
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, Decimal | Real) and not isinstance(value, float | int):
        return value if isinstance(value, np.generic) else float(value)
    if isinstance(value, Iterator):
        value = list(islice(value, MAX_ITEMS))
    if type(value) is dict:
        return {key: plain_value(entry, depth - 1) for key, entry in value.items()}
    if type(value) is list or isinstance(value, tuple):
        kind = list if type(value) is list else tuple
        return kind([plain_value(entry, depth - 1) for entry in value])
    return value


def difference(got, expected, tolerance: float) -> str:
    """How two results differ, in a sentence; "" where they are the same.

    A list, an array and a tensor with the same numbers are the same; a float tensor
    counts as exact to some units of its own dtype.
    """
    if isinstance(expected, dict):
        if not isinstance(got, dict) or got.keys() != expected.keys():
            keys = list(expected)
            return f"expected a dict with the keys {keys}, received {short_repr(got)}"
        got, expected = tuple(got[k] for k in expected), tuple(expected.values())
    if isinstance(expected, tuple | list):
        values = items_of(got, len(expected))
        if values is None:
            return f"expected {len(expected)} values, received {short_repr(got)}"
        parts = [
            difference(*two, tolerance) for two in zip(values, expected, strict=True)
        ]
        return next((f"value {k}: {part}" for k, part in enumerate(parts, 1) if part), "")
    if not isinstance(expected, Tensor | int | float) or isinstance(expected, bool):
        if isinstance(got, np.generic | np.ndarray | Tensor) and np.prod(got.shape) == 1:
            got = got.item()
        same = type(got) is type(expected) and got == expected
        return "" if same else told_apart(expected, got)
    return tensor_difference(got, expected, tolerance)


def items_of(got, count: int) -> list | None:
    """The values of a sequence, an array or an iterator, if there are so many of them."""
    if isinstance(got, str | bytes | dict | set | frozenset):
        return None
    try:
        values = list(islice(got, count + 1))
    except Exception:
        return None
    return values if len(values) == count else None


def tensor_difference(got, expected, tolerance: float) -> str:
    """`difference` for tensors and numbers: shape, dtype, then values."""
    try:
        found, wanted = as_tensor(got), as_tensor(expected)
    except Exception:
        return told_apart(expected, got)
    if found.shape != wanted.shape:
        return f"expected the shape {tuple(wanted.shape)}, received {tuple(found.shape)}"
    kinds = found.is_floating_point(), wanted.is_floating_point()
    has_dtype = isinstance(got, Tensor | np.ndarray)
    if (
        found.is_complex()
        or isinstance(expected, Tensor)
        and has_dtype
        and len({*kinds}) == 2
    ):
        return f"expected the dtype {wanted.dtype}, received {found.dtype}"
    if tolerance and kinds[0] and has_dtype:
        tolerance = max(tolerance, 8 * torch.finfo(found.dtype).eps)
    found, wanted = found.double(), wanted.double()
    apart = ~torch.isclose(found, wanted, tolerance, tolerance, equal_nan=True)
    if not apart.any():
        return ""
    if wanted.numel() <= 12 and short_repr(got) != short_repr(expected):
        return told_apart(expected, got)
    return first_difference(found, wanted, apart)


def as_tensor(value) -> Tensor:
    """A number, list, array or tensor as a dense tensor on the CPU, without its graph."""
    if isinstance(value, list | tuple) and any(isinstance(v, Tensor) for v in value):
        value = torch.stack([torch.as_tensor(v) for v in value])
    tensor = torch.as_tensor(value).detach()
    if not hasattr(value, "dtype") and tensor.is_floating_point():
        tensor = torch.as_tensor(value, dtype=torch.float64)  # as Python's floats are
    return (tensor if tensor.layout is torch.strided else tensor.to_dense()).cpu()


def first_difference(found: Tensor, wanted: Tensor, apart: Tensor) -> str:
    """Where two tensors of one shape differ first, by how much, and how often."""
    where = tuple(apart.nonzero()[0].tolist())
    one, other = wanted[where].item(), found[where].item()
    place = f"at {list(where)}: " if where else ""
    line = f"{place}expected {one:.6g}, received {other:.6g}"
    if f"{one:.6g}" == f"{other:.6g}":
        line = (
            f"{place}{other:.6g} differs from what is expected by {abs(one - other):.2g}"
        )
    if apart.numel() > 1:
        line += f" ({int(apart.sum())} of {apart.numel()} values differ)"
    return line


def told_apart(expected, got) -> str:
    """Expected and received in words that are never the same."""
    words = short_repr(expected), short_repr(got)
    if words[0] == words[1]:
        kinds = type(expected).__name__, type(got).__name__
        return f"expected {words[0]} ({kinds[0]}), received {words[1]} ({kinds[1]})"
    return f"expected {words[0]}, received {words[1]}"


def short_repr(value) -> str:
    """A value in a few words: numbers to six digits, a large tensor by its shape."""
    try:
        return shortened(_shown(value))
    except Exception:  # a list that holds itself, a dict whose keys fail
        return text_of(repr, object.__repr__(value))


def _shown(value) -> str:
    if isinstance(value, Tensor | np.ndarray) and np.prod(value.shape) > 12:
        kind = "a tensor" if isinstance(value, Tensor) else "an array"
        return f"{kind} {tuple(value.shape)} {value.dtype}"
    if isinstance(value, Tensor):
        return str(_rounded(as_tensor(value).tolist()))
    if isinstance(value, dict):
        some = islice(value.items(), 13)
        inner = ", ".join(f"{key!r}: {short_repr(entry)}" for key, entry in some)
        return f"{{{inner}}}"
    if isinstance(value, tuple | list):
        inner = ", ".join(map(short_repr, value[:99]))
        return f"({inner})" if isinstance(value, tuple) else f"[{inner}]"
    return f"{value:.6g}" if isinstance(value, float) else text_of(repr, value)


def _rounded(numbers):
    if isinstance(numbers, list):
        return [_rounded(n) for n in numbers]
    return float(f"{numbers:.6g}") if isinstance(numbers, float) else numbers


def text_of(write: Callable[[object], str], value) -> str:
    """`repr` or `str` of a value, also where it fails."""
    try:
        return write(value)
    except Exception as error:
        return f"an object of {type(value).__name__}, whose repr fails: {type(error).__name__}"


def shortened(text: str, most: int = 160) -> str:
    """The text, or its beginning."""
    return text if len(text) <= most else text[: most - 3] + "..."
