# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=sh
#
# The usage of all scripts. The help of each is the comment at its head, where a line "usage: NAME [ARGUMENT]…" says what
# it takes; each sources this before it does anything.

help() {
	sed '1,/^#$/d; /^#/!Q; /^# shellcheck /d; s/^# \{0,1\}//' "$0"
}

wrong_usage() {
	echo "${0##*/}: $*; --help says how it is used" >&2
	exit 2
}

# option OPTION…, of which the script knows no more than help.
option() {
	case $1 in
	-h | --help)
		help
		exit 0
		;;
	esac
	wrong_usage "unknown option $1"
}

# check_usage USAGE [ARGUMENT]…
check_usage() {
	usage=$1
	shift
	case $usage in
	# Says nothing of arguments, or lets all through to another program.
	'' | *' [ARGUMENT]'*) ;;
	*' '*)
		case ${1-} in
		-*)
			case " $(help | tr -c 'a-z0-9-' ' ') " in
			*" $1 "*) ;;
			*) option "$1" ;;
			esac
			;;
		esac
		;;
	*)
		case ${1-} in
		-*) option "$1" ;;
		?*) wrong_usage "takes no arguments: $1" ;;
		esac
		;;
	esac
	# Those without brackets, after the name.
	[ $# -ge "$(echo "$usage" | tr ' ' '\n' | sed '1d; /^\[/d' | wc -l)" ] || wrong_usage "is missing an argument"
}

case ${1-} in
-h | --help)
	# Unless the head says that the script has more to say.
	case $(help) in
	*--help*) ;;
	*) option "$1" ;;
	esac
	;;
*) check_usage "$(help | sed -n 's/^usage: //p')" "$@" ;;
esac
