"""The page about cost: its numbers are the records'."""

import ast
import json
import math
import re
import shutil

import IPython.display
import pytest
from built_book import DESK, PHONE, on_disk
from lesson_source import LESSONS, ROOT, cells, tags

import benchmarks.classroom
from lessons_src import figures
from lessons_src import records as records_module

PAGE = "../book/cost"
CODE = [cell for cell in cells(PAGE) if cell.cell_type == "code"]
NAMES = ("cost", "classroom", "race")


def said(cell) -> str:
    """What a stored cell shows: print, Markdown and figures alike."""
    kinds = ("text/markdown", "image/svg+xml", "text/html")
    parts = [o.text if "text" in o else o.get("data", {}) for o in cell.outputs]
    return "\n".join(
        p if isinstance(p, str) else next(p[kind] for kind in kinds if kind in p)
        for p in parts
    )


def stored() -> str:
    return "\n".join(map(said, CODE))


@pytest.fixture
def page(monkeypatch, tmp_path, capsys):
    """Run the page's cells on the records as they are, some of them changed: what it
    shows, and its namespace."""

    def run(**changed):
        shown = []
        folder = tmp_path / "records"
        shutil.copytree(records_module.FOLDER, folder)
        monkeypatch.setattr(records_module, "FOLDER", folder)
        monkeypatch.setattr(IPython.display, "display", lambda m: shown.append(m.data))
        monkeypatch.setattr(figures, "show_picture", lambda made: shown.append(made.svg))
        for name, record in changed.items():
            (folder / f"{name}.json").write_text(json.dumps(record), encoding="utf-8")
        namespace = {}
        for cell in CODE:
            if "setup" not in tags(cell):
                exec(compile(cell.source, "cost.ipynb", "exec"), namespace)
                shown.append(capsys.readouterr().out)
        return "\n".join(shown), namespace

    return run


def classroom(**changed):
    lessons = [
        {
            "lesson": "01_a",
            "processor_seconds": 12.0,
            "memory": 1e9,
            "seconds": 9.0,
            "own": 1,
        },
        {
            "lesson": "02_b",
            "processor_seconds": 24.0,
            "memory": 8e8,
            "seconds": 9.0,
            "own": 1,
        },
    ]
    disk = {
        "environment": 6e9,
        "cuda": 4e9,
        "data": 40e6,
        "repository": 20e6,
        "book": None,
    }
    machine = {"name": "a processor", "threads": 2, "torch": "2"}
    return {
        "date": "2026-01-01",
        "command": "python -m benchmarks.classroom",
        "machine": machine,
        "imports": lessons[0],
        "lessons": lessons,
        "disk": disk,
    } | changed


def test_a_plan_is_the_formulas_above_it(page):
    """Thirty students, the longest lesson's 24 s on 8 cores: 90 s. Thirty times the
    largest memory, 1 GB, and 2 GB for the system: 32 GB. 40 MB thirty times over
    100 Mbit/s: 96 s."""
    _, names = page(classroom=classroom())
    made = names["plan"](30, 8, 100)
    assert made["wait if all run at once (min)"] == pytest.approx(90 / 60)
    assert made["memory (GB)"] == pytest.approx(32)
    assert made["data to every laptop (min)"] == pytest.approx(96 / 60)
    assert made["disk (GB)"] == pytest.approx(6.06)
    assert made["environment to every laptop (min, at most)"] == pytest.approx(
        30 * 480 / 60
    )
    assert names["busy"](30, 8, 90) == pytest.approx(30 * 24 / (90 * 60 * 8))


def test_a_lower_bound_is_called_one(page):
    """A tutorial that never got there: "at least", before its seconds and the ratio.
    A goal that the course missed has no ratio."""
    theirs = {"recipe": "R", "epochs": 9, "published_epochs": 4}
    theirs |= {"prepare": {"median": 0.25}}
    bound = {
        "what": "x",
        "name": "mlp-97",
        "theirs": theirs | {"seconds": {"median": 20}},
        "ours": {"seconds": {"median": 2}, "prepare": {"median": 0.5}},
        "others": [],
        "ratio": {"median": 12, "low": 10},
        "parts": {"loader": 4, "network": 1, "epochs": 2.5, "rest": 1, "product": 10},
        "dates": ["2026-01-01"],
        "at_least": True,
    }
    missed = bound | {"what": "y", "ratio": None, "at_least": False, "parts": None}
    first = bound | {"what": "a pass"}
    alone = bound | {"what": "z", "theirs": None, "parts": None}
    renewed = [{"date": "2026-01-02", "why": "a new network"}]
    record = classroom(limit=20, targets=[first, bound, missed, alone], renewed=renewed)
    shown, _ = page(race=record)
    assert "Rows renewed: 1 (2026-01-02, a new network)." in shown
    by = "R, 9 epochs (its recipe: 4)"
    assert f"| x | {by} | at least 20.0 | 2.00 | at least 10 |" in shown
    assert f"| y | {by} | 20.0 | 2.00 | goal not reached |" in shown
    made_of = "4.00 | 1.00 | at least 2.50 | 1.00 | 0.25 | 0.50"
    assert f"| x | 10 | {made_of} |" in shown and "| z |" not in shown


def test_stored_as_run():
    """From the first cell to the last, without an error or a warning."""
    assert [c.execution_count for c in CODE] == list(range(1, len(CODE) + 1))
    kinds = {(o.output_type, o.get("name")) for c in CODE for o in c.outputs}
    assert kinds <= {("display_data", None), ("stream", "stdout")}
    assert not any({"nbval-ignore-output", "nbval-skip"} & set(tags(c)) for c in CODE)


def test_its_numbers_are_the_records(page):
    """The stored page says what its cells say of today's records, to the letter."""
    records = {name: records_module.recorded(name) for name in NAMES}
    shown, _ = page()

    def words(text):
        text = re.sub(r"(?s)<svg.*?</svg>|<p class=.*?</p>", "", text)
        return text.split()

    assert words(shown) == words(stored())
    for one in records.get("classroom", {}).get("lessons", []):
        name = one["lesson"]
        row = (
            f"| `{name}` | {one['processor_seconds']:.0f} | {one['memory'] / 1e6:,.0f} |"
        )
        assert row in stored()
    for name in ("parameters", "batch", "examples") if "cost" in records else ():
        for line in records["cost"][name].values():
            slopes = f"{line['slope']:.2f} | {line['slope_of_largest']:.2f}"
            assert f"| {slopes} |" in stored()


def test_every_lesson_is_measured():
    """The command knows all of them, and the record has all that it knows."""
    names = [path.stem.split("_", 1)[1] for path in LESSONS]
    assert list(benchmarks.classroom.LESSONS) == names
    recorded = records_module.recorded("classroom").get("lessons", [])
    missing = sorted(set(names) - {one["lesson"] for one in recorded})
    assert not missing, (
        f"not measured: {', '.join(missing)}. On a machine that does nothing else: "
        "python -m benchmarks.classroom, then python -m tools.store book/cost.ipynb"
    )
    assert max(one["memory"] for one in recorded) < 2 * 2**30


def test_no_measured_number_is_typed():
    """Its Markdown holds no seconds, no share, no bytes: code makes such sentences."""
    text = "\n".join(c.source for c in cells(PAGE) if c.cell_type == "markdown")
    text = re.sub(r"(?s)```.*?```|\$[^$\n]*\$", "", text)
    assert not re.search(
        r"\d[\d.,]* ?(?:%|seconds?\b|s\b|ms\b|[GM]B\b|GFLOP|times)", text
    )


def test_figures_have_alt_text_and_the_palette():
    """Every figure says what is to be seen, and no colour is its own."""
    for svg in re.findall(r"<svg[^>]*>", stored()):
        assert len(re.search(r'aria-label="([^"]*)"', svg)[1]) >= 20
    for cell in CODE:
        ast.parse(cell.source)
        assert not re.search(r"#[0-9a-fA-F]{6}\b", cell.source)


def test_the_page_is_in_the_book_and_is_stored():
    """In the contents, and in what the storing tool stores."""
    from tools import store

    assert "file: book/cost" in (ROOT / "_toc.yml").read_text(encoding="utf-8")
    assert ROOT / "book" / "cost.ipynb" in store.notebooks()
    setup = next(c.source for c in cells("images_as_tensors") if c.cell_type == "code")
    assert CODE[0].source == setup, "the set-up cell is one text everywhere"


def test_planners_see_no_reporting_code():
    """Of the code, only what is theirs to change or to read: the plan's formulas."""
    shown = [c.source for c in CODE if not {"remove-input", "setup"} & set(tags(c))]
    for source in shown:
        assert re.match(r"def (plan|busy)\(|plans = ", source), (
            f"tag the cell remove-input:\n{source}"
        )


def test_the_finding_is_a_picture_before_any_table():
    """The first thing that the page shows is a figure, and every figure has a caption."""
    kinds = [set(o.get("data", {})) for c in CODE for o in c.outputs]
    assert "image/svg+xml" in kinds[0], "the page begins with a table"
    assert 'class="nn-alt"' not in stored(), "a figure without a caption"


def test_the_axis_begins_where_something_is(page):
    """Figure 1: the first dot stands in the first tenth of the axis."""
    from matplotlib import pyplot as plt

    plt.close("all")
    _, namespace = page()
    namespace["show"] = lambda *args, **kwargs: None
    namespace["poster"]()
    low, high = plt.gcf().axes[0].get_xlim()
    first = min(ours for _, _, ours, ratio in namespace["goals"][1:] if ratio)
    plt.close("all")
    assert 0 < math.log(first / low) / math.log(high / low) < 0.1, "mend xlim in poster()"


@pytest.mark.slow
def test_a_phone_sees_long_tables_folded(visit):
    """Their heads can be read, and open them; the page is less than 16 screens. On a desk
    and on paper all tables are open."""
    tab = visit(on_disk("book/cost"), PHONE, "dark")
    tables, folds = tab.locator("table.nn-cards"), tab.locator(".nn-long")
    shown = tables.evaluate_all("all => all.filter(e => e.checkVisibility()).length")
    assert 0 < folds.count() == tables.count() - shown, (
        "fold_if_long in tools/page_blocks.py"
    )
    height = tab.evaluate("document.documentElement.scrollHeight")
    assert height < 16 * PHONE["height"], "fold a long table: tools/page_blocks.py"
    folds.first.locator("summary").click()
    assert folds.first.locator("td").first.is_visible()
    for change in ({"viewport": DESK}, {"media": "print"}):
        if "media" in change:
            tab.emulate_media(media="print")
        else:
            tab.set_viewport_size(DESK)
        seen = """contentVisibilityAuto => [...document.querySelectorAll('table')].every(
            e => e.checkVisibility({contentVisibilityAuto}) && e.clientHeight > 50)"""
        assert tab.evaluate(seen, True), f"a table is folded: {change}"
