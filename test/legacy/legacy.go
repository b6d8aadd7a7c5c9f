// Package legacy contends as leader-elector 0.5 does, so that a rolling update from it
// can be tested without its image.
package legacy

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Annotation that 0.5 writes its record to.
const Annotation = "control-plane.alpha.kubernetes.io/leader"

// Record is who leads, for how long, and since when.
type Record struct {
	HolderIdentity       string      `json:"holderIdentity"`
	LeaseDurationSeconds int         `json:"leaseDurationSeconds"`
	AcquireTime          metav1.Time `json:"acquireTime"`
	RenewTime            metav1.Time `json:"renewTime"`
	LeaderTransitions    int         `json:"leaderTransitions"`
}

// Endpoints that bear the record.
type Endpoints interface {
	// New object, which is nowhere yet.
	New() metav1.Object
	// Get the object as it is, or a NotFound.
	Get(ctx context.Context) (metav1.Object, error)
	// Put the object: it is created, if it has no resourceVersion.
	Put(ctx context.Context, object metav1.Object) error
}

// Candidate of 0.5: it renews every quarter of the TTL, gives up after half of it, and
// takes over from a record that has not changed for all of it.
type Candidate struct {
	ID        string
	TTL       time.Duration
	Endpoints Endpoints

	observed     Record
	observedTime time.Time

	mu     sync.Mutex
	claims bool
}

// Leads says whether it answers with its own name.
func (c *Candidate) Leads() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.claims
}

func (c *Candidate) claim(is bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.claims = is
}

// Run until the context ends, as a process that crashes. began is called whenever it
// begins to lead.
func (c *Candidate) Run(ctx context.Context, began func()) {
	defer c.claim(false)
	c.observed, c.observedTime = Record{}, time.Time{}
	renewed := time.Now()
	for ctx.Err() == nil {
		pause := c.TTL / 4
		switch {
		case c.AcquireOrRenew(ctx):
			renewed = time.Now()
			if !c.Leads() {
				c.claim(true)
				began()
			}
		case c.Leads() && time.Since(renewed) < c.TTL/2:
		default:
			c.claim(false)
			pause += rand.N(c.TTL / 4)
		}
		wait(ctx, pause)
	}
}

func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// AcquireOrRenew tries once, and says whether it holds the lock now.
func (c *Candidate) AcquireOrRenew(ctx context.Context) bool {
	now := metav1.NewTime(time.Now().Truncate(time.Second))
	record := Record{HolderIdentity: c.ID, LeaseDurationSeconds: int(c.TTL / time.Second), AcquireTime: now, RenewTime: now}
	object, err := c.Endpoints.Get(ctx)
	if apierrors.IsNotFound(err) {
		return c.put(ctx, c.Endpoints.New(), record)
	}
	if err != nil {
		return false
	}
	if raw, found := object.GetAnnotations()[Annotation]; found {
		var is Record
		if json.Unmarshal([]byte(raw), &is) != nil {
			return false
		}
		if is != c.observed {
			c.observed, c.observedTime = is, time.Now()
		}
		if is.HolderIdentity != c.ID && c.observedTime.Add(c.TTL).After(time.Now()) {
			return false
		}
		if is.HolderIdentity == c.ID {
			record.AcquireTime = is.AcquireTime
		}
	}
	return c.put(ctx, object, record)
}

func (c *Candidate) put(ctx context.Context, object metav1.Object, record Record) bool {
	raw, err := json.Marshal(record)
	if err != nil {
		return false
	}
	annotations := object.GetAnnotations()
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations[Annotation] = string(raw)
	object.SetAnnotations(annotations)
	if c.Endpoints.Put(ctx, object) != nil {
		return false
	}
	c.observed, c.observedTime = record, time.Now()
	return true
}
