"""lessons_src.gpu: the step on the device, its graph, and what a graph must not change.

A CUDA graph is simulated where there is no GPU: the operations of the recorded step are kept with
their tensors and numbers, and a replay repeats them on the same memory. Numbers that Python put
into an operation are repeated as they were, and reading one back is refused: as on a GPU.
"""

import contextlib
import json
import math
import statistics
import sys
import time
import weakref
from dataclasses import replace
from functools import partial

import noise
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmarks import gpu as bench
from benchmarks import runs
from lessons_src import gpu, train
from lessons_src.data import Split
from lessons_src.models import Crop, RandomFlip, RandomShift
from lessons_src.train import TrainingError, warmup_decay

OPTIMIZERS = {
    "AdamW": partial(torch.optim.AdamW, lr=0.01, fused=True),
    "Adam": partial(torch.optim.Adam, lr=0.01, fused=True),
    "SGD": partial(torch.optim.SGD, lr=0.1, fused=True),
    "Nesterov": partial(torch.optim.SGD, lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4,
                        fused=True),
}  # fmt: skip
UNFUSED = {
    "AdamW-": partial(torch.optim.AdamW, lr=0.01),
    "SGD-": partial(torch.optim.SGD, lr=0.1, momentum=0.9),
    "Adadelta": partial(torch.optim.Adadelta, lr=0.5),
}
READ_BACK = torch.ops.aten._local_scalar_dense.default  # what .item() and float() call


@pytest.fixture
def split():
    """192 examples of 12 x 12, 4 classes: 6 batches of 32."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(192) % 4
    images = torch.randn(192, 1, 12, 12, generator=generator) + labels.view(-1, 1, 1, 1) / 2
    return Split(images, labels)


def network(channels_last=False):
    """Augmentation, batch norm and dropout: all that draws numbers or keeps some."""
    train.seed_everything(0)
    model = nn.Sequential(
        RandomShift(1), Crop(10, shift=1), RandomFlip(),
        nn.Conv2d(1, 4, 3, bias=False), nn.MaxPool2d(2), nn.BatchNorm2d(4), nn.ReLU(),
        nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Dropout(0.1), nn.Linear(4, 4),
    )  # fmt: skip
    return model.to(memory_format=torch.channels_last) if channels_last else model


def trained(fit, split, optimizer="AdamW", epochs=3, schedule=True, channels_last=False, **options):
    """(model, optimizer, history) after training with `fit`, or what it raises."""
    model = network(channels_last)
    optimizer = (OPTIMIZERS | UNFUSED)[optimizer](model.parameters())
    steps = epochs * (len(split) // 32)
    scheduler = schedule and torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda t: warmup_decay(t, steps, 0.3)
    )
    history = fit(model, split, epochs, optimizer, batch_size=32, scheduler=scheduler or None,
                  device=options.pop("device", "cpu"), seed=5, **options)  # fmt: skip
    return model, optimizer, history


def difference(one, other):
    """The largest difference between two models' parameters and buffers."""
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return max((a.double() - b.double()).abs().max().item() for a, b in pairs)


fit = partial(train.fit, progress=False)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("schedule", [False, True])
@pytest.mark.parametrize("name", OPTIMIZERS | UNFUSED)
def test_it_equals_fit(split, name, schedule, channels_last):
    """Same order, augmentation and dropout, same weights and running statistics to 1e-6, same
    history and same last learning rate, where the batches are all full."""
    one, one_optimizer, one_history = trained(fit, split, name, 3, schedule, channels_last)
    two, two_optimizer, history = trained(gpu.fit_resident, split, name, 3, schedule, channels_last)
    assert difference(one, two) < 1e-6
    assert history.loss == pytest.approx(one_history.loss, rel=1e-6)
    assert history.accuracy == one_history.accuracy
    assert len(history.seconds) == 3 and min(history.seconds) > 0
    assert history.data_seconds > 0 and history.warmup_seconds == 0
    for ours, theirs in zip(two_optimizer.param_groups, one_optimizer.param_groups, strict=True):
        assert {k: v for k, v in ours.items() if k != "params"} == {
            k: v for k, v in theirs.items() if k != "params"
        }


def test_it_equals_a_loop_written_out_with_full_batches_only(split):
    """70 examples, batches of 32: the first 64 of each epoch's order; the other 6 wait. The mean
    is over the 64."""
    part = split[:70]
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    generator = torch.Generator().manual_seed(5)
    losses = []
    for _ in range(2):
        order = torch.randperm(70, generator=generator)
        seen = []
        for index in (order[:32], order[32:64]):
            loss = F.cross_entropy(model(part.images[index]), part.labels[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            seen.append(loss.item())
        losses.append(sum(seen) / 2)
    other, _, history = trained(gpu.fit_resident, part, "SGD", 2, False)
    assert difference(model, other) < 1e-6
    assert history.loss == pytest.approx(losses, rel=1e-6)
    assert [share * 64 % 1 for share in history.accuracy] == [0, 0]
    short, _, _ = trained(fit, part, "SGD", 2, False)  # with the short batch: another result
    assert difference(short, other) > 1e-3


def test_two_groups_have_two_rates(split):
    """Every parameter group follows its own schedule."""

    def run(fit):
        model = network()
        optimizer = torch.optim.SGD([{"params": model[3].parameters(), "lr": 0.2},
                                     {"params": model[10].parameters(), "lr": 0.01}])  # fmt: skip
        halves = [lambda t: 1 / (1 + t), lambda t: 1 + t]
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, halves)
        fit(model, split, 1, optimizer, batch_size=32, scheduler=scheduler, device="cpu")
        return model

    assert difference(run(fit), run(gpu.fit_resident)) < 1e-6


def test_mixed_precision_is_close(split):
    """bfloat16 has three digits: other weights, nearly the same loss; the weights stay float32."""
    exact, _, one = trained(gpu.fit_resident, split)
    mixed, _, two = trained(gpu.fit_resident, split, amp=torch.bfloat16)
    assert difference(exact, mixed) > 0
    assert two.loss == pytest.approx(one.loss, rel=0.03)
    assert {p.dtype for p in mixed.parameters()} == {torch.float32}


@pytest.mark.parametrize("examples", [64, 192])
def test_no_number_is_read_back_within_an_epoch(split, examples):
    """One .item() an epoch, however many batches it has (the losses come as one list)."""
    read = []

    class Count(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            read.extend([function] * (function is READ_BACK))
            return function(*args, **(kwargs or {}))

    with Count():
        trained(gpu.fit_resident, split[:examples], epochs=2)
    assert len(read) == 2
    with Count():
        trained(fit, split[:examples], epochs=2)
    assert len(read) > 2 + 2 * examples // 32  # the count sees those of `fit`


def test_a_loss_that_is_not_finite_ends_it(split):
    """At the end of its epoch, with epoch, batch and learning rate; the optimizer has its number
    again, and can be used on."""
    images = split.images.clone()
    order = torch.randperm(192, generator=torch.Generator().manual_seed(5))
    images[order[40]] = math.inf  # in the second batch
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.125)
    with pytest.raises(TrainingError, match=r"nan in epoch 1, batch 2, at learning rate 0\.125"):
        gpu.fit_resident(model, Split(images, split.labels), 2, optimizer, batch_size=32,
                         device="cpu", seed=5)  # fmt: skip
    assert optimizer.param_groups[0]["lr"] == 0.125


def test_input_of_the_wrong_form_is_refused(split):
    """Raw pixels, a batch without examples, no epoch, a schedule that moves the momentum."""
    raw = Split(torch.zeros(4, 1, 2, 2, dtype=torch.uint8), torch.zeros(4, dtype=torch.int64))
    with pytest.raises(ValueError, match="call .scaled"):
        trained(gpu.fit_resident, raw, schedule=False)
    for wrong in (193, 0, -1, 32.0):
        with pytest.raises(ValueError, match=f"from 1 to 192, .* received {wrong}"):
            model = network()
            gpu.fit_resident(model, split, 1, OPTIMIZERS["SGD"](model.parameters()),
                             batch_size=wrong, device="cpu")  # fmt: skip
    with pytest.raises(ValueError, match="epochs must be 1 or more, received 0"):
        trained(gpu.fit_resident, split, "SGD", 0, False)
    model = network()
    optimizer = OPTIMIZERS["Nesterov"](model.parameters())
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=7)
    with pytest.raises(ValueError, match="cycle_momentum=False"):
        gpu.fit_resident(model, split, 1, optimizer, batch_size=32, scheduler=cycle, device="cpu")


def test_without_cuda_a_graph_is_the_step_itself(monkeypatch):
    """No warm-up, no copy: the same function."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    def step():
        raise AssertionError("was run")

    assert gpu.graphed(step) is step


class Recording(TorchDispatchMode):
    """A CUDA graph on the CPU: operations with their tensors and numbers, and places to write."""

    def __init__(self, log):
        super().__init__()
        self.log, self.calls = log, []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function is READ_BACK:
            raise RuntimeError("operation not permitted when stream is capturing\nand more")
        out = function(*args, **(kwargs or {}))
        self.calls.append((function, args, kwargs or {}, out))
        return out

    @torch.no_grad()
    def replay(self):
        self.log.append("replay")
        for function, args, kwargs, out in self.calls:
            again = function(*args, **kwargs)
            for old, new in zip(tree_leaves(out), tree_leaves(again), strict=True):
                if torch.is_tensor(old) and old.data_ptr() != new.data_ptr():
                    old.copy_(new)  # where the graph was recorded to write


class Simulated:
    """torch.cuda on the CPU; `log` has what was asked of it, in order."""

    def __init__(self):
        self.log, self.graphs, self.current, self.capturing = [], [], "default", False

    def install(self, monkeypatch):
        monkeypatch.setattr(gpu, "_on_gpu", lambda device: True)
        for name in ("Stream", "stream", "current_stream", "CUDAGraph", "graph"):
            monkeypatch.setattr(torch.cuda, name, getattr(self, name))
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: self.capturing)
        monkeypatch.setattr(torch.accelerator, "current_stream", self.current_stream)
        monkeypatch.setattr(torch.cuda, "device", lambda device: contextlib.nullcontext())
        monkeypatch.setattr(torch.cuda, "synchronize", lambda *_: self.log.append("synchronize"))
        return self

    def Stream(self, name="side"):
        stream = type("Stream", (), {"name": name})()
        stream.wait_stream = lambda other: self.log.append(f"{name} waits for {other.name}")
        stream.is_capturing = lambda: self.capturing  # Adam asks
        return stream

    def current_stream(self):
        return self.Stream(self.current)

    @contextlib.contextmanager
    def stream(self, stream):
        self.current, before = stream.name, self.current
        try:
            yield
        finally:
            self.current = before

    def CUDAGraph(self):
        self.graphs.append(Recording(self.log))
        return self.graphs[-1]

    @contextlib.contextmanager
    def graph(self, graph, stream):
        self.log.append(f"capture on {stream.name}")
        self.capturing = True
        try:
            with graph, self.stream(stream):
                yield
        finally:
            self.capturing = False


@pytest.fixture
def cuda(monkeypatch):
    return Simulated().install(monkeypatch)


def resident(split, cuda, name="AdamW", **options):
    """Trained operation by operation, and through the simulated graph."""
    eager = trained(gpu.fit_resident, split, name, graph=False, **options)
    cuda.log.clear()
    return eager, trained(gpu.fit_resident, split, name, **options)


@pytest.mark.parametrize("amp", [None, torch.bfloat16])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_graph_trains_to_the_same_bits(split, cuda, name, amp, recwarn):
    """Weights, running statistics, optimizer, learning rate, losses and random numbers: warm-up
    and recording leave no trace, and the schedule reaches every replay. Nothing warns."""
    eager, graph = resident(split, cuda, name, amp=amp)
    random = torch.get_rng_state()
    assert cuda.log.count("replay") == 18 and not list(recwarn)
    assert difference(eager[0], graph[0]) == 0
    assert eager[2].loss == graph[2].loss and eager[2].accuracy == graph[2].accuracy
    ours, theirs = graph[1].state_dict(), eager[1].state_dict()
    assert ours["param_groups"] == theirs["param_groups"]
    for k, state in theirs["state"].items():
        for key, value in state.items():
            assert torch.equal(ours["state"][k][key], value)
    trained(gpu.fit_resident, split, name, graph=False, amp=amp)
    assert torch.equal(random, torch.get_rng_state())


def test_the_order_of_things(split, cuda, monkeypatch):
    """Warm-up on a side stream after all that came before; capture on the same stream; a replay a
    step and no step beside them; the clock is read only when the GPU is done."""
    monkeypatch.setattr(gpu.time, "perf_counter", lambda: cuda.log.append("clock") or time.time())
    real, streams = gpu.graphed, []

    def watched(step, warmup=3):
        def logged():
            cuda.log.append(f"step on {cuda.current}")
            step()

        streams.append(warmup)
        return real(logged, warmup)

    monkeypatch.setattr(gpu, "graphed", watched)
    _, _, history = trained(gpu.fit_resident, split, epochs=2)
    log = cuda.log
    for k, what in enumerate(log):
        assert what != "clock" or log[k - 1] == "synchronize"
    steps = [what for what in log if what not in ("clock", "synchronize")]
    assert steps == [
        "side waits for default", *["step on side"] * 3, "default waits for side",
        "capture on side", "step on side", *["replay"] * 12,
    ]  # fmt: skip
    after = log.index("replay")
    assert log[after - 2 : after] == ["synchronize", "clock"]  # warm-up is over, then the clock
    assert log[after:].count("clock") == 3  # the end of epoch 1, start and end of epoch 2
    assert history.warmup_seconds > 0


def test_a_graph_of_fewer_batches_than_warm_up_steps(split, cuda):
    """One batch an epoch: the number of the batch starts again, in the warm-up too."""
    eager, graph = resident(split[:32], cuda)
    assert cuda.log.count("replay") == 3 and difference(eager[0], graph[0]) == 0


def test_training_goes_on_with_the_same_optimizer(split, cuda):
    """A second call starts from the state that the first one left, not from zero."""

    def twice(**options):
        model, optimizer, _ = trained(gpu.fit_resident, split, **options)
        gpu.fit_resident(model, split, 1, optimizer, batch_size=32, device="cpu", **options)
        return model

    assert difference(twice(graph=False), twice()) == 0


FAULTS = {
    "warm-up not undone": ("undone", lambda *_: contextlib.nullcontext()),
    "random numbers not put back": ("torch.random.fork_rng", lambda *_: contextlib.nullcontext()),
    "optimizer not undone": ("undone", None),
    "learning rate recorded as a number": ("_reading", lambda *_: contextlib.nullcontext()),
    "order drawn once": ("torch.randperm", lambda n, **_: torch.arange(n)),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_planted_faults_are_found(split, cuda, monkeypatch, fault):
    """Each of them trains, without an error, to other weights than operation by operation."""
    name, instead = FAULTS[fault]
    optimizer = "Nesterov" if "learning rate" in fault else "AdamW"  # Adam's own check finds it
    eager, _, _ = trained(gpu.fit_resident, split, optimizer, graph=False)
    if fault == "optimizer not undone":
        real, other = gpu.undone, torch.optim.SGD([torch.zeros(1)])
        instead = lambda model, _, *others: real(model, other, *others)  # noqa: E731
    target = torch.random if "random" in name else torch if "torch" in name else gpu
    monkeypatch.setattr(target, name.rpartition(".")[2], instead)
    assert difference(eager, trained(gpu.fit_resident, split, optimizer)[0]) > 1e-4


def test_a_step_that_reads_a_number_is_named(split, cuda):
    """The message says what cannot be recorded, and what to do."""

    def asks(logits, labels):
        loss = F.cross_entropy(logits, labels)
        return loss if loss.item() > 0 else -loss

    with pytest.raises(TrainingError, match=r"stream is capturing\. Look for what"):
        trained(gpu.fit_resident, split, loss_fn=asks)
    trained(gpu.fit_resident, split, loss_fn=asks, graph=False)  # and that helps


@pytest.mark.parametrize("name", UNFUSED)
def test_an_optimizer_that_needs_the_cpu_is_refused(split, cuda, name):
    """Before anything is trained; without a graph it trains."""
    with pytest.raises(ValueError, match="cannot be part of a CUDA graph: .* fused=True"):
        trained(gpu.fit_resident, split, name)
    assert cuda.log == []
    trained(gpu.fit_resident, split, name, graph=False)


def test_dampening_is_refused(split, cuda):
    """Its first step is another one than the rest: a graph has only one kind."""
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 0.1, 0.9, dampening=0.5, fused=True)
    with pytest.raises(ValueError, match="no dampening"):
        gpu.fit_resident(model, split, 1, optimizer, batch_size=32, device="cpu")


def test_a_replay_keeps_the_tensors_that_it_works_on(cuda):
    """Memory that a graph reads must not be given away while the graph can run."""

    def make():
        x = torch.zeros(3)
        return gpu.graphed(lambda: x.add_(1)), weakref.ref(x)

    run, x = make()
    cuda.graphs.pop().calls.clear()  # what the simulation itself holds
    assert x() is not None
    del run
    assert x() is None


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_undone_leaves_no_trace(split, name):
    """Steps inside it change nothing, neither on a new optimizer nor on one with a past; every
    tensor stays where it was."""
    model = network()
    optimizer = OPTIMIZERS[name](model.parameters())
    counter = torch.tensor([7])

    def step():
        loss = F.cross_entropy(model(split.images), split.labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        counter.add_(1)

    def everything():
        states = [x for s in optimizer.state.values() for x in s.values() if x is not None]
        return [*model.state_dict().values(), *states, counter, torch.get_rng_state()]

    for past in range(2):
        before = [x.clone() for x in everything()]
        places = [x.data_ptr() for x in everything()[:-1]]
        with gpu.undone(model, optimizer, counter):
            step()
            step()
            assert not torch.equal(model[3].weight, before[0]) and counter == 9 + past
        after = everything()
        born = [x for x in after if not any(x.data_ptr() == p for p in places)][:-1]
        assert all((x == 0).all() for x in born) and bool(born) == (past == 0 and name != "SGD")
        old = [x for x in after[:-1] if any(x.data_ptr() == p for p in places)] + after[-1:]
        assert all(torch.equal(x, y) for x, y in zip(old, before, strict=True))
        step()  # now it has a past


@pytest.mark.parametrize("name", [None, *bench.TARGETS])
def test_the_step_makes_nothing_on_the_cpu(name):
    """Gather, augmentation, network and loss on tensors that claim to lie on a GPU: no operation
    mixes the two devices, and none needs a value."""
    seen = []

    class Devices(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            out = function(*args, **(kwargs or {}))
            seen.append({x.device.type for x in tree_leaves((args, kwargs, out))
                         if torch.is_tensor(x)})  # fmt: skip
            return out

    with FakeTensorMode():
        size = 28 if name else 12
        images = torch.empty(192, 1, size, size, device="cuda")
        labels = torch.empty(192, dtype=torch.int64, device="cuda")
        with torch.device("cuda"):
            model = bench.TARGETS[name].recipe.network() if name else network()
        with Devices():
            index = torch.zeros(6, 32, dtype=torch.int64, device="cuda")
            index = index.index_select(0, torch.zeros(1, dtype=torch.int64, device="cuda"))[0]
            logits = model(images.index_select(0, index))
            F.cross_entropy(logits, labels.index_select(0, index), label_smoothing=0.1)
    assert len(seen) > 15 and {"cuda"} in seen
    assert all(devices <= {"cuda"} for devices in seen)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU on this machine")
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("amp", [None, torch.bfloat16])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_on_a_gpu_the_graph_equals_its_steps(split, name, amp, channels_last, monkeypatch):
    """The same on a true GPU: graph and single operations draw the same numbers and train to the
    same weights (its sums may be added in another order)."""
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    options = {"amp": amp, "channels_last": channels_last, "device": "cuda"}
    eager, _, one = trained(gpu.fit_resident, split, name, graph=False, **options)
    graph, optimizer, two = trained(gpu.fit_resident, split, name, **options)
    assert difference(eager, graph) < (1e-4 if amp is None else 1e-2)
    assert two.loss == pytest.approx(one.loss, rel=1e-4 if amp is None else 1e-2)
    assert two.warmup_seconds > 0 and isinstance(optimizer.param_groups[0]["lr"], float)


@pytest.fixture
def tiny(monkeypatch):
    """A data set of 60 + 20 noise images that calls itself real."""
    made = noise.dataset(60, 20)
    monkeypatch.setattr(runs.data, "load", lambda name: made)
    monkeypatch.setattr(runs, "HELD_OUT", 20)
    return made


def call(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["benchmarks/gpu.py", *words])
    bench.main()


@pytest.mark.parametrize("name", bench.TARGETS)
def test_every_recipe_becomes_a_graph(tiny, cuda, name):
    """Network, loss and optimizer of each target, in bfloat16: the simulated graph trains to the
    same bits as single operations."""
    recipe = replace(bench.TARGETS[name].recipe, epochs=1, batch_size=4)
    train, _ = runs.splits(recipe)
    eager, _, _ = bench.train_once(recipe, train[:10], 0, "cpu", graph=False)
    graph, history, step = bench.train_once(recipe, train[:10], 0, "cpu", graph=True)
    assert difference(eager, graph) == 0 and cuda.log.count("replay") == 2
    assert step == sum(history.seconds) / 2


def test_the_schedule_ends_with_the_last_full_batch(tiny, monkeypatch):
    """60 examples in batches of 16 are 3 steps an epoch, not 4: the rate comes down to the end."""
    seen = []
    real = gpu._rates
    monkeypatch.setattr(gpu, "_rates", lambda *given: seen.append(real(*given)) or seen[-1])
    recipe = replace(bench.TARGETS["mnist-99"].recipe, epochs=2, batch_size=16)
    bench.train_once(recipe, runs.splits(recipe)[0], 0, "cpu", graph=False)
    wanted = [0.015 * warmup_decay(t, 6, 0.25) for t in range(6)]
    assert seen[0].flatten().tolist() == pytest.approx(wanted)


def test_a_dry_run_makes_a_whole_record(tiny, monkeypatch, tmp_path, capsys):
    """Median, range, mean and verdict are those of its runs; it is not called gpu.json."""
    call(monkeypatch, "--dry-run", "mnist-99", "fashion-93", "--seeds", "2",
         "--results", str(tmp_path))  # fmt: skip
    assert [path.name for path in tmp_path.iterdir()] == ["gpu-dry-run.json"]
    record = json.loads((tmp_path / "gpu-dry-run.json").read_text())
    assert record["dry_run"] is True and record["left_out"] == [] and record["failed"] == {}
    assert record["command"].startswith("python -m benchmarks.gpu --dry-run mnist-99")
    assert {"driver", "cuda", "cudnn", "torch", "name", "load"} <= record["machine"].keys()
    for entry, name in zip(record["targets"], ("mnist-99", "fashion-93"), strict=True):
        target, found = bench.TARGETS[name], entry["runs"]
        assert (entry["name"], entry["goal"]) == (name, target.goal)
        assert (entry["must_seconds"], entry["aim_seconds"]) == (target.must, target.aim)
        assert [run["seed"] for run in found] == [0, 1] and entry["met"] == "missed"
        ours = entry["ours"]
        assert ours["accuracy"]["mean"] == statistics.fmean(run["accuracy"] for run in found)
        assert ours["reached"] is False and ("accuracy_tta" in ours) == (name == "fashion-93")
        for place, key in ((ours, "seconds"), (entry["graph"], "ratio"), (entry["graph"], "step"),
                           (entry["before"], "warmup_seconds")):  # fmt: skip
            values = sorted(run[key] for run in found)
            assert place[key] == {"median": statistics.median(values), "low": values[0],
                                  "high": values[1], "n": 2}  # fmt: skip
        for run in found:
            assert run["ratio"] == run["eager"] / run["step"]
        assert entry["first"]["seconds"] > 0
    assert "written" in capsys.readouterr().out


def test_the_verdict_needs_accuracy_and_seconds():
    """Mean accuracy first, then the median of the seconds; the limits themselves count."""
    target = bench.Target("", 0.99, 0.25, 0.1, None)

    def said(reached, seconds):
        return bench.verdict(target, {"reached": reached, "seconds": {"median": seconds}})

    assert [said(True, s) for s in (0.05, 0.1, 0.11, 0.25, 0.26)] == [
        "aim", "aim", "must", "must", "missed"]  # fmt: skip
    assert said(False, 0.05) == "missed"


def test_validation_and_single_targets_write_no_record(tiny, monkeypatch, tmp_path, capsys):
    """A record is whole, or goes where --results says; tuning never writes one."""
    monkeypatch.setattr(bench, "RESULTS", tmp_path)
    call(monkeypatch, "--dry-run", "mnist-99", "--seeds", "1")
    call(monkeypatch, "--dry-run", "mnist-99", "--seeds", "1", "--validation",
         "--results", str(tmp_path))  # fmt: skip
    assert capsys.readouterr().out.count("Nothing was written.") == 2
    assert not list(tmp_path.iterdir())


def test_what_is_left_out_or_failed_is_in_the_record(tiny, monkeypatch, tmp_path, capsys):
    """A target that cannot be captured does not keep the others from being measured; none is begun
    when the time is over."""
    real = bench.measure

    def measured(target, *rest):
        if target.recipe.name == "mnist-99":
            raise TrainingError("this step cannot become a CUDA graph: it asks")
        monkeypatch.setattr(bench.time, "monotonic", lambda: 1e9)
        return real(target, *rest)

    monkeypatch.setattr(bench, "measure", measured)
    with pytest.raises(SystemExit, match="failed: mnist-99"):
        call(monkeypatch, "--dry-run", "mnist-99", "mnist-99.4", "mnist-99.5", "--seeds", "1",
             "--minutes", "5", "--results", str(tmp_path))  # fmt: skip
    record = json.loads((tmp_path / "gpu-dry-run.json").read_text())
    assert [entry["name"] for entry in record["targets"]] == ["mnist-99.4"]
    assert record["left_out"] == ["mnist-99.5"] and "it asks" in record["failed"]["mnist-99"]
    assert "5 minutes are over; left out: mnist-99.5" in capsys.readouterr().out


def test_mistakes_get_one_sentence(monkeypatch, capsys):
    """No GPU, no real data, an unknown name: what it is and what to do."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match="needs a CUDA GPU, and this machine has none.*--dry-run"):
        call(monkeypatch)
    monkeypatch.setenv("LESSONS_DATA", "standin")
    with pytest.raises(SystemExit, match="needs the real mnist, not the stand-in"):
        call(monkeypatch, "--dry-run", "mnist-99")
    with pytest.raises(SystemExit):
        call(monkeypatch, "mnist-100")
    assert "unknown: mnist-100; there are: mnist-99, " in capsys.readouterr().err


def test_the_targets_are_those_that_were_set():
    """Accuracies and seconds for one H200."""
    assert [(t.recipe.dataset, t.goal, t.must, t.aim) for t in bench.TARGETS.values()] == [
        ("mnist", 0.99, 0.25, 0.1), ("mnist", 0.994, 0.6, 0.35), ("mnist", 0.995, 1.2, 0.6),
        ("fashion-mnist", 0.93, 1.5, 0.7), ("fashion-mnist", 0.94, 6, 3),
        ("fashion-mnist", 0.95, 40, 20),
    ]  # fmt: skip
