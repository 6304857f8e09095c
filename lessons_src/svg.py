"""Matplotlib's SVG file made into the inline SVG of a page, one step a function."""

import hashlib
import html
import re

REFERENCE = r'(url\(#|href="#)([^")]+)'  # how SVG points to an id


def inline_svg(file: str, alt: str, measured: bool, colours: dict[str, str]) -> str:
    """The text of an SVG file as an element that lives in a page.

    alt: what is to be seen. measured: the element's class is "measured", not "exact".
    colours: a colour in the file -> what CSS has in its place.
    """
    svg = without_file_parts(file)
    svg = with_rounded_coordinates(svg)
    svg = in_the_pages_font(svg)
    svg = in_the_pages_colours(svg, colours)
    svg = with_page_head(svg, alt, measured)
    return with_unique_ids(on_one_line(svg))


def without_file_parts(svg: str) -> str:
    """Drop what only a file needs. A style sheet would hold for the whole page."""
    svg = svg[svg.index("<svg") :]
    parts = r"<metadata>.*?</metadata>|<!--.*?-->|<style.*?</style>"
    return re.sub(parts, "", svg, flags=re.DOTALL)


def with_rounded_coordinates(svg: str) -> str:
    """Cut numbers inside tags to two decimals; the digits of a text stay as they are."""
    # A hundredth of a point is finer than any screen.
    return re.sub(r"(\d\.\d\d)\d+(?=[^<>]*>)", r"\1", svg)


def in_the_pages_font(svg: str) -> str:
    """Let texts inherit the page's font; their size, weight and slant stay."""
    svg = re.sub(r"'DejaVu Sans'[^;\"]*", "inherit", svg)
    # Before 3.10 matplotlib wrote "font: 700 9px ...", a form that cannot inherit.
    long_form = r"font-weight: \1; font-size: \2; font-family: inherit"
    svg = re.sub(r"font: (\d+) (\S+) inherit", long_form, svg)
    return re.sub(r"font: (\S+) inherit", r"font-size: \1; font-family: inherit", svg)


def in_the_pages_colours(svg: str, colours: dict[str, str]) -> str:
    """Replace each colour by the CSS that stands for it."""
    for colour, css in colours.items():
        svg = svg.replace(colour, css)
    return svg


def with_page_head(svg: str, alt: str, measured: bool) -> str:
    """Give the element a role, an alt text and a size in CSS pixels."""
    width, height = re.search(r'width="([\d.]+)pt" height="([\d.]+)pt"', svg).groups()
    view_box = re.search(r'viewBox="[^"]+"', svg)[0]
    kind = "measured" if measured else "exact"
    # fill: what has no colour of its own would be black; this way it follows the text.
    head = (
        f'<svg fill="currentColor" class="{kind}" role="img" '
        f'aria-label="{html.escape(alt)}" {view_box} '
        f'width="{pixels(width)}" height="{pixels(height)}" '
        'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        'style="max-width: 100%; height: auto; stroke-linejoin: round">'
    )
    return head + svg[svg.index(">") + 1 :]


def standalone(svg: str) -> str:
    """The same element for viewers that show it as an image of its own: on a white
    ground, in a font without serifs. A page's style sheet overrides both."""
    head, rest = svg.split(">", 1)
    ground = '<rect class="nn-ground" width="100%" height="100%" fill="#fff"/>'
    return f'{head} font-family="DejaVu Sans, sans-serif" color="#000">{ground}{rest}'


def pixels(points: str) -> str:
    """A length in points as whole CSS pixels: 72 points are 96 pixels."""
    return f"{float(points) * 4 / 3:.0f}"


def on_one_line(svg: str) -> str:
    """Put a space in place of each line break and the indentation around it."""
    return re.sub(r"\s*\n\s*", " ", svg)


def with_unique_ids(svg: str) -> str:
    """Drop ids that nothing refers to; give the others a prefix of this figure's own."""
    used = {target for _, target in re.findall(REFERENCE, svg)}
    prefix = "f" + hashlib.sha256(svg.encode()).hexdigest()[:8]

    def rename(match):
        return f' id="{prefix}-{match[1]}"' if match[1] in used else ""

    svg = re.sub(r' id="([^"]+)"', rename, svg)
    return re.sub(REFERENCE, rf"\g<1>{prefix}-\g<2>", svg)
