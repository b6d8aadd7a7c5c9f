package testbed

import "github.com/quorate/quorate/api/v1alpha1"

// Hop is a change of a cluster's version by one minor release.
type Hop struct {
	// Name of it, for a table.
	Name string
	// Edit of the cluster, a merge patch in JSON.
	Edit string
	// Version that it ends with.
	Version string
}

// Done says that all members of the cluster run the version, and that nothing is under way.
func (h Hop) Done(c *v1alpha1.EtcdCluster) bool {
	return c.Status.Version == h.Version && c.Status.Operation == nil && c.Status.ObservedGeneration == c.Generation
}

// FirstRelease is what a cluster begins with before the first of Hops.
const FirstRelease = "3.5.35"

// Hops through all releases, in order: two upgrades, and a downgrade by etcd's own
// procedure.
var Hops = []Hop{
	{"3.5.35 to 3.6.16", `{"spec":{"version":"3.6.16"}}`, "3.6.16"},
	{"3.6.16 to 3.7.3", `{"spec":{"version":"3.7.3"}}`, "3.7.3"},
	{"3.7.3 to 3.6.16", `{"spec":{"version":"3.6.16","update":{"downgradeTo":"3.6"}}}`, "3.6.16"},
}
