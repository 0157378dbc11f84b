#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# Messages, status, tables; and what must be refused, with a word of why.
. ./lib.sh

# All but the times of creation, on one line.
listed() { dmsetup message "$POOL" 0 list | cut -d' ' -f1-4,6- | tr '\n' ';'; }

messages() {
	disk a 64
	pool 128 0 "" /dev/a || fail "no pool"
	dmsetup message "$POOL" 0 create_thin 7 || fail "create_thin"
	dmsetup message "$POOL" 0 create_thin 7 2> /dev/null && fail "created twice"
	dmsetup message "$POOL" 0 create_thin 3 2048 || fail "create_thin with a size"
	expect list "$(listed)" "3 0 0 2048 -;7 0 0 0 -;"
	volume 7 8192
	dmsetup message "$POOL" 0 delete 7 2> /dev/null && fail "deleted while open"
	expect table "$(dmsetup table "$POOL" | cut -d' ' -f6-)" "128 0 0"
	dmsetup message "$POOL" 0 set_transaction_id 0 5 || fail "transaction id"
	dmsetup message "$POOL" 0 set_transaction_id 0 6 2> /dev/null && fail "wrong old id"
	expect "transaction id" "$(dmsetup status "$POOL" | cut -d' ' -f4)" 5
	remove vol7
	dmsetup message "$POOL" 0 delete 7 || fail "delete"
	expect list "$(listed)" "3 0 0 2048 -;"
}

# Names and times of creation are set, listed, and kept.
names() {
	local now
	disk a 64
	pool 128 0 "" /dev/a || fail "no pool"
	dmsetup message "$POOL" 0 create_thin 7 || fail "create_thin"
	dmsetup message "$POOL" 0 set 7 name "web data" 2> /dev/null && fail "two words are one name"
	dmsetup message "$POOL" 0 set 7 name "web\ data" || fail "no name"
	now=$(date +%s)
	now=$((now - $(dmsetup message "$POOL" 0 list | cut -d' ' -f5)))
	[ $now -ge 0 ] && [ $now -lt 60 ] || fail "created $now seconds ago"
	dmsetup message "$POOL" 0 set 7 created 1700000000 || fail "no time"
	dmsetup message "$POOL" 0 set pool name tank || fail "no name of the pool"
	dmsetup message "$POOL" 0 create_snap 8 7
	refused "too long" dmsetup message "$POOL" 0 set 7 name "$(printf '%064d' 0)"
	refused "no volume 9" dmsetup message "$POOL" 0 set 9 name x
	remove "$POOL"
	pool 128 0 "" /dev/a || fail "does not open"
	expect list "$(dmsetup message "$POOL" 0 list | head -n 1)" "7 0 0 0 1700000000 web data"
	expect "copy" "$(listed | cut -d';' -f2)" "8 0 0 0 -"
	expect info "$(dmsetup message "$POOL" 0 info | cut -d' ' -f2-)" "1 tank"
	dmsetup message "$POOL" 0 set 7 name - || fail "the name stays"
	expect list "$(listed)" "7 0 0 0 -;8 0 0 0 -;"
}

# Of two that take the same step of the transaction id at the same moment one wins.
contended() {
	disk a 64
	pool 128 0 "" /dev/a || fail "no pool"
	expect "steps accepted" "$("$TOOLS/contend" "$POOL" 200)" 200
	expect "transaction id" "$(dmsetup status "$POOL" | cut -d' ' -f4)" 200
}

# Memory for metadata: of pools that are opened, and of one that is open.
budget() {
	local parameter=/sys/module/dm_dynmap_pool/parameters/cache_mib word
	disk a 64
	expect parameter "$(cat $parameter)" 256
	pool 128 0 "" /dev/a && volume 0 8192 || fail "no volume"
	expect limit "$(dmsetup message "$POOL" 0 cache | cut -d' ' -f2)" 262144
	for word in 7 65537 8M x; do
		refused "not a number of MiB" dmsetup message "$POOL" 0 cache "$word"
	done
	expect limit "$(dmsetup message "$POOL" 0 cache 8 | cut -d' ' -f2)" 8192
	dd if=/dev/urandom of=/run/data bs=1M count=4 status=none
	dd if=/run/data of=/dev/mapper/vol0 bs=1M oflag=direct status=none || fail write
	cmp -n 4194304 /run/data /dev/mapper/vol0 || fail content
	dmsetup status "$POOL" | grep -q ' cache [1-9][0-9]*/8192$' || fail "status: $(dmsetup status "$POOL")"
	remove vol0; remove "$POOL"
	echo 1 > $parameter
	pool 128 0 "" /dev/a || fail "does not open"
	echo 256 > $parameter
	expect least "$(dmsetup message "$POOL" 0 cache | cut -d' ' -f2)" 8192
}

bad_messages() {
	disk a 64
	pool 128 0 "" /dev/a || fail "no pool"
	refused "expected 0 to" dmsetup message "$POOL" 0 create_thin 16777216
	refused "expected 0 to" dmsetup message "$POOL" 0 delete x
	refused "expected create_thin" dmsetup message "$POOL" 0 frobnicate
	refused "no snapshot 1 of volume 77" dmsetup message "$POOL" 0 create_snap 1 77
	refused "unknown message create_snap" dmsetup message "$POOL" 0 create_snap 1
	refused "No such volume" create v "0 8 dynmap /dev/mapper/$POOL 9"
	refused "not the device of a dynmap pool" create v "0 8 dynmap /dev/a 0"
	"${DM[@]}" remove v 2> /dev/null
	expect list "$(dmsetup message "$POOL" 0 list)" ""
}

bad_tables() {
	local line
	disk a 64; disk b 1
	while IFS='|' read -r word line; do
		refused "$word" create p "0 16384 dynmap-pool $line"
		"${DM[@]}" remove p 2> /dev/null
	done << 'EOF'
number of devices|0 128 0
Expected|1 /dev/a 128
allocation size|1 /dev/a 100 0
allocation size|1 /dev/a 4 0
low water mark|1 /dev/a 128 x
Expected read_only|1 /dev/a 128 0 1 fast
given twice|2 /dev/a /dev/a 128 0
too small|2 /dev/a /dev/b 128 0
EOF
	cmp -n 1048576 /dev/a /dev/zero || fail "something was written"
}

# Devices that carry something else keep it.
foreign() {
	local before
	disk a 64; disk b 64; disk c 64
	mkfs.ext4 -q /dev/a
	dd if=/dev/urandom of=/dev/a bs=512 count=1 status=none
	before=$(md5sum < /dev/a)
	refused "is not empty" create p "0 16384 dynmap-pool 1 /dev/a 128 0"
	"${DM[@]}" remove p 2> /dev/null
	expect content "$(md5sum < /dev/a)" "$before"
	printf '\0%.0s' $(seq 32) > /run/sb
	printf '\xba\x52\x9c\x01\0\0\0\0' >> /run/sb
	dd if=/run/sb of=/dev/b conv=notrunc status=none
	refused "dm-thin" create p "0 16384 dynmap-pool 1 /dev/b 128 0"
	"${DM[@]}" remove p 2> /dev/null
	pool 128 0 "" /dev/c && remove "$POOL"
	dd if=/dev/zero of=/dev/b bs=4k count=1 conv=notrunc status=none
	refused "is empty" create p "0 16384 dynmap-pool 2 /dev/c /dev/b 128 0"
	"${DM[@]}" remove p 2> /dev/null
}

reload() {
	disk a 64
	pool 128 0 "" /dev/a && volume 0 8192 || fail "no volume"
	dd if=/dev/urandom of=/run/data bs=1M count=4 status=none
	dd if=/run/data of=/dev/mapper/vol0 bs=1M oflag=direct status=none
	dmsetup load "$POOL" --table "0 16384 dynmap-pool 1 /dev/a 256 9 1 error_if_no_space" || fail load
	dmsetup suspend --noudevsync "$POOL" && dmsetup resume --noudevsync "$POOL" || fail resume
	expect table "$(dmsetup table "$POOL" | cut -d' ' -f6-)" "256 9 1 error_if_no_space"
	dmsetup suspend --noudevsync vol0 && dmsetup resume --noudevsync vol0 || fail "volume resume"
	cmp -n 4194304 /run/data /dev/mapper/vol0 || fail content
	"${DM[@]}" remove "$POOL" 2> /dev/null && fail "removed under a volume"
}

run "messages, status, table" messages
run "names and times" names
run "a step of the transaction id is taken once" contended
run "memory for metadata" budget
run "bad messages" bad_messages
run "bad tables" bad_tables
run "foreign devices" foreign
run "reload, suspend, resume" reload
finish
