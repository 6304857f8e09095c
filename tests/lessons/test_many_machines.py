"""The lesson on many machines: its equations and its functions.

What a box says, written out in float64, is what counting, a simulation or torch gives.
"""

import ast
import itertools
import math
import subprocess
import sys
from itertools import product

import numpy as np
import pytest
import torch
import torch.distributed as dist
from lesson_source import cells, close, definitions, drawn
from networks import takes_one_step_of_training

from lessons_src.data import Split
from lessons_src.models import mlp
from lessons_src.scale.checkpoint import fit_with_checkpoint
from lessons_src.train import fit, seed_everything

LESSON = "many_machines"
FUNCTIONS = (
    "training_step fastest slope gradient average_gradients train_epoch fresh "
    "largest_difference ring_steps made with_checkpoint PowerCut breaks_at ALPHA LINK "
    "ring_time"
)


def images(n=640, seed=0):
    """n noise images with labels that can be learned from their mean."""
    x = torch.randn(n, 1, 28, 28, generator=torch.Generator().manual_seed(seed))
    return Split(x, x[:, 0, :10, 5].argmax(1))


@pytest.fixture
def page():
    """What the lesson defines, as a namespace, with noise for its data."""
    return definitions(LESSON, *FUNCTIONS.split(), train=images())


# Boxed equations ------------------------------------------------------------------------


def test_eq_log_slope():
    """The derivative of log t with respect to log B, by autograd in float64; a half at B = a/b."""
    for a, b, B in product((0.0, 0.3, 50.0), (0.01, 2.0), (1.0, 25.0, 1e4)):
        u = torch.tensor(math.log(B), dtype=torch.float64, requires_grad=True)
        (found,) = torch.autograd.grad((a + b * u.exp()).log(), u)
        close(found, b * B / (a + b * B))
    close(2.0 * 25 / (50 + 2.0 * 25), 0.5)


def test_eq_linear_scaling():
    """The distance of k small steps from one large one is of second order in lr."""
    k, (X, w0, t) = 4, drawn((4, 8, 3), (3,), (4, 8))

    def g(j, w):
        w = w.detach().requires_grad_()
        return torch.autograd.grad(((X[j] @ w).tanh() - t[j]).square().mean(), w)[0]

    def distance(lr):
        theta = w0
        for j in range(k):
            theta = theta - lr * g(j, theta)
        once = w0 - (k * lr) * sum(g(j, w0) for j in range(k)) / k
        return (theta - once).norm()

    for lr in (1e-2, 1e-3, 1e-4):
        close(distance(lr) / distance(lr / 2), 4, 0.05)


def test_eq_rank_gradients(page):
    """Shares of any size, weighted, give the whole batch's gradient;
    unweighted they do not."""
    seed_everything(0)
    model, x, y = mlp(6, 5, 3).double(), drawn((12, 6)), torch.arange(12) % 3
    whole = page["gradient"](model, x, y)
    for shares in ([6, 6], [1, 11], [3, 4, 5], [1] * 12):
        pairs = zip(x.split(shares), y.split(shares), strict=True)
        parts = [page["gradient"](model, *pair) for pair in pairs]
        close(sum(n / 12 * g for n, g in zip(shares, parts, strict=True)), whole)
        plain = torch.allclose(sum(parts) / len(parts), whole)
        assert plain == (len(set(shares)) == 1)


def ring(page, P, n=None):
    """The states of the page's ring, and how many numbers each rank handed on."""
    n = n or 3 * P
    vectors = drawn((P, n))
    states = list(page["ring_steps"](vectors))
    changed = [
        (b != a).sum((1, 2)) for a, b in itertools.pairwise(states)
    ]  # received by each
    return vectors, states, sum(changed, torch.zeros(P, dtype=torch.int64))


@pytest.mark.parametrize("P", [1, 2, 3, 4, 7])
def test_eq_ring_bytes(page, P):
    """What every rank receives, counted in the simulated ring,
    is 2 (P - 1) / P of its vector."""
    vectors, states, received = ring(page, P)
    M = vectors.shape[1]
    assert received.tolist() == [2 * (P - 1) * M // P] * P
    for rank in states[-1].flatten(1):
        close(rank, vectors.sum(0))


@pytest.mark.parametrize("P", [1, 2, 5])
def test_eq_ring_time(page, P):
    """Step by step: each lasts as long as one message of a P-th of the bytes."""
    alpha, w, M = 0.5, 4.0, 60.0
    steps = len(ring(page, P)[1]) - 1
    lasted = sum(alpha + (M / P) / w for _ in range(steps))
    close(2 * (P - 1) * (alpha + M / (P * w)), lasted)
    close(page["ring_time"](P, M, alpha, w), lasted)


def test_eq_checkpoint_interval():
    """No other interval loses less, and a simulation of failures loses what the
    formula says."""

    def lost(tau):
        return c / tau + tau / (2 * mu)

    for c, mu in ((0.01, 5.0), (1.0, 1000.0)):
        best = math.sqrt(2 * c * mu)
        assert all(lost(best) < lost(best * factor) for factor in (0.5, 0.9, 1.1, 2))
    rng, tau = np.random.default_rng(0), best
    since = rng.exponential(mu, 200_000) % (tau + c)  # into the interval when it fails
    simulated = c / (tau + c) + since.mean() / mu
    close(simulated, lost(tau), 0.1 * lost(tau))


# The page's functions -------------------------------------------------------------------


def test_training_step_is_one_step_of_training(page):
    """The same loss, gradient and step as written out with torch."""
    takes_one_step_of_training(page["training_step"])


def test_slope_of_a_power_law(page):
    """An exact power law gives its exponent."""
    sizes = np.array([2, 8, 100])
    close(page["slope"](sizes, 3 * sizes**1.7), 1.7)


def test_fastest_takes_turns_after_one_warm_up(page):
    """a b, then a b a b a b: each measured in turn, the first call of each thrown away."""
    calls = []
    rivals = {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}
    found = page["fastest"](rivals, rounds=3)
    assert calls == ["a", "b"] * 4
    assert found.keys() == rivals.keys() and all(v >= 0 for v in found.values())


@pytest.mark.parametrize("P", [2, 3, 5])
def test_ring_with_extreme_numbers(page, P):
    """Whole numbers about 2^50 add up exactly in float64; infinity arrives everywhere."""
    vectors = 2.0**50 + torch.arange(2.0 * P * P, dtype=torch.float64).view(P, 2 * P)
    vectors[0, 0] = math.inf
    before = vectors.clone()
    *_, last = page["ring_steps"](vectors)
    assert torch.equal(last.flatten(1), before.sum(0).expand(P, -1))
    assert torch.equal(vectors, before), "the ranks' own vectors are left as they were"


def test_ring_only_talks_to_the_right_neighbour(page):
    """After one step each rank has changed one chunk, by its left neighbour's."""
    vectors, states, _ = ring(page, 4)
    for r in range(4):
        got = states[1][r] - states[0][r]
        assert got.any(1).sum() == 1
        close(got[(r - 1) % 4], states[0][(r - 1) % 4, (r - 1) % 4])


# Ranks ----------------------------------------------------------------------------------


RANKS = """
{functions}
def trained(wrap):
    model, order = fresh()
    network = wrap(model)
    for _ in range(2):
        step(network, order)
    return model.state_dict()

def by_library(network, order):
    for batch in torch.randperm(len(x), generator=order).split(64):
        mine = batch.tensor_split(2)[dist.get_rank()]
        network.zero_grad()
        F.cross_entropy(network(x[mine]), y[mine]).backward()
        for p in network.parameters():
            p.data -= 0.1 * p.grad

def by_hand(network, order):
    train_epoch(network, x, y, 0.1, order, batch_size)

folder = sys.argv[1]
meet = dist.FileStore(f"{folder}/meet", 2)
dist.init_process_group("gloo", store=meet, rank=int(sys.argv[2]), world_size=2)
x, y = torch.load(f"{folder}/data.pt")
step, weights = by_hand, {}
for batch_size in (64, 37):
    weights[f"by hand {batch_size}"] = trained(lambda model: model)
step = by_library
weights["library 64"] = trained(nn.parallel.DistributedDataParallel)
torch.save(weights, f"{folder}/weights-{dist.get_rank()}.pt")
dist.destroy_process_group()
"""


def source_of(*names):
    """The text of functions of the lesson, as a script has it."""
    found = {}
    for cell in cells(LESSON):
        if cell.cell_type == "code":
            for node in ast.parse(cell.source).body:
                if isinstance(node, ast.FunctionDef):
                    found[node.name] = ast.get_source_segment(cell.source, node)
    return "\n".join(found[name] for name in names)


@pytest.mark.slow
def test_two_ranks_train_like_one_process_and_like_the_library(page, tmp_path):
    """On two processes, with shares of 32 and 32 and with shares of 19 and 18: the weights
    are those of `fit`; so are those that DistributedDataParallel gives."""
    split = images(192)
    torch.save((split.images, split.labels), tmp_path / "data.pt")
    imports = "import sys, torch\nimport torch.distributed as dist\n"
    imports += "import torch.nn.functional as F\nfrom torch import nn\n"
    functions = imports + source_of("average_gradients", "train_epoch", "fresh")
    script = tmp_path / "ranks.py"
    script.write_text(RANKS.replace("{functions}", functions), encoding="utf-8")
    command = [sys.executable, str(script), str(tmp_path)]
    jobs = [subprocess.Popen([*command, rank]) for rank in ("0", "1")]
    assert [job.wait(timeout=110) for job in jobs] == [0, 0]
    for rank in (0, 1):
        for name, weights in torch.load(tmp_path / f"weights-{rank}.pt").items():
            alone, order = page["fresh"]()
            sgd = torch.optim.SGD(alone.parameters(), lr=0.1)
            batch_size = int(name[-2:])
            options = {"batch_size": batch_size, "generator": order, "progress": False}
            fit(alone, split, 2, sgd, **options)
            assert page["largest_difference"](alone.state_dict(), weights) < 1e-6


def test_one_rank_is_a_group_too(page):
    """A group of one: an epoch gives the weights of `fit`."""
    split, (alone, order) = images(100), page["fresh"]()
    sgd = torch.optim.SGD(alone.parameters(), lr=0.1)
    fit(alone, split, 1, sgd, generator=order, progress=False)
    model, order = page["fresh"]()
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    page["train_epoch"](model, split.images, split.labels, 0.1, order)
    dist.destroy_process_group()
    assert page["largest_difference"](alone.state_dict(), model.state_dict()) < 1e-6


# Checkpoints ----------------------------------------------------------------------------


@pytest.mark.parametrize("step", [1, 11, 25, 40])
def test_training_resumes_wherever_it_is_interrupted(page, tmp_path, step):
    """In the first step, at an epoch's start, in the middle, in the last step: the
    losses are those of four epochs in one call of `fit`."""
    model, optimizer, scheduler, order = page["made"]()
    options = {"scheduler": scheduler, "generator": order, "progress": False}
    whole = page["fit"](model, page["train"], 4, optimizer, **options)
    path = tmp_path / "a.pt"
    with pytest.raises(page["PowerCut"]):
        page["with_checkpoint"](path, loss_fn=page["breaks_at"](step))
    assert path.exists() == (step > 10)
    _, losses = page["with_checkpoint"](path, seed=0 if step <= 10 else 99)
    assert losses == whole.loss


def test_the_lessons_loop_is_that_of_the_module(page, tmp_path):
    """`fit_with_checkpoint`, interrupted after two epochs, gives the same losses and
    weights."""
    expected, losses = page["with_checkpoint"](tmp_path / "a.pt")
    for epochs in (2, 4):
        model, optimizer, scheduler, order = page["made"]()
        options = {"scheduler": scheduler, "generator": order, "progress": False}
        split = page["train"]
        path = tmp_path / "b.pt"
        history = fit_with_checkpoint(path, model, split, epochs, optimizer, **options)
    assert history.loss == losses
    pairs = zip(model.parameters(), expected.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
