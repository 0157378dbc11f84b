#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# What a FLUSH costs on the devices, and that nothing acknowledged is lost.
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

run "device writes of a durable first write" cost
run "synchronous writes" fua
finish
