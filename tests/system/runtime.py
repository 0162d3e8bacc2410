# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""Container runtimes of the machine, run in a node: nothing of the machine's own is changed.

A host is a mount namespace: /etc, /opt, /var/lib and /usr/lib/cni are copies on write, /run is empty, cgroups
are of version 2. Network namespaces of containers are mounts in it, so all calls of all runtimes
of one node go into the same one. The node's agent is at /run/towpath and /var/lib/towpath there,
and `towpath cni install` installs as on a machine.
"""

import hashlib
import io
import json
import os
import pathlib
import shutil
import subprocess
import tarfile

import pytest

from node import binary
from traffic import wait_for

BUSYBOX = shutil.which("busybox")
TOOLS = ("sh", "sleep", "ping", "nc", "httpd", "cat", "ip", "true")
BUILT = ("towpath", "towpathd", "towpath-cni")
FOLDERS = ("bin", "proc", "sys", "dev", "etc", "tmp", "run", "var")

MOUNTS = """
set -e
mount -t tmpfs none "$1"
for dir in etc opt var/lib usr/lib/cni; do
	[ -d "/$dir" ] || continue
	up="$1/$(echo $dir | tr / _)"
	mkdir -p "$up/up" "$up/work"
	mount -t overlay overlay -o "lowerdir=/$dir,upperdir=$up/up,workdir=$up/work" "/$dir"
done
mount -t tmpfs none /run
mkdir -p /run/netns /run/towpath /var/lib/towpath
mount --rbind "$2" /run/towpath
mount --bind "$3" /var/lib/towpath
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


# Containers without cgroups: those of the machine are not ours, and may have no controllers.
CRUN = 'exec {crun} --cgroup-manager=disabled "$@"\n'
CTR = """
[ "$1" = run ] || exec {ctr} "$@"
shift
exec {ctr} run --runc-binary {dir}/crun "$@"
"""


def script(path, text):
    path.parent.mkdir(exist_ok=True)
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(0o755)


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


def guest_add(guest):
    """The node closes what runs on it, the newest first, however a test ends."""
    guest.node.guests.append(guest)


def guest_remove(guest):
    """False: it is closed already."""
    known = guest in guest.node.guests
    if known:
        guest.node.guests.remove(guest)
    return known


class Host:
    """The node as a runtime sees it. Commands run in the node's network and in its mounts."""

    def __init__(self, node):
        self.node, self.dir = node, node.dir / "host"
        (self.dir / "mounts").mkdir(parents=True)
        self.rootfs = root_folder(self.dir / "rootfs")
        programs = {name: shutil.which(name) for name in ("ctr", "crun")}
        script(self.dir / "bin/crun", CRUN.format(**programs))
        script(self.dir / "bin/ctr", CTR.format(dir=self.dir / "bin", **programs))
        script(self.dir / "bin/sudo", 'exec "$@"\n')
        self.mounts = node.netns.popen(
            "unshare", "-m", "--propagation", "private", "sh", "-c", *self.mounts_argv(),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        guest_add(self)
        if self.mounts.stdout.readline() != "ready\n":
            why = self.mounts.stderr.read().strip()
            self.close()
            pytest.skip(f"a mount that is needed is not possible here: {why}")

    def mounts_argv(self):
        """A script that says `ready` when all is mounted and then stays, and its words."""
        return MOUNTS, "sh", self.dir / "mounts", self.node.run_dir, self.node.state_dir

    def argv(self, *argv):
        return ["nsenter", f"--net={self.node.netns.path}",
                f"--mount=/proc/{self.mounts.pid}/ns/mnt", *map(str, argv)]  # fmt: skip

    def env(self):
        """Programs that were built come first; `ctr` is one of ours."""
        folders = (self.dir / "bin", *(pathlib.Path(binary(name)).parent for name in BUILT))
        path = ":".join([*map(str, folders), os.environ["PATH"], "/bin"])  # of root_folder(), too
        return {**os.environ, "PATH": path, "CONTAINERD_SNAPSHOTTER": "native"}

    def __call__(self, *argv, check=True, stdin=None, env=None, cwd=None):
        done = subprocess.run(
            self.argv(*argv), env={**self.env(), **(env or {})}, input=stdin, cwd=cwd,
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        if check and done.returncode != 0:
            raise RuntimeError(f"{' '.join(map(str, argv))}: {(done.stderr or done.stdout).strip()}")
        return done

    def popen(self, *argv, **kw):
        return subprocess.Popen(self.argv(*argv), **kw)

    def install(self, *options, check=True):
        return self("towpath", "cni", "install", *options, check=check)

    def path(self, name):
        """A file of the host's, as this process can open it."""
        return pathlib.Path(f"/proc/{self.mounts.pid}/root{name}")

    def close(self):
        if not guest_remove(self):
            return
        self.mounts.kill()
        self.mounts.wait()
        self.mounts.stdout.close()
        self.mounts.stderr.close()


class Podman:
    """podman with storage and configuration of its own."""

    conf = CONTAINERS_CONF

    def __init__(self, host):
        self.host, self.node, self.dir = host, host.node, host.dir / "podman"
        self.dir.mkdir()
        guest_add(self)
        (self.dir / "containers.conf").write_text(self.conf)
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
        if guest_remove(self):
            self("rm", "-fa", "-t", "0", check=False)


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
sandbox_image = "{image}"
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "native"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
BinaryName = "{crun}"
{cni}
"""

IMAGE = "docker.io/library/busybox:latest"


def image_archive(root, path):
    """An image of the folder in the OCI layout: what `ctr image pull` would fetch."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        tar.add(root, arcname=".")
    blobs = {}

    def blob(data, kind, **more):
        data = data if isinstance(data, bytes) else json.dumps(data).encode()
        digest = hashlib.sha256(data).hexdigest()
        blobs[f"blobs/sha256/{digest}"] = data
        media = f"application/vnd.oci.image.{kind}"
        return {"mediaType": media, "digest": f"sha256:{digest}", "size": len(data), **more}

    files = blob(layer.getvalue(), "layer.v1.tar")
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)
    config = {
        "architecture": machine, "os": "linux", "rootfs": {"type": "layers", "diff_ids": [files["digest"]]},
        "config": {"Env": ["PATH=/bin"], "Cmd": ["sleep", "3600"]},
    }  # fmt: skip
    manifest = {"schemaVersion": 2, "config": blob(config, "config.v1+json"), "layers": [files]}
    entry = blob(manifest, "manifest.v1+json", annotations={"io.containerd.image.name": IMAGE})
    blobs["index.json"] = json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode()
    blobs["oci-layout"] = b'{"imageLayoutVersion": "1.0.0"}'
    with tarfile.open(path, "w") as tar:
        for name, data in blobs.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


class Containerd:
    """containerd and `ctr`, with one image. `cni`: the section of its configuration on CNI."""

    def __init__(self, host, cni=""):
        self.host, self.node, self.dir = host, host.node, host.dir / "containerd"
        self.dir.mkdir()
        self.config = self.dir / "config.toml"
        crun = host.dir / "bin/crun"
        self.config.write_text(
            CONTAINERD_CONF.format(dir=self.dir, image=IMAGE, cni=cni, crun=crun)
        )
        self.namespaces = set()
        self.daemon = None
        guest_add(self)
        self.start_daemon()
        image_archive(host.rootfs, self.dir / "image.tar")

    def start_daemon(self):
        with open(self.dir / "log", "ab") as log:
            self.daemon = self.host.popen("containerd", "-c", self.config, stdout=log, stderr=log)
        assert wait_for(lambda: self.ctr("version", check=False).returncode == 0, 20)

    def stop_daemon(self):
        self.daemon.terminate()
        self.daemon.wait(20)

    def log(self):
        return (self.dir / "log").read_text(errors="replace")

    def ctr(self, *argv, namespace="default", check=True):
        return self.host("ctr", *argv, check=check, env={"CONTAINERD_NAMESPACE": namespace})

    def load_image(self, namespace="default"):
        if namespace not in self.namespaces:
            self.ctr("image", "import", self.dir / "image.tar", namespace=namespace)
        self.namespaces.add(namespace)

    def start(self, name, *argv, namespace="default", options=()):
        self.load_image(namespace)
        self.ctr("run", "-d", "--cni", *options, IMAGE, name, *argv, namespace=namespace)

    def sh(self, name, text, namespace="default"):
        number = f"x{os.urandom(4).hex()}"
        return self.ctr("task", "exec", "--exec-id", number, name, "sh", "-c", text,
                        namespace=namespace, check=False)  # fmt: skip

    def remove(self, name, namespace="default"):
        """As ctr's users do: the signal takes the network away, then task and container go."""
        self.ctr("task", "kill", "-s", "KILL", name, namespace=namespace, check=False)
        self.ctr("task", "rm", "-f", name, namespace=namespace, check=False)
        self.ctr("container", "rm", name, namespace=namespace, check=False)

    def close(self):
        if not guest_remove(self):
            return
        for namespace in self.ctr("namespace", "ls", "-q", check=False).stdout.split():
            names = self.ctr("container", "ls", "-q", namespace=namespace, check=False)
            for name in names.stdout.split():
                self.remove(name, namespace)
        self.stop_daemon()
