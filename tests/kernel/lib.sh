# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# Sourced by every kernel test. Owns: KTAP output, disks, pools and volumes,
# and cleaning up. A test file names its cases with `run NAME FUNCTION` and
# ends with `finish`; a case fails by calling `fail TEXT`.

set -u
ktap_number=0 ktap_failed=0 case_failed=0
POOL=dynmap-test
PATIENCE=20
export TOOLS=${MODULE%/*}
DM=(dmsetup --noudevsync)

fail() { echo "# $*"; case_failed=1; }

# expect WHAT IS WANTED
expect() { [ "$2" = "$3" ] || fail "$1: is '$2', wanted '$3'"; }

# refused WORD COMMAND...: the command fails, and the kernel says WORD.
refused() {
	local word=$1
	shift
	dmesg -C
	if "$@" > /dev/null 2>&1; then
		fail "accepted: $*"
	elif ! dmesg | grep -q -- "$word"; then
		fail "no word of '$word': $(dmesg | tail -n 2)"
	fi
}

# disk NAME MIB [CACHE]: a null_blk disk in memory, 512-byte sectors.
disk() {
	local dir=/sys/kernel/config/nullb/$1
	mkdir "$dir"
	echo 1 > "$dir/memory_backed"
	echo "$2" > "$dir/size"
	echo 512 > "$dir/blocksize"
	echo 1 > "$dir/discard"
	[ -z "${3:-}" ] || echo "$3" > "$dir/cache_size"
	echo 1 > "$dir/power"
}

# disk_slow NAME NANOSECONDS [DEPTH]: from now on each request takes so long, at most DEPTH (64)
# at a time; its content stays.
disk_slow() {
	local dir=/sys/kernel/config/nullb/$1
	echo 0 > "$dir/power"
	echo 2 > "$dir/irqmode"
	echo "$2" > "$dir/completion_nsec"
	echo "${3:-64}" > "$dir/hw_queue_depth"
	echo 1 > "$dir/power"
}

disk_remove() {
	echo 0 > "/sys/kernel/config/nullb/$1/power"
	rmdir "/sys/kernel/config/nullb/$1"
}

# scsi PARAMETER...: a disk of scsi_debug, $scsi; scsi_gone at the end.
scsi() {
	scsi=""
	modprobe sd_mod && modprobe scsi_debug dev_size_mb=64 "$@" || return
	for _ in $(seq 100); do
		scsi=$(ls /sys/bus/pseudo/drivers/scsi_debug/adapter*/host*/target*/*/block 2> /dev/null)
		[ -n "$scsi" ] && [ -b "/dev/$scsi" ] && break
		sleep 0.1
	done
	scsi=/dev/$scsi
}
scsi_gone() { rmmod scsi_debug || fail "scsi_debug is in use"; }
scsi_there() { modinfo scsi_debug > /dev/null 2>&1; }

# create NAME TABLE
create() { "${DM[@]}" create "$1" --table "$2" && dmsetup mknodes; }

# pool UNIT LOW_WATER "FEATURES" DEV...
pool() {
	local unit=$1 low=$2 features=$3
	shift 3
	create "$POOL" "0 16384 dynmap-pool $# $* $unit $low $features"
}

# volume ID SECTORS: create it if it is not there, and activate it.
volume() {
	dmsetup message "$POOL" 0 create_thin "$1" 2> /dev/null
	create "vol$1" "0 $2 dynmap /dev/mapper/$POOL $1"
}

remove() { "${DM[@]}" remove "$@" || fail "cannot remove $*"; }

# becomes WHAT WANTED COMMAND...: wait until the command says so, for PATIENCE s at most.
becomes() {
	local what=$1 wanted=$2
	shift 2
	for _ in $(seq $((PATIENCE * 10))); do
		[ "$("$@")" = "$wanted" ] && return
		sleep 0.1
	done
	fail "$what: is '$("$@")', wanted '$wanted'"
}

mode() { dmsetup status "$POOL" | cut -d' ' -f8; }
mode_becomes() { becomes "mode" "$1" mode; }

# through NAME DISK: a device whose table can be swapped for another one.
through() { create "$1" "0 $(blockdev --getsz "/dev/$2") linear /dev/$2 0"; }
swap() {
	"${DM[@]}" reload "$1" --table "$2"
	"${DM[@]}" suspend --nolockfs --noflush "$1"
	"${DM[@]}" resume "$1"
}
fails() { swap "$1" "0 $(blockdev --getsz "/dev/mapper/$1") error"; }
works() { swap "$1" "0 $(blockdev --getsz "/dev/mapper/$1") linear /dev/$2 0"; }

# stat DISK FIELD: 1 reads, 3 sectors read, 5 writes, 7 sectors written, 16 flushes
stat_of() { awk -v n="$2" '{ print $n }' "/sys/block/$1/stat"; }

now() { date +%s%3N; }

# Bytes in use but for caches of files.
memory() {
	awk '/^MemTotal:/ { sum += $2 }
	     /^(MemFree|Buffers|Cached|SReclaimable):/ { sum -= $2 }
	     END { print sum * 1024 }' /proc/meminfo
}

# Families: volumes of SECTORS in a pool on the disks a and b; what a volume holds is
# in a file beside it, its twin.
MIB=8
SECTORS=$((MIB * 2048))

# opened [UNIT [MIB]]: a pool on disks of so many MiB with volume 0, which holds /run/twin0.
opened() {
	disk a "${2:-64}" && disk b "${2:-64}"
	pool "${1:-128}" 0 "" /dev/a /dev/b && volume 0 $SECTORS || { fail "no volume"; return 1; }
	dd if=/dev/urandom of=/run/twin0 bs=1M count=$MIB status=none
	dd if=/run/twin0 of=/dev/mapper/vol0 bs=1M oflag=direct conv=fsync status=none
}

# closed DEV...: all volumes and the pool removed, and without a fault.
closed() {
	local name
	for name in $(dmsetup ls --target dynmap | awk '/\(/ { print $1 }'); do remove "$name"; done
	remove "$POOL"
	"$TOOLS/dynmap" check "$@" > /run/out || fail "the checker: $(tail -n 3 /run/out)"
}

snap() { dmsetup message "$POOL" 0 create_snap "$@"; }
delete() { dmsetup message "$POOL" 0 delete "$1" || fail "cannot delete $1"; }
active() { create "vol$1" "0 $SECTORS dynmap /dev/mapper/$POOL $1"; }

# send TEXT [FILE SECTORS] < LINES: many messages, and writes, see messages.c.
send() {
	local said text=$1
	shift
	said=$("$TOOLS/messages" "$POOL" "$@") || fail "$text stopped"
	echo "# $text: $said"
}

# usage_of ID FIELD: 1 mapped, 2 reserved, 3 exclusive, 4 shared
usage_of() { dmsetup message "$POOL" 0 usage "$1" | cut -d' ' -f"$2"; }

# Units in use; settles N: so many come to be in use.
used() { dmsetup status "$POOL" | cut -d' ' -f6 | cut -d/ -f1; }
settles() { becomes "in use" "$1" used; }

# same VOLUME FILE
same() { cmp -n $((MIB << 20)) "$2" "/dev/mapper/$1" || fail "$1 is not $2"; }

# random_writes VOLUME FILE COUNT: the same random writes to both, of 512 bytes to 40 KiB.
random_writes() {
	local i at len
	for i in $(seq "$3"); do
		at=$((RANDOM % (SECTORS - 80))) len=$((1 + RANDOM % 80))
		[ $((i % 3)) -ne 0 ] || { at=$((at / 8 * 8)); len=$((len / 8 * 8 + 8)); }
		dd if=/dev/urandom of=/run/piece bs=512 count=$len status=none
		dd if=/run/piece of="/dev/mapper/$1" bs=512 seek=$at oflag=direct conv=notrunc status=none ||
			fail "write to $1"
		dd if=/run/piece of="$2" bs=512 seek=$at conv=notrunc status=none
	done
	rm -f /run/piece
}

cleanup() {
	local target name
	umount /run/mnt 2> /dev/null
	for target in dynmap dynmap-pool dynmap-record thin thin-pool linear flakey error; do
		for name in $(dmsetup ls --target $target 2> /dev/null | awk '/\(/ { print $1 }'); do
			"${DM[@]}" remove "$name" 2> /dev/null
		done
	done
	for name in /sys/kernel/config/nullb/*/; do
		[ -d "$name" ] && disk_remove "$(basename "$name")"
	done
}

# complaint: the first one of a kernel log, with the lines around it. A slab cache that
# cannot be made for want of memory, an error as any other, dumps the stack, too.
complaint() {
	awk '
		/kmem_cache_create.*failed with error/ { dumped = 1 }
		dumped && /Call Trace/ { dumped = 0; next }
		!left && /BUG|WARNING|KASAN|Call Trace|INFO: (task|possible)|general protection/ {
			for (i = NR - 16; i < NR; i++)
				if (i in line)
					print "# " line[i]
			left = 40
		}
		{ line[NR] = $0; delete line[NR - 16] }
		left { print "# " $0; if (!--left) exit }
	'
}

run() {
	local begun=$SECONDS
	case_failed=0
	ktap_number=$((ktap_number + 1))
	dmesg -C
	"$2"
	dmesg | complaint > /run/complaint
	if [ -s /run/complaint ]; then
		cat /run/complaint
		fail "the kernel complained"
	fi
	cleanup
	echo "# $((SECONDS - begun)) s"
	if [ "$case_failed" -eq 0 ]; then
		echo "ok $ktap_number $1"
	else
		echo "not ok $ktap_number $1"
		ktap_failed=1
	fi
}

finish() {
	echo "1..$ktap_number"
	exit "$ktap_failed"
}

echo "TAP version 13"
mkdir -p /run/mnt
