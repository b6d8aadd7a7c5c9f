// Package load runs the load against real etcd processes: one cluster that loses
// its leader and nothing else, and several that really break their promises, so
// that the load is known to notice.
package load
