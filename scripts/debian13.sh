#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
# Makes a folder with podman 5 and netavark of Debian 13, for tests on Debian 12: the packages
# and what they depend on, unpacked and not configured. Asks nothing when it is there already.
# Takes half a minute and 190 MB.
set -eu

[ $# = 1 ] || { echo "usage: $0 DIR" >&2; exit 2; }
dir=$1
[ -e "$dir/.complete" ] && exit 0
die() { echo "debian13: $*" >&2; exit 1; }
[ "$(id -u)" = 0 ] || die "run this as root"

# The mirror that apt uses; security and backports suites have no release of their own there.
mirror=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE)' 'Created-By: Packages' |
	awk '$2 == "bookworm" || $2 == "trixie" { print $1; exit }')
[ -n "$mirror" ] || die "apt knows no mirror of Debian: add one to its sources"

work=$(mktemp -d)
new="$dir.new"
trap 'rm -rf "$work" "$new"' EXIT
mkdir -p "$work/lists/partial" "$work/archives/partial"
: >"$work/status"
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror trixie main" \
	>"$work/sources.list"

quietly() {
	"$@" >"$work/log" 2>&1 || { tail -5 "$work/log" >&2; die "'$1' failed"; }
}
apt() {
	quietly apt-get -q -y -o Dir::State="$work" -o Dir::State::status="$work/status" \
		-o Dir::Cache="$work" -o Dir::Etc::sourcelist="$work/sources.list" \
		-o Dir::Etc::sourceparts=- -o Dir::Etc::preferencesparts=- \
		-o Acquire::Languages=none -o APT::Install-Recommends=false \
		-o APT::Sandbox::User=root "$@"
}
apt update
# The libraries are those of the netavark driver and of nothing else here.
apt -d install base-files base-passwd libc-bin podman netavark crun nftables \
	libjansson4 libmnl0

rm -rf "$new"
mkdir -p "$new"
# First what makes /bin and /lib links into /usr.
for deb in "$work"/archives/base-files_*.deb "$work"/archives/*.deb; do
	quietly dpkg-deb -x "$deb" "$new"
done
for name in passwd group; do
	cp "$new/usr/share/base-passwd/$name.master" "$new/etc/$name"
done
echo "nameserver 192.0.2.1" >"$new/etc/resolv.conf" # podman wants to see one
quietly ldconfig -r "$new"
: >"$new/.complete"
rm -rf "$dir"
mv "$new" "$dir"
