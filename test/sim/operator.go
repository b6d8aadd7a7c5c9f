package sim

import (
	"context"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/controllers"
	"github.com/quorate/quorate/internal/observe"
	"github.com/quorate/quorate/internal/perform"
	"github.com/quorate/quorate/internal/resources"
)

// The work queue of the controller: how soon a failed pass is tried again.
const (
	firstRetry = 50 * time.Millisecond
	lastRetry  = 10 * time.Second
)

// Operator is a process of the operator: the real reconciler with fresh memory,
// caches of its own and a queue.
type Operator struct {
	w          *World
	number     int
	dead       atomic.Bool
	reconciler *controllers.EtcdClusterReconciler
	cache      *cache
	// started is when it started, due when it wants its next pass; zero for
	// never.
	started, due time.Time
	failures     int
	// lastRead is when a linearizable read of its last succeeded.
	lastRead time.Time
	// proposed and relisted say that in this pass a proposal of its went through,
	// and that it has read the member list after that.
	proposed, relisted bool
	// heldUp says that this pass was parked: a creation, which cannot depend on
	// what was read before, may come late and has to be undone then.
	heldUp bool
	// late says that the write that it makes was held up on its way: nothing that
	// an operator reads before it can keep it from that.
	late bool
	// parked is closed when the pass that is held up has ended, resume lets it
	// go on.
	parked, resume chan struct{}
	// hindered says that the world keeps it from reporting what it knows.
	hindered bool
	// releasedAt is when it was hindered last.
	releasedAt time.Time
	// passes it has finished, writes it has made, statusWrites of this pass.
	passes, writes, statusWrites int
	// result and err of the last pass.
	result ctrl.Result
	err    error
}

func newOperator(w *World, number int) *Operator {
	op := &Operator{w: w, number: number, started: w.Clock.Now(), due: w.Clock.Now(), cache: newCache(w.API)}
	c, live := apiClient{op}, liveReader{op}
	op.reconciler = &controllers.EtcdClusterReconciler{
		Client: c, Live: live, Recorder: recorder{op}, Installation: w.Installation,
		Observer: &observe.Observer{
			Cached: c, Live: live, Cluster: c, Restores: c, Dialer: dialer{op}, Greeter: dialer{op}, Meter: dialer{op}, Clock: w.Clock,
			Operator: resources.OperatorPeer{Namespace: "quorate-system"},
		},
		Performer: &perform.Performer{
			Writer: c, Live: live, Nodes: live, Clock: w.Clock, GuardImage: "member", BackupImage: "backup",
			Operator: resources.OperatorPeer{Namespace: "quorate-system"},
			// Time stands still while an operator works.
			Chores: &perform.Chores{Clock: w.Clock, Go: func(do func()) { do() }},
		},
	}
	op.reconciler.Performer.Etcd = op.reconciler.Observer
	return op
}

// Kill ends the operator: from now on no call of it has an effect.
func (op *Operator) Kill() {
	op.dead.Store(true)
	op.w.check.disturbed()
	op.w.note("operator %d is killed", op.number)
}

// Pass runs one pass over the cluster, if the operator is alive.
func (op *Operator) Pass() {
	w := op.w
	if op.dead.Load() {
		return
	}
	w.passes++
	op.due, op.statusWrites = time.Time{}, 0
	if w.OnPass != nil {
		w.OnPass(op)
	}
	if op.dead.Load() {
		return
	}
	w.check.beforePass(op)
	ctx := log.IntoContext(context.Background(), w.logger(op))
	result, err := op.reconciler.Reconcile(ctx, ctrl.Request{NamespacedName: w.Key})
	w.note("operator %d: pass %d: %v %v", op.number, w.passes, result.RequeueAfter, err)
	if op.dead.Load() {
		return
	}
	op.passes++
	op.result, op.err = result, err
	op.queue(result, err)
	w.check.afterPass(op)
}

func (op *Operator) queue(result ctrl.Result, err error) {
	now := op.w.Clock.Now()
	switch {
	case err != nil:
		op.due = now.Add(min(lastRetry, firstRetry<<min(op.failures, 20)))
		op.failures++
	case result.RequeueAfter > 0:
		op.due, op.failures = now.Add(result.RequeueAfter), 0
	default:
		op.failures = 0
	}
	// Its own writes may have been heard of meanwhile.
	op.hear()
}

// Resting says that the last pass found nothing to do and nothing to wait for:
// those look again sooner.
func (op *Operator) Resting() bool {
	const sooner = 2 * time.Second
	return op.passes > 0 && op.err == nil && op.result.RequeueAfter > sooner
}

// hear brings the caches up to date, as far as they are let, and wakes the
// operator for what it watches.
func (op *Operator) hear() { op.wake(op.cache.hear()) }

func (op *Operator) wake(news []change) {
	for _, c := range news {
		if op.watches(c) && (op.due.IsZero() || op.due.After(op.w.Clock.Now())) {
			op.due = op.w.Clock.Now()
		}
	}
}

// watches says whether the change wakes the operator: the predicates and
// handlers of SetupWithManager.
func (op *Operator) watches(c change) bool {
	chosen := c.after
	if chosen == nil {
		chosen = c.before
	}
	switch o := chosen.(type) {
	case *v1alpha1.EtcdCluster:
		return c.before == nil || c.after == nil || c.before.GetGeneration() != c.after.GetGeneration() ||
			!maps.Equal(c.before.GetAnnotations(), c.after.GetAnnotations())
	case *corev1.PersistentVolumeClaim:
		return o.Labels[v1alpha1.LabelCluster] == op.w.Key.Name
	case *corev1.Node:
		if c.before == nil || c.after == nil {
			return c.after == nil
		}
		before := c.before.(*corev1.Node)
		return nodeReady(before) != nodeReady(o) || len(before.Spec.Taints) != len(o.Spec.Taints)
	case *v1alpha1.EtcdRestore:
		return o.Spec.ClusterRef.Name == op.w.Key.Name
	case *corev1.Secret, *batchv1.Job:
		return false
	default:
		owner := metav1.GetControllerOf(chosen)
		return owner != nil && owner.Name == op.w.Key.Name
	}
}

// HoldBack keeps the changes of the kinds from the operator's caches until
// Release.
func (op *Operator) HoldBack(kinds ...string) { op.lag(1<<30, kinds) }

// Lag keeps the caches of the kinds that many changes behind.
func (op *Operator) Lag(changes int, kinds ...string) { op.lag(changes, kinds) }

func (op *Operator) lag(changes int, kinds []string) {
	op.w.note("operator %d hears %d changes late of %v", op.number, changes, kinds)
	op.hindered = true
	for _, kind := range kinds {
		op.cache.Lag[kind] = changes
	}
}

// Drop breaks the watches of the kinds until Release: what happens meanwhile is
// never heard of, but for what is different in the end.
func (op *Operator) Drop(kinds ...string) {
	op.w.note("the watches of operator %d of %v are broken", op.number, kinds)
	op.hindered = true
	op.cache.broken = kinds
}

// TravelBack has the caches show what they showed so many changes ago, as they do when
// they are filled by an API server that lags behind, until Release.
func (op *Operator) TravelBack(changes int) {
	op.w.note("operator %d sees the world of %d changes ago", op.number, changes)
	op.hindered = true
	op.cache.back(changes)
}

// Release lets the caches hear of everything again.
func (op *Operator) Release() {
	op.w.note("operator %d hears of everything again", op.number)
	op.cache.Lag = map[string]int{}
	op.wake(op.cache.relist())
	op.releasedAt = op.w.Clock.Now()
	op.w.check.disturbed()
	op.hindered = false
}

// cache is what an operator's informers have heard of.
type cache struct {
	server  *Server
	objects map[string]map[types.NamespacedName]client.Object
	heard   map[string]int
	// upTo is how many changes it knew of when it last lacked none.
	upTo int
	// Lag is how many changes of a kind the cache is behind.
	Lag map[string]int
	// broken are the kinds of which it hears nothing until it lists them again.
	broken []string
}

func newCache(s *Server) *cache {
	c := &cache{server: s, objects: map[string]map[types.NamespacedName]client.Object{}, heard: map[string]int{}, Lag: map[string]int{}}
	for kind, objects := range s.objects {
		c.objects[kind] = maps.Clone(objects)
	}
	for i, change := range s.changes {
		c.heard[change.kind] = i + 1
	}
	return c
}

// hear applies the changes of each kind but for those that it lags behind.
func (c *cache) hear() []change {
	if c.upTo == len(c.server.changes) {
		return nil
	}
	behind := map[string]int{}
	until := map[string]int{}
	for i, v := range slices.Backward(c.server.changes) {
		kind := v.kind
		if _, found := until[kind]; found {
			continue
		}
		if behind[kind] == c.Lag[kind] && !slices.Contains(c.broken, kind) {
			until[kind] = i + 1
			continue
		}
		behind[kind]++
	}
	var news []change
	for i, change := range c.server.changes {
		if i < c.heard[change.kind] || i >= until[change.kind] {
			continue
		}
		c.heard[change.kind] = i + 1
		c.apply(change)
		news = append(news, change)
	}
	if len(c.Lag) == 0 && len(c.broken) == 0 {
		c.upTo = len(c.server.changes)
	}
	return news
}

// back undoes what was heard of the last changes, and hears no more.
func (c *cache) back(changes int) {
	from := max(0, len(c.server.changes)-changes)
	for i, v := range slices.Backward(c.server.changes[from:]) {
		if from+i < c.heard[v.kind] {
			c.apply(change{v.kind, v.key, v.after, v.before})
			c.heard[v.kind] = from + i
		}
	}
	for kind := range c.server.objects {
		c.Lag[kind] = 1 << 30
	}
	c.upTo = -1
}

// relist mends the watches that are broken: each object that differs from what is
// known of it is one change, whatever became of it in between.
func (c *cache) relist() (news []change) {
	for _, kind := range c.broken {
		for _, o := range sorted(c.objects[kind]) {
			key := client.ObjectKeyFromObject(o)
			if live := c.server.find(kind, key); live != o {
				news = append(news, change{kind, key, o, live})
			}
		}
		for _, o := range c.server.all(kind) {
			if key := client.ObjectKeyFromObject(o); c.objects[kind][key] == nil {
				news = append(news, change{kind, key, nil, o})
			}
		}
		c.heard[kind] = len(c.server.changes)
	}
	for _, change := range news {
		c.apply(change)
	}
	c.broken = nil
	return news
}

func (c *cache) apply(change change) {
	if c.objects[change.kind] == nil {
		c.objects[change.kind] = map[types.NamespacedName]client.Object{}
	}
	if change.after == nil {
		delete(c.objects[change.kind], change.key)
		return
	}
	c.objects[change.kind][change.key] = change.after
}

// recorder notes events.
type recorder struct{ op *Operator }

func (r recorder) Eventf(_, _ runtime.Object, kind, reason, _, note string, args ...any) {
	r.op.w.note("operator %d: event %s %s: "+note, append([]any{r.op.number, kind, reason}, args...)...)
}

// logger notes what the operator logs.
func (w *World) logger(op *Operator) logr.Logger { return logr.New(sink{op: op}) }

type sink struct{ op *Operator }

func (sink) Init(logr.RuntimeInfo)  {}
func (sink) Enabled(level int) bool { return level <= 1 }
func (s sink) Info(_ int, message string, values ...any) {
	s.op.w.note("operator %d: %s %v", s.op.number, message, values)
}

func (s sink) Error(err error, message string, values ...any) {
	s.op.w.note("operator %d: %s: %v %v", s.op.number, message, err, values)
}
func (s sink) WithValues(...any) logr.LogSink { return s }
func (s sink) WithName(string) logr.LogSink   { return s }
