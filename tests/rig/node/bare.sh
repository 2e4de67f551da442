#!/bin/busybox sh
# First and only init of a node without a kubelet: drivers, the disk for what has to survive, the network, a control
# channel, and then the program that the machine is for, started again when it ends.
/bin/busybox --install -s /bin
export PATH=/bin HOME=/
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
exec </dev/null >/dev/console 2>&1
mount -t tmpfs tmpfs /tmp
mount -t tmpfs tmpfs /run
mount -t cgroup2 cgroup2 /sys/fs/cgroup
# Drivers sort in the order in which they must be loaded.
for driver in /drivers/*.ko; do
	insmod "$driver"
done
setsid sh /control.sh </dev/ttyS1 >/dev/ttyS1 2>/dev/console &
tries=0
until [ -b /dev/vda ]; do
	tries=$((tries + 1))
	[ "$tries" -lt 100 ] || { echo "node: no disk"; poweroff -f; }
	sleep 0.1
done
mkdir -p /disk
mount -t ext4 -o noatime,noinit_itable /dev/vda /disk || { echo "node: the disk cannot be mounted"; poweroff -f; }
ip link set lo up
ip address add 10.0.2.15/24 dev eth0
ip link set eth0 up
ip route add default via 10.0.2.2
[ ! -e /start.sh ] || sh /start.sh
touch /run/up
while :; do
	while [ -e /run/stay-away ]; do
		sleep 0.1
	done
	sh /program.sh >>/disk/program.log 2>&1
	echo "node: the program ended ($?)"
	sleep 0.3
done
