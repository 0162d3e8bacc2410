# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""towpath map: maps of a program that bpftool loaded, read and written in the form of their types."""

import contextlib
import json
import os
import pathlib
import pty
import re
import select
import socket
import struct
import subprocess
import tempfile
import threading

import pytest
import yaml

from bpfmap import Map
from netns import cleanup_pop, cleanup_push
from node import REPO, binary
from traffic import wait_for

FLOW = {"saddr": "10.0.0.1", "daddr": "10.0.0.2", "sport": 4242, "dport": 80, "proto": 6}
ODD = {
    "name": "eth0", "mac": "02:54:57:00:00:01", "on": True, "below": -3, "low": 7, "high": 536870911,
    "negative": -16, "signed_one": "BELOW", "wide": "WIDE_TOP", "v4": "10.1.2.3", "v6": "a01:203::",
    "halves": {"all": 8589934593, "first": 1, "second": 2},
    "ends": [{"port": 80, "weight": 3}, {"port": 443, "weight": 0}], "top": "18446744073709551615",
    "huge": "0x00000000000000010000000000000002", "pointer": "0xffff888000000000", "seq": 77,
}  # fmt: skip


def towpath(*argv, stdin=None, check=True):
    done = subprocess.run([binary("towpath"), "map", *map(str, argv)], capture_output=True, text=True,
                          timeout=60, check=False, input=stdin)  # fmt: skip
    assert not check or (done.returncode, done.stderr) == (0, ""), done
    return done


def refused(*argv, **kw):
    """The one sentence."""
    done = towpath(*argv, check=False, **kw)
    assert done.returncode == 1 and not done.stdout, done
    assert len(done.stderr.splitlines()) == 1
    return done.stderr.removeprefix("towpath: ").strip()


def value(*argv):
    return json.loads(towpath(*argv, "-o", "json").stdout)


class Loaded:
    """maps.bpf.c in the kernel, pinned below a bpffs of its own; its maps have a prefix of their own."""

    def __init__(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="towpath-test-"))
        self.prefix = f"m{os.getpid() % 10000}_"
        self.bpf = self.dir / "bpf"
        self.bpf.mkdir()
        cleanup_push(self.close)
        subprocess.run(["mount", "-t", "bpf", "bpf", self.bpf], check=True)
        source = (REPO / "tests/system/maps.bpf.c").read_text().replace("mt_", self.prefix)
        (self.dir / "maps.c").write_text(source)
        subprocess.run([binary("towpath"), "program", "build", "maps.c"], cwd=self.dir, check=True,
                       stdout=subprocess.DEVNULL)  # fmt: skip
        self.bpftool("prog", "loadall", self.dir / "maps.o", self.bpf / "p", "pinmaps", self.bpf / "m")

    def close(self):
        cleanup_pop(self.close)
        subprocess.run(["umount", self.bpf], check=False)
        subprocess.run(["rm", "-rf", self.dir], check=False)

    def bpftool(self, *argv):
        done = subprocess.run(["bpftool", "-j", *map(str, argv)], capture_output=True, text=True, timeout=60,
                              check=True)  # fmt: skip
        return json.loads(done.stdout or "null")

    def name(self, name):
        return self.prefix + name

    def map(self, name):
        return self.bpf / "m" / (self.prefix + name)

    def program(self, name):
        return self.bpf / "p" / (self.prefix + name)

    def run(self, times, cpu, program="count"):
        (self.dir / "packet").write_bytes(bytes(60))
        subprocess.run(["taskset", "-c", str(cpu), "bpftool", "prog", "run", "pinned", self.program(program),
                        "data_in", self.dir / "packet", "repeat", str(times)], check=True,
                       stdout=subprocess.DEVNULL)  # fmt: skip


@pytest.fixture(scope="module", name="maps")
def maps_loaded():
    with contextlib.closing(Loaded()) as loaded:
        yield loaded


# ---- finding ------------------------------------------------------------------------------------


def test_list_and_show(maps):
    listed = {entry["name"]: entry for entry in value("list")}
    long = maps.name("a_name_longer_than_the_kernel_keeps")
    assert {maps.name("flows"), maps.name("ring"), maps.name("queue"), long} <= set(listed)
    flows = listed[maps.name("flows")]
    known = maps.bpftool("map", "show", "pinned", maps.map("flows"))
    assert (flows["id"], flows["memory"]) == (known["id"], int(known["bytes_memlock"]))
    assert (flows["type"], flows["key_size"], flows["value_size"]) == ("hash", 16, 24)
    assert [program["name"] for program in flows["programs"]] == [maps.name("count")]
    assert flows["pins"] == [str(maps.map("flows"))]
    assert listed[maps.name("lpm4")]["flags"] == ["no_prealloc"]
    tries = value("list", "--type", "lpm_trie")
    assert {maps.name("lpm4"), maps.name("lpm6")} <= {entry["name"] for entry in tries}
    assert {entry["type"] for entry in tries} == {"lpm_trie"}
    assert str(maps.map("flows")) in towpath("list", "-o", "wide").stdout
    for which in (maps.name("flows"), flows["id"], maps.map("flows")):
        shown = value("show", which)
        assert shown["id"] == flows["id"]
        assert shown["key"]["saddr"] == "0.0.0.0"
        assert shown["value"]["state"] == "STATE_NEW"
    assert f"name      {maps.name('flows')}\n" in towpath("show", maps.name("flows")).stdout
    for which in (long, long[:15]):
        assert value("show", which)["name"] == long


def test_maps_that_libbpf_gives_no_btf(maps):
    """Their types are in the BTF of the program."""
    assert value("show", maps.name("socks"))["key"]["saddr"] == "0.0.0.0"
    assert value("show", maps.name("outer"))["key"] == "0.0.0.0"
    assert yaml.safe_load(towpath("show", maps.name("ring"), "-o", "yaml").stdout)["type"] == "ringbuf"


def test_not_found(maps):
    assert refused("get", "no_such_map", 1) == 'there is no map called "no_such_map"'
    assert refused("get", 4294967295, 1) == "there is no map with the id 4294967295"
    assert refused("get", maps.dir / "no", 1) == f"{maps.dir}/no: No such file or directory"
    assert refused("get", maps.dir / "maps.c", 1) == f"{maps.dir}/maps.c is no pin of a map"
    assert refused("show", maps.program("count")) == f"{maps.program('count')} is a pin, but not of a map"


def test_several_of_one_name(maps):
    ids = []
    for number in (1, 2):
        pin = maps.bpf / f"same{number}"
        maps.bpftool("map", "create", pin, "type", "array", "key", 4, "value", 8, "entries", 1, "name",
                     maps.name("same"))  # fmt: skip
        ids.append(maps.bpftool("map", "show", "pinned", pin)["id"])
    assert refused("dump", maps.name("same")) == (
        f'2 maps are called "{maps.name("same")}": name one by its id: {ids[0]} (array), {ids[1]} (array)')
    assert value("dump", ids[1]) == [{"key": 0, "value": "00 00 00 00 00 00 00 00"}]


# ---- keys and values ----------------------------------------------------------------------------


def test_what_comes_out_goes_in(maps):
    flows = maps.name("flows")
    towpath("set", flows, json.dumps(FLOW), '{"packets": 3, "bytes": "0x10", "state": "STATE_OPEN"}')
    entry = {"key": {**FLOW, "pad": [0, 0, 0]},
             "value": {"packets": 3, "bytes": 16, "state": "STATE_OPEN", "last": 0}}  # fmt: skip
    assert value("dump", flows) == [entry]
    assert yaml.safe_load(towpath("dump", flows, "-o", "yaml").stdout) == [entry]
    table = towpath("dump", flows).stdout.splitlines()
    assert table[0].split() == [*entry["key"], *entry["value"]]
    assert table[1].split()[:4] == ["10.0.0.1", "10.0.0.2", "4242", "80"]
    # As the kernel has it: network order.
    raw = maps.bpftool("map", "dump", "pinned", maps.map("flows"))[0]
    assert raw["key"][:12] == ["0x0a", "0x00", "0x00", "0x01", "0x0a", "0x00", "0x00", "0x02", "0x10", "0x92",
                               "0x00", "0x50"]  # fmt: skip
    towpath("delete", flows, json.dumps(FLOW))
    assert value("dump", flows) == []
    assert towpath("dump", flows).stdout == f"{flows} is empty.\n"
    assert towpath("dump", flows, "-o", "yaml").stdout == "[]\n"
    for form in ([], [entry], [entry, {**entry, "key": {**FLOW, "sport": 1}}]):
        towpath("set", flows, "-f", "-", stdin=json.dumps(form))
        assert len(value("dump", flows)) == len(form)
    (maps.dir / "flows.json").write_text(towpath("dump", flows, "-o", "json").stdout)
    for sport in (4242, 1):
        towpath("delete", flows, json.dumps({**FLOW, "sport": sport}))
    towpath("set", flows, "-f", maps.dir / "flows.json")
    assert value("dump", flows) == json.loads((maps.dir / "flows.json").read_text())


def test_types_of_many_forms(maps):
    odd = maps.name("odd")
    towpath("set", odd, 1, json.dumps(ODD))
    assert value("get", odd, "1") == ODD
    towpath("set", odd, 2, json.dumps(value("get", odd, 1)))
    assert value("get", odd, "0x2") == ODD
    text = towpath("get", odd, 1).stdout
    assert re.search(r"^halves.first +1$", text, re.M)
    assert re.search(r"^ends +\[\{port 80, weight 3\} \{port 443, weight 0\}\]$", text, re.M)
    # What has no name or is no text is a number.
    towpath("set", odd, 3, '{"wide": 5, "name": [255, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]}'
            .replace("255", "-1"))  # fmt: skip
    got = value("get", odd, 3)
    assert got["wide"] == 5 and got["name"] == [-1, *[0] * 14, 1]
    assert re.search(r"^name +\[-1 0 x14 1\]$", towpath("get", odd, 3).stdout, re.M)
    # Nothing in a map reaches the terminal but characters.
    towpath("set", odd, 3, json.dumps({"name": "a\x1b[2Jb"}))
    assert "a\\x1b[2Jb" in towpath("get", odd, 3).stdout
    towpath("delete", odd, 1, 2, 3)


WRONG = (
    ({"dadr": "10.0.0.2"}, 'there is no field "dadr" among saddr, daddr, sport, dport, proto, pad', "key"),
    ({"sport": 65536}, "expected a number from 0 to 65535, found 65536", "key.sport"),
    ({"sport": -1}, "expected a number from 0 to 65535, found -1", "key.sport"),
    ({"sport": 1.5}, "expected a number from 0 to 65535, found 1.5", "key.sport"),
    ({"sport": "http"}, 'expected a number from 0 to 65535, found "http"', "key.sport"),
    ({"saddr": "10.0.0"}, 'expected an IPv4 address like 10.0.0.1, found "10.0.0"', "key.saddr"),
    ({"saddr": 1}, "expected an IPv4 address like 10.0.0.1, found 1", "key.saddr"),
    ({"pad": [1]}, "expected 3 elements, found 1", "key.pad"),
    ({"pad": "x"}, 'expected an array, like [1, 2], found "x"', "key.pad"),
    ({"pad": [1, 2, 256]}, "expected a number from 0 to 255, found 256", "key.pad[2]"),
)


@pytest.mark.parametrize(("key", "sentence", "where"), WRONG, ids=lambda x: str(x)[:30])
def test_keys_that_are_wrong(maps, key, sentence, where):
    assert refused("get", maps.name("flows"), json.dumps(key)) == f"{where}: {sentence}"


BAD_VALUES = (
    ({"negative": 16}, "value.negative: expected a number from -16 to 15, found 16"),
    ({"low": 8}, "value.low: expected a number from 0 to 7, found 8"),
    ({"below": -129}, "value.below: expected a number from -128 to 127, found -129"),
    ({"top": "18446744073709551616"},
     'value.top: expected a number from 0 to 18446744073709551615, found "18446744073709551616"'),
    ({"ends": [{}, {"port": "x"}]}, 'value.ends[1].port: expected a number from 0 to 65535, found "x"'),
    ({"v4": "1.2.3.4", "v6": "::1"}, "value: contradicts another member of the same union: give one of them"),
    ({"halves": {"all": 1, "second": 1}},
     "value.halves: contradicts another member of the same union: give one of them"),
    ({"name": "x" * 17}, "value.name: a text of 17 bytes does not fit into the 16 that there are"),
    ({"name": 5}, "value.name: expected a text, found 5"),
    ({"wide": "x"}, 'value.wide: expected one of WIDE_ONE, WIDE_TOP, or a number, found "x"'),
    ({"signed_one": -2147483649},
     "value.signed_one: expected a number from -2147483648 to 2147483647, found -2147483649"),
    ({"mac": "02:54:57:00:00"}, 'value.mac: expected a MAC address like 02:54:57:00:00:01, found "02:54:57:00:00"'),
    ({"on": 2}, "value.on: expected true or false, found 2"),
    ({"huge": "x"}, 'value.huge: expected a number as "0x..." of at most 32 digits, found "x"'),
    ({"v6": "10.0.0.1"}, 'value.v6: expected an IPv6 address like 2001:db8::1, found "10.0.0.1"'),
)  # fmt: skip


@pytest.mark.parametrize(("wrong", "sentence"), BAD_VALUES, ids=lambda x: str(x)[:30])
def test_values_that_are_wrong(maps, wrong, sentence):
    assert refused("set", maps.name("odd"), 0, json.dumps(wrong)) == sentence
    assert value("dump", maps.name("odd")) == []


def test_words_that_are_no_json(maps):
    assert refused("get", maps.name("odd"), "{x") == (
        "key: column 2: not JSON: string or '}' expected near 'x'")
    assert refused("set", maps.name("odd"), 1, "[1,").startswith("value: column 3: not JSON: ")
    assert refused("set", maps.name("odd"), 1, "5").startswith("value: expected an object of name, mac, ")


def test_prefixes(maps):
    four, six = maps.name("lpm4"), maps.name("lpm6")
    towpath("set", four, "10.0.0.0/8", 5)
    towpath("set", four, "192.0.2.1", 6)
    towpath("set", six, "2001:db8::/32", "STATE_CLOSED")
    assert {e["key"]: e["value"] for e in value("dump", four)} == {"10.0.0.0/8": 5, "192.0.2.1/32": 6}
    assert value("dump", six) == [{"key": "2001:db8::/32", "value": "STATE_CLOSED"}]
    assert towpath("get", four, "10.1.2.3").stdout == "5\n", "the longest prefix"
    for wrong in ("10.0.0.0/33", "10.0.0.0/", "10.0.0.0/8x", "::/0", "x", "10.0.0.0/-1"):
        assert refused("set", four, wrong, 1) == f'key: expected an IPv4 prefix like 10.0.0.0/8, found "{wrong}"'
    assert refused("delete", four, "11.0.0.0/8") == f"11.0.0.0/8: {four} has no such key"
    towpath("delete", four, "10.0.0.0/8", "192.0.2.1/32")
    assert value("dump", four) == []


# ---- kinds of maps ------------------------------------------------------------------------------


def test_values_of_each_cpu(maps):
    counts = maps.name("cpu_array")
    for cpu in sorted(os.sched_getaffinity(0))[:2]:
        maps.run(5, cpu)
    times = 5 * len(sorted(os.sched_getaffinity(0))[:2])
    assert value("get", counts, 0) == {"packets": times, "bytes": 60 * times}
    each = value("get", counts, 0, "--per-cpu")
    assert sum(one["value"]["packets"] for one in each) == times
    assert [one["cpu"] for one in each] == list(range(len(each)))
    assert value("dump", maps.name("cpu_hash")) == [
        {"key": "60.0.0.0", "value": {"packets": times, "bytes": 60}}]  # fmt: skip
    rows = towpath("dump", counts, "--per-cpu").stdout.splitlines()
    assert rows[0].split() == ["KEY", "CPU", "packets", "bytes"]
    assert len(rows) > len(each)
    # A sum that is written is the sum that is read; a value for each CPU is one for each.
    towpath("set", counts, 1, '{"packets": 7}')
    assert value("get", counts, 1) == {"packets": 7, "bytes": 0}
    towpath("set", counts, 1, '{"packets": 7}', "--per-cpu")
    assert {one["value"]["packets"] for one in value("get", counts, 1, "--per-cpu")} == {7}
    towpath("set", counts, 2, json.dumps(each))
    assert value("get", counts, 2, "--per-cpu") == each
    assert refused("set", counts, 1, '[{"cpu": 4096, "value": {}}]').startswith(
        'value[0]: expected {"cpu": 0 to ')
    assert refused("set", counts, 1, '[{"cpu": 0, "value": {"packets": -1}}]').startswith(
        "value[0].value.packets: expected a number from 0")


def test_arrays(maps):
    array = maps.name("array")
    towpath("set", array, 999, 1)
    assert len(value("dump", array)) == 1000
    table = towpath("dump", array).stdout.splitlines()
    assert len(table) == 4 and table[-1] == "999 elements that are all 0 are not shown (--all shows them)"
    assert len(towpath("dump", array, "--all").stdout.splitlines()) == 1001
    for argv in (("get", array, 1000), ("set", array, 1000, 1)):
        assert refused(*argv) == f"{array} has the indices 0 to 999 only"
    assert refused("delete", array, 1) == f"1: {array} is an array: its elements can be set to 0, but not deleted"
    assert refused("get", array, "x") == 'key: expected a number from 0 to 4294967295, found "x"'


def test_variables(maps):
    data, constants = maps.bpf / "m/maps_data", maps.bpf / "m/maps_rodata"
    assert value("get", data, 0) == {"enabled": 1, "phase": "STATE_OPEN", "label": "first"}
    towpath("set", data, 0, '{"label": "second"}')
    assert value("get", data, 0) == {"enabled": 1, "phase": "STATE_OPEN", "label": "second"}, "others stay"
    towpath("set", data, 0, '{"enabled": 16777217}')
    assert value("get", data, 0)["enabled"] == 16777217
    towpath("set", data, 0, '{"enabled": 1, "label": "first"}')
    assert re.search(r"^label +first$", towpath("dump", data).stdout, re.M)
    assert value("get", constants, 0) == {"fixed": 42}
    assert refused("set", constants, 0, '{"fixed": 1}') == "maps.rodata is frozen: it cannot be changed from outside"
    assert value("show", constants)["frozen"] is True
    before = value("get", maps.bpf / "m/maps_bss", 0)["runs"]
    maps.run(3, sorted(os.sched_getaffinity(0))[0])
    towpath("set", maps.bpf / "m/maps_bss", 0, '{"port": 443}')
    assert value("get", maps.bpf / "m/maps_bss", 0).items() >= {"runs": before + 3, "port": 443}.items()


def test_programs_and_maps_as_values(maps):
    jumps, outer = maps.name("jumps"), maps.name("outer")
    program = maps.bpftool("prog", "show", "pinned", maps.program("next"))["id"]
    inner = maps.bpftool("map", "show", "pinned", maps.map("inner"))["id"]
    assert value("dump", jumps) == []
    towpath("set", jumps, 1, program)
    assert value("dump", jumps) == [{"key": 1, "value": program}]
    assert refused("set", jumps, 1, 4294967295) == "there is no program with that id"
    assert refused("set", jumps, 3, program) == f"{jumps} has the indices 0 to 2 only"
    towpath("delete", jumps, 1)
    assert refused("get", jumps, 1) == f"{jumps} has no such key"
    towpath("set", outer, "10.0.0.1", inner)
    assert value("get", outer, "10.0.0.1") == inner
    other = maps.bpftool("map", "show", "pinned", maps.map("array"))["id"]
    assert refused("set", outer, "10.0.0.1", other) == (
        f"{outer} does not take that one: its type, or its layout, is another")
    towpath("delete", outer, "10.0.0.1")


def test_what_has_no_entries(maps):
    for argv in (("dump",), ("get", 1), ("set", 1, 1), ("delete", 1)):
        assert refused(argv[0], maps.name("ring"), *argv[1:]) == (
            f"{maps.name('ring')} is a ringbuf: it holds events, not entries, and its reader takes them out")
        assert refused(argv[0], maps.name("queue"), *argv[1:]) == (
            f"{maps.name('queue')} is a queue: its elements have no keys, and reading takes them out")
    assert value("dump", maps.name("socks")) == []
    assert refused("set", maps.name("socks"), "{}", 1) == (
        f"{maps.name('socks')} is a sockhash: its values are sockets, which only their owner can put in")


def test_sockets(maps):
    """By their cookies, as ss and getsockopt(SO_COOKIE) tell them."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as sock:
        (cookie,) = struct.unpack("=Q", sock.getsockopt(socket.SOL_SOCKET, 57, 8))  # SO_COOKIE
        key = socket.inet_aton("127.0.0.1") * 2 + struct.pack("!HHBxxx", 1, 2, 6)
        with Map(maps.map("socks")) as opened:
            opened.update(key, struct.pack("=Q", sock.fileno()))
        expected = {"saddr": "127.0.0.1", "daddr": "127.0.0.1", "sport": 1, "dport": 2, "proto": 6, "pad": [0, 0, 0]}
        assert value("dump", maps.name("socks")) == [{"key": expected, "value": cookie}]
        assert value("get", maps.name("socks"), json.dumps(expected)) == cookie
        towpath("delete", maps.name("socks"), json.dumps(expected))
        assert value("dump", maps.name("socks")) == []


def test_without_btf(maps):
    pin = maps.bpf / "plain"
    maps.bpftool("map", "create", pin, "type", "hash", "key", 4, "value", 6, "entries", 1, "name",
                 maps.name("plain"))  # fmt: skip
    towpath("set", pin, "01020304", "aa bb cc dd ee ff")
    assert value("dump", pin) == [{"key": "01 02 03 04", "value": "aa bb cc dd ee ff"}]
    name = maps.name("plain")
    assert refused("get", pin, "010203") == "key: expected 4 bytes, found 3"
    assert refused("set", pin, "01020304", "00") == "value: expected 6 bytes, found 1"
    assert refused("get", pin, "5") == 'key: expected bytes like "0a 00 00 01", as the map has no BTF, found "5"'
    assert refused("set", pin, "01020305", "aabbccddeeff") == f"{name} is full: it holds 1 entries"
    assert refused("set", pin, "01020304", "aabbccddeeff", "--new") == f"{name} has that key already"
    assert refused("set", pin, "01020305", "aabbccddeeff", "--existing") == f"{name} has no such key"
    assert value("get", pin, "01020304") == "aa bb cc dd ee ff"


# ---- files, sizes, care -------------------------------------------------------------------------


def test_files_are_checked_whole(maps):
    lru = maps.name("lru")
    path = maps.dir / "lru.json"
    path.write_text('[{"key": "::1", "value": 1}, {"key": "::2", "value": -1}]')
    assert refused("set", lru, "-f", path) == (
        f"{path}: [1].value: expected a number from 0 to 4294967295, found -1")
    assert value("dump", lru) == []
    for text, sentence in (
        ("{}", 'expected an array of {"key": ..., "value": ...}'),
        ('[{"key": "::1"}]', '[0]: expected {"key": ..., "value": ...}'),
        ('[{"key": "::1", "value": 1, "more": 1}]', '[0]: expected {"key": ..., "value": ...}'),
    ):
        assert refused("set", lru, "-f", "-", stdin=text) == f"<stdin>: {sentence}"
    assert refused("set", lru, "-f", "-", stdin="[\n{,").startswith("<stdin>:2:2: ")
    assert refused("set", lru, "-f", maps.dir / "none.json").endswith("none.json: No such file or directory")


def test_large_map_in_bounded_memory(maps):
    """200 000 entries are 20 MB of JSON; what is printed is not kept."""
    number = 200000
    entries = ",".join(f'{{"key":{i},"value":{i * 2}}}' for i in range(number))
    towpath("set", maps.name("large"), "-f", "-", stdin=f"[{entries}]")
    script = "ulimit -v 60000; exec \"$0\" map dump \"$1\" -o json"
    done = subprocess.run(["sh", "-c", script, binary("towpath"), maps.name("large")], capture_output=True,
                          text=True, timeout=120, check=True)  # fmt: skip
    got = json.loads(done.stdout)
    assert len(got) == number
    assert all(entry["value"] == 2 * entry["key"] for entry in got)
    head = subprocess.run(["sh", "-c", '"$0" map dump "$1" | head -2', binary("towpath"), maps.name("large")],
                          capture_output=True, text=True, timeout=60, check=True)  # fmt: skip
    assert len(head.stdout.splitlines()) == 2 and not head.stderr


def test_maps_of_the_data_path_are_the_agents(maps):
    pin = maps.bpf / "own"
    maps.bpftool("map", "create", pin, "type", "hash", "key", 4, "value", 4, "entries", 1, "name", "tw_made_up")
    for argv in (("set", pin, "00000000", "01000000"), ("delete", pin, "00000000")):
        assert refused(*argv) == ("tw_made_up is a map of Towpath's own data path, which the agent alone writes; "
                                  "--force does it all the same")  # fmt: skip
    towpath("set", pin, "00000000", "01000000", "--force")
    towpath("delete", pin, "00000000", "--force")


# ---- watch ----------------------------------------------------------------------------------------


def test_watch_lines(maps):
    """What comes, changes and goes, each once."""
    flows = maps.name("flows")
    towpath("set", flows, "-f", "-", stdin=json.dumps([
        {"key": {**FLOW, "sport": port}, "value": {"packets": 10}} for port in (1, 2, 3)]))  # fmt: skip
    watch = subprocess.Popen([binary("towpath"), "map", "watch", flows, "-o", "json", "--interval", "100ms"],
                             stdout=subprocess.PIPE, text=True)  # fmt: skip
    try:
        # Something that changes until it is seen says that the first look is over.
        seen, turn = [], 0
        reader = threading.Thread(target=lambda: seen.extend(map(json.loads, iter(watch.stdout.readline, ""))))
        reader.start()

        def touched():
            nonlocal turn
            turn += 1
            towpath("set", flows, json.dumps({**FLOW, "sport": 1}), json.dumps({"packets": 10 + turn}))
            return seen

        assert wait_for(touched, 20, 0.1)
        towpath("set", flows, json.dumps({**FLOW, "sport": 2}), '{"packets": 25, "state": "STATE_OPEN"}')
        towpath("set", flows, json.dumps({**FLOW, "sport": 4}), '{"packets": 1}')
        towpath("delete", flows, json.dumps({**FLOW, "sport": 3}))
        assert wait_for(lambda: {1, 2, 3, 4} == {line["key"]["sport"] for line in seen}, 20, 0.1)
        by_port = {line["key"]["sport"]: line for line in seen}
        assert [by_port[port]["state"] for port in (2, 3, 4)] == ["changed", "gone", "new"]
        assert by_port[2]["value"]["packets"] == 25 and by_port[2]["value"]["state"] == "STATE_OPEN"
        assert by_port[2]["rates"]["packets"] > 0 and by_port[2]["rates"]["bytes"] == 0
        assert "sport" not in by_port[2]["rates"]
    finally:
        watch.terminate()
        watch.wait()
        reader.join()
        watch.stdout.close()


def test_watch_count_and_words(maps):
    counts = maps.name("cpu_array")
    done = None

    def watched():
        nonlocal done
        done = towpath("watch", counts, "--interval", "500ms", "--count", "1")

    # Something changes for as long as it looks.
    thread = threading.Thread(target=watched)
    thread.start()
    while thread.is_alive():
        maps.run(7, sorted(os.sched_getaffinity(0))[0])
    thread.join()
    rate = r"\(\+\d+, \d+\.\d/s\)"
    assert re.fullmatch(rf"[0-9:.]+  changed  0  packets \d+ {rate}, bytes \d+ {rate}\n", done.stdout), done.stdout
    for argv, sentence in (
        (("--interval", "1ms"), '--interval takes 100ms to 1h, not "1ms"'),
        (("--count", "0"), '--count takes a number, not "0"'),
    ):
        done = towpath("watch", counts, *argv, check=False)
        assert (done.returncode, done.stderr) == (2, f"towpath map watch: {sentence}; see towpath map watch --help\n")
    assert refused("watch", maps.name("queue")).startswith(f"{maps.name('queue')} is a queue: ")


def test_watch_on_a_terminal(maps):
    parent, child = pty.openpty()
    process = subprocess.Popen([binary("towpath"), "map", "watch", maps.name("cpu_array"), "--interval", "100ms"],
                               stdin=child, stdout=child, env={**os.environ, "TERM": "xterm"})  # fmt: skip
    os.close(child)
    text = ""

    def seen():
        nonlocal text
        maps.run(3, sorted(os.sched_getaffinity(0))[0])
        while select.select([parent], [], [], 0.05)[0]:
            text += os.read(parent, 65536).decode()
        plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r", "", text)
        return re.search(r"packets +packets/s +bytes +bytes/s *\n *0 +\d+ +[1-9][\d.]* +\d+ +[1-9]", plain)

    try:
        assert wait_for(seen, 20, 0.1), text
        assert f"{maps.name('cpu_array')}: 4 entries, 1 changed" in text
        os.write(parent, b"q")
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
        os.close(parent)


@pytest.mark.parametrize("buffer", ("ring", "perf"))
def test_watch_events(maps, buffer):
    cpu = sorted(os.sched_getaffinity(0))[0]
    watch = subprocess.Popen([binary("towpath"), "map", "watch", maps.name(buffer), "--as", "event", "--count", "3",
                              "-o", "json"], stdout=subprocess.PIPE, text=True)  # fmt: skip
    try:

        def ended():
            maps.run(1, cpu, "events")
            return watch.poll() is not None

        assert wait_for(ended, 20, 0.1)
        lines = [json.loads(line) for line in watch.stdout]
    finally:
        watch.kill()
        watch.wait()
        watch.stdout.close()
    assert watch.returncode == 0 and len(lines) == 3
    whole = {"saddr": "10.0.0.1", "port": 80, "state": "STATE_OPEN"}
    assert lines[0]["event"] == whole
    name = maps.name(buffer)
    if buffer == "ring":
        assert "event" not in lines[1] and lines[1]["size"] == 4, "too short"
        maps.run(1, cpu, "events")
        text = towpath("watch", name, "--count", "1").stdout
        # As the kernel has them: the padding, too.
        assert re.fullmatch(r"[0-9:.]+  0a 00 00 01( [0-9a-f]{2}){0,8}\n", text), text
    assert refused("watch", name, "--as", "evnt").startswith(f'{name}: there is no type "evnt" in the BTF of its program')
    done = towpath("watch", maps.name("flows"), "--as", "event", check=False)
    assert done.returncode == 2 and "--as is for buffers of events" in done.stderr


def test_needs_root():
    done = subprocess.run(["setpriv", "--reuid", "65534", "--clear-groups", binary("towpath"), "map", "list"],
                          capture_output=True, text=True, timeout=20, check=False)  # fmt: skip
    assert (done.returncode, done.stderr) == (1, "towpath: maps of the kernel are root's: use sudo\n")


def test_names_are_completed(maps):
    offered = subprocess.run([binary("towpath"), "--complete", "map", "dump", maps.name("lp")],
                             capture_output=True, text=True, timeout=20, check=True).stdout  # fmt: skip
    assert offered.split() == [maps.name("lpm4"), maps.name("lpm6")]
    offered = subprocess.run([binary("towpath"), "--complete", "map", "list", "--type", "lp"], capture_output=True,
                             text=True, timeout=20, check=True).stdout  # fmt: skip
    assert offered.split() == ["lpm_trie"]
    offered = subprocess.run([binary("towpath"), "--complete", "log", "--program", maps.name("ev")],
                             capture_output=True, text=True, timeout=20, check=True).stdout  # fmt: skip
    assert offered.split() == [maps.name("events")]
    offered = subprocess.run([binary("towpath"), "--complete", "log", "--reason", "NO_SOCKET,TCP_CS"],
                             capture_output=True, text=True, timeout=20, check=True).stdout  # fmt: skip
    assert offered.split() == ["NO_SOCKET,TCP_CSUM"]
