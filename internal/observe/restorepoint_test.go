package observe

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/plan"
	"github.com/quorate/quorate/internal/resources"
	"github.com/quorate/quorate/internal/snapshot"
)

// TestRestorePoint: the point of an archive is put together once, and founders wait for it.
func TestRestorePoint(t *testing.T) {
	archive := &v1alpha1.EtcdArchive{ObjectMeta: metav1.ObjectMeta{Name: "e", Namespace: "ns"}}
	archive.Spec.Store.S3 = &v1alpha1.S3Store{Bucket: "backups", CredentialsSecretRef: &v1alpha1.SecretReference{Name: "s3"}}
	archive.Status.ClusterUID = "0ld"
	young := archive.DeepCopy()
	young.Status.ClusterUID = ""
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "s3", Namespace: "ns"}}
	job := func(uid string, kind batchv1.JobConditionType) *batchv1.Job {
		j := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: "a-rebuild", Namespace: "ns", Labels: map[string]string{v1alpha1.LabelRestoring: uid}}}
		if kind != "" {
			j.Status.Conditions = []batchv1.JobCondition{{Type: kind, Status: corev1.ConditionTrue, Message: "backoff"}}
		}
		return j
	}
	pod := func(name string, r snapshot.Result) *corev1.Pod {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "ns", Labels: map[string]string{v1alpha1.LabelRestoring: "5e1f", batchv1.JobNameLabel: "a-rebuild"}}}
		p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: resources.BackupContainer, State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{Message: string(r.Encode())}}}}
		return p
	}
	good := snapshot.Result{Operation: snapshot.OperationRebuild, Outcome: snapshot.OutcomeSucceeded, Backup: &snapshot.Backup{ID: "the-id"}}
	failed := snapshot.Result{Operation: snapshot.OperationRebuild, Outcome: snapshot.OutcomeFailed, Reason: snapshot.ReasonNotArchived, Message: "not held — gone — choose another"}
	unreachable := snapshot.Result{Operation: snapshot.OperationRebuild, Outcome: snapshot.OutcomeFailed, Reason: snapshot.ReasonStoreUnreachable, Message: "refused"}
	interrupted := snapshot.Result{Operation: snapshot.OperationRebuild, Outcome: snapshot.OutcomeFailed, Reason: snapshot.ReasonInterrupted, Message: "told to end — the work is not done — start it again"}
	late := job("5e1f", batchv1.JobFailed)
	late.Status.Conditions[0].Reason, late.Status.Conditions[0].Message = batchv1.JobReasonDeadlineExceeded, "it was active for too long"
	running := pod("r", unreachable)
	running.Status = corev1.PodStatus{Phase: corev1.PodRunning, PodIP: "10.0.0.1"}
	other := good
	other.Operation = snapshot.OperationSave
	objects := func(o ...client.Object) []client.Object { return o }
	for name, tc := range map[string]struct {
		objects []client.Object
		change  func(*v1alpha1.EtcdCluster)
		want    plan.Point
		problem string
	}{
		"it is due":                     {objects(archive, secret), nil, plan.Point{Due: true}, ""},
		"there is no archive":           {objects(secret), nil, plan.Point{}, "EtcdArchive e does not exist"},
		"nothing is archived":           {objects(young, secret), nil, plan.Point{}, "has archived nothing yet"},
		"there is no Secret":            {objects(archive), nil, plan.Point{}, "Secret s3 does not exist"},
		"it is under way":               {objects(archive, secret, job("5e1f", "")), nil, plan.Point{Waits: "Job a-rebuild puts the point of the archive together that all founders begin with"}, ""},
		"it tries again":                {objects(archive, secret, job("5e1f", ""), running), nil, plan.Point{Waits: "Job a-rebuild puts the point of the archive together that all founders begin with: Starting, try 2: read udp 10.0.0.9:53: refused — because — do; it is tried again after 20s"}, ""},
		"its pod has failed":            {objects(archive, secret, job("5e1f", ""), pod("x", unreachable)), nil, plan.Point{Waits: "Job a-rebuild puts the point of the archive together that all founders begin with: a pod of it has failed, and another one follows: refused"}, ""},
		"it is done":                    {objects(archive, secret, job("5e1f", batchv1.JobComplete), pod("x", good)), nil, plan.Point{BackupID: "the-id"}, ""},
		"a pod failed before":           {objects(archive, secret, job("5e1f", batchv1.JobComplete), pod("w", failed), pod("x", good)), nil, plan.Point{BackupID: "the-id"}, ""},
		"its result is lost":            {objects(archive, secret, job("5e1f", batchv1.JobComplete)), nil, plan.Point{Due: true}, ""},
		"another work's result":         {objects(archive, secret, job("5e1f", batchv1.JobComplete), pod("x", other)), nil, plan.Point{Due: true}, ""},
		"done, and the Job still runs":  {objects(archive, secret, job("5e1f", ""), pod("x", good)), nil, plan.Point{Waits: "Job a-rebuild puts the point of the archive together that all founders begin with"}, ""},
		"it failed":                     {objects(archive, secret, job("5e1f", batchv1.JobFailed), pod("x", failed)), nil, plan.Point{}, "choose another; it is not tried again by itself: when that is mended, delete Job a-rebuild"},
		"it took too long":              {objects(archive, secret, late, pod("x", interrupted)), nil, plan.Point{}, "Job a-rebuild failed: it was active for too long"},
		"somebody ended it":             {objects(archive, secret, job("5e1f", batchv1.JobFailed), pod("x", interrupted)), nil, plan.Point{}, "start it again; it is not tried again by itself: when that is mended, delete Job a-rebuild"},
		"it found why by then":          {objects(archive, secret, late, pod("x", failed)), nil, plan.Point{}, "choose another; it is not tried again by itself"},
		"it was killed":                 {objects(archive, secret, job("5e1f", batchv1.JobFailed)), nil, plan.Point{}, "Job a-rebuild failed: backoff"},
		"an earlier namesake's Job":     {objects(archive, secret, job("0ld", batchv1.JobComplete), pod("x", good)), nil, plan.Point{}, "belongs to somebody else"},
		"it is on record":               {objects(archive, secret), func(c *v1alpha1.EtcdCluster) { c.Status.RestorePoint = "the-id" }, plan.Point{}, ""},
		"on record, and no archive":     {objects(secret), func(c *v1alpha1.EtcdCluster) { c.Status.RestorePoint = "the-id" }, plan.Point{}, "does not exist"},
		"the cluster is founded":        {nil, func(c *v1alpha1.EtcdCluster) { c.Status.ClusterID = "c1" }, plan.Point{}, ""},
		"a store by its name is enough": {objects(secret), toStore, plan.Point{Due: true}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			c := &v1alpha1.EtcdCluster{ObjectMeta: metav1.ObjectMeta{Name: "a", Namespace: "ns", UID: "5e1f"}}
			c.Spec.RestoreFrom = &v1alpha1.RestoreSource{ArchiveName: "e", ToRevision: 42}
			if tc.change != nil {
				tc.change(c)
			}
			live := fake.NewClientBuilder().WithScheme(scheme(t)).WithObjects(tc.objects...).Build()
			got, problems, err := (&Observer{Live: live, Progress: triesAgain}).restoreBlocked(t.Context(), c)
			if err != nil {
				t.Fatal(err)
			}
			if got == nil {
				got = &plan.Point{}
			}
			if *got != tc.want {
				t.Errorf("point %+v, want %+v", *got, tc.want)
			}
			stallsFor(t, problems, tc.problem)
		})
	}
}

// triesAgain is what a pod tells whose store does not answer.
func triesAgain(_ context.Context, podIP string) (*snapshot.Progress, error) {
	if podIP != "10.0.0.1" {
		return nil, errors.New("nobody is there")
	}
	return &snapshot.Progress{Attempt: 2, Pause: 20 * time.Second, Trouble: &snapshot.Trouble{Message: "read udp 10.0.0.1:4711->10.0.0.9:53: refused — because — do"}}, nil
}

// TestFillingIsHindered: a founder whose store does not answer says so while its container still
// tries, and between two of them.
func TestFillingIsHindered(t *testing.T) {
	fills := func(s *corev1.ContainerStatus) { s.State.Running = &corev1.ContainerStateRunning{} }
	failed := snapshot.Result{Operation: snapshot.OperationRestore, Outcome: snapshot.OutcomeFailed, Reason: snapshot.ReasonStoreUnreachable, Message: "gone — because — do"}
	again := func(s *corev1.ContainerStatus) {
		fills(s)
		s.RestartCount = 1
		s.LastTerminationState.Terminated = &corev1.ContainerStateTerminated{ExitCode: 1, Message: string(failed.Encode())}
	}
	for name, tc := range map[string]struct {
		ip     string
		change func(*corev1.ContainerStatus)
		want   string
		kind   plan.Severity
	}{
		"it tries":        {"10.0.0.1", fills, "the volume of a-0002 is not filled yet: Starting, try 2: read udp 10.0.0.9:53: refused — because — do; it is tried again after 20s", plan.Pending},
		"it tells nobody": {"10.0.0.2", fills, "", 0},
		"it has ended":    {"10.0.0.1", func(*corev1.ContainerStatus) {}, "", 0},
		"another try":     {"10.0.0.2", again, "gone — because — do; it is tried again by itself", plan.Stalling},
	} {
		w := founded(t)
		w.cluster.Status.ClusterID = ""
		w.observer = &Observer{Dialer: w.etcd, Clock: w.clock, Progress: func(ctx context.Context, _ string) (*snapshot.Progress, error) {
			return triesAgain(ctx, tc.ip)
		}}
		pod := third[*corev1.Pod](w)
		status := corev1.ContainerStatus{Name: resources.RestoreContainer}
		tc.change(&status)
		if last := status.LastTerminationState.Terminated; last != nil {
			last.FinishedAt = metav1.NewTime(w.clock.Now())
		}
		pod.Status.InitContainerStatuses = []corev1.ContainerStatus{status}
		problems := w.see().Problems
		if tc.want == "" && len(problems) > 0 || tc.want != "" && (len(problems) == 0 || problems[0].Message != tc.want || problems[0].Severity != tc.kind || problems[0].Reason != v1alpha1.ReasonRestoreBlocked) {
			t.Errorf("%s: saw %+v, want %q", name, problems, tc.want)
		}
	}
}

// TestRefusedRestoreFrom: what is wrong with what spec.restoreFrom names, and only the program can
// find out, is told in its words: by the Job that puts a point together, which has made no volume,
// and by the container that fills a founder's.
func TestRefusedRestoreFrom(t *testing.T) {
	archive := &v1alpha1.EtcdArchive{ObjectMeta: metav1.ObjectMeta{Name: "e", Namespace: "ns"}}
	archive.Spec.Store.S3 = &v1alpha1.S3Store{Bucket: "backups"}
	archive.Status.ClusterUID = "0ld"
	for reason, message := range map[snapshot.Reason]string{
		snapshot.ReasonBucketMissing:       "s3://backups does not exist — backups have nowhere to lie — create it, or correct its name, region or endpoint",
		snapshot.ReasonAccessDenied:        "listing 0ld/ in s3://backups: AccessDenied: no — the store does not let these credentials do it — check them, and that they may list, read, write and delete below the prefix",
		snapshot.ReasonStoreUnreachable:    "listing 0ld/ in s3://backups: no such host — no backup can be reached or stored there — check the store, its address and the way to it",
		snapshot.ReasonForeignPrefix:       "0ld/x/manifest.json is a backup of cluster ns/other with UID 0ther, not of 0ld — two clusters' backups would be mixed — use another prefix",
		snapshot.ReasonCredentialsMissing:  "/quorate/credentials has no key secretAccessKey — the store asks for it — put it into the Secret",
		snapshot.ReasonKeyMissing:          "backup x is encrypted for age1abc — none of the given keys is one of theirs — give one of their private keys",
		snapshot.ReasonNotArchived:         "the archive of cluster c1 does not hold revision 42: it ends at 41 — what was there then cannot be put together — choose another point: it holds revisions 7 to 41 (2026-01-01T02:00:00Z to 2026-01-01T03:00:00Z)",
		snapshot.ReasonIncompatibleVersion: "backup x was taken from etcd 3.7.1, and etcd 3.6.16 is to serve it — an older etcd cannot open it — set spec.version to 3.7.1 or later",
	} {
		words := string(snapshot.Result{Operation: snapshot.OperationRebuild, Outcome: snapshot.OutcomeFailed, Reason: reason, Message: message}.Encode())
		ended := corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 2, Message: words}}
		job := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: "a-rebuild", Namespace: "ns", UID: "j2", Labels: map[string]string{v1alpha1.LabelRestoring: "5e1f"}}}
		job.Status.Conditions = []batchv1.JobCondition{{Type: batchv1.JobFailed, Status: corev1.ConditionTrue, Message: "backoff"}}
		podOf := func(uid string) *corev1.Pod {
			p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "pod-of-" + uid, Namespace: "ns", Labels: map[string]string{v1alpha1.LabelRestoring: "5e1f", batchv1.JobNameLabel: "a-rebuild", batchv1.ControllerUidLabel: uid}}}
			p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: resources.BackupContainer, State: ended}}
			return p
		}
		c := &v1alpha1.EtcdCluster{ObjectMeta: metav1.ObjectMeta{Name: "a", Namespace: "ns", UID: "5e1f"}}
		c.Spec.RestoreFrom = &v1alpha1.RestoreSource{ArchiveName: "e", ToRevision: 42}
		for uid, want := range map[string]string{"j2": message + "; it is not tried again by itself: when that is mended, delete Job a-rebuild", "j1": "Job a-rebuild failed: backoff"} {
			live := fake.NewClientBuilder().WithScheme(scheme(t)).WithObjects(archive, job, podOf(uid)).Build()
			_, problems, err := (&Observer{Live: live}).restoreBlocked(t.Context(), c)
			if err != nil {
				t.Fatal(err)
			}
			stallsFor(t, problems, want)
		}

		filling := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "a-0000", Namespace: "ns"}}
		problem, told := crashProblem(filling, corev1.ContainerStatus{Name: resources.RestoreContainer, LastTerminationState: ended})
		if !told {
			t.Errorf("%s: nothing is told of the container that fills the volume", reason)
		}
		stallsFor(t, []plan.Problem{problem}, message)
	}
}

// TestAJobWhoseWayWasCorrected is made again, even while it runs, and what it finds does not count.
func TestAJobWhoseWayWasCorrected(t *testing.T) {
	archive := &v1alpha1.EtcdArchive{ObjectMeta: metav1.ObjectMeta{Name: "e", Namespace: "ns"}}
	archive.Spec.Store.S3, archive.Status.ClusterUID = &v1alpha1.S3Store{Bucket: "backups"}, "0ld"
	c := &v1alpha1.EtcdCluster{ObjectMeta: metav1.ObjectMeta{Name: "a", Namespace: "ns", UID: "5e1f"}}
	c.Spec.RestoreFrom = &v1alpha1.RestoreSource{ArchiveName: "e", ToRevision: 42}
	made := resources.RebuildJob(c, resources.Point{Store: archive.Spec.Store}, "backup:v0")
	leaving := made.DeepCopy()
	leaving.DeletionTimestamp, leaving.Finalizers = &metav1.Time{Time: time.Unix(1, 0)}, []string{"somebody/else"}
	key := &v1alpha1.SecretReference{Name: "key"}
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: key.Name, Namespace: "ns"}}
	for name, tc := range map[string]struct {
		identity *v1alpha1.SecretReference
		objects  []client.Object
		due      bool
		waits    string
		blocked  string
	}{
		"the same way":             {nil, []client.Object{made}, false, "Job a-rebuild puts the point", ""},
		"with another key":         {key, []client.Object{made, secret}, true, "", ""},
		"with one that is missing": {key, []client.Object{made}, false, "", "Secret key does not exist"},
		"the old one goes":         {key, []client.Object{leaving, secret}, false, "is being deleted", ""},
	} {
		c.Spec.RestoreFrom.IdentitySecretRef = tc.identity
		live := fake.NewClientBuilder().WithScheme(scheme(t)).WithObjects(tc.objects...).Build()
		p, blocked, err := (&Observer{Live: live}).restorePoint(t.Context(), c, nil, archive)
		if err != nil || !strings.Contains(blocked, tc.blocked) || (blocked == "") != (tc.blocked == "") {
			t.Errorf("%s: %v, blocked %q", name, err, blocked)
		}
		if blocked == "" && (p.Due != tc.due || !strings.Contains(p.Waits, tc.waits)) {
			t.Errorf("%s: %+v", name, p)
		}
	}
}

func toStore(c *v1alpha1.EtcdCluster) {
	fromStore(c)
	c.Spec.RestoreFrom.BackupID, c.Spec.RestoreFrom.ToTime = "", "2026-03-29T11:59:00Z"
}
