"""tools.renumber: a lesson's number stands in its file's name and in the contents alone."""

import pytest

from tools.renumber import renumber

FILES = {
    "_toc.yml": "- file: lessons/01_a\n  title: 1 · The a\n- file: lessons/02_b\n"
    "  title: 2 · The b\n",
    "README.md": "[2 · The b](lessons/02_b.ipynb) and [the lesson on a](lessons/01_a.ipynb)",
    "book/index.md": "| [1 · The a](../lessons/01_a.ipynb) | 2 |",
    "lessons/01_a.ipynb": "see [b](02_b.ipynb), 02_bc.ipynb and 02 b",
    "lessons/02_b.ipynb": "after [a](01_a.ipynb)",
}


@pytest.fixture
def tree(tmp_path):
    """A course of two lessons."""
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def test_two_lessons_change_places(tree):
    """Files, contents, titles and links follow; nothing else does."""
    moved = renumber({"a": "2", "b": "01"}, tree)
    assert moved == {"01_a": "02_a", "02_b": "01_b"}
    texts = {
        name: (tree / name).read_text(encoding="utf-8")
        for name in FILES
        if "lessons" not in name
    }
    assert texts == {
        "_toc.yml": "- file: lessons/02_a\n  title: 2 · The a\n- file: lessons/01_b\n"
        "  title: 1 · The b\n",
        "README.md": "[1 · The b](lessons/01_b.ipynb) and "
        "[the lesson on a](lessons/02_a.ipynb)",
        "book/index.md": "| [2 · The a](../lessons/02_a.ipynb) | 2 |",
    }
    a, b = (tree / f"lessons/{stem}.ipynb" for stem in ("02_a", "01_b"))
    assert a.read_text(encoding="utf-8") == "see [b](01_b.ipynb), 02_bc.ipynb and 02 b"
    assert b.read_text(encoding="utf-8") == "after [a](02_a.ipynb)"
    assert len(list(tree.glob("lessons/*"))) == 2


def test_back_again_is_the_same_tree(tree):
    """There and back, every file is as it was, to the byte."""
    renumber({"a": "05", "b": "A1"}, tree)
    assert (tree / "lessons/A1_b.ipynb").exists()
    renumber({"a": "01", "b": "02"}, tree)
    assert {name: (tree / name).read_text(encoding="utf-8") for name in FILES} == FILES


@pytest.mark.parametrize(
    ("wanted", "message"),
    [({"c": "3"}, "no lesson is called c"), ({"a": "2"}, "the same")],
)
def test_what_cannot_be_is_refused(tree, wanted, message):
    """An unknown name, a number that is taken: said, and nothing is changed."""
    with pytest.raises(ValueError, match=message):
        renumber(wanted, tree)
    assert {name: (tree / name).read_text(encoding="utf-8") for name in FILES} == FILES
