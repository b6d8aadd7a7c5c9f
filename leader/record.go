package leader

import (
	"maps"
	"strconv"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

// SessionAnnotation on a Lease says which process of its holder's identity wrote it
// last, and in which of its terms: two pods may bear one name.
const SessionAnnotation = "leader.quorate.dev/session"

// holder of the Lease; empty for nobody.
func holder(l *coordinationv1.Lease) string {
	if l == nil {
		return ""
	}
	return ptr.Deref(l.Spec.HolderIdentity, "")
}

// promised is for how long after its last change the Lease is its holder's.
func promised(l *coordinationv1.Lease) time.Duration {
	if l == nil {
		return 0
	}
	return time.Duration(ptr.Deref(l.Spec.LeaseDurationSeconds, 0)) * time.Second
}

func transitions(l *coordinationv1.Lease) int32 {
	if l == nil {
		return 0
	}
	return ptr.Deref(l.Spec.LeaseTransitions, 0)
}

// released says that the last holder gave the Lease up by itself, as this package and
// client-go do: nobody holds it, for one second. One that somebody emptied by hand
// keeps its duration, and its holder may not have heard of it.
func released(l *coordinationv1.Lease) bool {
	return l != nil && holder(l) == "" && promised(l) == time.Second
}

// sameRecord says that nothing of an election differs; what else was edited does not
// matter.
func sameRecord(a, b *coordinationv1.Lease) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.UID == b.UID && equality.Semantic.DeepEqual(a.Spec, b.Spec)
}

// revision is the Lease's resourceVersion as a number, which grows with every write
// (KEP-5504); false for one that is none.
func revision(l *coordinationv1.Lease) (uint64, bool) {
	n, err := strconv.ParseUint(l.ResourceVersion, 10, 64)
	return n, err == nil
}

// written is the Lease as a candidate writes it, built on the one it has seen so that
// labels and owners stay; nil for none.
func written(seen *coordinationv1.Lease, namespace, name string, spec coordinationv1.LeaseSpec, session string) *coordinationv1.Lease {
	lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	if seen != nil {
		lease = seen.DeepCopy()
	}
	lease.Annotations = maps.Clone(lease.Annotations)
	if lease.Annotations == nil {
		lease.Annotations = map[string]string{}
	}
	lease.Annotations[SessionAnnotation] = session
	// What client-go does not know of stays as it is.
	spec.Strategy, spec.PreferredHolder = lease.Spec.Strategy, lease.Spec.PreferredHolder
	lease.Spec = spec
	return lease
}
