#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# usage: selftests/programs/libgc.sh
#
# libgc, which collects garbage in steps while the program runs: which old objects were written meanwhile it learns from
# soft-dirty bits. If one is missing, it frees what is in use.
# shellcheck source-path=SCRIPTDIR disable=SC2317 # result calls the functions
. "$(dirname "$(realpath "$0")")/ktap.sh"

plan 5 python3

cat >"$work/collect.py" <<'END'
"""collect.py [fork]: gives old objects the only pointers to new ones, between steps of the collector, and with "fork" between forks."""
import ctypes, os, random, sys

OBJECTS, ROUNDS, WRITES, GARBAGE = 10000, 30, 400, 3000
WORDS = 16  # of an object: the address of a new one, a number
PAIR = ctypes.c_uint64 * 2

gc = ctypes.CDLL('libgc.so.1')
for name in 'GC_malloc', 'GC_malloc_uncollectable':
    getattr(gc, name).argtypes, getattr(gc, name).restype = [ctypes.c_size_t], ctypes.c_void_p
gc.GC_get_gc_no.restype = gc.GC_get_heap_size.restype = ctypes.c_size_t
gc.GC_init()
gc.GC_enable_incremental()
if not gc.GC_is_incremental_mode():
    sys.exit('libgc does not collect incrementally here')

roots = (ctypes.c_uint64 * OBJECTS).from_address(gc.GC_malloc_uncollectable(8 * OBJECTS))
for i in range(OBJECTS):
    roots[i] = gc.GC_malloc(8 * WORDS)
gc.GC_gcollect()
gc.GC_gcollect()
chance = random.Random(1)
lost = checked = 0
for turn in range(ROUNDS):
    for _ in range(WRITES):
        i = chance.randrange(OBJECTS)
        new = gc.GC_malloc(8 * WORDS)
        PAIR.from_address(new)[1] = i + 1
        PAIR.from_address(roots[i])[0] = new
    for _ in range(GARBAGE):
        PAIR.from_address(gc.GC_malloc(8 * WORDS))[1] = 1 << 63
    if sys.argv[1:] == ['fork']:
        child = os.fork()
        if not child:
            os._exit(0)
        os.waitpid(child, 0)
    while gc.GC_collect_a_little():
        pass
    for i in range(OBJECTS):
        new = PAIR.from_address(roots[i])[0]
        if new:
            checked += 1
            if PAIR.from_address(new)[1] != i + 1:
                lost += 1
                PAIR.from_address(roots[i])[0] = 0
print(f'{checked} objects looked at, {lost} lost; {gc.GC_get_gc_no()} collections, a heap of {gc.GC_get_heap_size() >> 10} KiB')
# Two of them, at least, are not those from before.
sys.exit(lost or gc.GC_get_gc_no() < 4)
END

on_device() {
	served 500 anon_rmap-run --require python3 "$work/collect.py" "$@"
}

result "in anonymous memory" python3 "$work/collect.py"
note <"$work/output"
result "in memory of the device" on_device
note <"$work/output"
result "in anonymous memory, with forks" python3 "$work/collect.py" fork
note <"$work/output"
result "in memory of the device, with forks" on_device fork
note <"$work/output"
result "nothing is left" nothing_left
finish
