"""The lesson on a fast convolutional network: its equations and its functions."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from lesson_source import close, definitions, drawn
from networks import forward_pass
from scipy import stats
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import ablations
from lessons_src import models, muon, recipes, records
from lessons_src.data import Split

LESSON = "fast_cnn"
FUNCTIONS = (
    "multiply_adds size_of conv_layers cnn Crop recipe against_whole small quick wide "
    "number_for_most orthogonal"
)
NETWORKS = [
    models.r1a,
    models.r1b,
    models.r3,
    models.r4,
    lambda: models.cnn((24,), (48, 48), (96,)),
    lambda: models.cnn((8,), (32,), augment=[models.Crop(24)], flatten=True, size=24),
]


def images(n=640, seed=0):
    """n noise images with labels that can be learned from their mean."""
    x = torch.randn(n, 1, 28, 28, generator=torch.Generator().manual_seed(seed))
    return Split(x, x[:, 0, :10, 5].argmax(1))


@pytest.fixture
def page():
    """What the lesson defines, as a namespace, with the recorded ablation."""
    variants = records.recorded("ablation-mnist")["variants"]
    rows = {row["name"]: row for row in variants}
    return definitions(LESSON, *FUNCTIONS.split(), ablation=rows)


def operations(model, x):
    """torch's own count, in which a multiplication and an addition are two."""
    with FlopCounterMode(display=False) as counter:
        model(x)
    return counter.get_total_flops()


# Boxed equations ------------------------------------------------------------------------


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


@pytest.mark.parametrize("shape", [(4, 9), (9, 4), (6, 6)])
def test_eq_singular_values(shape):
    """The products of the left are the polynomial on each value of PyTorch's own
    decomposition, for any a, b and c; also where two values are equal or one is 0."""
    U, s, Vh = torch.linalg.svd(drawn(shape), full_matrices=False)
    s[1], s[-1] = s[0], 0.0
    X, (a, b, c) = (U * s) @ Vh, (0.7, -1.9, 2.3)
    left = a * X + b * X @ X.mT @ X + c * X @ X.mT @ X @ X.mT @ X
    close(left, (U * (a * s + b * s**3 + c * s**5)) @ Vh)


# The networks ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("groups", "options"),
    [
        (((4,), (6, 8)), {}),
        (((4, 4), (6,), (8,)), {"kernel": 3, "padded": True, "flatten": True}),
        (((3,),), {"dropout": 0.5, "size": 26, "augment": [nn.AvgPool2d(3, 1)]}),
    ],
)
def test_the_page_has_the_module_network(page, groups, options):
    """Later lessons import what this page shows: the same start,
    outputs and gradients."""
    x = images(4).images
    for ours, theirs in zip(
        forward_pass(lambda: page["cnn"](*groups, **options), x),
        forward_pass(lambda: models.cnn(*groups, **options), x),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)


def test_the_written_out_network_is_the_one_of_cnn(page):
    """Given the same parameters it computes the same."""
    other = page["cnn"]((16,), (32, 32), (64,))
    other.load_state_dict(page["small"].state_dict())
    x = images(8).images
    assert torch.equal(page["small"].eval()(x), other.eval()(x))


@pytest.mark.parametrize(
    ("name", "recipe"), [("quick", "mnist-99-quick"), ("wide", "mnist-99.4")]
)
def test_the_page_counts_the_networks_of_the_records(page, name, recipe):
    """The networks beside the records are those that were trained."""
    ours, theirs = page[name], recipes.OWN[recipe].network()
    theirs.load_state_dict(ours.state_dict())
    x = images(8).images
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x))
    recorded = records.recorded(recipe)["runs"][0]["parameters"]
    assert recorded == sum(p.numel() for p in ours.parameters())


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


@pytest.mark.parametrize("network", NETWORKS)
def test_multiply_adds_is_half_of_torchs_count(page, network):
    """Of whole networks, against torch's counter of operations; the model stays as it
    is."""
    model = network().train()
    count = page["multiply_adds"](model)
    assert model.training
    assert operations(model.eval(), torch.zeros(1, 1, 28, 28)) == 2 * count


def test_size_of_says_both_counts(page):
    """R1b's published number of parameters, and its multiply-adds."""
    said = page["size_of"](models.r1b())
    assert said.split() == ["45,020", "parameters", "1,277,400", "multiply-adds"]


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


# Muon -----------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(64, 288), (16, 25), (40, 3), (1, 9), (5, 5)])
@pytest.mark.parametrize("scale", [0.0, 1e-6, 1.0, 1e6])
def test_the_page_has_the_module_orthogonal(page, shape, scale):
    """To the last bit, for wide and tall matrices, tiny and huge ones, and zeros."""
    matrix = scale * torch.randn(shape, generator=torch.Generator().manual_seed(0))
    for steps in (1, 5):
        made = page["orthogonal"](matrix, steps)
        assert torch.equal(made, muon.orthogonal(matrix, steps))


def test_number_for_most_counts_the_largest(page):
    """Of the squares 81, 9.61, 9 and 1 the first two hold 90 %; and at both ends."""
    Q, _ = torch.linalg.qr(drawn((4, 4)))
    values = torch.tensor([1, 3.1, 9, 3]).double()
    assert page["number_for_most"](Q * values) == 2
    assert page["number_for_most"](Q) == 4
    assert page["number_for_most"](Q[:, :1] @ Q[:1]) == 1


def test_the_ablation_of_muon_is_what_the_page_says():
    """Two epochs in batches of 256 of the network of `mnist-99.4`, held-out images; the
    variants are those of today's code."""
    record = records.recorded("ablation-muon")
    recipe = recipes.OWN[record["of"]]
    assert recipe.network is recipes.OWN["mnist-99.4"].network
    assert (record["epochs"], record["batch_size"]) == (2, 256)
    assert record["optimizer"] == "Muon" and record["measured_on"] == "validation"
    names = [row["name"] for row in record["variants"]]
    assert names == [variant.name for variant in ablations.MUON]
    assert all(len(row["runs"]) == 3 for row in record["variants"])


# The ablation ---------------------------------------------------------------------------


def test_against_whole_is_the_paired_interval(page):
    """For every row of the record and both columns: that of SciPy's paired t-test."""
    for name, row in page["ablation"].items():
        if name == "whole":
            continue
        for key in ("accuracy", "seconds"):
            changed = [run[key] for run in row["runs"]]
            whole = [run[key] for run in page["ablation"]["whole"]["runs"]]
            mean, half = page["against_whole"](name, key)
            differences = [a - b for a, b in zip(changed, whole, strict=True)]
            close(mean, sum(differences) / 3)
            if max(differences) - min(differences) > 1e-9:
                low, high = stats.ttest_rel(changed, whole).confidence_interval(0.95)
                close(half, (high - low) / 2, 2e-3)  # 4.30 is rounded


def test_a_spread_is_at_least_one_step(page):
    """Three equal differences are no certainty: the interval keeps the resolution."""
    runs = [{"accuracy": a} for a in (0.9, 0.91, 0.92)]
    moved = [{"accuracy": a + 0.0001} for a in (0.9, 0.91, 0.92)]
    page["ablation"].update({"whole": {"runs": runs}, "moved": {"runs": moved}})
    mean, half = page["against_whole"]("moved", "accuracy", step=0.0001)
    close(mean, 0.0001, 1e-6)
    close(half, 4.30 * 0.0001 / 3**0.5)


def test_the_row_that_changes_nothing():
    """An average over maps of one place is their maximum; the record's row, where there
    is one, is equal to the last digit."""
    maps = drawn((5, 7, 1, 1))
    assert torch.equal(nn.AdaptiveAvgPool2d(1)(maps), nn.AdaptiveMaxPool2d(1)(maps))
    rows = {v["name"]: v for v in records.recorded("ablation-mnist")["variants"]}
    if row := rows.get("average at the end"):
        assert row["accuracy"] == rows["whole"]["accuracy"]


def test_the_ablation_is_of_the_recipe_that_the_page_names():
    """`mnist-99.4` with two epochs of its three, measured on held-out images."""
    record = records.recorded("ablation-mnist")
    shortened = replace(recipes.OWN["mnist-99.4"], epochs=2)
    assert record["of"] == shortened.name and record["epochs"] == shortened.epochs
    assert record["measured_on"] == "validation"
    assert all(len(row["runs"]) == 3 for row in record["variants"])


def test_the_fast_recipe_ran_on_another_processor():
    """So the page says that its seconds do not compare with those of the others."""
    first, fast = (records.recorded(f"mnist-99{end}")["machine"] for end in ("", "-fast"))
    assert first["name"] != fast["name"]
