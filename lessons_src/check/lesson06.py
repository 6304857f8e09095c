"""Checkers of lesson 06's exercises: generalization."""

import math

import torch
import torch.nn.functional as F

from lessons_src.check import Case, exercise


def _drawn(*shape, seed=6):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


def smoothed_gradient(answer) -> bool:
    """smoothed_gradient(logits, labels, alpha): of the mean label-smoothed cross-entropy."""
    cases = []
    for scale, alpha, B, hint in (
        (1, 0.0, 1, "Without smoothing it is p − y, with 1 for the right class in y."),
        (1, 0.1, 1, "q is α/K everywhere and 1 − α more for the right class: it sums to 1."),
        (2, 0.3, 5, "The loss is a mean over B examples: is the gradient divided by B, and by "
         "nothing else?"),
        (1e4, 0.3, 4, "Logits of thousands: exp overflows unless the largest is subtracted first. "
         "torch's softmax does that."),
    ):  # fmt: skip
        logits = (scale * _drawn(B, 4)).requires_grad_()
        labels = torch.arange(B) % 4
        loss = F.cross_entropy(logits, labels, label_smoothing=alpha)
        (expected,) = torch.autograd.grad(loss, logits)
        given = (logits.detach(), labels, alpha)
        cases.append(Case(given, expected, hint, f"logits ({B}, 4), α = {alpha}"))
    return exercise("smoothed_gradient", answer, cases)


def channel_dropout(answer) -> bool:
    """channel_dropout(x, rate, training, generator): whole channels, the others enlarged."""
    ones = torch.ones(100, 100, 2, 2)

    def sums(y):
        return f"the channels of ones sum to {y.sum((2, 3)).unique().tolist()}"

    def share(y):  # to the nearest 5 %: ten standard deviations of 10,000 draws
        return f"{5 * round(20 * y.any(3).any(2).double().mean().item())} % of the channels stay"

    def factor(y):
        return f"what stays of 3 becomes {y[y > 0].mean().item():.4g}"

    def masks(y):
        kept = y.any(3).any(2)  # (B, C)
        return f"{len(kept.unique(dim=0))} and {len(kept.unique(dim=1).T)} different masks"

    def again(y):
        other = _dropped(answer, ones, 0.5, True, seed=1)
        same = _dropped(answer, ones, 0.5, True)
        return f"same seed, same mask: {y.equal(same)}; other seed, other: {not y.equal(other)}"

    looks = (
        (sums, 0.5, "the channels of ones sum to [0.0, 8.0]", "A channel of four ones goes as a "
         "whole: one number for each image and channel, with two more axes for its pixels. What "
         "stays is divided by the probability of staying, 1 − rate, so that the mean stays."),
        (share, 0.2, "80 % of the channels stay", "The rate is the probability of dropping, so "
         "the mask is 1 with the probability 1 − rate. At a rate of 0.5 nobody notices."),
        (factor, 0.2, "what stays of 3 becomes 3.75", "The rate is the probability of dropping: "
         "with a rate of 0.2 what stays grows little."),
        (masks, 0.5, "100 and 100 different masks", "Each of the 100 images has a mask of its "
         "own, and in it each of the 100 channels a draw of its own."),
        (again, 0.5, "same seed, same mask: True; other seed, other: True", "Draw from the "
         "generator that was given, and from no other: generator=generator."),
    )  # fmt: skip
    cases = []
    for look, rate, expected, hint in looks:
        x, of = (3 * ones, "threes") if look == factor else (ones, "ones")
        shown = f"x {tuple(x.shape)} of {of}, rate {rate}, training = True"
        cases.append(Case((x, rate, True, look), expected, hint, shown))
    x = _drawn(2, 3, 2, 2)
    cases.append(Case((x, 0.2, False, lambda y: y), x, "In evaluation nothing is dropped and "
                      "nothing is enlarged.", f"x {tuple(x.shape)}, training = False"))  # fmt: skip

    def run(x, rate, training, look):
        y = _dropped(answer, x, rate, training)
        return look(y) if isinstance(y, torch.Tensor) and y.shape == x.shape else y

    return exercise("channel_dropout", run if callable(answer) else answer, cases)


def _dropped(answer, x, rate, training, seed=0):
    return answer(x, rate, training, torch.Generator().manual_seed(seed))


def early_stop(answer) -> bool:
    """early_stop(losses, patience): the epoch that is kept, and the last one that is run."""
    nan = math.nan
    cases = [
        Case(([3.0, 2.0, 1.0], 2), (3, 3), "The loss still fell: train to the end."),
        Case(([3.0, 2.0, 2.5, 2.6, 1.0], 2), (2, 4), "Epochs 3 and 4 brought nothing: stop after "
             "4. What epoch 5 would have brought is never seen."),
        Case(([3.0, 2.0, 2.5, 1.5, 1.7, 1.8, 1.9], 3), (4, 7),
             "A new best starts the count again."),
        Case(([3.0, 2.0, 2.5, 2.4, 2.3, 2.2], 3), (2, 5), "Lower than the epoch before is not "
             "lower than the best so far."),
        Case(([2.0, 2.0, 2.0, 1.0], 2), (1, 3), "An equal loss is no improvement."),
        Case(([1.0, 5.0, 0.5], 1), (1, 2), "With a patience of 1 the first epoch without "
             "improvement is the last."),
        Case(([2.0, nan, nan, 1.0], 2), (1, 3), "A loss that is not a number improves nothing."),
    ]  # fmt: skip
    return exercise("early_stop", answer, cases)


def mixup(answer) -> bool:
    """mixup(images, labels, order, share, K): blended images and labels."""
    images, labels = _drawn(4, 1, 3, 3), torch.tensor([2, 0, 2, 1])
    hints = (
        "With a share of 1 nothing is mixed: share belongs to the image itself. The "
        "labels are one-hot rows, as float.",
        "`share` is what the image keeps of itself, 1 − share comes from image order[n]; the "
        "labels alike.",
        "The labels are blended by the same share, in the same order as the images.",
    )
    cases = []
    for (order, share, K), hint in zip(
        (([1, 0, 3, 2], 1.0, 3), ([1, 0, 3, 2], 0.8, 3), ([1, 2, 3, 0], 0.3, 5)), hints, strict=True
    ):
        q = torch.eye(K).double()
        pairs = [(n, k) for n, k in enumerate(order)]
        mixed = torch.stack([images[k] + share * (images[n] - images[k]) for n, k in pairs])
        rows = [q[labels[k]] + share * (q[labels[n]] - q[labels[k]]) for n, k in pairs]
        given = (images, labels, torch.tensor(order), share, K)
        shown = f"order {order}, share {share}, K = {K}"
        hint = f"Value 1: images, value 2: labels. {hint}"
        cases.append(Case(given, (mixed, torch.stack(rows)), hint, shown))
    return exercise("mixup", answer, cases)


def batch_norm_images(answer) -> bool:
    """batch_norm_images(...): as nn.BatchNorm2d, with running statistics that carry no graph."""
    hints = (
        "In training a channel's own mean and variance are used, over batch and pixels, the "
        "variance divided by all B · H · W values.",
        "The momentum is the share of the new: (1 − momentum) · old + momentum · new. The "
        "variance that is remembered is the unbiased one: times n / (n − 1), n = B · H · W.",
        "In evaluation the running statistics normalise, and they stay as they are.",
        "Channels that are nearly constant: ε stands inside the root, with the variance.",
        "Your running statistics carry a graph: detach() what is remembered, or memory grows "
        "with every step.",
    )
    inputs = (
        # values, momentum, training, eps, requires_grad, outputs looked at
        (_drawn(3, 2, 2, 2), 0.1, True, 1e-5, False, 1),
        (3 * _drawn(2, 2, 2, 1) + 1, 0.1, True, 1e-5, False, 3),
        (3 * _drawn(3, 2, 2, 2) + 1, 0.3, False, 1e-5, False, 3),
        (7 + 0.1 * _drawn(2, 2, 2, 2), 0.3, True, 0.1, False, 3),
        (_drawn(3, 2, 2, 2, seed=7), 0.3, True, 1e-5, True, 3),
    )
    weight, bias = torch.tensor([2.0, 0.5]).double(), torch.tensor([1.0, -1.0]).double()
    cases = []
    for (x, momentum, training, eps, graph, count), hint in zip(inputs, hints, strict=True):
        mean, var = torch.tensor([0.5, -0.5]).double(), torch.tensor([4.0, 0.25]).double()
        before = mean.clone(), var.clone()
        y = F.batch_norm(x, mean, var, weight, bias, training, momentum, eps)
        given = (x, weight, bias, *before, training, momentum, eps, graph, count)
        expected = ((y, mean, var)[:count], False)
        shown = f"x {tuple(x.shape)}, training = {training}, momentum = {momentum}, eps = {eps}"
        cases.append(Case(given, expected, hint, shown + ", x with a graph" * graph))

    def run(x, weight, bias, mean, var, training, momentum, eps, graph, count):
        x = x.requires_grad_(graph)
        made = answer(x, weight, bias, mean, var, training, momentum, eps)
        if made is None or made is Ellipsis or not isinstance(made, tuple | list):
            return made
        carries = any(getattr(v, "requires_grad", False) for v in made[1:])
        return tuple(made)[:count], carries

    return exercise("batch_norm_images", run if callable(answer) else answer, cases)
