#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# Ten thousand volumes in one pool: time and memory. The figures are for people:
# nothing is decided by time.
. ./lib.sh

MANY=10000
ACTIVE=200

# Bytes of the kernel's objects.
objects() { awk '/^(SUnreclaim|Percpu):/ { sum += $2 } END { print sum * 1024 }' /proc/meminfo; }

# devices TARGET WORDS: ACTIVE devices with a table of these words, in which # is the
# device's number. Prints the bytes of objects for each.
devices() {
	local before i
	before=$(objects)
	for ((i = 0; i < ACTIVE; i++)); do
		echo "many$i,,,rw,0 2097152 ${1//\#/$i}"
	done | paste -s -d ';' | "${DM[@]}" create --concise || return
	echo $((($(objects) - before) / ACTIVE))
}

no_devices() {
	local i
	for ((i = 0; i < ACTIVE; i++)); do echo "many$i"; done | xargs dmsetup --noudevsync remove
}

many() {
	local begin before used others round
	disk a 4096
	pool 128 0 "" /dev/a || fail "no pool"
	seq -f "create_thin %.0f 2097152" 0 $((MANY - 1)) | "$TOOLS/messages" "$POOL" > /run/out ||
		fail "create"
	echo "# created: $(cat /run/out)"
	expect "volumes" "$(dmsetup message "$POOL" 0 list | wc -l)" $MANY
	remove "$POOL"
	before=$(memory) begin=$(now)
	pool 128 0 "" /dev/a || fail "does not open again"
	echo "# opened in $(($(now) - begin)) ms"
	expect "volumes" "$(dmsetup message "$POOL" 0 list | wc -l)" $MANY
	used=$((($(memory) - before) / MANY))
	echo "# memory of the pool with all of them: $used bytes for each"
	# KASAN's own objects count, too.
	[ "$used" -lt 1024 ] || grep -q kasan_ /proc/kallsyms || fail "more than 1 KiB for each"
	# What device-mapper itself needs is no less; the first round warms up.
	for round in 1 2 3; do
		others=$(devices error) || fail "no other devices"
		no_devices
		used=$(devices "dynmap /dev/mapper/$POOL #") || fail "no active volumes"
		no_devices
		[ "$round" -eq 1 ] || echo "# memory: $used bytes for an active volume, $others for" \
			"a device of the error target"
	done
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
