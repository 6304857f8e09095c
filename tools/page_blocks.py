"""A Sphinx extension: what the book makes of blocks and tables beyond myst-nb.

An exercise becomes one card, from its statement to its solution, which is folded with all
that it prints. "Goes wrong on purpose" encloses the cells that go wrong. The output that
would answer a quiz is marked, so that a script can veil it (`book/web/quiz.js`), and a
stepper's values are laid beside it for its ticks (`book/web/stepper.js`). Tables align
numbers, and say in each cell which column it belongs to, for cards on a phone. Long ones
of the page on cost are folded there.
"""

import html
import json
import re
from collections.abc import Iterator
from pathlib import Path

from docutils import nodes

VIEW = "application/vnd.jupyter.widget-view+json"
STATE = "application/vnd.jupyter.widget-state+json"
# A cell of a table that is one number, with its sign, unit and spread.
NUMBER = re.compile(
    r"[^\w(]*\d[\d.,\s]*(e[+−-]?\d+)?(\s*[±×/]\s*[\d.,]+)*\s*[^\W\d]{0,3}\W*"
)
NOTHING = re.compile(r"\W*")  # no value: empty, or a dash
PHONE, PROSE = 44, 14  # letters: of a phone's line, of a column of sentences at least
FOLDS_TABLES = "book/cost"  # tables for planners: a phone shows their names first
LONG = 30  # cells: as cards, about two screens of a phone


def arrange(app, doctree):
    """All of it, for one page; after the promises have been put in."""
    path = Path(app.env.doc2path(app.env.docname))
    if path.suffix == ".ipynb":
        notebook = json.loads(path.read_text(encoding="utf-8"))
        mark_answers(doctree)
        lay_values_beside_steppers(doctree, notebook)
        for start in list(openings(doctree, "nn-exercise")):
            make_card(start)
        for start in list(openings(doctree, "nn-failure")):
            enclose_failure(start)
    for table in list(doctree.findall(nodes.table)):
        arrange_table(table)
        if app.env.docname == FOLDS_TABLES and "nn-cards" in table["classes"]:
            fold_if_long(table)


def is_code_cell(node) -> bool:
    return isinstance(node, nodes.container) and node.get("nb_element") == "cell_code"


def has_tag(node, tag: str) -> bool:
    return is_code_cell(node) and tag in node["cell_metadata"].get("tags", [])


def output_of(cell):
    """The part of a code cell that holds its outputs, or None."""
    last = cell.children[-1] if cell.children else None
    is_output = last is not None and last.get("nb_element") == "cell_code_output"
    return last if is_output else None


def openings(doctree, name: str) -> Iterator[nodes.raw]:
    """The raw nodes that open a block of this class."""
    for node in doctree.findall(nodes.raw):
        if f'<blockquote class="{name}">' in node.astext():
            yield node


def following(node) -> list:
    """The siblings after a node."""
    siblings = node.parent.children
    return siblings[siblings.index(node) + 1 :]


def block(start) -> list:
    """A quotation block: from the raw node that opens it to the one that closes it."""
    found = [start]
    for node in following(start):
        found.append(node)
        if isinstance(node, nodes.raw) and "</blockquote>" in node.astext():
            break
    return found


def enclose(parts: list, *classes: str) -> None:
    """Put siblings that stand in a row into one box."""
    parent, at = parts[0].parent, parts[0].parent.index(parts[0])
    box = nodes.container(classes=list(classes))
    for part in parts:
        parent.remove(part)
    parent.insert(at, box)
    box += parts


# ---- exercises, and what goes wrong on purpose ----


def make_card(start) -> None:
    """An exercise: statement, picture, stub and solution; the solution's output is folded
    with its code, so that no tick is seen before it is earned."""
    statement = block(start)
    set_title(statement[1])
    parts = list(statement)
    for node in following(statement[-1]):
        if not is_code_cell(node):
            break
        parts.append(node)
        if has_tag(node, "solution"):
            node["hide_mode"] = "all"
            break
    enclose(parts, "nn-task")


def set_title(title) -> None:
    """`**Exercise 1 · Name** (easy, 5 minutes)`: what is in brackets becomes chips."""
    last = title.children[-1]
    found = re.fullmatch(r"\s*\((.+)\)\s*", last.astext(), re.DOTALL)
    if not isinstance(last, nodes.Text) or not found:
        return
    title.remove(last)
    for words in re.split(r",\s*", found[1]):
        title += [nodes.Text(" "), nodes.inline("", words, classes=["nn-chip"])]


def enclose_failure(start) -> None:
    """The block and the code cells right after it: code and traceback."""
    words = block(start)
    cells = []
    for node in following(words[-1]):
        if not is_code_cell(node):
            break
        cells.append(node)
    if cells:
        enclose([*words, *cells], "nn-failing")


# ---- quizzes and steppers ----


def mark_answers(doctree) -> None:
    """Mark each quiz that the next output would answer, and that output."""
    for cell in list(doctree.findall(is_code_cell)):
        answer = answer_after(cell) if asks(cell) else None
        if answer is None:
            continue
        cell["classes"].append("nn-asks")
        output_of(answer)["classes"].append("nn-answer")
        for figure in following(answer):  # what is drawn of it right below
            if not has_tag(figure, "hide-input") or asks(figure):
                break
            if output_of(figure) is not None:
                output_of(figure)["classes"].append("nn-answer-too")


def asks(cell) -> bool:
    """Whether a code cell is a quiz."""
    return bool(cell.children) and cell.children[0].astext().startswith("quiz(")


def answer_after(quiz):
    """The next cell with an output in the quiz's section; None where there is none, and
    where a derivation, a result or another quiz comes first."""
    for node in following(quiz):
        if isinstance(node, nodes.section):
            return None
        if isinstance(node, nodes.raw) and re.search(
            r'class="nn-(?!failure)', node.astext()
        ):
            return None
        if is_code_cell(node):
            if asks(node):
                return None
            if shows_something(output_of(node)):
                return node
    return None


def shows_something(output) -> bool:
    """Whether there is an output, and more in it than a promise."""
    parts = output.children if output is not None else []
    return any("nn-promise" not in part.astext() for part in parts)


def lay_values_beside_steppers(doctree, notebook) -> None:
    """What each stop of a stepper's slider is called, as an element that is not shown."""
    state = notebook["metadata"].get("widgets", {}).get(STATE, {}).get("state", {})
    for cell in doctree.findall(is_code_cell):
        outputs = notebook["cells"][cell["cell_index"]].get("outputs", [])
        for output in outputs:
            view = output.get("data", {}).get(VIEW)
            values = slider_values(state, view["model_id"]) if view else []
            if values and output_of(cell) is not None:
                words = html.escape(json.dumps(values, ensure_ascii=False))
                text = f'<template class="nn-values" data-values="{words}"></template>'
                output_of(cell).append(nodes.raw(text=text, format="html"))


def slider_values(state: dict, model_id: str) -> list[str]:
    """The options of the slider in a box of widgets; empty where there is none."""
    box = state[model_id]["state"]
    for child in box.get("children", []):
        model = state[child.removeprefix("IPY_MODEL_")]
        if model["model_name"] == "SelectionSliderModel":
            return model["state"]["_options_labels"]
    return []


# ---- tables ----


def arrange_table(table) -> None:
    """Numbers to the right, column by column; a label for each cell; and whether a phone
    shows the rows as cards."""
    group = table.next_node(nodes.tgroup)
    heads, body = group.next_node(nodes.thead), group.next_node(nodes.tbody)
    if heads is None or body is None:
        return
    labels = [entry.astext() for entry in heads.children[-1].children]
    rows = [row.children for row in body.children]
    if any(len(row) != len(labels) for row in rows):
        return  # cells that span others: left as they are
    for column, label in enumerate(labels):
        cells = [row[column] for row in rows]
        for cell in cells:
            cell["nn-label"] = label
        if are_numbers(cell.astext() for cell in cells):
            for cell in [*cells, heads.children[-1].children[column]]:
                cell["classes"].append("nn-number")
    columns = zip(heads.children[-1].children, *rows, strict=True)
    if len(labels) > 2 and sum(max(map(least, cells)) + 2 for cells in columns) > PHONE:
        table["classes"].append("nn-cards")


def fold_if_long(table) -> None:
    """A long table in a fold, which CSS keeps open but on a phone."""
    heads = [
        entry.astext() for entry in table.next_node(nodes.thead).findall(nodes.entry)
    ]
    rows = len(table.next_node(nodes.tbody).children)
    if rows * len(heads) < LONG:
        return
    words = html.escape(f"Table: {', '.join(heads)} ({rows} rows)")
    at = table.parent.index(table)
    opening = f'<details class="nn-long"><summary>{words}</summary>'
    table.parent.insert(at, nodes.raw(text=opening, format="html"))
    table.parent.insert(at + 2, nodes.raw(text="</details>", format="html"))


def least(cell) -> int:
    """The letters that a cell of a table is wide at least: its longest word, code in one
    piece, and prose not in a column of single words."""
    code = [node.astext() for node in cell.findall(nodes.literal)]
    longest = max(map(len, [*cell.astext().split(), *code]), default=0)
    return max(longest, min(len(cell.astext()), PROSE))


def are_numbers(texts) -> bool:
    """Whether all texts are numbers, or nothing, and one at least is a number."""
    texts = [text.strip() for text in texts]
    some = [text for text in texts if not NOTHING.fullmatch(text)]
    return bool(some) and all(NUMBER.fullmatch(text) for text in some)


def visit_entry(self, node):
    """A cell of a table, as the theme writes it, with the label of its column."""
    type(self).visit_entry(self, node)
    if node.get("nn-label"):
        label = html.escape(node["nn-label"])
        self.body[-1] = self.body[-1].replace("<td", f'<td data-label="{label}"', 1)


def depart_entry(self, node):
    """Its end."""
    type(self).depart_entry(self, node)


def setup(app):
    """Called by Sphinx."""
    app.connect("doctree-read", arrange, priority=600)  # the others stand at 500
    app.add_node(nodes.entry, override=True, html=(visit_entry, depart_entry))
    return {"version": "1", "parallel_read_safe": True}
