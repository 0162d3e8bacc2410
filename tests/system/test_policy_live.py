# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""Policies that change while connections run."""

import socket
import threading
import time

import pytest
from node import namespace_object, pod_object, policy_object
from traffic import QUIET, TcpLink, UdpServer, bound, port_new, tcp_open, tcp_works, udp_ask


@pytest.fixture
def pods(clean):
    clean.apply(namespace_object("shop", {"team": "sales"}), namespace_object("bank", {}))
    return {
        "web": clean.add_pod("shop", "web", {"app": "web"}),
        "db": clean.add_pod("shop", "db", {"app": "db"}),
        "spy": clean.add_pod("bank", "spy", {"app": "web"}),
    }


def allow_from(selector, port=None, name="db", types=None):
    rule = {"from": [{"podSelector": {"matchLabels": selector}}]}
    if port:
        rule["ports"] = [{"port": port}]
    return policy_object("shop", name, {"matchLabels": {"app": "db"}}, ingress=[rule], types=types)


def dead_both_ways(link: TcpLink):
    """Neither end's next bytes reach the other."""
    return not link.passes(link.client, link.server, b"x", QUIET) and not link.passes(
        link.server, link.client, b"y", QUIET
    )


def test_revoked_connection_stops_in_both_directions(clean, pods, family):
    with tcp_open(pods["web"], pods["db"], family) as link:
        assert link.alive()
        clean.apply(policy_object("shop", "db", {"matchLabels": {"app": "db"}}, ingress=[]))
        assert dead_both_ways(link)
        assert clean.drops("revoked") > 0


def test_revoked_by_egress(clean, pods, family):
    with tcp_open(pods["web"], pods["db"], family) as link:
        selector = {"matchLabels": {"app": "web"}}
        clean.apply(policy_object("shop", "web", selector, egress=[], types=["Egress"]))
        assert dead_both_ways(link)


@pytest.mark.parametrize("to", ("outside", "from outside"))
def test_revoked_connection_with_the_outside(clean, pods, family, to):
    ends = (pods["db"], clean.outside)
    src, dst = ends if to == "outside" else ends[::-1]
    with tcp_open(src, dst, family) as link:
        assert link.alive()
        clean.apply(policy_object("shop", "all", ingress=[], egress=[], types=["Ingress", "Egress"]))
        assert dead_both_ways(link)


def test_allowed_connection_is_not_disturbed(clean, pods, family):
    """While another policy comes and goes the stream keeps its pace."""
    port = port_new()
    with tcp_open(pods["web"], pods["db"], family, port) as link:
        for round_ in range(10):
            clean.apply(allow_from({"app": "web"}, port))
            assert link.alive(0.5), f"after allowing, round {round_}"
            clean.apply(policy_object("shop", "other", {"matchLabels": {"app": "web"}}, ingress=[]))
            assert link.alive(0.5), f"after an unrelated policy, round {round_}"
            clean.delete(policy_object("shop", "other"), allow_from({"app": "web"}))
            assert link.alive(0.5), f"after deleting both, round {round_}"


def test_connection_of_the_opener_survives_a_policy_against_the_reply(clean, pods, family):
    """Policies judge who opens: replies need no rule."""
    with tcp_open(pods["web"], pods["db"], family) as link:
        selector = {"matchLabels": {"app": "web"}}
        clean.apply(policy_object("shop", "web", selector, ingress=[]))
        assert link.alive()
        assert not tcp_works(pods["db"], pods["web"], family, seconds=QUIET)


def test_node_is_always_allowed(clean, pods, family):
    both = ["Ingress", "Egress"]
    clean.apply(policy_object("shop", "all", ingress=[], egress=[], types=both))
    assert tcp_works(clean, pods["db"], family)
    assert tcp_works(pods["db"], clean, family)
    assert not tcp_works(pods["db"], clean.outside, family, seconds=QUIET)
    assert not tcp_works(clean.outside, pods["db"], family, seconds=QUIET)


def test_label_change_of_a_pod(clean, pods, family):
    clean.apply(allow_from({"role": "client"}))
    assert udp_ask(pods["web"], pods["db"], family, seconds=QUIET) is None
    clean.apply(pod_object("shop", "web", {"app": "web", "role": "client"}, []))
    with tcp_open(pods["web"], pods["db"], family) as link:
        assert link.alive()
        clean.apply(pod_object("shop", "web", {"app": "web"}, []))
        assert dead_both_ways(link)


def test_label_change_of_a_namespace(clean, pods, family):
    rule = {"from": [{"namespaceSelector": {"matchLabels": {"vetted": "yes"}}}]}
    clean.apply(policy_object("shop", "db", {"matchLabels": {"app": "db"}}, ingress=[rule]))
    assert not tcp_works(pods["spy"], pods["db"], family, seconds=QUIET)
    clean.apply(namespace_object("bank", {"vetted": "yes"}))
    with tcp_open(pods["spy"], pods["db"], family) as link:
        assert link.alive()
        clean.apply(namespace_object("bank", {}))
        assert dead_both_ways(link)


def test_new_pod_is_under_policy_from_its_first_packet(clean, pods, family):
    clean.apply(policy_object("shop", "all", ingress=[]))
    for number in range(3):
        late = clean.add_pod("shop", f"late{number}", {"app": "late"})
        assert not tcp_works(pods["spy"], late, family, seconds=QUIET)


def test_address_reused_by_another_pod_inherits_nothing(clean, pods, family):
    """A connection to a removed pod does not reach its successor at the same address."""
    clean.apply(allow_from({"app": "web"}))
    ips = [pods["db"].ip(4), pods["db"].ip(6)]
    port = port_new()
    with bound(pods["web"], family, socket.SOCK_DGRAM) as sock:
        with UdpServer(pods["db"], family, port):
            sock.settimeout(1)
            sock.connect((pods["db"].ip(family), port))
            sock.send(b"hello")
            assert sock.recv(64) == b"hello"
        clean.del_pod(pods["db"])
        closed = {"matchLabels": {"app": "closed"}}
        clean.apply(policy_object("shop", "closed", closed, ingress=[]))
        new = clean.add_pod("shop", "new", {"app": "closed"}, ips=ips)
        with UdpServer(new, family, port) as server:
            for _ in range(3):
                try:
                    sock.send(b"again")
                except OSError:  # an error about an earlier datagram
                    pass
                time.sleep(0.05)
            assert server.seen == 0


class TestI5Atomic:
    """I5: no packet sees half a policy."""

    def test_I5_no_packet_falls_between_two_versions(self, clean, pods, family):
        """Two policies take turns. Both allow one port and deny the other; each turn replaces
        every rule. Not one question to the first is lost, not one to the second answered."""
        open_port, shut_port = port_new(), port_new()
        rules = [
            [{"from": [{"podSelector": {}}], "ports": [{"port": open_port, "protocol": "UDP"}]}],
            [{"ports": [{"port": open_port - 2, "endPort": open_port, "protocol": "UDP"}]}],
        ]
        objects = [
            policy_object("shop", "db", {"matchLabels": {"app": "db"}}, ingress=rule)
            for rule in rules
        ]
        clean.apply(objects[0])
        stop = threading.Event()
        lost = answered = asked = 0
        with (
            UdpServer(pods["db"], family, open_port),
            UdpServer(pods["db"], family, shut_port) as shut,
        ):

            def flip():
                turn = 0
                while not stop.is_set():
                    turn += 1
                    clean.apply(objects[turn % 2])

            flipper = threading.Thread(target=flip)
            flipper.start()
            end = time.monotonic() + 3
            try:
                while time.monotonic() < end:
                    # A new source port each time: new flows and old ones meet the change.
                    with bound(pods["web"], family, socket.SOCK_DGRAM) as sock:
                        sock.settimeout(0.5)
                        sock.sendto(b"shut", (pods["db"].ip(family), shut_port))
                        for _ in range(5):
                            asked += 1
                            sock.sendto(b"open", (pods["db"].ip(family), open_port))
                            try:
                                answered += sock.recv(16) == b"open"
                            except TimeoutError:
                                lost += 1
            finally:
                stop.set()
                flipper.join()
            assert asked > 100
            assert lost == 0, f"{lost} of {asked} lost"
            assert shut.seen == 0
