"""The glossary's terms: found in running text, explained at first use, linked both ways."""

import re

import pytest
from built_book import LESSONS, PHONE, ROOT, on_disk, page
from docutils import nodes

from tools import course, terms
from tools.explained import mark, running_text

GLOSSARY = terms.terms((ROOT / "book/glossary.md").read_text(encoding="utf-8"))
TERM = re.compile(
    r'<a class="reference internal" href="\.\./book/glossary\.html#(?P<entry>term-[^"]+)">'
    r'<span class="nn-term" id="(?P<anchor>use-[^"]+)">'
)
LESSON = next(page for page in LESSONS if page.endswith("_softmax"))
PER_LESSON = 5


# ---- the finder ----


@pytest.mark.parametrize(
    "text, found",
    [
        ("Two batches of images", ["batch"]),
        ("a mini-batch, not a batch", ["mini-batch", "batch"]),
        ("Batch normalisation helps", ["batch normalisation"]),
        ("full-batch descent", ["full batch"]),
        ("all logits stand in the denominator", ["logit"]),
        ("two confusion matrices", ["confusion matrix"]),
        ("Adam and adam", ["Adam"]),
        ("three MLPs with ReLUs", ["multilayer perceptron", "ReLU"]),
        ("Amdahl’s law, and Amdahl's law", ["Amdahl's law", "Amdahl's law"]),
        ("a multiply-add, many multiply-adds", ["multiply-add", "multiply-add"]),
        ("networks\nof linear\nlayers", ["linear layer"]),
        ("overlayered, relabelled, a sub-batch", []),
    ],
)
def test_words_and_their_forms(text, found):
    """Plurals, hyphens, capitals and the longest term; no part of another word."""
    finder = terms.Finder(GLOSSARY)
    assert [term for _, _, term in finder.find(text)] == found


def test_where_nothing_is_explained():
    """Headings, code, maths, links, heads of tables, the card, outputs and references stay
    as they are; and a second use does."""

    def words(kind, text="a batch", **settings):
        return kind("", text, **settings)

    def paragraph(*children):
        return nodes.paragraph("", "", *children)

    def raw(text):
        return nodes.raw("", text, format="html")

    lead = nodes.strong("", "The batch.")
    head = nodes.thead("", nodes.row("", nodes.entry("", paragraph(nodes.Text("batch")))))
    output = nodes.container("", paragraph(nodes.Text("batch")), nb_element="cell_code")
    references = nodes.section("", paragraph(nodes.Text("batch")), ids=["references"])
    doctree = nodes.section(
        "",
        words(nodes.title),
        raw('<blockquote class="nn-card">'),
        words(nodes.paragraph),
        raw("</blockquote>"),
        paragraph(words(nodes.literal), words(nodes.math), words(nodes.reference)),
        paragraph(raw('<a href="#x">'), nodes.Text("batch"), raw("</a>")),
        paragraph(lead, nodes.Text(" Here it comes.")),
        nodes.table("", nodes.tgroup("", head)),
        words(nodes.literal_block),
        output,
        references,
        raw('<blockquote class="nn-result">'),
        paragraph(nodes.strong("", "batch"), nodes.Text(" and batches")),
        raw("</blockquote>"),
    )
    texts = [text.astext() for text in running_text(doctree)]
    assert texts == [" Here it comes.", "batch", " and batches"]
    uses = mark(doctree, terms.Finder(["batch"]), "softmax")
    assert [(use.term, use.defined) for use in uses] == [("batch", True)]
    assert len([node for node in doctree.findall(nodes.inline)]) == 1


def test_the_tables_of_exceptions_name_terms_and_lessons_that_exist():
    """A renamed term or lesson would make an exception of nothing."""
    names = {lesson.name for lesson in course.lessons()}
    listed = [
        terms.OTHER_FORMS,
        terms.ONLY_IN,
        terms.NOT_IN,
        terms.BUILT_IN,
        terms.GENERAL,
    ]
    assert {term for table in listed for term in table} <= set(GLOSSARY)
    lessons = set().union(*terms.ONLY_IN.values(), *terms.NOT_IN.values())
    assert lessons | set(terms.BUILT_IN.values()) <= names


# ---- the built pages ----


@pytest.mark.parametrize("lesson", LESSONS)
def test_terms_are_explained(lesson):
    """Each lesson explains at least five terms, each once, with its words on the page and
    its entry in the glossary."""
    text, glossary = page(lesson), page("book/glossary")
    marks = list(TERM.finditer(text))
    assert len(marks) >= PER_LESSON, "define a term in book/glossary.md, or use one"
    anchors = [match["anchor"] for match in marks]
    assert len(set(anchors)) == len(anchors)
    assert text.count('class="nn-term"') == len(marks)
    for match in marks:
        assert f'id="{match["entry"]}"' in glossary
        assert f'<div id="about-{match["entry"]}">' in text


def test_the_glossary_leads_back():
    """Every entry says which lesson builds it, or is general; every link of an entry leads
    to the word in that lesson; every letter to its first entry."""
    glossary = page("book/glossary")
    entries = re.findall(r"(?s)<dt id=.*?</dd>", glossary)
    assert len(entries) == len(GLOSSARY)
    without = [entry[:80] for entry in entries if "Built in lesson" not in entry]
    assert len(without) == len(terms.GENERAL), without
    lessons = {lesson: page(lesson) for lesson in LESSONS}
    links = re.findall(
        r'href="\.\./(lessons/\w+)\.html(?:#(use-[^"]+))?"', "".join(entries)
    )
    assert len(links) > len(GLOSSARY)
    for lesson, anchor in links:
        assert not anchor or f'id="{anchor}"' in lessons[lesson], (lesson, anchor)
    bar = re.search(r'(?s)<nav class="nn-letters".*?</nav>', glossary)[0]
    letters = re.findall(r'href="#([^"]+)"', bar)
    assert len(letters) > 20
    assert len(set(letters)) == len(letters), "an entry is out of its alphabetical place"
    assert all(f'id="{letter}"' in glossary for letter in letters)


# ---- in a browser ----


def test_every_letter_is_in_sight_on_a_phone(visit):
    """The letters wrap: none is beyond the edge, and each is large enough for a finger."""
    tab = visit(on_disk("book/glossary"), PHONE, "dark")
    letters = tab.locator(".nn-letters a")
    boxes = [letter.bounding_box() for letter in letters.all()]
    assert max(b["x"] + b["width"] for b in boxes) <= PHONE["width"], (
        "let .nn-letters wrap"
    )
    assert min(min(b["width"], b["height"]) for b in boxes) >= 24
    assert len({b["y"] for b in boxes}) <= 2, "more than two rows stand over the text"


@pytest.mark.slow
def test_a_term_explains_itself(visit):
    """On hover and on focus; its box can be hovered, is dismissed by Escape, and its link
    is reached by Tab (WCAG 1.4.13)."""
    tab = visit(on_disk(LESSON), without="embed.js")
    box = tab.locator(".nn-about")
    term = tab.locator("a:has(> .nn-term)", has_text="logits")
    said = GLOSSARY["logit"].split(":")[0]
    about = term.get_attribute("aria-describedby")
    assert said in tab.locator(f"#{about}").text_content()
    term.scroll_into_view_if_needed()
    term.hover()
    assert said in box.inner_text()
    box.hover()
    tab.wait_for_timeout(400)  # longer than the pointer's grace
    assert box.is_visible(), "the box goes when the pointer comes"
    tab.keyboard.press("Escape")
    assert box.count() == 0
    term.hover(position={"x": 2, "y": 2})
    tab.mouse.move(5, 5)
    box.wait_for(state="detached")
    term.focus()
    assert box.is_visible()
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.closest('.nn-about') !== null")
    tab.keyboard.press("Escape")
    assert box.count() == 0
    assert term.evaluate("link => link === document.activeElement")
    place = tab.evaluate("document.documentElement.scrollWidth")
    assert place <= tab.viewport_size["width"]
    tab.keyboard.press("Enter")
    tab.wait_for_url("**/glossary.html#term-logit")


@pytest.mark.slow
def test_a_term_under_a_finger(visit):
    """The first touch explains and does not leave the page; touching elsewhere closes."""
    phone = {"width": 320, "height": 700}
    tab = visit(on_disk(LESSON), phone, "dark", without="embed.js", touch=True)
    term = tab.locator("a:has(> .nn-term)").nth(2)
    term.scroll_into_view_if_needed()
    term.tap()
    box = tab.locator(".nn-about")
    edges = box.bounding_box()
    assert edges["x"] >= 0 and edges["x"] + edges["width"] <= phone["width"]
    assert edges["y"] >= 0 and edges["y"] + edges["height"] <= phone["height"]
    tab.locator(".bd-article h2").first.tap()
    assert box.count() == 0
