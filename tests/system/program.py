# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""Users' programs for tests: small sources, compiled by `towpath program build`; cgroups to try them
in; what the kernel has at a hook, as bpftool sees it."""

import itertools
import json
import os
import pathlib
import subprocess
import sys
import tempfile

from bpfmap import Map
from netns import cleanup_pop, cleanup_push, run
from node import binary

_serial = itertools.count()

HEAD = """#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/pkt_cls.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
"""
LICENCE = 'char _license[] SEC("license") = "GPL";\n'
COUNTS = """struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} counts SEC(".maps");
static __always_inline void count_one(void)
{
	__u32 zero = 0;
	__u64 *n = bpf_map_lookup_elem(&counts, &zero);
	if (n)
		__sync_fetch_and_add(n, 1);
}
"""
CONTEXT = {"tc": "__sk_buff", "xdp": "xdp_md", "cgroup_skb": "__sk_buff", "sockops": "bpf_sock_ops",
           "cgroup": "bpf_sock_addr"}  # fmt: skip


# For `when` of an XDP counter: no ARP, no neighbour discovery, which come when they like.
UDP_ONLY = """#include <towpath/bpf/packet.h>
static __always_inline bool is_udp(struct xdp_md *ctx)
{
	struct cursor c = cursor_xdp(ctx);
	struct packet_eth eth;
	struct iphdr *ip;
	__u8 protocol = 0;

	if (!packet_eth(&c, &eth))
		return false;
	if (eth.protocol == bpf_htons(ETH_P_IP) && (ip = packet_ipv4(&c)))
		protocol = ip->protocol;
	if (eth.protocol == bpf_htons(ETH_P_IPV6) && !packet_ipv6(&c, &protocol))
		return false;
	return protocol == IPPROTO_UDP;
}
"""


def counter(name="count", section="tc", result="TC_ACT_UNSPEC", body="", more="", when="1"):
    """A program that counts what it sees."""
    kind = CONTEXT[section.partition("/")[0].rstrip("x") if section.startswith("tcx") else
                   section.partition("/")[0].partition(".")[0]]  # fmt: skip
    return (
        f'{HEAD}{COUNTS}{more}SEC("{section}") int {name}(struct {kind} *ctx)\n'
        f"{{\n\tif ({when})\n\t\tcount_one();\n\t{body}\n\treturn {result};\n}}\n{LICENCE}"
    )


def build(folder, source, name="count"):
    """The object file of a source text."""
    path = pathlib.Path(folder) / f"{name}{next(_serial)}.c"
    path.write_text(source)
    run(binary("towpath"), "program", "build", path, "-o", path.with_suffix(".o"))
    return path.with_suffix(".o")


def counted(node, name, what="counts"):
    """What the program's map says."""
    with Map(node.run_dir / "bpf/programs" / name / "maps" / what) as m:
        return int.from_bytes(next(iter(m.items()))[1], sys.byteorder)


def programs(node):
    return {row["name"]: row for row in node.api("GET", "/v1/programs")["items"]}


def pins(node):
    """The programs that have pins."""
    top = node.run_dir / "bpf/programs"
    return sorted(os.listdir(top)) if top.is_dir() else []


def chain(netns, device, kind="tc", side="ingress"):
    """Names of the programs at a device's hook, in order, by bpftool: of tcx, or where the kernel
    has none, of clsact filters, which are called "name:[id]"."""
    shown = json.loads(netns.run("bpftool", "-j", "net", "show", "dev", device).stdout)[0]
    if kind == "xdp":
        return [run_name(row["id"]) for row in shown["xdp"]]
    here = (f"tcx/{side}", f"clsact/{side}")
    return [row["name"].partition(":")[0] for row in shown["tc"] if row["kind"] in here]


def attach_mode(node):
    """tcx, or clsact on kernels before 6.6 (and with --attach clsact)."""
    return node.status()["kernel"]["attach"]


def run_name(number):
    return json.loads(run("bpftool", "-j", "prog", "show", "id", str(number)).stdout).get("name", "")


def cgroup_root():
    with open("/proc/self/mountinfo", encoding="ascii") as lines:
        for line in lines:
            words, _, rest = line.partition(" - ")
            if rest.split()[0] == "cgroup2":
                return pathlib.Path(words.split()[4])
    return None


class Cgroup:
    """A cgroup of the test's own, removed however it ends."""

    def __init__(self, name=None):
        self.path = cgroup_root() / (name or f"towpath-test-{os.getpid()}-{next(_serial)}")
        cleanup_push(self.close)
        self.path.mkdir()

    def __enter__(self):
        return self

    def __exit__(self, *_exc):
        self.close()

    def close(self):
        cleanup_pop(self.close)
        if self.path.is_dir():
            self.path.rmdir()

    def python(self, netns, code, timeout=20):
        """Runs Python in the cgroup and the namespace; the completed process."""
        enter = f"echo $$ >{self.path}/cgroup.procs; exec {sys.executable} -IS -c \"$CODE\""
        return subprocess.run(
            netns.argv("sh", "-c", enter), env={**os.environ, "CODE": code}, timeout=timeout,
            capture_output=True, text=True, check=False,
        )  # fmt: skip


def scratch():
    """A folder for objects that lives as long as the process."""
    made = tempfile.TemporaryDirectory(prefix="towpath-programs-")
    cleanup_push(made.cleanup)
    return pathlib.Path(made.name)
