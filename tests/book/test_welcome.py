"""The welcome page's picture and numbers: computed, and what their sources say today."""

import json
import re

import nbformat
import pytest
from built_book import HTML, ROOT, on_disk

from lessons_src import data
from lessons_src.records import recorded
from tools import hero, png

STORED = json.loads(hero.FILE.read_text(encoding="utf-8"))
AGAIN = "the stored picture is not what the network gives: python -m tools.hero"


def test_the_big_numbers_are_their_sources(browser):
    """The race's ratio as its record has it; promises and cells as the notebooks do."""
    built = (HTML / "book" / "index.html").read_text(encoding="utf-8")
    values = re.findall(r"<li><b>([^<]+)</b>", built)
    targets = {one["name"]: one for one in recorded("race")["targets"]}
    paths = [*ROOT.glob("lessons/*.ipynb"), *ROOT.glob("book/*.ipynb")]
    cells = [c for p in paths for c in nbformat.read(p, as_version=4).cells]
    promises = sum(len(cell.metadata.get("promise", [])) for cell in cells)
    code = sum(cell.cell_type == "code" for cell in cells)
    ratio = targets["mlp-97"]["ratio"]["low"]
    assert values == [f"×{ratio:.0f}", f"{promises:,}", f"{code:,}"], "run make book"


def test_the_picture_is_computed():
    """The start and ten steps of the training, again: the stored probabilities."""
    needs_real_data()
    models = hero.trained(stop=10)
    check(models, probability=0.01)


@pytest.mark.sweep
def test_the_whole_picture_is_computed():
    """The whole training, again. Other threads add in another order, and hundreds of steps
    make more of it: the answer is the same, its probability and the accuracy nearly."""
    needs_real_data()
    models = hero.trained()
    assert set(map(str, models)) == set(STORED["frames"])
    check(models, probability=0.15)
    last = max(models)
    accuracy = hero.evaluate(models[last], hero.mnist()[1])[1]
    stored = STORED["frames"][str(last)]["accuracy"]
    assert accuracy == pytest.approx(stored, abs=0.003), AGAIN


def needs_real_data():
    if data.load("mnist").standin:
        pytest.skip("the picture is made from the real MNIST")


def check(models: dict, probability: float) -> None:
    """Each network gives what is stored for its number of steps."""
    _, test = hero.mnist()
    assert hero.packed(data.load("mnist").test.images[0]) == STORED["pixels"]
    for steps, model in models.items():
        found = hero.probabilities(model, test.images[:1])[0].tolist()
        stored = STORED["frames"][str(steps)]["probabilities"]
        assert found == pytest.approx(stored, abs=probability), AGAIN


def test_the_picture_steps(visit):
    """Its slider shows another frame, in the bars and in the sentence; the page opens with
    the last one, which needs no script."""
    tab = visit(on_disk("book/index"))
    sentence = tab.locator(".nn-after")
    steps = sorted(map(int, STORED["frames"]))
    shown = sentence.inner_text()
    assert f"After {steps[-1]} steps" in shown
    tab.get_by_role("slider", name="steps of training").press("Home")
    first = STORED["frames"]["0"]
    assert "After 0 steps" in sentence.inner_text()
    assert (
        f"{100 * first['accuracy']:.2f}".rstrip("0").rstrip(".") in sentence.inner_text()
    )
    count = tab.locator(".nn-hero .nn-count")
    assert count.inner_text() == f"1 of {len(steps)}"
    ticks = tab.locator(".nn-hero .nn-ticks > span").all_inner_texts()
    assert ticks == list(map(str, steps)), "a tick for each frame"
    widths = tab.locator(".nn-bars rect").evaluate_all(
        "all => all.map(e => Number(e.getAttribute('width')))"
    )
    assert widths == pytest.approx([90 * p for p in first["probabilities"]])
    for name, place in (("on", 2), ("back", 1)):
        tab.get_by_role("button", name=f"steps of training: {name}").click()
        assert count.inner_text() == f"{place} of {len(steps)}"
    tab = visit(on_disk("book/index"), without="hero.js")
    assert tab.locator(".nn-after").inner_text() == shown


def test_each_kind_of_block_is_shown(browser):
    """ "How to read a page" has one of every kind that the lessons have, by its class."""
    kinds = r'class="nn-(card|derivation|result|published|failure|quiz|stepper|task)\b'
    welcome = (HTML / "book" / "index.html").read_text(encoding="utf-8")
    shown = welcome.partition('<div class="nn-kinds">')[2].partition(
        'id="who-it-is-for"'
    )[0]
    used = {"quiz", "stepper"}  # drawn by a script in the lessons
    for lesson in HTML.glob("lessons/*.html"):
        used |= set(re.findall(kinds, lesson.read_text(encoding="utf-8")))
    assert sorted(re.findall(kinds, shown)) == sorted(used), (
        "mend .nn-kinds in book/index.md"
    )
    assert 'class="nn-promise"' in shown


def test_a_picture_made_smaller_is_its_mean():
    """Squares of two by two pixels of a palette, each the mean colour of its four."""
    palette = bytes([0, 0, 0, 200, 100, 40])
    rows = [bytes([0, 1, 1, 1]), bytes([0, 1, 1, 1])]
    body = png.zlib.compress(b"".join(b"\0" + row for row in rows))
    head = png.struct.pack(">IIBBBBB", 4, 2, 8, 3, 0, 0, 0)
    parts = [(b"IHDR", head), (b"PLTE", palette), (b"IDAT", body), (b"IEND", b"")]
    file = png.SIGNATURE + b"".join(png.chunk(name, part) for name, part in parts)
    small = png.reduced(file, 2)
    assert png.zlib.decompress(png.chunks(small)[b"IDAT"]) == bytes(
        [0, 100, 50, 20, 200, 100, 40]
    )
    with pytest.raises(ValueError, match="indices"):
        png.reduced(small, 2)
