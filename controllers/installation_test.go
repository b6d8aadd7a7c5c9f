package controllers

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/api/v1alpha1"
)

const ours, theirs = "here/quorate-operator", "there/quorate-operator"

func of(installation string) change {
	return func(c *v1alpha1.EtcdCluster) { c.Status.Operator = installation }
}

// beside is an operator of our installation, and the Lease of the other one.
type beside struct {
	*operator
	clock *clocktesting.FakeClock
}

func newBeside(t *testing.T, objects ...client.Object) *beside {
	t.Helper()
	b := &beside{operator: newOperator(t, objects...), clock: clocktesting.NewFakeClock(time.Unix(1e9, 0))}
	b.reconciler.Installation = ours
	b.reconciler.Performer.Clock, b.reconciler.Observer.Clock = b.clock, b.clock
	return b
}

func lease() *coordinationv1.Lease {
	return &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{Namespace: "there", Name: "quorate-operator"},
		Spec:       coordinationv1.LeaseSpec{LeaseDurationSeconds: new(int32(15)), RenewTime: &metav1.MicroTime{Time: time.Unix(1, 0)}},
	}
}

// renew the Lease, by a clock that is wrong.
func (b *beside) renew() {
	b.t.Helper()
	l := &coordinationv1.Lease{}
	if err := b.api.Get(b.t.Context(), client.ObjectKeyFromObject(lease()), l); err != nil {
		b.t.Fatal(err)
	}
	l.Spec.RenewTime.Time = l.Spec.RenewTime.Add(time.Second)
	if err := b.api.Update(b.t.Context(), l); err != nil {
		b.t.Fatal(err)
	}
}

// leaves says that a pass does nothing to the cluster.
func (b *beside) leaves() bool {
	b.t.Helper()
	result, err := b.pass()
	if err != nil {
		b.t.Fatal(err)
	}
	return len(b.writes) == 0 && result.RequeueAfter == whileYielding
}

// TestTheInstallationIsRecorded in the first pass, with everything else, and once.
func TestTheInstallationIsRecorded(t *testing.T) {
	for name, c := range map[string]*v1alpha1.EtcdCluster{
		"a new cluster": cluster(), "a paused one": cluster(paused), "one of before": cluster(founded), "one that was handed over": cluster(founded, of("")),
	} {
		t.Run(name, func(t *testing.T) {
			b := newBeside(t, c)
			if _, err := b.pass(); err != nil {
				t.Log(err)
			}
			if got := b.cluster().Status.Operator; got != ours || b.writes[len(b.writes)-1] != "patch status a" {
				t.Errorf("status.operator is %q after %v", got, b.writes)
			}
		})
	}
}

// TestAnotherInstallation: while its Lease is renewed nothing is written, whatever
// the cluster needs, and the user is told once.
func TestAnotherInstallation(t *testing.T) {
	for name, changes := range map[string][]change{
		"founding": nil, "at work": {founded}, "paused": {paused},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBeside(t, cluster(append(changes, of(theirs))...), lease())
			for range 20 {
				if !b.leaves() {
					t.Fatalf("it wrote %v", b.writes)
				}
				b.clock.Step(whileYielding)
				b.renew()
			}
			if len(b.events.Events) != 1 {
				t.Fatalf("%d events", len(b.events.Events))
			}
			told := <-b.events.Events
			for _, want := range []string{"Warning " + v1alpha1.ReasonConflictingOperator, ours, theirs, `--subresource=status`} {
				if !strings.Contains(told, want) {
					t.Errorf("event %q does not name %q", told, want)
				}
			}
			if len(told) > 1024 {
				t.Errorf("the API server drops an event of %d bytes", len(told))
			}
		})
	}
}

// TestADeletedClusterIsLetGo: an installation that renews its Lease and does not work
// in the namespace any more must not hold the namespace for ever.
func TestADeletedClusterIsLetGo(t *testing.T) {
	b := newBeside(t, cluster(founded, deleteData, held, deleted, of(theirs)), lease())
	for waited := time.Duration(0); waited <= letGoAfter; waited += whileYielding {
		if !b.leaves() {
			t.Fatalf("after %s it wrote %v", waited, b.writes)
		}
		b.clock.Step(whileYielding)
		b.renew()
	}
	if _, err := b.pass(); err != nil {
		t.Fatal(err)
	}
	if slices.Contains(b.cluster().Finalizers, v1alpha1.Finalizer) {
		t.Errorf("the finalizer is still there; it wrote %v", b.writes)
	}
}

// TestTakeOver: an installation is gone when its Lease is, or is not renewed, for
// long enough by this process's own clock.
func TestTakeOver(t *testing.T) {
	forbidden := apierrors.NewForbidden(coordinationv1.Resource("leases"), "quorate-operator", errors.New("no right to"))
	cases := map[string]struct {
		objects []client.Object
		err     error
		// after is when it takes over; zero for never.
		after time.Duration
	}{
		"the Lease is gone":        {nil, nil, leaseMargin},
		"the Lease is not renewed": {[]client.Object{lease()}, nil, leaseMargin + 15*time.Second},
		"the Lease is hidden":      {nil, forbidden, 0},
		"nobody answers":           {nil, errors.New("no answer"), 0},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			b := newBeside(t, append(tc.objects, cluster(of(theirs)))...)
			b.before = func(_ string, o client.Object) error {
				if _, is := o.(*coordinationv1.Lease); is {
					return tc.err
				}
				return nil
			}
			took := time.Duration(0)
			for waited := time.Duration(0); waited < 10*time.Minute; waited += 5 * time.Second {
				if !b.leaves() {
					took = waited
					break
				}
				b.clock.Step(5 * time.Second)
			}
			if took < tc.after || took > tc.after+5*time.Second || (took > 0) != (tc.after > 0) {
				t.Errorf("it took over after %v, want %v", took, tc.after)
			}
			if got := b.cluster().Status.Operator; (got == ours) != (tc.after > 0) {
				t.Errorf("status.operator is %q", got)
			}
			if took > 0 && !slices.Equal(b.writes, []string{"patch status a"}) {
				t.Errorf("it wrote %v", b.writes)
			}
		})
	}
}

// TestReplicasShareTheInstallation: the other replica goes on where this one was.
func TestReplicasShareTheInstallation(t *testing.T) {
	b := newBeside(t, cluster(of(ours)))
	if b.leaves() {
		t.Error("it leaves its own cluster alone")
	}
}
