# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""Many probes at once between namespaces, over TCP, UDP and SCTP.

One process holds the servers and the clients of every namespace and runs them from one
epoll loop, so that a whole matrix costs one waiting time and not one for each denied pair.
Every server answers with its own address and the port and protocol it serves, so an answer
from a wrong place is not taken for a right one. The kernel's SCTP is not needed: INIT and
INIT ACK are written and read through raw sockets.
"""

import errno
import itertools
import select
import socket
import struct
import time

from packet import SCTP, SCTP_INIT, SCTP_INIT_ACK, sctp, sctp_parse

ALLOW = "allow"  # asked and answered by the right server
SILENT = "silent"  # nothing came back, and nothing arrived as far as can be seen
REFUSED = "refused"  # a TCP RST or ICMP port unreachable: something answered in its place
UNREACHABLE = "unreachable"  # an ICMP error on the way
LEAKED = "leaked"  # the server was asked, its answer did not come back
WRONG = "wrong"  # another server answered

_UNREACHABLE = (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EACCES, errno.EPERM)


class Probe:
    """One question: does src reach dst on protocol and port?"""

    __slots__ = ("src", "dst", "protocol", "port", "expected", "result", "seen", "tag", "sock")

    def __init__(self, src, dst, protocol, port, expected):
        self.src, self.dst = src, dst  # Site
        self.protocol, self.port = protocol, port
        self.expected = expected  # True: must connect
        self.result = None
        self.seen = False  # the server was asked
        self.tag = 0
        self.sock = None

    @property
    def passed(self):
        if self.expected:
            return self.result == ALLOW
        return self.result in (SILENT, UNREACHABLE)


class Site:
    """One address in a namespace: a pod's, or one of the outside's."""

    def __init__(self, name, netns, ip):
        self.name, self.netns, self.ip = name, netns, ip
        self.family = socket.AF_INET6 if ":" in ip else socket.AF_INET
        self.servers = {}  # (protocol, port) -> socket, None for SCTP
        self.raw = None

    def close(self):
        for sock in [*self.servers.values(), self.raw]:
            if sock is not None:
                sock.close()
        self.servers.clear()
        self.raw = None


class Prober:
    def __init__(self):
        self.epoll = select.epoll()
        self.handlers = {}  # file descriptor -> function
        self.tags = itertools.count(1)
        self.sctp_port = itertools.cycle(range(20000, 60000))
        self.pending = {}  # tag -> Probe
        self.left = set()  # probes without a result

    # ---- servers --------------------------------------------------------------------------

    def serve(self, site, protocol, port):
        """A server on the site that answers probes; the same one when there is one."""
        if (protocol, port) in site.servers:
            return
        if protocol == "SCTP":
            self._raw(site)
            site.servers[protocol, port] = None
            return
        kind = socket.SOCK_STREAM if protocol == "TCP" else socket.SOCK_DGRAM
        sock = site.netns.socket(site.family, kind)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setblocking(False)
        sock.bind((site.ip, port))
        words = f"{protocol} {site.ip} {port}".encode()
        if protocol == "TCP":
            sock.listen(1024)
            self._watch(sock, lambda _ev: self._accept(sock, words))
        else:
            self._watch(sock, lambda _ev: self._answer(sock, words))
        site.servers[protocol, port] = sock

    def site_close(self, site):
        for sock in [*site.servers.values(), site.raw]:
            if sock is not None:
                self._unwatch(sock)
        site.close()

    def _raw(self, site):
        if site.raw is None:
            site.raw = site.netns.socket(site.family, socket.SOCK_RAW, SCTP)
            site.raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
            site.raw.setblocking(False)
            site.raw.bind((site.ip, 0))
            self._watch(site.raw, lambda _ev: self._sctp(site))
        return site.raw

    def _accept(self, sock, words):
        while True:
            try:
                link, _peer = sock.accept()
            except BlockingIOError:
                return
            except OSError:  # the client was reset before it was taken
                continue
            with link:
                try:
                    link.send(words)
                except OSError:
                    pass

    def _answer(self, sock, words):
        while True:
            try:
                data, peer = sock.recvfrom(256)
            except BlockingIOError:
                return
            except OSError:  # an ICMP error about an answer given before
                continue
            self._saw(data)
            try:
                sock.sendto(data + words, peer)
            except OSError:
                pass

    def _saw(self, data):
        probe = self.pending.get(struct.unpack("!I", data[:4])[0]) if len(data) >= 4 else None
        if probe is not None:
            probe.seen = True

    def _sctp(self, site):
        while True:
            try:
                data, peer = site.raw.recvfrom(2048)
            except BlockingIOError:
                return
            if site.family == socket.AF_INET:  # raw IPv4 sockets see the IP header
                data = data[(data[0] & 15) * 4 :]
            parsed = sctp_parse(data)
            if parsed is None:
                continue
            sport, dport, chunk, tag = parsed
            probe = self.pending.get(tag)
            if probe is None:
                continue
            if chunk == SCTP_INIT and ("SCTP", dport) in site.servers:
                probe.seen = True
                answer = sctp(dport, sport, tag, SCTP_INIT_ACK, tag)
                try:
                    site.raw.sendto(answer, (peer[0], 0))
                except OSError:
                    pass
            elif chunk == SCTP_INIT_ACK and probe.src is site:
                right = peer[0] == probe.dst.ip and sport == probe.port
                self._done(probe, ALLOW if right else WRONG)

    # ---- clients --------------------------------------------------------------------------

    def run(self, probes, patience=0.15, limit=1.0):
        """Fill in every probe's result.

        Once those that should be answered are, the others get `patience` seconds more;
        `limit` seconds in all at most.
        """
        for probe in probes:
            probe.result, probe.seen, probe.tag = None, False, next(self.tags)
            self.pending[probe.tag] = probe
            self.serve(probe.dst, probe.protocol, probe.port)
        self.left = set(probes)
        probes = sorted(probes, key=lambda p: p.src.name)
        for _key, group in itertools.groupby(probes, key=lambda p: p.src.name):
            group = list(group)
            with group[0].src.netns:
                for probe in group:
                    self._ask(probe)
            self._poll(0)
        start = time.monotonic()
        quiet = start + patience
        while self.left:
            now = time.monotonic()
            if any(p.expected for p in self.left):
                quiet = now + patience
            if now >= min(quiet, start + limit):
                break
            self._poll(min(quiet, start + limit) - now)
        for probe in list(self.left):
            self._done(probe, LEAKED if probe.seen else SILENT)
        for probe in probes:
            del self.pending[probe.tag]

    def _ask(self, probe):
        src, where = probe.src, (probe.dst.ip, probe.port)
        try:
            if probe.protocol == "SCTP":
                packet = sctp(next(self.sctp_port), probe.port, 0, SCTP_INIT, probe.tag)
                self._raw(src).sendto(packet, (probe.dst.ip, 0))
                return
            kind = socket.SOCK_STREAM if probe.protocol == "TCP" else socket.SOCK_DGRAM
            sock = probe.sock = socket.socket(src.family, kind | socket.SOCK_NONBLOCK)
            sock.bind((src.ip, 0))
            code = sock.connect_ex(where)
            if code not in (0, errno.EINPROGRESS):
                raise OSError(code, "connect")
            if probe.protocol == "UDP":
                sock.send(struct.pack("!I", probe.tag))
        except OSError as err:
            self._done(probe, UNREACHABLE if err.errno in _UNREACHABLE else f"{err}")
            return
        # TCP: the answer, the end or an error makes it readable; being connected says nothing.
        self._watch(sock, lambda _ev: self._reply(probe))

    def _reply(self, probe):
        try:
            data = probe.sock.recv(512)
        except BlockingIOError:
            return
        except OSError as err:
            refused = err.errno in (errno.ECONNREFUSED, errno.ECONNRESET)
            known = REFUSED if refused else UNREACHABLE if err.errno in _UNREACHABLE else str(err)
            self._done(probe, known)
            return
        words = f"{probe.protocol} {probe.dst.ip} {probe.port}".encode()
        if probe.protocol == "UDP":
            words = struct.pack("!I", probe.tag) + words
        self._done(probe, ALLOW if data == words else WRONG)

    def _done(self, probe, result):
        if probe not in self.left:
            return
        self.left.discard(probe)
        probe.result = result
        if probe.sock is not None:
            self._unwatch(probe.sock)
            probe.sock.close()
            probe.sock = None

    # ---- the loop -------------------------------------------------------------------------

    def _watch(self, sock, handler):
        self.handlers[sock.fileno()] = handler
        self.epoll.register(sock, select.EPOLLIN)

    def _unwatch(self, sock):
        if self.handlers.pop(sock.fileno(), None) is not None:
            self.epoll.unregister(sock)

    def _poll(self, seconds):
        for fd, events in self.epoll.poll(max(seconds, 0), 256):
            handler = self.handlers.get(fd)
            if handler is not None:
                handler(events)
