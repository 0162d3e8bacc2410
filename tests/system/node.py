# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""A whole Towpath node inside network namespaces of its own: agent, uplinks, pods.

    outside (a host and router) net0 <--veth--> up0 node (towpathd) tw... <--veth--> eth0 pod

Nothing of the machine's own network is touched. Several nodes live side by side. The
namespaces, mounts, processes and folders are removed however the test ends.
"""

import http.client
import ipaddress
import json
import os
import pathlib
import shutil
import socket
import subprocess
import tempfile
import time

from netns import Netns, cleanup_pop, cleanup_push, run

REPO = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("TOWPATH_BUILD", REPO / "build"))
FAMILIES = (4, 6)
# How many times as long as usual things may take: an emulated machine is slow.
PATIENCE = float(os.environ.get("TOWPATH_PATIENCE", "1"))
AF = {4: socket.AF_INET, 6: socket.AF_INET6}


def binary(name):
    """The built program of that name."""
    for path in (BUILD / name, *sorted(BUILD.glob(f"*/{name}"))):
        if path.is_file() and os.access(path, os.X_OK):
            return str(path)
    raise FileNotFoundError(f"{name} is not in {BUILD}: build first (scripts/build.sh)")


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout):
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class ApiError(Exception):
    def __init__(self, status, reply):
        super().__init__(f"{status}: {reply.get('error')}")
        self.status, self.reply = status, reply


class Place:
    """Somewhere traffic starts or ends: a namespace and its addresses."""

    def __init__(self, netns, ip4=None, ip6=None, interface=None):
        self.netns, self.interface = netns, interface
        self.address = {4: ip4, 6: ip6}

    def ip(self, family):
        if self.address[family] is None:
            raise LookupError(f"{self} has no IPv{family} address")
        return self.address[family]


class Pod(Place):
    """A container: its namespace, the CNI result and the Pod object's words."""

    def __init__(self, node, namespace, name, netns):
        super().__init__(netns, interface="eth0")
        self.node, self.namespace, self.name = node, namespace, name
        self.container_id = f"{netns.name}-{namespace}-{name}"
        self.config = self.result = None

    def __str__(self):
        return f"{self.namespace}/{self.name}"

    def endpoint(self):
        return self.node.api("GET", f"/v1/endpoints/{self.container_id}/eth0")

    @property
    def port(self):
        """The host's end of the veth pair."""
        return self.endpoint()["port"]


class Outside(Place):
    """The network beyond an uplink, as one host that also routes to the pods."""

    def __init__(self, netns, net, interface):
        super().__init__(
            netns, f"198.51.{net}.1", f"fd00:51:{net}::1", interface=interface
        )  # fmt: skip
        self.node_ip = {4: f"198.51.{net}.2", 6: f"fd00:51:{net}::2"}

    def add_address(self, address):
        """Have the outside answer for one more address, as a host further away would."""
        rest = "/128 dev lo nodad" if ":" in address else "/32 dev lo"
        self.netns.ip(f"addr replace {address}{rest}")


class Node(Place):
    """towpathd in a namespace of its own. Use as a context manager, or call close()."""

    def __init__(
        self, prefix="tw", uplinks=1, mtu=1500, options=(), subnets=(), start=True, uplink="up"
    ):
        self.processes = []
        self.guests = []  # what runs on the node and must be closed while it is there
        self.pods = {}
        self.options = list(options)
        self.subnets = list(subnets)
        self.agent = None
        self.towpathd = binary("towpathd")
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="towpath-test-"))
        self.state_dir, self.run_dir = self.dir / "state", self.dir / "run"
        self.objects_dir = self.dir / "objects"
        self.log = self.dir / "agent.log"
        self.objects_dir.mkdir()
        self.socket = str(self.run_dir / "towpath.sock")
        cleanup_push(self.close)
        super().__init__(self._netns(f"{prefix}n"), interface=f"{uplink}0")
        self.uplinks = [f"{uplink}{i}" for i in range(uplinks)]
        self.outsides = [self._outside_make(f"{prefix}o", i, mtu) for i in range(uplinks)]
        self.outside = self.outsides[0]
        self.address = dict(self.outside.node_ip)
        if start:
            self.start()

    def __enter__(self):
        return self

    def __exit__(self, *_exc):
        self.close()

    def __str__(self):
        return "node"

    def _netns(self, prefix):
        netns = Netns(prefix)
        # No second is spent on finding duplicates of addresses that this test alone uses.
        for where in ("all", "default"):
            netns.sysctl(f"ipv6/conf/{where}/accept_dad", 0)
        return netns

    def _outside_make(self, prefix, number, mtu):
        netns = self._netns(prefix)
        net = 100 + number
        here, there = self.uplinks[number], "net0"
        self.netns.ip(
            f"link add {here} mtu {mtu} type veth peer name {there} mtu {mtu} netns {netns.name}"
        )
        outside = Outside(netns, net, there)
        self.netns.ip(
            f"link set {here} up",
            f"addr add {outside.node_ip[4]}/24 dev {here}",
            f"addr add {outside.node_ip[6]}/64 dev {here} nodad",
        )
        netns.ip(
            f"link set {there} up",
            f"addr add {outside.ip(4)}/24 dev {there}",
            f"addr add {outside.ip(6)}/64 dev {there} nodad",
            f"route add default via {outside.node_ip[4]}",
            f"route add default via {outside.node_ip[6]}",
        )
        if number == 0:
            self.netns.ip(
                f"route add default via {outside.ip(4)}",
                f"route add default via {outside.ip(6)}",
            )
        return outside

    # ---- the agent ------------------------------------------------------------------------

    def argv(self, *more):
        """towpathd's command line."""
        uplinks = [word for name in self.uplinks for word in ("--uplink", name)]
        return [
            self.towpathd,
            *("--state-dir", str(self.state_dir), "--run-dir", str(self.run_dir)),
            *("--objects-dir", str(self.objects_dir)),
            *uplinks, *self.options, *more,
        ]  # fmt: skip

    def start(self, *more, wait=True):
        """Start the agent; returns once it answers."""
        with open(self.log, "ab") as log:
            self.agent = self.netns.popen(*self.argv(*more), stdout=log, stderr=log)
        if wait:
            self.wait_ready()
        return self.agent

    def wait_ready(self, seconds=10.0 * PATIENCE):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.agent.poll() is not None:
                raise RuntimeError(f"towpathd ended with {self.agent.returncode}: {self.tail()}")
            try:
                return self.api("GET", "/v1/status")
            except (OSError, http.client.HTTPException):
                time.sleep(0.005)
        raise RuntimeError(f"towpathd is not ready after {seconds} s: {self.tail()}")

    def tail(self, lines=20):
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def kill(self):
        """SIGKILL, as a crash would."""
        self.agent.kill()
        self.agent.wait()

    def stop(self):
        """SIGTERM, as a service manager would; the exit status."""
        self.agent.terminate()
        return self.agent.wait(20)

    def restart(self):
        self.kill()
        return self.start()

    def api(self, method, path, body=None, timeout=60):
        """One call over the agent's socket: the decoded reply, or ApiError."""
        link = _UnixConnection(self.socket, timeout)
        try:
            data = None if body is None else json.dumps(body)
            link.request(method, path, body=data)
            answer = link.getresponse()
            text = answer.read().decode()
        finally:
            link.close()
        reply = json.loads(text) if text else {}
        if answer.status >= 300:
            raise ApiError(answer.status, reply)
        return reply

    def status(self):
        return self.api("GET", "/v1/status")

    def drops(self, reason=None):
        """Dropped packets by reason, or of that one."""
        total = {}
        for row in self.status()["drops"]:
            total[row["reason"]] = total.get(row["reason"], 0) + row["packets"]
        return total if reason is None else total.get(reason, 0)

    def counter(self, name):
        return self.status()["counters"][name]

    def flows(self, last=200, **filters):
        query = "&".join(f"{k}={v}" for k, v in {"last": last, **filters}.items())
        link = _UnixConnection(self.socket, 10)
        try:
            link.request("GET", f"/v1/flows?{query}")
            text = link.getresponse().read().decode()
        finally:
            link.close()
        return [json.loads(line) for line in text.splitlines() if line.strip()]

    # ---- commands -------------------------------------------------------------------------

    def env(self, **more):
        return {**os.environ, "TOWPATH_SOCKET": self.socket, **more}

    def towpath(self, *argv, stdin=None, check=True, timeout=120):
        """The command line tool; the completed process."""
        done = subprocess.run(
            [binary("towpath"), *map(str, argv)], input=stdin, env=self.env(),
            capture_output=True, text=True, timeout=timeout, check=False,
        )  # fmt: skip
        if check and done.returncode != 0:
            raise RuntimeError(f"towpath {' '.join(map(str, argv))}: {done.stderr.strip()}")
        return done

    def apply(self, *objects, check=True):
        """Apply objects: dicts, or YAML text. Returns the completed `towpath apply`."""
        return self.towpath("apply", "-f", "-", stdin=_stream(objects), check=check)

    def delete(self, *objects, check=True):
        return self.towpath("delete", "-f", "-", stdin=_stream(objects), check=check)

    # ---- pods -----------------------------------------------------------------------------

    def add_namespace(self, name, labels=None):
        self.apply(namespace_object(name, labels or {}))

    def add_pod(
        self, namespace, name, labels=None, ips=(), ports=(), known=True, config=None
    ):
        """A container through the CNI plugin. known: apply the Pod object first. config:
        more keys of the network configuration."""
        if known:
            self.apply(pod_object(namespace, name, labels or {}, ports))
        pod = Pod(self, namespace, name, self._netns("twp"))
        pod.config = self.cni_config(ips, **(config or {}))
        try:
            pod.result = self.cni_result("ADD", pod)
        except Exception:
            pod.netns.delete()
            raise
        for entry in pod.result["ips"]:
            address = ipaddress.ip_interface(entry["address"])
            pod.address[address.version] = str(address.ip)
        self.pods[(namespace, name)] = pod
        return pod

    def del_pod(self, pod, known=True):
        self.cni_result("DEL", pod)
        del self.pods[(pod.namespace, pod.name)]
        pod.netns.delete()
        if known:
            self.delete(pod_object(pod.namespace, pod.name, {}, ()))

    def cni_config(self, ips=(), **more):
        config = {
            "cniVersion": "1.1.0",
            "name": "towpath",
            "type": "towpath-cni",
            "socket": self.socket,
            "stateDir": str(self.state_dir),
            **({"subnets": self.subnets} if self.subnets else {}),
            **more,
        }
        if ips:
            config["args"] = {"cni": {"ips": list(ips)}}
        return config

    def cni(self, command, pod=None, config=None, env=None):
        """The plugin as a runtime calls it; the completed process."""
        if config is None:
            config = pod.config if pod is not None and pod.config else self.cni_config()
        words = {"CNI_COMMAND": command, "CNI_PATH": str(pathlib.Path(binary("towpath-cni")).parent)}
        if pod is not None:
            words |= {
                "CNI_CONTAINERID": pod.container_id,
                "CNI_NETNS": pod.netns.path,
                "CNI_IFNAME": "eth0",
                "CNI_ARGS": f"IgnoreUnknown=1;K8S_POD_NAMESPACE={pod.namespace};"
                f"K8S_POD_NAME={pod.name}",
            }
        words |= env or {}
        return subprocess.run(
            self.netns.argv(binary("towpath-cni")),
            input=json.dumps(config),
            env={**os.environ, **words},
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    def cni_result(self, command, pod, **kw):
        done = self.cni(command, pod, **kw)
        if done.returncode != 0:
            raise RuntimeError(f"towpath-cni {command} {pod}: {done.stdout}{done.stderr}".strip())
        return json.loads(done.stdout) if done.stdout.strip() else {}

    # ---- the end --------------------------------------------------------------------------

    def close(self):
        """Remove everything. Safe at any moment and more than once."""
        cleanup_pop(self.close)
        while self.guests:
            self.guests[-1].close()
        if self.agent is not None and self.agent.poll() is None:
            self.agent.kill()
            self.agent.wait()
        for process in self.processes:
            if process.poll() is None:
                process.kill()
                process.wait()
        mount = str(self.run_dir / "bpf")
        while os.path.ismount(mount):
            if run("umount", mount, check=False).returncode != 0:
                break
        for pod in self.pods.values():
            pod.netns.delete()
        self.pods.clear()
        for outside in getattr(self, "outsides", []):
            outside.netns.delete()
        if getattr(self, "netns", None):
            self.netns.delete()
        if not os.path.ismount(mount):
            shutil.rmtree(self.dir, ignore_errors=True)

    def background(self, place, *argv, **kw):
        """A process that ends with the node at the latest."""
        process = place.netns.popen(*argv, **kw)
        self.processes.append(process)
        return process


def _stream(objects):
    return "\n---\n".join(o if isinstance(o, str) else json.dumps(o) for o in objects) + "\n"


def namespace_object(name, labels):
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def pod_object(namespace, name, labels, ports):
    """ports: container ports as Kubernetes writes them."""
    container = {"name": "main", "image": "none", "ports": list(ports)}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"namespace": namespace, "name": name, "labels": labels},
        "spec": {"containers": [container]},
    }


def policy_object(namespace, name, selector=None, ingress=None, egress=None, types=None):
    """A NetworkPolicy; the rule lists as the API writes them, None: the field is absent."""
    spec = {"podSelector": selector or {}}
    if ingress is not None:
        spec["ingress"] = ingress
    if egress is not None:
        spec["egress"] = egress
    if types is not None:
        spec["policyTypes"] = types
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"namespace": namespace, "name": name},
        "spec": spec,
    }
