#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# External origins: what is not written is read from a device that is only read.
. ./lib.sh

# All in sectors. The origin ends in the middle of a block, before the volume does.
VOLUME=16384
ORIGIN=10003

# opened SECTORS: a pool, a volume over an origin of that length, what it holds in /run/twin0.
opened() {
	disk a 64 && disk b 64
	pool 64 0 "" /dev/a || { fail "no pool"; return 1; }
	dmsetup message "$POOL" 0 create_thin 0
	create origin "0 $1 linear /dev/b 0"
	dd if=/dev/urandom of=/dev/mapper/origin bs=1M oflag=direct status=none 2> /dev/null
	dd if=/dev/mapper/origin of=/run/origin0 bs=1M status=none
	cp /run/origin0 /run/twin0
	truncate -s $((VOLUME * 512)) /run/twin0
	active 0
}

active() { create "vol$1" "0 $VOLUME dynmap /dev/mapper/$POOL $1 /dev/mapper/origin"; }
same() { cmp -n $((VOLUME * 512)) "$2" "/dev/mapper/$1" || fail "$1 is not $2"; }
used() { dmsetup status "$POOL" | cut -d' ' -f6 | cut -d/ -f1; }

# put SECTOR SECTORS [VOLUME]: random data, to the twin as well.
put() {
	dd if=/dev/urandom of=/run/piece bs=512 count="$2" status=none
	dd if=/run/piece of="/dev/mapper/vol${3:-0}" bs=512 seek="$1" oflag=direct conv=notrunc status=none ||
		fail "write at $1"
	dd if=/run/piece of="/run/twin${3:-0}" bs=512 seek="$1" conv=notrunc status=none
}

untouched() { cmp /run/origin0 /dev/mapper/origin || fail "the origin was written to"; }

falls_through() {
	local i
	opened $ORIGIN || return
	same vol0 /run/twin0
	expect "used by reads" "$(used)" 0
	put 800 8			# a whole block
	put 1603 2			# parts: the rest is the origin's
	put 2406 5
	put $((ORIGIN - 2)) 1		# in the block where it ends
	put $((ORIGIN + 1)) 2
	put 12003 3			# behind its end
	same vol0 /run/twin0
	for i in $(seq 60); do put $((RANDOM % (VOLUME - 90))) $((1 + RANDOM % 90)); done
	sync
	same vol0 /run/twin0
	remove vol0; active 0
	same vol0 /run/twin0
	untouched
}

# What is discarded is the origin's again; zeros are zeros.
given_back() {
	opened $ORIGIN || return
	put 0 4096
	blkdiscard -o 524288 -l 524288 /dev/mapper/vol0
	dd if=/run/origin0 of=/run/twin0 bs=512 skip=1024 seek=1024 count=1024 conv=notrunc status=none
	same vol0 /run/twin0
	blkdiscard --zeroout -o 2097152 -l 262144 /dev/mapper/vol0
	dd if=/dev/zero of=/run/twin0 bs=512 seek=4096 count=512 conv=notrunc status=none
	same vol0 /run/twin0
	untouched
}

# An origin longer than the volume, copies of a volume over it.
copies() {
	local i
	opened 40000 || return
	same vol0 /run/twin0
	for i in 1 2 3 4 5; do put $((RANDOM % (VOLUME - 90))) $((1 + RANDOM % 90)); done
	dmsetup message "$POOL" 0 create_snap 1 0 || fail "no snapshot"
	cp /run/twin0 /run/twin1
	active 1
	for i in $(seq 30); do
		put $((RANDOM % (VOLUME - 90))) $((1 + RANDOM % 90)) $((i % 2))
	done
	sync
	same vol0 /run/twin0
	same vol1 /run/twin1
	untouched
}

# A file system made before, used as if it could be written to.
file_system() {
	disk a 256 && disk b 128
	pool 128 0 "" /dev/a || { fail "no pool"; return 1; }
	create origin "0 262144 linear /dev/b 0"
	mkfs.ext4 -q /dev/mapper/origin
	mount /dev/mapper/origin /run/mnt && dd if=/dev/urandom of=/run/mnt/old bs=1M count=20 status=none
	cp /run/mnt/old /run/origin0
	umount /run/mnt
	md5sum < /dev/mapper/origin > /run/piece
	dmsetup message "$POOL" 0 create_thin 0
	create vol0 "0 262144 dynmap /dev/mapper/$POOL 0 /dev/mapper/origin"
	mount /dev/mapper/vol0 /run/mnt || fail "mount"
	cmp /run/mnt/old /run/origin0 || fail "an old file is another one"
	cp /run/mnt/old /run/mnt/new && rm /run/mnt/old
	umount /run/mnt
	e2fsck -fn /dev/mapper/vol0 > /run/out 2>&1 || fail "fsck: $(tail -n 3 /run/out)"
	mount /dev/mapper/vol0 /run/mnt && cmp /run/mnt/new /run/origin0 || fail "a new file is another one"
	umount /run/mnt
	expect "the origin" "$(md5sum < /dev/mapper/origin)" "$(cat /run/piece)"
}

# An origin that cannot be read: errors to what needs it, and to nothing else.
failing() {
	opened $ORIGIN || return
	put 800 8
	fails origin
	dd if=/dev/mapper/vol0 of=/dev/null bs=512 skip=1600 count=8 iflag=direct status=none 2> /dev/null &&
		fail "read from a failed origin"
	dd if=/dev/urandom of=/dev/mapper/vol0 bs=512 seek=1603 count=1 oflag=direct conv=notrunc status=none \
		2> /dev/null && fail "padded from a failed origin"
	# A whole block, in one piece, and what is in the pool already.
	dd if=/run/twin0 of=/dev/mapper/vol0 bs=4k count=1 skip=200 seek=200 oflag=direct conv=notrunc status=none ||
		fail "a whole block needs the origin"
	put 803 1
	works origin b
	same vol0 /run/twin0
	expect "mode" "$(mode)" rw
}

refusals() {
	opened $ORIGIN || return
	expect "table" "$(dmsetup table vol0 | cut -d' ' -f3,5-)" \
		"dynmap 0 $(dmsetup info -c --noheadings -o major,minor origin)"
	dmsetup message "$POOL" 0 create_thin 1
	refused "cannot be a volume's external origin" create vol1 \
		"0 8 dynmap /dev/mapper/$POOL 1 /dev/mapper/$POOL"
	refused "Cannot open the external origin" create vol1 "0 8 dynmap /dev/mapper/$POOL 1 /dev/none"
	refused "Expected: <pool dev>" create vol1 "0 8 dynmap /dev/mapper/$POOL 1 /dev/b 1"
}

# The origin is a volume of the same pool: writes of parts of blocks read from it, while
# hundreds of them wait for each other and for snapshots, and its nodes leave memory.
same_pool() {
	local pid i
	disk a 256
	pool 64 0 "" /dev/a && volume 5 131072 || { fail "no volume"; return; }
	dd if=/dev/urandom of=/run/origin5 bs=1M count=64 status=none
	dd if=/run/origin5 of=/dev/mapper/vol5 bs=1M oflag=direct status=none
	dmsetup message "$POOL" 0 create_thin 6
	create vol6 "0 131072 dynmap /dev/mapper/$POOL 6 /dev/mapper/vol5"
	timeout -s KILL 100 fio --name=parts --filename=/dev/mapper/vol6 --thread --ioengine=libaio \
		--direct=1 --bs=512 --rw=randwrite --iodepth=1500 --size=64m --io_size=6m \
		--output=/run/fio &
	pid=$!
	for i in $(seq 10 30); do
		echo 2 > /proc/sys/vm/drop_caches
		timeout 60 dmsetup message "$POOL" 0 create_snap "$i" 6 || fail "snapshot $i"
	done
	wait $pid || fail "the writes do not end: $(tail -n 3 /run/fio)"
	cmp /run/origin5 /dev/mapper/vol5 || fail "the origin was written to"
	remove vol6
	closed /dev/a
}

run "reads fall through, first writes are padded" falls_through
run "space given back" given_back
run "a longer origin, and copies" copies
run "a file system" file_system
run "an origin that fails" failing
run "what is refused" refusals
run "an origin in the same pool" same_pool
rm -f /run/twin* /run/piece /run/origin*
finish
