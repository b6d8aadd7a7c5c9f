package controllers

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/status"
)

const (
	// whileYielding is how soon it is looked at again whether the installation that
	// works on a cluster is still there.
	whileYielding = 30 * time.Second
	// leaseMargin is how much longer than it says a Lease may go without a renewal
	// before its installation is taken for gone: an upgrade of it takes its time.
	leaseMargin = time.Minute
)

// letGoAfter is how long after its deletion a cluster is left to the installation that
// it names: that one takes finalizeLimit at most, if it works there at all.
const letGoAfter = 5 * time.Minute

// rivals are the other installations of the operator that clusters name, as their
// Leases were seen over time by this process's own clock. The times in a Lease are
// of another machine's clock, and are only compared with each other.
type rivals struct {
	mu     sync.Mutex
	leases map[string]leaseSeen
	told   map[types.UID]time.Time
}

// leaseSeen is a Lease as it looked last, and since when it has looked like that.
type leaseSeen struct {
	look  string
	since time.Time
}

// yields says that another installation of the operator works on the cluster, and
// when to look again. Two would be safe, since every act is checked again, but each
// would undo what the other says in status.
func (r *EtcdClusterReconciler) yields(ctx context.Context, c *v1alpha1.EtcdCluster) (time.Duration, bool) {
	other := c.Status.Operator
	if r.Installation == "" || other == "" || other == r.Installation {
		return 0, false
	}
	if d := c.DeletionTimestamp; !d.IsZero() && r.Performer.Clock.Since(d.Time) > letGoAfter {
		// Nobody has let it go, and its namespace waits for that.
		return 0, false
	}
	log := ctrl.LoggerFrom(ctx)
	lasts, err := r.renewed(ctx, other)
	if err != nil {
		// Who may not read the Lease believes what status says.
		log.V(1).Info("Believing status", "operator", other, "reason", err.Error())
	} else if !lasts {
		log.Info("Taking the cluster over", "from", other)
		r.rivals.forget(other)
		r.Recorder.Eventf(c, nil, corev1.EventTypeNormal, v1alpha1.ReasonConflictingOperator, "TakeOver",
			"installation %s of the operator is gone: %s works on the cluster from now on", other, r.Installation)
		return 0, false
	}
	if r.rivals.tell(c.UID, r.Performer.Clock.Now()) {
		message := conflictText(c, r.Installation)
		log.Info("Leaving the cluster alone", "reason", message)
		r.Recorder.Eventf(c, nil, corev1.EventTypeWarning, v1alpha1.ReasonConflictingOperator, "Yield", "%s", status.Note(message))
	}
	return whileYielding, true
}

func conflictText(c *v1alpha1.EtcdCluster, installation string) string {
	return fmt.Sprintf("installation %s of the operator works on this cluster, and this is %s — two would undo each other's status, so this one does nothing — "+
		`remove one of them, or hand the cluster over: kubectl -n %s patch ec %s --subresource=status --type=merge -p '{"status":{"operator":"%s"}}'`,
		c.Status.Operator, installation, c.Namespace, c.Name, installation)
}

// renewed says that the installation's Lease was renewed lately, as far as this
// process has seen.
func (r *EtcdClusterReconciler) renewed(ctx context.Context, installation string) (bool, error) {
	namespace, name, _ := strings.Cut(installation, "/")
	lease := &coordinationv1.Lease{}
	err := r.Live.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, lease)
	if client.IgnoreNotFound(err) != nil {
		return false, fmt.Errorf("reading Lease %s: %w", installation, err)
	}
	look, lasts := "", leaseMargin
	if !apierrors.IsNotFound(err) {
		look = fmt.Sprint(lease.UID, lease.Spec.RenewTime, lease.Spec.AcquireTime)
		if d := lease.Spec.LeaseDurationSeconds; d != nil {
			lasts += time.Duration(*d) * time.Second
		}
	}
	return r.Performer.Clock.Since(r.rivals.since(installation, look, r.Performer.Clock.Now())) <= lasts, nil
}

// since is since when a Lease has looked as it does.
func (r *rivals) since(installation, look string, now time.Time) time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.leases == nil {
		r.leases = map[string]leaseSeen{}
	}
	was, known := r.leases[installation]
	if !known || was.look != look {
		was = leaseSeen{look, now}
		r.leases[installation] = was
	}
	return was.since
}

// forget a Lease whose installation was taken for gone: if it is there after all, it
// gets its whole time again.
func (r *rivals) forget(installation string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.leases, installation)
}

// tellAgain is how often the user is told that a cluster is left alone: events do not
// last for ever.
const tellAgain = time.Hour

// tell says that the user was not told lately, by this process.
func (r *rivals) tell(cluster types.UID, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.told == nil {
		r.told = map[types.UID]time.Time{}
	}
	if last, told := r.told[cluster]; told && now.Sub(last) < tellAgain {
		return false
	}
	r.told[cluster] = now
	return true
}
