"""The book on paper, in a reader's own colours, enlarged, read aloud, and copied from."""

import getpass
import re
import socket

import pytest
from built_book import DESK, HTML, LESSONS, PAGES, PHONE, ROOT, on_disk

LESSON = LESSONS[2]  # steppers, quizzes, figures of two panels, promises, formulas
# Words whose colour has too little contrast on white paper. Colours are in sRGB.
PALE = """() => {
    const linear = v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    const light = colour => {
        const [r, g, b] = colour.match(/[\\d.]+/g).map(v => linear(v / 255));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const hasWords = e => [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim());
    return [...document.querySelectorAll("main *")]
        .filter(e => hasWords(e) && e.checkVisibility())
        .map(e => [e, getComputedStyle(e)[e.closest("svg") ? "fill" : "color"]])
        .filter(([e, colour]) => colour.startsWith("rgb("))
        .filter(([e, colour]) => 1.05 / (light(colour) + 0.05) < 4.5)
        .map(([e, colour]) => `${colour}: ${e.textContent.slice(0, 40)}`);
}"""
# What reaches beyond the screen, and no scrolling brings it back.
CUT = """() => {
    const isHeld = e => {
        for (let box = e.parentElement; box; box = box.parentElement) {
            if (/auto|scroll/.test(getComputedStyle(box).overflowX)) return true;
        }
        return false;
    };
    return [...document.querySelectorAll("main *")]
        .filter(e => e.checkVisibility({opacityProperty: true}) && e.innerText?.trim())
        .filter(e => !e.closest(".katex-mathml, .visually-hidden, .katex"))
        .filter(e => e.getBoundingClientRect().right > innerWidth + 1 && !isHeld(e))
        .map(e => e.outerHTML.slice(0, 120));
}"""


@pytest.mark.slow
def test_paper_is_white_under_a_dark_screen(visit):
    """Printed from a dark screen: dark words, figures included; no closed fold, and no
    button that nobody can press."""
    tab = visit(on_disk(LESSON), theme="dark")
    tab.emulate_media(media="print", color_scheme="dark")
    root = "getComputedStyle(document.documentElement)"
    assert tab.evaluate(f"{root}.colorScheme") == "light"
    assert tab.evaluate("getComputedStyle(document.body).backgroundColor") in (
        "rgb(255, 255, 255)",
        "rgba(0, 0, 0, 0)",
    )
    assert tab.evaluate(PALE) == [], "too pale on paper: see @media print in nn.css"
    folds = tab.locator("main :is(details.hide, details.nn-hint)")
    assert folds.count() > 3 and folds.locator("visible=true").count() == 0
    folds.first.evaluate("fold => { fold.open = true; }")
    assert folds.first.is_visible(), "what the reader has opened is printed"
    assert tab.locator("details.nn-promise:visible").count() > 3
    assert tab.locator(".copybtn:visible, .prev-next-area:visible").count() == 0


@pytest.mark.slow
def test_a_readers_own_colours(visit):
    """Where the system has few colours of its own, nothing is a coloured ground alone."""
    tab = visit(on_disk(LESSON), theme="dark")
    tab.emulate_media(forced_colors="active", color_scheme="dark")
    ground = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    styles = "all => all.map(e => getComputedStyle(e))"
    icons = tab.locator(":is(.fa-solid, .fas):visible").evaluate_all(
        f"all => ({styles})(all).map(style => style.backgroundColor)"
    )
    assert len(icons) > 2 and ground not in icons, "an icon in the colour of its ground"
    edges = tab.locator(".noUi-handle").evaluate_all(
        f"all => ({styles})(all).map(style => [style.borderTopColor, style.borderTopWidth])"
    )
    assert edges and all(
        colour != ground and float(width[:-2]) > 0 for colour, width in edges
    ), "a slider without a handle"
    radio = tab.locator(".nn-quiz input").first
    radio.check()
    assert radio.evaluate("e => getComputedStyle(e).appearance") != "none"
    tab.keyboard.press("Tab")
    focus = tab.evaluate("""() => {
        const {outlineStyle, outlineWidth, outlineColor} =
            getComputedStyle(document.activeElement);
        return [outlineStyle, outlineWidth, outlineColor];
    }""")
    assert focus[0] == "solid" and focus[1] == "2px" and focus[2] != ground
    ends = tab.locator(".nn-range svg").evaluate_all(
        f"all => ({styles})(all).map(style => style.stroke)"
    )
    assert ground not in ends


@pytest.mark.slow
@pytest.mark.parametrize(
    ("page", "parts"),
    [
        ("book/draw", ".nn-draw-field, .nn-draw button"),
        ("book/playground", ".pg-surface, .pg button"),
    ],
)
def test_a_readers_own_colours_where_one_draws(visit, page, parts):
    """The field to draw in and every button keep an edge that is seen, and the bars of the
    ten digits a colour of the reader's."""
    tab = visit(on_disk(page), theme="dark")
    tab.emulate_media(forced_colors="active", color_scheme="dark")
    ground = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    tab.locator(parts).first.wait_for()
    edges = tab.locator(parts).evaluate_all("""all => all
        .filter(e => e.checkVisibility())
        .map(e => [getComputedStyle(e), e])
        .map(([style, e]) => [e.className || e.innerText,
            style.borderTopColor, parseFloat(style.borderTopWidth)])""")
    unseen = [name for name, colour, width in edges if colour == ground or width == 0]
    assert len(edges) > 4 and not unseen, "no edge: see forced-colors in draw.css"
    bars = tab.locator(".nn-draw-bar i").evaluate_all(
        "all => all.map(e => getComputedStyle(e).backgroundColor)"
    )
    assert len(bars) >= (10 if page == "book/draw" else 0)
    assert ground not in bars, "a bar in the colour of its ground"


@pytest.mark.slow
def test_enlarged_four_times_and_without_motion(visit):
    """A screen of 1280 pixels, enlarged to 400 %, has 320: nothing is cut. And nothing
    moves where the reader wants it so."""
    tab = visit(on_disk(LESSON), {"width": 320, "height": 256})
    assert tab.evaluate(CUT) == [], "wider than a screen of 320 pixels: let it scroll"
    moving = tab.evaluate("""() => [...document.querySelectorAll("*")].filter(e => {
        const style = getComputedStyle(e);
        const time = style.transitionDuration + style.animationDuration;
        return /[1-9]/.test(time) || style.scrollBehavior === "smooth";
    }).length""")
    assert moving == 0


@pytest.mark.slow
def test_read_aloud(visit):
    """A stepper's slider has a name once, and says the new frame once; a figure has its
    number and what is to be seen; a promise its range; a formula its MathML."""
    tab = visit(on_disk(LESSON))
    stepper = tab.locator(".nn-stepper").first
    slider = stepper.get_by_role("slider")
    name = slider.get_attribute("aria-label")
    assert stepper.aria_snapshot().count(f'slider "{name}"') == 1
    said = stepper.locator("[aria-live]")
    assert said.inner_text() == ""
    slider.press("ArrowLeft")
    frame = stepper.locator("svg[role=img]:visible").first
    tab.wait_for_function(
        "([said, svg]) => said.textContent === svg.ariaLabel",
        arg=[said.element_handle(), frame.element_handle()],
    )
    tab.wait_for_function(
        "said => said.textContent === ''", arg=said.element_handle(), timeout=30_000
    )
    figure = tab.locator("main").get_by_role("figure", name="Figure 1", exact=True)
    assert figure.get_by_role("img").count() == 1
    strips = tab.locator("details.nn-promise").all()
    assert all("img" in strip.aria_snapshot() for strip in strips[:3])
    formula = tab.locator("div.math").first
    assert formula.aria_snapshot().startswith("- math")
    hidden = tab.locator(".katex-mathml").evaluate_all("""all => all.filter(e =>
        !e.closest("details:not([open]), .nn-explanations") && !e.checkVisibility()
        || e.closest("[aria-hidden=true]")).length""")
    assert hidden == 0


@pytest.mark.slow
def test_a_formula_is_copied_as_tex(visit):
    """A paragraph with its formulas, and half a formula, which is copied whole."""
    tab = visit(on_disk(LESSON))
    copied = """range => {
        getSelection().removeAllRanges();
        getSelection().addRange(range);
        const data = new DataTransfer();
        const event = new ClipboardEvent("copy", {clipboardData: data, bubbles: true});
        document.dispatchEvent(event);
        return data.getData("text/plain");
    }"""
    text = tab.evaluate(f"""() => {{
        const range = new Range();
        range.selectNode(document.querySelector("main p:has(.katex)"));
        return ({copied})(range);
    }}""")
    formula = tab.locator("main p:has(.katex) annotation").first.text_content()
    assert f"${formula}$" in text, "a formula lost its TeX: see formulas.js"
    assert (
        text.count("$")
        == 2 * tab.locator("main p:has(.katex)").first.locator(".katex").count()
    )
    half = tab.evaluate(f"""() => {{
        const range = new Range();
        const parts = document.querySelectorAll(".katex-display .katex-html .mord");
        range.setStart(parts[1].firstChild, 0);
        range.setEnd(parts[2].lastChild, 1);
        return ({copied})(range);
    }}""")
    whole = tab.locator(".katex-display annotation").first.text_content().strip()
    assert half == f"$${whole}$$"
    assert (
        tab.evaluate(f"""() => {{
        const range = new Range();
        range.selectNodeContents(document.querySelector("h1"));
        return ({copied})(range);
    }}""")
        == ""
    ), "what has no formula is copied by the browser"


@pytest.mark.slow
def test_panels_are_stacked_and_put_back(visit):
    """On a phone the second panel stands below the first, its borrowed numbers left of
    it; on a desk the drawing is the one that was stored."""
    tab = visit(on_disk(LESSON), PHONE)
    stacked = ".nn-figure > svg:has(.nn-lent)"
    tab.wait_for_selector(stacked)  # no panel gets its numbers: see panels.js
    svg = tab.locator(stacked).first.element_handle()
    boxes = svg.evaluate("""svg => [...svg.querySelectorAll(":scope > g > g")].slice(1)
        .map(panel => panel.getBoundingClientRect().toJSON())""")
    assert boxes[1]["top"] >= boxes[0]["bottom"] - 1
    assert max(box["right"] for box in boxes) <= PHONE["width"]
    assert svg.evaluate("svg => svg.parentElement.scrollWidth") <= PHONE["width"]
    tab.set_viewport_size(DESK)
    tab.wait_for_function("() => !document.querySelector('.nn-figure .nn-lent')")
    left = ".nn-figure > svg > g > g[transform]:not([transform=''])"
    assert tab.locator(left).locator("visible=true").count() == 0


# ---- no other host, and nothing of the machine that built the book ----


@pytest.mark.slow
@pytest.mark.parametrize("address", ["disk", "host"])
def test_another_host_is_refused(browser, host, address):
    """A script, an image, a style sheet, a font, a request and a script's text from
    elsewhere, put into a page: the browser refuses each of them."""
    url = on_disk(PAGES[0]) if address == "disk" else f"{host}/{PAGES[0]}.html"
    tab = browser.new_page()
    tab.goto(url)
    refused = tab.evaluate("""async () => {
        const refused = [];
        document.addEventListener("securitypolicyviolation", event => {
            refused.push(event.effectiveDirective);
            event.stopImmediatePropagation();
        }, true);
        const add = (name, attributes) => {
            document.head.append(Object.assign(document.createElement(name), attributes));
        };
        const there = "https://elsewhere.invalid/";
        add("script", {src: there + "a.js"});
        add("script", {textContent: "window.ran = true"});
        add("img", {src: there + "a.png"});
        add("link", {rel: "stylesheet", href: there + "a.css"});
        add("iframe", {src: there});
        await fetch(there).catch(() => {});
        for (let i = 0; i < 100 && new Set(refused).size < 5; i++)
            await new Promise(resolve => setTimeout(resolve, 100));
        return refused.concat(window.ran ? "ran" : []);
    }""")
    tab.close()
    wanted = ["connect-src", "frame-src", "img-src", "script-src-elem"]
    assert sorted(set(refused)) == [*wanted, "style-src-elem"], (
        "what is not refused, the policy allows: see with_policy in tools/finished_pages.py"
    )


def test_no_page_tells_of_the_machine_that_built_it():
    """No absolute path, no name of its user at its host, in pages, sources, indexes."""
    own = [str(ROOT), f"{getpass.getuser()}@", f"@{socket.gethostname()}"]
    folders = ["home", "Users", "root", "tmp", "work", "mnt", "runner", "private", "opt"]
    starts = [f"/{name}/" for name in folders] + [":\\Users", ":\\Temp"]
    words = "|".join(map(re.escape, own))
    traces = re.compile(
        rf"{words}|(?<![\w.:/])/({'|'.join(folders)})/\w|\b[A-Z]:\\+(Users|Temp)"
    )
    files = [
        file
        for file in [*HTML.rglob("*"), *(ROOT / "lessons").glob("*.ipynb")]
        if file.suffix in {".html", ".ipynb", ".md"} or file.name == "searchindex.js"
    ]
    assert len(files) > 2 * len(PAGES)
    found = {}
    for file in files:
        text = file.read_text(encoding="utf-8")
        if not any(start in text for start in own + starts):
            continue  # most files; an expression takes longer to say so
        match = traces.search(text)
        if match:
            found[file.name] = match[0]
    assert found == {}, "store the lesson again where it does not show its folders"


def test_every_page_has_the_policy():
    """It stands before the first script, and allows no code in attributes or strings."""
    for page in [*PAGES, "search"]:
        text = (HTML / f"{page}.html").read_text(encoding="utf-8")
        policy = re.search(r'Content-Security-Policy" content="([^"]+)"', text)
        assert policy and policy.start() < text.index("<script"), page
        rule = re.search(r"script-src ([^;]+)", policy[1])[1]
        assert "unsafe" not in rule and "http" not in policy[1], page
        assert not re.search(r"<[^>]* on(click|load|error)=", text), page
