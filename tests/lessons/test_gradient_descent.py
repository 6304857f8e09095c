"""Lesson 04: its equations, and its update rules against torch.optim.
Each test's docstring is its claim."""

import copy
import math

import numpy as np
import pytest
import torch
from lesson_source import definitions
from torch import nn
from torch.autograd.functional import hessian

LESSON = "04_gradient_descent"
PAGE = definitions(
    LESSON,
    "sgd",
    "momentum",
    "nesterov",
    "rmsprop",
    "adadelta",
    "adam",
    "adamw",
    "run",
    "run_torch",
    "RULES",
    "descend",
    "one_cycle",
    "softmax_gradient",
    "squared_error_gradient",
    "squared_error",
    "largest_eigenvalue",
    "two_valleys",
    "two_valleys_gradient",
    "CURVATURE",
    "valley",
    "valley_gradient",
)
RULES = PAGE["RULES"]
every_rule = pytest.mark.parametrize("name", list(RULES))


def double(*values):
    return torch.tensor(values, dtype=torch.float64)


def random(*shape, seed=0):
    return torch.randn(
        *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
    )


def random_hessian(d, seed):
    """A symmetric matrix with eigenvalues from 0.5 to 20."""
    q, _ = torch.linalg.qr(random(d, d, seed=seed))
    return q @ torch.diag(torch.linspace(0.5, 20, d, dtype=torch.float64)) @ q.T


# --- boxed equations --------------------------------------------------------------------


def test_eq_descent():
    """A step against the gradient gains lr ‖g‖² to first order, and no direction of
    that length gains more; what is left is of second order in lr."""
    theta = random(6)

    def loss(w):
        return torch.logsumexp(w, 0) + 0.1 * (w**4).sum()

    leaf = theta.clone().requires_grad_()
    (g,) = torch.autograd.grad(loss(leaf), leaf)
    rests = []
    for lr in (1e-3, 1e-4):
        rests.append((loss(theta - lr * g) - loss(theta) + lr * g @ g).item())
    assert 90 < rests[0] / rests[1] < 110  # a tenth of lr: a hundredth of the rest
    others = random(500, 6, seed=1)
    others = others / others.norm(dim=1, keepdim=True) * g.norm() * 1e-4
    assert loss(theta - 1e-4 * g) < min(loss(theta + d) for d in others)


@pytest.mark.parametrize("d", [1, 3, 10])
def test_eq_stability(d):
    """Below 2/λmax descent converges from a random start, above it it diverges."""
    H, e = random_hessian(d, seed=d), random(d, seed=d + 100)
    bound = 2 / torch.linalg.eigvalsh(H)[-1].item()
    below = PAGE["descend"](lambda w: H @ w, e, 0.98 * bound, 3000)[-1].norm()
    above = PAGE["descend"](lambda w: H @ w, e, 1.02 * bound, 3000)[-1].norm()
    assert below < 1e-6 * e.norm() and above > 1e6 * e.norm()


def test_eq_best_rate():
    """2/(λmin + λmax) has the factor (κ−1)/(κ+1), and no other rate has a smaller one."""
    H = random_hessian(6, seed=3)
    lam = torch.linalg.eigvalsh(H)
    kappa = lam[-1] / lam[0]

    def factor(lr):
        return torch.linalg.eigvalsh(torch.eye(6).double() - lr * H).abs().max()

    best = 2 / (lam[0] + lam[-1])
    assert torch.isclose(factor(best), (kappa - 1) / (kappa + 1), rtol=1e-9)
    assert all(
        factor(best) <= factor(lr) for lr in torch.linspace(0.001, 0.2, 400).double()
    )
    path = PAGE["descend"](lambda w: H @ w, random(6), best.item(), 50)
    assert (path[1:].norm(dim=1) / path[:-1].norm(dim=1)).max() <= factor(best) + 1e-12


def test_eq_coverage():
    """The share of examples seen in N draws is 1 − (1 − 1/N)^N exactly (all outcomes
    counted), and goes to 1 − 1/e."""
    for n in (1, 2, 3, 5):
        outcomes = torch.cartesian_prod(*[torch.arange(n)] * n).reshape(-1, n)
        seen = sum(len(row.unique()) for row in outcomes) / len(outcomes) / n
        assert math.isclose(seen, 1 - (1 - 1 / n) ** n)
    assert math.isclose(1 - (1 - 1e-7) ** (10**7), 1 - 1 / math.e, rel_tol=1e-7)


def test_eq_noise():
    """E‖g_B − g‖² is σ²/B with replacement, and σ²/B (N−B)/(N−1) without: over all
    batches there are, none drawn."""
    import itertools

    grads, n = random(5, 3), 5
    full = grads.mean(0)
    variance = (grads - full).square().sum(1).mean()
    for b in (1, 2, 3, 5):

        def mean_square(batches):
            means = torch.stack([grads[list(i)].mean(0) for i in batches])
            assert torch.allclose(means.mean(0), full)  # right on average
            return (means - full).square().sum(1).mean()

        with_ = mean_square(list(itertools.product(range(n), repeat=b)))
        without = mean_square(list(itertools.permutations(range(n), b)))
        assert torch.isclose(with_, variance / b)
        assert torch.isclose(without, variance / b * (n - b) / (n - 1), atol=1e-15)


def from_formula(name, grads, w, lr=0.01):
    """The boxed equations once more, written from the formulas as they stand on the
    page."""
    v = m = q = d = torch.zeros_like(w)
    beta, alpha, rho, b1, b2, omega = 0.9, 0.99, 0.9, 0.9, 0.999, 0.3
    for t, g in enumerate(grads, 1):
        if name in ("momentum", "Nesterov"):
            v = beta * v + g
            w = w - lr * (v if name == "momentum" else g + beta * v)
        elif name == "RMSProp":
            q = alpha * q + (1 - alpha) * g * g
            w = w - lr * g / (torch.sqrt(q) + 1e-8)
        elif name == "Adadelta":
            q = rho * q + (1 - rho) * g * g
            step = torch.sqrt(d + 1e-6) / torch.sqrt(q + 1e-6) * g
            d = rho * d + (1 - rho) * step * step
            w = w - lr * step
        else:
            m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
            m_hat, v_hat = m / (1 - b1**t), v / (1 - b2**t)
            shrink = 1 - lr * omega if name == "AdamW" else 1
            w = shrink * w - lr * m_hat / (torch.sqrt(v_hat) + 1e-8)
    return w


def torch_walk(name, grads, w, lr=0.01):
    """The same gradients through torch.optim."""
    _, optimizer_class, settings = RULES[name]
    w = w.clone()
    decay = {"weight_decay": 0.3} if name == "AdamW" else {}
    optimizer = optimizer_class([w], lr=lr, **settings, **decay)
    for g in grads:
        w.grad = g.clone()
        optimizer.step()
    return w


def formula_equals_torch(name):
    for scale in (1e-8, 1.0, 1e8):
        grads, w = scale * random(50, 7, seed=1), random(7, seed=2)
        ours, theirs = from_formula(name, grads, w), torch_walk(name, grads, w)
        assert torch.allclose(ours, theirs, rtol=1e-9, atol=1e-9)


def test_eq_momentum():
    """The boxed momentum equals torch.optim.SGD(momentum=0.9)."""
    formula_equals_torch("momentum")


def test_eq_nesterov():
    """The boxed Nesterov equals torch.optim.SGD(nesterov=True), and is the look-ahead
    form: its weights are θ − lr β v of the first form with the gradient taken there."""
    formula_equals_torch("Nesterov")
    H, lr, beta = random_hessian(4, seed=0), 0.02, 0.9
    theta, v = random(4, seed=5), torch.zeros(4).double()
    start = theta.clone()
    for _ in range(40):
        v = beta * v + H @ (theta - lr * beta * v)
        theta = theta - lr * v
    w = PAGE["run"](PAGE["nesterov"], lambda w: H @ w, start, 40, lr=lr, beta=beta)[-1]
    assert torch.allclose(w, theta - lr * beta * v, rtol=1e-10, atol=1e-12)


def test_eq_rmsprop():
    """The boxed RMSProp equals torch.optim.RMSprop."""
    formula_equals_torch("RMSProp")


def test_eq_adadelta():
    """The boxed Adadelta equals torch.optim.Adadelta."""
    formula_equals_torch("Adadelta")


def test_eq_adam():
    """The boxed Adam equals torch.optim.Adam."""
    formula_equals_torch("Adam")


def test_eq_adamw():
    """The boxed AdamW equals torch.optim.AdamW."""
    formula_equals_torch("AdamW")


def test_eq_momentum_gain():
    """A constant gradient gives the velocity (1 − βᵗ)/(1 − β) g, in the limit g/(1 −
    β)."""
    for beta in (0.0, 0.5, 0.9, 0.99):
        w, s, g = double(0.0), {}, double(3.0)
        for t in range(1, 3001):
            PAGE["momentum"](w, g, s, lr=0.1, beta=beta)
            if t in (1, 2, 10, 100):
                assert math.isclose(
                    s["v"].item(), (1 - beta**t) / (1 - beta) * 3.0, rel_tol=1e-9
                )
        assert math.isclose(s["v"].item(), 3.0 / (1 - beta), rel_tol=1e-9)


@pytest.mark.parametrize("beta", [0.0, 0.5, 0.9])
def test_eq_momentum_rate(beta):
    """Momentum is stable exactly below 2(1 + β)/λmax; at the best rate and β its
    factor is √β, and no other pair on a grid has a smaller one."""

    def radius(lr, lam, beta):
        """Spectral radius of one step (u, v) -> (u, v) along a direction of curvature
        lam."""
        step = np.array([[1 - lr * lam, -lr * beta], [lam, beta]])
        return abs(np.linalg.eigvals(step)).max()

    H, e = random_hessian(4, seed=1), random(4, seed=2)  # λ from 0.5 to 20
    bound = 2 * (1 + beta) / 20
    for share, converges in ((0.98, True), (1.02, False)):
        path = PAGE["run"](
            PAGE["momentum"], lambda w: H @ w, e, 3000, lr=share * bound, beta=beta
        )
        assert (path[-1].norm() < 1e-6) == converges
        assert (radius(share * bound, 20, beta) < 1) == converges
    root = (math.sqrt(40) - 1) / (math.sqrt(40) + 1)  # κ = 40
    lr = (1 + root) ** 2 / 20
    best = max(radius(lr, lam, root**2) for lam in np.linspace(0.5, 20, 50))
    assert math.isclose(best, root, rel_tol=1e-6)
    for other_lr in np.linspace(0.01, 0.3, 20):
        assert max(radius(other_lr, lam, beta) for lam in (0.5, 5, 20)) > best - 1e-9


def test_eq_bias_correction():
    """The mean over all sequences of random signs of m_t is (1 − βᵗ) E[g]; divided by
    1 − βᵗ it is E[g]. For a constant gradient the corrected mean is that gradient at
    every t."""
    import itertools

    beta, t = 0.9, 8
    values = (1.0, 3.0)  # with equal probability: E[g] = 2
    total = 0.0
    for grads in itertools.product(values, repeat=t):
        m = 0.0
        for g in grads:
            m = beta * m + (1 - beta) * g
        total += m
    mean = total / 2**t
    assert math.isclose(mean, (1 - beta**t) * 2)
    assert math.isclose(mean / (1 - beta**t), 2)


def test_eq_noise_floor():
    """The variance lr s² / (λ (2 − lr λ)) is the fixed point, and is reached from any
    start."""
    for lr, lam, s in ((0.1, 1.0, 1.0), (0.3, 5.0, 2.0), (1.9, 1.0, 0.5)):
        floor = lr * s**2 / (lam * (2 - lr * lam))
        for variance in (0.0, 100.0):
            for _ in range(2000):
                variance = (1 - lr * lam) ** 2 * variance + lr**2 * s**2
            assert math.isclose(variance, floor, rel_tol=1e-9)


# --- the page's own functions against torch ---------------------------------------------


@every_rule
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("seed", range(3))
def test_rules_equal_torch(name, weight_decay, seed):
    """Each rule of the page makes the 50 steps of its torch.optim twin, to 1e-6 (in
    fact 1e-12), on random regressions, with and without weight decay."""
    A, b, w = (
        random(30, 6, seed=seed),
        random(30, seed=seed + 10),
        random(6, seed=seed + 20),
    )

    def gradient(w):
        return A.T @ (A @ w - b) / len(A)

    rule, optimizer_class, settings = RULES[name]
    given = {"lr": 0.03, "weight_decay": weight_decay}
    ours = PAGE["run"](rule, gradient, w, 50, **given)
    theirs = PAGE["run_torch"](optimizer_class, gradient, w, 50, **given, **settings)
    assert (ours[1:] != ours[:-1]).any(1).all(), "it moves"
    assert (ours - theirs).abs().max() < 1e-12


@every_rule
@pytest.mark.parametrize("scale", [1e-8, 1e8, 0.0])
def test_rules_equal_torch_on_extreme_gradients(name, scale):
    """The same for gradients about 1e-8, 1e8, and exactly zero (no nan), each step."""
    rule, optimizer_class, settings = RULES[name]
    noise, w = scale * random(50, 5, seed=7), random(5, seed=8)

    def gradients():
        rows = iter(noise)
        return lambda w: next(rows).clone()

    ours = PAGE["run"](rule, gradients(), w, 50, lr=0.01, weight_decay=0.0)
    theirs = PAGE["run_torch"](
        optimizer_class, gradients(), w, 50, lr=0.01, weight_decay=0.0, **settings
    )
    assert torch.isfinite(ours).all()
    assert torch.allclose(ours, theirs, rtol=1e-9, atol=1e-9)


@every_rule
def test_rules_have_pytorch_defaults(name):
    """Without settings but lr, a rule is torch's optimiser without settings (but
    momentum 0.9)."""
    rule, optimizer_class, settings = RULES[name]
    H, w = random_hessian(4, seed=2), random(4, seed=3)
    ours = PAGE["run"](rule, lambda w: H @ w, w, 20, lr=0.01)
    theirs = PAGE["run_torch"](
        optimizer_class, lambda w: H @ w, w, 20, lr=0.01, **settings
    )
    assert (ours - theirs).abs().max() < 1e-12


def test_gradients_equal_autograd():
    """The page's three gradients, of the cross-entropy, of the squared error and of
    the surfaces, are autograd's; also for logits in the thousands."""
    x, W = random(5, 7), random(4, 7, seed=1)
    labels = torch.tensor([0, 3, 1, 2, 0])
    y = torch.nn.functional.one_hot(labels, 4).double()
    for scale in (1.0, 1e4):
        leaf = (scale * W).requires_grad_()
        loss = torch.nn.functional.cross_entropy(x @ leaf.T, labels)
        (expected,) = torch.autograd.grad(loss, leaf)
        assert torch.allclose(
            PAGE["softmax_gradient"](scale * W, x, y), expected, atol=1e-12
        )
    leaf = W.clone().requires_grad_()
    (expected,) = torch.autograd.grad(0.5 * (x @ leaf.T - y).square().sum(1).mean(), leaf)
    assert torch.allclose(PAGE["squared_error_gradient"](W, x, y), expected, atol=1e-12)
    for name in ("valley", "two_valleys"):
        leaf = double(0.7, -1.3).requires_grad_()
        (expected,) = torch.autograd.grad(PAGE[name](leaf), leaf)
        assert torch.allclose(PAGE[f"{name}_gradient"](leaf.detach()), expected)


def test_squared_error_is_the_loss_of_its_gradient():
    """squared_error(z, y) is ½ the mean squared distance to the one-hot labels; its
    Hessian in the weights of a linear model is XᵀX/N for each output, as the lesson
    says."""
    x, y = random(6, 3), torch.tensor([0, 1, 1, 0, 1, 0])
    z = random(6, 10)
    expected = (
        torch.nn.functional.mse_loss(z, torch.nn.functional.one_hot(y, 10).double()) * 5
    )
    assert torch.isclose(PAGE["squared_error"](z, y), expected)
    H = hessian(lambda w: PAGE["squared_error"](x @ w.reshape(10, 3).T, y), random(30))
    assert torch.allclose(H, torch.block_diag(*[x.T @ x / 6] * 10), atol=1e-12)


def test_power_iteration():
    """`largest_eigenvalue` is the largest one of a random positive matrix."""
    H = random_hessian(5, seed=4)
    found = PAGE["largest_eigenvalue"](
        lambda v: H @ v, torch.ones(5).double(), iterations=300
    )
    assert math.isclose(found, torch.linalg.eigvalsh(H)[-1].item(), rel_tol=1e-6)


@pytest.mark.parametrize("total", [20, 100, 300])
def test_one_cycle_equals_torch(total):
    """`one_cycle` is OneCycleLR with straight lines, at every step."""
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    twin = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 0.7, total_steps=total, anneal_strategy="linear", cycle_momentum=False
    )
    for step in range(total):
        assert math.isclose(
            twin.get_last_lr()[0], PAGE["one_cycle"](step, total, 0.7), rel_tol=1e-6
        )
        optimizer.step()
        if step < total - 1:
            twin.step()


def test_adams_first_step_is_lr_whatever_the_gradient():
    """The first corrected step is lr against the gradient's sign; uncorrected it would be
    (1 − β₁)/√(1 − β₂) = 3.16 of it, as the quiz says."""
    w = torch.zeros(4, dtype=torch.float64)
    PAGE["adam"](w, double(1e-3, -5.0, 1e6, -2e9), {}, lr=0.01)
    assert torch.allclose(w, double(-0.01, 0.01, -0.01, 0.01), rtol=1e-4)
    assert math.isclose((1 - 0.9) / math.sqrt(1 - 0.999), 3.162, rel_tol=1e-3)


# --- the exercises' solutions -----------------------------------------------------------


def test_adamw_solution_is_an_optimiser_for_a_network():
    """The solution trains a network's parameters as torch.optim.AdamW does, buffers
    apart."""
    torch.manual_seed(0)
    ours = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2)).double()
    theirs = copy.deepcopy(ours)
    optimizers = (
        definitions(LESSON, "AdamW", tag="solution")["AdamW"](
            ours.parameters(), lr=0.02, weight_decay=0.1
        ),
        torch.optim.AdamW(theirs.parameters(), lr=0.02, weight_decay=0.1),
    )
    x = random(20, 4)
    for _ in range(50):
        for net, optimizer in zip((ours, theirs), optimizers, strict=True):
            net.zero_grad()
            net(x).square().mean().backward()
            optimizer.step()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.allclose(a, b, rtol=1e-10, atol=1e-12)


def test_warmup_cosine_is_torchs_cosine():
    """After the warm-up the solution is CosineAnnealingLR."""
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.5)
    twin = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=90)
    warmup_cosine = definitions(LESSON, "warmup_cosine", tag="solution")["warmup_cosine"]
    for step in range(10, 100):
        rate = warmup_cosine(step, 100, 10, 0.5)
        assert math.isclose(twin.get_last_lr()[0], rate, abs_tol=1e-12)
        optimizer.step()
        twin.step()
