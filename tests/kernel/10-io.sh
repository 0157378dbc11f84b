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

# The pool comes back with what was written, its devices in another order.
reopened() {
	data
	dd if=/run/data of=/dev/mapper/vol0 bs=1M oflag=direct status=none
	remove vol0; remove "$POOL"
	pool 128 0 "" /dev/b /dev/a && volume 0 2097152 || fail "no volume"
	cmp -n 20971520 /run/data /dev/mapper/vol0 || fail "content"
}

run "whole blocks" whole_blocks
run "any alignment" sectors
run "neighbouring sectors at once" neighbours
run "fio verify, mixed sizes" verified
run "content after reopening" reopened
finish
