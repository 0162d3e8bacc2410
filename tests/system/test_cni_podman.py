# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""Real containers: podman calls the plugin, and policies hold between what it runs."""

import json
import os
import pathlib
import shutil
import subprocess
import time

import pytest

from cni import endpoints, ports
from node import FAMILIES, Node, binary, pod_object, policy_object

BUSYBOX = shutil.which("busybox")
TOOLS = ("sh", "sleep", "ping", "nc", "httpd", "cat")

pytestmark = pytest.mark.skipif(
    not (BUSYBOX and shutil.which("podman") and shutil.which("crun")),
    reason="packages podman, crun and busybox-static",
)

CONTAINERS_CONF = """
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
cgroups = "disabled"
[network]
network_backend = "cni"
cni_plugin_dirs = ["{plugins}"]
network_config_dir = "{dir}/cni"
[engine]
cgroup_manager = "cgroupfs"
runtime = "crun"
events_logger = "file"
"""


class Podman:
    """podman with storage, configuration and mounts of its own, in the node's namespace."""

    def __init__(self, node):
        self.node, self.dir = node, node.dir / "podman"
        self.rootfs = self.dir / "rootfs"
        (self.dir / "cni").mkdir(parents=True)
        for name in ("bin", "proc", "sys", "dev", "etc", "tmp", "run", "var"):
            (self.rootfs / name).mkdir(parents=True)
        shutil.copy(BUSYBOX, self.rootfs / "bin/busybox")
        for name in TOOLS:
            os.symlink("busybox", self.rootfs / "bin" / name)
        (self.rootfs / "index.html").write_text("served\n")
        plugin = node.cni_config(capabilities={"ips": True, "mac": True})
        names = {key: plugin.pop(key) for key in ("cniVersion", "name")} | {"cniVersion": "1.0.0"}
        (self.dir / "cni/10-towpath.conflist").write_text(json.dumps({**names, "plugins": [plugin]}))
        plugins = pathlib.Path(binary("towpath-cni")).parent
        (self.dir / "containers.conf").write_text(
            CONTAINERS_CONF.format(dir=self.dir, plugins=plugins)
        )
        (self.dir / "storage.conf").write_text(
            f'[storage]\ndriver = "vfs"\nrunroot = "{self.dir}/run"\ngraphroot = "{self.dir}/graph"\n'
        )
        # One mount namespace for all calls: the containers' namespaces are mounts in it.
        self.mounts = node.netns.popen(
            "unshare", "-m", "--propagation", "private", "sh", "-c",
            "mount -t tmpfs none /run/netns && { umount -R /sys/fs/cgroup || true; } &&"
            " mount -t cgroup2 none /sys/fs/cgroup && echo ready && exec sleep 600",
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        if self.mounts.stdout.readline() != "ready\n":
            self.close()
            pytest.skip("no cgroup2 mount is possible here")

    def __call__(self, *argv, check=True):
        env = {
            **os.environ,
            "CONTAINERS_CONF": str(self.dir / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(self.dir / "storage.conf"),
        }
        done = subprocess.run(
            ["nsenter", f"--net={self.node.netns.path}", f"--mount=/proc/{self.mounts.pid}/ns/mnt",
             "podman", *argv],
            env=env, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        if check and done.returncode != 0:
            raise RuntimeError(f"podman {' '.join(argv)}: {done.stderr.strip()}")
        return done

    def start(self, name, *argv, options=()):
        return self(
            "run", "-d", "--name", name, "--network", "towpath", *options,
            "--rootfs", str(self.rootfs), *argv,
        ).stdout.strip()  # fmt: skip

    def sh(self, name, script):
        return self("exec", name, "sh", "-c", script, check=False)

    def close(self):
        self.mounts.kill()
        self.mounts.wait()
        self.mounts.stdout.close()


@pytest.fixture(scope="module")
def podman():
    with Node() as node:
        made = Podman(node)
        yield made
        made("rm", "-fa", "-t", "0", check=False)
        made.close()


@pytest.fixture(scope="module")
def pair(podman):
    """A web server and a client, known by their names as pods of the namespace default."""
    web = podman.start("web", "httpd", "-f", "-p", "8080", "-h", "/")
    client = podman.start("client", "sleep", "600")
    address = {}
    for item in podman.node.api("GET", "/v1/endpoints")["items"]:
        plain = [ip.split("/")[0] for ip in item["ips"]]
        address[item["container_id"]] = dict(zip(FAMILIES, plain))
        assert item["pod"] in ("web", "client")
    return address[web], address[client]


def get(podman, address):
    script = f"printf 'GET /index.html HTTP/1.0\\r\\n\\r\\n' | nc -w 1 {address} 8080"
    return "served" in podman.sh("client", script).stdout


def test_containers_reach_each_other(podman, pair, family):
    web, _ = pair
    assert podman.sh("client", f"ping -c 1 -W 1 {web[family]}").returncode == 0
    assert get(podman, web[family])


def test_containers_reach_the_outside(podman, pair, family):
    address = podman.node.outside.ip(family)
    assert podman.sh("client", f"ping -c 1 -W 1 {address}").returncode == 0


def test_policy_between_containers(podman, pair, family):
    web, _ = pair
    node = podman.node
    node.apply(pod_object("default", "web", {"app": "web"}, ()))
    deny = policy_object("default", "deny", {"matchLabels": {"app": "web"}}, ingress=[])
    node.apply(deny)
    try:
        assert not get(podman, web[family])
        dropped = [f for f in node.flows() if f["verdict"] == "deny" and f["proto"] == "tcp"]
        assert dropped and dropped[-1]["to"]["pod"] == "web"
    finally:
        node.delete(deny)
    end = time.monotonic() + 2
    while not get(podman, web[family]):
        assert time.monotonic() < end


def test_hosts_file_has_the_address(podman, pair):
    """podman writes what it found in the plugin's result."""
    _, client = pair
    text = podman.sh("client", "cat /etc/hosts").stdout
    assert client[4] in text


def test_address_and_mac_asked_for(podman):
    podman.start("fixed", "sleep", "60",
                 options=("--ip", "10.88.9.9", "--mac-address", "02:00:00:00:00:99"))  # fmt: skip
    shown = json.loads(podman("inspect", "fixed").stdout)[0]["NetworkSettings"]["Networks"]
    assert shown["towpath"]["IPAddress"] == "10.88.9.9"
    assert shown["towpath"]["MacAddress"] == "02:00:00:00:00:99"
    podman("rm", "-f", "-t", "0", "fixed")


def test_rm_leaves_nothing(podman, pair):
    before = (endpoints(podman.node), ports(podman.node))
    for name in ("one", "two"):
        podman.start(name, "sleep", "60")
    assert len(endpoints(podman.node)) == len(before[0]) + 2
    podman("rm", "-f", "-t", "0", "one", "two")
    assert (endpoints(podman.node), ports(podman.node)) == before
