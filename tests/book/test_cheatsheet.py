"""book/cheatsheet.md: each formula has a numeric test of its text, each line of code is
run, and the page prints on two sheets.

A formula that is new or edited fails until a function below is marked with its text. What
a comment says of its line is compared with what the line gives: a shape, a value, or
words, which have a test of their own too.
"""

import ast
import copy
import functools
import math
import re

import pytest
import torch
import torch.nn.functional as F
from built_book import on_disk
from lesson_source import ROOT, close, drawn
from scipy.stats import norm
from torch import nn
from torch.autograd import gradcheck
from torch.nn.utils import clip_grad_norm_
from torch.optim import AdamW
from torch.optim.lr_scheduler import CosineAnnealingLR
from torch.utils.data import DataLoader, TensorDataset

from lessons_src import data, train

PAGE = (ROOT / "book/cheatsheet.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"(?s)```python\n(.*?)```", PAGE)
PROSE = re.sub(r"(?s)```.*?```", "", PAGE)
FORMULAS = list(dict.fromkeys(re.findall(r"\$([^$]+)\$", PROSE)))
NAMES = (
    r"\delta \mu v g g_t t S k f s \Delta \text{lr} N a(i,j) \omega r n p A \alpha \rho"
)
NAMES += r" \sigma \sigma^2 \varepsilon n_\mathrm{in} n_\mathrm{out}"
# A letter that the notation has not, or that means several things: each line that uses it
# as named here says what it is, or its section's first sentence does.
DEFINED = {
    r"\omega": r"\\omega",
    "r": r"\{r\}\{1 - r\}",
    "n": r"\\dfrac1n|/ n\$|n \\ge|\{n \+ 2p",
    r"\rho": r"\\rho\)",
    r"\alpha": r"\\alpha( S|\))",
    "p": r"\\sqrt\{p",
    r"\delta": r"x \+ \\delta",
    "S": r"t\+1\}\{\\alpha S|^.*S = ",
    r"n_\mathrm{in}": r"/ n_\\mathrm\{in\}",
}
LETTERS = {*re.split(" ", NAMES)}
PROOFS = {}


def proves(*formulas):
    """Mark a function as the numeric test of formulas of the page, by their text."""

    def keep(function):
        PROOFS.update(dict.fromkeys(formulas, functools.cache(function)))
        return function

    return keep


@pytest.mark.parametrize("formula", [f for f in FORMULAS if f not in LETTERS])
def test_formula(formula):
    """It holds for random numbers, against autograd, PyTorch or a count."""
    assert formula in PROOFS, f"write its numeric test: @proves(r'{formula}')"
    PROOFS[formula]()


def test_every_proof_is_of_a_formula_that_is_there():
    """A formula that was edited leaves no old test behind, and no letter."""
    stale = sorted((PROOFS.keys() | LETTERS) - set(FORMULAS))
    assert not stale, "take these tests away: their formulas are not on the page"


@pytest.mark.parametrize(("letter", "use"), DEFINED.items())
def test_letters_of_two_meanings_are_defined_where_they_are_used(letter, use):
    """In the line itself, before the formula, or in words at the section's beginning."""
    used = 0
    for section in re.split("(?m)^## ", PROSE):
        start, *items = re.split("(?m)^- ", section)
        for item in items:
            if re.search(use, item):
                used += 1
                assert f"${letter}$" in item or f"${letter}$" in start, (
                    f"say in this line what {letter} is:\n{item}"
                )
    assert used, f"no line uses {letter} like that any more: take it off DEFINED"


def test_every_item_leads_to_its_lesson():
    """And no number stands in the words, where no test would see it."""
    items = re.findall(r"(?m)^- .*", PROSE)
    assert len(items) > 50
    assert not [item for item in items if "](../lessons/" not in item]
    words = re.sub(r"\$[^$]+\$|\]\([^)]*\)|<[^>]+>|A4", "", PROSE)
    assert not re.findall(r".*\d.*", words), "write the number as a formula, and test it"


# ---- From logits to a loss ----

Z = drawn((4, 5), seed=1)  # logits of 4 examples, 5 classes
P = Z.softmax(1)
Y = torch.tensor([2, 0, 4, 2])
ONE_HOT = F.one_hot(Y, 5)


@proves(r"p_j = \dfrac{e^{z_j}}{\sum_{i} e^{z_i}}")
def softmax():
    close(Z.exp() / Z.exp().sum(1, keepdim=True), P)


@proves(r"m = \max_j z_j", r"\operatorname{LSE}(z) = m + \log \sum_j e^{z_j - m}")
def log_sum_exp():
    for z in (Z, 1000 * Z):
        m = z.max(1, keepdim=True).values
        close(m[:, 0] + (z - m).exp().sum(1).log(), z.logsumexp(1))


@proves(r"\log p_j = z_j - \operatorname{LSE}(z)")
def log_softmax():
    close(Z - Z.logsumexp(1, keepdim=True), Z.log_softmax(1))


@proves(r"p = \mathrm{softmax}(z / T)")
def temperature():
    """T = 2 takes the square root of the odds, which softmax of z would leave."""
    p = (Z / 2).softmax(1)
    close(p[:, 0] / p[:, 1], (P[:, 0] / P[:, 1]).sqrt())


@proves(r"\text{loss} = -\dfrac1B \sum_{n} \log p_{n, y_n}")
def cross_entropy():
    close(-sum(P[n, Y[n]].log() for n in range(4)) / 4, F.cross_entropy(Z, Y))


@proves(r"\dfrac{\partial\, \text{loss}}{\partial z_j} = p_j - y_j")
def its_gradient():
    z = Z[:1].clone().requires_grad_()
    F.cross_entropy(z, Y[:1]).backward()
    close((P - ONE_HOT)[:1], z.grad)


@proves(r"\dfrac{\partial p_i}{\partial z_j} = p_i \,(\mathbb{1}[i = j] - p_j)")
def softmax_derivative():
    p = P[0]
    by_autograd = torch.autograd.functional.jacobian(lambda z: z.softmax(0), Z[0])
    close(p[:, None] * (torch.eye(5) - p[None, :]), by_autograd)


@proves(r"-(1 - \alpha) \log p_y - \dfrac{\alpha}{K} \sum_{j} \log p_j")
def label_smoothing():
    ours = -0.9 * P[range(4), Y].log() - 0.1 / 5 * P.log().sum(1)
    close(ours.mean(), F.cross_entropy(Z, Y, label_smoothing=0.1))


# ---- Backward ----


def gradients(function, *inputs, seed=9):
    """What `function` gives, a random delta of its shape, and the inputs' gradients."""
    inputs = [x.clone().requires_grad_() for x in inputs]
    out = function(*inputs)
    delta = drawn(out.shape, seed=seed)
    return out.detach(), delta, torch.autograd.grad(out, inputs, delta)


@proves(
    r"\dfrac{\partial f}{\partial v} = \sum_{c} \dfrac{\partial f}{\partial c}"
    r"\,\dfrac{\partial c}{\partial v}"
)
def chain_rule():
    """f = c1 c2 with the children c1 = v², c2 = sin v, at v = 1.3."""
    v = torch.tensor(1.3, dtype=torch.float64, requires_grad=True)
    (v**2 * v.sin()).backward()
    close(math.sin(1.3) * 2 * 1.3 + 1.3**2 * math.cos(1.3), v.grad)


@proves(
    r"z = a\, W^\top + b",
    r"\dfrac{\partial\,\text{loss}}{\partial W} = \delta^\top a, \quad "
    r"\dfrac{\partial\,\text{loss}}{\partial b} = \sum_{n} \delta_n, \quad "
    r"\dfrac{\partial\,\text{loss}}{\partial a} = \delta\, W",
)
def linear():
    a, w, b = drawn((4, 3), (5, 3), (5,))
    z, delta, (da, dw, db) = gradients(F.linear, a, w, b)
    close(a @ w.T + b, z)
    close(delta.T @ a, dw)
    close(delta.sum(0), db)
    close(delta @ w, da)


@proves(
    r"\delta^{(L)} = \tfrac{1}{B} ( p - y )",
    r"\delta^{(l)} = \big( \delta^{(l+1)} W^{(l+1)} \big) \odot f'\big( z^{(l)} \big)",
)
def layers():
    x, w1, w2 = drawn((4, 3), (6, 3), (5, 6))
    z1 = (x @ w1.T).requires_grad_()
    z2 = z1.tanh() @ w2.T
    last, before = torch.autograd.grad(F.cross_entropy(z2, Y), (z2, z1))
    close((z2.softmax(1) - ONE_HOT) / 4, last)
    close((last @ w2) * (1 - z1.tanh() ** 2), before)


def derivative_is(function, derivative, *, at_most=None):
    """An activation's derivative, at 101 points."""
    z = torch.linspace(-6, 6, 101, dtype=torch.float64)
    z = z[z != 0].requires_grad_()
    (by_autograd,) = torch.autograd.grad(function(z).sum(), z)
    close(derivative(z), by_autograd)
    assert at_most is None or by_autograd.max() <= at_most


@proves(r"f(z) = \max(0, z), \quad f'(z) = \mathbb{1}[z > 0]")
def relu():
    close(Z.clamp(min=0), F.relu(Z))
    derivative_is(F.relu, lambda z: (z > 0).double())


@proves(r"s(z) = \dfrac{1}{1 + e^{-z}}, \quad s'(z) = s(z)\,(1 - s(z)) \le \tfrac14")
def sigmoid():
    close(1 / (1 + (-Z).exp()), Z.sigmoid())
    derivative_is(torch.sigmoid, lambda z: z.sigmoid() * (1 - z.sigmoid()), at_most=0.25)


@proves(r"\tanh' z = 1 - \tanh^2 z \le 1")
def tanh():
    derivative_is(torch.tanh, lambda z: 1 - z.tanh() ** 2, at_most=1)


@proves(
    r"z_{moij} = b_o + \sum_{c} \sum_{u,v} w_{ocuv}\; "
    r"\tilde x_{m,\,c,\; si+du,\; sj+dv}",
    r"\dfrac{\partial\,\text{loss}}{\partial w_{ocuv}} = \sum_{m} \sum_{i,j} "
    r"\delta_{moij}\; \tilde x_{m,\,c,\; si+du,\; sj+dv}",
    r"\dfrac{\partial\,\text{loss}}{\partial \tilde x_{mcrq}} = \sum_o \sum_{u,v} "
    r"w_{ocuv}\; \dot\delta_{mo,\, r-du,\, q-dv}",
    r"\dfrac{\partial\,\text{loss}}{\partial b_o} = \sum_{m} \sum_{i,j} \delta_{moij}",
)
def convolution():
    """With s = 2, d = 2 and a kernel of 2, on padded images of 7 x 7."""
    x, w, b = drawn((2, 3, 7, 7), (4, 3, 2, 2), (4,))
    s = d = 2
    conv = functools.partial(F.conv2d, stride=s, dilation=d)
    z, delta, (dx, dw, db) = gradients(conv, x, w, b)
    n = z.shape[2]
    ours, dw_ours, dx_ours = b[:, None, None].expand_as(z).clone(), 0 * w, 0 * x
    between = torch.zeros(2, 4, 7, 7, dtype=torch.float64)  # delta, zeros between
    between[:, :, : s * n : s, : s * n : s] = delta
    for u in range(2):
        for v in range(2):
            seen = x[:, :, d * u :: s, d * v :: s][:, :, :n, :n]
            ours += torch.einsum("oc,mcij->moij", w[:, :, u, v], seen)
            dw_ours[:, :, u, v] = torch.einsum("moij,mcij->oc", delta, seen)
            moved = F.pad(between, (d * v, 0, d * u, 0))[:, :, :7, :7]
            dx_ours += torch.einsum("oc,morq->mcrq", w[:, :, u, v], moved)
    close(ours, z)
    close(dw_ours, dw)
    close(dx_ours, dx)
    close(delta.sum((0, 2, 3)), db)


@proves(
    r"\dfrac{\partial\,\text{loss}}{\partial \tilde x_{rq}} = \sum_{i,j} "
    r"\delta_{ij}\; \mathbb{1}[a(i,j) = (r,q)]"
)
def max_pooling():
    """Windows of 3 with stride 1 overlap, so that one pixel may win several."""
    x = drawn((1, 1, 5, 5))
    _, delta, (dx,) = gradients(lambda x: F.max_pool2d(x, 3, 1), x)
    ours = torch.zeros(5, 5, dtype=torch.float64)
    for i in range(3):
        for j in range(3):
            row, column = divmod(x[0, 0, i : i + 3, j : j + 3].argmax().item(), 3)
            ours[i + row, j + column] += delta[0, 0, i, j]
    close(ours, dx[0, 0])


@proves(
    r"\hat x_n = \dfrac{x_n - \mu}{\sqrt{v + \epsilon}}, \quad y_n = \gamma\, "
    r"\hat x_n + \beta",
    r"\dfrac{\partial\,\text{loss}}{\partial x_n} = \dfrac{\gamma}{\sqrt{v + \epsilon}} "
    r"\Big( \delta_n - \dfrac1B \sum_i \delta_i - \hat x_n\, \dfrac1B \sum_i \delta_i "
    r"\hat x_i \Big)",
)
def batch_norm():
    x, gamma, beta = drawn((6, 3), (3,), (3,))
    norm_of = functools.partial(
        F.batch_norm,
        running_mean=None,
        running_var=None,
        weight=gamma,
        bias=beta,
        training=True,
        eps=0.1,
    )
    y, delta, (dx,) = gradients(norm_of, x)
    spread = (x.var(0, correction=0) + 0.1).sqrt()
    x_hat = (x - x.mean(0)) / spread
    close(gamma * x_hat + beta, y)
    part = delta - delta.mean(0) - x_hat * (delta * x_hat).mean(0)
    close(gamma / spread * part, dx)


@proves(r"\dfrac{f(x+h) - f(x-h)}{2h} = f'(x) + O(h^2)")
def central_difference():
    """A tenth of h leaves a hundredth of the error."""
    error = [
        abs((math.exp(1 + h) - math.exp(1 - h)) / (2 * h) - math.e) for h in (1e-2, 1e-3)
    ]
    assert 99 < error[0] / error[1] < 101


# ---- Optimisers ----

GRADIENTS = drawn((6, 3), seed=3)
START = drawn((3,), seed=4)


def by_torch(optimizer, **settings):
    """The parameters after six steps along GRADIENTS."""
    theta = START.clone().requires_grad_()
    steps = optimizer([theta], **settings)
    for g in GRADIENTS:
        theta.grad = g.clone()
        steps.step()
    return theta.detach()


@proves(
    r"\theta \leftarrow \theta - \text{lr}\; g",
    r"\theta \leftarrow (1 - \text{lr}\,\omega)\, \theta - \text{lr}\; g",
)
def descent():
    for omega in (0, 0.3):
        theta = START
        for g in GRADIENTS:
            theta = (1 - 0.1 * omega) * theta - 0.1 * g
        close(theta, by_torch(torch.optim.SGD, lr=0.1, weight_decay=omega))


@proves(r"0 < \text{lr} < 2 / \lambda_{\max}")
def stable():
    """On ½ (3 x² + y²): 0.99 times the bound arrives, 1.01 times goes away, and a
    negative rate too."""
    for share, arrives in ((0.99, True), (1.01, False), (-0.01, False)):
        theta = torch.ones(2, dtype=torch.float64)
        for _ in range(500):
            theta = theta - share * (2 / 3) * torch.tensor([3.0, 1.0]) * theta
        assert (theta.norm() < 0.1) == arrives


@proves(r"v_t = \beta\, v_{t-1} + g_t, \quad \theta_t = \theta_{t-1} - \text{lr}\; v_t")
def momentum():
    theta, v = START, 0 * START
    for g in GRADIENTS:
        v = 0.9 * v + g
        theta = theta - 0.1 * v
    close(theta, by_torch(torch.optim.SGD, lr=0.1, momentum=0.9))


@proves(r"v_t \to g / (1 - \beta)")
def gain_of_momentum():
    v = 0.0
    for _ in range(500):
        v = 0.9 * v + 2.0
    close(v, 2.0 / (1 - 0.9))


@proves(
    r"m_t = \beta_1 m_{t-1} + (1 - \beta_1)\, g_t, \quad "
    r"q_t = \beta_2 q_{t-1} + (1 - \beta_2)\, g_t^2",
    r"\hat m_t = m_t / (1 - \beta_1^t), \quad \hat q_t = q_t / (1 - \beta_2^t)",
    r"\theta_t = \theta_{t-1} - \text{lr}\; \dfrac{\hat m_t}{\sqrt{\hat q_t} + \epsilon}",
    r"\theta_t = (1 - \text{lr}\,\omega)\, \theta_{t-1} - \text{lr}\; "
    r"\dfrac{\hat m_t}{\sqrt{\hat q_t} + \epsilon}",
)
def adam():
    """Adam, and AdamW with a weight decay."""
    for optimizer, omega in ((torch.optim.Adam, 0), (AdamW, 0.3)):
        theta, m, q = START, 0 * START, 0 * START
        for t, g in enumerate(GRADIENTS, 1):
            m = 0.9 * m + 0.1 * g
            q = 0.999 * q + 0.001 * g**2
            step = (m / (1 - 0.9**t)) / ((q / (1 - 0.999**t)).sqrt() + 1e-8)
            theta = (1 - 0.1 * omega) * theta - 0.1 * step
        close(theta, by_torch(optimizer, lr=0.1, weight_decay=omega))


@proves(
    r"\rho_t = \min\!\left(1,\; \dfrac{t+1}{\alpha S},\; "
    r"\dfrac{S-t}{(1-\alpha)\,S}\right)"
)
def warm_up_and_decay():
    for t in range(50):
        ours = min(1, (t + 1) / (0.2 * 50), (50 - t) / (0.8 * 50))
        close(ours, train.warmup_decay(t, 50, warmup=0.2))


@proves(r"\rho_t = \tfrac12 \big(1 + \cos(\pi t / S)\big)")
def cosine():
    optimizer = torch.optim.SGD([START.clone().requires_grad_()], lr=1.0)
    scheduler = CosineAnnealingLR(optimizer, 20)
    for t in range(21):
        close((1 + math.cos(math.pi * t / 20)) / 2, optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()


# ---- Initialisation and regularisation ----


def variance_after(init, **options) -> float:
    """Of the weights of a layer from 300 to 600 units."""
    torch.manual_seed(0)
    layer = nn.Linear(300, 600)
    init(layer.weight, **options)
    return layer.weight.var().item()


@proves(r"\sigma^2_{\mathrm{He}} = 2 / n_\mathrm{in}")
def he():
    close(variance_after(nn.init.kaiming_normal_), 2 / 300, 0.02)


@proves(r"\sigma^2_{\mathrm{Xavier}} = 2 / (n_\mathrm{in} + n_\mathrm{out})")
def xavier():
    close(variance_after(nn.init.xavier_normal_), 2 / 900, 0.02)


@proves(r"\pm 1 / \sqrt{n_\mathrm{in}}", r"\sigma^2 = 1 / (3\, n_\mathrm{in})")
def default_initialisation():
    torch.manual_seed(0)
    weight = nn.Linear(300, 600).weight.detach()
    close(weight.abs().max(), 1 / math.sqrt(300), 1e-3)
    close(weight.var(), 1 / (3 * 300), 0.02)


@proves(
    r"\mathbb{E}[\tilde a] = a, \quad \operatorname{Var}[\tilde a] = "
    r"\dfrac{r}{1 - r}\, a^2"
)
def dropout():
    torch.manual_seed(0)
    dropped = F.dropout(torch.full((1_000_000,), 3.0), 0.2)
    close(dropped.mean(), 3, 2e-3)
    close(dropped.var(), 0.2 / 0.8 * 9, 1e-2)


@proves(r"\bar\mu \leftarrow (1 - \rho)\, \bar\mu + \rho\, \mu")
def running_statistics():
    x, layer = drawn((6, 3)), nn.BatchNorm1d(3, momentum=0.3).double()
    expected = torch.zeros(3)
    for _ in range(3):
        layer(x)
        expected = 0.7 * expected + 0.3 * x.mean(0)
    close(expected, layer.running_mean)


# ---- Convolution arithmetic ----


@proves(r"n_\text{out} = \left\lfloor \dfrac{n + 2p - d(k-1) - 1}{s} \right\rfloor + 1")
def output_size():
    for n, k, s, p, d in ((28, 5, 1, 0, 1), (28, 3, 2, 1, 1), (27, 3, 3, 2, 2)):
        out = F.conv2d(torch.zeros(1, 1, n, n), torch.zeros(1, 1, k, k), None, s, p, d)
        assert out.shape[2] == (n + 2 * p - d * (k - 1) - 1) // s + 1


@proves(r"s = 1", r"p = d\,(k - 1) / 2")
def same_size():
    for k in (1, 3, 5, 7):
        for d in (1, 2, 3):
            conv = nn.Conv2d(1, 1, k, stride=1, padding=d * (k - 1) // 2, dilation=d)
            assert conv(torch.zeros(1, 1, 20, 20)).shape[2:] == (20, 20)


def parameters(*modules) -> int:
    return sum(p.numel() for module in modules for p in module.parameters())


@proves(r"C_\text{out}\,(C_\text{in}\, k^2 + 1)")
def parameters_of_a_convolution():
    assert parameters(nn.Conv2d(3, 8, 5)) == 8 * (3 * 5**2 + 1)


@proves(r"\sum_{l} (n_{l-1} + 1)\, n_l", r"784 \cdot 10 + 10 = 7850")
def parameters_of_linear_layers():
    assert parameters(nn.Linear(784, 10)) == 784 * 10 + 10 == 7850
    layers = [nn.Linear(784, 30), nn.Linear(30, 10)]
    assert parameters(*layers) == (784 + 1) * 30 + (30 + 1) * 10


@proves(
    r"F = 2\, B\, H_\text{out} W_\text{out}\, C_\text{out}\, C_\text{in}\, k^2", r"2F"
)
def operations():
    """As PyTorch's own counter has them, forward and backward."""
    from torch.utils.flop_counter import FlopCounterMode

    x = torch.zeros(4, 3, 9, 9, requires_grad=True)
    conv = nn.Conv2d(3, 8, 3)
    with FlopCounterMode(display=False) as forward:
        z = conv(x)
    with FlopCounterMode(display=False) as backward:
        z.sum().backward()
    expected = 2 * 4 * 7 * 7 * 8 * 3 * 3**2
    assert forward.get_total_flops() == expected
    assert backward.get_total_flops() == 2 * expected


@proves(r"r_L = 1 + \sum_{l=1}^{L} d_l\,(k_l - 1) \prod_{m=1}^{l-1} s_m")
def receptive_field():
    """The rows of the input that one output's gradient reaches."""
    layers = [(3, 2, 1), (3, 1, 2), (5, 1, 1)]  # kernel, stride, dilation
    x = torch.zeros(1, 1, 60, 60, requires_grad=True)
    z, reach, jump = x, 1, 1
    for k, s, d in layers:
        z = F.conv2d(z, torch.ones(1, 1, k, k), stride=s, dilation=d)
        reach, jump = reach + d * (k - 1) * jump, jump * s
    z[0, 0, 3, 3].backward()
    touched = x.grad[0, 0].abs().sum(1).nonzero()
    assert touched.max() - touched.min() + 1 == reach


# ---- Looking inside ----


def small_network():
    """A convolution's maps, a network on top of them, and an image."""
    torch.manual_seed(0)
    below = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU())
    above = nn.Sequential(nn.Flatten(), nn.Linear(4 * 36, 5))
    return below.double(), above.double(), drawn((1, 1, 8, 8))


@proves(r"z_k(x + \delta) = z_k(x) + \nabla_x z_k(x) \cdot \delta")
def linear_pieces():
    """Exactly, where no ReLU changes its side."""
    below, above, x = small_network()
    x.requires_grad_()
    z = above(below(x))[0, 2]
    (g,) = torch.autograd.grad(z, x)
    delta = 1e-6 * drawn((1, 1, 8, 8), seed=5)
    close(above(below(x + delta))[0, 2] - z, (g * delta).sum())


@proves(r"\max_{|\delta_i| \le \varepsilon} g \cdot \delta = \varepsilon \sum_i |g_i|")
def worst_change():
    """Attained by the signs, and passed by none of 1000 others."""
    g = drawn((20,))
    most = 0.1 * g.abs().sum()
    close(0.1 * g.sign() @ g, most)
    others = 0.1 * (2 * torch.rand(1000, 20, dtype=torch.float64) - 1)
    assert (others @ g).max() <= most


@proves(
    r"\alpha_c = \dfrac1n \sum_{y,x} \dfrac{\partial z_k}{\partial A_{cyx}}, \quad "
    r"L_{yx} = \operatorname{ReLU}\Big(\sum_c \alpha_c A_{cyx}\Big)"
)
def grad_cam():
    """As captum has it."""
    from captum.attr import LayerGradCam

    below, above, x = small_network()
    maps = below(x).detach().requires_grad_()
    (g,) = torch.autograd.grad(above(maps)[0, 2], maps)
    alpha = g[0].mean((1, 2))
    ours = F.relu((alpha[:, None, None] * maps[0]).sum(0))
    model = nn.Sequential(below, above)
    theirs = LayerGradCam(model, below).attribute(x, 2, relu_attributions=True)
    close(ours, theirs[0, 0])


# ---- Numbers to know ----


@proves(r"\log K", r"\log 10 = 2.303")
def loss_of_a_guess():
    close(F.cross_entropy(torch.zeros(4, 5), Y), math.log(5), 1e-6)
    assert f"{math.log(10):.3f}" == "2.303"


@proves(r"\log(1 + 9/e) = 1.461")
def softmax_twice():
    """The loss of a perfect answer that goes through softmax once more."""
    p = F.one_hot(torch.tensor([3]), 10).double()
    close(F.cross_entropy(p, torch.tensor([3])), math.log(1 + 9 / math.e))
    assert f"{math.log(1 + 9 / math.e):.3f}" == "1.461"


@proves(
    r"\operatorname{se} = \sqrt{p\,(1 - p) / N}",
    r"\sqrt{0.99 \cdot 0.01 / 10\,000} = 0.001",
    r"\sqrt{0.9 \cdot 0.1 / 10\,000} = 0.003",
)
def standard_error():
    """The spread of 20,000 accuracies over 400 images."""
    torch.manual_seed(0)
    counts = torch.binomial(torch.full((20_000,), 400.0), torch.tensor(0.9))
    close((counts / 400).std(), math.sqrt(0.9 * 0.1 / 400), 0.02)
    assert round(math.sqrt(0.99 * 0.01 / 10_000), 3) == 0.001
    assert round(math.sqrt(0.9 * 0.1 / 10_000), 3) == 0.003


@proves(r"\pm 1.96 \operatorname{se}")
def interval():
    """Nineteen in twenty."""
    assert f"{norm.ppf((1 + 19 / 20) / 2):.2f}" == "1.96"


@proves(r"\operatorname{Var} \bar x = \sigma^2 / n")
def mean_of_runs():
    close(drawn((200_000, 5)).mean(1).var(), 1 / 5, 0.02)


@proves(r"n \ge 15.7\, (\sigma / \Delta)^2")
def seeds():
    """Of each recipe: found in four of five times, a false alarm in one of twenty."""
    assert f"{2 * (norm.ppf(0.975) + norm.ppf(0.8)) ** 2:.1f}" == "15.7"


@proves(r"N = 60\,000", r"\mu = 0.1307", r"\sigma = 0.3081")
def moments_of_mnist():
    mnist = data.load("mnist")
    if mnist.standin:
        pytest.skip("the stand-in has other moments")
    pixels = mnist.train.images.float() / 255
    assert len(pixels) == 60_000
    assert f"{pixels.mean():.4f}" == "0.1307"
    assert f"{pixels.double().std(correction=0):.4f}" == "0.3081"


@proves(r"\lceil N / B \rceil")
def batches():
    for n in (191, 192, 193):
        loader = DataLoader(torch.zeros(n), batch_size=64)
        assert len(list(loader)) == math.ceil(n / 64)


@proves(r"1 - (1 - 1/N)^N \to 0.632")
def drawn_with_replacement():
    assert f"{1 - (1 - 1 / 60_000) ** 60_000:.3f}" == "0.632"
    seen = torch.randint(60_000, (60_000,), generator=torch.Generator().manual_seed(0))
    close(len(seen.unique()) / 60_000, 0.632, 0.01)


@proves(r"\mathbb E \lVert g_B - g \rVert^2 = \sigma^2 / B")
def noise_of_a_batch():
    """Of gradients of one example each, drawn with replacement."""
    each = drawn((1000, 3))
    variance = ((each - each.mean(0)) ** 2).sum(1).mean()
    index = torch.randint(1000, (20_000, 8), generator=torch.Generator().manual_seed(0))
    noise = ((each[index].mean(1) - each.mean(0)) ** 2).sum(1).mean()
    close(noise, variance / 8, 0.03)


@proves("4", "2")
def memory():
    """Bytes of a float; floats that AdamW keeps for each weight."""
    weight = torch.zeros(100, requires_grad=True)
    assert weight.element_size() == 4
    optimizer = AdamW([weight])
    weight.grad = torch.ones(100)
    optimizer.step()
    kept = [v for v in optimizer.state[weight].values() if v.numel() == 100]
    assert len(kept) == 2


@proves(r"S = \dfrac{1}{1 - f + f/s}")
def speed_up():
    """Of 100 seconds, 80 become 20."""
    close(100 / (20 + 80 / 4), 1 / (1 - 0.8 + 0.8 / 4))


# ---- Lines of PyTorch ----


def namespace() -> dict:
    """What the page's lines find: images of four kinds, easy to tell apart."""
    torch.manual_seed(0)
    names = {"B": 64, "C": 1, "H": 28, "W": 28, "D": 784, "K": 10, "N": 192}
    names |= {"N_test": 100, "epochs": 5, "torch": torch, "nn": nn, "F": F}
    names |= {"math": math, "copy": copy, "gradcheck": gradcheck, "AdamW": AdamW}
    names |= {"TensorDataset": TensorDataset, "DataLoader": DataLoader}
    names |= {"clip_grad_norm_": clip_grad_norm_, "CosineAnnealingLR": CosineAnnealingLR}
    patterns = torch.rand(10, 1, 28, 28)
    for split, n in (("", 64), ("train_", 192), ("test_", 100)):
        labels = torch.randint(10, (n,))
        noise = 0.3 * torch.randn(n, 1, 28, 28)
        names |= {f"{split}images": patterns[labels] + noise}
        names |= {f"{split}labels": labels}
    return names | {"y": names["labels"]}


def run(block: str, names: dict):
    """Run a block statement by statement; yield each comment's line and its value.

    The value is that of an expression, or what the line assigns to one name.
    """
    lines = block.splitlines()
    for statement in ast.parse(block).body:
        value = None
        if isinstance(statement, ast.Expr):
            code = compile(ast.Expression(statement.value), "cheatsheet", "eval")
            value = eval(code, names)
        else:
            exec(compile(ast.Module([statement], []), "cheatsheet", "exec"), names)
        for line in lines[statement.lineno - 1 : statement.end_lineno]:
            code, _, comment = line.strip().partition("  # ")
            if comment:
                assigned = re.match(r"(\w+) = ", code)
                yield code, comment, names[assigned[1]] if assigned else value


def test_lines(tmp_path, monkeypatch):
    """All blocks of the page, one after the other in one namespace."""
    monkeypatch.chdir(tmp_path)
    names, untested = namespace(), []
    for block in BLOCKS:
        for code, comment, value in run(block, names):
            words = compare(comment, value, names)
            if words and (code, words) not in WORDS:
                untested.append((code, words))
            elif words:
                assert WORDS[code, words](names, value), f"{code}  # {comment}"
    assert not untested, "give WORDS a test of what these comments say"
    test = data.Split(names["test_images"], names["test_labels"])
    close(train.evaluate(names["model"], test)[1], names["accuracy"], 1e-6)
    assert names["accuracy"] > 0.8, "the loop of the page does not learn"


def compare(comment: str, value, names: dict) -> str:
    """Compare a value with the shape or value that a comment begins with; the words
    that follow."""
    shape = re.match(r"\(([\w ,+/-]*)\)", comment)
    if shape:
        assert list(value.shape) == eval(f"[{shape[1]}]", names), comment
        return comment[shape.end() :].lstrip(",: ")
    begin, _, words = comment.partition(": ")
    try:
        expected = eval(begin, names)
    except (SyntaxError, NameError):
        return comment  # words alone
    close(value, expected, 1e-6)
    return words


def is_scaled(gain: float):
    """Whether the weights of a layer from D units have this variance, times 1 / D."""
    return lambda names, value: abs(value.var() * names["D"] / gain - 1) < 0.1


def answers_alike(names, value) -> bool:
    """Whether after eval() dropout and batch norm give an image one answer."""
    model = nn.Sequential(nn.BatchNorm1d(3), nn.Dropout(0.5)).eval()
    x = torch.randn(4, 3)
    return not value.training and torch.equal(model(x)[:2], model(x[:2]))


def stays(names, value) -> bool:
    """Whether the frozen layer has no gradient after another backward."""
    model = names["model"]
    model.zero_grad()
    F.cross_entropy(model(names["x"]), names["y"]).backward()
    return model[1].weight.grad is None and model[3].weight.grad is not None


def length_is_at_most_1(names, value) -> bool:
    """Whether gradients that were made large are short after the line."""
    gradients = [w.grad for w in names["model"].parameters() if w.grad is not None]
    for gradient in gradients:
        gradient.mul_(1e4)
    eval("clip_grad_norm_(model.parameters(), 1.0)", names)
    return torch.cat([g.flatten() for g in gradients]).norm() < 1.001


def is_larger(names, x) -> bool:
    """Whether the loss of these images is."""
    return F.cross_entropy(names["model"](x), names["y"]) > names["loss"]


def mean_loss(names):
    """From probabilities alone."""
    return -names["p"][range(names["B"]), names["y"]].log().mean()


WORDS = {
    ("p[range(B), y]", "p of the true class"): lambda names, value: torch.equal(
        value, names["p"].gather(1, names["y"][:, None])[:, 0]
    ),
    ("y == y[:, None]", "a trap: no error"): lambda names, value: (
        value.float().mean() < 0.5  # where y == y would give 1
    ),
    ("F.cross_entropy(logits, y)", "of logits, not of p"): lambda names, value: (
        torch.isclose(value, mean_loss(names))
        and not torch.isclose(value, F.cross_entropy(names["p"], names["y"]))
    ),
    ("F.nll_loss(logits.log_softmax(1), y)", "the same"): lambda names, value: (
        torch.isclose(value, mean_loss(names))
    ),
    ("logits.logsumexp(1) - logits[range(B), y]", "each one"): lambda names, value: (
        torch.isclose(value.mean(), mean_loss(names))
    ),
    ("w.grad", "backward adds"): lambda names, value: value == 6 + 6,
    ("nn.init.kaiming_normal_(layer.weight)", "He"): is_scaled(2),
    ("nn.init.xavier_normal_(layer.weight)", "Xavier"): is_scaled(2 * 784 / 794),
    ("scheduler.step()", "once a batch"): lambda names, value: (
        names["scheduler"].last_epoch == names["epochs"] * len(names["loader"])
    ),
    ("model.eval()", "dropout off, batch norm's averages"): answers_alike,
    ("best = copy.deepcopy(model.state_dict())", "a copy"): lambda names, value: all(
        value[key].data_ptr() != w.data_ptr()
        for key, w in names["model"].state_dict().items()
    ),
    ("model[1].requires_grad_(False)", "no longer learns"): stays,
    ("loss.detach()", "the number without its graph"): lambda names, value: (
        value == names["loss"] and value.grad_fn is None and names["loss"].grad_fn
    ),
    ("clip_grad_norm_(model.parameters(), 1.0)", "at most 1"): length_is_at_most_1,
    ("x + 0.1 * g.sign()", "a larger loss"): is_larger,
}


# ---- On paper ----

SMALLEST = """() => {
    const walker = document.createTreeWalker(
        document.querySelector('#cheat-sheet'), NodeFilter.SHOW_TEXT);
    const sizes = [];
    while (walker.nextNode()) {
        const node = walker.currentNode, box = node.parentElement;
        const script = box.closest('.katex .sizing, .katex .msupsub, .katex-mathml');
        if (!/[^\\s\\u200b]/.test(node.data) || script || !box.checkVisibility()) continue;
        sizes.push([parseFloat(getComputedStyle(box).fontSize) * 0.75, node.data]);
    }
    return sizes.sort((a, b) => a[0] - b[0])[0];
}"""
CUT = """() => [...document.querySelectorAll('#cheat-sheet :is(li, pre)')]
    .filter(e => e.scrollWidth > e.clientWidth + 1).map(e => e.innerText)"""


@pytest.mark.slow
def test_it_prints_on_two_sheets(browser):
    """Two pages of A4, no type below 7.5 points but indices and exponents, no line of
    code that wraps, nothing cut at the right."""
    tab = browser.new_page(color_scheme="dark")
    tab.goto(on_disk("book/cheatsheet"), wait_until="load")
    pdf = tab.pdf(prefer_css_page_size=True)
    tab.emulate_media(media="print")
    tab.set_viewport_size({"width": 725, "height": 1062})  # A4 less the margins
    size, text = tab.evaluate(SMALLEST)
    cut = tab.evaluate(CUT)
    tab.close()
    assert len(re.findall(rb"/Type /Page\b", pdf)) == 2
    assert re.search(rb"/MediaBox \[0 0 59[45][\d.]* 84[12]", pdf)
    assert size >= 7.5, text
    assert not cut
    longest = max(line for block in BLOCKS for line in map(len, block.splitlines()))
    assert longest <= 54, "a line of code that wraps on paper"
