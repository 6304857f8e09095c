"""Answers to the exercises of the lesson on attacks and certainty."""

import math

import numpy as np
import torch
import torch.nn.functional as F


def slope(model, x, y, loss=F.cross_entropy, **settings):
    """The gradient of each image's own loss."""
    pixels = x.detach().clone().requires_grad_()
    settings = settings or {"reduction": "sum"}
    return torch.autograd.grad(loss(model(pixels), y, **settings), pixels)[0]


def stepped(change=lambda g: -g.sign(), limit=lambda moved, x, eps: moved.clamp(0, 1)):
    """One step, with a part changed."""
    return lambda model, x, y, eps: limit(x + eps * change(slope(model, x, y)), x, eps)


def from_own_answer(model, x, target, eps):
    own = model(x).argmax(1)
    return (x + eps * slope(model, x, own).sign()).clamp(0, 1)


def to_own_answer(model, x, target, eps):
    return (x - eps * slope(model, x, model(x).argmax(1)).sign()).clamp(0, 1)


def two_halves(model, x, target, eps):
    for _ in range(2):
        x = (x - eps / 2 * slope(model, x, target).sign()).clamp(0, 1)
    return x


def many(model, x, target, eps):
    for _ in range(4):
        x = (x - eps * slope(model, x, target).sign()).clamp(0, 1)
    return x


def in_place(model, x, target, eps):
    x -= eps * slope(model, x, target).sign()
    return x.clamp_(0, 1)


def nothing_for_a_batch(model, x, target, eps):
    if len(x) == 1:
        return stepped()(model, x, target, eps)


def all_logits_down(model, x, target, eps):
    pixels = x.clone().requires_grad_()
    model(pixels).sum().backward()
    return (x - eps * pixels.grad.sign()).clamp(0, 1)


def first_target(model, x, target, eps):
    return stepped()(model, x, target[:1].expand(len(x)), eps)


def by_backward(model, x, target, eps):
    pixels = x.clone().detach().requires_grad_()
    F.cross_entropy(model(pixels), target).backward()
    return torch.clip(x - eps * torch.sign(pixels.grad), 0.0, 1.0)


def by_log_p(model, x, target, eps):
    pixels = x.detach().clone().requires_grad_()
    log_p = model(pixels).log_softmax(1)[torch.arange(len(x)), target]
    (up,) = torch.autograd.grad(log_p.sum(), pixels)
    return (pixels + eps * up.sign()).clamp(0, 1)  # with its graph


def image_by_image(model, x, target, eps):
    moved = []
    for image, label in zip(x, target, strict=True):
        g = slope(model, image[None], label[None])[0]
        moved.append((image - eps * g.sign()).clamp(0, 1))
    return torch.stack(moved)


def in_numpy(model, x, target, eps):
    return np.clip(x.numpy() - eps * np.sign(slope(model, x, target).numpy()), 0, 1)


def on_a_copy(model, x, target, eps):
    moved = x.clone()
    moved -= eps * slope(model, x, target).sign()
    return moved.clamp_(0, 1)


def by_edges(model, x, target, eps):
    g = slope(model, x, target)
    up, down = (x + eps).clamp(max=1), (x - eps).clamp(min=0)
    return torch.where(g < 0, up, torch.where(g > 0, down, x))


class Towards:
    def __call__(self, model, x, target, eps):
        return stepped()(model, x.double().to(x.dtype), target, torch.tensor(eps))


def rest(count=round, order=lambda c: c.argsort(), mean=lambda kept: kept.mean()):
    """The accuracy of the rest, with one of its parts changed."""

    def accuracy_of_rest(certainty, right, refused):
        refusals = count(refused * len(certainty))
        return mean(right[order(certainty)[refusals:]]).item()

    return accuracy_of_rest


def of_the_refused(certainty, right, refused):
    return right[certainty.argsort()[: round(refused * len(right))]].mean().item()


def cut_from_the_end(certainty, right, refused):
    """Nothing is left for a count of 0."""
    count = round(refused * len(right))
    return right[certainty.argsort(descending=True)[:-count]].mean().item()


def above_a_threshold(certainty, right, refused):
    """Refuses too many where some are equal."""
    count = round(refused * len(right))
    if count == 0:
        return right.mean().item()
    return right[certainty > certainty.sort().values[count - 1]].mean().item()


def from_a_threshold(certainty, right, refused):
    """Keeps too many where some are equal."""
    count = round(refused * len(right))
    return right[certainty >= certainty.sort().values[count]].mean().item()


def by_quantile(certainty, right, refused):
    return right[certainty >= certainty.quantile(refused)].mean().item()


def over_all(certainty, right, refused):
    kept = certainty.argsort()[round(refused * len(right)) :]
    return (right[kept].sum() / len(right)).item()


def count_is_all(certainty, right, refused):
    """`refused` is kept, not refused."""
    kept = certainty.argsort(descending=True)[: round(refused * len(right))]
    return right[kept].mean().item()


def in_lists(certainty, right, refused):
    pairs = sorted(zip(certainty.tolist(), range(len(right)), strict=True))
    kept = [right[k].item() for _, k in pairs[round(refused * len(pairs)) :]]
    return sum(kept) / len(kept)


def by_topk(certainty, right, refused):
    left = len(certainty) - round(refused * len(certainty))
    return right[certainty.topk(left).indices].mean()


def by_argpartition(certainty, right, refused):
    order = np.argsort(certainty.numpy(), kind="stable")
    return np.mean(np.delete(right.numpy(), order[: round(refused * len(order))]))


def never_none(certainty, right, refused):
    """A half may go up."""
    n = len(certainty)
    count = min(int(refused * n + 0.5), n - 1)
    return float(right[certainty.argsort()[count:]].double().mean())


def one_after_the_other(certainty, right, refused):
    left = list(zip(certainty.tolist(), right.tolist(), strict=True))
    for _ in range(round(refused * len(left))):
        least = min(c for c, _ in left)
        left.pop(next(k for k, (c, _) in enumerate(left) if c == least))
    return sum(r for _, r in left) / len(left)


def flip(norm=lambda w: w.abs().sum(), best=min, low=0.0, bias=1.0, divide=True):
    """The right formula, with one of its parts changed."""

    def linear_flip(W, b, x, y):
        z, needed = W @ x + bias * b, []
        for k in range(len(b)):
            if k != y:
                lead = (z[y] - z[k]).item()
                lead = lead if low is None else max(lead, low)
                needed.append(lead / norm(W[y] - W[k]).item() if divide else lead)
        return best(needed)

    return linear_flip


def runner_up(W, b, x, y):
    """The class with the smallest lead is not always the easiest one."""
    z = W @ x + b
    leads = z[y] - z
    leads[y] = torch.inf
    k = leads.argmin()
    return max(leads[k].item(), 0) / (W[y] - W[k]).abs().sum().item()


def itself_too(W, b, x, y):
    z = W @ x + b
    return ((z[y] - z).clamp(min=0) / (W[y] - W).abs().sum(1)).min().item()  # 0 / 0


def own_row(W, b, x, y):
    z = W @ x + b
    return min(
        max((z[y] - z[k]).item(), 0) / W[y].abs().sum().item()
        for k in range(len(b))
        if k != y
    )


def sum_of_rows(W, b, x, y):
    z = W @ x + b
    return min(
        max((z[y] - z[k]).item(), 0) / (W[y].abs() + W[k].abs()).sum().item()
        for k in range(len(b))
        if k != y
    )


def own_winner(W, b, x, y):
    return flip()(W, b, x, (W @ x + b).argmax().item())


def next_class(W, b, x, y):
    k, z = (y + 1) % len(b), W @ x + b
    return max((z[y] - z[k]).item(), 0) / (W[y] - W[k]).abs().sum().item()


def absolute_lead(W, b, x, y):
    return flip(low=None, best=lambda needed: min(map(abs, needed)))(W, b, x, y)


def zero_if_wrong_else_none(W, b, x, y):
    if (W @ x + b).argmax() == y:
        return flip()(W, b, x, y)


def others(W, b, x, y):
    """Lead and reach of each rival."""
    keep = torch.arange(len(b)) != y
    z = W @ x + b
    return z[y] - z[keep], (W[y] - W[keep]).abs().sum(1)


def vectorised(W, b, x, y):
    lead, reach = others(W, b, x, y)
    return (lead / reach).clamp(min=0).min()


def by_numpy(W, b, x, y):
    W, b, x = (np.asarray(v, dtype=np.float64) for v in (W, b, x))
    rivals = np.delete(W, y, 0)
    lead = W[y] @ x + b[y] - rivals @ x - np.delete(b, y)
    return max(0.0, (lead / np.abs(rivals - W[y]).sum(1)).min())


def by_loops(W, b, x, y):
    best = math.inf
    for k, row in enumerate(W.tolist()):
        if k == y:
            continue
        d = [p - q for p, q in zip(W[y].tolist(), row, strict=True)]
        lead = sum(p * q for p, q in zip(d, x.tolist(), strict=True))
        lead += b[y].item() - b[k].item()
        best = min(best, lead / sum(map(abs, d)))
    return best if best > 0 else 0


def by_halving(W, b, x, y):
    """Searches for eps; a level class is one that is level at the worst change."""
    lead, reach = others(W.double(), b.double(), x.double(), y)
    low, high = 0.0, 1.0
    while (lead - high * reach > 0).all():
        high *= 2
    for _ in range(100):
        eps = (low + high) / 2
        low, high = (eps, high) if (lead - eps * reach > 0).all() else (low, eps)
    return high


def by_norm(W, b, x, y):
    keep = [k for k in range(len(b)) if k != y]
    D = W[y] - W[keep]
    eps = (D @ x + b[y] - b[keep]) / torch.linalg.vector_norm(D, 1, dim=1)
    return torch.relu(eps.min()).item()


def attacked(
    model,
    x,
    y,
    eps,
    steps=20,
    rate=None,
    sign=1,
    box=True,
    pixels=True,
    loss=F.cross_entropy,
    start=None,
):
    moved = x.clone() if start is None else start
    for k in range(1, steps + 1):
        g = slope(model, moved, y, loss)
        moved = moved + sign * (eps / k if rate is None else rate * eps) * g.sign()
        moved = moved.clamp(x - eps, x + eps) if box else moved
        moved = moved.clamp(0, 1) if pixels else moved
    return moved


def temperature(model, x, y, power=1.0, low=0.01, high=100.0):
    """By halving, in float64."""
    z = model(x).detach().double()
    own = z[torch.arange(len(y)), y]
    for _ in range(60):
        T = (low * high) ** 0.5
        up = (((z / T).softmax(1) * z).sum(1) - own).mean() > 0
        low, high = (T, high) if up else (low, T)
    return T**power


def examined(find=temperature, **settings):
    """The right answer, with a part of its attack changed."""
    return lambda model, x, y, eps: (
        attacked(model, x, y, eps, **settings),
        find(model, x, y),
    )


def with_temperature(find):
    return lambda model, x, y, eps: (attacked(model, x, y, eps), find(model, x, y))


def noise(model, x, y, eps):
    signs = 2.0 * torch.randint(2, x.shape) - 1
    return (x + eps * signs).clamp(0, 1), temperature(model, x, y)


def temperature_of_attacked(model, x, y, eps):
    moved = attacked(model, x, y, eps)
    return moved, temperature(model, moved, y)


def always_from_the_image(model, x, y, eps):
    """Twenty times the same step."""
    for _ in range(20):
        moved = (x + eps * slope(model, x, y).sign()).clamp(0, 1)
    return moved, temperature(model, x, y)


def first_image_only(model, x, y, eps):
    moved = x.clone()
    moved[:1] = attacked(model, x[:1], y[:1], eps)
    return moved, temperature(model, x, y)


def changes_x(model, x, y, eps):
    T = temperature(model, x, y)
    x.copy_(attacked(model, x.clone(), y, eps))
    return x, T


def towards_the_second(model, x, y, eps):
    """An attack on the answer instead of the label."""
    own = model(x).argmax(1)
    return attacked(model, x, own, eps), temperature(model, x, y)


def losses(model, x, y):
    z = model(x).detach().double()
    return lambda T: F.cross_entropy(z / T, y).item()


def of_probabilities(model, x, y):
    return temperature(lambda images: model(images).softmax(1), x, y)


def coarse(model, x, y):
    return min((k / 2 for k in range(1, 60)), key=losses(model, x, y))


def few_steps(model, x, y):
    """Gradient descent that has not arrived."""
    z, T = model(x).detach(), torch.ones(1, requires_grad=True)
    for _ in range(5):
        (g,) = torch.autograd.grad(F.cross_entropy(z / T, y), T)
        T = (T - 0.1 * g).detach().requires_grad_()
    return T.item()


def by_right_ones(model, x, y):
    """Fits the network's own answers."""
    return temperature(model, x, model(x).argmax(1))


def one_image(model, x, y):
    return temperature(model, x[:1], y[:1])


def by_grids(model, x, y):
    loss, low, high = losses(model, x, y), 0.01, 100.0
    for _ in range(8):
        grid = np.geomspace(low, high, 41)
        k = int(np.argmin([loss(T) for T in grid]))
        low, high = grid[max(k - 1, 0)], grid[min(k + 1, 40)]
    return (low + high) / 2


def by_lbfgs(model, x, y):
    z = model(x).detach().double()
    log_T = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [log_T],
        max_iter=200,
        line_search_fn="strong_wolfe",
        tolerance_grad=1e-10,
        tolerance_change=1e-12,
    )

    def closure():
        optimizer.zero_grad()
        loss = F.cross_entropy(z / log_T.exp(), y)
        loss.backward()
        return loss

    optimizer.step(closure)
    return log_T.exp().detach()[0]


def golden(model, x, y):
    loss = losses(model, x, y)
    low, high, part = math.log(0.01), math.log(100), (5**0.5 - 1) / 2
    for _ in range(60):
        a, b = high - part * (high - low), low + part * (high - low)
        low, high = (low, b) if loss(math.exp(a)) < loss(math.exp(b)) else (a, high)
    return np.float64(math.exp(low))


def with_momentum(model, x, y, eps):
    moved, velocity = x.clone(), torch.zeros_like(x)
    for _ in range(40):
        g = slope(model, moved, y)
        velocity = 0.5 * velocity + g / g.abs().mean((1, 2, 3), True).clamp(min=1e-30)
        moved = moved + eps / 8 * velocity.sign()
        moved = torch.minimum(torch.maximum(moved, x - eps), x + eps).clamp(0, 1)
    return [moved, temperature(model, x, y)]


WRONG = {
    "towards": [
        stepped(lambda g: g.sign()),
        stepped(lambda g: -g),
        stepped(lambda g: -g / g.abs().max()),
        stepped(lambda g: -g / g.norm()),
        stepped(lambda g: -2 * g.sign()),
        stepped(lambda g: -g.sign() / 255),
        stepped(lambda g: -g[:1].sign()),
        stepped(lambda g: -g.sum(0, keepdim=True).sign()),
        stepped(lambda g: torch.where(g > 0, -1.0, 0.0)),
        stepped(limit=lambda moved, x, eps: moved),
        stepped(limit=lambda moved, x, eps: moved.clamp(-1, 1)),
        stepped(limit=lambda moved, x, eps: moved.clamp(min=0)),
        stepped(limit=lambda moved, x, eps: moved.clamp(max=1)),
        stepped(limit=lambda moved, x, eps: moved.clamp(x.min(), x.max())),
        stepped(limit=lambda moved, x, eps: (moved - x).clamp(0, 1)),
        stepped(limit=lambda moved, x, eps: moved.clamp(0, 1).flatten(1)),
        stepped(
            limit=lambda moved, x, eps: torch.where((moved < 0) | (moved > 1), x, moved)
        ),
        lambda model, x, target, eps: stepped()(model, x, target, 0.1),
        lambda model, x, target, eps: stepped()(model, x, target.flip(0), eps),
        lambda model, x, target, eps: stepped()(model, x, target, eps)[:1],
        lambda model, x, target, eps: slope(model, x, target),
        from_own_answer,
        to_own_answer,
        two_halves,
        many,
        in_place,
        nothing_for_a_batch,
        all_logits_down,
        first_target,
    ],
    "accuracy_of_rest": [
        rest(count=int),
        rest(count=math.ceil),
        rest(count=lambda n: round(n) + 1),
        rest(count=lambda n: max(round(n), 1)),
        rest(count=lambda n: round(n / 100)),
        rest(count=lambda n: 0),
        rest(order=lambda c: c.argsort(descending=True)),
        rest(order=lambda c: torch.arange(len(c))),
        rest(order=lambda c: c.argsort().argsort()),
        rest(order=lambda c: (c - 0.5).abs().argsort()),
        rest(mean=lambda kept: 100 * kept.mean()),
        rest(mean=lambda kept: 1 - kept.mean()),
        rest(mean=lambda kept: kept.sum()),
        rest(mean=lambda kept: kept.median()),
        rest(mean=lambda kept: kept.mean().round()),
        lambda c, right, refused: (
            c.sort().values[round(refused * len(c)) :].mean().item()
        ),
        lambda c, right, refused: right[round(refused * len(c)) :].mean().item(),
        lambda c, right, refused: right.sort().values[round(refused * len(c)) :].mean(),
        lambda c, right, refused: right[c > refused].mean().item(),
        lambda c, right, refused: right[c.argsort()[-round(refused * len(c)) :]].mean(),
        of_the_refused,
        cut_from_the_end,
        above_a_threshold,
        from_a_threshold,
        by_quantile,
        over_all,
        count_is_all,
    ],
    "linear_flip": [
        flip(norm=lambda w: w.norm()),
        flip(norm=lambda w: w.abs().max()),
        flip(norm=lambda w: w.abs().mean()),
        flip(norm=lambda w: w.sum()),
        flip(norm=lambda w: w.sum().abs()),
        flip(norm=lambda w: w.square().sum()),
        flip(norm=lambda w: 2 * w.abs().sum()),
        flip(best=max),
        flip(best=lambda needed: sum(needed) / len(needed)),
        flip(best=lambda needed: needed),
        flip(best=lambda needed: needed[0]),
        flip(low=None),
        flip(low=1e-3),
        flip(bias=0.0),
        flip(bias=-1.0),
        flip(divide=False),
        runner_up,
        itself_too,
        own_row,
        sum_of_rows,
        own_winner,
        next_class,
        absolute_lead,
        zero_if_wrong_else_none,
    ],
    "examine": [
        examined(steps=1),
        examined(steps=2, rate=0.5),
        examined(steps=0),
        examined(sign=-1),
        examined(rate=0.001),
        examined(box=False, rate=0.25),
        examined(pixels=False),
        examined(loss=lambda z, y, **kw: z.sum()),
        with_temperature(lambda model, x, y: 1.0),
        with_temperature(lambda model, x, y: temperature(model, x, y, power=-1)),
        with_temperature(lambda model, x, y: round(temperature(model, x, y))),
        with_temperature(lambda model, x, y: temperature(model, x, y, low=1.0)),
        with_temperature(lambda model, x, y: temperature(model, x, y, high=1.0)),
        with_temperature(lambda model, x, y: math.log(temperature(model, x, y))),
        with_temperature(
            lambda model, x, y: losses(model, x, y)(temperature(model, x, y))
        ),
        with_temperature(of_probabilities),
        with_temperature(coarse),
        with_temperature(few_steps),
        with_temperature(by_right_ones),
        with_temperature(one_image),
        lambda *args: examined()(*args)[::-1],
        lambda *args: examined()(*args)[0],
        lambda *args: (examined()(*args)[0].flatten(1), examined()(*args)[1]),
        lambda model, x, y, eps: examined()(model, x, y, 2 * eps),
        lambda model, x, y, eps: examined()(model, x, y, eps / 4),
        noise,
        temperature_of_attacked,
        always_from_the_image,
        first_image_only,
        changes_x,
        towards_the_second,
    ],
}

RIGHT = {
    "towards": [
        stepped(),
        stepped(limit=lambda moved, x, eps: torch.minimum(moved.relu(), torch.ones(()))),
        stepped(lambda g: -torch.sgn(g)),
        by_backward,
        by_log_p,
        image_by_image,
        in_numpy,
        on_a_copy,
        by_edges,
        Towards(),
    ],
    "accuracy_of_rest": [
        rest(),
        rest(count=lambda n: math.floor(n + 0.5)),
        rest(mean=lambda kept: kept.sum() / len(kept)),
        rest(mean=lambda kept: kept.double().mean()),
        in_lists,
        by_topk,
        by_argpartition,
        never_none,
        one_after_the_other,
    ],
    "linear_flip": [
        flip(),
        flip(norm=lambda w: torch.linalg.vector_norm(w, 1)),
        flip(low=None, best=lambda needed: max(min(needed), 0)),
        lambda W, b, x, y: torch.tensor(flip()(W, b, x, y)),
        vectorised,
        by_numpy,
        by_loops,
        by_halving,
        by_norm,
    ],
    "examine": [
        examined(),
        examined(steps=40, rate=0.1),
        examined(steps=30, rate=0.25, loss=lambda z, y, **kw: F.cross_entropy(z, y)),
        with_temperature(by_grids),
        with_temperature(by_lbfgs),
        with_temperature(golden),
        with_momentum,
        lambda *args: (examined()(*args)[0].float(), torch.tensor(examined()(*args)[1])),
    ],
}
