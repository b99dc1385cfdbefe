# SPDX-License-Identifier: GPL-2.0-only
"""A fixture of pytest, `poison`, for tests that let pages of programs fail: a library.Drills of the test's own.

    def test_what_a_failure_does(poison):
        server = poison.start("redis-server", "--port", "6390")
        ...
        poison(server, random=3, seed=1)

`pytest -p anon_rmap_command.pytest_plugin` has it, with the directory of the package in PYTHONPATH. Where there can be no drills
the test is skipped, and with --require-drills an error.
"""

from typing import Iterator

import pytest

from . import Failure
from .library import Drills


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--require-drills", action="store_true", help="tests with the fixture poison are not skipped")


@pytest.fixture
def poison(pytestconfig: pytest.Config) -> Iterator[Drills]:
    """Lets pages of programs fail: poison.start(), poison(), poison.undo(), poison.regions()."""
    try:
        drills = Drills()
    except Failure as failure:
        if pytestconfig.getoption("--require-drills"):
            raise
        pytest.skip(f"no drills here: {failure}")
    with drills:
        yield drills
