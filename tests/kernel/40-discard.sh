#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# Discards unmap whole blocks; the space can be used again.
. ./lib.sh

# setup [SECTORS]: what is reserved ahead of a stream ends with the volume.
setup() {
	disk a 64
	pool 128 0 "1 error_if_no_space" /dev/a && volume 0 "${1:-2097152}" || fail "no volume"
}

space() { dmsetup status vol0 | cut -d' ' -f4; }

ranges() {
	setup 16384
	dd if=/dev/urandom of=/run/data bs=1M count=8 status=none
	dd if=/run/data of=/dev/mapper/vol0 bs=1M oflag=direct status=none
	expect mapped "$(space)" 16384
	# From inside block 0 to inside block 11: blocks 1 to 10 go.
	blkdiscard -o 512 -l $((11 * 4096)) /dev/mapper/vol0 || fail "blkdiscard"
	expect "after a part" "$(space)" $((16384 - 80))
	dd if=/dev/zero of=/run/data bs=4k seek=1 count=10 conv=notrunc status=none
	cmp -n 8388608 /run/data /dev/mapper/vol0 || fail "content"
	blkdiscard /dev/mapper/vol0 || fail "blkdiscard of all"
	expect "after all" "$(space)" 0
}

# Ten times more than there is, with discards in between.
reuse() {
	local i
	setup
	for i in $(seq 12); do
		dd if=/dev/urandom of=/dev/mapper/vol0 bs=1M count=48 oflag=direct status=none ||
			fail "write in round $i"
		blkdiscard /dev/mapper/vol0 || fail "discard"
	done
}

# A full pool fails writes as configured, reads and overwrites go on, and
# space given back brings it back.
full() {
	setup
	dd if=/dev/zero of=/dev/mapper/vol0 bs=1M count=100 oflag=direct status=none 2> /dev/null &&
		fail "more was written than there is"
	expect mode "$(dmsetup status "$POOL" | cut -d' ' -f8)" out_of_data_space
	dd if=/dev/zero of=/dev/mapper/vol0 bs=1M count=8 oflag=direct conv=fsync status=none || fail overwrite
	blkdiscard -o 0 -l 16777216 /dev/mapper/vol0
	sleep 1
	expect mode "$(dmsetup status "$POOL" | cut -d' ' -f8)" rw
	dd if=/dev/zero of=/dev/mapper/vol0 bs=1M count=8 oflag=direct status=none || fail "write after"
}

# Freed blocks are discarded on the device once the change is durable, in large
# pieces, and not before; or never, if so configured.
passdown() {
	setup 81920
	dd if=/dev/urandom of=/dev/mapper/vol0 bs=1M count=40 oflag=direct status=none
	blkdiscard /dev/mapper/vol0
	sync /dev/mapper/vol0
	sleep 1
	expect "sectors discarded" "$(stat_of a 14)" 81920
	[ "$(stat_of a 12)" -le 80 ] || fail "$(stat_of a 12) discards for 40 MiB"
	"${DM[@]}" reload "$POOL" --table "0 16384 dynmap-pool 1 /dev/a 128 0 1 no_discard_passdown"
	"${DM[@]}" suspend "$POOL"; "${DM[@]}" resume "$POOL"
	dd if=/dev/urandom of=/dev/mapper/vol0 bs=1M count=40 oflag=direct status=none
	blkdiscard /dev/mapper/vol0
	sync /dev/mapper/vol0
	sleep 1
	expect "sectors discarded later" "$(stat_of a 14)" 81920
	dmsetup status "$POOL" | grep -q no_discard_passdown || fail "status"
}

# What the queue says of discards, whatever the devices below can do.
limits() {
	local queue
	disk a 64
	pool 128 0 "" /dev/a && volume 0 2097152 || fail "no volume"
	queue=/sys/dev/block/$(dmsetup info -c --noheadings -o major,minor --separator : vol0)/queue
	expect "granularity" "$(cat "$queue/discard_granularity")" 4096
	expect "largest discard" "$(cat "$queue/discard_max_bytes")" 4294966784
	expect "logical block" "$(cat "$queue/logical_block_size")" 512
	expect "physical block" "$(cat "$queue/physical_block_size")" 4096
}

run "limits" limits
run "ranges" ranges
run "space is used again" reuse
run "a full pool, and back" full
run "passed down" passdown
finish
