# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""All that a node has, from the kernel and the disk and not from the agent: links, addresses,
routes, rules, neighbours, pins, files, records, and what the maps say.

Numbers that may differ from one run to the next (slots, interface indices, identities) are
replaced by what they stand for, so two censuses of the same things are equal.
"""

import collections
import ipaddress
import json
import os
import shutil
import sqlite3
import struct
import tempfile

from bpfmap import Map
from netns import run

KIND, ENDPOINT, PAGE, PAYLOAD = 0xC0000000, 0x40000000, 0x80000000, 0x3FFFFFFF
RESERVED = 256  # identities below are the same everywhere


def _ip(netns, family, *commands):
    """What each command shows, all in one process."""
    text = "".join(f"{command}\n" for command in commands)
    done = run("ip", "-n", netns.name, f"-{family}", "-d", "-j", "-batch", "-", stdin=text)
    return [json.loads(line) for line in done.stdout.splitlines()]


def host(netns):
    """What `ip` shows, without what counts or ages; and the names of the interfaces."""
    links, addresses, devices = [], [], {}
    routes, rules, neighbours = [], [], []
    words = ("dst", "dev", "table", "type", "protocol", "scope", "gateway")
    for family in (4, 6):
        shown = _ip(
            netns, family, "addr", "route show table all", "rule",
            "neigh show nud permanent", "link",
        )  # fmt: skip
        for row in shown[0]:
            addresses += [(row["ifname"], a["local"], a["prefixlen"]) for a in row["addr_info"]]
        routes += [(family, *(str(row.get(word)) for word in words)) for row in shown[1]]
        rules += [(family, json.dumps(row, sort_keys=True)) for row in shown[2]]
        neighbours += [(row["dst"], row["dev"], row.get("lladdr")) for row in shown[3]]
    for row in shown[4]:
        kind = row.get("linkinfo", {}).get("info_kind")
        devices[row["ifindex"]] = row["ifname"]
        links.append((row["ifname"], kind, row["mtu"], row["operstate"], row.get("address")))
    return devices, {
        "links": sorted(links), "addresses": sorted(addresses), "routes": sorted(routes),
        "rules": sorted(rules), "neighbours": sorted(neighbours),
    }  # fmt: skip


def _files(top, without=()):
    found = []
    for folder, folders, files in os.walk(top):
        folders[:] = [name for name in folders if os.path.join(folder, name) not in without]
        found += [os.path.relpath(os.path.join(folder, name), top) for name in files]
    return sorted(found)


def pins(node, devices):
    """Interface indices in the names of links are written as interfaces' names."""
    top = node.run_dir / "bpf"
    found = []
    for name in _files(top):
        if name.startswith("links/"):
            what, _, index = name.rpartition("_")
            name = f"{what}_{devices.get(int(index), 'nothing')}"
        if name.startswith("jumps_"):
            name = "jumps"  # two names take turns
        found.append(name)
    return sorted(found)


def records(node):
    """What the database has; releases of addresses age and are left out. From a copy: the
    agent holds the file's lock."""
    with tempfile.TemporaryDirectory() as copy:
        for path in node.state_dir.glob("towpath.db*"):
            shutil.copy(path, copy)
        link = sqlite3.connect(f"{copy}/towpath.db")
        found = {
            "objects": sorted(link.execute("SELECT kind, ns, name, json FROM objects")),
            "endpoints": sorted(link.execute("SELECT container_id, ifname FROM endpoints")),
            "ids": sorted(link.execute("SELECT kind, count(*) FROM ids GROUP BY kind")),
            "sysctls": sorted(link.execute("SELECT path, value FROM sysctls")),
        }
        link.close()
    return found


def _runs(words):
    """[(start, word)] of (start, end, word) in order: neighbours that say the same are one."""
    found, last = [], None
    for start, end, word in words:
        if last is None or found[-1][1] != word or last != start:
            found.append((start, word))
        last = end
    return found


def _table4(top, pages):
    def walk(words, base, bits):
        size = 1 << (32 - bits)
        for i, word in enumerate(words):
            start = base + i * size
            if word & KIND == PAGE:
                page = (word & PAYLOAD) * 256
                yield from walk(pages[page : page + 256], start, bits + 8)
            elif word:
                yield start, start + size, word

    return [(str(ipaddress.IPv4Address(start)), word) for start, word in _runs(walk(top, 0, 16))]


def maps(node, devices):
    where = max((node.run_dir / "bpf" / "maps").glob("v*"))
    slots, versions = {}, collections.Counter()
    with Map(where / "tw_endpoints") as m:
        for slot, value in m.used():
            ifindex, flags, _, version, addr4, mtu, mac, rate, cap, _, addr6, _, _ = struct.unpack(
                "=IIIIIH6sIII16sII", value
            )
            slots[slot] = (devices.get(ifindex), flags, addr4, mtu, mac, rate, cap, addr6)
            versions[version] += 1

    def meaning(word):
        if word & KIND == ENDPOINT:
            return f"endpoint {slots.get(word & PAYLOAD, ('nothing',))[0]}"
        return f"identity {word}" if word < RESERVED else "identity"

    with Map(where / "tw_ipcache_top") as top, Map(where / "tw_ipcache_pages") as pages:
        table = _table4(top.words(), pages.words())
    with Map(where / "tw_ipcache6") as m:
        trie = [(key.hex(), meaning(struct.unpack("=I", word)[0])) for key, word in m.items()]
    free = bytes(8) + b"\1\0\0\0" + bytes(4)  # denies all: a version that nobody uses
    with Map(where / "tw_policy") as m:
        used = [value for _, value in m.used() if value != free + free]
    with Map(where / "tw_peers") as m:
        peers = collections.Counter(key[:4] for key, _ in m.items())
    with Map(where / "tw_uplinks") as m:
        uplinks = sorted((devices.get(struct.unpack("=I", k)[0]), v.hex()) for k, v in m.items())
    return {
        "endpoints": sorted(map(str, slots.values())),
        "ipcache4": [(address, meaning(word)) for address, word in table],
        "ipcache6": sorted(trie),
        "versions": sorted(struct.unpack("=8I", v)[1::4] for v in used),
        "versions in use": sorted(versions[v] for v in versions if v),
        "peers": sorted(peers.values()),
        "uplinks": uplinks,
    }


def census(node):
    devices, shown = host(node.netns)
    return {
        **shown, "pins": pins(node, devices), **records(node), **maps(node, devices),
        "state": _files(node.state_dir),
        "run": _files(node.run_dir, without=(str(node.run_dir / "bpf"),)),
    }  # fmt: skip


def differences(before, after):
    """One line for each thing that is in one and not in the other."""
    lines = []
    for what in before:
        old, new = (collections.Counter(map(str, c[what])) for c in (before, after))
        lines += [f"{what}: lost {row}" for row in (old - new).elements()]
        lines += [f"{what}: left behind {row}" for row in (new - old).elements()]
    return lines
