"""Answers to the exercises of the lesson on the chain rule.

Where they are given a `Value`, they make others of its type.
"""

import functools
import heapq
import math
from collections import defaultdict, namedtuple
from operator import itemgetter

import numpy as np
import torch
from lesson_source import definitions

page = definitions("chain_rule", "Value", "as_value", "topological_order")
Value, topological_order = page["Value"], page["topological_order"]


def nudged(a, b, h=1e-6):
    """By your own formulas, says the statement."""
    f = lambda a, b: (a * b + b) ** 2  # noqa: E731
    return (
        f(a, b),
        (f(a + h, b) - f(a - h, b)) / (2 * h),
        (f(a, b + h) - f(a, b - h)) / (2 * h),
    )


def with_torch(a, b):
    """Without PyTorch, says the statement."""
    a, b = (
        torch.tensor(float(v), dtype=torch.float64, requires_grad=True) for v in (a, b)
    )
    f = (a * b + b) ** 2
    f.backward()
    return f.item(), a.grad.item(), b.grad.item()


def with_the_engine(a, b):
    """Without engine, says the statement."""
    a, b = Value(a), Value(b)
    f = (a * b + b) ** 2
    f.backward()
    return f.data, a.grad, b.grad


def step_by_step(a, b):
    u = a * b
    v = u + b
    dv = 2 * v
    du, db = dv, dv  # the direct path
    da, db = du * b, db + du * a
    return v * v, da, db


Slopes = namedtuple("Slopes", "f df_da df_db")


class TwoPaths:
    def __call__(self, a, b):
        return (a + 1) ** 2 * b**2, 2 * (a + 1) * b * b, 2 * (a + 1) ** 2 * b


def sigmoid(v):
    if v >= 0:
        return 1 / (1 + math.exp(-v))
    return math.exp(v) / (1 + math.exp(v))


def node(v, s, local):
    return type(v)(s, ((v, local),), "sigmoid")


def with_local(local):
    """The right s, with this function of s for its derivative."""
    return lambda v: node(v, sigmoid(v.data), local(sigmoid(v.data)))


def with_value(value, local=lambda s: s * (1 - s)):
    """This function of v for s, with the derivative by s."""
    return lambda v: node(v, value(v.data), local(value(v.data)))


def only_positive(v):
    if v.data >= 0:
        s = sigmoid(v.data)
        return node(v, s, s * (1 - s))


def without_slope_far_left(v):
    s = sigmoid(v.data)
    return node(v, s, s * (1 - s) if v.data > -30 else 0.0)


def by_operations(v):
    return 1 / (1 + (-v).exp())


def by_tanh(v):
    """1 - 1 at -40."""
    return ((v * 0.5).tanh() + 1) * 0.5


def changes_v(v):
    v.data = sigmoid(v.data)
    return node(v, v.data, v.data * (1 - v.data))


def caught(v):
    try:
        s = 1 / (1 + math.exp(-v.data))
    except OverflowError:
        s = 0.0
    return type(v)(s, [(v, s * (1 - s))])


def in_numpy(v):
    with np.errstate(over="ignore"):
        s = 1 / (1 + np.exp(-np.float64(v.data)))
    return type(v)(s, ((v, s * (1 - s)),), "σ")


def in_torch(v):
    x = torch.tensor(v.data, dtype=torch.float64, requires_grad=True)
    s = torch.sigmoid(x)
    (slope,) = torch.autograd.grad(s, x)
    return type(v)(s.item(), ((v, slope.item()),))


def without_branch(v):
    e = math.exp(-abs(v.data))
    s = (1 if v.data >= 0 else e) / (1 + e)
    return node(v, s, e / (1 + e) ** 2)


def totals(root, start=1.0):
    total = {root: start}
    for one in reversed(topological_order(root)):
        for parent, local in one.parents:
            total[parent] = total.get(parent, 0.0) + local * total[one]
    return total


def of_leaves(total, missing=0.0):
    return lambda root, leaves: [total(root).get(leaf, missing) for leaf in leaves]


def overwritten(root):
    total = {root: 1.0}
    for one in reversed(topological_order(root)):
        for parent, local in one.parents:
            total[parent] = local * total[one]
    return total


def local_only(root):
    total = {root: 1.0}
    for one in reversed(topological_order(root)):
        for parent, local in one.parents:
            total[parent] = total.get(parent, 0.0) + local
    return total


def parents_once(root):
    """a * a has one parent twice, and a dict keeps one of them."""
    total = {root: 1.0}
    for one in reversed(topological_order(root)):
        for parent, local in dict(one.parents).items():
            total[parent] = total.get(parent, 0.0) + local * total[one]
    return total


def forwards(root):
    total = {root: 1.0}
    for one in topological_order(root):
        for parent, local in one.parents:
            total[parent] = total.get(parent, 0.0) + local * total.get(one, 0.0)
    return total


def breadth_first(root):
    """A node is passed on before all its children have added to it."""
    total, queue, seen = {root: 1.0}, [root], {root}
    for one in queue:
        for parent, local in one.parents:
            total[parent] = total.get(parent, 0.0) + local * total[one]
            if parent not in seen:
                seen.add(parent)
                queue.append(parent)
    return total


def one_generation(root):
    total = defaultdict(float, {root: 1.0})
    for parent, local in root.parents:
        total[parent] += local
    return total


def by_number(root, leaves):
    """Two nodes may hold the same number."""
    total = {root.data: 1.0}
    for one in reversed(topological_order(root)):
        for parent, local in one.parents:
            total[parent.data] = total.get(parent.data, 0.0) + local * total[one.data]
    return [total.get(leaf.data, 0.0) for leaf in leaves]


def by_backward(root, leaves):
    """Changes .grad, and adds to what stands there."""
    root.backward()
    return [leaf.grad for leaf in leaves]


def cleared_first(root, leaves):
    for leaf in leaves:
        leaf.grad = 0.0
    root.backward()
    reached = set(topological_order(root))
    return [leaf.grad if leaf in reached else 0.0 for leaf in leaves]


def from_the_roots_grad(root, leaves):
    return [totals(root, root.grad).get(leaf, 0.0) for leaf in leaves]


def without_inner(root, leaves):
    """0 for a Value that has parents."""
    total = totals(root)
    return [0.0 if leaf.parents else total.get(leaf, 0.0) for leaf in leaves]


def written_down(root, leaves):
    """.grad has changed afterwards."""
    total = totals(root)
    for leaf in leaves:
        leaf.grad = total.get(leaf, 0.0)
    return [leaf.grad for leaf in leaves]


def by_identity(root, leaves):
    total = defaultdict(float)
    total[id(root)] = 1.0
    for one in sorted(topological_order(root), key=lambda v: -v.birth):
        for parent, local in one.parents:
            total[id(parent)] += local * total[id(one)]
    return [total[id(leaf)] for leaf in leaves]


def by_tangents(root, leaves):
    """Forward mode: what each node has of each leaf."""
    order, result = topological_order(root), []
    for leaf in leaves:
        slope = {}
        for one in order:
            slope[one] = float(one is leaf)
            slope[one] += sum(local * slope[parent] for parent, local in one.parents)
        result.append(slope.get(root, 0.0))
    return result


def by_tangents_of_leaves_only(root, leaves):
    """The same, with a cache."""

    @functools.cache
    def slope(one, leaf):
        if one is leaf:
            return 1.0
        return sum((local * slope(p, leaf) for p, local in one.parents), 0.0)

    return [slope(root, leaf) for leaf in leaves]


def youngest_first(root, leaves):
    """The order is that of birth, from a heap."""
    total, heap = {root: 1.0}, [(-root.birth, root)]
    while heap:
        _, one = heapq.heappop(heap)
        for parent, local in one.parents:
            if parent not in total:
                total[parent] = 0.0
                heapq.heappush(heap, (-parent.birth, parent))
            total[parent] += local * total[one]
    return [total.get(leaf, 0.0) for leaf in leaves]


def when_all_children_are_done(root, leaves):
    """Kahn's algorithm: counts of the children that are still to come."""
    waiting = defaultdict(int)
    for one in topological_order(root):
        for parent, _ in one.parents:
            waiting[parent] += 1
    total, ready = defaultdict(float, {root: 1.0}), [root]
    while ready:
        one = ready.pop()
        for parent, local in one.parents:
            total[parent] += local * total[one]
            waiting[parent] -= 1
            if waiting[parent] == 0:
                ready.append(parent)
    return [total[leaf] for leaf in leaves]


def with_an_own_order(root, leaves):
    order, seen = [], set()

    def visit(one):
        if one not in seen:
            seen.add(one)
            for parent, _ in one.parents:
                visit(parent)
            order.append(one)

    visit(root)
    total = dict.fromkeys(order, 0.0)
    total[root] = 1.0
    for one in order[::-1]:
        for parent, local in one.parents:
            total[parent] += local * total[one]
    return list(map(lambda leaf: total.get(leaf, 0.0), leaves))


def recorder(*, add=(1.0, 1.0), mul=(1, 0), slope=lambda x, y: 1 - y * y, pass_on=None):
    """`derivatives` with a tape. add: the local derivatives. mul: which factor each gets.
    slope: of tanh. pass_on: what a parent does with what comes back."""

    def derivatives(f, numbers):
        made = []

        class Number:
            def __init__(self, data, parents=()):
                self.data, self.grad, self.parents = data, 0.0, parents
                made.append(self)

            def __add__(self, other):
                parents = (self, add[0]), (other, add[1])
                return Number(self.data + other.data, parents)

            def __mul__(self, other):
                factors = self.data, other.data
                parents = (self, factors[mul[0]]), (other, factors[mul[1]])
                return Number(self.data * other.data, parents)

            def tanh(self):
                y = math.tanh(self.data)
                return Number(y, ((self, slope(self.data, y)),))

        leaves = [Number(x) for x in numbers]
        f(*leaves).grad = 1.0
        for one in reversed(made):
            for parent, local in one.parents:
                if pass_on:
                    parent.grad = pass_on(parent.grad, local, one.grad)
                else:
                    parent.grad += local * one.grad
        return [leaf.grad for leaf in leaves]

    return derivatives


exact = recorder()


def on_floats(f, numbers, h=1e-6):
    """Nudges: f is called more than once, and floats have no tanh."""

    def moved(k, step):
        return f(*[x + step * (j == k) for j, x in enumerate(numbers)])

    return [(moved(k, h) - moved(k, -h)) / (2 * h) for k in range(len(numbers))]


class Plain:
    def __init__(self, data):
        self.data = data

    def __add__(self, other):
        return Plain(self.data + other.data)

    def __mul__(self, other):
        return Plain(self.data * other.data)

    def tanh(self):
        return Plain(math.tanh(self.data))


def by_nudging(f, numbers):
    return on_floats(lambda *v: f(*map(Plain, v)).data, numbers)


def by_nudging_forwards(f, numbers):
    h = 1e-7
    at = lambda *v: f(*map(Plain, v)).data  # noqa: E731
    moved = [
        [x + h * (j == k) for j, x in enumerate(numbers)] for k in range(len(numbers))
    ]
    return [(at(*v) - at(*numbers)) / h for v in moved]


def one_call_for_each(f, numbers):
    """Dual numbers, but f is called for each number."""
    result = []
    for k in range(len(numbers)):
        result.append(by_duals(f, numbers, of=[k])[0])
    return result


def checked_first(f, numbers):
    """The first call only tries whether f works."""
    exact(f, numbers)
    return exact(f, numbers)


def by_the_page(f, numbers):
    """Use nothing that this page defines, says the statement."""
    leaves = [Value(x) for x in numbers]
    f(*leaves).backward()
    return [leaf.grad for leaf in leaves]


def by_tensors(f, numbers):
    """Write a small class of your own, says the statement."""
    leaves = [
        torch.tensor(float(x), dtype=torch.float64, requires_grad=True) for x in numbers
    ]
    grads = torch.autograd.grad(f(*leaves), leaves, materialize_grads=True)
    return [grad.item() for grad in grads]


def breadth_first_tape(f, numbers):
    class Number:
        def __init__(self, data, parents=()):
            self.data, self.grad, self.parents = data, 0.0, parents

        def __add__(self, other):
            return Number(self.data + other.data, ((self, 1.0), (other, 1.0)))

        def __mul__(self, other):
            parents = (self, other.data), (other, self.data)
            return Number(self.data * other.data, parents)

        def tanh(self):
            y = math.tanh(self.data)
            return Number(y, ((self, 1 - y * y),))

    leaves = [Number(x) for x in numbers]
    root = f(*leaves)
    root.grad, queue, seen = 1.0, [root], {root}
    for one in queue:
        for parent, local in one.parents:
            parent.grad += local * one.grad
            if parent not in seen:
                seen.add(parent)
                queue.append(parent)
    return [leaf.grad for leaf in leaves]


def of_two(f, numbers):
    a, b = numbers
    return exact(f, [a, b])


def by_duals(f, numbers, of=None):
    """Forward mode: each number carries its derivatives by all."""
    of = range(len(numbers)) if of is None else of

    class Dual:
        def __init__(self, data, slopes):
            self.data, self.slopes = data, slopes

        def __add__(self, other):
            pairs = zip(self.slopes, other.slopes, strict=True)
            return Dual(self.data + other.data, [p + q for p, q in pairs])

        def __mul__(self, other):
            pairs = zip(self.slopes, other.slopes, strict=True)
            slopes = [p * other.data + q * self.data for p, q in pairs]
            return Dual(self.data * other.data, slopes)

        def tanh(self):
            y = math.tanh(self.data)
            return Dual(y, [(1 - y * y) * p for p in self.slopes])

    return f(
        *[Dual(x, [float(j == k) for j in of]) for k, x in enumerate(numbers)]
    ).slopes


def by_arrays(f, numbers):
    """The same, with NumPy."""

    class Dual:
        def __init__(self, data, slope):
            self.data, self.slope = data, slope

        __add__ = lambda a, b: Dual(a.data + b.data, a.slope + b.slope)  # noqa: E731
        __mul__ = lambda a, b: Dual(  # noqa: E731
            a.data * b.data, a.slope * b.data + a.data * b.slope
        )
        tanh = lambda a: Dual(  # noqa: E731
            np.tanh(a.data), a.slope / np.cosh(a.data) ** 2
        )

    rows = np.eye(len(numbers))
    return list(f(*[Dual(x, row) for x, row in zip(numbers, rows, strict=True)]).slope)


def by_dictionaries(f, numbers):
    class Number:
        def __init__(self, data, slopes):
            self.data, self.slopes = data, slopes

        def combined(self, other, data, mine, its):
            slopes = {k: mine * v for k, v in self.slopes.items()}
            for k, v in other.slopes.items():
                slopes[k] = slopes.get(k, 0) + its * v
            return Number(data, slopes)

        def __add__(self, other):
            return self.combined(other, self.data + other.data, 1, 1)

        def __mul__(self, other):
            return self.combined(other, self.data * other.data, other.data, self.data)

        def tanh(self):
            y = math.tanh(self.data)
            return Number(y, {k: (1 - y**2) * v for k, v in self.slopes.items()})

    result = f(*[Number(x, {k: 1.0}) for k, x in enumerate(numbers)])
    return [result.slopes.get(k, 0.0) for k in range(len(numbers))]


def by_closures(f, numbers):
    """Each number knows how to pass on what comes back; the tape holds the rest."""
    tape = []

    class Number:
        def __init__(self, data, back=lambda grad: None):
            self.data, self.back, self.grad = data, back, 0.0
            tape.append(self)

        def receive(self, grad):
            self.grad += grad

        def __add__(self, other):
            return Number(
                self.data + other.data, lambda g: (self.receive(g), other.receive(g))
            )

        def __mul__(self, other):
            return Number(
                self.data * other.data,
                lambda g: (self.receive(g * other.data), other.receive(g * self.data)),
            )

        def tanh(self):
            y = math.tanh(self.data)
            return Number(y, lambda g: self.receive(g * (1 - y) * (1 + y)))

    leaves = [Number(float(x)) for x in numbers]
    f(*leaves).receive(1.0)
    while tape:
        one = tape.pop()
        one.back(one.grad)
    return [leaf.grad for leaf in leaves]


def by_visits(f, numbers):
    """An order found from the result, with a method for all."""

    class Number:
        def __init__(self, data, *parents):
            self.data, self.parents = data, parents

        def __add__(self, other):
            return Number(self.data + other.data, (self, 1), (other, 1))

        def __mul__(self, other):
            return Number(self.data * other.data, (self, other.data), (other, self.data))

        def tanh(self):
            return Number(math.tanh(self.data), (self, 1 - math.tanh(self.data) ** 2))

        def order(self, seen):
            if self not in seen:
                for parent, _ in self.parents:
                    parent.order(seen)
                seen[self] = 0.0
            return seen

    leaves = [Number(x) for x in numbers]
    root = f(*leaves)
    grads = root.order({})
    grads[root] = 1.0
    for one in reversed(list(grads)):
        for parent, local in one.parents:
            grads[parent] += local * grads[one]
    return [grads.get(leaf, 0.0) for leaf in leaves]


WRONG = {
    "two_paths": [
        lambda a, b: ((a * b + b) ** 2, 2 * (a * b + b) * b, 2 * (a * b + b) * a),
        lambda a, b: ((a * b + b) ** 2, 2 * (a * b + b) * b, 2 * (a * b + b)),
        lambda a, b: ((a * b + b) ** 2, 2 * (a * b + b) * b, 2 * (a * b + b) * (b + 1)),
        lambda a, b: ((a * b + b) ** 2, 2 * (a * b + b) * (a + 1), 2 * (a * b + b) * b),
        lambda a, b: ((a * b + b) ** 2, 2 * (a * b + b) * a, 2 * (a * b + b) * (a + 1)),
        lambda a, b: ((a * b + b) ** 2, (a * b + b) * b, (a * b + b) * (a + 1)),
        lambda a, b: ((a * b + b) ** 2, 2 * (a * b) * b, 2 * (a * b) * (a + 1)),
        lambda a, b: ((a * b + b) ** 2, b, a + 1),
        lambda a, b: (a * b + b, 2 * (a * b + b) * b, 2 * (a * b + b) * (a + 1)),
        lambda a, b: ((a * b) ** 2 + b**2, 2 * a * b**2, 2 * a**2 * b + 2 * b),
        lambda a, b: (2 * (a * b + b) * b, 2 * (a * b + b) * (a + 1)),
        lambda a, b: 2 * (a * b + b) * b + 2 * (a * b + b) * (a + 1),
        lambda a, b: (round(TwoPaths()(a, b)[0]), *TwoPaths()(a, b)[1:]),
        lambda a, b: tuple(abs(v) for v in TwoPaths()(a, b)),
        lambda a, b: (
            (a * b + b) ** 2,
            2 * (a * b + b) ** 2 / (a + 1),  # raises at a = -1
            2 * (a * b + b) ** 2 / b,  # and at b = 0
        ),
        lambda a, b: ((a * b + b) ** 2, 2 * a * b * b + b, 2 * b * (a + 1) ** 2),
        lambda a, b: str(TwoPaths()(a, b)),
        nudged,
        with_torch,
        with_the_engine,
    ],
    "sigmoid_op": [
        with_local(lambda s: s),
        with_local(lambda s: 1 - s),
        with_local(lambda s: 1 - s * s),
        with_local(lambda s: s * (s - 1)),
        with_local(lambda s: 1.0),
        with_value(lambda v: 1 / (1 + math.exp(-v))),  # raises at -800
        with_value(lambda v: math.exp(v) / (1 + math.exp(v))),  # raises at 800
        with_value(lambda v: 1 - sigmoid(-v)),  # 0 at -40
        with_value(lambda v: (1 + math.tanh(v / 2)) / 2),
        with_value(lambda v: sigmoid(v) if v > -30 else 0.0),
        with_value(lambda v: sigmoid(max(v, -20.0))),
        with_value(lambda v: sigmoid(-v)),
        with_value(math.tanh, lambda s: 1 - s * s),
        with_value(lambda v: sigmoid(abs(v))),
        lambda v: sigmoid(v.data),
        lambda v: type(v)(sigmoid(v.data)),
        lambda v: type(v)(sigmoid(v.data), ((type(v)(v.data), sigmoid(v.data)),)),
        lambda v: node(
            type(v)(v.data), sigmoid(v.data), sigmoid(v.data) * sigmoid(-v.data)
        ),
        lambda v: type(v)(sigmoid(v.data), (v, sigmoid(v.data) * sigmoid(-v.data))),
        lambda v: type(v)(sigmoid(v.data), ((sigmoid(v.data) * sigmoid(-v.data), v),)),
        lambda v: type(v)(
            sigmoid(v.data), ((v, sigmoid(v.data) * sigmoid(-v.data)),) * 2
        ),
        lambda v: node(v, sigmoid(v.data), v.data * (1 - v.data)),
        only_positive,
        without_slope_far_left,
        by_operations,
        by_tanh,
        changes_v,
    ],
    "gradients": [
        of_leaves(overwritten),
        of_leaves(local_only),
        of_leaves(parents_once),
        of_leaves(forwards),
        of_leaves(breadth_first),
        of_leaves(one_generation),
        of_leaves(totals, missing=None),
        of_leaves(totals, missing=1.0),
        lambda root, leaves: [totals(root)[leaf] for leaf in leaves],  # KeyError
        lambda root, leaves: [totals(root)[v] for v in leaves if v in totals(root)],
        lambda root, leaves: [totals(root).get(leaf, 0.0) for leaf in leaves][::-1],
        lambda root, leaves: [totals(root).get(leaf, 0.0) for leaf in set(leaves)][:1],
        lambda root, leaves: sum(totals(root).get(leaf, 0.0) for leaf in leaves),
        lambda root, leaves: [totals(root, 0.0).get(leaf, 0.0) for leaf in leaves],
        lambda root, leaves: [totals(root, root.data).get(leaf, 0.0) for leaf in leaves],
        lambda root, leaves: list(totals(root).values()),
        lambda root, leaves: totals(root),
        lambda root, leaves: {leaf: totals(root).get(leaf, 0.0) for leaf in leaves},
        by_number,
        by_backward,
        cleared_first,
        from_the_roots_grad,
        without_inner,
        written_down,
    ],
    "derivatives": [
        recorder(mul=(0, 1)),
        recorder(add=(1.0, 0.0)),
        recorder(add=(0.0, 1.0)),
        recorder(slope=lambda x, y: 1 - x * x),
        recorder(slope=lambda x, y: 1 - y),
        recorder(slope=lambda x, y: y),
        recorder(slope=lambda x, y: 1.0),
        recorder(pass_on=lambda had, local, grad: local * grad),
        recorder(pass_on=lambda had, local, grad: had + local),
        recorder(pass_on=lambda had, local, grad: had or local * grad),
        lambda f, numbers: exact(f, numbers)[::-1],
        lambda f, numbers: sum(exact(f, numbers)),
        lambda f, numbers: exact(f, numbers)[0],
        lambda f, numbers: [grad for grad in exact(f, numbers) if grad],
        lambda f, numbers: [grad or None for grad in exact(f, numbers)],
        lambda f, numbers: exact(f, [int(x) for x in numbers]),
        lambda f, numbers: exact(f, sorted(numbers)),
        on_floats,
        by_nudging,
        by_nudging_forwards,
        one_call_for_each,
        checked_first,
        by_the_page,
        by_tensors,
        breadth_first_tape,
        of_two,
    ],
}

RIGHT = {
    "two_paths": [
        step_by_step,
        TwoPaths(),
        lambda a, b: Slopes(*step_by_step(a, b)),
        lambda a, b: (b * b * (a + 1) ** 2, 2 * b * b * (a + 1), 2 * b * (a + 1) ** 2),
        lambda a, b: (
            a * a * b * b + 2 * a * b * b + b * b,
            2 * a * b * b + 2 * b * b,
            2 * a * a * b + 4 * a * b + 2 * b,
        ),
        lambda a, b: tuple(np.float64(v) for v in step_by_step(a, b)),
        lambda a, b: ((v := b * (1 + a)) * v, v * (b + b), 2 * v + 2 * v * a),
        lambda a, b: (
            math.pow(a * b + b, 2),
            math.prod((2, a * b + b, b)),
            math.fsum((2 * (a * b + b) * a, 2 * (a * b + b))),
        ),
        functools.partial(lambda n, a, b: step_by_step(a, b)[:n], 3),
    ],
    "sigmoid_op": [
        with_value(sigmoid),
        lambda v: node(v, sigmoid(v.data), sigmoid(v.data) * sigmoid(-v.data)),
        lambda v: type(v)(sigmoid(v.data), [(v, sigmoid(v.data) * sigmoid(-v.data))]),
        with_value(lambda v: math.exp(min(v, 0)) / (1 + math.exp(-abs(v)))),
        with_value(lambda v: math.exp(-np.logaddexp(0, -v))),
        caught,
        in_numpy,
        in_torch,
        without_branch,
    ],
    "gradients": [
        of_leaves(totals),
        lambda root, leaves: list(
            itemgetter(*leaves, leaves[0])(defaultdict(float, totals(root)))
        )[:-1],
        by_identity,
        by_tangents,
        by_tangents_of_leaves_only,
        youngest_first,
        when_all_children_are_done,
        with_an_own_order,
        functools.partial(lambda missing, *given: of_leaves(totals, missing)(*given), 0),
    ],
    "derivatives": [
        exact,
        by_duals,
        by_arrays,
        by_dictionaries,
        by_closures,
        by_visits,
        functools.partial(by_duals, of=None),
        lambda f, numbers: [float(v) for v in exact(f, [float(x) for x in numbers])],
    ],
}
