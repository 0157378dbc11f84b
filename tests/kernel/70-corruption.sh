#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# Damaged metadata: the other copy serves, or the pool is refused; never a
# crash, never other data. On one disk of 64 MiB copies A lie in blocks 256 to
# 511, copies B in 8192 to 8447, the journal in 8 to 135.
. ./lib.sh

filled() {
	disk a 64
	pool 128 0 "" /dev/a && volume 0 2097152 || fail "no volume"
	dd if=/dev/urandom of=/run/data bs=1M count=8 status=none
	dd if=/run/data of=/dev/mapper/vol0 bs=1M oflag=direct conv=fsync status=none
	remove vol0; remove "$POOL"
}

# noise FIRST COUNT: destroy blocks.
noise() { dd if=/dev/urandom of=/dev/a bs=4k seek="$1" count="$2" oflag=direct status=none; }

intact() {
	pool 128 0 "" /dev/a && volume 0 2097152 || { fail "does not open"; return; }
	cmp -n 8388608 /run/data /dev/mapper/vol0 || fail "content"
}

copy_a() { filled; noise 256 256; intact; }
copy_b() { filled; noise 8192 256; intact; }
slots() { filled; noise 2 1; intact; }
journal() { filled; noise 8 128; intact; }

both() {
	filled
	noise 256 256; noise 8192 256
	refused "checksum\|magic" create "$POOL" "0 16384 dynmap-pool 1 /dev/a 128 0"
}

# Single bits, anywhere in the metadata of copies A and the superblocks.
bits() {
	local at byte
	filled
	for _ in $(seq 40); do
		at=$(((RANDOM * 32768 + RANDOM) % (512 * 4096)))
		[ "$at" -ge 4096 ] || continue
		byte=$(dd if=/dev/a bs=1 skip="$at" count=1 status=none | od -An -tu1)
		printf '%b' "\\0$(printf '%03o' $((byte ^ 1 << RANDOM % 8)))" |
			dd of=/dev/a bs=1 seek="$at" conv=notrunc status=none
	done
	intact
}

run "copies A destroyed" copy_a
run "copies B destroyed" copy_b
run "a superblock slot destroyed" slots
run "the journal destroyed after a clean removal" journal
run "both copies destroyed" both
run "single bits flipped" bits
finish
