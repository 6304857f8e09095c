"""The lesson on optimizers: its equations, and its update rules against torch.optim.
Each test's docstring is its claim."""

import copy
import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lesson_source import definitions
from torch import nn

from lessons_src.data import Split

LESSON = "optimizers"
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
    "one_cycle",
    "larger_root",
    "LONG",
    "long_valley",
    "long_gradient",
    "one_epoch",
    "loss_and_accuracy",
    "range_test",
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
    fact 1e-12), on random regressions, with and without weight decay. But for AdamW,
    torch's weight decay is the gradient of the penalty added to that of the loss."""
    A, b, w = (
        random(30, 6, seed=seed),
        random(30, seed=seed + 10),
        random(6, seed=seed + 20),
    )

    def gradient(w):
        return A.T @ (A @ w - b) / len(A)

    def penalised(w):
        return gradient(w) + weight_decay * w

    rule, optimizer_class, settings = RULES[name]
    if name == "AdamW":  # the one rule that takes the decay out of the gradient
        ours = PAGE["run"](rule, gradient, w, 50, lr=0.03, weight_decay=weight_decay)
    else:
        ours = PAGE["run"](rule, penalised, w, 50, lr=0.03)
    settings = {**settings, "lr": 0.03, "weight_decay": weight_decay}
    theirs = PAGE["run_torch"](optimizer_class, gradient, w, 50, **settings)
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

    no_decay = {"weight_decay": 0.0} if name == "AdamW" else {}
    settings = {**settings, **no_decay}
    ours = PAGE["run"](rule, gradients(), w, 50, lr=0.01, **no_decay)
    theirs = PAGE["run_torch"](optimizer_class, gradients(), w, 50, lr=0.01, **settings)
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


def test_gradient_of_the_long_valley_equals_autograd():
    """`long_gradient` is autograd's gradient of `long_valley`."""
    leaf = double(0.7, -1.3).requires_grad_()
    (expected,) = torch.autograd.grad(PAGE["long_valley"](leaf), leaf)
    assert torch.allclose(PAGE["long_gradient"](leaf.detach()), expected)


@pytest.mark.parametrize("kappa", [2.0, 50.0, 10_000.0])
def test_best_beta(kappa):
    """With the rate free, no pair on a fine grid has a smaller factor than the boxed one;
    with the rate fixed at 1/λmax, the best β is (1 − 1/√κ)², as the page prints."""

    def factor(lr, beta):  # λmax = 1, λmin = 1/κ
        return max(PAGE["larger_root"](lr, lam, beta) for lam in (1 / kappa, 1.0))

    root = (kappa**0.5 - 1) / (kappa**0.5 + 1)
    betas = np.linspace(0, 0.999, 60)
    # where two roots meet, rounding moves them by the root of 1e-16
    for lr in np.linspace(0.05, 3.9, 40):
        assert min(factor(lr, beta) for beta in betas) > root - 1e-7
    fixed = (1 - kappa**-0.5) ** 2
    assert min(factor(1.0, beta) for beta in betas) > factor(1.0, fixed) - 1e-7


def test_one_epoch_and_range_test_train_as_torch_does():
    """`one_epoch` makes a step for each batch, the short last one included, and steps the
    scheduler; `range_test` gives one loss for each rate, the first of them the start's."""
    split = Split(random(250, 3).float(), torch.arange(250) % 2)
    torch.manual_seed(0)
    ours = nn.Linear(3, 2)
    theirs = copy.deepcopy(ours)
    first = copy.deepcopy(ours)
    optimizer = torch.optim.SGD(ours.parameters(), lr=0.5)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
    PAGE["one_epoch"](ours, optimizer, split, torch.Generator().manual_seed(3), scheduler)
    order = torch.randperm(250, generator=torch.Generator().manual_seed(3))
    for step, index in enumerate(order.split(100)):
        loss = F.cross_entropy(theirs(split.images[index]), split.labels[index])
        for p, g in zip(
            theirs.parameters(),
            torch.autograd.grad(loss, list(theirs.parameters())),
            strict=True,
        ):
            p.data -= 0.5 * 0.5**step * g
    assert torch.allclose(ours.weight, theirs.weight, atol=1e-6)
    loss, accuracy = PAGE["loss_and_accuracy"](ours, split)
    logits = ours(split.images)
    assert math.isclose(loss, F.cross_entropy(logits, split.labels).item(), rel_tol=1e-6)
    right = (logits.argmax(1) == split.labels).sum().item()
    assert math.isclose(accuracy, right / 250, rel_tol=1e-6)
    optimizer = torch.optim.SGD(first.parameters(), lr=1)
    index = torch.randint(250, (100,), generator=torch.Generator().manual_seed(0))
    expected = F.cross_entropy(first(split.images[index]), split.labels[index]).item()
    losses = PAGE["range_test"](first, optimizer, split, [0.1, 0.2, 0.4])
    assert len(losses) == 3 and math.isclose(losses[0], expected, rel_tol=1e-6)
    assert optimizer.param_groups[0]["lr"] == 0.4


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
