#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# usage: selftests/programs/package.sh
#
# The Debian package of `make deb` is installed, used by those who may, and removed.
# shellcheck source-path=SCRIPTDIR disable=SC2317 # result calls the functions
. "$(dirname "$(realpath "$0")")/ktap.sh"

package=$here/anon-rmap.deb
plan 17 dpkg udevadm /usr/lib/systemd/systemd-udevd setpriv useradd "$package"

is_loaded() {
	grep -q '^anon_rmap ' /proc/modules
}

is_unloaded() {
	! is_loaded
}

# What is there now is the bench's.
rmmod anon_rmap

# as_member COMMAND…, as_another COMMAND…: as who is in the device's group, and who is not.
as_member() {
	setpriv --reuid=member --regid=member --init-groups "$@"
}

as_another() {
	setpriv --reuid=nobody --regid=nogroup --clear-groups "$@"
}

uses_it() {
	/usr/bin/anon_rmap-run --require --malloc=none -- python3 -c 'print(sum(bytearray(1 << 24)))'
}

may_not_use_it() {
	as_another /usr/bin/anon_rmap-run --require --malloc=none -- true
	status=$?
	[ "$status" = 125 ]
}

may_not_drill() {
	as_member /usr/bin/anon_rmap poison $$ 0x1000 2>&1 | grep 'needs root'
}

# Its mode is that of the rule, once udev has seen it: in a chroot udevadm does not wait.
belongs_to_the_group() {
	# shellcheck disable=SC2016 # for the inner shell
	within 20 sh -c 'until [ "$(stat -c "%G %a" /dev/anon_rmap)" = "anon_rmap 660" ]; do sleep 0.1; done'
}

# Something runs on the device meanwhile: until $user is killed.
use() {
	/usr/bin/anon_rmap-run --require --malloc=none -- python3 -c '
import mmap, time
memory = mmap.mmap(-1, 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
time.sleep(1000)' >/dev/null 2>&1 &
	user=$!
	within 20 sh -c "until grep -q anon_rmap.$ /proc/$user/maps; do sleep 0.1; done"
}

is_not_removed() {
	! dpkg -r anon-rmap && is_loaded
}

leaves_nothing() {
	! dpkg-query -L anon-rmap 2>/dev/null | grep anon_rmap && ! find /usr/lib/modules /usr/bin /usr/lib/udev -name '*anon_rmap*' | grep .
}

# As systemd-modules-load does.
boot() {
	xargs modprobe -a </usr/lib/modules-load.d/anon_rmap.conf && is_loaded
}

/usr/lib/systemd/systemd-udevd --daemon
result "is installed" dpkg -i "$package"
result "the module is loaded" is_loaded
result "the group has the device" belongs_to_the_group
useradd -G anon_rmap member
result "root uses it" uses_it
result "a member uses it" as_member /usr/bin/anon_rmap-run --require --malloc=none -- python3 -c 'print(sum(bytearray(1 << 24)))'
result "another user may not" may_not_use_it
result "nor may a member drill" may_not_drill
result "the command finds what it needs" /usr/bin/anon_rmap list
rmmod anon_rmap
result "the next boot loads it" boot
result "for the group" belongs_to_the_group
use
result "a newer one is installed while it is in use" dpkg -i "$package"
result "it stays until the next boot" is_loaded
result "it is not removed while it is in use" is_not_removed
kill "$user"
wait "$user" 2>/dev/null
result "is removed" dpkg -r anon-rmap
result "the module is unloaded" is_unloaded
result "leaves nothing" leaves_nothing
result "and is purged" dpkg -P anon-rmap
pkill systemd-udevd
insmod /usr/libexec/anon_rmap/anon_rmap.ko
finish
