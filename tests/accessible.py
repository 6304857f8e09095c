"""What axe-core finds wrong with an open page, for the browser's tests.

axe-core comes with the packages of package.json, when the book is built.
"""

import pytest
from built_book import ROOT

AXE = ROOT / "node_modules" / "axe-core" / "axe.min.js"
# WCAG 2.0 to 2.2, A and AA, and what axe calls best practices.
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22a", "wcag22aa"]
RULES += ["best-practice"]
LOOKS = [(width, theme) for theme in ("light", "dark") for width in (390, 768, 1440)]
FIND = """async tags => {
    const options = {runOnly: tags, resultTypes: ["violations"], preload: false};
    const {violations} = await axe.run(document, options);
    return violations.flatMap(({id, help, nodes}) =>
        nodes.map(node => `${id} (${help}): ${node.html.slice(0, 160)}`));
}"""
# What a page has a thousand times is looked at twice: words of code of one colour, and
# what is hidden from screen readers inside formulas and figures. All stays that scrolls.
THIN = """() => {
    const times = {}, surplus = [];
    for (const word of document.querySelectorAll(".highlight pre span")) {
        const kind = word.className + getComputedStyle(word).color;
        times[kind] = (times[kind] ?? 0) + 1;
        if (times[kind] > 2) surplus.push(word);
    }
    const scrolls = e => e.scrollWidth > e.clientWidth;
    const wide = [...document.querySelectorAll("div.math")].filter(scrolls).slice(0, 2);
    for (const inside of document.querySelectorAll(".katex-html, figure svg > g")) {
        if (!wide.includes(inside.closest("div.math"))) surplus.push(inside);
    }
    for (const element of surplus) element.remove();
}"""


def set_look(tab, width: int, theme: str) -> None:
    """Give the open page this width and these colours."""
    tab.set_viewport_size({"width": width, "height": 900})
    tab.emulate_media(color_scheme=theme, reduced_motion="reduce")
    tab.wait_for_function(
        "theme => document.documentElement.dataset.theme === theme", arg=theme
    )
    settle(tab)


def settle(tab) -> None:
    """Let the page's observers of sizes, which are called after a frame, do their work."""
    tab.evaluate("""async () => {
        for (let n = 0; n < 4; n++) await new Promise(requestAnimationFrame);
    }""")


def open_all(tab) -> None:
    """Open every fold, and choose in every quiz that has no choice yet."""
    tab.evaluate("""() => {
        for (const fold of document.querySelectorAll("main details")) fold.open = true;
        for (const quiz of document.querySelectorAll(".nn-quiz.widget-box")) {
            if (!quiz.querySelector("input:checked")) quiz.querySelector("input").click();
        }
    }""")
    tab.wait_for_function("""() => [...document.querySelectorAll(".nn-quiz.widget-box")]
        .every(quiz => quiz.querySelector(".nn-right, .nn-wrong"))""")


def violations(tab) -> list[str]:
    """Each element that breaks a rule, with the rule."""
    if not AXE.is_file():
        pytest.fail("axe-core is missing: run make book")
    tab.evaluate(AXE.read_text(encoding="utf-8"))
    return tab.evaluate(FIND, RULES)


def violations_once(tab) -> list[str]:
    """The same, faster; the page has lost most of its code and formulas afterwards."""
    tab.evaluate(THIN)
    found = violations(tab)
    if found:  # what lasts counts: on a busy machine colours can come some frames later
        tab.wait_for_timeout(2000)
        found = violations(tab)
    return found
