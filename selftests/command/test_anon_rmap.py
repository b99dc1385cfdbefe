# SPDX-License-Identifier: GPL-2.0-only
"""Tests of the command that need no module and no root: `python3 -m unittest discover -s selftests/command`.

The lines are recorded ones, of a guest with redis-server. What needs the module is in selftests/programs/command.sh.
"""

import argparse
import ast
import contextlib
import errno
import io
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time
import unittest
from typing import Any
from unittest import mock

HERE = pathlib.Path(__file__).resolve().parent
sys.dont_write_bytecode = True
sys.path.insert(0, str(HERE))

import anon_rmap_command  # noqa: E402
import test_drill  # noqa: E402
from anon_rmap_command import NAME, Failure, arguments, completion, debugfs, lines, main, parser  # noqa: E402
from anon_rmap_command import moving, poisoning, processes, recording, refusals, regions, running, undoing  # noqa: E402

MAPPINGS = """\
pid=137 range=0x7f292f07b000-0x7f292f37b000 index=0-767 present=527 poisoned=0 avcs=1 comm=redis-server
pid=137 range=0x7f292f37b000-0x7f292f5fb000 index=0-639 present=640 poisoned=2 avcs=1 comm=redis-server
pid=137 range=0x7f2932000000-0x7f2932200000 index=0-511 present=22 poisoned=1 avcs=1 comm=redis-server
pid=137 range=0x7f2932200000-0x7f2932400000 index=512-1023 present=378 poisoned=0 avcs=1 comm=redis-server
""".splitlines()
MAPS = """\
5581b17dc000-5581b1808000 rw-p 00000000 00:00 0 
7f292f07b000-7f292f37b000 rw-p 00000000 00:13 280                        anon_inode:[anon_rmap]
7f292f37b000-7f292f5fb000 rw-p 00000000 00:13 279                        anon_inode:[anon_rmap]
7f292f5fb000-7f292f5fc000 ---p 00000000 00:00 0 
7f2932000000-7f2932200000 rw-p 00000000 00:13 1255                       anon_inode:[anon_rmap]
7f2932200000-7f2932400000 r--p 00200000 00:13 1255                       anon_inode:[anon_rmap]
7f29327be000-7f29327c3000 r--p 00000000 00:20 10753446                   /usr/lib/x86_64-linux-gnu/libzstd.so.1.5.7
7f29328e3000-7f293290b000 r--p 00000000 00:20 10753075                   /usr/lib/x86_64-linux-gnu/libc.so.6
7f29336a1000-7f29336aa000 r--p 00000000 00:20 10753412                   /usr/lib/x86_64-linux-gnu/libjemalloc.so.2
7fff655a4000-7fff655c5000 rw-p 00000000 00:00 0                          [stack]
""".splitlines()
POISONED = """\
pfn=0x2906 index=135 kind=simulated source=poison_random since=6.089210 hit=1 pids=137 pid=137 address=0x7f292f402000
pfn=0x53b1 index=0 kind=kept source=poison_addr since=6.279735 hit=2 pids=137,140 pid=137 address=0x7f292f07b000
pfn=0x7e5e index=5 kind=simulated source=poison_addr since=9.425395 hit=0 pids= pid=182 address=0x7fb1efa41000
""".splitlines()
EVENTS = """\
number=4 time=6.089218 pfn=0x2906 index=135 action=poison source=poison_random
number=5 time=6.089231 pfn=0x2906 pid=137 address=0x7f292f402000 tid=0 signal=none
number=8 time=9.425404 pfn=0x7e5e index=5 action=poison source=poison_addr
number=10 time=10.235441 pfn=0x7e48 index=1 action=hwpoison source=hard_offline
number=11 time=10.235698 pfn=0x7e48 pid=0 address=0x7fb1efa3d000 tid=0 signal=none was=182
number=12 time=11.000001 pfn=0x7e42 action=release source=unpoison_pfn
lost=7
""".splitlines()


def mappings() -> list[Any]:
    return [lines.parse_mapping(line) for line in MAPPINGS]


def vmas() -> list[Any]:
    return [processes.parse_vma(line) for line in MAPS]


def events() -> list[Any]:
    return [lines.parse_event(line) for line in EVENTS]


class FakeDebugfs:
    """Files with what is given, and errnos of what is written."""

    def __init__(self, errnos: dict[str, int] | None = None, **files: list[str]) -> None:
        self.files, self.errnos, self.written = files, errnos or {}, []

    def lines(self, file: str, parser: Any = str) -> list[Any]:
        return [parser(line) for line in self.files.get(file, [])]

    def refusal(self, file: str, text: str, asked: Any, raises: bool = False) -> str | None:
        self.written.append((file, text))
        return refusals.refusal(file, self.errnos[text], asked) if text in self.errnos else None


class Lines(unittest.TestCase):
    def test_mappings(self) -> None:
        first = mappings()[0]
        self.assertEqual(first, lines.Mapping(137, 0x7F292F07B000, 0x7F292F37B000, 527, 0, "redis-server"))

    def test_a_name_can_have_anything(self) -> None:
        line = MAPPINGS[0].replace("redis-server", "a pid=8 comm=b  c")
        self.assertEqual((lines.parse_mapping(line).pid, lines.parse_mapping(line).comm), (137, "a pid=8 comm=b  c"))

    def test_poisoned(self) -> None:
        _, kept, advance = [lines.parse_poisoned(line) for line in POISONED]
        self.assertEqual(kept, lines.Poisoned(0x53B1, "kept", "poison_addr", 6.279735, (137, 140), 137, 0x7F292F07B000))
        self.assertEqual((advance.pids, advance.pid), ((), 182))

    def test_quarantine(self) -> None:
        self.assertEqual(lines.parse_quarantined("pfn=0x7e48 kind=hardware"), lines.Quarantined(0x7E48, "hardware"))

    def test_events(self) -> None:
        done, hit, _, _, ended, release, lost = events()
        self.assertEqual(done, {"number": 4, "time": 6.089218, "pfn": "0x2906", "index": 135, "action": "poison",
                                "source": "poison_random"})
        self.assertEqual(hit, {"number": 5, "time": 6.089231, "pfn": "0x2906", "pid": 137, "address": "0x7f292f402000", "tid": 0,
                               "signal": "none"})
        self.assertEqual((ended["pid"], ended["was"]), (0, 182))
        self.assertNotIn("index", release)
        self.assertEqual(lost, {"lost": 7})

    def test_dry_run(self) -> None:
        hit = lines.parse_hit("pid=182 address=0x7fb1efa3c000 tid=183 signal=BUS_MCEERR_AO")
        self.assertEqual(hit, {"pid": 182, "address": "0x7fb1efa3c000", "tid": 183, "signal": "BUS_MCEERR_AO"})

    def test_a_line_of_another_version_is_said(self) -> None:
        for parser, line in ((lines.parse_mapping, "pid=1 comm=x"), (lines.parse_poisoned, "pfn=z"),
                             (lines.parse_event, "?")):
            with self.assertRaisesRegex(Failure, "is the module of that version"):
                lines.parse(parser, line, "file")


class Numbers(unittest.TestCase):
    def test_as_debugfs_takes_them(self) -> None:
        for text, value in (("17", 17), ("0x1f", 31), ("010", 10), ("0xFFFFFFFFFFFFFFFF", (1 << 64) - 1), ("0" * 5000 + "1", 1)):
            self.assertEqual(arguments.number(text), value)

    def test_and_no_others(self) -> None:
        for text in ("", "x", "-1", "+1", "0x", "1f", "1_0", " 1", "0X1", "\u0661", "18446744073709551616", "9" * 5000):
            with self.assertRaises(argparse.ArgumentTypeError, msg=text):
                arguments.number(text)


class Processes(unittest.TestCase):
    def test_a_region_is_what_one_mmap_made(self) -> None:
        found = regions.regions_of(mappings(), vmas())
        # From the top; the two beside each other of one file are one, those of two are two.
        self.assertEqual([(hex(r.start), hex(r.end)) for r in found], [
            ("0x7f2932000000", "0x7f2932400000"), ("0x7f292f37b000", "0x7f292f5fb000"), ("0x7f292f07b000", "0x7f292f37b000")])
        self.assertEqual(found[0].permissions, ["rw-p", "r--p"])

    def test_list_counts_and_names(self) -> None:
        process = regions.describe_process(137, mappings(), vmas())
        self.assertEqual((process["present"], process["poisoned"], process["malloc"]), (1567, 3, "libjemalloc.so.2"))
        top = process["regions"][0]
        self.assertEqual(top["above"], {"name": "/usr/lib/x86_64-linux-gnu/libzstd.so.1.5.7", "distance": 0x3BE000})
        self.assertIsNone(top["below"])
        self.assertFalse(top["arena"])

    def test_an_arena_of_glibc_is_known_by_its_place(self) -> None:
        mapping = lines.parse_mapping("pid=1 range=0x7f2000000000-0x7f2000021000 index=0-32 present=1 poisoned=0 avcs=1 comm=a")
        rest = lines.parse_mapping("pid=1 range=0x7f2000021000-0x7f2004000000 index=33-9 present=0 poisoned=0 avcs=1 comm=a")
        for start, arena in ((0, True), (1 << 20, False)):
            moved = [lines.Mapping(1, m.start + start, m.end + start, 0, 0, "a") for m in (mapping, rest)]
            files = [processes.Vma(m.start, m.end, p, 5, regions.MAPPING) for m, p in zip(moved, ("rw-p", "---p"))]
            self.assertEqual(regions.is_glibc_arena(regions.regions_of(moved, files)[0]), arena)

    def test_malloc_is_of_the_c_library_without_another(self) -> None:
        self.assertEqual(regions.allocator_of(v for v in vmas() if "jemalloc" not in v.name), "libc.so.6")


class Poison(unittest.TestCase):
    def args(self, *words: str) -> argparse.Namespace:
        return parser.parser().parse_args(words)

    def test_what_is_written(self) -> None:
        for words, file, text in (
            ("7 0x1000", "poison_addr", "7 0x1000"), ("7 4096 --keep", "poison_addr", "7 0x1000 keep"),
            ("7 0x1000 --touched", "poison_addr", "7 0x1000 touched"), ("--pfn 0x52b3", "poison_pfn", "0x52b3"),
            ("--pfn 9 --keep", "poison_pfn", "0x9 keep"), ("--pfn 9 --soft", "soft_offline", "0x9"),
            ("--pfn 9 --hard", "hard_offline", "0x9"), ("7 --range 0x1000-0x3000 --keep", "poison_range", "7 0x1000-0x3000 keep"),
            ("7 --random 3 --seed 0x10", "poison_random", "7 3 16"),
        ):
            args = self.args("poison", *words.split())
            self.assertIsNone(parser.check_places(args), words)
            done = poisoning.command_of(args)
            self.assertEqual((done.file, done.text), (file, text))

    def test_a_seed_is_chosen_and_can_be_given_again(self) -> None:
        done = poisoning.command_of(self.args("poison", "7", "--random", "3"))
        self.assertEqual(done.text, f"7 3 {done.asked['seed']}")

    def test_what_is_not_one_choice_of_pages_is_refused(self) -> None:
        for words in ("poison", "poison 7", "poison 7 1 --pfn 3", "poison 7 --pfn 3", "poison --range 1-2", "poison --random 1",
                      "poison 7 1 --range 1-2", "poison 7 1 --seed 1", "poison 7 --random 1 --keep",
                      "poison 7 --range 1-2 --touched", "poison --pfn 1 --touched", "dry-run", "dry-run 7", "dry-run 7 --pfn 1", "undo", "undo --all 7",
                      "undo --all --pfn 1", "undo 7 1 --pfn 1"):
            self.assertIsNotNone(parser.check_places(self.args(*words.split())), words)
        for words in ("undo 7", "undo 7 1", "undo --all", "undo --pfn 1", "dry-run 7 1", "dry-run --pfn 1"):
            self.assertIsNone(parser.check_places(self.args(*words.split())), words)

    def test_who_was_hit(self) -> None:
        hits = poisoning.hits_of(events(), regions.Layouts(FakeDebugfs(mappings=MAPPINGS)))
        self.assertEqual(hits["0x2906"], [{"pid": 137, "comm": "redis-server", "address": "0x7f292f402000", "tid": 0,
                                           "signal": "none"}])
        self.assertEqual(hits["0x7e5e"], [])
        self.assertEqual(hits["0x7e48"][0]["pid"], 182)

    def test_a_page_of_who_has_ended_by_it_is_told(self) -> None:
        hits = poisoning.hits_of(events(), regions.Layouts(FakeDebugfs()))
        pages = poisoning.gone(events(), hits, "hard_offline", set())
        self.assertEqual([(page.pfn, page.kind, page.pid, page.address) for page in pages],
                         [(0x7E48, "hardware", 182, 0x7FB1EFA3D000)])
        self.assertEqual(poisoning.gone(events(), hits, "hard_offline", {0x7E48}), [])


class Undo(unittest.TestCase):
    def test_what_can_not_be_undone_is_left_with_the_reason(self) -> None:
        debugfs = FakeDebugfs({"0x7e48": errno.EPERM}, poisoned=POISONED[:1], quarantine=["pfn=0x2906 kind=software",
                                                                                         "pfn=0x7e48 kind=hardware"])
        result = undoing.give_back(debugfs, undoing.failed_frames(debugfs))
        self.assertEqual(debugfs.written, [("unpoison_pfn", "0x2906"), ("unpoison_pfn", "0x7e48")])
        self.assertEqual([frame["pfn"] for frame in result["undone"]], ["0x2906"])
        self.assertRegex(result["left"][0]["reason"], "hardware has failed")
        self.assertRegex(str(undoing.undo_failure(result)), "frame 0x7e48 can't be given back")
        self.assertIsNone(undoing.undo_failure({"undone": [], "left": []}))

    def test_of_a_process_or_an_address(self) -> None:
        debugfs = FakeDebugfs(mappings=MAPPINGS, poisoned=POISONED)
        with mock.patch.object(undoing, "main_thread", lambda pid: pid):
            found = undoing.frames_of_process(debugfs, 137, None)
            self.assertEqual([frame["pfn"] for frame in found], ["0x2906", "0x53b1"])
            found = undoing.frames_of_process(debugfs, 137, 0x7F292F402FFF)
            self.assertEqual([frame["pfn"] for frame in found], ["0x2906"])
            with self.assertRaisesRegex(Failure, "no page has failed at"):
                undoing.frames_of_process(debugfs, 137, 0x7F292F403000)


class Record(unittest.TestCase):
    def recorder(self, pid: int, **files: list[str]) -> Any:
        with mock.patch.object(regions, "maps", lambda pid: vmas()):
            recorder = recording.Recorder(FakeDebugfs(mappings=MAPPINGS, **files), pid)
            recorder.layouts.of(pid)
        recorder.look_again = lambda: None
        return recorder

    def test_a_place_is_a_region_and_an_offset(self) -> None:
        entry, = self.recorder(137).failures(events(), is_last=False)
        self.assertEqual(entry, {"time": 6.089218, "action": "poison", "source": "poison_random", "pfn": "0x2906",
                                 "address": "0x7f292f402000", "region": 1, "offset": "0x87000", "region_bytes": 0x280000,
                                 "advance": False})

    def test_others_are_not_recorded(self) -> None:
        hits = [event for event in events() if event.get("pid") != 137]
        self.assertEqual(self.recorder(137, poisoned=POISONED).failures(hits, is_last=True), [])

    def test_what_nobody_held_is_found_in_the_list_when_no_hit_has_come(self) -> None:
        line = POISONED[2].replace("pid=182 address=0x7fb1efa41000", "pid=137 address=0x7f292f07c000")
        done = [event for event in events() if event.get("pfn") == "0x7e5e"]
        recorder = self.recorder(137, poisoned=[line])
        self.assertEqual(recorder.failures(done, is_last=False), [])
        with mock.patch.object(recording.time, "monotonic", lambda now=time.monotonic(): now + 2):
            entry, = recorder.failures([], is_last=False)
        self.assertEqual((entry["advance"], entry["region"], entry["offset"]), (True, 2, "0x1000"))
        self.assertEqual(recorder.failures([], is_last=True), [])

    def test_replay_finds_the_places_at_other_addresses(self) -> None:
        entries = self.recorder(137).failures(events(), is_last=False)
        moved = [lines.Mapping(9, m.start + (5 << 30), m.end + (5 << 30), 0, 0, "a") for m in mappings()]
        files = [processes.Vma(v.start + (5 << 30), v.end + (5 << 30), v.permissions, v.inode, v.name) for v in vmas()]
        place, = recording.places_of(entries, regions.regions_of(moved, files), 9)
        self.assertEqual(place, {"address": 0x7F292F402000 + (5 << 30), "kept": False, "advance": False, "same_size": True})

    def test_replay_refuses_what_is_not_there(self) -> None:
        entry, = self.recorder(137).failures(events(), is_last=False)
        there = regions.regions_of(mappings(), vmas())
        for change in ({"region": 3}, {"offset": "0x280000"}, {"region": None, "offset": None}):
            with self.assertRaises(Failure):
                recording.places_of([entry | change], there, 137)
        place, = recording.places_of([entry | {"region_bytes": 4096}], there, 137)
        self.assertFalse(place["same_size"])

    def test_a_file_is_checked_as_a_whole(self) -> None:
        entry, = self.recorder(137).failures(events(), is_last=False)
        head = {"anon_rmap_record": 1, "pid": 137, "comm": "a"}
        with tempfile.TemporaryDirectory() as directory:
            file = os.path.join(directory, "record")

            def read(*lines: Any) -> Any:
                pathlib.Path(file).write_text("".join(json.dumps(line) + "\n" for line in lines))
                return recording.read_record(file)

            self.assertEqual(read(head, entry), [entry])
            for lines in ((), (entry,), ({"anon_rmap_record": 2}, entry), (head, entry | {"offset": "x"}), (head, [1]), (7, 8),
                          (head, entry | {"action": "unpoison"}), (head, {**entry, "advance": 1}), (head,),
                          (head, entry | {"region": "1"}), (head, entry | {"region": -1})):
                with self.assertRaises(Failure, msg=lines):
                    read(*lines)
            pathlib.Path(file).write_bytes(b"\xff\x00{")
            with self.assertRaisesRegex(Failure, "no recording"):
                recording.read_record(file)
            with self.assertRaisesRegex(Failure, "can't be read"):
                recording.read_record(directory)


class Sentences(unittest.TestCase):
    def run_main(self, *words: str) -> tuple[int, str]:
        error = io.StringIO()
        with contextlib.redirect_stderr(error), mock.patch.object(main, "prepare_process"):
            try:
                status = main.main(list(words))
            except SystemExit as exit_:
                status = exit_.code
        return status, error.getvalue()

    def assert_sentence(self, status: int, text: str, *words: str) -> None:
        got, said = self.run_main(*words)
        self.assertEqual(got, status)
        self.assertRegex(said, f"^anon_rmap: [^\n]*{text}[^\n]*\n$")

    def test_wrong_usage(self) -> None:
        for words in (["--no-such"], [], ["lost"], ["list", "x"], ["list", "--js"], ["poison", "1"], ["poison", "0", "1"],
                      ["poison", "1", "--range", "2-1"], ["poison", "1", "--random", "0"],
                      ["poison", "--pfn", "1", "--keep", "--soft"]):
            self.assert_sentence(2, "--help says how it is used", *words)

    def test_who_may_not(self) -> None:
        with mock.patch.object(os, "geteuid", lambda: 1000):
            self.assert_sentence(1, "needs root", "list")
        with mock.patch.object(os, "geteuid", lambda: 0), mock.patch.object(debugfs, "has_capability", lambda: False):
            self.assert_sentence(1, "CAP_SYS_ADMIN", "list")

    def test_what_is_not_there(self) -> None:
        with mock.patch.object(os, "geteuid", lambda: 0), mock.patch.object(debugfs, "has_capability", lambda: True), \
                mock.patch.object(debugfs.Debugfs, "mount_point") as mounted, tempfile.TemporaryDirectory() as directory:
            mounted.return_value = None
            self.assert_sentence(1, "debugfs is not mounted", "list")
            mounted.return_value = directory
            with mock.patch.object(os.path, "isdir", lambda path: False):
                self.assert_sentence(1, "module is not loaded", "undo", "--all")
            with mock.patch.object(os.path, "isdir", lambda path: path.startswith("/sys/module")):
                self.assert_sentence(1, "no files in debugfs", "watch")
            os.mkdir(os.path.join(directory, "anon_rmap"))
            self.assert_sentence(1, "no file 'mappings'", "list")
            with mock.patch.object(os, "open", side_effect=PermissionError(errno.EPERM, "")):
                self.assert_sentence(1, "locked down", "list")

    def test_each_refusal_says_what_was_asked_for(self) -> None:
        frame = {"pfn": "0x52b3"}
        asked = {"poison_addr": {"pid": 7, "address": "0x1000"}, "poison_range": {"pid": 7, "range": "0x1000-0x2000"},
                 "poison_random": {"pid": 7, "count": 3, "seed": 1}, "replay": {"pid": 7}, "poison_pfn": frame, "dry_run": frame,
                 "soft_offline": frame, "hard_offline": frame, "unpoison_pfn": frame}
        # The rows of the table in debugfs.md, but for those that the parser takes care of.
        told = {errno.ESRCH: "poison_addr poison_range poison_random replay", errno.EFAULT: "poison_addr",
                errno.ENXIO: "poison_addr poison_pfn poison_range poison_random dry_run soft_offline hard_offline unpoison_pfn",
                errno.ENODATA: "poison_addr poison_range poison_random replay", errno.EOPNOTSUPP: "soft_offline",
                errno.ENOSPC: "soft_offline poison_addr", errno.E2BIG: "poison_range poison_random replay",
                refusals.EHWPOISON: "poison_addr poison_pfn poison_range poison_random replay soft_offline hard_offline",
                errno.EBUSY: "soft_offline poison_addr unpoison_pfn", errno.ENOENT: "unpoison_pfn", errno.EPERM: "unpoison_pfn",
                errno.ENOMEM: "poison_addr replay"}
        for code, files in told.items():
            for file in files.split():
                sentence = refusals.refusal(file, code, asked[file])
                self.assertNotRegex(sentence, r"has refused it|[{}\n]", (file, code))
                self.assertRegex(sentence, "[:;] ", (file, code))
        self.assertRegex(refusals.refusal("poison_addr", errno.EIO, {}), "has refused it: ")


def fields(value: Any) -> set[str]:
    """The names of all fields in there."""
    if isinstance(value, list):
        return set().union(*map(fields, value))
    return set(value).union(*map(fields, value.values())) if isinstance(value, dict) else set()


class Package(unittest.TestCase):
    def test_a_module_imports_only_what_stands_before_it(self) -> None:
        order = re.findall(r"^  (\w+) ", anon_rmap_command.__doc__ or "", re.M)
        files = {file.stem: file for file in (HERE / "anon_rmap_command").glob("*.py") if file.stem != "__init__"}
        self.assertEqual(sorted(order), sorted(files))
        for name, file in files.items():
            imports = [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.ImportFrom) and node.level]
            for module in (node.module for node in imports if node.module):
                self.assertLess(order.index(module), order.index(name), f"{name} imports {module}")

    def test_it_runs_from_wherever_it_is(self) -> None:
        with tempfile.TemporaryDirectory() as directory:
            folder = pathlib.Path(directory) / "a folder"
            for program, package in (("beside", "beside"), ("usr/bin", "usr/lib/anon_rmap")):
                (folder / program).mkdir(parents=True)
                shutil.copy(HERE / "anon_rmap", folder / program)
                shutil.copytree(HERE / "anon_rmap_command", folder / package / "anon_rmap_command",
                                ignore=shutil.ignore_patterns("__pycache__"))
                link = folder / f"link to {program.replace('/', '-')}"
                link.symlink_to(folder / program / "anon_rmap")
                for file in (link, folder / program / "anon_rmap"):
                    done = subprocess.run([file, "--version"], capture_output=True, text=True, cwd="/", check=True)
                    self.assertEqual((done.stdout, done.stderr), (f"{NAME} {anon_rmap_command.VERSION}\n", ""))
                self.assertEqual(list(folder.glob("**/__pycache__")), [])
            (folder / "alone").mkdir()
            shutil.copy(HERE / "anon_rmap", folder / "alone")
            alone = subprocess.run([folder / "alone/anon_rmap"], capture_output=True, text=True, check=False)
            self.assertEqual((alone.returncode, alone.stderr.count("\n")), (1, 1))
            self.assertIn("anon_rmap_command is not there", alone.stderr)

    def test_the_runner_is_beside_the_package_or_where_it_is_installed(self) -> None:
        with tempfile.TemporaryDirectory() as directory:
            for package, program in (("command/p", "preload"), ("guest/p", "guest"), ("usr/lib/anon_rmap/p", "usr/bin")):
                runner = pathlib.Path(directory) / program / "anon_rmap-run"
                for parent in (runner.parent, pathlib.Path(directory) / package):
                    parent.mkdir(parents=True, exist_ok=True)
                runner.touch(0o755)
                with mock.patch.object(running, "__file__", os.path.join(directory, package, "running.py")):
                    self.assertEqual(running.runner(), str(runner))
            with mock.patch.object(running, "__file__", "/none/none/running.py"), mock.patch.dict(os.environ, PATH="/none"), \
                    self.assertRaisesRegex(Failure, "anon_rmap-run is not there"):
                running.runner()


class Pages(unittest.TestCase):
    page = (HERE / "anon_rmap.1").read_text()

    def test_the_manual_page_has_each_option_and_no_other(self) -> None:
        top = parser.parser()
        subs = completion.subparsers(top)
        synopsis = self.page.split(".Sh SYNOPSIS\n")[1].split(".Sh DESCRIPTION")[0]
        parts = {part.split()[0]: part for part in synopsis.split(".Cm ")[1:]}
        for name, sub in subs.items():
            options = {option for option in completion.options_of(sub) if option not in ("-h", "--help")}
            text = " ".join(part for part in synopsis.split(".Nm\n") if part.startswith(f".Cm {name}\n"))
            named = {f"-{option}" for option in re.findall(r"Fl (-[\w-]+)", text)}
            self.assertEqual(named, options, name)
            self.assertIn(f".It Cm {name}\n", self.page)
        self.assertEqual(set(parts), set(subs))

    def test_the_manual_page_names_each_field(self) -> None:
        names = set(re.findall(r"^\.Va (\w+)", self.page, re.M))
        layouts = regions.Layouts(FakeDebugfs(mappings=MAPPINGS))
        page = poisoning.describe_page(lines.parse_poisoned(POISONED[0]), None, layouts)
        shown = [regions.describe_process(137, mappings(), vmas()), events(), page, {"moved": [], "seed": 1},
                 {"undone": [], "left": [{"reason": ""}]}, {"processes": [], "recorded": 1, "same_sizes": True},
                 Record().recorder(137).failures(events(), is_last=False), {"anon_rmap_record": 1}, {"poisoned": []}, {"hit": []},
                 {"anon_rmap_drill": 1, "failure": None}, moving.describe_move(137, moving.Plan([], []), 0, 0.0, False)]
        report = test_drill.sample()
        # Its keys are outcomes.
        shown += [report | {"summary": {**report["summary"], "outcomes": {}},
                            "regions": [region | {"outcomes": {}} for region in report["regions"]]}]
        self.assertEqual(names, fields(shown))

    def test_bash_offers_what_the_parser_takes(self) -> None:
        top = parser.parser()
        subs = completion.subparsers(top)
        script = completion.completion(top)

        def offered(*words: str) -> set[str]:
            program = f'{script}\nCOMP_WORDS=("$@") COMP_CWORD=$(($# - 1))\n_anon_rmap\nprintf "%s\\n" "${{COMPREPLY[@]}}"'
            bash = ["bash", "-uc", program, "bash", "anon_rmap", *words]
            done = subprocess.run(bash, capture_output=True, text=True, check=True)
            self.assertEqual(done.stderr, "")
            return set(done.stdout.split())

        self.assertEqual(offered(""), {*subs, "-h", "--help", "--version"})
        self.assertEqual(offered("re"), {"record", "replay"})
        for name, sub in subs.items():
            if name != "run":
                self.assertEqual(offered(name, "-"), set(completion.options_of(sub)), name)
                self.assertEqual(offered(name, ""), set(), name)
        self.assertIn("bash", offered("run", "bas"))


if __name__ == "__main__":
    unittest.main()
