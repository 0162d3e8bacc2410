# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""Container runtimes of the machine, run in a node: nothing of the machine's own is changed.

A host is a mount namespace: /etc, /opt and /var/lib are copies on write, /run is empty, cgroups
are of version 2. Network namespaces of containers are mounts in it, so all calls of all runtimes
of one node go into the same one. Towpath is installed into it by `towpath cni install`.
"""

import os
import pathlib
import shutil
import subprocess

import pytest

from netns import cleanup_pop, cleanup_push
from node import binary
from traffic import wait_for

BUSYBOX = shutil.which("busybox")
TOOLS = ("sh", "sleep", "ping", "nc", "httpd", "cat", "ip", "nslookup")
FOLDERS = ("bin", "proc", "sys", "dev", "etc", "tmp", "run", "var")

MOUNTS = """
set -e
mount -t tmpfs none "$1"
for dir in etc opt var/lib; do
	up="$1/$(echo $dir | tr / _)"
	mkdir -p "$up/up" "$up/work"
	mount -t overlay overlay -o "lowerdir=/$dir,upperdir=$up/up,workdir=$up/work" "/$dir"
done
mount -t tmpfs none /run
mkdir -p /run/netns
rm -rf /etc/cni/net.d
! mountpoint -q /sys/fs/cgroup || umount -R /sys/fs/cgroup
mount -t cgroup2 none /sys/fs/cgroup
echo ready
exec sleep 900
"""

CONTAINERS_CONF = """
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
cgroups = "disabled"
[network]
network_backend = "cni"
cni_plugin_dirs = ["/opt/cni/bin"]
network_config_dir = "/etc/cni/net.d"
[engine]
cgroup_manager = "cgroupfs"
runtime = "crun"
events_logger = "file"
"""


def needs(*programs):
    """The mark of a test file that runs these."""
    missing = [name for name in ("busybox", *programs) if not shutil.which(name)]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {' '.join(missing)}")


def root_folder(path):
    """A container's files: busybox, and a page that httpd serves."""
    for name in FOLDERS:
        (path / name).mkdir(parents=True)
    shutil.copy(BUSYBOX, path / "bin/busybox")
    for name in TOOLS:
        os.symlink("busybox", path / "bin" / name)
    (path / "index.html").write_text("served\n")
    return path


class Host:
    """The node as a runtime sees it. Commands run in the node's network and in its mounts."""

    def __init__(self, node):
        self.node, self.dir = node, node.dir / "host"
        (self.dir / "mounts").mkdir(parents=True)
        self.rootfs = root_folder(self.dir / "rootfs")
        self.mounts = node.netns.popen(
            "unshare", "-m", "--propagation", "private", "sh", "-c", MOUNTS, "sh",
            self.dir / "mounts", stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        cleanup_push(self.close)
        if self.mounts.stdout.readline() != "ready\n":
            why = self.mounts.stderr.read().strip()
            self.close()
            pytest.skip(f"a mount that is needed is not possible here: {why}")

    def argv(self, *argv):
        return ["nsenter", f"--net={self.node.netns.path}",
                f"--mount=/proc/{self.mounts.pid}/ns/mnt", *map(str, argv)]  # fmt: skip

    def __call__(self, *argv, check=True, stdin=None, env=None):
        done = subprocess.run(
            self.argv(*argv), env={**self.node.env(), **(env or {})}, input=stdin,
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        if check and done.returncode != 0:
            raise RuntimeError(f"{' '.join(map(str, argv))}: {(done.stderr or done.stdout).strip()}")
        return done

    def popen(self, *argv, **kw):
        return subprocess.Popen(self.argv(*argv), **kw)

    def install(self, *options, check=True):
        """`towpath cni install`, as on a machine."""
        return self(binary("towpath"), "cni", "install", "--state-dir", self.node.state_dir,
                    *options, check=check)  # fmt: skip

    def path(self, name):
        """A file of the host's, as this process can open it."""
        return pathlib.Path(f"/proc/{self.mounts.pid}/root{name}")

    def close(self):
        cleanup_pop(self.close)
        self.mounts.kill()
        self.mounts.wait()
        self.mounts.stdout.close()
        self.mounts.stderr.close()


class Podman:
    """podman with storage and configuration of its own."""

    def __init__(self, host):
        self.host, self.node, self.dir = host, host.node, host.dir / "podman"
        self.dir.mkdir()
        (self.dir / "containers.conf").write_text(CONTAINERS_CONF)
        (self.dir / "storage.conf").write_text(
            f'[storage]\ndriver = "vfs"\nrunroot = "{self.dir}/run"\ngraphroot = "{self.dir}/graph"\n'
        )

    def __call__(self, *argv, check=True):
        env = {
            "CONTAINERS_CONF": str(self.dir / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(self.dir / "storage.conf"),
        }
        return self.host("podman", *argv, check=check, env=env)

    def start(self, name, *argv, options=(), network="towpath"):
        return self(
            "run", "-d", "--name", name, "--network", network, *options,
            "--rootfs", str(self.host.rootfs), *argv,
        ).stdout.strip()  # fmt: skip

    def sh(self, name, script):
        return self("exec", name, "sh", "-c", script, check=False)

    def close(self):
        self("rm", "-fa", "-t", "0", check=False)


# What of containerd needs more than a test has: settings of devices, of the machine's cgroups.
CONTAINERD_CONF = """
version = 2
root = "{dir}/root"
state = "/run/containerd/state"
oom_score = 0
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.tracing.processor.v1.otlp"]
[grpc]
address = "/run/containerd/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
disable_cgroup = true
restrict_oom_score_adj = true
sandbox_image = "localhost/pause:1"
{cni}
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "native"
"""


class Containerd:
    """containerd and `ctr`. `cni`: the section of its configuration about CNI, for the CRI."""

    def __init__(self, host, cni=""):
        self.host, self.node, self.dir = host, host.node, host.dir / "containerd"
        self.dir.mkdir()
        (self.dir / "config.toml").write_text(CONTAINERD_CONF.format(dir=self.dir, cni=cni))
        self.started = []
        self.daemon = None
        cleanup_push(self.close)
        self.start_daemon()

    def start_daemon(self):
        with open(self.dir / "log", "ab") as log:
            self.daemon = self.host.popen(
                "containerd", "-c", self.dir / "config.toml", stdout=log, stderr=log
            )
        assert wait_for(lambda: self.ctr("version", check=False).returncode == 0, 20)

    def stop_daemon(self):
        self.daemon.terminate()
        self.daemon.wait(20)

    def ctr(self, *argv, namespace="default", check=True):
        return self.host("ctr", "-n", namespace, *argv, check=check)

    def start(self, name, *argv, namespace="default", options=()):
        """`ctr run --cni`; no shares of the CPU, because cgroups of version 2 may have none."""
        self.started.append((namespace, name))
        self.ctr(
            "run", "-d", "--cni", "--cgroup", "", "--cpu-shares", "0", "--env", "PATH=/bin",
            *options, "--rootfs", str(self.host.rootfs), name, *argv, namespace=namespace,
        )  # fmt: skip

    def sh(self, name, script, namespace="default"):
        return self.ctr("task", "exec", "--exec-id", f"x{os.urandom(4).hex()}", name, "sh", "-c",
                        script, namespace=namespace, check=False)  # fmt: skip

    def remove(self, name, namespace="default"):
        """As ctr's users do: the signal takes the network away, then task and container go."""
        self.started.remove((namespace, name))
        self.ctr("task", "kill", "-s", "KILL", name, namespace=namespace, check=False)
        self.ctr("task", "rm", "-f", name, namespace=namespace, check=False)
        self.ctr("container", "rm", name, namespace=namespace, check=False)

    def close(self):
        cleanup_pop(self.close)
        for namespace, name in list(self.started):
            self.remove(name, namespace)
        self.stop_daemon()
