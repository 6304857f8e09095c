"""A Sphinx extension: which lessons cite each entry of the list of references.

A lesson cites by a link to the work's address (`tools.citations`), and a tutorial by its
letter and number, R1 to R5.
"""

import re

from docutils import nodes

from tools.citations import address_of, entries
from tools.course import number_of

REFERENCES = "book/references"
TUTORIAL = re.compile(r"\bR[1-5](?=[ab]?\b)")


def note_citations(app, doctree):
    """Called by Sphinx when it has read a page: keep what a lesson cites."""
    env = app.env
    if not env.docname.startswith("lessons/"):
        return
    if not hasattr(env, "nn_cites"):
        env.nn_cites = {}
    env.nn_cites[env.docname] = cites(doctree)


def cites(doctree) -> list[str]:
    """The keys and tutorials that a page cites; the first link to each gets an id."""
    keys = {address_of(entry): key for key, entry in entries().items()}
    found = []
    for reference in doctree.findall(nodes.reference):
        key = keys.get(reference.get("refuri"))
        if key and key not in found:
            reference["ids"].append(anchor(key))
            found.append(key)
    words = " ".join(p.astext() for p in doctree.findall(nodes.paragraph))
    return found + sorted(set(TUTORIAL.findall(words)))


def anchor(key: str) -> str:
    """The id of a lesson's first link to a work."""
    return nodes.make_id(f"cites {key}")


def forget(app, env, docname):
    """Called by Sphinx when a page is gone, or read anew."""
    getattr(env, "nn_cites", {}).pop(docname, None)


def complete_references(app, doctree, docname):
    """Called by Sphinx when it writes a page: back-links in the list of references."""
    if docname != REFERENCES:
        return
    cited = getattr(app.env, "nn_cites", {})
    key_of = {c.citation_id: c.key for c in app.env.get_domain("cite").citations}
    for citation in doctree.findall(nodes.citation):
        key = next((key_of[i] for i in citation["ids"] if i in key_of), None)
        if key:
            pages = [page for page in sorted(cited) if key in cited[page]]
            paragraphs = [c for c in citation.children if isinstance(c, nodes.paragraph)]
            paragraphs[-1] += back_links(app, pages, f"#{anchor(key)}")
    for item in doctree.findall(nodes.list_item):
        match = TUTORIAL.match(item.astext())
        if match:
            pages = [page for page in sorted(cited) if match[0] in cited[page]]
            item.children[-1].extend(back_links(app, pages))


def back_links(app, pages: list[str], anchor: str = "") -> list[nodes.Node]:
    """Words for the end of an entry: the lessons that cite it, linked."""
    if not pages:
        return []
    words = nodes.inline(classes=["nn-used"])
    lesson = "lesson" if len(pages) == 1 else "lessons"
    words += nodes.Text(f" Cited in {lesson}\N{NO-BREAK SPACE}")
    for i, page in enumerate(pages):
        address = app.builder.get_relative_uri(REFERENCES, page) + anchor
        words += nodes.Text(", " if i else "")
        words += nodes.reference("", number_of(page), internal=True, refuri=address)
    words += nodes.Text(".")
    return [words]


def setup(app):
    """Called by Sphinx."""
    app.connect("doctree-read", note_citations)
    app.connect("env-purge-doc", forget)
    app.connect("doctree-resolved", complete_references)
    return {"version": "1", "parallel_read_safe": True}
