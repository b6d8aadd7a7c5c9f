// Package member is the guard inside a member's pod: etcd's parent process, which
// decides before every start whether etcd may run on the volume it finds. It holds
// the pure decision (Decide), the marker that ties a volume to one member, the
// annotations it shares with the operator, and the supervision of etcd. It imports
// the standard library only; what is specific to Linux lies in files named _linux.go.
package member
