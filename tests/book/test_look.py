"""Steppers, quizzes, exercises and tables, as a reader meets them in the built book."""

import json
import re

import pytest
from built_book import DESK, HTML, LESSONS, PHONE, ROOT, on_disk
from playwright.sync_api import TimeoutError, expect

from tools import finished_pages
from tools.page_blocks import are_numbers

LESSON = "lessons/02_data_and_baselines"
# Whether those blocks of code have a shade, and only those, that are wider than their box.
SHADED = """() => {
    const seen = [...document.querySelectorAll('.bd-article .highlight > pre')]
        .filter(e => e.checkVisibility());
    const cut = seen.filter(e => e.scrollWidth > e.clientWidth);
    const shaded = seen.filter(
        e => getComputedStyle(e).backgroundImage.includes('gradient'));
    return cut.length > 0 && cut.length === shaded.length
        && cut.every(e => shaded.includes(e));
}"""
# Whether what an element holds is seen: its own box is, also where it hides its contents.
SEEN = "e => e.firstElementChild.checkVisibility()"


@pytest.mark.slow
def test_blocks_to_do(visit):
    """A lesson, opened once: its first stepper, its quizzes, its exercises, and paper."""
    tab = visit(on_disk(LESSON))
    steps_by_buttons_and_plays(tab, tab.locator(".nn-stepper").first)
    is_an_unsolved_card(tab, tab.locator(".nn-task").first)
    marks_the_choice_and_unveils(tab)
    tab.emulate_media(media="print")
    assert all_answers_are_open(tab), "an output is veiled on paper"
    assert tab.locator(".nn-veil:visible").count() == 0


def test_a_veil_says_what_it_hides(visit):
    """The output, a figure by its number, or both. A figure's fold of code goes with it."""
    tab = visit(on_disk("lessons/03_softmax"))
    end = "Answer the question above, or show"
    assert tab.locator(".nn-veil").all_inner_texts() == [
        f"Figure 3 is veiled. {end} it",
        f"The output and Figure 6 are veiled. {end} them",
        f"The output is veiled. {end} it",
    ]
    fold = tab.locator(".cell:has(.nn-answer-too) > details > summary")
    assert fold.count() == 1
    assert not fold.is_visible(), "'Show the code' stands alone"
    tab.locator(".nn-veil").nth(1).click()
    assert fold.is_visible()
    tab = visit(on_disk("lessons/19_inside_the_network"))
    stepper = "The output and Figure 2 are veiled."  # drawn after the page is there
    expect(tab.locator(".nn-veil").first).to_contain_text(stepper)


@pytest.mark.slow
def test_nothing_is_veiled_without_script(visit):
    """Every output is there where nobody can click."""
    tab = visit(on_disk(LESSON), without="quiz.js")
    assert all_answers_are_open(tab)


def steps_by_buttons_and_plays(tab, box) -> None:
    """Back and on move the slider, which has a tick for each frame and a count; play goes
    to the last frame and stops. Where it got to is said once, in words."""
    slider, count = box.get_by_role("slider"), box.locator(".nn-count")
    frames = int(float(slider.get_attribute("aria-valuemax"))) + 1
    assert box.locator(".nn-ticks > span").count() == frames, "a tick for each frame"
    slider.focus()
    tab.keyboard.press("End")
    assert count.inner_text() == f"{frames} of {frames}"
    assert box.locator(".nn-on").get_attribute("aria-disabled") == "true"
    last = box.locator("figure svg:visible").get_attribute("aria-label")
    box.locator(".nn-back").click()
    tab.wait_for_function(
        "([box, label]) => box.querySelector('figure svg').ariaLabel !== label",
        arg=[box.element_handle(), last],
    )
    assert count.inner_text() == f"{frames - 1} of {frames}"
    said = f"{slider.get_attribute('aria-valuetext')}, {frames - 1} of {frames}"
    box.locator(".nn-said", has_text=said).wait_for(state="attached")
    play = box.locator(".nn-play")
    play.press("Enter")
    assert play.get_attribute("aria-label").endswith(": pause")
    box.locator(".nn-count", has_text=f"{frames} of {frames}").wait_for()
    said = box.locator(".nn-said", has_text=f"{frames} of {frames}")
    said.wait_for(state="attached", timeout=20_000)  # the play has stopped
    assert play.get_attribute("aria-label").endswith(": play")


def is_an_unsolved_card(tab, card) -> None:
    """Title with chips, stub, state and solution in one box; no tick before the solution
    is opened, and then its promise with it."""
    chips = card.locator(".nn-chip").all_inner_texts()
    assert chips == ["easy", "5 minutes"], "one card holds one exercise, title first"
    for seen in tab.locator(".nn-task").all_inner_texts():
        assert "not attempted yet" in seen
        assert "✓" not in seen, "an exercise looks solved before it is"
    card.locator(".tag_solution summary").first.click()
    assert "✓" in card.inner_text()


def marks_the_choice_and_unveils(tab) -> None:
    """The next output is hidden until a row is chosen. The row then has a sign, its reason
    stands right below it, and other scripts hear of it."""
    asks, answers = tab.locator(".nn-asks"), tab.locator(".nn-answer")
    assert asks.count() == answers.count() > 0
    assert not answers.first.evaluate(SEEN), "the output that answers the quiz is open"
    tab.evaluate("""document.addEventListener('nn-quiz-answered',
        event => { (window.heard ??= []).push(event.detail); })""")
    quiz = asks.first.locator(".nn-quiz")
    rows = quiz.locator(".widget-radio-box > label")
    for place, sign in enumerate("✗✓"):  # the first is wrong, the second right
        rows.nth(place).click()
        tab.wait_for_function("n => window.heard?.length === n", arg=place + 1)
        shown = rows.nth(place).evaluate("e => getComputedStyle(e, '::before').content")
        assert sign in shown, "the row does not show whether it was right"
    heard = [{"index": 0, "right": False}, {"index": 1, "right": True}]
    assert tab.evaluate("heard") == heard
    above, below = (rows.nth(k).bounding_box()["y"] for k in (1, 2))
    reason = quiz.locator(".nn-right").bounding_box()["y"]
    assert above < reason < below, "the reason does not stand below its row"
    assert rows.nth(0).evaluate("e => e.classList.contains('nn-row-wrong')")
    assert answers.first.evaluate(SEEN), "an answer does not unveil the output"
    tab.locator(".nn-veil").first.click()
    assert answers.nth(1).evaluate(SEEN), "the veil's button does not show the output"


def all_answers_are_open(tab) -> bool:
    answers = tab.locator(".nn-answer, .nn-answer-too")
    return all(answers.evaluate_all(f"all => all.map({SEEN})"))


@pytest.mark.parametrize("lesson", LESSONS)
def test_each_exercise_has_its_card(browser, lesson):
    """As many cards as exercises, and each cell that fails on purpose inside its block."""
    notebook = json.loads((ROOT / f"{lesson}.ipynb").read_text(encoding="utf-8"))
    tags = [cell["metadata"].get("tags", []) for cell in notebook["cells"]]
    built = (HTML / f"{lesson}.html").read_text(encoding="utf-8")
    cards = built.count('<div class="nn-task ')
    assert cards == sum("exercise" in t for t in tags), "an exercise without its card"
    around = re.split(r'<div class="nn-failing ', built)[0]
    assert "tag_raises-exception" not in around, "a failing cell outside its block"


def test_tables_align_numbers_and_are_cards_on_a_phone(visit):
    """On a desk numbers stand at the right; on a phone each cell says its column."""
    tab = visit(on_disk("book/cost"), DESK)
    number = tab.locator("td.nn-number").first
    assert number.evaluate("e => getComputedStyle(e).textAlign") == "right"
    tab.set_viewport_size(PHONE)
    table = tab.locator("table.nn-cards").first
    for cell in table.locator("tbody tr").first.locator("td").all():
        label = cell.evaluate("e => getComputedStyle(e, '::before').content")
        named = f'"{cell.get_attribute("data-label")}"'
        assert label == named and len(label) > 2, "a cell does not say its column"
    assert tab.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


def test_code_that_is_cut_shows_that_it_goes_on(visit):
    """Every block of code that is wider than its box has a shade, and no other has."""
    tab = visit(on_disk("lessons/17_fast_cnn"), DESK)
    for size in (DESK, PHONE):
        tab.set_viewport_size(size)
        try:  # an observer of sizes marks them, some frames later
            tab.wait_for_function(SHADED, timeout=60_000)
        except TimeoutError:
            pytest.fail(
                "cut code without a shade, or the reverse: pre[tabindex] in nn.css"
            )


@pytest.mark.parametrize(
    ("texts", "number"),
    [
        ("99.75 % are right", "99.75\xa0% are right"),
        ("in 3 s, or 20 ms", "in 3\xa0s, or 20\xa0ms"),
        ("5.1 s<b>2 GB</b>", "5.1\xa0s<b>2\xa0GB</b>"),
        ("3 sets of 2 %d", "3 sets of 2\xa0%d"),
        ('<img alt="9 %"><pre>9 %</pre><code class="x">1 s</code>', None),
        ("<script>a = 5 % b</script><svg><text>9 %</text></svg>", None),
        (
            '<script type="application/vnd.jupyter.widget-state+json">"9 %"</script>',
            '<script type="application/vnd.jupyter.widget-state+json">"9\xa0%"</script>',
        ),
    ],
)
def test_a_number_keeps_its_unit(texts, number):
    """In text and in stored widgets; code, drawings and attributes stay as they are."""
    assert finished_pages.kept_together(texts) == (number or texts)


@pytest.mark.parametrize(
    "page", ["book/draw", "book/cost", "lessons/20_fooled_and_unsure"]
)
def test_no_line_breaks_between_a_number_and_its_unit(visit, page):
    """What the browser shows, but code."""
    tab = visit(on_disk(page), PHONE)
    words = tab.evaluate("""() => {
        const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
        const found = [];
        while (walker.nextNode()) {
            const { textContent, parentElement } = walker.currentNode;
            if (!parentElement.closest('pre, code, svg, script, style, template, annotation')
                && /\\d (%|s|ms|min|GB|MB)(?!\\w)/.test(textContent)) found.push(textContent);
        }
        return found;
    }""")
    assert not words, "kept_together in tools/finished_pages.py, or \\u00a0 in the script"


@pytest.mark.parametrize(
    ("texts", "numbers"),
    [
        (["12", "−3.5", "1,024"], True),
        (["99.29 ± 0.07 %", "2.8 s", "–", ""], True),
        (["×140", "at least 61"], False),
        (["1e-05", "3e+02"], True),
        (["A1", "2"], False),
        (["", "–"], False),
        (["2026-11-22, AMD", "5"], False),
    ],
)
def test_what_is_a_column_of_numbers(texts, numbers):
    """Signs, units, spreads and gaps belong to a number; words do not."""
    assert are_numbers(texts) is numbers
