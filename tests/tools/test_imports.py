"""The modules of lessons_src import each other in one direction, and never what uses
them."""

import ast
import json
import re
from fnmatch import fnmatch

import pytest
from lesson_source import ROOT

# A module may import those that stand before it on one of these roads, and no others.
ROADS = [
    "expect files standin download data train_checks train models muon recipes published "
    "scale.distributed scale.fit scale.description scale.checkpoint scale.graph scale.run",
    "expect svg figures interactive",
    "exercises.limits exercises.compare exercises exercises.forbidden exercises.*",
    "detector.findings detector.watch detector.evidence detector.checks detector",
    "expect records",
]
USERS = {"benchmarks", "lessons", "tests"}  # they use the module; nothing uses them
PAGES = sorted([*ROOT.glob("lessons/*.ipynb"), *ROOT.glob("book/*.ipynb")])


def module_name(path, root):
    """The dotted name of a file: root/lessons_src/scale/fit.py is
    lessons_src.scale.fit."""
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_names(path, root):
    """Every name that a file imports, in functions too: `from a import b` gives a.b."""
    package = module_name(path.parent / "__init__.py", root).split(".")
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*above, *filter(None, [node.module])])
            yield from (f"{source}.{alias.name}" for alias in node.names)


def as_module(name, root):
    """The module that holds an imported name: lessons_src.data.Split is in
    lessons_src.data."""
    path = root / name.replace(".", "/")
    while "." in name and not (path.is_dir() or path.with_suffix(".py").exists()):
        name, path = name.rpartition(".")[0], path.parent
    return name


def is_allowed(module, used):
    """Whether a road leads from the module that is used to the one that imports it."""
    for road in ROADS:
        places = {name: place for place, name in enumerate(road.split())}
        before = [place for name, place in places.items() if fnmatch(used, name)]
        after = [place for name, place in places.items() if fnmatch(module, name)]
        if before and after and before[0] < after[0]:
            return True
    return False


def wrong_imports(root):
    """All imports under root/lessons_src against the direction, as "module imports
    other"."""
    wrong = set()
    for path in (root / "lessons_src").rglob("*.py"):
        module = module_name(path, root).removeprefix("lessons_src.")
        for name in imported_names(path, root):
            package, _, used = as_module(name, root).partition(".")
            against = package == "lessons_src" and used and not is_allowed(module, used)
            if against or package in USERS:
                wrong.add(f"{module} imports {used or package}")
    return wrong


def test_the_modules_import_in_one_direction():
    """No module imports one after it, or on another road, or what uses the module."""
    assert wrong_imports(ROOT) == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_no_page_imports_the_benchmarks(page):
    """They are not installed: a reader in Colab has lessons_src alone."""
    for cell in json.loads(page.read_text(encoding="utf-8"))["cells"]:
        assert not re.search(
            r"^\s*(from|import) benchmarks", "".join(cell["source"]), re.M
        )


def test_a_wrong_import_is_found(tmp_path):
    """In a function, relative, on another road, of a user; allowed ones are not
    reported."""
    for name, source in {
        "__init__": "import torch",
        "data": "from lessons_src import standin",
        "standin": "def make():\n    import lessons_src.data",
        "svg": "from .data import load",
        "train": "from lessons_src.data import Split\nfrom benchmarks.race import main",
        "scale/fit": "from .. import train\nfrom lessons_src.scale import run",
        "scale/run": "from lessons_src import scale, train",
        "scale/distributed": "import torch",
        "exercises/__init__": "from lessons_src.exercises import images",
        "exercises/images": "from lessons_src import data, exercises",
    }.items():
        path = tmp_path / f"lessons_src/{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source, encoding="utf-8")
    assert wrong_imports(tmp_path) == {
        "standin imports data",
        "svg imports data",
        "train imports benchmarks",
        "scale.fit imports scale.run",
        "scale.run imports scale",
        "exercises imports exercises.images",
        "exercises.images imports data",
    }
