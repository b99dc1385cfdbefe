#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# usage: selftests/programs/redis.sh
#
# A Redis server on memory of the device, which saves its data while clients write to all of it: the forked saver must
# see the data of the moment of the fork. What is written is what is there already, so that the digest stays the same.
# REDIS_KEYS in the environment says how many keys there are (200000).
# shellcheck source-path=SCRIPTDIR disable=SC2317 # result calls the functions
. "$(dirname "$(realpath "$0")")/ktap.sh"

keys=${REDIS_KEYS:-200000}
port=6390
value=$(printf '%0400d' 7)

plan 8 redis-server redis-cli redis-benchmark

redis() {
	redis-cli -p "$port" "$@"
}

start() {
	anon_rmap-run --require --malloc=none redis-server --port "$port" --save '' --dir "$work" --dbfilename dump.rdb \
		--enable-debug-command yes --daemonize no >>"$work/log" 2>&1 &
	server=$!
	for _ in $(seq 120); do
		[ "$(redis ping 2>/dev/null)" != PONG ] || return 0
		sleep 1
	done
	tail "$work/log"
	return 1
}

stop() {
	redis shutdown nosave
	wait "$server"
}

fill() {
	redis eval "for i = 0, $keys - 1 do redis.call('SET', string.format('key:%012d', i), ARGV[1]) end" 0 "$value" &&
		digest=$(redis debug digest) && echo "$digest"
}

has_pages() {
	echo "$(stat anons) pages"
	[ "$(stat anons)" -ge $((keys * 400 / 4096)) ]
}

write_all() {
	redis-benchmark -p "$port" -q -r "$keys" -n $((keys * 2)) -P 16 set key:__rand_int__ "$value"
}

save_under_load() {
	write_all >"$work/benchmark" 2>&1 &
	benchmark=$!
	copies=$(stat copies_total)
	redis bgsave
	while redis info persistence | grep -q 'rdb_bgsave_in_progress:1'; do
		sleep 0.2
	done
	copies=$(($(stat copies_total) - copies))
	wait "$benchmark" || return 1
	redis info persistence | grep rdb_last_bgsave_status:
	echo "$copies pages were copied during the save"
	redis info persistence | grep -q 'rdb_last_bgsave_status:ok' && [ "$copies" -ge 1000 ]
}

same_digest() {
	now=$(redis debug digest)
	echo "$digest before, $now now"
	[ "$now" = "$digest" ] && [ ${#digest} = 40 ]
}

result "the server starts" start
result "it is filled" fill
result "its data is on the device" has_pages
note <"$work/output"
result "it saves its data while clients overwrite it" save_under_load
note <"$work/output"
result "the same digest after the save" same_digest
stop
result "another server loads the dump" start
result "the same digest after loading" same_digest
stop
result "nothing is left" nothing_left
finish
