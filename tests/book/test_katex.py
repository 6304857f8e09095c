"""Formulas as the book sets them: an unreadable one is a warning, punctuation stays."""

import io
import re

import pytest
from lesson_source import ROOT
from sphinx.application import Sphinx


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A page of four formulas, built: its HTML and what Sphinx warned of."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("out")
    (source / "index.rst").write_text(
        "Title\n=====\n\nFirst :math:`a`, then (:math:`b`).\n\n"
        "Then :math:`\\frac{1` and :math:`c` alone.\n"
    )
    settings = {"extensions": ["strict_katex"], "katex_prerender": True}
    warnings = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "tools"))
        app = Sphinx(source, None, out, out, "html", settings, None, warnings)
        app.build()
    said = re.sub(r"\x1b\[[\d;]+m", "", warnings.getvalue())  # without colours
    return (out / "index.html").read_text(), said


def test_an_unreadable_formula_is_a_warning(built):
    """The warning names the formula; the three others are set in silence."""
    page, warnings = built
    assert re.findall("cannot read this formula: (.*)", warnings) == [r"\frac{1"]
    assert page.count('class="katex-html"') == 3


def test_a_bracket_and_a_comma_are_inside_the_formulas_box(built):
    """Browsers break lines beside a box, never in it; other text stays outside."""
    page, _ = built
    assert re.findall(r'class="nn-point">(.*?)<', page) == [",", "(", ")."]
    words = re.sub(
        r"(?s)<span class=\"katex-mathml\">.*?</math></span>|<[^>]+>", "", page
    )
    assert "First a, then (b)." in words and "c alone." in words
