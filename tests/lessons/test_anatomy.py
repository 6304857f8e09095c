"""Every lesson keeps the anatomy, and was stored as run. Each test's docstring is its
claim."""

import ast
import json
import re

import pytest
from lesson_source import LESSONS, ROOT, cells, notebook, tags

from lessons_src.figures import PALETTE
from tools.citations import address_of, entries, label

LABELS = {
    "derivation": "Derivation",
    "result": "Result",
    "published": "Published elsewhere",
    "failure": "Goes wrong on purpose",
}
NAMES = [path.stem for path in LESSONS]
PAGES = [f"../book/{path.stem}" for path in sorted((ROOT / "book").glob("*.ipynb"))]
REPORTS = r"(record\w*|measured|show_\w+|\w*_row|shown_\w+)"  # names of reporting helpers
FORMATS = {"gradients_to_trust": {"short"}}  # by lesson: writes one number of a table
MOST_ORANGE = {"cnn_fashion_mnist": 1}  # the sample that R4's loop takes
every_lesson = pytest.mark.parametrize("lesson", NAMES)


def code(lesson):
    return [cell for cell in cells(lesson) if cell.cell_type == "code"]


def prose(lesson):
    return [cell.source for cell in cells(lesson) if cell.cell_type == "markdown"]


def read(lesson):
    """The code cells that are not folded."""
    folds = {"hide-input", "hide-cell", "remove-cell", "setup", "solution"}
    return [c for c in code(lesson) if not folds & set(tags(c))]


def outputs(lesson, mime):
    return [
        o.data[mime] for c in code(lesson) for o in c.outputs if mime in o.get("data", {})
    ]


def block(lesson, kind):
    pattern = rf'(?s)<blockquote class="nn-{kind}">(.*?)</blockquote>'
    return re.findall(pattern, "\n\n".join(prose(lesson)))


def test_there_are_lessons():
    """The tests below run on something."""
    assert NAMES


@every_lesson
def test_stored_as_executed_in_order(lesson):
    """Every code cell holds the outputs of one run from top to bottom: nbval compares
    them all."""
    assert [c.execution_count for c in code(lesson)] == list(
        range(1, len(code(lesson)) + 1)
    )


@every_lesson
def test_no_stderr_is_stored(lesson):
    """No reader sees a warning."""
    stderr = [o for c in code(lesson) for o in c.outputs if o.get("name") == "stderr"]
    assert not stderr


@every_lesson
def test_errors_are_only_where_they_are_meant(lesson):
    """A cell that raises says so by its tag, and one that says so raises."""
    for cell in code(lesson):
        raises = any(o.output_type == "error" for o in cell.outputs)
        assert raises == ("raises-exception" in tags(cell)), cell.source


@every_lesson
def test_at_most_one_cell_is_not_compared(lesson, capsys):
    """nbval ignores the output of one cell at most, as the README says; which and why."""
    ignored = [c for c in code(lesson) if "nbval-ignore-output" in tags(c)]
    with capsys.disabled():
        for cell in ignored:
            print(f"\n  not compared in {lesson}: {cell.source.splitlines()[0]}", end="")
    assert len(ignored) <= 1
    for cell in ignored:
        assert re.search(r"^# Not compared: .*download", cell.source), (
            "its first line gives the reason"
        )
    assert not any("nbval-skip" in tags(c) or "NBVAL" in c.source for c in code(lesson))


@every_lesson
def test_what_records_hold_is_compared_to_the_letter(lesson):
    """A promise makes nbval compare a cell's numbers in their form; those that come from
    records are the same everywhere, and must be today's."""
    for cell in code(lesson):
        if "promise" in cell.metadata and cell.outputs and "recorded(" in cell.source:
            assert {"recorded", "data"} & set(tags(cell)), (
                "tag it 'recorded', or 'data' where it computes too: " + cell.source
            )


@every_lesson
def test_opens_with_its_question(lesson):
    """A lesson starts with its title and a card: question, abilities, minutes of reading
    and of exercises, what it needs."""
    assert re.match(r"# \S", prose(lesson)[0])
    (card,) = block(lesson, "card")
    for part in ("**Question.**", "**You will be able to**", "**Before this**"):
        assert part in card, part
    reading, exercises = re.search(
        r"\*\*Reading\*\* (\d+) minutes · \*\*exercises\*\* (\d+) minutes", card
    ).groups()
    assert int(reading) <= 45
    minutes = re.findall(
        r"\((?:easy|medium|hard), (\d+) minutes\)", "".join(prose(lesson))
    )
    assert int(exercises) == sum(map(int, minutes))


@every_lesson
def test_is_one_sitting(lesson):
    """At most 2,600 words, formulas aside, and ten sections; the last three are the
    exercises, what was learned, and the references."""
    text = "\n".join(prose(lesson))
    words = re.sub(r"(?s)\$\$.*?\$\$|\$[^$\n]+\$|<[^>]+>", " ", text).split()
    assert len(words) <= 2600
    sections = re.findall(r"^## (.*)$", text, re.M)
    assert len(sections) <= 10
    assert sections[-3:] == ["Exercises", "What you learned", "References"]


@every_lesson
def test_has_interactive_parts(lesson):
    """At least one stepper and two quizzes."""
    plain = outputs(lesson, "text/plain")
    assert sum(text.startswith("Stepper over") for text in plain) >= 1
    assert sum(text.startswith("Quiz:") for text in plain) >= 2
    assert "widgets" in notebook(lesson).metadata, (
        "widget state must be stored for the page"
    )
    quizzes = [
        c for c in code(lesson) if "quiz(" in c.source and "def quiz" not in c.source
    ]
    assert all("hide-input" in tags(c) for c in quizzes), "a quiz's code holds its answer"


@every_lesson
def test_exercises_have_checker_hint_and_solution(lesson):
    """Three exercises or more, each with minutes and a hint, a stub that its checker
    calls "not attempted yet", and a solution that promises to pass the same checker. The
    last one is the blank file."""
    tasks = block(lesson, "exercise")
    stubs = [c for c in code(lesson) if "exercise" in tags(c)]
    solutions = [c for c in code(lesson) if "solution" in tags(c)]
    assert len(tasks) >= 3 and len(tasks) == len(stubs) == len(solutions)
    for number, (task, stub, solution) in enumerate(
        zip(tasks, stubs, solutions, strict=True), 1
    ):
        assert f"**Exercise {number} · " in task
        assert re.search(r"\((easy|medium|hard), \d+ minutes\)", task)
        assert '<details class="nn-hint">' in task
        assert "hide-input" in tags(solution)
        (name,) = re.findall(r"^check\.(\w+)\(", stub.source, re.M)
        assert "not attempted yet" in stub.outputs[0].text
        (tried,) = solution.metadata["promise"]
        assert re.fullmatch(rf"check\.{name}\.accepts\({name}(, \w+)*\)", tried)
        assert "check." not in solution.source and not solution.outputs
    assert "The blank file" in tasks[-1]


@every_lesson
def test_what_the_reader_solved_is_counted(lesson):
    """A run of all cells solves nothing: the lesson's own solutions are not counted."""
    (total,) = (c for c in code(lesson) if c.source == "summary()")
    n = sum("exercise" in tags(c) for c in code(lesson))
    assert total.outputs[0].text == f"0 of {n} exercises solved\n"


@every_lesson
def test_has_its_blocks(lesson):
    """A derivation or result, a failure on purpose, a summary of five points,
    references."""
    assert block(lesson, "failure") and block(lesson, "summary")
    (summary,) = block(lesson, "summary")
    assert len(re.findall(r"^(?:\d+\.|-) ", summary, re.M)) == 5
    assert re.search(r"^## References", "\n".join(prose(lesson)), re.M)
    assert re.search(r"^- (\[|\*|\w)", prose(lesson)[-1], re.M)


@every_lesson
def test_figures_carry_alt_text_and_a_form_for_every_viewer(lesson):
    """Every figure is an SVG with an alt text and a PNG, without HTML that Jupyter would
    prefer; its words stand below it."""
    shown = [o for c in code(lesson) for o in c.outputs if "data" in o]
    for figure, below in zip(shown, [*shown[1:], None], strict=True):
        if "image/svg+xml" not in figure.data:
            assert not any(kind.startswith("image/") for kind in figure.data)
            continue
        assert set(figure.data) == {"image/svg+xml", "image/png", "text/plain"}
        svg = re.search(r"<svg[^>]*>", figure.data["image/svg+xml"])[0]
        assert len(re.search(r'aria-label="([^"]*)"', svg)[1]) >= 20
        assert re.match('<p class="nn-(alt|caption)">', below.data["text/html"])
    assert not re.search(r"!\[\s*\]\(", "\n".join(prose(lesson)))


@every_lesson
def test_a_promised_range_is_no_formality(lesson):
    """Ends that lie further apart than four powers of ten promise nothing: one end does."""
    for promise in (p for c in code(lesson) for p in c.metadata.get("promise", [])):
        ends = re.fullmatch(r"(\d[\d.e-]*) <=? .+ <=? (\d[\d.e-]*)", promise)
        low, high = map(float, ends.groups()) if ends else (0, 0)
        assert high <= 1e4 * low or low == 0, f"write one end: {promise}"


@every_lesson
def test_no_figure_calls_ink_black(lesson):
    """What is drawn in the page's ink is white on a dark page, and dark tints are light."""
    drawn = r"line|dot|dots|curve|border|bar|bars|mark|arrow|path|circle"
    for cell in code(lesson):
        words = re.sub(r'"\s*f?"', "", cell.source)  # a string over several lines
        assert not re.search(rf"\bblack ({drawn})\b|\bBlack:|the darker\b", words), words


@every_lesson
def test_no_line_stays_black_on_a_dark_page(lesson):
    """matplotlib's own black follows no theme; `figures.INK` does."""
    for cell in code(lesson):
        for output in cell.outputs:
            drawing = output.get("data", {}).get("image/svg+xml", "")
            assert "#000000" not in drawing, f"give it color=INK: {cell.source[:300]}"


@every_lesson
def test_every_figure_has_a_numbered_caption_that_states_its_finding(lesson):
    """Figure 1, 2, 3 ... in order, steppers among them: a sentence, then how to read it.
    Prose names only figures that are there."""
    captions = []
    for out in (o for c in code(lesson) for o in c.outputs if "data" in o):
        words = out.data.get("text/html", "")
        if (
            "nn-alt" in words
            or words.startswith("<p><b>Stepper")
            or "nn-caption" in words
        ):
            captions += re.findall(r'nn-caption">(.*?)</p>', words) or ["no caption"]
    for number, caption in enumerate(captions, 1):
        assert re.match(rf"<b>Figure {number}\. .{{15,}}?[.?!]</b>", caption), caption
    named = re.findall(r"Figures? (\d+)", "\n".join(prose(lesson)))
    assert set(map(int, named)) <= set(range(1, len(captions) + 1))


@every_lesson
def test_is_seen_before_it_is_read(lesson):
    """The poster, the figure that answers the question, follows the card at once; its
    code needs nothing but itself and nothing needs it."""
    (poster,) = (c for c in code(lesson) if "poster" in tags(c))
    assert [c.cell_type for c in cells(lesson)[:4]] == ["markdown"] * 2 + ["code"] * 2
    assert poster is cells(lesson)[3] and "hide-input" in tags(poster)
    assert any(
        "nn-caption" in o.get("data", {}).get("text/html", "") for o in poster.outputs
    )


@every_lesson
def test_markdown_is_what_every_viewer_shows(lesson):
    """CommonMark with formulas: no role, no directive, no label, no box of our own alone."""
    text = "\n".join(prose(lesson))
    assert not re.search(
        r"\{[a-z]+(:[a-z]+)?\}`|\$\$ *\(eq-|^:::|^```\{|<div", text, re.M
    )
    for kind, word in LABELS.items():
        for box in block(lesson, kind):
            assert box.startswith(f"\n\n**{word}**\n\n"), box[:60]


@every_lesson
def test_equations_are_numbered_in_their_order(lesson):
    """`\\tag{n}` counts from 1, its anchor stands before it, and a link shows its number."""
    text = "\n".join(prose(lesson))
    anchor = r'<a id="(eq-[\w-]+)"></a>\n\n\$\$((?:(?!\$\$).)*?)\\tag\{(\d+)\}'
    found = re.findall(f"(?s){anchor}", text)
    numbers = {name: number for name, _, number in found}
    assert list(numbers.values()) == [str(n) for n in range(1, len(found) + 1)]
    assert len(found) == text.count("\\tag{") == text.count('<a id="eq-')
    for name, number in re.findall(r'<a href="#(eq-[\w-]+)">\((\w+)\)</a>', text):
        assert numbers[name] == number
    assert len(re.findall(r"<a href", text)) == len(
        re.findall(r'<a href="#eq-[\w-]+">\(\d+\)</a>', text)
    )


@every_lesson
def test_citations_are_the_bibliographys(lesson):
    """A link to a source that the bibliography knows says its author and its year."""
    known = {address_of(e): label(e) for e in entries().values() if address_of(e)}
    for words, address in re.findall(
        r"\[([^\]]+)\]\((https?://[^)\s]+)\)", "".join(prose(lesson))
    ):
        assert known.get(address, words) == words


@every_lesson
def test_every_boxed_equation_is_tested_by_name(lesson):
    """The equation `eq-name` in a result box has a test function `test_eq_name`."""
    labels = re.findall(r'<a id="(eq-[\w-]+)">', "".join(block(lesson, "result")))
    tests = "\n".join(
        path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py")
    )
    for name in labels:
        assert f"def test_{name.replace('-', '_')}(" in tests, name
    boxed = sum(text.count("$$") // 2 for text in block(lesson, "result"))
    assert boxed == len(labels), "every boxed equation is named"


@every_lesson
def test_no_measured_number_is_typed(lesson):
    """Outside blocks of published results and exercises' minutes, Markdown holds no
    accuracy, no seconds and no speed-up: sentences that need one are made by code."""
    text = "\n\n".join(prose(lesson))
    for kind in ("published", "card"):
        box = rf'(?s)<blockquote class="nn-{kind}">.*?</blockquote>'
        text = re.sub(box, "", text)
    text = re.sub(r"(?s)\$\$.*?\$\$|\$[^$\n]*\$|```.*?```", "", text)
    found = re.findall(
        r"\d[\d.,]* ?(?:%|percent|seconds?\b|s\b|ms\b|µs\b|times faster|× faster)", text
    )
    assert not found + re.findall(r"\d+\.\d+ points", text)


@every_lesson
def test_rhythm(lesson):
    """Prose cells of about 80 words; code that is read in cells of 25 lines at most, but
    for one class of 60 that must stand whole."""
    for text in prose(lesson):
        words = re.sub(
            r"(?s)\$\$.*?\$\$|<details.*?</details>|<[^>]+>|\|.*\|", "", text
        ).split()
        limit = 270 if "nn-derivation" in text else 160
        assert len(words) <= limit, f"{len(words)} words: {text[:80]}"
    long = [c for c in read(lesson) if len(c.source.splitlines()) > 25]
    assert len(long) <= 1
    for cell in long:
        assert len(cell.source.splitlines()) <= 60
        assert any(isinstance(node, ast.ClassDef) for node in ast.parse(cell.source).body)


@every_lesson
def test_code_is_what_one_would_write(lesson):
    """No machinery of tests in a cell that is read, and no helper that only reports."""
    for cell in read(lesson):
        assert not re.search(r"\bbetween\(|\bstandin\b|\bsay\(|# fmt:", cell.source)
        assert "lessons_src.check" not in cell.source
        assert not re.search(rf"^def {REPORTS}\(", cell.source, re.M)
        assert max(map(len, cell.source.splitlines()), default=0) <= 95


@pytest.mark.parametrize("page", NAMES + PAGES)
def test_no_reporting_helper_hides_in_a_fold(page):
    """A folded cell that prints, and any cell of a page, defines no function that only
    brings numbers into a form: those are the module's, where they are tested."""
    found = set()
    for cell in code(page):
        if "solution" in tags(cell) or (page in NAMES and cell in read(page)):
            continue
        tree = ast.parse(cell.source)
        prints = bool({"print", "Markdown"} & called(tree))
        functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
        found |= {
            node.name
            for node in functions
            if re.fullmatch(REPORTS, node.name)
            or {"print", "Markdown"} & called(node)
            or (prints and gives_text(node))
        }
    surplus = found - FORMATS.get(page.partition("_")[2], set())
    assert not surplus, (
        f"{', '.join(sorted(surplus))}: write it where it is used, or use line, machine_of "
        "or table of lessons_src.records"
    )


def called(tree) -> set[str]:
    """The names of the functions and methods that are called."""
    calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return {getattr(f, "id", getattr(f, "attr", "")) for f in calls}


def gives_text(function) -> bool:
    """Whether it returns or yields an f-string, a joined text, or a name for one."""
    nodes = list(ast.walk(function))
    texts = {
        target.id
        for node in nodes
        if isinstance(node, ast.Assign) and is_text(node.value)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    given = [n.value for n in nodes if isinstance(n, ast.Return | ast.Yield) and n.value]
    return any(is_text(v) or isinstance(v, ast.Name) and v.id in texts for v in given)


def is_text(value) -> bool:
    if isinstance(value, ast.IfExp):
        return is_text(value.body) or is_text(value.orelse)
    joins = isinstance(value, ast.Call) and getattr(value.func, "attr", "") == "join"
    return isinstance(value, ast.JoinedStr) or joins


@every_lesson
def test_cells_beside_are_pairs_that_match_line_by_line(lesson):
    """Two cells that the book lays beside each other follow one another, are read, and
    have as many lines as each other, none wider than half a column."""
    marks = ["beside" in tags(cell) for cell in cells(lesson)]
    places = [place for place, mark in enumerate(marks) if mark]
    for left, right in zip(places[::2], places[1::2], strict=True):
        assert right == left + 1
        pair = [cells(lesson)[place] for place in (left, right)]
        assert all(cell in read(lesson) for cell in pair)
        lines = [cell.source.splitlines() for cell in pair]
        assert len(lines[0]) == len(lines[1])
        assert max(map(len, lines[0] + lines[1])) <= 46


@every_lesson
def test_nothing_that_is_read_needs_what_is_hidden(lesson):
    """A function defined in a folded cell is called in folded cells alone."""
    hidden = [c for c in code(lesson) if c not in read(lesson)]
    names = {
        node.name
        for cell in hidden
        if "solution" not in tags(cell)
        for node in ast.parse(cell.source).body
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
    }
    for cell in read(lesson):
        called = {
            n.id for n in ast.walk(ast.parse(cell.source)) if isinstance(n, ast.Name)
        }
        assert not called & names, cell.source


@every_lesson
def test_is_named_and_not_numbered(lesson):
    """The number stands in the file's name alone: prose links by name."""
    text = "\n".join(prose(lesson))
    assert not re.search(r"([Ll]essons?|[Aa]ppendi(x|ces)) A?\d", text)


@every_lesson
def test_plain_words(lesson):
    """No "simply", no "it can be shown", no "obviously"."""
    text = " ".join(prose(lesson)).lower()
    found = re.findall(
        r"\b(simply|obviously|trivial(?:ly)?|it can be shown|of course|clearly)\b", text
    )
    assert not found


@every_lesson
def test_one_is_singular(lesson):
    """No output counts "1 images" or "1 steps"."""
    things = (
        "images ranks machines steps epochs seeds threads examples passes runs batches"
    )
    counted = rf"(?<![\w.,])1 ({things.replace(' ', '|')}|units|workers|seconds|hours)\b"
    shown = json.dumps([cell.outputs for cell in code(lesson)], ensure_ascii=False)
    assert not re.search(counted, shown), re.search(f".*({counted})", shown)[0][-60:]


@every_lesson
def test_what_the_book_folds_is_folded_everywhere(lesson):
    """Jupyter and Colab have a mark of their own each, on these cells and no other: a quiz
    would show its answer, a poster a screen of code before the first sentence."""
    for cell in code(lesson):
        folded = bool({"hide-input", "remove-input", "setup"} & set(tags(cell)))
        in_jupyter = cell.metadata.get("jupyter", {}).get("source_hidden", False)
        on_colab = cell.metadata.get("cellView") == "form"
        assert in_jupyter == on_colab == folded, cell.source[:80]


@every_lesson
def test_the_setup_is_out_of_the_way(lesson):
    """The first code is the set-up: six lines, folded in Jupyter and on Colab under its
    title, not in the book. The imports follow the poster in a cell of their own."""
    first, _, second = code(lesson)[:3]
    assert {"setup", "remove-cell"} <= set(tags(first))
    assert first.metadata["cellView"] == "form"
    assert first.metadata["jupyter"] == {"source_hidden": True}
    assert first.source.startswith("#@title Set-up")
    assert len(first.source.splitlines()) <= 6
    assert len(second.source.splitlines()) <= 25 and "import" in second.source
    assert "hide-input" in tags(second)  # one line to open, in the book and in Jupyter


@every_lesson
def test_uses_the_shared_palette(lesson):
    """No colour of one's own: figures name the palette's colours."""
    for cell in code(lesson):
        for hexcode in re.findall(r"#[0-9a-fA-F]{6}\b", cell.source):
            assert hexcode.lower() in PALETTE.values(), hexcode


@pytest.mark.parametrize("page", NAMES + PAGES)
def test_orange_is_what_others_have_published(page):
    """The colour of the block "Published elsewhere": a cell that draws in it names what was
    published, printed, or shown in a tutorial, or one of the recipes R1a to R5."""
    draws = r"(?m)^(?!from ).*\bORANGE\b"
    names = r"(?i)publish|printed|tutorial|\bR[1-5][ab]?\b|that loop"
    others = [
        c.source.splitlines()[0]
        for c in code(page)
        if re.search(draws, c.source) and not re.search(names, c.source)
    ]
    most = MOST_ORANGE.get(page.partition("_")[2], 0)
    assert len(others) <= most, f"take SKY, PURPLE, … of lessons_src.figures in: {others}"


@every_lesson
def test_is_valid_python(lesson):
    """Every cell parses (a Colab or Jupyter magic would not work under nbval's
    comparison)."""
    for cell in code(lesson):
        ast.parse(cell.source)


def test_toc_lists_what_exists():
    """The book's table of contents names every lesson, and nothing that is not there."""
    listed = re.findall(r"file: (\S+)", (ROOT / "_toc.yml").read_text(encoding="utf-8"))
    assert [x for x in listed if x.startswith("lessons/")] == [
        f"lessons/{n}" for n in NAMES
    ]
    for entry in listed:
        assert any((ROOT / f"{entry}{s}").exists() for s in ("", ".md", ".ipynb")), entry
