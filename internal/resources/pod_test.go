package resources

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	psa "k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/member"
)

// TestRestricted asks what the API server asks in a namespace that enforces the
// restricted Pod Security profile.
func TestRestricted(t *testing.T) {
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	level := psa.LevelVersion{Level: psa.LevelRestricted, Version: psa.LatestVersion()}
	for name, c := range variants {
		t.Run(name, func(t *testing.T) {
			pod := MemberPod(c, beginning(c, "a-0001"))
			for _, result := range evaluator.EvaluatePod(level, &pod.ObjectMeta, &pod.Spec) {
				if !result.Allowed {
					t.Errorf("%s: %s", result.ForbiddenReason, result.ForbiddenDetail)
				}
			}
			if *pod.Spec.AutomountServiceAccountToken {
				t.Error("the pod gets a token of the API server")
			}
			for _, container := range append(slices.Clone(pod.Spec.InitContainers), pod.Spec.Containers...) {
				if !*container.SecurityContext.ReadOnlyRootFilesystem {
					t.Errorf("container %s may write to its root file system", container.Name)
				}
			}
		})
	}
	// The evaluator must be able to refuse.
	pod := MemberPod(cluster(), start("a-0001"))
	pod.Spec.SecurityContext.RunAsNonRoot = nil
	if policy.AggregateCheckResults(evaluator.EvaluatePod(level, &pod.ObjectMeta, &pod.Spec)).Allowed {
		t.Error("a pod that may run as root is allowed")
	}
}

// TestNoSecretsInPods: keys reach a pod as files, never by its spec, which many
// may read.
func TestNoSecretsInPods(t *testing.T) {
	for name, c := range variants {
		t.Run(name, func(t *testing.T) {
			pod := MemberPod(c, beginning(c, "a-0001"))
			for _, container := range append(slices.Clone(pod.Spec.InitContainers), pod.Spec.Containers...) {
				if len(container.EnvFrom) > 0 {
					t.Errorf("container %s takes its environment from %v", container.Name, container.EnvFrom)
				}
				for _, env := range container.Env {
					if env.ValueFrom != nil && env.ValueFrom.SecretKeyRef != nil {
						t.Errorf("container %s has a Secret's key in %s", container.Name, env.Name)
					}
				}
			}
			for _, v := range pod.Spec.Volumes {
				usersOwn := c.Spec.RestoreFrom != nil && v.Secret != nil && slices.Contains([]string{"s3", "s3-ca", "age"}, v.Secret.SecretName)
				if usersOwn && slices.ContainsFunc(pod.Spec.Containers[0].VolumeMounts, func(m corev1.VolumeMount) bool { return m.Name == v.Name }) {
					t.Errorf("etcd's own container mounts Secret %s of a store", v.Secret.SecretName)
				}
				if v.Secret != nil && v.Secret.SecretName != "a-0001-tls" && !usersOwn {
					t.Errorf("volume %s mounts Secret %s: an authority's key is never in a pod", v.Name, v.Secret.SecretName)
				}
				if v.Secret != nil && *v.Secret.DefaultMode&0o007 != 0 {
					t.Errorf("everybody in the pod may read Secret %s", v.Secret.SecretName)
				}
			}
		})
	}
}

// flagsOf etcd in a pod of the cluster, by name.
func flagsOf(c *v1alpha1.EtcdCluster) map[string]string {
	out := map[string]string{}
	for _, f := range etcdFlags(c, "a-0001") {
		name, value, _ := strings.Cut(strings.TrimPrefix(f, "--"), "=")
		out[name] = value
	}
	return out
}

func TestFlags(t *testing.T) {
	const gate, corrupt, hash = "feature-gates", "experimental-initial-corrupt-check", "experimental-compact-hash-check-enabled"
	const skipSAN = "peer-skip-client-san-verification"
	cases := map[string]struct {
		cluster *v1alpha1.EtcdCluster
		want    map[string]string
		without []string
	}{
		"3.5 has experimental flags": {
			cluster(version("3.5.35")),
			map[string]string{corrupt: "true", hash: "true", "experimental-" + skipSAN: ""},
			[]string{gate, skipSAN},
		},
		"3.6 has feature gates": {
			cluster(version("3.6.16")),
			map[string]string{gate: "InitialCorruptCheck=true,CompactHashCheck=true", skipSAN: ""},
			[]string{corrupt, hash, "experimental-" + skipSAN},
		},
		"3.7 has feature gates": {
			cluster(version("3.7.3")),
			map[string]string{gate: "InitialCorruptCheck=true,CompactHashCheck=true", skipSAN: ""},
			[]string{corrupt, hash, "experimental-" + skipSAN},
		},
		"3.10 is newer than 3.6": {
			cluster(version("3.10.0")), map[string]string{gate: "InitialCorruptCheck=true,CompactHashCheck=true"}, []string{corrupt},
		},
		"the user's gates come before ours": {
			cluster(rich),
			map[string]string{gate: "SetMemberLocalAddr=true,InitialCorruptCheck=true,CompactHashCheck=true", "max-txn-ops": "512", "log-level": "debug"},
			nil,
		},
		"TLS on both ports": {
			cluster(),
			map[string]string{
				"client-cert-auth": "", "peer-client-cert-auth": "", "tls-min-version": "TLS1.2",
				"listen-client-urls": "https://0.0.0.0:2379", "listen-peer-urls": "https://0.0.0.0:2380,https://0.0.0.0:2383",
				"listen-metrics-urls": "https://0.0.0.0:2381,http://127.0.0.1:2382", "advertise-client-urls": "https://a-0001.a.ns.svc:2379",
			},
			nil,
		},
		"plaintext when asked for": {
			cluster(plaintext),
			map[string]string{"listen-client-urls": "http://0.0.0.0:2379", "initial-advertise-peer-urls": "http://a-0001.a.ns.svc:2380"},
			[]string{"client-cert-auth", "cert-file", "peer-cert-file", "tls-min-version"},
		},
		"both for clients, and for members on the way": {
			cluster(func(c *v1alpha1.EtcdCluster) { c.Spec.TLS.Mode = v1alpha1.TLSOptional }),
			map[string]string{
				"listen-client-urls": "http://0.0.0.0:2379,https://0.0.0.0:2379", "listen-peer-urls": "https://0.0.0.0:2380,https://0.0.0.0:2383",
				"advertise-client-urls": "http://a-0001.a.ns.svc:2379", "initial-advertise-peer-urls": "https://a-0001.a.ns.svc:2380",
				"listen-metrics-urls": "http://0.0.0.0:2381,http://127.0.0.1:2382", "client-cert-auth": "", "peer-client-cert-auth": "",
			},
			nil,
		},
		"options in etcd's own units": {
			cluster(rich),
			map[string]string{
				"quota-backend-bytes": "2147483648", "heartbeat-interval": "100", "election-timeout": "1000", "snapshot-count": "10000",
				"max-request-bytes": "1572864", "auto-compaction-mode": "revision", "auto-compaction-retention": "1000",
			},
			nil,
		},
		"what the guard adds is left to it": {
			cluster(),
			map[string]string{"initial-cluster-token": "5e1f-1", "name": "a-0001"},
			[]string{"initial-cluster", "initial-cluster-state", "data-dir", "wal-dir", "force-new-cluster", "strict-reconfig-check"},
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			got := flagsOf(tc.cluster)
			for flag, value := range tc.want {
				if have, ok := got[flag]; !ok || have != value {
					t.Errorf("--%s=%q (there: %v), want %q", flag, have, ok, value)
				}
			}
			for _, flag := range tc.without {
				if value, ok := got[flag]; ok {
					t.Errorf("--%s=%s is there", flag, value)
				}
			}
		})
	}
}

func TestFlagsAreGivenOnce(t *testing.T) {
	for name, c := range variants {
		seen := map[string]bool{}
		for _, f := range etcdFlags(c, "a-0001") {
			flag, _, _ := strings.Cut(f, "=")
			if seen[flag] {
				t.Errorf("%s: %s is given twice", name, flag)
			}
			seen[flag] = true
		}
	}
}

// TestPodInMemory: a pod tells where its member's data is without its spec, which the
// operator does not keep, and one whose annotations are gone is not in memory.
func TestPodInMemory(t *testing.T) {
	onVolume, inPod, bare := MemberPod(cluster(), start("a-0001")), MemberPod(cluster(inMemory), start("a-0001")), MemberPod(cluster(), start("a-0001"))
	delete(bare.Annotations, v1alpha1.AnnotationVolumeUID)
	onVolume.Spec, inPod.Spec = corev1.PodSpec{}, corev1.PodSpec{}
	if PodInMemory(onVolume) || !PodInMemory(inPod) || PodInMemory(bare) {
		t.Errorf("on a volume: %v, in memory: %v, without annotations: %v", PodInMemory(onVolume), PodInMemory(inPod), PodInMemory(bare))
	}
}

// TestTemplateHash: the hash is what restarts a pod. Its values are fixed, so
// that an upgrade of the operator restarts none.
func TestTemplateHash(t *testing.T) {
	for name, want := range map[string]string{"default": "368b9a8f6fa8ea05", "rich": "ed93490ed66d9ef0"} {
		if got := TemplateHash(variants[name]); got != want {
			t.Errorf("hash of %s = %q, want %q: every pod of every such cluster would count as outdated", name, got, want)
		}
	}
	differs := map[string]change{
		"version":         version("3.6.17"),
		"image":           func(c *v1alpha1.EtcdCluster) { c.Spec.Image.Repository = "other" },
		"digest":          func(c *v1alpha1.EtcdCluster) { c.Spec.Image.Digest = "sha256:0" },
		"TLS":             plaintext,
		"medium":          inMemory,
		"quota":           func(c *v1alpha1.EtcdCluster) { c.Spec.Etcd.QuotaBackendBytes = resource.MustParse("4Gi") },
		"election":        func(c *v1alpha1.EtcdCluster) { c.Spec.Etcd.ElectionMs = 2000 },
		"extra arguments": func(c *v1alpha1.EtcdCluster) { c.Spec.Etcd.ExtraArgs = map[string]string{"log-level": "debug"} },
		"disk for logs": func(c *v1alpha1.EtcdCluster) {
			c.Spec.PodTemplate.Resources = &corev1.ResourceRequirements{Limits: corev1.ResourceList{corev1.ResourceEphemeralStorage: resource.MustParse("1Gi")}}
		},
		"node selector": func(c *v1alpha1.EtcdCluster) { c.Spec.PodTemplate.NodeSelector = map[string]string{"a": "b"} },
		"labels":        func(c *v1alpha1.EtcdCluster) { c.Spec.PodTemplate.Labels = map[string]string{"a": "b"} },
	}
	same := map[string]change{
		"CPU and memory": func(c *v1alpha1.EtcdCluster) {
			c.Spec.PodTemplate.Resources = &corev1.ResourceRequirements{Limits: quantities("2", "8Gi")}
		},
		"an identity in a cloud": func(c *v1alpha1.EtcdCluster) {
			c.Spec.PodTemplate.ServiceAccountAnnotations = map[string]string{"a": "b"}
		},
		"size":          func(c *v1alpha1.EtcdCluster) { c.Spec.Size = 5 },
		"paused":        func(c *v1alpha1.EtcdCluster) { c.Spec.Paused = true },
		"leaf duration": func(c *v1alpha1.EtcdCluster) { c.Spec.TLS.LeafDuration.Duration *= 2 },
		"network policy": func(c *v1alpha1.EtcdCluster) {
			c.Spec.NetworkPolicy.ClientFrom = variants["rich"].Spec.NetworkPolicy.ClientFrom
		},
		"deletion": func(c *v1alpha1.EtcdCluster) { c.Spec.Storage.WhenDeleted = v1alpha1.WhenDeletedDelete },
		"name":     named("b"),
		"status":   func(c *v1alpha1.EtcdCluster) { c.Status.ClusterID = "c1" },
		"a quantity in other words": func(c *v1alpha1.EtcdCluster) {
			c.Spec.Etcd.QuotaBackendBytes = resource.MustParse("2048Mi")
		},
	}
	for what, change := range differs {
		if TemplateHash(cluster(change)) == TemplateHash(cluster()) {
			t.Errorf("%s: the pods do not follow", what)
		}
	}
	for what, change := range same {
		if TemplateHash(cluster(change)) != TemplateHash(cluster()) {
			t.Errorf("%s: the pods would be restarted for nothing", what)
		}
	}
}

// TestResize: CPU and memory follow the spec, and what else the pod was given stays.
func TestResize(t *testing.T) {
	given := corev1.ResourceList{corev1.ResourceEphemeralStorage: resource.MustParse("1Gi"), corev1.ResourceCPU: resource.MustParse("1")}
	pod := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "sidecar"}, {Name: EtcdContainer, Resources: corev1.ResourceRequirements{Limits: given}}}}}
	c := cluster(func(c *v1alpha1.EtcdCluster) {
		c.Spec.PodTemplate.Resources = &corev1.ResourceRequirements{Limits: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("8Gi")}}
	})
	if ComputeHash(c) == ComputeHash(cluster()) {
		t.Error("another limit has the same hash")
	}
	Resize(c, pod)
	limits := pod.Spec.Containers[1].Resources.Limits
	if len(limits) != 2 || limits.Memory().String() != "8Gi" || limits.StorageEphemeral().String() != "1Gi" {
		t.Errorf("limits %v", limits)
	}
	if pod.Spec.Containers[0].Resources.Limits != nil {
		t.Error("another container was resized")
	}
}

// TestOptionTrouble: a flag is held against what etcd of the release takes.
func TestOptionTrouble(t *testing.T) {
	cases := map[string]struct{ version, flag, value, want string }{
		"a flag that there is":        {"3.6.16", "log-level", "debug", ""},
		"a typo":                      {"3.6.16", "log-levl", "debug", "etcd has no flag log-levl (did you mean log-level?)"},
		"nothing that is near":        {"3.6.16", "frobnicate", "1", "etcd has no flag frobnicate —"},
		"a flag of an older release":  {"3.7.3", "experimental-corrupt-check-time", "1h", "etcd 3.7 has no flag experimental-corrupt-check-time, which only 3.5 and 3.6 knows (did you mean corrupt-check-time?)"},
		"a flag of a newer release":   {"3.5.35", "feature-gates", "", "etcd 3.5 has no flag feature-gates"},
		"a word for a number":         {"3.6.16", "max-txn-ops", "many", `max-txn-ops takes a number and not "many"`},
		"a number for a duration":     {"3.6.16", "corrupt-check-time", "10", `corrupt-check-time takes a duration and not "10"`},
		"a duration":                  {"3.6.16", "corrupt-check-time", "10m", ""},
		"a gate that is switched":     {"3.6.16", "feature-gates", "CompactHashCheck=true", ""},
		"a gate that is only named":   {"3.6.16", "feature-gates", "CompactHashCheck", "feature-gates takes"},
		"an origin":                   {"3.6.16", "cors", "https://example.com:443,*", ""},
		"an origin that is none":      {"3.6.16", "cors", "example", "cors takes"},
		"a release that nobody knows": {"3.8.0", "anything", "1", ""},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			c := cluster(version(tc.version), func(c *v1alpha1.EtcdCluster) { c.Spec.Etcd.ExtraArgs = map[string]string{tc.flag: tc.value} })
			got := OptionTrouble(c)
			if (got == "") != (tc.want == "") || !strings.Contains(got, tc.want) {
				t.Errorf("OptionTrouble() = %q, want %q", got, tc.want)
			}
			passed := slices.ContainsFunc(etcdFlags(c, "a-0000"), func(f string) bool { return strings.HasPrefix(f, "--"+tc.flag+"="+tc.value) })
			if passed != (tc.want == "") && tc.flag != "feature-gates" {
				t.Errorf("the flag is passed on: %v", passed)
			}
		})
	}
}

// TestTerminationGrace: etcd hands its leadership over on the way down, waits
// for at most its request timeout of 5 s and two election timeouts, and closes
// its database after that.
func TestTerminationGrace(t *testing.T) {
	for _, election := range []int32{1000, 5000, 12600, 50000} {
		c := cluster(func(c *v1alpha1.EtcdCluster) { c.Spec.Etcd.ElectionMs = election })
		handOver := 5 + 2*int64(election)/1000
		if got := terminationGrace(c); got < handOver+10 || got < 30 {
			t.Errorf("grace of %d s with an election timeout of %d ms: handing over may take %d s", got, election, handOver)
		}
	}
}

func TestOrders(t *testing.T) {
	c := cluster()
	orders := Orders{Peers: []string{"a-0000", "a-0001"}, State: member.ClusterStateExisting, Empty: EmptyForbidden}
	want := map[string]string{
		member.AnnotationInitialCluster:      "a-0000=https://a-0000.a.ns.svc:2380,a-0001=https://a-0001.a.ns.svc:2380",
		member.AnnotationInitialClusterState: "existing",
		member.AnnotationMayBeEmpty:          "false",
	}
	if diff := cmp.Diff(want, orders.Annotations(c)); diff != "" {
		t.Errorf("orders (-want +got):\n%s", diff)
	}
	pod := MemberPod(cluster(rich), Start{Member: "a-0001", VolumeUID: "v", Orders: orders})
	for name, value := range want {
		if pod.Annotations[name] != value {
			t.Errorf("annotation %s is %q: the user's pod template gives no orders to the guard", name, pod.Annotations[name])
		}
	}
	if pod.Annotations["note"] != "mine" || pod.Labels["team"] != "storage" {
		t.Errorf("the user's labels and annotations are not on the pod: %v %v", pod.Labels, pod.Annotations)
	}
}

// TestPodTemplateIsNotShared: two pods of one cluster must not write to each
// other's labels, nor to the spec.
func TestPodTemplateIsNotShared(t *testing.T) {
	c := cluster(rich)
	before := mustJSON(t, c)
	first := MemberPod(c, start("a-0000"))
	MemberPod(c, beginning(c, "a-0001"))
	if first.Labels[v1alpha1.LabelMember] != "a-0000" || mustJSON(t, c) != before {
		t.Error("building a pod changed another one, or the cluster")
	}
}

func TestImage(t *testing.T) {
	if got := Image(cluster()); got != "quay.io/coreos/etcd:v3.6.16" {
		t.Errorf("Image() = %q", got)
	}
	if got := Image(cluster(rich)); !strings.HasPrefix(got, "registry.example/etcd@sha256:abab") {
		t.Errorf("Image() = %q", got)
	}
}

// TestObjects: what is wanted is an object of the type that the live one is
// read into, under the name that it is asked for by.
func TestObjects(t *testing.T) {
	for _, o := range Objects(cluster(rich), 3, operator) {
		raw, live := mustJSON(t, o.Want), o.Empty()
		if err := json.Unmarshal([]byte(raw), live); err != nil {
			t.Fatal(err)
		}
		if live.GetName() != o.Name || live.GetNamespace() != "ns" || live.GetObjectKind().GroupVersionKind().Kind != o.Kind {
			t.Errorf("%s %s reads back as %s %s/%s", o.Kind, o.Name, live.GetObjectKind().GroupVersionKind().Kind, live.GetNamespace(), live.GetName())
		}
		var wanted, read map[string]any
		if err := json.Unmarshal([]byte(raw), &wanted); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal([]byte(mustJSON(t, live)), &read); err != nil {
			t.Fatal(err)
		}
		// The fields that every object of the type shows are not wanted.
		delete(read, "status")
		if diff := cmp.Diff(wanted["spec"], read["spec"]); diff != "" {
			t.Errorf("%s %s: the API's type does not hold what is wanted (-want +read):\n%s", o.Kind, o.Name, diff)
		}
	}
}
