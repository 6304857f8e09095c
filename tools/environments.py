"""Run lessons as other machines would: `python -m tools.environments NAME … [options]`.

Names with an installation of their own (`colab`, `oldest`, `newest`, …): the Python and the
packages below, then the wheel of lessons_src. Where that Python is missing, nothing is run.
Each lesson is run alone in an empty folder. It has to run without an error and without a
word on stderr, to keep its promises, to take its data from LESSONS_DATA and lessons_src
from the wheel, and to leave no file; nothing that was installed may be replaced.

Names that vary one thing in this environment (`threads`, `locale`, `path`, …; `cheap` for
all of them): the lessons are compared with what is stored, as in `make test`.

The exit status is 1 where anything failed. The logs and the lessons as run are in --folder.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

from lessons_src import data
from tools import promises, store

ROOT = store.ROOT

NEWEST = "torch torchvision numpy keras ipykernel"
# name -> the Python, and what pip installs before the wheel. Keras is for the appendix,
# whose last comparison needs 3.14: before, Keras laid out images in memory in another way.
INSTALLED = {
    "colab": (
        "3.12",
        "torch==2.11.0 torchvision==0.26.0 numpy==2.0.2 matplotlib==3.10.0 keras==3.14.1 "
        "scikit-learn==1.6.1 ipywidgets==7.7.1 ipython==7.34.0 ipykernel==6.17.1 "
        "requests==2.32.4 tqdm==4.67.1",
    ),
    "early-colab": (  # as above, with the torch that Colab had a year before
        "3.12",
        "torch==2.9.1 torchvision==0.24.1 numpy==2.0.2 matplotlib==3.10.0 keras==3.14.1 "
        "scikit-learn==1.6.1 ipywidgets==7.7.1 ipython==7.34.0 ipykernel==6.17.1 "
        "requests==2.32.4 tqdm==4.67.1",
    ),
    "oldest": (  # the lower bounds of pyproject.toml
        "3.11",
        "torch==2.4.0 torchvision==0.19.0 numpy==1.26.4 matplotlib==3.8.0 keras==3.14.1 "
        "scikit-learn==1.3.0 ipywidgets==7.7.0 ipython==7.34.0 ipykernel==6.17.1 "
        "requests==2.28.0 tqdm",
    ),
    "newest": ("3.13", NEWEST),
    "python-3.14": ("3.14", NEWEST),
}

# name -> what differs here. "copy": a copy of the checkout, in a folder of that name.
# MKL_DYNAMIC: else MKL, and torch with it, takes no more threads than there are cores.
VARIED = {
    "threads-1": {"environ": {"OMP_NUM_THREADS": "1"}},
    "threads-2": {"environ": {"OMP_NUM_THREADS": "2"}},
    "threads-4": {"environ": {"OMP_NUM_THREADS": "4", "MKL_DYNAMIC": "FALSE"}},
    "no-avx512": {
        "environ": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
    },
    "locale": {"locale": ("de_DE", "ISO-8859-1")},  # not UTF-8, and a decimal comma
    "path": {"copy": "Übungen, zu Hause/mit Leerzeichen"},
    "home": {"environ": {"HOME": "/dev/null/home"}},  # root cannot write there either
    "user": {"user": 65534},
    "twice": {"options": ["--twice"]},
    "crlf": {"copy": "crlf", "crlf": True},
}
NOT_A_READERS = ("PYTHON", "VIRTUAL_ENV", "MPL", "KERAS", "JUPYTER", "IPYTHON")

LAST_CELL = """
from lessons_src import data
source = data.load("mnist", notice=False).source
assert source == {source!r}, f"its data came from {{source}}"
assert data.__file__.startswith({module!r}), f"lessons_src came from {{data.__file__}}"
"""


class Wrong(Exception):
    """What is wrong with a lesson in an environment, in one line."""


class Kernel(AsyncKernelManager):
    """A kernel of another Python."""

    python = sys.executable

    @property
    def kernel_spec(self):
        command = [self.python, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        return KernelSpec(argv=command, display_name="another", language="python")


def main(arguments: list[str]) -> int:
    """Run the lessons in the named environments; the exit status for the shell."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "names", nargs="+", help=", ".join([*INSTALLED, *VARIED, "cheap"])
    )
    parser.add_argument("--lessons", nargs="+", default=[""], help="as 01 05 A1")
    parser.add_argument("--python", help="a Python to use in place of the one looked for")
    parser.add_argument(
        "--folder", type=Path, help="where to install; used again the next time"
    )
    options = parser.parse_args(arguments)
    lessons = sorted(ROOT.glob("lessons/*.ipynb"))
    lessons = [path for path in lessons if path.name.startswith(tuple(options.lessons))]
    folder = (options.folder or Path(tempfile.mkdtemp(prefix="lessons-"))).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    table = {}
    names = chosen(options.names)
    pythons = {n: options.python or python_for(n) for n in names}  # before any takes time
    for name, python in pythons.items():
        run = prepared(name, folder, python)
        for lesson in lessons:
            start = time.perf_counter()
            try:
                run(lesson)
                outcome = "ok"
            except Wrong as wrong:
                outcome = str(wrong)
            table[name, lesson.stem] = outcome, time.perf_counter() - start
            print(f"{name:10} {lesson.stem:28} {outcome}", flush=True)
    print_table(table)
    return int(any(outcome != "ok" for outcome, _ in table.values()))


def chosen(names: list[str]) -> list[str]:
    """The environments asked for: by name, by what stands before its hyphen, or by kind."""
    known, found = [*INSTALLED, *VARIED], []
    for name in names:
        fitting = [n for n in known if name in (n, n.split("-")[0])]
        if name == "cheap":
            fitting = list(VARIED)
        if not fitting:
            raise SystemExit(f"no environment {name!r}; there are: {', '.join(known)}")
        found += fitting
    return found


def prepared(name: str, folder: Path, python: str):
    """What runs one lesson in this environment, and raises Wrong."""
    if name in VARIED:
        return lambda lesson: compare(name, lesson, folder, python)
    other, before = install(folder / name, INSTALLED[name][1].split(), python)
    return lambda lesson: run_alone(lesson, folder / f"{name}-run", other, before)


def print_table(table: dict) -> None:
    """A line for each lesson, a column for each environment: ok or not, and seconds."""
    names = list(dict.fromkeys(name for name, _ in table))
    print(
        "", f"| lesson | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|", sep="\n"
    )
    for lesson in dict.fromkeys(lesson for _, lesson in table):
        cells = [table[name, lesson] for name in names]
        words = [f"{'ok' if o == 'ok' else 'FAILED'}, {s:.0f} s" for o, s in cells]
        print(f"| {lesson} | {' | '.join(words)} |")


# --- an installation of its own ------------------------------------------------------


def python_for(name: str) -> str:
    """The Python that an environment is for: this one, or the one in its line above."""
    if name in VARIED:
        return sys.executable
    version = INSTALLED[name][0]
    if python := found(version):
        return python
    raise SystemExit(
        f"{name} is for Python {version}, which is not here: neither as python{version} "
        f"nor in {pyenv()}. Install it (pyenv install {version}), or name it by --python."
    )


def found(version: str) -> str | None:
    """A Python of this version: this one, one on the path, or the newest of pyenv's."""
    patches = pyenv().glob(f"versions/{version}.*/bin/python")
    pyenvs = sorted(patches, key=lambda p: [*map(int, re.findall(r"\d+", p.parts[-3]))])
    on_path = shutil.which(f"python{version}")
    for python in (sys.executable, on_path, *map(str, reversed(pyenvs))):
        if python and version_of(python) == version:
            return python
    return None


def pyenv() -> Path:
    """The folder of pyenv, which puts only one version's commands to work at a time."""
    return Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")


def version_of(python: str) -> str:
    """As 3.12; empty where the command does not run, like a version that pyenv hides."""
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    try:
        run = subprocess.run([python, "-c", code], capture_output=True, text=True)
    except OSError:
        return ""
    return run.stdout.strip()


def install(venv: Path, packages: list[str], python: str) -> tuple[Path, set[str]]:
    """The environment's Python, and what was installed before the wheel came."""
    executable = venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    listed, wanted = venv.with_suffix(".txt"), "\n".join([python, *packages])

    def pip(*arguments):
        command = [executable, "-m", "pip", "-qq", "--disable-pip-version-check"]
        subprocess.run([*command, *arguments], check=True)

    if not listed.exists() or listed.read_text(encoding="utf-8") != wanted:
        print(
            f"installing {' '.join(packages)} into {venv} (some minutes) ...", flush=True
        )
        subprocess.run([python, "-m", "venv", "--clear", venv], check=True)
        pip("install", *packages)
        listed.write_text(wanted, encoding="utf-8")
    pip("uninstall", "-y", "lessons-src")
    before = installed(executable)
    source = Path(tempfile.mkdtemp(dir=venv.parent))  # building writes into it
    shutil.copytree(ROOT / "lessons_src", source / "lessons_src")
    shutil.copy(ROOT / "pyproject.toml", source)
    pip("install", source)
    shutil.rmtree(source)
    told = ("torch-", "numpy-", "ipywidgets-", "ipython-", "ipykernel-")
    version = subprocess.check_output([executable, "--version"], text=True).strip()
    print(version, *sorted(name for name in before if name.startswith(told)))
    print("the wheel adds:", *sorted(installed(executable) - before), flush=True)
    return executable, before


def installed(executable: Path) -> set[str]:
    """Name and version of what is installed, as numpy-2.0.2."""
    folders = executable.parents[1].glob("[Ll]ib/**/site-packages/*.dist-info")
    return {path.stem for path in folders}


def run_alone(lesson: Path, folder: Path, python: Path, before: set[str]) -> None:
    """Run one lesson in an empty folder; Wrong at the first thing that is."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "promises/tools").mkdir(parents=True)  # what tries promises, and no more
    for file in ("__init__.py", "promises.py", "ranges.py"):
        shutil.copy(ROOT / "tools" / file, folder / "promises/tools")
    (folder / "alone").mkdir()
    alone = Path(shutil.copy(lesson, folder / "alone"))
    mnist = data.load("mnist", notice=False)
    environ = of_a_reader(folder / "ipython")
    environ.setdefault("LESSONS_DATA", "standin" if mnist.standin else str(ROOT / "data"))
    environ["PYTHONPATH"] = str(folder / "promises")
    environ["PATH"] = f"{python.parent}{os.pathsep}{environ['PATH']}"
    notebook = nbformat.read(alone, as_version=4)
    last = LAST_CELL.format(source=mnist.source, module=str(python.parents[1]))
    notebook.cells.append(nbformat.v4.new_code_cell(last))
    try:
        execute(notebook, alone.parent, str(python), environ, mnist.standin)
    finally:
        nbformat.write(notebook, folder.with_name(f"{folder.name}-{lesson.name}"))
    expect_all_is_left(alone, before - installed(python), mnist.standin)


def expect_all_is_left(alone: Path, lost: set[str], standin: bool) -> None:
    """Wrong where a lesson changed what was installed, or left files beside itself."""
    if lost:
        raise Wrong(f"replaced or removed: {', '.join(sorted(lost))}")
    known = {alone.name, *(["data"] if standin else [])}  # the stand-in is kept there
    if left := {path.name for path in alone.parent.iterdir()} - known:
        raise Wrong(f"it left files beside itself: {', '.join(sorted(left))}")


def execute(notebook, folder: Path, python: str, environ: dict, standin: bool) -> None:
    """Run a notebook from top to bottom with this Python; Wrong at the first problem."""
    kernel = Kernel()
    kernel.python = python
    where = {"metadata": {"path": str(folder)}}
    client = NotebookClient(notebook, timeout=600, km=kernel, resources=where)
    store.try_promises(client, standin)
    problem, number = "", None
    try:
        client.execute(env=environ, cleanup_kc=True)
    except CellExecutionError as error:
        problem = f"{error.ename}: {error.evalue}"
    except (promises.Broken, CellTimeoutError, DeadKernelError) as error:
        problem = str(error)
    number = client.code_cells_executed
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if output.get("name") == "stderr" and not problem:
                problem, number = f"on stderr: {output.text}", cell.execution_count
    if problem:
        raise Wrong(f"cell {number}: {problem.strip().splitlines()[0]}")


def of_a_reader(ipython: Path) -> dict[str, str]:
    """The environment's variables without this machine's settings, IPython's folder new."""
    environ = {k: v for k, v in os.environ.items() if not k.startswith(NOT_A_READERS)}
    quiet = {"PYDEVD_DISABLE_FILE_VALIDATION": "1"}  # the debugger's words at each start
    return environ | quiet | {"IPYTHONDIR": str(ipython)}


# --- this installation, one thing varied ---------------------------------------------


def compare(name: str, lesson: Path, folder: Path, python: str) -> None:
    """Compare a lesson with what is stored, as `make test` does; Wrong where it differs."""
    settings, place, user = VARIED[name], ROOT, {}
    environ = of_a_reader(folder / f"{name}-ipython") | settings.get("environ", {})
    # Another Python, given by --python, finds the packages of this one.
    environ["PYTHONPATH"] = next(p for p in sys.path if p.endswith("site-packages"))
    if "copy" in settings:
        place = folder / settings["copy"]
        copy_checkout(place, lesson, settings.get("crlf", False))
        if (ROOT / "data").exists() and not (place / "data").exists():
            shutil.copytree(ROOT / "data", place / "data")
    if "locale" in settings:
        environ |= make_locale(folder, *settings["locale"])
        startup = Path(environ["IPYTHONDIR"]) / "profile_default/startup/locale.py"
        startup.parent.mkdir(parents=True, exist_ok=True)
        lines = "import locale\nlocale.setlocale(locale.LC_ALL, '')\n"
        startup.write_text(lines, encoding="utf-8")
    if "user" in settings and os.name != "nt" and os.getuid() == 0:
        number = settings["user"]
        user = {"user": number, "group": number, "extra_groups": []}
        home = tempfile.mkdtemp(prefix="lessons-")
        os.chown(home, number, number)
        environ |= {"HOME": home, "IPYTHONDIR": home}
    command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--nbval"]
    command += [*settings.get("options", []), f"lessons/{lesson.name}"]
    run = subprocess.run(command, cwd=place, env=environ, capture_output=True, **user)
    log = (run.stdout + run.stderr).decode(errors="replace")
    path = folder / f"{name}-{lesson.stem}.log"
    path.write_text(log, encoding="utf-8")
    if run.returncode:
        lines = [
            line for line in log.splitlines() if line.startswith(("FAILED", "ERROR"))
        ]
        raise Wrong(f"{(lines or log.splitlines()[-1:])[0]} (see {path})")


def copy_checkout(place: Path, lesson: Path, crlf: bool) -> None:
    """What comparing one lesson needs, in another folder, its lines ended by CR LF."""
    files = [ROOT / "conftest.py", ROOT / "pyproject.toml", ROOT / "tests/sanitise.cfg"]
    for part in ("lessons_src/**/*.py", "lessons_src/**/*.json", "tools/*.py"):
        files += ROOT.glob(part)
    for file in [*files, lesson]:
        content = file.read_bytes()
        if crlf:
            content = content.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
        target = place / file.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)


def make_locale(folder: Path, name: str, charset: str) -> dict[str, str]:
    """The variables that ask for a locale which is made in the folder (Linux alone)."""
    made = folder / "locales" / f"{name}.{charset}"
    if not made.exists():
        made.parent.mkdir(exist_ok=True)
        subprocess.run(["localedef", "-i", name, "-f", charset, made], check=True)
    return {"LOCPATH": str(made.parent), "LC_ALL": made.name, "PYTHONUTF8": "0"}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
