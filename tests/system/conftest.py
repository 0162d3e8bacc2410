# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
import contextlib
import os
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))

from cni import Attachment, container  # noqa: E402
from netns import cleanup_on_signals  # noqa: E402
from node import FAMILIES, Node  # noqa: E402
from podman import FLAVOURS, podman_make  # noqa: E402

cleanup_on_signals()


def pytest_configure(config):
    config.addinivalue_line("markers", "alone: no other file of tests runs beside this one")


def pytest_collection_modifyitems(items):
    if os.geteuid() != 0:
        for item in items:
            item.add_marker(pytest.mark.skip(reason="needs root: network namespaces and bpf"))


@pytest.fixture(params=FAMILIES, ids=("ipv4", "ipv6"))
def family(request):
    """Every test that has traffic runs for both."""
    return request.param


@pytest.fixture(scope="module")
def node():
    """A running node with one uplink, for the tests of one file."""
    with Node() as made:
        yield made


@pytest.fixture(scope="module")
def outside(node):
    return node.outside


@pytest.fixture
def clean(node):
    """The node without policies and pods of an earlier test, and none left behind."""
    yield node
    for item in node.api("GET", "/v1/objects/NetworkPolicy")["items"]:
        node.delete(item)
    for pod in list(node.pods.values()):
        node.del_pod(pod)


@pytest.fixture
def netns():
    """A container's namespace, not attached to anything yet."""
    with container() as made:
        yield made


@pytest.fixture
def attachment(node, netns):
    """What the CNI plugin is called with for it; deleted at the end."""
    made = Attachment(node, netns)
    yield made
    made.delete()


@pytest.fixture(scope="module", params=FLAVOURS)
def podman(request):
    """podman on a running node, with the network `towpath` of the guide."""
    with Node() as made, contextlib.closing(podman_make(request.param, made)) as podman:
        yield podman
