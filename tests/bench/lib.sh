# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# Sourced by the benchmarks, inside the machine. Owns: the four targets, each on disks
# of its own in memory, with 512-byte sectors and a volatile cache, so that flushes
# count; measuring a fio job on one of them; medians of rounds. The disks are written
# before, and all memory is: a disk in memory takes longer for a page that it has not,
# and the machine for one that its host has not given yet.
set -eu
rounds=$1
batch=()
[ "${2:-}" != native ] || batch=(--iodepth=64 --iodepth_batch_submit=32 --iodepth_batch_complete_min=32)
targets="raw linear thin dynmap"
declare -A node disks iops cost
region=0
block=4		# KiB of an operation
round=1

disk() {
	local dir=/sys/kernel/config/nullb/$1
	mkdir "$dir"
	echo 1 > "$dir/memory_backed"
	echo "$2" > "$dir/size"
	echo 512 > "$dir/blocksize"
	echo 64 > "$dir/cache_size"
	echo 1 > "$dir/power"
	dd if=/dev/zero of="/dev/$1" bs=1M oflag=direct status=none 2> /dev/null || true
}

touch_memory() {
	mount -t tmpfs -o size=100% memory /mnt
	dd if=/dev/zero of=/mnt/memory bs=1M status=none \
		count="$(awk '/MemAvailable/ { print int($2 / 1024) - 256 }' /proc/meminfo)"
	umount /mnt
}

create() { dmsetup --noudevsync create "$1" --table "$2" && dmsetup mknodes; }

setup() {
	local driver
	for driver in dm-mod dm-thin-pool libcrc32c "null_blk nr_devices=0" loop; do
		# shellcheck disable=SC2086
		modprobe $driver 2> /dev/null || true	# built in
	done
	insmod "$MODULE"
	touch_memory
	disk raw 1024; disk linear 1024; disk data 1536; disk meta 64; disk dynmap 1536
	create linear "0 2097152 linear /dev/linear 0"
	create thinpool "0 3145728 thin-pool /dev/meta /dev/data 128 0"
	dmsetup message thinpool 0 create_thin 0
	create thin "0 2097152 thin /dev/mapper/thinpool 0"
	create pool "0 3145728 dynmap-pool 1 /dev/dynmap 128 0"
	dmsetup message pool 0 create_thin 0
	create dynmap "0 2097152 dynmap /dev/mapper/pool 0"
	node=([raw]=/dev/raw [linear]=/dev/mapper/linear [thin]=/dev/mapper/thin
	      [dynmap]=/dev/mapper/dynmap)
	disks=([raw]=raw [linear]=linear [thin]="data meta" [dynmap]=dynmap)
}

# counter TARGET FIELD: sum of a field of the target's disks' statistics.
counter() {
	local name sum=0
	for name in ${disks[$1]}; do
		sum=$((sum + $(awk -v n="$2" '{ print $n }' "/sys/block/$name/stat")))
	done
	echo "$sum"
}

# counters TARGET: reads, writes, sectors read, sectors written, flushes.
counters() {
	local field all=
	for field in 1 5 3 7 16; do all+="$(counter "$1" $field) "; done
	echo "$all"
}

# settle TARGET: what it still has to do is its cost, and not the next one's load.
settle() {
	dd if=/dev/zero of="${node[$1]}" count=0 conv=fsync,notrunc status=none
	[ "$1" != dynmap ] || { dmsetup suspend pool; dmsetup resume pool; }
}

# measure JOB TARGET OPTION...: operations per second, device I/Os and bytes. The same
# random blocks on each target, others in each $round: what is written again in the
# order in which it was written before is not random any more to who writes to new
# places. (--randseed is ignored without --randrepeat=0.)
measure() {
	local job=$1 target=$2 before after operations line
	shift 2
	before=$(counters "$target")
	line=$(fio --minimal --terse-version=3 --name=bench --filename="${node[$target]}" --thread \
		--direct=1 --randrepeat=0 --randseed="$round" --runtime=2 "$@" \
		"${batch[@]}" | tail -n 1)	# its warnings come before
	settle "$target"
	after=$(counters "$target")
	# Terse format: 6 and 47 are KiB done, 8 and 49 operations per second.
	operations=$(awk -F';' -v bs="$block" '{ print ($6 + $47) / bs }' <<< "$line")
	iops["$job,$target"]+="$(awk -F';' '{ print $8 + $49 }' <<< "$line") "
	cost["$job,$target"]=$(awk -v n="$operations" '{
		printf "%.2f %.2f %.2f", ($6 + $7 - $1 - $2) / n, ($8 + $9 - $3 - $4) / 2 / n,
		       ($10 - $5) / n }' <<< "$before $after")
}

# job NAME BLOCK-KIB OPTION...: on each target in turn, as many rounds as asked
# for; each round begins with another one. @N@ in an option is the round's own region.
job() {
	local name=$1 block=$2 target
	shift 2
	for round in $(seq "$rounds"); do
		[[ "$*" != *@N@* ]] || region=$((region + 1))
		for target in $targets; do
			measure "$name" "$target" --bs="${block}k" "${@//@N@/$((32 + 32 * region))m}"
		done
		targets="${targets#* } ${targets%% *}"
	done
	report "$name"
}

median() { tr ' ' '\n' | grep . | sort -n | awk '{ a[NR] = $1 } END { print a[int((NR + 1) / 2)] }'; }

# ratio JOB TARGET: median of the rounds' ratios of dynmap to TARGET. The machine's
# own speed changes from second to second; both of a pair ran within a few.
ratio() {
	paste -d' ' <(tr ' ' '\n' <<< "${iops[$1,dynmap]}") <(tr ' ' '\n' <<< "${iops[$1,$2]}") |
		awk '$2 > 0 { print $1 / $2 }' | median
}

report() {
	local target
	declare -A m
	for target in $targets; do m[$target]=$(median <<< "${iops[$1,$target]}"); done
	printf '%-34s %7d %7d %7d %7d   %5.2f %6.2f' "$1" "${m[raw]}" "${m[linear]}" "${m[thin]}" \
		"${m[dynmap]}" "$(ratio "$1" linear)" "$(ratio "$1" thin)"
	# shellcheck disable=SC2086
	printf '   %5s %6s %5s   %5s %6s %5s\n' ${cost["$1,thin"]} ${cost["$1,dynmap"]}
}

# written MIB: so much of each target is written.
written() {
	local target
	for target in $targets; do
		dd if=/dev/zero of="${node[$target]}" bs=1M count="$1" oflag=direct conv=fsync status=none
	done
}

title() {
	printf '%-34s %31s   %12s   %18s   %18s\n' "" "operations per second (median)" "dynmap to" \
		"per op: thin" "per op: dynmap"
	printf '%-34s %7s %7s %7s %7s   %5s %6s   %5s %6s %5s   %5s %6s %5s\n' "" raw linear thin dynmap \
		linear thin I/Os KiB flush I/Os KiB flush
}
