#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# Forward progress when memory is short: volumes hold the swap that the machine
# lives on, and a file system with more dirty pages than memory. For a machine of
# 256 MiB with a disk of 4 GiB, /dev/vda.
. ./lib.sh

# pattern MIB: always the same bytes.
pattern() { seq 1 100000000 | head -c "$1M"; }
sum() { md5sum | cut -d' ' -f1; }

# More into a file system in memory than there is memory: it goes to the swap.
swapped() {
	mount -t tmpfs -o size=1g tmpfs /run/hog || { fail "mount"; return; }
	pattern 300 > /run/hog/file
	echo "# swapped: $(awk '/vol0|dm-/ { print $4 }' /proc/swaps) KiB"
	expect "content of swapped memory" "$(sum < /run/hog/file)" "$wanted"
}

dirty() {
	pattern 300 > /run/mnt/file || fail "write"
	sync /run/mnt/file || fail "sync"
	echo 1 > /proc/sys/vm/drop_caches
	expect "content of the file" "$(sum < /run/mnt/file)" "$wanted"
}

both() {
	modprobe virtio_blk
	modprobe ext4
	mkdir -p /run/hog
	wanted=$(pattern 300 | sum)
	pool 128 0 "" /dev/vda && volume 0 2097152 && volume 1 2097152 || { fail "no volumes"; return; }
	mkswap -q /dev/mapper/vol0 > /dev/null && swapon /dev/mapper/vol0 || { fail "swapon"; return; }
	mkfs.ext4 -q /dev/mapper/vol1 && mount /dev/mapper/vol1 /run/mnt || { fail "mount"; return; }
	grep -E "MemTotal|MemAvailable" /proc/meminfo | sed 's/^/# /'
	dirty > /run/dirty &
	swapped
	wait $!
	grep -E . /run/dirty && fail "dirty pages"
	umount /run/hog
	swapoff /dev/mapper/vol0 || fail "swapoff"
	umount /run/mnt
	e2fsck -fn /dev/mapper/vol1 > /run/out 2>&1 || fail "e2fsck: $(tail -n 2 /run/out)"
	dmesg | grep -E "allocation failure|Out of memory|oom-kill" && fail "memory ran out"
}

run "swap and dirty pages on volumes" both
finish
