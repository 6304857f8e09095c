"""What a reader trusts without reading it: files, workflows, the set-up, the console, and
that nothing of an author's machine is given away."""

import ast
import getpass
import json
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from built_book import HTML
from lesson_source import LESSONS, ROOT

NOTEBOOKS = [*LESSONS, *sorted((ROOT / "book").glob("*.ipynb"))]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
FOLDERS = ("lessons_src", "benchmarks", "tools")


# ---- Files from elsewhere ----


def code_that_may_run(source: str) -> list[str]:
    """Calls that would run code out of a file: torch.load without weights_only, pickle,
    NumPy's pickles."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        call = ast.unparse(node.func)
        given = {k.arg: getattr(k.value, "value", None) for k in node.keywords}
        unsafe = call == "torch.load" and given.get("weights_only") is not True
        unsafe |= call in ("pickle.load", "pickle.loads", "joblib.load", "yaml.load")
        if unsafe or given.get("allow_pickle"):
            found.append(ast.unparse(node))
    return found


def test_no_file_can_run_code():
    """What is read is numbers: weights_only=True wherever torch loads, and no pickle.
    tools/mutants.py unpickles what its own process has sent it."""
    wrong = ["torch.load(a)", "pickle.loads(a)", "np.load(a, allow_pickle=True)"]
    assert code_that_may_run("\n".join(wrong)) == wrong
    assert not code_that_may_run("torch.load(a, weights_only=True)\nnp.load(a)")
    paths = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")]
    for path in set(paths) - {ROOT / "tools" / "mutants.py"}:
        assert not code_that_may_run(path.read_text(encoding="utf-8")), path
    for path in NOTEBOOKS:
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            source = "".join(cell["source"])
            if cell["cell_type"] == "code" and "%" not in source:
                assert not code_that_may_run(source), f"{path.name}: {source}"


# ---- Workflows ----


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_may_only_read(path):
    """What is not given at the top is not had, no job asks for more, and none runs a
    stranger's code with the repository's rights."""
    workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert workflow.get("permissions") == {"contents": "read"}, (
        f"{path.name}: write `permissions: {{contents: read}}` at the top"
    )
    triggers = workflow[True]  # YAML reads the key `on` so
    assert not {"pull_request_target", "workflow_run"} & set(triggers)
    for name, job in workflow["jobs"].items():
        assert "permissions" not in job, f"{path.name}, {name}: it asks for more"
        for step in job["steps"]:
            told = re.findall(r"\$\{\{\s*github\.(?:event|head_ref)", step.get("run", ""))
            assert not told, f"{path.name}, {name}: a stranger's words in a command"


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_actions_are_pinned_by_commit(path):
    """A tag can be moved to other code; a commit cannot. The version stands beside it."""
    text = path.read_text(encoding="utf-8")
    for used, line in re.findall(r"uses: (\S+)(.*)", text):
        pinned = re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", used)
        assert pinned and re.match(r" # v[\d.]+$", line), (
            f"{path.name}: write `uses: {used.split('@')[0]}@COMMIT # vVERSION`"
        )


# ---- The reader's console ----

# Everything that an import could change for the code around it. Torch and matplotlib are
# there before: what they change is theirs.
LEFT_ALONE = """
import json, locale, logging, os, random, signal, sys, threading, warnings
import numpy as np, torch, matplotlib.pyplot as plt, IPython.display, ipywidgets, PIL.Image
import requests, scipy.stats, sklearn.datasets, tqdm, torchvision
import torch.distributed.elastic.multiprocessing.errors, torch.fx.passes

ITS_OWN = "Profiler clears events"  # the one filter, of one message of torch 2.11

def state():
    root, handlers = logging.getLogger(), logging.Logger.manager.loggerDict
    levels = {n: getattr(g, "level", 0) for n, g in handlers.items()}
    return {
        "logging": [root.level, len(root.handlers), logging.raiseExceptions],
        "levels": {name: level for name, level in levels.items() if level},
        "warnings": [str(f) for f in warnings.filters if ITS_OWN not in str(f)],
        "matplotlib": {k: str(v) for k, v in plt.rcParams.items()},
        "backend": plt.get_backend(),
        "numpy": [str(np.get_printoptions()), str(np.geterr())],
        "torch": [torch.get_num_threads(), str(torch.get_default_dtype()),
                  str(torch.get_default_device()), torch.is_grad_enabled(),
                  torch.are_deterministic_algorithms_enabled(),
                  torch.get_float32_matmul_precision(), str(torch._tensor_str.PRINT_OPTS),
                  torch.backends.cudnn.benchmark, torch.is_anomaly_enabled()],
        "random": [str(torch.get_rng_state().tolist())[:400], str(random.getstate())[:400],
                   str(np.random.get_state())[:400]],
        "signals": [str(signal.getsignal(n)) for n in (signal.SIGINT, signal.SIGTERM)],
        "hooks": [str(h) for h in (sys.excepthook, sys.displayhook, threading.excepthook)],
        "process": [os.getcwd(), dict(os.environ), locale.setlocale(locale.LC_ALL),
                    threading.active_count(), sys.getrecursionlimit()],
    }

def changed(*names):
    before = state()
    for name in names:
        __import__(name)
    after = state()
    return {key: [str(before[key]), str(after[key])] for key in before
            if before[key] != after[key]}

rest, styles = MODULES
first = changed(*rest)
before = dict(plt.rcParams), state()["levels"]
second = changed(*styles)
from lessons_src.figures import STYLE
keys = [k for k, v in plt.rcParams.items() if str(v) != str(before[0][k])]
print(json.dumps([first, sorted(second), sorted(set(keys) - set(STYLE))]))
"""


@pytest.mark.slow
def test_importing_leaves_the_readers_console_alone():
    """No module changes logging, warnings, random numbers, threads, signals or what is
    printed; and figures changes the style of matplotlib, which it says, and no more."""
    names = []
    for path in sorted((ROOT / "lessons_src").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        names.append(".".join(p for p in parts if p != "__init__"))
    styles = ["lessons_src.figures", "lessons_src.interactive"]
    rest = [name for name in names if name not in styles]
    code = LEFT_ALONE.replace("MODULES", repr((rest, styles)))
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True
    )
    assert run.returncode == 0 and not run.stderr, run.stderr
    others, of_figures, foreign_keys = json.loads(run.stdout)  # and nothing printed
    assert others == {}, "an import changes this; do it where a function is called"
    assert set(of_figures) <= {"matplotlib", "levels"} and foreign_keys == []


# ---- An author's machine ----

# Folders of a user, on Linux, macOS and Windows; a kernel's temporary files.
PLACES = (
    r"(?:/home|/Users|/root|/mnt|/media|/work|/private|/var/folders)/[\w.-]+|[A-Z]:\\+\w+"
)
PLACES += r"|/tmp/(?:ipykernel|tmp|pip|pytest)\w*"


def given_away(text: str) -> list[str]:
    """Places, the user and the host of the machine that made a text."""
    found = re.findall(PLACES, text)
    own = {str(ROOT), str(Path.home()), getpass.getuser(), socket.gethostname()}
    own -= {"", "/", "/root", "root", "runner", "localhost", "jovyan"}
    for name in own:
        if len(name) > 3 and re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text):
            found.append(name)
    return found


def test_places_of_a_machine_are_seen(monkeypatch):
    """The check itself: a path, a user and a host; no address and no fraction."""
    monkeypatch.setattr(socket, "gethostname", lambda: "annas-laptop")
    texts = ["/home/anna/course", "C:\\Users\\anna", "/tmp/ipykernel_12/3.py"]
    assert all(given_away(f'File "{text}", line 1') for text in texts)
    assert given_away("ran on annas-laptop") and given_away(f"in {ROOT}/data")
    assert not given_away("https://example.org/home.html, 1/root, data/MNIST/raw")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_gives_no_machine_away(path):
    """No path, user or host in its outputs and metadata; and nothing in an output asks
    another host for anything, also in Jupyter, where our test of pages does not look."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    stored = [cell.get("outputs", []) for cell in notebook["cells"]]
    stored += [cell["metadata"] for cell in notebook["cells"]] + [notebook["metadata"]]
    text = json.dumps(stored)
    assert not given_away(text), f"{path.name}: store it again with tools.store"
    for output in (out for cell in notebook["cells"] for out in cell.get("outputs", [])):
        page = "".join(
            str(v) for k, v in output.get("data", {}).items() if "plain" not in k
        )
        assert not re.search(r"""(?:src|srcset)=\\?["']https?:|url\(["']?https?:""", page)


def test_records_give_no_machine_away():
    """The records name a processor and versions; the measured files of the book too."""
    folder = ROOT / "lessons_src" / "records"
    for path in [*folder.glob("*.json"), *(ROOT / "book").glob("*.json")]:
        assert not given_away(path.read_text(encoding="utf-8")), path.name


def test_pages_give_no_machine_away():
    """Where the book is built: pages, search index and sources, as they would be
    published."""
    if not HTML.is_dir():
        pytest.skip("the book is not built: run make book")
    files = [p for p in HTML.rglob("*") if p.suffix in (".html", ".txt", ".ipynb", ".md")]
    files += [HTML / "searchindex.js"]
    own = {str(ROOT), str(Path.home())} - {"/", "/root"}
    for path in files:
        text = path.read_text(encoding="utf-8")
        assert not [name for name in own if name in text], path
        assert not re.search(r"(?:/home|/Users)/[\w.-]+/|/tmp/ipykernel", text), path


# ---- Known vulnerabilities ----


def test_contributors_know_how_to_look_for_known_vulnerabilities():
    """The command stands in CONTRIBUTING.md, and looks at the environment of `make`."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"^.*pip-audit .*$", text, re.M)
    assert "--path .venv/lib" in command and "--skip-editable" in command
