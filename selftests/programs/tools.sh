#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# usage: selftests/programs/tools.sh
#
# perf, bpftrace and trace-cmd see what the module does to a program; rasdaemon.sh is about rasdaemon.
# shellcheck source-path=SCRIPTDIR disable=SC2317 # result calls the functions
. "$(dirname "$(realpath "$0")")/ktap.sh"

plan 9 anon_rmap anon_rmap-run perf bpftrace trace-cmd python3
[ -e /sys/kernel/btf/vmlinux ] || {
	printf 'TAP version 13\n1..0 # SKIP the kernel has no BPF\n'
	exit 4
}

# Writes each of its pages.
writer='memory = bytearray(b"\1") * (32 << 20)'
pages=8192

# What it has is on the device when it is ready.
starts() {
	mkfifo "$work/ready"
	anon_rmap-run --require python3 -c "$writer; print(flush=True); import time; time.sleep(10000)" >"$work/ready" &
	pid=$!
	within 120 head -n 1 "$work/ready" && anon_rmap list "$pid"
}

# writes COMMAND…: that looks on as a program writes all its memory.
writes() {
	"$@" anon_rmap-run --require python3 -c "$writer"
}

# poisons SEED COMMAND…: that looks on as two pages of the program fail. Their frames are in $work/frames.
poisons() {
	seed=$1
	shift
	"$@" "$(command -v anon_rmap)" poison "$pid" --random 2 --seed "$seed" >"$work/said" || return
	cat "$work/said"
	sed -n 's/^poisoned .* frame \(0x[0-9a-f]*\).*/\1/p' "$work/said" >"$work/frames"
	[ "$(wc -l <"$work/frames")" = 2 ]
}

# reported FILE: both frames as such, and the program twice.
reported() {
	cat "$1"
	while read -r frame; do
		grep -q "anon_rmap_action: *pfn=$frame .*action=poison" "$1" || return
	done <"$work/frames"
	[ "$(grep -c "anon_rmap_hit: .* pid=$pid " "$1")" = 2 ]
}

# counted LEAST EVENT: perf stat has counted so many.
counted() {
	cat "$work/stat"
	[ "$(sed -n "s/,,$2,.*//p" "$work/stat")" -ge "$1" ]
}

perf_counts_faults() {
	writes perf stat -x, -o "$work/stat" -e page-faults && counted "$pages" page-faults
}

perf_counts_actions() {
	poisons 1 perf stat -x, -o "$work/stat" -e anon_rmap:anon_rmap_action && counted 2 anon_rmap:anon_rmap_action
}

perf_records() {
	poisons 2 perf record -q -a -e 'anon_rmap:*' -o "$work/perf" && perf script -i "$work/perf" >"$work/script" &&
		reported "$work/script"
}

trace_cmd_records() {
	poisons 3 trace-cmd record -q -e anon_rmap -o "$work/trace" && trace-cmd report -i "$work/trace" >"$work/report" &&
		reported "$work/report"
}

bpftrace_lists() {
	bpftrace -l 'tracepoint:anon_rmap:*' >"$work/list"
	cat "$work/list"
	grep -qx 'tracepoint:anon_rmap:anon_rmap_hit' "$work/list"
}

# It takes one command with its arguments, whose program is no script.
bpftrace_prints() {
	# shellcheck disable=SC2016 # for the inner shell
	poisons 4 sh -c 'bpftrace -o "$0" -e "tracepoint:anon_rmap:anon_rmap_hit { printf(\"pid %d\\n\", args.pid); }" -c "env $*"' \
		"$work/bpftrace"
	cat "$work/bpftrace"
	[ "$(grep -cx "pid $pid" "$work/bpftrace")" = 2 ]
}

# Functions in C have kprobes: those of rust/helpers/.
bpftrace_counts() {
	echo "$writer" >"$work/writer.py"
	bpftrace -o "$work/bpftrace" -e 'kprobe:anon_rmap:anon_rmap_vmf_insert_page { @maps = count(); }' -c "env anon_rmap-run --require python3 $work/writer.py" || return
	cat "$work/bpftrace"
	[ "$(sed -n 's/^@maps: //p' "$work/bpftrace")" -ge "$pages" ]
}

result "a program has its memory on the device" starts
result "perf stat counts page faults of another" perf_counts_faults
result "and what is done to pages, by the module's events" perf_counts_actions
result "perf record has the frames that fail, and who was hit" perf_records
result "trace-cmd record, too" trace_cmd_records
result "bpftrace lists the module's events" bpftrace_lists
result "it prints who is hit, as it happens" bpftrace_prints
result "it counts calls of a function of the module" bpftrace_counts
kill "$pid"
wait "$pid"
result "nothing is left" nothing_left
finish
