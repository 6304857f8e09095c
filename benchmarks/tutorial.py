"""The loop that the tutorials print: torchvision's data set behind a DataLoader, image by image.

It is what `benchmarks.speed` compares the course with. Network, optimizer, loss and batch are those
of `benchmarks.published`; nothing here is made slower or faster than its authors have it.
"""

import struct
import time
from pathlib import Path

from torch import Tensor
from torch.utils.data import DataLoader

from benchmarks.runs import Recipe
from lessons_src import data
from lessons_src.data import Dataset, Split
from lessons_src.train import evaluate, pick_device, seed_everything

KINDS = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST"}  # torchvision's names


def unpack(loaded: Dataset, root) -> None:
    """Write the verified tensors under `root` as the four IDX files that torchvision reads."""
    folder = Path(root) / data.SOURCES[loaded.name]["folder"]
    folder.mkdir(parents=True, exist_ok=True)
    train, test = loaded.train, loaded.test
    parts = (train.images[:, 0], train.labels, test.images[:, 0], test.labels)
    for file, values in zip(data.FILES, parts, strict=True):
        (folder / file.removesuffix(".gz")).write_bytes(_idx(values))


def _idx(values: Tensor) -> bytes:
    """A magic number (unsigned bytes, so many axes), the shape, the bytes: see lesson 01."""
    head = struct.pack(f">{1 + values.ndim}I", 0x0800 + values.ndim, *values.shape)
    return head + values.byte().numpy().tobytes()


def loader(recipe: Recipe, root, mean: float, std: float) -> DataLoader:
    """The training images as the recipe reads them: batches x (B, 1, 28, 28), y (B,).

    mean, std: used where the recipe names none of its own.
    """
    from torchvision import datasets, transforms  # here: seconds that only a training needs

    steps = [transforms.ToTensor()]
    mean, std = recipe.moments or (mean, std)
    if (mean, std) != (0.0, 1.0):  # ToTensor alone gives pixels from 0 to 1
        steps.append(transforms.Normalize((mean,), (std,)))
    kind = getattr(datasets, KINDS[recipe.dataset])
    images = kind(str(root), train=True, transform=transforms.Compose(steps))
    return DataLoader(images, batch_size=recipe.batch_size, shuffle=recipe.shuffle)


def train_epoch(model, batches, optimizer, loss_fn, device) -> float:
    """One epoch as the tutorials write it; the mean loss over its examples."""
    total = 0.0
    model.train()
    for images, labels in batches:
        images, labels = images.to(device), labels.to(device)
        optimizer.zero_grad()
        loss = loss_fn(model(images), labels)
        loss.backward()
        optimizer.step()
        total += loss.item() * len(labels)
    return total / len(batches.dataset)


def curve(recipe: Recipe, batches: DataLoader, test: Split, epochs: int, seed: int, say=print):
    """Train from scratch; accuracy on `test` (0 to 1), seconds and training loss of every epoch.

    The seconds are those of training alone: measuring the accuracy stops the clock.
    """
    seed_everything(seed)
    device = pick_device()
    model = recipe.network().to(device)
    optimizer = recipe.optimizer(model.parameters())
    found = {"accuracy": [], "seconds": [], "loss": []}
    for _ in range(epochs):
        start = time.perf_counter()
        loss = train_epoch(model, batches, optimizer, recipe.loss_fn, device)
        found["seconds"].append(time.perf_counter() - start)
        found["loss"].append(loss)
        found["accuracy"].append(evaluate(model, test)[1])
        say(f" {found['accuracy'][-1]:.2%}", end="", flush=True)
    return found
