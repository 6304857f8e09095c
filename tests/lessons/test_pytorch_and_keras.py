"""The appendix that lays Keras beside PyTorch: its equations, its copies, its steps."""

import os
import subprocess
import sys
from itertools import product

import keras
import numpy as np
import pytest
import torch
from lesson_source import ROOT, boxed, cells, close, definitions, drawn, notebook, tags
from torch import nn

from lessons_src import models
from lessons_src.data import Split

LESSON = "pytorch_and_keras"
FUNCTIONS = (
    "r4 r4_keras channel_last by_shape numbered order inverse_order keras_layout "
    "torch_layout to_keras to_torch answers_apart our_step their_step pair differences "
    "one_step aligned_eps rate_in_32_bits aligned_rate default starts spreads early_loss "
    "milliseconds"
)


def some_images(n=8, seed=0):
    """Images of noise, and labels."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(n, 1, 28, 28, generator=generator)
    return Split(images, torch.randint(10, (n,), generator=generator))


@pytest.fixture(scope="module")
def page():
    """What the appendix defines, as a namespace, on images of noise."""
    split = some_images()
    given = {
        "first": split.images,
        "labels": split.labels,
        "validation": split,
        "images_last": split.images.permute(0, 2, 3, 1),
    }
    return definitions(LESSON, *FUNCTIONS.split(), **given)


# Boxed equations ------------------------------------------------------------------------


def test_eq_flatten_order(page):
    """For every channel, row and column of maps of several sizes, flattened by PyTorch
    and by Keras's own layer, the number stands where the equation says."""
    assert boxed(LESSON, "eq-flatten-order") == r"i=cHW+hW+w,\qquadj=(hW+w)C+c"
    for C, H, W in ((1, 1, 1), (2, 3, 4), (3, 2, 2), (32, 5, 5)):
        maps = torch.arange(C * H * W).view(1, C, H, W)
        flat = maps.flatten(1)[0]
        theirs = keras.layers.Flatten()(maps.permute(0, 2, 3, 1))[0]
        for c, h, w in product(range(C), range(H), range(W)):
            i, j = c * H * W + h * W + w, (h * W + w) * C + c
            assert flat[i] == maps[0, c, h, w] == theirs[j]
            if (C, H, W) == (32, 5, 5):
                assert page["order"][j] == i


@pytest.mark.parametrize("epsilon", [1e-8, 1e-7, 1e-3])
def test_eq_adam_epsilon(page, epsilon):
    """Both optimisers, 60 steps on drawn gradients of all sizes: with the epsilon of the
    equation each step is the same; with an equal one the first steps are not."""
    assert boxed(LESSON, "eq-adam-epsilon") == (
        r"\epsilon_{\text{PyTorch}}="
        r"\frac{\epsilon_{\text{Keras}}}{\sqrt{1-\beta_2^t}}"
    )
    sizes = torch.logspace(-12, 1, 40)
    for aligned in (True, False):
        theirs = keras.Variable(np.zeros(40, dtype="float32"))
        optimizer = keras.optimizers.Adam(epsilon=epsilon)
        ours = nn.Parameter(torch.zeros(40))
        adam = torch.optim.Adam([ours])
        worst = []
        for t in range(1, 61):
            ours.grad = sizes * drawn((40,), seed=t).float()
            eps = page["aligned_eps"](epsilon, 0.999, t) if aligned else epsilon
            adam.param_groups[0]["eps"] = eps
            old = ours.detach().clone(), theirs.value.detach().clone()
            adam.step()
            optimizer.apply([ours.grad], [theirs])
            steps = ours.detach() - old[0], theirs.value.detach() - old[1]
            worst.append((steps[0] - steps[1]).abs().max().item() / 0.001)
        if aligned:
            assert max(worst) < 1e-3
        else:
            assert worst[0] > 0.5


def test_epsilon_of_later_steps(page):
    """It falls to Keras's own as the correction fades."""
    values = [page["aligned_eps"](1e-7, 0.999, t) for t in (1, 10, 1000, 100_000)]
    assert values == sorted(values, reverse=True)
    close(values[0], 1e-7 / 0.001**0.5)
    close(values[-1], 1e-7)


# The two networks -----------------------------------------------------------------------


def test_both_spellings_are_r4(page):
    """Our spelling is the network of the course; Keras's has as many parameters and the
    same sizes after each layer."""
    ours, theirs = page["r4"](), page["r4_keras"]()
    assert [p.shape for p in ours.parameters()] == [
        p.shape for p in models.r4().parameters()
    ]
    assert str(ours) == str(models.r4())
    assert theirs.count_params() == sum(p.numel() for p in ours.parameters()) == 280_186
    assert theirs.output_shape == (None, 10)
    x, sizes = torch.zeros(1, 1, 28, 28), []
    for layer in ours:
        x = layer(x)
        if isinstance(layer, nn.MaxPool2d):
            sizes.append((None, *x.shape[2:], x.shape[1]))
    pools = [layer for layer in theirs.layers if "Pooling" in type(layer).__name__]
    assert [layer.output.shape for layer in pools] == sizes


@pytest.mark.parametrize("seed", range(3))
def test_copied_weights_give_equal_outputs_both_ways(page, seed):
    """To 1e-5, on drawn images, from PyTorch to Keras and from Keras to PyTorch; a copy
    that comes home is the same to the last bit."""
    keras.utils.set_random_seed(seed)
    images = some_images(16, seed).images
    for to_keras in (True, False):
        ours, theirs, home = page["r4"](), page["r4_keras"](), page["r4"]()
        if to_keras:
            page["to_keras"](ours, theirs)
        else:
            page["to_torch"](theirs, ours)
        with torch.no_grad():
            close(theirs(page["channel_last"](images)), ours(images), 1e-5)
        page["to_torch"](theirs, home)
        assert all(map(torch.equal, ours.parameters(), home.parameters()))


def test_layouts_are_inverse(page):
    """Each weight comes back from Keras's layout as it was."""
    for p in page["r4"]().parameters():
        w = p.detach()
        assert page["torch_layout"](page["keras_layout"](w)).equal(w)


def test_shapes_alone_move_weights_wrongly(page):
    """By shape alone nothing is raised, and answers differ."""
    ours, theirs = page["r4"](), page["r4_keras"]()
    theirs.set_weights([page["by_shape"](p.detach()).numpy() for p in ours.parameters()])
    assert page["answers_apart"](ours, theirs) > 1e-4
    page["to_keras"](ours, theirs)
    assert page["answers_apart"](ours, theirs) < 1e-5


# Steps ----------------------------------------------------------------------------------


def test_one_step_is_equal_with_defaults_aligned(page):
    """SGD at once; Adam with the epsilon of the equation, and not with an equal one."""
    adam, sgd = keras.optimizers.Adam, keras.optimizers.SGD
    step, eps = page["one_step"], page["aligned_eps"](1e-7, 0.999, 1)
    assert step(sgd(0.1), torch.optim.SGD, lr=0.1).max() < 1e-6
    assert step(adam(), torch.optim.Adam, eps=eps).max() < 1e-5
    assert step(adam(), torch.optim.Adam).max() > 1e-4
    assert step(adam(epsilon=1e-8), torch.optim.Adam, eps=1e-8).max() > 1e-4


def test_the_rate_in_32_bits_is_kerass(page):
    """Ten steps on a gradient far above epsilon: Keras moves by the rate in 32 bits,
    PyTorch at the aligned rate too."""
    theirs, ours = keras.Variable(np.zeros(1, "float32")), nn.Parameter(torch.zeros(1))
    optimizer, adam = keras.optimizers.Adam(), torch.optim.Adam([ours], eps=0)
    ours.grad = torch.ones(1)
    m = v = 0.0
    for t in range(1, 11):
        before = theirs.value.detach().double().item()
        adam.param_groups[0]["lr"] = page["aligned_rate"](0.001, t)
        adam.step()
        optimizer.apply([ours.grad], [theirs])
        m, v = 0.9 * m + 0.1, 0.999 * v + 0.001
        moved = before - theirs.value.detach().double().item()
        close(moved, page["rate_in_32_bits"](0.001, t) * m / v**0.5, 3e-8)
        close(ours, theirs.value, 2e-8)
        exact = 0.001 * (1 - 0.999**t) ** 0.5 / (1 - 0.9**t)
        close(page["rate_in_32_bits"](0.001, t) / exact, 1, 1e-3)


@pytest.mark.parametrize("seed", [1, 2])
def test_a_training_is_equal_with_all_aligned(page, seed):
    """Six steps on images of noise with epsilon, memory and corrections aligned: the
    losses agree, and the weights stay within a twentieth of one step of Adam."""
    ours, theirs = page["pair"](keras.optimizers.Adam(), seed)
    adam = torch.optim.Adam(ours.parameters())
    for t in range(1, 7):
        split = some_images(16, t)
        adam.param_groups[0]["eps"] = page["aligned_eps"](1e-7, 0.999, t)
        adam.param_groups[0]["lr"] = page["aligned_rate"](0.001, t)
        loss = page["our_step"](ours, adam, split.images, split.labels)
        close(loss, page["their_step"](theirs, split.images, split.labels), 1e-5)
    assert page["differences"](ours, theirs).max() < 5e-5


# Defaults, starts, price ----------------------------------------------------------------


def test_defaults_are_read_from_the_library(page):
    """The helper gives what the signature holds, also after it has changed."""

    def function(size, rate=0.25):
        return size * rate

    assert page["default"](function, "rate") == 0.25
    function.__defaults__ = (0.5,)
    assert page["default"](function, "rate") == 0.5


def test_starts_are_each_librarys_own(page):
    """PyTorch's are uniform within 1/√n, Keras's within √(6/(n + outputs)) with biases
    of 0."""
    ours, theirs = page["starts"](0)
    for mine, other in zip(ours, theirs, strict=True):
        if not isinstance(mine, nn.Conv2d | nn.Linear):
            continue
        n, out = mine.weight[0].numel(), mine.weight[:, 0].numel()
        assert 0.9 * n**-0.5 < mine.weight.abs().max() <= n**-0.5
        bound = (6 / (n + out)) ** 0.5
        assert 0.9 * bound < other.weight.abs().max() <= bound
        assert mine.bias.abs().max() > 0 and other.bias.abs().max() == 0


def test_spreads_are_standard_deviations(page):
    """Of each weight layer's outputs over the images, averaged over its units."""
    network = page["r4"]()
    found = page["spreads"](network)
    assert len(found) == 7
    with torch.no_grad():
        x = page["validation"].images
        close(found[0], network[0](x).std(0).mean(), 1e-6)
        close(found[-1], network(x).std(0).mean(), 1e-6)


def test_calls_take_turns(page, monkeypatch):
    """Each is called once to warm up, which does not count, and then once a round, in
    turn; the median is given in milliseconds."""
    order, now = [], [0.0]
    clock = type("Clock", (), {"perf_counter": staticmethod(lambda: now[0])})
    monkeypatch.setitem(page, "time", clock)

    def taking(name, seconds):
        def call():
            order.append(name)
            slow = len(order) <= 2 or len(order) >= 7  # the warm-up, and the last round
            now[0] += seconds * (10 if slow else 1)

        return call

    found = page["milliseconds"]({"a": taking("a", 1), "b": taking("b", 2)}, rounds=3)
    assert order == ["a", "b"] * 4
    assert found == {"a": 1000, "b": 2000}


def test_early_loss_is_that_of_the_last_steps(page):
    """Eighteen steps of the page's own training, batch by batch; the mean of five."""
    torch.manual_seed(0)
    network = page["r4"]()
    again = page["r4"]()
    again.load_state_dict(network.state_dict())
    split = page["train_part"] = some_images(18 * 32, 1)
    adam, found = torch.optim.Adam(again.parameters()), []
    for x, y in zip(split.images.split(32), split.labels.split(32), strict=True):
        found.append(page["our_step"](again, adam, x, y))
    close(page["early_loss"](network), sum(found[13:]) / 5, 1e-5)


# Keras leaves nothing behind --------------------------------------------------------------


@pytest.mark.slow
def test_importing_keras_needs_no_home(tmp_path):
    """The page's own settings, where the home folder cannot be written: the backend is
    PyTorch on the CPU, and Keras makes no file of its own."""
    (cell,) = (c.source for c in cells(LESSON) if c.source.startswith("import os\n"))
    settings = cell.partition("import keras\n")[0]
    home = tmp_path / "home"
    home.mkdir()
    home.chmod(0o500)
    code = (
        f"{settings}\nimport keras\n"
        "print(keras.backend.backend(), keras.ops.zeros(1).device)"
    )
    kept = {k: v for k, v in os.environ.items() if not k.startswith("KERAS_")}
    paths = [str(ROOT), *(p for p in sys.path if p)]
    env = {**kept, "HOME": str(home), "PYTHONPATH": os.pathsep.join(paths)}
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={**env, "KERAS_TORCH_DEVICE": "meta", "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.split() == ["torch", "cpu"]
    assert not list(tmp_path.rglob("*keras*"))


def test_the_page_stands_side_by_side():
    """The network and a step stand beside each other in pairs, PyTorch first."""
    beside = [cell.source for cell in notebook(LESSON).cells if "beside" in tags(cell)]
    assert len(beside) >= 6
    assert all(source.startswith("# PyTorch\n") for source in beside[::2])
    assert all(source.startswith("# Keras\n") for source in beside[1::2])
