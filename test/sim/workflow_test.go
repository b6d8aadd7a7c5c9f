package sim

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/quorate/quorate/api/v1alpha1"
)

// workflow is something that a cluster goes through. What happens in before is
// the history; calls are counted, killed and struck from begin on.
type workflow struct {
	name string
	// before and begin may be nil.
	before, begin func(w *World)
	// done says that the workflow has come to its end; nil means a healthy
	// cluster.
	done func(w *World) bool
	// end is what runs are compared by; nil means every object.
	end func(w *World) string
	// every has each single call killed, faults each call struck, and shared
	// lets it be done by two operators and with caches that lag.
	every, faults, shared bool
	// long workflows are disturbed at some moments only.
	long bool
}

// patience is how long, by the world's clock, a workflow may take.
const patience = 10 * time.Minute

func spec(size int32, mutate ...func(*v1alpha1.EtcdClusterSpec)) func(*v1alpha1.EtcdClusterSpec) {
	return func(s *v1alpha1.EtcdClusterSpec) {
		s.Size = size
		for _, m := range mutate {
			m(s)
		}
	}
}

func plaintext(s *v1alpha1.EtcdClusterSpec) { s.TLS.Mode = v1alpha1.TLSDisabled }
func inMemory(s *v1alpha1.EtcdClusterSpec)  { s.Storage.Medium = v1alpha1.MediumMemory }
func onDisk(s *v1alpha1.EtcdClusterSpec)    { s.Storage.Medium = v1alpha1.MediumDisk }
func deleteAll(s *v1alpha1.EtcdClusterSpec) { s.Storage.WhenDeleted = v1alpha1.WhenDeletedDelete }
func class(name string) func(*v1alpha1.EtcdClusterSpec) {
	return func(s *v1alpha1.EtcdClusterSpec) { s.Storage.StorageClassName = new(name) }
}

func found(mutate func(*v1alpha1.EtcdClusterSpec)) func(*World) {
	return func(w *World) { w.Apply(mutate) }
}

// founded has a healthy cluster before the workflow begins.
func founded(mutate func(*v1alpha1.EtcdClusterSpec)) func(*World) {
	return func(w *World) {
		w.Apply(mutate)
		if !w.Run(w.Healthy, patience) {
			panic("the founding of the history does not end:\n" + w.Notes(200))
		}
		w.For(6 * time.Second)
	}
}

// rejecting has the kubelet refuse the pods of members for a while. Each of them
// ends at once, and must not be made again at the speed of the API server.
func rejecting(w *World, d time.Duration, members ...string) {
	const pause = 10 * time.Second
	times := map[string]int{}
	w.Rejects = func(pod string) bool {
		if !slices.Contains(members, pod) {
			return false
		}
		if times[pod]++; times[pod] > 1+int(d/pause) {
			w.check.violate("pace", "pod %s was made %d times in %v", pod, times[pod], d)
		}
		return true
	}
	w.After(d, func() { w.Rejects = nil })
}

func deletePods(members ...string) func(*World) {
	return func(w *World) {
		for _, m := range members {
			w.Delete(w.Pod(m))
		}
	}
}

// gone says that nothing is left of the cluster but its volumes.
func gone(w *World) bool {
	return w.Cluster() == nil && len(w.API.all("Pod")) == 0 && len(w.API.all("Secret")) == 0
}

func goneWithVolumes(w *World) bool { return gone(w) && len(w.API.all("PersistentVolumeClaim")) == 0 }

func deleteCluster(w *World) { w.Delete(w.Cluster()) }

func workflows() []workflow {
	const badImage = "quay.io/coreos/etcd:v3.6.99"
	return append([]workflow{
		{name: "founding three with TLS", begin: found(spec(3))},
		{name: "founding three in plaintext", every: true, faults: true, shared: true, begin: found(spec(3, plaintext))},
		{name: "founding one with TLS", faults: true, long: true, begin: found(spec(1))},
		{name: "founding one in plaintext", begin: found(spec(1, plaintext))},
		{name: "founding five with TLS", begin: found(spec(5))},
		{name: "founding five in plaintext", begin: found(spec(5, plaintext))},
		{name: "founding three in memory", shared: true, begin: found(spec(3, plaintext, inMemory))},
		// Whoever is rejected at the very moment of the latch is replaced by another name.
		{name: "founding three in memory while the kubelet rejects two", end: (*World).Shape, begin: func(w *World) {
			rejecting(w, 25*time.Second, "c-0001", "c-0002")
			w.Apply(spec(3, plaintext, inMemory))
		}},
		{name: "repairing one deleted pod", every: true, before: founded(spec(3, plaintext)), begin: deletePods("c-0001")},
		{name: "repairing three deleted pods", every: true, faults: true, shared: true, before: founded(spec(3, plaintext)), begin: deletePods("c-0000", "c-0001", "c-0002")},
		{name: "repairing an evicted pod", every: true, faults: true, shared: true, before: founded(spec(3, plaintext)), begin: func(w *World) { w.Evict("c-0000") }},
		{name: "deleting a cluster and keeping its volumes", before: founded(spec(3)), begin: deleteCluster, done: gone},
		{name: "deleting a cluster with its volumes", every: true, faults: true, shared: true, before: founded(spec(3, deleteAll)), begin: deleteCluster, done: goneWithVolumes},
		{
			name: "founding beside the volumes of a deleted namesake",
			before: func(w *World) {
				founded(spec(3, plaintext))(w)
				deleteCluster(w)
				w.Run(func() bool { return gone(w) }, patience)
			},
			begin: found(spec(3, plaintext)),
		},
		{name: "founding with a storage class that is mended by an edit", shared: true, long: true, begin: func(w *World) {
			w.Apply(spec(3, plaintext, class("no-such-class")))
			w.After(3*time.Second, func() { w.Apply(class("standard")) })
		}},
		{name: "founding with an image that is mended by an edit", begin: func(w *World) {
			w.BadImages[badImage] = true
			w.Apply(spec(3, plaintext, func(s *v1alpha1.EtcdClusterSpec) { s.Version = "3.6.99" }))
			w.After(3*time.Second, func() { w.Apply(func(s *v1alpha1.EtcdClusterSpec) { s.Version = "3.6.16" }) })
		}},
	}, slices.Concat(memberships(), rolls(), upkeeps(), rotations(), adoptions(), protections(), recoveries(), restorations(), points())...)
}

// start brings a workflow to its begin, with one operator that has looked around.
func (f workflow) start() *World {
	if f.before == nil {
		w := newborn()
		w.StartOperator()
		return w
	}
	if f.name == "" {
		panic("a workflow without a name would begin with the history of another one")
	}
	known, _ := histories.LoadOrStore(f.name, &history{})
	h := known.(*history)
	h.once.Do(func() {
		h.w = newborn()
		h.w.StartOperator()
		f.before(h.w)
	})
	w := h.w.Fork()
	w.StartOperator()
	w.For(3 * time.Second)
	w.counts, w.calls = map[string]int{}, nil
	// What is acknowledged from here on may be lost by what is done from here on.
	w.mostPuts = w.puts + 20
	return w
}

func newborn() *World {
	w := New()
	w.ReplaceAfter = 300 * time.Millisecond
	return w
}

// history is what has happened before a workflow. It is made once, and every run
// goes on from a fork of it.
type history struct {
	once sync.Once
	w    *World
}

// histories by the names of the workflows.
var histories sync.Map

// finish runs a workflow from its begin to its end, and returns what is wrong.
func (f workflow) finish(w *World) error {
	f.begin(w)
	done := f.done
	if done == nil {
		done = (*World).Healthy
	}
	// Plans must have come true, and those who died must have been replaced.
	over := func(w *World) bool { return done(w) && !w.busy() }
	if !w.Run(func() bool { return over(w) }, patience) {
		return fmt.Errorf("it has not ended after %v", patience)
	}
	if f.done == nil {
		w.check.atRest()
	}
	if v := w.Violations(); len(v) > 0 {
		return fmt.Errorf("it broke:\n%s", strings.Join(v, "\n"))
	}
	return nil
}

// undisturbed is the run that the others are compared with. It is made once.
func (f workflow) undisturbed(t *testing.T) (calls []CallSeen, end string) {
	t.Helper()
	known, _ := references.LoadOrStore(f.name, &reference{})
	r := known.(*reference)
	r.once.Do(func() {
		w := f.start()
		if err := f.finish(w); err != nil {
			r.err = fmt.Errorf("%w\n%s", err, w.Notes(300))
			return
		}
		r.calls, r.end = slices.Clone(w.calls), f.endOf(w)
	})
	if r.err != nil {
		t.Fatalf("undisturbed: %v", r.err)
	}
	return r.calls, r.end
}

// reference is what is known of an undisturbed run.
type reference struct {
	once  sync.Once
	calls []CallSeen
	end   string
	err   error
}

// references by the workflows' names.
var references sync.Map

func (f workflow) endOf(w *World) string {
	if f.end != nil {
		return f.end(w)
	}
	return w.End()
}

// restful: a cluster that has settled costs no write.
func restful(name string, w *World) error {
	w.Run(w.Compared, 2*time.Minute)
	before := w.Operator().writes
	w.For(5 * time.Minute)
	if n := w.Operator().writes - before; n > 0 || len(w.Violations()) > 0 {
		return fmt.Errorf("%s, at rest for five minutes: %d writes, broke %v\n%s", name, n, w.Violations(), w.Notes(noteLines()))
	}
	return nil
}

// disturbed runs that there were.
var disturbed atomic.Int64

// each runs a job for each of n on all cores, and reports the first failures.
func each(t *testing.T, n int, job func(i int) error) {
	t.Helper()
	var (
		mu     sync.Mutex
		failed int
		wg     sync.WaitGroup
		next   = make(chan int)
	)
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for i := range next {
				disturbed.Add(1)
				if err := job(i); err != nil {
					mu.Lock()
					if failed++; failed <= 3 {
						t.Error(err)
					}
					mu.Unlock()
				}
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
	if failed > 3 {
		t.Errorf("%d of %d runs failed", failed, n)
	}
}

// noteLines is how much of a failed run's log is printed: its end, or all of it
// with SIM_NOTES=1.
func noteLines() int {
	if os.Getenv("SIM_NOTES") != "" {
		return 1 << 20
	}
	return 150
}

// verify says what is wrong with a disturbed run.
func (f workflow) verify(w *World, want, what string) error {
	err := f.finish(w)
	if err == nil {
		if diff := cmp.Diff(want, f.endOf(w)); diff != "" {
			err = fmt.Errorf("the end state differs (-undisturbed +this):\n%s", diff)
		}
	}
	if err != nil {
		return fmt.Errorf("%s, %s: %w\n%s", f.name, what, err, w.Notes(noteLines()))
	}
	return nil
}
