package store

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"

	"google.golang.org/api/googleapi"
)

// mostFailures in a row are borne in one operation, as many as S3's client bears.
const mostFailures = 5

// patience of one operation. Google's client tries again for as long as its context
// lives, so a store that is down would hold a process for ever instead of failing it.
type patience struct {
	failures atomic.Int32
	last     atomic.Pointer[error]
}

type patienceKey struct{}

// patiently begins an operation.
func patiently(ctx context.Context) context.Context {
	return context.WithValue(ctx, patienceKey{}, &patience{})
}

func (p *patience) failed(err error) {
	p.last.Store(&err)
	p.failures.Add(1)
}

// exhaustedError ends an operation that failed too often. It does not unwrap, since
// Google's client would find in its cause, and in its words, a reason to go on.
type exhaustedError struct{ last error }

func (e *exhaustedError) Error() string {
	return fmt.Sprintf("failed %d times in a row", mostFailures)
}

// patient is a transport that ends an operation whose requests fail too often.
type patient struct{ base http.RoundTripper }

func (t patient) RoundTrip(r *http.Request) (*http.Response, error) {
	p, ok := r.Context().Value(patienceKey{}).(*patience)
	if !ok {
		return t.base.RoundTrip(r)
	}
	if last := p.last.Load(); last != nil && p.failures.Load() >= mostFailures {
		if r.Body != nil {
			_ = r.Body.Close() // a transport has to, and nothing was sent
		}
		return nil, &exhaustedError{last: *last}
	}
	answer, err := t.base.RoundTrip(r)
	switch {
	case err != nil:
		p.failed(err)
		return nil, err
	case answer.StatusCode >= http.StatusInternalServerError, answer.StatusCode == http.StatusTooManyRequests, answer.StatusCode == http.StatusRequestTimeout:
		p.failed(&googleapi.Error{Code: answer.StatusCode, Message: http.StatusText(answer.StatusCode)})
	case r.Method != http.MethodGet:
		p.failures.Store(0)
	default:
		answer.Body = &patientBody{ReadCloser: answer.Body, patience: p}
	}
	return answer, nil
}

// patientBody counts a download that breaks off as a failure, unless bytes came: an
// answer that begins and never goes on would be asked for again for ever.
type patientBody struct {
	io.ReadCloser

	patience *patience
}

func (b *patientBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if n > 0 {
		b.patience.failures.Store(0)
	}
	if err != nil && err != io.EOF {
		b.patience.failed(err)
	}
	return n, err
}
