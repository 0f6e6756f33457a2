"""What all tests share."""

import pytest
from hypothesis import settings

settings.register_profile("reproducible", derandomize=True)
settings.load_profile("reproducible")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With several processes, the tests of a file are for one of them, and so are all that look at
    the one finished run of the workflow.
    """
    for item in items:
        shared = {"finished", "changed"} & set(getattr(item, "fixturenames", ()))
        item.add_marker(pytest.mark.xdist_group("workflow" if shared else item.path.stem))
