package main

import (
	"fmt"
	"os"
)

const (
	dnsUser         = "quorate:coredns"
	provisionerUser = "quorate:provisioner"
	provisionerName = "volumes.quorate.dev/directory"
)

// controlMachine is the machine of the control plane, the cluster's DNS and the
// volume provisioner. DNS and the provisioner are processes here rather than
// pods, so that losing a node never takes them away from the other two.
func controlMachine(l layout) machineSpec {
	readyz := apiServer + "/readyz"
	spec := machineSpec{Name: controlPlane, RunDir: l.path("run")}
	add := func(name string, waitFor []string, command ...string) {
		spec.Processes = append(spec.Processes, processSpec{Name: name, Command: command, Log: l.log(name), WaitFor: waitFor})
	}
	add("etcd", nil, controlEtcdCommand(l)...)
	add("kube-apiserver", []string{"http://" + controlEtcdClient + "/health"}, apiServerCommand(l)...)
	add("kube-controller-manager", []string{readyz}, controllerManagerCommand(l)...)
	add("kube-scheduler", []string{readyz},
		l.bin("kube-scheduler"),
		"--kubeconfig="+l.pki("kube-scheduler.kubeconfig"),
		"--authentication-kubeconfig="+l.pki("kube-scheduler.kubeconfig"),
		"--authorization-kubeconfig="+l.pki("kube-scheduler.kubeconfig"),
		"--tls-cert-file="+l.pki("kube-scheduler.crt"),
		"--tls-private-key-file="+l.pki("kube-scheduler.key"),
		"--bind-address="+controlAddress,
		"--secure-port="+schedulerPort,
		"--leader-elect=false",
		"--kube-api-qps=200", "--kube-api-burst=400",
	)
	add("coredns", []string{readyz}, l.bin("coredns"), "-conf", l.state("Corefile"))
	add("provisioner", []string{readyz}, l.bin("provisioner"),
		"--kubeconfig="+l.pki("provisioner.kubeconfig"), "--name="+provisionerName, "--root="+l.state("volumes"), "--ready="+provisionerReady)
	return spec
}

func controlEtcdCommand(l layout) []string {
	return []string{
		l.bin("etcd"),
		"--name=control",
		"--data-dir=" + l.state("etcd"),
		"--listen-client-urls=http://" + controlEtcdClient,
		"--advertise-client-urls=http://" + controlEtcdClient,
		"--listen-peer-urls=http://" + controlEtcdPeer,
		"--initial-advertise-peer-urls=http://" + controlEtcdPeer,
		"--initial-cluster=control=http://" + controlEtcdPeer,
		// The kernel keeps what was written when the process is killed, and the
		// cluster is thrown away when the machine stops.
		"--unsafe-no-fsync",
		"--log-level=warn",
	}
}

func apiServerCommand(l layout) []string {
	return []string{
		l.bin("kube-apiserver"),
		"--etcd-servers=http://" + controlEtcdClient,
		"--advertise-address=" + bridgeAddress,
		"--bind-address=" + bridgeAddress,
		"--secure-port=" + apiPort,
		"--service-cluster-ip-range=" + serviceCIDR,
		"--authorization-mode=Node,RBAC",
		"--enable-admission-plugins=NodeRestriction",
		"--allow-privileged=true",
		"--client-ca-file=" + l.pki("ca.crt"),
		"--tls-cert-file=" + l.pki("apiserver.crt"),
		"--tls-private-key-file=" + l.pki("apiserver.key"),
		"--kubelet-certificate-authority=" + l.pki("ca.crt"),
		"--kubelet-client-certificate=" + l.pki("apiserver-kubelet.crt"),
		"--kubelet-client-key=" + l.pki("apiserver-kubelet.key"),
		"--kubelet-preferred-address-types=InternalIP",
		"--service-account-issuer=https://kubernetes.default.svc." + clusterDomain,
		"--service-account-key-file=" + l.pki("service-accounts.pub"),
		"--service-account-signing-key-file=" + l.pki("service-accounts.key"),
		// kube-proxy does not rewrite Service addresses here, outside the nodes:
		// webhooks and aggregated APIs are called at their endpoints.
		"--enable-aggregator-routing=true",
		"--profiling=false",
	}
}

func controllerManagerCommand(l layout) []string {
	kubeconfig := l.pki("kube-controller-manager.kubeconfig")
	return []string{
		l.bin("kube-controller-manager"),
		"--kubeconfig=" + kubeconfig,
		"--authentication-kubeconfig=" + kubeconfig,
		"--authorization-kubeconfig=" + kubeconfig,
		"--tls-cert-file=" + l.pki("kube-controller-manager.crt"),
		"--tls-private-key-file=" + l.pki("kube-controller-manager.key"),
		"--bind-address=" + controlAddress,
		"--secure-port=" + controllersPort,
		"--leader-elect=false",
		"--use-service-account-credentials=true",
		"--service-account-private-key-file=" + l.pki("service-accounts.key"),
		"--root-ca-file=" + l.pki("ca.crt"),
		"--cluster-signing-cert-file=" + l.pki("ca.crt"),
		"--cluster-signing-key-file=" + l.pki("ca.key"),
		"--cluster-cidr=" + podCIDR,
		"--service-cluster-ip-range=" + serviceCIDR,
		// The default of 50 s would make every test of a lost node wait; the
		// kubelets report often enough for 20 s (see kubeletConfig).
		"--node-monitor-grace-period=20s",
		"--node-monitor-period=1s",
		"--kube-api-qps=200", "--kube-api-burst=400",
		"--flex-volume-plugin-dir=" + l.state("flexvolumes"),
	}
}

// corefile is what kubeadm installs, less the forwarding: what is not in the
// cluster does not exist. Answers about the cluster are not cached, as with
// kubeadm; a new pod's name resolves as soon as CoreDNS has seen it.
func corefile(l layout) string {
	return fmt.Sprintf(`.:53 {
    bind %s
    errors
    health %s
    ready %s
    kubernetes %s in-addr.arpa ip6.arpa {
        kubeconfig %s
        pods insecure
        fallthrough in-addr.arpa ip6.arpa
        ttl 30
    }
    template ANY ANY . {
        rcode NXDOMAIN
    }
    cache 30 {
        disable success %s
        disable denial %s
    }
}
`, bridgeAddress, dnsHealth, dnsReady, clusterDomain, l.pki("coredns.kubeconfig"), clusterDomain, clusterDomain)
}

func writeControlPlane(l layout) error {
	if err := os.WriteFile(l.state("Corefile"), []byte(corefile(l)), 0o644); err != nil {
		return fmt.Errorf("configuring DNS: %w", err)
	}
	return nil
}
