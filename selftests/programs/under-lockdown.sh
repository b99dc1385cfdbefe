#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# usage: selftests/programs/under-lockdown.sh
#
# anon_rmap, the command, when the kernel is locked down. Only a reboot undoes that: by its name this test comes last.
# shellcheck source-path=SCRIPTDIR disable=SC2317 # result calls the functions
. "$(dirname "$(realpath "$0")")/ktap.sh"

plan 4 anon_rmap
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

result "before, a drill is" is_asked_for
echo integrity >/sys/kernel/security/lockdown
result "a drill is refused" locked_down anon_rmap poison 2000000000 0x1000
result "so is undoing" locked_down anon_rmap undo --pfn 1
result "a list is not" anon_rmap list
finish
