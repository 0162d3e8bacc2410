# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""The CNI plugin and a running agent: what ADD makes, DEL removes, CHECK and GC see.

The names carry the numbers of the checklist in docs/design/cni.md.
"""

import concurrent.futures
import ipaddress
import json
import os
import random
import signal
import subprocess
import time

import pytest

from cni import VERSIONS, Attachment, container, endpoints, ports, run_raw
from node import Node, binary


@pytest.fixture
def netns(node):
    with container() as made:
        yield made


@pytest.fixture
def attachment(node, netns):
    made = Attachment(node, netns)
    yield made
    made.delete()


@pytest.fixture
def small():
    """A node with room for two containers."""
    pools = ("--pod-cidr", "10.99.0.0/30", "--pod-cidr", "fd00:99::/64")
    with Node(options=pools) as made:
        yield made


def pings(netns, address):
    argv = ("ping", "-n", "-c", "1", "-W", "1", address)
    return netns.run(*argv, check=False).returncode == 0


def left(node):
    """What an attachment may leave behind on a node."""
    routes = [r["dst"] for r in node.netns.ip_json("route") if r["dev"].startswith("tw")]
    routes += [r["dst"] for r in node.netns.ip_json("-6 route") if r["dev"].startswith("tw")]
    used = {p["subnet"]: p["used"] for p in node.status()["pools"]}
    return ports(node), endpoints(node), sorted(routes), used


# ---- B: ADD ------------------------------------------------------------------------------------


def test_B1_B7_result_is_what_the_kernel_has(attachment, netns):
    result = attachment.add_ok()
    ours = result["interfaces"][1]
    link = attachment.link()
    assert "UP" in link["flags"]
    assert ours["mac"] == link["address"]
    assert ours["mtu"] == link["mtu"]
    has = {f"{a['local']}/{a['prefixlen']}" for a in link["addr_info"]}
    assert has == {ip["address"] for ip in result["ips"]}
    kernel = set()
    for family in ("-4", "-6"):
        for route in netns.ip_json(f"{family} route"):
            if route["dst"] == "default":
                kernel.add(("default" + family, route["gateway"]))
            elif family == "-4":
                kernel.add((route["dst"], None))
    names = {"0.0.0.0/0": "default-4", "::/0": "default-6", "169.254.1.1/32": "169.254.1.1"}
    assert {(names[r["dst"]], r.get("gw")) for r in result["routes"]} == kernel


@pytest.mark.parametrize("other_id", (False, True))
def test_B2_existing_interface(node, attachment, netns, other_id):
    attachment.add_ok()
    before = (attachment.link(), left(node))
    second = Attachment(node, netns, None if other_id else attachment.container_id)
    answer = second.add()
    assert answer.code >= 100
    assert "eth0" in answer.msg
    assert (attachment.link(), left(node)) == before


def test_B2_interface_of_somebody_else(node, attachment, netns):
    netns.ip("link add eth0 type veth peer name eth9")
    before = (attachment.link(), left(node))
    assert attachment.add().code >= 100
    attachment.delete()
    assert (attachment.link(), left(node)) == before


def test_B3_no_namespace(node, attachment):
    before = left(node)
    assert attachment.add(CNI_NETNS="/nonexistent").code == 8
    assert left(node) == before


@pytest.mark.parametrize("version", VERSIONS)
def test_B4_D23_every_version(node, netns, version):
    one = Attachment(node, netns, cniVersion=version)
    result = one.add_ok()
    assert result["cniVersion"] == version
    old = version < "1"
    for ip in result["ips"]:
        family = str(ipaddress.ip_interface(ip["address"]).version)
        assert ip.get("version") == (family if old else None)
    for itf in result["interfaces"]:
        assert ("mtu" in itf) == (version == "1.1.0")
    for route in result["routes"]:
        assert set(route) <= {"dst", "gw"} or version == "1.1.0"
    if version != "0.3.1":
        assert one.check().code == 0
    answer = one.delete()
    assert (answer.code, answer.stdout) == (0, "")
    assert one.link() is None


def test_B5_B6_interfaces(node, attachment, netns):
    result = attachment.add_ok()
    host, ours = result["interfaces"]
    assert host["name"] in ports(node)
    assert host["mac"] == node.netns.mac(host["name"])
    assert not host.get("sandbox")
    assert (ours["name"], ours["sandbox"]) == ("eth0", netns.path)
    assert {ip["interface"] for ip in result["ips"]} == {1}


@pytest.mark.parametrize(
    "bad",
    (
        {"mtu": 68}, {"mtu": 70000}, {"subnets": ["10.0.0.0/33"]}, {"subnets": ["10.0.0.0"]},
        {"labels": {"a": 1}}, {"runtimeConfig": {"mac": "xx"}},
        {"runtimeConfig": {"mac": "01:00:00:00:00:01"}}, {"runtimeConfig": {"ips": "1.2.3.4"}},
        {"runtimeConfig": {"ips": ["1.2.3"]}}, {"subnets": ["10.1.0.0/16", "10.1.2.0/24"]},
    ),
)  # fmt: skip
def test_B8_F4_H2_bad_config_changes_nothing(node, netns, bad):
    before = left(node)
    one = Attachment(node, netns, **bad)
    assert one.add().code == 7
    assert left(node) == before
    assert one.link() is None


def test_B8_failure_in_the_kernel_is_undone(node, attachment, netns):
    """The pair and the addresses are there when the kernel refuses a part of it."""
    netns.sysctl("ipv4/conf/default/forwarding", 1)
    # A route to the gateway that is in the way of both tables that the agent may use.
    netns.ip("link set lo up", *(f"route add 169.254.1.1 dev lo table {t}"
                                 for t in ("main", *range(1001, 1040))))  # fmt: skip
    before = left(node)
    answer = attachment.add()
    assert answer.code != 0, answer
    assert left(node) == before
    assert attachment.link() is None


def test_B9_two_interfaces(node, netns):
    one = Attachment(node, netns)
    two = Attachment(node, netns, one.container_id, ifname="net1")
    one.add_ok()
    two.add_ok()
    assert {one.container_id} == {id for id, _ in endpoints(node)}
    for family in (4, 6):
        assert pings(node.netns, one.address(family))
        assert pings(node.netns, two.address(family))
    assert one.check().code == 0
    assert two.check().code == 0
    # C9: DEL of the one leaves the other alone.
    assert two.delete().code == 0
    assert two.link() is None
    assert pings(node.netns, one.address(4))
    assert one.delete().code == 0
    assert endpoints(node) == set()


def test_B10_again_after_del(attachment):
    for _ in range(3):
        attachment.add_ok()
        assert attachment.delete().code == 0


def test_B11_D9_exhausted(small):
    with container() as a, container() as b, container() as c:
        one, two, three = (Attachment(small, netns) for netns in (a, b, c))
        assert one.call("STATUS").code == 0
        one.add_ok()
        two.add_ok()
        before = left(small)
        answer = three.add()
        assert answer.code == 102
        assert left(small) == before
        assert one.call("STATUS").code == 50
        address = one.address(4)
        assert one.delete().code == 0
        assert one.call("STATUS").code == 0
        three.add_ok()
        assert three.address(4) == address  # nothing else is free, so it need not rest


def test_B13_both_families_usable_at_once(node, attachment, netns):
    result = attachment.add_ok()
    assert sorted(ipaddress.ip_interface(i["address"]).version for i in result["ips"]) == [4, 6]
    for info in attachment.link()["addr_info"]:
        assert not info.get("tentative")
    for family in (4, 6):
        assert pings(netns, node.outside.node_ip[family])
        assert pings(node.netns, attachment.address(family))


def test_B13_the_first_packet_is_answered(node, attachment):
    """The kernel makes an IPv6 address local a little after it has taken it."""
    for _ in range(25):
        attachment.add_ok()
        assert pings(node.netns, attachment.address(6))
        attachment.delete()


def test_B13_where_ipv6_is_disabled_by_default(node, attachment, netns):
    for where in ("all", "default"):
        netns.sysctl(f"ipv6/conf/{where}/disable_ipv6", 1)
    attachment.add_ok()
    assert pings(netns, node.outside.node_ip[6])


def test_B14_leftovers_of_a_crash(node, attachment, netns):
    """A port of this very attachment without a record, and a stale route to the address."""
    attachment.add_ok()
    port, address = attachment.port(), attachment.address(4)
    attachment.delete()
    node.netns.ip(
        f"link add {port} type veth peer name peer0", f"link set {port} up",
        "link add stale0 type veth peer name stale1", "link set stale0 up", f"route add {address}/32 dev stale0",
    )  # fmt: skip
    attachment.config["runtimeConfig"] = {"ips": [address]}
    try:
        attachment.add_ok()
        assert pings(node.netns, address)
        assert "peer0" not in {r["ifname"] for r in node.netns.ip_json("link")}
    finally:
        node.netns.ip("link del stale0")


def test_B15_add_while_status_fails(small):
    with container() as a, container() as b:
        one, two = Attachment(small, a), Attachment(small, b)
        one.add_ok()
        two.add_ok()
        assert one.call("STATUS").code == 50
        with container() as c:
            assert Attachment(small, c).add().code == 102


# ---- A: many and killed runs --------------------------------------------------------------------


def test_A22_fifty_at_once(node):
    with concurrent.futures.ThreadPoolExecutor(50) as pool:
        contexts = [container() for _ in range(50)]
        places = [context.__enter__() for context in contexts]
        all_of_them = [Attachment(node, netns) for netns in places]
        try:
            answers = list(pool.map(Attachment.add, all_of_them))
            assert [a.code for a in answers] == [0] * 50
            for family in (4, 6):
                assert len({a.address(family) for a in all_of_them}) == 50
            assert pings(places[0], all_of_them[49].address(4))
            assert pings(places[49], all_of_them[0].address(6))
            gone = list(pool.map(Attachment.delete, all_of_them))
            assert [a.code for a in gone] == [0] * 50
            assert left(node)[:3] == (set(), set(), [])
        finally:
            for context in contexts:
                context.__exit__(None, None, None)


def test_A23_C7_plugin_killed_in_the_middle(node, attachment, netns):
    rng = random.Random(23)
    words = {**attachment.env(), "CNI_COMMAND": "ADD", "PATH": os.environ["PATH"]}
    for _ in range(20):
        with subprocess.Popen(
            node.netns.argv(binary("towpath-cni")), env=words, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        ) as plugin:  # fmt: skip
            plugin.stdin.write(json.dumps(attachment.config))
            plugin.stdin.close()
            time.sleep(rng.uniform(0, 0.02))
            plugin.kill()
        assert attachment.delete().code == 0
        # The agent may have been at work on the ADD when DEL came: it does one at a time.
        assert attachment.link() is None
        attachment.add_ok()
        assert pings(node.netns, attachment.address(4))
        assert attachment.delete().code == 0
    assert left(node)[:3] == (set(), set(), [])


def test_A23_agent_killed_in_the_middle():
    rng = random.Random(24)
    with Node() as node, container() as netns:
        one = Attachment(node, netns)
        for _ in range(8):
            with concurrent.futures.ThreadPoolExecutor(1) as pool:
                running = pool.submit(one.add)
                time.sleep(rng.uniform(0.003, 0.03))
                node.kill()
                answer = running.result()
            assert answer.code in (0, 11)
            node.start()
            assert one.delete().code == 0
            assert one.link() is None
            assert left(node)[:3] == (set(), set(), [])
            one.add_ok()
            assert pings(node.netns, one.address(6))
            assert one.delete().code == 0


# ---- C: DEL ----------------------------------------------------------------------------------------


def test_C1_all_is_gone(node, attachment):
    before = left(node)
    attachment.add_ok()
    assert left(node) != before
    answer = attachment.delete()
    assert (answer.code, answer.stdout) == (0, "")
    assert left(node) == before
    assert attachment.link() is None


def test_C2_twice_and_never_added(node, attachment, netns):
    assert attachment.delete().code == 0
    attachment.add_ok()
    for _ in range(2):
        answer = attachment.delete()
        assert (answer.code, answer.stdout) == (0, "")


@pytest.mark.parametrize("path", (None, "", "/nonexistent/netns"))
def test_C3_C4_without_namespace(node, attachment, path):
    before = left(node)
    attachment.add_ok()
    assert attachment.delete(CNI_NETNS=path).code == 0
    assert left(node) == before
    assert attachment.link() is None


def test_C4_namespace_gone(node):
    before = left(node)
    with container() as netns:
        one = Attachment(node, netns)
        one.add_ok()
    assert one.delete().code == 0
    assert left(node) == before


@pytest.mark.parametrize("where", ("container", "node"))
def test_C6_interface_removed_by_hand(node, attachment, netns, where):
    before = left(node)
    attachment.add_ok()
    if where == "container":
        netns.ip("link del eth0")
    else:
        node.netns.ip(f"link del {attachment.port()}")
    assert attachment.delete().code == 0
    assert left(node) == before


def test_C10_address_went_to_another(small):
    """The first container's interface vanished and its address was given away."""
    with container() as a, container() as b:
        one = Attachment(small, a)
        one.add_ok()
        stale = dict(one.result)
        assert one.delete().code == 0
        two = Attachment(small, b, runtimeConfig={"ips": [one.address(4)]})
        two.add_ok()
        config = {**one.config, "prevResult": stale}
        assert one.call("DEL", config=config).code == 0
        assert two.check().code == 0
        assert pings(small.netns, two.address(4))


def test_C12_without_agent_then_finished_by_it():
    with Node() as node, container() as a, container() as b:
        one, two = Attachment(node, a), Attachment(node, b)
        one.add_ok()
        two.add_ok()
        node.kill()
        assert pings(node.netns, two.address(4))
        assert one.delete().code == 0
        assert one.link() is None
        assert two.add().code == 11
        node.start()
        assert endpoints(node) == {(two.container_id, "eth0")}
        assert not list((node.state_dir / "pending-del").iterdir())
        assert two.check().code == 0
        one.add_ok()
        assert one.address(4) not in (None, two.address(4))


def test_C13_configuration_of_another_revision(node, attachment):
    before = left(node)
    attachment.add_ok()
    config = {**attachment.config, "subnets": ["10.200.0.0/16"], "mtu": 9000, "cniVersion": "0.4.0"}
    assert attachment.call("DEL", config=config).code == 0
    assert left(node) == before


# ---- D: CHECK, STATUS, GC ----------------------------------------------------------------------------


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
    """A link that lost its pin is gone from the interface."""
    attachment.add_ok()
    index = node.netns.ifindex(attachment.port())
    pins = list((node.run_dir / "bpf").rglob(f"port_*_{index}"))
    assert pins
    pins[0].unlink()
    assert attachment.check().code == 103


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


# ---- E, G: the result, alone and in a chain --------------------------------------------------------------


def test_E1_E2_E3_E4_E6_form(attachment):
    result = attachment.add_ok()
    assert set(result) == {"cniVersion", "interfaces", "ips", "routes", "dns"}
    for itf in result["interfaces"]:
        assert set(itf) <= {"name", "mac", "sandbox", "mtu"}
        assert isinstance(itf["mtu"], int)
    for ip in result["ips"]:
        assert ipaddress.ip_interface(ip["address"]).network.num_addresses == 1
        assert ipaddress.ip_address(ip["gateway"]).is_link_local
        assert isinstance(ip["interface"], int)
    for route in result["routes"]:
        ipaddress.ip_network(route["dst"])
        if "gw" in route:
            ipaddress.ip_address(route["gw"])
        else:
            assert route["scope"] == 253
    assert result["dns"] == {}


def test_E9_dns_is_passed_on(node, netns):
    dns = {"nameservers": ["192.0.2.53"], "search": ["a.b"], "domain": "b", "options": ["ndots:2"]}
    one = Attachment(node, netns, dns=dns)
    assert one.add_ok()["dns"] == dns
    one.delete()


@pytest.mark.parametrize("version", VERSIONS)
def test_G1_after_another_plugin(node, netns, version):
    ip = {"address": "192.0.2.7/24", "interface": 0, **({"version": "4"} if version < "1" else {})}
    prev = {
        "cniVersion": version,
        "interfaces": [{"name": "dummy9", "sandbox": netns.path}],
        "ips": [ip],
        "routes": [{"dst": "198.18.0.0/15"}],
        "dns": {"nameservers": ["192.0.2.53"]},
    }
    one = Attachment(node, netns, cniVersion=version, prevResult=prev)
    result = one.add_ok()
    assert result["interfaces"][0] == prev["interfaces"][0]
    assert result["ips"][0] == prev["ips"][0]
    assert result["routes"][0] == prev["routes"][0]
    assert result["dns"] == prev["dns"]
    assert {ip["interface"] for ip in result["ips"][1:]} == {2}
    assert result["interfaces"][2]["name"] == "eth0"
    assert one.delete().code == 0


REFERENCE = "/usr/lib/cni"


@pytest.mark.skipif(not os.path.exists(REFERENCE), reason="package containernetworking-plugins")
@pytest.mark.parametrize("plugin", ("tuning", "bandwidth"))
def test_G4_chain_with_reference_plugins(node, netns, plugin):
    """As a runtime does it: our result is the next plugin's prevResult, and DEL goes back."""
    one = Attachment(node, netns, cniVersion="1.0.0")
    more = {
        "tuning": {"mac": "02:00:00:00:00:0a", "mtu": 1400},
        "bandwidth": {"ingressRate": 8000000, "ingressBurst": 8000000,
                      "egressRate": 8000000, "egressBurst": 8000000},
    }[plugin]  # fmt: skip
    conf = {"cniVersion": "1.0.0", "name": "towpath", "type": plugin, **more}

    def chained(command, prev):
        words = {**one.env(CNI_PATH=REFERENCE), "CNI_COMMAND": command, "PATH": os.environ["PATH"]}
        return subprocess.run(
            node.netns.argv(f"{REFERENCE}/{plugin}"), env=words, text=True, check=False,
            input=json.dumps({**conf, "prevResult": prev}), capture_output=True,
        )  # fmt: skip

    added = chained("ADD", one.add_ok())
    assert added.returncode == 0, added.stdout + added.stderr
    final = json.loads(added.stdout)
    assert one.check(final).code == 0
    # A MAC that was changed behind the agent's back is only one that runtimes see.
    if plugin == "bandwidth":
        assert pings(node.netns, one.address(4))
    gone = chained("DEL", final)
    assert gone.returncode == 0, gone.stdout + gone.stderr
    assert one.call("DEL", config={**one.config, "prevResult": final}).code == 0
    assert endpoints(node) == set()


# ---- H: what a runtime may ask for -------------------------------------------------------------------------


def test_H16_addresses_asked_for(node, netns):
    one = Attachment(node, netns, runtimeConfig={"ips": ["10.88.77.7/16", "fd00:10:88::77"]})
    one.add_ok()
    assert (one.address(4), one.address(6)) == ("10.88.77.7", "fd00:10:88::77")
    with container() as other:
        two = Attachment(node, other, runtimeConfig={"ips": ["10.88.77.7"]})
        answer = two.add()
        assert answer.code >= 100 or answer.code == 7
        assert "10.88.77.7" in answer.msg
        three = Attachment(node, other, runtimeConfig={"ips": ["192.0.2.1"]})
        assert three.add().code == 7
    one.delete()


def test_H16_order_of_wishes(node, netns):
    args = "IgnoreUnknown=1;IP=10.88.70.1"
    one = Attachment(node, netns)
    one.add_ok(CNI_ARGS=args)
    assert one.address(4) == "10.88.70.1"
    one.delete()
    one.config["args"] = {"cni": {"ips": ["10.88.70.2"]}}
    one.add_ok(CNI_ARGS=args)
    assert one.address(4) == "10.88.70.2"
    one.delete()
    one.config["runtimeConfig"] = {"ips": ["10.88.70.3"]}
    one.add_ok(CNI_ARGS=args)
    assert one.address(4) == "10.88.70.3"
    one.delete()


def test_H17_mac(node, netns):
    mac = "02:aa:bb:cc:dd:ee"
    one = Attachment(node, netns, runtimeConfig={"mac": mac.upper()})
    result = one.add_ok()
    assert result["interfaces"][1]["mac"] == mac
    assert one.link()["address"] == mac
    assert pings(node.netns, one.address(4))
    one.delete()
    one.config["runtimeConfig"] = {}
    one.add_ok(CNI_ARGS=f"IgnoreUnknown=1;MAC={mac}")
    assert one.link()["address"] == mac
    one.delete()


def test_H18_other_capabilities_are_ignored(node, netns):
    other = {"dns": {"servers": ["1.1.1.1"]}, "aliases": {"net": ["x"]}, "cgroupPath": "/x"}
    one = Attachment(node, netns, runtimeConfig=other)
    one.add_ok()
    one.delete()


# ---- what the checklist has no number for ---------------------------------------------------------------------


def test_mtu_is_the_uplinks_or_the_configured(node, netns):
    one = Attachment(node, netns)
    assert one.add_ok()["interfaces"][1]["mtu"] == 1500
    one.delete()
    one.config["mtu"] = 1400
    assert one.add_ok()["interfaces"][1]["mtu"] == 1400
    assert one.link()["mtu"] == 1400
    one.delete()


def test_subnets_of_a_network(node, netns):
    one = Attachment(node, netns, name="n1", subnets=["10.77.0.0/24", "fd00:77::/64"])
    one.add_ok()
    assert (one.address(4), one.address(6)) == ("10.77.0.1", "fd00:77::1")
    with container() as other:
        two = Attachment(node, other, name="n2", subnets=["10.77.0.128/25"])
        answer = two.add()
        assert answer.code == 7
        assert "10.77.0.0/24" in answer.msg
    one.delete()


def test_released_address_rests(node, netns):
    one = Attachment(node, netns)
    one.add_ok()
    first = one.address(4)
    one.delete()
    one.add_ok()
    assert one.address(4) != first
    one.delete()


def test_no_traffic_of_its_own(node, attachment, netns):
    """No router solicitations, no duplicate address detection, nothing learned."""
    attachment.add_ok()
    assert netns.sysctl("ipv6/conf/eth0/accept_ra") == "0"
    assert all(a["scope"] != "link" for a in attachment.link()["addr_info"])
    port = attachment.port()
    assert node.netns.sysctl(f"ipv6/conf/{port}/accept_ra") == "0"
    assert node.netns.sysctl(f"ipv4/conf/{port}/rp_filter") == "0"
    rows = [r for r in node.netns.ip_json("addr") if r.get("ifname") == port]
    assert rows[0]["addr_info"] == []


def test_port_is_restored_after_restart():
    with Node() as node, container() as netns:
        one = Attachment(node, netns)
        one.add_ok()
        node.kill()
        port = one.port()
        node.netns.ip(f"link set {port} down", f"neigh flush dev {port}")
        node.netns.sysctl(f"ipv6/conf/{port}/forwarding", 0)
        node.start()
        assert one.check().code == 0
        assert pings(node.netns, one.address(4))
        assert pings(node.netns, one.address(6))
        assert one.delete().code == 0


def test_leaked_port_is_removed_at_start():
    with Node(start=False) as node:
        node.netns.ip(
            "link add tw0123456789 type veth peer name leak0",
            "link add twins type veth peer name other0",
        )
        node.start()
        names = {row["ifname"] for row in node.netns.ip_json("link")}
        assert "tw0123456789" not in names
        assert {"twins", "other0"} <= names


def test_signal_during_add_is_no_half_answer(node, attachment):
    """SIGTERM ends the plugin; what it printed so far is nothing or all."""
    words = {**attachment.env(), "CNI_COMMAND": "ADD", "PATH": os.environ["PATH"]}
    with subprocess.Popen(
        node.netns.argv(binary("towpath-cni")), env=words, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as plugin:  # fmt: skip
        plugin.send_signal(signal.SIGTERM)
        out, _ = plugin.communicate(json.dumps(attachment.config))
    if out:
        json.loads(out)
    assert attachment.delete().code == 0


def test_version_with_an_agent(node):
    assert run_raw("VERSION", "{}", netns=node.netns).json["supportedVersions"] == list(VERSIONS)
