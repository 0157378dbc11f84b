#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# Ten thousand volumes in one pool. The figures are for people: nothing is
# decided by time.
. ./lib.sh

MANY=10000

now() { date +%s%3N; }

many() {
	local begin
	disk a 4096
	pool 128 0 "" /dev/a || fail "no pool"
	seq -f "create_thin %.0f 2097152" 0 $((MANY - 1)) | "$TOOLS/messages" "$POOL" > /run/out ||
		fail "create"
	echo "# created: $(cat /run/out)"
	expect "volumes" "$(dmsetup message "$POOL" 0 list | wc -l)" $MANY
	remove "$POOL"
	begin=$(now)
	pool 128 0 "" /dev/a || fail "does not open again"
	echo "# opened in $(($(now) - begin)) ms"
	expect "volumes" "$(dmsetup message "$POOL" 0 list | wc -l)" $MANY
	volume 7777 2097152 && dd if=/dev/zero of=/dev/mapper/vol7777 bs=4k count=1 oflag=direct \
		status=none || fail "a volume cannot be used"
	remove vol7777
	seq -f "delete %.0f" 0 $((MANY - 1)) | "$TOOLS/messages" "$POOL" > /run/out || fail "delete"
	echo "# deleted: $(cat /run/out)"
	expect "volumes" "$(dmsetup message "$POOL" 0 list)" ""
	remove "$POOL"
	"$TOOLS/dynmap" check /dev/a > /run/out || fail "the checker: $(cat /run/out)"
}

run "ten thousand volumes" many
finish
