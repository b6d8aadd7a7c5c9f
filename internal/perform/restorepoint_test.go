package perform

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/plan"
	"github.com/quorate/quorate/internal/resources"
)

// toPoint is a world whose cluster begins with a point of an archive.
func toPoint(t *testing.T, objects ...client.Object) *world {
	t.Helper()
	a := &v1alpha1.EtcdArchive{ObjectMeta: metav1.ObjectMeta{Name: "e", Namespace: "ns"}}
	a.Spec.Store.S3 = &v1alpha1.S3Store{Bucket: "backups"}
	a.Status.ClusterUID = "0ld"
	w := newWorld(t, append(objects, claim(), a)...)
	w.cluster.Spec.RestoreFrom = &v1alpha1.RestoreSource{ArchiveName: "e", ToRevision: 42}
	return w
}

func (w *world) does(kind plan.Kind) error {
	w.t.Helper()
	p := &Performer{Writer: w.api, Live: w.api, GuardImage: "guard:v0", BackupImage: "backup:v0"}
	return p.Perform(w.t.Context(), w.cluster, w.seen, plan.Step{Kind: kind})
}

// TestPointOfAnArchive: it is put together once, and every founder is restored from the same
// backup, which lies below the new cluster's own UID.
func TestPointOfAnArchive(t *testing.T) {
	w := toPoint(t)
	if _, err := w.start("backup:v0"); !errors.Is(err, ErrStale) || len(w.writes) > 0 {
		t.Errorf("a founder starts before the point is on record: %v, wrote %v", err, w.writes)
	}
	if err := w.does(plan.RebuildPoint); err != nil {
		t.Fatal(err)
	}
	job := &batchv1.Job{}
	if !w.get(job, resources.RebuildJobName(w.cluster.Name)) {
		t.Fatal("there is no Job")
	}
	command := strings.Join(job.Spec.Template.Spec.Containers[0].Command, " ")
	for _, want := range []string{"rebuild --store=s3://backups --cluster-uid=0ld --backup=latest", "--into-cluster-uid=" + resources.ClusterUID(w.cluster), "--uid=" + string(w.cluster.UID), "--to-revision=42"} {
		if !strings.Contains(command, want) {
			t.Errorf("no %s in %s", want, command)
		}
	}
	if err := w.does(plan.RebuildPoint); !errors.Is(err, ErrStale) {
		t.Errorf("a Job that runs is made again: %v", err)
	}
	way := w.cluster.Spec.RestoreFrom
	w.cluster.Spec.RestoreFrom = way.DeepCopy()
	w.cluster.Spec.RestoreFrom.IdentitySecretRef = &v1alpha1.SecretReference{Name: "mended"}
	w.writes = nil
	if err := w.does(plan.RebuildPoint); err != nil || !slices.Equal(w.writes, []string{"delete " + job.Name}) {
		t.Errorf("a Job goes on by a way that was corrected: %v, wrote %v", err, w.writes)
	}
	w.cluster.Spec.RestoreFrom = way
	if err := w.does(plan.RebuildPoint); err != nil {
		t.Fatal(err)
	}
	w.get(job, job.Name)
	job.Status.CompletionTime = &metav1.Time{Time: time.Unix(1, 0)}
	if err := w.api.Status().Update(t.Context(), job); err != nil {
		t.Fatal(err)
	}
	w.writes = nil
	if err := w.does(plan.RebuildPoint); err != nil || !slices.Equal(w.writes, []string{"delete " + job.Name}) {
		t.Errorf("a Job without a result stays: %v, wrote %v", err, w.writes)
	}
	w.seen.Point = &plan.Point{BackupID: "the-id"}
	if err := w.does(plan.LatchPoint); err != nil || w.cluster.Status.RestorePoint != "the-id" {
		t.Fatalf("LatchPoint = %v, status %q", err, w.cluster.Status.RestorePoint)
	}
	w.seen.Point = &plan.Point{BackupID: "another"}
	if err := w.does(plan.LatchPoint); !errors.Is(err, ErrStale) || w.cluster.Status.RestorePoint != "the-id" {
		t.Errorf("another point is put on record: %v, %q", err, w.cluster.Status.RestorePoint)
	}
	if err := w.does(plan.RebuildPoint); !errors.Is(err, ErrStale) {
		t.Errorf("what is on record is put together again: %v", err)
	}
	pod, err := w.start("backup:v0")
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(pod.Spec.InitContainers, func(c corev1.Container) bool { return c.Name == resources.RestoreContainer })
	if i < 0 {
		t.Fatal("its volume is not filled")
	}
	command = strings.Join(pod.Spec.InitContainers[i].Command, " ")
	if !strings.Contains(command, "--cluster-uid="+resources.ClusterUID(w.cluster)+" --backup=the-id") || strings.Contains(command, "--to-revision") {
		t.Errorf("it is filled by %s", command)
	}
}

// TestPointOfNoArchive: nothing is made for what is not there, nor beside what is somebody
// else's.
func TestPointOfNoArchive(t *testing.T) {
	w := toPoint(t)
	w.cluster.Spec.RestoreFrom.ArchiveName = "none"
	if err := w.does(plan.RebuildPoint); !errors.Is(err, ErrStale) || len(w.writes) > 0 {
		t.Errorf("without the archive: %v, wrote %v", err, w.writes)
	}
	foreign := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: resources.RebuildJobName(cluster().Name), Namespace: "ns"}}
	foreign.Status.CompletionTime = &metav1.Time{Time: time.Unix(1, 0)}
	w = toPoint(t, foreign)
	if err := w.does(plan.RebuildPoint); !errors.Is(err, ErrStale) || len(w.writes) > 0 {
		t.Errorf("beside a Job of somebody else's: %v, wrote %v", err, w.writes)
	}
	w = toPoint(t)
	w.cluster.Status.ClusterID = "c1"
	if err := w.does(plan.RebuildPoint); !errors.Is(err, ErrStale) || len(w.writes) > 0 {
		t.Errorf("of a founded cluster: %v, wrote %v", err, w.writes)
	}
}
