#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# Every allocation, and every request to a disk, fails once, in each operation
# that a task does itself: constructors, messages, reload, reads, writes. Each
# time a clean error or success; nothing is lost, and the pool goes on or opens
# again. Then allocations fail at random under load, in the workers too, and all of those
# of the workers: as when memory is full of what they are to write. Of the constructors'
# faults each third is tried, SAMPLE=1 make check-debug T=faults: all.
. ./lib.sh

DEBUG=/sys/kernel/debug
mount -t debugfs debugfs $DEBUG 2> /dev/null
if [ ! -e /proc/self/fail-nth ] || [ ! -e $DEBUG/failslab ]; then
	echo "1..0 # SKIP no fault injection"
	exit 0
fi
for kind in failslab fail_page_alloc fail_make_request; do
	echo 0 > $DEBUG/$kind/verbose
	echo 0 > $DEBUG/$kind/probability
done
echo N > $DEBUG/failslab/ignore-gfp-wait
echo N > $DEBUG/fail_page_alloc/ignore-gfp-wait
echo 0 > $DEBUG/fail_page_alloc/min-order

# nth KIND ARGUMENT...: the figures; and a failure if it does not succeed at last.
nth() { local out; out=$("$TOOLS/failnth" "$@") || fail "$*"; echo "# $1: $out"; }
# A disk that needs no memory for what is written to it.
full_disk() { disk "$1" "$2" && dd if=/dev/zero of="/dev/$1" bs=1M oflag=direct status=none count="$2"; }
requests_fail() { echo "$2" > "/sys/block/$1/make-it-fail"; }

constructors() {
	local -x STEP=${SAMPLE:-3}
	disk a 16
	requests_fail a 1
	nth create "$POOL" dynmap-pool "1 /dev/a 128 0" /dev/a
	nth create "$POOL" dynmap-pool "1 /dev/a 128 0"
	pool 128 0 "" /dev/a && volume 0 16384 || { fail "no volume"; return; }
	dd if=/dev/urandom of=/run/data bs=1M count=2 status=none
	dd if=/run/data of=/dev/mapper/vol0 bs=1M oflag=direct conv=fsync status=none
	remove vol0
	requests_fail a 0
	nth create vol0 dynmap "/dev/mapper/$POOL 0"
	remove "$POOL"
	# Opening with a journal to replay.
	requests_fail a 1
	nth create "$POOL" dynmap-pool "1 /dev/a 128 0"
	requests_fail a 0
	intact
}

# The pool on disk a opens, holds the data, and is clean.
intact() {
	pool 128 0 "" "${@:-/dev/a}" && volume 0 16384 || { fail "does not open"; return; }
	cmp -n 2097152 /run/data /dev/mapper/vol0 || fail "content"
	remove vol0; remove "$POOL"
	"$TOOLS/dynmap" check "${@:-/dev/a}" > /run/out || fail "the checker: $(cat /run/out)"
}

messages() {
	local i
	full_disk a 16; full_disk b 16
	pool 128 0 "" /dev/a && volume 0 16384 || { fail "no volume"; return; }
	dd if=/dev/urandom of=/run/data bs=1M count=2 status=none
	dd if=/run/data of=/dev/mapper/vol0 bs=1M oflag=direct conv=fsync status=none
	nth message "$POOL" "create_thin 1%u"
	nth message "$POOL" "set 0 allocation_size 256"
	nth message "$POOL" list
	for i in $(seq 31 39); do dmsetup message "$POOL" 0 create_thin "$i"; done
	nth message "$POOL" "delete 3%u"
	nth reload "$POOL" dynmap-pool "1 /dev/a 128 0 1 error_if_no_space"
	nth reload "$POOL" dynmap-pool "2 /dev/a /dev/b 128 0"
	remove vol0; remove "$POOL"
	intact /dev/a /dev/b
}

transfers() {
	full_disk a 16
	pool 128 0 "" /dev/a && volume 0 16384 || { fail "no volume"; return; }
	dd if=/dev/urandom of=/run/data bs=1M count=2 status=none
	dd if=/run/data of=/dev/mapper/vol0 bs=1M oflag=direct conv=fsync status=none
	volume 1 65536
	nth write /dev/mapper/vol1
	nth read /dev/mapper/vol1
	remove vol1; remove vol0; remove "$POOL"
	intact
}

# One allocation in a hundred fails, anywhere, two hundred times: the load may see errors.
random() {
	rm -f /run/ledger
	full_disk a 64
	pool 128 0 "1 no_discard_passdown" /dev/a && volume 0 2097152 ||
		{ fail "no volume"; return; }
	"$TOOLS/tagged" write /dev/mapper/vol0 /run/ledger 8 &
	sleep 1
	for kind in failslab fail_page_alloc; do
		echo 100 > $DEBUG/$kind/times
		echo 1 > $DEBUG/$kind/probability
	done
	wait $!
	for kind in failslab fail_page_alloc; do echo 0 > $DEBUG/$kind/probability; done
	remove vol0; remove "$POOL"
	pool 128 0 "" /dev/a && volume 0 2097152 || { fail "does not open"; return; }
	"$TOOLS/tagged" verify /dev/mapper/vol0 /run/ledger > /run/out || fail "content: $(cat /run/out)"
	echo "# $(cat /run/out)"
	remove vol0; remove "$POOL"
	"$TOOLS/dynmap" check /dev/a > /run/out || fail "the checker: $(cat /run/out)"
}

# worker_faults PROBABILITY: allocations of the kernel's threads fail, and no others. Of kthreadd
# first: there are no new threads then while the others are looked for.
worker_faults() {
	local kind thread
	[ "$1" -eq 0 ] || echo 1 > /proc/2/make-it-fail
	for kind in failslab fail_page_alloc; do
		echo 0 > $DEBUG/$kind/probability
		echo $(($1 > 0)) > $DEBUG/$kind/task-filter
		echo -1 > $DEBUG/$kind/times
		echo "$1" > $DEBUG/$kind/probability
	done
	grep -slE '^(kworker|kthreadd|dynmap)' /proc/[0-9]*/comm | while read -r thread; do
		echo $(($1 > 0)) > "${thread%comm}make-it-fail"
	done
}

scattered() {
	timeout -s KILL 30 fio --name=n --filename=/dev/mapper/vol0 --rw=randwrite --bs=4k --size=1g --io_size="$1" \
		--ioengine=libaio --iodepth=16 --direct=1 --fsync=64 --randseed="$2" > /run/out ||
		fail "fio: $(grep -m 1 error /run/out)"
}

# The workers get no memory while they write: no request fails, for what the pool has will do.
# Each snapshot makes that all nodes are copied.
no_memory() {
	local i
	rm -f /run/ledger
	full_disk a 256
	pool 8 0 "1 no_discard_passdown" /dev/a && volume 0 2097152 && volume 1 2097152 ||
		{ fail "no volume"; return; }
	scattered 24m 0
	worker_faults 100
	"$TOOLS/tagged" write /dev/mapper/vol1 /run/ledger 4 > /run/out || fail "$(cat /run/out)"
	echo "# $(cat /run/out)"
	grep -q ' 0 failed' /run/out || fail "requests failed"
	for i in $(seq 12); do
		dmsetup message "$POOL" 0 create_snap "1$i" 0 || fail "snapshot $i"
		worker_faults 100
		scattered 2m "$i"
	done
	worker_faults 0
	remove vol0; remove vol1; remove "$POOL"
	"$TOOLS/dynmap" check /dev/a > /run/out || fail "the checker: $(cat /run/out)"
	pool 8 0 "" /dev/a && volume 1 2097152 ||
		{ fail "does not open"; return; }
	"$TOOLS/tagged" verify /dev/mapper/vol1 /run/ledger > /run/out || fail "content: $(cat /run/out)"
	echo "# $(cat /run/out)"
	remove vol1; remove "$POOL"
}

dirty() { awk '/^(Dirty|Writeback):/ { kib += $2 } END { print (kib > 512 ? kib : 0) }' /proc/meminfo; }

# Buffered writes fill the pool, and wait. They are written by a worker, whose bios are of the
# file systems' set of bios: without memory it has two, which are in those writes. Snapshots are
# deleted, by a worker, in a pool that was opened anew: it needs their records in memory, and
# bios; there is no memory for them. Then there is space, and the writes end.
deletion() {
	local i before free knob
	full_disk a 64
	pool 8 0 "1 no_discard_passdown" /dev/a && volume 0 131072 || { fail "no volume"; return; }
	for i in $(seq 8); do
		scattered 1m "$i"
		dmsetup message "$POOL" 0 create_snap "1$i" 0 || fail "snapshot $i"
	done
	scattered 8m 9
	remove vol0; remove "$POOL"
	pool 8 0 "1 no_discard_passdown" /dev/a && volume 1 131072 || { fail "no volume"; return; }
	free=$(dmsetup status "$POOL" | awk '{ split($6, data, "/"); print data[2] - data[1] }')
	dd if=/dev/zero of=/dev/mapper/vol1 bs=4k count=$((free - 256)) oflag=direct status=none || fail "dd"
	for knob in dirty_writeback_centisecs dirty_expire_centisecs; do echo 10 > /proc/sys/vm/$knob; done
	worker_faults 100
	exec 9<> /dev/mapper/vol1	# the last one to close it would write
	dd if=/dev/zero of=/dev/mapper/vol1 bs=4k seek=$((free - 256)) count=768 conv=notrunc status=none
	mode_becomes out_of_data_space
	before=$(used)
	for i in $(seq 8); do delete "1$i"; done
	mode_becomes rw
	becomes "pages that are not written" 0 dirty
	# Else they ended with the time that writes wait for space.
	! dmesg | grep -q 'lost async page write' || fail "a write failed"
	exec 9>&-
	worker_faults 0
	echo "# in use: $before units, after the deletion and the rest of the writes $(used)"
	closed /dev/a
}

run "constructors" constructors
run "messages and reload" messages
run "reads and writes" transfers
run "random failures under load" random
run "no memory for the workers" no_memory
run "no memory, a full pool, and a deletion" deletion
finish
