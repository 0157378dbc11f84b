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

# bytes OFFSET COUNT: the distinct bytes there.
bytes() {
	dd if=/dev/mapper/vol0 bs=512 skip=$(($1 / 512)) count=$(($2 / 512)) iflag=direct \
		status=none | od -An -v -tx1 -w1 | sort -u | tr -d ' \n'
}

# Another byte than zero: in what is not written, in padding, after a discard,
# after opening again; chosen only while the volume is empty and not in use.
fill_byte() {
	disk a 64
	pool 128 0 "" /dev/a || fail "no pool"
	dmsetup message "$POOL" 0 create_thin 0
	refused "expected set" dmsetup message "$POOL" 0 set 0 colour 1
	refused "invalid value" dmsetup message "$POOL" 0 set 0 fill 256
	dmsetup message "$POOL" 0 set 0 fill 0xa5 || fail "fill"
	volume 0 2097152 || fail "no volume"
	refused "its fill byte stays" dmsetup message "$POOL" 0 set 0 fill 0
	expect "unmapped" "$(bytes 0 65536)" a5
	dd if=/dev/zero of=/dev/mapper/vol0 bs=512 seek=3 count=1 oflag=direct conv=fsync status=none
	expect "written" "$(bytes 1536 512)" 00
	expect "padding before" "$(bytes 0 1536)" a5
	expect "padding behind" "$(bytes 2048 2048)" a5
	expect "reserved" "$(bytes 4096 4096)" a5
	dd if=/dev/zero of=/dev/mapper/vol0 bs=4k seek=8 count=8 oflag=direct status=none
	blkdiscard -o 32768 -l 16384 /dev/mapper/vol0
	expect "discarded" "$(bytes 32768 16384)" a5
	expect "kept" "$(bytes 49152 16384)" 00
	remove vol0; remove "$POOL"
	pool 128 0 "" /dev/a && volume 0 2097152 || fail "does not open again"
	expect "after opening again" "$(bytes 0 1536)$(bytes 1536 512)$(bytes 65536 65536)" a500a5
	remove vol0
	refused "its fill byte stays" dmsetup message "$POOL" 0 set 0 fill 0
}

# Each volume may have an allocation size of its own.
allocation_size() {
	disk a 64
	pool 128 0 "" /dev/a || fail "no pool"
	dmsetup message "$POOL" 0 create_thin 0
	refused "invalid value" dmsetup message "$POOL" 0 set 0 allocation_size 24
	dmsetup message "$POOL" 0 set 0 allocation_size 1024 || fail "allocation size"
	volume 0 2097152 && volume 1 2097152 || fail "no volume"
	dd if=/dev/zero of=/dev/mapper/vol0 bs=4k count=1 oflag=direct status=none
	dd if=/dev/zero of=/dev/mapper/vol1 bs=4k count=1 oflag=direct status=none
	expect "its own" "$(dmsetup status vol0 | cut -d' ' -f4)" 1024
	expect "the pool's" "$(dmsetup status vol1 | cut -d' ' -f4)" 128
}

run "zeros without device reads" zeros
run "padding of a part of a block" padding
run "a fill byte" fill_byte
run "an allocation size" allocation_size
finish
