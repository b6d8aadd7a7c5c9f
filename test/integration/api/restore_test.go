package api

import (
	"context"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
)

const (
	ofBackupWhy    = `" is not the name of an EtcdBackup — there would be nothing to go on with — use a name from kubectl get etcdbackups in this namespace`
	immutableWhy   = `the spec of a restore cannot change — what was prepared and what is done would be two things — delete the EtcdRestore, which takes it back until the new incarnation has begun, and create another`
	restoreNameWhy = ` is not a DNS label of at most 49 characters — the name of the safety backup is made from it — use lower-case letters, digits and dashes`
	onceWhy        = `the incarnation that a restore gives up cannot change — it would be carried out a second time — create another EtcdRestore`
	restoredWhy    = `the cluster of a restore cannot change — another one of its name holds other data — create another EtcdRestore`
)

// restoreOf is the spec of a restore of the backup b with what else is said.
func restoreOf(more ...string) string {
	return "{clusterRef: {name: a}, backupName: b" + strings.Join(append([]string{""}, more...), ", ") + "}"
}

// safetyIn is the spec of one whose safety backup lies in this store.
func safetyIn(store string) string { return restoreOf(`safetyBackup: {store: ` + store + `}`) }

var restoreCases = []specCase{
	{name: "the least", spec: restoreOf()},
	{name: "everything", spec: restoreOf(`allowUnverified: true`, `safetyBackup: {policy: Take, verify: Drill, rateLimit: 32Mi, timeout: 6h, store: `+s3Store+`}`)},
	{name: "a rate in words", spec: restoreOf(`safetyBackup: {rateLimit: fast}`), want: `"fast` + rateWhy},
	{name: "a rate of nothing", spec: restoreOf(`safetyBackup: {rateLimit: 0}`), want: `"0` + rateWhy},
	{name: "a second", spec: restoreOf(`safetyBackup: {timeout: 1s}`), want: `spec.safetyBackup.timeout: Invalid value: "1s": "1s` + timeoutWhy},
	{name: "more time, later", before: restoreOf(), spec: restoreOf(`safetyBackup: {timeout: 6h}`), want: immutableWhy},
	{name: "no safety backup", spec: restoreOf(`safetyBackup: {policy: Skip}`)},
	{name: "no cluster", spec: `{backupName: b}`, want: `spec.clusterRef: Required value`},
	{name: "no backup", spec: `{clusterRef: {name: a}}`, want: `spec.backupName: Required value`},
	{name: "no name of a backup", spec: `{clusterRef: {name: a}, backupName: ""}`, want: `spec.backupName: Invalid value: "": "` + ofBackupWhy},
	{name: "a name that no backup has", spec: `{clusterRef: {name: a}, backupName: B.c}`, want: `"B.c` + ofBackupWhy},
	{name: "a name that no cluster has", spec: `{clusterRef: {name: A}, backupName: b}`, want: `"A` + clusterWhy},
	{name: "a policy that does not exist", spec: restoreOf(`safetyBackup: {policy: Maybe}`), want: `spec.safetyBackup.policy: Unsupported value: "Maybe": supported values: "Take", "Skip"`},
	{name: "a verification that does not exist", spec: restoreOf(`safetyBackup: {verify: None}`), want: `spec.safetyBackup.verify: Unsupported value: "None"`},
	{name: "two stores", spec: safetyIn(`{s3: {bucket: backups}, gcs: {bucket: backups}}`), want: `the store names 2` + storeWhy},
	{name: "a bucket in capitals", spec: safetyIn(`{s3: {bucket: My_Bucket}}`), want: `"My_Bucket` + bucketWhy},
	{name: "a name that is too long", object: strings.Repeat("a", 50), spec: restoreOf(), want: strings.Repeat("a", 50) + restoreNameWhy},
	{name: "the longest name", object: strings.Repeat("a", 49), spec: restoreOf()},
	{name: "a name with a dot", object: "a.b", spec: restoreOf(), want: `a.b` + restoreNameWhy},
	{name: "the same again", before: restoreOf(`safetyBackup: {store: ` + s3Store + `}`), spec: restoreOf(`safetyBackup: {store: ` + s3Store + `}`)},
	{name: "another backup", before: restoreOf(), spec: `{clusterRef: {name: a}, backupName: c}`, want: immutableWhy},
	{name: "another cluster", before: restoreOf(), spec: `{clusterRef: {name: b}, backupName: b}`, want: immutableWhy},
	{name: "no safety backup after all", before: restoreOf(), spec: restoreOf(`safetyBackup: {policy: Skip}`), want: immutableWhy},
	{name: "an unverified backup after all", before: restoreOf(), spec: restoreOf(`allowUnverified: true`), want: immutableWhy},
}

var _ = Describe("The status of an EtcdRestore", func() {
	const begun = `{"clusterUID":"5e1f","incarnation":1}`

	It("keeps what is given up, so that it is carried out once", func(ctx context.Context) {
		existing := objectOf("EtcdRestore", "back", restoreOf())
		create(ctx, existing)
		Expect(patchStatus(ctx, existing, begun)).To(Succeed())
		Expect(patchStatus(ctx, existing, `{"safetyBackup":{"name":"back-safety","revision":7,"time":"2026-01-01T00:00:00Z"},"revision":5,"revisionBump":2000000000,"oldVolumes":["data-a-0000"]}`)).To(Succeed())
		expectRefusal(patchStatus(ctx, existing, `{"incarnation":2}`), `status.incarnation: Invalid value: `+onceWhy)
		expectRefusal(patchStatus(ctx, existing, `{"incarnation":null}`), onceWhy)
		expectRefusal(patchStatus(ctx, existing, `{"clusterUID":"0ther"}`), `status.clusterUID: Invalid value: `+restoredWhy)
		expectRefusal(patchStatus(ctx, existing, `{"clusterUID":null}`), restoredWhy)
	})

	It("is shown with the defaults that count", func(ctx context.Context) {
		existing := objectOf("EtcdRestore", "back", restoreOf())
		create(ctx, existing)
		Expect(existing.Object["spec"].(map[string]any)["safetyBackup"]).To(And(HaveKeyWithValue("policy", "Take"), HaveKeyWithValue("verify", "ReadBack")))
		Expect(patchStatus(ctx, existing, `{"revision":5,"conditions":[{"type":"Ready","status":"False","reason":"Restoring","message":"","lastTransitionTime":"2026-01-01T00:00:00Z"}]}`)).To(Succeed())
		out, err := kubectl(ctx, "", "get", "er")
		Expect(err).NotTo(HaveOccurred(), out)
		Expect(strings.Fields(out)[:12]).To(Equal([]string{"NAME", "CLUSTER", "BACKUP", "REVISION", "READY", "STATUS", "AGE", "back", "a", "b", "5", "False"}))
	})
})
