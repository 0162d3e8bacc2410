#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
# Sets up, builds (optimised, in build-bench/) and runs one bench.
set -eu
cd "$(dirname "$0")"

usage() {
	echo "usage: sudo ./bench.sh NAME [--json] [options of the bench; --help lists them]"
	echo
	echo "benches:"
	for about in bench/*.about; do
		echo "  $(basename "$about" .about)	$(cat "$about")"
	done
}

case "${1:-}" in
-h | --help) usage; exit 0 ;;
'' | -* | */*) usage >&2; exit 2 ;;
esac
name=$1
shift
[ -e "bench/$name.about" ] || { echo "bench.sh: there is no bench '$name'" >&2; usage >&2; exit 2; }
[ "$(id -u)" = 0 ] || { echo "bench.sh: needs root: run it with sudo" >&2; exit 1; }

scripts/setup.sh
echo "building ..." >&2
scripts/build.sh build-bench --buildtype=release
if [ -e "bench/$name.py" ]; then
	exec python3 "bench/$name.py" --build build-bench "$@"
fi
exec "build-bench/bench/$name" "$@"
