"""One style for every figure: matplotlib's drawing as SVG and as PNG, with its words.

`show(fig, alt)` puts the figure on the page. The book shows the SVG: text in the page's
own font and colour, series in CSS colours that the page defines for light and for dark.
Jupyter, Colab and previews show the SVG or the PNG on a white ground, also before
anything is run; what is to be seen stands below it, since they know no alt text.
Importing this module sets matplotlib's style.
"""

import base64
import html
import io
import logging
import math
import re

import matplotlib.pyplot as plt
import numpy as np
import torch
from IPython.display import display
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from PIL import Image

from lessons_src.expect import (
    expect,
    expect_between,
    expect_bool,
    expect_int,
    expect_type,
)
from lessons_src.svg import inline_svg, pixels, standalone

# Okabe and Ito's colour-blind-safe hues, darkened where needed to 3:1 on white.
PALETTE = {
    "blue": "#0072b2",
    "vermillion": "#d55e00",
    "green": "#009e73",
    "purple": "#a8528a",
    "orange": "#b87a00",
    "sky": "#3a95cf",
    "grey": "#7f7f7f",
}
BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, GREY = PALETTE.values()
# What a colour means, wherever it is used; `svg.py` writes the hue as the page's variable.
TRAIN, TEST = GREY, BLUE  # validation as test
OURS, THEIRS = BLUE, ORANGE  # as the block "Published elsewhere"
RIGHT, WRONG = BLUE, VERMILLION
GRADIENT = VERMILLION  # whatever flows backwards; BLUE is the way forwards
NEGATIVE, POSITIVE = BLUE, VERMILLION  # the two ends of DIVERGING
INK = "#010203"  # stands for the colour of the page's text; nobody would choose it
# A colour in matplotlib's file -> what the page has in its place.
PAGE_COLOURS = {INK: "currentColor"}
for _name, _colour in PALETTE.items():
    PAGE_COLOURS[_colour] = f"var(--nn-{_name}, {_colour})"
# Signed values: blue below zero, nothing at zero, orange above. Reads on white and black.
DIVERGING = LinearSegmentedColormap.from_list(
    "diverging",
    [
        (0, (0, 0.45, 0.7, 1)),
        (0.5, (0, 0.45, 0.7, 0)),
        (0.5, (0.84, 0.37, 0, 0)),
        (1, (0.84, 0.37, 0, 1)),
    ],
)
# Not opaque, so that the counts on top stay legible.
MISTAKES = LinearSegmentedColormap.from_list(
    "mistakes", [(0.84, 0.37, 0, 0), (0.84, 0.37, 0, 0.7)]
)
MAX_IMAGES = 1000  # images in a grid: drawing takes about a second for 100
WIDTH = 7.9  # inches: what code takes in the book, on a desk
STYLE = {
    "figure.figsize": (WIDTH, 3.4),
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "svg.fonttype": "none",
    "svg.hashsalt": "lessons",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 10.5,
    "axes.titlesize": 10.5,
    "legend.fontsize": 10,
    "xtick.labelsize": 9.5,
    "ytick.labelsize": 9.5,
    "axes.titlelocation": "left",
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "patch.edgecolor": INK,  # of arrows, and of what is not filled
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": INK,
    "grid.alpha": 0.15,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "lines.linewidth": 1.8,
    "legend.frameon": False,
    "image.cmap": "gray",
    "image.interpolation": "none",
    "axes.prop_cycle": plt.cycler(color=PALETTE.values()),
    "figure.constrained_layout.use": True,
}
plt.rcParams.update(STYLE)
# Its notice at the first use would stand on stderr.
logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)


class Picture:
    """A drawing with its words; a viewer of notebooks chooses the form that it can show."""

    def __init__(self, fig: Figure, svg: str, alt: str, caption: str | None):
        self.fig, self.svg, self.alt, self.caption = fig, svg, alt, caption

    def png(self) -> bytes:
        """On white, twice as fine as its pixels on the page, of 64 colours."""
        file, small = io.BytesIO(), io.BytesIO()
        self.fig.savefig(file, format="png", dpi=144, facecolor="white")
        drawn = Image.open(file).convert("RGB")
        drawn.quantize(64).save(small, format="PNG", optimize=True)
        return small.getvalue()

    def size(self) -> dict[str, int]:
        """Its width and height on the page, in CSS pixels."""
        inches = self.fig.get_size_inches()
        width, height = (int(pixels(72 * length)) for length in inches)
        return {"width": width, "height": height}

    @property
    def html(self) -> str:
        """The SVG as a figure inside HTML: a stepper's frame."""
        words = f"<figcaption>{self.caption}</figcaption>" if self.caption else ""
        return f'<figure class="nn-figure">{self.svg}{words}</figure>'

    def words(self) -> str:
        """What stands below it: the caption, or, hidden in the book, the alt text."""
        if self.caption:
            return caption_html(self.caption)
        return f'<p class="nn-alt"><i>{html.escape(self.alt)}</i></p>'

    def _repr_svg_(self):
        return standalone(self.svg)

    def _repr_png_(self):
        words = {"alt": self.alt, **self.size()}
        return base64.b64encode(self.png()).decode(), words

    def __repr__(self):
        return f"Figure: {self.alt}"


def caption_html(caption: str) -> str:
    """A caption, "Figure 3. What was found. How to read it.", its first two parts bold."""
    found = re.sub(r"^(Figure \d+\. .*?[.?!])(?= |$)", r"<b>\1</b>", caption)
    return f'<p class="nn-caption">{found}</p>'


def picture(fig: Figure, alt: str, caption: str | None = None, measured=False) -> Picture:
    """The matplotlib figure as a `Picture`; the figure is closed.

    alt: what is to be seen, for those who do not see it. measured=True where coordinates
    come from a measurement or from training: then its digits are not compared when the
    lesson is re-run. ValueError on an alt text that says too little.
    """
    expect_type("fig", fig, Figure, ", as fig, ax = plt.subplots() gives it")
    expect_type("caption", caption or "", str, ", or None")
    expect_bool("measured", measured)
    says_it = isinstance(alt, str) and len(alt.strip()) >= 20
    expect(says_it, "alt must say what is to be seen, in 20 characters or more", alt)
    file = io.StringIO()
    fig.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    plt.close(fig)
    svg = inline_svg(file.getvalue(), alt, measured, PAGE_COLOURS)
    return Picture(fig, svg, alt, caption)


def show_picture(drawn: Picture) -> None:
    """Display a picture, and its words below it."""
    expect_type("what is shown", drawn, Picture, ": show(fig, alt) makes one of a figure")
    display(drawn)
    plain = drawn.caption or drawn.alt
    display({"text/html": drawn.words(), "text/plain": plain}, raw=True)


def show(fig: Figure, alt: str, caption: str | None = None, measured=False) -> None:
    """Display the figure with its words; see `picture`."""
    show_picture(picture(fig, alt, caption, measured))


def show_images(images, titles=None, **options) -> None:
    """Display a grid of images; the options are those of `image_grid`, alt among them."""
    show_picture(image_grid(images, titles, **options))


def image_grid(
    images,
    titles=None,
    *,
    alt: str,
    columns: int = 8,
    caption: str | None = None,
    signed=False,
    measured=False,
    size=0.76,
) -> Picture:
    """A grid of images with a title over each, as a `Picture`: a stepper's frame, say.

    images (N, 1, H, W) or (N, H, W): grey values, 0 shown black, or signed values about
    zero (blue below, orange above). titles: N texts. size: inches for each image.
    ValueError on other shapes, and where the counts differ.
    """
    images = grey_images(images)
    needed = f"a grid shows {MAX_IMAGES} images at most; draw some, images[:64]"
    expect(len(images) <= MAX_IMAGES, needed, len(images))
    expect_int("columns", columns, high=100)
    expect_bool("signed", signed)
    expect_between("size, in inches,", size, 0.1, 20)
    if titles is not None and np.shape(titles) != (len(images),):
        raise ValueError(
            f"{len(images)} images need as many titles, received {np.size(titles)}"
        )
    low, high = value_range(images, signed)
    fig, axes = empty_grid(len(images), columns, size, has_titles=titles is not None)
    for k, (image, ax) in enumerate(zip(images, axes, strict=False)):
        ax.imshow(image, vmin=low, vmax=high, cmap=DIVERGING if signed else "gray")
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set(visible=True, linewidth=0.5, alpha=0.3)
        if titles is not None:
            ax.set_title(titles[k], loc="center", pad=3)
    return picture(fig, alt, caption, measured)


def grey_images(images) -> np.ndarray:
    """Images (N, 1, H, W) or (N, H, W), of any kind of numbers, as an array (N, H, W).

    ValueError on other shapes, and on a split of a data set.
    """
    if hasattr(images, "images"):
        raise ValueError("the images of a split are drawn by giving split.images")
    images = as_array(images)
    shape = images.shape
    if images.ndim == 4 and shape[1] == 1:
        images = images[:, 0]
    if images.ndim != 3 or images.size == 0:
        raise ValueError(
            "images must be (N, 1, H, W) or (N, H, W), one channel each; "
            f"received {shape}"
        )
    is_real = images.dtype.kind in "buif" and np.isfinite(images).all()
    expect(is_real, "images must be real numbers, without nan and inf", images.dtype)
    return images


def as_array(numbers) -> np.ndarray:
    """Numbers of any kind, also a tensor on a GPU or with a gradient, as an array."""
    if isinstance(numbers, torch.Tensor):
        numbers = numbers.detach().cpu()
        if numbers.dtype == torch.bfloat16:  # NumPy has no such type
            numbers = numbers.float()
    return np.asarray(numbers)


def value_range(images: np.ndarray, signed: bool) -> tuple[float, float]:
    """The values shown darkest and brightest."""
    if images.dtype.kind in "bi":  # |-128| is no int8
        images = images.astype(float)
    limit = np.abs(images).max()
    # What was normalised and put back differs from 0 by rounding
    is_seen = signed or images.min() >= -1e-3 * limit
    expect(is_seen, "values below 0 need signed=True, or are black", float(images.min()))
    if signed:
        # One value in 200 may saturate: a single pixel shall not make the rest pale.
        limit = np.quantile(np.abs(images), 0.995)
    if limit == 0:
        limit = 1
    return (-float(limit) if signed else 0), float(limit)


def empty_grid(n: int, columns: int, size: float, has_titles: bool):
    """A figure with room for n images in rows, and its axes; those left over are off."""
    rows = math.ceil(n / columns)
    height = size + (0.24 if has_titles else 0.03)
    fig, axes = plt.subplots(
        rows, columns, squeeze=False, figsize=(columns * size, rows * height)
    )
    for ax in axes.flat[n:]:
        ax.axis("off")
    return fig, axes.flat


def curves(
    histories: dict,
    key: str = "test_accuracy",
    *,
    alt: str,
    ylabel: str | None = None,
    xlabel: str = "epoch",
    logy=False,
    caption=None,
    ylim=None,
) -> None:
    """Display measured curves, one for each label, with a legend.

    histories: label -> a `History` (its list named `key` is drawn), or a list of numbers;
    the first point is epoch 1. ValueError where a history has no numbers under that key.
    """
    expect_bool("logy", logy)
    is_dict = isinstance(histories, dict) and histories
    expect(is_dict, "histories must be a dict, label -> History", histories)
    lines = {label: numbers_of(h, key) for label, h in histories.items()}
    if logy:
        least = min(values.min() for values in lines.values())
        expect(least > 0, "a logarithmic axis needs numbers above 0", float(least))
    fig, ax = plt.subplots()
    for label, values in lines.items():
        ax.plot(range(1, len(values) + 1), values, label=label, marker="o", markersize=3)
    ax.set(xlabel=xlabel, ylabel=ylabel or key.replace("_", " "))
    ax.xaxis.get_major_locator().set_params(integer=True)
    if logy:
        ax.set_yscale("log")
    if ylim:
        ax.set_ylim(ylim)
    ax.legend()
    show(fig, alt, caption, measured=True)


def numbers_of(history, key: str) -> np.ndarray:
    """The numbers to draw: the history's list named `key`, or the list itself."""
    if hasattr(history, "__dict__") and not hasattr(history, "__len__"):  # a History
        keys = [name for name, values in vars(history).items() if values]
        if key not in keys:
            raise ValueError(f"no numbers under {key!r}; this history has {keys}")
        history = getattr(history, key)
    values = as_array(history)
    fits = values.ndim == 1 and values.size > 0 and values.dtype.kind in "iuf"
    expect(fits and np.isfinite(values).any(), "a curve is a list of numbers", history)
    return values


def confusion(labels, predictions, class_names, *, alt: str, caption=None) -> None:
    """Display counts of (true class, predicted class); mistakes are tinted.

    labels, predictions (N,) int, from 0 to K - 1 for the K class names. ValueError on
    other shapes, unequal lengths and numbers out of range.
    """
    are_names = isinstance(class_names, list | tuple | str) and len(class_names) > 0
    are_names = are_names and all(isinstance(name, str) for name in class_names)
    expect(are_names, "class_names must be a list of words, in order", class_names)
    counts = pair_counts(labels, predictions, len(class_names))
    mistakes = counts.astype(float)
    np.fill_diagonal(mistakes, 0)
    fig, ax = plt.subplots(figsize=(5.4, 4.8))
    ax.imshow(mistakes, cmap=MISTAKES)
    for (i, j), count in np.ndenumerate(counts):
        weight = "bold" if i == j else "normal"
        ax.text(j, i, count, ha="center", va="center", fontsize=9, weight=weight)
    places = range(len(class_names))
    ax.set_xticks(places, class_names)
    ax.set_yticks(places, class_names)
    ax.set(xlabel="predicted", ylabel="true")
    if max(map(len, class_names)) > 2:
        ax.tick_params(axis="x", rotation=60)
    ax.grid(False)
    show(fig, alt, caption, measured=True)


def pair_counts(labels, predictions, k: int) -> np.ndarray:
    """How often each pair (label, prediction) occurs: (k, k) int."""
    labels, predictions = as_array(labels), as_array(predictions)
    if labels.ndim != 1 or labels.shape != predictions.shape:
        raise ValueError(
            f"labels and predictions must both be (N,); received {labels.shape} "
            f"and {predictions.shape}"
        )
    for name, classes in (("labels", labels), ("predictions", predictions)):
        if classes.dtype.kind not in "iu" or not np.isin(classes, range(k)).all():
            raise ValueError(f"{name} must be whole numbers from 0 to {k - 1}")
    counts = np.zeros((k, k), dtype=int)
    np.add.at(counts, (labels, predictions), 1)
    return counts
