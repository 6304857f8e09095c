"""Exercises of the lesson on the backward pass of a convolution."""

from functools import partial
from itertools import product

import torch
import torch.nn.functional as F

from lessons_src.exercises import exercise
from lessons_src.exercises.forbidden import AUTOGRAD, UNFOLD, without


def draw_map(draw):
    """A feature map with room for a window, the window's side, and a stride."""
    k = draw.integer(1, 4)
    H, W = (k + draw.integer(0, 2 * draw.size) for _ in range(2))
    return draw.numbers(H, W), k, draw.integer(1, 4)


def turned(x, k, stride):
    """`columns` with the taps of each patch column by column."""
    found = columns.solution(x, k, stride)
    return found.unflatten(0, (k, k)).transpose(0, 1).flatten(0, 1)


@exercise(
    inputs=draw_map,
    cases={
        "Four patches of 2×2, which overlap.": (torch.arange(9.0).view(3, 3), 2, 1),
        "The window that would hang over is left out.": (
            torch.arange(20.0).view(4, 5),
            2,
            2,
        ),
    },
    mistakes={
        "Each patch is a column, not a row: stack with dim=1.": (
            lambda x, k, stride: columns.solution(x, k, stride).T
        ),
        "From one patch to the next it is `stride` pixels.": (
            lambda x, k, stride: columns.solution(x, k, 1)
        ),
        "Inside a patch go row by row.": turned,
        "Go through the outputs row by row: the first row of patches, then the next.": (
            lambda x, k, stride: turned(x.T, k, stride)
        ),
        "The last window counts too: it may begin at H − k.": (
            lambda x, k, stride: columns.solution(
                x[: max(k, len(x) - 1), : max(k, x.shape[1] - 1)], k, stride
            )
        ),
    },
    largest=12,
    hint="Output (i, j) reads the rows stride·i to stride·i + k − 1, and the columns in "
    "the same way.",
    observe=without(*UNFOLD),
)
def columns(x, k, stride):
    """Every patch as a column, by torch."""
    return F.unfold(x[None, None], k, stride=stride)[0]


def draw_pool(draw):
    """delta and an image: drawn, with many ties, or all negative."""
    k, stride = draw.integer(1, 3), draw.integer(1, 3)
    x = draw.normal(*(k + draw.integer(0, 2 * draw.size) for _ in range(2)))
    close = 1 + 1e-9 * x
    x = draw.choice(x, x.round() + 0.0, -x.abs() - 1, close)  # + 0.0: no negative zeros
    return draw.numbers(*F.max_pool2d(x[None], k, stride)[0].shape), x, k, stride


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
        "Two pixels are equal here: reading order goes along the row first.": (
            torch.ones(1, 1),
            torch.eye(2).flip(0),
            2,
            2,
        ),
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
    largest=12,
    hint="Window (i, j) begins at row stride·i, column stride·j. All of δ goes to its "
    "largest pixel; pixels in no window get 0.",
    observe=without(*AUTOGRAD),
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
    delta = draw.numbers(B, c_out, (n + 2 * padding - k) // stride + 1)
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
    largest=10,
    hint="Value 1 is dx, value 2 dw, value 3 db. dw sums over the images, dx does not; "
    "what no output read gets 0.",
    observe=without(*AUTOGRAD),
)
def conv1d_back(delta, x, w, stride, padding):
    """The gradients of a convolution along one axis, by autograd."""
    x, w, b = (t.clone().requires_grad_() for t in (x, w, w.new_zeros(len(w))))
    return torch.autograd.grad(F.conv1d(x, w, b, stride, padding), (x, w, b), delta)
