package load

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// contender works on the shared keys, one operation at a time.
type contender struct {
	load   *Load
	index  int
	route  route
	choice *rand.Rand
	// seen is what this contender last found of a key, which it swaps.
	seen map[string]seen

	mu    sync.Mutex
	total map[kind]*Counts
	count int
}

type seen struct {
	value    string
	modified int64
}

func newContender(l *Load, index int) *contender {
	c := &contender{
		load: l, index: index, route: route{home: index, retry: l.config.Retry},
		choice: rand.New(rand.NewPCG(l.config.Seed, uint64(index))),
		seen:   map[string]seen{}, total: map[kind]*Counts{},
	}
	for k := range kinds {
		c.total[k] = &Counts{}
	}
	return c
}

// work does operations at the contender's share of the rate.
func (c *contender) work(ctx context.Context) {
	interval := time.Duration(float64(c.load.config.Contenders) / c.load.config.ContendRate * float64(time.Second))
	wait := interval * time.Duration(c.index) / time.Duration(c.load.config.Contenders)
	for pause(ctx, wait) && c.load.admit() {
		sent := time.Now()
		key := c.load.shared.key(c.choice.IntN(c.load.config.ContendedKeys))
		result := c.operate(ctx, key)
		wait = interval - time.Since(sent)
		if result != acknowledged {
			c.route.failed()
			wait = max(wait, retryPause)
		}
	}
}

// choose what to do: 40 % get, 25 % put, 25 % compare-and-swap, 10 % delete.
func (c *contender) choose(key string) input {
	c.count++
	value := fmt.Sprintf("%d.%d", c.index, c.count)
	switch n := c.choice.IntN(100); {
	case n < 40:
		return input{kind: kindGet}
	case n < 65:
		return input{kind: kindPut, value: value}
	case n < 90:
		return input{kind: kindCAS, value: value, expect: c.seen[key].value}
	default:
		return input{kind: kindDelete}
	}
}

func (c *contender) operate(ctx context.Context, h *history) outcome {
	l := c.load
	in := c.choose(h.key)
	client := c.route.client(l.members)
	ctx, cancel := l.request(ctx)
	defer cancel()
	floor := l.revisions.floor()
	o := operation{client: c.index, in: in, call: l.now()}
	header, out, err := c.send(ctx, client, h.key, in)
	o.out, o.answer = out, l.now()
	result := outcomeOf(err)
	switch {
	case result == acknowledged:
		o.out.revision = header.Revision
		l.revisions.answered(kinds[in.kind]+" "+h.key, floor, header, effectOf(in, out))
		c.remember(h.key, o)
		h.add(o)
	case result == unknown && in.kind != kindGet:
		o.out = output{unknown: true}
		h.add(o)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.total[in.kind].add(result)
	return result
}

// send does the operation and translates its answer.
func (c *contender) send(ctx context.Context, client *clientv3.Client, key string, in input) (*pb.ResponseHeader, output, error) {
	switch in.kind {
	case kindPut:
		r, err := client.Put(ctx, key, in.value)
		if err != nil {
			return nil, output{}, err
		}
		return r.Header, output{}, nil
	case kindDelete:
		r, err := client.Delete(ctx, key)
		if err != nil {
			return nil, output{}, err
		}
		return r.Header, output{applied: r.Deleted > 0}, nil
	case kindCAS:
		// The value seen has its revision to itself, so comparing revisions
		// compares values, and absence is revision 0.
		r, err := client.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(key), "=", c.seen[key].modified)).
			Then(clientv3.OpPut(key, in.value)).Else(clientv3.OpGet(key)).Commit()
		if err != nil {
			return nil, output{}, err
		}
		if r.Succeeded {
			return r.Header, output{applied: true}, nil
		}
		return r.Header, found(r.Responses[0].GetResponseRange()), nil
	default:
		r, err := client.Get(ctx, key, c.load.config.Reads.options()...)
		if err != nil {
			return nil, output{}, err
		}
		return r.Header, found((*pb.RangeResponse)(r)), nil
	}
}

func (r Reads) options() []clientv3.OpOption {
	if r == SerializableReads {
		return []clientv3.OpOption{clientv3.WithSerializable()}
	}
	return nil
}

func found(r *pb.RangeResponse) output {
	if len(r.Kvs) == 0 {
		return output{}
	}
	return output{value: string(r.Kvs[0].Value), modified: r.Kvs[0].ModRevision}
}

func effectOf(in input, out output) effect {
	if in.kind == kindPut || out.applied {
		return changed
	}
	return unchanged
}

// remember what the key has now, for the next compare-and-swap.
func (c *contender) remember(key string, o operation) {
	switch {
	case effectOf(o.in, o.out) == unchanged:
		c.seen[key] = seen{o.out.value, o.out.modified}
	case o.in.kind == kindDelete:
		c.seen[key] = seen{}
	default:
		c.seen[key] = seen{o.in.value, o.out.revision}
	}
}
