# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""The state directory full, read-only, damaged, deleted, restored (docs/design/faults.md)."""

import contextlib
import os
import shutil
import sqlite3
import subprocess

import pytest
from netns import run
from node import Node, policy_object
from traffic import QUIET, SOON, tcp_open, tcp_works, udp_ask, wait_for

FAMILY = 4  # what is on disk knows of no other


def closed(name="closed"):
    return policy_object("shop", name, {"matchLabels": {"app": "db"}}, ingress=[])


@pytest.fixture(scope="module")
def running():
    with Node() as made:
        made.file = made.state_dir / "towpath.db"
        yield made


@pytest.fixture
def node(running):
    """Running, with two pods and nothing else, whatever a test did before."""
    if running.agent.poll() is not None:
        running.start()
    for item in running.api("GET", "/v1/objects/NetworkPolicy")["items"]:
        running.delete(item)
    for pod in list(running.pods.values()):
        running.del_pod(pod)
    running.web = running.add_pod("shop", "web", {"app": "web"})
    running.db = running.add_pod("shop", "db", {"app": "db"})
    return running


def policies(node):
    return {p["metadata"]["name"] for p in node.api("GET", "/v1/objects/NetworkPolicy")["items"]}


def endpoints(node):
    return {e["container_id"] for e in node.api("GET", "/v1/endpoints")["items"]}


def refused(node, *parts):
    """A start that is refused: one sentence with these parts; nothing in the kernel changed."""
    node.log.write_text("")
    assert node.start(wait=False).wait(20) == 1
    said = node.log.read_text().strip()
    assert len(said.splitlines()) == 1, said
    for part in parts:
        assert part in said, said


@contextlib.contextmanager
def small_disk(node, size="512k"):
    """The state directory on a file system of its own."""
    node.stop()
    saved = node.dir / "saved"
    shutil.copytree(node.state_dir, saved)
    run("mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(node.state_dir))
    try:
        shutil.copytree(saved, node.state_dir, dirs_exist_ok=True)
        node.start()
        yield
    finally:
        # What the small disk has is the state now.
        node.kill()
        shutil.rmtree(saved)
        shutil.copytree(node.state_dir, saved)
        run("umount", str(node.state_dir))
        for path in node.state_dir.glob("towpath.db*"):
            path.unlink()
        shutil.copytree(saved, node.state_dir, dirs_exist_ok=True)
        shutil.rmtree(saved)


def fill(node):
    path = node.state_dir / "ballast"
    with open(path, "wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    return path


def test_disk_full(node):
    """Changes are refused whole, traffic goes on; with room again everything goes."""
    with small_disk(node), tcp_open(node.web, node.db, FAMILY) as link:
        ballast = fill(node)
        before = node.status()
        done = None
        for number in range(200):  # what is allotted to the log already may take some
            done = node.apply(closed(f"p{number}"), check=False)
            if done.returncode:
                break
        assert done.returncode == 1 and "no space left" in done.stderr, done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
        assert f"p{number}" not in policies(node)
        with pytest.raises(RuntimeError, match="no space left"):
            node.add_pod("shop", "more", known=False)
        assert {link["ifname"] for link in node.netns.ip_json("link show")} == {
            "lo", "up0", node.web.port, node.db.port}  # fmt: skip
        assert node.status()["counts"]["endpoints"] == before["counts"]["endpoints"]
        assert not number or not link.alive(QUIET), "an applied policy is not in force"
        if number:
            ballast.unlink()
            node.delete(*(closed(f"p{n}") for n in range(number)))
        else:
            ballast.unlink()
        assert link.alive(2 * SOON)
        node.apply(closed())
        more = node.add_pod("shop", "more", known=False)
        assert udp_ask(more, node.outside, FAMILY)
        node.del_pod(more, known=False)
        node.restart()
        assert policies(node) == {"closed"}
        assert not tcp_works(node.web, node.db, FAMILY, seconds=QUIET)


def test_DEL_on_a_full_disk_ends_the_container_at_once(node):
    """The interface is gone, whatever is said; the record goes when there is room."""
    with small_disk(node):
        pod, port = node.add_pod("shop", "short"), None
        port = pod.port
        ballast = fill(node)
        for number in range(200):
            if node.apply(closed(f"p{number}"), check=False).returncode:
                break
        node.cni("DEL", pod)
        assert port not in {link["ifname"] for link in node.netns.ip_json("link show")}
        ballast.unlink()
        assert node.cni("DEL", pod).returncode == 0
        assert pod.container_id not in endpoints(node)
        del node.pods[("shop", "short")]
        pod.netns.delete()


def test_disk_full_at_start(node):
    node.apply(closed())
    with small_disk(node):
        node.kill()
        ballast = fill(node)
        node.log.write_text("")
        node.start(wait=False)
        # Reading needs no room; where it does, the refusal says so.
        assert wait_for(lambda: node.agent.poll() is not None or "ready" in node.tail(), 5 * SOON)
        if node.agent.poll() is not None:
            assert "no space left" in node.tail(1)
        assert not tcp_works(node.web, node.db, FAMILY, seconds=QUIET)
        ballast.unlink()
        if node.agent.poll() is not None:
            node.start()
        assert policies(node) == {"closed"}


def test_read_only_state(node):
    node.apply(closed())
    node.stop()
    run("mount", "--bind", str(node.state_dir), str(node.state_dir))
    try:
        run("mount", "-o", "remount,bind,ro", str(node.state_dir))
        refused(node, str(node.file), "read-only")
        assert not tcp_works(node.web, node.db, FAMILY, seconds=QUIET)
    finally:
        run("umount", str(node.state_dir))
    node.start()
    assert policies(node) == {"closed"}


def test_database_locked(node):
    """Somebody else has it open; and while the agent runs nobody else gets in."""
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        sqlite3.connect(node.file, timeout=0).execute("SELECT * FROM meta")
    node.stop()
    other = sqlite3.connect(node.file, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    refused(node, str(node.file), "used by another process")
    other.close()
    node.start()
    assert len(endpoints(node)) == 2


@pytest.mark.parametrize("how", ("stopped", "killed"))
def test_truncated_at_every_kind_of_place(node, how):
    """A start is refused, or it has all of the state: never part of it. And traffic goes on
    under the policies there were."""
    node.apply(closed(), *(policy_object("other", f"p{n}", ingress=[]) for n in range(60)))
    want = policies(node)
    if how == "stopped":
        node.stop()
    else:
        node.kill()
    saved = {p.name: p.read_bytes() for p in node.state_dir.iterdir() if p.is_file()}
    size = len(saved["towpath.db"])
    refusals = 0
    for cut in sorted({0, 1, 16, 99, 100, 512, 4095, 4096, 4097, 8192, size // 2, size - 4096,
                       size - 1}):  # fmt: skip
        for path in node.state_dir.glob("towpath.db*"):
            path.unlink()
        for name, data in saved.items():
            (node.state_dir / name).write_bytes(data[:cut] if name == "towpath.db" else data)
        node.log.write_text("")
        node.start(wait=False)
        assert wait_for(lambda: node.agent.poll() is not None or "ready" in node.tail(), 10 * SOON)
        if node.agent.poll() is None:
            assert policies(node) == want and len(endpoints(node)) == 2, f"cut at {cut}"
            node.kill()
        else:
            assert node.agent.returncode == 1
            assert len(node.log.read_text().strip().splitlines()) == 1, node.tail()
            assert str(node.state_dir) in node.tail(1)
            refusals += 1
    assert refusals or how == "killed"
    assert tcp_works(node.web, node, FAMILY) and not tcp_works(node.web, node.db, FAMILY, seconds=QUIET)
    for path in node.state_dir.glob("towpath.db*"):
        path.unlink()
    for name, data in saved.items():
        (node.state_dir / name).write_bytes(data)
    node.start()
    assert policies(node) == want


def test_garbage_and_newer_versions(node):
    node.stop()
    good = node.file.read_bytes()
    for data, part in ((os.urandom(20000), "damaged"), (b"hello\n" * 1000, "damaged"),
                       (good[:4096] + os.urandom(len(good) - 4096), "damaged")):  # fmt: skip
        node.file.write_bytes(data)
        refused(node, str(node.file), part)
    node.file.write_bytes(good)
    with contextlib.closing(sqlite3.connect(node.file)) as db, db:
        db.execute("UPDATE meta SET value = 99 WHERE key = 'schema'")
    refused(node, str(node.file), "newer towpathd (schema 99")
    node.file.write_bytes(good)
    node.start()
    assert len(endpoints(node)) == 2


@pytest.mark.parametrize("left", ("nothing", "an empty file"))
def test_lost_while_the_agent_was_dead(node, left):
    """Containers run, and the database knows none: a start would cut them off and forget their
    policies, so it is refused, until a backup is there or somebody uninstalls."""
    node.apply(closed())
    node.stop()
    saved = node.file.read_bytes()
    for path in node.state_dir.glob("towpath.db*"):
        path.unlink()
    if left != "nothing":
        node.file.write_bytes(b"")
    for _ in range(2):
        refused(node, str(node.state_dir), "2 endpoints", "backup", "uninstall")
    assert udp_ask(node.web, node.outside, FAMILY)
    assert not tcp_works(node.web, node.db, FAMILY, seconds=QUIET)
    for path in node.state_dir.glob("towpath.db*"):
        path.unlink()
    node.file.write_bytes(saved)
    node.start()
    assert policies(node) == {"closed"} and len(endpoints(node)) == 2


def test_lost_and_begun_anew(node):
    node.stop()
    node.file.unlink()
    refused(node, "uninstall")
    done = subprocess.run(
        node.netns.argv(*node.argv("--uninstall")), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    node.start()
    assert endpoints(node) == set()
    for pod in node.pods.values():
        pod.netns.delete()
    node.pods.clear()


def test_deleted_while_running(node):
    """The open file is whole: a copy of it takes its place within a second or with the next
    change, whichever is first."""
    for step in range(3):
        for path in node.state_dir.glob("towpath.db*"):
            path.unlink()
        if step == 1:
            assert wait_for(node.file.exists, 3 * SOON)
        node.apply(closed(f"p{step}"))
        node.restart()
        assert policies(node) == {f"p{n}" for n in range(step + 1)}
        assert len(endpoints(node)) == 2
    assert not tcp_works(node.web, node.db, FAMILY, seconds=QUIET)


def test_folder_deleted_while_running(node):
    shutil.rmtree(node.state_dir)
    done = node.apply(closed(), check=False)
    assert done.returncode == 1 and str(node.file) in done.stderr
    assert policies(node) == set()
    node.state_dir.mkdir()
    node.apply(closed())
    node.restart()
    assert policies(node) == {"closed"} and len(endpoints(node)) == 2


def test_replaced_while_running(node):
    """Changes are refused: they would go to a file that nobody will read."""
    node.stop()
    saved = node.file.read_bytes()
    node.start()
    node.apply(closed("kept"))
    node.file.unlink()
    node.file.write_bytes(saved)
    done = node.apply(closed("late"), check=False)
    assert done.returncode == 1 and "replaced" in done.stderr and "restart" in done.stderr
    assert policies(node) == {"kept"}
    node.file.unlink()  # as the sentence offers
    node.apply(closed("late"))
    node.restart()
    assert policies(node) == {"kept", "late"}


def test_write_ahead_log_lost(node):
    """Killed, and the log gone: the state is whole, of an earlier moment."""
    node.stop()  # all of it is in the file
    node.start()
    node.apply(closed())
    node.kill()
    (node.state_dir / "towpath.db-wal").unlink()
    node.start()
    assert policies(node) in (set(), {"closed"})
    assert len(endpoints(node)) == 2
    assert udp_ask(node.web, node.outside, FAMILY)


def test_restored_from_an_old_copy(node):
    """What the copy says is in force. A container that it does not know loses its network, one
    that has ended since is dropped, and nobody shares an address."""
    node.apply(closed())
    node.stop()
    copy = node.file.read_bytes()
    node.start()
    node.delete(closed())
    late = node.add_pod("shop", "late", known=False)
    node.del_pod(node.web)
    assert tcp_works(late, node.db, FAMILY)
    node.stop()
    node.file.write_bytes(copy)
    node.start()
    assert policies(node) == {"closed"}
    assert endpoints(node) == {node.db.container_id}
    assert "belongs to no endpoint" in node.tail(40)
    fresh = node.add_pod("shop", "fresh", known=False)
    assert fresh.ip(FAMILY) != node.db.ip(FAMILY)
    assert not tcp_works(fresh, node.db, FAMILY, seconds=QUIET)
    assert udp_ask(fresh, node.outside, FAMILY)
