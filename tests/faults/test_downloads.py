"""Downloads and files on disk, with faults injected. Each ends, within seconds, in the
right data, or in the stand-in with the reason."""

import gzip
import os
import re
import signal
import socket
import stat
import struct
import threading
import time

import pytest
import requests  # before a process is made that may not read the library
import torch
from processes import result_of, start_child
from swept import some
from tqdm import tqdm

from lessons_src import data, download, recipes


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


def with_another_pixel(packed):
    """A whole .gz file in which one bit of one image differs: only its SHA-256 tells."""
    content = bytearray(gzip.decompress(packed))
    content[500] ^= 1
    return gzip.compress(content)


def test_an_altered_download_is_refused(tiny, server, tmp_path, monkeypatch, capsys):
    """Another file than the published one: nothing of it is kept, and it is said."""
    name = "/MNIST/raw/" + data.FILES[0]
    server.served[name] = with_another_pixel(server.served[name])
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
    """The SHA-256 is checked at every load: one other pixel on disk is seen, and
    mended."""
    monkeypatch.setenv("LESSONS_MIRROR", server.address)
    data.load("mnist", root=tmp_path)
    file = tmp_path / "MNIST/raw" / data.FILES[0]
    file.write_bytes(with_another_pixel(file.read_bytes()))
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
    monkeypatch.setattr(download, "TIMEOUT", 0.3)
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
    file.write_text("", encoding="utf-8")
    assert data.load("mnist", root=file / "data").standin


def test_the_published_mirrors_are_https():
    """Every address written in the module is encrypted, and each file has a SHA-256."""
    for source in data.SOURCES.values():
        assert all(mirror.startswith("https://") for mirror in source["mirrors"])
        assert len(source["mirrors"]) >= 2 and len(source["sha256"]) == 4


# Mirrors that misbehave -----------------------------------------------------------------


def answer(handler, body, status=200, length=None, **headers):
    """Status, headers and body, whatever the body is."""
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(body) if length is None else length))
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(body)


def reset(handler, body):
    """The connection is cut with a reset in the middle."""
    answer(handler, body[:20], length=len(body))
    handler.wfile.flush()
    linger = struct.pack("ii", 1, 0)
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    handler.connection.close()


def drip(handler, body):
    """A byte at a time."""
    answer(handler, b"", length=len(body))
    for k in range(60):
        handler.wfile.write(body[k : k + 1])
        time.sleep(0.05)


def drip_headers(handler, body):
    """A byte at a time, before the content begins."""
    for k in range(60):
        handler.wfile.write(
            b"HTTP/1.1 200 OK and nothing more comes for a long time"[k:][:1]
        )
        time.sleep(0.05)


def endless(handler, body):
    """More than any file has."""
    answer(handler, b"", length=10**12)
    while True:
        handler.wfile.write(bytes(2**16))


def much_first(handler, body):
    """Enough for a while, and then a byte at a time."""
    answer(handler, bytes(2**14), length=2**14 + 100)
    for _ in range(60):
        handler.wfile.write(b"0")
        time.sleep(0.05)


def bomb(handler, body):
    """5 MB of zeros in 20 kB, to be unpacked on the way."""
    packed = gzip.compress(bytes(5_000_000), compresslevel=1)
    answer(handler, packed, Content_Encoding="gzip")


LOOP = "TooManyRedirects|too slow|ReadTimeout"
# What the mirror does, and the reason that the notice gives.
MIRRORS = {
    "status 403": (lambda h, body: answer(h, b"", 403), "status 403"),
    "status 404": (lambda h, body: answer(h, b"", 404), "status 404"),
    "status 429": (lambda h, b: answer(h, b"", 429, Retry_After="3600"), "status 429"),
    "status 500": (lambda h, body: answer(h, b"", 500), "status 500"),
    "status 503": (lambda h, body: answer(h, b"", 503), "status 503"),
    "no content": (lambda h, body: answer(h, b"", 204), "status 204"),
    "a page": (lambda h, body: answer(h, b"<html>Sign in here</html>"), "something else"),
    "half": (lambda h, b: answer(h, b[: len(b) // 2], length=len(b)), "ProtocolError"),
    "too short a length": (lambda h, b: answer(h, b, length=9), "something else"),
    "length is no number": (lambda h, body: answer(h, body, length="much"), "ValueError"),
    "a byte too many": (lambda h, body: answer(h, body + b"0"), "something else"),
    "nothing": (lambda h, body: time.sleep(2), "too slow|ReadTimeout"),
    "a redirect loop": (lambda h, b: answer(h, b"", 302, Location=h.path), LOOP),
    "a reset": (reset, "ProtocolError|ConnectionError"),
    "a byte at a time": (drip, "too slow"),
    "headers a byte at a time": (drip_headers, "too slow"),
    "much, then a byte at a time": (much_first, "too slow"),
    "endless": (endless, "too large"),
    "a bomb": (bomb, "something else"),
}


SLOW_MIRRORS = {"nothing", *(name for name in MIRRORS if "byte at a time" in name)}


@pytest.mark.parametrize(
    "fault", some(MIRRORS, lambda fault: fault not in SLOW_MIRRORS, pytest.mark.slow)
)
def test_a_mirror_that_misbehaves(tiny, server, tmp_path, monkeypatch, capsys, fault):
    """The next one gives the right data; where it is the only one, the stand-in serves,
    the notice names it with the reason, and nothing of it is kept."""
    server.behave, reason = MIRRORS[fault]
    monkeypatch.setattr(download, "TIMEOUT", 0.3 if "too slow" in reason else 8)
    monkeypatch.setattr(download, "LARGEST", 2**22)
    monkeypatch.setenv("LESSONS_MIRROR", server.address + "/bad")
    start = time.perf_counter()
    assert data.load("mnist", tmp_path).standin
    assert time.perf_counter() - start < 10
    host = server.address.removeprefix("http://")
    assert re.search(rf"\({host}: [^;]*({reason})", capsys.readouterr().out)
    assert not (tmp_path / "MNIST").exists()
    monkeypatch.setattr(
        download, "TIMEOUT", 8
    )  # the good one may be slow on a busy machine
    good = f"{server.address}/MNIST/raw/"
    source = dict(data.SOURCES["mnist"], mirrors=(good,))
    monkeypatch.setitem(data.SOURCES, "mnist", source)
    loaded = data.load("mnist", tmp_path)
    assert not loaded.standin and len(loaded.train) == 6


def test_a_slow_mirror_is_waited_for(monkeypatch):
    """Longer than a mirror that says nothing, where it keeps above the slowest rate."""
    monkeypatch.setattr(download, "TIMEOUT", 0.2)
    monkeypatch.setattr(download, "SLOWEST", 20)  # 4 bytes in each wait

    def fetch(url, content, errors):
        for _ in range(30):
            content.extend(b"ab")
            time.sleep(0.02)

    monkeypatch.setattr(download, "_fetch", fetch)
    assert download._fetched("http://127.0.0.1:9/") == b"ab" * 30


def test_the_bar_shows_how_much_has_come(tiny, server, tmp_path, monkeypatch):
    """It ends where the file does, and knows the size that the mirror names."""
    bars = []

    class Bar(tqdm):
        def __init__(self, **options):
            bars.append(self)
            super().__init__(**options)

    monkeypatch.setattr(download, "tqdm", Bar)
    monkeypatch.setenv("LESSONS_MIRROR", server.address)
    data.load("mnist", tmp_path)
    sizes = [len(content) for content in tiny.values()]
    assert [(bar.total, bar.n) for bar in bars] == [(n, n) for n in sizes]


def test_training_for_a_record_ends_in_one_error(tiny, tmp_path, monkeypatch):
    """Where the stand-in will not do: DataError."""
    monkeypatch.setenv("LESSONS_DATA", str(tmp_path))
    with pytest.raises(data.DataError, match="needs the real mnist"):
        recipes.splits(recipes.OWN["mlp-97"])


def test_a_proxy_that_is_dead(tiny, server, tmp_path, monkeypatch, capsys):
    """Named by the environment: the stand-in at once."""
    monkeypatch.setenv("LESSONS_MIRROR", "http://mirror.invalid/")
    monkeypatch.setenv("http_proxy", data.SOURCES["mnist"]["mirrors"][0])
    start = time.perf_counter()
    assert data.load("mnist", tmp_path).standin
    assert time.perf_counter() - start < 10
    assert "mirror.invalid: ProxyError" in capsys.readouterr().out


def test_a_mirror_without_http(tiny, tmp_path, monkeypatch, capsys):
    """The reason says how an address begins."""
    monkeypatch.setenv("LESSONS_MIRROR", "192.168.0.10:8001")
    assert data.load("mnist", tmp_path).standin
    assert "must begin with http:// or https://" in capsys.readouterr().out


# Files and folders that are not what they should be -------------------------------------


def cut(path):
    path.write_bytes(path.read_bytes()[:-9])


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def folder(path):
    path.unlink()
    path.mkdir()
    (path / "a file").write_text("somebody's own", encoding="utf-8")


def dangling(path):
    path.unlink()
    path.symlink_to("/nowhere/at/all")


CACHES = [cut, flip, folder, dangling, lambda path: path.write_bytes(b"")]
NAMES = ["cut", "one bit", "a folder", "a dangling link", "empty"]


@pytest.mark.parametrize("damage", CACHES, ids=NAMES)
def test_a_file_that_is_damaged(tiny, server, tmp_path, monkeypatch, capsys, damage):
    """A mirror gives the right data, and what can be mended is; without one the stand-in
    serves. A folder of that name is left alone."""
    monkeypatch.setenv("LESSONS_MIRROR", server.address)
    data.load("mnist", tmp_path)
    file = tmp_path / "MNIST/raw" / data.FILES[0]
    damage(file)
    monkeypatch.delenv("LESSONS_MIRROR")
    assert data.load("mnist", tmp_path).standin
    assert str(file) in capsys.readouterr().out
    monkeypatch.setenv("LESSONS_MIRROR", server.address)
    assert not data.load("mnist", tmp_path).standin
    assert file.is_dir() == (damage is folder)
    assert file.is_dir() or file.read_bytes() == tiny[data.FILES[0]]


@pytest.mark.parametrize("damage", CACHES, ids=NAMES)
def test_a_kept_standin_that_is_damaged(tiny, tmp_path, damage):
    """It is made anew, never read wrong."""
    whole = data.load("digits", tmp_path).train
    damage(tmp_path / "standin-1.npz")
    again = data.load("digits", tmp_path).train
    assert torch.equal(whole.images, again.images)
    assert torch.equal(whole.labels, again.labels)


def test_no_flipped_bit_of_the_standin_is_read(tiny, tmp_path):
    """Anywhere in the file."""
    whole, kept = data.load("digits", tmp_path).train, tmp_path / "standin-1.npz"
    content = kept.read_bytes()
    for place in range(0, len(content), 97):
        kept.write_bytes(
            content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :]
        )
        again = data.load("digits", tmp_path).train
        assert torch.equal(whole.images, again.images), place
        assert torch.equal(whole.labels, again.labels), place


def test_a_misspelt_folder_is_shown_and_not_made(
    tiny, server, tmp_path, monkeypatch, capsys
):
    """By the environment or as an argument, relative or from home: the notice shows the
    whole path, and nothing is made there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("LESSONS_MIRROR", server.address)
    monkeypatch.setenv("LESSONS_DATA", "datsets/all")
    assert data.load("mnist").standin
    assert f"There is no folder {tmp_path}/datsets/all" in capsys.readouterr().out
    assert data.load("mnist", "~/datsets").standin
    assert f"There is no folder {tmp_path}/datsets" in capsys.readouterr().out
    assert not any(tmp_path.iterdir())
    (tmp_path / "datasets").mkdir()
    for name in ("~/datasets", "datasets"):
        loaded = data.load("mnist", name)
        assert loaded.source == f"{tmp_path}/datasets/MNIST/raw"


def test_a_path_with_spaces_and_umlauts(tiny, server, tmp_path, monkeypatch):
    """And brackets, a percent sign, a hash."""
    monkeypatch.setenv("LESSONS_MIRROR", server.address)
    odd = tmp_path / "Übungs daten [1] 100% #2"
    odd.mkdir()
    assert not data.load("mnist", odd).standin
    server.served.clear()
    assert not data.load("mnist", odd).standin


@pytest.mark.parametrize("mode", [0o555, 0o000], ids=["read-only", "unreadable"])
def test_a_folder_without_permission(tiny, server, tmp_path, monkeypatch, nobody, mode):
    """Read-only: the right data, in memory. Unreadable: they too, or the stand-in."""
    monkeypatch.setenv("LESSONS_MIRROR", server.address)
    root = tmp_path / "data"
    root.mkdir()
    requests.get(server.address)  # what the library reads at first, it has read
    for path in (tmp_path, *tmp_path.parents):  # another user gets as far as this
        if "pytest" in str(path):
            path.chmod(0o755)
    root.chmod(mode)

    def loads():
        return data.load("mnist", root).standin, data.load("digits", root).name

    assert result_of(*start_child(loads, nobody)) == (False, "digits")
    root.chmod(0o755)
    assert not any(root.iterdir())


def test_a_disk_that_is_full(tiny, server, full_disk, monkeypatch):
    """The right data, in memory; no half of a file stays."""
    root, fill = full_disk
    monkeypatch.setenv("LESSONS_MIRROR", server.address)
    fill()
    assert not data.load("mnist", root).standin
    assert data.load("digits", root).name == "digits"
    assert [path for path in root.rglob("*") if path.is_file()] == [root / "filler"]


def test_others_can_read_what_one_downloads(tiny, server, tmp_path, monkeypatch):
    """A shared folder: the permissions are those of the umask."""
    monkeypatch.setenv("LESSONS_MIRROR", server.address)
    before = os.umask(0o027)
    try:
        data.load("mnist", tmp_path)
    finally:
        os.umask(before)
    file = tmp_path / "MNIST/raw" / data.FILES[0]
    assert stat.S_IMODE(file.stat().st_mode) == 0o640


def test_six_processes_at_once(tiny, server, tmp_path, monkeypatch):
    """All get the right data, and four whole files stay."""
    monkeypatch.setenv("LESSONS_MIRROR", server.address)
    children = [
        start_child(lambda: data.load("mnist", tmp_path).standin) for _ in range(6)
    ]
    assert [result_of(*child) for child in children] == [False] * 6
    left = sorted(path.name for path in (tmp_path / "MNIST/raw").iterdir())
    assert left == sorted(data.FILES)


def test_killed_in_the_middle(tiny, server, tmp_path, monkeypatch):
    """Of a download: the next process has the right data."""
    server.behave = drip
    monkeypatch.setenv("LESSONS_MIRROR", server.address + "/bad")
    child = start_child(lambda: data.load("mnist", tmp_path))
    while not server.asked:
        time.sleep(0.01)
    os.kill(child[0], signal.SIGKILL)
    assert result_of(*child) is None
    monkeypatch.setenv("LESSONS_MIRROR", server.address)
    assert not data.load("mnist", tmp_path).standin


def test_a_killed_child_keeps_no_lock():
    """Bars of tqdm share a lock between processes: a child that is killed with it would
    hold up every later bar of this one."""
    tqdm.get_lock()  # made before the child
    reading, writing = os.pipe()

    def work():
        tqdm.get_lock().acquire()
        os.write(writing, b"locked")
        time.sleep(60)

    child = start_child(work)
    assert os.read(reading, 6) == b"locked"
    os.kill(child[0], signal.SIGKILL)
    assert result_of(*child) is None
    bar = threading.Thread(target=lambda: tqdm(total=1, disable=True), daemon=True)
    bar.start()
    bar.join(10)
    assert not bar.is_alive(), "the next bar waits for a process that has ended"


def test_a_mirror_that_is_left_does_not_hold_the_process(monkeypatch):
    """The thread that waits for it ends with the process."""
    release = threading.Event()
    monkeypatch.setattr(download, "TIMEOUT", 0.05)
    monkeypatch.setattr(download, "_fetch", lambda *_: release.wait(60))
    before = set(threading.enumerate())
    with pytest.raises(OSError, match="too slow"):
        download._fetched("http://127.0.0.1:9/")
    waiting = set(threading.enumerate()) - before
    assert waiting and all(thread.daemon for thread in waiting)
    release.set()
