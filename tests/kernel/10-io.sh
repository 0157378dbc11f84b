#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# Reads and writes of any size and alignment, verified by content.
. ./lib.sh

# data [SECTORS]: a volume, and what to write to it.
data() {
	disk a 64; disk b 48
	pool 128 0 "" /dev/a /dev/b && volume 0 "${1:-2097152}" || fail "no volume"
	dd if=/dev/urandom of=/run/data bs=1M count=20 status=none
}

whole_blocks() {
	data 40960	# what is reserved ahead ends with the volume
	dd if=/run/data of=/dev/mapper/vol0 bs=1M oflag=direct conv=fsync status=none || fail write
	cmp -n 20971520 /run/data /dev/mapper/vol0 || fail "content"
	expect status "$(dmsetup status vol0 | cut -d' ' -f4-)" "40960 40959"
}

# Pieces that begin and end inside blocks, on a fresh volume and over old data.
sectors() {
	local size at
	data
	cp /run/data /run/copy
	truncate -s 0 /run/copy; truncate -s 8M /run/copy
	for size in 512 1536 3584 4608 12800 66048 1049088; do
		for at in 0 1 7 9 31; do
			dd if=/run/data of=/dev/mapper/vol0 bs=$size seek=$at count=3 oflag=direct \
				status=none || fail "write of $size at $at"
			dd if=/run/data of=/run/copy bs=$size seek=$at count=3 conv=notrunc status=none
		done
	done
	cmp -n 8388608 /run/copy /dev/mapper/vol0 || fail "content"
}

# Neighbouring sectors of one block, written at the same time.
neighbours() {
	local i pids=()
	data
	for i in $(seq 0 63); do
		dd if=/run/data of=/dev/mapper/vol0 bs=512 skip="$i" seek="$i" count=1 oflag=direct \
			status=none &
		pids+=($!)
	done
	wait "${pids[@]}"
	cmp -n 32768 /run/data /dev/mapper/vol0 || fail "content"
}

verified() {
	data
	fio --name=verify --filename=/dev/mapper/vol0 --thread --ioengine=libaio --direct=1 \
		--rw=randwrite --bsrange=512-64k --size=24m --iodepth=16 --verify=crc32c \
		--verify_fatal=1 --serialize_overlap=1 --output=/run/fio || { fail "fio"; tail -n 5 /run/fio; }
}

# A part of a block is written while others keep its window, or one that shares its place
# in the hash of windows, in use without a gap: it gets its turn.
busy_window() {
	local window begun hash took log=/run/log
	dd if=/dev/urandom of=/run/data bs=512 count=1 status=none
	disk s 64
	echo 0 > /sys/kernel/config/nullb/s/power
	echo 2 > /sys/kernel/config/nullb/s/irqmode
	echo 100000000 > /sys/kernel/config/nullb/s/completion_nsec
	echo 1 > /sys/kernel/config/nullb/s/power
	pool 8 0 "" /dev/s && volume 0 209715200 || fail "no volume"
	printf 'fio version 2 iolog\n/dev/mapper/vol0 add\n/dev/mapper/vol0 open\n' > $log
	for window in $(seq 614400); do
		hash=$((window * 0x61C8864680B583EB))
		[ $((hash >> 54 & 1023)) -ne 0 ] || echo "/dev/mapper/vol0 write $((window << 16)) 4096"
	done >> $log
	echo "# $(wc -l < $log) writes to windows with the place of the first one"
	fio --name=busy --read_iolog=$log --replay_no_stall=1 --thread --ioengine=libaio --direct=1 \
		--iodepth=16 --output=/run/fio &
	sleep 1
	begun=$(now)
	dd if=/run/data of=/dev/mapper/vol0 bs=512 count=1 oflag=direct status=none || fail "write"
	took=$(($(now) - begun))
	kill -0 $! 2> /dev/null || fail "the others were over too early"
	echo "# a part of a block: $took ms"
	[ $took -lt 1000 ] || fail "it had to wait"
	wait $!
	cmp -n 512 /run/data /dev/mapper/vol0 || fail "content"
}

# The pool comes back with what was written, its devices in another order.
reopened() {
	data
	dd if=/run/data of=/dev/mapper/vol0 bs=1M oflag=direct status=none
	remove vol0; remove "$POOL"
	pool 128 0 "" /dev/b /dev/a && volume 0 2097152 || fail "no volume"
	cmp -n 20971520 /run/data /dev/mapper/vol0 || fail "content"
}

# One stream goes to all devices, each gets its part.
spread() {
	local name part sum=0 parts=()
	disk a 64; disk b 64; disk c 64; disk d 64
	pool 128 0 "" /dev/a /dev/b /dev/c /dev/d && volume 0 262144 || fail "no volume"
	dd if=/dev/zero of=/dev/mapper/vol0 bs=1M count=64 oflag=direct conv=fsync status=none ||
		fail write
	for name in a b c d; do
		parts+=("$(stat_of $name 7)")
		sum=$((sum + ${parts[-1]}))
	done
	echo "# sectors written to each: ${parts[*]}"
	for part in "${parts[@]}"; do
		[ $((part * 100)) -ge $((sum * 15)) ] && [ $((part * 100)) -le $((sum * 35)) ] ||
			fail "a device got $part of $sum sectors"
	done
}

# What many reads at once miss is read once: nodes of a pool that was just opened, on a slow disk.
cold() {
	local nodes begun
	disk a 64
	pool 8 0 "" /dev/a && volume 0 2097152 || fail "no volume"
	# 4,096 windows, a record each: a tree of two levels, some 20 leaves.
	fio --name=w --filename=/dev/mapper/vol0 --rw=write:60k --bs=4k --size=256m --io_size=16m \
		--direct=1 --ioengine=libaio --iodepth=16 > /run/out || fail "fio: $(tail -n 1 /run/out)"
	remove vol0; remove "$POOL"
	disk_slow a 20000000
	pool 8 0 "" /dev/a && volume 0 2097152 || fail "no volume"
	begun=$(($(stat_of a 1) + $(stat_of a 2)))
	# 128 blocks of two MiB, all begun before the first node is there.
	fio --name=r --filename=/dev/mapper/vol0 --rw=read:60k --bs=4k --size=8m --io_size=512k \
		--direct=1 --ioengine=libaio --iodepth=128 > /run/out || fail "fio: $(tail -n 1 /run/out)"
	nodes=$(($(stat_of a 1) + $(stat_of a 2) - begun - 128))
	echo "# beside 128 blocks of data $nodes of metadata were read"
	[ "$nodes" -le 8 ] || fail "nodes were read again and again"
}

run "whole blocks" whole_blocks
run "any alignment" sectors
run "neighbouring sectors at once" neighbours
run "fio verify, mixed sizes" verified
run "a part of a block in a busy window" busy_window
run "content after reopening" reopened
run "cold reads at once" cold
run "a stream on four devices" spread
finish
