#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""The busiest sources of a container: top.py MAP [N]. MAP is an id, a name or the path of a pin."""

import ipaddress
import json
import struct
import subprocess
import sys


def entries(where):
    """bpftool gives the bytes of keys and values, whatever their types are called."""
    how = "id" if where.isdigit() else "pinned" if "/" in where else "name"
    shown = subprocess.run(["bpftool", "-j", "map", "dump", how, where], capture_output=True,
                           text=True, check=True).stdout  # fmt: skip
    for row in json.loads(shown):
        key, value = (bytes(int(byte, 16) for byte in row[part]) for part in ("key", "value"))
        address = ipaddress.IPv6Address(key)
        packets, octets, _ = struct.unpack("=QQQ", value)
        yield str(address.ipv4_mapped or address), packets, octets


def main():
    if not 2 <= len(sys.argv) <= 3:
        sys.exit("usage: top.py MAP [N]")
    rows = sorted(entries(sys.argv[1]), key=lambda row: row[1], reverse=True)
    print(f"{'SOURCE':40}{'PACKETS':>12}{'BYTES':>14}")
    for address, packets, octets in rows[: int(sys.argv[2]) if len(sys.argv) > 2 else 10]:
        print(f"{address:40}{packets:12}{octets:14}")


if __name__ == "__main__":
    main()
