// Command flanneld gives a node its pod network with one of flannel's host-gw, vxlan and udp backends.
//
// It stands in for flannel's own command, whose cloud backends need modules that are not all to be had. The flags
// carry flannel's names; the node's name is read from NODE_NAME.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/flannel-io/flannel/pkg/backend"
	_ "github.com/flannel-io/flannel/pkg/backend/hostgw"
	_ "github.com/flannel-io/flannel/pkg/backend/udp"
	_ "github.com/flannel-io/flannel/pkg/backend/vxlan"
	"github.com/flannel-io/flannel/pkg/ipmatch"
	"github.com/flannel-io/flannel/pkg/subnet"
	"github.com/flannel-io/flannel/pkg/subnet/kube"
	"github.com/flannel-io/flannel/pkg/trafficmngr/iptables"
)

// annotations is the prefix under which flannel notes a node's backend on the node itself.
const annotations = "flannel.alpha.coreos.com"

// resyncSeconds is how often flannel looks whether its iptables rules are still there.
const resyncSeconds = 60

type options struct {
	kubeconfig, config, device, subnetFile string
	masquerade                             bool
}

func main() {
	var o options
	flag.StringVar(&o.kubeconfig, "kubeconfig-file", "", "kubeconfig of the API server")
	flag.StringVar(&o.config, "net-config-path", "/etc/kube-flannel/net-conf.json", "network configuration")
	flag.StringVar(&o.device, "iface", "", "network device (or its address) that reaches the other nodes")
	flag.StringVar(&o.subnetFile, "subnet-file", "/run/flannel/subnet.env", "written for the CNI plugins")
	flag.BoolVar(&o.masquerade, "ip-masq", false, "masquerade traffic that leaves the pod network")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "flanneld:", err)
		os.Exit(1)
	}
}

// run joins the pod network and serves it until ctx ends.
func run(ctx context.Context, o options) error {
	leases, err := kube.NewSubnetManager(ctx, "", o.kubeconfig, annotations, o.config, true)
	if err != nil {
		return fmt.Errorf("reach the API server: %w", err)
	}
	config, err := leases.GetNetworkConfig(ctx)
	if err != nil {
		return fmt.Errorf("read %s: %w", o.config, err)
	}
	var tasks sync.WaitGroup
	network, err := join(ctx, leases, config, o.device, &tasks)
	if err != nil {
		return err
	}
	if err := addRules(ctx, config, network, o.masquerade); err != nil {
		return fmt.Errorf("set iptables rules: %w", err)
	}
	lease := network.Lease()
	if err := leases.HandleSubnetFile(o.subnetFile, config, o.masquerade, lease.Subnet, lease.IPv6Subnet, network.MTU()); err != nil {
		return fmt.Errorf("write %s: %w", o.subnetFile, err)
	}
	tasks.Go(func() { network.Run(ctx) })
	if err := leases.CompleteLease(ctx, lease, &tasks); err != nil {
		return fmt.Errorf("tell the node that its network is up: %w", err)
	}
	fmt.Printf("flanneld: backend %s, subnet %s, MTU %d\n", config.BackendType, lease.Subnet, network.MTU())
	tasks.Wait()
	return nil
}

// join registers this node with the backend that the configuration names.
func join(ctx context.Context, leases subnet.Manager, config *subnet.Config, device string, tasks *sync.WaitGroup) (backend.Network, error) {
	families, err := ipmatch.GetIPFamily(config.EnableIPv4, config.EnableIPv6)
	if err != nil {
		return nil, err
	}
	external, err := ipmatch.LookupExtIface(device, "", "", families, ipmatch.PublicIPOpts{})
	if err != nil {
		return nil, fmt.Errorf("find network device %q: %w", device, err)
	}
	chosen, err := backend.NewManager(ctx, leases, external).GetBackend(config.BackendType)
	if err != nil {
		return nil, err
	}
	network, err := chosen.RegisterNetwork(ctx, tasks, config)
	if err != nil {
		return nil, fmt.Errorf("join the network by %s: %w", config.BackendType, err)
	}
	return network, nil
}

// addRules lets pod traffic be forwarded and, if wanted, hides it behind the node where it leaves the pod network.
func addRules(ctx context.Context, config *subnet.Config, network backend.Network, masquerade bool) error {
	rules := &iptables.IPTablesManager{}
	if err := rules.Init(ctx); err != nil {
		return err
	}
	if masquerade {
		lease := network.Lease()
		err := rules.SetupAndEnsureMasqRules(ctx,
			config.Network, lease.Subnet, config.Network,
			config.IPv6Network, lease.IPv6Subnet, config.IPv6Network,
			lease, resyncSeconds, false)
		if err != nil {
			return err
		}
	}
	rules.SetupAndEnsureForwardRules(ctx, config.Network, config.IPv6Network, resyncSeconds)
	return nil
}
