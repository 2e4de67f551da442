#!/bin/busybox sh
# First process of a node: finds the disk, adds the files that are this node's own, and hands over to the disk.
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
# Drivers sort in the order in which they must be loaded.
for driver in /drivers/*.ko; do
	insmod "$driver"
done
tries=0
until [ -b /dev/vda ]; do
	tries=$((tries + 1))
	[ "$tries" -lt 100 ] || { echo "node: no disk"; poweroff -f; }
	sleep 0.1
done
mkdir -p /root
mount -t ext4 -o noatime,noinit_itable /dev/vda /root || { echo "node: the disk cannot be mounted"; poweroff -f; }
cp -a /node/. /root/
for folder in proc sys dev; do
	mount -o move /$folder /root/$folder
done
exec switch_root /root /usr/local/sbin/node-init
