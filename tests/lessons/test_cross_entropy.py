"""The lesson on cross-entropy: its equations and its functions.

What a boxed equation says, written out entry by entry in float64, is what torch or finite
differences give.
"""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from extremes import extremes
from lesson_source import close, definitions

LESSON = "cross_entropy"
FUNCTIONS = (
    "cross_entropy",
    "kl",
    "finite_differences",
    "softmax_jacobian",
    "logits_gradient",
    "train_by_hand",
    "doubled",
    "doubled_gradient",
    "squared_error",
    "squared_error_gradient",
)


@pytest.fixture(scope="module")
def page():
    """What the lesson defines, as a namespace."""
    return definitions(LESSON, *FUNCTIONS)


def drawn(*shape):
    return 2 * torch.randn(
        *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )


Z, Y, B, K = (
    drawn(6, 5),
    torch.tensor([4, 0, 1, 1, 3, 2]),
    6,
    5,
)  # logits (B, K), labels (B,)
ONE_HOT = F.one_hot(Y, K).double()  # (B, K)
P = Z.exp() / Z.exp().sum(1, keepdim=True)  # (B, K)


def differences(f, z, h=1e-5):
    """Central differences of a scalar f, entry by entry (the test's own, not the
    page's)."""
    grad = torch.zeros_like(z)
    for index in itertools.product(*map(range, z.shape)):
        up, down = z.clone(), z.clone()
        up[index] += h
        down[index] -= h
        grad[index] = (f(up) - f(down)) / (2 * h)
    return grad


# Boxed equations ------------------------------------------------------------------------


def test_eq_cross_entropy():
    """Cross-entropy is minus the mean of log p of the label, which is F.cross_entropy."""
    close(-sum(math.log(P[n, Y[n]]) for n in range(B)) / B, F.cross_entropy(Z, Y))


def test_eq_kl():
    """H(q, p) = H(q) + KL(q, p), KL is not negative, and is the cross-entropy of a
    one-hot q."""
    q = torch.softmax(drawn(8, 5)[2:], 1)
    divergence = F.kl_div(P.log(), q, reduction="none").sum(1)
    close(-(q * P.log()).sum(1), torch.special.entr(q).sum(1) + divergence)
    assert bool((divergence > 0).all())
    close(F.kl_div(P.log(), P, reduction="none").sum(1), torch.zeros(B))
    close(F.kl_div(P.log(), ONE_HOT, reduction="batchmean"), F.cross_entropy(Z, Y))


def test_eq_softmax_jacobian():
    """dp_i/dz_j = p_i (delta_ij - p_j), both cases, by finite differences and by
    autograd."""
    z, p = Z[0], P[0]
    stated = torch.tensor(
        [[p[i] * (float(i == j) - p[j]) for j in range(K)] for i in range(K)]
    )
    close(
        stated,
        torch.autograd.functional.jacobian(lambda z: torch.softmax(z, -1), z),
        1e-6,
    )
    for i in range(K):
        close(stated[i], differences(lambda z, i=i: torch.softmax(z, -1)[i], z), 1e-6)


def test_eq_softmax_gradient():
    """dloss/dz_j = p_j - y_j for the label and for every other j, with this sign."""
    for n in range(B):
        stated = [P[n, j] - (1.0 if j == Y[n] else 0.0) for j in range(K)]
        close(stated, differences(lambda z, n=n: F.cross_entropy(z, Y[n]), Z[n]))
        leaf = Z[n].clone().requires_grad_()
        close(stated, torch.autograd.grad(F.cross_entropy(leaf, Y[n]), leaf)[0])
        assert stated[Y[n]] < 0 and all(stated[j] > 0 for j in range(K) if j != Y[n])


def test_both_steps_of_the_derivation_give_p_minus_y():
    """Both forms of the sum over i give p - y, entry by entry."""
    z, y, p = Z[0], ONE_HOT[0], P[0]
    jacobian = torch.autograd.functional.jacobian(
        lambda z: torch.softmax(z, -1), z
    )  # [i, j]
    first = torch.stack([-(y / p * jacobian[:, j]).sum() for j in range(K)])
    second = torch.stack(
        [-(y * (torch.arange(K) == j)).sum() + p[j] * y.sum() for j in range(K)]
    )
    close(first, p - y)
    close(second, p - y)


def test_eq_linear_gradient():
    """(p - y)^T x / B is the gradient with respect to W, the column means of p - y that
    with respect to b."""
    x, W, b = drawn(B, 7), drawn(K, 7).requires_grad_(), drawn(K).requires_grad_()
    F.cross_entropy(x @ W.T + b, Y).backward()
    error = (torch.softmax(x @ W.T + b, 1) - ONE_HOT).detach()
    close((error.T @ x) / B, W.grad)
    close(sum(error[n] for n in range(B)) / B, b.grad)


def test_eq_double_softmax_floor():
    """Cross-entropy of probabilities is never below log(1 + (K - 1)/e), and reaches
    it."""
    for classes in (2, 10, 1000):
        floor = math.log(1 + (classes - 1) / math.e)
        label = torch.tensor([1])
        close(F.cross_entropy(F.one_hot(label, classes).double(), label), floor)
        p = torch.softmax(5 * drawn(200, classes), 1)
        losses = F.cross_entropy(p, label.expand(200), reduction="none")
        assert bool((losses >= floor - 1e-12).all())
        s = p[:, 1]
        bound = torch.log(1 + (classes - 1) * torch.exp((1 - s) / (classes - 1) - s))
        assert bool((losses >= bound - 1e-12).all())  # the bound of the derivation


def test_the_doubled_softmax_shrinks_the_first_gradient_by_k():
    """At equal logits the gradient through two softmaxes is 1/K of the right one."""
    for classes in (2, 10):
        z = torch.zeros(1, classes, dtype=torch.float64, requires_grad=True)
        (once,) = torch.autograd.grad(F.cross_entropy(z, torch.tensor([1])), z)
        (twice,) = torch.autograd.grad(
            F.cross_entropy(z.softmax(1), torch.tensor([1])), z
        )
        close(twice, once / classes)


def test_eq_squared_error_gradient():
    """p_j ((p_j - y_j) - sum of p_i (p_i - y_i)), by finite differences and by
    autograd."""
    for n in range(B):
        p, y = P[n].tolist(), ONE_HOT[n].tolist()
        shared = sum(p[i] * (p[i] - y[i]) for i in range(K))
        stated = [p[j] * ((p[j] - y[j]) - shared) for j in range(K)]

        def loss(z, n=n):
            return (torch.softmax(z, -1) - ONE_HOT[n]).square().sum() / 2

        leaf = Z[n].clone().requires_grad_()
        close(stated, differences(loss, Z[n]))
        close(stated, torch.autograd.grad(loss(leaf), leaf)[0])


def test_squared_error_is_silent_where_it_is_surely_wrong():
    """With two classes the label's push is -2 eps (1 - eps)^2, as the derivation says."""
    for margin in (1.0, 5.0, 20.0):
        z = torch.tensor([margin, 0.0], dtype=torch.float64, requires_grad=True)
        p = torch.softmax(z, -1)
        eps = p[1].item()
        ((p - torch.tensor([0.0, 1.0])).square().sum() / 2).backward()
        close(z.grad[1], -2 * eps * (1 - eps) ** 2, 1e-12)


# The page's functions against torch -----------------------------------------------------


@extremes
def test_cross_entropy(page, z):
    """Equals F.cross_entropy, value and gradient, for every label that torch can
    answer."""
    for k in range(z.shape[1]):
        y = torch.full((len(z),), k)
        ours, theirs = z.clone().requires_grad_(), z.clone().requires_grad_()
        got, expected = page["cross_entropy"](ours, y), F.cross_entropy(theirs, y)
        torch.testing.assert_close(got, expected)
        got.backward()
        expected.backward()
        torch.testing.assert_close(ours.grad, theirs.grad)


def test_kl(page):
    """Equals torch's kl_div, also where q holds zeros."""
    close(page["kl"](ONE_HOT, P), F.kl_div(P.log(), ONE_HOT, reduction="none").sum(1))
    close(page["kl"](P, P), torch.zeros(B))


def test_finite_differences(page):
    """Central differences give known derivatives, of scalars and of rows."""
    z = Z[0]
    close(page["finite_differences"](lambda z: (z**3).sum(), z), 3 * z**2, 1e-8)
    close(page["finite_differences"](torch.sin, z), torch.diag(z.cos()), 1e-8)


@extremes
def test_softmax_jacobian(page, z):
    """Equals autograd's Jacobian of torch.softmax."""
    for row in z.double():
        jacobian = torch.autograd.functional.jacobian(lambda v: torch.softmax(v, -1), row)
        close(page["softmax_jacobian"](row), jacobian, 1e-6)


@extremes
def test_logits_gradient(page, z):
    """The page's gradient of cross-entropy is autograd's: one wrong sign fails here."""
    for k in range(z.shape[1]):
        y = torch.full((len(z),), k)
        leaf = z.double().requires_grad_()
        F.cross_entropy(leaf, y).backward()
        close(page["logits_gradient"](z.double(), y), leaf.grad, 1e-6)
    close(page["logits_gradient"](Z, Y), differences(lambda z: F.cross_entropy(z, Y), Z))


def test_squared_error(page):
    """Loss and gradient equal autograd and finite differences, at large logits too."""
    for z in (Z, 300 * Z):
        leaf = z.clone().requires_grad_()
        loss = (torch.softmax(leaf, 1) - ONE_HOT).square().sum(1).mean() / 2
        close(page["squared_error"](z, Y), loss)
        close(page["squared_error_gradient"](z, Y), torch.autograd.grad(loss, leaf)[0])
    close(
        page["squared_error_gradient"](Z, Y),
        differences(lambda z: page["squared_error"](z, Y), Z),
    )


def test_doubled_is_cross_entropy_of_softmax(page):
    """The mistake is the one that people make."""
    close(page["doubled"](Z, Y), -torch.log_softmax(P, 1)[torch.arange(B), Y].mean())


def test_doubled_gradient(page):
    """The gradient of the mistake, by finite differences; the logits stay as they are."""
    z = Z.clone()
    close(
        page["doubled_gradient"](z, Y),
        differences(lambda z: page["doubled"](z, Y), Z),
        1e-8,
    )
    assert torch.equal(z, Z) and not z.requires_grad


def test_kl_is_not_symmetric(page):
    """From q to p and from p to q are two numbers; where p lacks what q has, it is
    infinite."""
    q, p = P[0], P[1]
    assert abs(page["kl"](q, p) - page["kl"](p, q)) > 0.01
    assert page["kl"](torch.tensor([0.5, 0.5]), torch.tensor([1.0, 0.0])).isinf()


def test_a_code_that_fits_has_words_as_long_as_the_surprisal():
    """The page's code: prefix-free, and its mean length is the entropy in bits."""
    message, code = (
        definitions(LESSON, "message", "code")[name] for name in ("message", "code")
    )
    for a, b in itertools.permutations(code.values(), 2):
        assert not a.startswith(b)
    shares = [message.count(letter) / len(message) for letter in code]
    close([len(word) for word in code.values()], [-math.log2(s) for s in shares])


def test_training_by_hand_is_autograd_with_sgd(page):
    """The lesson's loop gives the weights of torch.optim.SGD, the short last batch
    included."""
    g = torch.Generator().manual_seed(5)
    x, y = torch.randn(50, 8, generator=g), torch.randint(10, (50,), generator=g)
    W, b = torch.zeros(10, 8), torch.zeros(10)
    page["train_by_hand"](W, b, x, y, epochs=3, lr=0.5, batch_size=16)
    layer = torch.nn.Linear(8, 10)
    torch.nn.init.zeros_(layer.weight), torch.nn.init.zeros_(layer.bias)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.5)
    order, step = torch.Generator().manual_seed(0), 0
    for _ in range(3):
        for index in torch.randperm(50, generator=order).split(16):
            optimizer.param_groups[0]["lr"] = 0.5 * (1 - step / 12)
            optimizer.zero_grad()
            F.cross_entropy(layer(x[index]), y[index]).backward()
            optimizer.step()
            step += 1
    close(W, layer.weight.detach(), 1e-5)
    close(b, layer.bias.detach(), 1e-5)
