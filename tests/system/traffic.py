# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""Traffic between places (pods, the node, the outside) through the kernel's own sockets."""

import contextlib
import hashlib
import itertools
import re
import select
import socket
import struct
import threading
import time

from node import AF, PATIENCE

SOON = 2.0 * PATIENCE  # seconds in which something that must happen has happened
QUIET = 0.4  # seconds after which something that must not happen has not

_ports = itertools.count(7000)

IP_RECVERR, IPV6_RECVERR = 11, 25
IP_MTU_DISCOVER, IPV6_MTU_DISCOVER, PMTUDISC_DO, PMTUDISC_DONT = 10, 23, 2, 0
IP_MTU, IPV6_MTU = 14, 24
SO_EE_ORIGIN_ICMP, SO_EE_ORIGIN_ICMP6 = 2, 3


def port_new():
    """A port that no other test of this process has used."""
    return next(_ports)


def bound(place, family, kind, port=0, address=None):
    sock = place.netns.socket(AF[family], kind)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((address or place.ip(family), port))
    return sock


class TcpLink:
    """An established connection, both ends in hand."""

    def __init__(self, client, server, peer):
        self.client, self.server, self.peer = client, server, peer

    def __enter__(self):
        return self

    def __exit__(self, *_exc):
        self.close()

    def close(self):
        self.client.close()
        self.server.close()

    def passes(self, sender, receiver, data=b"ping", seconds=SOON):
        """data goes from one end to the other in time."""
        sender.settimeout(seconds)
        receiver.settimeout(seconds)
        try:
            sender.sendall(data)
            got = b""
            while len(got) < len(data):
                piece = receiver.recv(65536)
                if not piece:
                    return False
                got += piece
        except OSError:
            return False
        return got == data

    def alive(self, seconds=SOON):
        return self.passes(self.client, self.server, b"there", seconds) and self.passes(
            self.server, self.client, b"and back", seconds
        )


def tcp_open(src, dst, family, port=None, address=None, seconds=SOON, sport=0):
    """Connect src to a new listener at dst. TimeoutError when nothing answers, else the
    kernel's error. address: reach dst by this one."""
    port = port or port_new()
    with bound(dst, family, socket.SOCK_STREAM, port, address) as listener:
        listener.listen(8)
        listener.settimeout(seconds)
        client = bound(src, family, socket.SOCK_STREAM, sport)
        client.settimeout(seconds)
        try:
            client.connect((address or dst.ip(family), port))
            server, peer = listener.accept()
        except OSError:
            client.close()
            raise
    return TcpLink(client, server, peer)


def tcp_works(src, dst, family, port=None, seconds=SOON, address=None):
    try:
        with tcp_open(src, dst, family, port, address, seconds) as link:
            return link.alive(seconds)
    except TimeoutError:
        return False


def udp_ask(
    src, dst, family, port=None, size=64, seconds=SOON, address=None, sport=0, source=None
):
    """One datagram there and one as large back: the sender's address as dst saw it, or
    None when the question or the answer got lost. source: an address of src to ask from."""
    port = port or port_new()
    data = bytes(i * 7 % 251 for i in range(size))
    with (
        bound(dst, family, socket.SOCK_DGRAM, port, address) as server,
        bound(src, family, socket.SOCK_DGRAM, sport, source) as client,
    ):
        for sock in (server, client):
            sock.settimeout(seconds)
        client.connect((address or dst.ip(family), port))
        try:
            client.send(data)
            got, peer = server.recvfrom(65535)
            server.sendto(got[::-1], peer)
            back = client.recv(65535)
        except (TimeoutError, ConnectionRefusedError):
            return None
        return peer if got == data and back == data[::-1] else None


class IcmpError(Exception):
    def __init__(self, kind, code, info, sender):
        super().__init__(f"ICMP error {kind}/{code} info {info} from {sender}")
        self.kind, self.code, self.info, self.sender = kind, code, info, sender


def udp_error(src, family, address, port, ttl=None, size=32, dont_fragment=True, seconds=SOON):
    """Send one datagram and return the ICMP error that came back to its socket, or None.

    The kernel hands an error to a socket only when the packet quoted in it is the socket's
    own, so this also proves that translation was undone inside the error.
    """
    with bound(src, family, socket.SOCK_DGRAM) as sock:
        level = socket.IPPROTO_IP if family == 4 else socket.IPPROTO_IPV6
        sock.setsockopt(level, IP_RECVERR if family == 4 else IPV6_RECVERR, 1)
        discover = IP_MTU_DISCOVER if family == 4 else IPV6_MTU_DISCOVER
        sock.setsockopt(level, discover, PMTUDISC_DO if dont_fragment else PMTUDISC_DONT)
        if ttl is not None:
            option = socket.IP_TTL if family == 4 else socket.IPV6_UNICAST_HOPS
            sock.setsockopt(level, option, ttl)
        sock.connect((address, port))
        sock.send(b"x" * size)
        return error_wait(sock, seconds)


def error_wait(sock, seconds=SOON):
    """The next ICMP error in the socket's error queue, or None."""
    poll = select.poll()
    poll.register(sock, 0)  # POLLERR is always reported
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        poll.poll(left * 1000)
        try:
            _data, ancillary, _flags, _addr = sock.recvmsg(2048, 1024, socket.MSG_ERRQUEUE)
        except BlockingIOError:
            continue
        except OSError:  # the pending error itself, reported once
            continue
        for _level, _kind, value in ancillary:
            _errno, origin, kind, code, _pad, info, _data = struct.unpack("IBBBBII", value[:16])
            if origin == SO_EE_ORIGIN_ICMP:
                return IcmpError(kind, code, info, socket.inet_ntoa(value[20:24]))
            if origin == SO_EE_ORIGIN_ICMP6:
                sender = socket.inet_ntop(socket.AF_INET6, value[24:40])
                return IcmpError(kind, code, info, sender)
    return None


def path_mtu(src, family, address):
    """What src's kernel believes to be the path's MTU."""
    with bound(src, family, socket.SOCK_DGRAM) as sock:
        sock.connect((address, 9))
        level = socket.IPPROTO_IP if family == 4 else socket.IPPROTO_IPV6
        return sock.getsockopt(level, IP_MTU if family == 4 else IPV6_MTU)


def ping(src, address, *options, seconds=1):
    """The `ping` program: (answers, its output)."""
    done = src.netns.run(
        "ping", "-n", "-c1", f"-W{seconds}", *options, address, check=False, timeout=seconds + 5
    )
    return len(re.findall(r"bytes from .*seq=", done.stdout)), done.stdout + done.stderr


class Transfer:
    """Bytes streamed from one end of a connection to the other in the background, with a
    digest at both ends. The pace keeps it running for as long as a test needs."""

    def __init__(self, link, total=None, pace=0.0):
        self.link, self.total, self.pace = link, total, pace
        self.sent = self.received = 0
        self._stop = threading.Event()
        self._digest = {True: hashlib.sha256(), False: hashlib.sha256()}
        self.error = None
        link.client.settimeout(20)
        link.server.settimeout(20)
        self._threads = [threading.Thread(target=f) for f in (self._send, self._receive)]
        for thread in self._threads:
            thread.start()

    def _send(self):
        chunk = bytes(range(256)) * 256
        try:
            while not self._stop.is_set() and (self.total is None or self.sent < self.total):
                head = struct.pack("!Q", self.sent)  # no two chunks are the same
                self.link.client.sendall(head + chunk)
                self._digest[True].update(head + chunk)
                self.sent += len(head) + len(chunk)
                if self.pace:
                    time.sleep(self.pace)
            self.link.client.shutdown(socket.SHUT_WR)
        except OSError as err:
            self.error = err

    def _receive(self):
        try:
            while data := self.link.server.recv(1 << 20):
                self._digest[False].update(data)
                self.received += len(data)
        except OSError as err:
            self.error = self.error or err

    def finish(self, seconds=60):
        """Stop sending, wait for the rest; True when every byte arrived as it was sent."""
        if self.total is None:
            self._stop.set()
        for thread in self._threads:
            thread.join(seconds)
        done = not any(t.is_alive() for t in self._threads)
        return (
            done and self.error is None and self.sent == self.received
            and self._digest[True].digest() == self._digest[False].digest()
        )  # fmt: skip


class UdpServer:
    """Counts datagrams at a place and answers each with itself, in the background."""

    def __init__(self, place, family, port, address=None):
        self.sock = bound(place, family, socket.SOCK_DGRAM, port, address)
        self.sock.settimeout(0.1)
        self.seen = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        while not self._stop.is_set():
            try:
                data, peer = self.sock.recvfrom(65535)
                self.seen += 1
                self.sock.sendto(data, peer)
            except OSError:  # the time-out, or an ICMP error about an answer
                continue

    def __enter__(self):
        return self

    def __exit__(self, *_exc):
        self._stop.set()
        self._thread.join()
        self.sock.close()


@contextlib.contextmanager
def offload(place, interface, **features):
    """Switch offloads of an interface for a while: offload(pod, "eth0", tx="off")."""

    def switch(values):
        words = [w for pair in values.items() for w in pair]
        place.netns.run("ethtool", "-K", interface, *words)

    switch(features)
    try:
        yield
    finally:
        switch({k: "on" if v == "off" else "off" for k, v in features.items()})


def wait_for(condition, seconds=SOON, step=0.02):
    """The first true value of condition() within the time, else its last."""
    end = time.monotonic() + seconds
    while not (value := condition()) and time.monotonic() < end:
        time.sleep(step)
    return value


