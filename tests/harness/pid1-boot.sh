#!/bin/sh
# Run by `unshare --mount`: makes the root of a machine from $1, a directory
# tree that is not changed, and starts its systemd as PID 1. $2 is the
# directory that the machine shares with the test.
set -eu
tree=$1 shared=$2 name=${2##*/}
mount --make-rprivate /

# All that the machine writes goes to memory, and is gone with it.
mkdir "$shared/m"
mount -t tmpfs tmpfs "$shared/m"
cd "$shared/m"
mkdir upper work root cgroup
mount -t overlay -o "lowerdir=$tree,upperdir=upper,workdir=work" overlay root

# A cgroup of its own, so that two machines don't meet in one.
mount -t cgroup2 cgroup2 cgroup
mkdir "cgroup/$name"
echo $$ >"cgroup/$name/cgroup.procs"
umount cgroup
cd root

# shellcheck disable=SC2016 # the inner shell expands it
exec unshare --pid --net --uts --ipc --cgroup --fork --kill-child sh -eu -c '
mount -t proc proc proc
# The kernel is not for the machine to set.
mount --bind proc/sys proc/sys
mount -o remount,ro,bind proc/sys
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs -o mode=1777 tmpfs tmp
mount -t tmpfs -o mode=755 tmpfs dev
for node in null zero full random urandom tty; do
	touch dev/$node
	mount --bind /dev/$node dev/$node
done
mkdir dev/pts dev/shm run/host
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts dev/pts
mount -t tmpfs -o mode=1777 tmpfs dev/shm
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
mount --bind "$0" run/host
ip link set lo up
hostname machine

pivot_root . mnt
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8
cd /
umount -l /mnt
# As a container manager has to: credentials reach a unit as a mount.
mount --make-rshared /
sh -eux /run/host/prepare
exec env -i container=other NOTIFY_SOCKET=/run/host/notify PATH=$PATH /lib/systemd/systemd --system \
	--log-target=journal-or-kmsg --log-level=info --show-status=no
' "$shared"
