"""What the fault tests share: a small data set of our own behind a server on this
machine, a full disk, and processes that are another user's. With -v they end with a table
of the faults."""

import contextlib
import gzip
import hashlib
import os
import socket
import struct
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch

from lessons_src import data, standin


def pytest_runtest_setup(item):
    """A test's claim goes with its result: how the fault ends."""
    claim = " ".join((item.obj.__doc__ or "").split())
    item.user_properties.append(("claim", claim))


def pytest_terminal_summary(terminalreporter, config):
    """The table of `pytest -v -m "" tests/faults`: fault, how it ends, seconds."""
    if config.get_verbosity() < 1:
        return
    terminalreporter.write_line("| fault | how it ends | seconds |\n|---|---|---|")
    for outcome in ("passed", "failed"):
        for report in terminalreporter.stats.get(outcome, []):
            claim = dict(report.user_properties).get("claim")
            if report.when == "call" and claim is not None:
                name = report.nodeid.split("::test_")[1].replace("_", " ")
                ends = claim if outcome == "passed" else "FAILED"
                line = f"| {name} | {ends} | {report.duration:.1f} |"
                terminalreporter.write_line(line)


def idx_files(n_train=6, n_test=3):
    """The four files of a tiny data set in MNIST's format: name -> bytes."""
    contents = []
    for n in (n_train, n_test):
        contents.append(struct.pack(">IIII", 2051, n, 28, 28) + bytes(range(n)) * 784)
        contents.append(struct.pack(">II", 2049, n) + bytes(k % 10 for k in range(n)))
    return {f: gzip.compress(c) for f, c in zip(data.FILES, contents, strict=True)}


@pytest.fixture
def server():
    """A mirror that serves `served` (path -> bytes) and notes the paths `asked` for.

    Below /bad/ it answers with `behave(handler, body)`. `delay`: seconds before it answers.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            http.asked.append(self.path)
            time.sleep(http.delay)
            body = http.served.get(self.path.removeprefix("/bad"))
            if self.path.startswith("/bad"):
                with contextlib.suppress(OSError):  # the other side may have gone
                    http.behave(self, body)
                return
            self.send_response(200 if body is not None else 404)
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            with contextlib.suppress(OSError):
                self.wfile.write(body or b"")

        def log_message(self, *args):
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.served, http.asked, http.delay = {}, [], 0.0
    threading.Thread(target=http.serve_forever, args=(0.02,), daemon=True).start()
    http.address = f"http://127.0.0.1:{http.server_port}"
    yield http
    http.shutdown()


@pytest.fixture
def tiny(monkeypatch, server):
    """ "mnist" becomes the tiny data set, its only published mirror a dead port, and
    the stand-in three images: what the whole one is, tests/test_data.py says."""
    files = idx_files()
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        dead = s.getsockname()[1]
    source = dict(
        data.SOURCES["mnist"],
        mirrors=(f"http://127.0.0.1:{dead}/",),
        sha256=tuple(hashlib.sha256(c).hexdigest() for c in files.values()),
    )
    monkeypatch.setitem(data.SOURCES, "mnist", source)
    few = [torch.zeros(3, 1, 28, 28, dtype=torch.uint8), torch.arange(3)] * 2
    monkeypatch.setattr(standin, "make", lambda: few)
    monkeypatch.delenv("LESSONS_DATA", raising=False)
    server.served = {f"/MNIST/raw/{name}": content for name, content in files.items()}
    return files


@pytest.fixture
def full_disk(tmp_path):
    """A folder on a file system of 128 kB, of its own, and a function that fills it."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("no mount on this system")
    if done.returncode != 0:
        pytest.skip(f"a small disk cannot be mounted here: {done.stderr.strip()}")

    def fill():
        with contextlib.suppress(OSError), open(folder / "filler", "wb") as file:
            while True:
                file.write(bytes(512))
                file.flush()

    yield folder, fill
    subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture
def nobody():
    """A user without rights: file permissions mean nothing to root."""
    if not hasattr(os, "getuid"):
        pytest.skip("no users on this system")
    return 65534 if os.getuid() == 0 else None
