"""Checkers of lesson 02's exercises: softmax and cross-entropy."""

import math

import torch
import torch.nn.functional as F

from lessons_src.check import Case, exercise


def _drawn(*shape):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


LABELS = torch.tensor([2, 0, 3, 3, 1])


def _gradient(loss, at):
    leaf = at.clone().requires_grad_()
    return torch.autograd.grad(loss(leaf), leaf)[0]


def softmax_at(answer) -> bool:
    """softmax_at(logits, T): softmax of logits / T, without overflow."""
    row, huge = torch.tensor([2.0, -1.0, 0.5]), torch.tensor([[1000.0, 0.0], [-1000.0, -999.0]])
    hints = (
        "At T = 1 it is the ordinary softmax.",
        "A high temperature makes the probabilities more alike: divide the logits by T.",
        "exp overflows at 89: subtract each row's own maximum first.",
        "A small T makes large logits: divide by T before you subtract the maximum.",
        "The sum runs over the last dimension, whatever comes before it.",
    )
    inputs = [(row, 1.0), (row, 4.0), (huge, 1.0), (row, 0.001), (_drawn(2, 3, 4), 2.0)]
    cases = [
        Case((z, T), torch.softmax(z / T, -1), hint, f"logits {tuple(z.shape)}, T = {T:g}")
        for (z, T), hint in zip(inputs, hints, strict=True)
    ]
    return exercise("softmax_at", answer, cases)


def bits_per_label(answer) -> bool:
    """bits_per_label(logits, y): mean cross-entropy in bits."""
    logits = _drawn(5, 4)
    inputs = [
        (torch.zeros(3, 8), torch.tensor([0, 1, 7]), "Eight equal classes cost 3 bits: divide the "
         "nats by log 2, and take the mean over the batch, not the sum."),
        (logits, LABELS, "Is it the label's own logit that you pick in each row, and is the sign "
         "such that a loss is positive?"),
        (1000 * logits, LABELS, "At logits in the thousands exp overflows: use "
         "torch.logsumexp, or subtract the maximum."),
    ]  # fmt: skip
    cases = [
        Case((z, y), F.cross_entropy(z, y) / math.log(2), hint, f"logits {tuple(z.shape)}")
        for z, y, hint in inputs
    ]
    return exercise("bits_per_label", answer, cases)


def input_gradient(answer) -> bool:
    """input_gradient(x, y, W, b): gradient of the mean cross-entropy by the images."""
    W, b = _drawn(4, 6), _drawn(4)
    cases = []
    for x, y, hint in (
        (_drawn(1, 6), LABELS[:1], "One image: (p - y) @ W, with the sign p minus y, and p the "
         "softmax of x W^T + b."),
        (_drawn(5, 6), LABELS, "A batch: the loss is a mean, so divide by B."),
    ):  # fmt: skip
        expected = _gradient(lambda x, y=y: F.cross_entropy(x @ W.T + b, y), x)
        cases.append(Case((x, y, W, b), expected, hint, f"x {tuple(x.shape)}, W (4, 6)"))
    return exercise("input_gradient", answer, cases)


def smoothed_gradient(answer) -> bool:
    """smoothed_gradient(logits, y, alpha): gradient under label smoothing."""
    logits, cases = _drawn(5, 4), []
    for alpha, hint in (
        (0.0, "Without smoothing it is (p - y) / B."),
        (0.2, "The label keeps 1 - alpha, and alpha / K goes to each of all K classes, the label "
         "among them; the rows of q sum to 1."),
        (1.0, "With alpha = 1 every class is given 1 / K."),
    ):  # fmt: skip

        def loss(z, alpha=alpha):
            return F.cross_entropy(z, LABELS, label_smoothing=alpha)

        inputs = (logits, LABELS, alpha)
        cases.append(Case(inputs, _gradient(loss, logits), hint, f"logits (5, 4), alpha {alpha:g}"))
    return exercise("smoothed_gradient", answer, cases)


def log_softmax_backward(answer) -> bool:
    """log_softmax_backward(g, log_p): gradient by the logits for any gradient by log p."""
    z = _drawn(5, 4)
    log_p = torch.log_softmax(z, 1)
    hints = (
        "For g = -y, negative log-likelihood, it must give p - y.",
        "For another loss the entries of g do not sum to -1: the factor before p_j is that sum, "
        "over the classes of each row.",
    )
    cases = []
    for g, hint in zip((-F.one_hot(LABELS, 4).double(), _drawn(5, 4).cos()), hints, strict=True):
        expected = _gradient(lambda z, g=g: (g * torch.log_softmax(z, 1)).sum(), z)
        cases.append(Case((g, log_p), expected, hint, "g (5, 4), log_p (5, 4)"))
    return exercise("log_softmax_backward", answer, cases)
