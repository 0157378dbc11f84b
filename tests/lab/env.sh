# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# Sourced by the other lab scripts. Owns: where the lab keeps things, how it
# speaks, and how it installs packages. Standard output belongs to results;
# everything said to people goes to standard error.

LAB=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
TREE=$(cd "$LAB/../.." && pwd)
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/dm-dynmap
# Programs built from this tree.
# shellcheck disable=SC2034
BUILD=$CACHE/user-$(cksum <<< "$TREE" | cut -d' ' -f1)
export TREE
mkdir -p "$CACHE"

say() { echo "lab: $*" >&2; }
die() { say "$*"; exit 1; }

# need PACKAGE...: install the Debian packages that are missing, one caller at a time.
need() {
	(flock 7; install_missing "$@") 7> "$CACHE/apt.lock" || exit 1
}

install_missing() {
	local package missing=()
	for package in "$@"; do
		dpkg-query -W -f '${Status}' "$package" 2> /dev/null |
			grep -q 'ok installed' || missing+=("$package")
	done
	[ ${#missing[@]} -gt 0 ] || return 0
	say "installing ${missing[*]}"
	DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 \
		install -y --no-install-recommends "${missing[@]}" > "$CACHE/apt.log" 2>&1 ||
		{ apt-get -qq update > /dev/null 2>&1
		  DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 \
			install -y --no-install-recommends "${missing[@]}" > "$CACHE/apt.log" 2>&1 ||
			die "cannot install ${missing[*]}, see $CACHE/apt.log"; }
}

# lock NAME: one at a time; a second caller waits for the first one's result.
lock() {
	exec 9> "$CACHE/$1.lock"
	flock 9
}
