"""The network of the page "Draw a digit": trained, written, read, and run in node.

It is the fast CNN of the course, trained by its own recipe twice: once on all training
images, for the page, and once without the held-out ones, on which the temperature is
fitted. `python -m tools.digit` calls this.
"""

import base64
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from lessons_src import data, recipes
from lessons_src.models import Crop
from tools import strokes

ROOT = Path(__file__).resolve().parents[1]
FILE = ROOT / "book" / "web" / "digit-weights.js"
DRAWINGS = ROOT / "book" / "draw" / "strokes.json"
RECIPE, SEED = "mnist-99", 0
SURE = 0.9  # below it the page asks "which is it?"
WAYS = ("mnist", "scaled", "drawn")  # of preparing a drawing, as digit.js names them
HEADER = """\
// The network of the page "Draw a digit". Made by python -m tools.digit, not by hand.
"use strict";

const nnDigitFile = """
FOOTER = """;

if (typeof module !== "undefined") module.exports = nnDigitFile;
"""


# ---- training, and what is written ----


def train_and_write(mnist: data.Dataset) -> None:
    """Write the drawings, and the weights of a network that is trained anew."""
    made = strokes.drawings()
    DRAWINGS.write_text(json.dumps(made, separators=(",", ":")), encoding="utf-8")
    FILE.write_text(HEADER + json.dumps(trained(mnist)) + FOOTER, encoding="utf-8")


def trained(mnist: data.Dataset) -> dict:
    """The network and the samples, as the page reads them."""
    recipe = recipes.OWN[RECIPE]
    train, test = recipes.splits(recipe)
    model, _ = recipes.run(recipe, train, test, SEED)
    logits = logits_of(model, test.images)  # (10000, 10)
    samples = chosen(logits, test.labels)
    return {
        "recipe": RECIPE,
        "seed": SEED,
        "mean": mnist.mean,
        "std": mnist.std,
        "sure": SURE,
        "temperature": temperature_of(recipe),
        **layers_of(model),
        "samples": [
            {
                "index": k,
                "label": test.labels[k].item(),
                "pixels": in_base64(mnist.test.images[k]),
            }
            for k in samples
        ],
        "example": example(),
    }


def temperature_of(recipe) -> float:
    """The temperature of a network that has not seen the images it is fitted on."""
    train, held_out = recipes.splits(recipe, validation=True)
    model, _ = recipes.run(recipe, train, held_out, SEED)
    return fit_temperature(logits_of(model, held_out.images), held_out.labels)


def fit_temperature(logits, y):
    """The T with the lowest mean cross-entropy of logits / T, by halving.

    As the lesson on certainty writes it; a test compares the two.
    """
    z = logits.double()  # (N, K)
    own = z.gather(1, y[:, None])[:, 0]  # (N,), the logit of the label
    low, high = 0.01, 100.0
    for _ in range(60):
        T = (low * high) ** 0.5  # the middle, in ratios
        p = (z / T).softmax(1)
        slope = ((p * z).sum(1) - own).mean()  # with respect to 1/T
        if slope > 0:  # a smaller 1/T would lower the loss: T is too small
            low = T
        else:
            high = T
    return T


@torch.no_grad()
def logits_of(model, images):
    """(N, 1, 28, 28) -> (N, 10), in evaluation mode."""
    model.eval()
    return torch.cat([model(part) for part in images.split(500)])


def chosen(logits, labels, doubtful=4) -> list[int]:
    """The first test image of each digit, and those of which the network is least sure."""
    first = [(labels == digit).nonzero()[0].item() for digit in range(10)]
    certainty = logits.softmax(1).amax(1)
    return first + certainty.argsort()[:doubtful].tolist()


def example() -> dict:
    """The drawing that the page begins with: the first 7 with a bar beside the middle."""
    for drawing in strokes.drawings():
        if (drawing["skeleton"], drawing["kind"]) == ("7 bar", "off-centre"):
            return drawing
    raise LookupError("no drawing of a 7 with a bar beside the middle")


def layers_of(model) -> dict:
    """The network's layers and numbers as digit.js takes them.

    Each batch norm becomes one scale and one shift for each channel. They stay apart from
    the weights: a pool stands between, and a negative scale would turn its maximum into a
    minimum.
    """
    modules = list(model.eval())
    crop, convolutions, numbers = modules[0], [], []
    if not isinstance(crop, Crop):
        raise ValueError(f"the network must begin with Crop, not {crop}")
    for at, layer in enumerate(modules):
        if isinstance(layer, nn.Conv2d):
            pool = isinstance(modules[at + 1], nn.MaxPool2d)
            norm = modules[at + 1 + pool]
            scale = norm.weight / (norm.running_var + norm.eps).sqrt()  # (C,)
            shift = norm.bias - scale * norm.running_mean  # (C,)
            numbers += [layer.weight, scale, shift]
            convolutions.append(
                {
                    "in": layer.in_channels,
                    "out": layer.out_channels,
                    "kernel": layer.kernel_size[0],
                    "pool": pool,
                }
            )
    numbers += [modules[-1].weight, modules[-1].bias]
    flat = torch.cat([n.detach().flatten() for n in numbers])
    return {"crop": crop.size, "convolutions": convolutions, "weights": in_base64(flat)}


def in_base64(tensor) -> str:
    """A tensor's bytes: little-endian, as all browsers' arrays are."""
    array = tensor.contiguous().numpy()
    return base64.b64encode(
        array.astype(array.dtype.newbyteorder("<")).tobytes()
    ).decode()


# ---- what was written, read again ----


def stored() -> dict:
    """The file of the page's network."""
    text = FILE.read_text(encoding="utf-8")
    return json.loads(text.removeprefix(HEADER).removesuffix(FOOTER))


class ScaleShift(nn.Module):
    """A stored batch norm: one scale and one shift for each channel."""

    def __init__(self, scale, shift):
        super().__init__()
        self.scale, self.shift = scale[:, None, None], shift[:, None, None]

    def forward(self, x):
        return x * self.scale + self.shift


def model_of(file: dict) -> nn.Sequential:
    """The stored network in PyTorch: normalised images (B, 1, 28, 28) -> logits (B, 10).

    Its layers up to the last ReLU are those whose outputs digit.js gives as maps, but
    that digit.js does a batch norm and its ReLU in one.
    """
    numbers = torch.frombuffer(
        bytearray(base64.b64decode(file["weights"])), dtype=torch.float32
    )
    at = 0

    def take(*shape):
        nonlocal at
        count = int(np.prod(shape))
        at += count
        return numbers[at - count : at].view(shape).clone()

    layers: list[nn.Module] = [Crop(file["crop"])]
    for layer in file["convolutions"]:
        n_in, n_out, k = layer["in"], layer["out"], layer["kernel"]
        conv = nn.Conv2d(n_in, n_out, k, bias=False)
        conv.weight.data = take(n_out, n_in, k, k)
        layers += [conv, *[nn.MaxPool2d(2)] * layer["pool"]]
        layers += [ScaleShift(take(n_out), take(n_out)), nn.ReLU()]
    linear = nn.Linear(n_out, 10)
    linear.weight.data, linear.bias.data = take(10, n_out), take(10)
    if at != len(numbers):
        raise ValueError(f"the file has {len(numbers)} numbers, its layers take {at}")
    return nn.Sequential(*layers, nn.AdaptiveMaxPool2d(1), nn.Flatten(), linear).eval()


def normalised(file: dict, images):
    """Bytes (N, 1, 28, 28) as the network takes them, float32."""
    return (images.float() / 255 - file["mean"]) / file["std"]


# ---- the page's own code, in node ----


def node(what: str, given: bytes) -> bytes:
    """What tools/digit_node.js answers. RuntimeError where it fails, with its words."""
    tool = shutil.which("node", path=Path(sys.executable).parent) or shutil.which("node")
    if tool is None:
        raise RuntimeError("node is missing: pip install -r requirements/book.txt")
    script = Path(__file__).with_name("digit_node.js")
    run = subprocess.run([tool, script, what], input=given, capture_output=True)
    if run.returncode:
        raise RuntimeError(run.stderr.decode())
    return run.stdout


def floats(answer: bytes):
    """What node wrote as float32, as a tensor."""
    return torch.frombuffer(bytearray(answer), dtype=torch.float32)


def node_logits(images):
    """Bytes (N, 1, 28, 28) -> logits (N, 10), by the page's own code."""
    return floats(node("answers", images.numpy().tobytes())).view(-1, 10)


def prepared(drawings: list[dict], way: str):
    """Drawings as images (N, 1, 28, 28), bytes, by the page's own code."""
    given = json.dumps({"drawings": drawings, "way": way}).encode()
    made = bytearray(node("prepare", given))
    return torch.frombuffer(made, dtype=torch.uint8).view(-1, 1, 28, 28)


def cross_entropy(logits, labels, T=1.0) -> float:
    """The mean loss at a temperature."""
    return F.cross_entropy(logits / T, labels).item()
