"""Checkers of lesson 01's exercises: expected values come from torch, hints name the mistake.

They return nothing, so that a cell that ends with one shows its verdict only;
`lessons_src.check.passed` holds the result.
"""

import torch

from lessons_src.check import Case, exercise


def to_float(answer) -> None:
    """uint8 images (N, 1, H, W) as a float32 matrix (N, H * W) from 0 to 1."""
    few = torch.tensor([[[[0, 255], [51, 102]]]], dtype=torch.uint8)  # (1, 1, 2, 2)
    many = _random_bytes(5, 1, 28, 28)
    cases = [
        Case((few,), few.flatten(1).float() / 255,
             "Divide by the largest value, 255: after a division by 256, white is not 1. "
             "And keep axis 0: one row for each image."),
        Case((many,), many.flatten(1).float() / 255,
             "One row for each image: flatten(1) keeps axis 0. Divide after the conversion to "
             "float32: whole numbers would be cut off."),
    ]  # fmt: skip
    exercise("to_float", answer, cases)


def photo_to_batch(answer) -> None:
    """A photograph (H, W, 3) uint8 as a batch (1, 3, H, W) float32 from 0 to 1."""
    hint = (
        "Every channel must stay intact: reshape cuts the same line of memory elsewhere and mixes "
        "the colours; permute(2, 0, 1) keeps height before width. Then add axis 0, and divide "
        "by 255."
    )
    photos = [torch.arange(12, dtype=torch.uint8).view(2, 2, 3), _random_bytes(5, 4, 3)]
    cases = [Case((p,), torch.stack(p.unbind(2))[None].float() / 255, hint) for p in photos]
    exercise("photo_to_batch", answer, cases)


def mean_and_std(answer) -> None:
    """Mean and standard deviation of all numbers in a list of batches of unequal sizes."""
    generator = torch.Generator().manual_seed(0)
    unequal = [torch.tensor([0.0, 0.0]), torch.tensor([3.0])]
    constant = [torch.zeros(3), torch.ones(3)]
    far = [1000 + 0.1 * torch.randn(n, 1, 8, 8, generator=generator) for n in (20, 20, 7)]
    hints = {
        "The batches have unequal sizes, so their means must not be averaged: add up sums and "
        "divide once, by M (not M - 1), and take the root at the end.": unequal,
        "Each batch is constant, so its own standard deviation is 0; yet the batches differ. Take "
        "the spread about the mean of all numbers.": constant,
        "A mean of 1000 and a small spread: in float32 the difference of two large numbers loses "
        "its digits. Add up in float64.": far,
    }
    cases = []
    for hint, batches in hints.items():
        every = torch.cat([batch.flatten() for batch in batches]).double()
        expected = (every.mean().item(), every.std(correction=0).item())
        shown = ", ".join(f"a batch {tuple(batch.shape)}" for batch in batches)
        cases.append(Case((batches,), expected, hint, shown))
    exercise("mean_and_std", answer, cases)


def nearest_neighbour(answer) -> None:
    """Label of the nearest training row, for each row of x."""
    generator = torch.Generator().manual_seed(0)
    points = torch.tensor([[1.0, 0.0], [2.0, 0.0], [9.0, 0.0]])
    queries = torch.tensor([[1.1, 0.0], [1.7, 0.0], [9.0, 1.0]])
    x, train_x = torch.randn(6, 20, generator=generator), torch.randn(50, 20, generator=generator)
    train_y = torch.randint(10, (50,), generator=generator)
    cases = [
        _neighbours(queries, points, torch.tensor([4, 7, 1]),
                    "The points lie at 1, 2 and 9 and are labelled 4, 7 and 1. Without the term "
                    "of half the squared length, long vectors win; without its one half, short "
                    "ones do. Return train_y of the nearest, not its index."),
        _neighbours(x, train_x, train_y,
                    "The score x · t - ||t||²/2 is largest where the distance is smallest."),
    ]  # fmt: skip
    exercise("nearest_neighbour", answer, cases)


def _neighbours(x, train_x, train_y, hint: str) -> Case:
    nearest = torch.cdist(x.double(), train_x.double()).argmin(1)
    shown = f"{len(x)} rows and {len(train_x)} training rows"
    return Case((x, train_x, train_y), train_y[nearest], hint, shown)


def _random_bytes(*shape):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, shape, generator=generator).byte()
