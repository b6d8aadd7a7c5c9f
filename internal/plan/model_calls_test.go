package plan

// call carries out the next call of the step under way, as the performer does:
// what it reads again, it reads in this world, and nothing else.
func (w *world) call(m *mind, out emit) {
	next := *w
	f := &next.flight
	kind, begun := kinds[f.kind], f.call > 0
	if kind.reads() && !begun && f.specMoved {
		w.land(m, out, "the step is stale: the cluster was edited")
		return
	}
	if kind.settles() && !begun && breaks != "settled" {
		if w.pending != noMutation && w.quorum() {
			// The proposal waits for what was proposed before it.
			return
		}
		if !w.quorum() || !w.led() || f.listMoved {
			w.land(m, out, "the step is stale: the members or their leader have changed")
			return
		}
	}
	i := next.aim()
	switch kind {
	case LatchVolumes, LatchCluster, AllotMember, DropJoiner:
		w.patchStatus(m, i, out)
		return
	}
	if i < 0 {
		w.land(m, out, "the step is done")
		return
	}
	if f.call == 0 {
		f.call = 1
	}
	switch kind {
	case AddLearner:
		w.addLearner(m, i, out)
	case Promote, MoveLeader:
		w.changeVoter(m, i, out)
	case RemoveMember:
		w.remove(m, i, out)
	default:
		done := next.touch(kind, i)
		if done {
			next.slots[i].clear(target | first | second | midway)
		}
		next.settle()
		if next.aim() < 0 {
			next.flight = flight{}
		}
		out(successor{world: next, calm: true, what: "call: " + string(kind), whom: i})
	}
}

// quick says that the step only adds what an event between the look and the call
// leaves as it is: it may as well be carried out at once.
func (k Kind) quick() bool {
	switch k {
	case CreateVolumes, LatchVolumes, LatchCluster, AllotMember, DropJoiner, HoldMembers:
		return true
	default:
		return false
	}
}

// reads says that the step begins with reading the cluster again.
func (k Kind) reads() bool {
	switch k {
	case CreateVolumes, LatchVolumes, StartMembers, RecordMembers, LatchCluster, RecordRefusals, DeletePods:
		return false
	default:
		return true
	}
}

// patches says that the step writes what only status holds.
func (k Kind) patches() bool {
	return k == AllotMember || k == DropJoiner || k == AddLearner || k == LatchVolumes || k == LatchCluster
}

// settles says that the step begins with a proposal and etcd's list.
func (k Kind) settles() bool {
	switch k {
	case AddLearner, Promote, MoveLeader, RemoveMember, StopMembers, DeleteVolumes, QuarantineVolumes, RestartMember:
		return true
	default:
		return false
	}
}

// led says that the operator reaches the leader.
func (w *world) led() bool {
	for _, s := range w.slots {
		if s.has(leading) && s.answers() {
			return true
		}
	}
	return false
}

// aim is the next member that the step is about.
func (w *world) aim() int {
	next := -1
	for i, s := range w.slots {
		if s.has(midway) {
			return i
		}
		if s.has(target) && next < 0 {
			next = i
		}
	}
	return next
}

// ground ends the step under way.
func (w *world) ground() {
	w.flight = flight{}
	for i := range w.slots {
		w.slots[i].clear(target | first | second | midway)
	}
	w.settle()
}

// land ends a step that was refused. A world without faults does not try the same
// again and again: it waits for what the refusal is about.
func (w *world) land(m *mind, out emit, what string) {
	next := *w
	next.ground()
	again, same := next, *w
	again.takeOff(m.decide(&next, steadily))
	same.flight.call, same.flight.shaken = 0, false
	out(successor{world: next, calm: again.hash() != same.hash() || w.flight.call > 0, what: what, whom: -1})
}

// owned says that the claim is there and not on its way out.
func (s slot) owned() bool { return s.claim() != noClaim && s.claim() != claimGoing }

// touch makes one call for one member, and says whether it was the last one.
func (w *world) touch(kind Kind, i int) bool {
	s := &w.slots[i]
	switch kind {
	case CreateVolumes:
		if s.claim() == noClaim {
			s.setClaim(claimPending)
		}
	case StartMembers:
		if s.owned() && !s.has(claimRefused) && s.pod() == noPod {
			recorded := (s.has(claimRecorded) && !s.has(second)) || s.has(claimBooted)
			s.makePod(false, s.has(first) && !recorded || breaks == "new")
		}
	case HoldMembers:
		if s.has(isJoiner) && s.owned() && !s.has(claimRecorded) && s.pod() == noPod {
			s.makePod(true, true)
		}
	case ReleaseMembers:
		if s.owned() && s.has(claimRecorded) && !s.has(claimRefused) && s.pod() == podThere {
			s.clear(podHeld)
		}
	case DeletePods:
		s.stop(!s.has(processUp))
	case StopMembers:
		// A member that was taken for dead is asked once more.
		s.stop(s.entry() == noEntry || !s.answers() || !w.quorum())
	case RestartMember:
		w.restart(i)
	case RecordMembers:
		return w.record(s)
	case RecordRefusals:
		return w.refuse(s)
	case DiscardMembers:
		return w.discard(s)
	case DeleteVolumes:
		if s.owned() && s.has(claimLeaving) {
			s.setClaim(claimGoing)
		}
	case QuarantineVolumes:
		if s.owned() {
			// It is nobody's from here on.
			s.setClaim(noClaim)
		}
	}
	return true
}

func (s *slot) makePod(held, mayBeEmpty bool) {
	s.setPod(podThere)
	s.when(held, podHeld)
	s.when(mayBeEmpty, podMayBeEmpty)
}

func (s *slot) stop(may bool) {
	if s.pod() == podThere && may {
		s.setPod(podGoing)
	}
}

// restart evicts the pod of a member that is to be made again, once the others have said
// that they are a quorum without it. It is fenced: another operator that has decided on a
// restart before does not carry it out any more.
func (w *world) restart(i int) {
	s := &w.slots[i]
	n := 0
	for j, other := range w.slots {
		if j != i && other.voter() && other.connected() && other.answers() {
			n++
		}
	}
	alone := w.voters() == 1
	if !s.owned() || !s.has(claimRecorded) || s.has(claimRefused) || !s.has(podOld) || !alone && (s.has(leading) || !half(n, w.voters())) {
		return
	}
	s.stop(true)
	if kinds[w.paused.kind] == RestartMember {
		w.paused.specMoved = true
	}
}

// record writes on the claim, and then takes the permission back from the pod.
func (w *world) record(s *slot) bool {
	ready := s.has(first) && s.has(second)
	started, joins := s.has(first), s.has(second) && !ready
	if s.has(midway) {
		s.clear(podMayBeEmpty)
		return true
	}
	if !s.owned() {
		return true
	}
	s.when(s.has(claimRecorded) || started && !ready || joins, claimRecorded)
	s.when(s.has(claimBooted) || ready || started && !s.founder(), claimBooted)
	if w.flight.flag && s.entry() != noEntry {
		s.clear(claimLeaving)
	}
	if s.pod() != noPod && s.claim() != claimPending && !s.unscheduled() {
		s.set(claimNode)
	}
	if s.pod() != noPod && started && s.has(podMayBeEmpty) {
		s.set(midway)
		return false
	}
	return true
}

// refuse keeps a refusal on the claim, and then deletes the pod.
func (w *world) refuse(s *slot) bool {
	if s.has(midway) {
		s.stop(!s.has(processUp))
		return true
	}
	if s.pod() == noPod || s.has(processUp) {
		return true
	}
	if s.owned() {
		s.set(claimRefused)
	}
	s.set(midway)
	return false
}

// discard deletes the pod, and then the claim, of one that never joined.
func (w *world) discard(s *slot) bool {
	if s.has(isJoiner) || s.pod() != noPod && !s.has(podHeld) {
		return true
	}
	if s.pod() == podThere {
		s.stop(true)
		return false
	}
	if s.owned() && !s.has(claimRecorded|claimBooted) {
		s.setClaim(claimGoing)
	}
	return true
}

// patchStatus writes what only status is to hold. It fails when anybody has
// written the cluster since it was read.
func (w *world) patchStatus(m *mind, i int, out emit) {
	next := *w
	f := w.flight
	next.ground()
	what, at := "status: "+string(kinds[f.kind]), -1
	next.paused.specMoved = next.paused.specMoved || next.paused.kind != 0 && !f.specMoved
	switch {
	case f.specMoved:
		what = "status is not written: the cluster was edited"
	case kinds[f.kind] == LatchCluster:
		next.latched = true
	case kinds[f.kind] == LatchVolumes:
		next.latchVolumes()
	case kinds[f.kind] == DropJoiner && i >= 0:
		// Grounding may have put the members in another order.
		for i := range next.slots {
			next.slots[i].clear(isJoiner)
		}
	case kinds[f.kind] == AllotMember:
		if at = next.allot(); at < 0 {
			m.full.Add(1)
			return
		}
	}
	next.settle()
	out(successor{world: next, calm: true, what: what, whom: at})
}

func (w *world) latchVolumes() {
	for _, s := range w.slots {
		if s.founder() && !s.owned() && !s.has(volumeOnRecord) {
			return
		}
	}
	for i := range w.slots {
		if w.slots[i].founder() {
			w.slots[i].set(volumeOnRecord)
		}
	}
}

// allot gives a name away that nothing has borne.
func (w *world) allot() int {
	for i, s := range w.slots {
		if s == 0 {
			w.slots[i].set(isJoiner)
			if breaks == "reuse" && w.spent {
				w.slots[i].set(hadID)
			}
			return i
		}
	}
	return -1
}

func (w *world) addLearner(m *mind, i int, out emit) {
	s := w.slots[i]
	next := *w
	n := &next.slots[i]
	switch w.flight.call {
	case 0:
		prepared := s.has(isJoiner) && s.owned() && !s.has(claimRecorded) && s.pod() != noPod && s.has(podHeld)
		if !prepared || !w.mayAdd(i) {
			w.land(m, out, "no learner is added")
			return
		}
		w.mutate(addition, i, out)
	case 1:
		if !s.owned() {
			w.land(m, out, "the ID is not recorded: the claim has changed")
			return
		}
		n.set(claimRecorded)
		next.flight.call = 2
		next.settle()
		out(successor{world: next, calm: true, what: "call: the ID is recorded", whom: i})
	default:
		if !w.flight.specMoved {
			n.clear(isJoiner)
			next.paused.specMoved = next.paused.kind != 0
		}
		next.ground()
		out(successor{world: next, calm: true, what: "status: the joiner has joined", whom: i})
	}
}

// mutate asks etcd for a change: it is done, or nobody knows.
func (w *world) mutate(change mutation, i int, out emit) {
	wrong := ""
	switch {
	case w.pending != noMutation && (w.pending != change || !w.slots[i].has(asked)):
		// Two operators may ask for the same: etcd does it once.
		wrong = "I5: a change of the members is asked for while another may still come to pass"
	case change == addition && w.slots[i].has(hadID):
		wrong = "a name is given to a second member ID"
	}
	next := *w
	next.apply(change, i)
	what := []string{"", "etcd adds the learner", "etcd removes the member", "etcd promotes the learner"}[change]
	if change == addition {
		next.flight.call, next.flight.listMoved = 1, false
		next.settle()
	} else {
		next.ground()
	}
	out(successor{world: next, calm: true, what: what, whom: i, wrong: wrong})

	next = *w
	next.pending = change
	next.slots[i].set(asked)
	next.ground()
	out(successor{world: next, price: fault, what: "etcd does not answer to: " + what, whom: i, wrong: wrong})
}

// mayAdd is etcd's own rule: every voter and the new one, who is not there yet,
// must be a quorum; and there is one learner at a time.
func (w *world) mayAdd(i int) bool {
	for _, s := range w.slots {
		if s.entry() == learnerEntry {
			return false
		}
	}
	return w.quorum() && w.slots[i].entry() == noEntry && (w.voters() == 1 || half(w.connectedVoters(-1), w.voters()+1))
}

// mayRemove is etcd's own rule: a learner, or one that is not connected, or one
// that the others can do without.
func (w *world) mayRemove(i int) bool {
	s := w.slots[i]
	started := 0
	for j, other := range w.slots {
		if j != i && other.voter() && other.has(published) {
			started++
		}
	}
	switch {
	case !w.quorum() || s.entry() == noEntry:
		return false
	case s.entry() == learnerEntry:
		return true
	case !half(started, w.voters()-1):
		return false
	default:
		return !s.connected() || half(w.connectedVoters(i), w.voters()-1)
	}
}

func (w *world) mayPromote(i int) bool {
	started := 1
	for _, other := range w.slots {
		if other.voter() && other.has(published) {
			started++
		}
	}
	s := w.slots[i]
	return w.quorum() && s.entry() == learnerEntry && s.has(synced) && half(started, w.voters()+1)
}

func (w *world) changeVoter(m *mind, i int, out emit) {
	s := w.slots[i]
	if kinds[w.flight.kind] == MoveLeader {
		next := *w
		if s.voter() && s.connected() {
			for j := range next.slots {
				next.slots[j].when(j == i, leading)
			}
		}
		next.ground()
		out(successor{world: next, calm: true, what: "etcd hands the leadership over", whom: i})
		return
	}
	if s.pod() == noPod || s.has(podMayBeEmpty) || !s.owned() || !s.has(claimRecorded) || !w.mayPromote(i) {
		w.land(m, out, "no learner is promoted")
		return
	}
	w.mutate(promotion, i, out)
}

// remove marks the claim of one that leaves, and then removes it from etcd.
func (w *world) remove(m *mind, i int, out emit) {
	s := w.slots[i]
	if w.flight.call > 0 {
		w.removeMarked(m, i, out)
		return
	}
	if w.flight.flag && s.answers() && w.quorum() {
		w.land(m, out, "nothing is removed: it answers again")
		return
	}
	if s.has(second) && !w.spare(i) {
		w.land(m, out, "nothing is removed: the others are no quorum")
		return
	}
	if s.has(first) && !s.owned() {
		w.land(m, out, "nothing is removed: the claim has changed")
		return
	}
	if !s.has(first) || s.has(claimLeaving) {
		w.removeMarked(m, i, out)
		return
	}
	next := *w
	next.flight.call = 1
	next.slots[i].set(claimLeaving)
	next.settle()
	out(successor{world: next, calm: true, what: "call: the claim is marked to leave", whom: i})
}

func (w *world) removeMarked(m *mind, i int, out emit) {
	if !w.mayRemove(i) {
		w.land(m, out, "nothing is removed")
		return
	}
	w.mutate(removal, i, out)
}

// spare asks every other voter, now.
func (w *world) spare(i int) bool {
	n := 0
	for j, s := range w.slots {
		if j != i && s.voter() && s.connected() && s.answers() {
			n++
		}
	}
	return w.quorum() && half(n, w.voters()-1)
}

// crash ends the operator between two calls.
func (w *world) crash(out emit) {
	if w.flight.kind == 0 || w.flight.call == 0 {
		return
	}
	next := *w
	next.ground()
	out(successor{world: next, price: fault, what: "the operator crashes", whom: -1})
}
