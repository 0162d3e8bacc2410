# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""Published ports (podman run -p): portmap behind towpath-cni, and the netavark driver's own."""

import contextlib
import socket
import subprocess
import sys

import pytest

from netns import run
from node import AF, FAMILIES, pod_object, policy_object
from packet import UDP, ether, ip, udp
from traffic import wait_for

LOCALHOST = "127.0.0.1"
GATEWAY = "02:54:57:00:00:01"


@pytest.fixture(scope="module")
def web(podman):
    podman.serve("web", options=("-p", "8081:8080"))
    podman.run("client")
    return podman.address("web")


def container_net(podman, name):
    """For nsenter: what busybox has no program for is run in the container's network."""
    return f"--net=/proc/{podman.inspect(name)['State']['Pid']}/ns/net"


def answers(place, address, port, kind=socket.SOCK_STREAM, seconds=2):
    """The page's text, or None; asked by a socket of that place."""
    family = AF[6 if ":" in address else 4]
    with place.netns.socket(family, kind) as sock:
        sock.settimeout(seconds)
        try:
            sock.connect((address, port))
            sock.sendall(b"GET /index.html HTTP/1.0\r\n\r\n")
            text = b""
            while kind == socket.SOCK_STREAM or not text:
                more = sock.recv(4096)
                if not more:
                    break
                text += more
        except OSError:
            return None
        return text.decode()


def serves(place, address, port):
    return "served" in (answers(place, address, port) or "")


def test_from_outside(podman, web, family):
    node = podman.node
    assert serves(node.outside, node.ip(family), 8081)


def test_source_address_is_kept(podman, web, family):
    """Policies judge the client, not the node."""
    node = podman.node
    before = len(node.flows(last=1000))
    assert serves(node.outside, node.ip(family), 8081)
    assert wait_for(
        lambda: any(
            flow["from"].get("ip") == node.outside.ip(family)
            for flow in node.flows(last=1000)[before:]
            if flow["to"].get("pod") == "web"
        )
    )


def test_from_the_host(podman, web, family):
    node = podman.node
    assert serves(node, node.ip(family), 8081)


def test_from_the_hosts_localhost(podman, web):
    assert serves(podman.node, LOCALHOST, 8081)


def test_the_hosts_localhost_stays_its_own(podman, web):
    """route_localnet, which the test above needs, lets no container reach 127.0.0.1."""
    node, record = podman.node, podman.endpoint("web")
    pair = (podman.address("web")[4], LOCALHOST)
    packet = ip(*pair, UDP, udp(*pair, 1234, 7777, b"hello"))
    send = (
        "import socket; s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW);"
        f"s.bind(('eth0', 0)); s.send({ether(GATEWAY, record['mac'], packet)!r})"
    )
    before = node.drops("no_route")
    with node.netns.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock, node.netns:
        sock.bind((LOCALHOST, 7777))
        sock.setblocking(False)
        run("nsenter", container_net(podman, "web"), sys.executable, "-c", send)
        assert wait_for(lambda: node.drops("no_route") == before + 1)
        with pytest.raises(BlockingIOError):
            sock.recv(100)


def test_from_another_container(podman, web, family):
    assert podman.get("client", podman.node.ip(family), 8081)


def test_from_the_container_itself(podman, web, family):
    assert podman.get("web", podman.node.ip(family), 8081)


def test_policy_decides(podman, web, family):
    node = podman.node
    node.apply(pod_object("default", "web", {"app": "web"}, ()))
    deny = policy_object("default", "deny", {"matchLabels": {"app": "web"}}, ingress=[])
    node.apply(deny)
    try:
        assert not serves(node.outside, node.ip(family), 8081)
    finally:
        node.delete(deny)
    assert wait_for(lambda: serves(node.outside, node.ip(family), 8081), 10)


def test_host_ip(podman, web):
    """A port that is published on one address is closed on the others."""
    node = podman.node
    node.netns.ip("addr add 198.51.100.77/32 dev up0")
    podman.serve("box", options=("-p", "198.51.100.77:8082:8080"))
    try:
        # The agent sees a new address of the node a moment later.
        assert wait_for(lambda: serves(node.outside, "198.51.100.77", 8082), 10)
        assert not serves(node.outside, node.ip(4), 8082)
    finally:
        podman.rm("box")
        node.netns.ip("addr del 198.51.100.77/32 dev up0")


def test_range(podman, web, family):
    """Each port of the range leads to the one at its place."""
    node = podman.node
    podman.serve("box", port=9002, options=("-p", "8091-8093:9001-9003"))
    try:
        assert serves(node.outside, node.ip(family), 8092)
        assert not serves(node.outside, node.ip(family), 8091)
    finally:
        podman.rm("box")


UDP_ECHO = """
import socket
sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
sock.bind(("::", 9000))
print("ready", flush=True)
while True:
    data, peer = sock.recvfrom(100)
    sock.sendto(data, peer)
"""


@contextlib.contextmanager
def udp_echo(podman, name):
    podman.run(name, options=("-p", "8085:9000/udp"))
    server = subprocess.Popen(
        ["nsenter", container_net(podman, name), sys.executable, "-c", UDP_ECHO],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert server.stdout.readline() == "ready\n"
        yield
    finally:
        server.kill()
        server.wait()
        server.stdout.close()
        podman.rm(name)


def test_udp_goes_on_with_the_next_container(podman, web):
    """One client socket, two containers: what the stack remembers of the first is forgotten."""
    node = podman.node

    def echoed(sock):
        sock.send(b"hello")
        try:
            return sock.recv(100) == b"hello"
        except OSError:
            return False

    for family in FAMILIES:
        with node.outside.netns.socket(AF[family], socket.SOCK_DGRAM) as sock:
            sock.settimeout(0.5)
            sock.connect((node.ip(family), 8085))
            for name in ("one", "two"):
                with udp_echo(podman, name):
                    assert wait_for(lambda: echoed(sock), 10)


def test_restart_and_rm(podman, web, family):
    node = podman.node
    podman.serve("box", options=("-p", "8086:8080"))
    podman("restart", "-t", "0", "box")
    assert wait_for(lambda: serves(node.outside, node.ip(family), 8086), 10)
    rules = node.netns.run("nft", "list", "ruleset").stdout
    assert podman.address("box")[family] in rules
    address = podman.address("box")[family]
    podman.rm("box")
    rules = node.netns.run("nft", "list", "ruleset").stdout
    assert address not in rules
    assert answers(node.outside, node.ip(family), 8086) is None
    assert serves(node.outside, node.ip(family), 8081)


def test_flushed_rules_come_back(podman, web):
    """`nft flush ruleset`, as firewalls do when they start; podman puts the ports back."""
    node = podman.node
    podman.serve("box", options=("-p", "8087:8080"))
    try:
        before = podman.address("box")
        node.netns.run("nft", "flush", "ruleset")
        assert not serves(node.outside, node.ip(4), 8087)
        podman("network", "reload", "--all")
        assert podman.address("box") == before
        for family in FAMILIES:
            assert serves(node.outside, node.ip(family), 8087)
            assert serves(node.outside, node.ip(family), 8081)
    finally:
        podman.rm("box")
