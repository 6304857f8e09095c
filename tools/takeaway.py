"""A Sphinx extension: a lesson's notebook can be taken along from a book opened from disk.

A server hands the notebook out as a file. From disk a browser shows it as text, and a page
may not read it. So it lies once more beside the pages, packed into a script that the page
loads when its button is pressed (`notebook.js`). A link to it stands above the exercises,
which are solved there.
"""

import base64
import gzip
import re
from pathlib import Path

FOLDER = "notebooks"  # in _static
EXERCISES = re.compile(r'<section id="exercises">\s*<h2>.*?</h2>')
LINK = (
    '<p class="nn-take">You solve these in Jupyter: '
    '<a href="../_sources/{name}" download>Open the notebook</a>, which your browser '
    'downloads, or read <a href="../book/running.html#run-it-jupyter">how to run it</a>.</p>'
)


def packed(notebook: bytes) -> str:
    """A script that hands a notebook, compressed and in letters, to the page."""
    letters = base64.b64encode(gzip.compress(notebook, mtime=0)).decode()
    return f'nnNotebook("{letters}");\n'


def pack(app, pagename, templatename, context, doctree):
    """Called by Sphinx for every page: a lesson's notebook in a script, and its loader."""
    if not pagename.startswith("lessons/") or doctree is None:
        return
    if app.builder.name != "html":  # a book for e-readers opens no file
        return
    source = Path(app.env.doc2path(pagename))
    file = Path(app.outdir, "_static", FOLDER, f"{source.stem}.js")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(packed(source.read_bytes()), encoding="utf-8")
    app.add_js_file("notebook.js", loading_method="defer")
    link = LINK.format(name=f"lessons/{source.name}")
    context["body"] = EXERCISES.sub(
        lambda head: f"{head[0]}\n{link}", context["body"], count=1
    )


def setup(app):
    """Called by Sphinx."""
    app.connect("html-page-context", pack)
    return {"version": "1", "parallel_read_safe": True}
