"""Exercises of the lesson on a convolutional network on Fashion-MNIST."""

import math
from fractions import Fraction

import torch
import torch.nn.functional as F

from lessons_src.exercises import exercise


def _logits_and_labels(draw):
    """Any number of classes; the labels leave some of them out."""
    N, K = draw.integer(1, 6 * draw.size), draw.integer(1, 1 + draw.size)
    scale = draw.choice(1.0, 1e-6, 100.0)
    return draw.normal(N, K, scale=scale), draw.labels(N, draw.integer(1, K))


def _grouped(by_label=True, divide=None, length=True, clean=lambda share: share):
    """`class_accuracy` with a mistake. divide: (N, K) -> what divides, for the count."""

    def class_accuracy(logits, labels):
        (N, K), answers = logits.shape, logits.argmax(1)
        minlength = K if length else 0
        right = labels[answers == labels].bincount(minlength=minlength)
        counted = labels if by_label else answers
        return clean(
            right / (divide(N, K) if divide else counted.bincount(minlength=minlength))
        )

    return class_accuracy


@exercise(
    inputs=_logits_and_labels,
    cases={
        "Class 1 has no image here: its accuracy is nan, not an error.": (
            torch.eye(3)[[0, 0, 1, 2]],
            torch.tensor([0, 0, 2, 2]),
        ),
        "A class whose images are all wrong has accuracy 0, and the last has none.": (
            torch.eye(5)[[0, 1, 1, 2]],
            torch.tensor([0, 1, 3, 3]),
        ),
    },
    mistakes={
        "Divide by the images that are of the class, not by the answers that name it.": (
            _grouped(by_label=False)
        ),
        "Divide by the number of images of the class, not of all images.": (
            _grouped(divide=lambda N, K: N)
        ),
        "Classes need not have equally many images.": _grouped(divide=lambda N, K: N / K),
        "A class without an image has the accuracy nan, not 0.": _grouped(
            clean=torch.nan_to_num
        ),
        "There are as many classes as columns, also where the last ones have no image.": (
            _grouped(length=False)
        ),
    },
    hint="Divide the right answers of each class by the number of its images.",
)
def class_accuracy(logits, labels):
    """(K,): the mean over the images of each class; the mean over none is nan."""
    right = (logits.argmax(1) == labels).double()
    return torch.stack([right[labels == k].mean() for k in range(logits.shape[1])])


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


def _images_and_draws(draw):
    """Draws and share in eighths, so that some draws equal the share, or all draws next
    to the share."""
    B, C = draw.integer(1, 1 + draw.size), draw.integer(1, draw.size)
    H, W = draw.integer(1, 1 + draw.size), draw.integer(2, 2 + draw.size)
    share = draw.integer(0, 8) / 8
    close = (share + (draw.labels(B, 9) - 4) / 10_000).clamp(0, 1)
    return draw.numbers(B, C, H, W), draw.choice(draw.labels(B, 8) / 8, close), share


def _flipped(dim=-1, chosen=torch.lt, shape=(-1, 1, 1, 1)):
    """`flip_some` with a mistake."""

    def flip_some(x, draws, share):
        mask = chosen(draws, torch.tensor(share)).view(shape)
        return torch.where(mask, x.flip(dim), x)

    return flip_some


def _in_place(x, draws, share):
    x[draws < share] = x[draws < share].flip(-1)
    return x


@exercise(
    inputs=_images_and_draws,
    cases={
        "The decision has the shape (B, 1, 1, 1): with (B,) it goes along the width.": (
            torch.arange(32.0).view(4, 1, 2, 4),
            torch.tensor([0.1, 0.9, 0.4, 0.6]),
            0.5,
        ),
        "Of twenty images every second one is mirrored.": (
            torch.arange(40.0).view(20, 1, 1, 2),
            torch.tensor([0.75, 0.25]).repeat(10),
            0.5,
        ),
    },
    mistakes={
        "Width is the last dimension: left and right change places.": _flipped(dim=-2),
        "Mirror where the draw is below the share, not above it.": _flipped(
            chosen=torch.gt
        ),
        "A draw that equals the share is not below it.": _flipped(chosen=torch.le),
        "Left and right change places, and rows keep theirs.": _flipped(dim=(2, 3)),
        "The channels keep their order.": _flipped(dim=(1, 3)),
        "One decision for each image, not one for all.": (
            lambda x, draws, share: x.flip(-1) if draws[0] < share else x
        ),
        "The images that are given must not change: make new ones.": _in_place,
    },
    hint="The decision needs the shape (B, 1, 1, 1).",
)
def flip_some(x, draws, share):
    """Image by image: mirrored left to right where its draw is below the share."""
    pairs = zip(x, draws, strict=True)
    return torch.stack([image.flip(-1) if d < share else image for image, d in pairs])


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
