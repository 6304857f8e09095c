"""Downloads, with faults injected: a small data set of our own behind a server on this
machine."""

import gzip
import hashlib
import socket
import struct
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch

from lessons_src import data, standin


def idx_files(n_train=6, n_test=3):
    """The four files of a tiny data set in MNIST's format: name -> bytes."""
    contents = []
    for n in (n_train, n_test):
        contents.append(struct.pack(">IIII", 2051, n, 28, 28) + bytes(range(n)) * 784)
        contents.append(struct.pack(">II", 2049, n) + bytes(k % 10 for k in range(n)))
    return {f: gzip.compress(c) for f, c in zip(data.FILES, contents, strict=True)}


@pytest.fixture
def server():
    """A mirror that serves `served` (path -> bytes) and notes the paths `asked` for;
    `delay` seconds pass before it answers."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            http.asked.append(self.path)
            time.sleep(http.delay)
            body = http.served.get(self.path)
            self.send_response(200 if body is not None else 404)
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
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
    monkeypatch.setattr(data, "_standins_used", set())
    monkeypatch.delenv("LESSONS_DATA", raising=False)
    server.served = {f"/MNIST/raw/{name}": content for name, content in files.items()}
    return files


def test_a_classroom_mirror_serves_the_files(tiny, server, tmp_path, monkeypatch):
    """LESSONS_MIRROR is asked first, once a file; afterwards nothing is downloaded."""
    monkeypatch.setenv("LESSONS_MIRROR", server.address + "/")
    loaded = data.load("mnist", root=tmp_path)
    assert not loaded.standin and len(loaded.train) == 6 and len(loaded.test) == 3
    assert loaded.train.images[1, 0, 0, :3].tolist() == [4, 5, 0]
    assert len(server.asked) == 4
    data.load("mnist", root=tmp_path)
    assert len(server.asked) == 4


def test_the_next_mirror_is_tried(tiny, server, tmp_path, monkeypatch):
    """A dead mirror, then one without the file, then a good one."""
    good = f"{server.address}/MNIST/raw/"
    mirrors = (*data.SOURCES["mnist"]["mirrors"], f"{server.address}/nothing/", good)
    monkeypatch.setitem(
        data.SOURCES, "mnist", dict(data.SOURCES["mnist"], mirrors=mirrors)
    )
    assert not data.load("mnist", root=tmp_path).standin
    assert any("/nothing/" in path for path in server.asked)


def test_an_altered_download_is_refused(tiny, server, tmp_path, monkeypatch, capsys):
    """One flipped bit in transit: the SHA-256 differs, nothing of it is kept, and it
    is said."""
    name = "/MNIST/raw/" + data.FILES[0]
    altered = bytearray(server.served[name])
    altered[20] ^= 1
    server.served[name] = bytes(altered)
    monkeypatch.setenv("LESSONS_MIRROR", server.address)
    assert data.load("mnist", root=tmp_path).standin
    printed = capsys.readouterr().out
    assert (
        "THIS IS NOT MNIST" in printed
        and "is missing" in printed
        and "LESSONS_MIRROR" in printed
    )
    assert not (tmp_path / name[1:]).exists()


def test_a_damaged_local_file_is_replaced(tiny, server, tmp_path, monkeypatch):
    """The SHA-256 is checked at every load: a flipped byte on disk is seen, and
    mended."""
    monkeypatch.setenv("LESSONS_MIRROR", server.address)
    data.load("mnist", root=tmp_path)
    file = tmp_path / "MNIST/raw" / data.FILES[0]
    damaged = bytearray(file.read_bytes())
    damaged[20] ^= 1
    file.write_bytes(damaged)
    assert not data.load("mnist", root=tmp_path).standin
    assert file.read_bytes() == tiny[data.FILES[0]]


def test_a_damaged_local_file_without_network(tiny, tmp_path, capsys):
    """It is never used: the stand-in, and a message that names the file."""
    folder = tmp_path / "MNIST/raw"
    folder.mkdir(parents=True)
    for name, content in tiny.items():
        (folder / name).write_bytes(content)
    (folder / data.FILES[3]).write_bytes(b"not what was published")
    assert data.load("mnist", root=tmp_path).standin
    assert f"{data.FILES[3]} is damaged" in capsys.readouterr().out


def test_no_network_at_all_is_quick(tiny, tmp_path, capsys):
    """Nothing on disk, no mirror answers: the stand-in, and what to do, in a few
    seconds (those of making the whole one are measured in tests/test_data.py)."""
    start = time.perf_counter()
    assert data.load("mnist", root=tmp_path).standin
    assert time.perf_counter() - start < 10
    assert "put the four .gz files into" in capsys.readouterr().out


def test_a_hanging_mirror_is_left(tiny, server, tmp_path, monkeypatch):
    """A mirror that accepts the connection and says nothing costs the timeout, no
    more."""
    monkeypatch.setattr(data, "TIMEOUT", 0.3)
    monkeypatch.setenv("LESSONS_MIRROR", server.address)
    server.delay = 1.5
    start = time.perf_counter()
    assert data.load("mnist", root=tmp_path).standin
    assert time.perf_counter() - start < 8


def test_several_processes_at_once(tiny, server, tmp_path, monkeypatch):
    """Eight loads of an empty folder at the same time all succeed, and leave whole
    files."""
    from concurrent.futures import ThreadPoolExecutor

    monkeypatch.setenv("LESSONS_MIRROR", server.address)
    with ThreadPoolExecutor(8) as pool:
        loads = [pool.submit(data.load, "mnist", tmp_path) for _ in range(8)]
        assert all(not load.result().standin for load in loads)
    assert sorted(p.name for p in (tmp_path / "MNIST/raw").iterdir()) == sorted(
        data.FILES
    )


def test_a_root_that_cannot_be_written(tiny, server, tmp_path, monkeypatch):
    """Under a regular file no folder can be made: said, and the stand-in serves."""
    monkeypatch.setenv("LESSONS_MIRROR", server.address)
    file = tmp_path / "file"
    file.write_text("")
    assert data.load("mnist", root=file / "data").standin


def test_the_published_mirrors_are_https():
    """Every address written in the module is encrypted, and each file has a SHA-256."""
    for source in data.SOURCES.values():
        assert all(mirror.startswith("https://") for mirror in source["mirrors"])
        assert len(source["mirrors"]) >= 2 and len(source["sha256"]) == 4
