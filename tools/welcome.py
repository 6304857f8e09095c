"""A Sphinx extension: what the welcome page shows of the course, read when it is built.

Directives of `book/index.md`. `{hero}`: a test digit, the network that learns it and its
probabilities, as `tools.hero` computed them. `{start}`: the first lesson's button.
`{numbers}`: three numbers, from a record and from the notebooks. `{lessons} PART`: the
lessons of one part of `_toc.yml`, each with its poster, question and minutes. `{minutes}`:
their sum. So none of these numbers is typed. `{printed}`: a cell's output and its promise,
as a lesson shows them.
"""

import base64
import html
import json
import math
import re
from pathlib import Path

import yaml
from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from tools import notebook_pages, png

ROOT = Path(__file__).resolve().parents[1]
RECORDS = ROOT / "lessons_src" / "records"
QUESTION = r"\*\*Question\.\*\* (.+)"
MINUTES = r"\*\*Reading\*\* (\d+) minutes · \*\*exercises\*\* (\d+) minutes"
SMALLER = 5  # a thumbnail against its stored poster
SKY = (58, 149, 207)  # --nn-sky: reads on light and on dark


class Built(SphinxDirective):
    """A directive whose HTML is made from files; the page is built anew when they change."""

    final_argument_whitespace = True

    def run(self):
        """Called by Sphinx."""
        for file in self.files():
            self.env.note_dependency(str(file))
        return [nodes.raw(text=self.made(), format="html")]

    def files(self) -> list[Path]:
        """What the HTML is made from."""
        return [ROOT / "_toc.yml", *sorted(ROOT.glob("lessons/*.ipynb"))]

    def made(self) -> str:
        """The HTML."""
        raise NotImplementedError


# ---- the lessons ----


def parts() -> dict[str, list[dict]]:
    """The parts of the book and their chapters, as `_toc.yml` has them."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    return {part.get("caption", ""): part["chapters"] for part in toc["parts"]}


def lessons() -> list[dict]:
    """All lessons of the book in their order, each as `lesson` gives it."""
    chapters = [chapter for part in parts().values() for chapter in part]
    return [lesson(one) for one in chapters if one["file"].startswith("lessons/")]


def lesson(chapter: dict) -> dict:
    """A chapter's title, question, minutes of reading and of exercises, and its page."""
    text = (ROOT / f"{chapter['file']}.ipynb").read_text(encoding="utf-8")
    notebook = json.loads(text)
    card = "".join("".join(cell["source"]) + "\n" for cell in notebook["cells"][:3])
    reading, exercises = re.search(MINUTES, card).groups()
    number, title = chapter["title"].split(" · ", 1)
    return {
        "stem": Path(chapter["file"]).name,
        "number": number,
        "title": title,
        "question": re.search(QUESTION, card)[1],
        "reading": int(reading),
        "exercises": int(exercises),
    }


class Lessons(Built):
    """The lessons of one part, in a list."""

    required_arguments = 1

    def made(self):
        found = [lesson(chapter) for chapter in parts()[self.arguments[0]]]
        return f'<ol class="nn-path">{"".join(map(row, found))}</ol>'


def row(one: dict) -> str:
    """A lesson in the list: poster, question, title, minutes."""
    question, title = html.escape(one["question"]), html.escape(one["title"])
    return (
        f'<li><a href="../lessons/{one["stem"]}.html">'
        f'<img src="../_images/poster-{one["stem"]}.png" loading="lazy" width="152" '
        f'height="64" alt="The first figure of the lesson: {title}">'
        f'<span class="nn-asked">{question}</span>'
        f'<span class="nn-named">{one["number"]} · {title}</span>'
        f'<span class="nn-minutes">{one["reading"]} min, exercises '
        f"{one['exercises']}</span></a></li>"
    )


class Minutes(Built):
    """The sum of all lessons' minutes, in a sentence."""

    def made(self):
        found = lessons()
        reading = hours(sum(one["reading"] for one in found))
        exercises = hours(sum(one["exercises"] for one in found))
        return (
            f"<p>All {len(found)} together take {reading} of reading and running, and "
            f"{exercises} of exercises. They build on each other, so read them in this "
            "order.</p>"
        )


def hours(minutes: int) -> str:
    """Minutes in hours and minutes."""
    return f"{minutes // 60} h {minutes % 60} min"


class Start(Built):
    """Where to begin: the first lesson, and quieter ways beside it."""

    def made(self):
        first = lessons()[0]
        links = [("running.html#run-it-jupyter", "Run it on your machine")]
        if "book/draw" in self.env.found_docs:
            links.append(("draw.html", "Draw your own digit →"))
        if "book/playground" in self.env.found_docs:
            links.append(("playground.html", "Watch a network learn →"))
        quiet = "".join(f'<a href="{href}">{words}</a>' for href, words in links)
        return (
            f'<p class="nn-start"><a class="nn-button" href="../lessons/{first["stem"]}'
            f'.html">Start with lesson 1 · {first["reading"]} min</a>{quiet}</p>'
        )


def write_posters(app, exception):
    """The first figure of each lesson, made smaller, into the book's images."""
    if exception or app.builder.format != "html":
        return
    folder = Path(app.outdir) / "_images"
    folder.mkdir(exist_ok=True)
    for file in sorted(ROOT.glob("lessons/*.ipynb")):
        target = folder / f"poster-{file.stem}.png"
        if target.is_file() and target.stat().st_mtime > file.stat().st_mtime:
            continue
        target.write_bytes(png.reduced(poster(file), SMALLER))


def poster(file: Path) -> bytes:
    """The PNG of a lesson's poster, as it is stored."""
    notebook = json.loads(file.read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            picture = output.get("data", {}).get("image/png")
            if picture and "poster" in cell["metadata"].get("tags", []):
                return base64.b64decode("".join(picture))
    raise ValueError(f"{file.name} has no cell tagged poster with a figure")


# ---- a block in miniature ----


class Printed(Built):
    """The number that a cell prints, and below it the condition that the cell promises."""

    required_arguments = 1
    has_content = True

    def files(self):
        return []

    def made(self):
        value, conditions = self.arguments[0], list(self.content)
        strip = notebook_pages.strip(conditions, [float(value)])
        return (
            '<div class="cell_output"><div class="output stream"><div class="highlight">'
            f"<pre>{html.escape(value)}</pre></div></div>{strip}</div>"
        )


# ---- three numbers ----


class Numbers(Built):
    """Three numbers, each with the place that proves it."""

    def files(self):
        return [*super().files(), RECORDS / "race.json", ROOT / "book" / "cost.ipynb"]

    def made(self):
        race = mlp_race()
        least = "at least " if race["at_least"] else ""
        theirs, ours = (race[side]["seconds"]["median"] for side in ("theirs", "ours"))
        cells, promises = counts()
        cost = "cost.html#what-the-same-accuracy-costs-elsewhere"
        shown = [
            (
                f"×{race['ratio']['low']:.0f}",
                f"A multilayer perceptron reaches {100 * race['goal']:.0f} % of the test "
                f"digits in {ours:.2f} s. A published tutorial's loop takes {least}{theirs:.0f} s "
                "on the same machine, from the files on. Seconds are medians of the rounds; "
                "the factor is the smallest.",
                cost,
                "The race",
            ),
            (
                f"{promises:,}",
                "promises stand below the cells that make them. Each run of the tests tries "
                "every one of them again.",
                "#how-the-promise-is-kept",
                "How they are kept",
            ),
            (
                f"{cells:,}",
                "cells of code are run again by one command, and what they print is compared "
                "with these pages.",
                "running.html#verify-it",
                "The command",
            ),
        ]
        return f'<ul class="nn-numbers">{"".join(number(*one) for one in shown)}</ul>'


def number(value: str, words: str, href: str, proof: str) -> str:
    """One number, what it means, and the link to its proof."""
    return f'<li><b>{value}</b> <span>{words}</span> <a href="{href}">{proof}</a></li>'


def mlp_race() -> dict:
    """The race of the multilayer perceptrons to 97 %, from its record."""
    race = json.loads((RECORDS / "race.json").read_text(encoding="utf-8"))
    return next(one for one in race["targets"] if one["name"] == "mlp-97")


def counts() -> tuple[int, int]:
    """How many cells of code the notebooks have, and how many promises."""
    cells = promises = 0
    for file in [*ROOT.glob("lessons/*.ipynb"), ROOT / "book" / "cost.ipynb"]:
        for cell in json.loads(file.read_text(encoding="utf-8"))["cells"]:
            cells += cell["cell_type"] == "code"
            promises += len(cell["metadata"].get("promise", []))
    return cells, promises


# ---- the first picture ----


class Hero(Built):
    """A test digit, the layers' answers to it, and ten probabilities, at several steps."""

    def files(self):
        return [ROOT / "book" / "hero.json", RECORDS / "mnist-99.json"]

    def made(self):
        found = json.loads(self.files()[0].read_text(encoding="utf-8"))
        record = json.loads(self.files()[1].read_text(encoding="utf-8"))
        return hero(found, record)


def hero(found: dict, record: dict) -> str:
    """The figure in HTML: its last frame, and all frames for the script that steps."""
    stops = {steps: stop(one) for steps, one in found["frames"].items()}
    last = max(map(int, stops))
    frame = found["frames"][str(last)]
    digit = base64.b64decode(found["pixels"])
    panels = [panel(source(png.written(digit, 28, 1)), "28 × 28 pixels", 0)]
    for k, layer in enumerate(frame["maps"]):
        count, side, _ = layer["shape"]
        words = f"{count} maps, {side} × {side}" if side > 1 else f"{count} numbers"
        panels.append(panel(stops[str(last)]["maps"][k], words, k + 1))
    machine, seconds = record["machine"], record["seconds"]["mean"]
    data = html.escape(json.dumps(stops), quote=True)
    return (
        f'<figure class="nn-hero" data-frames="{data}" data-label="{found["label"]}">'
        f'<div class="nn-layers">{"".join(panels)}{bars(frame["probabilities"])}</div>'
        f'<p class="nn-after">After {last} steps of training the network sees a '
        f"{best(frame)}, with {max(frame['probabilities']):.0%}. It reads "
        f"{frame['accuracy']:.2%} of the 10,000 test images right.</p>"
        "<figcaption>The first image of MNIST’s test split, what each layer makes of it, and "
        "ten probabilities. Nothing here is drawn by hand: the network is that of "
        '<a href="../lessons/17_fast_cnn.html">lesson 17</a>, trained once over the training '
        f"split, which takes {seconds:.1f} s on {machine['threads']} cores of an "
        f"{machine['name']}.</figcaption></figure>"
    )


def best(frame: dict) -> int:
    """The class with the largest probability."""
    return frame["probabilities"].index(max(frame["probabilities"]))


def stop(frame: dict) -> dict:
    """What the script needs to show a number of steps."""
    return {
        "probabilities": frame["probabilities"],
        "accuracy": frame["accuracy"],
        "maps": [source(tiled(layer)) for layer in frame["maps"]],
    }


def panel(url: str, words: str, layer: int) -> str:
    """A square of the row."""
    what = (
        "A handwritten digit" if layer == 0 else f"What layer {layer} makes of the digit"
    )
    return (
        f'<div class="nn-layer"><img src="{url}" width="92" height="92" '
        f'alt="{what}: {words}"><span>{words}</span></div>'
    )


def source(file: bytes) -> str:
    """A PNG file as a URL that holds it."""
    return f"data:image/png;base64,{base64.b64encode(file).decode()}"


def tiled(layer: dict) -> bytes:
    """The maps of one layer side by side, as a PNG file: the larger, the more opaque."""
    count, side, _ = layer["shape"]
    values = base64.b64decode(layer["values"])
    columns, gap = math.ceil(math.sqrt(count)), 1 if side > 1 else 0
    width = columns * (side + gap) - gap
    pixels = bytearray(bytes([*SKY, 0]) * (width * width))
    for at, value in enumerate(values):
        which, place = divmod(at, side * side)
        y = which // columns * (side + gap) + place // side
        x = which % columns * (side + gap) + place % side
        pixels[4 * (y * width + x) + 3] = value
    return png.written(bytes(pixels), width, 4)


def bars(probabilities: list[float]) -> str:
    """Ten bars, the largest strong."""
    most = max(probabilities)
    lines = [
        f'<text x="0" y="{10 * k + 9}">{k}</text>'
        f'<rect class="{"nn-most" if p == most else ""}" x="14" y="{10 * k + 2}" '
        f'width="{90 * p:.1f}" height="7" rx="1"/>'
        for k, p in enumerate(probabilities)
    ]
    words = (
        "Ten bars, the probabilities of the digits; the longest is that of "
        f"{probabilities.index(most)}, {most:.0%}."
    )
    return (
        f'<svg class="nn-bars" role="img" aria-label="{words}" viewBox="0 0 106 102" '
        f'width="106" height="102">{"".join(lines)}</svg>'
    )


def add_files(app, page, *_):
    """The style and the script that this page alone needs."""
    if page == "book/index":
        app.add_css_file("welcome.css")
        app.add_js_file("hero.js", loading_method="defer")


def setup(app):
    """Called by Sphinx."""
    for name, directive in {
        "hero": Hero,
        "start": Start,
        "numbers": Numbers,
        "lessons": Lessons,
        "minutes": Minutes,
        "printed": Printed,
    }.items():
        app.add_directive(name, directive)
    app.connect("html-page-context", add_files)
    app.connect("build-finished", write_posters)
    return {"version": "1", "parallel_read_safe": True}
