"""Answers to the exercises of the lesson on GPUs."""

import functools
import math
import statistics
import struct
import time

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def operations(
    out=lambda n, k, s, p: (n + 2 * p - k) // s + 1,
    count=lambda B, H, W, C_out, C_in, k: 2 * B * H * W * C_out * C_in * k**2,
    result=lambda forward: (forward, 2 * forward),
):
    """The right count, with one of its parts changed."""

    def convolution_operations(x_shape, w_shape, stride, padding):
        B, _, H, W = x_shape
        C_out, C_in, k, _ = w_shape
        H, W = (out(n, k, stride, padding) for n in (H, W))
        return result(count(B, H, W, C_out, C_in, k))

    return convolution_operations


def as_square(x_shape, w_shape, stride, padding):
    B, C, H, W = x_shape
    return operations()((B, C, H, H), w_shape, stride, padding)


def channels_of_x_twice(x_shape, w_shape, stride, padding):
    w_shape = (x_shape[1], *w_shape[1:])
    return operations()(x_shape, w_shape, stride, padding)


def input_places(x_shape, w_shape, stride, padding):
    forward = 2 * math.prod(x_shape[:1] + x_shape[2:]) * math.prod(w_shape)
    return forward, 2 * forward


def in_int32(x_shape, w_shape, stride, padding):
    """Overflows for large layers."""
    forward = operations()(x_shape, w_shape, stride, padding)[0]
    forward = torch.tensor(forward).int()
    return forward.item(), 2 * forward.item()


def stride_forgotten_for_one(x_shape, w_shape, stride, padding):
    if stride > 1:
        return operations()(x_shape, w_shape, stride, padding)


def by_prod(x_shape, w_shape, stride, padding):
    k = w_shape[-1]
    places = [(n + 2 * padding - k) // stride + 1 for n in x_shape[2:]]
    forward = 2 * math.prod([x_shape[0], *places, *w_shape])
    return [forward, forward + forward]


def on_meta(x_shape, w_shape, stride, padding):
    x, w = (torch.empty(shape, device="meta") for shape in (x_shape, w_shape))
    z = F.conv2d(x, w, stride=stride, padding=padding)
    forward = 2 * z.numel() * w[0].numel()
    return forward, 2 * forward


def counted_by_torch(x_shape, w_shape, stride, padding):
    x, w = (torch.empty(s, device="meta", requires_grad=True) for s in (x_shape, w_shape))
    with FlopCounterMode(display=False) as forward:
        z = F.conv2d(x, w, stride=stride, padding=padding)
    with FlopCounterMode(display=False) as backward:
        z.sum().backward()
    return forward.get_total_flops(), backward.get_total_flops()


def by_places(x_shape, w_shape, stride, padding):
    """Counts the places where the kernel lies."""
    (B, _, H, W), k = x_shape, w_shape[2]
    rows = len(range(0, H + 2 * padding - k + 1, stride))
    columns = len(range(0, W + 2 * padding - k + 1, stride))
    forward = np.int64(2 * B * rows * columns) * np.prod(w_shape, dtype=np.int64)
    return np.array([forward, 2 * forward])


def clock(
    middle=np.median,
    before=True,
    after=True,
    warm=lambda n: n,
    runs=lambda n: n,
    scale=1.0,
):
    """The right clock, with one of its parts changed."""

    def median_time(f, wait, now, repeats, warmup):
        for _ in range(warm(warmup)):
            f()
        seconds = []
        for _ in range(runs(repeats)):
            if before:
                wait()
            start = now()
            f()
            if after:
                wait()
            seconds.append(now() - start)
        return float(scale * middle(seconds))

    return median_time


def one_span(f, wait, now, repeats, warmup):
    for _ in range(warmup):
        f()
    wait()
    start = now()
    for _ in range(repeats):
        f()
    wait()
    return (now() - start) / repeats


def own_clock(f, wait, now, repeats, warmup):
    return clock()(f, wait, time.perf_counter, repeats, warmup)


def waits_in_the_clock(f, wait, now, repeats, warmup):
    """Starts the clock, then waits for earlier work."""
    for _ in range(warmup):
        f()
    seconds = []
    for _ in range(repeats):
        start = now()
        wait()
        f()
        wait()
        seconds.append(now() - start)
    return statistics.median(seconds)


def waits_once(f, wait, now, repeats, warmup):
    for _ in range(warmup):
        f()
    wait()
    seconds = []
    for _ in range(repeats):
        start = now()
        f()
        seconds.append(now() - start)
    wait()
    return statistics.median(seconds)


def warm_up_counted(f, wait, now, repeats, warmup):
    return clock()(f, wait, now, repeats + warmup, 0)


def warm_up_dropped_from_repeats(f, wait, now, repeats, warmup):
    return clock()(f, wait, now, repeats - warmup, warmup)


def warm_up_each_time(f, wait, now, repeats, warmup):
    return statistics.median(clock()(f, wait, now, 1, warmup) for _ in range(repeats))


def two_calls(f, wait, now, repeats, warmup):
    def twice():
        f()
        f()

    return clock()(twice, wait, now, repeats, warmup) / 2


def middle_of_unsorted(seconds):
    return seconds[len(seconds) // 2]


def forgotten(f, wait, now, repeats, warmup):
    if warmup:
        return clock()(f, wait, now, repeats, warmup)


def by_sorting(seconds):
    seconds = sorted(seconds)
    n = len(seconds)
    return (seconds[(n - 1) // 2] + seconds[n // 2]) / 2


def with_lists(f, wait, now, repeats, warmup):
    for _ in range(warmup):
        f()
        wait()
    starts, ends = [], []
    for _ in range(repeats):
        wait()
        starts.append(now())
        f()
        wait()
        ends.append(now())
    return np.median(np.array(ends) - np.array(starts))


class Clock:
    def __call__(self, f, wait, now, repeats, warmup):
        def once():
            wait()
            start = now()
            f()
            wait()
            return now() - start

        for _ in range(warmup):
            once()
        seconds = [once() for _ in range(repeats)]
        return torch.tensor(seconds, dtype=torch.float64).quantile(0.5)


def bits(x):
    return x.view(torch.int32)


def floats(raw):
    return raw.to(torch.int32).view(torch.float32)


def rounded(add=lambda raw: 0x7FFF + ((raw >> 16) & 1), mask=-65536, keep=torch.isnan):
    """The right rounding, with one of its parts changed."""
    return lambda x: torch.where(keep(x), x, floats((bits(x) + add(bits(x))) & mask))


def without_nan(x):
    return floats((bits(x) + 0x7FFF + ((bits(x) >> 16) & 1)) & -65536)


def nan_by_cutting(x):
    """A nan with its marks in the lower bits becomes infinity."""
    return torch.where(x.isnan(), floats(bits(x) & -65536), rounded()(x))


def changes_x(x):
    raw, nan = x.view(torch.int32), x.isnan()
    raw += 0x7FFF + ((raw >> 16) & 1)
    raw &= -65536
    x[nan] = torch.nan
    return x


def in_a_row(x):
    return rounded()(x).flatten()


def largest_finite(x):
    """What rounds up to infinity stays finite."""
    most = torch.finfo(torch.bfloat16).max
    return torch.where(x.isfinite(), rounded()(x).clamp(-most, most), x)


def small_ones_to_zero(x):
    tiny = torch.finfo(torch.float32).tiny
    return torch.where(x.abs() < tiny, 0.0 * x, rounded()(x))


def one_value(x):
    return torch.tensor(struct.unpack("f", struct.pack("f", rounded()(x).item()))[0])


def carry_lost(x):
    """Rounds the fraction alone: a carry does not reach the exponent."""
    raw = bits(x)
    fraction = (raw & 0x7FFFFF) + 0x7FFF + ((raw >> 16) & 1)
    r = floats((raw & ~0x7FFFFF) | (fraction & 0x7F0000))
    return torch.where(x.isfinite(), r, x)


def only_positive(x):
    return torch.where(x > 0, rounded()(x), floats(bits(x) & -65536))


def in_int64(x):
    raw = x.view(torch.int32).long() & 0xFFFFFFFF
    raw = ((raw + 0x7FFF + ((raw >> 16) & 1)) >> 16) << 16
    raw = torch.where(raw >= 2**31, raw - 2**32, raw)
    return torch.where(x.isnan(), torch.nan, raw.int().view(torch.float32))


def by_comparison(x):
    raw = x.view(torch.int32)
    low, cut = raw & 0xFFFF, raw & -65536
    up = (low > 0x8000) | ((low == 0x8000) & ((raw >> 16) & 1 == 1))
    r = torch.where(up, cut + 0x10000, cut)
    is_nan = (raw & 0x7FFFFFFF) > 0x7F800000
    return torch.where(is_nan, raw | 0x400000, r).view(torch.float32)


def on_a_copy(x):
    raw = x.clone().view(torch.int32)
    raw += ((raw >> 16) & 1) + 0x7FFF
    raw &= -65536
    result = raw.view(torch.float32)
    result[x.isnan()] = float("nan")
    return result


def in_numpy(x):
    raw = x.view(torch.int32).numpy().astype(np.int64)
    raw = (raw + 0x7FFF + ((raw >> 16) & 1)) & -65536
    result = raw.astype(np.int32).view(np.float32)
    return np.where(np.isnan(x.numpy()), np.float32("nan"), result)


def number_by_number(x):
    values = []
    for raw in x.view(torch.int32).flatten().tolist():
        if raw & 0x7FFFFFFF <= 0x7F800000:  # else it is nan
            low, raw = raw & 0xFFFF, raw & ~0xFFFF
            if low > 0x8000 or low == 0x8000 and raw & 0x10000:
                raw += 0x10000
        values.append(raw)
    return torch.tensor(values, dtype=torch.int32).view(x.shape).view(torch.float32)


def by_remainder(x):
    raw = x.view(torch.int32)
    low = raw.remainder(65536)
    odd = (raw - low).div(65536, rounding_mode="floor").remainder(2)
    r = (raw - low + 65536 * (low + odd > 32768).int()).view(torch.float32)
    return r.masked_fill(x.isnan(), torch.nan)


def layers_of(model, x):
    """(layer, what comes in, what goes out) of the layers that count."""
    found = []
    for layer in model:
        z = layer(x)
        if isinstance(layer, nn.Conv2d | nn.Linear):
            found.append((layer, x, z))
        x = z
    return found


def work_of(layer, x, z):
    return 2 * z.numel() // z.shape[1] * layer.weight.numel()


def all_parameters(layer):
    return sum(p.numel() for p in layer.parameters())


def bytes_of(layer, x, z):
    return 4 * (x.numel() + z.numel() + all_parameters(layer))


def floors(
    work=work_of,
    moved=bytes_of,
    layers=layers_of,
    longest=max,
    back=lambda work: 2 * sum(work) - work[0],
    total=sum,
    times=1,
):
    """The right floor, with one of its parts changed."""

    def floor_of(model, x, peak, bandwidth):
        found = layers(model, x)
        works = [work(*parts) for parts in found]
        seconds = [
            longest(w / peak, moved(*parts) / bandwidth)
            for w, parts in zip(works, found, strict=True)
        ]
        return sum(works), back(works), times * total(seconds)

    return floor_of


def one_roofline(model, x, peak, bandwidth):
    """For the whole network at once."""
    forward, backward, _ = floors()(model, x, peak, bandwidth)
    moved = sum(bytes_of(*parts) for parts in layers_of(model, x))
    return forward, backward, max(forward / peak, moved / bandwidth)


def every_layer(model, x):
    found = []
    for layer in model:
        found.append((layer, x, layer(x)))
        x = found[-1][2]
    return found


def work_of_all(layer, x, z):
    if isinstance(layer, nn.Conv2d | nn.Linear):
        return work_of(layer, x, z)
    return z.numel()


def only(kind):
    return lambda model, x: [p for p in layers_of(model, x) if isinstance(p[0], kind)]


def first_module_only(model, x, peak, bandwidth):
    """Nothing is saved if a Flatten comes first."""
    forward, backward, seconds = floors()(model, x, peak, bandwidth)
    if not isinstance(model[0], nn.Conv2d | nn.Linear):
        backward = 2 * forward
    return forward, backward, seconds


def by_hooks(model, x, peak, bandwidth):
    seen = []

    def look(layer, args, z):
        k = math.prod(layer.weight.shape[1:])  # products for each output
        numbers = args[0].numel() + z.numel() + all_parameters(layer)
        seen.append((2 * k * z.numel(), numbers))

    hooks = [
        m.register_forward_hook(look)
        for m in model.modules()
        if isinstance(m, nn.Conv2d | nn.Linear)
    ]
    with torch.no_grad():
        model(x)
    for hook in hooks:
        hook.remove()
    operations, numbers = np.array(seen, dtype=np.float64).T
    seconds = np.maximum(operations / peak, 4 * numbers / bandwidth).sum()
    return operations.sum(), 2 * operations.sum() - operations[0], seconds


def by_torchs_counter(model, x, peak, bandwidth):
    with FlopCounterMode(display=False) as forward:
        z = model(x)
    with FlopCounterMode(display=False) as backward:
        z.sum().backward()
    seconds = floors()(model, x, peak, bandwidth)[2]
    return forward.get_total_flops(), backward.get_total_flops(), seconds


def by_formulas(model, x, peak, bandwidth):
    forward = backward = 0
    seconds, first = torch.zeros((), dtype=torch.float64), True
    for layer in model:
        x, before = layer(x), x
        if isinstance(layer, nn.Conv2d):
            B, C, H, W = x.shape
            F_layer = 2 * B * H * W * C * layer.in_channels * math.prod(layer.kernel_size)
        elif isinstance(layer, nn.Linear):
            F_layer = 2 * len(x) * layer.in_features * layer.out_features
        else:
            continue
        forward += F_layer
        backward += F_layer if first else 2 * F_layer
        first = False
        moved = before.nbytes + x.nbytes + sum(p.nbytes for p in layer.parameters())
        moved = moved * 4 / x.element_size()
        seconds += max(F_layer / peak, moved / bandwidth)
    return forward, backward, seconds


def without_parameters(layer, x, z):
    return 4 * (x.numel() + z.numel())


def places_of_the_input(layer, x, z):
    return 2 * x.numel() // x.shape[1] * layer.weight.numel()


WRONG = {
    "convolution_operations": [
        operations(count=lambda B, H, W, K, C, k: B * H * W * K * C * k**2),
        operations(count=lambda B, H, W, K, C, k: 2 * B * H * W * K * C * k),
        operations(count=lambda B, H, W, K, C, k: 2 * H * W * K * C * k**2),
        operations(count=lambda B, H, W, K, C, k: 2 * B * H * W * K * k**2),
        operations(count=lambda B, H, W, K, C, k: 2 * B * H * W * C * k**2),
        operations(count=lambda B, H, W, K, C, k: 2 * B * K * C * k**2),
        operations(count=lambda B, H, W, K, C, k: 2 * B * H * W * K * C * 9),
        operations(count=lambda B, H, W, K, C, k: B * H * W * K * (2 * C * k**2 - 1)),
        operations(count=lambda B, H, W, K, C, k: B * H * W * K * (2 * C * k**2 + 1)),
        operations(out=lambda n, k, s, p: (n + p - k) // s + 1),
        operations(out=lambda n, k, s, p: (n - k) // s + 1),
        operations(out=lambda n, k, s, p: n + 2 * p - k + 1),
        operations(out=lambda n, k, s, p: (n + 2 * p - k) // s),
        operations(out=lambda n, k, s, p: (n + 2 * p - k + 1) // s),
        operations(out=lambda n, k, s, p: (n + 2 * p - k) / s + 1),
        operations(out=lambda n, k, s, p: -(-(n + 2 * p - k) // s) + 1),
        operations(out=lambda n, k, s, p: round((n + 2 * p - k) / s) + 1),
        operations(out=lambda n, k, s, p: n // s),
        operations(result=lambda forward: (forward, forward)),
        operations(result=lambda forward: (forward, 3 * forward)),
        operations(result=lambda forward: (2 * forward, forward)),
        operations(result=lambda forward: (forward / 1e9, 2 * forward / 1e9)),
        operations(result=lambda forward: forward),
        as_square,
        channels_of_x_twice,
        input_places,
        in_int32,
        stride_forgotten_for_one,
    ],
    "median_time": [
        clock(middle=np.mean),
        clock(middle=min),
        clock(middle=max),
        clock(middle=sum),
        clock(middle=statistics.median_low),
        clock(middle=statistics.median_high),
        clock(middle=middle_of_unsorted),
        clock(middle=lambda seconds: seconds[-1]),
        clock(middle=lambda seconds: np.median(seconds[1:] or seconds)),
        clock(middle=lambda seconds: torch.tensor(seconds).median()),  # the lower one
        clock(middle=lambda seconds: np.std(seconds)),
        clock(middle=lambda seconds: round(np.median(seconds), 2)),
        clock(before=False),
        clock(after=False),
        clock(before=False, after=False),
        clock(warm=lambda n: 0),
        clock(warm=lambda n: 1),
        clock(warm=lambda n: n + 1),
        clock(warm=lambda n: max(n - 1, 0)),
        clock(runs=lambda n: n + 1),
        clock(runs=lambda n: max(n - 1, 1)),
        clock(runs=lambda n: 5),
        clock(scale=1000.0),
        one_span,
        own_clock,
        waits_in_the_clock,
        waits_once,
        warm_up_counted,
        warm_up_dropped_from_repeats,
        warm_up_each_time,
        two_calls,
        forgotten,
    ],
    "to_bfloat16": [
        rounded(add=lambda raw: 0),
        rounded(add=lambda raw: 0x7FFF),
        rounded(add=lambda raw: 0x8000),
        rounded(add=lambda raw: 0xFFFF),
        rounded(add=lambda raw: 0x7FFF + ((raw >> 15) & 1)),
        rounded(add=lambda raw: 0x7FFF + ((raw >> 17) & 1)),
        rounded(add=lambda raw: 0x7FFF + (raw & 1)),
        rounded(add=lambda raw: 0x8000 - ((raw >> 16) & 1)),
        rounded(add=lambda raw: 0x7FF + ((raw >> 12) & 1), mask=-4096),
        rounded(mask=-1),
        rounded(mask=0xFFFF),
        rounded(mask=0x7FFF0000),  # the sign is lost
        rounded(keep=lambda x: x.isnan() | x.isinf() | (x.abs() < 1e-30)),
        rounded(keep=lambda x: x.isnan() | (x.abs() > 3.3e38)),
        lambda x: rounded()(x).nan_to_num(),
        lambda x: rounded()(x).bfloat16(),
        lambda x: bits(rounded()(x)),
        lambda x: rounded()(x).double().numpy().round(2),
        lambda x: x.bfloat16().float(),  # forbidden: by integers alone
        lambda x: x.to(torch.bfloat16).to(torch.float32),
        lambda x: x.half().float(),
        lambda x: x,
        without_nan,
        nan_by_cutting,
        changes_x,
        in_a_row,
        largest_finite,
        small_ones_to_zero,
        one_value,
        carry_lost,
        only_positive,
    ],
    "floor_of": [
        floors(work=lambda *parts: work_of(*parts) // 2),
        floors(work=lambda layer, x, z: 2 * layer.weight.numel()),
        floors(work=lambda layer, x, z: 2 * len(x) * layer.weight.numel()),
        floors(work=lambda layer, x, z: 2 * z[0].numel() * layer.weight[0].numel()),
        floors(work=lambda layer, x, z: work_of(layer, x, z) + z.numel()),
        floors(work=places_of_the_input),
        floors(moved=without_parameters),
        floors(moved=lambda *parts: bytes_of(*parts) / 2),
        floors(moved=lambda *parts: bytes_of(*parts) / 4),
        floors(moved=lambda layer, x, z: 4 * (x.numel() + layer.weight.numel())),
        floors(moved=lambda layer, x, z: 4 * (z.numel() + all_parameters(layer))),
        floors(
            moved=lambda layer, x, z: 4 * (x.numel() + z.numel() + layer.weight.numel())
        ),
        floors(moved=lambda layer, x, z: 4 * all_parameters(layer)),
        floors(moved=lambda layer, x, z: 2 * bytes_of(layer, x, z)),
        floors(longest=min),
        floors(longest=lambda a, b: a + b),
        floors(longest=lambda a, b: a),
        floors(longest=lambda a, b: b),
        floors(total=max),
        floors(times=3),
        floors(back=lambda work: 2 * sum(work)),
        floors(back=lambda work: sum(work)),
        floors(back=lambda work: 2 * sum(work) - work[-1]),
        floors(back=lambda work: 2 * sum(work) - 2 * work[0]),
        floors(back=lambda work: 2 * sum(work[1:])),
        floors(layers=only(nn.Conv2d)),
        floors(layers=only(nn.Linear)),
        floors(layers=lambda model, x: layers_of(model, x[:1])),
        floors(layers=every_layer, work=work_of_all),
        lambda *args: floors()(*args)[:2],
        lambda *args: floors()(*args)[::-1],
        one_roofline,
        first_module_only,
    ],
}

RIGHT = {
    "convolution_operations": [
        operations(),
        operations(out=lambda n, k, s, p: math.floor((n + 2 * p - k) / s + 1)),
        operations(count=lambda B, H, W, K, C, k: B * H * W * K * (2 * C * k * k)),
        operations(result=lambda forward: torch.tensor([forward, 2 * forward])),
        by_prod,
        on_meta,
        counted_by_torch,
        by_places,
    ],
    "median_time": [
        clock(),
        clock(middle=statistics.median),
        clock(middle=by_sorting),
        clock(middle=lambda seconds: np.percentile(np.array(seconds), 50)),
        functools.partial(clock(middle=lambda seconds: np.quantile(seconds, 0.5))),
        with_lists,
        Clock(),
    ],
    "to_bfloat16": [
        rounded(),
        rounded(keep=lambda x: x != x),
        rounded(add=lambda raw: torch.where((raw & 0x10000) != 0, 0x8000, 0x7FFF)),
        in_int64,
        by_comparison,
        on_a_copy,
        in_numpy,
        number_by_number,
        by_remainder,
    ],
    "floor_of": [
        floors(),
        floors(work=lambda layer, x, z: 2 * z.numel() * layer.weight[0].numel()),
        floors(back=lambda work: work[0] + 2 * sum(work[1:])),
        lambda *args: list(floors()(*args)),
        lambda *args: torch.tensor(floors()(*args), dtype=torch.float64),
        by_hooks,
        by_torchs_counter,
        by_formulas,
    ],
}
