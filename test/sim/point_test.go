package sim

import (
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/resources"
	"github.com/quorate/quorate/internal/snapshot"
)

// thePoint is the backup that every Job which puts the point together stores or finds.
const thePoint = "00000000000000000042-20260101T000000.000Z-c"

// archived has the archive of another cluster.
func archived(w *World) {
	a := &v1alpha1.EtcdArchive{ObjectMeta: metav1.ObjectMeta{Namespace: w.Key.Namespace, Name: "continuous"}}
	a.Spec.ClusterRef.Name, a.Spec.Store.S3 = "before", &v1alpha1.S3Store{Bucket: "backups"}
	a.Status.ClusterUID, a.Status.ArchivedRevision = "5e1f-before", 50
	w.must(w.API.Create(a))
}

// fromPoint begins with a revision of the archive, and has Jobs done.
func fromPoint(mutate func(*v1alpha1.EtcdClusterSpec)) func(*World) {
	return func(w *World) {
		w.Apply(func(s *v1alpha1.EtcdClusterSpec) {
			mutate(s)
			s.RestoreFrom = &v1alpha1.RestoreSource{ArchiveName: "continuous", ToRevision: 42}
		})
		doJobs(w)
	}
}

// doJobs has each Job take two seconds, until the point is on record; then what is left of them
// is gone.
func doJobs(w *World) {
	jobs := w.API.all("Job")
	latched := w.Cluster().Status.RestorePoint != ""
	for _, o := range jobs {
		job := o.(*batchv1.Job)
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: job.Namespace, Name: job.Name + "-pod", Labels: map[string]string{
			batchv1.JobNameLabel: job.Name, v1alpha1.LabelRestoring: job.Labels[v1alpha1.LabelRestoring],
			batchv1.ControllerUidLabel: string(job.UID),
		}}}
		there := w.API.find("Pod", client.ObjectKeyFromObject(pod)) != nil
		switch {
		case latched:
			w.API.put("Job", client.ObjectKeyFromObject(job), nil)
			if there {
				w.API.put("Pod", client.ObjectKeyFromObject(pod), nil)
			}
		case job.Status.CompletionTime == nil && w.Clock.Since(job.CreationTimestamp.Time) >= 2*time.Second:
			result := snapshot.Result{Operation: snapshot.OperationRebuild, Outcome: snapshot.OutcomeSucceeded, Reason: snapshot.ReasonRebuilt, Backup: &snapshot.Backup{ID: thePoint}}
			if !there {
				w.must(w.API.Create(pod))
			}
			edit(w.API, pod, func(p *corev1.Pod) {
				p.Status.Phase = corev1.PodSucceeded
				p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: resources.BackupContainer, State: corev1.ContainerState{
					Terminated: &corev1.ContainerStateTerminated{Message: string(result.Encode())},
				}}}
			})
			edit(w.API, job, func(j *batchv1.Job) {
				j.Status.CompletionTime = &metav1.Time{Time: w.Clock.Now()}
				j.Status.Conditions = []batchv1.JobCondition{{Type: batchv1.JobComplete, Status: corev1.ConditionTrue}}
			})
		}
	}
	if !latched || len(jobs) > 0 {
		w.After(time.Second, func() { doJobs(w) })
	}
}

// begunAtPoint is a healthy cluster each of whose volumes was filled from the point.
func begunAtPoint(w *World) bool {
	return w.Healthy() && w.Cluster().Status.RestorePoint == thePoint && len(w.API.all("Job")) == 0
}

func points() []workflow {
	return []workflow{
		{name: "beginning with a point of an archive", every: true, faults: true, before: archived, begin: fromPoint(spec(3, plaintext)), done: begunAtPoint, end: (*World).EndUnfilled},
		{name: "beginning with a point of an archive with TLS", long: true, before: archived, begin: fromPoint(spec(3)), done: begunAtPoint, end: (*World).EndUnfilled},
	}
}

// TestFoundersBeginWithOnePoint: nobody has a volume before the point is on record, and all are
// filled from it.
func TestFoundersBeginWithOnePoint(t *testing.T) {
	f := points()[0]
	w := f.start()
	f.begin(w)
	early := false
	over := func() bool {
		early = early || (w.Cluster().Status.RestorePoint == "" && len(w.API.all("PersistentVolumeClaim")) > 0)
		return begunAtPoint(w)
	}
	if !w.Run(over, patience) || early || len(w.Violations()) > 0 {
		t.Fatalf("there was a volume before the point: %t; broke %v\n%s", early, w.Violations(), w.Notes(100))
	}
	if n := strings.Count(w.Notes(10000), " is filled from "+thePoint); n != 3 {
		t.Errorf("%d volumes were filled, want 3\n%s", n, w.Notes(100))
	}
}
