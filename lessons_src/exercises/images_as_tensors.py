"""Exercises of lesson 01: pixels, channels, statistics, the nearest neighbour."""

import torch
from torch import Tensor

from lessons_src.exercises import exercise


def value_and_dtype(answer, images):
    """What the answer gives, and the name of its dtype: an `observe`."""
    values = answer(images)
    return (values, str(values.dtype)) if isinstance(values, Tensor) else values


@exercise(
    inputs=lambda draw: (draw.bytes(draw.size, 1, draw.integer(1, 3), 1 + draw.size),),
    observe=value_and_dtype,
    mistakes={
        "White, 255, must become exactly 1.": lambda x: x.flatten(1) / 256,
        "By 255, not by the largest that is there.": lambda x: x.flatten(1) / x.max(),
        "flatten(1) keeps axis 0: one row for each image.": lambda x: x.flatten() / 255,
        "// cuts off all below white: use /.": lambda x: (x.flatten(1) // 255).float(),
        "float32, as a layer's weights.": lambda x: x.flatten(1).double() / 255,
    },
    hint="One row for each image; convert to float32, then divide by 255.",
)
def to_float(images):
    """uint8 images (N, 1, H, W) as a float32 matrix (N, H * W) from 0 to 1."""
    return images.flatten(1).float() / 255


@exercise(
    inputs=lambda draw: (draw.bytes(draw.integer(1, 1 + draw.size), draw.size, 3),),
    observe=value_and_dtype,
    mistakes={
        "Every channel must stay intact: reshape cuts the same line of memory elsewhere "
        "and mixes the colours.": lambda x: x.reshape(1, 3, *x.shape[:2]) / 255,
        "Height comes before width.": lambda x: x.permute(2, 1, 0)[None] / 255,
        "Add axis 0: a batch has four axes.": lambda x: x.permute(2, 0, 1) / 255,
        "By 255, not by the largest.": lambda x: x.permute(2, 0, 1)[None] / x.max(),
    },
    hint="permute(2, 0, 1) keeps every channel intact and height before width. Then add "
    "axis 0, convert to float32, and divide by 255.",
)
def photo_to_batch(photo):
    """A photograph (H, W, 3) uint8 as a batch (1, 3, H, W) float32 from 0 to 1."""
    return torch.stack(photo.unbind(2))[None].float() / 255


def unequal_batches(draw):
    """Two batches or more of one to four images, in float32 or float64."""
    dtype, mean = draw.choice(torch.float32, torch.float64), draw.uniform()
    sizes = [draw.integer(1, 4) for _ in range(1 + draw.size)]
    return ([mean + draw.normal(n, 1, 2, 1, dtype=dtype) for n in sizes],)


def every(batches, dtype=torch.float64):
    """All numbers of the batches in one row."""
    return torch.cat([batch.flatten() for batch in batches]).to(dtype)


def averaged(statistic, batches):
    """The mean of the batches' own statistics."""
    return torch.stack([statistic(batch) for batch in batches]).mean()


def spread(x):
    """The standard deviation, divided by M."""
    return x.std(correction=0)


def in_float32(batches):
    """Sums and squares are added up in float32."""
    x = every(batches, torch.float32)
    return x.mean(), ((x**2).mean() - x.mean() ** 2).sqrt()


@exercise(
    inputs=unequal_batches,
    cases={
        "A mean of 1000 and a small spread: in float32 the difference of two large "
        "numbers loses its digits.": (
            [1000 + torch.arange(64.0).cos() / 10, torch.ones(1) * 1000],
        )
    },
    mistakes={
        "The batches have unequal sizes: add up sums, do not average means.": (
            lambda batches: (averaged(torch.mean, batches), spread(every(batches)))
        ),
        "The batches' own standard deviations leave out the spread between batches.": (
            lambda batches: (every(batches).mean(), averaged(spread, batches))
        ),
        "Divide by M, not by M - 1.": lambda b: (every(b).mean(), every(b).std()),
        "Add up in float64: float32 loses the difference of two large sums.": in_float32,
    },
    hint="Add up how many, their sum, and the sum of their squares; then divide by M "
    "(not M - 1), and take the root.",
)
def mean_and_std(batches):
    """Mean and standard deviation of all numbers in batches of unequal sizes."""
    return every(batches).mean().item(), spread(every(batches)).item()


def best(score):
    """The label of the training row t with the largest score for x."""
    return lambda x, train_x, train_y: train_y[score(x, train_x).argmax(1)]


def half(t):
    """Half the squared length of each row."""
    return (t**2).sum(1) / 2


@exercise(
    inputs=lambda draw: (
        draw.normal(draw.integer(1, 4), 1 + draw.size),
        draw.normal(2 * draw.size, 1 + draw.size, scale=draw.uniform(0.5, 2)),
        draw.labels(2 * draw.size, 10),
    ),
    cases={
        "The points lie at 1, 2 and 9, and are labelled 4, 7 and 1.": (
            torch.tensor([[1.1, 0.0], [1.7, 0.0], [9.0, 1.0]]),
            torch.tensor([[1.0, 0.0], [2.0, 0.0], [9.0, 0.0]]),
            torch.tensor([4, 7, 1]),
        )
    },
    mistakes={
        "Without half the squared length, long vectors win.": best(lambda x, t: x @ t.T),
        "Half the squared length, not all of it: short vectors win.": best(
            lambda x, t: x @ t.T - 2 * half(t)
        ),
        "Subtract half the squared length.": best(lambda x, t: x @ t.T + half(t)),
        "The largest score, not the smallest.": best(lambda x, t: half(t) - x @ t.T),
        "Return train_y of the nearest row, not its index.": (
            lambda x, train_x, train_y: torch.cdist(x, train_x).argmin(1)
        ),
    },
    hint="The score x · t - ||t||²/2 is largest where the distance is smallest.",
)
def nearest_neighbour(x, train_x, train_y):
    """Label of the nearest training row, for each row of x."""
    return train_y[torch.cdist(x, train_x).argmin(1)]
