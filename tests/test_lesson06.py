"""Lesson 06, generalization: its equations, its functions and its checkers.

A boxed equation is tested in two halves: the page states it in the TeX that stands here, and what
that TeX says, written out in float64, is what torch gives.
"""

import ast
import copy
import inspect
import math
import re
from functools import partial
from itertools import product
from types import SimpleNamespace

import lesson_source
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lesson_source import cells, close, definitions, drawn
from torch import nn

from lessons_src import models
from lessons_src.data import Split

LESSON = "06_generalization"
FUNCTIONS = ("mlp", "adam", "sgd_step", "dropout", "BatchNorm", "batch_norm_backward",
             "LeakyBatchNorm", "graph_size", "smoothed_cross_entropy", "RandomShift", "fit_early",
             "network", "epochs_until", "deep", "standard_error", "CPU")  # fmt: skip


def split_of(n=200, seed=0):
    """n small images with labels that can be learned."""
    images = torch.randn(n, 1, 4, 4, generator=torch.Generator().manual_seed(seed))
    return Split(images, images.flatten(1)[:, :3].argmax(1))


@pytest.fixture(scope="module")
def page():
    """What the lesson defines, as a namespace."""
    return definitions(LESSON, *FUNCTIONS, validation=split_of(seed=1))


boxed = partial(lesson_source.boxed, LESSON)


# Boxed equations ------------------------------------------------------------------------------


def test_eq_weight_decay():
    """A step of SGD on loss plus penalty is a shrunk weight and a step on the loss alone."""
    assert boxed("eq-weight-decay") == (
        r"w-\text{lr}\nabla\left(\text{loss}+\tfrac{\omega}{2}\lVertw\rVert^2\right)"
        r"=(1-\text{lr}\omega)w-\text{lr}\nabla\text{loss}"
    )
    x, w = drawn((20, 6), (6, 3))
    w.requires_grad_()
    loss, lr, omega = F.cross_entropy(x @ w, torch.arange(20) % 3), 0.3, 0.7
    (whole,) = torch.autograd.grad(loss + omega / 2 * w.norm() ** 2, w, retain_graph=True)
    (alone,) = torch.autograd.grad(loss, w)
    close(w - lr * whole, (1 - lr * omega) * w - lr * alone)


def test_eq_dropout_moments():
    """Mean a and variance r/(1-r) a^2, exactly: both values of the mask with their chances."""
    assert boxed("eq-dropout-moments") == (
        r"\mathbb{E}[\tildea]=a,\qquad\operatorname{Var}[\tildea]=\frac{r}{1-r}a^2"
    )
    for a, r in product((-2.0, 0.3, 7.0), (0.1, 0.5, 0.9)):
        mean = (1 - r) * a / (1 - r) + r * 0
        variance = (1 - r) * (a / (1 - r) - mean) ** 2 + r * (0 - mean) ** 2
        close([mean, variance], [a, r / (1 - r) * a**2])


def test_eq_dropout_sum(page):
    """Mean and variance of a sum, exactly, over all 64 masks; the page's function makes them."""
    assert boxed("eq-dropout-sum") == (
        r"\mathbb{E}[z]=\sum_jw_ja_j,\qquad"
        r"\operatorname{Var}[z]=\frac{r}{1-r}\sum_jw_j^2a_j^2"
    )
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
    assert boxed("eq-batch-norm") == (
        r"\mu=\frac1B\sum_{n=1}^{B}x_n,\quadv=\frac1B\sum_{n=1}^{B}(x_n-\mu)^2,\quad"
        r"\hatx_n=\frac{x_n-\mu}{\sqrt{v+\epsilon}},\quady_n=\gamma\hatx_n+\beta"
    )
    layer, x, B = nn.BatchNorm1d(1, eps=0.1).double(), drawn((7,)), 7
    gamma, beta = layer.weight.data.fill_(1.7), layer.bias.data.fill_(-0.4)
    mu = sum(x) / B
    v = sum((x_n - mu) ** 2 for x_n in x) / B
    stated = [gamma * (x_n - mu) / math.sqrt(v + 0.1) + beta for x_n in x]
    close(torch.stack(stated), layer(x[:, None]).detach())


def test_eq_biased_variance():
    """The mean of v over all batches of three from a die is (B-1)/B of the die's variance."""
    assert boxed("eq-biased-variance") == r"\mathbb{E}[v]=\frac{B-1}{B}\sigma^2"
    die = torch.arange(1, 7).double()
    for B in (2, 3, 5):
        batches = torch.cartesian_prod(*[die] * B)  # all 6^B, equally likely
        close(batches.var(1, correction=0).mean(), (B - 1) / B * die.var(correction=0))


def test_eq_running_statistics():
    """The buffers after a step are nn.BatchNorm1d's; with B for B - 1 they are not."""
    assert boxed("eq-running-statistics") == (
        r"\bar\mu\leftarrow(1-m)\bar\mu+m\mu,\qquad"
        r"\barv\leftarrow(1-m)\barv+m\frac{B}{B-1}v"
    )
    layer, x, m, B = nn.BatchNorm1d(3, momentum=0.3).double(), 3 * drawn((4, 3)) + 5, 0.3, 4
    mean, var = layer.running_mean.clone(), layer.running_var.clone()
    for _ in range(3):
        layer(x)
        v = ((x - x.mean(0)) ** 2).mean(0)
        mean, var = (1 - m) * mean + m * x.mean(0), (1 - m) * var + m * B / (B - 1) * v
    close(layer.running_mean, mean)
    close(layer.running_var, var)


def test_eq_batch_norm_backward():
    """The boxed gradient, value by value, is autograd's through the statistics."""
    assert boxed("eq-batch-norm-backward") == (
        r"\frac{\partial\text{loss}}{\partialx_m}=\frac{\gamma}{\sqrt{v+\epsilon}}\Big("
        r"g_m-\frac1B\sum_ng_n-\hatx_m\frac1B\sum_ng_n\hatx_n\Big)"
    )
    x, g = drawn((6,), (6,))
    B, gamma, eps = 6, 1.3, 0.01
    x.requires_grad_()
    weight = torch.full((1,), gamma, dtype=torch.float64)
    y = F.batch_norm(x[:, None], None, None, weight, None, True, 0.1, eps)
    (by_x,) = torch.autograd.grad(y[:, 0], x, g)
    x = x.detach()
    root = math.sqrt(x.var(correction=0) + eps)
    x_hat = (x - x.mean()) / root
    for m in range(B):
        second = sum(g[n] for n in range(B)) / B
        third = x_hat[m] * sum(g[n] * x_hat[n] for n in range(B)) / B
        close(gamma / root * (g[m] - second - third), by_x[m])


def test_eq_label_smoothing():
    """The two sums, written out, are F.cross_entropy with label_smoothing."""
    assert boxed("eq-label-smoothing") == (
        r"\text{loss}=-(1-\alpha)\logp_y-\frac{\alpha}{K}\sum_{j=1}^{K}\logp_j"
    )
    z = drawn((4,))
    p = z.exp() / z.exp().sum()
    for alpha, y in product((0.0, 0.1, 0.7, 1.0), range(4)):
        stated = -(1 - alpha) * p[y].log() - alpha / 4 * sum(p[j].log() for j in range(4))
        close(stated, F.cross_entropy(z[None], torch.tensor([y]), label_smoothing=alpha))


@pytest.mark.parametrize("alpha, K", [(0.1, 10), (0.5, 3), (0.01, 4)])
def test_eq_smoothed_logits(alpha, K):
    """At logits that far apart the gradient is zero; a step away in any direction costs."""
    assert boxed("eq-smoothed-logits") == (r"z_y-z_j=\log\Big(1+\frac{K(1-\alpha)}{\alpha}\Big)")
    z, y = torch.zeros(1, K, dtype=torch.float64), torch.tensor([1])
    z[0, 1] = math.log(1 + K * (1 - alpha) / alpha)
    z.requires_grad_()
    loss = F.cross_entropy(z, y, label_smoothing=alpha)
    (g,) = torch.autograd.grad(loss, z)
    close(g, torch.zeros(1, K))
    for step in drawn((20, 1, K)):
        assert F.cross_entropy(z + 0.1 * step, y, label_smoothing=alpha) >= loss


def test_eq_best_of_many():
    """The largest of k coin scores stays, on average, under the bound, and comes near to it."""
    assert boxed("eq-best-of-many") == (
        r"\mathbb{E}\Big[\max_{i\lek}S_i\Big]\le\mu+\sigma\sqrt{2\logk}"
    )
    for n, k in product((20, 100, 1000), (1, 2, 10, 100, 10_000)):
        chances = np.array([math.comb(n, i) for i in range(n + 1)], dtype=object)
        below = np.cumsum([c / 2**n for c in chances])  # P(score <= i / n)
        largest = np.diff(np.concatenate([[0], below**k]))  # P(max == i / n)
        mean = (largest * np.arange(n + 1)).sum() / n
        bound = 0.5 + 1 / (2 * math.sqrt(n)) * math.sqrt(2 * math.log(k))
        assert mean <= bound + 1e-9
        assert k < 10 or mean - 0.5 > 0.6 * (bound - 0.5)


def test_eq_paired_error():
    """The variance of a mean of differences, from variances and covariance."""
    assert boxed("eq-paired-error") == (
        r"\operatorname{Var}\Big[\frac1n\sum_id_i\Big]=\frac{1}{n}\big(\operatorname{Var}[a]"
        r"+\operatorname{Var}[b]-2\operatorname{Cov}[a,b]\big)"
    )
    # All 9 equally likely pairs of two independent draws of (a, b) from a population of three.
    a, b = drawn((3,), (3,))
    d = a - b
    means = torch.cartesian_prod(d, d).mean(1)
    cov = ((a - a.mean()) * (b - b.mean())).mean()
    stated = (a.var(correction=0) + b.var(correction=0) - 2 * cov) / 2
    close(means.var(correction=0), stated)


# The page's functions ------------------------------------------------------------------------

EXTREME = torch.tensor([0.0, -0.0, 1e-30, 1.0, -1.0, 1e4, -1e4, 1e30, -1e30, 3e38, -3e38, torch.inf,
                        -torch.inf, torch.nan])  # fmt: skip


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
    """Values and gradients with the same mask, at zero, infinity and NaN too, in both modes."""
    layer = nn.Dropout(rate).train(training)
    a = torch.cat([EXTREME.repeat(8), torch.randn(888)]).requires_grad_()
    made, grads = [], []
    for function in (lambda v: page["dropout"](v, rate, training), layer):
        torch.manual_seed(3)
        made.append(function(a))
        grads.append(torch.autograd.grad(made[-1], a, torch.ones_like(a), allow_unused=True)[0])
    torch.testing.assert_close(*made, rtol=1e-6, atol=0, equal_nan=True)
    torch.testing.assert_close(*grads, rtol=1e-6, atol=0, equal_nan=True)


def test_dropout_takes_a_mask(page):
    """keep is used as it is, whatever the generator says."""
    keep = torch.tensor([1.0, 0, 1, 0])
    close(page["dropout"](torch.arange(4.0) + 1, 0.75, keep=keep), torch.tensor([4.0, 0, 12, 0]))


DROPOUT_MUTANTS = {
    "no scaling": ("keep / (1 - rate) if rate < 1 else keep", "keep"),
    "rate for 1 - rate in the scaling": ("keep / (1 - rate)", "keep / max(rate, 1e-9)"),
    "rate for 1 - rate in the mask": ("bernoulli_(1 - rate)", "bernoulli_(rate)"),
    "train and eval confused": ("not training", "training"),
}


@pytest.mark.parametrize("old, new", DROPOUT_MUTANTS.values(), ids=DROPOUT_MUTANTS)
def test_a_wrong_dropout_is_found(old, new):
    """Each planted fault of the page's dropout fails the test above."""
    broken = mutated("dropout", old, new)
    with pytest.raises(AssertionError):
        for training, rate in product((True, False), (0.1, 0.9)):
            test_dropout_is_torchs(broken, rate, training)


def mutated(name, old, new):
    """The page's namespace with one piece of a definition replaced."""
    source = _source_of(name)
    assert source.count(old) == 1, (old, source)
    namespace = definitions(LESSON, *FUNCTIONS, validation=split_of(seed=1))
    exec(source.replace(old, new), namespace)
    return namespace


def _source_of(name):
    """The text of a function or class on the page, decorators included."""
    for cell in cells(LESSON):
        skip = {"exercise", "solution"} & set(cell.metadata.get("tags", []))
        if cell.cell_type != "code" or skip:
            continue
        for node in ast.parse(cell.source).body:
            if getattr(node, "name", "") == name:
                first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
                return "\n".join(cell.source.splitlines()[first - 1 : node.end_lineno])
    raise LookupError(name)


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
        results.append([y, inputs.grad, layer.weight.grad, layer.bias.grad, *state.values()])
        assert list(state) == ["weight", "bias", "running_mean", "running_var",
                               "num_batches_tracked"]  # fmt: skip
        assert not layer.running_mean.requires_grad and not layer.running_var.requires_grad
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance, equal_nan=True)


@pytest.mark.parametrize("momentum, eps", [(0.1, 1e-5), (0.3, 0.1), (1.0, 1e-5)])
def test_batch_norm_is_torchs(page, momentum, eps):
    """Outputs, gradients and buffers over five training steps of several sizes, then evaluation,
    then training again."""
    ours, theirs = both_norms(page, momentum=momentum, eps=eps)
    for step, B in enumerate((8, 2, 3, 100, 8)):
        x, g = drawn((B, 4), (B, 4), seed=step)
        compare_norms(ours, theirs, 3 * x + 2, g, 1e-9)
    ours.eval(), theirs.eval()
    compare_norms(ours, theirs, *drawn((1, 4), (1, 4)), 1e-9)  # one example is enough here
    ours.train(), theirs.train()
    compare_norms(ours, theirs, *drawn((5, 4), (5, 4)), 1e-9)
    assert ours.num_batches_tracked == 6 and ours.num_batches_tracked.dtype == torch.int64


@pytest.mark.parametrize("scale", [1e-30, 1e-3, 1.0, 1e3, 1e15])
def test_batch_norm_at_extreme_scales(page, scale):
    """Tiny and huge values in float32 and a column of zeros: as torch's. A constant column: ours
    is exactly beta, while torch multiplies out first and is off by its rounding."""
    ours, theirs = both_norms(page, dtype=torch.float32)
    x, g = (v.float() for v in drawn((6, 4), (6, 4)))
    x[:, 1], x[:, 2] = 0.5, 0.0
    x *= scale
    y, reference = ours(x), theirs(x)
    torch.testing.assert_close(y[:, [0, 2, 3]], reference[:, [0, 2, 3]], rtol=1e-4, atol=1e-4)
    assert torch.equal(y[:, 1:3], ours.bias[1:3].expand(6, 2))
    off = (reference[:, 1] - ours.bias[1]).abs().max()
    assert off <= 1e-6 * scale / 1e-5**0.5 + 1e-6
    for name in ("running_mean", "running_var"):
        torch.testing.assert_close(getattr(ours, name), getattr(theirs, name), rtol=1e-4, atol=1e-6)


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
        torch.testing.assert_close(ours(x), theirs(x), equal_nan=True, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(ours.running_mean, theirs.running_mean, equal_nan=True)
        assert ours.running_var.isfinite().tolist() == theirs.running_var.isfinite().tolist()


def test_batch_of_one_raises(page):
    """In training, as torch does; the running statistics are untouched."""
    for layer in both_norms(page):
        with pytest.raises(ValueError):
            layer(torch.ones(1, 4).double())
        assert not layer.running_mean.any() and (layer.running_var == 1).all()


NORM_MUTANTS = {
    "the biased variance remembered": ("var * (B / (B - 1))", "var"),
    "the unbiased variance used": ("correction=0", "correction=1"),
    "momentum swapped": ("mul_(1 - self.momentum).add_(self.momentum * new)",
                         "mul_(self.momentum).add_((1 - self.momentum) * new)"),
    "the batches not counted": ("self.num_batches_tracked += 1", "pass"),
    "train and eval confused": ("if self.training:", "if not self.training:"),
    "eps outside the root": ("(var + self.eps).sqrt()", "(var.sqrt() + self.eps)"),
    "the buffers no buffers": ('register_buffer("running_mean", torch.zeros(D))',
                               '__setattr__("running_mean", torch.zeros(D))'),
    "a batch of one let through": ("len(x) < 2", "len(x) < 1"),
}  # fmt: skip


@pytest.mark.parametrize("old, new", NORM_MUTANTS.values(), ids=NORM_MUTANTS)
def test_a_wrong_batch_norm_is_found(old, new):
    """Each planted fault of the page's layer fails a test above."""
    broken = mutated("BatchNorm", old, new)
    with pytest.raises((AssertionError, pytest.fail.Exception, ValueError, ZeroDivisionError)):
        test_batch_norm_is_torchs(broken, 0.3, 0.1)
        test_batch_of_one_raises(broken)


def test_kept_graph_is_found(page):
    """The page's leaky layer gives torch's outputs and is found by requires_grad alone; its graph
    grows by the same amount each step, and the right layer has none."""
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


def test_no_grad_left_out_is_found():
    """The page's own layer without its decorator: caught by the comparison of the buffers."""
    broken = mutated("BatchNorm", "@torch.no_grad()", "@torch.enable_grad()")
    with pytest.raises((AssertionError, RuntimeError)):
        ours, _ = both_norms(broken)
        ours(drawn((5, 4)).requires_grad_())
        assert not ours.running_mean.requires_grad


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


@pytest.mark.parametrize("old, new", [("alpha * log_p.mean(1)", "alpha * log_p.sum(1)"),
                                      ("(1 - alpha) * right", "right"),
                                      ("logits.logsumexp(1, keepdim=True)",
                                       "logits.exp().sum(1, keepdim=True).log()")])  # fmt: skip
def test_a_wrong_smoothed_loss_is_found(old, new):
    """A sum for the mean, the label's share not taken away, exp without care."""
    broken = mutated("smoothed_cross_entropy", old, new)
    with pytest.raises(AssertionError):
        for alpha, scale in product((0.1, 0.5), (1.0, 1e4)):
            test_smoothed_cross_entropy_is_torchs(broken, alpha, scale)


def test_the_lesson_writes_random_shift_as_it_is():
    """The class on the page is the class of the module, to the letter."""
    assert _source_of("RandomShift") == inspect.getsource(models.RandomShift).rstrip()


def test_random_shift_shifts(page):
    """Every output is the image moved by some shift of at most `pixels`, zeros coming in; all
    shifts occur; in evaluation nothing happens."""
    p, x = 2, torch.arange(1.0, 31).view(1, 1, 5, 6)
    padded = F.pad(x, (p, p, p, p))[0, 0]
    windows = {(dy, dx): padded[dy : dy + 5, dx : dx + 6] for dy, dx in product(range(5), repeat=2)}
    shift, seen = page["RandomShift"](p), set()
    torch.manual_seed(0)
    for image in shift(x.expand(600, 1, 5, 6))[:, 0]:
        (which,) = [key for key, window in windows.items() if torch.equal(window, image)]
        seen.add(which)
    assert len(seen) == 25
    assert shift.eval()(x) is x and page["RandomShift"](0)(x) is x


def early_run(page):
    """The validation losses of 25 epochs, and that of the weights which fit_early leaves."""
    losses, evaluate = [], page["evaluate"]

    def recorded(model, split, **options):
        losses.append(evaluate(model, split, **options)[0])
        return losses[-1], 0.0

    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 3))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.05)
    page = {**page, "evaluate": recorded}
    exec(page["early_source"], page)
    page["fit_early"](model, split_of(60), 25, optimizer, progress=False, device="cpu")
    return losses, evaluate(model, page["validation"])[0]


def test_fit_early_puts_the_best_weights_back(page):
    """The weights that come back have the lowest validation loss of all epochs, to the digit."""
    losses, kept = early_run({**page, "early_source": _source_of("fit_early")})
    assert len(losses) == 25 and kept == min(losses) < losses[-1]


def test_fit_early_without_a_copy_is_found(page):
    """state_dict() alone keeps the last weights: the test above would fail."""
    source = _source_of("fit_early")
    without = source.replace("copy.deepcopy(model.state_dict())", "model.state_dict()")
    assert source != without
    losses, kept = early_run({**page, "early_source": without})
    assert kept == losses[-1] > min(losses)


def test_network_has_its_remedies(page):
    """Shift first, batch norm before ReLU, dropout behind it; without them, mlp's function."""
    kinds = [type(m).__name__ for m in page["network"](0.5, True, 2)]
    assert kinds == ["RandomShift", "Flatten", "Linear", "BatchNorm", "ReLU", "Dropout", "Linear"]
    x = torch.randn(3, 1, 28, 28)
    outputs = []
    for make in (page["network"], page["mlp"]):
        torch.manual_seed(0)
        outputs.append(make()(x))
    assert torch.equal(*outputs)


def test_small_helpers(page):
    """epochs_until counts from 1, one past the last for never; standard error is sd / root n."""
    history = SimpleNamespace(accuracy=[0.5, 0.9, 0.8])
    assert [page["epochs_until"](history, s) for s in (0.4, 0.9, 0.95)] == [1, 2, 4]
    values = np.array([1.0, 2.0, 4.0])
    close(page["standard_error"](values), np.std(values, ddof=1) / math.sqrt(3))
    assert [type(m).__name__ for m in page["deep"](True)].count("BatchNorm") == 8


def test_the_test_split_is_touched_once():
    """No cell before the table's reads mnist.test, and only that one does."""
    code = [c.source for c in cells(LESSON) if c.cell_type == "code"]
    assert sum("mnist.test" in source for source in code) == 1
    (at,) = [k for k, source in enumerate(code) if "mnist.test" in source]
    assert not any("choose" in source or "best =" in source for source in code[at:])
    used = [k for k, source in enumerate(code) if re.search(r"\btest\b[,)]", source)]
    assert used and min(used) >= at


# The checkers --------------------------------------------------------------------------------


def test_solution_of_batch_norm_images_is_torchs():
    """Against nn.BatchNorm2d, values and gradients."""
    solution = definitions(LESSON, "batch_norm_images", tag="solution")["batch_norm_images"]
    layer, x = nn.BatchNorm2d(3, momentum=0.2).double(), drawn((4, 3, 5, 2)).requires_grad_()
    y, mean, var = solution(x, layer.weight, layer.bias, layer.running_mean.clone(),
                            layer.running_var.clone(), True, 0.2, layer.eps)  # fmt: skip
    theirs, g = layer(x), drawn((4, 3, 5, 2), seed=1)
    close(y.detach(), theirs.detach())
    close(mean, layer.running_mean)
    close(var, layer.running_var)
    close(*(torch.autograd.grad(v, x, g)[0] for v in (y, theirs)))


def gradient(add=lambda alpha: 1 - alpha, spread=lambda alpha, K: alpha / K, mean=True, sign=1,
             softmax=lambda z: z.softmax(1)):  # fmt: skip
    def smoothed_gradient(logits, labels, alpha):
        B, K = logits.shape
        q = torch.full_like(logits, spread(alpha, K))
        q[torch.arange(B), labels] += add(alpha)
        return sign * (softmax(logits) - q) / (B if mean else 1)

    return smoothed_gradient


def naive_softmax(z):
    return z.exp() / z.exp().sum(1, keepdim=True)


def channels(scale=lambda rate: 1 - rate, mode=lambda training: training, over=(2, 3),
             stays=lambda drawn, rate: drawn >= rate, given=True):  # fmt: skip
    """over: the axes that share one number of the mask."""

    def channel_dropout(x, rate, training, generator):
        if not mode(training):
            return x
        shape = [1 if axis in over else size for axis, size in enumerate(x.shape)]
        keep = stays(torch.rand(shape, generator=generator if given else None), rate)
        return x * keep / scale(rate)

    return channel_dropout


def stopping(better=lambda loss, best: loss < best, late=0, previous=False, ahead=False):
    def early_stop(losses, patience):
        best, best_epoch, bad = math.inf, 0, 0
        for epoch, loss in enumerate(losses, 1):
            if better(loss, best):
                best, best_epoch, bad = loss, epoch, 0
            else:
                bad += 1
                if previous and loss < losses[epoch - 2]:
                    bad = 0
                if bad >= patience + late:
                    break
        if ahead:
            best_epoch = min(range(len(losses)), key=lambda k: losses[k]) + 1
        return best_epoch, epoch

    return early_stop


def never_resets(losses, patience):
    best, best_epoch, bad = math.inf, 0, 0
    for epoch, loss in enumerate(losses, 1):
        if loss < best:
            best, best_epoch = loss, epoch
        else:
            bad += 1
        if bad >= patience:
            break
    return best_epoch, epoch


def mixing(images=lambda s: s, labels=lambda s: s, own=False):
    def mixup(x, y, order, share, K):
        q = F.one_hot(y, K).to(x.dtype)
        other = q if own else q[order]
        s, t = images(share), labels(share)
        return s * x + (1 - s) * x[order], t * q + (1 - t) * other

    return mixup


def norm(over=(0, 2, 3), biased=False, n=None, swap=False, detach=True, always=False, outside=False,
         used=0, confused=False, moves=False):  # fmt: skip
    def batch_norm_images(x, weight, bias, mean, var, training, momentum, eps):
        m = 1 - momentum if swap else momentum
        seen_mean, seen_var = x.mean(over), x.var(over, correction=0)
        count = n(x) if n else x.numel() // x.shape[1]
        kept_mean, kept_var = (v.detach() if detach else v for v in (seen_mean, seen_var))
        factor = 1 if biased else count / (count - 1)
        use_mean, use_var = mean, var
        if training != confused or always:
            use_mean, use_var = seen_mean, x.var(over, correction=used)
        if training or moves:
            mean, var = (1 - m) * mean + m * kept_mean, (1 - m) * var + m * kept_var * factor
        root = use_var.sqrt() + eps if outside else (use_var + eps).sqrt()
        y = (x - use_mean[:, None, None]) * (weight / root)[:, None, None] + bias[:, None, None]
        return y, mean, var

    return batch_norm_images


MUTANTS = {
    "one-hot label kept whole": (
        "smoothed_gradient", gradient(add=lambda alpha: 1), "it sums to 1"),
    "spread over the others only": (
        "smoothed_gradient", gradient(spread=lambda alpha, K: alpha / (K - 1)), "it sums to 1"),
    "sum for mean": ("smoothed_gradient", gradient(mean=False), "divided by B"),
    "wrong sign": ("smoothed_gradient", gradient(sign=-1), "p − y"),
    "softmax that overflows": (
        "smoothed_gradient", gradient(softmax=naive_softmax), "the largest is subtracted"),
    "dropout without scaling": ("channel_dropout", channels(lambda rate: 1), "probability of"),
    "dropout scaled by rate": ("channel_dropout", channels(lambda rate: rate), "a rate of 0.2"),
    "dropout multiplied": (
        "channel_dropout", channels(lambda rate: 1 / (1 - rate)), "1 − rate"),
    "dropout in evaluation": (
        "channel_dropout", channels(mode=lambda training: True), "In evaluation nothing"),
    "dropout train and eval confused": (
        "channel_dropout", channels(mode=lambda training: not training), "What stays"),
    "dropout's mask of 1 where it should be 0": (
        "channel_dropout", channels(stays=lambda drawn, rate: drawn < rate), "20 % of the"),
    "one dropout mask for each pixel": ("channel_dropout", channels(over=()), "two more axes"),
    "one dropout mask for all images": ("channel_dropout", channels(over=(0, 2, 3)), "mask of its"),
    "dropout of whole images": ("channel_dropout", channels(over=(1, 2, 3)), "draw of its own"),
    "dropout from torch's own generator": (
        "channel_dropout", channels(given=False), "generator that was given"),
    "dropout of one row of pixels": ("channel_dropout", channels(over=(3,)), "as a whole"),
    "one epoch too patient": ("early_stop", stopping(late=1), "stop after 4"),
    "an equal loss counts": (
        "early_stop", stopping(lambda loss, best: loss <= best), "no improvement"),
    "better than the epoch before": ("early_stop", stopping(previous=True), "best so far"),
    "sees the future": ("early_stop", stopping(ahead=True), "never seen"),
    "patience never refilled": ("early_stop", never_resets, "starts the count again"),
    "NaN is the best": (
        "early_stop", stopping(lambda loss, best: not loss >= best), "improves nothing"),
    "share swapped": (
        "mixup", mixing(lambda s: 1 - s, lambda s: 1 - s), "nothing is mixed"),
    "labels not mixed": ("mixup", mixing(own=True), "value 2"),
    "labels by half": ("mixup", mixing(labels=lambda s: (s + 1) / 2), "labels alike"),
    "biased variance remembered": ("batch_norm_images", norm(biased=True), "unbiased"),
    "unbiased by B": ("batch_norm_images", norm(n=len), "n = B · H · W"),
    "unbiased variance used": ("batch_norm_images", norm(used=1), "divided by all"),
    "momentum swapped": ("batch_norm_images", norm(swap=True), "share of the new"),
    "graph kept": ("batch_norm_images", norm(detach=False), "memory grows"),
    "train and eval confused": ("batch_norm_images", norm(confused=True), "In training"),
    "batch statistics in evaluation": (
        "batch_norm_images", norm(always=True), "In evaluation the running"),
    "buffers move in evaluation": ("batch_norm_images", norm(moves=True), "stay as they are"),
    "eps outside the root": ("batch_norm_images", norm(outside=True), "inside the root"),
}  # fmt: skip
