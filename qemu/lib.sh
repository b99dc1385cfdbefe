# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# What the scripts of this directory share: their usage, the cache of preparation steps and the sysroot's chroot.
# Each script sources this file first.

set -euo pipefail

TOP=$(realpath "$(dirname "${BASH_SOURCE[0]}")/..")
. "$TOP/qemu/help.sh"
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/anon_rmap
# What is built goes there: as for kbuild, O is a directory to take in place of that of the sources.
OUTPUT=$(realpath -m "${O:-$TOP}")
BUILD=$OUTPUT/build
# The architecture, by kbuild's name. What is built for another one than x86 has a directory of its own, and so have the scripts
# that prepare it: whoever calls one of qemu/ gets that of qemu/ARCH/.
ARCH=${ARCH:-x86}
[[ $ARCH != x86_64 ]] || ARCH=x86
[[ $ARCH == x86 || $ARCH == arm64 ]] || wrong_usage "no architecture '$ARCH': ARCH is x86 or arm64"
export KBUILD=qemu/kbuild TRIPLET=x86_64-linux-gnu
if [[ $ARCH != x86 ]]; then
	BUILD+=/$ARCH
	KBUILD=qemu/$ARCH/kbuild TRIPLET=aarch64-linux-gnu
	others=$TOP/qemu/$ARCH/${0##*/}
	[[ $(realpath "$0") != "$TOP/qemu/${0##*/}" || ! -x $others ]] || exec "$others" "$@"
fi
# The series of Debian's kernel. What is built for another one than the first has a directory of its own.
mapfile -t KERNELS < <(sed -n 's/^linux-source-\([^ ]*\) .*/\1/p' "$TOP/qemu/pins")
export KERNEL=${KERNEL:-${KERNELS[0]}}
[[ $KERNEL != *[[:space:]]* && " ${KERNELS[*]} " == *" $KERNEL "* ]] || wrong_usage "no kernel '$KERNEL': KERNEL is one of ${KERNELS[*]}"
[[ $KERNEL == "${KERNELS[0]}" ]] || BUILD+=/$KERNEL
# A script that runs another can be elsewhere then.
[[ -z ${O-} ]] || export O=$OUTPUT
export LC_ALL=C

say() {
	printf '%s\n' "$*" >&2
}

die() {
	say "${0##*/}: $*"
	exit 125
}

need_root() {
	((EUID == 0)) || die "needs root, for apt and debootstrap, as $* is not there: run it again as root"
}

kernel_is_known() {
	[[ $1 == stock || $1 == debug ]] || wrong_usage "no kernel '$1': stock or debug"
	[[ $1 == stock || $ARCH == x86 ]] || wrong_usage "no debug kernel for $ARCH, only the stock one"
}

# A key made of the content of the given files, but for their comments.
key() {
	sed '/^[[:space:]]*#/d' "$@" | sha256sum | cut -c1-12
}

# The last line of a log, as much of it as a terminal's line has room for.
last_line() {
	tail -n 1 "$1" | tr -d '[:cntrl:]' | cut -c 1-50
}

# step NAME TITLE COMMAND… runs COMMAND in the background, with its output in a log, and shows the time it takes.
step() {
	local name=$1 title=$2 log=$CACHE/log/$1.log start=$SECONDS status=0 pid
	shift 2
	mkdir -p "$CACHE/log"
	# A process group of its own, so that an interruption ends all of it.
	set -m
	"$@" >"$log" 2>&1 </dev/null &
	pid=$!
	set +m
	# shellcheck disable=SC2064 # this step's process group
	trap "kill -- -$pid 2>/dev/null; exit 130" INT TERM HUP
	while kill -0 "$pid" 2>/dev/null; do
		if [[ -t 2 ]]; then
			printf '\r\e[K%5d s  %s: %s' $((SECONDS - start)) "$title" "$(last_line "$log")" >&2
		elif (((SECONDS - start) % 30 == 0)); then
			say "$(printf '%5d s  %s' $((SECONDS - start)) "$title")"
		fi
		sleep 1
	done
	wait "$pid" || status=$?
	trap - INT TERM HUP
	[[ ! -t 2 ]] || printf '\r\e[K' >&2
	if ((status)); then
		tail -n 30 "$log" >&2
		die "$title failed with status $status after $((SECONDS - start)) s; the whole log: $log"
	fi
	say "$(printf '%5d s  %s: done' $((SECONDS - start)) "$title")"
	# What a step wants to be read, it marks with "note: ".
	sed -n 's/^note: /         /p' "$log" >&2
}

# cached NAME KEY TITLE FUNCTION prints the cache directory NAME-KEY. If it is not there, FUNCTION makes its
# content in a directory given as its argument, which gets the final name only when it is complete.
cached() {
	local name=$1 dir=$CACHE/$1-$2 title=$3 make=$4
	if [[ ! -d $dir ]]; then
		need_root "$dir"
		mkdir -p "$CACHE"
		exec 9>"$CACHE/$name.lock"
		if ! flock --nonblock 9; then
			say "waiting for another run that prepares $name"
			flock 9
		fi
		if [[ ! -d $dir ]]; then
			rm -rf "$CACHE/$name"-*.partial
			mkdir "$dir.partial"
			step "$name" "$title" "$make" "$dir.partial"
			mv "$dir.partial" "$dir"
			find "$CACHE" -maxdepth 1 -name "$name-*" -mtime +14 -exec rm -rf {} +
		fi
		exec 9>&-
	fi
	# What was not used for two weeks is removed.
	[[ ! -w $dir ]] || touch "$dir"
	printf '%s\n' "$dir"
}

# in_root ROOT [DIR:MOUNTPOINT]… -- COMMAND… runs COMMAND in a chroot that sees each DIR at MOUNTPOINT, and the sources with
# what is built of them in build/. The mounts are in a namespace of their own: they end with COMMAND.
in_root() {
	local enter=(unshare --mount)
	# Others than root are root in a namespace of their own.
	((EUID == 0)) || enter+=(--map-root-user --pid --fork)
	# shellcheck disable=SC2016 # for the inner shell
	top=$TOP build=$BUILD "${enter[@]}" -- bash -euc '
		root=$1
		shift
		# The sources can be read-only, and without a build/ to mount anything at.
		mount_sources() {
			mkdir -p "$build"
			mount -t tmpfs tmpfs "$1"
			mkdir "$1/build"
			mount --bind "$build" "$1/build"
			shopt -s dotglob
			for file in "$top"/*; do
				[[ $file != */build ]] || continue
				if [[ -d $file ]]; then
					mkdir "$1/${file##*/}"
				else
					: >"$1/${file##*/}"
				fi
				mount --bind "$file" "$1/${file##*/}"
			done
		}
		mount -t proc proc "$root/proc"
		while [[ $1 != -- ]]; do
			[[ -d $root${1##*:} ]] || mkdir -p "$root${1##*:}"
			if [[ ${1%:*} == "$top" && $build != "$top/build" ]]; then
				mount_sources "$root${1##*:}"
			else
				mount --bind "${1%:*}" "$root${1##*:}"
			fi
			shift
		done
		shift
		exec env -i PATH=/usr/sbin:/usr/bin HOME=/root LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive \
			${http_proxy:+http_proxy="$http_proxy"} ${https_proxy:+https_proxy="$https_proxy"} chroot "$root" "$@"
	' in_root "$@"
}
