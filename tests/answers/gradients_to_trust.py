"""Answers to the exercises of the lesson on gradients one can trust."""

import functools
import math
from fractions import Fraction

import numpy as np
import torch


def central(f, x, h=1e-5):
    return (f(x + h) - f(x - h)) / (2 * h)


def five_points(f, x):
    h = 1e-3
    far, near = f(x - 2 * h) - f(x + 2 * h), f(x + h) - f(x - h)
    return (far + 8 * near) / (12 * h)


def richardson(f, x):
    return (4 * central(f, x, 5e-4) - central(f, x, 1e-3)) / 3


def by_autograd(f, x):
    """f takes a number: math.sin of a tensor has no graph."""
    x = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    f(x).backward()
    return x.grad.item()


def step_of_x(f, x):
    """No step at all at 0."""
    h = 1e-5 * x
    return (f(x + h) - f(x - h)) / (2 * h)


def only_uphill(f, x):
    if central(f, x) > 0:
        return central(f, x)


class Slope:
    h = 4e-6

    def __call__(self, f, x):
        up, down = x + self.h, x - self.h
        return (f(up) - f(down)) / (up - down)


def walk_down(delta, inputs, zs, weights, step, grad=lambda d, a: (d.T @ a, d.sum(0))):
    """The repaired loop with another step down, or another gradient of a layer."""
    grads = []
    for layer in reversed(range(len(weights))):
        grads.insert(0, grad(delta, inputs[layer]))
        if layer > 0:
            delta = step(delta, layer)
    return grads


def with_step(step):
    """An answer: step(delta, layer, inputs, zs, weights, f_prime) is the new delta."""

    def answer(delta, inputs, zs, weights, f_prime):
        def down(d, layer):
            return step(d, layer, inputs, zs, weights, f_prime)

        return walk_down(delta, inputs, zs, weights, down)

    return answer


def with_grad(grad):
    """An answer: grad(delta, a) is the pair of a layer."""

    def answer(delta, inputs, zs, weights, f_prime):
        def down(d, layer):
            return d @ weights[layer] * f_prime(zs[layer - 1])

        return walk_down(delta, inputs, zs, weights, down, grad)

    return answer


repaired = with_grad(lambda d, a: (d.T @ a, d.sum(0)))


def changed(change):
    """An answer: the right list, then changed."""
    return lambda *given: change(repaired(*given))


def stepped_too_early(delta, inputs, zs, weights, f_prime):
    grads = []
    for layer in reversed(range(len(weights))):
        if layer > 0:
            delta = delta @ weights[layer] * f_prime(zs[layer - 1])
        grads.insert(0, (delta.T @ inputs[layer], delta.sum(0)))
    return grads


def of_three_layers(delta, inputs, zs, weights, f_prime):
    second = delta @ weights[2] * f_prime(zs[1])
    first = second @ weights[1] * f_prime(zs[0])
    deltas = zip((first, second, delta), inputs, strict=True)
    return [(d.T @ a, d.sum(0)) for d, a in deltas]


def first_layer_forgotten(delta, inputs, zs, weights, f_prime):
    grads = []
    for layer in range(len(weights) - 1, 0, -1):
        grads.insert(0, (delta.T @ inputs[layer], delta.sum(0)))
        delta = delta @ weights[layer] * f_prime(zs[layer - 1])
    return grads


def deltas_first(delta, inputs, zs, weights, f_prime):
    deltas = [delta]
    for W, z in zip(weights[:0:-1], zs[-2::-1], strict=True):
        deltas.append((deltas[-1] @ W) * f_prime(z))
    pairs = zip(reversed(deltas), inputs, strict=True)
    return [(d.T @ a, d.sum(axis=0)) for d, a in pairs]


def recursive(delta, inputs, zs, weights, f_prime):
    *before, a = inputs
    own = (np.einsum("bi,bj->ij", delta, a), np.einsum("bi->i", delta))
    if not before:
        return [own]
    *lower, W = weights
    below = np.dot(delta, W) * f_prime(zs[len(before) - 1])
    return [*recursive(below, before, zs, lower, f_prime), own]


def one_example_at_a_time(delta, inputs, zs, weights, f_prime):
    grads = [[np.zeros_like(W), np.zeros(len(W))] for W in weights]
    for b in range(len(delta)):
        d = delta[b]
        for layer in range(len(weights) - 1, -1, -1):
            grads[layer][0] += np.outer(d, inputs[layer][b])
            grads[layer][1] += d
            if layer:
                d = weights[layer].T @ d * f_prime(zs[layer - 1][b])
    return grads


def in_place(delta, inputs, zs, weights, f_prime):
    delta, grads = delta.copy(), []
    for layer in range(len(weights))[::-1]:
        grads.append((delta.T.dot(inputs[layer]), np.add.reduce(delta)))
        if layer:
            delta = delta @ weights[layer]
            delta *= f_prime(zs[layer - 1])
    grads.reverse()
    return grads


def by_gain(n_in, slope):
    return torch.nn.init.calculate_gain("leaky_relu", slope) / n_in**0.5


def not_for_zero(n_in, slope):
    """Divides by the slope, which may be 0."""
    return math.sqrt(2 / slope**2 / (1 / slope**2 + 1) / n_in)


def he_or_nothing(n_in, slope):
    if slope == 0:
        return math.sqrt(2 / n_in)
    if slope == 1:
        return math.sqrt(1 / n_in)


def nudges(loss, w, h=1e-5):
    nudged = np.zeros_like(w)
    for i in np.ndindex(w.shape):
        up, down = w.copy(), w.copy()
        up[i] += h
        down[i] -= h
        nudged[i] = (loss(up) - loss(down)) / (2 * h)
    return nudged


def forward_nudges(loss, w, h):
    nudged = np.zeros_like(w)
    for i in np.ndindex(w.shape):
        up = w.copy()
        up[i] += h
        nudged[i] = (loss(up) - loss(w)) / h
    return nudged


def relative(g, n, norm=np.linalg.norm):
    size = norm(g) + norm(n)
    return norm(g - n) / size if size > 0 else 0.0


def checked(measure, nudge=nudges):
    """An answer: measure(grad, nudged)."""
    return lambda loss, w, grad: measure(grad, nudge(loss, w))


def to_and_fro(loss, w, grad):
    """Leaves rounding errors in w."""
    nudged, h = np.zeros_like(w), 1e-5
    for i in np.ndindex(w.shape):
        w[i] += h
        up = loss(w)
        w[i] -= 2 * h
        nudged[i] = (up - loss(w)) / (2 * h)
        w[i] += h
    return relative(grad, nudged)


def never_back(loss, w, grad):
    nudged, h = np.zeros_like(w), 1e-7
    for i in np.ndindex(w.shape):
        w[i] += h
        up = loss(w)
        w[i] -= 2 * h
        nudged[i] = (up - loss(w)) / (2 * h)
    return relative(grad, nudged)


def row_by_row(loss, w, grad):
    """Nudges whole rows, and has none where w is 0-d."""
    nudged, h = np.zeros_like(w), 1e-5
    for i in range(len(w)):
        up, down = w.copy(), w.copy()
        up[i] += h
        down[i] -= h
        nudged[i] = (loss(up) - loss(down)) / (2 * h)
    return relative(grad, nudged)


def matrices_only(loss, w, grad):
    nudged, h = np.zeros_like(w), 1e-5
    for i in range(w.shape[0]):
        for j in range(w.shape[1]):
            up, down = w.copy(), w.copy()
            up[i, j] += h
            down[i, j] -= h
            nudged[i, j] = (loss(up) - loss(down)) / (2 * h)
    return relative(grad, nudged)


def flat_to_the_loss(loss, w, grad):
    """The loss gets a vector where it wants an array like w."""
    return relative(grad.ravel(), nudges(loss, w.ravel()))


def kept_value(loss, w, grad):
    nudged, h = np.empty(w.shape), 1e-5
    for i in np.ndindex(*w.shape):
        kept = w[i]
        w[i] = kept + h
        up = loss(w)
        w[i] = kept - h
        nudged[i] = (up - loss(w)) / (2 * h)
        w[i] = kept
    return relative(grad, nudged)


def restored_whole(loss, w, grad):
    before = w.copy()
    nudged = []
    for i in np.ndindex(w.shape):
        w[i] += 1e-5
        up = loss(w)
        w[i] -= 2e-5
        nudged.append((up - loss(w)) / 2e-5)
        w[...] = before
    return relative(grad.ravel(), np.array(nudged))


def along_unit_arrays(loss, w, grad):
    h, nudged = 2.0**-17, []
    for unit in np.eye(w.size):
        e = h * unit.reshape(w.shape)
        nudged.append((loss(w + e) - loss(w - e)) / (2 * h))
    g, n = grad.flatten().tolist(), [float(v) for v in nudged]
    size = math.hypot(*g) + math.hypot(*n)
    apart = math.dist(g, n)
    return 0 if size == 0 else apart / size


def by_torch_norm(loss, w, grad):
    g, n = torch.from_numpy(grad.copy()), torch.from_numpy(nudges(loss, w, 4e-6))
    size = g.norm() + n.norm()
    return (g - n).norm() / size if size else size


def zero_if_claimed(loss, w, grad):
    """0 although the nudged gradient is none."""
    return relative(grad, nudges(loss, w)) if grad.any() else 0.0


WRONG = {
    "slope": [
        lambda f, x: (f(x + 1e-5) - f(x)) / 1e-5,
        lambda f, x: (f(x) - f(x - 1e-6)) / 1e-6,
        lambda f, x: (f(x + 1e-8) - f(x)) / 1e-8,
        lambda f, x: central(f, x, 1e-2),
        lambda f, x: central(f, x, 1e-3),
        lambda f, x: central(f, x, 1e-10),
        lambda f, x: central(f, x, 1e-13),
        lambda f, x: central(f, x, 1e-20),
        lambda f, x: (f(x + 1e-5) - f(x - 1e-5)) / 1e-5,
        lambda f, x: (f(x + 1e-5) - f(x - 1e-5)) / 2 * 1e-5,
        lambda f, x: abs(central(f, x)),
        lambda f, x: -central(f, x),
        lambda f, x: round(central(f, x), 4),
        lambda f, x: float(np.float32(central(f, x))),  # seven digits
        lambda f, x: central(f, np.float32(x), np.float32(1e-3)),
        lambda f, x: f(complex(x, 1e-20)).imag / 1e-20,  # f takes a float
        lambda f, x: (f(x + 1e-5) - 2 * f(x) + f(x - 1e-5)) / 1e-10,
        by_autograd,
        step_of_x,
        only_uphill,
    ],
    "repaired_backward": [
        with_step(lambda d, k, a, zs, W, fp: d @ W[k] * fp(a[k])),  # the fault
        with_step(lambda d, k, a, zs, W, fp: d @ W[k]),
        with_step(lambda d, k, a, zs, W, fp: d @ W[k] * fp(zs[k])),
        with_step(lambda d, k, a, zs, W, fp: d @ W[k].T * fp(zs[k - 1])),
        with_step(lambda d, k, a, zs, W, fp: d @ W[k - 1] * fp(zs[k - 1])),
        with_step(lambda d, k, a, zs, W, fp: d @ W[k] * (zs[k - 1] > 0)),
        with_step(lambda d, k, a, zs, W, fp: d @ W[k] * (1 - a[k] ** 2)),  # tanh only
        with_step(lambda d, k, a, zs, W, fp: d @ W[k] * fp(zs[k - 1]).mean(0)),
        with_step(lambda d, k, a, zs, W, fp: d @ W[k] * fp(d @ W[k])),
        with_step(lambda d, k, a, zs, W, fp: d @ W[k] * fp(zs[0])),
        with_step(lambda d, k, a, zs, W, fp: d @ W[k] / fp(zs[k - 1])),
        with_step(lambda d, k, a, zs, W, fp: d @ W[k] + fp(zs[k - 1])),
        with_grad(lambda d, a: (d.T @ a, d.mean(0))),
        with_grad(lambda d, a: (d.T @ a / len(a), d.sum(0) / len(a))),
        with_grad(lambda d, a: (a.T @ d, d.sum(0))),
        with_grad(lambda d, a: (d.T @ a, d.sum(1))),
        with_grad(lambda d, a: (d.T @ a, d.sum(0, keepdims=True))),
        with_grad(lambda d, a: (d.T @ a, d.sum())),
        with_grad(lambda d, a: (d.sum(0), d.T @ a)),
        changed(lambda grads: grads[::-1]),
        changed(lambda grads: grads[-1:]),
        changed(lambda grads: [dW for dW, _ in grads]),
        changed(lambda grads: [g for pair in grads for g in pair]),
        changed(lambda grads: (grads, grads)),
        changed(lambda grads: [(np.round(dW), db) for dW, db in grads]),
        stepped_too_early,
        of_three_layers,
        first_layer_forgotten,
    ],
    "leaky_std": [
        lambda n_in, slope: math.sqrt(2 / n_in),
        lambda n_in, slope: math.sqrt(1 / n_in),
        lambda n_in, slope: 2 / ((1 + slope**2) * n_in),
        lambda n_in, slope: math.sqrt(2 / (1 + slope**2)),
        lambda n_in, slope: math.sqrt(2 / (1 + slope) / n_in),
        lambda n_in, slope: math.sqrt(2 / (1 + slope) ** 2 / n_in),
        lambda n_in, slope: math.sqrt(2 / (1 - slope**2) / n_in),
        lambda n_in, slope: math.sqrt(2 / (1 + slope**2) * n_in),
        lambda n_in, slope: math.sqrt(2 / 1 + slope**2 / n_in),
        lambda n_in, slope: math.sqrt(2 / (1 + 0.01**2) / n_in),
        lambda n_in, slope: math.sqrt(1 / (1 + slope**2) / n_in),
        lambda n_in, slope: math.sqrt((1 + slope**2) / (2 * n_in)),
        lambda n_in, slope: math.sqrt(2 / (1 + slope**2)) / n_in,
        lambda n_in, slope: math.sqrt((2 - slope) / n_in),  # right at 0 and 1
        lambda n_in, slope: math.sqrt(2 // (1 + slope**2) / n_in),
        lambda n_in, slope: math.sqrt(2 / ((1 + slope**2) * (n_in + 1))),
        lambda n_in, slope: round(math.sqrt(2 / (1 + slope**2) / n_in), 3),
        lambda n_in, slope: math.sqrt(6 / ((1 + slope**2) * n_in)),  # of a uniform one
        not_for_zero,
        he_or_nothing,
    ],
    "gradient_check": [
        checked(relative, functools.partial(forward_nudges, h=1e-2)),
        checked(relative, functools.partial(forward_nudges, h=1e-5)),
        checked(relative, functools.partial(nudges, h=1e-12)),
        checked(relative, functools.partial(nudges, h=1e-1)),
        checked(relative, lambda loss, w: nudges(loss, w) / 2),
        checked(relative, lambda loss, w: nudges(loss, w.astype(np.float32))),
        checked(lambda g, n: np.linalg.norm(g - n)),
        checked(lambda g, n: np.linalg.norm(g - n) / np.linalg.norm(g)),
        checked(lambda g, n: np.abs(g - n).max(initial=0)),
        checked(lambda g, n: 2 * relative(g, n)),
        checked(lambda g, n: relative(g, n) ** 2),
        checked(lambda g, n: relative(g, n) < 1e-7),
        checked(lambda g, n: relative(g, n) or None),
        checked(lambda g, n: relative(g, n, lambda v: np.abs(v).sum())),
        checked(lambda g, n: relative(g, n, lambda v: np.abs(v).max(initial=0))),
        checked(lambda g, n: relative(g, n, lambda v: (v**2).sum())),
        checked(lambda g, n: relative(g, n, lambda v: np.linalg.norm(v, 2))),
        checked(lambda g, n: relative(np.abs(g), np.abs(n))),
        checked(lambda g, n: np.mean(np.abs(g - n) / (np.abs(g) + np.abs(n) + 1e-30))),
        checked(lambda g, n: np.linalg.norm(g - n) / np.linalg.norm(g + n)),
        # too small where the gradients are
        checked(
            lambda g, n: (
                np.linalg.norm(g - n) / (np.linalg.norm(g) + np.linalg.norm(n) + 1e-8)
            )
        ),
        # nan where both are 0
        checked(
            lambda g, n: np.linalg.norm(g - n) / (np.linalg.norm(g) + np.linalg.norm(n))
        ),
        checked(lambda g, n: relative(g, n) if g.any() or n.any() else 1.0),
        zero_if_claimed,
        to_and_fro,
        never_back,
        row_by_row,
        matrices_only,
        flat_to_the_loss,
    ],
}

RIGHT = {
    "slope": [
        lambda f, x: (f(x + 3e-6) - f(x - 3e-6)) / 6e-6,
        lambda f, x: (f(x + 1e-5) - f(x)) / 2e-5 + (f(x) - f(x - 1e-5)) / 2e-5,
        lambda f, x: np.gradient([f(x - 1e-5), f(x), f(x + 1e-5)], 1e-5)[1],
        lambda f, x: torch.tensor(central(f, x), dtype=torch.float64),
        lambda f, x: np.array(central(f, x, 5e-6)),
        lambda f, x: central(f, x, 1e-5 * max(1.0, abs(x))),
        lambda f, x: central(f, x, np.cbrt(np.finfo(float).eps)),
        functools.partial(central, h=2.0**-17),
        five_points,
        richardson,
        Slope(),
    ],
    "repaired_backward": [
        deltas_first,
        recursive,
        one_example_at_a_time,
        in_place,
        repaired,
        changed(tuple),
        changed(lambda grads: [list(pair) for pair in grads]),
        changed(lambda grads: [tuple(map(torch.from_numpy, pair)) for pair in grads]),
        changed(lambda grads: [(dW.tolist(), db.tolist()) for dW, db in grads]),
        with_grad(lambda d, a: ((a.T @ d).T, np.ones(len(d)) @ d)),
        with_step(lambda d, k, a, zs, W, fp: (W[k].T @ d.T).T * fp(zs[k - 1])),
        with_step(lambda d, k, a, zs, W, fp: np.multiply(fp(zs[k - 1]), d.dot(W[k]))),
    ],
    "leaky_std": [
        lambda n_in, slope: np.sqrt(2 / (n_in * (1 + slope**2))),
        lambda n_in, slope: (2 / n_in / (1 + slope * slope)) ** 0.5,
        lambda n_in, slope: torch.tensor(2 / ((1 + slope**2) * n_in)).sqrt(),
        lambda n_in, slope: math.sqrt(2) / math.hypot(1, slope) / math.sqrt(n_in),
        lambda n_in, slope: math.sqrt(1 / (n_in * (0.5 + 0.5 * slope**2))),
        lambda n_in, slope: math.exp(0.5 * math.log(2 / (1 + slope**2) / n_in)),
        lambda n_in, slope: np.array([2 / (1 + slope**2) / n_in]).sum() ** 0.5,
        lambda n_in, slope: float(Fraction(2, n_in) / (1 + Fraction(slope) ** 2)) ** 0.5,
        by_gain,
    ],
    "gradient_check": [
        kept_value,
        restored_whole,
        along_unit_arrays,
        by_torch_norm,
        checked(relative),
        checked(relative, functools.partial(nudges, h=3e-6)),
        checked(lambda g, n: float(relative(g, n))),
        checked(lambda g, n: np.array(relative(g, n))),
        checked(lambda g, n: relative(g, n, lambda v: np.sqrt(np.vdot(v, v)))),
        checked(lambda g, n: relative(g, n, lambda v: math.sqrt(np.sum(v**2)))),
    ],
}
