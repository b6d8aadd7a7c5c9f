package etcdtest

import (
	"maps"
	"slices"
	"strings"

	"github.com/quorate/quorate/internal/etcd"
)

// kind of a log entry.
type kind int

const (
	memberAdded kind = iota
	memberRemoved
	memberPromoted
	memberPublished
	memberUpdated
	valuePut
	compaction
	nothing
)

// entry of the log. Every entry of a world has a number of its own, so that two
// logs with the same number at the same place are equal up to there.
type entry struct {
	number uint64
	kind   kind
	member etcd.Member
	value  string
}

// store is what a disk holds. Logs hold committed entries only; they share
// memory, since no entry ever changes.
type store struct {
	disk Disk
	log  []entry
	term uint64
	// format is the minor release whose format the data has; zero before it is agreed on.
	format int
	db     Database
	// compacted is the revision up to which history is gone; flipped is not zero once the
	// keys differ from what was written.
	compacted int64
	// uncounted is what is told as in use although a compaction has freed it: etcd counts
	// anew when it writes.
	uncounted int64
	flipped   uint64

	members map[uint64]etcd.Member
	removed map[uint64]bool
	folded  int
}

// config is the membership as the log tells it.
func (s *store) config() map[uint64]etcd.Member {
	if s.members == nil || s.folded > len(s.log) {
		s.members, s.removed, s.folded = map[uint64]etcd.Member{}, map[uint64]bool{}, 0
	}
	for _, e := range s.log[s.folded:] {
		m := s.members[e.member.ID]
		switch e.kind {
		case memberAdded:
			s.members[e.member.ID] = e.member
		case memberRemoved:
			delete(s.members, e.member.ID)
			s.removed[e.member.ID] = true
		case memberPromoted:
			m.Learner = false
			s.members[m.ID] = m
		case memberPublished:
			m.Name, m.ClientURLs = e.member.Name, e.member.ClientURLs
			s.members[m.ID] = m
		case memberUpdated:
			m.PeerURLs = e.member.PeerURLs
			s.members[m.ID] = m
		case compaction:
			s.compact(e)
		case valuePut:
			s.uncounted = 0
		case nothing:
		}
	}
	s.folded = len(s.log)
	return s.members
}

func (s *store) isRemoved(id uint64) bool {
	s.config()
	return s.removed[id]
}

// voters of the configuration.
func (s *store) voters() []uint64 {
	var ids []uint64
	for id, m := range s.config() {
		if !m.Learner {
			ids = append(ids, id)
		}
	}
	return ids
}

func (p *Process) learner() bool {
	m, listed := p.store.config()[p.store.disk.MemberID]
	return m.Learner || !listed
}

// peers are the running processes of the cluster that the process can speak
// to, itself included, lowest ordinal first.
func (w *World) peers(p *Process) []*Process {
	if !p.running {
		return nil
	}
	if p.cutFromPeers {
		return []*Process{p}
	}
	var list []*Process
	for _, other := range w.processes {
		if other.running && !other.cutFromPeers && other.store.disk.ClusterID == p.store.disk.ClusterID &&
			p.dials(other) && other.dials(p) {
			list = append(list, other)
		}
	}
	slices.SortStableFunc(list, byOrdinal)
	return list
}

// takes says that the process listens for clients with the scheme. One that does so with
// TLS has a certificate to dial with.
func (p *Process) takes(scheme string) bool {
	return len(p.Flags.Takes) == 0 || slices.Contains(p.Flags.Takes, scheme)
}

// listens says that the process takes what is dialed with the scheme at the port.
func (p *Process) listens(scheme, port string) bool {
	return len(p.Flags.ListenPeers) == 0 || slices.ContainsFunc(p.Flags.ListenPeers, func(at string) bool {
		return strings.HasPrefix(at, scheme+"://") && strings.HasSuffix(at, ":"+port)
	})
}

// dials says that the process reaches the other one at the peer URL that it knows of it.
func (p *Process) dials(other *Process) bool {
	m, listed := p.store.config()[other.store.disk.MemberID]
	if p == other || !listed || len(m.PeerURLs) == 0 {
		return true
	}
	return p.reaches(other, m.PeerURLs[0])
}

// reaches says that the process gets through to the other one at a peer URL.
func (p *Process) reaches(other *Process, url string) bool {
	scheme, _, _ := strings.Cut(url, "://")
	return other.listens(scheme, url[strings.LastIndexByte(url, ':')+1:]) && (scheme != "https" || p.takes("https"))
}

// CutOff says of every two processes of a cluster, one of which cannot reach the other at
// the peer URL that it knows of it, how the first one tries.
func (w *World) CutOff() (pairs []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range w.processes {
		for _, other := range w.processes {
			if p.running && other.running && p.store.disk.ClusterID == other.store.disk.ClusterID && !p.dials(other) {
				pairs = append(pairs, p.Flags.Name+" to "+p.store.config()[other.store.disk.MemberID].PeerURLs[0])
			}
		}
	}
	return pairs
}

// hostOf a URL.
func hostOf(url string) string {
	_, rest, _ := strings.Cut(url, "://")
	host, _, _ := strings.Cut(rest, ":")
	return host
}

// leaderFor is the leader that the process follows, if it is still there.
func (w *World) leaderFor(p *Process) *Process {
	for _, other := range w.peers(p) {
		if other.leads && p.follows == other.store.disk.MemberID {
			return other
		}
	}
	return nil
}

// settle brings every cluster to rest after a change: removed members exit, a
// leader is found or given up, members receive the log and publish themselves.
func (w *World) settle() {
	// Each round ends a process, moves a leader or adds an entry that is never
	// added twice, so that a few rounds per process are enough.
	for range 4*len(w.processes) + 4 {
		changed := false
		done := map[*Process]bool{}
		for _, p := range w.processes {
			if p.running && !done[p] {
				group := w.peers(p)
				for _, member := range group {
					done[member] = true
				}
				changed = w.settleGroup(group) || changed
			}
		}
		if !changed {
			return
		}
	}
	panic("etcdtest: the world does not come to rest")
}

func (w *World) settleGroup(group []*Process) (changed bool) {
	for _, p := range group {
		for _, other := range group {
			if p.running && other.store.isRemoved(p.store.disk.MemberID) {
				p.quit("the member has been permanently removed from the cluster")
				return true
			}
		}
	}
	leader, changed := w.elect(group)
	if leader == nil {
		return changed
	}
	for _, p := range group {
		_, listed := leader.store.config()[p.store.disk.MemberID]
		if p == leader || !listed {
			continue
		}
		p.follows, p.store.term = leader.store.disk.MemberID, leader.store.term
		if leader.store.config()[p.store.disk.MemberID].Learner && !p.synced {
			continue
		}
		if !w.replicate(leader, p) {
			return true
		}
	}
	w.agree(leader, group)
	return w.publish(leader, group) || changed
}

// elect keeps the leader while it has a quorum, and finds another otherwise:
// the voter of the lowest ordinal whose log a quorum lets pass.
func (w *World) elect(group []*Process) (leader *Process, changed bool) {
	for _, p := range group {
		if !p.leads {
			continue
		}
		if leader == nil && w.votes(p, group, anyLog) {
			leader = p
			continue
		}
		p.leads, p.follows, changed = false, 0, true
	}
	if leader != nil {
		return leader, changed
	}
	for _, p := range group {
		p.follows = 0
	}
	for _, p := range group {
		if p.learner() || !w.votes(p, group, noLongerLog) {
			continue
		}
		w.lead(p, group)
		return p, true
	}
	return nil, changed
}

// lead makes a process the leader of its group in a new term.
func (w *World) lead(p *Process, group []*Process) {
	term := uint64(0)
	for _, other := range group {
		term = max(term, other.store.term)
		other.leads = false
	}
	p.leads, p.follows = true, p.store.disk.MemberID
	for _, other := range group {
		other.store.term = term + 1
	}
}

// ballot says which logs a voter lets pass.
type ballot func(voter, candidate *Process) bool

func anyLog(*Process, *Process) bool { return true }

func noLongerLog(voter, candidate *Process) bool {
	return len(voter.store.log) <= len(candidate.store.log)
}

// votes says whether a quorum of the candidate's own configuration is for it.
func (w *World) votes(candidate *Process, group []*Process, passes ballot) bool {
	voters, given := candidate.store.voters(), map[uint64]bool{}
	if !slices.Contains(voters, candidate.store.disk.MemberID) {
		return false
	}
	for _, p := range group {
		if slices.Contains(voters, p.store.disk.MemberID) && passes(p, candidate) {
			given[p.store.disk.MemberID] = true
		}
	}
	return len(given) > len(voters)/2
}

// replicate gives a process the leader's log. A process with entries that the
// leader does not have cannot go on, and etcd panics.
func (w *World) replicate(leader, p *Process) bool {
	mine, theirs := leader.store.log, p.store.log
	n := len(theirs)
	if n > len(mine) || n > 0 && theirs[n-1].number != mine[n-1].number {
		p.quit("panic: the log holds entries that the leader's does not")
		return false
	}
	p.store.log = slices.Clip(mine)
	return true
}

// publish lets started members announce themselves, one per round.
func (w *World) publish(leader *Process, group []*Process) bool {
	for _, p := range group {
		m, listed := leader.store.config()[p.store.disk.MemberID]
		if !listed || !p.running {
			continue
		}
		if p.announced = true; m.Name == p.Flags.Name && slices.Equal(m.ClientURLs, []string{p.Flags.ClientURL}) {
			continue
		}
		w.commit(leader, entry{kind: memberPublished, member: etcd.Member{
			ID: m.ID, Name: p.Flags.Name, ClientURLs: []string{p.Flags.ClientURL},
		}})
		return true
	}
	return false
}

func (w *World) entry(e entry) entry {
	w.sequence++
	e.number = w.sequence
	return e
}

// commit appends to the leader's log and hands it to all that receive the log
// at once. The caller has made sure of the quorum, and settles afterwards.
func (w *World) commit(leader *Process, e entry) {
	s := leader.store
	s.log = append(slices.Clip(s.log), w.entry(e))
	for _, p := range w.peers(leader) {
		m, listed := s.config()[p.store.disk.MemberID]
		if p != leader && listed && (!m.Learner || p.synced) {
			w.replicate(leader, p)
		}
	}
}

// write is an acknowledged write of a user.
type write struct {
	clusterID uint64
	value     string
}

// lost are the acknowledged writes that the cluster's leader does not know.
// Without a leader nothing is known to be lost.
func (w *World) lost() []string {
	var gone []string
	for _, written := range w.written {
		for _, p := range w.processes {
			has := slices.ContainsFunc(p.store.log, func(e entry) bool { return e.kind == valuePut && e.value == written.value })
			if p.leads && p.store.disk.ClusterID == written.clusterID && !has {
				gone = append(gone, written.value)
			}
		}
	}
	return gone
}

// memberList is etcd's, ordered by ID.
func (s *store) memberList() []etcd.Member {
	var list []etcd.Member
	for _, id := range slices.Sorted(maps.Keys(s.config())) {
		m := s.config()[id]
		m.PeerURLs, m.ClientURLs = slices.Clone(m.PeerURLs), slices.Clone(m.ClientURLs)
		list = append(list, m)
	}
	return list
}
