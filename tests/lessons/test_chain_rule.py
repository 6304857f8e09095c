"""The chain rule: its equation as stated, its gates, its engine.

Each test's docstring is the claim that it proves.
"""

import math

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from lesson_source import cells, definitions

LESSON = "chain_rule"
ENGINE = ("Value", "as_value", "topological_order", "made_from", "random_expression")


@pytest.fixture(scope="module")
def engine():
    return definitions(LESSON, *ENGINE)


def test_eq_chain_rule():
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


def test_eq_chain_rule_where_a_child_is_made_from_another():
    """On C = (w·relu(wx + b) − y)², where w's child o is made from its child m, the sum
    over both children is autograd's gradient, with local derivatives that hold the other
    parent still."""
    w, x, b, y = torch_leaves([2.0, 1.0, 1.0, 5.0])
    m = w * x
    h = torch.relu(m + b)
    o = w * h
    cost = (o - y) ** 2
    dw, dm, do = torch.autograd.grad(cost, (w, m, o))
    assert dw == do * h + dm * x == 10


def test_staged_gates_equal_autograd():
    """The derivatives that the page writes by hand, stage by stage, are torch's."""
    (staged,) = [c.source for c in cells(LESSON) if c.source.startswith("df_df = 1")]
    for numbers in ([2.0, 3.0, 4.0, 1.0], [-1.0, 0.5, 2.0, 3.0]):
        leaves = torch_leaves(numbers)
        a, b, c, d = leaves
        expected = torch.autograd.grad((a + b) * torch.maximum(c, d), leaves)
        names = dict(zip("abcd", numbers, strict=True))
        names |= {"s": numbers[0] + numbers[1], "m": max(numbers[2:])}
        exec(staged, names)
        for name, slope in zip("abcd", expected, strict=True):
            assert names[f"df_d{name}"] == slope.item()


def test_overwriting_loses_a_path(engine):
    """With = in the place of +=, the graph with the shared weight gives 4 in place of
    10, and a graph in which each value is used once gives the right gradients."""
    nodes = definitions(LESSON, "shared_weight", **engine)["shared_weight"]()
    overwrite(engine, nodes["C"])
    assert nodes["w"].grad == 4
    once, leaves = engine["Value"], torch_leaves([2.0, 3.0, 0.5])
    a, b, c = (once(x) for x in (2.0, 3.0, 0.5))
    overwrite(engine, (a * b + c).tanh())
    expected = torch.autograd.grad((leaves[0] * leaves[1] + leaves[2]).tanh(), leaves)
    for node, slope in zip((a, b, c), expected, strict=True):
        assert node.grad == pytest.approx(slope.item())


def overwrite(engine, root):
    """The page's failing loop: the last path wins."""
    root.grad = 1.0
    for node in reversed(engine["topological_order"](root)):
        for parent, local in node.parents:
            parent.grad = local * node.grad


# The engine against torch.autograd


def torch_leaves(numbers):
    return [torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in numbers]


def grow(leaves, seed, made_from, steps=20):
    """The lesson's random expression, but with every node returned."""
    rng, nodes = np.random.default_rng(seed), list(leaves)
    for _ in range(steps):
        choices = made_from(*(nodes[i] for i in rng.integers(len(nodes), size=2)))
        nodes.append(choices[rng.integers(len(choices))])
    return nodes, sum(nodes[1:], nodes[0])


def engine_equals_torch(engine, seeds) -> bool:
    """Whether values and gradients agree, of leaves and inner nodes, on random graphs."""
    for seed in seeds:
        numbers = np.random.default_rng(seed).normal(size=3) * 1.5
        ours, root = grow(map(engine["Value"], numbers), seed, engine["made_from"])
        theirs, torch_root = grow(torch_leaves(numbers), seed, engine["made_from"])
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
    names = ("SUPERSCRIPT", "number", "formula", "layout", "draw_graph", "give_names")
    draw = definitions(LESSON, *names, **engine)
    a, b = engine["Value"](2.0), engine["Value"](-3.0)
    u = a * b
    root = (u + a).tanh() ** 2
    draw["give_names"]({"a": a, "b": b, "u": u, "root": root})
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


def test_xor_loss_equals_torch(engine):
    """The page's network of Values gives torch's loss and gradients."""
    names = ("weighted_sum", "xor_loss")
    lesson = definitions(LESSON, *names, **engine)
    rng = np.random.default_rng(5)
    hidden, output = rng.normal(size=(4, 3)), rng.normal(size=5)
    ours = [[engine["Value"](p) for p in neuron] for neuron in (*hidden, output)]
    loss = lesson["xor_loss"](ours[:4], ours[4])
    loss.backward()
    H, o = (torch.tensor(p, requires_grad=True) for p in (hidden, output))
    x = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]], dtype=torch.float64)
    answers = torch.tanh(x @ H[:, :2].T + H[:, 2]) @ o[:4] + o[4]
    expected = ((answers - torch.tensor([0, 1, 1, 0])) ** 2).sum()
    expected.backward()
    assert loss.data == pytest.approx(expected.item())
    for neuron, grads in zip(ours, [*H.grad, o.grad], strict=True):
        assert [p.grad for p in neuron] == pytest.approx(grads.tolist())
