#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# usage: selftests/programs/pytest.sh
#
# The fixture of pytest, by the examples: redis-server, SQLite and PostgreSQL whose memory fails.
# shellcheck source-path=SCRIPTDIR disable=SC2317 # result calls the functions
. "$(dirname "$(realpath "$0")")/ktap.sh"

plan 6 anon_rmap pytest-3 redis-server setpriv
PYTHONPATH=$(dirname "$(command -v anon_rmap)")
export PYTHONPATH
chmod 666 /dev/anon_rmap

with_fixture() {
	pytest-3 -p anon_rmap_command.pytest_plugin -p no:cacheprovider -q -rs "$@"
}

# passes EXAMPLE: all of it, and pages have failed.
passes() {
	before=$(stat poisonings_total)
	with_fixture --require-drills "$here/examples/test_$1.py" || return
	[ "$(stat poisonings_total)" -gt "$before" ]
}

without_rights() {
	setpriv --reuid=65534 --regid=65534 --clear-groups env HOME="$work" PYTHONPATH="$PYTHONPATH" \
		pytest-3 -p anon_rmap_command.pytest_plugin -p no:cacheprovider -q -rs "$@" "$here/examples/test_sqlite.py" >"$work/out" 2>&1
	status=$?
	cat "$work/out"
}

is_skipped() {
	without_rights
	[ "$status" = 0 ] && grep -q '1 skipped' "$work/out" && grep -q 'no drills here: needs root' "$work/out"
}

is_an_error() {
	without_rights --require-drills
	[ "$status" = 1 ] && grep -q 'needs root' "$work/out"
}

for example in redis sqlite postgres; do
	result "$example" passes "$example"
done
result "without rights it is skipped" is_skipped
result "or an error" is_an_error
result "nothing is left" nothing_left
finish
