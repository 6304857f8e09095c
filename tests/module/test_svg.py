"""lessons_src.svg: each step from matplotlib's file to the page's element."""

import re
import xml.etree.ElementTree as ET

from lessons_src import svg

ALT = 'One < "two" & three'
FILE = """<?xml version="1.0"?>
<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN">
<svg xmlns:xlink="http://www.w3.org/1999/xlink" width="72pt" height="36.123456pt"
 viewBox="0 0 72 36" version="1.1">
 <metadata><rdf>matplotlib</rdf></metadata>
 <style type="text/css">*{stroke-linejoin: round}</style>
 <!-- a comment -->
 <defs><clipPath id="clip"><rect x="0.123456"/></clipPath></defs>
 <g id="unused"><path d="M 1.23456 7" clip-path="url(#clip)" fill="#123456"/></g>
 <text style="font-size: 9px; font-family: 'DejaVu Sans', sans-serif; fill: red">
  0.0035</text>
</svg>"""


def element(alt=ALT, measured=False):
    return svg.inline_svg(FILE, alt, measured, {"#123456": "var(--sea, #123456)"})


def test_the_element_is_well_formed_and_on_one_line():
    """It parses as XML, and a page's Markdown finds no line break in it."""
    assert ET.fromstring(element()).tag.endswith("svg")
    assert "\n" not in element()


def test_the_head_says_what_is_to_be_seen_and_how_large_it_is():
    """The alt text survives its quotes; 72 by 36 points are 96 by 48 CSS pixels."""
    root = ET.fromstring(element())
    assert root.get("role") == "img" and root.get("aria-label") == ALT
    assert (root.get("width"), root.get("height")) == ("96", "48")
    assert root.get("viewBox") == "0 0 72 36" and root.get("class") == "exact"
    assert ET.fromstring(element(measured=True)).get("class") == "measured"


def test_nothing_is_left_that_only_a_file_needs():
    """No declaration, no metadata, no comment; a style would hold for the whole page."""
    for part in ("<?xml", "<!DOCTYPE", "<metadata", "<style", "<!--"):
        assert part not in element()


def test_coordinates_are_rounded_and_words_are_not():
    """Two decimals inside tags; the tick label 0.0035 stays 0.0035."""
    assert 'd="M 1.23 7"' in element() and "0.0035</text>" in element()


def test_a_colour_becomes_css():
    """The colour of the file is the fallback of the page's."""
    assert 'fill="var(--sea, #123456)"' in element()


def test_text_inherits_the_pages_font_and_keeps_size_and_weight():
    """Also in the short form, which older versions of matplotlib write."""
    assert "font-size: 9px; font-family: inherit; fill: red" in element()
    short = svg.in_the_pages_font("font: 9px 'DejaVu Sans', sans-serif; fill: red")
    assert short == "font-size: 9px; font-family: inherit; fill: red"
    bold = svg.in_the_pages_font("font: 700 9px 'DejaVu Sans'; fill: red")
    assert bold == "font-weight: 700; font-size: 9px; font-family: inherit; fill: red"


def test_ids_are_the_figures_own_and_references_find_them():
    """Unused ids go; the others differ between figures that differ anywhere."""
    (own,) = re.findall(r' id="([^"]+)"', element())
    (other,) = re.findall(r' id="([^"]+)"', element(alt="Another text"))
    assert own.endswith("-clip") and f"url(#{own})" in element()
    assert own != other


def test_the_head_takes_the_place_of_the_files():
    """Of nothing more and nothing less; 72 points are 96 pixels."""
    file = '<svg width="72pt" height="36pt" viewBox="0 0 72 36"><g/></svg>'
    head, rest = svg.with_page_head(file, "two & three", False).split(">", 1)
    assert rest == "<g/></svg>" and head.startswith("<svg ")
    assert 'width="96" height="48"' in head and "two &amp; three" in head
