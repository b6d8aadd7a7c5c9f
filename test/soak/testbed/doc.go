// Package testbed reaches a Kubernetes under test, and the clusters of etcd in
// it, the way the faults of tests need it: the API, the members themselves and,
// of the local cluster, whose nodes are parts of this machine, also their
// processes, disks, cables and power. Nothing here asserts anything: specs and
// the soak use the same faults and judge for themselves.
package testbed
