# SPDX-License-Identifier: GPL-2.0-only
"""Processes that are stopped by ptrace, and system calls that are made in them (x86-64)."""

import ctypes
import errno
import os
import signal
import struct
import time
from dataclasses import dataclass
from types import TracebackType

from . import Failure
from .processes import Vma, main_thread, maps

# What ptrace() is asked for.
CONT, GETREGS, SETREGS, DETACH, SYSCALL = 7, 12, 13, 17, 24
GETREGSET, SEIZE, INTERRUPT, GETSIGMASK, SETSIGMASK = 0x4204, 0x4206, 0x4207, 0x420A, 0x420B
GET_RSEQ_CONFIGURATION = 0x420F
TRACESYSGOOD, EVENT_STOP, NT_PRSTATUS, NT_X86_XSTATE, WALL = 1, 128, 1, 0x202, 0x40000000
SYSCALL_STOP = signal.SIGTRAP | 0x80
# Numbers of system calls.
MMAP, MPROTECT, MUNMAP, RT_SIGRETURN, RESTART_SYSCALL, RSEQ = 9, 10, 11, 15, 219, 334
# What rseq() takes, and what its area says: that the kernel may extend the time slices of the thread.
RSEQ_UNREGISTER, RSEQ_EXTENDS, RSEQ_IS_EXTENDED = 1, 2, 32
# The kernel's own errnos of a system call that is to be made again; the last by restart_syscall().
RESTARTS, RESTART_BLOCK = (-512, -513, -514), -516
# How long a thread may need to stop, in seconds.
PATIENCE = 10.0

libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.restype = ctypes.c_long
libc.ptrace.argtypes = [ctypes.c_ulong, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]


class Registers(ctypes.Structure):
    """struct user_regs_struct."""

    _fields_ = [(name, ctypes.c_ulong) for name in (
        "r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax rip cs eflags rsp ss fs_base gs_base "
        "ds es fs gs").split()]

    def copy(self) -> "Registers":
        return Registers.from_buffer_copy(self)

    def result(self) -> int:
        return ctypes.c_long(self.rax).value

    def in_system_call(self) -> bool:
        return ctypes.c_long(self.orig_rax).value >= 0

    def restarted(self) -> "Registers":
        """Those with which an interrupted system call is made again, as the kernel sets them after a stop."""
        registers = self.copy()
        if self.in_system_call() and self.result() in (*RESTARTS, RESTART_BLOCK):
            registers.rax = RESTART_SYSCALL if self.result() == RESTART_BLOCK else self.orig_rax
            registers.rip -= 2
        registers.orig_rax = ctypes.c_ulong(-1).value
        return registers


class IoVec(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]


def ptrace(request: int, tid: int, address: int = 0, data: object = None) -> None:
    argument = ctypes.byref(data) if isinstance(data, (ctypes.Structure, ctypes.Array, ctypes._SimpleCData)) else data
    if libc.ptrace(request, tid, address, argument) == -1:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def wait(tid: int, seconds: float = PATIENCE) -> int:
    """The status of a thread that stops; its end, or that it goes on, is a failure."""
    deadline = time.monotonic() + seconds
    pause = 0.0
    while True:
        try:
            found, status = os.waitpid(tid, os.WNOHANG | WALL)
        except ChildProcessError:
            raise ended(tid) from None
        if found and os.WIFSTOPPED(status):
            return status
        if found:
            raise ended(tid)
        if time.monotonic() > deadline:
            raise Failure(f"thread {tid} does not stop, as it waits in the kernel: try again later")
        time.sleep(pause)
        pause = min(pause + 0.00001, 0.01)


def ended(tid: int) -> Failure:
    return Failure(f"process {main_thread(tid)} has ended meanwhile: start it again")


class Stopped:
    """A process of which all threads are stopped, until the context ends.

    Should this process be killed, the kernel lets them go on.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.threads: dict[int, Registers] = {}
        self.seized: set[int] = set()
        self.began = time.monotonic()
        self.seconds = 0.0

    def __enter__(self) -> "Stopped":
        # Ctrl-C comes when the process goes on.
        self.mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
        self.began = time.monotonic()
        try:
            self.stop_all()
        except BaseException:
            self.release()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.release()

    @property
    def alive(self) -> int:
        """A thread that has not ended, as the first one can have: by it /proc knows what the process has."""
        return next(iter(self.threads))

    def stop_all(self) -> None:
        """A thread that still runs can make another; so this ends when none is new."""
        while new := [tid for tid in self.living_threads() if tid not in self.seized]:
            for tid in new:
                self.seize(tid)
            for tid in new:
                if tid in self.seized:
                    self.wait_until_stopped(tid)
        if not self.threads:
            raise Failure(f"there is no process {self.pid}, or it has ended")

    def living_threads(self) -> list[int]:
        living = []
        try:
            tids = os.listdir(f"/proc/{self.pid}/task")
        except OSError:
            return []
        for tid in map(int, tids):
            try:
                with open(f"/proc/{self.pid}/task/{tid}/stat", "rb") as file:
                    state = file.read().rpartition(b")")[2].split()[0]
            except OSError:
                continue
            if state not in (b"Z", b"X"):
                living.append(tid)
        return living

    def seize(self, tid: int) -> None:
        try:
            ptrace(SEIZE, tid, data=TRACESYSGOOD)
            self.seized.add(tid)
            ptrace(INTERRUPT, tid)
        except OSError as error:
            # It has ended: then it is not listed again.
            if error.errno != errno.ESRCH:
                raise Failure(f"thread {tid} of process {self.pid} can't be traced: run this as root, outside of what traces "
                              "it; a thread of the kernel's own can't be at all") from None

    def wait_until_stopped(self, tid: int) -> None:
        try:
            while (status := wait(tid)) >> 16 != EVENT_STOP:
                # A signal comes first.
                ptrace(CONT, tid, data=0 if status >> 16 else os.WSTOPSIG(status))
            registers = (ctypes.c_char * 512)()
            vector = IoVec(ctypes.addressof(registers), len(registers))
            ptrace(GETREGSET, tid, NT_PRSTATUS, vector)
        except (Failure, OSError):
            if tid in self.living_threads():
                raise
            self.seized.discard(tid)
            return
        if vector.length != ctypes.sizeof(Registers):
            raise Failure(f"process {self.pid} is a 32-bit program: only those of 64 bits can be moved")
        self.threads[tid] = Registers.from_buffer_copy(registers)

    def release(self) -> None:
        for tid in self.seized:
            try:
                ptrace(DETACH, tid)
            except OSError:
                # It was killed, or could not be stopped: then it is released when this process ends.
                pass
        self.seconds = time.monotonic() - self.began
        signal.pthread_sigmask(signal.SIG_SETMASK, self.mask)


@dataclass(frozen=True)
class Rseq:
    """What a thread has registered for restartable sequences: an area to which the kernel writes where the thread runs.

    With an area of more than 32 bytes, the kernel kills the thread if what it wrote last is not what it finds there.
    """

    address: int
    size: int
    signature: int

    @classmethod
    def of(cls, tid: int) -> "Rseq | None":
        configuration = (ctypes.c_char * 24)()
        try:
            ptrace(GET_RSEQ_CONFIGURATION, tid, len(configuration), configuration)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            # The kernel has none.
            return None
        address, size, signature = struct.unpack_from("<QII", configuration.raw)
        return cls(address, size, signature) if address else None

    def aborted(self, registers: Registers, memory: int) -> Registers:
        """Those with which a thread goes on that was stopped in a sequence, as the kernel sets them then."""
        try:
            descriptor, = struct.unpack("<Q", os.pread(memory, 8, self.address + 8))
            start, length, abort = struct.unpack("<8x3Q", os.pread(memory, 32, descriptor)) if descriptor else (0, 0, 0)
        except (OSError, OverflowError, struct.error):
            # What the kernel would kill it for.
            return registers
        if not start <= registers.rip < start + length:
            return registers
        aborted = registers.copy()
        aborted.rip = abort
        return aborted

    def flags(self, memory: int) -> int:
        """With which it is registered again."""
        flags, = struct.unpack("<I", os.pread(memory, 4, self.address + 16))
        return RSEQ_EXTENDS if self.size > 32 and flags & RSEQ_IS_EXTENDED else 0


# Where in the memory of SystemCalls things are.
SIGNAL_FRAME, FLOATING_POINT, DATA, DATA_SIZE = 0x100, 0x1000, 0x6000, 0x8000
CALLS_SIZE = DATA + DATA_SIZE


class SystemCalls:
    """System calls in a stopped process, by one of its threads, until the context ends.

    The thread makes them in a page of its own. What follows there is a return from a signal, to what it was at: should
    this process be killed, the thread goes on with that, but not while that page is being mapped or unmapped.

    Meanwhile it has no area for restartable sequences. The kernel would write to it in what has been copied already, when
    the thread gets to another processor, and would not find that again in the copy.
    """

    def __init__(self, stopped: Stopped) -> None:
        self.stopped = stopped
        # One that waits in the kernel is in no restartable sequence.
        self.tid = max(stopped.threads, key=lambda tid: (stopped.threads[tid].in_system_call(), -tid))
        self.before = stopped.threads[self.tid]
        self.address = 0
        # How its area is registered again: what rseq() takes.
        self.registration: tuple[int, int, int, int] | None = None
        self.is_unregistered = False

    def __enter__(self) -> "SystemCalls":
        self.memory = os.open(f"/proc/{self.tid}/mem", os.O_RDWR)
        try:
            if rseq := Rseq.of(self.tid):
                self.before = rseq.aborted(self.before, self.memory)
                self.registration = rseq.address, rseq.size, rseq.flags(self.memory), rseq.signature
            self.instruction = find_system_call(self.tid, self.memory)
            self.mask = ctypes.c_uint64()
            ptrace(GETSIGMASK, self.tid, 8, self.mask)
            ptrace(SETSIGMASK, self.tid, 8, ctypes.c_uint64(-1))
            try:
                self.address = self.call_at(self.instruction, MMAP, 0, CALLS_SIZE, 5, 0x22, -1, 0)
                self.prepare()
                if rseq:
                    self.call(RSEQ, rseq.address, rseq.size, RSEQ_UNREGISTER, rseq.signature)
                    self.is_unregistered = True
            except BaseException:
                self.leave()
                raise
        except BaseException:
            os.close(self.memory)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        try:
            self.leave()
        finally:
            os.close(self.memory)

    def prepare(self) -> None:
        """Writes the page: a system call, then rseq(), if it is needed, and the return to where the thread was."""
        frame, state = self.address + SIGNAL_FRAME, self.address + FLOATING_POINT
        code = b"\x0f\x05"
        if self.registration:
            # To rdi, esi, edx, r10d, eax.
            code += struct.pack("<2sQBIBI2sIBI2s", b"\x48\xbf", self.registration[0], 0xBE, self.registration[1], 0xBA,
                                self.registration[2], b"\x41\xba", self.registration[3], 0xB8, RSEQ, b"\x0f\x05")
        code += struct.pack("<2sQBI2s", b"\x48\xbc", frame, 0xB8, RT_SIGRETURN, b"\x0f\x05")
        self.write(self.address, code)
        self.write(frame, signal_frame(self.before.restarted(), state, self.mask.value))
        self.write(state, self.floating_point())

    def floating_point(self) -> bytes:
        """The registers of the floating point unit, as they are in the frame of a signal."""
        area = (ctypes.c_char * (DATA - FLOATING_POINT - 8))()
        vector = IoVec(ctypes.addressof(area), len(area))
        ptrace(GETREGSET, self.tid, NT_X86_XSTATE, vector)
        state = bytearray(area.raw[:vector.length])
        features, = struct.unpack_from("<Q", state, 464)
        struct.pack_into("<IIQI", state, 464, 0x46505853, len(state) + 4, features, len(state))
        return bytes(state) + struct.pack("<I", 0x46505845)

    def write(self, address: int, data: bytes) -> None:
        if os.pwrite(self.memory, data, address) != len(data):
            raise Failure("the process's own memory can't be written: try again")

    def read(self, address: int, size: int) -> bytes:
        return os.pread(self.memory, size, address)

    def put(self, data: bytes) -> int:
        """Puts what a system call reads where it finds it."""
        self.write(self.address + DATA, data)
        return self.address + DATA

    def call(self, number: int, *arguments: int) -> int:
        """Makes a system call; its error is an OSError."""
        return self.call_at(self.address, number, *arguments)

    def call_at(self, instruction: int, number: int, *arguments: int) -> int:
        registers = self.before.copy()
        registers.rip, registers.rax, registers.orig_rax = instruction, number, ctypes.c_ulong(-1).value
        for name, value in zip(("rdi", "rsi", "rdx", "r10", "r8", "r9"), (*arguments, 0, 0, 0, 0, 0, 0)):
            setattr(registers, name, ctypes.c_ulong(value).value)
        ptrace(SETREGS, self.tid, data=registers)
        for _ in ("entry", "exit"):
            self.resume(SYSCALL)
        ptrace(GETREGS, self.tid, data=registers)
        if instruction != self.address:
            # What follows there is not for this.
            ptrace(SETREGS, self.tid, data=self.before.restarted())
        if -4096 < registers.result() < 0:
            raise OSError(-registers.result(), os.strerror(-registers.result()))
        return registers.rax

    def resume(self, request: int) -> None:
        """Lets the thread go on, until the next stop that was asked for."""
        while True:
            ptrace(request, self.tid)
            # Copying much takes long.
            status = wait(self.tid, 60.0)
            if (os.WSTOPSIG(status) == SYSCALL_STOP) if request == SYSCALL else (status >> 16 == EVENT_STOP):
                return

    def leave(self) -> None:
        """Unmaps the page, and sets the thread back to where it was, as stopped as it was."""
        if self.is_unregistered and self.registration:
            self.call(RSEQ, *self.registration)
            self.is_unregistered = False
        if self.address:
            self.call_at(self.instruction, MUNMAP, self.address, CALLS_SIZE)
        ptrace(INTERRUPT, self.tid)
        # Before it gets anywhere, it stops where signals are looked at; there the kernel restarts system calls.
        self.resume(CONT)
        ptrace(SETREGS, self.tid, data=self.before)
        ptrace(SETSIGMASK, self.tid, 8, self.mask)


def signal_frame(registers: Registers, state: int, mask: int) -> bytes:
    """struct ucontext, with which rt_sigreturn() sets all registers."""
    # Flags: with FP state, and with ss. A stack for signals that is refused leaves the one that is set.
    head = struct.pack("<QQQQQ", 7, 0, 0, 0x7, 0)
    names = "r8 r9 r10 r11 r12 r13 r14 r15 rdi rsi rbp rbx rdx rax rcx rsp rip eflags".split()
    general = struct.pack("<18Q", *(getattr(registers, name) for name in names))
    segments = struct.pack("<4H", registers.cs, registers.gs, registers.fs, registers.ss)
    return head + general + segments + struct.pack("<5Q", 0, 0, 0, 0, state) + bytes(64) + struct.pack("<Q", mask)


def find_system_call(pid: int, memory: int) -> int:
    """The address of a `syscall` instruction: in the vDSO, or where else code is."""
    def order(vma: Vma) -> bool:
        return vma.name != "[vdso]"

    for vma in sorted((v for v in maps(pid) if "x" in v.permissions and v.start < 1 << 47), key=order):
        for start in range(vma.start, vma.end, 1 << 20):
            try:
                found = os.pread(memory, min(1 << 20, vma.end - start), start).find(b"\x0f\x05")
            except OSError:
                break
            if found >= 0:
                return start + found
    raise Failure(f"process {pid} has no system call instruction: there is nothing by which it could be moved")
