"""The lesson on GPUs: its equations and its functions.

What a box says, written out in float64, is what counting, a simulation or torch gives.
"""

import copy
import math
import struct
import time
from itertools import product

import pytest
import torch
from lesson_source import close, definitions, drawn
from networks import takes_one_step_of_training
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from lessons_src.models import cnn, mlp
from lessons_src.train import seed_everything

LESSON = "gpus"
FUNCTIONS = (
    "training_step mixed_step clock wait_for_gpu race fastest ToyGPU KINDS kind_of amdahl "
    "FORMATS bits limits operations measured_layers points_of timeline graphed"
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


@pytest.mark.parametrize("name", ["float32", "bfloat16", "float16"])
def test_eq_spacing(page, name):
    """The distance to the next number, over the whole range, and the largest number."""
    dtype, q, m = page["FORMATS"][name]
    assert dtype == getattr(torch, name)
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
    """Backward for weights and inputs is twice forward."""
    assert all(backward == 2 * stated for stated, _, backward in convolutions())


def test_eq_roofline():
    """With arithmetic and memory at work at once, the longer of the two sets the rate."""
    for peak, bandwidth, work, moved in product(
        (1.0, 50.0), (2.0, 7.0), (1.0, 90.0), (0.5, 30.0)
    ):
        seconds = max(work / peak, moved / bandwidth)  # both at once, the longer decides
        close(work / seconds, min(peak, bandwidth * work / moved))


def test_eq_launches(page):
    """The simulated queue ends when the equation says, whichever is longer."""
    for n, a, b in product((1, 2, 9), (0.5, 3.0, 20.0), (0.5, 3.0, 20.0)):
        close(page["timeline"]([a] * n, [b] * n)[1][-1][1], a + (n - 1) * max(a, b) + b)


# The page's functions -------------------------------------------------------------------


def test_training_step_is_one_step_of_training(page):
    """The same loss, gradient and step as written out with torch."""
    takes_one_step_of_training(page["training_step"])


def test_mixed_step_keeps_float32_weights(page):
    """The products are short, the weights stay long, and the gradients are those of
    `training_step` but for the rounding."""
    seed_everything(0)
    model, seen = mlp(784, 4, 10), []
    model[1].register_forward_hook(lambda layer, x, z: seen.append(z.dtype))
    start = copy.deepcopy(model)
    x, y = drawn((6, 784)).float(), torch.arange(6)
    page["mixed_step"](model, x, y)()
    assert seen == [torch.bfloat16]
    assert all(p.dtype == torch.float32 for p in model.parameters())
    page["training_step"](start, x, y)()
    for mixed, whole in zip(model.parameters(), start.parameters(), strict=True):
        assert (mixed.grad - whole.grad).norm() < 0.05 * whole.grad.norm()


def test_race_takes_turns_after_one_warm_up(page):
    """a b, then a b a b a b: each measured in turn,
    the first call of each thrown away."""
    calls = []
    found = page["race"](
        {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 3
    )
    assert calls == ["a", "b"] * 4 and [len(v) for v in found.values()] == [3, 3]


def test_fastest_is_the_fastest_call_after_the_warm_up(page):
    """Of one warm-up and three calls the shortest of the three, though the warm-up is
    shorter."""
    waits = iter((0, 0.1, 0.02, 0.1))
    assert 0.02 <= page["fastest"](lambda: time.sleep(next(waits)), 3) < 0.1
    assert next(waits, None) is None


def test_clock_measures_the_call(page):
    """Seconds of one call."""
    assert 0.02 <= page["clock"](lambda: time.sleep(0.02)) < 1


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
        name = str(dtype).removeprefix("torch.")
        got = page["bits"](value, name)
        assert got.replace(" ", "") == wanted
        assert (dtype, *map(len, got.split()[1:])) == page["FORMATS"][name]
    short, long = page["bits"](value, "bfloat16"), page["bits"](value, "float32")
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


def test_measured_layers_are_those_with_work(page):
    """Each layer with work once, in order, with its own input and output."""
    model, x = cnn((3,), (4,)), torch.randn(2, 1, 28, 28)
    kept = page["measured_layers"](model, x)
    names = " ".join(type(layer).__name__ for layer, _, _ in kept)
    assert names == "Conv2d MaxPool2d BatchNorm2d ReLU Conv2d BatchNorm2d ReLU Linear"
    for layer, x_here, z in kept:
        close(layer(x_here), z, 1e-5)


def test_points_have_the_counted_intensity(page):
    """Operations over bytes: for a linear layer 2 B n m over 4 (B n + B m + n m + m)."""
    layer, x = nn.Linear(30, 20), torch.randn(8, 30)
    ((_, intensity, rate),) = page["points_of"]([(layer, x, layer(x))])
    close(intensity, 2 * 8 * 30 * 20 / (4 * (8 * 30 + 8 * 20 + 30 * 20 + 20)))
    assert rate > 0


def test_timeline_with_unequal_kernels(page):
    """A kernel starts when it is launched and the one before has ended;
    a graph launches once."""
    cpu, gpu = page["timeline"]([1, 1, 1], [5, 1, 1])
    assert cpu == [(0, 1), (1, 2), (2, 3)] and gpu == [(1, 6), (6, 7), (7, 8)]
    assert page["timeline"]([8, 0, 0], [2, 2, 2])[1][-1] == (12, 14)


def test_graphed_takes_its_warm_up_steps_first(page):
    """Without a GPU: as many steps as the warm-up has, then the step itself."""
    if torch.cuda.is_available():
        pytest.skip("a graph replays its step without Python")
    calls = []
    run = page["graphed"](lambda: calls.append(1), warmup=4)
    assert len(calls) == 4
    run()
    assert len(calls) == 5


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_graphed_repeats_the_step_on_a_gpu(page):
    """Three steps of warm-up and two replays add five times."""
    total = torch.zeros((), device="cuda")
    run = page["graphed"](lambda: total.add_(1))
    run()
    run()
    assert total.item() == 5
