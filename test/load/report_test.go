package load

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	mvccpb "go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

// stored is a write as a member has it.
func stored(l *Load, writer, number int, revision int64) *mvccpb.KeyValue {
	return &mvccpb.KeyValue{
		Key: []byte(l.key(writer, number)), Value: []byte(l.value(writer, number)),
		CreateRevision: revision, ModRevision: revision, Version: 1,
	}
}

func TestWhatIsReadBackIsCompared(t *testing.T) {
	// Three writes: acknowledged at revision 1, unknown, acknowledged at 2.
	all := func(l *Load) []*mvccpb.KeyValue {
		return []*mvccpb.KeyValue{stored(l, 0, 0, 1), stored(l, 0, 2, 2)}
	}
	for name, c := range map[string]struct {
		held       func(l *Load) []*mvccpb.KeyValue
		lost       int
		unexpected string
	}{
		"everything is there": {held: all},
		"the unknown one is there too": {held: func(l *Load) []*mvccpb.KeyValue {
			return append(all(l), stored(l, 0, 1, 3))
		}},
		"an acknowledged one is lost": {held: func(l *Load) []*mvccpb.KeyValue { return all(l)[:1] }, lost: 1},
		"all are lost":                {held: func(*Load) []*mvccpb.KeyValue { return nil }, lost: 2},
		"one has another's value": {held: func(l *Load) []*mvccpb.KeyValue {
			kvs := all(l)
			kvs[0].Value = kvs[1].Value
			return kvs
		}, unexpected: "has the value"},
		"one was applied twice": {held: func(l *Load) []*mvccpb.KeyValue {
			kvs := all(l)
			kvs[0].Version = 2
			return kvs
		}, unexpected: "applied 2 times"},
		"one is at another revision": {held: func(l *Load) []*mvccpb.KeyValue {
			kvs := all(l)
			kvs[0].ModRevision = 4
			return kvs
		}, unexpected: "acknowledged at revision 1 and is there at 4"},
		"one was never put": {held: func(l *Load) []*mvccpb.KeyValue {
			return append(all(l), stored(l, 0, 7, 3))
		}, unexpected: "was never put"},
	} {
		t.Run(name, func(t *testing.T) {
			l := handMade([]int64{10, -1, 30})
			compared := newComparison(l)
			for _, kv := range c.held(l) {
				compared.compare("m", kv)
			}
			compared.missing("m")
			if got := len(compared.lost); got != c.lost {
				t.Errorf("%d lost, want %d: %v", got, c.lost, compared.lostShown)
			}
			if (compared.unexpected.count == 1) != (c.unexpected != "") || !strings.Contains(fmt.Sprint(compared.unexpected.shown), c.unexpected) {
				t.Errorf("unexpected: %+v, want %q", compared.unexpected, c.unexpected)
			}
		})
	}
}

func TestAKeyThatOneMemberLacksIsLostOnce(t *testing.T) {
	l := handMade([]int64{10, 20})
	compared := newComparison(l)
	for _, member := range []string{"complete", "lacking", "lacking too"} {
		if member == "complete" {
			compared.compare(member, stored(l, 0, 1, 2))
		}
		compared.compare(member, stored(l, 0, 0, 1))
		compared.missing(member)
		compared.reset()
	}
	if len(compared.lost) != 1 || compared.lostShown.count != 2 {
		t.Errorf("%d keys are lost at %d members: %v", len(compared.lost), compared.lostShown.count, compared.lostShown.shown)
	}
}

func TestARefusedWriteMustNotBeThere(t *testing.T) {
	l := handMade([]int64{10})
	l.writers[0].writes[0] = write{revision: outcomeRefused}
	compared := newComparison(l)
	compared.compare("m", stored(l, 0, 0, 1))
	if compared.unexpected.count != 1 {
		t.Error("it was there, and nobody noticed")
	}
}

func TestRevisionsOnlyGrow(t *testing.T) {
	for name, c := range map[string]struct {
		floor, revision int64
		effect          effect
		broken          int
	}{
		"a write above all":       {9, 10, changed, 0},
		"a write at the same":     {9, 9, changed, 1},
		"a write below":           {9, 8, changed, 1},
		"a read at the same":      {9, 9, unchanged, 0},
		"a read below":            {9, 8, unchanged, 1},
		"a write sent before 9":   {7, 8, changed, 0},
		"a stale read, but legal": {7, 8, unchanged, 0},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRevisions()
			r.answered("first", 0, &pb.ResponseHeader{Revision: 9}, changed)
			if r.floor() != 9 {
				t.Fatalf("the floor is %d", r.floor())
			}
			r.answered("it", c.floor, &pb.ResponseHeader{Revision: c.revision}, c.effect)
			if r.broken.count != c.broken {
				t.Errorf("violations: %+v", r.broken)
			}
			if r.floor() != max(9, c.revision) {
				t.Errorf("the floor is now %d", r.floor())
			}
		})
	}
}

func TestTwoWritesOfOneRevision(t *testing.T) {
	l := handMade([]int64{10, 20}, []int64{15, 25})
	l.writers[1].writes[1].revision = 2
	// A shared key's delete of nothing has the store's revision, not its own.
	l.shared.complete[0].operations = []operation{op(0, 1, 2, del, at(2)), op(0, 3, 4, put("a"), noAnswer)}
	var r Report
	l.revisions.conclude(&r, l.changes())
	if r.RevisionErrors != 1 || !errors.Is(r.Err(), ErrRevisions) {
		t.Errorf("%d errors: %v", r.RevisionErrors, r.RevisionShown)
	}
}

func TestOutcomeOfAnError(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		want outcome
	}{
		"none":                               {nil, acknowledged},
		"a timeout":                          {rpctypes.ErrTimeout, unknown},
		"a new leader in the middle":         {rpctypes.ErrLeaderChanged, unknown},
		"no space, told after it is applied": {rpctypes.ErrNoSpace, unknown},
		"a broken connection":                {errors.New("EOF"), unknown},
		"a learner":                          {rpctypes.Error(rpctypes.ErrGRPCNotSupportedForLearner), refused},
		"too many requests":                  {rpctypes.ErrTooManyRequests, refused},
	} {
		if got := outcomeOf(c.err); got != c.want {
			t.Errorf("%s: outcome %d, want %d", name, got, c.want)
		}
	}
}

// sound is a report in which nothing is wrong.
func sound() Report {
	return Report{
		Run: "1a2b3c4d", Began: began, Seconds: 12.34, Clusters: []string{"c1"}, Verdict: Ok, Keys: 3,
		Operations: map[string]Counts{"write": {Acknowledged: 700, Unknown: 2}},
		Readings:   []Reading{{Endpoint: "http://m0", Keys: 701}}, Longest: gap(10, 35),
		Writers: []WriterGap{{Writer: 0, Gap: gap(10, 90)}},
		Marks:   []MarkGap{{Mark: Mark{Name: "leader killed", At: after(5)}, Gap: gap(10, 35), WriterGap: gap(10, 90)}},
	}
}

func TestEachFindingIsAnErrorOfItsOwn(t *testing.T) {
	whole := sound()
	if err := whole.Err(); err != nil {
		t.Fatalf("a sound report: %v", err)
	}
	kinds := []error{ErrLost, ErrUnexpected, ErrNotLinearizable, ErrUndecided, ErrRevisions, ErrClusters, ErrUnread, ErrFull}
	for name, c := range map[string]struct {
		spoil func(*Report)
		want  error
	}{
		"lost":             {func(r *Report) { r.Lost = 1; r.LostKeys = []string{"k"} }, ErrLost},
		"unexpected":       {func(r *Report) { r.Unexpected = 1 }, ErrUnexpected},
		"not linearizable": {func(r *Report) { r.Verdict = Illegal }, ErrNotLinearizable},
		"not decided":      {func(r *Report) { r.Verdict = Unknown }, ErrUndecided},
		"revisions":        {func(r *Report) { r.RevisionErrors = 1 }, ErrRevisions},
		"two clusters":     {func(r *Report) { r.Clusters = []string{"a", "b"} }, ErrClusters},
		"unread":           {func(r *Report) { r.Unread = []string{"x"} }, ErrUnread},
		"full":             {func(r *Report) { r.Full = true }, ErrFull},
	} {
		t.Run(name, func(t *testing.T) {
			r := sound()
			c.spoil(&r)
			for _, k := range kinds {
				if errors.Is(r.Err(), k) != (k == c.want) { //nolint:errorlint // the identity of a sentinel
					t.Errorf("Err() = %v; is it %q?", r.Err(), k)
				}
			}
			if !strings.Contains(r.String(), "WRONG") {
				t.Error("the text does not tell")
			}
		})
	}
}

func TestReportForPeopleAndMachines(t *testing.T) {
	r := sound()
	want := `load 1a2b3c4d: 12.3 s from 03:04:05.000, cluster c1, revision 0
  write       700 acknowledged, 2 unknown, 0 refused
  get           0 acknowledged, 0 unknown, 0 refused
  put           0 acknowledged, 0 unknown, 0 refused
  cas           0 acknowledged, 0 unknown, 0 refused
  delete        0 acknowledged, 0 unknown, 0 refused
  history  Ok (3 keys, checked in 0.00 s), 0 revision errors
  read     701 keys through http://m0
  lost     0 of 700 acknowledged, 0 unexpected
  gap      25ms at 03:04:05.010
           80ms at 03:04:05.010 of writer 0
  mark     leader killed: 25ms at 03:04:05.010; of writer 0 80ms at 03:04:05.010
`
	if diff := cmp.Diff(want, r.String()); diff != "" {
		t.Errorf("text (-want +got):\n%s", diff)
	}
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{`"verdict":"Ok"`, `"lost":0`, `"longestGap":{"milliseconds":25`, `"name":"leader killed"`, `"write":{"acknowledged":700,"unknown":2,"refused":0}`} {
		if !strings.Contains(string(text), part) {
			t.Errorf("%s is not in %s", part, text)
		}
	}
}
