# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""The CNI plugin without an agent: what it takes, what it refuses, what it does alone.

The names carry the numbers of the checklist in docs/design/cni.md.
"""

import json
import os
import subprocess

import pytest

from cni import VERSIONS, run_raw
from netns import Netns
from node import binary

ENV = {
    "CNI_CONTAINERID": "some-container",
    "CNI_NETNS": "/nonexistent/netns",
    "CNI_IFNAME": "eth0",
    "CNI_PATH": "/nonexistent",
}
COMMANDS = ("ADD", "DEL", "CHECK", "STATUS", "GC")


def config(tmp_path, **more):
    """A configuration whose agent does not exist."""
    return {
        "cniVersion": "1.1.0",
        "name": "net",
        "type": "towpath-cni",
        "socket": str(tmp_path / "towpath.sock"),
        "stateDir": str(tmp_path / "state"),
        **more,
    }


def call(command, conf, drop=(), netns=None, **env):
    words = {k: v for k, v in {**ENV, **env}.items() if k not in drop}
    return run_raw(command, json.dumps(conf), words, netns=netns)


@pytest.fixture
def netns():
    made = Netns("twc")
    yield made
    made.delete()


@pytest.fixture
def place():
    """The namespace that the plugin runs in."""
    made = Netns("twp")
    yield made
    made.delete()


# ---- A: environment and stdin --------------------------------------------------------------


@pytest.mark.parametrize("word", ("add", "UPDATE", "ADD ", "VERSIONS"))
def test_A4_unknown_command(tmp_path, word):
    answer = call(word, config(tmp_path))
    assert answer.code == 4
    assert word in answer.msg


@pytest.mark.parametrize("command", ("ADD", "CHECK"))
def test_A6_all_missing_variables_are_named(tmp_path, command):
    answer = call(command, config(tmp_path), drop=tuple(ENV))
    assert answer.code == 4
    for name in ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"):
        assert name in answer.msg


@pytest.mark.parametrize("empty", (False, True))
@pytest.mark.parametrize("name", ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"))
@pytest.mark.parametrize("command", COMMANDS)
def test_A5_needed_variables(tmp_path, command, name, empty):
    needed = {
        "ADD": ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"),
        "CHECK": ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"),
        "DEL": ("CNI_CONTAINERID", "CNI_IFNAME"),
    }.get(command, ())
    answer = call(command, config(tmp_path), **({name: ""} if empty else {"drop": (name,)}))
    if name in needed:
        assert answer.code == 4
        assert name in answer.msg
        assert all(other not in answer.msg for other in ENV if other != name)
    else:
        assert answer.code != 4


@pytest.mark.parametrize("command", COMMANDS)
def test_A7_needs_no_cni_path(tmp_path, command):
    with_path = call(command, config(tmp_path))
    without = call(command, config(tmp_path), drop=("CNI_PATH",))
    assert (without.status, without.stdout) == (with_path.status, with_path.stdout)
    assert without.code != 4


@pytest.mark.parametrize("bad", ("../x", "a/b", "-a", ".a", "a b", "a\tb", "ä", "a@b", "_a"))
@pytest.mark.parametrize("command", ("ADD", "DEL", "CHECK"))
def test_A8_container_id(tmp_path, command, bad):
    answer = call(command, config(tmp_path), CNI_CONTAINERID=bad)
    assert answer.code == 4
    assert "CNI_CONTAINERID" in answer.msg
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize("good", ("a", "0", "A-b_c.d", "f" * 64))
def test_A8_valid_container_id(tmp_path, good):
    assert call("DEL", config(tmp_path), CNI_CONTAINERID=good).code == 0


@pytest.mark.parametrize(
    "bad", (".", "..", "a/b", "a:b", "a b", "a\nb", "sixteencharacter", "x" * 100)
)
@pytest.mark.parametrize("command", ("ADD", "DEL", "CHECK"))
def test_A9_interface_name(tmp_path, command, bad):
    answer = call(command, config(tmp_path), CNI_IFNAME=bad)
    assert answer.code == 4
    assert "CNI_IFNAME" in answer.msg


def test_A9_longest_interface_name(tmp_path):
    assert call("DEL", config(tmp_path), CNI_IFNAME="fifteen-letters").code == 0


K8S = "K8S_POD_NAMESPACE=ns;K8S_POD_NAME=p;K8S_POD_INFRA_CONTAINER_ID=x;K8S_POD_UID=y"


@pytest.mark.parametrize(
    "args",
    ("", K8S, "IgnoreUnknown=1;" + K8S, "IgnoreUnknown=true;A=b", "A=b;IgnoreUnknown=1", "IP="),
)
def test_A11_args(tmp_path, args):
    assert call("DEL", config(tmp_path), CNI_ARGS=args).code == 0


@pytest.mark.parametrize("args", ("A=b", "IgnoreUnknown=0;A=b", "IgnoreUnknown=false;A=b"))
def test_A11_unknown_args(tmp_path, args):
    answer = call("DEL", config(tmp_path), CNI_ARGS=args)
    assert answer.code == 4
    assert "CNI_ARGS" in answer.msg


@pytest.mark.parametrize("args", ("foo", "IgnoreUnknown=1;foo", ";", "A=b;;", "=x"))
def test_A12_malformed_args(tmp_path, args):
    answer = call("DEL", config(tmp_path), CNI_ARGS=args)
    assert answer.code == 4
    assert "CNI_ARGS" in answer.msg


def test_A13_run_by_hand():
    answer = run_raw(None, "")
    assert answer.status == 0
    assert answer.stdout == ""
    assert all(version in answer.stderr for version in VERSIONS)


@pytest.mark.parametrize(
    "text", ("", "{", "no", "[]", "1", "null", '{"cniVersion": 1}', '{"a":1}{}', "\x00")
)
@pytest.mark.parametrize("command", COMMANDS)
def test_A14_not_json(command, text):
    assert run_raw(command, text, ENV).code == 6


def test_A14_unreadable_stdin():
    assert run_raw("ADD", None, ENV).code == 5


@pytest.mark.parametrize("name", (None, "", "-a", "a/b", "a b", 7, "../x"))
@pytest.mark.parametrize("command", COMMANDS)
def test_A15_network_name(tmp_path, command, name):
    conf = config(tmp_path, name=name)
    if name is None:
        del conf["name"]
    answer = call(command, conf)
    assert answer.code == 7
    assert "name" in answer.msg


@pytest.mark.parametrize("version", ("0.1.0", "0.2.0", "0.3.0", "1.2.0", "2.0.0", "1", "", "x"))
@pytest.mark.parametrize("command", COMMANDS)
def test_A16_unsupported_version(tmp_path, command, version):
    answer = call(command, config(tmp_path, cniVersion=version))
    assert answer.code == 1
    assert not (tmp_path / "state").exists()


def test_A17_absent_version_is_old(tmp_path):
    conf = config(tmp_path)
    del conf["cniVersion"]
    assert call("ADD", conf).code == 1


def test_A18_unknown_keys(tmp_path):
    conf = config(tmp_path, **{"cni.dev/x": 1, "unknown": {"a": []}, "capabilities": {"ips": True}})
    assert call("DEL", conf).code == 0


def test_A19_unknown_args(tmp_path):
    assert call("DEL", config(tmp_path, args={"cni": {"x": 1}, "y": []})).code == 0


def test_A20_runs_where_it_was_started(tmp_path, netns):
    """After CHECK and DEL, which enter the container, the caller's process is where it was."""
    script = (
        "readlink /proc/self/ns/net /proc/self/ns/mnt; pwd; "
        f"printf %s \"$1\" | CNI_COMMAND=DEL {binary('towpath-cni')}; "
        "readlink /proc/self/ns/net /proc/self/ns/mnt; pwd"
    )
    done = subprocess.run(
        ["sh", "-c", script, "sh", json.dumps(config(tmp_path))],
        env={**ENV, "PATH": os.environ["PATH"], "CNI_NETNS": netns.path},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    lines = done.stdout.split()
    assert lines[:3] == lines[3:]


@pytest.mark.parametrize("command", ("ADD", "DEL", "CHECK"))
def test_A21_own_namespace(tmp_path, place, command):
    conf = config(tmp_path, prevResult={})
    assert call(command, conf, netns=place, CNI_NETNS=place.path).code == 8
    for word in ("1", "TRUE"):
        answer = call(command, conf, netns=place, CNI_NETNS=place.path, CNI_NETNS_OVERRIDE=word)
        assert answer.code != 8


@pytest.mark.parametrize("command", ("ADD", "CHECK"))
def test_B3_no_namespace(tmp_path, command):
    conf = config(tmp_path, prevResult={})
    file = tmp_path / "file"
    file.write_text("")
    for path in ("/nonexistent", str(file), "/proc/self/ns/mnt", str(tmp_path)):
        answer = call(command, conf, CNI_NETNS=path)
        assert answer.code == 8
        assert path in answer.msg


# ---- B, C, D without an agent ---------------------------------------------------------------


@pytest.mark.parametrize("command", ("ADD", "CHECK"))
def test_B12_no_agent_is_transient(tmp_path, netns, command):
    conf = config(tmp_path, prevResult={})
    answer = call(command, conf, CNI_NETNS=netns.path)
    assert answer.code == 11
    assert str(tmp_path / "towpath.sock") in answer.msg
    assert [row["ifname"] for row in netns.ip_json("link")] == ["lo"]


def test_D8_status_without_agent(tmp_path):
    assert call("STATUS", config(tmp_path)).code == 50


def test_D8_socket_of_nobody(tmp_path):
    """A socket file that a killed agent left behind."""
    import socket

    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "towpath.sock"))
    assert call("STATUS", config(tmp_path)).code == 50


def _pair(place, netns, container_id, ifname):
    """A pair as the agent would have made it, with the name of its port."""
    h = 0xCBF29CE484222325
    for part in (container_id, ifname):
        for byte in part.encode():
            h = ((h ^ byte) * 0x100000001B3) % 2**64
        h = (h * 0x100000001B3) % 2**64
    h ^= h >> 40
    port = f"tw{h % 2**40:010x}"
    place.ip(f"link add {port} type veth peer name {ifname} netns {netns.name}")
    netns.ip(f"link set {ifname} alias {port}")
    return port


def _names(netns):
    return {row["ifname"] for row in netns.ip_json("link")}


@pytest.mark.parametrize("with_netns", (True, False))
def test_C12_del_without_agent(tmp_path, place, netns, with_netns):
    port = _pair(place, netns, "some-container", "eth0")
    other = _pair(place, netns, "some-container", "eth1")
    path = netns.path if with_netns else ""
    answer = call("DEL", config(tmp_path), netns=place, CNI_NETNS=path)
    assert answer.code == 0
    assert answer.stdout == ""
    assert _names(place) == {"lo", other}
    assert _names(netns) == {"lo", "eth1"}
    assert [f.name for f in (tmp_path / "state/pending-del").iterdir()] == ["some-container@eth0"]
    assert port not in _names(place)


def test_C12_del_from_another_namespace(tmp_path, place, netns):
    """The runtime lives in another namespace than the agent: the container's end is found."""
    with_plugin = Netns("twq")
    _pair(place, netns, "some-container", "eth0")
    answer = call("DEL", config(tmp_path), netns=with_plugin, CNI_NETNS=netns.path)
    assert answer.code == 0
    assert _names(place) == {"lo"}
    with_plugin.delete()


def test_C10_del_without_agent_spares_others(tmp_path, place, netns):
    """An interface of that name that another plugin made."""
    place.ip(f"link add foreign type veth peer name eth0 netns {netns.name}")
    assert call("DEL", config(tmp_path), netns=place, CNI_NETNS=netns.path).code == 0
    assert _names(netns) == {"lo", "eth0"}


@pytest.mark.parametrize("path", (None, "", "/nonexistent/netns"))
def test_C2_C3_C4_del_of_nothing(tmp_path, place, path):
    drop = ("CNI_NETNS",) if path is None else ()
    env = {} if path is None else {"CNI_NETNS": path}
    for _ in range(2):
        answer = call("DEL", config(tmp_path), drop=drop, netns=place, **env)
        assert (answer.code, answer.stdout) == (0, "")


def test_C4_del_with_a_path_that_lost_its_namespace(tmp_path, place):
    left = tmp_path / "left"
    left.write_text("")
    assert call("DEL", config(tmp_path), netns=place, CNI_NETNS=str(left)).code == 0


def test_C12_del_with_read_only_state(tmp_path, place, netns):
    """The interface goes even where nothing can be written down."""
    (tmp_path / "state").write_text("a file, not a folder")
    _pair(place, netns, "some-container", "eth0")
    answer = call("DEL", config(tmp_path), netns=place, CNI_NETNS=netns.path)
    assert answer.code == 0
    assert "pending-del" in answer.stderr
    assert _names(netns) == {"lo"}


def test_D2_check_without_prev_result(tmp_path, netns):
    assert call("CHECK", config(tmp_path), CNI_NETNS=netns.path).code == 7


@pytest.mark.parametrize("version", ("0.3.1",))
def test_D7_check_is_of_0_4(tmp_path, version):
    assert call("CHECK", config(tmp_path, cniVersion=version)).code == 1


@pytest.mark.parametrize("version", ("0.3.1", "0.4.0", "1.0.0"))
@pytest.mark.parametrize("command", ("STATUS", "GC"))
def test_D12_status_and_gc_are_of_1_1(tmp_path, command, version):
    assert call(command, config(tmp_path, cniVersion=version)).code == 1


def test_D19_gc_without_list_does_nothing(tmp_path):
    answer = call("GC", config(tmp_path))
    assert (answer.code, answer.stdout) == (0, "")


@pytest.mark.parametrize("bad", ({}, "x", [1], [{"containerID": "a"}], [{"ifname": "a"}]))
def test_D13_gc_malformed_list(tmp_path, bad):
    assert call("GC", config(tmp_path, **{"cni.dev/valid-attachments": bad})).code == 7


@pytest.mark.parametrize("version", (*VERSIONS, "9.9.9"))
def test_D20_version(version):
    answer = run_raw("VERSION", json.dumps({"cniVersion": version}))
    assert answer.status == 0
    assert answer.json == {"cniVersion": version, "supportedVersions": list(VERSIONS)}


def test_D21_version_with_dummies():
    dummies = {"CNI_NETNS": "dummy", "CNI_IFNAME": "dummy", "CNI_PATH": "dummy"}
    answer = run_raw("VERSION", '{"cniVersion":"1.0.0"}', dummies)
    assert answer.json["supportedVersions"] == list(VERSIONS)


@pytest.mark.parametrize("stdin", ("", None, "rubbish", "[]"))
def test_D22_version_needs_no_stdin(stdin):
    answer = run_raw("VERSION", stdin)
    assert answer.status == 0
    assert answer.json == {"cniVersion": "1.1.0", "supportedVersions": list(VERSIONS)}


# ---- F: errors --------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_F1_error_object(tmp_path, version):
    answer = call("ADD", config(tmp_path, cniVersion=version))
    assert answer.status != 0
    assert answer.json["cniVersion"] == version
    assert isinstance(answer.json["code"], int)
    assert answer.json["msg"]
    assert answer.stdout.count("\n") == 1


@pytest.mark.parametrize(
    "key, value",
    (
        ("mtu", "1400"), ("mtu", 1.5), ("subnets", "10.0.0.0/8"), ("subnets", {}),
        ("labels", []), ("socket", 1), ("stateDir", []), ("args", []),
        ("runtimeConfig", "x"), ("dns", []), ("prevResult", []), ("ipam", []),
    ),
)  # fmt: skip
@pytest.mark.parametrize("command", COMMANDS)
def test_F4_config_of_wrong_type(tmp_path, command, key, value):
    answer = call(command, config(tmp_path, **{key: value}))
    assert answer.code == 7
    assert key in answer.msg


@pytest.mark.parametrize("key", ("stateDir", "socket"))
@pytest.mark.parametrize("command", COMMANDS)
def test_F4_paths_are_absolute(tmp_path, command, key):
    """Where the runtime happens to start the plugin must not matter."""
    before = set(tmp_path.rglob("*"))
    answer = call(command, config(tmp_path, **{key: "towpath/here"}))
    assert answer.code == 7
    assert key in answer.msg
    assert set(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("ipam", ({}, None, {"type": "towpath"}))
def test_F4_own_ipam_is_taken(tmp_path, ipam):
    assert call("DEL", config(tmp_path, ipam=ipam)).code == 0


def test_F5_errors_never_only_on_stderr(tmp_path):
    """Names that are no UTF-8 cannot stand in JSON; there is an error object all the same."""
    done = subprocess.run(
        [binary("towpath-cni")],
        input=json.dumps(config(tmp_path)).encode(),
        env={**{k: v.encode() for k, v in ENV.items()}, "CNI_COMMAND": b"\xff\xfe"},
        capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert json.loads(done.stdout)["code"] == 4


def test_F5_full_stdout(tmp_path):
    """An answer that cannot be written is a failure, not a success."""
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = subprocess.run(
            [binary("towpath-cni")], input="{}", text=True, stdout=full,
            stderr=subprocess.PIPE, env={"CNI_COMMAND": "VERSION"}, check=False,
        )  # fmt: skip
    assert done.returncode != 0
    assert "stdout" in done.stderr


def test_C12_leaves_one_record(tmp_path, place):
    call("DEL", config(tmp_path), netns=place)
    assert {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*")} == {
        "state", "state/pending-del", "state/pending-del/some-container@eth0"
    }  # fmt: skip
