# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""Manual pages: mandoc finds nothing wrong, and they have every command and option that --help has."""

import json
import re
import shutil
import subprocess

import pytest

from node import REPO, binary

MAN = REPO / "docs/man"
PAGES = sorted(path.name for path in MAN.iterdir())
COMMON = {"--output", "-o", "--socket", "--color", "--help", "-h"}
ONLY_COMMAND_LINE = {"--config", "--uninstall", "--help", "--version"}  # towpath.conf(5) says so
OPTION = re.compile(r"(?<![\w-])(--?[A-Za-z0-9][\w-]*)")

pytestmark = pytest.mark.skipif(not shutil.which("mandoc"), reason="not installed: mandoc")


def run(*argv):
    return subprocess.run(argv, capture_output=True, text=True, timeout=30, check=True).stdout


def rendered(page):
    """As a reader sees it, without bold and underline."""
    text = run("mandoc", "-T", "utf8", "-O", "width=400", MAN / page)
    return re.sub(r".\x08", "", text)


def section(text, title):
    """A section's text, or a subsection's: to the next line that is no further to the right."""
    lines = text.splitlines()
    start = next((n for n, line in enumerate(lines) if line.strip().split("  ")[0] == title
                  or line.lstrip().startswith(f"{title} ")), None)  # fmt: skip
    assert start is not None, f"there is no {title}"
    depth = len(lines[start]) - len(lines[start].lstrip())
    out = [lines[start]]
    for line in lines[start + 1 :]:
        if line.strip() and len(line) - len(line.lstrip()) <= depth:
            break
        out.append(line)
    return "\n".join(out)


def options(text):
    return set(OPTION.findall(text.replace("\N{EN DASH}", "-").replace("\N{MINUS SIGN}", "-")))


def help_options(*argv):
    """From the lines that begin with an option."""
    lines = re.findall(r"^ +(-.*?)(?:  |$)", run(*argv, "--help"), re.M)
    return {option for line in lines for option in options(line)}


def commands():
    listed = run(binary("towpath"), "--help").split("Commands:\n")[1].split("\n\n")[0]
    names = re.findall(r"^  (\w+)", listed, re.M)
    return [*names, *(f"{name} {word}" for name in names for word in group(name))]


def group(name):
    """The commands of a group."""
    text = run(binary("towpath"), name, "--help")
    listed = text.split("Commands:\n")[1].split("\n\n")[0] if "Commands:\n" in text else ""
    return re.findall(r"^  (\w+)", listed, re.M)


@pytest.mark.parametrize("page", PAGES)
def test_lint(page):
    done = subprocess.run(
        ["mandoc", "-T", "lint", "-W", "warning", MAN / page], capture_output=True, text=True,
        timeout=30, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("command", commands())
def test_every_option_of_a_command(command):
    part = section(rendered("towpath.1"), f"towpath {command}")
    missing = help_options(binary("towpath"), *command.split()) - COMMON - options(part)
    assert not missing, f"towpath(1), {command}: {sorted(missing)}"


def test_no_command_that_is_not_there():
    page = section(rendered("towpath.1"), "COMMANDS")
    have = re.findall(r"^ {2,4}towpath (\w+)(?: (\w+))?", page, re.M)
    groups = [name for name, _ in have if group(name)]
    names = {f"{name} {word}" if name in groups else name for name, word in have}
    assert names | set(groups) == set(commands())
    said = options(section(rendered("towpath.1"), "DESCRIPTION"))
    assert COMMON <= said


def test_options_of_the_agent():
    page = options(section(rendered("towpathd.8"), "DESCRIPTION"))
    known = help_options(binary("towpathd"))
    assert known - page == set(), "not in towpathd(8)"
    assert page - known == set(), "only in towpathd(8)"


def test_options_of_the_file():
    """Each as a key of the list, and no other."""
    text = section(rendered("towpath.conf.5"), "OPTIONS")
    keys = {f"--{key}" for key in re.findall(r"^ {5,8}([a-z][a-z-]+)(?: |$)", text, re.M)}
    assert keys == help_options(binary("towpathd")) - ONLY_COMMAND_LINE


def test_keys_of_a_network():
    """What `towpath cni install` writes is described."""
    made = run(
        binary("towpath"), "cni", "install", "--dry-run", "--mtu", "1400", "--dns", "192.0.2.53", "--subnet",
        "10.7.0.0/16", "-n", "shop", "-l", "a=b", "--state-dir", "/x", "--socket", "/x/towpath.sock",
    )  # fmt: skip
    plugin = json.loads(made[made.index("{") :])["plugins"][0]
    page = rendered("towpath-cni.8")
    missing = [key for key in plugin if not re.search(rf"\b{key}\b", page)]
    assert not missing


def test_each_page_names_the_others():
    for page in PAGES:
        seen = section(rendered(page), "SEE ALSO")
        for other in PAGES:
            name, number = other.rsplit(".", 1)
            assert other == page or f"{name}({number})" in seen, f"{page} does not name {other}"
