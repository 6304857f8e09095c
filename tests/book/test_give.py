"""What lets others use the book: zip file, PDF, EPUB, licences, how it is cited."""

import json
import re
import tomllib
import zipfile
from fnmatch import fnmatch
from xml.etree import ElementTree

import pytest
import yaml
from built_book import HTML, PAGES
from lesson_source import ROOT

from tools import epub, finished_pages, licences, pdf, stick

STATIC = HTML / "_static"
BUILT = pytest.mark.skipif(not STATIC.is_dir(), reason="no built book: run make book")


def read(name: str) -> str:
    """A file of the repository."""
    return (ROOT / name).read_text(encoding="utf-8")


# ---- Licences and how to cite ----


@BUILT
def test_every_file_that_others_made_has_its_licence():
    """Each file in _static is ours, or belongs to a part whose licence lies beside it;
    no part is listed in vain."""
    ours = {file.name for file in (ROOT / "book/web").iterdir()}
    names = {str(p.relative_to(STATIC)) for p in STATIC.rglob("*") if p.is_file()}
    made = ("licences/", "notebooks/", "found.js")  # by the build
    theirs = {name for name in names - ours if not name.startswith(made)}
    patterns = [pattern for part in licences.PARTS for pattern in part.patterns]
    unknown = [n for n in theirs if not any(fnmatch(n, p) for p in patterns)]
    assert not unknown, "say in tools/licences.py whose these are"
    unused = [p for p in patterns if not any(fnmatch(n, p) for n in theirs)]
    assert not unused, "no such file any more: tools/licences.py"


@BUILT
@pytest.mark.parametrize("part", licences.PARTS, ids=lambda part: part.name)
def test_a_licence_is_its_packages_own(part):
    """The text lies in the built book, holds a copyright, and says what is claimed."""
    text = (STATIC / "licences" / part.file).read_text(encoding="utf-8")
    words = {
        "MIT": "MIT|Permission is hereby granted, free of charge",
        "BSD-2-Clause": "Redistribution and use in source and binary forms",
        "BSD-3-Clause": "Redistribution and use|Neither the name|BSD",
        "OFL-1.1": "SIL Open Font License|OFL|fontawesome.com/license",
    }
    first = part.licence.split(",")[0]
    assert re.search(words[first], text)
    assert re.search(r"Copyright|\(c\)|Google Inc|fontawesome", text, re.IGNORECASE)


def test_the_page_lists_every_part():
    """With its licence and a link to the text; each npm package is among them."""
    rows = re.findall(
        r'\| <a href="\.\./_static/licences/(.+?)">(.+?)</a> \| (.+) \|',
        read("book/about.md"),
    )
    listed = [(p.file, p.name, p.licence) for p in licences.PARTS]
    assert rows == listed, "the table of book/about.md is not that of tools/licences.py"
    sources = [str(part.text) for part in licences.PARTS]
    for package in json.loads(read("package.json"))["dependencies"]:
        assert any(f"/{package}/" in text for text in sources), package


def test_the_licences_of_the_course():
    """MIT for code; for text the whole of CC BY 4.0, all eight sections."""
    assert read("LICENSE").startswith("MIT License\n\nCopyright (c) ")
    text = read("LICENSE-text")
    assert text.startswith("Attribution 4.0 International\n")
    assert re.findall(r"^Section (\d) -- ", text, re.M) == list("12345678")


def test_citation_is_valid_and_the_version_is_one():
    """The keys that CFF 1.2.0 requires, of the right kind; one version everywhere."""
    cited = yaml.safe_load(read("CITATION.cff"))
    assert cited["cff-version"] == "1.2.0"
    assert cited["message"] and cited["title"] == "Neural Networks That Run"
    assert cited["type"] in ("software", "dataset")
    assert cited["authors"] == [{"name": "The developers of Neural Networks That Run"}]
    version = tomllib.loads(read("pyproject.toml"))["project"]["version"]
    newest = re.search(r"^## (\d[\d.]*) \((\S+)\)$", read("CHANGELOG.md"), re.M)
    where = "one version in pyproject.toml, CITATION.cff, CHANGELOG.md, book/about.md"
    assert version == str(cited["version"]) == newest[1], where
    assert str(cited["date-released"]) == newest[2]
    assert f"version {version}, {newest[2][:4]}" in read("book/about.md")


@BUILT
def test_the_files_of_the_course_lie_beside_the_pages():
    """Licences, citation, changelog and how to contribute are linked from the page About,
    and are the repository's own."""
    page = (HTML / "book" / "about.html").read_text(encoding="utf-8")
    linked = set(re.findall(r'href="\.\./course/([^"]+)"', page))
    assert linked == set(finished_pages.OF_THE_COURSE.values()), (
        "link it in book/about.md"
    )
    for name, copy in finished_pages.OF_THE_COURSE.items():
        text = (HTML / "course" / copy).read_text(encoding="utf-8-sig")
        assert text == read(name), f"{copy} is an old one: run make book"


# ---- The zip file ----


@pytest.mark.slow
@BUILT
def test_the_zip_file_opens_without_a_network(tmp_path, browser):
    """A part of the book, packed twice: the same bytes; unpacked, its start page leads to
    the welcome page, in silence."""
    part = tmp_path / "html"
    (part / "book").mkdir(parents=True)
    for name in ("book/index.html", "searchindex.js"):
        (part / name).write_bytes((HTML / name).read_bytes())
    for file in [*STATIC.rglob("*"), *HTML.glob("_images/poster-*")]:
        if file.is_file() and not file.match("locales/**") and file.suffix != ".map":
            target = part / file.relative_to(HTML)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.read_bytes())
    stick.pack(part, tmp_path / "a.zip")
    (part / "book/index.html").touch()
    stick.pack(part, tmp_path / "b.zip")
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    opens(browser, tmp_path)


def opens(browser, folder):
    """Unpack a.zip and open its start page with the network off."""
    with zipfile.ZipFile(folder / "a.zip") as archive:
        archive.extractall(folder)
    start = folder / stick.FOLDER / "START-HERE.html"
    context = browser.new_context(offline=True)
    tab, complaints, asked = context.new_page(), [], []
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.on("requestfailed", lambda request: complaints.append(request.url))
    tab.on("request", lambda request: asked.append(request.url.partition(":")[0]))
    tab.goto(start.as_uri())
    tab.wait_for_url("**/html/book/index.html")
    tab.wait_for_load_state("load")
    assert tab.locator("h1:visible").inner_text().startswith("Neural Networks That Run")
    context.close()
    assert not complaints and set(asked) <= {"file", "data", "blob"}


@BUILT
@pytest.mark.sweep
def test_the_whole_zip_file(tmp_path, browser):
    """Every link of every page leads to a file in it."""
    stick.pack(HTML, tmp_path / "a.zip")
    opens(browser, tmp_path)
    root = tmp_path / stick.FOLDER
    broken = []
    for page in root.rglob("*.html"):
        if "_static" in page.parts:
            continue
        text = page.read_text(encoding="utf-8")
        for address in set(re.findall(r'<[^>]+? (?:href|src)="([^"#?]+)', text)):
            if re.match(r"\w+:", address):
                continue
            target = (page.parent / address).resolve()
            if not target.is_file() or root.resolve() not in target.parents:
                broken.append(f"{page.name}: {address}")
    assert not broken


# ---- The PDF ----


def outline(pdf_bytes: bytes) -> list[str]:
    """The titles of the bookmarks, in the order of the file."""
    items = re.findall(rb"/Title (\(.*?[^\\]\)|<[0-9A-F]*>)\n/Dest", pdf_bytes)
    return [decoded(item) for item in items]


def decoded(item: bytes) -> str:
    """A text of a PDF file: in brackets, or in hexadecimal UTF-16."""
    if item[:1] == b"<":
        return bytes.fromhex(item[1:-1].decode()).decode("utf-16")
    return re.sub(rb"\\(.)", rb"\1", item[1:-1]).decode("latin-1")


def is_whole(printed: bytes, chapters: list[dict]) -> None:
    """Every chapter and part has its bookmark, every link its place, every chapter its
    page, in the order of the contents."""
    titles = outline(printed)
    assert titles, "no bookmarks: the browser prints them for a tagged PDF only"
    for chapter in chapters:
        assert chapter["title"] in titles
        assert chapter["part"] is None or chapter["part"] in titles
    places = set(re.findall(rb"/([\w.-]+) \[\d+ 0 R /XYZ", printed))
    wanted = set(re.findall(rb"/Dest /([\w.-]+)", printed))
    assert len(wanted) >= len(chapters) and not wanted - places
    numbers = pdf.page_numbers(printed)
    pages = [numbers[f"p{i}"] for i in range(len(chapters))]
    assert pages == sorted(set(pages)) and pages[0] > 1


@pytest.mark.slow
@BUILT
def test_pages_in_print(browser):
    """Two pages of the book, with cover and contents, bookmarks and links."""
    files = ("book/checklist", "book/about")
    chapters = [c for c in pdf.contents() if c["file"] in files]
    printed = pdf.print_book(browser, chapters)
    is_whole(printed, chapters)
    assert "The data" in outline(printed)
    assert 5 <= len(re.findall(rb"/Type /Page\b", printed)) <= 9


@BUILT
@pytest.mark.sweep
def test_the_whole_book_in_print(browser):
    """All pages in the order of the contents, with widgets, answers and solutions."""
    chapters = pdf.contents()
    assert [c["file"] for c in chapters] == PAGES
    printed = pdf.print_book(browser, chapters)
    is_whole(printed, chapters)
    assert outline(printed).count("Answers and solutions") >= 24


# ---- The EPUB ----


def is_an_epub(file, chapters: list[dict]) -> None:
    """Its type comes first; every file is XML that can be read and stands in the list;
    every link has its place; formulas are MathML, once, with the right number of
    children; no script."""
    with zipfile.ZipFile(file) as archive:
        first = archive.infolist()[0]
        assert first.filename == "mimetype" and first.compress_type == zipfile.ZIP_STORED
        files = {name: archive.read(name).decode() for name in archive.namelist()}
    listed = set(re.findall(r'href="([^"]+)"', files["book/content.opf"]))
    assert {f"book/{n}" for n in listed} | {"book/content.opf"} == {
        name for name in files if name.startswith("book/")
    }
    pages = {n[5:]: text for n, text in files.items() if n.endswith(".xhtml")}
    assert len(pages) == len(chapters) + 1
    ids = {}
    for name, text in pages.items():
        tree = ElementTree.fromstring(text)
        ids[name] = {element.get("id") for element in tree.iter()}
        check_markup(tree)
    for name, text in pages.items():
        for page, _, place in re.findall(r'href="(p\d+\.xhtml)?(#)?([^":]*)"', text):
            if page or place[-4:] != ".css":
                assert not place or place in ids.get(page or name, ()), (name, place)


def check_markup(tree) -> None:
    """What a reader of EPUBs would refuse, of what the book's pages have."""
    two, three = ("msub", "msup", "munder", "mover", "mfrac"), ("msubsup", "munderover")
    for element in tree.iter():
        tag = element.tag.rpartition("}")[2]
        assert tag not in ("script", "button", "input")
        assert element.get("class") != "katex-html"
        if tag in two + three:
            assert len(element) == (2 if tag in two else 3), tag
        assert tag != "mtd" or not element.get("width")


@pytest.mark.slow
@BUILT
def test_pages_as_epub(browser, tmp_path):
    """Two pages, one of them with formulas, figures, widgets and code."""
    files = ("lessons/03_softmax", "book/about")
    chapters = [c for c in pdf.contents() if c["file"] in files]
    epub.write(browser, chapters, tmp_path / "a.epub")
    is_an_epub(tmp_path / "a.epub", chapters)
    text = zipfile.ZipFile(tmp_path / "a.epub").read("book/p0.xhtml").decode()
    assert text.count("<math") > 20 and text.count("nn-stepped") > 0
    assert "Answers and solutions" in text and "var(--" not in text
    built = (HTML / "lessons/03_softmax.html").read_text(encoding="utf-8")
    page, _, _ = built.partition('class="nn-explanations"')  # of terms: for the pointer
    points = page.count('class="nn-point"')
    assert points > 20 and text.count('class="nn-point"') == points, "commas are lost"


@BUILT
@pytest.mark.sweep
def test_the_whole_book_as_epub(browser, tmp_path):
    """All pages."""
    chapters = pdf.contents()
    epub.write(browser, chapters, tmp_path / "a.epub")
    is_an_epub(tmp_path / "a.epub", chapters)
