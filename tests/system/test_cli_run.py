# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""towpath run, exec and rm: processes in endpoints of their own, and nothing left of them."""

import json
import os
import signal
import subprocess
import time

import pytest
from node import binary, policy_object
from traffic import wait_for


def endpoints(node, pod=None):
    items = node.api("GET", "/v1/endpoints")["items"]
    return [ep for ep in items if pod in (None, ep["pod"])]


def record(node, pod, namespace="default"):
    return json.loads((node.run_dir / "run" / f"{namespace}_{pod}.json").read_text())


def pid_recorded(node, pod):
    """The record is a lock first; its words come a moment later."""
    try:
        return record(node, pod)["pid"]
    except (FileNotFoundError, json.JSONDecodeError):
        return None


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def foreground(node, *argv):
    return subprocess.Popen([binary("towpath"), "run", *argv], env=node.env(), text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # fmt: skip


@pytest.fixture(autouse=True)
def nothing_is_left(node):
    """Every test ends with the node as it began."""
    links = node.netns.run("ip", "-o", "link").stdout.count("\n")
    yield
    assert endpoints(node) == []
    assert node.api("GET", "/v1/objects/Pod")["items"] == []
    assert not list((node.run_dir / "run").glob("*.json"))
    assert not list((node.run_dir / "netns").iterdir())
    assert str(node.run_dir / "netns") not in open("/proc/self/mounts", encoding="ascii").read()
    assert node.netns.run("ip", "-o", "link").stdout.count("\n") == links


def test_foreground_gives_output_and_status(node):
    done = node.towpath("run", "one", "--", "sh", "-c", "ip -br address; exit 7", check=False)
    assert done.returncode == 7
    assert "eth0" in done.stdout and "10.88." in done.stdout
    done = node.towpath("run", "one", "--", "sh", "-c", "kill -9 $$", check=False)
    assert done.returncode == 128 + signal.SIGKILL


def test_standard_input_reaches_the_command(node):
    assert node.towpath("run", "one", "--", "cat", stdin="hello").stdout == "hello"


@pytest.mark.parametrize("argv,status", ((["/nonexistent"], 127), (["/etc/passwd"], 126)))
def test_command_that_cannot_be_run(node, argv, status):
    for options in ([], ["-d"]):
        done = node.towpath("run", "one", *options, "--", *argv, check=False)
        assert done.returncode == status
        assert argv[0] in done.stderr and len(done.stderr.splitlines()) == 1


def test_detached_runs_talk_by_policy_and_go(node, family):
    bind, port = ("::" if family == 6 else "0.0.0.0"), 8080
    serve = ["python3", "-u", "-m", "http.server", str(port), "--bind", bind]
    node.towpath("run", "web", "-l", "app=web", "-p", f"http={port}", "-d", "--", *serve)
    ep = endpoints(node, "web")[0]
    address = next(ip.split("/")[0] for ip in ep["ips"] if (":" in ip) == (family == 6))
    url = f"http://[{address}]:{port}/" if family == 6 else f"http://{address}:{port}/"
    fetch = ["curl", "-s", "-o", "/dev/null", "--max-time", "2", url]
    wait_for(lambda: node.netns.run(*fetch, check=False).returncode == 0)

    def asks(app):
        done = node.towpath("run", "c", "-l", f"app={app}", "--", *fetch, check=False)
        return done.returncode == 0

    try:
        assert asks("friend") and asks("foe")
        rule = {"from": [{"podSelector": {"matchLabels": {"app": "friend"}}}],
                "ports": [{"port": "http"}]}  # fmt: skip
        policy = policy_object("default", "friends", {"matchLabels": {"app": "web"}}, [rule])
        node.apply(policy)
        assert asks("friend")
        assert not asks("foe")
        node.delete(policy)
    finally:
        pid = record(node, "web")["pid"]
        node.towpath("rm", "web")
    assert not alive(pid)


def test_wished_for_address(node):
    argv = ["run", "one", "--ip", "10.88.7.7", "--ip", "fd00:10:88::77", "--"]
    out = node.towpath(*argv, "ip", "-br", "address", "show", "eth0").stdout
    assert "10.88.7.7/32" in out and "fd00:10:88::77/128" in out
    done = node.towpath("run", "two", "--ip", "203.0.113.1", "--", "true", check=False)
    assert done.returncode == 1 and "203.0.113.1" in done.stderr


def test_exec_is_in_the_same_network(node):
    node.towpath("run", "one", "-d", "--", "sleep", "60")
    try:
        here = endpoints(node, "one")[0]["ips"][0]
        assert here in node.towpath("exec", "one", "--", "ip", "-br", "address").stdout
        assert node.towpath("exec", "one", "--", "sh", "-c", "exit 5", check=False).returncode == 5
        assert node.towpath("exec", "one", "--", "/nonexistent", check=False).returncode == 127
    finally:
        node.towpath("rm", "one")


def test_exec_into_what_another_runtime_made(node):
    pod = node.add_pod("shop", "cni", {})
    try:
        out = node.towpath("exec", "-n", "shop", "cni", "--", "ip", "-br", "address").stdout
        assert pod.ip(4) in out
        done = node.towpath("rm", "-n", "shop", "cni", check=False)
        assert done.returncode == 1 and "towpath run" in done.stderr
    finally:
        node.del_pod(pod)
        node.delete({"apiVersion": "v1", "kind": "Pod",
                     "metadata": {"namespace": "shop", "name": "cni"}}, check=False)  # fmt: skip


def test_name_in_use_is_refused(node):
    node.towpath("run", "one", "-d", "--", "sleep", "60")
    try:
        done = node.towpath("run", "one", "--", "true", check=False)
        assert done.returncode == 1 and "towpath rm" in done.stderr
        assert len(endpoints(node)) == 1
    finally:
        node.towpath("rm", "one")
    done = node.towpath("rm", "one", check=False)
    assert done.returncode == 1 and "one" in done.stderr


def test_pod_object_of_others_is_not_touched(node):
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "one", "labels": {"a": "b"}},
           "spec": {"containers": [{"name": "c", "image": "i"}]}}  # fmt: skip
    node.apply(pod)
    try:
        done = node.towpath("run", "one", "-l", "a=c", "--", "true", check=False)
        assert done.returncode == 1 and "Pod object" in done.stderr
        node.towpath("run", "one", "--", "true")
        assert node.api("GET", "/v1/objects/Pod/default/one")["metadata"]["labels"] == {"a": "b"}
    finally:
        node.delete(pod)


def test_end_of_a_detached_command_removes_its_endpoint(node):
    node.towpath("run", "one", "-d", "--", "sleep", "0.3")
    assert endpoints(node, "one")
    wait_for(lambda: not endpoints(node) and not (node.run_dir / "run/default_one.json").exists())


def test_output_of_a_detached_command_is_in_its_log(node):
    done = node.towpath("run", "one", "-d", "-o", "json", "--", "sh", "-c", "echo word; echo x >&2")
    answer = json.loads(done.stdout)
    wait_for(lambda: open(answer["log"], encoding="ascii").read() == "word\nx\n")
    wait_for(lambda: not (node.run_dir / "run/default_one.json").exists())


def test_children_end_with_a_detached_command(node):
    script = "sleep 61 & echo $! > $0; wait"
    pidfile = node.dir / "child.pid"
    node.towpath("run", "one", "-d", "--", "sh", "-c", script, pidfile)
    child = int(wait_for(lambda: pidfile.exists() and pidfile.read_text().strip()))
    node.towpath("rm", "one")
    wait_for(lambda: not alive(child))


def test_command_that_ignores_sigterm_is_killed(node):
    node.towpath("run", "one", "-d", "--", "sh", "-c", "trap '' TERM; while :; do sleep 0.1; done")
    time.sleep(0.2)
    begun = time.monotonic()
    node.towpath("rm", "one", "--grace", "1")
    assert 0.9 < time.monotonic() - begun < 5


@pytest.mark.parametrize("number", (signal.SIGTERM, signal.SIGINT, signal.SIGHUP))
def test_signal_to_the_foreground_takes_all_down(node, number):
    run = foreground(node, "one", "--", "sleep", "60")
    wait_for(lambda: pid_recorded(node, "one"))
    run.send_signal(number)
    assert run.wait(10) == 128 + number


def test_rm_of_a_foreground_run(node):
    run = foreground(node, "one", "--", "sleep", "60")
    wait_for(lambda: endpoints(node, "one"))
    node.towpath("rm", "one")
    assert run.wait(10) == 128 + signal.SIGTERM


def test_killed_keeper_is_cleaned_up_after(node):
    node.towpath("run", "one", "-p", "80", "-d", "--", "sleep", "60")
    pid = record(node, "one")["pid"]
    with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
        keeper = int(stat.read().rsplit(")", 1)[1].split()[1])
    os.kill(keeper, signal.SIGKILL)
    wait_for(lambda: not alive(keeper))
    done = node.towpath("run", "one", "--", "true", check=False)
    assert done.returncode == 1 and str(pid) in done.stderr, "it still runs"
    os.kill(pid, signal.SIGKILL)
    # What is dead is no obstacle: the next run of the name begins anew.
    wait_for(lambda: node.towpath("run", "one", "--", "true", check=False).returncode == 0)
    node.towpath("run", "one", "-d", "--", "sleep", "60")
    node.towpath("rm", "one")


def test_agent_away_and_back(node):
    node.towpath("run", "one", "-p", "80", "-d", "--", "sleep", "60")
    pid = record(node, "one")["pid"]
    node.kill()
    try:
        done = node.towpath("rm", "one", check=False)
        assert not alive(pid)
        assert done.returncode == 1 and "towpathd" in done.stderr, "the rest is for later"
        assert list((node.state_dir / "pending-del").iterdir()), "of this node, not the default"
    finally:
        node.start()
    wait_for(lambda: not endpoints(node))
    node.towpath("rm", "one")


def test_image_root(node, tmp_path):
    busybox = "/bin/busybox"
    if not os.path.exists(busybox):
        pytest.skip("needs busybox-static for an image")
    for folder in ("bin", "proc", "sys", "dev"):
        (tmp_path / folder).mkdir()
    (tmp_path / "bin/busybox").write_bytes(open(busybox, "rb").read())
    (tmp_path / "bin/busybox").chmod(0o755)
    script = "/bin/busybox hostname; /bin/busybox ls /; /bin/busybox ls /sys/class/net"
    out = node.towpath("run", "box", "--image-root", tmp_path, "--", "/bin/busybox", "sh", "-c",
                       script).stdout.split()  # fmt: skip
    assert out[0] == "box" and "bin" in out and "etc" not in out
    assert "eth0" in out, "sysfs of its own network namespace"
