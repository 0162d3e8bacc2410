# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""Traffic that goes on while a test does something to the node, and is judged to the last
packet: connections, openings and datagrams that must not notice, frames that must not arrive.
"""

import contextlib
import errno
import itertools
import select
import socket
import struct
import threading
import time

import packet
from node import FAMILIES
from traffic import bound, port_new, tcp_open

TICK = 0.01
# The kernel retransmits after 200 ms and then, if that is lost as well, after 400 more; it gives
# the connection up in between, so whoever needs two retransmissions is broken.
USER_TIMEOUT_MS = 550
TOTAL_RETRANS = 100  # its place in struct tcp_info (linux/tcp.h)


class Stream:
    """An established connection that carries a numbered record there and back all the time."""

    def __init__(self, src, dst, family):
        self.name = f"{src} > {dst} ipv{family}"
        self.link = tcp_open(src, dst, family)
        for sock in (self.link.client, self.link.server):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setblocking(False)
        self.error, self.sent, self.slowest = None, 0, 0.0
        self._due, self._read, self._times = 0, b"", {}
        self._before = self._retransmitted()

    def _retransmitted(self):
        found = 0
        for sock in (self.link.client, self.link.server):
            info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 128)
            found += struct.unpack_from("=I", info, TOTAL_RETRANS)[0]
        return found

    @property
    def retransmissions(self):
        return self._retransmitted() - self._before

    def sockets(self):
        return (self.link.client, self.link.server)

    def tick(self, now, rest=False):
        if not rest and self.error is None and self.sent - self._due < 500:
            self._times[self.sent] = now
            self._do(lambda: self.link.client.send(struct.pack("!Q", self.sent)))
            self.sent += 1

    def _do(self, work):
        try:
            return work()
        except BlockingIOError:
            return None
        except OSError as err:
            self.error = self.error or err
        return None

    def ready(self, sock):
        data = self._do(lambda: sock.recv(65536))
        if data == b"":
            self.error = self.error or "closed by the peer"
        if not data:
            return
        if sock is self.link.server:
            self._do(lambda: sock.sendall(data))
            return
        self._read += data
        while len(self._read) >= 8:
            (number,) = struct.unpack("!Q", self._read[:8])
            self._read = self._read[8:]
            if number != self._due:
                self.error = self.error or f"record {number} in place of {self._due}"
            self.slowest = max(self.slowest, time.monotonic() - self._times.pop(number, 0.0))
            self._due = number + 1

    def faults(self):
        found = [f"{self.name}: {self.error}"] if self.error else []
        if self._due != self.sent:
            found.append(f"{self.name}: {self.sent} records sent, {self._due} came back")
        return found

    def close(self):
        self.link.close()


class Openings:
    """A new connection every few ticks; each has its SYN and one retransmission."""

    EVERY = 3

    def __init__(self, src, dst, family):
        self.name = f"{src} > {dst} ipv{family}"
        self.src, self.family, self.port = src, family, port_new()
        self.address = dst.ip(family)
        self.listener = bound(dst, family, socket.SOCK_STREAM, self.port)
        self.listener.listen(128)
        self.listener.setblocking(False)
        self.pending, self.opened, self.late, self.errors = {}, 0, 0, []
        self._ticks = itertools.count()

    def sockets(self):
        return (self.listener,)

    def tick(self, now, rest=False):
        if not rest and next(self._ticks) % self.EVERY == 0:
            sock = bound(self.src, self.family, socket.SOCK_STREAM)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_SYNCNT, 1)
            sock.setblocking(False)
            sock.connect_ex((self.address, self.port))
            self.pending[sock] = now
        poll = select.poll()
        for sock in self.pending:
            poll.register(sock, select.POLLOUT)
        done = {fd for fd, _ in poll.poll(0)}
        for sock in [sock for sock in self.pending if sock.fileno() in done]:
            self._finish(sock, now - self.pending.pop(sock))

    def _finish(self, sock, took):
        error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            self.errors.append(errno.errorcode[error])
        self.opened += 1
        self.late += took > 0.9  # the first SYN or its answer was lost
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()

    def ready(self, _sock):
        with contextlib.suppress(BlockingIOError, ConnectionError):
            self.listener.accept()[0].close()

    def faults(self):
        return [f"opening {self.name}: {error}" for error in self.errors] + (
            [f"opening {self.name}: {len(self.pending)} never answered"] if self.pending else []
        )

    def close(self):
        for sock in [*self.pending, self.listener]:
            sock.close()


class Datagrams:
    """Numbered datagrams there and back; not one may be lost."""

    def __init__(self, src, dst, family):
        self.name = f"{src} > {dst} ipv{family}"
        port = port_new()
        self.server = bound(dst, family, socket.SOCK_DGRAM, port)
        self.client = bound(src, family, socket.SOCK_DGRAM)
        self.client.connect((dst.ip(family), port))
        for sock in (self.client, self.server):
            sock.setblocking(False)
        self.sent, self.answers = 0, set()

    def sockets(self):
        return (self.client, self.server)

    def tick(self, _now, rest=False):
        if not rest:
            self.client.send(struct.pack("!Q", self.sent))
            self.sent += 1

    def ready(self, sock):
        data, peer = sock.recvfrom(64)
        if sock is self.server:
            sock.sendto(data, peer)
        else:
            self.answers.add(data)

    def faults(self):
        lost = self.sent - len(self.answers)
        return [f"datagrams {self.name}: {lost} of {self.sent} lost"] if lost else []

    def close(self):
        self.client.close()
        self.server.close()


class Frames:
    """Frames built by hand from one place to addresses of another: a datagram, a SYN, and a
    TCP packet of no connection. `verdict` says what is to become of them: False must not
    arrive, True must (but the last), None either. It may change at any time; what counts is
    what it was when the frame was sent."""

    KINDS = ("udp", "syn", "ack")
    MAGIC = b"towpath watch %16d"

    def __init__(self, src, dst, dmac, verdict=False, kinds=KINDS):
        self.src, self.dst, self.verdict = src, dst, verdict
        self.wire = packet.Wire(src.netns, src.interface)
        self.port = port_new()
        smac = src.netns.mac(src.interface)
        self.sent, self.arrived, self.violations = [], set(), []
        self._make = [
            (lambda data, kind=kind, family=family: packet.ether(
                dmac, smac, self._packet(kind, src.ip(family), dst.ip(family), data)))
            for family in FAMILIES for kind in kinds
        ]  # fmt: skip
        self._kinds = [f"{kind} ipv{family}" for family in FAMILIES for kind in kinds]

    def _packet(self, kind, src, dst, data):
        if kind == "udp":
            payload = packet.udp(src, dst, self.port, self.port, data)
            return packet.ip(src, dst, packet.UDP, payload)
        flags = packet.SYN if kind == "syn" else packet.ACK
        ack = int(flags == packet.ACK)
        payload = packet.tcp(src, dst, self.port, self.port, flags, ack=ack, data=data)
        return packet.ip(src, dst, packet.TCP, payload)

    def sockets(self):
        return ()

    def tick(self, _now, rest=False):
        for kind, make in zip(self._kinds, self._make) if not rest else ():
            self.sent.append((kind, self.verdict))
            with contextlib.suppress(OSError):  # the interface may be down or gone
                self.wire.send(make(self.MAGIC % (len(self.sent) - 1)))

    def got(self, port, number):
        if port != self.port or number >= len(self.sent):
            return
        self.arrived.add(number)
        kind, verdict = self.sent[number]
        if verdict is False:
            name = f"{self.src} > {self.dst}"
            self.violations.append(f"denied {kind} frame {number} of {name} arrived")

    def faults(self):
        return self.violations + [
            f"allowed {kind} frame {number} of {self.src} > {self.dst} did not arrive"
            for number, (kind, verdict) in enumerate(self.sent)
            if verdict is True and number not in self.arrived and not kind.startswith("ack")
        ]

    def close(self):
        self.wire.close()


class Ear:
    """Hears the frames of Frames that reach a namespace, by whatever interface."""

    def __init__(self, netns, frames):
        self.frames = frames
        self.sock = netns.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(packet.ETH_P_ALL))
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        self.sock.setblocking(False)

    def sockets(self):
        return (self.sock,)

    def tick(self, _now, rest=False):
        pass

    def ready(self, _sock):
        for _ in range(64):
            try:
                frame, address = self.sock.recvfrom(2048)
            except OSError:  # nothing more, or the interface went
                return
            at = frame.find(Frames.MAGIC[:13])
            if at < 0 or address[2] == packet.PACKET_OUTGOING:
                continue
            # An ICMP error about a frame quotes it: that is not the frame.
            proto = frame[23] if frame[12:14] == b"\x08\x00" else frame[20]
            if proto not in (packet.TCP, packet.UDP):
                continue
            ports = 34 if frame[12:14] == b"\x08\x00" else 54
            port = struct.unpack_from("!H", frame, ports + 2)[0]
            number = int(frame[at + 13 :][:17])
            for frames in self.frames:
                frames.got(port, number)

    def faults(self):
        return []

    def close(self):
        self.sock.close()


class Watch:
    """Runs all of them in a thread. Use as a context manager; faults() afterwards or during."""

    def __init__(self, *parts):
        self.parts = list(parts)
        self._stop, self._rest = threading.Event(), threading.Event()
        self._poll, self._owner, self.error = select.epoll(), {}, None
        for part in parts:
            for sock in part.sockets():
                self._poll.register(sock, select.EPOLLIN)
                self._owner[sock.fileno()] = (part, sock)
        self._thread = threading.Thread(target=self._run)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_exc):
        self._stop.set()
        self._thread.join()
        self._poll.close()
        for part in self.parts:
            part.close()

    def _run(self):
        due = time.monotonic()
        try:
            while not self._stop.is_set():
                now = time.monotonic()
                if now >= due:
                    due = now + TICK
                    for part in self.parts:
                        part.tick(now, self._rest.is_set())
                for fd, _ in self._poll.poll(max(0.0, due - time.monotonic())):
                    part, sock = self._owner[fd]
                    part.ready(sock)
        except Exception as err:  # told by faults()
            self.error = err

    def rest(self, seconds=3.0):
        """Send nothing new and let what is under way arrive; the faults."""
        self._rest.set()
        end = time.monotonic() + seconds
        while self.faults() and time.monotonic() < end and not self.error:
            time.sleep(TICK)
        return self.faults()

    def violations(self):
        """Frames so far that arrived and must not."""
        return [v for part in self.parts if isinstance(part, Frames) for v in part.violations]

    def faults(self):
        found = [f"the watch ended: {self.error!r}"] if self.error else []
        return found + [fault for part in self.parts for fault in part.faults()]
