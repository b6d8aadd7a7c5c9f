package api

import (
	"fmt"
	"strings"
)

// specCase is a spec and the answer that it must get.
type specCase struct {
	name   string // a sentence
	object string // metadata.name, "case" if empty
	before string // the spec of the object that is edited; empty for a new one
	status string // JSON of its status; empty for none
	spec   string
	want   string // part of the refusal; empty when it must be accepted
}

const digest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// The answers. What varies in them is written out with the case.
const (
	sizeWhy        = " members are not possible — an even number tolerates no more failures than the odd number below it, and beyond 7 every write waits for too many — use 1, 3, 5 or 7"
	noSizeWhy      = " members are not possible — a cluster without members serves nobody, and it cannot be put to sleep — use 1, 3, 5 or 7, or delete the EtcdCluster: its volumes are kept unless storage.whenDeleted is Delete"
	versionWhy     = "\" is not a supported version of etcd — it is the tag of the image and decides how data is migrated, so it has to be exact — use 3.5.x (from 3.5.26), 3.6.x or 3.7.x, with no v in front and nothing behind"
	tagWhy         = "\" carries a tag or a digest — the tag follows spec.version, and two places for it would contradict each other — name only the repository, and use version or image.digest"
	repositoryWhy  = "\" is not an image repository — nothing could be pulled from it — use a form such as quay.io/coreos/etcd or localhost:5000/etcd"
	digestWhy      = "\" is not a digest — an image that is pinned wrongly is never pulled — use sha256: and 64 lower-case hex digits"
	storageSizeWhy = "\" is not a size — each member needs a volume of at least twice etcd.quotaBackendBytes — use a positive quantity such as 8Gi"
	quotaRoomWhy   = " — the volume holds the database, the log, and a second copy of the database while it is defragmented or received from the leader — make the volume larger or the quota smaller"
	classWhy       = "\" is not the name of a StorageClass — no volume could be made — use a name from kubectl get storageclass, or leave the field out for the default class"
	memoryWhy      = " — the data counts as memory of the pod, which is killed at its limit — set podTemplate.resources.limits.memory to at least storage.size + 256Mi"
	timeWhy        = "\" is not a time — authorities that were issued before it would be replaced — use the form 2026-03-01T12:00:00Z, which date -u +%FT%TZ prints"
	soakWhy        = "\" is not a duration from 0s to 8760h — applications that have not read their Secret again by then are refused — use hours such as 24h, or 0s if nothing but the members needs the authorities"
	leafWhy        = "\" is not a duration from 5m to 8760h — a certificate must outlive its renewal, and one that lives for years cannot be withdrawn — use hours and minutes such as 2160h"
	replaceWhy     = "\" is not a duration from 1m to 8760h — a node that restarts is away for a minute, and every replacement costs a copy of the whole database — use at least 1m, such as 5m"
	quarantineWhy  = "\" is not a duration from 1h to 8760h — a volume that is kept too briefly cannot be looked at any more, and one that is kept for years is paid for — use hours such as 168h"
	learnerWhy     = "\" is not a duration from 1m to 8760h — a learner makes no progress while it loads a snapshot, and removing it starts all over — use at least 1m, such as 15m"
	quotaWhy       = "\" is not a size from 64Mi to 16Gi — a smaller database fills up at once, and a larger one takes too long to copy to a new member — use a quantity such as 2Gi; etcd advises at most 8Gi"
	heartbeatWhy   = " ms is not between 10 and 10000 — a shorter interval loads every member, and etcd refuses the election timeout that a longer one needs — use about the round trip between the members, such as 100"
	electionWhy    = " and 50000 — a shorter timeout elects a new leader whenever one heartbeat is late, and etcd refuses a longer one — use ten heartbeats, such as 1000 for a heartbeat of 100"
	snapshotWhy    = " entries are not between 100 and 100000 — fewer stop etcd for snapshots all the time, and more cost memory and a slow restart — use a number such as 10000"
	requestWhy     = "\" is not a size from 1Ki to 10Mi — every member keeps large requests in memory and in the log several times over — use a quantity such as 1536Ki"
	retentionWhy   = " — etcd would refuse to start — use "
	flagNameWhy    = ": not the name of a flag — etcd would refuse to start — use the name without the dashes in front, such as max-txn-ops"
	flagNeverWhy   = " cannot be set here — flags of identity, addresses, files, certificates and safety belong to the operator, and a wrong one loses the data or opens the cluster — remove it, or use the field of spec that serves the purpose"
	flagTypedWhy   = " cannot be set here — it has a field of its own in spec.etcd, and two places would contradict each other — use quotaBackendBytes, heartbeatMs, electionMs, snapshotCount, maxRequestBytes or autoCompaction"
	logOutputsWhy  = "\" names a file — the root file system of a member is read-only, so etcd would not start, and kubectl logs would stay empty — use stdout or stderr"
	flagValueWhy   = " has a value of more than 1024 characters — it is passed on the command line of etcd — use a shorter value"
	ownedWhy       = ", and a wrong one would make it lose or confuse them — use a key with a prefix of your own"
	keyWhy         = " — every pod of the cluster would be refused — use letters, digits, dashes, dots and underscores, with an optional DNS prefix before a slash"
	labelValueWhy  = " has a value of more than 63 characters — every pod of the cluster would be refused — use at most 63 letters, digits, dashes, dots and underscores"
	selectorWhy    = " has a value of more than 63 characters — no node could match it — use at most 63 letters, digits, dashes, dots and underscores"
	annotationWhy  = " has a value of more than 65536 characters — all annotations of a pod together may have 256 KiB — use a shorter value"
	apparmorKeyWhy = " cannot be set here — it could take the pods out of the restricted Pod Security profile — use podTemplate.appArmorProfile"
	minMemoryWhy   = " is too little memory — etcd maps its database and keeps the recent log in memory, and a member that is killed for memory takes part of the quorum with it — use at least 256Mi"
	resourceWhy    = " names a resource other than cpu, memory and ephemeral-storage — etcd uses no others, and a pod that asks for one may never be scheduled — remove it"
	claimsWhy      = "claims cannot be set here — the pods of members carry no resource claims, so every pod would be refused — remove claims"
	cpuWhy         = "\" is not a quantity of cpu — every pod of the cluster would be refused — use a form such as 500m, not negative and without an exponent"
	memQuantityWhy = "\" is not a quantity of memory — every pod of the cluster would be refused — use a form such as 1Gi, not negative and without an exponent"
	diskWhy        = "\" is not a quantity of ephemeral-storage — every pod of the cluster would be refused — use a form such as 1Gi, not negative and without an exponent"
	priorityWhy    = "\" is not the name of a PriorityClass — every pod of the cluster would be refused — use a name from kubectl get priorityclass"
	pullSecretWhy  = "an entry has no name that a Secret can have — every pod of the cluster would be refused — name a Secret of type kubernetes.io/dockerconfigjson in the namespace of the cluster"
	profileWhy     = "\" is not allowed — the pods must stay within the restricted Pod Security profile — use RuntimeDefault or Localhost"
	localhostWhy   = "localhostProfile goes with type Localhost and with no other (type is "
	peerWhy        = "a peer has both an ipBlock and a selector, or none of them — the NetworkPolicy would be refused and the port stay as it is — give each peer an ipBlock, or a podSelector or namespaceSelector"
	networkWhy     = ": not a network — the NetworkPolicy would be refused and the port stay as it is — use a form such as 10.0.0.0/8"
	nameLengthWhy  = " characters — the names of pods, Services, volumes and certificates are made from it — use at most 40"
	nameLabelWhy   = " is not a DNS label — it becomes the name of a Service and a part of host names — use lower-case letters, digits and dashes, starting with a letter and without dots"
	restoreOneWhy  = `restoreFrom names several of backupName, archiveName and store, or none of them — every member must begin with the same data — name the EtcdBackup, or the EtcdArchive, or the store with clusterUID and backupID`
	restoreTimeWhy = `" is not a time — it would not be known what to restore — use a form such as 2026-01-02T15:04:05Z, with the zone`
	restoreTwoWhy  = `toRevision and toTime are two points — a cluster begins with one — leave one of them out`
	restoreEndWhy  = `archiveName needs toRevision or toTime — an archive goes on, and its end is another one for every member — say which revision or time is to be restored`
	restoreRevWhy  = ` is not a revision — etcd counts them from 1 — use one that the archive holds`
	restoreAllWhy  = `store, clusterUID and backupID belong together — the backup lies under both in the store, and every member must begin with the same one — set all three, from the URL of the backup: .../clusterUID/backupID/snapshot; with toRevision or toTime the backupID may be left out`
	restoreUIDWhy  = `" is not the UID of a cluster — nothing could be found under it — use the part of the URL of the backup before its ID`
	restoreIDWhy   = `" is not the ID of a backup — nothing could be found under it — use status.id of the EtcdBackup, or the part of the URL of the backup before the last`
	restoreOnceWhy = `restoreFrom can only be set when the cluster is created, and names the same backup for ever — a running cluster would be carried back in time under its clients — create another cluster with it`
	recoverWhenWhy = `recovery cannot be set when the cluster is created — no quorum is lost yet, and the word would lie in wait for the first loss — leave it out; a new cluster begins with a backup by restoreFrom`
	recoverNone    = `spec.recovery: Invalid value: neither backupName nor survivor is set — there is nothing to go on with — name an EtcdBackup in backupName, or in survivor a member whose volume is left`
	recoverBoth    = `spec.recovery: Invalid value: both backupName and survivor are set — the cluster goes on with one of them — take one away: a survivor has what was written after the backup`
	recoverDiskWhy = `recovery and storage.medium Memory do not go together — a backup is restored onto volumes, before etcd runs — set storage.medium to Disk in the same edit`
	recoverWhatWhy = ` — a word for another one recovers nothing — set it to `
	adoptUIDWhy    = `" is not the UID of a cluster — no volume would be found — use the value of the label etcd.quorate.dev/cluster-uid of the claims`
	adoptOnceWhy   = `adopt can only be set when the cluster is created, and stays — the cluster would lose the volumes that it has, or take others for its own — create the cluster anew with it`
	adoptAloneWhy  = `adopt goes with neither restoreFrom nor storage.medium Memory — the cluster begins with the data on the volumes of a deleted one — leave them out`
	restoreDiskWhy = `restoreFrom and storage.medium Memory do not go together — a backup is restored onto volumes, before etcd runs — use the medium Disk`
	backupID       = `00000000000000000042-20260101T000000.000Z-nightly`
	togetherWhy    = " change in one update — each moves one member at a time, and doing both at once would leave no way to tell which of them went wrong — change one, wait for Reconciling=False, then change the other"
)

const (
	startWhy      = "\" is not a time of the day — the window would never open — use hours and minutes such as 03:30"
	windowWhy     = "\" is not a duration from 10m to 24h — a shorter window is over before the turn of the last member, and a longer one is none — use hours and minutes such as 2h"
	windowZoneWhy = "\" is not the name of a time zone — nobody could tell when the window opens — use a name of the IANA database such as Europe/Berlin, or Etc/UTC"
)

var cases = []specCase{
	// Maintenance.
	{name: "a window", spec: `{maintenance: {window: {start: "03:30"}}}`},
	{name: "a window with all that it can have", spec: `{maintenance: {defragmentation: WhenFragmented, window: {days: [Saturday, Sunday], start: "23:59", duration: 24h, timeZone: America/Argentina/Buenos_Aires}}}`},
	{name: "the shortest window, in a zone with a sign", spec: `{maintenance: {window: {start: "00:00", duration: 10m, timeZone: Etc/GMT+12}}}`},
	{name: "defragmentation of full databases only", spec: `{maintenance: {defragmentation: WhenFull}}`},
	{name: "a policy of defragmentation that does not exist", spec: `{maintenance: {defragmentation: Never}}`, want: `spec.maintenance.defragmentation: Unsupported value: "Never": supported values: "WhenFragmented", "WhenFull"`},
	{name: "a window without a start", spec: `{maintenance: {window: {duration: 2h}}}`, want: `spec.maintenance.window.start: Required value`},
	{name: "a window at an hour that does not exist", spec: `{maintenance: {window: {start: "24:00"}}}`, want: `spec.maintenance.window.start: Invalid value: "24:00": "24:00` + startWhy},
	{name: "a window in the afternoon", spec: `{maintenance: {window: {start: "3:30pm"}}}`, want: `"3:30pm` + startWhy},
	{name: "a window on no day", spec: `{maintenance: {window: {start: "03:30", days: [Caturday]}}}`, want: `spec.maintenance.window.days[0]: Unsupported value: "Caturday"`},
	{name: "a window twice on one day", spec: `{maintenance: {window: {start: "03:30", days: [Monday, Monday]}}}`, want: `spec.maintenance.window.days[1]: Duplicate value: "Monday"`},
	{name: "too short a window", spec: `{maintenance: {window: {start: "03:30", duration: 9m59s}}}`, want: `spec.maintenance.window.duration: Invalid value: "9m59s": "9m59s` + windowWhy},
	{name: "too long a window", spec: `{maintenance: {window: {start: "03:30", duration: 25h}}}`, want: `"25h` + windowWhy},
	{name: "a zone that no zone is called", spec: `{maintenance: {window: {start: "03:30", timeZone: "UTC+1:00"}}}`, want: `spec.maintenance.window.timeZone: Invalid value: "UTC+1:00": "UTC+1:00` + windowZoneWhy},
	{name: "the zone of whoever runs the operator", spec: `{maintenance: {window: {start: "03:30", timeZone: Local}}}`, want: `"Local` + windowZoneWhy},
	{name: "a zone that is a file", spec: `{maintenance: {window: {start: "03:30", timeZone: ../../etc/passwd}}}`, want: `"../../etc/passwd` + windowZoneWhy},

	// Size.
	{name: "no spec at all"},
	{name: "an empty spec", spec: `{}`},
	{name: "one member", spec: `{size: 1}`},
	{name: "seven members", spec: `{size: 7}`},
	{name: "two members", spec: `{size: 2}`, want: `spec.size: Invalid value: 2: 2` + sizeWhy},
	{name: "four members", spec: `{size: 4}`, want: `4` + sizeWhy},
	{name: "no members", spec: `{size: 0}`, want: `spec.size: Invalid value: 0: 0` + noSizeWhy},
	{name: "fewer than none", spec: `{size: -1}`, want: `-1` + noSizeWhy},
	{name: "nine members", spec: `{size: 9}`, want: `9` + sizeWhy},
	{name: "a thousand million members", spec: `{size: 1000000000}`, want: `1000000000` + sizeWhy},
	{name: "a size with a fraction", spec: `{size: 3.5}`, want: `spec.size in body must be of type int32: "float64"`},
	{name: "a size in quotes", spec: `{size: "3"}`, want: `spec.size: Invalid value: "string": spec.size in body must be of type integer: "string"`},
	{name: "from three to seven at once", before: `{size: 3}`, spec: `{size: 7}`},
	{name: "from three to an even size", before: `{size: 3}`, spec: `{size: 4}`, want: `spec.size: Invalid value: 4: 4` + sizeWhy},

	// Version.
	{name: "the oldest 3.5", spec: `{version: "3.5.26"}`},
	{name: "a 3.7", spec: `{version: "3.7.3"}`},
	{name: "a version with a leading v", spec: `{version: v3.6.1}`, want: `spec.version: Invalid value: "v3.6.1": "v3.6.1` + versionWhy},
	{name: "the version latest", spec: `{version: latest}`, want: `"latest` + versionWhy},
	{name: "a minor release only", spec: `{version: "3.6"}`, want: `"3.6` + versionWhy},
	{name: "a release candidate", spec: `{version: 3.6.1-rc.0}`, want: `"3.6.1-rc.0` + versionWhy},
	{name: "an empty version", spec: `{version: ""}`, want: `"` + versionWhy},
	{name: "a patch release with a leading zero", spec: `{version: "3.6.01"}`, want: `"3.6.01` + versionWhy},
	{name: "a version that YAML reads as a number", spec: `{version: 3.6}`, want: `spec.version: Invalid value: "number": spec.version in body must be of type string: "number"`},
	{name: "etcd 3.4", spec: `{version: 3.4.30}`, want: `"3.4.30` + versionWhy},
	{name: "etcd 4", spec: `{version: 4.0.0}`, want: `"4.0.0` + versionWhy},
	{name: "a 3.5 that brings removed members back", spec: `{version: 3.5.25}`, want: `spec.version: Invalid value: "3.5.25": 3.5.25 is too old — before 3.5.26 etcd can bring removed members back to life in the upgrade to 3.6 — use 3.5.26 or later`},
	{name: "an early 3.5", spec: `{version: 3.5.4}`, want: `3.5.4 is too old`},
	{name: "an upgrade by one minor release", before: `{version: 3.5.35}`, spec: `{version: 3.6.16}`},
	{name: "an upgrade over two minor releases", before: `{version: 3.5.26}`, spec: `{version: 3.7.0}`, want: `3.7.0 skips a minor release after 3.5.26 — etcd migrates its data one minor release at a time — upgrade to 3.6.x first, or set update.through to true`},
	{name: "an upgrade through a minor release", before: `{version: 3.5.26}`, spec: `{version: 3.7.0, update: {through: true}}`},
	{name: "an upgrade through a minor release of one image", before: `{version: 3.5.26}`, spec: `{version: 3.7.0, update: {through: true}, image: {digest: "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"}}`, want: `3.7.0 skips a minor release after 3.5.26`},
	{name: "a downgrade that is asked for", before: `{version: 3.7.1}`, status: `{"incarnation":1,"clusterID":"cafe","version":"3.7.1"}`, spec: `{version: 3.6.14, update: {downgradeTo: "3.6"}}`},
	{name: "a downgrade to another release than is asked for", before: `{version: 3.7.1}`, status: `{"incarnation":1,"clusterID":"cafe","version":"3.7.1"}`, spec: `{version: 3.5.30, update: {downgradeTo: "3.6"}}`, want: `3.5.30 is a lower minor release than 3.7.1`},
	{name: "a downgrade over two minor releases", before: `{version: 3.7.1}`, status: `{"incarnation":1,"clusterID":"cafe","version":"3.7.1"}`, spec: `{version: 3.5.30, update: {downgradeTo: "3.5"}}`, want: `3.5.30 is a lower minor release than 3.7.1`},
	{name: "a downgrade to a patch release", spec: `{update: {downgradeTo: "3.6.1"}}`, want: `"3.6.1" is not a minor release that a cluster can be downgraded to — etcd goes back by one minor release at a time, from 3.7 or 3.6 — use 3.6 or 3.5`},
	{name: "a downgrade by edit", before: `{version: 3.7.1}`, status: `{"incarnation":1,"clusterID":"cafe","version":"3.7.1"}`, spec: `{version: 3.6.14}`, want: `3.6.14 is a lower minor release than 3.7.1 — an older etcd cannot open the data of a newer one, so a downgrade is a procedure of its own, unless a member still runs the older release — keep 3.7.x, or ask for a downgrade by one minor release with update.downgradeTo`},
	{name: "a downgrade by edit of a cluster of unknown version", before: `{version: 3.7.1}`, status: `{"incarnation":1,"clusterID":"cafe"}`, spec: `{version: 3.6.14}`, want: `3.6.14 is a lower minor release than 3.7.1`},
	{name: "an upgrade that is put back while a member runs the release of before", before: `{version: 3.7.1}`, status: `{"incarnation":1,"clusterID":"cafe","version":"3.6.14"}`, spec: `{version: 3.6.14}`},
	{name: "a lower release before anything was founded", before: `{version: 3.7.99}`, spec: `{version: 3.6.16}`},
	{name: "back to an earlier patch release", before: `{version: 3.6.14}`, spec: `{version: 3.6.2}`},
	{name: "size and version in one edit", before: `{size: 3, version: 3.6.14}`, spec: `{size: 5, version: 3.6.16}`, want: `spec.version: Invalid value: size (3 to 5) and version (3.6.14 to 3.6.16)` + togetherWhy},
	{name: "version and another field in one edit", before: `{version: 3.6.14}`, spec: `{version: 3.6.16, paused: true}`},

	// Image.
	{name: "a registry with a port", spec: `{image: {repository: "localhost:5000/etcd"}}`},
	{name: "a registry at an IPv6 address", spec: `{image: {repository: "[fd00::1]:5000/mirror/etcd"}}`},
	{name: "a bare repository", spec: `{image: {repository: etcd}}`},
	{name: "a repository with a tag", spec: `{image: {repository: "gcr.io/x/etcd:v3"}}`, want: `spec.image.repository: Invalid value: "gcr.io/x/etcd:v3": "gcr.io/x/etcd:v3` + tagWhy},
	{name: "a repository with a digest", spec: `{image: {repository: "gcr.io/x/etcd@` + digest + `"}}`, want: tagWhy},
	{name: "a repository with a space", spec: `{image: {repository: "quay.io/core os/etcd"}}`, want: `"quay.io/core os/etcd` + repositoryWhy},
	{name: "a repository in capitals", spec: `{image: {repository: "quay.io/CoreOS/etcd"}}`, want: `"quay.io/CoreOS/etcd` + repositoryWhy},
	{name: "an empty repository", spec: `{image: {repository: ""}}`, want: `"` + repositoryWhy},
	{name: "a repository with a scheme", spec: `{image: {repository: "https://quay.io/coreos/etcd"}}`, want: `"https://quay.io/coreos/etcd` + repositoryWhy},
	{name: "a digest", spec: `{image: {digest: "` + digest + `"}}`},
	{name: "half a digest", spec: `{image: {digest: "sha256:ab"}}`, want: `spec.image.digest: Invalid value: "sha256:ab": "sha256:ab` + digestWhy},
	{name: "a digest in capitals", spec: `{image: {digest: "` + strings.ToUpper(digest) + `"}}`, want: digestWhy},
	{name: "a pull policy in lower case", spec: `{image: {pullPolicy: always}}`, want: `spec.image.pullPolicy: Unsupported value: "always": supported values: "Always", "IfNotPresent", "Never"`},

	// Storage.
	{name: "a volume in whole bytes", spec: `{storage: {size: 8589934592}}`},
	{name: "a volume of exactly twice the quota", spec: `{storage: {size: 4Gi}, etcd: {quotaBackendBytes: 2Gi}}`},
	{name: "a volume below twice the quota", spec: `{storage: {size: 3Gi}, etcd: {quotaBackendBytes: 2Gi}}`, want: `spec.storage.size: Invalid value: 3Gi is less than twice etcd.quotaBackendBytes (2Gi)` + quotaRoomWhy},
	{name: "a volume below twice the default quota", spec: `{storage: {size: 1Gi}}`, want: `1Gi is less than twice etcd.quotaBackendBytes (2Gi)` + quotaRoomWhy},
	{name: "a volume of nothing", spec: `{storage: {size: 0}}`, want: `"0` + storageSizeWhy},
	{name: "a volume of less than nothing", spec: `{storage: {size: -1Gi}}`, want: `spec.storage.size: Invalid value: "-1Gi": "-1Gi` + storageSizeWhy},
	{name: "a unit that does not exist", spec: `{storage: {size: 8GiB}}`, want: `spec.storage.size: Invalid value: "8GiB": "8GiB` + storageSizeWhy},
	{name: "a unit after a space", spec: `{storage: {size: "8 G"}}`, want: `"8 G` + storageSizeWhy},
	{name: "an exponent that would hang whoever compares it", spec: `{storage: {size: "1e999999999"}}`, want: `"1e999999999` + storageSizeWhy},
	{name: "a volume grows", before: `{storage: {size: 8Gi}}`, spec: `{storage: {size: 10Gi}}`},
	{name: "a volume written in another unit", before: `{storage: {size: 8Gi}}`, spec: `{storage: {size: 8192Mi}}`},
	{name: "memory while the cluster is being founded", before: `{storage: {medium: Disk, size: 1Gi}, etcd: {quotaBackendBytes: 512Mi}, podTemplate: {resources: {limits: {memory: 2Gi}}}}`, status: `{"incarnation":1}`, spec: `{storage: {medium: Memory, size: 1Gi}, etcd: {quotaBackendBytes: 512Mi}, podTemplate: {resources: {limits: {memory: 2Gi}}}}`, want: `spec.storage.medium: Invalid value: the medium cannot change from Disk to Memory while the cluster is being founded — some members would begin on volumes and some in memory, without its data — wait until status.clusterID is written`},
	{name: "memory while the cluster is carried back", before: `{storage: {medium: Disk, size: 1Gi}, etcd: {quotaBackendBytes: 512Mi}, podTemplate: {resources: {limits: {memory: 2Gi}}}}`, status: `{"incarnation":1,"clusterID":"f00d","restore":{"name":"back","uid":"e7","begun":"2026-03-01T12:00:00Z"}}`, spec: `{storage: {medium: Memory, size: 1Gi}, etcd: {quotaBackendBytes: 512Mi}, podTemplate: {resources: {limits: {memory: 2Gi}}}}`, want: `the medium cannot change from Disk to Memory while the cluster is being carried back — some members would begin on volumes and some in memory, without its data — wait until status.restore is gone`},
	{name: "memory for a cluster that serves", before: `{storage: {medium: Disk, size: 1Gi}, etcd: {quotaBackendBytes: 512Mi}, podTemplate: {resources: {limits: {memory: 2Gi}}}}`, status: `{"incarnation":1,"clusterID":"f00d"}`, spec: `{storage: {medium: Memory, size: 1Gi}, etcd: {quotaBackendBytes: 512Mi}, podTemplate: {resources: {limits: {memory: 2Gi}}}}`},
	{name: "memory for it without a limit", before: `{storage: {medium: Disk}}`, status: `{"incarnation":1,"clusterID":"f00d"}`, spec: `{storage: {medium: Memory}}`, want: `no limit is too little for memory-backed storage of 8Gi` + memoryWhy},
	{name: "volumes for a cluster that serves", before: `{storage: {medium: Memory, size: 1Gi}, etcd: {quotaBackendBytes: 512Mi}, podTemplate: {resources: {limits: {memory: 2Gi}}}}`, status: `{"incarnation":1,"clusterID":"f00d"}`, spec: `{storage: {medium: Disk, size: 1Gi}, etcd: {quotaBackendBytes: 512Mi}, podTemplate: {resources: {limits: {memory: 2Gi}}}}`},
	{name: "the same medium", before: `{storage: {medium: Disk}}`, spec: `{storage: {medium: Disk, size: 9Gi}}`},
	{name: "TLS is turned off", before: `{}`, spec: `{tls: {mode: Disabled}}`, want: `spec.tls.mode: Invalid value: "Disabled": the mode cannot change from Enabled to Disabled — members that ask each other for certificates would have to trust whoever connects — use Optional, which takes clients without TLS as well`},
	{name: "TLS is turned off for those who want it", before: `{tls: {mode: Optional}}`, status: `{"incarnation":1,"clusterID":"cafe"}`, spec: `{tls: {mode: Disabled}}`, want: `the mode cannot change from Optional to Disabled`},
	{name: "TLS is turned on for all at once", before: `{tls: {mode: Disabled}}`, status: `{"incarnation":1,"clusterID":"cafe"}`, spec: `{tls: {mode: Enabled}}`, want: `the mode cannot change from Disabled to Enabled at once — every client without a certificate would be refused — set Optional, lead the clients over to TLS, and then set Enabled`},
	{name: "TLS is turned on by forgetting the mode", before: `{tls: {mode: Disabled}}`, status: `{"incarnation":1,"clusterID":"cafe"}`, spec: `{}`, want: `the mode cannot change from Disabled to Enabled at once`},
	{name: "TLS is turned on for those who want it", before: `{tls: {mode: Disabled}}`, status: `{"incarnation":1,"clusterID":"cafe"}`, spec: `{tls: {mode: Optional}}`},
	{name: "TLS is turned on while the cluster is being founded", before: `{tls: {mode: Disabled}}`, status: `{"incarnation":1}`, spec: `{tls: {mode: Optional}}`, want: `the mode cannot change from Disabled while the cluster is being founded — some members would found one cluster, and some another — wait until status.clusterID is written, or delete the cluster and create it with the mode that it is to have`},
	{name: "plaintext is taken away", before: `{tls: {mode: Optional}}`, spec: `{tls: {mode: Enabled}}`},
	{name: "plaintext is taken back in", before: `{tls: {mode: Enabled}}`, spec: `{tls: {mode: Optional}}`},
	{name: "the same mode and another life of the leaves", before: `{tls: {mode: Enabled}}`, spec: `{tls: {mode: Enabled, leafDuration: 100h}}`},
	{name: "a volume shrinks", before: `{storage: {size: 8Gi}}`, spec: `{storage: {size: 6Gi}}`, want: `spec.storage.size: Invalid value: "6Gi": 6Gi is less than 8Gi — a volume cannot shrink — keep 8Gi or more`},
	{name: "a class", spec: `{storage: {storageClassName: fast.example}}`},
	{name: "the class of no provisioner", spec: `{storage: {storageClassName: ""}}`},
	{name: "a class that no name can have", spec: `{storage: {storageClassName: "My Disks"}}`, want: `"My Disks` + classWhy},
	{name: "another class for new volumes", before: `{storage: {storageClassName: slow}}`, spec: `{storage: {storageClassName: fast}}`},
	{name: "a medium in lower case", spec: `{storage: {medium: memory}}`, want: `spec.storage.medium: Unsupported value: "memory": supported values: "Disk", "Memory"`},
	{name: "a medium that does not exist", spec: `{storage: {medium: RAMDisk}}`, want: `spec.storage.medium: Unsupported value: "RAMDisk"`},
	{name: "memory with enough of it", spec: `{storage: {medium: Memory, size: 1Gi}, etcd: {quotaBackendBytes: 512Mi}, podTemplate: {resources: {limits: {memory: 1280Mi}}}}`},
	{name: "memory without a limit", spec: `{storage: {medium: Memory}}`, want: `no limit is too little for memory-backed storage of 8Gi` + memoryWhy},
	{name: "memory with too small a limit", spec: `{storage: {medium: Memory, size: 1Gi}, etcd: {quotaBackendBytes: 512Mi}, podTemplate: {resources: {limits: {memory: 1279Mi}}}}`, want: `1279Mi is too little for memory-backed storage of 1Gi` + memoryWhy},
	{name: "volumes go with the cluster", spec: `{storage: {whenDeleted: Delete}}`},
	{name: "the shortest quarantine", spec: `{storage: {quarantineFor: 1h}}`},
	{name: "the longest quarantine", spec: `{storage: {quarantineFor: 8760h}}`},
	{name: "a quarantine in parts", spec: `{storage: {quarantineFor: 1h30m15s}}`},
	{name: "a longer quarantine later on", before: `{storage: {quarantineFor: 1h}}`, spec: `{storage: {quarantineFor: 1000h}}`},
	{name: "no quarantine", spec: `{storage: {quarantineFor: 0s}}`, want: `spec.storage.quarantineFor: Invalid value: "0s": "0s` + quarantineWhy},
	{name: "too short a quarantine", spec: `{storage: {quarantineFor: 59m59s}}`, want: `"59m59s` + quarantineWhy},
	{name: "too long a quarantine", spec: `{storage: {quarantineFor: 8760h1s}}`, want: `"8760h1s` + quarantineWhy},
	{name: "a quarantine in days", spec: `{storage: {quarantineFor: 7d}}`, want: `"7d` + quarantineWhy},
	{name: "a quarantine of less than nothing", spec: `{storage: {quarantineFor: -1h}}`, want: `"-1h` + quarantineWhy},
	{name: "a quarantine without end", spec: `{storage: {quarantineFor: ""}}`, want: `"` + quarantineWhy},
	{name: "a policy for volumes that does not exist", spec: `{storage: {whenDeleted: Keep}}`, want: `spec.storage.whenDeleted: Unsupported value: "Keep": supported values: "Retain", "Delete"`},

	// TLS.
	{name: "plaintext", spec: `{tls: {mode: Disabled}}`},
	{name: "a mode that does not exist", spec: `{tls: {mode: "off"}}`, want: `spec.tls.mode: Unsupported value: "off": supported values: "Enabled", "Optional", "Disabled"`},
	{name: "authorities of one's own", spec: `{tls: {client: {authoritySecretRef: {name: client-ca}}, peer: {authoritySecretRef: {name: peer-ca}}}}`},
	{name: "one authority for both ports", spec: `{tls: {client: {authoritySecretRef: {name: ca}}, peer: {authoritySecretRef: {name: ca}}}}`, want: `client and peer name the same authority — whoever has a client's certificate could join as a member, and read and write everything — name two Secrets with two authorities`},
	{name: "an authority of no name", spec: `{tls: {client: {authoritySecretRef: {name: ""}}}}`, want: `"" is not the name of a Secret`},
	{name: "certificates of cert-manager", spec: `{tls: {client: {certManager: {issuerRef: {name: clients}}}, peer: {certManager: {issuerRef: {name: peers, kind: ClusterIssuer}}}}}`},
	{name: "certificates of an issuer of one's own", spec: `{tls: {client: {certManager: {issuerRef: {name: clients, kind: StepIssuer, group: certmanager.step.sm}}}}}`},
	{name: "another issuer", before: `{tls: {client: {certManager: {issuerRef: {name: clients}}}}}`, spec: `{tls: {client: {certManager: {issuerRef: {name: others}}}}}`},
	{name: "no issuer any more", before: `{tls: {client: {certManager: {issuerRef: {name: clients}}}}}`, spec: `{tls: {}}`},
	{name: "one issuer for both ports", spec: `{tls: {client: {certManager: {issuerRef: {name: ca}}}, peer: {certManager: {issuerRef: {name: ca}}}}}`, want: `client and peer name the same issuer — whoever has a client's certificate could join as a member, and read and write everything — name two issuers with two authorities`},
	{name: "an issuer of no kind", spec: `{tls: {client: {certManager: {issuerRef: {name: ca, kind: CA}}}}}`, want: `"CA" is not a kind of issuer — cert-manager would wait for it for ever — use Issuer or ClusterIssuer, or set the group of an issuer of your own`},
	{name: "an issuer of no name", spec: `{tls: {client: {certManager: {issuerRef: {name: ""}}}}}`, want: `"" is not the name of an issuer — no certificate would ever be issued — name an Issuer of this namespace or a ClusterIssuer`},
	{name: "an issuer that is not named", spec: `{tls: {client: {certManager: {}}}}`, want: `spec.tls.client.certManager.issuerRef: Required value`},
	{name: "an issuer and an authority", spec: `{tls: {client: {authoritySecretRef: {name: ca}, certManager: {issuerRef: {name: ca}}}}}`, want: `2 of authoritySecretRef, certManager and memberSecretRef are set — each says who issues the certificates of this port, and only one can — leave one of them`},
	{name: "an issuer on one port and an authority on the other", spec: `{tls: {client: {certManager: {issuerRef: {name: ca}}}, peer: {authoritySecretRef: {name: ca}}}}`},
	{name: "leaves of an hour by cert-manager", spec: `{tls: {leafDuration: 1h, client: {certManager: {issuerRef: {name: ca}}}}}`},
	{name: "leaves of five minutes by cert-manager", spec: `{tls: {leafDuration: 5m, peer: {certManager: {issuerRef: {name: ca}}}}}`, want: `leafDuration is 5m, which is less than 1h — cert-manager refuses shorter certificates — use 1h or more`},
	{name: "certificates of one's own", spec: `{tls: {client: {memberSecretRef: {name: server}}, peer: {memberSecretRef: {name: peer}}, operatorSecretRef: {name: operator}, applicationSecretRef: {name: application}}}`},
	{name: "certificates of one's own for the members among themselves", spec: `{tls: {peer: {memberSecretRef: {name: peer}}}}`},
	{name: "one certificate for both ports", spec: `{tls: {client: {memberSecretRef: {name: server}}, peer: {memberSecretRef: {name: server}}, operatorSecretRef: {name: operator}, applicationSecretRef: {name: application}}}`, want: `client and peer name the same certificate — whoever has a client's certificate could join as a member, and read and write everything — name two Secrets with certificates of two authorities`},
	{name: "certificates for the members alone", spec: `{tls: {client: {memberSecretRef: {name: server}}}}`, want: `client.memberSecretRef, operatorSecretRef and applicationSecretRef belong together — nobody here has the key of the authority to issue the others, and the operator, backups and applications need certificates that the members take — set all three, or none of them`},
	{name: "a certificate for the operator alone", spec: `{tls: {operatorSecretRef: {name: operator}}}`, want: `client.memberSecretRef, operatorSecretRef and applicationSecretRef belong together`},
	{name: "the operator's certificate for applications", spec: `{tls: {client: {memberSecretRef: {name: server}}, operatorSecretRef: {name: one}, applicationSecretRef: {name: one}}}`, want: `operatorSecretRef and applicationSecretRef name the same certificate — the operator's is root to etcd's authentication, and every application would be — name two Secrets`},
	{name: "the shortest leaves", spec: `{tls: {leafDuration: 5m}}`},
	{name: "leaves of an hour and a half", spec: `{tls: {leafDuration: 1h30m0s}}`},
	{name: "the longest leaves", spec: `{tls: {leafDuration: 8760h}}`},
	{name: "a date for new authorities, and no time for applications", spec: `{tls: {rotateCA: "2026-03-01T12:00:00Z", rotationSoak: 0s}}`},
	{name: "a word for new authorities", spec: `{tls: {rotateCA: now}}`, want: `spec.tls.rotateCA: Invalid value: "now": "now` + timeWhy},
	{name: "a day alone for new authorities", spec: `{tls: {rotateCA: "2026-03-01"}}`, want: `"2026-03-01` + timeWhy},
	{name: "a month that no year has, for new authorities", spec: `{tls: {rotateCA: "2026-13-01T12:00:00Z"}}`, want: `"2026-13-01T12:00:00Z` + timeWhy},
	{name: "a time east of Greenwich for new authorities", spec: `{tls: {rotateCA: "2026-03-01T12:00:00+05:30"}}`},
	{name: "less than no time for applications", spec: `{tls: {rotationSoak: -1h}}`, want: `"-1h` + soakWhy},
	{name: "two years for applications", spec: `{tls: {rotationSoak: 17520h}}`, want: `spec.tls.rotationSoak: Invalid value: "17520h": "17520h` + soakWhy},
	{name: "leaves of a second", spec: `{tls: {leafDuration: 1s}}`, want: `spec.tls.leafDuration: Invalid value: "1s": "1s` + leafWhy},
	{name: "leaves of two years", spec: `{tls: {leafDuration: 17520h}}`, want: `"17520h` + leafWhy},
	{name: "leaves in days", spec: `{tls: {leafDuration: 90d}}`, want: `"90d` + leafWhy},
	{name: "leaves in words", spec: `{tls: {leafDuration: "90 days"}}`, want: `"90 days` + leafWhy},
	{name: "leaves without a duration", spec: `{tls: {leafDuration: ""}}`, want: `"` + leafWhy},
	{name: "leaves of less than nothing", spec: `{tls: {leafDuration: -1h}}`, want: `"-1h` + leafWhy},
	{name: "leaves of more time than there is", spec: `{tls: {leafDuration: 99999999999h}}`, want: `"99999999999h` + leafWhy},

	// Failover.
	{name: "the shortest patience", spec: `{failover: {replaceAfter: 1m, learnerTimeout: 1m}}`},
	{name: "no patience with a node", spec: `{failover: {replaceAfter: 0s}}`, want: `spec.failover.replaceAfter: Invalid value: "0s": "0s` + replaceWhy},
	{name: "a second of patience with a node", spec: `{failover: {replaceAfter: 1s}}`, want: `"1s` + replaceWhy},
	{name: "too little patience with a learner", spec: `{failover: {learnerTimeout: 59s}}`, want: `spec.failover.learnerTimeout: Invalid value: "59s": "59s` + learnerWhy},

	// etcd's options.
	{name: "the smallest quota", spec: `{etcd: {quotaBackendBytes: 64Mi}}`},
	{name: "the largest quota", spec: `{etcd: {quotaBackendBytes: 16Gi}, storage: {size: 32Gi}}`},
	{name: "too small a quota", spec: `{etcd: {quotaBackendBytes: 1Mi}}`, want: `spec.etcd.quotaBackendBytes: Invalid value: "1Mi": "1Mi` + quotaWhy},
	{name: "too large a quota", spec: `{etcd: {quotaBackendBytes: 100Gi}, storage: {size: 500Gi}}`, want: `"100Gi` + quotaWhy},
	{name: "a quota with an exponent", spec: `{etcd: {quotaBackendBytes: "1e999999999"}}`, want: `"1e999999999` + quotaWhy},
	{name: "a lower quota", before: `{etcd: {quotaBackendBytes: 2Gi}}`, spec: `{etcd: {quotaBackendBytes: 1Gi}}`},
	{name: "a slow network", spec: `{etcd: {heartbeatMs: 1000, electionMs: 10000}}`},
	{name: "no heartbeat", spec: `{etcd: {heartbeatMs: 0}}`, want: `spec.etcd.heartbeatMs: Invalid value: 0: 0` + heartbeatWhy},
	{name: "a heartbeat too slow for any election", spec: `{etcd: {heartbeatMs: 10001, electionMs: 50000}}`, want: `10001` + heartbeatWhy},
	{name: "five heartbeats and no more", spec: `{etcd: {heartbeatMs: 100, electionMs: 500}}`},
	{name: "an election within three heartbeats", spec: `{etcd: {heartbeatMs: 100, electionMs: 300}}`, want: `spec.etcd.electionMs: Invalid value: 300 is not between five heartbeats (5 x 100)` + electionWhy},
	{name: "an election after a minute", spec: `{etcd: {electionMs: 60000}}`, want: `60000 is not between five heartbeats (5 x 100)` + electionWhy},
	{name: "frequent snapshots", spec: `{etcd: {snapshotCount: 100}}`},
	{name: "no snapshots", spec: `{etcd: {snapshotCount: 0}}`, want: `spec.etcd.snapshotCount: Invalid value: 0: 0` + snapshotWhy},
	{name: "hardly any snapshot", spec: `{etcd: {snapshotCount: 100001}}`, want: `100001` + snapshotWhy},
	{name: "the largest requests", spec: `{etcd: {maxRequestBytes: 10485760}}`},
	{name: "requests of 100 MiB", spec: `{etcd: {maxRequestBytes: 100Mi}}`, want: `spec.etcd.maxRequestBytes: Invalid value: "100Mi": "100Mi` + requestWhy},
	{name: "requests of nothing", spec: `{etcd: {maxRequestBytes: 0}}`, want: `"0` + requestWhy},
	{name: "history of half an hour", spec: `{etcd: {autoCompaction: {retention: 30m}}}`},
	{name: "history of a number of revisions", spec: `{etcd: {autoCompaction: {mode: Revision, retention: "1000"}}}`},
	{name: "all history", spec: `{etcd: {autoCompaction: {retention: "0"}}}`},
	{name: "history in words", spec: `{etcd: {autoCompaction: {retention: "5 minutes"}}}`, want: `spec.etcd.autoCompaction.retention: Invalid value: "5 minutes" is not a retention of mode Periodic` + retentionWhy + `a duration such as 30m or 1h, or 0 to keep every revision`},
	{name: "history of less than nothing", spec: `{etcd: {autoCompaction: {retention: "-1"}}}`, want: `"-1" is not a retention of mode Periodic` + retentionWhy},
	{name: "a number of revisions without the mode", spec: `{etcd: {autoCompaction: {retention: "1000"}}}`, want: `"1000" is not a retention of mode Periodic` + retentionWhy},
	{name: "the mode Revision with the default of Periodic", spec: `{etcd: {autoCompaction: {mode: Revision}}}`, want: `"1h" is not a retention of mode Revision` + retentionWhy + `a number of revisions such as 1000, or 0 to keep every revision`},
	{name: "a mode of compaction in lower case", spec: `{etcd: {autoCompaction: {mode: periodic}}}`, want: `spec.etcd.autoCompaction.mode: Unsupported value: "periodic": supported values: "Periodic", "Revision"`},

	// Further flags.
	{name: "a harmless flag", spec: `{etcd: {extraArgs: {max-txn-ops: "512", log-level: debug, feature-gates: "InitialCorruptCheck=true"}}}`},
	{name: "flags with dashes in front", spec: `{etcd: {extraArgs: {"--snapshot-count": "1"}}}`, want: `spec.etcd.extraArgs: Invalid value: ["--snapshot-count"]` + flagNameWhy},
	{name: "a flag with a space", spec: `{etcd: {extraArgs: {"x y": "1"}}}`, want: `["x y"]` + flagNameWhy},
	{name: "a flag without a name", spec: `{etcd: {extraArgs: {"": "1"}}}`, want: `[""]` + flagNameWhy},
	{name: "a flag with its value in the name", spec: `{etcd: {extraArgs: {"name=x": ""}}}`, want: `["name=x"]` + flagNameWhy},
	{name: "flags of identity", spec: `{etcd: {extraArgs: {data-dir: /x, name: "a"}}}`, want: `"]` + flagNeverWhy},
	{name: "a flag of identity", spec: `{etcd: {extraArgs: {name: "a"}}}`, want: `spec.etcd.extraArgs: Invalid value: ["name"]` + flagNeverWhy},
	{name: "a flag of files", spec: `{etcd: {extraArgs: {data-dir: /x}}}`, want: `spec.etcd.extraArgs: Invalid value: ["data-dir"]` + flagNeverWhy},
	{name: "a flag that has a field", spec: `{etcd: {extraArgs: {quota-backend-bytes: "1"}}}`, want: `spec.etcd.extraArgs: Invalid value: ["quota-backend-bytes"]` + flagTypedWhy},
	{name: "logs to both streams", spec: `{etcd: {extraArgs: {log-outputs: "stdout,stderr"}}}`},
	{name: "logs to a file", spec: `{etcd: {extraArgs: {log-outputs: /var/log/etcd.log}}}`, want: `spec.etcd.extraArgs: Invalid value: log-outputs "/var/log/etcd.log` + logOutputsWhy},
	{name: "a flag with a very long value", spec: `{etcd: {extraArgs: {cors: "` + strings.Repeat("x", 1025) + `"}}}`, want: `["cors"]` + flagValueWhy},
	{name: "more flags than etcd has", spec: `{etcd: {extraArgs: {` + many(65) + `}}}`, want: `spec.etcd.extraArgs: Too many: 65: must have at most 64 items`},

	{name: "flags of more characters than an answer can hold", spec: `{etcd: {extraArgs: {` + long(7) + `}}}`, want: `…` + flagNameWhy},
	{name: "a flag of two lines", spec: `{etcd: {extraArgs: {"a\nb": "1"}}}`, want: flagNameWhy},

	// The pods.
	{name: "labels and annotations of one's own", spec: `{podTemplate: {labels: {team: storage, example.org/tier: gold}, annotations: {example.org/note: "Free text, of any kind: é"}}}`},
	// The API server names several keys in any order.
	{name: "two labels of the operator", spec: `{podTemplate: {labels: {app.kubernetes.io/instance: x, etcd.quorate.dev/member: "y"}}}`, want: `"] cannot be set here — the operator finds the members by its own labels` + ownedWhy},
	{name: "a label of the operator's kind", spec: `{podTemplate: {labels: {app.kubernetes.io/instance: x}}}`, want: `spec.podTemplate.labels: Invalid value: ["app.kubernetes.io/instance"] cannot be set here — the operator finds the members by its own labels` + ownedWhy},
	{name: "a label of the operator", spec: `{podTemplate: {labels: {etcd.quorate.dev/member: "y"}}}`, want: `spec.podTemplate.labels: Invalid value: ["etcd.quorate.dev/member"] cannot be set here — the operator finds the members by its own labels` + ownedWhy},
	{name: "annotations of the operator", spec: `{podTemplate: {annotations: {etcd.quorate.dev/release: x, quorate.dev/x: "y"}}}`, want: ` cannot be set here — the operator finds the members by its own annotations` + ownedWhy},
	{name: "a label that only looks like the operator's", spec: `{podTemplate: {labels: {notquorate.dev/x: "y", app.kubernetes.io/owner: me}}}`},
	{name: "a label with a space", spec: `{podTemplate: {labels: {"a b": x}}}`, want: `["a b"]: not the key of a label` + keyWhy},
	{name: "a label without a key", spec: `{podTemplate: {labels: {"": x}}}`, want: `[""]: not the key of a label` + keyWhy},
	{name: "a label with a long value", spec: `{podTemplate: {labels: {a: "` + strings.Repeat("x", 64) + `"}}}`, want: `["a"]` + labelValueWhy},
	{name: "an annotation with two slashes", spec: `{podTemplate: {annotations: {a/b/c: x}}}`, want: `["a/b/c"]: not the key of an annotation` + keyWhy},
	{name: "an annotation with a very long value", spec: `{podTemplate: {annotations: {a: "` + strings.Repeat("x", 65537) + `"}}}`, want: `["a"]` + annotationWhy},
	{name: "identities in clouds", spec: `{podTemplate: {serviceAccountAnnotations: {eks.amazonaws.com/role-arn: "arn:aws:iam::1:role/a", iam.gke.io/gcp-service-account: a@b.example}}}`},
	{name: "an identity of the operator", spec: `{podTemplate: {serviceAccountAnnotations: {etcd.quorate.dev/hash: x}}}`, want: `spec.podTemplate.serviceAccountAnnotations: Invalid value: ["etcd.quorate.dev/hash"] cannot be set here — the operator keeps its own annotations — use a key with a prefix of your own`},
	{name: "an identity without a key", spec: `{podTemplate: {serviceAccountAnnotations: {"": x}}}`, want: `[""]: not the key of an annotation — the ServiceAccount would be refused — use letters, digits, dashes, dots and underscores, with an optional DNS prefix before a slash`},
	{name: "an identity that is too long", spec: `{podTemplate: {serviceAccountAnnotations: {a: "` + strings.Repeat("x", 1025) + `"}}}`, want: `["a"] has a value of more than 1024 characters — names of roles and of clients are shorter — use a shorter value`},
	{name: "too many identities", spec: `{podTemplate: {serviceAccountAnnotations: {` + many(17) + `}}}`, want: `spec.podTemplate.serviceAccountAnnotations: Too many: 17: must have at most 16 items`},
	{name: "AppArmor by annotation", spec: `{podTemplate: {annotations: {container.apparmor.security.beta.kubernetes.io/etcd: unconfined}}}`, want: `["container.apparmor.security.beta.kubernetes.io/etcd"]` + apparmorKeyWhy},
	{name: "too many labels", spec: `{podTemplate: {labels: {` + many(65) + `}}}`, want: `spec.podTemplate.labels: Too many: 65: must have at most 64 items`},
	{name: "ten thousand labels", spec: `{podTemplate: {labels: {` + many(10000) + `}}}`, want: `spec.podTemplate.labels: Too many: 10000: must have at most 64 items`},
	{name: "requests and limits", spec: `{podTemplate: {resources: {requests: {cpu: 500m, memory: 1Gi, ephemeral-storage: 100Mi}, limits: {cpu: 2, memory: 256Mi}}}}`},
	{name: "a cpu that is no number", spec: `{podTemplate: {resources: {limits: {cpu: abc}}}}`, want: `"abc` + cpuWhy},
	{name: "a request of less than no cpu", spec: `{podTemplate: {resources: {requests: {cpu: -1}}}}`, want: `"-1` + cpuWhy},
	{name: "a limit of memory that would hang whoever reads it", spec: `{podTemplate: {resources: {limits: {memory: 1e9999999999}}}}`, want: `"1e9999999999` + memQuantityWhy},
	{name: "a request of memory that is no number", spec: `{podTemplate: {resources: {requests: {memory: much}}}}`, want: `"much` + memQuantityWhy},
	{name: "a limit of disk that is no number", spec: `{podTemplate: {resources: {limits: {ephemeral-storage: "1e5"}}}}`, want: `"1e5` + diskWhy},
	{name: "a request of disk that is no number", spec: `{podTemplate: {resources: {requests: {ephemeral-storage: "-1Gi"}}}}`, want: `"-1Gi` + diskWhy},
	{name: "too little memory", spec: `{podTemplate: {resources: {limits: {memory: 64Mi}}}}`, want: `64Mi` + minMemoryWhy},
	{name: "a limit of graphics cards", spec: `{podTemplate: {resources: {limits: {nvidia.com/gpu: 1}}}}`, want: `spec.podTemplate.resources.limits: Invalid value: limits` + resourceWhy},
	{name: "a request of huge pages", spec: `{podTemplate: {resources: {requests: {hugepages-2Mi: 1Gi}}}}`, want: `spec.podTemplate.resources.requests: Invalid value: requests` + resourceWhy},
	{name: "resource claims", spec: `{podTemplate: {resources: {claims: [{name: a}]}}}`, want: `spec.podTemplate.resources.claims: Invalid value: ` + claimsWhy},
	{name: "a node selector", spec: `{podTemplate: {nodeSelector: {kubernetes.io/os: linux, disk: ssd}}}`},
	{name: "a node selector with a space", spec: `{podTemplate: {nodeSelector: {"a b": x}}}`, want: `spec.podTemplate.nodeSelector: Invalid value: ["a b"]: not the key of a label` + keyWhy},
	{name: "a node selector that matches no node", spec: `{podTemplate: {nodeSelector: {a: "` + strings.Repeat("x", 64) + `"}}}`, want: `["a"]` + selectorWhy},
	{name: "anti-affinity and tolerations", spec: `{podTemplate: {tolerations: [{key: a, operator: Exists, effect: NoSchedule}], affinity: {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: kubernetes.io/hostname, labelSelector: {matchLabels: {a: b}}}]}}}}`},
	{name: "more tolerations than anyone has", spec: `{podTemplate: {tolerations: [` + strings.Repeat("{key: a},", 33) + `]}}`, want: `spec.podTemplate.tolerations: Too many: 33: must have at most 32 items`},
	{name: "spread over nodes and zones", spec: `{podTemplate: {topologySpreadConstraints: [{topologyKey: kubernetes.io/hostname, maxSkew: 1, whenUnsatisfiable: DoNotSchedule}, {topologyKey: zone, maxSkew: 1, whenUnsatisfiable: ScheduleAnyway}]}}`},
	{name: "one spread twice", spec: `{podTemplate: {topologySpreadConstraints: [{topologyKey: a, maxSkew: 1, whenUnsatisfiable: DoNotSchedule}, {topologyKey: a, maxSkew: 2, whenUnsatisfiable: DoNotSchedule}]}}`, want: `spec.podTemplate.topologySpreadConstraints[1]: Duplicate value`},
	{name: "a priority class", spec: `{podTemplate: {priorityClassName: system-cluster-critical}}`},
	{name: "a priority class that no name can have", spec: `{podTemplate: {priorityClassName: Very High}}`, want: `"Very High` + priorityWhy},
	{name: "a pull secret", spec: `{podTemplate: {imagePullSecrets: [{name: registry}]}}`},
	{name: "a pull secret without a name", spec: `{podTemplate: {imagePullSecrets: [{}]}}`, want: `spec.podTemplate.imagePullSecrets: Invalid value: ` + pullSecretWhy},
	{name: "a seccomp profile of the node", spec: `{podTemplate: {seccompProfile: {type: Localhost, localhostProfile: etcd.json}}}`},
	{name: "no seccomp", spec: `{podTemplate: {seccompProfile: {type: Unconfined}}}`, want: `spec.podTemplate.seccompProfile.type: Invalid value: "Unconfined` + profileWhy},
	{name: "a seccomp profile of the node without its name", spec: `{podTemplate: {seccompProfile: {type: Localhost}}}`, want: localhostWhy + `Localhost) — every pod of the cluster would be refused — set both or neither`},
	{name: "an AppArmor profile", spec: `{podTemplate: {appArmorProfile: {type: RuntimeDefault}}}`},
	{name: "no AppArmor", spec: `{podTemplate: {appArmorProfile: {type: Unconfined}}}`, want: `spec.podTemplate.appArmorProfile.type: Invalid value: "Unconfined` + profileWhy},
	{name: "an AppArmor profile with a name too many", spec: `{podTemplate: {appArmorProfile: {type: RuntimeDefault, localhostProfile: x}}}`, want: localhostWhy + `RuntimeDefault) — every pod of the cluster would be refused — set both or neither`},

	// The backup that a cluster begins with.
	{name: "a backup to begin with", spec: `{restoreFrom: {backupName: nightly-20260101-0300, allowUnverified: true}}`},
	{name: "a store to begin with", spec: `{restoreFrom: {store: {s3: {bucket: backups, credentialsSecretRef: {name: s3}}}, clusterUID: 5e1f-c1, backupID: ` + backupID + `, identitySecretRef: {name: age}}}`},
	{name: "nothing to begin with", spec: `{restoreFrom: {}}`, want: `spec.restoreFrom: Invalid value: ` + restoreOneWhy},
	{name: "two backups to begin with", spec: `{restoreFrom: {backupName: a, store: {s3: {bucket: backups}}, clusterUID: a, backupID: ` + backupID + `}}`, want: restoreOneWhy},
	{name: "a store without a backup", spec: `{restoreFrom: {store: {s3: {bucket: backups}}}}`, want: restoreAllWhy},
	{name: "a backup that is not in any store", spec: `{restoreFrom: {backupName: a, backupID: ` + backupID + `}}`, want: restoreAllWhy},
	{name: "a store that is none", spec: `{restoreFrom: {store: {}, clusterUID: a, backupID: ` + backupID + `}}`, want: `spec.restoreFrom.store: Invalid value: the store names 0` + storeWhy},
	{name: "a cluster that no backup is of", spec: `{restoreFrom: {store: {s3: {bucket: backups}}, clusterUID: ../a, backupID: ` + backupID + `}}`, want: `"../a` + restoreUIDWhy},
	{name: "the latest backup, whichever that is", spec: `{restoreFrom: {store: {s3: {bucket: backups}}, clusterUID: a, backupID: latest}}`, want: `"latest` + restoreIDWhy},
	{name: "a backup in memory", spec: `{restoreFrom: {backupName: a}, storage: {medium: Memory, size: 4Gi}, podTemplate: {resources: {limits: {memory: 5Gi}}}}`, want: `spec.restoreFrom: Invalid value: ` + restoreDiskWhy},
	{name: "a backup for a running cluster", before: `{size: 3}`, spec: `{restoreFrom: {backupName: a}}`, want: `spec.restoreFrom: Invalid value: ` + restoreOnceWhy},
	{name: "another backup later", before: `{restoreFrom: {backupName: a}}`, spec: `{restoreFrom: {backupName: b}}`, want: restoreOnceWhy},
	{name: "a revision of an archive", spec: `{restoreFrom: {archiveName: continuous, toRevision: 42}}`},
	{name: "a time of an archive", spec: `{restoreFrom: {archiveName: continuous, toTime: "2026-03-29T11:59:00Z"}}`},
	{name: "a revision after a backup", spec: `{restoreFrom: {backupName: a, toRevision: 42}}`},
	{name: "a time in a store", spec: `{restoreFrom: {store: {s3: {bucket: backups}}, clusterUID: a, toTime: "2026-03-29T11:59:00Z"}}`},
	{name: "a time that is none", spec: `{restoreFrom: {archiveName: a, toTime: noon}}`, want: `spec.restoreFrom.toTime: Invalid value: "noon": "noon` + restoreTimeWhy},
	{name: "a time within a second", spec: `{restoreFrom: {archiveName: a, toTime: "2026-03-29T13:59:00.25+02:00"}}`},
	{name: "a time without a zone", spec: `{restoreFrom: {archiveName: a, toTime: "2026-03-29T11:59:00"}}`, want: restoreTimeWhy},
	{name: "two points", spec: `{restoreFrom: {archiveName: a, toRevision: 42, toTime: "2026-03-29T11:59:00Z"}}`, want: restoreTwoWhy},
	{name: "an archive without a point", spec: `{restoreFrom: {archiveName: a}}`, want: restoreEndWhy},
	{name: "a revision that is none", spec: `{restoreFrom: {archiveName: a, toRevision: 0}}`, want: `0` + restoreRevWhy},
	{name: "an archive and a backup", spec: `{restoreFrom: {archiveName: a, backupName: a, toRevision: 42}}`, want: restoreOneWhy},
	{name: "another revision later", before: `{restoreFrom: {archiveName: a, toRevision: 42}}`, spec: `{restoreFrom: {archiveName: a, toRevision: 43}}`, want: restoreOnceWhy},
	{name: "another time later", before: `{restoreFrom: {archiveName: a, toTime: "2026-03-29T11:59:00Z"}}`, spec: `{restoreFrom: {archiveName: a, toTime: "2026-03-29T12:00:00Z"}}`, want: restoreOnceWhy},
	{name: "another archive later", before: `{restoreFrom: {archiveName: a, toRevision: 42}}`, spec: `{restoreFrom: {archiveName: b, toRevision: 42}}`, want: restoreOnceWhy},
	{name: "another size after a point was restored", before: `{restoreFrom: {archiveName: a, toTime: "2026-03-29T11:59:00Z"}}`, spec: `{size: 5, restoreFrom: {archiveName: a, toTime: "2026-03-29T11:59:00Z"}}`},
	{name: "no backup any more", before: `{restoreFrom: {backupName: a}}`, spec: `{}`, want: restoreOnceWhy},
	{name: "volumes to adopt", spec: `{adopt: {clusterUID: 5e1f0c1a-0000-4000-8000-000000000001}}`},
	{name: "a name to adopt", spec: `{adopt: {clusterUID: etcd-cluster}}`, want: `"etcd-cluster` + adoptUIDWhy},
	{name: "volumes for a running cluster", before: `{size: 3}`, spec: `{adopt: {clusterUID: 5e1f0c1a-0000-4000-8000-000000000001}}`, want: `spec.adopt: Invalid value: ` + adoptOnceWhy},
	{name: "adopted volumes given up", before: `{adopt: {clusterUID: 5e1f0c1a-0000-4000-8000-000000000001}}`, spec: `{}`, want: adoptOnceWhy},
	{name: "other volumes later", before: `{adopt: {clusterUID: 5e1f0c1a-0000-4000-8000-000000000001}}`, spec: `{adopt: {clusterUID: 5e1f0c1a-0000-4000-8000-000000000002}}`, want: adoptOnceWhy},
	{name: "another size after an adoption", before: `{adopt: {clusterUID: 5e1f0c1a-0000-4000-8000-000000000001}}`, spec: `{size: 5, adopt: {clusterUID: 5e1f0c1a-0000-4000-8000-000000000001}}`},
	{name: "volumes and a backup", spec: `{restoreFrom: {backupName: a}, adopt: {clusterUID: 5e1f0c1a-0000-4000-8000-000000000001}}`, want: `spec.adopt: Invalid value: ` + adoptAloneWhy},
	{name: "volumes in memory", spec: `{adopt: {clusterUID: 5e1f0c1a-0000-4000-8000-000000000001}, storage: {medium: Memory, size: 4Gi}, podTemplate: {resources: {limits: {memory: 5Gi}}}}`, want: adoptAloneWhy},
	{name: "another size after a restore", before: `{restoreFrom: {backupName: a}}`, spec: `{size: 5, restoreFrom: {backupName: a}}`},

	// The backup that a cluster goes on with when its quorum is lost.
	{name: "a recovery", before: `{size: 3}`, status: `{"incarnation":1}`, spec: `{recovery: {incarnation: 1, backupName: nightly-20260101-0300, allowUnverified: true}}`},
	{name: "a recovery before status is there again", before: `{size: 3}`, spec: `{recovery: {incarnation: 1, backupName: a}}`},
	{name: "a second recovery", before: `{size: 3}`, status: `{"incarnation":2}`, spec: `{recovery: {incarnation: 2, backupName: a}}`},
	{name: "a recovery of a new cluster", spec: `{recovery: {incarnation: 1, backupName: a}}`, want: `spec.recovery: Invalid value: ` + recoverWhenWhy},
	{name: "a recovery of a new cluster that begins with a backup", spec: `{restoreFrom: {backupName: a}, recovery: {incarnation: 1, backupName: a}}`, want: recoverWhenWhy},
	{name: "a recovery of volumes that are to be adopted", spec: `{adopt: {clusterUID: 5e1f0c1a-0000-4000-8000-000000000001}, recovery: {incarnation: 1, backupName: a}}`, want: recoverWhenWhy},
	{name: "a recovery of what began with a backup", before: `{restoreFrom: {backupName: a}}`, status: `{"incarnation":1}`, spec: `{restoreFrom: {backupName: a}, recovery: {incarnation: 1, backupName: b}}`},
	{name: "a recovery of what was adopted", before: `{adopt: {clusterUID: 5e1f0c1a-0000-4000-8000-000000000001}}`, status: `{"incarnation":3}`, spec: `{adopt: {clusterUID: 5e1f0c1a-0000-4000-8000-000000000001}, recovery: {incarnation: 3, backupName: b}}`},
	{name: "a recovery of the next incarnation", before: `{size: 3}`, status: `{"incarnation":1}`, spec: `{recovery: {incarnation: 2, backupName: a}}`, want: `spec.recovery.incarnation: Invalid value: 2 is not the incarnation of the cluster, 1` + recoverWhatWhy + `1, which is status.incarnation`},
	{name: "a recovery of the last incarnation", before: `{size: 3}`, status: `{"incarnation":2}`, spec: `{recovery: {incarnation: 1, backupName: a}}`, want: `1 is not the incarnation of the cluster, 2` + recoverWhatWhy + `2, which is status.incarnation`},
	{name: "a recovery of no incarnation", before: `{size: 3}`, spec: `{recovery: {backupName: a}}`, want: `spec.recovery.incarnation: Required value`},
	{name: "a recovery of incarnation 0", before: `{size: 3}`, spec: `{recovery: {incarnation: 0, backupName: a}}`, want: `spec.recovery.incarnation: Invalid value: 0: `},
	{name: "a recovery from nothing", before: `{size: 3}`, spec: `{recovery: {incarnation: 1}}`, want: recoverNone},
	{name: "a recovery from a survivor", before: `{size: 3}`, status: `{"incarnation":1}`, spec: `{recovery: {incarnation: 1, survivor: c-0000}}`},
	{name: "a recovery from a survivor of the last incarnation", before: `{size: 3}`, status: `{"incarnation":2}`, spec: `{recovery: {incarnation: 1, survivor: c-0000}}`, want: `1 is not the incarnation of the cluster, 2` + recoverWhatWhy + `2, which is status.incarnation`},
	{name: "a recovery from both", before: `{size: 3}`, spec: `{recovery: {incarnation: 1, backupName: a, survivor: c-0000}}`, want: recoverBoth},
	{name: "a recovery from a survivor without a name", before: `{size: 3}`, spec: `{recovery: {incarnation: 1, survivor: ""}}`, want: `spec.recovery.survivor: Invalid value: `},
	{name: "a recovery from an unverified survivor", before: `{size: 3}`, spec: `{recovery: {incarnation: 1, survivor: c-0000, allowUnverified: true}}`, want: `spec.recovery: Invalid value: allowUnverified is true and survivor is set — a survivor is no backup, and nobody has verified it — leave allowUnverified out`},
	{name: "a recovery from a survivor in memory", before: `{storage: {medium: Memory, size: 4Gi}, podTemplate: {resources: {limits: {memory: 5Gi}}}}`, spec: `{storage: {medium: Memory, size: 4Gi}, podTemplate: {resources: {limits: {memory: 5Gi}}}, recovery: {incarnation: 1, survivor: c-0000}}`, want: `spec.recovery: Invalid value: ` + recoverDiskWhy},
	{name: "a recovery from no name", before: `{size: 3}`, spec: `{recovery: {incarnation: 1, backupName: ""}}`, want: `spec.recovery.backupName: Invalid value: `},
	{name: "a recovery in memory", before: `{storage: {medium: Memory, size: 4Gi}, podTemplate: {resources: {limits: {memory: 5Gi}}}}`, spec: `{storage: {medium: Memory, size: 4Gi}, podTemplate: {resources: {limits: {memory: 5Gi}}}, recovery: {incarnation: 1, backupName: a}}`, want: `spec.recovery: Invalid value: ` + recoverDiskWhy},

	// The network.
	{name: "peers of every kind", spec: `{networkPolicy: {clientFrom: [{ipBlock: {cidr: 10.0.0.0/8}}, {podSelector: {}, namespaceSelector: {}}], metricsFrom: [{namespaceSelector: {matchLabels: {a: b}}}]}}`},
	{name: "a peer without anything", spec: `{networkPolicy: {clientFrom: [{}]}}`, want: `spec.networkPolicy.clientFrom: Invalid value: ` + peerWhy},
	{name: "a scraper of two kinds", spec: `{networkPolicy: {metricsFrom: [{ipBlock: {cidr: 10.0.0.0/8}, podSelector: {}}]}}`, want: `spec.networkPolicy.metricsFrom: Invalid value: ` + peerWhy},
	{name: "a network with too long a prefix", spec: `{networkPolicy: {clientFrom: [{ipBlock: {cidr: 10.0.0.0/33}}]}}`, want: `["10.0.0.0/33"]` + networkWhy},

	// What the API does not have, because it breaks the restricted profile or
	// hands the container over.
	{name: "a field that does not exist", spec: `{bogus: 1}`, want: `strict decoding error: unknown field "spec.bogus"`},
	{name: "the host's network", spec: `{podTemplate: {hostNetwork: true}}`, want: `unknown field "spec.podTemplate.hostNetwork"`},
	{name: "the host's processes", spec: `{podTemplate: {hostPID: true}}`, want: `unknown field "spec.podTemplate.hostPID"`},
	{name: "a privileged container", spec: `{podTemplate: {securityContext: {privileged: true}}}`, want: `unknown field "spec.podTemplate.securityContext"`},
	{name: "another user", spec: `{podTemplate: {runAsUser: 0}}`, want: `unknown field "spec.podTemplate.runAsUser"`},
	{name: "the host's files", spec: `{podTemplate: {volumes: [{hostPath: {path: /}}]}}`, want: `unknown field "spec.podTemplate.volumes"`},
	{name: "another command", spec: `{podTemplate: {containers: [{name: etcd, command: [sh]}]}}`, want: `unknown field "spec.podTemplate.containers"`},
	{name: "another service account", spec: `{podTemplate: {serviceAccountName: admin}}`, want: `unknown field "spec.podTemplate.serviceAccountName"`},
	{name: "a volume for many writers", spec: `{storage: {accessModes: [ReadWriteMany]}}`, want: `unknown field "spec.storage.accessModes"`},

	// Names.
	{name: "the longest name", object: strings.Repeat("a", 40), spec: `{}`},
	{name: "too long a name", object: strings.Repeat("a", 41), spec: `{}`, want: `metadata.name ` + strings.Repeat("a", 41) + ` has 41` + nameLengthWhy},
	{name: "a name that starts with a digit", object: "1etcd", spec: `{}`, want: `metadata.name 1etcd` + nameLabelWhy},
	{name: "a name with a dot", object: "a.b", spec: `{}`, want: `metadata.name a.b` + nameLabelWhy},
}

// many is n different keys of a YAML map.
func many(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "k%d: \"1\", ", i)
	}
	return b.String()
}

// long is n keys of a YAML map, each as long as YAML allows and no flag's name.
func long(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "%d%s: \"1\", ", i, strings.Repeat("-", 1000))
	}
	return b.String()
}
