#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# What people who run thin pools report of snapshots, as recipes: doc/proof.md has a line
# for each.
. ./lib.sh

# Report 10: a hundred snapshots go at once, and the others do not wait for that.
deletion_beside() {
	local i before neighbour
	disk a 128 32; disk b 128 32
	pool 8 0 "" /dev/a /dev/b && volume 0 131072 && volume 1 131072 || { fail "no volumes"; return; }
	fio --name=f --filename=/dev/mapper/vol0 --thread --ioengine=libaio --direct=1 --rw=randwrite --bs=4k \
		--io_size=48m --iodepth=16 --output=/run/fio || fail "write"
	for i in $(seq 100 199); do
		snap "$i" 0 || fail "snapshot $i"
		dd if=/dev/urandom of=/dev/mapper/vol0 bs=4k seek=$((RANDOM % 16000)) count=40 oflag=direct \
			conv=notrunc status=none
	done
	fio --name=n --filename=/dev/mapper/vol1 --thread --ioengine=psync --direct=1 --rw=randwrite --bs=4k \
		--fsync=1 --time_based --runtime=4 --output=/run/neighbour &
	neighbour=$!
	send "deleted" < <(seq -f "delete %.0f" 100 199 | shuf)
	dmsetup message "$POOL" 0 create_thin 7 || fail "no new volume meanwhile"
	wait $neighbour || fail "the neighbour"
	echo "# the neighbour's longest write:$(grep -m 1 -oE ' clat .*max=[^,]*' /run/neighbour)"
	before=$(used)
	for i in 0 1; do remove vol$i; delete $i; done
	delete 7
	settles 0
	echo "# units in use with one volume: $before"
	closed /dev/a /dev/b
}

# Report 21: back and forth between snapshots; the others stay what they are, usage adds up.
merges() {
	local i j sum=0
	opened 8 || return
	for i in 1 2 3; do
		snap $i 0; cp /run/twin0 /run/twin$i
		random_writes vol0 /run/twin0 12
	done
	for i in 2 1 3; do
		remove vol0
		dmsetup message "$POOL" 0 rollback 0 $i || fail "rollback to $i"
		active 0
		cp /run/twin$i /run/twin0
		same vol0 /run/twin0
		random_writes vol0 /run/twin0 4
		for j in 1 2 3; do active $j; same vol$j /run/twin$j; remove vol$j; done
	done
	refused "no volume 9" dmsetup message "$POOL" 0 rollback 3 9
	refused "" dmsetup message "$POOL" 0 rollback 3 3
	refused "is in use" dmsetup message "$POOL" 0 rollback 0 3
	dmsetup message "$POOL" 0 rollback 3 0 || fail "rollback of a snapshot"
	active 3; same vol3 /run/twin0
	# Blocks that differ by content, but for those written anew with the same, are what compare says.
	for i in 1 2 3; do
		active $i 2> /dev/null
		cmp -l -n $((MIB << 20)) /dev/mapper/vol0 /dev/mapper/vol$i |
			awk '{ b = int(($1 - 1) / 4096); if (!(b in s)) { s[b]; print b } }' | sort > /run/differ
		dmsetup message "$POOL" 0 compare 0 $i |
			awk '{ for (b = $1 / 8; b < ($1 + $2) / 8; b++) print int(b) }' | sort -u > /run/said
		[ -z "$(comm -23 /run/differ /run/said)" ] || fail "compare 0 $i leaves out what differs"
	done
	for i in 0 1 2 3; do remove vol$i; done
	for i in 0 1 2 3; do sum=$((sum + $(usage_of $i 3))); done
	[ "$sum" -le $(($(used) * 8)) ] || fail "exclusive: $sum sectors, in use: $(used) blocks"
	for i in 2 0 3 1; do delete $i; done
	settles 0
	closed /dev/a /dev/b
}

run "report 10: a hundred deletions beside a neighbour" deletion_beside
run "report 21: rolled back, and back again" merges
finish
