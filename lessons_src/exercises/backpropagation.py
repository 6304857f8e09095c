"""Exercises of lesson 03: two paths, the engine, backpropagation, leaky ReLU."""

import math
import operator
from itertools import pairwise

import torch
from torch import nn

from lessons_src.exercises import exercise


def two_paths_with(df_da, df_db):
    """A wrong two_paths, from its derivatives; v = ab + b."""

    def answer(a, b):
        v = a * b + b
        return v**2, df_da(a, b, v), df_db(a, b, v)

    return answer


@exercise(
    inputs=lambda draw: (
        draw.choice(draw.integer(-3, 3), draw.uniform(-3, 3)),
        draw.choice(draw.integer(-3, 3), draw.uniform(-3, 3)),
    ),
    mistakes={
        "b reaches v = ab + b along two paths: through ab, and directly. Add both.": (
            two_paths_with(lambda a, b, v: 2 * v * b, lambda a, b, v: 2 * v * a)
        ),
        "The outer square gives a factor 2v, not v.": (
            two_paths_with(lambda a, b, v: v * b, lambda a, b, v: v * (a + 1))
        ),
    },
    hint="With v = ab + b it is v², 2v dv/da and 2v dv/db; b reaches v on two paths.",
)
def two_paths(a, b):
    """f = (a b + b)² and its derivatives with respect to a and b."""
    leaves = [
        torch.tensor(float(x), dtype=torch.float64, requires_grad=True) for x in (a, b)
    ]
    f = (leaves[0] * leaves[1] + leaves[1]) ** 2
    return f.item(), *(grad.item() for grad in torch.autograd.grad(f, leaves))


def value_and_slopes(answer, x, Value):
    """s(x), its slope, and the slope of s(2x)² + x by way of the answer: an `observe`."""
    alone, v = Value(x), Value(x)
    s = answer(alone)
    if not isinstance(s, Value):
        return s
    s.backward()
    inner = answer(v * 2)
    (inner * inner + v).backward()
    return s.data, alone.grad, v.grad


def sigmoid(v):
    """The sigmoid of the number in v."""
    return (1 + math.tanh(v.data / 2)) / 2


def sigmoid_with(slope):
    """A wrong sigmoid_op, from its local derivative slope(s, v)."""
    return lambda v: type(v)(sigmoid(v), ((v, slope(sigmoid(v), v)),))


@exercise(
    inputs=lambda draw: (round(draw.uniform(-1, 1) * draw.size, 1),),
    observe=value_and_slopes,
    cases={
        "exp(800) is too large for a float. (1 + tanh(v/2)) / 2 is the same number.": (
            -800.0,
        ),
        "At 800 the sigmoid is 1, and flat.": (800.0,),
    },
    mistakes={
        "The local derivative is s (1 - s), where s is the sigmoid's value.": (
            sigmoid_with(lambda s, v: s)
        ),
        "Name the parent, so that the gradient can flow on: ((v, local),).": (
            lambda v: type(v)(sigmoid(v))
        ),
        "Return a new Value(data, ((parent, local),), name), not a number.": sigmoid,
        "exp(800) is too large for a float: (1 + tanh(v/2)) / 2 is the same number.": (
            lambda v: type(v)(1 / (1 + math.exp(-v.data)), sigmoid_op.solution(v).parents)
        ),
    },
    hint="The value is s = (1 + tanh(v/2)) / 2, the parent v itself, the local "
    "derivative s (1 - s): backward() multiplies it by what comes from above.",
)
def sigmoid_op(v):
    """A Value with the sigmoid of v, its parent and its local derivative."""
    return ((v / 2).tanh() + 1) / 2


OPERATORS = {"+": operator.add, "-": operator.sub, "*": operator.mul}


def drawn_graph(draw):
    """Steps such as "c = a * b", whose last is the root, and the leaves a and b."""
    names = "abcdefghi"[: 2 + draw.size]
    steps = []
    for k in range(2, len(names)):
        left, right = (names[draw.integer(max(0, k - 3), k - 1)] for _ in range(2))
        steps.append(f"{names[k]} = {left} {draw.choice(*OPERATORS)} {right}")
    return "; ".join(steps), [round(draw.uniform(-1.5, 1.5), 1) for _ in range(2)]


def gradients_and_grads(answer, steps, numbers, Value):
    """What the answer gives for the graph of the steps, and all .grad: an `observe`."""
    nodes = {name: Value(x) for name, x in zip("ab", numbers, strict=True)}
    for step in steps.split("; "):
        name, _, left, sign, right = step.split()
        nodes[name] = OPERATORS[sign](nodes[left], nodes[right])
    for node in nodes.values():
        node.grad = 0.25  # left by an earlier backward(), say
    gradients = answer(nodes[name], [nodes["a"], nodes["b"]])
    if not isinstance(gradients, list | tuple):
        return gradients
    return list(gradients), [node.grad for node in nodes.values()]


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


@exercise(
    inputs=drawn_graph,
    observe=gradients_and_grads,
    cases={
        "Here each node is used by the next two.": (
            "c = a * b; d = c + a; e = d * a; f = e + d; g = f * d; h = g + f",
            [0.4, 0.9],
        ),
        "root does not depend on b: its gradient is 0.": ("c = a * a", [0.5, 2.0]),
    },
    mistakes={
        "A node that is used twice adds up what comes from each use: += and not =.": (
            gradients_with(add=False)
        ),
        "Pass a node's gradient on only when all of its children have given theirs: run "
        "backwards through topological_order(root).": gradients_with(order=as_met),
        "Leave .grad as it is, and what it holds already: keep sums in a dictionary.": (
            by_backward
        ),
        "d root / d root is 1: start from there.": lambda root, leaves: [
            0.0 for _ in leaves
        ],
    },
    hint="d root / d root is 1; each parent adds local * total[node] to what it has.",
)
def engine_gradients(root, leaves):
    """d root / d leaf for each leaf: the sum over all paths of the locals' products."""

    def slope(node, leaf):
        paths = [local * slope(parent, leaf) for parent, local in node.parents]
        return sum(paths) + float(node is leaf)

    return [slope(root, leaf) for leaf in leaves]


def drawn_network(draw):
    """The arguments of `backward` for a random network; f is given by its name."""
    f = draw.choice("tanh", "sigmoid", "relu")
    widths = [draw.integer(1, 2 + draw.size) for _ in range(draw.integer(2, 4))]
    weights = [draw.normal(n_out, n_in) for n_in, n_out in pairwise(widths)]
    inputs, zs = [draw.normal(draw.size, widths[0])], []
    for W in weights:
        zs.append(inputs[-1] @ W.T + draw.normal(len(W)))
        inputs.append(getattr(torch, f)(zs[-1]))
    return draw.normal(*zs[-1].shape), inputs[:-1], zs, weights, f


def derivative(f):
    """f' for NumPy arrays, of torch's function with this name."""

    def f_prime(z):
        leaf = torch.tensor(z, requires_grad=True)
        return torch.autograd.grad(getattr(torch, f)(leaf).sum(), leaf)[0].numpy()

    return f_prime


def as_tensors(value):
    """NumPy arrays as tensors, in lists and tuples as well."""
    if isinstance(value, list | tuple):
        return [as_tensors(part) for part in value]
    return torch.as_tensor(value) if hasattr(value, "__array__") else value


def in_numpy(answer, delta, inputs, zs, weights, f):
    """What the answer gives for NumPy arrays, as the page has them: an `observe`."""
    arrays = [[x.numpy() for x in given] for given in (inputs, zs, weights)]
    return as_tensors(answer(delta.numpy(), *arrays, derivative(f)))


def backward_with(
    weight=lambda delta, a: delta.T @ a,
    bias=lambda delta: delta.sum(0),
    slope=lambda f_prime, inputs, zs, layer: f_prime(zs[layer - 1]),
):
    """Backpropagation, with a part of it replaced."""

    def answer(delta, inputs, zs, weights, f_prime):
        grads = []
        for layer in reversed(range(len(weights))):
            grads.insert(0, (weight(delta, inputs[layer]), bias(delta)))
            if layer > 0:
                delta = (delta @ weights[layer]) * slope(f_prime, inputs, zs, layer)
        return grads

    return answer


@exercise(
    inputs=drawn_network,
    observe=in_numpy,
    mistakes={
        "Look at what f′ is evaluated at: for ReLU f′(z) and f′(a) are the same.": (
            backward_with(slope=lambda f_prime, inputs, zs, layer: f_prime(inputs[layer]))
        ),
        "The step down is (delta @ W) * f′(z): the slope is missing.": (
            backward_with(slope=lambda f_prime, inputs, zs, layer: 1.0)
        ),
        "dC/db is delta summed over the batch: the 1/B is in delta already.": (
            backward_with(bias=lambda delta: delta.mean(0))
        ),
        "dC/dW is deltaᵀ @ inputs, with this sign.": (
            backward_with(weight=lambda delta, a: -delta.T @ a)
        ),
    },
    hint="dC/dW is deltaᵀ @ inputs, dC/db is delta summed over the batch, and the step "
    "down is (delta @ W) * f′(z): the W of the layer above, and the z of the layer below.",
)
def repaired_backward(delta, inputs, zs, weights, f_prime):
    """[(dW, db), ...] of each layer, first layer first."""
    return backward_with()(delta, inputs, zs, weights, f_prime)


@exercise(
    inputs=lambda draw: (
        draw.integer(1, 20 * draw.size**2),
        draw.choice(0.0, 1.0, draw.uniform()),
    ),
    mistakes={
        "The negative half counts too: E[f²] = ½ (1 + s²) E[z²].": (
            lambda n_in, slope: math.sqrt(2 / n_in)
        ),
        "The answer is σ, not σ².": lambda n_in, slope: 2 / ((1 + slope**2) * n_in),
        "The slope is squared with z: 1 + s², not 1 + s.": (
            lambda n_in, slope: math.sqrt(2 / ((1 + slope) * n_in))
        ),
    },
    hint="E[f²] = ½ (1 + s²) E[z²]; n_in σ² E[f²] = E[z²]; and the answer is σ, not σ².",
)
def leaky_std(n_in, slope):
    """The standard deviation of the weights that keeps the size of z."""
    return nn.init.calculate_gain("leaky_relu", slope) / math.sqrt(n_in)
