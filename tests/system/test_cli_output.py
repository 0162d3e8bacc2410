# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""What the command prints for people and for programs is what the agent holds."""

import json

import pytest
from node import Node, namespace_object, pod_object, policy_object
from traffic import tcp_open

# Strings that YAML reads as something else unless they are quoted.
TRICKY = {"a": "true", "b": "12", "c": "1e3", "d": "no", "e": "null", "f": "1.5", "g": "", "h": "y"}


@pytest.fixture(scope="module")
def filled(node):
    node.apply(namespace_object("shop", TRICKY))
    node.add_pod("shop", "web", {"app": "web", "tier": "front"},
                 ports=[{"name": "http", "containerPort": 8080}])  # fmt: skip
    node.apply(
        pod_object("shop", "absent", {"app": "db"}, []),
        policy_object("shop", "closed", {"matchLabels": {"app": "web"}}, ingress=[]),
        policy_object("shop", "some", {"matchExpressions": [
            {"key": "app", "operator": "NotIn", "values": ["a", "web"]},
            {"key": "x", "operator": "DoesNotExist"}]}, ingress=[{}], egress=[{}, {}]),
    )  # fmt: skip
    return node


def table(node, *argv):
    """Rows as dictionaries by the heads of their columns."""
    head, *rows = node.towpath(*argv).stdout.splitlines()
    starts = [i for i in range(len(head)) if head[i] != " " and (i == 0 or head[i - 1] == " ")]
    names = head.split()
    ends = [*starts[1:], None]
    return [{n: r[s:e].strip() for n, s, e in zip(names, starts, ends)} for r in rows]


def test_pods(filled):
    rows = {row["NAME"]: row for row in table(filled, "get", "pods", "-n", "shop")}
    assert rows["web"]["ATTACHED"] == "yes" and rows["absent"]["ATTACHED"] == "no"
    assert rows["web"]["PORTS"] == "http=8080/TCP"
    assert rows["web"]["LABELS"] == "app=web,tier=front"
    assert filled.pods[("shop", "web")].ip(4) in rows["web"]["ADDRESSES"]
    assert [r["NAME"] for r in table(filled, "get", "po", "-l", "tier=front")] == ["web"]


def test_policies(filled):
    rows = {row["NAME"]: row for row in table(filled, "get", "netpol")}
    assert rows["closed"]["SELECTS"] == "app=web"
    assert rows["closed"]["INGRESS"] == "deny all"
    assert rows["some"]["SELECTS"] == "app notin (a,web),!x"
    assert rows["some"]["INGRESS"] == "1 rule" and rows["some"]["EGRESS"] == "2 rules"


def test_endpoints_and_identities(filled):
    (row,) = table(filled, "get", "endpoints", "web")
    assert row["NAMESPACE"] == "shop" and row["STATE"] == "ready"
    lines = filled.towpath("get", "identities").stdout.splitlines()
    assert row["IDENTITY"] in {line.split()[0] for line in lines[1:]}
    # A pod with an address of each family is named once, and its addresses are both counted.
    named = [line for line in lines if "shop/web" in line]
    assert sum(line.count("shop/web") for line in named) == len(named)
    assert sum(int(line.split()[1]) for line in named) == 2


def test_wide_has_more_columns(filled):
    endpoint = filled.pods[("shop", "web")].endpoint()
    for kind in ("pods", "networkpolicies", "namespaces", "endpoints", "identities"):
        narrow, wide = (filled.towpath("get", kind, *more).stdout.splitlines()
                        for more in ((), ("-o", "wide")))  # fmt: skip
        assert wide[0].split()[: len(narrow[0].split())] == narrow[0].split()
        assert len(wide[0].split()) > len(narrow[0].split()) and len(wide) == len(narrow)
    pods = {row["NAME"]: row for row in table(filled, "get", "pods", "-n", "shop", "-o", "wide")}
    assert pods["web"]["PORT"] == endpoint["port"] and pods["web"]["MAC"] == endpoint["mac"]
    assert pods["web"]["NODE"] == f"{filled.ip(4)},{filled.ip(6)}"
    assert pods["web"]["POLICY"] == f"v{endpoint['version']}"
    assert pods["absent"]["PORT"] == "-" and pods["absent"]["NODE"] == "-"
    (space,) = [r for r in table(filled, "get", "ns", "-o", "wide") if r["NAME"] == "shop"]
    assert (space["PODS"], space["ENDPOINTS"], space["POLICIES"]) == ("2", "1", "2")
    (ep,) = table(filled, "get", "endpoints", "web", "-o", "wide")
    assert ep["CONTAINER"] == endpoint["container_id"] and ep["INTERFACE"] == "eth0"
    rows = [line.split() for line in filled.towpath("get", "identities", "-o", "wide").stdout.splitlines()]
    assert [r[-1] for r in rows if r[0] == str(endpoint["identity"])] == ["shop/web"]


def test_wide_policies_say_whom_and_what(filled):
    peers = [
        {"podSelector": {"matchLabels": {"app": "a"}}},
        {"namespaceSelector": {"matchLabels": {"team": "x"}}, "podSelector": {}},
        {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}},
    ]
    ports = [{"port": "http"}, {"port": 8000, "endPort": 8999, "protocol": "UDP"}, {"port": 80}]
    filled.apply(
        policy_object("shop", "wide", {"matchLabels": {"app": "none"}},
                      ingress=[{"from": peers, "ports": ports}, {"ports": [{"port": 80}]}],
                      egress=[{"to": peers[:1]}])
    )  # fmt: skip
    rows = {row["NAME"]: row for row in table(filled, "get", "netpol", "-o", "wide")}
    assert rows["wide"]["FROM"] == "app=a; ns team=x (all); 10.0.0.0/8 but 10.1.0.0/16; anybody"
    assert rows["wide"]["TO"] == "app=a"
    assert rows["wide"]["PORTS"] == "http/TCP; 8000-8999/UDP; 80/TCP; all"
    assert rows["closed"]["FROM"] == "-" and rows["some"]["TO"] == "anybody"
    filled.delete(policy_object("shop", "wide"))


def test_how_many_connections_a_pod_opened(filled):
    (before,) = table(filled, "get", "pods", "-l", "app=web", "-o", "wide")
    with tcp_open(filled.pods[("shop", "web")], filled.outside, 4):
        (row,) = table(filled, "get", "pods", "-l", "app=web", "-o", "wide")
    assert int(row["FLOWS"]) == int(before["FLOWS"]) + 1


@pytest.mark.parametrize("kind", ("pods", "namespaces", "networkpolicies"))
def test_what_is_shown_can_be_applied_again(filled, kind):
    for form in ("yaml", "json"):
        text = filled.towpath("get", kind, "-o", form).stdout
        done = filled.towpath("apply", "-f", "-", stdin=text)
        actions = [line.split()[-1] for line in done.stdout.splitlines()[:-1]]
        assert actions and set(actions) == {"unchanged"}, done.stdout


def test_yaml_and_json_say_the_same(filled):
    yaml = pytest.importorskip("yaml")
    for argv in (("status",), ("get", "endpoints"), ("get", "pod", "shop/web"),
                 ("explain", "--from", "shop/web", "--to", "10.9.9.9", "--port", "80")):  # fmt: skip
        as_json = json.loads(filled.towpath(*argv, "-o", "json").stdout)
        as_yaml = yaml.safe_load(filled.towpath(*argv, "-o", "yaml").stdout)
        if argv == ("status",):
            assert as_json.keys() == as_yaml.keys()
        else:
            assert as_json == as_yaml


def test_one_by_name(filled):
    one = json.loads(filled.towpath("get", "pod", "web", "-n", "shop", "-o", "json").stdout)
    assert one["metadata"]["name"] == "web"
    for argv in (("pod", "nobody"), ("pod", "web"), ("endpoint", "nobody"), ("ns", "nowhere")):
        done = filled.towpath("get", *argv, check=False)
        assert done.returncode == 1 and not done.stdout
        assert len(done.stderr.splitlines()) == 1


def test_apply_says_what_it_did(filled):
    policy = policy_object("shop", "late", {}, ingress=[])
    assert "created" in filled.apply(policy).stdout
    out = filled.apply(policy).stdout
    assert "unchanged" in out and " ms" in out
    out = filled.towpath("delete", "networkpolicy", "late", "-n", "shop", "--color", "always").stdout
    assert "NetworkPolicy shop/late" in out and "deleted" in out and "\033[" in out
    done = filled.towpath("delete", "networkpolicy", "shop/late", check=False)
    assert done.returncode == 1 and "late" in done.stderr


def test_folders_are_sent_in_order_and_whole(filled, tmp_path):
    def policy(name):
        return json.dumps(policy_object("shop", name, {}, ingress=[]))

    (tmp_path / "b.yaml").write_text(policy("dir-b"))
    (tmp_path / "a.json").write_text(policy("dir-a"))
    (tmp_path / "c.txt").write_text("not an object")
    (tmp_path / ".hidden.yaml").write_text("not an object")
    (tmp_path / "below").mkdir()
    (tmp_path / "below/d.yml").write_text(policy("dir-d"))
    lines = filled.towpath("apply", "-f", tmp_path).stdout.splitlines()
    assert [line.split()[1] for line in lines[:-1]] == ["shop/dir-a", "shop/dir-b"]
    lines = filled.towpath("apply", "-R", "-f", tmp_path).stdout.splitlines()
    assert [line.split()[1] for line in lines[:-1]] == ["shop/dir-a", "shop/dir-b", "shop/dir-d"]
    (tmp_path / "below/e.yml").write_text("kind: Nonsense\n")
    done = filled.towpath("delete", "-R", "-f", tmp_path, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(f"{tmp_path}/below/e.yml:1:")
    (tmp_path / "below/e.yml").unlink()
    done = filled.towpath("delete", "-q", "-R", "-f", tmp_path)
    assert len(done.stdout.splitlines()) == 1 and done.stdout.startswith("3 objects")


def test_explain_names_the_policy(filled):
    explain = ("explain", "--from", "192.0.2.77", "--to", "shop/web", "--port", "8080/tcp")
    out = filled.towpath(*explain).stdout
    assert out.startswith("deny") and "shop/closed" in out
    answer = json.loads(filled.towpath(*explain, "-o", "json").stdout)
    assert answer["verdict"] == "deny" and answer["ingress"]["isolated"] is True
    assert "nearest" in answer["ingress"] and "warning" not in answer
    assert answer["ingress"]["kernel"]["asked"] and "kernel: slot" in out
    answer = json.loads(filled.towpath("explain", "--from", "192.0.2.77", "--to", "192.0.2.78",
                                       "--port", "80", "-o", "json").stdout)  # fmt: skip
    assert answer["verdict"] == "none" and not {"egress", "ingress"} & answer.keys()
    out = filled.towpath("explain", "--from", "shop/web", "--to", "192.0.2.77", "--port", "53/udp")
    assert out.stdout.startswith("allow")
    done = filled.towpath("explain", "--from", "nobody", "--to", "shop/web", "--port", "1",
                          check=False)  # fmt: skip
    assert done.returncode == 1 and "nobody" in done.stderr


def test_status_is_one_screen(filled):
    out = filled.towpath("status").stdout
    assert len(out.splitlines()) < 45
    for word in ("towpathd", "up0", "1 endpoint", "tw_flow4", "events_lost"):
        assert word in out


@pytest.mark.parametrize("argv", (("--verdict", "maybe"), ("--port", "70000"), ("--from", "/"),
                                  ("--reason", "mood"), ("--type", "old")))  # fmt: skip
def test_filters_that_are_none(filled, argv):
    done = filled.towpath("flows", *argv, check=False)
    assert done.returncode == 2 and not done.stdout
    assert len(done.stderr.splitlines()) == 1 and argv[1] in done.stderr


def test_uninstall_leaves_nothing_in_the_kernel():
    with Node() as node:
        node.add_pod("shop", "web", {})
        pins = node.run_dir / "bpf"
        assert list(pins.iterdir())
        argv = ["uninstall", "--state-dir", node.state_dir]
        assert node.towpath(*argv, check=False).returncode == 1, "the agent still runs"
        node.stop()
        # The run folder is known from the socket.
        node.towpath(*argv)
        assert not pins.exists() or not list(pins.iterdir())
