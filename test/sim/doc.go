// Package sim runs the operator in a world of its own: an API server, a
// kubelet, a provisioner and etcd in memory, and a clock that nobody waits for.
// The operator is the real one, the guard's decision too. Every call that the
// operator makes can be counted, refused, lost or be its last, and after every
// step the invariants are checked. A seed reproduces a run.
package sim
