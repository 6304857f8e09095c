"""What the page on reading and running tells a reader to do is done here: its commands are
read from the page, so that a changed page is a changed test."""

import argparse
import ast
import gzip
import hashlib
import importlib
import json
import os
import re
import shlex
import shutil
import socket
import struct
import subprocess
import sys
import time

import pytest
import torch
from lesson_source import LESSONS, ROOT, cells, tags

from lessons_src import data, standin
from lessons_src.train import Split

PAGE = (ROOT / "book/running.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```\w*\n(.*?)^```$", PAGE, re.M | re.S)
SHELL = [block for block in BLOCKS if not block.startswith(("from ", "<mirror>"))]
OUTSIDE = re.sub(r"^```.*?^```$", "", PAGE, flags=re.M | re.S)
INLINE = re.findall(r"`([^`\n]+)`", OUTSIDE)
STARTS = r"(?:make|python -m|torchrun|export|LESSONS_\w+=\S+ \S+|\.venv/bin/|!unzip) ?"


def in_blocks() -> list[str]:
    """The command lines of the page's blocks, whole and without their comments."""
    lines = re.sub(r"\\\n\s*", "", "\n".join(SHELL)).splitlines()
    lines = [re.sub(r"\s+#.*", "", line) for line in lines]
    return [line for line in lines if line]


def commands(start: str) -> list[list[str]]:
    """The words of each command that begins so, in blocks and in the text."""
    found = in_blocks() + [code for code in INLINE if re.match(STARTS, code)]
    plain = [re.sub(r"^([A-Z_]+=\S+ )+", "", line).rstrip("… ") for line in found]
    words = [shlex.split(line) for line in plain]
    return [line for line in words if " ".join(line).startswith(start)]


def definitions(heading: str) -> dict[str, str]:
    """The terms of a section's definition list, and what the page says of each."""
    text = PAGE.split(f"## {heading}\n")[1].split("\n## ")[0]
    return dict(re.findall(r"^(`.+)\n: (.+)$", text, re.M))


@pytest.mark.parametrize("line", in_blocks())
def test_no_command_is_left_out(line):
    """Each command in a block is of a kind that a test below tries."""
    kinds = ("make ", "export ", "python -m ", "torchrun ", ".venv/bin/jupyter lab ")
    plain = re.sub(r"^([A-Z_]+=\S+ )+", "", line)
    assert plain.startswith(kinds), (
        f"a new kind of command in running.md: try {line!r} here"
    )


# ---- make ----

SAID = {
    "book": r"-m tools\.book$",
    "zip": r"tools\.stick$",
    "pdf": r"tools\.pdf$",
    "epub": r"tools\.epub$",
    "serve": r"http\.server 8000 .*--directory _build/html$",
    "test": r"--maxprocesses 4 --dist loadfile .*--nbval lessons book tests$",
    "slow": r'-m "slow and not sweep" .* tests$',
    "lint": r"ruff check \.",
    "bench": r"-m benchmarks\.race$",
    "publish-as": r'tools\.publish "…"$',
}


@pytest.mark.skipif(not shutil.which("make"), reason="no make on this machine")
def test_make_does_what_the_page_says(tmp_path):
    """Each target that it names makes the environment first, and then runs that."""
    for name in ("Makefile", "requirements.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "requirements", tmp_path / "requirements")
    named = {line[1] for line in commands("make ")}
    assert named == SAID.keys(), "running.md names other targets than are tried here"
    keep = {k: v for k, v in os.environ.items() if not k.startswith("MAKE")}
    for target, command in SAID.items():
        line = ["make", "--dry-run", target, "URL=…"]
        run = subprocess.run(line, cwd=tmp_path, env=keep, capture_output=True, text=True)
        assert run.returncode == 0, f"running.md names `make {target}`: {run.stderr}"
        would = re.sub(r"\\\n\s*", "", run.stdout)
        assert "-m venv .venv" in would, f"make {target} makes no environment"
        assert re.search(command, would, re.M), f"make {target} does not run {command}"


def test_what_starts_from_the_environment_is_there():
    """Jupyter and pytest are installed by it, and get a folder of the course."""
    lines = commands(".venv/bin/")
    assert len(lines) >= 3
    installed = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    for line in lines:
        package = {"jupyter": "jupyterlab"}.get(line[0][10:], line[0][10:])
        assert re.search(rf"^{package}==", installed, re.M), f"{line[0]} is not installed"
        assert (ROOT / line[-1]).is_dir(), f"there is no folder {line[-1]}"


# ---- Modules that are run ----


class Parsed(Exception):
    """The options were read, and nothing else was done."""


def tried(module: str, options: list[str], monkeypatch):
    """Read a command's options as the module itself does, and stop there."""
    plain = argparse.ArgumentParser.parse_args

    def parse(parser, args=None, namespace=None):
        raise Parsed(plain(parser, args, namespace))

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse)
    monkeypatch.setattr(sys, "argv", [module, *options])
    importlib.import_module(module).main()


def modules():
    """Module and options of each `python -m` and `torchrun` on the page."""
    found = [line[2:] for line in commands("python -m ") if line[2] != "http.server"]
    shared = [line for line in commands("torchrun ") if "-m" in line]
    return found, shared


@pytest.mark.slow
@pytest.mark.parametrize("line", modules()[0], ids=" ".join)
def test_a_module_takes_the_options_that_the_page_shows(line, monkeypatch, capsys):
    """`python -m …`: the module is there, reads these options, and explains itself."""
    module, *options = line
    if options != ["--help"]:
        with pytest.raises(Parsed):
            tried(module, options, monkeypatch)
        monkeypatch.undo()
    with pytest.raises(SystemExit) as ended:
        tried(module, ["--help"], monkeypatch)
    assert ended.value.code == 0 and "usage:" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("line", modules()[1], ids=" ".join)
def test_torchrun_takes_the_options_that_the_page_shows(line, monkeypatch):
    """torchrun's own, and those of the module that it starts."""
    from torch.distributed.run import get_args_parser

    args = get_args_parser().parse_args(line[1:])
    assert args.module
    with pytest.raises(Parsed):
        tried(args.training_script, args.training_script_args, monkeypatch)


@pytest.mark.slow
def test_the_with_block_trains():
    """The page's Python runs as it stands, on a process of its own too."""
    (code,) = [block for block in BLOCKS if block.startswith("from ")]
    draw = torch.Generator().manual_seed(0)
    split = Split(torch.rand(64, 1, 28, 28, generator=draw), torch.arange(64) % 2)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 2))
    before = model[1].weight.clone()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    names = dict(torch=torch, model=model, optimizer=optimizer, train=split, test=split)
    exec(code, names)
    assert 0 <= names["accuracy"] <= 1 and not torch.equal(before, model[1].weight.cpu())


# ---- On Colab ----

IN_A_CELL = """
import json, os, sys
sys.modules.update(benchmarks=None, tools=None)  # of the course, the module alone
for source in json.loads(sys.argv[1]):
    exec(source, {})
import lessons_src
from lessons_src import data
print(lessons_src.__file__, data._default_root(), sep="\\n")
"""


def set_up() -> str:
    """The set-up cell, which is the same in all lessons."""
    return next(cell.source for cell in cells(LESSONS[0].stem) if "setup" in tags(cell))


def imports() -> list[str]:
    """What the lessons import from the course's module."""
    code = [c.source for p in LESSONS for c in cells(p.stem) if c.cell_type == "code"]
    found = re.findall(
        r"^from lessons_src(?:\.\w+)* import (?:\([^)]*\)|.+)", "\n".join(code), re.M
    )
    return sorted(set(found))


@pytest.mark.slow
def test_the_way_to_colab(tmp_path):
    """Pack the folder, unpack it where a notebook runs, run the set-up cell: what every
    lesson imports is there, and comes from that folder. The data go beside it."""
    (unzip,) = commands("!unzip ")
    archive = unzip[-1]
    folder = archive.removesuffix(".zip")
    assert f"pack the folder `{folder}` into `{archive}`" in PAGE
    content = tmp_path / "content"
    content.mkdir()
    shutil.make_archive(content / folder, "zip", ROOT, folder)
    if shutil.which("unzip"):
        subprocess.run([unzip[0][1:], *unzip[1:]], cwd=content, check=True)
    else:
        shutil.unpack_archive(content / archive, content)
    sources = json.dumps([set_up(), *imports()])
    away = ("PYTHONPATH", "LESSONS_DATA")
    run = subprocess.run(
        [sys.executable, "-c", IN_A_CELL, sources],
        cwd=content,
        env={k: v for k, v in os.environ.items() if k not in away},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    module, root = run.stdout.splitlines()[-2:]
    assert module == str(content / "lessons_src/__init__.py")
    assert root == str(content / "data")


def test_without_the_folder_the_set_up_cell_stops(tmp_path):
    """And it says what to do, in the words that the page explains."""
    command = [sys.executable, "-E", "-S", "-c", set_up()]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode != 0 and "Lay it beside this notebook, or run" in run.stderr, (
        run.stderr
    )


# ---- Offline, and a mirror ----


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """A folder with both data sets: this machine's, or where it has none, tiny ones."""
    monkeypatch.setattr(
        standin,
        "load_or_make",
        lambda root: [torch.zeros(1, 1, 28, 28), torch.zeros(1).long()] * 2,
    )
    monkeypatch.delenv("LESSONS_DATA", raising=False)
    monkeypatch.delenv("LESSONS_MIRROR", raising=False)
    folders = {name: source["folder"] for name, source in data.SOURCES.items()}
    here = data._default_root()
    if all((here / f / name).is_file() for f in folders.values() for name in data.FILES):
        return here
    for name, source in data.SOURCES.items():
        images = struct.pack(">IIII", 2051, 2, 28, 28) + bytes(2 * 784)
        labels = struct.pack(">II", 2049, 2) + bytes(2)
        packed = [gzip.compress(c) for c in (images, labels, images, labels)]
        sums = tuple(hashlib.sha256(c).hexdigest() for c in packed)
        monkeypatch.setitem(data.SOURCES, name, {**source, "sha256": sums})
        folder = tmp_path / "copy" / source["folder"]
        folder.mkdir(parents=True)
        for file, content in zip(data.FILES, packed, strict=True):
            (folder / file).write_bytes(content)
    return tmp_path / "copy"


@pytest.fixture
def asked(monkeypatch):
    """No network: who was asked for all the same."""
    hosts = []

    def refuse(host, *rest, **options):
        hosts.append(host)
        raise OSError("there is no network")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", lambda self, to: refuse(to))
    return hosts


@pytest.fixture
def mirror(copy):
    """The page's own server, on a free port: the address that its students export."""
    serve, *again = commands("python -m http.server")
    (export,) = commands("export ")
    assert all(line == serve for line in again), "the page shows two servers"
    port, folder = serve[3], serve[-1]
    assert (serve[4], folder) == ("--directory", "data")
    name, _, address = export[1].partition("=")
    assert name == "LESSONS_MIRROR" and address.endswith(f":{port}"), (
        "two different ports"
    )
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        free = str(s.getsockname()[1])
    words = {"python": sys.executable, port: free, folder: str(copy)}
    command = [words.get(word, word) for word in serve] + ["--bind", "127.0.0.1"]
    server = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    for _ in range(200):
        with socket.socket() as s:
            if s.connect_ex(("127.0.0.1", int(free))) == 0:
                break
        time.sleep(0.05)
    yield f"http://127.0.0.1:{free}"
    server.terminate()
    server.wait()


def test_a_classroom_gets_the_data(mirror, tmp_path, monkeypatch):
    """The teacher's command serves both data sets into an empty folder, in the layout that
    the page shows."""
    monkeypatch.setenv("LESSONS_MIRROR", mirror)
    root = tmp_path / "student"
    root.mkdir()
    for name, source in data.SOURCES.items():
        monkeypatch.setitem(data.SOURCES, name, {**source, "mirrors": ()})  # no other
        assert not data.load(name, root).standin
    (layout,) = [block for block in BLOCKS if block.startswith("<mirror>")]
    *first, last = layout.splitlines()
    names = {line.split("/")[-1] for line in first}
    shown = {line.removeprefix("<mirror>/") for line in first}
    shown |= {last.split()[0].removeprefix("<mirror>/") + name for name in names}
    assert "the same four names" in last
    kept = {str(p.relative_to(root)) for p in root.rglob("*") if p.is_file()}
    assert shown == kept, f"the page's layout is another: {sorted(shown ^ kept)}"


def named_data(lesson: str) -> set[str]:
    """The data sets that a lesson's code loads by their names."""
    found = set()
    for cell in cells(lesson):
        if cell.cell_type == "code" and "raises-exception" not in tags(cell):
            plain = [x for x in cell.source.splitlines() if not x.startswith(("%", "!"))]
            for node in ast.walk(ast.parse("\n".join(plain))):
                match node:
                    case ast.Call(
                        ast.Attribute(attr="load"), [ast.Constant(str(name)), *_]
                    ):
                        found.add(name)
    return found


def test_offline_nothing_is_fetched(copy, asked, tmp_path):
    """The lesson on Fashion-MNIST brings both data sets, and no lesson names another. From
    their folder they are loaded without a network. (An empty folder shows that asking for
    one would be seen.)"""
    assert "the lesson on Fashion-MNIST, which loads both data sets" in PAGE
    assert named_data("cnn_fashion_mnist") == data.SOURCES.keys()
    for lesson in LESSONS:
        assert named_data(lesson.stem) <= {*data.SOURCES, "digits"}, lesson.stem
    for name in data.SOURCES:
        assert not data.load(name, copy).standin
    assert asked == []
    assert data.load("mnist", tmp_path, notice=False).standin and asked


FETCHES = re.compile(
    r"torch\.hub|download=True|weights=(?!None)\S*_Weights|pretrained=True|urllib"
    r"|requests\.(get|post)|keras\.datasets|fetch_openml|^!.*(pip|wget|curl)",
    re.M,
)


def test_no_lesson_fetches_anything_by_itself():
    """But by its set-up cell, where the module is missing."""
    for lesson in LESSONS:
        for cell in cells(lesson.stem):
            if cell.cell_type == "code" and "setup" not in tags(cell):
                found = FETCHES.search(cell.source)
                assert not found, f"{lesson.stem} fetches, offline too: {found[0]}"


# ---- The variables ----


def test_each_variable_does_what_the_page_says(
    copy, asked, tmp_path, monkeypatch, capsys
):
    """Those of the page are those that the module reads, and each is tried."""
    terms = [term for term in definitions("The data") if "LESSONS_" in term]
    assert terms == [
        "`LESSONS_DATA=/path`",
        "`LESSONS_DATA=standin`",
        "`LESSONS_MIRROR=http://host/path`",
    ], "try the new one below"
    code = [p.read_text(encoding="utf-8") for p in (ROOT / "lessons_src").rglob("*.py")]
    read = set(re.findall(r"environ\S*[\[(][\"'](LESSONS_\w+)", "\n".join(code)))
    assert read == {re.search(r"LESSONS_\w+", term)[0] for term in terms}

    monkeypatch.setenv("LESSONS_DATA", str(copy))
    assert str(copy) in data.load("mnist").source
    monkeypatch.setenv("LESSONS_DATA", str(tmp_path / "misspelt"))
    assert data.load("mnist").standin and not (tmp_path / "misspelt").exists()
    assert "There is no folder" in capsys.readouterr().out
    monkeypatch.setenv("LESSONS_DATA", "standin")
    assert data.load("mnist").standin and not asked
    assert "it is the stand-in" in capsys.readouterr().out
    monkeypatch.setenv("LESSONS_MIRROR", "http://classroom.invalid/data")
    assert data.load("mnist", tmp_path).standin
    own, *others = re.findall(r"(\S+): ConnectionError", capsys.readouterr().out)
    assert own.strip("(") == "classroom.invalid" and others


# ---- What the page explains when something fails ----

OTHERS = ("torchrun ", "[Gloo]", "Connection closed")  # PyTorch's own
HOLE = r"…|\d+|'[^']*'|MNIST|KeyboardInterrupt|\bnan\b|TORCH_\w+=|[,:;`]"


def said() -> str:
    """All that the course's module, its two tools and its Makefile may say."""
    texts = []
    paths = [*(ROOT / "lessons_src").rglob("*.py"), ROOT / "tools/book.py"]
    for path in [*paths, ROOT / "tools/publish.py"]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Constant(str(text)):
                    texts.append(text)
                case ast.JoinedStr(parts):
                    fixed = [part for part in parts if isinstance(part, ast.Constant)]
                    texts.append("…".join(part.value for part in fixed))
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    texts.append(re.sub(r'"\s*\\?\n?\s*"', " ", makefile))
    return "\n".join(texts)


def test_the_messages_are_those_of_the_code():
    """Each message that the page explains is one that something can still say."""
    everything = said()
    terms = definitions("When something fails")
    assert len(terms) >= 25
    for term in terms:
        if not term[1:].startswith(OTHERS):
            parts = [part.strip() for part in re.split(HOLE, term)]
            for part in [part for part in parts if len(part) > 7]:
                assert part in everything, f"nothing says {part!r} any more: {term}"
