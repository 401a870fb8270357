#!/bin/sh
# Process 1 of a node: prepares the machine, then becomes the supervisor that runs everything else.
# PLB_LAB, PLB_NODE, PLB_ADDRESS, PLB_GATEWAY, PLB_HARDWARE and PLB_IPVS come from the kernel's command line.
. "$PLB_LAB/guest/root.sh"

# The lab's folder is shared with the host alive; its logs should reach the host soon.
mount --bind "/run/host$PLB_LAB" "$PLB_LAB"
echo 50 >/proc/sys/vm/dirty_writeback_centisecs
echo 100 >/proc/sys/vm/dirty_expire_centisecs

# A layered file system cannot carry another one, and the host's own settings are not the node's.
for folder in /var/lib/containerd /var/lib/kubelet /var/lib/cni /var/log /etc/cni; do
    mkdir -p $folder
    mount -t tmpfs -o mode=755 tmpfs $folder
done
mkdir -p /etc/cni/net.d /var/log/pods /run/flannel /run/plb/services
mount --make-rshared /

# kubelet refuses a processor without a clock speed.
{ sed '/^$/d' /proc/cpuinfo; printf 'cpu MHz\t\t: 2000.000\n\n'; } >/run/plb/cpuinfo
mount --bind /run/plb/cpuinfo /proc/cpuinfo

# The legacy tables cannot be loaded from inside a container. IPVS can, and so is left to whoever needs it.
modprobe -a br_netfilter nf_conntrack vxlan tun \
    iptable_filter iptable_nat iptable_mangle iptable_raw ip6table_filter ip6table_nat ip6table_mangle ip6table_raw \
    xt_mark xt_comment xt_conntrack xt_MASQUERADE xt_addrtype xt_statistic
if [ "$PLB_IPVS" = missing ]; then
    echo 'install ip_vs /bin/false' >/etc/modprobe.d/no-ip-vs.conf
fi
echo 1 >/proc/sys/net/ipv4/ip_forward
echo 1 >/proc/sys/net/bridge/bridge-nf-call-iptables

echo "$PLB_NODE" >/proc/sys/kernel/hostname
ip link set vec0 address "$PLB_HARDWARE"
ip address add "$PLB_ADDRESS/24" dev vec0
ip link set vec0 up
ip route add default via "$PLB_GATEWAY"

# Daemons get a share of the processor together, as systemd has it. In the root group each of their threads would count
# for more than all pods, which would then wait for seconds while a container starts.
mkdir /sys/fs/cgroup/system
echo +cpu >/sys/fs/cgroup/cgroup.subtree_control
echo $$ >/sys/fs/cgroup/system/cgroup.procs

cp "$PLB_LAB/nodes/$PLB_NODE/agent.json" /run/plb/services/
export PATH="/run/legacy:$PLB_LAB/bin:$PATH" NODE_NAME="$PLB_NODE"
exec "$PLB_LAB/bin/lab" supervise --folder /run/plb/services
