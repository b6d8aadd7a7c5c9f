package job

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
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

// Progress as it is now.
func (t *Tracker) Progress() snapshot.Progress {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.progress
}

// ServeHTTP answers with the progress as JSON.
func (t *Tracker) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	// The reader has gone if it fails.
	_ = json.NewEncoder(w).Encode(t.Progress())
}

// enter begins a phase.
func (t *Tracker) enter(phase snapshot.Phase, attempt int, total int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.progress = snapshot.Progress{Phase: phase, Attempt: attempt, TotalBytes: total}
	t.moved++
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
