package perform

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/plan"
	"github.com/quorate/quorate/internal/resources"
)

// wanted is a lost cluster whose backup has not been read, as it was looked at.
func wanted(t *testing.T) *world {
	t.Helper()
	w := lost(t)
	r, blocked := resources.RestoreOf(w.cluster, resources.RecoveryFrom(w.cluster.Spec.Recovery), nightly(), nil)
	if blocked != "" {
		t.Fatal(blocked)
	}
	w.seen.Recovery.Reads, w.seen.Recovery.Secrets, w.seen.Recovery.Look = resources.Reads(w.cluster, r), "s3=7", plan.Look{Due: true}
	return w
}

// TestCheckBackup: the Job is made once, for the word and the backup that were looked at, and
// says so; not once either has changed.
func TestCheckBackup(t *testing.T) {
	const jobName = "a-recovery-look"
	for name, tc := range map[string]struct {
		change func(*world)
		writes []string
		stale  bool
	}{
		"it is due":                         {nil, []string{"create " + jobName}, false},
		"the word was taken back":           {func(w *world) { w.edited(func(c *v1alpha1.EtcdCluster) { c.Generation, c.Spec.Recovery = 9, nil }) }, nil, true},
		"the word has become void":          {func(w *world) { w.edited(func(c *v1alpha1.EtcdCluster) { c.Status.VoidRecovery = "1/nightly" }) }, nil, true},
		"another operator has stopped some": {func(w *world) { w.edited(func(c *v1alpha1.EtcdCluster) { c.Status.ObeyedRecovery = "1/nightly" }) }, nil, true},
		"an incarnation has begun":          {func(w *world) { w.edited(func(c *v1alpha1.EtcdCluster) { c.Status.Incarnation = 2 }) }, nil, true},
		"an EtcdRestore has begun":          {func(w *world) { w.edited(restoreBegun("e7")) }, nil, true},
		"the backup was made anew":          {madeAnew(func(b *v1alpha1.EtcdBackup) { b.Status.ID = "another-id" }), nil, true},
		"it lies elsewhere":                 {madeAnew(func(b *v1alpha1.EtcdBackup) { b.Spec.Store.S3.Bucket = "others" }), nil, true},
		"the backup goes":                   {func(w *world) { w.cluster.Spec.Recovery.BackupName = "none" }, nil, true},
		"the word is an EtcdRestore's":      {func(w *world) { w.seen.Recovery.Restore = "back" }, nil, true},
		"nobody wants it":                   {func(w *world) { w.seen.Recovery = nil }, nil, true},
	} {
		t.Run(name, func(t *testing.T) {
			w := wanted(t)
			if tc.change != nil {
				tc.change(w)
			}
			if err := w.does(plan.CheckBackup); Stale(err) != tc.stale || (err != nil) != tc.stale || !slices.Equal(w.writes, tc.writes) {
				t.Errorf("CheckBackup = %v, wrote %v, want %v", err, w.writes, tc.writes)
			}
		})
	}
	w := wanted(t)
	for range 2 {
		if err := w.does(plan.CheckBackup); err != nil {
			t.Errorf("beside the one that is there: %v", err)
		}
	}
	job := &batchv1.Job{}
	if !w.get(job, jobName) || !metav1.IsControlledBy(job, w.cluster) || job.Labels[v1alpha1.LabelRestoring] != string(w.cluster.UID) {
		t.Fatalf("it is nobody's: %+v", job.ObjectMeta)
	}
	command := strings.Join(job.Spec.Template.Spec.Containers[0].Command, " ")
	if !strings.Contains(command, "check --store=s3://backups --cluster-uid=5e1f --backup=the-id --etcd-version=") || job.Spec.Template.Spec.InitContainers[0].Image != "backup:v0" {
		t.Errorf("it does %s", command)
	}
	if on := job.Annotations; on[v1alpha1.AnnotationReads] != w.seen.Recovery.Reads || !strings.HasPrefix(on[v1alpha1.AnnotationReads], "1/nightly/the-id/") || on[v1alpha1.AnnotationSecrets] != "s3=7" {
		t.Errorf("it does not say for which word and backup: %v", on)
	}
	w = wanted(t)
	p := &Performer{Writer: w.api, Live: w.api}
	if err := p.Perform(t.Context(), w.cluster, w.seen, plan.Step{Kind: plan.CheckBackup}); !errors.Is(err, resources.ErrNoBackupImage) || len(w.writes) > 0 {
		t.Errorf("without the image: %v, wrote %v", err, w.writes)
	}
}

// TestDropCheck: the Job goes that was seen, and no other of its name.
func TestDropCheck(t *testing.T) {
	const jobName = "a-recovery-look"
	made := func(edits ...func(*batchv1.Job)) *batchv1.Job {
		job := resources.RecoveryCheckJob(cluster(), resources.Restore{BackupID: "the-id"})
		job.UID = "j1"
		for _, e := range edits {
			e(job)
		}
		return job
	}
	for name, tc := range map[string]struct {
		job    *batchv1.Job
		writes []string
		stale  bool
	}{
		"it was seen":            {made(), []string{"delete " + jobName}, false},
		"it was made anew":       {made(func(j *batchv1.Job) { j.UID = "j2" }), nil, true},
		"it is somebody else's":  {made(func(j *batchv1.Job) { j.Labels = nil }), nil, true},
		"of a cluster of before": {made(func(j *batchv1.Job) { j.Labels[v1alpha1.LabelRestoring] = "0ld" }), nil, true},
		"it is being deleted": {made(func(j *batchv1.Job) {
			j.DeletionTimestamp, j.Finalizers = &metav1.Time{Time: time.Unix(1, 0)}, []string{"x/y"}
		}), nil, false},
		"it is gone": {nil, nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			if tc.job != nil {
				w = newWorld(t, tc.job)
			}
			w.seen.SpentCheck = "j1"
			if err := w.does(plan.DropCheck); Stale(err) != tc.stale || (err != nil) != tc.stale || !slices.Equal(w.writes, tc.writes) {
				t.Errorf("DropCheck = %v, wrote %v, want %v", err, w.writes, tc.writes)
			}
		})
	}
}
