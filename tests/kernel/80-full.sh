#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# A pool that gets full: surplus is taken back first, to the last block; then
# writes wait or fail as configured, live; space given back lets them go on.
. ./lib.sh

data() { dmsetup status "$POOL" | cut -d' ' -f6; }

# Scattered small writes into a pool whose allocations are of 1 GiB: every block
# that is not metadata or held back for it takes a write.
surplus() {
	disk a 64
	pool 2097152 0 "1 error_if_no_space" /dev/a && volume 0 209715200 || fail "no volume"
	fio --name=scattered --filename=/dev/mapper/vol0 --thread --ioengine=libaio --direct=1 \
		--rw=randwrite --bs=4k --size=100g --io_size=256m --iodepth=16 --verify=crc32c \
		--do_verify=0 --output=/run/fio --randseed=7 && fail "more was written than there is"
	expect mode "$(mode)" out_of_data_space
	# 64 MiB are 16384 blocks: 137 in front and behind, 160 held back, metadata.
	written=$(($(dmsetup status vol0 | cut -d' ' -f4) / 8))
	echo "# $written blocks of 16384 written"
	[ "$written" -ge 15000 ] || fail "only $written blocks could be written"
	dmsetup message "$POOL" 0 list > /run/list
	expect "surplus" "$(awk '{ print $3 }' /run/list)" 0
}

# Writes wait, and go on when space comes.
waiting() {
	local writer
	disk a 64
	pool 128 0 "" /dev/a && volume 0 2097152 && volume 1 2097152 || fail "no volume"
	dd if=/dev/urandom of=/run/data bs=1M count=30 status=none
	dd if=/run/data of=/dev/mapper/vol0 bs=1M oflag=direct status=none || fail "write"
	dd if=/dev/zero of=/dev/mapper/vol1 bs=1M count=50 oflag=direct status=none &
	writer=$!
	mode_becomes out_of_data_space
	cmp -n 31457280 /run/data /dev/mapper/vol0 || fail "content"
	dd if=/run/data of=/dev/mapper/vol0 bs=1M count=8 oflag=direct conv=fsync status=none ||
		fail "overwrite"
	kill -0 "$writer" 2> /dev/null || fail "the writer did not wait"
	blkdiscard /dev/mapper/vol0
	wait "$writer" || fail "the writer failed"
	expect "mode afterwards" "$(mode)" rw
}

# Waiting becomes failing by a reload.
live() {
	local writer
	disk a 32
	pool 128 0 "" /dev/a && volume 0 2097152 || fail "no volume"
	dd if=/dev/zero of=/dev/mapper/vol0 bs=1M count=64 oflag=direct status=none 2> /dev/null &
	writer=$!
	mode_becomes out_of_data_space
	"${DM[@]}" reload "$POOL" --table "0 16384 dynmap-pool 1 /dev/a 128 0 1 error_if_no_space"
	"${DM[@]}" suspend "$POOL"; "${DM[@]}" resume "$POOL"
	wait "$writer" && fail "the writer did not fail"
	grep -q error_if_no_space <<< "$(dmsetup status "$POOL")" || fail "status"
}

# The time to wait is a parameter of the module.
timeout_parameter() {
	local parameter=/sys/module/dm_dynmap_pool/parameters/no_space_timeout
	expect "default" "$(cat $parameter)" 60
	echo 1 > $parameter
	disk a 32
	pool 128 0 "" /dev/a && volume 0 2097152 || fail "no volume"
	dd if=/dev/zero of=/dev/mapper/vol0 bs=1M count=64 oflag=direct status=none 2> /dev/null &&
		fail "the writer did not fail"
	echo 60 > $parameter
}

events() { dmsetup info -c --noheadings -o events "$POOL"; }
free() { dmsetup status "$POOL" | cut -d' ' -f6 | awk -F/ '{ print $2 - $1 }'; }

# marked MARK: a reload of the pool with this low water mark.
marked() {
	"${DM[@]}" reload "$POOL" --table "0 16384 dynmap-pool 1 $dev 128 $1" || fail "reload"
	"${DM[@]}" suspend "$POOL"; "${DM[@]}" resume "$POOL"
}

# raised WHAT COUNT COMMAND...: the command raises so many events of the pool.
raised() {
	local what=$1 count=$2 before
	shift 2
	before=$(events)
	"$@"
	expect "events: $what" $(($(events) - before)) "$count"
}

# taken VOLUME FIRST MIB: so much is written.
taken() {
	dd if=/dev/zero of="/dev/mapper/vol$1" bs=1M seek="$2" count="$3" oflag=direct \
		conv=fsync status=none || fail "write"
}

# given_back FIRST MIB: of volume 0, and it is free again.
given_back() {
	local before
	before=$(free)
	blkdiscard -o $(($1 << 20)) -l $(($2 << 20)) /dev/mapper/vol0
	dd if=/dev/zero of=/dev/mapper/vol0 bs=4k count=1 oflag=direct conv=fsync status=none
	for _ in $(seq 100); do [ "$(free)" -gt "$before" ] && return; sleep 0.1; done
	fail "nothing is free again"
}

# An event each time that free space falls to the mark, whoever takes it, and one when
# the pool is opened or resumed below it.
low_water() {
	dev=/dev/a
	disk a 64
	pool 128 800 "" /dev/a && volume 0 2097152 || fail "no volume"
	expect "free" $(($(free) > 900)) 1
	raised "above the mark" 0 taken 0 0 4
	raised "crossed" 1 taken 0 4 20
	raised "below the mark" 0 taken 0 24 2
	raised "above again" 0 given_back 2 22
	raised "crossed again" 1 taken 0 2 22
	raised "resumed below it" 1 marked 800
	raised "the mark is lowered" 0 marked 100
	raised "the mark is raised" 1 marked 700
	raised "a mark beyond the pool" 1 marked 18446744073709551615
	raised "below that" 0 taken 0 26 2
	raised "no mark" 0 marked 0
	marked 700
	remove vol0; remove "$POOL"
	pool 128 700 "" /dev/a || fail "no pool"
	expect "events at opening, below the mark" "$(events)" 1
	remove "$POOL"
	pool 128 100 "" /dev/a || fail "no pool"
	expect "events at opening, above the mark" "$(events)" 0
}

# One more device is taken, the pool is still below its mark.
low_water_grows() {
	disk a 64; disk b 4
	pool 128 2000 "" /dev/a || fail "no pool"
	expect "events at opening" "$(events)" 1
	# shellcheck disable=SC2317
	grown() {
		"${DM[@]}" reload "$POOL" --table "0 16384 dynmap-pool 2 /dev/a /dev/b 128 2000" || fail "reload"
		"${DM[@]}" suspend "$POOL"; "${DM[@]}" resume "$POOL"
	}
	raised "grown below the mark" 1 grown
}

# Redirected writes take space, too, and there are no holes.
low_water_redirected() {
	dev=/dev/a
	disk a 64
	pool 128 0 "" /dev/a && volume 0 32768 || fail "no volume"
	taken 0 0 16
	dmsetup message "$POOL" 0 create_snap 1 0 || fail "snapshot"
	marked $(($(free) - 64))
	raised "redirected, above the mark" 0 taken 0 0 2
	raised "redirected, across the mark" 1 taken 0 2 12
}

# So do zeroes where space is to be kept, and nodes.
low_water_others() {
	truncate -s 64M /run/image
	dev=$(losetup -f --show /run/image)
	pool 128 0 "" "$dev" && volume 0 2097152 || fail "no volume"
	marked $(($(free) - 64))
	# shellcheck disable=SC2317
	zeroes() { fallocate --zero-range -o "$1" -l "$2" /dev/mapper/vol0 || fail "fallocate"; }
	raised "zeroes above the mark" 0 zeroes 0 2097152
	raised "zeroes across the mark" 1 zeroes 2097152 8388608
	remove vol0
	marked $(($(free) - 8))
	# shellcheck disable=SC2317
	nodes() {
		seq -f "create_thin %.0f" 1 8000 | "$TOOLS/messages" "$POOL" > /dev/null || fail "create"
	}
	raised "nodes across the mark" 1 nodes
	remove "$POOL"
	losetup -d "$dev"
	rm -f /run/image
}

# A full pool is so from its first status on; one whose space is only reserved is not.
opened_full() {
	disk a 32
	pool 128 0 "1 error_if_no_space" /dev/a && volume 0 2097152 || fail "no volume"
	dd if=/dev/zero of=/dev/mapper/vol0 bs=1M count=64 oflag=direct status=none 2> /dev/null
	expect "mode" "$(mode)" out_of_data_space
	remove vol0; remove "$POOL"
	pool 128 0 "" /dev/a || fail "no pool"
	expect "mode at opening" "$(mode)" out_of_data_space
	expect "feature" "$(dmsetup status "$POOL" | cut -d' ' -f10)" queue_if_no_space
	volume 0 2097152
	blkdiscard -l 8388608 /dev/mapper/vol0
	mode_becomes rw
	dd if=/dev/zero of=/dev/mapper/vol0 bs=1M count=4 oflag=direct status=none || fail "write"
	remove vol0; remove "$POOL"
	disk b 32
	pool 2097152 0 "" /dev/b && volume 0 209715200 || fail "no volume"
	for i in $(seq 0 40); do
		dd if=/dev/zero of=/dev/mapper/vol0 bs=4k count=1 seek=$((i * 262144)) oflag=direct \
			status=none || fail "write"
	done
	remove vol0; remove "$POOL"
	pool 2097152 0 "" /dev/b || fail "no pool"
	echo "# reserved by 41 blocks: free $(dmsetup status "$POOL" | cut -d' ' -f6), mode $(mode)"
	expect "mode, space reserved" "$(mode)" rw
}

# Volumes are created in a full pool until there is no place for their records:
# that is a state, and it ends when space comes.
metadata() {
	disk a 64
	pool 128 0 "1 error_if_no_space" /dev/a && volume 0 2097152 || fail "no volume"
	dd if=/dev/zero of=/dev/mapper/vol0 bs=1M count=100 oflag=direct status=none 2> /dev/null
	expect "mode without data space" "$(mode)" out_of_data_space
	dmesg -C
	seq -f "create_thin %.0f" 1 20000 | "$TOOLS/messages" "$POOL" > /run/out 2> /dev/null &&
		fail "20000 volumes in a full pool"
	echo "# volumes: $(cat /run/out)"
	expect "mode without metadata space" "$(mode)" out_of_metadata_space
	# The mark is hit again whenever checkpoints have freed nodes in between.
	expect "said before" "$(dmesg | grep -oE 'low water mark of metadata|out of metadata space' | uniq |
		tr '\n' ';')" "low water mark of metadata;out of metadata space;"
	echo "# metadata: $(dmsetup status "$POOL" | cut -d' ' -f5,12)"
	dd if=/dev/urandom of=/run/data bs=1M count=8 status=none
	dd if=/run/data of=/dev/mapper/vol0 bs=1M oflag=direct conv=fsync status=none ||
		fail "overwrite"
	cmp -n 8388608 /run/data /dev/mapper/vol0 || fail "content"
	dmsetup message "$POOL" 0 delete 1 || fail "delete"
	blkdiscard -o 16777216 -l 16777216 /dev/mapper/vol0 || fail "discard"
	mode_becomes rw
	dmsetup message "$POOL" 0 create_thin 1 || fail "create"
	dd if=/run/data of=/dev/mapper/vol0 bs=1M seek=16 oflag=direct conv=fsync status=none ||
		fail "write"
	remove vol0; remove "$POOL"
	"$TOOLS/dynmap" check /dev/a > /run/out 2>&1 || fail "the checker: $(tail -n 2 /run/out)"
}

# What a pool out of metadata space does at its end leaves nothing behind.
metadata_ends() {
	local parameter=/sys/module/dm_dynmap_pool/parameters/no_space_timeout i
	echo 1 > $parameter
	for i in 1 2 3; do
		disk a 64
		pool 128 0 "" /dev/a && volume 0 2097152 || fail "no volume"
		dd if=/dev/zero of=/dev/mapper/vol0 bs=1M count=100 oflag=direct status=none 2> /dev/null
		seq -f "create_thin %.0f" 1 20000 | "$TOOLS/messages" "$POOL" > /run/out 2> /dev/null
		expect "mode" "$(mode)" out_of_metadata_space
		[ $i -eq 1 ] || dmsetup message "$POOL" 0 delete 1 || fail "delete"
		[ $i -eq 2 ] || sleep 1
		remove vol0; remove "$POOL"
		disk_remove a
	done
	sleep 3
	echo 60 > $parameter
}

run "surplus is taken back to the last block" surplus
run "writes wait for space" waiting
run "waiting becomes failing, live" live
run "the time to wait" timeout_parameter
run "the low water mark" low_water
run "the low water mark: growth" low_water_grows
run "the low water mark: redirected writes" low_water_redirected
modprobe loop 2> /dev/null
[ ! -e /dev/loop-control ] || run "the low water mark: zeroes, nodes" low_water_others
run "a full pool is opened" opened_full
run "no space for metadata" metadata
run "no space for metadata, to the end" metadata_ends
finish
