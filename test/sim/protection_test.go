package sim

import (
	"time"

	"github.com/quorate/quorate/api/v1alpha1"
)

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
