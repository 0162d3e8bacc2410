# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""podman on a node of the tests: as Debian 12 has it (CNI) and as Debian 13 has it (netavark).

Storage, configuration and mounts are its own; the networks' configuration is that of
docs/guide/podman.md. One shell in a mount namespace of its own outlives the single calls,
because the containers' network namespaces are mounts in it.
"""

import json
import os
import pathlib
import re
import shutil
import subprocess
import time

import pytest

from node import BUILD, FAMILIES, REPO, binary

GUIDE = REPO / "docs/guide/podman.md"
BUSYBOX = shutil.which("busybox")
TOOLS = ("sh", "sleep", "ping", "nc", "httpd", "cat", "ip", "grep")
DEBIAN13 = pathlib.Path(os.environ.get("TOWPATH_DEBIAN13", BUILD / "debian13"))
FLAVOURS = ("debian12-cni", "debian13-netavark")

# What the machines of the tests need and users do not.
CONTAINERS_CONF = """
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
cgroups = "disabled"
[engine]
cgroup_manager = "cgroupfs"
runtime = "crun"
events_logger = "file"
"""

ENTER_CNI = """
mount -t tmpfs none /run/netns
umount -R /sys/fs/cgroup || true
mount -t cgroup2 none /sys/fs/cgroup
exec "$2" sh -c 'echo ready; exec "$0" sleep 900' "$2"
"""

# A root of its own, so that podman finds everything where Debian 13 has it.
ENTER_NETAVARK = """
root=$1 busybox=$2 dir=$3 driver=$4
mount --bind $root $root
cd $root
for folder in run tmp usr/local var/lib etc/containers/networks; do
    mkdir -p $folder
    mount -t tmpfs none $folder
done
mount -t proc proc proc
mount --rbind /dev dev
mount --rbind /sys sys
umount -R sys/fs/cgroup || true
mount -t cgroup2 none sys/fs/cgroup
mkdir -p usr/local/libexec/netavark usr/local/bin usr/bin run/old .$dir
cp $driver usr/local/libexec/netavark/towpath
cp $busybox usr/local/bin/busybox
mount --bind $dir .$dir
pivot_root . run/old
exec /usr/local/bin/busybox sh -c '
    busybox umount -l /run/old && echo ready && exec busybox sleep 900'
"""


def guide_blocks(language):
    """The fenced blocks of that language in the guide, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```", GUIDE.read_text(), re.M | re.S)


def rootfs_make(path):
    for name in ("bin", "proc", "sys", "dev", "etc", "tmp", "run", "var"):
        (path / name).mkdir(parents=True)
    shutil.copy(BUSYBOX, path / "bin/busybox")
    for name in TOOLS:
        os.symlink("busybox", path / "bin" / name)
    (path / "index.html").write_text("served\n")


class Podman:
    """Common to both. Call it with podman's arguments."""

    def __init__(self, node):
        self.node, self.dir = node, node.dir / "podman"
        self.ids = {}  # of containers, by name
        self.rootfs = self.dir / "rootfs"
        rootfs_make(self.rootfs)
        (self.dir / "containers.conf").write_text(self.containers_conf())
        (self.dir / "storage.conf").write_text(
            f'[storage]\ndriver = "vfs"\nrunroot = "{self.dir}/run"\ngraphroot = "{self.dir}/graph"\n'
        )
        self.mounts = node.netns.popen(
            "unshare", "-m", "--propagation", "private", "sh", "-ec", *self.mount_script(),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        if self.mounts.stdout.readline() != "ready\n":
            why = self.mounts.stderr.read()
            self.close()
            pytest.skip(f"no mounts for containers are possible here: {why}")

    def containers_conf(self):
        return CONTAINERS_CONF

    def __call__(self, *argv, check=True, timeout=120):
        env = {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(self.dir),
            "CONTAINERS_CONF": str(self.dir / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(self.dir / "storage.conf"),
        }
        done = subprocess.run(
            ["nsenter", f"--net={self.node.netns.path}", f"--mount=/proc/{self.mounts.pid}/ns/mnt",
             "podman", *map(str, argv)],
            env=env, capture_output=True, text=True, timeout=timeout, check=False,
        )  # fmt: skip
        if check and done.returncode != 0:
            raise RuntimeError(f"podman {' '.join(map(str, argv))}: {done.stderr.strip()}")
        return done

    def run(self, name, *argv, network="towpath", options=()):
        """A container in the background; its id."""
        networks = [network] if isinstance(network, str) else network
        words = [word for one in networks for word in ("--network", one)]
        self.ids[name] = self(
            "run", "-d", "--name", name, "--cap-add", "NET_RAW", *words, *options,
            "--rootfs", str(self.rootfs), *(argv or ("sleep", "900")),
        ).stdout.strip()  # fmt: skip
        return self.ids[name]

    def serve(self, name, port=8080, **kw):
        """A container with a web server that says its page."""
        return self.run(name, "httpd", "-f", "-p", str(port), "-h", "/", **kw)

    def rm(self, *names):
        return self("rm", "-f", "-t", "0", *names)

    def sh(self, name, script):
        return self("exec", name, "sh", "-c", script, check=False)

    def inspect(self, name):
        return json.loads(self("inspect", name).stdout)[0]

    def get(self, name, address, port=8080):
        """Whether the container gets the page that serve() has."""
        script = f"printf 'GET /index.html HTTP/1.0\\r\\n\\r\\n' | nc -w 1 {address} {port}"
        return "served" in self.sh(name, script).stdout

    def endpoint(self, name, ifname="eth0"):
        """The agent's record of a container's interface, or None."""
        for item in self.node.api("GET", "/v1/endpoints")["items"]:
            if (item["container_id"], item["ifname"]) == (self.ids[name], ifname):
                return item
        return None

    def address(self, name, ifname="eth0"):
        """{4: ..., 6: ...}"""
        plain = [ip.split("/")[0] for ip in self.endpoint(name, ifname)["ips"]]
        return {6 if ":" in ip else 4: ip for ip in plain}

    def __enter__(self):
        return self

    def __exit__(self, *_exc):
        self("rm", "-fa", "-t", "0", check=False)
        self.close()

    def close(self):
        self.mounts.kill()
        self.mounts.wait()
        self.mounts.stdout.close()
        self.mounts.stderr.close()


class CniPodman(Podman):
    """podman 4: a network is a file."""

    def __init__(self, node):
        (node.dir / "podman/cni").mkdir(parents=True)
        super().__init__(node)
        self.simple, self.full = map(json.loads, guide_blocks("json"))
        self.write(self.simple)

    def containers_conf(self):
        (network,) = guide_blocks("toml")
        plugins = pathlib.Path(binary("towpath-cni")).parent
        network = network.replace("/opt/cni/bin", str(plugins))
        return CONTAINERS_CONF + network + f'network_config_dir = "{self.dir}/cni"\n'

    def mount_script(self):
        return ENTER_CNI, "sh", BUSYBOX, BUSYBOX

    def write(self, conflist):
        for plugin in conflist["plugins"]:
            if plugin["type"] == "towpath-cni":
                plugin |= {"socket": self.node.socket, "stateDir": str(self.node.state_dir)}
        name = conflist["name"]
        (self.dir / f"cni/{name}.conflist").write_text(json.dumps(conflist))

    def network(self, name, **keys):
        """One more network: the guide's, with these keys of the plugin."""
        first, *rest = self.simple["plugins"]
        self.write({**self.simple, "name": name, "plugins": [{**first, **keys}, *rest]})

    def network_of_guide(self):
        """The one with every key, called shop."""
        first, *rest = self.simple["plugins"]
        self.write({**self.simple, "name": "shop", "plugins": [self.full, *rest]})

    def network_rm(self, name):
        (self.dir / f"cni/{name}.conflist").unlink()


class NetavarkPodman(Podman):
    """podman 5: networks are made by podman."""

    def __init__(self, node):
        super().__init__(node)
        commands = [line.split() for block in guide_blocks("sh") for line in block.splitlines()]
        self.simple, self.full = [c for c in commands if c[:3] == ["podman", "network", "create"]]
        self.create(self.simple)

    def mount_script(self):
        driver = BUILD / "netavark/towpath"
        return ENTER_NETAVARK, "sh", DEBIAN13.resolve(), BUSYBOX, self.node.dir, driver

    def create(self, command):
        where = ("-o", f"socket={self.node.socket}", "-o", f"state_dir={self.node.state_dir}")
        return self(*command[1:-1], *where, command[-1])

    def network(self, name, subnets=(), mtu=None, namespace=None, labels=None):
        words = [word for subnet in subnets for word in ("--subnet", subnet)]
        options = {"mtu": mtu, "namespace": namespace}
        options |= {f"label.{key}": value for key, value in (labels or {}).items()}
        for key, value in options.items():
            words += ["-o", f"{key}={value}"] if value is not None else []
        self.create([*self.simple[:-1], *words, name])

    def network_of_guide(self):
        self.create(self.full)

    def network_rm(self, name):
        self("network", "rm", name)


def podman_make(flavour, node):
    """Skips the test where that podman cannot be had."""
    if not BUSYBOX:
        pytest.skip("package busybox-static")
    if flavour == "debian12-cni":
        done = subprocess.run(["podman", "--version"], capture_output=True, text=True, check=False)
        if " 4." not in done.stdout:
            pytest.skip("podman 4 is not installed: podman 5 has no CNI")
        return CniPodman(node)
    made = subprocess.run(
        [REPO / "scripts/debian13.sh", DEBIAN13], capture_output=True, text=True, check=False
    )
    if made.returncode != 0:
        pytest.skip(f"the Debian 13 folder could not be made: {made.stderr.strip()}")
    return NetavarkPodman(node)


def wait_for(condition, what, seconds=10):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.05)
