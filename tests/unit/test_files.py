"""Files are whole or not there."""

import os
import subprocess
import sys

import pytest

from netreduce.files import replacing


def killed_while_writing(path):
    """The temporary file of a process that was killed."""
    code = (
        "import os, sys; from netreduce.files import replacing; f = replacing(sys.argv[1]);"
        " f.__enter__().touch(); os.kill(os.getpid(), 9)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    assert (
        subprocess.run([sys.executable, "-c", code, path], env=environment, check=False).returncode
        == -9
    )
    (left,) = path.parent.glob(".*.part*")
    return left


def test_what_a_killed_process_left_goes_when_the_file_is_written(tmp_path):
    left = killed_while_writing(tmp_path / "net [1].h5")
    other = tmp_path / ".net [1] b.1.part.h5"
    other.touch()
    with replacing(tmp_path / "net [1].h5") as temporary:
        temporary.write_text("whole")
    assert not left.exists() and other.exists()
    assert (tmp_path / "net [1].h5").read_text() == "whole"


def test_what_a_running_process_writes_stays(tmp_path):
    with replacing(tmp_path / "net.h5") as first:
        first.write_text("first")
        running = first.rename(first.with_name(f".net.{os.getppid()}.part.h5"))
        with replacing(tmp_path / "net.h5") as second:
            second.write_text("second")
        running.rename(first)
    assert (tmp_path / "net.h5").read_text() == "first"


def test_a_failing_block_leaves_the_old_file(tmp_path):
    (tmp_path / "net.h5").write_text("old")
    with pytest.raises(ZeroDivisionError), replacing(tmp_path / "net.h5") as temporary:
        temporary.write_text("half")
        1 / 0  # noqa: B018
    assert [path.name for path in tmp_path.iterdir()] == ["net.h5"] and (
        tmp_path / "net.h5"
    ).read_text() == "old"
