package load

import (
	"context"
	"errors"
	"fmt"
	"time"

	mvccpb "go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	// readPage is how many keys one request reads.
	readPage = 2000
	// readTimeout of one request when reading back.
	readTimeout = 2 * time.Second
	// readPatience is how long an endpoint is asked that does not answer. It
	// outlives an election.
	readPatience = 5 * time.Second
	// readAgain is the pause between two attempts.
	readAgain = 100 * time.Millisecond
)

// judge reads everything back and writes the report.
func (l *Load) judge(ctx context.Context, ended time.Time) *Report {
	r := l.measure(ended)
	// Until one member at least has answered there is no verdict to give, so
	// the caller's time is spent on asking all of them again.
	answering := l.readUnique(ctx, r)
	for len(answering) == 0 && ctx.Err() == nil {
		answering = l.readUnique(ctx, r)
	}
	if len(answering) == 0 {
		r.Unread = append(r.Unread, "all keys: no endpoint could be read")
	} else {
		l.readShared(ctx, r, answering)
	}
	began := time.Now()
	r.Verdict, r.Illegal = check(l.shared.complete, l.config.CheckTimeout, l.config.Artifacts)
	r.CheckSeconds = time.Since(began).Seconds()
	l.revisions.conclude(r, l.changes())
	return r
}

// Reading is a reading of all unique keys through one member.
type Reading struct {
	Endpoint string `json:"endpoint"`
	// Keys that it has of this load.
	Keys int `json:"keys"`
	// Error that kept it from being read.
	Error string `json:"error,omitempty"`
}

// readUnique reads all unique keys through every endpoint, for each member
// answers from its own copy. One that cannot be asked is noted. It yields the
// numbers of those that were read to the end.
func (l *Load) readUnique(ctx context.Context, r *Report) []int {
	comparison := newComparison(l)
	var answering []int
	r.Readings = nil
	for number, endpoint := range l.members.list() {
		reading := Reading{Endpoint: endpoint}
		err := l.readEndpoint(ctx, number, func(kvs []*mvccpb.KeyValue) {
			reading.Keys += len(kvs)
			for _, kv := range kvs {
				comparison.compare(endpoint, kv)
			}
		})
		if err != nil {
			reading.Error = err.Error()
		} else {
			answering = append(answering, number)
			comparison.missing(endpoint)
		}
		r.Readings = append(r.Readings, reading)
		comparison.reset()
	}
	r.Lost, r.LostKeys = len(comparison.lost), comparison.lostShown.shown
	r.Unexpected, r.UnexpectedKeys = comparison.unexpected.count, comparison.unexpected.shown
	return answering
}

// readEndpoint yields the unique keys page by page, each page once.
func (l *Load) readEndpoint(ctx context.Context, number int, yield func([]*mvccpb.KeyValue)) error {
	from, end := l.writerPrefix(), clientv3.GetPrefixRangeEnd(l.writerPrefix())
	for {
		var page *clientv3.GetResponse
		err := retry(ctx, readPatience, func(ctx context.Context) (err error) {
			page, err = l.members.at(number).Get(ctx, from, clientv3.WithRange(end), clientv3.WithLimit(readPage))
			return err
		})
		if err != nil {
			return err
		}
		yield(page.Kvs)
		if !page.More {
			return nil
		}
		from = string(page.Kvs[len(page.Kvs)-1].Key) + "\x00"
	}
}

// readShared reads each shared key once more, so that its last write has to be
// there, and adds this to its history. The endpoints with these numbers take
// turns.
func (l *Load) readShared(ctx context.Context, r *Report, answering []int) {
	for i, h := range l.shared.complete {
		if len(h.operations) == 0 {
			continue
		}
		attempt := 0
		err := retry(ctx, readPatience, func(ctx context.Context) error {
			client := l.members.at(answering[(i+attempt)%len(answering)])
			attempt++
			floor, call := l.revisions.floor(), l.now()
			got, err := client.Get(ctx, h.key)
			if err != nil {
				return err
			}
			o := operation{client: l.config.Contenders, in: input{kind: kindGet}, call: call, answer: l.now()}
			if len(got.Kvs) > 0 {
				o.out.value, o.out.modified = string(got.Kvs[0].Value), got.Kvs[0].ModRevision
			}
			o.out.revision = got.Header.Revision
			l.revisions.answered("the last get "+h.key, floor, got.Header, unchanged)
			h.add(o)
			return nil
		})
		if err != nil {
			r.Unread = append(r.Unread, fmt.Sprintf("shared keys from %s on: %v", h.key, err))
			return
		}
	}
}

// retry an idempotent request until it succeeds, patience or context end.
func retry(ctx context.Context, patience time.Duration, request func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	last := errors.New("never asked")
	for ctx.Err() == nil {
		attempt, done := context.WithTimeout(ctx, readTimeout)
		err := request(attempt)
		done()
		if err == nil {
			return nil
		}
		last = err
		pause(ctx, readAgain)
	}
	return last
}

// comparison of what is there with what was acknowledged.
type comparison struct {
	load *Load
	// found holds of each writer which writes the present endpoint has.
	found      [][]bool
	lost       map[[2]int]bool
	lostShown  violations
	unexpected violations
}

func newComparison(l *Load) *comparison {
	c := &comparison{load: l, lost: map[[2]int]bool{}}
	c.reset()
	return c
}

// reset before the next endpoint.
func (c *comparison) reset() {
	c.found = nil
	for _, w := range c.load.writers {
		c.found = append(c.found, make([]bool, len(w.writes)))
	}
}

// compare one key that an endpoint has.
func (c *comparison) compare(endpoint string, kv *mvccpb.KeyValue) {
	writer, number, err := c.load.parse(string(kv.Key))
	if err != nil || writer >= len(c.found) || number >= len(c.found[writer]) {
		c.unexpected.add("%s at %s: was never put", kv.Key, endpoint)
		return
	}
	c.found[writer][number] = true
	acked := c.load.writers[writer].writes[number].revision
	switch {
	case acked == outcomeRefused:
		c.unexpected.add("%s at %s: its put was refused", kv.Key, endpoint)
	case string(kv.Value) != c.load.value(writer, number):
		c.unexpected.add("%s at %s: has the value %q", kv.Key, endpoint, kv.Value)
	case kv.Version != 1:
		c.unexpected.add("%s at %s: was put once and applied %d times", kv.Key, endpoint, kv.Version)
	case acked > 0 && kv.ModRevision != acked:
		c.unexpected.add("%s at %s: was acknowledged at revision %d and is there at %d", kv.Key, endpoint, acked, kv.ModRevision)
	}
}

// missing notes what was acknowledged and was not found at this endpoint.
func (c *comparison) missing(endpoint string) {
	for i, w := range c.load.writers {
		for number, done := range w.writes {
			if done.revision <= 0 || c.found[i][number] {
				continue
			}
			c.lost[[2]int{i, number}] = true
			at := c.load.began.Add(time.Duration(done.at)).Format("15:04:05.000")
			c.lostShown.add("%s (acknowledged at %s, revision %d, not there at %s)", c.load.key(i, number), at, done.revision, endpoint)
		}
	}
}
