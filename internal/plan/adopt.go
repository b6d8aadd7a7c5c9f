package plan

import (
	"fmt"
	"slices"
	"strings"
)

// Adoption is what there is of a deleted cluster that is to be brought back.
type Adoption struct {
	// ClusterUID that its volumes carry.
	ClusterUID string
	// Incarnation of its volumes, the highest there is.
	Incarnation int64
	// Volumes of that incarnation that are not in quarantine, in the order of their
	// members' ordinals.
	Volumes []AdoptedVolume
	// Founders that the volumes name; empty if they name none.
	Founders []string
	// Elsewhere is the name of the cluster that the volumes carry, if it is another than
	// this one's; empty if it is not.
	Elsewhere string
	// Others are the UIDs of the clusters of this name whose volumes are here as well.
	Others []string
	// Pods of others that use the volumes, or carry their identity.
	Pods []string
}

// AdoptedVolume is a volume of the deleted cluster.
type AdoptedVolume struct {
	// Member that it belongs to.
	Member string
	Volume Volume
	// Recorded says that it carries the ID of a member, so that etcd has run on it.
	Recorded bool
}

// sound says that a member can start on the volume with all that it has promised.
func (v AdoptedVolume) sound() bool { return v.Recorded && v.Volume == VolumeBound }

// Members are the members whose volumes are there, with their data.
func (a Adoption) Members() []string {
	var out []string
	for _, v := range a.Volumes {
		if v.sound() {
			out = append(out, v.Member)
		}
	}
	return out
}

// Blocked is the reason and the sentence of what stands in the way; both are empty if
// nothing does. size is the number of voters that there were, in the user's words.
func (a Adoption) Blocked(size int) (reason, message string) {
	found := a.Members()
	switch {
	case len(a.Volumes) == 0 && len(a.Others) > 0:
		return "AdoptBlocked", fmt.Sprintf("no volume of cluster %s is in this namespace: found %s, spec.adopt names %s — there is nothing to bring back, and no new cluster is founded in its place — create the cluster anew with the UID that is found, or without spec.adopt", a.ClusterUID, strings.Join(a.Others, ", "), a.ClusterUID)
	case len(a.Volumes) == 0:
		return "AdoptBlocked", fmt.Sprintf("no volume of cluster %s is in this namespace — there is nothing to bring back, and no new cluster is founded in its place — create the cluster anew with the UID that the claims carry (kubectl get pvc -L etcd.quorate.dev/cluster-uid), or without spec.adopt", a.ClusterUID)
	case a.Elsewhere != "":
		return "AdoptBlocked", fmt.Sprintf("the volumes of cluster %s are those of an EtcdCluster named %s — its members find each other by host names that are made from its name — create the EtcdCluster anew as %s", a.ClusterUID, a.Elsewhere, a.Elsewhere)
	case len(a.Pods) > 0:
		return "Adopting", fmt.Sprintf("%s of the deleted cluster %s still there — a second process on a volume would destroy its data — they go with their cluster; delete them if they do not",
			podsOf(a.Pods), per(a.Pods, "is", "are"))
	case len(found) < Majority(size):
		return "AdoptBlocked", fmt.Sprintf("of the %d members that spec.size speaks of, the volumes of %d are here with their data (%s) — %d are needed, for fewer could not serve — bring the others back, set spec.size to the number of members that there were, or restore a backup into a new cluster",
			size, len(found), a.listed(), Majority(size))
	case len(found) > size:
		return "AdoptBlocked", fmt.Sprintf("the volumes of %d members are here with their data (%s), and spec.size is %d — the cluster would shrink as soon as it serves, and %d of them be given up — set spec.size to the number of members that there were, or the next odd one, and change it afterwards; label claims of members that had been replaced etcd.quorate.dev/quarantined",
			len(found), a.listed(), size, len(found)-size)
	default:
		return "", ""
	}
}

// adopt takes a deleted cluster's volumes over, all at once and by a word in status, or
// founds nothing at all: an empty cluster in its place would be taken for it. Nobody
// starts before a majority is there: what a minority could do is to wait, under the name
// of a cluster that serves.
func adopt(o Observed) (Step, bool) {
	a := o.Adoption
	if a == nil || len(o.Founders) > 0 {
		return Step{}, false
	}
	if reason, message := a.Blocked(o.Size); reason != "" {
		return Step{Kind: Wait, Reason: reason, Message: message}, true
	}
	founders := a.Founders
	if len(founders) == 0 {
		founders = a.Members()
	}
	return Step{Kind: Adopt, Members: founders, Reason: "Adopting", Message: fmt.Sprintf(
		"taking the volumes of %s over from the deleted cluster %s", strings.Join(a.Members(), ", "), a.ClusterUID)}, true
}

// listed says of every volume what it is.
func (a Adoption) listed() string {
	var out []string
	for _, v := range a.Volumes {
		switch {
		case v.sound():
			out = append(out, v.Member)
		case !v.Recorded:
			out = append(out, v.Member+": no member is on record as having run on it")
		default:
			out = append(out, v.Member+": "+Member{Volume: v.Volume}.VolumeTrouble())
		}
	}
	return abbreviate(out)
}

// equip makes what members need before any of an adopted cluster runs, as in a founding:
// with the Secrets of the deleted cluster, which go in a moment, some of them would trust
// other authorities than the rest. A write that was refused is set aside for others to go
// on; that these Secrets are somebody else's holds all the same, so it is asked first.
func equip(o Observed) (Step, bool) {
	if o.Adoption == nil || o.ClusterID != 0 || slices.ContainsFunc(o.Members, func(m Member) bool { return m.Pod != PodAbsent }) {
		return Step{}, false
	}
	for _, rule := range []rule{nameTaken, issueCertificates, applyObjects} {
		if step, ok := rule(o); ok {
			return step, true
		}
	}
	return Step{}, false
}
