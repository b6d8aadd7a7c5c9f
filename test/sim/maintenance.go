package sim

import (
	"context"
	"strconv"

	corev1 "k8s.io/api/core/v1"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/etcd"
	"github.com/quorate/quorate/internal/etcd/etcdtest"
	"github.com/quorate/quorate/internal/resources"
)

// Fill the databases of all members.
func (w *World) Fill(d etcdtest.Database) {
	w.note("the databases have %d live, %d old and %d free bytes", d.Live, d.Old, d.Free)
	w.Etcd.Fill(w.nodes.running()[0].process, d)
}

// Databases of the members that run, by name.
func (w *World) Databases() map[string]etcdtest.Database {
	out := map[string]etcdtest.Database{}
	for _, r := range w.nodes.running() {
		out[r.process.Flags.Name] = w.Etcd.Database(r.process)
	}
	return out
}

// process of a member; nil if none runs.
func (w *World) process(member string) *etcdtest.Process {
	for _, r := range w.nodes.running() {
		if r.process.Flags.Name == member {
			return r.process
		}
	}
	return nil
}

// Diverge has the data of a member differ from that of the others; etcd notices, as it
// does when history is discarded, or it does not.
func (w *World) Diverge(member string) { w.Etcd.Diverge(w.process(member).Volume) }

// Notice has etcd raise CORRUPT on a member.
func (w *World) Notice(member string) { w.Etcd.Raise(w.process(member), etcd.AlarmCorrupt) }

// Alarms that are active.
func (w *World) Alarms() []etcd.Alarm {
	conn := w.Etcdctl()
	if conn == nil {
		return nil
	}
	alarms, err := conn.Alarms(context.Background())
	w.must(err)
	return alarms
}

// compacts: nothing is discarded that the user wants to keep.
func (k *checker) compacts(revision int64) {
	keep, err := strconv.ParseInt(k.w.Cluster().Spec.Etcd.AutoCompaction.Retention, 10, 64)
	s, failed := k.w.Etcdctl().Status(context.Background())
	if err != nil || failed != nil || revision > s.Revision-keep {
		k.violate("history", "revision %d of %d is discarded, and the user keeps %d", revision, s.Revision, keep)
	}
}

// defragments: whoever stands still does not lead, and all others serve. An operator that
// was held up since it looked cannot be kept from it; that costs time, and no data.
func (k *checker) defragments(op *Operator, member string) {
	c := k.w.Cluster()
	if c == nil || op.heldUp {
		return
	}
	healthy, voters, names := k.healthyVoters(c)
	if names[member] {
		healthy--
	}
	if healthy < voters-1 {
		k.violate("I2", "%s is defragmented, and of %d others %d are healthy", member, voters-1, healthy)
	}
	if voters > 1 && k.w.Leader() == member {
		k.violate("leader", "%s is defragmented while it leads", member)
	}
}

// disarms: every database has room, or those whose data differed are gone.
func (k *checker) disarms(a etcd.Alarm) {
	for _, r := range k.w.nodes.running() {
		s := r.process.Flags.Quota
		d := k.w.Etcd.Database(r.process)
		if size := d.Live + d.Old + d.Free; a.Kind == etcd.AlarmNoSpace && size >= s/10*9 {
			k.violate("room", "NOSPACE is disarmed, and %s has %d of %d bytes", r.process.Flags.Name, size, s)
		}
		if a.Kind == etcd.AlarmCorrupt && k.w.Etcd.Diverged(r.process) && k.votes(r.process.Flags.Name) {
			k.violate("data", "CORRUPT is disarmed, and the data of %s differs", r.process.Flags.Name)
		}
	}
}

// votes says that etcd lists the member as a voter.
func (k *checker) votes(name string) bool {
	c := k.w.Cluster()
	truth, _ := k.w.Etcd.Truth(resources.Token(c))
	for _, m := range truth.Members {
		if nameOf(c, truth, m.ID) == name && !m.Learner {
			return true
		}
	}
	return false
}

// condemned: nobody's data is given up that is right.
func (k *checker) condemned(claim, live *corev1.PersistentVolumeClaim) {
	p := k.w.process(live.Labels[v1alpha1.LabelMember])
	given := claim.Annotations[v1alpha1.AnnotationRefused] != "" && live.Annotations[v1alpha1.AnnotationRefused] == ""
	if given && p != nil && !k.w.Etcd.Diverged(p) {
		k.suspect("data", "the data of %s is given up, and it is that of the others", p.Flags.Name)
	}
}

// Compared says that status tells what a first comparison of the data has found, or that
// there is nothing to compare.
func (w *World) Compared() bool {
	c := w.Cluster()
	return c == nil || c.Spec.Size == 1 || conditionTrue(c, v1alpha1.ConditionDataConsistent)
}

// Pods are the UIDs of the pods by name.
func (w *World) Pods() map[string]string {
	out := map[string]string{}
	for _, o := range w.API.all("Pod") {
		out[o.GetName()] = string(o.GetUID())
	}
	return out
}
