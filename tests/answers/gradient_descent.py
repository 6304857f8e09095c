"""Answers to the exercises of the lesson on gradient descent."""

import functools
import math
import random
from fractions import Fraction

import numpy as np
import torch
import torch.nn.functional as F


def largest(H):
    return torch.linalg.eigvalsh(H)[-1].item()


def of_two_by_two(H):
    """No formula for D = 3."""
    (a, b), (_, d) = H[:2, :2].tolist()
    return 2 / ((a + d) / 2 + math.hypot((a - d) / 2, b))


def after_few_steps(H):
    v = torch.ones(len(H), dtype=H.dtype)
    for _ in range(3):
        v = H @ v / (H @ v).norm()
    return 2 / (v @ H @ v).item()


def first_of_unordered(H):
    return 2 / torch.linalg.eigvals(H).real[0].item()


def by_squaring(H):
    P = H / H.norm()
    for _ in range(60):
        P = P @ P
        P = P / P.norm()
    v = P[:, P.diagonal().argmax()]
    return (2 * (v @ v) / (v @ H @ v)).item()


def kept_below_one(n, draws):
    return min(draws / n, 1.0)


def seen_in_a_loop(n, draws):
    share = 0.0
    for _ in range(draws):
        share += (1 - share) / n
    return share


def seen_by_logarithms(n, draws):
    if n == 1:
        return float(draws > 0)
    return -math.expm1(draws * math.log1p(-1 / n))


def seen_by_trying(n, draws):
    """Random."""
    return len({random.randrange(n) for _ in range(draws)}) / n


def variance(gradients):
    return (gradients - gradients.mean(0)).square().sum(1).mean().item()


def noise(variance_of, correction=lambda N, B: (N - B) / (N - 1)):
    """An answer with this variance, divided by B, and this correction."""

    def answer(gradients, B):
        return variance_of(gradients) / B * correction(len(gradients), B)

    return answer


def by_drawing(gradients, B):
    full, errors = gradients.mean(0), []
    for _ in range(100):
        batch = gradients[torch.randperm(len(gradients))[:B]].mean(0)
        errors.append((batch - full).square().sum().item())
    return sum(errors) / len(errors)


def not_for_all(gradients, B):
    if len(gradients) > B:
        return noise(variance)(gradients, B)


def by_lists(gradients, B):
    rows = gradients.tolist()
    N = len(rows)
    means = [sum(column) / N for column in zip(*rows, strict=True)]
    squares = [sum((g - m) ** 2 for g, m in zip(r, means, strict=True)) for r in rows]
    return sum(squares) / N / B * (N - B) / (N - 1)


def by_pairs(gradients, B):
    """The mean squared distance of two examples is twice the variance."""
    N = len(gradients)
    apart = (gradients[:, None] - gradients[None]).pow(2).sum()
    return float(apart / (2 * N * N) * (N - B) / (B * (N - 1)))


class Noise:
    def __call__(self, gradients, B):
        a, N = gradients.numpy(), len(gradients)
        return a.var(axis=0, ddof=1).sum() * (1 / B - 1 / N)


def slope(W, x, y):
    """The sum over the examples, (K, D)."""
    return ((x @ W.T).softmax(1) - y).T @ x


def trained(change=None, cut=None, gradient=None):
    """An answer: change(W, lr * gradient) are the new weights, cut(order, size) the
    batches, gradient(W, x, y, size) the batch's."""
    change = change or (lambda W, step: W - step)
    cut = cut or (lambda order, size: order.split(size))
    gradient = gradient or (lambda W, x, y, size: slope(W, x, y) / len(x))

    def answer(W, x, labels, lr, batch_size, orders):
        y = F.one_hot(labels, len(W)).to(x.dtype)
        for order in orders:
            for index in cut(order, batch_size):
                W = change(W, lr * gradient(W, x[index], y[index], batch_size))
        return W

    return answer


def full_batches(order, size):
    return [order[i : i + size] for i in range(0, len(order) - size + 1, size)]


def equal_parts(order, size):
    return order.chunk(-(-len(order) // size))


def in_place(W, step):
    W -= step
    return W


def as_many_as_seen(W, x, labels, lr, batch_size, orders):
    """K from the labels: the last class may have no example."""
    y = F.one_hot(labels).to(x.dtype)
    for order in orders:
        for index in order.split(batch_size):
            W = W - lr * slope(W, x[index], y[index]) / len(index)
    return W


def first_epoch(W, x, labels, lr, batch_size, orders):
    return trained()(W, x, labels, lr, batch_size, orders[:1])


def same_order_again(W, x, labels, lr, batch_size, orders):
    return trained()(W, x, labels, lr, batch_size, [orders[0]] * len(orders))


def not_shuffled(W, x, labels, lr, batch_size, orders):
    return trained()(W, x, labels, lr, batch_size, [o.sort().values for o in orders])


def labels_not_shuffled(W, x, labels, lr, batch_size, orders):
    y = F.one_hot(labels, len(W)).to(x.dtype)
    for order in orders:
        moved = x[order]
        for xb, yb in zip(moved.split(batch_size), y.split(batch_size), strict=True):
            W = W - lr * slope(W, xb, yb) / len(xb)
    return W


def one_step_an_epoch(W, x, labels, lr, batch_size, orders):
    y = F.one_hot(labels, len(W)).to(x.dtype)
    for order in orders:
        total = torch.zeros_like(W)
        for index in order.split(batch_size):
            total += slope(W, x[index], y[index]) / len(index)
        W = W - lr * total
    return W


def returned_too_early(W, x, labels, lr, batch_size, orders):
    y = F.one_hot(labels, len(W)).to(x.dtype)
    for order in orders:
        for index in order.split(batch_size):
            W = W - lr * slope(W, x[index], y[index]) / len(index)
        return W


def smaller_each_epoch(W, x, labels, lr, batch_size, orders):
    for k, order in enumerate(orders, 1):
        W = trained()(W, x, labels, lr / k, batch_size, [order])
    return W


def by_autograd(W, x, labels, lr, batch_size, orders):
    """Forbidden."""
    W = W.clone().requires_grad_()
    for order in orders:
        for index in order.split(batch_size):
            loss = F.cross_entropy(x[index] @ W.T, labels[index])
            (gradient,) = torch.autograd.grad(loss, W)
            W = (W - lr * gradient).detach().requires_grad_()
    return W.detach()


def by_optimiser(W, x, labels, lr, batch_size, orders):
    """Forbidden."""
    W = torch.nn.Parameter(W.clone())
    optimiser = torch.optim.SGD([W], lr)
    for order in orders:
        for index in order.split(batch_size):
            optimiser.zero_grad()
            F.cross_entropy(x[index] @ W.T, labels[index]).backward()
            optimiser.step()
    return W.detach()


def by_functional(W, x, labels, lr, batch_size, orders):
    """Forbidden."""

    def loss(W, index):
        return F.cross_entropy(x[index] @ W.T, labels[index])

    for order in orders:
        for index in order.split(batch_size):
            W = W - lr * torch.func.grad(loss)(W, index)
    return W


def exp_that_overflows(W, x, y, size):
    e = (x @ W.T).exp()
    return (e / e.sum(1, keepdim=True) - y).T @ x / len(x)


def on_a_copy(W, x, labels, lr, batch_size, orders):
    W = W.clone()
    for order in orders:
        for start in range(0, len(order), batch_size):
            index = order[start : start + batch_size]
            p = torch.softmax(torch.einsum("nd,kd->nk", x[index], W), dim=1)
            p[torch.arange(len(index)), labels[index]] -= 1
            W.sub_(torch.einsum("nk,nd->kd", p, x[index]), alpha=lr / len(index))
    return W


def in_numpy(W, x, labels, lr, batch_size, orders):
    W, x, labels = W.numpy().copy(), x.numpy(), labels.numpy()
    y = np.eye(len(W), dtype=x.dtype)[labels]
    for order in orders:
        for start in range(0, len(order), batch_size):
            index = order[start : start + batch_size].numpy()
            z = x[index] @ W.T
            p = np.exp(z - z.max(axis=1, keepdims=True))
            p /= p.sum(axis=1, keepdims=True)
            W -= lr / len(index) * (p - y[index]).T @ x[index]
    return W


def example_by_example(W, x, labels, lr, batch_size, orders):
    for order in orders:
        places = order.tolist()
        while places:
            batch, places = places[:batch_size], places[batch_size:]
            total = torch.zeros_like(W)
            for i in batch:
                p = torch.softmax(W @ x[i], 0)
                p[labels[i]] -= 1
                total += torch.outer(p, x[i])
            W = W - lr * total / len(batch)
    return W


def moved_first(W, x, labels, lr, batch_size, orders):
    for order in orders:
        parts = x[order].split(batch_size), labels[order].split(batch_size)
        for xb, yb in zip(*parts, strict=True):
            delta = (xb @ W.T).log_softmax(1).exp()
            delta -= (yb[:, None] == torch.arange(len(W))).to(x.dtype)
            W = torch.addmm(W, delta.T, xb, alpha=-lr / len(xb))
    return W


def of_the_loader(W, x, labels, lr, batch_size, orders):
    y = F.one_hot(labels, len(W)).to(x.dtype)
    for order in orders:
        loader = torch.utils.data.DataLoader(
            torch.utils.data.TensorDataset(x, y), batch_size, sampler=order.tolist()
        )
        for xb, yb in loader:
            W = W - lr * slope(W, xb, yb) / len(xb)
    return W


WRONG = {
    "largest_safe_lr": [
        lambda H: 2 / torch.linalg.eigvalsh(H)[0].item(),
        lambda H: 1 / largest(H),
        lambda H: 2 * largest(H),
        lambda H: largest(H) / 2,
        lambda H: largest(H),
        lambda H: 2 / H.trace().item(),
        lambda H: 2 / H.max().item(),
        lambda H: 2 / H.diagonal().max().item(),
        lambda H: 2 / H.norm().item(),
        lambda H: 2 / H.abs().sum(1).max().item(),
        lambda H: 2 / torch.linalg.eigvalsh(H).mean().item(),
        lambda H: 2 / torch.linalg.eigvalsh(H)[1].item(),  # of two
        lambda H: 2 / torch.linalg.svdvals(H)[-1].item(),
        lambda H: 2 / torch.linalg.det(H).item(),
        lambda H: 2 / (largest(H) + torch.linalg.eigvalsh(H)[0].item()),
        lambda H: 2 / torch.linalg.eigvalsh(H),
        lambda H: 2 / largest(H) ** 0.5,
        lambda H: round(2 / largest(H), 2),
        lambda H: 2 // largest(H),
        of_two_by_two,
        after_few_steps,
        first_of_unordered,
    ],
    "share_seen": [
        lambda n, draws: 1 - 1 / math.e,
        lambda n, draws: (1 - 1 / n) ** draws,
        lambda n, draws: 1 - (1 - 1 / n) ** n,
        lambda n, draws: 1 - (1 - 1 / draws) ** n,
        lambda n, draws: 1 - (1 - 1 / draws) ** draws,
        lambda n, draws: draws / n,
        lambda n, draws: 1 - math.exp(-draws / n),
        lambda n, draws: n * (1 - (1 - 1 / n) ** draws),
        lambda n, draws: 1 - (1 / n) ** draws,
        lambda n, draws: 1 - (1 - 1 / n) ** (draws + 1),
        lambda n, draws: 1 - (1 - 1 / n) ** (draws - 1),
        lambda n, draws: (
            1 - (math.exp(-draws / n) if n >= 1000 else (1 - 1 / n) ** draws)
        ),
        lambda n, draws: float(1 - np.float32(1 - 1 / n) ** np.float32(draws)),
        lambda n, draws: round(1 - (1 - 1 / n) ** draws, 4),
        lambda n, draws: 1 - (1 - 1 / n) * draws,
        lambda n, draws: 1 - (1 - 1 // n) ** draws,
        lambda n, draws: 1 - 1 - 1 / n**draws,
        lambda n, draws: round(1 - (1 - 1 / n) ** draws, 3),
        lambda n, draws: 1 - math.exp(draws * math.log(1 - 1 / n)),  # not for n = 1
        lambda n, draws: sum((1 - 1 / n) ** k / n for k in range(1, draws)),
        kept_below_one,
        seen_by_trying,
    ],
    "batch_noise": [
        noise(variance, lambda N, B: 1),
        noise(variance, lambda N, B: (N - B) / N),
        noise(variance, lambda N, B: (N - B) // (N - 1)),
        noise(variance, lambda N, B: B * (N - B) / (N - 1)),
        noise(variance, lambda N, B: (N - 1) / (N - B) if N > B else 0),
        noise(variance, lambda N, B: ((N - B) / (N - 1)) ** 0.5),
        noise(variance, lambda N, B: (N - B) / (N - 1) / B),
        noise(lambda g: g.var(0).sum().item()),
        noise(lambda g: g.var(0, correction=0).mean().item()),
        noise(lambda g: g.var().item()),
        noise(lambda g: g.var(1, correction=0).sum().item()),
        noise(lambda g: g.std(0, correction=0).sum().item()),
        noise(lambda g: (g - g.mean(0)).norm(dim=1).mean().item()),
        noise(lambda g: (g - g.mean(0)).norm(dim=1).mean().item() ** 2),
        noise(lambda g: g.square().sum(1).mean().item()),
        noise(lambda g: (g - g.mean()).square().sum(1).mean().item()),
        noise(lambda g: (g - g.mean(1, keepdim=True)).square().sum(1).mean().item()),
        noise(lambda g: (g - g.mean(0)).square().sum().item()),
        noise(lambda g: g.var(0, correction=0)),
        noise(lambda g: (g - g[0]).square().sum(1).mean().item()),
        lambda gradients, B: variance(gradients),
        lambda gradients, B: variance(gradients[:B]) / B,
        lambda gradients, B: noise(variance)(gradients, B) ** 0.5,
        lambda gradients, B: noise(variance)(gradients, 1),
        by_drawing,
        not_for_all,
    ],
    "train_linear": [
        trained(gradient=lambda W, x, y, size: slope(W, x, y) / size),
        trained(gradient=lambda W, x, y, size: slope(W, x, y)),
        trained(gradient=lambda W, x, y, size: -slope(W, x, y) / len(x)),
        trained(gradient=lambda W, x, y, size: slope(W, x, y) / len(x) / len(W)),
        trained(gradient=lambda W, x, y, size: slope(W, x, y).mean(0) / len(x)),
        trained(
            gradient=lambda W, x, y, size: (
                ((x @ W.T).softmax(0) - y).T @ x / len(x)  # over the batch
            )
        ),
        trained(gradient=lambda W, x, y, size: ((x @ W.T).sigmoid() - y).T @ x / len(x)),
        trained(gradient=lambda W, x, y, size: (x @ W.T - y).T @ x / len(x)),
        trained(gradient=exp_that_overflows),
        trained(in_place),
        trained(lambda W, step: W.sub_(step)),
        trained(lambda W, step: W + step),
        trained(lambda W, step: step),
        trained(lambda W, step: 0.999 * W - step),
        trained(lambda W, step: W - step.sign()),
        trained(cut=full_batches),
        trained(cut=equal_parts),
        trained(cut=lambda order, size: order.split(size)[:1]),
        trained(cut=lambda order, size: [order]),
        trained(cut=lambda order, size: order.split(1)),
        trained(cut=lambda order, size: order.split(10)),
        lambda W, x, labels, lr, batch_size, orders: W,
        lambda W, *others: trained()(W, *others).T,
        lambda W, *others: trained()(torch.zeros_like(W), *others),
        as_many_as_seen,
        first_epoch,
        same_order_again,
        not_shuffled,
        labels_not_shuffled,
        one_step_an_epoch,
        returned_too_early,
        smaller_each_epoch,
        by_autograd,
        by_optimiser,
        by_functional,
    ],
}

RIGHT = {
    "largest_safe_lr": [
        lambda H: 2 / max(torch.linalg.eigvalsh(H).tolist()),
        lambda H: 2 / np.linalg.eigvalsh(H.numpy()).max(),
        lambda H: 2 / torch.linalg.eigvalsh(H, UPLO="U").max(),
        lambda H: 2 / torch.linalg.eigvalsh(H.float())[-1].item(),
        lambda H: 2 / torch.linalg.svdvals(H)[0].item(),
        lambda H: 2 / torch.linalg.matrix_norm(H, 2).item(),
        lambda H: 2 * torch.linalg.eigvalsh(torch.linalg.inv(H)).min().item(),
        lambda H: min(2 / v for v in torch.linalg.eigvals(H).real.tolist()),
        lambda H: float(2 / np.linalg.eigh(H)[0][-1]),
        by_squaring,
    ],
    "share_seen": [
        lambda n, draws: 1 - math.pow(1 - 1 / n, draws),
        lambda n, draws: 1 - ((n - 1) / n) ** draws,
        lambda n, draws: (n - n * (1 - 1 / n) ** draws) / n,
        lambda n, draws: 1 - math.prod([1 - 1 / n] * draws),
        lambda n, draws: sum((1 - 1 / n) ** k / n for k in range(draws)),
        lambda n, draws: float(1 - (1 - Fraction(1, n)) ** draws),
        lambda n, draws: 1 - np.float64(1 - 1 / n) ** draws,
        lambda n, draws: 1 - torch.tensor(1 - 1 / n, dtype=torch.float64).pow(draws),
        seen_in_a_loop,
        seen_by_logarithms,
    ],
    "batch_noise": [
        noise(lambda g: g.var(0, correction=0).sum().item()),
        noise(lambda g: g.var(0).sum().item(), lambda N, B: 1 - B / N),
        noise(lambda g: (g - g.mean(0)).norm(dim=1).square().mean()),
        noise(lambda g: np.var(g.numpy(), axis=0).sum()),
        noise(lambda g: np.atleast_2d(np.cov(g.numpy().T, bias=True)).trace()),
        noise(lambda g: F.mse_loss(g, g.mean(0).expand_as(g), reduction="sum") / len(g)),
        functools.partial(noise(lambda g: variance(g.double()))),
        by_lists,
        by_pairs,
        Noise(),
    ],
    "train_linear": [
        on_a_copy,
        in_numpy,
        example_by_example,
        moved_first,
        of_the_loader,
        trained(),
        trained(cut=lambda order, size: order.tolist() and torch.split(order, size)),
        trained(
            cut=lambda order, size: torch.utils.data.BatchSampler(
                order.tolist(), size, False
            )
        ),
        lambda W, *others: trained(in_place)(W.clone(), *others),
        lambda W, x, *others: trained()(W.double(), x.double(), *others),
        lambda *given: trained()(*given).tolist(),
    ],
}
