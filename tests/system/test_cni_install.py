# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""`towpath cni install` and uninstall, and what `meson install` puts on a host.

The names carry the numbers of the checklist in docs/design/cni.md.
"""

import json
import os
import pathlib
import shutil
import socket
import subprocess
import threading

import pytest

from node import BUILD, Node, binary
from traffic import wait_for

REFERENCE = pathlib.Path("/usr/lib/cni")


class Target:
    """The two folders of a runtime, below a test's own."""

    def __init__(self, node, path):
        self.node, self.bin, self.conf = node, path / "opt/bin", path / "net.d"
        self.plugin = self.bin / "towpath-cni"

    def argv(self, verb, *options):
        folders = ("--bin-dir", self.bin, "--conf-dir", self.conf)
        return ("cni", verb, *folders, "--state-dir", self.node.state_dir, *options)

    def __call__(self, verb, *options, check=True):
        return self.node.towpath(*self.argv(verb, *options), check=check)

    def files(self):
        return [sorted(p.name for p in d.iterdir()) if d.exists() else [] for d in (self.bin, self.conf)]

    def network(self, file="10-towpath.conflist"):
        return json.loads((self.conf / file).read_text())

    def wait(self, *options):
        return subprocess.Popen(
            [binary("towpath"), *map(str, self.argv("install", *options))],
            env=self.node.env(), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip


@pytest.fixture
def target(node, tmp_path):
    return Target(node, tmp_path)


def supported(plugin):
    done = subprocess.run([plugin], env={"CNI_COMMAND": "VERSION"}, input="{}", text=True,
                          capture_output=True, check=True)  # fmt: skip
    return json.loads(done.stdout)["supportedVersions"]


# ---- install -----------------------------------------------------------------------------------


def test_I1_the_file_is_a_conflist_with_an_adds_configuration(target, node):
    target("install", "--mtu", "1400", "--dns", "10.0.0.53", "-l", "tier=web")
    network = target.network()
    assert set(network) == {"cniVersion", "cniVersions", "name", "plugins"}
    assert network["name"] == "towpath" and network["cniVersion"] == "1.0.0"
    config = {"name": network["name"], "cniVersion": "1.0.0", **network["plugins"][0]}
    pod = node.add_pod("default", "installed", known=False, config=config)
    try:
        assert pod.endpoint()["labels"] == {"tier": "web"} and pod.endpoint()["mtu"] == 1400
        assert pod.result["dns"] == {"nameservers": ["10.0.0.53"]}
    finally:
        node.del_pod(pod, known=False)


def test_I1_written_aside_and_renamed(target):
    target("install")
    path, broken, seen, stop = target.conf / "10-towpath.conflist", [], set(), threading.Event()

    def read():
        while not stop.is_set():
            with open(path, encoding="utf-8") as file:
                seen.add(os.fstat(file.fileno()).st_ino)
                text = file.read()
            names = [name for name in os.listdir(target.conf) if not name.startswith(".")]
            if not text.endswith("}\n") or names != [path.name]:
                broken.append((text, names))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for mtu in range(1300, 1310):
            target("install", "--mtu", mtu)
            assert target.network()["plugins"][0]["mtu"] == mtu
    finally:
        stop.set()
        reader.join()
    assert not broken and len(seen) > 1
    assert target.files() == [["towpath-cni"], ["10-towpath.conflist"]]


def test_I2_type_is_the_file_name(target):
    target("install")
    (plugin,) = target.network()["plugins"]
    assert plugin["type"] == "towpath-cni"
    assert os.access(target.bin / plugin["type"], os.X_OK)
    assert "1.1.0" in supported(target.plugin)


def test_I3_cniVersions(target):
    target("install")
    assert target.network()["cniVersions"] == supported(target.plugin)


@pytest.mark.skipif(not (REFERENCE / "portmap").exists(), reason="containernetworking-plugins")
def test_I3_cniVersions_of_a_chain(target):
    """A runtime may choose any of them, so they are what all plugins of the chain know."""
    refused = target("install", "--chain", "portmap", check=False)
    assert refused.returncode == 1 and str(target.bin / "portmap") in refused.stderr
    assert target.files() == [[], []]
    target.bin.mkdir(parents=True)
    shutil.copy(REFERENCE / "portmap", target.bin)
    target("install", "--chain", "portmap")
    network = target.network()
    assert network["plugins"][1] == {"type": "portmap", "capabilities": {"portMappings": True}}
    common = set(supported(target.plugin)) & set(supported(target.bin / "portmap"))
    assert set(network["cniVersions"]) == common and network["cniVersion"] in common


def test_I5_nothing_is_installed_without_an_agent(tmp_path):
    with Node(start=False) as node:
        target = Target(node, tmp_path)
        done = target("install", "--wait", "0", check=False)
        assert done.returncode == 1 and "no agent answers" in done.stderr
        assert target.files() == [[], []]
        waiting = target.wait()
        assert wait_for(lambda: waiting.poll() is None)
        node.start()
        assert waiting.wait(30) == 0, waiting.stderr.read()
        assert target.files() == [["towpath-cni"], ["10-towpath.conflist"]]
        # What is there stays as it is when the agent is away; STATUS says so then (D9).
        before = (target.conf / "10-towpath.conflist").stat().st_ino
        node.kill()
        assert target("install", "--wait", "0", check=False).returncode == 1
        assert (target.conf / "10-towpath.conflist").stat().st_ino == before


def test_I5_nothing_is_installed_without_addresses(tmp_path):
    with Node(options=("--pod-cidr", "10.99.0.0/30")) as node:
        for name in ("one", "two"):
            node.add_pod("default", name, known=False)
        target = Target(node, tmp_path)
        done = target("install", "--wait", "0", check=False)
        assert done.returncode == 1 and target.files() == [[], []]


def test_I6_plugin_replaced_while_in_use(target):
    target("install")
    old = target.plugin.stat().st_ino
    env = {"CNI_COMMAND": "STATUS"}
    with subprocess.Popen([target.plugin], env=env, text=True, stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE) as running:  # fmt: skip
        exe = f"/proc/{running.pid}/exe"
        assert wait_for(lambda: os.stat(exe).st_ino == old)
        with pytest.raises(OSError, match="busy"):
            open(target.plugin, "r+b")  # what an installer that writes in place would get
        target("install")
        assert target.plugin.stat().st_ino != old
        assert os.stat(exe).st_ino == old
        config = {"cniVersion": "1.1.0", "name": "towpath", "socket": target.node.socket}
        answer, _ = running.communicate(json.dumps(config), timeout=30)
        assert (running.returncode, answer) == (0, "")
    assert target.files()[0] == ["towpath-cni"]


# ---- several networks, and those of others --------------------------------------------------------


def test_another_order_moves_the_network(target):
    target("install")
    target("install", "--order", "5")
    assert target.files()[1] == ["05-towpath.conflist"]


def test_says_when_another_network_is_the_default(target):
    target.conf.mkdir()
    (target.conf / "05-other.conflist").write_text('{"name": "other", "plugins": []}')
    assert "05-other.conflist" in target("install").stdout
    assert json.loads(target("install", "-o", "json").stdout)["default"] is False
    assert json.loads(target("install", "-o", "json", "--order", "1").stdout)["default"] is True


@pytest.mark.parametrize("file", ("10-towpath.conflist", "20-x.conf"))
def test_a_network_of_somebody_else_is_left_alone(target, file):
    target.conf.mkdir()
    text = '{"cniVersion": "1.0.0", "name": "towpath", "type": "bridge"}'
    (target.conf / file).write_text(text)
    for verb in ("install", "uninstall"):
        done = target(verb, check=False)
        assert done.returncode == 1
        assert target.files() == [[], [file]] and (target.conf / file).read_text() == text


# ---- uninstall ---------------------------------------------------------------------------------


def test_uninstall_takes_all_away(target):
    target("install")
    target("install", "--name", "blue", "--order", "20")
    target("uninstall")
    assert target.files() == [["towpath-cni"], ["20-blue.conflist"]]
    again = target("uninstall", check=False)
    assert again.returncode == 1 and "no network towpath" in again.stderr
    target("uninstall", "--name", "blue")
    assert target.files() == [[], []]


def test_uninstall_is_refused_while_containers_are_attached(target, node):
    target("install")
    pod = node.add_pod("default", "there", known=False)
    node.towpath("run", "-d", "other", "--", "sleep", "600")  # no business of a runtime's
    try:
        done = target("uninstall", check=False)
        assert done.returncode == 1 and "1 container of the network towpath" in done.stderr
        assert target.files() == [["towpath-cni"], ["10-towpath.conflist"]]
    finally:
        node.del_pod(pod, known=False)
    target("uninstall")
    assert target.files() == [[], []]
    node.towpath("rm", "other")


# ---- meson install, systemd ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    dest = tmp_path_factory.mktemp("dest")
    subprocess.run(["meson", "install", "-C", BUILD, "--no-rebuild", "--quiet"],
                   env={**os.environ, "DESTDIR": str(dest)}, check=True,
                   capture_output=True)  # fmt: skip
    return dest


def found(installed, name):
    (path,) = installed.rglob(name)
    return path


def test_meson_install_has_what_cni_install_needs(installed, target):
    towpath = found(installed, "towpath-cni").parents[2] / "bin/towpath"
    subprocess.run([towpath, *map(str, target.argv("install"))], env=target.node.env(), check=True,
                   capture_output=True)  # fmt: skip
    assert target.plugin.read_bytes() == found(installed, "towpath-cni").read_bytes()
    assert found(installed, "towpathd").parent.name == "sbin"


def unit(installed):
    """Settings of the service: name -> values."""
    settings = {}
    for line in found(installed, "towpathd.service").read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            name, value = line.split("=", 1)
            settings.setdefault(name, []).append(value)
    return settings


def capabilities(installed):
    words = " ".join(unit(installed)["CapabilityBoundingSet"]).split()
    return [word.removeprefix("CAP_").lower() for word in words]


def confined(caps, *argv):
    words = "".join(f",+{cap}" for cap in caps)
    return ("setpriv", "--no-new-privs", f"--bounding-set=-all{words}", *argv)


def test_service_runs_with_its_capabilities_and_says_when_ready(installed):
    with Node(start=False) as node, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        address = str(node.dir / "notify")
        manager.bind(address)
        manager.settimeout(30)
        env = {**os.environ, "NOTIFY_SOCKET": address}
        with open(node.log, "ab") as log:
            node.agent = node.netns.popen(*confined(capabilities(installed), *node.argv()),
                                          env=env, stderr=log)  # fmt: skip
        assert manager.recv(64) == b"READY=1"
        node.status()  # at once
        a, b = (node.add_pod("default", name, known=False) for name in "ab")
        assert a.netns.run("ping", "-c", "1", "-W", "2", b.ip(4), check=False).returncode == 0
        node.del_pod(a, known=False)
        assert node.stop() == 0


def test_service_has_no_capability_too_many(installed):
    caps = capabilities(installed)
    assert unit(installed)["Type"] == ["notify"]
    with Node(start=False) as node:
        for cap in caps:
            less = [other for other in caps if other != cap]
            done = node.netns.run(*confined(less, *node.argv()), check=False)
            assert done.returncode == 1 and f"CAP_{cap.upper()} is missing" in done.stderr


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="package systemd")
def test_service_is_understood_by_systemd(installed, tmp_path):
    text = found(installed, "towpathd.service").read_text()
    path = tmp_path / "towpathd.service"
    (line,) = (line for line in text.splitlines() if line.startswith("ExecStart="))
    path.write_text(text.replace(line.split("=")[1].split()[0], binary("towpathd")))
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", path], text=True,
                          capture_output=True, check=False)  # fmt: skip
    assert done.returncode == 0 and "towpathd.service" not in done.stderr, done.stderr
