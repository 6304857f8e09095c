"""Modules import each other in one direction: those of lessons_src along its roads, none
of tools and benchmarks in a circle, and nothing imports what uses it."""

import ast
import json
import re
from fnmatch import fnmatch
from graphlib import CycleError, TopologicalSorter

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
PACKAGES = ("lessons_src", "tools", "benchmarks")
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
            if against or package in USERS | {"tools"}:
                wrong.add(f"{module} imports {used or package}")
    return wrong


def test_the_modules_import_in_one_direction():
    """No module imports one after it, or on another road, or what uses the module."""
    assert wrong_imports(ROOT) == set()


def imports_between(root):
    """Of each module of the packages: the modules of the packages that it imports."""
    imports = {}
    for path in [path for name in PACKAGES for path in (root / name).rglob("*.py")]:
        module = module_name(path, root)
        used = {as_module(name, root) for name in imported_names(path, root)}
        imports[module] = {n for n in used if n.split(".")[0] in {*PACKAGES, *USERS}}
    return imports


def users_imported(imports):
    """Imports of what uses a module, as "module imports other": benchmarks may import
    each other, and nothing else may import them."""
    wrong = set()
    for module, used in imports.items():
        own = module.split(".")[0]
        for name in used:
            if name.split(".")[0] in USERS - {own}:
                wrong.add(f"{module} imports {name}")
    return wrong


def circle(imports):
    """The modules of a circle, each imported by the next one; none where there is none.
    A package that names its own modules makes no circle with itself."""
    others = {module: used - {module} for module, used in imports.items()}
    try:
        list(TopologicalSorter(others).static_order())
    except CycleError as error:
        return error.args[1]
    return []


def test_tools_and_benchmarks_have_no_circles_and_nothing_imports_benchmarks():
    """Imports in functions count too: they hide a circle, and do not open it."""
    imports = imports_between(ROOT)
    assert {name.split(".")[0] for name in imports} == set(PACKAGES) and len(imports) > 80
    assert users_imported(imports) == set()
    assert circle(imports) == [], "move what both need to a module that both import"


def test_a_circle_and_a_user_are_found(tmp_path):
    """Over three modules, one of them in a function; and a tool that imports a
    benchmark."""
    sources = {
        "benchmarks/__init__": "import json",
        "benchmarks/cost": "import benchmarks\nfrom lessons_src import data",
        "benchmarks/race": "from benchmarks.cost import copying",
        "lessons_src/__init__": "",
        "lessons_src/data": "import torch",
        "tools/__init__": "",
        "tools/book": "from tools import store",
        "tools/store": "from .pdf import write",
        "tools/pdf": "from lessons_src.data import load",
    }

    def imports():
        for name, source in sources.items():
            path = tmp_path / f"{name}.py"
            path.parent.mkdir(exist_ok=True)
            path.write_text(source, encoding="utf-8")
        return imports_between(tmp_path)

    assert circle(imports()) == [] and users_imported(imports()) == set()
    sources["tools/pdf"] = "def write():\n    from tools import book"
    sources["tools/book"] += "\nfrom benchmarks.cost import copying"
    assert set(circle(imports())) == {"tools.book", "tools.store", "tools.pdf"}
    assert users_imported(imports()) == {"tools.book imports benchmarks.cost"}


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
