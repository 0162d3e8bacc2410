# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""Many runs of the plugin at once, and runs that are killed in the middle.

The names carry the numbers of the checklist in docs/design/cni.md.
"""

import concurrent.futures
import contextlib
import json
import os
import random
import signal
import subprocess
import time

from cni import Attachment, container, left, pings
from node import Node, binary
from traffic import wait_for


def test_A22_two_hundred_adds(node):
    """200 at once, as many as a shower of containers brings: all distinct, all of them work."""
    with contextlib.ExitStack() as stack, concurrent.futures.ThreadPoolExecutor(200) as pool:
        places = [stack.enter_context(container()) for _ in range(200)]
        all_of_them = [Attachment(node, netns) for netns in places]
        answers = list(pool.map(Attachment.add, all_of_them))
        assert [a.code for a in answers] == [0] * 200
        for family in (4, 6):
            assert len({a.address(family) for a in all_of_them}) == 200
            argv = ["ping", "-n", "-c", "1", "-W", "5"]
            asked = [node.netns.popen(*argv, a.address(family), stdout=subprocess.DEVNULL)
                     for a in all_of_them]  # fmt: skip
            assert [one.wait() for one in asked] == [0] * 200
        assert len({a.port() for a in all_of_them}) == 200
        gone = list(pool.map(Attachment.delete, all_of_them))
        assert [a.code for a in gone] == [0] * 200
        assert wait_for(lambda: left(node)[:3] == (set(), set(), []))


def test_A22_addresses_rest_a_minute(node):
    """Released ones are not given again while others are free, in whatever number."""
    with container() as netns:
        one, seen = Attachment(node, netns), set()
        for _ in range(40):
            one.add_ok()
            assert one.address(4) not in seen
            seen.add(one.address(4))
            assert one.delete().code == 0


def test_A23_C7_plugin_killed_in_the_middle(node, attachment, netns):
    rng = random.Random(23)
    words = {**attachment.env(), "CNI_COMMAND": "ADD", "PATH": os.environ["PATH"]}
    for _ in range(20):
        with subprocess.Popen(
            node.netns.argv(binary("towpath-cni")), env=words, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        ) as plugin:  # fmt: skip
            plugin.stdin.write(json.dumps(attachment.config))
            plugin.stdin.close()
            time.sleep(rng.uniform(0, 0.02))
            plugin.kill()
        assert attachment.delete().code == 0
        # The agent may have been at work on the ADD when DEL came: it does one at a time.
        assert attachment.link() is None
        attachment.add_ok()
        assert pings(node.netns, attachment.address(4))
        assert attachment.delete().code == 0
    assert left(node)[:3] == (set(), set(), [])


def test_A23_agent_killed_in_the_middle():
    rng = random.Random(24)
    with Node() as node, container() as netns:
        one = Attachment(node, netns)
        for _ in range(8):
            with concurrent.futures.ThreadPoolExecutor(1) as pool:
                running = pool.submit(one.add)
                time.sleep(rng.uniform(0.003, 0.03))
                node.kill()
                answer = running.result()
            assert answer.code in (0, 11)
            node.start()
            assert one.delete().code == 0
            assert one.link() is None
            assert left(node)[:3] == (set(), set(), [])
            one.add_ok()
            assert pings(node.netns, one.address(6))
            assert one.delete().code == 0


def test_released_address_rests(node, netns):
    one = Attachment(node, netns)
    one.add_ok()
    first = one.address(4)
    one.delete()
    one.add_ok()
    assert one.address(4) != first
    one.delete()


def test_signal_during_add_is_no_half_answer(node, attachment):
    """SIGTERM ends the plugin; what it printed so far is nothing or all."""
    words = {**attachment.env(), "CNI_COMMAND": "ADD", "PATH": os.environ["PATH"]}
    with subprocess.Popen(
        node.netns.argv(binary("towpath-cni")), env=words, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as plugin:  # fmt: skip
        plugin.send_signal(signal.SIGTERM)
        out, _ = plugin.communicate(json.dumps(attachment.config))
    if out:
        json.loads(out)
    assert attachment.delete().code == 0
