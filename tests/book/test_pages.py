"""The built book in a browser: what a reader meets on every page, on disk and on a phone.

The browser, and where these tests are skipped: conftest.py.
"""

import gzip
import json
import re
from collections import Counter

import pytest
from accessible import LOOKS, open_all, set_look, violations_once
from built_book import DESK, HTML, LESSONS, PAGES, PHONE, ROOT, on_disk
from built_book import page as built_page
from playwright.sync_api import TimeoutError
from swept import some

REASONS = """box => {
    const all = '[aria-live=polite] :is(.nn-right, .nn-wrong)';
    const reasons = [...box.querySelectorAll(all)];
    return reasons.filter(e => e.checkVisibility()).map(e => e.innerText);
}"""
# Of all quizzes at once: the reasons that clicks on one choice after the other bring. A
# new reason is there for some frames before the next click: their messages go by frames.
BY_CLICKS = f"""async boxes => {{
    const told = boxes.map(() => []);
    const radios = boxes.map(box => [...box.querySelectorAll('input[type=radio]')]);
    for (let n = 0; n < Math.max(...radios.map(all => all.length)); n++) {{
        for (const all of radios) all[n]?.click();
        const isNew = (box, i) => told[i].length > n || n >= radios[i].length
            || ({REASONS})(box).some(reason => !told[i].includes(reason));
        let framesLeft = 3;
        for (let waited = 0; framesLeft > 0 && waited < 500; waited++) {{
            await new Promise(requestAnimationFrame);
            if (boxes.every(isNew)) framesLeft--;
        }}
        boxes.forEach((box, i) => {{
            if (n < radios[i].length) told[i].push(...({REASONS})(box));
        }});
    }}
    return told;
}}"""
# Of a page, in screens: where its first picture begins and ends, its longest run without a
# picture, its longest derivation; and the share of its height that code takes.
SIGHT = """screen => {
    const page = document.querySelector('article.bd-article');
    const top = page.getBoundingClientRect().top;
    const height = e => e.getBoundingClientRect().height;
    const seen = [...page.querySelectorAll('svg[role=img], img')]
        .filter(e => e.checkVisibility() && height(e) > 60)
        .map(e => e.getBoundingClientRect())
        .map(box => [box.top - top, box.bottom - top]);
    const list = page.querySelector('section#references')?.getBoundingClientRect().top;
    const last = (list ?? page.getBoundingClientRect().bottom) - top;
    let end = 0, desert = 0;
    for (const [from, to] of [...seen, [last, last]]) {
        desert = Math.max(desert, from - end);
        end = Math.max(end, to);
    }
    // Of two cells side by side the first one counts.
    const cells = [...page.querySelectorAll('.cell_input:not(.nn-beside > :last-child *)')];
    const code = cells.filter(e => e.checkVisibility()).map(height);
    const derivations = [...page.querySelectorAll('.nn-derivation')].map(height);
    return {first: seen[0][0] / screen, poster: top + scrollY + seen[0][1],
            desert: desert / screen,
            derivation: Math.max(...derivations) / screen,
            code: code.reduce((a, b) => a + b, 0) / height(page)};
}"""
# Whether all type of figures is 8.5 px or more, as shown, and whatever figure is wider than
# its box takes the focus, so that keys scroll it.
REACHED = """() => {
    const drawings = [...document.querySelectorAll('.nn-figure > svg')];
    const words = drawings.flatMap(svg => [...svg.querySelectorAll('text')]);
    const sizes = words.filter(text => text.checkVisibility()).map(text => {
        const {a, b} = text.getScreenCTM();
        return parseFloat(text.style.fontSize) * Math.hypot(a, b);
    });
    const figures = '.nn-figure:not(.nn-stepper *), .nn-stepper > .widget-box';
    const wide = [...document.querySelectorAll(figures)]
        .filter(e => e.scrollWidth > e.clientWidth);
    return sizes.every(size => !(size < 8.4)) && wide.every(e => {
        e.focus({preventScroll: true});
        return e.tabIndex === 0 && e === document.activeElement
            && /auto|scroll/.test(getComputedStyle(e).overflowX);
    });
}"""
# The numbers of the drawings that are wider than their box, which then scrolls, and of
# those with a word or an image that is more than 5 px outside of the drawing.
CUT = """() => [...document.querySelectorAll('figure.nn-figure > svg[role=img]')]
    .flatMap((svg, k) => {
        const box = svg.getBoundingClientRect();
        const parts = [...svg.querySelectorAll('text, image')]
            .map(part => part.getBoundingClientRect()).filter(part => part.width > 0);
        const isOutside = part => Math.max(box.left - part.left, part.right - box.right,
            box.top - part.top, part.bottom - box.bottom) > 5;
        const isWide = svg.clientWidth > svg.parentElement.clientWidth;
        return svg.checkVisibility() && (isWide || parts.some(isOutside)) ? [k + 1] : [];
    })"""
WIDTHS = (768, 1440, 2560)  # px: a tablet held upright, a laptop, a large screen
ORDINARY = 800  # px: the height of an ordinary screen
LOWEST_POSTER = 860  # px: where Figure 1 ends at the latest
HEAVIEST = 250_000  # bytes of a lesson's page, as a server sends it: compressed
# Where lines that are wrong must be read.
CODE_IS_THE_SUBJECT = {"lessons/21_bugs_that_train_anyway": 0.28}
# Where axe looks, and which lessons are used, in `make test`; the sweep takes every page.
ONE_OF_EACH_KIND = [PAGES[0], "book/running", "book/draw", "book/playground", "book/cost"]
ONE_OF_EACH_KIND += ["book/glossary", "book/references", "book/cheatsheet", LESSONS[2]]
ONE_OF_EACH_KIND += ["lessons/A1_pytorch_and_keras"]
USED = [LESSONS[2], "lessons/A1_pytorch_and_keras"]
MINUTES = r"\*\*Reading\*\* (\d+) minutes · \*\*exercises\*\* (\d+) minutes"
SEARCH = ".search-button, .search-button-field, input[type=search]"


# ---- every page: opened once, from disk, in the dark; on a phone, then on a desk ----


@pytest.mark.parametrize(
    "page", some(PAGES, lambda page: page in ONE_OF_EACH_KIND, pytest.mark.slow)
)
def test_page(visit, page):
    """No request elsewhere, silence in the console; then what the functions below say."""
    tab = visit(on_disk(page), PHONE, "dark")
    is_well_formed(tab)
    fits_a_phone(tab)
    unveil(tab)
    figures_are_reached(tab)
    figures_are_whole(tab)
    is_not_too_wide(tab, 320)
    fits_a_desk(tab, WIDTHS[PAGES.index(page) % len(WIDTHS)])
    fits_a_desk(tab, DESK["width"])
    if page in LESSONS:
        is_seen_before_it_is_read(tab, CODE_IS_THE_SUBJECT.get(page, 0.25))
        promises_are_shown(tab, page)
    if page in ONE_OF_EACH_KIND:
        breaks_no_rule(
            tab, LOOKS[PAGES.index(page) % len(LOOKS)]
        )  # last: it thins the page


@pytest.mark.sweep
@pytest.mark.parametrize("page", PAGES)
def test_every_width(visit, page):
    """Every page between a tablet and a large screen; `test_page` takes one width each."""
    tab = visit(on_disk(page))
    for width in WIDTHS:
        fits_a_desk(tab, width)


@pytest.mark.slow
@pytest.mark.parametrize("page", some(LESSONS, lambda page: page in USED))
def test_lesson_is_used(visit, page):
    """Every stepper steps, on a phone, and every quiz answers."""
    tab = visit(on_disk(page), PHONE, "dark")
    unveil(tab)
    steppers_step(tab)
    tab.set_viewport_size(DESK)
    quizzes_answer(tab)


@pytest.mark.parametrize("page", LESSONS)
def test_a_lesson_is_light(page):
    """A phone on a slow line has a lesson's page within some seconds."""
    built = built_page(page).encode()
    size = len(gzip.compress(built, compresslevel=6))
    assert size <= HEAVIEST, (
        f"{size:,} bytes: coarser coordinates in a figure of many points, an image instead "
        "of many rectangles, fewer frames of a stepper"
    )


@pytest.mark.slow
@pytest.mark.parametrize("page", [PAGES[0], LESSONS[0]])
def test_page_over_http(visit, host, page):
    """A server gives what the disk gives: nothing is missing, in silence. Here in the
    light; and when the screen becomes dark, so does the page."""
    tab = visit(f"{host}/{page}.html")
    fits_a_desk(tab, DESK["width"])
    tab.set_viewport_size(PHONE)
    assert tab.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    for theme in ("light", "dark"):
        tab.emulate_media(color_scheme=theme)
        tab.wait_for_function(
            f"() => document.documentElement.dataset.theme == '{theme}'"
        )


def breaks_no_rule(tab, look) -> None:
    """axe finds nothing at this width in this theme, with all folds open."""
    set_look(tab, *look)
    open_all(tab)
    assert violations_once(tab) == [], look


def is_well_formed(tab) -> None:
    """Unique ids, every formula set and no comma left alone, every picture described."""
    ids = tab.evaluate("[...document.querySelectorAll('[id]')].map(e => e.id)")
    assert not [i for i, times in Counter(ids).items() if times > 1]
    assert tab.locator(".katex-error").count() == 0
    stray = tab.evaluate("""[...document.querySelectorAll('span.math')]
        .map(e => e.nextSibling?.data ?? '').filter(text => /^[,.;:!?)]/.test(text))""")
    assert not stray, "a comma that may begin a line"
    pictures = tab.locator("main :is(img, svg[role=img])").evaluate_all(
        "all => all.map(e => e.getAttribute('alt') ?? e.getAttribute('aria-label') ?? '')"
    )
    assert not [
        words
        for words in pictures
        if len(words) < 20 or re.search(r"[/\\]\w+\.\w", words)
    ]
    undescribed = "main :is(figure, .cell_output) svg:not([role=img]):not([role=img] *)"
    assert tab.locator(undescribed).count() == 0


def fits_a_phone(tab) -> None:
    """Of a page opened in the dark on a phone: one search field, formulas that scrolling
    reaches, no light slab; nothing too wide."""
    assert tab.locator(f":is({SEARCH}):visible").count() == 1
    # An equation that is wider than its box begins inside it: scrolling reaches the rest.
    cut = tab.evaluate("""[...document.querySelectorAll('div.math')].filter(box =>
        box.querySelector('.katex-html').getBoundingClientRect().left
        < box.getBoundingClientRect().left - 1).length""")
    assert cut == 0
    grounds = tab.evaluate("""[...document.querySelectorAll('.cell, .cell *')]
        .filter(e => !e.closest('svg, input, .noUi-target'))
        .map(e => getComputedStyle(e).backgroundColor)
        .filter(c => c.startsWith('rgb('))
        .filter(c => c.match(/\\d+/g).slice(0, 3).every(v => v > 120))""")
    assert not grounds, "a light slab in the dark"
    is_not_too_wide(tab, PHONE["width"])


def is_not_too_wide(tab, width: int) -> None:
    """On a phone of so many pixels the page needs no scrolling to the side."""
    tab.set_viewport_size({"width": width, "height": PHONE["height"]})
    assert tab.evaluate("document.documentElement.scrollWidth") <= width, width


def fits_a_desk(tab, width: int) -> None:
    """At this width: one search field, one title, nothing too wide."""
    tab.set_viewport_size({"width": width, "height": DESK["height"]})
    assert tab.locator(f":is({SEARCH}):visible").count() == 1
    assert tab.locator("h1:visible").count() == 1
    assert tab.evaluate("document.documentElement.scrollWidth") <= width, width


def unveil(tab) -> None:
    """Show the outputs that are veiled until their quiz is answered: from here on the page
    is that of someone who has answered, or chose to see."""
    tab.locator(".nn-veil").evaluate_all("veils => veils.forEach(e => e.click())")


def number_of(page: str) -> str:
    """A lesson's number; of another page, the first letters of its address."""
    return page.removeprefix("lessons/")[:2]


def is_seen_before_it_is_read(tab, most_code: float) -> None:
    """The first figure stands on the first screen, no four screens are without a picture,
    code takes a quarter of the page at most, and a derivation one screen: its result is
    in sight, and needs no link that skips to it."""
    sight = tab.evaluate(SIGHT, ORDINARY)
    assert sight["first"] < 0.7, "the poster begins below the first screen's middle"
    assert sight["poster"] <= LOWEST_POSTER, (
        "the poster ends below the screen: draw it less high"
    )
    assert sight["desert"] <= 4, "four screens without a picture: add one, or cut"
    assert sight["derivation"] <= 1, "cut the derivation, or link to its result"
    assert sight["code"] <= most_code, "code takes more than a quarter of the page"


def figures_are_reached(tab) -> None:
    """A figure's type is 8.5 px or more, as shown; what is beyond the screen is reached
    by swiping or by arrow keys, and neither makes the page too wide. The first one that
    is too wide is scrolled by a key, the others are asked if they would be."""
    boxes = tab.locator(".nn-figure:not(.nn-stepper *), .nn-stepper > .widget-box")
    try:  # observers of sizes lay panels anew, and do it after some frames
        tab.wait_for_function(REACHED, timeout=60_000)
    except TimeoutError:
        pytest.fail("type below 8.5 px, or a figure that no key reaches: see type.js")
    for box in boxes.element_handles():
        if box.evaluate("e => e.scrollWidth > e.clientWidth"):
            box.focus()
            tab.keyboard.press("ArrowRight")
            tab.wait_for_function("e => e.scrollLeft > 0", arg=box)
            break


def figures_are_whole(tab) -> None:
    """A phone shows every figure whole."""
    try:
        tab.wait_for_function(f"() => ({CUT})().length === 0", timeout=60_000)
    except TimeoutError:
        pytest.fail(
            f"drawings {tab.evaluate(CUT)} are cut off at 390 px: give their words more "
            "room, see keepsApart in type.js, or measure all that is seen, in panels.js"
        )


def steppers_step(tab) -> None:
    """Every slider moves its frames, the first by keyboard."""
    steppers = tab.locator(".nn-stepper").all()
    assert len(steppers) >= 1
    for stepper in steppers:
        steps(tab, stepper, by_keyboard=stepper is steppers[0])


def steps(tab, stepper, by_keyboard: bool) -> None:
    """The slider has a name and says its value; an arrow key shows another frame, which
    stands where the last one stood. Without keyboard: the event of the key."""
    slider = stepper.get_by_role("slider").element_handle()
    assert slider.get_attribute("aria-label")
    frames = stepper.locator("> .widget-box")
    frame = stepper.locator("figure svg:visible")
    value = slider.get_attribute("aria-valuetext")
    seen = frame.get_attribute("aria-label")
    assert value == stepper.locator(".widget-readout").inner_text()
    before = frames.evaluate("e => { e.scrollLeft = 50; return e.scrollLeft; }")
    now, last = (slider.get_attribute(f"aria-value{end}") for end in ("now", "max"))
    key = (
        "ArrowLeft" if float(now) == float(last) else "ArrowRight"
    )  # it may start at the end
    if by_keyboard:
        slider.focus()
        tab.keyboard.press(key)
    else:
        slider.dispatch_event("keydown", {"key": key})
    tab.wait_for_function(
        """([box, slider, value, seen]) => {
            const frames = [...box.querySelectorAll('figure svg')];
            const frame = frames.find(e => e.checkVisibility());
            return slider.ariaValueText !== value && frame.ariaLabel !== seen;
        }""",
        arg=[stepper.element_handle(), slider, value, seen],
        polling=5,
    )
    assert frame.count() == 1
    assert frames.evaluate("e => e.scrollLeft") >= before


def quizzes_answer(tab) -> None:
    """A named group of radio buttons; every choice is answered, by a reason of its own.
    The first quiz is answered by keyboard, the others by clicks, all at once."""
    quizzes = tab.locator(".nn-quiz")
    assert quizzes.count() >= 2
    questions = quizzes.get_by_role("radiogroup").evaluate_all(
        """all => all.map(e => e.getAttribute('aria-labelledby'))
            .map(id => document.getElementById(id).innerText)"""
    )
    assert len(questions) == quizzes.count() and min(map(len, questions)) > 10
    apart = quizzes.evaluate_all("""boxes => boxes.map(box => new Set(
        [...box.querySelectorAll('input[type=radio]')].map(e => e.name || e)).size)""")
    assert set(apart) == {1}, "radio buttons without a common name are no group"
    assert not quizzes.evaluate_all(f"boxes => boxes.flatMap({REASONS})"), (
        "a reason, no choice"
    )
    told = [by_keyboard(tab, quizzes.first), *quizzes.evaluate_all(BY_CLICKS)[1:]]
    for quiz, reasons in zip(quizzes.all(), told, strict=True):
        assert len(reasons) == quiz.get_by_role("radio").count(), (
            "two reasons at once, or none"
        )
        assert len({words.partition(". ")[2] for words in reasons}) == len(reasons)
        assert sum(words.startswith("Right.") for words in reasons) == 1


def promises_are_shown(tab, page) -> None:
    """Each cell that promises something has its strip, with a mark for each condition;
    opened, it shows the conditions."""
    notebook = json.loads((ROOT / f"{page}.ipynb").read_text(encoding="utf-8"))
    promised = [c["metadata"]["promise"] for c in notebook["cells"] if is_promising(c)]
    strips = tab.locator("details.nn-promise")
    shown = strips.evaluate_all("""all => all.map(e => [
        e.querySelectorAll('summary > :is(.nn-range, .nn-tick)').length,
        [...e.querySelectorAll('code')].map(code => code.textContent)])""")
    assert shown == [[len(conditions), conditions] for conditions in promised]
    outside = strips.evaluate_all("""all => all.filter(e => {
        const circle = e.querySelector('circle');
        return circle && !(circle.getAttribute('cx') >= 4 && circle.getAttribute('cx') <= 52);
    }).length""")
    assert outside == 0


def is_promising(cell) -> bool:
    return bool(cell["metadata"].get("promise"))


def by_keyboard(tab, quiz) -> list[str]:
    """The reasons that a quiz gives when Space and arrow keys choose."""
    box, told = quiz.element_handle(), []
    choices = quiz.get_by_role("radio").element_handles()
    choices[0].focus()
    tab.keyboard.press("Space")
    for choice in choices:
        tab.wait_for_function(
            f"""([box, choice, told]) => {{
                const reason = ({REASONS})(box)[0];
                return choice.checked && reason && !told.includes(reason);
            }}""",
            arg=[box, choice, told],
        )
        told += box.evaluate(REASONS)
        tab.keyboard.press("ArrowDown")
    return told


def test_a_dark_screen_shows_no_light_page_first(visit):
    """The colours are the dark ones without the theme's script, which comes after the
    page; the widget manager does not add JupyterLab's colours: they redraw all."""
    tab = visit(on_disk(LESSONS[0]), theme="dark", without="pydata-sphinx-theme.js")
    ground = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    assert max(map(int, re.findall(r"\d+", ground)[:3])) < 60
    added = "getComputedStyle(document.documentElement).getPropertyValue('--md-blue-500')"
    assert tab.evaluate(added) == ""


# ---- the menu on a phone, and the welcome page's map ----


def test_phone_menu(visit):
    """The menu opens, closes by its button and by Escape; a link leads to its page."""
    tab = visit(on_disk(PAGES[0]), PHONE)
    link = tab.locator(".bd-docs-nav a", has_text=re.compile("Glossary"))
    menu = tab.locator(".primary-toggle:visible")
    assert not link.is_visible()
    for close in (
        lambda: tab.locator(".nn-close").click(),
        lambda: tab.keyboard.press("Escape"),
    ):
        menu.click()
        assert link.is_visible()
        close()
        link.wait_for(state="hidden")
    menu.click()
    link.click()
    tab.wait_for_url("**/glossary.html")


def test_search_from_disk(visit):
    """A word that a lesson explains is found, without a server and in silence."""
    tab = visit(on_disk("search") + "?q=softmax")
    tab.locator("#search-results li a", has_text="Glossary").first.wait_for()
    assert tab.locator(f":is({SEARCH}):visible").count() == 1


def test_headings_menu_on_a_phone(visit):
    """The list of headings opens, and choosing one closes it and goes there."""
    tab = visit(on_disk(PAGES[1]), PHONE)
    tab.locator(".secondary-toggle:visible").click()
    link = tab.locator("dialog[open] a.nav-link").last
    target = link.get_attribute("href")
    link.click()
    tab.locator("dialog[open]").wait_for(state="detached")
    tab.wait_for_url(f"**{target}")


def test_welcome_lists_the_lessons_that_there_are(browser):
    """The built welcome page names the lessons of the book, in their order, with their
    minutes and a picture that is there."""
    built = (HTML / f"{PAGES[0]}.html").read_text(encoding="utf-8")
    rows = re.findall(
        r'<li><a href="\.\./(lessons/\w+)\.html"><img src="\.\./([^"]+)".+?'
        r"(\d+)\smin, exercises\s(\d+)<",
        built,
    )
    minutes = []
    for lesson in LESSONS:
        text = (ROOT / f"{lesson}.ipynb").read_text(encoding="utf-8")
        minutes.append((lesson, *re.search(MINUTES, text).groups()))
    assert [(lesson, *both) for lesson, _, *both in rows] == minutes
    assert [name for _, name, *_ in rows if not (HTML / name).is_file()] == []
