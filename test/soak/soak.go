package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/test/load"
	"github.com/quorate/quorate/test/soak/testbed"
)

const (
	// recovery is how long everything may take to be well again after a fault.
	// The slowest is a node that restarts on a machine with two cores.
	recovery = 4 * time.Minute
	// calm lies between two faults.
	calm = 2 * time.Second
	// promised is how long the operator may take to tell that a quorum is lost.
	promised = 15 * time.Second
	poll     = 200 * time.Millisecond
)

// soak is one run.
type soak struct {
	*testbed.Bed
	options
	namespace string
	deck      []fault
	random    *rand.Rand
	subjects  []*subject
	watch     *watch
	report    *Report
	// strike is the operator's death in the midst of the fault; nil if it lives.
	strike *strike
	// mending undoes what a fault has done and not yet undone.
	mending []func(context.Context) error
	// mu guards mending.
	mu sync.Mutex
}

// subject is a cluster that suffers.
type subject struct {
	testbed.Cluster
	size int
	load *load.Load
	id   string // of the etcd cluster
}

var wanted = []struct {
	name, spec string
	size       int
}{
	{"three", `{size: 3, storage: {storageClassName: local}, failover: {replaceAfter: 1m}}`, 3},
	{"five", `{size: 5, failover: {replaceAfter: 1m}}`, 5},
}

// soak begins faults until the time is over.
func (s *soak) soak(ctx context.Context, duration time.Duration) error {
	if err := s.begin(ctx, duration); err != nil {
		return fmt.Errorf("beginning: %w", err)
	}
	deadline := time.Now().Add(duration)
	var hand []dealt
	round := 0
	for time.Now().Before(deadline) && ctx.Err() == nil {
		if len(hand) == 0 {
			if s.rounds > 0 && round == s.rounds {
				break
			}
			hand = s.deal(round)
			round++
			s.random.Shuffle(len(hand), func(i, j int) { hand[i], hand[j] = hand[j], hand[i] })
		}
		if err := s.suffer(ctx, hand[0], s.subjects[s.random.IntN(len(s.subjects))]); err != nil {
			return err
		}
		hand = hand[1:]
	}
	if ctx.Err() != nil {
		return errors.New("interrupted")
	}
	return s.judge(ctx)
}

// dealt is a fault as a round has it.
type dealt struct {
	fault
	struck bool
}

// deal the deck for a round.
func (s *soak) deal(round int) []dealt {
	var out []dealt
	for i, f := range s.deck {
		out = append(out, dealt{f, s.operator == diesAlways || (s.operator == diesByTurns && struck(s.seed, round, i))})
	}
	return out
}

// begin founds the clusters, and writes to them.
func (s *soak) begin(ctx context.Context, duration time.Duration) error {
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
		GenerateName: "soak-", Labels: map[string]string{"pod-security.kubernetes.io/enforce": "restricted"},
	}}
	if err := s.Kube.Create(ctx, ns); err != nil {
		return fmt.Errorf("making a namespace: %w", err)
	}
	s.namespace = ns.Name
	for _, w := range wanted {
		c, err := s.apply(ctx, w.name, w.spec)
		if err != nil {
			return err
		}
		s.subjects = append(s.subjects, &subject{Cluster: c, size: w.size})
	}
	for _, x := range s.subjects {
		if err := s.heals(ctx, x.Cluster); err != nil {
			return err
		}
		object, err := x.Get(ctx)
		if err != nil {
			return err
		}
		x.id = object.Status.ClusterID
		config, err := x.Load(ctx)
		if err != nil {
			return err
		}
		config.Seed, config.Artifacts = s.report.Seed, s.out
		// About 100 operations a second are wanted, and as many again that fail.
		config.MaxOperations = int64(200 * (duration + 2*recovery).Seconds())
		if x.load, err = load.Start(ctx, config); err != nil {
			return fmt.Errorf("writing to %s: %w", x.Name, err)
		}
	}
	s.watch = s.startWatch(ctx)
	return nil
}

// apply makes a cluster.
func (s *soak) apply(ctx context.Context, name, spec string) (testbed.Cluster, error) {
	object := &v1alpha1.EtcdCluster{}
	if err := yaml.UnmarshalStrict([]byte("spec: "+spec), object); err != nil {
		return testbed.Cluster{}, fmt.Errorf("reading the spec of %s: %w", name, err)
	}
	object.Namespace, object.Name = s.namespace, name
	if err := s.Kube.Create(ctx, object); err != nil {
		return testbed.Cluster{}, fmt.Errorf("making cluster %s: %w", name, err)
	}
	return testbed.Cluster{Bed: s.Bed, Namespace: s.namespace, Name: name}, nil
}

// suffer does one fault and waits until all is well.
func (s *soak) suffer(ctx context.Context, f dealt, x *subject) error {
	before, err := x.Get(ctx)
	if err != nil {
		return err
	}
	fmt.Printf("%s  %-28s %-6s ", time.Now().Format("15:04:05"), f.name, x.Name)
	s.strike = nil
	if f.struck {
		if s.strike, err = s.strikes(ctx, f.amid); err != nil {
			return err
		}
	}
	r := FaultReport{Name: f.name, Cluster: x.Name, Began: time.Now()}
	if f.begins == atOnce {
		s.strike.begin(ctx, x.Cluster)
	}
	r.Note, err = f.do(ctx, s, x)
	err = errors.Join(err, s.strike.wait())
	mended := s.mend(ctx)
	r.undone = time.Now()
	if err == nil && mended == nil {
		err = s.recovers(ctx)
	}
	err = errors.Join(err, mended)
	if err == nil {
		err = s.unchanged(ctx, f.fault, x, before)
	}
	r.struck(s.strike)
	r.end(s.subjects, err)
	s.report.Faults = append(s.report.Faults, r)
	fmt.Println(r.line())
	if err != nil {
		return fmt.Errorf("%s of %s: %w", f.name, x.Name, err)
	}
	return pause(ctx, calm)
}

// recovers waits until an operator works and all clusters are well, and only then
// renews the replica that was killed.
func (s *soak) recovers(ctx context.Context) error {
	if err := s.strike.succeeded(ctx); err != nil {
		return err
	}
	var err error
	for _, y := range s.subjects {
		err = errors.Join(err, s.heals(ctx, y.Cluster))
	}
	if err != nil {
		return err
	}
	return s.strike.renew(ctx)
}

// heals waits until a cluster is as its spec wants it by every account, twice.
func (s *soak) heals(ctx context.Context, c testbed.Cluster) error {
	for range 2 {
		if err := within(ctx, recovery, func(ctx context.Context) error { return c.Healthy(ctx) }); err != nil {
			return fmt.Errorf("waiting for %s: %w", c.Name, err)
		}
		if err := pause(ctx, time.Second); err != nil {
			return err
		}
	}
	return nil
}

// unchanged says what a fault has changed that it must not.
func (s *soak) unchanged(ctx context.Context, f fault, x *subject, before *v1alpha1.EtcdCluster) error {
	for _, y := range s.subjects {
		now, err := y.Get(ctx)
		if err != nil {
			return err
		}
		if now.Status.ClusterID != y.id {
			return fmt.Errorf("cluster %s has the ID %s, not %s", y.Name, now.Status.ClusterID, y.id)
		}
		if y != x || f.members != same {
			continue
		}
		if was, is := ids(before), ids(now); !maps.Equal(was, is) {
			return fmt.Errorf("members were %v and are %v", was, is)
		}
	}
	return nil
}

func ids(c *v1alpha1.EtcdCluster) map[string]string {
	out := map[string]string{}
	for _, m := range c.Status.Members {
		out[m.Name] = m.ID
	}
	return out
}

// mend undoes what is not undone yet, the last first.
func (s *soak) mend(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recovery)
	defer cancel()
	s.mu.Lock()
	mending := s.mending
	s.mending = nil
	s.mu.Unlock()
	var all []error
	for _, undo := range slices.Backward(mending) {
		all = append(all, undo(ctx))
	}
	return errors.Join(all...)
}

func (s *soak) later(undo func(context.Context) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mending = append(s.mending, undo)
}

// harmed says that something is not undone yet.
func (s *soak) harmed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.mending) > 0
}

// judge ends the loads and checks what they found.
func (s *soak) judge(ctx context.Context) error {
	for _, x := range s.subjects {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
		found, err := x.load.Stop(ctx)
		cancel()
		s.report.Loads = append(s.report.Loads, LoadReport{Cluster: x.Name, Report: found})
		if err != nil {
			s.report.fail("load on %s: %v", x.Name, err)
		}
	}
	return nil
}

// end stops everything that was started.
func (s *soak) end(ctx context.Context) error {
	err := s.mend(ctx)
	if s.watch != nil {
		s.watch.end(s.report)
	}
	for _, x := range s.subjects {
		if x.load != nil {
			x.load.Abort()
		}
	}
	if s.namespace == "" {
		return err
	}
	all := client.InNamespace(s.namespace)
	err = errors.Join(err, s.Kube.DeleteAllOf(ctx, &v1alpha1.EtcdCluster{}, all))
	gone := func(ctx context.Context) error {
		var pods corev1.PodList
		if err := s.Kube.List(ctx, &pods, all); err != nil {
			return fmt.Errorf("listing pods: %w", err)
		}
		if len(pods.Items) > 0 {
			return fmt.Errorf("%d pods of deleted clusters are still there", len(pods.Items))
		}
		return nil
	}
	err = errors.Join(err, within(ctx, recovery, gone))
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: s.namespace}}
	return errors.Join(err, client.IgnoreNotFound(s.Kube.Delete(ctx, ns)), within(ctx, recovery, func(ctx context.Context) error {
		if err := s.Kube.Get(ctx, client.ObjectKey{Name: s.namespace}, ns); !apierrors.IsNotFound(err) {
			return fmt.Errorf("namespace %s is still there: %w", s.namespace, err)
		}
		return nil
	}))
}

// dump writes down what a failure looks like.
func (s *soak) dump(ctx context.Context) {
	var text strings.Builder
	kubectl := filepath.Join(s.Root, ".cluster", "bin", "kubectl")
	for _, args := range [][]string{
		{"-n", s.namespace, "get", "etcdclusters", "-o", "yaml"},
		{"-n", s.namespace, "get", "pods,pvc", "-o", "wide"},
		{"-n", s.namespace, "get", "events", "--sort-by=.metadata.creationTimestamp"},
		{"get", "nodes"},
		{"-n", operatorNamespace, "get", "pods", "-o", "wide"},
		{"-n", operatorNamespace, "logs", "-l", "app.kubernetes.io/name=" + operatorName, "--tail=2000", "--prefix", "--ignore-errors"},
	} {
		out, err := s.Run(ctx, kubectl, args...)
		fmt.Fprintf(&text, "$ kubectl %s\n%s\n", strings.Join(args, " "), out)
		if err != nil {
			fmt.Fprintf(&text, "%v\n", err)
		}
	}
	path := filepath.Join(s.out, "failure.txt")
	if err := os.WriteFile(path, []byte(text.String()), 0o600); err != nil {
		s.report.fail("writing %s: %v", path, err)
	}
}

// within tries again until it succeeds or the time is over, and returns the last
// error.
func within(ctx context.Context, d time.Duration, try func(context.Context) error) error {
	return every(ctx, poll, d, try)
}

// quickly does the same for what passes by in a moment.
func quickly(ctx context.Context, d time.Duration, try func(context.Context) error) error {
	return every(ctx, poll/20, d, try)
}

func every(ctx context.Context, rest, d time.Duration, try func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	var last error
	for {
		err := try(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() == nil || last == nil {
			last = err // an error of the end of time says nothing
		}
		if pause(ctx, rest) != nil {
			return fmt.Errorf("after %s: %w", d, last)
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// hang stops members' processes until they are mended.
func (s *soak) hang(ctx context.Context, x *subject, members ...string) error {
	pods, err := x.Pods(ctx)
	if err != nil {
		return err
	}
	for _, m := range members {
		pod := pods[m]
		s.later(func(context.Context) error {
			if err := testbed.Signal(pod, testbed.Etcd, syscall.SIGCONT); !errors.Is(err, testbed.ErrNoProcess) {
				return err
			}
			return nil
		})
		if err := testbed.Signal(pod, testbed.Etcd, syscall.SIGSTOP); err != nil {
			return err
		}
	}
	return nil
}
