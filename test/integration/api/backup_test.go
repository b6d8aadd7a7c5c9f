package api

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/resources"
	"github.com/quorate/quorate/internal/snapshot"
)

// kinds of the API beside EtcdCluster, and the files of their definitions.
var kinds = map[string]string{"EtcdBackup": "etcdbackups", "EtcdBackupSchedule": "etcdbackupschedules", "EtcdRestore": "etcdrestores", "EtcdArchive": "etcdarchives"}

const (
	s3Store = `{s3: {bucket: backups}}`
	oneKey  = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"

	storeWhy     = ` places — a backup lies in exactly one of them — set one of s3, gcs, azure and persistentVolumeClaim`
	clusterWhy   = `" is not the name of an EtcdCluster — there would be nothing to back up — use a name from kubectl get etcdclusters in this namespace`
	secretWhy    = `" is not the name of a Secret — the pod that needs it would never start — name a Secret of this namespace`
	endpointWhy  = `" is not the address of an S3 server — nothing could be written there — use a form such as https://s3.example.com:9000, without a path, a user or a password, or leave it out for Amazon`
	bucketWhy    = `" is not the name of a bucket of S3 — every request would be refused — use 3 to 63 lower-case letters, digits, dashes and single dots`
	regionWhy    = `" is not the name of a region — requests are signed with it, and every one would be refused — use a name such as eu-central-1`
	prefixWhy    = ` — the backup could not be found again where it was asked for — use letters, digits, dashes, dots and underscores between single slashes, and begin and end each part with a letter or a digit`
	gcsWhy       = `" is not the name of a bucket of Google Cloud Storage — every request would be refused — use 3 to 222 lower-case letters, digits, dashes, underscores and dots`
	accountWhy   = `" is not the name of a storage account — it is a part of the host name, which could not be found — use 3 to 24 lower-case letters and digits`
	containerWhy = `" is not the name of a container of Azure — every request would be refused — use 3 to 63 lower-case letters, digits and single dashes`
	claimWhy     = `" is not the name of a PersistentVolumeClaim — the pod that mounts it would never start — use a name from kubectl get pvc`
	pathWhy      = `" is not a directory on the volume — a backup could not be found again where it was asked for — use letters, digits, dashes, dots and underscores between single slashes, and begin and end each part with a letter or a digit`
	recipientWhy = `: not a public key of age — the backup could not be encrypted, and a mistyped key could be read by nobody — use the keys that age-keygen -y prints`
	identityWhy  = `verify is Drill and the encryption has no identitySecretRef — a backup that cannot be decrypted cannot be tried out — name the Secret of one of the recipients' private keys, or set verify to ReadBack`
	rateWhy      = `" is not a rate from 64Ki to 10Gi a second — a slower backup never ends, and a faster one is no limit — use a quantity such as 32Mi`
	timeoutWhy   = `" is not a duration from 1m to 168h — a backup that is given up too soon is never made, and one that hangs holds up the next — use minutes and hours such as 2h`
	accountSAWhy = `" is not the name of a ServiceAccount — no pod of the backup would be created — use a name from kubectl get serviceaccounts`
	fixedWhy     = `the spec of a backup cannot change, apart from deletionPolicy and drillAfter — it says what lies in the store, and how it was made — create another EtcdBackup`
	urlWhy       = `the URL of a backup cannot change — what was verified would be another object than what is restored — read the object again before writing its status`
	backupWhy    = ` is not a DNS label of at most 56 characters — the names of Jobs are made from it — use lower-case letters, digits and dashes`

	cronWhy       = `" is not a schedule — no backup would ever be made — use five fields with one space between them, such as "0 3 * * *" for every day at three, and timeZone for the zone`
	neverWhy      = `" names a day that none of its months has — no backup would ever be made — use a day that comes, such as 28`
	zoneWhy       = `" is not the name of a time zone — it would not be known when a backup is due — use a name such as Etc/UTC or Europe/Berlin`
	keepWhy       = `the retention keeps no backup — each would be deleted as soon as there is a newer one — set keepLast, keepHourly, keepDaily or keepWeekly to at least 1`
	lastWhy       = ` backups are not between 0 and 1000 — each is an object that is read on every pass — use keepHourly, keepDaily and keepWeekly to keep a few of many`
	hourlyWhy     = ` hours are not between 0 and 1000 — each keeps an object that is read on every pass — use keepDaily and keepWeekly to look further back`
	dailyWhy      = ` days are not between 0 and 1000 — each keeps an object that is read on every pass — use keepWeekly to look further back`
	weeklyWhy     = ` weeks are not between 0 and 1000 — each keeps an object that is read on every pass — use at most 1000`
	sameWhy       = `clusterRef cannot change — the retention would count the backups of two clusters as one's — create another EtcdBackupSchedule`
	drillKeyWhy   = `drillEvery is not 0s and the encryption has no identitySecretRef — an archive that cannot be decrypted cannot be tried out — name the Secret of one of the recipients' private keys, or set drillEvery to 0s`
	oneArchive    = `clusterRef cannot change — status would tell of one cluster's writes and the pod archive another's — create another EtcdArchive`
	sealWhy       = `" is not a duration from 100ms to 1m — what is gathered is lost with the cluster, and every object has its price — use seconds such as 2s`
	lagWhy        = `" is not a duration from 10s to 168h — nobody would be told in time that writes are not archived, or would be at every restart of a pod — use minutes such as 5m`
	drillAfterWhy = `" is not a time — a drill that ended before it would not count — use the form 2026-03-01T12:00:00Z, which date -u +%FT%TZ prints`
	rotWhy        = `" is neither 0s nor a duration from 1h to 8760h — a drill takes a whole etcd, and without any nobody sees that a backup has rotted in the store — use hours such as 168h`
	boundWhy      = `" is neither 0s nor a duration from 24h to 87600h — what is older is deleted, and a mistake is seldom found on the same day — use hours such as 720h`
	drillWhy      = `" is neither 0s nor a duration from 1h to 8760h — a drill takes a whole etcd, and without any nobody has seen that the archive can be restored — use hours such as 168h`
	archiverWhy   = `" is not the name of a ServiceAccount — no pod of the archive would be created — use a name from kubectl get serviceaccounts`
	archiveWhy    = ` is not a DNS label of at most 40 characters — the names of its pods are made from it — use lower-case letters, digits and dashes`
	archivedWhy   = `the cluster of an archive cannot change — two clusters' writes would be told as one's — create another EtcdArchive`
	scheduleWhy   = ` is not a DNS label of at most 40 characters — the names of its backups are made from it and the time — use lower-case letters, digits and dashes`
)

// backupOf is the spec of a backup with this store and what else is said.
func backupOf(store string, more ...string) string {
	return "{clusterRef: {name: a}, store: " + store + strings.Join(append([]string{""}, more...), ", ") + "}"
}

// every is the spec of a schedule at these times.
func every(schedule string, more ...string) string {
	return `{schedule: "` + schedule + `", backup: ` + backupOf(s3Store) + strings.Join(append([]string{""}, more...), ", ") + "}"
}

func s3(field, value string) string {
	return backupOf(`{s3: {bucket: backups, ` + field + `: "` + value + `"}}`)
}

var backupCases = []specCase{
	{name: "the least", spec: backupOf(s3Store)},
	{name: "no spec", spec: `{}`, want: `spec.clusterRef: Required value`},
	{name: "everything that S3 has", spec: backupOf(`{s3: {endpoint: "http://minio.storage.svc:9000", bucket: my-backups.eu, region: eu-central-1, prefix: clusters/production, credentialsSecretRef: {name: s3}, caSecretRef: {name: s3-ca}, forcePathStyle: false}}`)},
	{name: "everything else", spec: backupOf(s3Store, `encryption: {recipients: [`+oneKey+`], identitySecretRef: {name: age}}`, `verify: Drill`, `rateLimit: 100Mi`, `timeout: 30m`, `serviceAccountName: backups`, `deletionPolicy: Delete`)},
	{name: "Google", spec: backupOf(`{gcs: {bucket: my_backups, prefix: a, credentialsSecretRef: {name: gcs}}}`)},
	{name: "Azure", spec: backupOf(`{azure: {account: backups, container: etcd, credentialsSecretRef: {name: azure}}}`)},
	{name: "a volume", spec: backupOf(`{persistentVolumeClaim: {claimName: backups, path: etcd/a}}`)},
	{name: "no cluster's name", spec: `{clusterRef: {name: ""}, store: ` + s3Store + `}`, want: `spec.clusterRef.name: Invalid value: "": "` + clusterWhy},
	{name: "a name that no cluster has", spec: `{clusterRef: {name: A.b}, store: ` + s3Store + `}`, want: `"A.b` + clusterWhy},
	{name: "no store", spec: backupOf(`{}`), want: `spec.store: Invalid value: the store names 0` + storeWhy},
	{name: "two stores", spec: backupOf(`{s3: {bucket: backups}, gcs: {bucket: backups}}`), want: `the store names 2` + storeWhy},
	{name: "no bucket", spec: backupOf(`{s3: {}}`), want: `spec.store.s3.bucket: Required value`},
	{name: "a bucket in capitals", spec: backupOf(`{s3: {bucket: My_Bucket}}`), want: `spec.store.s3.bucket: Invalid value: "My_Bucket": "My_Bucket` + bucketWhy},
	{name: "a bucket with two dots", spec: backupOf(`{s3: {bucket: a..b}}`), want: `"a..b` + bucketWhy},
	{name: "an endpoint without a scheme", spec: s3("endpoint", "minio:9000"), want: `"minio:9000` + endpointWhy},
	{name: "an endpoint with a password", spec: s3("endpoint", "https://me:secret@minio"), want: endpointWhy},
	{name: "an endpoint with a path", spec: s3("endpoint", "https://minio/bucket"), want: endpointWhy},
	{name: "an endpoint of another protocol", spec: s3("endpoint", "ftp://minio"), want: endpointWhy},
	{name: "a region that is none", spec: s3("region", "EU West"), want: `"EU West` + regionWhy},
	{name: "a prefix that leaves the bucket", spec: s3("prefix", "../other"), want: `"../other" is not a prefix of object names in S3` + prefixWhy},
	{name: "a prefix with a slash in front", spec: s3("prefix", "/a"), want: `"/a" is not a prefix of object names in S3` + prefixWhy},
	{name: "credentials that no Secret can hold", spec: backupOf(`{s3: {bucket: backups, credentialsSecretRef: {name: My Keys}}}`), want: `"My Keys` + secretWhy},
	{name: "a bucket that Google does not have", spec: backupOf(`{gcs: {bucket: A}}`), want: `"A` + gcsWhy},
	{name: "a prefix that Google does not have", spec: backupOf(`{gcs: {bucket: backups, prefix: a//b}}`), want: `"a//b" is not a prefix of object names in Google Cloud Storage` + prefixWhy},
	{name: "an account that Azure does not have", spec: backupOf(`{azure: {account: my-account, container: etcd}}`), want: `"my-account` + accountWhy},
	{name: "a container that Azure does not have", spec: backupOf(`{azure: {account: backups, container: a--b}}`), want: `"a--b` + containerWhy},
	{name: "a prefix that Azure does not have", spec: backupOf(`{azure: {account: backups, container: etcd, prefix: a/}}`), want: `"a/" is not a prefix of object names in Azure` + prefixWhy},
	{name: "a claim that cannot be", spec: backupOf(`{persistentVolumeClaim: {claimName: A}}`), want: `"A` + claimWhy},
	{name: "a directory outside of the volume", spec: backupOf(`{persistentVolumeClaim: {claimName: a, path: ../..}}`), want: `"../..` + pathWhy},
	{name: "a recipient that is a private key", spec: backupOf(s3Store, `verify: ReadBack`, `encryption: {recipients: [AGE-SECRET-KEY-1]}`), want: `["AGE-SECRET-KEY-1"]` + recipientWhy},
	{name: "no recipient", spec: backupOf(s3Store, `verify: ReadBack`, `encryption: {recipients: []}`), want: `spec.encryption.recipients: Invalid value: 0: spec.encryption.recipients in body should have at least 1 items`},
	{name: "encryption without a key to try it with", spec: backupOf(s3Store, `encryption: {recipients: [`+oneKey+`]}`), want: `spec.encryption: Invalid value: ` + identityWhy},
	{name: "encryption that is only read back", spec: backupOf(s3Store, `verify: ReadBack`, `encryption: {recipients: [`+oneKey+`]}`)},
	{name: "a verification that does not exist", spec: backupOf(s3Store, `verify: drill`), want: `spec.verify: Unsupported value: "drill": supported values: "Drill", "ReadBack"`},
	{name: "a rate of nothing", spec: backupOf(s3Store, `rateLimit: 0`), want: `spec.rateLimit: Invalid value: 0: "0` + rateWhy},
	{name: "a rate in words", spec: backupOf(s3Store, `rateLimit: fast`), want: `"fast` + rateWhy},
	{name: "no time", spec: backupOf(s3Store, `timeout: 0s`), want: `spec.timeout: Invalid value: "0s": "0s` + timeoutWhy},
	{name: "a month", spec: backupOf(s3Store, `timeout: 720h`), want: `"720h` + timeoutWhy},
	{name: "an account that cannot be", spec: backupOf(s3Store, `serviceAccountName: "A B"`), want: `"A B` + accountSAWhy},
	{name: "a field that does not exist", spec: backupOf(s3Store, `bogus: 1`), want: `unknown field "spec.bogus"`},
	{name: "the longest name", object: strings.Repeat("a", 56), spec: backupOf(s3Store)},
	{name: "too long a name", object: strings.Repeat("a", 57), spec: backupOf(s3Store), want: `metadata.name ` + strings.Repeat("a", 57) + backupWhy},
	{name: "a name with a dot", object: "a.b", spec: backupOf(s3Store), want: `metadata.name a.b` + backupWhy},

	{name: "another store, later", before: backupOf(s3Store), spec: backupOf(`{s3: {bucket: others}}`), want: `spec: Invalid value: ` + fixedWhy},
	{name: "another cluster, later", before: backupOf(s3Store), spec: `{clusterRef: {name: b}, store: ` + s3Store + `}`, want: fixedWhy},
	{name: "encryption, later", before: backupOf(s3Store), spec: backupOf(s3Store, `encryption: {recipients: [`+oneKey+`], identitySecretRef: {name: age}}`), want: fixedWhy},
	{name: "less verification, later", before: backupOf(s3Store), spec: backupOf(s3Store, `verify: ReadBack`), want: fixedWhy},
	{name: "more time, later", before: backupOf(s3Store), spec: backupOf(s3Store, `timeout: 3h`), want: fixedWhy},
	{name: "another rate, later", before: backupOf(s3Store), spec: backupOf(s3Store, `rateLimit: 1Mi`), want: fixedWhy},
	{name: "another account, later", before: backupOf(s3Store), spec: backupOf(s3Store, `serviceAccountName: a`), want: fixedWhy},
	{name: "another drill, later", before: backupOf(s3Store), spec: backupOf(s3Store, `drillAfter: "2026-03-01T12:00:00Z"`)},
	{name: "a word for another drill", spec: backupOf(s3Store, `drillAfter: now`), want: `spec.drillAfter: Invalid value: "now": "now` + drillAfterWhy},
	{name: "the end of its objects, later", before: backupOf(s3Store), spec: backupOf(s3Store, `deletionPolicy: Delete`)},
}

var scheduleCases = []specCase{
	{name: "the least", spec: every("0 3 * * *")},
	{name: "everything", spec: every("*/15 0-6,22 1,15 jan-MAR,12 Mon-Fri", `timeZone: America/Argentina/Buenos_Aires`, `suspend: true`, `concurrencyPolicy: Replace`, `retention: {keepLast: 0, keepHourly: 24, keepDaily: 7, keepWeekly: 4}`)},
	{name: "every minute", spec: every("* * * * *")},
	{name: "the 29th of February", spec: every("0 0 29 2 *")},
	{name: "the 31st of some months", spec: every("0 0 31 1,2 *")},
	{name: "the 30th of February or a Monday", spec: every("0 0 30 2 1")},
	{name: "four fields", spec: every("* * * *"), want: `spec.schedule: Invalid value: "* * * *": "* * * *` + cronWhy},
	{name: "six fields", spec: every("0 * * * * *"), want: cronWhy},
	{name: "the 60th minute", spec: every("60 * * * *"), want: `"60 * * * *` + cronWhy},
	{name: "the 24th hour", spec: every("0 24 * * *"), want: cronWhy},
	{name: "a step of nothing", spec: every("*/0 * * * *"), want: cronWhy},
	{name: "a name instead of fields", spec: every("@daily"), want: cronWhy},
	{name: "a duration instead of fields", spec: every("@every 1s"), want: cronWhy},
	{name: "what makes a parser panic", spec: every("TZ=0"), want: cronWhy},
	{name: "that with fields behind", spec: every("CRON_TZ=0 0 3 * * *"), want: cronWhy},
	{name: "a zone in the schedule", spec: every("TZ=UTC 0 3 * *"), want: cronWhy},
	{name: "nothing", spec: every(""), want: cronWhy},
	{name: "the 30th of February", spec: every("0 0 30 2 *"), want: `"0 0 30 2 *` + neverWhy},
	{name: "the last days of February", spec: every("0 0 30-31 feb *"), want: neverWhy},
	{name: "the 31st of the short months", spec: every("0 0 31 4,Jun,9,11 *"), want: neverWhy},
	{name: "no time zone", spec: every("0 3 * * *", `timeZone: ""`), want: `spec.timeZone: Invalid value: "": "` + zoneWhy},
	{name: "the machine's time zone", spec: every("0 3 * * *", `timeZone: Local`), want: `"Local` + zoneWhy},
	{name: "an offset as a time zone", spec: every("0 3 * * *", `timeZone: "+01:00"`), want: zoneWhy},
	{name: "a file as a time zone", spec: every("0 3 * * *", `timeZone: ../../etc/passwd`), want: zoneWhy},
	{name: "a retention that keeps nothing", spec: every("0 3 * * *", `retention: {keepLast: 0}`), want: `spec.retention: Invalid value: ` + keepWhy},
	{name: "fewer than no backups", spec: every("0 3 * * *", `retention: {keepLast: -1, keepDaily: 1}`), want: `-1` + lastWhy},
	{name: "too many hours", spec: every("0 3 * * *", `retention: {keepHourly: 1001}`), want: `1001` + hourlyWhy},
	{name: "too many days", spec: every("0 3 * * *", `retention: {keepDaily: 1001}`), want: `1001` + dailyWhy},
	{name: "too many weeks", spec: every("0 3 * * *", `retention: {keepWeekly: 1001}`), want: `1001` + weeklyWhy},
	{name: "a policy that does not exist", spec: every("0 3 * * *", `concurrencyPolicy: Allow`), want: `spec.concurrencyPolicy: Unsupported value: "Allow": supported values: "Forbid", "Replace"`},
	{name: "a store that is wrong", spec: `{schedule: "0 3 * * *", backup: ` + backupOf(`{}`) + `}`, want: `spec.backup.store: Invalid value: the store names 0` + storeWhy},
	{name: "the longest name", object: strings.Repeat("a", 40), spec: every("0 3 * * *")},
	{name: "too long a name", object: strings.Repeat("a", 41), spec: every("0 3 * * *"), want: `metadata.name ` + strings.Repeat("a", 41) + scheduleWhy},
	{name: "drills every month", spec: every("0 3 * * *", `drillEvery: 720h`)},
	{name: "no drills", spec: every("0 3 * * *", `drillEvery: 0s`)},
	{name: "drills every minute", spec: every("0 3 * * *", `drillEvery: 1m`), want: `spec.drillEvery: Invalid value: "1m": "1m` + rotWhy},
	{name: "another time, later", before: every("0 3 * * *"), spec: every("0 4 * * *")},
	{name: "another store, later", before: every("0 3 * * *"), spec: `{schedule: "0 3 * * *", backup: ` + backupOf(`{gcs: {bucket: abc}}`) + `}`},
	{name: "another cluster, later", before: every("0 3 * * *"), spec: `{schedule: "0 3 * * *", backup: {clusterRef: {name: b}, store: ` + s3Store + `}}`, want: `spec.backup.clusterRef: Invalid value: ` + sameWhy},
}

var archiveCases = []specCase{
	{name: "the least", spec: backupOf(s3Store)},
	{name: "everything", spec: backupOf(s3Store, `encryption: {recipients: [`+oneKey+`], identitySecretRef: {name: age}}`, `sealEvery: 500ms`, `maxLag: 1h`, `drillEvery: 24h`, `rateLimit: 100Mi`, `serviceAccountName: backups`, `suspend: true`)},
	{name: "no drill", spec: backupOf(s3Store, `drillEvery: 0s`, `encryption: {recipients: [`+oneKey+`]}`)},
	{name: "no spec", spec: `{}`, want: `spec.clusterRef: Required value`},
	{name: "a name that no cluster has", spec: `{clusterRef: {name: A.b}, store: ` + s3Store + `}`, want: `"A.b` + clusterWhy},
	{name: "no store", spec: backupOf(`{}`), want: `spec.store: Invalid value: the store names 0` + storeWhy},
	{name: "encryption without a key to try it with", spec: backupOf(s3Store, `encryption: {recipients: [`+oneKey+`]}`), want: `spec.encryption: Invalid value: ` + drillKeyWhy},
	{name: "an object for every write", spec: backupOf(s3Store, `sealEvery: 1ms`), want: `"1ms` + sealWhy},
	{name: "an object an hour", spec: backupOf(s3Store, `sealEvery: 1h`), want: `"1h` + sealWhy},
	{name: "no lag at all", spec: backupOf(s3Store, `maxLag: 0s`), want: `"0s` + lagWhy},
	{name: "a drill every minute", spec: backupOf(s3Store, `drillEvery: 1m`), want: `"1m` + drillWhy},
	{name: "every point of a month", spec: backupOf(s3Store, `keepFor: 720h`)},
	{name: "all points", spec: backupOf(s3Store, `keepFor: 0s`)},
	{name: "the points of an hour", spec: backupOf(s3Store, `keepFor: 1h`), want: `spec.keepFor: Invalid value: "1h": "1h` + boundWhy},
	{name: "points in words", spec: backupOf(s3Store, `keepFor: 30d`), want: `"30d` + boundWhy},
	{name: "a rate in words", spec: backupOf(s3Store, `rateLimit: fast`), want: `"fast` + rateWhy},
	{name: "an account that cannot be", spec: backupOf(s3Store, `serviceAccountName: "A B"`), want: `"A B` + archiverWhy},
	{name: "a field that does not exist", spec: backupOf(s3Store, `bogus: 1`), want: `unknown field "spec.bogus"`},
	{name: "the longest name", object: strings.Repeat("a", 40), spec: backupOf(s3Store)},
	{name: "too long a name", object: strings.Repeat("a", 41), spec: backupOf(s3Store), want: `metadata.name ` + strings.Repeat("a", 41) + archiveWhy},
	{name: "another store, later", before: backupOf(s3Store), spec: backupOf(`{gcs: {bucket: abc}}`)},
	{name: "another cluster, later", before: backupOf(s3Store), spec: `{clusterRef: {name: b}, store: ` + s3Store + `}`, want: `spec.clusterRef: Invalid value: ` + oneArchive},
}

var casesOf = map[string][]specCase{"EtcdBackup": backupCases, "EtcdBackupSchedule": scheduleCases, "EtcdRestore": restoreCases, "EtcdArchive": archiveCases}

func objectOf(kind, name, spec string) *unstructured.Unstructured {
	GinkgoHelper()
	object := cluster(name, spec)
	object.SetKind(kind)
	return object
}

// schemaOf the definition of a kind as it is installed.
func schemaOf(kind string) *apiextensionsv1.JSONSchemaProps {
	GinkgoHelper()
	text, err := os.ReadFile(filepath.Join(root, "config/crd/bases/etcd.quorate.dev_"+kinds[kind]+".yaml"))
	Expect(err).NotTo(HaveOccurred())
	definition := &apiextensionsv1.CustomResourceDefinition{}
	Expect(yaml.Unmarshal(text, definition)).To(Succeed())
	return definition.Spec.Versions[0].Schema.OpenAPIV3Schema
}

// answered tells whether some case of any of the kinds wants an answer with these words.
func answered(words string) bool {
	for _, list := range casesOf {
		for _, c := range list {
			if strings.Contains(c.want, words) {
				return true
			}
		}
	}
	return strings.Contains(urlWhy+restoredWhy+onceWhy, words) || strings.Contains(archivedWhy, words)
}

var _ = Describe("Backups that are applied", func() {
	for kind, list := range casesOf {
		for _, c := range list {
			verdict := "is accepted"
			if c.want != "" {
				verdict = "is refused"
			}
			It(kind+" "+verdict+" with "+c.name, func(ctx context.Context) {
				name := c.object
				if name == "" {
					name = "case"
				}
				var err error
				if c.before == "" {
					err = try(ctx, objectOf(kind, name, c.spec))
				} else {
					existing := objectOf(kind, name, c.before)
					create(ctx, existing)
					edited := objectOf(kind, name, c.spec)
					edited.SetResourceVersion(existing.GetResourceVersion())
					err = k8s.Update(ctx, edited, client.FieldValidation("Strict"))
				}
				if c.want == "" {
					Expect(err).NotTo(HaveOccurred())
					return
				}
				expectRefusal(err, c.want)
			})
		}

		It(kind+" has a case for every rule of its schema, each with a message of three parts", func() {
			for path, rules := range rulesOf(schemaOf(kind)) {
				for _, rule := range rules {
					words := words(rule)
					Expect(words).NotTo(BeEmpty(), "%s: %s has no message", path, rule.Rule)
					Expect(answered(words)).To(BeTrue(), "no case is refused with: %s: %s", path, words)
					for _, message := range []string{rule.Message, rule.MessageExpression} {
						Expect(message == "" || hasThreeParts(message)).To(BeTrue(), "%s: %s", path, message)
					}
				}
			}
		})

		It(kind+" answers a strange value in any field in plain words", func(ctx context.Context) {
			spec := schemaOf(kind).Properties["spec"]
			tried := 0
			edges("spec", &spec, func(path string, value any) {
				fields, ok := value.(map[string]any)
				if !ok {
					return
				}
				tried++
				object := objectOf(kind, "edge", "")
				object.Object["spec"] = fields
				if err := try(ctx, object); err != nil {
					Expect(apierrors.IsInvalid(err) || apierrors.IsBadRequest(err)).To(BeTrue(), "%s: %s: %v", path, short(fields), err)
					for _, leak := range leaks {
						Expect(err.Error()).NotTo(ContainSubstring(leak), "%s: %s", path, short(fields))
					}
					return
				}
				text, err := json.Marshal(object.Object)
				Expect(err).NotTo(HaveOccurred())
				into := map[string]any{"EtcdBackup": &v1alpha1.EtcdBackup{}, "EtcdBackupSchedule": &v1alpha1.EtcdBackupSchedule{}, "EtcdRestore": &v1alpha1.EtcdRestore{}, "EtcdArchive": &v1alpha1.EtcdArchive{}}[kind]
				Expect(json.Unmarshal(text, into)).To(Succeed(), "%s: %s", path, short(fields))
			})
			AddReportEntry("edges", fmt.Sprint(tried, " values"))
			Expect(tried).To(BeNumerically(">", 300))
		})
	}

	It("makes Jobs and pods that the API server takes where only restricted ones may run", func(ctx context.Context) {
		ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "restricted-", Labels: map[string]string{
			"pod-security.kubernetes.io/enforce": "restricted", "pod-security.kubernetes.io/warn": "restricted",
		}}}
		Expect(k8s.Create(ctx, ns)).To(Succeed())
		Expect(k8s.Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default", Namespace: ns.Name}})).To(Succeed())
		Expect(k8s.Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "a", Namespace: ns.Name}})).To(Succeed())
		c := &v1alpha1.EtcdCluster{}
		Expect(yaml.Unmarshal([]byte(`{metadata: {name: a, uid: 5e1f}, spec: {size: 3, version: "3.6.16", image: {repository: quay.io/coreos/etcd}, storage: {size: 8Gi}}, status: {clusterID: c1, members: [{name: a-0000, role: Voter}]}}`), c)).To(Succeed())
		c.Namespace = ns.Name
		for _, store := range []string{
			`{s3: {bucket: backups, credentialsSecretRef: {name: s3}, caSecretRef: {name: ca}}}`, `{gcs: {bucket: backups}}`,
			`{azure: {account: acc, container: etcd, credentialsSecretRef: {name: azure}}}`, `{persistentVolumeClaim: {claimName: disk}}`,
		} {
			b := &v1alpha1.EtcdBackup{}
			Expect(yaml.Unmarshal([]byte(`{metadata: {name: b, uid: b1}, spec: `+backupOf(store, `timeout: 1h`, `encryption: {recipients: [`+oneKey+`], identitySecretRef: {name: age}}`)+`, status: {clusterUID: 5e1f, id: `+backupID+`}}`), b)).To(Succeed())
			b.Namespace = ns.Name
			for _, operation := range []snapshot.Operation{snapshot.OperationSave, snapshot.OperationDrill, snapshot.OperationPrune} {
				job := resources.BackupJob(b, resources.Work{Operation: operation, BackupImage: "backup:v0", EtcdImage: "etcd:v0", Cluster: c})
				Expect(k8s.Create(ctx, job, client.DryRunAll, client.FieldValidation("Strict"))).To(Succeed(), "%s to %s", operation, store)
				pod := &corev1.Pod{ObjectMeta: job.Spec.Template.ObjectMeta, Spec: job.Spec.Template.Spec}
				pod.Name, pod.Namespace, pod.Spec.ServiceAccountName = job.Name, ns.Name, ""
				Expect(k8s.Create(ctx, pod, client.DryRunAll, client.FieldValidation("Strict"))).To(Succeed(), "%s to %s", operation, store)
			}
			member := resources.MemberPod(c, resources.Start{
				Member: "a-0000", VolumeUID: "v0", GuardImage: "member:v0", Orders: resources.Orders{Peers: []string{"a-0000"}, State: "new", Empty: resources.EmptyForbidden},
				Restore: &resources.Restore{BackupImage: "backup:v0", Store: b.Spec.Store, ClusterUID: "5e1f", BackupID: b.Status.ID, Identity: b.Spec.Encryption.IdentitySecretRef},
			})
			Expect(k8s.Create(ctx, member, client.DryRunAll, client.FieldValidation("Strict"))).To(Succeed(), store)
		}
	})

	It("takes the Deployment of an archiver, and the Jobs of its drill and of a point, where only restricted pods may run", func(ctx context.Context) {
		ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "restricted-", Labels: map[string]string{
			"pod-security.kubernetes.io/enforce": "restricted", "pod-security.kubernetes.io/warn": "restricted",
		}}}
		Expect(k8s.Create(ctx, ns)).To(Succeed())
		Expect(k8s.Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default", Namespace: ns.Name}})).To(Succeed())
		c := &v1alpha1.EtcdCluster{}
		Expect(yaml.Unmarshal([]byte(`{metadata: {name: a, uid: 5e1f}, spec: {size: 3, version: "3.6.16", image: {repository: quay.io/coreos/etcd}, storage: {size: 8Gi}, restoreFrom: {archiveName: e, toRevision: 42}}, status: {clusterID: c1, members: [{name: a-0000, role: Voter}]}}`), c)).To(Succeed())
		c.Namespace = ns.Name
		a := &v1alpha1.EtcdArchive{}
		Expect(yaml.Unmarshal([]byte(`{metadata: {name: e, uid: e1}, spec: `+backupOf(s3Store, `sealEvery: 2s`, `encryption: {recipients: [`+oneKey+`], identitySecretRef: {name: age}}`)+`, status: {clusterUID: 5e1f}}`), a)).To(Succeed())
		a.Namespace = ns.Name
		w := resources.Work{BackupImage: "backup:v0", EtcdImage: "etcd:v0", Cluster: c}
		d, err := resources.Archiver(a, w)
		Expect(err).NotTo(HaveOccurred())
		Expect(k8s.Create(ctx, d, client.DryRunAll, client.FieldValidation("Strict"))).To(Succeed())
		point, blocked := resources.PointOf(c, nil, a)
		Expect(blocked).To(BeEmpty())
		templates := map[string]corev1.PodTemplateSpec{"archiver": d.Spec.Template}
		for _, job := range []*batchv1.Job{resources.ArchiveDrillJob(a, w), resources.RebuildJob(c, point, "backup:v0")} {
			Expect(k8s.Create(ctx, job, client.DryRunAll, client.FieldValidation("Strict"))).To(Succeed(), job.Name)
			templates[job.Name] = job.Spec.Template
		}
		for name, template := range templates {
			pod := &corev1.Pod{ObjectMeta: template.ObjectMeta, Spec: template.Spec}
			pod.Name, pod.Namespace = name, ns.Name
			Expect(k8s.Create(ctx, pod, client.DryRunAll, client.FieldValidation("Strict"))).To(Succeed(), name)
		}
	})

	It("keeps the cluster of an archive once it is known", func(ctx context.Context) {
		existing := objectOf("EtcdArchive", "case", backupOf(s3Store))
		create(ctx, existing)
		Expect(patchStatus(ctx, existing, `{"clusterUID":"5e1f"}`)).To(Succeed())
		expectRefusal(patchStatus(ctx, existing, `{"clusterUID":"other"}`), `status.clusterUID: Invalid value: `+archivedWhy)
		expectRefusal(patchStatus(ctx, existing, `{"clusterUID":null}`), archivedWhy)
		spec := existing.Object["spec"].(map[string]any)
		Expect(spec).To(And(HaveKeyWithValue("sealEvery", "2s"), HaveKeyWithValue("maxLag", "5m"), HaveKeyWithValue("drillEvery", "168h")))
		out, err := kubectl(ctx, "", "get", "ea")
		Expect(err).NotTo(HaveOccurred(), out)
		Expect(strings.Fields(out)[:7]).To(Equal([]string{"NAME", "CLUSTER", "REVISION", "UNTIL", "DRILLED", "STATUS", "AGE"}))
	})

	It("keeps the URL of a backup once it is known", func(ctx context.Context) {
		existing := objectOf("EtcdBackup", "case", backupOf(s3Store))
		create(ctx, existing)
		patch := func(url string) error {
			return k8s.Status().Patch(ctx, existing, client.RawPatch(types.MergePatchType, fmt.Appendf(nil, `{"status":{"url":%s}}`, url)))
		}
		Expect(patch(`"s3://backups/1"`)).To(Succeed())
		expectRefusal(patch(`"s3://backups/2"`), `status.url: Invalid value: `+urlWhy)
		expectRefusal(patch(`null`), urlWhy)
	})

	It("gets defaults that work, and shows what matters", func(ctx context.Context) {
		existing := objectOf("EtcdBackupSchedule", "nightly", every("0 3 * * *"))
		create(ctx, existing)
		spec := existing.Object["spec"].(map[string]any)
		Expect(spec).To(HaveKeyWithValue("timeZone", "Etc/UTC"))
		Expect(spec["retention"]).To(HaveKeyWithValue("keepLast", BeEquivalentTo(7)))
		Expect(spec["backup"]).To(And(HaveKeyWithValue("verify", "Drill"), HaveKeyWithValue("rateLimit", "8Mi"), HaveKeyWithValue("timeout", "2h")))
		one := objectOf("EtcdBackup", "one", backupOf(s3Store))
		create(ctx, one)
		Expect(k8s.Status().Patch(ctx, one, client.RawPatch(types.MergePatchType, []byte(`{"status":{"revision":42,"size":"12Mi","duration":"3s","progress":{"percent":"100%"},"conditions":[
			{"type":"Verified","status":"True","reason":"Verified","message":"","lastTransitionTime":"2026-01-01T00:00:00Z"},
			{"type":"Ready","status":"True","reason":"Verified","message":"","lastTransitionTime":"2026-01-01T00:00:00Z"}]}}`)))).To(Succeed())
		out, err := kubectl(ctx, "", "get", "eb")
		Expect(err).NotTo(HaveOccurred(), out)
		Expect(strings.Fields(out)).To(Equal([]string{
			"NAME", "CLUSTER", "PROGRESS", "REVISION", "SIZE", "DURATION", "VERIFIED", "STATUS", "AGE",
			"one", "a", "100%", "42", "12Mi", "3s", "True", "Verified", strings.Fields(out)[len(strings.Fields(out))-1],
		}))
		out, err = kubectl(ctx, "", "get", "ebs")
		Expect(err).NotTo(HaveOccurred(), out)
		Expect(strings.Fields(out)[:8]).To(Equal([]string{"NAME", "CLUSTER", "SCHEDULE", "LAST", "VERIFIED", "BACKUPS", "STATUS", "AGE"}))
	})
})
