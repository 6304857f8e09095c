"""The welcome page's first picture, computed: `python -m tools.hero`.

Trains the lesson's fast network (the recipe mnist-99, seed 0, one pass over the training
split) and looks at the first test image after 0, 10, 20 and more steps: the network's ten
probabilities, what its layers give, and how many test images it gets right. Writes them
to `book/hero.json`; the book draws them (`tools.welcome`). The real data only.
"""

import base64
import copy
import functools
import json
import sys
from pathlib import Path

import torch

from lessons_src import data
from lessons_src.recipes import OWN, splits
from lessons_src.train import evaluate, fit

FILE = Path(__file__).resolve().parents[1] / "book" / "hero.json"
RECIPE, SEED = OWN["mnist-99"], 0
STEPS = (0, 10, 20, 30, 50, 100)  # and the last


@functools.cache
def mnist() -> tuple:
    """The training and the test split, normalised as the recipe has it."""
    return splits(RECIPE)


class Enough(Exception):
    """Ends a training that is watched only at its start."""


class Watch:
    """A schedule that copies the network after some steps, and may end the training."""

    def __init__(self, scheduler, model, stop: int | None):
        self.scheduler, self.model, self.stop = scheduler, model, stop
        self.seen, self.copies = 0, {0: copy.deepcopy(model)}

    def step(self):
        """Called by `fit` after every step."""
        self.scheduler.step()
        self.seen += 1
        if self.seen in STEPS:
            self.copies[self.seen] = copy.deepcopy(self.model)
        if self.seen == self.stop:
            raise Enough


def trained(stop: int | None = None) -> dict:
    """The network after each number of steps, up to `stop` of them: steps -> module."""
    train, _ = mnist()
    model, optimizer, scheduler, generator = RECIPE.start(len(train), SEED)
    watch = Watch(scheduler, model, stop)
    try:
        fit(
            model,
            train,
            RECIPE.epochs,
            optimizer,
            batch_size=RECIPE.batch_size,
            scheduler=watch,
            loss_fn=RECIPE.loss_fn,
            generator=generator,
            progress=False,
        )
    except Enough:
        return watch.copies
    return {**watch.copies, watch.seen: model}


@torch.no_grad()
def probabilities(model, images) -> torch.Tensor:
    """(N, 1, 28, 28) -> (N, 10), in evaluation mode."""
    return model.eval()(images).softmax(1)


@torch.no_grad()
def feature_maps(model, image) -> list[dict]:
    """What each ReLU layer gives for one image (1, 1, 28, 28).

    Each as its shape (C, H, W) and its values from 0 to the layer's largest, in bytes.
    """
    found, x = [], image
    for layer in model.eval():
        x = layer(x)
        if isinstance(layer, torch.nn.ReLU):
            values = (255 * x[0] / x.max().clamp(min=1e-6)).round().to(torch.uint8)
            found.append({"shape": list(x.shape[1:]), "values": packed(values)})
    return found


def packed(values) -> str:
    """A tensor uint8 as text."""
    return base64.b64encode(values.contiguous().numpy().tobytes()).decode()


def frame(model, test) -> dict:
    """What the page shows of a network: its answer to the first image of a split, and its
    accuracy on all of them."""
    image = test.images[:1]
    return {
        "accuracy": round(evaluate(model, test)[1], 4),
        "probabilities": [round(p, 4) for p in probabilities(model, image)[0].tolist()],
        "maps": feature_maps(model, image),
    }


def main() -> int:
    """Compute and write; the exit status for the shell."""
    if data.load("mnist").standin:
        print(
            "The picture is made from the real MNIST only. See above for what is missing."
        )
        return 1
    _, test = mnist()
    found = {
        "command": "python -m tools.hero",
        "recipe": RECIPE.name,
        "seed": SEED,
        "label": int(test.labels[0]),
        "pixels": packed(data.load("mnist").test.images[0]),
        "frames": {steps: frame(model, test) for steps, model in trained().items()},
    }
    FILE.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(f"{FILE.name} is written: {len(found['frames'])} frames")
    return 0


if __name__ == "__main__":
    sys.exit(main())
