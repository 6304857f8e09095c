"""A checkout tests itself: its own module and its own data, whatever else is
installed."""

import ast
import json
import os
import shutil
import subprocess
import sys

import nbformat
import pytest
from lesson_source import LESSONS, ROOT, cells

from lessons_src import data, records

SHOW_MODULE = "import lessons_src\nprint(lessons_src.NAME)"
DATA = "def load(name):\n    return load\n\nload.standin = False\n"
TEST_MODULE = f"""
import subprocess, sys
import lessons_src

def test_this_process():
    assert lessons_src.NAME == "ours"

def test_a_process_started_elsewhere(tmp_path):
    command = [sys.executable, "-c", {SHOW_MODULE!r}]
    assert subprocess.check_output(command, cwd=tmp_path, text=True).strip() == "ours"
"""


def write_module(folder, name):
    """A stand-in for the course's module: it says whose it is, and has real data."""
    package = folder / "lessons_src"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(f"NAME = {name!r}", encoding="utf-8")
    (package / "data.py").write_text(DATA, encoding="utf-8")


@pytest.fixture
def checkout(tmp_path):
    """A small copy of the course: its settings, a module, one test file and one
    lesson."""
    folder = tmp_path / "checkout"
    write_module(folder, "ours")
    tools = ("tools/promises.py", "tools/ranges.py")
    for name in ("conftest.py", "pyproject.toml", "tests/sanitise.cfg", *tools):
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    (folder / "tests/test_module.py").write_text(TEST_MODULE, encoding="utf-8")
    (folder / "lessons").mkdir()
    output = nbformat.v4.new_output("stream", name="stdout", text="ours\n")
    cell = nbformat.v4.new_code_cell(SHOW_MODULE, outputs=[output], execution_count=1)
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), folder / "lessons/a.ipynb")
    return folder


@pytest.mark.slow
def test_a_lesson_is_compared_from_its_own_folder(checkout):
    """`cd lessons; pytest --nbval a.ipynb`, where the home cannot be written either."""
    environment = {**os.environ, "HOME": "/dev/null/home", "LESSONS_DATA": "standin"}
    for name in ("MPLCONFIGDIR", "IPYTHONDIR", "JUPYTER_RUNTIME_DIR"):
        environment.pop(name, None)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    run = subprocess.run(
        [*command, "--nbval", "a.ipynb"],
        cwd=checkout / "lessons",
        env=environment,
        capture_output=True,
        text=True,
    )
    assert "1 passed" in run.stdout, run.stdout


@pytest.mark.parametrize("way", ["on PYTHONPATH", "in a .pth file"])
def test_another_copy_of_the_module_is_never_used(checkout, tmp_path, monkeypatch, way):
    """A test, a process that it starts and a lesson's kernel: all see the checkout's
    own."""
    other = tmp_path / "other"
    write_module(other, "theirs")
    if way == "in a .pth file":
        (tmp_path / "site").mkdir()
        (tmp_path / "site/editable.pth").write_text(str(other), encoding="utf-8")
        start = f"import site\nsite.addsitedir({str(tmp_path / 'site')!r})"
        (tmp_path / "start").mkdir()
        (tmp_path / "start/sitecustomize.py").write_text(start, encoding="utf-8")
        other = tmp_path / "start"
    monkeypatch.setenv("PYTHONPATH", str(other))
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--nbval"]
    run = subprocess.run(
        [*command, "tests", "lessons"], cwd=checkout, capture_output=True, text=True
    )
    assert "3 passed" in run.stdout, run.stdout
    assert f"lessons_src: {checkout / 'lessons_src'}" in run.stdout


def test_the_data_are_the_checkouts_own(monkeypatch, tmp_path):
    """Without LESSONS_DATA, wherever the process was started."""
    monkeypatch.delenv("LESSONS_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    assert data._default_root() == ROOT / "data"


NO_BENCHMARKS = "import sys\nsys.modules['benchmarks'] = None\n"
LOOK_UP = """
import json, sys
import lessons_src
from lessons_src import records

problems = []
for page, (imports, recorded, lines) in json.loads(sys.argv[1]).items():
    try:
        for source in imports:
            exec(source, {})
        for name in recorded:
            assert records.recorded(name)["name"] == name, name
        for name in lines:  # where none was made, the command that makes it
            told = records.line(name)
            assert told.startswith(f"{name}: ") or records.command_for(name) in told, told
    except Exception as error:
        problems.append(f"{page}: {type(error).__name__}: {error}")
names = [path.stem for path in records.FOLDER.glob("*.json")]
problems += [name for name in names if not records.recorded(name)]
print(json.dumps([lessons_src.__file__, len(names), problems]))
"""


def names_of_records(sources):
    """What the cells look up: by recorded("..."), by line("..."), and by a loop over
    names that stand in the same cells."""
    recorded, lines = set(), set()
    there = {path.stem for path in (ROOT / "lessons_src/records").glob("*.json")}
    for node in [node for source in sources for node in ast.walk(ast.parse(source))]:
        match node:
            case ast.Call(func=ast.Name("recorded"), args=[ast.Constant(name)]):
                recorded.add(name)
            case ast.Call(func=ast.Name("line"), args=[ast.Constant(name)]):
                lines.add(name)
            case ast.Constant(str(name)) if name in there:
                recorded.add(name)
    return sorted(recorded), sorted(lines)


def pages_with_records(names):
    """Of each of these pages that imports the records: the cells that import them, and
    what it looks up."""
    pages = {}
    for name in names:
        code = [cell.source for cell in cells(name) if cell.cell_type == "code"]
        imports = [source for source in code if "from lessons_src.records" in source]
        plain = [source for source in code if not source.lstrip().startswith(("%", "!"))]
        if imports:
            pages[name] = (imports, *names_of_records(plain))
    return pages


def looked_up(folder, pages) -> list[str]:
    """What goes wrong where a folder has the module alone, page by page."""
    run = subprocess.run(
        [sys.executable, "-c", NO_BENCHMARKS + LOOK_UP, json.dumps(pages)],
        cwd=folder,
        env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    file, number, problems = json.loads(run.stdout.splitlines()[-1])
    assert file.startswith(str(folder)) and number > 20
    return problems


@pytest.mark.slow
def test_the_module_beside_a_notebook_is_all_that_it_needs(tmp_path):
    """In an empty folder, without this checkout: what the pages with records import, and
    each record that they name. (All pages in one process: starting one costs seconds.)"""
    shutil.copytree(ROOT / "lessons_src", tmp_path / "lessons_src")
    pages = pages_with_records([*(page.stem for page in LESSONS), "../book/cost"])
    assert len(pages) >= 9 and all(names or lines for _, names, lines in pages.values())
    problems = looked_up(tmp_path, pages)
    assert problems == [], "make the record, or correct its name in that lesson"


def test_a_record_that_is_not_there_is_found(tmp_path, monkeypatch, capsys):
    """Left out of the module, or never made: named with the lesson. A line about one
    that was never made says how to make it."""
    for path in records.FOLDER.glob("*.json"):
        if path.stem != "bugs":
            shutil.copy(path, tmp_path)
    imports = ["from lessons_src.records import line, recorded"]
    sources = {
        "a": 'print(line("mnist-99"), line("mnist-99-cuda"), recorded("R5"))',
        "b": 'for name in ("mnist-99", "bugs"):\n    recorded(name)',
        "c": 'recorded("R6")["runs"]',
    }
    pages = {name: (imports, *names_of_records([s])) for name, s in sources.items()}
    monkeypatch.setattr(records, "FOLDER", tmp_path)
    monkeypatch.setattr(sys, "argv", ["", json.dumps(pages)])
    exec(LOOK_UP, {})
    _, _, (first, second) = json.loads(capsys.readouterr().out)
    assert first.startswith("b: FileNotFoundError: bugs has not been recorded")
    assert second.startswith("c: FileNotFoundError: no record 'R6'; there are: R1a")


@pytest.mark.slow
def test_twice_finds_a_cell_that_changes_what_it_finds(checkout):
    """A cell that adds to what an earlier one made passes once, and not twice."""
    cells = []
    for source, text in (("n = [1]", ""), ("n.append(2)\nprint(n)", "[1, 2]\n")):
        output = nbformat.v4.new_output("stream", name="stdout", text=text)
        outputs = [output] if text else []
        cells.append(
            nbformat.v4.new_code_cell(source, outputs=outputs, execution_count=1)
        )
    nbformat.write(nbformat.v4.new_notebook(cells=cells), checkout / "lessons/a.ipynb")
    for options, outcome in (([], "2 passed"), (["--twice"], "1 failed, 1 passed")):
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--nbval"]
        run = subprocess.run(
            [*command, *options, "lessons"], cwd=checkout, capture_output=True, text=True
        )
        assert outcome in run.stdout, run.stdout


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="needs Linux's /proc")
def test_the_cell_that_takes_too_much_memory_fails(checkout):
    """That cell alone, with what to do about it; and the run ends with the lesson that
    takes most. The limit is lowered here to what a test can take."""
    conftest = (checkout / "conftest.py").read_text(encoding="utf-8")
    lowered = conftest.replace("LARGEST = 2 * 2**30", "LARGEST = 2**28")
    assert lowered != conftest
    (checkout / "conftest.py").write_text(lowered, encoding="utf-8")
    sources = ["n = 1", "n = len(b'a' * 2**28)", "n = 2"]  # freed again: the peak counts
    cells = [nbformat.v4.new_code_cell(text, execution_count=1) for text in sources]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), checkout / "lessons/a.ipynb")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--nbval"]
    run = subprocess.run(
        [*command, "lessons"], cwd=checkout, capture_output=True, text=True
    )
    assert "1 failed, 2 passed" in run.stdout, run.stdout
    assert "This cell brings the lesson's memory to 0.3 GiB" in run.stdout
    assert "lessons/a.ipynb::Cell 1" in run.stdout and "torch.no_grad()" in run.stdout
    assert "largest memory of a lesson: 0.3" in run.stdout
