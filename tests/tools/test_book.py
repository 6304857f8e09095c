"""What a build remembers, and what it must not: titles, questions and pages that are gone."""

import re
import shutil
from pathlib import Path

import nbformat
import pytest

from tools import book, publish

ROOT = Path(__file__).resolve().parents[2]
CARD = """<blockquote class="nn-card">

**Question.** {question}

**Reading** 10 minutes · **exercises** 5 minutes

</blockquote>"""
TOC = """format: jb-book
root: book/index
parts:
  - chapters:
      - file: book/running
  - caption: I · A first part
    chapters:
      - file: lessons/01_softmax
      - file: lessons/02_gpus
  - caption: To look things up
    chapters:
      - file: book/notation
      - file: book/glossary
      - file: book/references
"""
GLOSSARY = """# Glossary

```{glossary}
batch
  Several examples.

logit
  A score.
```
"""


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A book of two lessons in a folder of its own, with this course's look and tools."""
    for name in ("book", "lessons"):
        (tmp_path / name).mkdir()
    for name in ("tools", "_vendor", "package-lock.json", "_config.yml"):
        (tmp_path / name).symlink_to(ROOT / name)
    for name in ("web", "templates", "references.bib", "references.md"):
        (tmp_path / "book" / name).symlink_to(ROOT / "book" / name)
    write = {
        "_toc.yml": TOC,
        "book/index.md": "# Welcome",
        "book/running.md": "# How to run",
        "book/notation.md": "# Notation\n\n| Symbol | Code | Meaning |\n|---|---|---|\n"
        "| $N$ | `N` | examples |",
        "book/glossary.md": GLOSSARY,
    }
    for name, text in write.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    lesson(tmp_path, "01_softmax", "Softmax", "How sure is it?", "The logits of a batch.")
    lesson(tmp_path, "02_gpus", "GPUs", "How does it get fast?", "A batch is moved.")
    monkeypatch.setattr(book, "ROOT", tmp_path)
    monkeypatch.setattr(book, "BUILD", tmp_path / "_build")
    return tmp_path


def lesson(root: Path, stem: str, title: str, question: str, text: str) -> None:
    """Write a lesson of a title, a card and a paragraph."""
    cells = [f"# {title}", CARD.format(question=question), text]
    notebook = nbformat.v4.new_notebook(
        cells=[*map(nbformat.v4.new_markdown_cell, cells)]
    )
    nbformat.write(notebook, root / f"lessons/{stem}.ipynb")


def replace(file: Path, old: str, new: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new), encoding="utf-8")


def test_what_every_page_depends_on(small):
    """A title, a question, a term's words and the contents are on other pages too; a
    lesson's text is not."""
    known = {book.digest()}
    for name, old, new in (
        ("book/notation.md", "# Notation", "# Letters"),
        ("lessons/01_softmax.ipynb", "# Softmax", "# Softmax again"),
        ("lessons/01_softmax.ipynb", "How sure", "How certain"),
        ("book/glossary.md", "Several examples", "Some examples"),
        ("_toc.yml", "      - file: lessons/02_gpus\n", ""),
    ):
        replace(small / name, old, new)
        digest = book.digest()
        assert digest not in known, f"{name}: {new!r} would stay old on other pages"
        known.add(digest)
    replace(small / "lessons/01_softmax.ipynb", "of a batch", "of two batches")
    assert book.digest() == digest, "a lesson's own text needs no new book"


def test_a_new_book_begins_in_an_empty_folder(small, monkeypatch):
    """What has changed for every page is written into an empty folder, so that nothing of
    the old book is left; else the build adds to what is there."""
    commands = []

    def run(command):
        commands.append(command)
        (small / "_build/html").mkdir(parents=True, exist_ok=True)
        return 0

    monkeypatch.setattr(book, "run", run)
    monkeypatch.setattr(book, "vendor", lambda: None)
    old = small / "_build/html/old.html"
    assert book.main() == 0
    old.write_text("old", encoding="utf-8")
    assert book.main() == 0
    assert old.is_file() and "--all" not in commands[-1]
    replace(small / "_toc.yml", "      - file: lessons/02_gpus\n", "")
    assert book.main() == 0
    assert not old.exists() and "--all" in commands[-1]


def pages(root: Path) -> str:
    """All pages of the built book, one after the other, and what searches look through."""
    html = root / "_build/html"
    files = [*html.rglob("*.html"), html / "searchindex.js", html / "_static/found.js"]
    return "\n".join(file.read_text(encoding="utf-8") for file in files)


@pytest.mark.sweep
def test_a_build_forgets_nothing(small):
    """Built three times: with a published address there is a button to Colab; a renamed
    heading is new on every page; of a page that is gone nothing is left."""
    if not (ROOT / "_vendor").is_dir():
        pytest.skip("the book's packages are not there: run make book")
    config = (ROOT / "_config.yml").read_text(encoding="utf-8")
    (small / "_config.yml").unlink()
    config = publish.stamped_config(config, "https://github.com/someone/course")
    (small / "_config.yml").write_text(config, encoding="utf-8")
    html = small / "_build/html"
    assert book.main() == 0
    first = (html / "lessons/01_softmax.html").read_text(encoding="utf-8")
    colab = re.findall(r'href="(https://colab[^"]+)"', first)
    address = f"github/someone/course/blob/{publish.tag()}/lessons/01_softmax.ipynb"
    assert colab == [f"https://colab.research.google.com/{address}"]
    assert "How does it get fast?" in first and ">Notation<" in first

    replace(small / "book/notation.md", "# Notation", "# Letters")
    assert book.main() == 0
    assert ">Notation<" not in pages(small) and ">Letters<" in pages(small)

    replace(small / "_toc.yml", "      - file: lessons/02_gpus\n", "")
    (small / "lessons/02_gpus.ipynb").unlink()
    assert book.main() == 0
    assert "02_gpus" not in pages(small) and "How does it get fast?" not in pages(small)
    assert not [file for file in html.rglob("*02_gpus*")]
    shutil.rmtree(html)
