# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""Every sentence with which the agent refuses to start is in docs/guide/troubleshooting.md."""

import re

import pytest

from node import REPO

# Sources that a start goes through, and what writes a sentence there.
FILES = [
    *(f"agent/{name}.c" for name in ("agent", "config", "guard", "objects_dir", "options", "restore", "uplinks")),
    "agent/api/api.c", "agent/api/metrics.c", "agent/datapath/plan.c", "agent/datapath/reconcile.c",
    "agent/endpoint/sysctl.c", "agent/endpoint/uplink.c", "agent/store/db.c", "agent/store/store.c",
    "lib/datapath.c", "lib/migrate.c",
]  # fmt: skip
CALL = re.compile(r'\b(\w+)\(([^;"]*?)((?:"(?:[^"\\]|\\.)*"\s*(?:PRI\w+\s*)?)+)', re.S)
WRITERS = {"snprintf", "fprintf", "datapath_message", "endpoint_fail", "agent_refuse", "refuse", "usage"}
TO = re.compile(r"\b(err|why|out|stderr|db->error|range|choice|name)\b")
# Said while it runs, by other programs, or a part of another sentence.
OTHERS = {
    "the database %s was deleted and cannot be written anew (%s); make its folder writable, with room",
    "the database %s was replaced while towpathd runs; restart towpathd to use what is there, or move it away "
    "to keep what is running",
    "slot %u is not possible or taken",
    "%s %s, not '%s'; see towpathd --help",
    "%s:%u:%u: %s %s, not '%s'",
}  # fmt: skip
PARTS = re.compile(r"^[^a-z]*(%[\w.]+[^a-z]*)*$|^/|^must be|^takes|^may be given|^;|^%s/")


def sentences():
    found = set()
    for name in FILES:
        for call in CALL.finditer((REPO / name).read_text()):
            text = "".join(re.findall(r'"((?:[^"\\]|\\.)*)"', call[3])).replace("\\n", "")
            text = text.removeprefix("towpathd: ")
            if call[1] in WRITERS and TO.search(call[2]) and not PARTS.match(text) and " " in text:
                found.add(text)
    return sorted(found - OTHERS)


def rows():
    """What stands between backticks in the first column."""
    page = (REPO / "docs/guide/troubleshooting.md").read_text()
    section = page[page.index("## The agent does not start") :]
    section = section[: section.index("\n## ")]
    return [said for line in re.findall(r"^\| (.*?) \| ", section, re.M) for said in re.findall("`([^`]*)`", line)]


def plain(text):
    """Both ways to write it: what differs is one mark."""
    text = re.sub(r"%[-+.\d]*(?:l|ll|z|h)*[a-zA-Z]|\.\.\.", "@", text)
    text = text.replace("CAP_@", "@").replace("FILE:LINE:COLUMN", "@:@:@").replace("FIELD", "@")
    return re.sub(r"@[ @]*@|@+", "@", re.sub(r"(@\s*)+", "@ ", text)).strip()


@pytest.mark.parametrize("sentence", sentences())
def test_is_in_the_guide(sentence):
    known = [re.escape(plain(row)).replace("@", ".*") for row in rows()]
    assert any(re.fullmatch(row, plain(sentence)) for row in known), f"no row for: {sentence}"


def test_sentences_were_found():
    assert len(sentences()) > 40
