#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# usage: selftests/programs/readme.sh
#
# The drills of README.md and rust/debugfs.md, as they stand there: what a reader types gives what the pages say.
# shellcheck source-path=SCRIPTDIR disable=SC2317 # result calls the functions
. "$(dirname "$(realpath "$0")")/ktap.sh"

plan 5 redis-server redis-cli anon_rmap-run

pages=$(dirname "$(realpath "$0")")

# block PAGE TEXT: the commands of that page that have TEXT in them, without those around them that are of the host.
block() {
	awk -v text="$2" '
		/^```sh$/ { inside = 1; block = ""; next }
		/^```$/ { if (inside && index(block, text)) printf "%s", block; inside = 0; next }
		inside && !/^qemu\/run / && !/^exit$/ { block = block $0 "\n" }
	' "$pages/$1"
}

# Runs such a block; its output is in $work/NAME.
drill() {
	block "$2" "$3" >"$work/block"
	[ -s "$work/block" ] && bash "$work/block" >"$work/$1" 2>&1
	status=$?
	cat "$work/$1"
	return "$status"
}

# Which of the three pages the server has touched varies.
it_says_where_it_was() {
	address=$(sed -n 's/.*Accessing address: 0x\([0-9a-f]*\).*/\1/p' /tmp/log)
	echo "accessed $address"
	[ -n "$address" ] && grep -q "^pid=[0-9]* address=0x${address%???}000 pfn=" "$work/redis"
}

# places FILE: the addresses of a list.
places() {
	sed 's/.* address=\(0x[0-9a-f]*\).*/\1/' "$1" | sort
}

the_same_pages_have_failed() {
	cat /sys/kernel/debug/anon_rmap/poisoned >"$work/now"
	cat /tmp/list "$work/now"
	places /tmp/list >"$work/before"
	[ "$(wc -l <"$work/before")" = 3 ] && places "$work/now" | cmp - "$work/before"
}

result "README.md's drill" drill redis README.md 'debug populate'
note <"$work/output"
result "the server ends by SIGBUS" grep -q 'crashed by signal: 7, si_code: 4' "$work/redis"
result "at an address in a page that has failed" it_says_where_it_was
result "debugfs.md's replay" drill replay debugfs.md '/tmp/list >replay'
result "the same pages have failed in another run" the_same_pages_have_failed
pkill -KILL redis-server
finish
