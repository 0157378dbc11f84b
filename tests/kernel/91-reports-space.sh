#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# What people who run thin pools report of full ones, as recipes: doc/proof.md has a
# line for each, and tells where those are that other topics try.
. ./lib.sh

PARAMETER=/sys/module/dm_dynmap_pool/parameters/no_space_timeout

# image NAME MIB: a pool's device that can be copied while it is in use, $loop.
image() {
	truncate -s "$2M" "/run/$1"
	loop=$(losetup -f --show "/run/$1")
}
image_gone() { losetup -d "$loop"; rm -f "/run/$1"; }

status() { dmsetup status "$POOL" | cut -d' ' -f"$1"; }
wrote() { dd if=/dev/zero of="/dev/mapper/vol$1" bs=4k seek="$2" count="$3" oflag=direct conv=fsync,notrunc status=none; }

# scattered VOLUME COUNT SEED: random writes of 4 KiB to the first 48 MiB; false if one failed.
scattered() {
	fio --name=s --filename="/dev/mapper/vol$1" --thread --ioengine=libaio --direct=1 --rw=randwrite \
		--bs=4k --size=48m --io_size="$(($2 * 4))k" --iodepth=16 --randseed="$3" --output=/run/fio
}

# way NAME COMMAND...: in a copy of the full pool's device, one way out; then a write works.
way() {
	local name=$1
	shift
	cp --sparse=always /run/full /run/copy
	loop=$(losetup -f --show /run/copy)
	pool 8 0 "1 error_if_no_space" "$loop" || { fail "$name: does not open"; image_gone copy; return; }
	for i in 0 1 2; do volume $i 98304 || fail "$name: volume $i"; done
	"$@" || fail "$name: refused: $(dmesg | tail -n 1)"
	echo "# $name"
	mode_becomes rw
	wrote 1 12287 1 || fail "$name: no write afterwards"
	for i in $(dmsetup ls --target dynmap | awk '/\(/ { print $1 }'); do remove "$i"; done
	remove "$POOL"
	"$TOOLS/dynmap" check "$loop" > /run/out || fail "$name: the checker: $(tail -n 2 /run/out)"
	image_gone copy
}

# shellcheck disable=SC2317
old_ones() { for i in 10 20 30; do dmsetup message "$POOL" 0 delete $i || return; done; }
# shellcheck disable=SC2317
alone() { remove vol0; dmsetup message "$POOL" 0 delete 0; }
added() {
	"${DM[@]}" reload "$POOL" --table "0 16384 dynmap-pool 2 $loop /dev/b 8 0 1 error_if_no_space" &&
		"${DM[@]}" suspend "$POOL" && "${DM[@]}" resume "$POOL"
}
added_way() {
	disk b 64
	cp --sparse=always /run/full /run/copy
	loop=$(losetup -f --show /run/copy)
	pool 8 0 "1 error_if_no_space" "$loop" && volume 0 98304 || { fail "does not open"; return; }
	added || fail "a device cannot be added: $(dmesg | tail -n 1)"
	mode_becomes rw
	wrote 0 12287 1 || fail "no write after growth"
	remove vol0; remove "$POOL"
	"$TOOLS/dynmap" check "$loop" /dev/b > /run/out || fail "the checker: $(tail -n 2 /run/out)"
	image_gone copy
}

# Report 4: full of snapshots, then the power fails: it opens, and each way out is open.
full_and_cut() {
	local round i
	image pool 64
	pool 8 0 "1 error_if_no_space" "$loop" || { fail "no pool"; return; }
	for i in 0 1 2; do volume $i 98304 || fail "no volume"; done
	for round in 1 2 3 4 5; do
		for i in 0 1 2; do scattered $i 800 $((10 * round + i)) || break; done
		for i in 0 1 2; do snap "$round$i" "$i" || fail "no snapshot"; done
	done
	for round in $(seq 6 30); do
		scattered $((round % 3)) 2400 "$round" || break
	done
	echo "# $(dmsetup status "$POOL")"
	expect "mode" "$(status 8)" out_of_data_space
	sync "$loop"
	cp --sparse=always /run/pool /run/full
	for i in 0 1 2; do remove vol$i; done
	remove "$POOL"
	image_gone pool
	way "snapshots are deleted" old_ones
	way "a volume is discarded" blkdiscard /dev/mapper/vol1
	way "a volume alone is deleted" alone
	added_way
	rm -f /run/full
}

# Report 5: an origin that is written in place fills the pool because of its snapshots.
snapshots_fill() {
	local before writer i said
	echo 300 > $PARAMETER
	disk a 128
	pool 128 0 "" /dev/a && volume 0 131072 || { fail "no volume"; return; }
	mkfs.ext4 -q -E lazy_itable_init=1,nodiscard /dev/mapper/vol0
	mount /dev/mapper/vol0 /run/mnt
	dd if=/dev/urandom of=/run/mnt/file bs=1M count=40 conv=fsync status=none
	snap 1 0; dmsetup message "$POOL" 0 set 1 protected 1
	for i in $(seq 2 9); do
		dd if=/dev/urandom of=/run/mnt/file bs=1M count=24 conv=fsync,notrunc status=none &
		writer=$!
		for _ in $(seq 200); do
			kill -0 $writer 2> /dev/null || break
			[ "$(mode)" = rw ] || break
			sleep 0.1
		done
		[ "$(mode)" = rw ] || break
		wait $writer
		snap $i 0
	done
	expect "mode" "$(mode)" out_of_data_space
	kill -0 $writer 2> /dev/null || fail "the writer does not wait"
	refused "protected" dmsetup message "$POOL" 0 delete 1
	dmsetup message "$POOL" 0 set 1 protected 0
	said=$(usage_of 1 3) before=$(used)
	delete 1
	wait $writer || fail "the writer failed"
	sync /run/mnt/file || fail "sync"
	touch /run/mnt/new || fail "the file system is read-only"
	echo "# exclusive to the snapshot: $said sectors; units in use before $before, after $(used)"
	expect "mode afterwards" "$(mode)" rw
	umount /run/mnt
	e2fsck -fn /dev/mapper/vol0 > /run/out 2>&1 || fail "e2fsck: $(tail -n 2 /run/out)"
	echo 60 > $PARAMETER
	closed /dev/a
}

# Report 6: what was discarded is there for the next write, also before it is released.
discard_and_write() {
	local features i
	for features in "1 error_if_no_space" "2 error_if_no_space no_discard_passdown"; do
		disk a 64
		pool 128 0 "$features" /dev/a && volume 0 131072 || { fail "no volume"; return; }
		for i in $(seq 12); do
			dd if=/dev/zero of=/dev/mapper/vol0 bs=1M count=52 oflag=direct status=none ||
				{ fail "round $i: no space"; break; }
			blkdiscard /dev/mapper/vol0
		done
		closed /dev/a
		disk_remove a
	done
}

# Report 7: the time to wait runs out while others go on; after growth the pool waits again.
timeout_and_growth() {
	local round devices=/dev/a writer
	echo 1 > $PARAMETER
	disk a 32
	pool 128 0 "" /dev/a && volume 0 2097152 || { fail "no volume"; return; }
	dd if=/dev/zero of=/dev/mapper/vol0 bs=1M count=8 oflag=direct status=none
	for round in b c d e; do
		(while [ ! -e /run/stop ]; do wrote 0 $((RANDOM % 2048)) 1 || echo failed; done) > /run/syncs &
		writer=$!
		dd if=/dev/zero of=/dev/mapper/vol0 bs=1M seek=8 count=400 oflag=direct status=none 2> /run/out &&
			fail "round $round: more was written than there is"
		grep -q "No space left" /run/out || fail "round $round: $(cat /run/out)"
		touch /run/stop; wait $writer; rm -f /run/stop
		expect "syncs that failed" "$(wc -l < /run/syncs)" 0
		expect "mode" "$(mode)" out_of_data_space
		disk $round 32
		devices="$devices /dev/$round"
		# shellcheck disable=SC2086
		"${DM[@]}" reload "$POOL" --table "0 16384 dynmap-pool $(wc -w <<< "$devices") $devices 128 0" ||
			fail "round $round: reload"
		"${DM[@]}" suspend "$POOL"; "${DM[@]}" resume "$POOL"
		expect "mode after growth" "$(mode)" rw
		expect "what it does when full" "$(status 10)" queue_if_no_space
	done
	echo 60 > $PARAMETER
	# shellcheck disable=SC2086
	closed $devices
}

# Report 8: metadata of the worst kind fills a pool; it is said before, and ends.
fragments() {
	local i
	disk a 64
	pool 8 0 "1 error_if_no_space" /dev/a && volume 0 2147483648 || { fail "no volume"; return; }
	fio --name=f --filename=/dev/mapper/vol0 --thread --ioengine=libaio --direct=1 --rw=randwrite --bs=4k \
		--size=1t --io_size=24m --iodepth=16 --randseed=1 --output=/run/fio || fail "write"
	for i in $(seq 60); do
		snap "$i" 0 2> /dev/null || break
		fio --name=f --filename=/dev/mapper/vol0 --thread --ioengine=libaio --direct=1 --rw=randwrite \
			--bs=4k --size=1t --io_size=1m --iodepth=16 --randseed=1 --output=/run/fio || break
	done
	echo "# full after $i snapshots: $(dmsetup status "$POOL")"
	[ "$(mode)" != rw ] || fail "not full after $i snapshots"
	dmesg | grep -qE "switches to out of|low water mark of metadata" || fail "nothing was said"
	dd if=/dev/mapper/vol0 of=/dev/null bs=1M count=1024 iflag=direct status=none || fail "read"
	for i in $(seq 60); do dmsetup message "$POOL" 0 delete "$i" 2> /dev/null; done
	mode_becomes rw
	fio --name=f --filename=/dev/mapper/vol0 --thread --ioengine=libaio --direct=1 --rw=randwrite --bs=4k \
		--size=1t --io_size=1m --iodepth=16 --randseed=9 --output=/run/fio || fail "write afterwards"
	closed /dev/a
}

# A hundred snapshots, each with a few scattered writes, fill a pool with metadata: each can
# be deleted, and all of the space comes back.
hundred() {
	local i
	disk a 64
	pool 128 0 "1 error_if_no_space" /dev/a && volume 0 30720 || { fail "no volume"; return; }
	dd if=/dev/zero of=/dev/mapper/vol0 bs=1M count=15 oflag=direct status=none
	for i in $(seq 300); do
		snap "$i" 0 2> /dev/null || break
		fio --name=h --filename=/dev/mapper/vol0 --thread --ioengine=libaio --direct=1 --rw=randwrite \
			--bs=4k --size=15m --io_size=256k --iodepth=16 --randrepeat=0 --output=/run/fio \
			2> /dev/null || break
	done
	echo "# full after $i snapshots: $(dmsetup status "$POOL")"
	[ "$i" -lt 300 ] || fail "not full"
	remove vol0; remove "$POOL"
	pool 128 0 "1 error_if_no_space" /dev/a || { fail "does not open"; return; }
	dmsetup message "$POOL" 0 delete 20 || fail "a snapshot cannot be deleted"
	send "deleted" < <(seq 1 $((i - 1)) | grep -vx 20 | shuf | sed 's/^/delete /')
	dmsetup message "$POOL" 0 delete "$i" 2> /dev/null
	delete 0
	PATIENCE=60 settles 0
	closed /dev/a
}

modprobe -q loop
run "report 4: full of snapshots, and a power cut" full_and_cut
run "report 5: snapshots fill the pool" snapshots_fill
run "report 6: discards, and writes at once" discard_and_write
run "report 7: the time to wait, and growth" timeout_and_growth
run "report 8: metadata in pieces" fragments
run "a hundred snapshots" hundred
finish
