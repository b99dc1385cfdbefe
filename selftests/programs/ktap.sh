# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=sh
#
# What the tests with real programs share; each sources this first. They run as root in a Debian userland with the
# module loaded, and print KTAP.

here=$(dirname "$(realpath "$0")")
. "$here/help.sh"
PATH=$here:$PATH
export PATH LC_ALL=C
work=$(mktemp -d)
results=0 failures=0
trap 'rm -rf "$work"' EXIT

# plan NUMBER PROGRAM…: so many results will come; skips them all if a program is not there.
plan() {
	echo "TAP version 13"
	planned=$1
	shift
	[ -e /sys/kernel/debug/anon_rmap/stats ] || set -- "the module"
	for program; do
		command -v "$program" >/dev/null || {
			echo "1..0 # SKIP $program is not there"
			exit 4
		}
	done
	echo "1..$planned"
}

note() {
	sed 's/^/# /'
}

# result TEXT COMMAND…: passes if the command succeeds; shows its output if it does not.
result() {
	text=$1
	shift
	results=$((results + 1))
	if "$@" >"$work/output" 2>&1; then
		echo "ok $results $text"
	else
		note <"$work/output"
		echo "not ok $results $text"
		failures=$((failures + 1))
	fi
}

finish() {
	[ "$failures" = 0 ] && [ "$results" = "$planned" ]
	exit
}

# The value of a counter of the module.
stat() {
	sed -n "s/^$1 //p" /sys/kernel/debug/anon_rmap/stats
}

# The pages that the module holds, at most, while a command runs: in $work/peak. The command's status.
with_peak() {
	"$@" &
	command=$! peak=0
	while kill -0 "$command" 2>/dev/null; do
		now=$(stat anons)
		[ "$now" -le "$peak" ] || peak=$now
		sleep 0.5
	done
	echo "$peak" >"$work/peak"
	wait "$command"
}

# served PAGES COMMAND…: the command succeeds and had at least so many pages of the module at a time.
served() {
	pages=$1
	shift
	faults=$(stat faults_total) copies=$(stat copies_total)
	with_peak "$@"
	status=$?
	faults=$(($(stat faults_total) - faults)) copies=$(($(stat copies_total) - copies))
	echo "$* # exit status $status, at most $(cat "$work/peak") pages at a time, $faults faults, $copies copies"
	[ "$status" = 0 ] && [ "$(cat "$work/peak")" -ge "$pages" ]
}

# Nothing is left when all that was served has ended.
nothing_left() {
	within 10 sh -c 'while grep -E "^(vmas|amaps|anons|anon_vmas|avcs|poisoned) [1-9]" /sys/kernel/debug/anon_rmap/stats; do
		sleep 1
	done'
}
