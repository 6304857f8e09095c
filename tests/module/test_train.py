"""lessons_src.train: the loop and the evaluation, against torch and against planted
faults."""

import ast
import inspect
import math
import random
import textwrap
import time

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lesson_source import cells
from torch import nn

from lessons_src import train, train_checks
from lessons_src.data import Split


@pytest.fixture
def split():
    """210 separable examples of 3 classes; 210 is no multiple of 64: the last batch is
    short."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(210) % 3
    centres = torch.tensor([[2.0, 0], [-2, 0], [0, 3]])
    return Split(centres[labels] + torch.randn(210, 2, generator=generator), labels)


def linear(seed=0):
    train.seed_everything(seed)
    return nn.Linear(2, 3)


def shuffler(seed=0):
    return torch.Generator().manual_seed(seed)


def fitted(split, epochs=3, seed=0, **options):
    """A model trained with a generator of this seed (None: the order of the split)."""
    model = linear()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    generator = None if seed is None else shuffler(seed)
    options |= {"generator": generator, "progress": False}
    return model, train.fit(model, split, epochs, optimizer, **options)


def test_fit_equals_a_loop_written_out(split):
    """Same batches, same updates: the weights equal those of the plainest PyTorch
    loop, so a missing zero_grad, a missing step or a step too many is caught."""
    fit_model, history = fitted(split)
    model = linear()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    generator = torch.Generator().manual_seed(0)
    losses, shares = [], []
    for _ in range(3):
        total, correct = 0.0, 0
        for index in torch.randperm(210, generator=generator).split(64):
            for parameter in model.parameters():
                parameter.grad = None
            logits = model(split.images[index])
            loss = F.cross_entropy(logits, split.labels[index])
            loss.backward()
            optimizer.step()
            total += loss.item() * len(index)
            correct += (logits.argmax(1) == split.labels[index]).sum().item()
        losses.append(total / 210)
        shares.append(correct / 210)
    for ours, theirs in zip(fit_model.parameters(), model.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert history.loss == pytest.approx(losses, rel=1e-6)
    assert history.accuracy == shares


def test_fit_is_deterministic_and_does_not_touch_the_global_generator(split):
    """Twice the same weights, whatever else draws random numbers before."""
    first, _ = fitted(split)
    torch.rand(99)
    state = torch.get_rng_state()
    model = linear()
    torch.set_rng_state(state)
    train.fit(
        model,
        split,
        3,
        torch.optim.SGD(model.parameters(), lr=0.1),
        generator=shuffler(),
        progress=False,
    )
    assert torch.equal(first.weight, model.weight)
    assert torch.equal(state, torch.get_rng_state())


def test_the_generator_gives_the_order(split):
    """Another seed gives other weights, no generator the order of the split."""
    weights = [fitted(split, seed=seed)[0].weight for seed in (0, 1, None)]
    assert not torch.equal(weights[0], weights[1])
    in_order = linear()
    optimizer = torch.optim.SGD(in_order.parameters(), lr=0.1)
    for index in torch.arange(210).split(64) * 3:
        optimizer.zero_grad()
        F.cross_entropy(in_order(split.images[index]), split.labels[index]).backward()
        optimizer.step()
    assert torch.equal(weights[2], in_order.weight)


class Stateful(nn.Module):
    """A network with all that has a state while it trains: batch norm and dropout."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        layers = [nn.Linear(2, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.Linear(8, 3)]
        self.layers = nn.Sequential(*layers)

    def forward(self, x):
        return self.layers(x)


def test_four_calls_of_one_epoch_equal_one_call_of_four(split):
    """To the last bit: all that the next epoch depends on is in what the caller holds."""
    results = []
    for epochs in ([4], [1, 1, 1, 1]):
        model, generator, history = Stateful(), shuffler(), train.History()
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
        rate = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda t: train.warmup_decay(t, 16)
        )
        for n in epochs:
            options = {"scheduler": rate, "test": split[:50], "generator": generator}
            history.extend(
                train.fit(model, split, n, optimizer, progress=False, **options)
            )
        history.seconds.clear()
        results.append((history, model.state_dict()))
    (one, weights), (four, others) = results
    assert one == four and len(four.test_accuracy) == 4
    assert all(map(torch.equal, weights.values(), others.values()))


def test_history_holds_an_entry_an_epoch(split):
    """Loss falls, accuracy rises, seconds are positive and no more than have gone by,
    the test columns only where asked for."""
    start = time.perf_counter()
    _, history = fitted(split, test=split)
    assert sum(history.seconds) < time.perf_counter() - start
    assert all(len(v) == 3 for v in vars(history).values())
    assert history.loss[-1] < history.loss[0] and history.test_accuracy[-1] > 0.8
    assert min(history.seconds) > 0
    assert fitted(split)[1].test_loss == []


def test_scheduler_is_stepped_after_every_batch(split):
    """12 batches in 3 epochs: 12 steps."""
    model = linear()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5**step)
    train.fit(model, split, 3, optimizer, scheduler=scheduler, progress=False)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.5**12)


def test_fit_stops_on_a_loss_that_is_not_finite(split):
    """The message names epoch, batch, learning rate, and what to try."""
    broken = Split(split.images.clone(), split.labels)
    broken.images[130] = math.inf
    model = linear()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.25)
    message = r"loss is (nan|inf) in epoch 1, batch 3, at learning rate 0.25.*smaller"
    with pytest.raises(train.TrainingError, match=message):
        train.fit(model, broken, 1, optimizer, progress=False)


def test_fit_trains_in_training_mode_and_evaluates_in_evaluation_mode(split):
    """Dropout and batch norm see the right mode, also after an evaluation in between."""
    model, modes = linear(), []
    model.register_forward_pre_hook(lambda layer, _: modes.append(layer.training))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    train.fit(model.eval(), split, 2, optimizer, test=split, progress=False)
    assert modes == [True] * 4 + [False] + [True] * 4 + [False]


def test_evaluate_covers_the_split_and_weighs_the_short_batch(split):
    """Equal to one pass over everything at once, at any batch size; the mean of batch
    means would differ."""
    model = linear()
    logits = model(split.images)
    loss = F.cross_entropy(logits, split.labels).item()
    share = (logits.argmax(1) == split.labels).double().mean().item()
    for batch_size in (1, 64, 209, 210, 1000):
        assert train.evaluate(model, split, batch_size=batch_size) == pytest.approx(
            (loss, share)
        )


class Breaking(nn.Module):
    """A network that raises where a batch has that many examples."""

    def __init__(self, model, at):
        super().__init__()
        self.model, self.at = model, at
        self.train(model.training)

    def forward(self, x):
        if len(x) == self.at:
            raise RuntimeError("at the second batch")
        return self.model(x)


@pytest.mark.parametrize("mode", [True, False])
def test_evaluate_restores_the_mode(split, mode):
    """Also where the model raises in the middle."""
    model = linear().train(mode)
    train.evaluate(model, split)
    assert model.training is mode
    with pytest.raises(RuntimeError, match="at the second batch"):
        train.evaluate(Breaking(model, at=10), split, batch_size=200)
    assert model.training is mode
    assert all(p.grad is None for p in model.parameters())


def test_accuracy_refuses_a_column_of_labels():
    """(B, 1) labels would broadcast to (B, B): named, not counted."""
    logits = torch.eye(3)
    assert train.accuracy(torch.tensor([[0.0, 2, 1]]), torch.tensor([1])) == 1
    with pytest.raises(ValueError, match="labels must be a Tensor, received list"):
        train.accuracy(logits, [0, 1, 2])
    assert train.accuracy(logits, torch.tensor([0, 1, 0])) == pytest.approx(2 / 3)
    with pytest.raises(
        ValueError, match=r"labels \(B,\) int64.*received.*\(3, 1\) torch.int64"
    ):
        train.accuracy(logits, torch.tensor([[0], [1], [2]]))
    with pytest.raises(ValueError, match=r"\(3,\) torch.float32"):
        train.accuracy(logits, torch.tensor([0.0, 1, 2]))
    with pytest.raises(ValueError, match=r"logits \(3,\)"):
        train.accuracy(torch.zeros(3), torch.zeros(3, dtype=torch.int64))


def test_fit_refuses_raw_pixels_and_empty_splits(split):
    """uint8 images have to be scaled first: the message says by what."""
    raw = Split(
        torch.zeros(4, 1, 2, 2, dtype=torch.uint8), torch.zeros(4, dtype=torch.int64)
    )
    for function in (lambda s: train.evaluate(linear(), s), lambda s: fitted(s)):
        with pytest.raises(
            ValueError, match=r"call .scaled.* \(4, 1, 2, 2\) torch.uint8"
        ):
            function(raw)
        with pytest.raises(ValueError, match="at least one example"):
            function(split[:0])
        with pytest.raises(
            ValueError, match=r"must be a Split, received \(\d+, 2\) torch.float32"
        ):
            function(split.images)


@pytest.mark.parametrize("wrong", [0, -3, 2.5, "64"])
def test_batch_size_is_checked(wrong):
    """A positive int, or a ValueError that shows what was given."""
    with pytest.raises(ValueError, match="must be a whole number, 1 or more, received"):
        train.batches(10, wrong)


def test_batches_cover_every_index_once():
    """With and without shuffling; the last batch is short."""
    for generator in (None, torch.Generator().manual_seed(0)):
        parts = train.batches(10, 4, generator)
        assert [len(p) for p in parts] == [4, 4, 2]
        assert sorted(torch.cat(list(parts)).tolist()) == list(range(10))
    assert sum(map(len, train.batches(0, 4))) == 0  # of no examples


def test_one_example_can_be_trained_on(split):
    """The smallest split that has a loss."""
    assert len(fitted(split[:1])[1].loss) == 3


@pytest.mark.parametrize("wrong", [{"batch_size": 0}, {"generator": 0}])
def test_what_is_refused_is_refused_before_anything_is_done(split, wrong):
    """Also where a schedule would divide by the batch size: a ValueError, and the
    network is as it was."""
    model = linear().eval()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    rate = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda t: 1.0)
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be"):
        train.fit(model, split, 1, optimizer, scheduler=rate, progress=False, **wrong)
    assert not model.training


def test_an_interrupted_training_keeps_its_whole_epochs(split):
    """Ctrl-C in the second epoch: the first is in the error, which says how to get it."""

    class Interrupted(nn.Linear):
        calls = 0

        def forward(self, x):
            self.calls += 1
            if self.calls == 6:  # of four batches each
                raise KeyboardInterrupt
            return super().forward(x)

    model = Interrupted(2, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(KeyboardInterrupt, match="1 whole epochs.*history") as caught:
        train.fit(model, split, 3, optimizer, progress=False)
    assert len(caught.value.history.loss) == 1


def test_an_error_of_any_kind_keeps_the_epochs_before_it(split):
    """A network that breaks on the test split: what was trained is not lost."""
    model = Breaking(linear(), at=7)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(RuntimeError, match="at the second batch") as caught:
        train.fit(model, split, 3, optimizer, test=split[:7], progress=False)
    assert len(caught.value.history.loss) == 1
    assert "history = sys.last_value.history" in caught.value.__notes__[0]


class Drawing(Stateful):
    """It draws in both modes, from all generators, and counts: a trial of it would show."""

    def __init__(self):
        super().__init__()
        self.own = torch.Generator().manual_seed(0)
        self.register_buffer("calls", torch.zeros(()))
        self.plain_calls = 0

    def forward(self, x):
        self.calls += 1
        self.plain_calls += 1
        x = x + torch.rand(2) + random.random() + np.random.rand()
        return super().forward(x + torch.rand(2, generator=self.own))


@pytest.mark.parametrize("kind", [Stateful, Drawing])
def test_the_trial_changes_no_training(split, kind, monkeypatch):
    """With it and without: the same weights, buffers, counts and random states, to the
    last bit."""
    results = []
    for patched in (False, True):
        if patched:
            monkeypatch.setattr(train_checks, "try_forward", lambda *_, **__: (None, ""))
        train.seed_everything(0)
        model = kind()
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
        history = train.fit(model, split, 2, optimizer, test=split[:9], progress=False)
        history.seconds.clear()
        states = torch.get_rng_state().sum(), random.random(), np.random.rand()
        counts = [getattr(model, "plain_calls", 0), model.training]
        results.append((history, states, counts, model.state_dict()))
    (*one, weights), (*other, others) = results
    assert one == other
    assert all(map(torch.equal, weights.values(), others.values()))


class Whole(nn.Module):
    """It needs batches of 70, and a gradient by its input."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(2, 3)

    def forward(self, x):
        logits = self.linear(x.view(70, 2).requires_grad_())
        torch.autograd.grad(logits.sum(), self.linear.weight, retain_graph=True)
        return logits


def hooked():
    """Its hook makes of two numbers the four that it takes."""
    model = nn.Linear(4, 3)
    model.register_forward_pre_hook(lambda _, inputs: inputs[0].repeat(1, 2))
    return model


@pytest.mark.parametrize("network", [Whole, hooked])
def test_what_cannot_be_tried_is_trained(split, network):
    """A network that needs a whole batch and gradients, and one with hooks."""
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    train.fit(model, split, 1, optimizer, batch_size=70, progress=False)


@pytest.mark.parametrize("spatial", [False, True])
def test_one_example_is_enough_where_batch_norm_has_pixels(split, spatial):
    """A last batch of one is refused where it has one value a channel, not elsewhere."""
    layers = [nn.Unflatten(1, (1, 2, 1)), nn.BatchNorm2d(1), nn.Flatten(), linear()]
    model = nn.Sequential(*layers) if spatial else Stateful()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    options = {"batch_size": 209, "progress": False}
    if spatial:
        train.fit(model, split, 1, optimizer, **options)
        return
    with pytest.raises(ValueError, match="last batch of 210 .* has one example, which"):
        train.fit(model, split, 1, optimizer, **options)


def test_a_rank_needs_two_examples_to_normalise(split):
    """Three examples for two ranks leave one rank with a single one, four do not."""
    train_checks.check_last_batch(Stateful(), split[:4], 8, ranks=2)
    with pytest.raises(ValueError, match="one example for each of 2 ranks, which"):
        train_checks.check_last_batch(Stateful(), split[:3], 8, ranks=2)


def test_the_line_of_an_epoch_is_that_of_the_newest():
    """All of it, with a test split and without."""
    history = train.History([3, 2, 0.1234], [0.1, 0.5, 0.963], [], [], [9, 8, 1.24])
    line = "epoch 3/5  loss 0.123  train 96.30%  1.2 s"
    assert history.progress_line(5) == line
    history.test_accuracy += [0.1, 0.2, 0.95]
    assert history.progress_line(5) == line.replace("  1.2", "  test 95.00%  1.2")


def test_progress_is_a_line_an_epoch(split, capsys):
    """Lines that nbval's sanitising masks: `epoch 1/1 ...`."""
    model = linear()
    train.fit(model, split, 1, torch.optim.SGD(model.parameters(), lr=0.1))
    assert capsys.readouterr().out.startswith("epoch 1/1  loss ")


def statements(function) -> list[str]:
    """The statements of the innermost loop of a training loop, as code."""
    epochs = next(node for node in ast.walk(function) if isinstance(node, ast.For))
    loop = next(node for node in epochs.body if isinstance(node, ast.For))
    return [ast.unparse(node) for node in loop.body]


def test_fit_is_the_loop_of_the_lesson_letter_for_letter():
    """What the lesson on multilayer perceptrons writes for one batch is what `fit`
    does; `fit` adds the check of the loss and the scheduler, and the loss function can
    be another."""
    (cell,) = (
        c for c in cells("multilayer_perceptrons") if "def train_by_hand" in c.source
    )
    by_hand = statements(ast.parse(cell.source))
    by_fit = statements(ast.parse(textwrap.dedent(inspect.getsource(train.fit))))
    added = [line for line in by_fit if line.startswith(("if not loss.", "if scheduler"))]
    same = [line.replace("loss_fn(", "F.cross_entropy(") for line in by_fit]
    assert len(added) == 2 and by_hand == [line for line in same if line not in added]


@pytest.mark.parametrize("threads, words", [(1, "1 thread"), (2, "2 threads")])
def test_environment_says_on_what_a_lesson_ran(monkeypatch, threads, words):
    """One line that the sanitising file masks."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    assert train.environment().startswith(f"PyTorch {torch.__version__}, Python 3")
    assert train.environment().endswith(f", {words}")


@pytest.mark.parametrize(
    "cuda, mps, kind", [(1, 1, "cuda"), (0, 1, "mps"), (0, 0, "cpu")]
)
def test_the_device_is_the_first_that_there_is(monkeypatch, cuda, mps, kind):
    """CUDA before Apple's GPU before the CPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(cuda))
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: bool(mps))
    assert train.pick_device() == torch.device(kind)


def test_a_seed_is_that_of_all_three_generators():
    """Python, NumPy and PyTorch draw the same again; 0 is the seed that is not named."""

    def drawn(*seed):
        train.seed_everything(*seed)
        return random.random(), np.random.rand(), torch.rand(()).item()

    assert drawn(3) == drawn(3) and drawn() == drawn(0)
    assert all(a != b for a, b in zip(drawn(3), drawn(4), strict=True))


def test_a_schedule_rises_and_falls():
    """Ten steps, four of them to warm up: the stated factors, and 0 at the end."""
    rates = [train.warmup_decay(t, 10, 0.4) for t in range(11)]
    expected = [1 / 4, 2 / 4, 3 / 4, 1, 1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6, 0]
    assert rates == pytest.approx(expected)
    # Between two steps lies a peak that neither reaches: the rate is never above it
    assert max(train.warmup_decay(t, 10, 0.35) for t in range(11)) == 1


def test_a_training_that_diverges_names_the_first_rate():
    """Of several groups, the one that was given first."""
    groups = [{"params": [torch.zeros(1)], "lr": lr} for lr in (0.5, 0.1)]
    message = train_checks.divergence(1.0, 1, 1, torch.optim.SGD(groups))
    assert "at learning rate 0.5." in message
