package status

import (
	"fmt"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/plan"
	"github.com/quorate/quorate/internal/resources"
)

// distrustful are the members that trust other authorities than they are to.
func distrustful(seen plan.Observed) (names []string) {
	for _, m := range seen.Members {
		if m.TrustDiffers {
			names = append(names, m.Name)
		}
	}
	return names
}

// plaintextPeers stays as it was when nobody was looked at: to forget it would take the
// plaintext listeners from members that others dial there.
func plaintextPeers(before bool, seen plan.Observed) bool {
	if len(seen.Members) == 0 {
		return before
	}
	return seen.PlaintextPeers
}

// tlsStatus is how far each authority is; nil without TLS. What could not be read stays
// as it was.
func tlsStatus(c *v1alpha1.EtcdCluster, before *v1alpha1.TLSStatus, seen plan.Observed) *v1alpha1.TLSStatus {
	if !resources.TLS(c) {
		return nil
	}
	if len(seen.Authorities) == 0 {
		return before
	}
	out := &v1alpha1.TLSStatus{}
	restarts := distrustful(seen)
	for _, a := range seen.Authorities {
		s := v1alpha1.AuthorityStatus{
			Secret: a.Secret, Phase: v1alpha1.AuthorityPhase(a.Phase), NotAfter: at(a.Ends), Since: at(a.Since), Until: at(a.Until), WaitingFor: a.Waiting,
		}
		if len(restarts) > 0 {
			s.WaitingFor = restarts
			if s.Phase == v1alpha1.AuthorityStable {
				s.Phase = v1alpha1.AuthorityTrimming
			}
		}
		out.Authorities = append(out.Authorities, s)
	}
	return out
}

func at(t time.Time) *metav1.Time {
	if t.IsZero() {
		return nil
	}
	return &metav1.Time{Time: t.UTC().Truncate(time.Second)}
}

// rotating says what goes on with the authorities; empty when nothing does.
func rotating(seen plan.Observed) string {
	var doing []string
	for _, a := range seen.Authorities {
		if a.Message != "" {
			doing = append(doing, a.Message)
		}
		if len(a.Waiting) > 0 {
			doing = append(doing, fmt.Sprintf("%s do not show it yet", strings.Join(a.Waiting, ", ")))
		}
	}
	if restarts := distrustful(seen); len(doing) == 0 && len(restarts) > 0 {
		doing = append(doing, fmt.Sprintf("%s are restarted to trust the new authorities alone", strings.Join(restarts, ", ")))
	}
	return strings.Join(doing, "; ")
}
