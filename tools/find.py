"""A Sphinx extension: what a search finds beyond Sphinx's index of words.

Sphinx's index knows the stems of words. Readers also look for `cross_entropy`,
`nn.Conv2d`, δ and terms of the glossary. All of these go into a small index of their own,
`_static/found.js`, which the search page alone loads, and whose results it shows first.
"""

import builtins
import io
import json
import keyword
import re
import tokenize
from pathlib import Path

from docutils import nodes

from tools.course import number_of
from tools.explained import GLOSSARY, entries, entry_id, name_in
from tools.terms import forms, terms

NOTATION = "book/notation"
INDEX = "found.js"
SIGNS = {
    "alpha": "α",
    "beta": "β",
    "gamma": "γ",
    "delta": "δ",
    "Delta": "Δ",
    "epsilon": "ε",
    "varepsilon": "ε",
    "eta": "η",
    "theta": "θ",
    "kappa": "κ",
    "lambda": "λ",
    "mu": "μ",
    "rho": "ρ",
    "sigma": "σ",
    "tau": "τ",
    "omega": "ω",
    "partial": "∂",
    "nabla": "∇",
    "ell": "ℓ",
    "odot": "⊙",
    "lVert": "‖",
    "rVert": "‖",
    "cdot": "·",
    "ldots": "…",
}
OVER = {"hat": "\u0302", "tilde": "\u0303", "bar": "\u0304", "dot": "\u0307"}


def note_names(app, doctree):
    """Called by Sphinx when it has read a page: keep the names in its code, or symbols."""
    env, page = app.env, app.env.docname
    if not hasattr(env, "nn_names"):
        env.nn_names, env.nn_symbols = {}, []
    if page.startswith("lessons/"):
        env.nn_names[page] = names_in_code(doctree)
    if page == NOTATION:
        env.nn_symbols = symbols(doctree)


def forget(app, env, docname):
    """Called by Sphinx when a page is gone, or read anew."""
    getattr(env, "nn_names", {}).pop(docname, None)


# ---- names in code ----


def names_in_code(doctree) -> dict[str, list]:
    """Each name in a page's code: [id of the section where it is, whether made there].

    The section is that of its definition, else that of its first use. Code that only
    draws is folded, and left out.
    """
    found, modules = {}, set()
    for cell in doctree.findall(nodes.container):
        if cell.get("nb_element") != "cell_code":
            continue
        tags = cell["cell_metadata"].get("tags", [])
        if "remove-input" in tags:
            continue
        section = section_of(cell)
        for block in cell.children[0].findall(nodes.literal_block):
            for name, is_made in names(block.astext(), modules):
                if "hide-input" in tags and "solution" not in tags:
                    continue
                if name not in found or (is_made and not found[name][1]):
                    found[name] = [section, is_made]
    return found


def names(code: str, modules: set[str]) -> list[tuple[str, bool]]:
    """(name, whether defined) of what code calls, imports, defines and looks up.

    modules: the names of imported modules so far; those of this code are added. Of
    `F.relu` the whole name is kept, and the last part of `loss.backward`.
    """
    try:
        tokens = list(tokenize.generate_tokens(io.StringIO(code).readline))
    except (tokenize.TokenError, SyntaxError):  # a line for the shell
        return []
    words = [t.string for t in tokens if t.type in (tokenize.NAME, tokenize.OP)]
    modules |= set(re.findall(r"(?m)^(?:import|from)\b.*?\b(?:import|as) (\w+)", code))
    modules |= set(re.findall(r"(?m)^import (\w+)$", code))
    found, i = [], 0
    while i < len(words):
        name, before = words[i], words[i - 1] if i else ""
        i += 1
        if not name.isidentifier() or keyword.iskeyword(name):
            continue
        while i + 1 < len(words) and words[i] == "." and words[i + 1].isidentifier():
            name, i = f"{name}.{words[i + 1]}", i + 2
        called = i < len(words) and words[i] == "("
        first, _, rest = name.partition(".")
        if rest and first not in modules:
            name = rest.rpartition(".")[2]
        wanted = rest or called or before in ("def", "class", "import")
        if wanted and len(name) > 2 and not hasattr(builtins, name):
            found.append((name, before in ("def", "class")))
    return found


def section_of(node) -> str:
    """The id of the section in which a node stands."""
    while not isinstance(node, nodes.section):
        node = node.parent
    return node["ids"][0]


# ---- symbols ----


def symbols(doctree) -> list[list]:
    """Of each row of the notation's tables: [as shown, [ways to ask], meaning, section]."""
    found = []
    for row in doctree.findall(nodes.row):
        if isinstance(row.parent, nodes.thead):
            continue
        *marks, meaning = row.children[:3]
        maths = [math.astext() for math in marks[0].findall(nodes.math)]
        codes = [c.astext() for cell in row.children for c in cell.findall(nodes.literal)]
        shown = ", ".join(map(letters, maths)) or ", ".join(codes)
        asked = re.split(r"[,;] ", shown) + codes
        asked += re.findall(r"\\([a-z]{2,})", " ".join(maths))  # delta, for δ
        asked = list(dict.fromkeys(word for word in asked if word))
        found.append([shown, asked, letters(meaning.astext()), section_of(row)])
    return found


def letters(tex: str) -> str:
    """Simple TeX as letters: `\\delta^{(l)}` is δ(l), and `\\hat y` is ŷ."""
    tex = re.sub(r"\\(hat|tilde|bar|dot) ?\{?(\w|\\\w+)\}?", over, tex)
    tex = re.sub(r"\\(?:text|mathrm|mathbb|operatorname|top|,|;)", "", tex)
    tex = re.sub(r"\\([a-zA-Z]+)", lambda match: SIGNS.get(match[1], match[1]), tex)
    return " ".join(re.sub(r"[\\^{}$]", "", tex).split())


def over(match: re.Match) -> str:
    """A letter with its mark above it."""
    return letters(match[2]) + OVER[match[1]]


# ---- the index ----


def write_index(app, error):
    """Called by Sphinx when all pages are written."""
    if error or app.builder.name != "html":
        return
    env = app.env
    source = Path(env.doc2path(GLOSSARY)).read_text(encoding="utf-8")
    ids = {name_in(e[0]): entry_id(e[0]) for e in entries(env.get_doctree(GLOSSARY))}
    address = app.builder.get_target_uri
    glossary = [
        [
            term,
            forms(term)[1:],
            letters(said.replace("`", "")),
            f"{address(GLOSSARY)}#{ids[term]}",
        ]
        for term, said in terms(source).items()
    ]
    pages = sorted(env.nn_names)
    code = {}
    sections = [
        list(dict.fromkeys(s for s, _ in env.nn_names[p].values())) for p in pages
    ]
    for i, page in enumerate(pages):
        for name, (section, is_made) in env.nn_names[page].items():
            place = [i, sections[i].index(section)] + [1] * is_made
            code.setdefault(name, []).append(place)
    index = {
        "terms": glossary,
        "symbols": [[*s[:3], f"{address(NOTATION)}#{s[3]}"] for s in env.nn_symbols],
        "pages": [
            [number_of(page), address(page), here]
            for page, here in zip(pages, sections, strict=True)
        ],
        "code": code,
    }
    text = json.dumps(index, ensure_ascii=False, separators=(",", ":"))
    file = Path(app.outdir, "_static", INDEX)
    file.write_text(f"window.nnFound = {text};\n", encoding="utf-8")


def add_scripts(app, pagename, templatename, context, doctree):
    """Called by Sphinx for every page: the index and its script on the search page."""
    if pagename == "search":
        app.add_js_file(INDEX, loading_method="defer")
        app.add_js_file("search.js", loading_method="defer")


def setup(app):
    """Called by Sphinx."""
    app.connect("doctree-read", note_names)
    app.connect("env-purge-doc", forget)
    app.connect("html-page-context", add_scripts)
    app.connect("build-finished", write_index)
    return {"version": "1", "parallel_read_safe": True}
