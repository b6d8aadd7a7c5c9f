package observe

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/etcd"
	"github.com/quorate/quorate/internal/pki"
	"github.com/quorate/quorate/internal/plan"
	"github.com/quorate/quorate/internal/resources"
)

// judgeTrust marks the members whose pods were made while others were to be trusted. One
// whose Secret does not hold the new ones yet would gain nothing from a restart.
func (seen certificatesSeen) judgeTrust(kube *kubernetes, members []plan.Member) {
	for i := range members {
		m := &members[i]
		m.Trust = seen.carried[m.Name]
		carried, known := seen.carried[m.Name]
		pod := kube.pod(m.Name)
		if pod == nil || seen.trust == pki.TrustUnknown {
			continue
		}
		m.TrustDiffers = pod.Annotations[v1alpha1.AnnotationTrust] != seen.trust
		m.TrustOutdated = m.TrustDiffers && known && carried == seen.trust
		m.PodOutdated = m.PodOutdated || m.TrustOutdated
	}
}

// authorities are how far the rotation of each authority is.
func (seen certificatesSeen) authorities() []plan.Authority {
	out := make([]plan.Authority, 0, len(seen.rotations))
	for _, r := range seen.rotations {
		out = append(out, plan.Authority{
			Secret: r.Secret, Phase: string(r.Phase), Ends: r.Ends, Since: r.Since, Until: r.Until,
			Waiting: r.Waiting, Message: r.Describe(),
		})
	}
	return out
}

// allTrust says that every member's pod was made with the authorities that it is to
// trust: before that it is too early to ask their processes.
func (k *kubernetes) allTrust(who pki.Ask) bool {
	if slices.ContainsFunc(who.Without, func(name string) bool {
		// Somebody deleted the Secret of one that runs: it has to be restarted as well.
		pod := k.pod(name)
		return pod != nil && pod.Status.Phase != corev1.PodPending && pod.Annotations[v1alpha1.AnnotationTrust] != who.Trust
	}) {
		return false
	}
	return !slices.ContainsFunc(who.Members, func(name string) bool {
		pod := k.pod(name)
		return pod == nil || pod.Annotations[v1alpha1.AnnotationTrust] != who.Trust
	})
}

// Greet asks members, as they were reached in the last look, what they show.
func (o *Observer) Greet(ctx context.Context, c *v1alpha1.EtcdCluster, who pki.Ask) map[string]pki.Shown {
	o.mu.Lock()
	m, ok := o.memory[types.NamespacedName{Namespace: c.Namespace, Name: c.Name}]
	var endpoints map[string]etcd.Endpoint
	if ok && m.uid == c.UID {
		endpoints = m.reach.endpoints
	}
	o.mu.Unlock()
	return o.greet(ctx, endpoints, who)
}

// greet shakes hands with both ports of each member, all at once. A member that cannot
// be reached shows nothing.
func (o *Observer) greet(ctx context.Context, endpoints map[string]etcd.Endpoint, who pki.Ask) map[string]pki.Shown {
	if o.Greeter == nil {
		return nil
	}
	var (
		mu  sync.Mutex
		wg  sync.WaitGroup
		out = map[string]pki.Shown{}
	)
	for _, name := range who.Members {
		client, known := endpoints[name]
		host, _, err := net.SplitHostPort(client.Address)
		if !known || err != nil || client.Plaintext {
			continue
		}
		wg.Go(func() {
			atClient, err := o.Greeter.Greet(ctx, client, who.ClientCA)
			if err != nil {
				return
			}
			atPeer, err := o.greetPeer(ctx, host, client.ServerName, who.PeerCA)
			if err != nil {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			out[name] = pki.Shown{Client: pki.Port(atClient), Peer: pki.Port(atPeer)}
		})
	}
	wg.Wait()
	return out
}

// greetPeer shakes hands with the peer port that takes TLS. It is the other one in a pod
// that was made while members were reached in plaintext; one of an older release has no
// other one.
func (o *Observer) greetPeer(ctx context.Context, host, server string, ca []byte) (shown etcd.Shown, err error) {
	for _, port := range []int{resources.PeerPort, resources.TurnedPeerPort} {
		peer := etcd.Endpoint{Address: net.JoinHostPort(host, strconv.Itoa(port)), ServerName: server}
		if shown, err = o.Greeter.Greet(ctx, peer, ca); err == nil {
			return shown, nil
		}
	}
	return shown, fmt.Errorf("greeting the peer port of %s: %w", server, err)
}
