# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""Limits and SYN cookies of the edge: real connections to nginx, real floods, an agent that dies."""

import contextlib
import json
import os
import socket
import subprocess

import packet
import pytest
import webserver
from node import AF, BUILD, Node
from traffic import wait_for

pytestmark = pytest.mark.skipif(not os.path.exists(webserver.NGINX), reason="nginx")
PORT = 80
ATTACKER = "198.51.100.66"
FLOOD = 20000  # SYNs a second: more than any threshold here, little work for the machine
OTHER = {4: "203.0.113.7", 6: "2001:db8:5::7"}


@contextlib.contextmanager
def far_end(outside):
    """A veth takes what an XDP program sends it only while it has a program itself."""
    process = outside.netns.popen(
        BUILD / "bench" / "flood_send", "sink", outside.interface, ATTACKER,
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout.readline() == "ready\n"
        yield
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A node of its own, whose sysctls are changed, with the edge on up0."""
    with Node("el") as node, far_end(node.outside):
        for address in OTHER.values():
            node.outside.add_address(address)
        node.towpath("edge", "attach", "up0", "--force")
        yield node


@pytest.fixture
def limit(site):
    """limit(WORD...): a command; no limits and no cookies at the end."""

    def command(*words, check=True):
        return site.towpath("edge", "limit", *words, check=check)

    yield command
    command("delete", "all")
    for item in state(site)["cookies"]:
        command("cookies", f"{item['first']}-{item['last']}/tcp", "--off")


@pytest.fixture
def web(site, tmp_path):
    """A fresh nginx: its sockets have never answered a SYN with a cookie."""
    process = webserver.start(site.netns, tmp_path, PORT)
    yield process
    process.kill()
    process.wait()


def state(node):
    return json.loads(node.towpath("edge", "limit", "-o", "json").stdout)


def ask(node, family, source=None, timeout=5.0):
    """The answer of one HTTP request over a connection of its own; None: no connection."""
    with node.outside.netns.socket(AF[family], socket.SOCK_STREAM) as client:
        client.settimeout(timeout)
        try:
            if source:
                client.bind((source[family], 0))
            client.connect((node.ip(family), PORT))
            client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            text = b""
            while more := client.recv(4096):
                text += more
        except OSError:
            return None
    return text.split(b"\r\n\r\n", 1)[1].decode()


@contextlib.contextmanager
def flood(node, forged, seconds=30):
    """SYNs to nginx, from forged addresses or from one."""
    outside = node.outside
    tcp = packet.tcp(ATTACKER, node.ip(4), 40000, PORT, packet.SYN)
    frame = packet.ether(node.netns.mac("up0"), outside.netns.mac(outside.interface),
                         packet.ip(ATTACKER, node.ip(4), packet.TCP, tcp))  # fmt: skip
    process = outside.netns.popen(
        BUILD / "bench" / "flood_send", "forged" if forged else "fixed", outside.interface, FLOOD,
        seconds, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    try:
        process.stdin.write(frame[:54].hex())
        process.stdin.close()
        yield
    finally:
        process.kill()
        process.wait()


def counts(node):
    return state(node)["cookies"][0]


def kernel_cookies(node):
    """SYN cookies that listeners of the node made themselves."""
    done = node.netns.run("nstat", "-asz", "TcpExtSyncookiesSent").stdout
    return int(done.split("TcpExtSyncookiesSent")[1].split()[0])


def test_connections_of_a_source_are_limited(site, web, limit, family):
    limit("add", "--per-source", "/32,/128", "--syn", "1/h", "--burst", "3", "--port", "80/tcp")
    assert [ask(site, family) for _ in range(3)] == ["hello\n"] * 3
    assert ask(site, family, timeout=0.5) is None
    assert ask(site, family, OTHER) == "hello\n"
    shown = state(site)["limits"][0]
    assert shown["dropped"]["packets"] >= 1 and shown["kind"] == "syn"
    limit("delete", "1")
    assert ask(site, family) == "hello\n"


def test_what_is_wrong_changes_nothing(site, limit):
    limit("add", "--packets", "10k/s", "--port", "53/udp")
    before = state(site)
    for words, status, part in (
        (("add",), 2, "at least one of"),
        (("add", "--syn", "fast"), 2, "--syn takes a rate"),
        (("add", "--syn", "1/s", "--port", "53"), 2, "--port takes ports"),
        (("add", "--syn", "1/s", "--per-source", "24"), 2, "--per-source takes"),
        (("add", "--syn", "1/s", "--packets", "1/s", "--burst", "5"), 2, "for one rate"),
        (("add", "--packets", "1M/s", "--burst", "5"), 1, "burst"),
        (("add", "--syn", "5/s", "--port", "53/udp"), 1, "only TCP"),
        (("add", "--packets", "9/s", "--port", "53/udp"), 1, "limit 1 is of the same packets"),
        (("delete", "7"), 1, "there is no limit 7"),
        (("delete", "1", "7"), 1, "there is no limit 7"),
        (("cookies", "80/udp"), 2, "TCP ports"),
        (("cookies", "80/tcp", "--off"), 1, "no cookies for port 80"),
        (("cookies", "80/tcp", "--by", "luck"), 1, "auto, assign or kernel"),
        (("list", "--above", "5/s"), 2, "does not take that option"),
    ):
        done = limit(*words, check=False)
        assert done.returncode == status and part in done.stderr, (words, done)
    assert state(site) == before


def test_a_listener_takes_cookies_it_never_made(site, web, limit, family):
    """No SYN reached it, as after an hour of quiet: nothing of the kernel's two minutes is asked."""
    limit("cookies", "80/tcp", "--by", "auto")
    before = kernel_cookies(site)
    assert [ask(site, family) for _ in range(5)] == ["hello\n"] * 5
    assert counts(site)["answered"] >= 5 and counts(site)["accepted"] >= 5
    assert kernel_cookies(site) == before
    with site.outside.netns.socket(AF[family], socket.SOCK_STREAM) as client:
        client.settimeout(5)
        client.connect((site.ip(family), PORT))
        shown = site.netns.run("ss", "-Htino", "state", "established", f"sport = {PORT}").stdout
        assert "wscale" in shown and "sack" in shown and " ts " in shown, shown


def test_cookies_by_the_kernel_name_their_sysctl(site, web, limit, family):
    site.netns.sysctl("ipv4/tcp_syncookies", 1)
    done = limit("cookies", "80/tcp", "--by", "kernel", check=False)
    assert done.returncode == 1 and "net.ipv4.tcp_syncookies at 2" in done.stderr, done
    assert not state(site)["cookies"]
    site.netns.sysctl("ipv4/tcp_syncookies", 0)
    done = limit("cookies", "80/tcp", check=False)
    assert done.returncode == 1 and "net.ipv4.tcp_syncookies is 0" in done.stderr, done
    site.netns.sysctl("ipv4/tcp_syncookies", 2)
    try:
        limit("cookies", "80/tcp", "--by", "kernel")
        # The first of each second goes to the listener, the others are answered.
        assert [ask(site, family) for _ in range(8)] == ["hello\n"] * 8
        assert counts(site)["answered"] >= 1 and counts(site)["accepted"] == 0
        assert kernel_cookies(site) >= 1
    finally:
        site.netns.sysctl("ipv4/tcp_syncookies", 1)
        limit("cookies", "80/tcp", "--by", "auto")


@pytest.mark.parametrize("forged", (True, False), ids=("forged", "fixed"))
def test_clients_get_through_a_flood(site, web, limit, forged, family):
    limit("cookies", "80/tcp", "--above", "200/s")
    limit("add", "--per-source", "/32", "--packets", "500/s", "--burst", "600")
    assert not counts(site)["active"]
    with site.outside.netns.socket(AF[family], socket.SOCK_STREAM) as kept:
        kept.settimeout(10)
        kept.connect((site.ip(family), PORT))
        with flood(site, forged):
            assert wait_for(lambda: counts(site)["active"], 10)
            assert [ask(site, family, timeout=10) for _ in range(20)] == ["hello\n"] * 20
            # A connection of before the flood goes on.
            kept.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert kept.recv(4096).endswith(b"hello\n")
            assert counts(site)["accepted"] >= 20
            if not forged:
                assert wait_for(lambda: state(site)["limits"][0]["dropped"]["packets"], 10)


def test_segments_without_cookie_end_at_the_card(site, web, limit):
    limit("cookies", "80/tcp")
    outside = site.outside
    tcp = packet.tcp(outside.ip(4), site.ip(4), 41000, PORT, packet.ACK, seq=5, ack=7)
    frame = packet.ether(site.netns.mac("up0"), outside.netns.mac(outside.interface),
                         packet.ip(outside.ip(4), site.ip(4), packet.TCP, tcp))  # fmt: skip
    with packet.Wire(outside.netns, outside.interface) as wire:
        for _ in range(5):
            wire.send(frame)
        assert wait_for(lambda: counts(site)["invalid"] >= 5, 5)
        assert not [p for p in wire.packets(0.2) if getattr(p, "flags", 0) & packet.RST]


def test_all_of_it_outlives_the_agent_and_a_reboot(site, web, limit, family):
    limit("cookies", "80/tcp")
    limit("add", "--per-source", "/32,/128", "--syn", "1/h", "--burst", "4", "--port", "80/tcp")
    site.kill()
    assert ask(site, family) == "hello\n"
    site.start()
    assert wait_for(lambda: state(site)["loaded"], 10)
    assert ask(site, family) == "hello\n"
    shown = state(site)
    assert shown["limits"][0]["burst"] == 4 and shown["cookies"][0]["first"] == 80
    assert shown["cookies"][0]["accepted"] >= 2
    # The bucket is the one of before: two of four are spent.
    assert [ask(site, family) for _ in range(2)] == ["hello\n"] * 2
    assert ask(site, family, timeout=0.5) is None
    # A reboot: pins are lost with the kernel, and with them what buckets held.
    site.kill()
    subprocess.run(["rm", "-r", site.run_dir / "bpf" / "edge"], check=True)
    site.start()
    assert wait_for(lambda: state(site)["loaded"], 10)
    assert [ask(site, family) for _ in range(4)] == ["hello\n"] * 4
    assert ask(site, family, timeout=0.5) is None
    assert counts(site)["answered"] == 5 and counts(site)["accepted"] == 4


def test_without_a_device_it_is_kept(site, web, limit, family):
    limit("cookies", "80/tcp")
    site.towpath("edge", "detach", "up0")
    assert state(site)["loaded"] is False
    assert wait_for(lambda: ask(site, family), 30) == "hello\n"
    site.towpath("edge", "attach", "up0", "--force")
    assert wait_for(lambda: ask(site, family), 30) == "hello\n"
    assert counts(site)["answered"] >= 1 and counts(site)["accepted"] >= 1
