# SPDX-License-Identifier: GPL-2.0-only
"""Drills of memory failures in programs on memory of /dev/anon_rmap, through the files of the module in debugfs.

`anon_rmap --help` and anon_rmap.1 say how it is used, rust/debugfs.md what the files take and say.

A module imports only from this file and from modules that stand before it here:

  arguments      numbers and ranges
  lines          the lines of each file, which only the functions there know
  refusals       a sentence for each errno
  debugfs        the files
  processes      what /proc says of processes
  regions        the regions of processes
  output         what several subcommands print
  listing        list
  poisoning      poison, dry-run
  undoing        undo
  watching       watch
  recording      record, replay
  tracing        stopping a process, and system calls in it
  moving         attach, detach
  running        run
  planning       which pages fail in a trial
  trials         a trial, from the start of a program to its end
  report_page    a report for people
  report         the reports of a campaign
  campaign       drill
  parser         what can be asked for
  completion     that, for bash
  main           from the arguments to the exit status
  library        drills for tests in Python
  pytest_plugin  that, as a fixture of pytest

What a subcommand prints as text is made of what it prints as JSON.
"""

from typing import Any

VERSION = "0.1.0"
NAME = "anon_rmap"
PAGE = 4096

Json = dict[str, Any]


class Failure(Exception):
    """What can't be done, as a sentence that says what to do."""
