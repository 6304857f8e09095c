"""A citation as Markdown that every viewer shows: `python -m tools.citations KEY …`.

Made from book/references.bib: author and year, linked to the DOI or the address.
"""

import functools
import sys
from pathlib import Path

from pybtex.database import Entry, parse_file
from pybtex.richtext import Text

BIB = Path(__file__).resolve().parents[1] / "book" / "references.bib"


@functools.cache
def entries() -> dict[str, Entry]:
    """The entries of the bibliography by their keys."""
    return dict(parse_file(BIB, bib_format="bibtex").entries)


def citation(key: str) -> str:
    """The Markdown link of an entry: `[Nair and Hinton (2010)](https://…)`.

    Without an address there is no link, and a title is in italics. KeyError on an
    unknown key.
    """
    entry = entries()[key]
    address = address_of(entry)
    if address:
        return f"[{label(entry)}]({address})"
    return label(entry) if "author" in entry.persons else f"*{label(entry)}*"


def label(entry: Entry) -> str:
    """Author and year; the title where no author is named."""
    names = [
        str(Text.from_latex(" ".join(person.prelast_names + person.last_names)))
        for person in entry.persons.get("author", [])
    ]
    who = plain(entry, "title")
    if names:
        many = len(names) > 2 or names[-1] == "others"
        who = f"{names[0]} et al." if many else " and ".join(names)
    year = entry.fields.get("year")
    return f"{who} ({year})" if year else who


def address_of(entry: Entry) -> str | None:
    """Where it is read: its DOI, else its url, else None."""
    if "doi" in entry.fields:
        return f"https://doi.org/{entry.fields['doi']}"
    return entry.fields.get("url")


def plain(entry: Entry, field: str) -> str:
    """A field without LaTeX."""
    return str(Text.from_latex(entry.fields[field]))


if __name__ == "__main__":
    print("\n".join(map(citation, sys.argv[1:])))
