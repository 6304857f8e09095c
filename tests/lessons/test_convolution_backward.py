"""The lesson on the backward pass of a convolution: its equations and its functions.

What a boxed equation says, written out in float64, is what torch gives.
"""

from itertools import product

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from convolutions import CASES, IMAGES, KINDS, SETTINGS, fits, near, numbers_for
from lesson_source import close, definitions, drawn

LESSON = "convolution_backward"
FUNCTIONS = (
    "VERTICAL",
    "HORIZONTAL",
    "output_size",
    "conv_loops",
    "taps",
    "windows",
    "conv_unfold",
    "backward_loops",
    "backward_by_convolution",
    "put_back",
    "backward_unfold",
    "max_pool",
    "average_pool",
    "max_pool_backward",
    "average_pool_backward",
    "OneKernel",
    "likeness",
)
BACKWARDS = ("backward_loops", "backward_unfold", "backward_by_convolution")


@pytest.fixture(scope="module")
def page():
    """What the lesson defines, as a namespace."""
    return definitions(LESSON, *FUNCTIONS)


def truth(x, w, b, delta, s, p, d):
    """dx, dw, db by autograd."""
    leaves = [t.clone().requires_grad_() for t in (x, w, b)]
    return torch.autograd.grad(F.conv2d(*leaves, s, p, d), leaves, delta)


# Boxed equations ------------------------------------------------------------------------


def test_eq_flip():
    """The sum with minus signs is the correlation with the flipped kernel, and numpy's
    convolve."""
    k, H, W = 3, 5, 6
    x, w = drawn((H, W), (k, k))
    flipped = F.conv2d(x[None, None], w.flip(0, 1)[None, None])[0, 0]
    z = [
        [
            sum(
                w[u, v] * x[i + k - 1 - u, j + k - 1 - v]
                for u in range(k)
                for v in range(k)
            )
            for j in range(W - k + 1)
        ]
        for i in range(H - k + 1)
    ]
    close(z, flipped)
    full = np.zeros((H + k - 1, W + k - 1))  # each pixel spreads: the definition of w * x
    for (r, q), (u, v) in product(np.ndindex(H, W), np.ndindex(k, k)):
        full[r + u, q + v] += x[r, q] * w[u, v]
    close(full[k - 1 : H, k - 1 : W], z)
    close(
        np.convolve(x[0], w[0], "valid"), F.conv1d(x[:1, None], w[:1, None].flip(2))[0, 0]
    )


def test_eq_unfold():
    """W times the columns plus the bias in every column is conv2d; the columns are
    F.unfold's."""
    for image, setting in CASES[::7]:
        k, s, p, d = setting
        x, w, b, delta = numbers_for(image, setting)
        columns = F.unfold(x, k, d, p, s)
        ones = torch.ones(columns.shape[2], 1, dtype=torch.float64)
        for m, X in enumerate(columns):
            close(
                (w.flatten(1) @ X + b[:, None] @ ones.T).view_as(delta[m]),
                F.conv2d(x, w, b, s, p, d)[m],
            )


@pytest.mark.parametrize(
    "setting", [(3, 1, 0, 1), (2, 2, 1, 1), (3, 2, 1, 2), (3, 3, 2, 1)]
)
def test_eq_conv_db(setting):
    """The bias gradient sums delta over images and places."""
    x, w, b, delta = numbers_for(IMAGES[0], setting)
    db = [
        sum(
            delta[m, o, i, j]
            for m in range(len(delta))
            for i in range(delta.shape[2])
            for j in range(delta.shape[3])
        )
        for o in range(len(b))
    ]
    close(db, truth(x, w, b, delta, *setting[1:])[2])


@pytest.mark.parametrize(
    "setting", [(3, 1, 0, 1), (2, 2, 1, 1), (3, 2, 1, 2), (2, 1, 0, 3)]
)
def test_eq_conv_dw(setting):
    """The kernel's gradient, index by index; and the sentence that stride and dilation
    change places in it."""
    k, s, p, d = setting
    x, w, b, delta = numbers_for(IMAGES[0], setting)
    padded, dw = F.pad(x, [p] * 4), torch.zeros_like(w)
    B, _, H_out, W_out = delta.shape
    for o, c, u, v in product(*map(range, w.shape)):
        dw[o, c, u, v] = sum(
            delta[m, o, i, j] * padded[m, c, s * i + d * u, s * j + d * v]
            for m, i, j in product(range(B), range(H_out), range(W_out))
        )
    close(dw, truth(x, w, b, delta, s, p, d)[1])
    slid = F.conv2d(padded.transpose(0, 1), delta.transpose(0, 1), stride=d, dilation=s)
    close(slid.transpose(0, 1)[:, :, :k, :k], dw)


@pytest.mark.parametrize(
    "setting", [(3, 1, 0, 1), (2, 2, 1, 1), (3, 2, 1, 2), (2, 3, 1, 1)]
)
def test_eq_conv_dx(setting):
    """The input's gradient with its indicators, summed over all i, j, u, v; cut at the
    padding."""
    k, s, p, d = setting
    image = (2, 2, 3, 4, 5)
    x, w, b, delta = numbers_for(image, setting)
    (H, W), (H_out, W_out) = x.shape[2:], delta.shape[2:]

    def meet(rows, count):  # 1 where s·i + d·u = r: (rows, count, k)
        r, i, u = torch.meshgrid(
            torch.arange(rows), torch.arange(count), torch.arange(k), indexing="ij"
        )
        return (s * i + d * u == r).double()

    dx = torch.einsum(
        "moij,ocuv,riu,qjv->mcrq",
        delta,
        w,
        meet(H + 2 * p, H_out),
        meet(W + 2 * p, W_out),
    )
    close(dx[:, :, p : p + H, p : p + W], truth(x, w, b, delta, s, p, d)[0])
    padded = F.pad(x, [p] * 4).requires_grad_()
    (whole,) = torch.autograd.grad(F.conv2d(padded, w, b, s, 0, d), padded, delta)
    close(dx, whole)


@pytest.mark.parametrize(
    "setting", [(3, 1, 0, 1), (2, 2, 1, 1), (3, 2, 1, 2), (2, 3, 1, 1)]
)
def test_eq_conv_dx_full(setting):
    """Index by index with delta spread by the stride, zero where there is none."""
    k, s, p, d = setting
    x, w, b, delta = numbers_for((1, 2, 2, 4, 5), setting)
    spread = {(s * i, s * j): delta[0, :, i, j] for i, j in np.ndindex(*delta.shape[2:])}
    nothing = torch.zeros(w.shape[0], dtype=torch.float64)
    dx = torch.zeros_like(x)
    for c, r, q in product(*map(range, x.shape[1:])):
        dx[0, c, r, q] = sum(
            w[:, c, u, v] @ spread.get((r + p - d * u, q + p - d * v), nothing)
            for u, v in product(range(k), range(k))
        )
    close(dx, truth(x, w, b, delta, s, p, d)[0])


def winners(x, k, s):
    """(i, j) -> the place (r, q) of the first largest pixel of the window, in reading
    order."""
    found = {}
    for i, j in np.ndindex((x.shape[0] - k) // s + 1, (x.shape[1] - k) // s + 1):
        places = [(s * i + u, s * j + v) for u, v in product(range(k), range(k))]
        found[i, j] = max(
            places, key=lambda place: x[place].item()
        )  # max keeps the first
    return found


@pytest.mark.parametrize("k, s", [(2, 2), (3, 2), (2, 3), (3, 1)])
def test_eq_max_pool(k, s):
    """delta to the winner of each window, ties to the first: torch's gradient."""
    for x in (drawn((7, 8)), drawn((7, 8)).round(), torch.zeros(7, 8).double()):
        x.requires_grad_()
        z = F.max_pool2d(x[None], k, s)[0]
        delta, dx = drawn(z.shape, seed=1), torch.zeros(7, 8).double()
        for at, place in winners(x.detach(), k, s).items():
            dx[place] += delta[at]
        close(dx, torch.autograd.grad(z, x, delta)[0])


@pytest.mark.parametrize("k, s", [(2, 2), (3, 2), (2, 3), (3, 1)])
def test_eq_average_pool(k, s):
    """delta / k^2 to every pixel of the window: torch's gradient."""
    x = drawn((7, 8)).requires_grad_()
    z = F.avg_pool2d(x[None], k, s)[0]
    delta, dx = drawn(z.shape, seed=1), torch.zeros(7, 8).double()
    for r, q in np.ndindex(7, 8):
        inside = [
            (i, j)
            for i, j in np.ndindex(*z.shape)
            if s * i <= r < s * i + k and s * j <= q < s * j + k
        ]
        dx[r, q] = sum(delta[at] for at in inside) / k**2
    close(dx, torch.autograd.grad(z, x, delta)[0])


# The functions that the page shows ------------------------------------------------------


@pytest.mark.parametrize("name", ["conv_loops", "conv_unfold"])
@pytest.mark.parametrize("kind", KINDS)
def test_forward_equals_conv2d_over_the_grid(page, name, kind):
    """Every kernel, stride, padding and dilation that fits, on images of one pixel, of
    one row, as large as the kernel; on drawn numbers and on extreme ones, 1e140 times
    1e140 included."""
    settings_seen = set()
    for image, setting in CASES if kind == "drawn" else CASES[::5]:
        x, w, b, _ = numbers_for(image, setting, kind)
        ours, theirs = (f(x, w, b, *setting[1:]) for f in (page[name], F.conv2d))
        near(ours, theirs, F.conv2d(x.abs(), w.abs(), b.abs(), *setting[1:]))
        settings_seen.add(setting)
    assert kind != "drawn" or settings_seen == {s for s in SETTINGS if fits(6, 7, *s)}


@pytest.mark.parametrize("name", ["conv_loops", "conv_unfold"])
def test_forward_in_float32_equals_conv2d(page, name):
    """Values and dtype in float32 too, with numbers up to 1e18."""
    for image, setting in CASES[::9]:
        x, w, b, _ = (t.float() for t in numbers_for(image, setting))
        for scale in (1, 1e18, 1e-18):
            ours, theirs = (
                f(scale * x, w, b, *setting[1:]) for f in (page[name], F.conv2d)
            )
            assert ours.dtype == torch.float32
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5 * scale + 1e-6)


@pytest.mark.parametrize("name", BACKWARDS)
@pytest.mark.parametrize("kind", KINDS)
def test_backward_equals_autograd_over_the_grid(page, name, kind):
    """dx, dw and db for the same grid and the same numbers."""
    for image, setting in CASES if kind == "drawn" else CASES[::5]:
        x, w, b, delta = numbers_for(image, setting, kind)
        ours = page[name](delta, x, w, *setting[1:])
        theirs = truth(x, w, b, delta, *setting[1:])
        sizes = truth(x.abs(), w.abs(), b, delta.abs(), *setting[1:])
        for parts in zip(
            ours, theirs, sizes, strict=False
        ):  # by convolution there is no db
            near(*parts)
        assert len(ours) == (2 if name == "backward_by_convolution" else 3)


def test_backward_equals_finite_differences(page):
    """Not only autograd: central differences of the page's own loops, in float64."""
    setting, step = (3, 2, 1, 2), 1e-6
    x, w, b, delta = numbers_for((1, 2, 2, 6, 5), setting)

    def loss(*given):
        return (page["conv_loops"](*given, *setting[1:]) * delta).sum().item()

    ours = page["backward_loops"](delta, x, w, *setting[1:])
    for which, gradient in enumerate(ours):
        for at in list(np.ndindex(*gradient.shape))[::3]:
            up, down = ([t.clone() for t in (x, w, b)] for _ in range(2))
            up[which][at] += step
            down[which][at] -= step
            close((loss(*up) - loss(*down)) / (2 * step), gradient[at], 1e-7)


def test_a_missing_flip_is_not_hidden_by_the_numbers():
    """The grid's kernels are not symmetric: their flip is another kernel."""
    for image, setting in CASES:
        _, w, *_ = numbers_for(image, setting)
        assert setting[0] == 1 or not torch.allclose(w, w.flip(2, 3))


def test_windows_and_put_back_are_unfold_and_fold(page):
    """Equal to F.unfold and F.fold over the whole grid, and adjoint to each other."""
    for image, setting in CASES:
        k, s, p, d = setting
        x = numbers_for(image, setting)[0]
        patches = page["windows"](x, *setting)
        assert torch.equal(patches.flatten(1, 2), F.unfold(x, k, d, p, s))
        other = drawn(patches.shape, seed=8)
        back = page["put_back"](other, x.shape, *setting)
        close(back, F.fold(other.flatten(1, 2), x.shape[2:], k, d, p, s))
        close((patches * other).sum(), (x * back).sum())


POOLS = [
    (k, s, p)
    for k, s, p in product((1, 2, 3, 4, 5), (1, 2, 3, 5), (0, 1, 2))
    if 2 * p <= k
]


def pooled_images(kind):
    for H, W in ((6, 7), (1, 1), (5, 5), (3, 9), (4, 2)):
        x = drawn((2, 3, H, W), seed=H)
        yield {
            "drawn": x,
            "zeros": 0 * x.abs(),
            "negative zeros": -0.0 * x.abs(),
            "both zeros": torch.where(x > 0, 0.0, -0.0).double(),
            "ties": x.round(),
            "large": x.sign() * 1e300,
            "negative": -x.abs() - 1,
            "tiny": x * 1e-310,
        }[kind]


POOL_KINDS = (
    "drawn",
    "zeros",
    "negative zeros",
    "both zeros",
    "ties",
    "large",
    "negative",
    "tiny",
)


@pytest.mark.parametrize("kind", POOL_KINDS)
def test_max_pool_equals_torch_forward_and_backward(page, kind):
    """Over kernel, stride and padding, with ties of all sorts: 0 and −0 are a tie too."""
    for x in pooled_images(kind):
        for k, s, p in POOLS:
            if not fits(*x.shape[2:], k, s, p, 1):
                continue
            x = x.clone().requires_grad_()
            z = F.max_pool2d(x, k, s, p)
            assert torch.equal(page["max_pool"](x.detach(), k, s, p), z)
            delta = drawn(z.shape, seed=2)
            ours = page["max_pool_backward"](delta, x.detach(), k, s, p)
            close(ours, torch.autograd.grad(z, x, delta)[0])


@pytest.mark.parametrize("kind", POOL_KINDS)
def test_average_pool_equals_torch_forward_and_backward(page, kind):
    """The same grid; the padding's zeros count in the mean."""
    for x in pooled_images(kind):
        for k, s, p in POOLS:
            if not fits(*x.shape[2:], k, s, p, 1):
                continue
            x = x.clone().requires_grad_()
            z = F.avg_pool2d(x, k, s, p)
            size = F.avg_pool2d(x.detach().abs(), k, s, p)
            near(page["average_pool"](x.detach(), k, s, p), z.detach(), size)
            delta = drawn(z.shape, seed=2)
            ours = page["average_pool_backward"](delta, x.detach(), k, s, p)
            close(ours, torch.autograd.grad(z, x, delta)[0])


def test_ties_go_to_the_first_in_reading_order():
    """What the page says of torch: the first largest pixel of the window gets all of
    delta, in both dtypes and in both memory formats; amax shares it out."""
    window = torch.tensor([[3.0, 7, 7], [7, 1, 7], [0, 7, 7]])
    for dtype, order in product(
        (torch.float32, torch.float64), (torch.contiguous_format, torch.channels_last)
    ):
        x = (
            window.to(dtype)
            .expand(2, 3, 3, 3)
            .contiguous(memory_format=order)
            .requires_grad_()
        )
        (grad,) = torch.autograd.grad(F.max_pool2d(x, 3).sum(), x)
        assert grad[0, 0].tolist() == [[0, 1, 0], [0, 0, 0], [0, 0, 0]]
        assert bool((grad == grad[0, 0]).all())
    x = window.clone().requires_grad_()
    (shared,) = torch.autograd.grad(x.amax(), x)
    close(shared, (window == 7) / 6)


def test_padding_never_wins(page):
    """Max pooling over negative pixels gives no zero at the border."""
    x = -torch.ones(1, 1, 3, 3).double()
    assert page["max_pool"](x, 3, 1, 1).max() == -1


def test_the_convolution_as_a_matrix_is_transposed_on_the_way_back(page):
    """Forward M x, backward M^T delta: the picture of the matrix says the same as the
    formulas."""
    w, setting = drawn((1, 1, 3, 3)), (1, 0, 1)
    M = F.conv2d(torch.eye(25).double().view(25, 1, 5, 5), w).view(25, 9).T
    x, delta = drawn((1, 1, 5, 5), (1, 1, 3, 3), seed=3)
    close((M @ x.flatten()).view(3, 3), F.conv2d(x, w)[0, 0])
    dx = page["backward_loops"](delta, x, w, *setting)[0]
    close(dx.flatten(), M.T @ delta.flatten())


def test_one_kernel_balances_its_weights(page):
    """Balanced, an even area gets no response; the sign of the kernel does not matter."""
    torch.manual_seed(0)
    model = page["OneKernel"](balanced=True)
    assert model.kernel().sum().abs() < 1e-6
    x = drawn((3, 1, 9, 9)).float()
    before = model(x)
    model.weight.data.neg_()
    torch.testing.assert_close(model(x), before)
    assert page["OneKernel"](balanced=False).kernel().shape == (1, 1, 3, 3)


def test_likeness_is_the_cosine(page):
    """1 for a multiple, −1 for its negative, 0 for the two hand-made edges."""
    V, H = page["VERTICAL"], page["HORIZONTAL"]
    close(
        [page["likeness"](V, 3 * V), page["likeness"](V, -V), page["likeness"](V, H)],
        [1, -1, 0],
        1e-6,
    )


def test_what_both_lessons_define_is_the_same(page):
    """The output size and the loops are those of the lesson before, on the whole grid."""
    before = definitions("convolution", "output_size", "conv_loops")
    for image, setting in CASES:
        for n in image[3:]:
            sizes = [lesson["output_size"](n, *setting) for lesson in (before, page)]
            assert sizes[0] == sizes[1]
    for image, setting in CASES[::3]:
        x, w, b, _ = numbers_for(image, setting)
        both = [lesson["conv_loops"](x, w, b, *setting[1:]) for lesson in (before, page)]
        assert torch.equal(*both)


def test_a_missing_flip_turns_the_sign_of_an_edge_kernel(page):
    """What the failure on the page says: nothing shows with a symmetric kernel, and with
    the vertical edge each number of the gradient has the other sign."""
    blur = torch.tensor([1.0, 2, 1]).double()
    delta = drawn((1, 1, 2, 2))
    for w, sign in ((torch.outer(blur, blur), 1), (page["VERTICAL"].double(), -1)):
        x, w = drawn((1, 1, 4, 4), seed=2), w[None, None]
        (by_torch, *_) = truth(x, w, torch.zeros(1).double(), delta, 1, 0, 1)
        close(F.conv2d(F.pad(delta, [2] * 4), w), sign * by_torch)


def test_the_gradient_from_a_mean_absolute_response_is_that_of_autograd(page):
    """`OneKernel` is torch's convolution, mean and linear layer, unbalanced too."""
    torch.manual_seed(1)
    model = page["OneKernel"](balanced=False)
    x = drawn((2, 1, 6, 6)).float()
    response = F.conv2d(x, model.weight).abs().mean((1, 2, 3))
    torch.testing.assert_close(model(x), model.linear(response[:, None]))
