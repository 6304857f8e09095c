"""What a lesson takes from a machine: seconds, memory, cores, and the disk that the course needs.

    python -m benchmarks.classroom                      every lesson, results/classroom.json
    python -m benchmarks.classroom 01_images_as_tensors one lesson; printed, nothing is written

Each lesson's notebook is run in a kernel of its own, from the first cell to the last. At the end
the kernel is asked what it has used: the processor's seconds and the largest memory it ever had.
Nothing is stored in the notebook. It takes as long as all lessons together. The kernels have one
thread each: of several, one that waits for the other counts as one that works.
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

from benchmarks import RESULTS, runs
from lessons_src import data

ROOT = Path(__file__).resolve().parents[1]
# In the kernel, at the end. "own" is what no other process shares with it at that moment. On Linux
# the peak is VmHWM: ru_maxrss is handed down from the process that starts a kernel, if larger.
ASK = r"""
import json, re, resource, sys
_used = resource.getrusage(resource.RUSAGE_SELF)
_memory, _own = _used.ru_maxrss, None  # bytes on macOS, which has no /proc
if sys.platform == "linux":
    _memory = 1024 * int(re.search(r"VmHWM:\s+(\d+)", open("/proc/self/status").read())[1])
    _text = open("/proc/self/smaps_rollup").read()
    _own = 1024 * sum(int(n) for n in re.findall(r"Private_(?:Clean|Dirty): +(\d+)", _text))
_seconds = _used.ru_utime + _used.ru_stime
print("USED" + json.dumps({"processor_seconds": _seconds, "memory": _memory, "own": _own}))
"""
IMPORTS = "import matplotlib.pyplot, torch, torchvision, lessons_src.data"
CUDA = ("nvidia", "triton", "cuda", "cupti", "nccl", "cudnn", "cublas")  # in a file's path


def used(notebook, folder: Path) -> dict:
    """Run the notebook in a kernel: seconds by the clock and by the processor, memory in bytes."""
    notebook.metadata = {"kernelspec": {"display_name": "", "name": "python3"}}
    notebook.cells.append(new_code_cell(ASK))
    client = NotebookClient(notebook, timeout=600, kernel_name="python3",
                            resources={"metadata": {"path": str(folder)}})  # fmt: skip
    start = time.perf_counter()
    client.execute(env=os.environ | {"OMP_NUM_THREADS": "1"})
    seconds = time.perf_counter() - start
    said = "".join(o.text for o in notebook.cells[-1].outputs if o.get("name") == "stdout")
    return {"seconds": seconds} | json.loads(said.split("USED")[-1])  # printed in several parts


def size(path: Path, wanted=lambda file: True) -> int:
    """Bytes on the disk of all files below `path`; hard links count once, others not at all."""
    seen = {}
    for file in path.rglob("*"):
        if file.is_file() and not file.is_symlink() and wanted(file):
            stat = file.stat()
            taken = getattr(stat, "st_blocks", 0) * 512 or stat.st_size
            seen[stat.st_dev, stat.st_ino] = taken
    return sum(seen.values())


def disk() -> dict:
    """Bytes of what the course needs: the environment and CUDA's share of it, data, repository,
    built book (None where it is not built)."""
    environment, data_files = Path(sys.prefix), data_folder()
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True).stdout
    files = [ROOT / os.fsdecode(name) for name in tracked.split(b"\0") if name]
    repository = sum(file.stat().st_size for file in files if file.is_file())
    book = ROOT / "_build" / "html"
    packages = environment / "lib"
    return {"environment": size(environment),
            "cuda": size(packages, lambda f: any(word in str(f).lower() for word in CUDA)),
            "data": sum(f.stat().st_size for f in data_files),
            "repository": repository or None, "book": size(book) if book.is_dir() else None,
            "packages": len(list(importlib.metadata.distributions()))}  # fmt: skip


def data_folder() -> list[Path]:
    """The compressed files of both data sets: what is fetched once."""
    found = []
    for name in data.SOURCES:
        loaded = data.load(name)
        if loaded.standin:
            raise data.DataError("the lessons are measured on the real data, not on the stand-in")
        found += [Path(loaded.source) / file for file in data.FILES]
    return found


def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    lessons = {path.stem: path for path in sorted((ROOT / "lessons").glob("*.ipynb"))}
    parser.add_argument("lessons", nargs="*", metavar="LESSON", help="of: " + ", ".join(lessons))
    parser.add_argument("--results", metavar="FOLDER", help=f"where the record goes ({RESULTS})")
    args = parser.parse_args()
    if unknown := set(args.lessons) - set(lessons):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are: {', '.join(lessons)}")
    try:
        before, room = runs.machine(), disk()
        found = measured({name: lessons[name] for name in args.lessons or lessons})
    except data.DataError as error:
        sys.exit(f"benchmarks.classroom: {error}")
    except CellExecutionError as error:
        sys.exit(f"benchmarks.classroom: a lesson failed; see it with make test.\n{error}")
    if args.lessons and not args.results:
        return print("Nothing was written: that needs every lesson, or --results FOLDER.")
    machine = before | {"threads": 1, "load_after": runs.machine()["load"], "cores": os.cpu_count()}
    record = {"machine": machine, "disk": room, **found}
    print("written:", runs.write("classroom", record, args.results))


def measured(lessons: dict[str, Path]) -> dict:
    """What a kernel takes that only imports, and what every lesson takes."""
    imports = used(new_notebook(cells=[new_code_cell(IMPORTS)]), ROOT / "lessons")
    print(told("imports alone", imports), flush=True)
    found = []
    for name, path in lessons.items():
        found.append({"lesson": name} | used(nbformat.read(path, as_version=4), path.parent))
        print(told(name, found[-1]), flush=True)
    return {"imports": imports, "lessons": found}


def told(name: str, one: dict) -> str:
    own = f", {one['own'] / 1e6:.0f} of them its own at the end" if one["own"] else ""
    return (f"{name:34} {one['seconds']:6.1f} s, {one['processor_seconds']:6.1f} s of a processor, "
            f"{one['memory'] / 1e6:5.0f} MB{own}")  # fmt: skip


if __name__ == "__main__":
    main()
