package sim

import (
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/quorate/quorate/api/v1alpha1"
)

// ofAnOlderRelease is a cluster as a release left it that knew one peer port, and did not
// write down that members are reached in plaintext.
func ofAnOlderRelease(scheme string, mutate func(*v1alpha1.EtcdClusterSpec)) func(*World) {
	return func(w *World) {
		founded(mutate)(w)
		edit(w.API, w.Cluster(), func(c *v1alpha1.EtcdCluster) { c.Status.PlaintextPeers = false })
		for _, r := range w.nodes.running() {
			r.process.Flags.ListenPeers = []string{scheme + "://0.0.0.0:2380"}
			edit(w.API, w.Pod(r.process.Flags.Name), func(p *corev1.Pod) {
				command := p.Spec.Containers[0].Command
				i := slices.IndexFunc(command, func(argument string) bool { return strings.HasPrefix(argument, "--listen-peer-urls=") })
				command[i] = "--listen-peer-urls=" + r.process.Flags.ListenPeers[0]
			})
		}
	}
}

// protections turn TLS on for a cluster without, as users do: first for whoever wants it,
// then for all.
func protections() []workflow {
	mode := func(m v1alpha1.TLSMode) func(*v1alpha1.EtcdClusterSpec) {
		return func(s *v1alpha1.EtcdClusterSpec) { s.TLS.Mode = m }
	}
	begin := func(between time.Duration, more func(w *World)) func(w *World) {
		return func(w *World) {
			w.Apply(mode(v1alpha1.TLSOptional))
			w.After(between, func() { w.Apply(mode(v1alpha1.TLSEnabled)) })
			if more != nil {
				more(w)
			}
		}
	}
	three := founded(spec(3, plaintext))
	return []workflow{
		{name: "turning TLS on for three", faults: true, shared: true, long: true, end: (*World).Shape, before: three, begin: begin(90*time.Second, nil), done: protectedAlone},
		{name: "turning TLS on at a stroke", long: true, end: (*World).Shape, before: three, begin: begin(2*time.Second, nil), done: protectedAlone},
		{name: "turning TLS on for three of an older release", long: true, end: (*World).Shape, before: ofAnOlderRelease("http", spec(3, plaintext)), begin: begin(90*time.Second, nil), done: protectedAlone},
		{name: "losing all pods of an older release", long: true, end: (*World).Shape, before: ofAnOlderRelease("http", spec(3, plaintext)), begin: func(w *World) {
			deletePods("c-0000")(w)
			w.After(40*time.Second, func() { deletePods("c-0000", "c-0001", "c-0002")(w) })
		}},
		{name: "losing a member of an older release", long: true, end: (*World).Shape, before: ofAnOlderRelease("https", spec(3)), begin: lose("c-0001")},
		{name: "turning TLS on for one", end: (*World).Shape, before: founded(spec(1, plaintext)), begin: begin(30*time.Second, nil), done: protectedAlone},
		{name: "turning TLS on in memory", long: true, end: (*World).Shape, before: founded(spec(3, plaintext, inMemory)), begin: begin(90*time.Second, nil), done: protectedAlone},
		{name: "turning TLS on while a member is lost", long: true, end: (*World).Shape, before: three, begin: begin(60*time.Second, func(w *World) {
			w.After(8*time.Second, func() { lose("c-0001")(w) })
		}), done: protectedAlone},
		{name: "turning TLS on and growing", long: true, end: (*World).Shape, before: three, begin: begin(60*time.Second, func(w *World) {
			w.After(time.Second, func() { w.Apply(spec(5)) })
		}), done: protectedAlone},
		{name: "turning TLS on while all pods are deleted", long: true, end: (*World).Shape, before: three, begin: begin(10*time.Second, func(w *World) {
			w.After(14*time.Second, func() { deletePods("c-0000", "c-0001", "c-0002")(w) })
		}), done: protectedAlone},
		{name: "taking plaintext back in", long: true, end: (*World).Shape, before: founded(spec(3)), begin: wants(mode(v1alpha1.TLSOptional))},
	}
}
