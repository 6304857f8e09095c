"""Run lessons and store them as run, normalised: `python -m tools.store [lessons/NN_name.ipynb …]`.

Without a name: every lesson, and the pages in book/ that are notebooks.
A lesson that gives what it gave before (but for measured numbers) is left as it is, to the byte;
one that changed is stored whole, so that all numbers on a page come from one run. With --fresh
it is stored in any case: for seconds measured on a machine that does nothing else. Where other
programs are busy when a lesson is run, that is said.
Outputs of the stand-in are never stored.
"""

import copy
import hashlib
import json
import os
import re
import sys
import time
from pathlib import Path

import nbformat
import psutil
from nbclient import NotebookClient
from nbval.plugin import coalesce_streams, get_sanitize_patterns

from lessons_src import data

ROOT = Path(__file__).resolve().parents[1]
WIDGETS = "application/vnd.jupyter.widget-state+json"
VIEW = "application/vnd.jupyter.widget-view+json"
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
BUSY = 20  # percent of all cores together, before a lesson is run
PROMPTS = {"solution": "solution", "setup": "set-up"}  # tag -> what the book's fold shows or hides


def main(paths: list[str]) -> int:
    """Store the given lessons, or all; the exit status for the shell."""
    if data.load("mnist").standin:
        print("Lessons are stored from the real data only. See above for what is missing.")
        return 1
    fresh_only, paths = "--fresh" in paths, [p for p in paths if p != "--fresh"]
    for path in map(Path, paths or notebooks()):
        if (busy := psutil.cpu_percent(interval=0.5)) > BUSY:
            print(
                f"{path.name}: other programs take {busy:.0f}% of the processor, and measured "
                "seconds will be too many. Store it again, with --fresh, when they are done."
            )
        start = time.perf_counter()
        stored = nbformat.read(path, as_version=4)
        fresh = normalised(executed(stored, path))
        changed = fresh_only or not same(stored, fresh)
        if changed:
            nbformat.write(fresh, path)
        print(f"{path.name}: {'stored' if changed else 'unchanged'}, "
              f"{time.perf_counter() - start:.0f} s")  # fmt: skip
    return 0


def notebooks() -> list[Path]:
    """Every lesson, and the pages of the book that are notebooks."""
    return [path for part in ("lessons", "book") for path in sorted((ROOT / part).glob("*.ipynb"))]


def executed(notebook, path: Path):
    """A copy of the notebook, run from the first cell to the last in a new kernel."""
    notebook = copy.deepcopy(notebook)
    notebook.metadata = {"kernelspec": KERNEL}
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # as conftest.py has it
    client = NotebookClient(notebook, timeout=300, store_widget_state=True, kernel_name="python3",
                            resources={"metadata": {"path": str(path.parent)}})  # fmt: skip
    return client.execute()


def normalised(notebook):
    """The notebook without what differs from run to run for no reason of the lesson's."""
    seen = {}
    for cell in notebook.cells:
        cell.source = cell.source.strip("\n")
        digest = hashlib.sha256(f"{cell.cell_type}{cell.source}".encode()).hexdigest()[:8]
        seen[digest] = seen.get(digest, 0) + 1
        cell.id = digest if seen[digest] == 1 else f"{digest}-{seen[digest]}"
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            _normalise_code(cell)
    notebook.metadata["kernelspec"] = KERNEL
    notebook.metadata["language_info"] = {"name": "python"}
    notebook.nbformat_minor = 5
    return _with_stable_widget_ids(notebook)


def _normalise_code(cell) -> None:
    tags = cell.metadata.get("tags", [])
    if cell.source.startswith("quiz(") and "hide-input" not in tags:
        tags = cell.metadata["tags"] = [*tags, "hide-input"]  # its code holds the right answer
    for tag, name in PROMPTS.items():
        if tag in tags:
            cell.metadata["mystnb"] = {"code_prompt_show": f"Show the {name}",
                                       "code_prompt_hide": f"Hide the {name}"}  # fmt: skip
    if "hide-input" in tags:
        cell.metadata["jupyter"] = {"source_hidden": True}
    for output in cell.outputs:
        if output.output_type == "stream" and output.name == "stderr":
            sys.exit(f"A cell wrote to stderr; nothing was stored:\n{cell.source}\n\n{output.text}")
        if "traceback" in output:  # as it was raised, without the path of this machine
            frames = _without_packages(output.traceback)
            output.traceback = [re.sub(r"/\S*/(?=\w+\.py)", "", line) for line in frames]
    cell.outputs = coalesce_streams(cell.outputs)


def _without_packages(frames: list[str]) -> list[str]:
    """A traceback whose frames inside installed packages are one line: nobody learns from them."""
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


def _with_stable_widget_ids(notebook):
    """Number the widgets in the order in which the views reach them; drop all others."""
    state = notebook.metadata.get("widgets", {}).get(WIDGETS, {}).get("state", {})
    points_to = {m: re.findall(r"IPY_MODEL_(\w+)", json.dumps(state[m])) for m in state}
    order = []

    def visit(model_id):
        if model_id in state and model_id not in order:
            order.append(model_id)
            for reference in points_to[model_id]:
                visit(reference)

    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if VIEW in output.get("data", {}):
                visit(output.data[VIEW]["model_id"])
    links = [m for m in state if m not in order and state[m]["model_name"].endswith("LinkModel")]
    links = [m for m in links if set(points_to[m]) <= set(order)]  # nothing points to a link
    order += sorted(links, key=lambda m: [order.index(end) for end in points_to[m]])
    if not order:
        notebook.metadata.pop("widgets", None)
        return notebook
    notebook.metadata.widgets[WIDGETS]["state"] = {model: state[model] for model in order}
    text = nbformat.writes(notebook)
    for number, model_id in enumerate(order, 1):
        text = text.replace(model_id, f"{number:032x}")
    return nbformat.reads(text, as_version=4)


def same(stored, fresh) -> bool:
    """Whether a fresh run says what is stored, measured numbers aside."""
    return _comparable(stored) == _comparable(fresh)


def _comparable(notebook) -> str:
    notebook = copy.deepcopy(notebook)
    for cell in notebook.cells:
        if "nbval-ignore-output" in cell.metadata.get("tags", []):
            cell.outputs = []
        for output in cell.get("outputs", []):
            output.pop("traceback", None)  # its colours and line numbers are the interpreter's
    patterns = get_sanitize_patterns((ROOT / "tests" / "sanitise.cfg").read_text())
    return json.dumps(_sanitised(notebook, patterns), sort_keys=True)


def _sanitised(value, patterns):
    if isinstance(value, dict):
        return {key: _sanitised(part, patterns) for key, part in value.items()}
    if isinstance(value, list):
        return [_sanitised(part, patterns) for part in value]
    if isinstance(value, str):
        for regex, replacement in patterns:
            value = re.sub(regex, replacement, value)
    return value


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
