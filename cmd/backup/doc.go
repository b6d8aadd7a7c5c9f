// Command backup saves, verifies, restores and prunes backups of an etcd cluster.
// It runs in a Job's pod, and leaves its result, JSON of at most 4 KiB
// (snapshot.Result), in the termination message.
//
//	backup save    [store] [etcd] [flags]   stream a snapshot into the store, read it back
//	backup archive [store] [etcd] [flags]   write down what happens to the keys, until it is told to end
//	backup drill   [store] [flags]          restore it, start a real etcd on it, compare
//	backup check   [store] [flags]          read it to its end as restore would, and keep nothing
//	backup drill-archive [store] [flags]    restore an archive to its end, compare it with the cluster
//	backup restore [store] [flags]          restore it into a member's empty volume
//	backup recover [flags]                  fill a member's empty volume with what a survivor's holds
//	backup rebuild [store] [flags]          store a point of an archive as a backup of its own
//	backup prune   [store] [flags]          delete what retention does not keep, and orphans
//	backup list    [store] [flags]          print the backups, newest first
//	backup install DEST                     copy this executable (init container)
//	backup version                          print the version
//
// Exit codes: 0 done, 1 another try may succeed, 2 another try fails as well.
//
// Flags of every operation, but for recover, which has none of a store:
//
//	--store URL             s3://BUCKET, gs://BUCKET, azblob://CONTAINER or file:///DIRECTORY (required)
//	--prefix P              within the store; none by default
//	--cluster-uid UID       whose backups: a part of every object's name (required, but for list)
//	--credentials DIR       mounted Secret, see snapshot.Credential*; default: workload identity
//	--store-ca FILE         PEM authorities of the store; default: the system's
//	--s3-endpoint URL       of an S3-compatible store; default: AWS
//	--s3-region R           default us-east-1
//	--s3-path-style         the bucket in the path, not in the host name
//	--azure-account NAME    storage account (azblob)
//	--store-endpoint URL    of an Azure or GCS emulator or private endpoint
//	--progress-listen A     serve snapshot.Progress at /progress; default :8080, "" for none
//	--termination-log FILE  default /dev/termination-log
//	--attempts N, --pause D how often the whole work is tried (3), and the wait before the second time (5s, doubling)
//
// save:
//
//	--name N                of the backup (required)
//	--uid UID               of the EtcdBackup; a finished backup of it is found, not made again
//	--cluster-namespace N, --cluster-name N   for the manifest (required)
//	--cluster-id HEX        etcd's cluster ID; members of another one are refused (required)
//	--endpoints URL,...     client URLs of the members (required)
//	--etcd-ca FILE, --etcd-cert FILE, --etcd-key FILE   for https endpoints
//	--rate-limit N          bytes per second read from etcd, and to and from the store (there 16
//	                        MiB at least); 0, the default, is no limit
//	--compression C         zstd (default) or none
//	--age-recipients FILE   public keys of age, one a line; none: not encrypted
//
// archive takes the flags of save but for --name and --uid, and:
//
//	--seal-every D          how long writes are gathered for one object, default 2s
//	--idle-every D          how often an idle cluster gets an object that says so, default 10m
//	--base-every D          how old the newest base that was taken by itself may be before another
//	                        is, at least 1h; default 0: only when there is no backup to begin with
//
// How far it is stands in /progress, and at /metrics for Prometheus.
//
// drill:
//
//	--backup ID             default: latest
//	--age-identities FILE   private keys of age, one a line
//	--etcd FILE, --etcdutl FILE   default /usr/local/bin/etcd and etcdutl, of etcd's image
//	--work-dir DIR          empty, with room for the plain snapshot twice; default /work
//	--rate-limit N          bytes per second read of the snapshot from the store, or sent to it, 16 MiB
//	                        at least; 0, the default, is no limit
//
// restore:
//
//	--backup ID, --age-identities FILE, --etcdutl FILE   as for drill
//	--volume DIR            mount point of the member's volume; default /var/lib/etcd
//	--data-dir DIR          directly below; default /var/lib/etcd/data
//	--into-cluster-uid UID  of the EtcdCluster to restore into (required)
//	--foreign               the backup is of another cluster, and that is meant
//	--incarnation N, --member NAME, --volume-uid UID   the member's identity (required)
//	--initial-cluster NAME=URL,..., --initial-cluster-token T, --initial-advertise-peer-urls URL,...
//	                        as for etcd (required)
//	--etcd-version V        that will run on it, without a v (required)
//	--orders FILE           annotations of the pod (downward API): an empty volume is filled
//	                        only while etcd.quorate.dev/restore names the backup
//	--to-revision N, --to-time T   restore a point of the archive, not the backup alone
//	--etcd FILE             for a point of the archive: etcd that replays it; default /usr/local/bin/etcd
//	--bump-revision N       default 1000000000; 0 leaves revisions as they were
//
// With a bump, all revisions before it are marked as compacted, so that a watcher is
// told instead of being carried back in time. A volume that this very restore has
// filled is left alone, so an init container can run it before every start.
//
// recover takes the flags of restore for the volume, the member and etcd, and:
//
//	--survivor NAME, --survivor-volume-uid UID, --survivor-incarnation N
//	                        the member of a cluster without a quorum (required)
//	--survivor-volume DIR   mount point of its volume, read-only; default /survivor
//	--raise-to N            revision to begin with; --bump-revision is added to what is beyond it
//	--survivor-data-dir DIR directly below; default /survivor/data
//
// It copies the survivor's data, has etcd go on with the copy as the only member, and fills
// the volume with what that holds. No store is asked. --orders is to name SURVIVOR/UID.
//
// rebuild takes --backup, --age-identities, --etcd, --etcdutl, --to-revision and --to-time as
// restore does, and:
//
//	--into-cluster-uid UID  of the EtcdCluster that begins with it: a part of the backup's name (required)
//	--name N, --uid UID     of the backup; a finished one of the UID is found, not made again (required)
//	--cluster-namespace N, --cluster-name N   of that cluster, for the manifest (required)
//	--work-dir DIR          with room for the plain snapshot four times, and for what is replayed
//	                        twice; a tenth of its disk stays free; default /work
//
// It is encrypted for whom the last segment is that it was put together from, or the base.
//
// check takes --backup, --age-identities, --etcdutl and --etcd-version as restore does.
//
// drill-archive takes --age-identities, --etcd, --etcdutl and --work-dir as rebuild does,
// --rate-limit as drill does, and --cluster-id, --endpoints, --etcd-ca, --etcd-cert and --etcd-key as save does.
//
// prune:
//
//	--keep-last N, --keep-hourly N, --keep-daily N, --keep-weekly N   0: no such rule
//	--time-zone NAME        of IANA, default UTC
//	--drop ID,...           drop just these, and ask no other rule
//	--drop-made-by UID --name N   drop just what was stored for this EtcdBackup, finished or not
//	--verified ID,...       backups known to be verified, beside those that say so in the store
//	--points-since T        drop just the bases that an archiver took by itself and that no point
//	                        since this time needs
//	--orphans-after D       age of what is removed as unfinished, default 192h, at least 1h
//	--dry-run               say, and delete nothing
//
// list:
//
//	--output FORMAT         table (default) or json
package main
