"""A Sphinx extension: what is done last, to the whole HTML of each page.

Roles and names that the theme and docutils choose badly are set right. A
Content-Security-Policy says what the page may load: files of its own folder, no other
host, and of the scripts inside it only those that the build has put there. A number keeps
its unit on its line. What the course says of itself in files of the repository is laid
beside the pages, for the page *About*.
"""

import base64
import hashlib
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# What is found in a page, and what stands there instead.
REPAIRS = [
    # The button shows more words than its name had; without the name they are its name.
    (
        r'(<button class="btn search-button-field[^>]*?) title="Search" '
        r'aria-label="Search"',
        r"\1",
    ),
    # The title above the menu stands outside every landmark.
    (
        r'<div class="sidebar-primary-item">(\s*<a class="navbar-brand)',
        r'<div class="sidebar-primary-item" role="banner">\1',
    ),
    # The standard has given this role up; the list around it asks for items.
    (r'role="doc-biblioentry"', 'role="listitem"'),
    # A head without words names nothing.
    (r'<th class="head[^"]*">(<p></p>)?</th>', "<td></td>"),
    # The policy lets no attribute run code: nn.js does it.
    (r' onclick="window\.print\(\)"', ""),
]
# A page opened from disk is its own origin; "file:" says that in every browser.
OWN = "'self' file:"
# Files of the repository that the book has too. Markdown becomes plain text: a browser that
# opens it from disk shows it in place of asking where to save it.
OF_THE_COURSE = {
    "LICENSE": "LICENSE.txt",
    "LICENSE-text": "LICENSE-text.txt",
    "CITATION.cff": "CITATION.txt",
    "CHANGELOG.md": "CHANGELOG.txt",
    "CONTRIBUTING.md": "CONTRIBUTING.txt",
}
# A number, a space that would break, and its unit. Text in these elements is not prose:
# code, formulas, drawings, and scripts but for the stored widgets.
SPACED = re.compile(r"(?<=\d) (?=(?:%|(?:s|ms|µs|min|h|kB|MB|GB|GiB|MiB|px|GFLOP/s)\b))")
LEFT_ALONE = re.compile(
    r"(<(script|style|pre|code|svg|template|annotation|title)\b"
    r"(?![^>]*widget-state)[^>]*>.*?</\2>|<[^>]*>)",
    re.DOTALL,
)
SCRIPT = re.compile(r"<script(?![^>]*\s(?:src|type)=)[^>]*>(.*?)</script>", re.DOTALL)


def mended(page: str) -> str:
    """The page with every repair made."""
    for found, instead in REPAIRS:
        page = re.sub(found, instead, page)
    return page


def kept_together(page: str) -> str:
    """The page with a no-break space between a number and its unit, in text alone."""
    parts, end = [], 0
    for left in LEFT_ALONE.finditer(page):
        parts += [SPACED.sub("\N{NO-BREAK SPACE}", page[end : left.start()]), left[0]]
        end = left.end()
    return "".join([*parts, SPACED.sub("\N{NO-BREAK SPACE}", page[end:])])


def with_policy(page: str) -> str:
    """The page with its policy, which stands before whatever it rules."""
    hashes = "".join(f" '{sha256(script)}'" for script in scripts_inside(page))
    rules = [
        f"default-src {OWN} data: blob:",
        f"script-src {OWN}{hashes}",
        f"style-src {OWN} 'unsafe-inline'",  # KaTeX and the figures have style attributes
        f"form-action {OWN}",
        "object-src 'none'",
        "base-uri 'none'",
    ]
    meta = f'<meta http-equiv="Content-Security-Policy" content="{"; ".join(rules)}" />'
    charset = '<meta charset="utf-8" />'
    return page.replace(charset, f"{charset}\n    {meta}", 1)


def scripts_inside(page: str) -> list[str]:
    """The text of each script that stands in the page; each text once, in order."""
    return list(dict.fromkeys(SCRIPT.findall(page)))


def sha256(script: str) -> str:
    """The name by which a policy allows this script."""
    digest = hashlib.sha256(script.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


def finish_pages(app):
    """From here on the builder's templates give finished pages."""
    templates = getattr(app.builder, "templates", None)
    if app.builder.format != "html" or templates is None:
        return
    render = templates.render
    templates.render = lambda name, context: with_policy(
        kept_together(mended(render(name, context)))
    )


def lay_files_beside(app, exception):
    """The files of the course, into the folder `course` of the built book."""
    if exception or app.builder.format != "html":
        return
    folder = Path(app.outdir) / "course"
    folder.mkdir(exist_ok=True)
    for name, copy in OF_THE_COURSE.items():
        text = (ROOT / name).read_text(encoding="utf-8")
        # The mark at the start tells a browser the encoding, which no server does here.
        (folder / copy).write_text(text, encoding="utf-8-sig")


def setup(app):
    """Called by Sphinx."""
    app.connect("builder-inited", finish_pages)
    app.connect("build-finished", lay_files_beside)
    return {"version": "1", "parallel_read_safe": True}
