"""What test_distributed.py runs on two processes, by torchrun --max-restarts=1; argument: a folder.

First the command of the course, which writes FOLDER/command-2.json and .pt. Then every rank writes
what it found to FOLDER/rank-R.pt, and trains until rank 1 is killed. torchrun starts both again,
and they write what came of it to FOLDER/killed-R.pt; at last rank 1 raises.
"""

import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path
from unittest import mock

import torch
import torch.nn.functional as F
from torch import nn

from lessons_src import checkpoint, command, data, distributed, models, train
from lessons_src.data import Split

N, BATCH = 75, 37  # batches of 37, 37 and 1: shares of 19 and 18, then of 1 and 0
COMMAND = ["--model", "cnn", "--examples", "299", "--epochs", "2", "--dtype", "float64",
           "--device", "cpu", "--quiet"]  # fmt: skip


def run_command(folder: Path, ranks: int) -> None:
    """python -m lessons_src.train COMMAND with 501 test images, which two cannot share evenly."""
    load = data.load  # called where the command calls it: one rank first

    def few(name):
        return replace(found := load(name), test=found.test[:501])

    files = ["--json", f"{folder}/command-{ranks}.json", "--save", f"{folder}/command-{ranks}.pt"]
    with mock.patch.object(data, "load", few):
        command.main([*COMMAND, *files])


def split(n=N, dtype=torch.float64) -> Split:
    """Random images (n, 1, 28, 28) and labels."""
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(n, 1, 28, 28, generator=generator, dtype=torch.float64)
    return Split(images.to(dtype), torch.randint(10, (n,), generator=generator))


def network(name="cnn", dtype=torch.float64) -> nn.Module:
    """The course's CNN, with batch norm and nothing random; an MLP; "random": all that is."""
    train.seed_everything(3)
    if name == "random":
        layers = [models.RandomShift(2), nn.Flatten(), nn.Dropout(0.3), nn.Linear(784, 10)]
        return nn.Sequential(*layers).to(dtype)
    made = models.cnn((4,), (6,)) if name == "cnn" else models.mlp(784, 20, 10)
    return made.to(dtype)


def trained(name="cnn", dtype=torch.float64, optimizer=torch.optim.SGD, epochs=2, batch_size=BATCH,
            data=None, **options):  # fmt: skip
    """Weights and buffers, and what was measured in and after a short training."""
    model, data = network(name, dtype), data or split(dtype=dtype)
    steps = optimizer(model.parameters(), lr=0.02)
    history = train.fit(model, data, epochs, steps, batch_size=batch_size, test=data[:50],
                        device="cpu", **{"progress": False} | options)  # fmt: skip
    measured = {k: v for k, v in vars(history).items() if k != "seconds"}
    evaluated = [train.evaluate(model, data, batch_size=b) for b in (7, 30, 1000)]
    return {"state": model.state_dict(), "history": measured, "evaluated": evaluated}


CASES = {  # of equality; those named float32 in float32
    "cnn": {},
    "mlp": {"name": "mlp"},
    "adamw": {"optimizer": torch.optim.AdamW},
    "one at a time": {"name": "mlp", "batch_size": 1},
    "float32 cnn": {"dtype": torch.float32},
    "float32 mlp": {"name": "mlp", "dtype": torch.float32},
    "in order": {"shuffle": False},
    "smooth": {"loss_fn": lambda z, y: F.cross_entropy(z, y, label_smoothing=0.1)},
}


class Spy(nn.Linear):
    """Keeps the first feature of every example that passes, by batch."""

    def forward(self, x):
        self.seen = [*getattr(self, "seen", []), x[:, 0].tolist()]
        return super().forward(x)


def shares() -> list[list[float]]:
    """Which examples this process sees, batch by batch: each example is its own number."""
    numbers = torch.arange(float(N))
    data = Split(torch.stack([numbers, numbers / N], 1), numbers.long() % 3)
    model = Spy(2, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    train.fit(model, data, 1, optimizer, batch_size=BATCH, device="cpu", progress=False)
    return model.seen


def normalised(dims: int, sizes, options: dict) -> dict:
    """Batch norm of a batch of which every rank has a part of the given size: outputs, the
    gradients of input and parameters, buffers; twice, so that the running statistics move."""
    generator = torch.Generator().manual_seed(5)
    layer = (nn.BatchNorm1d if dims == 1 else nn.BatchNorm2d)(3, **options).double()
    whole = torch.randn(2, sum(sizes), 3, *[4, 5][: 2 * (dims - 1)], generator=generator).double()
    whole[:, :, 1] = whole[:, :, 1] * 1e-3 + 1e4  # a mean far from zero, and little spread
    if layer.affine:
        nn.init.normal_(layer.weight, generator=generator)
        nn.init.normal_(layer.bias, generator=generator)
    if distributed.world_size() > 1:
        layer.__class__ = distributed.BatchNorm
        whole = whole.split(sizes, dim=1)[distributed.rank()]
    x = whole.clone().requires_grad_()
    outputs = [layer.train()(part) for part in x]
    weigh = torch.linspace(-1, 1, x.shape[2:].numel()).double().view(x.shape[2:])
    loss = sum((y**3 * weigh).sum() for y in outputs)
    loss.backward()
    gradients = [p.grad for p in layer.parameters()]
    if distributed.world_size() > 1:
        gradients = [distributed.Sum.apply(g) for g in gradients]
    return {"output": torch.stack(outputs).detach(), "input": x.grad, "parameters": gradients,
            "state": layer.state_dict(), "evaluation": layer.eval()(x[0]).detach()}  # fmt: skip


NORMS = {
    "images": (2, [3, 2], {}),
    "a rank without examples": (2, [4, 0], {}),
    "vectors": (1, [3, 2], {}),
    "cumulative": (2, [3, 2], {"momentum": None}),
    "plain": (2, [3, 2], {"affine": False, "track_running_stats": False}),
}


def caught(what, function, *args, **options) -> str:
    try:
        function(*args, **options)
    except what as error:
        return f"{type(error).__name__}: {error}"
    return "nothing was raised"


def broken(where: int) -> Split:
    """An image with nan at this place: with batches of 37 in order, in a known rank's share."""
    data = split()
    data.images[where] = torch.nan
    return data


def all_findings(folder: Path) -> dict:
    found = {name: trained(**case) for name, case in CASES.items()}
    found["shares"] = shares()
    found["norms"] = {name: normalised(*case) for name, case in NORMS.items()}
    options = {"name": "mlp", "shuffle": False}
    found["nan"] = {where: caught(train.TrainingError, trained, data=broken(where), **options)
                    for where in (2, 37 + 20, 74)}  # fmt: skip
    found["state before"] = torch.initial_seed()
    found["draws"] = torch.rand(3)
    found["random"] = trained("random", checkpoint=folder / "random-2.pt", progress=True)
    found["random again"] = trained("random", epochs=4)
    save, saved = checkpoint.save, []
    checkpoint.save = lambda path, state: saved.append(str(path)) or save(path, state)
    found["resumed"] = trained("cnn", epochs=4, checkpoint=folder / "from-one.pt")
    checkpoint.save = save
    found["saved"] = saved
    (folder / "damaged.pt").write_bytes(b"nothing")
    distributed.total(0)  # both have written
    options["checkpoint"] = folder / "damaged.pt"
    found["damaged"] = caught(checkpoint.CheckpointError, trained, **options)
    options["checkpoint"] = folder / "damaged.pt" / "below.pt"
    found["unwritable"] = caught(checkpoint.CheckpointError, trained, **options)
    with distributed.one_first():
        found["there already"] = (folder / "made").exists()
        time.sleep(0.3 * (distributed.rank() == 0))
        (folder / "made").touch()
    found["gathered"] = distributed.gather({"rank": distributed.rank()})
    found["total"] = distributed.total(distributed.rank() + 0.5)
    return found


def killed_once(folder: Path) -> dict:
    """Rank 1 is killed in the middle of epoch 3; started again, both go on."""
    again, calls = int(os.environ["TORCHELASTIC_RESTART_COUNT"]), 0

    def loss_fn(logits, y):
        nonlocal calls
        calls += 1
        if not again and distributed.rank() == 1 and calls == 2 * 3 + 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return F.cross_entropy(logits, y)

    found = trained("random", epochs=4, checkpoint=folder / "killed.pt", loss_fn=loss_fn)
    found["calls"] = calls
    return found


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    if os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
        run_command(folder, 2)
    with distributed.group("cpu"):
        if os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
            torch.save(all_findings(folder), folder / f"rank-{distributed.rank()}.pt")
        torch.save(killed_once(folder), folder / f"killed-{distributed.rank()}.pt")
        distributed.total(0)  # both have written
        if distributed.rank() == 1:
            (folder / "raised").touch()
            raise ValueError("planted on rank 1")
        trained(epochs=1000)  # rank 0 works on, until it is told
