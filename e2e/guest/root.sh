# Sourced by the init of a User Mode Linux machine, first thing. The machine's root is the host's file system; after
# this it is that file system with a layer in memory over it, so nothing the machine writes ever reaches the host.
# The host itself stays within reach at /run/host, for the few folders that must be shared alive.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root

mount -t proc proc /proc
release=$(uname -r)
insmod "$PLB_MODULES/kernel/fs/overlayfs/overlay.ko" || echo "cannot load overlay.ko from $PLB_MODULES"

# Any folder that every host has will do, it is only covered for a moment.
layer=/mnt
mount -t tmpfs -o size=90% tmpfs $layer
mkdir $layer/upper $layer/work $layer/root
mount -t overlay -o lowerdir=/,upperdir=$layer/upper,workdir=$layer/work overlay $layer/root

mount --move /proc $layer/root/proc
mount -t devtmpfs dev $layer/root/dev 2>/dev/null
mount -t sysfs sysfs $layer/root/sys
mount -t tmpfs -o mode=755 tmpfs $layer/root/run
mkdir $layer/root/run/host
cd $layer/root || exit 1
pivot_root . run/host
cd / || exit 1

mkdir -p /dev/pts /dev/shm /sys/fs/cgroup
mount -t devpts devpts /dev/pts
mount -t tmpfs shm /dev/shm
mount -t cgroup2 cgroup2 /sys/fs/cgroup
ln -sfn /proc/self/fd /dev/fd

# The kernel calls modprobe by itself, and modprobe looks nowhere else.
mkdir -p /lib/modules
ln -sfn "$PLB_MODULES" "/lib/modules/$release"

# This kernel has no nf_tables ip family: whoever says iptables means the legacy one.
mkdir -p /run/legacy
for name in iptables iptables-save iptables-restore ip6tables ip6tables-save ip6tables-restore; do
    ln -sfn /usr/sbin/xtables-legacy-multi /run/legacy/$name
done
export PATH=/run/legacy:$PATH
ip link set lo up
