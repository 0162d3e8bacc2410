#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
# Sets up, builds, and shows Towpath at work: five containers in two Kubernetes namespaces
# talk under three NetworkPolicies, over IPv4 and IPv6. Everything happens in network
# namespaces of its own; the machine is left as it was found, also when this is interrupted.
set -euo pipefail
cd "$(dirname "$0")"

if [ "$(id -u)" != 0 ]; then
	echo "demo.sh: makes network namespaces and loads programs into the kernel: run it with sudo" >&2
	exit 1
fi
scripts/setup.sh
echo "building ..."
scripts/build.sh build

began=$EPOCHREALTIME
build=$PWD/build
PATH=$build/cli:$build/cni:$build/agent:$PATH
tmp=$(mktemp -d /tmp/towpath-demo.XXXXXX)
export TOWPATH_SOCKET=$tmp/run/towpath.sock
node=towpath-demo-$$ outside=towpath-demo-out-$$
agent='' transfer='' outside_server=''
had_netns_dir=$([ -d /run/netns ] && echo yes || echo no)

# name, namespace and port of the five containers; the outside has a server too
containers=(web:shop:80 api:shop:8080 db:shop:6379 metrics:ops:9090 guest:ops:8000)
declare -A address

if [ -t 1 ]; then bold=$'\e[1m' plain=$'\e[0m'; else bold='' plain=''; fi
title() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }
show() { printf '$ %s\n' "$*"; "$@"; }
in_node() { nsenter --net=/run/netns/$node "$@"; }
in_outside() { nsenter --net=/run/netns/$outside "$@"; }
# In the background: what runs takes the place of the shell's copy, so that $! is its own pid;
# and in a session of its own, so that an interrupt at the terminal reaches this script alone.
node_background() { exec setsid nsenter --net=/run/netns/$node "$@"; }
outside_background() { exec setsid nsenter --net=/run/netns/$outside "$@"; }

cleanup() {
	trap '' INT TERM HUP
	set +e
	[ -n "$transfer" ] && kill "$transfer"
	# Containers end through the agent, which may just have been killed.
	[ -d "$tmp/run/netns" ] && ! towpath status && agent_start
	for c in "${containers[@]}"; do
		IFS=: read -r name ns _ <<<"$c"
		in_node towpath rm --grace 0 -n "$ns" "$name"
	done
	for pid in $agent $outside_server; do
		kill "$pid"
		wait "$pid"
	done
	umount "$tmp/run/bpf" "$tmp"/run/netns/*
	ip netns delete $node
	ip netns delete $outside
	[ "$had_netns_dir" = yes ] || { umount /run/netns; rmdir /run/netns; }
	# Only what is surely not a mount any more.
	rm -rf --one-file-system "$tmp"
} >/dev/null 2>&1
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

network_make() {
	ip netns add $node
	ip netns add $outside
	for ns in $node $outside; do
		nsenter "--net=/run/netns/$ns" sysctl -q \
			net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.default.accept_dad=0
		ip -n "$ns" link set lo up
	done
	ip -n $node link add up0 type veth peer name net0 netns $outside
	ip -n $node -batch - <<-EOF
		link set up0 up
		addr add 198.51.100.2/24 dev up0
		addr add fd00:51::2/64 dev up0
	EOF
	ip -n $outside -batch - <<-EOF
		link set net0 up
		addr add 198.51.100.1/24 dev net0
		addr add fd00:51::1/64 dev net0
		route add default via 198.51.100.2
		route add default via fd00:51::2
	EOF
	ip -n $node -batch - <<-EOF
		route add default via 198.51.100.1
		route add default via fd00:51::1
	EOF
}

agent_start() {
	node_background towpathd --state-dir "$tmp/state" --run-dir "$tmp/run" \
		--objects-dir "$tmp/objects" --uplink up0 2>>"$tmp/agent.log" &
	agent=$!
	until towpath status >/dev/null 2>&1; do
		kill -0 $agent 2>/dev/null || { cat "$tmp/agent.log" >&2; return 1; }
		sleep 0.02
	done
}

# One container: a process in a network namespace that towpath-cni attached.
container_start() {
	IFS=: read -r name ns port <<<"$1"
	mkdir -p "$tmp/www/$name"
	echo "$ns/$name" >"$tmp/www/$name/index.html"
	in_node towpath run "$name" -n "$ns" -l "app=$name" -p "$port" --detach -- \
		busybox httpd -f -p "$port" -h "$tmp/www/$name" >/dev/null
	for ip in $(towpath get endpoints -n "$ns" -o json |
		jq -r ".items[] | select(.pod == \"$name\") | .ips[]"); do
		ip=${ip%/*}
		case $ip in
		*:*) address[$name,6]=[$ip] ;;
		*) address[$name,4]=$ip ;;
		esac
	done
}

# Everybody asks everybody over both families at once; one curl a row.
row_ask() {
	local from=$1 urls=() family c name port
	shift
	for c in "${containers[@]}" outside::80; do
		IFS=: read -r name _ port <<<"$c"
		for family in 4 6; do
			urls+=(-o /dev/null "http://${address[$name,$family]}:$port/")
		done
	done
	"$@" curl -s -Z --parallel-immediate --noproxy '*' -m 0.8 \
		-w '%{urlnum} %{http_code}\n' "${urls[@]}" >"$tmp/row-$from" 2>/dev/null || true
}

cell() { # two codes, of IPv4 and IPv6
	case $1,$2 in
	200,200) echo yes ;;
	200,*) echo 'v4 only' ;;
	*,200) echo 'v6 only' ;;
	*) echo . ;;
	esac
}

matrix_show() {
	local c name ns n pids=()
	for c in "${containers[@]}"; do
		IFS=: read -r name ns _ <<<"$c"
		row_ask "$name" in_node towpath exec -n "$ns" "$name" -- &
		pids+=($!)
	done
	row_ask outside in_outside &
	wait "${pids[@]}" $!
	printf '%-13s' 'from \ to'
	for c in "${containers[@]}"; do
		IFS=: read -r name ns _ <<<"$c"
		printf ' %-12s' "$ns/$name"
	done
	printf ' outside\n'
	for c in "${containers[@]}" outside::; do
		IFS=: read -r name ns _ <<<"$c"
		printf '%-13s' "${ns:+$ns/}$name"
		mapfile -t codes < <(sort -n "$tmp/row-$name" | cut -d' ' -f2)
		for n in 0 1 2 3 4 5; do
			printf ' %-12s' "$(cell "${codes[2 * n]}" "${codes[2 * n + 1]}")"
		done
		printf '\n'
	done | sed 's/ *$//'
}

title "A node of its own: a network namespace with an uplink, and the agent in it"
mkdir -p "$tmp/objects" "$tmp/run" "$tmp/state" "$tmp/www/outside"
network_make
agent_start
show towpath status | head -12

title "Two namespaces, five containers with a web server each, attached by towpath-cni"
show towpath apply -f examples/demo/namespaces.yaml
for c in "${containers[@]}"; do container_start "$c"; done
address[outside,4]=198.51.100.1 address[outside,6]='[fd00:51::1]'
outside_background busybox httpd -f -p 80 -h "$tmp/www/outside" &
outside_server=$!
echo outside >"$tmp/www/outside/index.html"
# What the transfer below will carry.
head -c 96M /dev/urandom >"$tmp/www/db/data" &
data=$!
show towpath get endpoints

title "Who reaches whom: no policy yet ('yes' is over IPv4 and IPv6, '.' over neither)"
matrix_show

title "Three NetworkPolicies"
show towpath apply -f examples/demo/policies
matrix_show

title "Why a guest did not reach the database"
show towpath flows --verdict deny --from ops/guest --to shop/db --last 2

title "The agent is killed during a transfer, and started again"
wait $data
want=$(sha256sum <"$tmp/www/db/data" | cut -d' ' -f1)
node_background towpath exec -n shop api -- curl -sf --limit-rate 40M --noproxy '*' \
	-o "$tmp/got" "http://${address[db,4]}:6379/data" &
transfer=$!
sleep 0.5
kill -9 $agent
wait $agent 2>/dev/null || true
agent=''
at=$(stat -c %s "$tmp/got")
echo "killed after $((at >> 20)) of 96 MB; the agent says:"
printf '$ towpath status\n'
towpath status 2>&1 || true
sleep 0.8
now=$(stat -c %s "$tmp/got")
echo "without an agent $(((now - at) >> 20)) MB more came through"
agent_start
echo "agent started again"
wait $transfer
transfer=''
got=$(sha256sum <"$tmp/got" | cut -d' ' -f1)
if [ "$got" != "$want" ]; then
	echo "the transfer was damaged" >&2
	exit 1
fi
echo "96 MB arrived whole: sha256 ${got:0:16}... on both sides"

title "After the restart: the same rules, and what they dropped"
matrix_show
show towpath status | sed -n '/^[$]/p; /^agent/p; /^PACKETS/,/^$/p'
cleanup
trap - EXIT
awk -v a="$began" -v b="$EPOCHREALTIME" 'BEGIN { printf "\ncleaned up; %.1f s\n", b - a }'
