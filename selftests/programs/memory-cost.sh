#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# usage: selftests/programs/memory-cost.sh
#
# What 1 GiB of the device costs beside its pages, and that it is free again. Needs a guest with 2 GiB.
# shellcheck source-path=SCRIPTDIR disable=SC2317 # result calls the functions
. "$(dirname "$(realpath "$0")")/ktap.sh"

plan 4 python3

cat >"$work/cost.py" <<'END'
import mmap, os, sys, time

SIZE = 1 << 30

def free_now():
    """Bytes of the pages that are free, those included that CPUs keep for themselves."""
    pages = 0
    with open('/proc/zoneinfo') as file:
        for line in file:
            words = line.split()
            if words[0] in ('nr_free_pages', 'count:'):
                pages += int(words[1])
    return pages * mmap.PAGESIZE

def free():
    """Bytes that are free once what is freed with a delay has been."""
    last = 0
    for _ in range(20):
        with open('/proc/sys/vm/drop_caches', 'w') as file:
            file.write('3')
        now = free_now()
        if abs(now - last) < 1 << 18:
            break
        last = now
        time.sleep(0.5)
    return now

def touch(memory, size=SIZE):
    for offset in range(0, size, mmap.PAGESIZE):
        memory[offset] = 1

device = os.open('/dev/anon_rmap', os.O_RDWR)
memory = mmap.mmap(device, SIZE, mmap.MAP_PRIVATE)
# What this program itself needs is allocated once all of it has run.
touch(memory, SIZE // 64)
free()
memory.madvise(mmap.MADV_DONTNEED)
before = free()
touch(memory)
touched = before - free()
memory.madvise(mmap.MADV_DONTNEED)
dropped = before - free()
touch(memory)
memory.close()
unmapped = before - free()
# What is not free again was taken by others meanwhile, or shows there.
for name, cost in ('touched', touched - SIZE - dropped), ('dropped', dropped), ('unmapped', unmapped):
    print(name, cost, f'{cost / SIZE:.2%}')
END

# costs_at_most MOMENT N: so much memory is gone at that moment of the measurement, at most N thousandths of 1 GiB.
costs_at_most() {
	cost=$(sed -n "s/^$1 \([-0-9]*\) .*/\1/p" "$work/costs")
	echo "$1: $cost bytes"
	[ "$cost" -le $((1024 * 1024 * 1024 * $2 / 1000)) ]
}

measure() {
	python3 "$work/cost.py" >"$work/costs"
}

result "1 GiB is touched" measure
note <"$work/costs"
result "1 GiB costs at most 2 % beside the pages" costs_at_most touched 20
result "it is free again after MADV_DONTNEED" costs_at_most dropped 5
result "it is free again after munmap" costs_at_most unmapped 2
finish
