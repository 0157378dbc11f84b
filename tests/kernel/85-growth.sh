#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# Growth, online: a device that got longer, a device that is added, volumes of
# any size; writes that wait for space go on.
. ./lib.sh

free() { dmsetup status "$POOL" | cut -d' ' -f6 | awk -F/ '{ print $2 - $1 }'; }

# reload DEV...
reload() {
	"${DM[@]}" reload "$POOL" --table "0 16384 dynmap-pool $# $* 128 0" || return 1
	"${DM[@]}" suspend "$POOL"
	"${DM[@]}" resume "$POOL"
}

# A writer that waits, until the pool has grown by what reload is given.
grows_under_a_writer() {
	local writer
	dd if=/dev/urandom of=/run/data bs=1M count=80 status=none
	dd if=/run/data of=/dev/mapper/vol0 bs=1M oflag=direct conv=fsync status=none &
	writer=$!
	mode_becomes out_of_data_space
	"$@" || fail "reload"
	wait "$writer" || fail "the writer failed"
	expect "mode afterwards" "$(mode)" rw
	cmp -n 83886080 /run/data /dev/mapper/vol0 || fail "content"
	remove vol0; remove "$POOL"
}

added() {
	disk a 64; disk b 64
	pool 128 0 "" /dev/a && volume 0 2097152 || fail "no volume"
	grows_under_a_writer reload /dev/a /dev/b
	refused "the pool has 2 devices" create "$POOL" "0 16384 dynmap-pool 1 /dev/a 128 0"
	pool 128 0 "" /dev/b /dev/a && volume 0 2097152 || fail "does not open again"
	cmp -n 83886080 /run/data /dev/mapper/vol0 || fail "content after opening again"
}

longer() {
	truncate -s 64M /run/image
	loop=$(losetup -f --show /run/image)
	pool 128 0 "" "$loop" && volume 0 2097152 || fail "no volume"
	truncate -s 640M /run/image
	losetup -c "$loop"
	grows_under_a_writer reload "$loop"
	pool 128 0 "" "$loop" && volume 0 2097152 || fail "does not open again"
	cmp -n 83886080 /run/data /dev/mapper/vol0 || fail "content after opening again"
	[ "$(free)" -gt 8000 ] || fail "only $(free) units are free"
	remove vol0; remove "$POOL"
	losetup -d "$loop"
	rm -f /run/image
}

refusals() {
	disk a 64; disk b 64; disk c 64; disk d 1
	mke2fs -q /dev/b
	pool 128 0 "" /dev/a && volume 0 2097152 || fail "no volume"
	create other "0 16384 dynmap-pool 1 /dev/c 128 0" || fail "no other pool"
	refused "b is not empty" reload /dev/a /dev/b
	refused "in use by another pool" reload /dev/a /dev/c
	refused "d is too small" reload /dev/a /dev/d
	refused "is missing" reload /dev/b
	remove other
	refused "c belongs to another pool" reload /dev/a /dev/c
	expect "devices" "$(dmsetup table "$POOL" | cut -d' ' -f4)" 1
	dd if=/dev/zero of=/dev/mapper/vol0 bs=1M count=4 oflag=direct conv=fsync status=none ||
		fail "write"
}

# A device that can be read and not written joins nothing, and leaves the pool as it was.
dead() {
	modprobe -q dm-flakey
	disk a 64; disk b 64
	through below b
	swap below "0 131072 flakey /dev/b 0 0 60 1 error_writes"
	pool 128 0 "" /dev/a && volume 0 2097152 || fail "no volume"
	dd if=/dev/urandom of=/run/data bs=1M count=8 status=none
	dd if=/run/data of=/dev/mapper/vol0 bs=1M oflag=direct conv=fsync status=none || fail "write"
	reload /dev/a /dev/mapper/below 2> /dev/null && fail "a device that cannot be written has joined"
	reload /dev/a || fail "the pool does not take its own table"
	expect "mode" "$(mode)" rw
	dd if=/run/data of=/dev/mapper/vol0 bs=1M seek=8 oflag=direct conv=fsync status=none ||
		fail "write afterwards"
	remove vol0; remove "$POOL"
	"$TOOLS/dynmap" check /dev/a > /run/out || fail "the checker: $(tail -n 3 /run/out)"
	pool 128 0 "" /dev/a && volume 0 2097152 || fail "does not open without the device"
	works below b
	reload /dev/a /dev/mapper/below || fail "the device works, and cannot join"
	cmp -n 8388608 /run/data /dev/mapper/vol0 || fail "content"
	closed /dev/a /dev/mapper/below
	remove below
}

volumes() {
	disk a 64
	pool 128 0 "" /dev/a && volume 0 8192 || fail "no volume"
	dd if=/dev/urandom of=/run/data bs=1M count=4 status=none
	dd if=/run/data of=/dev/mapper/vol0 bs=1M oflag=direct status=none || fail "write"
	# 15 PiB, and written at its end.
	"${DM[@]}" reload vol0 --table "0 32985348833280 dynmap /dev/mapper/$POOL 0" || fail "reload"
	"${DM[@]}" suspend vol0; "${DM[@]}" resume vol0
	expect "size" "$(blockdev --getsz /dev/mapper/vol0)" 32985348833280
	dd if=/run/data of=/dev/mapper/vol0 bs=4k count=8 seek=4123168604152 oflag=direct \
		status=none || fail "write at the end"
	cmp -n 4194304 /run/data /dev/mapper/vol0 || fail "content"
	dd if=/dev/mapper/vol0 bs=4k count=8 skip=4123168604152 status=none |
		cmp - <(head -c 32768 /run/data) || fail "content at the end"
}

run "a device is added under a waiting writer" added
modprobe loop 2> /dev/null
[ ! -e /dev/loop-control ] || run "a device gets longer under a waiting writer" longer
run "devices that cannot join" refusals
run "a device that fails while it joins" dead
run "volumes are resized" volumes
finish
