#!/bin/sh
# Turns its caller, the first process of new mount, pid, uts, ipc and cgroup namespaces, into PID 1 of a node.
# Usage: boot.sh LOWER DISK NAME — DISK holds upper/, work/, root/, containerd/ and boot_id; the host's pid is left in DISK/pid.
set -eu
lower=$1 disk=$2 name=$3 root=$2/root

# the host's /proc is still mounted, so this is the pid the host knows
read -r pid _ </proc/self/stat
echo "$pid" >"$disk/pid.new"
mv "$disk/pid.new" "$disk/pid"

# redirect_dir: folders of the lower layer can be renamed, as on a plain disk
mount -t overlay node -o "lowerdir=$lower,upperdir=$disk/upper,workdir=$disk/work,redirect_dir=on" "$root"
cd "$root"
# containerd's own overlays cannot lie on an overlay
mount --bind "$disk/containerd" var/lib/containerd
mount -t proc -o nosuid,nodev,noexec proc proc
mount --bind "$disk/boot_id" proc/sys/kernel/random/boot_id
# the kernel's switches belong to the host
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount --bind "$disk/boot_id" proc/sys/kernel/random/boot_id
mount -t sysfs -o nosuid,nodev,noexec sysfs sys
mount -t cgroup2 -o nosuid,nodev,noexec cgroup2 sys/fs/cgroup
# a read-only /sys keeps udev away
mount -o remount,bind,ro sys
mount -t tmpfs -o nosuid,nodev,mode=755 tmpfs run
mount -t tmpfs -o nosuid,nodev,mode=1777 tmpfs tmp
mount -t tmpfs -o nosuid,mode=755 tmpfs dev
mkdir dev/pts dev/shm
for device in null zero full random urandom tty; do
    : >"dev/$device"
    mount --bind "/dev/$device" "dev/$device"
done
mount -t devpts -o nosuid,noexec,newinstance,ptmxmode=0666,mode=620 devpts dev/pts
mount -t tmpfs -o nosuid,nodev,mode=1777 tmpfs dev/shm
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
ln -s /proc/self/fd/0 dev/stdin
ln -s /proc/self/fd/1 dev/stdout
ln -s /proc/self/fd/2 dev/stderr
hostname "$name"

mkdir run/old
pivot_root . run/old
cd /
umount -l run/old
rmdir run/old
exec env -i container=test PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --log-level=info
