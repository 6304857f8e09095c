"""One style for every figure: matplotlib drawn as inline SVG that follows the page's theme.

`show(fig, alt)` puts the figure on the page. Its text is real text in the page's own font and
colour, its series are CSS colours that the page defines for light and for dark (with a fallback
that reads on both), nothing is painted behind it, and it carries its alt text along.
Importing this module sets matplotlib's style.
"""

import hashlib
import html
import io
import logging
import re

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import display
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

# Okabe and Ito's colour-blind-safe hues, darkened where needed to 3:1 on white.
PALETTE = {
    "blue": "#0072b2", "vermillion": "#d55e00", "green": "#009e73", "purple": "#a8528a",
    "orange": "#b87a00", "sky": "#3a95cf", "grey": "#7f7f7f",
}  # fmt: skip
BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, GREY = PALETTE.values()
INK = "#010203"  # no colour that anyone would choose: becomes the CSS currentColor
# Signed values: blue below zero, nothing at zero, orange above it: reads on white and on black.
DIVERGING = LinearSegmentedColormap.from_list(
    "diverging",
    [
        (0, (0, 0.45, 0.7, 1)),
        (0.5, (0, 0.45, 0.7, 0)),
        (0.5, (0.84, 0.37, 0, 0)),
        (1, (0.84, 0.37, 0, 1)),
    ],
)
STYLE = {
    "figure.figsize": (6.2, 3.4), "figure.facecolor": "none", "axes.facecolor": "none",
    "savefig.facecolor": "none", "svg.fonttype": "none", "svg.hashsalt": "lessons",
    "font.family": "sans-serif", "font.sans-serif": ["DejaVu Sans"], "font.size": 10.5,
    "axes.titlesize": 10.5, "axes.labelsize": 10.5, "legend.fontsize": 10,
    "xtick.labelsize": 9.5, "ytick.labelsize": 9.5, "axes.titlelocation": "left",
    "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": INK, "axes.titlecolor": INK,
    "xtick.color": INK, "ytick.color": INK, "grid.color": INK, "grid.alpha": 0.15,
    "axes.grid": True, "axes.axisbelow": True, "axes.spines.top": False,
    "axes.spines.right": False, "axes.linewidth": 0.8, "lines.linewidth": 1.8,
    "legend.frameon": False, "image.cmap": "gray", "image.interpolation": "none",
    "axes.prop_cycle": plt.cycler(color=[BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, GREY]),
    "axes.unicode_minus": True, "figure.constrained_layout.use": True, "path.simplify": True,
}  # fmt: skip
plt.rcParams.update(STYLE)
logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)  # no stderr at first use


class Picture:
    """A figure as inline SVG with its alt text; it displays itself as HTML."""

    def __init__(self, html_text: str, alt: str):
        self.html, self.alt = html_text, alt

    def _repr_mimebundle_(self, include=None, exclude=None):
        return {"text/html": self.html, "text/plain": f"Figure: {self.alt}"}


def picture(fig: Figure, alt: str, caption: str | None = None, measured=False) -> Picture:
    """The matplotlib figure as a `Picture`; the figure is closed.

    alt: what is to be seen, for those who do not see it. measured=True where coordinates come
    from a measurement or from training: then its digits are not compared when the lesson is re-run.
    ValueError on an alt text that says too little.
    """
    if len(alt) < 20:
        raise ValueError(f"alt must say what is to be seen, in 20 characters or more: {alt!r}")
    buffer = io.StringIO()
    fig.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    plt.close(fig)
    svg = _adapt(buffer.getvalue(), alt, measured)
    caption = f"<figcaption>{caption}</figcaption>" if caption else ""
    return Picture(f'<figure class="nn-figure">{svg}{caption}</figure>', alt)


def show(fig: Figure, alt: str, caption: str | None = None, measured=False) -> None:
    """Display the figure; see `picture`."""
    display(picture(fig, alt, caption, measured))


def _adapt(svg: str, alt: str, measured: bool) -> str:
    """Matplotlib's SVG file as an SVG element that lives in a page."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->|<style.*?</style>", "", svg, flags=re.S)
    # Coordinates to a hundredth of a point, finer than a screen; digits in text stay as they are.
    svg = re.sub(r"(\d\.\d\d)\d+(?=[^<>]*>)", r"\1", svg)
    width, height = re.search(r'width="([\d.]+)pt" height="([\d.]+)pt"', svg).groups()
    box = re.search(r'viewBox="[^"]+"', svg).group()
    kind = "measured" if measured else "exact"
    head = (f'<svg class="{kind}" role="img" aria-label="{html.escape(alt)}" {box} '
            f'width="{float(width) * 4 / 3:.0f}" height="{float(height) * 4 / 3:.0f}" '
            'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
            'style="max-width: 100%; height: auto; stroke-linejoin: round">')  # fmt: skip
    svg = re.sub(r"<svg.*?>", lambda _: head, svg, count=1, flags=re.S)
    svg = re.sub(r"'DejaVu Sans'[^;\"]*", "inherit", svg)
    svg = re.sub(r"font: (\S+) inherit", r"font-size: \1; font-family: inherit", svg)
    svg = svg.replace(INK, "currentColor")
    # Glyphs and axes without a colour of their own would be black: they follow the text.
    svg = svg.replace("<svg ", '<svg fill="currentColor" ', 1)
    for name, colour in PALETTE.items():
        svg = svg.replace(colour, f"var(--nn-{name}, {colour})")
    return _unique_ids(re.sub(r"\s*\n\s*", " ", svg))


def _unique_ids(svg: str) -> str:
    """Drop ids that nothing refers to, and make the others differ from other figures' ids."""
    used = set(re.findall(r'(?:url\(#|href="#)([^")]+)', svg))
    mark = "f" + hashlib.sha256(svg.encode()).hexdigest()[:8]

    def renamed(match):
        return f' id="{mark}-{match[1]}"' if match[1] in used else ""

    svg = re.sub(r' id="([^"]+)"', renamed, svg)
    return re.sub(r'(url\(#|href="#)([^")]+)', rf"\g<1>{mark}-\g<2>", svg)


def show_images(images, titles=None, *, alt: str, columns: int = 8, caption: str | None = None,
                signed=False, measured=False, size=0.76) -> None:  # fmt: skip
    """A grid of images with a title over each.

    images (N, 1, H, W) or (N, H, W): grey values, 0 shown black, or signed values about zero
    (blue below, orange above). titles: N texts. ValueError where the counts differ.
    """
    display(image_grid(images, titles, alt=alt, columns=columns, caption=caption, signed=signed,
                       measured=measured, size=size))  # fmt: skip


def image_grid(images, titles=None, *, alt, columns=8, caption=None, signed=False,
               measured=False, size=0.76) -> Picture:  # fmt: skip
    """As `show_images`, but returned as a `Picture` (a frame of a stepper, say)."""
    images = np.asarray(images)
    images = images.reshape(len(images), *images.shape[-2:])
    if titles is not None and len(titles) != len(images):
        raise ValueError(f"{len(images)} images need as many titles, received {len(titles)}")
    rows = -(-len(images) // columns)
    title_space = 0.24 if titles is not None else 0.03
    fig, axes = plt.subplots(rows, columns, squeeze=False,
                             figsize=(columns * size, rows * (size + title_space)))  # fmt: skip
    # Signed: the largest one in 200 may saturate, so that a single pixel does not pale the rest.
    limit = float(np.quantile(np.abs(images), 0.995) if signed else np.abs(images).max()) or 1.0
    low, high = (-limit, limit) if signed else (0, limit)
    for ax in axes.flat[len(images) :]:
        ax.axis("off")
    for k, (image, ax) in enumerate(zip(images, axes.flat, strict=False)):
        ax.imshow(image, vmin=low, vmax=high, cmap=DIVERGING if signed else "gray")
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set(visible=True, linewidth=0.5, alpha=0.3)
        if titles is not None:
            ax.set_title(titles[k], loc="center", pad=3)
    return picture(fig, alt, caption, measured)


def curves(histories: dict, key: str = "test_accuracy", *, alt: str, ylabel: str | None = None,
           xlabel: str = "epoch", logy=False, caption=None, ylim=None) -> None:  # fmt: skip
    """Measured curves, one a label, direct labels at their ends.

    histories: label -> a `History` (its list named `key` is drawn), or a list of numbers;
    the first point is epoch 1.
    """
    fig, ax = plt.subplots()
    for label, history in histories.items():
        values = getattr(history, key, history)
        ax.plot(range(1, len(values) + 1), values, label=label, marker="o", markersize=3)
    ax.set(xlabel=xlabel, ylabel=ylabel or key.replace("_", " "))
    ax.xaxis.get_major_locator().set_params(integer=True)
    if logy:
        ax.set_yscale("log")
    if ylim:
        ax.set_ylim(ylim)
    ax.legend()
    show(fig, alt, caption, measured=True)


def confusion(labels, predictions, class_names, *, alt: str, caption=None) -> None:
    """Counts of (true class, predicted class); the diagonal is left out of the colours.

    labels, predictions (N,) int.
    """
    k = len(class_names)
    counts = np.zeros((k, k), dtype=int)
    np.add.at(counts, (np.asarray(labels), np.asarray(predictions)), 1)
    mistakes = counts.astype(float)
    np.fill_diagonal(mistakes, 0)
    fig, ax = plt.subplots(figsize=(5.4, 4.8))
    orange = [(0.84, 0.37, 0, 0), (0.84, 0.37, 0, 0.7)]  # not opaque: the counts stay legible
    ax.imshow(mistakes, cmap=LinearSegmentedColormap.from_list("mistakes", orange))
    for i, j in np.ndindex(k, k):
        ax.text(j, i, counts[i, j], ha="center", va="center", fontsize=9,
                weight="bold" if i == j else "normal")  # fmt: skip
    ax.set(xticks=range(k), yticks=range(k), xticklabels=class_names, yticklabels=class_names,
           xlabel="predicted", ylabel="true")  # fmt: skip
    if max(map(len, class_names)) > 2:
        ax.tick_params(axis="x", rotation=60)
    ax.grid(False)
    show(fig, alt, caption, measured=True)
