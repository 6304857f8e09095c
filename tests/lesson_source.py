"""Read stored lessons: their cells, and the functions that they define, so that tests run
exactly the code that a reader sees."""

import ast
import functools
import re
from pathlib import Path

import nbformat
import torch

ROOT = Path(__file__).resolve().parents[1]
LESSONS = sorted((ROOT / "lessons").glob("*.ipynb"))


def path_of(lesson: str) -> Path:
    """The file of a lesson, by its name, with its number or without; "../book/cost" is
    a page."""
    if "/" in lesson:
        return ROOT / "lessons" / f"{lesson}.ipynb"
    name = re.sub(r"^\w?\d+_", "", lesson)
    (path,) = (p for p in LESSONS if re.sub(r"^\w?\d+_", "", p.stem) == name)
    return path


@functools.cache
def notebook(lesson: str):
    """`lessons/NN_<lesson>.ipynb`, read once for all tests."""
    return nbformat.read(path_of(lesson), as_version=4)


def cells(lesson: str):
    """All cells of a lesson."""
    return notebook(lesson).cells


def tags(cell) -> list[str]:
    return cell.metadata.get("tags", [])


def definitions(lesson: str, *names: str, tag: str | None = None, **given) -> dict:
    """A namespace with the functions, classes and constants that a lesson defines.

    names: those wanted (what they call must be named too, or given). tag: only from
    cells with it ("solution"); without it, from all cells but exercises' stubs and
    solutions. The lesson's own imports are run first. given: names put in beforehand
    (data, say). LookupError where a name is not defined; the first definition counts.
    """
    namespace, found = dict(given), set()
    for cell in cells(lesson):
        skip = (
            {"exercise", "solution"} & set(tags(cell))
            if tag is None
            else tag not in tags(cell)
        )
        if (
            cell.cell_type != "code"
            or "raises-exception" in tags(cell)
            or "setup" in tags(cell)
        ):
            continue
        source = "\n".join(
            x for x in cell.source.splitlines() if not x.startswith(("%", "!"))
        )
        for node in ast.parse(source).body:
            is_import = isinstance(node, ast.Import | ast.ImportFrom)
            defines = {n for n in _names(node) if n in names and n not in found}
            if is_import or (defines and not skip):
                found |= defines
                code = compile(ast.Module([node], []), f"{lesson}.ipynb", "exec")
                exec(code, namespace)
    if missing := set(names) - found:
        raise LookupError(f"{lesson} defines no {', '.join(sorted(missing))}")
    return namespace


def broken(page: dict, lesson: str, function: str, old: str, new: str) -> None:
    """Put a function of the lesson into this namespace anew, with one place changed.

    LookupError where the lesson has no such place, or several: then change it here too.
    """
    for cell in cells(lesson):
        if cell.cell_type != "code" or f"def {function}(" not in cell.source:
            continue
        for node in ast.parse(cell.source).body:
            if isinstance(node, ast.FunctionDef) and node.name == function:
                first = min(n.lineno for n in (node, *node.decorator_list))
                lines = cell.source.splitlines()[first - 1 : node.end_lineno]
                source = "\n".join(lines)
                if source.count(old) != 1:
                    raise LookupError(f"{function}: {source.count(old)} times {old!r}")
                exec(source.replace(old, new), page)
                return
    raise LookupError(f"{lesson} defines no {function}")


def _names(node) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.Assign):
        return [target.id for target in node.targets if isinstance(target, ast.Name)]
    return []


def boxed(lesson: str, label: str) -> str:
    """The TeX of a boxed equation, its spaces and spacing commands left out."""
    prose = "\n".join(c.source for c in cells(lesson) if c.cell_type == "markdown")
    (tex,) = re.findall(
        rf'<a id="{label}"></a>\s*\$\$([^$]*?)\s*\\tag{{\d+}}\s*\$\$', prose
    )
    return re.sub(r"\\[,;!]|\s", "", tex)


def drawn(*shapes, seed=0):
    """Normal random float64 tensors of these shapes; one alone is not put into a list."""
    generator = torch.Generator().manual_seed(seed)
    made = [
        torch.randn(*shape, dtype=torch.float64, generator=generator) for shape in shapes
    ]
    return made if len(made) > 1 else made[0]


def close(got, expected, tolerance=1e-9):
    """Assert that two tensors or numbers are equal to a relative and absolute
    tolerance."""
    got, expected = (torch.as_tensor(v, dtype=torch.float64) for v in (got, expected))
    torch.testing.assert_close(got, expected, rtol=tolerance, atol=tolerance)
