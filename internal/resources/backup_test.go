package resources

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	psa "k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/pki"
	"github.com/quorate/quorate/internal/snapshot"
)

const recipient = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"

func backupTo(store v1alpha1.BackupStore) *v1alpha1.EtcdBackup {
	b := &v1alpha1.EtcdBackup{
		ObjectMeta: metav1.ObjectMeta{Name: "nightly", Namespace: "ns", UID: "b1"},
		Spec: v1alpha1.EtcdBackupSpec{
			ClusterRef: v1alpha1.ClusterReference{Name: "a"}, Store: store, Verify: v1alpha1.VerifyDrill,
			RateLimit: resource.MustParse("32Mi"), Timeout: metav1.Duration{Duration: 2 * time.Hour},
		},
	}
	b.Status.ClusterUID, b.Status.ID = "5e1f", "00000000000000000042-20260101T000000.000Z-nightly"
	return b
}

// founded is a cluster with three voters and a learner.
func founded(c *v1alpha1.EtcdCluster) {
	c.Status.ClusterID = "c1"
	for i, role := range []v1alpha1.MemberRole{v1alpha1.RoleVoter, v1alpha1.RoleVoter, v1alpha1.RoleVoter, v1alpha1.RoleLearner} {
		c.Status.Members = append(c.Status.Members, v1alpha1.MemberStatus{Name: MemberName("a", i), Role: role})
	}
}

// stores of every kind, with everything that they have.
var stores = map[string]v1alpha1.BackupStore{
	"s3": {S3: &v1alpha1.S3Store{
		Endpoint: "https://minio:9000/", Bucket: "backups", Region: "eu-central-1", Prefix: "clusters/a",
		CredentialsSecretRef: &v1alpha1.SecretReference{Name: "s3"}, CASecretRef: &v1alpha1.SecretReference{Name: "s3-ca"},
	}},
	"amazon": {S3: &v1alpha1.S3Store{Bucket: "backups", Region: "us-east-1"}},
	"gcs":    {GCS: &v1alpha1.GCSStore{Bucket: "backups", Prefix: "p", CredentialsSecretRef: &v1alpha1.SecretReference{Name: "gcs"}}},
	"azure":  {Azure: &v1alpha1.AzureStore{Account: "acc", Container: "etcd", CredentialsSecretRef: &v1alpha1.SecretReference{Name: "azure"}}},
	"volume": {PersistentVolumeClaim: &v1alpha1.ClaimStore{ClaimName: "disk", Path: "etcd/a"}},
}

var operations = []snapshot.Operation{snapshot.OperationSave, snapshot.OperationDrill, snapshot.OperationPrune}

// encrypted says how the backup is encrypted, and run with whose identity.
func encrypted(b *v1alpha1.EtcdBackup) *v1alpha1.EtcdBackup {
	b.Spec.Encryption = &v1alpha1.BackupEncryption{Recipients: []string{recipient, recipient}, IdentitySecretRef: &v1alpha1.SecretReference{Name: "age"}}
	b.Spec.ServiceAccountName = "backups"
	return b
}

func job(b *v1alpha1.EtcdBackup, operation snapshot.Operation) *batchv1.Job {
	return BackupJob(b, Work{Operation: operation, BackupImage: "ghcr.io/quorate/backup:v0", EtcdImage: "quay.io/coreos/etcd:v3.6.16", Cluster: cluster(founded)})
}

func TestBackupJobs(t *testing.T) {
	for _, operation := range operations {
		golden(t, filepath.Join("testdata", "backup-"+string(operation)+".yaml"), render(t, job(encrypted(backupTo(stores["s3"])), operation)))
	}
}

// TestADrillHasItsRoom: whoever can write to the store could have a drill fill its node, so
// that it has room for what was recorded when the backup was made, and no more.
func TestADrillHasItsRoom(t *testing.T) {
	for size, want := range map[string]string{"": "", "0": "", "200Mi": "1624Mi", "8Gi": "25Gi"} {
		b := backupTo(stores["s3"])
		if size != "" {
			b.Status.DatabaseSize = new(resource.MustParse(size))
		}
		for _, v := range job(b, snapshot.OperationDrill).Spec.Template.Spec.Volumes {
			if v.Name != "work" {
				continue
			}
			if limit := v.EmptyDir.SizeLimit; (limit == nil) != (want == "") || limit != nil && limit.Cmp(resource.MustParse(want)) != 0 {
				t.Errorf("of a database of %q: room for %s, want %q", size, limit, want)
			}
		}
	}
}

// TestAPodThatSomebodyEndedDoesNotEndItsJob: of the rules the first that fits counts, and a pod
// that is ended may say anything.
func TestAPodThatSomebodyEndedDoesNotEndItsJob(t *testing.T) {
	for _, operation := range operations {
		rules := job(backupTo(stores["s3"]), operation).Spec.PodFailurePolicy.Rules
		if first := rules[0]; first.Action != batchv1.PodFailurePolicyActionIgnore || len(first.OnPodConditions) != 1 || first.OnPodConditions[0].Type != corev1.DisruptionTarget {
			t.Errorf("%s: the first rule is %+v", operation, first)
		}
	}
}

// TestStores: how the program is told where a store is.
func TestStores(t *testing.T) {
	want := map[string]string{
		"s3":     "--store=s3://backups --prefix=clusters/a --credentials=/quorate/credentials --s3-endpoint=https://minio:9000 --s3-region=eu-central-1 --s3-path-style --store-ca=/quorate/store-ca/ca.crt",
		"amazon": "--store=s3://backups --s3-region=us-east-1",
		"gcs":    "--store=gs://backups --prefix=p --credentials=/quorate/credentials",
		"azure":  "--store=azblob://etcd --azure-account=acc --credentials=/quorate/credentials",
		"volume": "--store=file:///store --prefix=etcd/a",
	}
	for name, s := range stores {
		if got := strings.Join(store(s).flags, " "); got != want[name] {
			t.Errorf("%s: %s, want %s", name, got, want[name])
		}
	}
	if got := ObjectURL(stores["volume"], "etcd/a/5e1f/x"); got != "pvc://disk/etcd/a/5e1f/x" {
		t.Errorf("URL on a volume: %s", got)
	}
}

// TestBackupPods: they are restricted, have no right in Kubernetes, carry no secret in
// their spec and no label that a selector of a cluster knows, and every flag that names
// a file names one that is mounted.
func TestBackupPods(t *testing.T) {
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	level := psa.LevelVersion{Level: psa.LevelRestricted, Version: psa.LatestVersion()}
	for name, s := range stores {
		for _, operation := range operations {
			t.Run(fmt.Sprint(name, " ", operation), func(t *testing.T) {
				pod := job(encrypted(backupTo(s)), operation).Spec.Template
				for _, result := range evaluator.EvaluatePod(level, &pod.ObjectMeta, &pod.Spec) {
					if !result.Allowed {
						t.Errorf("%s: %s", result.ForbiddenReason, result.ForbiddenDetail)
					}
				}
				if *pod.Spec.AutomountServiceAccountToken {
					t.Error("the pod gets a token of the API server")
				}
				for label := range PodSelector(cluster()) {
					if pod.Labels[label] != "" {
						t.Errorf("label %s would make it a member", label)
					}
				}
				for _, c := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers) {
					if len(c.Env) > 0 || len(c.EnvFrom) > 0 || !*c.SecurityContext.ReadOnlyRootFilesystem {
						t.Errorf("container %s has an environment, or may write to its root", c.Name)
					}
				}
				worker := pod.Spec.Containers[0]
				for _, flag := range worker.Command[2:] {
					_, file, ok := strings.Cut(flag, "=/")
					if !ok {
						continue
					}
					if !slices.ContainsFunc(worker.VolumeMounts, func(m corev1.VolumeMount) bool { return strings.HasPrefix("/"+file, m.MountPath) }) {
						t.Errorf("%s is not mounted", flag)
					}
				}
			})
		}
	}
}

// TestBackupSecrets: those that a pod waits for are those that are looked for.
func TestBackupSecrets(t *testing.T) {
	for name, s := range stores {
		b := encrypted(backupTo(s))
		want := SecretsOf(s, b.Spec.Encryption)
		got := map[string]bool{}
		for _, operation := range operations {
			for _, v := range job(b, operation).Spec.Template.Spec.Volumes {
				if v.Secret != nil && v.Secret.SecretName != pki.ClientSecret("a") {
					got[v.Secret.SecretName] = true
				}
			}
		}
		if len(got) != len(want) {
			t.Errorf("%s: the pods mount %v, looked for are %v", name, got, want)
		}
	}
}

// TestJobNames: the longest names that are taken still name Jobs.
func TestJobNames(t *testing.T) {
	for _, operation := range operations {
		if name := JobName(strings.Repeat("a", 56), operation); len(name) > 63 {
			t.Errorf("%s has %d characters", name, len(name))
		}
	}
}

// TestPruneHasNoOwner: a deletion in the foreground deletes what a backup owns before
// the backup goes, and would take the Job before it has deleted anything.
func TestPruneHasNoOwner(t *testing.T) {
	if owners := job(backupTo(stores["s3"]), snapshot.OperationPrune).OwnerReferences; len(owners) > 0 {
		t.Errorf("owned by %v", owners)
	}
	if owners := job(backupTo(stores["s3"]), snapshot.OperationSave).OwnerReferences; len(owners) != 1 {
		t.Errorf("owned by %v", owners)
	}
}
