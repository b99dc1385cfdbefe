#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# usage: selftests/programs/python3.sh
#
# Python's own tests, on memory of the device: its heap, and what test_mmap maps.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$(realpath "$0")")/ktap.sh"

plan 5 python3

for module in test_dict test_list test_json test_mmap; do
	result "$module" served 1000 anon_rmap-run --require --shared --report="$work/report" python3 -m test "$module"
	grep 'exit status' "$work/output" | note
done
result "nothing is left" nothing_left
finish
