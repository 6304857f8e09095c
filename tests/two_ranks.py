"""What test_distributed.py runs on two processes, by torchrun; argument: a folder.

Every rank writes what it found to FOLDER/rank-R.pt; the tests compare that with one process.
"""

import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from lessons_src import distributed, models, train
from lessons_src.data import Split


def digits(n=75, dtype=torch.float64) -> Split:
    """Random images (n, 1, 28, 28): with batches of 37 the last one has a single example."""
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(n, 1, 28, 28, generator=generator, dtype=dtype)
    return Split(images, torch.randint(10, (n,), generator=generator))


def small(name="cnn", dtype=torch.float64) -> nn.Module:
    """The course's CNN with batch norm, without anything random; or an MLP."""
    train.seed_everything(3)
    network = models.cnn((4,), (6,)) if name == "cnn" else models.mlp(784, 20, 10)
    return network.to(dtype)


def trained(name="cnn", dtype=torch.float64, optimizer=torch.optim.SGD, epochs=2, **options):
    """Weights, buffers and measured numbers of a short training."""
    model, split = small(name, dtype), digits(dtype=dtype)
    steps = optimizer(model.parameters(), lr=0.05)
    history = train.fit(model, split, epochs, steps, batch_size=37, test=split[:50], device="cpu",
                        progress=False, **options)  # fmt: skip
    measured = {k: v for k, v in vars(history).items() if k != "seconds"}
    loss_fn = torch.nn.functional.cross_entropy
    found = train.evaluate(model, split, batch_size=30, loss_fn=loss_fn)
    return {"state": model.state_dict(), "history": measured, "evaluated": found}


CASES = {
    "cnn": {},
    "mlp": {"name": "mlp"},
    "adam": {"optimizer": torch.optim.AdamW},
    "float32": {"dtype": torch.float32},
    "float32 mlp": {"name": "mlp", "dtype": torch.float32},
    "in order": {"shuffle": False},
    "smooth": {"loss_fn": lambda z, y: F.cross_entropy(z, y, label_smoothing=0.1)},
}

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    with distributed.group("cpu"):
        found = {name: trained(**case) for name, case in CASES.items()}
        torch.save(found, folder / f"rank-{distributed.rank()}.pt")
