package sim

import (
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/etcd/etcdtest"
	"github.com/quorate/quorate/internal/resources"
	"github.com/quorate/quorate/internal/snapshot"
)

// Namespace of the cluster.
const Namespace = "default"

// World is a Kubernetes with one EtcdCluster in it.
type World struct {
	Clock *clocktesting.FakeClock
	API   *Server
	Etcd  *etcdtest.World
	// Key of the cluster.
	Key types.NamespacedName
	// Hook is asked before and after every call of an operator.
	Hook Hook
	// OnPass is asked before every pass; it has its number by then.
	OnPass func(op *Operator)
	// Quantum is how often Kubernetes does something.
	Quantum time.Duration
	// Installation that operators are started of.
	Installation string
	// ReplaceAfter is how soon another operator starts when the last one has
	// died; zero for never.
	ReplaceAfter time.Duration
	// StartDelay is how long a pod takes from its node to its container, by the
	// pod's name.
	StartDelay func(pod string) time.Duration
	// Deaf members never hear of their peers once they have started.
	Deaf map[string]bool
	// Portable volumes go with their pod to any node, once their own is out of
	// service or gone.
	Portable bool
	// Rejects says which pods the kubelet refuses; nil for none.
	Rejects func(pod string) bool
	// Crashes has the end of each start of a member's etcd, whatever its data.
	Crashes map[string]corev1.ContainerStateTerminated
	// Unreadable are backups, by their ID in the store, that no Job can read, and why.
	Unreadable map[string]snapshot.Reason
	// BadImages cannot be pulled.
	BadImages map[string]bool

	operators []*Operator
	nodes     machines
	check     *checker
	// parking is closed when the running pass is parked.
	parking chan struct{}

	// beat is when Kubernetes does something next, lastBeat when it did, and
	// lastChange how many changes there were then.
	beat, lastBeat time.Time
	lastChange     int
	application    application
	// plans are what the world does at its own times.
	plans []plannedAct
	// puts are the user's writes so far, of mostPuts; nextPut is when the next one is
	// due.
	puts     int
	mostPuts int
	nextPut  time.Time
	passes   int
	// disks of the members that measure theirs.
	disks map[string]*disk

	mu     sync.Mutex
	counts map[string]int
	calls  []CallSeen
	notes  []note
}

type plannedAct struct {
	at time.Time
	do func()
}

type note struct {
	at     time.Time
	format string
	args   []any
}

// New returns a world with three nodes, a default storage class and no operator.
func New() *World {
	start := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	clock := clocktesting.NewFakeClock(start)
	w := &World{
		Clock: clock, API: newServer(clock.Now), Etcd: etcdtest.NewWorld(clock.Now),
		Key:     types.NamespacedName{Namespace: Namespace, Name: "c"},
		Quantum: 100 * time.Millisecond, BadImages: map[string]bool{}, Unreadable: map[string]snapshot.Reason{}, Deaf: map[string]bool{},
		Installation: "quorate-system/quorate-operator",
		counts:       map[string]int{}, beat: start, mostPuts: 8,
	}
	w.StartDelay = w.oneAfterTheOther
	w.nodes = newMachines(w)
	w.check = newChecker(w)
	for _, name := range []string{"node-1", "node-2", "node-3"} {
		w.must(w.API.Create(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}))
		w.SetNodeReady(name, corev1.ConditionTrue)
	}
	w.must(w.API.Create(&storagev1.StorageClass{
		ObjectMeta:  metav1.ObjectMeta{Name: "standard", Annotations: map[string]string{"storageclass.kubernetes.io/is-default-class": "true"}},
		Provisioner: "sim", AllowVolumeExpansion: new(true),
	}))
	w.must(w.API.Create(&storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: "fast"}, Provisioner: "sim"}))
	return w
}

// oneAfterTheOther lets pods start in the order of their ordinals, so that a
// run passes through every number of running members.
func (w *World) oneAfterTheOther(pod string) time.Duration {
	n, _ := resources.Ordinal(w.Key.Name, pod)
	return time.Duration(n%8) * w.Quantum
}

// must is for what the simulator does to its own world.
func (w *World) must(err error) {
	if err != nil {
		panic(fmt.Sprintf("the simulator's own world refuses: %v", err))
	}
}

// note keeps a line of the run's log, unformatted.
func (w *World) note(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.notes = append(w.notes, note{w.Clock.Now(), format, args})
}

// Notes are the last lines of the run's log.
func (w *World) Notes(most int) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var text []byte
	first := w.notes[0].at
	for _, n := range w.notes[max(0, len(w.notes)-most):] {
		text = fmt.Appendf(text, "%9.3fs ", n.at.Sub(first).Seconds())
		text = fmt.Appendf(text, n.format+"\n", n.args...)
	}
	return string(text)
}

// StartOperator starts an operator; numbers count from 1.
func (w *World) StartOperator() *Operator {
	op := newOperator(w, len(w.operators)+1)
	w.operators = append(w.operators, op)
	w.note("operator %d starts", op.number)
	return op
}

// Operator is the one that was started last.
func (w *World) Operator() *Operator { return w.operators[len(w.operators)-1] }

// Apply creates the cluster with the spec, or edits it, as a user does.
func (w *World) Apply(mutate func(*v1alpha1.EtcdClusterSpec)) {
	c := w.Cluster()
	if c == nil {
		c = &v1alpha1.EtcdCluster{ObjectMeta: metav1.ObjectMeta{Namespace: w.Key.Namespace, Name: w.Key.Name}}
		// As the API server does; a medium of no name would be another one in a pod's hash.
		c.Spec.Storage.Medium = v1alpha1.MediumDisk
		mutate(&c.Spec)
		w.note("the user creates the cluster")
		w.must(w.API.Create(c))
		return
	}
	mutate(&c.Spec)
	w.note("the user edits the cluster")
	w.must(w.API.Update(c))
}

// Cluster as the API server holds it; nil when there is none.
func (w *World) Cluster() *v1alpha1.EtcdCluster {
	c := &v1alpha1.EtcdCluster{}
	if get(w.API.objects, w.Key, c) != nil {
		return nil
	}
	return c
}

// Claim and Pod of a member; nil when there is none.
func (w *World) Claim(member string) *corev1.PersistentVolumeClaim {
	claim, _ := w.API.find("PersistentVolumeClaim", types.NamespacedName{Namespace: w.Key.Namespace, Name: "data-" + member}).(*corev1.PersistentVolumeClaim)
	return claim
}

// Pod of a member; nil when there is none.
func (w *World) Pod(member string) *corev1.Pod {
	pod, _ := w.API.find("Pod", types.NamespacedName{Namespace: w.Key.Namespace, Name: member}).(*corev1.Pod)
	return pod
}

// Delete an object as a user does; nil is deleted already.
func (w *World) Delete(o client.Object) {
	w.note("the user deletes %s %s", kindOf(o), o.GetName())
	if err := w.API.Delete(o, client.DeleteOptions{}); client.IgnoreNotFound(err) != nil {
		w.must(err)
	}
}

// LoseStatus empties the cluster's status, past the rules of the API.
func (w *World) LoseStatus() {
	w.note("status is lost")
	w.check.statusLost = true
	edit(w.API, w.Cluster(), func(c *v1alpha1.EtcdCluster) {
		c.Status = v1alpha1.EtcdClusterStatus{ObservedGeneration: -1}
	})
}

// Run lets the world go on until the condition holds, and says whether it came
// to that within the time of the world's own clock.
func (w *World) Run(until func() bool, atMost time.Duration) bool {
	end := w.Clock.Now().Add(atMost)
	for !until() {
		if !w.Clock.Now().Before(end) {
			return false
		}
		if w.passes > mostPasses {
			w.check.violate("passes", "more than %d passes", mostPasses)
			return false
		}
		w.Step()
	}
	return true
}

// mostPasses of a run: an operator that needs more goes round in circles.
const mostPasses = 5000

// For lets the world go on for a time of its own clock.
func (w *World) For(d time.Duration) {
	end := w.Clock.Now().Add(d)
	w.Run(func() bool { return !w.Clock.Now().Before(end) }, d+time.Hour)
}

// Step does the next thing: a pass of the operator that is due first, or what
// Kubernetes has to do, or the clock moves on.
func (w *World) Step() {
	now := w.Clock.Now()
	w.act(now)
	w.replace(now)
	for i := range w.operators {
		// They take turns, so that none of two that are due waits for ever.
		op := w.operators[(i+w.passes)%len(w.operators)]
		op.hear()
		if op.wants(now) {
			w.pass(op)
			return
		}
	}
	if now.Before(w.beat) {
		w.advance()
		return
	}
	w.Beat()
}

// busy says that something is planned, or an operator is to be replaced.
func (w *World) busy() bool {
	for _, p := range w.plans {
		if p.do != nil {
			return true
		}
	}
	return w.ReplaceAfter > 0 && w.Operator().dead.Load()
}

// replace starts another operator when the last one has been dead for long
// enough.
func (w *World) replace(now time.Time) {
	if w.ReplaceAfter == 0 || len(w.operators) == 0 {
		return
	}
	switch last := w.Operator(); {
	case !last.dead.Load():
	case last.due.IsZero() || last.due.Before(last.started.Add(w.ReplaceAfter)):
		last.due = now.Add(w.ReplaceAfter)
	case !now.Before(last.due):
		w.StartOperator()
	}
}

// wants says that the operator is alive and its next pass is due.
func (op *Operator) wants(now time.Time) bool {
	return !op.dead.Load() && op.parked == nil && !op.due.IsZero() && !op.due.After(now)
}

// pass runs a pass until it ends or is parked.
func (w *World) pass(op *Operator) {
	done := make(chan struct{})
	w.parking = make(chan struct{})
	go func() {
		defer close(done)
		op.Pass()
	}()
	select {
	case <-done:
	case <-w.parking:
		op.parked = done
	}
}

// Park holds the operator up in the middle of its pass, from within a hook, until
// Resume.
func (w *World) Park(op *Operator) {
	w.note("operator %d is held up", op.number)
	op.resume = make(chan struct{})
	op.heldUp = true
	close(w.parking)
	<-op.resume
}

// Resume lets a parked operator finish its pass.
func (w *World) Resume(op *Operator) {
	w.note("operator %d goes on", op.number)
	close(op.resume)
	<-op.parked
	op.parked = nil
}

// Beat has Kubernetes, etcd and the user do what they have to do.
func (w *World) Beat() {
	changed := w.nodes.work()
	w.put()
	w.reads()
	w.Etcd.Tick()
	w.check.always()
	w.lastBeat, w.lastChange = w.Clock.Now(), len(w.API.changes)
	w.beat = w.lastBeat.Add(w.Quantum)
	if !changed {
		// Nothing happens by itself before the next timer.
		w.beat = w.nodes.nextTimer(w.lastBeat.Add(time.Second))
	}
}

// After has the world do something at a later time of its clock.
func (w *World) After(d time.Duration, do func()) {
	w.plans = append(w.plans, plannedAct{w.Clock.Now().Add(d), do})
}

// act does what is planned for now.
func (w *World) act(now time.Time) {
	for i, p := range w.plans {
		if p.do != nil && !p.at.After(now) {
			w.plans[i].do = nil
			p.do()
		}
	}
}

// advance moves the clock to what comes next.
func (w *World) advance() {
	if next := w.lastBeat.Add(w.Quantum); len(w.API.changes) > w.lastChange && next.Before(w.beat) {
		// Somebody wrote since Kubernetes last looked.
		w.beat = next
	}
	next := w.beat
	for _, p := range w.plans {
		if p.do != nil && p.at.Before(next) {
			next = p.at
		}
	}
	for _, op := range w.operators {
		if !op.dead.Load() && op.parked == nil && !op.due.IsZero() && op.due.Before(next) {
			next = op.due
		}
	}
	if next.After(w.Clock.Now()) {
		w.Clock.SetTime(next)
	}
}

// wake lets Kubernetes see at once what was done to the world from outside.
func (w *World) wake() { w.beat = w.Clock.Now() }

// put writes a value now and then, through any member that serves: what is
// acknowledged must never be lost, the time before the latch included.
func (w *World) put() {
	now := w.Clock.Now()
	if w.puts == w.mostPuts || now.Before(w.nextPut) {
		return
	}
	for _, run := range w.nodes.running() {
		if !w.Etcd.Ready(run.process) {
			continue
		}
		if err := w.Etcd.Put(run.process, fmt.Sprintf("value %d", w.puts)); err == nil {
			w.puts++
			w.nextPut = now.Add(time.Second)
			return
		}
	}
}

// Healthy says that the cluster is Ready, of its present generation, and that
// every operator alive has nothing to do.
func (w *World) Healthy() bool {
	c := w.Cluster()
	return c != nil && c.Status.ObservedGeneration == c.Generation && conditionTrue(c, v1alpha1.ConditionReady) &&
		w.resting() && w.readyPods() == len(c.Status.Members) && w.check.difference(c) == "" && !w.leaving()
}

// leaving says that a pod is on its way out that can go.
func (w *World) leaving() bool {
	for _, o := range w.API.all("Pod") {
		if o.GetDeletionTimestamp() != nil && w.nodes.nodeReady(o.(*corev1.Pod).Spec.NodeName) {
			return true
		}
	}
	return false
}

// readyPods counts the pods that are ready and stay.
func (w *World) readyPods() int {
	n := 0
	for _, o := range w.API.all("Pod") {
		if podReady(o.(*corev1.Pod)) && o.GetDeletionTimestamp() == nil {
			n++
		}
	}
	return n
}

func (w *World) resting() bool {
	for _, op := range w.operators {
		if !op.dead.Load() && op.parked == nil && !op.Resting() {
			return false
		}
	}
	return true
}

func conditionTrue(c *v1alpha1.EtcdCluster, kind string) bool {
	for _, condition := range c.Status.Conditions {
		if condition.Type == kind {
			return condition.Status == metav1.ConditionTrue
		}
	}
	return false
}
