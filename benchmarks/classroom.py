"""What a lesson takes from a machine: seconds and memory; and the disk of the course.

    python -m benchmarks.classroom                       every lesson
    python -m benchmarks.classroom images_as_tensors     one lesson; printed, not written

Each lesson's notebook is run in a kernel of its own, from the first cell to the last. At
the end the kernel is asked what it has used: the processor's seconds and the largest
memory it ever had. Nothing is stored in the notebook. It takes as long as all lessons
together. The kernels have one thread each: of several, one that waits for the other
counts as one that works.
"""

import argparse
import importlib.metadata
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat.v4 import new_code_cell, new_notebook

from benchmarks import (
    check_replaces,
    errors_in_a_sentence,
    load_average,
    machine,
    options,
    write_record,
)
from lessons_src import data

ROOT = Path(__file__).resolve().parents[1]
LESSONS = {
    path.stem.split("_", 1)[1]: path
    for path in sorted((ROOT / "lessons").glob("*.ipynb"))
}
# Run in the kernel at the end. "own" is the memory that it shares with no other process.
# On Linux the peak is VmHWM: ru_maxrss may be that of the process that starts a kernel.
ASK = r"""
import json, re, resource, sys
_usage = resource.getrusage(resource.RUSAGE_SELF)
_memory, _own = _usage.ru_maxrss, None  # bytes on macOS, which has no /proc
if sys.platform == "linux":
    _status = open("/proc/self/status").read()
    _memory = 1024 * int(re.search(r"VmHWM:\s+(\d+)", _status)[1])
    _maps = open("/proc/self/smaps_rollup").read()
    _private = re.findall(r"Private_(?:Clean|Dirty): +(\d+)", _maps)
    _own = 1024 * sum(int(kilobytes) for kilobytes in _private)
_children = resource.getrusage(resource.RUSAGE_CHILDREN)  # ranks, loaders' workers
_seconds = sum(u.ru_utime + u.ru_stime for u in (_usage, _children))
_used = {"processor_seconds": _seconds, "memory": _memory, "own": _own}
print("USED" + json.dumps(_used))
"""
IMPORTS = "import matplotlib.pyplot, torch, torchvision, lessons_src.data"
# Words in the paths of CUDA's files.
CUDA = ("nvidia", "triton", "cuda", "cupti", "nccl", "cudnn", "cublas")


def run_in_kernel(notebook, folder: Path) -> dict:
    """Run the notebook: seconds by the clock and by the processor, memory in bytes."""
    notebook.metadata = {"kernelspec": {"display_name": "", "name": "python3"}}
    notebook.cells.append(new_code_cell(ASK))
    place = {"metadata": {"path": str(folder)}}
    client = NotebookClient(notebook, timeout=600, kernel_name="python3", resources=place)
    start = time.perf_counter()
    client.execute(env=os.environ | {"OMP_NUM_THREADS": "1"})
    seconds = time.perf_counter() - start
    outputs = notebook.cells[-1].outputs  # printed in one part or in several
    text = "".join(output.text for output in outputs if output.get("name") == "stdout")
    return {"seconds": seconds} | json.loads(text.split("USED")[-1])


def size(path: Path, wanted=lambda file: True) -> int:
    """Bytes on the disk of all files below `path`; hard links once, others never."""
    sizes = {}
    for file in path.rglob("*"):
        if file.is_file() and not file.is_symlink() and wanted(file):
            stat = file.stat()
            blocks = getattr(stat, "st_blocks", 0) * 512
            sizes[stat.st_dev, stat.st_ino] = blocks or stat.st_size
    return sum(sizes.values())


def belongs_to_cuda(file: Path) -> bool:
    return any(word in str(file).lower() for word in CUDA)


def disk() -> dict:
    """Bytes of what the course needs: the environment and CUDA's share of it, data,
    repository, built book (None where it is not built)."""
    environment, book = Path(sys.prefix), ROOT / "_build" / "html"
    return {
        "data": sum(file.stat().st_size for file in data_files()),
        "environment": size(environment),
        "cuda": size(environment / "lib", belongs_to_cuda),
        "repository": sum(file.stat().st_size for file in tracked_files()) or None,
        "book": size(book) if book.is_dir() else None,
        "packages": len(list(importlib.metadata.distributions())),
    }


def tracked_files() -> list[Path]:
    """The files of the repository; none where there is no git."""
    git = ["git", "ls-files", "-z"]
    names = subprocess.run(git, cwd=ROOT, capture_output=True).stdout.split(b"\0")
    files = [ROOT / os.fsdecode(name) for name in names if name]
    return [file for file in files if file.is_file()]


def data_files() -> list[Path]:
    """The compressed files of both data sets: what is downloaded once."""
    files = []
    for name in data.SOURCES:
        loaded = data.load(name)
        if loaded.standin:
            raise data.DataError(
                "the lessons are measured on the real data, not on the stand-in"
            )
        files += [Path(loaded.source) / file for file in data.FILES]
    return files


def measure(names: list[str]) -> dict:
    """What a kernel takes that only imports, and what every lesson takes."""
    only_imports = new_notebook(cells=[new_code_cell(IMPORTS)])
    imports, lessons = run_in_kernel(only_imports, ROOT / "lessons"), []
    print(sentence("imports alone", imports), flush=True)
    for name in names:
        notebook = nbformat.read(LESSONS[name], as_version=4)
        usage = run_in_kernel(notebook, LESSONS[name].parent)
        lessons.append({"lesson": name} | usage)
        print(sentence(name, usage), flush=True)
    return {"imports": imports, "lessons": lessons}


def sentence(name: str, usage: dict) -> str:
    """What a notebook has used, in words."""
    line = (
        f"{name:34} {usage['seconds']:6.1f} s, {usage['processor_seconds']:6.1f} s of a "
    )
    line += f"processor, {usage['memory'] / 1e6:5.0f} MB"
    if usage["own"] is None:
        return line
    return f"{line}, {usage['own'] / 1e6:.0f} of them its own at the end"


def record(args) -> None:
    """Run the lessons; write the record if it is of all of them or --results is given."""
    names = args.lessons or list(LESSONS)
    writes = not args.lessons or args.results is not None
    if writes:
        check_replaces("classroom", {"lessons": set(names)}, args)
    before = machine() | {"threads": 1, "cores": os.cpu_count()}
    entry = {"disk": disk(), **measure(names)}
    if not writes:
        print("Nothing was written: that needs every lesson, or --results FOLDER.")
    else:
        about = {"machine": before | {"load_after": load_average()}}
        write_record("classroom", about | entry, args)


def arguments() -> argparse.Namespace:
    """The options of the command line."""
    parser = options(__doc__)
    names = ", ".join(LESSONS)
    parser.add_argument("lessons", nargs="*", metavar="LESSON", help=f"of: {names}")
    args = parser.parse_args()
    unknown = sorted(set(args.lessons) - LESSONS.keys())
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}; there are: {names}")
    return args


def main() -> None:
    """Measure the lessons that are named, or all."""
    args = arguments()
    with errors_in_a_sentence():
        try:
            record(args)
        except CellExecutionError as error:
            sys.exit(f"a lesson failed; see it with make test.\n{error}")


if __name__ == "__main__":
    main()
