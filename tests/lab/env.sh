# SPDX-License-Identifier: GPL-2.0-only
#
# Sourced by the other lab scripts. Owns: where the lab keeps things, how it
# speaks, and how it asks apt for packages. Standard output belongs to
# results (a path); everything said to people goes to standard error.

LAB=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
TREE=$(cd "$LAB/../.." && pwd)
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/dm-dynmap
mkdir -p "$CACHE"

say() { echo "lab: $*" >&2; }
die() { say "$*"; exit 1; }

# apt_get ARG...: apt-get that waits for other users of apt and asks nothing.
apt_get() {
	DEBIAN_FRONTEND=noninteractive \
		apt-get -qq -o DPkg::Lock::Timeout=300 "$@" >&2
}

# lock NAME: one at a time; a second caller waits for the first one's result.
lock() {
	exec 9> "$CACHE/$1.lock"
	flock 9
}

# suite_apt COMMAND ARG...: apt-get or apt-cache on Debian suites newer than
# the running one. Their lists live in the cache, so that the machine's own
# configuration stays as it is; the mirror is the one apt already uses.
suite_apt() {
	local command=$1 state=$CACHE/apt mirror
	shift
	if [ ! -e "$state/sources" ]; then
		mirror=$(. /etc/os-release; apt-get indextargets \
				--format '$(REPO_URI)' "Codename: $VERSION_CODENAME" \
				"Component: main" "Origin: Debian" | head -n 1)
		[ -n "$mirror" ] || die "apt knows no Debian archive"
		mkdir -p "$state/lists/partial" "$state/cache/archives/partial"
		for suite in trixie-backports sid; do
			echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main"
		done > "$state/sources"
	fi
	DEBIAN_FRONTEND=noninteractive "$command" -qq \
		-o Dir::State::Lists="$state/lists" -o Dir::Cache="$state/cache" \
		-o Dir::Etc::SourceList="$state/sources" \
		-o Dir::Etc::SourceParts=/dev/null \
		-o APT::Default-Release= "$@"
}
