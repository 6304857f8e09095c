"""Exercises of the lesson on optimizers: running means, a schedule, AdamW."""

import math

import torch

from lessons_src.exercises import Draw, exercise


def running_means(append, carry=lambda m, corrected: m):
    """A wrong corrected_means, from what it appends and what it carries on."""

    def answer(values, beta):
        m, means = 0.0, []
        for t, value in enumerate(values, 1):
            m = beta * m + (1 - beta) * value
            means.append(append(m, beta, t))
            m = carry(m, means[-1])
        return means

    return answer


@exercise(
    inputs=lambda draw: (
        [draw.choice(0.0, 1.0, 100.0) * draw.uniform(-9, 9) for _ in range(draw.size)],
        draw.choice(0.0, 0.999, draw.uniform(0.1, 0.95)),
    ),
    cases={
        "With a constant value every corrected mean is that value.": ([2.0] * 4, 0.9),
        "Correct what you append, and keep m as it is.": (
            [1.0, -2.0, 4.0, 0.5, 8.0],
            0.7,
        ),
    },
    mistakes={
        "The mean of one value is that value: divide by 1 - beta**t.": running_means(
            lambda m, beta, t: m
        ),
        "Divide by 1 - beta**t, which changes with t, not by 1 - beta.": running_means(
            lambda m, beta, t: m / (1 - beta)
        ),
        "Count t from 1: it is 1 for the first value.": running_means(
            lambda m, beta, t: m / (1 - beta ** (t + 1))
        ),
        "Keep m itself uncorrected for the next step: correct only what you append.": (
            running_means(
                lambda m, beta, t: m / (1 - beta**t), lambda m, corrected: corrected
            )
        ),
    },
    hint="m becomes beta * m + (1 - beta) * value; what you append is m / (1 - beta**t).",
)
def corrected_means(values, beta):
    """The mean so far after each value, weighted by beta to the power of its age."""
    means = []
    for t in range(1, len(values) + 1):
        weights = [beta ** (t - 1 - k) for k in range(t)]
        total = sum(w * x for w, x in zip(weights, values, strict=False))
        means.append(total / sum(weights))
    return means


def drawn_step(draw):
    """step, total, warmup and peak, with a warm-up of some steps or none."""
    warmup = draw.integer(0, 2 * draw.size)
    total = warmup + draw.integer(1, 4 * draw.size)
    return (
        draw.integer(0, total),
        total,
        warmup,
        draw.choice(1, 1e-3) * draw.uniform(0.1, 2),
    )


def warmup_then(fall, rise=lambda step, warmup: (step + 1) / warmup):
    """A wrong warmup_cosine, from its warm-up and from what follows it."""

    def answer(step, total, warmup, peak):
        if step < warmup:
            return peak * rise(step, warmup)
        return peak * fall(step, total, warmup)

    return answer


def cosine(step, total, warmup):
    """Half a cosine, from 1 at the end of the warm-up to 0 at total."""
    return math.cos(math.pi / 2 * (step - warmup) / (total - warmup)) ** 2


@exercise(
    inputs=drawn_step,
    tolerance=1e-6,
    cases={
        "The last step of the warm-up reaches the peak.": (9, 100, 10, 0.5),
        "The cosine starts at the peak: there x is 0.": (10, 100, 10, 0.5),
        "Half-way between warmup and total the rate is half the peak.": (
            55,
            100,
            10,
            0.5,
        ),
        "Without a warm-up it is a cosine from the start.": (30, 40, 0, 2.0),
        "Ten epochs have more steps than one.": (350, 469, 50, 0.5),
    },
    mistakes={
        "The first step already moves: step + 1.": warmup_then(
            cosine, lambda step, warmup: step / warmup
        ),
        "x counts from the end of the warm-up, and there it is 0.": warmup_then(
            lambda step, total, warmup: (1 + math.cos(math.pi * step / total)) / 2
        ),
        "The rate falls along half a cosine, not along a straight line.": warmup_then(
            lambda step, total, warmup: 1 - (step - warmup) / (total - warmup)
        ),
    },
    hint="peak * (step + 1) / warmup while step < warmup; then x goes from 0 to 1.",
)
def warmup_cosine(step, total, warmup, peak):
    """A linear warm-up, then half a cosine to zero."""
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * cosine(step, total, warmup)


def drawn_walk(draw, steps=None):
    """Parameters, AdamW's settings, and each step's gradients.

    One parameter has a gradient in each step, the next in some, the third in none. Any of
    them may be the first.
    """
    scale = draw.choice(1.0, 1e8, 1e-8)
    gradients = [
        [
            draw.normal(draw.size, scale=scale),
            draw.choice(draw.normal(2, scale=scale), None),
            None,
        ]
        for _ in range(steps or draw.integer(1, 3 * draw.size))
    ]
    betas, eps = (
        (draw.uniform(0.5, 0.95), draw.uniform(0.8, 0.999)),
        10 ** draw.uniform(-8, -2),
    )
    params = [draw.normal(draw.size), draw.normal(2), draw.normal(2)]
    settings = draw.uniform(0.001, 0.1), betas, eps, draw.choice(0.0, 0.3)
    first = draw.integer(0, 2)
    gradients = [step[first:] + step[:first] for step in gradients]
    return params[first:] + params[:first], *settings, gradients


def walked(answer, params, lr, betas, eps, weight_decay, gradients):
    """The parameters after all steps of the answer's optimiser: an `observe`. It gets no
    settings where lr is None."""
    params = [p.clone().requires_grad_() for p in params]
    optimizer = answer(params, *[lr, betas, eps, weight_decay] if lr else [])
    if not hasattr(optimizer, "step"):
        return optimizer
    for step in gradients:
        for p, gradient in zip(params, step, strict=True):
            p.grad = gradient
        optimizer.step()
    return params if vars(optimizer) else None  # the stub remembers nothing


class Parts:
    """AdamW in parts, so that a mistake replaces one of them."""

    def __init__(self, params, lr=0.001, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01):
        self.params, self.state = params, [(0, 0.0, 0.0) for _ in params]
        self.lr, self.betas, self.eps, self.weight_decay = lr, betas, eps, weight_decay

    def count(self, t):
        return t + 1

    def gradient(self, w):
        return w.grad

    def decay(self):
        return 1 - self.lr * self.weight_decay

    def direction(self, m, q, t):
        m_hat, q_hat = m / (1 - self.betas[0] ** t), q / (1 - self.betas[1] ** t)
        return m_hat / (q_hat.sqrt() + self.eps)

    @torch.no_grad()
    def step(self):
        for k, w in enumerate(self.params):
            if w.grad is not None:
                (t, m, q), g, (beta1, beta2) = self.state[k], self.gradient(w), self.betas
                m, q = beta1 * m + (1 - beta1) * g, beta2 * q + (1 - beta2) * g**2
                self.state[k] = self.count(t), m, q
                w *= self.decay()
                w -= self.lr * self.direction(*self.state[k][1:], self.state[k][0])


def slip(**parts):
    """AdamW with these parts instead of the right ones."""
    return type("Slip", (Parts,), parts)


@exercise(
    inputs=drawn_walk,
    observe=walked,
    tolerance=1e-6,
    trials=10,
    # seed 22: tiny gradients, with decay: all mistakes show
    cases={
        "Fifty steps, with tiny gradients.": drawn_walk(Draw(22), steps=50),
        "Two parameters of one shape: each keeps means of its own.": (
            [torch.tensor([3.0, -2.0]).double(), torch.tensor([1.0, 4.0]).double()],
            *[0.1, (0.9, 0.99), 1e-8, 0.0],
            [
                [step * torch.tensor([1.0, -2.0]).double(), torch.ones(2).double()]
                for step in range(1, 6)
            ],
        ),
        "Without settings: lr=0.001, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01.": (
            [torch.tensor([3.0, -2.0]).double()],
            *[None] * 4,
            [[1e-7 * torch.tensor([t, 1.0]).double()] for t in range(10)],
        ),
    },
    mistakes={
        "The first step is lr long: divide both means by 1 - beta**t, and t = 1.": slip(
            direction=lambda self, m, q, t: m / (q.sqrt() + self.eps)
        ),
        "Each mean is divided by its own beta's 1 - beta**t.": slip(
            direction=lambda self, m, q, t: (
                m
                / (1 - self.betas[0] ** t)
                / ((q / (1 - self.betas[0] ** t)).sqrt() + self.eps)
            )
        ),
        "t grows by one a step: keep it for the next.": slip(count=lambda self, t: 1),
        "Each parameter counts its own steps: without a gradient it makes none.": slip(
            count=lambda self, t: max(t + 1, *(before[0] for before in self.state))
        ),
        "The decay is a factor 1 - lr * weight_decay on the weight.": slip(
            decay=lambda self: 1 - self.weight_decay
        ),
        "The decay must not pass through m and q: it is in no gradient.": slip(
            gradient=lambda self, w: w.grad + self.weight_decay * w, decay=lambda self: 1
        ),
        "eps is added to the root, outside of it: for tiny gradients it counts.": slip(
            direction=lambda self, m, q, t: (
                m
                / (1 - self.betas[0] ** t)
                / (q / (1 - self.betas[1] ** t) + self.eps).sqrt()
            )
        ),
        "The betas are settings: use those that are given.": (
            lambda params, lr=0.001, betas=(), *rest: Parts(
                params, lr, (0.9, 0.999), *rest
            )
        ),
    },
    hint="Change each parameter in place, from its own m, q and t, and with the settings "
    "given; leave those without a gradient alone.",
)
def AdamW(params, lr=0.001, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01):
    """An optimiser with step(): the class that the reader writes."""
    return torch.optim.AdamW(params, lr, betas, eps, weight_decay)
