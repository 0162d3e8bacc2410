# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""CHECK, STATUS and GC with a running agent.

The names carry the numbers of the checklist in docs/design/cni.md.
"""

import json

import pytest

from cni import Attachment, container, endpoints, left
from netns import run
from node import Node, policy_object
from traffic import wait_for


def test_D1_check_after_add(attachment):
    attachment.add_ok()
    answer = attachment.check()
    assert (answer.code, answer.stdout) == (0, "")


CONTAINER_DAMAGE = {
    "interface": "link del eth0",
    "down": "link set eth0 down",
    "mac": "link set eth0 address 02:00:00:00:00:09",
    "ipv4": "addr del {4} dev eth0",
    "ipv6": "addr del {6} dev eth0",
    "default4": "route del default",
    "default6": "-6 route del default",
    "gateway": "route replace default via 169.254.1.2 dev eth0 onlink",
    "to_gateway": "route del 169.254.1.1",
}


@pytest.mark.parametrize("what", CONTAINER_DAMAGE)
def test_D3_check_sees_the_container(attachment, netns, what):
    attachment.add_ok()
    assert attachment.check().code == 0
    words = CONTAINER_DAMAGE[what]
    full = {f: f"{attachment.address(f)}/{32 if f == 4 else 128}" for f in (4, 6)}
    words = words.replace("{4}", full[4]).replace("{6}", full[6])
    if what == "to_gateway":  # first what rests on it
        netns.ip("route del default", "route add default dev eth0 via 169.254.1.1 onlink")
    if words.startswith("-6 "):
        netns.run("ip", *words.split())
    else:
        netns.ip(words)
    assert attachment.check().code == 103


NODE_DAMAGE = {
    "port gone": "link del {port}",
    "port down": "link set {port} down",
    "port mac": "link set {port} address 02:00:00:00:00:09",
    "route4": "route del {4}",
    "route6": "-6 route del {6}",
    "neighbour4": "neigh del {4} dev {port}",
    "neighbour6": "neigh replace {6} lladdr 02:00:00:00:00:09 dev {port} nud permanent",
}


@pytest.mark.parametrize("what", NODE_DAMAGE)
def test_D4_check_sees_the_node(node, attachment, what):
    attachment.add_ok()
    assert attachment.check().code == 0
    words = NODE_DAMAGE[what].replace("{port}", attachment.port())
    words = words.replace("{4}", attachment.address(4)).replace("{6}", attachment.address(6))
    node.netns.run("ip", *words.split())
    assert attachment.check().code == 103


@pytest.mark.parametrize("family", ("ipv4", "ipv6"))
def test_D4_check_sees_forwarding(node, attachment, family):
    attachment.add_ok()
    node.netns.sysctl(f"{family}/conf/{attachment.port()}/forwarding", 0)
    assert attachment.check().code == 103


def test_D4_check_sees_a_missing_program(node, attachment):
    """A link that was detached by force stays off until the agent looks, once a second; so one of
    several questions asked at once meets the gap."""
    attachment.add_ok()
    index = node.netns.ifindex(attachment.port())

    def missed():
        pin = node.run_dir / "bpf/links" / f"port_in_{index}"
        run("bpftool", "link", "detach", "pinned", str(pin))
        return attachment.check().code == 103

    assert any(missed() for _ in range(20))
    assert wait_for(lambda: attachment.check().code == 0, 10)


@pytest.mark.parametrize("named", ("web", "client", "nobody"))
def test_D4_check_after_a_policy_tells_pods_apart(clean, named):
    """Which changes the identity of a pod that the policy does not select."""
    node = clean
    pods = [node.add_pod("shop", name, {"app": name}) for name in ("web", "client")]
    web = {"matchLabels": {"app": "web"}}
    for app in ("other", named, "other"):
        peer = {"podSelector": {"matchLabels": {"app": app}}}
        node.apply(policy_object("shop", "web", web, ingress=[{"from": [peer]}]))
        for pod in pods:
            node.cni_result("CHECK", pod, config={**pod.config, "prevResult": pod.result})


def test_D4_check_without_agent():
    with Node() as node, container() as netns:
        one = Attachment(node, netns)
        one.add_ok()
        node.kill()
        assert one.check().code == 11


def test_D4_check_of_nothing(node, attachment):
    attachment.add_ok()
    attachment.delete()
    assert attachment.check().code == 103


def test_D5_what_later_plugins_changed(attachment, netns):
    attachment.add_ok()
    mac = "02:00:00:00:00:09"
    netns.ip(f"link set eth0 address {mac}", "addr add 192.0.2.1/32 dev eth0",
             "route add 192.0.2.128/25 via 169.254.1.1 dev eth0")  # fmt: skip
    final = json.loads(json.dumps(attachment.result))
    final["interfaces"][1]["mac"] = mac
    assert attachment.check(final).code == 0


def test_D8_status(node, attachment):
    answer = attachment.call("STATUS")
    assert (answer.code, answer.stdout) == (0, "")


def test_D9_status_follows_the_agent():
    with Node() as node, container() as netns:
        one = Attachment(node, netns)
        assert one.call("STATUS").code == 0
        node.kill()
        assert one.call("STATUS").code == 50
        node.start()
        assert one.call("STATUS").code == 0


def test_D10_status_changes_nothing(node, attachment):
    attachment.add_ok()
    before = left(node)
    attachment.call("STATUS")
    assert left(node) == before


def _gc(one, keep, **more):
    valid = [{"containerID": a.container_id, "ifname": a.ifname} for a in keep]
    config = {**one.config, "cni.dev/valid-attachments": valid, **more}
    return one.call("GC", config=config)


def test_D13_D14_D15_D16_D17_gc(node):
    with container() as a, container() as b, container() as c:
        kept = Attachment(node, a)
        stale = Attachment(node, b)
        other = Attachment(node, c, name="othernet")
        second = Attachment(node, a, kept.container_id, ifname="net1")
        for one in (kept, stale, other, second):
            one.add_ok()
        with open_connection(node, kept) as connection:
            for _ in range(2):
                answer = _gc(kept, [kept])
                assert (answer.code, answer.stdout) == (0, "")
            assert endpoints(node) == {(kept.container_id, "eth0"), (other.container_id, "eth0")}
            assert stale.link() is None and second.link() is None
            connection()
        assert kept.check().code == 0
        # D19: no list at all, and the list by its early name.
        assert kept.call("GC").code == 0
        assert len(endpoints(node)) == 2
        early = {**kept.config, "cni.dev/attachments": []}
        assert kept.call("GC", config=early).code == 0
        assert endpoints(node) == {(other.container_id, "eth0")}
        assert other.delete().code == 0


class open_connection:
    """TCP from the node into a container; calling it moves bytes over the open connection."""

    def __init__(self, node, attachment):
        import socket

        self.listener = attachment.netns.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.listener.bind(("0.0.0.0", 0))
        self.listener.listen()
        self.client = node.netns.socket(socket.AF_INET, socket.SOCK_STREAM)
        for one in (self.client, self.listener):
            one.settimeout(5)
        self.client.connect((attachment.address(4), self.listener.getsockname()[1]))
        self.server = self.listener.accept()[0]

    def __enter__(self):
        return self

    def __call__(self):
        self.client.sendall(b"still here")
        assert self.server.recv(100) == b"still here"

    def __exit__(self, *_exc):
        for one in (self.client, self.server, self.listener):
            one.close()
