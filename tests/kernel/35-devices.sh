#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# Devices of different kinds below a pool, and what its volumes say to the block layer.
. ./lib.sh

VOLUME=131072	# sectors

# special NAME MIB ATTRIBUTE=VALUE...: a null_blk disk as disk() makes, with other attributes.
special() {
	local dir=/sys/kernel/config/nullb/$1 attribute
	mkdir "$dir"
	echo 1 > "$dir/memory_backed"
	echo "$2" > "$dir/size"
	shift 2
	for attribute in "$@"; do echo "${attribute#*=}" > "$dir/${attribute%=*}"; done
	echo 1 > "$dir/power"
}

# loop_on MIB [OPTION...]: a loop device, $loop, on the file /run/image; loop_gone at the end.
loop_on() {
	truncate -s "${1}" /run/image
	shift
	loop=$(losetup -f --show "$@" /run/image)
}
loop_gone() { losetup -d "$loop"; rm -f /run/image; }
loop_there() { modprobe loop 2> /dev/null; [ -e /dev/loop-control ]; }

# queue NAME ATTRIBUTE: of a mapped device, NAME, or of a disk, /dev/NAME.
queue() {
	local dev=$1
	[[ $dev == /dev/* ]] || dev=/dev/mapper/$dev
	cat "/sys/dev/block/$(lsblk -ndo MAJ:MIN "$dev" | tr -d ' ')/queue/$2"
}

reload() {
	"${DM[@]}" reload "$POOL" --table "0 16384 dynmap-pool $# $* 128 0" || return 1
	"${DM[@]}" suspend "$POOL"
	"${DM[@]}" resume "$POOL"
}

# sectors TEXT: reads and writes of one sector each, all over the volume, and its twin.
sectors() {
	local at failed=0
	for _ in $(seq 40); do
		at=$(((RANDOM * 32768 + RANDOM) % SECTORS))
		head -c 512 /dev/urandom > /run/piece
		dd if=/run/piece of=/dev/mapper/vol0 bs=512 seek=$at oflag=direct conv=notrunc \
			status=none 2> /dev/null &&
			dd if=/run/piece of=/run/twin0 bs=512 seek=$at conv=notrunc status=none ||
			failed=$((failed + 1))
		dd if=/dev/mapper/vol0 bs=512 skip=$at count=1 iflag=direct status=none 2> /dev/null |
			cmp -s - /run/piece || failed=$((failed + 1))
	done
	[ $failed -eq 0 ] || fail "$1: $failed of 80 reads and writes failed"
	same vol0 /run/twin0
}

# zeroing DEV...: a volume over them is zeroed in all the ways there are.
zeroing() {
	local before
	pool 128 0 "" "$@" && volume 0 $VOLUME || { fail "no volume over $*"; return; }
	dd if=/dev/urandom of=/dev/mapper/vol0 bs=1M count=4 oflag=direct conv=fsync status=none
	expect "largest WRITE ZEROES over $*" "$(queue vol0 write_zeroes_max_bytes)" 4294963200
	before=$(usage_of 0 1)
	blkdiscard -z /dev/mapper/vol0 || fail "blkdiscard -z over $*"
	echo "# $*: $before sectors are mapped, $(usage_of 0 1) after blkdiscard -z"
	expect "mapped after blkdiscard -z over $*" "$(usage_of 0 1)" 0
	cmp -n $((VOLUME * 512)) /dev/zero /dev/mapper/vol0 || fail "content after blkdiscard -z"
	dd if=/dev/urandom of=/dev/mapper/vol0 bs=1M count=4 oflag=direct status=none
	fallocate -z -o 0 -l $((VOLUME * 512)) /dev/mapper/vol0 || fail "fallocate -z over $*"
	expect "mapped after fallocate -z over $*" "$(usage_of 0 1)" 0
	dd if=/dev/urandom of=/dev/mapper/vol0 bs=1M count=4 oflag=direct status=none
	fallocate -p -o 0 -l $((VOLUME * 512)) /dev/mapper/vol0 || fail "fallocate -p over $*"
	expect "in use after fallocate -p over $*" "$(dmsetup status vol0 | cut -d' ' -f4)" 0
	cmp -n $((VOLUME * 512)) /dev/zero /dev/mapper/vol0 || fail "content after fallocate"
	remove vol0; remove "$POOL"
}

# A null_blk disk has no WRITE ZEROES, a loop device has. What the devices are written
# is metadata.
zeroes() {
	local written
	disk a 256
	expect "WRITE ZEROES of the disk" "$(queue /dev/a write_zeroes_max_bytes)" 0
	zeroing /dev/a
	written=$(stat_of a 7)
	[ "$written" -lt $((4 * 8192 + 8192)) ] || fail "$written sectors were written"
	loop_there || return
	loop_on 256M
	zeroing "$loop"
	blkdiscard /dev/a
	blkdiscard "$loop"
	zeroing "$loop" /dev/a
	loop_gone
}

# A volume whose unwritten blocks hold something else than zeros offers none: the block
# layer writes zeros.
no_zeroes() {
	disk a 64
	pool 128 0 "" /dev/a || fail "no pool"
	dmsetup message "$POOL" 0 create_thin 0
	dmsetup message "$POOL" 0 set 0 fill 0xa5 && volume 0 $VOLUME || fail "no volume"
	expect "largest WRITE ZEROES" "$(queue vol0 write_zeroes_max_bytes)" 0
	fallocate -p -o 0 -l 65536 /dev/mapper/vol0 2> /dev/null && fail "a hole of zeros"
	blkdiscard -z -o 512 -l 66048 /dev/mapper/vol0 || fail "blkdiscard -z"
	expect "zeros" "$(od -An -v -tx1 -w1 -j 512 -N 66048 /dev/mapper/vol0 | sort -u | tr -d ' \n')" 00
	expect "around" "$( (head -c 512; tail -c +66049 | head -c 512) < /dev/mapper/vol0 |
		od -An -v -tx1 -w1 | sort -u | tr -d ' \n')" a5
}

# A device whose WRITE ZEROES unmaps: newer kernels have a limit of its own for that,
# which a table must not set to something else than the other one.
unmapping_zeroes() {
	scsi lbpu=1 lbpws=1 lbprz=1
	pool 128 0 "" "$scsi" && volume 0 $VOLUME || fail "no volume"
	expect "largest WRITE ZEROES" "$(queue vol0 write_zeroes_max_bytes)" 4294963200
	[ ! -e "/sys/block/${scsi#/dev/}/queue/write_zeroes_unmap_max_hw_bytes" ] ||
		expect "unmapping" "$(queue vol0 write_zeroes_unmap_max_hw_bytes)" 4294963200
	dd if=/dev/urandom of=/dev/mapper/vol0 bs=1M count=4 oflag=direct status=none
	blkdiscard -z /dev/mapper/vol0 || fail "blkdiscard -z"
	expect "mapped" "$(usage_of 0 1)" 0
	remove vol0; remove "$POOL"
	scsi_gone
}

# Volumes of a pool of 512-byte sectors keep these: a device with larger ones cannot join,
# whether a volume is active or not.
joining() {
	special c 256 blocksize=4096 discard=1
	opened 128 16 || return
	reload /dev/a /dev/b /dev/c 2> /dev/null
	blkdiscard /dev/mapper/vol0
	truncate -s 0 /run/twin0 && truncate -s ${MIB}M /run/twin0
	sectors "after a 4Kn device wanted to join"
	refused "c has logical blocks of 4096 bytes, the pool.s volumes have 512" \
		reload /dev/a /dev/b /dev/c
	remove vol0
	refused "c has logical blocks of 4096 bytes, the pool.s volumes have 512" \
		reload /dev/a /dev/b /dev/c
	remove "$POOL"
	pool 128 0 "" /dev/b /dev/a && active 0 || { fail "does not open again"; return; }
	expect "logical block" "$(queue vol0 logical_block_size)" 512
	sectors "after opening again"
	closed /dev/a /dev/b
}

# Both kinds from the start: the larger one counts, then and later.
mixed() {
	disk a 64; special b 64 blocksize=4096 discard=1; disk c 64
	pool 128 0 "" /dev/a /dev/b && volume 0 $VOLUME || { fail "no volume"; return; }
	expect "logical block" "$(queue vol0 logical_block_size)" 4096
	expect "physical block" "$(queue vol0 physical_block_size)" 4096
	dd if=/dev/urandom of=/run/data bs=1M count=40 status=none
	dd if=/run/data of=/dev/mapper/vol0 bs=36k oflag=direct status=none || fail "write"
	remove vol0; remove "$POOL"
	pool 128 0 "" /dev/b /dev/a && volume 0 $VOLUME || { fail "does not open again"; return; }
	expect "logical block after opening again" "$(queue vol0 logical_block_size)" 4096
	reload /dev/a /dev/b /dev/c || fail "a device of smaller blocks cannot join"
	cmp -n 41943040 /run/data /dev/mapper/vol0 || fail "content"
	remove vol0; volume 0 $VOLUME
	expect "logical block after a device joined" "$(queue vol0 logical_block_size)" 4096
	cmp -n 41943040 /run/data /dev/mapper/vol0 || fail "content of the new pool"
	remove vol0; volume 0 $((12 * 1048576))
	# The longest bio ends before 4 GiB.
	dd if=/run/data of=/dev/mapper/vol0 bs=4k count=3 seek=1048574 oflag=direct status=none
	fallocate -p -o 0 -l $((5 << 30)) /dev/mapper/vol0 || fail "zeros over 5 GiB"
	expect "mapped after zeros over 5 GiB" "$(usage_of 0 1)" 0
	rm -f /run/data
	closed /dev/a /dev/b /dev/c
}

# A device that does not end with a block, beside one of larger blocks.
odd() {
	special a 64 blocksize=4096 discard=1
	loop_on $((65536 * 1024 + 512))
	pool 128 0 "" /dev/a "$loop" && volume 0 $VOLUME || fail "no volume"
	dd if=/dev/zero of=/dev/mapper/vol0 bs=1M count=60 oflag=direct conv=fsync status=none ||
		fail "write"
	remove vol0; remove "$POOL"
	loop_gone
}

# The logical block of a volume in use stays as it is, whatever its next table says.
origin() {
	disk a 64; special b 64 blocksize=4096
	dd if=/dev/urandom of=/dev/b bs=1M count=4 oflag=direct status=none
	pool 128 0 "" /dev/a && volume 0 $VOLUME || { fail "no volume"; return; }
	refused "in use with logical blocks of 512 bytes, the new table needs 4096" \
		"${DM[@]}" reload vol0 --table "0 $VOLUME dynmap /dev/mapper/$POOL 0 /dev/b"
	expect "logical block" "$(queue vol0 logical_block_size)" 512
	remove vol0
	create vol0 "0 $VOLUME dynmap /dev/mapper/$POOL 0 /dev/b" || fail "no volume over an origin"
	expect "logical block over an origin" "$(queue vol0 logical_block_size)" 4096
	cmp -n 4194304 /dev/b /dev/mapper/vol0 || fail "content"
}

# A pool that was loaded and not resumed has no limits yet that a volume could have.
inactive() {
	special a 64 blocksize=4096
	pool 128 0 "" /dev/a && volume 0 $VOLUME || { fail "no volume"; return; }
	remove vol0; remove "$POOL"
	"${DM[@]}" create "$POOL" --notable && dmsetup mknodes
	"${DM[@]}" load "$POOL" --table "0 16384 dynmap-pool 1 /dev/a 128 0" || fail "no pool"
	refused "not active" create vol0 "0 $VOLUME dynmap /dev/mapper/$POOL 0"
	"${DM[@]}" remove vol0 2> /dev/null
	"${DM[@]}" resume "$POOL"
	volume 0 $VOLUME || fail "no volume afterwards"
	expect "logical block" "$(queue vol0 logical_block_size)" 4096
}

# sizes WHAT PHYSICAL MIN OPT
sizes() {
	expect "physical block $1" "$(queue vol0 physical_block_size)" "$2"
	expect "least I/O $1" "$(queue vol0 minimum_io_size)" "$3"
	expect "best I/O $1" "$(queue vol0 optimal_io_size)" "$4"
}

# over UNIT DEV WHAT PHYSICAL MIN OPT: what a volume makes of it.
over() {
	pool "$1" 0 "" "$2" && volume 0 $VOLUME || { fail "no volume"; return; }
	shift 2
	sizes "$@"
	remove vol0; remove "$POOL"
}

# What lies below and what a volume has itself, together.
stacked() {
	local best
	disk a 64; disk b 64; disk c 64
	over 128 /dev/a "over a disk" 4096 4096 65536
	blkdiscard /dev/a
	create stripes "0 393216 striped 3 1024 /dev/a 0 /dev/b 0 /dev/c 0"
	over 128 /dev/mapper/stripes "over stripes" 4096 524288 1572864
	over 2048 /dev/mapper/stripes "over stripes, in larger units" 4096 524288 3145728
	"${DM[@]}" remove stripes
	scsi_there || return
	scsi physblk_exp=5 opt_blks=65535
	# Some kernels do not believe an optimal length that is no multiple of physical blocks.
	[ "$(queue "$scsi" optimal_io_size)" -eq 0 ] && best=16384 || best=33554432
	over 8 "$scsi" "over 16 KiB" 16384 16384 $best
	scsi_gone
	scsi sector_size=4096
	over 128 "$scsi" "over 4Kn" 4096 4096 "$(queue "$scsi" optimal_io_size)"
	scsi_gone
}

# refused_everywhere WORD DEV: at opening, at joining, as an origin.
refused_everywhere() {
	disk a 64
	refused "$1" pool 128 0 "" "$2"
	"${DM[@]}" remove "$POOL" 2> /dev/null
	pool 128 0 "" /dev/a && volume 0 $VOLUME || { fail "no volume"; return; }
	refused "$1" reload /dev/a "$2"
	remove vol0
	refused "$1" create vol0 "0 $VOLUME dynmap /dev/mapper/$POOL 0 $2"
	"${DM[@]}" remove vol0 2> /dev/null
	remove "$POOL"
}

zoned() { refused_everywhere "z is a zoned device" /dev/z; }

large_blocks() {
	refused_everywhere "has logical blocks of 8192 bytes" "$loop"
	"$TOOLS/dynmap" format "$loop" > /run/out 2>&1 && fail "formatted by the tool"
	grep -q "logical blocks of 8192 bytes" /run/out || fail "the tool says: $(cat /run/out)"
}

# protected DEV...: a pool on write-protected devices, with volume 0 as /run/twin0.
protected() {
	refused "write-protected" pool 128 0 "" "$@"
	"${DM[@]}" remove "$POOL" 2> /dev/null
	refused "needs the feature read_only" "${DM[@]}" create "$POOL" --readonly \
		--table "0 16384 dynmap-pool $# $* 128 0"
	"${DM[@]}" remove "$POOL" 2> /dev/null
	"${DM[@]}" create "$POOL" --readonly \
		--table "0 16384 dynmap-pool $# $* 128 0 1 read_only" && dmsetup mknodes ||
		{ fail "no rescue in a read-only table"; return; }
	"${DM[@]}" create vol0 --readonly --table "0 $SECTORS dynmap /dev/mapper/$POOL 0" &&
		dmsetup mknodes || { fail "no read-only volume"; return; }
	same vol0 /run/twin0
	remove vol0; remove "$POOL"
	pool 128 0 "1 read_only" "$@" && active 0 || { fail "no rescue"; return; }
	same vol0 /run/twin0
	dd if=/run/twin0 of=/dev/mapper/vol0 bs=4k count=1 oflag=direct conv=fsync status=none \
		2> /dev/null && fail "written"
	remove vol0; remove "$POOL"
}

# A rescue writes nothing, and needs no device that could be written.
rescue() {
	local writes
	opened || return
	remove vol0; remove "$POOL"
	blockdev --setro /dev/a /dev/b
	writes="$(stat_of a 5) $(stat_of b 5)"
	protected /dev/a /dev/b
	expect "writes" "$(stat_of a 5) $(stat_of b 5)" "$writes"
	dmesg | grep "write to read-only" && fail "the kernel saw a write"
	blockdev --setrw /dev/a /dev/b
	pool 128 0 "" /dev/a /dev/b && active 0 || { fail "does not open again"; return; }
	closed /dev/a /dev/b
}

# The disk itself refuses to be opened for writing.
rescue_scsi() {
	scsi
	pool 128 0 "" "$scsi" && volume 0 $SECTORS || { fail "no volume"; return; }
	dd if=/dev/urandom of=/run/twin0 bs=1M count=$MIB status=none
	dd if=/run/twin0 of=/dev/mapper/vol0 bs=1M oflag=direct conv=fsync status=none
	remove vol0; remove "$POOL"
	echo 1 > /sys/module/scsi_debug/parameters/wp
	blockdev --rereadpt "$scsi" 2> /dev/null
	protected "$scsi"
	scsi_gone
}

run "zeros take no space, whatever the devices can" zeroes
run "zeros where unwritten blocks hold something else" no_zeroes
! scsi_there || run "a device whose zeros unmap" unmapping_zeroes
run "a device of larger logical blocks cannot join" joining
run "both kinds from the start" mixed
! loop_there || run "a device that ends within a block" odd
run "the logical block of a volume in use stays" origin
run "a pool that is not active" inactive
run "sizes of what lies below" stacked
if special z 64 zoned=1 zone_size=4 2> /dev/null && [ -b /dev/z ]; then
	run "a zoned device" zoned
fi
if loop_there && loop_on 64M --sector-size 8192 2> /dev/null && [ -n "$loop" ]; then
	run "logical blocks of 8 KiB" large_blocks
	loop_gone
fi
run "a rescue from write-protected devices" rescue
! scsi_there || run "a rescue from a disk that refuses writers" rescue_scsi
rm -f /run/twin0
finish
