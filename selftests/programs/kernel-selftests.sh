#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# usage: selftests/programs/kernel-selftests.sh
#
# The kernel's own tests of anonymous memory (tools/testing/selftests/mm), unchanged, on memory of the device. What core
# mm does not let a driver do fails in them, and is told here: nothing else may.
#
# Not run:
#   merge                          that VMAs are merged; the device's never are
#   gup_longterm gup_test          need a kernel with CONFIG_GUP_TEST; long-term pins are refused
#   soft-dirty pagemap_ioctl       what is written is not tracked in page tables
#   uffd-*                         userfaultfd: core mm accepts anonymous memory, shmem and hugetlb only
#   migration rmap compaction_test page migration
#   memory-failure                 the kernel's own memory_failure() does not know the pages
#   mkdirty                        forced writes by ptrace, and userfaultfd
#   khugepaged transhuge-stress split_huge_page_test folio_split_race_test thuge-gen prctl_thp_disable hugetlb*
#   write_to_hugetlbfs ksm_*       huge pages and KSM
#   hmm-tests                      needs a driver of its own (CONFIG_TEST_HMM)
#   on-fault-limit                 not as root
#   mlock-random-test              needs a library (libcap); what it does, madvise.c and random_program.c do
#   protection_keys pkey_sighandler_tests
#                                  go on in the background when they have ended
#   va_high_addr_switch            needs 5-level page tables, which guests have switched off
#   map_populate droppable memfd_secret
#                                  have no private anonymous memory
# shellcheck source-path=SCRIPTDIR disable=SC2317 # result calls the functions
. "$(dirname "$(realpath "$0")")/ktap.sh"

plan 13 kernel-mremap_test

# kernel_test NAME [DIFFERENCES]: all passes but results that the pattern matches.
kernel_test() {
	faults=$(stat faults_total)
	rm -f "$work/report"
	within 120 anon_rmap-run --require --shared --malloc=none --report="$work/report" "kernel-$1" >"$work/test" 2>&1
	status=$?
	faults=$(($(stat faults_total) - faults))
	# One may never touch what it maps, another may be killed before it can report.
	[ "$faults" != 0 ] || grep -Eq 'served [1-9][0-9]* mappings' "$work/report" || status="$status, nothing was served"
	echo "$faults faults, exit status $status"
	grep -E 'not ok|Totals:' "$work/test" | sed 's/^[ #]*//'
	# kselftests exit with 1 when one of theirs has failed.
	case $status in
	0 | 1) ;;
	*) return 1 ;;
	esac
	grep -q '^ok ' "$work/test" && ! grep -E '^ *not ok' "$work/test" | grep -Evq "${2:-^$}"
}

passes() {
	result "$1" kernel_test "$@"
	grep Totals "$work/output" | note
}

# But for huge pages, swap, and what needs CONFIG_GUP_TEST.
passes cow
passes mremap_dontunmap
passes map_fixed_noreplace
passes process_madv
passes mrelease_test
passes mdwe_test
passes pfnmap
# VMAs are not merged, userfaultfd.
passes mremap_test 'expand merge|multiple invalid vmas'
# What is written is not tracked in page tables.
passes madv_populate 'softdirty after MADV_POPULATE_WRITE'
# VMAs are not merged.
passes mlock2-tests 'failed to merge VMAs'
# MADV_WIPEONFORK, MADV_FREE, userfaultfd, VMAs are not merged.
passes guard-regions 'anon\.(fork_wipeonfork|lazyfree|uffd|smaps)$'
# For mseal(), what has a file is not anonymous, so its pages may be dropped; VMAs are not merged.
passes mseal_test 'test_seal_discard_|test_seal_merge_and_split'
result "nothing is left" nothing_left
finish
