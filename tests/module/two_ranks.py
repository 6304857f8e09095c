"""What test_distributed.py runs on two processes, by torchrun --max-restarts=1; argument:
a folder.

First the command of the course, which writes FOLDER/command-2.json and .pt. Then every
rank writes what it measured to FOLDER/rank-R.pt, and trains until rank 1 is killed.
torchrun starts both again, and they write what came of it to FOLDER/killed-R.pt; at
last rank 1 raises.
"""

import os
import signal
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from unittest import mock

import torch
import torch.nn.functional as F
from torch import nn

from lessons_src import data, models, train
from lessons_src.data import Split
from lessons_src.scale import checkpoint, distributed, run
from lessons_src.scale.fit import evaluate, fit

N, BATCH = 75, 37  # batches of 37, 37 and 1: parts of 19 and 18, then of 1 and 0
COMMAND = ["R5", "--examples", "299", "--epochs", "2", "--device", "cpu"]


def run_command(folder: Path, ranks: int) -> None:
    """The course's command with 501 test images, which two ranks cannot share evenly."""
    load = data.load

    def few(name):
        loaded = load(name)
        return replace(loaded, test=loaded.test[:501])

    result = f"{folder}/command-{ranks}"
    with mock.patch.object(data, "load", few):
        run.main([*COMMAND, "--json", f"{result}.json", "--save", f"{result}.pt"])


def split(n=N, dtype=torch.float64) -> Split:
    """Random images (n, 1, 28, 28) and labels."""
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(n, 1, 28, 28, generator=generator, dtype=torch.float64)
    return Split(images.to(dtype), torch.randint(10, (n,), generator=generator))


def network(name="cnn", dtype=torch.float64) -> nn.Module:
    """A CNN without batch norm, the course's with it, an MLP; "random": dropout and
    shifts."""
    train.seed_everything(3)
    if name == "random":
        layers = [
            models.RandomShift(2),
            nn.Flatten(),
            nn.Dropout(0.3),
            nn.Linear(784, 10),
        ]
        model = nn.Sequential(*layers)
    elif name == "mlp":
        model = models.mlp(784, 20, 10)
    else:
        model = models.cnn((4,), (6,))
        if name == "cnn":
            model = nn.Sequential(
                *[x for x in model if not isinstance(x, nn.BatchNorm2d)]
            )
    return model.to(dtype)


def trained(
    name="cnn",
    dtype=torch.float64,
    optimizer=torch.optim.SGD,
    epochs=2,
    batch_size=BATCH,
    shuffle=True,
    examples=None,
    path=None,
    **options,
) -> dict:
    """Weights and buffers, and what was measured in and after a short training."""
    model, examples = network(name, dtype), examples or split(dtype=dtype)
    loop = fit if path is None else partial(checkpoint.fit_with_checkpoint, path)
    history = loop(
        model,
        examples,
        epochs,
        optimizer(model.parameters(), lr=0.02),
        batch_size=batch_size,
        test=examples[:50],
        generator=torch.Generator().manual_seed(0) if shuffle else None,
        **{"progress": False} | options,
    )
    measured = {key: value for key, value in vars(history).items() if key != "seconds"}
    evaluated = [evaluate(model, examples, batch_size=b) for b in (7, 30, 1000)]
    return {"state": model.state_dict(), "history": measured, "evaluated": evaluated}


CASES = {  # of equality; those named float32 in float32
    "cnn": {},
    "mlp": {"name": "mlp"},
    "adamw": {"optimizer": torch.optim.AdamW},
    "one at a time": {"name": "mlp", "batch_size": 1},
    "float32 mlp": {"name": "mlp", "dtype": torch.float32},
    "in order": {"shuffle": False},
    "smooth": {"loss_fn": partial(F.cross_entropy, label_smoothing=0.1)},
}


class Spy(nn.Linear):
    """Keeps the first feature of every example that passes, by batch."""

    def forward(self, x):
        self.seen = [*getattr(self, "seen", []), x[:, 0].tolist()]
        return super().forward(x)


def parts() -> list[list[float]]:
    """Which examples this process sees, batch by batch: each example is its own
    number."""
    numbers = torch.arange(float(N))
    examples = Split(torch.stack([numbers, numbers / N], 1), numbers.long() % 3)
    model, generator = Spy(2, 3), torch.Generator().manual_seed(0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    options = {"batch_size": BATCH, "generator": generator, "progress": False}
    fit(model, examples, 1, optimizer, **options)
    return model.seen


def message(error_type, function, *args, **options) -> str:
    """The message of an error that is expected."""
    try:
        function(*args, **options)
    except error_type as error:
        return f"{type(error).__name__}: {error}"
    return "nothing was raised"


def broken(where: int) -> Split:
    """An image with nan at this place: with batches of 37 in order, in a known rank's
    part."""
    examples = split()
    examples.images[where] = torch.nan
    return examples


def measurements(folder: Path) -> dict:
    """All that the tests look at, but for what happens when a rank dies."""
    result = {name: trained(**case) for name, case in CASES.items()}
    result["parts"] = parts()
    mlp = {"name": "mlp", "shuffle": False}
    diverging = partial(message, train.TrainingError, trained, **mlp)
    result["nan"] = {k: diverging(examples=broken(k)) for k in (2, 37 + 20, 74)}
    result["batch norm"] = trained("batch norm", batch_size=25)
    result["draws"] = torch.rand(3)
    result["too few"] = message(ValueError, trained, "batch norm")
    result["random"] = trained("random", path=folder / "random-2.pt", progress=True)
    result["uninterrupted"] = trained("random", epochs=4)
    save, saved = checkpoint.save, []
    checkpoint.save = lambda path, state: saved.append(str(path)) or save(path, state)
    result["resumed"] = trained("cnn", epochs=4, path=folder / "from-one.pt")
    checkpoint.save, result["saved"] = save, saved
    (folder / "damaged.pt").write_bytes(b"nothing")
    distributed.sum_over_ranks(0)  # both have written
    refused = partial(message, checkpoint.CheckpointError, trained, **mlp)
    result["damaged"] = refused(path=folder / "damaged.pt")
    result["unwritable"] = refused(path=folder / "damaged.pt" / "below.pt")
    return result | conversation(folder)


def conversation(folder: Path) -> dict:
    """What the ranks say to each other."""
    result = {"gathered": distributed.all_gather({"rank": distributed.rank()})}
    result["sum"] = distributed.sum_over_ranks(distributed.rank() + 0.5)
    with distributed.local_rank_0_first():
        result["there already"] = (folder / "made").exists()
        if distributed.rank() == 0:
            time.sleep(0.3)
        (folder / "made").touch()
    try:
        with distributed.local_rank_0_first():
            if distributed.rank() == 0:
                raise OSError("the disk is full")
    except OSError:
        pass  # the other rank got through: it would wait for ten minutes
    return result


def killed_once(folder: Path) -> dict:
    """Rank 1 is killed in the middle of epoch 3; started again, both go on."""
    again, calls = os.environ["TORCHELASTIC_RESTART_COUNT"] != "0", 0

    def cross_entropy(logits, y):
        nonlocal calls
        calls += 1
        if (
            not again and distributed.rank() == 1 and calls == 2 * 2 + 2
        ):  # two of three batches
            os.kill(os.getpid(), signal.SIGKILL)
        return F.cross_entropy(logits, y)

    path = folder / "killed.pt"
    result = trained("random", epochs=4, path=path, loss_fn=cross_entropy)
    return result | {"calls": calls}


def main(folder: Path) -> None:
    """Both lives of this process."""
    first_life = os.environ["TORCHELASTIC_RESTART_COUNT"] == "0"
    with distributed.group("cpu"):
        if first_life:
            run_command(folder, 2)
            torch.save(measurements(folder), folder / f"rank-{distributed.rank()}.pt")
        torch.save(killed_once(folder), folder / f"killed-{distributed.rank()}.pt")
        distributed.sum_over_ranks(0)  # both have written
        if distributed.rank() == 1:
            (folder / "raised").touch()
            raise ValueError("planted on rank 1")
        trained(epochs=1000)  # rank 0 works on, until it is told


if __name__ == "__main__":
    main(Path(sys.argv[1]))
