"""The storing tool, and the masks with which outputs are compared."""

import copy
import re
from types import SimpleNamespace

import nbformat
import pytest
from lesson_source import ROOT
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from nbval.plugin import get_sanitize_patterns

from tools import promises, publish, store

MEASURED = (
    '<svg class="measured" role="img" aria-label="{}" viewBox="0"><path d="M {}"/></svg>'
)
EXACT = MEASURED.replace("measured", "exact")


def sanitised(text):
    for regex, replacement in get_sanitize_patterns(
        (ROOT / "tests/sanitise.cfg").read_text(encoding="utf-8")
    ):
        text = re.sub(regex, replacement, text)
    return text


def notebook(*sources):
    return new_notebook(cells=[new_code_cell(s) for s in sources])


def run(nb, tmp_path):
    path = tmp_path / "lesson.ipynb"
    nbformat.write(nb, path)
    return store.normalised(store.executed(nb, path))


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (
            "epoch 1/3  loss 0.41  train 88.60%  0.4 s",
            "epoch 1/3  loss 0.42  train 88.50%  1.4 s",
        ),
        ("PyTorch 2.14.1, Python 3.11.7, cpu", "PyTorch 2.11.0, Python 3.12.1, cuda"),
        (MEASURED.format("A rise", 1), MEASURED.format("A rise", 2)),
    ],
)
def test_measured_numbers_are_masked(a, b):
    """What a measurement may change is equal after masking."""
    assert sanitised(a) == sanitised(b)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("epoch 1/3  loss 0.4", "epoch 1/2  loss 0.4"),
        ("p = 0.6652", "p = 0.6653"),
        ("loss 0.41", "loss 0.42"),
        ("**half** of 10", "**half** of 11"),
        ("| 3 | 0.5 |", "| 3 | 0.6 |"),
        ("✓ softmax: 4 of 4 checks passed", "✓ softmax: 3 of 3 checks passed"),
        (MEASURED.format("A rise", 1), MEASURED.format("A fall", 1)),
        (EXACT.format("A rise", 1), EXACT.format("A rise", 2)),
    ],
)
def test_everything_else_is_compared_to_the_letter(a, b):
    """Deterministic digits, promises and alt texts still differ after masking."""
    assert sanitised(a) != sanitised(b)


def test_the_standins_mask_keeps_the_form():
    """On the stand-in digits and pictures fall away; words and line breaks stay."""
    assert promises.in_form("label 5, sum 27,525\nmean 0.13") == promises.in_form(
        "label 7, sum 1,019\nmean 0.2"
    )
    assert promises.in_form("label 5") != promises.in_form("labels 5")
    assert promises.in_form("1\n2") != promises.in_form("1")


@pytest.mark.slow
def test_storing_twice_changes_nothing(tmp_path):
    """Widget ids, cell ids and timings are normalised: a second run changes no byte."""
    nb = notebook(  # as in lessons_src.interactive, but without waiting twice for torch
        "import ipywidgets as w\n"
        "radio = w.RadioButtons(options=['a', 'b'])\n"
        "stack = w.Stack([w.HTML('x'), w.HTML('y')])\n"
        "w.jslink((radio, 'index'), (stack, 'selected_index'))\n"
        "w.VBox([radio, stack])",
        "import time\nprint(f'epoch 1/1  {time.time()}')",
    )
    first, second = run(nb, tmp_path), run(nb, tmp_path)
    assert store.same(first, second)
    first.cells[1].outputs = second.cells[1].outputs = []
    assert nbformat.writes(first) == nbformat.writes(second)
    state = first.metadata.widgets[store.WIDGETS]["state"]
    assert set(state) == {f"{k:032x}" for k in range(1, len(state) + 1)}
    assert sum(model["model_name"] == "LinkModel" for model in state.values()) == 1


def test_a_changed_output_is_seen():
    """One digit of a deterministic output makes the difference."""
    first = notebook("print(1 + 1)")
    first.cells[0].outputs = [new_output("stream", name="stdout", text="2\n")]
    second = copy.deepcopy(first)
    assert store.same(first, second)
    second.cells[0].outputs[0].text = "3\n"
    assert not store.same(first, second)


def warning():
    cell = new_code_cell("warn()", id="a")
    cell.outputs = [new_output("stream", name="stderr", text="old\n")]
    return new_notebook(cells=[cell])


def test_stderr_is_not_stored():
    """A warning is an error that names the cell and says what was written."""
    with pytest.raises(ValueError, match=r"wrote to stderr.*stored:\nwarn\(\)\n\nold"):
        store.normalised(warning())


def test_storing_ends_at_a_warning_and_leaves_the_file(monkeypatch, capsys, tmp_path):
    """The lesson is named, the exit status is 1, and no byte of the file has changed."""
    path = tmp_path / "lesson.ipynb"
    nbformat.write(notebook("warn()"), path)
    before = path.read_bytes()
    monkeypatch.setattr(store.data, "load", lambda _: SimpleNamespace(standin=False))
    monkeypatch.setattr(store, "executed", lambda *_: warning())
    assert store.main([str(path)]) == 1
    assert "lesson.ipynb: A cell wrote to stderr" in capsys.readouterr().err
    assert path.read_bytes() == before


def test_the_notebook_given_is_not_changed():
    """`normalised` returns a copy: publishing and storing decide what is written."""
    given = notebook("\n1\n", "quiz('?')")
    before = copy.deepcopy(given)
    assert store.normalised(given).cells[1].metadata["tags"] == ["hide-input"]
    assert given == before


def test_a_layout_keeps_only_what_was_set():
    """None is the default of each; other models keep theirs, where None is a choice."""
    layout = {"model_name": "LayoutModel", "state": {"width": "auto", "height": None}}
    assert store.without_defaults(layout)["state"] == {"width": "auto"}
    assert layout["state"] == {"width": "auto", "height": None}
    stack = {"model_name": "StackModel", "state": {"selected_index": None}}
    assert store.without_defaults(stack) == stack


def test_the_standin_is_never_stored(monkeypatch, capsys):
    """`make lessons` refuses before it runs anything."""
    monkeypatch.setenv("LESSONS_DATA", "standin")
    monkeypatch.setattr(store, "executed", lambda *_: pytest.fail("ran"))
    assert store.main([]) == 1
    assert "stored from the real data only" in capsys.readouterr().out


@pytest.mark.parametrize(("others", "told"), [(3.0, False), (60.0, True)])
def test_a_busy_machine_is_told_before_a_lesson_is_run(
    others, told, monkeypatch, capsys, tmp_path
):
    """Seconds measured beside another training are wrong, and look like any others."""
    path = tmp_path / "lesson.ipynb"
    nbformat.write(notebook("1"), path)
    monkeypatch.setattr(store.data, "load", lambda _: SimpleNamespace(standin=False))
    monkeypatch.setattr(store.psutil, "cpu_percent", lambda interval: others)
    monkeypatch.setattr(store, "executed", lambda nb, _: (print("[it ran]"), nb)[1])
    assert store.main([str(path)]) == 0
    before, _, _ = capsys.readouterr().out.partition("[it ran]")
    assert ("lesson.ipynb: other programs take 60% of the processor" in before) == told
    assert ("--fresh" in before) == told


def test_a_quiz_does_not_show_its_answer():
    """The code of a quiz is folded, in the book and in Jupyter."""
    cell = new_code_cell("quiz('?', {'a': 'x', 'b': 'y'}, 'a')")
    (folded,) = store.normalised(new_notebook(cells=[cell])).cells
    assert (
        folded.metadata.tags == ["hide-input"] and folded.metadata.jupyter.source_hidden
    )


def test_ids_depend_on_the_source_alone():
    """A new cell in front leaves the ids of those behind it; equal cells differ."""
    cells = [new_markdown_cell("a"), new_code_cell("b"), new_code_cell("b")]
    first = store.normalised(new_notebook(cells=cells))
    second = store.normalised(new_notebook(cells=[new_markdown_cell("new"), *cells]))
    assert [c.id for c in first.cells] == [c.id for c in second.cells][1:]
    assert len({c.id for c in second.cells}) == 4
    nbformat.validate(second)


def test_publishing_stamps_config_and_lessons(tmp_path):
    """The address is in _config.yml and in each set-up cell; a second stamp moves it."""
    (tmp_path / "lessons").mkdir()
    (tmp_path / "_config.yml").write_text(
        (ROOT / "_config.yml").read_text(encoding="utf-8"), encoding="utf-8"
    )
    cell = new_code_cell(
        publish.setup_cell("https://x.invalid/course"), metadata={"tags": ["setup"]}
    )
    cell.outputs = [new_output("stream", name="stdout", text="kept\n")]
    cell.execution_count = 1
    nbformat.write(new_notebook(cells=[cell]), tmp_path / "lessons/01_a.ipynb")
    for url in (
        "https://github.com/someone/course",
        "https://github.com/else/course.git",
    ):
        assert len(publish.publish(url, tmp_path)) == 2
        clean = url.removesuffix(".git")
        config = (tmp_path / "_config.yml").read_text(encoding="utf-8")
        assert f"  url: {clean}\n" in config and "colab.research.google.com" in config
        # Colab opens the notebook of the version whose module it fetches
        assert f"  branch: {publish.tag()}\n" in config
        stamped = nbformat.read(tmp_path / "lessons/01_a.ipynb", as_version=4).cells[0]
        assert stamped.source == publish.setup_cell(clean)
        assert stamped.outputs[0].text == "kept\n"


@pytest.mark.parametrize(
    "url", ["", "github.com/a/b", "https://example.com/a/b", "https://github.com/a"]
)
def test_a_bad_address_is_refused(url, tmp_path):
    """Only an address of a repository; the message shows the form."""
    with pytest.raises(ValueError, match="expected URL=https://github.com/owner/name"):
        publish.publish(url, tmp_path)


def test_a_traceback_is_the_readers_own_lines():
    """Frames inside packages become one line; the cell's own and the message stay."""
    package = (
        "\x1b[36mFile \x1b[39m\x1b[32m/x/site-packages/torch/nn/modules/linear.py:134"
    )
    frames = [
        "-----",
        "Traceback",
        "Cell In[1], line 1",
        package,
        package,
        "RuntimeError: shapes",
    ]
    kept = store.without_packages(frames)
    assert kept[:3] == frames[:3] and kept[-1] == frames[-1] and len(kept) == 5
    assert kept[3] == "    (through 2 calls inside installed packages)"
    assert store.without_packages(frames[:3]) == frames[:3]
