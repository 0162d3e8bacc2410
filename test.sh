#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
# Sets up, builds and tests. The last line is "N passed, N failed[, N skipped]".
set -eu
cd "$(dirname "$0")"

usage() {
	cat <<'EOF'
usage: sudo ./test.sh [LAYER...] [--full]

Layers, all but style and kernels by default:
  style        clang-format, clang-tidy, and a build by clang without warnings
  unit         user space, also under ASan and UBSan; needs no root
  fuzz         objects, CNI input and API requests by libFuzzer, 5 s each (--full: 120); needs no root
  datapath     the shipped programs, packet by packet, under BPF_PROG_TEST_RUN
  system       real traffic between network namespaces, containers, restarts
  conformance  Kubernetes NetworkPolicy truth tables with real packets
  kernels      datapath under Debian's kernels 6.1 and 6.12 in qemu (half an hour; needs
               qemu-system-x86, cpio and kmod)

--full also runs what takes long (soak, every large table).
EOF
}

layers=
full=
for arg in "$@"; do
	case "$arg" in
	style | unit | fuzz | datapath | system | conformance | kernels) layers="$layers $arg" ;;
	--full) full=--full ;;
	-h | --help) usage; exit 0 ;;
	*) usage >&2; exit 2 ;;
	esac
done
layers=${layers:-unit fuzz datapath system conformance}

for layer in $layers; do
	case "$layer" in style | unit | fuzz) continue ;; esac
	[ "$(id -u)" = 0 ] && continue
	echo "test.sh: '$layer' loads programs into the kernel: run it with sudo" >&2
	exit 1
done

scripts/setup.sh
echo "building ..."
scripts/build.sh build
# Debian's own Python: setup.sh has given it pytest.
# shellcheck disable=SC2086 # lists of words
exec /usr/bin/python3 scripts/run_tests.py $full $layers
