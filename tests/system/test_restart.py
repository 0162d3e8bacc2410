# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""The agent dies and comes back; the traffic does not notice."""

import contextlib
import json
import random
import socket
import subprocess
import threading
import time

import pytest
from node import Node, namespace_object, policy_object
from traffic import QUIET, Transfer, UdpServer, bound, port_new, tcp_open, tcp_works, udp_ask


@pytest.fixture(scope="module")
def node():
    with Node() as made:
        made.apply(namespace_object("shop", {"team": "sales"}))
        made.web = made.add_pod("shop", "web", {"app": "web"})
        made.db = made.add_pod("shop", "db", {"app": "db"})
        rule = {"from": [{"podSelector": {"matchLabels": {"app": "web"}}}]}
        made.apply(policy_object("shop", "db", {"matchLabels": {"app": "db"}}, ingress=[rule]))
        yield made


@pytest.mark.parametrize("to", ("db", "outside"))
def test_kill_during_a_transfer_loses_no_byte(node, family, to):
    dst = node.db if to == "db" else node.outside
    with tcp_open(node.web, dst, family) as link:
        transfer = Transfer(link, pace=0.001)
        time.sleep(0.2)
        for _ in range(3):
            before = transfer.received
            node.kill()
            time.sleep(0.2)
            assert transfer.received > before, "the transfer stood still without the agent"
            node.start()
            time.sleep(0.1)
        assert transfer.finish()


def test_policy_holds_while_the_agent_is_dead(node, family):
    with tcp_open(node.web, node.db, family) as link:
        node.kill()
        try:
            assert link.alive()
            assert tcp_works(node.web, node.db, family), "a new allowed connection"
            assert not tcp_works(node.outside, node.db, family, seconds=QUIET)
            assert udp_ask(node.web, node.outside, family), "a new translated connection"
        finally:
            node.start()
        assert link.alive()


def test_restart_changes_nothing_that_can_be_seen(node):
    def state():
        return (
            {k: node.api("GET", f"/v1/objects/{k}")["items"]
             for k in ("Pod", "Namespace", "NetworkPolicy")},
            sorted(node.api("GET", "/v1/endpoints")["items"], key=lambda e: e["port"]),
            node.netns.run("ip", "route").stdout, node.netns.run("ip", "-6", "route").stdout,
        )  # fmt: skip

    before = state()
    node.restart()
    assert state() == before
    node.stop()
    node.start()
    assert state() == before


def test_identity_of_flows_survives(node, family):
    """Restarting does not disturb an idle connection, however often."""
    with tcp_open(node.web, node.db, family) as link:
        for _ in range(5):
            node.restart()
            assert link.alive(0.5)


def test_not_one_datagram_is_lost_over_restarts(node, family):
    port, asked, answered = port_new(), 0, 0
    with UdpServer(node.db, family, port), bound(node.web, family, socket.SOCK_DGRAM) as sock:
        sock.settimeout(1)
        sock.connect((node.db.ip(family), port))
        stop = threading.Event()

        def restart():
            for _ in range(4):
                node.restart()
            stop.set()

        thread = threading.Thread(target=restart)
        thread.start()
        while not stop.is_set():
            asked += 1
            sock.send(asked.to_bytes(4, "big"))
            try:
                answered += sock.recv(16) == asked.to_bytes(4, "big")
            except TimeoutError:
                pass
        thread.join()
    assert asked > 100
    assert answered == asked


def test_container_that_ended_while_the_agent_was_dead(node):
    """DEL without an agent succeeds, the link is gone at once, and the agent finishes it."""
    pod = node.add_pod("shop", "short-lived", {"app": "x"})
    port = pod.port
    node.kill()
    done = node.cni("DEL", pod)
    assert done.returncode == 0, done.stdout
    assert port not in {link["ifname"] for link in node.netns.ip_json("link show")}
    node.start()
    ids = {e["container_id"] for e in node.api("GET", "/v1/endpoints")["items"]}
    assert pod.container_id not in ids
    assert not any((node.state_dir / "pending-del").iterdir())
    del node.pods[("shop", "short-lived")]
    pod.netns.delete()


def test_interface_that_vanished_while_the_agent_was_dead(node):
    pod = node.add_pod("shop", "crashed", {"app": "x"})
    node.kill()
    node.netns.ip(f"link delete {node_port(node, pod)}")
    node.start()
    ids = {e["container_id"] for e in node.api("GET", "/v1/endpoints")["items"]}
    assert pod.container_id not in ids
    del node.pods[("shop", "crashed")]
    pod.netns.delete()


def node_port(node, pod):
    """The port's name by the route to the pod, without the agent."""
    return node.netns.ip_json(f"route get {pod.ip(4)}")[0]["dev"]


def test_kill_at_random_during_changes(node, family):
    """Killed somewhere inside applies and ADDs: what was confirmed is there afterwards, and
    the maps say what the store says."""
    rng = random.Random(7)
    for round_ in range(8):
        confirmed = []

        def work():
            for step in range(30):
                rule = {"ports": [{"port": 1000 + step}]}
                policy = policy_object("shop", f"p{step}", {"matchLabels": {"app": "none"}},
                                       ingress=[rule])  # fmt: skip
                try:
                    if node.apply(policy, check=False).returncode == 0:
                        confirmed.append(f"p{step}")
                except (OSError, subprocess.SubprocessError):
                    return

        worker = threading.Thread(target=work)
        worker.start()
        time.sleep(rng.uniform(0.0, 0.25))
        node.kill()
        worker.join()
        node.start()
        there = {p["metadata"]["name"] for p in node.api("GET", "/v1/objects/NetworkPolicy")["items"]}
        assert set(confirmed) <= there, f"round {round_}"
        assert tcp_works(node.web, node.db, family)
        assert not tcp_works(node.outside, node.db, family, seconds=QUIET)
        for name in there - {"db"}:
            node.delete(policy_object("shop", name))


def suppress_refusals(work):
    """A plugin whose agent is killed under it says so; that is no failure here."""
    with contextlib.suppress(RuntimeError):
        work()


def test_kill_at_random_during_attachment(node):
    """Killed somewhere inside ADDs and DELs: after a restart and the DEL that a runtime repeats,
    there are exactly the ports of the containers that there are, and nobody shares an address."""
    rng = random.Random(11)
    for round_ in range(6):

        def work():
            for number in range(12):
                config = {"labels": {"app": "web"}}
                try:
                    pod = node.add_pod("shop", f"r{round_}n{number}", known=False, config=config)
                except RuntimeError:
                    continue
                if number % 3 == 0:
                    interrupted.append(pod)  # unless the next line comes to its end
                    node.del_pod(pod, known=False)
                    interrupted.pop()

        interrupted = []
        worker = threading.Thread(target=lambda: suppress_refusals(work))
        worker.start()
        time.sleep(rng.uniform(0.02, 0.5))
        node.kill()
        worker.join()
        node.start()
        links = {link["ifname"] for link in node.netns.ip_json("link show")} - {"lo"}
        endpoints = node.api("GET", "/v1/endpoints")["items"]
        assert {e["port"] for e in endpoints} == links - set(node.uplinks), f"round {round_}"
        alive = {pod.container_id for pod in node.pods.values() if pod not in interrupted}
        assert alive <= {e["container_id"] for e in endpoints}
        addresses = [a for e in endpoints for a in e["ips"]]
        assert len(addresses) == len(set(addresses))
        for pod in list(node.pods.values()):
            if pod.name.startswith("r"):
                assert pod in interrupted or tcp_works(pod, node.db, 4)
                node.del_pod(pod, known=False)
        left = {e["container_id"] for e in node.api("GET", "/v1/endpoints")["items"]}
        assert left - {pod.container_id for pod in node.pods.values()} == set()


def test_second_agent_of_one_node_is_refused(node):
    argv = node.argv()
    argv[argv.index("--run-dir") + 1] = str(node.dir / "run2")
    argv[argv.index("--state-dir") + 1] = str(node.dir / "state2")
    done = node.netns.run(*argv, check=False, timeout=10)
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1
    assert node.api("GET", "/v1/status")["pid"] == node.agent.pid


@pytest.mark.parametrize("shared", ("--run-dir", "--state-dir"))
def test_second_agent_on_the_folders_of_another_node_is_refused(node, shared):
    """Also from another network namespace, where the socket that keeps it out is not seen."""
    with Node(start=False) as other:
        argv, mine = other.argv(), node.argv()
        argv[argv.index(shared) + 1] = mine[mine.index(shared) + 1]
        done = other.netns.run(*argv, check=False, timeout=20)
        assert done.returncode == 1
        assert len(done.stderr.strip().splitlines()) == 1
    assert node.api("GET", "/v1/status")["pid"] == node.agent.pid
    assert tcp_works(node.web, node.db, 4)


def test_two_nodes_side_by_side(node, family):
    """A node is a network namespace: another one on this machine shares nothing with it."""
    with Node() as other:
        pod = other.add_pod("shop", "web", {"app": "web"})
        assert pod.ip(family) == node.web.ip(family), "both start at the same pool"
        assert tcp_works(pod, other.outside, family)
        assert tcp_works(node.web, node.outside, family)


def test_sigterm_leaves_traffic_alone(node, family):
    with tcp_open(node.web, node.db, family) as link:
        assert node.stop() == 0
        assert link.alive()
        assert not tcp_works(node.outside, node.db, family, seconds=QUIET)
        node.start()
        assert link.alive()


def test_cni_says_at_once_that_the_agent_is_absent(node):
    node.kill()
    try:
        start = time.monotonic()
        for command, code in (("ADD", 11), ("CHECK", 11), ("STATUS", 50)):
            pod = None if command == "STATUS" else node.web
            config = {**node.web.config, "prevResult": node.web.result}
            done = node.cni(command, pod, config)
            assert done.returncode != 0
            assert json.loads(done.stdout)["code"] == code, command
        assert time.monotonic() - start < 3
    finally:
        node.start()
