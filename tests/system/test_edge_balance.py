# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""The balancer with real clients, servers and agents, by each way to a backend.

    client (the outside) --br0-- node (towpathd, edge on up0)
                          |----- b0, b1, b2: servers, each with an agent that decapsulates

Servers say who they are when somebody connects, and echo what they get.
"""

import contextlib
import json
import pathlib
import socket
import struct
import subprocess
import sys
import tempfile
import time

import pytest

from netns import Netns
from node import AF, BUILD, FAMILIES, Node, binary

VIP = {4: "203.0.113.80", 6: "fd00:80::80"}
WAYS = ("ipip", "gue", "l2", "nat")
NET = {4: "198.51.100.", 6: "fd00:51:100::"}

SERVER = r"""
import socket, sys, threading
name = sys.argv[1].encode()

def talk(conn):
    with conn:
        conn.sendall(name + b"\n")
        while data := conn.recv(4096):
            conn.sendall(data)

def tcp(family, port):
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    sock.bind(("", port))
    sock.listen(128)
    while True:
        threading.Thread(target=talk, args=(sock.accept()[0],), daemon=True).start()

def udp(family, address):
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.bind((address, 5353))
    while True:
        data, peer = sock.recvfrom(2048)
        sock.sendto(name + b" " + data, peer)

for family in (socket.AF_INET, socket.AF_INET6):
    threading.Thread(target=tcp, args=(family, 8000), daemon=True).start()
for address in sys.argv[2:]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    threading.Thread(target=udp, args=(family, address), daemon=True).start()
threading.Event().wait()
"""


class Server:
    """A backend: a host on the bridge, its server, and an agent for its own edge."""

    def __init__(self, lab, number):
        self.lab, self.number = lab, number
        self.name = f"b{number}"
        self.address = {f: f"{NET[f]}{100 + number}" for f in FAMILIES}
        self.netns = Netns("twb")
        outside = lab.node.outside.netns
        outside.ip(f"link add {self.name} type veth peer name eth0 netns {self.netns.name}")
        outside.ip(f"link set {self.name} master br0 up")
        for where in ("all", "default"):
            self.netns.sysctl(f"ipv6/conf/{where}/accept_dad", 0)
        self.netns.ip(
            "link set eth0 up",
            f"addr add {self.address[4]}/24 dev eth0",
            f"addr add {self.address[6]}/64 dev eth0 nodad",
            f"addr add {VIP[4]}/32 dev lo",
            f"addr add {VIP[6]}/128 dev lo nodad",
        )
        # The frontends' address is on lo, and nobody on the link may ask for it here.
        self.netns.sysctl("ipv4/conf/all/arp_ignore", 1)
        self.netns.sysctl("ipv4/conf/all/arp_announce", 2)
        self.process = self.agent = None
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="towpath-test-"))
        self.start()

    def start(self):
        addresses = [*self.address.values(), *VIP.values()]
        self.process = self.netns.popen(sys.executable, "-c", SERVER, self.name, *addresses)
        self.lab.wait(lambda: self.answers(), f"{self.name} serves")

    def answers(self):
        with contextlib.suppress(OSError), self.netns:
            socket.create_connection((self.address[4], 8000), timeout=1).close()
            return True
        return False

    def stop(self):
        self.process.kill()
        self.process.wait()

    def decap(self):
        """An agent that opens the node's packets."""
        log = open(self.dir / "log", "wb")  # noqa: SIM115 (lives as long as the agent)
        self.agent = self.netns.popen(
            binary("towpathd"), "--state-dir", self.dir / "state", "--run-dir", self.dir / "run",
            stdout=log, stderr=log,
        )  # fmt: skip
        self.lab.wait(lambda: self.towpath("status").returncode == 0, "the backend's agent")
        done = self.towpath("edge", "attach", "eth0")
        assert done.returncode == 0, done.stderr
        done = self.towpath("edge", "decap", "from", *self.lab.node.address.values())
        assert done.returncode == 0, done.stderr

    def towpath(self, *argv):
        return subprocess.run(
            [binary("towpath"), "--socket", str(self.dir / "run/towpath.sock"), *argv],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    def close(self):
        for process in (self.process, self.agent):
            if process is not None and process.poll() is None:
                process.kill()
                process.wait()
        subprocess.run(["umount", self.dir / "run/bpf"], capture_output=True, check=False)
        subprocess.run(["rm", "-rf", self.dir], check=False)
        self.netns.delete()


class Lab:
    def __init__(self, servers=3):
        self.node = Node(prefix="twe")
        self.node.guests.append(self)
        self.client = self.node.outside
        net = self.client.netns
        # Everybody on one link; the checksums that veth leaves open, XDP cannot close.
        net.ip(
            "link add br0 type bridge",
            f"addr del {NET[4]}1/24 dev net0", f"addr del {NET[6]}1/64 dev net0",
            "link set net0 master br0", "link set br0 up",
            f"addr add {NET[4]}1/24 dev br0", f"addr add {NET[6]}1/64 dev br0 nodad",
            f"route add {VIP[4]} via {self.node.address[4]}",
            f"route add {VIP[6]} via {self.node.address[6]}",
        )  # fmt: skip
        net.run("ethtool", "-K", "net0", "tx", "off")
        # A veth takes XDP's frames only where a program of its own looks at them.
        program = BUILD / "bench/edge_wrap.bpf.o"
        net.ip(f"link set net0 xdpdrv object {program} program bench_empty")
        self.servers = []
        for number in range(servers):
            self.servers.append(Server(self, number))
        self.edge("attach", "up0")

    def edge(self, *argv, check=True):
        return self.node.towpath("edge", *argv, check=check)

    def service(self, way, name="web", servers=None, options=()):
        """A service of both families; way nat needs one of each."""
        servers = self.servers if servers is None else servers
        ports = ("8000/tcp", "5353/udp")
        families = [(4,), (6,)] if way == "nat" else [(4, 6)]
        for some in families:
            suffix = "" if len(families) == 1 else str(some[0])
            fronts = [
                word for f in some for port in ports
                for word in ("--frontend", f"{VIP[f]}:{port}" if f == 4 else f"[{VIP[f]}]:{port}")
            ]  # fmt: skip
            self.edge(
                "balance", "set", name + suffix, *fronts, "--way", way, *options,
                *(server.address[some[0]] for server in servers),
            )  # fmt: skip
        self.wait(self.ready, "the service is balanced")

    def list(self):
        return json.loads(self.edge("balance", "-o", "json").stdout)["services"]

    def backend(self, server, family=4):
        for service in self.list():
            for backend in service["backends"]:
                if backend["address"] == server.address[family]:
                    return backend
        return None

    def ready(self):
        services = self.list()
        return services and all(
            s["balanced"] and not any("hop" in b for b in s["backends"]) for s in services
        )

    @staticmethod
    def wait(ready, what, seconds=20):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if ready():
                return
            time.sleep(0.02)
        raise AssertionError(f"not within {seconds} s: {what}")

    def connect(self, family, timeout=5):
        """A connection through the frontend, and who answered."""
        with self.client.netns:
            sock = socket.create_connection((VIP[family], 8000), timeout=timeout)
        name = b""
        while not name.endswith(b"\n"):
            got = sock.recv(64)
            if not got:
                raise ConnectionError("closed")
            name += got
        return sock, name.decode().strip()

    def names(self, family, count=24):
        """Who answers that many connections."""
        found = set()
        for _ in range(count):
            sock, name = self.connect(family)
            sock.close()
            found.add(name)
        return found

    def close(self):
        if self in self.node.guests:
            self.node.guests.remove(self)
        for server in self.servers:
            server.close()


def speaks(sock, words=b"hello"):
    sock.sendall(words)
    got = b""
    while len(got) < len(words):
        more = sock.recv(4096)
        assert more, "the connection was closed"
        got += more
    assert got == words


@pytest.fixture(scope="module")
def lab():
    made = Lab()
    try:
        for server in made.servers:
            server.decap()
        yield made
    finally:
        made.node.close()


@pytest.fixture(autouse=True)
def clean(request, lab):
    yield
    for service in lab.list():
        lab.edge("balance", "remove", service["name"])


@pytest.mark.parametrize("way", WAYS)
def test_every_way_carries_tcp_and_udp(lab, way):
    lab.service(way)
    for family in FAMILIES:
        assert lab.names(family) == {"b0", "b1", "b2"}
        sock, name = lab.connect(family)
        speaks(sock, bytes(range(256)) * 256)
        sock.close()
        with lab.client.netns:
            udp = socket.socket(AF[family], socket.SOCK_DGRAM)
        udp.settimeout(5)
        udp.connect((VIP[family], 5353))
        answers = set()
        for number in range(5):
            udp.send(b"%d" % number)
            answers.add(udp.recv(100).split()[0])
        assert len(answers) == 1, "one flow, one backend"
        udp.close()
    counted = [lab.backend(server) for server in lab.servers]
    assert all(backend["packets"] > 0 for backend in counted)


@pytest.mark.parametrize("way", ("gue", "nat"))
def test_connections_survive_draining_removal_and_the_agents_death(lab, way):
    lab.service(way)
    held = []
    try:
        for family in FAMILIES:
            for _ in range(20):
                held.append(lab.connect(family))
        by_name = {name for _, name in held}
        assert by_name == {"b0", "b1", "b2"}
        services = [s["name"] for s in lab.list()]
        for name, family in zip(services, FAMILIES):
            lab.edge("balance", "drain", name, lab.servers[0].address[family])
            lab.edge("balance", "remove", name, lab.servers[1].address[family])
        for sock, _ in held:
            speaks(sock)
        for family in FAMILIES:
            assert lab.names(family) == {"b2"}
        # Nobody is there to look after anything, and nobody needs to be.
        lab.node.kill()
        for sock, _ in held:
            speaks(sock)
        for family in FAMILIES:
            assert lab.names(family, 4) == {"b2"}
        lab.node.start()
        lab.wait(lab.ready, "the new agent goes on")
        for sock, _ in held:
            speaks(sock)
        states = {b["address"]: b["state"] for s in lab.list() for b in s["backends"]}
        assert states[lab.servers[0].address[4]] == "draining"
        # The removed one may still be there for its connections, but gets nothing.
        assert states.get(lab.servers[1].address[4], "removed") == "removed"
        for name, family in zip(services, FAMILIES):
            lab.edge("balance", "undrain", name, lab.servers[0].address[family])
        for family in FAMILIES:
            assert lab.names(family) == {"b0", "b2"}
        for sock, _ in held:
            speaks(sock)
    finally:
        for sock, _ in held:
            sock.close()


@pytest.mark.parametrize("kind", ("tcp", "http"))
def test_checks_take_a_dead_backend_out_and_bring_it_back(lab, kind):
    port, web = 8000, []
    options = ["--check", kind, "--interval", "100ms", "--timeout", "500ms", "--fall", "2"]
    try:
        if kind == "http":
            for server in lab.servers:
                web.append(web_start(server))
            options += ["--check-port", "8080", "--check-path", "/ok"]
        lab.service("l2", options=options)
        lab.wait(lambda: all(lab.backend(s)["state"] == "up" for s in lab.servers), "all are up")
        sock, _ = lab.connect(4)
        dead = lab.servers[1]
        if kind == "http":
            # It answers, but not that it is well.
            (dead.dir / "www/ok").unlink()
        else:
            dead.stop()
        lab.wait(lambda: lab.backend(dead)["state"] == "down", "it is down")
        assert lab.backend(dead)["check"]
        assert lab.names(4) == lab.names(6) == {"b0", "b2"}
        if kind == "http":
            (dead.dir / "www/ok").write_text("ok")
        else:
            dead.start()
        lab.wait(lambda: lab.backend(dead)["state"] == "up", "it is up again")
        assert "b1" in lab.names(4, 60)
        sock.close()
    finally:
        for process in web:
            process.kill()
            process.wait()


def web_start(server):
    folder = server.dir / "www"
    folder.mkdir(exist_ok=True)
    (folder / "ok").write_text("ok")
    process = server.netns.popen("busybox", "httpd", "-f", "-p", "8080", "-h", folder)

    def answers():
        with contextlib.suppress(OSError), server.netns:
            socket.create_connection((server.address[4], 8080), timeout=1).close()
            return True
        return False

    server.lab.wait(answers, "busybox serves")
    return process


def test_all_down_is_taken_for_none_down(lab):
    lab.service("l2", options=["--check", "tcp", "--check-port", "9", "--interval", "100ms"])
    lab.wait(lambda: all(lab.backend(s)["state"] == "down" for s in lab.servers), "all are down")
    assert all(service["panic"] for service in lab.list())
    assert lab.names(4) == {"b0", "b1", "b2"}


def test_weights_are_shares(lab):
    lab.service("l2")
    for server in lab.servers[:2]:
        lab.edge("balance", "add", "web", f"{server.address[4]},weight=0")
    assert lab.names(4) == {"b2"}
    lab.edge("balance", "add", "web", f"{lab.servers[0].address[4]},weight=3")
    assert lab.names(4) == {"b0", "b2"}


def test_too_long_packets_find_their_size(lab):
    """The way to backends has room for 1500 bytes, encapsulation included."""
    lab.service("gue")
    sock, _ = lab.connect(4)
    # Longer segments than fit: the client is told, and sends shorter ones.
    speaks(sock, b"x" * 200_000)
    mss = struct.unpack_from("I", sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104), 16)
    assert mss[0] <= 1500 - 28 - 20 - 20
    sock.close()


def test_what_is_wrong_is_refused(lab):
    lab.service("l2")
    for argv, word in (
        (("set", "new"), "--frontend"),
        (("set", "two", "--frontend", f"{VIP[4]}:8000"), "which EdgeService"),
        (("set", "web", "--way", "tunnel"), "ipip, gue, l2 or nat"),
        (("add", "web", "10.0.0.300"), "address"),
        (("remove", "none"), "no EdgeService"),
        (("drain", "web", "10.9.9.9"), "no backend"),
    ):
        done = lab.edge("balance", *argv, check=False)
        assert done.returncode == 1 and word in done.stderr, (argv, done.stderr)
    for argv in (("make", "web"), ("add", "web"), ("list", "a", "b"),
                 ("set", "web", "--frontend", ":80")):  # fmt: skip
        done = lab.edge("balance", *argv, check=False)
        assert done.returncode == 2, (argv, done.stderr)
    assert lab.names(4) == {"b0", "b1", "b2"}


def test_the_service_is_there_after_a_reboot(lab):
    """What is kept is the object; the kernel has nothing of it any more."""
    lab.service("ipip")
    lab.node.stop()
    lab.node.netns.ip("link set up0 xdp off", check=False)
    assert subprocess.run(
        ["umount", lab.node.run_dir / "bpf"], capture_output=True, check=False
    ).returncode == 0
    lab.node.start()
    lab.wait(lab.ready, "balanced again")
    for family in FAMILIES:
        assert lab.names(family) == {"b0", "b1", "b2"}
