"""Lesson 05, multilayer perceptrons: its equations, its functions and its checkers.

What a boxed equation says, written out in float64, is what torch gives.
"""

import json
import math
from functools import partial
from itertools import product

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lesson_source import close, definitions, drawn
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from lessons_src import records, train
from lessons_src.data import Split

LESSON = "05_multilayer_perceptrons"
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
    "warmup_decay",
    "train_well",
    "dead",
    "sigmoid",
    "tanh",
    "save",
    "load",
)
EXTREME = torch.tensor(
    [
        0.0,
        -0.0,
        1e-30,
        1.0,
        -1.0,
        20.0,
        -20.0,
        88.0,
        -88.0,
        100.0,
        -100.0,
        1e4,
        -1e4,
        3e38,
        -3e38,
        torch.inf,
        -torch.inf,
    ]
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
    s = [(values[i + 1] - values[i]) / (knots[i + 1] - knots[i]) for i in range(n)]
    total = values[0] + s[0] * max(0.0, x - knots[0])
    return total + sum((s[i] - s[i - 1]) * max(0.0, x - knots[i]) for i in range(1, n))


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


def test_what_the_page_says_of_r2s_seeds():
    """The published numbers lie among the recorded ones, and these are far apart after
    epoch 1."""
    runs = [run["test_accuracy"] for run in records.recorded("R2")["runs"]]
    for shares, published in zip(
        zip(*runs, strict=True), (0.363, 0.548, 0.628), strict=False
    ):
        assert min(shares) < published < max(shares)
    first, last = ([shares[k] for shares in runs] for k in (0, -1))
    assert max(first) - min(first) > 0.1 > 2 * (max(last) - min(last))


def test_eq_warmup_decay(page):
    """min(1, rise, fall) is the page's function; it peaks at 1, is never 0, and ends
    near 0."""
    for T, omega in product((10, 430, 1721), (0.1, 0.3)):
        stated = [
            min(1, (t + 1) / (omega * T), (T - t) / ((1 - omega) * T)) for t in range(T)
        ]
        close([page["warmup_decay"](t, T, omega) for t in range(T)], stated)
        assert max(stated) > 1 - 1 / (omega * T) and min(stated) > 0 and max(stated) <= 1
        assert math.isclose(stated[-1], 1 / ((1 - omega) * T))
        peak = stated.index(max(stated))
        assert stated[: peak + 1] == sorted(stated[: peak + 1])
        assert stated[peak:] == sorted(stated[peak:], reverse=True)


def test_eq_dead_unit():
    """A first-layer weight's gradient is the boxed sum over examples, for every
    weight."""
    x, W, b, V = drawn((6, 4), (5, 4), (5,), (3, 5))
    b[2] = -99  # unit 2 is dead
    W, b, V = (p.requires_grad_() for p in (W, b, V))
    u = x @ W.T + b
    a = u.relu()
    loss = F.cross_entropy(a @ V.T, torch.tensor([0, 1, 2, 0, 1, 2]))
    by_a, by_W, by_b, by_V = torch.autograd.grad(loss, (a, W, b, V))
    for j, d in product(range(5), range(4)):
        close(
            sum(by_a[n, j] * float(u[n, j] > 0) * x[n, d] for n in range(6)), by_W[j, d]
        )
    assert not by_W[2].any() and not by_b[2].any() and not by_V[:, 2].any()
    assert by_W[[0, 1, 3, 4]].any(1).all()


def test_eq_sigmoid_slope():
    """sigma' = sigma (1 - sigma), at most a quarter, by autograd and by central
    differences."""
    u = torch.linspace(-6, 6, 121, dtype=torch.float64, requires_grad=True)
    s = torch.sigmoid(u).detach()
    close(torch.autograd.grad(torch.sigmoid(u).sum(), u)[0], s * (1 - s))
    h = 1e-5
    close(
        (torch.sigmoid(u + h) - torch.sigmoid(u - h)).detach() / (2 * h),
        s * (1 - s),
        1e-8,
    )
    close((s * (1 - s)).max(), 0.25)


def test_eq_tanh_slope():
    """tanh u = 2 sigma(2u) - 1, with slope 1 - tanh^2, at most 1."""
    u = torch.linspace(-6, 6, 121, dtype=torch.float64, requires_grad=True)
    close(2 * torch.sigmoid(2 * u.detach()) - 1, u.detach().tanh())
    slope = torch.autograd.grad(u.tanh().sum(), u)[0]
    close(slope, 1 - u.detach().tanh() ** 2)
    close(slope.max(), 1)


# The page's functions -------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, reference",
    [("relu", F.relu), ("sigmoid", torch.sigmoid), ("tanh", torch.tanh)],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_activations_equal_torch(page, name, reference, dtype):
    """Values and gradients, at 0, at saturation and at infinity: finite where torch's
    are."""
    u = torch.cat(
        [EXTREME.to(dtype), drawn((50,), seed=3).to(dtype) * 5]
    ).requires_grad_()
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


def test_train_well_follows_the_schedule(page):
    """The rate of every step is the peak times the factor, and the last is nearly
    zero."""
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
        model[1].bias[7] = (
            -(split.images.flatten(1) @ model[1].weight[7]).topk(2).values.mean()
        )
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
    """The record's numbers beside the published ones, without sd too; else the
    command, no path."""
    said = []
    in_full = definitions(LESSON, "in_full")["in_full"]
    monkeypatch.setitem(in_full.__globals__, "say", said.append)
    monkeypatch.setattr(records, "FOLDER", tmp_path)
    assert in_full("R5", "96.23 %", "96 %") is None
    assert "`python -m benchmarks.record R5`" in said[0] and str(tmp_path) not in said[0]
    runs = [{"train_accuracy": [0.5, last]} for last in (0.9, 0.7)]
    record = {
        "name": "R5",
        "date": "2026-01-02",
        "command": "make it",
        "epochs": 2,
        "runs": runs,
        "accuracy": {"mean": 0.75, "sd": 0.01, "n": 2},
        "seconds": {"mean": 60.0},
        "machine": {"name": "a processor", "threads": 2},
    }
    for sd, shown in (
        (0.01, "| **80.00%** | **75.00%** ± **1.00%** |"),
        (None, "| **80.00%** | **75.00%** |"),
    ):
        record["accuracy"]["sd"] = sd
        (tmp_path / "R5.json").write_text(json.dumps(record))
        assert in_full("R5", "96.23 %", "96 %") == record
        assert "| published | 96.23 % | 96 % |" in said[-2] and shown in said[-2]
        assert "(a processor, 2 threads) by `make it`" in said[-1]
