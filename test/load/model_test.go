package load

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// Operations of hand-made histories: who, from when to when, what.
func op(client int, call, answer int64, in input, out output) operation {
	return operation{client: client, in: in, out: out, call: call, answer: answer}
}

func put(value string) input         { return input{kind: kindPut, value: value} }
func cas(expect, value string) input { return input{kind: kindCAS, expect: expect, value: value} }
func at(revision int64) output       { return output{revision: revision} }
func applied(revision int64) output  { return output{revision: revision, applied: true} }
func holds(value string, modified, revision int64) output {
	return output{value: value, modified: modified, revision: revision}
}

var (
	get      = input{kind: kindGet}
	del      = input{kind: kindDelete}
	noAnswer = output{unknown: true}
)

// histories by what happens in them.
var histories = map[string]struct {
	operations []operation
	want       Verdict
}{
	"nothing": {nil, Ok},
	"a write is read": {[]operation{
		op(0, 1, 2, put("a"), at(5)), op(1, 3, 4, get, holds("a", 5, 5)),
	}, Ok},
	"a stale read: an old value after a newer one was acknowledged": {[]operation{
		op(0, 1, 2, put("a"), at(5)), op(0, 3, 4, put("b"), at(6)), op(1, 5, 6, get, holds("a", 5, 5)),
	}, Illegal},
	"a stale read whose revision pretends to be fresh": {[]operation{
		op(0, 1, 2, put("a"), at(5)), op(0, 3, 4, put("b"), at(6)), op(1, 5, 6, get, holds("a", 5, 7)),
	}, Illegal},
	"a read that overlaps a write finds the old value": {[]operation{
		op(0, 1, 2, put("a"), at(5)), op(0, 3, 9, put("b"), at(6)), op(1, 4, 5, get, holds("a", 5, 5)),
	}, Ok},
	"two reads that overlap a write go back in time": {[]operation{
		op(0, 1, 2, put("a"), at(5)), op(0, 3, 9, put("b"), at(6)),
		op(1, 4, 5, get, holds("b", 6, 6)), op(1, 6, 7, get, holds("a", 5, 5)),
	}, Illegal},
	"a lost write: it was acknowledged and is not found": {[]operation{
		op(0, 1, 2, put("a"), at(5)), op(1, 3, 4, get, at(6)),
	}, Illegal},
	"a write without an answer has no effect": {[]operation{
		op(0, 1, 2, put("a"), at(5)), op(1, 3, 4, put("b"), noAnswer), op(0, 20, 21, get, holds("a", 5, 5)),
	}, Ok},
	"a write without an answer shows at once": {[]operation{
		op(0, 1, 2, put("a"), at(5)), op(1, 3, 4, put("b"), noAnswer), op(0, 20, 21, get, holds("b", 6, 6)),
	}, Ok},
	"a write without an answer shows long after others": {[]operation{
		op(1, 1, 4, put("late"), noAnswer), op(0, 5, 6, put("a"), at(5)), op(0, 7, 8, get, holds("a", 5, 5)),
		op(0, 9, 10, get, holds("late", 8, 8)),
	}, Ok},
	"a write without an answer takes effect twice": {[]operation{
		op(1, 1, 4, put("late"), noAnswer), op(0, 5, 6, get, holds("late", 5, 5)), op(0, 7, 8, put("a"), at(6)),
		op(0, 9, 10, get, holds("late", 7, 7)),
	}, Illegal},
	"a write without an answer is read before it was sent": {[]operation{
		op(0, 1, 2, get, holds("b", 5, 5)), op(1, 3, 4, put("b"), noAnswer),
	}, Illegal},
	"a swap without an answer shows": {[]operation{
		op(0, 1, 2, put("a"), at(5)), op(1, 3, 4, cas("a", "b"), noAnswer), op(0, 9, 10, get, holds("b", 6, 6)),
	}, Ok},
	"a swap without an answer has replaced what it did not expect": {[]operation{
		op(0, 1, 2, put("a"), at(5)), op(1, 3, 4, cas("x", "b"), noAnswer), op(0, 9, 10, get, holds("b", 6, 6)),
	}, Illegal},
	"a delete without an answer shows": {[]operation{
		op(0, 1, 2, put("a"), at(5)), op(1, 3, 4, del, noAnswer), op(0, 9, 10, get, at(6)),
	}, Ok},
	"a delete without an answer does not hide a later write for ever": {[]operation{
		op(0, 1, 2, put("a"), at(5)), op(1, 3, 4, del, noAnswer), op(0, 5, 6, get, at(6)),
		op(0, 7, 8, put("b"), at(7)), op(0, 9, 10, get, at(7)),
	}, Illegal},
	"of two swaps of the same value one swaps": {[]operation{
		op(0, 1, 2, put("a"), at(5)), op(0, 3, 6, cas("a", "b"), applied(6)), op(1, 3, 6, cas("a", "c"), holds("b", 6, 6)),
	}, Ok},
	"two swaps of the same value both swap": {[]operation{
		op(0, 1, 2, put("a"), at(5)), op(0, 3, 6, cas("a", "b"), applied(6)), op(1, 3, 6, cas("a", "c"), applied(7)),
	}, Illegal},
	"a swap creates, a second finds it": {[]operation{
		op(0, 1, 2, cas("", "a"), applied(5)), op(1, 3, 4, cas("", "b"), holds("a", 5, 5)),
	}, Ok},
	"a swap does not swap although nothing has changed": {[]operation{
		op(0, 1, 2, put("a"), at(5)), op(0, 3, 4, cas("a", "b"), holds("a", 5, 5)),
	}, Illegal},
	"a delete deletes": {[]operation{
		op(0, 1, 2, put("a"), at(5)), op(1, 3, 4, del, applied(6)), op(1, 5, 6, get, at(6)), op(1, 7, 8, del, at(6)),
	}, Ok},
	"a delete finds nothing where there is something": {[]operation{
		op(0, 1, 2, put("a"), at(5)), op(1, 3, 4, del, at(5)),
	}, Illegal},
	"a delete deletes where there is nothing": {[]operation{
		op(0, 1, 2, put("a"), at(5)), op(1, 3, 4, del, applied(6)), op(1, 5, 6, del, applied(7)),
	}, Illegal},
	"a deleted value comes back": {[]operation{
		op(0, 1, 2, put("a"), at(5)), op(1, 3, 4, del, applied(6)), op(1, 5, 6, get, holds("a", 5, 6)),
	}, Illegal},
	"a write gets a revision that there has been": {[]operation{
		op(0, 1, 2, put("a"), at(5)), op(0, 3, 4, put("b"), at(5)), op(1, 5, 6, get, holds("b", 5, 5)),
	}, Illegal},
	"a value moves to another revision": {[]operation{
		op(0, 1, 2, put("a"), at(5)), op(1, 3, 4, get, holds("a", 6, 6)),
	}, Illegal},
	"a value of an unanswered write moves to another revision": {[]operation{
		op(0, 1, 2, put("a"), noAnswer), op(1, 3, 4, get, holds("a", 5, 7)), op(1, 5, 6, get, holds("a", 6, 7)),
	}, Illegal},
	"the store goes back to an older revision": {[]operation{
		op(0, 1, 2, get, at(9)), op(0, 3, 4, get, at(8)),
	}, Illegal},
}

func TestVerdictOnHandMadeHistories(t *testing.T) {
	for name, c := range histories {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			got, illegal := check([]*history{{key: "a/key", operations: c.operations}}, time.Minute, dir)
			if got != c.want {
				t.Fatalf("the verdict is %s, want %s", got, c.want)
			}
			if (got == Illegal) != (len(illegal) == 1) {
				t.Fatalf("verdict %s, with %v", got, illegal)
			}
			if got != Illegal {
				return
			}
			k := illegal[0]
			if k.Name != "a/key" || k.Operations != len(c.operations) || k.Stuck == "" || filepath.Dir(k.Picture) != dir {
				t.Errorf("it is told as %+v", k)
			}
			if page, err := os.ReadFile(k.Picture); err != nil || len(page) > 1<<20 || !strings.Contains(string(page), "get()") && !strings.Contains(string(page), "put(") {
				t.Errorf("the picture has %d bytes: %v", len(page), err)
			}
		})
	}
}

func TestTheFirstUnexplainedAnswerIsNamed(t *testing.T) {
	c := histories["a stale read: an old value after a newer one was acknowledged"]
	_, illegal := check([]*history{{key: "k", operations: c.operations}}, time.Minute, t.TempDir())
	if want := "client 1 at +0.000s: get() → a @5"; illegal[0].Stuck != want {
		t.Errorf("stuck at %q, want %q", illegal[0].Stuck, want)
	}
}

func TestOneBadKeyAmongGoodOnes(t *testing.T) {
	good := histories["a write is read"].operations
	keys := []*history{
		{key: "good", operations: good},
		{key: "bad", operations: histories["a lost write: it was acknowledged and is not found"].operations},
		{key: "good too", operations: good},
	}
	got, illegal := check(keys, time.Minute, t.TempDir())
	if got != Illegal || len(illegal) != 1 || illegal[0].Name != "bad" {
		t.Errorf("verdict %s, %v", got, illegal)
	}
}

// hard is a history that takes too long to refute.
func hard() []operation {
	// Sixteen writes without an answer, seen as none: every order of every
	// subset is tried, and none explains the last answer.
	var all []operation
	for i := range int64(16) {
		all = append(all, op(int(i), 1, 2, put(string(rune('a'+i))), noAnswer))
	}
	all = append(all, op(0, 3, 4, get, holds("never written", 5, 5)))
	return all
}

func TestASearchWithoutEndIsNotOk(t *testing.T) {
	began := time.Now()
	got, illegal := check([]*history{{key: "k", operations: hard()}}, 500*time.Millisecond, t.TempDir())
	if got != Unknown || illegal != nil {
		t.Errorf("verdict %s, %v", got, illegal)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %s", took)
	}
}

func TestAWholeKeyOfUnansweredOperationsIsCheckedFast(t *testing.T) {
	// As bad as the load lets a key become: three clients, and as many
	// unanswered writes as retire it, none of which is ever seen.
	var all []operation
	for i := range int64(unknownPerKey + 2) {
		all = append(all, op(int(i), 1, 2, put(string(rune('a'+i))), noAnswer))
	}
	now, revision := int64(3), int64(10)
	for i := range 60 {
		value := "v" + string(rune('0'+i%10)) + string(rune('0'+i/10))
		all = append(all, op(0, now, now+5, put(value), at(revision)), op(1, now+6, now+7, get, holds(value, revision, revision)))
		now, revision = now+8, revision+1
	}
	all = append(all, op(0, now, now+1, get, holds("lost", 3, revision)))
	began := time.Now()
	h := history{key: "k", operations: all}
	if got := porcupine.CheckOperationsTimeout(model, h.porcupine(), time.Minute); got != porcupine.Illegal {
		t.Errorf("verdict %s", got)
	}
	t.Logf("checked in %s", time.Since(began))
}

func TestOneHardKeyDoesNotHideABadOne(t *testing.T) {
	keys := []*history{
		{key: "hard", operations: hard()},
		{key: "bad", operations: histories["a lost write: it was acknowledged and is not found"].operations},
	}
	got, illegal := check(keys, time.Second, t.TempDir())
	if got != Illegal || len(illegal) != 1 || illegal[0].Name != "bad" {
		t.Errorf("verdict %s, %v", got, illegal)
	}
}

func TestSharedKeysRetire(t *testing.T) {
	s := newShared("p/", 2, 10)
	first := s.key(0)
	if s.key(0) != first || s.key(1) == first {
		t.Fatal("each place has one key until it is used enough")
	}
	for range 9 {
		first.add(op(0, 1, 2, get, at(1)))
	}
	if s.key(0) != first {
		t.Error("retired after 9 of 10 operations")
	}
	first.add(op(0, 1, 2, get, at(1)))
	second := s.key(0)
	if second == first || second.key == first.key {
		t.Error("not retired after 10 operations")
	}
	for range unknownPerKey {
		second.add(op(0, 1, 2, put("x"), noAnswer))
	}
	if s.key(0) == second {
		t.Errorf("not retired after %d operations without an answer", unknownPerKey)
	}
	if len(s.complete) != 4 {
		t.Errorf("%d keys are remembered, want 4", len(s.complete))
	}
}
