//! The balancer in the pod: turns one PortableLoadBalancer into IPVS and iptables.
