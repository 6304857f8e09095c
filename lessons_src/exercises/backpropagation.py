"""Exercises: one step down, another last layer, backpropagation from nothing."""

from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F

from lessons_src.exercises import exercise
from lessons_src.exercises.forbidden import NotAllowed


def as_arrays(value):
    """Tensors as NumPy arrays, in lists as well."""
    if isinstance(value, list):
        return [as_arrays(part) for part in value]
    return value.numpy() if isinstance(value, torch.Tensor) else value


def as_tensors(value):
    """NumPy arrays as tensors, in lists and tuples as well."""
    if isinstance(value, list | tuple):
        return [as_tensors(part) for part in value]
    if not hasattr(value, "__array__"):
        return value
    value = torch.as_tensor(value)  # zeros alone make an array of int: they are numbers
    return value if value.is_floating_point() else value.double()


def in_numpy(answer, *inputs):
    """What the answer gives for NumPy arrays, as the page has them: an `observe`."""
    with np.errstate(all="ignore"):
        return as_tensors(answer(*(as_arrays(x) for x in inputs)))


def as_an_array(answer, *inputs):
    """The same, for an answer that must give a NumPy array: an `observe`."""
    given = answer(*(as_arrays(x) for x in inputs))
    if isinstance(given, list | torch.Tensor):
        raise NotAllowed(f"return a NumPy array, not a {type(given).__name__}")
    return as_tensors(given)


def drawn_step(draw):
    """The arguments of `hidden_delta`: n neurons below, m above."""
    n, m = draw.integer(1, 1 + draw.size), draw.integer(1, 1 + draw.size)
    z = draw.normal(n, scale=draw.choice(1.0, 1e-9))  # so small, and not 0
    return z, draw.numbers(m, n), draw.numbers(m)


@exercise(
    inputs=drawn_step,
    observe=as_an_array,
    cases={
        "This neuron's z is negative: ReLU stops its delta.": (
            torch.tensor([-1.0, 2.0], dtype=torch.float64),
            torch.tensor([[1.0, 2.0]], dtype=torch.float64),
            torch.tensor([3.0], dtype=torch.float64),
        ),
        "At z = 0 the slope of ReLU is taken to be 0: it is 1 only where z > 0.": (
            torch.tensor([0.0, 2.0], dtype=torch.float64),
            torch.tensor([[1.0, 2.0]], dtype=torch.float64),
            torch.tensor([3.0], dtype=torch.float64),
        ),
    },
    mistakes={
        "The slope is missing: multiply by f′(z), which is 0 where z < 0.": (
            lambda z, W_above, delta_above: W_above.T @ delta_above
        ),
        "Neuron k sums along column k of W: W is transposed on the way back.": (
            lambda z, W_above, delta_above: np.where(z > 0, W_above @ delta_above, 0)
        ),
        "f′(z) is 1 or 0, not relu(z): nothing is multiplied by z.": (
            lambda z, W_above, delta_above: W_above.T @ delta_above * np.maximum(z, 0)
        ),
        "What is negative is z, not the delta: a negative delta passes where z > 0.": (
            lambda z, W_above, delta_above: np.maximum(W_above.T @ delta_above, 0)
        ),
    },
    hint="It is f′(z) times W_aboveᵀ @ delta_above, where f′(z) is 1 for z > 0, else 0.",
)
def hidden_delta(z, W_above, delta_above):
    """The derivative with respect to z of delta_above · (W_above relu(z))."""
    z = torch.tensor(z, requires_grad=True)
    above = torch.tensor(W_above) @ torch.relu(z)
    (delta,) = torch.autograd.grad(above @ torch.tensor(delta_above), z)
    return delta.numpy()


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def drawn_outputs(draw):
    """z (B, K), and labels (B, K) of which any number are 1."""
    shape = draw.integer(2, 2 + draw.size), 1 + draw.size
    return draw.numbers(*shape), (draw.normal(*shape) > 0).double()


@exercise(
    inputs=drawn_outputs,
    observe=in_numpy,
    cases={
        "e^z / (1 + e^z) is inf / inf at z = 800: use 1 / (1 + e^−z).": (
            torch.tensor([[800.0, -800.0], [0.0, 1.0]], dtype=torch.float64),
            torch.tensor([[0.0, 1.0], [0.0, 1.0]], dtype=torch.float64),
        )
    },
    mistakes={
        "The slope s (1 − s) is for the squared error. Here the logarithms cancel it.": (
            lambda z, y: (sigmoid(z) - y) * sigmoid(z) * (1 - sigmoid(z)) / len(y)
        ),
        "C is the mean over the B examples: divide by len(y).": (
            lambda z, y: sigmoid(z) - y
        ),
        "The cost adds up over the K outputs: divide by B, not by B K.": (
            lambda z, y: (sigmoid(z) - y) / y.size
        ),
        "The sign is turned: where s is larger than y, the cost grows with z.": (
            lambda z, y: (y - sigmoid(z)) / len(y)
        ),
    },
    hint="With s′ = s (1 − s) the delta is (s − y) / B.",
)
def sigmoid_delta(z, y):
    """The derivative of the mean cost with respect to z."""
    z = torch.tensor(z, requires_grad=True)
    cost = F.binary_cross_entropy_with_logits(z, torch.tensor(y), reduction="sum")
    (delta,) = torch.autograd.grad(cost / len(y), z)
    return delta.numpy()


def drawn_network(draw):
    """The arguments of `gradients` for a random network with ReLU."""
    widths = [draw.integer(1, 2 + draw.size) for _ in range(draw.integer(2, 4))]
    widths[-1] += 1  # two classes or more
    x, labels = draw.normal(1 + draw.size, widths[0]), draw.labels(1 + draw.size, 2)
    weights = [draw.normal(n_out, n_in) for n_in, n_out in pairwise(widths)]
    biases = [draw.normal(n_out) for n_out in widths[1:]]
    return x, F.one_hot(labels, widths[-1]).double(), weights, biases


def relu(z):
    return np.maximum(z, 0)


def stable_softmax(z):
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def bare_softmax(z):
    return np.exp(z) / np.exp(z).sum(1, keepdims=True)


def gradients_with(
    softmax=stable_softmax,
    last=lambda p, y: (p - y) / len(y),
    slope=lambda z: z > 0,
    bias=lambda delta: delta.sum(0),
    last_is_relu=False,
):
    """Backpropagation, with a part of it replaced."""

    def answer(x, y, weights, biases):
        inputs, zs = [], []
        for W, b in zip(weights, biases, strict=True):
            inputs.append(x)
            zs.append(x @ W.T + b)
            x = relu(zs[-1])
        delta, grads = last(softmax(relu(zs[-1]) if last_is_relu else zs[-1]), y), []
        if last_is_relu:
            delta = delta * (zs[-1] > 0)
        for layer in reversed(range(len(weights))):
            grads.insert(0, (delta.T @ inputs[layer], bias(delta)))
            if layer > 0:
                delta = (delta @ weights[layer]) * slope(zs[layer - 1])
        return grads

    return answer


@exercise(
    inputs=drawn_network,
    observe=in_numpy,
    cases={
        "Logits of a thousand: subtract the largest of each row before exp.": (
            torch.tensor([[1000.0, 998.5], [0.0, 2.0]], dtype=torch.float64),
            torch.tensor([[0.0, 1.0], [1.0, 0.0]], dtype=torch.float64),
            [torch.eye(2, dtype=torch.float64), torch.eye(2, dtype=torch.float64)],
            [torch.zeros(2, dtype=torch.float64), torch.zeros(2, dtype=torch.float64)],
        )
    },
    mistakes={
        "The cost is the mean over the batch: the last delta is (p − y) / B.": (
            gradients_with(last=lambda p, y: p - y)
        ),
        "The step down is (delta @ W) * f′(z): the slope is missing.": (
            gradients_with(slope=lambda z: 1.0)
        ),
        "dC/db is delta summed over the batch: the 1/B is in delta already.": (
            gradients_with(bias=lambda delta: delta.mean(0))
        ),
        "exp overflows for large logits: subtract the largest of each row first.": (
            gradients_with(softmax=bare_softmax)
        ),
        "There is no ReLU after the last layer: its z are the logits.": (
            gradients_with(last_is_relu=True)
        ),
    },
    hint="The last delta is (p − y) / B; dC/dW is deltaᵀ @ what the layer read, dC/db is "
    "delta summed over the batch, and the step down is (delta @ W) * (z > 0).",
)
def gradients(x, y, weights, biases):
    """[(dC/dW, dC/db), ...] of each layer, first layer first."""
    layers = [
        [torch.tensor(p, requires_grad=True) for p in pair]
        for pair in zip(weights, biases, strict=True)
    ]
    a = torch.tensor(x)
    for W, b in layers:
        z = F.linear(a, W, b)
        a = torch.relu(z)
    F.cross_entropy(z, torch.tensor(y)).backward()
    return [(W.grad.numpy(), b.grad.numpy()) for W, b in layers]
