#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# anon_rmap-run: what it serves, what it reports, and that a page of an unmodified program can fail.
# shellcheck source-path=SCRIPTDIR disable=SC2317 # result calls the functions
. "$(dirname "$0")/ktap.sh"

plan 12 python3

# maps_device FLAGS: whether a mapping that python makes with these flags is the device's.
maps_device() {
	anon_rmap-run --require python3 -c '
import mmap, sys
before = open("/proc/self/maps").read().count("[anon_rmap]")
memory = mmap.mmap(-1, 1 << 30, eval(sys.argv[1]), mmap.PROT_READ | mmap.PROT_WRITE)
sys.exit(open("/proc/self/maps").read().count("[anon_rmap]") != before + 1)' "$1"
}

# Not served: status 1, which is not that of a failure of python or of anon_rmap-run in another way.
maps_no_device() {
	maps_device "$1"
	[ $? = 1 ]
}

heap_is_served() {
	anon_rmap-run --require python3 -c '
import ctypes, sys
block = ctypes.CDLL(None).malloc
block.argtypes, block.restype = [ctypes.c_size_t], ctypes.c_void_p
def served(address):
    for line in open("/proc/self/maps"):
        start, end = (int(number, 16) for number in line.split()[0].split("-"))
        if start <= address < end:
            print(line)
            return "[anon_rmap]" in line
sys.exit(not all(served(block(size)) for size in (16, 5000, 1 << 20, 1 << 28)))'
}

children_are_served() {
	anon_rmap-run --require sh -c 'python3 -c "
import os, threading
os.system(\"grep -c anon_rmap] /proc/self/maps\")
child = os.fork()
if child:
    os.waitpid(child, 0)
else:
    threads = [threading.Thread(target=lambda: bytearray(1 << 24)) for _ in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    print(open(\"/proc/self/maps\").read().count(\"[anon_rmap]\") > 0)
"' >"$work/children" && cat "$work/children" && grep -qx True "$work/children" && grep -qx '[1-9][0-9]*' "$work/children"
}

reports() {
	anon_rmap-run --require python3 -c 'memory = bytearray(1 << 24)' 2>"$work/report"
	cat "$work/report"
	bytes=$(sed -n 's/^anon_rmap: python3.*: served [0-9]* mappings, \([0-9]*\) bytes.*/\1/p' "$work/report")
	[ "$bytes" -ge $((1 << 24)) ] && grep -Eq '^  [0-9a-f]+-[0-9a-f]+ [0-9]+ bytes' "$work/report"
}

status_is() {
	want=$1
	shift
	"$@"
	status=$?
	echo "status $status, expected $want"
	[ "$status" = "$want" ]
}

# A program that reads all of its memory again and again; a page of it fails.
dies_of_poison() {
	anon_rmap-run --require python3 -c '
memory = bytearray(b"x" * (1 << 26))
print("ready", flush=True)
while memory.count(b"x") == len(memory):
    pass' >"$work/ready" 2>/dev/null &
	runner=$!
	until grep -q ready "$work/ready"; do
		sleep 0.2
	done
	anon_rmap-run --list >"$work/list"
	cat "$work/list"
	# The largest range is, or has, the array; in its middle.
	sed -n 's/^  \([0-9a-f]*\)-\([0-9a-f]*\) \([0-9]*\) bytes.*/\3 \1/p' "$work/list" | sort -n | tail -n 1 >"$work/largest"
	read -r size start <"$work/largest"
	pid=$(sed -n 's/^\([0-9]*\): .*/\1/p' "$work/list" | tail -n 1)
	printf '%d 0x%x\n' "$pid" $((0x$start + size / 2)) >/sys/kernel/debug/anon_rmap/poison_addr || return 1
	wait "$runner"
	status=$?
	echo "status $status"
	[ "$status" = 135 ]
}

without_device() {
	unshare --mount sh -c 'mount -t tmpfs tmpfs /dev && mknod /dev/null c 1 3 && exec "$@"' without_device "$@"
}

without_device_says_so() {
	without_device anon_rmap-run sh -c 'exit 7' 2>"$work/message"
	[ $? = 7 ] && cat "$work/message" && grep -q 'load the module' "$work/message"
}

result "private anonymous memory is served" maps_device 'mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS'
result "shared memory is not, without --shared" maps_no_device 'mmap.MAP_SHARED | mmap.MAP_ANONYMOUS'
result "stacks are not" maps_no_device 'mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_STACK'
result "blocks of malloc are served, of each size" heap_is_served
result "threads, forked and executed programs are served" children_are_served
result "what was served is reported" reports
result "the status is the command's" status_is 7 anon_rmap-run --require sh -c 'exit 7'
result "a wrong option is refused" status_is 125 anon_rmap-run --wrong true
result "the program dies of SIGBUS when a page of its heap fails" dies_of_poison
result "without the device the program runs all the same, which is said" without_device_says_so
result "without the device --require fails" status_is 125 without_device anon_rmap-run --require true
result "nothing is left" nothing_left
finish
