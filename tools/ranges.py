"""The range in a promise such as `0.81 <= accuracy <= 0.83`."""

import ast


def bounds(condition: str) -> tuple[float, str, float] | None:
    """(low, expression, high) of a condition `low <= expression <= high`, else None."""
    tree = ast.parse(condition.strip(), mode="eval").body
    if not isinstance(tree, ast.Compare) or len(tree.ops) != 2:
        return None
    if not all(isinstance(op, ast.Lt | ast.LtE) for op in tree.ops):
        return None
    try:
        low, high = (
            float(eval(ast.unparse(end), {"__builtins__": {}}))
            for end in (tree.left, tree.comparators[1])
        )
    except (NameError, TypeError, ValueError):
        return None
    return low, ast.unparse(tree.comparators[0]), high
