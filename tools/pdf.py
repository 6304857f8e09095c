"""The whole book in one PDF: `python -m tools.pdf`.

A browser opens each page of the built book and takes what can be printed of it: widgets
as their first frame, questions with their answers at the end, solutions too. All pages
become one, which is printed twice: the first time tells the page numbers of the contents.
"""

import html
import re
import shutil
import sys
from pathlib import Path

import yaml
from playwright.sync_api import sync_playwright

from tools import book

HERE = Path(__file__).parent
HTML = book.BUILD / "html"
TARGET = book.BUILD / "neural-networks-that-run.pdf"
PAGE_SCRIPT = (HERE / "pdf_page.js").read_text(encoding="utf-8")
# What is too wide for the paper is made smaller; code of more than a quarter of a page may
# go on on the next one.
FIT = """() => {
    for (const pre of document.querySelectorAll('pre')) {
        pre.classList.toggle('nn-long', pre.clientHeight > 240);
    }
    for (const box of document.querySelectorAll('.math, table, pre, figure')) {
        const room = box.parentElement.clientWidth, wide = box.scrollWidth;
        if (wide > room + 1) box.style.zoom = Math.max(0.5, room / wide);
    }
}"""
# For the first print, which is thrown away: figures of the same size, with nothing in them.
HIDE_DRAWINGS = """() => {
    const style = document.createElement('style');
    style.id = 'no-drawings';
    style.textContent = 'svg > * { display: none }';
    document.head.append(style);
}"""
PAPER = {"width": 643, "height": 960}  # pixels of 1/96 inch: A4 without its margins


def main(words: list[str]) -> int:
    """Print the book, or only the pages whose name holds one of the words."""
    chapters = contents()
    if words:
        chapters = [c for c in chapters if any(word in c["file"] for word in words)]
    missing = [c["file"] for c in chapters if not (HTML / f"{c['file']}.html").is_file()]
    if missing:
        print(f"The book is not built ({missing[0]} is missing): run make book.")
        return 1
    with sync_playwright() as play:
        chromium = shutil.which("chromium") or shutil.which("google-chrome")
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        pdf = print_book(browser, chapters)
        browser.close()
    TARGET.write_bytes(pdf)
    pages = len(re.findall(rb"/Type /Page\b", pdf))
    print(f"{pages} pages, {len(pdf) / 1e6:.1f} MB: {TARGET}")
    return 0


def contents() -> list[dict]:
    """The chapters of `_toc.yml` in their order: file, title or None, caption of the part
    or None."""
    toc = yaml.safe_load((book.ROOT / "_toc.yml").read_text(encoding="utf-8"))
    chapters = [{"file": toc["root"], "title": None, "part": None}]
    for part in toc["parts"]:
        for chapter in part["chapters"]:
            title = chapter.get("title")
            chapters.append(
                {"file": chapter["file"], "title": title, "part": part.get("caption")}
            )
    return chapters


def print_book(browser, chapters: list[dict]) -> bytes:
    """The PDF: all pages taken, put together, printed twice."""
    tab = browser.new_page(color_scheme="light", reduced_motion="reduce")
    tab.set_default_timeout(120_000)
    places = {chapter["file"]: i for i, chapter in enumerate(chapters)}
    bodies = [take(tab, chapter, places) for chapter in chapters]
    file = book.BUILD / "pdf" / "book.html"
    file.parent.mkdir(exist_ok=True)
    file.write_text(together(chapters, bodies, stylesheets(tab)), encoding="utf-8")
    tab.set_viewport_size(PAPER)
    tab.emulate_media(media="print", color_scheme="light")
    tab.goto(file.as_uri(), wait_until="load")
    tab.evaluate("document.fonts.ready.then(() => true)")
    tab.evaluate(FIT)
    tab.evaluate(HIDE_DRAWINGS)
    numbers = page_numbers(to_pdf(tab, outline=False))
    tab.evaluate("document.getElementById('no-drawings').remove()")
    tab.evaluate(
        """numbers => document.querySelectorAll('[data-page-of]').forEach(e => {
            e.textContent = numbers[e.dataset.pageOf] ?? '';
        })""",
        numbers,
    )
    pdf = to_pdf(tab)
    tab.close()
    return pdf


def to_pdf(tab, outline: bool = True) -> bytes:
    """The page as Chromium prints it, with an outline of its headings (which needs the
    tags of the structure, and takes longer)."""
    return tab.pdf(
        prefer_css_page_size=True, print_background=True, outline=outline, tagged=outline
    )


def take(tab, chapter: dict, places: dict[str, int], epub: bool = False) -> str:
    """The body of one page for print, or for an EPUB. Adds the title that it has, where
    the chapter has none."""
    # Paper does not run: these pages then show what they show without script.
    tab.route("**/{draw,playground}.js*", lambda route: route.fulfill(body=""))
    tab.goto((HTML / f"{chapter['file']}.html").as_uri(), wait_until="load")
    views = tab.locator("script[type='application/vnd.jupyter.widget-view+json']")
    tab.wait_for_function(
        "n => document.querySelectorAll('.nn-stepper, .nn-quiz').length >= n",
        arg=views.count(),
    )
    heading = tab.locator("article h1").first
    chapter["title"] = chapter["title"] or heading.evaluate("e => e.firstChild.data")
    asked = {
        "number": places[chapter["file"]],
        "title": html.escape(chapter["title"]),
        "deeper": 1 if chapter["part"] and not epub else 0,
        "places": places,
        "epub": epub,
    }
    return tab.evaluate(PAGE_SCRIPT, asked)


def stylesheets(tab) -> list[str]:
    """The addresses of the style sheets of the page that is open."""
    sheets = tab.locator("link[rel=stylesheet]").evaluate_all(
        "all => all.map(e => e.href)"
    )
    sheets = [sheet for sheet in sheets if not sheet.endswith("cheatsheet.css")]
    return [*sheets, (HERE / "pdf.css").as_uri()]


def together(chapters: list[dict], bodies: list[str], sheets: list[str]) -> str:
    """One page of HTML: cover, contents, and every chapter behind its part."""
    links = "".join(f'<link rel="stylesheet" href="{sheet}">\n' for sheet in sheets)
    running = "".join(
        f"@page p{i} {{ @top-right {{ content: {css_string(chapter['title'])}; "
        'font: 9pt "Source Sans 3"; color: #444; } }\n'
        f"#p{i} {{ page: p{i}; }}\n"
        for i, chapter in enumerate(chapters)
    )
    parts, last = [], None
    for i, (chapter, body) in enumerate(zip(chapters, bodies, strict=True)):
        if chapter["part"] not in (None, last):
            parts.append(part_page(chapter["part"], chapters))
        last = chapter["part"]
        parts.append(f'<section class="nn-pdf-page" id="p{i}">{body}</section>')
    return (
        '<!DOCTYPE html>\n<html lang="en" data-theme="light" data-mode="light">\n'
        '<head><meta charset="utf-8"><title>Neural Networks That Run</title>\n'
        f"{links}<style>\n{running}</style></head>\n"
        f'<body class="bd-article">\n{cover()}{table(chapters)}{"".join(parts)}'
        "</body></html>\n"
    )


def css_string(text: str) -> str:
    """A text in quotes, for a style sheet."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def cover() -> str:
    """The first page."""
    logo = (HTML / "_static" / "logo.svg").as_uri()
    return (
        f'<section class="nn-pdf-cover"><img src="{logo}" alt="">'
        '<p class="nn-title">Neural Networks That Run</p>'
        '<p class="nn-lead">A course on neural networks in PyTorch, from one tensor to '
        "networks that beat the published tutorials on MNIST and Fashion-MNIST.</p>"
        '<p class="nn-rights">The developers of Neural Networks That Run.<br>'
        "Text and figures: Creative Commons Attribution 4.0. Code: MIT licence.<br>"
        "Printed from the book's pages. Its sliders stand on their first frame; answers "
        "and solutions are at the end of each lesson; code that only draws is in the "
        "notebooks.</p></section>\n"
    )


def table(chapters: list[dict]) -> str:
    """The contents, with places for the page numbers."""
    lines, last = [], None
    for i, chapter in enumerate(chapters):
        if chapter["part"] not in (None, last):
            lines.append(f"<p>{html.escape(chapter['part'])}</p>")
        last = chapter["part"]
        title = html.escape(chapter["title"])
        lines.append(
            f'<a href="#p{i}" data-title="{title}"><span data-page-of="p{i}">000</span></a>'
        )
    return (
        '<section class="nn-pdf-contents"><p class="nn-title">Contents</p>'
        f"{''.join(lines)}</section>\n"
    )


def part_page(part: str, chapters: list[dict]) -> str:
    """The page before a part: its name and what is in it."""
    items = "".join(
        f'<li><a href="#p{i}">{html.escape(chapter["title"])}</a></li>'
        for i, chapter in enumerate(chapters)
        if chapter["part"] == part
    )
    return (
        f'<section class="nn-pdf-part"><h1>{html.escape(part)}</h1>'
        f"<ul>{items}</ul></section>\n"
    )


def page_numbers(pdf: bytes) -> dict[str, int]:
    """The page, counted from 1, on which each id stands that a link leads to."""
    places = re.findall(rb"/(p\d+) \[(\d+) 0 R /XYZ", pdf)
    order = page_objects(pdf)
    return {name.decode(): order[int(page)] for name, page in places}


def page_objects(pdf: bytes) -> dict[int, int]:
    """Of each page's object its number, counted from 1, by the tree of pages."""
    objects = dict(re.findall(rb"(?s)\n(\d+) 0 obj\n(.*?)\nendobj", pdf))
    (root,) = re.findall(rb"/Type /Catalog\n.*?/Pages (\d+) 0 R", pdf, re.DOTALL)
    order, waiting = {}, [root]
    while waiting:
        name = waiting.pop(0)
        kids = re.search(rb"/Kids \[(.*?)\]", objects[name])
        if kids:
            waiting = re.findall(rb"(\d+) 0 R", kids[1]) + waiting
        else:
            order[int(name)] = len(order) + 1
    return order


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
