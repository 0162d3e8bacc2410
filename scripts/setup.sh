#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
# Installs what building and testing need on Debian 12 or 13. Safe to run at any time: when
# nothing is missing it is one dpkg-query and asks apt nothing.
set -eu

BUILD="meson ninja-build pkg-config gcc libc6-dev clang-19 llvm-19 bpftool libbpf-dev libuv1-dev
	libmicrohttpd-dev libjansson-dev libyaml-dev libsqlite3-dev libmnl-dev
	uthash-dev libcmocka-dev"
TEST="clang-format-19 clang-tidy-19 libclang-rt-19-dev python3-pytest python3-yaml iproute2
	iputils-ping iperf3 ethtool tcpdump tshark socat ncat curl jq sqlite3 nftables iptables ipset xdp-tools procps
	util-linux mandoc zsh busybox-static podman crun containerd
	containernetworking-plugins"
BACKPORTS_LIST=/etc/apt/sources.list.d/towpath-backports.list

say() { echo "setup: $*" >&2; }
die() { say "$*"; exit 1; }

# Prints the packages of "$@" that are not installed.
missing() {
	have=$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' "$@" 2>/dev/null |
		awk '$1 == "installed" { print $2 }') || true
	for pkg in "$@"; do
		echo "$have" | grep -qxF "$pkg" || echo "$pkg"
	done
}

# is_old PACKAGE VERSION: not installed, or older.
is_old() {
	version=$(dpkg-query -W -f '${Version}' "$1" 2>/dev/null) || return 0
	dpkg --compare-versions "$version" lt "$2"
}

root() {
	if [ "$(id -u)" = 0 ]; then
		"$@"
	else
		command -v sudo >/dev/null || die "packages are missing: run this as root"
		sudo "$@"
	fi
}

# promtool checks the text for Prometheus in the tests. Its package brings a server that starts
# by itself and a web page with a dozen libraries, so only the one program is taken out of it.
PROMTOOL=/usr/local/lib/towpath-test/promtool
add_promtool() {
	command -v promtool >/dev/null || [ -x "$PROMTOOL" ] && return
	dir=$(mktemp -d)
	say "taking promtool out of the package prometheus as $PROMTOOL"
	(cd "$dir" && apt-get -q download prometheus >&2) &&
		dpkg-deb --fsys-tarfile "$dir"/prometheus_*.deb |
		tar -x -C "$dir" ./usr/bin/promtool &&
		root install -D "$dir/usr/bin/promtool" "$PROMTOOL" ||
		say "promtool could not be had: the test of the metrics' form will be skipped"
	rm -rf "$dir"
}

# nginx stands for the server that nobody changed. Its package starts it, so only the program is taken.
NGINX=/usr/local/lib/towpath-test/nginx
add_nginx() {
	command -v nginx >/dev/null || [ -x "$NGINX" ] && return
	dir=$(mktemp -d)
	say "taking nginx out of its package as $NGINX"
	(cd "$dir" && apt-get -q download nginx >&2) &&
		dpkg-deb --fsys-tarfile "$dir"/nginx_*.deb | tar -x -C "$dir" ./usr/sbin/nginx &&
		root install -D "$dir/usr/sbin/nginx" "$NGINX" ||
		say "nginx could not be had: the tests of SYN cookies will be skipped"
	rm -rf "$dir"
}

apt() { root env DEBIAN_FRONTEND=noninteractive apt-get -q -y "$@" >&2; }

# Debian 12: libbpf, bpftool and kernel headers of the release's own backports suite, from the
# mirror that apt already uses.
add_backports() {
	[ -e "$BACKPORTS_LIST" ] && return
	line=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE)' \
		'Created-By: Packages' | awk '$2 == "bookworm" { print; exit }')
	[ -n "$line" ] || die "apt knows no mirror of Debian bookworm: add one to its sources"
	# shellcheck disable=SC2086 # uri and release
	set -- $line
	say "adding bookworm-backports of $1 as $BACKPORTS_LIST"
	echo "deb $1 bookworm-backports main" |
		root tee "$BACKPORTS_LIST" >/dev/null
}

[ -r /etc/os-release ] || die "this is not Debian: install the packages named in $0 by hand"
# shellcheck source=/dev/null
. /etc/os-release

# shellcheck disable=SC2086 # lists of words
need=$(missing $BUILD $TEST)
old=
# libbpf before 1.3 and kernel headers before 6.6 know nothing of tcx links.
if [ "${VERSION_CODENAME:-}" = bookworm ] &&
	{ is_old libbpf-dev 1:1.3 || is_old linux-libc-dev 6.6; }; then
	old="libbpf-dev bpftool linux-libc-dev"
fi
[ -n "$need$old" ] || { add_promtool; add_nginx; exit 0; }

case "${ID:-}:${VERSION_CODENAME:-}" in
debian:bookworm)
	say "installing: $(echo $need $old)"
	apt update
	add_backports
	apt update
	apt install --no-install-recommends -t bookworm-backports \
		libbpf-dev bpftool linux-libc-dev
	;;
debian:trixie)
	say "installing: $(echo $need)"
	apt update
	;;
*)
	die "made for Debian 12 and 13; install these packages by hand: $(echo $need)"
	;;
esac
# shellcheck disable=SC2086 # list of words
need=$(missing $BUILD $TEST)
# shellcheck disable=SC2086 # list of words
[ -z "$need" ] || apt install --no-install-recommends $need
add_promtool
add_nginx
