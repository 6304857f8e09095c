"""Checkers of lesson 03's exercises. Expected values come from torch.autograd."""

from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from lessons_src.check import Case, exercise


def two_paths(answer) -> bool:
    """two_paths(a, b) -> f = (a b + b)² and its derivatives by a and b."""
    cases = []
    for a, b in ((2.0, 3.0), (-1.5, 0.5), (0.0, 2.0), (4.0, -1.0)):
        value, grads = _autograd(lambda a, b: (a * b + b) ** 2, a, b)
        hint = (
            "b reaches v = ab + b along two paths: through ab and directly; add both. The outer "
            "square gives a factor 2v, not v."
        )
        cases.append(Case((a, b), (value, *grads), hint, shown=f"a = {a}, b = {b}"))
    return exercise("two_paths", answer, cases)


def sigmoid_op(answer, Value) -> bool:
    """sigmoid_op(v) -> a Value with the sigmoid of v, its parent and its local derivative."""

    def run(expression, x):
        v = Value(x)
        result = expression(v, answer)
        if result is None or result is Ellipsis:
            return None
        if not isinstance(result, Value):
            raise TypeError(f"expected a Value, received {type(result).__name__}")
        result.backward()
        return result.data, v.grad

    def alone(v, s):
        return s(v)

    def scaled(v, s):
        y = s(v * 2)
        return y if y is None or y is Ellipsis else y * 3

    def shared(v, s):
        y = s(v)
        return y if y is None or y is Ellipsis else y * y + v

    slope = "The local derivative is s (1 − s), where s is the sigmoid's value."
    cases = []
    for expression, shown, x, hint in (
        (alone, "s(0.7)", 0.7, slope),
        (scaled, "3 · s(2v) at v = 0.4", 0.4, "Store the local derivative only: backward "
         "multiplies it by what comes from above."),
        (shared, "s(v)² + v at v = −1.2", -1.2, "The parent must be v itself, so that its "
         "gradient can flow on."),
        (alone, "s(−800)", -800.0, "exp(800) is too large for a float. (1 + tanh(v/2)) / 2 is "
         "the same number."),
        (alone, "s(800)", 800.0, slope),
    ):  # fmt: skip
        value, grads = _autograd(lambda v, e=expression: e(v, torch.sigmoid), x)
        cases.append(Case((expression, x), (value, *grads), hint, shown))
    return exercise("sigmoid_op", run if callable(answer) else answer, cases)


def engine_gradients(answer, Value) -> bool:
    """gradients(root, leaves) -> d root / d leaf for each leaf; every .grad is left alone."""

    def run(expression, *numbers):
        leaves = [Value(x) for x in numbers]
        found = answer(expression(*leaves), leaves)
        if found is None or found is Ellipsis:
            return None
        if any(leaf.grad for leaf in leaves):
            raise ValueError("leave .grad as it is: keep the sums in a dictionary of your own")
        return tuple(found)

    def two_users(a, b):
        u = a * b
        return u.tanh() * 2 + (u + a) ** 2

    def ladder(a, b):  # each node is used by the next two: a wrong order gives a wrong number
        for _ in range(6):
            a, b = a * b + a, a
        return a - b

    sums = "A node that is used several times adds up what comes from each use: += and not =."
    cases = []
    for expression, shown, numbers, hint in (
        (lambda a, b: a * b, "a · b", (2.0, 3.0), "d(ab)/da is b: local times the gradient of "
         "the result, which starts as 1."),
        (lambda a, b: a * a * a + b, "a · a · a + b", (2.0, 1.0), sums),
        (two_users, "u = ab, tanh(u) · 2 + (u + a)²", (0.3, -0.7), sums),
        (ladder, "six steps a, b = ab + a, a; then a − b", (0.4, 0.9), "Pass a node's gradient "
         "on only when all of its children have given theirs: run backwards through "
         "topological_order(root)."),
        (lambda a, b: a.exp(), "exp(a), b unused", (0.5, 2.0), "root does not depend on b: 0.0."),
    ):  # fmt: skip
        _, grads = _autograd(expression, *numbers)
        cases.append(Case((expression, *numbers), tuple(grads), hint, shown))
    return exercise("engine_gradients", run if callable(answer) else answer, cases)


def repaired_backward(answer) -> bool:
    """repaired_backward(delta, inputs, zs, weights, f_prime) -> [(dW, db), ...] of each layer."""
    hints = {
        "one layer, tanh": "dC/dW is deltaᵀ @ inputs, and dC/db is delta summed over the batch: "
        "the 1/B is in delta already.",
        "two layers, tanh": "The step down is (delta @ W) * f′(z): look at what f′ is evaluated "
        "at, and which layer's z it is.",
        "four layers, tanh": "Each step uses the W of the layer above and the z of its own layer.",
        "three layers, ReLU": "For ReLU f′(z) and f′(a) are the same; here something else is off.",
    }
    sizes = ((3, 2), (4, 3, 2), (5, 4, 4, 3, 2), (4, 6, 5, 3))
    cases = []
    for (shown, hint), widths in zip(hints.items(), sizes, strict=True):
        relu = shown.endswith("ReLU")
        inputs, expected = _network(widths, torch.relu if relu else torch.tanh)
        slope = (lambda z: (z > 0) * 1.0) if relu else (lambda z: 1 - np.tanh(z) ** 2)
        cases.append(Case((*inputs, slope), expected, hint, shown))

    def run(*arguments):
        found = answer(*arguments)
        if found is None or found is Ellipsis:
            return None
        return tuple(part for layer in found for part in layer)

    return exercise("repaired_backward", run if callable(answer) else answer, cases)


def leaky_std(answer) -> bool:
    """leaky_std(n_in, slope) -> the standard deviation that keeps the size of z."""
    hint = "E[f²] = ½ (1 + s²) E[z²]; n_in σ² E[f²] = E[z²]; and the answer is σ, not σ²."
    cases = [
        Case((n, s), nn.init.calculate_gain("leaky_relu", s) / n**0.5, hint, f"{n} inputs, s = {s}")
        for n, s in ((100, 0.0), (50, 1.0), (784, 0.01), (256, 0.2))
    ]
    return exercise("leaky_std", answer, cases)


def _autograd(expression, *numbers) -> tuple[float, list[float]]:
    """The expression's value and its gradients by each number, in float64."""
    leaves = [torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in numbers]
    result = expression(*leaves)
    grads = torch.autograd.grad(result, leaves, allow_unused=True)
    return result.item(), [0.0 if g is None else g.item() for g in grads]


def _network(widths, f):
    """The arguments of `backward` for a random network, and all gradients by autograd."""
    generator = torch.Generator().manual_seed(sum(widths))
    params = [
        torch.randn(*shape, generator=generator, dtype=torch.float64, requires_grad=True)
        for n_in, n_out in pairwise(widths)
        for shape in ((n_out, n_in), (n_out,))
    ]
    a = torch.randn(6, widths[0], generator=generator, dtype=torch.float64)
    y = torch.randint(widths[-1], (6,), generator=generator)
    inputs, zs = [], []
    for W, b in zip(params[::2], params[1::2], strict=True):
        inputs.append(a.detach().numpy())
        z = F.linear(a, W, b)
        zs.append(z.detach().numpy())
        a = f(z)
    delta = (z.softmax(1) - F.one_hot(y, widths[-1])).detach().numpy() / 6
    expected = torch.autograd.grad(F.cross_entropy(z, y), params)
    weights = [W.detach().numpy() for W in params[::2]]
    return (delta, inputs, zs, weights), tuple(expected)
