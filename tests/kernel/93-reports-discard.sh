#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# What people who run thin pools report of discards, as recipes: doc/proof.md has a line
# for each.
. ./lib.sh

kib() { du -k /run/image | cut -f1; }
mapped() { dmsetup status "$1" | cut -d' ' -f4; }

# Report 11: what is deleted is given back to a file below, without a discard of the volume.
given_back() {
	local loop base with
	truncate -s 256M /run/image
	loop=$(losetup -f --show /run/image)
	pool 128 0 "" "$loop" && volume 0 131072 || { fail "no volume"; return; }
	base=$(kib)
	dd if=/dev/urandom of=/dev/mapper/vol0 bs=1M count=48 oflag=direct status=none
	snap 1 0
	dd if=/dev/urandom of=/dev/mapper/vol0 bs=1M count=16 oflag=direct conv=fsync,notrunc status=none
	with=$(kib)
	delete 1
	PATIENCE=30 becomes "16 MiB less" yes less $((with - 15000))
	remove vol0; delete 0
	PATIENCE=30 becomes "all but metadata" yes less $((base + 4096))
	echo "# KiB: empty $base, full $with, at the end $(kib)"
	remove "$POOL"
	losetup -d "$loop"; rm -f /run/image
}
less() { [ "$(kib)" -le "$1" ] && echo yes || kib; }

# files DIR COUNT: small files, of which every second one goes.
files() {
	local i
	for i in $(seq "$2"); do head -c $((4096 + RANDOM % 8192)) /dev/urandom > "$1/$i"; done
	sync -f "$1"
	for i in $(seq 1 2 "$2"); do echo "$1/$i"; done | xargs rm -f
	sync -f "$1"
}

# Report 12: after a trim a volume holds what its file system uses, whatever the allocation size.
trimmed() {
	local unit used
	for unit in 8 128 2048 2097152; do
		disk a 256
		pool "$unit" 0 "" /dev/a && volume 0 262144 || { fail "no volume"; return; }
		mkfs.ext4 -q -E lazy_itable_init=1,nodiscard -m 0 /dev/mapper/vol0
		mount /dev/mapper/vol0 /run/mnt
		files /run/mnt 400
		fstrim /run/mnt || fail "fstrim"
		sync -f /run/mnt
		used=$(df -k --output=used /run/mnt | tail -n 1)
		umount /run/mnt
		sync /dev/mapper/vol0
		echo "# unit $unit: the file system uses $used KiB, $(($(mapped vol0) / 2)) KiB are mapped"
		# Beside the files there are the tables, the journal (up to 8 MiB) and groups' bitmaps.
		[ $(($(mapped vol0) / 2)) -le $((used + 10240)) ] || fail "unit $unit: too much is mapped"
		closed /dev/a
		disk_remove a
	done
}

# discarded NAME OFFSET FROM LEN: of a device that begins at a sector of the volume; how many
# blocks went, and the neighbours are what they were.
discarded() {
	local before from=$(($3 + $2)) end=$(($3 + $2 + $4))
	before=$(mapped vol0)
	blkdiscard -f -o $(($3 * 512)) -l $(($4 * 512)) "/dev/mapper/$1" 2> /dev/null
	sync /dev/mapper/vol0
	gone=$(((before - $(mapped vol0)) / 8)) whole=$((end / 8 - (from + 7) / 8))
	[ $whole -ge 0 ] || whole=0
	cmp -n $((from * 512)) /run/data /dev/mapper/vol0 || fail "$4 sectors from $3: before"
	cmp -i $((end * 512)) -n $((8388608 - end * 512)) /run/data /dev/mapper/vol0 || fail "$4 sectors from $3: behind"
	dd if=/run/data of=/dev/mapper/vol0 bs=1M oflag=direct status=none
}

# Report 12: two halves of a block that are discarded one by one leave it as it is, and only
# whole blocks go. Where a device begins in the midst of a block the block layer takes the
# pieces apart at its own blocks: fewer go, never others.
parts() {
	local from len
	disk a 64
	pool 8 0 "" /dev/a && volume 0 16384 || { fail "no volume"; return; }
	dd if=/dev/urandom of=/run/data bs=1M count=8 status=none
	dd if=/run/data of=/dev/mapper/vol0 bs=1M oflag=direct status=none
	blkdiscard -o 40960 -l 2048 /dev/mapper/vol0; blkdiscard -o 43008 -l 2048 /dev/mapper/vol0
	sync /dev/mapper/vol0
	expect "mapped after two halves" "$(mapped vol0)" 16384
	cmp -n 8388608 /run/data /dev/mapper/vol0 || fail "content after two halves"
	create part "0 16000 linear /dev/mapper/vol0 63"
	for len in 7 8 17 100; do
		for from in 1000 1001 1007; do
			discarded vol0 0 $from $len
			[ $gone -le $whole ] && [ $gone -ge $((from % 8 ? 0 : whole)) ] ||
				fail "$gone blocks gone, $len sectors from $from"
			discarded part 63 $from $len
			[ $gone -le $whole ] || fail "$gone blocks gone, $len sectors from $from of the part"
		done
	done
	remove part
	closed /dev/a
}

# Report 15: devices below with odd limits, or none: volumes discard, what can be trimmed is.
odd_limits() {
	local parameters order
	for parameters in "lbpu=1 unmap_max_blocks=8 unmap_granularity=4 unmap_alignment=3" "lbpu=0" \
			  "lbpu=1 unmap_granularity=2048"; do
		for order in 0 1; do
			# shellcheck disable=SC2086
			scsi $parameters || { fail "scsi_debug"; return; }
			disk a 64
			if [ $order = 0 ]; then set -- "$scsi" /dev/a; else set -- /dev/a "$scsi"; fi
			pool 128 0 "" "$@" && volume 0 131072 || { fail "$parameters: no volume"; return; }
			dd if=/dev/urandom of=/dev/mapper/vol0 bs=1M count=40 oflag=direct status=none || fail "write"
			blkdiscard /dev/mapper/vol0 || fail "$parameters: discard"
			sync /dev/mapper/vol0
			expect "$parameters: mapped" "$(mapped vol0)" 0
			PATIENCE=15 becomes "in use" 0 used
			[ "$(stat_of a 14)" -gt 0 ] || fail "$parameters: nothing was passed down to the other device"
			dmesg | grep -E 'I/O error|Sense Key' && fail "$parameters: an error below"
			closed "$@"
			disk_remove a
			scsi_gone
		done
	done
}

modprobe -q loop
run "report 11: what is deleted goes back to the file below" given_back
run "report 12: trimmed file systems" trimmed
run "report 12: parts of blocks" parts
if scsi_there; then
	run "report 15: odd discard limits below" odd_limits
fi
finish
