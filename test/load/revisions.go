package load

import (
	"fmt"
	"sync"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// shownViolations is how many violations of a kind are told; all are counted.
const shownViolations = 5

// revisions compares every answer with those that came before its request: a
// write must have a higher revision than any of them, a read at least the same.
// That orders writes to different keys too, which the search for an order of
// each key's operations does not see.
type revisions struct {
	mu       sync.Mutex
	highest  int64
	clusters map[uint64]bool
	broken   violations
}

func newRevisions() *revisions { return &revisions{clusters: map[uint64]bool{}} }

// violations of one kind.
type violations struct {
	count int
	shown []string
}

func (v *violations) add(format string, args ...any) {
	v.count++
	if len(v.shown) < shownViolations {
		v.shown = append(v.shown, fmt.Sprintf(format, args...))
	}
}

// floor is the highest revision that any answer has told. It is asked right
// before a request is sent.
func (r *revisions) floor() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.highest
}

// effect of an operation on the store.
type effect int

const (
	changed effect = iota
	unchanged
)

// answered takes note of an answer to a request that was sent at this floor.
func (r *revisions) answered(what string, floor int64, header *pb.ResponseHeader, e effect) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.clusters[header.ClusterId] = true
	switch revision := header.Revision; {
	case e == changed && revision <= floor:
		r.broken.add("%s was acknowledged at revision %d, but revision %d had been told before it was sent", what, revision, floor)
	case revision < floor:
		r.broken.add("%s was answered at revision %d, but revision %d had been told before it was sent", what, revision, floor)
	}
	r.highest = max(r.highest, header.Revision)
}
