package load

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"
)

// writer puts key after key, each with one request.
type writer struct {
	load  *Load
	index int
	route route

	mu     sync.Mutex
	writes []write
	total  Counts
	last   error
}

// write is what is known of one key; its number is its place in the list.
type write struct {
	// at is when it was acknowledged, in nanoseconds since the load began.
	at int64
	// revision at which it was acknowledged; outcomeUnknown or outcomeRefused
	// where it was not.
	revision int64
}

const (
	outcomeUnknown = 0
	outcomeRefused = -1
)

func (l *Load) writerPrefix() string { return l.prefix() + "unique/" }

// key of a write. Keys of one writer sort in the order they were put.
func (l *Load) key(writer, number int) string {
	return fmt.Sprintf("%s%03d/%09d", l.writerPrefix(), writer, number)
}

// value that belongs to a key, so that a mix-up of two keys shows.
func (l *Load) value(writer, number int) string {
	return fmt.Sprintf("%s:%d:%d", l.run, writer, number)
}

// parse finds out which write a key belongs to.
func (l *Load) parse(key string) (writer, number int, err error) {
	w, n, _ := strings.Cut(strings.TrimPrefix(key, l.writerPrefix()), "/")
	if writer, err = strconv.Atoi(w); err == nil {
		number, err = strconv.Atoi(n)
	}
	return writer, number, err
}

// work puts keys at the writer's share of the rate. A failed request is
// followed by the next key at once, as an application's own retry would be.
func (w *writer) work(ctx context.Context) {
	interval := time.Duration(float64(w.load.config.Writers) / w.load.config.WriteRate * float64(time.Second))
	// Evenly spread, so that writes of all of them are evenly spaced.
	wait := interval * time.Duration(w.index) / time.Duration(w.load.config.Writers)
	for number := 0; pause(ctx, wait) && w.load.admit(); number++ {
		sent := time.Now()
		if w.put(ctx, number) == acknowledged {
			wait = interval - time.Since(sent)
		} else {
			w.route.failed()
			wait = min(retryPause, interval)
		}
	}
}

func (w *writer) put(ctx context.Context, number int) outcome {
	l := w.load
	client := w.route.client(l.members)
	ctx, cancel := l.request(ctx)
	defer cancel()
	key := l.key(w.index, number)
	floor := l.revisions.floor()
	response, err := client.Put(ctx, key, l.value(w.index, number))
	at, result := l.now(), outcomeOf(err)
	done := write{revision: outcomeUnknown}
	switch result {
	case acknowledged:
		done = write{at: at, revision: response.Header.Revision}
		l.revisions.answered("put "+key, floor, response.Header, changed)
	case refused:
		done.revision = outcomeRefused
	case unknown:
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.writes = append(w.writes, done)
	w.total.add(result)
	if err != nil {
		w.last = err
	}
	return result
}

func (w *writer) counts() Counts {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.total
}

// lastError is why a write was last not acknowledged.
func (w *writer) lastError() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.last
}

// acknowledgements appends when this writer's were.
func (w *writer) acknowledgements(to []int64) []int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, done := range w.writes {
		if done.revision > 0 {
			to = append(to, done.at)
		}
	}
	return to
}

// keys appends those of its writes that were acknowledged.
func (w *writer) keys(to []string) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	for number, done := range w.writes {
		if done.revision > 0 {
			to = append(to, w.load.key(w.index, number))
		}
	}
	return to
}

func (w *writer) timeline(end time.Time) timeline {
	return timeline{began: w.load.began, acks: w.acknowledgements(nil), end: int64(end.Sub(w.load.began))}
}
