package sim

import (
	"fmt"
	"maps"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/internal/resources"
	"github.com/quorate/quorate/internal/snapshot"
)

// readingTakes is how long a Job reads a backup.
const readingTakes = 2 * time.Second

// readBackups does what the Jobs do that read a backup for spec.recovery: each takes its time,
// and leaves a pod with its result, which goes after it. Those that put a point of an archive
// together are a test's own affair.
func (m *machines) readBackups() {
	for _, o := range m.w.API.all("Job") {
		job := o.(*batchv1.Job)
		if job.Name != resources.RecoveryCheckJobName(m.w.Key.Name) || len(job.Status.Conditions) > 0 || m.w.Clock.Since(job.CreationTimestamp.Time) < readingTakes {
			continue
		}
		id := flagOf(job.Spec.Template.Spec.Containers[0], "backup")
		result, kind := snapshot.Result{Operation: snapshot.OperationCheck, Outcome: snapshot.OutcomeSucceeded, Reason: snapshot.ReasonChecked, Backup: &snapshot.Backup{ID: id}}, batchv1.JobComplete
		if why, broken := m.w.Unreadable[id]; broken {
			kind = batchv1.JobFailed
			result.Outcome, result.Reason, result.Message = snapshot.OutcomeFailed, why, fmt.Sprintf("backup %s cannot be read — no member could begin with it — mend it", id)
		}
		m.w.note("Job %s has ended: %s", job.Name, kind)
		m.leave(job, result)
		edit(m.w.API, job, func(j *batchv1.Job) {
			j.Status.Conditions = []batchv1.JobCondition{{Type: kind, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(m.w.Clock.Now()), Message: "it has ended"}}
		})
	}
	for _, o := range m.w.API.all("Pod") {
		owner := metav1.GetControllerOf(o)
		if owner == nil || owner.Kind != "Job" {
			continue
		}
		if live := m.w.API.find("Job", types.NamespacedName{Namespace: o.GetNamespace(), Name: owner.Name}); live == nil || live.GetUID() != owner.UID {
			m.w.API.put("Pod", client.ObjectKeyFromObject(o), nil)
		}
	}
}

// leave the pod of a Job with its result.
func (m *machines) leave(job *batchv1.Job, result snapshot.Result) {
	labels := map[string]string{batchv1.JobNameLabel: job.Name, batchv1.ControllerUidLabel: string(job.UID)}
	maps.Copy(labels, job.Spec.Template.Labels)
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Namespace: job.Namespace, Name: job.Name + "-" + string(job.UID), Labels: labels,
		OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(job, batchv1.SchemeGroupVersion.WithKind("Job"))},
	}}
	m.w.must(m.w.API.Create(pod))
	edit(m.w.API, pod, func(p *corev1.Pod) {
		p.Status.Phase = corev1.PodSucceeded
		p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: resources.BackupContainer, State: corev1.ContainerState{
			Terminated: &corev1.ContainerStateTerminated{Message: string(result.Encode())},
		}}}
	})
}
