"""What the module's training loop and networks are made of is built in a lesson before a
lesson uses it: an import saves writing it again, and hides nothing."""

import ast
import functools

import pytest
from lesson_source import LESSONS, cells, tags

from lessons_src import models, train

MODULES = {"train": train, "models": models}
# Of a lesson these are tools; none is about them.
TOOLS = {"environment", "seed_everything", "pick_device"}
PARTS = {  # functions and classes that a lesson has to build
    name
    for module in MODULES.values()
    for name, value in vars(module).items()
    if getattr(value, "__module__", "") == module.__name__ and name not in TOOLS
}
# Built under a name of their own, and then compared with the module's.
BUILT_AS = {
    ("multilayer_perceptrons", "train_by_hand"): "fit",
    ("multilayer_perceptrons", "evaluate_by_hand"): "evaluate",
}
ALL = tuple(path.stem for path in LESSONS)


@functools.cache
def nodes(lesson: str) -> list[tuple[int, ast.AST]]:
    """What a lesson's code consists of, each part with the number of its cell. The poster
    shows what the lesson comes to, and a stub defines nothing: both are left out."""
    return [
        (number, node)
        for number, cell in enumerate(cells(lesson))
        if cell.cell_type == "code" and not {"poster", "exercise"} & set(tags(cell))
        for node in ast.walk(ast.parse(cell.source))
    ]


def built(lessons: tuple[str, ...]) -> dict[str, tuple[int, int]]:
    """Of each function and class: the first lesson that defines it, and the cell there."""
    first = {}
    for place, lesson in enumerate(lessons):
        topic = lesson.partition("_")[2]
        for cell, node in nodes(lesson):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                name = BUILT_AS.get((topic, node.name), node.name)
                first.setdefault(name, (place, cell))
    return first


@functools.cache
def used(lesson: str) -> dict[str, int]:
    """Of each part that a lesson imports: the cell that uses it first, as `mlp` or as
    `models.mlp`."""
    names, modules, first = set(), set(), {}
    for _, node in nodes(lesson):
        if isinstance(node, ast.ImportFrom) and node.module == "lessons_src":
            modules |= {alias.name for alias in node.names} & MODULES.keys()
        elif isinstance(node, ast.ImportFrom):
            is_ours = node.module.removeprefix("lessons_src.") in MODULES
            names |= {alias.name for alias in node.names if is_ours}
    for cell, node in nodes(lesson):
        if isinstance(node, ast.Name) and node.id in names & PARTS:
            first.setdefault(node.id, cell)
        is_part = isinstance(node, ast.Attribute) and node.attr in PARTS
        if is_part and getattr(node.value, "id", "") in modules:
            first.setdefault(node.attr, cell)
    return first


def too_early(lessons: tuple[str, ...]) -> list[str]:
    """Each use of a part before a lesson has built it, as "lesson: name"."""
    first, never = built(lessons), (len(lessons), 0)
    return [
        f"{lesson}: {name}"
        for place, lesson in enumerate(lessons)
        for name, cell in used(lesson).items()
        if first.get(name, never) > (place, cell)
    ]


def test_what_is_imported_was_built_before():
    """In an earlier lesson, or further up in the same one."""
    early = too_early(ALL)
    assert early == [], (
        "these lessons import from lessons_src what no lesson has built by then. Write "
        f"it out where it is used first, or say it in one plain line: {early}"
    )


@pytest.mark.parametrize("name", ["accuracy", "batches", "evaluate", "fit", "mlp"])
def test_what_was_not_built_is_found(name):
    """Without the lessons up to the one that builds it, its next use is too early."""
    place, _ = built(ALL)[name]
    found = too_early(ALL[place + 1 :])
    assert any(line.endswith(f": {name}") for line in found)
