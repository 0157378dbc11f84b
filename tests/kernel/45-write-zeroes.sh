#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# WRITE ZEROES: unmaps, or reserves where the caller wants space kept; parts of
# blocks are overwritten. Loop devices, which have it on every kernel.
. ./lib.sh

setup() {
	truncate -s 64M /run/image
	loop=$(losetup -f --show /run/image)
	pool 128 0 "" "$loop" && volume 0 2097152 || fail "no volume"
	dd if=/dev/urandom of=/run/data bs=1M count=4 status=none
	dd if=/run/data of=/dev/mapper/vol0 bs=1M oflag=direct status=none
	before=$(space)		# with what is reserved ahead
}

teardown() {
	remove vol0; remove "$POOL"
	losetup -d "$loop"
	rm -f /run/image
}

space() { dmsetup status vol0 | cut -d' ' -f4; }

# zeroes OFFSET LENGTH [FLAG]: on the volume and on its twin.
zeroes() {
	fallocate "${3:---punch-hole}" -o "$1" -l "$2" /dev/mapper/vol0 || fail "fallocate $*"
	dd if=/dev/zero of=/run/data bs=512 seek=$(($1 / 512)) count=$(($2 / 512)) conv=notrunc \
		status=none
}

same() { cmp -n 4194304 /run/data /dev/mapper/vol0 || fail "content"; }

whole() {
	setup
	zeroes 65536 131072
	expect "unmapped" "$(space)" $((before - 256))
	same
	teardown
}

parts() {
	setup
	zeroes 512 512		# inside a block
	zeroes 7680 1024	# over a boundary
	zeroes 20480 10752	# whole blocks, and a part behind
	zeroes 42496 10240	# one whole block between two parts
	zeroes 53248 4096	# exactly one
	expect "unmapped" "$(space)" $((before - 8 * (2 + 1 + 1)))
	same
	teardown
}

reserved() {
	setup
	zeroes 1048576 1048576 --zero-range
	expect "kept" "$(space)" "$before"
	same
	zeroes 33554432 1048576 --zero-range
	expect "taken" "$(space)" $((before + 2048))
	teardown
}

# features [FEATURE...]: the pool's, from now on.
features() {
	"${DM[@]}" reload "$POOL" --table "0 16384 dynmap-pool 1 $loop 128 0 $# $*"
	"${DM[@]}" suspend "$POOL"; "${DM[@]}" resume "$POOL"
}

# In a full pool zeros over a hole are there without space; a part of a shared block waits.
full() {
	local waiter
	setup
	snap 1 0 && volume 2 2097152 || fail "no snapshot"
	features error_if_no_space
	dd if=/dev/zero of=/dev/mapper/vol2 bs=1M oflag=direct status=none 2> /dev/null
	features
	expect mode "$(mode)" out_of_data_space
	timeout 20 fallocate --zero-range -o 536870912 -l 67108864 /dev/mapper/vol0 ||
		fail "zeros over a hole"
	zeroes 512 512 &
	waiter=$!
	sleep 2
	kill -0 $waiter 2> /dev/null || fail "a part of a shared block did not wait for space"
	blkdiscard /dev/mapper/vol2
	wait $waiter
	cmp -n 4194304 /run/data /dev/mapper/vol0 || fail "content"
	remove vol2
	teardown
}

modprobe loop 2> /dev/null
if [ -e /dev/loop-control ]; then
	run "whole blocks are unmapped" whole
	run "parts of blocks are overwritten" parts
	run "space is kept where it is asked for" reserved
	run "zeros in a full pool" full
fi
finish
