package secrets

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/pki"
	"github.com/quorate/quorate/internal/plan"
)

// comes says that a Secret is one that a coming member would have.
func (r Reader) comes(secret string) bool {
	return slices.ContainsFunc(r.Coming, func(m string) bool { return pki.MemberSecret(m) == secret })
}

// issuedTo is what others have issued, without what only members would use that are not named.
func (r Reader) issuedTo(c *v1alpha1.EtcdCluster, s Set, members []string) map[string]pki.Issued {
	if len(r.Coming) == 0 {
		return s.Issued
	}
	used := pki.SecretNames(c.Name, members)
	out := map[string]pki.Issued{}
	for authority, issued := range s.Issued {
		issued.Leaves = maps.Clone(issued.Leaves)
		maps.DeleteFunc(issued.Leaves, func(own string, _ pki.Given) bool { return !slices.Contains(used, own) })
		out[authority] = issued
	}
	return out
}

// prepare has cert-manager asked for what the coming members will need, and says what they
// would lack if they were to start now. It is tried as for members that are there; the Secrets
// that this would make are not made, and no authority goes on by it.
func (r Reader) prepare(c *v1alpha1.EtcdCluster, s *Set) {
	if len(r.Coming) == 0 {
		return
	}
	ahead := pki.Plan(r.Now, r.inputs(c, *s, r.Coming))
	for _, request := range ahead.Requests {
		if r.comes(request.Own) && !slices.ContainsFunc(s.Plan.Requests, func(known pki.Request) bool { return known.Slot == request.Slot }) {
			s.Plan.Requests = append(s.Plan.Requests, request)
		}
	}
	if len(s.Taken) > 0 {
		s.Lack = taken(s.Taken[0])
		return
	}
	for _, m := range r.Coming {
		own := pki.MemberSecret(m)
		about := func(p pki.Problem) bool { return p.Secret == own }
		made := slices.ContainsFunc(ahead.Create, func(d pki.SecretData) bool { return d.Name == own })
		if (made || s.Live[own] != nil) && !slices.ContainsFunc(ahead.Problems, about) {
			continue
		}
		s.Lack = lack(m, ahead.Problems, s.Plan.Problems)
		return
	}
}

func taken(secret string) *plan.Lack {
	return &plan.Lack{What: fmt.Sprintf("Secret %s exists and does not belong to this cluster", secret), Do: "delete the Secret"}
}

// lack tells in a problem's own words what a member lacks. One that the present members do not
// have goes first.
func lack(member string, problems, present []pki.Problem) *plan.Lack {
	if len(problems) == 0 {
		return &plan.Lack{What: "no certificate of " + member + " could be made", Do: "see what TLSReady says"}
	}
	first := problems[max(0, slices.IndexFunc(problems, func(p pki.Problem) bool { return !slices.Contains(present, p) }))]
	parts := strings.Split(first.Message, " — ")
	return &plan.Lack{What: parts[0], Do: cmp.Or(strings.Join(parts[min(2, len(parts)):], "; "), "see what TLSReady says")}
}
