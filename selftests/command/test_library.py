# SPDX-License-Identifier: GPL-2.0-only
"""Tests of the drills for tests in Python that need no module; selftests/programs/pytest.sh has those that do."""

import errno
import pathlib
import signal
import sys
import unittest
from typing import Any
from unittest import mock

HERE = pathlib.Path(__file__).resolve().parent
sys.dont_write_bytecode = True
sys.path.insert(0, str(HERE))

from anon_rmap_command import Failure, library, refusals  # noqa: E402


def line(pfn: int) -> str:
    return f"pfn={pfn:#x} index=0 kind=simulated source=poison_addr since=1.0 hit=1 pids=7 pid=7 address=0x1000"


def page(pfn: int) -> dict[str, Any]:
    return {"pfn": hex(pfn), "pid": 7, "address": "0x1000"}


class FakeDebugfs:
    """What has failed, and errnos of those that are not given back."""

    def __init__(self, failed: set[int], errnos: dict[int, int] | None = None) -> None:
        self.failed, self.errnos = failed, errnos or {}

    def lines(self, file: str, parser: Any = str) -> list[Any]:
        return [parser(line(pfn)) for pfn in sorted(self.failed)] if file == "poisoned" else []

    def refusal(self, file: str, text: str, asked: Any) -> str | None:
        pfn = int(text, 16)
        if pfn in self.errnos:
            return refusals.refusal(file, self.errnos[pfn], asked)
        self.failed.remove(pfn)
        return None


def drills(failed: set[int], errnos: dict[int, int] | None = None) -> library.Drills:
    fake = FakeDebugfs(failed, errnos)
    with mock.patch.object(library, "Debugfs", return_value=fake):
        return library.Drills()


class Asking(unittest.TestCase):
    def test_what_is_named_is_one_thing(self) -> None:
        poison = drills(set())
        with mock.patch.object(library, "fail_pages") as fail_pages:
            for asked in ({}, {"end": 9}, {"random": 1, "end": 9}, {"random": 1, "keep": True}):
                with self.assertRaises(ValueError):
                    poison(7, **asked)
            with self.assertRaises(ValueError):
                poison(7, 4096, random=1)
            fail_pages.assert_not_called()

    def test_it_is_the_command_of_the_file(self) -> None:
        poison = drills(set())
        cases = [
            ((7, 0x1000), {}, ("poison_addr", "7 0x1000")),
            ((7, 0x1000), {"touched": True}, ("poison_addr", "7 0x1000 touched")),
            ((7, 0x1000), {"keep": True}, ("poison_addr", "7 0x1000 keep")),
            ((7, 0x1000), {"end": 0x3000}, ("poison_range", "7 0x1000-0x3000")),
            ((7,), {"random": 3, "seed": 5}, ("poison_random", "7 3 5")),
        ]
        for arguments, options, expected in cases:
            with mock.patch.object(library, "fail_pages", return_value=[page(1)]) as fail_pages:
                self.assertEqual(poison(*arguments, **options), [page(1)])
            command = fail_pages.call_args.args[1]
            self.assertEqual((command.file, command.text), expected)
        self.assertEqual(len(poison.failed), len(cases))


class Undoing(unittest.TestCase):
    def test_what_is_still_failed_is_given_back(self) -> None:
        failed = {1, 2, 9}
        poison = drills(failed)
        # Who had 3 has ended; 9 is somebody else's.
        poison.failed = [page(1), page(2), page(3)]
        poison.undo([page(1)])
        self.assertEqual((failed, poison.failed), ({2, 9}, [page(2), page(3)]))
        poison.undo()
        self.assertEqual((failed, poison.failed), ({9}, []))

    def test_what_stays_away_is_said(self) -> None:
        poison = drills({1, 2}, {2: errno.EPERM})
        poison.failed = [page(1), page(2)]
        with self.assertRaisesRegex(Failure, "frame 0x2 can't be given back: "):
            poison.undo()


class Ending(unittest.TestCase):
    def test_what_was_started_is_ended_whatever_happens(self) -> None:
        with mock.patch.object(library, "runner", return_value="/usr/bin/env"):
            with self.assertRaises(Failure):
                with drills({2}, {2: errno.EPERM}) as poison:
                    process = poison.start("sleep", "1000", options=())
                    poison.failed = [page(2)]
        self.assertEqual(process.poll(), -signal.SIGKILL)



if __name__ == "__main__":
    unittest.main()
