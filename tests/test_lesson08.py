"""Lesson 08, a convolutional network on MNIST: its equations, its functions and its checkers.

A boxed equation is tested in two halves: the page states it in the TeX that stands here, and what
that TeX says, written out in float64, is what torch gives.
"""

import inspect
import math
import re
from functools import partial
from itertools import product

import lesson_source
import pytest
import torch
import torch.nn.functional as F
from lesson_source import cells, close, definitions, drawn
from torch import nn

from lessons_src import checkpoint, models
from lessons_src.data import Split

LESSON = "08_cnn_mnist"
FUNCTIONS = ("r1a", "r1b", "r3", "cnn", "shapes", "table", "maps_of", "front", "silent_starts",
             "record", "measured", "show_record", "made", "training", "PowerCut", "breaks_at",
             "multiply_adds", "recipe", "maps_by_layer", "sentence", "CPU", "Crop")  # fmt: skip
NETWORKS = ("r1a", "r1b", "r3", "cnn")


def images(n=640, seed=0):
    """n noise images with labels that can be learned from their mean."""
    x = torch.randn(n, 1, 28, 28, generator=torch.Generator().manual_seed(seed))
    return Split(x, x[:, 0, :10, 5].argmax(1))


@pytest.fixture
def page():
    """What the lesson defines, as a namespace, with noise for its data."""
    return definitions(LESSON, *FUNCTIONS, train=images(), look=images(100, 1))


boxed = partial(lesson_source.boxed, LESSON)


def source_on_page(name):
    """A function's or class's source, as the page's cell has it."""
    for cell in cells(LESSON):
        found = re.search(rf"^(def|class) {name}\(", cell.source, re.M)
        if cell.cell_type == "code" and found:
            lines = cell.source[found.start() :].splitlines()
            end = next((k for k, x in enumerate(lines[1:], 1) if x and x[0] != " "), len(lines))
            return "\n".join(lines[:end]).rstrip() + "\n"
    raise LookupError(name)


# Boxed equations ------------------------------------------------------------------------------


def test_eq_dead_channel():
    """A kernel weight's gradient is the boxed sum over images and places, for every weight."""
    assert boxed("eq-dead-channel") == (
        r"\frac{\partial\text{loss}}{\partialw_{cuv}}=\sum_{m,i,j}"
        r"\frac{\partial\text{loss}}{\partiala_{mij}}[z_{mij}>0]x_{m,c,i+u,j+v}"
    )
    x, w, b, V = drawn((3, 2, 6, 6), (1, 2, 3, 3), (1,), (16, 4))
    for bias in (b, torch.tensor([-99.0]).double()):
        x.requires_grad_(), w.requires_grad_(), V.requires_grad_()
        bias = bias.clone().requires_grad_()
        z = F.conv2d(x, w, bias)
        a = z.relu()
        loss = F.cross_entropy(a.flatten(1) @ V, torch.tensor([0, 1, 3]))
        g, dw, db, dx, dV = torch.autograd.grad(loss, (a, w, bias, x, V))
        on = (z > 0).double()
        for c, u, v in product(range(2), range(3), range(3)):
            close((g[:, 0] * on[:, 0] * x[:, c, u : u + 4, v : v + 4]).sum(), dw[0, c, u, v])
        close((g * on).sum((0, 2, 3)), db)
        if bias < -1:  # dead: nothing down, nothing of its own, nothing in the weights above
            assert not (dw.any() or db.any() or dx.any() or dV.any())


def test_eq_constant_answer():
    """No constant answer has a mean loss below the entropy of the shares; the shares reach it."""
    assert boxed("eq-constant-answer") == (
        r"-\frac1N\sum_{n=1}^{N}\logp_{y_n}\ge-\sum_{k=1}^{K}\frac{N_k}{N}\log\frac{N_k}{N},"
        r"\qquad\text{equalfor}p_k=\frac{N_k}{N}"
    )
    y = torch.randint(4, (50,), generator=torch.Generator().manual_seed(0))
    q = y.bincount(minlength=4).double() / 50
    entropy = -(q * q.log()).sum()
    close(-q[y].log().mean(), entropy)
    p = drawn((500, 4)).softmax(1)
    assert (-p[:, y].log().mean(1) >= entropy).all()
    logits = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    for _ in range(3000):  # descent on the constant alone ends there
        loss = -logits.log_softmax(0)[y].mean()
        logits = (logits - torch.autograd.grad(loss, logits)[0]).detach().requires_grad_()
    close(logits.softmax(0), q, 1e-6)


def test_eq_pool_first():
    """For functions that never fall the two orders agree; for one that falls they do not."""
    assert boxed("eq-pool-first") == r"\max_if(z_i)=f\left(\max_iz_i\right)"
    z = drawn((4, 3, 8, 8)) * 3
    never_falls = (F.relu, torch.sigmoid, torch.tanh, torch.floor, F.leaky_relu, torch.sign)
    for f in never_falls:
        close(F.max_pool2d(f(z), 2), f(F.max_pool2d(z, 2)))
    assert not torch.equal(F.max_pool2d(z.square(), 2), F.max_pool2d(z, 2).square())


@pytest.mark.parametrize("c_in, c_out, k, side", [(1, 16, 5, 28), (16, 32, 3, 12), (3, 2, 1, 4)])
def test_eq_multiply_adds(page, c_in, c_out, k, side):
    """The box is the number of products of the sum written out, and what the page counts."""
    assert boxed("eq-multiply-adds") == r"M=C_\text{out}H_\text{out}W_\text{out}\cdotC_\text{in}k^2"
    out = side - k + 1
    patches = F.unfold(torch.zeros(1, c_in, side, side), k)  # (1, C_in k k, places)
    products = patches[0].numel() * c_out
    assert products == c_out * out * out * c_in * k * k
    # torch's own counter counts a multiplication and an addition each
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        nn.Conv2d(c_in, c_out, k)(torch.zeros(1, c_in, side, side))
    assert counter.get_total_flops() == 2 * products


# The networks ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*NETWORKS, "Crop"])
def test_the_page_writes_out_the_module_network(name):
    """To the letter: later lessons import what this page shows."""
    assert source_on_page(name) == inspect.getsource(getattr(models, name))


@pytest.mark.parametrize("name, count", [("r1a", 58_730), ("r1b", 45_020)])
def test_published_parameter_counts(page, name, count):
    """Those of R1a and R1b; the outputs are logarithms of probabilities."""
    model = page[name]().eval()
    assert sum(p.numel() for p in model.parameters()) == count
    close(model(torch.randn(3, 1, 28, 28)).exp().sum(1).detach(), torch.ones(3), 1e-5)


@pytest.mark.parametrize("name", ["r1a", "r1b", "r3", "cnn"])
def test_shapes_are_those_of_a_forward_pass(page, name):
    """One row a layer, the shape that really comes out, and the mode is put back."""
    model = page[name](*(((4,), (6, 8)) if name == "cnn" else ()))
    rows = page["shapes"](model.train())
    assert model.training and all(not layer._forward_hooks for layer in model)
    x = torch.zeros(1, 1, 28, 28)
    for layer, (kind, shape, count) in zip(model.eval(), rows, strict=True):
        x = layer(x)
        assert (kind, shape) == (type(layer).__name__, tuple(x.shape[1:]))
        assert count == sum(p.numel() for p in layer.parameters())


@pytest.mark.parametrize("name", ["r1a", "r1b", "r3", "cnn"])
def test_multiply_adds_is_half_of_torchs_count(page, name):
    """Of whole networks, against torch's counter of operations."""
    from torch.utils.flop_counter import FlopCounterMode

    model = page[name](*(((24,), (48, 48), (96,)) if name == "cnn" else ()))
    with FlopCounterMode(display=False) as counter:
        model.eval()(torch.zeros(1, 1, 28, 28))
    assert counter.get_total_flops() == 2 * page["multiply_adds"](model)


def test_a_bias_before_batch_norm_does_nothing():
    """Values, gradients and running variance are the same; only the running mean moves with it."""
    x, w, bias = drawn((8, 3, 7, 7), (5, 3, 3, 3), (5,))
    outs = []
    for b in (None, 100 * bias):
        norm, weight = nn.BatchNorm2d(5).double(), w.clone().requires_grad_()
        z = norm(F.conv2d(x, weight, b))
        outs.append((z, torch.autograd.grad((z**3).sum(), weight)[0], norm.running_var))
    for one, other in zip(*outs, strict=True):
        close(one.detach(), other.detach(), 1e-6)


def test_front_is_r1as_front(page):
    """The same start values and the same maps as R1a's first four layers, for every seed."""
    x = images(5).images
    for seed in range(3):
        torch.manual_seed(seed)
        model = page["r1a"]()
        torch.manual_seed(seed)
        assert torch.equal(page["front"]()(x), page["maps_of"](model, x))


def test_silent_starts_counts_the_dead_ones(page):
    """On noise: as many as there are starts whose maps do not differ; none is none."""
    x, n = page["look"].images[:100], 0
    for seed in range(30):
        torch.manual_seed(seed)
        maps = page["r1a"]()[:4](x)
        n += bool((maps.amax(0) == maps.amin(0)).all())
    assert page["silent_starts"](30) == n
    assert page["silent_starts"](5, bend=lambda: nn.Threshold(1e9, 0)) == 5
    assert page["silent_starts"](5, norm=True) == 0


def test_recipe_is_the_benchmarks_recipe(page):
    """mnist-99 of benchmarks/own.py: optimiser, rates and batches of the page's `recipe`."""
    from benchmarks import own, runs

    split = images(300)
    torch.manual_seed(0)
    ours = page["cnn"]((16,), (32, 32), (64,), augment=[page["Crop"](26)])
    ours = ours.to(memory_format=torch.channels_last)
    page["recipe"](ours, split)
    done = runs.run(own.RECIPES["mnist-99"], split, split, seed=0)["model"]
    for a, b in zip(ours.state_dict().values(), done.cpu().state_dict().values(), strict=True):
        torch.testing.assert_close(a, b)


# Checkpoints ----------------------------------------------------------------------------------


def test_the_lesson_shows_save_as_it_is():
    """The source on the page is the source of the module."""
    shown = [o.data.get("text/markdown", "") for c in cells(LESSON) if c.cell_type == "code"
             for o in c.outputs if "data" in o]  # fmt: skip
    assert any(inspect.getsource(checkpoint.save) in text for text in shown)


@pytest.mark.parametrize("step", [1, 11, 25, 40])
def test_training_goes_on_wherever_it_breaks(page, tmp_path, step):
    """Broken off in the first step, at an epoch's start, in the middle, in the last step."""
    _, whole = page["training"]()
    path = tmp_path / "a.pt"
    with pytest.raises(page["PowerCut"]):
        page["training"](path, loss_fn=page["breaks_at"](step))
    assert path.exists() == (step > 10)
    _, again = page["training"](path, seed=0 if step <= 10 else 99)
    assert again.loss == whole.loss and again.accuracy == whole.accuracy


# Records --------------------------------------------------------------------------------------


def fake(mean=0.99, sd=0.001, n=3, seconds=5.0):
    return {"accuracy": {"mean": mean, "sd": sd, "n": n},
            "seconds": {"mean": seconds, "sd": None if sd is None else 0.1, "n": n}}  # fmt: skip


def test_measured_says_mean_spread_and_n(page):
    """With one run there is no spread."""
    assert page["measured"](fake()["accuracy"], "%") == "**99.00%** ± **0.10%** (n = 3)"
    assert page["measured"](fake(sd=None, n=1)["seconds"], "s") == "**5.0 s** (n = 1)"


def test_a_missing_record_is_said_plainly(page, capsys):
    """It names the command, without the path of this machine."""
    said = []
    page["say"] = said.append
    assert page["record"]("no-such-run") is None
    assert "python -m benchmarks" in said[0] and "/work" not in said[0]
    assert "benchmarks/results/no-such-run.json" in said[0]


@pytest.mark.parametrize("mean, sd, told", [(0.98, 0.001, "points worse"), (0.9895, 0.001, "noise"),
                                            (0.995, 0.001, "points better")])  # fmt: skip
def test_sentence_compares_with_the_noise(page, mean, sd, told):
    """A difference counts when it exceeds two standard errors of a difference of means."""
    page["whole_recipe"] = fake()
    said = page["sentence"](fake(mean, sd, seconds=10.0) | {"name": "no norm"})
    assert told in said and "**2.00 ×**" in said


# The checkers ---------------------------------------------------------------------------------


def counted(c_first=1, bias=1, pooled=lambda n: n // 2, size=None, last_bias=1):
    def count(convs, hidden, side=28):
        side, total, c_in = size or side, 0, 1
        for c_out, k in convs:
            total += c_out * ((c_in if c_first is None else c_first) * k * k + bias)
            c_in, side = c_out, pooled(side - k + 1)
        return total + (c_in * side**2 + last_bias) * hidden + (hidden + last_bias) * 10

    return count


def built(bias=False, order="cpnr", padding=0, k=None):
    def block(c_in, c_out, kernel, pool):
        parts = {"c": nn.Conv2d(c_in, c_out, k or kernel, bias=bias, padding=padding),
                 "p": nn.MaxPool2d(2), "n": nn.BatchNorm2d(c_out), "r": nn.ReLU()}  # fmt: skip
        return nn.Sequential(*(parts[x] for x in order if x != "p" or pool))

    return block


def folded(scale=lambda g, v, e: g / (v + e).sqrt(), axis=0, bias=lambda b, m, s: b - m * s):
    def fold(w, gamma, beta, mean, var, eps):
        s = scale(gamma, var, eps)
        shape = (-1, 1, 1, 1) if axis == 0 else (1, -1, 1, 1)
        return w * s.view(shape), bias(beta, mean, s)

    return fold


def stepped(velocity=True, time=True, fresh=False, in_place=False, divide=8, reseed=False,
            keep_random=False):  # fmt: skip
    def go_on(state, x, y, n):
        w, v = state["w"], state["v"] if velocity else torch.zeros_like(state["v"])
        t, generator = state["t"] if time else 0, torch.Generator()
        generator.set_state(state["random"])
        for _ in range(n):
            if reseed:
                generator.set_state(state["random"])
            index = torch.randint(len(x), (8,), generator=generator)
            v = 0.9 * v + x[index].T @ (x[index] @ w - y[index]) / divide
            if in_place:
                w -= 0.1 / (1 + t) * v
            else:
                w = w - 0.1 / (1 + t) * v
            t += 1
        random = state["random"] if keep_random else generator.get_state()
        return {"w": w, "v": v, "t": t, "random": random}

    return go_on


def dead_by(test):
    return lambda maps: [c for c in range(maps.shape[1]) if test(maps, c)]


MUTANTS = {
    "kernels for one channel": ("count", counted(), "for all 20 channels"),
    "convolution without bias": ("count", counted(None, bias=0), "a bias each"),
    "linear without bias": ("count", counted(None, last_bias=0), "every linear output"),
    "pool rounds up": ("count", counted(None, pooled=lambda n: -(-n // 2)), "rounds down"),
    "28 always": ("count", counted(None, size=28), "need not be 28"),
    "dead in one image": (
        "dead_channels", dead_by(lambda m, c: (m[:, c] == 0).all((1, 2)).any()), "look at all"),
    "rows taken for channels": (
        "dead_channels", lambda m: (m.amax((0, 1, 3)) == 0).nonzero().flatten().tolist(),
        "dimension 1"),
    "nearly zero is dead": (
        "dead_channels", dead_by(lambda m, c: m[:, c].max() < 1e-3), "One small value"),
    "alive ones": ("dead_channels", dead_by(lambda m, c: m[:, c].any()), "expected 2 values"),
    "bias": ("block", built(bias=True), "no bias"),
    "pool last": ("block", built(order="cnrp"), "directly behind the convolution"),
    "padded": ("block", built(padding=1), "value 2"),
    "3×3 always": ("block", built(k=3), "an argument"),
    "no norm": ("block", built(order="cpr"), "value 1"),
    "no root": ("fold", folded(lambda g, v, e: g / (v + e)), "root of the variance"),
    "along the inputs": ("fold", folded(axis=1), "γ divided by"),
    "mean not scaled": ("fold", folded(bias=lambda b, m, s: b - m), "β less the scaled mean"),
    "eps outside the root": (
        "fold", folded(lambda g, v, e: g / (v.sqrt() + e)), "ε"),
    "velocity lost": ("go_on", stepped(velocity=False), "not from zero"),
    "t lost": ("go_on", stepped(time=False), "not from zero"),
    "generator set in each step": ("go_on", stepped(reseed=True), "set once"),
    "old random state kept": ("go_on", stepped(keep_random=True), "value 4"),
    "in place": ("go_on", stepped(in_place=True), "changed it in place"),
    "sum for mean": ("go_on", stepped(divide=1), "(xw − y)/8"),
}  # fmt: skip


def test_the_entropy_of_equal_shares_is_ln_10():
    """What the page compares the dead network's loss with."""
    q = torch.full((10,), 0.1, dtype=torch.float64)
    close(-(q * q.log()).sum(), math.log(10))
