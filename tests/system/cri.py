# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""What a kubelet asks of containerd: calls of the Kubernetes CRI, `runtime.v1`, by curl.

gRPC is HTTP/2 with a length before each message. The few messages that are used are given as
tables of field numbers (k8s.io/cri-api, runtime/v1/api.proto), so nothing is generated.
"""

import struct
import subprocess

# Name of a field -> (number, kind): "s" string, "i" integer, "b" bytes, "m" map of strings, or the
# fields of the message that it is; a list: repeated.
METADATA = {"name": (1, "s"), "uid": (2, "s"), "namespace": (3, "s"), "attempt": (4, "i")}
SANDBOX = {
    "metadata": (1, METADATA),
    "hostname": (2, "s"),
    "log_directory": (3, "s"),
    "dns_config": (4, {"servers": (1, ["s"]), "searches": (2, ["s"]), "options": (3, ["s"])}),
    "port_mappings": (5, [{"protocol": (1, "i"), "container_port": (2, "i"), "host_port": (3, "i"),
                           "host_ip": (4, "s")}]),
    "labels": (6, "m"),
    "annotations": (7, "m"),
    "linux": (8, {"cgroup_parent": (1, "s")}),
}  # fmt: skip
CONTAINER = {
    "metadata": (1, {"name": (1, "s"), "attempt": (2, "i")}),
    "image": (2, {"image": (1, "s")}),
    "command": (3, ["s"]),
    "log_path": (11, "s"),
}
BY_ID = {"pod_sandbox_id": (1, "s")}
CALLS = {
    "Version": ({"version": (1, "s")}, {"runtime_name": (2, "s"), "runtime_version": (3, "s")}),
    "Status": ({}, {"status": (1, {"conditions": (1, [
        {"type": (1, "s"), "status": (2, "i"), "reason": (3, "s"), "message": (4, "s")}])})}),
    "RunPodSandbox": ({"config": (1, SANDBOX)}, BY_ID),
    "StopPodSandbox": (BY_ID, {}),
    "RemovePodSandbox": (BY_ID, {}),
    "PodSandboxStatus": (BY_ID, {"status": (1, {
        "id": (1, "s"), "state": (3, "i"),
        "network": (5, {"ip": (1, "s"), "additional_ips": (2, [{"ip": (1, "s")}])})})}),
    "CreateContainer": ({"pod_sandbox_id": (1, "s"), "config": (2, CONTAINER),
                         "sandbox_config": (3, SANDBOX)}, {"container_id": (1, "s")}),
    "StartContainer": ({"container_id": (1, "s")}, {}),
    "ExecSync": ({"container_id": (1, "s"), "cmd": (2, ["s"]), "timeout": (3, "i")},
                 {"stdout": (1, "b"), "stderr": (2, "b"), "exit_code": (3, "i")}),
}  # fmt: skip
WIRE_NUMBER, WIRE_BYTES = 0, 2


class CriError(Exception):
    """The call was refused; the text is what the kubelet would show as the event of the pod."""


def _number(value):
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _field(number, kind, value):
    if isinstance(kind, list):
        return b"".join(_field(number, kind[0], item) for item in value)
    if kind == "m":
        pair = {"key": (1, "s"), "value": (2, "s")}
        items = [{"key": key, "value": text} for key, text in value.items()]
        return _field(number, [pair], items)
    if kind == "i":
        return _number(number << 3 | WIRE_NUMBER) + _number(value)
    data = encode(kind, value) if isinstance(kind, dict) else value.encode()
    return _number(number << 3 | WIRE_BYTES) + _number(len(data)) + data


def encode(fields, message):
    return b"".join(_field(*fields[name], value) for name, value in message.items())


def _number_read(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def decode(fields, data):
    """Fields that are not in the table are skipped; absent ones are as the protocol says."""
    names = {number: (name, kind) for name, (number, kind) in fields.items()}
    empty = {"s": "", "i": 0, "b": b""}
    out = {name: [] if isinstance(kind, list) else {} if isinstance(kind, dict) else empty[kind]
           for name, (_, kind) in fields.items()}  # fmt: skip
    at = 0
    while at < len(data):
        key, at = _number_read(data, at)
        value, at = _number_read(data, at)
        if key & 7 == WIRE_BYTES:
            value, at = data[at : at + value], at + value
        name, kind = names.get(key >> 3, (None, None))
        if name is None:
            continue
        many = isinstance(kind, list)
        inner = kind[0] if many else kind
        if isinstance(inner, dict):
            value = decode(inner, value)
        elif inner == "s":
            value = value.decode()
        if many:
            out[name].append(value)
        else:
            out[name] = value
    return out


class Cri:
    """Calls to one containerd. Each is a method: cri("RunPodSandbox", config=...)."""

    def __init__(self, host, directory):
        self.host, self.trailers = host, directory / "cri-trailers"

    def __call__(self, name, **message):
        request, reply = CALLS[name]
        body = encode(request, message)
        done = subprocess.run(
            self.host.argv(
                "curl", "-sS", "--http2-prior-knowledge", "-m", "60", "-D", self.trailers,
                "--unix-socket", "/run/containerd/containerd.sock", "-H", "te: trailers",
                "-H", "content-type: application/grpc", "--data-binary", "@-",
                f"http://localhost/runtime.v1.RuntimeService/{name}",
            ),
            input=struct.pack(">BI", 0, len(body)) + body, capture_output=True, timeout=90,
            check=False,
        )  # fmt: skip
        words = dict(line.split(": ", 1) for line in self.trailers.read_text().splitlines()
                     if ": " in line)  # fmt: skip
        if done.returncode != 0 or words.get("grpc-status") != "0":
            raise CriError(words.get("grpc-message") or done.stderr.decode())
        return decode(reply, done.stdout[5:])

    def ready(self):
        """What the node's condition Ready follows: (NetworkReady, why not)."""
        for condition in self("Status")["status"]["conditions"]:
            if condition["type"] == "NetworkReady":
                return bool(condition["status"]), condition["message"]
        raise CriError("no condition NetworkReady")


class CriPod:
    """A pod as a kubelet makes it: sandbox, then one container in it."""

    def __init__(self, cri, namespace, name, image, *command, **more):
        self.cri = cri
        self.config = {
            "metadata": {"name": name, "uid": f"uid-{namespace}-{name}", "namespace": namespace,
                         "attempt": 0},
            "hostname": name, "log_directory": str(cri.trailers.parent), **more,
        }  # fmt: skip
        self.id = cri("RunPodSandbox", config=self.config)["pod_sandbox_id"]
        self.attempts = 0
        self.container = self.restart(image, *command)

    def restart(self, image, *command):
        """Another container in the sandbox; its id."""
        config = {"metadata": {"name": "main", "attempt": self.attempts},
                  "image": {"image": image}, "command": command,
                  "log_path": f"{self.config['metadata']['name']}.log"}  # fmt: skip
        made = self.cri("CreateContainer", pod_sandbox_id=self.id, config=config,
                        sandbox_config=self.config)  # fmt: skip
        self.cri("StartContainer", container_id=made["container_id"])
        self.attempts += 1
        return made["container_id"]

    def ips(self):
        network = self.cri("PodSandboxStatus", pod_sandbox_id=self.id)["status"]["network"]
        return [network["ip"], *(more["ip"] for more in network["additional_ips"])]

    def sh(self, text):
        """(exit status, output)"""
        done = self.cri("ExecSync", container_id=self.container, cmd=["sh", "-c", text], timeout=20)
        return done["exit_code"], done["stdout"].decode()

    def stop(self):
        self.cri("StopPodSandbox", pod_sandbox_id=self.id)

    def remove(self):
        self.stop()
        self.cri("RemovePodSandbox", pod_sandbox_id=self.id)
