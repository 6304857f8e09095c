"""What test_trainings.py runs on two ranks, by torchrun: FOLDER "RANK STAGE" kills that
rank at that stage; FOLDER "" trains to the end and writes FOLDER/loss.pt."""

import os
import signal
import sys
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from lessons_src.data import Split
from lessons_src.scale import checkpoint, distributed


def training(loop, kill=lambda stage: None):
    """Three epochs of three batches, the test split after each."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(96, 1, 6, 6, generator=generator)
    split = Split(images, torch.arange(96) % 3)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 8), nn.ReLU(), nn.Linear(8, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    calls = 0

    def cross_entropy(logits, y):
        nonlocal calls
        calls += model.training
        if calls == 5:  # in epoch 2
            kill("in a batch" if model.training else "")
        if calls == 6 and not model.training:
            kill("in evaluate")
        return F.cross_entropy(logits, y)

    options = {"batch_size": 32, "test": split[:40], "progress": False}
    options["generator"] = torch.Generator().manual_seed(0)
    return loop(model, split, 3, optimizer, loss_fn=cross_entropy, **options)


def main(folder: Path, planned: str) -> None:
    """All stages of a training on two ranks."""
    victim, _, last = planned.partition(" ")

    def kill(stage):
        if stage == last and os.environ["RANK"] == victim:
            os.kill(os.getpid(), signal.SIGKILL)

    kill("before the group")
    atomic_write, files = checkpoint.atomic_write, []

    @contextmanager
    def write_and_kill(path):
        with atomic_write(path) as file:
            yield file
            files.append(file)
            if len(files) == 2:  # written, and not in its place yet
                kill("in save")

    all_gather, gathered = checkpoint.all_gather, []

    def gather_and_kill(thing):
        gathered.append(all_gather(thing))
        if len(gathered) == 2 and os.environ["RANK"] == "1":  # while rank 0 writes
            kill("in save")
        return gathered[-1]

    checkpoint.atomic_write, checkpoint.all_gather = write_and_kill, gather_and_kill
    with distributed.group("cpu"):
        kill("in the group")
        loop = partial(checkpoint.fit_with_checkpoint, folder / "a.pt")
        history = training(loop, kill)
        if distributed.rank() == 0:
            torch.save(history.loss, folder / "loss.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
