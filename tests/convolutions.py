"""Images, settings and numbers on which convolutions are tried, extremes among them."""

from itertools import product

import torch
from lesson_source import drawn

# (B, C_in, C_out, H, W): several of everything; one pixel; a row; an image as large as a
# kernel.
IMAGES = [
    (2, 3, 4, 6, 7),
    (1, 1, 1, 1, 1),
    (2, 2, 1, 1, 5),
    (1, 2, 3, 3, 3),
    (3, 1, 2, 5, 2),
]
SETTINGS = list(product((1, 2, 3, 5), (1, 2, 3), (0, 1, 2), (1, 2, 3)))  # k, s, p, d


def side(n, k, s, p, d):
    """Outputs along an axis by counting the places where the kernel fits, not by a
    formula."""
    return len([i for i in range(0, n + 2 * p, s) if i + d * (k - 1) < n + 2 * p])


def fits(H, W, k, s, p, d):
    return side(H, k, s, p, d) > 0 and side(W, k, s, p, d) > 0


CASES = [
    (image, setting)
    for image in IMAGES
    for setting in SETTINGS
    if fits(*image[3:], *setting)
]


def filled(kind, *shapes):
    """Tensors of one kind of numbers: drawn, or extreme."""
    made = drawn(*shapes, seed=4)
    if kind == "zeros":
        return [torch.zeros_like(t) for t in made]
    if kind == "negative zeros":
        return [torch.full_like(t, -0.0) for t in made]
    if kind == "large":
        return [t.sign() * 10.0 ** (100 + 40 * t.abs().clamp(max=1)) for t in made]
    if kind == "mixed":  # 1e150, 1e-150, 0 and −0 beside each other
        scale = torch.tensor([1e150, 1e-150, 0.0, -0.0, 1.0], dtype=torch.float64)
        return [t * scale[torch.arange(t.numel()) % 5].view_as(t) for t in made]
    return made


KINDS = ("drawn", "zeros", "negative zeros", "large", "mixed")


def near(ours, theirs, size):
    """Equal but for the order of summation: an error of 1e-12 of the sum of sizes is
    allowed."""
    assert ours.shape == theirs.shape and ours.dtype == theirs.dtype
    assert bool(torch.isfinite(ours).all())
    assert bool(((ours - theirs).abs() <= 1e-12 * size).all())


def numbers_for(image, setting, kind="drawn"):
    (B, c_in, c_out, H, W), k = image, setting[0]
    sides = [side(n, *setting) for n in (H, W)]
    return filled(
        kind, (B, c_in, H, W), (c_out, c_in, k, k), (c_out,), (B, c_out, *sides)
    )
