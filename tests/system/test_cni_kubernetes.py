# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""Pods as a kubelet makes them: containerd's CRI service, set up as docs/guide/kubernetes.md says."""

import contextlib
import json
import re
import shlex

import pytest

from cni import Attachment, container, endpoints
from cri import Cri, CriError, CriPod
from node import Node, namespace_object, pod_object, policy_object
from page import Page, Shell
from runtime import IMAGE, Containerd, Host, needs, script
from traffic import wait_for

pytestmark = needs("containerd", "ctr", "crun", "curl", "iptables", "/usr/lib/cni/portmap")

PAGE = Page("docs/guide/kubernetes.md")
HTTPD = ("httpd", "-f", "-p", "8080", "-h", "/")
DNS = {"servers": ["10.96.0.10"], "searches": ["shop.svc.cluster.local"], "options": ["ndots:5"]}
RECORDER = """
in=$(cat)
printf '%s %s %s %s %s\\n%s\\n' "$CNI_COMMAND" "$CNI_CONTAINERID" "${{CNI_NETNS:--}}" "$CNI_IFNAME" \\
	"$CNI_ARGS" "$(printf %s "$in" | tr -d '\\n')" >>{log}
printf %s "$in" | {plugin}
"""


def agent_options():
    (words,) = re.findall(r'TOWPATHD_OPTIONS="(.*)"', PAGE.find("TOWPATHD_OPTIONS").text)
    return shlex.split(words)


def page_run(host, *words):
    """The page's first blocks with these words."""
    with contextlib.closing(Shell(host.argv(), env=host.env())) as shell:
        PAGE.run(shell, [PAGE.find(word) for word in words])


class Kubelet:
    """A node set up by the page, and what a kubelet asks of it."""

    def __init__(self, node):
        self.node, self.host = node, Host(node)
        self.containerd = Containerd(self.host, PAGE.find(".cni]").text)
        self.containerd.load_image("k8s.io")
        self.cri = Cri(self.host, self.containerd.dir)
        self.ready_before = self.cri.ready()
        page_run(self.host, "MASQUERADE", "--chain")
        assert wait_for(self.ready)
        self.pods = []

    def ready(self):
        try:
            return self.cri.ready()[0]
        except CriError:
            return False  # containerd answers, its CRI not yet

    def pod(self, name, *command, namespace="shop", labels=None, **more):
        """Labels: the Pod object comes first, as it does from an API server."""
        if labels:
            self.node.apply(pod_object(namespace, name, labels, ()))
        made = CriPod(self.cri, namespace, name, IMAGE, *(command or HTTPD), **more)
        self.pods.append(made)
        return made

    def endpoint(self, pod):
        items = self.node.api("GET", "/v1/endpoints")["items"]
        return [item for item in items if item["container_id"] == pod.id]

    def close(self):
        for pod in self.pods:
            try:
                pod.remove()
            except CriError as err:
                print(f"{pod.config['metadata']['name']}: {err}")
        self.containerd.close()
        self.host.close()


@pytest.fixture(scope="module")
def kubelet():
    with Node(options=agent_options()) as node:
        made = Kubelet(node)
        yield made
        made.close()


@pytest.fixture(scope="module")
def web(kubelet):
    ports = [{"protocol": 0, "container_port": 8080, "host_port": 8081}]
    return kubelet.pod("web", labels={"app": "web"}, dns_config=DNS, port_mappings=ports)


@pytest.fixture(scope="module")
def client(kubelet):
    return kubelet.pod("client", "sleep", "600", labels={"app": "client"})


def get(pod, address, port=8080):
    ask = f"printf 'GET /index.html HTTP/1.0\\r\\n\\r\\n' | nc -w 1 {address} {port}"
    return "served" in pod.sh(ask)[1]


def test_node_is_ready_when_the_network_is_there(kubelet):
    ready, why = kubelet.ready_before
    assert not ready and "cni plugin not initialized" in why
    assert kubelet.cri.ready() == (True, "")


def test_pod_has_name_addresses_and_dns(kubelet, web):
    (endpoint,) = kubelet.endpoint(web)
    assert (endpoint["namespace"], endpoint["pod"]) == ("shop", "web")
    assert [f"{ip}/{32 if '.' in ip else 128}" for ip in web.ips()] == endpoint["ips"]
    assert web.ips()[0].startswith("10.244.1.") and web.ips()[1].startswith("fd00:10:244:1::")
    status, text = web.sh("cat /etc/resolv.conf")
    assert status == 0 and text == (
        "search shop.svc.cluster.local\nnameserver 10.96.0.10\noptions ndots:5\n"
    )


def test_pods_reach_each_other_the_outside_and_are_probed(kubelet, web, client, family):
    address = web.ips()[0 if family == 4 else 1]
    assert get(client, address)
    assert client.sh(f"ping -c 1 -W 2 {kubelet.node.outside.ip(family)}")[0] == 0
    host = f"[{address}]" if family == 6 else address
    probe = kubelet.node.netns.run("curl", "-s", "-m", "5", f"http://{host}:8080/index.html")
    assert probe.stdout == "served\n"


def test_policy_from_a_list_of_objects(kubelet, web, client, family):
    """What `kubectl get -o json` prints is one List."""
    address = web.ips()[0 if family == 4 else 1]
    allow = [{"from": [{"podSelector": {"matchLabels": {"app": "client"}}}]}]
    policy = policy_object("shop", "web", {"matchLabels": {"app": "web"}}, ingress=allow)
    objects = {"apiVersion": "v1", "kind": "List", "items": [namespace_object("shop", {}), policy]}
    other = kubelet.pod(f"other{family}", "sleep", "600", labels={"app": "other"})
    assert get(other, address)
    kubelet.node.apply(objects)
    try:
        assert get(client, address) and not get(other, address)
        host = f"[{address}]" if family == 6 else address
        assert kubelet.node.netns.run("curl", "-s", "-m", "5", f"http://{host}:8080/index.html")
    finally:
        kubelet.node.delete(policy)
    assert wait_for(lambda: get(other, address))


def test_host_port(kubelet, web):
    outside = kubelet.node.outside
    url = f"http://{outside.node_ip[4]}:8081/index.html"
    assert outside.netns.run("curl", "-s", "-m", "5", url).stdout == "served\n"


def test_service_of_kube_proxy(kubelet, web, client):
    """One rule as kube-proxy has it for a service with one endpoint."""
    rule = ("PREROUTING", "-d", "10.96.0.1", "-p", "tcp", "--dport", "80", "-j", "DNAT",
            "--to-destination", f"{web.ips()[0]}:8080")  # fmt: skip
    assert not get(client, "10.96.0.1", 80)
    kubelet.node.netns.run("iptables", "-w", "-t", "nat", "-I", *rule)
    try:
        assert wait_for(lambda: get(client, "10.96.0.1", 80))
    finally:
        kubelet.node.netns.run("iptables", "-w", "-t", "nat", "-D", *rule)


def test_container_restarted_in_its_sandbox(kubelet, client):
    pod = kubelet.pod("crash", "sh", "-c", "sleep 600 & wait")
    before = pod.ips()
    pod.sh("kill -9 1; kill 1")
    pod.container = pod.restart(IMAGE, *HTTPD)
    assert pod.ips() == before and wait_for(lambda: get(client, before[0]))


def test_restarts_of_containerd_and_agent(kubelet, web, client):
    kubelet.containerd.stop_daemon()
    kubelet.node.kill()
    try:
        kubelet.containerd.start_daemon()
        assert wait_for(kubelet.ready, 20)
        assert all(get(client, address) for address in web.ips())
        with pytest.raises(CriError, match="no agent answers at /run/towpath/towpath.sock"):
            kubelet.pod("early")
    finally:
        kubelet.node.start()
    later = kubelet.pod("later", "sleep", "600")
    assert all(get(later, address) for address in web.ips())


def recorded(log):
    """(command, container id, netns, ifname, arguments, configuration) of each call."""
    lines = log.read_text().splitlines()
    for words, config in zip(lines[::2], lines[1::2]):
        yield *words.split(" ", 4), json.loads(config)


def test_calls_of_a_pods_life(kubelet, tmp_path):
    """What containerd says to the plugin, so that nobody has to believe this page's author."""
    plugin = kubelet.host.path("/usr/lib/cni/towpath-cni")
    log = tmp_path / "calls"
    plugin.rename(plugin.with_name("real"))
    script(plugin, RECORDER.format(log=log, plugin="/usr/lib/cni/real"))
    try:
        pod = kubelet.pod("watched", port_mappings=[{"container_port": 1, "host_port": 8082}])
        pod.stop()
        pod.stop()  # kubelets do, until the pod is gone
    finally:
        plugin.with_name("real").rename(plugin)
    calls = list(recorded(log))
    assert [(call[0], call[2] == "-") for call in calls] == [("ADD", False), ("DEL", False), ("DEL", True)]
    for _, container_id, _, ifname, args, config in calls:
        assert (container_id, ifname) == (pod.id, "eth0")
        assert set(args.split(";")) == {
            "IgnoreUnknown=1", "K8S_POD_NAMESPACE=shop", "K8S_POD_NAME=watched",
            f"K8S_POD_INFRA_CONTAINER_ID={pod.id}", "K8S_POD_UID=uid-shop-watched",
        }  # fmt: skip
        assert config["name"] == "towpath" and "runtimeConfig" not in config
    assert kubelet.endpoint(pod) == []


def test_nothing_is_left_of_pods(kubelet):
    before = endpoints(kubelet.node)
    pods = [kubelet.pod(f"many{i}") for i in range(3)]
    assert len(endpoints(kubelet.node)) == len(before) + 3
    for pod in pods:
        pod.remove()
        kubelet.pods.remove(pod)
    assert endpoints(kubelet.node) == before


def test_calls_of_containerd_2(kubelet):
    """It takes the newest of cniVersions, and asks for STATUS whenever the kubelet asks it."""
    node = kubelet.node
    kubelet.host.install("--conf-dir", "/etc/cni/alone")
    network = json.loads(kubelet.host.path("/etc/cni/alone/10-towpath.conflist").read_text())
    (plugin,) = network["plugins"]
    newest = max(network["cniVersions"], key=lambda text: [int(n) for n in text.split(".")])
    config = {**plugin, "name": network["name"], "cniVersion": newest, "socket": node.socket,
              "stateDir": str(node.state_dir)}  # fmt: skip
    args = ("IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=two;"
            "K8S_POD_INFRA_CONTAINER_ID=two;K8S_POD_UID=9e0d")  # fmt: skip
    status = {"CNI_CONTAINERID": "", "CNI_NETNS": "", "CNI_IFNAME": "", "CNI_ARGS": ""}
    with container() as netns:
        pod = Attachment(node, netns)
        pod.config = config
        assert pod.call("STATUS", env=status).code == 0
        assert pod.add(CNI_ARGS=args).code == 0
        (endpoint,) = (e for e in node.api("GET", "/v1/endpoints")["items"] if e["pod"] == "two")
        assert endpoint["namespace"] == "shop" and endpoint["container_id"] == pod.container_id
        assert pod.check().code == 0
        node.kill()
        assert pod.call("STATUS", env=status).code == 50  # the node is NotReady
        assert pod.delete(CNI_ARGS=args).code == 0
        assert pod.link() is None
        node.start()
        assert pod.call("STATUS", env=status).code == 0
        assert pod.delete(CNI_ARGS=args, CNI_NETNS="").code == 0
    assert (pod.container_id, "eth0") not in endpoints(node)
    assert pod.address(4) not in node.netns.run("ip", "route").stdout


def test_several_networks():
    with Node(options=agent_options()) as node:
        host = Host(node)
        page_run(host, "--chain", "--name")
        containerd = Containerd(host, PAGE.find("max_conf_num").text)
        containerd.load_image("k8s.io")
        try:
            cri = Cri(host, containerd.dir)
            pod = CriPod(cri, "shop", "two", IMAGE, "sleep", "600")
            items = {item["ifname"]: item for item in node.api("GET", "/v1/endpoints")["items"]}
            assert {name: item["network"] for name, item in items.items()} == {
                "eth0": "towpath", "eth1": "blue",
            }  # fmt: skip
            second = items["eth1"]["ips"][0].split("/")[0]
            assert second.startswith("10.245.1.")
            for address in (pod.ips()[0], second):
                done = node.netns.run("ping", "-c", "1", "-W", "2", address, check=False)
                assert done.returncode == 0
            pod.remove()
            assert endpoints(node) == set()
        finally:
            containerd.close()
            host.close()
