# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# Sourced by every kernel test. Owns: KTAP output, disks, pools and volumes,
# and cleaning up. A test file names its cases with `run NAME FUNCTION` and
# ends with `finish`; a case fails by calling `fail TEXT`.

set -u
ktap_number=0 ktap_failed=0 case_failed=0
POOL=dynmap-test
export TOOLS=${MODULE%/*}
DM=(dmsetup --noudevsync)

fail() { echo "# $*"; case_failed=1; }

# expect WHAT IS WANTED
expect() { [ "$2" = "$3" ] || fail "$1: is '$2', wanted '$3'"; }

# refused WORD COMMAND...: the command fails, and the kernel says WORD.
refused() {
	local word=$1
	shift
	dmesg -C
	if "$@" > /dev/null 2>&1; then
		fail "accepted: $*"
	elif ! dmesg | grep -q -- "$word"; then
		fail "no word of '$word': $(dmesg | tail -n 2)"
	fi
}

# disk NAME MIB [CACHE]: a null_blk disk in memory, 512-byte sectors.
disk() {
	local dir=/sys/kernel/config/nullb/$1
	mkdir "$dir"
	echo 1 > "$dir/memory_backed"
	echo "$2" > "$dir/size"
	echo 512 > "$dir/blocksize"
	echo 1 > "$dir/discard"
	[ -z "${3:-}" ] || echo "$3" > "$dir/cache_size"
	echo 1 > "$dir/power"
}

disk_remove() {
	echo 0 > "/sys/kernel/config/nullb/$1/power"
	rmdir "/sys/kernel/config/nullb/$1"
}

# create NAME TABLE
create() { "${DM[@]}" create "$1" --table "$2" && dmsetup mknodes; }

# pool UNIT LOW_WATER "FEATURES" DEV...
pool() {
	local unit=$1 low=$2 features=$3
	shift 3
	create "$POOL" "0 16384 dynmap-pool $# $* $unit $low $features"
}

# volume ID SECTORS: create it if it is not there, and activate it.
volume() {
	dmsetup message "$POOL" 0 create_thin "$1" 2> /dev/null
	create "vol$1" "0 $2 dynmap /dev/mapper/$POOL $1"
}

remove() { "${DM[@]}" remove "$@" || fail "cannot remove $*"; }

# becomes WHAT WANTED COMMAND...: wait until the command says so, for at most 20 s.
becomes() {
	local what=$1 wanted=$2
	shift 2
	for _ in $(seq 200); do
		[ "$("$@")" = "$wanted" ] && return
		sleep 0.1
	done
	fail "$what: is '$("$@")', wanted '$wanted'"
}

mode() { dmsetup status "$POOL" | cut -d' ' -f8; }
mode_becomes() { becomes "mode" "$1" mode; }

# through NAME DISK: a device whose table can be swapped for another one.
through() { create "$1" "0 $(blockdev --getsz "/dev/$2") linear /dev/$2 0"; }
swap() {
	"${DM[@]}" reload "$1" --table "$2"
	"${DM[@]}" suspend --nolockfs --noflush "$1"
	"${DM[@]}" resume "$1"
}
fails() { swap "$1" "0 $(blockdev --getsz "/dev/mapper/$1") error"; }
works() { swap "$1" "0 $(blockdev --getsz "/dev/mapper/$1") linear /dev/$2 0"; }

# stat DISK FIELD: 1 reads, 3 sectors read, 5 writes, 7 sectors written, 16 flushes
stat_of() { awk -v n="$2" '{ print $n }' "/sys/block/$1/stat"; }

cleanup() {
	local target name
	umount /run/mnt 2> /dev/null
	for target in dynmap dynmap-pool dynmap-record thin thin-pool linear flakey error; do
		for name in $(dmsetup ls --target $target 2> /dev/null | awk '/\(/ { print $1 }'); do
			"${DM[@]}" remove "$name" 2> /dev/null
		done
	done
	for name in /sys/kernel/config/nullb/*/; do
		[ -d "$name" ] && disk_remove "$(basename "$name")"
	done
}

run() {
	case_failed=0
	ktap_number=$((ktap_number + 1))
	dmesg -C
	"$2"
	if dmesg | grep -qE 'BUG|WARNING|KASAN|Call Trace|INFO: (task|possible)|general protection'; then
		dmesg | grep -vE '^$' | sed 's/^/# /' | tail -n 40
		fail "the kernel complained"
	fi
	cleanup
	if [ "$case_failed" -eq 0 ]; then
		echo "ok $ktap_number $1"
	else
		echo "not ok $ktap_number $1"
		ktap_failed=1
	fi
}

finish() {
	echo "1..$ktap_number"
	exit "$ktap_failed"
}

echo "TAP version 13"
mkdir -p /run/mnt
