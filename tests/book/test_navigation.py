"""Where a reader is, and where the ways lead: the line above the title, the bar, the
contents on the right, previous and next, citations, and the notebook to take along."""

import re

import pytest
import yaml
from built_book import LESSONS, PHONE, ROOT, on_disk, page

from tools import course
from tools.citations import address_of, entries

ALL = course.lessons()
LESSON = next(page for page in LESSONS if page.endswith("_softmax"))
CURRENT = "#nn-page-toc a[aria-current=true]"


def test_each_lesson_says_where_it_stands():
    """Number, count and part above the title; the neighbours' questions at the end."""
    count = course.numbered(ALL)
    for before, lesson, after in zip([None, *ALL], ALL, [*ALL[1:], None], strict=False):
        text = page(lesson.page)
        kicker = re.search(r'<p class="nn-kicker"[^>]*>([^<]+)</p>\s*<h1>', text)[1]
        if lesson.number.isdigit():
            assert kicker == f"Lesson {lesson.number} of {count} · Part {lesson.part}"
        else:
            assert kicker == f"Appendix {lesson.number}"
        asked = re.findall(r'<span class="nn-asked">([^<]+)</span>', text)
        assert asked == [one.question for one in (before, after) if one]


def test_the_references_lead_back():
    """A work that a lesson links to names this lesson, and its link leads to the place."""
    references = page("book/references")
    cited = re.findall(r'href="\.\./(lessons/\w+)\.html#(cites-[^"]+)">', references)
    assert len(cited) >= 60
    for lesson, anchor in cited:
        assert f'id="{anchor}"' in page(lesson), (lesson, anchor)
    tutorials = ("journey", "nnpart2", "r3", "r4", "r5")  # in a list of their own
    linked = {
        (lesson, key)
        for lesson in LESSONS
        for key, entry in entries().items()
        if key not in tutorials
        and address_of(entry)
        and f'href="{address_of(entry)}"' in page(lesson)
    }
    assert len(linked) == len(cited)
    for tutorial in ("R1", "R2", "R3", "R4", "R5"):
        line = re.search(rf"<strong>{tutorial}</strong>.*", references)[0]
        assert "Cited in lesson" in line


# ---- in a browser ----


def heading(tab, words: str) -> float:
    """How far below the top of the window a heading stands."""
    return tab.locator(".bd-article :is(h2, h3)", has_text=words).evaluate(
        "heading => heading.getBoundingClientRect().top"
    )


def waits_for_section(tab, words: str) -> None:
    """The contents mark this section, and this one alone, and the bar names it."""
    tab.wait_for_function(
        """([current, words]) => {
            const marked = [...document.querySelectorAll(current)];
            const named = document.querySelector('.nn-place-section').textContent;
            return marked.length === 1 && marked[0].textContent.trim() === words
                && named === words;
        }""",
        arg=[CURRENT, words],
        timeout=60_000,
    )


@pytest.mark.slow
def test_contents_follow_every_jump(visit):
    """A link in the contents, Back, a jump by a script, the last and shortest section, and
    the way up again: the contents and the bar know the section."""
    tab = visit(on_disk(LESSON), without="embed.js")
    links = tab.locator("#nn-page-toc a")
    names = [name.strip() for name in links.all_inner_texts()]
    assert tab.locator(CURRENT).count() == 0, "before the first section there is none"
    assert not tab.locator(".nn-place").is_visible(), "the title itself is on screen"
    for number in (4, 1, len(names) - 1, len(names) - 2, 3):
        links.nth(number).click()
        waits_for_section(tab, names[number])
        assert 0 <= heading(tab, names[number]) < tab.viewport_size["height"]
    tab.go_back()
    waits_for_section(tab, names[-2])
    tab.evaluate(
        """name => [...document.querySelectorAll('.bd-article h2')]
        .find(heading => heading.textContent.startsWith(name)).nextElementSibling
        .scrollIntoView()""",
        names[2],
    )
    waits_for_section(tab, names[2])
    tab.evaluate("scrollTo(0, 0)")
    tab.wait_for_function(f"() => document.querySelectorAll('{CURRENT}').length === 0")
    assert not tab.locator(".nn-place").is_visible()


@pytest.mark.slow
def test_the_bar_on_a_phone(visit):
    """Lesson, section and minutes left fit beside the buttons; minutes fall from the card's
    to none at the exercises; the line grows; a touch leads to the top."""
    tab = visit(on_disk(LESSON), PHONE, "dark", without="embed.js")
    place = tab.locator(".nn-place")
    minutes, shares = [], []
    lesson = next(lesson for lesson in ALL if lesson.page == LESSON)
    sections = tab.locator(".bd-article > section > section")
    for number in range(sections.count()):
        sections.nth(number).evaluate("""async section => {
            section.scrollIntoView();
            for (let frame = 0; frame < 3; frame++)  // the bar is told in the next one
                await new Promise(requestAnimationFrame);
        }""")
        said = tab.locator(".nn-place-minutes").inner_text()
        minutes.append(
            int(re.match(r"(?:about )?(\d+) min left$", said)[1]) if said else 0
        )
        line = tab.locator(".nn-read-line")
        shares.append(line.evaluate("e => e.getBoundingClientRect().width"))
    assert minutes == sorted(minutes, reverse=True)
    assert lesson.reading >= minutes[0] > minutes[2] > 0
    assert minutes[-3:] == [0, 0, 0], "exercises, summary and references: nothing to read"
    assert shares == sorted(shares) and shares[0] < 100 < 300 < shares[-1]
    assert place.inner_text().startswith(f"{lesson.number} · {lesson.title}")
    edges = place.bounding_box()
    buttons = tab.locator(".header-article-items__end").bounding_box()
    assert edges["width"] > 130 and edges["x"] + edges["width"] <= buttons["x"] + 1
    bar = tab.locator(".bd-header-article").bounding_box()
    assert edges["height"] <= bar["height"] and bar["height"] <= 60
    assert tab.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    place.click()
    tab.wait_for_function("() => scrollY < 100")


@pytest.mark.slow
@pytest.mark.parametrize("way", ["disk", "server", "exercises"])
def test_the_notebook_can_be_taken_along(visit, host, way, tmp_path):
    """The button at the top gives the lesson's notebook as it is stored, byte for byte; so
    does the link above the exercises."""
    address = f"{host}/{LESSON}.html" if way == "server" else on_disk(LESSON)
    tab = visit(address, without="embed.js")
    button = tab.locator(".btn-download-source-button")
    if way == "exercises":
        button = tab.locator("#exercises > h2 + .nn-take").get_by_text(
            "Open the notebook"
        )
        assert button.count() == 1, "no link above the exercises: tools/takeaway.py"
    else:
        tab.get_by_role("button", name="Download this page").click()
    with tab.expect_download() as download:
        button.click()
    assert download.value.suggested_filename == f"{LESSON.partition('/')[2]}.ipynb"
    file = tmp_path / "taken.ipynb"
    download.value.save_as(file)
    assert file.read_bytes() == (ROOT / f"{LESSON}.ipynb").read_bytes()


@pytest.mark.slow
def test_minutes_of_each_section(visit):
    """In the contents: those of all sections make up what the card says, but for
    rounding; exercises have minutes of their own."""
    lesson = next(one for one in ALL if one.page == LESSON)
    tab = visit(on_disk(LESSON))
    links = tab.locator("#nn-page-toc a[data-minutes]")
    tab.wait_for_timeout(500)  # they are counted once the page is whole
    assert links.count() >= 3, "no minutes in the contents: tellMinutes in place.js"
    minutes = links.evaluate_all("all => all.map(e => Number(e.dataset.minutes))")
    assert min(minutes) >= 1
    assert lesson.reading - 8 <= sum(minutes) <= lesson.reading + 3
    assert tab.locator("#nn-page-toc a[href='#exercises'][data-minutes]").count() == 0


def test_colab_is_offered_once_the_course_has_an_address():
    """No button leads to an address that is not the course's own."""
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    is_published = bool(config["launch_buttons"]["colab_url"])
    for lesson in LESSONS:
        assert ("https://colab.research.google.com/" in page(lesson)) == is_published
