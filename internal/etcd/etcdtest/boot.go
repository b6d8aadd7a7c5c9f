package etcdtest

import (
	"cmp"
	"crypto/sha1"
	"encoding/binary"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/quorate/quorate/internal/etcd"
)

// MemberID is the ID that etcd gives a founder.
func MemberID(peerURL, token string) uint64 { return hash(peerURL + token) }

// ClusterID is the ID of a cluster founded with these peer URLs.
func ClusterID(token string, peerURLs ...string) uint64 {
	var ids []uint64
	for _, url := range peerURLs {
		ids = append(ids, MemberID(url, token))
	}
	slices.Sort(ids)
	var b []byte
	for _, id := range ids {
		b = binary.BigEndian.AppendUint64(b, id)
	}
	return hash(string(b))
}

// addedID is the ID that etcd gives a member that is added: the second counts.
func addedID(peerURL string, now time.Time) uint64 {
	return hash(peerURL + strconv.FormatInt(now.Unix(), 10))
}

// hash is how etcd derives its IDs; nothing is protected by it.
func hash(s string) uint64 {
	sum := sha1.Sum([]byte(s))
	return binary.BigEndian.Uint64(sum[:8])
}

// boot is the first start on a disk without a WAL, or the end of the process.
// What a failed boot leaves behind is a database without a WAL.
func (w *World) boot(p *Process) {
	p.store.disk.DB = true
	if _, listed := p.Flags.InitialCluster[p.Flags.Name]; !listed {
		p.quit("the initial cluster does not list " + p.Flags.Name)
		return
	}
	if p.Flags.InitialCluster[p.Flags.Name] != p.Flags.PeerURL {
		p.quit("the initial cluster does not match the advertised peer URL")
		return
	}
	switch p.Flags.State {
	case New:
		w.found(p)
	case Existing:
		w.join(p)
	default:
		p.quit("unknown initial cluster state")
	}
	if p.running {
		w.recordBoot(p)
	}
}

// found boots as one of a list of founders. Only a peer that answers and knows
// the member as published holds it back.
func (w *World) found(p *Process) {
	urls := slices.Collect(maps.Values(p.Flags.InitialCluster))
	slices.Sort(urls)
	clusterID := ClusterID(p.Flags.Token, urls...)
	own := MemberID(p.Flags.PeerURL, p.Flags.Token)
	if peer := w.answeringPeer(p); peer != nil && peer.store.config()[own].Started() {
		p.quit("the member has already been bootstrapped")
		return
	}
	if w.founding[clusterID] == nil {
		names := slices.Collect(maps.Keys(p.Flags.InitialCluster))
		slices.SortFunc(names, func(a, b string) int {
			return cmp.Compare(MemberID(p.Flags.InitialCluster[a], p.Flags.Token), MemberID(p.Flags.InitialCluster[b], p.Flags.Token))
		})
		for _, name := range names {
			url := p.Flags.InitialCluster[name]
			w.founding[clusterID] = append(w.founding[clusterID], w.entry(entry{
				kind: memberAdded, member: etcd.Member{ID: MemberID(url, p.Flags.Token), Name: name, PeerURLs: []string{url}},
			}))
		}
	}
	p.store.disk = Disk{WAL: true, DB: true, ClusterID: clusterID, MemberID: own}
	p.store.log, p.store.term = w.founding[clusterID], 1
}

// join boots as a member that a running cluster lists. The lists must be equal,
// and nothing else is looked at: an empty disk under a used ID is let in.
func (w *World) join(p *Process) {
	peer := w.answeringPeer(p)
	if peer == nil {
		p.quit("no peer answers")
		return
	}
	listed := peer.store.config()
	var own uint64
	matches := len(listed) == len(p.Flags.InitialCluster)
	for _, m := range listed {
		if !slices.Contains(slices.Collect(maps.Values(p.Flags.InitialCluster)), m.PeerURLs[0]) {
			matches = false
		}
		if m.PeerURLs[0] == p.Flags.PeerURL {
			own = m.ID
		}
	}
	if !matches || own == 0 {
		p.quit("the initial cluster does not match the running cluster's members")
		return
	}
	p.store.disk = Disk{WAL: true, DB: true, ClusterID: peer.store.disk.ClusterID, MemberID: own}
	p.store.log, p.store.term = nil, 0
}

// answeringPeer is the first other process of the initial cluster that answers.
func (w *World) answeringPeer(p *Process) *Process {
	if p.cutFromPeers {
		return nil
	}
	for _, url := range slices.Sorted(maps.Values(p.Flags.InitialCluster)) {
		for _, other := range w.processes {
			if other != p && other.running && !other.cutFromPeers && url != p.Flags.PeerURL && hostOf(other.Flags.PeerURL) == hostOf(url) && p.reaches(other, url) && len(other.store.config()) > 0 {
				return other
			}
		}
	}
	return nil
}

// recordBoot keeps the books of identities.
func (w *World) recordBoot(p *Process) {
	id := p.store.disk.identity()
	if w.booted[id] {
		w.violate("I4", "%s started on the empty volume %s under member ID %x, which has booted before", p.Flags.Name, p.Volume, id.memberID)
	}
	w.booted[id] = true
	if !slices.Contains(w.clusterIDs[p.Flags.Token], id.clusterID) {
		w.clusterIDs[p.Flags.Token] = append(w.clusterIDs[p.Flags.Token], id.clusterID)
	}
	if n := len(w.clusterIDs[p.Flags.Token]); n > 1 {
		w.violate("I3", "%d cluster IDs for token %s: the latest is %x, of %s", n, p.Flags.Token, id.clusterID, p.Flags.Name)
	}
}

// byOrdinal orders processes by the number at the end of their names.
func byOrdinal(a, b *Process) int {
	return cmp.Or(cmp.Compare(ordinal(a.Flags.Name), ordinal(b.Flags.Name)), cmp.Compare(a.Flags.Name, b.Flags.Name))
}

func ordinal(name string) int {
	n, err := strconv.Atoi(name[strings.LastIndex(name, "-")+1:])
	if err != nil {
		return -1
	}
	return n
}
