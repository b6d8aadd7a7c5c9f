package etcdtest

import (
	"context"
	"hash/fnv"
	"slices"
	"strconv"

	"github.com/quorate/quorate/internal/etcd"
)

// base is the size of a database without a key.
const base = 20480

// Database is what a disk's database is made of, in bytes.
type Database struct {
	// Live are the keys as they are, Old is their history, and Free what neither needs.
	Live, Old, Free int64
}

func (d Database) size() int64 { return base + d.Live + d.Old + d.Free }

// inUse is what the member says that is in use.
func (s *store) inUse() int64 { return base + s.db.Live + s.db.Old + s.uncounted }

// Fill gives the database of every member of the process's cluster this size, as users do
// who write much. Each member whose quota that reaches raises the alarm NOSPACE.
func (w *World) Fill(p *Process, d Database) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.disks {
		if s.disk.WAL && s.disk.ClusterID == p.store.disk.ClusterID {
			s.db = d
		}
	}
	for _, member := range w.peers(p) {
		if q := member.Flags.Quota; q > 0 && member.store.db.size() >= q {
			w.raise(member, etcd.AlarmNoSpace)
		}
	}
}

func (w *World) raise(p *Process, kind etcd.AlarmKind) {
	id, a := p.store.disk.ClusterID, etcd.Alarm{MemberID: p.store.disk.MemberID, Kind: kind}
	if !slices.Contains(w.alarms[id], a) {
		w.alarms[id] = append(w.alarms[id], a)
	}
}

// Database of the process.
func (w *World) Database(p *Process) Database {
	w.mu.Lock()
	defer w.mu.Unlock()
	return p.store.db
}

// Diverge has the keys on a volume differ from those of everybody else, as a bit that
// was flipped does.
func (w *World) Diverge(volume string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sequence++
	w.disk(volume).flipped = w.sequence
}

// Diverged says that the process's keys are not those that were written.
func (w *World) Diverged(p *Process) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return p.store.flipped != 0
}

// revision of the keys: etcd begins at one.
func (s *store) revision() int64 {
	n := int64(1)
	for _, e := range s.log {
		if e.kind == valuePut {
			n++
		}
	}
	return n
}

// receive what a snapshot of the other holds.
func (s *store) receive(from *store) { s.db, s.flipped, s.uncounted = from.db, from.flipped, 0 }

// Compact frees the history, on every member as soon as it has the log.
func (c *conn) Compact(ctx context.Context, revision int64) error {
	return c.call(ctx, "Compact", changes, func(p *Process) error {
		leader, err := c.world.led(p)
		if err != nil {
			return err
		}
		leader.store.config()
		switch {
		case c.world.alarmed(p, etcd.AlarmCorrupt):
			return etcd.ErrCorrupt
		case revision <= leader.store.compacted:
			return etcd.ErrCompacted
		case revision > leader.store.revision():
			return etcd.ErrFutureRevision
		}
		c.world.commit(leader, entry{kind: compaction, value: strconv.FormatInt(revision, 10)})
		return nil
	})
}

// compact what the entry says.
func (s *store) compact(e entry) {
	n, err := strconv.ParseInt(e.value, 10, 64)
	if err != nil || n <= s.compacted {
		return
	}
	s.compacted = n
	s.db.Free += s.db.Old
	s.uncounted = s.db.Old
	s.db.Old = 0
}

// Defragment takes no time here. One that comes late is the asked member's all the same.
func (c *conn) Defragment(ctx context.Context) error {
	return c.call(ctx, "Defragment", changes, func(*Process) error {
		if p := c.world.at(c); p != nil {
			p.store.config()
			p.store.db.Free, p.store.uncounted = 0, 0
		}
		return nil
	})
}

func (c *conn) Hash(ctx context.Context, revision int64) (h etcd.Hash, err error) {
	err = c.call(ctx, "Hash", reads, func(p *Process) error {
		p.store.config()
		switch {
		case revision > 0 && revision < p.store.compacted:
			return etcd.ErrCompacted
		case revision > p.store.revision():
			return etcd.ErrFutureRevision
		}
		h = etcd.Hash{MemberID: p.store.disk.MemberID, CompactRevision: p.store.compacted, Hash: p.store.hash(revision)}
		return nil
	})
	return h, err
}

// hash of the values up to the revision.
func (s *store) hash(revision int64) uint32 {
	sum, n := fnv.New32a(), int64(1)
	for _, e := range s.log {
		if e.kind != valuePut {
			continue
		}
		if n++; n <= revision {
			_, _ = sum.Write([]byte(e.value))
		}
	}
	if s.flipped != 0 {
		_, _ = sum.Write(strconv.AppendUint(nil, s.flipped, 10))
	}
	return sum.Sum32()
}

func (c *conn) Disarm(ctx context.Context, a etcd.Alarm) error {
	return c.call(ctx, "Disarm", changes, func(p *Process) error {
		if _, err := c.world.led(p); err != nil {
			return err
		}
		id := p.store.disk.ClusterID
		c.world.alarms[id] = slices.DeleteFunc(c.world.alarms[id], func(b etcd.Alarm) bool { return a == b })
		return nil
	})
}

func (w *World) alarmed(p *Process, kind etcd.AlarmKind) bool {
	return slices.ContainsFunc(w.alarms[p.store.disk.ClusterID], func(a etcd.Alarm) bool { return a.Kind == kind })
}
