"""Checkers of lesson 07's exercises: convolution."""

import torch
import torch.nn.functional as F

from lessons_src.check import Case, exercise


def _drawn(*shapes, seed=7):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(*shape, dtype=torch.float64, generator=generator) for shape in shapes]


def sides(answer) -> bool:
    """sides(n, layers): the side of a square image after each layer."""
    stacks = [
        (28, [(3, 1, 0, 1)], "A kernel of 3 fits at 26 places: two fewer than pixels."),
        (28, [(5, 1, 0, 1), (2, 2, 0, 1)], "Each layer starts from the side that the one before "
         "it left, and one side is returned for each layer."),
        (9, [(2, 2, 0, 1), (3, 2, 0, 1)], "Round down first, then add 1: the last window that "
         "would hang over the end is left out."),
        (28, [(3, 1, 1, 1), (3, 2, 1, 1)], "The padding is laid at both ends: 2p pixels more."),
        (28, [(3, 1, 2, 2), (3, 1, 0, 3)], "With dilation d a kernel reaches over d(k − 1) + 1 "
         "pixels."),
        (31, [(5, 3, 2, 1), (3, 2, 1, 2), (2, 1, 0, 1)], "All four numbers at once; see the box."),
    ]  # fmt: skip
    cases = []
    for n, layers, hint in stacks:
        x, expected = torch.zeros(1, 1, n, n), []
        for k, *setting in layers:
            x = F.conv2d(x, torch.zeros(1, 1, k, k), None, *setting)
            expected.append(x.shape[-1])
        shown = f"n = {n}, (k, stride, padding, dilation) = {layers}"
        cases.append(Case((n, layers), expected, hint, shown))
    return exercise("sides", answer, cases)


_RAMP = torch.tensor([-1.0, 0.0, 1.0])
_PATCHES = {  # what gets brighter in which direction: rows down, columns to the right
    "right": _RAMP.expand(3, 3), "left": -_RAMP.expand(3, 3),
    "lower": _RAMP[:, None].expand(3, 3), "upper": -_RAMP[:, None].expand(3, 3),
    "lower right": (_RAMP + _RAMP[:, None]).sign(), "upper left": -(_RAMP + _RAMP[:, None]).sign(),
    "upper right": (_RAMP - _RAMP[:, None]).sign(), "lower left": (_RAMP[:, None] - _RAMP).sign(),
}  # fmt: skip


def edge_kernels(answer) -> bool:
    """edge_kernels(): a kernel for horizontal edges, and one for a diagonal."""
    questions = [
        ("even", "What both kernels make of an even area of ones. Each must sum to zero.", (0, 0)),
        ("sign", "Whether the first answers dark above, bright below with a number above zero: "
         "minus in the upper row, plus in the lower.", True),
        ("vertical", "What the first makes of a vertical edge: each of its rows is one number, "
         "three times, so that left and right weigh the same.", 0),
        ("best", "The direction of brightening that the second answers most: plus belongs in the "
         "lower right corner, minus in the upper left.", "lower right"),
    ]  # fmt: skip
    cases = [Case((what,), expected, hint, f"the question: {what}")
             for what, hint, expected in questions]  # fmt: skip

    def run(what):
        made = answer()
        if made is None or made is Ellipsis:
            return None
        first, second = (torch.as_tensor(kernel).float() for kernel in made)
        if first.shape != (3, 3) or second.shape != (3, 3):
            raise ValueError(f"two kernels (3, 3) are wanted, not {first.shape}, {second.shape}")
        strength = {name: (second * patch).sum().item() for name, patch in _PATCHES.items()}
        return {
            "even": (first.sum().item(), second.sum().item()),
            "sign": bool((first * _PATCHES["lower"]).sum() > 0),
            "vertical": (first * _PATCHES["right"]).sum().item(),
            "best": max(strength, key=strength.get),
        }[what]

    return exercise("edge_kernels", run if callable(answer) else answer, cases)


def pixels_seen(answer) -> bool:
    """pixels_seen(layers, i): first and last pixel that output i of a stack depends on."""
    stacks = [
        ([(3, 1)], 4, "One layer: output i reads the pixels s·i to s·i + k − 1, the last counted."),
        ([(3, 2)], 3, "Output i begins at pixel s·i."),
        ([(3, 1), (3, 1)], 0, "The last value that the second layer reads sees further pixels."),
        ([(3, 1), (2, 2)], 1, "Start with the last layer of the list: i numbers its outputs."),
        ([(5, 3), (2, 1), (3, 2)], 2, "Each layer on the way back has its own stride and k."),
        ([], 6, "No layer at all: pixel i sees itself."),
    ]  # fmt: skip
    cases = []
    for layers, i, hint in stacks:
        x = torch.zeros(1, 1, 60, requires_grad=True)
        z = x
        for k, stride in layers:
            z = F.conv1d(z, torch.ones(1, 1, k), stride=stride)
        pixels = torch.autograd.grad(z[0, 0, i], x)[0].flatten().nonzero().flatten().tolist()
        expected = (pixels[0], pixels[-1])
        shown = f"(k, stride) = {layers}, output {i}"
        cases.append(Case((layers, i), expected, hint, shown))
    return exercise("pixels_seen", answer, cases)


def depthwise(answer) -> bool:
    """depthwise(x, w, stride): one kernel for each channel, nothing added across channels."""
    settings = [
        (1, 5, 5, 3, 1, "One channel: the sum of the lesson. The kernel is not flipped."),
        (3, 5, 5, 3, 1, "Channels stay apart: sum over the two axes of the patch, not over the "
         "channels, and use w[c] for channel c."),
        (2, 7, 7, 3, 2, "Output (i, j) begins at row s·i and column s·j."),
        (2, 8, 11, 2, 3, "Height and width may differ, and a window that would hang over is left "
         "out: (n − k) // stride + 1 outputs along an axis."),
        (2, 4, 4, 4, 1, "A kernel as large as the image fits once."),
    ]  # fmt: skip
    cases = []
    for C, H, W, k, stride, hint in settings:
        x, w = _drawn((C, H, W), (C, k, k), seed=H + W)
        expected = F.conv2d(x[None], w[:, None], stride=stride, groups=C)[0]
        shown = f"x {tuple(x.shape)}, w {tuple(w.shape)}, stride {stride}"
        cases.append(Case((x, w, stride), expected, hint, shown))
    return exercise("depthwise", answer, cases)


def pool_back(answer) -> bool:
    """pool_back(delta, x, k, stride): the backward pass of max pooling."""
    varied, row = _drawn((6, 8), (7, 7), seed=3)
    images = [
        (varied, 2, 2, "All of δ goes to the largest pixel of its window, nothing to the others."),
        (-varied.abs() - 1, 2, 2, "All pixels are negative here: zero is not in the window."),
        (torch.zeros(4, 4).double(), 2, 2, "A tie: the first pixel in reading order gets all of "
         "it, the others nothing."),
        (torch.tensor([[1.0, 2, 0], [0, 9, 0], [3, 0, 4]]).double(), 2, 1, "These windows "
         "overlap, and one pixel wins in all of them: add up, do not overwrite."),
        (row, 2, 3, "Window (i, j) begins at row stride·i, column stride·j; some pixels are in no "
         "window and get 0."),
        (row, 3, 2, "Windows of 3, two pixels apart."),
    ]  # fmt: skip
    cases = []
    for x, k, stride, hint in images:
        leaf = x.clone().requires_grad_()
        z = F.max_pool2d(leaf[None], k, stride)[0]
        (delta,) = _drawn(z.shape, seed=k + stride)
        (expected,) = torch.autograd.grad(z, leaf, delta)
        shown = f"x {tuple(x.shape)}, k = {k}, stride {stride}"
        cases.append(Case((delta, x, k, stride), expected, hint, shown))
    return exercise("pool_back", answer, cases)


def conv1d_back(answer) -> bool:
    """conv1d_back(delta, x, w, stride, padding): the gradients of a convolution on one axis."""
    settings = [
        (1, 1, 1, 5, 1, 1, 0, "A kernel of one tap is a factor: dx is δ·w, dw is the sum of δ·x, "
         "db the sum of δ."),
        (1, 1, 1, 6, 3, 1, 0, "Output i read pixel i + u with tap u, so it gives back to pixel "
         "i + u: then δ is read at r − u, which is a convolution, with the flip."),
        (3, 2, 4, 6, 3, 1, 0, "db has one number for each output channel: sum over images and "
         "places. Sum dw over the images too; dx keeps them apart."),
        (2, 2, 3, 9, 3, 2, 0, "With a stride, output i read pixel s·i + u, and gives back there."),
        (2, 2, 3, 10, 3, 3, 0, "The last pixel was read by no output: its gradient is 0, and dx "
         "has the shape of x all the same."),
        (2, 2, 3, 6, 3, 1, 2, "The padding is laid around x before anything is read, and dx is "
         "cut back in the end: pixels p to p + n of the padded row."),
        (2, 1, 2, 1, 3, 2, 1, "One pixel with zeros around it."),
    ]  # fmt: skip
    cases = []
    for B, c_in, c_out, n, k, stride, padding, hint in settings:
        leaves = [t.requires_grad_() for t in _drawn((B, c_in, n), (c_out, c_in, k), (c_out,))]
        z = F.conv1d(*leaves, stride, padding)
        (delta,) = _drawn(z.shape, seed=n + k)
        expected = torch.autograd.grad(z, leaves, delta)
        x, w = (t.detach() for t in leaves[:2])
        shown = f"x {tuple(x.shape)}, w {tuple(w.shape)}, stride {stride}, padding {padding}"
        hint = f"Value 1 is dx, value 2 dw, value 3 db. {hint}"
        cases.append(Case((delta, x, w, stride, padding), expected, hint, shown))
    return exercise("conv1d_back", answer, cases)
