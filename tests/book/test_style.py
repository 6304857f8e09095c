"""The style sheets' form: what a browser drops without a word."""

import re
from collections import Counter
from pathlib import Path

import pytest

SHEETS = sorted((Path(__file__).resolve().parents[2] / "book" / "web").glob("*.css"))


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


@pytest.mark.parametrize("sheet", SHEETS, ids=lambda sheet: sheet.name)
def test_braces_match_and_no_rule_stands_twice(sheet):
    """A brace too many ends a block too early, and a block pasted twice undoes what was
    set between; a browser says nothing about either."""
    found = rules(sheet.read_text(encoding="utf-8"))
    assert len(found) > 10
    assert [rule for rule, times in Counter(found).items() if times > 1] == []
    assert not [rule for rule in found if rule.count("(") != rule.count(")")]
