#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# The pool's table goes while volumes are in use: another one takes its place (the same
# devices: a reload), or the error target (wipe_table, remove --force). Without a pool
# target the pool holds no device: its volumes fail all I/O until a table with the same
# devices is loaded, and then have everything that was acknowledged.
. ./lib.sh

LEDGER=/run/ledger
IMAGES=(/run/image0 /run/image1)

# attached: both images as loop devices, in $LOOPS.
attached() {
	local image
	LOOPS=()
	for image in "${IMAGES[@]}"; do
		[ -e "$image" ] || truncate -s 64M "$image"
		LOOPS+=("$(losetup -f --show "$image")")
	done
}

# detached: no holder is left, and the loop devices let go of their images at once.
detached() {
	local loop
	for loop in "${LOOPS[@]}"; do
		expect "holders of $loop" "$(ls "/sys/block/${loop#/dev/}/holders")" ""
		losetup -d "$loop" || fail "losetup -d $loop"
		losetup "$loop" > /dev/null 2>&1 && fail "$loop is in use"
	done
}

table() { echo "0 16384 dynmap-pool $# $* 128 0"; }

# given ARGUMENT...: the pool gets this table.
given() {
	"${DM[@]}" reload "$POOL" --table "$(table "$@")" || return 1
	"${DM[@]}" suspend "$POOL"
	"${DM[@]}" resume "$POOL"
}

wiped() { "${DM[@]}" wipe_table "$POOL" || fail "wipe_table"; }
targets() { cat /sys/module/dm_dynmap_pool/refcnt; }

made() {
	rm -f $LEDGER "${IMAGES[@]}"
	attached
	pool 128 0 "" "${LOOPS[@]}" && volume 0 2097152 && volume 1 2097152 || fail "no volumes"
}

# loaded SECONDS: the load begins, and has acknowledged something.
loaded() {
	timeout -s KILL 100 "$TOOLS/tagged" write /dev/mapper/vol0 $LEDGER "$1" $RANDOM > /run/load 2>&1 &
	load=$!
	sleep 2
}

load_ends() {
	wait "$load"
	expect "the load's end" $? "$1"
	echo "# $(cat /run/load)"
}

# verified [VOLUME]
verified() {
	timeout -s KILL 100 "$TOOLS/tagged" verify "/dev/mapper/${1:-vol0}" $LEDGER > /run/out 2>&1 ||
		fail "content: $(tail -n 4 /run/out)"
	echo "# $(tail -n 1 /run/out)"
}

# No read, write, flush or discard of the volume succeeds, of what is written or not.
stopped() {
	local at
	for at in 0 200000; do
		dd if="/dev/mapper/$1" of=/dev/null bs=4k count=1 skip=$at iflag=direct \
			status=none 2> /dev/null && fail "a read of $1 at $at"
	done
	dd if=/dev/zero of="/dev/mapper/$1" bs=4k count=1 oflag=direct status=none 2> /dev/null &&
		fail "a write to $1"
	dd if=/dev/zero of="/dev/mapper/$1" bs=512 count=1 oflag=direct status=none 2> /dev/null &&
		fail "a write of a part of a block to $1"
	blkdiscard -o 0 -l 65536 "/dev/mapper/$1" 2> /dev/null && fail "a discard of $1"
	blkdiscard -z -o 512 -l 65536 "/dev/mapper/$1" 2> /dev/null && fail "zeroes to $1"
}

# over: all removed, the checker finds no fault, nothing is left.
over() {
	closed "${LOOPS[@]}"
	losetup -d "${LOOPS[@]}"
	rm -f "${IMAGES[@]}"
}

under_load() {
	local writer
	made
	loaded 20
	fio --name=beside --filename=/dev/mapper/vol1 --thread --ioengine=libaio --direct=1 --bs=4k \
		--rw=randrw --iodepth=16 --size=32m --time_based --runtime=20 --output=/run/fio > /run/out 2>&1 &
	writer=$!
	sleep 1
	dmesg -C
	wiped
	dmesg | grep -q "the pool has stopped" || fail "no word of it: $(dmesg | tail -n 3)"
	load_ends 3
	wait $writer && fail "fio met no error"
	expect "targets" "$(targets)" 2
	detached
	stopped vol0
	# The same images as other devices.
	IMAGES=("${IMAGES[1]}" "${IMAGES[0]}")
	attached
	given "${LOOPS[@]}" || fail "the table is not taken"
	expect "mode" "$(mode)" rw
	verified
	loaded 3
	load_ends 0
	verified
	over
}

# The table is replaced by one like it, again and again, and the node of a device in /dev
# goes: nobody sees anything of it.
replaced() {
	made
	loaded 6
	for _ in 1 2 3; do
		given "${LOOPS[@]}" || fail "reload"
		sleep 0.3
	done
	mv "${LOOPS[0]}" /dev/away
	sleep 1
	mv /dev/away "${LOOPS[0]}"
	given "${LOOPS[@]}" || fail "reload"
	load_ends 0
	# A table that is loaded and never used.
	"${DM[@]}" reload "$POOL" --table "$(table "${LOOPS[@]}")" || fail "reload"
	"${DM[@]}" clear "$POOL" || fail "clear"
	verified
	over
}

# The table in waiting holds the devices, too: the pool goes on when the other one goes.
in_waiting() {
	made
	loaded 4
	wiped
	load_ends 3
	"${DM[@]}" reload "$POOL" --table "$(table "${LOOPS[@]}")" || fail "reload"
	verified
	"${DM[@]}" clear "$POOL" || fail "clear"
	stopped vol0
	detached
	attached
	given "${LOOPS[@]}" || fail "the table is not taken"
	verified
	over
}

# What is not the pool's, or not all of it, is not taken for it; no volume is made meanwhile.
others() {
	made
	loaded 3
	load_ends 0
	remove vol1
	wiped
	disk a 64; disk b 64
	refused "has 2 devices" given "${LOOPS[0]}"
	refused "others belong to a pool" given "${LOOPS[0]}" /dev/a
	refused "others belong to a pool" given "${LOOPS[@]}" /dev/a
	refused "are empty" given /dev/a /dev/b
	refused "not the device of a dynmap pool" create vol1 "0 8192 dynmap /dev/mapper/$POOL 1"
	stopped vol0
	given "${LOOPS[@]}" || fail "the table is not taken"
	verified
	over
}

# Another pool target opens the devices and writes to them: what the old one knew is no
# longer true. It ends with its volumes, and the table is taken again.
changed() {
	made
	loaded 3
	load_ends 0
	wiped
	create other "$(table "${LOOPS[@]}") 1 read_only" || fail "no other pool"
	refused "in use by another pool" given "${LOOPS[@]}"
	remove other
	given "${LOOPS[@]}" || fail "the table is not taken"
	verified
	wiped
	create other "$(table "${LOOPS[@]}")" || fail "no other pool"
	create copy "0 2097152 dynmap /dev/mapper/other 0" || fail "no volume of it"
	verified copy
	dd if=/dev/zero of=/dev/mapper/copy bs=4k seek=8192 count=64 oflag=direct conv=fsync status=none
	refused "in use by another pool" given "${LOOPS[@]}"
	remove copy; remove other
	refused "has changed since" given "${LOOPS[@]}"
	stopped vol0
	remove vol0; remove vol1
	given "${LOOPS[@]}" || fail "the table is not taken"
	volume 0 2097152
	verified
	over
}

# Removed by force: the error target comes first, as with wipe_table.
forced() {
	made
	loaded 20
	"${DM[@]}" remove --force "$POOL" > /run/out 2>&1 && fail "removed: $(cat /run/out)"
	load_ends 3
	remove vol0; remove vol1; remove "$POOL"
	detached
	attached
	pool 128 0 "" "${LOOPS[@]}" && volume 0 2097152 || fail "does not open again"
	verified
	over
}

# Writes that wait for space do not wait for ever, and a volume that is being deleted goes
# on to be when the pool does.
waiting() {
	local writer
	made
	dd if=/dev/zero of=/dev/mapper/vol1 bs=1M count=64 oflag=direct status=none
	dd if=/dev/zero of=/dev/mapper/vol0 bs=1M count=64 oflag=direct status=none 2> /run/out &
	writer=$!
	mode_becomes out_of_data_space
	wiped
	wait $writer && fail "there was space"
	given "${LOOPS[@]}" || fail "the table is not taken"
	remove vol1
	delete 1
	wiped
	given "${LOOPS[@]}" || fail "the table is not taken"
	mode_becomes rw
	remove vol0
	delete 0
	settles 0
	over
}

# The devices fail when the table goes: the pool stays read-only, until it is opened again.
failing() {
	rm -f $LEDGER
	disk a 64; disk b 64
	through below b
	pool 128 0 "" /dev/a /dev/mapper/below && volume 0 2097152 || fail "no volume"
	loaded 20
	fails below
	wiped
	load_ends 3
	works below b
	given /dev/a /dev/mapper/below || fail "the table is not taken"
	expect "mode" "$(mode)" ro
	verified
	remove vol0; remove "$POOL"
	pool 128 0 "" /dev/a /dev/mapper/below && volume 0 2097152 || fail "does not open again"
	expect "mode" "$(mode)" rw
	verified
	closed /dev/a /dev/mapper/below
}

modprobe loop 2> /dev/null
run "devices fail and the table goes" failing
if [ -e /dev/loop-control ]; then
	run "the table is replaced" replaced
	run "the table is wiped under load" under_load
	run "a table in waiting" in_waiting
	run "other devices" others
	run "devices that were used meanwhile" changed
	run "the pool is removed by force" forced
	run "writes that wait and a deletion" waiting
fi
finish
