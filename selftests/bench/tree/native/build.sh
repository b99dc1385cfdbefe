#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# build.sh LINUX OUT: builds the native benchmark into the directory OUT, with Linux's interval tree from the
# kernel source in LINUX. Runs where CC, cargo and rustc are those wanted.
set -eu

linux=$1 out=$2
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)

# Only the headers under test are the kernel's; linux.h stands for those that they include.
headers=$out/include
rm -rf "$headers"
mkdir -p "$headers/linux"
for header in rbtree rbtree_types rbtree_augmented interval_tree_generic; do
	cp "$linux/include/linux/$header.h" "$headers/linux/"
done
for header in container_of stddef rcupdate compiler export; do
	echo "#include \"$here/linux.h\"" >"$headers/linux/$header.h"
done

# The kernel's own choices, as far as user space allows them.
cflags="-std=gnu11 -O2 -Wall -fno-strict-aliasing -fno-strict-overflow -fno-delete-null-pointer-checks
	-fno-stack-protector -fcf-protection=none -fno-pic -mno-red-zone -mno-sse -mno-mmx -mno-avx
	-fno-asynchronous-unwind-tables -falign-functions=16 -include $here/linux.h -I$headers"
# shellcheck disable=SC2086 # a list of options
{
	${CC:-cc} $cflags -c "$linux/lib/rbtree.c" -o "$out/rbtree.o"
	${CC:-cc} $cflags -c "$here/linux.c" -o "$out/in_node.o"
	${CC:-cc} $cflags -DTHROUGH_POINTER -c "$here/linux.c" -o "$out/through_pointer.o"
}
rm -f "$out/liblinux.a"
ar rcs "$out/liblinux.a" "$out/rbtree.o" "$out/in_node.o" "$out/through_pointer.o"

cd "$here"
RUSTFLAGS="-Cno-vectorize-loops -Cno-vectorize-slp -Crelocation-model=static -Lnative=$out -lstatic=linux" \
	cargo build --quiet --release --offline --target x86_64-unknown-linux-gnu --target-dir "$out/target"
cp "$out/target/x86_64-unknown-linux-gnu/release/bench-tree" "$out/bench-tree"
