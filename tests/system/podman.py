# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""podman as docs/guide/podman.md configures it: of Debian 12 (CNI), of Debian 13 (netavark).

The commands that make the guide's two networks are taken from the guide and run.
"""

import json
import os
import pathlib
import shlex
import socket
import subprocess

import pytest

import runtime
from node import AF, BUILD, REPO
from page import Page, matches
from traffic import wait_for

PAGE = Page("docs/guide/podman.md")
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

# A root of its own, so that podman finds everything where Debian 13 has it.
MOUNTS = """
set -e
root=$1 busybox=$2 driver=$3 dir=$4 run=$5 state=$6
mount --bind $root $root
cd $root
for folder in run tmp usr/local var/lib etc/containers/networks; do
    mkdir -p $folder
    mount -t tmpfs none $folder
done
mount -t proc proc proc
mount --rbind /dev dev
mount --rbind /sys sys
! mountpoint -q sys/fs/cgroup || umount -R sys/fs/cgroup
mount -t cgroup2 none sys/fs/cgroup
mkdir -p usr/local/libexec/netavark usr/local/bin run/old .$dir run/towpath var/lib/towpath
cp $driver usr/local/libexec/netavark/towpath
cp $busybox usr/local/bin/busybox
mount --bind $dir .$dir
mount --rbind $run run/towpath
mount --bind $state var/lib/towpath
pivot_root . run/old
exec /usr/local/bin/busybox sh -c '
    busybox umount -l /run/old && echo ready && exec busybox sleep 900'
"""


def guide_commands(start):
    """The guide's commands that begin like this, each a list of words; and what they print."""
    steps = [step for block in PAGE.run_by("podman.py") for step in block.steps]
    found = [(shlex.split(step.command.replace("\\\n", " "))[1:], step.shown) for step in steps]
    return [(words, shown) for words, shown in found if words[: len(start.split())] == start.split()]


class Debian13(runtime.Host):
    def mounts_argv(self):
        driver = BUILD / "netavark/towpath"
        node = (self.node.dir, self.node.run_dir, self.node.state_dir)
        return MOUNTS, "sh", DEBIAN13.resolve(), runtime.BUSYBOX, driver, *node


class Podman(runtime.Podman):
    """What tests of both ask. Call it with podman's arguments."""

    def __init__(self, host):
        super().__init__(host)
        self.ids = {}  # of containers, by name

    def run(self, name, *argv, network="towpath", options=()):
        """A container in the background; `network` may be several."""
        first, *more = [network] if isinstance(network, str) else network
        words = [word for one in more for word in ("--network", one)]
        self.ids[name] = self.start(
            name, *(argv or ("sleep", "900")), network=first,
            options=("--cap-add", "NET_RAW", *words, *options),
        )  # fmt: skip

    def serve(self, name, port=8080, **kw):
        """A container with a web server that says its page, once it listens."""
        self.run(name, "httpd", "-f", "-p", str(port), "-h", "/", **kw)
        assert wait_for(lambda: self.listens(name, port), 20)

    def listens(self, name, port):
        """Asked by the node, which every policy lets through."""
        family, address = next(iter(self.address(name).items()))
        with self.node.netns.socket(AF[family], socket.SOCK_STREAM) as sock:
            return sock.connect_ex((address, port)) == 0

    def rm(self, *names):
        return self("rm", "-f", "-t", "0", *names)

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

    def network(self, name, subnets=()):
        """One more network: the guide's first, with another name and subnets."""
        words = [word for subnet in subnets for word in ("--subnet", subnet)]
        self.create([*self.simple, *words], name)

    def network_of_guide(self):
        """The guide's second, with everything."""
        assert matches(self.shown, self.create(self.full, "shop").stdout)

    def close(self):
        super().close()
        self.host.close()


class CniPodman(Podman):
    """podman 4: a network is a file, which `towpath cni install` writes."""

    conf = CONTAINERS_CONF + '\n[network]\nnetwork_backend = "cni"\n'

    def __init__(self, host):
        super().__init__(host)
        assert 'network_backend = "cni"' in PAGE.text
        (self.simple, shown), (self.full, self.shown) = guide_commands("towpath cni install")
        assert matches(shown, self.create(self.simple, "towpath").stdout)

    def create(self, command, name):
        return self.host(*command, "--name", name)

    def network_rm(self, name):
        self.host("sh", "-c", f"rm /etc/cni/net.d/*-{name}.conflist")


class NetavarkPodman(Podman):
    """podman 5: networks are made by podman."""

    conf = CONTAINERS_CONF

    def __init__(self, host):
        super().__init__(host)
        commands = guide_commands("podman network create")
        assert [words[-1] for words, _ in commands] == ["towpath", "shop"]
        self.simple, self.full = [words[:-1] for words, _ in commands]
        shown, self.shown = [shown for _, shown in commands]
        assert matches(shown, self.create(self.simple, "towpath").stdout)

    def create(self, command, name):
        return self(*command[1:], name)

    def network_rm(self, name):
        self("network", "rm", name)


def podman_make(flavour, node):
    """Skips the test where that podman cannot be had."""
    if not runtime.BUSYBOX:
        pytest.skip("not installed: busybox-static")
    if flavour == "debian12-cni":
        done = subprocess.run(["podman", "--version"], capture_output=True, text=True, check=False)
        if " 4." not in done.stdout:
            pytest.skip("podman 4 is not installed: podman 5 has no CNI")
        return CniPodman(runtime.Host(node))
    made = subprocess.run(
        [REPO / "scripts/debian13.sh", DEBIAN13], capture_output=True, text=True, check=False
    )
    if made.returncode != 0:
        pytest.skip(f"no folder with Debian 13: {made.stderr.strip()}")
    return NetavarkPodman(Debian13(node))
