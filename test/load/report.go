package load

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// What a load can find wrong. Report.Err wraps one of each that applies.
var (
	// ErrLost: a write that was acknowledged is not there.
	ErrLost = errors.New("acknowledged writes are lost")
	// ErrUnexpected: what is there differs from what was written.
	ErrUnexpected = errors.New("keys are there that were not written so")
	// ErrNotLinearizable: no order of the operations explains all answers.
	ErrNotLinearizable = errors.New("the history is not linearizable")
	// ErrUndecided: the search for an order took longer than allowed.
	ErrUndecided = errors.New("the history was not checked in time")
	// ErrRevisions: an answer told a revision lower than one told before, or
	// two writes have the same.
	ErrRevisions = errors.New("revisions did not grow")
	// ErrClusters: answers came from more than one etcd cluster.
	ErrClusters = errors.New("more than one cluster answered")
	// ErrUnread: not everything could be read back, so nothing is proven.
	ErrUnread = errors.New("not everything could be read back")
	// ErrFull: the load ended by itself, having begun MaxOperations.
	ErrFull = errors.New("the load had used up its operations")
)

// Counts of operations by their outcome.
type Counts struct {
	Acknowledged int `json:"acknowledged"`
	// Unknown: there was no answer, or one that leaves the effect open.
	Unknown int `json:"unknown"`
	// Refused: the member said that it will have no effect.
	Refused int `json:"refused"`
}

func (c *Counts) add(o outcome) {
	switch o {
	case acknowledged:
		c.Acknowledged++
	case unknown:
		c.Unknown++
	case refused:
		c.Refused++
	}
}

func (c *Counts) sum(other Counts) {
	c.Acknowledged += other.Acknowledged
	c.Unknown += other.Unknown
	c.Refused += other.Refused
}

// Report is what a load found.
type Report struct {
	Run     string    `json:"run"`
	Began   time.Time `json:"began"`
	Seconds float64   `json:"seconds"`
	Seed    uint64    `json:"seed"`
	// Clusters that answered, by the ID in their answers. One, if all is well.
	Clusters []string `json:"clusters"`

	// Operations by kind: "write" is the put of a unique key; "get", "put",
	// "cas" and "delete" are of shared keys.
	Operations map[string]Counts `json:"operations"`
	// Full: the load ended by itself at Config.MaxOperations.
	Full bool `json:"full,omitempty"`

	// Verdict on the shared keys' histories; Keys is how many there are.
	Verdict      Verdict `json:"verdict"`
	Keys         int     `json:"keys"`
	Illegal      []Key   `json:"illegal,omitempty"`
	CheckSeconds float64 `json:"checkSeconds"`

	// Readings of the unique keys, one per endpoint.
	Readings []Reading `json:"readings"`
	// Unread says what could not be read back.
	Unread []string `json:"unread,omitempty"`
	// Lost is how many acknowledged unique keys some member does not have.
	Lost     int      `json:"lost"`
	LostKeys []string `json:"lostKeys,omitempty"`
	// Unexpected is how many unique keys are there other than written.
	Unexpected     int      `json:"unexpected"`
	UnexpectedKeys []string `json:"unexpectedKeys,omitempty"`

	// Revision is the highest that an answer told.
	Revision       int64    `json:"revision"`
	RevisionErrors int      `json:"revisionErrors"`
	RevisionShown  []string `json:"revisionShown,omitempty"`

	// Longest gap of acknowledged writes of all writers together.
	Longest Gap         `json:"longestGap"`
	Writers []WriterGap `json:"writers"`
	Marks   []MarkGap   `json:"marks,omitempty"`
}

// WriterGap is one writer's longest gap.
type WriterGap struct {
	Writer int    `json:"writer"`
	Writes Counts `json:"writes"`
	Gap    Gap    `json:"gap"`
}

// MarkGap is the longest gaps that overlap the window after a mark.
type MarkGap struct {
	Mark
	// Gap of all writers together.
	Gap Gap `json:"gap"`
	// WriterGap is the longest of any one writer, which is Writer.
	WriterGap Gap `json:"writerGap"`
	Writer    int `json:"writer"`
}

// measure what can be told without asking the cluster.
func (l *Load) measure(ended time.Time) *Report {
	r := &Report{
		Run: l.run, Began: l.began, Seconds: ended.Sub(l.began).Seconds(), Seed: l.config.Seed,
		Operations: map[string]Counts{}, Full: l.begun.Load() > l.config.MaxOperations, Verdict: Unknown,
	}
	writes := Counts{}
	for _, w := range l.writers {
		writes.sum(w.total)
		r.Writers = append(r.Writers, WriterGap{Writer: w.index, Writes: w.total, Gap: w.timeline(ended).all()})
	}
	r.Operations["write"] = writes
	for k, name := range kinds {
		total := Counts{}
		for _, c := range l.contenders {
			total.sum(*c.total[k])
		}
		r.Operations[name] = total
	}
	r.Keys = len(l.shared.complete)
	whole := l.clusterTimeline(ended)
	r.Longest = whole.all()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, m := range l.marks {
		until := m.At.Add(l.config.MarkWindow)
		found := MarkGap{Mark: m, Gap: whole.longest(m.At, until)}
		found.Writer, found.WriterGap = l.worstWriter(ended, m.At, until)
		r.Marks = append(r.Marks, found)
	}
	return r
}

// conclude reports on revisions; changes are those of all acknowledged writes,
// no two of which can have the same.
func (r *revisions) conclude(report *Report, changes []int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	slices.Sort(changes)
	for i := 1; i < len(changes); i++ {
		if changes[i] == changes[i-1] {
			r.broken.add("two writes were acknowledged at revision %d", changes[i])
		}
	}
	for id := range r.clusters {
		report.Clusters = append(report.Clusters, fmt.Sprintf("%x", id))
	}
	slices.Sort(report.Clusters)
	report.Revision, report.RevisionErrors, report.RevisionShown = r.highest, r.broken.count, r.broken.shown
}

// changes are the revisions of all acknowledged writes.
func (l *Load) changes() []int64 {
	var all []int64
	for _, w := range l.writers {
		for _, done := range w.writes {
			if done.revision > 0 {
				all = append(all, done.revision)
			}
		}
	}
	for _, h := range l.shared.complete {
		for _, o := range h.operations {
			if !o.out.unknown && effectOf(o.in, o.out) == changed {
				all = append(all, o.out.revision)
			}
		}
	}
	return all
}

// Err is nil if, and only if, it is proven that nothing acknowledged was lost
// and the history is linearizable.
func (r *Report) Err() error {
	var all []error
	found := func(is bool, err error, format string, args ...any) {
		if is {
			all = append(all, fmt.Errorf("%w: %s", err, fmt.Sprintf(format, args...)))
		}
	}
	found(r.Lost > 0, ErrLost, "%d keys, for example %s", r.Lost, strings.Join(r.LostKeys, "; "))
	found(r.Unexpected > 0, ErrUnexpected, "%d, for example %s", r.Unexpected, strings.Join(r.UnexpectedKeys, "; "))
	found(r.Verdict == Illegal, ErrNotLinearizable, "%s", illegal(r.Illegal))
	found(r.Verdict == Unknown, ErrUndecided, "%d keys", r.Keys)
	found(r.RevisionErrors > 0, ErrRevisions, "%d times, for example %s", r.RevisionErrors, strings.Join(r.RevisionShown, "; "))
	found(len(r.Clusters) > 1, ErrClusters, "%s", strings.Join(r.Clusters, ", "))
	found(len(r.Unread) > 0, ErrUnread, "%s", strings.Join(r.Unread, "; "))
	found(r.Full, ErrFull, "raise Config.MaxOperations, or run shorter")
	return errors.Join(all...)
}

func illegal(keys []Key) string {
	var parts []string
	for i, k := range keys {
		if i == shownIllegal {
			parts = append(parts, fmt.Sprintf("and %d more", len(keys)-i))
			break
		}
		parts = append(parts, fmt.Sprintf("%s (%d operations; %s; see %s)", k.Name, k.Operations, k.Stuck, k.Picture))
	}
	return strings.Join(parts, "; ")
}

// String is for people.
func (r *Report) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "load %s: %.1f s from %s, cluster %s, revision %d\n", r.Run, r.Seconds, r.Began.Format("15:04:05.000"), strings.Join(r.Clusters, ", "), r.Revision)
	for _, name := range []string{"write", "get", "put", "cas", "delete"} {
		c := r.Operations[name]
		fmt.Fprintf(&b, "  %-8s %6d acknowledged, %d unknown, %d refused\n", name, c.Acknowledged, c.Unknown, c.Refused)
	}
	fmt.Fprintf(&b, "  history  %s (%d keys, checked in %.2f s), %d revision errors\n", r.Verdict, r.Keys, r.CheckSeconds, r.RevisionErrors)
	for _, reading := range r.Readings {
		fmt.Fprintf(&b, "  read     %d keys through %s", reading.Keys, reading.Endpoint)
		if reading.Error != "" {
			fmt.Fprintf(&b, " (ended: %s)", reading.Error)
		}
		b.WriteString("\n")
	}
	fmt.Fprintf(&b, "  lost     %d of %d acknowledged, %d unexpected\n", r.Lost, r.Operations["write"].Acknowledged, r.Unexpected)
	fmt.Fprintf(&b, "  gap      %s\n", r.Longest)
	for _, w := range r.Writers {
		fmt.Fprintf(&b, "           %s of writer %d\n", w.Gap, w.Writer)
	}
	for _, m := range r.Marks {
		fmt.Fprintf(&b, "  mark     %s: %s; of writer %d %s\n", m.Name, m.Gap, m.Writer, m.WriterGap)
	}
	if err := r.Err(); err != nil {
		fmt.Fprintf(&b, "  WRONG    %s\n", strings.ReplaceAll(err.Error(), "\n", "\n           "))
	}
	return b.String()
}
