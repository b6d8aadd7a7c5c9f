// Package etcdtest is a cluster that behaves like etcd, in memory: processes on
// disks that hold raft's identity and log, elections, quorum, and the refusals
// of membership changes. It records what no operator may ever bring about: a
// member that starts again on an empty disk, two processes of one member, two
// clusters of one token, an acknowledged write that is gone. It has an injected
// clock, no goroutine and no randomness.
package etcdtest

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/quorate/quorate/internal/etcd"
)

// healthInterval is how long a member counts a peer as connected before it
// believes in it (etcd's HealthInterval).
const healthInterval = 5 * time.Second

// State is etcd's --initial-cluster-state.
type State string

// The states that etcd takes.
const (
	New      State = "new"
	Existing State = "existing"
)

// Flags are what a process is started with.
type Flags struct {
	// Name of the member.
	Name string
	// PeerURL and ClientURL that it advertises.
	PeerURL, ClientURL string
	// InitialCluster are the peer URLs by member name.
	InitialCluster map[string]string
	// State says whether the process may found a cluster.
	State State
	// Token of the cluster.
	Token string
	// Version of etcd that runs; the usual one if empty.
	Version string
	// Takes are the schemes that it listens for on its client port; both if it is empty. With
	// https among them it dials with TLS as well.
	Takes []string
	// ListenPeers are the URLs at which it listens for its peers; empty for every port and
	// scheme that is dialed.
	ListenPeers []string
	// Quota is the size of the database at which the member refuses writes; zero for none.
	Quota int64
}

// Disk is what a volume holds.
type Disk struct {
	// WAL is true once a process has booted on it.
	WAL bool
	// DB is true once a process has got so far as to open its database, which
	// a first boot that fails leaves behind too.
	DB bool
	// ClusterID and MemberID are zero without a WAL.
	ClusterID, MemberID uint64
}

// Process is an etcd process. Its fields are read through World.
type Process struct {
	// Flags it was started with, the node that it runs on, the volume that it
	// writes to and the address at which it answers clients. All constant.
	Flags                 Flags
	Node, Volume, Address string

	store *store
	// since is when it started or was last connected again.
	since time.Time
	// announced is true once it has published itself, as every start does.
	announced bool
	// running until it is stopped or exits by itself for a reason.
	running bool
	exit    string
	// leads is true while it is its cluster's leader; follows is the member
	// that it takes for the leader.
	leads   bool
	follows uint64
	// cutFromPeers and cutFromClients are cuts of the network.
	cutFromPeers, cutFromClients bool
	// synced is true once a learner has received the log.
	synced bool
	// blind says that it takes every peer for disconnected.
	blind bool
}

// World holds processes, disks and the network between them. All its methods
// are safe for concurrent use.
type World struct {
	now func() time.Time

	mu         sync.Mutex
	disks      map[string]*store
	processes  []*Process
	intercept  func(Call) error
	calls      int
	sequence   uint64
	founding   map[uint64][]entry
	booted     map[identity]bool
	clusterIDs map[string][]uint64
	alarms     map[uint64][]etcd.Alarm
	releases   map[uint64]release
	late       []*lateCall
	lateBy     time.Duration
	written    []write
	pooled     map[string]map[etcd.Endpoint]etcd.Credentials
	violations []string
}

// identity is what no second disk may ever have.
type identity struct{ clusterID, memberID uint64 }

// NewWorld returns an empty world that goes by the clock.
func NewWorld(now func() time.Time) *World {
	return &World{
		now: now, disks: map[string]*store{}, founding: map[uint64][]entry{}, booted: map[identity]bool{},
		clusterIDs: map[string][]uint64{}, alarms: map[uint64][]etcd.Alarm{}, releases: map[uint64]release{},
		pooled: map[string]map[etcd.Endpoint]etcd.Credentials{},
	}
}

// Start runs a process on a volume, on a node, answering at the address until
// another process takes the address. It may exit at once, as etcd does: ask
// Exited.
func (w *World) Start(node, volume, address string, flags Flags) *Process {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := &Process{Flags: flags, Node: node, Volume: volume, Address: address, since: w.now(), running: true}
	w.processes = append(w.processes, p)
	p.store = w.disk(volume)
	if other := w.onDisk(p); other != nil {
		if other.Node == node {
			p.quit("the data directory is locked by another process")
			return p
		}
		w.violate("I4", "a second process on volume %s: %s on %s while %s runs on %s", volume, flags.Name, node, other.Flags.Name, other.Node)
	}
	switch {
	case !p.store.disk.WAL:
		w.boot(p)
	case !p.store.opens(p.minor()):
		p.quit("the data is of a newer release than etcd")
		return p
	}
	if p.running {
		w.checkIdentity(p)
		w.settle()
	}
	return p
}

// Stop ends a process, as a signal does.
func (w *World) Stop(p *Process) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if p.running {
		p.quit("stopped")
		w.settle()
	}
}

// Blind has a process take all its peers for disconnected from now on, as etcd takes one
// whose address of before it reaches too late.
func (w *World) Blind(p *Process) {
	w.mu.Lock()
	defer w.mu.Unlock()
	p.blind = true
}

// Exited says whether the process runs no more, and why.
func (w *World) Exited(p *Process) (reason string, exited bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return p.exit, !p.running
}

// Ready says what etcd's /readyz says: a voter that knows a leader of a quorum.
func (w *World) Ready(p *Process) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return p.running && p.announced && p.follows != 0 && !p.learner()
}

// Truth is the membership as the leader of a token's cluster knows it, without
// a call; false while there is no leader.
func (w *World) Truth(token string) (etcd.Membership, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range w.processes {
		if p.leads && slices.Contains(w.clusterIDs[token], p.store.disk.ClusterID) {
			return etcd.Membership{
				ClusterID: p.store.disk.ClusterID, MemberID: p.store.disk.MemberID, Term: p.store.term, Members: p.store.memberList(),
			}, true
		}
	}
	return etcd.Membership{}, false
}

// Network is what a member is cut off from.
type Network string

// What a member can be cut off from.
const (
	Peers   Network = "peers"
	Clients Network = "clients"
)

// Cut takes the process off the network.
func (w *World) Cut(p *Process, from Network) { w.connect(p, from, severed) }

// Mend connects the process again.
func (w *World) Mend(p *Process, with Network) { w.connect(p, with, whole) }

// cable is the state of a connection.
type cable int

const (
	whole cable = iota
	severed
)

func (w *World) connect(p *Process, network Network, c cable) {
	w.mu.Lock()
	defer w.mu.Unlock()
	cut := c == severed
	if network == Clients {
		p.cutFromClients = cut
		return
	}
	if p.cutFromPeers != cut {
		p.cutFromPeers, p.since = cut, w.now()
	}
	w.settle()
}

// Disk tells what a volume holds.
func (w *World) Disk(volume string) Disk {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.disk(volume).disk
}

// Wipe empties a volume. A process that runs on it keeps its open files.
func (w *World) Wipe(volume string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.disks[volume] = &store{}
}

// WipeWAL removes the write-ahead log alone, which leaves a directory that
// looks used and is worth nothing.
func (w *World) WipeWAL(volume string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.disks[volume] = &store{disk: Disk{DB: w.disk(volume).disk.DB}}
}

// Tick lets what needs time happen: learners receive the log, and calls that
// were delayed for long enough take effect.
func (w *World) Tick() {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := w.now()
	w.catchUp(func(l *lateCall) bool { return !l.due.After(now) })
	for _, p := range w.processes {
		if leader := w.leaderFor(p); leader != nil && p.running {
			if !p.synced && p.learner() && leader != p {
				p.store.receive(leader.store)
			}
			p.synced = p.synced || w.replicate(leader, p)
		}
	}
	w.settle()
}

// Raise raises an alarm of the member in its cluster.
func (w *World) Raise(p *Process, kind etcd.AlarmKind) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.raise(p, kind)
}

// Disarm ends all alarms of the process's cluster.
func (w *World) Disarm(p *Process) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.alarms, p.store.disk.ClusterID)
}

// HasBooted says whether a process has ever booted under the member ID.
func (w *World) HasBooted(memberID uint64) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for id := range w.booted {
		if id.memberID == memberID {
			return true
		}
	}
	return false
}

// Violations of the rules so far, each beginning with the rule's name. Lost
// writes are among them.
func (w *World) Violations() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := slices.Clone(w.violations)
	for _, gone := range w.lost() {
		all = append(all, fmt.Sprintf("I1: acknowledged write %q is lost", gone))
	}
	return all
}

func (w *World) violate(rule, format string, args ...any) {
	text := rule + ": " + fmt.Sprintf(format, args...)
	if !slices.Contains(w.violations, text) {
		w.violations = append(w.violations, text)
	}
}

func (w *World) disk(volume string) *store {
	if w.disks[volume] == nil {
		w.disks[volume] = &store{}
	}
	return w.disks[volume]
}

// onDisk is another process that runs on the same files.
func (w *World) onDisk(p *Process) *Process {
	for _, other := range w.processes {
		if other != p && other.running && other.store == p.store {
			return other
		}
	}
	return nil
}

// serves says whether the process answers clients. It does so only after it has
// published itself, which takes a leader: a member that is started again while
// the quorum is lost answers nothing at all, not even its status.
func (p *Process) serves() bool { return p.running && p.announced && !p.cutFromClients }

// checkIdentity records a second process of a member.
func (w *World) checkIdentity(p *Process) {
	for _, other := range w.processes {
		if other != p && other.running && other.store.disk.identity() == p.store.disk.identity() && other.store != p.store {
			w.violate("I4", "two processes of member %x of cluster %x: %s on volume %s and %s on volume %s",
				p.store.disk.MemberID, p.store.disk.ClusterID, other.Flags.Name, other.Volume, p.Flags.Name, p.Volume)
		}
	}
}

func (d Disk) identity() identity { return identity{d.ClusterID, d.MemberID} }

func (p *Process) quit(reason string) {
	p.running, p.exit, p.leads, p.follows = false, reason, false, 0
}
