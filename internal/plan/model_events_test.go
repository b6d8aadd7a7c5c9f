package plan

import "fmt"

// price of an event: how many faults it is.
type price uint8

const (
	// free events are no faults. The first of them that is possible is what
	// happens in a world without faults.
	free price = iota
	fault
	// healing events are free, and a world without faults waits for them only
	// when nothing else is left to happen.
	healing
)

// successor is what may come next.
type successor struct {
	world world
	price price
	// calm says that this is what comes next when no fault happens any more.
	calm  bool
	what  string
	whom  int
	wrong string
}

func (n successor) String() string {
	if n.whom < 0 || n.whom >= mostSlots {
		return n.what
	}
	return fmt.Sprintf("%s (%d)", n.what, n.whom)
}

// emit takes a successor. The world is settled by then.
type emit func(successor)

// events are what the world may do by itself.
func (w *world) events(out emit) {
	if w.pending != noMutation {
		w.resolve(out)
	}
	for i := range w.slots {
		if w.slots[i] == 0 {
			continue
		}
		// What members do by themselves does not depend on the order among them:
		// one order is enough.
		moved := false
		w.progress(i, func(n successor) {
			moved = true
			out(n)
		})
		if moved {
			return
		}
	}
}

// waiting is what time brings, and what heals by itself. In a world without
// faults it comes when nothing else is left to happen.
func (w *world) waiting(out emit) {
	for i, s := range w.slots {
		if s == 0 {
			continue
		}
		if s.node() == nodeCutOff {
			w.change(out, free, "its node has been away for failover.replaceAfter", i, func(s *slot) { s.setNode(nodeAway) })
		}
		if s.entry() == learnerEntry && !s.has(synced|hampered|podHeld) && (s.node() == nodeAway || (!s.has(processUp) && w.idle(i))) {
			w.change(out, free, "the learner has made no progress for failover.learnerTimeout", i, func(s *slot) { s.set(hampered) })
		}
	}
	for i := range w.slots {
		if w.slots[i] != 0 {
			w.heal(i, out)
		}
	}
	w.strangers(out)
}

// change emits the world after a change of one member.
func (w *world) change(out emit, p price, what string, i int, edit func(*slot)) {
	next := *w
	edit(&next.slots[i])
	next.shake(p)
	next.settle()
	out(successor{world: next, price: p, calm: p == free, what: what, whom: i})
}

// shake says of the steps under way that something has broken, or was mended,
// since their looks.
func (w *world) shake(p price) {
	w.flight.shaken = w.flight.shaken || (p != free && w.flight.kind != 0)
	w.paused.shaken = w.paused.shaken || (p != free && w.paused.kind != 0)
}

// progress of a member: what kubelets, controllers and etcd do in their time.
func (w *world) progress(i int, out emit) {
	s := w.slots[i]
	up := s.node() == nodeUp
	switch {
	case s.pod() == podGoing && !s.cutOff():
		w.change(out, free, "the pod is gone", i, func(s *slot) { s.setPod(noPod) })
		return
	case s.pod() == podThere && up && !s.has(podHeld|processUp) && (s.claim() == claimBound || s.claim() == claimGoing):
		w.start(i, out)
	}
	if s.connected() && w.quorum() && !s.has(published) && s.data() == dataSound {
		w.change(out, free, "etcd lists it as started", i, func(s *slot) { s.set(published) })
	}
	if s.connected() && w.quorum() && s.entry() == learnerEntry && s.has(published) && !s.has(synced|hampered) {
		w.change(out, free, "the learner has caught up", i, func(s *slot) { s.set(synced) })
	}
}

// used says that the guard has a witness that the member has started: the word of
// the operator, the pod's boot mark or the marker on the volume.
func (s slot) used() bool {
	return !s.has(podMayBeEmpty) || s.has(podBooted) || (s.has(everRan) && !s.has(emptied))
}

// start lets the kubelet start the container, in which the guard decides.
func (w *world) start(i int, out emit) {
	s := w.slots[i]
	if s.entry() == noEntry && w.latched {
		// The others tell etcd that it is no member, or its peers are missing on
		// its list: it ends at once.
		return
	}
	if s.data() == dataCorrupt || (s.data() == noData && s.used()) {
		return
	}
	wrong := ""
	switch {
	case s.has(orphaned):
		wrong = "I4: two processes of one identity"
	case s.data() == noData && s.has(everRan):
		wrong = "I4: etcd starts on an empty directory under an ID that has started"
	}
	next := *w
	n := &next.slots[i]
	n.setData(dataSound)
	n.set(processUp | podBooted | everRan)
	n.clear(emptied)
	next.settle()
	out(successor{world: next, calm: true, what: "etcd starts", whom: i, wrong: wrong})
}

// resolve settles a change of the members whose outcome nobody knew.
func (w *world) resolve(out emit) {
	for i, s := range w.slots {
		if !s.has(asked) {
			continue
		}
		if w.quorum() {
			next := *w
			next.apply(w.pending, i)
			next.slots[i].clear(asked)
			next.pending = noMutation
			next.settle()
			out(successor{world: next, calm: true, what: "the change that had timed out is applied", whom: i})
		}
		next := *w
		next.slots[i].clear(asked)
		next.pending = noMutation
		next.settle()
		out(successor{world: next, calm: !w.quorum(), what: "the change that had timed out is dropped", whom: i})
	}
}

// apply commits a change of the members, if it still means anything.
func (w *world) apply(m mutation, i int) {
	s := &w.slots[i]
	before := s.entry()
	switch {
	case m == addition && before == noEntry:
		s.setEntry(learnerEntry)
		s.set(hadID)
	case m == removal:
		s.setEntry(noEntry)
	case m == promotion && before == learnerEntry:
		s.setEntry(voterEntry)
	}
	if s.entry() != before {
		w.moved()
	}
}

// heal brings back what was only away.
func (w *world) heal(i int, out emit) {
	s := w.slots[i]
	if s.cutOff() {
		w.change(out, healing, "the node is back", i, func(s *slot) {
			s.setNode(nodeUp)
			// The kubelet ends what it finds running without a pod.
			s.clear(orphaned)
		})
	}
	if s.has(unheard) {
		w.change(out, healing, "the operator reaches it again", i, func(s *slot) { s.clear(unheard) })
	}
}

// faults are what may break.
func (w *world) faults(out emit) {
	for i, s := range w.slots {
		if s == 0 {
			continue
		}
		w.processFaults(i, out)
		w.volumeFaults(i, out)
		w.nodeFaults(i, out)
	}
}

func (w *world) processFaults(i int, out emit) {
	s := w.slots[i]
	if s.has(processUp) && s.node() == nodeUp {
		if !scope.core {
			w.change(out, fault, "the process dies", i, func(s *slot) { s.clear(processUp) })
		}
		if !s.has(unheard) && !scope.core {
			w.change(out, fault, "the operator reaches it no more", i, func(s *slot) { s.set(unheard) })
		}
	}
	if s.pod() == podThere {
		w.change(out, fault, "its pod is deleted", i, func(s *slot) { s.setPod(podGoing) })
	}
	if s.entry() == learnerEntry && !s.has(synced|hampered) && !scope.core {
		w.change(out, fault, "the learner is stuck", i, func(s *slot) { s.set(hampered) })
	}
	if s.entry() != noEntry && w.latched && w.mayRemove(i) && !scope.core {
		next := *w
		next.apply(removal, i)
		if !s.has(claimRecorded) {
			// Added and removed between two looks: nobody can know that it was.
			next.slots[i].clear(hadID)
		}
		next.shake(fault)
		next.settle()
		out(successor{world: next, price: fault, what: "somebody removes it from etcd by hand", whom: i})
	}
}

func (w *world) volumeFaults(i int, out emit) {
	s := w.slots[i]
	switch s.claim() {
	case claimPending, claimBound, claimLost:
		w.change(out, fault, "its claim is deleted", i, func(s *slot) { s.setClaim(claimGoing) })
	}
	if s.claim() == claimBound || s.claim() == claimGoing {
		if s.data() != noData {
			w.change(out, fault, "its volume is emptied and the process dies", i, func(s *slot) {
				s.setData(noData)
				s.clear(processUp)
				// Nobody can tell a volume that lost its marker, too, before anything was
				// put on record, and on the pod, from a new one; afterwards the claim can.
				onRecord := s.has(claimBooted) || s.founder() && s.has(claimRecorded)
				s.when(onRecord && !s.has(podMayBeEmpty), emptied)
			})
		}
		if s.data() == dataSound && !scope.core {
			w.change(out, fault, "its data is damaged and the process dies", i, func(s *slot) {
				s.setData(dataCorrupt)
				s.clear(processUp)
			})
		}
	}
	if s.claim() == claimBound && !scope.core {
		w.change(out, fault, "its volume is lost behind the claim", i, func(s *slot) {
			s.setClaim(claimLost)
			s.setData(noData)
			s.clear(processUp)
		})
	}
}

func (w *world) nodeFaults(i int, out emit) {
	s := w.slots[i]
	placed := s.pod() != noPod && s.claim() != claimPending
	if s.node() == nodeUp && placed {
		w.change(out, fault, "its node is cut off", i, func(s *slot) { s.setNode(nodeCutOff) })
	}
	// The node is put on the claim as soon as the pod is on it.
	if s.node() != nodeGone && placed && s.has(claimNode) && !scope.core {
		w.change(out, fault, "its node is gone for good", i, func(s *slot) {
			s.setNode(nodeGone)
			s.setPod(noPod)
		})
	}
	if s.cutOff() && s.pod() != noPod && !scope.core {
		w.change(out, fault, "its pod on the cut-off node is deleted by force", i, func(s *slot) {
			s.when(s.has(processUp), orphaned)
			s.setPod(noPod)
		})
	}
}

// edits of the size, and of what pods are made from. At rest they cost nothing.
func (w *world) edits(p price, out emit) {
	if scope.rolls {
		w.retemplate(p, out)
	}
	for _, size := range scope.sizes {
		if uint8(size) == w.size {
			continue
		}
		next := *w
		next.size = uint8(size)
		next.flight.specMoved = w.flight.kind != 0
		next.paused.specMoved = w.paused.kind != 0
		out(successor{world: next, price: p, what: fmt.Sprintf("spec.size becomes %d", size), whom: -1})
	}
}

// retemplate changes what pods are made from: those that there are, are outdated.
func (w *world) retemplate(p price, out emit) {
	next, changes := *w, false
	for i := range next.slots {
		if s := &next.slots[i]; s.pod() != noPod && !s.has(podOld) {
			s.set(podOld)
			changes = true
		}
	}
	if !changes {
		return
	}
	next.flight.specMoved = w.flight.kind != 0
	next.paused.specMoved = w.paused.kind != 0
	next.settle()
	out(successor{world: next, price: p, what: "spec.podTemplate changes", whom: -1})
}
