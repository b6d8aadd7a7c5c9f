package sim

import (
	"maps"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/types"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Fork returns a world that is equal to this one and goes its own way from now
// on, without an operator. A history that thousands of runs begin with is made
// once. Nothing may be planned for this world: plans know no other.
func (w *World) Fork() *World {
	clock := clocktesting.NewFakeClock(w.Clock.Now())
	members, twins := w.Etcd.Fork(clock.Now)
	twin := &World{
		Clock: clock, API: w.API.fork(clock.Now), Etcd: members, Key: w.Key,
		Quantum: w.Quantum, ReplaceAfter: w.ReplaceAfter, BadImages: maps.Clone(w.BadImages), Unreadable: maps.Clone(w.Unreadable),
		Deaf: maps.Clone(w.Deaf), Crashes: maps.Clone(w.Crashes), Portable: w.Portable, Rejects: w.Rejects, Installation: w.Installation,
		beat: w.beat, lastBeat: w.lastBeat, puts: w.puts, mostPuts: w.mostPuts, nextPut: w.nextPut, passes: w.passes, application: w.application,
		counts: map[string]int{}, notes: slices.Clip(w.notes),
	}
	twin.StartDelay = twin.oneAfterTheOther
	twin.nodes = machines{w: twin, runs: map[types.UID]*run{}, volumes: map[string]*volume{}, address: w.nodes.address}
	for uid, r := range w.nodes.runs {
		other := *r
		other.process = twins[r.process]
		twin.nodes.runs[uid] = &other
	}
	for name, v := range w.nodes.volumes {
		other := *v
		twin.nodes.volumes[name] = &other
	}
	twin.check = w.check.fork(twin)
	return twin
}

// fork of a server: it never changes an object that it has stored. Nobody has
// yet to hear of what has happened so far.
func (s *Server) fork(now func() time.Time) *Server {
	twin := &Server{now: now, objects: map[string]map[types.NamespacedName]client.Object{}, version: s.version, uids: s.uids}
	for kind, objects := range s.objects {
		twin.objects[kind] = maps.Clone(objects)
	}
	return twin
}

func (k *checker) fork(w *World) *checker {
	twin := *k
	twin.w = w
	twin.found, twin.suspicions = slices.Clone(k.found), nil
	twin.ids, twin.lostSince = maps.Clone(k.ids), maps.Clone(k.lostSince)
	twin.revenants, twin.filledFrom = maps.Clone(k.revenants), maps.Clone(k.filledFrom)
	twin.latched = map[types.UID]*latch{}
	for uid, l := range k.latched {
		other := *l
		twin.latched[uid] = &other
	}
	return &twin
}
