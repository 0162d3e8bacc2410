# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""docs/guide/cookbook.md: each recipe's policy is the file's, its table the file's checks, each of them
is tried with real traffic, and the flow log says about it what the page shows."""

import contextlib
import importlib.machinery
import importlib.util
import json
import re
import sys

import pytest

from node import REPO, Node
from page import UPDATE, Page, Shell, reader
from runtime import Host
from traffic import wait_for

CONFORMANCE = REPO / "tests/conformance"
RECIPES = CONFORMANCE / "cases/recipes"
INDEX = {r["file"]: r for r in json.loads((RECIPES / "index.json").read_text())["recipes"]}
PAGE = "docs/guide/cookbook.md"
LAST = re.compile(r"--last \d+")


def netpol():
    """The runner of truth tables, which is a program."""
    sys.path.append(str(CONFORMANCE))
    loader = importlib.machinery.SourceFileLoader("netpol", str(CONFORMANCE / "netpol"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("netpol", loader))
    loader.exec_module(module)
    return module


class Section:
    """A recipe's part of the page: its text, its blocks, and the file that it names."""

    def __init__(self, page, name):
        self.page, self.name = page, name
        start = page.text.index(f"<!-- recipe {name} -->")
        end = page.text.find("\n## ", start)
        self.text = page.text[start : end if end >= 0 else None]
        first = page.text[:start].count("\n")
        lines = range(first, first + self.text.count("\n") + 1)
        self.blocks = [block for block in page.blocks if block.line in lines]
        (self.yaml,) = [block.text for block in self.blocks if block.language == "yaml"]
        self.table = "".join(re.findall(r"^\|.*\n", self.text, re.M))

    def replace(self, old, new):
        text = self.text.replace(old, new, 1)
        self.page.path.write_text(self.page.text.replace(self.text, text, 1))


def manifest(name):
    """Without the two lines that say where it is from."""
    return "".join(re.sub(r" +$", "", (RECIPES / name).read_text(), flags=re.M).splitlines(True)[2:])


def end_cell(recipe, end):
    """The pod, its labels, and those that its namespace has beside its name."""
    if not isinstance(end, str):
        return end["ip"]
    pod = next(p for p in recipe["pods"] if f"{p['namespace']}/{p['name']}" == end)
    space = next(n for n in recipe["namespaces"] if n["name"] == pod["namespace"])
    labels = [f"{key}={value}" for key, value in pod["labels"].items()]
    of_space = [f"{k}={v}" for k, v in space["labels"].items() if not k.startswith("kubernetes.io/")]
    words = f"{end} `{','.join(labels)}`"
    return words + (f" in a namespace `{','.join(of_space)}`" if of_space else "")


def table(recipe):
    rows = ["| from | to | port | |\n", "|---|---|---|---|\n"]
    for c in recipe["checks"]:
        ends = [end_cell(recipe, c[end]) for end in ("from", "to")]
        port = f"{c['port']}/{c['protocol'].lower()}"
        verdict = {"allow": "allowed", "deny": "**denied**"}[c["expected"]]
        rows.append(f"| {ends[0]} | {ends[1]} | {port} | {verdict} |\n")
    return "".join(rows)


@pytest.fixture(scope="module")
def kitchen(tmp_path_factory):
    """A node, the cluster on it, and a shell."""
    folder = tmp_path_factory.mktemp("checkout")
    with Node(prefix="twk", uplink="eth") as node, contextlib.closing(Host(node)) as host:
        with contextlib.closing(Shell(host.argv(), folder, reader(folder))) as shell:
            module = netpol()
            yield module, module.Cluster(node), shell


def test_the_page_has_all_of_them():
    assert re.findall(r"<!-- recipe (\S+) -->", Page(PAGE).text) == list(INDEX)


@pytest.mark.parametrize("name", INDEX)
def test_policy_and_table_are_those_of_the_file(name):
    section = Section(Page(PAGE), name)
    want = manifest(name)
    if UPDATE and section.yaml != want:
        section.replace(f"```yaml\n{section.yaml}```", f"```yaml\n{want}```")
    else:
        assert section.yaml == want
    section = Section(Page(PAGE), name)
    want = table(INDEX[name])
    if UPDATE and section.table != want:
        section.replace(section.table, want)
    else:
        assert section.table == want



@pytest.mark.parametrize("name", INDEX)
def test_checks_and_their_flow_log(kitchen, name):
    module, cluster, shell = kitchen
    (case,) = [c for c in module.casefile.file_read(RECIPES / "index.json") if c.id == name]
    cluster.move_to(case.namespaces, case.pods)
    before = max((flow["seq"] for flow in cluster.node.flows(last=1)), default=0)
    probes, _again = module.step_run(cluster, case.steps[0])
    assert probes and all(probe.passed for probe in probes), [p.result for p in probes]
    page = Page(PAGE)
    section = Section(page, name)
    (block,) = [block for block in section.blocks if block.language == "console"]
    (step,) = block.steps
    verdict = "deny" if "--verdict deny" in step.command else "allow"
    count = sum(probe.expected == (verdict == "allow") for probe in probes)
    assert count
    if UPDATE:
        step.command = LAST.sub(f"--last {count}", step.command)
    assert f"--last {count}" in step.command
    assert wait_for(
        lambda: sum(f["seq"] > before and f["type"] in ("new", "drop") and f["verdict"] == verdict
                    for f in cluster.node.flows(last=1000)) >= count, 10
    )  # fmt: skip
    page.run(shell, [block])
