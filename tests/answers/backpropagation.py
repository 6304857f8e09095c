"""Answers to the exercises of the lesson on backpropagation."""

import functools

import numpy as np
import torch


def step_down(z, W_above, delta_above):
    return np.where(z > 0, W_above.T @ delta_above, 0)


def neuron_by_neuron(z, W_above, delta_above):
    deltas = np.zeros_like(z)
    for k in range(len(z)):
        if z[k] > 0:
            deltas[k] = sum(W_above[j, k] * d for j, d in enumerate(delta_above))
    return deltas


def masked_in_place(z, W_above, delta_above):
    back = np.dot(delta_above, W_above)
    back[z <= 0] = 0
    return back


def from_torch(z, W_above, delta_above):
    z, W, d = (torch.as_tensor(v) for v in (z, W_above, delta_above))
    return ((W.T @ d) * (z > 0)).numpy()


def off_stays_empty(z, W_above, delta_above):
    back = W_above.T @ delta_above
    return back[z > 0]


def sigmoid(z):
    """Without overflow, for arrays."""
    e = np.exp(-np.abs(z))
    return np.where(z >= 0, 1, e) / (1 + e)


def softmax(z):
    p = np.exp(z - z.max(1, keepdims=True))
    return p / p.sum(1, keepdims=True)


def number_by_number(z, y):
    delta = np.empty_like(z)
    for n, row in enumerate(z):
        for j, value in enumerate(row):
            delta[n, j] = (sigmoid(value) - y[n, j]) / z.shape[0]
    return delta


def delta_by_torch(z, y):
    return (torch.sigmoid(torch.tensor(z)).numpy() - y) / len(z)


def delta_by_autograd(z, y):
    """The statement does not forbid it."""
    z, y = torch.tensor(z, requires_grad=True), torch.tensor(y)
    loss = torch.nn.functional.binary_cross_entropy_with_logits(z, y, reduction="sum")
    (loss / len(y)).backward()
    return z.grad.numpy()


def forward(x, weights, biases, activate=lambda z: np.maximum(z, 0), add=True):
    inputs, zs = [], []
    for W, b in zip(weights, biases, strict=True):
        inputs.append(x)
        zs.append(x @ W.T + b * add)
        x = activate(zs[-1])
    return inputs, zs


def network(
    *,
    output=softmax,
    mean=True,
    prime=lambda z, a: z > 0,
    db=lambda delta: delta.sum(0),
    dW=lambda delta, read: delta.T @ read,
    back=lambda delta, W: delta @ W,
    last=lambda delta, z: delta,
    add=True,
    activate=lambda z: np.maximum(z, 0),
):
    """`gradients`, and what becomes of it where one thing is different."""

    def gradients(x, y, weights, biases):
        inputs, zs = forward(x, weights, biases, activate, add)
        delta = output(zs[-1]) - y
        delta = last(delta / len(y) if mean else delta, zs[-1])
        grads = []
        for layer in reversed(range(len(weights))):
            grads.insert(0, (dW(delta, inputs[layer]), db(delta)))
            if layer > 0:
                delta = back(delta, weights[layer])
                delta = delta * prime(zs[layer - 1], inputs[layer])
        return grads

    return gradients


right = network()


def naive_softmax(z):
    return np.exp(z) / np.exp(z).sum(1, keepdims=True)


def softmax_of_one_largest(z):
    """A row far below the largest of all is 0 / 0."""
    p = np.exp(z - z.max())
    return p / p.sum(1, keepdims=True)


def softmax_down(z):
    p = np.exp(z - z.max(0))
    return p / p.sum(0)


def clipped_softmax(z):
    return naive_softmax(np.clip(z, -500, 500))


def two_layers(x, y, weights, biases):
    """Only for a network with one hidden layer."""
    (W1, W2), (b1, b2) = weights, biases
    z1 = x @ W1.T + b1
    a1 = np.maximum(z1, 0)
    delta2 = (softmax(a1 @ W2.T + b2) - y) / len(y)
    delta1 = (delta2 @ W2) * (z1 > 0)
    return [(delta1.T @ x, delta1.sum(0)), (delta2.T @ a1, delta2.sum(0))]


def trains_meanwhile(x, y, weights, biases):
    """Changes the weights before it goes on down."""
    inputs, zs = forward(x, weights, biases)
    delta = (softmax(zs[-1]) - y) / len(y)
    grads = []
    for layer in reversed(range(len(weights))):
        grads.insert(0, (delta.T @ inputs[layer], delta.sum(0)))
        weights[layer] = weights[layer] - 0.1 * grads[0][0]
        if layer > 0:
            delta = (delta @ weights[layer]) * (zs[layer - 1] > 0)
    return grads


def without_the_first(x, y, weights, biases):
    return right(x, y, weights, biases)[1:]


def first_example(x, y, weights, biases):
    return right(x[:1], y[:1], weights, biases)


def reads_z(x, y, weights, biases):
    """The weights' gradients by z in place of what the layer reads."""
    inputs, zs = forward(x, weights, biases)
    reads = [x, *zs]
    delta = (softmax(zs[-1]) - y) / len(y)
    grads = []
    for layer in reversed(range(len(weights))):
        grads.insert(0, (delta.T @ reads[layer], delta.sum(0)))
        if layer > 0:
            delta = (delta @ weights[layer]) * (zs[layer - 1] > 0)
    return grads


def relu_at_the_end(x, y, weights, biases):
    inputs, zs = forward(x, weights, biases)
    delta = (softmax(np.maximum(zs[-1], 0)) - y) / len(y) * (zs[-1] > 0)
    grads = []
    for layer in reversed(range(len(weights))):
        grads.insert(0, (delta.T @ inputs[layer], delta.sum(0)))
        if layer > 0:
            delta = (delta @ weights[layer]) * (zs[layer - 1] > 0)
    return grads


def example_by_example(x, y, weights, biases):
    sums = [(np.zeros(W.shape), np.zeros(b.shape)) for W, b in zip(weights, biases)]  # noqa: B905
    for image, target in zip(x, y, strict=True):
        activations = [image]
        for W, b in zip(weights, biases, strict=True):
            z = W @ activations[-1] + b
            activations.append(np.maximum(z, 0))
        e = np.exp(z - z.max())
        delta = (e / e.sum() - target) / len(x)
        for (dW, db), W, a in reversed(
            list(zip(sums, weights, activations[:-1], strict=True))
        ):
            dW += np.outer(delta, a)
            db += delta
            delta = (W.T @ delta) * (a > 0)
    return sums


def recursive(x, y, weights, biases):
    """Each layer asks the one above for its delta."""
    grads = []

    def delta_of(a, layer):
        if layer == len(weights):
            return (softmax(a) - y) / len(y)
        z = a @ weights[layer].T + biases[layer]
        top = layer + 1 == len(weights)
        delta = delta_of(z if top else np.maximum(z, 0), layer + 1)
        if not top:
            delta = np.where(z > 0, delta, 0)
        grads.append((delta.T @ a, delta.sum(axis=0)))
        return delta @ weights[layer]

    delta_of(x, 0)
    return grads[::-1]


def by_logarithms(x, y, weights, biases):
    """exp of log-softmax, einsum, and lists."""
    reads, a = [], x
    for W, b in zip(weights, biases, strict=True):
        reads.append(a)
        z = np.einsum("bi,ji->bj", a, W) + b
        a = z * (z > 0)
    log_p = z - np.logaddexp.reduce(z, axis=1, keepdims=True)
    delta = (np.exp(log_p) - y) / x.shape[0]
    dWs, dbs = [], []
    for W, read in zip(weights[::-1], reads[::-1], strict=True):
        dWs.append(np.einsum("bj,bi->ji", delta, read))
        dbs.append(np.ones(len(delta)) @ delta)
        delta = np.einsum("bj,ji->bi", delta, W) * np.heaviside(read, 0)
    return [list(pair) for pair in zip(reversed(dWs), reversed(dbs), strict=True)]


def with_matrices_of_torch(x, y, weights, biases):
    x, y = torch.as_tensor(x), torch.as_tensor(y)
    weights = [torch.as_tensor(W) for W in weights]
    inputs, zs = [], []
    for W, b in zip(weights, biases, strict=True):
        inputs.append(x)
        zs.append(x @ W.T + torch.as_tensor(b))
        x = zs[-1].relu()
    delta = (zs[-1].softmax(1) - y) / len(y)
    grads = []
    for layer in range(len(weights) - 1, -1, -1):
        grads = [(delta.T @ inputs[layer], delta.sum(0)), *grads]
        if layer:
            delta = delta @ weights[layer]
            delta[zs[layer - 1] <= 0] = 0
    return grads


WRONG = {
    "hidden_delta": [
        lambda z, W_above, delta_above: W_above.T @ delta_above,
        lambda z, W_above, delta_above: np.where(z > 0, W_above @ delta_above, 0),
        lambda z, W_above, delta_above: np.where(z >= 0, W_above.T @ delta_above, 0),
        lambda z, W_above, delta_above: np.where(z < 0, W_above.T @ delta_above, 0),
        lambda z, W_above, delta_above: np.where(z > 0, W_above.T @ delta_above, 0.01),
        lambda z, W_above, delta_above: np.maximum(W_above.T @ delta_above, 0),
        lambda z, W_above, delta_above: W_above.T @ delta_above * np.maximum(z, 0),
        lambda z, W_above, delta_above: W_above.T @ delta_above * z,
        lambda z, W_above, delta_above: W_above.T @ delta_above * np.sign(z),
        lambda z, W_above, delta_above: W_above.T @ np.maximum(delta_above, 0) * (z > 0),
        lambda z, W_above, delta_above: np.where(z > 0, W_above.sum(0), 0),
        lambda z, W_above, delta_above: np.where(z > 0, W_above.mean(0) @ delta_above, 0),
        lambda z, W_above, delta_above: np.where(
            z > 0, W_above.T @ delta_above / len(delta_above), 0
        ),
        lambda z, W_above, delta_above: (
            W_above.T @ delta_above * sigmoid(z) * sigmoid(-z)
        ),
        lambda z, W_above, delta_above: step_down(z, W_above, delta_above)[:, None],
        lambda z, W_above, delta_above: step_down(z, W_above, delta_above)[None],
        lambda z, W_above, delta_above: step_down(z, W_above, delta_above).sum(),
        lambda z, W_above, delta_above: step_down(z, W_above, delta_above).astype(int),
        lambda z, W_above, delta_above: np.outer(delta_above, np.maximum(z, 0)),
        lambda z, W_above, delta_above: (z > 0) & (W_above.T @ delta_above > 0),
        lambda z, W_above, delta_above: -step_down(z, W_above, delta_above),
        lambda z, W_above, delta_above: step_down(z, W_above, delta_above).tolist(),
        lambda *given: torch.tensor(step_down(*given)),  # NumPy is asked for
        off_stays_empty,
    ],
    "sigmoid_delta": [
        lambda z, y: sigmoid(z) - y,
        lambda z, y: (y - sigmoid(z)) / len(y),
        lambda z, y: (sigmoid(z) - y) / y.shape[1],
        lambda z, y: (sigmoid(z) - y) / y.size,
        lambda z, y: (sigmoid(z) - y) * sigmoid(z) * sigmoid(-z) / len(y),
        lambda z, y: (softmax(z) - y) / len(y),
        lambda z, y: (z - y) / len(y),
        lambda z, y: sigmoid(z) / len(y),
        lambda z, y: (np.tanh(z) - y) / len(y),
        lambda z, y: (np.round(sigmoid(z)) - y) / len(y),
        lambda z, y: (sigmoid(z) - y).mean(0),
        lambda z, y: (sigmoid(z) - y).sum(1) / len(y),
        lambda z, y: ((sigmoid(z) - y) / len(y)).T,
        lambda z, y: ((1 - y) / (1 - sigmoid(z)) - y / sigmoid(z)) / len(y),
        lambda z, y: -y * sigmoid(-z) / len(y),
        lambda z, y: (np.exp(z) / (1 + np.exp(z)) - y) / len(y),  # inf / inf
        lambda z, y: (sigmoid(-z) - y) / len(y),
        lambda z, y: np.abs(sigmoid(z) - y) / len(y),
        lambda z, y: (sigmoid(z) - y)[:1] / len(y),
        lambda z, y: -np.mean(y * np.log(sigmoid(z)) + (1 - y) * np.log(sigmoid(-z))),
        lambda z, y: (1 / (1 + 2 ** (-z)) - y) / len(y),
    ],
    "gradients": [
        network(mean=False),
        network(output=naive_softmax),
        network(output=softmax_of_one_largest),
        network(output=softmax_down),
        network(output=clipped_softmax),
        network(output=sigmoid),
        network(output=lambda z: z),
        network(prime=lambda z, a: 1),
        network(prime=lambda z, a: z >= 0),
        network(prime=lambda z, a: a),
        network(prime=lambda z, a: z < 0),
        network(prime=lambda z, a: np.where(z > 0, 1, 0.01)),
        network(db=lambda delta: delta.mean(0)),
        network(db=lambda delta: delta.sum(0, keepdims=True)),
        network(db=lambda delta: delta),
        network(db=lambda delta: delta.sum()),
        network(dW=lambda delta, read: (delta.T @ read).T),
        network(dW=lambda delta, read: delta.T @ np.ones_like(read)),
        network(back=lambda delta, W: delta @ np.abs(W)),
        network(last=lambda delta, z: delta * (z > 0)),
        network(last=lambda delta, z: delta * softmax(z) * (1 - softmax(z))),
        network(last=lambda delta, z: -delta),
        network(add=False),
        network(activate=np.tanh),
        network(activate=np.abs),
        lambda *given: right(*given)[::-1],
        lambda *given: [pair[::-1] for pair in right(*given)],
        lambda *given: [value for pair in right(*given) for value in pair],
        lambda *given: [dW for dW, _ in right(*given)],
        lambda *given: right(*given)[0],
        two_layers,
        trains_meanwhile,
        without_the_first,
        first_example,
        reads_z,
        relu_at_the_end,
    ],
}

RIGHT = {
    "hidden_delta": [
        step_down,
        lambda z, W_above, delta_above: (W_above.T @ delta_above) * (z > 0),
        lambda z, W_above, delta_above: delta_above @ W_above * np.heaviside(z, 0),
        lambda z, W_above, delta_above: np.einsum(
            "jk,j,k->k", W_above, delta_above, (z > 0).astype(float)
        ),
        lambda z, W_above, delta_above: (
            (W_above[:, :] * delta_above[:, None]).sum(0)
            * np.array([1.0 if v > 0 else 0.0 for v in z])
        ),
        lambda z, W_above, delta_above: np.array(
            [W_above[:, k] @ delta_above if z[k] > 0 else 0 for k in range(len(z))]
        ),
        lambda *given: step_down(*given).astype(np.float32),
        neuron_by_neuron,
        masked_in_place,
        from_torch,
    ],
    "sigmoid_delta": [
        lambda z, y: (sigmoid(z) - y) / len(y),
        lambda z, y: (1 / (1 + np.exp(-z)) - y) / z.shape[0],
        lambda z, y: ((1 + np.tanh(z / 2)) / 2 - y) / len(z),
        lambda z, y: (np.exp(-np.logaddexp(0, -z)) - y) / len(y),
        lambda z, y: ((1 - y) * sigmoid(z) - y * sigmoid(-z)) / len(y),
        lambda z, y: np.vectorize(lambda s, t: float(s - t))(sigmoid(z), y) / len(y),
        lambda z, y: np.array(
            [(sigmoid(a) - b) / len(y) for a, b in zip(z, y, strict=True)]
        ),
        number_by_number,
        delta_by_torch,
        delta_by_autograd,
    ],
    "gradients": [
        right,
        network(prime=lambda z, a: a > 0),
        network(prime=lambda z, a: np.heaviside(z, 0)),
        lambda *given: [list(pair) for pair in right(*given)],
        lambda *given: tuple(right(*given)),
        functools.partial(network(output=lambda z: np.array(torch.tensor(z).softmax(1)))),
        example_by_example,
        recursive,
        by_logarithms,
        with_matrices_of_torch,
    ],
}
