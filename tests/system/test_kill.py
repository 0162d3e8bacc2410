# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""The agent is killed 200 times, inside of ADD, DEL and changes of policy, and in between.

Half of the kills are placed: before each system call by which one of these changes something,
so every state that a crash can leave behind is seen. The others come by chance, at an
instruction or a moment. Each time: what was confirmed is there, what was not left nothing
behind (a census of kernel, disk and maps against the one made before), and the traffic that
goes on all along was neither cut nor let through.

TOWPATH_SEED repeats a run of chance.
"""

import os
import random
import subprocess
import sys
import threading
import time

import pytest
from census import census, differences, host
from node import FAMILIES, REPO, Node, Pod, namespace_object, policy_object
from traffic import tcp_works, wait_for
from watch import Datagrams, Ear, Frames, Openings, Stream, Watch

# How late packets and connections may be is measured.
pytestmark = pytest.mark.alone
SEED = int(os.environ.get("TOWPATH_SEED") or random.randrange(1 << 32))
KILLS = 200 if os.environ.get("TOWPATH_FULL") else 100
CHANCE = 12  # of them at least
START, OPERATION = 0.08, 0.06  # seconds that they take, about
STEPS = 30000  # instructions that most operations take behind their first call
SETTLED = 10.0  # what goes after a grace period has gone

ISOLATED = {"ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "web"}}}]}]}
VISIT = policy_object(
    "shop", "visit", {"matchLabels": {"app": "gate"}},
    ingress=[{"from": [{"podSelector": {"matchLabels": {"guest": "yes"}}},
                       {"ipBlock": {"cidr": "203.0.113.0/24"}}]}],
)  # fmt: skip


class Shop:
    """A node with pods that may and pods that may not, one that comes and goes ("newborn"),
    and a policy that comes and goes ("visit")."""

    def __init__(self):
        self.node = Node(prefix="twk", start=False)
        self.untouched = host(self.node.netns)[1]
        self.node.start()
        node = self.node
        self.empty = census(node)
        node.apply(namespace_object("shop", {}))
        for app in ("vault", "gate"):
            node.apply(policy_object("shop", app, {"matchLabels": {"app": app}}, **ISOLATED))
        node.apply(policy_object("shop", "jail", {"matchLabels": {"app": "jail"}}, egress=[],
                                 types=["Egress"]))  # fmt: skip
        labels = {name: {"app": name} for name in ("web", "db", "vault", "gate", "jail", "spy")}
        labels["spy"] = {"app": "spy", "guest": "yes"}
        self.pods = {name: node.add_pod("shop", name, of) for name, of in labels.items()}
        self.newborn = Pod(node, "shop", "newborn", node._netns("twp"))
        self.newborn.address = {4: "10.88.7.7", 6: "fd00:10:88::7:7"}
        self.newborn.config = node.cni_config(
            list(self.newborn.address.values()), labels={"app": "vault"},
            runtimeConfig={"mac": "02:00:5e:07:07:07"}, capabilities={"mac": True},
        )  # fmt: skip
        self.visit = self._frames("spy", self.pods["gate"])
        self.record = {}  # (newborn there, visit there): the census of that state

    def _frames(self, src, dst, verdict=False, **kw):
        src = self.pods.get(src, src)
        dmac = "02:54:57:00:00:01" if isinstance(src, Pod) else src.netns_mac
        return Frames(src, dst, dmac, verdict, **kw)

    def parts(self):
        pods, outside = self.pods, self.node.outside
        outside.netns_mac = self.node.netns.mac("up0")
        web, vault, db = pods["web"], pods["vault"], pods["db"]
        control = self._frames("web", vault, True, kinds=("udp", "syn"))
        frames = [
            control, self.visit,
            self._frames("spy", vault), self._frames("spy", self.newborn),
            self._frames(outside, vault), self._frames(outside, self.newborn),
            self._frames("jail", db), self._frames("jail", outside),
        ]  # fmt: skip
        ears = [Ear(place.netns, frames)
                for place in (vault, db, pods["gate"], self.newborn, outside)]  # fmt: skip
        live = [kind(web, dst, family) for family in FAMILIES for dst in (db, outside)
                for kind in (Stream, Openings, Datagrams)]  # fmt: skip
        return [*live, *frames, *ears]

    # ---- operations: each returns whether it was confirmed ---------------------------------

    def add(self):
        return self.node.cni("ADD", self.newborn).returncode == 0

    def delete(self):
        done = self.node.cni("DEL", self.newborn)
        assert done.returncode == 0, f"DEL must not fail: {done.stdout}"
        return True

    def allow(self):
        self.visit.verdict = None
        return self.node.apply(VISIT, check=False).returncode == 0

    def revoke(self):
        self.visit.verdict = None
        return self.node.delete(VISIT, check=False).returncode == 0

    def nothing(self):
        time.sleep(0.05)
        return True

    # ---- what is there ------------------------------------------------------------------------

    def policies(self):
        return self.node.api("GET", "/v1/objects/NetworkPolicy")["items"]

    def state(self):
        ids = {row["container_id"] for row in self.node.api("GET", "/v1/endpoints")["items"]}
        names = {row["metadata"]["name"] for row in self.policies()}
        return self.newborn.container_id in ids, "visit" in names

    def judge(self):
        """The visitor's frames are judged from now on by what the agent says is in force."""
        self.visit.verdict = self.state()[1]

    def learn(self):
        self.record[self.state()] = census(self.node)

    def compare(self, expected=None):
        """A census shows what it did, as soon as what waits for a grace period is gone."""
        expected, left = expected or self.record[self.state()], []

        def same():
            left[:] = differences(expected, census(self.node))
            return not left

        assert wait_for(same, SETTLED), left


CYCLE = ("add", "allow", "delete", "revoke")


@pytest.fixture(scope="module")
def shop():
    made = Shop()
    try:
        yield made
    finally:
        made.newborn.netns.delete()
        made.node.close()


def tracer(shop, *words):
    made = subprocess.Popen(
        [sys.executable, "-IS", str(REPO / "tests/system/killat.py"),
         str(shop.node.agent.pid), *map(str, words)],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert made.stdout.readline() == "ready\n"
    return made


def writes(shop, name):
    """The calls by which an operation changes something, in order."""
    trace = tracer(shop, 0)
    assert getattr(shop, name)(), name
    shop.judge()
    time.sleep(0.1)  # what follows a grace period
    trace.terminate()
    return trace.communicate(timeout=20)[0].split("\n")[:-1]


def kill_during(shop, name, position, steps):
    """The agent dies inside the operation, or right behind it; and comes back."""
    trace = tracer(shop, position, steps)
    confirmed = getattr(shop, name)()
    if shop.node.agent.poll() is None:
        try:
            trace.wait(0.05)
        except subprocess.TimeoutExpired:
            pass
    shop.node.kill()
    said = trace.communicate(timeout=20)[0].strip()
    shop.node.start()
    return confirmed, said


def kill_after(shop, name, seconds):
    timer = threading.Timer(seconds, shop.node.agent.kill)
    timer.start()
    confirmed = getattr(shop, name)()
    timer.join()
    shop.node.kill()
    shop.node.start()
    return confirmed, f"killed after {seconds * 1000:.1f} ms"


def kill_start(shop, seconds):
    """The next agent is killed while it starts."""
    shop.node.kill()
    shop.node.start(wait=False)
    time.sleep(seconds)
    shop.node.kill()
    shop.node.start()
    return True, f"start killed after {seconds * 1000:.1f} ms"


def finish(shop, name, confirmed):
    """What was confirmed holds; what was not is taken back or repeated, as a runtime does."""
    there, visiting = shop.state()
    if name == "add":
        assert there or not confirmed, "a confirmed ADD got lost"
        if not confirmed:
            shop.delete()
            assert not shop.state()[0]
    elif name == "delete":
        assert not there, "a container that was deleted is back"
    elif confirmed and name in ("allow", "revoke"):
        assert visiting == (name == "allow"), "a confirmed change got lost"
    shop.judge()
    shop.compare()


# An operation, and the one that makes the state that it starts from.
INVERSE = {"add": "delete", "delete": "add", "allow": "revoke", "revoke": "allow"}


def possible(shop, name):
    there, visiting = shop.state()
    return {"add": not there, "delete": there, "allow": not visiting, "revoke": visiting}[name]


def prepare(shop, name):
    if name in INVERSE and not possible(shop, name):
        assert getattr(shop, INVERSE[name])(), f"{INVERSE[name]} before {name}"
        shop.judge()


def plan(rng, positions, shop):
    """Every position of every operation once, the rest by chance."""
    placed = {name: list(range(1, positions[name] + 1)) for name in CYCLE}
    total = max(KILLS, sum(positions.values()) + CHANCE)
    for count in range(total):
        left = sum(map(len, placed.values()))
        if left and rng.random() < left / (total - count):
            # What can go without preparation first, what has the most left among it.
            name = max(CYCLE, key=lambda n: (bool(placed[n]) and possible(shop, n), len(placed[n])))
            yield name, "at", placed[name].pop(0), 0
            continue
        how = rng.choice(("steps", "steps", "time", "start", "nothing"))
        name = "nothing" if how in ("start", "nothing") else rng.choice(CYCLE)
        yield name, how, rng.randint(1, positions.get(name, 1)), rng.random()


def test_killed_at_every_write_and_at_random(shop):
    print(f"TOWPATH_SEED={SEED}")
    rng = random.Random(SEED)
    started, kills, positions = time.monotonic(), 0, {}
    with Watch(*shop.parts()) as watch:
        shop.learn()
        shop.judge()
        for name in CYCLE:  # twice: the first time makes what stays
            assert getattr(shop, name)()
        for name in CYCLE:
            positions[name] = len(writes(shop, name))
            time.sleep(0.2)
            shop.learn()
        shop.compare()
        for name, how, position, chance in plan(rng, positions, shop):
            prepare(shop, name)
            if how == "at":
                result = kill_during(shop, name, position, 0)
            elif how == "steps":
                result = kill_during(shop, name, position, 1 + int(chance * STEPS))
            elif how == "start":
                result = kill_start(shop, chance * START)
            else:
                result = kill_after(shop, name, chance * OPERATION)
            kills += 1
            where = f"kill {kills}, {name} {how} {position} {chance:.3f}: {result[1]}"
            try:
                finish(shop, name, result[0])
            except AssertionError as err:
                raise AssertionError(f"{where} (seed {SEED}): {err}") from err
            assert not watch.violations() and not watch.error, where
        faults = watch.rest()
        streams = [part for part in watch.parts if isinstance(part, Stream)]
        openings = [part for part in watch.parts if isinstance(part, Openings)]
        frames = [part for part in watch.parts if isinstance(part, Frames)]
        print(
            f"{kills} kills in {time.monotonic() - started:.0f} s, {positions}; "
            f"{sum(s.sent for s in streams)} records, "
            f"slowest {max(s.slowest for s in streams):.3f} s, "
            f"{sum(s.retransmissions for s in streams)} retransmissions; "
            f"{sum(o.opened for o in openings)} openings, {sum(o.late for o in openings)} late; "
            f"{sum(len(f.sent) for f in frames)} frames"
        )
        assert not faults, faults[:20]
        for pod in (shop.pods["web"], shop.node.outside):
            assert tcp_works(shop.pods["web"], shop.pods["db"], 4), pod
    control = frames[0]
    assert len(control.arrived) > 1000, "the frames that are allowed show that the others are heard"


def test_nothing_is_left_when_all_is_removed(shop):
    node = shop.node
    for pod in list(node.pods.values()):
        node.del_pod(pod)
    node.cni("DEL", shop.newborn)
    node.delete(*shop.policies(), namespace_object("shop", {}))
    shop.compare(shop.empty)
    node.stop()
    done = node.netns.run(*node.argv("--uninstall"))
    assert done.returncode == 0, done.stderr
    assert not differences(shop.untouched, host(node.netns)[1])
    assert not os.path.ismount(node.run_dir / "bpf")
