"""Exercises of the lesson on many machines: what ranks do together."""

import copy
import threading

import torch
import torch.nn.functional as F
from torch import nn

from lessons_src.exercises import exercise


def _shares(draw):
    """Gradients of some ranks, and their numbers of examples; without any, it is nan."""
    shape = [draw.integer(1, 1 + draw.size) for _ in range(draw.integer(1, 3))]
    sizes = [draw.integer(1, 9)] + [draw.integer(0, 9) for _ in range(draw.size)]
    nothing = torch.full(shape, torch.nan)
    return [draw.numbers(*shape) if n > 0 else nothing for n in sizes], sizes


def _weighted(gradients, sizes):
    return sum(n * g for g, n in zip(gradients, sizes, strict=True) if n > 0)


@exercise(
    inputs=_shares,
    cases={
        "Rank 1 had no example: its gradient is nan, and 0 · nan is nan. Leave it out.": (
            [torch.ones(2), torch.full((2,), torch.nan), 3 * torch.ones(2)],
            [5, 0, 3],
        ),
        "Rank 0 may be the one without an example.": (
            [torch.full((2,), torch.nan), torch.ones(2), 3 * torch.ones(2)],
            [0, 1, 2],
        ),
    },
    mistakes={
        "A rank without an example: 0 · nan is nan. Leave it out.": (
            lambda gradients, sizes: sum(map(torch.mul, gradients, sizes)) / sum(sizes)
        ),
        "A mean of the gradients is wanted, not their sum.": lambda g, n: sum(g),
        "Unequal shares: a gradient weighs as many examples as its rank had.": (
            lambda gradients, sizes: sum(gradients) / len(gradients)
        ),
        "Divide by the number of all examples, not of ranks.": (
            lambda gradients, sizes: _weighted(gradients, sizes) / len(sizes)
        ),
        "Any number of ranks, not two.": (
            lambda gradients, sizes: _weighted(gradients[:2], sizes[:2]) / sum(sizes[:2])
        ),
    },
)
def combine(gradients, sizes):
    """The gradient of the whole batch's mean loss."""
    return _weighted(gradients, sizes) / sum(sizes)


def _seconds(draw):
    """The backward and all-reduce seconds of some layers."""
    n, scale = draw.size, draw.choice(1, 100)
    return tuple(
        [scale * draw.choice(0.0, *[draw.uniform(0, 6)] * 5) for _ in range(n)]
        for _ in range(2)
    )


def _ended(start):
    """`step_end` with a mistake. start: (ready, ended) -> when an all-reduce starts."""

    def step_end(backward, reduce):
        ready = ended = 0.0
        for compute, send in zip(backward, reduce, strict=True):
            ready += compute
            ended = max(ended, start(ready, ended) + send)
        return ended, sum(backward) + sum(reduce)

    return step_end


@exercise(
    inputs=_seconds,
    cases={
        "The later decides, layer by layer: ready, or the one before ended.": (
            [1, 5, 1],
            [1, 5, 1],
        )
    },
    mistakes={
        "There is nothing to send before a gradient is there.": (
            _ended(lambda ready, ended: ended)
        ),
        "One all-reduce at a time: the second starts when the first has ended.": (
            _ended(lambda ready, ended: ready)
        ),
        "Value 1 is with overlap: sending hides behind computing.": (
            lambda backward, reduce: (sum(backward) + sum(reduce),) * 2
        ),
        "Value 1 is with overlap, value 2 without.": (
            lambda backward, reduce: step_end.solution(backward, reduce)[::-1]
        ),
        "Not only the first and the last layer can hold things up.": (
            lambda b, r: (max(sum(b) + r[-1], b[0] + sum(r)), sum(b) + sum(r))
        ),
    },
)
def step_end(backward, reduce):
    """With overlap the layer counts that holds up all later ones; without, the sum."""
    ends = [sum(backward[: k + 1]) + sum(reduce[k:]) for k in range(len(reduce))]
    return max(ends), sum(backward) + sum(reduce)


def _state(draw):
    """A state in the middle of a run, examples, and how many steps come."""
    N, D = draw.integer(1, 8 * draw.size), draw.integer(1, draw.size)
    random = torch.Generator().manual_seed(draw.integer(0, 10**6)).get_state()
    state = {"w": draw.normal(D), "v": draw.normal(D), "t": draw.integer(1, 9)}
    return state | {"random": random}, draw.normal(N, D), draw.normal(N), 1 + draw.size


def _in_two_parts(answer, state, x, y, n):
    """The state after n steps, and that after n more."""
    half = answer(state, x, y, n)
    return (half, answer(half, x, y, n)) if isinstance(half, dict) else half


def _stepped(lose=None, divide=8, renew=False, keep=False, in_place=False, fixed=False):
    """`go_on` with a mistake, such as an entry of the state that it loses."""

    def go_on(state, x, y, n):
        start = state | ({lose: 0 * state[lose]} if lose else {})
        w, v, generator = start["w"], start["v"], torch.Generator()
        generator.set_state(state["random"])
        for t in range(start["t"], start["t"] + n):
            if renew:
                generator.set_state(state["random"])
            index = torch.randint(len(x), (8,), generator=generator)
            v = 0.9 * v + x[index].T @ (x[index] @ w - y[index]) / divide
            step = 0.1 / (1 + (start["t"] if fixed else t)) * v
            w = w.sub_(step) if in_place else w - step
        random = state["random"] if keep else generator.get_state()
        return {"w": w, "v": v, "t": start["t"] + n, "random": random}

    return go_on


@exercise(
    inputs=_state,
    mistakes={
        "The velocity comes from the state: it does not start from zero.": _stepped("v"),
        "The number of steps comes from the state: it does not start at 0.": _stepped(
            "t"
        ),
        "The generator is set once and then goes on.": _stepped(renew=True),
        "The new state must hold the generator's new state.": _stepped(keep=True),
        "Write w = w - …: w -= … changes the state that was given.": _stepped(
            in_place=True
        ),
        "The gradient is xᵀ(xw − y)/8: a mean over the 8 examples.": _stepped(divide=1),
        "The rate uses the t of each step, not that of the first.": _stepped(fixed=True),
    },
    hint="Value 1 is the state after n steps, value 2 the one n steps later: first the "
    "gradient of the 8 examples drawn, then the velocity, then the weights.",
    observe=_in_two_parts,
    trials=12,
)
def go_on(state, x, y, n):
    """n more steps, taken by torch's own SGD."""
    w = state["w"].clone().requires_grad_()
    sgd = torch.optim.SGD([w], lr=1, momentum=0.9)
    sgd.state[w]["momentum_buffer"] = state["v"].clone()
    generator = torch.Generator()
    generator.set_state(state["random"])
    for t in range(state["t"], state["t"] + n):
        index = torch.randint(len(x), (8,), generator=generator)
        sgd.param_groups[0]["lr"] = 0.1 / (1 + t)
        (0.5 * F.mse_loss(x[index] @ w, y[index])).backward()
        sgd.step()
        sgd.zero_grad()
    v = sgd.state[w]["momentum_buffer"]
    return {"w": w.detach(), "v": v, "t": state["t"] + n, "random": generator.get_state()}


class _Ranks:
    """Ranks as threads, and the all-reduce between them.

    Where one rank has ended and another still waits for it, the wait is an error.
    """

    def __init__(self, size):
        self.size, self.ended, self.parcels, self.round = size, 0, [], 0
        self.change = threading.Condition()

    def all_reduce(self, tensor):
        """Give every rank's tensor the sum of all, in place."""
        with self.change:
            self.parcels.append(tensor)
            mine = self.round
            if len(self.parcels) == self.size:
                total = torch.stack([p.detach() for p in self.parcels]).sum(0)
                for parcel in self.parcels:
                    parcel.detach().copy_(total)
                self.parcels, self.round = [], self.round + 1
                self.change.notify_all()
            while self.round == mine and not self.ended:
                self.change.wait()
            if self.round == mine:
                raise RuntimeError("a rank waits in all_reduce for one that has ended")

    def leave(self):
        with self.change:
            self.ended += 1
            self.change.notify_all()


def _together(answer, model, x, y, batch_size, lr, P):
    """The weights on each of P ranks after the answer has run on all of them."""
    ranks = _Ranks(P)
    models = [copy.deepcopy(model) for _ in range(P)]
    results, errors = [None] * P, []

    def work(rank):
        try:
            results[rank] = answer(
                models[rank], x, y, batch_size, lr, rank, P, ranks.all_reduce
            )
        except (Exception, SystemExit) as error:  # the reader's code: said below
            errors.append(error)
        finally:
            ranks.leave()

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(P)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    if results[0] is None or results[0] is Ellipsis:
        return results[0]
    return tuple(r.detach() if isinstance(r, torch.Tensor) else r for r in results)


def _shared_training(draw):
    """A network, examples, a batch size that leaves a short last batch, and ranks."""
    D, K, P = draw.integer(1, 3), draw.integer(2, 4), draw.integer(2, 4)
    batch_size = draw.integer(4, 7)
    N = draw.integer(1, 3) * batch_size + draw.integer(1, P - 1)
    torch_seed = draw.integer(0, 10**6)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(torch_seed)
        model = nn.Sequential(nn.Linear(D, 3), nn.Tanh(), nn.Linear(3, K)).double()
    x, y = 2 * draw.normal(N, D), draw.labels(N, K)
    return model, x, y, batch_size, draw.choice(0.3, 0.5, 1.0), P


def _rank_trained(weigh=True, mean=True, reduce=True, short=True, same=False, skip=False):
    """`train_rank` with a mistake."""

    def train_rank(model, x, y, batch_size, lr, rank, P, all_reduce):
        for batch in torch.arange(len(x)).split(batch_size):
            if len(batch) < batch_size and not short:
                continue
            mine = batch if same else batch.tensor_split(P)[rank]
            share = len(mine) / len(batch) if weigh else 1 / P
            if not mean:
                share = 1.0
            if len(mine) == 0 and skip:
                continue
            loss = F.cross_entropy(model(x[mine]), y[mine])  # its gradient is 0 for none
            gradients = torch.autograd.grad(share * loss, [*model.parameters()])
            for p, g in zip(model.parameters(), gradients, strict=True):
                g = g.clone()
                if reduce:
                    all_reduce(g)
                p.data -= lr * g
        return torch.cat([p.flatten() for p in model.parameters()])

    return train_rank


@exercise(
    inputs=_shared_training,
    mistakes={
        "Without an all-reduce every rank goes its own way.": _rank_trained(reduce=False),
        "A mean is wanted: weigh each gradient by the rank's share before the sum.": (
            _rank_trained(mean=False)
        ),
        "Unequal shares: weigh by the number of examples, not by 1/P.": (
            _rank_trained(weigh=False)
        ),
        "A rank without examples has to call all_reduce too: the others wait for it.": (
            _rank_trained(skip=True)
        ),
        "The short last batch is trained on too.": _rank_trained(short=False),
        "Each rank has the whole batch: the sum is P times too large.": (
            _rank_trained(mean=False, same=True)
        ),
    },
    hint="Each value is the weights of one rank: all must be those of one process.",
    observe=_together,
    tolerance=1e-8,
    trials=8,
    pure=False,  # a network is not equal to its copy
    names=("model", "x", "y", "batch_size", "lr", "P"),
)
def train_rank(model, x, y, batch_size, lr, rank, P, all_reduce):
    """One process with the whole batch, by torch's own SGD: what every rank must get."""
    sgd = torch.optim.SGD(model.parameters(), lr=lr)
    for batch in torch.arange(len(x)).split(batch_size):
        sgd.zero_grad()
        F.cross_entropy(model(x[batch]), y[batch]).backward()
        sgd.step()
    return torch.cat([p.flatten() for p in model.parameters()])
