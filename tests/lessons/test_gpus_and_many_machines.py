"""Lesson 12, GPUs and many machines: its equations and its functions.

What a box says, written out in float64, is what counting, a simulation or torch gives.
"""

import itertools
import math
import struct
import time
from itertools import product

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lesson_source import close, definitions, drawn
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from lessons_src.models import cnn, mlp
from lessons_src.train import seed_everything

LESSON = "12_gpus_and_many_machines"
FUNCTIONS = (
    "training_step clock wait_for_gpu race table ToyGPU KINDS kind_of amdahl FORMATS "
    "bits limits operations measured_layers points_of slope timeline gradient "
    "ring_steps ALPHA LINK ring_time COMMAND shown_record"
)


@pytest.fixture(scope="module")
def page():
    """What the lesson defines, as a namespace."""
    return definitions(LESSON, *FUNCTIONS.split())


# Boxed equations ------------------------------------------------------------------------


def test_eq_amdahl(page):
    """Old time over new, added up part by part;
    the bound is reached by an infinite speed-up."""
    for f, s in product((0, 0.1, 0.5, 0.99), (0.5, 1, 2, 100, math.inf)):
        seconds = {"cured": f * 7.0, "rest": 7.0 - f * 7.0}
        gained = sum(seconds.values()) / (seconds["cured"] / s + seconds["rest"])
        close(page["amdahl"](f, s), gained)
        close(1 / (1 - f + f / s), gained)
        assert gained <= 1 / (1 - f) + 1e-12
    close(page["amdahl"](0.75, math.inf), 4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_eq_spacing(page, dtype):
    """The distance to the next number, over the whole range, and the largest number."""
    q, m = page["FORMATS"][dtype]
    assert 1 + q + m == torch.finfo(dtype).bits
    assert 2.0 ** (2 ** (q - 1) - 1) * (2 - 2.0**-m) == torch.finfo(dtype).max
    for e, within in product((2 - 2 ** (q - 1), -3, 0, 8, 2 ** (q - 1) - 2), (1.0, 1.5)):
        here = torch.tensor(within * 2.0**e, dtype=dtype)
        raw = here.view(torch.int32 if dtype == torch.float32 else torch.int16)
        assert ((raw + 1).view(dtype).double() - here.double()).item() == 2.0 ** (e - m)
    info = torch.finfo(dtype)
    assert page["limits"](q, m) == (info.max, info.tiny, info.eps)


def counted(function):
    """(what a function returns, the operations that PyTorch counts in it)."""
    with FlopCounterMode(display=False) as counter:
        result = function()
    return result, counter.get_total_flops()


def convolutions():
    """(2 B H W C_out C_in k², PyTorch's count forward,
    and backward) of many convolutions."""
    settings = ((1, 1, 0), (3, 1, 1), (3, 2, 0), (5, 2, 2))
    for (B, C_in, C_out), rest in product(((1, 1, 1), (3, 2, 5)), settings):
        x = torch.randn(B, C_in, 11, 9, requires_grad=True)
        layer = nn.Conv2d(C_in, C_out, *rest, bias=False)
        z, forward = counted(lambda layer=layer, x=x: layer(x))
        _, backward = counted(z.sum().backward)
        yield 2 * z.numel() * C_in * rest[0] ** 2, forward, backward


def test_eq_convolution_operations():
    """2 B H W C_out C_in k² is what PyTorch counts."""
    assert all(stated == forward for stated, forward, _ in convolutions())


def test_eq_backward_operations():
    """Backward by weights and inputs is twice forward."""
    assert all(backward == 2 * stated for stated, _, backward in convolutions())


def test_eq_roofline():
    """With arithmetic and memory at work at once, the longer of the two sets the rate."""
    for peak, bandwidth, work, moved in product(
        (1.0, 50.0), (2.0, 7.0), (1.0, 90.0), (0.5, 30.0)
    ):
        seconds = max(work / peak, moved / bandwidth)  # both at once, the longer decides
        close(work / seconds, min(peak, bandwidth * work / moved))


def test_eq_log_slope():
    """The derivative of log t by log B, by autograd in float64; a half at B = a/b."""
    for a, b, B in product((0.0, 0.3, 50.0), (0.01, 2.0), (1.0, 25.0, 1e4)):
        u = torch.tensor(math.log(B), dtype=torch.float64, requires_grad=True)
        (found,) = torch.autograd.grad((a + b * u.exp()).log(), u)
        close(found, b * B / (a + b * B))
    close(2.0 * 25 / (50 + 2.0 * 25), 0.5)


def test_eq_launches(page):
    """The simulated queue ends when the equation says, whichever is longer."""
    for n, a, b in product((1, 2, 9), (0.5, 3.0, 20.0), (0.5, 3.0, 20.0)):
        close(page["timeline"]([a] * n, [b] * n)[1][-1][1], a + (n - 1) * max(a, b) + b)


def test_eq_linear_scaling():
    """The distance of k small steps from one large one is of second order in lr."""
    k, (X, w0, t) = 4, drawn((4, 8, 3), (3,), (4, 8))

    def g(j, w):
        w = w.detach().requires_grad_()
        return torch.autograd.grad(((X[j] @ w).tanh() - t[j]).square().mean(), w)[0]

    def distance(lr):
        theta = w0
        for j in range(k):
            theta = theta - lr * g(j, theta)
        once = w0 - (k * lr) * sum(g(j, w0) for j in range(k)) / k
        return (theta - once).norm()

    for lr in (1e-2, 1e-3, 1e-4):
        close(distance(lr) / distance(lr / 2), 4, 0.05)


def test_eq_rank_gradients(page):
    """Shares of any size, weighted, give the whole batch's gradient;
    unweighted they do not."""
    seed_everything(0)
    model, x, y = mlp(6, 5, 3).double(), drawn((12, 6)), torch.arange(12) % 3
    whole = page["gradient"](model, x, y)
    for shares in ([6, 6], [1, 11], [3, 4, 5], [1] * 12):
        pairs = zip(x.split(shares), y.split(shares), strict=True)
        parts = [page["gradient"](model, *pair) for pair in pairs]
        close(sum(n / 12 * g for n, g in zip(shares, parts, strict=True)), whole)
        plain = torch.allclose(sum(parts) / len(parts), whole)
        assert plain == (len(set(shares)) == 1)


def ring(page, P, n=None):
    """The states of the page's ring, and how many numbers each rank handed on."""
    n = n or 3 * P
    vectors = drawn((P, n))
    states = list(page["ring_steps"](vectors))
    changed = [
        (b != a).sum((1, 2)) for a, b in itertools.pairwise(states)
    ]  # received by each
    return vectors, states, sum(changed, torch.zeros(P, dtype=torch.int64))


@pytest.mark.parametrize("P", [1, 2, 3, 4, 7])
def test_eq_ring_bytes(page, P):
    """What every rank receives, counted in the simulated ring,
    is 2 (P - 1) / P of its vector."""
    vectors, states, received = ring(page, P)
    M = vectors.shape[1]
    assert received.tolist() == [2 * (P - 1) * M // P] * P
    for rank in states[-1].flatten(1):
        close(rank, vectors.sum(0))


@pytest.mark.parametrize("P", [1, 2, 5])
def test_eq_ring_time(page, P):
    """Step by step: each lasts as long as one message of a P-th of the bytes."""
    alpha, w, M = 0.5, 4.0, 60.0
    steps = len(ring(page, P)[1]) - 1
    lasted = sum(alpha + (M / P) / w for _ in range(steps))
    close(2 * (P - 1) * (alpha + M / (P * w)), lasted)
    close(page["ring_time"](P, M, alpha, w), lasted)


def test_eq_checkpoint_interval():
    """No other interval loses less, and a simulation of failures loses what the
    formula says."""

    def lost(tau):
        return c / tau + tau / (2 * mu)

    for c, mu in ((0.01, 5.0), (1.0, 1000.0)):
        best = math.sqrt(2 * c * mu)
        assert all(lost(best) < lost(best * factor) for factor in (0.5, 0.9, 1.1, 2))
    rng, tau = np.random.default_rng(0), best
    since = rng.exponential(mu, 200_000) % (tau + c)  # into the interval when it fails
    simulated = c / (tau + c) + since.mean() / mu
    close(simulated, lost(tau), 0.1 * lost(tau))


# The page's functions -------------------------------------------------------------------


def test_training_step_is_one_step_of_training(page):
    """The same loss, gradient and step as written out with torch."""
    seed_everything(0)
    mine, theirs = mlp(784, 4, 10), mlp(784, 4, 10)
    theirs.load_state_dict(mine.state_dict())
    x, y = drawn((6, 784)).float(), torch.arange(6)
    page["training_step"](mine, x, y, torch.optim.SGD(mine.parameters(), lr=0.1))()
    loss = F.cross_entropy(theirs(x), y, label_smoothing=0.1)
    gradients = torch.autograd.grad(loss, [*theirs.parameters()])
    for p, g in zip(theirs.parameters(), gradients, strict=True):
        p.data -= 0.1 * g
    for a, b in zip(mine.parameters(), theirs.parameters(), strict=True):
        close(a, b, 1e-6)


def test_bfloat16_step_keeps_float32_weights(page):
    """With bfloat16=True the products are short, the weights stay long."""
    seed_everything(0)
    model, seen = mlp(784, 4, 10), []
    model[1].register_forward_hook(lambda layer, x, z: seen.append(z.dtype))
    page["training_step"](
        model, drawn((6, 784)).float(), torch.arange(6), bfloat16=True
    )()
    assert seen == [torch.bfloat16]
    assert all(p.dtype == torch.float32 for p in model.parameters())


def test_race_takes_turns_after_one_warm_up(page):
    """a b, then a b a b a b: each measured in turn,
    the first call of each thrown away."""
    calls = []
    found = page["race"](
        {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 3
    )
    assert calls == ["a", "b"] * 4 and [len(v) for v in found.values()] == [3, 3]


def test_clock_measures_the_call(page):
    """Seconds of one call."""
    assert 0.02 <= page["clock"](lambda: time.sleep(0.02)) < 1


def test_table_is_in_milliseconds(page):
    """Median and quartiles, in this order: median, lower, upper."""
    text = page["table"]({"way": [0.001, 0.002, 0.003, 0.004, 0.005]})
    assert text.splitlines()[-1] == "| way | **3.00 ms** | **2.00 ms** | **4.00 ms** |"


def test_toy_gpu_is_asynchronous_and_in_order(page):
    """Launching returns at once; synchronize waits for all."""
    device = page["ToyGPU"]()
    start = time.perf_counter()
    for _ in range(3):
        device.launch(0.05)
    launched = time.perf_counter() - start
    device.synchronize()
    assert launched < 0.1 and time.perf_counter() - start >= 0.15


@pytest.mark.parametrize(
    ("operation", "kind"),
    [
        ("aten::mkldnn_convolution", "convolution"),
        ("aten::convolution_backward", "convolution"),
        ("aten::max_pool2d_with_indices_backward", "pooling"),
        ("aten::native_batch_norm", "batch normalisation"),
        ("aten::threshold_backward", "ReLU"),
        ("aten::clamp_min", "ReLU"),
        ("aten::addmm", "linear layer"),
        ("Optimizer.step#AdamW.step", "optimiser"),
        ("aten::copy_", "the rest"),
    ],
)
def test_kind_of(page, operation, kind):
    """Profiled names are sorted into the kinds of the figure."""
    assert page["kind_of"](operation) == kind


@pytest.mark.parametrize(
    "value", [0.0, -0.0, 1.0, 0.1, -3.3, 1e-45, 6e4, math.inf, -math.inf]
)
def test_bits_are_those_of_the_format(page, value):
    """Sign, exponent and fraction put together are the stored bytes (struct is
    the witness)."""
    for dtype, code in ((torch.float32, ">f"), (torch.float16, ">e")):
        wanted = "".join(f"{byte:08b}" for byte in struct.pack(code, value))
        got = page["bits"](value, dtype)
        assert got.replace(" ", "") == wanted
        assert tuple(map(len, got.split()[1:])) == page["FORMATS"][dtype]
    short, long = page["bits"](value, torch.bfloat16), page["bits"](value, torch.float32)
    assert short.split()[:2] == long.split()[:2] or value == 1e-45


def test_operations_are_pytorchs(page):
    """Every convolution and linear layer of the course's network,
    forward and backward."""
    model, x = cnn((3,), (4, 5), (6,)), torch.randn(2, 1, 28, 28)
    heavy = [
        page["operations"](*k)
        for k in page["measured_layers"](model, x)
        if isinstance(k[0], nn.Conv2d | nn.Linear)
    ]
    loss, forward = counted(lambda: model(x).sum())
    _, backward = counted(loss.backward)
    assert sum(heavy) == forward
    assert 2 * sum(heavy) - heavy[0] == backward  # no gradient goes back to the images


def test_measured_layers_leaves_no_hook(page):
    """Each layer with work once, in order, and the model as it was."""
    model, x = cnn((3,), (4,)), torch.randn(2, 1, 28, 28)
    kept = page["measured_layers"](model, x)
    names = " ".join(type(layer).__name__ for layer, _, _ in kept)
    assert names == "Conv2d MaxPool2d BatchNorm2d ReLU Conv2d BatchNorm2d ReLU Linear"
    assert not any(layer._forward_hooks for layer in model)
    close(kept[0][0](x), kept[0][2], 1e-5)


def test_points_have_the_counted_intensity(page):
    """Operations over bytes: for a linear layer 2 B n m over 4 (B n + B m + n m + m)."""
    layer, x = nn.Linear(30, 20), torch.randn(8, 30)
    ((_, intensity, rate),) = page["points_of"]([(layer, x, layer(x))])
    close(intensity, 2 * 8 * 30 * 20 / (4 * (8 * 30 + 8 * 20 + 30 * 20 + 20)))
    assert rate > 0


def test_slope_of_a_power_law(page):
    """An exact power law gives its exponent."""
    sizes = np.array([2, 8, 100])
    close(page["slope"](sizes, 3 * sizes**1.7), 1.7)


def test_timeline_with_unequal_kernels(page):
    """A kernel starts when it is launched and the one before has ended;
    a graph launches once."""
    cpu, gpu = page["timeline"]([1, 1, 1], [5, 1, 1])
    assert cpu == [(0, 1), (1, 2), (2, 3)] and gpu == [(1, 6), (6, 7), (7, 8)]
    assert page["timeline"]([8, 0, 0], [2, 2, 2])[1][-1] == (12, 14)


@pytest.mark.parametrize("P", [2, 3, 5])
def test_ring_with_extreme_numbers(page, P):
    """Whole numbers about 2^50 add up exactly in float64; infinity arrives everywhere."""
    vectors = 2.0**50 + torch.arange(2.0 * P * P, dtype=torch.float64).view(P, 2 * P)
    vectors[0, 0] = math.inf
    before = vectors.clone()
    *_, last = page["ring_steps"](vectors)
    assert torch.equal(last.flatten(1), before.sum(0).expand(P, -1))
    assert torch.equal(vectors, before), "the ranks' own vectors are left as they were"


def test_ring_only_talks_to_the_right_neighbour(page):
    """After one step each rank has changed one chunk, by its left neighbour's."""
    vectors, states, _ = ring(page, 4)
    for r in range(4):
        got = states[1][r] - states[0][r]
        assert got.any(1).sum() == 1
        close(got[(r - 1) % 4], states[0][(r - 1) % 4, (r - 1) % 4])


def test_missing_record_names_its_command(page):
    """A record that nobody made yet: the page says how to make it."""
    told = page["shown_record"](
        "no-such-record", "python -m benchmarks.x", lambda record: "never"
    )
    assert told == "no recorded run yet; `python -m benchmarks.x` makes it."


def test_kept_record_is_put_into_the_sentence():
    """A record that is there is handed to the sentence."""
    page = definitions(LESSON, "shown_record", recorded=None)
    page["recorded"] = lambda name: {"name": name}
    told = page["shown_record"]("made", "", lambda record: f"it is {record['name']}")
    assert told == "it is made"


def test_gpu_record_becomes_a_table():
    """The record of benchmarks.gpu, as that module writes it: a row a target,
    seconds and steps."""
    page = definitions(LESSON, "on_one_gpu")
    target = {
        "what": "MNIST to 99 %",
        "ours": {
            "accuracy": {"mean": 0.991, "sd": 0.001, "n": 5},
            "seconds": {"median": 0.2, "low": 0.1, "high": 0.3, "n": 5},
        },
        "graph": {"step": {"median": 2e-4}, "eager": {"median": 1e-3}},
    }
    record = {
        "machine": {"name": "a GPU"},
        "date": "2026-11-21",
        "command": "python -m x",
    }
    where, _, _, _, row = page["on_one_gpu"](record | {"targets": [target]}).splitlines()
    assert where == "a GPU, 2026-11-21, by `python -m x`."
    assert row == (
        "| MNIST to 99 % | **99.10%** (n = 5) | **0.20 s** | **200 µs** | **1000 µs** |"
    )
