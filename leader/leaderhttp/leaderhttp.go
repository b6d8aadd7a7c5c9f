// Package leaderhttp asks a leader-elector that runs beside an application who leads,
// and counts how long the answer holds.
//
//	client, err := leaderhttp.New("localhost:4040")
//	if client.IsLeader(ctx) {
//		// This pod leads.
//	}
//
// An answer holds for the time that it says, counted from before it was asked for. No
// answer, one that comes late and one that has run out all mean the same: this pod
// does not lead. The package needs nothing but the standard library.
package leaderhttp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// State is what /v1/state says, at the moment at which it was written.
type State struct {
	Election  string `json:"election"`
	Namespace string `json:"namespace"`
	// Name of the leader; empty if nobody is known to lead.
	Name string `json:"name"`
	// Self is who was asked.
	Self     string `json:"self"`
	IsLeader bool   `json:"isLeader"`
	// Token grows from term to term; zero unless who was asked leads.
	Token       uint64    `json:"token"`
	Transitions int32     `json:"transitions"`
	LeaseUID    string    `json:"leaseUID"`
	AcquiredAt  time.Time `json:"acquiredAt,omitzero"`
	RenewedAt   time.Time `json:"renewedAt,omitzero"`
	// ExpiresInMs is for how long the answer holds.
	ExpiresInMs int64 `json:"expiresInMs"`
	// Version grows with every change but renewals.
	Version uint64 `json:"version"`
	// Connected says that the API server answered last time.
	Connected bool `json:"connected"`
}

// Answer is a State that knows when it runs out. The zero value says that nothing is
// known.
type Answer struct {
	state State
	// until is when it runs out by the monotonic clock, and wall by the wall clock: the
	// former stands still while the machine is suspended, the latter may be set. What comes
	// first counts.
	until, wall time.Time
}

// State as it was written. It does not run out: ask IsLeader and Leader.
func (a Answer) State() State { return a.state }

// Remaining is for how long the answer still holds.
func (a Answer) Remaining() time.Duration {
	now := time.Now()
	return max(0, min(a.until.Sub(now), a.wall.Sub(now.Round(0))))
}

// IsLeader says whether this pod leads, by the clock of now.
func (a Answer) IsLeader() bool { return a.state.IsLeader && a.Remaining() > 0 }

// Leader is the name of the leader, by the clock of now; empty if nobody is known to
// lead.
func (a Answer) Leader() string {
	if a.Remaining() == 0 {
		return ""
	}
	return a.state.Name
}

// Client asks one leader-elector. It may be used from any goroutine.
type Client struct {
	// Election to ask for, of several; the first one if empty.
	Election string

	base string
	http *http.Client
}

const (
	// patience with an answer that should come at once.
	patience = 2 * time.Second
	// pause after no answer.
	pause = time.Second
	// longPoll is how long a change is waited for in one request.
	longPoll = 30 * time.Second
	// largest answer that is read.
	largest = 64 << 10
)

// New returns a client of the leader-elector at localhost:4040, http://host:port or
// unix:/path/of/a/socket.
func New(address string) (*Client, error) {
	// One of its own: an application that tunes the default one means others by it.
	transport := &http.Transport{MaxIdleConnsPerHost: 4, IdleConnTimeout: time.Minute, DisableCompression: true}
	base := address
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", path)
		}
		base = "http://localhost"
	} else if !strings.Contains(address, "://") {
		base = "http://" + address
		if strings.HasPrefix(address, ":") {
			base = "http://localhost" + address
		}
	}
	u, err := url.Parse(base)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return nil, fmt.Errorf("the leader-elector is said to be at %q — nothing can be asked there — use host:port, http://host:port or unix:/path", address)
	}
	return &Client{base: strings.TrimSuffix(u.String(), "/"), http: &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// IsLeader says whether this pod leads. Without an answer within two seconds it does
// not. Keep the answer of State instead of asking often.
func (c *Client) IsLeader(ctx context.Context) bool {
	a, err := c.State(ctx)
	return err == nil && a.IsLeader()
}

// State asks for the state now.
func (c *Client) State(ctx context.Context) (Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return c.ask(ctx, url.Values{})
}

// ask for the state. The answer counts from before the request.
func (c *Client) ask(ctx context.Context, query url.Values) (Answer, error) {
	began := time.Now()
	var s State
	if err := c.do(ctx, http.MethodGet, "/v1/state", query, "", &s); err != nil {
		return Answer{}, err
	}
	return answer(s, began), nil
}

// answer that was asked for at that time.
func answer(s State, began time.Time) Answer {
	until := began.Add(time.Duration(s.ExpiresInMs) * time.Millisecond)
	return Answer{state: s, until: until, wall: until.Round(0)}
}

// Watch yields the state now, after every change, and often enough for an answer to
// hold until the next one comes, until the context ends. When no answer comes it
// yields the zero Answer at once, even if the last one would have held for longer.
func (c *Client) Watch(ctx context.Context) iter.Seq[Answer] {
	return func(yield func(Answer) bool) {
		for ctx.Err() == nil {
			a, err := c.State(ctx)
			if ctx.Err() != nil || !yield(a) {
				return
			}
			if err != nil {
				rest(ctx, pause)
				continue
			}
			c.await(ctx, a)
		}
	}
}

// await a change, for as long as the answer can do without being asked for anew. What
// it brings is not used: nobody knows how long it was on its way.
func (c *Client) await(ctx context.Context, a Answer) {
	patient := longPoll
	if a.state.Name != "" {
		patient = max(a.Remaining()/2, 10*time.Millisecond)
	}
	ctx, cancel := context.WithTimeout(ctx, patient)
	defer cancel()
	query := url.Values{"after": {strconv.FormatUint(a.state.Version, 10)}, "timeout": {longPoll.String()}}
	_, err := c.ask(ctx, query)
	switch {
	case errors.Is(err, errBusy):
		rest(ctx, pause)
	case err != nil:
		// The time is over, or nobody answers, which the next question will show.
		rest(ctx, pause/10)
	}
}

// errBusy: it answers, and cannot do more for now.
var errBusy = errors.New("it is busy")

func rest(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// Resign has this pod give up the leadership and not contend for the cooldown; it
// returns when the Lease is released.
func (c *Client) Resign(ctx context.Context, cooldown time.Duration) error {
	body, err := json.Marshal(map[string]string{"cooldown": cooldown.String()})
	if err != nil {
		return fmt.Errorf("asking to resign: %w", err)
	}
	return c.do(ctx, http.MethodPost, "/v1/resign", nil, string(body), nil)
}

// Eligibility of this pod.
type Eligibility string

// What Become takes.
const (
	Eligible   Eligibility = "true"
	Ineligible Eligibility = "false"
)

// Become has this pod contend, or not; a leader that becomes ineligible resigns.
func (c *Client) Become(ctx context.Context, is Eligibility) error {
	return c.do(ctx, http.MethodPut, "/v1/eligible", nil, string(is), nil)
}

// do sends one request and reads its answer, which must be 200.
func (c *Client) do(ctx context.Context, method, path string, query url.Values, body string, into any) error {
	if c.Election != "" {
		if query == nil {
			query = url.Values{}
		}
		query.Set("election", c.Election)
	}
	target := c.base + path
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	r, err := http.NewRequestWithContext(ctx, method, target, strings.NewReader(body))
	if err != nil {
		return fmt.Errorf("asking the leader-elector: %w", err)
	}
	answer, err := c.http.Do(r)
	if err != nil {
		return fmt.Errorf("asking the leader-elector: %w", err)
	}
	defer func() { _ = answer.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(answer.Body, largest))
	if err != nil {
		return fmt.Errorf("reading what the leader-elector says: %w", err)
	}
	if answer.StatusCode != http.StatusOK {
		err := fmt.Errorf("the leader-elector at %s says %s to %s %s: %s", c.base, answer.Status, method, path, strings.TrimSpace(string(text)))
		if answer.Header.Get("Retry-After") != "" {
			err = fmt.Errorf("%w: %w", errBusy, err)
		}
		return err
	}
	if into == nil {
		return nil
	}
	if err := json.Unmarshal(text, into); err != nil || !strings.HasPrefix(answer.Header.Get("Content-Type"), "application/json") {
		return errors.Join(fmt.Errorf("what answers at %s is no leader-elector", c.base), err)
	}
	return nil
}
