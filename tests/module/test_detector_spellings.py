"""lessons_src.detector: other spellings of a bug are named, their sound twins are not.

Each pair is a rule that once missed a spelling, or took a sound training for a bug.
"""

import copy
import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, RandomSampler, TensorDataset

from benchmarks import detector, planted, planted_bugs
from benchmarks.planted import shuffled
from lessons_src import data, published, recipes
from lessons_src.data import Split
from lessons_src.detector import check_training

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def digits():
    """Part of MNIST, or of its stand-in."""
    whole = data.load("mnist")
    return replace(whole, train=whole.train[:6000], test=whole.test[:1000])


@pytest.fixture
def real_digits(digits):
    """What holds for MNIST alone: the stand-in's images are alike by making, and one channel
    does not learn sixteen of them."""
    if digits.standin:
        pytest.skip("a limit that is set for the real MNIST")


@pytest.fixture
def setting(digits):
    """A sound training of a perceptron."""
    return planted.sound("mlp", digits)


def kinds(setting) -> set[str]:
    """What is found in a training."""
    return check_training(**vars(setting)).kinds


def stepping(setting, step):
    """The training with step(model, x, y, optimizer) for every batch."""
    return replace(setting, train_epoch=planted_bugs.loop(step))


def with_forward(setting, forward):
    """The training of a network of two layers with another forward(self, x)."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc1, self.fc2 = nn.Linear(784, 64), nn.Linear(64, 10)

    Net.forward = forward
    return planted_bugs.with_model(setting, Net())


@pytest.mark.parametrize("zeroed", [("fc1",), ("fc2", "out"), ("fc1", "fc2", "out")])
def test_gradients_of_some_layers_are_not_zeroed(setting, zeroed):
    """Sound where all of them are."""

    def step(model, x, y, optimizer):
        for name in zeroed:
            getattr(model, name).zero_grad()
        setting.loss_fn(model(x), y).backward()
        optimizer.step()

    expected = set() if len(zeroed) == 3 else {"gradients_not_zeroed"}
    assert kinds(stepping(setting, step)) == expected


def test_a_step_after_the_loop_is_no_step_in_it(setting, digits):
    """Gradients of all batches, added up for one step, are meant."""
    after = planted_bugs.step_outside_the_loop.setting("mlp", digits)
    assert kinds(after) == {"gradients_lost", "no_step"}

    def train_epoch(model, train, optimizer):
        optimizer.zero_grad()
        batches = list(shuffled(train))
        for x, y in batches:
            (setting.loss_fn(model(x), y) / len(batches)).backward()
        optimizer.step()

    assert kinds(replace(setting, train_epoch=train_epoch)) == set()


@pytest.mark.parametrize(
    "size, divisor, found",
    [
        (768, lambda batches, n: 768 * batches, True),
        (100, lambda batches, n: 100 * batches, True),  # the last batch is not full
        (100, lambda batches, n: 54_000, True),
        (100, lambda batches, n: 1000, False),  # the size of the test split, written out
        (100, lambda batches, n: n, False),
    ],
)
@pytest.mark.parametrize("what", ["loss", "accuracy"])
def test_a_sum_is_divided_by_another_number(setting, size, divisor, found, what):
    """By full batches, or by a number that is that of other images."""

    @torch.no_grad()
    def evaluate(model, test):
        model.eval()
        loss = right = batches = 0
        for x, y in planted.in_order(test, size):
            z, batches = model(x), batches + 1
            loss += setting.loss_fn(z, y).item() * len(y)
            right += (z.argmax(1) == y).sum().item()
        return {"loss": loss, "accuracy": right}[what] / divisor(batches, len(test))

    found = {"reported_average"} if found else set()
    assert kinds(replace(setting, evaluate=evaluate)) == found


@pytest.mark.parametrize("how", ["never", "another", "each step", "now"])
def test_evaluation_of_another_network(setting, how):
    """A copy from before the training, or an unrelated network, has not learned what is
    trained; an average of the weights, or a copy made now, has."""
    average = torch.optim.swa_utils.AveragedModel(setting.model)
    other = planted.MLP()

    def step(model, x, y, optimizer):
        optimizer.zero_grad()
        setting.loss_fn(model(x), y).backward()
        optimizer.step()
        if how == "each step":
            average.update_parameters(model)

    def evaluate(model, test):
        copied = copy.deepcopy(model)
        called = {"now": copied, "another": other}.get(how, average)
        return setting.evaluate(called, test)

    expected = {"other_model"} if how in ("never", "another") else set()
    assert kinds(replace(stepping(setting, step), evaluate=evaluate)) == expected


@pytest.mark.parametrize("late", [True, False])
def test_weight_norm_around_the_optimizer(setting, late):
    """It makes new parameters: the optimizer is to be made after it."""
    if late:
        nn.utils.parametrizations.weight_norm(setting.model.fc2)
        assert kinds(setting) == {"not_in_optimizer"}
    else:
        nn.utils.parametrizations.weight_norm(setting.model.fc2)
        assert kinds(planted_bugs.with_model(setting, setting.model)) == set()


@pytest.mark.parametrize(
    "make, found",
    [
        (lambda p: torch.optim.AdamW(p, lr=1e-6), True),
        (lambda p: torch.optim.SGD(p, lr=1e-6), True),
        (lambda p: torch.optim.AdamW(p, lr=3e-5), False),
        (lambda p: torch.optim.SGD(p, lr=1e-3), False),
    ],
)
def test_a_rate_is_far_too_small(setting, make, found):
    """By how far the weights move: Adam's long sum of small steps hides it in the loss."""
    optimizer = make(setting.model.parameters())
    expected = {"learning_rate"} if found else set()
    assert kinds(replace(setting, optimizer=optimizer)) == expected


def test_a_rate_that_grows_by_hand_is_sound(setting):
    """A warm-up begins with tiny steps."""
    optimizer = torch.optim.AdamW(setting.model.parameters(), lr=1e-8)

    def step(model, x, y, optimizer):
        optimizer.zero_grad()
        setting.loss_fn(model(x), y).backward()
        optimizer.step()
        optimizer.param_groups[0]["lr"] += 1e-8

    assert kinds(replace(stepping(setting, step), optimizer=optimizer)) == set()


def test_softmax_over_the_batch_inside_the_network(setting):
    """A gate over dimension 0; over dimension 1 it is one."""
    for dim, expected in ((0, {"softmax_over_batch"}), (1, set())):

        def forward(self, x, dim=dim):
            x = F.relu(self.fc1(x.flatten(1)))
            return self.fc2(20 * x * x.softmax(dim))

        assert kinds(with_forward(setting, forward)) == expected


@pytest.mark.parametrize("reduction, found", [("mean", True), ("sum", False)])
def test_gradients_are_divided_after_backward(setting, reduction, found):
    """A summed loss makes a mean of them; of a mean loss they are divided twice."""

    def step(model, x, y, optimizer):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y, reduction=reduction).backward()
        for p in model.parameters():
            p.grad.div_(len(y))
        optimizer.step()

    expected = {"averaged_twice"} if found else set()
    assert kinds(stepping(setting, step)) == expected


@pytest.mark.parametrize("drawn_apart", [True, False])
def test_images_are_appended_with_labels(real_digits, setting, drawn_apart):
    """Half as many again, moved; their labels are of another draw, or their own."""
    images, labels = setting.train.images, setting.train.labels
    index = torch.randperm(len(labels))[:3000]
    more = labels[index.roll(1)] if drawn_apart else labels[index]
    images = torch.cat([images, images[index].roll(1, dims=3)])
    train = Split(images, torch.cat([labels, more]))
    expected = {"labels_apart"} if drawn_apart else set()
    assert kinds(replace(setting, train=train)) == expected


@pytest.mark.parametrize("part", [0.02, 0.4, 0.6, 0.98])
def test_mixup_by_two_losses(setting, part):
    """Whatever the part of each; with labels of others it is wrong where they count."""
    for apart in (False, True):

        def step(model, x, y, optimizer, apart=apart):
            order = torch.randperm(len(y))
            z = model(part * x + (1 - part) * x[order])
            others = y[order.roll(1)] if apart else y[order]
            loss = part * setting.loss_fn(z, y) + (1 - part) * setting.loss_fn(z, others)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

        expected = {"labels_apart"} if apart and part < 0.75 else set()
        assert kinds(stepping(setting, step)) == expected


def test_the_narrowest_recipe_raises_no_alarm(real_digits):
    """One channel and dropout: at a long step it can die, so that a second try is shorter."""
    loaded = data.load("mnist")
    loaded = replace(loaded, train=loaded.train[:6000], test=loaded.test[:1000])
    for seed in range(3):
        torch.manual_seed(seed)
        setting = detector.recipe_setting(published.AS_PUBLISHED["R1a"], loaded)
        assert detector.by_detector(setting) == []


@pytest.mark.parametrize("is_stepped", [True, False])
def test_a_step_that_calls_the_step_of_its_class(is_stepped):
    """Muon's step ends with AdamW's: one step, with one rate for every batch. (Of all
    images, since the first batches of a short schedule are near its peak.)"""
    torch.optim.AdamW([nn.Parameter(torch.zeros(1))])  # its class has its hooks now
    whole = data.load("mnist")
    setting = detector.recipe_setting(recipes.OWN["mnist-99.5-quick"], whole)
    if not is_stepped:
        plain = planted_bugs.loop(lambda *batch: one_step(setting.loss_fn, *batch))
        setting = replace(setting, train_epoch=plain)
    expected = set() if is_stepped else {"schedule_never_moves"}
    assert kinds(setting) == expected


class Branch(nn.Module):
    """(B, 1, 28, 28) -> logits (B, 10), with a branch beside a shortcut."""

    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Linear(784, 64), nn.Linear(64, 10)
        self.wide, self.back = nn.Linear(64, 96), nn.Linear(96, 64)

    def forward(self, x):
        x = self.embed(x.flatten(1)).tanh()
        return self.head(x + self.back(F.relu(self.wide(x))))


@pytest.mark.parametrize(
    "zeroed, found",
    [
        (("back",), False),
        (("back", "head"), False),  # the branch gets no gradient before the second step
        (("wide", "back"), True),
        (("wide", "back", "head"), True),
    ],
)
def test_a_branch_starts_at_zero(setting, zeroed, found):
    """Sound where its units come apart after some steps; two layers at zero never do."""
    model = Branch()
    for name in zeroed:
        nn.init.zeros_(getattr(model, name).weight)
        nn.init.zeros_(getattr(model, name).bias)
    expected = {"constant_init"} if found else set()
    assert kinds(planted_bugs.with_model(setting, model)) == expected


@pytest.mark.parametrize("minus", [True, False])
@pytest.mark.parametrize("maximize", [True, False])
@pytest.mark.parametrize("by_hand", [True, False])
def test_two_turns_of_the_sign_make_none(setting, minus, maximize, by_hand):
    """A minus and maximize=True are sound together; each alone goes uphill."""
    of, sign = setting.model.parameters(), -1 if minus else 1
    optimizer = torch.optim.SGD(of, 0.05, maximize=maximize)

    def loss_fn(z, y):
        picked = -z.log_softmax(1).gather(1, y[:, None]).mean()
        return sign * (picked if by_hand else F.cross_entropy(z, y))

    step = planted_bugs.loop(lambda *batch: one_step(loss_fn, *batch))
    expected = {"wrong_sign"} if minus != maximize else set()
    assert kinds(replace(setting, optimizer=optimizer, train_epoch=step)) == expected


@pytest.mark.parametrize(
    "way, found", [("up and down", False), ("up", True), ("nowhere", True)]
)
def test_the_gradient_of_another_place(setting, way, found):
    """Of two backward passes the first is used where it moves the weights and they come
    back before the step; where it is only zeroed, it is lost."""

    def step(model, x, y, optimizer):
        optimizer.zero_grad()
        setting.loss_fn(model(x[::2]), y[::2]).backward()
        with torch.no_grad():
            ups = [0.02 * p.grad / (p.grad.norm() + 1e-9) for p in model.parameters()]
            for p, up in zip(model.parameters(), ups, strict=True):
                p += up if way != "nowhere" else 0
        optimizer.zero_grad()
        setting.loss_fn(model(x[1::2]), y[1::2]).backward()
        with torch.no_grad():
            for p, up in zip(model.parameters(), ups, strict=True):
                p -= up if way == "up and down" else 0
        optimizer.step()

    expected = {"gradients_lost"} if found else set()
    assert kinds(stepping(setting, step)) == expected


@pytest.mark.parametrize(
    "in_time, late, found",
    [
        (1.0, None, False),
        (1.0, math.inf, False),  # asks for the norm
        (None, math.inf, False),
        (1.0, 1.0, False),
        (None, 1.0, True),
        (math.inf, 1.0, True),  # asks for the norm in time, and clips too late
    ],
)
def test_the_norm_is_asked_for(setting, in_time, late, found):
    """No bound, no clipping; what is clipped in time may be clipped once more."""

    def step(model, x, y, optimizer):
        optimizer.zero_grad()
        setting.loss_fn(model(x), y).backward()
        for bound, act in ((in_time, optimizer.step), (late, lambda: None)):
            if bound is not None:
                nn.utils.clip_grad_norm_(model.parameters(), max_norm=bound)
            act()

    expected = {"clipped_too_late"} if found else set()
    assert kinds(stepping(setting, step)) == expected


@pytest.mark.parametrize("whose", ["its own", "a copy's", "another head"])
def test_the_parts_of_the_model_are_called(setting, whose):
    """Without a call of model(x): sound where they are its parts, and all of them."""
    copied, head = copy.deepcopy(setting.model), nn.Linear(64, 10)

    def step(model, x, y, optimizer):
        parts = copied if whose == "a copy's" else model
        x = F.relu(parts.fc2(F.relu(parts.fc1(x.flatten(1)))))
        z = head(x) if whose == "another head" else parts.out(x)
        optimizer.zero_grad()
        setting.loss_fn(z, y).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    expected = set() if whose == "its own" else {"other_model"}
    assert kinds(stepping(setting, step)) == expected


@pytest.mark.parametrize(
    "probabilities, kind",
    [
        (lambda z: z.softmax(1).softmax(1), "softmax_twice"),
        (lambda z: (z.softmax(-1) / 0.5).softmax(1), "softmax_twice"),
        (lambda z: z.softmax(1).log_softmax(1).exp(), "softmax_twice"),
        (lambda z: z.softmax(1), None),
        (lambda z: z.log_softmax(1).log_softmax(-1).exp(), None),
        (lambda z: z.log_softmax(1).softmax(1), None),
        (lambda z: z.softmax(1).log().softmax(1), None),
        (lambda z: z.softmax(0), "softmax_over_batch"),
        (lambda z: z.log_softmax(-2).exp(), "softmax_over_batch"),
        (lambda z: z.softmax(1) * (z @ z.T).softmax(0).sum(0)[:, None], None),
    ],
)
def test_softmax_written_out_in_a_loss(setting, probabilities, kind):
    """Two in a row, or one over the batch; log-probabilities may go through once more, and
    images that are compared with each other are no answers."""

    def loss_fn(z, y):
        return -probabilities(z)[range(len(y)), y].log().mean()

    step = planted_bugs.loop(lambda *batch: one_step(loss_fn, *batch))
    found = kinds(replace(setting, loss_fn=loss_fn, train_epoch=step))
    assert found == ({kind} if kind else set())


@pytest.mark.parametrize("twice", [True, False])
def test_softmax_twice_before_a_layer_is_no_answer(setting, twice):
    """A gate is the network's own affair."""

    def forward(self, x):
        x = F.relu(self.fc1(x.flatten(1)))
        gate = x.softmax(1).softmax(1) if twice else x.softmax(1)
        return self.fc2(20 * x * gate)

    assert kinds(with_forward(setting, forward)) == set()


@pytest.mark.parametrize("part", ["train", "test"])
@pytest.mark.parametrize("how", [{"replacement": True}, {"num_samples": 500}])
def test_a_loader_draws_its_images(setting, part, how):
    """Training images may be drawn; drawn test images make two evaluations differ."""
    split = getattr(setting, part)
    images = TensorDataset(split.images, split.labels)
    loader = DataLoader(images, 50, sampler=RandomSampler(images, **how))

    @torch.no_grad()
    def evaluate(model, test):
        model.eval()
        return sum((model(x).argmax(1) == y).sum().item() for x, y in test)

    def train_epoch(model, train, optimizer):
        model.train()
        for x, y in train if part == "train" else shuffled(train):
            one_step(setting.loss_fn, model, x, y, optimizer)

    changed = {part: loader, "train_epoch": train_epoch}
    changed |= {"evaluate": evaluate} if part == "test" else {}
    expected = {"evaluation_random"} if part == "test" else set()
    assert kinds(replace(setting, **changed)) == expected


@pytest.mark.parametrize(
    "make, found",
    [
        (lambda p: torch.optim.SGD(p, 0.05, 5e-4, weight_decay=0.9), True),
        (lambda p: torch.optim.SGD(p, 0.05, 0.9, weight_decay=5e-4), False),
        (lambda p: torch.optim.SGD(p, 0.05, 0.9, weight_decay=0.02), False),  # strong
        (lambda p: torch.optim.AdamW(p, 0.01, weight_decay=1.0), False),
    ],
)
def test_weights_shrink_faster_than_they_learn(setting, make, found):
    """The loop's own optimizer is tried where its decay is strong, and put back."""
    optimizer = make(setting.model.parameters())
    before = copy.deepcopy(setting.model.state_dict())
    expected = {"cannot_overfit"} if found else set()
    assert kinds(replace(setting, optimizer=optimizer)) == expected
    assert not optimizer.state
    after = setting.model.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def one_step(loss_fn, model, x, y, optimizer):
    optimizer.zero_grad()
    loss_fn(model(x), y).backward()
    optimizer.step()
