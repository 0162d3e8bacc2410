# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""Truth tables as read from files: matrices, single flows, recipes; and their IPv6 form."""

import copy
import ipaddress
import itertools
import json
import pathlib


class Skip(Exception):
    """This cannot be run; the text says why."""


class Case:
    def __init__(self, ident, name, features):
        self.id, self.name, self.features = ident, name, features
        self.namespaces = {}  # name -> labels, before the first step
        self.pods = []  # as the file has them, before the first step
        self.steps = []
        self.skip = None


class Step:
    def __init__(self, actions=(), manifests=(), final=None):
        self.actions = list(actions)
        self.manifests = list(manifests)  # YAML texts to apply as they are
        self.final = final  # (namespaces, pods) that the file says hold now, or None
        self.probes = []  # (source, destination, protocol, port, expected)


class Outside(str):
    """The address of a host that is no pod."""


def file_read(path, ipv6=False, feature=None):
    """The cases of one file. A recipes index is known by its key."""
    path = pathlib.Path(path)
    data = json.loads(path.read_text())
    if "recipes" in data:
        cases = [_recipe(r, path.parent) for r in data["recipes"]]
    else:
        cases = [_matrix(c, data["meta"]["topology"]) for c in data.get("cases", ())]
        cases += [_flow(c) for c in data.get("traffic_cases", ())]
    if feature:
        cases = [c for c in cases if feature in c.features]
    if ipv6:
        for case in cases:
            try:
                _case_v6(case)
            except Skip as why:
                case.skip = str(why)
    return cases


def pod_key(pod):
    return f"{pod['namespace']}/{pod['name']}"


def _matrix(entry, topology):
    case = Case(entry["id"], entry["name"], entry["features"])
    ports = topology["container_ports"]

    def ported(pods):
        return [{**pod, "ports": pod.get("ports", ports)} for pod in pods]

    case.namespaces, case.pods = topology["namespaces"], ported(topology["pods"])
    for number, raw in enumerate(entry["steps"]):
        actions = copy.deepcopy(raw["actions"])
        for action in actions:
            if action["op"] == "createPod":
                action.setdefault("ports", ports)
        final = None
        if "pods" in raw or "namespaces" in raw:
            final = (
                raw.get("namespaces", topology["namespaces"]),
                ported(raw.get("pods", topology["pods"])),
            )
            moved = any("Policy" not in action["op"] for action in actions)
            if number == 0 and not moved:
                # The case starts from another topology than the file's.
                case.namespaces, case.pods = final
        step = Step(actions, final=final)
        order = raw.get("matrix_order", topology["matrix_order"])
        for probe in raw["probes"]:
            for source, row in probe["matrix"].items():
                for destination, mark in zip(order, row, strict=True):
                    if mark not in "AD-":
                        case.skip = f"a matrix has the mark {mark!r}, which has no meaning here"
                    if mark != "-":
                        step.probes.append(
                            (source, destination, probe["protocol"], probe["port"], mark == "A")
                        )
        case.steps.append(step)
    return case


def _flow(entry):
    case = Case(entry["id"], entry["name"], entry.get("features", ["single-flow"]))
    case.namespaces = entry["namespaces"]
    ends = []
    for end in (entry["src"], entry["dst"]):
        if "name" in end:
            case.pods.append(end)
            ends.append(pod_key(end))
        else:
            ends.append(Outside(end["ip"]))
    step = Step([{"op": "createPolicy", "policy": p} for p in entry["policies"]])
    step.probes.append((*ends, entry["protocol"], entry["port"], entry["expected"] == "allow"))
    case.steps.append(step)
    return case


def _recipe(entry, folder):
    case = Case(entry["file"], entry["title"], ["recipe"])
    case.namespaces = {n["name"]: n["labels"] for n in entry["namespaces"]}
    case.pods = entry["pods"]
    if entry["default_namespace"] == "default":
        names = [*entry["apply_with"], entry["file"]]
        step = Step(manifests=[(folder / name).read_text() for name in names])
    else:
        step = Step([{"op": "createPolicy", "policy": entry["policy"]}])
    for check in entry["checks"]:
        ends = [
            end if isinstance(end, str) else Outside(end["ip"])
            for end in (check["from"], check["to"])
        ]
        step.probes.append(
            (*ends, check["protocol"], check["port"], check["expected"] == "allow")
        )
    case.steps.append(step)
    return case


# ---- IPv6 ---------------------------------------------------------------------------------


def address_v6(text):
    """10.244.S.H -> fd00:10:244:S::H; every other IPv4 address in the same way."""
    address = ipaddress.ip_address(text)
    if address.version == 6:
        return text
    a, b, c, d = address.packed
    return str(ipaddress.ip_address(f"fd00:{a}:{b}:{c:x}::{d:x}"))


def _prefix_candidates(network):
    """Prefixes that may hold the same addresses once they are rewritten; likeliest first."""
    length = network.prefixlen
    base = address_v6(str(network.network_address))
    if length >= 24:
        yield f"{base}/{length + 96}"
    elif length >= 16:
        yield f"{base}/{length + 32 if length == 16 else length + 40}"
    elif length >= 8:
        yield f"{base}/{length + 24}"
    elif length == 0:
        yield "::/0"
    yield "fd00::/16"
    yield f"::/{length + 96}"


def prefix_v6(text, addresses):
    """The IPv6 form of a CIDR: one that holds exactly the rewritten forms of those of the
    addresses that it holds. Skip when none does."""
    given = ipaddress.ip_network(text, strict=False)
    if given.version == 6:
        return text
    wanted = [ipaddress.ip_address(a) in given for a in addresses]
    rewritten = [ipaddress.ip_address(address_v6(a)) for a in addresses]
    for candidate in _prefix_candidates(given):
        network = ipaddress.ip_network(candidate, strict=False)
        if [a in network for a in rewritten] == wanted:
            # Host bits in the file stay host bits: that they are masked is part of the case.
            if str(given.network_address) != text.partition("/")[0] and given.prefixlen >= 24:
                return f"{address_v6(text.partition('/')[0])}/{network.prefixlen}"
            return str(network)
    raise Skip(f"no IPv6 prefix means what {text} means among the addresses of this case")


def _case_v6(case):
    pods = list(itertools.chain(case.pods, *(s.final[1] for s in case.steps if s.final)))
    created = [a for s in case.steps for a in s.actions if a["op"] == "createPod"]
    outside = [end for s in case.steps for p in s.probes for end in p[:2]]
    addresses = {p["ip"] for p in [*pods, *created]}
    addresses |= {str(end) for end in outside if isinstance(end, Outside)}
    if any(step.manifests for step in case.steps):
        _manifests_v6(case, addresses)
    case.pods = [_pod_v6(p) for p in case.pods]
    for step in case.steps:
        for action in step.actions:
            if action["op"] == "createPod":
                action["ip"] = address_v6(action["ip"])
            if "policy" in action:
                action["policy"] = _blocks_v6(action["policy"], addresses)
        if step.final:
            step.final = (step.final[0], [_pod_v6(p) for p in step.final[1]])
        step.probes = [
            tuple(Outside(address_v6(x)) if isinstance(x, Outside) else x for x in p)
            for p in step.probes
        ]


def _manifests_v6(case, addresses):
    """A manifest is text; its addresses are found as words and rewritten in place."""
    for step in case.steps:
        for number, text in enumerate(step.manifests):
            for word in set(text.replace('"', " ").replace("'", " ").split()):
                try:
                    ipaddress.IPv4Network(word, strict=False)
                except ValueError:
                    continue
                if "/" in word:
                    text = text.replace(word, prefix_v6(word, addresses))
            step.manifests[number] = text


def _pod_v6(pod):
    return {**pod, "ip": address_v6(pod["ip"])}


def _blocks_v6(node, addresses):
    if isinstance(node, list):
        return [_blocks_v6(item, addresses) for item in node]
    if not isinstance(node, dict):
        return node
    done = {key: _blocks_v6(value, addresses) for key, value in node.items()}
    if "ipBlock" in node:
        block = node["ipBlock"]
        done["ipBlock"] = {**block, "cidr": prefix_v6(block["cidr"], addresses)}
        if block.get("except"):
            done["ipBlock"]["except"] = [prefix_v6(e, addresses) for e in block["except"]]
    return done
