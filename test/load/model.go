package load

import (
	"fmt"
	"hash/maphash"

	"github.com/anishathalye/porcupine"
)

// kind of an operation on a shared key.
type kind int

const (
	kindGet kind = iota
	kindPut
	kindCAS
	kindDelete
)

var kinds = map[kind]string{kindGet: "get", kindPut: "put", kindCAS: "cas", kindDelete: "delete"}

// input of an operation on a shared key.
type input struct {
	kind kind
	// value to write. Every write of a load has a value of its own.
	value string
	// expect is the value that a compare-and-swap replaces; empty for none.
	expect string
}

// output of an operation on a shared key.
type output struct {
	// unknown: there was no answer, and what follows is not set.
	unknown bool
	// revision of the store when the operation took place.
	revision int64
	// applied: the compare-and-swap swapped, the delete deleted.
	applied bool
	// value that a get, or a compare-and-swap that did not swap, has found,
	// empty for none, and the revision at which it was put.
	value    string
	modified int64
}

// state of a shared key.
type state struct {
	// value, empty for none.
	value string
	// modified is the revision at which it was put; at least that, where it is
	// not known.
	modified int64
	known    bool
	// least is the lowest revision that the store can have.
	least int64
}

var hashSeed = maphash.MakeSeed()

// model is what etcd promises of one key: a register that can be compared and
// swapped, whose revision grows with each change.
var model = porcupine.Model{
	Init: func() any { return state{} },
	Step: func(before, in, out any) (bool, any) {
		ok, after := before.(state).step(in.(input), out.(output))
		return ok, after
	},
	// The revision in the state tells apart what porcupine's own hash mixes up.
	Hash:              func(s any) uint64 { return maphash.Comparable(hashSeed, s.(state)) },
	DescribeOperation: func(in, out any) string { return describe(in.(input), out.(output)) },
	DescribeState: func(s any) string {
		at := s.(state)
		return fmt.Sprintf("%s (revision ≥ %d)", orNone(at.value), at.least)
	},
}

// step is whether the operation can have taken place in this state with this
// answer, and the state that it leaves.
func (s state) step(in input, out output) (bool, state) {
	if out.unknown {
		return true, s.unanswered(in)
	}
	switch in.kind {
	case kindPut:
		return s.change(in.value, out.revision)
	case kindDelete:
		if out.applied != (s.value != "") {
			return false, s
		}
		if out.applied {
			return s.change("", out.revision)
		}
		return s.observe(output{revision: out.revision})
	case kindCAS:
		if out.applied != (s.value == in.expect) {
			return false, s
		}
		if out.applied {
			return s.change(in.value, out.revision)
		}
		return s.observe(out)
	default:
		return s.observe(out)
	}
}

// unanswered is the state after an operation that took place unheard.
func (s state) unanswered(in input) state {
	value := in.value
	switch {
	case in.kind == kindGet, in.kind == kindCAS && s.value != in.expect, in.kind == kindDelete && s.value == "":
		return s
	case in.kind == kindDelete:
		value = ""
	}
	return state{value: value, modified: s.least + 1, least: s.least + 1}
}

// change happens at a revision that the store did not have before.
func (s state) change(value string, revision int64) (bool, state) {
	return revision > s.least, state{value: value, modified: revision, known: true, least: revision}
}

// observe compares what was found with what is there.
func (s state) observe(out output) (bool, state) {
	if out.value != s.value || out.revision < s.least {
		return false, s
	}
	s.least = out.revision
	if s.value == "" {
		return true, s
	}
	if out.modified < s.modified || out.modified > out.revision || s.known && out.modified != s.modified {
		return false, s
	}
	s.modified, s.known = out.modified, true
	return true, s
}

func describe(in input, out output) string {
	var call, answer string
	switch in.kind {
	case kindPut:
		call, answer = fmt.Sprintf("put(%s)", in.value), "ok"
	case kindDelete:
		call, answer = "delete()", "there was none"
		if out.applied {
			answer = "deleted"
		}
	case kindCAS:
		call, answer = fmt.Sprintf("cas(%s, %s)", orNone(in.expect), in.value), "found "+orNone(out.value)
		if out.applied {
			answer = "swapped"
		}
	case kindGet:
		call, answer = "get()", orNone(out.value)
	}
	if out.unknown {
		return call + " → no answer"
	}
	return fmt.Sprintf("%s → %s @%d", call, answer, out.revision)
}

func orNone(value string) string {
	if value == "" {
		return "none"
	}
	return value
}
