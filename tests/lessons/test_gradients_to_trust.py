"""Gradients to trust: the check, what autograd keeps, and depth, as the page states them.

Each test's docstring is the claim that it proves.
"""

import ast
import math
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lesson_source import cells, definitions

LESSON = "gradients_to_trust"
NUMPY = (
    "forward",
    "backward",
    "cross_entropy",
    "tanh_prime",
    "relu",
    "relu_prime",
    "sigmoid",
    "sigmoid_prime",
    "relative_error",
    "numerical_gradient",
    "new_network",
)


@pytest.fixture(scope="module")
def numpy():
    return definitions(LESSON, *NUMPY)


def test_eq_central_difference():
    """For f = exp the central difference is off by h²/6 f′′′, and by h⁴ beyond that."""
    rest = [
        (math.exp(1 + h) - math.exp(1 - h)) / (2 * h) - math.e - h**2 / 6 * math.e
        for h in (0.1, 0.05)
    ]
    assert rest[0] / rest[1] == pytest.approx(16, rel=0.01)


def test_eq_best_step():
    """h* is where truncation plus rounding error is least, and gives a good step in
    practice."""
    eps, f, f3 = 1.1e-16, 2.0, 5.0
    steps = np.geomspace(1e-8, 1e-2, 4001)
    total = steps**2 / 6 * f3 + eps * f / steps
    best = (3 * eps * abs(f) / abs(f3)) ** (1 / 3)
    assert steps[total.argmin()] == pytest.approx(best, rel=0.01)
    # in practice: exp at many points; the worst error at h* is less than at a hundredth
    # or 100 h*
    points, star = np.linspace(0, 1, 200), (3 * eps) ** (1 / 3)
    worst = [
        np.abs((np.exp(points + h) - np.exp(points - h)) / (2 * h) - np.exp(points)).max()
        for h in (star / 100, star, star * 100)
    ]
    assert worst[1] < worst[0] / 10 and worst[1] < worst[2] / 10


def test_eq_relative_error(numpy):
    """The code is the formula; 0 for equal, 1 for opposite vectors, and scale does not
    matter."""
    rng = np.random.default_rng(0)
    g, h = rng.normal(size=(2, 3, 4))
    by_hand = math.sqrt(((g - h) ** 2).sum()) / (
        math.sqrt((g**2).sum()) + math.sqrt((h**2).sum())
    )
    error = numpy["relative_error"]
    assert (
        error(g, h) == pytest.approx(by_hand) == pytest.approx(error(1e-9 * g, 1e-9 * h))
    )
    assert error(g, g) == 0 and error(g, -g) == 1 and error(0 * g, 0 * g) == 0


def mean_square(x):
    return (x**2).mean().item()


def test_eq_variance_forward():
    """z = W a has n σ² times the mean square of a, whatever the distribution of a."""
    generator = torch.Generator().manual_seed(0)
    a = torch.rand(300, generator=generator) + 0.5
    z = torch.randn(20000, 300, generator=generator) * 0.1 @ a
    assert mean_square(z) == pytest.approx(300 * 0.1**2 * mean_square(a), rel=0.03)


def test_eq_variance_backward():
    """delta = (delta W) f'(z) has n σ² E[f'²] times the mean square above, layers
    independent."""
    generator = torch.Generator().manual_seed(0)
    above = torch.randn(300, generator=generator) * 3
    slope = 1 - torch.randn(20000, generator=generator).tanh() ** 2
    delta = (above @ (torch.randn(300, 20000, generator=generator) * 0.1)) * slope
    expected = 300 * 0.1**2 * mean_square(slope) * mean_square(above)
    assert mean_square(delta) == pytest.approx(expected, rel=0.05)


def test_eq_sigmoid_bound():
    """s(1 - s) is autograd's derivative of the sigmoid; it is at most 1/4, reached at
    0."""
    z = torch.linspace(-30, 30, 6001, dtype=torch.float64, requires_grad=True)
    s = torch.sigmoid(z)
    (slope,) = torch.autograd.grad(s.sum(), z)
    torch.testing.assert_close(slope, (s * (1 - s)).detach())
    assert slope.max() <= 0.25 and slope[3000] == 0.25


def test_eq_xavier():
    """torch's xavier_normal_ draws with this variance, which is between the two
    wishes."""
    torch.manual_seed(0)
    W = torch.nn.init.xavier_normal_(torch.empty(900, 300))
    assert W.var().item() == pytest.approx(2 / (300 + 900), rel=0.01)
    assert 1 / 900 < 2 / (300 + 900) < 1 / 300


def test_eq_he():
    """torch's kaiming_normal_ draws with this variance; ten wide ReLU layers keep
    their size."""
    torch.manual_seed(0)
    W = torch.nn.init.kaiming_normal_(torch.empty(500, 1000), nonlinearity="relu")
    assert W.var().item() == pytest.approx(2 / 1000, rel=0.01)
    z = start = torch.randn(1000)
    for _ in range(10):
        z = torch.randn(1000, 1000) * math.sqrt(2 / 1000) @ z.relu()
    assert 0.5 < mean_square(z) / mean_square(start) < 2


def test_numerical_gradient(numpy):
    """It agrees with autograd, and puts the weights back to the last bit."""
    rng = np.random.default_rng(0)
    w = rng.normal(size=(3, 4))
    before = w.copy()
    got = numpy["numerical_gradient"](lambda: (np.sin(w) * w[0]).sum(), w)
    leaf = torch.tensor(w, requires_grad=True)
    (expected,) = torch.autograd.grad((leaf.sin() * leaf[0]).sum(), leaf)
    np.testing.assert_allclose(got, expected, rtol=1e-8, atol=1e-9)
    assert (w == before).all()


def test_the_functions_of_backpropagation_are_those_of_its_lesson():
    """forward, backward, cross_entropy and the activations stand here as they stand
    there."""
    for name in ("forward", "backward", "cross_entropy", "relu", "relu_prime"):
        assert source(LESSON, name) == source("backpropagation", name)


def source(lesson, name):
    """The text of a function that a lesson defines, without the spaces in it."""
    for cell in cells(lesson):
        if cell.cell_type == "code" and f"def {name}(" in cell.source:
            for node in ast.parse(cell.source).body:
                if getattr(node, "name", "") == name:
                    return ast.unparse(node)
    raise LookupError(name)


def test_train_is_that_of_backpropagation():
    """Forty steps of this page's `train` change the weights as those of the lesson on
    backpropagation do."""
    rng = np.random.default_rng(1)
    data = {
        "images": rng.normal(size=(60_000, 5)),
        "one_hot": np.eye(3)[rng.integers(3, size=60_000)],
    }
    trained = []
    for lesson in (LESSON, "backpropagation"):
        names = ("forward", "backward", "cross_entropy", "relu", "relu_prime", "train")
        page = definitions(lesson, *names, **data)
        rng = np.random.default_rng(2)
        weights = [rng.normal(size=(4, 5)), rng.normal(size=(3, 4))]
        biases = [rng.normal(size=4), rng.normal(size=3)]
        page["train"](weights, biases, steps=40, lr=0.1)
        trained.append([*weights, *biases])
    for here, there in zip(*trained, strict=True):
        np.testing.assert_allclose(here, there, rtol=1e-12)


@pytest.mark.parametrize("factor", [1.0, 3.0])
def test_new_network_has_the_variance_it_says(numpy, factor):
    """Weights of variance factor / n_in in float32, biases 0, the same for a seed."""
    weights, biases = numpy["new_network"]((500, 400, 10), factor, seed=4)
    assert weights[0].shape == (400, 500) and weights[0].dtype == np.float32
    assert weights[0].var() == pytest.approx(factor / 500, rel=0.02)
    assert not biases[0].any() and not biases[1].any()
    assert (numpy["new_network"]((500, 400, 10), factor, 4)[0][1] == weights[1]).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sigmoid_keeps_its_digits(numpy, dtype):
    """Relative to its size it is torch's, from −80 to 80, dtype kept, and without a
    warning at ±1000."""
    z = np.array([-1000.0, -80, -40, -37, -20, -1, 0, 1, 40, 80, 1000], dtype)
    with np.errstate(all="raise", under="ignore"):
        got, slope = numpy["sigmoid"](z), numpy["sigmoid_prime"](z)
    assert got.dtype == slope.dtype == dtype
    expected = torch.sigmoid(torch.tensor(z, dtype=torch.float64)).numpy()
    rtol = 1e-6 if dtype == np.float32 else 1e-14
    np.testing.assert_allclose(
        got, expected, rtol=rtol, atol=0 if dtype != np.float32 else 1e-38
    )


def test_saved_by_counts_what_autograd_keeps():
    """Input, ReLU's output, log-probabilities, labels and one number: nothing else is
    kept."""
    saved_by = definitions(LESSON, "saved_by")["saved_by"]
    model = torch.nn.Sequential(
        torch.nn.Linear(7, 5), torch.nn.ReLU(), torch.nn.Linear(5, 3)
    )
    x, y = torch.randn(11, 7), torch.randint(3, (11,))
    kept = saved_by(lambda: F.cross_entropy(model(x), y), skip=model.parameters())
    assert sum(t.nbytes for t in kept) == 11 * (7 + 5 + 3) * 4 + 11 * 8 + 4
    with torch.no_grad():
        assert saved_by(lambda: F.cross_entropy(model(x), y)) == []


def test_prediction_of_depth():
    """`predict` gives the closed form for ReLU: a factor n σ² / 2 a layer, forwards
    and back."""
    deep = (784,) + (200,) * 19 + (10,)
    names = ("predict", "mean_square", "POINTS", "MASSES", "relu", "relu_prime")
    lesson = definitions(LESSON, *names, deep=deep, first_images=np.ones((100, 784)))
    z, d = lesson["predict"](lesson["relu"], lesson["relu_prime"], 3.0)
    np.testing.assert_allclose(z**2, 3.0 * 1.5 ** np.arange(20), rtol=1e-9)
    assert d[18] ** 2 == pytest.approx(3.0 * 10 / 200 / 2)
    np.testing.assert_allclose((d[:18] / d[1:19]) ** 2, 1.5, rtol=1e-9)


@pytest.mark.parametrize("variance", [0.01, 1.0, 30.0])
def test_mean_square_is_that_of_a_normal_variable(variance):
    """The sum over 1,000 points is what a hundred times as many give, for tanh and its
    derivative."""
    names = ("mean_square", "POINTS", "MASSES", "tanh_prime")
    lesson = definitions(LESSON, *names)
    points = np.linspace(-12, 12, 100_001)
    masses = np.exp(-(points**2) / 2)
    for g in (np.tanh, lesson["tanh_prime"]):
        expected = masses @ g(math.sqrt(variance) * points) ** 2 / masses.sum()
        assert lesson["mean_square"](g, variance) == pytest.approx(expected, rel=1e-4)


def test_the_faulty_backward_is_right_for_relu_only(numpy):
    """What the exercise says of its fault: with ReLU no gradient differs, with tanh some
    do."""
    faulty = definitions(LESSON, "faulty_backward", **numpy)["faulty_backward"]
    generator = np.random.default_rng(0)
    weights = [generator.normal(size=(n, m)) for m, n in pairwise((5, 4, 4, 3))]
    biases = [generator.normal(size=n) for n in (4, 4, 3)]
    x, y = generator.normal(size=(6, 5)), np.eye(3)[[0, 1, 2, 0, 1, 2]]
    for f, f_prime, same in (
        (numpy["relu"], numpy["relu_prime"], True),
        (np.tanh, numpy["tanh_prime"], False),
    ):
        inputs, zs = numpy["forward"](x, weights, biases, f)
        _, delta = numpy["cross_entropy"](zs[-1], y)
        _, right = numpy["backward"](delta, inputs, zs, weights, f_prime)
        got = faulty(delta, inputs, zs, weights, f_prime)
        equal = [
            np.allclose(a, b)
            for r, g in zip(right, got, strict=True)
            for a, b in zip(r, g, strict=True)
        ]
        assert equal == ([True] * 6 if same else [False] * 4 + [True] * 2)
