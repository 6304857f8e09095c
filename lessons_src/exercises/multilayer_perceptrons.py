"""Exercises of the lesson on multilayer perceptrons."""

from itertools import product

import torch
import torch.nn.functional as F
from torch import nn

from lessons_src.exercises import exercise
from lessons_src.exercises.forbidden import without_modules


def draw_sizes(draw):
    """Layer sizes, input first; at size 1 there is no hidden layer."""
    return [draw.integer(1, 3 + draw.size) for _ in range(1 + draw.integer(1, draw.size))]


@exercise(
    inputs=lambda draw: (draw_sizes(draw),),
    observe=without_modules,
    cases={
        "For 784, 100 and 10 the answer is 79,510.": ([784, 100, 10],),
        "3,000,550,010 is too large for 32 bits: use Python's integers.": (
            [60_000, 50_000, 10],
        ),
    },
    mistakes={
        "Has the last layer its biases?": lambda sizes: count.solution(sizes) - sizes[-1],
        "Where are the biases?": lambda sizes: count.solution(sizes) - sum(sizes[1:]),
        "The inputs have no biases.": lambda sizes: count.solution(sizes) + sizes[0],
    },
    hint="There are as many layers as neighbouring pairs of sizes: any number, one too. "
    "Each output of a layer has a weight for every input, and a bias.",
)
def count(sizes):
    """The parameters of an MLP, weights and biases."""
    pairs = zip(sizes[:-1], sizes[1:], strict=True)
    layers = [nn.Linear(*pair, device="meta") for pair in pairs]
    return sum(p.numel() for layer in layers for p in layer.parameters())


def draw_layers(draw):
    """[(W, b), …] of linear layers that fit behind one another."""
    sizes, normal = draw_sizes(draw), draw.normal
    pairs = zip(sizes[:-1], sizes[1:], strict=True)
    return [(normal(n_out, n_in, scale=0.5), normal(n_out)) for n_in, n_out in pairs]


@exercise(
    inputs=lambda draw: (draw_layers(draw),),
    mistakes={
        "The second layer's matrix stands on the left: W₂W₁.": lambda layers: (
            collapse_all.solution(layers[::-1])
        ),
        "The first bias goes through the second layer too: b₁W₂ᵀ + b₂.": lambda layers: (
            collapse_all.solution([(W, 0 * b) for W, b in layers[:-1]] + layers[-1:])
        ),
        "Go on with all layers, not the first two only.": lambda layers: (
            collapse_all.solution(layers[:2])
        ),
    },
    hint="Value 1 is W, value 2 is b. Fold each layer into what the ones before it have "
    "become: W₂W₁ and b₁W₂ᵀ + b₂. One layer alone is its own answer.",
)
def collapse_all(layers):
    """The one linear layer that does what the layers do in a row."""
    D = layers[0][0].shape[1]
    x = torch.cat([torch.zeros(1, D), torch.eye(D)]).double()  # 0, then each axis
    for W, b in layers:
        x = F.linear(x, W, b)
    return (x[1:] - x[0]).T, x[0]


def odd_inputs(answer):
    """The shapes of the network, and the inputs for which it answers "odd"."""
    made = answer()
    if not isinstance(made, tuple | list):
        return made
    W1, b1, W2, b2 = (torch.as_tensor(p).double() for p in made)
    bits = torch.tensor(list(product((0.0, 1.0), repeat=3))).double()  # (8, 3)
    outputs = F.linear(F.relu(F.linear(bits, W1, b1)), W2, b2).flatten()  # (8,)
    shapes = [str(tuple(p.shape)) for p in (W1, b1, W2, b2)]
    odd = [str(tuple(b)) for b in bits[outputs > 0.5].int().tolist()]
    return f"shapes {', '.join(shapes)}", f"above 0.5 for {', '.join(odd)}"


def network_of_sum(knots, weights, bias=0.0):
    """An MLP whose hidden units see the sum of the inputs, each from its knot on."""
    b1 = -torch.tensor(knots)
    return torch.ones(len(knots), 3), b1, torch.tensor([weights]), torch.tensor([bias])


@exercise(
    cases={"As a function of the sum u, 0 to 3, the output should be 0, 1, 0, 1.": ()},
    mistakes={
        "From u = 2 on it must rise again: a third hinge.": lambda: network_of_sum(
            [0.0, 1.0, 2.0], [1.0, -2.0, 0.0]
        ),
        "This answers the opposite question: is the sum even?": lambda: network_of_sum(
            [0.0, 1.0, 2.0], [-1.0, 2.0, -2.0], bias=1.0
        ),
        "Three hidden units are enough.": lambda: network_of_sum(
            [0.0, 1.0, 2.0, 3.0], [1.0, -2.0, 2.0, -2.0]
        ),
    },
    observe=odd_inputs,
)
def parity_network():
    """Three hidden ReLU units whose output is above 0.5 for an odd sum."""
    return network_of_sum([0.0, 1.0, 2.0], [1.0, -2.0, 2.0])


def draw_epoch(draw):
    """Examples, a network of two layers, lr, and a batch size, maybe larger than N."""
    N, D = draw.integer(1, 3 * draw.size), draw.integer(1, 2 + draw.size)
    H, K = draw.integer(1, 1 + draw.size), draw.integer(2, 3 + draw.size)
    weights = draw.normal(H, D), draw.normal(H), draw.normal(K, H), draw.normal(K)
    lr, batch_size = draw.uniform(0.1, 1), draw.integer(1, N + 1)
    return draw.normal(N, D), draw.labels(N, K), *weights, lr, batch_size


def without_short_batch(x, y, *others):
    """`one_epoch` over whole batches only."""
    whole = len(x) // others[-1] * others[-1]
    if whole == 0:
        return *others[:4], 0.0
    *weights, mean = one_epoch.solution(x[:whole], y[:whole], *others)
    return *weights, mean * whole / len(x)


@exercise(
    inputs=draw_epoch,
    observe=without_modules,
    cases={
        "The hidden units are max(0, z), also where z is large.": (
            torch.tensor([[20.0], [-3.0], [0.5]]).double(),
            torch.tensor([0, 1, 1]),
            torch.tensor([[2.0], [-1.0]]).double(),
            torch.tensor([0.5, 0.1]).double(),
            torch.tensor([[0.1, 0.2], [0.2, -0.1]]).double(),
            torch.tensor([0.0, 0.3]).double(),
            0.01,
            2,
        )
    },
    mistakes={
        "The old gradients were still there at the second step: clear them.": (
            lambda *given: one_epoch.solution(*given, clear=False)
        ),
        "The last batch is short: it is not dropped.": without_short_batch,
        "In the epoch's mean a short batch weighs as much as its examples.": (
            lambda *given: one_epoch.solution(*given, weigh=False)
        ),
        "Go down, not up: p ← p − lr · gradient.": (
            lambda *given: one_epoch.solution(*given[:-2], -given[-2], given[-1])
        ),
        "The step has the rate that is given: lr.": (
            lambda *given: one_epoch.solution(*given[:-2], 0.5, given[-1])
        ),
    },
    hint="One batch is one step: p ← p − lr · gradient of the batch's mean loss. Value 5 "
    "is the mean of the losses, each measured before its step.",
    trials=20,
)
def one_epoch(x, y, W1, b1, W2, b2, lr, batch_size, clear=True, weigh=True):
    """Plain SGD once over the examples; the trained tensors and the mean loss."""
    parameters = [p.clone().requires_grad_() for p in (W1, b1, W2, b2)]
    losses, sizes = [], []
    for xb, yb in zip(x.split(batch_size), y.split(batch_size), strict=True):
        hidden = F.relu(F.linear(xb, *parameters[:2]))
        loss = F.cross_entropy(F.linear(hidden, *parameters[2:]), yb)
        loss.backward()
        with torch.no_grad():
            for p in parameters:
                p -= lr * p.grad
                p.grad = None if clear else p.grad
        losses.append(loss.item())
        sizes.append(len(yb) if weigh else 1)
    mean = sum(n * loss for n, loss in zip(sizes, losses, strict=True)) / sum(sizes)
    return *(p.detach() for p in parameters), mean
