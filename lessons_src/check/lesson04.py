"""Checkers of lesson 04's exercises: expected values come from torch or from a closed form."""

import math

import torch

from lessons_src.check import Case, exercise


def largest_safe_lr(answer) -> bool:
    """answer(H) -> 2 / λmax for a symmetric matrix H (D, D)."""
    matrices = [
        ("diag(1, 10)", torch.diag(torch.tensor([1.0, 10.0]))),
        ("diag(8, 2)", torch.diag(torch.tensor([8.0, 2.0]))),
        ("[[2, 1], [1, 2]]", torch.tensor([[2.0, 1.0], [1.0, 2.0]])),
    ]
    hint = "The bound is 2 / λmax: the largest eigenvalue, wherever it stands, and a 2 above it."
    cases = [
        Case((H,), 2 / torch.linalg.eigvalsh(H).max().item(), hint, shown=name)
        for name, H in matrices
    ]
    return exercise("largest_safe_lr", answer, cases)


def share_seen(answer) -> bool:
    """answer(n, draws) -> 1 - (1 - 1/n)^draws."""
    hints = {
        (1, 1): "One draw from one example sees all of them: e is only the limit for many.",
        (10, 0): "Nothing drawn, nothing seen.",
        (4, 4): "For few examples 1 - 1/e is not exact: raise 1 - 1/n to a power.",
        (100, 250): "The power is the number of draws, not n.",
    }
    cases = [Case(pair, 1 - (1 - 1 / pair[0]) ** pair[1], hint) for pair, hint in hints.items()]
    return exercise("share_seen", answer, cases)


def corrected_means(answer) -> bool:
    """answer(values, beta) -> the bias-corrected running mean after each value."""

    def expected(values, beta):
        """By the definition of a weighted mean: weights beta^j, divided by their sum."""
        means = []
        for t in range(1, len(values) + 1):
            weights = [beta**j for j in range(t)]
            recent = reversed(values[:t])
            means.append(sum(w * x for w, x in zip(weights, recent, strict=True)) / sum(weights))
        return means

    hints = [
        "The mean of one value is that value: divide by 1 - beta**t, and count t from 1.",
        "With a constant value every corrected mean is that value.",
        "Correct what you append, and keep m itself uncorrected for the next step.",
    ]
    inputs = [([3.0], 0.9), ([2.0] * 4, 0.999), ([1.0, -2.0, 4.0, 0.5, 8.0], 0.7)]
    cases = [Case(x, expected(*x), hint) for x, hint in zip(inputs, hints, strict=True)]
    return exercise("corrected_means", answer, cases)


def warmup_cosine(answer) -> bool:
    """answer(step, total, warmup, peak) -> linear warm-up, then half a cosine to zero."""
    hints = {
        (0, 100, 10, 0.5): "The first step already moves: a tenth of the peak, for step + 1.",
        (9, 100, 10, 0.5): "The last step of the warm-up reaches the peak.",
        (10, 100, 10, 0.5): "The cosine starts at the peak: there x is 0.",
        (55, 100, 10, 0.5): "Half-way between warmup and total the rate is half the peak: "
        "x counts from the end of the warm-up.",
        (99, 100, 10, 0.5): "The last rate is almost zero: x goes to 1 at total.",
        (30, 40, 0, 2.0): "Without a warm-up it is a cosine from the start.",
    }

    def expected(step, total, warmup, peak):
        if step < warmup:
            return peak * (step + 1) / warmup
        return peak * math.cos(math.pi / 2 * (step - warmup) / (total - warmup)) ** 2

    cases = [Case(x, expected(*x), hint) for x, hint in hints.items()]
    return exercise("warmup_cosine", answer, cases)


def adamw(answer) -> bool:
    """answer(params, lr, betas, eps, weight_decay) -> an optimiser with step(), as AdamW."""

    def walk(optimizer_class, steps, scale, weight_decay):
        """Two parameters after some steps, and a third that has no gradient."""
        generator = torch.Generator().manual_seed(0)
        params = [torch.randn(3, dtype=torch.float64, generator=generator) for _ in range(3)]
        before = [p.clone() for p in params]
        optimizer = optimizer_class(params, lr=0.01, weight_decay=weight_decay)
        for _ in range(steps):
            for p in params[:2]:
                noise = torch.randn(3, dtype=torch.float64, generator=generator)
                p.grad = scale * (p + noise)
            optimizer.step()
        if all(torch.equal(p, b) for p, b in zip(params, before, strict=True)):
            return None  # nothing has moved: a stub
        return tuple(params)

    runs = [
        (1, 1.0, 0.0, "The first step is lr long: are both means divided by 1 - beta**t, t = 1?"),
        (50, 1.0, 0.0, "Later steps: t grows by one a step, and each parameter has its own m, v."),
        (1, 1.0, 0.5, "The decay is a factor 1 - lr * weight_decay on the weight, in no gradient."),
        (50, 1.0, 0.5, "The decay must not pass through m and v."),
        (50, 1e8, 0.1, "Huge gradients must not change the length of a step."),
        (50, 1e-8, 0.1, "For tiny gradients eps counts: it is added to the root, outside of it."),
    ]  # fmt: skip
    cases = [
        Case(
            (steps, scale, decay),
            walk(torch.optim.AdamW, steps, scale, decay),
            hint,
            shown=f"{steps} step(s), gradients × {scale:g}, weight decay {decay:g}",
        )
        for steps, scale, decay, hint in runs
    ]
    given = answer if not callable(answer) else lambda *setting: walk(answer, *setting)
    return exercise("adamw", given, cases, tolerance=1e-6)
