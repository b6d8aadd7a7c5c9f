package plan

import (
	"fmt"
	"slices"
	"strings"
)

// slot is one member of the modelled world: its claim and what is written on it,
// its pod, its process, its node, and its entry in etcd's list. All of it is in
// one number, so that a world is a few of them and members are put in order by
// sorting. The four lowest bits are target, first, second and midway of a paused
// step: who is the youngest does not depend on them.
type slot uint64

const (
	// onDisk: what the claim carries.
	claimRecorded slot = 1 << (iota + 4) // annotation: the member ID
	claimBooted                          // annotation: has booted
	claimLeaving                         // annotation: goes with the member
	claimRefused                         // annotation: data refused
	claimNode                            // annotation: the node
	// What status knows of the volume.
	volumeOnRecord

	podHeld
	podMayBeEmpty
	// podBooted: this pod has seen etcd boot (its boot mark).
	podBooted

	// emptied: the volume has lost all that was on it, the marker too.
	emptied

	// processUp: a process runs in the pod.
	processUp
	// orphaned: a process of a pod that is gone runs on a node that is cut off.
	orphaned
	// unheard: the operator cannot reach the process.
	unheard

	published
	// hadID: the name is or was in etcd's list.
	hadID
	// everRan: a process has taken part under this ID.
	everRan
	synced
	// hampered: the learner will never have the log.
	hampered
	leading

	// target, first and second: what the step under way is about, and what the
	// look that it was decided from has said of it.
	target
	first
	second
	// midway: the first of two calls about it was made.
	midway
	// asked: the change of members whose outcome nobody knows is about this one.
	asked
	// isJoiner: status names it as the joiner.
	isJoiner
	// podOld: the pod was made from an older spec.
	podOld
)

// Fields of a slot.
const (
	claimShift, claimMask = 32, slot(7) << 32
	dataShift, dataMask   = 35, slot(3) << 35
	podShift, podMask     = 37, slot(3) << 37
	nodeShift, nodeMask   = 39, slot(3) << 39
	entryShift, entryMask = 41, slot(3) << 41
	// founding is the highest bit: founders come first in the order.
	foundingOne = slot(1) << 43
)

// What may be in the fields.
const (
	noClaim, claimPending, claimBound, claimGoing, claimLost = 0, 1, 2, 3, 4
	noData, dataSound, dataCorrupt                           = 0, 1, 2
	noPod, podThere, podGoing                                = 0, 1, 2
	nodeUp, nodeCutOff, nodeGone, nodeAway                   = 0, 1, 2, 3
	noEntry, learnerEntry, voterEntry                        = 0, 1, 2
)

func (s slot) has(f slot) bool { return s&f != 0 }
func (s slot) claim() slot     { return s & claimMask >> claimShift }
func (s slot) data() slot      { return s & dataMask >> dataShift }
func (s slot) pod() slot       { return s & podMask >> podShift }
func (s slot) node() slot      { return s & nodeMask >> nodeShift }
func (s slot) entry() slot     { return s & entryMask >> entryShift }
func (s slot) cutOff() bool    { return s.node() == nodeCutOff || s.node() == nodeAway }
func (s slot) founder() bool   { return s.has(foundingOne) }

func (s *slot) set(f slot)      { *s |= f }
func (s *slot) clear(f slot)    { *s &^= f }
func (s *slot) setClaim(v slot) { *s = *s&^claimMask | v<<claimShift }
func (s *slot) setData(v slot)  { *s = *s&^dataMask | v<<dataShift }
func (s *slot) setPod(v slot)   { *s = *s&^podMask | v<<podShift }
func (s *slot) setNode(v slot)  { *s = *s&^nodeMask | v<<nodeShift }
func (s *slot) setEntry(v slot) { *s = *s&^entryMask | v<<entryShift }

// when sets or clears.
func (s *slot) when(is bool, f slot) {
	if s.clear(f); is {
		s.set(f)
	}
}

// mostSlots is how many members a world can hold: five voters, those that were
// removed and have left something, and the next one.
const mostSlots = 12

// change of the members of which nobody knows whether it comes to pass.
type mutation uint8

const (
	noMutation mutation = iota
	addition
	removal
	promotion
	// stop is of a pod, and no change of the members.
	stop
)

// flight is the step that the operator has decided on and not finished.
type flight struct {
	kind uint8
	call uint8
	// listMoved and specMoved: etcd's list, or the cluster's spec, has changed
	// since the look.
	listMoved, specMoved bool
	// shaken: something has broken, or was mended, since the look.
	shaken bool
	// flag is one more word of the look.
	flag bool
}

// world is one state.
type world struct {
	slots   [mostSlots]slot
	size    uint8
	latched bool
	pending mutation
	flight  flight
	// paused is the step of an operator that was held up, while another goes on.
	paused   flight
	stranger stranger
	// spent is a name of which nothing is left but that etcd knew it once. Kept
	// for the mutant that gives it away again.
	spent bool
}

// found is the world at the moment at which the founders are latched.
func found(size int) world {
	w := world{size: uint8(size)}
	for i := range size {
		w.slots[i].set(foundingOne | hadID)
		w.slots[i].setEntry(voterEntry)
	}
	return w
}

type hash [2]uint64

// hash of a canonical world. Two worlds of one hash are taken for one: at 128
// bits and some ten million worlds the odds against that are 10^24 to one.
func (w *world) hash() hash {
	g := uint64(w.size) | uint64(w.pending)<<8 | uint64(w.flight.kind)<<16 | uint64(w.flight.call)<<24
	f, p := w.flight, w.paused
	for i, b := range [...]bool{w.latched, f.listMoved, f.specMoved, f.flag, w.spent, f.shaken, p.listMoved, p.specMoved, p.flag, p.shaken} {
		if b {
			g |= 1 << (32 + i)
		}
	}
	g |= uint64(p.kind)<<48 | uint64(p.call)<<56 | uint64(w.stranger)<<60
	a, b := mix(g+0x9e3779b97f4a7c15), mix(g+0xe7037ed1a0b428db)
	for _, s := range w.slots {
		if s == 0 {
			break
		}
		a, b = mix(a^uint64(s)), mix(b+uint64(s))
	}
	return hash{a, b}
}

// mix is a bijection that spreads every bit over all of them (splitmix64).
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// connected says that the member's process reaches the others.
func (s slot) connected() bool { return s.has(processUp) && s.node() == nodeUp && s.entry() != noEntry }

func (s slot) voter() bool { return s.entry() == voterEntry }

func (w *world) voters() int {
	n := 0
	if w.stranger != noStranger {
		n = 1
	}
	for _, s := range w.slots {
		if s.voter() {
			n++
		}
	}
	return n
}

// connectedVoters without one; -1 for all of them.
func (w *world) connectedVoters(without int) int {
	n := 0
	if w.stranger == runningStranger {
		n = 1
	}
	for i, s := range w.slots {
		if i != without && s.voter() && s.connected() {
			n++
		}
	}
	return n
}

// half says that n are more than half of voters. Written out once more, so that
// nothing here rests on what is under test.
func half(n, voters int) bool { return 2*n > voters }

func (w *world) quorum() bool { return half(w.connectedVoters(-1), w.voters()) }

// restorable says that a voter can still vote: its volume is there, or it runs
// on one that is going.
func (s slot) restorable(latched bool) bool {
	if !s.voter() || s.node() == nodeGone || s.has(claimRefused) {
		return false
	}
	if !s.has(everRan) {
		return s.mayStart(latched)
	}
	switch s.claim() {
	case claimBound:
		return s.data() == dataSound
	case claimGoing:
		return s.data() == dataSound && s.pod() == podThere
	default:
		return false
	}
}

// mayStart says that a founder that has never run may still do so. Once status
// names the cluster and no majority can be asked, only the pod that was made
// before can tell it from one that has lost its data; and that pod is given up
// when its node is away.
func (s slot) mayStart(latched bool) bool {
	switch s.claim() {
	case claimBound:
		return !latched || (s.pod() == podThere && s.has(podMayBeEmpty) && !s.cutOff())
	case claimPending:
		return !latched
	case noClaim:
		return !latched && !s.has(volumeOnRecord)
	default:
		return false
	}
}

// recoverable says, of the world and not of what anybody has seen, that a quorum
// of the voters has its data, or can have it when the nodes are back; and that it
// will be so when a change of the members that is on its way comes to pass: what
// breaks between the last look and etcd's answer cannot be seen by anybody.
func (w *world) recoverable() bool {
	if !w.recoverableAfter(noMutation, 0) || !w.recoverableAfter(w.pending, asked) {
		return false
	}
	return w.recoverableWith(w.flight, target) && w.recoverableWith(w.paused, target>>pausedShift)
}

func (w *world) recoverableWith(f flight, whom slot) bool {
	switch {
	case f.shaken && kinds[f.kind] == Promote:
		return w.recoverableAfter(promotion, whom)
	case f.shaken && kinds[f.kind] == RemoveMember:
		return w.recoverableAfter(removal, whom)
	case f.shaken && (kinds[f.kind] == StopMembers || kinds[f.kind] == DeletePods):
		return w.recoverableAfter(stop, whom)
	default:
		return true
	}
}

func (w *world) recoverableAfter(change mutation, whom slot) bool {
	n, voters := 0, 0
	for _, s := range w.slots {
		switch {
		case !s.has(whom):
		case change == promotion && s.entry() == learnerEntry:
			// etcd promotes one that has died meanwhile.
			s.setEntry(voterEntry)
		case change == removal:
			s.setEntry(noEntry)
		case change == stop:
			s.stop(true)
		}
		if s.voter() {
			voters++
		}
		if s.restorable(w.latched) {
			n++
		}
	}
	return half(n, voters)
}

// settle carries out what follows by itself and at once, and puts the members in
// order, so that worlds that differ in names only are one.
func (w *world) settle() {
	for i := range w.slots {
		if w.slots[i] != 0 {
			w.settleObjects(&w.slots[i])
		}
	}
	w.flight.settle()
	w.paused.settle()
	quorum := w.quorum()
	led := false
	for i := range w.slots {
		s := &w.slots[i]
		if *s == 0 {
			continue
		}
		if s.entry() == noEntry && s.node() == nodeUp && quorum {
			// etcd tells a removed member so, and it ends.
			s.clear(processUp)
		}
		s.when(s.has(leading) && s.voter() && s.connected() && quorum, leading)
		led = led || s.has(leading)
	}
	for i := range w.slots {
		if s := &w.slots[i]; quorum && !led && s.voter() && s.connected() {
			s.set(leading)
			led = true
		}
		if w.slots[i] != 0 {
			w.settleEntry(&w.slots[i])
		}
	}
	w.sort()
}

// settle forgets what its step does not read.
func (f *flight) settle() {
	kind := kinds[f.kind]
	f.listMoved = f.listMoved && kind.settles()
	f.specMoved = f.specMoved && (kind.reads() || kind.patches())
	f.shaken = f.shaken && (kind == Promote || kind == RemoveMember || kind == StopMembers || kind == DeletePods)
}

// sort by insertion: nearly all of them are in order.
func (w *world) sort() {
	for i := 1; i < len(w.slots); i++ {
		s := w.slots[i]
		j := i
		for ; j > 0 && w.slots[j-1] < s; j-- {
			w.slots[j] = w.slots[j-1]
		}
		w.slots[j] = s
	}
}

const claimWords = claimRecorded | claimBooted | claimLeaving | claimRefused | claimNode

func (w *world) settleObjects(s *slot) {
	if s.pod() == noPod {
		s.clear(podHeld | podMayBeEmpty | podBooted | processUp | unheard | podOld)
		if s.claim() == claimGoing {
			s.setClaim(noClaim)
		}
	}
	if s.claim() == claimPending && s.pod() == podThere {
		// The scheduler finds a node, and the volume is made on it.
		s.setClaim(claimBound)
		s.setNode(nodeUp)
	}
	if !s.has(podMayBeEmpty) {
		// The operator's word is enough for the guard.
		s.clear(podBooted)
	}
	if s.has(everRan) && !s.has(emptied) {
		// So is the marker on the volume, which lies there for as long as the pod does.
		s.clear(podBooted)
	}
	if breaks == "" && !s.has(podMayBeEmpty) && (s.has(claimBooted) || s.founder() && s.has(claimRecorded)) {
		// And so is the claim: no pod that may be empty is made for it any more.
		s.clear(emptied)
	}
	if s.claim() == noClaim {
		s.clear(claimWords | emptied)
		s.setData(noData)
	}
	if s.node() == nodeGone {
		s.clear(processUp | orphaned)
	}
	if !s.has(processUp) {
		s.clear(unheard)
	}
	if s.claim() == noClaim && s.pod() == noPod && !s.has(orphaned) {
		s.setNode(nodeUp)
	}
}

func (w *world) settleEntry(s *slot) {
	if s.entry() == noEntry && !s.has(isJoiner|asked|target>>pausedShift) && breaks == "" {
		// Only a joiner can be added.
		s.clear(hadID)
	}
	if s.entry() == noEntry {
		s.clear(published | synced | hampered | leading)
	}
	if s.entry() == voterEntry {
		s.clear(synced | hampered)
	}
	nothing := s.entry() == noEntry && s.claim() == noClaim && s.pod() == noPod && !s.has(orphaned|isJoiner|asked|target>>pausedShift)
	if nothing && (w.latched || !s.founder()) {
		w.spent = w.spent || (breaks == "reuse" && s.has(hadID))
		*s = 0
	}
}

func (s slot) String() string {
	if s == 0 {
		return "-"
	}
	words := []string{
		[]string{"no claim", "claim pending", "claim", "claim going", "claim lost"}[s.claim()],
		[]string{"", "data", "corrupt"}[s.data()],
		[]string{"no pod", "pod", "pod going"}[s.pod()],
		[]string{"", "node cut off", "node gone", "node away for long"}[s.node()],
		[]string{"unlisted", "learner", "voter"}[s.entry()],
	}
	for _, f := range []struct {
		bit  slot
		name string
	}{
		{claimRecorded, "id-on-claim"},
		{claimBooted, "booted-on-claim"},
		{claimLeaving, "leaving-on-claim"},
		{claimRefused, "refused-on-claim"},
		{claimNode, "node-on-claim"},
		{volumeOnRecord, "volume-on-record"},
		{podHeld, "held"},
		{podMayBeEmpty, "may-be-empty"},
		{podBooted, "boot-mark"},
		{emptied, "marker-gone"},
		{processUp, "RUNS"},
		{orphaned, "RUNS-ORPHANED"},
		{unheard, "unheard"},
		{published, "published"},
		{hadID, "had-id"},
		{everRan, "ever-ran"},
		{synced, "synced"},
		{hampered, "hampered"},
		{leading, "LEADS"},
		{isJoiner, "JOINER"},
		{podOld, "of-an-older-spec"},
		{asked, "change-pending"},
		{target, "<-target"},
	} {
		if s.has(f.bit) {
			words = append(words, f.name)
		}
	}
	if s.founder() {
		words = append([]string{"founder"}, words...)
	}
	return strings.Join(slices.DeleteFunc(words, func(s string) bool { return s == "" }), " ")
}

func (w *world) String() string { return w.since(&world{}) }

// since tells what is different from an earlier world.
func (w *world) since(before *world) string {
	var b strings.Builder
	head := func(w *world) string {
		words := fmt.Sprintf("size %d, latched %v, pending %s, under way %s/%d", w.size, w.latched,
			[]string{"nothing", "addition", "removal", "promotion"}[w.pending], kinds[w.flight.kind], w.flight.call)
		if w.paused.kind != 0 {
			words += fmt.Sprintf(", paused %s/%d", kinds[w.paused.kind], w.paused.call)
		}
		return words + []string{"", ", a stranger is listed", ", a stranger votes"}[w.stranger]
	}
	if h := head(w); h != head(before) {
		b.WriteString("\n      " + h)
	}
	same := func(s slot) func(slot) bool {
		return func(t slot) bool { return s&^(flightWords|pausedWords) == t&^(flightWords|pausedWords) }
	}
	for i, s := range w.slots {
		if s != 0 && !slices.ContainsFunc(before.slots[:], same(s)) {
			fmt.Fprintf(&b, "\n      %d is now: %s", i, s)
		}
	}
	return b.String()
}
