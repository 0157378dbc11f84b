#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# The limits: a pool of 1 PiB on sparse files, a volume of 16 PiB; a TiB reserved
# and discarded while others go on.
. ./lib.sh

PIB16=35184372088832	# sectors

setup() {
	rm -f /run/image0 /run/image1
	truncate -s 512T /run/image0 /run/image1
	loop0=$(losetup -f --show /run/image0)
	loop1=$(losetup -f --show /run/image1)
	pool 128 0 "" "$loop0" "$loop1" && volume 0 $PIB16 || fail "no volume"
}

teardown() {
	remove "$POOL"
	"$TOOLS/dynmap" check "$loop0" "$loop1" > /run/out 2>&1 || fail "the checker: $(tail -n 2 /run/out)"
	losetup -d "$loop0" "$loop1"
	rm -f /run/image0 /run/image1
}

ends() {
	local units
	setup
	units=$(dmsetup status "$POOL" | cut -d' ' -f6 | cut -d/ -f2)
	[ "$units" -gt $((16 * 1024 * 1024 * 1024 * 999 / 1000)) ] || fail "only $units units of 64 KiB"
	expect "size" "$(blockdev --getsz /dev/mapper/vol0)" $PIB16
	dd if=/dev/urandom of=/run/data bs=1M count=4 status=none
	dd if=/run/data of=/dev/mapper/vol0 bs=1M oflag=direct status=none || fail "write"
	dd if=/run/data of=/dev/mapper/vol0 bs=1M seek=17179869180 oflag=direct conv=fsync \
		status=none || fail "write at the end"
	remove vol0; remove "$POOL"
	pool 128 0 "" "$loop1" "$loop0" && volume 0 $PIB16 || fail "does not open again"
	cmp -n 4194304 /run/data /dev/mapper/vol0 || fail "content"
	dd if=/dev/mapper/vol0 bs=1M skip=17179869180 count=4 status=none | cmp - /run/data ||
		fail "content at the end"
	remove vol0
	refused "too long" create vol0 "0 $((PIB16 + 8)) dynmap /dev/mapper/$POOL 0"
	"${DM[@]}" remove vol0 2> /dev/null
	teardown
}

# Latencies of a reader with and without a discard of 1 TiB beside it.
tib() {
	local before during
	setup
	volume 1 2097152 || fail "no second volume"
	dd if=/run/data of=/dev/mapper/vol1 bs=1M count=4 oflag=direct status=none
	fallocate --zero-range -o 0 -l 1099511627776 /dev/mapper/vol0 || fail "zero-range"
	reserved=$(dmsetup status vol0 | cut -d' ' -f4)
	# What comes ahead of a stream is 8 MiB at most.
	[ "$reserved" -ge 2147483648 ] && [ "$reserved" -le $((2147483648 + 16384)) ] ||
		fail "$reserved sectors are reserved"
	before=$(reader)
	(for _ in $(seq 2); do
		blkdiscard -o 0 -l 1099511627776 /dev/mapper/vol0
		fallocate --zero-range -o 0 -l 1099511627776 /dev/mapper/vol0
	done) &
	during=$(reader)
	wait $! || fail "discard"
	echo "# longest of 2000 reads: $before us alone, $during us beside"
	blkdiscard /dev/mapper/vol0 || fail "discard of all"
	expect "left" "$(dmsetup status vol0 | cut -d' ' -f4)" 0
	remove vol0; remove vol1
	teardown
}

# Terse format: field 15 is the longest completion latency of reads.
reader() {
	fio --minimal --terse-version=3 --name=reader --filename=/dev/mapper/vol1 --thread \
		--ioengine=psync --direct=1 --rw=randread --bs=4k --size=4m --number_ios=2000 \
		--loops=10 | cut -d';' -f15
}

modprobe loop 2> /dev/null
if [ -e /dev/loop-control ]; then
	run "a pool of 1 PiB, a volume of 16 PiB" ends
	# Each round is a million zone records, twice: KASAN takes many minutes for that.
	grep -q 'User Mode Linux' /proc/cpuinfo || run "a TiB is discarded" tib
fi
finish
