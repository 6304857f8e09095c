"""Exercises of the lesson on convolution."""

from functools import partial
from itertools import product

import torch
import torch.nn.functional as F

from lessons_src.exercises import exercise
from lessons_src.exercises.forbidden import CONVOLUTION, UNFOLD, without


def draw_stack(draw):
    """A side, and up to `size` layers (k, stride, padding, dilation) that all fit."""
    n = side = draw.choice(draw.integer(1, 3), draw.integer(1, 10 * draw.size))
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
        "A kernel of 3 fits at 26 places: two fewer than pixels.": (28, [(3, 1, 0, 1)]),
        "Kernels, strides and dilations may be large.": (
            224,
            [(11, 4, 2, 1), (7, 1, 6, 4), (6, 6, 0, 1)],
        ),
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
    responses = torch.stack(
        [first[1:].sum(), first[2:].sum()]
    )  # above the edge, below it
    rising = bool(responses.min() > -1e-5 and responses.max() > 1e-5)
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
    largest=6,  # an output of twenty layers sees more pixels than there are
    cases={
        "No layer at all: pixel i sees itself.": ([], 6),
        "Any output may be asked for, and a kernel may be large.": (
            [(11, 4), (5, 2)],
            99,
        ),
    },
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
    C, k = draw.integer(1, draw.size), draw.integer(1, 4)
    H, W = (k + draw.integer(0, 2 * draw.size) for _ in range(2))
    return draw.numbers(C, H, W), draw.normal(C, k, k), draw.integer(1, 4)


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
    largest=10,
    observe=without(*CONVOLUTION),
)
def depthwise(x, w, stride):
    """One kernel for each channel, nothing added across channels."""
    return F.conv2d(x[None], w[:, None], stride=stride, groups=len(x))[0]


def draw_layer(draw):
    """x, w, b, stride, padding, dilation; the kernel fits into the padded image."""
    B, c_in, c_out = (draw.integer(1, draw.size) for _ in range(3))
    k, stride, padding = draw.integer(1, 3), draw.integer(1, 3), draw.integer(0, 2)
    dilation = draw.integer(1, 2)
    least = max(1, dilation * (k - 1) + 1 - 2 * padding)
    H, W = (least + draw.integer(0, 2 * draw.size) for _ in range(2))
    x, w = draw.numbers(B, c_in, H, W), draw.normal(c_out, c_in, k, k)
    return x, w, draw.normal(c_out), stride, padding, dilation


def up_to(n, k, s, p, d):
    """Outputs along an axis."""
    return (n + 2 * p - d * (k - 1) - 1) // s + 1


def padded_below(x, w, b, stride, padding, dilation):
    """`conv2d` with all of the zeros on the right and below."""
    x = F.pad(x, (0, 2 * padding, 0, 2 * padding))
    return F.conv2d(x, w, b, stride, 0, dilation)


def square_only(x, w, b, stride, padding, dilation):
    """`conv2d` with the height for the width: too few columns, or copies of the last."""
    z = conv2d.solution(x, w, b, stride, padding, dilation)
    n, last = up_to(x.shape[2], w.shape[-1], stride, padding, dilation), z[..., -1:]
    return torch.cat([z, last.expand(*z.shape[:3], max(0, n - z.shape[3]))], 3)[..., :n]


@exercise(
    inputs=draw_layer,
    largest=6,  # loops over twenty channels, images and maps take too long
    cases={
        "Many channels, many maps, a long image, a kernel of 5.": (
            torch.arange(12.0 * 5 * 20).double().sin().view(1, 12, 5, 20),
            torch.arange(10.0 * 12 * 5 * 5).double().cos().view(10, 12, 5, 5),
            torch.arange(10.0).double(),
            4,
            3,
            1,
        )
    },
    mistakes={
        "The kernel is not flipped.": lambda x, w, *others: conv2d.solution(
            x, w.flip(2, 3), *others
        ),
        "The bias is missing: b[o] is added once to every output of map o.": (
            lambda x, w, b, *others: conv2d.solution(x, w, 0 * b, *others)
        ),
        "The bias is added once to an output, not once for each input channel.": (
            lambda x, w, b, *others: conv2d.solution(x, w, len(w[0]) * b, *others)
        ),
        "The sum runs over all input channels: the first alone is not enough.": (
            lambda x, w, *others: conv2d.solution(x[:, :1], w[:, :1], *others)
        ),
        "The zeros are laid around the image on all four sides.": padded_below,
        "Neighbouring taps are `dilation` pixels apart.": (
            lambda x, w, b, stride, padding, dilation: conv2d.solution(
                x, w, b, stride, padding, 1
            )
        ),
        "Output (i, j) begins at row stride·i and column stride·j.": (
            lambda x, w, b, stride, padding, dilation: conv2d.solution(
                x, w, b, 1, padding, dilation
            )
        ),
        "Height and width may differ.": square_only,
    },
    hint="Output (i, j) reads the padded image at the rows stride·i + dilation·u and the "
    "columns stride·j + dilation·v, in all input channels.",
    observe=without(*CONVOLUTION, *UNFOLD, "pad"),
)
def conv2d(x, w, b, stride, padding, dilation):
    """The whole layer, by torch."""
    return F.conv2d(x, w, b, stride, padding, dilation)
