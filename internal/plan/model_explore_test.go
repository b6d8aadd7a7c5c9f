package plan

import (
	"fmt"
	"slices"
	"strings"
	"sync"
)

// explorer goes through every world that can be reached: first those without a
// fault, then those with one more, so that what it finds first has the fewest
// faults and, among those, the fewest events.
type explorer struct {
	faults int
	hashes []hash
	// parents and next: the world that each was reached from, and the one that
	// follows when no fault happens any more.
	parents, next []uint32
	lost          []bool
	table         []uint32
	layers        [][]visit
	transitions   int
	mind          *mind
	failure       *counterexample
	from          world
}

// visit is a world to go on from.
type visit struct {
	id    uint32
	world world
}

// counterexample is a world and what is wrong in one step from it.
type counterexample struct {
	at    uint32
	last  *successor
	wrong string
}

// What next says of a world besides another one.
const (
	// settled: it is as the user wants it.
	settledNext = ^uint32(0) - iota
	// stuckNext: nothing happens any more.
	stuckNext
	unknownNext
)

func explore(from world, faults int) *explorer {
	e := &explorer{faults: faults, mind: newMind(), table: make([]uint32, 1<<16), layers: make([][]visit, faults+1), from: from}
	from.settle()
	e.from = from
	e.visit(from, from.hash(), 0, 0)
	for spent := range e.layers {
		// First all that can be reached with so many faults, so that no world is
		// taken for one that needs more of them; then one fault more.
		for done := 0; done < len(e.layers[spent]) && e.failure == nil; {
			todo := e.layers[spent][done:]
			done += len(todo)
			e.batch(todo, spent, false)
			if spent == faults {
				// Nobody breaks them down: they are done with.
				e.layers[spent], done = slices.Clone(e.layers[spent][done:]), 0
			}
		}
		if spent < faults && e.failure == nil {
			e.batch(e.layers[spent], spent, true)
		}
		e.layers[spent] = nil
	}
	if e.failure == nil {
		e.endings()
	}
	return e
}

// found worlds of one worker.
type finding struct {
	successor
	hash hash
	from uint32
}

// batch expands worlds on two workers, and then enters what they found, in order,
// so that the same worlds get the same numbers in every run.
func (e *explorer) batch(todo []visit, spent int, faults bool) {
	const size = 1 << 15
	for chunk := range slices.Chunk(todo, size) {
		var results [2][]finding
		var rests [2][]uint32
		var wg sync.WaitGroup
		middle := len(chunk) / 2
		for i, part := range [][]visit{chunk[:middle], chunk[middle:]} {
			wg.Go(func() {
				for _, v := range part {
					if faults {
						results[i] = e.breakDown(v, results[i])
					} else {
						results[i], rests[i] = e.expand(v, results[i], rests[i])
					}
				}
			})
		}
		wg.Wait()
		for i := range results {
			for _, id := range rests[i] {
				e.next[id] = settledNext
			}
			for _, f := range results[i] {
				e.enter(f, spent)
			}
		}
		if e.failure != nil {
			return
		}
	}
}

// expand finds what may follow a world. A calm successor is what follows without
// faults; there is one, or the world is settled, or stuck.
func (e *explorer) expand(v visit, out []finding, rests []uint32) ([]finding, []uint32) {
	calm, goal := false, false
	before := v.world.recoverable()
	// What breaks between the look and a removal may escape the performer, who asks
	// the others once more and does not see that their pods are being deleted. Nor does he who
	// makes a pod again that has never run see that another member has lost its volume since:
	// the next pod may not begin empty, which only a quorum of the others can allow.
	raced := func(w *world) bool {
		return w.flight.shaken && kinds[w.flight.kind] != Promote || w.paused.shaken && kinds[w.paused.kind] != Promote
	}
	take := func(n successor) {
		if n.price == fault {
			return
		}
		n.calm = n.calm && !calm
		calm = calm || n.calm
		if n.wrong == "" && n.price != fault && before && !raced(&v.world) && !raced(&n.world) && !n.world.recoverable() {
			n.wrong = "I7: what is no fault takes the last data that a quorum had"
		}
		out = append(out, finding{successor: n, hash: n.world.hash(), from: v.id})
	}
	v.world.successors(e.mind, take)
	if !calm {
		goal = v.world.wanted()
	}
	if goal {
		rests = append(rests, v.id)
	}
	if !calm && !goal {
		// Wait for what heals by itself.
		for i := range out {
			if out[i].from == v.id && out[i].price == healing {
				out[i].calm = true
				break
			}
		}
	}
	return out, rests
}

// breakDown finds what a fault makes of a world.
func (e *explorer) breakDown(v visit, out []finding) []finding {
	v.world.breakDown(e.mind, func(n successor) {
		if n.price == fault {
			out = append(out, finding{successor: n, hash: n.world.hash(), from: v.id})
		}
	})
	return out
}

// successors of a world, in the order in which they happen without faults.
func (w *world) successors(m *mind, take emit) {
	if w.paused.asking() {
		w.resume(m, take)
		return
	}
	if w.flight.kind != 0 {
		w.call(m, take)
	}
	if w.flight.call == 0 {
		// Nothing but a fault is quick enough to come between two calls.
		w.events(take)
	}
	if w.flight.kind == 0 {
		w.look(m, take)
	}
	if w.flight.call == 0 {
		w.waiting(take)
	}
	w.resume(m, take)
	if w.wanted() {
		w.edits(free, take)
	}
}

// breakDown is what a fault may make of a world.
func (w *world) breakDown(m *mind, take emit) {
	if w.flight.kind != 0 {
		// Of its calls only those whose answer is lost are faults.
		w.call(m, take)
	}
	w.resume(m, take)
	w.pause(m, take)
	w.invite(take)
	w.crash(take)
	w.faults(take)
	if !scope.core {
		w.edits(fault, take)
	}
}

// wanted says that the cluster is what the user wants and healthy.
func (w *world) wanted() bool {
	if !w.latched || w.voters() != int(w.size) || w.pending != noMutation || w.flight.kind != 0 || w.paused.kind != 0 {
		return false
	}
	for _, s := range w.slots {
		if s == 0 {
			continue
		}
		healthy := s.voter() && s.connected() && s.answers() && s.claim() == claimBound && s.pod() == podThere &&
			s.has(claimRecorded) && !s.has(podMayBeEmpty|isJoiner|claimLeaving|podOld)
		if !healthy {
			return false
		}
	}
	return true
}

// enter takes a world in, if it is new.
func (e *explorer) enter(f finding, spent int) {
	e.transitions++
	if e.failure != nil {
		return
	}
	if f.wrong != "" {
		e.failure = &counterexample{at: f.from, last: &f.successor, wrong: f.wrong}
		return
	}
	if f.price == fault {
		spent++
	}
	id := e.visit(f.world, f.hash, f.from, spent)
	if f.calm {
		e.next[f.from] = id
	}
}

func (e *explorer) visit(w world, h hash, parent uint32, spent int) uint32 {
	if 2*len(e.hashes) >= len(e.table) {
		e.grow()
	}
	mask := uint64(len(e.table) - 1)
	i := h[0] & mask
	for ; e.table[i] != 0; i = (i + 1) & mask {
		if id := e.table[i] - 1; e.hashes[id] == h {
			return id
		}
	}
	id := uint32(len(e.hashes))
	e.table[i] = id + 1
	e.hashes = append(e.hashes, h)
	e.parents = append(e.parents, parent)
	e.next = append(e.next, stuckNext)
	e.lost = append(e.lost, !w.recoverable())
	e.layers[spent] = append(e.layers[spent], visit{id, w})
	return id
}

func (e *explorer) grow() {
	e.table = make([]uint32, 2*len(e.table))
	mask := uint64(len(e.table) - 1)
	for id, h := range e.hashes {
		i := h[0] & mask
		for e.table[i] != 0 {
			i = (i + 1) & mask
		}
		e.table[i] = uint32(id) + 1
	}
}

// endings follows each world without faults to its end, which is to be the wanted
// cluster unless a quorum of the data is lost.
func (e *explorer) endings() {
	const (
		unseen = iota
		underway
		good
		bad
	)
	verdict := make([]byte, len(e.next))
	var path []uint32
	for start := range e.next {
		path = path[:0]
		id, end := uint32(start), byte(bad)
		for {
			if verdict[id] == good || verdict[id] == bad {
				end = verdict[id]
				break
			}
			if verdict[id] == underway {
				break
			}
			verdict[id] = underway
			path = append(path, id)
			if e.next[id] == settledNext {
				end = good
				break
			}
			if e.next[id] == stuckNext {
				break
			}
			id = e.next[id]
		}
		for _, p := range path {
			verdict[p] = end
		}
		if end == bad && !e.lost[start] && e.failure == nil {
			e.failure = &counterexample{at: uint32(start), wrong: "without further faults it never becomes what the user wants, although a quorum has its data"}
		}
	}
}

// story tells the events that lead to a failure, and what follows.
func (e *explorer) story() string {
	var path []uint32
	for id := e.failure.at; ; id = e.parents[id] {
		path = append(path, id)
		if id == 0 {
			break
		}
	}
	slices.Reverse(path)
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n", e.failure.wrong)
	w := e.from
	m := newMind()
	tell := func(n successor) {
		cost := []string{"  ", "! ", "~ "}[n.price]
		fmt.Fprintf(&b, "%s%s%s\n", cost, n, n.world.since(&w))
		w = n.world
	}
	leads := func(to uint32) func(successor) bool {
		return func(n successor) bool { return n.world.hash() == e.hashes[to] }
	}
	fmt.Fprintf(&b, "founders:%s\n", w.since(&world{}))
	for _, id := range path[1:] {
		e.step(&w, m, leads(id), tell)
	}
	if e.failure.last != nil {
		tell(*e.failure.last)
		return b.String()
	}
	b.WriteString("and then, without faults:\n")
	seen := map[uint32]bool{}
	for id := e.failure.at; e.next[id] < unknownNext && !seen[id]; id = e.next[id] {
		seen[id] = true
		e.step(&w, m, leads(e.next[id]), tell)
	}
	fmt.Fprintf(&b, "at the end:%s\n", w.since(&world{}))
	for g := early; g <= steadily; g++ {
		fmt.Fprintf(&b, "at the end, look %d: %+v\n", g, Next(w.observe(g)))
	}
	return b.String()
}

// step takes the one successor that is asked for.
func (e *explorer) step(w *world, m *mind, is func(successor) bool, take emit) {
	var chosen *successor
	pick := func(n successor) {
		if chosen == nil && is(n) {
			chosen = &n
		}
	}
	w.successors(m, pick)
	w.breakDown(m, pick)
	if chosen == nil {
		panic("the way to a world that was visited is lost")
	}
	take(*chosen)
}
