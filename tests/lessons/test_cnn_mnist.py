"""Lesson 08, a convolutional network on MNIST: its equations and its functions."""

from itertools import product

import pytest
import torch
import torch.nn.functional as F
from lesson_source import close, definitions, drawn
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from lessons_src import models, recipes
from lessons_src.data import Split
from lessons_src.scale.checkpoint import fit_with_checkpoint

LESSON = "08_cnn_mnist"
FUNCTIONS = (
    "r1a r1b r3 cnn shapes table maps_of front silent_starts record measured "
    "show_record made with_checkpoint PowerCut breaks_at multiply_adds recipe maps_by_layer "
    "sentence Crop"
)
NETWORKS = {
    "r1a": (),
    "r1b": (),
    "r3": (),
    "cnn": ((24,), (48, 48), (96,)),  # the groups of its convolutions
}
every_network = pytest.mark.parametrize(("name", "arguments"), NETWORKS.items())


def images(n=640, seed=0):
    """n noise images with labels that can be learned from their mean."""
    x = torch.randn(n, 1, 28, 28, generator=torch.Generator().manual_seed(seed))
    return Split(x, x[:, 0, :10, 5].argmax(1))


@pytest.fixture
def page():
    """What the lesson defines, as a namespace, with noise for its data."""
    return definitions(LESSON, *FUNCTIONS.split(), train=images(), look=images(100, 1))


def operations(model, x):
    """torch's own count, in which a multiplication and an addition are two."""
    with FlopCounterMode(display=False) as counter:
        model(x)
    return counter.get_total_flops()


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


def test_eq_pool_first():
    """For functions that never fall the two orders agree;
    for one that falls they do not."""
    z = drawn((4, 3, 8, 8)) * 3
    for f in (F.relu, torch.sigmoid, torch.tanh, torch.floor, F.leaky_relu, torch.sign):
        close(F.max_pool2d(f(z), 2), f(F.max_pool2d(z, 2)))
    assert not torch.equal(F.max_pool2d(z.square(), 2), F.max_pool2d(z, 2).square())


@pytest.mark.parametrize(
    "c_in, c_out, k, side", [(1, 16, 5, 28), (16, 32, 3, 12), (3, 2, 1, 4)]
)
def test_eq_multiply_adds(c_in, c_out, k, side):
    """The box is the number of products of the sum written out,
    and half of torch's count."""
    x, out = torch.zeros(1, c_in, side, side), side - k + 1
    products = F.unfold(x, k).numel() * c_out  # (1, C_in k k, places)
    assert products == c_out * out * out * c_in * k * k
    assert operations(nn.Conv2d(c_in, c_out, k), x) == 2 * products


# The networks ---------------------------------------------------------------------------


def forward_pass(build, x):
    """Output, gradients and buffers of a network built and run from one seed,
    in training."""
    torch.manual_seed(3)
    model = build()
    out = model(x)
    gradients = torch.autograd.grad(out[:, 0].sum(), list(model.parameters()))
    return [out, *gradients, *model.buffers(), model.eval()(x)]


@pytest.mark.parametrize(
    ("name", "arguments", "options"),
    [
        ("r1a", (), {}),
        ("r1a", (), {"dropout": 0.1}),
        ("r1b", (), {}),
        ("r1b", (), {"dropout": 0.1}),
        ("r3", (), {}),
        ("cnn", ((4,), (6, 8)), {}),
        ("cnn", ((4, 4), (6,), (8,)), {"kernel": 3, "padded": True, "flatten": True}),
        ("cnn", ((3,),), {"dropout": 0.5, "size": 26, "augment": [nn.AvgPool2d(3, 1)]}),
    ],
)
def test_the_page_has_the_module_network(page, name, arguments, options):
    """Later lessons import what this page shows: the same start,
    outputs and gradients."""
    x = images(4).images
    for ours, theirs in zip(
        forward_pass(lambda: page[name](*arguments, **options), x),
        forward_pass(lambda: getattr(models, name)(*arguments, **options), x),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize(("size", "shift"), [(26, 0), (25, 1), (20, 4), (28, 0)])
def test_the_page_has_the_module_crop(page, size, shift):
    """A cut-out of every image, moved by up to the shift in training;
    in evaluation the middle."""
    x, layers = images(40).images, [page["Crop"](size, shift), models.Crop(size, shift)]
    made = []
    for layer in layers:
        torch.manual_seed(1)
        made.append(layer(x))
    assert torch.equal(*made) and made[0].shape == (40, 1, size, size)
    edge = (28 - size) // 2
    middle = x[:, :, edge : edge + size, edge : edge + size]
    for layer in layers:
        assert torch.equal(layer.eval()(x), middle)
    assert torch.equal(made[0], middle) == (shift == 0)
    windows = F.unfold(x, size).mT  # (40, places, size²)
    assert (windows == made[0].flatten(1)[:, None]).all(2).any(1).all()


@pytest.mark.parametrize("name, count", [("r1a", 58_730), ("r1b", 45_020)])
def test_published_parameter_counts(page, name, count):
    """Those of R1a and R1b; the outputs are logarithms of probabilities."""
    model = page[name]().eval()
    assert sum(p.numel() for p in model.parameters()) == count
    close(model(torch.randn(3, 1, 28, 28)).exp().sum(1).detach(), torch.ones(3), 1e-5)


@every_network
def test_shapes_are_those_of_a_forward_pass(page, name, arguments):
    """One row a layer, the shape that really comes out, and the mode is put back."""
    model = page[name](*arguments)
    rows = page["shapes"](model.train())
    assert model.training and all(not layer._forward_hooks for layer in model)
    x = torch.zeros(1, 1, 28, 28)
    for layer, (kind, shape, count) in zip(model.eval(), rows, strict=True):
        x = layer(x)
        assert (kind, shape) == (type(layer).__name__, tuple(x.shape[1:]))
        assert count == sum(p.numel() for p in layer.parameters())


@every_network
def test_multiply_adds_is_half_of_torchs_count(page, name, arguments):
    """Of whole networks, against torch's counter of operations."""
    model = page[name](*arguments).eval()
    counted = operations(model, torch.zeros(1, 1, 28, 28))
    assert counted == 2 * page["multiply_adds"](model)


def test_a_bias_before_batch_norm_does_nothing():
    """Values, gradients and running variance are the same;
    only the running mean moves with it."""
    x, w, bias = drawn((8, 3, 7, 7), (5, 3, 3, 3), (5,))
    outs = []
    for b in (None, 100 * bias):
        norm, weight = nn.BatchNorm2d(5).double(), w.clone().requires_grad_()
        z = norm(F.conv2d(x, weight, b))
        outs.append((z, torch.autograd.grad((z**3).sum(), weight)[0], norm.running_var))
    for one, other in zip(*outs, strict=True):
        close(one.detach(), other.detach(), 1e-6)


def test_front_is_r1as_front(page):
    """The same start values and the same maps as R1a's first four layers,
    for every seed."""
    x = images(5).images
    for seed in range(3):
        torch.manual_seed(seed)
        model = page["r1a"]()
        torch.manual_seed(seed)
        assert torch.equal(page["front"]()(x), page["maps_of"](model, x))


def test_silent_starts_counts_the_dead_ones(page):
    """On noise: as many as there are starts whose maps do not differ; none is none."""
    x, n = page["look"].images[:100], 0
    for seed in range(30):
        torch.manual_seed(seed)
        maps = page["r1a"]()[:4](x)
        n += bool((maps.amax(0) == maps.amin(0)).all())
    assert page["silent_starts"](30) == n
    assert page["silent_starts"](5, bend=lambda: nn.Threshold(1e9, 0)) == 5
    assert page["silent_starts"](5, norm=True) == 0


def test_recipe_is_that_of_the_module(page):
    """Optimiser, rates and batches of the page's `recipe` are those of `mnist-99`: the
    same weights after the same training."""
    split = images(300)
    torch.manual_seed(0)
    ours = page["cnn"]((16,), (32, 32), (64,), augment=[page["Crop"](26)])
    ours = ours.to(memory_format=torch.channels_last)
    page["recipe"](ours, split)
    theirs, _ = recipes.run(recipes.OWN["mnist-99"], split, split, seed=0)
    pairs = zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True)
    for a, b in pairs:
        torch.testing.assert_close(a, b)


# Checkpoints ----------------------------------------------------------------------------


@pytest.mark.parametrize("step", [1, 11, 25, 40])
def test_training_resumes_wherever_it_is_interrupted(page, tmp_path, step):
    """In the first step, at an epoch's start, in the middle, in the last step: the
    losses are those of four epochs in one call of `fit`."""
    model, optimizer, scheduler, order = page["made"]()
    options = {"scheduler": scheduler, "generator": order, "progress": False}
    whole = page["fit"](model, page["train"][:640], 4, optimizer, **options)
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
        split = page["train"][:640]
        path = tmp_path / "b.pt"
        history = fit_with_checkpoint(path, model, split, epochs, optimizer, **options)
    assert history.loss == losses
    pairs = zip(model.parameters(), expected.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


# Records --------------------------------------------------------------------------------


def fake(mean=0.99, sd=0.001, n=3, seconds=5.0):
    return {
        "accuracy": {"mean": mean, "sd": sd, "n": n},
        "seconds": {"mean": seconds, "sd": None if sd is None else 0.1, "n": n},
    }


def test_measured_says_mean_spread_and_n(page):
    """With one run there is no spread."""
    assert page["measured"](fake()["accuracy"], "%") == "**99.00%** ± **0.10%** (n = 3)"
    assert page["measured"](fake(sd=None, n=1)["seconds"], "s") == "**5.0 s** (n = 1)"


def test_a_missing_record_is_said_plainly(page, capsys):
    """It names the command, without the path of this machine."""
    said = []
    page["say"] = said.append
    assert page["record"]("no-such-run") is None
    assert "python -m benchmarks.record no-such-run" in said[0]
    assert "/" not in said[0]


@pytest.mark.parametrize(
    "mean, sd, told",
    [
        (0.98, 0.001, "points worse"),
        (0.9895, 0.001, "noise"),
        (0.995, 0.001, "points better"),
    ],
)
def test_sentence_compares_with_the_noise(page, mean, sd, told):
    """A difference counts when it exceeds two standard errors of a
    difference of means."""
    page["whole_recipe"] = fake()
    said = page["sentence"](fake(mean, sd, seconds=10.0) | {"name": "no norm"})
    assert told in said and "**2.00 ×**" in said
