# SPDX-License-Identifier: GPL-2.0-only
"""Tests of attach and detach that need no module: a sparse file takes the place of the device.

They move the memory of processes that they start. selftests/programs/attach.sh has the device.
"""

import os
import pathlib
import platform
import signal
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

from anon_rmap_command import Failure, moving, parser, tracing  # noqa: E402

# What the programs of these tests begin with, and how they go on. A test asks for a part of it by a line.
PROGRAM = """
import ctypes, hashlib, mmap, os, select, sys, threading, time
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
libc.mlock.argtypes = [ctypes.c_void_p, ctypes.c_size_t]

def region(pages, flags=0, protection=3):
    address = libc.mmap(None, pages * 4096, protection, 0x22 | flags, -1, 0)
    return address

def fill(address, pages):
    for page in range(pages):
        ctypes.memset(address + page * 4096, page % 255 + 1, 100)

memory = bytearray(os.urandom(8 << 20))
digest = hashlib.sha256(memory).digest()
def check():
    return hashlib.sha256(memory).digest() == digest
"""
GO_ON = """
for line in sys.stdin:
    print(eval(line), flush=True)
"""


def has_pagemap_scan() -> bool:
    pages = moving.Pages(os.getpid())
    try:
        pages.content(4096, 8192)
        return True
    except OSError:
        return False
    finally:
        pages.close()


@unittest.skipUnless(platform.machine() == "x86_64" and has_pagemap_scan(), "needs x86-64, and Linux 6.16 for PAGEMAP_SCAN")
class MovingTest(unittest.TestCase):
    def setUp(self) -> None:
        file = tempfile.NamedTemporaryFile(prefix="anon_rmap-test")
        self.addCleanup(file.close)
        os.truncate(file.name, 1 << 30)
        self.file = moving.Kind(file.name, file.name)

    def start(self, code: str = "", begin: str = "print('ready', flush=True)") -> None:
        """Starts a program that does this, and then answers."""
        self.program = subprocess.Popen([sys.executable, "-c", PROGRAM + code + "\n" + begin + GO_ON], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True, bufsize=1)
        self.addCleanup(self.end)
        self.first = self.answer()

    def end(self) -> None:
        self.program.kill()
        self.program.communicate()

    def answer(self) -> str:
        assert self.program.stdout
        return self.program.stdout.readline().strip()

    def send(self, expression: str) -> None:
        assert self.program.stdin
        self.program.stdin.write(expression + "\n")

    def ask(self, expression: str) -> str:
        self.send(expression)
        return self.answer()

    def maps(self) -> str:
        return pathlib.Path(f"/proc/{self.program.pid}/maps").read_text(encoding="utf-8")

    def attach(self, dry_run: bool = False) -> dict[str, Any]:
        return moving.run_move(self.program.pid, moving.ANONYMOUS_KIND, self.file, dry_run)

    def detach(self) -> dict[str, Any]:
        return moving.run_move(self.program.pid, self.file, moving.ANONYMOUS_KIND, False)

    def area(self, address: int) -> moving.Area:
        return next(area for area in moving.areas_of(self.program.pid) if area.start <= address < area.end)

    def assert_refused(self, sentence: str) -> None:
        before = self.maps()
        with self.assertRaisesRegex(Failure, sentence):
            self.attach()
        self.assertEqual(before, self.maps())
        self.assertEqual("0", moving.status_of(self.program.pid)["TracerPid"])


class Content(MovingTest):
    def test_content_is_the_same_after_both_ways(self) -> None:
        self.start()
        moved = self.attach()
        self.assertIn(str(self.file.path), self.maps())
        self.assertGreaterEqual(moved["copied"], 8 << 20)
        self.assertEqual("True", self.ask("check()"))
        self.detach()
        self.assertNotIn(str(self.file.path), self.maps())
        self.assertEqual("True", self.ask("check()"))

    def test_many_times_with_threads_that_work(self) -> None:
        self.start("""
turns = [0] * 4
ending = threading.Event()
def work(i):
    while not ending.is_set():
        own = [str(j) for j in range(1000)]
        turns[i] += own == [str(j) for j in range(1000)]
threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
for thread in threads:
    thread.start()
""")
        for _ in range(5):
            self.attach()
            self.detach()
        self.attach()
        self.assertEqual("True", self.ask("check()"))
        self.assertEqual("4", self.ask("ending.set() or len([thread.join() for thread in threads])"))
        self.assertEqual("True", self.ask("min(turns) > 0"))

    def test_the_number_of_mappings_stays(self) -> None:
        self.start("threads = [threading.Thread(target=time.sleep, args=(1000,), daemon=True) for _ in range(4)]\n"
                   "for thread in threads:\n    thread.start()")
        counts = []
        for _ in range(4):
            counts.append(len(self.attach()["moved"]))
            self.detach()
        self.assertEqual(counts[1:], counts[:1] * 3)

    def test_what_is_new_is_moved_the_next_time(self) -> None:
        self.start()
        self.attach()
        self.assertEqual([], self.attach()["moved"])
        address = int(self.ask("[address := region(16), fill(address, 16)][0]"))
        self.assertIn(hex(address), [area["start"] for area in self.attach()["moved"]])
        self.assertEqual("16", self.ask(f"ctypes.string_at({address} + 15 * 4096, 1)[0]"))

    def test_the_first_thread_may_have_ended(self) -> None:
        self.start("""
def work():
    for line in sys.stdin:
        print(eval(line), flush=True)
threading.Thread(target=work).start()
""", "print('ready', flush=True)\nlibc.syscall(60, 0)")
        time.sleep(0.3)
        self.assertEqual("True", self.ask("check()"))
        self.assertGreaterEqual(self.attach()["copied"], 8 << 20)
        self.assertEqual("True", self.ask("check()"))
        self.detach()
        self.assertEqual("True", self.ask("check()"))

    def test_who_may_not_open_the_device_is_given_it(self) -> None:
        self.start("os.setresgid(65534, 65534, 65534)\nos.setresuid(65534, 65534, 65534)" if os.getuid() == 0 else "")
        os.chmod(self.file.name, 0o600)
        with mock.patch.object(moving.Mover, "hand_over", autospec=True, side_effect=moving.Mover.hand_over) as handed:
            self.assertGreaterEqual(self.attach()["copied"], 8 << 20)
        self.assertEqual(os.getuid() == 0, handed.called)
        self.assertEqual("True", self.ask("check()"))
        self.assertNotIn(self.file.name, [os.readlink(file) for file in pathlib.Path(f"/proc/{self.program.pid}/fd").iterdir()])
        self.detach()
        self.assertEqual("True", self.ask("check()"))

    def test_it_is_moved_by_pieces(self) -> None:
        self.start()
        with mock.patch.object(moving, "PIECE", 1 << 20):
            self.attach()
            self.assertGreaterEqual(self.maps().count(str(self.file.path)), 9)
            self.assertEqual("True", self.ask("check()"))
            self.detach()
        self.assertEqual("True", self.ask("check()"))

    def test_what_was_never_written_is_not_copied(self) -> None:
        self.start("address = region(4096)\nctypes.memset(address + 7 * 4096, 1, 1)\nctypes.string_at(address + 9 * 4096, 1)")
        before = self.attach()["copied"]
        self.assertLess(before, 40 << 20)
        address = int(self.ask("address"))
        self.assertEqual("[1, 0]", self.ask("[ctypes.string_at(address + page * 4096, 1)[0] for page in (7, 9)]"))
        self.assertEqual(self.file.name, self.area(address).name)

    def test_flags_and_protections_go_with_it(self) -> None:
        self.start("""
places = [region(8), region(8, 0x4000), region(8, protection=7), region(8)]
for place in places:
    fill(place, 8)
libc.madvise(places[0], 8 * 4096, 10)
libc.madvise(places[0], 8 * 4096, 16)
assert libc.mlock(places[3], 8 * 4096) == 0
""")
        places = eval(self.ask("places"))
        kept = frozenset("rd wr ex dc dd nr lo".split())
        before = [self.area(place).flags & kept for place in places]
        for move in (self.attach, self.detach):
            move()
            self.assertEqual(before, [self.area(place).flags & kept for place in places])
        self.assertEqual("[8, 8, 8, 8]", self.ask("[ctypes.string_at(place + 7 * 4096, 1)[0] for place in places]"))

    def test_guards_remain(self) -> None:
        # MADV_GUARD_INSTALL; the kernel can't read from there either.
        self.start("""
place = region(8)
fill(place, 8)
libc.madvise(place + 4096, 4096, 102)
libc.write.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t]
null = os.memfd_create("null")
""")
        for move in (self.attach, self.detach):
            move()
            self.assertEqual("[1, -1, 1]", self.ask("[libc.write(null, place + page * 4096, 1) for page in range(3)]"))
            self.assertEqual("(1, 3)", self.ask("(ctypes.string_at(place, 1)[0], ctypes.string_at(place + 2 * 4096, 1)[0])"))

    def test_what_stays_is_said(self) -> None:
        self.start("""
places = [region(8), region(8), region(8, protection=1), region(8, 0x100)]
libc.madvise(places[0], 8 * 4096, 18)
""")
        wiped, readable, down = (int(self.ask(f"places[{i}]")) for i in (0, 2, 3))
        before = self.maps()
        planned = self.attach(dry_run=True)
        self.assertEqual(before, self.maps())
        left = {area["start"]: area["reason"] for area in self.attach()["left"]}
        self.assertEqual(left.keys(), {area["start"] for area in planned["left"]})
        self.assertIn("WIPEONFORK", left[hex(wiped)])
        self.assertIn("not writable", left[hex(readable)])
        self.assertIn("grows downward", left[hex(self.area(down).start)])
        self.assertIn("main stack", " ".join(left.values()))
        self.assertEqual("True", self.ask("check()"))


class SystemCallsOfTheProgram(MovingTest):
    """They are not seen to be interrupted."""

    def wait_for(self, expression: str, answer: str, seconds: float) -> None:
        self.start()
        self.send(f"[begin := time.monotonic(), {expression}, time.monotonic() - begin][1:]")
        time.sleep(0.3)
        self.attach()
        self.detach()
        found, took = eval(self.answer())
        self.assertEqual(answer, str(found))
        self.assertAlmostEqual(seconds, took, delta=1)

    def test_sleep_until(self) -> None:
        self.wait_for("time.sleep(1.5)", "None", 1.5)

    def test_nanosleep_goes_on_for_the_rest(self) -> None:
        self.wait_for("libc.syscall(35, (ctypes.c_long * 2)(1, 500000000), None)", "0", 1.5)

    def test_poll_goes_on_for_the_rest(self) -> None:
        self.wait_for("libc.poll(None, 0, 1500)", "0", 1.5)

    def test_futex_goes_on_for_the_rest(self) -> None:
        self.wait_for("threading.Event().wait(1.5)", "False", 1.5)

    def test_read(self) -> None:
        self.wait_for("[pipe := os.pipe(), threading.Timer(1.5, os.write, (pipe[1], b'x')).start(), os.read(pipe[0], 1)][2]",
                      "b'x'", 1.5)

    def test_a_program_that_is_stopped_stays_stopped(self) -> None:
        self.start()
        os.kill(self.program.pid, signal.SIGSTOP)
        time.sleep(0.2)
        self.attach()
        time.sleep(0.2)
        self.assertEqual("T", moving.status_of(self.program.pid)["State"][0])
        os.kill(self.program.pid, signal.SIGCONT)
        self.assertEqual("True", self.ask("check()"))

    def test_signals_come_afterwards(self) -> None:
        self.start("import signal\ngot = []\nsignal.signal(signal.SIGUSR1, lambda *_: got.append(1))")
        with mock.patch.object(moving, "check_limits", lambda stopped, *_: os.kill(stopped.pid, signal.SIGUSR1)):
            self.attach()
        self.assertEqual("[1]", self.ask("got"))
        self.assertEqual("True", self.ask("check()"))


class RestartableSequences(MovingTest):
    # Such a sequence that does not end: a thread leaves it when the kernel aborts it, and begins it again.
    ENDLESS = """
import struct
code = libc.mmap(None, 4096, 7, 0x22, -1, 0)
area = ctypes.c_ssize_t.in_dll(libc, "__rseq_offset").value + 8
# mov rax, fs:0; mov rcx, descriptor; mov [rax + area], rcx; jmp itself
start = bytes.fromhex("64488b042500000000 48b9") + struct.pack("<Q", code + 128) + b"\\x48\\x89\\x88" + struct.pack("<i", area)
abort = struct.pack("<I", 0x53053053) + b"\\xeb" + struct.pack("<b", -(len(start) + 2 + 4 + 2))
ctypes.memmove(code, start + b"\\xeb\\xfe" + abort, len(start) + 2 + len(abort))
ctypes.memmove(code + 128, struct.pack("<IIQQQ", 0, 0, code + len(start), 2, code + len(start) + 6), 32)
inside, aborted = code + len(start), code + len(start) + 6
"""

    def setUp(self) -> None:
        super().setUp()
        self.start()
        if not self.rseq():
            self.skipTest("the C library or the kernel has none")
        self.end()

    def rseq(self) -> tracing.Rseq | None:
        with tracing.Stopped(self.program.pid):
            return tracing.Rseq.of(self.program.pid)

    def test_the_area_is_let_alone_meanwhile(self) -> None:
        self.start()
        before, meanwhile, real = self.rseq(), [], moving.Mover.move

        def move(self: moving.Mover, area: moving.Area) -> None:
            meanwhile.append(tracing.Rseq.of(self.calls.tid))
            real(self, area)

        for way in (self.attach, self.detach):
            with mock.patch.object(moving.Mover, "move", move):
                way()
            self.assertEqual({None}, set(meanwhile))
            self.assertEqual(before, self.rseq())
            # Which the kernel sets when it goes on.
            self.assertEqual("True", self.ask("libc.sched_getcpu() in os.sched_getaffinity(0)"))

    def test_a_sequence_is_aborted(self) -> None:
        self.start(self.ENDLESS)
        inside, aborted = int(self.ask("inside")), int(self.ask("aborted"))
        self.send("ctypes.CFUNCTYPE(None)(code)()")
        time.sleep(0.3)
        found: list[int] = []
        while inside not in found:
            with tracing.Stopped(self.program.pid) as stopped:
                found.append(stopped.threads[self.program.pid].rip)
                with tracing.SystemCalls(stopped):
                    pass
                after = tracing.Registers()
                tracing.ptrace(tracing.GETREGS, self.program.pid, data=after)
                self.assertEqual(aborted if found[-1] == inside else found[-1], after.rip)
        self.detach()


class Refusals(MovingTest):
    """Nothing changes."""

    def test_a_seccomp_filter(self) -> None:
        self.start("""
rule = (ctypes.c_uint64 * 1)(0x7fff000000000006)
class Filter(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("rules", ctypes.c_void_p)]
libc.prctl(38, 1, 0, 0, 0)
assert libc.prctl(22, 2, ctypes.byref(Filter(1, ctypes.addressof(rule))), 0, 0) == 0
""")
        self.assert_refused("seccomp")

    def test_one_that_is_traced(self) -> None:
        self.start()
        tracer = subprocess.Popen([sys.executable, "-c", "import sys, time\nfrom anon_rmap_command import tracing\n"
                                   f"tracing.ptrace(tracing.SEIZE, {self.program.pid})\nprint(1, flush=True)\ntime.sleep(1000)"],
                                  cwd=HERE, stdout=subprocess.PIPE, text=True)
        assert tracer.stdout
        tracer.stdout.readline()
        before = self.maps()
        with self.assertRaisesRegex(Failure, f"is traced by .*{tracer.pid}"):
            self.attach()
        tracer.kill()
        tracer.communicate()
        self.assertEqual(before, self.maps())
        self.attach()

    def test_memory_that_is_shared_with_another_process(self) -> None:
        # CLONE_VM alone, on a stack of its own.
        self.start("""
stack = region(16)
body = libc.getpid
libc.clone.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p]
other = libc.clone(ctypes.cast(libc.sleep, ctypes.c_void_p), stack + 15 * 4096, 0x100 | 17, 1000)
assert other > 0
""")
        try:
            self.assert_refused("shares its memory with")
        finally:
            os.kill(int(self.ask("other")), signal.SIGKILL)

    def test_userfaultfd(self) -> None:
        self.start("""
import fcntl, struct
place = region(8)
# With UFFD_USER_MODE_ONLY.
fault = libc.syscall(323, 1)
if fault >= 0:
    fcntl.ioctl(fault, 0xc018aa3f, bytearray(struct.pack("<QQQ", 0xaa, 0, 0)))
    fcntl.ioctl(fault, 0xc020aa00, bytearray(struct.pack("<QQQQ", place, 8 * 4096, 1, 0)))
""", "print(fault, flush=True)")
        if int(self.first) < 0:
            self.skipTest("there is no userfaultfd here")
        self.assert_refused("has a userfaultfd")

    def test_io_uring(self) -> None:
        self.start("ring = libc.syscall(425, 4, ctypes.create_string_buffer(120))", "print(ring, flush=True)")
        if int(self.first) < 0:
            self.skipTest("there is no io_uring here")
        self.assert_refused("uses io_uring")

    def test_too_few_addresses(self) -> None:
        self.start("import resource\nsize = int(open('/proc/self/statm').read().split()[0]) * 4096\n"
                   "resource.setrlimit(resource.RLIMIT_AS, (size + 65536, -1))")
        self.assert_refused("no room for")

    def test_a_device_that_can_not_be_opened(self) -> None:
        self.start()
        self.file = moving.Kind("/nonexistent", "/nonexistent")
        before = self.maps()
        with self.assertRaisesRegex(Failure, "/nonexistent is not there"):
            self.attach()
        self.assertEqual(before, self.maps())
        self.assertEqual("True", self.ask("check()"))

    def test_who_has_ended_and_who_never_was(self) -> None:
        self.start()
        self.program.kill()
        time.sleep(0.3)
        with self.assertRaisesRegex(Failure, "waits for its parent"):
            self.attach()
        self.program.wait()
        with self.assertRaisesRegex(Failure, "there is no process"):
            self.attach()

    def test_itself(self) -> None:
        with self.assertRaisesRegex(Failure, "move itself"):
            moving.run_move(os.getpid(), moving.ANONYMOUS_KIND, self.file, False)


class HalfDone(MovingTest):
    def test_an_error_leaves_what_was_there(self) -> None:
        self.start()
        for number, failing in ((moving.MREMAP, 3), (moving.PROCESS_VM_READV, 2), (tracing.MMAP, 4)):
            calls, real = [], tracing.SystemCalls.call

            def call(self: tracing.SystemCalls, asked: int, *arguments: int) -> int:
                calls.append(asked)
                if asked == number and calls.count(number) == failing:
                    raise OSError(12, "Cannot allocate memory")
                return real(self, asked, *arguments)

            with mock.patch.object(tracing.SystemCalls, "call", call), self.assertRaisesRegex(Failure, "no memory left"):
                self.attach()
            self.assertEqual("True", self.ask("check()"))
            self.detach()

    def test_a_mremap_that_has_unmapped_what_was_there(self) -> None:
        self.start("place = region(64)\nfill(place, 64)")
        real, failed = tracing.SystemCalls.call, []

        def call(self: tracing.SystemCalls, asked: int, *arguments: int) -> int:
            if asked == moving.MREMAP and not failed:
                failed.append(real(self, tracing.MUNMAP, arguments[4], arguments[1]))
                raise OSError(12, "Cannot allocate memory")
            return real(self, asked, *arguments)

        for _ in range(3):
            failed.clear()
            with mock.patch.object(tracing.SystemCalls, "call", call), \
                    self.assertRaisesRegex(Failure, "all content is where it was"):
                self.attach()
            self.assertEqual("True", self.ask("check()"))
        self.attach()
        self.assertEqual("64", self.ask("ctypes.string_at(place + 63 * 4096, 1)[0]"))

    def test_killed_in_the_middle(self) -> None:
        """But not within the calls that map and unmap the page of the calls, where the program would not go on."""
        code = f"""
import os, signal, sys
from anon_rmap_command import moving, tracing
real, count = tracing.ptrace, 0
def ptrace(*arguments, **named):
    global count
    real(*arguments, **named)
    count += 1
    if count == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
enter = tracing.SystemCalls.prepare
def prepare(self):
    tracing.ptrace = ptrace
    enter(self)
tracing.SystemCalls.prepare = prepare
file = moving.Kind({self.file.path!r}, {self.file.name!r})
moving.run_move(int(sys.argv[1]), moving.ANONYMOUS_KIND, file, False)
"""
        self.start("threads = [threading.Thread(target=time.sleep, args=(1000,), daemon=True) for _ in range(2)]\n"
                   "for thread in threads:\n    thread.start()")
        def registered() -> list[tracing.Rseq | None]:
            with tracing.Stopped(self.program.pid) as stopped:
                return [tracing.Rseq.of(tid) for tid in sorted(stopped.threads)]

        before = registered()
        for count in (*range(1, 16), *range(16, 60, 7)):
            with self.subTest(count=count):
                tool = subprocess.run([sys.executable, "-c", code, str(self.program.pid), str(count)], cwd=HERE, timeout=60)
                self.assertEqual(-signal.SIGKILL, tool.returncode)
                self.assertEqual("True", self.ask("check()"))
                self.assertEqual(before, registered())
                self.detach()
                self.assertEqual("True", self.ask("check()"))


class Parts(unittest.TestCase):
    SMAPS = """\
7f2932000000-7f2932200000 rw-p 00000000 00:00 0                          [anon:buffers of x]
Size:               2048 kB
ProtectionKey:         1
VmFlags: rd wr mr mw me ac sd
7f2932200000-7f2932201000 ---p 00000000 00:00 0 
Size:                  4 kB
VmFlags: mr mw me sd
"""

    def test_smaps(self) -> None:
        first, second = moving.parse_smaps(self.SMAPS)
        self.assertEqual((0x7F2932000000, 2 << 20, "[anon:buffers of x]", 1), (first.start, first.size, first.name, first.key))
        self.assertIn("sd", first.flags)
        self.assertEqual(("---p", 0, ""), (second.permissions, second.protection, second.name))
        self.assertEqual("it has a protection key", moving.reason_to_stay(first))
        self.assertTrue(moving.is_guard(second))

    def test_an_area_without_holes(self) -> None:
        area = moving.parse_smaps(self.SMAPS)[0].part(10, 20)
        for holes, parts in (([], [(10, 20)]), ([(0, 12), (15, 16)], [(12, 15), (16, 20)]), ([(18, 30)], [(10, 18)]),
                             ([(0, 30)], []), ([(12, 15), (13, 14)], [(10, 12), (15, 20)])):
            self.assertEqual(parts, [(part.start, part.end) for part in moving.without(area, holes)])

    def test_an_interrupted_system_call_is_made_again(self) -> None:
        for result, number, rip, rax in ((-512, 7, 98, 7), (-516, 7, 98, 219), (-4, 7, 100, -4), (5, 7, 100, 5),
                                         (-512, -1, 100, -512)):
            registers = tracing.Registers(rax=result & (1 << 64) - 1, orig_rax=number & (1 << 64) - 1, rip=100).restarted()
            self.assertEqual((rip, rax), (registers.rip, registers.result()))

    def test_arguments(self) -> None:
        args = parser.parser().parse_args(["attach", "138", "--dry-run", "--json"])
        self.assertEqual((138, True, True), (args.pid, args.dry_run, args.json))


if __name__ == "__main__":
    unittest.main()
