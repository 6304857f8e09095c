"""Lesson 05, multilayer perceptrons: its equations, its functions and its checkers.

A boxed equation is tested in two halves: the page states it in the TeX that stands here, and what
that TeX says, written out in float64, is what torch gives.
"""

import inspect
import json
import math
import textwrap
from functools import partial
from itertools import product

import lesson_source
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lesson_source import cells, close, definitions, drawn
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

import benchmarks
from lessons_src import train
from lessons_src.data import Split

LESSON = "05_multilayer_perceptrons"
FUNCTIONS = ("xor_clouds", "xor_by_hand", "collapse", "hinges", "hinge_network", "relu", "forward",
             "mlp", "train_by_hand", "evaluate_by_hand", "warmup_decay", "train_well", "dead",
             "sigmoid", "tanh", "save", "load", "CPU")  # fmt: skip
EXTREME = torch.tensor([0.0, -0.0, 1e-30, 1.0, -1.0, 20.0, -20.0, 88.0, -88.0, 100.0, -100.0, 1e4,
                        -1e4, 3e38, -3e38, torch.inf, -torch.inf])  # fmt: skip


@pytest.fixture(scope="module")
def page():
    """What the lesson defines, as a namespace."""
    return definitions(LESSON, *FUNCTIONS)


boxed = partial(lesson_source.boxed, LESSON)


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


# Boxed equations ------------------------------------------------------------------------------


def test_eq_xor_corners():
    """Opposite corners of the square have the same sum of scores, 2b, for every affine score."""
    assert boxed("eq-xor-corners") == "s(1,1)+s(-1,-1)=s(1,-1)+s(-1,1)=2b"
    w, b = drawn((1000, 2), (1000,))

    def s(*x):
        return w @ torch.tensor(x, dtype=torch.float64) + b

    close(s(1, 1) + s(-1, -1), 2 * b)
    close(s(1, -1) + s(-1, 1), 2 * b)


def test_eq_collapse():
    """Two linear layers are one, of weight W2 W1 and bias b1 W2^T + b2."""
    assert boxed("eq-collapse") == (r"(xW_1^\top+b_1)W_2^\top+b_2=x(W_2W_1)^\top+(b_1W_2^\top+b_2)")
    x, W1, b1, W2, b2 = drawn((7, 4), (5, 4), (5,), (3, 5), (3,))
    close(x @ (W2 @ W1).T + (b1 @ W2.T + b2), F.linear(F.linear(x, W1, b1), W2, b2))


def zigzag(x, knots, values):
    """The boxed sum, term by term."""
    n = len(knots) - 1
    s = [(values[i + 1] - values[i]) / (knots[i + 1] - knots[i]) for i in range(n)]
    total = values[0] + s[0] * max(0.0, x - knots[0])
    return total + sum((s[i] - s[i - 1]) * max(0.0, x - knots[i]) for i in range(1, n))


def test_eq_hinges():
    """The sum of hinges is linear interpolation: through all points, straight between them."""
    assert boxed("eq-hinges") == (
        r"f(x)=y_0+s_0\max(0,x-x_0)+\sum_{i=1}^{n-1}(s_i-s_{i-1})\max(0,x-x_i)"
    )
    rng = np.random.default_rng(0)
    for n in (1, 2, 7):
        knots, values = np.sort(rng.standard_normal(n + 1)), rng.standard_normal(n + 1)
        x = np.concatenate([knots, rng.uniform(knots[0], knots[-1], 50)])
        close([zigzag(v, knots, values) for v in x], np.interp(x, knots, values))


def test_eq_hinge_error():
    """The error stays under width^2 / 8 times the largest |g''|, and comes near to it."""
    assert boxed("eq-hinge-error") == r"|g(x)-f(x)|\le\frac{\Delta^2}{8}\max|g''|"
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
    assert boxed("eq-mlp") == (
        r"a^{(l)}=\max\left(0,a^{(l-1)}W^{(l)\top}+b^{(l)}\right)(l<L),"
        r"\quadz=a^{(L-1)}W^{(L)\top}+b^{(L)}"
    )
    model = page["mlp"](5, 7, 6, 3).double()
    a = x = drawn((4, 5))
    for layer in (model[1], model[3]):
        a = torch.maximum(torch.zeros(()).double(), a @ layer.weight.T + layer.bias)
    close(a @ model[5].weight.T + model[5].bias, model(x))


@pytest.mark.parametrize("sizes", [(784, 100, 10), (784, 512, 512, 10), (3, 2), (5, 4, 3, 2)])
def test_eq_parameters(page, sizes):
    """The sum of (inputs + 1) x outputs is the count of the module's numbers."""
    assert boxed("eq-parameters") == r"P=\sum_{l=1}^{L}(D_{l-1}+1)D_l"
    count = sum((sizes[k - 1] + 1) * sizes[k] for k in range(1, len(sizes)))
    assert count == sum(p.numel() for p in page["mlp"](*sizes).parameters())


def test_published_parameter_counts_are_those_of_the_published_networks(page):
    """79,510 for R5 and 669,706 for R2."""
    for sizes, published in (((784, 100, 10), 79_510), ((784, 512, 512, 10), 669_706)):
        assert sum(p.numel() for p in page["mlp"](*sizes).parameters()) == published


def test_what_the_page_says_of_r2s_seeds():
    """The published numbers lie among the recorded ones, and these are far apart after epoch 1."""
    runs = [run["test_accuracy"] for run in benchmarks.recorded("R2")["runs"]]
    for shares, published in zip(zip(*runs, strict=True), (0.363, 0.548, 0.628), strict=False):
        assert min(shares) < published < max(shares)
    first, last = ([shares[k] for shares in runs] for k in (0, -1))
    assert max(first) - min(first) > 0.1 > 2 * (max(last) - min(last))


def test_eq_warmup_decay(page):
    """min(1, rise, fall) is the page's function; it peaks at 1, is never 0, and ends near 0."""
    assert boxed("eq-warmup-decay") == (
        r"\lambda_t=\min\left(1,\frac{t+1}{\omegaT},\frac{T-t}{(1-\omega)T}\right),"
        r"\qquadt=0,\dots,T-1"
    )
    for T, omega in product((10, 430, 1721), (0.1, 0.3)):
        stated = [min(1, (t + 1) / (omega * T), (T - t) / ((1 - omega) * T)) for t in range(T)]
        close([page["warmup_decay"](t, T, omega) for t in range(T)], stated)
        assert max(stated) > 1 - 1 / (omega * T) and min(stated) > 0 and max(stated) <= 1
        assert math.isclose(stated[-1], 1 / ((1 - omega) * T))
        peak = stated.index(max(stated))
        assert stated[: peak + 1] == sorted(stated[: peak + 1])
        assert stated[peak:] == sorted(stated[peak:], reverse=True)


def test_eq_dead_unit():
    """A first-layer weight's gradient is the boxed sum over examples, for every weight."""
    assert boxed("eq-dead-unit") == (
        r"\frac{\partial\text{loss}}{\partialW_{jd}}=\sum_{n=1}^{B}"
        r"\frac{\partial\text{loss}}{\partiala_{nj}}[u_{nj}>0]x_{nd}"
    )
    x, W, b, V = drawn((6, 4), (5, 4), (5,), (3, 5))
    b[2] = -99  # unit 2 is dead
    W, b, V = (p.requires_grad_() for p in (W, b, V))
    u = x @ W.T + b
    a = u.relu()
    loss = F.cross_entropy(a @ V.T, torch.tensor([0, 1, 2, 0, 1, 2]))
    by_a, by_W, by_b, by_V = torch.autograd.grad(loss, (a, W, b, V))
    for j, d in product(range(5), range(4)):
        close(sum(by_a[n, j] * float(u[n, j] > 0) * x[n, d] for n in range(6)), by_W[j, d])
    assert not by_W[2].any() and not by_b[2].any() and not by_V[:, 2].any()
    assert by_W[[0, 1, 3, 4]].any(1).all()


def test_eq_sigmoid_slope():
    """sigma' = sigma (1 - sigma), at most a quarter, by autograd and by central differences."""
    assert boxed("eq-sigmoid-slope") == r"\sigma'(u)=\sigma(u)(1-\sigma(u))\le\tfrac14"
    u = torch.linspace(-6, 6, 121, dtype=torch.float64, requires_grad=True)
    s = torch.sigmoid(u).detach()
    close(torch.autograd.grad(torch.sigmoid(u).sum(), u)[0], s * (1 - s))
    h = 1e-5
    close((torch.sigmoid(u + h) - torch.sigmoid(u - h)).detach() / (2 * h), s * (1 - s), 1e-8)
    close((s * (1 - s)).max(), 0.25)


def test_eq_tanh_slope():
    """tanh u = 2 sigma(2u) - 1, with slope 1 - tanh^2, at most 1."""
    assert boxed("eq-tanh-slope") == (r"\tanhu=2\sigma(2u)-1,\qquad\tanh'u=1-\tanh^2u\le1")
    u = torch.linspace(-6, 6, 121, dtype=torch.float64, requires_grad=True)
    close(2 * torch.sigmoid(2 * u.detach()) - 1, u.detach().tanh())
    slope = torch.autograd.grad(u.tanh().sum(), u)[0]
    close(slope, 1 - u.detach().tanh() ** 2)
    close(slope.max(), 1)


# The page's functions ------------------------------------------------------------------------


@pytest.mark.parametrize("name, reference", [("relu", F.relu), ("sigmoid", torch.sigmoid),
                                             ("tanh", torch.tanh)])  # fmt: skip
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_activations_equal_torch(page, name, reference, dtype):
    """Values and gradients, at 0, at saturation and at infinity: finite where torch's are."""
    u = torch.cat([EXTREME.to(dtype), drawn((50,), seed=3).to(dtype) * 5]).requires_grad_()
    ours, theirs = page[name](u), reference(u)
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)
    ours, theirs = (torch.autograd.grad(v.sum(), u)[0] for v in (ours, theirs))
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


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
    """(B, 1, 28, 28) gives (B, 10); no activation behind the last layer; the activation is used."""
    model = page["mlp"](784, 20, 10, activation=nn.Tanh)
    assert model(torch.zeros(2, 1, 28, 28)).shape == (2, 10)
    assert [type(m) for m in model] == [nn.Flatten, nn.Linear, nn.Tanh, nn.Linear]


def test_xor_by_hand_is_right(page):
    """All corners, and every point of the clouds that lies within 1 of the line's right side."""
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
    """Equal to numpy's linear interpolation for uneven knots, and constant before the first."""
    knots, values = drawn((9,)).sort().values, drawn((9,), seed=1)
    x = torch.cat([knots, torch.linspace(knots[0].item(), knots[-1].item(), 300).double()])
    close(page["hinge_network"](x, knots, values), np.interp(x, knots, values))
    close(page["hinge_network"](knots[:1] - 5, knots, values), values[:1])
    assert [len(p) for p in page["hinges"](knots, values)[:2]] == [8, 8]  # n units, n + 1 points


def both_loops(page, fit, **options):
    """Weights, losses and accuracies of the page's loop and of `fit`, from the same start."""
    results = []
    for loop in (page["train_by_hand"], fit):
        model = network(dropout=True)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.5)
        torch.manual_seed(7)  # for dropout
        measured = loop(model, split_of(), 3, optimizer, **options)
        if isinstance(measured, train.History):
            measured = measured.loss, measured.accuracy
        results.append((*measured, [p.tolist() for p in model.parameters()]))
    return results


@pytest.mark.parametrize("options", [{}, {"batch_size": 7, "seed": 3}])
def test_train_by_hand_is_fit(page, options):
    """Losses, accuracies and weights to the last digit, short last batch and dropout included."""
    by_hand, by_fit = both_loops(page, partial(train.fit, device="cpu", progress=False), **options)
    assert by_hand == by_fit


@pytest.mark.parametrize("line", ["optimizer.zero_grad()", "loss.backward()", "optimizer.step()",
                                  "model.train()"])  # fmt: skip
def test_fit_without_a_line_is_not_train_by_hand(page, line):
    """Take one line out of fit: its numbers, which the lesson compares, change or it fails."""
    source = textwrap.dedent(inspect.getsource(train.fit))
    assert source.count(line) == 1
    namespace = dict(vars(train))
    exec(source.replace(line, "model.eval()" if "train" in line else "pass"), namespace)
    broken = partial(namespace["fit"], device="cpu", progress=False)
    by_hand, by_fit = both_loops(page, broken)
    assert by_hand != by_fit


def test_the_lesson_shows_fit_as_it_is():
    """The source on the page is the source of the module."""
    shown = [o.data.get("text/markdown", "") for c in cells(LESSON) if c.cell_type == "code"
             for o in c.outputs if "data" in o]  # fmt: skip
    assert any(inspect.getsource(train.fit) in text for text in shown)


@pytest.mark.parametrize("batch_size", [1, 64, 130, 1000])
def test_evaluate_by_hand_is_evaluate(page, batch_size):
    """Mean loss and accuracy over the whole split, in evaluation mode, for any batch size."""
    model, split = network(dropout=True), split_of()
    loss, share = page["evaluate_by_hand"](model.train(), split, batch_size)
    assert (loss, share) == train.evaluate(model, split, batch_size=batch_size)
    model.eval()
    close(loss, F.cross_entropy(model(split.images), split.labels).item(), 1e-5)
    close(share, train.accuracy(model(split.images), split.labels), 1e-6)


def test_train_well_follows_the_schedule(page):
    """The rate of every step is the peak times the factor, and the last is nearly zero."""
    rates, step = [], torch.optim.Adam.step

    def recorded(self, *args, **kwargs):
        rates.append(self.param_groups[0]["lr"])
        return step(self, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.Adam, "step", recorded)
        history = page["train_well"](network(), split_of(), 4, lr=0.02, batch_size=50)
    close(rates, [0.02 * page["warmup_decay"](t, 12) for t in range(12)])
    assert len(history.loss) == 4 and history.loss[-1] < history.loss[0]


def test_warmup_decay_is_what_lambda_lr_applies(page):
    """Stepped after every batch, LambdaLR gives lr times the page's factor."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.5)
    scheduler, rates = LambdaLR(optimizer, lambda t: page["warmup_decay"](t, 20)), []
    for _ in range(20):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    close(rates, [0.5 * min(1, (t + 1) / 6, (20 - t) / 14) for t in range(20)])


def test_dead_finds_the_units_that_never_fire(page):
    """Exactly those made dead, and not one that fires for a single example."""
    model, split = network(), split_of()
    with torch.no_grad():
        model[1].bias.fill_(50)
        model[1].bias[[3, 5]] = -1e3
        model[1].bias[7] = -(split.images.flatten(1) @ model[1].weight[7]).topk(2).values.mean()
    found = page["dead"](model, split)
    assert found.nonzero().flatten().tolist() == [3, 5]


def test_save_and_load_give_the_model_back(page, tmp_path):
    """Every number, and nothing is left beside the file."""
    model, path = network(seed=1), tmp_path / "model.pt"
    page["save"](model, path)
    other = page["load"](network(seed=2), path)
    for ours, theirs in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert [file.name for file in tmp_path.iterdir()] == ["model.pt"]


def test_a_failed_save_leaves_the_good_file(page, tmp_path, monkeypatch):
    """A disk that is full in the middle of writing destroys nothing."""
    path = tmp_path / "model.pt"
    page["save"](network(seed=1), path)
    before = path.read_bytes()

    def full(state, file):
        with open(file, "wb") as out:
            out.write(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError):
        page["save"](network(seed=2), path)
    assert path.read_bytes() == before


def test_load_runs_no_code_from_a_file(page, tmp_path):
    """A pickled object that is no tensor is refused, not built."""
    path = tmp_path / "model.pt"
    torch.save({"1.weight": print}, path)
    with pytest.raises(Exception, match="(?i)weights"):
        page["load"](network(), path)


def test_a_record_is_shown_and_a_missing_one_names_its_command(tmp_path, monkeypatch):
    """The record's numbers beside the published ones, without sd too; else the command, no path."""
    said = []
    in_full = definitions(LESSON, "in_full")["in_full"]
    monkeypatch.setitem(in_full.__globals__, "say", said.append)
    monkeypatch.setattr(benchmarks, "RESULTS", tmp_path)
    assert in_full("R5", "96.23 %", "96 %") is None
    assert "`python -m benchmarks.published R5`" in said[0] and str(tmp_path) not in said[0]
    runs = [{"train_accuracy": [0.5, last]} for last in (0.9, 0.7)]
    record = {"name": "R5", "date": "2026-01-02", "command": "make it", "epochs": 2, "runs": runs,
              "accuracy": {"mean": 0.75, "sd": 0.01, "n": 2}, "seconds": {"mean": 60.0},
              "machine": {"name": "a processor", "threads": 2}}  # fmt: skip
    for sd, shown in ((0.01, "| **80.00%** | **75.00%** ± **1.00%** |"),
                      (None, "| **80.00%** | **75.00%** |")):  # fmt: skip
        record["accuracy"]["sd"] = sd
        (tmp_path / "R5.json").write_text(json.dumps(record))
        assert in_full("R5", "96.23 %", "96 %") == record
        assert "| published | 96.23 % | 96 % |" in said[-2] and shown in said[-2]
        assert "(a processor, 2 threads) by `make it`" in said[-1]


# The checkers --------------------------------------------------------------------------------


def without_last_bias(sizes):
    return sum((i + 1) * o for i, o in zip(sizes[:-1], sizes[1:], strict=True)) - sizes[-1]


def weights_only(sizes):
    return sum(i * o for i, o in zip(sizes[:-1], sizes[1:], strict=True))


def two_layers_always(sizes):
    return (sizes[0] + 1) * sizes[1] + (sizes[1] + 1) * sizes[2]


def folded(weight, bias):
    def collapse_all(layers):
        W, b = layers[0]
        for W_next, b_next in layers[1:]:
            W, b = weight(W_next, W), bias(b, W_next, b_next)
        return W, b

    return collapse_all


def left(second, first):
    return second @ first


def first_two(layers):
    (W1, b1), (W2, b2) = (layers * 2)[:2] if len(layers) > 1 else (layers[0], layers[0])
    return (W2 @ W1, b1 @ W2.T + b2) if len(layers) > 1 else layers[0]


def counted(dead, linear):
    def activity(x, W, b):
        u = x @ W.T + b
        return dead(u).sum().item(), linear(u).sum().item()

    return activity


def loop(clear=True, sign=-1, drop=False, weigh=True, sum_loss=False):
    def one_epoch(x, y, W1, b1, W2, b2, lr, batch_size):
        parameters = [p.clone().requires_grad_() for p in (W1, b1, W2, b2)]
        total, pieces = 0.0, list(zip(x.split(batch_size), y.split(batch_size), strict=True))
        for xb, yb in pieces:
            if drop and len(yb) < batch_size:
                continue
            W1, b1, W2, b2 = parameters
            logits = (xb @ W1.T + b1).relu() @ W2.T + b2
            loss = F.cross_entropy(logits, yb, reduction="sum" if sum_loss else "mean")
            loss.backward()
            with torch.no_grad():
                for p in parameters:
                    p += sign * lr * p.grad
                    if clear:
                        p.grad = None
            total += loss.item() * (len(yb) if weigh else 1)
        return *(p.detach() for p in parameters), total / (len(y) if weigh else len(pieces))

    return one_epoch


def parity(W1, b1, W2, b2):
    return lambda: tuple(map(torch.tensor, (W1, b1, W2, b2)))


ONES = [[1.0] * 3] * 3
MUTANTS = {
    "count without the last bias": ("count", without_last_bias, "Is there a bias"),
    "count without biases": ("count", weights_only, "expected 79510, received 79400"),
    "count for one hidden layer": ("count", two_layers_always, "as many layers as"),
    "collapse in the wrong order": (
        "collapse_all", folded(lambda second, first: first @ second, lambda b, W, c: b @ W.T + c),
        "stands on the left"),
    "collapse forgets the first bias": (
        "collapse_all", folded(left, lambda b, W, c: c), "value 2"),
    "collapse adds the biases": (
        "collapse_all", folded(left, lambda b, W, c: b + c if b.shape == c.shape else b @ W.T + c),
        "first bias goes through"),
    "collapse of two only": ("collapse_all", first_two, "Go on with all layers"),
    "activity along the units": (
        "activity", counted(lambda u: (u <= 0).all(1), lambda u: (u > 0).all(1)), "dimension 0"),
    "dead if ever zero": (
        "activity", counted(lambda u: (u <= 0).any(0), lambda u: (u > 0).all(0)),
        "Value 1: dead"),
    "zero counts as on": (
        "activity", counted(lambda u: (u < 0).all(0), lambda u: (u >= 0).all(0)), "exactly 0"),
    "no clearing": ("one_epoch", loop(clear=False), "clear them"),
    "climbing": ("one_epoch", loop(sign=1), "p − lr"),
    "sum for mean": ("one_epoch", loop(sum_loss=True), "mean loss"),
    "short batch dropped": ("one_epoch", loop(drop=True), "not dropped"),
    "mean of means": ("one_epoch", loop(weigh=False), "value 5"),
    "parity with XOR's weights": (
        "parity_network", parity(ONES, [0.0, -1.0, -2.0], [[1.0, -2.0, 0.0]], [0.0]), "0, 1, 0, 1"),
    "parity upside down": (
        "parity_network", parity(ONES, [0.0, -1.0, -2.0], [[-1.0, 2.0, -2.0]], [1.0]), "value 2"),
    "parity with four units": (
        "parity_network",
        parity(ONES + ONES[:1], [0.0, -1.0, -2.0, -3.0], [[1.0, -2.0, 2.0, -2.0]], [0.0]),
        "number of hidden units"),
}  # fmt: skip
