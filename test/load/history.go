package load

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"
)

// unknownPerKey retires a shared key: an operation without an answer may take
// place at any later time, and each doubles the orders to search.
const unknownPerKey = 5

// operation on a shared key, with its call and return in nanoseconds since the
// load began.
type operation struct {
	client       int
	in           input
	out          output
	call, answer int64
}

// history of one shared key: every operation on it that may have changed it or
// was answered. A get without an answer says nothing and is left out.
type history struct {
	key string

	mu         sync.Mutex
	operations []operation
	unknown    int
}

func (h *history) add(o operation) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.operations = append(h.operations, o)
	if o.out.unknown {
		h.unknown++
	}
}

// shared is the shared keys.
type shared struct {
	prefix   string
	perKey   int
	mu       sync.Mutex
	present  []*history
	complete []*history
}

func newShared(prefix string, keys, perKey int) *shared {
	s := &shared{prefix: prefix, perKey: perKey}
	for range keys {
		s.present = append(s.present, s.create())
	}
	return s
}

func (s *shared) create() *history {
	h := &history{key: fmt.Sprintf("%s%06d", s.prefix, len(s.complete))}
	s.complete = append(s.complete, h)
	return h
}

// key in a place, a new one when the old one has been used enough.
func (s *shared) key(place int) *history {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.present[place]
	h.mu.Lock()
	used := len(h.operations) >= s.perKey || h.unknown >= unknownPerKey
	h.mu.Unlock()
	if used {
		h = s.create()
		s.present[place] = h
	}
	return h
}

// porcupine's own form of the history. An operation without an answer returns
// after everything else.
func (h *history) porcupine() []porcupine.Operation {
	var last int64
	for _, o := range h.operations {
		last = max(last, o.call, o.answer)
	}
	var list []porcupine.Operation
	for _, o := range h.operations {
		answer := o.answer
		if o.out.unknown {
			answer = last + 1
		}
		list = append(list, porcupine.Operation{ClientId: o.client, Input: o.in, Output: o.out, Call: o.call, Return: answer})
	}
	return list
}

// Verdict on a history.
type Verdict string

// Verdicts.
const (
	// Ok: an order explains every answer.
	Ok Verdict = "Ok"
	// Illegal: no order does.
	Illegal Verdict = "Illegal"
	// Unknown: the search was not finished in time.
	Unknown Verdict = "Unknown"
)

// verdicts in porcupine's words.
var verdicts = map[porcupine.CheckResult]Verdict{porcupine.Ok: Ok, porcupine.Illegal: Illegal, porcupine.Unknown: Unknown}

// shownIllegal is of how many keys a picture is made.
const shownIllegal = 3

// Key whose history is not linearizable.
type Key struct {
	Name       string `json:"name"`
	Operations int    `json:"operations"`
	// Stuck is the first answer that the longest order found does not explain.
	Stuck string `json:"stuck,omitempty"`
	// Picture is the file to open in a browser; or why there is none.
	Picture string `json:"picture,omitempty"`
}

// check searches an order for each key, and pictures those that have none.
func check(keys []*history, within time.Duration, artifacts string) (Verdict, []Key) {
	deadline, verdict := time.Now().Add(within), Ok
	var illegal []Key
	for _, h := range keys {
		list := h.porcupine()
		// One key must not keep the others from being checked. A timeout of zero
		// would mean none.
		left := max(min(time.Until(deadline), within/10), time.Nanosecond)
		switch verdicts[porcupine.CheckOperationsTimeout(model, list, left)] {
		case Ok:
		case Unknown:
			if verdict == Ok {
				verdict = Unknown
			}
		case Illegal:
			verdict = Illegal
			found := Key{Name: h.key, Operations: len(list)}
			if len(illegal) < shownIllegal {
				found.Stuck, found.Picture = picture(h.key, list, artifacts)
			}
			illegal = append(illegal, found)
		}
	}
	return verdict, illegal
}

// pictureWithin bounds the second search, which remembers how far it came.
const pictureWithin = 5 * time.Second

// picture draws a history, and tells where its explanation ends.
func picture(key string, list []porcupine.Operation, artifacts string) (stuck, file string) {
	_, info := porcupine.CheckOperationsVerbose(model, list, pictureWithin)
	file = filepath.Join(artifacts, strings.ReplaceAll(key, "/", "-")+".html")
	if err := porcupine.VisualizePath(model, info, file); err != nil {
		file = fmt.Sprintf("none: %v", err)
	}
	return firstUnexplained(list, info), file
}

// firstUnexplained is the operation that returned first of those that the
// longest order leaves out.
func firstUnexplained(list []porcupine.Operation, info porcupine.LinearizationInfo) string {
	var longest []porcupine.Operation
	for _, partition := range info.PartialLinearizationsOperations() {
		for _, order := range partition {
			if len(order) > len(longest) {
				longest = order
			}
		}
	}
	explained := map[porcupine.Operation]bool{}
	for _, o := range longest {
		explained[o] = true
	}
	left := slices.DeleteFunc(slices.Clone(list), func(o porcupine.Operation) bool { return explained[o] })
	if len(left) == 0 {
		return ""
	}
	first := slices.MinFunc(left, func(a, b porcupine.Operation) int { return cmp.Compare(a.Return, b.Return) })
	return fmt.Sprintf("client %d at +%.3fs: %s", first.ClientId, time.Duration(first.Call).Seconds(), describe(first.Input.(input), first.Output.(output)))
}
