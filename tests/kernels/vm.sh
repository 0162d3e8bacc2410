#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
# Runs a command under another kernel of Debian's: qemu boots it, and this machine's own root file
# system is the guest's, read only, with what the guest writes in the guest's memory. Emulated, so
# slow: ten to thirty times.
#
#     tests/kernels/vm.sh RELEASE COMMAND...      RELEASE: 5.10, 6.1, 6.12 or what Debian has besides
#
# The kernel comes from Debian's package by the apt sources of this machine and is kept in
# build-kernels/ of the checkout. Exit: that of the command; 125: the guest did not come up.
set -eu

die() { echo "vm.sh: $*" >&2; exit 125; }

[ $# -ge 2 ] || { sed -n '3,11s/^# \{0,1\}//p' "$0"; exit 2; }
release=$1
shift
here=$(cd "$(dirname "$0")/../.." && pwd)
cache=$here/build-kernels
memory=${TOWPATH_VM_MB:-3072}
seconds=${TOWPATH_VM_SECONDS:-1800}

command -v qemu-system-x86_64 >/dev/null || die "needs qemu-system-x86 (apt-get install qemu-system-x86)"
command -v cpio >/dev/null || die "needs cpio (apt-get install cpio)"
busybox=$(command -v busybox) || die "needs busybox-static"

# Newest package of that release that is no cloud, rt or unsigned flavour.
package_find() {
	pattern="^linux-image-$(echo "$release" | sed 's/\./\\./g')[-.][-.0-9+a-z]*-amd64\$"
	apt-cache search --names-only "$pattern" | awk '{ print $1 }' |
		grep -Ev -- '-(cloud|rt)-amd64$' | grep -E '[0-9]-amd64$' | grep -E "^linux-image-[0-9.]+[-.+]" |
		sort -V | tail -1
}

kernel_get() {
	[ -e "$cache/$release/done" ] && return
	package=$(package_find)
	[ -n "$package" ] || die "apt knows no kernel $release"
	echo "vm.sh: taking $package" >&2
	rm -rf "${cache:?}/$release"
	mkdir -p "$cache/$release/root"
	(cd "$cache/$release" && apt-get -qq download "$package") 2>/dev/null ||
		die "cannot download $package"
	dpkg -x "$cache/$release"/*.deb "$cache/$release/root"
	rm "$cache/$release"/*.deb
	touch "$cache/$release/done"
}

kernel_get
root=$cache/$release/root
version=$(ls "$root/lib/modules")
modules=$root/lib/modules/$version
command -v depmod >/dev/null || die "needs kmod"
[ -e "$modules/modules.dep.bin" ] || depmod -b "$root" "$version"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
mkdir -p "$work/fs/bin" "$work/fs/mods" "$work/fs/new"
cp "$busybox" "$work/fs/bin/busybox"

# Modules that reach the root file system, with what they need, in order.
module_add() {
	file=$(find "$modules" -name "$1.ko*" | head -1)
	[ -n "$file" ] || return 0 # built in
	for need in $(modinfo -F depends "$file" 2>/dev/null | tr , ' '); do
		module_add "$need"
	done
	file=$(find "$modules" -name "$1.ko*" | head -1)
	name=$(basename "$file")
	[ -e "$work/fs/mods/${name%.xz}" ] && return 0
	cp "$file" "$work/fs/mods/"
	case $name in *.xz) xz -d "$work/fs/mods/$name" ;; esac
	echo "${name%.xz}" >>"$work/fs/mods/order"
}
for module in virtio_pci 9pnet_virtio 9p overlay; do
	module_add "$module"
done

# The command, with its words kept apart.
{
	echo '#!/bin/sh'
	printf 'cd %s || exit 125\n' "'$(pwd)'"
	printf 'exec'
	for word in "$@"; do
		printf " '%s'" "$(printf %s "$word" | sed "s/'/'\\\\''/g")"
	done
	echo
} >"$work/fs/command"

# The kernel calls it by this path, outside of the command's root.
mkdir -p "$work/fs/sbin"
cat >"$work/fs/sbin/modprobe" <<'MODPROBE'
#!/bin/busybox sh
exec /bin/busybox chroot /new /sbin/modprobe "$@"
MODPROBE
chmod +x "$work/fs/sbin/modprobe"

cat >"$work/fs/init" <<INIT
#!/bin/busybox sh
PATH=/bin:/usr/bin:/sbin:/usr/sbin
/bin/busybox --install -s /bin
mkdir -p /proc /sys /dev /low /up
mount -t proc none /proc; mount -t sysfs none /sys; mount -t devtmpfs none /dev
while read -r name; do insmod /mods/\$name || echo "vm.sh: \$name: no"; done </mods/order
mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144,cache=loose,ro root /low || echo vm.sh: no root
mount -t tmpfs -o size=80% none /up
mkdir /up/upper /up/work
mount -t overlay -o lowerdir=/low,upperdir=/up/upper,workdir=/up/work none /new || echo vm.sh: no overlay
cp /command /new/vm-command
cd /new
mkdir -p lib/modules
mount --bind /new$root/lib/modules lib/modules
mount -t proc none proc; mount -t sysfs none sys; mount -t devtmpfs none dev
mkdir -p dev/pts dev/shm; mount -t devpts none dev/pts; mount -t tmpfs none dev/shm
mount -t tmpfs none run; mount -t tmpfs none tmp
mkdir -p run/netns sys/fs/cgroup/unified 2>/dev/null
mount -t cgroup2 none sys/fs/cgroup
mount -t bpf none sys/fs/bpf
ip link set lo up 2>/dev/null
HOME=/root TERM=dumb TOWPATH_PATIENCE=6 PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin chroot . /bin/sh /vm-command </dev/null
echo "vm.sh-exit: \$?"
sync
echo o >/proc/sysrq-trigger
sleep 60
INIT
chmod +x "$work/fs/init" "$work/fs/command"
(cd "$work/fs" && find . | cpio -o -H newc --quiet) | gzip -1 >"$work/initrd"

timeout "$seconds" qemu-system-x86_64 -accel tcg,thread=multi -cpu max,la57=off -smp 2 -m "$memory" -nographic \
	-no-reboot -nodefaults -serial stdio \
	-kernel "$root/boot/vmlinuz-$version" -initrd "$work/initrd" \
	-append "console=ttyS0 quiet loglevel=3 panic=-1 mitigations=off" \
	-virtfs local,path=/,mount_tag=root,security_model=none,readonly=on,multidevs=remap </dev/null 2>"$work/qemu" |
	tr -d '\r' | tee "$work/out" | grep -v '^vm.sh-exit: '
status=$(sed -n 's/^vm.sh-exit: //p' "$work/out" | tail -1)
[ -n "$status" ] || die "the guest ended without the command's exit status"
exit "$status"
