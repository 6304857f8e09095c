"""Trainings and checkpoints, with faults injected: one error that says where it stopped,
and what was reached before is kept."""

import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from lesson_source import ROOT
from processes import start_child
from torch import nn

from lessons_src import recipes, train
from lessons_src.data import Split
from lessons_src.scale import checkpoint, distributed
from lessons_src.scale.checkpoint import CheckpointError, fit_with_checkpoint
from lessons_src.scale.fit import fit as fit_on_ranks

HERE = Path(__file__).parent


@pytest.fixture
def split():
    images = torch.randn(96, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    return Split(images, torch.arange(96) % 3)


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(36, 8), nn.ReLU(), nn.Linear(8, 3))


def trained(split, epochs=3, model=None, lr=0.1, loop=train.fit, **options):
    """A training of 3 batches an epoch."""
    model = model or network()
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    options = {"batch_size": 32, "progress": False} | options
    return loop(model, split, epochs, optimizer, **options)


def test_a_pixel_that_is_nan(split):
    """Epoch and batch are named, and where to look."""
    split.images[40, 0, 3, 3] = math.nan
    with pytest.raises(train.TrainingError, match="nan in epoch 1, batch 2.*the input"):
        trained(split)


def test_a_weight_that_is_inf(split):
    """The first batch names it."""
    model = network()
    model[1].weight.data[0, 0] = math.inf
    with pytest.raises(train.TrainingError, match="in epoch 1, batch 1"):
        trained(split, model=model)


def test_a_huge_rate(split):
    """The rate is named; the epochs before are in the error."""
    with pytest.raises(train.TrainingError, match="rate 1e.30. Try a smaller") as error:
        trained(split, lr=1e30)
    assert isinstance(error.value.history, train.History)


@pytest.fixture
def ctrl_c():
    """Python's own answer to Ctrl-C; a shell's background jobs inherit that it is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class InterruptedInBatch(nn.Module):
    """A loss that is the sixth time interrupted by Ctrl-C: in epoch 2, batch 3."""

    calls = 0

    def forward(self, logits, y):
        self.calls += 1
        if self.calls == 6:
            os.kill(os.getpid(), signal.SIGINT)  # as the terminal does it
            time.sleep(1)
        return nn.functional.cross_entropy(logits, y)


@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.parametrize("loop", [train.fit, fit_on_ranks])
def test_ctrl_c_keeps_the_history(split, loop):
    """The whole epochs so far are in the error, which says where a notebook finds it."""
    with pytest.raises(
        KeyboardInterrupt, match="1 whole epochs were trained: .*last_value"
    ) as error:
        trained(split, loop=loop, loss_fn=InterruptedInBatch())
    assert error.value.history.loss == trained(split, 1).loss


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_with_a_checkpoint(split, tmp_path):
    """The history is that of all calls, in the error and in the file."""

    def loop(*arguments, **options):
        return fit_with_checkpoint(tmp_path / "a.pt", *arguments, **options)

    with pytest.raises(KeyboardInterrupt) as error:
        trained(split, loop=loop, loss_fn=InterruptedInBatch())
    assert len(error.value.history.loss) == 1
    assert len(checkpoint.load(tmp_path / "a.pt")["history"]["loss"]) == 1


def test_a_disk_that_is_full_while_saving(full_disk):
    """The checkpoint before stays, and no part of the new one."""
    folder, fill = full_disk
    path = folder / "a.pt"
    checkpoint.save(path, {"epoch": 1})
    with pytest.raises(CheckpointError, match="could not write .*unharmed"):
        checkpoint.save(path, {"weights": torch.zeros(100_000)})
    fill()
    with pytest.raises(CheckpointError, match="could not write .*unharmed"):
        checkpoint.save(path, {"weights": torch.zeros(1000)})
    assert checkpoint.load(path) == {"epoch": 1}
    assert sorted(file.name for file in folder.iterdir()) == ["a.pt", "filler"]


@pytest.mark.slow
def test_killed_while_saving(tmp_path):
    """At ten moments: what stands there is a whole checkpoint, always."""
    path = tmp_path / "a.pt"
    checkpoint.save(path, {"weights": torch.full((50_000,), 0.0)})

    def save_for_ever():
        number = 0
        while True:
            number += 1
            checkpoint.save(path, {"weights": torch.full((50_000,), float(number))})

    for moment in range(10):
        child, _ = start_child(save_for_ever)
        time.sleep(0.02 + 0.007 * moment)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        weights = checkpoint.load(path)["weights"]
        assert (weights == weights[0]).all()


def test_a_checkpoint_that_may_not_be_read(tmp_path):
    """A folder in its place: named, and left alone."""
    (tmp_path / "a.pt").mkdir()
    with pytest.raises(CheckpointError, match="a.pt cannot be read: Is a directory"):
        checkpoint.load(tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match="could not write"):
        checkpoint.save(tmp_path / "a.pt", {})
    assert [file.name for file in tmp_path.iterdir()] == ["a.pt"]


def test_what_cannot_be_read_is_not_written(tmp_path):
    """A whole network in place of its state_dict: refused when it is saved, not when it
    is needed; the file before stays."""
    path = tmp_path / "a.pt"
    checkpoint.save(path, {"epoch": 1})
    for state in (network(), {"model": network()}, {"a": lambda: 1}):
        with pytest.raises(CheckpointError, match="such as model.state_dict"):
            checkpoint.save(path, state)
    assert checkpoint.load(path) == {"epoch": 1}


KILLED = [
    "1 before the group",
    "1 in the group",
    "0 in a batch",
    "0 in evaluate",
    "0 in save",
    "1 in save",
]


@pytest.mark.sweep
@pytest.mark.parametrize("which", KILLED)
def test_a_rank_that_is_killed(tmp_path, which):
    """At any stage: the job ends within a minute (two, where others work too), its
    checkpoint is whole or not there, and the same command goes on to the numbers of an
    uninterrupted training."""
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    words += ["--local-addr=127.0.0.1", "--nproc-per-node=2", HERE / "killed_rank.py"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    for planned in (which, ""):
        start = time.perf_counter()
        job = [*map(str, words), str(tmp_path), planned]
        done = subprocess.run(job, env=environment, capture_output=True, timeout=120)
        seconds = time.perf_counter() - start
        assert (done.returncode == 0) == (planned == ""), done.stderr[-2000:]
        if planned and (tmp_path / "a.pt").exists():
            kept = checkpoint.load(tmp_path / "a.pt")["history"]["loss"]
            print(f"{planned}: {seconds:.0f} s, {len(kept)} epochs are kept")
    assert distributed.world_size() == 1
    whole = torch.load(tmp_path / "loss.pt", weights_only=True)
    assert whole == pytest.approx(expected_losses(), abs=1e-6)


def expected_losses():
    """Of three epochs in one process."""
    sys.path.insert(0, str(HERE))
    import killed_rank

    return killed_rank.training(train.fit).loss


def test_a_recipe_is_refused_before_it_trains(split):
    """What it is measured on is looked at first: the network is never made."""

    def network():
        raise AssertionError("made before the mistake was named")

    recipe = recipes.Recipe(
        name="x",
        dataset="mnist",
        network=network,
        epochs=1,
        batch_size=8,
        optimizer=torch.optim.SGD,
    )
    with pytest.raises(ValueError, match="at least one example"):
        recipes.run(recipe, split, split[:0], 0)
