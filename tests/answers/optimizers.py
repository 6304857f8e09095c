"""Answers to the exercises of the lesson on optimisers."""

import cmath
import functools
import itertools
import math

import numpy as np
import torch


def running(values, beta, start=0.0):
    """The uncorrected means."""
    m, means = start, []
    for value in values:
        m = beta * m + (1 - beta) * value
        means.append(m)
    return means


def corrected(correct, first=1):
    """An answer: each uncorrected mean divided by correct(beta, t)."""

    def answer(values, beta):
        means = enumerate(running(values, beta), first)
        return [m / correct(beta, t) for t, m in means]

    return answer


def correction_kept(values, beta):
    m, means = 0.0, []
    for t, value in enumerate(values, 1):
        m = (beta * m + (1 - beta) * value) / (1 - beta**t)
        means.append(m)
    return means


def started_at_the_first(values, beta):
    m, means = values[0], []
    for value in values:
        m = beta * m + (1 - beta) * value
        means.append(m)
    return means


def betas_swapped(values, beta):
    m, means = 0.0, []
    for t, value in enumerate(values, 1):
        m = (1 - beta) * m + beta * value
        means.append(m / (1 - (1 - beta) ** t))
    return means


def plain_means(values, beta):
    return [sum(values[:t]) / t for t in range(1, len(values) + 1)]


def of_the_last_two(values, beta):
    """Forgets all but two."""
    pairs = zip([0, *values], values, strict=False)
    return [
        (beta * (1 - beta) * before + (1 - beta) * v) / (1 - beta ** min(t, 2))
        for t, (before, v) in enumerate(pairs, 1)
    ]


def weighted_sums(values, beta):
    means = []
    for t in range(1, len(values) + 1):
        weights = [beta ** (t - 1 - j) for j in range(t)]
        total = sum(w * v for w, v in zip(weights, values[:t], strict=True))
        means.append(total / sum(weights))
    return means


def weighted_by_numpy(values, beta):
    v = np.array(values, dtype=float)
    powers = [beta ** np.arange(t - 1, -1, -1.0) for t in range(1, len(v) + 1)]
    return [np.average(v[: len(w)], weights=w) for w in powers]


def never_uncorrected(values, beta):
    mean, means = 0.0, []
    for t, value in enumerate(values, 1):
        mean += (value - mean) * (1 - beta) / (1 - beta**t)
        means.append(mean)
    return means


def two_sums(values, beta):
    above = below = 0
    means = ()
    for value in values:
        above, below = beta * above + value, beta * below + 1
        means += (above / below,)
    return means


def accumulated(values, beta):
    m = itertools.accumulate(values, lambda m, v: beta * m + (1 - beta) * v, initial=0.0)
    return [u / (1 - beta**t) for t, u in enumerate(m) if t]


def by_a_matrix(values, beta):
    t = torch.arange(len(values))
    W = torch.tensor(float(beta), dtype=torch.float64) ** (t[:, None] - t).clamp(min=0)
    W = W.tril()
    return W @ torch.tensor(values, dtype=torch.float64) / W.sum(1)


def by_recursion(values, beta):
    if not values:
        return []
    m = sum((1 - beta) * v * beta**k for k, v in enumerate(reversed(values)))
    return [*by_recursion(values[:-1], beta), m / (1 - beta ** len(values))]


def lerped(values, beta):
    m, means = torch.zeros((), dtype=torch.float64), []
    for t, value in enumerate(values):
        m = m.lerp(torch.tensor(float(value), dtype=torch.float64), 1 - beta)
        means.append(m.div(1 - beta ** (t + 1)))
    return means


def scheduled(rising, falling, until=lambda step, warmup: step < warmup):
    """An answer: rising(step, warmup), then falling(x), each times the peak."""

    def answer(step, total, warmup, peak):
        if until(step, warmup):
            return peak * rising(step, warmup)
        return peak * falling((step - warmup) / (total - warmup))

    return answer


def warm(step, warmup):
    return (step + 1) / warmup


def half_cosine(x):
    return 0.5 * (1 + math.cos(math.pi * x))


def with_x(x):
    """An answer: x(step, total, warmup) along the cosine."""

    def answer(step, total, warmup, peak):
        if step < warmup:
            return peak * (step + 1) / warmup
        return peak * half_cosine(x(step, total, warmup))

    return answer


def the_smaller_one(step, total, warmup, peak):
    """Raises without a warm-up."""
    rising = peak * (step + 1) / warmup
    return min(rising, peak * half_cosine(max(step - warmup, 0) / (total - warmup)))


def only_warm(step, total, warmup, peak):
    if step < warmup:
        return peak * (step + 1) / warmup


def only_falls(step, total, warmup, peak):
    if step >= warmup:
        return peak * half_cosine((step - warmup) / (total - warmup))


def peak_forgotten(step, total, warmup, peak):
    if step < warmup:
        return peak * (step + 1) / warmup
    return half_cosine((step - warmup) / (total - warmup))


def in_two_branches(step, total, warmup, peak):
    if step >= warmup:
        angle = math.pi * (step - warmup) / (total - warmup)
        rate = peak / 2 * (1 + math.cos(angle))
    else:
        rate = peak / warmup * (step + 1)
    return rate


def of_all_steps(step, total, warmup, peak):
    up = [peak * (k + 1) / warmup for k in range(warmup)]
    down = peak * (1 + np.cos(np.pi * np.linspace(0, 1, total - warmup + 1))) / 2
    return np.concatenate([up, down])[step]


def by_the_scheduler(step, total, warmup, peak):
    if step < warmup:
        return peak * (step + 1) / warmup
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=peak)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, total - warmup)
    for _ in range(step - warmup):
        optimizer.step()
        schedule.step()
    return optimizer.param_groups[0]["lr"]


class Schedule:
    def __call__(self, step, total, warmup, peak):
        up = (step + 1) / max(warmup, 1)
        x = max(step - warmup, 0) / (total - warmup)
        return peak * (up if step < warmup else math.cos(math.pi * x / 2) ** 2)


class Plain:
    """AdamW, of parts that the wrong ones change."""

    def __init__(self, params, lr=0.001, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01):
        self.params = list(params)
        self.lr, self.betas, self.eps, self.weight_decay = lr, betas, eps, weight_decay
        self.start()

    def start(self):
        self.state = [{"t": 0, "m": 0, "q": 0} for _ in self.params]

    @torch.no_grad()
    def step(self):
        for w, s in zip(self.params, self.state, strict=True):
            if w.grad is not None:
                self.update(w, w.grad, s)

    def update(self, w, g, s):
        w *= 1 - self.lr * self.weight_decay
        w -= self.lr * self.direction(g, s)

    def direction(self, g, s):
        m, q = self.means(g, s)
        beta1, beta2 = self.betas
        return self.ratio(m / (1 - beta1 ** s["t"]), q / (1 - beta2 ** s["t"]))

    def means(self, g, s):
        beta1, beta2 = self.betas
        s["t"] += 1
        s["m"] = beta1 * s["m"] + (1 - beta1) * g
        s["q"] = beta2 * s["q"] + (1 - beta2) * g**2
        return s["m"], s["q"]

    def ratio(self, m, q):
        return m / (q.sqrt() + self.eps)


class DecayInGradient(Plain):
    def update(self, w, g, s):
        w -= self.lr * self.direction(g + self.weight_decay * w, s)


class DecayWithoutRate(Plain):
    def update(self, w, g, s):
        w *= 1 - self.weight_decay
        w -= self.lr * self.direction(g, s)


class DecayAfterwards(Plain):
    def update(self, w, g, s):
        w -= self.lr * self.direction(g, s)
        w *= 1 - self.lr * self.weight_decay


class NoDecay(Plain):
    def update(self, w, g, s):
        w -= self.lr * self.direction(g, s)


class UsualDecay(Plain):
    def update(self, w, g, s):
        w *= 1 - self.lr * 0.01
        w -= self.lr * self.direction(g, s)


class UsualRate(Plain):
    def update(self, w, g, s):
        w *= 1 - 0.001 * self.weight_decay
        w -= 0.001 * self.direction(g, s)


class UsualBetas(Plain):
    def start(self):
        super().start()
        self.betas = 0.9, 0.999


class SwappedBetas(Plain):
    def start(self):
        super().start()
        self.betas = self.betas[::-1]


class Uncorrected(Plain):
    def direction(self, g, s):
        return self.ratio(*self.means(g, s))


class MomentUncorrected(Plain):
    def direction(self, g, s):
        m, q = self.means(g, s)
        return self.ratio(m, q / (1 - self.betas[1] ** s["t"]))


class EpsilonInside(Plain):
    def ratio(self, m, q):
        return m / (q + self.eps).sqrt()


class NoEpsilon(Plain):
    """0 / 0 for a gradient of zeros."""

    def ratio(self, m, q):
        return m / q.sqrt()


class UsualEpsilon(Plain):
    def ratio(self, m, q):
        return m / (q.sqrt() + 1e-8)


class NoRoot(Plain):
    def ratio(self, m, q):
        return m / (q + self.eps)


class Amsgrad(Plain):
    def means(self, g, s):
        m, q = super().means(g, s)
        s["most"] = torch.maximum(q, torch.as_tensor(s.get("most", 0.0), dtype=q.dtype))
        return m, s["most"]


class SizeNotSquare(Plain):
    def means(self, g, s):
        m, _ = super().means(g, s)
        s["size"] = self.betas[1] * s.get("size", 0) + (1 - self.betas[1]) * g.abs()
        return m, s["size"] ** 2


class OneCounter(Plain):
    """A parameter that had no gradient at first is corrected too little."""

    steps = 0

    def step(self):
        self.steps += 1
        for s in self.state:
            s["t"] = self.steps - 1
        super().step()


class CountedPerParameter(Plain):
    """One counter, which goes on with every parameter."""

    steps = 0

    def update(self, w, g, s):
        s["t"] = self.steps
        self.steps += 1
        super().update(w, g, s)


class CountedFromZero(Plain):
    def start(self):
        self.state = [{"t": -1, "m": 0, "q": 0} for _ in self.params]


class OneMemory(Plain):
    def start(self):
        self.state = [{"t": 0, "m": 0, "q": 0}] * len(self.params)


class MemoryByShape(Plain):
    def start(self):
        memory = {w.shape: {"t": 0, "m": 0, "q": 0} for w in self.params}
        self.state = [memory[w.shape] for w in self.params]


class MemoryOfTheClass(Plain):
    """A second optimiser goes on with the first one's memory."""

    memory: dict = {}

    def start(self):
        new = ({"t": 0, "m": 0, "q": 0} for _ in self.params)
        self.state = [self.memory.setdefault(k, s) for k, s in enumerate(new)]


class NoneIsZero(Plain):
    @torch.no_grad()
    def step(self):
        for w, s in zip(self.params, self.state, strict=True):
            g = torch.zeros_like(w) if w.grad is None else w.grad
            self.update(w, g, s)


class NoneDecays(Plain):
    @torch.no_grad()
    def step(self):
        for w, s in zip(self.params, self.state, strict=True):
            if w.grad is None:
                w *= 1 - self.lr * self.weight_decay
            else:
                self.update(w, w.grad, s)


class NoneIsForgotten(Plain):
    @torch.no_grad()
    def step(self):
        for w, s in zip(self.params, self.state, strict=True):
            self.update(w, w.grad, s)


class NoneStops(Plain):
    """Returns where it should continue."""

    @torch.no_grad()
    def step(self):
        for w, s in zip(self.params, self.state, strict=True):
            if w.grad is None:
                return
            self.update(w, w.grad, s)


class FirstOnly(Plain):
    @torch.no_grad()
    def step(self):
        self.update(self.params[0], self.params[0].grad, self.state[0])


class OtherTensor(Plain):
    """Makes a new tensor, and leaves the parameter as it was."""

    def update(self, w, g, s):
        w = w * (1 - self.lr * self.weight_decay) - self.lr * self.direction(g, s)


class MemoryIsTheGradient(Plain):
    """Keeps no memory from step to step."""

    def means(self, g, s):
        s.update(t=0, m=0, q=0)
        return super().means(g, s)


class Sign(Plain):
    def direction(self, g, s):
        return g.sign()


class WithGraph(Plain):
    """Raises: a leaf is changed in place where gradients are on."""

    def step(self):
        for w, s in zip(self.params, self.state, strict=True):
            if w.grad is not None:
                self.update(w, w.grad, s)


def other_defaults(**settings):
    """A class with other defaults than those of the stub."""

    class Other(Plain):
        def __init__(self, params, *given, **named):
            names = ("lr", "betas", "eps", "weight_decay")
            given = dict(zip(names, given, strict=False))
            super().__init__(params, **settings | given | named)

    return Other


class InPlace:
    def __init__(self, params, lr=0.001, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01):
        self.params, self.lr, (self.b1, self.b2) = list(params), lr, betas
        self.eps, self.weight_decay = eps, weight_decay
        self.t = [0] * len(self.params)
        self.m = [torch.zeros_like(w) for w in self.params]
        self.q = [torch.zeros_like(w) for w in self.params]

    def step(self):
        with torch.no_grad():
            for k, w in enumerate(self.params):
                if w.grad is None:
                    continue
                self.t[k] += 1
                self.m[k].lerp_(w.grad, 1 - self.b1)
                self.q[k].mul_(self.b2).addcmul_(w.grad, w.grad, value=1 - self.b2)
                size = (self.q[k] / (1 - self.b2 ** self.t[k])).sqrt_().add_(self.eps)
                w.mul_(1 - self.lr * self.weight_decay)
                w.addcdiv_(self.m[k], size, value=-self.lr / (1 - self.b1 ** self.t[k]))


class ByParameter:
    """A memory that is made when a parameter first has a gradient."""

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=1e-2):
        self.params, self.state = params, {}
        self.lr, self.betas, self.eps, self.weight_decay = lr, betas, eps, weight_decay

    def step(self):
        b1, b2 = self.betas
        for w in self.params:
            if w.grad is None:
                continue
            t, m, q = self.state.get(w, (0, 0.0, 0.0))
            g, t = w.grad.detach(), t + 1
            m, q = b1 * m + (1 - b1) * g, b2 * q + (1 - b2) * g * g
            self.state[w] = t, m, q
            ratio = m / (1 - b1**t) / ((q / (1 - b2**t)) ** 0.5 + self.eps)
            w.data.mul_(1 - self.lr * self.weight_decay).sub_(self.lr * ratio)


class OfTorch(torch.optim.Optimizer):
    def __init__(self, params, lr=0.001, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01):
        settings = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, settings)

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            b1, b2 = group["betas"]
            for w in (w for w in group["params"] if w.grad is not None):
                s = self.state[w]
                s["t"] = t = s.get("t", 0) + 1
                s["m"] = b1 * s.get("m", 0) + (1 - b1) * w.grad
                s["q"] = b2 * s.get("q", 0) + (1 - b2) * w.grad.square()
                root = (s["q"] / (1 - b2**t)).sqrt() + group["eps"]
                w -= group["lr"] * group["weight_decay"] * w
                w -= group["lr"] * s["m"] / (1 - b1**t) / root


class InNumpy:
    def __init__(self, params, lr=0.001, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01):
        self.params = [(w, [0, 0.0, 0.0]) for w in params]
        self.settings = lr, *betas, eps, weight_decay

    def step(self):
        lr, b1, b2, eps, decay = self.settings
        for w, s in self.params:
            if w.grad is None:
                continue
            g, numbers = w.grad.numpy(), w.detach().numpy()
            s[:] = s[0] + 1, b1 * s[1] + (1 - b1) * g, b2 * s[2] + (1 - b2) * g**2
            m, q = s[1] / (1 - b1 ** s[0]), s[2] / (1 - b2 ** s[0])
            numbers -= lr * (m / (np.sqrt(q) + eps) + decay * numbers)


class ByClosures:
    def __init__(self, params, lr=0.001, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01):
        def memory(w):
            """A generator: each next() is one step of w."""
            m, q, t = torch.zeros_like(w), torch.zeros_like(w), 0
            while True:
                t += 1
                m = torch.lerp(w.grad, m, betas[0])
                q = torch.lerp(w.grad.pow(2), q, betas[1])
                root = q.div(1 - betas[1] ** t).sqrt()
                step = m.div(1 - betas[0] ** t) / (root + eps)
                w.copy_(w - lr * weight_decay * w - lr * step)
                yield

        self.memories = [(w, memory(w)) for w in params]

    @torch.no_grad()
    def step(self):
        for w, memory in self.memories:
            if w.grad is not None:
                next(memory)


class DoublePrecision(Plain):
    def means(self, g, s):
        return super().means(g.double(), s)


WRONG = {
    "corrected_means": [
        running,
        corrected(lambda beta, t: 1 - beta**t, first=0),
        corrected(lambda beta, t: 1 - beta**t, first=2),
        corrected(lambda beta, t: 1 - beta),
        corrected(lambda beta, t: 1 - beta * t),
        corrected(lambda beta, t: 1 - 0.9**t),
        corrected(lambda beta, t: beta**t),
        corrected(lambda beta, t: 1 + beta**t),
        corrected(lambda beta, t: (1 - beta) ** t),
        corrected(lambda beta, t: 1 - t**beta),
        lambda values, beta: weighted_sums(values, 0.9),
        lambda values, beta: [
            m / (1 - beta ** len(values)) for m in running(values, beta)
        ],
        lambda values, beta: weighted_sums(values, beta)[-1],
        lambda values, beta: weighted_sums(values, beta)[:-1],
        lambda values, beta: [0.0, *weighted_sums(values, beta)],
        lambda values, beta: weighted_sums(values, beta)[::-1],
        lambda values, beta: weighted_sums(values[::-1], beta),
        lambda values, beta: [round(m, 2) for m in weighted_sums(values, beta)],
        lambda values, beta: [abs(m) for m in weighted_sums(values, beta)],
        correction_kept,
        started_at_the_first,
        betas_swapped,
        plain_means,
        of_the_last_two,
    ],
    "warmup_cosine": [
        scheduled(lambda step, warmup: step / warmup, half_cosine),
        scheduled(lambda step, warmup: (step + 1) / (warmup + 1), half_cosine),
        scheduled(lambda step, warmup: 1, half_cosine),
        scheduled(lambda step, warmup: (step + 1) // warmup, half_cosine),
        scheduled(warm, half_cosine, lambda step, warmup: step <= warmup),
        scheduled(warm, half_cosine, lambda step, warmup: step < warmup - 1),
        scheduled(warm, half_cosine, lambda step, warmup: False),
        scheduled(warm, lambda x: math.cos(math.pi * x)),
        scheduled(warm, lambda x: math.cos(math.pi * x / 2)),
        scheduled(warm, lambda x: 1 + math.cos(math.pi * x)),
        scheduled(warm, lambda x: 0.5 * (1 + math.cos(2 * math.pi * x))),
        scheduled(warm, lambda x: 0.5 * (1 + math.cos(180 * x))),
        scheduled(warm, lambda x: 0.5 * (1 - math.cos(math.pi * x))),
        scheduled(warm, lambda x: 0.5 * (1 + math.sin(math.pi * x))),
        scheduled(warm, lambda x: 0.5 * 1 + math.cos(math.pi * x)),
        scheduled(warm, lambda x: 0.5 * (1 + math.cos(3.14 * x))),
        scheduled(warm, lambda x: 1 - x),
        scheduled(warm, lambda x: 1),
        with_x(lambda step, total, warmup: step / total),
        with_x(lambda step, total, warmup: step / (total - warmup)),
        with_x(lambda step, total, warmup: (step - warmup) / total),
        with_x(lambda step, total, warmup: (step - warmup + 1) / (total - warmup)),
        with_x(lambda step, total, warmup: (step - warmup) / (total - warmup + 1)),
        with_x(lambda step, total, warmup: (step - warmup) / max(total - warmup - 1, 1)),
        with_x(lambda step, total, warmup: (step - warmup) // (total - warmup)),
        the_smaller_one,
        only_warm,
        only_falls,
        peak_forgotten,
        lambda step, total, warmup, peak: in_two_branches(step, total, warmup, 0.1),
    ],
    "AdamW": [
        DecayInGradient,
        DecayWithoutRate,
        DecayAfterwards,
        NoDecay,
        UsualDecay,
        UsualRate,
        UsualBetas,
        SwappedBetas,
        Uncorrected,
        MomentUncorrected,
        EpsilonInside,
        NoEpsilon,
        UsualEpsilon,
        NoRoot,
        Amsgrad,
        SizeNotSquare,
        OneCounter,
        CountedPerParameter,
        CountedFromZero,
        OneMemory,
        MemoryByShape,
        MemoryOfTheClass,
        NoneIsZero,
        NoneDecays,
        NoneIsForgotten,
        NoneStops,
        FirstOnly,
        OtherTensor,
        MemoryIsTheGradient,
        Sign,
        WithGraph,
        other_defaults(lr=0.01),
        other_defaults(weight_decay=0.0),
        other_defaults(betas=(0.9, 0.99)),
        other_defaults(eps=1e-6),
    ],
}

RIGHT = {
    "corrected_means": [
        weighted_sums,
        weighted_by_numpy,
        never_uncorrected,
        two_sums,
        accumulated,
        by_a_matrix,
        by_recursion,
        lerped,
        corrected(lambda beta, t: 1 - math.pow(beta, t)),
        lambda values, beta: np.array(weighted_sums(values, beta)),
    ],
    "warmup_cosine": [
        in_two_branches,
        of_all_steps,
        by_the_scheduler,
        Schedule(),
        functools.partial(in_two_branches),
        scheduled(warm, lambda x: math.cos(math.pi / 2 * x) ** 2),
        scheduled(warm, lambda x: 1 - math.sin(math.pi / 2 * x) ** 2),
        scheduled(warm, lambda x: 0.5 * (1 + np.cos(np.pi * np.array(x)))),
        scheduled(warm, lambda x: (1 + torch.cos(torch.tensor(math.pi * x))) / 2),
        scheduled(warm, lambda x: (1 + cmath.exp(1j * math.pi * x).real) / 2),
    ],
    "AdamW": [InPlace, ByParameter, OfTorch, InNumpy, ByClosures, Plain, DoublePrecision],
}
