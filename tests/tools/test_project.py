"""The repository as a whole: two commands, exact pins, what is installed."""

import ast
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import requires

import pytest
from lesson_source import LESSONS, ROOT, cells
from swept import some

from tools import publish

MODULES = sorted((ROOT / "lessons_src").rglob("*.py"))
NAME = r"[\w.-]+"


def pins(file: str) -> dict[str, str]:
    """name -> version of every pin in a compiled list, which holds nothing else."""
    versions = {}
    for line in (ROOT / file).read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#") and line != "-e .":
            pin = re.fullmatch(rf"({NAME})==([\w.]+)( ; .+)?", line)
            assert pin, f"{file}: {line}"
            versions[pin[1].lower()] = pin[2]
    return versions


def asked_for(file: str) -> set[str]:
    """The names in a short list."""
    lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
    names = {re.match(NAME, line)[0] for line in lines if re.match(r"\w", line)}
    return {name.lower() for name in names}


def test_what_is_asked_for_is_pinned():
    """Each list is compiled from its short list, exact versions only, and both agree."""
    book, everything = pins("requirements/book.txt"), pins("requirements.txt")
    assert asked_for("requirements/book.in") <= book.keys()
    wanted = asked_for("requirements/book.in") | asked_for("requirements/all.in")
    assert wanted <= everything.keys()
    assert book.items() <= everything.items()
    assert "-e ." in (ROOT / "requirements.txt").read_text(encoding="utf-8")


def test_tools_of_a_benchmark_are_pinned_and_not_installed():
    """What the detector is measured beside is no part of the environment."""
    tools = pins("requirements/bench.in")
    assert tools and not tools.keys() & pins("requirements.txt").keys()


def test_the_book_needs_no_torch():
    """No torch among its packages; what builds it works where there is no torch."""
    assert not {"torch", "torchvision", "numpy"} & pins("requirements/book.txt").keys()
    without = "import sys; sys.modules.update(torch=None, numpy=None, lessons_src=None); "
    code = without + "import tools.book, tools.strict_katex"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_the_package_brings_no_torch():
    """Colab keeps its torch, torchvision and numpy: none is a hard dependency."""
    hard = [r for r in requires("lessons-src") if "extra ==" not in r]
    names = {re.match(r"[\w-]+", r)[0] for r in hard}
    assert not names & {"torch", "torchvision", "numpy"} and "requests" in names


def test_the_wheel_holds_the_module_and_its_records(tmp_path):
    """What a reader installs on Colab: every module and record, and no benchmarks."""
    source = tmp_path / "source"
    source.mkdir()
    shutil.copy(ROOT / "pyproject.toml", source)
    shutil.copytree(ROOT / "lessons_src", source / "lessons_src")
    shutil.copytree(ROOT / "benchmarks", source / "benchmarks")
    build = "import setuptools.build_meta as b; b.build_wheel('..')"
    command = [sys.executable, "-c", build]
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    here = [p for p in (ROOT / "lessons_src").rglob("*") if p.suffix in (".py", ".json")]
    assert {name for name in names if "dist-info" not in name} == {
        str(path.relative_to(ROOT)) for path in here
    }


def test_without_torch_the_import_says_what_to_install():
    """One sentence, not a traceback from the depths."""
    code = "import sys; sys.modules['torch'] = None; import lessons_src"
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT
    )
    assert "Install it with:  pip install torch torchvision" in run.stderr


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_modules_are_documented(path):
    """A docstring for the module, and for public functions and classes of some lines."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    says = ast.get_docstring(tree)
    assert says, "say in a docstring what the module is for"
    first = says.splitlines()[0]
    assert first.endswith((".", ":")), f"its first line breaks mid-phrase: {first}"
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name[0] != "_":
            helper_of_an_exercise = path.parent.name == "exercises"
            assert ast.get_docstring(node) or len(node.body) == 1 or helper_of_an_exercise


def text_without_encoding(code: str) -> list[int]:
    """The lines that read or write text in whatever encoding the machine has."""
    lines = []
    for node in ast.walk(ast.parse(code)):
        if not isinstance(node, ast.Call):
            continue
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        given = {keyword.arg for keyword in node.keywords}
        constants = [a.value for a in node.args if isinstance(a, ast.Constant)]
        is_open = getattr(node.func, "id", "") == "open"
        binary = is_open and any("b" in str(mode) for mode in constants[-1:])
        is_text = name in ("read_text", "write_text") or is_open and not binary
        positional = len(node.args) > (name != "read_text") and not is_open
        if is_text and "encoding" not in given and not positional:
            lines.append(node.lineno)
    return lines


@pytest.mark.slow
def test_the_encoding_is_named():
    """utf-8, also where Windows has another, in every file of ours."""
    assert text_without_encoding('open("a")\nx.read_text()\nopen("a", "rb")') == [1, 2]
    folders = ("lessons_src", "tools", "tests", "benchmarks")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    for path in [*files, ROOT / "conftest.py"]:
        lines = text_without_encoding(path.read_text(encoding="utf-8"))
        assert not lines, f'{path}, line {lines[0]}: name encoding="utf-8"'


def test_lines_are_as_the_formatter_has_them():
    """Nothing of ours is left out of `ruff format`, or another hand formats it anew."""
    folders = ("lessons_src", "tools", "tests", "benchmarks")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    for path in [*files, ROOT / "conftest.py"]:
        left = re.search(r"# fmt: (skip|off)", path.read_text(encoding="utf-8"))
        assert not left, f"{path}: take out {left[0]!r}, and run ruff format"


def test_readme_names_pictures_and_modules_that_exist():
    """Every picture of the README is there, and every module that is run by name."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for picture in re.findall(r"!\[[^\]]+\]\(([^)]+)\)", readme):
        assert (ROOT / picture).stat().st_size < 120_000, f"{picture}: too large a file"
    others = [ROOT / "book/running.md", ROOT / "Makefile"]
    pages = readme + "".join(path.read_text(encoding="utf-8") for path in others)
    for module in re.findall(r"-m ((?:tools|benchmarks|lessons_src)[\w.]*\w)", pages):
        assert (ROOT / f"{module.replace('.', '/')}.py").exists(), module


def test_the_address_is_written_once():
    """In _config.yml; every lesson's set-up cell is the one of that address."""
    config = (ROOT / "_config.yml").read_text(encoding="utf-8")
    address = re.search(r"repository:\n\s+url: (\S+)", config)[1]
    for lesson in LESSONS:
        first = next(c for c in cells(lesson.stem) if c.cell_type == "code")
        assert first.source == publish.setup_cell(address)


OURS = "https://github.com/owner/course"
NOBODYS = "https://course.invalid/course"


@pytest.mark.parametrize("url", [OURS, NOBODYS])
def test_the_setup_cell_is_short_and_titled(url):
    """Six lines at most; Colab shows the title, and folds the rest."""
    lines = publish.setup_cell(url).splitlines()
    assert len(lines) <= 6 and lines[0].startswith("#@title Set-up")


def set_up(url, monkeypatch, is_there):
    """What the set-up cell runs, where the module is there and where it is not."""
    calls = []
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: is_there or None)
    monkeypatch.setattr(subprocess, "run", lambda *call, **how: calls.append(call[0]))
    exec(publish.setup_cell(url), {})
    return calls


def test_the_setup_cell_does_nothing_where_the_module_is_installed(monkeypatch):
    """Published or not."""
    assert not set_up(OURS, monkeypatch, True) and not set_up(NOBODYS, monkeypatch, True)


def test_the_setup_cell_fetches_the_published_course(monkeypatch):
    """By pip of the running Python, from the address and from nowhere else, and in the
    version that the notebook belongs to, not in the newest."""
    ((python, *pip),) = set_up(OURS, monkeypatch, False)
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    version = re.search(r'^version = "(.+)"$', text, re.M)[1]
    assert python == sys.executable and pip[-1] == f"git+{OURS}@v{version}"


def test_the_setup_cell_of_an_unpublished_course_says_what_to_do(monkeypatch):
    """Nothing is fetched from an address that nobody owns."""
    with pytest.raises(ModuleNotFoundError, match="beside this notebook, or run `pip"):
        set_up(NOBODYS, monkeypatch, False)


@pytest.fixture
def bare(tmp_path):
    """A folder with what `make` needs to start installing."""
    for name in ("Makefile", "requirements.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "requirements", tmp_path / "requirements")
    return tmp_path


def make(folder, *arguments, **environment):
    """Run make in a folder, without the settings of pip and make in force here."""
    keep = {k: v for k, v in os.environ.items() if not k.startswith(("PIP_", "MAKE"))}
    options = {"capture_output": True, "text": True, "env": {**keep, **environment}}
    return subprocess.run(["make", *arguments], cwd=folder, **options)


@pytest.mark.skipif(not shutil.which("make"), reason="no make on this machine")
def test_readme_names_targets_that_exist(bare):
    """Every `make target` in the README can be made; `book` is no folder here."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    targets = set(re.findall(r"make ([a-z-]+)", readme))
    run = make(bare, "--dry-run", *sorted(targets))
    assert targets and run.returncode == 0, f"README.md, or the Makefile: {run.stderr}"


@pytest.mark.skipif(not shutil.which("make"), reason="no make on this machine")
@pytest.mark.parametrize("target", ["book", "test", "lessons"])
def test_a_missing_python_gives_one_clear_sentence(bare, target):
    """No traceback: what is needed, and how to name another Python."""
    run = make(bare, target, "PYTHON=no-such-python")
    assert run.returncode != 0 and not (bare / ".venv").exists()
    assert "needs Python 3.11 or newer" in run.stdout and "make PYTHON=" in run.stdout


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("make"), reason="no make on this machine")
@pytest.mark.parametrize("target", some(["book", "test"], lambda t: t == "book"))
def test_a_failed_download_gives_one_clear_sentence(bare, target):
    """With no package index, the last words say what to do, at each call anew: nothing
    was marked as installed."""
    index = {"PIP_INDEX_URL": "http://127.0.0.1:9/", "PIP_CONFIG_FILE": os.devnull}
    for _ in range(2):
        run = make(bare, target, f"PYTHON={sys.executable}", PIP_RETRIES="0", **index)
        assert run.returncode != 0 and "Installing failed" in run.stdout
        assert "run the same command again" in run.stdout
        assert not list((bare / ".venv").glob("*installed"))
