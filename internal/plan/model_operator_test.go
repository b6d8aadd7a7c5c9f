package plan

import (
	"fmt"
	"math/bits"
	"slices"
	"sync"
	"sync/atomic"
)

// places are the names of members by their place.
var places = func() (names []string) {
	for i := range mostSlots {
		names = append(names, fmt.Sprintf("a-%04d", i))
	}
	return names
}()

// glance is how much time has gone by when the operator looks.
type glance int

const (
	// first look at what is there: nothing is steady.
	early glance = iota
	// later: everything was seen to be so before.
	steadily
)

// kinds are the steps by their number in a flight.
var kinds = []Kind{
	"nothing", CreateVolumes, LatchVolumes, StartMembers, RecordMembers, LatchCluster, RecordRefusals, DeletePods,
	AllotMember, HoldMembers, AddLearner, ReleaseMembers, Promote, MoveLeader, RemoveMember, DropJoiner, DiscardMembers,
	StopMembers, DeleteVolumes, QuarantineVolumes, RestartMember,
}

// answers says that the process answers the operator.
func (s slot) answers() bool {
	return s.has(processUp) && !s.has(unheard) && s.node() == nodeUp && (s.entry() != learnerEntry || s.has(published))
}

// observe is what the operator sees of the world.
func (w *world) observe(g glance) Observed {
	quorum := w.quorum()
	o := Observed{Size: int(w.size), VolumesLatched: true}
	if o.List = w.listed(); o.List {
		o.AgreedClusterID, o.ReadOK, o.LeaderSettled = clusterID, true, true
		if w.stranger != noStranger {
			o.ForeignMembers = []string{"https://elsewhere:2380"}
		}
	}
	if w.latched {
		o.ClusterID = clusterID
	}
	down := w.nodesDown()
	for i, s := range w.slots {
		if s.founder() {
			o.Founders = append(o.Founders, places[i])
			o.VolumesLatched = o.VolumesLatched && s.has(volumeOnRecord)
		}
		if s.has(isJoiner) {
			o.Joiner = places[i]
		}
		m := w.member(i, quorum, o.List, down, g)
		seen := m.Founder || m.Joiner || m.Listed || m.Volume != VolumeAbsent || m.Pod != PodAbsent
		if s == 0 || !seen || (o.Removed(m) && m.Left()) {
			continue
		}
		o.Members = append(o.Members, m)
	}
	if len(o.Founders) == 0 {
		// All of them were replaced; status names them all the same.
		o.Founders = places[:1]
	}
	return o
}

// nodesDown counts the nodes that are not Ready and that bear a member, as far
// as its pod or its claim tells.
func (w *world) nodesDown() int {
	n := 0
	for _, s := range w.slots {
		if s.cutOff() && s.nodeKnown() {
			n++
		}
	}
	return n
}

func (s slot) nodeKnown() bool {
	return (s.pod() != noPod && s.claim() != claimPending) || (s.has(claimNode) && s.claim() != noClaim)
}

// unscheduled: the pod's volume is on a node that is gone.
func (s slot) unscheduled() bool {
	return s.pod() == podThere && s.node() == nodeGone
}

func (w *world) member(i int, quorum, list bool, down int, g glance) Member {
	s := w.slots[i]
	m := Member{
		Name: places[i], Ordinal: i, Founder: s.founder(), Joiner: s.has(isJoiner), Steady: g != early,
		VolumeLatched: s.has(volumeOnRecord), Booted: s.has(claimBooted), Leaving: s.has(claimLeaving),
	}
	if s.has(claimRecorded) {
		m.RecordedID = uint64(i) + 1
	}
	m.Volume = s.volume()
	m.Pod = s.podSeen()
	if m.Pod != PodAbsent {
		m.Held, m.PodMayBeEmpty, m.PodOutdated = s.has(podHeld), s.has(podMayBeEmpty), s.has(podOld)
		m.Unschedulable = s.unscheduled()
		m.NodeMoved = s.claim() != noClaim && s.claim() != claimPending && !s.unscheduled() && !s.has(claimNode)
	} else if s.claim() != noClaim {
		m.RunningElsewhere = s.cutOff() && s.has(claimNode) || !s.has(claimNode) && w.anyNodeDown()
	}
	if stopped := s.pod() == podThere && !s.has(podHeld|processUp) && s.node() == nodeUp && (s.claim() == claimBound || s.claim() == claimGoing); stopped {
		if s.data() == noData && s.used() {
			m.Refusal = "DataMissing: nothing is there"
		}
		if s.data() == dataCorrupt {
			m.Corrupt = "etcd failed 5 times on its data"
		}
	}
	if list && s.entry() != noEntry {
		m.Listed, m.ID, m.Started, m.Learner = true, uint64(i)+1, s.has(published), !s.voter()
	}
	if s.answers() {
		m.Answers, m.AnswerClusterID, m.FollowsLeader = true, clusterID, quorum && s.entry() != noEntry
		m.Leads, m.CaughtUp = s.has(leading), s.has(synced) || s.voter()
	}
	m.PodReady = s.ready(quorum)
	m.Gone = !m.Answers && ((s.has(claimNode) && s.unscheduled()) || (s.node() == nodeAway && s.nodeKnown() && down == 1))
	m.Stuck = m.Learner && !m.CaughtUp && s.has(hampered)
	return m
}

// idle says that nothing more happens with a member by itself.
func (w *world) idle(i int) bool {
	moves := false
	w.progress(i, func(successor) { moves = true })
	return !moves
}

func (w *world) anyNodeDown() bool {
	return slices.ContainsFunc(w.slots[:], slot.cutOff)
}

func (s slot) volume() Volume {
	switch s.claim() {
	case noClaim:
		return VolumeAbsent
	case claimGoing:
		return VolumeTerminating
	case claimLost:
		return VolumeLost
	}
	switch {
	case s.has(claimRefused):
		return VolumeRefused
	case s.claim() == claimBound:
		return VolumeBound
	default:
		return VolumePending
	}
}

func (s slot) podSeen() Pod {
	switch {
	case s.pod() == noPod:
		return PodAbsent
	case s.pod() == podGoing:
		return PodTerminating
	case s.has(processUp), s.has(podHeld) && !s.unscheduled() && s.claim() != claimPending:
		return PodRunning
	default:
		return PodWaiting
	}
}

// decision is what the operator makes of a look. It holds no pointers, for there
// are millions of them.
type decision struct {
	// kind by its number, and whom it is about by their places.
	kind uint8
	who  uint16
	// to is who takes over the leadership, or -1.
	to int8
	// mark and dead say, of a removal, that the volume is to go with the member,
	// and that the member was taken for dead.
	mark, dead bool
	// broken says that the step breaks a rule.
	broken bool
}

// look lets the operator decide, once for each step that it may come to.
func (w *world) look(m *mind, out emit) {
	var tried [steadily + 1]decision
	for g := steadily; g >= early; g-- {
		if g == early && !kinds[tried[steadily].kind].wantsLooks() {
			return
		}
		d := m.decide(w, g)
		tried[g] = d
		if slices.Contains(tried[g+1:], d) || (d.kind == 0 && !d.broken) {
			continue
		}
		next, wrong := *w, w.forbids(d)
		if d.broken {
			o := w.observe(g)
			wrong = violations(o, Next(o))[0]
		}
		next.takeOff(d)
		if wrong == "" && kinds[d.kind].quick() {
			next.call(m, func(n successor) {
				n.calm = g == steadily
				out(n)
			})
			continue
		}
		out(successor{world: next, calm: g == steadily, what: looks[d.kind], whom: bits.TrailingZeros16(d.who), wrong: wrong})
	}
}

// wantsLooks says that the policy takes the step on the word of two looks only.
// One look is asked for nothing else, since steadiness only ever lets more be done.
func (k Kind) wantsLooks() bool {
	switch k {
	case AllotMember, RemoveMember, MoveLeader, StopMembers, QuarantineVolumes, RecordRefusals, Promote, AddLearner, RestartMember:
		return true
	default:
		return false
	}
}

// looks are the names of the decisions.
var looks = func() (names []string) {
	for _, k := range kinds {
		names = append(names, "the operator decides: "+string(k))
	}
	return names
}()

// mind is what decides: the policy, with what it said of looks like this one.
type mind struct {
	shards [64]struct {
		sync.Mutex
		known map[hash]decision
	}
	// full counts the names that could not be given away for want of slots.
	full atomic.Int64
}

func newMind() *mind {
	m := &mind{}
	for i := range m.shards {
		m.shards[i].known = map[hash]decision{}
	}
	return m
}

// looks counts the looks that were different.
func (m *mind) looks() int {
	n := 0
	for i := range m.shards {
		n += len(m.shards[i].known)
	}
	return n
}

// hidden is what no look shows.
const hidden = hadID | everRan | emptied | asked | flightWords | pausedWords

func (m *mind) decide(w *world, g glance) decision {
	key := *w
	key.flight, key.paused, key.pending, key.spent = flight{call: uint8(g)}, flight{}, noMutation, false
	for i := range key.slots {
		s := &key.slots[i]
		s.when(s.has(podMayBeEmpty) && s.used(), podBooted)
		s.clear(hidden)
	}
	h := key.hash()
	shard := &m.shards[h[1]%uint64(len(m.shards))]
	shard.Lock()
	d, ok := shard.known[h]
	shard.Unlock()
	if !ok {
		d = w.decide(g)
		shard.Lock()
		shard.known[h] = d
		shard.Unlock()
	}
	return d
}

func (w *world) decide(g glance) decision {
	o := w.observe(g)
	step := Next(o)
	d := decision{to: -1, broken: len(violations(o, step)) > 0}
	switch step.Kind {
	case Wait, Settled, Pause:
		return d
	}
	k := slices.Index(kinds, step.Kind)
	if k < 0 {
		panic("the model has no step " + string(step.Kind))
	}
	d.kind = uint8(k)
	if step.Kind == MoveLeader {
		d.to = int8(slices.Index(places, step.Members[1]))
		step.Members = step.Members[:1]
	}
	if step.Kind == LatchCluster || step.Kind == LatchVolumes {
		return d
	}
	for _, name := range step.Members {
		d.who |= 1 << slices.Index(places, name)
	}
	if step.Kind == RemoveMember {
		v, _ := o.Member(step.Members[0])
		d.mark, d.dead = v.Volume == VolumeBound && !v.Dead(), v.Dead()
	}
	return d
}

// takeOff begins a step, with the words of the look that its calls rest on.
func (w *world) takeOff(d decision) {
	kind := kinds[d.kind]
	list, quorum := w.listed(), w.quorum()
	w.flight = flight{kind: d.kind, flag: d.dead || (kind == RecordMembers && list && w.voters() <= int(w.size))}
	for i := range w.slots {
		if d.who>>i&1 == 0 && int(d.to) != i {
			continue
		}
		s := &w.slots[i]
		s.when(d.to < 0 || int(d.to) == i, target)
		listed, started := list && s.entry() != noEntry, list && s.has(published)
		fresh := listed && !started
		switch kind {
		case RecordMembers:
			// Both words together: the kubelet calls it ready.
			ready := !started && !fresh && s.ready(quorum)
			s.when(listed && started || ready, first)
			s.when(fresh && !s.founder() || ready, second)
		case StartMembers:
			s.when(!started && (!w.latched || fresh), first)
			s.when(fresh && !s.founder(), second)
		case RemoveMember:
			s.when(d.mark, first)
			s.when(s.voter(), second)
		}
	}
	w.settle()
}

// ready is the kubelet's word.
func (s slot) ready(quorum bool) bool {
	return s.has(processUp) && s.voter() && s.connected() && quorum && s.has(published)
}

// listed says that the operator reaches a majority's word on the members.
func (w *world) listed() bool {
	if !w.quorum() {
		return false
	}
	for _, s := range w.slots {
		if s.voter() && s.connected() && s.answers() {
			return true
		}
	}
	return false
}

// forbids says what a step breaks in the world as it is, whatever was seen of it.
func (w *world) forbids(d decision) string {
	i := bits.TrailingZeros16(d.who)
	if w.stranger != noStranger && kinds[d.kind].changesMembers() {
		return "changes the members beside a stranger"
	}
	switch kinds[d.kind] {
	case RemoveMember:
		return w.forbidsRemoval(i)
	case Promote:
		if s := w.slots[i]; s.has(podMayBeEmpty) || s.entry() != learnerEntry || (s.answers() && !s.has(synced)) {
			return "promotes a learner that is not ready"
		}
		if n := w.connectedVoters(-1); !half(n, w.voters()+1) && (!w.slots[i].connected() || !half(n+1, w.voters()+1)) {
			return "I2: the voters would be no quorum with the one that is promoted"
		}
	case AddLearner:
		if slices.ContainsFunc(w.slots[:], func(s slot) bool { return s.entry() == learnerEntry }) {
			return "I5: a second learner"
		}
	case RestartMember:
		if w.voters() > 1 {
			return w.forbidsStop(d.who)
		}
	case StopMembers, DeletePods:
		return w.forbidsStop(d.who)
	case DeleteVolumes, QuarantineVolumes, DiscardMembers:
		for i, s := range w.slots {
			if d.who>>i&1 != 0 && (s.entry() != noEntry || s.has(isJoiner)) {
				return "I7: the volume of a member is done away with"
			}
		}
	}
	return ""
}

func (w *world) forbidsRemoval(i int) string {
	s := w.slots[i]
	switch {
	case !w.quorum():
		return "a removal although there is no quorum"
	case s.entry() == learnerEntry:
		return ""
	case !s.voter():
		return "removes one that is no member"
	case !half(w.connectedVoters(i), w.voters()-1):
		return "I2: the voters that are left would be no quorum"
	}
	proven := slices.ContainsFunc(w.slots[:], func(j slot) bool {
		return j.has(isJoiner) && j.has(podHeld) && j.pod() == podThere && j.claim() == claimBound
	})
	if w.voters() <= int(w.size) && !proven {
		return "removes a voter before its replacement is proven to run"
	}
	return ""
}

// forbidsStop says that stopping pods takes the healthy voters below the quorum,
// if they are one.
func (w *world) forbidsStop(who uint16) string {
	stopped := 0
	for i, s := range w.slots {
		if who>>i&1 != 0 && s.voter() && s.connected() {
			stopped++
		}
	}
	left := w.connectedVoters(-1)
	if stopped > 0 && half(left, w.voters()) && !half(left-stopped, w.voters()) {
		return "I2: stops members that the quorum needs"
	}
	return ""
}
