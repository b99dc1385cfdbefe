#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# usage: selftests/programs/attach.sh
#
# Programs that run get their memory moved onto the device, and back: a static one with threads and a growing heap,
# python3, one in Go, and redis-server under load. How long they are stopped is said.
# ATTACH_MIB in the environment says how much memory that is measured with (1024), ATTACH_ROUNDS how often redis-server is
# moved while its threads get from one processor to another (8).
# shellcheck source-path=SCRIPTDIR disable=SC2317 # result calls the functions
. "$(dirname "$(realpath "$0")")/ktap.sh"

plan 30 anon_rmap attached-static setpriv python3 redis-server redis-cli redis-benchmark

mib=${ATTACH_MIB:-1024}
rounds=${ATTACH_ROUNDS:-8}
port=6391
value=$(printf '%0400d' 7)

# Answers lines as attached.c does; its content is a list of objects, and as many MiB as its argument says.
cat >"$work/holder.py" <<'PROGRAM'
import ctypes, hashlib, random, sys, threading, time

memory = bytearray(int(sys.argv[1]) << 20)
pattern = random.Random(1).randbytes(4096)
for start in range(0, len(memory), 4096):
    memory[start:start + 4096] = pattern
    memory[start:start + 8] = start.to_bytes(8, "little")
objects = [{"number": i, "text": str(i)} for i in range(20000)]
turns = [0] * 4
ending = threading.Event()

def work(i):
    while not ending.wait(0.001):
        turns[i] += len([str(j) for j in range(100)]) // 100

def is_right():
    before = list(turns)
    time.sleep(0.5)
    return (all(a < b for a, b in zip(before, turns)) and
            all(o == {"number": i, "text": str(i)} for i, o in enumerate(objects)) and
            hashlib.sha256(memory).digest() == digest)

digest = hashlib.sha256(memory).digest()
threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
for thread in threads:
    thread.start()
print(hex(ctypes.addressof(ctypes.c_char.from_buffer(memory))), flush=True)
for line in sys.stdin:
    if line == "join\n":
        ending.set()
        for thread in threads:
            thread.join()
        print("joined", flush=True)
    else:
        print("right" if is_right() else "wrong", flush=True)
PROGRAM

# Its child goes on, with what it has inherited and never touched.
cat >"$work/heir.py" <<'PROGRAM'
import hashlib, os, signal, sys

memory = bytearray(os.urandom(4 << 20))
digest = hashlib.sha256(memory).digest()
print("ready", flush=True)
sys.stdin.readline()
if os.fork():
    signal.pause()
print(os.getpid(), flush=True)
for line in sys.stdin:
    print("right" if hashlib.sha256(memory).digest() == digest else "wrong", flush=True)
PROGRAM

# begin PROGRAM…: starts it; its process is $pid, its first answer $address.
begin() {
	rm -f "$work/in" "$work/out"
	mkfifo "$work/in" "$work/out"
	"$@" <"$work/in" >"$work/out" 2>"$work/err" &
	pid=$!
	exec 8>"$work/in" 9<"$work/out"
	answer && address=$answer
}

answer() {
	answer=$(within 120 head -n 1 <&9) && echo "$answer"
}

# ask LINE ANSWER: the program answers so.
ask() {
	echo "$1" >&8
	answer
	[ "$answer" = "$2" ]
}

end() {
	exec 8>&- 9<&-
	kill "$pid" 2>/dev/null
	wait "$pid" 2>/dev/null
	true
}

# How many mappings of the device the process has.
mapped() {
	grep -c 'anon_inode:\[anon_rmap\]' "/proc/$pid/maps"
}

attach() {
	anon_rmap attach "$pid" && [ "$(mapped)" -gt 0 ] && [ "$(verify)" = ok ]
}

detach() {
	anon_rmap detach "$pid" && [ "$(mapped)" = 0 ] && [ "$(verify)" = ok ]
}

verify() {
	cut -d' ' -f1 /sys/kernel/debug/anon_rmap/verify | sort -u
}

# moved LEAST COMMAND…: it says that so many bytes were copied at least.
moved() {
	least=$1
	shift
	"$@" >"$work/moved" 2>&1 || { cat "$work/moved"; return 1; }
	cat "$work/moved"
	[ "$(sed -n 's/.*; \([0-9]*\) bytes copied.*/\1/p' "$work/moved")" -ge "$least" ]
}

stopped() {
	grep 'stopped for' "$work/moved" | note
}

dry_run() {
	before=$(cat "/proc/$pid/maps")
	anon_rmap attach --dry-run "$pid" | grep 'would be moved' && [ "$before" = "$(cat "/proc/$pid/maps")" ]
}

# What the new heap has, beside that which is on the device.
heap_grows() {
	ask grow grown && grep -F '[heap]' "/proc/$pid/maps" && ask check right
}

# The page that fails is one of what was moved.
page_fails() {
	anon_rmap poison "$pid" "$address" && echo read >&8 && answer && [ "$answer" = "SIGBUS $address" ]
}

# refused SENTENCE: attach says so, and the mappings are as before.
refused() {
	before=$(cat "/proc/$pid/maps")
	anon_rmap "${2:-attach}" "$pid" >"$work/refused" 2>&1 && return 1
	cat "$work/refused"
	grep -q "$1" "$work/refused" && [ "$before" = "$(cat "/proc/$pid/maps")" ]
}

failed_page_is_refused() {
	anon_rmap poison "$pid" "$address" && refused "have failed" detach && anon_rmap undo "$pid"
}

result "a static program starts" begin attached-static
result "a dry run changes nothing" dry_run
result "it is moved onto the device" moved 8000000 attach
stopped
result "its content and its threads are right" ask check right
result "its heap grows beside, as anonymous memory" heap_grows
result "that is moved, too" moved 3000000 attach
result "a failed page can't be moved back" failed_page_is_refused
result "its content is right" ask check right
result "it is moved back" moved 12000000 detach
result "its content is right" ask check right
result "it is moved again" moved 12000000 attach
result "its threads end, and are joined" ask join joined
result "a page fails, and it gets the signal" page_fails
end

result "python3 with $mib MiB and threads starts" begin python3 "$work/holder.py" "$mib"
result "it is moved onto the device" moved $((mib << 20)) attach
stopped
result "its content is right" ask check right
result "it is moved back" moved $((mib << 20)) detach
stopped
result "its content is right" ask check right
result "its threads end, and are joined" ask join joined
end

other_user() {
	begin setpriv --reuid=65534 --regid=65534 --clear-groups attached-static && moved 8000000 attach && ask check right &&
		moved 8000000 detach && ask check right && end
}

child_is_moved_back() {
	begin python3 "$work/heir.py" && moved 4000000 attach && echo fork >&8 && answer || return 1
	parent=$pid child=$answer
	pid=$child
	moved 4000000 detach && ask check right && pid=$parent && [ "$(mapped)" -gt 0 ]
	status=$?
	kill "$child"
	pid=$parent
	end
	return "$status"
}

go_program() {
	begin attached-go && moved 1000000 attach && ask check right && moved 1000000 detach && ask check right && end
}

redis() {
	redis-cli -p "$port" "$@"
}

start_redis() {
	redis-server --port "$port" --save '' --dir "$work" --enable-debug-command yes >"$work/log" 2>&1 &
	pid=$!
	for _ in $(seq 120); do
		[ "$(redis ping 2>/dev/null)" != PONG ] || break
		sleep 1
	done
	redis eval "for i = 0, 99999 do redis.call('SET', string.format('key:%012d', i), ARGV[1]) end" 0 "$value" &&
		digest=$(redis debug digest) && [ ${#digest} = 40 ]
}

# Both ways while clients write what is there already: none of them sees an error, which would end them.
redis_under_load() {
	redis-benchmark -p "$port" -q -l -r 100000 -n 100000 -P 16 set key:__rand_int__ "$value" >"$work/benchmark" 2>&1 &
	benchmark=$!
	sleep 1
	moved 40000000 attach && cp "$work/moved" "$work/attached" && same_digest && kill -0 "$benchmark" &&
		moved 40000000 detach && cat "$work/attached" >>"$work/moved" && same_digest && before=$(commands) && sleep 3 &&
		[ "$(commands)" -gt "$((before + 1000))" ] && kill "$benchmark" && same_digest && ! grep -i error "$work/benchmark"
}

commands() {
	redis info stats | tr -d '\r' | sed -n 's/^total_commands_processed://p'
}

same_digest() {
	now=$(redis debug digest)
	echo "$digest before, $now now"
	[ "$now" = "$digest" ]
}

cat >"$work/wander.py" <<'PROGRAM'
import itertools, os, sys, time

for cpu in itertools.cycle(os.sched_getaffinity(0)):
    try:
        for tid in os.listdir(f"/proc/{sys.argv[1]}/task"):
            os.sched_setaffinity(int(tid), {cpu})
    except OSError:
        pass
    time.sleep(0.002)
PROGRAM

there_and_back() {
	moved 40000000 attach && kill -0 "$pid" "$benchmark" && moved 40000000 detach && kill -0 "$pid" "$benchmark"
}

# The kernel writes to each thread's area for restartable sequences where it runs, and kills it if that is not found again.
# Also the thread that makes the system calls by which the memory is moved gets to other processors.
redis_wanders() {
	redis-benchmark -p "$port" -q -l -r 100000 -n 100000 -P 16 set key:__rand_int__ "$value" >"$work/benchmark" 2>&1 &
	benchmark=$!
	python3 "$work/wander.py" "$pid" &
	wanderer=$!
	status=0
	for _ in $(seq "$rounds"); do
		there_and_back || { status=1; break; }
	done
	kill "$benchmark" "$wanderer"
	[ "$status" = 0 ] && same_digest && ! grep -i error "$work/benchmark"
}

redis_page_fails() {
	moved 40000000 attach && anon_rmap poison "$pid" --random 1 --seed 1
}

result "a child is moved back, and its parent is not" child_is_moved_back
result "a program of a user without the right is moved both ways" other_user
result "a Go program is moved onto the device and back" go_program
note <"$work/output"
result "redis-server is filled" start_redis
result "it is moved both ways under load, and its digest stays" redis_under_load
stopped
result "it is moved $rounds times while its threads get to other processors" redis_wanders
result "one of its pages fails" redis_page_fails
kill -9 "$pid"
wait "$pid"

cat >"$work/filter.py" <<'PROGRAM'
import ctypes, time
ctypes.CDLL(None).prctl(38, 1, 0, 0, 0)
program = (ctypes.c_uint64 * 1)(0x7fff000000000006)
class Filter(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("program", ctypes.c_void_p)]
assert ctypes.CDLL(None).prctl(22, 2, ctypes.byref(Filter(1, ctypes.addressof(program))), 0, 0) == 0
time.sleep(1000)
PROGRAM
python3 "$work/filter.py" &
pid=$!
sleep 2
result "a program with a seccomp filter is refused" refused seccomp
kill "$pid"
sleep 1000 &
pid=$!
sleep 1
strace -o "$work/strace" -p "$pid" &
sleep 2
result "a program that is traced is refused" refused "is traced by strace"
kill "$!" "$pid"
pid=2
result "a thread of the kernel is refused" refused "thread of the kernel"
wait
result "nothing is left" nothing_left
finish
