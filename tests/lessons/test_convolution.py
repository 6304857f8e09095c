"""The lesson on convolution: its equations and its functions.

What a boxed equation says, written out in float64, is what torch gives.
"""

import math
import re
from itertools import product

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from convolutions import CASES, IMAGES, KINDS, SETTINGS, fits, near, numbers_for, side
from lesson_source import cells, close, definitions, drawn
from torch import nn

LESSON = "convolution"
FUNCTIONS = (
    "VERTICAL",
    "HORIZONTAL",
    "correlate",
    "respond",
    "strength",
    "vertical_share",
    "accuracy_at",
    "output_size",
    "conv_loops",
    "mismatch",
    "receptive_field",
    "seen",
    "r4",
    "shapes",
    "r4_side",
)


@pytest.fixture(scope="module")
def page():
    """What the lesson defines, as a namespace."""
    return definitions(LESSON, *FUNCTIONS)


# Boxed equations ------------------------------------------------------------------------


def test_eq_correlation(page):
    """The double sum is torch's conv2d of one channel, and the page's loops."""
    for (H, W), k in product([(5, 5), (4, 7), (3, 3), (1, 1)], (1, 2, 3)):
        if k > min(H, W):
            continue
        x, w = drawn((H, W), (k, k))
        z = [
            [
                sum(w[u, v] * x[i + u, j + v] for u in range(k) for v in range(k))
                for j in range(W - k + 1)
            ]
            for i in range(H - k + 1)
        ]
        close(z, F.conv2d(x[None, None], w[None, None])[0, 0])
        close(page["correlate"](x, w), z)


def test_eq_output_size(page):
    """The formula, the count of fitting places, the page's function and torch agree,
    for every combination in a grid; where nothing fits, the page says so."""
    for n, k, s, p, d in product(
        (1, 2, 3, 5, 8, 28), (1, 2, 3, 5), (1, 2, 3, 4), (0, 1, 2, 3), (1, 2, 3)
    ):
        formula = math.floor((n + 2 * p - d * (k - 1) - 1) / s) + 1
        if n + 2 * p < d * (k - 1) + 1:
            with pytest.raises(ValueError, match="reaches over"):
                page["output_size"](n, k, s, p, d)
            with pytest.raises(RuntimeError):
                F.conv1d(torch.zeros(1, 1, n), torch.zeros(1, 1, k), None, s, p, d)
            continue
        by_torch = F.conv1d(
            torch.zeros(1, 1, n), torch.zeros(1, 1, k), None, s, p, d
        ).shape[-1]
        assert (
            formula
            == by_torch
            == side(n, k, s, p, d)
            == page["output_size"](n, k, s, p, d)
        )


def test_same_padding_and_halving(page):
    """The two cases to know by heart: p = d(k-1)/2 keeps the size, 3 / 2 / 1 halves
    it."""
    for n, k, d in product((1, 7, 28), (1, 3, 5, 7), (1, 2, 3)):
        assert page["output_size"](n, k, 1, d * (k - 1) // 2, d) == n
    assert all(page["output_size"](n, 3, 2, 1) == n // 2 for n in range(2, 100, 2))


@pytest.mark.parametrize(
    "setting", [(3, 1, 0, 1), (2, 2, 1, 1), (3, 2, 1, 2), (3, 3, 2, 1)]
)
def test_eq_conv(setting):
    """The sum over channels and taps, index by index, is torch's conv2d."""
    k, s, p, d = setting
    x, w, b, delta = numbers_for(IMAGES[0], setting)
    padded, z = F.pad(x, [p] * 4), torch.zeros_like(delta)
    for m, o, i, j in product(*map(range, z.shape)):
        z[m, o, i, j] = b[o] + sum(
            w[o, c, u, v] * padded[m, c, s * i + d * u, s * j + d * v]
            for c, u, v in product(range(w.shape[1]), range(k), range(k))
        )
    close(z, F.conv2d(x, w, b, s, p, d))


def test_eq_conv_parameters():
    """Weights and biases of nn.Conv2d, whatever the image's size."""
    for c_in, c_out, k in product((1, 3, 16), (1, 4, 32), (1, 3, 5)):
        layer = nn.Conv2d(c_in, c_out, k)
        assert c_out * (c_in * k**2 + 1) == sum(p.numel() for p in layer.parameters())


@pytest.mark.parametrize("s", [1, 2, 3])
def test_eq_equivariance(s):
    """A shift by (sa, sb) shifts the output by (a, b), exactly, where no border is in
    the way; a shift by one more does not."""
    a, b = 2, 1
    x = torch.zeros(1, 1, 40, 40, dtype=torch.float64)
    x[..., 14:26, 14:26] = (
        drawn((12, 12)).mul(100).round()
    )  # whole numbers: sums are exact
    w = drawn((1, 1, 3, 3)).mul(10).round()
    z = F.conv2d(x, w, stride=s)
    moved = F.conv2d(x.roll((s * a, s * b), (2, 3)), w, stride=s)
    assert torch.equal(moved, z.roll((a, b), (2, 3)))
    off = F.conv2d(x.roll(s * a + 1, 2), w, stride=s)
    assert (s == 1) == any(torch.equal(off, z.roll(n, 2)) for n in range(-5, 6))


def test_eq_receptive_field(page):
    """The formula, the page's function and the pixels with a gradient agree for random
    stacks."""
    rng = np.random.default_rng(0)
    for depth in (1, 2, 3, 4):
        for _ in range(6):
            layers = [
                tuple(rng.integers((1, 1, 1), (5, 3, 3)).tolist()) for _ in range(depth)
            ]
            formula = 1 + sum(
                d * (k - 1) * math.prod(s for _, s, _ in layers[:at])
                for at, (k, _, d) in enumerate(layers)
            )
            assert (
                formula
                == page["receptive_field"](layers)
                == page["seen"](layers, n=formula + 7)
            )


def test_padding_does_not_widen_the_field():
    """Padded or not, the middle output of two 3x3 layers sees 5 rows."""
    for p in (0, 1, 2):
        x = torch.zeros(1, 1, 15, 15, requires_grad=True)
        z = F.conv2d(
            F.conv2d(x, torch.ones(1, 1, 3, 3), padding=p), torch.ones(1, 1, 3, 3)
        )
        n = z.shape[-1] // 2
        (grad,) = torch.autograd.grad(z[0, 0, n, n], x)
        assert len(grad[0, 0].sum(1).nonzero()) == 5


# The functions that the page shows ------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_forward_equals_conv2d_over_the_grid(page, kind):
    """Every kernel, stride, padding and dilation that fits, on images of one pixel, of
    one row, as large as the kernel; on drawn numbers and on extreme ones, 1e140 times
    1e140 included."""
    settings_seen = set()
    for image, setting in CASES if kind == "drawn" else CASES[::5]:
        x, w, b, _ = numbers_for(image, setting, kind)
        ours, theirs = (f(x, w, b, *setting[1:]) for f in (page["conv_loops"], F.conv2d))
        near(ours, theirs, F.conv2d(x.abs(), w.abs(), b.abs(), *setting[1:]))
        settings_seen.add(setting)
    assert kind != "drawn" or settings_seen == {s for s in SETTINGS if fits(6, 7, *s)}


def test_forward_in_float32_equals_conv2d(page):
    """Values and dtype in float32 too, with numbers up to 1e18."""
    for image, setting in CASES[::9]:
        x, w, b, _ = (t.float() for t in numbers_for(image, setting))
        for scale in (1, 1e18, 1e-18):
            ours, theirs = (
                f(scale * x, w, b, *setting[1:]) for f in (page["conv_loops"], F.conv2d)
            )
            assert ours.dtype == torch.float32
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5 * scale + 1e-6)


def test_respond_and_strength_equal_conv2d(page):
    """Nine moved copies are the convolution by the hand-made kernels."""
    images = drawn((4, 9, 12)).float()
    for kernel in (page["VERTICAL"], page["HORIZONTAL"]):
        z = F.conv2d(images[:, None], kernel[None, None])[:, 0]
        torch.testing.assert_close(page["respond"](images, kernel), z)
        torch.testing.assert_close(page["strength"](images, kernel), z.abs().mean((1, 2)))


def test_hand_made_kernels_answer_their_edges(page):
    """Zero on even areas and on the other edge; 3 and −3 on the two edges of a stroke."""
    stroke = torch.zeros(1, 5, 5)
    stroke[0, :, 2] = 1
    assert page["respond"](stroke, page["VERTICAL"])[0].tolist() == [[3, 0, -3]] * 3
    assert page["respond"](stroke, page["HORIZONTAL"]).abs().max() == 0
    assert page["respond"](torch.ones(1, 5, 5), page["VERTICAL"]).abs().max() == 0


def test_mismatch_is_zero_for_what_commutes(page):
    """A pointwise layer and a convolution commute with shifts; a layer that knows
    places does not."""
    x = torch.zeros(2, 1, 28, 28, dtype=torch.float64)
    x[..., 10:18, 10:18] = drawn((8, 8)).mul(9).round()
    kernel = page["VERTICAL"].double()[None, None]
    assert page["mismatch"](lambda x: x**2, x, 1, 1) == 0
    assert page["mismatch"](lambda x: F.conv2d(x, kernel), x, 3, 1) == 0
    assert page["mismatch"](lambda x: F.conv2d(x, kernel, stride=2), x, 2, 2) == 0
    assert page["mismatch"](lambda x: x * torch.arange(28)[:, None], x, 1, 1) > 0.01


def test_r4_is_the_published_network_and_its_sizes_are_those_of_the_model(page):
    """As printed it flattens to 32·2·2; padding 1 gives the 32·5·5 that it writes
    down; the formula says both, and the hooks see them."""
    for padding, side_after in ((0, 2), (1, 5), (2, 8)):
        assert page["r4_side"](padding) == side_after
        model = page["r4"](padding, features=32 * side_after**2)
        found, error = page["shapes"](model, torch.zeros(2, 1, 28, 28))
        sizes = [shape for name, shape in found if name == "MaxPool2d"]
        assert error is None and sizes[-1] == (2, 32, side_after, side_after)
        assert found[-1] == ("Linear", (2, 10))
        assert not any(layer._forward_hooks for layer in model)
    found, error = page["shapes"](page["r4"](), torch.zeros(2, 1, 28, 28))
    assert found[-1] == ("Flatten", (2, 128)) and "2x128 and 800x256" in str(error)


@pytest.mark.parametrize("C", [1, 4])
def test_two_3x3_against_one_5x5(page, C):
    """The table: the same field, the counts of weights and of multiplications, and
    without a nonlinearity between them the pair is one convolution of 5x5, with the full
    convolution of the kernels."""
    pair, single = [nn.Conv2d(C, C, 3) for _ in range(2)], nn.Conv2d(C, C, 5)
    assert (
        page["receptive_field"]([(3, 1, 1)] * 2)
        == page["receptive_field"]([(5, 1, 1)])
        == 5
    )
    count = [
        sum(p.numel() for layer in layers for p in layer.parameters())
        for layers in (pair, [single])
    ]
    assert count == [2 * (9 * C**2 + C), 25 * C**2 + C]
    assert [sum(layer.weight.numel() for layer in pair), single.weight.numel()] == [
        18 * C**2,
        25 * C**2,
    ]
    x, first, second = drawn((2, C, 9, 9), (C, C, 3, 3), (C, C, 3, 3))
    joined = F.conv2d(F.pad(first.transpose(0, 1), [2] * 4), second.flip(2, 3)).transpose(
        0, 1
    )
    assert joined.shape == (C, C, 5, 5)
    close(F.conv2d(x, joined), F.conv2d(F.conv2d(x, first), second))


def test_r4_with_padding_1_has_the_sides_that_the_quiz_names(page):
    """The right answer of the quiz lists the sides that hooks find in the model."""
    found, _ = page["shapes"](page["r4"](padding=1), torch.zeros(4, 1, 28, 28))
    sides = [shape[-1] for name, shape in found if name in ("Conv2d", "MaxPool2d")]
    (answer,) = [
        line
        for c in cells(LESSON)
        for line in c.source.splitlines()
        if '"1": "28' in line
    ]
    named = re.findall(r"\d+", answer.split(":", 1)[1])
    assert [int(side) for side in named] == [28, *sides]


@pytest.mark.parametrize("k", [2, 3])
def test_only_equal_weights_move_along_with_every_shift(k):
    """The derivation of the convolution: a layer with a window of weights for each place
    commutes with all shifts of one bright pixel if and only if its windows are equal."""
    n = 7
    count = n - k + 1

    def commutes(a):  # a (count, count, k, k)
        for shift in ((1, 0), (0, 1), (2, 1)):
            for at in np.ndindex(n - shift[0], n - shift[1]):
                x = torch.zeros(n, n, dtype=torch.float64)
                x[at] = 1
                z, z_moved = (
                    (image.unfold(0, k, 1).unfold(1, k, 1) * a).sum((2, 3))
                    for image in (x, x.roll(shift, (0, 1)))
                )
                down, right = shift
                if not torch.equal(
                    z_moved[down:, right:], z[: count - down, : count - right]
                ):
                    return False
        return True

    w = drawn((k, k))
    assert commutes(w.expand(count, count, k, k))
    assert not commutes(drawn((count, count, k, k)))
    for place in ((0, 0), (2, 1), (count - 1, count - 1)):
        a = w.repeat(count, count, 1, 1)
        a[*place, 0, k - 1] += 1  # a single weight differs at a single place
        assert not commutes(a)


def test_a_1x1_convolution_is_a_linear_layer_for_each_pixel():
    """Weights (C_out, C_in, 1, 1) give what a linear layer gives on the channels."""
    x, w, b = drawn((2, 3, 4, 5), (2, 3, 1, 1), (2,))
    mixed = F.linear(x.permute(0, 2, 3, 1), w[:, :, 0, 0], b)
    close(F.conv2d(x, w, b), mixed.permute(0, 3, 1, 2))


def test_vertical_share_does_not_depend_on_brightness(page):
    """A stroke that stands has a share of nearly 1, one that lies the rest; ten times as
    bright they have the same. The accuracy counts right answers."""
    standing = torch.zeros(1, 28, 28)
    standing[0, 5:23, 14] = 1
    share = page["vertical_share"](torch.cat([standing, standing.transpose(1, 2)]))
    assert share[0] > 0.85 and torch.allclose(share.sum(), torch.tensor(1.0))
    torch.testing.assert_close(page["vertical_share"](10 * standing), share[:1])
    assert page["accuracy_at"](0.5, share, torch.tensor([True, False])) == 1
    assert page["accuracy_at"](0.99, share, torch.tensor([True, True])) == 0
