# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""towpath.conf: options of the agent in a file."""

import subprocess

import pytest
from node import Node, binary


PORT = "must be a port, like 9977 or 192.0.2.1:9977"


def refused(tmp_path, text, *argv):
    """The agent's sentence about this file, without its path; nothing was started."""
    path = tmp_path / "towpath.conf"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    done = subprocess.run(
        [binary("towpathd"), "--config", path, *argv], capture_output=True, text=True, timeout=20,
        check=False,
    )  # fmt: skip
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.count("\n") == 1
    return done.stderr.strip().removeprefix("towpathd: ").replace(f"{path}", "FILE")


@pytest.mark.parametrize(
    ("text", "sentence"),
    (
        ("max-flows = many", "FILE:1:13: max-flows must be a number from 1024 to 67108864, not 'many'"),
        ("# all well\n\n  pod-cidr=10.7.0.0/33 # no\n",
         "FILE:3:12: pod-cidr must be a CIDR like 10.7.0.0/16, not '10.7.0.0/33'"),
        ("outside = up", "FILE:1:11: outside must be direct or stack, not 'up'"),
        ("log-level = loud", "FILE:1:13: log-level must be error, warn, info or debug, not 'loud'"),
        ("metrics = 0", f"FILE:1:11: metrics {PORT}, not '0'"),
        ("metrics = 65536", f"FILE:1:11: metrics {PORT}, not '65536'"),
        ("metrics = 9977x", f"FILE:1:11: metrics {PORT}, not '9977x'"),
        ("metrics = :9977", f"FILE:1:11: metrics {PORT}, not ':9977'"),
        ("metrics = localhost:9977", f"FILE:1:11: metrics {PORT}, not 'localhost:9977'"),
        ("metrics = [::1:9977", f"FILE:1:11: metrics {PORT}, not '[::1:9977'"),
        ("metrics = []:9977", f"FILE:1:11: metrics {PORT}, not '[]:9977'"),
        ("metrics = ::1:9977", f"FILE:1:11: metrics {PORT}, not '::1:9977'"),
        ("no-masquerade = 5", "FILE:1:17: no-masquerade takes 4 or 6, not '5'"),
        ("uplinks = eth0", "FILE:1:1: there is no option 'uplinks' in a configuration"),
        ("uninstall", "FILE:1:1: there is no option 'uninstall' in a configuration"),
        ("config = x", "FILE:1:1: there is no option 'config' in a configuration"),
        ("max-flows", "FILE:1:1: max-flows needs a value"),
        ("max-flows =", "FILE:1:12: a line must be 'option' or 'option = value'"),
        ("max-flows 5000", "FILE:1:11: a line must be 'option' or 'option = value'"),
        ("= 5", "FILE:1:1: a line must be 'option' or 'option = value'"),
        (b"max-flows = 5000\0", "cannot read the configuration FILE: it is not text"),
    ),
)  # fmt: skip
def test_what_is_wrong_is_told_with_its_place(tmp_path, text, sentence):
    assert refused(tmp_path, text) == sentence


def test_a_file_that_is_named_must_exist(tmp_path):
    done = subprocess.run(
        [binary("towpathd"), "--config", tmp_path / "none"], capture_output=True, text=True,
        timeout=20, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "cannot read the configuration" in done.stderr and "No such file" in done.stderr


def test_the_file_counts_and_the_command_line_counts_more(tmp_path):
    path = tmp_path / "towpath.conf"
    path.write_text(
        "pod-cidr = 10.7.0.0/24   # of containers\npod-cidr=fd07::/112\r\nflow-log = 77\nmax-flows = 2048\n"
    )
    with Node(options=("--config", path, "--max-flows", "4096")) as node:
        status = node.status()
        assert {pool["subnet"] for pool in status["pools"]} == {"10.7.0.0/24", "fd07::/112"}
        assert status["flow_log"]["capacity"] == 77
        assert {m["max"] for m in status["maps"] if m["name"] == "tw_flow4"} == {4096}
        node.stop()
        node.options = ["--config", path, "--pod-cidr", "10.8.0.0/24"]
        node.start()
        assert {pool["subnet"] for pool in node.status()["pools"]} == {"10.8.0.0/24"}
