#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# What people who run thin pools report of devices, sizes and suspended pools, as recipes:
# doc/proof.md has a line for each.
. ./lib.sh

mapped() { dmsetup status "$1" | cut -d' ' -f4; }
resized() {
	"${DM[@]}" reload vol0 --table "0 $1 dynmap /dev/mapper/$POOL 0" || fail "reload"
	"${DM[@]}" suspend vol0; "${DM[@]}" resume vol0
}

# Report 24: a volume made smaller, then longer: what was beyond the end is kept, as it was.
smaller() {
	disk a 64
	pool 128 0 "" /dev/a && volume 0 65536 || { fail "no volume"; return; }
	dd if=/dev/urandom of=/run/data bs=1M count=32 status=none
	dd if=/run/data of=/dev/mapper/vol0 bs=1M oflag=direct conv=fsync status=none
	snap 1 0
	resized 32768
	expect "mapped, smaller" "$(mapped vol0)" 65536
	expect "usage, smaller" "$(usage_of 0 1)" 65536
	expect "differs" "$(dmsetup message "$POOL" 0 compare 0 1)" ""
	dd if=/dev/zero of=/dev/mapper/vol0 bs=4k seek=4096 count=1 oflag=direct status=none 2> /dev/null &&
		fail "written beyond the end"
	resized 65536
	cmp -n 33554432 /run/data /dev/mapper/vol0 || fail "the tail is not what it was"
	# Discarded before: the tail is zeros.
	blkdiscard -o 16777216 -l 16777216 /dev/mapper/vol0
	resized 32768
	expect "mapped, discarded" "$(mapped vol0)" 32768
	resized 65536
	cmp -i 16777216:0 -n 16777216 /dev/mapper/vol0 /dev/zero || fail "the tail was discarded, and is not zeros"
	closed /dev/a
}

# bounded WHAT COMMAND...: ends within 20 s, whatever it returns.
bounded() {
	local what=$1 status
	shift
	timeout -s KILL 20 "$@" > /run/out.bounded 2>&1
	status=$?
	[ $status -ne 137 ] || echo "$what hangs"
}

# Report 25: the pool is suspended, in each way: its volumes go on, nothing hangs.
suspended() {
	local how
	disk a 64
	pool 128 0 "" /dev/a && volume 0 65536 || { fail "no volume"; return; }
	dmsetup message "$POOL" 0 create_thin 1
	for how in "" --noflush; do
		# shellcheck disable=SC2086
		"${DM[@]}" suspend $how "$POOL"
		{
			bounded "create" "${DM[@]}" create vol1 --table "0 65536 dynmap /dev/mapper/$POOL 1" &
			bounded "status" dmsetup status "$POOL" &
			bounded "table" dmsetup table "$POOL" &
			bounded "list" dmsetup message "$POOL" 0 list &
			bounded "create_snap" dmsetup message "$POOL" 0 create_snap 2 0 &
			bounded "write" dd if=/dev/zero of=/dev/mapper/vol0 bs=64k count=40 oflag=direct conv=fsync &
			bounded "read" dd if=/dev/mapper/vol0 of=/dev/null bs=64k count=40 iflag=direct &
			bounded "discard" blkdiscard -o 8388608 -l 1048576 /dev/mapper/vol0 &
			sleep 3
			"${DM[@]}" resume "$POOL"
			wait
		} > /run/out
		[ ! -s /run/out ] || fail "suspended${how:+, $how}: $(tr '\n' ' ' < /run/out)"
		[ ! -e /dev/mapper/vol1 ] || "${DM[@]}" remove vol1
		dmsetup message "$POOL" 0 delete 2 2> /dev/null
		dd if=/dev/zero of=/dev/mapper/vol0 bs=64k count=4 oflag=direct conv=fsync status=none || fail "write"
	done
	closed /dev/a
}

sums() { for i in "$@"; do head -c 33554432 "/dev/$i" | md5sum; done; }

# try WORD DEV...: refused, with this word, and nothing is written or left behind.
try() {
	local word=$1 before
	shift
	before=$(sums a b c d)
	refused "$word" create "$POOL" "0 16384 dynmap-pool $# $* 128 0"
	"${DM[@]}" remove "$POOL" 2> /dev/null
	[ "$before" = "$(sums a b c d)" ] || fail "something was written: $*"
}

# Report 27: a device is late, short, blank or another's: refused by name, nothing is written.
parts() {
	disk a 32; disk b 32; disk c 32; disk d 32
	create other "0 16384 dynmap-pool 1 /dev/d 128 0" || fail "no other pool"
	remove other
	pool 128 0 "" /dev/a /dev/b /dev/c && volume 0 65536 || { fail "no volume"; return; }
	dd if=/dev/urandom of=/run/data bs=1M count=24 status=none
	dd if=/run/data of=/dev/mapper/vol0 bs=1M oflag=direct conv=fsync status=none
	remove vol0; remove "$POOL"
	try "the pool has 3 devices" /dev/a /dev/b
	try "the pool has 3 devices" /dev/c /dev/a
	create short "0 65535 linear /dev/c 0"
	try "smaller" /dev/a /dev/b /dev/mapper/short
	remove short
	try "another pool" /dev/a /dev/b /dev/d
	try "" /dev/a /dev/b /dev/b
	dd if=/dev/c of=/run/c bs=1M count=32 status=none
	dd if=/dev/zero of=/dev/c bs=1M count=32 oflag=direct status=none
	try "c is empty" /dev/a /dev/b /dev/c
	dd if=/run/c of=/dev/c bs=1M oflag=direct status=none
	pool 128 0 "" /dev/c /dev/b /dev/a && volume 0 65536 || fail "does not open with all of them"
	cmp -n 25165824 /run/data /dev/mapper/vol0 || fail "content"
	closed /dev/a /dev/b /dev/c
}

# Report 30: a device just added, still empty, dies: all that was there before can be read.
new_one_dies() {
	disk a 64; disk b 64
	through below b
	pool 128 0 "" /dev/a && volume 0 65536 || { fail "no volume"; return; }
	dd if=/dev/urandom of=/run/data bs=1M count=24 status=none
	dd if=/run/data of=/dev/mapper/vol0 bs=1M oflag=direct conv=fsync status=none
	"${DM[@]}" reload "$POOL" --table "0 16384 dynmap-pool 2 /dev/a /dev/mapper/below 128 0" || fail "reload"
	"${DM[@]}" suspend "$POOL"; "${DM[@]}" resume "$POOL"
	fails below
	cmp -n 25165824 /run/data /dev/mapper/vol0 || fail "content, running"
	remove vol0; "${DM[@]}" remove "$POOL"
	refused "the pool has 2 devices" create "$POOL" "0 16384 dynmap-pool 1 /dev/a 128 0"
	pool 128 0 "1 read_only" /dev/a && create vol0 "0 65536 dynmap /dev/mapper/$POOL 0" ||
		{ fail "no rescue"; return; }
	cmp -n 25165824 /run/data /dev/mapper/vol0 || fail "content, without the device"
	remove vol0; remove "$POOL"
	"$TOOLS/dynmap" check /dev/a > /run/out 2>&1
	grep -q "the pool has 2 devices, 1 were given" /run/out || fail "the checker says nothing of the device: $(tail -n 1 /run/out)"
	remove below
}

# Report 34: direct I/O in sectors, from memory that is aligned to them only.
odd_memory() {
	local bs
	disk a 64
	pool 128 0 "" /dev/a && volume 0 65536 || { fail "no volume"; return; }
	for bs in 512 1536 3584; do
		fio --name=o --filename=/dev/mapper/vol0 --thread --ioengine=libaio --direct=1 --rw=randwrite \
			--bs="$bs" --size=8m --iodepth=8 --iomem_align=512 --verify=crc32c --verify_fatal=1 \
			--output=/run/fio || fail "blocks of $bs: $(tail -n 3 /run/fio)"
	done
	mkfs.xfs -q -f -s size=512 /dev/mapper/vol0 2> /dev/null || mkfs.ext4 -q /dev/mapper/vol0
	mount /dev/mapper/vol0 /run/mnt || fail "mount"
	dd if=/dev/urandom of=/run/mnt/file bs=512 count=3000 oflag=direct status=none || fail "write"
	umount /run/mnt
	closed /dev/a
}

# Report 37: an image with a file system in a file of a file system on a volume, trimmed through both.
nested() {
	local loop direct i
	disk a 256
	pool 128 0 "" /dev/a && volume 0 409600 || { fail "no volume"; return; }
	mkfs.ext4 -q -E lazy_itable_init=1,nodiscard /dev/mapper/vol0
	mount /dev/mapper/vol0 /run/mnt
	truncate -s 96M /run/mnt/image
	mkfs.ext4 -q -F -E nodiscard /run/mnt/image
	mkdir -p /run/inner
	for i in $(seq 8); do
		direct=on
		[ $((i % 2)) -eq 0 ] || direct=off
		loop=$(losetup -f --show --direct-io=$direct /run/mnt/image)
		mount "$loop" /run/inner || { fail "mount"; break; }
		rm -f /run/inner/*.$((i - 2))
		for f in 1 2 3; do dd if=/dev/urandom of=/run/inner/$f.$i bs=64k count=60 conv=fsync status=none; done
		(cd /run/inner && md5sum -- *.* > /run/sums)
		fstrim /run/inner; fstrim /run/mnt
		umount /run/inner
		losetup -d "$loop"
		echo 1 > /proc/sys/vm/drop_caches
		e2fsck -fn /run/mnt/image > /run/out 2>&1 || fail "round $i: $(tail -n 2 /run/out)"
		mount -o loop,ro /run/mnt/image /run/inner || fail "mount"
		(cd /run/inner && md5sum --quiet -c /run/sums) || fail "round $i: content"
		umount /run/inner
	done
	umount /run/mnt
	e2fsck -fn /dev/mapper/vol0 > /run/out 2>&1 || fail "outer: $(tail -n 2 /run/out)"
	closed /dev/a
}

modprobe -q loop
run "report 24: smaller, then longer" smaller
run "report 25: the pool is suspended" suspended
run "report 27: a device that is not what it should be" parts
run "report 30: a device just added dies" new_one_dies
run "report 34: sectors, from odd memory" odd_memory
run "report 37: an image on a file system on a volume" nested
finish
