"""Images and labels as tensors in memory, from verified files or from a stand-in.

`load("mnist")` looks for the published .gz files, checks their SHA-256, downloads
what is missing, and where nothing can be had says so loudly and returns the stand-in.
"""

import os
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from functools import cached_property
from io import StringIO
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lessons_src import standin
from lessons_src.download import DataError, unpacked
from lessons_src.expect import (
    expect,
    expect_between,
    expect_bool,
    expect_int,
    expect_type,
)

FILES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)
CLOTHES = "T-shirt,trouser,pullover,dress,coat,sandal,shirt,sneaker,bag,ankle boot"
SOURCES = {
    "mnist": {
        "folder": "MNIST/raw",  # torchvision's own layout: one copy serves both
        "mirrors": (
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
        ),
        "sha256": (
            "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        ),
        "class_names": tuple("0123456789"),
    },
    "fashion-mnist": {
        "folder": "FashionMNIST/raw",
        "mirrors": (
            "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
            "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
        ),
        "sha256": (
            "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        ),
        "class_names": tuple(CLOTHES.split(",")),
    },
}
NOTICE = """
{line}
  THIS IS NOT {name}: it is the stand-in.
  {reason}
  The stand-in is made from scikit-learn's small handwritten digits, drawn at 28 x 28.
  Every lesson runs on it, but its numbers differ from those printed in the book.
{line}
"""


@dataclass(frozen=True)
class Split:
    """Images and labels of one split.

    images (N, 1, 28, 28): uint8 from 0 to 255 as loaded; float32 after `scaled` or
    `normalised`. labels (N,): int64. ValueError where the two do not belong together.
    """

    images: Tensor
    labels: Tensor

    def __post_init__(self):
        expect_type("images", self.images, Tensor)
        expect_type("labels", self.labels, Tensor)
        if self.labels.shape != self.images.shape[:1] or self.labels.dtype != torch.int64:
            raise ValueError(
                f"a split needs images (N, ...) and labels (N,) int64; received images "
                f"{tuple(self.images.shape)} and labels {tuple(self.labels.shape)} "
                f"{self.labels.dtype}"
            )
        if self.labels.device != self.images.device:
            raise ValueError(
                f"images on {self.images.device}, labels on {self.labels.device}: both "
                "have to be on one device; split.to(device) moves both"
            )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index) -> "Split":
        """A part of the split: `split[:1000]`, `split[mask]` or `split[indices]`.

        TypeError for a single number, and so for a loop over the split.
        """
        if not isinstance(index, slice) and np.ndim(index) == 0:
            raise TypeError(
                "a split gives parts, not single examples: take split.images[k] and "
                "split.labels[k], or loop over lessons_src.train.batches(len(split), 64)"
            )
        return Split(self.images[index], self.labels[index])

    def to(self, device) -> "Split":
        return Split(self.images.to(device), self.labels.to(device))

    def scaled(self) -> "Split":
        """Pixels as float32 from 0 to 1: what torchvision's ToTensor does."""
        return Split(self._pixels() / 255, self.labels)

    def normalised(self, mean: float, std: float) -> "Split":
        """Pixels as (x/255 - mean) / std, float32; give the *training* split's two."""
        expect_between("mean, of pixels from 0 to 1,", mean)
        expect_between("std, of pixels from 0 to 1,", std)
        expect(std > 0, "std must be more than 0", std)
        return Split(self._pixels().div_(255).sub_(mean).div_(std), self.labels)

    def _pixels(self) -> Tensor:
        if self.images.is_floating_point():  # a cell run twice: divided by 255 again
            raise ValueError(
                "these pixels are scaled already; scaled and normalised take the uint8 "
                "pixels of data.load, so run the cell that loads them first"
            )
        needed = "pixels must be uint8 from 0 to 255, as data.load gives them"
        expect(self.images.dtype == torch.uint8, needed, self.images)
        return self.images.float()

    def hold_out(self, n: int, seed: int = 0) -> tuple["Split", "Split"]:
        """Two parts, drawn at random for a seed: all but n examples, and the n."""
        expect_int("the number of examples to hold out", n, high=len(self) - 1)
        expect_int("seed", seed, low=0, high=2**64 - 1)
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))
        return self[order[n:]], self[order[:n]]


@dataclass(frozen=True)
class Dataset:
    """A training split, a test split, and where they came from."""

    name: str
    train: Split  # images (60000, 1, 28, 28)
    test: Split  # images (10000, 1, 28, 28)
    class_names: tuple[str, ...]
    source: str
    standin: bool = False

    @cached_property
    def _moments(self) -> tuple[float, float]:
        images = self.train.images
        fits = images.dtype == torch.uint8 and len(images) > 0
        expect(fits, "mean and std are those of uint8 pixels as loaded", images)
        # From the counts of the 256 grey values: exact, and 188 MB of float32 are never
        # made.
        counts = torch.bincount(images.flatten(), minlength=256).double()
        values = torch.arange(256, dtype=torch.float64) / 255
        mean = (counts @ values) / counts.sum()
        return mean.item(), ((counts @ (values - mean) ** 2) / counts.sum()).sqrt().item()

    @property
    def mean(self) -> float:
        """Mean pixel of the training split, pixels scaled to 0..1."""
        return self._moments[0]

    @property
    def std(self) -> float:
        """Standard deviation of the training split's pixels, scaled to 0..1."""
        return self._moments[1]

    def normalised(self) -> tuple[Split, Split]:
        """Training and test split, by the training split's mean and std."""
        return tuple(s.normalised(self.mean, self.std) for s in (self.train, self.test))

    def __repr__(self) -> str:
        return (
            f"{self.name}: {len(self.train):,} training and {len(self.test):,} test images, "
            f"from {self.source}"
        )


def load(name: str, root=None, notice=True) -> Dataset:
    """The data set "mnist", "fashion-mnist" or "digits" (the stand-in, by its own name).

    root: the folder with torchvision's layout; else the environment's LESSONS_DATA;
    else `data/` at the repository's root or in the working folder, which is made. A
    folder that is named has to be there: a misspelt one is not made.
    LESSONS_DATA=standin asks for the stand-in. LESSONS_MIRROR is the address of a
    mirror of one's own, tried first. notice=False: not a word about a download or the
    stand-in, where another call says it. ValueError on another name.
    """
    expect_bool("notice", notice)
    check_name(name)
    is_folder = root is None or isinstance(root, os.PathLike | str) and str(root)
    expect(is_folder, "root must be a folder, or None", root)
    if not notice:
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            return load(name, root)
    asked = root is None and os.environ.get("LESSONS_DATA") == "standin"
    root = _default_root() if root is None else Path(root).expanduser().absolute()
    if name == "digits":
        return Dataset(
            name, *_standin(root), SOURCES["mnist"]["class_names"], "scikit-learn"
        )
    if asked:
        return _loud_standin(name, root, "It was asked for by LESSONS_DATA=standin.")
    try:
        return _from_files(name, root)
    except (DataError, OSError) as error:  # also a folder that may not be read
        return _loud_standin(name, root, str(error))


def check_name(name) -> None:
    """ValueError unless there is a data set of this name."""
    if name not in (*SOURCES, "digits"):
        raise ValueError(f"no data set {name!r}; there are: {', '.join(SOURCES)}, digits")


def _default_root() -> Path:
    chosen = os.environ.get("LESSONS_DATA")
    if chosen and chosen != "standin":
        return Path(chosen).expanduser().absolute()
    repository = Path(__file__).resolve().parents[1]
    at_home = (repository / "pyproject.toml").exists()  # not so when installed by pip
    root = (repository if at_home else Path.cwd()) / "data"
    with suppress(OSError):  # said where it matters
        root.mkdir(exist_ok=True)
    return root


def _from_files(name: str, root: Path) -> Dataset:
    if not root.is_dir():
        raise DataError(f"There is no folder {root}: make it, or name another.")
    source = SOURCES[name]
    folder = root / source["folder"]
    files = zip(FILES, source["sha256"], strict=True)
    read = [unpacked(folder / file, sha256, source) for file, sha256 in files]
    train, test = _split(*read[:2]), _split(*read[2:])
    return Dataset(name, train, test, source["class_names"], str(folder))


def _split(images: bytearray, labels: bytearray) -> Split:
    """The numbers that stand after the files' headers, of 16 and of 8 bytes."""
    pixels = torch.frombuffer(images, dtype=torch.uint8, offset=16)
    return Split(
        pixels.view(-1, 1, 28, 28),
        torch.frombuffer(labels, dtype=torch.uint8, offset=8).long(),
    )


def _loud_standin(name: str, root: Path, reason: str) -> Dataset:
    print(NOTICE.format(line="!" * 78, name=name.upper(), reason=reason))
    digits = SOURCES["mnist"]["class_names"]  # they are digits, whatever was asked for
    return Dataset(name, *_standin(root), digits, "the stand-in", standin=True)


def _standin(root: Path) -> tuple[Split, Split]:
    x, y, x_test, y_test = standin.load_or_make(root)
    return Split(x, y), Split(x_test, y_test)
