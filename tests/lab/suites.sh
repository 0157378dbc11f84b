# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# Sourced after env.sh. Owns: the lists of newer suites of Debian, kept in the
# cache; the machine's own apt configuration stays as it is, and its mirror is
# used.

SUITES="trixie trixie-backports sid"

# suites COMMAND...: an apt command that knows the newer suites, and only them.
suites() {
	local state=$CACHE/suites
	"$@" -o Dir::State::Lists="$state/lists" -o Dir::Cache="$state/cache" \
		-o Dir::Etc::SourceList="$state/sources" -o Dir::Etc::SourceParts=/dev/null \
		-o APT::Sandbox::User=root
}

# suites_update: fetch the lists, one caller at a time.
suites_update() {
	local state=$CACHE/suites mirror suite
	mkdir -p "$state/lists/partial" "$state/cache/archives/partial"
	mirror=$(. /etc/os-release
		 apt-get indextargets --format '$(REPO_URI)' "Codename: $VERSION_CODENAME" \
			"Component: main" "Origin: Debian" | head -n 1)
	[ -n "$mirror" ] || die "apt knows no Debian archive"
	(
		flock 8
		for suite in $SUITES; do
			echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main"
		done > "$state/sources"
		suites apt-get -qq update >&2
	) 8> "$state.lock" || die "cannot fetch the lists of $SUITES"
}
