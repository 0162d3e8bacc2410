# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""The agent works with exactly the capabilities that its manual page lists, says which one is
missing, and keeps no other."""

import re

import pytest
from node import REPO, Node, namespace_object, policy_object
from program import build, counter, scratch
from traffic import QUIET, tcp_works, udp_ask, wait_for

NUMBERS = {
    "CAP_CHOWN": 0, "CAP_DAC_OVERRIDE": 1, "CAP_NET_ADMIN": 12, "CAP_SYS_PTRACE": 19,
    "CAP_SYS_ADMIN": 21, "CAP_PERFMON": 38, "CAP_BPF": 39,
}  # fmt: skip


def documented():
    page = (REPO / "docs/man/towpathd.8").read_text()
    section = page[page.index(".Sh PRIVILEGES") :]
    return re.findall(r"^\.It Dv (CAP_\w+)$", section[: section.index(".Sh FILES")], re.M)


CAPABILITIES = documented()


class Bounded(Node):
    """A node whose agent gets these capabilities at most."""

    def __init__(self, capabilities, **kw):
        self.words = ",".join("+" + name.removeprefix("CAP_").lower() for name in capabilities)
        super().__init__(prefix="twc", **kw)

    def argv(self, *more):
        return ["setpriv", f"--bounding-set=-all,{self.words}", *super().argv(*more)]


def capabilities(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as lines:
        words = dict(line.rstrip("\n").split(":\t", 1) for line in lines)
    return {key: int(words[key], 16) for key in ("CapEff", "CapPrm", "CapInh", "CapAmb")} | {
        "NoNewPrivs": int(words["NoNewPrivs"])
    }


def test_page_service_and_guide_name_the_same():
    assert set(CAPABILITIES) == set(NUMBERS)
    service = (REPO / "agent/towpathd.service.in").read_text()
    bound = " ".join(re.findall(r"^CapabilityBoundingSet=(.*)$", service, re.M))
    assert sorted(bound.split()) == sorted(CAPABILITIES)
    guide = (REPO / "docs/guide/install.md").read_text()
    rows = " ".join(line for line in guide.splitlines() if line.startswith("| CAP_"))
    assert sorted(re.findall(r"CAP_\w+", rows)) == sorted(CAPABILITIES)


def test_works_with_exactly_these(family):
    """Everything that it does: containers, policy, flows, a change of the uplink, a restart over
    what is there, removal."""
    with Bounded(CAPABILITIES) as node:
        node.apply(namespace_object("shop", {}))
        web = node.add_pod("shop", "web", {"app": "web"})
        db = node.add_pod("shop", "db", {"app": "db"})
        node.cni_result("CHECK", db, config={**db.config, "prevResult": db.result})
        assert tcp_works(web, db, family)
        assert tcp_works(web, node.outside, family)
        rule = {"from": [{"podSelector": {"matchLabels": {"app": "nobody"}}}]}
        node.apply(policy_object("shop", "db", {"matchLabels": {"app": "db"}}, ingress=[rule]))
        assert not tcp_works(web, db, family, seconds=QUIET)
        assert wait_for(lambda: node.flows(verdict="deny")), "the flow log says so"
        other = {4: "198.51.100.77", 6: "fd00:51:100::77"}[family]
        old = node.ip(family)
        bits = {4: 24, 6: 64}[family]
        node.netns.ip(f"addr del {old}/{bits} dev up0", f"addr add {other}/{bits} dev up0",
                      f"route replace default via {node.outside.ip(family)}")  # fmt: skip
        assert wait_for(lambda: udp_ask(web, node.outside, family, seconds=QUIET), 10)
        seen = build(scratch(), counter())
        node.towpath("program", "attach", seen, "--tc", "up0", "ingress")
        node.towpath("program", "attach", seen, "--endpoint", "shop/web", "egress", "--name", "web")
        assert node.towpath("program", "list").stdout.count("user: ") == 2
        assert "count" in node.towpath("program", "stats", "--interval", "100ms").stdout
        node.restart()
        assert not tcp_works(web, db, family, seconds=QUIET)
        node.towpath("program", "replace", "count", seen)
        node.towpath("program", "detach", "count", "web")
        node.del_pod(db)
        assert node.stop() == 0
        done = node.netns.run(*node.argv("--uninstall"))
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("missing", CAPABILITIES)
def test_without_one_it_says_which(missing):
    with Bounded([name for name in CAPABILITIES if name != missing], start=False) as node:
        done = node.netns.run(*node.argv(), check=False, timeout=20)
        assert done.returncode == 1
        assert done.stderr.startswith(f"towpathd: {missing} is missing, which is needed to ")
        assert done.stderr.count("\n") == 1
        assert not node.run_dir.exists() and not node.state_dir.exists(), "nothing was changed"


def test_another_user_is_told_the_first(tmp_path):
    with Node(prefix="twc", start=False) as node:
        argv = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *node.argv()]
        done = node.netns.run(*argv, check=False, timeout=20)
        assert done.returncode == 1
        assert re.fullmatch(r"towpathd: CAP_\w+ is missing, .*; start it as root\n", done.stderr)


def test_keeps_no_other():
    """Started with all of them: after the start it has those that it works with."""
    with Node(prefix="twc") as node:
        mask = sum(1 << NUMBERS[name] for name in CAPABILITIES)
        assert capabilities(node.agent.pid) == {
            "CapEff": mask, "CapPrm": mask, "CapInh": 0, "CapAmb": 0, "NoNewPrivs": 1,
        }  # fmt: skip
