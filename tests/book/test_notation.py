"""The table of notation and the lessons' formulas: each symbol of it is used, and a letter
with several jobs has a job, in the table, in each lesson that uses it."""

import re

import nbformat
import pytest
from built_book import LESSONS, ROOT

TABLE = (ROOT / "book/notation.md").read_text(encoding="utf-8")
MATHS = re.compile(r"\$\$(.+?)\$\$|\$([^$\n]+?)\$", re.DOTALL)
WORDS = re.compile(
    r"\\(?:text|mathrm|operatorname|tag)\{[^}]*\}"
)  # no letters of formulas
GREEK = [
    "alpha",
    "beta",
    "gamma",
    "delta",
    "epsilon",
    "varepsilon",
    "zeta",
    "eta",
    "theta",
    "iota",
    "kappa",
    "lambda",
    "mu",
    "nu",
    "xi",
    "rho",
    "sigma",
    "tau",
    "varphi",
    "phi",
    "chi",
    "psi",
    "omega",
    "ell",
    "Gamma",
    "Delta",
    "Theta",
    "Lambda",
    "Xi",
    "Sigma",
    "Phi",
    "Psi",
    "Omega",
]
LETTERS = [rf"\{name}" for name in GREEK]


def formulas(text: str) -> list[str]:
    """What stands between dollars, without words and tags."""
    return [WORDS.sub("", "".join(found)) for found in MATHS.findall(text)]


def lesson_formulas(page: str) -> str:
    """All formulas of a lesson's text, a line each."""
    notebook = nbformat.read(ROOT / f"{page}.ipynb", as_version=4)
    texts = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    return "\n".join(formulas("\n".join(texts)))


FORMULAS = {page: lesson_formulas(page) for page in LESSONS}


def jobs() -> dict[str, set[str]]:
    """Letter -> the lessons for which the table says what it means there."""
    section = TABLE.partition("## Greek letters")[2].partition("## Marks")[0]
    rows = re.findall(r"^\| \$(\S+)\$ \| (.+) \|$", section, re.MULTILINE)
    assert len(rows) == len({letter for letter, _ in rows}) > 20
    return {
        letter: set(re.findall(r"\.\./(lessons/\w+)\.ipynb", cell))
        for letter, cell in rows
    }


def uses(letter: str, text: str) -> bool:
    """Whether a letter stands in these formulas by itself, and not in another's name."""
    return bool(re.search(rf"(?<![A-Za-z\\]){re.escape(letter)}(?![A-Za-z])", text))


@pytest.mark.parametrize("page", LESSONS)
def test_a_letter_has_a_job_where_it_is_used(page):
    """A Greek letter, and a Latin one of the list, means in each lesson what the table
    says of it for this lesson."""
    told = jobs()
    used = {one for one in {*LETTERS, *told} if uses(one, FORMULAS[page])}
    wanted = {letter for letter, pages in told.items() if page in pages}
    assert used == wanted, (
        "book/notation.md, Greek letters: say what these mean in this lesson "
        f"({sorted(used - wanted)}), or take the lesson from the row ({sorted(wanted - used)})"
    )


@pytest.mark.parametrize("page", LESSONS)
def test_one_name_for_the_logarithm(page):
    """The table has log for the natural logarithm; another base stands below it."""
    other = re.findall(r"\\(?:ln|lg|lb)(?![A-Za-z])", FORMULAS[page])
    assert not other, r"write \log, and \log_2 or \log_{10} for another base"


def test_each_symbol_of_the_table_is_used():
    """What stands in the first column of a table is in some lesson's formulas."""
    symbols = [
        symbol
        for cell in re.findall(r"^\| ([^|]*\$[^|]*) \|", TABLE, re.MULTILINE)
        for symbol in formulas(cell)
    ]
    assert len(symbols) > 60
    everywhere = re.sub(r"\s|\\[,;!]", "", "\n".join(FORMULAS.values()))
    unused = []
    for symbol in symbols:
        parts = re.split(r"[,;]\s*", symbol) if "\\text" not in symbol else [symbol]
        bare = [re.sub(r"\s|\\[,;!]", "", WORDS.sub("", part)) for part in parts]
        # A dot stands for whatever is between the marks
        bare = [half for part in bare for half in part.split(r"\cdot")]
        unused += [part for part in bare if part and part not in everywhere]
    assert not unused, "no lesson's formula has this symbol: take out its row"
