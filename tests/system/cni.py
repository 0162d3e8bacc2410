# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""The CNI plugin as a runtime calls it: environment and stdin in, exit status and JSON out."""

import contextlib
import itertools
import json
import os
import subprocess

from netns import Netns
from node import Place, binary

REFERENCE = "/usr/lib/cni"  # package containernetworking-plugins
VERSIONS = ("0.3.1", "0.4.0", "1.0.0", "1.1.0")
_serial = itertools.count()


class Answer:
    """One run. `json` is what stdout holds (None: nothing)."""

    def __init__(self, done):
        self.status, self.stdout, self.stderr = done.returncode, done.stdout, done.stderr
        self.json = json.loads(done.stdout) if done.stdout.strip() else None

    @property
    def code(self):
        """The error code; 0 after success. A failure without error object is no answer."""
        if self.status == 0:
            assert self.json is None or "code" not in self.json, self.stdout
            return 0
        assert self.json is not None, f"no error object on stdout; stderr: {self.stderr}"
        assert set(self.json) <= {"cniVersion", "code", "msg", "details"}, self.stdout
        assert isinstance(self.json["code"], int) and self.json["msg"], self.stdout
        return self.json["code"]

    @property
    def msg(self):
        return self.json["msg"]

    def __repr__(self):
        return f"<exit {self.status}, stdout {self.stdout!r}, stderr {self.stderr!r}>"


def run_raw(command, stdin, env=None, netns=None, **kw):
    """stdin as text (None: closed); env: CNI variables beside CNI_COMMAND."""
    words = {"PATH": os.environ["PATH"], **(env or {})}
    if command is not None:
        words["CNI_COMMAND"] = command
    argv = [binary("towpath-cni")]
    if netns is not None:
        argv = netns.argv(*argv)
    if stdin is None:
        argv = ["sh", "-c", '"$@" <&-', "sh", *argv]
    return Answer(
        subprocess.run(
            argv, input=stdin, env=words, capture_output=True, text=True,
            timeout=60, check=False, **kw,
        )  # fmt: skip
    )


class Attachment:
    """One (container id, interface name) on a node, with what is needed to call for it."""

    def __init__(self, node, netns, container_id=None, ifname="eth0", **config):
        self.node, self.netns = node, netns
        self.container_id = container_id or f"c{os.getpid()}-{next(_serial)}"
        self.ifname = ifname
        self.config = node.cni_config(**config)
        self.result = None
        self.cni_path = "/nonexistent"

    def env(self, **more):
        words = {
            "CNI_CONTAINERID": self.container_id,
            "CNI_NETNS": self.netns.path,
            "CNI_IFNAME": self.ifname,
            "CNI_PATH": self.cni_path,
            "CNI_ARGS": "IgnoreUnknown=1;K8S_POD_NAMESPACE=cni;"
            f"K8S_POD_NAME={self.container_id.lower()}",
        }
        words.update(more)
        return {key: value for key, value in words.items() if value is not None}

    def call(self, command, config=None, env=None):
        config = self.config if config is None else config
        answer = run_raw(
            command, json.dumps(config), self.env(**(env or {})), netns=self.node.netns
        )
        return answer

    def add(self, **env):
        answer = self.call("ADD", env=env)
        if answer.status == 0:
            self.result = answer.json
        return answer

    def add_ok(self, **env):
        answer = self.add(**env)
        assert answer.code == 0, answer
        return answer.json

    def delete(self, **env):
        return self.call("DEL", env=env)

    def check(self, result=None):
        prev = self.result if result is None else result
        return self.call("CHECK", config={**self.config, "prevResult": prev})

    # ---- what the kernel has ----------------------------------------------------------------

    def link(self):
        """The container's interface as `ip -j` shows it, or None."""
        rows = [r for r in self.netns.ip_json("-d addr") if r.get("ifname") == self.ifname]
        return rows[0] if rows else None

    def port(self):
        return self.result["interfaces"][0]["name"]

    def address(self, family):
        for ip in self.result["ips"]:
            if (":" in ip["address"]) == (family == 6):
                return ip["address"].split("/")[0]
        return None


def ports(node):
    """Names of the node's ports."""
    names = [row["ifname"] for row in node.netns.ip_json("link")]
    return {name for name in names if name.startswith("tw") and len(name) == 12}


def endpoints(node):
    """(container id, ifname) of the agent's records."""
    items = node.api("GET", "/v1/endpoints")["items"]
    return {(item["container_id"], item["ifname"]) for item in items}


def pings(netns, address):
    argv = ("ping", "-n", "-c", "1", "-W", "1", address)
    return netns.run(*argv, check=False).returncode == 0


def left(node):
    """What an attachment may leave behind on a node."""
    routes = [r["dst"] for r in node.netns.ip_json("route") if r["dev"].startswith("tw")]
    routes += [r["dst"] for r in node.netns.ip_json("-6 route") if r["dev"].startswith("tw")]
    used = {p["subnet"]: p["used"] for p in node.status()["pools"]}
    return ports(node), endpoints(node), sorted(routes), used


@contextlib.contextmanager
def container():
    """A network namespace as a runtime makes it for a container."""
    netns = Netns("twc")
    netns.ip("link set lo down")
    try:
        yield netns
    finally:
        netns.delete()


class ChainError(Exception):
    """A plugin of the chain refused; `answer` is what it said."""

    def __init__(self, plugin, command, answer):
        super().__init__(f"{plugin} {command}: {answer}")
        self.answer = answer


class Chain:
    """Our plugin and reference plugins after it, run as a runtime runs a .conflist: capability
    arguments to those that declare them, ADD in order, CHECK in order and DEL in reverse with
    the final result."""

    def __init__(self, node, netns, *plugins, version="1.0.0", ours=None, **capabilities):
        self.node, self.capabilities = node, capabilities
        self.attachment = Attachment(node, netns, cniVersion=version, **(ours or {}))
        self.attachment.cni_path = REFERENCE
        self.netns, self.version = netns, version
        self.plugins = [None, *plugins]  # None: ours
        self.result = None

    def _config(self, plugin, prev):
        if plugin is None:
            conf = dict(self.attachment.config)
        else:
            conf = {"cniVersion": self.version, "name": self.attachment.config["name"], **plugin}
        declared = conf.pop("capabilities", {})
        given = {k: v for k, v in self.capabilities.items() if declared.get(k) and v is not None}
        if given:
            conf["runtimeConfig"] = given
        if prev is not None:
            conf["prevResult"] = prev
        return conf

    def _run(self, plugin, command, prev):
        conf = self._config(plugin, prev)
        if plugin is None:
            answer = self.attachment.call(command, config=conf)
        else:
            env = {"PATH": os.environ["PATH"], **self.attachment.env(), "CNI_COMMAND": command}
            argv = self.node.netns.argv(f"{REFERENCE}/{plugin['type']}")
            answer = Answer(
                subprocess.run(
                    argv, input=json.dumps(conf), env=env, capture_output=True, text=True,
                    timeout=60, check=False,
                )
            )  # fmt: skip
        if answer.status != 0:
            raise ChainError(plugin["type"] if plugin else "towpath-cni", command, answer)
        return answer.json

    def add(self):
        """The final result. What was added by plugins before one that fails is deleted."""
        prev = None
        try:
            for plugin in self.plugins:
                prev = self._run(plugin, "ADD", prev)
                if plugin is None:
                    self.attachment.result = prev
        except ChainError:
            with contextlib.suppress(ChainError):
                self.delete(prev)
            raise
        self.result = prev
        return prev

    def check(self, without=()):
        for plugin in self.plugins:
            if plugin is None or plugin["type"] not in without:
                self._run(plugin, "CHECK", self.result)

    def delete(self, result=None):
        """All of them, also when one refuses; then its error."""
        error = None
        for plugin in reversed(self.plugins):
            try:
                self._run(plugin, "DEL", result or self.result)
            except ChainError as err:
                error = error or err
        self.result = None
        if error:
            raise error

    def address(self, family):
        return self.attachment.address(family)

    def place(self):
        """The container for traffic.py."""
        return Place(self.netns, self.address(4), self.address(6), interface="eth0")
