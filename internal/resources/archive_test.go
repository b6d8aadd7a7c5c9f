package resources

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	psa "k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"

	"github.com/quorate/quorate/api/v1alpha1"
)

func archiveTo(store v1alpha1.BackupStore) *v1alpha1.EtcdArchive {
	a := &v1alpha1.EtcdArchive{
		ObjectMeta: metav1.ObjectMeta{Name: "continuous", Namespace: "ns", UID: "e1"},
		Spec: v1alpha1.EtcdArchiveSpec{
			ClusterRef: v1alpha1.ClusterReference{Name: "a"}, Store: store, ServiceAccountName: "backups",
			RateLimit: resource.MustParse("32Mi"), SealEvery: metav1.Duration{Duration: 2 * time.Second},
			Encryption: &v1alpha1.BackupEncryption{Recipients: []string{recipient}, IdentitySecretRef: &v1alpha1.SecretReference{Name: "age"}},
		},
	}
	a.Status.ClusterUID = "5e1f"
	return a
}

func archiveWork() Work {
	return Work{BackupImage: "ghcr.io/quorate/backup:v0", EtcdImage: "quay.io/coreos/etcd:v3.6.16", Cluster: cluster(founded)}
}

func TestArchiver(t *testing.T) {
	d, err := Archiver(archiveTo(stores["s3"]), archiveWork())
	if err != nil {
		t.Fatal(err)
	}
	golden(t, filepath.Join("testdata", "archiver.yaml"), render(t, d))
	golden(t, filepath.Join("testdata", "archive-drill.yaml"), render(t, ArchiveDrillJob(archiveTo(stores["s3"]), archiveWork())))
}

// TestArchiveIsBounded: an archive that does not keep everything has bases to begin with later,
// and its Job is told which points stay, by the operator's clock.
func TestArchiveIsBounded(t *testing.T) {
	for keepFor, want := range map[time.Duration]string{0: "", 24 * time.Hour: "--base-every=12h0m0s", 8760 * time.Hour: "--base-every=168h0m0s"} {
		a := archiveTo(stores["s3"])
		a.Spec.KeepFor.Duration = keepFor
		d, err := Archiver(a, archiveWork())
		if err != nil {
			t.Fatal(err)
		}
		command := d.Spec.Template.Spec.Containers[0].Command
		i := slices.IndexFunc(command, func(flag string) bool { return strings.HasPrefix(flag, "--base-every") })
		if (i >= 0) != (want != "") || (i >= 0 && command[i] != want) {
			t.Errorf("%s: %v, want %q", keepFor, command, want)
		}
	}
	since := time.Date(2026, 1, 2, 4, 0, 0, 5, time.FixedZone("", 3600))
	job := ArchivePruneJob(archiveTo(stores["s3"]), archiveWork(), since)
	command := strings.Join(job.Spec.Template.Spec.Containers[0].Command, " ")
	for _, want := range []string{"/backup prune --store=s3://", "--cluster-uid=5e1f", "--points-since=2026-01-02T03:00:00Z"} {
		if !strings.Contains(command, want) {
			t.Errorf("no %s in %s", want, command)
		}
	}
	for _, not := range []string{"--drop", "--keep", "--endpoints", "age"} {
		if strings.Contains(command, not) {
			t.Errorf("%s in %s", not, command)
		}
	}
	if job.Name != "continuous-prune-archive" || len(job.OwnerReferences) != 1 || job.Labels[v1alpha1.LabelArchiveUID] != "e1" {
		t.Errorf("%+v", job.ObjectMeta)
	}
}

// TestRebuildJob: what puts a point together is told all of it, in a pod like a backup's.
func TestRebuildJob(t *testing.T) {
	c := cluster()
	c.Spec.RestoreFrom = &v1alpha1.RestoreSource{ArchiveName: "continuous", ToTime: "2026-03-29T13:00:00.5+01:00"}
	p, blocked := PointOf(c, nil, archiveTo(stores["s3"]))
	if blocked != "" {
		t.Fatal(blocked)
	}
	golden(t, filepath.Join("testdata", "rebuild.yaml"), render(t, RebuildJob(c, p, "ghcr.io/quorate/backup:v0")))
	if _, blocked := RestoreOf(c, c.Spec.RestoreFrom, nil, archiveTo(stores["s3"])); !strings.Contains(blocked, "not been put together") {
		t.Errorf("founders begin with a point that is not on record: %q", blocked)
	}
}

// checkOf is the Job that reads the backup of an EtcdRestore from a store.
func checkOf(store v1alpha1.BackupStore) *batchv1.Job {
	c := cluster()
	er := &v1alpha1.EtcdRestore{ObjectMeta: metav1.ObjectMeta{Name: "back", Namespace: c.Namespace, UID: "e7"}}
	return CheckJob(c, er, Restore{
		BackupImage: "ghcr.io/quorate/backup:v0", Store: store, ClusterUID: "0ld", BackupID: "the-id", Identity: &v1alpha1.SecretReference{Name: "age"},
	})
}

// TestCheckJob: it reads the backup with all that the founders will fill their volumes with.
func TestCheckJob(t *testing.T) {
	job := checkOf(stores["s3"])
	golden(t, filepath.Join("testdata", "check.yaml"), render(t, job))
	c := cluster(fromBackup)
	founder := MemberPod(c, beginning(c, "a-0000"))
	if as := job.Spec.Template.Spec.ServiceAccountName; as != founder.Spec.ServiceAccountName {
		t.Errorf("it reads as %s, and founders as %s", as, founder.Spec.ServiceAccountName)
	}
	if image := job.Spec.Template.Spec.Containers[0].Image; image != founder.Spec.Containers[0].Image {
		t.Errorf("it reads in %s, and founders in %s", image, founder.Spec.Containers[0].Image)
	}
}

// TestALookHasTheBackupsTime if that is longer than its own. It has not the members' priority: a
// quota for that would have no room for it, and nobody would see a pod that says so.
func TestALookHasTheBackupsTime(t *testing.T) {
	c := cluster(fromBackup)
	c.Spec.PodTemplate.PriorityClassName = "high"
	r := Restore{Store: stores["s3"], BackupID: "the-id"}
	for gives, want := range map[time.Duration]time.Duration{0: checkTimeout, time.Hour: checkTimeout, 9 * time.Hour: 9 * time.Hour} {
		r.Timeout = gives
		job := RecoveryCheckJob(c, r)
		if got := time.Duration(*job.Spec.ActiveDeadlineSeconds) * time.Second; got != want {
			t.Errorf("of a backup with %s it has %s, want %s", gives, got, want)
		}
		if class := job.Spec.Template.Spec.PriorityClassName; class != "" {
			t.Errorf("it has the priority class %q", class)
		}
	}
	b := &v1alpha1.EtcdBackup{Spec: v1alpha1.EtcdBackupSpec{Store: stores["s3"], Timeout: metav1.Duration{Duration: time.Minute}}}
	if is, _ := RestoreOf(c, &v1alpha1.RestoreSource{BackupName: "nightly"}, b, nil); is.Timeout != time.Minute {
		t.Errorf("its EtcdBackup gives a minute, and it has %s", is.Timeout)
	}
}

// TestRecoveryCheckJob: that of spec.recovery reads in the same way, and says for which word, and
// what: another one of either is told apart, and not another operator's image or a later look
// at the Secrets.
func TestRecoveryCheckJob(t *testing.T) {
	word := func(c *v1alpha1.EtcdCluster) {
		c.Spec.Recovery = &v1alpha1.RecoverySpec{Incarnation: 1, BackupName: "nightly"}
	}
	c := cluster(word)
	r := Restore{BackupImage: "ghcr.io/quorate/backup:v0", Store: stores["s3"], ClusterUID: "0ld", BackupID: "the-id", Identity: &v1alpha1.SecretReference{Name: "age"}, Secrets: "age=7"}
	job, restores := RecoveryCheckJob(c, r), checkOf(stores["s3"])
	if diff := cmp.Diff(restores.Spec.Template.Spec, job.Spec.Template.Spec); diff != "" {
		t.Errorf("it reads otherwise than that of an EtcdRestore:\n%s", diff)
	}
	if job.Name != "a-recovery-look" || job.Labels[v1alpha1.LabelRestoring] != string(c.UID) || !metav1.IsControlledBy(job, c) || job.Annotations[v1alpha1.AnnotationSecrets] != "age=7" {
		t.Errorf("%+v", job.ObjectMeta)
	}
	reads := job.Annotations[v1alpha1.AnnotationReads]
	if !strings.HasPrefix(reads, "1/nightly/the-id/") {
		t.Errorf("it says %q", reads)
	}
	for name, tc := range map[string]struct {
		cluster change
		from    func(*Restore)
		same    bool
	}{
		"nothing":         {word, func(*Restore) {}, true},
		"the operator":    {word, func(r *Restore) { r.BackupImage = "ghcr.io/quorate/backup:v1" }, true},
		"the Secrets":     {word, func(r *Restore) { r.Secrets = "age=8" }, true},
		"the incarnation": {func(c *v1alpha1.EtcdCluster) { word(c); c.Spec.Recovery.Incarnation = 2 }, func(*Restore) {}, false},
		"the backup":      {func(c *v1alpha1.EtcdCluster) { word(c); c.Spec.Recovery.BackupName = "weekly" }, func(*Restore) {}, false},
		"its ID":          {word, func(r *Restore) { r.BackupID = "another-id" }, false},
		"whose it is":     {word, func(r *Restore) { r.ClusterUID = "0ther" }, false},
		"the store":       {word, func(r *Restore) { r.Store = stores["volume"] }, false},
		"the key":         {word, func(r *Restore) { r.Identity = &v1alpha1.SecretReference{Name: "other"} }, false},
		"the etcd":        {func(c *v1alpha1.EtcdCluster) { word(c); c.Spec.Version = "3.6.17" }, func(*Restore) {}, false},
		"where it may run": {func(c *v1alpha1.EtcdCluster) {
			word(c)
			c.Spec.PodTemplate.NodeSelector = map[string]string{"disk": "fast"}
		}, func(*Restore) {}, false},
	} {
		other := r
		tc.from(&other)
		if got := Reads(cluster(tc.cluster), other); (got == reads) != tc.same {
			t.Errorf("with a change of %s: %q and %q", name, reads, got)
		}
	}
}

// TestArchivePods: as those of a backup, they are restricted, have no right in Kubernetes,
// carry no secret in their spec and no label that a selector of a cluster knows.
func TestArchivePods(t *testing.T) {
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	level := psa.LevelVersion{Level: psa.LevelRestricted, Version: psa.LatestVersion()}
	for name, s := range stores {
		d, err := Archiver(archiveTo(s), archiveWork())
		if err != nil {
			t.Fatal(err)
		}
		for _, pod := range []corev1.PodTemplateSpec{d.Spec.Template, ArchiveDrillJob(archiveTo(s), archiveWork()).Spec.Template, rebuildOf(s), checkOf(s).Spec.Template, RecoveryCheckJob(cluster(), Restore{Store: s}).Spec.Template, ArchivePruneJob(archiveTo(s), archiveWork(), time.Unix(0, 0)).Spec.Template} {
			for _, result := range evaluator.EvaluatePod(level, &pod.ObjectMeta, &pod.Spec) {
				if !result.Allowed {
					t.Errorf("%s: %s: %s", name, result.ForbiddenReason, result.ForbiddenDetail)
				}
			}
			if *pod.Spec.AutomountServiceAccountToken {
				t.Errorf("%s: the pod gets a token of the API server", name)
			}
			for label := range PodSelector(cluster()) {
				if pod.Labels[label] != "" {
					t.Errorf("%s: label %s would make it a member", name, label)
				}
			}
			worker := pod.Spec.Containers[0]
			for _, flag := range worker.Command[2:] {
				_, file, ok := strings.Cut(flag, "=/")
				if ok && !slices.ContainsFunc(worker.VolumeMounts, func(m corev1.VolumeMount) bool { return strings.HasPrefix("/"+file, m.MountPath) }) {
					t.Errorf("%s: %s is not mounted", name, flag)
				}
			}
		}
	}
}

// TestArchiverIsMadeAnew when what it is made from has changed, and only then.
func TestArchiverIsMadeAnew(t *testing.T) {
	hash := func(a *v1alpha1.EtcdArchive, w Work) string {
		d, err := Archiver(a, w)
		if err != nil {
			t.Fatal(err)
		}
		return d.Annotations[v1alpha1.AnnotationTemplateHash]
	}
	is := hash(archiveTo(stores["s3"]), archiveWork())
	if again := hash(archiveTo(stores["s3"]), archiveWork()); again != is {
		t.Errorf("the same has hash %s and %s", is, again)
	}
	more := archiveWork()
	more.Cluster.Status.Members[3].Role = v1alpha1.RoleVoter
	if hash(archiveTo(stores["s3"]), more) == is || hash(archiveTo(stores["gcs"]), archiveWork()) == is {
		t.Error("another member or another store makes no difference")
	}
}

// TestArchiveHash: a drill is of one store, one encryption and one history.
func TestArchiveHash(t *testing.T) {
	hash := func(change func(*v1alpha1.EtcdArchive, *v1alpha1.EtcdCluster)) string {
		a, c := archiveTo(stores["s3"]), cluster(founded)
		change(a, c)
		return ArchiveHash(a, c)
	}
	is := hash(func(a *v1alpha1.EtcdArchive, _ *v1alpha1.EtcdCluster) { a.Spec.SealEvery.Duration++ })
	if job := ArchiveDrillJob(archiveTo(stores["s3"]), archiveWork()); is == "" || job.Annotations[v1alpha1.AnnotationTemplateHash] != is {
		t.Errorf("the hash is %q, and the Job's annotations are %v", is, job.Annotations)
	}
	for name, change := range map[string]func(*v1alpha1.EtcdArchive, *v1alpha1.EtcdCluster){
		"store":      func(a *v1alpha1.EtcdArchive, _ *v1alpha1.EtcdCluster) { a.Spec.Store = stores["gcs"] },
		"encryption": func(a *v1alpha1.EtcdArchive, _ *v1alpha1.EtcdCluster) { a.Spec.Encryption = nil },
		"history":    func(_ *v1alpha1.EtcdArchive, c *v1alpha1.EtcdCluster) { c.Status.ClusterID = "b2" },
	} {
		if hash(change) == is {
			t.Errorf("another %s makes no difference", name)
		}
	}
	if ArchiveHash(archiveTo(stores["s3"]), nil) != "" || hash(func(_ *v1alpha1.EtcdArchive, c *v1alpha1.EtcdCluster) { c.Status.ClusterID = "" }) != "" {
		t.Error("without a cluster there is a hash")
	}
}

func rebuildOf(store v1alpha1.BackupStore) corev1.PodTemplateSpec {
	c := cluster()
	c.Spec.RestoreFrom = &v1alpha1.RestoreSource{ArchiveName: "continuous", ToRevision: 42}
	p, _ := PointOf(c, nil, archiveTo(store))
	return RebuildJob(c, p, "ghcr.io/quorate/backup:v0").Spec.Template
}
