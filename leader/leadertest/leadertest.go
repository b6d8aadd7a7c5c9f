// Package leadertest holds Leases in memory, with the faults that an API server and
// the way to it can have. It works in real time and under testing/synctest.
package leadertest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	"github.com/quorate/quorate/leader"
)

// Server holds Leases as an API server does: every write has a higher revision than
// all before it, and an update needs the revision that it builds on.
type Server struct {
	mu       sync.Mutex
	revision int64
	leases   map[types.NamespacedName]*coordinationv1.Lease
	watches  map[*watch]bool
	requests []string
}

// NewServer returns a server without Leases.
func NewServer() *Server {
	return &Server{leases: map[types.NamespacedName]*coordinationv1.Lease{}, watches: map[*watch]bool{}}
}

// Lease as it is; nil if there is none.
func (s *Server) Lease(namespace, name string) *coordinationv1.Lease {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.leases[types.NamespacedName{Namespace: namespace, Name: name}].DeepCopy()
}

// Edit changes a Lease as somebody does by hand, without regard to its revision; it
// does nothing if there is none.
func (s *Server) Edit(namespace, name string, edit func(*coordinationv1.Lease)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := types.NamespacedName{Namespace: namespace, Name: name}
	if lease := s.leases[key].DeepCopy(); lease != nil {
		edit(lease)
		s.store(key, lease)
	}
}

// Delete deletes a Lease, if there is one.
func (s *Server) Delete(namespace, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := types.NamespacedName{Namespace: namespace, Name: name}
	lease := s.leases[key].DeepCopy()
	if lease == nil {
		return
	}
	delete(s.leases, key)
	s.revision++
	lease.ResourceVersion = strconv.FormatInt(s.revision, 10)
	s.tell(key, leader.Event{Lease: lease, Deleted: true})
}

// Requests is how many requests of each verb were carried out.
func (s *Server) Requests() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[string]int{}
	for _, verb := range s.requests {
		out[verb]++
	}
	return out
}

// store keeps what is left of the Lease after it was sent: its times have microseconds.
func (s *Server) store(key types.NamespacedName, sent *coordinationv1.Lease) *coordinationv1.Lease {
	lease := &coordinationv1.Lease{}
	if raw, err := json.Marshal(sent); err != nil || json.Unmarshal(raw, lease) != nil {
		panic("a Lease that JSON does not take")
	}
	s.revision++
	lease.ResourceVersion = strconv.FormatInt(s.revision, 10)
	s.leases[key] = lease
	s.tell(key, leader.Event{Lease: lease.DeepCopy()})
	return lease.DeepCopy()
}

func (s *Server) tell(key types.NamespacedName, e leader.Event) {
	for w := range s.watches {
		if w.key == key {
			w.add(e)
		}
	}
}

var resource = coordinationv1.Resource("leases")

func (s *Server) get(key types.NamespacedName) (*coordinationv1.Lease, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = append(s.requests, "get")
	if lease := s.leases[key]; lease != nil {
		return lease.DeepCopy(), nil
	}
	return nil, apierrors.NewNotFound(resource, key.Name)
}

func (s *Server) create(lease *coordinationv1.Lease) (*coordinationv1.Lease, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = append(s.requests, "create")
	key := types.NamespacedName{Namespace: lease.Namespace, Name: lease.Name}
	if s.leases[key] != nil {
		return nil, apierrors.NewAlreadyExists(resource, key.Name)
	}
	lease = lease.DeepCopy()
	lease.UID = types.UID(fmt.Sprintf("uid-%d", s.revision+1))
	return s.store(key, lease), nil
}

func (s *Server) update(lease *coordinationv1.Lease) (*coordinationv1.Lease, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = append(s.requests, "update")
	key := types.NamespacedName{Namespace: lease.Namespace, Name: lease.Name}
	have := s.leases[key]
	if have == nil {
		return nil, apierrors.NewNotFound(resource, key.Name)
	}
	if have.ResourceVersion != lease.ResourceVersion {
		return nil, apierrors.NewConflict(resource, key.Name, errors.New("the object has been modified"))
	}
	return s.store(key, lease.DeepCopy()), nil
}

// Call is one request of a client.
type Call struct {
	// Verb is get, create, update or watch.
	Verb string
	// Lease that is written; nil for get and watch.
	Lease *coordinationv1.Lease
}

// Fault is what becomes of a request, the opening of a watch among them; what a watch says
// is late by Lag. The zero value is none.
type Fault struct {
	// Before and After are how long the request and its answer are on their way.
	Before, After time.Duration
	// Refuse has it fail with the error before it reaches the server.
	Refuse error
	// Lose has its answer lost after the server has carried it out: the caller waits
	// until its context ends.
	Lose Loss
}

// Loss of a message.
type Loss int

// What is lost of a request.
const (
	Nothing Loss = iota
	Request
	Answer
)

// Client is a way to the server, with its own faults.
type Client struct {
	server *Server

	mu    sync.Mutex
	fault func(Call) Fault
	lag   time.Duration
}

var _ leader.Leases = (*Client)(nil)

// Client returns a new way to the server, without faults.
func (s *Server) Client() *Client { return &Client{server: s} }

// Fault has a function decide what becomes of each request; nil for none.
func (c *Client) Fault(f func(Call) Fault) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fault = f
}

// Lag has watch events come late.
func (c *Client) Lag(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lag = d
}

// DropWatches ends all open watches of this client.
func (c *Client) DropWatches() { c.server.drop(c) }

func (s *Server) drop(c *Client) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for w := range s.watches {
		if w.client == c {
			w.end()
		}
	}
}

func (c *Client) faultOf(call Call) Fault {
	c.mu.Lock()
	f := c.fault
	c.mu.Unlock()
	if f == nil {
		return Fault{}
	}
	return f(call)
}

// call passes a request through its fault.
func (c *Client) call(ctx context.Context, call Call, do func() (*coordinationv1.Lease, error)) (*coordinationv1.Lease, error) {
	f := c.faultOf(call)
	if f.Lose == Request {
		<-ctx.Done()
		return nil, context.Cause(ctx)
	}
	if err := wait(ctx, f.Before); err != nil {
		// It is on its way all the same, and arrives after its sender gave up.
		go func() {
			if wait(context.WithoutCancel(ctx), f.Before) == nil && f.Refuse == nil {
				_, _ = do()
			}
		}()
		return nil, err
	}
	if f.Refuse != nil {
		return nil, f.Refuse
	}
	lease, err := do()
	if f.Lose == Answer {
		<-ctx.Done()
		return nil, context.Cause(ctx)
	}
	if late := wait(ctx, f.After); late != nil {
		return nil, late
	}
	return lease, err
}

func wait(ctx context.Context, d time.Duration) error {
	if d == 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Get implements leader.Leases.
func (c *Client) Get(ctx context.Context, namespace, name string) (*coordinationv1.Lease, error) {
	return c.call(ctx, Call{Verb: "get"}, func() (*coordinationv1.Lease, error) {
		return c.server.get(types.NamespacedName{Namespace: namespace, Name: name})
	})
}

// Create implements leader.Leases.
func (c *Client) Create(ctx context.Context, lease *coordinationv1.Lease) (*coordinationv1.Lease, error) {
	return c.call(ctx, Call{Verb: "create", Lease: lease}, func() (*coordinationv1.Lease, error) { return c.server.create(lease) })
}

// Update implements leader.Leases.
func (c *Client) Update(ctx context.Context, lease *coordinationv1.Lease) (*coordinationv1.Lease, error) {
	return c.call(ctx, Call{Verb: "update", Lease: lease}, func() (*coordinationv1.Lease, error) { return c.server.update(lease) })
}

// watch holds the events that were not taken yet.
type watch struct {
	client *Client
	key    types.NamespacedName

	mu    sync.Mutex
	queue []late
	more  chan struct{}
}

// late is an event, and when it is told.
type late struct {
	event leader.Event
	at    time.Time
}

// Watch implements leader.Leases.
func (c *Client) Watch(ctx context.Context, namespace, name string) (<-chan leader.Event, error) {
	f := c.faultOf(Call{Verb: "watch"})
	if f.Lose != Nothing {
		<-ctx.Done()
		return nil, context.Cause(ctx)
	}
	if err := wait(ctx, f.Before); err != nil {
		return nil, err
	}
	if f.Refuse != nil {
		return nil, f.Refuse
	}
	if err := wait(ctx, f.After); err != nil {
		return nil, err
	}
	w := &watch{client: c, key: types.NamespacedName{Namespace: namespace, Name: name}, more: make(chan struct{}, 1)}
	c.server.open(w)
	out := make(chan leader.Event)
	go func() {
		defer close(out)
		defer c.server.close(w)
		for {
			next, ok := w.take()
			if !ok {
				select {
				case <-w.more:
					continue
				case <-ctx.Done():
					return
				}
			}
			if next.event.Lease == nil || wait(ctx, time.Until(next.at)) != nil {
				return
			}
			select {
			case out <- next.event:
			case <-ctx.Done():
				return
			}
		}
	}()
	return out, nil
}

func (s *Server) open(w *watch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = append(s.requests, "watch")
	s.watches[w] = true
	if lease := s.leases[w.key]; lease != nil {
		w.add(leader.Event{Lease: lease.DeepCopy()})
	}
}

func (s *Server) close(w *watch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.watches, w)
}

func (w *watch) add(e leader.Event) {
	w.client.mu.Lock()
	lag := w.client.lag
	w.client.mu.Unlock()
	w.mu.Lock()
	w.queue = append(w.queue, late{e, time.Now().Add(lag)})
	w.mu.Unlock()
	w.wake()
}

// end has the watch close after what it was told before.
func (w *watch) end() {
	w.mu.Lock()
	w.queue = append(slices.Clip(w.queue), late{})
	w.mu.Unlock()
	w.wake()
}

func (w *watch) wake() {
	select {
	case w.more <- struct{}{}:
	default:
	}
}

func (w *watch) take() (late, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.queue) == 0 {
		return late{}, false
	}
	next := w.queue[0]
	w.queue = w.queue[1:]
	return next, true
}
