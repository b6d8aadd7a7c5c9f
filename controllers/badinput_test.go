package controllers

import (
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/snapshot"
)

// hidden is in every Secret of these tests, and in no message.
const hidden = "kept-to-itself"

func secretWith(name string) *corev1.Secret {
	return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "ns"}, Data: map[string][]byte{"secretAccessKey": []byte(hidden)}}
}

// refusals are what the program finds out about what a user has given, in its words.
var refusals = map[string]struct {
	reason  snapshot.Reason
	message string
	// value that the message names.
	value string
	// stays says that another try fails as well.
	stays bool
}{
	"a bucket that is missing":    {snapshot.ReasonBucketMissing, "s3://backups does not exist — backups have nowhere to lie — create it, or correct its name, region or endpoint", "s3://backups", true},
	"a wrong key":                 {snapshot.ReasonAccessDenied, "listing 5e1f/ in s3://backups: SignatureDoesNotMatch: the signature is not what was expected — the store does not let these credentials do it — check them, and that they may list, read, write and delete below the prefix", "s3://backups", true},
	"no key in the Secret":        {snapshot.ReasonCredentialsMissing, "/quorate/credentials has no key secretAccessKey — the store asks for it — put it into the Secret", "secretAccessKey", true},
	"an address that nobody has":  {snapshot.ReasonStoreUnreachable, "listing 5e1f/ in s3://backups: dial tcp: lookup minio: no such host — no backup can be reached or stored there — check the store, its address and the way to it", "lookup minio", false},
	"an authority that is wrong":  {snapshot.ReasonStoreUntrusted, "listing 5e1f/ in s3://backups: certificate signed by unknown authority — whoever answers may be somebody else, and would be given the data — give the authority that signed its certificate", "s3://backups", true},
	"a prefix of somebody else":   {snapshot.ReasonForeignPrefix, "5e1f/x/manifest.json is a backup of cluster ns/other with UID 0ther, not of 5e1f — two clusters' backups would be mixed — use another prefix", "ns/other", true},
	"a private key that is wrong": {snapshot.ReasonKeyMissing, "backup x is encrypted for age1abc — none of the given keys is one of theirs — give one of their private keys", "age1abc", true},
}

// said is what the conditions and the events say of a refusal: it is told as it is, in three
// parts, and is the reason of Ready. Nothing that is in a Secret is in any of it.
func said(t *testing.T, o *operator, conditions []metav1.Condition, want metav1.Condition, value string) {
	t.Helper()
	got := meta.FindStatusCondition(conditions, want.Type)
	if got == nil || got.Status != want.Status || got.Reason != want.Reason {
		t.Errorf("%s is %+v, want %s/%s", want.Type, got, want.Status, want.Reason)
		return
	}
	if want.Message != "" && !strings.Contains(got.Message, want.Message) {
		t.Errorf("%s says %q, want %q", want.Type, got.Message, want.Message)
	}
	if !strings.Contains(got.Message, value) || strings.Count(got.Message, " — ") < 2 {
		t.Errorf("%s says %q, which does not name %q, or has not three parts", want.Type, got.Message, value)
	}
	var all []string
	for _, c := range conditions {
		all = append(all, c.Message)
	}
	for len(o.events.Events) > 0 {
		all = append(all, <-o.events.Events)
	}
	if text := strings.Join(all, "\n"); strings.Contains(text, hidden) {
		t.Errorf("a secret is told: %s", text)
	}
}

// TestRefusalsOfTheProgram: what a Job, or the archiver, finds wrong with what the user has
// given is told in its words by whichever object the user looks at.
func TestRefusalsOfTheProgram(t *testing.T) {
	failed := func(of snapshot.Operation, reason snapshot.Reason, message string) string {
		return string(snapshot.Result{Operation: of, Outcome: snapshot.OutcomeFailed, Reason: reason, Message: message}.Encode())
	}
	for name, tc := range refusals {
		reason := string(tc.reason)
		t.Run("EtcdBackup is saved with "+name, func(t *testing.T) {
			b := newBackups(t, anEtcdBackup(), cluster(voting), secretWith("s3"))
			b.passes()
			b.ends(snapshot.OperationSave, batchv1.JobFailed, failed(snapshot.OperationSave, tc.reason, tc.message))
			b.passes()
			for _, kind := range []string{v1alpha1.ConditionReady, v1alpha1.ConditionComplete, v1alpha1.ConditionVerified} {
				said(t, b.operator, b.get().Status.Conditions, metav1.Condition{Type: kind, Status: "False", Reason: reason, Message: tc.message}, tc.value)
			}
			said(t, b.operator, b.get().Status.Conditions, metav1.Condition{Type: v1alpha1.ConditionStalled, Status: "True", Reason: reason}, tc.value)
		})
		t.Run("EtcdBackup is tried with "+name, func(t *testing.T) {
			b := newBackups(t, anEtcdBackup(), cluster(voting), secretWith("s3"))
			b.passes()
			b.ends(snapshot.OperationSave, batchv1.JobComplete, savedMessage())
			b.passes()
			b.ends(snapshot.OperationDrill, batchv1.JobFailed, failed(snapshot.OperationDrill, tc.reason, tc.message))
			b.passes()
			said(t, b.operator, b.get().Status.Conditions, metav1.Condition{Type: v1alpha1.ConditionVerified, Status: "False", Reason: reason, Message: tc.message}, tc.value)
			if got := b.condition(v1alpha1.ConditionComplete); got != "True/Saved" {
				t.Errorf("Complete is %s", got)
			}
		})
		t.Run("EtcdBackupSchedule makes one with "+name, func(t *testing.T) {
			s := newSchedules(t, aSchedule(), secretWith("s3"))
			s.pass()
			b := stored[v1alpha1.EtcdBackup](t, s.api, client.ObjectKey{Namespace: "ns", Name: s.names()[0]})
			for kind, is := range map[string]metav1.ConditionStatus{v1alpha1.ConditionReady: "False", v1alpha1.ConditionStalled: "True"} {
				meta.SetStatusCondition(&b.Status.Conditions, metav1.Condition{Type: kind, Status: is, Reason: reason, Message: tc.message})
			}
			if err := s.api.Status().Update(t.Context(), b); err != nil {
				t.Fatal(err)
			}
			s.pass()
			said(t, s.operator, s.get().Status.Conditions, metav1.Condition{Type: v1alpha1.ConditionReady, Status: "False", Reason: v1alpha1.ReasonFailed, Message: tc.message}, b.Name)
		})
		t.Run("EtcdArchive runs with "+name, func(t *testing.T) {
			a := newArchives(t, anEtcdArchive(undrilled), cluster(voting), secretWith("s3"))
			a.passes()
			a.pod(snapshot.OperationArchive, corev1.ContainerStatus{
				State:                corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}},
				LastTerminationState: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 2, Message: failed(snapshot.OperationArchive, tc.reason, tc.message)}},
			})
			a.passes()
			for _, kind := range []string{v1alpha1.ConditionReady, v1alpha1.ConditionArchiving} {
				said(t, a.operator, a.get().Status.Conditions, metav1.Condition{Type: kind, Status: "False", Reason: reason, Message: tc.message}, tc.value)
			}
			if got := a.condition(v1alpha1.ConditionStalled); (got == "True/"+reason) != tc.stays {
				t.Errorf("Stalled is %s", got)
			}
		})
	}
}

// TestWaitsNameWhatIsMissing: what the operator itself finds missing is named, with why that
// matters and what to do.
func TestWaitsNameWhatIsMissing(t *testing.T) {
	const not, notYet, taken = v1alpha1.ReasonClusterNotFound, v1alpha1.ReasonClusterNotFounded, v1alpha1.ReasonNameConflict
	foreign := metav1.ObjectMeta{Namespace: "ns"}
	another := cluster(voting, func(c *v1alpha1.EtcdCluster) { c.UID = "0ther" })
	ready := func(is, reason string) metav1.Condition {
		return metav1.Condition{Type: v1alpha1.ConditionReady, Status: metav1.ConditionStatus(is), Reason: reason}
	}
	jobNamed := func(name string) client.Object {
		job := &batchv1.Job{ObjectMeta: foreign}
		job.Name = name
		return job
	}
	for name, tc := range map[string]struct {
		there         []client.Object
		reason, value string
	}{
		"no cluster":                  {nil, not, "EtcdCluster a "},
		"a young cluster":             {[]client.Object{cluster()}, notYet, "EtcdCluster a "},
		"another cluster of the name": {[]client.Object{another, secretWith("s3")}, v1alpha1.ReasonClusterReplaced, "5e1f"},
		"no Secret":                   {[]client.Object{cluster(voting)}, string(snapshot.ReasonCredentialsMissing), "Secret s3 "},
		"a Job of the name":           {[]client.Object{cluster(voting), secretWith("s3"), jobNamed("b-save")}, taken, "Job b-save "},
	} {
		t.Run("EtcdBackup, "+name, func(t *testing.T) {
			b := newBackups(t, append(tc.there, anEtcdBackup(func(b *v1alpha1.EtcdBackup) {
				if tc.reason == v1alpha1.ReasonClusterReplaced {
					b.Status.ClusterUID = "5e1f"
				}
			}))...)
			b.passes()
			said(t, b.operator, b.get().Status.Conditions, ready("False", tc.reason), tc.value)
		})
	}
	deployment := &appsv1.Deployment{ObjectMeta: foreign}
	deployment.Name = "e-archiver"
	for name, tc := range map[string]struct {
		there         []client.Object
		reason, value string
	}{
		"no cluster":               {nil, not, "EtcdCluster a "},
		"a young cluster":          {[]client.Object{cluster()}, notYet, "EtcdCluster a "},
		"no Secret":                {[]client.Object{cluster(voting)}, string(snapshot.ReasonCredentialsMissing), "Secret s3 "},
		"a Deployment of the name": {[]client.Object{cluster(voting), secretWith("s3"), deployment}, taken, "Deployment e-archiver "},
	} {
		t.Run("EtcdArchive, "+name, func(t *testing.T) {
			a := newArchives(t, append(tc.there, anEtcdArchive())...)
			a.passes()
			said(t, a.operator, a.get().Status.Conditions, ready("False", tc.reason), tc.value)
		})
	}
	unverified := goodBackup()
	meta.SetStatusCondition(&unverified.Status.Conditions, metav1.Condition{Type: v1alpha1.ConditionVerified, Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonNotTried})
	encrypted := goodBackup()
	encrypted.Spec.Encryption.IdentitySecretRef = &v1alpha1.SecretReference{Name: "age"}
	for name, tc := range map[string]struct {
		there         []client.Object
		reason, value string
	}{
		"no cluster":           {nil, not, "EtcdCluster a "},
		"a young cluster":      {[]client.Object{cluster()}, notYet, "EtcdCluster a "},
		"no backup":            {[]client.Object{cluster(founded)}, v1alpha1.ReasonRestoreBlocked, "EtcdBackup b "},
		"an unverified one":    {[]client.Object{cluster(founded), unverified}, v1alpha1.ReasonRestoreBlocked, "EtcdBackup b "},
		"no Secret of its key": {[]client.Object{cluster(founded), encrypted}, v1alpha1.ReasonRestoreBlocked, "Secret age "},
	} {
		t.Run("EtcdRestore, "+name, func(t *testing.T) {
			r := newRestores(t, append(tc.there, anEtcdRestore())...)
			r.passes()
			er := stored[v1alpha1.EtcdRestore](t, r.api, restoreRequest.NamespacedName)
			said(t, r.operator, er.Status.Conditions, ready("False", tc.reason), tc.value)
		})
	}
}

// TestSchedulesThatAreNeverDue: what the schema of the API lets pass, and no clock ever shows.
func TestSchedulesThatAreNeverDue(t *testing.T) {
	for name, tc := range map[string]struct{ schedule, zone, value string }{
		"the 30th of February":     {"0 0 30 2 *", "Etc/UTC", "0 0 30 2 *"},
		"it, by a range of months": {"0 0 30 2-2 *", "Etc/UTC", "0 0 30 2-2 *"},
		"it, by a step":            {"0 0 30/1 2 *", "Etc/UTC", "0 0 30/1 2 *"},
		"a zone in the schedule":   {"TZ=0 3 * * *", "Etc/UTC", "TZ=0 3 * * *"},
		"a zone that nobody has":   {"0 3 * * *", "Mars/Olympus_Mons", "Mars/Olympus_Mons"},
		"what makes parsers panic": {"TZ=0", "Etc/UTC", "TZ=0"},
		"more than any number can": {"99999999999999999999 * * * *", "Etc/UTC", "99999999999999999999 * * * *"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSchedules(t, aSchedule(func(s *v1alpha1.EtcdBackupSchedule) { s.Spec.Schedule, s.Spec.TimeZone = tc.schedule, tc.zone }), secretWith("s3"))
			s.clock.SetTime(threeOClock.Add(time.Hour))
			s.pass()
			for kind, is := range map[string]metav1.ConditionStatus{v1alpha1.ConditionReady: metav1.ConditionFalse, v1alpha1.ConditionStalled: metav1.ConditionTrue} {
				said(t, s.operator, s.get().Status.Conditions, metav1.Condition{Type: kind, Status: is, Reason: v1alpha1.ReasonInvalidSchedule}, tc.value)
			}
			if len(s.names()) > 0 {
				t.Errorf("backups %v", s.names())
			}
		})
	}
}
