package observe

import (
	"context"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/etcd"
	"github.com/quorate/quorate/internal/plan"
	"github.com/quorate/quorate/internal/resources"
)

const (
	// disksEvery is how often a member is asked at most.
	disksEvery = 20 * time.Second
	// manyEntries must have been applied before it is asked again: a cluster at rest, to
	// whose log each look adds one, costs next to nothing.
	manyEntries = 16
	// disksWithin bounds the questions of a look.
	disksWithin = time.Second
	// fewSyncs say nothing: one may have met something else that the disk did.
	fewSyncs = 3
	// slowLong is how long a disk is seen slow before the leadership leaves it.
	slowLong = time.Minute
	// diskForgotten is how long what was seen last stays true.
	diskForgotten = 10 * time.Minute
)

// slowSyncs are what a disk is called slow by, the mean time of a sync: etcd's
// documentation wants 99 of 100 within 10 ms, and a heartbeat is due every 100 ms. A few
// steps, so that what is said does not change with every look.
var slowSyncs = []time.Duration{100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond, time.Second, 2 * time.Second, 5 * time.Second}

// disk is how the log of a member was synced.
type disk struct {
	asked   time.Time
	applied uint64
	was     etcd.Fsyncs
	// from is when the syncs that are counted began, slow since when they are slow, and
	// level how slow they were at the worst.
	from, slow time.Time
	level      time.Duration
}

// disks asks the members whose log has grown how long it takes to sync, all at once.
func (o *Observer) disks(ctx context.Context, c *v1alpha1.EtcdCluster, m *memory, endpoints map[string]etcd.Endpoint, as *etcd.Credentials, members []plan.Member) {
	if o.Meter == nil || as == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, disksWithin)
	defer cancel()
	now, known := o.Clock.Now(), map[string]*disk{}
	var asked sync.WaitGroup
	for i := range members {
		member := &members[i]
		d := m.disks[member.Name]
		if d == nil {
			d = &disk{}
		}
		known[member.Name] = d
		to, running := endpoints[member.Name]
		if !running || !member.Answers || now.Sub(d.asked) < disksEvery || member.Applied < d.applied+manyEntries {
			continue
		}
		host, _, err := net.SplitHostPort(to.Address)
		if err != nil {
			continue
		}
		to.Address = net.JoinHostPort(host, strconv.Itoa(resources.MetricsPort))
		// Metrics are protected once nothing else is left without.
		to.Plaintext = member.TakesPlaintext
		d.asked, d.applied = now, member.Applied
		asked.Go(func() {
			// A member that does not say is not slow for that.
			if found, err := o.Meter.Fsyncs(ctx, string(c.UID), to, *as); err == nil {
				d.note(now, found)
			}
		})
	}
	asked.Wait()
	m.disks = known
	for i := range members {
		d := known[members[i].Name]
		if now.Sub(d.from) >= diskForgotten {
			d.slow, d.level = time.Time{}, 0
		}
		members[i].SlowDisk, members[i].SlowLong = d.level, d.level > 0 && d.from.Sub(d.slow) >= slowLong
	}
}

// note what has been synced since the last time.
func (d *disk) note(now time.Time, found etcd.Fsyncs) {
	if d.from.IsZero() || found.Count < d.was.Count || found.Took < d.was.Took { // its process is another one
		d.was, d.from = found, now
		return
	}
	syncs := found.Count - d.was.Count
	if syncs < fewSyncs {
		return
	}
	level := levelOf((found.Took - d.was.Took) / time.Duration(syncs)) //nolint:gosec // a count of seconds
	switch {
	case level == 0:
		d.slow, d.level = time.Time{}, 0
	case d.slow.IsZero():
		d.slow, d.level = d.from, level
	default:
		d.level = max(d.level, level)
	}
	d.was, d.from = found, now
}

// levelOf is the highest of slowSyncs that a mean reaches; zero if it reaches none.
func levelOf(mean time.Duration) time.Duration {
	var reached time.Duration
	for _, slow := range slowSyncs {
		if mean >= slow {
			reached = slow
		}
	}
	return reached
}
