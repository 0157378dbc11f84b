#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# What the fuzzers found worth keeping, opened by the kernel: images and journals
# that are damaged and sealed again. Each pool is refused, or opens and is used;
# what it answers does not matter, as long as the kernel does not complain and
# nothing hangs. Of each kind every SAMPLE-th; SAMPLE=1 make check-debug T=corpus
# opens all.
. ./lib.sh

SAMPLE=${SAMPLE:-12}
modprobe loop 2> /dev/null

# used: read, write and discard the first volumes, delete one.
used() {
	local id first=
	for id in $(dmsetup message "$POOL" 0 list 2> /dev/null | awk '{ print $1 }' | head -n 3); do
		create "vol$id" "0 8192 dynmap /dev/mapper/$POOL $id" || continue
		dd if="/dev/mapper/vol$id" of=/dev/null bs=1M iflag=direct status=none
		dd if=/dev/zero of="/dev/mapper/vol$id" bs=20k count=4 seek=1 oflag=direct \
			conv=fsync,notrunc status=none
		blkdiscard -o 1M -l 2M "/dev/mapper/vol$id"
		"${DM[@]}" remove "vol$id" || fail "$1: a volume cannot be removed"
		first=${first:-$id}
	done
	[ -z "$first" ] || dmsetup message "$POOL" 0 delete "$first"
}

# opened KIND FILE
opened() {
	local devs=() dev
	"$TOOLS/corpus/replay" --write /run/images "$1" "$2" || { fail "$2: no image"; return; }
	for dev in /run/images/*; do
		devs+=("$(losetup -f --show "$dev")") || fail "no loop device"
	done
	if pool 128 0 "1 error_if_no_space" "${devs[@]}"; then
		pools=$((pools + 1))
		used "$2"
		"${DM[@]}" remove "$POOL" || fail "$2: the pool cannot be removed"
	fi > /dev/null 2>&1
	losetup -d "${devs[@]}"
	rm -f /run/images/*
}

corpus() {
	local files=("$TOOLS/corpus/$1"/*) count=0 pools=0 i
	mkdir -p /run/images
	for ((i = 0; i < ${#files[@]}; i += SAMPLE)); do
		opened "$1" "${files[i]}"
		count=$((count + 1))
	done
	echo "# $count of ${#files[@]}, $pools opened"
	[ "$count" -gt 0 ] && [ "$pools" -gt 0 ] || fail "nothing was opened"
}

images() { corpus image; }
journals() { corpus journal; }

run "damaged images" images
run "damaged journals" journals
finish
