"""Answers to the exercises of the lesson on cross-entropy."""

import math

import numpy as np
import torch
import torch.nn.functional as F


def nats(logits, y):
    """The cross-entropy of each example, (B,)."""
    return torch.logsumexp(logits, 1) - logits.gather(1, y[:, None])[:, 0]


def numpy_bits(logits, y):
    z, y = np.asarray(logits), np.asarray(y)
    return np.mean(np.logaddexp.reduce(z, axis=1) - z[np.arange(len(y)), y]) / np.log(2)


def bits_in_a_loop(logits, y):
    total = 0.0
    for row, label in zip(logits.tolist(), y.tolist(), strict=True):
        m = max(row)
        total += m + math.log(sum(math.exp(z - m) for z in row)) - row[label]
    return total / len(y) / math.log(2)


def dz_of(x, y, W, b):
    return (torch.softmax(x @ W.T + b, 1) - F.one_hot(y, len(b))) / len(y)


def by_autograd(x, y, W, b):
    """Without autograd, says the statement."""
    x = x.detach().clone().requires_grad_()
    F.cross_entropy(x @ W.T + b, y).backward()
    return x.grad


def ones_taken_off(x, y, W, b):
    p = torch.softmax(x @ W.T + b, 1)
    p[torch.arange(len(y)), y] -= 1
    return p @ W / len(y)


def pixel_by_pixel(x, y, W, b):
    p = torch.softmax(x @ W.T + b, 1)
    gradient = torch.zeros_like(x)
    for n in range(len(x)):
        for j in range(len(b)):
            gradient[n] += (p[n, j] - float(y[n] == j)) * W[j] / len(x)
    return gradient


def input_gradient_in_numpy(x, y, W, b):
    x, y, W, b = (np.asarray(v) for v in (x, y, W, b))
    z = x @ W.T + b
    p = np.exp(z - z.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    return (p - np.eye(len(b))[y]) @ W / len(y)


def smoothed(logits, y, alpha):
    K = logits.shape[1]
    return (1 - alpha) * F.one_hot(y, K) + alpha / K


def smoothed_by_autograd(logits, y, alpha):
    """This statement does not forbid it."""
    z = logits.detach().clone().requires_grad_()
    loss = F.cross_entropy(z, y, label_smoothing=alpha)
    return torch.autograd.grad(loss, z)[0]


def smoothed_in_a_loop(logits, y, alpha):
    B, K = logits.shape
    rows = []
    for row, label in zip(logits.tolist(), y.tolist(), strict=True):
        e = [math.exp(z - max(row)) for z in row]
        p = [v / sum(e) for v in e]
        q = [(1 - alpha) * (label == j) + alpha / K for j in range(K)]
        rows.append([(p[j] - q[j]) / B for j in range(K)])
    return rows


def smoothed_in_place(logits, y, alpha):
    q = torch.full_like(logits, alpha / logits.shape[1])
    q[torch.arange(len(y)), y] += 1 - alpha
    return logits.softmax(1).sub_(q).div_(len(y))


def smoothed_in_numpy(logits, y, alpha):
    z = np.asarray(logits)
    p = np.exp(z - z.max(1, keepdims=True))
    p = p / p.sum(1, keepdims=True)
    K = z.shape[1]
    return (p - ((1 - alpha) * np.eye(K)[np.asarray(y)] + alpha / K)) / len(z)


def rest_shared(logits, y, alpha):
    """alpha / (K - 1) for the others."""
    K = logits.shape[1]
    one_hot = F.one_hot(y, K)
    q = (1 - alpha) * one_hot + alpha / (K - 1) * (1 - one_hot)
    return (torch.softmax(logits, 1) - q) / len(y)


def rest_only(logits, y, alpha):
    """alpha / K for the others, and none of it for the label."""
    K = logits.shape[1]
    one_hot = F.one_hot(y, K)
    q = (1 - alpha) * one_hot + alpha / K * (1 - one_hot)
    return (torch.softmax(logits, 1) - q) / len(y)


def through_autograd(g, log_p):
    """log_p are logits, too, and log-softmax leaves them as they are."""
    z = log_p.detach().clone().requires_grad_()
    torch.log_softmax(z, 1).backward(g)
    return z.grad


def through_the_jacobian(g, log_p):
    p = log_p.exp()
    eye = torch.eye(p.shape[1], dtype=p.dtype)
    jacobian = eye - p[:, None, :]  # (B, i, j)
    return torch.bmm(g[:, None], jacobian)[:, 0]


def backward_in_a_loop(g, log_p):
    result = torch.empty_like(g)
    for n in range(g.shape[0]):
        for j in range(g.shape[1]):
            result[n, j] = g[n, j] - math.exp(log_p[n, j]) * sum(g[n].tolist())
    return result


def trained(
    x,
    y,
    classes,
    steps,
    lr,
    *,
    start=0.0,
    mean=True,
    bias=True,
    sign=-1,
    dim=1,
    decay=0.0,
):
    """The solution, and what becomes of it where one thing is different."""
    W = torch.full((classes, x.shape[1]), start, dtype=x.dtype)
    b = torch.zeros(classes, dtype=x.dtype)
    for _ in range(steps):
        dz = torch.softmax(x @ W.T + b, dim) - F.one_hot(y, classes)
        dz = dz / len(y) if mean else dz
        W = W + sign * lr * (dz.T @ x + decay * W)
        b = b + sign * lr * dz.sum(0) * bias
    return W, b


def in_float32(x, y, classes, steps, lr):
    """The dtypes of x and W differ: raises for float64."""
    W, b = torch.zeros(classes, x.shape[1]), torch.zeros(classes)
    for _ in range(steps):
        dz = (torch.softmax(x @ W.T + b, 1) - F.one_hot(y, classes)) / len(y)
        W -= lr * dz.T @ x
        b -= lr * dz.sum(0)
    return W, b


def one_after_the_other(x, y, classes, steps, lr):
    """b moves after W has moved, by a new p."""
    W = torch.zeros(classes, x.shape[1], dtype=x.dtype)
    b = torch.zeros(classes, dtype=x.dtype)
    one_hot = F.one_hot(y, classes)
    for _ in range(steps):
        W -= lr * ((torch.softmax(x @ W.T + b, 1) - one_hot) / len(y)).T @ x
        b -= lr * ((torch.softmax(x @ W.T + b, 1) - one_hot) / len(y)).sum(0)
    return W, b


def with_momentum(x, y, classes, steps, lr):
    W = torch.zeros(classes, x.shape[1], dtype=x.dtype)
    b = torch.zeros(classes, dtype=x.dtype)
    vW, vb = torch.zeros_like(W), torch.zeros_like(b)
    for _ in range(steps):
        dz = (torch.softmax(x @ W.T + b, 1) - F.one_hot(y, classes)) / len(y)
        vW, vb = 0.9 * vW + dz.T @ x, 0.9 * vb + dz.sum(0)
        W, b = W - lr * vW, b - lr * vb
    return W, b


def example_by_example(x, y, classes, steps, lr):
    """Stochastic: a step for each example."""
    W = torch.zeros(classes, x.shape[1], dtype=x.dtype)
    b = torch.zeros(classes, dtype=x.dtype)
    for _ in range(steps):
        for image, label in zip(x, y, strict=True):
            dz = torch.softmax(W @ image + b, 0) - F.one_hot(label, classes)
            W -= lr * dz[:, None] * image
            b -= lr * dz
    return W, b


def squared_error(x, y, classes, steps, lr):
    W = torch.zeros(classes, x.shape[1], dtype=x.dtype)
    b = torch.zeros(classes, dtype=x.dtype)
    for _ in range(steps):
        p = torch.softmax(x @ W.T + b, 1)
        error = 2 * (p - F.one_hot(y, classes)) / len(y)
        dz = p * (error - (error * p).sum(1, keepdim=True))
        W -= lr * dz.T @ x
        b -= lr * dz.sum(0)
    return W, b


def returns_early(x, y, classes, steps, lr):
    for _ in range(steps):
        return trained(x, y, classes, 1, lr)
    return trained(x, y, classes, 0, lr)


def by_an_optimiser(x, y, classes, steps, lr):
    """No autograd, no optimiser, says the statement."""
    W = torch.zeros(classes, x.shape[1], dtype=x.dtype, requires_grad=True)
    b = torch.zeros(classes, dtype=x.dtype, requires_grad=True)
    optimizer = torch.optim.SGD([W, b], lr)
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(x @ W.T + b, y).backward()
        optimizer.step()
    return W.detach(), b.detach()


def classifier_by_autograd(x, y, classes, steps, lr):
    W = torch.zeros(classes, x.shape[1], dtype=x.dtype, requires_grad=True)
    b = torch.zeros(classes, dtype=x.dtype, requires_grad=True)
    for _ in range(steps):
        dW, db = torch.autograd.grad(F.cross_entropy(x @ W.T + b, y), [W, b])
        with torch.no_grad():
            W -= lr * dW
            b -= lr * db
    return W.detach(), b.detach()


def with_a_column_of_ones(x, y, classes, steps, lr):
    x = torch.cat([x, torch.ones_like(x[:, :1])], 1)  # (N, D + 1)
    W = torch.zeros(classes, x.shape[1], dtype=x.dtype)
    for _ in range(steps):
        p = (x @ W.T).softmax(1)
        W = W - lr * torch.einsum("nk,nd->kd", p - torch.eye(classes)[y], x) / len(x)
    return W[:, :-1], W[:, -1]


def trained_in_numpy(x, y, classes, steps, lr):
    x, one_hot = np.asarray(x), np.eye(classes)[np.asarray(y)]
    W, b = np.zeros((classes, x.shape[1])), np.zeros(classes)
    for _ in range(steps):
        z = x @ W.T + b
        p = np.exp(z - z.max(1, keepdims=True))
        dz = (p / p.sum(1, keepdims=True) - one_hot) / len(x)
        W, b = W - lr * dz.T @ x, b - lr * dz.sum(0)
    return W, b


def step_after_step(x, y, classes, steps, lr):
    """By recursion."""
    if steps == 0:
        return x.new_zeros(classes, x.shape[1]), x.new_zeros(classes)
    W, b = step_after_step(x, y, classes, steps - 1, lr)
    dz = (torch.softmax(x @ W.T + b, 1) - F.one_hot(y, classes)) / len(y)
    return W - lr * dz.T @ x, b - lr * dz.sum(0)


def transposed(x, y, classes, steps, lr):
    """W is (D, K) inside, and a view of it is returned."""
    W, b = x.new_zeros(x.shape[1], classes), x.new_zeros(1, classes)
    while steps > 0:
        dz = torch.softmax(x @ W + b, 1)
        dz[range(len(y)), y] -= 1
        W, b = W - lr / len(y) * (x.T @ dz), b - lr / len(y) * dz.sum(0, keepdim=True)
        steps -= 1
    return W.T, b[0]


WRONG = {
    "bits_per_label": [
        lambda logits, y: nats(logits, y).mean(),
        lambda logits, y: nats(logits, y).mean() * math.log(2),
        lambda logits, y: nats(logits, y).mean() / math.log(10),
        lambda logits, y: nats(logits, y).mean() / math.log(logits.shape[1]),
        lambda logits, y: nats(logits, y).sum() / math.log(2),
        lambda logits, y: nats(logits, y) / math.log(2),
        lambda logits, y: -nats(logits, y).mean() / math.log(2),
        lambda logits, y: nats(logits, y)[0] / math.log(2),
        lambda logits, y: nats(logits, y).median() / math.log(2),
        lambda logits, y: nats(logits, y).mean() / logits.shape[1] / math.log(2),
        lambda logits, y: 2 ** (nats(logits, y).mean() / math.log(2)),
        lambda logits, y: nats(logits, y).mean() / 0.7,
        lambda logits, y: (
            (torch.logsumexp(logits, 0) - logits[torch.arange(len(y)), y]).mean()
            / math.log(2)
        ),
        lambda logits, y: (
            (
                torch.logsumexp(logits, 1) - logits[:, y]  # (B, B)
            ).mean()
            / math.log(2)
        ),
        lambda logits, y: (
            (torch.logsumexp(logits, 1) - logits.amax(1)).mean() / math.log(2)
        ),
        lambda logits, y: -torch.log2(torch.softmax(logits, 1)[range(len(y)), y]).mean(),
        lambda logits, y: (
            -torch.log2(torch.softmax(logits, 1)[range(len(y)), y] + 1e-9).mean()
        ),
        lambda logits, y: (
            (
                torch.log2(logits.exp().sum(1))
                - logits[range(len(y)), y] / math.log(2)  # overflow
            ).mean()
        ),
        lambda logits, y: (
            -torch.log2(torch.softmax(logits, 1).gather(1, y[:, None]).mean())
        ),
        lambda logits, y: -(F.log_softmax(logits, 1) / math.log(2)).mean(),
        lambda logits, y: (
            torch.log2((2**logits).sum(1)) - logits[range(len(y)), y]
        ).mean(),
        lambda logits, y: F.cross_entropy(logits, y) / math.log(2),  # forbidden
    ],
    "input_gradient": [
        lambda x, y, W, b: dz_of(x, y, W, b),
        lambda x, y, W, b: dz_of(x, y, W, b).T @ x,
        lambda x, y, W, b: dz_of(x, y, W, b) @ W * len(y),
        lambda x, y, W, b: -dz_of(x, y, W, b) @ W,
        lambda x, y, W, b: dz_of(x, y, W, torch.zeros_like(b)) @ W,
        lambda x, y, W, b: dz_of(x, y, W, b) @ W + b.sum(),
        lambda x, y, W, b: dz_of(x, y, W, b) @ W / len(b),
        lambda x, y, W, b: dz_of(x, y, W, b) @ W * len(y) / x.shape[1],
        lambda x, y, W, b: (dz_of(x, y, W, b) @ W).sum(0),
        lambda x, y, W, b: (dz_of(x, y, W, b) @ W).abs(),
        lambda x, y, W, b: (dz_of(x, y, W, b) @ W).T,
        lambda x, y, W, b: dz_of(x, y, W, b) @ W.T,
        lambda x, y, W, b: dz_of(x, y, W, b) @ W * x,
        lambda x, y, W, b: torch.softmax(x @ W.T + b, 1) @ W / len(y),
        lambda x, y, W, b: -W[y] / len(y),
        lambda x, y, W, b: (
            (torch.softmax(x @ W.T + b, 0) - F.one_hot(y, len(b))) / len(y) @ W
        ),
        lambda x, y, W, b: (
            (torch.softmax(x @ W.T + b, 1) - F.one_hot(y)) / len(y) @ W
        ),  # raises where the last class does not occur
        lambda x, y, W, b: (
            (torch.softmax(x @ W.T + b, 1) - F.one_hot(y, 10)) / len(y) @ W
        ),
        lambda x, y, W, b: (torch.log_softmax(x @ W.T + b, 1) - F.one_hot(y, len(b))) @ W,
        lambda x, y, W, b: (x @ W.T + b - F.one_hot(y, len(b))) / len(y) @ W,
        by_autograd,
    ],
    "smoothed_gradient": [
        lambda logits, y, alpha: smoothed_by_autograd(logits, y, 0.0),
        lambda logits, y, alpha: smoothed_by_autograd(logits, y, 0.1),
        lambda logits, y, alpha: smoothed_by_autograd(logits, y, 1 - alpha),
        lambda logits, y, alpha: smoothed_by_autograd(logits, y, alpha) * len(y),
        lambda logits, y, alpha: -smoothed_by_autograd(logits, y, alpha),
        lambda logits, y, alpha: smoothed_by_autograd(logits, y, 0.0) * (1 - alpha),
        lambda logits, y, alpha: smoothed_by_autograd(logits, y, alpha).mean(0),
        lambda logits, y, alpha: smoothed_by_autograd(logits, y, alpha) / logits.shape[1],
        lambda logits, y, alpha: smoothed_by_autograd(logits, y, alpha / logits.shape[1]),
        lambda logits, y, alpha: (
            (torch.softmax(logits, 0) - smoothed(logits, y, alpha)) / len(y)
        ),
        lambda logits, y, alpha: smoothed(logits, y, alpha) / len(y),
        lambda logits, y, alpha: (logits - smoothed(logits, y, alpha)) / len(y),
        lambda logits, y, alpha: (
            (logits.softmax(1) - (1 - alpha) * F.one_hot(y, logits.shape[1])) / len(y)
        ),
        lambda logits, y, alpha: (
            (logits.softmax(1) - (1 - alpha) * F.one_hot(y, logits.shape[1]) - alpha)
            / len(y)
        ),
        lambda logits, y, alpha: (
            (logits.softmax(1) - (1 - alpha) * F.one_hot(y, logits.shape[1]) - alpha / 10)
            / len(y)
        ),
        lambda logits, y, alpha: (
            (logits.softmax(1) - (1 - alpha) * F.one_hot(y) - alpha / logits.shape[1])
            / len(y)
        ),
        lambda logits, y, alpha: (
            (logits.softmax(1) - F.one_hot(y, logits.shape[1]) - alpha / logits.shape[1])
            / len(y)
        ),
        lambda logits, y, alpha: (
            (
                logits.softmax(1)
                - (1 - alpha) * F.one_hot(y, logits.shape[1])
                - alpha / (y.max() + 1)
            )
            / len(y)
        ),
        lambda logits, y, alpha: F.cross_entropy(logits, y, label_smoothing=alpha),
        rest_shared,
        rest_only,
    ],
    "log_softmax_backward": [
        lambda g, log_p: g - log_p.exp(),
        lambda g, log_p: g + log_p.exp(),  # right where the sum of g is -1
        lambda g, log_p: log_p.exp() - g,
        lambda g, log_p: g - log_p * g.sum(1, keepdim=True),
        lambda g, log_p: g - log_p.exp() * g,
        lambda g, log_p: log_p.exp() * (g - (g * log_p.exp()).sum(1, keepdim=True)),
        lambda g, log_p: g - log_p.exp() * (g * log_p.exp()).sum(1, keepdim=True),
        lambda g, log_p: g - log_p.exp() * g.mean(1, keepdim=True),
        lambda g, log_p: g - log_p.exp() * g.sum(0, keepdim=True),
        lambda g, log_p: g - log_p.exp() * g.sum(),
        lambda g, log_p: g - log_p.exp() * g.sum(1),  # raises unless B = K
        lambda g, log_p: g + log_p.exp() * g.sum(1, keepdim=True),
        lambda g, log_p: log_p.exp() * g.sum(1, keepdim=True) - g,
        lambda g, log_p: log_p.exp() * g.sum(1, keepdim=True),
        lambda g, log_p: (g - log_p.exp() * g.sum(1, keepdim=True)) / len(g),
        lambda g, log_p: g - torch.softmax(log_p, 0) * g.sum(1, keepdim=True),
        lambda g, log_p: g - torch.softmax(log_p.exp(), 1) * g.sum(1, keepdim=True),
        lambda g, log_p: g - 2**log_p * g.sum(1, keepdim=True),
        lambda g, log_p: g,
        lambda g, log_p: g * (1 - log_p.exp()),
        lambda g, log_p: (g - log_p.exp() * g.sum(1, keepdim=True))[:1],
        lambda g, log_p: g - log_p.exp() * g.abs().sum(1, keepdim=True),
    ],
    "classifier": [
        lambda x, y, classes, steps, lr: trained(x, y, classes, steps + 1, lr),
        lambda x, y, classes, steps, lr: trained(x, y, classes, max(steps - 1, 0), lr),
        lambda x, y, classes, steps, lr: trained(x, y, classes, 100, lr),
        lambda x, y, classes, steps, lr: trained(x, y, classes, steps, 0.1),
        lambda x, y, classes, steps, lr: trained(x, y, int(y.max()) + 1, steps, lr),
        lambda x, y, classes, steps, lr: trained(x, y, 10, steps, lr),
        lambda *given: trained(*given, start=1.0),
        lambda *given: trained(*given, mean=False),
        lambda *given: trained(*given, bias=False),
        lambda *given: trained(*given, sign=1),
        lambda *given: trained(*given, dim=0),
        lambda *given: trained(*given, decay=1e-2),
        lambda *given: trained(*given)[0],
        lambda *given: trained(*given)[::-1],
        lambda *given: (trained(*given)[0].T, trained(*given)[1]),
        lambda *given: (trained(*given)[0], trained(*given)[1][:, None]),
        lambda *given: (trained(*given)[0], trained(*given)[1].mean()),
        in_float32,
        one_after_the_other,
        with_momentum,
        example_by_example,
        squared_error,
        returns_early,
        by_an_optimiser,
        classifier_by_autograd,
    ],
}

RIGHT = {
    "bits_per_label": [
        lambda logits, y: nats(logits, y).mean() / math.log(2),
        lambda logits, y: nats(logits, y).mean().item() * math.log2(math.e),
        lambda logits, y: (
            -F.log_softmax(logits, 1)[range(len(y)), y].mean() / math.log(2)
        ),
        lambda logits, y: F.nll_loss(logits.log_softmax(1) / math.log(2), y),
        lambda logits, y: (
            (logits.logsumexp(1) - (logits * F.one_hot(y, logits.shape[1])).sum(1)).mean()
            / torch.tensor(2.0).log()
        ),
        lambda logits, y: (
            torch.special.logsumexp(logits - logits.gather(1, y[:, None]), 1).mean()
            / np.log(2)
        ),
        lambda logits, y: sum(nats(logits, y) / len(y)) / math.log(2),
        lambda logits, y: nats(logits.double(), y).mean().numpy() / np.log(2),
        numpy_bits,
        bits_in_a_loop,
    ],
    "input_gradient": [
        lambda x, y, W, b: dz_of(x, y, W, b) @ W,
        lambda x, y, W, b: torch.einsum("bk,kd->bd", dz_of(x, y, W, b), W),
        lambda x, y, W, b: (W.T @ dz_of(x, y, W, b).T).T,
        lambda x, y, W, b: (torch.softmax(x @ W.T + b, 1) @ W - W[y]) / len(y),
        lambda x, y, W, b: (
            (F.linear(x, W, b).log_softmax(1).exp() - torch.eye(len(b))[y]) @ W / len(x)
        ),
        lambda x, y, W, b: (dz_of(x, y, W, b)[:, :, None] * W).sum(1),
        lambda x, y, W, b: (dz_of(x, y, W, b) @ W).tolist(),
        ones_taken_off,
        pixel_by_pixel,
        input_gradient_in_numpy,
    ],
    "smoothed_gradient": [
        lambda logits, y, alpha: (
            (logits.softmax(1) - smoothed(logits, y, alpha)) / len(y)
        ),
        lambda logits, y, alpha: (
            (
                torch.softmax(logits, 1)
                - torch.lerp(
                    F.one_hot(y, logits.shape[1]).to(logits.dtype),
                    torch.full_like(logits, 1 / logits.shape[1]),
                    alpha,
                )
            )
            / len(y)
        ),
        lambda logits, y, alpha: (
            (1 - alpha) * smoothed_by_autograd(logits, y, 0.0)
            + alpha * smoothed_by_autograd(logits, y, 1.0)
        ),
        smoothed_by_autograd,
        smoothed_in_a_loop,
        smoothed_in_place,
        smoothed_in_numpy,
    ],
    "log_softmax_backward": [
        lambda g, log_p: g - torch.exp(log_p) * g.sum(1).unsqueeze(1),
        lambda g, log_p: g - torch.softmax(log_p, 1) * g.sum(-1, keepdim=True),
        lambda g, log_p: torch.addcmul(g, log_p.exp(), g.sum(1, True), value=-1),
        lambda g, log_p: g - torch.einsum("bj,bi->bj", log_p.exp(), g),
        lambda g, log_p: (
            g.numpy() - np.exp(log_p.numpy()) * g.numpy().sum(1, keepdims=True)
        ),
        lambda g, log_p: g.clone().sub_(log_p.exp().mul_(g.sum(1, keepdim=True))),
        lambda g, log_p: [a - b.exp() * a.sum() for a, b in zip(g, log_p, strict=True)],
        through_autograd,
        through_the_jacobian,
        backward_in_a_loop,
    ],
    "classifier": [
        trained,
        with_a_column_of_ones,
        trained_in_numpy,
        step_after_step,
        transposed,
        lambda *given: [v.numpy() for v in trained(*given)],
        lambda *given: tuple(torch.nn.Parameter(v) for v in trained(*given)),
    ],
}
