"""The lesson on gradient descent: its equations, and its functions against torch.
Each test's docstring is its claim."""

import itertools
import math

import pytest
import torch
from lesson_source import definitions
from torch.autograd.functional import hessian

LESSON = "gradient_descent"
PAGE = definitions(
    LESSON,
    "walk",
    "descend",
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


@pytest.mark.parametrize("lr", [0.1, 0.8, 1.1])
def test_walk_is_sgd(lr):
    """`walk` makes the steps of torch.optim.SGD on w², and its factor is 1 − 2 lr."""
    w = double(2.0).requires_grad_()
    optimizer = torch.optim.SGD([w], lr=lr)
    path = PAGE["walk"](2.0, lr, 20)
    for step, ours in enumerate(path):
        assert math.isclose(ours, w.item(), rel_tol=1e-12)
        assert math.isclose(ours, 2 * (1 - 2 * lr) ** step, rel_tol=1e-9)
        optimizer.zero_grad()
        (w**2).sum().backward()
        optimizer.step()


@pytest.mark.parametrize("lr", [0.01, 0.15])
def test_descend_is_sgd(lr):
    """`descend` makes the steps of torch.optim.SGD, on the valley and on a random loss."""
    H = random_hessian(4, seed=6) / 20
    for gradient, start in (
        (PAGE["valley_gradient"], random(2)),
        (lambda theta: H @ theta, random(4)),
    ):
        w = start.clone()
        optimizer = torch.optim.SGD([w], lr=lr)
        for ours in PAGE["descend"](gradient, start, lr, 30):
            assert torch.allclose(ours, w, rtol=1e-12, atol=1e-12)
            w.grad = gradient(w)
            optimizer.step()


def test_a_weight_that_changes_nothing_stays_where_it_started():
    """An input that is zero in every example gives the Hessian a zero eigenvalue for each
    output, and its weights keep their start values, whatever the rate."""
    x, y, W = random(6, 3), random(6, 2, seed=1), random(2, 3, seed=2)
    x[:, 1] = 0
    zeros = (torch.linalg.eigvalsh(x.T @ x / 6).abs() < 1e-12).sum()
    assert zeros == 1
    path = PAGE["descend"](lambda w: PAGE["squared_error_gradient"](w, x, y), W, 0.3, 50)
    assert torch.equal(path[-1][:, 1], W[:, 1])
    assert not torch.isclose(path[-1][:, [0, 2]], W[:, [0, 2]]).any()


# --- the exercises' solutions -----------------------------------------------------------


def test_batch_noise_is_the_mean_over_all_batches():
    """The solution is the mean of ‖g_B − g‖² over every batch that can be drawn."""
    batch_noise = definitions(LESSON, "batch_noise", tag="solution")["batch_noise"]
    gradients = random(6, 3) + 1
    full = gradients.mean(0)
    for b in range(1, 7):
        means = [gradients[list(i)].mean(0) for i in itertools.combinations(range(6), b)]
        squares = (torch.stack(means) - full).square().sum(1)
        assert math.isclose(
            batch_noise(gradients, b), squares.mean().item(), abs_tol=1e-12
        )


def test_train_linear_trains_as_torch_does():
    """The solution ends at the weights of nn.Linear trained by torch.optim.SGD on the same
    batches, and separates two classes that a line can cut."""
    train_linear = definitions(LESSON, "train_linear", tag="solution")["train_linear"]
    x = random(50, 4)
    labels = (x[:, 0] + x[:, 1] > 0).long()
    generator = torch.Generator().manual_seed(1)
    orders = [torch.randperm(50, generator=generator) for _ in range(40)]
    linear = torch.nn.Linear(4, 2, bias=False).double()
    W = train_linear(linear.weight.detach().clone(), x, labels, 0.5, 8, orders)
    optimizer = torch.optim.SGD(linear.parameters(), lr=0.5)
    for order in orders:
        for index in order.split(8):
            loss = torch.nn.functional.cross_entropy(linear(x[index]), labels[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    assert torch.allclose(W, linear.weight, rtol=1e-10, atol=1e-12)
    assert ((x @ W.T).argmax(1) == labels).float().mean() > 0.95
