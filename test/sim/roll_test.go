package sim

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/quorate/quorate/api/v1alpha1"
)

// wants changes what pods are made from.
func wants(edit func(*v1alpha1.EtcdClusterSpec)) func(*World) {
	return func(w *World) { w.Apply(edit) }
}

func version(v string) func(*v1alpha1.EtcdClusterSpec) {
	return func(s *v1alpha1.EtcdClusterSpec) { s.Version = v }
}

func snapshotCount(n int64) func(*v1alpha1.EtcdClusterSpec) {
	return func(s *v1alpha1.EtcdClusterSpec) { s.Etcd.SnapshotCount = n }
}

func downgrade(s *v1alpha1.EtcdClusterSpec) {
	s.Version, s.Update.DowngradeTo = "3.6.16", "3.6"
}

// rolls are the workflows in which members are restarted by choice.
func rolls() []workflow {
	three, one := founded(spec(3, plaintext)), founded(spec(1, plaintext))
	const absent = "3.6.99"
	return []workflow{
		{name: "rolling an option through three", faults: true, shared: true, before: three, begin: wants(snapshotCount(20000))},
		{name: "rolling an option through one", shared: true, before: one, begin: wants(snapshotCount(20000))},
		{name: "rolling an option through five with TLS", long: true, before: founded(spec(5)), begin: wants(snapshotCount(20000))},
		{name: "upgrading three", before: three, begin: wants(version("3.7.3"))},
		{name: "upgrading and changing one's mind", end: (*World).Shape, long: true, shared: true, before: three, begin: func(w *World) {
			w.Apply(version("3.7.3"))
			w.After(4*time.Second, func() { w.Apply(version("3.6.16")) })
		}},
		{name: "upgrading to an image that is not there, and back", long: true, before: three, begin: func(w *World) {
			w.BadImages["quay.io/coreos/etcd:v"+absent] = true
			w.Apply(version(absent))
			w.After(time.Minute, func() { w.Apply(version("3.6.16")) })
		}},
		{name: "rolling while a member is lost", end: (*World).Shape, long: true, before: three, begin: func(w *World) {
			w.Apply(snapshotCount(20000))
			w.After(4*time.Second, func() { lose("c-0001")(w) })
		}},
		{name: "rolling while a member does not answer the operator", before: three, begin: func(w *World) {
			w.Unreachable("c-0001", time.Minute)
			w.Apply(snapshotCount(20000))
		}},
		{name: "giving three more memory", faults: true, shared: true, before: three, begin: wants(func(s *v1alpha1.EtcdClusterSpec) {
			s.PodTemplate.Resources = &corev1.ResourceRequirements{Limits: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("8Gi")}}
		})},
		{name: "growing three volumes and their quota", faults: true, shared: true, before: three, begin: wants(func(s *v1alpha1.EtcdClusterSpec) {
			s.Storage.Size, s.Etcd.QuotaBackendBytes = resource.MustParse("16Gi"), resource.MustParse("8Gi")
		})},
		{name: "changing the class of three volumes", end: (*World).Shape, long: true, shared: true, before: three, begin: wants(class("fast"))},
		{name: "rolling three in memory", end: (*World).Shape, long: true, before: founded(spec(3, plaintext, inMemory)), begin: wants(snapshotCount(20000))},
		{name: "replacing three volumes by memory", end: (*World).Shape, long: true, shared: true, before: three, begin: wants(inMemory)},
		{name: "replacing memory by three volumes", end: (*World).Shape, long: true, shared: true, before: founded(spec(3, plaintext, inMemory)), begin: wants(onDisk)},
		{name: "replacing one volume by memory", faults: true, end: (*World).Shape, before: one, begin: wants(inMemory)},
		{name: "replacing memory by one volume", faults: true, end: (*World).Shape, before: founded(spec(1, plaintext, inMemory)), begin: wants(onDisk)},
		{name: "replacing volumes by memory and changing one's mind", end: (*World).Shape, long: true, before: three, begin: func(w *World) {
			w.Apply(inMemory)
			w.After(12*time.Second, func() { w.Apply(onDisk) })
		}},
		{name: "replacing volumes by memory while a member is lost", end: (*World).Shape, long: true, before: three, begin: func(w *World) {
			w.Apply(inMemory)
			w.After(5*time.Second, func() { lose("c-0001")(w) })
		}},
		{name: "changing the class of one volume", end: (*World).Shape, before: one, begin: wants(class("fast"))},
		{name: "downgrading three", shared: true, before: founded(spec(3, plaintext, version("3.7.3"))), begin: wants(downgrade)},
		{name: "downgrading and changing one's mind", end: (*World).Shape, long: true, before: founded(spec(3, plaintext, version("3.7.3"))), begin: func(w *World) {
			w.Apply(downgrade)
			w.After(5*time.Second, func() { w.Apply(version("3.7.3")) })
		}},
		{name: "downgrading while a member is lost", end: (*World).Shape, long: true, before: founded(spec(3, plaintext, version("3.7.3"))), begin: func(w *World) {
			w.Apply(downgrade)
			w.After(5*time.Second, func() { lose("c-0001")(w) })
		}},
		{name: "rolling and growing at once", end: (*World).Shape, long: true, before: three, begin: func(w *World) {
			w.Apply(snapshotCount(20000))
			w.After(5*time.Second, func() { w.Apply(spec(5)) })
		}},
	}
}

// rotations replace the authorities of a cluster.
func rotations() []workflow {
	brief := func(s *v1alpha1.EtcdClusterSpec) { s.TLS.RotationSoak = metav1.Duration{Duration: 30 * time.Second} }
	begin := func(w *World) {
		w.Apply(func(s *v1alpha1.EtcdClusterSpec) { s.TLS.RotateCA = w.Clock.Now().UTC().Format(time.RFC3339) })
	}
	over := func(w *World) bool {
		since, err := time.Parse(time.RFC3339, w.Cluster().Spec.TLS.RotateCA)
		return err == nil && rotated(w, since)
	}
	return []workflow{
		{name: "rotating the authorities of three", long: true, shared: true, before: founded(spec(3, brief)), begin: begin, done: over},
		{name: "rotating the authorities of one", before: founded(spec(1, brief)), begin: begin, done: over},
		{name: "rotating the authorities of three in memory", end: (*World).Shape, long: true, before: founded(spec(3, brief, inMemory)), begin: begin, done: over},
		{name: "rotating and growing at once", end: (*World).Shape, long: true, before: founded(spec(3, brief)), begin: func(w *World) {
			begin(w)
			w.After(20*time.Second, func() { w.Apply(spec(5)) })
		}, done: over},
		{name: "rotating while a member is lost", end: (*World).Shape, long: true, before: founded(spec(3, brief)), begin: func(w *World) {
			begin(w)
			w.After(50*time.Second, func() { lose("c-0001")(w) })
		}, done: over},
		{name: "rotating while members crash and one does not answer", long: true, before: founded(spec(3, brief)), begin: func(w *World) {
			w.Unreachable("c-0001", time.Minute)
			begin(w)
			w.After(70*time.Second, func() { w.Crash("c-0000") })
			w.After(90*time.Second, func() { w.Crash("c-0002") })
		}, done: over},
	}
}

// TestARollRestartsEachMemberOnce, one at a time, the leader last, and moves the
// leadership once.
func TestARollRestartsEachMemberOnce(t *testing.T) {
	for _, size := range []int32{1, 3, 5} {
		w := workflow{name: fmt.Sprintf("rolling %d", size), before: founded(spec(size, plaintext))}.start()
		leader, before := w.Leader(), map[string]string{}
		for _, o := range w.API.all("Pod") {
			before[o.GetName()] = string(o.GetUID())
		}
		w.calls = nil
		wants(version("3.7.3"))(w)
		if !w.Run(func() bool { return w.Healthy() && w.Cluster().Status.Version == "3.7.3" }, 3*time.Minute) {
			t.Fatalf("size %d: it does not end\n%s", size, w.Notes(80))
		}
		moves, deletions, last := 0, 0, ""
		for _, c := range w.calls {
			switch c.kind() {
			case "MoveLeader":
				moves++
			case "delete Pod", "evict Pod":
				deletions++
				last = c.Key
			}
		}
		if deletions != int(size) || (size > 1) != (moves == 1) || !strings.HasSuffix(last, fmt.Sprintf(" Pod %s #1", leader)) {
			t.Errorf("size %d: %d deletions, the last one %q, the leader was %s, it moved %d times", size, deletions, last, leader, moves)
		}
		for _, o := range w.API.all("Pod") {
			if before[o.GetName()] == string(o.GetUID()) {
				t.Errorf("size %d: %s was not made again", size, o.GetName())
			}
		}
		if v := w.Violations(); len(v) > 0 {
			t.Errorf("size %d: %v", size, v)
		}
	}
}
