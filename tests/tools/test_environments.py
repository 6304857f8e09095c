"""The command that runs lessons as other machines would notices what is wrong there."""

import os
import sys
from pathlib import Path

import nbformat
import pytest
import yaml
from lesson_source import LESSONS, ROOT
from nbformat.v4 import new_code_cell, new_notebook, new_output

from tools import environments
from tools.environments import Wrong

NO_DATA = "def load(name, notice=True):\n    return load\n\nload.standin = False\n"
# What is true in each varied environment, and nowhere else.
TRUE_THERE = {
    "threads-2": "__import__('torch').get_num_threads() == 2",
    "threads-4": "__import__('torch').get_num_threads() == 4",
    "no-avx512": "__import__('torch').backends.cpu.get_cpu_capability() == 'AVX2'",
    "locale": "__import__('locale').localeconv()['decimal_point'] == ',' "
    "and __import__('locale').getencoding() == 'ISO-8859-1'",
    "path": "'Übungen, zu Hause' in __import__('os').getcwd()",
    "home": "not __import__('os').path.isdir(__import__('os').path.expanduser('~'))",
    "twice": "bool(globals().get('seen')) or bool(globals().update(seen=True))",
    "crlf": "b'\\r\\n' in open('../conftest.py', 'rb').read()",
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "metadata", "problem"),
    [
        ("1 / 0", {}, "cell 2: ZeroDivisionError: division by zero"),
        ("1 / 0", {"tags": ["raises-exception"]}, None),
        ("import sys; print('late', file=sys.stderr)", {}, "cell 2: on stderr: late"),
        ("x = 1", {"promise": ["x > 1"]}, "cell 2: the promise 'x > 1' is broken"),
        ("import os; os._exit(1)", {}, "cell 2: .*died"),
    ],
)
def test_what_is_wrong_in_a_lesson_is_found(tmp_path, source, metadata, problem):
    """An error, stderr, a broken promise, a dead kernel: with the number of the cell."""
    cells = [new_code_cell("print('begun')"), new_code_cell(source, metadata=metadata)]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = (new_notebook(cells=cells), tmp_path, sys.executable, environ, False)
    if problem is None:
        environments.execute(*run)
        return
    with pytest.raises(Wrong, match=problem):
        environments.execute(*run)


@pytest.mark.slow
def test_another_copy_of_the_module_is_found(tmp_path):
    """Alone in a folder, a lesson that takes lessons_src from a checkout is not ok."""
    lesson = tmp_path / "a.ipynb"
    nbformat.write(new_notebook(cells=[new_code_cell("x = 1")]), lesson)
    with pytest.raises(Wrong, match="lessons_src came from"):
        environments.run_alone(lesson, tmp_path / "run", Path(sys.executable), set())


@pytest.mark.slow
def test_what_a_lesson_changes_is_found(tmp_path):
    """A package that was replaced, and a file that was left."""
    lesson = tmp_path / "a.ipynb"
    lesson.touch()
    environments.expect_all_is_left(lesson, set(), standin=False)
    with pytest.raises(Wrong, match="replaced or removed: torch-2.11.0"):
        environments.expect_all_is_left(lesson, {"torch-2.11.0"}, standin=False)
    (tmp_path / "weights.pt").touch()
    with pytest.raises(Wrong, match="left files beside itself: weights.pt"):
        environments.expect_all_is_left(lesson, set(), standin=True)


def test_environments_go_by_name_and_by_kind():
    """`threads` is three of them, `cheap` all that install nothing."""
    assert environments.chosen(["colab"]) == ["colab"]
    assert environments.chosen(["threads"]) == ["threads-1", "threads-2", "threads-4"]
    assert environments.chosen(["cheap"]) == list(environments.VARIED)
    with pytest.raises(SystemExit, match="no environment 'colap'; there are: colab"):
        environments.chosen(["colap"])


def python_like(path, version):
    """A command that answers as a Python of this version does; None: it does not run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = "exit 127" if version is None else f"echo {version}"
    path.write_text(f"#!/bin/sh\n{lines}\n", encoding="utf-8")
    path.chmod(0o755)
    return str(path)


@pytest.mark.skipif(os.name == "nt", reason="commands are shell scripts here")
def test_a_python_is_found_where_pyenv_hides_it(tmp_path, monkeypatch):
    """A shim that does not run, and one of another version, are passed over. Of pyenv's
    own, the newest is taken: 3.90.10 is newer than 3.90.9."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    assert environments.found("3.90") is None
    for patch in ("9", "10"):
        hidden = tmp_path / f"versions/3.90.{patch}/bin/python"
        hidden = python_like(hidden, "3.90")
    for answer in (None, "3.89"):
        shim = python_like(tmp_path / "python3.90", answer)
        assert environments.found("3.90") == hidden
    assert environments.found("3.90") != python_like(Path(shim), "3.90")


def test_a_python_that_is_missing_ends_the_command(tmp_path, monkeypatch):
    """Before anything is installed or run, and another is not taken in its place."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    monkeypatch.setitem(environments.INSTALLED, "newest", ("3.99", "torch"))
    monkeypatch.setattr(environments, "prepared", lambda *_: pytest.fail("it was run"))
    with pytest.raises(SystemExit, match="newest is for Python 3.99, .*--python"):
        environments.main(["path", "newest", "--folder", str(tmp_path)])


def test_the_weekly_workflow_has_each_environment_and_its_python():
    """All names are run, by name or as `cheap`, and each Python is set up."""
    text = (ROOT / ".github/workflows/test.yml").read_text(encoding="utf-8")
    job = yaml.safe_load(text)["jobs"]["environments"]
    names = [name.split()[0] for name in job["strategy"]["matrix"]["names"]]
    run = {name for word in names for name in environments.chosen([word])}
    assert run == {*environments.INSTALLED, *environments.VARIED}
    (setup,) = (s["with"] for s in job["steps"] if "setup-python" in s.get("uses", ""))
    wanted = {version for version, _ in environments.INSTALLED.values()}
    assert set(setup["python-version"].split()) == wanted


def test_the_exit_status_and_the_table_tell(monkeypatch, capsys, tmp_path):
    """1 where one lesson failed in one environment; a column for each of them."""

    def compare(name, lesson, folder, python):
        if name == "home":
            raise Wrong("FAILED cell 3")

    monkeypatch.setattr(environments, "compare", compare)
    options = ["--lessons", "01", "02", "--folder", str(tmp_path)]
    assert environments.main(["path", *options]) == 0
    assert environments.main(["path", "home", *options]) == 1
    text = capsys.readouterr().out
    assert "| 02_data_and_baselines | ok, 0 s | FAILED, 0 s |" in text
    assert "home       02_data_and_baselines        FAILED cell 3" in text


@pytest.mark.sweep
@pytest.mark.parametrize("name", TRUE_THERE)
def test_a_varied_environment_is_what_it_says(name, tmp_path, monkeypatch):
    """A lesson that prints what is true in this environment alone passes there, and not
    elsewhere."""
    course = tmp_path / "course"
    environments.copy_checkout(course, LESSONS[0], crlf=False)
    (course / "lessons_src/data.py").write_text(NO_DATA, encoding="utf-8")
    output = new_output("stream", name="stdout", text="True\n")
    source = f"print({TRUE_THERE[name]})"
    cell = new_code_cell(source, outputs=[output], execution_count=1)
    lesson = course / "lessons/a.ipynb"
    nbformat.write(new_notebook(cells=[cell]), lesson)
    monkeypatch.setattr(environments, "ROOT", course)
    environments.compare(name, lesson, tmp_path, sys.executable)
    with pytest.raises(Wrong, match="FAILED"):
        environments.compare("threads-1", lesson, tmp_path, sys.executable)
