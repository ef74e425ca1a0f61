#!/bin/bash
# Builds the root filesystem that all test machines share: a small Debian with systemd, cloud-init
# and what a Kubernetes node needs from the distribution.  Usage: build-rootfs.sh DIRECTORY
set -euo pipefail
root=$1
release=bookworm
packages=systemd,systemd-sysv,dbus,iproute2,iputils-ping,nftables,iptables,kmod,ca-certificates
packages+=,runc,containernetworking-plugins,conntrack,ethtool,socat,procps,util-linux,mount
packages+=,e2fsprogs,curl,busybox-static

debootstrap --variant=minbase --include="$packages" "$release" "$root"

# cloud-init afterwards: debootstrap cannot configure it, because its scripts want a whole system.
cp /etc/resolv.conf "$root/etc/resolv.conf"
printf '#!/bin/sh\nexit 101\n' > "$root/usr/sbin/policy-rc.d"
chmod 0755 "$root/usr/sbin/policy-rc.d"
export DEBIAN_FRONTEND=noninteractive
chroot "$root" apt-get update -q
chroot "$root" apt-get install -y -q --no-install-recommends cloud-init
chroot "$root" apt-get clean
rm -rf "$root/usr/sbin/policy-rc.d" "$root"/var/lib/apt/lists/* "$root"/var/log/apt
rm -rf "$root/usr/share/doc" "$root/usr/share/man" "$root/usr/share/locale"

# Every machine gets an identity of its own when it is made.
rm -f "$root/etc/hostname" "$root/etc/machine-id" "$root/var/lib/dbus/machine-id"

# Boot fast and quietly: nothing that waits for hardware, asks for a login or tidies up at night.
chroot "$root" systemctl set-default -q multi-user.target
for unit in console-getty.service getty@.service getty.target systemd-logind.service \
    systemd-udevd.service systemd-udev-trigger.service systemd-udev-settle.service \
    systemd-pstore.service systemd-update-utmp.service systemd-update-utmp-runlevel.service \
    systemd-timesyncd.service systemd-networkd.service systemd-networkd-wait-online.service \
    systemd-firstboot.service systemd-machine-id-commit.service systemd-ask-password-wall.path \
    apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer \
    e2scrub_reap.service fstrim.timer remote-fs.target cloud-init-hotplugd.socket \
    systemd-hwdb-update.service systemd-journal-catalog-update.service \
    systemd-tmpfiles-clean.timer sys-kernel-debug.mount sys-kernel-tracing.mount \
    dev-mqueue.mount dev-hugepages.mount sys-fs-fuse-connections.mount; do
    ln -sf /dev/null "$root/etc/systemd/system/$unit"
done
