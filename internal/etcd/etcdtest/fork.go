package etcdtest

import (
	"maps"
	"slices"
	"time"

	"github.com/quorate/quorate/internal/etcd"
)

// Fork returns a world that is equal to this one, goes by another clock and goes
// its own way from now on, and this world's processes with their twins in it. It
// has no connections and no interceptor. Calls that are late stay behind: they
// know the processes of this world.
func (w *World) Fork(now func() time.Time) (twin *World, twins map[*Process]*Process) {
	w.mu.Lock()
	defer w.mu.Unlock()
	twin = &World{
		now: now, disks: map[string]*store{}, calls: w.calls, sequence: w.sequence, founding: maps.Clone(w.founding),
		booted: maps.Clone(w.booted), clusterIDs: map[string][]uint64{}, alarms: map[uint64][]etcd.Alarm{}, lateBy: w.lateBy,
		written: slices.Clone(w.written), releases: maps.Clone(w.releases), pooled: map[string]map[etcd.Endpoint]etcd.Credentials{}, violations: slices.Clone(w.violations),
	}
	for token, ids := range w.clusterIDs {
		twin.clusterIDs[token] = slices.Clone(ids)
	}
	for id, raised := range w.alarms {
		twin.alarms[id] = slices.Clone(raised)
	}
	// A process may hold files that are no longer those of its volume.
	stores := map[*store]*store{}
	forked := func(s *store) *store {
		if stores[s] == nil {
			stores[s] = s.fork()
		}
		return stores[s]
	}
	for volume, s := range w.disks {
		twin.disks[volume] = forked(s)
	}
	twins = map[*Process]*Process{}
	for _, p := range w.processes {
		other := *p
		other.store = forked(p.store)
		twins[p] = &other
		twin.processes = append(twin.processes, &other)
	}
	return twin, twins
}

func (s *store) fork() *store {
	return &store{
		disk: s.disk, log: slices.Clip(s.log), term: s.term, format: s.format, db: s.db, uncounted: s.uncounted, compacted: s.compacted, flipped: s.flipped,
		members: maps.Clone(s.members), removed: maps.Clone(s.removed), folded: s.folded,
	}
}
