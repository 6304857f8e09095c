"""Figures of one piece on a phone: whole, with legible type; on a desk as they were."""

import pytest
from built_book import DESK, PHONE, on_disk

LESSON = "lessons/16_cnn_mnist"  # charts, bars, a table of counts, tall and flat figures
POWERS = "lessons/07_gradients_to_trust"  # two panels that share a logarithmic axis
DRAWINGS = "figure.nn-figure > svg[role=img]"
# Each drawing's attributes and the places of its words.
STATE = f"""() => [...document.querySelectorAll('{DRAWINGS}')].map(svg => [
    svg.getAttribute('viewBox'), svg.getAttribute('width'), svg.getAttribute('height'),
    ...[...svg.querySelectorAll('g')].map(g => g.getAttribute('transform') ?? '')])"""
# Whether a phone shows all drawings whole.
WHOLE = f"""() => [...document.querySelectorAll('{DRAWINGS}')]
    .filter(svg => svg.checkVisibility())
    .every(svg => svg.clientWidth <= svg.parentElement.clientWidth)"""
# Whether numbers are lent to panels, and all of them stand left of their panel.
LENT = """() => {
    const copies = [...document.querySelectorAll('.nn-figure .nn-lent')];
    const box = e => e.getBoundingClientRect();
    return copies.length > 0 && copies.every(copy => {
        const panel = box(copy.parentElement.querySelector(':scope > g > path'));
        return [...copy.querySelectorAll('text')].map(box).every(word =>
            word.left < word.right && panel.left - 90 < word.left
            && word.right < panel.left + 1
            && panel.top - 20 < word.top && word.bottom < panel.bottom + 20);
    });
}"""
# Pairs of words in a drawing that cover each other.
COVERED = f"""() => [...document.querySelectorAll('{DRAWINGS}')].flatMap(svg => {{
    const words = [...svg.querySelectorAll('text')].filter(e => e.checkVisibility());
    const boxes = words.map(e => e.getBoundingClientRect());
    const meet = (a, b) => a.left < b.right - 2 && b.left < a.right - 2
        && a.top < b.bottom - 4 && b.top < a.bottom - 4;
    return words.flatMap((word, k) => words.slice(k + 1)
        .filter((_, n) => meet(boxes[k], boxes[k + 1 + n]))
        .map(other => `${{word.textContent}} / ${{other.textContent}}`));
}})"""


@pytest.mark.slow
def test_a_figure_is_whole_on_a_phone(visit):
    """Every figure is as wide as the screen, and its enlarged words stay apart; how small
    they may be is asked on every page, in test_pages.py. Back on a desk each drawing is
    the one that was stored."""
    tab = visit(on_disk(LESSON), DESK)
    tab.locator(".nn-veil").evaluate_all("veils => veils.forEach(e => e.click())")
    stored = tab.evaluate(STATE)
    apart = tab.evaluate(COVERED)
    tab.set_viewport_size(PHONE)
    tab.wait_for_function(WHOLE)
    new = [pair for pair in tab.evaluate(COVERED) if pair not in apart]
    assert not new, "enlarged words cover each other: see keepsApart in type.js"
    tab.set_viewport_size(DESK)
    tab.wait_for_function(
        f"stored => JSON.stringify(({STATE})()) === JSON.stringify(stored)", arg=stored
    )


@pytest.mark.slow
def test_lent_numbers_stand_at_their_panel(visit):
    """A panel that begins a new row has its numbers beside it, powers of ten too."""
    tab = visit(on_disk(POWERS), PHONE)
    tab.locator(".nn-veil").evaluate_all("veils => veils.forEach(e => e.click())")
    tab.wait_for_function(LENT)
