# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""Many runs of the plugin at once, and runs that are killed in the middle.

The names carry the numbers of the checklist in docs/design/cni.md.
"""

import concurrent.futures
import json
import os
import random
import signal
import subprocess
import time

from cni import Attachment, container, left, pings
from node import Node, binary


def test_A22_fifty_at_once(node):
    with concurrent.futures.ThreadPoolExecutor(50) as pool:
        contexts = [container() for _ in range(50)]
        places = [context.__enter__() for context in contexts]
        all_of_them = [Attachment(node, netns) for netns in places]
        try:
            answers = list(pool.map(Attachment.add, all_of_them))
            assert [a.code for a in answers] == [0] * 50
            for family in (4, 6):
                assert len({a.address(family) for a in all_of_them}) == 50
            assert pings(places[0], all_of_them[49].address(4))
            assert pings(places[49], all_of_them[0].address(6))
            gone = list(pool.map(Attachment.delete, all_of_them))
            assert [a.code for a in gone] == [0] * 50
            assert left(node)[:3] == (set(), set(), [])
        finally:
            for context in contexts:
                context.__exit__(None, None, None)


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
