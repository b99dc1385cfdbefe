# SPDX-License-Identifier: GPL-2.0-only
"""Tests of drill that need no module and no root. What needs the module is in selftests/programs/drill.sh."""

import argparse
import contextlib
import html.parser
import io
import json
import os
import pathlib
import shlex
import signal
import sys
import tempfile
import time
import unittest
import xml.etree.ElementTree as xml
from typing import Any
from unittest import mock

HERE = pathlib.Path(__file__).resolve().parent
sys.dont_write_bytecode = True
sys.path.insert(0, str(HERE))

from anon_rmap_command import PAGE, Failure, campaign, parser, planning, report, report_page, trials  # noqa: E402
from anon_rmap_command.debugfs import Interruption  # noqa: E402
from anon_rmap_command.lines import Mapping  # noqa: E402
from anon_rmap_command.planning import Place, choose  # noqa: E402
from anon_rmap_command.regions import Region  # noqa: E402
from anon_rmap_command.trials import OUTCOMES, Settings  # noqa: E402

PLACES = [Place(region, page) for region in range(3) for page in range(100)]


def trial(number: int, outcome: str, **changes: Any) -> Any:
    regions = [{"region": 1, "bytes": 64 * PAGE, "below": None, "above": {"name": "/lib/<b>.so", "distance": 0}}]
    places = [] if outcome == "not-done" else [{"region": 1, "offset": hex(number % 64 * PAGE), "address": "0x7f0000000000"}]
    return {"trial": number, "outcome": outcome, "how": "it ended by <SIGBUS>", "places": places, "regions": regions,
            "touched_after": None if outcome in ("untouched", "not-done") else 0.01 * 3 ** (number % 9),
            "ended_after": 0.5 if outcome == "died" else None,
            "output": "</pre><script>alert(1)</script>\x00\x1b[1m & more"} | changes


def settings(**changes: Any) -> Settings:
    return Settings(**({"program": ["a <program>", "it's", "--all"], "trials": 40, "seed": 9} | changes))


def sample(number: int = 40) -> Any:
    """A report with each outcome."""
    outcomes = list(OUTCOMES)
    done = {i: trial(i, outcomes[i % len(outcomes)]) for i in range(number)}
    return report.report_of(settings(check="grep '<x>' /y", rate=2.5), done, "/tmp/a folder")


class Plans(unittest.TestCase):
    def test_the_same_seed_gives_the_same_trials(self) -> None:
        for plan in planning.PLANS:
            first = [choose(plan, 7, number, PLACES, 5) for number in range(20)]
            self.assertEqual(first, [choose(plan, 7, number, reversed(PLACES), 5) for number in range(20)])
            self.assertNotEqual(first, [choose(plan, 8, number, PLACES, 5) for number in range(20)])
            self.assertGreater(len({tuple(places) for places in first}), 15)

    def test_and_does_so_in_all_versions(self) -> None:
        self.assertEqual(choose("random", 1, 0, PLACES, 2), [Place(1, 42), Place(2, 52)])

    def test_a_few_other_pages_change_few_trials(self) -> None:
        first = [choose("random", 7, number, PLACES, 1) for number in range(200)]
        second = [choose("random", 7, number, PLACES[3:] + [Place(3, 0)], 1) for number in range(200)]
        self.assertGreater(sum(a == b for a, b in zip(first, second)), 180)

    def test_all_pages_have_their_chance(self) -> None:
        chosen = {place for number in range(3000) for place in choose("random", 1, number, PLACES, 1)}
        self.assertGreater(len(chosen), 290)

    def test_each_region_has_its_turn(self) -> None:
        for number in range(6):
            self.assertEqual({place.region for place in choose("region", 1, number, PLACES, 9)}, {number % 3})

    def test_a_burst_is_of_pages_beside_each_other(self) -> None:
        for number in range(50):
            first, *others = choose("burst", 1, number, PLACES, 8)
            self.assertEqual(others, [Place(first.region, first.page + i + 1) for i in range(len(others))])
            self.assertEqual(len(others), min(7, 99 - first.page))

    def test_there_can_be_fewer_or_none(self) -> None:
        for plan in planning.PLANS:
            self.assertEqual(choose(plan, 1, 0, [], 3), [])
            self.assertEqual(choose(plan, 1, 0, PLACES[:1], 3), PLACES[:1])

    def test_what_can_not_fail_is_passed_over(self) -> None:
        for plan in planning.PLANS:
            first = choose(plan, 1, 5, PLACES, 4)
            self.assertEqual(choose(plan, 1, 5, PLACES, 3, lambda place: place != first[0]), first[1:], plan)
        self.assertEqual(choose("random", 1, 5, PLACES, 3, lambda place: False), [])

    def test_where(self) -> None:
        starts = (0x9000, 0x5000, 0x1000)
        regions = [Region(i, [Mapping(1, start, start + 0x1000, 1, 0, "a")]) for i, start in enumerate(starts)]
        with mock.patch.object(planning, "stack_pointers", lambda pid: {0x5800, 1}):
            for where, numbers in (("all", [0, 1, 2]), ("heap", [0, 2]), ("stack", [1]), ("2", [2]), ("2 stack", [1, 2])):
                self.assertEqual(list(planning.wanted_regions(1, regions, where.split())), numbers)
            with self.assertRaisesRegex(Failure, "no region 3"):
                planning.wanted_regions(1, regions, ["3"])

    def test_pages_of_this_process_are_found(self) -> None:
        libc = next(line for line in pathlib.Path("/proc/self/maps").read_text().splitlines() if " r-xp " in line)
        start, end = (int(number, 16) for number in libc.split()[0].split("-"))
        pages = planning.pages_with(os.getpid(), Region(1, [Mapping(1, start, end, 1, 0, "a")]), planning.PRESENT)
        self.assertTrue(pages)
        self.assertLess(max(pages), (end - start) // PAGE)


class FakeDebugfs:
    """The program has 100 pages; `refused` counts what it touched."""

    def __init__(self) -> None:
        self.refused, self.program = 0, 0

    def counter(self, name: str) -> int:
        return {"accesses_refused_total": self.refused, "poisoned": 0}[name]

    def refusal(self, file: str, text: str, asked: Any) -> str | None:
        return "nobody has touched it" if file == "dry_run" and int(text.split()[1], 16) < 0x11000 else None

    def lines(self, file: str, parser_: Any = str) -> list[Any]:
        if file != "mappings":
            return []
        sessions = [int(name) for name in os.listdir("/proc") if name.isdigit()]
        ours = [pid for pid in sessions if b"a program of ours" in command_line(pid)]
        return [Mapping(pid, 0x10000, 0x74000, 100, 0, "sh") for pid in ours]


def command_line(pid: int) -> bytes:
    try:
        words = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return b""
    # Not when it is about to be one.
    return words[-2] if words[0] == b"sh" and len(words) > 1 else b""


class Trials(unittest.TestCase):
    """With real programs, whose pages only seem to fail."""

    def run_trial(self, program: str, hit: Any = None, trial_class: Any = trials.Trial, **changes: Any) -> Any:
        """hit(pid, debugfs) is what happens when pages fail; the default is that the program touches them."""
        debugfs = FakeDebugfs()

        def touch(pid: int, fake: FakeDebugfs) -> None:
            fake.refused += 1

        def fail(fake: FakeDebugfs, command: Any) -> list[Any]:
            (hit or touch)(command.asked["pid"], fake)
            return [{"pfn": "0x1", "hit": [{"signal": "none"}]} for _ in command.text.splitlines()]

        given = settings(program=["sh", "-c", program, "a program of ours"], **({"delay": 0.1, "timeout": 2.0} | changes))
        with tempfile.TemporaryDirectory() as directory, open(os.path.join(directory, "log"), "w+b") as log, \
                mock.patch.object(trials, "runner", lambda: self.runner), mock.patch.object(trials, "fail_pages", fail), \
                mock.patch.object(trials, "maps", lambda pid: []), mock.patch.object(trials, "END_SECONDS", 1.0), \
                mock.patch.object(trials, "places_with", lambda *_: [Place(0, page) for page in range(100)]):
            return trial_class(debugfs, given, 3, self.interruption, log).run()

    @classmethod
    def setUpClass(cls) -> None:
        cls.directory = tempfile.TemporaryDirectory()
        runner = pathlib.Path(cls.directory.name) / "run"
        runner.write_text('#!/bin/sh\n[ "$1 $2" = "--require --" ] && shift 2 && exec "$@"\n')
        runner.chmod(0o755)
        cls.runner = str(runner)
        cls.before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]

    @classmethod
    def tearDownClass(cls) -> None:
        cls.directory.cleanup()

    def setUp(self) -> None:
        self.interruption = Interruption()
        self.addCleanup(signal.set_wakeup_fd, -1)
        for number, handler in zip((signal.SIGINT, signal.SIGTERM), self.before):
            self.addCleanup(signal.signal, number, handler)

    def becomes(self, outcome: str, how: str, *args: Any, **changes: Any) -> Any:
        done = self.run_trial(*args, **changes)
        self.assertEqual(done["outcome"], outcome, done)
        self.assertRegex(done["how"], how)
        return done

    def test_died(self) -> None:
        def kill(pid: int, debugfs: FakeDebugfs) -> None:
            debugfs.refused += 1
            os.kill(pid, signal.SIGBUS)

        done = self.becomes("died", "by SIGBUS", "sleep 60 & wait", kill)
        self.assertLess(done["touched_after"], 1)
        self.assertLess(done["ended_after"], 1)
        self.assertEqual([place["region"] for place in done["places"]], [0])
        self.becomes("died", "by SIGBUS, the check fails", "sleep 60 & wait", kill, check="sleep 1; false")
        self.becomes("died", "with status 3", "sleep 0.5; exit 3")

    def test_survived_and_handled(self) -> None:
        self.becomes("survived", "with status 0", "sleep 0.5")
        self.becomes("survived", "it goes on, the check succeeds", "sleep 60 & wait", check='test -d "/proc/$ANON_RMAP_PID"')
        self.becomes("survived", "it goes on, the check succeeds", "sleep 60 & wait", ready="true")
        self.becomes("survived-wrong", "it goes on, the check fails", "sleep 60 & wait", check="false")
        with mock.patch.object(trials, "handles", lambda pid, number: True):
            self.becomes("handled", "with status 0", "sleep 0.5")

    def test_hung(self) -> None:
        self.becomes("hung", "it goes on$", "sleep 60 & wait", timeout=0.5)
        self.becomes("hung", "the check does not end", "sleep 60 & wait", timeout=0.5, check="sleep 60")

    def test_it_starts_as_it_is_and_the_largest_is_attached(self) -> None:
        moved = []
        with mock.patch.object(trials, "run_move", lambda pid, *_: moved.append(command_line(pid))), \
                mock.patch.object(trials, "anonymous_kib", lambda pid: len(command_line(pid))):
            self.becomes("survived", "with status 0", 'test "$#" = 0 && sleep 0.5', attach=True)
        self.assertEqual([b"a program of ours"], moved)

    def test_what_can_not_be_attached(self) -> None:
        with mock.patch.object(trials, "run_move", side_effect=Failure("it is of 32 bits")):
            self.becomes("not-done", "of 32 bits", "sleep 60 & wait", attach=True)

    def test_what_nobody_touched_is_no_survival(self) -> None:
        for changes in ({"check": "true"}, {"check": "false"}, {"timeout": 0.5}):
            self.becomes("untouched", "it goes on", "sleep 60 & wait", lambda *_: None, **changes)
        self.becomes("untouched", "with status 1", "sleep 0.5; exit 1", lambda *_: None)

    def test_not_done(self) -> None:
        for program, reason, changes in (
            ("exit 4", "ended before it was ready, with status 4", {}),
            ("sleep 60 & wait", "not ready in time", {"ready": "false"}),
            ("sleep 60 & wait", "no region 5", {"where": ["5"]}),
            ("sleep 60 & wait", "did not fork", {"plan": "fork", "timeout": 0.5}),
        ):
            done = self.becomes("not-done", reason, program, **changes)
            self.assertEqual(done["places"], [])

    def test_pages_fail_as_it_forks(self) -> None:
        self.becomes("survived", "status 0", "sleep 0.5; (sleep 0.5); :", plan="fork")

    def test_pages_fail_one_after_the_other(self) -> None:
        times: list[float] = []

        def note(pid: int, debugfs: FakeDebugfs) -> None:
            times.append(time.monotonic())
            debugfs.refused += 1

        done = self.becomes("survived", "check succeeds", "sleep 60 & wait", note, check="true", pages=4, rate=10.0)
        self.assertEqual(len(done["places"]), 4)
        self.assertGreater(times[-1] - times[0], 0.2)

    def test_pages_that_are_gone_are_chosen_again(self) -> None:
        tries: list[int] = []

        def refuse(times: int) -> Any:
            def hit(pid: int, debugfs: FakeDebugfs) -> None:
                tries.append(pid)
                if len(tries) <= times:
                    raise Failure("it has not touched all")
                debugfs.refused += 1
            return hit

        self.becomes("survived", "status 0", "sleep 2", refuse(5), pages=4)
        self.assertEqual(len(tries), 6)
        tries.clear()
        self.becomes("not-done", "has not touched all", "sleep 60 & wait", refuse(trials.ATTEMPTS))
        self.assertEqual(len(tries), trials.ATTEMPTS)

    def test_the_addresses_mean_nothing(self) -> None:
        first = self.run_trial("sleep 0.5", pages=3)
        with mock.patch.object(FakeDebugfs, "lines", lambda self, file, parser_=str, lines=FakeDebugfs.lines: [
                Mapping(m.pid, m.start + (1 << 32), m.end + (1 << 32), 100, 0, "sh") for m in lines(self, file)]):
            second = self.run_trial("sleep 0.5", pages=3)
        places = [[(place["region"], place["offset"]) for place in done["places"]] for done in (first, second)]
        self.assertEqual(places[0], places[1])
        self.assertNotEqual(first["places"], second["places"])

    def test_it_is_interrupted_and_nothing_is_left(self) -> None:
        begun: list[int] = []

        def interrupt(pid: int, debugfs: FakeDebugfs) -> None:
            begun.append(pid)
            # SIGINT can be ignored, as in what a shell has started in the background.
            os.kill(os.getpid(), signal.SIGTERM)

        with self.assertRaises(trials.Interrupted):
            self.run_trial("sleep 60 & wait", interrupt, check="true")
        self.assertEqual(trials.of_session(begun[0]), [])


class Campaigns(unittest.TestCase):
    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.folder = os.path.join(directory.name, "a folder")

    def begin(self) -> campaign.Folder:
        folder = campaign.Folder(self.folder, begins=True)
        folder.begin(settings())
        self.addCleanup(folder.file.close)
        return folder

    def again(self) -> campaign.Folder:
        folder = campaign.Folder(self.folder, begins=False)
        self.addCleanup(folder.file.close)
        return folder

    def test_what_is_killed_is_continued(self) -> None:
        folder = self.begin()
        folder.add(trial(0, "died"))
        folder.file.write(b'{"trial": 1, "outc')
        folder.file.close()
        folder = self.again()
        self.assertEqual((folder.settings, folder.trials), (settings(), {0: trial(0, "died")}))
        folder.add(trial(1, "hung"))
        folder.file.close()
        self.assertEqual(sorted(self.again().trials), [0, 1])

    def test_each_line_is_on_the_disk(self) -> None:
        folder = self.begin()
        with mock.patch.object(os, "fsync") as fsync:
            folder.add(trial(0, "died"))
        fsync.assert_called_once()
        self.assertEqual(len(pathlib.Path(folder.path("trials.jsonl")).read_text().splitlines()), 2)

    def test_a_folder_is_not_taken_for_another(self) -> None:
        with self.assertRaisesRegex(Failure, "has no campaign"):
            self.again()
        folder = self.begin()
        with self.assertRaisesRegex(Failure, "another drill"):
            self.again()
        folder.file.close()
        with self.assertRaisesRegex(Failure, "has a campaign already"):
            campaign.Folder(self.folder, begins=True)
        for wrong in ('{"anon_rmap_drill": 2}\n', "[]\n", "x\n", '{"anon_rmap_drill": 1, "settings": {"seed": "x"}}\n',
                      json.dumps({"anon_rmap_drill": 1, "settings": settings().json() | {"rate": "1"}}) + "\n",
                      json.dumps({"anon_rmap_drill": 1, "settings": settings().json()}) + '\n{"trial": 1}\n'):
            pathlib.Path(folder.path("trials.jsonl")).write_text(wrong)
            with self.assertRaisesRegex(Failure, "is no campaign", msg=wrong):
                self.again()
        with self.assertRaisesRegex(Failure, "can't be written"):
            campaign.Folder("/proc/none", begins=True)

    def campaign(self, outcomes: list[str], done: dict[int, Any] | None = None) -> tuple[campaign.Folder, str]:
        """Trials that have these outcomes."""
        folder = self.begin()
        for entry in (done or {}).values():
            folder.add(entry)
        left = iter(outcomes)

        class FakeTrial:
            def __init__(self, debugfs: Any, settings_: Settings, number: int, *_: Any) -> None:
                self.number = number

            def run(self) -> Any:
                outcome = next(left)
                if outcome == "interrupted":
                    raise trials.Interrupted
                return trial(self.number, outcome)

        with mock.patch.object(campaign, "Trial", FakeTrial), contextlib.redirect_stdout(io.StringIO()) as out:
            campaign.run_trials(mock.Mock(), settings(trials=4), mock.Mock(), folder, quiet=False)
        return folder, out.getvalue()

    def test_only_what_is_left_is_done(self) -> None:
        folder, said = self.campaign(["died", "untouched", "handled"], {1: trial(1, "survived")})
        self.assertEqual([folder.trials[i]["outcome"] for i in range(4)], ["died", "survived", "untouched", "handled"])
        self.assertEqual(len(said.splitlines()), 3)
        self.assertEqual(len(os.listdir(folder.path("logs"))), 3)

    def test_what_can_not_be_done_ends_soon(self) -> None:
        with self.assertRaisesRegex(Failure, "3 trials in a row could not be done: "):
            self.campaign(["not-done", "not-done", "not-done"])

    def test_what_is_interrupted_is_not_written(self) -> None:
        with self.assertRaises(trials.Interrupted):
            self.campaign(["died", "interrupted"])
        self.assertEqual(len(pathlib.Path(self.folder, "trials.jsonl").read_text().splitlines()), 2)

    def test_a_campaign_that_is_interrupted_has_its_reports(self) -> None:
        folder = os.path.join(self.folder, "b")
        args = parser.parser().parse_args(["drill", "--seed", "1", "--output", folder, "--", "true"])
        fake = mock.Mock(counter=lambda name: 0)
        with mock.patch.object(campaign, "Debugfs", lambda: fake), mock.patch.object(campaign, "Interruption"), \
                mock.patch.object(campaign, "run_trials", side_effect=trials.Interrupted):
            done = campaign.run_drill(args)
        self.assertEqual((done["done"], done["complete"]), (0, False))
        self.assertRegex(done["failure"], "interrupted after 0 of 20 trials; 'anon_rmap drill --resume --output ")
        self.assertTrue(os.path.exists(os.path.join(folder, "report.html")))

    def test_none_begins_while_pages_have_failed(self) -> None:
        args = parser.parser().parse_args(["drill", "--output", self.folder, "--", "true"])
        with mock.patch.object(campaign, "Debugfs", lambda: mock.Mock(counter=lambda name: 1)), \
                self.assertRaisesRegex(Failure, "undo --all' first"):
            campaign.run_drill(args)
        self.assertFalse(os.path.exists(self.folder))

    def test_progress_tells_the_time_that_is_left(self) -> None:
        with mock.patch.object(sys, "stderr", io.StringIO()) as error:
            error.isatty = lambda: True  # type: ignore[method-assign]
            with mock.patch.object(campaign.time, "monotonic", lambda: 100.0):
                progress = campaign.Progress(10, 0)
            with mock.patch.object(campaign.time, "monotonic", lambda: 160.0):
                progress.show({0: trial(0, "died"), 1: trial(1, "hung")})
        self.assertIn("trial 3 of 10: 1 died, 1 hung, about 4 min left", error.getvalue())
        self.assertEqual([campaign.duration(seconds) for seconds in (5, 60, 3599, 7260)], ["5 s", "1 min", "59 min", "2 h 1 min"])


class Usage(unittest.TestCase):
    def args(self, *words: str) -> argparse.Namespace:
        return parser.parser().parse_args(["drill", *words])

    def test_the_command_repeats_a_trial(self) -> None:
        for changes in ({}, {"plan": "hot", "pages": 3, "rate": 2.5, "where": ["heap", "3"], "check": "a 'b'", "ready": "c d",
                             "delay": 0.000001, "timeout": 123456.5}, {"attach": True, "seed": 3}):
            command = shlex.split(settings(**changes).command(5))
            self.assertEqual(command[:2], ["anon_rmap", "drill"])
            args = self.args(*command[2:])
            self.assertIsNone(parser.check_usage(args))
            self.assertEqual(args.trial, 5)
            self.assertEqual(campaign.settings_from(args), settings(**changes | {"trials": 20}))

    def test_how_it_is_used(self) -> None:
        for words in ("", "--seed 1", "--", "--resume -- true", "--trial 1 --output a -- true", "--resume --trial 1",
                      "--trial 1", "--trial 1 -- true", "--pages 10001 -- true"):
            self.assertIsNotNone(parser.check_usage(self.args(*words.split())), words)
        for words in ("true", "-- true", "--resume", "--resume --output a", "--trial 1 --seed 2 -- true", "--trial 1 --output a"):
            self.assertIsNone(parser.check_usage(self.args(*words.split())), words)
        self.assertEqual(campaign.settings_from(self.args("--seed", "1", "true", "--seed", "2")).program, ["true", "--seed", "2"])

    def test_wrong_values(self) -> None:
        for words in ("--where x", "--plan x", "--rate 0", "--rate x", "--timeout 0", "--timeout 1e9", "--delay -1", "--trials 0",
                      "--pages 0", "--seed x", "--where 1_0"):
            with self.assertRaises(SystemExit, msg=words), contextlib.redirect_stderr(io.StringIO()):
                self.args(*words.split(), "--", "true")

    def test_how_many_pages(self) -> None:
        for words, pages in (("", 1), ("--plan burst", 8), ("--rate 2", 10), ("--pages 3 --rate 2", 3)):
            self.assertEqual(campaign.settings_from(self.args(*words.split(), "--", "true")).pages, pages)


class Tags(html.parser.HTMLParser):
    """Checks that what is opened is closed; collects the tags."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.seen.append(tag)
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, tag


class Reports(unittest.TestCase):
    def test_the_page_is_whole_and_escaped(self) -> None:
        for number in (40, 0, 1):
            page = report_page.page_of(sample(number))
            tags = Tags(page)
            self.assertEqual(tags.open, [])
            self.assertNotIn("script", tags.seen)
            self.assertNotRegex(page, r"https?:|<b>|<x>|<program>|<SIGBUS>|url\(")
            self.assertEqual(tags.seen.count("details"), number)

    def test_it_shows_each_outcome(self) -> None:
        page = report_page.page_of(sample())
        for outcome in OUTCOMES:
            self.assertIn(f'<span class="mark {outcome}">', page)
            if outcome != "not-done":
                self.assertIn(f'<rect class="{outcome}"', page)

    def test_of_several_trials_in_a_cell_the_worst_is_shown(self) -> None:
        self.assertEqual(report_page.worst(["survived", "died", "untouched"]), "died")
        self.assertEqual(report_page.worst(["survived", "untouched"]), "survived")

    def test_junit(self) -> None:
        suite = xml.fromstring(report.junit_of(sample(14)).encode())
        self.assertEqual((suite.get("tests"), suite.get("failures"), suite.get("skipped")), ("14", "6", "4"))
        self.assertEqual(len(suite.findall("testcase/failure")), 6)
        self.assertIn("drill --trial 0 --seed 9", suite.find("testcase/failure").text)
        self.assertIn("\\x00\\x1b[1m & more", suite.find("testcase/system-out").text)

    def test_by_region(self) -> None:
        region, = sample(14)["regions"]
        self.assertEqual((region["region"], region["bytes"], region["beside"], region["trials"]), (1, 64 * PAGE, "<b>.so", 12))
        self.assertEqual(sum(region["outcomes"].values()), 12)

    def test_they_are_written_as_a_whole(self) -> None:
        with tempfile.TemporaryDirectory() as directory:
            report.write_reports(lambda name: os.path.join(directory, name), sample())
            self.assertEqual(sorted(os.listdir(directory)), ["report.html", "report.json", "report.xml"])
            self.assertEqual(json.loads(pathlib.Path(directory, "report.json").read_text()), sample())


if __name__ == "__main__":
    unittest.main()
