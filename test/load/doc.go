// Package load writes to a real etcd cluster while faults happen to it, and
// proves afterwards what the cluster promised: every acknowledged write is
// still there, the complete history is linearizable, revisions only grew, and
// for how long no write was acknowledged.
//
// Writers put keys that are unique, each exactly once; all that were
// acknowledged are read back at the end, through every member. Contenders put,
// get, compare-and-swap and delete a few keys that they share; porcupine
// searches an order that explains every answer they got.
package load
