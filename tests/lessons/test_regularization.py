"""The lesson on regularisation: its equations, its functions, and its table.

What a boxed equation says, written out in float64, is what torch gives.
"""

import ast
import copy
import math
import re
from itertools import product

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lesson_source import cells, close, definitions, drawn
from torch import nn

from lessons_src.data import Split
from lessons_src.models import RandomShift, mlp

LESSON = "regularization"
FUNCTIONS = (
    "train",
    "sgd_step",
    "dropout",
    "BatchNorm",
    "batch_norm_backward",
    "LeakyBatchNorm",
    "graph_size",
    "smoothed_cross_entropy",
    "RandomShift",
    "fit_early",
    "network",
    "deep",
    "standard_error",
)


def function_text(lesson, name):
    """The text of a function on a page."""
    for cell in cells(lesson):
        if cell.cell_type == "code" and f"def {name}(" in cell.source:
            for node in ast.parse(cell.source).body:
                if getattr(node, "name", "") == name:
                    return ast.get_source_segment(cell.source, node)
    raise LookupError(name)


def split_of(n=200, seed=0):
    """n small images with labels that can be learned."""
    images = torch.randn(n, 1, 4, 4, generator=torch.Generator().manual_seed(seed))
    return Split(images, images.flatten(1)[:, :3].argmax(1))


@pytest.fixture(scope="module")
def page():
    """What the lesson defines, as a namespace."""
    return definitions(LESSON, *FUNCTIONS, validation=split_of(seed=1))


# Boxed equations ------------------------------------------------------------------------


def test_eq_weight_decay():
    """A step of SGD on loss plus penalty is a shrunk weight and a step on the loss
    alone."""
    x, w = drawn((20, 6), (6, 3))
    w.requires_grad_()
    loss, lr, omega = F.cross_entropy(x @ w, torch.arange(20) % 3), 0.3, 0.7
    (whole,) = torch.autograd.grad(loss + omega / 2 * w.norm() ** 2, w, retain_graph=True)
    (alone,) = torch.autograd.grad(loss, w)
    close(w - lr * whole, (1 - lr * omega) * w - lr * alone)


def test_eq_dropout_moments():
    """Mean a and variance r/(1-r) a^2, exactly: both values of the mask with their
    chances."""
    for a, r in product((-2.0, 0.3, 7.0), (0.1, 0.5, 0.9)):
        mean = (1 - r) * a / (1 - r) + r * 0
        variance = (1 - r) * (a / (1 - r) - mean) ** 2 + r * (0 - mean) ** 2
        close([mean, variance], [a, r / (1 - r) * a**2])


def test_eq_dropout_sum(page):
    """Mean and variance of a sum, exactly, over all 64 masks; the page's function
    makes them."""
    a, w = drawn((6,), (6,))
    for r in (0.2, 0.5, 0.8):
        masks = torch.tensor(list(product((0.0, 1.0), repeat=6))).double()  # (64, 6)
        chance = ((1 - r) ** masks.sum(1)) * (r ** (6 - masks.sum(1)))  # (64,)
        z = page["dropout"](a.expand(64, 6), r, keep=masks) @ w
        mean = (chance * z).sum()
        close([chance.sum(), mean], [1, w @ a])
        close((chance * (z - mean) ** 2).sum(), r / (1 - r) * (w**2 * a**2).sum())


def test_eq_batch_norm():
    """Mean, variance, normalized value and output, written out, are nn.BatchNorm1d's."""
    layer, x, B = nn.BatchNorm1d(1, eps=0.1).double(), drawn((7,)), 7
    gamma, beta = layer.weight.data.fill_(1.7), layer.bias.data.fill_(-0.4)
    mu = sum(x) / B
    v = sum((x_n - mu) ** 2 for x_n in x) / B
    stated = [gamma * (x_n - mu) / math.sqrt(v + 0.1) + beta for x_n in x]
    close(torch.stack(stated), layer(x[:, None]).detach())


def test_eq_biased_variance():
    """The mean of v over all batches of three from a die is (B-1)/B of the die's
    variance."""
    die = torch.arange(1, 7).double()
    for B in (2, 3, 5):
        batches = torch.cartesian_prod(*[die] * B)  # all 6^B, equally likely
        close(batches.var(1, correction=0).mean(), (B - 1) / B * die.var(correction=0))


def test_eq_running_statistics():
    """The buffers after a step are nn.BatchNorm1d's; with B for B - 1 they are not."""
    layer, x, rho, B = (
        nn.BatchNorm1d(3, momentum=0.3).double(),
        3 * drawn((4, 3)) + 5,
        0.3,
        4,
    )
    mean, var = layer.running_mean.clone(), layer.running_var.clone()
    for _ in range(3):
        layer(x)
        v = ((x - x.mean(0)) ** 2).mean(0)
        mean = (1 - rho) * mean + rho * x.mean(0)
        var = (1 - rho) * var + rho * B / (B - 1) * v
    close(layer.running_mean, mean)
    close(layer.running_var, var)


def test_eq_batch_norm_backward():
    """The boxed gradient, value by value, is autograd's through the statistics."""
    x, g = drawn((6,), (6,))
    B, gamma, eps = 6, 1.3, 0.01
    x.requires_grad_()
    weight = torch.full((1,), gamma, dtype=torch.float64)
    y = F.batch_norm(x[:, None], None, None, weight, None, True, 0.1, eps)
    (by_x,) = torch.autograd.grad(y[:, 0], x, g)
    x = x.detach()
    root = math.sqrt(x.var(correction=0) + eps)
    x_hat = (x - x.mean()) / root
    for i in range(B):
        second = sum(g[n] for n in range(B)) / B
        third = x_hat[i] * sum(g[n] * x_hat[n] for n in range(B)) / B
        close(gamma / root * (g[i] - second - third), by_x[i])


def test_eq_label_smoothing():
    """The two sums, written out, are F.cross_entropy with label_smoothing."""
    z = drawn((4,))
    p = z.exp() / z.exp().sum()
    for alpha, y in product((0.0, 0.1, 0.7, 1.0), range(4)):
        stated = -(1 - alpha) * p[y].log() - alpha / 4 * sum(p[j].log() for j in range(4))
        close(stated, F.cross_entropy(z[None], torch.tensor([y]), label_smoothing=alpha))


@pytest.mark.parametrize("alpha, K", [(0.1, 10), (0.5, 3), (0.01, 4)])
def test_eq_smoothed_logits(alpha, K):
    """At logits that far apart the gradient is zero; a step away in any direction
    costs."""
    z, y = torch.zeros(1, K, dtype=torch.float64), torch.tensor([1])
    z[0, 1] = math.log(1 + K * (1 - alpha) / alpha)
    z.requires_grad_()
    loss = F.cross_entropy(z, y, label_smoothing=alpha)
    (g,) = torch.autograd.grad(loss, z)
    close(g, torch.zeros(1, K))
    for step in drawn((20, 1, K)):
        assert F.cross_entropy(z + 0.1 * step, y, label_smoothing=alpha) >= loss


def test_eq_paired_error():
    """The variance of a mean of differences, from variances and covariance."""
    # All 9 equally likely pairs of two independent draws of (a, b) from a population of
    # three.
    a, b = drawn((3,), (3,))
    d = a - b
    means = torch.cartesian_prod(d, d).mean(1)
    cov = ((a - a.mean()) * (b - b.mean())).mean()
    stated = (a.var(correction=0) + b.var(correction=0) - 2 * cov) / 2
    close(means.var(correction=0), stated)


# The page's functions -------------------------------------------------------------------

EXTREME = torch.tensor(
    [
        0.0,
        -0.0,
        1e-30,
        1.0,
        -1.0,
        1e4,
        -1e4,
        1e30,
        -1e30,
        3e38,
        -3e38,
        torch.inf,
        -torch.inf,
        torch.nan,
    ]
)


@pytest.mark.parametrize("weight_decay", [0.0, 0.1, 5.0])
def test_sgd_step_is_torchs(page, weight_decay):
    """Many steps, and weights and gradients from 1e-30 to 1e30."""
    ours = torch.cat([drawn((10,)), torch.tensor([0.0, 1e-30, 1e30, -1e30]).double()])
    theirs = nn.Parameter(ours.clone())
    sgd = torch.optim.SGD([theirs], lr=0.1, weight_decay=weight_decay)
    for step in range(60):
        theirs.grad = drawn((14,), seed=step + 1) * 10.0 ** (step - 30)
        page["sgd_step"](ours, theirs.grad, 0.1, weight_decay)
        sgd.step()
        close(ours, theirs.detach())


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("training", [True, False])
def test_dropout_is_torchs(page, rate, training):
    """Values and gradients with the same mask, at zero, infinity and NaN too, in both
    modes."""
    layer = nn.Dropout(rate).train(training)
    a = torch.cat([EXTREME.repeat(8), torch.randn(888)]).requires_grad_()
    made, grads = [], []
    for function in (lambda v: page["dropout"](v, rate, training), layer):
        torch.manual_seed(3)
        made.append(function(a))
        grads.append(
            torch.autograd.grad(made[-1], a, torch.ones_like(a), allow_unused=True)[0]
        )
    torch.testing.assert_close(*made, rtol=1e-6, atol=0, equal_nan=True)
    torch.testing.assert_close(*grads, rtol=1e-6, atol=0, equal_nan=True)


def test_dropout_takes_a_mask(page):
    """keep is used as it is, whatever the generator says."""
    keep = torch.tensor([1.0, 0, 1, 0])
    close(
        page["dropout"](torch.arange(4.0) + 1, 0.75, keep=keep),
        torch.tensor([4.0, 0, 12, 0]),
    )


def both_norms(page, D=4, momentum=0.1, eps=1e-5, dtype=torch.float64):
    """The page's layer and torch's, with the same weights."""
    layers = page["BatchNorm"](D, momentum, eps), nn.BatchNorm1d(D, eps, momentum)
    for layer in layers:
        layer.to(dtype)
        layer.weight.data, layer.bias.data = drawn((D,), (D,), seed=9)
        layer.to(dtype)
    return layers


def compare_norms(ours, theirs, x, g, tolerance):
    """Outputs, gradients of input and weights, and every buffer."""
    results = []
    for layer in (ours, theirs):
        layer.zero_grad()
        inputs = x.clone().requires_grad_()
        y = layer(inputs)
        y.backward(g)
        state = {k: v for k, v in layer.state_dict().items()}
        results.append(
            [y, inputs.grad, layer.weight.grad, layer.bias.grad, *state.values()]
        )
        assert list(state) == [
            "weight",
            "bias",
            "running_mean",
            "running_var",
            "num_batches_tracked",
        ]
        assert (
            not layer.running_mean.requires_grad and not layer.running_var.requires_grad
        )
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance, equal_nan=True)


@pytest.mark.parametrize("momentum, eps", [(0.1, 1e-5), (0.3, 0.1), (1.0, 1e-5)])
def test_batch_norm_is_torchs(page, momentum, eps):
    """Outputs, gradients and buffers over five training steps of several sizes, then
    evaluation, then training again."""
    ours, theirs = both_norms(page, momentum=momentum, eps=eps)
    for step, B in enumerate((8, 2, 3, 100, 8)):
        x, g = drawn((B, 4), (B, 4), seed=step)
        compare_norms(ours, theirs, 3 * x + 2, g, 1e-9)
    ours.eval(), theirs.eval()
    compare_norms(
        ours, theirs, *drawn((1, 4), (1, 4)), 1e-9
    )  # one example is enough here
    ours.train(), theirs.train()
    compare_norms(ours, theirs, *drawn((5, 4), (5, 4)), 1e-9)
    assert ours.num_batches_tracked == 6 and ours.num_batches_tracked.dtype == torch.int64


@pytest.mark.parametrize("scale", [1e-30, 1e-3, 1.0, 1e3, 1e15])
def test_batch_norm_at_extreme_scales(page, scale):
    """Tiny and huge values in float32 and a column of zeros: as torch's. A constant
    column: ours is exactly beta, while torch multiplies out first and is off by its
    rounding."""
    ours, theirs = both_norms(page, dtype=torch.float32)
    x, g = (v.float() for v in drawn((6, 4), (6, 4)))
    x[:, 1], x[:, 2] = 0.5, 0.0
    x *= scale
    y, reference = ours(x), theirs(x)
    torch.testing.assert_close(
        y[:, [0, 2, 3]], reference[:, [0, 2, 3]], rtol=1e-4, atol=1e-4
    )
    assert torch.equal(y[:, 1:3], ours.bias[1:3].expand(6, 2))
    off = (reference[:, 1] - ours.bias[1]).abs().max()
    assert off <= 1e-6 * scale / 1e-5**0.5 + 1e-6
    for name in ("running_mean", "running_var"):
        torch.testing.assert_close(
            getattr(ours, name), getattr(theirs, name), rtol=1e-4, atol=1e-6
        )


def test_batch_norm_where_squares_overflow(page):
    """1e30 in float32: the running variance is infinite in both, the output beta."""
    ours, theirs = both_norms(page, dtype=torch.float32)
    x = 1e30 * drawn((6, 4)).float()
    torch.testing.assert_close(ours(x), theirs(x))
    assert ours.running_var.isinf().all() and theirs.running_var.isinf().all()


def test_batch_norm_of_nothing_finite(page):
    """NaN and infinity spoil their own column and no other, as torch's."""
    for bad in (math.nan, math.inf):
        ours, theirs = both_norms(page, dtype=torch.float32)
        x = drawn((6, 4)).float()
        x[2, 1] = bad
        torch.testing.assert_close(
            ours(x), theirs(x), equal_nan=True, rtol=1e-5, atol=1e-5
        )
        torch.testing.assert_close(ours.running_mean, theirs.running_mean, equal_nan=True)
        assert (
            ours.running_var.isfinite().tolist() == theirs.running_var.isfinite().tolist()
        )


def test_batch_of_one_raises(page):
    """In training, as torch does; the running statistics are untouched."""
    for layer in both_norms(page):
        with pytest.raises(ValueError):
            layer(torch.ones(1, 4).double())
        assert not layer.running_mean.any() and (layer.running_var == 1).all()


def test_kept_graph_is_found(page):
    """The page's leaky layer gives torch's outputs and is found by requires_grad
    alone; its graph grows by the same amount each step, and the right layer has none."""
    leaky = {**page, "BatchNorm": page["LeakyBatchNorm"]}
    for layer, reference in zip(both_norms(leaky), both_norms(page), strict=True):
        x = drawn((5, 4))
        torch.testing.assert_close(layer(x), reference(x))
    with pytest.raises(AssertionError):
        test_batch_norm_is_torchs(leaky, 0.1, 1e-5)
    sizes = {}
    for name in ("BatchNorm", "LeakyBatchNorm"):
        net, sizes[name] = nn.Sequential(nn.Linear(4, 4), page[name](4)), []
        for _ in range(6):
            net(torch.randn(5, 4)).square().mean().backward()
            sizes[name].append(page["graph_size"](net[1].running_mean))
    assert sizes["BatchNorm"] == [0] * 6
    steps = np.diff(sizes["LeakyBatchNorm"])
    assert (steps > 0).all() and len(set(steps)) == 1
    with pytest.raises(RuntimeError):
        copy.deepcopy(net)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e8])
def test_batch_norm_backward_is_autograds(page, scale):
    """By input, weight and bias, for tiny and huge inputs and a constant column."""
    layer = nn.BatchNorm1d(4).double()
    x, g, weight = drawn((6, 4), (6, 4), (4,))
    x, layer.weight.data = scale * x, weight
    x[:, 1] = scale
    x.requires_grad_()
    theirs = torch.autograd.grad(layer(x), (x, layer.weight, layer.bias), g)
    ours = page["batch_norm_backward"](g, x.detach(), weight)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("alpha", [0.0, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("scale", [0.0, 1.0, 100.0, 1e4, 1e30])
def test_smoothed_cross_entropy_is_torchs(page, alpha, scale):
    """Values and gradients, for equal logits and logits that overflow exp; float32."""
    logits = (scale * drawn((7, 5)).float()).requires_grad_()
    labels = torch.arange(7) % 5
    ours = page["smoothed_cross_entropy"](logits, labels, alpha)
    theirs = F.cross_entropy(logits, labels, label_smoothing=alpha)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    grads = [torch.autograd.grad(v, logits)[0] for v in (ours, theirs)]
    torch.testing.assert_close(*grads, rtol=1e-5, atol=1e-6)


def test_random_shift_shifts(page):
    """Every output is the image moved by some shift of at most `pixels`, zeros coming
    in; all shifts occur; in evaluation nothing happens."""
    p, x = 2, torch.arange(1.0, 31).view(1, 1, 5, 6)
    padded = F.pad(x, (p, p, p, p))[0, 0]
    windows = {
        (dy, dx): padded[dy : dy + 5, dx : dx + 6]
        for dy, dx in product(range(5), repeat=2)
    }
    shift, seen = page["RandomShift"](p), set()
    torch.manual_seed(0)
    for image in shift(x.expand(600, 1, 5, 6))[:, 0]:
        (which,) = [key for key, window in windows.items() if torch.equal(window, image)]
        seen.add(which)
    assert len(seen) == 25
    assert shift.eval()(x) is x and page["RandomShift"](0)(x) is x


def test_network_has_its_remedies(page):
    """Shift first, batch norm before ReLU, dropout behind it; without them, mlp's
    function."""
    kinds = [type(m).__name__ for m in page["network"](0.5, True, 2)]
    assert kinds == [
        "RandomShift",
        "Flatten",
        "Linear",
        "BatchNorm",
        "ReLU",
        "Dropout",
        "Linear",
    ]
    x = torch.randn(3, 1, 28, 28)
    outputs = []
    for make in (page["network"], lambda: mlp(784, 64, 10)):
        torch.manual_seed(0)
        outputs.append(make()(x))
    assert torch.equal(*outputs)


def test_standard_error_and_deep(page):
    """The standard error is sd / root n; eight layers, each with its norm or none."""
    values = np.array([1.0, 2.0, 4.0])
    close(page["standard_error"](values), np.std(values, ddof=1) / math.sqrt(3))
    for norm, count in ((True, 8), (False, 0)):
        kinds = [type(module).__name__ for module in page["deep"](norm)]
        assert kinds.count("BatchNorm") == count and kinds.count("Linear") == 9


def test_random_shift_is_the_modules(page):
    """From one seed, the page's layer and the one that later lessons import move all
    images alike."""
    x, moved = torch.randn(50, 2, 9, 7), []
    for layer in (page["RandomShift"](2), RandomShift(2)):
        torch.manual_seed(0)
        moved.append(layer(x))
    assert torch.equal(*moved)


def test_early_stopping_is_that_of_the_lesson_before():
    """The lesson on generalization builds it; here it stands again, letter for letter."""
    texts = [function_text(lesson, "fit_early") for lesson in ("generalization", LESSON)]
    assert texts[0] == texts[1]


def test_the_test_split_is_touched_once():
    """No cell before the table's reads mnist.test, only that one does, and nothing is
    chosen from there on."""
    code = [c.source for c in cells(LESSON) if c.cell_type == "code"]
    (at,) = [k for k, source in enumerate(code) if "mnist.test" in source]
    assert not any("chosen[" in source or "recipes[" in source for source in code[at:])
    used = [k for k, source in enumerate(code) if re.search(r"\btest\b[,)]", source)]
    assert used and min(used) >= at
