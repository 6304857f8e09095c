"""Break the module line by line, and say what no test notices.

    python -m tools.mutants                           all but exercises and detector
    python -m tools.mutants lessons_src/train.py      one file; train.py:174 one line of it
    python -m tools.mutants --exercises --detector    these too; it takes hours

A mutant is the module with one small mistake: see tools/mutations.py. The tests that run
its line are tried, the quickest first, until one fails. What none notices is printed as
file:line, before → after. It needs a sharper test or, where it changes nothing that one
could notice, an entry with the reason in tests/mutants.toml. The exit status is 0 when
nothing else is left.

All of it happens in a copy. Torch and the tests are imported once: a mutant's process is
a fork of theirs, in which the functions get the mutant's code. What runs at import, and
what only tests with processes of their own run, is tried from a mutated file, which
takes seconds. Needs Linux or macOS.
"""

import argparse
import ast
import ctypes
import gc
import importlib
import os
import pickle
import resource
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections import defaultdict
from contextlib import suppress
from pathlib import Path
from types import CodeType, FunctionType

import pytest
from coverage import Coverage

from tools.mutations import Mutant, mutants_of

ROOT = Path(__file__).resolve().parents[1]
EXPLAINED = ROOT / "tests" / "mutants.toml"
TESTS = (
    "tests/module",
    "tests/faults",
    "tests/lessons",
)  # where a mutant's tests are looked for
QUIET = ["-q", "-s", "-x", "-p", "no:cacheprovider", "-p", "no:xdist"]
BEFORE_FORK = "torch, torchvision, matplotlib.pyplot, nbformat, IPython, sklearn.datasets"


def in_child(work, seconds: float):
    """What work() returns in a process of its own: ("returned", value), ("crashed",
    None) or, where it takes longer, ("timed out", None)."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.setsid()
        with suppress(OSError):  # on Linux it ends with its parent
            ctypes.CDLL(None).prctl(1, signal.SIGKILL)
        try:
            value = work()
            with os.fdopen(writing, "wb") as file:
                pickle.dump(value, file)
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as file:
        try:
            in_time = select.select([file], [], [], seconds)[0]
            answer = ("returned", pickle.load(file)) if in_time else ("timed out", None)
        except (EOFError, pickle.UnpicklingError):
            answer = ("crashed", None)
        finally:
            with suppress(OSError):
                os.killpg(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    out_of_time = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU
    return ("timed out", None) if out_of_time else answer


def silent() -> None:
    """From here on this process prints nothing."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.dup2(nothing, 2)


class Watch:
    """A pytest plugin: which tests run a line, and the seconds of each test. What a
    fixture of several tests runs counts for each of them."""

    def __init__(self):
        include = [os.path.abspath("lessons_src/*")]
        self.lines = Coverage(data_file=None, include=include, config_file=False)
        self.now, self.seconds, self.fixtures, self.with_process = "", {}, {}, set()
        sys.addaudithook(self.audit)
        self.lines.start()

    def audit(self, event, arguments):
        if event in ("subprocess.Popen", "os.posix_spawn", "os.fork"):
            self.with_process.add(self.now)

    def switch(self, name):
        self.now = name
        self.lines.switch_context(name)

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef, request):
        outer, name, start = self.now, f"fixture {id(fixturedef)}", time.perf_counter()
        self.switch(name)
        try:
            return (yield)
        finally:
            self.fixtures.setdefault(name, set()).add(outer)  # perhaps a fixture too
            self.seconds[name] = time.perf_counter() - start
            self.switch(outer)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item, nextitem):
        failed, start = item.session.testsfailed, time.perf_counter()
        self.switch(item.nodeid)
        for fixtures in item._fixtureinfo.name2fixturedefs.values():
            for fixture in fixtures:
                self.fixtures.setdefault(f"fixture {id(fixture)}", set()).add(item.nodeid)
        result = yield
        if item.session.testsfailed == failed:  # what fails anyway tells nothing
            self.seconds[item.nodeid] = time.perf_counter() - start
        return result

    def users(self, name) -> set[str]:
        """The test of that name; of a fixture, all tests that use it."""
        if not name.startswith("fixture "):
            return {name} & self.seconds.keys()
        return set().union(*map(self.users, self.fixtures[name]))

    def result(self):
        """Test -> seconds; (path, line) -> tests; the tests that start processes."""
        self.lines.stop()
        data, tests = self.lines.get_data(), {}
        for path in data.measured_files():
            for line, names in data.contexts_by_lineno(path).items():
                found = set().union(*map(self.users, filter(None, names)))
                tests[path, line] = found
        started = set().union(*map(self.users, filter(None, self.with_process)))
        for name, seconds in self.seconds.items():
            for test in self.users(name) if name.startswith("fixture ") else ():
                self.seconds[test] = max(seconds, self.seconds[test])
        return {n: s for n, s in self.seconds.items() if "::" in n}, tests, started


def run_items(session, items: list, seconds: dict | None = None) -> bool:
    """Whether a test fails. seconds: of each; stop at the first failure, and where one
    takes much longer."""
    failed = session.testsfailed
    for item, after in zip(items, [*items[1:], None], strict=True):
        if seconds:
            used = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
            limit = int(used + 6 + 5 * seconds[item.nodeid])
            resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.RLIM_INFINITY))
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=after)
        if seconds and session.testsfailed > failed:
            return True
    return False


def codes(code: CodeType):
    """All code objects in one, by their names and first lines."""
    yield (code.co_qualname, code.co_firstlineno), code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from codes(constant)


def put_in(mutant: Mutant, functions: list) -> None:
    """Give the functions of the mutant's file its code, whoever holds them."""
    path = os.path.abspath(mutant.file)
    new = dict(codes(compile(mutant.text, path, "exec")))
    for function in functions:
        code = function.__code__
        if code.co_filename == path:
            key = (code.co_qualname, code.co_firstlineno)
            function.__code__ = new.get(key, code)


class Server:
    """A pytest plugin: once the tests are imported, watch them, then fork for each
    mutant."""

    def __init__(self, mutants: list[Mutant], say):
        self.mutants, self.say, self.outcomes = mutants, say, []

    def pytest_runtestloop(self, session):
        for file in {mutant.file for mutant in self.mutants}:
            importlib.import_module(file.removesuffix(".py").replace("/", "."))
        self.items = {item.nodeid: item for item in session.items}
        gc.unfreeze()  # what conftest.py has frozen is not listed
        self.functions = [f for f in gc.get_objects() if isinstance(f, FunctionType)]

        def watched():
            watch = Watch()
            session.config.pluginmanager.register(watch)
            run_items(session, session.items)
            return watch.result()

        self.seconds, self.tests, self.with_process = in_child(watched, 3600)[1]
        for name in self.items.keys() - self.seconds.keys():
            self.say(f"fails without a mutant, and is left out: {name}")
        self.say(f"{len(self.seconds)} tests, {sum(self.seconds.values()):.0f} s")
        for mutant in self.mutants:
            outcome = self.outcome(session, mutant)
            self.outcomes.append(outcome)
            self.say(f"{outcome[0]:9} {mutant}")
        return True

    def outcome(self, session, mutant):
        """What became of the mutant, and the tests that are left for a mutated file."""
        names = self.names(mutant)
        if not mutant.in_function:
            return "at import", names
        own = [name for name in names if name not in self.with_process]

        def work():
            put_in(mutant, self.functions)
            return run_items(session, [self.items[name] for name in own], self.seconds)

        limit = 60 + 10 * sum(self.seconds[name] for name in own)
        ended, failed = in_child(work, limit) if own else ("returned", False)
        if ended == "returned" and not failed:
            return "survived", [name for name in names if name in self.with_process]
        return ("timed out" if ended == "timed out" else "killed"), []

    def names(self, mutant):
        """The tests that run a mutant's line, the quickest first; for one at import,
        all that run a line of its file."""
        path, found = os.path.abspath(mutant.file), set()
        for lines in mutant.lines:
            wanted = [self.tests.get((path, line), ()) for line in lines]
            found = found or set().union(*wanted)
        if not mutant.in_function:
            found = {
                t for (p, _), names in self.tests.items() if p == path for t in names
            }
        if mutant.file.split("/")[1] == "scale":  # ranks run it, unseen
            found |= self.with_process & self.seconds.keys()
        return sorted(found, key=self.seconds.get)


def from_a_file(mutant: Mutant, names: list[str]) -> str:
    """What becomes of a mutant that stands in its file: "killed" or "survived"."""
    path = Path(mutant.file)
    sound = path.read_bytes()
    path.write_bytes(mutant.text)

    def work():
        silent()
        return pytest.main([*QUIET, *names]) != 0

    try:
        ended, failed = in_child(work, 600)
    finally:
        path.write_bytes(sound)
    if ended == "timed out":
        return ended
    return "survived" if ended == "returned" and not failed else "killed"


def tried(mutants: list[Mutant], tests: list[str], say) -> list[str]:
    """What became of each mutant."""

    def server():
        plugin = Server(mutants, say)
        silent()
        pytest.main([*QUIET, *tests], plugins=[plugin])
        return plugin.outcomes

    _, outcomes = in_child(server, 24 * 3600)
    if outcomes is None:
        sys.exit("the tests could not be collected: run them first")
    ends = []
    for mutant, (outcome, names) in zip(mutants, outcomes, strict=True):
        if names and outcome in ("at import", "survived"):
            outcome = from_a_file(mutant, names)
            say(f"{outcome:9} {mutant}")
        ends.append("survived" if outcome == "at import" else outcome)
    return ends


def tests_that_import(files: list[str]) -> list[str]:
    """The test files that name one of these modules, or else a module that does."""
    names = {Path(file).stem for file in files}
    modules = [p.stem for p in Path("lessons_src").rglob("*.py") if uses(p, names)]
    paths = sorted(p for folder in TESTS for p in Path(folder).glob("test_*.py"))
    return [str(path) for path in paths if uses(path, names | set(modules))]


def uses(path: Path, names: set[str]) -> bool:
    """Whether a file imports one of these modules of lessons_src."""
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(
            "lessons_src"
        ):
            imported = {a.name for a in node.names} | set(node.module.split("."))
            if imported & names:
                return True
    return False


def work_in_a_copy(folder: str) -> None:
    """Copy the checkout and the data to a folder, and go there."""
    git = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(git, cwd=ROOT, capture_output=True, check=True).stdout
    for name in map(os.fsdecode, names.split(b"\0")):
        if (ROOT / name).is_file():
            (Path(folder) / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, Path(folder) / name)
    if (ROOT / "data").is_dir():
        shutil.copytree(ROOT / "data", Path(folder) / "data", dirs_exist_ok=True)
    os.chdir(folder)
    sys.path[0] = folder
    # A mutated file is never taken for the sound one, of the same size and second
    sys.dont_write_bytecode = True
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"


def report(mutants, ends, say) -> int:
    """The table of files, then what survived; 1 where some of it is not explained."""
    explained = {}
    if EXPLAINED.exists():
        entries = tomllib.loads(EXPLAINED.read_text(encoding="utf-8"))["mutant"]
        explained = {(e["file"], e["before"], e["after"]): e["why"] for e in entries}
    table, left = defaultdict(lambda: dict.fromkeys(("made", *COLUMNS), 0)), []
    for mutant, end in zip(mutants, ends, strict=True):
        if end == "survived":
            key = (mutant.file, mutant.before, mutant.after)
            end = "explained" if explained.pop(key, None) else "left"
            if end == "left":
                left.append(mutant)
        table[mutant.file]["made"] += 1
        table[mutant.file][end] += 1
    say(f"{'':34}" + "".join(f"{name:>11}" for name in ("made", *COLUMNS)))
    for file, counts in table.items():
        say(f"{file:34}" + "".join(f"{count:11}" for count in counts.values()))
    for mutant in left:
        say(f"no test notices  {mutant}")
    for file, before, after in explained:
        if file in table:
            say(f"explained, and not needed here: {file}: {before}  →  {after}")
    return int(bool(left))


COLUMNS = ("killed", "timed out", "explained", "left")


def main() -> int:
    """Try the mutants of the files that are named, or of all."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="*", help="of lessons_src; else all")
    parser.add_argument("--tests", nargs="+", help="else all that import the files")
    parser.add_argument("--exercises", action="store_true")
    parser.add_argument("--detector", action="store_true")
    args = parser.parse_args()
    wanted = {"exercises": args.exercises, "detector": args.detector, "records": False}
    files = [name.partition(":")[0] for name in args.files] or [
        str(path.relative_to(ROOT))
        for path in sorted((ROOT / "lessons_src").rglob("*.py"))
        if wanted.get(path.relative_to(ROOT).parts[1], True)
    ]
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    terminal = os.fdopen(
        os.dup(1), "w", buffering=1
    )  # also for processes that are silent

    def say(line):
        terminal.write(f"{line}\n")

    with tempfile.TemporaryDirectory() as folder:
        work_in_a_copy(folder)
        exec(f"import {BEFORE_FORK}", {})
        mutants = [
            mutant
            for file in dict.fromkeys(files)
            for mutant in mutants_of(file, Path(file).read_bytes())
            if not args.files or {file, f"{file}:{mutant.line}"} & set(args.files)
        ]
        ends = tried(mutants, args.tests or tests_that_import(files), say)
        return report(mutants, ends, say)


if __name__ == "__main__":
    sys.exit(main())
