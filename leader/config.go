package leader

import (
	"context"
	crand "crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"strings"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	"k8s.io/apimachinery/pkg/util/validation"
)

// Config says who contends for what. Election, Identity and Leases are required.
type Config struct {
	// Election is the name of the Lease: a DNS subdomain.
	Election string
	// Namespace of the Lease; "default" if empty.
	Namespace string
	// Identity is written into the Lease and is what everybody is told: as a rule the
	// pod's name. Two processes of one identity are two candidates all the same.
	Identity string
	// PodUID of the candidate's pod, if it has one. A process that is started anew in
	// the same pod takes over from its predecessor at once.
	PodUID string
	// LeaseDuration is how long others wait after the last renewal that they saw:
	// whole seconds, 2 s at least; 10 s if zero. A leader that crashes is replaced
	// after this time.
	LeaseDuration time.Duration
	// RenewDeadline is how long after the last successful renewal a leader still
	// claims to be one. At most LeaseDuration less a fifth of it, and less a second;
	// if zero, three quarters of LeaseDuration or that, whichever is less. An outage
	// of the API server for longer costs the leadership.
	RenewDeadline time.Duration
	// RenewInterval between renewals: at most half of RenewDeadline; if zero, a third
	// of LeaseDuration or that, whichever is less.
	RenewInterval time.Duration
	// Drain is for how long, at the end of Run, the Lease is kept after this candidate
	// has stopped claiming, so that whoever works on its word can stop.
	Drain time.Duration
	// Leases of the cluster; see [InCluster] and [Kubeconfig].
	Leases Leases
	// Role of the candidate.
	Role Role
	// Eligibility at the start; see [Elector.Become].
	Eligibility Eligibility
	// Gates that are closed at the start; see [Elector.Gate].
	Gates []string
	// Control says who may have the candidate resign through its Handler.
	Control Control
	// Logger; slog.Default() if nil.
	Logger *slog.Logger

	clock  clock
	hooks  hooks
	jitter func(time.Duration) time.Duration
}

// Role of who watches an election.
type Role int

const (
	// Candidate contends.
	Candidate Role = iota
	// Observer only watches, and needs no right to write.
	Observer
)

// Control of a candidate over HTTP.
type Control int

const (
	// Local callers may control it: those of the same pod, over loopback, and those
	// that can open its unix socket.
	Local Control = iota
	// Anyone who reaches it may.
	Anyone
)

// hooks are told of every claim, in tests.
type hooks struct {
	claimed func(token Token, deadline instant)
	renewed func(deadline instant)
	ended   func()
}

// Leases reads and writes Leases. Update fails with a conflict unless the Lease still
// has the resourceVersion that it carries.
type Leases interface {
	Get(ctx context.Context, namespace, name string) (*coordinationv1.Lease, error)
	Create(ctx context.Context, lease *coordinationv1.Lease) (*coordinationv1.Lease, error)
	Update(ctx context.Context, lease *coordinationv1.Lease) (*coordinationv1.Lease, error)
	// Watch reports the Lease as it is, if there is one, and each change from then on,
	// until the context ends or the watch breaks; then it closes the channel.
	Watch(ctx context.Context, namespace, name string) (<-chan Event, error)
}

// Event of a watch.
type Event struct {
	// Lease as it is now; of a deleted one, as it was at last.
	Lease *coordinationv1.Lease
	// Deleted says that it is gone.
	Deleted bool
}

const (
	defaultDuration = 10 * time.Second
	shortest        = 2 * time.Second
)

// longestDeadline that is safe with a lease of this duration: what is left is for
// stopping the work, and for clocks that do not run alike.
func longestDeadline(d time.Duration) time.Duration { return d - max(time.Second, d/5) }

// complete fills in what was left out, and says what is wrong with the rest.
func (c Config) complete() (Config, error) {
	if c.Namespace == "" {
		c.Namespace = "default"
	}
	if c.LeaseDuration == 0 {
		c.LeaseDuration = defaultDuration
	}
	if c.RenewDeadline == 0 {
		c.RenewDeadline = min(c.LeaseDuration*3/4, longestDeadline(c.LeaseDuration))
	}
	if c.RenewInterval == 0 {
		c.RenewInterval = min(c.LeaseDuration/3, c.RenewDeadline/2)
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.clock == nil {
		c.clock = newSystemClock()
	}
	if c.jitter == nil {
		c.jitter = rand.N[time.Duration]
	}
	return c, errors.Join(c.names(), c.times())
}

func (c Config) names() error {
	var wrong []error
	if c.Election == "" {
		wrong = append(wrong, errors.New("the election has no name — the Lease bears it — name one"))
	} else if why := validation.IsDNS1123Subdomain(c.Election); len(why) > 0 {
		wrong = append(wrong, fmt.Errorf("the election is called %q, which no Lease can be: %s — correct it", c.Election, strings.Join(why, "; ")))
	}
	if why := validation.IsDNS1123Label(c.Namespace); len(why) > 0 {
		wrong = append(wrong, fmt.Errorf("the namespace is called %q, which none can be: %s — correct it", c.Namespace, strings.Join(why, "; ")))
	}
	if c.Identity == "" && c.Role == Candidate {
		wrong = append(wrong, errors.New("the candidate has no identity — the others are told it — give it its pod's name"))
	}
	if c.Leases == nil {
		wrong = append(wrong, errors.New("there is no access to Leases — use InCluster or Kubeconfig"))
	}
	return errors.Join(wrong...)
}

func (c Config) times() error {
	if c.LeaseDuration < shortest || c.LeaseDuration%time.Second != 0 {
		// What the other times should be follows from this one.
		return fmt.Errorf("the lease lasts %s — a Lease counts in whole seconds, and in less than %s nobody can renew it in time — use whole seconds, %s or more",
			c.LeaseDuration, shortest, shortest)
	}
	var wrong []error
	if most := longestDeadline(c.LeaseDuration); c.RenewDeadline <= 0 || c.RenewDeadline > most {
		wrong = append(wrong, fmt.Errorf("the renew deadline is %s and the lease lasts %s — others take over then, and the leader must have stopped before — use more than zero and at most %s",
			c.RenewDeadline, c.LeaseDuration, most))
	}
	if c.RenewInterval <= 0 || c.RenewInterval > c.RenewDeadline/2 {
		wrong = append(wrong, fmt.Errorf("the lease is renewed every %s and the renew deadline is %s — one renewal that fails would cost the leadership — use more than zero and at most %s",
			c.RenewInterval, c.RenewDeadline, c.RenewDeadline/2))
	}
	if c.Drain < 0 {
		wrong = append(wrong, fmt.Errorf("the drain lasts %s — it cannot be negative — use zero or more", c.Drain))
	}
	return errors.Join(wrong...)
}

// session tells this process from every other one of its identity. It begins with the
// pod's UID, if there is one.
func session(podUID string) string {
	var b [8]byte
	// crypto/rand never fails: it ends the process instead.
	_, _ = crand.Read(b[:])
	return podUID + "/" + hex.EncodeToString(b[:])
}

// podOf is the pod's UID in a session; empty for none.
func podOf(session string) string {
	uid, _, _ := strings.Cut(session, "/")
	return uid
}

// DefaultIdentity is the pod's name as the environment tells it (POD_NAME), or the
// host's name, which is the same in a pod of its own network.
func DefaultIdentity() (string, error) {
	if name := os.Getenv("POD_NAME"); name != "" {
		return name, nil
	}
	name, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("finding a name for the candidate: %w", err)
	}
	return name, nil
}
