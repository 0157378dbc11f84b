#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# Snapshots: copies that stay what they were, whatever is written to either side;
# deletion in any order; file systems under load; many of them.
. ./lib.sh

both_sides() {
	opened || return
	snap 1 0 || fail "no snapshot of an active volume"
	active 1
	cp /run/twin0 /run/twin1
	same vol1 /run/twin1
	random_writes vol0 /run/twin0 40
	same vol1 /run/twin1
	random_writes vol1 /run/twin1 40
	same vol0 /run/twin0
	snap 2 1 || fail "no snapshot of a snapshot"
	active 2
	cp /run/twin1 /run/twin2
	random_writes vol1 /run/twin1 20
	random_writes vol2 /run/twin2 20
	# Discards and zeros on shared blocks are one side's alone.
	blkdiscard -o 1048576 -l 1048576 /dev/mapper/vol2
	dd if=/dev/zero of=/run/twin2 bs=1M seek=1 count=1 conv=notrunc status=none
	fallocate --zero-range -o 3000320 -l 20480 /dev/mapper/vol1 2> /dev/null ||
		dd if=/dev/zero of=/dev/mapper/vol1 bs=512 seek=5860 count=40 oflag=direct conv=notrunc status=none
	dd if=/dev/zero of=/run/twin1 bs=512 seek=5860 count=40 conv=notrunc status=none
	sync
	for i in 0 1 2; do same vol$i /run/twin$i; done
	closed /dev/a /dev/b
	pool 128 0 "" /dev/a /dev/b
	for i in 0 1 2; do active $i; same vol$i /run/twin$i; done
	closed /dev/a /dev/b
}

deletion() {
	local before
	opened || return
	before=$(used)
	for i in 1 2 3 4; do snap $i $((i - 1)); active $i; cp /run/twin$((i - 1)) /run/twin$i
		random_writes vol$i /run/twin$i 15
	done
	remove vol0; delete 0
	remove vol2; delete 2
	for i in 1 3 4; do same vol$i /run/twin$i; done
	random_writes vol3 /run/twin3 15
	remove vol4; delete 4
	remove vol1; delete 1
	same vol3 /run/twin3
	[ "$(used)" -ge "$before" ] || fail "in use: $(used), less than one volume's $before"
	remove vol3; delete 3
	settles 0
	closed /dev/a /dev/b
}

# A file system that is written to meanwhile, copied 8 times: each copy is whole.
file_system() {
	local i
	disk a 512
	pool 128 0 "" /dev/a && volume 0 262144 || { fail "no volume"; return; }
	mkfs.ext4 -q -E lazy_itable_init=1,nodiscard /dev/mapper/vol0
	mount /dev/mapper/vol0 /run/mnt
	(while [ ! -e /run/stop ]; do
		dd if=/dev/urandom of="/run/mnt/$((RANDOM % 20))" bs=16k count=$((RANDOM % 20)) conv=fsync status=none
	done) &
	for i in $(seq 8); do
		sleep 0.3
		snap "$i" 0 || fail "no snapshot $i"
	done
	touch /run/stop; wait $!; rm -f /run/stop
	umount /run/mnt
	for i in $(seq 8); do
		create "vol$i" "0 262144 dynmap /dev/mapper/$POOL $i"
		mount "/dev/mapper/vol$i" /run/mnt && umount /run/mnt || fail "mount of $i"
		e2fsck -fn "/dev/mapper/vol$i" > /run/out 2>&1 || fail "copy $i: $(tail -n 3 /run/out)"
	done
	closed /dev/a
}

# Two volumes, written to in turn, are copied at one instant.
group() {
	local a b i
	disk a 64
	pool 128 0 "" /dev/a && volume 0 2048 && volume 1 2048 || { fail "no volumes"; return; }
	(for i in $(seq 400); do
		printf '%-512s' "$i" | dd of=/dev/mapper/vol$((i % 2)) bs=512 oflag=direct conv=notrunc status=none
	done) &
	sleep 0.5
	snap 10 0 11 1 || fail "no group"
	wait $!
	for i in 10 11; do create vol$i "0 2048 dynmap /dev/mapper/$POOL $i"; done
	a=$(head -c 20 /dev/mapper/vol10 | tr -d '\0 ') b=$(head -c 20 /dev/mapper/vol11 | tr -d '\0 ')
	[ $((a - b)) -eq 1 ] || [ $((b - a)) -eq 1 ] || fail "not one instant: $a, $b"
	refused "no snapshot 12" snap 13 0 12 9
	dmsetup message "$POOL" 0 list | grep -q '^13 ' && fail "half a group is left"
	closed /dev/a
}

# Bytes of zeros at the beginning of a volume.
zeros() { cmp -n 8388608 "/dev/mapper/$1" /dev/zero 2> /dev/null | sed -n 's/.*differ: [a-z]* \([0-9]*\),.*/\1/p'; }

# Block after block of two volumes in turn is discarded while groups of 40 are copied, one of the two volumes first, the other one last.
discarded_group() {
	local round i args first last
	disk a 128
	pool 128 0 "" /dev/a && volume 0 $SECTORS && volume 1 $SECTORS && volume 2 8 ||
		{ fail "no volumes"; return; }
	for i in 0 1; do
		dd if=/dev/urandom of=/dev/mapper/vol$i bs=1M count=$MIB oflag=direct status=none
	done
	fio --name=trim --filename=/dev/mapper/vol0:/dev/mapper/vol1 --thread --ioengine=psync \
		--direct=1 --rw=trim --bs=4k --file_service_type=roundrobin:1 --thinktime=200 \
		--filesize=${MIB}m --size=$((2 * MIB))m --output=/run/fio &
	for _ in $(seq 100); do [ "$(zeros vol1)" -lt 4096 ] || break; sleep 0.1; done
	for round in 1 2 3 4 5 6; do
		args="$((100 * round)) 0"
		for i in $(seq 38); do args="$args $((100 * round + i)) 2"; done
		# shellcheck disable=SC2086
		snap $args $((100 * round + 39)) 1 || fail "no group"
	done
	wait $! || fail "fio: $(tail -n 3 /run/fio)"
	for round in 1 2 3 4 5 6; do
		active $((100 * round)); active $((100 * round + 39))
		first=$(zeros vol$((100 * round))) last=$(zeros vol$((100 * round + 39)))
		echo "# $((first / 4096)) and $((last / 4096)) blocks discarded"
		i=$((first / 4096 - last / 4096))
		[ "$i" -eq 0 ] || [ "$i" -eq 1 ] || fail "not one instant"
	done
	closed /dev/a
}

refusals() {
	opened || return
	snap 1 0
	refused "no snapshot 1 of volume 0" snap 1 0
	refused "no snapshot 2 of volume 77" snap 2 77
	refused "invalid volume id" snap 2 x
	dmsetup message "$POOL" 0 set 1 protected 1 || fail "cannot protect"
	refused "is protected" dmsetup message "$POOL" 0 delete 1
	dmsetup message "$POOL" 0 set 1 protected 0
	dmsetup message "$POOL" 0 set 1 read_only 1 || fail "cannot make read-only"
	active 1
	same vol1 /run/twin0
	dd if=/dev/zero of=/dev/mapper/vol1 bs=4k count=1 oflag=direct status=none 2> /dev/null &&
		fail "a write to a read-only copy"
	same vol1 /run/twin0
	remove vol1; delete 1
	closed /dev/a /dev/b
}

# A volume that an administrator spoiled gets back what its snapshot has.
rolled_back() {
	opened || return
	snap 1 0
	random_writes vol0 /run/twin1 30
	refused "is in use" dmsetup message "$POOL" 0 rollback 0 1
	remove vol0
	active 1
	dmsetup message "$POOL" 0 rollback 0 1 || fail "no roll back to a snapshot in use"
	active 0
	same vol0 /run/twin0
	cp /run/twin0 /run/twin1
	random_writes vol0 /run/twin0 20
	random_writes vol1 /run/twin1 20
	same vol0 /run/twin0
	same vol1 /run/twin1
	refused "no volume 7" dmsetup message "$POOL" 0 rollback 7 1
	remove vol0
	dmsetup message "$POOL" 0 set 0 protected 1
	refused "is protected" dmsetup message "$POOL" 0 rollback 0 1
	dmsetup message "$POOL" 0 set 0 protected 0
	dmsetup message "$POOL" 0 set 0 read_only 1
	refused "is read-only" dmsetup message "$POOL" 0 rollback 0 1
	dmsetup message "$POOL" 0 set 0 read_only 0
	remove vol1; delete 1
	dmsetup message "$POOL" 0 delete 0
	settles 0
	closed /dev/a /dev/b
}

# What a backup has to copy: by message and offline the same, and all that differs.
compared() {
	local from len
	opened || return
	snap 1 0; active 1
	[ -z "$(dmsetup message "$POOL" 0 compare 0 1)" ] || fail "a fresh copy differs"
	dd if=/dev/urandom of=/dev/mapper/vol0 bs=4k seek=100 count=3 oflag=direct conv=notrunc status=none
	expect "ranges" "$(dmsetup message "$POOL" 0 compare 0 1)" "800 24"
	random_writes vol0 /run/twin1 25
	random_writes vol1 /run/twin1 25
	blkdiscard -o 1048576 -l 65536 /dev/mapper/vol1
	sync
	dmsetup message "$POOL" 0 compare 0 1 > /run/ranges
	dmsetup message "$POOL" 0 compare 1 0 8000 | head -n 1 > /run/out
	[ "$(cut -d' ' -f1 < /run/out)" -ge 8000 ] || fail "from sector 8000: $(cat /run/out)"
	dd if=/dev/mapper/vol0 of=/run/twin0 bs=1M status=none
	while read -r from len; do
		dd if=/dev/mapper/vol1 of=/run/twin0 bs=512 skip="$from" seek="$from" count="$len" \
			conv=notrunc status=none
	done < /run/ranges
	same vol1 /run/twin0
	refused "invalid sector" dmsetup message "$POOL" 0 compare 0 1 x
	closed /dev/a /dev/b
	"$TOOLS/dynmap" compare 0 1 /dev/a /dev/b > /run/out || fail "the tool does not compare"
	cmp /run/out /run/ranges || fail "offline it is not the same"
	"$TOOLS/dynmap" compare 0 9 /dev/a /dev/b 2> /run/out && fail "compared with nothing"
	grep -q "9: no such volume" /run/out || fail "said: $(cat /run/out)"
}

# What a message says that deletion frees is what it frees.
accounted() {
	local before id said
	opened 8 || return
	for i in 1 2 3 4 5; do
		snap $i $((i / 2)); active $i
		random_writes vol$i /run/twin0 12
		random_writes vol0 /run/twin0 12
		blkdiscard -o $((i << 20)) -l 299008 /dev/mapper/vol$((i - 1))
	done
	sync
	expect "shared and exclusive" "$(($(usage_of 3 3) + $(usage_of 3 4)))" \
		"$(($(usage_of 3 1) + $(usage_of 3 2)))"
	for id in 2 0 4 1 3 5; do
		said=$(usage_of $id 3)
		before=$(used)
		remove vol$id; delete $id
		settles $((before - said / 8))
	done
	refused "no such volume" dmsetup message "$POOL" 0 usage 2
	closed /dev/a /dev/b
}

many() {
	local count=1000
	opened || return
	send "created" < <(seq -f "create_snap %.0f 0" 1 $count)
	random_writes vol0 /run/twin1 1
	for i in 1 $((count / 2)) $count; do active "$i"; same "vol$i" /run/twin0; remove "vol$i"; done
	send "deleted" < <(seq -f "delete %.0f" 1 $count | shuf)
	remove vol0; delete 0
	settles 0
	closed /dev/a /dev/b
}

run "both sides go their own ways" both_sides
run "deleted in any order" deletion
run "copies of a file system in use" file_system
run "a group at one instant" group
run "a group at one instant, and discards" discarded_group
run "rolled back" rolled_back
run "compared" compared
run "what deletion frees is known" accounted
run "what is refused" refusals
run "a thousand snapshots" many
rm -f /run/twin* /run/ranges
finish
