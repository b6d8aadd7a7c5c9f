package observe

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/etcd"
	"github.com/quorate/quorate/internal/pki"
	"github.com/quorate/quorate/internal/plan"
	"github.com/quorate/quorate/internal/resources"
	"github.com/quorate/quorate/internal/secrets"
)

// certificatesAfresh is how long Secrets that were in order are not read again.
// They cannot be watched (see package secrets), and reading a handful per
// cluster on every pass would be most of an idle operator's traffic.
const certificatesAfresh = time.Minute

// certificatesVerified is how long Secrets that have not changed are not parsed
// and verified again.
const certificatesVerified = 10 * time.Minute

// certificatesSeen is what the Secrets held when they were last read.
type certificatesSeen struct {
	at      time.Time
	members string
	// wanted is what the spec said then.
	wanted string
	// versions of the Secrets that were verified, and when.
	versions string
	verified time.Time
	// credentials of the operator; nil without, and plaintext's zero value.
	credentials *etcd.Credentials
	due         []string
	conflicts   []plan.Problem
	problems    []plan.Problem
	renewal     time.Time
	// ask is what a rotation waits for members to show; nil for nothing.
	ask *pki.Ask
	// trust is what members are to trust, carried what their Secrets hold.
	trust     string
	carried   map[string]string
	rotations []pki.Rotation
	// lacking says that a member has no certificates and gets none now.
	lacking bool
	// lack is why members that are about to come could not start.
	lack *plan.Lack
}

func (o *Observer) certificates(ctx context.Context, c *v1alpha1.EtcdCluster, m *memory, kube *kubernetes, members, coming []string) (certificatesSeen, error) {
	now := o.Clock.Now()
	if !resources.TLS(c) {
		return certificatesSeen{credentials: &etcd.Credentials{}, trust: pki.TrustUnknown}, nil
	}
	seen := &m.certificates
	asked := strings.Join(members, ",") + "/" + strings.Join(coming, ",")
	inOrder := seen.lack == nil && seen.members == asked && seen.wanted == secrets.Wanted(c) && len(seen.due) == 0 && (seen.ask == nil || !kube.allTrust(*seen.ask)) &&
		len(seen.problems) == 0 && len(seen.conflicts) == 0 && (seen.renewal.IsZero() || now.Before(seen.renewal)) && seen.credentials != nil
	if inOrder && now.Sub(seen.at) < certificatesAfresh {
		return *seen, nil
	}
	known := ""
	if inOrder && now.Sub(seen.verified) < certificatesVerified {
		known = seen.versions
	}
	reader := secrets.Reader{Live: o.Live, Now: now, Coming: coming, Shake: func(ctx context.Context, who pki.Ask) map[string]pki.Shown {
		if !kube.allTrust(who) {
			return nil
		}
		return o.greet(ctx, kube.endpoints(c), who)
	}}
	set, err := reader.ReadSince(ctx, known, c, members)
	if err != nil {
		return certificatesSeen{}, err
	}
	if set.Versions == known {
		seen.at = now
		return *seen, nil
	}
	*seen = certificatesSeen{
		at: now, members: asked, due: set.Due(), renewal: set.Plan.NextRenewal, versions: set.Versions, verified: now,
		wanted: secrets.Wanted(c), ask: set.Plan.Ask,
		trust: set.Plan.Trust, carried: set.Plan.Carried, rotations: set.Plan.Rotations,
		lacking: lacking(set, members), lack: set.Lack,
	}
	for _, secret := range set.Foreign {
		seen.conflicts = append(seen.conflicts, conflict(c, "Secret", secret))
	}
	for _, p := range set.Plan.Problems {
		seen.problems = append(seen.problems, plan.Problem{Reason: p.Reason, Message: p.Message, Severity: plan.Pending})
	}
	if operator, ok := set.Live[pki.OperatorSecret(c.Name)]; ok {
		credentials, err := pki.OperatorCredentials(operator.Data)
		if err == nil {
			seen.credentials = &credentials
		}
	}
	return *seen, nil
}

// lacking says that a member's Secret does not exist and nobody can make it now.
func lacking(set secrets.Set, members []string) bool {
	return slices.ContainsFunc(members, func(m string) bool {
		_, exists := set.Live[pki.MemberSecret(m)]
		return !exists && !slices.ContainsFunc(set.Plan.Create, func(s pki.SecretData) bool { return s.Name == pki.MemberSecret(m) })
	})
}

// conflict is an object of a name that the cluster needs. What a deleted
// cluster of the same name left behind is collected by Kubernetes in a moment;
// anything else needs the user.
func conflict(c *v1alpha1.EtcdCluster, kind string, object client.Object) plan.Problem {
	p := plan.Problem{Reason: v1alpha1.ReasonNameConflict, Severity: plan.Stalling, Message: fmt.Sprintf(
		"%s %s/%s exists and does not belong to this cluster — the cluster needs an object of that name and overwrites nobody else's — delete it, or give the cluster another name",
		kind, object.GetNamespace(), object.GetName())}
	owner := metav1.GetControllerOf(object)
	if owner != nil && owner.Kind == "EtcdCluster" && owner.Name == c.Name && owner.UID != c.UID {
		p.Severity = plan.Pending
	}
	return p
}
