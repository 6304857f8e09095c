"""lessons_src.figures: inline SVG that follows the page, with its alt text."""

import re
import xml.etree.ElementTree as ET

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from lessons_src import figures
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


def test_a_picture_is_well_formed_and_says_what_is_to_be_seen():
    """role, aria-label, caption; nothing of matplotlib's file header is left."""
    picture = line(caption="Three <b>points</b>")
    root = ET.fromstring(svg_of(picture))
    assert root.get("role") == "img" and root.get("aria-label") == ALT
    assert "<figcaption>Three <b>points</b></figcaption>" in picture.html
    for left in ("<?xml", "<metadata", "<style"):  # a style would hold for the whole page
        assert left not in picture.html


def test_text_and_lines_follow_the_theme():
    """Text is currentColor, series are CSS variables with a fallback, nothing is painted behind."""
    svg = svg_of(line())
    assert figures.INK not in svg and "currentColor" in svg
    assert f"var(--nn-blue, {figures.BLUE})" in svg
    assert not re.search(r"fill: ?(#ffffff|white)", svg)
    assert "#000000" not in svg


def test_text_is_text_in_the_pages_font():
    """Words can be searched and read aloud; no font of its own is asked for."""
    svg = svg_of(line())
    assert "a &lt; b" in svg and "font-family: inherit" in svg and "DejaVu" not in svg


def test_digits_of_text_are_kept_and_those_of_coordinates_rounded():
    """A tick label 0.0035 says 0.0035; a path has two decimals."""
    fig, ax = plt.subplots()
    ax.plot([0.123456, 2, 3.987654])
    ax.set_yticks([0.5], ["0.0035"])
    svg = svg_of(figures.picture(fig, ALT))
    assert ">0.0035</text>" in svg
    assert not any(re.search(r"\d\.\d{3}", d) for d in re.findall(r' d="([^"]*)"', svg))


def test_ids_are_unique_across_figures():
    """Two different figures on one page share no id, and every reference has its target."""
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


def test_image_grid_takes_tensors_and_arrays():
    """(N, 1, H, W) or (N, H, W); an image a tile."""
    for images in (torch.rand(5, 1, 8, 8), np.random.default_rng(0).random((5, 8, 8))):
        picture = figures.image_grid(images, list("abcde"), alt=ALT, columns=3)
        assert picture.html.count("<image") == 5
    with pytest.raises(ValueError, match="5 images need as many titles, received 2"):
        figures.image_grid(images, ["a", "b"], alt=ALT)


def test_zero_is_invisible_in_signed_images():
    """Nothing is painted where a signed value is zero: it reads on white and on black."""
    assert figures.DIVERGING(0.5)[3] == pytest.approx(0, abs=0.01)
    assert figures.DIVERGING(0.0)[3] == figures.DIVERGING(1.0)[3] == 1


def test_curves_and_confusion_display(capsys, monkeypatch):
    """A History or plain lists; counts of every pair in the confusion matrix."""
    shown = []
    monkeypatch.setattr(figures, "display", shown.append)
    figures.curves({"a": History(test_accuracy=[0.1, 0.5]), "b": [0.2, 0.3]}, alt=ALT)
    figures.confusion(torch.tensor([0, 1, 1]), torch.tensor([0, 1, 0]), ["x", "y"], alt=ALT)
    assert all("measured" in picture.html for picture in shown)
    counts = re.findall(r">(\d+)</text>", shown[1].html)
    assert counts == ["1", "0", "1", "1"]


def luminance(colour):
    parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    parts = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), parts, strict=True))


@pytest.mark.parametrize("name", figures.PALETTE)
def test_palette_reads_on_white(name):
    """At least 3:1 against white (WCAG's bound for graphics)."""
    assert 1.05 / (luminance(figures.PALETTE[name]) + 0.05) >= 3


def test_signed_colours_show_small_values():
    """A tenth of the limit has a tenth of the strength, on both sides; zero shows nothing."""
    for share in (0.1, 0.3, 0.6, 1.0):
        below, above = figures.DIVERGING((1 - share) / 2), figures.DIVERGING((1 + share) / 2)
        assert below[3] == pytest.approx(share, abs=0.02) == above[3]
        assert below[2] > below[0] and above[0] > above[2]  # blue below, orange above
    assert figures.DIVERGING(0.5)[3] < 0.01
