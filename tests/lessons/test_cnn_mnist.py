"""The lesson on a convolutional network on MNIST: its equations and its functions."""

from itertools import product

import pytest
import torch
import torch.nn.functional as F
from lesson_source import close, definitions, drawn
from networks import forward_pass
from torch import nn

from lessons_src import models
from lessons_src.data import Split

LESSON = "cnn_mnist"
FUNCTIONS = (
    "r1a r1b r3 shapes table draw_sizes eight_runs front silent_starts hundred_steps "
    "maps_by_layer"
)
every_network = pytest.mark.parametrize("name", ["r1a", "r1b", "r3"])


def images(n=640, seed=0):
    """n noise images with labels that can be learned from their mean."""
    x = torch.randn(n, 1, 28, 28, generator=torch.Generator().manual_seed(seed))
    return Split(x, x[:, 0, :10, 5].argmax(1))


@pytest.fixture
def page():
    """What the lesson defines, as a namespace, with noise for its data."""
    return definitions(
        LESSON, *FUNCTIONS.split(), train=images(1500), look=images(100, 1)
    )


# Boxed equations ------------------------------------------------------------------------


def test_eq_dead_channel():
    """A kernel weight's gradient is the boxed sum over images and places, for each;
    a dead channel gets none, gives none down, and the weights above it get none."""
    x, w, b, V = (
        v.requires_grad_() for v in drawn((3, 2, 6, 6), (1, 2, 3, 3), (1,), (16, 4))
    )
    for bias in (b, torch.tensor([-99.0]).double().requires_grad_()):
        z = F.conv2d(x, w, bias)
        a = z.relu()
        loss = F.cross_entropy(a.flatten(1) @ V, torch.tensor([0, 1, 3]))
        g, dw, db, dx, dV = torch.autograd.grad(loss, (a, w, bias, x, V))
        passed = g[:, 0] * (z[:, 0] > 0)  # (3, 4, 4)
        for c, u, v in product(range(2), range(3), range(3)):
            close((passed * x[:, c, u : u + 4, v : v + 4]).sum(), dw[0, c, u, v])
        close(passed.sum(), db[0])
    assert not (dw.any() or db.any() or dx.any() or dV.any())


def test_eq_constant_answer():
    """No constant answer has a mean loss below the entropy of the shares;
    the shares reach it."""
    y = torch.randint(4, (50,), generator=torch.Generator().manual_seed(0))
    q = y.bincount(minlength=4).double() / 50
    entropy = -(q * q.log()).sum()
    close(-q[y].log().mean(), entropy)
    assert (-drawn((500, 4)).log_softmax(1)[:, y].mean(1) >= entropy).all()
    logits = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    for _ in range(3000):  # descent on the constant alone ends there
        loss = -logits.log_softmax(0)[y].mean()
        logits = (logits - torch.autograd.grad(loss, logits)[0]).detach().requires_grad_()
    close(logits.softmax(0), q, 1e-6)


# The networks ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("r1a", ()), ("r1a", (0.1,)), ("r1b", ()), ("r1b", (0.1,)), ("r3", ())],
)
def test_the_page_has_the_module_network(page, name, arguments):
    """Later lessons import what this page shows: the same start,
    outputs and gradients."""
    x = images(4).images
    for ours, theirs in zip(
        forward_pass(lambda: page[name](*arguments), x),
        forward_pass(lambda: getattr(models, name)(*arguments), x),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("name, count", [("r1a", 58_730), ("r1b", 45_020)])
def test_published_parameter_counts(page, name, count):
    """Those of R1a and R1b; the outputs are logarithms of probabilities."""
    model = page[name]().eval()
    assert sum(p.numel() for p in model.parameters()) == count
    close(model(torch.randn(3, 1, 28, 28)).exp().sum(1).detach(), torch.ones(3), 1e-5)


@every_network
def test_shapes_are_those_of_a_forward_pass(page, name):
    """One row a layer, the shape that really comes out; the model stays as it is."""
    model = page[name]().train()
    before = [p.clone() for p in model.parameters()]
    rows = page["shapes"](model)
    assert model.training and all(not layer._forward_hooks for layer in model)
    assert all(map(torch.equal, before, model.parameters()))
    x = torch.zeros(1, 1, 28, 28)
    for layer, (kind, shape, count) in zip(model.eval(), rows, strict=True):
        x = layer(x)
        assert (kind, shape) == (type(layer).__name__, tuple(x.shape[1:]))
        assert count == sum(p.numel() for p in layer.parameters())


def test_table_prints_a_row_a_layer_and_the_sum(page, capsys):
    """The published number of R1b's parameters stands in the last line."""
    page["table"](page["r1b"]())
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 14 and lines[-1].split() == ["in", "all", "45,020"]


def test_the_drawing_names_every_size(page):
    """The alt text of R3's drawing holds the shapes of the model, in their order."""
    said = []
    page["show"] = lambda fig, alt, **options: said.append(alt)
    page["draw_sizes"](page["r3"](), "R3")
    assert "1×28×28, 16×26×26, 32×24×24, 32×12×12, 4608, 64, 10." in said[0]


def test_front_is_r1as_front(page):
    """The same start values and the same maps as R1a's first four layers,
    for every seed."""
    x = images(5).images
    for seed in range(3):
        torch.manual_seed(seed)
        model = page["r1a"]()
        torch.manual_seed(seed)
        assert torch.equal(page["front"]()(x), model[:4](x))


def test_silent_starts_counts_the_dead_ones(page):
    """On noise: as many as there are starts whose maps do not differ; none is none."""
    x, n = page["look"].images[:50], 0
    for seed in range(30):
        torch.manual_seed(seed)
        maps = page["r1a"]()[:4](x)
        n += bool((maps.amax(0) == maps.amin(0)).all())
    assert page["silent_starts"](30) == n
    assert page["silent_starts"](5, activation=lambda: nn.Threshold(1e9, 0)) == 5
    assert page["silent_starts"](5, norm=True) == 0


def test_eight_runs_see_a_dead_network(page):
    """With a second bias that no image overcomes: no value above 0, one answer, and the
    accuracy of that answer."""
    r1a = page["r1a"]

    def dead():
        model = r1a()
        torch.nn.init.constant_(model[2].bias, -99)
        return model

    page["r1a"] = dead
    rows = page["eight_runs"](lr=0.01, momentum=0.5)
    shares = page["look"].labels.bincount(minlength=10).double() / 100
    assert len(rows) == 8
    for above, answers, accuracy in rows:
        assert (above, answers) == (0, 1)
        assert min(abs(shares - accuracy)) < 1e-9


def test_hundred_steps_are_a_hundred(page):
    """One pass in 100 batches, from the same start each time."""
    steps = []

    class Counting(torch.optim.SGD):
        def step(self, *args):
            steps.append(1)
            return super().step(*args)

    def sgd(parameters):
        return Counting(parameters, lr=0.01)

    split, look = page["train"], page["look"]
    one, other = (
        page["hundred_steps"](page["r1b"], sgd, split[:400], look) for _ in "ab"
    )
    assert len(steps) == 200 and one[1:] == other[1:]
    assert all(map(torch.equal, one[0].parameters(), other[0].parameters()))


def test_maps_by_layer_are_the_networks_own(page):
    """After R1b's convolutions and ReLUs, in evaluation mode; the last is what the
    linear layers get."""
    torch.manual_seed(0)
    model, image = page["r1b"](), images(1).images[0]
    found = page["maps_by_layer"](model, image)
    shapes = [tuple(maps.shape) for maps in found.values()]
    assert shapes == [(1, 28, 28), (20, 24, 24), (20, 12, 12), (30, 8, 8), (30, 4, 4)]
    logits = model.eval()[8:](list(found.values())[-1].flatten()[None])
    torch.testing.assert_close(logits, model(image[None]))
