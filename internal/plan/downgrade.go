package plan

import (
	"fmt"
	"slices"
	"strings"
)

// A downgrade is etcd's own procedure: it is announced, the storage of every member is
// rewritten so that the older release can read it, and only then are the members
// restarted, one at a time, as in any roll. etcd ends it by itself when the last of them
// runs the older release.
//
// The intent is on record before etcd hears of it: whoever finds a downgrade that is
// enabled knows whether it is the operator's own, to be cancelled when the spec is put
// back, or a user's, which is left alone.

// Minor of a version: "3.6" for "3.6.16"; empty for what is none.
func Minor(version string) string {
	n, known := minor(version)
	if !known {
		return ""
	}
	return fmt.Sprintf("3.%d", n)
}

// lowers says that the user asks for a downgrade to the wanted version.
func (o Observed) lowers() bool { return o.DowngradeTo != "" && o.DowngradeTo == Minor(o.Version) }

// lowering says that etcd is being downgraded to the wanted version, by the operator.
func (o Observed) lowering() bool {
	return o.lowers() && o.Downgrade != "" && Minor(o.Downgrade) == Minor(o.Version) && o.DowngradeBegun == Minor(o.Version)
}

// above says that every voter runs the minor release after the wanted one.
func (o Observed) above() bool {
	return o.Voters() > 0 && !slices.ContainsFunc(o.Members, func(m Member) bool {
		step, known := minors(m.Version, o.Version)
		return m.Voter() && (!known || step != -1)
	})
}

// cancelDowngrade ends a downgrade that the operator has begun: the spec was put back,
// or a member has to be added or removed, for which etcd must not be in a downgrade on
// either version. It is begun anew after that.
func cancelDowngrade(o Observed) (Step, bool) {
	ours := o.Downgrade != "" && o.DowngradeBegun == Minor(o.Downgrade)
	why := ""
	switch {
	case !o.lowers() || Minor(o.Downgrade) != Minor(o.Version):
		why = "spec asks for it no longer"
	case o.due() && o.steadyLoss():
		why = "no member can join or leave meanwhile, and " + o.want()
	}
	return Step{Kind: CancelDowngrade, Reason: "Downgrading", Message: fmt.Sprintf(
		"cancelling the downgrade to etcd %s: %s", Minor(o.Downgrade), why)}, ours && o.Quorate() && why != ""
}

// beginDowngrade announces it, once all is well and every voter runs the release above.
func beginDowngrade(o Observed) (Step, bool) {
	others := o.Downgrade != "" && Minor(o.Downgrade) != o.DowngradeTo
	if !o.lowers() || !o.above() || o.volatile() || others || o.lowering() {
		return Step{}, false
	}
	step := Step{Kind: LatchDowngrade, Reason: "Downgrading", Message: fmt.Sprintf(
		"the downgrade to etcd %s is put on record before it begins", o.DowngradeTo)}
	if o.DowngradeBegun == o.DowngradeTo {
		step.Kind, step.Message = EnableDowngrade, fmt.Sprintf("telling etcd of the downgrade to %s", o.DowngradeTo)
	}
	reason, why := o.unsettled("Downgrading")
	if len(o.Alarms) > 0 {
		reason, why = "AlarmActive", fmt.Sprintf("etcd raised %s — disarm it first", strings.Join(o.Alarms, ", "))
	}
	if why != "" {
		step.Kind, step.Reason, step.Operation = Wait, reason, "Downgrading"
		step.Message = fmt.Sprintf("the downgrade to etcd %s waits: %s", o.DowngradeTo, why)
	}
	return step, true
}

// volatile says that a voter is not restarted but replaced, and nobody joins during a
// downgrade.
func (o Observed) volatile() bool {
	return slices.ContainsFunc(o.Members, func(m Member) bool { return m.Voter() && m.InMemory })
}

// rewritten says which voter's storage the older release cannot read yet; empty for none.
// etcd rewrites it within seconds of the announcement; 3.5 does not tell.
func (o Observed) rewritten() string {
	for _, m := range o.Members {
		step, known := minors(m.StorageVersion, o.Version)
		if m.Voter() && known && step < 0 {
			return fmt.Sprintf("the storage of %s is still in the format of %s", m.Name, Minor(m.StorageVersion))
		}
	}
	return ""
}
