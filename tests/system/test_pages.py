# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""Every command of README.md and docs/guide is run, and prints what the page shows; see page.py."""

import contextlib
import re

import pytest

from node import REPO, Node
from page import PAGES, Page, Shell, matches, merged, reader
from runtime import Host

DATA = {"yaml", "json", "toml", "ini", "text", "c"}  # languages of blocks that hold no commands


@contextlib.contextmanager
def nowhere(folder):
    """The reader is in the checkout, in an empty network namespace."""
    argv = ("unshare", "--net", "--mount")
    with contextlib.closing(Shell(argv, folder, reader(folder))) as shell:
        yield shell


@contextlib.contextmanager
def on_a_node(folder):
    """... on a host with an uplink, where the agent runs as installed."""
    with Node(prefix="twg", uplink="eth") as node, contextlib.closing(Host(node)) as host:
        with contextlib.closing(Shell(host.argv(), folder, reader(folder))) as shell:
            yield shell


# A program at a container is attached by the agent, which must see the reader's /run.
WHERE = {"README.md": nowhere, "docs/guide/programs.md": nowhere}


def own(name):
    return any(block.runs and block.language == "console" for block in Page(name).blocks)


@pytest.mark.parametrize("name", [name for name in PAGES if own(name)])
def test_page(name, tmp_path):
    with WHERE.get(name, on_a_node)(tmp_path) as shell:
        assert Page(name).run(shell)


def test_every_block_is_run_or_says_why_not():
    """And what holds commands is marked as such."""
    unmarked = []
    for name in PAGES:
        for block in Page(name).blocks:
            if block.language not in DATA | {"console", "hidden"}:
                unmarked.append(f"{name}:{block.line + 1}")
            why, where = block.mark("not run:"), block.mark("run by")
            if why is not None:
                assert len(why.split()) > 3, f"{name}:{block.line + 1}: why?"
            if where is not None:
                tests = (REPO / "tests/system" / where).read_text()
                assert name.rsplit("/", 1)[-1] in tests, f"{where} does not run {name}"
    assert not unmarked


@pytest.mark.parametrize(
    ("shown", "printed", "same"),
    (
        ("a  b\n", "a b", True),
        ("a\n", "b", False),
        ("", "more", False),
        ("07:04:45.712  10.0.0.1:53594 -> 10.0.0.2:80", "08:00:00.000 10.0.0.1:40000 -> 10.0.0.2:80", True),
        ("10.0.0.1:53594 -> 10.0.0.2:80", "10.0.0.1:53594 -> 10.0.0.2:81", False),
        ("10.0.0.1:53594 -> 10.0.0.2:80", "10.0.0.3:53594 -> 10.0.0.2:80", False),
        ("in 0.2 ms, 3 left", "in 12 ms, 3 left", True),
        ("in 0.2 ms, 3 left", "in 0.2 ms, 4 left", False),
        ("up 9 s, 7.9 MB, pid 77", "up 2 h, 10 MB, pid 3", True),
        ("MAC 12:27:90:e4:7b:93", "MAC 32:b8:7b:37:c3:78", True),
        ("first\n...\nlast", "first\n1\n2\nlast", True),
        ("first\n...\nlast", "first\nlast", True),
        ("first\n...", "second\nthird", False),
        ("found '...' at 3", "found 'x y' at 3", True),
    ),
)
def test_what_is_the_same(shown, printed, same):
    assert matches(shown, printed) is same


def test_numbers_of_a_block_may_vary():
    assert matches("262 144 flows", "1 flows", vary=True)
    assert not matches("262 144 flows", "1 drops", vary=True)


def test_update_keeps_what_is_left_out():
    assert merged("a 1\n...\nz", "a 2\n3\nz") == "a 2\n...\nz"
    assert merged("a 1\n...\nm 1\nn\n...\nz", "A\n1\nm 2\nN\n2\nz") == "A\n...\nm 2\nN\n...\nz"
    assert merged("a\n...\nz", "A\n1\n2\nZ") == "A\n1\n2\nZ", "nothing is like z"
    assert merged("a\nb\n...", "A\nB\nC") == "A\nB\n..."
    assert merged("a\nb", "A\nB\nC") == "A\nB\nC"


def anchors(path):
    """As GitHub makes them from headings."""
    heads = re.findall(r"^#+ (.*)$", path.read_text(), re.M)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def test_links_lead_somewhere():
    lost = []
    for name in [*PAGES, *(str(p.relative_to(REPO)) for p in (REPO / "docs/design").glob("*.md"))]:
        path = REPO / name
        for link in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
            if link.startswith(("http:", "https:")):
                continue
            file, _, anchor = link.partition("#")
            target = (path.parent / file).resolve() if file else path
            if not target.exists() or (anchor and anchor not in anchors(target)):
                lost.append(f"{name}: {link}")
    assert not lost
