import pytest

from netreduce.cli.exits import run_script
from netreduce.errors import DataError


def test_an_error_of_ours_is_one_message_and_status_1():
    def fail():
        raise DataError("images.gz: truncated")

    with pytest.raises(SystemExit) as exit_:
        run_script(fail)
    assert (
        exit_.value.code == "error: images.gz: truncated"
    )  # the interpreter prints a text to stderr and exits with 1


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            OSError(28, "No space left on device", "net.h5"),
            "error: [Errno 28] No space left on device: 'net.h5'",
        ),
        (MemoryError("Unable to allocate 9 GiB"), "error: out of memory: Unable to allocate 9 GiB"),
        (MemoryError(), "error: out of memory"),
    ],
)
def test_what_the_machine_lacks_is_one_message_and_status_1(error, message):
    def fail():
        raise error

    with pytest.raises(SystemExit) as exit_:
        run_script(fail)
    assert exit_.value.code == message


def test_a_bug_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        run_script(lambda: 1 / 0)


def test_success_returns():
    assert run_script(lambda: None) is None
