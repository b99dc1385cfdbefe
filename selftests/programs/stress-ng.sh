#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# usage: selftests/programs/stress-ng.sh
#
# stress-ng on memory of the device: its memory patterns, each read back and verified, and what splits, moves and forks.
# shellcheck source-path=SCRIPTDIR disable=SC2317 # result calls the functions
. "$(dirname "$(realpath "$0")")/ktap.sh"

seconds=${STRESS_SECONDS:-15}

plan 5 stress-ng

stress() {
	anon_rmap-run --require --shared --report="$work/report" stress-ng --temp-path "$work" --timeout "$seconds" --verify --metrics-brief "$@"
}

# A result that says how much of the module was used.
stressed() {
	result "$@"
	grep -E 'exit status' "$work/output" | note
}

stressed "vm, all methods" served 20000 stress --vm 2 --vm-bytes 256M --vm-method all
stressed "mprotect" served 100 stress --mprotect 2
stressed "fork" served 100 stress --fork 2
stressed "mremap" served 1000 stress --mremap 2 --mremap-bytes 32M
result "nothing is left" nothing_left
finish
