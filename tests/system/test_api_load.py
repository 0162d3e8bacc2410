# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""10 000 slow, malformed, endless and oversized requests: each is refused, a well-behaved client
is answered all along, and the agent has the size and the descriptors that it had before.

TOWPATH_SEED repeats the order.
"""

import contextlib
import json
import os
import pwd
import random
import re
import socket
import stat
import subprocess
import sys
import time

import pytest
from node import Node, namespace_object
from traffic import wait_for

# How long a client waits is measured.
pytestmark = pytest.mark.alone
SEED = int(os.environ.get("TOWPATH_SEED") or random.randrange(1 << 32))
REQUESTS = 10000
LARGEST = (64 if os.environ.get("TOWPATH_FULL") else 8) << 20
ENDED = 30.0  # seconds; the agent ends an exchange after 20
ANSWERED = 3.0  # seconds; a request takes a millisecond when nothing else happens
GROWTH_KB = 2048  # between two quiet moments
PEAK_KB = 256 << 10  # a request of 64 MB, and what it becomes

WRONG = (
    None, True, 0, -1, 1e300, 2**63 - 1, "", "x" * 5000, "a b", "../..", "\0", "\u202e%s%n", [], {},
    [None], [[]], ["x"], [1], {"": 1}, {"a": {"b": []}}, ["10.0.0.0/33"], ["::/129"],
)  # fmt: skip
ADD = {
    "container_id": "c1", "ifname": "eth0", "netns": "/nonexistent", "sandbox": "", "network": "n",
    "namespace": "shop", "pod": "p", "labels": {}, "ips": [], "mac": "02:00:00:00:00:01",
    "mtu": 1500, "subnets": [],
}  # fmt: skip
FILE = {"name": "a.yaml", "text": "{}"}
NOT_JSON = (
    b"", b"{", b"}", b"[", b"nul", b"{]", b'{"a"', b'{"a":}', b'{"a":1,}', b"[1,]", b"'a'", b"NaN",
    b"1e999", b"0x1", b'"\xff"', b'"\\ud800"', b'"\\u00"', b"\xef\xbb\xbf{}", b"\0{}", b"{}{}",
    b'{"a":1 "b":2}',
    b'{"files":[{"name":"a","text":"' + b"\x01" * 9 + b'"}]}',
    b"[" * 100000, b'{"a":' * 20000, b"[" * 2000 + b"]" * 2000, b"[" + b"1," * 300000 + b"1]",
    b'{"files":[' + b"{}," * 90000 + b"{}]}", b"9" * 100000, b'"' + b"\\" * 99999,
)  # fmt: skip
# Texts of a file that is applied.
NOT_YAML = (
    "[" * 100000, "- " * 50000, "a: " * 50000, "{" * 9999, "? " * 50000, "&a [*a]", "*a", "%YAML 9",
    "a0: &a0 [x]\n" + "".join(
        f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 8)}]\n" for i in range(1, 20)),
    "\t", "\0", "a: 'b", 'a: "b', "---\n" * 50000 + "a", "!!binary x", "<<: [<<, <<]",
    "- 1\n" * 50000,
)  # fmt: skip


def request(method, path, body=b"", head=b""):
    return b"%s %s HTTP/1.1\r\nHost: x\r\n%sContent-Length: %d\r\n\r\n" % (
        method.encode(), path.encode(), head, len(body)) + body  # fmt: skip


def post(path, value):
    return request("POST", path, json.dumps(value).encode())


def wrong_types():
    """Every field of every call with everything that it is not."""
    for path in ("/v1/apply", "/v1/delete", "/v1/endpoints", "/v1/endpoints/gc"):
        yield from (request("POST", path, text) for text in NOT_JSON)
        yield from (post(path, value) for value in WRONG)
    for path in ("/v1/apply", "/v1/delete"):
        yield from (post(path, {"files": value}) for value in WRONG if value != [])
        for field in FILE:
            yield from (post(path, {"files": [FILE | {field: v}]}) for v in WRONG if v != "")
        yield from (post(path, {"files": [{"name": "a", "text": text}]}) for text in NOT_YAML)
    for field in ADD:
        yield from (post("/v1/endpoints", ADD | {field: value}) for value in WRONG)
    gc = {"network": "nobody", "keep": [{"container_id": "a", "ifname": "b"}]}
    for field in gc:
        yield from (post("/v1/endpoints/gc", gc | {field: value}) for value in WRONG
                    if not (field == "keep" and isinstance(value, list))
                    and not (field == "network" and isinstance(value, str)))  # fmt: skip


def wrong_http():
    """What is no request of this API, or no HTTP."""
    for path in ("/", "/v1", "/v2/status", "/v1/objects/", "/v1/objects/pods/a", "/v1/objects/x",
                 "/v1/endpoints/a", "/v1/flows?last=-1", "/v1/flows?x=y", "/v1/explain",
                 "/v1/explain?from=%00&to=%ff&proto=x&port=99999", "/v1/objects/pods/../../x",
                 "/v1/endpoints/" + "%2F" * 99 + "/eth0", "/v1/objects/Pod/a/" + "b" * 8000,
                 "*", "http://x/v1/nothing"):  # fmt: skip
        yield request("GET", path)
        yield request("BREW", path)
    yield b"GET\r\n\r\n"
    yield b"\x16\x03\x01" + bytes(200) + b"\r\n\r\n"
    yield b"GET /v1/status HTTP/9.9\r\n\r\n"
    yield b"GET /v1/status HTTP/1.1\r\n" + b"X: " + b"a" * 40000 + b"\r\n\r\n"
    yield b"GET /v1/status HTTP/1.1\r\n" + b"A: b\r\n" * 5000 + b"\r\n"
    yield b"GET /" + b"a" * 40000 + b" HTTP/1.1\r\nHost: x\r\n\r\n"
    for length in (b"-1", b"x", b"99999999999999999999999", b"67108865", b"1, 2"):
        yield b"POST /v1/apply HTTP/1.1\r\nHost: x\r\nContent-Length: " + length + b"\r\n\r\n"
    chunked = b"POST /v1/apply HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    for body in (b"z\r\n", b"-1\r\n", b"ffffffffffffffffff\r\n", b"1\r\nab\r\n", b"0\r\n\r\n"):
        yield chunked + body
    yield post("/v1/endpoints", {"x": "y" * (1 << 20)})


class Load:
    def __init__(self, node):
        self.node, self.count = node, 0

    def connect(self, seconds=10):
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(self.node.socket)  # waits for its place; with a time-out it would not
        sock.settimeout(seconds)
        self.count += 1
        return sock

    def part(self, data, half_close):
        """The begin of a request, and then nothing more."""
        with self.connect() as sock, contextlib.suppress(BrokenPipeError, ConnectionResetError):
            sock.sendall(data)
            if half_close:
                sock.shutdown(socket.SHUT_WR)
                sock.settimeout(0.01)
                with contextlib.suppress(TimeoutError):
                    sock.recv(4096)

    def answer(self, data):
        """The status of the answer to these bytes; None: the connection was closed."""
        with self.connect() as sock:
            try:
                sock.sendall(data)
                got = b""
                while b"\r\n" not in got:
                    piece = sock.recv(4096)
                    if not piece:
                        return None
                    got += piece
            except (BrokenPipeError, ConnectionResetError):
                return None
            return int(got.split()[1])

    def refused(self, data):
        status = self.answer(data)
        assert status is None or 400 <= status < 500 or status in (501, 505), (status, data[:300])


# A process of its own: places are taken from the process that has the most.
CLIENT = """
import json, socket, sys, threading, time
errors, answers, slowest, stop = [], 0, 0.0, threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
while True:
    start, got = time.monotonic(), b""
    try:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(sys.argv[1])
            sock.settimeout(30)
            sock.sendall(b"GET /v1/status HTTP/1.0\\r\\n\\r\\n")
            while piece := sock.recv(65536):
                got += piece
        if b" 200 " not in got[:20]:
            errors.append(got[:200].decode() or "closed without an answer")
    except OSError as err:
        errors.append(repr(err))
    slowest = max(slowest, time.monotonic() - start)
    answers += 1
    if stop.wait(0.02):
        break
print(json.dumps({"errors": errors, "answers": answers, "slowest": slowest}))
"""


class Client:
    """Behaves well, and notes how long it waits."""

    def __init__(self, node):
        self.node, self.slowest, self.answers, self.errors = node, 0.0, 0, []

    def __enter__(self):
        self._process = subprocess.Popen(
            [sys.executable, "-c", CLIENT, self.node.socket], stdin=-1, stdout=-1, text=True
        )
        return self

    def __exit__(self, *_exc):
        said, _ = self._process.communicate(timeout=60)
        vars(self).update(json.loads(said))
        assert self.answers


def status_kb(pid, field):
    with open(f"/proc/{pid}/status", encoding="ascii") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith(field + ":"))


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


@pytest.fixture(scope="module")
def node():
    with Node(prefix="twl") as made:
        # Loaded behind the start, with maps and programs of its own.
        wait_for(lambda: made.status()["kernel"]["drop_reasons"])
        made.apply(namespace_object("shop", {}))
        yield made


@pytest.fixture
def load(node):
    """What a test did to the agent is over when it ends: same process, same size."""
    pid = node.agent.pid
    node.api("GET", "/v1/status")
    size, fds = status_kb(pid, "VmRSS"), descriptors(pid)
    with open(f"/proc/{pid}/clear_refs", "w", encoding="ascii") as file:
        file.write("5")  # VmHWM begins anew
    with Client(node) as client:
        yield Load(node)
    assert node.agent.poll() is None, node.tail()
    assert not client.errors, client.errors[:3]
    # One request of the largest size is taken apart before the next is looked at.
    assert client.slowest < ANSWERED + LARGEST / (8 << 20)
    assert wait_for(lambda: descriptors(pid) <= fds, ENDED), (fds, descriptors(pid))
    now = wait_for(lambda: status_kb(pid, "VmRSS") <= size + GROWTH_KB, 15)
    peak = status_kb(pid, "VmHWM")
    print(f"slowest of {client.answers} answers {client.slowest * 1000:.0f} ms; "
          f"{size} kB before, {peak} kB at most, {status_kb(pid, 'VmRSS')} kB after")  # fmt: skip
    assert now, f"{size} kB before, {status_kb(pid, 'VmRSS')} kB after"
    assert peak < size + PEAK_KB


def test_thousands_of_malformed_requests(load):
    print(f"TOWPATH_SEED={SEED}")
    rng = random.Random(SEED)
    every = [*wrong_types(), *wrong_http()]
    for data in every:
        load.refused(data)
    short = [data for data in every if len(data) < 10000]
    while load.count < REQUESTS - 2000:
        data = rng.choice(short)
        if rng.random() < 0.3:
            load.part(data[: rng.randrange(len(data))], half_close=rng.random() < 0.2)
        else:
            load.refused(data)
    print(f"{len(every)} kinds, {load.count} requests")


def slow(load, count, data, seconds):
    """count connections that send a byte at a time and read nothing."""
    end, socks = time.monotonic() + seconds, {}
    while time.monotonic() < end:
        while len(socks) < count:
            socks[load.connect()] = iter(data)
        for sock in list(socks):
            try:
                sock.send(bytes([next(socks[sock])]))
            except (OSError, StopIteration):
                del socks[sock]
                sock.close()
        time.sleep(0.05)
    for sock in socks:
        sock.close()


def test_a_thousand_slow_clients(load):
    """Ten times as many as there are places, each of them busy."""
    slow(load, 1000, request("POST", "/v1/apply", b"x" * 5000), 3.0)
    assert load.count >= 1000


@pytest.mark.skipif(not os.environ.get("TOWPATH_FULL"), reason="takes 20 s; TOWPATH_FULL")
def test_request_that_is_never_silent_ends(load):
    """A byte every half second is no silence, but 20 s are the end."""
    start = time.monotonic()
    with load.connect() as sock, pytest.raises(OSError):
        for byte in request("POST", "/v1/apply", b"x" * 5000):
            assert time.monotonic() - start < 40
            sock.send(bytes([byte]))
            time.sleep(0.5)
    assert 19 < time.monotonic() - start < 40


def test_floods_of_connections(load):
    """Opened and left alone, far beyond the limit."""
    for _ in range(3):
        socks = [load.connect() for _ in range(500)]
        for sock in socks:
            sock.close()


def test_bodies_that_do_not_end(load):
    """Chunk after chunk until the agent hangs up; and far more than one call takes."""
    head = b"POST %s HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
    for path, most in ((b"/v1/endpoints", 1 << 20), (b"/v1/apply", 64 << 20)):
        with load.connect() as sock:
            sent = 0
            with pytest.raises(OSError):
                sock.sendall(head % path)
                while sent < most + (8 << 20):
                    sock.sendall(chunk)
                    sent += 65536
            assert most - 65536 <= sent <= most + (2 << 20)


def test_large_texts(load):
    """As large as a call may be, and more than a node can hold if it were taken for values."""
    size = LARGEST - 100
    for text in (b"[1" + b",1" * (size // 2 - 9) + b"]", b"[" * size, b'"' + b"a" * size + b'"'):
        load.refused(request("POST", "/v1/apply", text))
    size //= 2
    texts = ("[1" + ",1" * size + "]", "- 1\n" * (size // 2), "a\n" * size, "---\n" * (size // 2))
    for text in texts:
        load.refused(post("/v1/apply", {"files": [{"name": "a", "text": text[:size]}]}))


def test_answers_that_nobody_reads(load):
    socks = [load.connect() for _ in range(100)]
    for sock in socks:
        sock.sendall(request("GET", "/v1/status") * 200)
    time.sleep(1)
    for sock in socks:
        sock.close()


def test_pipelined_requests_are_answered_in_order(load):
    with load.connect() as sock:
        paths = ["/v1/endpoints", "/v1/objects/cats"] * 100
        sock.sendall(b"".join(request("GET", path) for path in paths[:-1]))
        sock.sendall(request("GET", paths[-1], head=b"Connection: close\r\n"))
        got = b""
        while piece := sock.recv(1 << 20):
            got += piece
    words = re.findall(rb"HTTP/1.1 (\d+) ", got)
    assert words == [b"200", b"400"] * 100


def test_streams_beyond_their_number(load):
    """Each is told so, and those that are gone make room."""
    socks = [load.connect() for _ in range(40)]
    words = []
    for sock in socks:
        sock.sendall(request("GET", "/v1/flows?follow=1"))
        words.append(sock.recv(4096).split()[1])
    assert words.count(b"200") == 32 and words.count(b"503") == 8
    for sock in socks:
        sock.close()
    assert wait_for(lambda: load.answer(request("GET", "/v1/flows?follow=1")) == 200, 5)


def test_other_users_are_refused(node):
    """0660, of root and the group towpath."""
    mode = os.stat(node.socket)
    assert stat.S_IMODE(mode.st_mode) == 0o660 and mode.st_uid == 0
    for path in (node.dir, node.run_dir):
        os.chmod(path, 0o755)  # the socket itself is what refuses
    nobody = pwd.getpwnam("nobody")
    code = "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-c", code, node.socket], user=nobody.pw_uid, group=nobody.pw_gid,
        extra_groups=[], capture_output=True, text=True, check=False, timeout=20,
    )  # fmt: skip
    assert "PermissionError" in done.stderr
    member = subprocess.run(
        [sys.executable, "-c", code, node.socket], user=nobody.pw_uid, group=mode.st_gid,
        extra_groups=[], capture_output=True, text=True, check=False, timeout=20,
    )  # fmt: skip
    assert member.returncode == 0, member.stderr
