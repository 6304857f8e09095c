"""Backpropagation: its equations as stated, and its NumPy, beside torch.autograd.

Each test's docstring is the claim that it proves.
"""

import re
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lesson_source import cells, definitions

LESSON = "backpropagation"
NUMPY = (
    "forward",
    "backward",
    "quadratic",
    "cross_entropy",
    "tanh_prime",
    "relu",
    "relu_prime",
    "new_network",
    "train",
)


@pytest.fixture(scope="module")
def numpy():
    """The lesson's functions, and the sigmoid of the lesson on gradients to trust."""
    other = definitions("gradients_to_trust", "sigmoid", "sigmoid_prime")
    sigmoids = {name: other[name] for name in ("sigmoid", "sigmoid_prime")}
    return definitions(LESSON, *NUMPY) | sigmoids


# The boxed equations, read from the lesson


def boxed(label: str) -> str:
    """The TeX of the boxed equation `label`."""
    text = "\n".join(c.source for c in cells(LESSON) if c.cell_type == "markdown")
    anchor = rf'<a id="{label}"></a>\s+'
    formula = re.search(anchor + r"\$\$([^$]+?)\\tag\{\d+\}\s*\$\$", text)
    return " ".join(formula[1].split())


def as_python(label: str, product: str) -> str:
    """The right side of a boxed equation as Python. product: what stands for "side by
    side"."""
    code = boxed(label).split(" = ", 1)[1]
    for old, new in (
        (r"\\big|\\[,;]", " "),
        (r"\\tfrac\{1\}\{B\}", "1 / B *"),
        (r"f'", "f_prime"),
        (r"\\delta", "delta"),
        (r"\s*\^\\top", f".T {product}"),
        (r"\\odot", "*"),
        (r"n_\{(l\+1)\}", r"n[\1]"),
        (r"(\w+)_\{(\w)(\w)\}\^\{\((.+?)\)\}", r"\1[\4][\2, \3]"),  # W_{jk}^{(l)}
        (r"([a-zA-Z]+)_(\w)\^\{\((.+?)\)\}", r"\1[\3][\2]"),  # a_k^{(l)}
        (r"(\w+)\^\{\((.+?)\)\}", r"\1[\2]"),  # W^{(l)}
        (r"\b([yp])_j", r"\1[j]"),
        (r"([\])])\s+(?=[A-Za-z(\\])", rf"\1 {product} "),
        (r"\\sum_\{(\w)=1\}\^\{(.+?)\}\s(.*)", r"sum(\3 for \1 in range(\2))"),
    ):
        code = re.sub(old, new, code)
    assert "\\" not in code and "^" not in code, code
    return code


def network(cost: str, batch: int):
    """A random 5-4-3-2 network with tanh in float64, and autograd's derivatives by every
    z, W, b.

    Lists start with None at index 0, so that they are indexed as in the lesson's
    formulas.
    """
    generator = torch.Generator().manual_seed(3)
    n = [5, 4, 3, 2]

    def drawn(*shape):
        return torch.randn(
            *shape, generator=generator, dtype=torch.float64, requires_grad=True
        )

    W = [None] + [drawn(out, into) for into, out in pairwise(n)]
    b = [None] + [drawn(out) for out in n[1:]]
    a, z = [drawn(batch, n[0])], [None]
    for level in (1, 2, 3):
        z.append(a[-1] @ W[level].T + b[level])
        a.append(torch.tanh(z[-1]))
    y = F.one_hot(torch.randint(2, (batch,), generator=generator), 2).double()
    p = torch.softmax(z[3], 1)
    loss = 0.5 * ((a[3] - y) ** 2).sum() if cost == "quadratic" else -(y * p.log()).sum()
    leaves = [*z[1:], *W[1:], *b[1:]]
    grads = [g.numpy() for g in torch.autograd.grad(loss / batch, leaves)]
    names = {"W": W, "b": b, "z": z, "a": a, "y": [y], "p": [p]}
    arrays = {
        k: [t if t is None else t.detach().numpy() for t in v] for k, v in names.items()
    }
    dz, dW, db = ([None, *grads[k : k + 3]] for k in (0, 3, 6))
    f_prime = {"f_prime": lambda z: 1 - np.tanh(z) ** 2}
    return arrays | f_prime | {"n": n, "B": batch, "L": 3, "dz": dz, "dW": dW, "db": db}


def one_example(cost: str) -> dict:
    """The network for a batch of one, without the batch's dimension."""
    net = network(cost, 1)
    for key in ("z", "a", "y", "p", "dz"):
        net[key] = [None if t is None else t[0] for t in net[key]]
    return net | {"y": net["y"][0], "p": net["p"][0], "delta": net["dz"]}


def test_eq_delta_output_quadratic():
    """The formula as printed gives autograd's derivative of the quadratic cost by each
    output z."""
    net = one_example("quadratic")
    code = as_python("eq-delta-output-quadratic", "*")
    got = [eval(code, {**net, "j": j}) for j in range(2)]
    np.testing.assert_allclose(got, net["dz"][3], rtol=1e-12)


@pytest.mark.parametrize("cost", ["quadratic", "cross-entropy"])
def test_eq_delta_hidden(cost):
    """The recursion as printed gives autograd's derivative by every hidden z, for both
    costs."""
    net = one_example(cost)
    code = as_python("eq-delta-hidden", "*")
    for level in (1, 2):
        got = [eval(code, {**net, "l": level, "k": k}) for k in range(net["n"][level])]
        np.testing.assert_allclose(got, net["dz"][level], rtol=1e-9)


@pytest.mark.parametrize("level", [1, 2, 3])
def test_eq_gradient_weight(level):
    """delta_j a_k, as printed, is autograd's derivative by every weight."""
    net, code = one_example("quadratic"), as_python("eq-gradient-weight", "*")
    for j, k in np.ndindex(net["dW"][level].shape):
        got = eval(code, {**net, "l": level, "j": j, "k": k})
        assert got == pytest.approx(net["dW"][level][j, k], rel=1e-12)


@pytest.mark.parametrize("level", [1, 2, 3])
def test_eq_gradient_bias(level):
    """delta_j, as printed, is autograd's derivative by every bias."""
    net, code = one_example("quadratic"), as_python("eq-gradient-bias", "*")
    got = [eval(code, {**net, "l": level, "j": j}) for j in range(net["n"][level])]
    np.testing.assert_allclose(got, net["db"][level], rtol=1e-12)


def test_eq_delta_output_softmax():
    """p - y, as printed, is autograd's derivative of the cross-entropy by every logit."""
    net, code = one_example("cross-entropy"), as_python("eq-delta-output-softmax", "*")
    got = [eval(code, {**net, "j": j}) for j in range(2)]
    np.testing.assert_allclose(got, net["dz"][3], rtol=1e-12)


def batch_formulas(*labels):
    """The four batch formulas evaluated from the output down, as a reader would copy
    them."""
    net = network("cross-entropy", 7)
    code = {label: as_python(label, "@") for label in labels}
    env = {**net, "p": net["p"][0], "y": net["y"][0]}
    env["delta"] = [None, None, None, eval(as_python("eq-batch-output", "@"), env)]
    for level in (2, 1):
        env["delta"][level] = eval(as_python("eq-batch-hidden", "@"), {**env, "l": level})
    return net, env, code


def test_eq_batch_output():
    """(p - y) / B, as printed, is autograd's derivative of the mean cost by the
    logits."""
    net, env, _ = batch_formulas()
    np.testing.assert_allclose(env["delta"][3], net["dz"][3], rtol=1e-12)


def test_eq_batch_hidden():
    """The batch recursion, as printed, gives autograd's derivatives by every hidden z."""
    net, env, _ = batch_formulas()
    for level in (1, 2):
        np.testing.assert_allclose(env["delta"][level], net["dz"][level], rtol=1e-11)


def test_eq_batch_weight():
    """deltaᵀ a, as printed, is autograd's gradient of every weight matrix."""
    net, env, code = batch_formulas("eq-batch-weight")
    for level in (1, 2, 3):
        got = eval(code["eq-batch-weight"], {**env, "l": level})
        np.testing.assert_allclose(got, net["dW"][level], rtol=1e-11)


def test_eq_batch_bias():
    """The sum of delta's rows, as printed, is autograd's gradient of every bias."""
    net, env, code = batch_formulas("eq-batch-bias")
    for level in (1, 2, 3):
        got = eval(code["eq-batch-bias"], {**env, "l": level})
        np.testing.assert_allclose(got, net["db"][level], rtol=1e-11)


# Backpropagation in NumPy against torch.autograd

ACTIVATIONS = {
    "tanh": (np.tanh, "tanh_prime", torch.tanh),
    "relu": ("relu", "relu_prime", torch.relu),
    "sigmoid": ("sigmoid", "sigmoid_prime", torch.sigmoid),
}


def backward_equals_torch(numpy, widths, activation="tanh", batch=6) -> bool:
    """Whether the lesson's forward and backward give autograd's gradients, both costs."""
    f, f_prime, torch_f = ACTIVATIONS[activation]
    f, f_prime = numpy.get(f, f) if isinstance(f, str) else f, numpy[f_prime]
    rng = np.random.default_rng(len(widths) + batch)
    weights = [rng.normal(size=(n, m)) for m, n in pairwise(widths)]
    biases = [rng.normal(size=n) for n in widths[1:]]
    x, y = (
        rng.normal(size=(batch, widths[0])),
        np.eye(widths[-1])[rng.integers(widths[-1], size=batch)],
    )
    inputs, zs = numpy["forward"](x, weights, biases, f)
    for cost in ("quadratic", "cross_entropy"):
        extra = (f, f_prime) if cost == "quadratic" else ()
        loss, delta = numpy[cost](zs[-1], y, *extra)
        deltas, grads = numpy["backward"](delta, inputs, zs, weights, f_prime)
        leaves = [torch.tensor(p, requires_grad=True) for p in (*weights, *biases)]
        a, torch_zs = torch.tensor(x), []
        for W, b in zip(leaves[: len(weights)], leaves[len(weights) :], strict=True):
            torch_zs.append(F.linear(a, W, b))
            a = torch_f(torch_zs[-1])
        target = torch.tensor(y)
        quadratic = 0.5 * ((a - target) ** 2).sum(1).mean()
        torch_loss = quadratic if extra else F.cross_entropy(torch_zs[-1], target)
        expected = torch.autograd.grad(torch_loss, [*leaves, *torch_zs])
        ours = [dW for dW, _ in grads] + [db for _, db in grads] + deltas
        pairs = [(loss, torch_loss.item()), *zip(ours, expected, strict=True)]
        for got, wanted in pairs:
            if np.shape(got) != np.shape(wanted):
                return False
            if not np.allclose(got, np.asarray(wanted), rtol=1e-9, atol=1e-12):
                return False
    return True


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("widths", [(4, 3), (6, 5, 3), (5, 4, 4, 2), (3, 8, 1, 6, 4, 3)])
@pytest.mark.parametrize("batch", [1, 7])
def test_backward_equals_autograd(numpy, widths, activation, batch):
    """Losses, deltas and all gradients, for any depth, batch and activation, both
    costs."""
    assert backward_equals_torch(numpy, widths, activation, batch)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations_equal_torch_at_extremes(numpy, activation):
    """Value and derivative, at 0 and at ±1000, without a warning."""
    f, f_prime, torch_f = ACTIVATIONS[activation]
    z = np.array([-1000.0, -40.0, -1.0, 0.0, 1e-300, 0.5, 40.0, 1000.0])
    leaf = torch.tensor(z, requires_grad=True)
    value = torch_f(leaf)
    (slope,) = torch.autograd.grad(value.sum(), leaf)
    with np.errstate(all="raise", under="ignore"):
        np.testing.assert_allclose(
            (numpy[f] if isinstance(f, str) else f)(z), value.detach(), atol=1e-15
        )
        np.testing.assert_allclose(numpy[f_prime](z), slope, atol=1e-15)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_cross_entropy_equals_torch_at_extremes(numpy, dtype):
    """Loss and delta for logits of ±10,000, finite and without a warning, dtype kept."""
    z = np.array([[1e4, -1e4, 0], [-1e4, -1e4, -1e4], [3, 2, 1], [1000, 999, 0]], dtype)
    y = np.eye(3, dtype=dtype)[[1, 2, 0, 1]]
    with np.errstate(all="raise", under="ignore"):
        loss, delta = numpy["cross_entropy"](z, y)
    leaf = torch.tensor(z, requires_grad=True)
    expected = F.cross_entropy(leaf, torch.tensor(y))
    expected.backward()
    assert loss == pytest.approx(expected.item(), rel=1e-6) and delta.dtype == dtype
    np.testing.assert_allclose(delta, leaf.grad, atol=1e-7)


def test_train_is_sgd_with_momentum():
    """Twenty steps of `train` are torch.optim.SGD(momentum=0.9) with a rate falling to
    0."""
    rng = np.random.default_rng(1)
    images = rng.normal(size=(60_000, 5))
    one_hot = np.eye(3)[rng.integers(3, size=60_000)]
    lesson = definitions(LESSON, *NUMPY, images=images, one_hot=one_hot)
    weights = [rng.normal(size=(4, 5)), rng.normal(size=(3, 4))]
    biases = [rng.normal(size=4), rng.normal(size=3)]
    parameters = [torch.tensor(p, requires_grad=True) for p in (*weights, *biases)]
    lesson["train"](weights, biases, steps=20, lr=0.1)
    optimizer = torch.optim.SGD(parameters, lr=0.1, momentum=0.9)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / 20)
    order = np.random.default_rng(0).permutation(60_000).reshape(600, 100)
    W1, W2, b1, b2 = parameters
    for batch in order[:20]:
        x, y = torch.tensor(images[batch]), torch.tensor(one_hot[batch])
        optimizer.zero_grad()
        F.cross_entropy(F.linear(F.linear(x, W1, b1).relu(), W2, b2), y).backward()
        optimizer.step()
        schedule.step()
    for ours, theirs in zip((*weights, *biases), parameters, strict=True):
        np.testing.assert_allclose(ours, theirs.detach(), rtol=1e-9, atol=1e-12)


def test_new_network_has_the_variance_it_says(numpy):
    """Weights of variance 2 / n_in in float32, biases 0, the same for a seed."""
    weights, biases = numpy["new_network"]((500, 400, 10), seed=4)
    assert weights[0].shape == (400, 500) and weights[0].dtype == np.float32
    assert weights[0].var() == pytest.approx(2 / 500, rel=0.02)
    assert not biases[0].any() and not biases[1].any()
    assert (numpy["new_network"]((500, 400, 10), 4)[0][1] == weights[1]).all()


def test_the_pencils_numbers_are_autograds():
    """The deltas and derivatives that the derivation writes out are torch's."""
    x, y = torch.tensor([1.0, 2.0]), torch.tensor([1.0, 1.0])
    W1 = torch.tensor([[0.5, 1.0], [1.0, -1.0]], requires_grad=True)
    W2 = torch.tensor([[1.0, -1.0], [0.5, 1.0]], requires_grad=True)
    z1 = W1 @ x + torch.tensor([0.5, 2.0])
    z2 = W2 @ z1.relu() + torch.tensor([0.0, 0.5])
    cost = 0.5 * ((z2 - y) ** 2).sum()
    grads = torch.autograd.grad(cost, (z2, z1, W2, W1))
    assert cost == 2.5
    assert [g.tolist() for g in grads] == [
        [1, 2],
        [2, 1],
        [[3, 1], [6, 2]],
        [[2, 4], [1, 2]],
    ]


def test_zeros_never_learn(numpy):
    """From weights and biases of 0, all derivatives but the last bias's are 0, also after
    a step with them."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(20, 6)), np.eye(3)[rng.integers(3, size=20)]
    weights, biases = [np.zeros((5, 6)), np.zeros((3, 5))], [np.zeros(5), np.zeros(3)]
    for _ in range(2):
        inputs, zs = numpy["forward"](x, weights, biases, numpy["relu"])
        _, delta = numpy["cross_entropy"](zs[-1], y)
        _, grads = numpy["backward"](delta, inputs, zs, weights, numpy["relu_prime"])
        (dW1, db1), (dW2, db2) = grads
        assert not dW1.any() and not db1.any() and not dW2.any() and db2.any()
        biases[1] -= 0.1 * db2
