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

run "first writes" fresh
run "shared blocks" shared
run "beside another volume" beside
finish
