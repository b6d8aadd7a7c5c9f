package resources

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/member"
)

// update writes the golden files anew: go test ./internal/resources -update.
var update = flag.Bool("update", false, "write the golden files anew")

// change makes a cluster differ from the default one.
type change func(*v1alpha1.EtcdCluster)

// cluster is what the API server makes of spec: {size: 3, version: "3.6.16"}.
func cluster(changes ...change) *v1alpha1.EtcdCluster {
	c := &v1alpha1.EtcdCluster{
		ObjectMeta: metav1.ObjectMeta{Name: "a", Namespace: "ns", UID: "5e1f", Generation: 1},
		Spec: v1alpha1.EtcdClusterSpec{
			Size: 3, Version: "3.6.16",
			Image:   v1alpha1.ImageSpec{Repository: "quay.io/coreos/etcd", PullPolicy: corev1.PullIfNotPresent},
			Storage: v1alpha1.StorageSpec{Size: resource.MustParse("8Gi"), Medium: v1alpha1.MediumDisk, WhenDeleted: v1alpha1.WhenDeletedRetain},
			TLS:     v1alpha1.TLSSpec{Mode: v1alpha1.TLSEnabled, LeafDuration: metav1.Duration{Duration: 2160 * time.Hour}},
			Etcd: v1alpha1.EtcdOptions{
				QuotaBackendBytes: resource.MustParse("2Gi"), HeartbeatMs: 100, ElectionMs: 1000, SnapshotCount: 10000,
				MaxRequestBytes: resource.MustParse("1536Ki"),
				AutoCompaction:  v1alpha1.AutoCompaction{Mode: v1alpha1.CompactionPeriodic, Retention: "1h"},
			},
		},
		Status: v1alpha1.EtcdClusterStatus{Incarnation: 1, Founders: []string{"a-0000", "a-0001", "a-0002"}},
	}
	for _, change := range changes {
		change(c)
	}
	return c
}

func version(v string) change { return func(c *v1alpha1.EtcdCluster) { c.Spec.Version = v } }
func named(n string) change   { return func(c *v1alpha1.EtcdCluster) { c.Name = n } }
func plaintext(c *v1alpha1.EtcdCluster) {
	c.Spec.TLS.Mode = v1alpha1.TLSDisabled
}

func inMemory(c *v1alpha1.EtcdCluster) {
	c.Spec.Storage.Medium = v1alpha1.MediumMemory
	c.Spec.Storage.Size = resource.MustParse("4Gi")
}
func restored(c *v1alpha1.EtcdCluster) { c.Status.Incarnation = 2 }

// rich uses every field that reaches an object.
func rich(c *v1alpha1.EtcdCluster) {
	c.Spec.Image = v1alpha1.ImageSpec{Repository: "registry.example/etcd", Digest: "sha256:" + strings.Repeat("ab", 32), PullPolicy: corev1.PullAlways}
	c.Spec.Storage.StorageClassName = new("fast")
	c.Spec.Etcd.ExtraArgs = map[string]string{"max-txn-ops": "512", "feature-gates": "SetMemberLocalAddr=true", "log-level": "debug"}
	c.Spec.Etcd.AutoCompaction = v1alpha1.AutoCompaction{Mode: v1alpha1.CompactionRevision, Retention: "1000"}
	c.Spec.PodTemplate = v1alpha1.PodTemplate{
		Labels:      map[string]string{"team": "storage", v1alpha1.LabelClusterUID: "stolen"},
		Annotations: map[string]string{"note": "mine", member.AnnotationMayBeEmpty: "true"},
		Resources: &corev1.ResourceRequirements{
			Requests: quantities("1", "4Gi"), Limits: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("10Gi")},
		},
		NodeSelector:      map[string]string{"disk": "nvme"},
		Tolerations:       []corev1.Toleration{{Key: "etcd", Operator: corev1.TolerationOpExists}},
		PriorityClassName: "high",
		ImagePullSecrets:  []corev1.LocalObjectReference{{Name: "pull"}},
		Affinity: &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{
			RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{TopologyKey: "kubernetes.io/hostname"}},
		}},
		TopologySpreadConstraints: []corev1.TopologySpreadConstraint{{
			MaxSkew: 1, TopologyKey: "kubernetes.io/hostname", WhenUnsatisfiable: corev1.DoNotSchedule,
		}},
		SeccompProfile:  &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeLocalhost, LocalhostProfile: new("etcd.json")},
		AppArmorProfile: &corev1.AppArmorProfile{Type: corev1.AppArmorProfileTypeRuntimeDefault},
	}
	c.Spec.NetworkPolicy = v1alpha1.NetworkPolicySpec{
		ClientFrom: []networkingv1.NetworkPolicyPeer{
			{NamespaceSelector: &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{
				Key: "tier", Operator: metav1.LabelSelectorOpIn, Values: []string{"app"},
			}}}, PodSelector: &metav1.LabelSelector{}},
			{IPBlock: &networkingv1.IPBlock{CIDR: "10.0.0.0/8", Except: []string{"10.1.0.0/16"}}},
		},
		MetricsFrom: []networkingv1.NetworkPolicyPeer{{NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"kubernetes.io/metadata.name": "monitoring"}}}},
	}
}

// start is how a founder's pod is made.
func start(m string) Start {
	return Start{
		Member: m, VolumeUID: "c1a1", GuardImage: "ghcr.io/quorate/member:v0",
		Orders: Orders{Peers: []string{"a-0000", "a-0001", "a-0002"}, State: member.ClusterStateNew, Empty: EmptyAllowed},
	}
}

// beginning is how the cluster's founders begin: empty, or with a backup.
func beginning(c *v1alpha1.EtcdCluster, m string) Start {
	s := start(m)
	if of := SurvivorOf(c, nil); of != nil {
		s.Restore = &Restore{BackupImage: "ghcr.io/quorate/backup:v0", BackupID: of.ID(), Survivor: of, Floor: RevisionFloor(c, nil)}
		s.Orders.Empty, s.Orders.Peers = EmptyForbidden, []string{m}
	}
	if c.Spec.RestoreFrom != nil {
		r, _ := RestoreOf(c, c.Spec.RestoreFrom, nil, nil)
		r.BackupImage, r.Floor = "ghcr.io/quorate/backup:v0", RevisionFloor(c, nil)
		s.Restore, s.Orders.Empty = &r, EmptyForbidden
	}
	return s
}

func fromSurvivor(c *v1alpha1.EtcdCluster) {
	c.Status.Incarnation, c.Status.Founders, c.Status.RevisionFloor = 2, []string{"a-0001"}, 1_800_000_000_000_000
	c.Status.Recovery = &v1alpha1.RecoveryStatus{Incarnation: 2, Survivor: &v1alpha1.SurvivorStatus{Name: "a-0000", VolumeUID: "0ld", Incarnation: 1}}
}

func fromBackup(c *v1alpha1.EtcdCluster) {
	c.Status.RevisionFloor = 1_800_000_000_000_000
	c.Spec.RestoreFrom = &v1alpha1.RestoreSource{
		Store: &v1alpha1.BackupStore{S3: &v1alpha1.S3Store{
			Endpoint: "https://minio:9000", Bucket: "backups", Prefix: "p",
			CredentialsSecretRef: &v1alpha1.SecretReference{Name: "s3"}, CASecretRef: &v1alpha1.SecretReference{Name: "s3-ca"},
		}},
		ClusterUID: "0ld", BackupID: "00000000000000000042-20260101T000000.000Z-nightly", IdentitySecretRef: &v1alpha1.SecretReference{Name: "age"},
	}
}

// variants are the clusters that the golden files show and the rules hold for.
var variants = map[string]*v1alpha1.EtcdCluster{
	"default":   cluster(),
	"etcd-3.5":  cluster(version("3.5.35")),
	"etcd-3.7":  cluster(version("3.7.3")),
	"plaintext": cluster(plaintext),
	"memory":    cluster(inMemory),
	"rich":      cluster(rich),
	"restored":  cluster(restored),
	"backup":    cluster(fromBackup),
	"survivor":  cluster(fromSurvivor),
}

var operator = OperatorPeer{Namespace: "quorate-system", Labels: map[string]string{"app.kubernetes.io/name": "quorate-operator"}}

// TestGolden shows every object in full: a change that nobody meant shows up in
// a diff, and one that restarts pods or rewrites objects does so on purpose.
func TestGolden(t *testing.T) {
	for name, c := range variants {
		t.Run(name, func(t *testing.T) {
			docs := []any{MemberPod(c, beginning(c, "a-0001"))}
			if !InMemory(c) {
				docs = append(docs, Claim(c, "a-0001"))
			}
			for _, o := range Objects(c, 3, operator) {
				docs = append(docs, o.Want)
			}
			var got strings.Builder
			for _, doc := range docs {
				got.WriteString("---\n")
				got.WriteString(render(t, doc))
			}
			golden(t, filepath.Join("testdata", name+".yaml"), got.String())
		})
	}
}

func render(t *testing.T, object any) string {
	t.Helper()
	raw, err := json.Marshal(object)
	if err != nil {
		t.Fatal(err)
	}
	text, err := yaml.JSONToYAML(raw)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil { //nolint:gosec // golden files are read by everybody.
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file) //nolint:gosec // a file of this package.
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got); if it is meant, run go test ./internal/resources -update:\n%s", file, diff)
	}
}

// TestSelectors: whatever selects pods, or is selected, carries the cluster's
// UID and incarnation, so that what a restore or a namesake leaves behind is
// never taken for a member.
func TestSelectors(t *testing.T) {
	for name, c := range variants {
		t.Run(name, func(t *testing.T) {
			identity := Identity(c)
			if identity[v1alpha1.LabelClusterUID] != "5e1f" || identity[v1alpha1.LabelIncarnation] == "" {
				t.Errorf("identity %v", identity)
			}
			pod, claim := MemberPod(c, start("a-0001")), Claim(c, "a-0001")
			carry := map[string]map[string]string{"pod": pod.Labels, "claim": claim.Labels, "PodSelector": PodSelector(c)}
			for i, s := range pod.Spec.TopologySpreadConstraints {
				carry["spread "+s.TopologyKey+string(rune('0'+i))] = s.LabelSelector.MatchLabels
			}
			for _, o := range Objects(c, 3, operator) {
				var want struct {
					Metadata struct {
						Labels map[string]string `json:"labels"`
					} `json:"metadata"`
					Spec struct {
						Selector    json.RawMessage       `json:"selector"`
						PodSelector *metav1.LabelSelector `json:"podSelector"`
					} `json:"spec"`
				}
				if err := json.Unmarshal([]byte(mustJSON(t, o.Want)), &want); err != nil {
					t.Fatal(err)
				}
				carry[o.Kind+" "+o.Name] = want.Metadata.Labels
				switch o.Kind {
				case "Service":
					carry[o.Kind+" "+o.Name+" selector"] = flat(t, want.Spec.Selector)
				case "PodDisruptionBudget":
					carry["budget selector"] = labelSelector(t, want.Spec.Selector)
				case "NetworkPolicy":
					carry["policy selector"] = want.Spec.PodSelector.MatchLabels
				}
			}
			for what, labels := range carry {
				for label, value := range identity {
					if labels[label] != value {
						t.Errorf("%s: label %s is %q, want %q", what, label, labels[label], value)
					}
				}
			}
		})
	}
}

func mustJSON(t *testing.T, o any) string {
	t.Helper()
	raw, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func flat(t *testing.T, raw json.RawMessage) map[string]string {
	t.Helper()
	out := map[string]string{}
	if err := json.Unmarshal(raw, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

func labelSelector(t *testing.T, raw json.RawMessage) map[string]string {
	t.Helper()
	var out metav1.LabelSelector
	if err := json.Unmarshal(raw, &out); err != nil {
		t.Fatal(err)
	}
	return out.MatchLabels
}

// TestOwners: everything goes with the cluster but the data.
func TestOwners(t *testing.T) {
	c := cluster()
	if owners := Claim(c, "a-0000").OwnerReferences; len(owners) != 0 {
		t.Errorf("the claim is owned by %v: a deletion would cascade to the data", owners)
	}
	pod := MemberPod(c, start("a-0000"))
	if !metav1.IsControlledBy(pod, c) {
		t.Error("the pod is not controlled by the cluster")
	}
	for _, o := range Objects(c, 3, operator) {
		if !strings.Contains(mustJSON(t, o.Want), `"uid":"5e1f","controller":true`) &&
			!strings.Contains(mustJSON(t, o.Want), `"controller":true`) {
			t.Errorf("%s %s is not controlled by the cluster", o.Kind, o.Name)
		}
	}
}

func TestDisruptionBudget(t *testing.T) {
	cases := map[string]struct {
		size, members int
		want          string
	}{
		"one member":        {1, 1, `"minAvailable":1`},
		"three members":     {3, 3, `"minAvailable":2`},
		"before the first":  {3, 0, `"minAvailable":2`},
		"growing to three":  {3, 1, `"minAvailable":2`},
		"growing to five":   {5, 3, `"minAvailable":4`},
		"growing to seven":  {7, 5, `"minAvailable":6`},
		"shrinking to five": {5, 7, `"minAvailable":6`},
		"shrinking to one":  {1, 5, `"minAvailable":4`},
		"two are left":      {1, 2, `"minAvailable":2`},
		"seven of them":     {7, 7, `"minAvailable":6`},
		"a replacement too": {3, 4, `"minAvailable":3`},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			c := cluster(func(c *v1alpha1.EtcdCluster) { c.Spec.Size = int32(tc.size) })
			got := mustJSON(t, disruptionBudget(c, tc.members))
			if !strings.Contains(got, tc.want) || !strings.Contains(got, `"unhealthyPodEvictionPolicy":"AlwaysAllow"`) {
				t.Errorf("budget %s, want %s and AlwaysAllow", got, tc.want)
			}
			// Whatever the size, one member at a time and never the quorum.
			most := max(tc.size, tc.members)
			var budget struct{ Spec struct{ MinAvailable int } }
			if err := json.Unmarshal([]byte(got), &budget); err != nil {
				t.Fatal(err)
			}
			if may := most - budget.Spec.MinAvailable; may > 1 || budget.Spec.MinAvailable < most/2+1 {
				t.Errorf("%d of %d members may go at once", may, most)
			}
		})
	}
}

func TestClaimChange(t *testing.T) {
	class := func(name string) change {
		return func(c *v1alpha1.EtcdCluster) { c.Spec.Storage.StorageClassName = &name }
	}
	bigger := func(c *v1alpha1.EtcdCluster) { c.Spec.Storage.Size = resource.MustParse("9Gi") }
	cases := map[string]struct {
		made, wants *v1alpha1.EtcdCluster
		want        string
	}{
		"nothing changed":           {cluster(), cluster(), ""},
		"the same size in words":    {cluster(), cluster(func(c *v1alpha1.EtcdCluster) { c.Spec.Storage.Size = resource.MustParse("8192Mi") }), ""},
		"another size":              {cluster(), cluster(bigger), "size 8Gi, and spec.storage.size is 9Gi"},
		"another class":             {cluster(class("slow")), cluster(class("fast")), `class "slow", and spec.storage.storageClassName asks for class "fast"`},
		"a class after none":        {cluster(), cluster(class("fast")), `the default class, and spec.storage.storageClassName asks for class "fast"`},
		"the default class again":   {cluster(class("fast")), cluster(), `class "fast", and spec.storage.storageClassName asks for the default class`},
		"an edit of something else": {cluster(), cluster(rich, class("")), ""},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			claim := Claim(tc.made, "a-0000")
			// The API server fills in the default class.
			claim.Spec.StorageClassName = new("default")
			if got := ClaimChange(tc.wants, claim); got != tc.want {
				t.Errorf("ClaimChange() = %q, want %q", got, tc.want)
			}
		})
	}
}

func TestFounders(t *testing.T) {
	c := cluster()
	claim := Claim(c, "a-0001")
	if diff := cmp.Diff(c.Status.Founders, Founders(&corev1.PersistentVolumeClaim{}, claim)); diff != "" {
		t.Errorf("the founders on a claim (-want +got):\n%s", diff)
	}
	pod := MemberPod(cluster(inMemory), start("a-0001"))
	if diff := cmp.Diff(c.Status.Founders, Founders(pod)); diff != "" {
		t.Errorf("the founders on a memory-backed pod (-want +got):\n%s", diff)
	}
	if got := Founders(); got != nil {
		t.Errorf("Founders() = %v of nothing", got)
	}
}
