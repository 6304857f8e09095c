"""The repository as a whole: two commands, exact pins, a small module, one direction."""

import ast
import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import requires

import pytest
from lesson_source import ROOT

MODULES = sorted((ROOT / "lessons_src").rglob("*.py"))
# Each may import those before it.
ORDER = ["standin", "data", "checkpoint", "distributed", "train", "gpu", "models", "options",
         "command", "figures", "check", "interactive"]  # fmt: skip


def test_every_requirement_is_an_exact_pin():
    """Only `name==version` (with a platform marker), and this folder itself."""
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    wanted = [x for x in lines if x and not x.startswith("#")]
    assert "-e ." in wanted
    for line in wanted:
        assert line == "-e ." or re.fullmatch(r"[\w.-]+==[\w.]+( ; \w+ != \"\w+\")?", line), line


def test_the_package_brings_no_torch():
    """Colab's torch, torchvision and numpy stay as they are: none is a hard dependency."""
    hard = [r for r in requires("lessons-src") if "extra ==" not in r]
    names = {re.match(r"[\w-]+", r)[0] for r in hard}
    assert not names & {"torch", "torchvision", "numpy"} and "pooch" in names


def test_without_torch_the_import_says_what_to_install():
    """One sentence, not a traceback from the depths."""
    code = "import sys; sys.modules['torch'] = None; import lessons_src"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert "Install it with:  pip install torch torchvision" in run.stderr


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_modules_are_small_and_documented(path):
    """At most 270 lines; a docstring for the module and for every public function and class."""
    source = path.read_text()
    assert len(source.splitlines()) <= 270
    tree = ast.parse(source)
    assert ast.get_docstring(tree)
    for node in tree.body:
        public = isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name[0] != "_"
        if public and path.parent.name == "lessons_src":
            one_line = isinstance(node, ast.FunctionDef) and len(node.body) == 1
            assert ast.get_docstring(node) or one_line, node.name


def test_modules_import_in_one_direction():
    """data -> train -> figures, check, interactive: no circle, and nothing imports a lesson."""
    for path in MODULES:
        name = path.parent.name if path.parent.name == "check" else path.stem
        imported = path.read_text().partition("\nif __name__ ==")[0]  # what is run comes after that
        for used in re.findall(r"from lessons_src(?:\.| import )(\w+)", imported):
            if name in ORDER and used in ORDER and used != name:
                assert ORDER.index(used) < ORDER.index(name), f"{path.name} imports {used}"


def test_lint():
    """ruff finds nothing."""
    run = subprocess.run([sys.executable, "-m", "ruff", "check", "-q", str(ROOT)])
    assert run.returncode == 0


def test_readme_names_commands_that_exist():
    """Every `make target` in the README is in the Makefile, and the two are the first ones."""
    readme, makefile = (ROOT / "README.md").read_text(), (ROOT / "Makefile").read_text()
    targets = re.findall(r"make ([a-z-]+)", readme)
    assert targets[:2] == ["book", "test"]
    for target in set(targets):
        assert re.search(rf"^{target}:", makefile, re.M), target
    for picture in re.findall(r"!\[[^\]]+\]\(([^)]+)\)", readme):
        assert (ROOT / picture).exists()


def test_the_address_is_written_once():
    """In _config.yml; the lessons' set-up cell repeats it, and both are the same."""
    from lesson_source import LESSONS

    address = re.search(r"repository:\n\s+url: (\S+)", (ROOT / "_config.yml").read_text())[1]
    for lesson in LESSONS:
        assert f'REPOSITORY = \\"{address}\\"' in lesson.read_text()


@pytest.fixture
def bare(tmp_path):
    """A folder with what `make` needs to start installing."""
    for name in ("Makefile", "requirements.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def make(folder, *arguments, **environment):
    keep = {k: v for k, v in os.environ.items() if not k.startswith(("PIP_", "MAKE"))}
    return subprocess.run(["make", *arguments], cwd=folder, capture_output=True, text=True,
                          env={**keep, **environment})  # fmt: skip


@pytest.mark.skipif(not shutil.which("make"), reason="no make on this machine")
@pytest.mark.parametrize("target", ["book", "test", "lessons"])
def test_a_missing_python_gives_one_clear_sentence(bare, target):
    """No traceback: what is needed, and how to name another Python."""
    run = make(bare, target, "PYTHON=no-such-python")
    assert run.returncode != 0 and not (bare / ".venv").exists()
    assert "needs Python 3.11 or newer" in run.stdout and "make PYTHON=" in run.stdout


@pytest.mark.skipif(not shutil.which("make"), reason="no make on this machine")
def test_a_failed_download_gives_one_clear_sentence(bare):
    """With a package index that is not there, the last words say what to do; a second call
    tries again, since nothing was marked as installed."""
    for _ in range(2):
        run = make(bare, "test", f"PYTHON={sys.executable}", PIP_INDEX_URL="http://127.0.0.1:9/",
                   PIP_RETRIES="0", PIP_CONFIG_FILE=os.devnull, PIP_NO_CACHE_DIR="1")  # fmt: skip
        assert run.returncode != 0
        assert "Installing failed" in run.stdout and "run the same command again" in run.stdout
        assert not (bare / ".venv/installed").exists()
