"""What the built book carries that others made, and the licence of each.

`lay_out` puts the texts of the licences beside the files that they are about, as all of
them ask; the page *About* lists them; a test holds that nothing is missing.
"""

import shutil
from dataclasses import dataclass
from importlib.metadata import files
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NPM = ROOT / "node_modules"


@dataclass(frozen=True)
class Part:
    """A part of `_static`: its name, its licence, which files, where the text lies.

    text: of the npm package or of this repository a path, of a Python package its name.
    """

    name: str
    licence: str
    patterns: tuple[str, ...]
    text: Path | str

    @property
    def file(self) -> str:
        """The name of the licence's text in `_static/licences`."""
        return self.name.lower().replace(" ", "-") + ".txt"


FONTS = NPM / "@fontsource-variable"
PARTS = (
    Part("KaTeX", "MIT", ("katex.css", "fonts/KaTeX_*"), NPM / "katex/LICENSE"),
    Part("Source Serif", "OFL-1.1", ("fonts.css",), FONTS / "source-serif-4/LICENSE"),
    Part("Source Sans", "OFL-1.1", ("fonts.css",), FONTS / "source-sans-3/LICENSE"),
    Part("Source Code Pro", "OFL-1.1", ("fonts.css",), FONTS / "source-code-pro/LICENSE"),
    Part(
        "Jupyter Widgets",
        "BSD-3-Clause",
        ("embed.js",),
        ROOT / "book/licences/jupyter-widgets.txt",
    ),
    Part(
        "Libraries inside Jupyter Widgets",
        "MIT, BSD-3-Clause; Font Awesome: OFL-1.1, CC-BY-4.0",
        ("*.woff2",),
        NPM / "@jupyter-widgets/html-manager/dist/embed.js.LICENSE.txt",
    ),
    Part(
        "Sphinx",
        "BSD-2-Clause",
        (
            "basic.css",
            "*doc*.js",
            "language_data.js",
            "searchtools.js",
            "sphinx_highlight.js",
            "*.png",
        ),
        "sphinx",
    ),
    Part(
        "Sphinx Book Theme",
        "BSD-3-Clause",
        ("*/sphinx-book-theme.*", "sbt-*", "images/*", "locales/*"),
        "sphinx-book-theme",
    ),
    Part(
        "PyData Sphinx Theme",
        "BSD-3-Clause",
        ("*/pydata-sphinx-theme.*", "styles/theme.css", "webpack-macros.html"),
        "pydata-sphinx-theme",
    ),
    Part("Bootstrap", "MIT", ("scripts/bootstrap.*",), "bootstrap.js.LICENSE.txt"),
    Part(
        "Font Awesome",
        "OFL-1.1, CC-BY-4.0, MIT",
        ("scripts/fontawesome.*", "vendor/fontawesome/*"),
        "fontawesome.js.LICENSE.txt",
    ),
    Part(
        "sphinx-copybutton",
        "MIT",
        ("copybutton*", "copy-button.svg", "check-solid.svg", "clipboard.min.js"),
        "sphinx-copybutton",
    ),
    Part("sphinxcontrib-katex", "MIT", ("katex-math.css",), "sphinxcontrib-katex"),
    Part("MyST-NB", "BSD-3-Clause", ("mystnb.*",), "myst-nb"),
    Part("Pygments", "BSD-2-Clause", ("pygments.css",), "pygments"),
)


def lay_out(target: Path) -> None:
    """Write the licence of every part into a folder. FileNotFoundError where a package
    no longer brings it."""
    target.mkdir(parents=True, exist_ok=True)
    for part in PARTS:
        shutil.copyfile(source(part), target / part.file)


def source(part: Part) -> Path:
    """The file that holds a part's licence."""
    if isinstance(part.text, Path):
        return part.text
    package, wanted = part.text, "LICENSE"
    if part.text.endswith(".txt"):  # of a library inside the theme
        package, wanted = "pydata-sphinx-theme", part.text
    for file in files(package):
        if file.name.startswith(wanted):
            return Path(file.locate())
    raise FileNotFoundError(f"{package} brings no {wanted}: see tools/licences.py")
