// Package snapshot is what a backup of an etcd cluster is: the manifest beside each
// snapshot, the names of the objects, the result and the progress that a backup's
// process reports, and which backups retention keeps. It is pure and imports the
// standard library only, so that the operator can use it without any store's SDK.
//
// The work itself lies below: store reaches object stores and directories, job
// saves, drills, restores and prunes. Only cmd/backup imports those two.
package snapshot
