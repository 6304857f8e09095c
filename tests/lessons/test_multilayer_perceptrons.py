"""The lesson on multilayer perceptrons: its equations, its functions and its loop.

What a boxed equation says, written out in float64, is what torch gives.
"""

import math
from functools import partial
from itertools import product

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lesson_source import close, definitions, drawn
from torch import nn

from lessons_src import train
from lessons_src.data import Split

LESSON = "multilayer_perceptrons"
FUNCTIONS = (
    "xor_clouds",
    "xor_by_hand",
    "collapse",
    "hinges",
    "hinge_network",
    "relu",
    "forward",
    "mlp",
    "train_by_hand",
    "evaluate_by_hand",
)


@pytest.fixture(scope="module")
def page():
    """What the lesson defines, as a namespace."""
    return definitions(LESSON, *FUNCTIONS)


def split_of(n=130, seed=0):
    """n small images with labels that can be learned."""
    images = torch.randn(n, 1, 4, 4, generator=torch.Generator().manual_seed(seed))
    return Split(images, images.flatten(1)[:, :3].argmax(1))


def network(seed=0, dropout=False):
    torch.manual_seed(seed)
    layers = [nn.Flatten(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 3)]
    if dropout:
        layers.insert(3, nn.Dropout(0.5))
    return nn.Sequential(*layers)


# Boxed equations ------------------------------------------------------------------------


def test_eq_xor_corners():
    """Opposite corners of the square have the same sum of scores, 2b, for every affine
    score."""
    w, b = drawn((1000, 2), (1000,))

    def s(*x):
        return w @ torch.tensor(x, dtype=torch.float64) + b

    close(s(1, 1) + s(-1, -1), 2 * b)
    close(s(1, -1) + s(-1, 1), 2 * b)


def test_eq_collapse():
    """Two linear layers are one, of weight W2 W1 and bias b1 W2^T + b2."""
    x, W1, b1, W2, b2 = drawn((7, 4), (5, 4), (5,), (3, 5), (3,))
    close(x @ (W2 @ W1).T + (b1 @ W2.T + b2), F.linear(F.linear(x, W1, b1), W2, b2))


def zigzag(x, knots, values):
    """The boxed sum, term by term."""
    n = len(knots) - 1
    m = [(values[i + 1] - values[i]) / (knots[i + 1] - knots[i]) for i in range(n)]
    total = values[0] + m[0] * max(0.0, x - knots[0])
    return total + sum((m[i] - m[i - 1]) * max(0.0, x - knots[i]) for i in range(1, n))


def test_eq_hinges():
    """The sum of hinges is linear interpolation: through all points, straight between
    them."""
    rng = np.random.default_rng(0)
    for n in (1, 2, 7):
        knots, values = np.sort(rng.standard_normal(n + 1)), rng.standard_normal(n + 1)
        x = np.concatenate([knots, rng.uniform(knots[0], knots[-1], 50)])
        close([zigzag(v, knots, values) for v in x], np.interp(x, knots, values))


def test_eq_hinge_error():
    """The error stays under width^2 / 8 times the largest |g''|, and comes near to it."""
    functions = {
        "sine": (np.sin, 1.0),
        "exponential": (np.exp, math.e**2),
        "square, where the bound is reached": (np.square, 2.0),
    }
    x = np.linspace(0, 2, 4001)
    for name, (g, curvature) in functions.items():
        for n in (1, 3, 10, 40):
            knots = np.linspace(0, 2, n + 1)
            bound = (2 / n) ** 2 / 8 * curvature
            error = np.abs(g(x) - np.interp(x, knots, g(knots))).max()
            assert error <= bound * (1 + 1e-9), name
        assert error >= 0.9 * bound, name


def test_eq_mlp(page):
    """ReLU of an affine map in every layer but the last: what nn.Sequential computes."""
    model = page["mlp"](5, 7, 6, 3).double()
    a = x = drawn((4, 5))
    for layer in (model[1], model[3]):
        a = torch.maximum(torch.zeros(()).double(), a @ layer.weight.T + layer.bias)
    close(a @ model[5].weight.T + model[5].bias, model(x))


@pytest.mark.parametrize(
    "sizes", [(784, 100, 10), (784, 512, 512, 10), (3, 2), (5, 4, 3, 2)]
)
def test_eq_parameters(page, sizes):
    """The sum of (inputs + 1) x outputs is the count of the module's numbers."""
    count = sum((sizes[k - 1] + 1) * sizes[k] for k in range(1, len(sizes)))
    assert count == sum(p.numel() for p in page["mlp"](*sizes).parameters())


def test_published_parameter_counts_are_those_of_the_published_networks(page):
    """79,510 for R5 and 669,706 for R2."""
    for sizes, published in (((784, 100, 10), 79_510), ((784, 512, 512, 10), 669_706)):
        assert sum(p.numel() for p in page["mlp"](*sizes).parameters()) == published


# The page's functions -------------------------------------------------------------------


def test_relu_equals_torch(page):
    """Values and gradients, at 0 and at infinity."""
    z = torch.tensor([0.0, -0.0, 1e-30, 1.0, -1.0, 3e38, -3e38, torch.inf, -torch.inf])
    for dtype in (torch.float32, torch.float64):
        u = z.to(dtype).requires_grad_()
        ours, theirs = page["relu"](u), F.relu(u)
        assert torch.equal(ours, theirs)
        grads = [torch.autograd.grad(v.sum(), u)[0] for v in (ours, theirs)]
        assert torch.equal(*grads)


def test_forward_equals_modules(page):
    """Values and gradients of every weight, for one, two and three layers."""
    for sizes in ((5, 3), (5, 7, 3), (5, 7, 6, 3)):
        model, x = page["mlp"](*sizes).double(), drawn((4, 5)).requires_grad_()
        layers = [(m.weight, m.bias) for m in model if isinstance(m, nn.Linear)]
        inputs = [x, *(p for layer in layers for p in layer)]
        ours, theirs = page["forward"](x, layers), model(x)
        close(ours, theirs)
        weights = drawn((4, 3))
        grads = [torch.autograd.grad((v * weights).sum(), inputs) for v in (ours, theirs)]
        for ours, theirs in zip(*grads, strict=True):
            close(ours, theirs)


def test_forward_bears_large_inputs(page):
    """Inputs of 1e18 and of 0 give what the modules give, infinities included."""
    model = page["mlp"](4, 6, 2)
    layers = [(m.weight, m.bias) for m in model if isinstance(m, nn.Linear)]
    for scale in (0.0, 1e18, 1e38):
        x = scale * torch.tensor([[1.0, -1.0, 2.0, 0.5]])
        torch.testing.assert_close(page["forward"](x, layers), model(x), equal_nan=True)


def test_mlp_takes_images_and_ends_in_logits(page):
    """(B, 1, 28, 28) gives (B, 10); no activation behind the last layer; the
    activation is used."""
    model = page["mlp"](784, 20, 10, activation=nn.Tanh)
    assert model(torch.zeros(2, 1, 28, 28)).shape == (2, 10)
    assert [type(m) for m in model] == [nn.Flatten, nn.Linear, nn.Tanh, nn.Linear]


def test_xor_by_hand_is_right(page):
    """All corners, and every point of the clouds that lies within 1 of the line's
    right side."""
    for x in product((-1.0, 1.0), repeat=2):
        _, score = page["xor_by_hand"](torch.tensor([x]))
        assert (score.item() > 0) == (x[0] != x[1])
    points, labels = page["xor_clouds"]()
    hidden, score = page["xor_by_hand"](points.double())
    close(score, 1 - points.double().sum(1).abs())
    assert ((score > 0) == labels).double().mean() > 0.95 and bool((hidden >= 0).all())


def test_xor_clouds_are_balanced_and_the_same_each_time(page):
    """Fifty points a corner, labels by corner, from a generator of its own."""
    points, labels = page["xor_clouds"](n=20)
    again, _ = page["xor_clouds"](n=20)
    assert torch.equal(points, again) and labels.bincount().tolist() == [40, 40]
    assert points.dtype == torch.float32 and labels.dtype == torch.int64


def test_page_collapse_equals_layers(page):
    """On layers of different widths, in float64."""
    first, second, x = nn.Linear(4, 6).double(), nn.Linear(6, 3).double(), drawn((5, 4))
    W, b = page["collapse"](first.weight, first.bias, second.weight, second.bias)
    close(x @ W.T + b, second(first(x)))


def test_hinge_network_interpolates(page):
    """Equal to numpy's linear interpolation for uneven knots, and constant before the
    first."""
    knots, values = drawn((9,)).sort().values, drawn((9,), seed=1)
    x = torch.cat(
        [knots, torch.linspace(knots[0].item(), knots[-1].item(), 300).double()]
    )
    close(page["hinge_network"](x, knots, values), np.interp(x, knots, values))
    close(page["hinge_network"](knots[:1] - 5, knots, values), values[:1])
    assert [len(p) for p in page["hinges"](knots, values)[:2]] == [
        8,
        8,
    ]  # n units, n + 1 points


def both_loops(page, fit, **options):
    """Weights, losses and accuracies of the page's loop and of `fit`, from the same
    start."""
    results = []
    seed = options.pop("seed", 0)
    for loop in (page["train_by_hand"], fit):
        model = network(dropout=True)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.5)
        generator = torch.Generator().manual_seed(seed)
        torch.manual_seed(7)  # for dropout
        measured = loop(model, split_of(), 3, optimizer, generator=generator, **options)
        if isinstance(measured, train.History):
            measured = measured.loss, measured.accuracy
        results.append((*measured, [p.tolist() for p in model.parameters()]))
    return results


@pytest.mark.parametrize("options", [{}, {"batch_size": 7, "seed": 3}])
def test_train_by_hand_is_fit(page, options):
    """Losses, accuracies and weights to the last digit, short last batch and dropout
    included."""
    by_hand, by_fit = both_loops(page, partial(train.fit, progress=False), **options)
    assert by_hand == by_fit


@pytest.mark.parametrize("batch_size", [1, 64, 130, 1000])
def test_evaluate_by_hand_is_evaluate(page, batch_size):
    """Mean loss and accuracy over the whole split, in evaluation mode, for any batch
    size."""
    model, split = network(dropout=True), split_of()
    loss, share = page["evaluate_by_hand"](model.train(), split, batch_size)
    assert (loss, share) == train.evaluate(model, split, batch_size=batch_size)
    model.eval()
    close(loss, F.cross_entropy(model(split.images), split.labels).item(), 1e-5)
    close(share, train.accuracy(model(split.images), split.labels), 1e-6)
