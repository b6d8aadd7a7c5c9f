package secrets

import (
	"testing"

	"github.com/quorate/quorate/test/mutants"
)

// breaches give up a rule about cert-manager, or about those who come, each.
var breaches = map[string]mutants.Mutant{
	"every cluster asks for cert-manager":        mutants.Of("issued.go", "if !wanted && len(noted(c, *set)) == 0 {", "if wanted && len(noted(c, *set)) > 9 {"),
	"a missing cert-manager fails the look":      mutants.Of("issued.go", "if err := ctx.Err(); err != nil {", "if err := errors.Join(ctx.Err(), unavailable); err != nil {"),
	"Certificates are left behind":               mutants.Of("issued.go", "if !wanted[name] {", "if wanted[name] && !wanted[name] {"),
	"Certificates are asked for where none are":  mutants.Of("issued.go", "if s.Issued[request.Authority].Unavailable != \"\" {", "if s.Issued[request.Authority].Unavailable == \"x\" {"),
	"what cert-manager says is not read again":   mutants.Of("issued.go", "+certificate.GetResourceVersion())", "+certificate.GetName())"),
	"what another issuer left is taken":          mutants.Of("issued.go", `leaf.Awaits != "" && !certmanager.Issued(certificate)`, `leaf.Awaits != "" && certificate != nil && leaf.Data == nil`),
	"nobody is asked in time":                    mutants.Of("coming.go", "if r.comes(request.Own) && ", "if len(request.Own) == 0 && "),
	"what those who come lack is not told":       mutants.Of("coming.go", "if (made || s.Live[own] != nil) && ", "if (made || own != \"\") && "),
	"those who come hold up everybody":           mutants.Of("secrets.go", "\t\t\tif r.comes(name) {", "\t\t\tif r.comes(name) && name == \"\" {"),
	"a note of Certificates outlives their kind": mutants.Of("issued.go", "} else if set.Certificates == nil {", "} else if set.Certificates != nil {"),
}

// TestMutantsHaveTheirPlace wants what the mutants change to be there.
func TestMutantsHaveTheirPlace(t *testing.T) { mutants.Placed(t, breaches) }

// TestMutants runs the other tests of this package against each mutant.
func TestMutants(t *testing.T) {
	mutants.Caught(t, breaches, "-run=^Test(CertManager|Without|AUsers|Coming)")
}
