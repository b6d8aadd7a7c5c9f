package api

import (
	"context"
	"encoding/json"
	"strings"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/api/v1alpha1"
)

// statusCase is one write of status over another.
type statusCase struct {
	name   string
	before string // JSON of the status that stands
	patch  string // JSON merge patch of the status
	want   string // part of the refusal; empty when it must be accepted
}

const founded = `{"incarnation":2,"nextOrdinal":5,"founders":["a-0002","a-0003","a-0004"],"clusterID":"cafe"}`

var statusCases = []statusCase{
	{name: "the first founders", patch: `{"incarnation":1,"nextOrdinal":3,"founders":["a-0000","a-0001","a-0002"]}`},
	{name: "the cluster ID after the founders", before: `{"incarnation":1,"founders":["a-0000"]}`, patch: `{"clusterID":"cafe"}`},
	{name: "the same again", before: founded, patch: founded},
	{name: "a higher ordinal", before: founded, patch: `{"nextOrdinal":6}`},
	{name: "other founders and no ID in a higher incarnation", before: founded, patch: `{"incarnation":3,"nextOrdinal":8,"founders":["a-0005"],"clusterID":null}`},
	{
		name: "other founders in the same incarnation", before: founded, patch: `{"founders":["a-0002"]}`,
		want: `status.founders: Invalid value: ["a-0002"] are not the founders of this incarnation, ["a-0002", "a-0003", "a-0004"] — a second founding would split the cluster in two — founders are written once for each incarnation`,
	},
	{name: "no founders any more", before: founded, patch: `{"founders":null}`, want: `[] are not the founders of this incarnation`},
	{
		name: "another cluster ID in the same incarnation", before: founded, patch: `{"clusterID":"beef"}`,
		want: `status.clusterID: Invalid value: beef is not the cluster ID of this incarnation, cafe — members with another ID are another cluster — the ID is written once for each incarnation`,
	},
	{name: "no cluster ID any more", before: founded, patch: `{"clusterID":null}`, want: `nothing is not the cluster ID of this incarnation, cafe`},
	{
		name: "a lower incarnation", before: founded, patch: `{"incarnation":1}`,
		want: `status.incarnation: Invalid value: 1 is less than 2 — the volumes of an older incarnation would count as members again — read the object again before writing its status`,
	},
	{
		name: "an incarnation that is passed over", before: founded, patch: `{"incarnation":4}`,
		want: `status.incarnation: Invalid value: 4 is more than one above 2 — an incarnation would be passed over, and nobody would know what its members were — raise it one at a time`,
	},
	{name: "the incarnation of what is adopted", patch: `{"incarnation":7,"founders":["a-0000"]}`},
	{name: "a recovery as it was said", before: founded, patch: `{"voidRecovery":"2/nightly","obeyedRecovery":"2/nightly","recovery":{"incarnation":2,"backupName":"nightly","time":"2026-01-01T03:00:00Z"}}`},
	{name: "a restore that has begun, and one that is over", before: founded, patch: `{"restore":{"name":"back","uid":"e7","begun":"2026-01-01T03:00:00Z","message":"x"},"recovery":{"incarnation":2,"backupName":"nightly","restoreName":"back","time":"2026-01-01T03:00:00Z"}}`},
	{name: "no incarnation any more", before: founded, patch: `{"incarnation":null}`, want: `0 is less than 2`},
	{
		name: "a lower ordinal", before: founded, patch: `{"nextOrdinal":4}`,
		want: `status.nextOrdinal: Invalid value: 4 is less than 5 — a name would be given to a second member — read the object again before writing its status`,
	},
	{name: "no ordinal any more", before: founded, patch: `{"nextOrdinal":null}`, want: `0 is less than 5`},
	{name: "a lower ordinal in a higher incarnation", before: founded, patch: `{"incarnation":3,"nextOrdinal":0}`, want: `0 is less than 5`},
	{name: "a member that is prepared", before: founded, patch: `{"joiner":"a-0005","nextOrdinal":6}`},
	{name: "a member of five digits that is prepared", before: founded, patch: `{"joiner":"a-12345","nextOrdinal":12346}`},
	{name: "the longest name of a member", before: founded, patch: `{"joiner":"` + strings.Repeat("a", 40) + `-12345","nextOrdinal":12346}`},
	{name: "no member is prepared any more", before: `{"incarnation":1,"nextOrdinal":6,"joiner":"a-0005"}`, patch: `{"joiner":null}`},
	{name: "another member is prepared", before: `{"incarnation":1,"nextOrdinal":6,"joiner":"a-0005"}`, patch: `{"joiner":"a-0006","nextOrdinal":7}`},
	{
		name: "a name given up together with its number", before: `{"incarnation":1,"nextOrdinal":6,"joiner":"a-0005"}`, patch: `{"joiner":null,"nextOrdinal":5}`,
		want: `5 is less than 6 — a name would be given to a second member`,
	},
	{name: "the name of a member that none can have", patch: `{"joiner":"` + strings.Repeat("a", 64) + `"}`, want: `status.joiner: Too long: may not be more than 63`},
	{name: "the founders' volumes", patch: `{"founderVolumes":{"a-0000":"u0"}}`},
	{name: "a founder's volume taken off the record before the cluster ID", before: `{"incarnation":1,"founderVolumes":{"a-0000":"u0"}}`, patch: `{"founderVolumes":{"a-0000":null}}`},
	{
		name: "another founder's volume after the cluster ID", before: `{"incarnation":1,"founderVolumes":{"a-0000":"u0"},"clusterID":"cafe"}`, patch: `{"founderVolumes":{"a-0000":"u1"}}`,
		want: `status.founderVolumes: Invalid value: the founders' volumes cannot change once the cluster is founded — a lost volume would be taken for a new one — read the object again before writing its status`,
	},
	{
		name: "a founder's volume with a UID that none can have", patch: `{"founderVolumes":{"a-0000":"` + strings.Repeat("u", 65) + `"}}`,
		want: `a name or a UID has more than 64 characters — no claim has such a one — use the names and UIDs of the claims`,
	},
	{name: "the point that the cluster begins with", patch: `{"restorePoint":"b"}`},
	{name: "the same point again", before: `{"incarnation":1,"restorePoint":"b"}`, patch: `{"restorePoint":"b","clusterID":"cafe"}`},
	{name: "another point", before: `{"incarnation":1,"restorePoint":"b"}`, patch: `{"restorePoint":"c"}`, want: `status.restorePoint: Invalid value: the point that a cluster begins with cannot change — some founders would begin with other data than the rest — read the object again before writing its status`},
	{name: "no point any more", before: `{"incarnation":1,"restorePoint":"b"}`, patch: `{"restorePoint":null}`, want: `the point that a cluster begins with cannot change`},
	{name: "no point in a higher incarnation", before: `{"incarnation":1,"restorePoint":"b"}`, patch: `{"incarnation":2,"restorePoint":null}`},
	{name: "a size of the database", patch: `{"members":[{"name":"a","health":"True","dbSize":"25Mi"}]}`},
	{name: "a size that would hang whoever reads it", patch: `{"members":[{"name":"a","health":"True","dbSize":"1e999999999"}]}`, want: `status.members[0].dbSize`},
}

func patchStatus(ctx context.Context, c client.Object, patch string) error {
	return k8s.Status().Patch(ctx, c, client.RawPatch(types.MergePatchType, []byte(`{"status":`+patch+`}`)))
}

var _ = Describe("The status of an EtcdCluster", func() {
	for _, c := range statusCases {
		verdict := "takes "
		if c.want != "" {
			verdict = "refuses "
		}
		It(verdict+c.name, func(ctx context.Context) {
			existing := cluster("status", `{}`)
			create(ctx, existing)
			if c.before != "" {
				Expect(patchStatus(ctx, existing, c.before)).To(Succeed())
			}
			err := patchStatus(ctx, existing, c.patch)
			if c.want == "" {
				Expect(err).NotTo(HaveOccurred())
				return
			}
			expectRefusal(err, c.want)
		})
	}

	It("cannot be taken away as a whole once it is latched", func(ctx context.Context) {
		existing := cluster("status", `{}`)
		create(ctx, existing)
		Expect(patchStatus(ctx, existing, founded)).To(Succeed())
		err := patchStatus(ctx, existing, `null`)
		expectRefusal(err, `0 is less than 2`)
	})

	It("is not written by someone who applies the whole object", func(ctx context.Context) {
		existing := cluster("status", `{}`)
		existing.Object["status"] = map[string]any{"clusterID": "beef"}
		create(ctx, existing)
		read := &v1alpha1.EtcdCluster{}
		Expect(k8s.Get(ctx, client.ObjectKeyFromObject(existing), read)).To(Succeed())
		Expect(read.Status.ClusterID).To(BeEmpty())
	})

	It("says that nothing was seen yet, until the operator has looked", func(ctx context.Context) {
		existing := cluster("status", ``)
		create(ctx, existing)
		Expect(k8s.Get(ctx, client.ObjectKeyFromObject(existing), existing)).To(Succeed())
		result, err := status.Compute(existing)
		Expect(err).NotTo(HaveOccurred())
		Expect(result.Status).To(Equal(status.InProgressStatus))

		read := &v1alpha1.EtcdCluster{}
		Expect(k8s.Get(ctx, client.ObjectKeyFromObject(existing), read)).To(Succeed())
		Expect(read.Status.ObservedGeneration).To(BeEquivalentTo(-1))
	})
})

var _ = Describe("Defaults", func() {
	const want = `{
		"size": 3, "version": "3.6.16",
		"image": {"repository": "quay.io/coreos/etcd", "pullPolicy": "IfNotPresent"},
		"storage": {"size": "8Gi", "medium": "Disk", "whenDeleted": "Retain", "quarantineFor": "168h"},
		"tls": {"mode": "Enabled", "leafDuration": "2160h", "rotationSoak": "24h"},
		"etcd": {"quotaBackendBytes": "2Gi", "heartbeatMs": 100, "electionMs": 1000, "snapshotCount": 10000,
			"maxRequestBytes": "1536Ki", "autoCompaction": {"mode": "Periodic", "retention": "1h"}},
		"failover": {"replaceAfter": "5m", "learnerTimeout": "15m"}
	}`

	specOf := func(ctx context.Context, spec string) string {
		GinkgoHelper()
		c := cluster("defaults", spec)
		Expect(try(ctx, c)).To(Succeed())
		text, err := json.Marshal(c.Object["spec"])
		Expect(err).NotTo(HaveOccurred())
		return string(text)
	}

	It("fill an object without a spec", func(ctx context.Context) {
		Expect(specOf(ctx, ``)).To(MatchJSON(want))
	})
	It("fill an empty spec", func(ctx context.Context) {
		Expect(specOf(ctx, `{}`)).To(MatchJSON(want))
	})
	It("fill empty groups of fields", func(ctx context.Context) {
		Expect(specOf(ctx, `{image: {}, storage: {}, tls: {}, etcd: {autoCompaction: {}}, failover: {}}`)).To(MatchJSON(want))
	})
	It("fill what is null", func(ctx context.Context) {
		Expect(specOf(ctx, `{size: null, version: null, storage: null, etcd: {autoCompaction: null}}`)).To(MatchJSON(want))
	})
	It("fill what a program leaves at its zero value", func(ctx context.Context) {
		c := &v1alpha1.EtcdCluster{}
		c.Name, c.Namespace = "defaults", "default"
		Expect(k8s.Create(ctx, c, client.DryRunAll, client.FieldValidation("Strict"))).To(Succeed())
		text, err := json.Marshal(c.Spec)
		Expect(err).NotTo(HaveOccurred())
		var spec map[string]any
		Expect(json.Unmarshal(text, &spec)).To(Succeed())
		Expect(spec).To(HaveKeyWithValue("size", BeEquivalentTo(3)))
		Expect(spec["storage"]).To(HaveKeyWithValue("size", "8Gi"))
		Expect(spec["tls"]).To(HaveKeyWithValue("leafDuration", "2160h0m0s"))
	})
	It("survive a program that reads and writes them", func(ctx context.Context) {
		existing := cluster("defaults", `{}`)
		create(ctx, existing)
		read := &v1alpha1.EtcdCluster{}
		Expect(k8s.Get(ctx, client.ObjectKeyFromObject(existing), read)).To(Succeed())
		read.Spec.Paused = true
		Expect(k8s.Update(ctx, read, client.FieldValidation("Strict"))).To(Succeed())
	})
})
