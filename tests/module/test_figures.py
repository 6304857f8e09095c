"""lessons_src.figures: inline SVG that follows the page, with its alt text."""

import base64
import io
import re
import xml.etree.ElementTree as ET

import matplotlib.pyplot as plt
import pytest
import torch
from IPython.core.formatters import DisplayFormatter
from PIL import Image

from lessons_src import figures
from lessons_src.data import Split
from lessons_src.train import History

ALT = "A line that rises from one to three"


def line(**options):
    fig, ax = plt.subplots()
    ax.plot([1, 2, 3], label="a < b")
    ax.legend()
    ax.fill_between([0, 1], [0, 1], clip_path=None)
    return figures.picture(fig, ALT, **options)


def svg_of(picture):
    return re.search(r"(?s)<svg.*</svg>", picture.html)[0]


def bundle_of(picture):
    """What a viewer of notebooks can choose from, and what is said of it."""
    return DisplayFormatter().format(picture)


def test_a_picture_is_well_formed_and_says_what_is_to_be_seen():
    """role, aria-label, caption; nothing of matplotlib's file header is left."""
    picture = line(caption="Three <b>points</b>")
    root = ET.fromstring(svg_of(picture))
    assert root.get("role") == "img" and root.get("aria-label") == ALT
    assert "<figcaption>Three <b>points</b></figcaption>" in picture.html
    for left in ("<?xml", "<metadata", "<style"):  # a style would hold for the whole page
        assert left not in picture.html


def test_text_and_lines_follow_the_theme():
    """Text is currentColor, series are CSS variables; nothing is painted behind."""
    svg = svg_of(line())
    assert figures.INK not in svg and "currentColor" in svg
    assert f"var(--nn-blue, {figures.BLUE})" in svg
    assert not re.search(r"fill: ?(#ffffff|white)", svg)
    assert "#000000" not in svg


def test_text_is_text_in_the_pages_font():
    """Words can be searched and read aloud; no font of its own is asked for."""
    svg = svg_of(line())
    assert "a &lt; b" in svg and "font-family: inherit" in svg and "DejaVu" not in svg


def test_ids_are_unique_across_figures():
    """Two figures on one page share no id, and every reference has its target."""
    first = svg_of(line())
    fig, ax = plt.subplots()
    ax.plot([3, 1, 2])
    second = svg_of(figures.picture(fig, ALT))
    ids = [re.findall(r' id="([^"]+)"', s) for s in (first, second)]
    assert not set(ids[0]) & set(ids[1])
    for svg, own in zip((first, second), ids, strict=True):
        assert len(own) == len(set(own))
        assert set(re.findall(r'(?:url\(#|href="#)([^")]+)', svg)) == set(own)


def test_the_same_figure_is_the_same_text():
    """Drawn twice, equal to the letter: nbval compares it."""
    assert line().html == line().html


def test_a_viewer_finds_a_form_that_it_can_show():
    """SVG and PNG of one size and no HTML, which Jupyter would prefer, without its SVG."""
    data, said = bundle_of(line())
    assert set(data) == {"image/svg+xml", "image/png", "text/plain"}
    image = Image.open(io.BytesIO(base64.b64decode(data["image/png"])))
    size = said["image/png"]
    assert image.size == (int(1.5 * size["width"]), int(1.5 * size["height"]))
    assert f'width="{size["width"]}" height="{size["height"]}"' in data["image/svg+xml"]
    assert size["alt"] == ALT


def test_a_kernel_without_png_draws_none(monkeypatch):
    """As when the lessons are compared: the rest is the same, in two thirds of the time."""
    monkeypatch.setattr(figures.Picture, "png", None)
    formatter = DisplayFormatter()
    formatter.formatters["image/png"].enabled = False
    data, _ = formatter.format(line())
    assert set(data) == {"image/svg+xml", "text/plain"}
    assert data["text/plain"] == f"Figure: {ALT}"


def test_a_figure_reads_on_white_and_on_black():
    """Both forms bring a white ground and dark text, whatever lies behind them."""
    data, _ = bundle_of(line())
    image = Image.open(io.BytesIO(base64.b64decode(data["image/png"]))).convert("RGB")
    darkest = min(min(pixel) for pixel in image.get_flattened_data())
    assert image.getpixel((0, 0)) == (255, 255, 255) and darkest < 40
    root = ET.fromstring(data["image/svg+xml"])
    ground = root[0]
    assert ground.get("fill") == "#fff" and ground.get("width") == "100%"
    assert root.get("color") == "#000" and "serif" in root.get("font-family")


def test_its_words_stand_below_it(monkeypatch):
    """The caption; without one the alt text, which the book hides: there it is heard."""
    put = []
    monkeypatch.setattr(figures, "display", lambda shown, raw=False: put.append(shown))
    for caption, words in ((None, f'<p class="nn-alt"><i>{ALT}</i></p>'), ("A", "A</p>")):
        fig, ax = plt.subplots()
        figures.show(fig, ALT, caption)
        assert put[-1]["text/html"].endswith(words) and put[-1]["text/plain"]


def test_a_caption_states_its_finding_in_bold():
    """Number and first sentence are bold; a decimal point ends no sentence."""
    words = figures.caption_html("Figure 12. It costs 1.5 points. The dots are seeds.")
    assert words == (
        '<p class="nn-caption"><b>Figure 12. It costs 1.5 points.</b> The dots are seeds.</p>'
    )
    assert "<b>" not in figures.caption_html("No number. No finding.")


def test_measured_figures_are_marked():
    """Their coordinates are masked, those of exact figures are not."""
    assert '<svg fill="currentColor" class="measured"' in line(measured=True).html
    assert 'class="exact"' in line().html


@pytest.mark.parametrize("alt", ["", "a plot", "figure 1"])
def test_an_alt_text_that_says_nothing_is_refused(alt):
    """Every figure says what is to be seen."""
    with pytest.raises(ValueError, match="alt must say what is to be seen"):
        figures.picture(plt.figure(), alt)


def test_the_figure_is_closed():
    """Jupyter does not draw it a second time, and memory does not grow."""
    plt.close("all")
    line()
    assert plt.get_fignums() == []


GREY = torch.rand(5, 1, 8, 8)
SPLIT = Split(torch.zeros(4, 1, 8, 8, dtype=torch.uint8), torch.zeros(4).long())


@pytest.mark.parametrize(
    "images",
    [
        GREY,
        GREY[:, 0],
        GREY.numpy(),
        list(GREY),
        GREY.bfloat16(),
        GREY.clone().requires_grad_(),
        (255 * GREY).to(torch.uint8),
        GREY > 0.5,
    ],
)
def test_image_grid_takes_grey_images_of_any_kind(images):
    """(N, 1, H, W) or (N, H, W), tensors, arrays or a list; an image a tile."""
    grid = figures.image_grid(images, list("abcde"), alt=ALT, columns=3)
    assert grid.html.count("<image") == 5


def test_the_type_of_the_numbers_does_not_change_the_picture():
    """bfloat16 and float32 of the same values are drawn alike."""
    rough = GREY.bfloat16()
    assert tiles(rough) == tiles(rough.float()) != tiles(1 - rough.float())


def tiles(images):
    """The images of a grid, each as the text of a PNG file."""
    grid = figures.image_grid(images, alt=ALT)
    return re.findall(r"data:image/png;base64,\s*([^\"]+)", grid.html)


@pytest.mark.parametrize(
    "shape",
    [(5, 3, 8, 8), (5, 8, 8, 1), (5, 8, 8, 3), (8, 8), (0, 8, 8), (5, 1, 1, 8, 8)],
)
def test_image_grid_names_the_shapes_that_it_draws(shape):
    """Colours, channels last, a single image, no image: the message says what fits."""
    with pytest.raises(ValueError, match=r"\(N, 1, H, W\) or \(N, H, W\).*received"):
        figures.image_grid(torch.zeros(shape), alt=ALT)


def test_image_grid_of_a_split_says_what_to_give():
    """A split holds images and labels; its images are drawn."""
    with pytest.raises(ValueError, match="split.images"):
        figures.image_grid(SPLIT, alt=ALT)
    assert figures.image_grid(SPLIT.images, alt=ALT).html.count("<image") == 4


def test_titles_are_as_many_as_images():
    """A missing title is an error, not a shift of all others."""
    with pytest.raises(ValueError, match="5 images need as many titles, received 2"):
        figures.image_grid(GREY, ["a", "b"], alt=ALT)


def test_zero_is_invisible_in_signed_images():
    """Nothing is painted where a signed value is zero: it reads on white and on black."""
    assert figures.DIVERGING(0.5)[3] == pytest.approx(0, abs=0.01)
    assert figures.DIVERGING(0.0)[3] == figures.DIVERGING(1.0)[3] == 1


@pytest.fixture
def displayed(monkeypatch):
    """The pictures that were displayed."""
    pictures = []
    monkeypatch.setattr(figures, "show_picture", pictures.append)
    return pictures


def test_curves_draw_histories_and_lists(displayed):
    """One line for each label, named in the legend; measured, so digits are masked."""
    history = History(loss=[2.0, 1.0], test_accuracy=[0.1, 0.5])
    figures.curves({"a history": history, "a list": [0.2, 0.3]}, alt=ALT)
    figures.curves({"a history": history}, "loss", alt=ALT)
    first, second = (picture.html for picture in displayed)
    assert "measured" in first and ">test accuracy</text>" in first
    assert ">a history</text>" in first and ">a list</text>" in first
    assert ">loss</text>" in second


@pytest.mark.parametrize("key", ["test_accuracy", "los", "__class__", ""])
def test_curves_name_the_keys_that_there_are(key, displayed):
    """A list that `fit` left empty, or a name misspelt: the message lists the others."""
    history = History(loss=[2.0, 1.0], accuracy=[0.1, 0.5])
    with pytest.raises(ValueError, match=r"this history has \['loss', 'accuracy'\]"):
        figures.curves({"a": history}, key, alt=ALT)
    assert displayed == []


def test_confusion_counts_every_pair(displayed):
    """Rows are true classes, columns predictions."""
    labels, predictions = torch.tensor([0, 1, 1, 1]), torch.tensor([0, 1, 0, 0])
    figures.confusion(labels, predictions, ["x", "y"], alt=ALT)
    assert re.findall(r">(\d+)</text>", displayed[0].html) == ["1", "0", "2", "1"]


@pytest.mark.parametrize(
    ("labels", "predictions", "message"),
    [
        ([[0], [1]], [[0], [1]], r"both be \(N,\).*\(2, 1\)"),
        ([0, 1, 1, 0], [1], r"both be \(N,\).*\(4,\) and \(1,\)"),
        ([0, -1], [0, 1], "labels must be whole numbers from 0 to 1"),
        ([0, 1], [0, 2], "predictions must be whole numbers from 0 to 1"),
        ([0, 1], [0.2, 0.8], "predictions must be whole numbers from 0 to 1"),
        ([False, True], [0, 1], "labels must be whole numbers"),
    ],
)
def test_confusion_refuses_what_it_would_count_wrongly(labels, predictions, message):
    """(N, 1) would count N² pairs, one prediction would serve all, -1 the last class."""
    with pytest.raises(ValueError, match=message):
        figures.confusion(
            torch.tensor(labels), torch.tensor(predictions), ["x", "y"], alt=ALT
        )


def luminance(colour):
    parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    parts = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), parts, strict=True))


@pytest.mark.parametrize("name", figures.PALETTE)
def test_palette_reads_on_white(name):
    """At least 3:1 against white (WCAG's bound for graphics)."""
    assert 1.05 / (luminance(figures.PALETTE[name]) + 0.05) >= 3


def test_signed_colours_show_small_values():
    """A tenth of the limit has a tenth of the strength on both sides; zero has none."""
    for share in (0.1, 0.3, 0.6, 1.0):
        below = figures.DIVERGING((1 - share) / 2)
        above = figures.DIVERGING((1 + share) / 2)
        assert below[3] == pytest.approx(share, abs=0.02) == above[3]
        assert below[2] > below[0] and above[0] > above[2]  # blue below, orange above
    assert figures.DIVERGING(0.5)[3] < 0.01
