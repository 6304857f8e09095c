"""tools.notebook_pages: figures inline, and below an output what its cell promised."""

import xml.etree.ElementTree as ET
from types import SimpleNamespace

import pytest
from docutils import nodes
from docutils.utils import new_document
from myst_nb.sphinx_ import HideCodeCellNode

from tools import notebook_pages


def drawn(condition, value):
    """The marks of one promise: the strip as a tree."""
    return ET.fromstring(notebook_pages.strip([condition], [value]))


@pytest.mark.parametrize(
    ("value", "at"), [(0.8, 4), (0.9, 52), (0.85, 28), (0.84, 4 + 0.4 * 48)]
)
def test_the_dot_lies_where_the_number_lies(value, at):
    """Between the ends of the promised range, in proportion; its words say the same."""
    tree = drawn("0.8 <= accuracy <= 0.9", value)
    (circle,) = tree.iter("circle")
    assert float(circle.get("cx")) == pytest.approx(at, abs=0.1)
    (scale,) = (e for e in tree.iter("span") if e.get("class") == "nn-range")
    assert scale.get("aria-label") == f"{value:g}, promised: 0.8 to 0.9"


def test_a_comparison_is_a_tick():
    """And the conditions are there on demand, as they were written."""
    tree = drawn("tanh > relu and a < b", None)
    (tick,) = (e for e in tree.iter("span") if e.get("class") == "nn-tick")
    assert tick.text == "✓" and tick.get("aria-label")
    assert tree.tag == "details" and tree.get("open") is None
    assert [e.text for e in tree.iter("code")] == ["tanh > relu and a < b"]


def test_a_range_of_one_value_and_numbers_below_zero():
    """No division by nothing; a minus is a minus."""
    (circle,) = drawn("1 <= n <= 1", 1.0).iter("circle")
    assert float(circle.get("cx")) == 28
    assert "−2 to 3" in drawn("-2 <= slope <= 3", 0.5).find(
        ".//*[@class='nn-range']"
    ).get("aria-label")


def test_a_strip_stands_in_the_output_of_its_cell():
    """Below what the cell printed; a cell that printed nothing gets an output for it."""
    cell = nodes.container(nb_element="cell_code")
    cell.append(nodes.container(nb_element="cell_code_source"))
    made = notebook_pages.output_of(cell)
    assert made["classes"] == ["cell_output"] and cell.children[-1] is made
    assert notebook_pages.output_of(cell) is made


def test_a_figure_is_inline_and_its_png_is_not_in_the_book():
    """The SVG of an output becomes HTML of the page."""
    svg = SimpleNamespace(mime_type="image/svg+xml", string="<svg></svg>")
    (node,) = notebook_pages.inline_image(None, svg)
    assert node["format"] == "html" and "<svg></svg>" in node.astext()
    png = SimpleNamespace(mime_type="image/png", string="")
    assert notebook_pages.inline_image(None, png) == []


def test_a_figures_code_is_folded_below_it():
    """A fold above an output moves below it; a solution's fold, and a cell that is read,
    stay as they are."""
    document = new_document("page")
    kinds = {
        "": HideCodeCellNode,
        "tag_solution": HideCodeCellNode,
        "read": nodes.container,
    }
    for name, kind in kinds.items():
        cell = nodes.container(classes=[name])
        cell += [kind(), nodes.container(nb_element="cell_code_output")]
        document += cell
    notebook_pages.FoldBelowOutput(document).run()
    below = [cell.children[-1].get("nb_element") is None for cell in document]
    assert below == [True, False, False]
