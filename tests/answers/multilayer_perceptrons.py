"""Answers to the exercises of the lesson on multilayer perceptrons."""

import functools
import itertools
import math
import operator

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn


def pairs(sizes):
    return list(zip(sizes[:-1], sizes[1:], strict=True))


def of_modules(sizes):
    """Forbidden."""
    layers = [nn.Linear(n_in, n_out, device="meta") for n_in, n_out in pairs(sizes)]
    return sum(p.numel() for layer in layers for p in layer.parameters())


def in_int32(sizes):
    """Too large from 46,341 times 46,341 on."""
    n = np.array(sizes, np.int32)
    return int(((n[:-1] + 1) * n[1:]).sum(dtype=np.int32))


def in_int16(sizes):
    n = torch.tensor(sizes, dtype=torch.int16)
    return int(((n[:-1] + 1) * n[1:]).sum())


def returned_in_the_loop(sizes):
    total = 0
    for n_in, n_out in pairs(sizes):
        total += (n_in + 1) * n_out
        return total


def counted_in_a_loop(sizes):
    total = 0
    for i in range(1, len(sizes)):
        total += sizes[i - 1] * sizes[i] + sizes[i]
    return total


def counted_by_recursion(sizes):
    if len(sizes) < 2:
        return 0
    return sizes[1] * (1 + sizes[0]) + counted_by_recursion(sizes[1:])


def folded(step):
    """An answer: step(W, b, W_next, b_next) is the pair after one more layer."""

    def answer(layers):
        W, b = layers[0]
        for W_next, b_next in layers[1:]:
            W, b = step(W, b, W_next, b_next)
        return W, b

    return answer


def one(W, b, W_next, b_next):
    return W_next @ W, W_next @ b + b_next


collapsed = folded(one)


def first_two(layers):
    (W, b), (W_next, b_next) = layers[:2]
    return one(W, b, W_next, b_next)


def first_and_last(layers):
    return collapsed([layers[0], layers[-1]])


def two_or_nothing(layers):
    if len(layers) > 1:
        return collapsed(layers)


def last_forgotten(layers):
    return collapsed(layers[:-1]) if len(layers) > 1 else layers[0]


def first_twice(layers):
    return collapsed([layers[0], *layers])


def with_relu(layers):
    return folded(lambda W, b, V, c: (V @ W.relu(), V @ b.relu() + c))(layers)


def new_W_too_early(layers):
    W, b = layers[0]
    for W_next, b_next in layers[1:]:
        W = W_next @ W
        b = W @ b + b_next
    return W, b


def by_multi_dot(layers):
    """multi_dot takes two matrices at the least."""
    W = torch.linalg.multi_dot([W for W, _ in reversed(layers)])
    return W, collapsed(layers)[1]


def probed(layers):
    n_in = layers[0][0].shape[1]
    x = torch.eye(n_in + 1, n_in, dtype=layers[0][0].dtype)  # the last row is zero
    for W, b in layers:
        x = F.linear(x, W, b)
    return (x[:-1] - x[-1]).T, x[-1]


def from_the_top(layers):
    V, c = layers[-1]
    for W, b in reversed(layers[:-1]):
        V, c = V @ W, c + V @ b
    return [V, c]


def by_halves(layers):
    if len(layers) == 1:
        return layers[0]
    half = len(layers) // 2
    return one(*by_halves(layers[:half]), *by_halves(layers[half:]))


def augmented(layers):
    product = None
    for W, b in layers:
        last = torch.zeros(1, W.shape[1] + 1, dtype=W.dtype)
        last[0, -1] = 1
        A = torch.cat([torch.cat([W, b[:, None]], 1), last])
        product = A if product is None else A @ product
    return product[:-1, :-1], product[:-1, -1]


def collapsed_by_numpy(layers):
    arrays = [(np.asarray(W), np.asarray(b)) for W, b in layers]
    return folded(lambda W, b, V, c: (V.dot(W), np.matmul(V, b) + c))(arrays)


def network(W1, b1, W2, b2):
    """An answer: these numbers as float tensors."""
    return lambda: tuple(torch.tensor(v).float() for v in (W1, b1, W2, b2))


ones, knots, zigzag = [[1.0] * 3] * 3, [0.0, -1.0, -2.0], [[1.0, -2.0, 2.0]]
parity = network(ones, knots, zigzag, [0.0])


def changed(change):
    """An answer: change(W1, b1, W2, b2) of a right network."""
    return lambda: change(*parity())


def epoch(
    loss_of=F.cross_entropy,
    hidden=lambda z: z.clamp(min=0),
    cut=lambda x, size: x.split(size),
    move=lambda p, g, lr: p - lr * g,
    mean=lambda losses, sizes: (
        sum(v * n for v, n in zip(losses, sizes, strict=True)) / sum(sizes)
    ),
    logits=lambda h, W2, b2: h @ W2.T + b2,
):
    """An answer of parts that the wrong ones change."""

    def answer(x, y, W1, b1, W2, b2, lr, batch_size):
        parameters, losses, sizes = [W1, b1, W2, b2], [], []
        for xb, yb in zip(cut(x, batch_size), cut(y, batch_size), strict=True):
            W1, b1, W2, b2 = leaves = [p.detach().requires_grad_() for p in parameters]
            loss = loss_of(logits(hidden(xb @ W1.T + b1), W2, b2), yb)
            grads = torch.autograd.grad(loss, leaves)
            losses.append(loss.item())
            sizes.append(len(yb))
            moved = zip(parameters, grads, strict=True)
            parameters = [move(p.detach(), g, lr) for p, g in moved]
        return *parameters, mean(losses, sizes)

    return answer


def of_full_batches(x, size):
    return x[: len(x) // size * size].split(size)


def shuffled(x, y, *others):
    order = torch.randperm(len(x))
    return epoch()(x[order], y[order], *others)


def backwards(x, y, *others):
    return epoch()(x.flip(0), y.flip(0), *others)


def grads_not_cleared(x, y, W1, b1, W2, b2, lr, batch_size):
    parameters = [p.clone().requires_grad_() for p in (W1, b1, W2, b2)]
    total = 0.0
    for xb, yb in zip(x.split(batch_size), y.split(batch_size), strict=True):
        W1, b1, W2, b2 = parameters
        loss = F.cross_entropy((xb @ W1.T + b1).relu() @ W2.T + b2, yb)
        loss.backward()
        with torch.no_grad():
            for p in parameters:
                p -= lr * p.grad
        total += loss.item() * len(yb)
    return *(p.detach() for p in parameters), total / len(y)


def loss_after_the_epoch(x, y, *others):
    W1, b1, W2, b2, _ = epoch()(x, y, *others)
    loss = F.cross_entropy((x @ W1.T + b1).relu() @ W2.T + b2, y)
    return W1, b1, W2, b2, loss.item()


def some_trained(*trained):
    """An answer: only the parameters of these numbers are new."""

    def answer(x, y, *others):
        new = epoch()(x, y, *others)
        return *(new[k] if k in trained else others[k] for k in range(4)), new[4]

    return answer


def first_layer_detached(x, y, W1, b1, W2, b2, lr, batch_size):
    total = 0.0
    for xb, yb in zip(x.split(batch_size), y.split(batch_size), strict=True):
        leaves = [p.detach().requires_grad_() for p in (W2, b2)]
        hidden = (xb @ W1.T + b1).relu().detach()
        loss = F.cross_entropy(hidden @ leaves[0].T + leaves[1], yb)
        grads = torch.autograd.grad(loss, leaves)
        W2, b2 = (p.detach() - lr * g for p, g in zip(leaves, grads, strict=True))
        total += loss.item() * len(yb)
    return W1, b1, W2, b2, total / len(y)


def two_epochs(x, y, W1, b1, W2, b2, lr, batch_size):
    *trained, _ = epoch()(x, y, W1, b1, W2, b2, lr, batch_size)
    return epoch()(x, y, *trained, lr, batch_size)


def by_modules(x, y, W1, b1, W2, b2, lr, batch_size):
    """Forbidden, the modules and the optimiser."""
    model = nn.Sequential(nn.Linear(*W1.T.shape), nn.ReLU(), nn.Linear(*W2.T.shape))
    model = model.to(x.dtype)
    with torch.no_grad():
        for p, given in zip(model.parameters(), (W1, b1, W2, b2), strict=True):
            p.copy_(given)
    optimizer, total = torch.optim.SGD(model.parameters(), lr), 0.0
    for xb, yb in zip(x.split(batch_size), y.split(batch_size), strict=True):
        loss = F.cross_entropy(model(xb), yb)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(yb)
    return *(p.detach() for p in model.parameters()), total / len(y)


def by_an_optimiser(x, y, W1, b1, W2, b2, lr, batch_size):
    """Forbidden, the optimiser."""
    parameters = [p.clone().requires_grad_() for p in (W1, b1, W2, b2)]
    optimizer, total = torch.optim.SGD(parameters, lr), 0.0
    for xb, yb in zip(x.split(batch_size), y.split(batch_size), strict=True):
        V, c, W, b = parameters
        loss = F.cross_entropy((xb @ V.T + c).relu() @ W.T + b, yb)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(yb)
    return *(p.detach() for p in parameters), total / len(y)


def by_slices(x, y, W1, b1, W2, b2, lr, batch_size):
    parameters = [p.detach().clone().requires_grad_(True) for p in (W1, b1, W2, b2)]
    V, c, W, b = parameters
    total = 0
    for start in range(0, len(x), batch_size):
        xb, yb = x[start : start + batch_size], y[start : start + batch_size]
        hidden = torch.relu(F.linear(xb, V, c))
        loss = F.cross_entropy(F.linear(hidden, W, b), yb, reduction="sum")
        (loss / len(xb)).backward()
        for p in parameters:
            p.data.add_(p.grad, alpha=-lr)
            p.grad.zero_()
        total += loss.detach()
    return *parameters, total / len(x)  # with their requires_grad


def by_func(x, y, *others):
    *parameters, lr, batch_size = others

    def loss(parameters, xb, yb):
        W1, b1, W2, b2 = parameters
        z = torch.einsum("nd,hd->nh", xb, W1) + b1
        logits = torch.where(z > 0, z, 0) @ W2.T + b2
        return -logits.log_softmax(1)[torch.arange(len(yb)), yb].mean()

    total, parameters = [], tuple(parameters)
    for index in torch.arange(len(x)).split(batch_size):
        both = torch.func.grad_and_value(loss)(parameters, x[index], y[index])
        parameters = tuple(p - lr * g for p, g in zip(parameters, both[0], strict=True))
        total += [both[1].item()] * len(index)
    return [*parameters, np.mean(total)]


def with_logsumexp(x, y, W1, b1, W2, b2, lr, batch_size):
    places, total = list(range(len(x))), 0.0
    while places:
        batch, places = places[:batch_size], places[batch_size:]
        new = [p.detach().requires_grad_() for p in (W1, b1, W2, b2)]
        logits = torch.maximum(x[batch] @ new[0].mT + new[1], x.new_zeros(())) @ new[2].T
        logits = logits + new[3]
        right = logits.gather(1, y[batch][:, None])[:, 0]
        losses = logits.logsumexp(1) - right
        losses.mean().backward()
        W1, b1, W2, b2 = (p.detach() - lr * p.grad for p in new)
        total += losses.sum().item()
    return W1, b1, W2, b2, total / len(x)


def epoch_in_float64(x, y, *others):
    *parameters, lr, batch_size = others
    doubles = [p.double() for p in parameters]
    return epoch()(x.double(), y, *doubles, lr, batch_size)


WRONG = {
    "count": [
        lambda sizes: sum(a * b for a, b in pairs(sizes)),
        lambda sizes: sum(a * b + 1 for a, b in pairs(sizes)),
        lambda sizes: sum(a * (b + 1) for a, b in pairs(sizes)),
        lambda sizes: sum((a + 1) * (b + 1) for a, b in pairs(sizes)),
        lambda sizes: sum(a * b for a, b in pairs(sizes)) + sum(sizes),
        lambda sizes: sum(a * b for a, b in pairs(sizes)) + sum(sizes[1:-1]),
        lambda sizes: sum(a * b for a, b in pairs(sizes)) + 110,
        lambda sizes: sum(sizes),
        lambda sizes: sum(sizes[1:]),
        lambda sizes: math.prod(sizes) + sum(sizes[1:]),
        lambda sizes: (sizes[0] + 1) * sizes[1],
        lambda sizes: (sizes[0] + 1) * sizes[1] + (sizes[1] + 1) * sizes[-1],
        lambda sizes: (sizes[0] + 1) * sizes[1] + (sizes[1] + 1) * sizes[2],
        lambda sizes: (sizes[0] + 1) * sizes[1] + (sizes[-2] + 1) * sizes[-1],
        lambda sizes: (sizes[0] + 1) * sizes[1] + (sizes[1] + 1) * 10,
        lambda sizes: sum((a + 1) * b for a, b in pairs(sizes)[:-1]),
        lambda sizes: sum((a + 1) * b for a, b in pairs(sizes)[:2]),
        lambda sizes: sum((a + 1) * b for a, b in set(pairs(sizes))),  # equal layers
        lambda sizes: sum((a + 1) * b for a, b in pairs(sorted(sizes))),
        lambda sizes: [(a + 1) * b for a, b in pairs(sizes)],
        lambda sizes: 79510,
        of_modules,
        in_int32,
        in_int16,
        returned_in_the_loop,
    ],
    "collapse_all": [
        folded(lambda W, b, V, c: (W @ V, V @ b + c)),
        folded(lambda W, b, V, c: (V @ W, b + c)),
        folded(lambda W, b, V, c: (V @ W, c)),
        folded(lambda W, b, V, c: (V @ W, V @ b)),
        folded(lambda W, b, V, c: (V @ W, b @ V + c)),
        folded(lambda W, b, V, c: (V @ W, V @ (b + c))),
        folded(lambda W, b, V, c: (V @ W, b)),
        folded(lambda W, b, V, c: (V @ W.T, V @ b + c)),
        folded(lambda W, b, V, c: (V.T @ W, V @ b + c)),
        folded(lambda W, b, V, c: (V * W, V @ b + c)),
        folded(lambda W, b, V, c: (V + W, b + c)),
        folded(lambda W, b, V, c: (V @ W, (V @ b + c).mean())),
        lambda layers: collapsed(layers[::-1]),
        lambda layers: collapsed(layers)[::-1],
        lambda layers: collapsed(layers)[0],
        lambda layers: [collapsed(layers)],
        lambda layers: (collapsed(layers)[0].T, collapsed(layers)[1]),
        lambda layers: (collapsed(layers)[0], collapsed(layers)[1][:, None]),
        lambda layers: tuple(v.round() for v in collapsed(layers)),
        lambda layers: layers[-1],
        first_two,
        first_and_last,
        two_or_nothing,
        last_forgotten,
        first_twice,
        with_relu,
        new_W_too_early,
        by_multi_dot,
    ],
    "parity_network": [
        network(ones, knots, [[1.0, -2.0, 1.0]], [0.0]),
        network(ones, knots, [[1.0, -1.0, 1.0]], [0.0]),
        network(ones, knots, [[1.0, -2.0, 3.0]], [-1.0]),
        network(ones, knots, [[1.0, 0.0, 0.0]], [0.0]),  # OR
        network(ones, knots, [[0.0, 0.0, 1.0]], [0.0]),  # AND
        network(ones, knots, [[-1.0, 2.0, -2.0]], [1.0]),  # even
        network(ones, knots, [[0.5, -1.0, 1.0]], [0.0]),  # 0.5 is not above 0.5
        network(ones, knots, [[0.4, -0.8, 0.8]], [0.0]),
        network(ones, knots, zigzag, [0.5001]),
        network(ones, knots, zigzag, [-0.5]),
        network(ones, knots, [[0.0, 0.0, 0.0]], [1.0]),
        network(ones, [0.0, 1.0, 2.0], zigzag, [0.0]),
        network(ones, [0.0, 0.0, 0.0], zigzag, [0.0]),
        network(ones, [0.0, -1.0, -1.0], zigzag, [0.0]),
        network([[1.0, 1.0, 0.0]] * 3, knots, zigzag, [0.0]),  # of two bits
        network(torch.eye(3).tolist(), knots, zigzag, [0.0]),
        network([[1.0] * 3] * 2, knots[:2], [[1.0, -2.0]], [0.0]),  # two units
        network([[1.0] * 3] * 4, [0.0, -1.0, -2.0, -3.0], [[1.0, -2, 2, -2]], [0.0]),
        changed(lambda W1, b1, W2, b2: (W1, b1, W2)),
        changed(lambda W1, b1, W2, b2: (W1, b1, W2[0], b2)),
        changed(lambda W1, b1, W2, b2: (W1, b1, W2.T, b2)),
        changed(lambda W1, b1, W2, b2: (W1, b1, W2, b2[0])),
        changed(lambda W1, b1, W2, b2: (W1[:1], b1, W2, b2)),
        changed(lambda W1, b1, W2, b2: (W1, b1[:, None], W2, b2)),
        changed(lambda W1, b1, W2, b2: (W1, W2, b1, b2)),
        changed(lambda W1, b1, W2, b2: (W1, b1, W2, b2, 0)),
        changed(lambda W1, b1, W2, b2: (W1, b1, W2 * math.nan, b2)),
        changed(lambda W1, b1, W2, b2: lambda x: (x @ W1.T + b1).relu() @ W2.T + b2),
    ],
    "one_epoch": [
        epoch(cut=of_full_batches),
        epoch(cut=lambda x, size: [x]),
        epoch(cut=lambda x, size: x.split(1)),
        epoch(cut=lambda x, size: x.split(size)[:1]),
        epoch(cut=lambda x, size: x.chunk(size)),
        epoch(cut=lambda x, size: x.split(32)),
        epoch(mean=lambda losses, sizes: sum(losses) / len(losses)),
        epoch(mean=lambda losses, sizes: losses[-1]),
        epoch(mean=lambda losses, sizes: losses[0]),
        epoch(mean=lambda losses, sizes: losses),
        epoch(mean=lambda losses, sizes: sum(losses) / sum(sizes)),
        epoch(mean=lambda losses, sizes: sum(losses)),
        epoch(
            mean=lambda losses, sizes: (
                sum(v * sizes[0] for v in losses) / sum(sizes)  # the last one is short
            )
        ),
        epoch(functools.partial(F.cross_entropy, reduction="sum")),
        epoch(functools.partial(F.cross_entropy, label_smoothing=0.1)),
        epoch(lambda z, y: F.mse_loss(z, F.one_hot(y, z.shape[1]).to(z.dtype))),
        epoch(lambda z, y: F.cross_entropy(z.softmax(1), y)),
        epoch(hidden=torch.sigmoid),
        epoch(hidden=torch.tanh),
        epoch(hidden=lambda z: z),
        epoch(hidden=F.leaky_relu),
        epoch(hidden=F.relu6),
        epoch(hidden=lambda z: z.clamp(max=0)),
        epoch(hidden=lambda z: z.detach().relu() + 0 * z),
        epoch(logits=lambda h, W2, b2: h @ W2.T + 0 * b2),
        epoch(logits=lambda h, W2, b2: (h @ W2.T + b2).relu()),
        epoch(move=lambda p, g, lr: p - 0.1 * g),
        epoch(move=lambda p, g, lr: p + lr * g),
        epoch(move=lambda p, g, lr: p - g),
        epoch(move=lambda p, g, lr: p),
        epoch(move=lambda p, g, lr: 0.99 * p - lr * g),
        lambda *given: epoch()(*given)[:4],
        lambda *given: epoch()(*given)[4],
        some_trained(0, 2),
        some_trained(2, 3),
        shuffled,
        backwards,
        grads_not_cleared,
        loss_after_the_epoch,
        first_layer_detached,
        two_epochs,
        by_modules,
        by_an_optimiser,
    ],
}

RIGHT = {
    "count": [
        counted_in_a_loop,
        counted_by_recursion,
        lambda sizes: sum(a * b + b for a, b in itertools.pairwise(sizes)),
        lambda sizes: sum(map(operator.mul, sizes, sizes[1:])) + sum(sizes[1:]),
        lambda sizes: int(np.dot(np.array(sizes[:-1]) + 1, sizes[1:])),
        lambda sizes: (torch.tensor(sizes[:-1]) + 1) @ torch.tensor(sizes[1:]),
        lambda sizes: sum((sizes[k] + 1) * sizes[k + 1] for k in range(len(sizes) - 1)),
        lambda sizes: functools.reduce(
            lambda t, p: t + (p[0] + 1) * p[1], pairs(sizes), 0
        ),
    ],
    "collapse_all": [
        probed,
        from_the_top,
        by_halves,
        augmented,
        collapsed_by_numpy,
        folded(lambda W, b, V, c: (torch.einsum("oh,hi->oi", V, W), F.linear(b, V, c))),
        folded(lambda W, b, V, c: ((W.T @ V.T).T, (b[None] @ V.T + c)[0])),
        folded(lambda W, b, V, c: (V.mm(W), torch.addmv(c, V, b))),
        lambda layers: functools.reduce(lambda one_, two: one(*one_, *two), layers),
        lambda layers: collapsed([(W.double(), b.double()) for W, b in layers]),
    ],
    "parity_network": [
        parity,
        network(ones, knots, [[10.0, -20.0, 20.0]], [-4.0]),
        network(ones, knots, [[0.25, -0.5, 0.5]], [0.375]),
        network([[2.0] * 3] * 3, [0.0, -2.0, -4.0], [[0.5, -1.0, 1.0]], [0.0]),
        network(ones, knots[::-1], [[2.0, -2.0, 1.0]], [0.0]),
        network([[-1.0] * 3] * 3, [3.0, 2.0, 1.0], [[-1.0, 2.0, -2.0]], [1.0]),
        network(ones, [-0.25, -1.0, -2.0], [[4 / 3, -7 / 3, 2.0]], [0.0]),
        network(ones, knots, [[1.0, -2.2, 2.3]], [0.1]),
        changed(lambda *tensors: [v.double() for v in tensors]),
        changed(lambda *tensors: [nn.Parameter(v) for v in tensors]),
        changed(lambda W1, b1, W2, b2: (W1[:1, :1].expand(3, 3), b1, W2, b2)),
    ],
    "one_epoch": [
        by_slices,
        by_func,
        with_logsumexp,
        epoch_in_float64,
        epoch(),
        epoch(hidden=F.relu),
        epoch(hidden=lambda z: z * (z > 0)),
        epoch(lambda z, y: F.nll_loss(F.log_softmax(z, -1), y)),
        epoch(move=lambda p, g, lr: torch.sub(p, g, alpha=lr)),
        epoch(cut=lambda x, n: [x[i : i + n] for i in range(0, len(x), n)]),
    ],
}
