#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# usage: selftests/programs/under-lockdown.sh
#
# anon_rmap, the command, and drills of a process on its own memory, when the kernel is locked down. Only a reboot undoes that: by its name this test comes last.
# shellcheck source-path=SCRIPTDIR disable=SC2317 # result calls the functions
. "$(dirname "$(realpath "$0")")/ktap.sh"

plan 5 anon_rmap python3
[ -d /sys/kernel/security/integrity ] || mount -t securityfs securityfs /sys/kernel/security
[ -e /sys/kernel/security/lockdown ] || {
	printf 'TAP version 13\n1..0 # SKIP the kernel has no lockdown\n'
	exit 4
}

locked_down() {
	"$@" >"$work/out" 2>"$work/err"
	status=$?
	cat "$work/out" "$work/err"
	[ "$status" = 1 ] && [ ! -s "$work/out" ] && [ "$(wc -l <"$work/err")" = 1 ] &&
		grep -q '^anon_rmap: the kernel is locked down' "$work/err"
}

# Before, it is about the process.
is_asked_for() {
	anon_rmap poison 2000000000 0x1000 2>"$work/err"
	cat "$work/err"
	grep -q 'there is no process' "$work/err"
}

# Its own page fails, so that system calls can't read it, is listed, and comes back: uapi/anon_rmap.h has the numbers.
fails_itself() {
	python3 - <<'PROGRAM'
import ctypes, fcntl, mmap, os, struct

device = os.open('/dev/anon_rmap', os.O_RDWR)
memory = mmap.mmap(device, mmap.PAGESIZE, mmap.MAP_PRIVATE)
memory[0] = 7
address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
own = os.open('/proc/self/mem', os.O_RDONLY)
page = struct.pack('QQII', address, 1, 0, 0)
assert fcntl.ioctl(device, 0x4018b900, page) is not None
try:
    os.pread(own, 1, address)
    raise SystemExit('it can be read')
except OSError:
    pass
found = ctypes.create_string_buffer(16)
fcntl.ioctl(device, 0xc020b902, struct.pack('QQQQ', address, 1, ctypes.addressof(found), 1))
assert struct.unpack('QII', found) == (address, 1, 0)
fcntl.ioctl(device, 0x4018b901, page)
assert os.pread(own, 1, address) == b'\7'
PROGRAM
}

result "before, a drill is" is_asked_for
echo integrity >/sys/kernel/security/lockdown
result "a drill is refused" locked_down anon_rmap poison 2000000000 0x1000
result "so is undoing" locked_down anon_rmap undo --pfn 1
result "a list is not" anon_rmap list
result "a process lets its own page fail, and has it back" fails_itself
finish
