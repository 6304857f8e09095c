"""Answers to the exercises of the lesson on convolution."""

import functools
import itertools
import math

import numpy as np
import torch
import torch.nn.functional as F


def sides_by(rule):
    """Down the stack by a rule of n, k, stride, padding, dilation."""

    def answer(n, layers):
        found = []
        for layer in layers:
            n = rule(n, *layer)
            found.append(n)
        return found

    return answer


def right_side(n, k, s, p, d):
    return (n + 2 * p - d * (k - 1) - 1) // s + 1


def sides_always_from_n(n, layers):
    return [right_side(n, *layer) for layer in layers]


def sides_before(n, layers):
    found = []
    for layer in layers:
        found.append(n)
        n = right_side(n, *layer)
    return found


def sides_return_early(n, layers):
    for layer in layers:
        n = right_side(n, *layer)
        return [n]
    return []


def sides_that_stop(n, layers):
    """A layer with a stride ends the list."""
    found = []
    for layer in layers:
        n = right_side(n, *layer)
        found.append(n)
        if layer[1] > 1 and len(found) > 1:
            break
    return found


def sides_by_recursion(n, layers):
    if not layers:
        return []
    first, *rest = layers
    n = right_side(n, *first)
    return [n, *sides_by_recursion(n, rest)]


def sides_by_places(n, k, s, p, d):
    """The number of places where the first value of a patch can lie."""
    return len(range(-p, n + p - d * (k - 1), s))


def sides_by_torch(n, k, s, p, d):
    z = F.conv2d(torch.zeros(1, 1, n, n), torch.zeros(1, 1, k, k), None, s, p, d)
    return z.shape[-1]


class Sides:
    def __call__(self, n, layers):
        return [n := right_side(n, *layer) for layer in layers]


def pair(first, second):
    """Kernels of numbers, as a function without arguments."""
    return lambda: (torch.tensor(first).float(), torch.tensor(second).float())


DOWN = [[-1, -1, -1], [0, 0, 0], [1, 1, 1]]
UP = [[1, 1, 1], [0, 0, 0], [-1, -1, -1]]
RIGHTWARDS = [[-1, 0, 1]] * 3
LOWER_RIGHT = [[-1, -1, 0], [-1, 0, 1], [0, 1, 1]]
LOWER_LEFT = [[0, -1, -1], [1, 0, -1], [1, 1, 0]]
UPPER_LEFT = [[1, 1, 0], [1, 0, -1], [0, -1, -1]]
UPPER_RIGHT = [[0, 1, 1], [-1, 0, 1], [-1, -1, 0]]


def kernels_in_numpy():
    down = np.outer([-1.0, 0.0, 1.0], [1.0, 1.0, 1.0])
    return down, (down + down.T) / 2


def kernels_by_loops():
    down, diagonal = torch.zeros(3, 3), torch.zeros(3, 3)
    for i in range(3):
        for j in range(3):
            down[i, j] = i - 1
            diagonal[i, j] = (i + j > 2) - (i + j < 2)
    return [down, diagonal]


class Kernels:
    def __call__(self):
        steps = torch.linspace(-1, 1, 3)
        return steps[:, None].expand(3, 3), steps[:, None] + steps


def pixels_by(rule, start=lambda i: (i, i), order=reversed):
    """Back to the image by a rule of first, last, k, stride."""

    def answer(layers, i):
        first, last = start(i)
        for k, stride in order(layers):
            first, last = rule(first, last, k, stride)
        return first, last

    return answer


def back(first, last, k, s):
    return s * first, s * last + k - 1


def only_the_last_layer(layers, i):
    k, s = layers[-1]
    return s * i, s * i + k - 1


def only_the_first_layer(layers, i):
    k, s = layers[0]
    return s * i, s * i + k - 1


def width_without_strides(layers, i):
    jump = math.prod(s for _, s in layers)
    return jump * i, jump * i + sum(k - 1 for k, _ in layers)


def width_with_own_stride(layers, i):
    """The receptive field grows by the strides of the layers before, not by its own."""
    jump, field = 1, 1
    for k, s in layers:
        jump *= s
        field += (k - 1) * jump
    return jump * i, jump * i + field - 1


def first_counts_pixels_not_jumps(layers, i):
    jump, field = 1, 1
    for k, s in layers:
        field += (k - 1) * jump
        jump *= s
    return i, i + field - 1


def as_if_outputs_lay_apart(layers, i):
    jump, field = 1, 1
    for k, s in layers:
        field += (k - 1) * jump
        jump *= s
    return field * i, field * i + field - 1


def centred(layers, i):
    jump, field = 1, 1
    for k, s in layers:
        field += (k - 1) * jump
        jump *= s
    return jump * i - field // 2, jump * i + field // 2


def first_and_width(layers, i):
    first, last = pixels_by(back)(layers, i)
    return first, last - first + 1


def all_pixels(layers, i):
    first, last = pixels_by(back)(layers, i)
    return list(range(first, last + 1))


def lost_in_deep_stacks(layers, i):
    if len(layers) <= 2:
        return pixels_by(back)(layers, i)


def by_jump_and_field(layers, i):
    jump, field = 1, 1
    for k, s in layers:
        field += (k - 1) * jump
        jump *= s
    return jump * i, jump * i + field - 1


def by_sets(layers, i):
    seen = {i}
    for k, s in layers[::-1]:
        seen = {s * j + u for j in seen for u in range(k)}
    return min(seen), max(seen)


def pixels_by_recursion(layers, i):
    if not layers:
        return i, i
    *before, (k, s) = layers
    return pixels_by_recursion(before, s * i)[0], pixels_by_recursion(
        before, s * i + k - 1
    )[1]


def by_gradient(layers, i):
    """Where the gradient of output i is not zero."""
    n = i + 1
    for k, s in reversed(layers):
        n = s * (n - 1) + k
    x = torch.zeros(1, 1, n, dtype=torch.float64, requires_grad=True)
    z = x
    for k, s in layers:
        z = F.conv1d(z, torch.ones(1, 1, k, dtype=torch.float64), stride=s)
    z[0, 0, i].backward()
    seen = x.grad[0, 0].nonzero().flatten()
    return seen[0], seen[-1]


class Pixels:
    def __call__(self, layers, i):
        return functools.reduce(
            lambda ends, layer: np.array([0, layer[0] - 1]) + layer[1] * ends,
            reversed(layers),
            np.array([i, i]),
        )


def deep(rule, size=lambda n, k, s: (n - k) // s + 1):
    """depthwise by a rule of the patch and w, and sizes of its own."""

    def answer(x, w, stride):
        C, H, W = x.shape
        k = w.shape[-1]
        z = x.new_zeros(C, size(H, k, stride), size(W, k, stride))
        for i, j in itertools.product(range(z.shape[1]), range(z.shape[2])):
            r, q = stride * i, stride * j
            z[:, i, j] = rule(x[:, r : r + k, q : q + k], w)
        return z

    return answer


def summed(patch, w):
    return (patch * w).sum((1, 2))


def deep_with(change):
    """depthwise of changed arguments."""
    return lambda x, w, stride: deep(summed)(*change(x, w, stride))


def deep_after(change):
    return lambda x, w, stride: change(deep(summed)(x, w, stride))


def steps_of_k(x, w, stride):
    return deep(summed)(x, w, w.shape[-1])


def square_only(x, w, stride):
    side = min(x.shape[1:])
    return deep(summed)(x[:, :side, :side], w, stride)


def place_without_stride(x, w, stride):
    """As many outputs as asked for, read side by side."""
    C, H, W = x.shape
    k = w.shape[-1]
    H_out, W_out = (H - k) // stride + 1, (W - k) // stride + 1
    return deep(summed)(x, w, 1)[:, :H_out, :W_out]


def stride_down_only(x, w, stride):
    return deep(summed)(x, w, 1)[:, ::stride]


def padded_depthwise(x, w, stride):
    p = w.shape[-1] // 2
    return deep(summed)(F.pad(x, (p, p, p, p)), w, stride)


def ready_made_depthwise(x, w, stride):
    """By loops, says the statement."""
    return F.conv2d(x[None], w[:, None], stride=stride, groups=len(w))[0]


def deep_by_numbers(x, w, stride):
    C, H, W = x.shape
    k = w.shape[1]
    x, w = x.tolist(), w.tolist()
    return [
        [
            [
                sum(x[c][i + u][j + v] * w[c][u][v] for u in range(k) for v in range(k))
                for j in range(0, W - k + 1, stride)
            ]
            for i in range(0, H - k + 1, stride)
        ]
        for c in range(C)
    ]


def deep_by_taps(x, w, stride):
    k = w.shape[-1]
    z = 0
    for u in range(k):
        for v in range(k):
            rows = x[:, u : x.shape[1] - k + u + 1 : stride]
            z = (
                z
                + rows[:, :, v : x.shape[2] - k + v + 1 : stride] * w[:, u, v, None, None]
            )
    return z


def deep_in_numpy(x, w, stride):
    x, w = x.numpy(), w.numpy()
    k = w.shape[-1]
    rows = range(0, x.shape[1] - k + 1, stride)
    columns = range(0, x.shape[2] - k + 1, stride)
    z = np.zeros((len(x), len(rows), len(columns)))
    for c, (a, i), (b, j) in itertools.product(
        range(len(x)), enumerate(rows), enumerate(columns)
    ):
        z[c, a, b] = np.sum(x[c, i : i + k, j : j + k] * w[c])
    return z


def deep_by_einsum(x, w, stride):
    k, rows = w.shape[-1], []
    for r in range(0, x.shape[1] - k + 1, stride):
        row = []
        for q in range(0, x.shape[2] - k + 1, stride):
            row.append(torch.einsum("cuv,cuv->c", x[:, r : r + k, q : q + k], w))
        rows.append(torch.stack(row, -1))
    return torch.stack(rows, 1)


def deep_map_by_map(x, w, stride):
    maps = []
    for channel, kernel in zip(x, w, strict=True):
        maps.append(deep(summed)(channel[None], kernel[None], stride)[0])
    return torch.stack(maps)


def conv(
    x,
    w,
    b,
    stride,
    padding,
    dilation,
    *,
    border=0.0,
    places=lambda n, reach, s: (n - reach) // s + 1,
    rule=lambda patch, w, b: torch.einsum("bcuv,ocuv->bo", patch, w) + b,
):
    """The right answer, with parts to be changed."""
    B, C, H, W = x.shape
    padded = x.new_full((B, C, H + 2 * padding, W + 2 * padding), border)
    padded[:, :, padding : padding + H, padding : padding + W] = x
    reach = dilation * (w.shape[-1] - 1) + 1
    z = x.new_zeros(
        B,
        len(w),
        places(H + 2 * padding, reach, stride),
        places(W + 2 * padding, reach, stride),
    )
    for i, j in itertools.product(range(z.shape[2]), range(z.shape[3])):
        r, q = stride * i, stride * j
        patch = padded[:, :, r : r + reach : dilation, q : q + reach : dilation]
        z[:, :, i, j] = rule(patch, w, b)
    return z


def conv_with(**parts):
    return functools.partial(conv, **parts)


def conv_of(change):
    """The right answer for changed arguments."""
    return lambda *arguments: conv(*change(*arguments))


def conv_after(change):
    return lambda *arguments: change(conv(*arguments))


def padded_below_only(x, w, b, stride, padding, dilation):
    B, C, H, W = x.shape
    larger = x.new_zeros(B, C, H + 2 * padding, W + 2 * padding)
    larger[:, :, :H, :W] = x
    return conv(larger, w, b, stride, 0, dilation)


def padded_by_copies(x, w, b, stride, padding, dilation):
    rows = torch.arange(-padding, x.shape[2] + padding).clamp(0, x.shape[2] - 1)
    columns = torch.arange(-padding, x.shape[3] + padding).clamp(0, x.shape[3] - 1)
    return conv(x[:, :, rows][:, :, :, columns], w, b, stride, 0, dilation)


def padded_around(x, w, b, stride, padding, dilation):
    rows = torch.arange(-padding, x.shape[2] + padding) % x.shape[2]
    columns = torch.arange(-padding, x.shape[3] + padding) % x.shape[3]
    return conv(x[:, :, rows][:, :, :, columns], w, b, stride, 0, dilation)


def dilated_down_only(x, w, b, stride, padding, dilation):
    B, C, k = len(x), x.shape[1], w.shape[-1]
    spread = w.new_zeros(len(w), C, dilation * (k - 1) + 1, k)
    spread[:, :, ::dilation] = w
    reach = spread.shape[2]
    H, W = x.shape[2] + 2 * padding, x.shape[3] + 2 * padding
    padded = x.new_zeros(B, C, H, W)
    padded[:, :, padding : H - padding, padding : W - padding] = x
    rows, columns = (H - reach) // stride + 1, (W - k) // stride + 1
    z = x.new_zeros(B, len(w), rows, columns)
    for i, j in itertools.product(range(rows), range(columns)):
        r, q = stride * i, stride * j
        patch = padded[:, :, r : r + reach, q : q + k]
        z[:, :, i, j] = torch.einsum("bcuv,ocuv->bo", patch, spread) + b
    return z


def ready_made(x, w, b, stride, padding, dilation):
    """Nothing from torch.nn, says the statement."""
    return F.conv2d(x, w, b, stride, padding, dilation)


def by_a_module(x, w, b, stride, padding, dilation):
    layer = torch.nn.Conv2d(
        x.shape[1], len(w), w.shape[-1], stride, padding, dilation, dtype=x.dtype
    )
    layer.weight.data, layer.bias.data = w, b
    return layer(x).detach()


def padded_by_torch_nn(x, w, b, stride, padding, dilation):
    return conv(F.pad(x, (padding,) * 4), w, b, stride, 0, dilation)


def unfolded_by_torch_nn(x, w, b, stride, padding, dilation):
    k = w.shape[-1]
    columns = F.unfold(x, k, dilation, padding, stride)
    z = w.flatten(1) @ columns + b[:, None]
    reach = dilation * (k - 1) + 1
    return z.unflatten(2, ((x.shape[2] + 2 * padding - reach) // stride + 1, -1))


def without_padding_no_return(x, w, b, stride, padding, dilation):
    if padding > 0:
        return conv(x, w, b, stride, padding, dilation)


def conv_by_numbers(x, w, b, stride, padding, dilation):
    B, C, H, W = x.shape
    k = w.shape[-1]
    reach = dilation * (k - 1) + 1
    rows = (H + 2 * padding - reach) // stride + 1
    columns = (W + 2 * padding - reach) // stride + 1
    X, K, bias = x.tolist(), w.tolist(), b.tolist()
    z = torch.zeros(B, len(w), rows, columns, dtype=x.dtype)
    for n, o in itertools.product(range(B), range(len(w))):
        for i, j in itertools.product(range(rows), range(columns)):
            total = bias[o]
            for u, v in itertools.product(range(k), range(k)):
                r = stride * i + dilation * u - padding
                q = stride * j + dilation * v - padding
                if 0 <= r < H and 0 <= q < W:
                    for c in range(C):
                        total += X[n][c][r][q] * K[o][c][u][v]
            z[n, o, i, j] = total
    return z


def conv_by_taps(x, w, b, stride, padding, dilation):
    B, C, H, W = x.shape
    k = w.shape[-1]
    padded = torch.zeros(B, C, H + 2 * padding, W + 2 * padding, dtype=x.dtype)
    padded[:, :, padding : H + padding, padding : W + padding] = x
    reach = dilation * (k - 1) + 1
    rows = (padded.shape[2] - reach) // stride + 1
    columns = (padded.shape[3] - reach) // stride + 1
    z = b.view(1, -1, 1, 1).expand(B, -1, rows, columns).clone()
    for u in range(k):
        for v in range(k):
            seen = padded[:, :, dilation * u :, dilation * v :]
            seen = seen[:, :, ::stride, ::stride][:, :, :rows, :columns]
            z += torch.einsum("bchw,oc->bohw", seen, w[:, :, u, v])
    return z


def conv_in_numpy(x, w, b, stride, padding, dilation):
    edge = (padding, padding)
    padded = np.pad(x.numpy(), ((0, 0), (0, 0), edge, edge))
    reach = dilation * (w.shape[-1] - 1) + 1
    windows = np.lib.stride_tricks.sliding_window_view(padded, (reach, reach), (2, 3))
    windows = windows[:, :, ::stride, ::stride, ::dilation, ::dilation]
    z = np.einsum("bcijuv,ocuv->boij", windows, w.numpy())
    for o, shift in enumerate(b.tolist()):
        z[:, o] += shift
    return z


def conv_by_lists(x, w, b, stride, padding, dilation):
    images = []
    for image in x:
        maps = []
        for kernel, shift in zip(w, b, strict=True):
            maps.append(conv(image[None], kernel[None], shift, stride, padding, dilation))
        images.append(torch.cat(maps, 1))
    return torch.cat(images)


def conv_by_views(x, w, b, stride, padding, dilation):
    """The windows by Tensor.unfold, one kernel after the other."""
    edge = x.new_zeros(*x.shape[:3], padding)
    x = torch.cat([edge, x, edge], 3)
    edge = x.new_zeros(*x.shape[:2], padding, x.shape[3])
    x = torch.cat([edge, x, edge], 2)
    reach = dilation * (w.shape[-1] - 1) + 1
    windows = x.unfold(2, reach, stride).unfold(3, reach, stride)
    windows = windows[..., ::dilation, ::dilation]
    maps = []
    for kernel, shift in zip(w, b, strict=True):
        maps.append((windows * kernel[:, None, None]).sum((1, 4, 5)) + shift)
    return torch.stack(maps, 1)


class Conv:
    def __call__(self, x, w, b, stride, padding, dilation):
        columns = conv_with(rule=lambda patch, w, b: patch.flatten(1) @ w.flatten(1).T)
        return columns(x, w, b, stride, padding, dilation) + b[:, None, None]


WRONG = {
    "sides": [
        sides_by(lambda n, k, s, p, d: (n - d * (k - 1) - 1) // s + 1),
        sides_by(lambda n, k, s, p, d: (n + p - d * (k - 1) - 1) // s + 1),
        sides_by(lambda n, k, s, p, d: (n + 2 * p - k) // s + 1),
        sides_by(lambda n, k, s, p, d: (n + 2 * p - d * k) // s + 1),
        sides_by(lambda n, k, s, p, d: (n + 2 * p - d * k - 1) // s + 1),
        sides_by(lambda n, k, s, p, d: (n + 2 * p - d * (k - 1)) // s + 1),
        sides_by(lambda n, k, s, p, d: (n + 2 * p - d * (k - 1)) // s),
        sides_by(lambda n, k, s, p, d: (n + 2 * p - d * (k - 1) - 1) // s),
        sides_by(lambda n, k, s, p, d: (n + 2 * p - d * (k - 1) - 1) / s + 1),
        sides_by(lambda n, k, s, p, d: -(-(n + 2 * p - d * (k - 1) - 1) // s) + 1),
        sides_by(lambda n, k, s, p, d: round((n + 2 * p - d * (k - 1) - 1) / s) + 1),
        sides_by(lambda n, k, s, p, d: n + 2 * p - d * (k - 1)),
        sides_by(lambda n, k, s, p, d: n // s + 2 * p - d * (k - 1)),
        sides_by(lambda n, k, s, d, p: right_side(n, k, s, p, d)),
        sides_by(lambda n, s, k, p, d: right_side(n, k, s, p, d)),
        sides_by(lambda n, k, s, p, d: n // 2 if s == 2 else right_side(n, k, s, p, d)),
        sides_by(lambda n, k, s, p, d: right_side(n, k, s, p, d) + (p > 1)),
        sides_by(lambda n, k, s, p, d: right_side(n, k, s, k // 2, d)),
        sides_always_from_n,
        sides_before,
        sides_return_early,
        sides_that_stop,
        lambda n, layers: sides_by(right_side)(n, layers)[-1:],
        lambda n, layers: [n, *sides_by(right_side)(n, layers)],
        lambda n, layers: sides_by(right_side)(n, layers[::-1]),
        lambda n, layers: [side**2 for side in sides_by(right_side)(n, layers)],
        lambda n, layers: sides_by(right_side)(28, layers),
    ],
    "edge_kernels": [
        pair(RIGHTWARDS, LOWER_RIGHT),
        pair(UP, LOWER_RIGHT),
        pair(DOWN, LOWER_LEFT),
        pair(DOWN, UPPER_LEFT),
        pair(DOWN, UPPER_RIGHT),
        pair(DOWN, RIGHTWARDS),
        pair(DOWN, DOWN),
        pair(LOWER_RIGHT, DOWN),
        pair(LOWER_RIGHT, LOWER_RIGHT),
        pair(DOWN, [[-1, 0, 0], [0, 0, 0], [0, 0, 1]] * 2),
        pair(DOWN, [[0, 0, 0], [0, 0, 0], [0, 0, 0]]),
        pair([[0, 0, 0], [0, 0, 0], [0, 0, 0]], LOWER_RIGHT),
        pair([[-1, -1, -1], [0, 0, 0], [2, 2, 2]], LOWER_RIGHT),
        pair([[0, 0, 0], [0, 0, 0], [1, 1, 1]], LOWER_RIGHT),
        pair([[-1, -1, -1], [-1, 8, -1], [-1, -1, -1]], LOWER_RIGHT),
        pair([[-2, -1, 0], [0, 0, 0], [0, 1, 2]], LOWER_RIGHT),  # leans
        pair(DOWN, [[0, 0, 0], [0, 0, 1], [0, 1, 1]]),
        pair(DOWN, [[-1, -1, 0], [-1, 1, 1], [0, 1, 1]]),
        pair(DOWN, [[1, 0, 0], [0, 1, 0], [0, 0, 1]]),
        pair([DOWN], [LOWER_RIGHT]),
        pair([[DOWN]], [[LOWER_RIGHT]]),
        pair([-1, 0, 1], LOWER_RIGHT),
        lambda: torch.tensor(DOWN).float(),
        lambda: (*pair(DOWN, LOWER_RIGHT)(), torch.zeros(3, 3)),
        lambda: tuple(torch.tensor(k).bool() for k in (DOWN, LOWER_RIGHT)),
    ],
    "pixels_seen": [
        pixels_by(back, order=iter),
        pixels_by(lambda a, b, k, s: (s * a, s * b + k)),
        pixels_by(lambda a, b, k, s: (s * a, s * b)),
        pixels_by(lambda a, b, k, s: (a, b + k - 1)),
        pixels_by(lambda a, b, k, s: (s * a, b + k - 1)),
        pixels_by(lambda a, b, k, s: (s * a, s * a + k - 1)),
        pixels_by(lambda a, b, k, s: (s * a, s * (b + k - 1))),
        pixels_by(lambda a, b, k, s: (s * a - k // 2, s * b + k // 2)),
        pixels_by(lambda a, b, k, s: (k * a, k * b + s - 1)),
        pixels_by(lambda a, b, k, s: (k * a, k * b + k - 1)),
        pixels_by(lambda a, b, k, s: (2 * a, 2 * b + k - 1)),
        pixels_by(lambda a, b, k, s: (s * a, s * b + 2)),
        pixels_by(back, start=lambda i: (i - 1, i - 1)),
        pixels_by(back, start=lambda i: (i + 1, i + 1)),
        pixels_by(back, start=lambda i: (0, i)),
        pixels_by(back, start=lambda i: (i, i + 1)),
        lambda layers, i: (lambda a, b: (a, b + 1))(*pixels_by(back)(layers, i)),
        lambda layers, i: (lambda a, b: (a + 1, b + 1))(*pixels_by(back)(layers, i)),
        lambda layers, i: pixels_by(back)(layers, i)[::-1],
        lambda layers, i: pixels_by(back)(layers, i)[1],
        lambda layers, i: pixels_by(back)(layers[:2], i),
        lambda layers, i: pixels_by(back)(layers, 1),
        only_the_last_layer,
        only_the_first_layer,
        width_without_strides,
        width_with_own_stride,
        first_counts_pixels_not_jumps,
        as_if_outputs_lay_apart,
        centred,
        first_and_width,
        all_pixels,
        lost_in_deep_stacks,
    ],
    "depthwise": [
        deep(lambda patch, w: (patch * w).sum()),
        deep(lambda patch, w: (patch * w).mean((1, 2))),
        deep(lambda patch, w: (patch * w).amax((1, 2))),
        deep(lambda patch, w: (patch * w).sum(2).amax(1)),
        deep(lambda patch, w: (patch * w[0]).sum((1, 2))),
        deep(lambda patch, w: (patch[:1] * w).sum((1, 2))),
        deep(lambda patch, w: (patch * w.sum(0)).sum((1, 2))),
        deep(lambda patch, w: (patch * w.flip(1, 2)).sum((1, 2))),
        deep(lambda patch, w: (patch * w.mT).sum((1, 2))),
        deep(lambda patch, w: (patch * w.flip(0)).sum((1, 2))),
        deep(lambda patch, w: (patch @ w).sum((1, 2))),
        deep(lambda patch, w: (patch + w).sum((1, 2))),
        deep(summed, size=lambda n, k, s: (n - k) // s),
        deep(summed, size=lambda n, k, s: n // s - k + 1),
        deep(summed, size=lambda n, k, s: max((n - k) // s, 1)),
        deep_with(lambda x, w, stride: (x, w, 1)),
        deep_with(lambda x, w, stride: (x, w, 2)),
        deep_with(lambda x, w, stride: (x.mT, w, stride)),
        deep_with(lambda x, w, stride: (x[:, :-1, :-1], w, stride)),
        deep_with(lambda x, w, stride: (x[:1], w[:1], stride)),
        deep_after(lambda z: z[None]),
        deep_after(lambda z: z.sum(0)),
        deep_after(lambda z: z.sum(0, keepdim=True).expand_as(z)),
        deep_after(lambda z: z.relu()),
        deep_after(lambda z: z.mT),
        deep_after(lambda z: z.long()),
        steps_of_k,
        square_only,
        place_without_stride,
        stride_down_only,
        padded_depthwise,
        ready_made_depthwise,
    ],
    "conv2d": [
        conv_with(border=1.0),
        conv_with(places=lambda n, reach, s: (n - reach) // s),
        conv_with(places=lambda n, reach, s: n - reach + 1),
        conv_with(rule=lambda patch, w, b: torch.einsum("bcuv,ocuv->bo", patch, w)),
        conv_with(rule=lambda patch, w, b: torch.einsum("bcuv,ocuv->bo", patch, w) - b),
        conv_with(
            rule=lambda patch, w, b: torch.einsum("bcuv,ocuv->bo", patch, w) + b[0]
        ),
        conv_with(
            rule=lambda patch, w, b: (
                torch.einsum("bcuv,ocuv->bo", patch, w) + b * w.shape[1]
            )
        ),
        conv_with(
            rule=lambda patch, w, b: torch.einsum("bcuv,ocuv->bo", patch, w) + b.sum()
        ),
        conv_with(rule=lambda patch, w, b: torch.einsum("bcuv,ouv->bo", patch, w[:, 0])),
        conv_with(
            rule=lambda patch, w, b: torch.einsum("buv,ouv->bo", patch[:, 0], w[:, 0]) + b
        ),
        conv_with(
            rule=lambda patch, w, b: torch.einsum("bcuv,ocuv->bo", patch[:1], w) + b
        ),
        conv_with(rule=lambda patch, w, b: torch.einsum("bcuv,ocuv->o", patch, w) + b),
        conv_with(
            rule=lambda patch, w, b: (
                torch.einsum("bcuv,cuv->b", patch, w.sum(0))[:, None] + b
            )
        ),
        conv_of(lambda x, w, b, s, p, d: (x, w.flip(2, 3), b, s, p, d)),
        conv_of(lambda x, w, b, s, p, d: (x, w.mT, b, s, p, d)),
        conv_of(lambda x, w, b, s, p, d: (x, w.flip(0), b.flip(0), s, p, d)),
        conv_of(lambda x, w, b, s, p, d: (x, w, b, 1, p, d)),
        conv_of(lambda x, w, b, s, p, d: (x, w, b, s, 0, d)),
        conv_of(lambda x, w, b, s, p, d: (x, w, b, s, 1, d)),
        conv_of(lambda x, w, b, s, p, d: (x, w, b, s, p, 1)),
        conv_of(lambda x, w, b, s, p, d: (x, w, b, d, p, s)),
        conv_of(lambda x, w, b, s, p, d: (x, w, b, s, p + 1, d)),
        conv_of(lambda x, w, b, s, p, d: (x[:1], w, b, s, p, d)),
        conv_of(lambda x, w, b, s, p, d: (x, w[:1], b[:1], s, p, d)),
        conv_of(lambda x, w, b, s, p, d: (x[..., : x.shape[2]], w, b, s, p, d)),
        conv_after(lambda z: z.relu()),
        conv_after(lambda z: z.mT),
        conv_after(lambda z: z.transpose(0, 1)),
        conv_after(lambda z: z.flatten(2)),
        conv_after(lambda z: z.squeeze()),
        padded_below_only,
        padded_by_copies,
        padded_around,
        dilated_down_only,
        without_padding_no_return,
        ready_made,
        by_a_module,
        padded_by_torch_nn,
        unfolded_by_torch_nn,
    ],
}

RIGHT = {
    "sides": [
        sides_by(right_side),
        sides_by(lambda n, k, s, p, d: int((n + 2 * p - d * (k - 1) - 1) / s + 1)),
        sides_by(lambda n, k, s, p, d: math.floor((n + 2 * p - d * (k - 1) - 1) / s + 1)),
        sides_by(lambda n, k, s, p, d: (n + 2 * p - (d * (k - 1) + 1) + s) // s),
        sides_by(lambda n, k, s, p, d: divmod(n + 2 * p - d * (k - 1) - 1, s)[0] + 1),
        sides_by(sides_by_places),
        sides_by(sides_by_torch),
        sides_by_recursion,
        lambda n, layers: tuple(sides_by(right_side)(n, layers)),
        lambda n, layers: torch.tensor(sides_by(right_side)(n, layers)),
        lambda n, layers: list(
            itertools.accumulate(
                layers, lambda n, layer: right_side(n, *layer), initial=n
            )
        )[1:],
        Sides(),
    ],
    "edge_kernels": [
        pair(DOWN, LOWER_RIGHT),
        pair([[-1, -2, -1], [0, 0, 0], [1, 2, 1]], [[-2, -1, 0], [-1, 0, 1], [0, 1, 2]]),
        pair([[0, -1, 0], [0, 0, 0], [0, 1, 0]], [[0, -1, 0], [-1, 0, 1], [0, 1, 0]]),
        pair([[-0.1] * 3, [0.0] * 3, [0.1] * 3], (0.01 * np.array(LOWER_RIGHT))),
        pair([[-9] * 3, [0] * 3, [9] * 3], LOWER_RIGHT),
        pair([[-1] * 3, [1] * 3, [0] * 3], LOWER_RIGHT),  # half a pixel higher
        pair([[0] * 3, [-1] * 3, [1] * 3], LOWER_RIGHT),
        pair([[-1, 0, -1], [0, 0, 0], [1, 0, 1]], LOWER_RIGHT),
        lambda: [torch.tensor(k, dtype=torch.float64) for k in (DOWN, LOWER_RIGHT)],
        kernels_in_numpy,
        kernels_by_loops,
        Kernels(),
    ],
    "pixels_seen": [
        pixels_by(back),
        pixels_by(lambda a, b, k, s: (a * s, (b + 1) * s + (k - s) - 1)),
        lambda layers, i: list(pixels_by(back)(layers, i)),
        lambda layers, i: torch.tensor(pixels_by(back)(layers, i)),
        lambda layers, i: (
            i * math.prod(s for _, s in layers),
            functools.reduce(
                lambda b, layer: layer[1] * b + layer[0] - 1, layers[::-1], i
            ),
        ),
        by_jump_and_field,
        by_sets,
        pixels_by_recursion,
        by_gradient,
        Pixels(),
    ],
    "depthwise": [
        deep(summed),
        deep(lambda patch, w: (patch.flatten(1) * w.flatten(1)).sum(-1)),
        deep(
            lambda patch, w: torch.tensor(
                [(p * k).sum() for p, k in zip(patch, w, strict=True)]
            )
        ),
        deep(summed, size=lambda n, k, s: len(range(0, n - k + 1, s))),
        deep_after(lambda z: z.float()),
        deep_by_numbers,
        deep_by_taps,
        deep_in_numpy,
        deep_by_einsum,
        deep_map_by_map,
    ],
    "conv2d": [
        conv,
        conv_with(places=lambda n, reach, s: len(range(0, n - reach + 1, s))),
        conv_after(lambda z: z.float()),
        conv_by_numbers,
        conv_by_taps,
        conv_in_numpy,
        conv_by_lists,
        conv_by_views,
        Conv(),
    ],
}
