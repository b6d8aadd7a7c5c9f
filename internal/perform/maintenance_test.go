package perform

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/etcd"
	"github.com/quorate/quorate/internal/plan"
)

func (l *line) Read(context.Context) error { return l.call("Read", l.member) }
func (l *line) Alarms(context.Context) ([]etcd.Alarm, error) {
	return nil, l.call("Alarms")
}

func (l *line) Compact(_ context.Context, revision int64) error { return l.call("Compact", revision) }

func (l *line) Defragment(context.Context) error { return l.call("Defragment", l.member) }

func (l *line) Disarm(_ context.Context, a etcd.Alarm) error {
	return l.call("Disarm", a.Kind, fmt.Sprintf("%x", a.MemberID))
}

func (l *line) Hash(_ context.Context, revision int64) (etcd.Hash, error) {
	err := l.call("Hash", l.member, revision)
	h := l.script.hashes[l.member]
	h.MemberID = l.script.status[l.member].MemberID
	return h, err
}

// kept is a cluster of three voters that is being looked after.
type kept struct {
	*change
	clock     *clocktesting.FakePassiveClock
	performer *Performer
	// waiting are the chores that were begun and not run yet.
	waiting []func()
}

func keeping(t *testing.T) *kept {
	t.Helper()
	k := &kept{change: changing(t), clock: clocktesting.NewFakePassiveClock(now)}
	k.edit(func(c *v1alpha1.EtcdCluster) { c.Spec.Size, c.Status.Joiner = 3, "" })
	k.seen.Size, k.seen.Joiner, k.seen.Members = 3, "", k.seen.Members[:3]
	for i := range k.seen.Members {
		m := &k.seen.Members[i]
		m.Version = "3.6.16"
		s := k.etcd.status[m.Name]
		s.Version, s.Revision, s.DBSize, s.DBSizeQuota = m.Version, 100, 50, 100
		k.etcd.status[m.Name] = s
	}
	k.etcd.hashes = map[string]etcd.Hash{}
	for _, m := range k.seen.Members {
		k.etcd.hashes[m.Name] = etcd.Hash{CompactRevision: 10, Hash: 0xaa}
	}
	k.performer = &Performer{
		Writer: k.api, Live: k.api, Clock: k.clock, Etcd: k.etcd,
		Chores: &Chores{Clock: k.clock, Go: func(do func()) { k.waiting = append(k.waiting, do) }},
	}
	k.tell()
	return k
}

// tell takes another look after a while.
func (k *kept) tell(later ...time.Duration) plan.Observed {
	for _, d := range later {
		k.clock.SetTime(k.clock.Now().Add(d))
	}
	k.performer.Chores.Tell(k.cluster, &k.seen)
	return k.seen
}

func (k *kept) does(step plan.Step) error {
	k.etcd.calls = nil
	return k.performer.Perform(k.t.Context(), k.cluster, k.seen, step)
}

// finish the chores that were begun.
func (k *kept) finish() {
	for _, do := range k.waiting {
		do()
	}
	k.waiting = nil
}

func defragments(name string) plan.Step {
	return plan.Step{Kind: plan.Defragment, Members: []string{name}}
}

func alarmed(kind string, id uint64) func(*kept) {
	return func(k *kept) {
		k.seen.Raised, k.seen.ProposeFailed = []plan.Alarm{{Kind: kind, ID: id}}, "refused"
	}
}

func sizeOf(name string, size int64) func(*kept) {
	return func(k *kept) {
		s := k.etcd.status[name]
		s.DBSize = size
		k.etcd.status[name] = s
	}
}

func hashOf(name string, h etcd.Hash) func(*kept) { return func(k *kept) { k.etcd.hashes[name] = h } }

func answersWith(method string, err error) func(*kept) {
	return func(k *kept) { k.etcd.answers[method] = err }
}

// TestMaintenanceRereads: what a step rests on is asked once more, and nothing is done when
// it is not so any more.
func TestMaintenanceRereads(t *testing.T) {
	disarms := func(kind string) plan.Step { return plan.Step{Kind: plan.Disarm, Alarm: kind} }
	condemns := plan.Step{Kind: plan.Condemn, Members: []string{"a-0002"}}
	cases := map[string]struct {
		world func(*kept)
		step  plan.Step
		// does is the call that changes something; empty for none.
		does string
	}{
		"a follower is defragmented":            {nil, defragments("a-0002"), "Defragment a-0002"},
		"never the leader":                      {nil, defragments("a-0000"), ""},
		"nor beside one that serves no read":    {answersWith("Read", errors.New("no answer")), defragments("a-0002"), ""},
		"nor beside one that cannot be reached": {func(k *kept) { k.etcd.silent["a-0001"] = true }, defragments("a-0002"), ""},
		"nor after the members have changed":    {func(k *kept) { k.etcd.list.Members = k.etcd.list.Members[:2] }, defragments("a-0002"), ""},
		"nor under another leader":              {func(k *kept) { k.etcd.list.Term = 8 }, defragments("a-0002"), ""},
		"nor in a cluster that was edited":      {func(k *kept) { k.meanwhile(func(c *v1alpha1.EtcdCluster) { c.Generation++ }) }, defragments("a-0002"), ""},
		"an alarm is disarmed where all have room": {
			alarmed("NOSPACE", 2), disarms("NOSPACE"), "Disarm NOSPACE 2",
		},
		"not while one has none":                 {both(alarmed("NOSPACE", 2), sizeOf("a-0001", 90)), disarms("NOSPACE"), ""},
		"nor while one does not say":             {both(alarmed("NOSPACE", 2), func(k *kept) { k.etcd.silent["a-0001"] = true }), disarms("NOSPACE"), ""},
		"of another kind it is left as it is":    {alarmed("CORRUPT", 2), disarms("NOSPACE"), ""},
		"CORRUPT is disarmed for those seen":     {both(alarmed("CORRUPT", 9), sizeOf("a-0001", 99)), disarms("CORRUPT"), "Disarm CORRUPT 9"},
		"data is given up on its claim":          {nil, condemns, "refused"},
		"not on the claim of another member":     {claimNames("a-0002", "77"), condemns, ""},
		"nor after the members have changed too": {func(k *kept) { k.etcd.list.Members = k.etcd.list.Members[:2] }, condemns, ""},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			k := keeping(t)
			if tc.world != nil {
				tc.world(k)
			}
			err := k.does(tc.step)
			k.finish()
			changes := slices.DeleteFunc(k.etcd.changes(), func(c string) bool {
				return strings.HasPrefix(c, "Read") || strings.HasPrefix(c, "Alarms") || strings.HasPrefix(c, "Hash")
			})
			claim := &corev1.PersistentVolumeClaim{}
			if k.get(claim, "data-a-0002") && claim.Annotations[v1alpha1.AnnotationRefused] != "" {
				changes = append(changes, "refused")
			}
			if got := strings.Join(changes, ", "); got != tc.does {
				t.Errorf("did %q, want %q: %v", got, tc.does, err)
			}
			if tc.does == "" && tc.step.Alarm == "" && !Stale(err) {
				t.Errorf("%v, want a stale look", err)
			}
		})
	}
}

func both(one, two func(*kept)) func(*kept) { return func(k *kept) { one(k); two(k) } }

func claimNames(member, id string) func(*kept) {
	return func(k *kept) {
		k.put(&corev1.PersistentVolumeClaim{}, "data-"+member, func(o client.Object) {
			a := o.GetAnnotations()
			a[v1alpha1.AnnotationMemberID] = id
			o.SetAnnotations(a)
		})
	}
}

// TestAnAlarmIsListedWhereItRefusesProposals: that is what comes before a change then.
func TestAnAlarmIsListedWhereItRefusesProposals(t *testing.T) {
	k := keeping(t)
	alarmed("CORRUPT", 3)(k)
	if err := k.does(plan.Step{Kind: plan.MoveLeader, Members: []string{"a-0000", "a-0001"}, ID: 2}); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(k.etcd.calls, ", "); !strings.HasPrefix(got, "Members, Alarms, Members") || slices.Contains(k.etcd.calls, "Propose") {
		t.Error(got)
	}
}

// TestAnAlarmIsDisarmedWithAProof: a write that does not go through is waited for.
func TestAnAlarmIsDisarmedWithAProof(t *testing.T) {
	k := keeping(t)
	alarmed("NOSPACE", 1)(k)
	k.etcd.answers["Propose"] = etcd.ErrNoSpace
	if err := k.does(plan.Step{Kind: plan.Disarm, Alarm: "NOSPACE"}); !errors.Is(err, ErrNotYet) {
		t.Error(err)
	}
	if last := k.etcd.calls[len(k.etcd.calls)-1]; last != "Propose" {
		t.Errorf("the last call was %s", last)
	}
}

// TestOneChoreAtATime, which the looks see until it has ended.
func TestOneChoreAtATime(t *testing.T) {
	k := keeping(t)
	if err := k.does(defragments("a-0002")); err != nil {
		t.Fatal(err)
	}
	if got := k.tell().Chore; got != (plan.Chore{Kind: plan.Defragment, Member: "a-0002"}) {
		t.Errorf("%+v goes on", got)
	}
	if err := k.does(defragments("a-0001")); !Stale(err) || len(k.waiting) != 1 {
		t.Errorf("a second one: %v", err)
	}
	k.finish()
	if got := k.tell().Chore; got.Kind != "" {
		t.Errorf("%+v goes on", got)
	}
	if err := k.does(defragments("a-0001")); err != nil {
		t.Error(err)
	}
}

// TestAFailureHoldsDefragmentationsUp, longer each time, until one goes well.
func TestAFailureHoldsDefragmentationsUp(t *testing.T) {
	k := keeping(t)
	k.etcd.answers["Defragment"] = errors.New("no answer within 4m0s")
	run := func() {
		t.Helper()
		if err := k.does(defragments("a-0002")); err != nil {
			t.Fatal(err)
		}
		k.finish()
	}
	for _, pause := range []time.Duration{2 * time.Minute, 4 * time.Minute, 8 * time.Minute} {
		run()
		for _, text := range []string{"a-0002 was not defragmented", "no answer within 4m0s", "nobody is defragmented before"} {
			if got := k.tell(pause - time.Second).DefragmentHeld; !strings.Contains(got, text) {
				t.Errorf("after %v: %q", pause, got)
			}
			k.tell(-(pause - time.Second))
		}
		if got := k.tell(pause).DefragmentHeld; got != "" {
			t.Errorf("after %v: %q", pause, got)
		}
	}
	for range 20 {
		run()
	}
	if got := k.tell(lastHold).DefragmentHeld; got != "" {
		t.Errorf("after a day: %q", got)
	}
	k.etcd.answers["Defragment"] = nil
	run()
	k.etcd.answers["Defragment"] = errors.New("again")
	run()
	if got := k.tell(firstHold).DefragmentHeld; got != "" {
		t.Errorf("the pauses do not begin anew: %q", got)
	}
}

// TestComparison of three voters.
func TestComparison(t *testing.T) {
	bad, other := etcd.Hash{CompactRevision: 10, Hash: 0xbb}, etcd.Hash{CompactRevision: 11, Hash: 0xcc}
	cases := map[string]struct {
		world         func(*kept)
		agree, differ []uint64
	}{
		"all are equal":                     {nil, []uint64{1, 2, 3}, nil},
		"one differs":                       {hashOf("a-0001", bad), []uint64{1, 3}, []uint64{2}},
		"the leader differs":                {hashOf("a-0000", bad), []uint64{2, 3}, []uint64{1}},
		"one has discarded more":            {hashOf("a-0001", other), []uint64{1, 3}, nil},
		"one goes by another history":       {hashOf("a-0001", etcd.Hash{CompactRevision: 11, Hash: 0xaa}), []uint64{1, 2, 3}, nil},
		"one does not say":                  {func(k *kept) { k.etcd.silent["a-0001"] = true }, []uint64{1, 3}, nil},
		"one is of another version by now":  {func(k *kept) { s := k.etcd.status["a-0001"]; s.Version = "3.7.3"; k.etcd.status["a-0001"] = s }, []uint64{1, 3}, nil},
		"all differ, and the lowest counts": {both(hashOf("a-0001", bad), hashOf("a-0002", etcd.Hash{CompactRevision: 10, Hash: 0x1})), []uint64{3}, []uint64{1, 2}},
		"nobody says":                       {answersWith("Hash", errors.New("no answer")), nil, nil},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			k := keeping(t)
			s := k.etcd.status["a-0002"]
			s.Revision = 90
			k.etcd.status["a-0002"] = s
			if tc.world != nil {
				tc.world(k)
			}
			if err := k.does(plan.Step{Kind: plan.Compare}); err != nil {
				t.Fatal(err)
			}
			k.finish()
			hashed := slices.DeleteFunc(slices.Clone(k.etcd.calls), func(c string) bool { return !strings.HasPrefix(c, "Hash") })
			if n := len(hashed); n == 3 && hashed[2] != "Hash a-0000 90" {
				t.Errorf("asked %v: the leader is last, and all at a revision that all have", hashed)
			}
			got := k.tell().Comparison
			if !slices.Equal(got.Agree, tc.agree) || !slices.Equal(got.Differ, tc.differ) || got.Twice {
				t.Errorf("%+v", got)
			}
		})
	}
}

// TestWhenTheDataIsCompared, by the clock.
func TestWhenTheDataIsCompared(t *testing.T) {
	k := keeping(t)
	compare := func() {
		t.Helper()
		if err := k.does(plan.Step{Kind: plan.Compare}); err != nil {
			t.Fatal(err)
		}
		k.finish()
	}
	due := func(what string, want bool, later ...time.Duration) {
		t.Helper()
		if got := k.tell(later...).CompareDue; got != want {
			t.Errorf("%s: due %v", what, got)
		}
	}
	due("it was never compared", true)
	compare()
	due("it was just compared", false)
	due("an hour is not over", false, time.Hour-time.Second)
	due("an hour is over", true, time.Second)
	compare()
	hashOf("a-0001", etcd.Hash{CompactRevision: 10, Hash: 0xbb})(k)
	due("an hour later", true, time.Hour)
	compare()
	due("a difference is looked at again", false, time.Second)
	due("a difference is looked at again soon", true, time.Second)
	compare()
	if got := k.tell().Comparison; !got.Twice {
		t.Errorf("seen twice: %+v", got)
	}
	due("what is known", false, 59*time.Second)
	due("what is known is looked at again", true, time.Second)
	hashOf("a-0001", etcd.Hash{CompactRevision: 10, Hash: 0xaa})(k)
	compare()
	if got := k.tell().Comparison; got.Twice || len(got.Differ) > 0 {
		t.Errorf("equal again: %+v", got)
	}
	alarmed("CORRUPT", 2)(k)
	due("etcd has its doubts", false, time.Second)
	due("etcd has had its doubts for a while", true, time.Second)
	if got := k.tell().Comparison; got.Revision != 0 {
		t.Errorf("what was found before the alarm: %+v", got)
	}
	compare()
	due("they are answered", false, time.Minute)
	k.seen.Raised = nil
	k.tell()
	answersWith("Hash", errors.New("no answer"))(k)
	compare()
	due("nobody has answered", false, 59*time.Second)
	due("nobody has answered for a minute", true, time.Second)

	// An operator that has just started, of a cluster that was compared before.
	k.performer.Chores = &Chores{Clock: k.clock}
	k.cluster.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionDataConsistent, Status: metav1.ConditionTrue}}
	due("a new operator", false)
	due("a new operator, soon", true, compareFirst)
}

// TestACompactionIsDoneOnce, and done when etcd says that it was.
func TestACompactionIsDoneOnce(t *testing.T) {
	for name, answer := range map[string]error{"done": nil, "done before": etcd.ErrCompacted} {
		t.Run(name, func(t *testing.T) {
			k := keeping(t)
			k.etcd.answers["Compact"] = answer
			k.seen.CompactTo = 95
			if k.tell().CompactTo != 95 {
				t.Fatal("it is not due")
			}
			if err := k.does(plan.Step{Kind: plan.Compact}); err != nil {
				t.Fatal(err)
			}
			k.finish()
			if !slices.Contains(k.etcd.calls, "Compact 95") {
				t.Error(k.etcd.calls)
			}
			k.seen.CompactTo = 95
			if got := k.tell(); got.CompactTo != 0 || got.DefragmentHeld != "" {
				t.Errorf("to %d, held by %q", got.CompactTo, got.DefragmentHeld)
			}
			k.seen.CompactTo = 96
			if k.tell().CompactTo != 96 {
				t.Error("further is not due")
			}
		})
	}
}

// TestDefragmentedSinceTheAlarm: once for each alarm.
func TestDefragmentedSinceTheAlarm(t *testing.T) {
	k := keeping(t)
	is := func() bool { m, _ := k.tell().Member("a-0002"); return m.Defragmented }
	run := func() {
		t.Helper()
		if err := k.does(defragments("a-0002")); err != nil {
			t.Fatal(err)
		}
		k.finish()
	}
	run()
	alarmed("NOSPACE", 1)(k)
	k.tell(time.Minute)
	if is() {
		t.Error("before the alarm")
	}
	run()
	if !is() {
		t.Error("since the alarm")
	}
	k.seen.CompactTo = 95
	k.tell(time.Second)
	if err := k.does(plan.Step{Kind: plan.Compact}); err != nil {
		t.Fatal(err)
	}
	k.finish()
	if is() {
		t.Error("before the history was discarded")
	}
	run()
	if !is() {
		t.Error("since the history was discarded")
	}
	k.seen.Raised = nil
	k.tell(time.Minute)
	alarmed("NOSPACE", 1)(k)
	k.tell(time.Minute)
	if is() {
		t.Error("before the next alarm")
	}
}
