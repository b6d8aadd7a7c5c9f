package plan

// What others do beside the operator: somebody adds a member by hand, and a second
// operator acts on what it has seen before it was paused.

// stranger is a voter that somebody has added by hand and that is none of ours.
type stranger uint8

const (
	noStranger stranger = iota
	// silentStranger is listed and was never started.
	silentStranger
	runningStranger
)

// strangers come and go. That they go heals: until then nobody is a member that
// was none before. etcd must take it, and where it cannot, for want of a quorum,
// the stranger has to be started first.
func (w *world) strangers(out emit) {
	emit := func(what string, who stranger) {
		next := *w
		next.stranger = who
		next.moved()
		next.settle()
		out(successor{world: next, price: healing, what: what, whom: -1})
	}
	switch {
	case w.stranger == noStranger:
	case w.quorum() && (w.stranger == silentStranger || half(w.connectedVoters(-1)-1, w.voters()-1)):
		emit("the stranger is removed by hand", noStranger)
	case w.stranger == silentStranger:
		emit("the stranger is started", runningStranger)
	}
}

// invite lets somebody add a member by hand.
func (w *world) invite(out emit) {
	if !scope.others || !w.latched || w.stranger != noStranger || !w.quorum() {
		return
	}
	for who, what := range map[stranger]string{silentStranger: "a stranger is added by hand, and not started", runningStranger: "a stranger is added by hand, and runs"} {
		if who == silentStranger && w.voters() > 1 && !half(w.connectedVoters(-1), w.voters()+1) {
			continue
		}
		next := *w
		next.stranger = who
		next.moved()
		next.shake(fault)
		next.settle()
		out(successor{world: next, price: fault, what: what, whom: -1})
	}
}

// moved says of every step under way that etcd's list has changed since its look.
func (w *world) moved() {
	w.flight.listMoved = w.flight.kind != 0
	w.paused.listMoved = w.paused.kind != 0
}

// pausedShift is how far the words of the paused step are from those of the other.
const (
	pausedShift = 23
	flightWords = target | first | second | midway
	pausedWords = flightWords >> pausedShift
)

// exchange lets the paused operator go on, and pauses the other.
func (w *world) exchange() {
	w.flight, w.paused = w.paused, w.flight
	for i, s := range w.slots {
		w.slots[i] = s&^(flightWords|pausedWords) | s&flightWords>>pausedShift | s&pausedWords<<pausedShift
	}
	w.sort()
}

// pause stops an operator before its next call, and another one takes over. Before
// etcd is asked to remove a member, all is asked once more, and no operator is
// paused after that: nobody could tell it from a request that is on its way.
func (w *world) pause(m *mind, out emit) {
	if !scope.others || w.paused.kind != 0 {
		return
	}
	if w.flight.kind == 0 {
		for g := steadily; g >= early; g-- {
			if d := m.decide(w, g); d.kind != 0 && !d.broken {
				next := *w
				next.takeOff(d)
				next.exchange()
				next.settle()
				out(successor{world: next, price: fault, what: "the operator is paused before: " + string(kinds[d.kind]), whom: -1})
			}
		}
		return
	}
	if w.flight.call > 0 && kinds[w.flight.kind] != RemoveMember {
		next := *w
		next.exchange()
		next.settle()
		out(successor{world: next, price: fault, what: "the operator is paused within: " + string(kinds[w.flight.kind]), whom: -1})
	}
}

// asking says that all was asked once more and the removal comes next. The other
// operator is not let in between: of two that ask at the same instant etcd takes one
// after the other, and holds each against its own rules.
func (f flight) asking() bool { return kinds[f.kind] == RemoveMember && f.call > 0 }

// resume lets the paused operator make its next call, beside the other.
func (w *world) resume(m *mind, out emit) {
	if w.paused.kind == 0 || w.flight.asking() {
		return
	}
	other := *w
	other.exchange()
	other.call(m, func(n successor) {
		n.world.exchange()
		n.world.settle()
		n.calm, n.what = false, "the paused operator goes on: "+n.what
		if n.price == free {
			n.price = healing
		}
		out(n)
	})
}
