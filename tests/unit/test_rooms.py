"""The rooms of the library: imports go one way, and the picture of them is the present one."""

import runpy
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"
ROOMS = runpy.run_path(str(DOCS / "rooms.py"))


def test_imports_go_one_way():
    floors = ROOMS["floors"](ROOMS["imports"]())
    assert sorted(floors[0]) == ["errors", "files", "threads"]
    assert floors[1] == ["network"]
    assert "cli" in floors[-1]


def test_contributing_says_what_each_room_holds():
    text = (DOCS.parent / "CONTRIBUTING.md").read_text()
    assert [room for room in ROOMS["imports"]() if f"`{room}" not in text] == []


def test_the_picture_is_the_present_one(tmp_path):
    ROOMS["draw"](ROOMS["imports"](), tmp_path / "rooms.svg")
    drawn, kept = (file.read_text() for file in (tmp_path / "rooms.svg", DOCS / "rooms.svg"))
    assert drawn == kept, "`make rooms` draws it again"
