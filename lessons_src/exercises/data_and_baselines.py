"""Exercises of the lesson on data and baselines.

Accuracies, statistics, the nearest neighbour, the nearest mean.
"""

import torch

from lessons_src.exercises import exercise
from lessons_src.exercises.forbidden import OnePass, Vectorised, is_ours


def accuracies_and_sizes(draw):
    """How many of each batch were correct, and the sizes of the batches: equal but for
    the last, or any, those between the first and the last even 0."""
    full, equal = draw.integer(2, 10 * draw.size), draw.choice(True, False)
    sizes = [full if equal else draw.integer(1, full)]
    sizes += [draw.integer(full if equal else 0, full) for _ in range(draw.size - 1)]
    sizes.append(draw.integer(1, full))
    return [draw.integer(0, n) / n if n else 0.0 for n in sizes], sizes


@exercise(
    inputs=accuracies_and_sizes,
    cases={
        "Three of three and none of one are three of four, not one half.": (
            [1.0, 0.0],
            [3, 1],
        ),
        "0.29 * 100 comes out as 28.999999999999996, and int() makes 28 of it.": (
            [0.29, 0.57],
            [100, 100],
        ),
        "An empty batch counts for nothing.": ([0.5, 0.0, 1.0], [4, 0, 1]),
    },
    tolerance=1e-6,
    mistakes={
        "The plain mean gives a short last batch too much weight.": (
            lambda a, n: sum(a) / len(a)
        ),
        "Divide by the number of examples, not by the number of batches.": (
            lambda a, n: sum(x * k for x, k in zip(a, n, strict=True)) / len(n)
        ),
        "An accuracy is a share: divide how many were correct by how many there are.": (
            lambda a, n: sum(x * k for x, k in zip(a, n, strict=True))
        ),
        "The last batch is short, but it counts.": (
            lambda a, n: (
                sum(x * k for x, k in zip(a[:-1], n[:-1], strict=True)) / sum(n[:-1])
            )
        ),
    },
    hint="Add up accuracy times size, and divide by the sum of the sizes.",
)
def total_accuracy(accuracies, sizes):
    """The accuracy over all examples, from the accuracies and sizes of the batches."""
    correct = torch.tensor(accuracies, dtype=torch.float64) * torch.tensor(sizes)
    return (correct.sum() / sum(sizes)).item()


def unequal_batches(draw):
    """Two batches or more of one to four images, in float32 or float64; half of their
    numbers may be 0."""
    dtype, mean = draw.choice(torch.float32, torch.float64), draw.uniform()
    sizes = [draw.integer(1, 4) for _ in range(1 + draw.size)]
    batches = [mean + draw.normal(n, 1, 2, 1, dtype=dtype) for n in sizes]
    return (draw.choice(batches, [batch.relu() for batch in batches]),)


def every(batches, dtype=torch.float64):
    """All numbers of the batches in one row."""
    return torch.cat([batch.flatten() for batch in batches]).to(dtype)


def in_one_pass(answer, batches):
    """What the answer gives for batches that it may run through once: an `observe`."""
    return answer(batches if is_ours(answer) else OnePass(batches))


def averaged(statistic, batches):
    """The mean of the batches' own statistics."""
    return torch.stack([statistic(batch) for batch in batches]).mean()


def spread(x):
    """The standard deviation, divided by M."""
    return x.std(correction=0)


def by_sums(batches, dtype=torch.float64, least=0.0):
    """Mean and standard deviation from sums and squares, added up in this dtype."""
    x = every(batches, dtype)
    return x.mean(), ((x**2).mean() - x.mean() ** 2).clamp(min=least).sqrt()


@exercise(
    inputs=unequal_batches,
    observe=in_one_pass,
    cases={
        "A mean of 1000 and a small spread: in float32 the difference of two large "
        "numbers loses its digits.": (
            [1000 + torch.arange(64.0).cos() / 10, torch.ones(1) * 1000],
        ),
        "All numbers are equal: by rounding, the variance may come out just below 0, and "
        "its root is nan. clamp(min=0) mends it.": (
            [torch.full((n,), 5 / 255, dtype=torch.float64) for n in (3, 4)],
        ),
        "Twelve batches of 100 numbers, 0 among them: all of them count.": (
            [k * (torch.arange(100.0).double() % 3) for k in range(12)],
        ),
    },
    mistakes={
        "The batches have unequal sizes: add up sums, do not average means.": (
            lambda batches: (averaged(torch.mean, batches), spread(every(batches)))
        ),
        "The batches' own standard deviations leave out the spread between batches.": (
            lambda batches: (every(batches).mean(), averaged(spread, batches))
        ),
        "Divide by M, not by M - 1.": lambda b: (every(b).mean(), every(b).std()),
        "Add up in float64: float32 loses the difference of two large sums.": (
            lambda batches: by_sums(batches, torch.float32)
        ),
        "A variance just below 0, by rounding, has no root: clamp(min=0).": (
            lambda batches: by_sums(batches, least=None)
        ),
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


def rows_and_new_ones(draw):
    """New rows, and training rows with their labels. All may lie within a millionth."""
    D, N, scale = 1 + draw.size, 2 * draw.size, draw.choice(1.0, 1e-3, 1e-6, 1e3)
    x = draw.normal(draw.integer(1, 3 + draw.size), D, scale=scale)
    train_x = draw.normal(N, D, scale=scale * draw.uniform(0.5, 2))
    return x, train_x, draw.labels(N, draw.choice(10, 1000))


def in_a_few_operations(answer, x, train_x, train_y):
    """What the answer gives without a loop, or a tensor (B, N, D): an `observe`."""
    (B, D), N = x.shape, len(train_x)
    if is_ours(answer) or min(B, N, D) < 16:
        return answer(x, train_x, train_y)
    with Vectorised(operations=min(B, N), numbers=B * N * D):
        return answer(x, train_x, train_y)


@exercise(
    inputs=rows_and_new_ones,
    cases={
        "The points lie at 1, 2 and 9, and are labelled 4, 7 and 1.": (
            torch.tensor([[1.1, 0.0], [1.7, 0.0], [9.0, 1.0]]),
            torch.tensor([[1.0, 0.0], [2.0, 0.0], [9.0, 0.0]]),
            torch.tensor([4, 7, 1]),
        ),
        "No Python loop, and no tensor of shape (B, N, D): the score of each pair is "
        "(B, N), in one product.": (
            torch.arange(64.0 * 16).sin().view(64, 16),
            torch.arange(50.0 * 16).cos().view(50, 16),
            torch.arange(50) % 10,
        ),
    },
    observe=in_a_few_operations,
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


def few_classes(draw):
    """Images, labels among which every class occurs, and new images."""
    classes, shape = 1 + draw.size, (1, draw.size, draw.integer(2, 4))
    labels = torch.cat([torch.arange(classes), draw.labels(classes, classes)])
    new = draw.bytes(draw.integer(2, 4 + draw.size), *shape)
    return draw.bytes(len(labels), *shape), labels, new


def rows(images, white=255):
    """One row of numbers for each image."""
    return images.flatten(1).double() / white


def from_means(bias, white=255, new_white=255, pick=torch.argmax):
    """A nearest_mean with this bias(W), these divisors, and this choice of a score."""

    def answer(images, labels, new_images):
        x, classes = rows(images, white), int(labels.max()) + 1
        W = torch.stack([x[labels == k].mean(0) for k in range(classes)])
        z = rows(new_images, new_white) @ W.T + bias(W)
        return W, bias(W), pick(z, 1)

    return answer


@exercise(
    inputs=few_classes,
    mistakes={
        "Minus half the squared length, not all of it.": from_means(
            lambda W: -2 * half(W)
        ),
        "Minus half the squared length: without the minus, bright means win.": from_means(
            half
        ),
        "Without the constants, bright means win: b is minus half the squared length.": (
            from_means(lambda W: 0 * half(W))
        ),
        "Pixels are to run from 0 to 1: divide by 255.": from_means(
            lambda W: -half(W), white=1, new_white=1
        ),
        "White, 255, must become exactly 1.": from_means(
            lambda W: -half(W), white=256, new_white=256
        ),
        "Scale the new images too, as the means are scaled.": from_means(
            lambda W: -half(W), new_white=1
        ),
        "The largest score, not the smallest.": from_means(
            lambda W: -half(W), pick=torch.argmin
        ),
    },
    hint="Divide by 255 and flatten; W holds the mean of each class, b minus half the "
    "squared length of each mean; the prediction is the largest of x W^T + b.",
)
def nearest_mean(images, labels, new_images):
    """W (K, D) and b (K,) of the linear map that finds the nearest class mean, and its
    predictions (B,) for the new images."""
    x = rows(images)
    W = torch.stack([x[labels == k].mean(0) for k in range(int(labels.max()) + 1)])
    return W, -(W**2).sum(1) / 2, torch.cdist(rows(new_images), W).argmin(1)
