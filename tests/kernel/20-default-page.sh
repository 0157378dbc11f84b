#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# What was never written reads as zeros, without any I/O to the devices.
. ./lib.sh

zeros() {
	local before
	disk a 64; disk b 64
	pool 2048 0 "" /dev/a /dev/b && volume 0 2147483648 || fail "no volume"
	# A surplus: the unit is 1 MiB, one block of it is written.
	dd if=/dev/urandom of=/dev/mapper/vol0 bs=4k count=1 oflag=direct status=none
	expect "space for one block" "$(dmsetup status vol0 | cut -d' ' -f4)" 2048
	before="$(stat_of a 1) $(stat_of b 1)"
	cmp -n 1044480 -i 4096:0 /dev/mapper/vol0 /dev/zero || fail "reserved"
	dd if=/dev/mapper/vol0 bs=1M skip=1000 count=64 iflag=direct status=none |
		cmp -n 67108864 - /dev/zero || fail "unmapped"
	expect "device reads" "$(stat_of a 1) $(stat_of b 1)" "$before"
}

# The rest of a block of which a part is written, on devices full of old data.
padding() {
	disk a 64
	tr '\0' 'x' < /dev/zero | dd of=/dev/a bs=1M seek=1 iflag=fullblock count=62 oflag=direct status=none
	pool 8 0 "" /dev/a && volume 0 2097152 || fail "no volume"
	printf 'y%.0s' $(seq 512) | dd of=/dev/mapper/vol0 bs=512 seek=3 count=1 oflag=direct \
		iflag=fullblock status=none
	dd if=/dev/mapper/vol0 bs=4k count=1 iflag=direct status=none | tr -d '\0' | tr -d y |
		wc -c | grep -qx 0 || fail "stale data"
}

run "zeros without device reads" zeros
run "padding of a part of a block" padding
finish
