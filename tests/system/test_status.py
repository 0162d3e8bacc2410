# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""`towpath status`: what is wrong stands first and says what to do; the exit status tells."""

import contextlib
import json
import os
import signal

import pytest
from node import Node, policy_object
from traffic import tcp_works, wait_for


@pytest.fixture
def own():
    """A node that the test may damage."""
    with Node() as made:
        made.pod = made.add_pod("shop", "web", {"app": "web"})
        yield made


def problems(node):
    """What is wrong, by name; as told to programs and to people alike."""
    done = node.towpath("status", "-o", "json", check=False)
    health = json.loads(done.stdout)["health"]
    assert done.returncode == (0 if health["ok"] else 1) and health["ok"] == (not health["problems"])
    text = node.towpath("status", check=False)
    assert text.returncode == done.returncode
    first = text.stdout.splitlines()[0].split()[0]
    assert first == ("health" if health["ok"] else "PROBLEM")
    for problem in health["problems"]:
        assert problem["text"] in text.stdout and problem["help"] in text.stdout
    return {p["what"]: p for p in health["problems"]}


def test_a_good_node(own):
    assert problems(own) == {}
    health = own.status()["health"]
    # The pod's port and the uplink.
    assert health["hooks"] == {"expected": 2, "attached": 2}
    assert health["pins"]["here"] == health["pins"]["expected"] > 10
    assert health["heartbeat_ms"] < 10000
    assert "programs at 2 of 2 interfaces" in own.towpath("status").stdout


def take_place(pin):
    """A folder in the place of a pin, so that the agent, which is quick, cannot make it anew."""
    for _ in range(1000):
        with contextlib.suppress(FileNotFoundError, FileExistsError):
            pin.unlink()
            pin.mkdir()
            return
    raise AssertionError(f"{pin} comes back too fast")


def test_a_hook_that_is_gone(own):
    endpoint = own.pod.endpoint()
    for name, ifindex in (("port_in", endpoint["port_ifindex"]),
                          ("uplink_in", own.netns.ifindex("up0"))):  # fmt: skip
        pin = own.run_dir / f"bpf/links/{name}_{ifindex}"
        take_place(pin)
        found = problems(own)
        assert set(found) == {"hook"}
        assert (endpoint["port"] if name == "port_in" else "up0") in found["hook"]["text"]
        pin.rmdir()
        assert wait_for(lambda: own.status()["health"]["ok"], 30, 0.1)


def test_a_pin_that_is_another_maps(own):
    (peers,) = own.run_dir.glob("bpf/maps/*/tw_peers")
    nomasq = peers.with_name("tw_nomasq")
    peers.rename(nomasq)

    def wrong():
        pins = own.status()["health"]["pins"]
        return pins["expected"] - pins["here"]

    # The one that was moved away is made anew at once.
    assert wait_for(lambda: wrong() == 1, 20, 0.1)
    found = problems(own)
    assert set(found) == {"pin"} and "tw_nomasq" in found["pin"]["text"]
    nomasq.unlink()
    assert wait_for(lambda: own.status()["health"]["ok"], 30, 0.1)


def test_an_uplink_that_is_down(own):
    own.netns.ip("link set up0 down")
    assert wait_for(lambda: not own.status()["health"]["ok"], 20, 0.1)
    found = problems(own)
    assert set(found) == {"uplink"} and "up0" in found["uplink"]["text"]
    own.netns.ip("link set up0 up")
    assert wait_for(lambda: own.status()["health"]["ok"], 20, 0.1)


def test_a_state_that_cannot_be_kept(own):
    aside = own.dir / "aside"
    own.state_dir.rename(aside)
    assert wait_for(lambda: not own.status()["health"]["ok"], 20, 0.1)
    found = problems(own)
    assert "state" in found and str(own.state_dir) in found["state"]["text"]
    aside.rename(own.state_dir)
    assert wait_for(lambda: own.status()["health"]["ok"], 20, 0.1)


def test_no_address_is_left():
    with Node(options=("--pod-cidr", "10.77.0.0/30", "--pod-cidr", "fd77::/64")) as node:
        for number in range(8):
            try:
                node.add_pod("shop", f"p{number}")
            except RuntimeError:
                break
        found = problems(node)
        assert set(found) == {"pool"} and "10.77.0.0/30" in found["pool"]["text"]


def test_an_agent_that_hangs_is_bad_too(own):
    own.agent.send_signal(signal.SIGSTOP)
    try:
        done = own.towpath("status", check=False, timeout=60)
    finally:
        own.agent.send_signal(signal.SIGCONT)
    assert done.returncode == 1 and not done.stdout and len(done.stderr.splitlines()) == 1


def test_rates_are_of_now(own):
    assert own.status()["rates"]["packets_denied"] == 0
    own.apply(policy_object("shop", "closed", {}, ingress=[]))
    own.outside.netns.run("ping", "-c", "3", "-i", "0.2", "-W", "1", own.pod.ip(4), check=False)
    rates = own.status()["rates"]
    assert rates["packets_dropped"] >= rates["packets_denied"] > 0
    assert rates["seconds"] * rates["packets_denied"] == pytest.approx(3)
    line = next(x for x in own.towpath("status").stdout.splitlines() if x.startswith("rates"))
    assert "0.0 packets dropped/s" not in line
    assert tcp_works(own.pod, own.outside, 4)
    assert own.status()["rates"]["flows_opened"] > 0
    assert own.drops("policy_ingress") == 3
    if os.environ.get("TOWPATH_FULL"):
        # After ten seconds nothing of it is left, but in the totals.
        assert wait_for(lambda: own.status()["rates"]["packets_denied"] == 0, 30, 0.5)
        assert own.drops("policy_ingress") == 3
