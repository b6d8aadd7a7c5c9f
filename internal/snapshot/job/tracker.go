package job

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/quorate/quorate/internal/snapshot"
)

// Tracker keeps the progress of a process. It is safe for concurrent use, and its
// zero value is usable.
type Tracker struct {
	mu       sync.Mutex
	progress snapshot.Progress
	moved    uint64 // rises whenever bytes have moved
}

// Progress as it is now. Nothing is archived while the store does not answer, though the archiver
// itself has not heard of it yet.
func (t *Tracker) Progress() snapshot.Progress {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.progress
	if p.Archive != nil && p.Archive.Trouble == nil && p.Trouble != nil {
		archive := *p.Archive
		archive.Trouble, p.Archive = p.Trouble, &archive
	}
	return p
}

// ServeHTTP answers with the progress as JSON.
func (t *Tracker) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	// The reader has gone if it fails.
	_ = json.NewEncoder(w).Encode(t.Progress())
}

// Metrics answers with how far an archive is, in the text format of Prometheus.
func (t *Tracker) Metrics(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; version=0.0.4")
	a := t.Progress().Archive
	if a == nil {
		return
	}
	missing := 0
	if a.BaseMissing {
		missing = 1
	}
	for _, m := range []struct {
		name, kind, help string
		value            float64
	}{
		{"until_timestamp_seconds", "gauge", "Whatever had been acknowledged by this time is stored.", float64(a.Until.UnixMilli()) / 1000},
		{"revision", "gauge", "Revision up to which everything is stored.", float64(a.Revision)},
		{"segments_total", "counter", "Segments that this process has written.", float64(a.Segments)},
		{"gaps_total", "counter", "Gaps that this process has put on record.", float64(a.Gaps)},
		{"base_missing", "gauge", "1 if there is no backup to restore the latest from.", float64(missing)},
	} {
		// The reader has gone if it fails.
		_, _ = fmt.Fprintf(w, "# HELP quorate_archive_%[1]s %[2]s\n# TYPE quorate_archive_%[1]s %[3]s\nquorate_archive_%[1]s %[4]s\n",
			m.name, m.help, m.kind, strconv.FormatFloat(m.value, 'f', -1, 64))
	}
}

// enter begins a phase. What stood in the way of the attempt before is told until something
// has succeeded.
func (t *Tracker) enter(phase snapshot.Phase, attempt int, total int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.progress = snapshot.Progress{Phase: phase, Attempt: attempt, TotalBytes: total, Trouble: t.progress.Trouble}
	t.moved++
}

// Asked tells how a request to the store went; nil if that has answered. A client asks several
// times before it says anything. It is no movement: a store that never answers well is given up.
func (t *Tracker) Asked(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.progress.Trouble = snapshot.TroubleOf(err)
}

// failed tells why an attempt did, and how long it is waited before the next one.
func (t *Tracker) failed(attempt int, why error, pause time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.progress.Trouble, t.progress.Pause = snapshot.TroubleOf(Explain(why)), pause
	t.number(attempt)
}

// again: the pause is over.
func (t *Tracker) again(attempt int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.progress.Pause = 0
	t.number(attempt)
}

// number counts the attempts at what comes before the first phase. A phase has its own number,
// which the attempts at a part of its work do not change.
func (t *Tracker) number(attempt int) {
	if t.progress.Phase == "" {
		t.progress.Attempt = attempt
	}
}

// succeeded: nothing stands in the way any more.
func (t *Tracker) succeeded() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.progress.Trouble, t.progress.Pause = nil, 0
}

func (t *Tracker) read(n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.progress.BytesRead += int64(n)
	t.moved++
}

func (t *Tracker) sent(n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.progress.BytesSent += int64(n)
	t.moved++
}

// archived tells how far an archive is.
func (t *Tracker) archived(p snapshot.ArchiveProgress) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.progress.Archive = &p
	t.moved++
}

func (t *Tracker) movement() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.moved
}

// reader counts what is read through it.
func (t *Tracker) reader(r io.Reader) io.Reader {
	return readerFunc(func(p []byte) (int, error) {
		n, err := r.Read(p)
		t.read(n)
		return n, err
	})
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// errStalled: bytes stopped moving.
var errStalled = errors.New("nothing has moved")

// watch returns a context that ends with errStalled when nothing has moved for the
// bound: neither etcd's stream nor the stores' SDKs give up on a peer that keeps
// the connection open and sends nothing.
func (t *Tracker) watch(ctx context.Context, bound time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		ticker := time.NewTicker(bound)
		defer ticker.Stop()
		last := t.movement()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
			now := t.movement()
			if now == last {
				cancel(fmt.Errorf("%w for %s", errStalled, bound))
				return
			}
			last = now
		}
	}()
	return ctx, func() { cancel(context.Canceled) }
}
