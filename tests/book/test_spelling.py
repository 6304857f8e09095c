"""Prose and what figures say are spelt as in British English; code, addresses and what
others wrote are not."""

import html
import re

import nbformat
import pytest
from built_book import ROOT

AMERICAN = re.compile(
    r"\b\w*(?:optimiz|regulariz|generaliz|normaliz|initializ|neighbor|behavior|labeled)\w*"
    r"|\b(?:colors?|gray|centers?|analyz\w+)\b",
    re.IGNORECASE,
)
# In this order: a block of code, a word of code, an address, a tag, a formula, a quotation.
NOT_OURS = [r"(?s)```.*?```", r"`[^`]*`", r"\]\([^)]*\)", r"<[^>]*>", r"\$[^$]*\$"]
NOT_OURS += [r"“[^”]*”", r"\*[A-Z][^*\n]{20,}\*"]  # the second: the title of a source
# Names of code in captions and drawings, which have no backticks.
NAMES = [r"\w+(?:\.\w+)+\(\)", "ToTensor, Normalize", "^Normalize(?=$|,)", "Normalize on"]
NAMES += ["^start, optimizer, step$"]
TEXTS = [*ROOT.glob("lessons/*.ipynb"), *ROOT.glob("book/*.ipynb")]
TEXTS += [*ROOT.glob("book/*.md"), *ROOT.glob("*.md")]


def prose(text: str) -> str:
    for other in NOT_OURS:
        text = re.sub(other, "", text)
    return text


def american(text: str) -> list[str]:
    return sorted(set(AMERICAN.findall(prose(text))))


@pytest.mark.parametrize("path", sorted(TEXTS), ids=lambda path: path.name)
def test_prose_is_british(path):
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        cells = nbformat.reads(text, as_version=4).cells
        text = "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    assert american(text) == [], "optimiser, neighbour, grey, …; code goes in backticks"


def shown(cell) -> str:
    """What a code cell displays, a paragraph each: captions, alt texts, quizzes, a
    stepper's words, tables, and the words drawn in a figure. Not what it prints."""
    texts = []
    for output in cell.get("outputs", []):
        data = output.get("data", {})
        drawn = re.findall(r"(?s)<text[^>]*>(.*?)</text>", data.get("image/svg+xml", ""))
        texts += [data.get("text/plain", ""), data.get("text/markdown", "")]
        texts += [html.unescape(re.sub("<[^>]+>", "", words)) for words in drawn]
    named = re.compile("|".join(NAMES), re.MULTILINE)
    return named.sub("", "\n\n".join(texts))


NOTEBOOKS = [path for path in TEXTS if path.suffix == ".ipynb"]


@pytest.mark.parametrize("path", sorted(NOTEBOOKS), ids=lambda path: path.name)
def test_what_is_shown_is_british(path):
    """Captions and alt texts too, which are strings in code: as stored, so whatever
    function made them."""
    cells = nbformat.reads(path.read_text(encoding="utf-8"), as_version=4).cells
    found = {k: american(shown(cell)) for k, cell in enumerate(cells)}
    assert {k: words for k, words in found.items() if words} == {}, "cell -> its words"


def test_what_is_shown_is_found():
    """A caption, an alt text, a table and a drawn word are read, and printed code is not."""
    words = {
        "text/plain": "Figure 2. The color.",
        "text/markdown": "| gray |",
        "image/svg+xml": "<text x='1'>the <tspan>optimizer</tspan></text>",
    }
    printed = {"output_type": "stream", "text": "not_in_optimizer"}
    cell = {"outputs": [{"data": words}, printed, {"data": {"text/plain": "neighbor"}}]}
    assert american(shown(cell)) == ["color", "gray", "neighbor", "optimizer"]
    code = "optimizer.zero_grad() after ToTensor, Normalize"
    assert american(shown({"outputs": [{"data": {"text/plain": code}}]})) == []


def test_code_and_addresses_are_left_alone():
    assert american("an optimizer of one color") == ["color", "optimizer"]
    assert american("`optimizer`, [it](normalization.md), $gray$") == []
