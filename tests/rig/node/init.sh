#!/bin/sh
# PID 1 of a node: mounts, network, and the three services (control channel, container runtime, kubelet), each started
# again when it ends.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8
exec </dev/null >/dev/console 2>&1
. /etc/node/settings

mkdir -p /dev/pts /dev/shm
mount -t devpts -o gid=5,mode=620 devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs -o mode=755 tmpfs /run
mount -t tmpfs tmpfs /tmp
# Without securityfs nobody sees that AppArmor is on, and no profile is applied.
mount -t securityfs securityfs /sys/kernel/security
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount --make-rshared /
mkdir -p /run/lock /var/log
hostname "$NODE_NAME"

# The control channel comes first: it is how a test looks at a node that does not come up.
setsid node-control </dev/ttyS1 >/dev/ttyS1 2>/dev/console &

modprobe -qa virtio_net overlay veth nf_tables nft_chain_nat nft_masq nft_compat xt_comment xt_MASQUERADE xt_nat
ip link set lo up
ip address add 10.0.2.15/24 dev eth0
ip link set eth0 up
ip route add default via 10.0.2.2
# The API server's cluster address leads to the host. There is no other service, hence no kube-proxy.
nft -f - <<RULES
table ip node {
	chain output {
		type nat hook output priority -100;
		ip daddr 10.0.0.1 tcp dport 443 dnat to 10.0.2.2:$API_PORT
	}
	chain prerouting {
		type nat hook prerouting priority -100;
		ip daddr 10.0.0.1 tcp dport 443 dnat to 10.0.2.2:$API_PORT
	}
}
RULES

keep_running() {
	name=$1
	shift
	while :; do
		"$@" >>/var/log/"$name".log 2>&1
		echo "node: $name ended ($?)"
		sleep 1
	done
}
keep_running containerd containerd --config /etc/containerd/config.toml &
(
	until [ -S /run/containerd/containerd.sock ]; do
		sleep 0.1
	done
	# shellcheck disable=SC2086 # The flags are several words.
	keep_running kubelet kubelet --config /etc/node/kubelet.json --kubeconfig /etc/node/kubeconfig \
		--hostname-override "$NODE_NAME" --node-ip 10.0.2.15 $KUBELET_FLAGS
) &
echo "node: services started at $(cut -d " " -f 1 /proc/uptime) s"
# Also collects the orphans that every PID 1 inherits.
while :; do
	wait
	sleep 1
done
