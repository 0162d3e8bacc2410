# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""Frames built and read by hand: what the kernel's own sockets would not send."""

import ipaddress
import select
import socket
import struct
import time

ETH_P_ALL, ETH_P_IP, ETH_P_IPV6, ETH_P_8021Q, ETH_P_ARP = 0x0003, 0x0800, 0x86DD, 0x8100, 0x0806
ICMP, TCP, UDP, ICMPV6, SCTP, FRAGMENT = 1, 6, 17, 58, 132, 44
FIN, SYN, RST, PSH, ACK = 0x01, 0x02, 0x04, 0x08, 0x10
PACKET_OUTGOING = 4


def mac_bytes(text):
    return bytes.fromhex(text.replace(":", ""))


def checksum(data):
    """RFC 1071, ready to be stored."""
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def pseudo(src, dst, proto, length):
    src, dst = ipaddress.ip_address(src), ipaddress.ip_address(dst)
    if src.version == 4:
        return src.packed + dst.packed + struct.pack("!BBH", 0, proto, length)
    return src.packed + dst.packed + struct.pack("!IHBB", length, 0, 0, proto)


def ether(dst, src, payload, proto=None, vlan=None):
    if proto is None:
        proto = ETH_P_IP if payload[0] >> 4 == 4 else ETH_P_IPV6
    head = mac_bytes(dst) + mac_bytes(src)
    if vlan is not None:
        head += struct.pack("!HH", ETH_P_8021Q, vlan)
    return head + struct.pack("!H", proto) + payload


def ip(src, dst, proto, payload, ttl=64, ident=0, frag=0, df=False, options=b""):
    """An IPv4 or IPv6 packet. frag: the IPv4 flags-and-offset word's offset part in bytes,
    as (offset, more)."""
    src, dst = ipaddress.ip_address(src), ipaddress.ip_address(dst)
    offset, more = frag if frag else (0, False)
    if src.version == 4:
        word = (offset // 8) | (0x2000 if more else 0) | (0x4000 if df else 0)
        size = 20 + len(options)
        head = struct.pack(
            "!BBHHHBBH4s4s", 0x40 | size // 4, 0, size + len(payload), ident, word, ttl, proto, 0,
            src.packed, dst.packed,
        ) + options  # fmt: skip
        return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + payload
    if frag:
        payload = struct.pack("!BBHI", proto, 0, offset | (1 if more else 0), ident) + payload
        proto = FRAGMENT
    return (
        struct.pack("!IHBB", 0x60000000, len(payload), proto, ttl)
        + src.packed + dst.packed + payload
    )  # fmt: skip


def tcp(src, dst, sport, dport, flags, seq=1, ack=0, data=b""):
    head = struct.pack("!HHIIBBHHH", sport, dport, seq, ack, 5 << 4, flags, 65535, 0, 0)
    sum_ = checksum(pseudo(src, dst, TCP, 20 + len(data)) + head + data)
    return head[:16] + struct.pack("!H", sum_) + head[18:] + data


def udp(src, dst, sport, dport, data=b""):
    head = struct.pack("!HHHH", sport, dport, 8 + len(data), 0)
    sum_ = checksum(pseudo(src, dst, UDP, 8 + len(data)) + head + data) or 0xFFFF
    return head[:6] + struct.pack("!H", sum_) + data


def icmp_echo(src, dst, ident, seq=1, data=b"towpath", reply=False):
    """(protocol, payload) of an echo request or reply of src's family."""
    six = ipaddress.ip_address(src).version == 6
    kind = (129 if reply else 128) if six else (0 if reply else 8)
    head = struct.pack("!BBHHH", kind, 0, 0, ident, seq) + data
    cover = pseudo(src, dst, ICMPV6, len(head)) + head if six else head
    return (ICMPV6 if six else ICMP), head[:2] + struct.pack("!H", checksum(cover)) + head[4:]


_CRC32C = []
for _n in range(256):
    _c = _n
    for _ in range(8):
        _c = (_c >> 1) ^ (0x82F63B78 if _c & 1 else 0)
    _CRC32C.append(_c)


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = (crc >> 8) ^ _CRC32C[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


SCTP_INIT, SCTP_INIT_ACK = 1, 2


def sctp(sport, dport, vtag, chunk, tag):
    """An SCTP packet of one INIT or INIT ACK chunk (RFC 9260, 3.3.2, 3.3.3)."""
    body = struct.pack("!BBHIIHHI", chunk, 0, 20, tag, 65535, 1, 1, tag)
    head = struct.pack("!HHI", sport, dport, vtag)
    # The checksum is stored least significant byte first (RFC 9260, appendix A).
    return head + struct.pack("<I", crc32c(head + b"\0\0\0\0" + body)) + body


def sctp_parse(data):
    """(sport, dport, chunk type, tag) or None when it is not such a packet or was damaged."""
    if len(data) < 32:
        return None
    sport, dport, _vtag, crc = struct.unpack("!HHI", data[:8]) + struct.unpack("<I", data[8:12])
    if crc32c(data[:8] + b"\0\0\0\0" + data[12:]) != crc:
        return None
    chunk, _flags, _len, tag = struct.unpack("!BBHI", data[12:20])
    return sport, dport, chunk, tag


class Packet:
    """What a received frame says: parsed once, wrong checksums noted and not hidden."""

    def __init__(self, frame):
        self.frame = frame
        self.dmac, self.smac = frame[:6].hex(":"), frame[6:12].hex(":")
        (self.ethertype,) = struct.unpack("!H", frame[12:14])
        self.proto = self.src = self.dst = self.ttl = None
        self.l4 = b""
        self.frag = None
        self.ident = 0
        self.df = False
        data = frame[14:]
        if self.ethertype == ETH_P_IP and len(data) >= 20:
            self._parse4(data)
        elif self.ethertype == ETH_P_IPV6 and len(data) >= 40:
            self._parse6(data)
        self.sport = self.dport = None
        if self.proto in (TCP, UDP, SCTP) and len(self.l4) >= 4 and self.first:
            self.sport, self.dport = struct.unpack("!HH", self.l4[:4])

    def _parse4(self, data):
        size = (data[0] & 15) * 4
        (total, self.ident, word) = struct.unpack("!HHH", data[2:8])
        self.ttl, self.proto = data[8], data[9]
        self.src, self.dst = (str(ipaddress.ip_address(data[i : i + 4])) for i in (12, 16))
        self.df = bool(word & 0x4000)
        if word & 0x3FFF:
            self.frag = ((word & 0x1FFF) * 8, bool(word & 0x2000))
        self.ip_ok = checksum(data[:size]) == 0
        self.packet = data[: total or len(data)]
        self.l4 = self.packet[size:]

    def _parse6(self, data):
        (length, self.proto, self.ttl) = struct.unpack("!HBB", data[4:8])
        self.src, self.dst = (str(ipaddress.ip_address(data[i : i + 16])) for i in (8, 24))
        self.df, self.ip_ok = True, True
        self.packet = data[: 40 + length] if length else data
        self.l4 = self.packet[40:]
        if self.proto == FRAGMENT and len(self.l4) >= 8:
            self.proto, _, word, self.ident = struct.unpack("!BBHI", self.l4[:8])
            self.frag = (word & 0xFFF8, bool(word & 1))
            self.l4 = self.l4[8:]

    @property
    def first(self):
        return self.frag is None or self.frag[0] == 0

    @property
    def flags(self):
        return self.l4[13] if self.proto == TCP and len(self.l4) > 13 else 0

    @property
    def icmp(self):
        """(type, code) of an ICMP message, else None."""
        if self.proto in (ICMP, ICMPV6) and len(self.l4) >= 8:
            return self.l4[0], self.l4[1]
        return None

    @property
    def l4_ok(self):
        """The layer 4 checksum is right (whole packets only)."""
        if self.proto == ICMP:
            return checksum(self.l4) == 0
        if self.proto == SCTP:
            return sctp_parse(self.l4) is not None
        return checksum(pseudo(self.src, self.dst, self.proto, len(self.l4)) + self.l4) == 0

    def __repr__(self):
        return (
            f"<{self.src}:{self.sport} > {self.dst}:{self.dport} proto {self.proto} ttl {self.ttl}"
            f" icmp {self.icmp} flags {self.flags:#x} frag {self.frag} {len(self.frame)} bytes>"
        )


class Wire:
    """An AF_PACKET socket on an interface inside a namespace: sends and sees whole frames."""

    def __init__(self, netns, interface):
        self.sock = netns.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        self.sock.bind((interface, ETH_P_ALL))
        self.sock.setblocking(False)

    def __enter__(self):
        return self

    def __exit__(self, *_exc):
        self.close()

    def close(self):
        self.sock.close()

    def send(self, frame):
        self.sock.send(frame)

    def packets(self, seconds, outgoing=False):
        """Every frame that comes in within the time."""
        end = time.monotonic() + seconds
        while True:
            left = end - time.monotonic()
            if left <= 0 or not select.select([self.sock], [], [], left)[0]:
                return
            while True:
                try:
                    frame, address = self.sock.recvfrom(262144)
                except BlockingIOError:
                    break
                if outgoing or address[2] != PACKET_OUTGOING:
                    yield Packet(frame)

    def wait(self, match, seconds=2.0, outgoing=False):
        """The first packet that match() likes, or None."""
        for packet in self.packets(seconds, outgoing):
            if match(packet):
                return packet
        return None

    def drain(self, seconds=0.05):
        return list(self.packets(seconds))
