// Package member runs the guard with real etcd processes through the losses that
// were measured with them: a voter on an emptied disk, a seed founded twice, a
// member without its write-ahead log, a first boot before its peers. Every loss is
// first shown without the guard, so that the tests are known to be able to fail.
package member
