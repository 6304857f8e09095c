"""The mutants of a file: its text with one small mistake each.

A comparison or a sign turned round, a number one higher or lower, a condition negated,
`and` for `or`, a statement left out, a result that is None. tools/mutants.py tries them.
"""

import ast
import copy
from dataclasses import dataclass

CHECKS = "expect"  # how their names begin; their texts are messages
TURNED = {
    ast.Lt: ast.LtE,
    ast.Gt: ast.GtE,
    ast.Eq: ast.NotEq,
    ast.Is: ast.IsNot,
    ast.In: ast.NotIn,
    ast.Add: ast.Sub,
    ast.Mult: ast.Div,
    ast.And: ast.Or,
    ast.BitAnd: ast.BitOr,
}
TURNED |= {there: here for here, there in TURNED.items()}
TURNED |= {ast.FloorDiv: ast.Div, ast.Mod: ast.Mult, ast.Pow: ast.Mult}
REMOVED = (ast.Raise, ast.AugAssign, ast.Delete, ast.Continue, ast.Break)


@dataclass
class Mutant:
    """One mistake: the file, its text with the mistake, and how to show it.

    lines: of the node, and of the statement around it. in_function: its code runs when
    a function is called, and not already at import.
    """

    file: str
    text: bytes
    lines: tuple[range, range]
    before: str
    after: str
    in_function: bool

    @property
    def line(self) -> int:
        return self.lines[0].start

    def __str__(self):
        return f"{self.file}:{self.line}: {self.before}  →  {self.after}"


def replacements(node):
    """What may stand in the place of a node."""
    match node:
        case ast.Constant(value=bool()):
            yield ast.Constant(not node.value)
        case ast.Constant(value=int() | float()):
            yield from (ast.Constant(node.value + 1), ast.Constant(node.value - 1))
        case ast.Compare():
            for k, op in enumerate(node.ops):
                ops = [*node.ops[:k], TURNED[type(op)](), *node.ops[k + 1 :]]
                yield ast.Compare(node.left, ops, node.comparators)
        case ast.BinOp(op=op) if type(op) in TURNED:
            yield ast.BinOp(node.left, TURNED[type(op)](), node.right)
        case ast.BoolOp(op=op):
            yield ast.BoolOp(TURNED[type(op)](), node.values)
        case ast.UnaryOp(op=ast.Not() | ast.USub()):
            yield node.operand
        case ast.IfExp() if not isinstance(node.test, ast.Compare):
            yield ast.IfExp(ast.UnaryOp(ast.Not(), node.test), node.body, node.orelse)
        case ast.Return(value=value) if value is not None:
            yield ast.Return(ast.Constant(None))
        case ast.Expr(value=ast.Call()):
            yield ast.Pass()
        case ast.Assign(targets=[ast.Attribute() | ast.Subscript()]):
            yield ast.Pass()
    if isinstance(node, REMOVED):
        yield ast.Pass()


def nodes(node, around=(), in_function=False):
    """Every node with those around it, and whether it is in a function. Left out are
    annotations and what messages say."""
    is_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    name = getattr(getattr(node, "func", None), "id", "")
    for field, value in ast.iter_fields(node):
        for child in value if isinstance(value, list) else [value]:
            is_message = isinstance(node, ast.Raise)
            is_message |= isinstance(child, ast.JoinedStr) and name.startswith(CHECKS)
            if isinstance(child, ast.AST) and field not in ("annotation", "returns"):
                inside = in_function or is_function and field == "body"
                if isinstance(child, ast.expr | ast.stmt):
                    yield child, (*around, node), inside
                if not is_message:
                    yield from nodes(child, (*around, node), inside)


def mutants_of(file: str, text: bytes) -> list[Mutant]:
    """All mutants of a file's text."""
    lengths = [len(line) for line in text.splitlines(keepends=True)]
    starts = [sum(lengths[:k]) for k in range(len(lengths) + 1)]  # bytes, as ast counts
    found = []
    for node, around, in_function in nodes(ast.parse(text)):
        begin = starts[node.lineno - 1] + node.col_offset
        end = starts[node.end_lineno - 1] + node.end_col_offset
        shown = shown_node(node, around)
        statement = [n for n in (*around, node) if isinstance(n, ast.stmt)][-1]
        lines = lines_in(node), lines_in(headed(statement), statement)
        for new in [*replacements(node), *negated(node, around[-1])]:
            code = ast.unparse(new)
            code += "\n" * (node.end_lineno - node.lineno)  # lines keep their numbers
            if isinstance(new, ast.expr):
                code = f"({code})"
            mutated = text[:begin] + code.encode() + text[end:]
            before, after = one_line(shown), one_line(with_new(shown, node, new))
            found.append(Mutant(file, mutated, lines, before, after, in_function))
    return found


def negated(node, around):
    """The condition of an `if` or a `while` turned round, where no comparison is."""
    is_test = isinstance(around, ast.If | ast.While) and node is around.test
    if is_test and not isinstance(node, ast.Compare | ast.UnaryOp):
        yield ast.UnaryOp(ast.Not(), node)


def one_line(node) -> str:
    """The code of a node on one line, a statement's without its body."""
    return " ".join(ast.unparse(headed(node)).split())


def lines_in(node, statement=None) -> range:
    """The lines of a node; of a statement with a body, those above the body."""
    end = node.end_lineno
    if statement is not None and getattr(statement, "body", None):
        end = max(statement.lineno, statement.body[0].lineno - 1)
    return range(node.lineno, end + 1)


def headed(node):
    """A statement without its body."""
    if not isinstance(getattr(node, "body", None), list):
        return node
    head = copy.copy(node)
    head.body, head.orelse = [], []
    return head


def shown_node(node, around):
    """The largest node around this one that fits on a line."""
    for outer in reversed(around):
        too_large = len(ast.unparse(headed(outer))) > 100
        if isinstance(node, ast.stmt) or too_large and not isinstance(node, ast.keyword):
            break
        node = outer
    return node


def with_new(node, old, new):
    """A copy of the node in which `new` stands for `old`."""
    if node is old:
        return new
    if not isinstance(node, ast.AST):
        return [with_new(n, old, new) for n in node] if isinstance(node, list) else node
    made = copy.copy(node)
    for field, value in ast.iter_fields(node):
        setattr(made, field, with_new(value, old, new))
    return made
