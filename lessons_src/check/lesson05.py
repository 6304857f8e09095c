"""Checkers of lesson 05's exercises: multilayer perceptrons."""

from itertools import product

import torch
import torch.nn.functional as F
from torch import nn

from lessons_src.check import Case, exercise


def _drawn(*shapes, seed=5):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(*shape, dtype=torch.float64, generator=generator) for shape in shapes]


def count(answer) -> bool:
    """count(sizes): the parameters of an MLP, weights and biases."""
    hints = {
        (784, 100, 10): "Is there a bias for every output of every layer, the last one too, and "
        "none for the inputs?",
        (784, 512, 512, 10): "There are as many layers as neighbouring pairs of sizes.",
        (3, 2): "With no hidden layer there is one layer left, not none.",
        (5, 4, 3, 2, 1): "Any number of layers: no number of them may be written into the code.",
    }
    cases = []
    for sizes, hint in hints.items():
        layers = [nn.Linear(*pair) for pair in zip(sizes[:-1], sizes[1:], strict=True)]
        total = sum(p.numel() for layer in layers for p in layer.parameters())
        cases.append(Case((list(sizes),), total, hint))
    return exercise("count", answer, cases)


def collapse_all(answer) -> bool:
    """collapse_all(layers): the one linear layer that does what they do in a row."""
    hints = (
        "One layer alone is its own answer.",
        "The second layer's matrix stands on the left: W₂W₁. In the other order the shapes "
        "do not fit here, or do by chance.",
        "The first bias goes through the second layer too: b₁W₂ᵀ + b₂.",
        "Go on with all layers, each folded into what the ones before it have become.",
    )
    cases = []
    for sizes, hint in zip([(3, 2), (4, 3, 2), (3, 3, 3), (3, 5, 4, 2)], hints, strict=True):
        layers, eye, zero = [], torch.eye(sizes[0]).double(), torch.zeros(1, sizes[0]).double()
        for n_in, n_out in zip(sizes[:-1], sizes[1:], strict=True):
            layers.append(tuple(_drawn((n_out, n_in), (n_out,), seed=n_in + n_out)))
            eye, zero = (F.linear(x, *layers[-1]) for x in (eye, zero))
        # What the layers make of 0 is the bias; what they make of each axis gives the weights.
        expected = ((eye - zero).T, zero[0])
        shown = f"{len(layers)} layers, sizes {' → '.join(map(str, sizes))}"
        cases.append(Case((layers,), expected, f"Value 1 is W, value 2 is b. {hint}", shown))
    return exercise("collapse_all", answer, cases)


def activity(answer) -> bool:
    """activity(x, W, b): how many ReLU units are dead, and how many never bend."""
    x, W = _drawn((6, 3), (4, 3))
    x_many, W_many, b_many = _drawn((40, 5), (30, 5), (30,))
    inputs = [
        (x, W, torch.tensor([-99.0, 99.0, -99.0, 0.0]).double(),
         "A unit is dead if it is zero for every example: go along the examples, dimension 0."),
        (x, W, torch.zeros(4).double(),
         "Zero for some examples and above zero for others is neither dead nor linear."),
        (torch.zeros(2, 3).double(), W, torch.zeros(4).double(),
         "A sum of exactly 0 gives 0: such a unit counts as zero there."),
        (x_many, W_many, 4 * b_many, "Do not forget the bias: the sum is xWᵀ + b."),
    ]  # fmt: skip
    cases = []
    for *given, hint in inputs:
        hidden = F.relu(F.linear(*given))
        expected = ((hidden.amax(0) == 0).sum().item(), (hidden.amin(0) > 0).sum().item())
        shown = f"x {tuple(given[0].shape)}, W {tuple(given[1].shape)}"
        cases.append(Case(tuple(given), expected, f"Value 1: dead, value 2: linear. {hint}", shown))
    return exercise("activity", answer, cases)


def one_epoch(answer) -> bool:
    """one_epoch(x, y, W1, b1, W2, b2, lr, batch_size): plain SGD once over the examples."""
    hints = (
        "One batch is one step: p ← p − lr · gradient of the batch's mean loss.",
        "If the first step is right and the second is not, the old gradients were still there: "
        "clear them. Value 5, the loss, is measured before each step.",
        "The last batch is short: it is not dropped, its loss is the mean over its own examples, "
        "and in the epoch's mean it weighs as many examples as it has.",
    )
    x, W1, b1, W2, b2 = _drawn((10, 4), (6, 4), (6,), (3, 6), (3,))
    y = torch.arange(10) % 3
    cases = []
    for (n, size), hint in zip([(8, 8), (8, 4), (10, 4)], hints, strict=True):
        given = (x[:n], y[:n], W1, b1, W2, b2, 0.5, size)
        shown = f"{n} examples in batches of {size}, lr = 0.5"
        cases.append(Case(given, _reference_epoch(*given), hint, shown))
    return exercise("one_epoch", answer, cases)


def _reference_epoch(x, y, W1, b1, W2, b2, lr, batch_size):
    parameters = [nn.Parameter(p.clone()) for p in (W1, b1, W2, b2)]
    optimizer, total = torch.optim.SGD(parameters, lr=lr), 0.0
    for xb, yb in zip(x.split(batch_size), y.split(batch_size), strict=True):
        hidden = F.relu(F.linear(xb, *parameters[:2]))
        loss = F.cross_entropy(F.linear(hidden, *parameters[2:]), yb)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(yb)
    return *(p.detach() for p in parameters), total / len(y)


def parity_network(answer) -> bool:
    """parity_network(): three hidden ReLU units whose output is above 0.5 for an odd sum."""
    hint = (
        "Value 1 is the number of hidden units, value 2 whether the output is above 0.5. "
        "As a function of the sum s the output should be 0, 1, 0, 1 at s = 0, 1, 2, 3."
    )
    cases = [
        Case((list(bits),), (3, sum(bits) % 2 == 1), hint, f"x = {bits}")
        for bits in product((0, 1), repeat=3)
    ]

    def run(bits):
        made = answer()
        if made is None or made is Ellipsis:
            return None
        W1, b1, W2, b2 = (torch.as_tensor(p).double() for p in made)
        hidden = F.relu(F.linear(torch.tensor([bits]).double(), W1, b1))  # (1, H)
        return len(W1), F.linear(hidden, W2, b2).item() > 0.5

    return exercise("parity_network", run if callable(answer) else answer, cases)
