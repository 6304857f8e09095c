"""The lesson on a convolutional network on Fashion-MNIST: its equations and its
functions."""

import math
import re
from itertools import combinations, product

import pytest
import torch
import torch.nn.functional as F
from lesson_source import cells, close, definitions, drawn, tags
from scipy import stats
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from lessons_src import models
from lessons_src.data import Split

LESSON = "cnn_fashion_mnist"
FUNCTIONS = (
    "train_well r4_as_printed last_side r4 layer_sizes changes Sometimes RandomFlip "
    "with_augmentation paired course_network cosine_filters fix_first logits_of by_class "
    "standard_error two_looks"
)


@pytest.fixture(scope="module")
def page():
    """What the lesson defines, as a namespace."""
    return definitions(LESSON, *FUNCTIONS.split())


# Boxed equations ------------------------------------------------------------------------


def test_eq_standard_error(page):
    """Over all 2^n outcomes, weighed by their probability,
    the share's standard deviation."""
    for p, n in product((0.0, 0.1, 0.5, 0.93, 1.0), (1, 2, 5, 9)):
        mean = square = 0.0
        for outcome in product((0, 1), repeat=n):
            weight = math.prod(p if r else 1 - p for r in outcome)
            mean += weight * sum(outcome) / n
            square += weight * (sum(outcome) / n) ** 2
        close(square - mean**2, p * (1 - p) / n)
        close(page["standard_error"](p, n), math.sqrt(p * (1 - p) / n))


def test_eq_standard_error_of_part(page):
    """Over every part of n of N images, the standard deviation of its accuracy."""
    for N, right in ((6, 2), (9, 5), (8, 8), (5, 0)):
        p = right / N
        for n in range(1, N + 1):
            parts = combinations([1.0] * right + [0.0] * (N - right), n)
            shares = torch.tensor([sum(part) / n for part in parts], dtype=torch.float64)
            se = math.sqrt(p * (1 - p) / n * (N - n) / (N - 1))
            close(shares.std(unbiased=False), se)
            close(page["standard_error"](p, n, N), se)


def test_eq_mean_of_looks():
    """The loss of the mean probability is at most the mean loss;
    equal where all looks agree."""
    for M in (1, 2, 3, 10):
        p = (5 * drawn((M, 2000), seed=M)).sigmoid()  # from near 0 to near 1
        gap = (-p.log()).mean(0) - -p.mean(0).log()
        assert (gap >= -1e-12).all() and (M == 1 or (gap > 1e-12).double().mean() > 0.95)
    same = drawn((1, 50)).sigmoid().expand(4, 50)
    close(-same.mean(0).log(), (-same.log()).mean(0))


def test_eq_cosines_orthonormal():
    """For many k, by the formula of the page; and the telescoping sum that proves it."""
    for k in range(1, 12):
        y = torch.arange(k, dtype=torch.float64) + 0.5
        c = torch.stack([torch.cos(math.pi * u * y / k) for u in range(k)])
        c = c / c.norm(dim=1, keepdim=True)
        close(c @ c.T, torch.eye(k, dtype=torch.float64))
        for m in range(1, 2 * k):
            half = math.pi * m / (2 * k)
            assert abs(math.sin(half)) > 1e-3
            close(2 * math.sin(half) * torch.cos(2 * half * y).sum(), 0.0)


def test_derivation_of_the_inequality():
    """log u is at most u − 1, and they meet at 1 alone."""
    u = torch.logspace(-12, 12, 100_001, dtype=torch.float64)
    gap = u - 1 - u.log()
    assert (gap >= 0).all() and u[gap == 0].tolist() == [1.0]


def test_covariance_of_two_draws():
    """Two draws without replacement have the covariance −p(1 − p)/(N − 1)."""
    for N, right in ((5, 2), (9, 8)):
        r, p = [1] * right + [0] * (N - right), right / N
        pairs = [r[i] * r[j] for i in range(N) for j in range(N) if i != j]
        close(sum(pairs) / len(pairs) - p**2, -p * (1 - p) / (N - 1))


# The page's functions -------------------------------------------------------------------


def test_the_page_has_the_modules_functions(page):
    """R4 starts and computes as the module's does; so do the flip, the filters of any k,
    and the network whose first layer is fixed."""
    x, made = drawn((6, 1, 28, 28)).float(), []
    for r4, flip in ((page["r4"], page["RandomFlip"]), (models.r4, models.RandomFlip)):
        torch.manual_seed(0)
        model = nn.Sequential(flip(), r4())
        loss = model(x)[:, 0].sum()
        made.append([loss, model.eval()(x)])
        made[-1] += torch.autograd.grad(loss, list(model.parameters()))
    for ours, theirs in zip(*made, strict=True):
        assert torch.equal(ours, theirs)
    for k in range(2, 8):
        filters = page["cosine_filters"](k)
        assert filters.shape == (2 * k * k - 2, 1, k, k)
        assert torch.equal(filters, models.cosine_filters(k))
        half = filters[: k * k - 1].flatten(1)
        close(half @ half.T, torch.eye(len(half)), 1e-5)
        close(filters.sum((1, 2, 3)), torch.zeros(len(filters)), 1e-5)
    fixed = []
    for fix_first in (page["fix_first"], models.fix_first):
        torch.manual_seed(0)
        fixed.append(fix_first(page["course_network"]()))
    for ours, theirs in zip(*(m.parameters() for m in fixed), strict=True):
        assert torch.equal(ours, theirs) and ours.requires_grad == theirs.requires_grad
    torch.testing.assert_close(*(m.eval()(x) for m in fixed))


def test_r4_as_printed_fails_and_r4_runs(page):
    """Only the padding differs: 128 numbers arrive as printed, 800 as repaired."""
    x = torch.zeros(4, 1, 28, 28)
    with pytest.raises(RuntimeError, match="4x128 and 800x256"):
        page["r4_as_printed"]()(x)
    assert page["r4"]()(x).shape == (4, 10)
    for ours, theirs in zip(page["r4_as_printed"](), page["r4"](), strict=True):
        assert type(ours) is type(theirs)
        for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
            assert p.shape == q.shape


def test_last_side_is_what_the_modules_give(page):
    """All 256 choices of paddings from 0 to 3, against the convolutions themselves."""
    for paddings in product(range(4), repeat=4):
        x = torch.zeros(1, 1, 28, 28)
        for k, p, pooled in zip((3, 3, 5, 5), paddings, (0, 1, 0, 1), strict=True):
            x = F.conv2d(x, torch.zeros(1, 1, k, k), padding=p)
            x = F.max_pool2d(x, 2) if pooled else x
        assert x.shape[2] == page["last_side"](paddings)


def test_layer_sizes_reads_the_model(page):
    """Shapes and parameter counts of every layer, and half of torch's own count of
    operations."""
    model, x = models.r4(), torch.zeros(1, 1, 28, 28)
    found = page["layer_sizes"](model, x)
    assert [name for name, *_ in found] == [type(layer).__name__ for layer in model]
    assert found[0] == ("Conv2d", (16, 28, 28), 160, 112_896)
    assert found[-1] == ("Linear", (10,), 1290, 1280)
    held = sum(p.numel() for p in model.parameters())
    assert sum(row[2] for row in found) == held
    with FlopCounterMode(display=False) as counter:
        model(x)
    assert counter.get_total_flops() == 2 * sum(row[3] for row in found)


def test_most_of_r4s_work_is_in_its_5x5_convolutions(page):
    """Two thirds of the multiplications, and the sentence below the figure says so."""
    work = [row[3] for row in page["layer_sizes"](models.r4(), torch.zeros(1, 1, 28, 28))]
    assert sum(sorted(work)[-2:]) > 2 / 3 * sum(work)


def test_random_flip_mirrors_half_of_the_images_whole(page):
    """Each image is as it was or mirrored left to right; about half are;
    none in evaluation."""
    torch.manual_seed(0)
    x, layer = torch.randn(1000, 2, 3, 4), page["RandomFlip"]()
    made = layer(x)
    same, turned = ((made == t).flatten(1).all(1) for t in (x, x.flip(3)))
    assert (same ^ turned).all() and 430 < turned.sum() < 570
    assert layer.eval()(x) is x
    x = x[:8].requires_grad_()
    (grad,) = torch.autograd.grad(page["RandomFlip"]()(x).sum(), x)
    assert torch.equal(grad, torch.ones_like(x))


@pytest.mark.parametrize("extreme", [0.0, 1e38, torch.inf, torch.nan])
def test_random_flip_passes_extreme_values_on(page, extreme):
    """Nothing is computed with the pixels: infinity and nan stay in their own image."""
    x = torch.zeros(50, 1, 2, 2)
    x[::2, :, :, 0] = extreme
    torch.manual_seed(3)
    made = page["RandomFlip"]()(x)
    assert torch.equal(made[1::2], x[1::2])
    torch.testing.assert_close(made.sum(3), x.sum(3), equal_nan=True)


def test_changes_do_what_they_are_called(page):
    """Every change keeps the shape, and moves a single bright pixel where
    its name says."""
    x = torch.zeros(1, 1, 28, 28)
    x[0, 0, 3, 10] = 1
    places = {
        "none": (3, 10),
        "mirrored": (3, 17),
        "shifted by 1": (4, 11),
        "upside down": (24, 10),
        "turned by 90°": (17, 3),
    }
    for name, change in page["changes"].items():
        assert change(x).shape == x.shape
        assert tuple(change(x)[0, 0].nonzero()[0].tolist()) == places[name], name


def test_train_well_learns_and_ends_at_rate_zero(page):
    """The loss falls; seed by seed the same numbers; AdamW is given the peak rate."""
    images = drawn((300, 1, 4, 4)).float()
    split = Split(images, images.flatten(1)[:, :3].argmax(1))
    histories = []
    for _ in range(2):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(16, 10))
        histories.append(page["train_well"](model, split, 5, lr=0.05, batch_size=64))
    assert histories[0].loss == histories[1].loss
    assert histories[0].loss[-1] < 0.8 * histories[0].loss[0]


def test_with_augmentation_trains_two_networks(page):
    """One accuracy for each seed, of held-out images alone."""
    images = drawn((1200, 1, 28, 28)).float()
    split = Split(images, images[:, 0, 5, :10].argmax(1))
    page["parts"] = {"noise": (split[:1000], split[1000:])}
    found = page["with_augmentation"]("noise", page["RandomFlip"]())
    assert len(found) == 2 and all(0 <= share <= 1 for share in found)
    assert all(
        (share * 200) % 1 < 1e-6 or (share * 200) % 1 > 1 - 1e-6 for share in found
    )


def test_paired_is_the_interval_of_the_paired_t_test(page):
    """That of SciPy, for three seeds; and never narrower than one step allows."""
    changed, whole = ([round(x, 4) for x in drawn((3,), seed=n).tolist()] for n in (1, 2))
    mean, half = page["paired"](changed, whole)
    close(mean, sum(changed) / 3 - sum(whole) / 3)
    low, high = stats.ttest_rel(changed, whole).confidence_interval(0.95)
    close(half, (high - low) / 2, 2e-3)  # 4.30 is rounded
    close(page["paired"](whole, whole)[1], 4.30 * 0.0001 / 3**0.5)


def test_logits_of_is_the_model_in_evaluation_mode(page):
    """Any batch size, the last one short; batch norm and flips at rest."""
    torch.manual_seed(0)
    model, images = page["course_network"](models.RandomFlip()), torch.randn(7, 1, 28, 28)
    got = page["logits_of"](model.train(), images, 3)
    with torch.no_grad():
        torch.testing.assert_close(got, model.eval()(images), rtol=1e-4, atol=1e-5)
    assert not got.requires_grad


def test_by_class(page):
    """Equal to a loop over the classes; a class without images has no accuracy."""
    labels = torch.arange(90) % 9
    right = drawn((90,)) > 0
    got = page["by_class"](right, labels)
    for k in range(9):
        close(got[k], right[labels == k].double().mean(), 1e-6)
    assert got[9].isnan()


@pytest.mark.parametrize("scale", [0.0, 1.0, 50.0, 1e4])
def test_two_looks_is_the_mean_probability(page, scale):
    """In float64 equal to averaging softmaxes, gradients too;
    at extreme logits finite."""
    a, b = scale * drawn((20, 10)), scale * drawn((20, 10), seed=1)
    got = page["two_looks"](a, b)
    assert got.isfinite().all()
    torch.testing.assert_close(got.exp(), (a.softmax(1) + b.softmax(1)) / 2)
    a.requires_grad_()
    ours, theirs = (
        torch.autograd.grad(v.exp()[:, 0].sum(), a)[0]
        for v in (page["two_looks"](a, b), ((a.softmax(1) + b.softmax(1)) / 2).log())
    )
    if scale <= 1:
        close(ours, theirs)


def test_the_gpu_cell_is_gated():
    """One cell carries the tag gpu; what a GPU would change is a line that the
    sanitising file masks."""
    (cell,) = (c for c in cells(LESSON) if "gpu" in tags(c))
    assert "cuda.is_available()" in cell.source
    assert "nbval-ignore-output" not in tags(cell)
    (output,) = cell.outputs
    assert re.fullmatch(r"fashion-93: [^\n]*\nPyTorch \d[^\n]*\n", output.text)
