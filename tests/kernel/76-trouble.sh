#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# Trouble below a pool under load: devices that fail, lie, vanish and come
# back, or run out of space themselves. Whatever happens: the mode that is
# documented, no hang, nothing acknowledged lost, and the checker finds no
# fault. The load is that of tagged.c: it knows of each sector what it may hold.
. ./lib.sh

LEDGER=/run/ledger

# pool_of DEV...: a new pool with a volume, and a new ledger.
pool_of() {
	rm -f $LEDGER
	pool 128 0 "" "$@" && volume 0 2097152 || fail "no volume"
}

# loaded SECONDS: the load begins, and has acknowledged something.
loaded() {
	timeout -s KILL 100 "$TOOLS/tagged" write /dev/mapper/vol0 $LEDGER "$1" $RANDOM > /run/load 2>&1 &
	load=$!
	sleep 2
}

# load_ends STATUS: 0, or 3 if a flush is to fail.
load_ends() {
	wait "$load"
	expect "the load's end" $? "$1"
	echo "# $(cat /run/load)"
}

verified() {
	timeout -s KILL 100 "$TOOLS/tagged" verify /dev/mapper/vol0 $LEDGER "$@" > /run/out 2>&1 ||
		fail "content: $(tail -n 4 /run/out)"
	echo "# $(tail -n 1 /run/out)"
}

close_pool() { remove vol0; remove "$POOL"; }

# opened DEV...: the pool once more, all good.
opened() {
	pool 128 0 "" "$@" && volume 0 2097152 || { fail "does not open again"; return; }
	expect "mode afterwards" "$(mode)" rw
	verified
}

# checked DEV...: not in use.
checked() {
	"$TOOLS/dynmap" check "$@" > /run/out 2>&1 || fail "the checker: $(tail -n 3 /run/out)"
}

# Everything fails, then works again: read-only until the pool is opened again.
# The journal of what was acknowledged is still pending when the checker looks.
all_fails() {
	disk a 64
	through below a
	pool_of /dev/mapper/below
	loaded 20
	fails below
	load_ends 3
	expect "mode" "$(mode)" ro
	"${DM[@]}" suspend "$POOL" && "${DM[@]}" resume "$POOL" || fail "suspend and resume"
	works below a
	close_pool
	checked /dev/mapper/below
	opened /dev/mapper/below
	close_pool; remove below
	checked /dev/a
}

# One of two devices refuses writes; reads go on, of what is acknowledged too.
write_errors() {
	modprobe dm-flakey 2> /dev/null
	disk a 64; disk b 64
	through below b
	pool_of /dev/a /dev/mapper/below
	loaded 20
	swap below "0 131072 flakey /dev/b 0 0 60 1 error_writes"
	load_ends 3
	expect "mode" "$(mode)" ro
	timeout -s KILL 100 "$TOOLS/tagged" failed /dev/mapper/vol0 $LEDGER > /run/out 2>&1 ||
		fail "content: $(tail -n 4 /run/out)"
	echo "# $(tail -n 1 /run/out)"
	works below b
	close_pool
	opened /dev/a /dev/mapper/below
	close_pool; remove below
	checked /dev/a /dev/b
}

# From a moment on a device drops what is written and says nothing: what was
# acknowledged before that moment is there.
dropped() {
	modprobe dm-flakey 2> /dev/null
	disk a 64
	through below a
	pool_of /dev/mapper/below
	loaded 6
	cp $LEDGER /run/earlier
	swap below "0 131072 flakey /dev/a 0 0 60 1 drop_writes"
	wait "$load"
	"${DM[@]}" remove vol0 && "${DM[@]}" remove "$POOL" || fail "remove"
	works below a
	checked /dev/mapper/below
	pool 128 0 "" /dev/mapper/below && volume 0 2097152 || fail "does not open again"
	verified /run/earlier
	close_pool; remove below
	checked /dev/a
}

vanish() { for name in "$@"; do echo 0 > "/sys/kernel/config/nullb/$name/power"; done; }
appear() { for name in "$@"; do echo 1 > "/sys/kernel/config/nullb/$name/power"; done; }

# Disks vanish in the middle of all and come back. Without a volatile cache: that
# of null_blk loses what was flushed, on the bare disk too; caches are the
# matter of the power-failure simulator.
vanished() {
	disk a 64; disk b 64
	pool_of /dev/a /dev/b
	for gone in a b "a b"; do
		loaded 20
		# shellcheck disable=SC2086
		vanish $gone
		load_ends 3
		expect "mode without $gone" "$(mode)" ro
		close_pool
		# shellcheck disable=SC2086
		appear $gone
		checked /dev/a /dev/b
		opened /dev/a /dev/b
	done
	close_pool
	checked /dev/a /dev/b
}

# spots +|- DISK: every second 256 KiB from 4 to 28 MiB is bad, or good again; one
# after the other: kernel 6.1 does not find what is in the midst of a long range.
spots() {
	local at
	for at in $(seq 8192 1024 57343); do
		echo "$1$at-$((at + 511))" > "/sys/kernel/config/nullb/$2/badblocks"
	done
}

# A bad spot where data lies (on a disk of 64 MiB, between the copies of
# metadata): what meets it fails, the pool goes on, and so does what was written.
bad_spot() {
	disk a 64
	pool_of /dev/a
	loaded 8
	spots + a
	load_ends 0
	grep -q " 0 failed" /run/load && fail "no write met the bad spot"
	expect "mode" "$(mode)" rw
	dmsetup message "$POOL" 0 create_thin 1 || fail "create_thin"
	spots - a
	verified
	close_pool
	opened /dev/a
	close_pool
	checked /dev/a
}

# thin_below [FEATURE]: a pool on a thin device of 256 MiB, with 24 MiB behind it.
thin_below() {
	modprobe dm-thin-pool 2> /dev/null
	dmsetup targets | grep -q '^thin-pool' || return 1
	disk m 8; disk d 128
	create below "0 49152 thin-pool /dev/m /dev/d 128 0 $(($# + 1)) skip_block_zeroing $*" || fail "no thin pool"
	dmsetup message below 0 "create_thin 0"
	create thin "0 524288 thin /dev/mapper/below 0" || fail "no thin device"
	pool_of /dev/mapper/thin
}

more_below() {
	"${DM[@]}" reload below --table "0 262144 thin-pool /dev/m /dev/d 128 0 $(($# + 1)) skip_block_zeroing $*"
	"${DM[@]}" suspend --noflush below
	"${DM[@]}" resume below
}

# filled: take what is left in the pool below, but a little.
filled() {
	dd if=/dev/zero of=/dev/mapper/vol0 bs=64k seek=512 count="$1" oflag=direct \
		status=none 2> /run/out
}

# The device below has no space: as any failure of writes.
space_below_fails() {
	thin_below error_if_no_space || return
	loaded 20
	filled 512 && fail "there was space"
	wait "$load"
	echo "# $(cat /run/load), mode $(mode)"
	close_pool
	more_below error_if_no_space
	opened /dev/mapper/thin
	close_pool
	checked /dev/mapper/thin
}

# It waits for space: so does all above it, and goes on.
space_below_waits() {
	thin_below || return
	loaded 12
	filled 512 &
	for _ in $(seq 100); do
		dmsetup status below | grep -q out_of_data_space && break
		sleep 0.1
	done
	dmsetup status below | grep -q out_of_data_space || fail "there was space: $(dmsetup status below)"
	sleep 2
	more_below
	wait $! || fail "the writer failed"
	load_ends 0
	expect "mode" "$(mode)" rw
	verified
	close_pool
	opened /dev/mapper/thin
	close_pool
	checked /dev/mapper/thin
}

run "a device fails and works again" all_fails
run "write errors on one of two devices" write_errors
run "a device drops writes" dropped
run "disks vanish and come back" vanished
run "a bad spot" bad_spot
run "no space below, an error" space_below_fails
run "no space below, waiting" space_below_waits
finish
