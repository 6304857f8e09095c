"""A Sphinx extension: the glossary's terms, explained where a lesson first uses them.

The first use in a lesson becomes a link to the glossary's entry. The entry's words lie at
the end of the page, hidden, for `terms.js` to show on hover and focus. The glossary gets
its letters, and each entry the lessons that build it and use it.
"""

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from docutils import nodes
from sphinx import addnodes
from sphinx.util import logging

from tools.course import name_of, number_of
from tools.terms import BUILT_IN, GENERAL, Finder, may_be_explained, terms

log = logging.getLogger(__name__)
GLOSSARY = "book/glossary"

# ---- a lesson's page: marks ----


@dataclass(frozen=True)
class Use:
    """A term's first use in a lesson."""

    term: str
    defined: bool  # in bold or italics: the lesson says what it is


NOT_RUNNING_TEXT = (
    nodes.title,
    nodes.literal,
    nodes.literal_block,
    nodes.math,
    nodes.math_block,
    nodes.reference,
    nodes.thead,
    addnodes.pending_xref,
)
# Raw HTML in which no link is set: it is one, or it is a heading, or the card.
TAG = re.compile(r"<(?P<end>/?)(?P<name>a|summary|blockquote)\b(?P<rest>[^>]*)>")


def running_text(doctree) -> list[nodes.Text]:
    """The texts of a page in which terms are explained, in order."""
    found, open_tags = [], []

    def walk(node):
        if isinstance(node, nodes.raw):
            for tag in TAG.finditer(node.astext()):
                if tag["end"]:
                    open_tags.pop()
                else:
                    is_box = tag["name"] == "blockquote" and "nn-card" not in tag["rest"]
                    open_tags.append(not is_box)
        elif isinstance(node, nodes.Text):
            if not any(open_tags):
                found.append(node)
        elif not is_passed_over(node):
            for child in node.children:
                walk(child)

    walk(doctree)
    return found


def is_passed_over(node) -> bool:
    """Whether nothing inside a node is explained: code, headings, links, references."""
    if isinstance(node, NOT_RUNNING_TEXT) or node.get("nb_element") or is_lead(node):
        return True
    return isinstance(node, nodes.section) and "references" in node["ids"]


def is_lead(node) -> bool:
    """Whether a node is bold words at a paragraph's beginning that are its heading."""
    if not isinstance(node, nodes.strong) or node.parent.index(node) > 0:
        return False
    words = node.astext()
    return words.endswith((".", ":")) or words.startswith("Exercise ")


def mark(doctree, finder: Finder, lesson: str) -> list[Use]:
    """Make each term's first use in a lesson a link to the glossary; the uses."""
    uses = {}
    for text in running_text(doctree):
        parts, end = [], 0
        words = text.astext()
        for start, stop, term in finder.find(words):
            if term in uses or not may_be_explained(term, lesson):
                continue
            emphasised = isinstance(text.parent, nodes.strong | nodes.emphasis)
            uses[term] = Use(term, emphasised)
            parts += [nodes.Text(words[end:start]), link(term, words[start:stop])]
            end = stop
        if parts:
            text.parent.replace(text, [*parts, nodes.Text(words[end:])])
    return list(uses.values())


def link(term: str, words: str) -> addnodes.pending_xref:
    """A link to the glossary's entry, which Sphinx resolves, and warns where it cannot."""
    word = nodes.inline("", words, classes=["nn-term"], ids=[anchor(term)])
    return addnodes.pending_xref(
        "",
        word,
        refdomain="std",
        reftype="term",
        reftarget=term,
        refexplicit=True,
        refwarn=True,
    )


def anchor(term: str) -> str:
    """The id of a term's first use on a lesson's page."""
    return nodes.make_id(f"use {term}")


def mark_lesson(app, doctree):
    """Called by Sphinx when it has read a page."""
    env = app.env
    if not env.docname.startswith("lessons/"):
        return
    if not hasattr(app, "nn_finder"):
        source = Path(env.doc2path(GLOSSARY)).read_text(encoding="utf-8")
        app.nn_finder = Finder(terms(source))
    if not hasattr(env, "nn_uses"):
        env.nn_uses = {}
    env.nn_uses[env.docname] = mark(doctree, app.nn_finder, name_of(env.docname))


def forget(app, env, docname):
    """Called by Sphinx when a page is gone, or read anew."""
    getattr(env, "nn_uses", {}).pop(docname, None)


# ---- a lesson's page: the explanations ----


def add_explanations(app, pagename, templatename, context, doctree):
    """Called by Sphinx for every page: lay its terms' explanations below it, hidden."""
    uses = getattr(app.env, "nn_uses", {}).get(pagename)
    if not uses or "body" not in context or app.builder.name != "html":
        return
    if not hasattr(app, "nn_explanations"):
        app.nn_explanations = dict(explanations(app))
    boxes = [
        f'<div id="about-{html.escape(ident)}">{words}</div>'
        for ident, words in sorted(app.nn_explanations[use.term] for use in uses)
    ]
    context["body"] += f'<div class="nn-explanations" hidden>{"".join(boxes)}</div>'
    app.add_js_file("terms.js", loading_method="defer")


def explanations(app) -> Iterator[tuple[str, tuple[str, str]]]:
    """Each term with its entry's id and its explanation in HTML, for pages in lessons/."""
    builder = app.builder
    doctree = app.env.get_and_resolve_doctree(GLOSSARY, builder)
    for entry in entries(doctree):
        term, definition = entry.children
        for reference in definition.findall(nodes.reference):
            if reference.get("internal") and "/" not in reference["refuri"]:
                reference["refuri"] = f"../book/{reference['refuri']}"
        words = builder.render_partial(definition.children[0])["fragment"].strip()
        words = words.removeprefix("<p>").removesuffix("</p>")
        yield name_in(term), (entry_id(term), words)


def entries(doctree) -> Iterator[nodes.definition_list_item]:
    """The entries of the glossary's page."""
    for glossary in doctree.findall(addnodes.glossary):
        yield from glossary.findall(nodes.definition_list_item)


def name_in(term: nodes.term) -> str:
    """A term as its source writes it, with straight apostrophes."""
    return term.astext().replace("’", "'")


def entry_id(term: nodes.term) -> str:
    """The id of an entry, as links know it."""
    return next(ident for ident in term["ids"] if ident.startswith("term-"))


# ---- the glossary's page: letters, and where each term is used ----


def complete_glossary(app, doctree, docname):
    """Called by Sphinx when it writes a page: letters and back-links of the glossary."""
    if docname != GLOSSARY:
        return
    letters = []
    uses = getattr(app.env, "nn_uses", {})
    for entry in entries(doctree):
        term, definition = entry.children
        letter = letter_of(name_in(term))
        if letter not in letters:
            letters.append(letter)
            term["ids"].append(f"letter-{nodes.make_id(letter) or 'number'}")
        definition += back_links(app, name_in(term), uses)
    glossary = next(doctree.findall(addnodes.glossary))
    bar = nodes.raw("", letter_bar(letters), format="html")
    glossary.parent.insert(glossary.parent.index(glossary), bar)


def letter_of(term: str) -> str:
    """The letter under which a term stands; "#" for a number."""
    return term[0].upper() if term[0].isalpha() else "#"


def letter_bar(letters: list[str]) -> str:
    """Links to the first entry of each letter, in HTML."""
    links = (
        f'<a href="#letter-{letter.lower() if letter.isalpha() else "number"}"'
        f"{'' if letter.isalpha() else ' aria-label=Numbers'}>{letter}</a>"
        for letter in letters
    )
    return f'<nav class="nn-letters" aria-label="Letters">{"".join(links)}</nav>'


def back_links(app, term: str, uses: dict[str, list[Use]]) -> nodes.paragraph:
    """Where a term is built, and which other lessons use it."""
    paragraph = nodes.paragraph(classes=["nn-used"])
    if term in GENERAL:
        paragraph += nodes.Text("Of the whole course")
        return paragraph
    using = {page: use for page in sorted(uses) for use in uses[page] if use.term == term}
    built = built_in(term, using, sorted(uses))
    if built is None:
        log.warning(
            "glossary: no lesson uses %r. Write it there, or name a lesson in BUILT_IN "
            "(tools/terms.py), or remove the entry",
            term,
            once=True,
        )
        return paragraph
    others = [page for page in using if page != built]
    paragraph += nodes.Text("Built in lesson ")
    paragraph += lesson_link(app, built, term, built in using)
    if others:
        paragraph += nodes.Text(" · used in " + ("lesson " if len(others) == 1 else ""))
    for i, page in enumerate(others):
        paragraph += nodes.Text(", " if i else "")
        paragraph += lesson_link(app, page, term, True)
    return paragraph


def built_in(term: str, using: dict[str, Use], pages: list[str]) -> str | None:
    """The page of the lesson that builds a term: where it is in bold, else the first."""
    named = [page for page in pages if name_of(page) == BUILT_IN.get(term)]
    defining = [page for page, use in using.items() if use.defined]
    return next(iter([*named, *defining, *using]), None)


def lesson_link(app, page: str, term: str, has_anchor: bool) -> nodes.reference:
    """The number of a lesson, linked to the term on its page."""
    address = app.builder.get_relative_uri(GLOSSARY, page)
    address += f"#{anchor(term)}" if has_anchor else ""
    return nodes.reference("", number_of(page), internal=True, refuri=address)


def setup(app):
    """Called by Sphinx."""
    app.connect("doctree-read", mark_lesson)
    app.connect("env-purge-doc", forget)
    app.connect("doctree-resolved", complete_glossary)
    app.connect("html-page-context", add_explanations, priority=400)
    return {"version": "1", "parallel_read_safe": True}
