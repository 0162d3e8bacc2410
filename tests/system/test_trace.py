# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""`towpath trace` tells what becomes of a packet, and leaves nothing anywhere."""

import contextlib
import http.client
import json
import os
import threading

import pytest
from bpfmap import Map
from node import ApiError, Node, namespace_object, policy_object
from packet import Wire
from traffic import QUIET, bound, port_new, tcp_open, tcp_works, wait_for

PORT = 5432


@pytest.fixture(scope="module")
def node():
    with Node() as made:
        made.apply(namespace_object("shop", {}))
        rule = {
            "from": [{"podSelector": {"matchLabels": {"app": "web"}}}],
            "ports": [{"port": PORT}],
        }
        made.add_pod("shop", "web", {"app": "web"})
        made.add_pod("shop", "db", {"app": "db"})
        made.add_pod("default", "spy")
        made.apply(policy_object("shop", "only-web", {"matchLabels": {"app": "db"}}, [rule]))
        yield made


def trace(node, src, dst, dport, family=None, **more):
    body = {"from": str(src), "to": str(dst), "dport": dport, **more}
    if family is not None:
        body["family"] = family
    return node.api("POST", "/v1/trace", body)


def pod(node, name):
    return next(p for p in node.pods.values() if p.name == name)


def results(reply, step):
    return " ".join(s["result"] for s in reply["steps"] if s["step"] == step)


def test_allowed_step_by_step(node, family):
    reply = trace(node, "shop/web", "shop/db", PORT, family)
    assert reply["verdict"] == "allow" and reply["pod"] == "shop/db"
    assert reply["from"]["ip"] == pod(node, "web").ip(family)
    steps = [s["step"] for s in reply["steps"]]
    order = ["packet", "program", "flow", "from", "to", "egress", "ingress", "entry", "verdict"]
    assert [s for s in dict.fromkeys(steps) if s in order] == order
    flow = next(s for s in reply["steps"] if s["step"] == "flow")
    assert flow["map"] == f"tw_flow{family}" and flow["result"].startswith("no entry")
    assert "shop/web" in results(reply, "from") and "shop/db" in results(reply, "to")
    assert "allowed: shop/only-web, spec.ingress[0]" in results(reply, "ingress")
    assert reply["interface"] == pod(node, "db").port


def test_denied_names_the_policy(node, family):
    reply = trace(node, "spy", "shop/db", PORT, family)
    assert (reply["verdict"], reply["reason"]) == ("deny", "policy_ingress")
    assert "denied: no rule of shop/only-web" in results(reply, "ingress")
    assert not results(reply, "entry")
    reply = trace(node, "shop/web", "shop/db", PORT + 1, family)
    assert reply["reason"] == "policy_ingress"


def test_translation_is_foretold(node, family):
    """The port of the trace is the one that the connection then leaves with."""
    outside, web = node.outside, pod(node, "web")
    port, sport = port_new(), 45000 + port_new() % 1000
    reply = trace(node, "shop/web", outside.ip(family), port, sport=sport)
    assert reply["verdict"] == "allow" and reply["interface"] == "up0"
    assert reply["next_hop"] == outside.ip(family)
    with tcp_open(web, outside, family, port, sport=sport) as link:
        seen = link.server.getpeername()
        name = f"[{seen[0]}]:{seen[1]}" if family == 6 else f"{seen[0]}:{seen[1]}"
        assert results(reply, "translate") == f"source becomes {name}"
        assert f"source is now {name}" in results(reply, "rewrite")
        # The same packet now belongs to it; so does an answer, which an uplink sees.
        reply = trace(node, "shop/web", outside.ip(family), port, sport=sport, flags="A")
        assert "the decision holds" in results(reply, "epoch")
        assert not results(reply, "translate") and not results(reply, "from")
        reply = trace(node, outside.ip(family), "host", seen[1], sport=port, flags="A")
        assert reply["pod"] == "shop/web"
        answer = f"destination is now {web.ip(family)}:{sport}"
        if family == 6:
            answer = f"destination is now [{web.ip(6)}]:{sport}"
        assert answer in results(reply, "rewrite")


def test_host_and_outside(node, family):
    reply = trace(node, "host", "shop/db", 1, family)
    assert reply["verdict"] == "allow" and "not asked" in results(reply, "policy")
    assert "into the container" in results(reply, "verdict")
    reply = trace(node, "shop/db", "host", 1, family)
    assert "to the node's own stack" in results(reply, "verdict")
    reply = trace(node, "outside", "shop/db", PORT, family)
    assert reply["reason"] == "policy_ingress"
    reply = trace(node, "outside", "host", 22, family)
    assert "for no container" in results(reply, "verdict")


def test_sizes_flags_and_echo(node, family):
    reply = trace(node, "shop/web", "outside", 53, family, proto="udp", payload=3000)
    assert reply["reason"] == "too_big" and "ICMP error" in results(reply, "verdict")
    reply = trace(node, "shop/web", "outside", 53, family, ttl=1)
    assert reply["reason"] == "ttl_expired"
    reply = trace(node, "shop/web", "shop/db", PORT, family, flags="rst")
    assert reply["reason"] == "no_flow"
    proto = "icmp" if family == 4 else "icmpv6"
    reply = trace(node, "shop/web", "spy", 0, family, proto=proto)
    assert reply["verdict"] == "allow" and "dport" not in reply


HASHES = ("tw_flow4", "tw_flow6", "tw_peers", "tw_uplinks", "tw_nomasq", "tw_ipcache6", "tw_frags")
# A ring, whose records are counted; per CPU: compared by the sums that the agent gives.
OTHERWISE = ("tw_events", "tw_metrics", "tw_counters")


def pins(node):
    """Every pinned map's bytes, but for the agent's heartbeat."""
    found = {}
    for path in sorted((node.run_dir / "bpf").glob("**/maps/v*/tw_*")):
        if path.name in OTHERWISE:
            continue
        with Map(path) as made:
            found[path.name] = sorted(made.items()) if path.name in HASHES else made.raw()
    assert len(found) > 12
    config = found["tw_config"]
    found["tw_config"] = config[:4] + config[8:]
    return found


def state(node):
    status = node.status()
    counters = {k: v for k, v in status["counters"].items() if k != "flows_live"}
    return pins(node), status["drops"], counters


def test_nothing_is_changed_and_nothing_sent(node, family):
    """Every map as before, byte for byte; nothing arrives; nothing is logged."""
    web, db = pod(node, "web"), pod(node, "db")
    port, known = port_new(), port_new()
    with contextlib.ExitStack() as stack:
        wires = [
            stack.enter_context(Wire(place.netns, interface))
            for place, interface in ((db, "eth0"), (web, "eth0"), (node.outside, "net0"))
        ]
        link = stack.enter_context(tcp_open(web, node.outside, family, known))
        sport = link.client.getsockname()[1]

        def unchanged():
            """The node's own noise (neighbour discovery) may fall into a round."""
            before = state(node)
            records = len(node.flows(last=100000))
            for _ in range(3):
                trace(node, "shop/web", "shop/db", PORT, family, sport=port)
                trace(node, "spy", "shop/db", PORT, family, sport=port)
                trace(node, "shop/web", "outside", port, family)
                trace(node, "shop/web", node.outside.ip(family), known, sport=sport, flags="FA")
                trace(node, "shop/web", "outside", port, family, ttl=1)
                trace(node, "outside", "shop/web", port, family)
                trace(node, "host", "shop/db", port, family)
            return before == state(node) and records == len(node.flows(last=100000))

        assert any(unchanged() for _ in range(5))
        mine = (port, PORT)
        for wire in wires:
            for packet in wire.packets(QUIET / 2):
                assert packet.dport not in mine and packet.sport not in mine, packet
        assert link.passes(link.client, link.server)


def test_one_second_load_serves_them_all(node):
    trace(node, "shop/web", "shop/db", PORT)
    fds = len(os.listdir(f"/proc/{node.agent.pid}/fd"))
    for _ in range(5):
        trace(node, "shop/web", "shop/db", PORT)
    assert len(os.listdir(f"/proc/{node.agent.pid}/fd")) <= fds + 1
    # It is given back when nobody asks any more.
    assert wait_for(lambda: len(os.listdir(f"/proc/{node.agent.pid}/fd")) < fds - 10, 15, 0.1)


def test_command(node):
    words = ("trace", "--from", "shop/web", "--to", "shop/db", "--dport", PORT)
    done = node.towpath(*words)
    lines = done.stdout.splitlines()
    assert lines[0].startswith("packet ") and lines[-1].startswith("verdict   allowed: into shop/db")
    assert any(line.startswith("flow      tw_flow4[") for line in lines)
    assert json.loads(node.towpath(*words, "-o", "json").stdout)["verdict"] == "allow"
    done = node.towpath("trace", "--from", "spy", "--to", "shop/db", "--dport", PORT, "-6")
    assert done.stdout.splitlines()[-1].startswith("verdict   dropped: policy_ingress")


REFUSED = (
    ({"from": "nobody", "to": "shop/db", "dport": 1}, 404, "there is no pod default/nobody"),
    ({"from": "host", "to": "host", "dport": 1}, 400, "neither end"),
    ({"from": "shop/web", "to": "shop/db"}, 400, "tcp needs a port"),
    ({"from": "shop/web", "to": "shop/db", "dport": 70000}, 400, "dport must be a number"),
    ({"from": "shop/web", "to": "shop/db", "dport": 1, "flags": "X"}, 400, "flags takes letters"),
    ({"from": "shop/web", "to": "shop/db", "dport": 1, "payload": 9000}, 400, "payload must be"),
    ({"from": "shop/web", "to": "shop/db", "proto": "icmp", "family": 6}, 400, "not of the ends'"),
    ({"from": "shop/web", "to": "shop/db", "proto": "gre", "dport": 1}, 400, "proto must be"),
    ([], 400, "must be an object"),
)


@pytest.mark.parametrize("body, status, sentence", REFUSED)
def test_refused_in_one_sentence(node, body, status, sentence):
    with pytest.raises(ApiError) as refused:
        node.api("POST", "/v1/trace", body)
    assert refused.value.status == status and sentence in refused.value.reply["error"]


def test_traffic_goes_on(node, family):
    """Nothing of the above has broken what it told about."""
    assert tcp_works(pod(node, "web"), pod(node, "db"), family, PORT)
    with bound(pod(node, "db"), family, 1):
        assert trace(node, "shop/web", "shop/db", PORT, family)["verdict"] == "allow"


def test_the_agent_stops_under_a_trace(node):
    """Whoever waits for a trace that has just begun is told, and the agent ends in order."""
    node.restart()
    told = []

    def ask():
        try:
            told.append(trace(node, "shop/web", "shop/db", PORT)["verdict"])
        except (ApiError, OSError, http.client.HTTPException) as err:
            told.append(err)

    asker = threading.Thread(target=ask)
    asker.start()
    before = len(os.listdir(f"/proc/{node.agent.pid}/fd"))
    # The second load has begun: it opens maps by the dozen.
    wait_for(lambda: len(os.listdir(f"/proc/{node.agent.pid}/fd")) > before + 3 or told)
    assert node.stop() == 0
    asker.join(20)
    assert len(told) == 1
    node.start()
    assert trace(node, "shop/web", "shop/db", PORT)["verdict"] == "allow"
