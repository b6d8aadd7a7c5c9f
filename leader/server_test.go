package leader

import (
	"errors"
	"strconv"
	"sync"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
)

// server holds Leases as leadertest.Server does, which this package's own tests
// cannot import.
type server struct {
	mu       sync.Mutex
	revision int
	leases   map[string]*coordinationv1.Lease
	watches  map[chan Event]string
	// wrote is told of every write.
	wrote func(l *coordinationv1.Lease, deleted bool)
}

func newServer() *server {
	return &server{leases: map[string]*coordinationv1.Lease{}, watches: map[chan Event]string{}}
}

var resource = coordinationv1.Resource("leases")

func (s *server) get(name string) (*coordinationv1.Lease, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l := s.leases[name]; l != nil {
		return l.DeepCopy(), nil
	}
	return nil, apierrors.NewNotFound(resource, name)
}

func (s *server) create(l *coordinationv1.Lease) (*coordinationv1.Lease, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.leases[l.Name] != nil {
		return nil, apierrors.NewAlreadyExists(resource, l.Name)
	}
	l = l.DeepCopy()
	l.UID = types.UID(strconv.Itoa(s.revision + 1))
	return s.store(l), nil
}

func (s *server) update(l *coordinationv1.Lease) (*coordinationv1.Lease, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	have := s.leases[l.Name]
	switch {
	case have == nil:
		return nil, apierrors.NewNotFound(resource, l.Name)
	case have.ResourceVersion != l.ResourceVersion:
		return nil, apierrors.NewConflict(resource, l.Name, errors.New("modified"))
	}
	return s.store(l.DeepCopy()), nil
}

func (s *server) edit(name string, do func(*coordinationv1.Lease)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l := s.leases[name].DeepCopy(); l != nil {
		do(l)
		s.store(l)
	}
}

func (s *server) remove(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l := s.leases[name].DeepCopy(); l != nil {
		delete(s.leases, name)
		s.revision++
		l.ResourceVersion = strconv.Itoa(s.revision)
		s.tell(name, Event{Lease: l, Deleted: true})
	}
}

func (s *server) store(l *coordinationv1.Lease) *coordinationv1.Lease {
	s.revision++
	l.ResourceVersion = strconv.Itoa(s.revision)
	s.leases[l.Name] = l
	s.tell(l.Name, Event{Lease: l.DeepCopy()})
	return l.DeepCopy()
}

// tell drops a watch that has not taken a thousand events, as an API server does.
func (s *server) tell(name string, e Event) {
	if s.wrote != nil {
		s.wrote(e.Lease, e.Deleted)
	}
	for w, of := range s.watches {
		if of == name && len(w) < cap(w) {
			w <- e
		}
	}
}

func (s *server) watch(name string) (events <-chan Event, end func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := make(chan Event, 1000)
	s.watches[w] = name
	if l := s.leases[name]; l != nil {
		w <- Event{Lease: l.DeepCopy()}
	}
	return w, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.watches, w)
	}
}

// dropWatches ends all of them: an event without a Lease is the end.
func (s *server) dropWatches() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for w := range s.watches {
		if len(w) < cap(w) {
			w <- Event{}
		}
	}
}
