"""Exercises of the lesson on GPUs: what a step costs on one machine."""

import contextlib
import math
import statistics

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from lessons_src.exercises import exercise
from lessons_src.exercises.forbidden import NotAllowed, is_ours


def _convolution(draw):
    """The shapes of images (not square) and kernels, a stride and a padding."""
    B, C_in, C_out = (draw.integer(1, 2 * draw.size) for _ in range(3))
    k = draw.integer(1, 5)
    H, W = draw.integer(k, k + 2 * draw.size), draw.integer(k, k + 9)
    stride, padding = draw.integer(1, 3), draw.integer(0, 2)
    return (B, C_in, H, W), (C_out, C_in, k, k), stride, padding


def _forward(x_shape, w_shape, stride, padding):
    """The operations of the forward pass, from the shape that torch gives its output."""
    x, w = torch.empty(x_shape, device="meta"), torch.empty(w_shape, device="meta")
    return 2 * F.conv2d(x, w, stride=stride, padding=padding).numel() * w[0].numel()


def _with_backward(forward):
    return forward, 2 * forward


@exercise(
    inputs=_convolution,
    cases={
        "More operations than 32 bits can count.": (
            (512, 64, 56, 57),
            (128, 64, 3, 3),
            1,
            1,
        )
    },
    mistakes={
        "Count the places of the output, not of the input.": (
            lambda x, w, *others: _with_backward(2 * math.prod(x) * math.prod(w) // w[1])
        ),
        "An output number takes as many additions as multiplications.": (
            lambda *sizes: _with_backward(_forward(*sizes) // 2)
        ),
        "Backward costs twice as much as forward: for weights, and for inputs.": (
            lambda *sizes: (_forward(*sizes), _forward(*sizes))
        ),
        "Height and width may differ.": (
            lambda x, *others: _with_backward(_forward((*x[:3], x[2]), *others))
        ),
        "Every one of the B images counts.": (
            lambda x, *others: _with_backward(_forward((1, *x[1:]), *others))
        ),
    },
    hint="Value 1 is forward, value 2 backward. A side is (H + 2p − k) // s + 1.",
    tolerance=0,
)
def convolution_operations(x_shape, w_shape, stride, padding):
    """(forward, backward) as whole numbers."""
    return _with_backward(_forward(x_shape, w_shape, stride, padding))


class _Device:
    """A device that works while its caller goes on, and a clock that work alone moves."""

    def __init__(self, lengths):
        self.lengths, self.calls, self.time, self.busy_until = lengths, 0, 0.0, 0.0

    def launch(self):
        """The function to be timed: 0.001 s to launch, then lengths[call] s of work."""
        length = self.lengths[min(self.calls, len(self.lengths) - 1)]
        self.calls += 1
        self.time += 0.001
        self.busy_until = max(self.busy_until, self.time) + length

    def wait(self):
        self.time = max(self.time, self.busy_until)

    def now(self):
        return self.time


def _on_device(answer, lengths, repeats, warmup):
    """The answer's seconds, and how often it called."""
    device = _Device(lengths)
    seconds = answer(device.launch, device.wait, device.now, repeats, warmup)
    return (seconds, device.calls) if device.calls else seconds


def _calls(draw):
    """The seconds of all calls, with a slow one among them, and how many are warm-up."""
    repeats, warmup = draw.integer(1, draw.size + 1), draw.integer(0, draw.size)
    lengths = [draw.uniform(0.01, 1) for _ in range(warmup + repeats)]
    lengths[draw.integer(0, warmup + repeats - 1)] += 7
    return lengths, repeats, warmup


def _timed(first=True, last=True, middle=statistics.median, skip=True):
    """`median_time` with a mistake: a wait that is missing, another mean, no warm-up."""

    def median_time(f, wait, now, repeats, warmup):
        repeats, warmup = (repeats, warmup) if skip else (repeats + warmup, 0)
        seconds = []
        for _ in range(warmup):
            f()
        for _ in range(repeats):
            if first:
                wait()
            start = now()
            f()
            if last:
                wait()
            seconds.append(now() - start)
        return float(middle(seconds))

    return median_time


@exercise(
    inputs=_calls,
    cases={
        "Of four values the median is the mean of the middle two.": ([1, 2, 4, 8], 4, 0)
    },
    mistakes={
        "A launch takes 0.001 s: wait before the clock is read the second time.": (
            _timed(last=False)
        ),
        "Wait before the clock is read the first time too, or warm-up work is counted.": (
            _timed(first=False)
        ),
        "One call met a busy moment: the median does not care, the mean does.": (
            _timed(middle=statistics.fmean)
        ),
        "With an even number of values the median is the mean of the middle two.": (
            _timed(middle=statistics.median_high)
        ),
        "Call f for the warm-up, and forget how long that took.": _timed(skip=False),
    },
    hint="Value 1 is the median, value 2 the number of calls of f: repeats + warmup.",
    observe=_on_device,
    names=("the seconds of f's calls", "repeats", "warmup"),
)
def median_time(f, wait, now, repeats, warmup):
    """Seconds of a call that is waited for, in the median."""
    return _timed()(f, wait, now, repeats, warmup)


def _float32(bits):
    return torch.tensor(bits, dtype=torch.int32).view(torch.float32)


def _any_float32(draw):
    """Any float32 at all; their lower halves often 0 or just half of what is cut."""
    shape = [draw.integer(1, 1 + draw.size) for _ in range(draw.integer(1, 3))]
    n = math.prod(shape)
    upper, lower = draw.labels(n, 2**16) - 2**15, draw.labels(n, 2**16)
    lower[draw.labels(n, 2) == 0] = draw.choice(0, 0x8000)
    return (((upper << 16) + lower).int().view(torch.float32).view(shape),)


def _rounded(add, put_back=True):
    """`to_bfloat16` with a mistake. add: bits (int32) -> what is added before the cut."""

    def to_bfloat16(x):
        bits = x.view(torch.int32)
        rounded = ((bits + add(bits)) & -65536).view(torch.float32)
        return torch.where(x.isnan(), x, rounded) if put_back else rounded

    return to_bfloat16


def _to_even(bits):
    return 0x7FFF + ((bits >> 16) & 1)


class _NoOtherFloats(TorchDispatchMode):
    """Nothing may be converted to a shorter kind of float."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and result.dtype in (
            torch.bfloat16,
            torch.float16,
        ):
            raise NotAllowed(f"by the bits of int32 alone, without {result.dtype}")
        return result


def _with_dtype(answer, x):
    """What comes back, without a conversion on the way, and its dtype."""
    with contextlib.nullcontext() if is_ours(answer) else _NoOtherFloats():
        y = answer(x)
    is_array = isinstance(y, torch.Tensor | np.ndarray)
    return (y, str(y.dtype).removeprefix("torch.")) if is_array else y


@exercise(
    inputs=_any_float32,
    cases={
        "What bfloat16 can hold stays as it is, signs included.": (
            torch.tensor([0.0, 1.0, -2.5, 2.0**-130]),
        ),
        "Halves go to the even neighbour: 257 to 256, but 259 to 260.": (
            torch.tensor([257.0, 259.0, -257.0, 1.00390625, 1.01171875]),
        ),
        "The carry runs into the exponent, and that is right: 2, −1 and infinity.": (
            torch.tensor([1.9999999, -0.99999994, torch.finfo(torch.float32).max]),
        ),
        "Infinity stays, and nan stays nan: adding may run over into the sign.": (
            _float32([0x7F800000, -0x800000, 0x7FC00000, 0x7FFFFFFF, 0x7F800001, -1]),
        ),
    },
    mistakes={
        "Round to the nearest: a cut alone is too small in size half of the time.": (
            _rounded(lambda bits: 0)
        ),
        "A half goes to the even neighbour: add the last bit that stays to 0x7FFF.": (
            _rounded(lambda bits: 0x8000)
        ),
        "A half goes up from an odd number: 0x7FFF alone never lets it.": (
            _rounded(lambda bits: 0x7FFF)
        ),
        "nan stays nan, whatever its lower bits: put it back at the end.": (
            _rounded(_to_even, put_back=False)
        ),
        "float32 comes back (view, not a conversion, from int32).": lambda x: (
            x.bfloat16()
        ),
    },
    observe=_with_dtype,
    tolerance=0,
)
def to_bfloat16(x):
    """float32 rounded to the nearest bfloat16 by torch."""
    return x.bfloat16().float()


def _network(draw):
    """A small network, images (not square), and a machine on which some layers wait for
    memory and some for arithmetic."""
    B, n_in, side = draw.integer(1, 2 + draw.size), draw.integer(1, 3), 12
    layers, channels = draw.choice([], [nn.ReLU()]), n_in  # what is first may not count
    for _ in range(draw.integer(1, 2)):
        n_out, k = draw.integer(2, 3 + draw.size), draw.choice(1, 3)
        layers += [nn.Conv2d(channels, n_out, k, padding=draw.integer(0, 1)), nn.ReLU()]
        channels = n_out
    layers += [nn.MaxPool2d(2), nn.Flatten()]
    x = draw.normal(B, n_in, side, side + draw.integer(1, 4), dtype=torch.float32)
    with torch.no_grad():
        features = nn.Sequential(*layers)(x).shape[1]
    model = nn.Sequential(*layers, nn.Linear(features, draw.integer(2, 10)))
    return model, x, 1e9, 1e9 / draw.choice(2, 4)


def _counted(function):
    """What the function returns, and the operations that PyTorch counts in it."""
    with FlopCounterMode(display=False) as counter:
        result = function()
    return result, counter.get_total_flops()


def _with_weights(model, x):
    """[(layer, input, output), ...] of the layers that have a weight."""
    found = []
    for layer in model:
        z = layer(x)
        found += [(layer, x, z)] if hasattr(layer, "weight") else []
        x = z
    return found


def _least(found, peak, bandwidth, combine=max, outputs=1, parameters=1):
    """Seconds under the roofline; the settings are mistakes."""
    seconds = 0.0
    for layer, x, z in found:
        numbers = x.numel() + outputs * z.numel()
        numbers += parameters * sum(p.numel() for p in layer.parameters())
        work = _counted(lambda layer=layer, x=x: layer(x))[1]
        seconds += combine((work / peak, 4 * numbers / bandwidth))
    return seconds


def _floor(kinds=nn.Module, times=1, saved=1, whole=False, **settings):
    """`floor_of` with a mistake: layers left out, operations halved, no saving in the
    first layer, one roofline for the whole network, or one of those of `_least`."""

    def floor_of(model, x, peak, bandwidth):
        found = _with_weights(model, x)
        work = [_counted(lambda k=k: k[0](k[1]))[1] for k in found]
        kept = [n for n, k in zip(work, found, strict=True) if isinstance(k[0], kinds)]
        used = [k for k in found if isinstance(k[0], kinds)]
        seconds = _least(used, peak, bandwidth, **settings)
        if whole:
            moved = _least(used, peak, bandwidth, combine=lambda pair: pair[1])
            seconds = max(sum(kept) / peak, moved)
        forward = sum(kept) * times
        return int(forward), int(2 * forward - saved * kept[0] * times), seconds

    return floor_of


@exercise(
    inputs=_network,
    mistakes={
        "Nothing goes back to the images: the first layer saves one of its two.": (
            _floor(saved=0)
        ),
        "An output number takes as many additions as multiplications.": _floor(times=0.5),
        "The linear layer counts too.": _floor(kinds=nn.Conv2d),
        "Each layer waits for its own ceiling: add up the longer times.": (
            _floor(whole=True)
        ),
        "A layer takes the longer of its two times, not both.": _floor(combine=sum),
        "The output is written: its bytes count.": _floor(outputs=0),
        "Weights and biases are read: their bytes count.": _floor(parameters=0),
    },
    hint="Value 1 is forward, value 2 backward, value 3 the least seconds of forward.",
    tolerance=1e-9,
    trials=12,
    pure=False,  # a network is not equal to its copy
)
def floor_of(model, x, peak, bandwidth):
    """Operations by PyTorch's own count, forward and backward, and the roofline's
    seconds."""
    z, forward = _counted(lambda: model(x))
    _, backward = _counted(lambda: z.sum().backward())
    return forward, backward, _least(_with_weights(model, x), peak, bandwidth)
