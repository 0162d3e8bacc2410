# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""A build of towpathd whose maps have another layout: this tree with include/towpath/abi.h
changed. Fields are new, moved, wider; a key is in another order; the version is another one."""

import pathlib
import re
import shutil
import subprocess
import tempfile

from netns import cleanup_push
from node import BUILD, REPO

VERSION = 1000

CHANGES = (
    (r"(#define TW_ABI_VERSION )\d+", rf"\g<1>{VERSION}"),
    # struct tw_half: three new words, `out` elsewhere, a wider `mtu`
    (r"\t__u32 out;[^\n]*redirect[^\n]*\n(\t__u32 seen;)", r"\t__u64 added[3];\n\1"),
    (r"(\t__u16 slot_to;\n)\t__u16 (mtu;[^\n]*way out)", r"\1\t__u32 out;\n\t__u32 \2"),
    (r"sizeof\(struct tw_half\) == 64", "sizeof(struct tw_half) == 96"),
    (r"sizeof\(struct tw_flow\) == 128", "sizeof(struct tw_flow) == 192"),
    # struct tw_flow4_key: the ports first
    (r"(struct tw_flow4_key \{\n)(\t__be32 addr\[2\];\n)(\t__be16 port\[2\];\n)", r"\1\3\2"),
)


def towpathd_build():
    """The path of the other agent. The finished objects of this tree's build are used for
    everything that does not see the layout, so it takes some seconds."""
    there = pathlib.Path(tempfile.mkdtemp(prefix="towpath-layout-"))
    cleanup_push(lambda: shutil.rmtree(there, ignore_errors=True))
    ignore = shutil.ignore_patterns(".git", "build*", "__pycache__")
    shutil.copytree(REPO, there, ignore=ignore, dirs_exist_ok=True, symlinks=True)
    shutil.copytree(BUILD, there / "build", symlinks=True)
    abi = there / "include/towpath/abi.h"
    text = abi.read_text()
    for old, new in CHANGES:
        text, n = re.subn(old, new, text)
        assert n == 1, f"abi.h has changed: {old} is there {n} times"
    abi.write_text(text)
    # Meson writes the source folder into some commands.
    ninja = there / "build/build.ninja"
    ninja.write_text(ninja.read_text().replace(str(REPO), str(there)))
    subprocess.run(
        ["ninja", "-C", there / "build", "agent/towpathd"], check=True, stdout=subprocess.DEVNULL
    )
    return str(there / "build/agent/towpathd")
