"""The names of the package: found at run time and by type checkers alike."""

import ast
import inspect

import netreduce


def test_type_checkers_see_the_names_that_there_are():
    (block,) = (
        node for node in ast.parse(inspect.getsource(netreduce)).body if isinstance(node, ast.If)
    )
    seen = {alias.name: node.module for node in block.body for alias in node.names}
    assert seen == netreduce._PUBLIC


def test_every_name_is_there():
    for name in netreduce.__all__:
        assert getattr(netreduce, name).__doc__, name
