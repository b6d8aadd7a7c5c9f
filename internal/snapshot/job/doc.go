// Package job does the work of cmd/backup: it saves, drills, restores, prunes and
// lists backups. It speaks to etcd, to a store and to etcd's own programs, and to no
// Kubernetes.
package job
