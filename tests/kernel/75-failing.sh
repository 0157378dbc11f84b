#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# Devices that fail, and devices that are gone: errors to the I/O that meets
# them, a pool that turns read-only when its metadata cannot be written, nothing
# acknowledged lost, no hang.
. ./lib.sh

written() {
	dd if=/dev/urandom of=/run/data bs=1M count=8 status=none
	dd if=/run/data of=/dev/mapper/vol0 bs=1M oflag=direct conv=fsync status=none || fail "write"
}

# Bad sectors where data lies: that I/O fails, all else goes on.
bad_sectors() {
	local bad=/sys/kernel/config/nullb/a/badblocks
	disk a 64
	pool 128 0 "" /dev/a && volume 0 2097152 || fail "no volume"
	written
	echo "+65536-131071" > $bad	# the second half of the disk: copies B, data later
	cmp -n 8388608 /run/data /dev/mapper/vol0 || fail "content"
	dd if=/dev/zero of=/dev/mapper/vol0 bs=1M seek=8 count=60 oflag=direct status=none 2> /dev/null &&
		fail "writes to bad sectors succeeded"
	echo "-65536-131071" > $bad
	cmp -n 8388608 /run/data /dev/mapper/vol0 || fail "content afterwards"
}

# The whole device fails under load; when it is back, so is what was flushed.
device_fails() {
	disk a 64
	through below a
	pool 128 0 "" /dev/mapper/below && volume 0 2097152 || fail "no volume"
	written
	fio --name=load --filename=/dev/mapper/vol0 --thread --ioengine=libaio --direct=1 \
		--offset=16m --rw=randwrite --bs=4k --size=16m --iodepth=8 --fsync=16 --runtime=20 \
		--time_based --output=/run/fio 2> /dev/null &
	sleep 2
	fails below
	wait $! && fail "the load did not see the failure"
	dmsetup message "$POOL" 0 create_thin 9 2> /dev/null && fail "a commit succeeded"
	expect "mode" "$(mode)" ro
	sync /dev/mapper/vol0 2> /dev/null && fail "a flush succeeded"
	works below a
	dd if=/run/data of=/dev/mapper/vol0 bs=4k count=1 seek=9000 oflag=direct conv=fsync \
		status=none 2> /dev/null && fail "a flush succeeded after the failure"
	remove vol0; remove "$POOL"
	pool 128 0 "" /dev/mapper/below && volume 0 2097152 || fail "does not open again"
	expect "mode afterwards" "$(mode)" rw
	cmp -n 8388608 /run/data /dev/mapper/vol0 || fail "content"
	remove vol0; remove "$POOL"; remove below
	"$TOOLS/dynmap" check /dev/a > /run/out 2>&1 || fail "the checker: $(tail -n 2 /run/out)"
}

# One of two devices fails: what lies on the other is still read.
one_fails() {
	disk a 64; disk b 64
	through below b
	pool 128 0 "" /dev/a /dev/mapper/below && volume 0 2097152 || fail "no volume"
	written
	fails below
	dd if=/dev/zero of=/dev/mapper/vol0 bs=1M seek=20 count=4 oflag=direct conv=fsync \
		status=none 2> /dev/null && fail "a flush succeeded"
	expect "mode" "$(mode)" ro
	readable=$(pieces_readable)
	[ "$readable" -gt 0 ] || fail "nothing can be read"
	works below b
	cmp -n 8388608 /run/data /dev/mapper/vol0 || fail "content"
	remove vol0; remove "$POOL"
	pool 128 0 "" /dev/a /dev/mapper/below && volume 0 2097152 || fail "does not open again"
	cmp -n 8388608 /run/data /dev/mapper/vol0 || fail "content after opening again"
	remove vol0; remove "$POOL"; remove below
}

# How many of the 256 KiB pieces can be read; those must be right.
pieces_readable() {
	local i count=0
	for i in $(seq 0 31); do
		dd if=/dev/mapper/vol0 bs=256k skip="$i" count=1 iflag=direct of=/run/piece \
			status=none 2> /dev/null || continue
		count=$((count + 1))
		cmp -s -n 262144 -i 0:$((i * 262144)) /run/piece /run/data || fail "piece $i is wrong"
	done
	echo "$count"
}

# A commit fails, after 20 ms, because the second device does. What is acknowledged meanwhile
# is read as it was written, or not at all, and never as zeros. Nothing is made durable
# afterwards, though the device works again: the failed flush may have lost what was written.
commit_fails() {
	local before mib
	modprobe -q dm-delay
	disk a 64; disk b 24
	through below b
	create broken "0 49152 error"
	pool 2048 0 "" /dev/a /dev/mapper/below && volume 0 2097152 || fail "no volume"
	written
	# A unit of 1 MiB on the first device, of which one block is written.
	for mib in $(seq 16 48); do
		before=$(stat_of a 7)
		dd if=/dev/urandom of=/dev/mapper/vol0 bs=4k count=1 seek=$((mib * 256)) \
			oflag=direct status=none
		[ $(($(stat_of a 7) - before)) -ne 8 ] || break
	done
	sync /dev/mapper/vol0
	swap below "0 49152 delay /dev/mapper/broken 0 0 /dev/mapper/broken 0 20"
	"$TOOLS/versions" /dev/mapper/vol0 $((mib << 20)) 4096 3000 "$POOL" "create_thin 9" \
		> /run/out 2> /dev/null || fail "$(head -n 1 /run/out)"
	echo "# $(tail -n 1 /run/out)"
	grep -q "^[1-9]" /run/out || fail "nothing was acknowledged"
	expect "mode" "$(mode)" ro
	works below b
	before=$(stat_of a 5)
	sleep 7
	expect "writes since the failure" $(($(stat_of a 5) - before)) 0
	cmp -n 8388608 /run/data /dev/mapper/vol0 || fail "content"
	remove vol0; remove "$POOL"
	pool 128 0 "" /dev/a /dev/mapper/below && volume 0 2097152 || fail "does not open again"
	cmp -n 8388608 /run/data /dev/mapper/vol0 || fail "content after opening again"
	closed /dev/a /dev/mapper/below
	remove below; remove broken
}

# A write in place is under way when a commit fails: it fails, too, for the map will never
# lead to it. The journal is in front of the device, data behind it and slow.
under_way() {
	modprobe -q dm-delay
	disk a 64
	through below a
	pool 2048 0 "" /dev/mapper/below && volume 0 2097152 || fail "no volume"
	written
	dd if=/dev/urandom of=/dev/mapper/vol0 bs=4k count=1 seek=5120 oflag=direct conv=fsync \
		status=none || fail "write"
	"${DM[@]}" reload below <<- E
		0 4096 error
		4096 126976 delay /dev/a 4096 0 /dev/a 4096 2000 /dev/a 4096 0
	E
	"${DM[@]}" suspend --nolockfs --noflush below; "${DM[@]}" resume below
	dd if=/dev/urandom of=/dev/mapper/vol0 bs=4k count=1 seek=5121 oflag=direct status=none \
		2> /dev/null &
	sleep 0.5
	dmsetup message "$POOL" 0 create_thin 9 2> /dev/null && fail "a commit succeeded"
	kill -0 $! 2> /dev/null || fail "the write was not under way"
	expect "mode" "$(mode)" ro
	wait $! && fail "the write succeeded"
	works below a
	remove vol0; remove "$POOL"
	pool 128 0 "" /dev/mapper/below && volume 0 2097152 || fail "does not open again"
	cmp -n 8388608 /run/data /dev/mapper/vol0 || fail "content after opening again"
	closed /dev/mapper/below
	remove below
}

# Errors for a while (dm-flakey): the pool stays read-only until it is opened again.
flakey() {
	modprobe dm-flakey 2> /dev/null
	disk a 64
	through below a
	pool 128 0 "" /dev/mapper/below && volume 0 2097152 || fail "no volume"
	written
	swap below "0 131072 flakey /dev/a 0 0 60 1 error_writes"
	dd if=/dev/zero of=/dev/mapper/vol0 bs=1M seek=20 count=4 oflag=direct conv=fsync \
		status=none 2> /dev/null && fail "a flush succeeded"
	works below a
	cmp -n 8388608 /run/data /dev/mapper/vol0 || fail "content"
	remove vol0; remove "$POOL"
	pool 128 0 "" /dev/mapper/below && volume 0 2097152 || fail "does not open again"
	cmp -n 8388608 /run/data /dev/mapper/vol0 || fail "content after opening again"
	remove vol0; remove "$POOL"; remove below
}

# A device is gone for good: the pool opens for rescue, and nothing is written.
rescue() {
	local missing i order=(a b c)
	for missing in 0 1 2; do
		disk a 64; disk b 64; disk c 64
		pool 128 0 "" /dev/a /dev/b /dev/c && volume 0 2097152 || fail "no volume"
		written
		dd if=/run/data of=/dev/mapper/vol0 bs=1M seek=20 oflag=direct conv=fsync status=none
		remove vol0; remove "$POOL"
		left=()
		for i in 0 1 2; do
			[ "$i" -eq "$missing" ] || left+=("/dev/${order[i]}")
		done
		refused "the pool has 3 devices" create "$POOL" "0 16384 dynmap-pool 2 ${left[*]} 128 0"
		before=$(cat "${left[@]}" | md5sum)
		pool 128 0 "1 read_only" "${left[@]}" || { fail "no rescue without device $missing"; return; }
		create vol0 "0 2097152 dynmap /dev/mapper/$POOL 0" || fail "no volume"
		echo "# without device $missing $(pieces_readable) of 32 pieces are readable"
		dd if=/dev/zero of=/dev/mapper/vol0 bs=4k count=1 oflag=direct status=none \
			2> /dev/null && fail "a write succeeded"
		remove vol0; remove "$POOL"
		expect "what is left" "$(cat "${left[@]}" | md5sum)" "$before"
		pool 128 0 "" /dev/a /dev/b /dev/c && volume 0 2097152 || fail "does not open whole"
		cmp -n 8388608 /run/data /dev/mapper/vol0 || fail "content"
		cleanup
	done
}

# A copy of a device that missed an opening of the pool, and a clone beside its original.
stale() {
	local pair
	disk a 64; disk b 64; disk c 64
	pool 128 0 "" /dev/a /dev/b && volume 0 2097152 || fail "no volume"
	remove vol0; remove "$POOL"
	dd if=/dev/a of=/run/a bs=1M status=none; dd if=/dev/b of=/run/b bs=1M status=none
	pool 128 0 "" /dev/a /dev/b && volume 0 2097152 || fail "does not open"
	written
	remove vol0; remove "$POOL"
	dd if=/dev/b of=/run/new bs=1M status=none
	dd if=/run/b of=/dev/b bs=1M oflag=direct status=none
	for pair in "/dev/a /dev/b" "/dev/b /dev/a"; do
		refused "b missed an opening" create "$POOL" "0 16384 dynmap-pool 2 $pair 128 0"
		refused "b missed an opening" create "$POOL" "0 16384 dynmap-pool 2 $pair 128 0 1 read_only"
	done
	"$TOOLS/dynmap" check /dev/a /dev/b > /run/out 2>&1 && fail "the checker takes an old copy"
	grep -q "b: missed an opening" /run/out || fail "the checker: $(cat /run/out)"
	pool 128 0 "2 read_only accept_stale" /dev/a /dev/b || fail "not by force"
	remove "$POOL"
	dd if=/run/new of=/dev/b bs=1M oflag=direct status=none
	dd if=/dev/a of=/dev/c bs=1M oflag=direct status=none
	refused "given twice" create "$POOL" "0 16384 dynmap-pool 3 /dev/a /dev/b /dev/c 128 0"
	refused "given twice" create "$POOL" "0 16384 dynmap-pool 2 /dev/a /dev/c 128 0"
	pool 128 0 "" /dev/a /dev/b && volume 0 2097152 || fail "does not open with its own devices"
	cmp -n 8388608 /run/data /dev/mapper/vol0 || fail "content"
	closed /dev/a /dev/b
}

run "bad sectors" bad_sectors
run "a device fails under load" device_fails
run "one of two devices fails" one_fails
run "a commit fails while writes are acknowledged" commit_fails
run "a write is under way when a commit fails" under_way
run "a device fails for a while" flakey
run "rescue with a device missing" rescue
run "old copies and clones of devices" stale
finish
