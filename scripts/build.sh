#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
# Builds into build/, or into the directory given; further arguments go to `meson setup` when
# that directory is new. Prints the compiler's output only when something is wrong.
set -eu
cd "$(dirname "$0")/.."
dir=${1:-build}
[ $# -gt 0 ] && shift

log=$(mktemp)
trap 'rm -f "$log"' EXIT
quietly() {
	"$@" >"$log" 2>&1 && return
	cat "$log" >&2
	echo "build: '$*' failed" >&2
	exit 1
}

# A directory whose set-up was interrupted has no build.ninja and is set up again.
[ -e "$dir/build.ninja" ] || quietly meson setup "$dir" "$@"
quietly ninja -C "$dir"
grep -n 'warning:' "$log" >&2 || true
