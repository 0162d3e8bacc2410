# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""Rules of docs/design/datapath.md that need real traffic and are not in a file of their own."""

import signal
import socket
import time

import packet
import pytest
from node import Node, namespace_object, policy_object
from packet import ACK, TCP, UDP, Wire
from traffic import (
    QUIET, TcpLink, bound, port_new, tcp_open, tcp_works, udp_ask, wait_for,
)  # fmt: skip

GATEWAY = "02:54:57:00:00:01"


@pytest.fixture
def pods(clean):
    clean.apply(namespace_object("shop", {}))
    return {name: clean.add_pod("shop", name, {"app": name}) for name in ("a", "b")}


def closed_to_all(name):
    return policy_object("shop", f"closed-{name}", {"matchLabels": {"app": name}}, ingress=[])


class TestI1NoFlowWithoutAnOpener:
    def ack(self, src, dst, family, port):
        body = packet.tcp(src.ip(family), dst.ip(family), 4000, port, ACK, seq=77, ack=99)
        return packet.ether(
            GATEWAY, src.netns.mac("eth0"), packet.ip(src.ip(family), dst.ip(family), TCP, body)
        )

    def arrives(self, src, dst, family):
        port = port_new()
        with Wire(src.netns, "eth0") as wire, Wire(dst.netns, "eth0") as there:
            wire.send(self.ack(src, dst, family, port))
            return there.wait(lambda p: p.dport == port, QUIET) is not None

    def test_I1_tcp_without_syn_where_one_orientation_is_forbidden(self, clean, pods, family):
        """a may open to b but not b to a: a lone ACK from a could belong to either."""
        clean.apply(closed_to_all("a"))
        before = clean.drops("no_flow")
        assert not self.arrives(pods["a"], pods["b"], family)
        assert wait_for(lambda: clean.drops("no_flow") > before)

    def test_I1_tcp_without_syn_where_both_are_allowed(self, pods, family):
        assert self.arrives(pods["a"], pods["b"], family)

    def test_I1_a_revoked_connection_cannot_reopen_from_the_other_end(self, clean, pods, family):
        """b may open to a. When a's connection to b is revoked, b's data must not pass as
        something that b has opened."""
        with tcp_open(pods["a"], pods["b"], family) as link:
            clean.apply(closed_to_all("b"))
            link.client.settimeout(QUIET)
            link.server.sendall(b"retransmitted until it is let through")
            time.sleep(2 * QUIET)
            with pytest.raises(TimeoutError):
                link.client.recv(64)
        assert tcp_works(pods["b"], pods["a"], family), "a new connection of b is its right"

    def test_I1_udp_of_a_revoked_flow(self, clean, pods, family):
        """The same with datagrams, where nothing marks an opener."""
        port, sport = port_new(), port_new()
        assert udp_ask(pods["a"], pods["b"], family, port, sport=sport)
        clean.apply(closed_to_all("b"))
        with Wire(pods["a"].netns, "eth0") as wire:
            with bound(pods["b"], family, socket.SOCK_DGRAM, port) as sock:
                sock.sendto(b"late answer", (pods["a"].ip(family), sport))
            assert wire.wait(lambda p: p.proto == UDP and p.dport == sport, QUIET) is None

    def test_I1_allowed_again_means_alive_again(self, clean, pods, family):
        with tcp_open(pods["a"], pods["b"], family) as link:
            clean.apply(closed_to_all("b"))
            assert not link.passes(link.client, link.server, b"x", QUIET)
            clean.delete(closed_to_all("b"))
            # The kernel sends the lost byte again; nothing but time was lost.
            link.server.settimeout(5)
            assert link.server.recv(16) == b"x"
            assert link.alive()
        assert tcp_works(pods["a"], pods["b"], family)


class TestI8BackTheWayItCame:
    """I8: somebody else's translation in the host's stack is answered through the stack."""

    @pytest.fixture
    def published(self, clean, pods, family):
        """The node publishes b at its port 8080, as docker or kube-proxy would by iptables."""
        table = "ip" if family == 4 else "ip6"
        # As whoever publishes has to: the kernel forwards IPv6 only with this one set.
        clean.netns.sysctl("ipv6/conf/all/forwarding", 1)
        b = pods["b"].ip(family)
        target = f"{b}:80" if family == 4 else f"[{b}]:80"
        where = f"fib daddr type local tcp dport 8080 dnat to {target}"
        rules = f"""table {table} other {{
            chain in {{ type nat hook prerouting priority -100; {where}; }};
            chain out {{ type nat hook output priority -100; {where}; }};
        }}"""
        done = clean.netns.run("nft", "-f", "-", stdin=rules, check=False)
        if done.returncode != 0:
            pytest.skip(f"nft cannot translate here: {done.stderr.strip()}")
        yield pods["b"]
        clean.netns.run("nft", "delete", "table", table, "other")

    def connect(self, src, clean, pod, family):
        with (
            bound(pod, family, socket.SOCK_STREAM, 80) as listener,
            bound(src, family, socket.SOCK_STREAM) as client,
        ):
            listener.listen(1)
            listener.settimeout(2)
            client.settimeout(2)
            client.connect((clean.ip(family), 8080))
            server, peer = listener.accept()
            with TcpLink(client, server, peer) as link:
                assert link.alive()
                assert client.getpeername()[:2] == (clean.ip(family), 8080)
        return peer

    def test_I8_from_the_outside(self, clean, pods, published, family):
        peer = self.connect(clean.outside, clean, published, family)
        assert peer[0] == clean.outside.ip(family)

    def test_I8_from_another_pod(self, clean, pods, published, family):
        self.connect(pods["a"], clean, published, family)

    def test_I8_from_the_node(self, clean, pods, published, family):
        self.connect(clean, clean, published, family)

    def test_I8_policy_is_still_judged(self, clean, pods, published, family):
        clean.apply(closed_to_all("b"))
        with pytest.raises(TimeoutError):
            self.connect(clean.outside, clean, published, family)


class TestI10Budgets:
    """I10: neither a flood nor a scan fills the table or starves a neighbour."""

    def flood(self, src, family, address, ports):
        with bound(src, family, socket.SOCK_DGRAM) as sock:
            for port in ports:
                try:
                    sock.sendto(b"?", (address, port))
                except OSError:  # an error about an earlier one
                    pass

    def test_I10_denied_packets_make_no_entry(self, clean, pods, family):
        clean.apply(closed_to_all("b"))
        before = clean.counter("flows_opened")
        self.flood(pods["a"], family, pods["b"].ip(family), range(10000, 14000))
        assert clean.drops("policy_ingress") > 0
        assert clean.counter("flows_opened") - before < 10

    def test_I10_a_scan_is_limited_and_a_neighbour_is_not(self, clean, pods, family):
        quiet = clean.add_pod("shop", "quiet", {"app": "quiet"})
        before = {r: clean.drops(r) for r in ("new_flow_rate", "flow_cap")}
        for _ in range(3):
            self.flood(pods["a"], family, pods["b"].ip(family), range(1, 65000))
        limited = sum(clean.drops(r) - n for r, n in before.items())
        assert limited > 0, "a scan of 195 000 ports met no limit"
        assert clean.drops("flow_table_full") == 0
        assert tcp_works(quiet, clean.outside, family)
        assert tcp_works(clean.outside, quiet, family)


class TestI11Collection:
    def test_I11_a_blind_reset_shortens_nothing(self, clean, pods, family):
        """Data after a RST that the ends did not believe cancels it."""
        with tcp_open(pods["a"], pods["b"], family) as link:
            sport, dport = link.client.getsockname()[1], link.client.getpeername()[1]
            src, dst = pods["a"].ip(family), pods["b"].ip(family)
            body = packet.tcp(src, dst, sport, dport, packet.RST, seq=0x12345678)
            with Wire(pods["a"].netns, "eth0") as wire:
                wire.send(
                    packet.ether(GATEWAY, pods["a"].netns.mac("eth0"),
                                 packet.ip(src, dst, TCP, body))
                )  # fmt: skip
            opened = clean.counter("flows_opened")
            for _ in range(15):  # longer than a closed connection is kept
                assert link.alive(), "the connection died of a reset that was not its own"
                time.sleep(1)
            assert clean.counter("flows_opened") == opened, "the entry was lost and made again"

    def test_I11_closed_connections_are_collected(self, clean, pods, family):
        name = f"tw_flow{family}"

        def used():
            return next(m["used"] for m in clean.status()["maps"] if m["name"] == name)

        for _ in range(50):
            assert tcp_works(pods["a"], pods["b"], family)
        # What the collector counted in its last pass, at most a second ago.
        assert wait_for(lambda: used() >= 50, 5)
        full = used()
        assert wait_for(lambda: used() <= full - 50, 60, 0.5)


class TestI13EventsAreNeverInTheWay:
    def test_I13_a_full_ring_loses_events_and_no_packets(self, family):
        with Node() as node:
            a, b = (node.add_pod("shop", n) for n in ("a", "b"))
            node.agent.send_signal(signal.SIGSTOP)
            try:
                port, lost = port_new(), 0
                with (
                    bound(b, family, socket.SOCK_DGRAM, port) as server,
                    bound(a, family, socket.SOCK_DGRAM) as client,
                ):
                    server.settimeout(1)
                    for number in range(20000):
                        # New flows make events: another source port each.
                        if number % 4 == 0:
                            client.close()
                            client = bound(a, family, socket.SOCK_DGRAM)
                        client.sendto(number.to_bytes(4, "big"), (b.ip(family), port))
                        try:
                            lost += server.recv(16) != number.to_bytes(4, "big")
                        except TimeoutError:
                            lost += 1
                            break
            finally:
                node.agent.send_signal(signal.SIGCONT)
            assert node.counter("events_lost") > 0, "the ring was never full: this proves nothing"
            assert lost == 0
