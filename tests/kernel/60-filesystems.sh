#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# ext4 and xfs on a volume much larger than its storage, under fio verify.
. ./lib.sh

storage() {
	disk a 192; disk b 192
	pool 128 0 "" /dev/a /dev/b && volume 0 209715200 || fail "no volume"
}

files() {
	mount /dev/mapper/vol0 /run/mnt || { fail "mount"; return; }
	fio --name=files --directory=/run/mnt --thread --ioengine=libaio --direct=1 --rw=randwrite \
		--bsrange=4k-64k --size=16m --numjobs=2 --iodepth=8 --fsync=64 --verify=crc32c \
		--output=/run/fio || fail "fio"
	rm -rf /run/mnt/files*
	fstrim /run/mnt || fail "fstrim"
	umount /run/mnt
}

ext4() {
	storage
	mkfs.ext4 -q -E lazy_itable_init=1,lazy_journal_init=1,nodiscard /dev/mapper/vol0 || fail mkfs
	files
	e2fsck -fn /dev/mapper/vol0 > /run/fsck 2>&1 || { fail "fsck"; tail -n 5 /run/fsck; }
}

xfs() {
	storage
	mkfs.xfs -q -K /dev/mapper/vol0 || fail mkfs
	files
	xfs_repair -n /dev/mapper/vol0 > /run/fsck 2>&1 || { fail "xfs_repair"; tail -n 5 /run/fsck; }
}

run "ext4" ext4
run "xfs" xfs
finish
