"""The tests find a lesson by its name, and an appendix as they find a lesson."""

import re

import pytest
import yaml
from lesson_source import LESSONS, ROOT, path_of

NUMBER = r"(\d\d|A\d)_[a-z_]+"  # 07_name, or A1_name for an appendix


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_a_lesson_is_found_by_its_name(path):
    """Whatever number stands before it, and with the number too."""
    assert re.fullmatch(NUMBER, path.stem)
    name = path.stem.split("_", 1)[1]
    assert path_of(name) == path_of(path.stem) == path


def test_an_appendix_is_found_too(tmp_path, monkeypatch):
    """`A1_name` goes by its name, also where another lesson's name ends in it."""
    paths = [tmp_path / f"{stem}.ipynb" for stem in ("16_keras", "A1_torch_and_keras")]
    monkeypatch.setattr("lesson_source.LESSONS", paths)
    assert path_of("torch_and_keras") == path_of("A1_torch_and_keras") == paths[1]
    assert path_of("keras") == paths[0]


def test_appendices_stand_last_in_a_part_of_their_own():
    """In the contents: after all lessons, under "Appendix", and there alone."""
    parts = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))["parts"]
    stems = {
        part.get("caption"): [
            c["file"].removeprefix("lessons/") for c in part["chapters"]
        ]
        for part in parts
        if any(c["file"].startswith("lessons/") for c in part["chapters"])
    }
    appendices = stems.pop("Appendix", [])
    assert appendices == [path.stem for path in LESSONS if path.stem[0] == "A"]
    assert not [stem for part in stems.values() for stem in part if stem[0] == "A"]
    for part in parts:
        for chapter in part["chapters"]:
            if chapter["file"].startswith("lessons/"):
                number = chapter["file"].removeprefix("lessons/").split("_")[0]
                assert chapter["title"].startswith(f"{number.lstrip('0')} · ")
