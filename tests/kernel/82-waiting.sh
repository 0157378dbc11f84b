#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# Writes that wait for space: nothing else waits with them for longer than is
# documented, no wake-up is lost, and when the time is over they fail, at once
# and cheaply, until space comes back.
. ./lib.sh

PARAMETER=/sys/module/dm_dynmap_pool/parameters/no_space_timeout

# ends SECONDS WHAT PID: our child ends in that time; its status, and how long it took.
ends() {
	local begun
	begun=$(now)
	while kill -0 "$3" 2> /dev/null; do
		[ $(($(now) - begun)) -le $(($1 * 1000)) ] ||
			{ fail "$2: not over after $1 s"; return 124; }
		sleep 0.05
	done
	took=$(($(now) - begun))
	echo "# $2: $took ms"
	wait "$3"
}

# within SECONDS WHAT COMMAND...
within() {
	local limit=$1 what=$2
	shift 2
	"$@" > /run/within 2>&1 &
	ends "$limit" "$what" $!
}

events() { dmsetup info -c --noheadings -o events "$POOL"; }
feature() { dmsetup status "$POOL" | cut -d' ' -f10; }
free() { dmsetup status "$POOL" | cut -d' ' -f6 | awk -F/ '{ print $2 - $1 }'; }
suspend() { timeout 100 "${DM[@]}" suspend "$@"; }
resume() { "${DM[@]}" resume "$1" || fail "resume $1"; }

# waiting SECONDS: a pool of 32 MiB in which a writer to volume 0 waits for 1 MiB, and may
# do so for that time; volume 1 has 8 MiB, and nothing reserved ahead.
waiting() {
	echo "$1" > $PARAMETER
	disk a 32
	pool 128 0 "" /dev/a && volume 0 2097152 && volume 1 16384 || fail "no volume"
	dd if=/dev/zero of=/dev/mapper/vol1 bs=1M count=8 oflag=direct status=none || fail "write"
	count=$(($(free) / 16 + 1))
	dd if=/dev/urandom of=/run/data bs=1M count=$count status=none
	begin_writing
	mode_becomes out_of_data_space
	sleep 0.5
	still_waits "from the beginning"
}

# begin_writing [MIB]: from there on.
begin_writing() {
	dd if=/run/data of=/dev/mapper/vol0 bs=1M seek="${1:-0}" oflag=direct conv=fsync status=none \
		2> /run/err &
	writer=$!
}

still_waits() { kill -0 "$writer" 2> /dev/null || fail "the writer does not wait: $1"; }
give_back() { blkdiscard -l 8388608 /dev/mapper/vol1 || fail "discard"; }

# There is space: the writer goes on, and loses nothing.
goes_on() {
	ends 15 "the writer goes on" "$writer" || fail "the writer failed: $(cat /run/err)"
	cmp -n $((count << 20)) /run/data /dev/mapper/vol0 || fail "content"
	mode_becomes rw
}

writer_fails() { ends "$1" "the writer fails" "$writer" && fail "the writer did not fail"; }
closes() {
	remove vol0; remove vol1; remove "$POOL"
	"$TOOLS/dynmap" check /dev/a > /run/out 2>&1 || fail "the checker: $(tail -n 3 /run/out)"
	echo 60 > $PARAMETER
}

# Without a flush what waits is given back to device-mapper, and waits again afterwards.
noflush() {
	waiting 0
	within 10 "suspend --noflush" suspend --noflush --nolockfs vol0 || fail "suspend"
	still_waits "suspended"
	resume vol0
	sleep 1
	still_waits "resumed"
	within 10 "suspend --noflush" suspend --noflush vol0 || fail "suspend"
	give_back
	mode_becomes rw
	still_waits "suspended, with space"
	resume vol0
	goes_on
	closes
}

# A suspend with a flush waits as the writes do, as long as they may.
flush() {
	waiting 6
	within 20 "suspend with a flush" suspend vol0 || fail "suspend"
	[ "$took" -gt 2000 ] || fail "the writes did not wait"
	# The rest of a long write may have come too late, and waits for the resume.
	resume vol0
	writer_fails 5
	give_back
	begin_writing
	goes_on
	closes
}

# If they may wait without end it does for a minute, or until it is interrupted.
flush_without_end() {
	waiting 0
	timeout 3 "${DM[@]}" suspend --nolockfs vol0 && fail "the suspend was not interrupted"
	still_waits "after an interrupted suspend"
	give_back
	goes_on
	begin_writing 100
	mode_becomes out_of_data_space
	within 80 "suspend with a flush" suspend vol0 || fail "suspend"
	[ "$took" -gt 50000 ] || fail "the writes did not wait"
	resume vol0
	writer_fails 90
	closes
}

# What a system does at its end: sync each device, and remove it, by force if need be.
shutdown() {
	local name
	waiting 0
	for name in "$POOL" vol0 vol1; do
		within 10 "fsync of $name" sync "/dev/mapper/$name"
	done
	for name in vol1 vol0 "$POOL"; do
		within 10 "remove --force $name" "${DM[@]}" remove --retry --force "$name" ||
			fail "remove $name: $(cat /run/within)"
	done
	writer_fails 5
	dmsetup ls | grep -q . && [ "$(dmsetup ls)" != "No devices found" ] && fail "$(dmsetup ls)"
	echo 60 > $PARAMETER
}

# The same with dirty pages that nobody waits for, and the pool first.
shutdown_dirty() {
	local name
	waiting 0
	dd if=/dev/zero of=/dev/mapper/vol0 bs=1M seek=200 count=4 status=none &
	dirty=$!
	sleep 2
	for name in "$POOL" vol0 vol1; do
		within 10 "remove --force $name" "${DM[@]}" remove --force "$name"
	done
	writer_fails 5
	ends 10 "the writer of pages ends" $dirty
	for name in vol0 vol1 "$POOL"; do
		! dmsetup info "$name" > /dev/null 2>&1 || remove "$name"
	done
	echo 60 > $PARAMETER
}

# The pool needs no write of its volumes to be suspended, and grows.
grows() {
	waiting 0
	within 10 "suspend of the pool" suspend "$POOL" || fail "suspend"
	resume "$POOL"
	still_waits "the pool resumed"
	disk b 32
	"${DM[@]}" reload "$POOL" --table "0 16384 dynmap-pool 2 /dev/a /dev/b 128 0" || fail "reload"
	within 10 "suspend of the pool" suspend --noflush "$POOL" || fail "suspend"
	resume "$POOL"
	goes_on
	remove vol0; remove vol1; remove "$POOL"
	echo 60 > $PARAMETER
}

# A new time to wait is that of the writes that wait already.
parameter() {
	waiting 0
	echo 3 > $PARAMETER
	writer_fails 8
	closes
	disk_remove a
	waiting 600
	echo 2 > $PARAMETER
	writer_fails 6
	closes
}

# After the time is over: overwrites, flushes; space ends it, as configured.
over() {
	local before
	waiting 2
	before=$(events)
	writer_fails 8
	[ "$(events)" -gt "$before" ] || fail "no event"
	echo 60 > $PARAMETER
	for i in 1 2 3; do
		expect "mode $i" "$(mode)" out_of_data_space
		expect "feature $i" "$(feature)" error_if_no_space
		dmsetup status "$POOL" | grep -q needs_check && fail "needs_check"
		dd if=/dev/urandom of=/dev/mapper/vol1 bs=1M count=2 oflag=direct conv=fsync status=none ||
			fail "overwrite $i"
		begin_writing
		writer_fails 15
	done
	give_back
	mode_becomes rw
	expect "feature with space" "$(feature)" queue_if_no_space
	begin_writing
	goes_on
	# The next time writes wait again, now for a device.
	begin_writing 100
	mode_becomes out_of_data_space
	sleep 3
	still_waits "the second time"
	expect "feature" "$(feature)" queue_if_no_space
	disk b 64
	"${DM[@]}" reload "$POOL" --table "0 16384 dynmap-pool 2 /dev/a /dev/b 128 0" || fail "reload"
	suspend "$POOL"; resume "$POOL"
	ends 15 "the writer goes on" $writer || fail "the writer failed: $(cat /run/err)"
	expect "mode" "$(mode)" rw
	remove vol0; remove vol1; remove "$POOL"
}

# Space comes back while writes are about to wait for it: each of them sees it.
wake_ups() {
	local i pids failed=0
	# Long enough for a slow machine to find the space; what nobody wakes waits until then.
	echo 10 > $PARAMETER
	disk a 32
	pool 128 0 "" /dev/a && volume 0 2097152 && volume 1 2097152 || fail "no volume"
	dd if=/dev/zero of=/dev/mapper/vol1 bs=64k count=$(($(free) - 128)) oflag=direct status=none
	for _ in $(seq 30); do
		# But for a unit: the map of what is written takes some blocks as well.
		dd if=/dev/zero of=/dev/mapper/vol0 bs=64k count=$(($(free) - 1)) oflag=direct \
			status=none || fail "there is less space than the status tells"
		pids=()
		for i in 0 1 2 3 4 5 6 7; do
			dd if=/dev/zero of=/dev/mapper/vol0 bs=64k count=2 seek=$((1000 + 2 * i)) \
				oflag=direct status=none 2> /dev/null &
			pids+=($!)
		done
		sleep 0.0$((RANDOM % 8))
		blkdiscard -l 4194304 /dev/mapper/vol0
		for i in "${pids[@]}"; do wait "$i" || failed=$((failed + 1)); done
		blkdiscard /dev/mapper/vol0
	done
	echo "# $failed of 240 writes failed though space had come back"
	[ $failed -eq 0 ] || fail "lost wake-ups"
	closes
}

# Each write that fails looks for space once: not in all volumes when nothing was reserved
# since the last one looked.
fruitless() {
	local begun
	disk a 64
	pool 128 0 "1 error_if_no_space" /dev/a && volume 0 2097152 || fail "no volume"
	seq -f "create_thin %.0f" 1 2000 | "$TOOLS/messages" "$POOL" > /dev/null || fail "create"
	dd if=/dev/zero of=/dev/mapper/vol0 bs=1M count=128 oflag=direct status=none 2> /dev/null
	expect "mode" "$(mode)" out_of_data_space
	begun=$(now)
	fio --name=failing --filename=/dev/mapper/vol0 --thread --ioengine=libaio --direct=1 \
		--rw=write --bs=4k --offset=256m --size=4m --iodepth=16 --continue_on_error=write \
		--output=/run/fio > /dev/null 2>&1
	took=$(($(now) - begun))
	echo "# 1024 writes that fail: $took ms"
	[ $took -lt 15000 ] || fail "failing takes too long"
	expect "mode" "$(mode)" out_of_data_space
	remove vol0; remove "$POOL"
}

# xfs_on MIB: a file system of 2 GiB on a pool of one disk.
xfs_on() {
	disk a "$1"
	pool 128 0 "" /dev/a && volume 0 4194304 || fail "no volume"
	mkfs.xfs -q -K /dev/mapper/vol0 || fail mkfs
	mount /dev/mapper/vol0 /run/mnt || fail mount
	name=$(readlink "/sys/dev/block/$(stat -c %Hr:%Lr /dev/mapper/vol0)")
	for i in ENOSPC default; do
		echo 0 > "/sys/fs/xfs/${name##*/}/error/metadata/$i/max_retries"
	done
}

# Dirty pages that can only fail do so in little time.
dirty_pages() {
	echo 10 > $PARAMETER
	xfs_on 256
	dd if=/dev/zero of=/run/mnt/file bs=1M count=620 status=none 2> /dev/null &
	mode_becomes out_of_data_space
	PATIENCE=60 becomes "the time is over" error_if_no_space feature
	ends 60 "the writer ends" $!
	grep -E "^(Dirty|Writeback):" /proc/meminfo | sed 's/^/# /'
	within 60 "sync" sync /run/mnt/file
	within 60 "umount" umount /run/mnt
	expect "mode" "$(mode)" out_of_data_space
	remove vol0; remove "$POOL"
	echo 60 > $PARAMETER
}

# A device that comes before the time is over lets all of them through.
in_time() {
	echo 10 > $PARAMETER
	xfs_on 128
	disk b 512
	dd if=/dev/urandom of=/run/data bs=1M count=200 status=none
	dd if=/run/data of=/run/mnt/file bs=1M conv=fsync status=none 2> /run/err &
	writer=$!
	mode_becomes out_of_data_space
	sleep 5
	"${DM[@]}" reload "$POOL" --table "0 16384 dynmap-pool 2 /dev/a /dev/b 128 0" || fail "reload"
	within 10 "suspend of the pool" suspend "$POOL"
	resume "$POOL"
	ends 60 "the writer goes on" $writer || fail "the writer failed: $(cat /run/err)"
	expect "mode" "$(mode)" rw
	echo 3 > /proc/sys/vm/drop_caches
	cmp /run/data /run/mnt/file || fail "content"
	within 60 "umount" umount /run/mnt
	xfs_repair -n /dev/mapper/vol0 > /run/out 2>&1 || fail "xfs_repair: $(tail -n 3 /run/out)"
	dmesg | grep -iE "xfs.*(error|shutdown)" | head -n 3
	remove vol0; remove "$POOL"
	echo 60 > $PARAMETER
}

run "a suspend without a flush gives back what waits" noflush
run "a suspend with a flush waits as long as the writes" flush
run "a suspend with a flush ends" flush_without_end
run "the system's end" shutdown
run "the system's end, dirty pages, the pool first" shutdown_dirty
run "the pool is suspended and grows" grows
run "the time to wait changes" parameter
run "the time to wait is over" over
run "no wake-up is lost" wake_ups
run "fruitless searches for space" fruitless
run "xfs: dirty pages that fail" dirty_pages
run "xfs: a device comes in time" in_time
finish
