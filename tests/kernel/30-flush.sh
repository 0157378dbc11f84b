#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# What a FLUSH costs on the devices, and that nothing acknowledged is lost; that it does not
# wait for a checkpoint, and that writes do when too much of the map is dirty.
. ./lib.sh

# One durable first write: one data write and one journal block, one flush.
cost() {
	local writes flushes
	disk a 64 16
	pool 128 0 "" /dev/a && volume 0 2097152 || fail "no volume"
	dd if=/dev/zero of=/dev/mapper/vol0 bs=4k count=1 oflag=direct conv=fsync status=none
	writes=$(stat_of a 5) flushes=$(stat_of a 16)
	dd if=/dev/zero of=/dev/mapper/vol0 bs=4k seek=1 count=1 oflag=direct conv=fsync status=none
	expect "writes" $(($(stat_of a 5) - writes)) 2
	echo "# flushes: $(($(stat_of a 16) - flushes))"
}

fua() {
	disk a 64 16; disk b 64 16
	pool 8 0 "" /dev/a /dev/b && volume 0 2097152 || fail "no volume"
	fio --name=fua --filename=/dev/mapper/vol0 --thread --ioengine=libaio --direct=1 --sync=1 \
		--rw=randwrite --bs=4k --size=8m --iodepth=8 --verify=crc32c --output=/run/fio ||
		fail "fio"
}

# scattered VOLUME COUNT STEP OFFSET: COUNT writes of 4 KiB, STEP KiB apart.
scattered() {
	fio --name=scattered --filename="/dev/mapper/vol$1" --rw=write:$(($3 - 4))k --bs=4k --offset="$4" \
		--size=$(($2 * $3))k --io_size=$(($2 * 4))k --direct=1 --ioengine=libaio \
		--iodepth=16 --output=/run/out || fail "fio: $(tail -n 1 /run/out)"
}

writing() { [ "$(stat_of a 9)" -ge 8 ] && echo yes; }

# The checkpoint that is made every 5 s when something has changed is just over.
checkpointed() {
	local writes
	dd if=/dev/zero of=/dev/mapper/vol0 bs=4k seek="$1" count=1 oflag=direct conv=fsync \
		status=none || fail "write"
	writes=$(stat_of a 5)
	for _ in $(seq 100); do
		sleep 0.1
		[ "$(stat_of a 5)" -eq "$writes" ] || break
	done
	becomes "writes under way" 0 stat_of a 9
}

# While a checkpoint writes some hundred nodes, 16 at a time, a flush is over in a few rounds:
# how many writes come after it. Nobody waits for a checkpoint and leaves as many to it.
after_flush() {
	local total
	checkpointed 3
	scattered 0 300 4800 "$1"
	scattered 1 300 4800 "$1"
	"${DM[@]}" suspend "$POOL" &
	becomes "many nodes being written" yes writing
	dd if=/dev/zero of=/dev/mapper/vol0 bs=4k seek="$1" count=1 oflag=direct conv=fsync \
		status=none || fail "write"
	total=$(stat_of a 5)
	wait $!
	after=$(($(stat_of a 5) - total))
	echo "# $after writes of a checkpoint came after a flush"
	"${DM[@]}" resume "$POOL"
}

# On a busy machine another checkpoint, which is made every 5 s, may have left little to write.
beside() {
	local after attempt
	scattered 0 300 4800 8192
	scattered 1 300 4800 8192
	for attempt in $(seq 12); do
		after_flush $((8192 * attempt + 8192))
		[ "$after" -lt 16 ] || return
	done
	fail "flushes waited for checkpoints"
}

# unwritten PID: KiB of nodes that are dirty or being written, at most, as long as it lives.
unwritten() {
	local kib most=0
	while kill -0 "$1" 2> /dev/null; do
		kib=$(dmsetup message "$POOL" 0 cache | cut -d' ' -f3)
		[ "$kib" -le $most ] || most=$kib
	done
	echo $most
}

# With 8 MiB a checkpoint is due at 1 MiB: who writes waits for it at 1.5 MiB.
bounded() {
	local most
	dmsetup message "$POOL" 0 cache 8 > /dev/null
	# shellcheck disable=SC2016
	fio --name=random --numjobs=8 --filename_format='/dev/mapper/vol$jobnum' --rw=randwrite \
		--bs=4k --size=1500m --io_size=2m --direct=1 --ioengine=libaio --iodepth=8 \
		--thread --group_reporting --output=/run/out &
	most=$(unwritten $!)
	wait $! || fail "fio: $(tail -n 1 /run/out)"
	echo "# at most $most KiB of nodes were dirty or being written"
	[ "$most" -gt 1024 ] || fail "too few to tell"
	[ "$most" -le 3700 ] || fail "writes did not wait"
}

# Eight maps of some 200 leaves each on a disk that takes 50 ms for each request, 16 at a time.
slow() {
	local id
	disk a 512
	pool 8 0 "" /dev/a && volume 0 8388608 || fail "no volume"
	scattered 0 24000 64 0
	for id in 1 2 3 4 5 6 7; do
		dmsetup message "$POOL" 0 create_snap $id 0 || fail "no snapshot"
	done
	remove vol0; remove "$POOL"
	disk_slow a 50000000 16
	pool 8 0 "" /dev/a || fail "no pool"
	for id in 0 1 2 3 4 5 6 7; do
		volume $id 8388608 || fail "no volume"
	done
	beside
	bounded
}

run "device writes of a durable first write" cost
run "synchronous writes" fua
run "a checkpoint that takes long" slow
finish
