"""Exercises: two paths, a sigmoid for the engine, its heart, an engine from nothing."""

import math
import operator
from dataclasses import dataclass

import torch

from lessons_src.exercises import exercise
from lessons_src.exercises.forbidden import NotAllowed, is_ours, names_called, without


def two_paths_with(df_da, df_db):
    """A wrong two_paths, from its derivatives; v = ab + b."""

    def answer(a, b):
        v = a * b + b
        return v**2, df_da(a, b, v), df_db(a, b, v)

    return answer


def by_own_formulas(answer, a, b):
    """What the answer gives without engine and without PyTorch: an `observe`."""
    if not is_ours(answer) and names_called(answer) & {"Value", "backward"}:
        raise NotAllowed("the derivatives are to come from formulas, not from the engine")
    return without()(answer, a, b)


@exercise(
    inputs=lambda draw: (
        draw.choice(draw.integer(-3, 3), draw.uniform(-3, 3)),
        draw.choice(draw.integer(-3, 3), draw.uniform(-3, 3)),
    ),
    observe=by_own_formulas,
    tolerance=1e-11,  # a formula is exact, and a nudge is not
    mistakes={
        "b reaches v = ab + b along two paths: through ab, and directly. Add both.": (
            two_paths_with(lambda a, b, v: 2 * v * b, lambda a, b, v: 2 * v * a)
        ),
        "The outer square gives a factor 2v, not v.": (
            two_paths_with(lambda a, b, v: v * b, lambda a, b, v: v * (a + 1))
        ),
    },
    hint="With v = ab + b it is v², 2v dv/da and 2v dv/db; b reaches v on two paths. "
    "(A nudge comes close, a formula is exact.)",
)
def two_paths(a, b):
    """f = (a b + b)² and its derivatives with respect to a and b."""
    leaves = [
        torch.tensor(float(x), dtype=torch.float64, requires_grad=True) for x in (a, b)
    ]
    f = (leaves[0] * leaves[1] + leaves[1]) ** 2
    return f.item(), *(grad.item() for grad in torch.autograd.grad(f, leaves))


def value_and_slopes(answer, x, Value):
    """s(x) and its slope, the logarithms of both, the slope of s(2x)² + x by way of the
    answer, and x, which stays as it is: an `observe`."""
    alone, v = Value(x), Value(x)
    s = answer(alone)
    if not isinstance(s, Value):
        return s
    s.backward()
    inner = answer(v * 2)
    (inner * inner + v).backward()
    logs = [math.log(y) if y > 0 else -math.inf for y in (s.data, alone.grad)]
    return s.data, alone.grad, *logs, v.grad, alone.data


def sigmoid(x):
    """The sigmoid of a number, whatever its size."""
    if x >= 0:
        return 1 / (1 + math.exp(-x))
    return math.exp(x) / (1 + math.exp(x))


def changing_v(v):
    """A mistake: v is not the same afterwards."""
    v.data = sigmoid(v.data)
    return type(v)(v.data, ((v, v.data * (1 - v.data)),))


def sigmoid_with(slope=lambda s: s * (1 - s), value=sigmoid):
    """A sigmoid_op from its local derivative slope(s), or from its value(x)."""

    def answer(v):
        s = value(v.data)
        return type(v)(s, ((v, slope(s)),))

    return answer


@exercise(
    inputs=lambda draw: (draw.choice(0.0, draw.uniform(-1, 1) * draw.size),),
    observe=value_and_slopes,
    cases={
        "exp(800) is too large for a float. For v < 0 use e^v / (1 + e^v).": (-800.0,),
        "At −40 the sigmoid is 4e-18, and not 0; so is its slope. For v < 0 use "
        "e^v / (1 + e^v).": (-40.0,),
        "At 800 the sigmoid is 1, and flat.": (800.0,),
    },
    mistakes={
        "The local derivative is s (1 - s), where s is the sigmoid's value.": (
            sigmoid_with(slope=lambda s: s)
        ),
        "Name the parent, so that the gradient can flow on: ((v, local),).": (
            lambda v: type(v)(sigmoid(v.data))
        ),
        "Return a new Value(data, ((parent, local),), name), not a number.": (
            lambda v: sigmoid(v.data)
        ),
        "exp(800) is too large for a float: for v < 0 use e^v / (1 + e^v).": (
            sigmoid_with(value=lambda x: 1 / (1 + math.exp(-x)))
        ),
        "Leave v.data as it is: it is the new Value that holds s.": changing_v,
        "(1 + tanh(v/2)) / 2 loses its digits for negative v: 1 − 1 is left.": (
            sigmoid_with(value=lambda x: (1 + math.tanh(x / 2)) / 2)
        ),
    },
    hint="For v ≥ 0 the value is s = 1 / (1 + e^−v), else e^v / (1 + e^v); the parent is "
    "v itself, the local derivative s (1 - s).",
)
def sigmoid_op(v):
    """A Value with the sigmoid of v, its parent and its local derivative."""
    return sigmoid_with()(v)


OPERATORS = {"+": operator.add, "-": operator.sub, "*": operator.mul}


def drawn_graph(draw):
    """Steps such as "c = a * b", whose last is the root, the numbers a and b, and the
    names of those whose gradients are asked for."""
    names = "abcdefghi"[: 2 + draw.size]
    steps = []
    for k in range(2, len(names)):
        left, right = (names[draw.integer(max(0, k - 3), k - 1)] for _ in range(2))
        steps.append(f"{names[k]} = {left} {draw.choice(*OPERATORS)} {right}")
    numbers = [draw.choice(0.0, *[draw.uniform(-1.5, 1.5)] * 4) for _ in range(2)]
    asked = draw.choice("ab", "ba", "abc", "cab", names, names[-1] + "b")
    return "; ".join(steps), numbers, asked


def gradients_and_grads(answer, steps, numbers, leaves, Value):
    """What the answer gives for the graph of the steps, and all .grad: an `observe`."""
    nodes = {name: Value(x) for name, x in zip("ab", numbers, strict=True)}
    for step in steps.split("; "):
        name, _, left, sign, right = step.split()
        nodes[name] = OPERATORS[sign](nodes[left], nodes[right])
    for node in nodes.values():
        node.grad = 0.25  # left by an earlier backward(), say
    answered = answer(nodes[name], [nodes[leaf] for leaf in leaves])
    if not isinstance(answered, list | tuple):
        return answered
    return list(answered), [node.grad for node in nodes.values()]


def children_first(root):
    """The nodes, each after all that were made from it."""
    order = []

    def visit(node):
        if node not in order:
            for parent, _ in node.parents:
                visit(parent)
            order.append(node)

    visit(root)
    return order[::-1]


def as_met(root):
    """The nodes in the order in which they are met: a mistake."""
    order = [root]
    for node in order:
        for parent, _ in node.parents:
            if parent not in order:
                order.append(parent)
    return order


def gradients_with(order=children_first, add=True):
    """A wrong `gradients`: another order of the nodes, or = for +=."""

    def answer(root, leaves):
        total = {root: 1.0}
        for node in order(root):
            for parent, local in node.parents:
                before = total.get(parent, 0.0) if add else 0.0
                total[parent] = before + local * total[node]
        return [total.get(leaf, 0.0) for leaf in leaves]

    return answer


def by_backward(root, leaves):
    """backward(), and then every .grad set back to 0: a mistake."""
    root.backward()
    gradients = [leaf.grad for leaf in leaves]
    for leaf in leaves:
        leaf.grad = 0.0
    return gradients


def without_inner(root, leaves):
    """0 for all that have parents: a mistake."""
    total = gradients_with()(root, leaves)
    return [0.0 if v.parents else g for v, g in zip(leaves, total, strict=True)]


USED_BY_THE_NEXT_TWO = "c = a * b; d = c + a; e = d * a; f = e + d; g = f * d; h = g + f"


@exercise(
    inputs=drawn_graph,
    observe=gradients_and_grads,
    cases={
        "Here each node is used by the next two.": (
            USED_BY_THE_NEXT_TWO,
            [0.4, 0.9],
            "ab",
        ),
        "root does not depend on b: its gradient is 0.": ("c = a * a", [0.5, 2.0], "ab"),
        "Any Value may be asked for, also one that was made from others.": (
            "c = a * b; d = c * c",
            [0.5, 2.0],
            "ac",
        ),
        "root may be asked for: d root / d root is 1.": ("c = a * b", [0.5, 2.0], "cab"),
    },
    names=("root", "a and b", "leaves"),
    mistakes={
        "A node that is used twice adds up what comes from each use: += and not =.": (
            gradients_with(add=False)
        ),
        "Pass a node's gradient on only when all of its children have given theirs: run "
        "backwards through topological_order(root).": gradients_with(order=as_met),
        "Leave .grad as it is, and what it holds already: keep sums in a dictionary.": (
            by_backward
        ),
        "Any Value may be asked for, also one that was made from others.": (
            without_inner
        ),
        "d root / d root is 1: start from there.": lambda root, leaves: [
            0.0 for _ in leaves
        ],
    },
    hint="d root / d root is 1; each parent adds local * total[node] to what it has.",
)
def gradients(root, leaves):
    """d root / d leaf for each leaf: the sum over all paths of the locals' products."""

    def slope(node, leaf):
        paths = [local * slope(parent, leaf) for parent, local in node.parents]
        return sum(paths) + float(node is leaf)

    return [slope(root, leaf) for leaf in leaves]


@dataclass(frozen=True)
class Expression:
    """A function of its leaves, in steps such as "c = a * b" and "d = c.tanh()"."""

    leaves: str
    steps: str

    def __call__(self, *numbers):
        values = dict(zip(self.leaves, numbers, strict=True))
        for step in self.steps.split("; "):
            name, _, left, *rest = step.split()
            if rest:
                sign, right = rest
                values[name] = OPERATORS[sign](values[left], values[right])
            else:
                values[name] = values[left.removesuffix(".tanh()")].tanh()
        return values[name]

    def __repr__(self):
        return f"f({', '.join(self.leaves)}): {self.steps}"


def drawn_expression(draw):
    """An Expression of one to five leaves, and a number for each of them."""
    leaves = "abcde"[: draw.integer(1, min(2 + draw.size, 5))]
    names = leaves + "fghijklm"[: 1 + draw.size]
    steps = []
    for k in range(len(leaves), len(names)):
        left, right = (names[draw.integer(max(0, k - 3), k - 1)] for _ in range(2))
        made = draw.choice(f"{left} + {right}", f"{left} * {right}", f"{left}.tanh()")
        steps.append(f"{names[k]} = {made}")
    numbers = [draw.choice(0.0, *[draw.uniform(-1.2, 1.2)] * 4) for _ in leaves]
    return Expression(leaves, "; ".join(steps)), numbers


def derivatives_and_calls(answer, f, numbers):
    """What the answer gives, and how often it called f, with objects of a class of its
    own: an `observe`."""
    calls = []

    def counted(*leaves):
        calls.append(leaves)
        for kind in {type(leaf) for leaf in leaves}:
            if not is_ours(answer) and "<locals>" not in kind.__qualname__:
                raise NotAllowed(
                    "call f with objects of a small class that you write inside of your "
                    f"function, not with {kind.__name__}"
                )
        return f(*leaves)

    answered = answer(counted, numbers)
    if not isinstance(answered, list | tuple):
        return answered
    return list(answered), len(calls)


class Node:
    """A number with its parents, as a reader may write it."""

    tanh_slope = staticmethod(lambda y: 1 - y * y)

    def __init__(self, data, parents=()):
        self.data, self.parents = data, parents

    def __add__(self, other):
        return type(self)(self.data + other.data, ((self, 1.0), (other, 1.0)))

    def __mul__(self, other):
        parents = (self, other.data), (other, self.data)
        return type(self)(self.data * other.data, parents)

    def tanh(self):
        y = math.tanh(self.data)
        return type(self)(y, ((self, self.tanh_slope(y)),))


class NodeWithWrongTanh(Node):
    """A mistake: 1 - y for 1 - y²."""

    tanh_slope = staticmethod(lambda y: 1 - y)


def derivatives_with(slopes_of, node=Node):
    """A `derivatives` that builds the graph of these nodes, then calls slopes_of."""

    def answer(f, numbers):
        leaves = [node(x) for x in numbers]
        return slopes_of(f(*leaves), leaves)

    return answer


def by_nudging(f, numbers, h=1e-5):
    """Central differences: they call f twice for each number."""
    slopes = []
    for k in range(len(numbers)):
        up, down = (
            [Node(x + side * h * (i == k)) for i, x in enumerate(numbers)]
            for side in (1, -1)
        )
        slopes.append((f(*up).data - f(*down).data) / (2 * h))
    return slopes


@exercise(
    inputs=drawn_expression,
    observe=derivatives_and_calls,
    cases={
        "Here each number is used by the next two.": (
            Expression("ab", USED_BY_THE_NEXT_TWO),
            [0.4, 0.9],
        ),
        "f does not depend on b: that derivative is 0.": (
            Expression("ab", "c = a * a; d = c.tanh()"),
            [0.5, 1.0],
        ),
    },
    mistakes={
        "A number that is used twice adds up what comes from each use: += and not =.": (
            derivatives_with(gradients_with(add=False))
        ),
        "A number may pass its gradient on only when all that was made from it has done "
        "so: go from the youngest to the oldest.": (
            derivatives_with(gradients_with(order=as_met))
        ),
        "Call f once, with objects of your own: the graph that they build is all you "
        "need, without any nudge.": by_nudging,
        "The local derivative of tanh is 1 - y², where y is its value.": (
            derivatives_with(gradients_with(), NodeWithWrongTanh)
        ),
        "d f / d f is 1: start from there.": derivatives_with(
            lambda root, leaves: [0.0 for _ in leaves]
        ),
    },
    hint="Objects with a value and parents, kept in the order of birth; the result's "
    "gradient is 1, and each parent adds local * node.grad, the youngest node first.",
)
def derivatives(f, numbers):
    """df/dx for each number x."""
    leaves = [torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in numbers]
    grads = torch.autograd.grad(f(*leaves), leaves, materialize_grads=True)
    return [grad.item() for grad in grads]
