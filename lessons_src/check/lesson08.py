"""Checkers of lesson 08's exercises: a convolutional network on MNIST."""

import torch
import torch.nn.functional as F
from torch import nn

from lessons_src.check import Case, exercise


def _drawn(*shapes, seed=8):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(*shape, dtype=torch.float64, generator=generator) for shape in shapes]


def count(answer) -> bool:
    """count(convs, hidden, size): the parameters of a convolutional network."""
    hints = {
        (((8, 3),), 16, 28): "One convolution: 8 kernels of 9 weights, a bias each, and maps of "
        "13×13 after the pool. Does every linear output have a bias?",
        (((20, 5), (30, 5)), 60, 28): "This is R1b. A kernel of the second convolution has weights "
        "for all 20 channels before it.",
        (((4, 3), (6, 4)), 7, 15): "The size may be odd before a pool, which rounds down, and need "
        "not be 28.",
        ((), 5, 4): "With no convolution the image itself is flattened.",
    }
    cases = []
    for (convs, hidden, size), hint in hints.items():
        layers, c_in = [], 1
        for c_out, k in convs:
            layers += [nn.Conv2d(c_in, c_out, k), nn.MaxPool2d(2)]
            c_in = c_out
        with torch.no_grad():
            n = nn.Sequential(*layers)(torch.zeros(1, 1, size, size)).numel()
        layers += [nn.Linear(n, hidden), nn.Linear(hidden, 10)]
        total = sum(p.numel() for layer in layers for p in layer.parameters())
        cases.append(Case((list(convs), hidden, size), total, hint))
    return exercise("count", answer, cases)


def dead_channels(answer) -> bool:
    """dead_channels(maps): which channels are zero at every place of every image."""
    maps = _drawn((4, 5, 3, 3))[0].relu()
    some = maps.clone()
    some[:, [1, 4]] = 0
    sparse = torch.zeros(3, 6, 2, 2)
    sparse[2, 3, 1, 0] = 1e-6
    one_image = maps.clone()
    one_image[0] = 0
    inputs = [
        (some, "Channels are dimension 1: go along images, rows and columns."),
        (maps, "No channel is dead here: an empty list."),
        (one_image, "An image without any response does not make a channel dead: look at all of "
         "them."),
        (sparse, "One small value at one place of one image, and the channel is alive."),
    ]  # fmt: skip
    cases = []
    for given, hint in inputs:
        on = given.flatten(2).sum((0, 2))
        cases.append(Case((given,), [c for c, s in enumerate(on) if s == 0], hint,
                          f"maps {tuple(given.shape)}"))  # fmt: skip
    return exercise("dead_channels", answer, cases)


def block(answer) -> bool:
    """block(c_in, c_out, k, pool): convolution, pool where wanted, norm, ReLU."""
    hints = {
        (1, 4, 3, False): "Value 1 lists the layers, value 2 is the shape for an image of 12×12, "
        "value 3 the number of parameters: the convolution has no bias.",
        (3, 5, 3, True): "With pool=True a max-pool of 2 stands directly behind the convolution, "
        "before the norm.",
        (2, 6, 5, True): "The kernel's size is an argument, and nothing is padded.",
    }

    def run(c_in, c_out, k, pool):
        made = answer(c_in, c_out, k, pool)
        if made is None or made is Ellipsis:
            return None
        x = _drawn((2, c_in, 12, 12))[0].float()
        with torch.no_grad():
            shape = tuple(made(x).shape)
        parameters = sum(p.numel() for p in made.parameters())
        return " ".join(type(layer).__name__ for layer in made), shape, parameters

    def reference(c_in, c_out, k, pool):
        side = (12 - k + 1) // (2 if pool else 1)
        layers = ["Conv2d", *["MaxPool2d"] * pool, "BatchNorm2d", "ReLU"]
        return " ".join(layers), (2, c_out, side, side), c_out * c_in * k * k + 2 * c_out

    cases = [Case(given, reference(*given), hint) for given, hint in hints.items()]
    return exercise("block", run if callable(answer) else answer, cases)


def fold(answer) -> bool:
    """fold(w, gamma, beta, mean, var, eps): convolution and batch norm as one convolution."""
    eye = torch.ones(3).double()
    inputs = [
        ((2, 3, 3), {"beta": 0 * eye[:2], "mean": 0 * eye[:2]}, 0.0,
         "Only the scale is at work here: γ divided by the root of the variance, for each output "
         "channel."),
        ((3, 3, 1), {}, 1e-5, "As many outputs as inputs here: the factor belongs to the output "
         "channel, dimension 0. Value 2 is the bias: β less the scaled mean."),
        ((4, 2, 5), {"var": torch.zeros(4).double()}, 0.5,
         "Here the variance is 0: ε stands under the root, and keeps it from being zero."),
    ]  # fmt: skip
    cases = []
    for (c_out, c_in, k), given, eps, hint in inputs:
        w, *rest = _drawn((c_out, c_in, k, k), (c_out,), (c_out,), (c_out,), (c_out,), seed=c_out)
        parts = dict(zip(("gamma", "beta", "mean", "var"), rest, strict=True))
        parts["var"] = parts["var"].square() + 0.1
        parts |= given
        cases.append(Case((w, *parts.values(), eps), _folded(w, eps, **parts), hint,
                          f"w {tuple(w.shape)}, eps = {eps}"))  # fmt: skip
    return exercise("fold", answer, cases)


def _folded(w, eps, gamma, beta, mean, var):
    """The one convolution, read off from what the two layers make of zeros and of unit pixels."""
    c_out, c_in, k, _ = w.shape
    pixels = torch.eye(c_in * k * k, dtype=w.dtype).view(-1, c_in, k, k)
    given = torch.cat([torch.zeros_like(pixels[:1]), pixels])  # (1 + C_in k k, C_in, k, k)
    out = F.batch_norm(F.conv2d(given, w), mean, var, gamma, beta, eps=eps).flatten(1)
    return (out[1:] - out[0]).T.reshape(w.shape), out[0]


def go_on(answer) -> bool:
    """go_on(state, x, y, n): n more steps, so that parts of a run give what the whole gives."""
    x, w, v = _drawn((20, 3), (3,), (3,))
    y = x.sum(1)
    start = {"w": w, "v": 0 * v, "t": 0, "random": torch.Generator().manual_seed(1).get_state()}
    later = start | {"v": v, "t": 5}
    tried = [
        (start, (1,), "One step from the start. The gradient is xᵀ(xw − y)/8 over the 8 examples "
         "drawn; then the velocity, then the weights."),
        (start, (3,), "The generator is set once and then goes on; the rate uses the t of each "
         "step."),
        (later, (2,), "The velocity and t come from the state: not from zero."),
        (start, (3, 4), "3 steps and then 4: the new state must hold the new velocity, the new t "
         "and the generator's new state."),
        (start, (2, "again"), "The same state was given twice and gave two results: something "
         "changed it in place."),
    ]  # fmt: skip
    cases = []
    for state, parts, hint in tried:
        expected = _steps(state, x, y, sum(n for n in parts if n != "again"))
        shown = "t = {}, then {} steps".format(state["t"], " and ".join(map(str, parts)))
        cases.append(Case((state, parts), expected, hint, shown))

    def run(state, parts):
        state = {k: s.clone() if isinstance(s, torch.Tensor) else s for k, s in state.items()}
        first = state
        for n in parts:
            if n == "again":
                state, n = first, parts[0]
            state = answer(state, x.clone(), y.clone(), n)
            if state is None or state is Ellipsis:
                return None
        return state

    return exercise("go_on", run if callable(answer) else answer, cases, tolerance=1e-9)


def _steps(state, x, y, n):
    w = state["w"].clone().requires_grad_()
    optimizer = torch.optim.SGD([w], lr=1, momentum=0.9)
    optimizer.state[w]["momentum_buffer"] = state["v"].clone()
    generator = torch.Generator()
    generator.set_state(state["random"])
    for t in range(state["t"], state["t"] + n):
        index = torch.randint(len(x), (8,), generator=generator)
        optimizer.param_groups[0]["lr"] = 0.1 / (1 + t)
        loss = 0.5 * F.mse_loss(x[index] @ w, y[index])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    v = optimizer.state[w]["momentum_buffer"]
    return {"w": w.detach(), "v": v, "t": state["t"] + n, "random": generator.get_state()}
