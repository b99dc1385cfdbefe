#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# usage: selftests/programs/drill.sh
#
# anon_rmap drill: programs with known behaviours get the outcomes that they should, and redis-server one; the same seed
# gives the same trials; what is interrupted or killed is continued; nothing stays failed. With --attach, that goes for a
# static program, one in Go if there was a compiler for it, redis-server, SQLite and PostgreSQL, too.
# shellcheck source-path=SCRIPTDIR disable=SC2317 # result calls the functions
. "$(dirname "$(realpath "$0")")/ktap.sh"

plan 34 anon_rmap drilled drilled-static redis-server redis-cli python3 setpriv setarch

files=/sys/kernel/debug/anon_rmap
out=$work/out

# holds FILE EXPRESSION: what the file has, d, is as EXPRESSION says.
holds() {
	python3 -c '
import json, sys
d = json.load(open(sys.argv[1]))
sys.exit(not eval(f"({sys.argv[2]})"))' "$@"
}

# drill NAME OPTION…: a campaign in the folder of that name; it ends well, and nothing stays failed.
drill() {
	folder=$work/$1
	shift
	anon_rmap drill --json --output "$folder" "$@" >"$out" 2>"$work/err"
	status=$?
	cat "$out" "$work/err" "$folder/trials.jsonl"
	[ "$status" = 0 ] && [ ! -s "$work/err" ] && [ ! -s "$files/poisoned" ] && holds "$out" 'd["complete"] and d["done"] == d["trials"]'
}

# becomes OUTCOME BEHAVIOUR OPTION…: of two trials in the pages of its own.
becomes() {
	outcome=$1 behaviour=$2
	shift 2
	drill "$results" "$@" --trials 2 --seed 1 --where "$own" --delay 0.3 -- drilled "$behaviour" &&
		holds "$out" 'd["outcomes"]["'"$outcome"'"] == 2'
}

# The number of the region of 64 pages.
finds_own() {
	setarch -R anon_rmap run --require -- drilled survives >"$work/log" 2>&1 &
	drilled=$!
	within 20 sh -c "until grep -q ready '$work/log'; do sleep 0.1; done" && kill -STOP "$drilled" && own_region
}

own_region() {
	anon_rmap list --json "$drilled" >"$out" &&
		own=$(python3 -c '
import json, sys
found, = [r["region"] for r in json.load(open(sys.argv[1]))["processes"][0]["regions"] if r["bytes"] == 64 * 4096]
print(found)' "$out") && kill -KILL "$drilled" && echo "region $own"
}

# places FOLDER: where pages failed, by trial.
places() {
	python3 -c '
import json, sys
for trial in json.load(open(sys.argv[1]))["trials"]:
    print(trial["trial"], [(place["region"], place["offset"]) for place in trial["places"]])' "$work/$1/report.json"
}

same_by_seed() {
	drill first --trials 4 --seed 7 --pages 3 --where "$own" --delay 0.3 -- drilled dies &&
		drill second --trials 4 --seed 7 --pages 3 --where "$own" --delay 0.3 -- drilled dies &&
		places first >"$work/first.places" && places second >"$work/second.places" && cat "$work/first.places" &&
		[ "$(sort -u "$work/first.places" | wc -l)" = 4 ] && cmp "$work/first.places" "$work/second.places"
}

# is_trial_2: what was printed last, a trial, is that of the first drill.
is_trial_2() {
	cat "$out" "$work/err"
	python3 -c '
import json, sys
once, first = json.load(open(sys.argv[1])), json.load(open(sys.argv[2]))["trials"][2]
keys = lambda t: (t["trial"], t["outcome"], [(p["region"], p["offset"]) for p in t["places"]])
sys.exit(keys(once) != keys(first))' "$out" "$work/first/report.json"
}

repeats_by_its_command() {
	command=$(python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["trials"][2]["command"])' "$work/first/report.json")
	echo "$command"
	sh -c "$(echo "$command" | sed 's/ drill / drill --json /')" >"$out" 2>"$work/err" && is_trial_2
}

repeats_from_the_folder() {
	anon_rmap drill --json --output "$work/first" --trial 2 >"$out" 2>"$work/err" && is_trial_2
}

reports() {
	python3 -c '
import html.parser, sys, xml.etree.ElementTree as xml
suite = xml.parse(sys.argv[1] + "/report.xml").getroot()
assert suite.get("tests") == "4" and suite.get("failures") == "4", suite.attrib
assert "<b>ready</b>" in suite[0].find("system-out").text
page = open(sys.argv[1] + "/report.html").read()
assert "&lt;b&gt;ready" in page and "<b>" not in page and "http" not in page
html.parser.HTMLParser().feed(page)' "$work/first"
}

# begun FOLDER: a drill of 4 trials is running, and has done the first.
begins() {
	env --default-signal=INT anon_rmap drill --output "$work/$1" --trials 4 --seed 3 --delay 0.3 -- drilled idle >"$out" 2>"$work/err" &
	job=$!
	within 60 sh -c "until [ \"\$(wc -l <'$work/$1/trials.jsonl')\" -ge 2 ]; do sleep 0.1; done" && sleep 1
}

continues() {
	anon_rmap drill --resume --json --output "$work/$1" >"$out" 2>"$work/err" || { cat "$work/err"; return 1; }
	cat "$work/$1/trials.jsonl"
	[ "$(sed 1d "$work/$1/trials.jsonl" | grep -o '^{"trial": [0-3],' | sort -u | wc -l)" = 4 ] &&
		[ "$(wc -l <"$work/$1/trials.jsonl")" = 5 ] && holds "$out" 'd["complete"] and d["outcomes"]["untouched"] == 4'
}

is_interrupted() {
	begins interrupted && kill -INT "$job" && within 20 tail --pid="$job" -f /dev/null
	wait "$job"
	status=$?
	cat "$out" "$work/err"
	[ "$status" = 1 ] && [ ! -s "$files/poisoned" ] && ! pgrep drilled && grep -q '^anon_rmap: interrupted after .* of 4 trials; .*--resume' "$work/err" &&
		holds "$work/interrupted/report.json" 'not d["summary"]["complete"]'
}

is_killed() {
	begins killed && kill -KILL "$job" && printf '{"trial": 3' >>"$work/killed/trials.jsonl" &&
		within 20 sh -c 'while pgrep drilled; do sleep 0.1; done' && nothing_left
}

# When malloc() has lost its own pages, it hangs in the middle of its report.
# shellcheck disable=SC2016 # for the inner shells
drills_redis() {
	drill redis --trials 3 --seed 1 --pages 100 --timeout 20 --ready 'redis-cli -p 6392 dbsize | grep -x 2000' \
		--check 'test "$(redis-cli -p 6392 --scan | xargs redis-cli -p 6392 mget | wc -l)" = 2000' \
		-- sh -c 'redis-server --port 6392 --save "" --enable-debug-command yes & until redis-cli -p 6392 debug populate 2000 key 400; do sleep 0.2; done; wait $!' &&
		holds "$out" 'd["outcomes"]["died"] + d["outcomes"]["hung"] >= 1 and d["outcomes"]["not-done"] == 0'
}

# Once moved, the static program has a region of its 64 pages, too.
finds_own_of_static() {
	setarch -R drilled-static survives >"$work/log" 2>&1 &
	drilled=$!
	within 20 sh -c "until grep -q ready '$work/log'; do sleep 0.1; done" && kill -STOP "$drilled" && anon_rmap attach "$drilled" &&
		own_region
}

# static_becomes OUTCOME BEHAVIOUR OPTION…
static_becomes() {
	outcome=$1 behaviour=$2
	shift 2
	drill "$results" --attach "$@" --trials 2 --seed 1 --where "$own" -- drilled-static "$behaviour" &&
		holds "$out" 'd["outcomes"]["'"$outcome"'"] == 2'
}

same_by_seed_attached() {
	for twin in third fourth; do
		drill "$twin" --attach --trials 3 --seed 7 --pages 3 --where "$own" -- drilled-static dies || return 1
		places "$twin" >"$work/$twin.places"
	done
	cat "$work/third.places"
	[ "$(sort -u "$work/third.places" | wc -l)" = 3 ] && cmp "$work/third.places" "$work/fourth.places"
}

# attached_dies FOLDER OPTION…: a drill by --attach in which all trials are done; in one at least, what failed is touched.
attached_dies() {
	drill "$@" && holds "$out" 'd["outcomes"]["not-done"] == 0 and d["outcomes"]["untouched"] < d["trials"]' &&
		grep -q 'moved onto the device' "$work/$1/report.html" &&
		python3 -c 'import sys, xml.etree.ElementTree as xml; xml.parse(sys.argv[1])' "$work/$1/report.xml"
}

attached_go() {
	attached_dies go --attach --trials 3 --seed 1 --pages 50 --timeout 30 -- attached-go 6
}

# shellcheck disable=SC2016 # for the inner shells
attached_redis() {
	attached_dies attached-redis --attach --trials 3 --seed 1 --pages 100 --timeout 20 --ready 'redis-cli -p 6392 dbsize | grep -x 2000' \
		--check 'test "$(redis-cli -p 6392 --scan | xargs redis-cli -p 6392 mget | wc -l)" = 2000' \
		-- sh -c 'redis-server --port 6392 --save "" --enable-debug-command yes & until redis-cli -p 6392 debug populate 2000 key 400; do sleep 0.2; done; wait $!'
}

cat >"$work/rows.py" <<'PROGRAM'
import sqlite3, sys, time

database = sqlite3.connect(":memory:")
database.execute("CREATE TABLE numbers (number INTEGER, text TEXT)")
database.executemany("INSERT INTO numbers VALUES (?, ?)", ((i, str(i) * 50) for i in range(5000)))
end = time.monotonic() + 6
while time.monotonic() < end:
    count, total = database.execute("SELECT count(*), sum(length(text)) FROM numbers WHERE number >= 0").fetchone()
    if (count, total) != (5000, 50 * sum(len(str(i)) for i in range(5000))):
        sys.exit(3)
PROGRAM

attached_sqlite() {
	attached_dies sqlite --attach --trials 3 --seed 1 --pages 100 --timeout 30 -- python3 "$work/rows.py"
}

# The server refuses to be root. Its own processes leave its session, and end when it does.
attached_postgres() {
	bin=$(echo /usr/lib/postgresql/*/bin) cluster=$(mktemp -d)
	[ -x "$bin/postgres" ] || { echo "PostgreSQL is not there"; return 1; }
	as_user="setpriv --reuid=postgres --regid=postgres --clear-groups --"
	chown postgres: "$cluster"
	# shellcheck disable=SC2086 # its words
	$as_user "$bin/initdb" --no-sync --auth=trust -D "$cluster/data" >"$work/log" 2>&1 || { cat "$work/log"; return 1; }
	psql="$as_user $bin/psql -h $cluster -qAtX postgres"
	attached_dies postgres --attach --trials 3 --seed 1 --pages 20 --timeout 60 --ready "$psql -c 'SELECT 1'" \
		--check "test \"\$($psql -c 'SELECT count(*) FROM pg_class, generate_series(1, 100)')\" -gt 1000" \
		-- sh -c "rm -f '$cluster/data/postmaster.pid'; exec $as_user '$bin/postgres' -D '$cluster/data' -k '$cluster' -c listen_addresses="
	status=$?
	rm -rf "$cluster"
	return "$status"
}

# refused STATUS TEXT ARGUMENT…: one sentence.
refused() {
	want=$1 sentence=$2
	shift 2
	anon_rmap drill "$@" >"$out" 2>"$work/err"
	status=$?
	cat "$out" "$work/err"
	echo "status $status, expected $want, and '$sentence'"
	[ "$status" = "$want" ] && [ "$(wc -l <"$work/err")" = 1 ] && grep -q "^anon_rmap: .*$sentence" "$work/err"
}

result "a program has a region of its own" finds_own
result "one that reads what has failed dies" becomes died dies
result "one that handles SIGBUS is told from that" becomes handled handles
result "one that hears of it by a system call survives" becomes survived survives
result "with a check that fails, it is wrong" becomes survived-wrong handles --check false
result "one that does not get on is hung" becomes hung hangs --timeout 10
result "one that touches nothing has not survived" becomes untouched idle
result "also if a check succeeds" becomes untouched idle --check true
result "pages that are written are hot" becomes died writes --plan hot
result "the others are cold" becomes untouched writes --plan cold --check true
result "pages fail as it forks" becomes survived forks --plan fork
result "pages beside each other fail" becomes died dies --plan burst
result "pages fail one after the other" becomes untouched idle --rate 5 --pages 3 --check 'sleep 0.1'
result "the same seed gives the same trials" same_by_seed
result "a trial is repeated by its command" repeats_by_its_command
result "and from the folder" repeats_from_the_folder
result "the reports are whole, and escaped" reports
result "Ctrl-C gives all back, and reports" is_interrupted
result "it is continued" continues interrupted
result "kill -KILL ends the program, too" is_killed
result "that is continued" continues killed
result "redis-server is drilled" drills_redis
note <"$out"
result "a static program, once attached, has a region of its own" finds_own_of_static
result "attached, one that reads what has failed dies" static_becomes died dies
result "one that hears of it by a system call survives" static_becomes survived survives
result "the same seed gives the same trials" same_by_seed_attached
result "a Go program is drilled, attached" attached_go
note <"$out"
result "redis-server is" attached_redis
note <"$out"
result "SQLite is" attached_sqlite
note <"$out"
result "PostgreSQL is" attached_postgres
note <"$out"
result "a static program, without that" refused 1 '3 trials in a row could not be done' --output "$work/static" -- drilled-static dies
result "a folder that has a campaign" refused 1 'has a campaign already' --output "$work/first" -- drilled idle
result "a program that can't be served" refused 1 '3 trials in a row could not be done' --output "$work/none" -- ldconfig --version
result "a program that is not named" refused 2 'say which program' --seed 1
finish
