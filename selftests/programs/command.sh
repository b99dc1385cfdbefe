#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# usage: selftests/programs/command.sh
#
# anon_rmap, the command: a redis-server that it runs, and processes that share pages, are listed, poisoned, watched,
# recorded, undone, and the drill is replayed in another process; what it refuses changes nothing.
# shellcheck source-path=SCRIPTDIR disable=SC2317 # result calls the functions
. "$(dirname "$(realpath "$0")")/ktap.sh"

plan 47 anon_rmap redis-server redis-cli python3 setpriv unshare

files=/sys/kernel/debug/anon_rmap
out=$work/out
module=$(dirname "$(command -v anon_rmap)")/anon_rmap.ko

# 16 pages of the device, 8 of them touched, and asks for early notice; a child shares them.
cat >"$work/holder.py" <<'PROGRAM'
import ctypes, mmap, os, signal, sys, time

def region(pages, touched):
    memory = mmap.mmap(os.open('/dev/anon_rmap', os.O_RDWR), pages * mmap.PAGESIZE, mmap.MAP_PRIVATE)
    for page in range(touched):
        memory[page * mmap.PAGESIZE] = page + 1
    return memory

memory = region(16, 8)
if len(sys.argv) > 1:
    lower = region(*map(int, sys.argv[1:]))
signal.signal(signal.SIGBUS, lambda *_: None)
# PR_MCE_KILL, PR_MCE_KILL_SET, PR_MCE_KILL_EARLY
assert ctypes.CDLL(None).prctl(33, 1, 1, 0, 0) == 0
child = os.fork()
sum(memory[page * mmap.PAGESIZE] for page in range(8))
if child:
    print(os.getpid(), child, hex(ctypes.addressof(ctypes.c_char.from_buffer(memory))), flush=True)
while True:
    time.sleep(1000)
PROGRAM

# hold NAME ARGUMENT…: starts such processes; their numbers and the address of the pages are in $work/NAME.
hold() {
	name=$1
	shift
	setsid python3 "$work/holder.py" "$@" >"$work/$name" &
	until grep -q . "$work/$name"; do
		sleep 0.1
	done
}

# at PAGE: its address in the first holder.
at() {
	printf '%#x' $((address + $1 * 4096))
}

# contents PID ADDRESS [NUMBER]: the first byte of each of eight pages from there, or of so many; or that it has failed.
contents() {
	python3 -c '
import os, sys
memory = os.open(f"/proc/{sys.argv[1]}/mem", os.O_RDONLY)
for page in range(int(sys.argv[3])):
    try:
        print(os.pread(memory, 1, int(sys.argv[2], 0) + page * 4096)[0], end=" ")
    except OSError:
        print("failed", end=" ")' "$1" "$2" "${3:-8}"
}

# json EXPRESSION ARGUMENT…: the command succeeds and says nothing on standard error; what it prints, d, is as EXPRESSION says.
json() {
	expression=$1
	shift
	anon_rmap "$@" --json >"$out" 2>"$work/err"
	status=$?
	cat "$out" "$work/err"
	[ "$status" = 0 ] && [ ! -s "$work/err" ] && holds "$expression"
}

holds() {
	python3 -c '
import json, sys
d = json.load(open(sys.argv[1]))
sys.exit(not eval(f"({sys.argv[2]})"))' "$out" "$1"
}

# value EXPRESSION: of what was printed last.
value() {
	python3 -c 'import json, sys; d = json.load(open(sys.argv[1])); print(eval(sys.argv[2]))' "$out" "$1"
}

# says TEXT ARGUMENT…: the command succeeds, and prints a line that matches.
says() {
	pattern=$1
	shift
	anon_rmap "$@" >"$out" 2>"$work/err"
	status=$?
	cat "$out" "$work/err"
	[ "$status" = 0 ] && [ ! -s "$work/err" ] && grep -Eq -- "$pattern" "$out"
}

state() {
	cat "$files/poisoned" "$files/quarantine"
	contents "$holder" "$address"
}

# refused STATUS TEXT COMMAND…: one sentence, nothing else, and nothing changes.
refused() {
	want=$1 sentence=$2
	shift 2
	state >"$work/before"
	"$@" >"$out" 2>"$work/err"
	status=$?
	state >"$work/after"
	cat "$out" "$work/err"
	echo "status $status, expected $want, and '$sentence'"
	[ "$status" = "$want" ] && [ ! -s "$out" ] && [ "$(wc -l <"$work/err")" = 1 ] && grep -q "^anon_rmap: .*$sentence" "$work/err" &&
		cmp "$work/before" "$work/after"
}

serves() {
	anon_rmap run --require --report="$work/report" -- redis-server --save '' --port 6391 --enable-debug-command yes >"$work/log" 2>&1 &
	server=$!
	within 60 sh -c 'until redis-cli -p 6391 ping; do sleep 0.5; done' && [ "$(cat "/proc/$server/comm")" = redis-server ] &&
		redis-cli -p 6391 debug populate 10000 key 400 && kill -STOP "$server"
}

status_of_run() {
	anon_rmap run --require -- sh -c 'exit 7'
	[ $? = 7 ] && ! anon_rmap run --require -- ldconfig --version && anon_rmap run --help | grep -q 'anon_rmap-run --list'
}

# As `mappings` and smaps say.
list_is_right() {
	json '[process["pid"] for process in d["processes"]] == ['"$server"']' list "$server" || return 1
	present=$(awk -v pid="pid=$server" '$1 == pid { sub("present=", "", $4); sum += $4 } END { print sum }' "$files/mappings")
	bytes=$(anon_rmap-run --list "$server" | sed -n "s/^$server: \([0-9]*\) bytes$/\1/p")
	echo "$present present, $bytes bytes"
	[ "$present" -gt 1000 ] && holds 'd["processes"][0]["present"] == '"$present"' and d["processes"][0]["bytes"] == '"$bytes"'
and d["processes"][0]["malloc"] == "libjemalloc.so.2" and "lib" in d["processes"][0]["regions"][0]["above"]["name"]
and sum(r["present"] for r in d["processes"][0]["regions"]) == '"$present"
}

same_by_a_seed() {
	json 'd["seed"] == 9 and len(d["poisoned"]) == 3 and all(p["hit"][0]["comm"] == "redis-server" for p in d["poisoned"])' \
		poison "$server" --random 3 --seed 9 && value 'sorted(p["address"] for p in d["poisoned"])' >"$work/first" &&
		json 'len(d["undone"]) == 3 and d["left"] == []' undo "$server" &&
		json 'len(d["poisoned"]) == 3' poison "$server" --random 3 --seed 0x9 &&
		value 'sorted(p["address"] for p in d["poisoned"])' >"$work/second" && cmp "$work/first" "$work/second" &&
		json 'len(d["undone"]) == 3' undo "$server"
}

is_dry() {
	state >"$work/before"
	json '[(h["pid"], h["address"], h["tid"], h["signal"]) for h in d["hit"]] ==
[(p, "'"$(at 2)"'", p, "BUS_MCEERR_AO") for p in ('"$holder, $child"')]' dry-run "$holder" "$(at 2)" || return 1
	state | cmp - "$work/before"
}

hits_both() {
	json '(d["poisoned"][0]["address"], d["poisoned"][0]["region"], d["poisoned"][0]["offset"]) == ("'"$(at 2)"'", 0, "0x2000")
and {h["pid"] for h in d["poisoned"][0]["hit"]} == {'"$holder, $child"'}
and all(h["signal"] == "BUS_MCEERR_AO" for h in d["poisoned"][0]["hit"]) and len(d["poisoned"]) == 1' poison "$holder" "$(at 2)" &&
		value 'd["poisoned"][0]["pfn"]' >"$work/pfn" && pages_are 1 2 failed 4 5 6 7 8
}

# pages_are CONTENT…, those of the first holder.
pages_are() {
	now=$(contents "$holder" "$address")
	echo "$now"
	[ "$now" = "$* " ]
}

# One of the process's pages is given back, and of others none.
undone_at() {
	anon_rmap poison "$holder" "$(at 4)" >"$out" && says "undone: frame $(cat "$work/pfn"), $(at 2) of python3" undo "$holder" "$(at 2)" &&
		pages_are 1 2 3 4 failed 6 7 8 && says 'undone' undo "$holder" && pages_are 1 2 3 4 5 6 7 8
}

keeps() {
	says "stays mapped" poison --pfn "$(cat "$work/pfn")" --keep && grep -q "^pfn=$(cat "$work/pfn") .*kind=kept" "$files/poisoned" &&
		pages_are 1 2 3 4 5 6 7 8 && says undone undo --pfn "$(cat "$work/pfn")" && ! grep . "$files/poisoned"
}

in_advance() {
	says 'hit nobody' poison "$holder" "$(at 12)" && [ "$(contents "$holder" "$(at 12)" 1)" = 'failed ' ] &&
		says undone undo "$holder" "$(at 12)" && [ "$(contents "$holder" "$(at 12)" 1)" = '0 ' ]
}

fails_a_range() {
	json '[p["offset"] for p in d["poisoned"]] == ["0x5000", "0x6000"]' poison "$holder" --range "$(at 5)-$(at 7)" &&
		pages_are 1 2 3 4 5 failed failed 8 && json '(len(d["undone"]), d["left"]) == (2, [])' undo "$child" &&
		pages_are 1 2 3 4 5 6 7 8
}

moves() {
	says 'moved what was in frame' poison "$holder" "$(at 7)" --soft && pages_are 1 2 3 4 5 6 7 8 &&
		grep -q 'kind=software' "$files/quarantine" && json 'len(d["undone"]) == 1' undo --all && ! grep . "$files/quarantine"
}

# A program of a background job ignores Ctrl-C, unless it is told not to.
job() {
	env --default-signal=INT "$@" >"$work/job" 2>"$work/job.err" &
	job=$!
}

# has_lines NUMBER TEXT: the job has printed so many, soon.
has_lines() {
	for _ in $(seq 100); do
		[ "$(grep -Ec -- "$2" "$work/job")" -ge "$1" ] && break
		sleep 0.1
	done
	cat "$work/job" "$work/job.err"
	[ "$(grep -Ec -- "$2" "$work/job")" = "$1" ]
}

# ends_by SIGNAL: the job ends well then, and has nothing to complain of.
ends_by() {
	kill -"$1" "$job"
	within 10 tail --pid="$job" -f /dev/null
	wait "$job"
	status=$?
	cat "$work/job.err"
	echo "status $status"
	[ "$status" = 0 ] && [ ! -s "$work/job.err" ]
}

# Until the job waits for events: what happens before is not new to it.
job_waits() {
	for _ in $(seq 100); do
		case $(cat "/proc/$job/wchan") in *poll*) return ;; esac
		sleep 0.1
	done
	cat "/proc/$job/wchan"
	return 1
}

watches() {
	job anon_rmap watch
	job_waits && anon_rmap poison "$holder" "$(at 1)" && anon_rmap undo "$holder" &&
		has_lines 1 '^[0-9.]+ poison frame 0x[0-9a-f]+ by poison_addr$' &&
		has_lines 2 "hit python3\[[0-9]+\] at $(at 1), .*: thread [0-9]+ gets SIGBUS BUS_MCEERR_AO at once$" &&
		has_lines 1 ' unpoison frame 0x[0-9a-f]+ by unpoison_pfn$' && has_lines 4 . && ends_by INT
}

watches_in_json() {
	job anon_rmap watch --json --past
	has_lines "$(wc -l <"$files/events")" '^\{.*\}$' && ends_by TERM && python3 -c '
import json, sys
ours = [json.loads(line) for line in open(sys.argv[1])]
theirs = [dict(word.split("=", 1) for word in line.split()) for line in open(sys.argv[2])]
sys.exit(not ours or [(str(o.get("number", "")), set(o)) for o in ours] != [(t.get("number", ""), set(t)) for t in theirs])' \
		"$work/job" "$files/events"
}

records() {
	job anon_rmap record "$work/drill" "$holder"
	job_waits && anon_rmap poison "$holder" "$(at 6)" && anon_rmap poison "$holder" "$(at 3)" --keep &&
		anon_rmap poison "$server" --random 1 && anon_rmap poison "$holder" "$(at 13)" && has_lines 3 "^recorded 0x" && ends_by INT &&
		[ "$(grep -c '"offset": "0x\(6\|3\|d\)000"' "$work/drill")" = 3 ] && [ "$(wc -l <"$work/drill")" = 4 ] && says undone undo --all
}

# The same pages of another process, at other addresses: and only these.
replays() {
	hold other
	read -r other _ there <"$work/other"
	json 'sorted((p["offset"], p["kind"]) for p in d["poisoned"]) ==
[("0x3000", "kept"), ("0x6000", "simulated"), ("0xd000", "simulated")] and {p["pid"] for p in d["poisoned"]} == {'"$other"'}
and d["recorded"] == 3 and d["same_sizes"]' replay "$work/drill" "$other" &&
		contents "$other" "$there" 16 >"$work/contents" && cat "$work/contents" &&
		[ "$(cat "$work/contents")" = "1 2 3 4 5 6 failed 8 0 0 0 0 0 failed 0 0 " ] && [ "$there" != "$address" ] && pages_are 1 2 3 4 5 6 7 8
}

# The first page of the recording is there, the others are not: none fails.
replays_all_or_none() {
	grep -v '"advance": true' "$work/drill" >"$work/touched"
	sed 's/"offset": "0x3000"/"offset": "0xe000"/' "$work/touched" >"$work/untouched"
	refused 1 'has not touched all' anon_rmap replay "$work/untouched" "$holder" &&
		sed 's/"offset": "0x3000"/"offset": "0x10000"/' "$work/touched" >"$work/outside" &&
		refused 1 'has nothing at 0x10000 of region 0' anon_rmap replay "$work/outside" "$holder"
}

# What fails in advance comes last, one by one: what has failed before that is given back.
replays_none_in_advance() {
	anon_rmap poison "$holder" "$(at 13)" && refused 1 'has failed already' anon_rmap replay "$work/drill" "$holder" &&
		says undone undo "$holder" && pages_are 1 2 3 4 5 6 7 8
}

records_until_the_end() {
	hold brief
	read -r brief partner there <"$work/brief"
	job anon_rmap record "$work/brief.drill" "$brief"
	job_waits && anon_rmap poison "$brief" "$there" && kill -KILL "$brief" "$partner" && within 20 tail --pid="$job" -f /dev/null &&
		wait "$job" && cat "$work/brief.drill" && grep -q '"region": 0, "offset": "0x0"' "$work/brief.drill"
}

# One that can't be undone does not keep the others from it.
undoes_what_it_can() {
	anon_rmap poison "$holder" "$(at 0)" --hard | grep 'for good' && anon_rmap poison "$holder" "$(at 1)" || return 1
	anon_rmap undo --all >"$out" 2>"$work/err"
	status=$?
	cat "$out" "$work/err"
	[ "$status" = 1 ] && [ "$(wc -l <"$work/err")" = 1 ] && grep -q "^anon_rmap: frame 0x.* can't be given back: hardware" "$work/err" &&
		grep -q "undone: .*$(at 1)" "$out" && pages_are failed 2 3 4 5 6 7 8
}

has_no_room() {
	anon_rmap list 2>"$work/err" >/dev/full
	status=$?
	cat "$work/err"
	[ "$status" = 1 ] && [ "$(wc -l <"$work/err")" = 1 ] && grep -q '^anon_rmap: No space left' "$work/err"
}

without_debugfs() {
	# shellcheck disable=SC2016 # for the inner shell
	unshare --mount sh -c 'umount -l /sys/kernel/debug && exec "$@"' without_debugfs "$@"
}

without_module() {
	pkill -KILL -f holder.py
	kill -KILL "$server"
	wait "$server"
	nothing_left && within 20 rmmod anon_rmap || return 1
	anon_rmap list >"$out" 2>"$work/err"
	status=$?
	insmod "$module" || return 1
	cat "$out" "$work/err"
	[ "$status" = 1 ] && [ ! -s "$out" ] && [ "$(cat "$work/err")" = 'anon_rmap: the module is not loaded: insmod anon_rmap.ko' ]
}

result "a program is run, and has the process" serves
result "the status is the program's, and so is the help" status_of_run
hold holder
read -r holder child address <"$work/holder"
result "what a server maps is listed" list_is_right
result "two processes are listed, with 8 of 16 pages" json \
	'[(p["pid"], len(p["regions"]), p["bytes"]) for p in d["processes"]] == [(p, 1, 65536) for p in ('"$holder, $child"')]
and d["processes"][0]["present"] == 8' list "$holder" "$child"
result "as text, too" says "^  0: $(at 0)-$(at 16) rw-p 65536 bytes, 8 present, 0 poisoned; [0-9]+ bytes " list "$holder"
result "a dry run says who would be hit, and changes nothing" is_dry
result "a page fails by its address: where, and who was hit" hits_both
result "it is counted" json 'd["processes"][0]["poisoned"] == 1' list "$holder"
result "it can't fail again" refused 1 'has failed already' anon_rmap poison "$holder" "$(at 2)"
result "it is given back by its address" undone_at
result "a page is kept, by its frame" keeps
result "a page that nobody has touched: not with --touched" refused 1 'nobody has touched it' \
	anon_rmap poison "$holder" "$(at 12)" --touched
result "it fails in advance" in_advance
result "a range fails, and all of a process is given back" fails_a_range
result "a seed chooses the same pages again" same_by_a_seed
result "a soft offline moves a page, and its frame is given back" moves
result "events are watched until Ctrl-C" watches
result "in JSON, with what has been, until SIGTERM" watches_in_json
result "a drill is recorded, of one process" records
result "it is replayed in another process" replays
result "all of its pages fail, or none" replays_all_or_none
result "also of those that fail in advance" replays_none_in_advance
result "a recording ends with the process" records_until_the_end
echo '{}' >"$work/empty"
result "what is no recording is refused" refused 1 'is no recording' anon_rmap replay "$work/empty" "$holder"
result "a recording that is not there is" refused 1 "can't be read" anon_rmap replay "$work/none" "$holder"
result "a recording can't be written to where nobody can" refused 1 "can't be written" anon_rmap record /proc/none/drill "$holder"
result "a process that is not there" refused 1 'there is no process' anon_rmap list 2000000000
result "it can't be hit" refused 1 'there is no process' anon_rmap poison 2000000000 0x1000
result "a process that maps nothing is not listed" refused 1 'maps nothing of the device' anon_rmap list $$
result "no page of it is chosen" refused 1 'maps nothing of the device' anon_rmap poison $$ --random 1
result "it has nothing to undo" refused 1 'maps nothing of the device' anon_rmap undo $$
result "it can't be recorded" refused 1 'maps nothing of the device' anon_rmap record "$work/never" $$
result "what is not mapped" refused 1 'nothing is mapped' anon_rmap poison "$holder" 0x1000
result "what is not the device's" refused 1 "is not the device's" \
	anon_rmap dry-run "$holder" "0x$(sed -n 's/^\([0-9a-f]*\)-.*\[stack\]$/\1/p' "/proc/$holder/maps")"
result "a frame that holds nothing of the device" refused 1 'holds no page of the device' anon_rmap poison --pfn 1
result "a range with nothing of the device" refused 1 'has nothing of the device in' \
	anon_rmap poison "$holder" --range 0x1000-0x2000
result "a range that nobody has touched" refused 1 'nobody has touched' \
	anon_rmap poison "$holder" --range "$(at 9)-$(at 12)"
result "more pages than there are" refused 1 'fewer than 17 good pages' anon_rmap poison "$holder" --random 17
result "a frame that has not failed" refused 1 'has not failed' anon_rmap undo --pfn "$(cat "$work/pfn")"
sysctl -q vm.enable_soft_offline=0
result "a soft offline that is not allowed" refused 1 'does not allow soft offlines' anon_rmap poison "$holder" "$(at 0)" --soft
sysctl -q vm.enable_soft_offline=1
result "a user who is not root" refused 1 'needs root' \
	setpriv --reuid=65534 --regid=65534 --clear-groups "$(command -v anon_rmap)" poison "$holder" "$(at 0)"
result "root without CAP_SYS_ADMIN" refused 1 'lacks CAP_SYS_ADMIN' \
	setpriv --bounding-set=-sys_admin anon_rmap poison "$holder" "$(at 0)"
result "no debugfs" refused 1 'debugfs is not mounted' without_debugfs anon_rmap poison "$holder" "$(at 0)"
result "wrong usage" refused 2 'take one' anon_rmap poison "$holder" "$(at 0)" --pfn 1
result "what is printed has no room" has_no_room
result "what hardware has failed stays, and all else is undone" undoes_what_it_can
result "no module" without_module
finish
