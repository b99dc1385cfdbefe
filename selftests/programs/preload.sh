#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# usage: selftests/programs/preload.sh
#
# anon_rmap-run: what it serves, what it reports, and that a page of an unmodified program can fail.
# shellcheck source-path=SCRIPTDIR disable=SC2317 # result calls the functions
. "$(dirname "$(realpath "$0")")/ktap.sh"

plan 26 python3

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
	anon_rmap-run --list "$runner" >"$work/list"
	cat "$work/list"
	# The largest range is, or has, the array; in its middle.
	sed -n 's/^  \([0-9a-f]*\)-\([0-9a-f]*\) \([0-9]*\) bytes.*/\3 \1/p' "$work/list" | sort -n | tail -n 1 >"$work/largest"
	read -r size start <"$work/largest"
	printf '%d 0x%x\n' "$runner" $((0x$start + size / 2)) >/sys/kernel/debug/anon_rmap/poison_addr || return 1
	wait "$runner"
	status=$?
	echo "status $status"
	[ "$status" = 135 ]
}

# Nothing of it goes on when the job is killed, and no file is left.
killed_as_a_job() {
	find /tmp -path "$work" -prune -o -print >"$work/before"
	anon_rmap-run --require sleep 1000 2>/dev/null &
	until pgrep -x sleep >"$work/sleeping"; do
		sleep 0.2
	done
	kill $!
	wait $!
	status=$?
	find /tmp -path "$work" -prune -o -print >"$work/after"
	echo "status $status"
	[ "$status" = 143 ] && ! pgrep -x sleep && diff "$work/before" "$work/after"
}

# refused TEXT ARGUMENT…: anon_rmap-run fails with a sentence that has TEXT, before or after it runs what is asked for.
refused() {
	sentence=$1
	shift
	anon_rmap-run --require "$@" >"$work/message" 2>&1
	status=$?
	cat "$work/message"
	echo "status $status"
	[ "$status" = 125 ] && grep -q "^anon_rmap-run: .*$sentence" "$work/message"
}

# as_user TEXT PROGRAM: that it is refused to one who is not root.
as_user() (
	chmod 666 /dev/anon_rmap
	chmod 755 "$work"
	user() {
		setpriv --reuid=65534 --regid=65534 --clear-groups "$(command -v anon_rmap-run)" "$@"
	}
	user --require true && {
		user --require "$2" >"$work/message" 2>&1
		status=$?
		cat "$work/message"
		[ "$status" = 125 ] && grep -q "^anon_rmap-run: .*$1" "$work/message"
	}
	status=$?
	chmod 600 /dev/anon_rmap
	return "$status"
)

# program NAME: a copy of a dynamic program.
program() {
	cp /usr/bin/true "$work/$1"
}

script() {
	printf '#!%s\n' "$2" >"$work/$1"
	chmod +x "$work/$1"
}

# Without --require it runs.
runs_unserved() {
	anon_rmap-run ldconfig --version 2>"$work/message" && cat "$work/message" && grep -q 'running without it' "$work/message"
}

# From a directory with a space in its name, by a link to it.
runs_from_elsewhere() {
	mkdir "$work/a directory" &&
		cp "$(command -v anon_rmap-run)" "$(dirname "$(command -v anon_rmap-run)")/libanon_rmap.so" "$work/a directory/" &&
		ln -s "a directory/anon_rmap-run" "$work/link" &&
		(cd / && "$work/link" --require python3 -c 'import sys; sys.exit("[anon_rmap]" not in open("/proc/self/maps").read())')
}

# It closes its standard error before it exits.
sort_reports() {
	anon_rmap-run --require sort /etc/passwd 2>"$work/report" >/dev/null
	cat "$work/report"
	grep -q '^anon_rmap: sort.*: served [1-9]' "$work/report"
}

captured_error_is_the_programs() {
	anon_rmap-run --require python3 -c '
import subprocess, sys
error = subprocess.run(["sort", "/dev/null"], stderr=subprocess.PIPE).stderr
print(error)
sys.exit(bool(error))' 2>"$work/report"
}

# What holds a pipe open that is none of its own would be waited for.
daemon_keeps_no_pipe() {
	within 20 sh -c 'anon_rmap-run --require python3 -c "
import os, time
if os.fork():
    os._exit(0)
null = os.open(os.devnull, os.O_RDWR)
for descriptor in 0, 1, 2:
    os.dup2(null, descriptor)
time.sleep(60)" 2>&1 | cat'
	status=$?
	pkill -f time.sleep
	[ "$status" = 0 ]
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
result "a wrong option is refused" status_is 2 anon_rmap-run --wrong true
result "a job that is killed leaves nothing" killed_as_a_job
program setuid && chown 65534 "$work/setuid" && chmod u+s "$work/setuid"
program setgid && chgrp 65534 "$work/setgid" && chmod g+s "$work/setgid"
program capable && python3 -c '
import os, struct, sys
# Version 2, effective; CAP_NET_RAW is permitted.
os.setxattr(sys.argv[1], "security.capability", struct.pack("<5I", 0x02000001, 1 << 13, 0, 0, 0))' "$work/capable"
script static "$(command -v ldconfig)"
script nested "$work/static"
script by_env '/usr/bin/env ldconfig'
result "a program that is linked statically is refused" refused statically ldconfig --version
result "a script of such a program is" refused statically "$work/static"
result "a script of such a script is" refused statically "$work/nested"
result "a script that env finds its program for is" refused statically "$work/by_env"
result "a setuid program is" refused setuid "$work/setuid"
result "a setgid program is" refused setgid "$work/setgid"
result "a program with capabilities is" as_user capabilities "$work/capable"
result "one that was served nothing has failed" refused 'true was served nothing' --malloc=none true
result "without --require what can't be served runs all the same, which is said" runs_unserved
result "it runs from a directory with a space in its name, and by a link" runs_from_elsewhere
result "a program that closes its standard error reports" sort_reports
result "the standard error of what it starts is not written to, if that is another" captured_error_is_the_programs
result "a daemon keeps no pipe open" daemon_keeps_no_pipe
result "the program dies of SIGBUS when a page of its heap fails" dies_of_poison
result "without the device the program runs all the same, which is said" without_device_says_so
result "without the device --require fails" status_is 125 without_device anon_rmap-run --require true
result "nothing is left" nothing_left
finish
