#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# test-tools.sh DYNMAP: the offline tool on files: what it makes, what it
# finds and what it refuses. One line per case, KTAP.
set -u
tool=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
number=0 bad=0

# try STATUS WORD ARGUMENT...: dynmap with these ends with STATUS and says WORD.
try() {
	local status=$1 word=$2 out
	shift 2
	out=$("$tool" "$@" 2>&1)
	local is=$?
	number=$((number + 1))
	if [ "$is" -eq "$status" ] && [[ $out == *"$word"* ]]; then
		echo "ok $number dynmap $*"
	else
		echo "# status $is, wanted $status and '$word': $out"
		echo "not ok $number dynmap $*"
		bad=1
	fi
}

# noise FILE BLOCK: destroy one block.
noise() { dd if=/dev/urandom of="$1" bs=4096 seek="$2" count=1 conv=notrunc status=none; }

truncate -s 64M a b c
truncate -s 1M small
try 16 Usage
try 16 "not a number" format --alloc-size x a
try 16 "power of two" format --alloc-size 12 a
try 16 "too small" format small
try 16 "given twice" format a a
try 16 "No such file" format missing
try 0 "" format --label test a b
try 0 clean check b a
try 0 clean check --memory 8 b a
try 16 "8 to 1048576 MiB" check --memory 7 b a
try 16 "8 to 1048576 MiB" check --memory 1e3 b a
try 0 "epoch 1" dump a b
try 16 "2 devices, 1 were given" check a
try 16 "carries a dynmap pool" format a
try 16 "no valid dynmap superblock" check a c
try 0 "" format c
try 16 "another pool" check a c
mke2fs -q c
try 16 "carries ext" format c
try 0 "" format --force c
# One copy of a superblock, then of a node, then both copies.
dd if=/dev/zero of=a bs=4096 count=1 conv=notrunc status=none
noise b 2
try 0 clean check a b
noise a 256
try 1 repairable check a b
noise b 256
try 4 "" check a b
echo "1..$number"
exit $bad
