#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# Families of many volumes: thousands of snapshots of one volume, a long chain of
# them, clones of one image. A sample; SAMPLE=1 make check-debug T=families makes all
# of them. The figures are for people: nothing is decided by time.
. ./lib.sh

if [ "${SAMPLE:-}" = 1 ]; then
	SNAPSHOTS=10000 DEPTH=1000 CLONES=100000 SPACE=2048
else
	SNAPSHOTS=1000 DEPTH=120 CLONES=5000 SPACE=512
fi
BLOCKS=$((SECTORS / 8))
export PATIENCE=120

# timed TEXT COMMAND...: say how long it took.
timed() {
	local begin status text=$1
	shift
	begin=$(now)
	"$@"
	status=$?
	echo "# $text: $(($(now) - begin)) ms"
	return $status
}

# listed COUNT: so many volumes, each with its line of five numbers and no name.
listed() {
	dmsetup message "$POOL" 0 list > /run/list || fail "no list"
	expect "lines" "$(wc -l < /run/list)" "$1"
	expect "volumes" "$(grep -cE '^([0-9]+ ){5}-$' /run/list)" "$1"
}

# holds ID FILE: a volume that is not active
holds() { active "$1"; same "vol$1" "$2"; remove "vol$1"; }

opened_again() {
	timed "removed" remove "$POOL"
	timed "opened again" pool "$1" 0 "" /dev/a /dev/b || fail "does not open again"
}

# emptied: the deletions' background work ends; the pool is closed and checked.
emptied() {
	timed "space came back" settles 0
	timed "closed and checked" closed /dev/a /dev/b
}

# Writes are numbered from 1; number I, block I of /run/random, goes to block I % PERIOD.
# write PERIOD ID I: the line that does so.
write() { echo "write $2 $(($3 % $1)) $3"; }

# twin PERIOD I FILE: what a volume holds that was /run/twin0 after the first I writes.
twin() {
	local turn=$(($2 - $2 % $1)) first=$(($2 - $1 + 1))
	[ $first -ge 1 ] || first=1
	cp /run/twin0 "$3"
	[ $first -ge $turn ] || place "$1" $first $((turn - 1)) "$3"
	[ $turn -ge 1 ] || turn=1
	place "$1" $turn "$2" "$3"
}
place() {
	dd if=/run/random of="$4" bs=4k skip="$2" seek=$(($2 % $1)) count=$(($3 - $2 + 1)) \
		conv=notrunc status=none
}

# A hundred times so many snapshots, and a write.
snapshots() {
	local batch=$((SNAPSHOTS / 100)) half=$((SNAPSHOTS / 2)) i
	opened 128 "$SPACE" || return
	for ((i = 1; i <= 100; i++)); do
		seq -f "create_snap %.0f 0" $(((i - 1) * batch + 1)) $((i * batch))
		write $BLOCKS 0 $i
	done > /run/lines
	send "snapshots, and 100 writes" /run/random $SECTORS < /run/lines
	echo "# $(used) units in use"
	timed "list" listed $((SNAPSHOTS + 1))
	twin $BLOCKS 100 /run/twin
	timed "10 writes" random_writes vol0 /run/twin 10
	same vol0 /run/twin
	twin $BLOCKS 49 /run/twin-half
	twin $BLOCKS 50 /run/twin-next
	twin $BLOCKS 99 /run/twin-last
	holds 1 /run/twin0
	holds $half /run/twin-half
	holds $((half + 1)) /run/twin-next
	holds $SNAPSHOTS /run/twin-last
	expect "mode" "$(mode)" rw
	remove vol0
	opened_again 128
	listed $((SNAPSHOTS + 1))
	holds $half /run/twin-half
	active 0
	same vol0 /run/twin
	timed "closed and checked" closed /dev/a /dev/b
	pool 128 0 "" /dev/a /dev/b && active 0 || fail "does not open again"

	# The volume is in use meanwhile; two snapshots stay for a while.
	seq -f "delete %.0f" 2 $SNAPSHOTS | grep -vx "delete $half" | shuf > /run/lines
	send "deleted in random order" < <(head -n $half /run/lines)
	timed "10 writes" random_writes vol0 /run/twin 10
	holds $half /run/twin-half
	send "deleted in random order" < <(tail -n +$((half + 1)) /run/lines)
	timed "10 writes" random_writes vol0 /run/twin 10
	same vol0 /run/twin
	listed 3
	holds 1 /run/twin0
	holds $half /run/twin-half
	delete $half; delete 1
	same vol0 /run/twin
	remove vol0; delete 0
	emptied
}

# overwritten COUNT: a write after each snapshot; deleted from the newest on, while the
# volume is in use: what it overwrote rises through parents that are deleted, too.
overwritten() {
	local i
	opened 8 "$SPACE" || return
	for ((i = 1; i <= $1; i++)); do
		echo "create_snap $i 0"
		write $BLOCKS 0 $i
	done > /run/lines
	send "snapshots and writes in turn" /run/random $SECTORS < /run/lines
	expect "in use" "$(used)" $((BLOCKS + $1))
	twin $BLOCKS $(($1 / 2 - 1)) /run/twin-half
	holds $(($1 / 2)) /run/twin-half
	twin $BLOCKS "$1" /run/twin
	timed "usage" becomes "its own" 8 usage_of 0 3
	send "deleted, newest first" < <(seq -f "delete %.0f" "$1" -1 1)
	timed "10 writes" random_writes vol0 /run/twin 10
	timed "space came back" settles $BLOCKS
	same vol0 /run/twin
	remove vol0; delete 0
	emptied
}
half_overwritten() { overwritten $((SNAPSHOTS / 2)); }

# Snapshot i is one of snapshot i - 1 and gets write i, which is overwritten REWRITE
# generations later: so it is known whose the blocks are.
chain() {
	local rewrite=$((DEPTH / 5)) low=$((DEPTH / 4)) half=$((DEPTH / 2)) high=$((DEPTH * 3 / 4)) i
	opened 8 "$SPACE" || return
	remove vol0
	for ((i = 1; i <= DEPTH; i++)); do
		echo "create_snap $i $((i - 1))"
		write $rewrite $i $i
	done > /run/lines
	send "a chain with writes" /run/random $SECTORS < /run/lines
	expect "in use" "$(used)" $((BLOCKS + DEPTH))
	for i in $low $half $((high + 1)) $DEPTH; do twin $rewrite $i /run/twin-$i; done
	timed "the deepest read" holds $DEPTH /run/twin-$DEPTH
	for i in $low $half $((high + 1)); do holds $i /run/twin-$i; done
	holds 0 /run/twin0
	timed "usage of the deepest" becomes "its own" 8 usage_of $DEPTH 3
	timed "usage of the origin" becomes "its own" 8 usage_of 0 3
	expect "its own in the middle" "$(usage_of $half 3)" 0
	expect "mapped" "$(usage_of $half 1)" $SECTORS
	opened_again 8
	holds $DEPTH /run/twin-$DEPTH
	timed "closed and checked" closed /dev/a /dev/b
	pool 8 0 "" /dev/a /dev/b || fail "does not open again"

	send "the middle deleted" < <(seq -f "delete %.0f" $((low + 1)) $high | shuf)
	# What was both written and overwritten in between is gone.
	settles $((BLOCKS + DEPTH - (high - low - rewrite + 1)))
	# Exact when the last of them is gone, too.
	becomes "above the middle" 8 usage_of $low 3
	becomes "below the middle" 8 usage_of $((high + 1)) 3
	for i in $low $((high + 1)) $DEPTH; do holds $i /run/twin-$i; done
	send "from the origin deleted" < <(seq -f "delete %.0f" 0 $low)
	settles $((BLOCKS + DEPTH - high - 1))
	holds $((high + 1)) /run/twin-$((high + 1))
	active $DEPTH
	random_writes vol$DEPTH /run/twin-$DEPTH 10
	send "others deleted" < <(seq -f "delete %.0f" $((high + 1)) $((DEPTH - 1)) | shuf)
	same vol$DEPTH /run/twin-$DEPTH
	remove vol$DEPTH; delete $DEPTH
	emptied
}

clones() {
	local before each id some=(1 $((CLONES / 2)) "$CLONES")
	opened 128 "$SPACE" || return
	remove vol0
	send "cloned" < <(seq -f "create_snap %.0f 0" 1 "$CLONES")
	timed "list" listed $((CLONES + 1))
	timed "removed" remove "$POOL"
	before=$(memory)
	timed "opened again" pool 128 0 "" /dev/a /dev/b || fail "does not open again"
	timed "list" listed $((CLONES + 1))
	each=$((($(memory) - before) / CLONES))
	echo "# memory of the pool with all of them: $each bytes for each; the list has" \
		"$(stat -c %s /run/list) bytes"
	# KASAN's own objects count, too.
	[ "$each" -lt 1024 ] || grep -q kasan_ /proc/kallsyms || fail "more than 1 KiB for each"
	for id in "${some[@]}"; do
		cp /run/twin0 "/run/twin-$id"
		active "$id"
		same "vol$id" /run/twin0
		random_writes "vol$id" "/run/twin-$id" 10
	done
	active 0
	same vol0 /run/twin0
	for id in "${some[@]}"; do same "vol$id" "/run/twin-$id"; done
	timed "closed and checked" closed /dev/a /dev/b
	pool 128 0 "" /dev/a /dev/b || fail "does not open again"
	for id in "${some[@]}"; do holds "$id" "/run/twin-$id"; done
	send "deleted" < <(seq -f "delete %.0f" 0 "$CLONES" | shuf)
	emptied
}

dd if=/dev/urandom of=/run/random bs=4k count=$((SNAPSHOTS / 2 + 1)) status=none
run "many snapshots of one volume" snapshots
rm -f /run/twin*
run "a write after each snapshot" half_overwritten
rm -f /run/twin*
run "a long chain" chain
rm -f /run/twin*
run "many clones of one image" clones
rm -f /run/twin* /run/random /run/lines /run/list
finish
