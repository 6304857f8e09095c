"""A Sphinx extension: what is done last, to the whole HTML of each page.

Roles and names that the theme and docutils choose badly are set right. A
Content-Security-Policy says what the page may load: files of its own folder, no other
host, and of the scripts inside it only those that the build has put there.
"""

import base64
import hashlib
import re

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
SCRIPT = re.compile(r"<script(?![^>]*\s(?:src|type)=)[^>]*>(.*?)</script>", re.DOTALL)


def mended(page: str) -> str:
    """The page with every repair made."""
    for found, instead in REPAIRS:
        page = re.sub(found, instead, page)
    return page


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
    templates.render = lambda name, context: with_policy(mended(render(name, context)))


def setup(app):
    """Called by Sphinx."""
    app.connect("builder-inited", finish_pages)
    return {"version": "1", "parallel_read_safe": True}
