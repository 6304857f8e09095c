"""Lesson 03: its equations as stated, its engine, its NumPy backpropagation.

Each test's docstring is the claim that it proves.
"""

import math
import re
from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lesson_source import cells, definitions

LESSON = "03_backpropagation"
ENGINE = ("Value", "as_value", "topological_order", "OPERATIONS", "random_expression")
NUMPY = (
    "forward",
    "backward",
    "quadratic",
    "cross_entropy",
    "tanh_prime",
    "relu",
    "relu_prime",
    "sigmoid",
    "sigmoid_prime",
    "relative_error",
    "numerical_gradient",
    "new_network",
    "train",
)


@pytest.fixture(scope="module")
def engine():
    return definitions(LESSON, *ENGINE)


@pytest.fixture(scope="module")
def numpy():
    return definitions(LESSON, *NUMPY)


# The boxed equations, read from the lesson


def boxed(label: str) -> str:
    """The TeX of the boxed equation `label`."""
    text = "\n".join(c.source for c in cells(LESSON) if c.cell_type == "markdown")
    return " ".join(re.search(rf"\$\$([^$]+)\$\$ \({label}\)", text)[1].split())


def as_python(label: str, product: str) -> str:
    """The right side of a boxed equation as Python. product: what stands for "side by
    side"."""
    code = boxed(label).split(" = ", 1)[1]
    for old, new in (
        (r"\\big|\\[,;]", " "),
        (r"\\tfrac\{1\}\{B\}", "1 / B *"),
        (r"f'", "f_prime"),
        (r"\\(Delta|delta)", r"\1"),
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


def test_eq_chain_rule(engine):
    """On the graph f = (a + b)(ab), local derivatives times the children's gradients,
    summed over the children, are autograd's gradients."""
    a, b = (torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in (2.0, 3.0))
    u, v = a + b, a * b
    f = u * v
    df = dict(
        zip("abuv", torch.autograd.grad(f, (a, b, u, v), retain_graph=True), strict=True)
    )
    for name, node in (("a", a), ("b", b)):
        local = [torch.autograd.grad(c, node, retain_graph=True)[0] for c in (u, v)]
        assert df[name] == df["u"] * local[0] + df["v"] * local[1]


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
    env = {**net, "P": net["p"][0], "Y": net["y"][0], "A": net["a"], "Z": net["z"]}
    env["Delta"] = [None, None, None, eval(as_python("eq-batch-output", "@"), env)]
    for level in (2, 1):
        env["Delta"][level] = eval(as_python("eq-batch-hidden", "@"), {**env, "l": level})
    return net, env, code


def test_eq_batch_output():
    """(P - Y) / B, as printed, is autograd's derivative of the mean cost by the
    logits."""
    net, env, _ = batch_formulas()
    np.testing.assert_allclose(env["Delta"][3], net["dz"][3], rtol=1e-12)


def test_eq_batch_hidden():
    """The batch recursion, as printed, gives autograd's derivatives by every hidden Z."""
    net, env, _ = batch_formulas()
    for level in (1, 2):
        np.testing.assert_allclose(env["Delta"][level], net["dz"][level], rtol=1e-11)


def test_eq_batch_weight():
    """Deltaᵀ A, as printed, is autograd's gradient of every weight matrix."""
    net, env, code = batch_formulas("eq-batch-weight")
    for level in (1, 2, 3):
        got = eval(code["eq-batch-weight"], {**env, "l": level})
        np.testing.assert_allclose(got, net["dW"][level], rtol=1e-11)


def test_eq_batch_bias():
    """The sum of Delta's rows, as printed, is autograd's gradient of every bias."""
    net, env, code = batch_formulas("eq-batch-bias")
    for level in (1, 2, 3):
        got = eval(code["eq-batch-bias"], {**env, "l": level})
        np.testing.assert_allclose(got, net["db"][level], rtol=1e-11)


def test_eq_central_difference():
    """For f = exp the central difference is off by h²/6 f′′′, and by h⁴ beyond that."""
    rest = [
        (math.exp(1 + h) - math.exp(1 - h)) / (2 * h) - math.e - h**2 / 6 * math.e
        for h in (0.1, 0.05)
    ]
    assert rest[0] / rest[1] == pytest.approx(16, rel=0.01)


def test_eq_best_step():
    """h* is where truncation plus rounding error is least, and gives a good step in
    practice."""
    eps, f, f3 = 1.1e-16, 2.0, 5.0
    steps = np.geomspace(1e-8, 1e-2, 4001)
    total = steps**2 / 6 * f3 + eps * f / steps
    best = (3 * eps * abs(f) / abs(f3)) ** (1 / 3)
    assert steps[total.argmin()] == pytest.approx(best, rel=0.01)
    # in practice: exp at many points; the worst error at h* is less than at a hundredth
    # or 100 h*
    points, star = np.linspace(0, 1, 200), (3 * eps) ** (1 / 3)
    worst = [
        np.abs((np.exp(points + h) - np.exp(points - h)) / (2 * h) - np.exp(points)).max()
        for h in (star / 100, star, star * 100)
    ]
    assert worst[1] < worst[0] / 10 and worst[1] < worst[2] / 10


def test_eq_relative_error(numpy):
    """The code is the formula; 0 for equal, 1 for opposite vectors, and scale does not
    matter."""
    rng = np.random.default_rng(0)
    g, h = rng.normal(size=(2, 3, 4))
    by_hand = math.sqrt(((g - h) ** 2).sum()) / (
        math.sqrt((g**2).sum()) + math.sqrt((h**2).sum())
    )
    error = numpy["relative_error"]
    assert (
        error(g, h) == pytest.approx(by_hand) == pytest.approx(error(1e-9 * g, 1e-9 * h))
    )
    assert error(g, g) == 0 and error(g, -g) == 1 and error(0 * g, 0 * g) == 0


def mean_square(x):
    return (x**2).mean().item()


def test_eq_variance_forward():
    """z = W a has n σ² times the mean square of a, whatever the distribution of a."""
    generator = torch.Generator().manual_seed(0)
    a = torch.rand(300, generator=generator) + 0.5
    z = torch.randn(20000, 300, generator=generator) * 0.1 @ a
    assert mean_square(z) == pytest.approx(300 * 0.1**2 * mean_square(a), rel=0.03)


def test_eq_variance_backward():
    """delta = (delta W) f'(z) has n σ² E[f'²] times the mean square above, layers
    independent."""
    generator = torch.Generator().manual_seed(0)
    above = torch.randn(300, generator=generator) * 3
    slope = 1 - torch.randn(20000, generator=generator).tanh() ** 2
    delta = (above @ (torch.randn(300, 20000, generator=generator) * 0.1)) * slope
    expected = 300 * 0.1**2 * mean_square(slope) * mean_square(above)
    assert mean_square(delta) == pytest.approx(expected, rel=0.05)


def test_eq_sigmoid_bound():
    """s(1 - s) is autograd's derivative of the sigmoid; it is at most 1/4, reached at
    0."""
    z = torch.linspace(-30, 30, 6001, dtype=torch.float64, requires_grad=True)
    s = torch.sigmoid(z)
    (slope,) = torch.autograd.grad(s.sum(), z)
    torch.testing.assert_close(slope, (s * (1 - s)).detach())
    assert slope.max() <= 0.25 and slope[3000] == 0.25


def test_eq_xavier():
    """torch's xavier_normal_ draws with this variance, which is between the two
    wishes."""
    torch.manual_seed(0)
    W = torch.nn.init.xavier_normal_(torch.empty(900, 300))
    assert W.var().item() == pytest.approx(2 / (300 + 900), rel=0.01)
    assert 1 / 900 < 2 / (300 + 900) < 1 / 300


def test_eq_he():
    """torch's kaiming_normal_ draws with this variance; ten wide ReLU layers keep
    their size."""
    torch.manual_seed(0)
    W = torch.nn.init.kaiming_normal_(torch.empty(500, 1000), nonlinearity="relu")
    assert W.var().item() == pytest.approx(2 / 1000, rel=0.01)
    z = start = torch.randn(1000)
    for _ in range(10):
        z = torch.randn(1000, 1000) * math.sqrt(2 / 1000) @ z.relu()
    assert 0.5 < mean_square(z) / mean_square(start) < 2


# The engine against torch.autograd


def torch_leaves(numbers):
    return [torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in numbers]


def grow(leaves, seed, operations, steps=20):
    """The lesson's random expression, but with every node returned."""
    rng, nodes = np.random.default_rng(seed), list(leaves)
    for _ in range(steps):
        operation = operations[rng.integers(len(operations))]
        nodes.append(operation(*(nodes[i] for i in rng.integers(len(nodes), size=2))))
    return nodes, sum(nodes[1:], nodes[0])


def engine_equals_torch(engine, seeds) -> bool:
    """Whether values and gradients agree, of leaves and inner nodes, on random graphs."""
    for seed in seeds:
        numbers = np.random.default_rng(seed).normal(size=3) * 1.5
        ours, root = grow(map(engine["Value"], numbers), seed, engine["OPERATIONS"])
        theirs, torch_root = grow(torch_leaves(numbers), seed, engine["OPERATIONS"])
        for tensor in theirs:
            tensor.retain_grad()
        root.backward()
        torch_root.backward()
        pairs = [(root.data, torch_root.item())]
        for node, tensor in zip(ours, theirs, strict=True):
            pairs += [(node.data, tensor.item()), (node.grad, tensor.grad.item())]
        if not all(math.isclose(p, q, rel_tol=1e-9, abs_tol=1e-9) for p, q in pairs):
            return False
    return True


def test_engine_equals_autograd_on_300_random_graphs(engine):
    """Values and gradients of all nodes, shared ones too, are those of torch.autograd."""
    assert engine_equals_torch(engine, range(300))


def test_lessons_random_expression_shares_nodes(engine):
    """The lesson's own generator gives the same value for Value and tensor, on shared
    graphs."""
    shared = 0
    for seed in range(20):
        a, b = (
            engine["random_expression"](make([0.5, -1.0, 2.0]), seed)
            for make in (lambda x: [engine["Value"](v) for v in x], torch_leaves)
        )
        assert a.data == pytest.approx(b.item(), rel=1e-12)
        parents = [p for node in engine["topological_order"](a) for p, _ in node.parents]
        shared += len(parents) - len(set(parents))
    assert shared > 100


UNARY = {
    "tanh": (lambda x: x.tanh(), [0.0, 0.3, -30.0, 1000.0, -1000.0]),
    "exp": (lambda x: x.exp(), [0.0, -1000.0, 700.0]),
    "log": (lambda x: x.log(), [1e-300, 1.0, 1e300]),
    "relu": (lambda x: x.relu(), [0.0, -0.0, 1e-300, -5.0, 1e300]),
    "** 3": (lambda x: x**3, [0.0, -2.0, 1e100]),
    "** 0": (lambda x: x**0, [0.0, 3.0]),
    "** 1": (lambda x: x**1, [0.0, 3.0]),
    "** -0.5": (lambda x: x**-0.5, [1e-100, 4.0]),
    "reflected": (
        lambda x: 2 + 3 * x - (1 - x) / 2 + 1 / x - (-x),
        [0.5, -1e-100, 1e100],
    ),
    "x / x": (lambda x: x / x, [1e-200, -3.0]),
    "x · x · x": (lambda x: x * x * x, [0.0, 1e-100, 7.0]),
}


@pytest.mark.parametrize("name", UNARY)
def test_operations_equal_torch_at_extremes(engine, name):
    """Each operation's value and gradient are torch's, at zero, at kinks and far out."""
    operation, inputs = UNARY[name]
    for x in inputs:
        value, (tensor,) = engine["Value"](x), torch_leaves([x])
        result, expected = operation(value), operation(tensor)
        result.backward()
        expected.backward()
        assert result.data == pytest.approx(expected.item(), rel=1e-14)
        assert value.grad == pytest.approx(tensor.grad.item(), rel=1e-14)


def test_where_torch_says_inf_the_engine_raises(engine):
    """log(0), exp(1000), 1/0 and the root of a negative number raise, as the lesson
    says."""
    Value = engine["Value"]
    for attempt in (
        lambda: Value(0).log(),
        lambda: Value(1000).exp(),
        lambda: 1 / Value(0),
        lambda: Value(-8) ** (1 / 3),
    ):
        with pytest.raises((ValueError, OverflowError, ZeroDivisionError)):
            attempt()


def test_leaves_accumulate_and_inner_nodes_do_not(engine):
    """backward() twice through one graph doubles a leaf's gradient, as with
    retain_graph."""
    x = engine["Value"](3.0)
    (tensor,) = torch_leaves([3.0])
    inner, torch_inner = x * x, tensor * tensor
    torch_inner.retain_grad()
    root, torch_root = inner * inner, torch_inner * torch_inner
    for _ in range(2):
        root.backward()
        torch_root.backward(retain_graph=True)
    assert x.grad == tensor.grad.item() == 216
    x.backward()
    assert x.grad == 217  # a leaf by itself: d x / d x


def test_topological_order(engine):
    """Every node stands once, after its parents; depth is no limit."""
    for seed in range(20):
        leaves = [engine["Value"](x) for x in (0.1, 0.2)]
        order = engine["topological_order"](engine["random_expression"](leaves, seed))
        place = {node: k for k, node in enumerate(order)}
        assert len(place) == len(order)
        assert all(place[p] < place[node] for node in order for p, _ in node.parents)
    start = node = engine["Value"](1.0)
    for _ in range(20_000):
        node = node + 1
    node.backward()
    assert start.grad == 1 and len(engine["topological_order"](node)) == 40_001


def test_graph_is_drawn_from_the_graph(engine):
    """Each node has a place of its own below its parents, its formula, and each edge
    is drawn."""
    names = ("SUPERSCRIPT", "number", "formula", "layout", "draw_graph", "name")
    draw = definitions(LESSON, *names, **engine)
    a, b = engine["Value"](2.0), engine["Value"](-3.0)
    u = a * b
    root = (u + a).tanh() ** 2
    draw["name"](a=a, b=b, u=u, root=root)
    x, row, edges = draw["layout"](root)
    nodes = engine["topological_order"](root)
    assert len({(x[n], row[n]) for n in nodes}) == len(nodes)
    assert all(row[p] > row[n] for n in nodes for p, _ in n.parents)
    assert len(edges) == sum(len(n.parents) for n in nodes)
    fig = draw["draw_graph"](root, active=u)
    texts = [t.get_text() for t in fig.axes[0].texts]
    plt.close(fig)
    assert "u = a · b = −6" in texts and "×−3" in texts
    assert any(t.startswith("∂root/∂a") for t in texts)


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


def test_numerical_gradient(numpy):
    """It agrees with autograd, and puts the weights back to the last bit."""
    rng = np.random.default_rng(0)
    w = rng.normal(size=(3, 4))
    before = w.copy()
    got = numpy["numerical_gradient"](lambda: (np.sin(w) * w[0]).sum(), w)
    leaf = torch.tensor(w, requires_grad=True)
    (expected,) = torch.autograd.grad((leaf.sin() * leaf[0]).sum(), leaf)
    np.testing.assert_allclose(got, expected, rtol=1e-8, atol=1e-9)
    assert (w == before).all()


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
    """Weights of variance gain / n_in in float32, biases 0, the same for a seed."""
    weights, biases = numpy["new_network"]((500, 400, 10), gain=3.0, seed=4)
    assert weights[0].shape == (400, 500) and weights[0].dtype == np.float32
    assert weights[0].var() == pytest.approx(3 / 500, rel=0.02)
    assert not biases[0].any() and not biases[1].any()
    assert (numpy["new_network"]((500, 400, 10), 3.0, 4)[0][1] == weights[1]).all()


def test_saved_by_counts_what_autograd_keeps():
    """Input, ReLU's output, log-probabilities, labels and one number: nothing else is
    kept."""
    saved_by = definitions(LESSON, "saved_by")["saved_by"]
    model = torch.nn.Sequential(
        torch.nn.Linear(7, 5), torch.nn.ReLU(), torch.nn.Linear(5, 3)
    )
    x, y = torch.randn(11, 7), torch.randint(3, (11,))
    kept = saved_by(lambda: F.cross_entropy(model(x), y), skip=model.parameters())
    assert sum(t.nbytes for t in kept) == 11 * (7 + 5 + 3) * 4 + 11 * 8 + 4
    with torch.no_grad():
        assert saved_by(lambda: F.cross_entropy(model(x), y)) == []


def test_prediction_of_depth():
    """`predict` gives the closed form for ReLU: a factor gain / 2 a layer, forwards
    and back."""
    deep = (784,) + (200,) * 19 + (10,)
    names = ("predict", "mean_square", "QUADRATURE", "relu", "relu_prime")
    lesson = definitions(LESSON, *names, deep=deep, images=np.ones((100, 784)))
    z, d = lesson["predict"](lesson["relu"], lesson["relu_prime"], 3.0)
    np.testing.assert_allclose(z**2, 3.0 * 1.5 ** np.arange(20), rtol=1e-9)
    assert d[18] ** 2 == pytest.approx(3.0 * 10 / 200 / 2)
    np.testing.assert_allclose((d[:18] / d[1:19]) ** 2, 1.5, rtol=1e-9)


# The exercises' checkers


def test_the_faulty_backward_is_right_for_relu_only(numpy):
    """What exercise 4 says of its fault: with ReLU no gradient differs, with tanh some
    do."""
    faulty = definitions(LESSON, "faulty_backward", **numpy)["faulty_backward"]
    generator = np.random.default_rng(0)
    weights = [generator.normal(size=(n, m)) for m, n in pairwise((5, 4, 4, 3))]
    biases = [generator.normal(size=n) for n in (4, 4, 3)]
    x, y = generator.normal(size=(6, 5)), np.eye(3)[[0, 1, 2, 0, 1, 2]]
    for f, f_prime, same in (
        (numpy["relu"], numpy["relu_prime"], True),
        (np.tanh, numpy["tanh_prime"], False),
    ):
        inputs, zs = numpy["forward"](x, weights, biases, f)
        _, delta = numpy["cross_entropy"](zs[-1], y)
        _, right = numpy["backward"](delta, inputs, zs, weights, f_prime)
        got = faulty(delta, inputs, zs, weights, f_prime)
        equal = [
            np.allclose(a, b)
            for r, g in zip(right, got, strict=True)
            for a, b in zip(r, g, strict=True)
        ]
        assert equal == ([True] * 6 if same else [False] * 4 + [True] * 2)
