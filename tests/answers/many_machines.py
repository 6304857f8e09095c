"""Answers to the exercises of the lesson on many machines."""

import functools
import itertools
import math

import numpy as np
import torch
import torch.nn.functional as F


def combined(weigh=lambda n, sizes: n / sum(sizes), keep=lambda n, g: n > 0):
    """The right sum, with one of its parts changed."""
    return lambda gradients, sizes: sum(
        weigh(n, sizes) * g for n, g in zip(sizes, gradients, strict=True) if keep(n, g)
    )


def from_the_first(gradients, sizes):
    """Starts with the first rank, which may be empty."""
    total = sizes[0] * gradients[0]
    for n, g in zip(sizes[1:], gradients[1:], strict=True):
        if n > 0:
            total = total + n * g
    return total / sum(sizes)


def stops_at_an_empty_one(gradients, sizes):
    total = torch.zeros_like(gradients[0])
    for n, g in zip(sizes, gradients, strict=True):
        if n == 0:
            break
        total += n * g
    return total / sum(sizes)


def adds_up_in_place(gradients, sizes):
    """Changes the gradient of a rank."""
    full = [(n, g) for n, g in zip(sizes, gradients, strict=True) if n > 0]
    n, total = full[0]
    total *= n
    for n, g in full[1:]:
        total += n * g
    return total / sum(sizes)


def scales_in_place(gradients, sizes):
    for n, g in zip(sizes, gradients, strict=True):
        g *= n / sum(sizes)
    return sum(g for n, g in zip(sizes, gradients, strict=True) if n > 0)


def nan_left_out_of_one_list(gradients, sizes):
    """Gradients and sizes no longer belong together."""
    kept = [g for g in gradients if not g.isnan().any()]
    return sum(n * g for n, g in zip(sizes, kept, strict=False)) / sum(sizes)


def running_mean(gradients, sizes):
    """Half of the old, half of the new."""
    kept = [g for n, g in zip(sizes, gradients, strict=True) if n > 0]
    total = kept[0]
    for g in kept[1:]:
        total = (total + g) / 2
    return total


def by_einsum(gradients, sizes):
    kept = [r for r, n in enumerate(sizes) if n]
    stacked = torch.stack([gradients[r] for r in kept])
    share = torch.tensor([sizes[r] for r in kept]).to(stacked.dtype) / sum(sizes)
    return torch.einsum("p...,p->...", stacked, share)


def by_where(gradients, sizes):
    total = torch.zeros_like(gradients[0])
    for n, g in zip(sizes, gradients, strict=True):
        total += n * torch.where(torch.tensor(n > 0), g, torch.zeros_like(g))
    return total.div(sum(sizes))


def by_average(gradients, sizes):
    kept = [(g.numpy(), n) for g, n in zip(gradients, sizes, strict=True) if n]
    return np.average([g for g, _ in kept], axis=0, weights=[n for _, n in kept])


def by_running_mean(gradients, sizes):
    mean, seen = torch.zeros_like(gradients[0]), 0
    for n, g in zip(sizes, gradients, strict=True):
        if n > 0:
            seen += n
            mean = mean + n / seen * (g - mean)
    return mean


def by_reduce(gradients, sizes):
    def add(total, rank):
        return total + rank[0] * rank[1] if rank[0] else total

    return functools.reduce(add, zip(sizes, gradients, strict=True), 0) / sum(sizes)


def in_float64(gradients, sizes):
    return combined()([g.double() for g in gradients], sizes)


def ends(
    start=lambda ready, ended: max(ready, ended),
    flip=list,
    without=lambda b, r: sum(b) + sum(r),
):
    """The right times, with one of their parts changed."""

    def step_end(backward, reduce):
        ready = ended = 0.0
        for compute, send in zip(flip(backward), flip(reduce), strict=True):
            ready += compute
            ended = start(ready, ended) + send
        return ended, without(backward, reduce)

    return step_end


def with_overlap(formula):
    return lambda b, r: (formula(b, r), sum(b) + sum(r))


def ready_too_early(b, r):
    ready = ended = 0.0
    for compute, send in zip(b, r, strict=True):
        ended = max(ready, ended) + send
        ready += compute
    return max(ready, ended)


def waits_for_the_first_only(b, r):
    return max(b[0] + sum(r), sum(b))


def ends_of_the_ends(b, r):
    return max(sum(b) + r[-1], b[0] + sum(r))


def at_the_same_time(b, r):
    """All-reduces do not wait for each other."""
    return max(
        ready + send for ready, send in zip(itertools.accumulate(b), r, strict=True)
    )


def by_layers(b, r):
    return sum(max(compute, send) for compute, send in zip(b, r, strict=True))


def pipelined(b, r):
    """The next layer is computed only beside the sending of the one before."""
    end = b[0]
    for compute, send in zip(b[1:], r[:-1], strict=True):
        end += max(compute, send)
    return end + r[-1]


def the_longest_way(b, r):
    return max(sum(b[: k + 1]) + sum(r[k:]) for k in range(len(b)))


def by_numpy(backward, reduce):
    ready, left = np.cumsum(backward), np.cumsum(reduce[::-1])[::-1]
    return np.array([np.max(ready + left), ready[-1] + left[0]])


def by_tensors(backward, reduce):
    ready = torch.tensor(backward, dtype=torch.float64).cumsum(0)
    send = torch.tensor(reduce, dtype=torch.float64)
    before = torch.cat([torch.zeros(1, dtype=torch.float64), send.cumsum(0)[:-1]])
    return (ready - before).max() + send.sum(), ready[-1] + send.sum()


def by_recursion(backward, reduce):
    def end(n):
        return max(sum(backward[:n]), end(n - 1)) + reduce[n - 1] if n else 0

    return [end(len(backward)), math.fsum([*backward, *reduce])]


def by_idle_time(backward, reduce):
    idle = ready = sent = 0.0
    for compute, send in zip(backward, reduce, strict=True):
        ready += compute
        idle += max(0.0, ready - sent - idle)
        sent += send
    return sent + idle, ready + sent


def gone_on(
    gradient=lambda x, w, y: x.T @ (x @ w - y) / len(x),
    velocity=lambda v, g: 0.9 * v + g,
    rate=lambda t: 0.1 / (1 + t),
    draw=lambda n, generator: torch.randint(n, (8,), generator=generator),
    begin=lambda state: state["t"],
    count=1,
    steps=lambda n: n,
    step=lambda w, rate, v, g: w - rate * v,
):
    """The right steps, with one of their parts changed."""

    def go_on(state, x, y, n):
        w, v, t = state["w"], state["v"], begin(state)
        generator = torch.Generator()
        generator.set_state(state["random"])
        for _ in range(steps(n)):
            index = draw(len(x), generator)
            g = gradient(x[index], w, y[index])
            v = velocity(v, g)
            w = step(w, rate(t), v, g)
            t += count
        return {"w": w, "v": v, "t": t, "random": generator.get_state()}

    return go_on


def changed(change):
    """The right state, with one of its entries changed: (old, new) -> new."""
    return lambda state, x, y, n: change(state, gone_on()(state, x, y, n))


def new_generator(state, x, y, n):
    torch.manual_seed(0)
    return gone_on(draw=lambda size, _: torch.randint(size, (8,)))(state, x, y, n)


def same_draw(state, x, y, n):
    """The generator is set back before every step."""
    w, v, t = state["w"], state["v"], state["t"]
    for _ in range(n):
        generator = torch.Generator()
        generator.set_state(state["random"])
        index = torch.randint(len(x), (8,), generator=generator)
        v = 0.9 * v + x[index].T @ (x[index] @ w - y[index]) / 8
        w = w - 0.1 / (1 + t) * v
        t += 1
    return {"w": w, "v": v, "t": t, "random": generator.get_state()}


def one_draw(state, x, y, n):
    """The same 8 examples in all steps."""
    generator = torch.Generator()
    generator.set_state(state["random"])
    index = torch.randint(len(x), (8,), generator=generator)
    new = gone_on(draw=lambda size, _: index)(state, x, y, n)
    return {**new, "random": generator.get_state()}


def changes_w(state, x, y, n):
    def step(w, rate, v, g):
        w -= rate * v
        return w

    return gone_on(step=step)(state, x, y, n)


def changes_v(state, x, y, n):
    return gone_on(velocity=lambda v, g: v.mul_(0.9).add_(g))(state, x, y, n)


def changes_the_dict(state, x, y, n):
    state.update(gone_on()(state, x, y, n))
    return state


def nesterov(state, x, y, n):
    return gone_on(step=lambda w, rate, v, g: w - rate * (0.9 * v + g))(state, x, y, n)


def old_velocity(state, x, y, n):
    """The step is taken before the velocity grows."""
    w, v, t = state["w"], state["v"], state["t"]
    generator = torch.Generator()
    generator.set_state(state["random"])
    for _ in range(n):
        index = torch.randint(len(x), (8,), generator=generator)
        g = x[index].T @ (x[index] @ w - y[index]) / 8
        w = w - 0.1 / (1 + t) * v
        v = 0.9 * v + g
        t += 1
    return {"w": w, "v": v, "t": t, "random": generator.get_state()}


def by_autograd(x, w, y):
    w = w.clone().requires_grad_()
    (g,) = torch.autograd.grad(0.5 * (x @ w - y).square().mean(), w)
    return g


def with_torchs_sgd(state, x, y, n):
    w = state["w"].clone().requires_grad_()
    sgd = torch.optim.SGD([w], lr=0.1, momentum=0.9)
    sgd.state[w]["momentum_buffer"] = state["v"].clone()
    generator, t = torch.Generator(), state["t"]
    generator.set_state(state["random"])
    for t in range(state["t"], state["t"] + n):
        index = torch.randint(len(x), (8,), generator=generator)
        sgd.param_groups[0]["lr"] = 0.1 / (1 + t)
        sgd.zero_grad()
        (F.mse_loss(x[index] @ w, y[index]) / 2).backward()
        sgd.step()
    v = sgd.state[w]["momentum_buffer"]
    t = state["t"] + n
    return {"w": w.detach(), "v": v, "t": t, "random": generator.get_state()}


def on_copies(state, x, y, n):
    new = {k: v.clone() if torch.is_tensor(v) else v for k, v in state.items()}
    generator = torch.Generator()
    generator.set_state(new["random"])
    for _ in range(n):
        index = torch.randint(len(x), (8,), generator=generator)
        xb, yb = x[index], y[index]
        new["v"] *= 0.9
        new["v"] += (xb * (xb @ new["w"] - yb)[:, None]).mean(0)
        new["w"] -= 0.1 / (1 + new["t"]) * new["v"]
        new["t"] += 1
    new["random"] = generator.get_state()
    return new


def step_by_step(state, x, y, n):
    """By recursion: one step, then the rest."""
    if n == 0:
        return dict(state)
    return step_by_step(gone_on()(state, x, y, 1), x, y, n - 1)


def all_draws_at_first(state, x, y, n):
    generator = torch.Generator()
    generator.set_state(state["random"])
    draws = iter([torch.randint(len(x), (8,), generator=generator) for _ in range(n)])
    new = gone_on(draw=lambda size, _: next(draws))(state, x, y, n)
    new["random"] = generator.get_state()
    return new


def vector(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def ranked(
    loss_of=lambda z, y, B, P: F.cross_entropy(z, y, reduction="sum") / B,
    shared=lambda batch, P, rank: batch.tensor_split(P)[rank],
    send=lambda p, all_reduce, P: all_reduce(p.grad),
    result=vector,
    rate=lambda lr, P: lr,
    cut=lambda x, B: torch.arange(len(x)).split(B),
    clear=lambda sgd: sgd.zero_grad(),
    epochs=1,
    skip=lambda mine: False,
    momentum=0.0,
):
    """The right training, with one of its parts changed."""

    def train_rank(model, x, y, batch_size, lr, rank, P, all_reduce):
        sgd = torch.optim.SGD(model.parameters(), rate(lr, P), momentum)
        for batch in list(cut(x, batch_size)) * epochs:
            mine = shared(batch, P, rank)
            if skip(mine):
                continue
            loss = loss_of(model(x[mine]), y[mine], len(batch), P)
            clear(sgd)
            loss.backward()
            for p in model.parameters():
                send(p, all_reduce, P)
            sgd.step()
        return result(model)

    return train_rank


def nothing_sent(p, all_reduce, P):
    pass


def mean_sent(p, all_reduce, P):
    all_reduce(p.grad)
    p.grad /= P


def only_matrices_sent(p, all_reduce, P):
    if p.ndim > 1:
        all_reduce(p.grad)


def a_copy_sent(p, all_reduce, P):
    all_reduce(p.grad.clone())


def what_it_returns(p, all_reduce, P):
    """It replaces the tensor, and need not return it."""
    p.grad = all_reduce(p.grad)


def weights_too(p, all_reduce, P):
    all_reduce(p.grad)
    all_reduce(p.data)


def own_part_of_the_data(model, x, y, batch_size, lr, rank, P, all_reduce):
    """Shares the data instead of each batch: the batches are other ones."""
    mine = torch.arange(len(x)).tensor_split(P)[rank]
    return ranked(shared=lambda batch, P, rank: batch)(
        model, x[mine], y[mine], max(batch_size // P, 1), lr, rank, P, lambda g: None
    )


def weights_at_the_end(model, x, y, batch_size, lr, rank, P, all_reduce):
    """Each rank for itself, then the mean of the weights."""
    weights = ranked(send=nothing_sent)(model, x, y, batch_size, lr, rank, P, all_reduce)
    all_reduce(weights)
    return weights / P


def only_rank_0(model, x, y, batch_size, lr, rank, P, all_reduce):
    weights = ranked()(model, x, y, batch_size, lr, rank, P, all_reduce)
    if rank == 0:
        return weights


def in_one_vector(model, x, y, batch_size, lr, rank, P, all_reduce):
    """One all-reduce for all gradients; the step by hand."""
    for batch in torch.arange(len(x)).split(batch_size):
        mine = batch[rank::P]
        loss = F.cross_entropy(model(x[mine]), y[mine], reduction="sum")
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        flat = torch.cat([g.flatten() for g in gradients])
        all_reduce(flat)
        with torch.no_grad():
            k = 0
            for p in model.parameters():
                p -= lr * flat[k : k + p.numel()].view_as(p) / len(batch)
                k += p.numel()
    return torch.nn.utils.parameters_to_vector(model.parameters()).detach()


def weighted_means(model, x, y, batch_size, lr, rank, P, all_reduce):
    """The mean loss, weighted; nothing from an empty share."""
    for start in range(0, len(x), batch_size):
        xb, yb = x[start : start + batch_size], y[start : start + batch_size]
        n, extra = divmod(len(xb), P)
        begin = rank * n + min(rank, extra)
        size = n + (rank < extra)
        model.zero_grad()
        if size:
            z = model(xb[begin : begin + size])
            loss = F.cross_entropy(z, yb[begin : begin + size])
            (size / len(xb) * loss).backward()
        for p in model.parameters():
            g = torch.zeros_like(p) if p.grad is None else p.grad
            all_reduce(g)
            p.data.add_(g, alpha=-lr)
    return vector(model).numpy()


def last_ranks_first(batch, P, rank):
    return batch.tensor_split(P)[P - 1 - rank]


WRONG = {
    "combine": [
        lambda gradients, sizes: sum(gradients) / len(gradients),
        lambda gradients, sizes: sum(gradients),
        lambda gradients, sizes: torch.stack(gradients).nanmean(0),
        lambda gradients, sizes: torch.stack(gradients).nansum(0) / sum(sizes),
        lambda gradients, sizes: combined()(gradients, sizes[::-1]),
        lambda gradients, sizes: combined()(gradients, sizes)[None],
        lambda gradients, sizes: combined()(gradients, sizes).norm(),
        lambda gradients, sizes: combined()(gradients[:1], sizes[:1]),
        lambda gradients, sizes: combined()(gradients, [1] * len(sizes)),
        combined(keep=lambda n, g: True),
        combined(keep=lambda n, g: n > 1),
        combined(weigh=lambda n, sizes: n),
        combined(weigh=lambda n, sizes: n // sum(sizes)),
        combined(weigh=lambda n, sizes: n / len(sizes)),
        combined(weigh=lambda n, sizes: n / max(sizes)),
        combined(weigh=lambda n, sizes: n**2 / sum(m**2 for m in sizes)),
        combined(weigh=lambda n, sizes: 1 / sum(m > 0 for m in sizes)),
        combined(weigh=lambda n, sizes: 1 / n / sum(1 / m for m in sizes if m)),
        from_the_first,
        stops_at_an_empty_one,
        adds_up_in_place,
        scales_in_place,
        nan_left_out_of_one_list,
        running_mean,
    ],
    "step_end": [
        ends(start=lambda ready, ended: ready),
        ends(start=lambda ready, ended: ended),
        ends(start=lambda ready, ended: min(ready, ended)),
        ends(start=lambda ready, ended: ready + ended),
        ends(flip=lambda times: times[::-1]),
        ends(without=lambda b, r: sum(b)),
        ends(without=lambda b, r: max(sum(b), sum(r))),
        ends(without=lambda b, r: sum(b) + r[-1]),
        with_overlap(lambda b, r: max(sum(b), sum(r))),
        with_overlap(lambda b, r: sum(b) + r[-1]),
        with_overlap(lambda b, r: b[0] + sum(r)),
        with_overlap(lambda b, r: sum(b) + max(r)),
        with_overlap(lambda b, r: sum(b) + sum(r)),
        with_overlap(lambda b, r: sum(b)),
        with_overlap(ready_too_early),
        with_overlap(waits_for_the_first_only),
        with_overlap(ends_of_the_ends),
        with_overlap(at_the_same_time),
        with_overlap(by_layers),
        with_overlap(pipelined),
        lambda b, r: ends()(b, r)[::-1],
        lambda b, r: ends()(b, r)[0],
        lambda b, r: ends()(r, b),
        lambda b, r: (ends()(b, r)[1] - ends()(b, r)[0], ends()(b, r)[1]),
        lambda b, r: tuple(map(round, ends()(b, r))),
    ],
    "go_on": [
        gone_on(gradient=lambda x, w, y: x.T @ (x @ w - y)),
        gone_on(gradient=lambda x, w, y: 2 * x.T @ (x @ w - y) / 8),
        gone_on(gradient=lambda x, w, y: x.T @ (y - x @ w) / 8),
        gone_on(gradient=lambda x, w, y: x.T @ (x @ w) / 8),
        gone_on(velocity=lambda v, g: g),
        gone_on(velocity=lambda v, g: v + g),
        gone_on(velocity=lambda v, g: 0.9 * v + 0.1 * g),
        gone_on(velocity=lambda v, g: 0.9 * v - g),
        gone_on(velocity=lambda v, g: 0.9 * (v + g)),
        gone_on(rate=lambda t: 0.1),
        gone_on(rate=lambda t: 0.1 / (2 + t)),
        gone_on(rate=lambda t: 0.1 / max(t, 1)),
        gone_on(rate=lambda t: 0.1 / (1 + t) ** 0.5),
        gone_on(step=lambda w, rate, v, g: w + rate * v),
        gone_on(step=lambda w, rate, v, g: w - rate * g),
        gone_on(begin=lambda state: 0),
        gone_on(begin=lambda state: state["t"] + 1),
        gone_on(count=0),
        gone_on(steps=lambda n: n + 1),
        gone_on(steps=lambda n: min(n, 1)),
        gone_on(steps=lambda n: 3),
        gone_on(draw=lambda n, g: torch.randint(n, (4,), generator=g)),
        gone_on(draw=lambda n, g: torch.randperm(n, generator=g)[:8]),
        gone_on(draw=lambda n, g: torch.randint(n, (8,))),
        gone_on(draw=lambda n, g: torch.randint(n - 1, (8,), generator=g)),
        changed(lambda old, new: {**new, "random": old["random"]}),
        changed(lambda old, new: {**new, "v": old["v"]}),
        changed(lambda old, new: {**new, "v": torch.zeros_like(new["v"])}),
        changed(lambda old, new: {**new, "t": old["t"]}),
        changed(lambda old, new: {"w": new["w"], "v": new["v"], "t": new["t"]}),
        changed(lambda old, new: new["w"]),
        new_generator,
        same_draw,
        one_draw,
        changes_w,
        changes_v,
        changes_the_dict,
        nesterov,
        old_velocity,
    ],
    "train_rank": [
        ranked(send=nothing_sent),
        ranked(send=mean_sent),
        ranked(send=only_matrices_sent),
        ranked(send=a_copy_sent),
        ranked(send=what_it_returns),
        ranked(send=weights_too),
        ranked(send=lambda p, all_reduce, P: all_reduce(p.data)),
        ranked(loss_of=lambda z, y, B, P: F.cross_entropy(z, y)),
        ranked(loss_of=lambda z, y, B, P: F.cross_entropy(z, y) / P),
        ranked(loss_of=lambda z, y, B, P: F.cross_entropy(z, y, reduction="sum")),
        ranked(
            loss_of=lambda z, y, B, P: F.cross_entropy(z, y, reduction="sum") / (B * P)
        ),
        ranked(loss_of=lambda z, y, B, P: F.cross_entropy(z.softmax(1), y) * len(y) / B),
        ranked(shared=lambda batch, P, rank: batch),
        ranked(shared=lambda batch, P, rank: batch.tensor_split(P)[0]),
        ranked(shared=lambda batch, P, rank: batch[: len(batch) // P]),
        ranked(
            shared=lambda batch, P, rank: batch[
                rank * (len(batch) // P) : (rank + 1) * (len(batch) // P)
            ]  # the rest of a batch is lost
        ),
        ranked(cut=lambda x, B: torch.arange(len(x) // B * B).split(B)),
        ranked(cut=lambda x, B: torch.randperm(len(x)).split(B)),
        ranked(cut=lambda x, B: [torch.arange(len(x))]),
        ranked(cut=lambda x, B: torch.arange(len(x)).flip(0).split(B)),
        ranked(cut=lambda x, B: torch.arange(len(x)).split(2 * B)),
        ranked(clear=lambda sgd: None),
        ranked(rate=lambda lr, P: lr * P),
        ranked(rate=lambda lr, P: 0.1),
        ranked(momentum=0.9),
        ranked(epochs=2),
        ranked(skip=lambda mine: len(mine) == 0),  # the others wait for it
        ranked(result=lambda model: model),
        ranked(result=lambda model: vector(model)[:-1]),
        ranked(
            result=lambda model: torch.cat(
                [p.flatten() for p in model.parameters()][::-1]
            )
        ),
        ranked(
            result=lambda model: torch.cat([p.grad.flatten() for p in model.parameters()])
        ),
        ranked(result=lambda model: vector(model)[None]),
        own_part_of_the_data,
        weights_at_the_end,
        only_rank_0,
    ],
}

RIGHT = {
    "combine": [
        combined(),
        lambda gradients, sizes: combined()([g.nan_to_num() for g in gradients], sizes),
        lambda gradients, sizes: combined()(gradients, sizes).numpy(),
        by_einsum,
        by_where,
        by_average,
        by_running_mean,
        by_reduce,
        in_float64,
    ],
    "step_end": [
        ends(),
        with_overlap(the_longest_way),
        lambda b, r: tuple(map(torch.tensor, ends()(b, r))),
        by_numpy,
        by_tensors,
        by_recursion,
        by_idle_time,
    ],
    "go_on": [
        gone_on(),
        gone_on(gradient=by_autograd),
        gone_on(gradient=lambda x, w, y: torch.einsum("bd,b->d", x, x @ w - y) / 8),
        gone_on(gradient=lambda x, w, y: (x.T @ (x @ w) - x.T @ y) / 8),
        gone_on(velocity=lambda v, g: torch.add(g, v, alpha=0.9)),
        changed(lambda old, new: {key: new[key] for key in ("t", "random", "v", "w")}),
        with_torchs_sgd,
        on_copies,
        step_by_step,
        all_draws_at_first,
    ],
    "train_rank": [
        ranked(),
        ranked(shared=lambda batch, P, rank: batch[rank::P]),
        ranked(shared=last_ranks_first),
        ranked(
            loss_of=lambda z, y, B, P: -z.log_softmax(1).gather(1, y[:, None]).sum() / B
        ),
        ranked(
            result=lambda model: torch.nn.utils.parameters_to_vector(model.parameters())
        ),
        in_one_vector,
        weighted_means,
    ],
}
