"""benchmarks.gpu: the loop that stays on the device trains like `fit`, and makes its record."""

import json
import sys
from argparse import Namespace
from dataclasses import replace

import noise
import pytest
import torch
from torch import nn

from benchmarks import gpu
from lessons_src import data, recipes, train
from lessons_src.data import Split
from lessons_src.train import TrainingError

on_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU here")


def split(n=192):
    """n examples of 12 × 12 of 4 classes that can be learned."""
    images = torch.randn(n, 1, 12, 12, generator=torch.Generator().manual_seed(0))
    return Split(images, images.flatten(1)[:, :4].argmax(1))


def network():
    """Batch norm and nothing random: two loops that draw their orders alike give the same."""
    conv = nn.Conv2d(1, 4, 3, bias=False)  # before batch norm a bias has no gradient
    layers = [conv, nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(400, 4))


RECIPE = replace(
    recipes.OWN["mnist-99"], network=network, epochs=3, batch_size=32, channels_last=False
)


def test_it_trains_like_fit_on_full_batches():
    """The same order, schedule and optimizer: the same weights, losses and accuracies."""
    model, history, _ = gpu.train_on_device(RECIPE, split(), 0, amp=None)
    other, optimizer, scheduler, generator = RECIPE.start(192, 0)
    options = {"batch_size": 32, "scheduler": scheduler, "loss_fn": RECIPE.loss_fn}
    options |= {"generator": generator, "progress": False}
    expected = train.fit(other, split(), 3, optimizer, **options)
    for a, b in zip(
        model.state_dict().values(), other.state_dict().values(), strict=True
    ):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)
    assert history.loss == pytest.approx(expected.loss, rel=1e-5)
    assert history.accuracy == expected.accuracy and len(history.seconds) == 3


def test_a_short_last_batch_is_left_out_and_the_rate_ends_at_zero():
    """70 examples in batches of 32 are two steps an epoch: an epoch's accuracy is of 64."""
    model, history, _ = gpu.train_on_device(RECIPE, split(70), 0, amp=None)
    assert all((64 * share).is_integer() for share in history.accuracy)
    _, _, scheduler, _ = RECIPE.start(64, 0)
    rates = gpu.learning_rates(scheduler, 6)
    assert (
        len(rates) == 6 and rates.max() == pytest.approx(0.01) and 0 < rates[-1] < 0.005
    )


def test_mixed_precision_is_close():
    """bfloat16 has three digits: other weights, nearly the same loss; weights stay float32."""
    model, half, _ = gpu.train_on_device(RECIPE, split(), 0)
    _, full, _ = gpu.train_on_device(RECIPE, split(), 0, amp=None)
    assert half.loss == pytest.approx(full.loss, rel=0.05) and half.loss != full.loss
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_a_loss_that_is_not_finite_ends_it():
    """At the end of its epoch, which the message names."""
    broken = split()
    broken.images[3] = torch.inf
    with pytest.raises(TrainingError, match="the loss is nan in epoch 1"):
        gpu.train_on_device(RECIPE, broken, 0, amp=None)


@pytest.mark.parametrize("name", gpu.TARGETS)
def test_every_target_trains(name):
    """Its network, loss and optimizer in bfloat16: a step on 28 × 28 pixels."""
    recipe = replace(gpu.TARGETS[name].recipe, epochs=1, batch_size=8)
    images = noise.raw(16, 0).scaled()
    _, history, _ = gpu.train_on_device(recipe, images, 0)
    assert 0 < history.loss[0] < 10


@on_a_gpu
@pytest.mark.parametrize("amp", [None, torch.bfloat16])
def test_on_a_gpu_the_graph_equals_its_steps(amp, monkeypatch):
    """The whole loop, with a graph and without."""
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    images = split().to("cuda")
    (_, one, _), (_, two, seconds) = (
        gpu.train_on_device(RECIPE, images, 0, graph=graph, amp=amp)
        for graph in (False, True)
    )
    assert two.loss == pytest.approx(one.loss, rel=1e-3 if amp is None else 2e-2)
    assert seconds > 0


# The command --------------------------------------------------------------------------------------


@pytest.fixture
def command(monkeypatch, tmp_path):
    """`python -m benchmarks.gpu ...` on 60 + 20 noise images, and two targets."""
    monkeypatch.setattr(data, "load", lambda name: noise.dataset(60, 20, name))
    monkeypatch.setattr(recipes, "HELD_OUT", 20)
    two = {name: gpu.TARGETS[name] for name in ("mnist-99", "fashion-93")}
    monkeypatch.setattr(gpu, "TARGETS", two)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["/x/benchmarks/gpu.py", *map(str, arguments)])
        gpu.main()
        return read(tmp_path)

    return run


def read(folder):
    """Every record in the folder, by the file's name."""
    paths = folder.iterdir()
    return {path.name: json.loads(path.read_text(encoding="utf-8")) for path in paths}


def test_a_dry_run_makes_a_whole_record(command, tmp_path, capsys):
    """All that the lesson on GPUs and the page on cost read is there, under another name."""
    made = command("--dry-run", "--seeds", 2, "--results", tmp_path)
    record = made["gpu-dry-run.json"]
    assert record["dry_run"] and record["seeds"] == 2 and record["left_out"] == []
    assert [target["name"] for target in record["targets"]] == ["mnist-99", "fashion-93"]
    for target in record["targets"]:
        assert target["ours"]["accuracy"]["n"] == 2 == len(target["runs"])
        assert (
            target["graph"]["step"]["median"] > 0 and target["graph"]["eager"]["n"] == 2
        )
        assert target["met"] in ("aim", "must", "missed") and target["goal"]
    assert "accuracy_tta" in record["targets"][1]["ours"]
    assert "without a graph" in capsys.readouterr().out


def test_tuning_and_single_targets_write_nothing(command, tmp_path, capsys):
    """A record is whole, or goes where --results says."""
    assert command("--dry-run", "--seeds", 1, "mnist-99") == {}
    assert command("--dry-run", "--seeds", 1, "--validation", "mnist-99") == {}
    assert "Nothing was written" in capsys.readouterr().out


def test_a_new_run_replaces_a_record_when_it_has_as_much(
    command, tmp_path, capsys, monkeypatch
):
    """Its first target alone would lose the other: until then it lies beside the record,
    also where it is interrupted."""

    def measure(target, train, test, seeds, device):
        if target.recipe.name == interrupt:
            raise KeyboardInterrupt
        return {"name": target.recipe.name, "seeds": seeds}

    monkeypatch.setattr(gpu, "measure", measure)
    monkeypatch.setattr(gpu, "line", lambda entry: entry["name"])
    words, interrupt = ["--dry-run", "--results", tmp_path], None
    old = command(*words, "--seeds", 1)["gpu-dry-run.json"]

    interrupt = "fashion-93"
    with pytest.raises(SystemExit, match="What was written"):
        command(*words, "--seeds", 2)
    files = read(tmp_path)
    assert files["gpu-dry-run.json"] == old
    assert files["gpu-dry-run.part"]["targets"] == [{"name": "mnist-99", "seeds": 2}]
    assert "would lose these targets: fashion-93" in capsys.readouterr().out

    interrupt = None
    made = command(*words, "--seeds", 2)
    assert made.keys() == {"gpu-dry-run.json"}
    assert made["gpu-dry-run.json"]["seeds"] == 2
    with pytest.raises(SystemExit, match="lose these targets: fashion-93"):
        command(*words, "--seeds", 2, "mnist-99")
    assert read(tmp_path) == made


def test_time_that_is_over_leaves_targets_out(command, tmp_path, capsys):
    """What was left out is said."""
    command("--dry-run", "--seeds", 1, "--minutes", 0, "--results", tmp_path)
    assert "0 minutes are over; left out: mnist-99, fashion-93" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("accuracy", "seconds", "word"),
    [
        (0.99, 0.1, "aim"),
        (0.99, 0.25, "must"),
        (0.99, 0.26, "missed"),
        (0.98, 0.1, "missed"),
    ],
)
def test_the_verdict_needs_accuracy_and_seconds(accuracy, seconds, word):
    """Mean accuracy first, then the median of the seconds; the limits themselves count."""
    target = Namespace(goal=0.99, must=0.25, aim=0.1)
    assert gpu.met(target, accuracy, seconds) == word


def test_mistakes_get_one_sentence(command, capsys):
    """An unknown name, no seeds, no GPU: what it is and what to do."""
    for words, message in (
        (["R9"], "unknown: R9"),
        (["--seeds", 0], "--seeds must be 1"),
    ):
        with pytest.raises(SystemExit) as end:
            command("--dry-run", *words)
        assert end.value.code == 2 and message in capsys.readouterr().err
    if not torch.cuda.is_available():
        with pytest.raises(SystemExit, match="needs a CUDA GPU.*--dry-run"):
            command()
