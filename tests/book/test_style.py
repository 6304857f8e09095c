"""The form of the style sheets and scripts: what a browser drops without a word."""

import re
from collections import Counter
from pathlib import Path

import pytest

WEB = Path(__file__).resolve().parents[2] / "book" / "web"
SHEETS = sorted(WEB.glob("*.css"))


def rules(sheet: str) -> list[str]:
    """Its rules, media and selectors with their declarations, without comments."""
    found, prelude, around = [], "", []
    for part in re.split(r"([{}])", re.sub(r"(?s)/\*.*?\*/", "", sheet)):
        if part == "{":
            around.append(" ".join(prelude.split()))
        elif part == "}":
            assert around, f"a brace closes nothing, after: {prelude[-60:]}"
            if prelude.strip():
                found.append(" ".join([*around, *prelude.split()]))
            around.pop()
        prelude = part if part not in "{}" else ""
    assert not around, f"not closed: {around}"
    return found


@pytest.mark.parametrize("sheet", SHEETS, ids=lambda path: path.name)
def test_braces_match_and_no_rule_stands_twice(sheet):
    """A brace too many ends a block too early, and a block pasted twice undoes what was
    set between; a browser says nothing about either."""
    found = rules(sheet.read_text(encoding="utf-8"))
    assert found
    assert [rule for rule, times in Counter(found).items() if times > 1] == []
    assert not [rule for rule in found if rule.count("(") != rule.count(")")]


def test_no_name_is_declared_by_two_scripts():
    """Scripts that a page loads share their outermost names: of two that declare the
    same one, the second does not run at all."""
    declared = r"(?m)^(?:const|let|class|(?:async )?function\*?) (\w+)"
    scripts = [path.read_text(encoding="utf-8") for path in WEB.glob("*.js")]
    names = Counter(name for text in scripts for name in re.findall(declared, text))
    assert len(names) > 50
    assert [name for name, times in names.items() if times > 1] == []
