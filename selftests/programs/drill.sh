#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# usage: selftests/programs/drill.sh
#
# anon_rmap drill: programs with known behaviours get the outcomes that they should, and redis-server one; the same seed
# gives the same trials; what is interrupted or killed is continued; nothing stays failed.
# shellcheck source-path=SCRIPTDIR disable=SC2317 # result calls the functions
. "$(dirname "$(realpath "$0")")/ktap.sh"

plan 25 anon_rmap drilled redis-server redis-cli python3 setpriv setarch

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
	within 20 sh -c "until grep -q ready '$work/log'; do sleep 0.1; done" && kill -STOP "$drilled" &&
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
result "a folder that has a campaign" refused 1 'has a campaign already' --output "$work/first" -- drilled idle
result "a program that can't be served" refused 1 '3 trials in a row could not be done' --output "$work/none" -- ldconfig --version
result "a program that is not named" refused 2 'say which program' --seed 1
finish
