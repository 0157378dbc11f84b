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

low_water() {
	disk a 64
	pool 128 800 "" /dev/a && volume 0 2097152 || fail "no volume"
	before=$(dmsetup info -c --noheadings -o events "$POOL")
	dd if=/dev/zero of=/dev/mapper/vol0 bs=1M count=4 oflag=direct status=none
	expect "events early" "$(dmsetup info -c --noheadings -o events "$POOL")" "$before"
	dd if=/dev/zero of=/dev/mapper/vol0 bs=1M count=20 oflag=direct status=none
	expect "events" "$(dmsetup info -c --noheadings -o events "$POOL")" $((before + 1))
}

# Volumes are created in a full pool until there is no place for their records:
# that is a state, and it ends when space comes.
metadata() {
	disk a 64
	pool 128 0 "1 error_if_no_space" /dev/a && volume 0 2097152 || fail "no volume"
	dd if=/dev/zero of=/dev/mapper/vol0 bs=1M count=100 oflag=direct status=none 2> /dev/null
	expect "mode without data space" "$(mode)" out_of_data_space
	seq -f "create_thin %.0f" 1 20000 | "$TOOLS/messages" "$POOL" > /run/out 2> /dev/null &&
		fail "20000 volumes in a full pool"
	echo "# volumes: $(cat /run/out)"
	expect "mode without metadata space" "$(mode)" out_of_metadata_space
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

run "surplus is taken back to the last block" surplus
run "writes wait for space" waiting
run "waiting becomes failing, live" live
run "the time to wait" timeout_parameter
run "the low water mark" low_water
run "no space for metadata" metadata
finish
