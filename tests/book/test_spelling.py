"""Prose is spelt as in British English; code, addresses and what others wrote are not."""

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


def test_code_and_addresses_are_left_alone():
    assert american("an optimizer of one color") == ["color", "optimizer"]
    assert american("`optimizer`, [it](normalization.md), $gray$") == []
