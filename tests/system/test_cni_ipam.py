# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""Addresses of another plugin: the reference host-local, and one that writes down how it was
called. The names carry the numbers of the checklist in docs/design/cni.md.
"""

import json
import os
import stat

import pytest

from cni import REFERENCE, Attachment, container, left, pings, run_raw

needs_reference = pytest.mark.skipif(
    not os.path.exists(REFERENCE), reason="package containernetworking-plugins"
)

# Answers ADD with what `answer.json` holds, fails where `fail-COMMAND` says how, and leaves
# the environment and stdin of each run in NUMBER-COMMAND.{env,json}.
RECORDER = """#!/bin/sh
cd "$(dirname "$0")" || exit 9
run=$(printf '%03d' "$(ls | grep -c 'env$')")-$CNI_COMMAND
env | grep '^CNI_' > "$run.env"
cat > "$run.json"
echo "recorder: $CNI_COMMAND" >&2
if [ -e "fail-$CNI_COMMAND" ]; then cat "fail-$CNI_COMMAND"; exit 1; fi
if [ "$CNI_COMMAND" = ADD ]; then cat answer.json; fi
exit 0
"""

ANSWER = {
    "cniVersion": "1.1.0",
    "ips": [{"address": "10.61.0.5/24", "gateway": "10.61.0.1"}, {"address": "fd00:61::5/64"}],
    "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
    "dns": {"nameservers": ["10.61.0.53"], "search": ["of.the.plugin"]},
}


class Recorder:
    def __init__(self, folder):
        self.dir = folder
        folder.mkdir()
        program = folder / "recorder"
        program.write_text(RECORDER)
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        self.answer(ANSWER)

    def answer(self, value):
        text = value if isinstance(value, str) else json.dumps(value)
        (self.dir / "answer.json").write_text(text)

    def fail(self, command, code=42, msg="the recorder was told to fail", details="all of it"):
        error = {"cniVersion": "1.1.0", "code": code, "msg": msg, "details": details}
        (self.dir / f"fail-{command}").write_text(json.dumps(error))

    def runs(self):
        """[(command, environment, stdin)] so far."""
        out = []
        for path in sorted(self.dir.glob("*.env")):
            words = dict(line.split("=", 1) for line in path.read_text().splitlines())
            out.append((words["CNI_COMMAND"], words, json.loads(path.with_suffix(".json").read_text())))
        return out

    def commands(self):
        return [command for command, _env, _config in self.runs()]


@pytest.fixture
def recorder(tmp_path):
    return Recorder(tmp_path / "bin")


@pytest.fixture
def attachment(node, netns, recorder):
    """Its addresses are the recorder's."""
    made = Attachment(node, netns, name="given", ipam={"type": "recorder", "x-own": {"of": "it"}})
    made.cni_path = f"/nonexistent:{recorder.dir}"
    yield made
    for path in recorder.dir.glob("fail-*"):
        path.unlink()
    made.delete()


def in_use(node):
    """As left(), without pools: a network that lost its last container is still listed."""
    return left(node)[:3]


# ---- how it is called ----------------------------------------------------------------------------


def test_G5_environment_and_stdin(attachment, recorder):
    attachment.add_ok()
    answer = attachment.check()
    assert answer.code == 0, answer
    assert "recorder: CHECK" in answer.stderr
    assert attachment.delete().code == 0
    runs = recorder.runs()
    assert [command for command, _env, _config in runs] == ["ADD", "CHECK", "DEL"]
    for command, env, config in runs:
        assert env == {**{k: v for k, v in attachment.env().items() if k.startswith("CNI_")},
                       "CNI_COMMAND": command}  # fmt: skip
        sent = dict(attachment.config)
        if command == "CHECK":
            sent["prevResult"] = attachment.result
        assert config == sent


def test_G5_a_plugin_that_reads_nothing(attachment, recorder):
    """A large configuration does not block on a plugin that leaves it alone."""
    program = recorder.dir / "recorder"
    program.write_text('#!/bin/sh\ncat "$(dirname "$0")/answer.json"\n')
    attachment.config["x-large"] = "x" * 1000000
    attachment.add_ok()
    assert attachment.address(4) == "10.61.0.5"


@pytest.mark.parametrize("command", ("ADD", "DEL", "CHECK", "STATUS", "GC"))
def test_G6_missing_plugin_is_named(node, attachment, command):
    attachment.config["ipam"] = {"type": "no-such-plugin"}
    before = in_use(node)
    attachment.result = {"interfaces": [{"name": "eth0", "sandbox": "/x"}]}
    if command == "CHECK":
        attachment.config.pop("ipam")
        attachment.config["subnets"] = ["10.61.0.0/24"]
        attachment.add_ok()
        attachment.config["ipam"] = {"type": "no-such-plugin"}
        attachment.config.pop("subnets")
    config = {**attachment.config, "prevResult": attachment.result}
    answer = attachment.call(command, config=config)
    assert answer.code == 7
    assert "no-such-plugin" in answer.msg
    if command != "CHECK":
        assert in_use(node) == before
    attachment.config.pop("ipam")


@pytest.mark.parametrize("path", (None, ""))
def test_A7_cni_path_is_needed_to_delegate(attachment, path):
    answer = attachment.call("ADD", env={"CNI_PATH": path})
    assert answer.code == 4
    assert "CNI_PATH" in answer.msg


@pytest.mark.parametrize("kind", ("../recorder", "/bin/true", "", 7, ".", ".."))
def test_G6_no_path_as_a_type(attachment, recorder, kind):
    attachment.config["ipam"] = {"type": kind}
    answer = attachment.add()
    assert answer.code == 7
    assert "ipam" in answer.msg
    assert recorder.commands() == []
    attachment.config.pop("ipam")


# ---- its errors ---------------------------------------------------------------------------------


def test_B8_G7_add_that_fails(node, attachment, recorder):
    """Its error comes back, and DEL is run on it before."""
    before = in_use(node)
    recorder.fail("ADD", code=11, msg="no address just now")
    answer = attachment.add()
    assert answer.code == 11
    assert "no address just now" in answer.msg and "recorder" in answer.msg
    assert answer.json["details"] == "all of it"
    assert recorder.commands() == ["ADD", "DEL"]
    assert in_use(node) == before
    assert attachment.link() is None


def test_B8_add_that_fails_afterwards(node, attachment, netns, recorder):
    """The interface is there already, which the agent finds: the addresses go back."""
    netns.ip("link add eth0 type veth peer name eth9")
    before = in_use(node)
    assert attachment.add().code == 101
    assert recorder.commands() == ["ADD", "DEL"]
    assert in_use(node) == before


def test_B8_no_agent_undoes_the_addresses(attachment, recorder, tmp_path):
    attachment.config["socket"] = str(tmp_path / "nobody.sock")
    assert attachment.add().code == 11
    assert recorder.commands() == ["ADD", "DEL"]


def test_C11_del_is_passed_on(node, attachment, recorder):
    """Twice and never added, too: what it has kept for the attachment is its own business."""
    assert attachment.delete().code == 0
    assert recorder.commands() == ["DEL"]
    attachment.add_ok()
    recorder.fail("DEL", code=5, msg="the disk is full")
    answer = attachment.delete()
    assert answer.code == 5
    assert "the disk is full" in answer.msg
    assert attachment.link() is None
    (recorder.dir / "fail-DEL").unlink()
    assert attachment.delete().code == 0


def test_C11_C12_del_without_agent(attachment, recorder, tmp_path):
    attachment.add_ok()
    alone = {"socket": str(tmp_path / "nobody.sock"), "stateDir": str(tmp_path)}
    assert attachment.call("DEL", config={**attachment.config, **alone}).code == 0
    assert attachment.link() is None
    assert recorder.commands() == ["ADD", "DEL"]


def test_D6_check_is_passed_on(attachment, recorder):
    attachment.add_ok()
    assert attachment.check().code == 0
    recorder.fail("CHECK", code=120, msg="the reservation is gone")
    answer = attachment.check()
    assert answer.code == 120
    assert "the reservation is gone" in answer.msg


def test_D11_status_is_passed_on(attachment, recorder):
    answer = attachment.call("STATUS")
    assert (answer.code, answer.stdout) == (0, "")
    recorder.fail("STATUS", code=50, msg="the pool is empty")
    answer = attachment.call("STATUS")
    assert answer.code == 50
    assert "the pool is empty" in answer.msg
    assert recorder.commands() == ["STATUS", "STATUS"]


@pytest.mark.parametrize("valid", (None, [], "ours"))
def test_D18_gc_is_passed_on(attachment, recorder, valid):
    """With whatever list there is, or none."""
    attachment.add_ok()
    config = dict(attachment.config)
    if valid is not None:
        ours = [{"containerID": attachment.container_id, "ifname": "eth0"}]
        config["cni.dev/valid-attachments"] = ours if valid == "ours" else valid
    answer = attachment.call("GC", config=config)
    assert (answer.code, answer.stdout) == (0, "")
    assert (attachment.link() is None) == (valid == [])
    command, _env, sent = recorder.runs()[-1]
    assert (command, sent) == ("GC", config)
    recorder.fail("GC", code=99, msg="cannot")
    assert attachment.call("GC", config=config).code == 99


@pytest.mark.parametrize(
    "bad",
    ("", "no JSON", "[]", "{}", {"ips": []}, {"ips": [{"address": "10.61.0.5"}]},
     {"ips": [{"address": "10.61.0.5/33"}]}, {"ips": [{"address": 7}]},
     {"ips": [{"address": "10.61.0.5/24"}], "routes": [{"dst": "x"}]},
     {"ips": [{"address": "10.61.0.5/24"}], "routes": [{"gw": "10.61.0.1"}]}),
    ids=str,
)  # fmt: skip
def test_G7_no_result(node, attachment, recorder, bad):
    before = in_use(node)
    recorder.answer(bad)
    answer = attachment.add()
    assert answer.code == 105
    assert "recorder" in answer.msg
    assert recorder.commands() == ["ADD", "DEL"]
    assert in_use(node) == before


# ---- its result -----------------------------------------------------------------------------------


def routes_in(netns):
    """{(dst, gateway)} of the kernel, as a result writes them."""
    out = set()
    for family, any_net in (("-4", "0.0.0.0/0"), ("-6", "::/0")):
        for row in netns.ip_json(f"{family} route"):
            dst = any_net if row["dst"] == "default" else row["dst"]
            bits = "" if "/" in dst else ("/32" if family == "-4" else "/128")
            if row.get("gateway") or family == "-4":
                out.add((dst + bits, row.get("gateway")))
    return out


def test_G8_B7_result_is_applied_and_returned(node, attachment, netns):
    result = attachment.add_ok()
    has = {f"{a['local']}/{a['prefixlen']}" for a in attachment.link()["addr_info"]}
    assert has == {"10.61.0.5/32", "fd00:61::5/128"} == {ip["address"] for ip in result["ips"]}
    assert {(r["dst"], r.get("gw")) for r in result["routes"]} == routes_in(netns)
    assert result["dns"] == ANSWER["dns"]
    for family in (4, 6):
        assert pings(netns, node.outside.ip(family))
        assert pings(node.netns, attachment.address(family))


def test_G8_routes_and_nothing_else(node, attachment, netns, recorder):
    """With routes of its own a container has no default route; its own subnet it can reach."""
    recorder.answer({**ANSWER, "routes": [{"dst": "198.18.0.0/15", "gw": "10.61.0.1"}]})
    result = attachment.add_ok()
    assert {(r["dst"], r.get("gw")) for r in result["routes"]} == routes_in(netns) == {
        ("169.254.1.1/32", None), ("10.61.0.0/24", "169.254.1.1"),
        ("198.18.0.0/15", "169.254.1.1"), ("fd00:61::/64", "fe80::1"),
    }  # fmt: skip
    assert attachment.check().code == 0
    assert not pings(netns, node.outside.ip(4))


def test_G8_a_router_that_is_not_the_node(node, attachment, recorder):
    before = in_use(node)
    recorder.answer({**ANSWER, "routes": [{"dst": "198.18.0.0/15", "gw": "10.61.0.77"}]})
    answer = attachment.add()
    assert answer.code == 7
    assert "10.61.0.77" in answer.msg
    assert in_use(node) == before


def test_G8_several_addresses(node, attachment, netns, recorder):
    """Each of them is the container's: to be reached, to be used as a source, to be judged."""
    ips = ["10.61.0.5/24", "10.62.0.5/24", "fd00:61::5/64", "10.63.0.5/24", "fd00:62::5/64"]
    recorder.answer({"cniVersion": "1.1.0", "ips": [{"address": a} for a in ips]})
    result = attachment.add_ok()
    plain = [a.split("/")[0] for a in ips]
    assert {ip["address"].split("/")[0] for ip in result["ips"]} == set(plain)
    assert {a["local"] for a in attachment.link()["addr_info"]} == set(plain)
    item = next(i for i in node.api("GET", "/v1/endpoints")["items"]
                if i["container_id"] == attachment.container_id)  # fmt: skip
    assert {a.split("/")[0] for a in item["ips"]} == set(plain)
    for address in plain:
        assert pings(node.netns, address)
        there = node.outside.ip(6 if ":" in address else 4)
        argv = ("ping", "-n", "-c", "1", "-W", "2", "-I", address, there)
        assert netns.run(*argv, check=False).returncode == 0
    node.restart()
    assert attachment.check().code == 0
    assert all(pings(node.netns, address) for address in plain)
    before = node.netns.ip_json("route") + node.netns.ip_json("-6 route")
    assert attachment.delete().code == 0
    after = node.netns.ip_json("route") + node.netns.ip_json("-6 route")
    assert {r["dst"] for r in before} - {r["dst"] for r in after} == set(plain)


def test_G8_spoofing_beside_several_addresses(node, attachment, netns, recorder):
    """An address that no part of the endpoint has is no source of it."""
    recorder.answer({"cniVersion": "1.1.0",
                     "ips": [{"address": "10.61.0.5/24"}, {"address": "10.62.0.5/24"}]})  # fmt: skip
    attachment.add_ok()
    netns.ip("addr add 10.62.0.6/32 dev eth0")
    before = node.drops("spoofed_source")
    argv = ("ping", "-n", "-c", "1", "-W", "1", "-I", "10.62.0.6", node.outside.ip(4))
    assert netns.run(*argv, check=False).returncode != 0
    assert node.drops("spoofed_source") > before


def test_G8_address_of_another_container(node, attachment, netns, recorder):
    """Two plugins that hand out one address twice are found out, and nothing is changed."""
    attachment.add_ok()
    with container() as other:
        second = Attachment(node, other, name="given", ipam={"type": "recorder"})
        second.cni_path = attachment.cni_path
        answer = second.add()
        assert answer.code == 101
        assert "10.61.0.5" in answer.msg
        assert second.link() is None
    assert attachment.check().code == 0


def test_E8_interfaces_of_an_ipam_result_are_ignored(attachment, recorder):
    """It should have none; one that has them names nothing that we made."""
    odd = json.loads(json.dumps(ANSWER))
    odd["interfaces"] = [{"name": "of-nobody"}]
    odd["ips"][0]["interface"] = 0
    recorder.answer(odd)
    result = attachment.add_ok()
    assert [i["name"] for i in result["interfaces"]][1:] == ["eth0"]
    assert {ip["interface"] for ip in result["ips"]} == {1}


def test_E9_whose_dns(attachment, recorder):
    ours = {"nameservers": ["192.0.2.53"]}
    attachment.config["dns"] = ours
    assert attachment.add_ok()["dns"] == ours
    attachment.delete()
    attachment.config["dns"] = {}
    assert attachment.add_ok()["dns"] == ANSWER["dns"]


def test_H16_wishes_are_the_plugins_business(attachment, recorder):
    """What is asked for goes to it with the configuration; what it gives is what counts."""
    attachment.config["runtimeConfig"] = {"ips": ["10.99.99.99/24"]}
    attachment.add_ok()
    assert recorder.runs()[0][2]["runtimeConfig"] == {"ips": ["10.99.99.99/24"]}
    assert attachment.address(4) == "10.61.0.5"


def test_F4_subnets_beside_another_ipam(attachment):
    attachment.config["subnets"] = ["10.61.0.0/24"]
    answer = attachment.add()
    assert answer.code == 7
    assert "subnets" in answer.msg
    attachment.config.pop("subnets")


# ---- the reference plugin ----------------------------------------------------------------------------


@pytest.fixture
def host_local(node, tmp_path):
    """Attachments whose addresses are host-local's: host_local(netns, ranges...)."""
    made = []

    def make(netns, *ranges, **more):
        ipam = {"type": "host-local", "dataDir": str(tmp_path / "data"), **more.pop("ipam", {}),
                "ranges": [[{"subnet": s} for s in one.split()] for one in ranges]}  # fmt: skip
        one = Attachment(node, netns, name="local", cniVersion="1.0.0", ipam=ipam, **more)
        one.cni_path = REFERENCE
        made.append(one)
        return one

    yield make
    for one in made:
        one.delete()


def reserved(tmp_path):
    return {p.name for p in (tmp_path / "data" / "local").glob("[0-9a-f]*") if p.name != "lock"}


@needs_reference
def test_G8_host_local(node, netns, host_local, tmp_path):
    resolv = tmp_path / "resolv.conf"
    resolv.write_text("nameserver 192.0.2.99\n")
    one = host_local(
        netns, "10.71.0.0/24", "10.72.0.0/24", "fd00:71::/64",
        ipam={"routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}], "resolvConf": str(resolv)},
    )  # fmt: skip
    result = one.add_ok()
    addresses = {ip["address"] for ip in result["ips"]}
    assert addresses == {"10.71.0.2/32", "10.72.0.2/32", "fd00:71::2/128"}
    assert result["dns"] == {"nameservers": ["192.0.2.99"]}
    assert {r["dst"] for r in result["routes"]} >= {"0.0.0.0/0", "::/0"}
    assert reserved(tmp_path) >= {"10.71.0.2", "10.72.0.2"}
    assert one.check().code == 0
    for family in (4, 6):
        assert pings(netns, node.outside.ip(family))
    assert one.delete().code == 0
    assert not reserved(tmp_path) & {"10.71.0.2", "10.72.0.2"}


@needs_reference
def test_G7_host_local_out_of_addresses(node, netns, host_local, tmp_path):
    """B11 with the addresses of another plugin: its error, nothing left, and again after DEL."""
    one = host_local(netns, "10.73.0.0/30")
    one.add_ok()
    with container() as other:
        two = host_local(other, "10.73.0.0/30")
        before = in_use(node)
        answer = two.add()
        assert answer.code not in (0, 11)
        assert "host-local" in answer.msg
        assert in_use(node) == before
        assert one.delete().code == 0
        two.add_ok()
        assert two.delete().code == 0


@needs_reference
def test_D6_host_local_lost_the_reservation(netns, host_local, tmp_path):
    one = host_local(netns, "10.74.0.0/24")
    one.add_ok()
    (tmp_path / "data" / "local" / "10.74.0.2").unlink()
    assert one.check().code not in (0, 103)


@needs_reference
def test_H14_ranges_of_the_runtime(netns, host_local):
    """`ipRanges` reaches host-local, which puts them before those of the configuration."""
    more = {"ipRanges": [[{"subnet": "10.75.0.0/24", "rangeStart": "10.75.0.20"}]]}
    one = host_local(netns, "10.76.0.0/24", runtimeConfig=more)
    assert [ip["address"] for ip in one.add_ok()["ips"]] == ["10.75.0.20/32", "10.76.0.2/32"]


@needs_reference
def test_E8_as_a_runtime_sees_it(node, netns, host_local):
    """The plugin itself is no IPAM plugin: what it answers always has interfaces."""
    result = host_local(netns, "10.77.0.0/24").add_ok()
    assert len(result["interfaces"]) == 2
    assert run_raw("VERSION", "{}", netns=node.netns).code == 0
