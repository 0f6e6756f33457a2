"""The picture of the pipeline is the present one."""

import runpy

import pytest
from conftest import ROOT, Project

pytestmark = pytest.mark.workflow
PIPELINE = runpy.run_path(str(ROOT / "docs/pipeline.py"))


def test_the_picture_of_the_pipeline_is_the_present_one(tmp_path):
    rules = PIPELINE["graph"](Project(tmp_path / "project").folder)
    assert rules["lump"] == {"data", "select"}
    assert rules["reduce"] >= {"reduce"}  # a chain's step takes the network of the one before
    PIPELINE["draw"](rules, tmp_path / "pipeline.svg")
    drawn, kept = (
        path.read_text() for path in (tmp_path / "pipeline.svg", ROOT / "report/pipeline.svg")
    )
    assert drawn == kept, "`make pipeline` draws it again"


def test_what_follows_from_others_is_left_out():
    rules = {"a": set(), "b": {"a"}, "c": {"a", "b", "c"}}
    assert PIPELINE["needed"](rules) == {"a": set(), "b": {"a"}, "c": {"b"}}
    assert PIPELINE["floors"](PIPELINE["needed"](rules)) == [["a"], ["b"], ["c"]]
