#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# What was acknowledged is there at once, though the map learns of it a moment later.
. ./lib.sh
MIB=8
SECTORS=$((MIB * 2048))

# acked SECONDS SEED: on volume 0.
acked() {
	"$TOOLS/acked" /dev/mapper/vol0 $((MIB << 20)) "$1" "$2" > /run/acked 2>&1 || fail "$(cat /run/acked)"
	echo "# $(cat /run/acked)"
}

made() { disk a 64; disk b 48; pool "$1" 0 "" /dev/a /dev/b && volume 0 $SECTORS || fail "no volume"; }

fresh() {
	made 8
	acked 6 1
	closed /dev/a /dev/b
}

# Snapshots come and go: blocks are shared, and the volume's own again.
shared() {
	local id=1 pid
	made 128
	acked 12 2 &
	pid=$!
	while kill -0 $pid 2> /dev/null; do
		snap $id 0
		sleep 0.3
		delete $id
		sleep 0.2
		id=$((id + 1))
	done
	wait $pid
	grep -q operations /run/acked || fail "a difference"
	echo "# $((id - 1)) snapshots"
	closed /dev/a /dev/b
}

# slow TABLE: what lies below the pool from now on.
slow() {
	"${DM[@]}" suspend --nolockfs slow
	"${DM[@]}" reload slow --table "0 $size $1"
	"${DM[@]}" resume slow
}

# A block that is reserved and shared becomes the volume's own again, when the deletion of
# the snapshot is committed, while redirected writes to it wait to be mapped: 20 ms. The
# flush of that commit takes 30 ms; each round uses another window of 64 KiB, and begins
# to write somewhat later.
own_again() {
	local round lost=0 size=131072
	modprobe -q dm-delay
	disk a 64 8	# with a cache: flushes reach it
	create slow "0 $size linear /dev/a 0"
	pool 128 0 "" /dev/mapper/slow && volume 0 $SECTORS || fail "no volume"
	slow "delay /dev/a 0 0 /dev/a 0 0 /dev/a 0 30"
	for round in $(seq 40); do
		dd if=/dev/urandom of=/dev/mapper/vol0 bs=4k count=1 seek=$((round * 16)) oflag=direct \
			status=none || fail "write"
		snap 1 0
		# There is something to flush.
		dd if=/dev/urandom of=/dev/mapper/vol0 bs=4k count=1 seek=$((round * 16)) oflag=direct \
			status=none || fail "write"
		"$TOOLS/versions" /dev/mapper/vol0 $((round * 65536 + 4096)) 0 $((round * 1500)) \
			"$POOL" "delete 1" > /run/out || { lost=$((lost + 1)); echo "# $(head -n 1 /run/out)"; }
	done
	echo "# $(tail -n 1 /run/out) in the last round"
	expect "rounds in which an acknowledged write was lost" "$lost" 0
	slow "linear /dev/a 0"
	closed /dev/mapper/slow
}

# Others fill another volume, so that there is always something to be settled.
beside() {
	local pid
	made 8
	dmsetup message "$POOL" 0 create_thin 1
	create vol1 "0 4194304 dynmap /dev/mapper/$POOL 1"
	fio --name=fill --filename=/dev/mapper/vol1 --thread --ioengine=libaio --direct=1 --bs=4k \
		--rw=randwrite --iodepth=8 --size=2g --io_size=60m --norandommap \
		--rate_iops=2000 --output=/run/fio &
	pid=$!
	acked 6 3
	wait $pid || fail "fio: $(tail -n 3 /run/fio)"
	closed /dev/a /dev/b
}

# many MIB: more writes are under way than there is room for: the rest waits.
many() {
	local pid most=0 now size=$(($1 * 2048))
	modprobe -q dm-delay
	disk a "$1"
	create slow "0 $size linear /dev/a 0"
	pool 8 0 "" /dev/mapper/slow && volume 0 65536 || fail "no volume"
	slow "delay /dev/a 0 0 /dev/a 0 20000"
	fio --name=many --filename=/dev/mapper/vol0 --thread --ioengine=libaio --direct=1 --bs=4k \
		--rw=randwrite --iodepth=6000 --size=24m --verify=crc32c --verify_fatal=1 \
		--output=/run/fio &
	pid=$!
	for _ in $(seq 190); do
		now=$(awk '{ print $2 }' "/sys/dev/block/$(dmsetup info -c --noheadings --separator : -o major,minor vol0)/inflight")
		most=$((now > most ? now : most))
		[ "$most" -lt 4500 ] || break
		sleep 0.1
	done
	[ "$most" -ge 4500 ] || fail "no more than $most writes were under way"
	echo "# $most writes under way"
	slow "linear /dev/a 0"
	wait $pid || fail "fio: $(tail -n 3 /run/fio)"
	closed /dev/mapper/slow
}

many_fresh() { many 512; }
many_nodes() { many 64; }

run "first writes" fresh
run "shared blocks" shared
run "a shared block that becomes the volume's own" own_again
run "beside another volume" beside
run "more than there is room for" many_fresh
run "more than so small a pool has nodes for" many_nodes
finish
