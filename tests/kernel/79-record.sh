#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# Crash points of the real module: a recorder below it notes what reaches the
# devices while threads write, discard, flush and read; then every image that
# they may hold at each point is opened, checked and compared in user space.
# SAMPLE=1 make check-debug T=record: a longer run.

. ./lib.sh

operations=60
[ "${SAMPLE:-}" != 1 ] || operations=250

# The images are many: only where user space runs at full speed.
if ! grep -q 'User Mode Linux' /proc/cpuinfo; then
	echo "1..0 # SKIP emulated processors are too slow"
	exit 0
fi

# recorded UNIT MIB LEFT "MIB OF DEVICES"...: crash a run on such a pool.
recorded() {
	local unit=$1 left=$2 i=0 size volumes=() images=() devices=() out
	shift 2
	for size in "$@"; do
		disk "r$i" "$size" 1	# with a volatile cache: flushes and FUA are passed down
		create "rec$i" "0 $(blockdev --getsz "/dev/r$i") dynmap-record /dev/r$i $i"
		devices+=("/dev/mapper/rec$i")
		i=$((i + 1))
	done
	pool "$unit" 0 "" "${devices[@]}"
	for i in 0 1 2; do volume "$i" 512; volumes+=("/dev/mapper/vol$i"); done
	# Little is left, so that blocks go from one volume to another.
	volume 9 65536
	dd if=/dev/zero of=/dev/mapper/vol9 bs=4k count=$(($(free_blocks) - left)) oflag=direct \
		status=none || fail "ballast"
	for i in 0 1 2 9; do remove "vol$i"; done
	remove "$POOL"
	# The log begins here, with the devices as they are.
	for i in "${!devices[@]}"; do
		dd if="/dev/r$i" of="/run/record$i" bs=1M iflag=direct status=none
		images+=("/run/record$i")
	done
	: > /dev/dynmap-record
	pool "$unit" 0 "" "${devices[@]}"
	for i in 0 1 2; do volume "$i" 512; done
	"$TOOLS/crash/load" "${volumes[@]}" "$operations" "$RANDOM" || fail "load"
	for i in 0 1 2; do remove "vol$i"; done
	remove "$POOL"
	cat /dev/dynmap-record > /run/log
	for i in "${!devices[@]}"; do remove "rec$i"; disk_remove "r$i"; done
	out=$("$TOOLS/crash/replay" /run/log 3 "${images[@]}" 2>&1) || fail "replay"
	echo "# $out"
	rm -f /run/log "${images[@]}"
}

free_blocks() {
	local status used total
	status=$(dmsetup status "$POOL" | cut -d' ' -f6)
	used=${status%/*} total=${status#*/}
	echo $(((total - used) * unit / 8))
}

one_device() { recorded 128 320 7; }
two_devices() { recorded 32 280 5 6; }
small_units() { recorded 8 230 6; }

# It stays: KASAN would take what is allocated at its place later for its variables.
insmod "$TOOLS/record/dm-dynmap-record.ko"
run "recorded on one device" one_device
run "recorded on two devices" two_devices
run "recorded with units of one block" small_units
finish
