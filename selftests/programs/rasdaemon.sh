#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# usage: selftests/programs/rasdaemon.sh
#
# What rasdaemon records of a machine check in memory of the device: what it records of one in anonymous memory.
# shellcheck source-path=SCRIPTDIR disable=SC2317 # result calls the functions
. "$(dirname "$(realpath "$0")")/ktap.sh"

database=/var/lib/rasdaemon/ras-mc_event.db

exec 3>&1
plan 7 rasdaemon python3
[ "$MONITOR" ] || {
	printf 'TAP version 13\n1..0 # SKIP needs the monitor of QEMU\n'
	exit 4
}

cat >"$work/fail.py" <<'END'
"""Has QEMU's monitor report a machine check in a page of the device, or of anonymous memory, and waits until it is handled; prints its frame."""
import ctypes, mmap, os, struct, sys, time

def entry(address):
    with open('/proc/self/pagemap', 'rb') as file:
        file.seek(address // mmap.PAGESIZE * 8)
        return struct.unpack('Q', file.read(8))[0]

def corrupted():
    with open('/proc/meminfo') as file:
        return next(int(line.split()[1]) for line in file if line.startswith('HardwareCorrupted:'))

if sys.argv[1] == 'device':
    memory = mmap.mmap(os.open('/dev/anon_rmap', os.O_RDWR), mmap.PAGESIZE, mmap.MAP_PRIVATE)
else:
    memory = mmap.mmap(-1, mmap.PAGESIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
memory[0] = 1
pfn = entry(ctypes.addressof(ctypes.c_char.from_buffer(memory))) & (1 << 55) - 1
before = corrupted()
# CPU, bank, IA32_MC1_STATUS, IA32_MCG_STATUS, IA32_MC1_ADDR, IA32_MC1_MISC: found by the scrubber, nobody has used the data.
os.write(3, f'monitor: mce 1 1 0xbd000000000000c0 0xf {pfn << 12:#x} 0x8c\n'.encode())
for _ in range(300):
    if corrupted() == before + 4:
        break
    time.sleep(0.1)
else:
    sys.exit(f'HardwareCorrupted {before} kB, {corrupted()} kB now')
print(hex(pfn))
END

# query SQL: what the database of rasdaemon says.
query() {
	python3 -c 'import sqlite3, sys
for row in sqlite3.connect(sys.argv[1]).execute(sys.argv[2]):
    print(*row)' "$database" "$1"
}

# It waits half a minute for each event that the kernel does not have.
is_ready() {
	for _ in $(seq 1500); do
		grep -q 'Listening to events\|Recording' "$work/rasdaemon" && return
		sleep 0.2
	done
	cat "$work/rasdaemon"
	return 1
}

# Recorded a moment later.
has_lines() {
	for _ in $(seq 50); do
		[ "$(query "$2" | wc -l)" -ge "$1" ] && break
		sleep 0.2
	done
	query "$2"
	[ "$(query "$2" | wc -l)" = "$1" ]
}

fails() {
	# The bench reads what is printed.
	pfn=$(python3 "$work/fail.py" "$1") && echo "$pfn" >"$work/$1"
}

same_records() {
	for kind in anonymous device; do
		address=$(printf '%d' "$(($(cat "$work/$kind") << 12))")
		query "select mcgstatus, status, misc, bank, error_msg, mcastatus_msg from mce_record where addr = $address" >"$work/$kind.records"
	done
	cat "$work/anonymous.records"
	[ -s "$work/anonymous.records" ] && diff "$work/anonymous.records" "$work/device.records"
}

recovered_once() {
	for kind in anonymous device; do
		query "select action_result from memory_failure_event where pfn = '$(cat "$work/$kind")'" | tee "$work/events"
		[ "$(cat "$work/events")" = Recovered ] || { query 'select * from memory_failure_event'; return 1; }
	done
}

rasdaemon --foreground --record >"$work/rasdaemon" 2>&1 &
daemon=$!
result "rasdaemon listens" is_ready
result "a machine check in anonymous memory is handled" fails anonymous
result "it is recorded" has_lines 1 'select id, addr from mce_record'
result "a machine check in memory of the device is handled" fails device
result "it is recorded" has_lines 2 'select id, addr from mce_record'
result "the records are the same" same_records
result "the kernel says of each once that it has recovered" recovered_once
note <"$work/rasdaemon"
kill "$daemon"
finish
