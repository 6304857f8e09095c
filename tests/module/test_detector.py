"""lessons_src.detector: it names planted bugs, is silent on the sound, changes nothing."""

import contextlib
import copy
import math
import random
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from swept import some
from torch import nn
from torch.utils.data import DataLoader, Subset, TensorDataset, WeightedRandomSampler

from benchmarks import planted, planted_bugs
from lessons_src import data
from lessons_src.detector import KINDS, Finding, Findings, check_training
from lessons_src.detector.checks import CAUSES, SYMPTOMS, mixed_apart
from lessons_src.detector.evidence import numbers_in, shared, simulated
from lessons_src.detector.findings import FOLLOWS
from lessons_src.detector.watch import Snapshot, Watch, part

KNOWN = [planted.zero_grad_is_missing, *planted.bugs_of(planted_bugs)]
BUGS = [bug for bug in KNOWN if bug.kind]
SOUND = [bug for bug in KNOWN if not bug.kind]


@pytest.fixture(scope="module")
def digits():
    """Part of MNIST, or of its stand-in."""
    whole = data.load("mnist")
    return replace(whole, train=whole.train[:6000], test=whole.test[:1000])


def check(setting, **changes):
    """What is found in a training, with some arguments changed."""
    return check_training(**(vars(setting) | changes))


# What is found -------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_a_planted_bug_is_named(bug, digits):
    """Its kind is among the findings, and with it a sentence on what was seen. Weights,
    buffers, optimizer and the random state of torch are as they were before."""
    setting = bug.setting(bug.networks[-1], digits)
    held = setting.model, setting.optimizer
    before = [bits(thing.state_dict()) for thing in held]
    random_state = torch.get_rng_state()
    found = check(setting)
    assert bug.kind in found.kinds
    assert all(finding.seen.endswith(".") for finding in found)
    assert same(before, [thing.state_dict() for thing in held]), "not put back"
    assert torch.equal(random_state, torch.get_rng_state())


@pytest.mark.parametrize("bug", SOUND, ids=lambda bug: bug.name)
def test_a_sound_training_is_left_alone(bug, digits):
    """However odd it looks, nothing is found."""
    assert check(bug.setting(bug.networks[-1], digits)) == []


@pytest.mark.parametrize("seed", some(range(3), lambda seed: seed < 2))
@pytest.mark.parametrize("network", planted.NETWORKS)
def test_sound_beginnings_are_sound(network, seed, digits):
    """The trainings into which bugs are planted have none, with other seeds too."""
    assert check(planted.sound(network, digits, seed)) == []


def test_every_kind_is_planted():
    """No kind of finding is without a bug that shows it, and no bug without a kind."""
    assert {bug.kind for bug in BUGS} == KINDS.keys()


def test_what_follows_from_a_cause_is_a_kind():
    """The table of consequences speaks of kinds, and none hides itself."""
    for kind, hidden in FOLLOWS.items():
        assert {kind} | hidden <= KINDS.keys() and kind not in hidden


def test_symptoms_alone_are_looked_for_last():
    """A training with a cause is not trained further to see whether it overfits."""
    assert not set(SYMPTOMS) & set(CAUSES) and len(CAUSES) == len(set(CAUSES))


def test_two_bugs_are_both_named(digits):
    """One does not hide the other."""
    setting = planted_bugs.softmax_in_the_network.setting("bn", digits)
    setting = replace(setting, best_state=setting.model.state_dict())
    assert {"softmax_twice", "best_state_is_live"} <= check(setting).kinds


def test_numbers_are_those_of_the_training(digits):
    """The softmax over the batch, the layers and the schedule are reported as they are."""
    by_batch = check(planted_bugs.step_by_the_batch.setting("mlp", digits))
    batches = math.ceil(6000 / 64)
    assert (
        f"of the {batches} batches" in by_batch[0].seen
        and "from 0.05" in by_batch[0].seen
    )
    repeated = check(planted_bugs.one_layer_three_times.setting("mlp", digits))
    assert "5 layers with parameters, but only 3 different" in repeated[0].seen
    last = check(planted_bugs.test_is_the_training_set.setting("mlp", digits))
    assert "100% of the test images are training images" in last[0].seen


def test_the_report_reads_well():
    """Number, kind, what it is; then seen, why and do; no line is longer than 84."""
    findings = Findings([Finding(kind, f"a number, {math.pi:.2f}.") for kind in KINDS])
    text = repr(findings)
    assert text.startswith("1. gradients_not_zeroed: old gradients are added to")
    assert text.count("   seen  a number, 3.14.") == len(KINDS)
    assert max(map(len, text.splitlines())) <= 100
    assert str(findings) == text and repr(Findings()) == "Nothing found."


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_says_why_and_what_to_do(kind):
    """In whole sentences."""
    what, why, do = KINDS[kind]
    assert what[0].islower() or what.startswith(("ReLU", "[layer]", "(B, 1)"))
    assert why.endswith(".") and do.endswith((".", ".)"))


# Nothing is changed --------------------------------------------------------------------


class Everything(nn.Module):
    """A network with batch norm, dropout, a list of its own and a counter."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 4, 5, stride=3), nn.BatchNorm2d(4)
        self.drop, self.fc = nn.Dropout(0.3), nn.Linear(256, 10)
        self.hidden = [nn.Linear(10, 10)]
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        x = self.drop(F.relu(self.norm(self.conv(x))).flatten(1))
        return self.hidden[0](F.relu(self.fc(x)))


def bits(thing):
    """A copy of all that is held, with which to compare."""
    return copy.deepcopy(thing)


def state_of(model, optimizer, scheduler, generator):
    """All state that a training depends on, as plain values."""
    tensors = [*model.parameters(), *model.buffers(), *model.hidden[0].parameters()]
    numpy = np.random.get_state()
    return {
        "tensors": [t.detach().clone() for t in tensors],
        "addresses": [t.data_ptr() for t in tensors],
        "grads": [None if t.grad is None else t.grad.clone() for t in tensors],
        "asks": [t.requires_grad for t in tensors],
        "modes": [module.training for module in model.modules()],
        "calls": model.calls,
        "hooks": [
            len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()
        ],
        "optimizer": bits(optimizer.state_dict()),
        "scheduler": bits(scheduler.state_dict()),
        "attributes": sorted(vars(optimizer)) + sorted(vars(scheduler)),
        "generator": generator.get_state(),
        "random": random.getstate(),
        "numpy": (numpy[1].tolist(), *numpy[2:]),
        "torch": torch.get_rng_state(),
    }


def same(a, b) -> bool:
    """Equal to the last bit, at any depth."""
    if torch.is_tensor(a):
        return torch.is_tensor(b) and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def prepared(digits):
    """A training in the middle: trained for some steps, with gradients, one layer frozen."""
    torch.manual_seed(0)
    model, generator = Everything(), torch.Generator().manual_seed(3)
    parameters = [*model.parameters(), *model.hidden[0].parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=0.01)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 20)
    train, test = digits.normalised()

    def train_epoch(model, split, optimizer):
        model.train()
        for index in torch.randperm(len(split), generator=generator).split(64):
            np.random.rand()
            random.random()
            loss = F.cross_entropy(model(split.images[index]), split.labels[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        scheduler.step()
        split.images.zero_()  # the part, not the reader's images

    def evaluate(model, split):
        model.eval()
        model.fc.requires_grad_(False)
        return (model(split.images).argmax(1) == split.labels).float().mean().item()

    model.conv.bias.requires_grad_(False)
    train_epoch(model, train[:128], optimizer)
    F.cross_entropy(model(train.images[:8]), train.labels[:8]).backward()
    model.drop.eval()
    arguments = model, F.cross_entropy, optimizer, train_epoch, train
    options = {"evaluate": evaluate, "test": test, "scheduler": scheduler}
    return arguments, options, generator


def test_everything_is_put_back(digits):
    """Weights, buffers, gradients, modes, requires_grad, optimizer, scheduler, hooks and
    every random state, to the last bit and at the same address; the data too."""
    arguments, options, generator = prepared(digits)
    model, _, optimizer, _, train = arguments
    before = state_of(model, optimizer, options["scheduler"], generator)
    images = train.images.clone()
    found = check_training(*arguments, **options)
    after = state_of(model, optimizer, options["scheduler"], generator)
    wrong = [key for key in before if not same(before[key], after[key])]
    assert not wrong
    assert torch.equal(images, train.images)
    assert found.kinds >= {"evaluation_changes_model"}


def test_everything_is_put_back_after_an_error(digits):
    """An error in the loop comes through as it is, and nothing stays changed."""
    arguments, options, generator = prepared(digits)
    model, loss_fn, optimizer, train_epoch, train = arguments

    def broken(model, split, optimizer):
        train_epoch(model, split, optimizer)
        raise ZeroDivisionError("mine")

    before = state_of(model, optimizer, options["scheduler"], generator)
    with pytest.raises(ZeroDivisionError, match="mine"):
        check_training(model, loss_fn, optimizer, broken, train, **options)
    after = state_of(model, optimizer, options["scheduler"], generator)
    assert [key for key in before if not same(before[key], after[key])] == []
    assert nn.utils.clip_grad_norm_.__name__ == "clip_grad_norm_"


def test_training_after_a_check_is_training_without_one(digits):
    """The weights after an epoch are equal, whether it was checked before or not."""
    weights = []
    for checked in (False, True):
        arguments, options, _ = prepared(digits)
        model, _, optimizer, train_epoch, train = arguments
        if checked:
            check_training(*arguments, **options)
        train_epoch(model, train[:200], optimizer)
        weights.append([p.detach().clone() for p in model.parameters()])
    assert same(*weights)


def test_what_the_loop_prints_is_not_shown(digits, capsys):
    """A notebook shows the findings alone."""
    setting = planted.sound("mlp", digits)

    def train_epoch(model, train, optimizer):
        setting.train_epoch(model, train, optimizer)
        print("epoch 1")

    check(setting, train_epoch=train_epoch)
    assert capsys.readouterr().out == ""


# A loop is stopped, a part is faithful -------------------------------------------------


def test_a_loop_over_all_data_is_stopped(digits):
    """One that ignores the part it is given sees some hundred images, not all."""
    setting, passes = planted.sound("mlp", digits), []
    setting.model.register_forward_hook(lambda m, x, out: passes.append(len(out)))

    def train_epoch(model, train, optimizer):
        setting.train_epoch(model, setting.train, optimizer)

    def evaluate(model, test):
        return setting.evaluate(model, setting.test)

    assert check(setting, train_epoch=train_epoch, evaluate=evaluate) == []
    assert sum(passes) < 6000


def test_a_loop_that_catches_exceptions_is_stopped(digits):
    """The end is no Exception."""
    setting = planted.sound("mlp", digits)

    def train_epoch(model, train, optimizer):
        while True:
            with contextlib.suppress(Exception):
                setting.train_epoch(model, train, optimizer)

    assert check(setting, train_epoch=train_epoch) == []


def test_a_part_of_a_split_is_evenly_spaced(digits):
    """256 of all examples, first and last among them; sorted ones stay sorted."""
    order = digits.train.labels.argsort(stable=True)
    few = part("train", digits.train[order], 256)
    assert len(few.given) == 256 and few.total == 6000
    assert few.labels.equal(few.labels.sort().values) and len(few.labels.unique()) == 10


def test_a_part_of_a_loader_is_a_loader(digits):
    """With its batch size, collate and order; shuffled where it was; its lengths agree."""
    dataset = TensorDataset(torch.arange(1000.0)[:, None], torch.arange(1000) % 10)
    for shuffle in (False, True):
        few = part("train", DataLoader(dataset, 50, shuffle=shuffle), 256)
        seen = torch.cat([x for x, _ in few.given]).flatten()
        assert len(few.given.dataset) == 256 == len(seen) and len(few.given) == 6
        assert bool((seen.diff() > 0).all()) != shuffle
        assert few.images.flatten().equal(seen) and few.total == 1000


def test_a_loader_with_a_sampler_of_its_own_gives_its_first_batches():
    """As many as are needed, with a length for those who divide by it."""
    dataset = TensorDataset(torch.randn(500, 3), torch.arange(500) % 10)
    sampler = WeightedRandomSampler(torch.ones(500), 500)
    few = part("train", DataLoader(dataset, 100, sampler=sampler), 256)
    assert len(few.given) == 3 and len(few.given.dataset) == 300 == len(few.images)


def test_a_part_of_batches_is_a_copy():
    """A loop that divides in place does not change the reader's list."""
    batches = [(torch.ones(64, 3), torch.zeros(64).long()) for _ in range(20)]
    for x, _ in part("train", batches, 256).given:
        x.zero_()
    assert all(x.sum() == 192 for x, _ in batches)


@pytest.mark.parametrize(
    "form",
    [
        lambda s: s,
        lambda s: (s.images, s.labels),
        lambda s: DataLoader(TensorDataset(s.images, s.labels), 64, shuffle=True),
        lambda s: list(planted.shuffled(s)),
    ],
    ids=["Split", "pair", "DataLoader", "list"],
)
def test_every_form_of_data(form, digits):
    """The loop gets what it takes, a part of it; the sound is sound in every form."""
    setting = planted.sound("cnn", digits)

    def batches(train):
        if isinstance(train, tuple):
            train = SimpleNamespace(images=train[0], labels=train[1])
        if hasattr(train, "images"):
            return zip(train.images.split(64), train.labels.split(64), strict=True)
        return train

    def train_epoch(model, train, optimizer):
        model.train()
        for x, y in batches(train):
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()

    @torch.no_grad()
    def evaluate(model, test):
        model.eval()
        return sum((model(x).argmax(1) == y).sum().item() for x, y in batches(test))

    given = {"train": form(setting.train), "test": form(setting.test)}
    assert check(setting, train_epoch=train_epoch, evaluate=evaluate, **given) == []


# Bad arguments -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes, error, message",
    [
        ({"model": F.relu}, TypeError, "model: expected an nn.Module"),
        ({"optimizer": 0.1}, TypeError, "optimizer: expected a torch.optim.Optimizer"),
        ({"train_epoch": None}, TypeError, "train_epoch: expected a function"),
        ({"evaluate": 3}, TypeError, "evaluate: expected a function"),
        ({"scheduler": "cosine"}, TypeError, "scheduler: expected one with a step"),
        ({"best_state": "best.pt"}, TypeError, "best_state: expected a state dict"),
        ({"test": None}, ValueError, "evaluate and test belong together"),
        ({"train": 5}, ValueError, "train: expected a Split, .* received int"),
        ({"train": iter([])}, ValueError, "write list"),
        ({"train": []}, ValueError, "train: expected a Split"),
        ({"test": torch.ones(3)}, ValueError, "test: expected a Split"),
    ],
)
def test_bad_arguments_are_answered(digits, changes, error, message):
    """By a sentence that names the argument and what was received."""
    with pytest.raises(error, match=message):
        check(planted.sound("mlp", digits), **changes)


def test_without_evaluation_the_loop_is_checked_alone(digits):
    """The optional arguments are optional."""
    setting = planted_bugs.zeroed_once_an_epoch.setting("mlp", digits)
    found = check(setting, evaluate=None, test=None)
    assert found.kinds == {"gradients_not_zeroed"}


# The parts -----------------------------------------------------------------------------


def test_a_snapshot_restores_what_was_replaced():
    """A parameter's data, a buffer, a layer, an attribute and a list are the old ones."""
    model = Everything()
    weight, address = model.fc.weight, model.fc.weight.data_ptr()
    value, mean = weight.detach().clone(), model.norm.running_mean
    before = Snapshot(model)
    model.fc.weight.data = torch.zeros(10, 256)
    model.norm.running_mean = torch.ones(4)
    model.fc = nn.Linear(3, 3)
    model.calls, model.extra = 99, "new"
    model.hidden.append(None)
    before.restore()
    assert model.fc.weight is weight and weight.data_ptr() == address
    assert torch.equal(weight, value) and model.norm.running_mean is mean
    assert model.calls == 0 and not hasattr(model, "extra") and len(model.hidden) == 1


def test_a_snapshot_knows_what_changed():
    """The tensors with other numbers, NaN being equal to NaN."""
    model = nn.Linear(2, 2)
    with torch.no_grad():
        model.bias[0] = math.nan
    before = Snapshot(model)
    assert before.changed() == []
    with torch.no_grad():
        model.weight[0, 0] += 1
    assert [t is model.weight for t in before.changed()] == [True]


def test_the_gradient_of_a_step_is_taken_apart():
    """Own gradients are those of the passes since the last step; what the step used has
    the old ones in it where they were not zeroed."""
    model = nn.Linear(3, 1, bias=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def loop(model):
        for k in (1.0, 2.0):
            (k * model(torch.ones(1, 3))).sum().backward()
            optimizer.step()

    first, second = Watch(model, [model.weight]).call(loop, model).steps
    assert first.grads[model.weight].tolist() == [[1.0] * 3]
    assert second.own[model.weight].tolist() == [[2.0] * 3]
    assert second.grads[model.weight].tolist() == [[3.0] * 3]
    assert second.change[model.weight] == pytest.approx(-0.3 * torch.ones(1, 3).numpy())


def test_a_watch_leaves_no_hook():
    """Not on the model, its parameters, the optimizers of torch, or clip_grad_norm_."""
    model, clip = nn.Linear(3, 1), nn.utils.clip_grad_norm_
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    watch = Watch(model, list(model.parameters()))
    watch.call(lambda: model(torch.ones(1, 3)).sum().backward())
    optimizer.step()
    assert watch.steps == [] and len(watch.forwards) == 1
    model(torch.ones(1, 3))
    assert len(watch.forwards) == 1 and nn.utils.clip_grad_norm_ is clip


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_shared_images_are_counted(share):
    """Exactly, and whatever the normalisation of either group."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (800, 1, 28, 28), generator=generator, dtype=torch.uint8)
    ends = torch.tensor([0, 255], dtype=torch.uint8)
    images[:, 0, 0, :2] = ends  # both groups have the same smallest and largest pixel
    n = round(200 * share)
    group = torch.cat([images[400 : 400 + n], images[600 : 800 - n]])
    assert shared(group, images[:600]) == pytest.approx(share)
    assert shared((group.float() / 255 - 0.13) / 0.31, images[:600]) == pytest.approx(
        share, abs=0.05
    )


def test_labels_follow_a_permutation_and_a_mixture():
    """For any permutation and any mixup nothing is wrong; with another one for the labels,
    most of the batch is."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(100, 400, generator=generator, dtype=torch.double)
    labels = torch.arange(100) % 10
    soft = F.one_hot(labels, 10).double()
    for weight in (1.0, 0.7, 0.5):
        a, b, c = (torch.randperm(100, generator=generator) for _ in range(3))
        x = weight * images[a] + (1 - weight) * images[b]
        right = weight * soft[a] + (1 - weight) * soft[b]
        wrong = weight * soft[c] + (1 - weight) * soft[a]
        for y, low, high in ((right, 0.0, 0.0), (wrong, 0.6, 1.0)):
            loss = SimpleNamespace(target=y, logits=torch.zeros(100, 10), grad=None)
            forward = SimpleNamespace(x=3 * x + 1, losses=[loss])
            assert low <= mixed_apart(forward, images, labels) <= high


def test_a_schedule_is_simulated_without_a_trace():
    """The rates are those of the schedule; scheduler and optimizer are as before."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.8)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 2, 0.5)
    before = bits(scheduler.state_dict())
    rates = simulated(scheduler, optimizer, 5)
    assert rates == pytest.approx([0.8, 0.8, 0.4, 0.4, 0.2])
    assert scheduler.state_dict() == before and optimizer.param_groups[0]["lr"] == 0.8


def test_numbers_are_found_in_what_a_function_returns():
    """In tuples, dicts, tensors and data classes; a bool is none."""
    history = planted.Planted("a", None, None, (1.5,), (torch.tensor(2.0), True))
    assert numbers_in(history) == [1.5, 2.0]
    assert numbers_in({"loss": 1, "more": [2.5, np.float64(3)]}) == [1.0, 2.5, 3.0]
    assert numbers_in(None) == [] == numbers_in(torch.ones(3))


@pytest.mark.parametrize(
    "layers, found",
    [
        ([nn.Linear(784, 64), nn.Linear(64, 64), nn.ReLU()], True),
        ([nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU()], False),
        ([nn.Linear(784, 64), nn.BatchNorm1d(64), nn.Linear(64, 64), nn.Tanh()], True),
        ([nn.Linear(784, 64), nn.Dropout(0.5), nn.Linear(64, 64), nn.GELU()], True),
        ([nn.Linear(784, 8), nn.Linear(8, 64), nn.ReLU()], False),  # of low rank
        ([nn.Linear(784, 64), nn.ReLU(inplace=True), nn.Linear(64, 64), nn.ELU()], False),
    ],
)
def test_a_missing_activation_is_seen_in_the_graph(layers, found, digits):
    """Through norm and dropout; a narrow middle is meant."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), *copy.deepcopy(layers), nn.Linear(64, 10))
    setting = planted_bugs.with_model(planted.sound("mlp", digits), model)
    assert ("missing_activation" in check(setting).kinds) == found


def test_random_split_is_sound_and_an_overlap_is_not(digits):
    """By the indices, where the images themselves are drawn anew each time."""
    setting = planted.sound("mlp", digits)
    dataset = planted_bugs.Augmented(setting.train)
    evaluate = planted_bugs.loader_evaluate(setting)
    setting = planted_bugs.with_batches(replace(setting, evaluate=evaluate), iter)
    for first, found in ((5000, False), (4900, True)):
        train = DataLoader(Subset(dataset, range(5000)), 64, shuffle=True)
        test = DataLoader(Subset(dataset, range(first, 6000)), 64)
        kinds = check(setting, train=train, test=test).kinds
        assert ("test_in_train" in kinds) == found
