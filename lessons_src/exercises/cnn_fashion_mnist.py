"""Exercises of the lesson on a convolutional network on Fashion-MNIST."""

import math
from fractions import Fraction

import torch
import torch.nn.functional as F

from lessons_src.exercises import exercise


@exercise(
    inputs=lambda draw: (
        draw.choice(draw.integer(1, 99) / 100, draw.integer(1, 9999) / 10_000),
        draw.choice(draw.integer(10, 90) / 1000, draw.integer(50, 9000) / 100_000),
    ),
    cases={
        "7,233 images give a little more than se: none too few.": (0.93, 0.003),
        "0.1 · 0.9 / 0.02² is 225 but for the last digits of a float.": (0.1, 0.02),
        "This is 16 exactly: no image more than needed.": (0.5, 0.125),
        "It takes 40,000 images.": (0.9, 0.0015),
    },
    mistakes={
        "Solve p(1 − p)/n = se² for n: se is squared.": (
            lambda p, se: math.ceil(p * (1 - p) / se - 1e-9)
        ),
        "The variance of a single answer is p(1 − p), not p.": (
            lambda p, se: math.ceil(p / se**2 - 1e-9)
        ),
        "Round up: a smaller n gives a little more than se.": (
            lambda p, se: round(p * (1 - p) / se**2)
        ),
        "Round up, not down.": lambda p, se: int(p * (1 - p) / se**2 + 1e-9),
        "Round up, and add nothing where n is whole already.": (
            lambda p, se: int(p * (1 - p) / se**2) + 1
        ),
        "Take off a hair before rounding up: a float may end in …0001.": (
            lambda p, se: math.ceil(p * (1 - p) / se**2)
        ),
    },
    tolerance=0,
)
def images_needed(p, se):
    """The smallest whole n with p(1 − p)/n ≤ se², in exact fractions."""
    p, se = Fraction(str(p)), Fraction(str(se))
    return math.ceil(p * (1 - p) / se**2)


def _confusion_matrix(draw):
    """Counts, one pair of classes with more mistakes than any other: a tie is redrawn."""
    K, most = 1 + draw.size, draw.choice(100, 1_000_000)
    while True:
        counts = draw.labels(K * K, most).view(K, K)
        both = (counts + counts.T).triu(1)
        if (both == both.max()).sum() == 1:
            return (counts,)


def _confused(fold=lambda counts: (counts + counts.T).triu(1), all_of=torch.sum):
    """`most_confused` with a mistake: in what is compared, or in what the share is of."""

    def most_confused(counts):
        both = fold(counts)
        a, b = divmod(both.argmax().item(), len(counts))
        return (
            a,
            b,
            (both[a, b] / (counts.sum() if all_of is None else both.sum())).item(),
        )

    return most_confused


def _one_direction(counts):
    a, b, share = _confused(lambda counts: counts - counts.diag().diag())(counts)
    return min(a, b), max(a, b), share


@exercise(
    inputs=_confusion_matrix,
    cases={
        "Right answers are no mistakes, neither for the pair nor in the sum.": (
            torch.tensor([[500, 2, 1], [0, 400, 0], [0, 5, 900]]),
        ),
        "Both directions count together: 12 for the pair (0, 1), 11 for (0, 2).": (
            torch.tensor([[90, 6, 1], [6, 80, 0], [10, 0, 70]]),
        ),
    },
    mistakes={
        "Add both directions before you look for the most.": _one_direction,
        "The smaller class comes first, whichever direction has the mistakes.": (
            _confused(lambda counts: (counts + counts.T).tril(-1))
        ),
        "The diagonal holds right answers: leave it out.": (
            _confused(lambda counts: (counts + counts.T).triu())
        ),
        "The share is of all mistakes, not of all images.": _confused(all_of=None),
    },
    hint="Values 1 and 2 are the classes, value 3 is the share.",
)
def most_confused(counts):
    """The pair with the most mistakes, and its share of all, by going over all pairs."""
    K = len(counts)
    mistakes = {
        (a, b): (counts[a, b] + counts[b, a]).item() for b in range(K) for a in range(b)
    }
    a, b = max(mistakes, key=mistakes.get)
    return a, b, mistakes[a, b] / sum(mistakes.values())


def _looks(draw):
    """Any number of looks. A lone one has huge logits: two that are sure could tie."""
    M, N, K = (draw.integer(1, 1 + draw.size) for _ in range(3))
    scale = 500.0 if M == 1 else draw.choice(0.5, 3.0)
    return draw.normal(M, N, 1 + K, scale=scale), draw.labels(N, 1 + K)


def _seen(log_p, labels, reduction="mean"):
    right = (log_p.argmax(1) == labels).double()
    loss = F.nll_loss(log_p, labels, reduction=reduction)
    return loss.item(), getattr(right, reduction)().item()


def _together(logits, looks=None):
    """(N, K): the logarithm of the mean probability of the looks."""
    return logits.log_softmax(2).logsumexp(0) - math.log(looks or len(logits))


_SURE = torch.tensor([[1000.0, -1000, 0], [1000, -1000, 0], [-1000, 1000, 0]])[:, None]


@exercise(
    inputs=_looks,
    cases={
        "The true class has the probabilities 0, 0 and 1: the loss is log 3.": (
            _SURE,
            torch.tensor([1]),
        ),
        "exp(−1000) is too small for a float. Its logarithm is not: the loss is 1000.": (
            _SURE,
            torch.tensor([2]),
        ),
    },
    mistakes={
        "Average the probabilities, not the logits.": (
            lambda logits, labels: _seen(logits.mean(0).log_softmax(1), labels)
        ),
        "Average the probabilities, not the log-probabilities, and not the losses.": (
            lambda logits, labels: (
                _seen(logits.log_softmax(2).mean(0), labels)[0],
                _seen(_together(logits), labels)[1],
            )
        ),
        "Stay with logarithms: logsumexp over the looks. A probability may become 0.": (
            lambda logits, labels: _seen(logits.softmax(2).mean(0).log(), labels)
        ),
        "Divide by the number of looks that there are: any number M.": (
            lambda logits, labels: _seen(_together(logits, looks=2), labels)
        ),
        "Both values are means over the images.": (
            lambda logits, labels: _seen(_together(logits), labels, "sum")
        ),
    },
    hint="Value 1 is the loss, value 2 the accuracy.",
)
def looks_together(logits, labels):
    """Loss and accuracy of the mean probability of M looks."""
    return _seen(_together(logits), labels)


def _windows(draw):
    """Images a little larger than a window, of any side; windows of one pixel, too."""
    k = draw.integer(1, min(5, 1 + draw.size))
    H, W = (k + draw.integer(0, min(6, draw.size)) for _ in range(2))
    return draw.numbers(draw.integer(1, 1 + draw.size), 1, H, W), k


def _waves(k, centre=0.5, unit=True, dtype=torch.float64):
    """(k, k): row u is a cosine of u half waves on k pixels, of length 1."""
    angles = [[math.pi * u * (y + centre) / k for y in range(k)] for u in range(k)]
    waves = torch.tensor(angles, dtype=torch.float64).cos()
    if unit:
        waves = waves / waves.square().sum(1, keepdim=True).sqrt()
    return waves.to(dtype)


def _maps(patterns="uvyx", padding=0, keep=lambda maps: maps, **waves):
    """`cosine_maps` with a mistake."""

    def cosine_maps(images, k):
        c = _waves(k, dtype=images.dtype, **waves)
        kernels = torch.einsum(f"uy,vx->{patterns}", c, c).reshape(k * k, 1, k, k)
        return keep(F.conv2d(images, kernels, padding=padding and k // 2))

    return cosine_maps


@exercise(
    inputs=_windows,
    cases={
        "A window of one pixel has one pattern, and its answer is the pixel.": (
            torch.arange(6.0, dtype=torch.float64).view(1, 1, 2, 3),
            1,
        ),
        "An image that is not square, with windows of 3×3.": (
            torch.arange(60.0, dtype=torch.float64).sqrt().view(2, 1, 5, 6),
            3,
        ),
    },
    mistakes={
        "Each cosine has length 1: divide by the root of the sum of its squares.": (
            _maps(unit=False)
        ),
        "A cosine is taken at the centres of the pixels, y + ½.": _maps(centre=0.0),
        "u counts the half waves down, v those across: the channel is uk + v.": (
            _maps("vuyx")
        ),
        "No padding: H − k + 1 by W − k + 1 answers.": _maps(padding=True),
        "The constant pattern is one of the k².": _maps(keep=lambda maps: maps[:, 1:]),
        "One sign is enough: k² answers for each window.": _maps(
            keep=lambda maps: torch.cat([maps, -maps], 1)
        ),
        "Keep the sign of an answer: no ReLU.": _maps(keep=F.relu),
    },
    hint="Channel uk + v holds the sums of each window's pixels times c_u(y) c_v(x).",
)
def cosine_maps(images, k):
    """Every window in the basis of cosines, one axis after the other."""
    c = _waves(k, dtype=images.dtype)
    windows = images[:, 0].unfold(1, k, 1).unfold(2, k, 1)  # (B, h, w, k, k)
    return torch.einsum("uy,bhwyx,vx->buvhw", c, windows, c).flatten(1, 2)
