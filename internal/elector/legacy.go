package elector

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"

	"github.com/quorate/quorate/internal/apiclient"
	"github.com/quorate/quorate/leader"
)

// legacyAnnotation is where leader-elector 0.5 locks an Endpoints object.
const legacyAnnotation = "control-plane.alpha.kubernetes.io/leader"

// legacyRecord is what 0.5 writes there.
type legacyRecord struct {
	HolderIdentity       string      `json:"holderIdentity"`
	LeaseDurationSeconds int32       `json:"leaseDurationSeconds"`
	AcquireTime          metav1.Time `json:"acquireTime"`
	RenewTime            metav1.Time `json:"renewTime"`
	LeaderTransitions    int32       `json:"leaderTransitions"`
	// Session is written by whoever holds the Lease as well, and says so: 0.5 does not
	// know it, and drops it with the first record of its own.
	Session string `json:"session,omitempty"`
}

// legacyLeases also hold the lock of leader-elector 0.5: nobody gets a Lease, or keeps
// it, who does not have the Endpoints of its name.
//
// A candidate of 0.5 takes the lock over when its record has not changed for that
// candidate's own --ttl. The claim of whoever writes both counts from before the first
// of the two writes, so it ends at least a second earlier; which is also what the
// record's times, in whole seconds, may hide of a renewal.
type legacyLeases struct {
	leader.Leases
	endpoints legacyEndpoints

	mu    sync.Mutex
	locks map[types.NamespacedName]*legacyLock
}

// legacyEndpoints reads and writes Endpoints; Update needs the resourceVersion that it
// builds on.
type legacyEndpoints interface {
	Get(ctx context.Context, namespace, name string) (*unstructured.Unstructured, error)
	Create(ctx context.Context, object *unstructured.Unstructured) (*unstructured.Unstructured, error)
	Update(ctx context.Context, object *unstructured.Unstructured) (*unstructured.Unstructured, error)
}

// legacyLock is what is known of the lock of one election.
type legacyLock struct {
	// raw is the record as it was seen last, and since is from when on.
	raw   string
	since time.Time
	// lasts is for how long from then on a candidate of 0.5, the holder, may claim; zero if
	// none does. terms are the Lease's transitions of that time.
	lasts  time.Duration
	holder string
	terms  int32
	// object as this process wrote it last, and nothing has failed since; nil otherwise.
	object *unstructured.Unstructured
}

func withLegacyLock(leases leader.Leases, endpoints legacyEndpoints) leader.Leases {
	return &legacyLeases{Leases: leases, endpoints: endpoints, locks: map[types.NamespacedName]*legacyLock{}}
}

// Create implements leader.Leases.
func (l *legacyLeases) Create(ctx context.Context, lease *coordinationv1.Lease) (*coordinationv1.Lease, error) {
	if err := l.lock(lease).hold(ctx, l.endpoints, lease); err != nil {
		return nil, err
	}
	return l.Leases.Create(ctx, lease)
}

// Update implements leader.Leases. One that gives the Lease up gives the lock up first:
// the next holder needs both.
func (l *legacyLeases) Update(ctx context.Context, lease *coordinationv1.Lease) (*coordinationv1.Lease, error) {
	do := (*legacyLock).hold
	if ptr.Deref(lease.Spec.HolderIdentity, "") == "" {
		do = (*legacyLock).release
	}
	if err := do(l.lock(lease), ctx, l.endpoints, lease); err != nil {
		return nil, err
	}
	return l.Leases.Update(ctx, lease)
}

func (l *legacyLeases) lock(lease *coordinationv1.Lease) *legacyLock {
	key := types.NamespacedName{Namespace: lease.Namespace, Name: lease.Name}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.locks[key] == nil {
		l.locks[key] = &legacyLock{}
	}
	return l.locks[key]
}

// hold takes the lock, or renews it.
func (l *legacyLock) hold(ctx context.Context, endpoints legacyEndpoints, lease *coordinationv1.Lease) error {
	object, err := l.read(ctx, endpoints, lease)
	if err != nil {
		return err
	}
	was, err := l.look(object, lease)
	if err != nil {
		return err
	}
	record, err := json.Marshal(next(was, lease))
	if err != nil {
		return fmt.Errorf("writing the record of leader-elector 0.5: %w", err)
	}
	return l.write(ctx, endpoints, object, string(record))
}

// release takes the record off, if it is this term's: 0.5 would honour one without a
// holder for a whole ttl.
func (l *legacyLock) release(ctx context.Context, endpoints legacyEndpoints, lease *coordinationv1.Lease) error {
	object, err := l.read(ctx, endpoints, lease)
	if err != nil {
		return err
	}
	record, _ := recordOf(object)
	if record.Session == "" || record.Session != lease.Annotations[leader.SessionAnnotation] {
		return nil
	}
	return l.write(ctx, endpoints, object, "")
}

// read the Endpoints, unless they are as this process wrote them.
func (l *legacyLock) read(ctx context.Context, endpoints legacyEndpoints, lease *coordinationv1.Lease) (*unstructured.Unstructured, error) {
	if l.object != nil {
		return l.object.DeepCopy(), nil
	}
	object, err := endpoints.Get(ctx, lease.Namespace, lease.Name)
	if apierrors.IsNotFound(err) {
		object = &unstructured.Unstructured{}
		object.SetAPIVersion("v1")
		object.SetKind("Endpoints")
		object.SetNamespace(lease.Namespace)
		object.SetName(lease.Name)
		return object, nil
	}
	if err != nil {
		return nil, legacyTrouble("get", lease.Namespace, lease.Name, err)
	}
	return object, nil
}

// look says whether the lock is free for whoever may have the Lease: nobody holds it,
// one that holds the Lease too, or one of 0.5 that has not renewed it for a lease.
func (l *legacyLock) look(object *unstructured.Unstructured, lease *coordinationv1.Lease) (legacyRecord, error) {
	record, raw := recordOf(object)
	if raw != l.raw || l.since.IsZero() {
		l.see(record, raw, lease)
	}
	if l.lasts == 0 {
		return record, nil
	}
	ours := time.Duration(ptr.Deref(lease.Spec.LeaseDurationSeconds, 0)) * time.Second
	where := fmt.Sprintf("the Endpoints %s/%s are held by %q, which runs leader-elector 0.5", object.GetNamespace(), object.GetName(), l.holder)
	if l.lasts < ours && time.Since(l.since) < abandoned*ours {
		return record, apierrors.NewTooManyRequests(fmt.Sprintf(
			"%s with --ttl=%s — its kind would take over while this one with --ttl=%s still claims to lead — give this one the same --ttl, or end it", where, l.lasts, ours), int(ours/time.Second))
	}
	if left := time.Until(l.since.Add(l.lasts)); left > 0 {
		wait := min(left, l.lasts/4)
		return record, apierrors.NewTooManyRequests(where+" — this one does not lead beside it — wait, or end it", int(max(1, (wait+time.Second-1)/time.Second)))
	}
	return record, nil
}

// abandoned is for how many leases nobody has renewed a record whose holder is gone for
// good, and with it whoever had another --ttl.
const abandoned = 3

// see notes a record that is another one than before. What 0.5 writes is its own for as
// long as it says, and so is what somebody took away from it by hand: it has not heard of
// that. One that holds the Lease too has waited by itself, and so has one that held it
// meanwhile and took the record off.
func (l *legacyLock) see(record legacyRecord, raw string, lease *coordinationv1.Lease) {
	terms := ptr.Deref(lease.Spec.LeaseTransitions, 0)
	given := raw == "" || record.HolderIdentity == "" && record.LeaseDurationSeconds == 1
	switch {
	case record.Session != "", given && terms > l.terms:
		l.lasts = 0
	case given:
		// lasts and holder stay those of who had it before.
	default:
		if record.HolderIdentity != "" {
			l.holder = record.HolderIdentity
		}
		l.lasts = time.Duration(record.LeaseDurationSeconds) * time.Second
		if l.lasts < time.Second {
			l.lasts = time.Duration(ptr.Deref(lease.Spec.LeaseDurationSeconds, 0)) * time.Second
		}
	}
	l.raw, l.since, l.terms = raw, time.Now(), terms
}

// next is the record that goes with the Lease.
func next(was legacyRecord, lease *coordinationv1.Lease) legacyRecord {
	record := legacyRecord{
		HolderIdentity:       ptr.Deref(lease.Spec.HolderIdentity, ""),
		LeaseDurationSeconds: ptr.Deref(lease.Spec.LeaseDurationSeconds, 0),
		AcquireTime:          metav1.NewTime(lease.Spec.AcquireTime.Time),
		RenewTime:            metav1.NewTime(lease.Spec.RenewTime.Time),
		LeaderTransitions:    was.LeaderTransitions,
		Session:              lease.Annotations[leader.SessionAnnotation],
	}
	if was.HolderIdentity == record.HolderIdentity && record.RenewTime.Unix() <= was.RenewTime.Unix() {
		// Times are written in whole seconds, and 0.5 takes what is the same for not
		// renewed.
		record.RenewTime = metav1.NewTime(was.RenewTime.Add(time.Second))
	}
	if was.Session != record.Session {
		record.LeaderTransitions++
	}
	return record
}

// recordOf the object, and how it is written; a record that nobody can read has only
// the latter.
func recordOf(object *unstructured.Unstructured) (legacyRecord, string) {
	raw := object.GetAnnotations()[legacyAnnotation]
	var record legacyRecord
	if err := json.Unmarshal([]byte(raw), &record); err != nil {
		return legacyRecord{}, raw
	}
	return record, raw
}

func (l *legacyLock) write(ctx context.Context, endpoints legacyEndpoints, object *unstructured.Unstructured, record string) error {
	annotations := object.GetAnnotations()
	if annotations == nil {
		annotations = map[string]string{}
	}
	if annotations[legacyAnnotation] = record; record == "" {
		delete(annotations, legacyAnnotation)
	}
	object.SetAnnotations(annotations)
	verb, write := "update", endpoints.Update
	if object.GetResourceVersion() == "" {
		verb, write = "create", endpoints.Create
	}
	l.object = nil
	got, err := write(ctx, object)
	if err != nil {
		return legacyTrouble(verb, object.GetNamespace(), object.GetName(), err)
	}
	l.object, l.raw, l.since, l.lasts = got, record, time.Now(), 0
	return nil
}

// missingRight is a verb on Endpoints that the account does not have.
type missingRight struct {
	error
	right string
}

// Missing is the verb and the object.
func (m missingRight) Missing() string { return m.right }

func (m missingRight) Unwrap() error { return m.error }

func legacyTrouble(verb, namespace, name string, err error) error {
	err = fmt.Errorf("locking the Endpoints %s/%s as leader-elector 0.5 does: %w", namespace, name, err)
	if apierrors.IsForbidden(err) {
		return missingRight{err, fmt.Sprintf("%s on endpoints %s/%s", verb, namespace, name)}
	}
	return err
}

// legacyClient is the Endpoints of a cluster.
type legacyClient struct{ client *rest.RESTClient }

func newLegacyClient(config *rest.Config) (*legacyClient, error) {
	client, err := untyped(config)
	if err != nil {
		return nil, fmt.Errorf("making a client of %s for --legacy-endpoints-lock: %w", config.Host, err)
	}
	return &legacyClient{client}, nil
}

// untyped reaches what is in the core group, and knows the types of errors only.
func untyped(config *rest.Config) (*rest.RESTClient, error) {
	scheme := runtime.NewScheme()
	metav1.AddToGroupVersion(scheme, schema.GroupVersion{Version: "v1"})
	config = rest.CopyConfig(config)
	config.APIPath, config.GroupVersion = "/api", &schema.GroupVersion{Version: "v1"}
	config.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	config.ContentType, config.AcceptContentTypes = runtime.ContentTypeJSON, runtime.ContentTypeJSON
	// That Endpoints are deprecated is known, and is why there is a Lease.
	config.WarningHandler = rest.NoWarnings{}
	// The Lease waits for these requests.
	apiclient.Hurry(config)
	return rest.RESTClientFor(config)
}

func (c *legacyClient) do(ctx context.Context, verb, namespace, name string, body *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	r := c.client.Verb(verb).Namespace(namespace).Resource("endpoints").MaxRetries(0)
	if name != "" {
		r = r.Name(name)
	}
	if body != nil {
		text, err := body.MarshalJSON()
		if err != nil {
			return nil, fmt.Errorf("writing Endpoints: %w", err)
		}
		r = r.Body(text)
	}
	text, err := r.Do(ctx).Raw()
	if err != nil {
		return nil, err
	}
	out := &unstructured.Unstructured{}
	return out, errors.Join(out.UnmarshalJSON(text))
}

// Get implements legacyEndpoints.
func (c *legacyClient) Get(ctx context.Context, namespace, name string) (*unstructured.Unstructured, error) {
	return c.do(ctx, http.MethodGet, namespace, name, nil)
}

// Create implements legacyEndpoints.
func (c *legacyClient) Create(ctx context.Context, object *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	return c.do(ctx, http.MethodPost, object.GetNamespace(), "", object)
}

// Update implements legacyEndpoints.
func (c *legacyClient) Update(ctx context.Context, object *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	return c.do(ctx, http.MethodPut, object.GetNamespace(), object.GetName(), object)
}
