// Package snapshot runs the real cmd/backup between real etcd processes of every
// supported version and a real S3 server, with a proxy in between that breaks what
// stores and networks break.
package snapshot
