"""Exercises of lesson 07: convolution."""

from functools import partial
from itertools import product

import torch
import torch.nn.functional as F

from lessons_src.exercises import exercise


def draw_stack(draw):
    """A side, and up to `size` layers (k, stride, padding, dilation) that all fit."""
    n = side = draw.integer(1, 10 * draw.size)
    layers = []
    for _ in range(draw.size):
        k, *setting = (draw.integer(low, 3) for low in (1, 1, 0, 1))
        if side + 2 * setting[1] > setting[2] * (k - 1):
            layers.append((k, *setting))
            side = sides.solution(n, layers)[-1]
    return n, layers


def by_formula(outputs):
    """`sides` with outputs(n, k, stride, padding, dilation) for each layer."""

    def sides(n, layers):
        found = []
        for layer in layers:
            n = outputs(n, *layer)
            found.append(n)
        return found

    return sides


@exercise(
    inputs=draw_stack,
    cases={
        "A kernel of 3 fits at 26 places: two fewer than pixels.": (28, [(3, 1, 0, 1)])
    },
    mistakes={
        "Round down first, then add 1: the last window may not hang over.": (
            by_formula(lambda n, k, s, p, d: -(-(n + 2 * p - d * (k - 1) - 1) // s) + 1)
        ),
        "Add 1 in the end: the first place counts too.": (
            by_formula(lambda n, k, s, p, d: (n + 2 * p - d * (k - 1) - 1) // s)
        ),
        "The padding is laid at both ends: 2p pixels more.": (
            by_formula(lambda n, k, s, p, d: (n + p - d * (k - 1) - 1) // s + 1)
        ),
        "With dilation d a kernel reaches over d(k − 1) + 1 pixels.": (
            by_formula(lambda n, k, s, p, d: (n + 2 * p - k) // s + 1)
        ),
        "One side is returned for each layer.": (
            lambda n, layers: sides.solution(n, layers)[-1:]
        ),
        "Each layer starts from the side that the one before it left.": (
            lambda n, layers: [sides.solution(n, [layer])[0] for layer in layers]
        ),
    },
    hint="One side for each layer, by the boxed formula; the last result is the next n.",
)
def sides(n, layers):
    """The side of a square image after each layer, as torch finds it."""
    x, found = torch.zeros(1, 1, n), []
    for k, *setting in layers:
        x = F.conv1d(x, torch.zeros(1, 1, k), None, *setting)
        found.append(x.shape[-1])
    return found


DIRECTIONS = {"right": (0, 1), "left": (0, -1), "lower": (1, 0), "upper": (-1, 0)}
DIRECTIONS |= {"lower right": (1, 1), "lower left": (1, -1)}
DIRECTIONS |= {"upper right": (-1, 1), "upper left": (-1, -1)}


def what_kernels_do(answer):
    """The shapes of both kernels, and what they answer to even areas and to edges."""
    made = answer()
    if not isinstance(made, tuple | list):
        return made
    first, second = (torch.as_tensor(kernel).double() for kernel in made)
    ramp = torch.tensor([-1.0, 0.0, 1.0])
    strength = {
        name: (second * (down * ramp[:, None] + right * ramp).sign()).sum().item()
        for name, (down, right) in DIRECTIONS.items()
    }
    best = [name for name, s in strength.items() if s > max(strength.values()) - 1e-6]
    rising = bool(first[1:].sum() > 0 and first[2:].sum() > 0)
    return (
        f"shapes {tuple(first.shape)} and {tuple(second.shape)}",
        f"zero on an even area: {[abs(k.sum().item()) < 1e-5 for k in (first, second)]}",
        f"first, dark above and bright below: positive {rising}",
        f"first, vertical edge: zero {bool((first.sum(0).abs() < 1e-5).all())}",
        f"second, answers best: brighter towards the {', '.join(best)}",
    )


def kernels(first, second="-1 -1 0  -1 0 1  0 1 1"):
    """A wrong `edge_kernels`, each kernel as nine numbers in reading order."""
    return lambda: tuple(
        torch.tensor([float(w) for w in text.split()]).view(3, 3)
        for text in (first, second)
    )


@exercise(
    cases={"Turn the vertical kernel by a quarter, and by an eighth.": ()},
    mistakes={
        "Minus belongs in the upper row, plus in the lower.": kernels(
            "1 1 1  0 0 0  -1 -1 -1"
        ),
        "Left and right must weigh the same in the first kernel.": (
            kernels("-1 -1 0  -1 0 1  0 1 1")
        ),
        "The weights must sum to zero.": kernels("0 0 0  0 0 0  1 1 1"),
        "The second has plus in the lower right corner, minus in the upper left.": (
            kernels("-1 -1 -1  0 0 0  1 1 1", "0 1 1  -1 0 1  -1 -1 0")
        ),
    },
    observe=what_kernels_do,
)
def edge_kernels():
    """A kernel for horizontal edges, and one for a diagonal."""
    return kernels("-1 -1 -1  0 0 0  1 1 1")()


@exercise(
    inputs=lambda draw: (
        [
            (draw.integer(1, 4), draw.integer(1, 3))
            for _ in range(draw.integer(1, draw.size))
        ],
        draw.integer(0, 3),
    ),
    cases={"No layer at all: pixel i sees itself.": ([], 6)},
    mistakes={
        "Start with the last layer of the list: i numbers its outputs.": (
            lambda layers, i: pixels_seen.solution(layers[::-1], i)
        ),
        "The last pixel is counted: s·i + k − 1.": lambda layers, i: (
            pixels_seen.solution(layers, i)[0],
            pixels_seen.solution([(k + 1, stride) for k, stride in layers], i)[1],
        ),
        "Output i begins at pixel s·i.": lambda layers, i: pixels_seen.solution(
            [(k, 1) for k, stride in layers], i
        ),
    },
    hint="Output i of a layer reads s·i to s·i + k − 1. What do the first and the last "
    "of these read?",
)
def pixels_seen(layers, i):
    """First and last pixel that has a gradient from output i."""
    z = x = torch.zeros(1, 1, 3000, requires_grad=True)
    for k, stride in layers:
        z = F.conv1d(z, torch.ones(1, 1, k), stride=stride)
    (by_x,) = torch.autograd.grad(z[0, 0, i], x)
    pixels = by_x.flatten().nonzero().flatten()
    return pixels[0].item(), pixels[-1].item()


def draw_depthwise(draw):
    C, k = draw.integer(1, draw.size), draw.integer(1, 3)
    H, W = (k + draw.integer(0, 2 * draw.size) for _ in range(2))
    return draw.normal(C, H, W), draw.normal(C, k, k), draw.integer(1, 3)


def wrong_sizes(x, w, stride, up=False):
    """`depthwise` with the height for the width, or sizes rounded up."""
    k, sides = w.shape[-1], x.shape[1:] if up else x.shape[1:2] * 2
    H_out, W_out = ((n - k + up * (stride - 1)) // stride + 1 for n in sides)
    z = x.new_zeros(len(x), H_out, W_out)
    for i, j in product(range(H_out), range(W_out)):
        r, q = stride * i, stride * j
        z[:, i, j] = (x[:, r : r + k, q : q + k] * w).sum((1, 2))
    return z


@exercise(
    inputs=draw_depthwise,
    mistakes={
        "Channels stay apart: sum over the patch, not over the channels.": (
            lambda x, w, stride: (
                depthwise.solution(x, w, stride).sum(0).expand(len(x), -1, -1)
            )
        ),
        "Channel c has a kernel of its own, w[c].": (
            lambda x, w, stride: depthwise.solution(x, w[:1].expand_as(w), stride)
        ),
        "The kernel is not flipped.": (
            lambda x, w, stride: depthwise.solution(x, w.flip(1, 2), stride)
        ),
        "Height and width may differ.": wrong_sizes,
        "A window that would hang over is left out: round down.": (
            partial(wrong_sizes, up=True)
        ),
    },
    hint="Output (i, j) begins at row s·i and column s·j; along an axis of n there are "
    "(n − k) // s + 1.",
)
def depthwise(x, w, stride):
    """One kernel for each channel, nothing added across channels."""
    return F.conv2d(x[None], w[:, None], stride=stride, groups=len(x))[0]


def draw_pool(draw):
    """delta and an image: drawn, with many ties, or all negative."""
    k, stride = draw.integer(1, 3), draw.integer(1, 3)
    x = draw.normal(*(k + draw.integer(0, 2 * draw.size) for _ in range(2)))
    x = draw.choice(x, x.round() + 0.0, -x.abs() - 1)  # + 0.0: no negative zeros
    return draw.normal(*F.max_pool2d(x[None], k, stride)[0].shape), x, k, stride


def by_windows(delta, x, k, stride, winners, add=True):
    """`pool_back` with winners(patch) (k, k), a share of delta for each of its pixels."""
    dx = torch.zeros_like(x)
    for i, j in product(*map(range, delta.shape)):
        window = slice(stride * i, stride * i + k), slice(stride * j, stride * j + k)
        won = winners(x[window]).to(x.dtype)
        dx[window] = dx[window] * (add or won == 0) + delta[i, j] * won
    return dx


def first(patch):
    """1 at the first largest pixel of a patch."""
    return F.one_hot(patch.argmax(), patch.numel()).view_as(patch)


@exercise(
    inputs=draw_pool,
    cases={
        "All pixels are equal here.": (torch.ones(1, 1), torch.zeros(2, 2), 2, 2),
        "One pixel wins in all windows.": (
            torch.ones(2, 2),
            F.pad(torch.ones(1, 1), [1] * 4),
            2,
            1,
        ),
    },
    mistakes={
        "One pixel may win in several windows: add up, do not overwrite.": (
            partial(by_windows, winners=first, add=False)
        ),
        "Among equal maxima only the first in reading order gets δ.": (
            partial(by_windows, winners=lambda patch: patch == patch.max())
        ),
        "The first in reading order wins a tie, not the last.": (
            partial(by_windows, winners=lambda patch: first(patch.flip(0, 1)).flip(0, 1))
        ),
        "Equal maxima do not share δ: the first gets all of it.": partial(
            by_windows,
            winners=lambda patch: (patch == patch.max()) / (patch == patch.max()).sum(),
        ),
        "The largest wins, not the one farthest from zero.": (
            partial(by_windows, winners=lambda patch: first(patch.abs()))
        ),
    },
    hint="Window (i, j) begins at row stride·i, column stride·j. All of δ goes to its "
    "largest pixel; pixels in no window get 0.",
)
def pool_back(delta, x, k, stride):
    """The backward pass of max pooling, by autograd."""
    x = x.clone().requires_grad_()
    z = F.max_pool2d(x[None], k, stride)[0]
    return torch.autograd.grad(z, x, delta)[0]


def draw_conv1d(draw):
    """delta, x, w, stride, padding; some pixels may be read by no output."""
    B, c_in, c_out = (draw.integer(1, draw.size) for _ in range(3))
    k, stride, padding = draw.integer(1, 3), draw.integer(1, 3), draw.integer(0, 2)
    n = max(1, k - 2 * padding) + draw.integer(0, 2 * draw.size)
    delta = draw.normal(B, c_out, (n + 2 * padding - k) // stride + 1)
    return delta, draw.normal(B, c_in, n), draw.normal(c_out, c_in, k), stride, padding


def by_taps(delta, x, w, stride, padding, step=None, flip=False, add=True, cut=None):
    """`conv1d_back` with another step or tap, an overwritten dx, or a wrong cut."""
    n, x = x.shape[2], F.pad(x, (padding, padding))
    dx, dw = torch.zeros_like(x), torch.zeros_like(w)
    for i, u in product(range(delta.shape[2]), range(w.shape[2])):
        d, r = delta[:, :, i], (step or stride) * i + u
        dw[:, :, u] += d.T @ x[:, :, r]
        dx[:, :, r] = add * dx[:, :, r] + d @ w[:, :, -1 - u if flip else u]
    cut = cut or slice(padding, padding + n)
    return dx[:, :, cut], dw, delta.sum((0, 2))


@exercise(
    inputs=draw_conv1d,
    mistakes={
        "Output i gives back to pixel i + u with the tap u that read it.": (
            partial(by_taps, flip=True)
        ),
        "With a stride, output i gives back to pixel s·i + u.": partial(by_taps, step=1),
        "Several outputs read a pixel: add up what they give back.": (
            partial(by_taps, add=False)
        ),
        "Cut the padding off in the end: dx has the shape of x.": (
            partial(by_taps, cut=slice(None))
        ),
        "Cut at both ends: dx is pixels p to p + n of the padded row.": (
            lambda delta, x, *others: by_taps(delta, x, *others, cut=slice(x.shape[2]))
        ),
        "db sums over images and places: one number for each output channel.": (
            lambda delta, *others: (
                *conv1d_back.solution(delta, *others)[:2],
                delta.sum(2),
            )
        ),
    },
    hint="Value 1 is dx, value 2 dw, value 3 db. dw sums over the images, dx does not; "
    "what no output read gets 0.",
)
def conv1d_back(delta, x, w, stride, padding):
    """The gradients of a convolution along one axis, by autograd."""
    x, w, b = (t.clone().requires_grad_() for t in (x, w, w.new_zeros(len(w))))
    return torch.autograd.grad(F.conv1d(x, w, b, stride, padding), (x, w, b), delta)
