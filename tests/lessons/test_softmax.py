"""The lesson on softmax: its equations and its functions.

What a boxed equation says, written out entry by entry in float64, is what torch gives.
"""

import math

import pytest
import torch
import torch.nn.functional as F
from extremes import extremes
from lesson_source import close, definitions

from lessons_src.train import accuracy

LESSON = "softmax"
FUNCTIONS = ("accuracy", "one_hot", "softmax_naive", "log_softmax", "softmax")


@pytest.fixture(scope="module")
def page():
    """What the lesson defines, as a namespace."""
    return definitions(LESSON, *FUNCTIONS)


def drawn(*shape):
    return 2 * torch.randn(
        *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )


Z, Y, K = drawn(6, 5), torch.tensor([4, 0, 1, 1, 3, 2]), 5  # logits (B, K), labels (B,)


# Boxed equations ------------------------------------------------------------------------


def test_eq_softmax():
    """Softmax: e to the z_i over the sum of all, which is torch.softmax."""
    for z, p in zip(Z.tolist(), torch.softmax(Z, 1).tolist(), strict=True):
        total = sum(math.exp(v) for v in z)
        close([math.exp(v) / total for v in z], p)


def test_eq_log_sum_exp():
    """Log-sum-exp is the same for every shift m, and is torch.logsumexp."""
    for m in (0.0, 1.7, -30.0, Z.max().item()):
        close(m + (Z - m).exp().sum(1).log(), torch.logsumexp(Z, 1))


def test_log_sum_exp_lies_in_its_bounds():
    """max <= LSE <= max + log K, reached at one dominating and at equal logits."""
    lse = torch.logsumexp(100 * Z, 1)
    assert bool(
        (lse >= 100 * Z.amax(1)).all() and (lse <= 100 * Z.amax(1) + math.log(K)).all()
    )
    close(torch.logsumexp(torch.zeros(1, K), 1), [math.log(K)], 1e-6)


def test_eq_log_softmax():
    """Log-softmax is z_i minus LSE."""
    close(Z - torch.logsumexp(Z, 1, keepdim=True), torch.log_softmax(Z, 1))


def test_the_exponential_is_shift_invariant_and_has_its_functional_equation():
    """h(u + c) = h(u) h(c) holds for the exponential, and softmax ignores a shift."""
    close(torch.softmax(Z + 3, 1), torch.softmax(Z, 1))
    close((Z + 3).exp(), Z.exp() * math.exp(3))


def test_a_difference_of_logits_is_the_logarithm_of_odds():
    """log(p_i / p_j) = z_i - z_j; of two classes, softmax is the sigmoid of it."""
    p = torch.softmax(Z, 1)
    close((p[:, 0] / p[:, 3]).log(), Z[:, 0] - Z[:, 3])
    close(torch.softmax(Z[:, :2], 1)[:, 1], torch.sigmoid(Z[:, 1] - Z[:, 0]))


def test_temperature_keeps_the_order():
    """At every temperature the classes have the same order, and certainty falls as it
    rises."""
    certainty = []
    for T in (0.1, 1, 10, 100):
        p = torch.softmax(Z / T, 1)
        close(p.argsort(1), Z.argsort(1))
        certainty.append(p.amax(1))
    assert bool((torch.stack(certainty).diff(dim=0) < 0).all())


def test_other_rising_functions_do_not_ignore_a_bonus():
    """softplus and z + sqrt(z^2 + 1) are positive and rise, and a bonus changes their
    shares."""
    for f in (F.softplus, lambda z: z + (z**2 + 1).sqrt()):
        z = torch.linspace(-5, 5, 101, dtype=torch.float64)
        assert bool((f(z) > 0).all() and (f(z).diff() > 0).all())
        shares, later = f(Z) / f(Z).sum(1, True), f(Z + 3) / f(Z + 3).sum(1, True)
        assert (shares - later).abs().max() > 0.01


# The page's functions against torch -----------------------------------------------------


def test_one_hot(page):
    """As F.one_hot, in float."""
    close(page["one_hot"](Y, K), F.one_hot(Y, K))


def test_accuracy(page):
    """As the module's: a tie goes to the first of the largest."""
    close(page["accuracy"](Z, Y), accuracy(Z, Y))
    tie = torch.tensor([[1.0, 2, 2], [3, 3, 0]])
    assert page["accuracy"](tie, torch.tensor([1, 1])) == 0.5


@extremes
def test_softmax_and_log_softmax(page, z):
    """Equal torch's, values and gradients, at logits of 1000, 3e38 and minus infinity."""
    for name in ("softmax", "log_softmax"):
        ours, theirs = z.clone().requires_grad_(), z.clone().requires_grad_()
        got, expected = page[name](ours), getattr(torch, name)(theirs, -1)
        torch.testing.assert_close(got, expected)
        weights = torch.linspace(-1, 2, z.numel()).view_as(z)
        got.mul(weights).masked_fill(z.isinf(), 0).sum().backward()
        expected.mul(weights).masked_fill(z.isinf(), 0).sum().backward()
        torch.testing.assert_close(ours.grad, theirs.grad, equal_nan=True)


def test_softmax_takes_any_leading_shape(page):
    """The last dimension holds the classes, whatever comes before it."""
    z = drawn(2, 3, 4)
    close(page["softmax"](z), torch.softmax(z, -1))
    close(page["log_softmax"](z[0, 0]), torch.log_softmax(z[0, 0], -1))


def test_naive_softmax_is_right_and_breaks(page):
    """The formula as it stands is right at small logits and gives nan, 0, 0 at 1000."""
    close(page["softmax_naive"](Z), torch.softmax(Z, 1))
    broken = page["softmax_naive"](torch.tensor([1000.0, 0.0, -1000.0]))
    assert broken[0].isnan() and broken[1:].tolist() == [0, 0]
