"""What a cell promises: conditions in its metadata, tried in the lesson's kernel.

    "promise": ["0.81 <= accuracy <= 0.83", "tanh > relu"]

They are tried after the cell has run, by the test run and by `make lessons`. With
"promise_on_standin" beside it, those conditions hold in their place where the real data
are absent (an empty list promises nothing there). Numbers that such a cell prints are
compared in their form. A promise that holds whatever the names in it stand for is no
promise, and is refused.
"""

import ast
import copy
import json
import re
from collections.abc import Iterator
from itertools import count, repeat
from types import ModuleType

import numpy as np
import torch

from tools.ranges import bounds

CALL = "__import__('tools.promises').promises.kept({conditions!r}, globals())"
LOWEST, HIGHEST = -(10**9), 10**9
FEW = 10  # a range from 0 to so many is taken for one of a count


class Broken(AssertionError):
    """A promise that does not hold, or that always holds."""


def of(cell, standin: bool) -> list[str]:
    """The conditions that a cell promises on the real data, or on the stand-in."""
    conditions = cell.metadata.get("promise", [])
    if standin:
        conditions = cell.metadata.get("promise_on_standin", conditions)
    return list(conditions)


def in_kernel(client, conditions: list[str], timeout: float = 60) -> list:
    """What `kept` gives in the kernel of this blocking client; Broken where it raises.

    Nothing is executed: the kernel evaluates one expression beside an empty cell.
    """
    call = CALL.format(conditions=conditions)
    message = client.execute("", silent=True, user_expressions={"kept": call})
    while (reply := client.get_shell_msg(timeout=timeout))["parent_header"].get(
        "msg_id"
    ) != message:
        pass
    return read(reply)


def read(reply: dict) -> list:
    """The values in a kernel's reply; Broken where a promise was not kept."""
    result = reply["content"]["user_expressions"]["kept"]
    if result["status"] != "ok":
        raise Broken(result["evalue"])
    return json.loads(ast.literal_eval(result["data"]["text/plain"]))


def kept(conditions: list[str], names: dict) -> str:
    """Try each condition; as JSON, the number that lies in each range, else null.

    Broken at the first that is false, that raises, or that cannot fail.
    """
    values = []
    for condition in conditions:
        try:
            holds = bool(evaluated(condition, names))
        except Exception as error:
            raise Broken(
                f"the promise {condition!r} cannot be tried: "
                f"{type(error).__name__}: {error}"
            ) from error
        if not holds:
            raise Broken(
                f"the promise {condition!r} is broken: {found(condition, names)}"
            )
        if not can_fail(condition, names):
            raise Broken(f"the promise {condition!r} holds whatever the lesson computes")
        values.append(value_in_range(condition, names))
    return json.dumps(values)


def evaluated(expression: str, names: dict):
    """The value of an expression in these names."""
    return eval(expression, dict(names))  # noqa: S307


def value_in_range(condition: str, names: dict) -> float | None:
    """The number that a condition confines to a range, to four digits."""
    ends = bounds(condition)
    if ends is None:
        return None
    try:
        return float(f"{float(evaluated(ends[1], names)):.4g}")
    except (TypeError, ValueError):
        return None


def found(condition: str, names: dict) -> str:
    """The two or three sides of a broken comparison, as they are."""
    tree = ast.parse(condition.strip(), mode="eval").body
    sides = [tree.left, *tree.comparators] if isinstance(tree, ast.Compare) else []
    parts = [ast.unparse(side) for side in sides if not isinstance(side, ast.Constant)]
    return ", ".join(f"{part} is {evaluated(part, names)!r}" for part in parts) or "false"


def can_fail(condition: str, names: dict) -> bool:
    """Whether other values of the same types would break the condition."""
    loaded = [
        node.id
        for node in ast.walk(ast.parse(condition.strip(), mode="eval"))
        if isinstance(node, ast.Name) and node.id in names
    ]
    for name in dict.fromkeys(loaded):
        for other in spoiled(names[name]):
            try:
                if not evaluated(condition, {**names, name: other}):
                    return True
            except Exception:  # other values may not fit the expression: no evidence
                continue
    return False


def true_by_definition(condition: str) -> str | None:
    """Why a condition that `can_fail` lets pass promises nothing, as far as its words tell;
    else None.

    A share lies in [0, 1], a count of a few in 0 to n, whatever a lesson computes: other
    numbers in their place, which is what `can_fail` tries, are none that it could compute.
    """
    tree = ast.parse(condition.strip(), mode="eval").body
    if isinstance(tree, ast.BoolOp) and isinstance(tree.op, ast.Or):
        if any(is_switch(part) for part in tree.values):
            return "where the switch is set it says nothing"
        return None
    low, expression, high = bounds(condition) or (None, "0", None)
    inside = ast.parse(expression, mode="eval").body
    is_computed = any(isinstance(node, ast.BinOp) for node in ast.walk(inside))
    if low != 0 or is_computed:  # a difference or a ratio may lie anywhere
        return None
    if high == 1:
        return "a share or a probability lies there by definition"
    if high in range(2, FEW + 1):
        return "a count of so many lies there by definition"
    return None


def is_switch(part: ast.expr) -> bool:
    """`on_gpu` or `not on_gpu`."""
    return isinstance(part, ast.Name) or (
        isinstance(part, ast.UnaryOp)
        and isinstance(part.op, ast.Not)
        and isinstance(part.operand, ast.Name)
    )


def spoiled(value) -> Iterator:
    """The value with other numbers, truths and texts in it, and one part fewer; for a
    function, one that does nothing."""
    if isinstance(value, ModuleType):
        return
    if callable(value) and not isinstance(value, torch.nn.Module):
        yield lambda *args, **settings: None
        return
    for supply in (
        lambda: repeat(LOWEST),
        lambda: repeat(0),
        lambda: repeat(HIGHEST),
        lambda: count(1),
        lambda: count(-1, -1),
    ):
        yield replaced(value, supply())
    is_array = isinstance(value, torch.Tensor | np.ndarray) and value.ndim
    if is_array or isinstance(value, list | tuple | str):
        yield value[:-1]


def replaced(value, numbers: Iterator):
    """A copy of the value whose leaves are these numbers (truths: turned; texts: none)."""
    if isinstance(value, bool | np.bool_):
        return not value
    if isinstance(value, int | float | np.number):
        return type(value)(next(numbers))
    if isinstance(value, str):
        return ""
    if isinstance(value, torch.Tensor):
        size = (value.numel(),)
        new = np.fromiter(numbers, dtype=float, count=size[0])
        new = ~value.bool().flatten() if value.dtype == torch.bool else torch.tensor(new)
        return new.to(value.dtype).view(value.shape)
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        if value.dtype == bool:
            return ~value
        new = np.fromiter(numbers, dtype=float, count=value.size)
        return new.astype(value.dtype).reshape(value.shape)
    if isinstance(value, dict):
        return type(value)({k: replaced(v, numbers) for k, v in value.items()})
    if isinstance(value, list | tuple | set):
        parts = [replaced(part, numbers) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    known = (ModuleType, type, torch.nn.Module)
    if hasattr(value, "__dict__") and not isinstance(value, known):
        new = copy.copy(value)
        for name, part in vars(value).items():
            object.__setattr__(new, name, replaced(part, numbers))
        return new
    return value


def in_form(text):
    """The text in its form: figures lose their content, and numbers their digits."""
    if not isinstance(text, str):
        return text
    text = re.sub(r'(?s)(<svg[^>]*aria-label="[^"]*")[^>]*>.*?</svg>', r"\1></svg>", text)
    text = re.sub(r"[-+−]?\d[\d.,]*(e[-+]?\d+)?", "#", text)
    return re.sub(r"(# ?%|# s\b|[ \t]+)", lambda m: " " if m[0].isspace() else m[0], text)
