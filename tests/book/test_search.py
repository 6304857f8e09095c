"""The search page finds terms, symbols and names in code, from disk and on a phone."""

import re

from built_book import HTML, LESSONS, PHONE, on_disk

FOUND = """query => [...window.nnSearch(query).children].map(item => ({
    kind: item.querySelector('.nn-kind').textContent,
    name: item.firstElementChild.textContent,
    links: [...item.querySelectorAll('a')].map(link => link.href),
}))"""
TERM = re.compile(r'<span class="nn-term" id="use-[^"]+">([^<]+)</span>')


def ask(tab, query: str) -> list[dict]:
    """What the page shows above Sphinx's own results, by the page's own script."""
    return tab.evaluate(FOUND, query)


def test_search(visit):
    """A term of each lesson comes first and leads to its entry. Names are found whole, by
    their last part and with brackets; symbols by their letter and by their name."""
    tab = visit(on_disk("search") + "?q=logits", PHONE, "dark")
    first = tab.locator(".nn-found li").first
    assert first.locator("a").inner_text() == "logit"
    glossary = (HTML / "book/glossary.html").read_text(encoding="utf-8")
    for lesson in LESSONS:
        text = (HTML / f"{lesson}.html").read_text(encoding="utf-8")
        term = TERM.findall(text)[-1]
        found = ask(tab, term)[0]
        assert found["kind"] == "glossary", (lesson, term)
        anchor = found["links"][0].split("glossary.html#")[1]
        assert f'id="{anchor}"' in glossary

    for query, kind, name in (
        ("cross-entropy", "glossary", "cross-entropy"),
        ("MLP", "glossary", "multilayer perceptron"),
        ("batch norm", "glossary", "batch normalisation"),
        ("δ", "notation", "δ"),
        ("delta", "glossary", "delta"),
        ("sigma", "notation", "μ, σ"),
        ("nn.Conv2d", "code", "nn.Conv2d"),
        ("conv2d", "code", "conv2d"),
        ("torch.nn.Conv2d", "code", "nn.Conv2d"),
        ("backward()", "code", "backward"),
        ("randperm", "code", "torch.randperm"),
    ):
        found = ask(tab, query)
        assert found, query
        assert (found[0]["kind"], found[0]["name"]) == (kind, name), query
    names = {one["name"] for one in ask(tab, "cross_entropy")}
    assert {"cross-entropy", "cross_entropy", "F.cross_entropy"} <= names
    assert ask(tab, "cross_entropy")[0]["name"] == "cross-entropy", "terms come first"
    for link in [link for one in ask(tab, "cross_entropy") for link in one["links"]]:
        page, _, anchor = link.removeprefix(HTML.as_uri() + "/").partition("#")
        assert f'id="{anchor}"' in (HTML / page).read_text(encoding="utf-8"), link
    for nothing in ("", "  ", "qwertz", "<img src=x>"):
        assert ask(tab, nothing) == []
    assert tab.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


def test_the_index_is_small_and_only_where_it_is_used():
    """No other page loads it."""
    assert (HTML / "_static/found.js").stat().st_size < 120_000
    assert "found.js" in (HTML / "search.html").read_text(encoding="utf-8")
    assert "found.js" not in (HTML / f"{LESSONS[0]}.html").read_text(encoding="utf-8")
