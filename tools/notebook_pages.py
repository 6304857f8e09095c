"""A Sphinx extension: what the book makes of a lesson's notebook beyond myst-nb.

Figures stand inline as SVG, in the page's own colours, their folded code below them.
Below the output of a cell stands what it promises: each range with a dot where the number
lies, a tick for all else, and the conditions on demand.
"""

import html
import json
from pathlib import Path

from docutils import nodes
from myst_nb.core.render import NbElementRenderer
from myst_nb.sphinx_ import HideCodeCellNode
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util import logging

from tools.ranges import bounds

log = logging.getLogger(__name__)

WIDTH = 56  # of a strip, in pixels


def inline_image(renderer, data):
    """An output's SVG as a figure of the page. Its PNG is for other viewers."""
    if data.mime_type != "image/svg+xml":
        return []
    figure = f'<figure class="nn-figure">{data.string}</figure>'
    return [nodes.raw(text=figure, format="html")]


def add_promises(app, doctree):
    """Put a strip below each cell of this page that promises something."""
    path = Path(app.env.doc2path(app.env.docname))
    if path.suffix != ".ipynb":
        return
    notebook = json.loads(path.read_text(encoding="utf-8"))
    kept = notebook["metadata"].get("kept", {})
    for container in list(doctree.findall(nodes.container)):
        if container.get("nb_element") != "cell_code":
            continue
        conditions = container["cell_metadata"].get("promise", [])
        values = kept.get(notebook["cells"][container["cell_index"]].get("id"), [])
        if len(conditions) != len(values):
            log.warning("%s: a promise is not stored as tried: make lessons", path.name)
        elif conditions:
            output_of(container).append(
                nodes.raw(text=strip(conditions, values), format="html")
            )


def output_of(container) -> nodes.container:
    """The part of a cell that holds its outputs; made where there are none."""
    last = container.children[-1]
    if last.get("nb_element") == "cell_code_output":
        return last
    part = nodes.container(nb_element="cell_code_output", classes=["cell_output"])
    container.append(part)
    return part


def strip(conditions: list[str], values: list) -> str:
    """The promises of one cell in HTML."""
    marks = "".join(map(mark, conditions, values))
    lines = "".join(f"<li><code>{html.escape(c)}</code></li>" for c in conditions)
    return (
        '<details class="nn-promise"><summary><span class="nn-kept">Promised'
        f"</span>{marks}</summary><ul>{lines}</ul></details>"
    )


def mark(condition: str, value: float | None) -> str:
    """One promise at a glance: its range with a dot, or a tick."""
    ends = bounds(condition)
    if value is None or ends is None:
        return '<span class="nn-tick" role="img" aria-label="a promise that was kept">✓</span>'
    low, _, high = ends
    share = (value - low) / (high - low) if high > low else 0.5
    at = 4 + share * (WIDTH - 8)
    promised = f"{shown(low)} to {shown(high)}"
    return (
        f'<span class="nn-range" role="img" aria-label="{shown(value)}, promised: {promised}">'
        f'{shown(low)} <svg aria-hidden="true" width="{WIDTH}" height="10" '
        f'viewBox="0 0 {WIDTH} 10"><path d="M1 1v8M{WIDTH - 1} 1v8M1 5h{WIDTH - 2}"/>'
        f'<circle cx="{at:.1f}" cy="5" r="3.5"/></svg> {shown(high)}</span>'
    )


def shown(number: float) -> str:
    """A number of a promise in four digits at most."""
    return f"{number:.4g}".replace("-", "−")


class FoldBelowOutput(SphinxPostTransform):
    """The code that draws a figure or asks a question stands below it, folded."""

    default_priority = 200  # after myst-nb's, which makes the folds
    formats = ("html",)

    def run(self, **_):
        """Called by Sphinx, for one page."""
        for cell in self.document.findall(nodes.container):
            if "tag_solution" in cell["classes"] or len(cell.children) != 2:
                continue
            if isinstance(cell.children[0], HideCodeCellNode):
                cell.children.reverse()


def setup(app):
    """Called by Sphinx."""
    NbElementRenderer.render_image = inline_image
    app.connect("doctree-read", add_promises)
    app.add_post_transform(FoldBelowOutput)
    return {"version": "1", "parallel_read_safe": True}
