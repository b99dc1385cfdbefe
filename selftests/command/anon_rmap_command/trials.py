# SPDX-License-Identifier: GPL-2.0-only
"""A trial of a drill: a program is started, pages of it fail, and what becomes of it is told."""

import math
import os
import shlex
import signal
import subprocess
import time
from dataclasses import asdict, dataclass, field, fields
from typing import IO, Any

from . import NAME, PAGE, Failure, Json
from .debugfs import Debugfs, Interruption
from .lines import Mapping, parse_mapping, parse_poisoned
from .moving import ANONYMOUS_KIND, DEVICE_KIND, run_move
from .planning import PRESENT, SOFT_DIRTY, Place, choose, forget_writes, places_with, wanted_regions
from .poisoning import Command, fail_pages
from .processes import anonymous_kib, children_of, handles, maps, of_session
from .regions import by_process, describe_region, regions_of
from .running import runner
from .undoing import give_back

# What can come of a trial, the worst first.
OUTCOMES = {
    "died": "it ended by a signal, or with a status that is not 0",
    "hung": "it did not end, or the check did not, within the time",
    "survived-wrong": "it goes on, but the check fails",
    "handled": "it has a handler for SIGBUS, and goes on right",
    "survived": "it goes on right, without a handler",
    "untouched": "it never touched the pages: this says nothing of it",
    "not-done": "the trial could not be done",
}
# How often it is looked at what happens, in seconds.
TICK = 0.02
# How often a fork is looked for.
FORK_TICK = 0.001
# How long it is seen what a program writes, to know its hot pages.
HOT_SECONDS = 1.0
# How long a program whose check has failed has to end, and what is killed.
END_SECONDS = 10.0
# How often pages are chosen: a program that gives memory back all the time can have less of what was chosen a moment later.
ATTEMPTS = 10
# How much of what a program has said is kept.
OUTPUT_BYTES = 2000


class Interrupted(Exception):
    """Ctrl-C or SIGTERM."""


class Gone(Failure):
    """Some of the pages that were chosen can't fail any more, so that none has."""


@dataclass(frozen=True)
class Settings:
    """What a campaign does."""

    program: list[str]
    trials: int
    seed: int
    plan: str = "random"
    pages: int = 1
    rate: float | None = None
    where: list[str] = field(default_factory=lambda: ["all"])
    check: str | None = None
    ready: str | None = None
    delay: float = 1.0
    timeout: float = 60.0
    attach: bool = False

    def command(self, trial: int) -> str:
        """The command that repeats a trial."""
        words = [NAME, "drill", "--trial", str(trial), "--seed", str(self.seed)]
        for setting in fields(self)[3:]:
            value, default = getattr(self, setting.name), getattr(Settings([], 0, 0), setting.name)
            if value is True:
                words.append(f"--{setting.name}")
            elif value != default:
                for one in value if isinstance(value, list) else [value]:
                    words += [f"--{setting.name}", f"{one:.6f}".rstrip("0").rstrip(".") if isinstance(one, float) else str(one)]
        return shlex.join([*words, "--", *self.program])

    def json(self) -> Json:
        return asdict(self)


def kill_session(process: subprocess.Popen[bytes]) -> None:
    """Ends a process and all of its session, and waits for that."""
    end = time.monotonic() + END_SECONDS
    while members := of_session(process.pid):
        for pid in members:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        if time.monotonic() > end:
            raise Failure(f"process {members[0]} does not end when it is killed: /proc/{members[0]}/stack has what it waits for")
        time.sleep(TICK)
    process.wait()


def started(words: list[str], log: IO[bytes] | None, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """Starts what ends with this process, in a session of its own."""
    command = ["setpriv", "--pdeathsig", "KILL", "--", *words]
    try:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log or 2, stderr=log or 2, start_new_session=True,
                                env=os.environ | environment)
    except FileNotFoundError:
        raise Failure("setpriv is not there: install util-linux") from None


class Trial:
    """One trial, from the start of the program to its end."""

    def __init__(self, debugfs: Debugfs, settings: Settings, number: int, interruption: Interruption,
                 log: IO[bytes] | None) -> None:
        self.debugfs, self.settings, self.number, self.interruption, self.log = debugfs, settings, number, interruption, log
        self.pid = 0
        self.regions: list[Json] = []
        self.failed: list[Json] = []
        self.frames: set[str] = set()
        self.touched_after: float | None = None
        self.ended_after: float | None = None
        self.has_handler = self.was_signalled = False
        # What was refused before, and since when.
        self.refused, self.since = 0, 0.0

    def run(self, known: list[Place] | None = None) -> Json:
        """What came of it. Known places take the place of the plan."""
        try:
            # At the same addresses each time, which the numbers of regions go by.
            start = [] if self.settings.attach else [runner(), "--require", "--"]
            self.program = started(["setarch", "-R", *start, *self.settings.program], self.log, {})
            try:
                self.get_ready()
                verdict = self.fail_and_watch(known)
                outcome, how = self.outcome(verdict), self.how(verdict)
            finally:
                kill_session(self.program)
                self.give_back()
        except Failure as failure:
            outcome, how = "not-done", str(failure)
        return {"trial": self.number, "outcome": outcome, "how": how, "places": self.failed, "regions": self.regions,
                "touched_after": self.touched_after, "ended_after": self.ended_after}

    # Waiting.

    def wait(self, process: subprocess.Popen[bytes] | None, until: float, tick: float = TICK) -> bool:
        """Waits until a process has ended; whether it has in time. Meanwhile it is looked at what happens."""
        descriptor = os.pidfd_open(process.pid) if process and process.returncode is None else None
        try:
            while True:
                left = until - time.monotonic()
                if self.interruption.comes_before(descriptor, min(max(left, 0), tick)):
                    raise Interrupted
                self.look()
                if process and process.poll() is not None:
                    return True
                if left <= 0:
                    return False
        finally:
            if descriptor is not None:
                os.close(descriptor)

    def look(self) -> None:
        """Notes when the program has touched what has failed, and when it has ended."""
        if not self.since:
            return
        now = time.monotonic() - self.since
        if self.touched_after is None and self.debugfs.counter("accesses_refused_total") > self.refused:
            self.touched_after = now
        if self.ended_after is None and self.program.poll() is not None:
            self.ended_after = now

    def shell(self, command: str) -> subprocess.Popen[bytes]:
        return started(["sh", "-c", command], self.log, {"ANON_RMAP_PID": str(self.pid or self.program.pid)})

    def status_of(self, process: subprocess.Popen[bytes], until: float) -> int | None:
        """The status of a command, or nothing if it has none in time. It is not waited for when the program has failed."""
        try:
            while not self.wait(process, min(until, time.monotonic() + TICK)):
                if time.monotonic() >= until or self.program.poll():
                    return None
            return process.returncode
        finally:
            kill_session(process)

    # Until pages can fail.

    def get_ready(self) -> None:
        """Waits until the program has memory of the device and says that it is ready, or has had the time for that."""
        until = time.monotonic() + self.settings.timeout
        while self.is_starting() if self.settings.attach else not self.mappings():
            self.wait_for_start(min(until, time.monotonic() + TICK), until)
        if not self.settings.ready:
            self.wait_for_start(time.monotonic() + self.settings.delay, math.inf)
        while self.settings.ready and self.status_of(self.shell(self.settings.ready), until) != 0:
            self.wait_for_start(min(until, time.monotonic() + 0.1), until)
        if self.settings.attach:
            self.attach()
        # Of several processes the one with most pages is it.
        processes = self.mappings()
        if not processes:
            raise Failure("the program ended before it was ready, or maps nothing of the device any more")
        self.pid = max(processes, key=lambda pid: (sum(mapping.present for mapping in processes[pid]), -pid))

    def is_starting(self) -> bool:
        """Whether what starts the program has not become the program yet."""
        try:
            return os.path.basename(os.readlink(f"/proc/{self.program.pid}/exe")) in ("setpriv", "setarch")
        except OSError:
            return False

    def attach(self) -> None:
        """Moves what the program has to the device: of several processes, that of the one with most."""
        members = of_session(self.program.pid)
        if members:
            run_move(max(members, key=lambda pid: (anonymous_kib(pid), -pid)), ANONYMOUS_KIND, DEVICE_KIND, False)

    def wait_for_start(self, end: float, until: float) -> None:
        if self.wait(self.program, end):
            raise Failure(f"the program ended before it was ready, {status_text(self.program.returncode)}: see what it says, "
                          "or give a shorter --delay")
        if time.monotonic() >= until:
            raise Failure("the program was not ready in time: give a longer --timeout, or another --ready")

    def mappings(self) -> dict[int, list[Mapping]]:
        """What the program and all that it has started map of the device."""
        processes = by_process(self.debugfs.lines("mappings", parse_mapping))
        members = of_session(self.program.pid) if processes else []
        return {pid: processes[pid] for pid in members if pid in processes}

    def plan(self) -> list[Place]:
        """Which pages are to fail."""
        vmas = maps(self.pid)
        regions = regions_of(self.mappings().get(self.pid, []), vmas)
        self.regions = [describe_region(i, region, vmas) for i, region in enumerate(regions)]
        self.starts = [region.start for region in regions]
        wanted = wanted_regions(self.pid, regions, self.settings.where)
        places = places_with(self.pid, wanted, PRESENT)
        if self.settings.plan in ("hot", "cold"):
            forget_writes(self.pid)
            self.wait(self.program, time.monotonic() + HOT_SECONDS)
            written = set(places_with(self.pid, wanted, PRESENT | SOFT_DIRTY))
            places = [place for place in places if (place in written) == (self.settings.plan == "hot")]
        chosen = choose(self.settings.plan, self.settings.seed, self.number, places, self.settings.pages, self.can_fail)
        if not chosen:
            what = {"hot": " that are written", "cold": " that are not written"}.get(self.settings.plan, "")
            raise Failure(f"the program has no pages{what} in --where {','.join(self.settings.where)}: '{NAME} list' shows "
                          "what it has; take another --where or --plan, or a longer --delay")
        return chosen

    def address(self, place: Place) -> int:
        return self.starts[place.region] + place.page * PAGE

    def can_fail(self, place: Place) -> bool:
        """What was only read has a page of zeroes that is everybody's: it is present, and can't fail."""
        address = f"{self.address(place):#x}"
        return not self.debugfs.refusal("dry_run", f"{self.pid} {address}", {"pid": self.pid, "address": address})

    # From then on.

    def fail(self, places: list[Place]) -> None:
        """All of these fail, or none."""
        addresses = {place: self.address(place) for place in places}
        text = "".join(f"pid={self.pid} address={address:#x} kind=simulated\n" for address in addresses.values())
        if not self.since:
            self.has_handler = handles(self.pid, signal.SIGBUS)
            self.refused = self.debugfs.counter("accesses_refused_total")
        now = time.monotonic()
        try:
            pages = fail_pages(self.debugfs, Command("replay", text, {"pid": self.pid}))
        except Failure as failure:
            raise Gone(str(failure)) from None
        self.since = self.since or now
        self.frames |= {page["pfn"] for page in pages}
        self.was_signalled |= any(hit["signal"] not in (None, "none") for page in pages for hit in page["hit"])
        self.failed += [{"region": place.region, "offset": hex(place.page * PAGE), "address": hex(address)}
                        for place, address in addresses.items()]

    def fail_and_watch(self, known: list[Place] | None) -> str:
        """What the check says in the end: right, wrong or late."""
        for _ in range(ATTEMPTS - 1):
            try:
                return self.fail_and_watch_at(self.planned(known))
            except Gone:
                if self.failed or self.program.poll() is not None:
                    raise
        return self.fail_and_watch_at(self.planned(known))

    def fail_and_watch_at(self, places: list[Place]) -> str:
        trigger = self.wait_for_fork() if self.settings.plan == "fork" else None
        begin, verdict, done = time.monotonic(), "right", 0
        while verdict == "right" and done < len(places):
            due = int((time.monotonic() - begin) * self.settings.rate) + 1 if self.settings.rate else len(places)
            try:
                self.fail(places[done:due])
            except Gone:
                # With a rate, a page can be gone by the time that it is to fail.
                if not self.failed:
                    raise
            done = max(due, done + 1)
            if trigger:
                self.status_of(trigger, time.monotonic() + self.settings.timeout)
                trigger = None
            verdict = self.check(is_last=done >= len(places))
            if self.program.poll() is not None:
                break
            if self.settings.rate and done < len(places):
                self.wait(self.program, begin + done / self.settings.rate)
        return verdict

    def planned(self, known: list[Place] | None) -> list[Place]:
        chosen = self.plan()
        for place in known or []:
            if place.region >= len(self.regions) or place.page * PAGE >= self.regions[place.region]["bytes"]:
                raise Failure(f"the program has nothing at {place}, where a page failed in the trial: it has grown otherwise")
        return known or chosen

    def wait_for_fork(self) -> subprocess.Popen[bytes] | None:
        """Waits until the program has forked. The check, if there is one, runs meanwhile, as it may make it fork."""
        before = children_of(self.pid)
        until = time.monotonic() + self.settings.timeout
        trigger = self.shell(self.settings.check) if self.settings.check else None
        try:
            while not children_of(self.pid) - before:
                if self.wait(self.program, min(until, time.monotonic() + FORK_TICK), FORK_TICK) or time.monotonic() >= until:
                    raise Failure("the program did not fork in time: let the check make it fork, or give a longer --timeout")
        except BaseException:
            if trigger:
                kill_session(trigger)
            raise
        return trigger

    def check(self, is_last: bool) -> str:
        until = time.monotonic() + self.settings.timeout
        command = self.settings.check or self.settings.ready
        if not command:
            return "right" if not is_last or self.wait(self.program, until) else "late"
        status = self.status_of(self.shell(command), until)
        if status is None:
            return "wrong" if self.program.poll() else "late"
        if status != 0:
            # It can be about to end.
            self.wait(self.program, time.monotonic() + min(END_SECONDS, self.settings.timeout))
        return "wrong" if status else "right"

    # What came of it.

    def outcome(self, verdict: str) -> str:
        self.look()
        if self.touched_after is None and not self.was_signalled:
            return "untouched"
        if self.program.poll():
            return "died"
        if verdict != "right":
            return {"late": "hung", "wrong": "survived-wrong"}[verdict]
        return "handled" if self.has_handler else "survived"

    def how(self, verdict: str) -> str:
        """How it ended, and what the check said."""
        ended = "it goes on" if self.program.returncode is None else f"it ended {status_text(self.program.returncode)}"
        has_check = bool(self.settings.check or self.settings.ready)
        checked = {"right": "the check succeeds", "wrong": "the check fails", "late": "the check does not end"}[verdict]
        return f"{ended}, {checked}" if has_check else ended

    def give_back(self) -> None:
        """What has failed and is still there, as others have it, is good again."""
        poisoned = {hex(page.pfn) for page in self.debugfs.lines("poisoned", parse_poisoned)}
        give_back(self.debugfs, [{"pfn": pfn} for pfn in sorted(poisoned & self.frames)])


def status_text(status: int) -> str:
    if status >= 0:
        return f"with status {status}"
    try:
        return f"by {signal.Signals(-status).name}"
    except ValueError:
        return f"by signal {-status}"


def settings_of(value: Any) -> Settings:
    """Settings of a file; raises ValueError or TypeError if they are none."""
    settings = Settings(**value)
    default = Settings(["true"], 1, 1, rate=1.0, check="", ready="")
    for setting in fields(Settings):
        given, usual = getattr(settings, setting.name), getattr(default, setting.name)
        may_lack = setting.name in ("rate", "check", "ready")
        if type(given) is not type(usual) and not (may_lack and given is None):
            raise ValueError(setting.name)
    return settings
