# SPDX-License-Identifier: GPL-2.0-only
"""`run`: a program on memory of the device."""

import os
from typing import NoReturn

from . import Failure


def runner() -> str:
    """anon_rmap-run: beside this package, where the sources or an installation have it, or in the PATH."""
    home = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
    for directory in [home, os.path.join(home, "../preload"), os.path.join(home, "../../bin"), *os.get_exec_path()]:
        file = os.path.join(directory, "anon_rmap-run")
        if os.access(file, os.X_OK):
            return os.path.normpath(file)
    raise Failure("anon_rmap-run is not there: put it and libanon_rmap.so beside this program, or into the PATH")


def run_run(arguments: list[str]) -> NoReturn:
    file = runner()
    os.execv(file, [file, *arguments])
