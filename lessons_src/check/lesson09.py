"""Checkers of lesson 09's exercises: a convolutional network on Fashion-MNIST."""

import torch
import torch.nn.functional as F

from lessons_src.check import Case, exercise


def _drawn(*shape, seed=9):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def class_accuracy(answer) -> bool:
    """class_accuracy(logits, labels): the accuracy of each class, nan where it has no image."""
    nan = float("nan")
    answered = torch.tensor([0, 0, 1, 1, 1, 2])
    even, uneven = torch.tensor([0, 0, 1, 1, 2, 2]), torch.tensor([0, 1, 1, 1, 1, 2])
    missing, never = torch.tensor([0, 0, 2, 2, 2, 2]), torch.tensor([0, 1, 1, 3, 3, 3])
    inputs = [
        (3, even, [1.0, 1.0, 0.5],
         "Divide the right answers of each class by the number of its images."),
        (3, uneven, [1.0, 0.75, 1.0],
         "Group by the label: divide by the images that are of the class, not by the answers that "
         "name it, and not by the number of all images."),
        (3, missing, [1.0, nan, 0.25],
         "Class 1 has no image here: its accuracy is nan, not 0 and not an error."),
        (5, never, [1.0, 0.5, nan, 0.0, nan],
         "There are as many classes as columns, also where the last ones have no image "
         "(minlength). A class whose images are all wrong has accuracy 0."),
    ]  # fmt: skip
    cases = []
    for K, labels, expected, hint in inputs:
        logits = 3 * F.one_hot(answered, K).float() - 1
        shown = f"answers {answered.tolist()}, labels {labels.tolist()}, K = {K}"
        cases.append(Case((logits, labels), torch.tensor(expected), hint, shown))
    return exercise("class_accuracy", answer, cases)


def images_needed(answer) -> bool:
    """images_needed(p, se): the smallest n whose standard error is at most se."""
    cases = [
        Case((0.9, 0.01), 900, "Solve p(1 − p)/n = se² for n: se is squared."),
        Case((0.5, 0.05), 100, "The variance of a single answer is p(1 − p), not p."),
        Case((0.93, 0.003), 7234, "No more images than needed, and none too few: 7,233 of them "
             "give a little more than se. Round up."),
        Case((0.7, 0.1), 21, "0.7 · 0.3 is 0.21 but for the last digits of a float: take off a "
             "hair before rounding up."),
    ]  # fmt: skip
    return exercise("images_needed", answer, cases, tolerance=1e-9)


def most_confused(answer) -> bool:
    """most_confused(counts): the pair with the most mistakes, and its share of all mistakes."""
    inputs = [
        ([[90, 6, 1], [6, 80, 0], [10, 0, 70]], (0, 1, 12 / 23),
         "Both directions count together: 6 and 6 for the pair (0, 1), 10 and 1 for (0, 2)."),
        ([[5, 1, 0], [0, 99, 0], [7, 3, 1]], (0, 2, 7 / 11),
         "The smaller class comes first, whichever direction has the mistakes."),
        ([[500, 2, 1, 0], [0, 400, 0, 0], [0, 3, 9, 2], [1, 0, 2, 600]], (2, 3, 4 / 11),
         "The diagonal holds right answers: they are no mistakes, neither for the pair nor in the "
         "sum."),
    ]  # fmt: skip
    cases = []
    for counts, expected, hint in inputs:
        hint = f"Values 1 and 2 are the classes, value 3 the share. {hint}"
        cases.append(Case((torch.tensor(counts),), expected, hint, str(counts)))
    return exercise("most_confused", answer, cases)


def flip_some(answer) -> bool:
    """flip_some(x, draws, share): the images with draws < share mirrored left to right."""
    x, y = _drawn(2, 1, 3, 4), _drawn(4, 2, 4, 4)
    inputs = [
        (x, [0.2, 0.7], 0.5, "One decision for each image: the first is mirrored, the second is "
         "not. Width is the last dimension: left and right change places, not above and below."),
        (x, [0.2, 0.7], 0.0, "A share of 0 mirrors nothing: draws < share, not ≤ or >."),
        (y, [0.1, 0.9, 0.4, 0.8], 1.0, "A share of 1 mirrors every image, and the channels keep "
         "their order."),
        (y, [0.1, 0.9, 0.4, 0.5], 0.5, "The decision has the shape (B, 1, 1, 1). With B, H and W "
         "equal, one of shape (B,) runs, and goes along the width. And a draw that equals the "
         "share is not below it."),
    ]  # fmt: skip
    cases = []
    for images, draws, share, hint in inputs:
        kept = [i.flip(2) if d < share else i for i, d in zip(images, draws, strict=True)]
        shown = f"x {tuple(images.shape)}, draws {draws}, share {share}"
        given = (images, torch.tensor(draws), share)
        cases.append(Case(given, torch.stack(kept), hint, shown))

    def run(images, draws, share):
        before = images.clone()
        got = answer(images, draws, share)
        if got is not None and got is not Ellipsis and not torch.equal(images, before):
            raise ValueError("the images that it was given have changed: make new ones")
        return got

    return exercise("flip_some", run if callable(answer) else answer, cases)


def looks_together(answer) -> bool:
    """looks_together(logits, labels): loss and accuracy of the mean probability of M looks."""
    labels = torch.tensor([0, 1, 2, 0, 1])
    lone, pair, many = _drawn(1, 5, 3), 3 * _drawn(2, 5, 3), 3 * _drawn(4, 5, 3, seed=2)
    huge = torch.tensor([[[1000.0, -1000, 0]], [[-1000.0, 1000, 0]]])  # (2, 1, 3)
    inputs = [
        (lone, labels, "One look is its own mean: cross-entropy and accuracy as always, both "
         "means over the images."),
        (pair, labels, "Average the probabilities: not the logits, not the log-probabilities, and "
         "not the losses."),
        (many, labels, "Divide by the number of looks that there are: any number M."),
        (huge, torch.tensor([1]), "Here the true class has the probabilities 0 and 1, and the "
         "loss is log 2. Stay with logarithms: logsumexp over the looks."),
        (huge, torch.tensor([2]), "Both looks give class 2 the probability exp(−1000): too small "
         "for a float. Its logarithm is not: the loss is 1000."),
    ]  # fmt: skip
    cases = []
    for logits, y, hint in inputs:
        p = logits.double().softmax(2).mean(0)  # (N, K)
        loss = -p[torch.arange(len(y)), y].log().mean().item()
        if loss == float("inf"):  # float64 reaches no further than exp(−745)
            loss = 1000.0
        right = (p.argmax(1) == y).double().mean().item()
        hint = f"Value 1 is the loss, value 2 the accuracy. {hint}"
        shown = f"logits {tuple(logits.shape)}, largest {logits.max():.4g}, labels {y.tolist()}"
        cases.append(Case((logits, y), (loss, right), hint, shown))
    return exercise("looks_together", answer, cases, tolerance=1e-4)
