"""The built book, for the tests that open it in a browser: its pages and how to reach
them. `make book` builds it; the fixtures are in tests/book/conftest.py."""

import functools
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
HTML = ROOT / "_build" / "html"
TOC = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
CHAPTERS = [chapter["file"] for part in TOC["parts"] for chapter in part["chapters"]]
PAGES = [TOC["root"], *CHAPTERS]
LESSONS = [page for page in PAGES if page.startswith("lessons/")]
PHONE = {"width": 390, "height": 844}
DESK = {"width": 1280, "height": 900}


def on_disk(page: str) -> str:
    return (HTML / f"{page}.html").as_uri()


@functools.cache
def page(name: str) -> str:
    """The HTML of a built page; the test is skipped where the book is not built."""
    file = HTML / f"{name}.html"
    if not file.is_file():
        pytest.skip("the book is not built: run make book")
    return file.read_text(encoding="utf-8")
