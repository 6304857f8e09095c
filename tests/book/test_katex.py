"""Formulas as the book sets them: an unreadable one is a warning, punctuation stays."""

import os
import re
import subprocess
import sys

import pytest
from lesson_source import ROOT


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A page of four formulas, built: its HTML and what Sphinx warned of."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("out")
    (source / "index.rst").write_text(
        "Title\n=====\n\nFirst :math:`a`, then (:math:`b`).\n\n"
        "Then :math:`\\frac{1` and :math:`c` alone.\n",
        encoding="utf-8",
    )
    options = ["-q", "-C", "-D", "extensions=strict_katex", "-D", "katex_prerender=1"]
    run = subprocess.run(
        [sys.executable, "-m", "sphinx", *options, source, out],
        env={**os.environ, "PYTHONPATH": str(ROOT / "tools"), "NO_COLOR": "1"},
        stderr=subprocess.PIPE,
        text=True,
        check=True,
    )
    return (out / "index.html").read_text(encoding="utf-8"), run.stderr


@pytest.mark.slow
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
