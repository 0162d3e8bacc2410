# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""The edge when things go wrong or change under traffic: agents that die, a reboot, devices that go
and come back, others' programs, lists of a million lines, files that are none."""

import contextlib
import json
import os
import random
import select
import socket
import threading
import time

import pytest
from netns import run
from node import AF, Node
from program import build, counter, scratch
from traffic import udp_ask, wait_for

BAD = {4: "203.0.113.7", 6: "2001:db8:5::7"}
GOOD = {4: "192.0.2.9", 6: "2001:db8:9::9"}
PORT = 9988


@pytest.fixture(scope="module")
def shared():
    """A node with strangers outside."""
    with Node(options=("--metrics", str(PORT))) as made:
        for address in (*BAD.values(), *GOOD.values()):
            made.outside.add_address(address)
        yield made


@pytest.fixture
def node(shared):
    """The node with the edge on its uplink and no rule."""
    edge(shared, "attach", "up0", "--force")
    yield shared
    for rest in state(shared)["rules"]:
        edge(shared, rest["action"], rest["text"], "--remove", "--force")
    for device in state(shared)["devices"]:
        edge(shared, "detach", device["device"])


def edge(node, *words, check=True):
    return node.towpath("edge", *words, check=check)


def state(node):
    return json.loads(edge(node, "status", "-o", "json").stdout)


def rule(node, text):
    return next(item for item in state(node)["rules"] if item["text"] == text)


def answers(node, source, family, seconds=1.0):
    return udp_ask(node.outside, node, family, address=node.ip(family), source=source,
                   seconds=seconds) is not None  # fmt: skip


def attached(node):
    return wait_for(lambda: all(d["attached"] for d in state(node)["devices"]), 10)


def is_filtered(node, family):
    return not answers(node, BAD[family], family, 0.3) and answers(node, GOOD[family], family)


def is_free(node):
    """No XDP program at the uplink."""
    return "xdp" not in node.netns.run("ip", "-d", "link", "show", "dev", "up0").stdout


def write(path, *lines):
    path.write_text("".join(line + "\n" for line in lines))
    return path


class Stream:
    """Datagrams from a good and a bad stranger, one of each every 0.2 ms, until the end."""

    def __init__(self, node, family):
        self.sent, self.got = [0, 0], [0, 0]
        self.over = threading.Event()
        self.to = node.netns.socket(AF[family], socket.SOCK_DGRAM)
        self.to.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self.to.bind((node.ip(family), 0))
        self.sources = [GOOD[family], BAD[family]]
        self.froms = [node.outside.netns.socket(AF[family], socket.SOCK_DGRAM) for _ in (0, 1)]
        for sock, source in zip(self.froms, self.sources):
            sock.bind((source, 0))
            sock.connect(self.to.getsockname()[:2])
        self.threads = [threading.Thread(target=self.send), threading.Thread(target=self.receive)]

    def send(self):
        while not self.over.is_set():
            for i, sock in enumerate(self.froms):
                with contextlib.suppress(OSError):
                    sock.send(b"x")
                    self.sent[i] += 1
            time.sleep(0.0002)

    def receive(self):
        while not self.over.is_set() or select.select([self.to], [], [], 0.2)[0]:
            if select.select([self.to], [], [], 0.2)[0]:
                self.got[self.sources.index(self.to.recvfrom(16)[1][0])] += 1

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def more(self, n=200):
        """So many more were sent."""
        before = self.sent[1]
        assert wait_for(lambda: self.sent[1] >= before + n, 20)

    def __exit__(self, *_exc):
        self.over.set()
        for thread in self.threads:
            thread.join()
        for sock in (*self.froms, self.to):
            sock.close()


# ---- under traffic ----------------------------------------------------------------------------


def test_not_one_packet_passes_while_everything_changes(node, family, tmp_path):
    """A list replaced whole, a program loaded anew, an agent killed and started: all under a stream
    from an address that is on the list throughout, and from one that never is."""
    one = write(tmp_path / "one", BAD[family], "198.18.0.0/15")
    other = write(tmp_path / "other", BAD[family], *(f"100.64.{i}.0/25" for i in range(200)))
    edge(node, "deny", one, "--name", "list")
    with Stream(node, family) as stream:
        stream.more()
        for i in range(6):
            edge(node, "deny", (other, one)[i % 2], "--name", "list")
        edge(node, "deny", "53/udp")  # other settings: the program is loaded anew
        edge(node, "deny", "53/udp", "--remove")
        stream.more()
        node.kill()
        stream.more()
        node.start()
        attached(node)
        edge(node, "deny", other, "--name", "list")
        stream.more()
    assert stream.got[1] == 0, f"of {stream.sent[1]} packets"
    assert stream.got[0] == stream.sent[0]
    # Each was counted by the list, under however many numbers it had.
    assert rule(node, "list")["packets"] >= stream.sent[1] * 0.9


def test_a_rule_begins_at_nothing(node, tmp_path):
    edge(node, "deny", BAD[4])
    assert not answers(node, BAD[4], 4, 0.3)
    assert rule(node, BAD[4])["packets"] >= 1
    edge(node, "deny", BAD[4], "--remove")
    edge(node, "deny", BAD[6])  # the number that is free now
    assert rule(node, BAD[6])["packets"] == 0


# ---- what goes and comes back --------------------------------------------------------------------


def test_a_reboot(node, family, tmp_path):
    """The state directory stays; pins, programs and maps are gone."""
    edge(node, "deny", write(tmp_path / "drop.txt", BAD[family]))
    edge(node, "deny", "198.18.7.0/24", "--for", "1h")
    node.kill()
    while os.path.ismount(node.run_dir / "bpf"):
        run("umount", node.run_dir / "bpf")
    assert wait_for(lambda: is_free(node), 10)
    assert answers(node, BAD[family], family)
    node.start()
    attached(node)
    assert is_filtered(node, family)
    assert [r["text"] for r in state(node)["rules"]] == ["drop.txt", "198.18.7.0/24"]


def test_a_device_that_comes_back(node, family):
    edge(node, "deny", BAD[family])
    node.netns.ip("link del up0")
    assert wait_for(lambda: state(node)["devices"][0]["state"] == "gone", 10)
    health = node.status()["health"]
    assert any(p["what"] == "edge" and "up0" in p["text"] for p in health["problems"]), health
    outside = node.outside
    node.netns.ip(f"link add up0 type veth peer name net0 netns {outside.netns.name}", "link set up0 up",
                  f"addr add {node.ip(4)}/24 dev up0", f"addr add {node.ip(6)}/64 dev up0 nodad",
                  f"route add default via {outside.ip(4)}", f"route add default via {outside.ip(6)}")  # fmt: skip
    outside.netns.ip("link set net0 up", f"addr add {outside.ip(4)}/24 dev net0",
                     f"addr add {outside.ip(6)}/64 dev net0 nodad")  # fmt: skip
    attached(node)
    assert wait_for(lambda: is_filtered(node, family), 10)


def test_time_goes_on_without_the_agent(node):
    edge(node, "deny", BAD[4], "--for", "1s")
    edge(node, "deny", "198.18.0.0/15", "--for", "1h")
    node.kill()
    time.sleep(1.1)
    node.start()
    assert wait_for(lambda: [r["text"] for r in state(node)["rules"]] == ["198.18.0.0/15"], 10)
    attached(node)
    assert answers(node, BAD[4], 4)


def test_a_damaged_list_is_named_and_the_others_hold(node, tmp_path):
    edge(node, "deny", write(tmp_path / "first", "198.18.0.0/15"))
    edge(node, "deny", write(tmp_path / "second", BAD[4]))
    node.kill()
    kept = sorted((node.state_dir / "edge").iterdir())
    kept[0].write_text("rubbish\n")
    node.start()
    attached(node)
    assert is_filtered(node, 4)
    problems = [p["text"] for p in node.status()["health"]["problems"] if p["what"] == "edge"]
    assert len(problems) == 1 and "first" in problems[0], problems


# ---- others -----------------------------------------------------------------------------------------


def test_a_program_of_somebody_else(node):
    """Named and left alone; with --replace it goes, and the device's others stay."""
    edge(node, "detach", "up0")
    assert is_free(node)
    made = build(scratch(), counter("theirs", "xdp", "XDP_PASS"), "theirs")
    node.netns.run("ip", "link", "set", "dev", "up0", "xdp", "obj", made, "sec", "xdp")
    done = edge(node, "attach", "up0", check=False)
    assert done.returncode == 1 and "theirs" in done.stderr and "--replace" in done.stderr, done
    assert "theirs" in shown(node) and not state(node)["devices"]
    edge(node, "attach", "up0", "--replace")
    assert "theirs" not in shown(node) and state(node)["devices"][0]["attached"]


def shown(node):
    """Name of the XDP program at the uplink."""
    row = json.loads(node.netns.run("bpftool", "-j", "net", "show", "dev", "up0").stdout)[0]["xdp"]
    return [json.loads(run("bpftool", "-j", "prog", "show", "id", str(r["id"])).stdout)["name"]
            for r in row]  # fmt: skip


def test_generic_mode_says_why(node):
    edge(node, "detach", "up0")
    node.netns.ip("link add bare type bridge", "link set bare up")
    done = edge(node, "attach", "bare")
    assert "generic" in done.stdout and "driver" in done.stderr, done
    done = edge(node, "attach", "up0", "--mode", "generic")
    assert "generic" in done.stdout
    edge(node, "deny", BAD[4])
    assert is_filtered(node, 4)
    done = edge(node, "status", "up0", "-o", "json")
    assert [d["device"] for d in json.loads(done.stdout)["devices"]] == ["up0"]
    assert edge(node, "status", "lo", check=False).returncode == 1
    node.netns.ip("link del bare")


# ---- who must not be locked out --------------------------------------------------------------------


@pytest.mark.parametrize("words", [("192.0.2.0/24",), ("22/tcp",), ("tcp",), ("192.0.2.9", "--port", "22/tcp")])
def test_who_types_it_is_not_locked_out(node, words, monkeypatch):
    monkeypatch.setenv("SSH_CONNECTION", f"{GOOD[4]} 50000 {node.ip(4)} 22")
    done = edge(node, "deny", *words, check=False)
    assert done.returncode == 1 and GOOD[4] in done.stderr and "--force" in done.stderr, done
    assert not state(node)["rules"]
    edge(node, "deny", *words, "--force")


def test_nor_the_way_to_the_world(node, tmp_path):
    for words in ((node.outside.ip(4),), (f"{node.ip(6)}/64",), ("icmp6",), ("0.0.0.0/0",)):
        done = edge(node, "deny", *words, check=False)
        assert done.returncode == 1 and "lock out" in done.stderr, done
    # A list that was kept while nothing was attached is looked at when something is.
    edge(node, "detach", "up0")
    path = write(tmp_path / "all", "0.0.0.0/1", "128.0.0.0/1")
    assert "lock out" in edge(node, "deny", path, check=False).stderr
    edge(node, "deny", path, "--force")
    done = edge(node, "attach", "up0", check=False)
    assert done.returncode == 1 and "list" not in done.stdout and "all" in done.stderr, done
    assert is_free(node)


# ---- files ---------------------------------------------------------------------------------------------


def test_every_format(node, tmp_path):
    lines = [
        "; Spamhaus", "198.18.1.0/24 ; SBL1", "# comment", "", "  198.18.2.1  ", "198.18.3.0 - 198.18.3.5",
        "198.18.4.9-198.18.4.10", "2001:db8:7::/48", "2001:db8:8::1-2001:db8:8::4", "198.18.5.0/24\tword",
        "198.18.5.0/24",
    ]  # fmt: skip
    path = tmp_path / "all.txt"
    path.write_bytes("\r\n".join(lines).encode())  # without a last line break
    edge(node, "deny", path)
    for address, line in (("198.18.1.255", 2), ("198.18.2.1", 5), ("198.18.3.5", 6), ("198.18.4.9", 7),
                          ("2001:db8:7:ffff::1", 8), ("2001:db8:8::4", 9), ("198.18.5.1", 10)):  # fmt: skip
        got = json.loads(edge(node, "test", address, "-o", "json").stdout)
        assert (got["verdict"], got["line"]) == ("deny", line), got
    for address in ("198.18.2.2", "198.18.3.6", "198.18.4.8", "2001:db8:8::5", "2001:db8:6::"):
        assert json.loads(edge(node, "test", address, "-o", "json").stdout)["verdict"] == "pass"


@pytest.mark.parametrize(
    "line, column, part",
    [
        ("198.18.0.0/33", 12, "0 to 32"),
        ("2001:db8::/129", 12, "0 to 128"),
        ("198.18.0", 1, "expected an address"),
        ("198.18.0.01", 1, "expected an address"),
        ("198.18.0.9-198.18.0.1", 22, "ends before it begins"),
        ("198.18.0.9-2001:db8::1", 23, "family"),
        ("198.18.0.0/24x", 14, "expected the end"),
        ("\x00\x01", 1, "expected an address"),
        ("::ffff:192.0.2.1", 1, "expected an address"),
    ],
)
def test_what_is_no_list_changes_nothing(node, tmp_path, line, column, part):
    path = write(tmp_path / "drop.txt", BAD[4])
    edge(node, "deny", path)
    write(path, "# a list", "198.18.0.0/24", line, "198.18.1.0/24")
    done = edge(node, "deny", path, check=False)
    assert done.returncode == 1 and done.stderr.startswith(f"drop.txt:3:{column}: "), done.stderr
    assert part in done.stderr
    assert rule(node, "drop.txt")["entries"] == 1 and is_filtered(node, 4)
    assert len(list((node.state_dir / "edge").iterdir())) == 1


def test_a_million_lines(node, tmp_path):
    random.seed(5)
    listed = random.sample(range(0x0B000000, 0xC0000000), 1_000_000)
    path = tmp_path / "million"
    path.write_text("".join(f"{a >> 24}.{a >> 16 & 255}.{a >> 8 & 255}.{a & 255}\n" for a in listed))
    got = json.loads(edge(node, "deny", path, "-o", "json").stdout)
    assert got["rules"][0]["entries"] == 1_000_000 and got["in_force"]
    assert all(got[key] > 0 for key in ("parse_us", "store_us", "build_us", "total_us"))
    table = state(node)["table"]
    assert table["prefixes4"] == 1_000_000
    assert table["kernel_bytes"] + table["agent_bytes"] <= 100 << 20
    for number in (0, 500_000, 999_999):
        address = socket.inet_ntoa(listed[number].to_bytes(4, "big"))
        test = json.loads(edge(node, "test", address, "-o", "json").stdout)
        assert (test["verdict"], test["line"]) == ("deny", number + 1)
    edge(node, "deny", BAD[4])
    assert is_filtered(node, 4)
    edge(node, "deny", "million", "--remove")
    assert state(node)["table"]["prefixes4"] == 1 and is_filtered(node, 4)


# ---- what is shown ---------------------------------------------------------------------------------------


def test_top_status_and_metrics_agree(node):
    edge(node, "deny", BAD[4])
    with Stream(node, 4) as stream:
        stream.more(50)
        top = json.loads(edge(node, "top", "--once", "--interval", "200ms", "-o", "json").stdout)
        table = edge(node, "top", "--once", "--interval", "200ms").stdout
    row = next(item for item in top["items"] if item["what"] == BAD[4])
    assert row["verdict"] == "drop" and row["packets_s"] > 0 and top["drop"]["packets_s"] > 0
    assert top["pass"]["packets_s"] > 0 and f"drop     {BAD[4]}" in table
    assert all(row["dropped_s"] + row["passed_s"] > 0 for row in top["sources"])
    status = node.status()["edge"]
    assert (status["rules"], status["lists"], status["prefixes"]) == (1, 0, 1)
    assert status["packets"] == rule(node, BAD[4])["packets"] == stream.sent[1]
    assert f"{'edge':11}up0 (native)" in node.towpath("status").stdout
    text = node.netns.run("curl", "-s", f"http://127.0.0.1:{PORT}/metrics").stdout
    assert f'towpath_edge_rule_packets_total{{action="deny",rule="{BAD[4]}"}} {stream.sent[1]}' in text
    assert 'towpath_edge_attached{device="up0",mode="native"} 1' in text
    assert BAD[4] in edge(node, "lists").stdout


def test_top_names_who_sends(node):
    """Of 1024 packets one is looked at, so it takes some."""
    edge(node, "deny", BAD[4])
    with node.outside.netns.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((BAD[4], 0))
        sock.connect((node.ip(4), 9))

        def seen():
            for _ in range(3000):
                with contextlib.suppress(OSError):
                    sock.send(b"x")
            items = node.api("GET", "/v1/edge/sources")["items"]
            return any(row["address"] == BAD[4] and row["dropped"] >= 1024 for row in items)

        assert wait_for(seen, 20)


def test_uninstall_takes_it_out(node):
    assert not is_free(node)
    assert node.stop() == 0
    assert not is_free(node)
    node.netns.run(*node.argv("--uninstall"))
    assert is_free(node)
    node.start()
