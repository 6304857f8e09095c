"""Run lessons and store them as run, normalised: `python -m tools.store [NOTEBOOK …]`.

Without a name: every lesson, and the pages in book/ that are notebooks.
A lesson that gives what it gave before (but for measured numbers) is left as it is, to
the byte; one that changed is stored whole, so that all numbers come from one run.
With --fresh it is stored in any case: for seconds measured on a machine that does nothing
else. Where other programs are busy when a lesson is run, that is said.
A lesson whose cell breaks its promise is not stored (see tools.promises). Outputs of the
stand-in are never stored.
"""

import copy
import hashlib
import json
import os
import re
import sys
import time
from collections import Counter
from pathlib import Path

import nbformat
import psutil
from nbclient import NotebookClient
from nbval.plugin import coalesce_streams, get_sanitize_patterns

from lessons_src import data
from tools import promises

ROOT = Path(__file__).resolve().parents[1]
WIDGETS = "application/vnd.jupyter.widget-state+json"
VIEW = "application/vnd.jupyter.widget-view+json"
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
BUSY = 20  # percent of all cores together, before a lesson is run
FOLD_NAMES = {"solution": "solution", "setup": "set-up"}  # tag -> what the fold shows


def main(arguments: list[str]) -> int:
    """Store the given lessons, or all; the exit status for the shell."""
    if data.load("mnist").standin:
        print(
            "Lessons are stored from the real data only. See above for what is missing."
        )
        return 1
    paths = [Path(name) for name in arguments if name != "--fresh"]
    for path in paths or notebooks():
        warn_if_busy(path.name)
        start = time.perf_counter()
        try:
            stored = store(path, always="--fresh" in arguments)
        except (ValueError, promises.Broken) as error:
            print(f"{path.name}: {error}", file=sys.stderr)
            return 1
        word = "stored" if stored else "unchanged"
        print(f"{path.name}: {word}, {time.perf_counter() - start:.0f} s")
    return 0


def notebooks() -> list[Path]:
    """Every lesson, and the pages of the book that are notebooks."""
    return [*sorted(ROOT.glob("lessons/*.ipynb")), *sorted(ROOT.glob("book/*.ipynb"))]


def warn_if_busy(name: str) -> None:
    """Say so where other programs would slow down what a lesson measures."""
    busy = psutil.cpu_percent(interval=0.5)
    if busy > BUSY:
        print(
            f"{name}: other programs take {busy:.0f}% of the processor, and measured "
            "seconds will be too many. Store it again, with --fresh, when they are done."
        )


def store(path: Path, always: bool = False) -> bool:
    """Run one notebook, and store it if it changed; whether it was stored."""
    old = nbformat.read(path, as_version=4)
    new = normalised(executed(old, path))
    changed = always or not same(old, new)
    if changed:
        nbformat.write(new, path)
    return changed


def executed(notebook, path: Path):
    """A copy of the notebook, run from the first cell to the last in a new kernel."""
    notebook = copy.deepcopy(notebook)
    notebook.metadata = {"kernelspec": KERNEL}
    # The kernel's threads spin for microseconds, then sleep: by default they spin on, which
    # takes ten times as long beside another busy process. Here alone: a kernel reads it
    # when it starts, and `benchmarks.classroom` measures kernels as a reader has them.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    # Kernels start in lessons/; they use this checkout's module, and try its promises.
    os.environ["PYTHONPATH"] = f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    client = NotebookClient(
        notebook,
        timeout=300,
        store_widget_state=True,
        kernel_name="python3",
        resources={"metadata": {"path": str(path.parent)}},
    )
    kept = try_promises(client, standin=False)
    notebook = client.execute()
    for index, values in kept.items():
        notebook.cells[index].metadata["kept"] = values
    return notebook


def try_promises(client: NotebookClient, standin: bool) -> dict[int, list]:
    """Have this client try each cell's promises as soon as the cell has run; what they
    will have given, by the cell's number. The client will raise Broken."""
    kept = {}

    async def try_promise(cell, cell_index, execute_reply):
        conditions = promises.of(cell, standin)
        if not conditions:
            return
        call = promises.CALL.format(conditions=conditions)
        message = client.kc.execute("", silent=True, user_expressions={"kept": call})
        reply = await client.async_wait_for_reply(message)
        try:
            kept[cell_index] = promises.read(reply)
        except promises.Broken as broken:
            raise promises.Broken(f"{broken}\n\n{cell.source}") from None

    client.on_cell_executed = try_promise
    return kept


def normalised(notebook):
    """A copy without what differs from run to run for no reason of the lesson's.

    ValueError where a cell wrote to stderr: a page shows no warnings.
    """
    notebook = copy.deepcopy(notebook)
    number_cells(notebook.cells)
    # Apart from the cells, so that an author edits promises alone.
    kept = {c.id: c.metadata.pop("kept") for c in notebook.cells if "kept" in c.metadata}
    if kept:
        notebook.metadata["kept"] = kept
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            set_folds(cell)
            normalise_outputs(cell)
    notebook.metadata["kernelspec"] = KERNEL
    notebook.metadata["language_info"] = {"name": "python"}
    notebook.nbformat_minor = 5
    return with_stable_widgets(notebook)


def number_cells(cells: list) -> None:
    """Give each cell an id made from its text; equal ones are counted."""
    seen = Counter()
    for cell in cells:
        cell.source = cell.source.strip("\n")
        digest = hashlib.sha256(f"{cell.cell_type}{cell.source}".encode()).hexdigest()[:8]
        seen[digest] += 1
        cell.id = digest if seen[digest] == 1 else f"{digest}-{seen[digest]}"


def set_folds(cell) -> None:
    """Name the folds of the book; Jupyter and Colab fold what the book folds."""
    tags = cell.metadata.get("tags", [])
    if cell.source.startswith("quiz(") and "hide-input" not in tags:
        tags = [*tags, "hide-input"]  # its code holds the right answer
        cell.metadata["tags"] = tags
    for tag, name in FOLD_NAMES.items():
        if tag in tags:
            cell.metadata["mystnb"] = {
                "code_prompt_show": f"Show the {name}",
                "code_prompt_hide": f"Hide the {name}",
            }
    if {"hide-input", "remove-input", "setup"} & set(tags):
        cell.metadata["jupyter"] = {"source_hidden": True}
        cell.metadata["cellView"] = "form"  # the same for Colab


def normalise_outputs(cell) -> None:
    """Join what was printed in pieces, and shorten tracebacks; ValueError on stderr."""
    for output in cell.outputs:
        if output.output_type == "stream" and output.name == "stderr":
            raise ValueError(
                "A cell wrote to stderr; nothing was stored:\n"
                f"{cell.source}\n\n{output.text}"
            )
        if "traceback" in output:
            lines = without_packages(output.traceback)
            # The path of this machine means nothing to a reader.
            output.traceback = [re.sub(r"/\S*/(?=\w+\.py)", "", line) for line in lines]
    cell.outputs = coalesce_streams(cell.outputs)


def without_packages(frames: list[str]) -> list[str]:
    """A traceback whose frames inside installed packages are one line for all of them."""
    kept, skipped = [], 0
    for frame in frames:
        if "site-packages" in frame.split("\n")[0]:
            skipped += 1
            continue
        if skipped:
            kept.append(f"    (through {skipped} calls inside installed packages)")
            skipped = 0
        kept.append(frame)
    return kept


def with_stable_widgets(notebook):
    """The notebook with the widgets that it shows, numbered in their order."""
    state = notebook.metadata.get("widgets", {}).get(WIDGETS, {}).get("state", {})
    shown = widgets_in_order(notebook, state)
    if not shown:
        notebook.metadata.pop("widgets", None)
        return notebook
    state = {model_id: without_defaults(state[model_id]) for model_id in shown}
    notebook.metadata.widgets[WIDGETS]["state"] = state
    text = nbformat.writes(notebook)
    for number, model_id in enumerate(shown, 1):
        text = text.replace(model_id, f"{number:032x}")
    return nbformat.reads(text, as_version=4)


def widgets_in_order(notebook, state: dict) -> list[str]:
    """The ids of the widgets that outputs show, of their parts and of their links."""
    references = {
        model_id: re.findall(r"IPY_MODEL_(\w+)", json.dumps(model))
        for model_id, model in state.items()
    }
    order = []

    def visit(model_id):
        if model_id in state and model_id not in order:
            order.append(model_id)
            for part in references[model_id]:
                visit(part)

    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if VIEW in output.get("data", {}):
                visit(output.data[VIEW]["model_id"])
    # Nothing refers to a link; it refers to what it joins.
    links = [
        model_id
        for model_id, model in state.items()
        if model["model_name"].endswith("LinkModel")
        and set(references[model_id]) <= set(order)
    ]
    links.sort(key=lambda link: [order.index(end) for end in references[link]])
    return order + links


def without_defaults(model: dict) -> dict:
    """A stored widget; a layout or a style keeps only what was set.

    None is the default of all their properties, in the browser too.
    """
    if not model["model_name"].endswith(("LayoutModel", "StyleModel")):
        return model
    values = {name: value for name, value in model["state"].items() if value is not None}
    return {**model, "state": values}


def same(stored, fresh) -> bool:
    """Whether a fresh run says what is stored, measured numbers aside."""
    return comparable(stored) == comparable(fresh)


def comparable(notebook) -> str:
    """The notebook as text, without what may differ between two runs."""
    notebook = copy.deepcopy(notebook)
    notebook.metadata.pop("kept", None)
    for cell in notebook.cells:
        if "nbval-ignore-output" in cell.metadata.get("tags", []):
            cell.outputs = []
        if "promise" in cell.metadata:
            cell.outputs = in_form(cell.outputs)
        for output in cell.get("outputs", []):
            # A traceback's colours and line numbers are the interpreter's.
            output.pop("traceback", None)
            # A figure is compared as SVG; its PNG is made of the same drawing.
            output.get("data", {}).pop("image/png", None)
    patterns = get_sanitize_patterns(
        (ROOT / "tests" / "sanitise.cfg").read_text(encoding="utf-8")
    )
    return json.dumps(masked(notebook, patterns), sort_keys=True)


def in_form(value):
    """The same nested value, its strings without digits."""
    if isinstance(value, dict):
        return {key: in_form(part) for key, part in value.items()}
    if isinstance(value, list):
        return [in_form(part) for part in value]
    return promises.in_form(value)


def masked(value, patterns):
    """The same nested value, the patterns replaced in all its strings."""
    if isinstance(value, dict):
        return {key: masked(part, patterns) for key, part in value.items()}
    if isinstance(value, list):
        return [masked(part, patterns) for part in value]
    if isinstance(value, str):
        for regex, replacement in patterns:
            value = re.sub(regex, replacement, value)
    return value


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
