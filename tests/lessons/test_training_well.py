"""The lesson on training well: its equations, its functions and its files.

What a boxed equation says, written out in float64, is what torch gives.
"""

import math
from itertools import product

import pytest
import torch
import torch.nn.functional as F
from lesson_source import close, definitions, drawn
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from lessons_src import records, train
from lessons_src.data import Split
from lessons_src.exercises.training_well import new_points_right

LESSON = "training_well"
FUNCTIONS = ("warmup_decay", "train_well", "dead", "sigmoid", "tanh", "save", "load")
EXTREME = torch.tensor(
    [
        0.0,
        -0.0,
        1e-30,
        1.0,
        -1.0,
        20.0,
        -20.0,
        88.0,
        -88.0,
        100.0,
        -100.0,
        1e4,
        -1e4,
        3e38,
        -3e38,
        torch.inf,
        -torch.inf,
    ]
)


@pytest.fixture(scope="module")
def page():
    """What the lesson defines, as a namespace."""
    return definitions(LESSON, *FUNCTIONS)


def split_of(n=130, seed=0):
    """n small images with labels that can be learned."""
    images = torch.randn(n, 1, 4, 4, generator=torch.Generator().manual_seed(seed))
    return Split(images, images.flatten(1)[:, :3].argmax(1))


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 3))


# Boxed equations ------------------------------------------------------------------------


def test_what_the_page_says_of_r2s_seeds():
    """The published numbers lie among the recorded ones, and these are far apart after
    epoch 1."""
    runs = [run["test_accuracy"] for run in records.recorded("R2")["runs"]]
    for shares, published in zip(
        zip(*runs, strict=True), (0.363, 0.548, 0.628), strict=False
    ):
        assert min(shares) < published < max(shares)
    first, last = ([shares[k] for shares in runs] for k in (0, -1))
    assert max(first) - min(first) > 0.1 > 2 * (max(last) - min(last))


def test_eq_warmup_decay(page):
    """min(1, rise, fall) is the page's function; it peaks at 1, is never 0, and ends
    near 0."""
    for T, omega in product((10, 430, 1721), (0.1, 0.3)):
        stated = [
            min(1, (t + 1) / (omega * T), (T - t) / ((1 - omega) * T)) for t in range(T)
        ]
        close([page["warmup_decay"](t, T, omega) for t in range(T)], stated)
        assert max(stated) > 1 - 1 / (omega * T) and min(stated) > 0 and max(stated) <= 1
        assert math.isclose(stated[-1], 1 / ((1 - omega) * T))
        peak = stated.index(max(stated))
        assert stated[: peak + 1] == sorted(stated[: peak + 1])
        assert stated[peak:] == sorted(stated[peak:], reverse=True)


def test_eq_dead_unit():
    """A first-layer weight's gradient is the boxed sum over examples, for every
    weight."""
    x, W, b, V = drawn((6, 4), (5, 4), (5,), (3, 5))
    b[2] = -99  # unit 2 is dead
    W, b, V = (p.requires_grad_() for p in (W, b, V))
    u = x @ W.T + b
    a = u.relu()
    loss = F.cross_entropy(a @ V.T, torch.tensor([0, 1, 2, 0, 1, 2]))
    by_a, by_W, by_b, by_V = torch.autograd.grad(loss, (a, W, b, V))
    for j, d in product(range(5), range(4)):
        close(
            sum(by_a[n, j] * float(u[n, j] > 0) * x[n, d] for n in range(6)), by_W[j, d]
        )
    assert not by_W[2].any() and not by_b[2].any() and not by_V[:, 2].any()
    assert by_W[[0, 1, 3, 4]].any(1).all()


def test_eq_sigmoid_slope():
    """sigma' = sigma (1 - sigma), at most a quarter, by autograd and by central
    differences."""
    u = torch.linspace(-6, 6, 121, dtype=torch.float64, requires_grad=True)
    s = torch.sigmoid(u).detach()
    close(torch.autograd.grad(torch.sigmoid(u).sum(), u)[0], s * (1 - s))
    h = 1e-5
    close(
        (torch.sigmoid(u + h) - torch.sigmoid(u - h)).detach() / (2 * h),
        s * (1 - s),
        1e-8,
    )
    close((s * (1 - s)).max(), 0.25)


def test_eq_tanh_slope():
    """tanh u = 2 sigma(2u) - 1, with slope 1 - tanh^2, at most 1."""
    u = torch.linspace(-6, 6, 121, dtype=torch.float64, requires_grad=True)
    close(2 * torch.sigmoid(2 * u.detach()) - 1, u.detach().tanh())
    slope = torch.autograd.grad(u.tanh().sum(), u)[0]
    close(slope, 1 - u.detach().tanh() ** 2)
    close(slope.max(), 1)


# The page's functions -------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, reference", [("sigmoid", torch.sigmoid), ("tanh", torch.tanh)]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_activations_equal_torch(page, name, reference, dtype):
    """Values and gradients, at 0, at saturation and at infinity: finite where torch's
    are."""
    u = torch.cat(
        [EXTREME.to(dtype), drawn((50,), seed=3).to(dtype) * 5]
    ).requires_grad_()
    ours, theirs = page[name](u), reference(u)
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)
    ours, theirs = (torch.autograd.grad(v.sum(), u)[0] for v in (ours, theirs))
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "name, reference", [("sigmoid", torch.sigmoid), ("tanh", torch.tanh)]
)
def test_activations_keep_their_digits(page, name, reference):
    """Small values and small gradients too: relative errors, at tiny and at far inputs."""
    z = torch.tensor([1e-30, -1e-8, 1e-6, -0.01, 20.0, -20.0, -60.0, -75.0, -85.0])
    for dtype in (torch.float32, torch.float64):
        u = z.to(dtype).requires_grad_()
        tolerance = {"rtol": 1e-5, "atol": 0}
        exact = reference(u.double())
        torch.testing.assert_close(page[name](u).double(), exact, **tolerance)
        if name == "sigmoid":
            (ours,) = torch.autograd.grad(page[name](u).sum(), u)
            s, far = exact.detach(), torch.sigmoid(-u.double()).detach()
            torch.testing.assert_close(ours.double(), s * far, **tolerance)


def test_train_well_follows_the_schedule(page):
    """The rate of every step is the peak times the factor, and the last is nearly
    zero."""
    rates, step = [], torch.optim.Adam.step

    def recorded(self, *args, **kwargs):
        rates.append(self.param_groups[0]["lr"])
        return step(self, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.Adam, "step", recorded)
        history = page["train_well"](network(), split_of(), 4, lr=0.02, batch_size=50)
    close(rates, [0.02 * page["warmup_decay"](t, 12) for t in range(12)])
    assert len(history.loss) == 4 and history.loss[-1] < history.loss[0]


def test_warmup_decay_is_that_of_the_module(page):
    """What later lessons import gives the same factors."""
    for steps, warmup in product((10, 430), (0.1, 0.3)):
        for t in range(steps):
            ours = page["warmup_decay"](t, steps, warmup)
            assert ours == train.warmup_decay(t, steps, warmup)


def test_warmup_decay_is_what_lambda_lr_applies(page):
    """Stepped after every batch, LambdaLR gives lr times the page's factor."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.5)
    scheduler, rates = LambdaLR(optimizer, lambda t: page["warmup_decay"](t, 20)), []
    for _ in range(20):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    close(rates, [0.5 * min(1, (t + 1) / 6, (20 - t) / 14) for t in range(20)])


def test_dead_finds_the_units_that_never_fire(page):
    """Exactly those made dead, and not one that fires for a single example."""
    model, split = network(), split_of()
    with torch.no_grad():
        model[1].bias.fill_(50)
        model[1].bias[[3, 5]] = -1e3
        model[1].bias[7] = (
            -(split.images.flatten(1) @ model[1].weight[7]).topk(2).values.mean()
        )
    found = page["dead"](model, split)
    assert found.nonzero().flatten().tolist() == [3, 5]


def test_save_and_load_give_the_model_back(page, tmp_path):
    """Every number, and nothing is left beside the file."""
    model, path = network(seed=1), tmp_path / "model.pt"
    page["save"](model, path)
    other = page["load"](network(seed=2), path)
    for ours, theirs in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert [file.name for file in tmp_path.iterdir()] == ["model.pt"]


def test_a_failed_save_leaves_the_good_file(page, tmp_path, monkeypatch):
    """A disk that is full in the middle of writing destroys nothing."""
    path = tmp_path / "model.pt"
    page["save"](network(seed=1), path)
    before = path.read_bytes()

    def full(state, file):
        with open(file, "wb") as out:
            out.write(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError):
        page["save"](network(seed=2), path)
    assert path.read_bytes() == before


def test_load_runs_no_code_from_a_file(page, tmp_path):
    """A pickled object that is no tensor is refused, not built."""
    path = tmp_path / "model.pt"
    torch.save({"1.weight": print}, path)
    with pytest.raises(Exception, match="(?i)weights"):
        page["load"](network(), path)


@pytest.mark.parametrize("right, words", [(285, "at least"), (284, "fewer than")])
def test_nineteen_of_twenty_are_nineteen_of_twenty(right, words):
    """In float32 the share of 285 of 300 is less than 0.95."""
    labels = torch.arange(300) % 4
    points = torch.stack([labels.float(), torch.arange(300.0)], 1)

    def learn(x, y):
        told = lambda new: (new[:, 0].long() + (new[:, 1] >= right)) % 4  # noqa: E731
        return lambda new: F.one_hot(told(new), 4).float()

    said = new_points_right(learn, points, labels, points, labels)
    assert said[0] == f"{words} 19 of 20 new points right"
