package status

import (
	"errors"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/plan"
)

// TestWordsOnRecord: what was said and obeyed stays on record for as long as it stands there,
// and a word under which the cluster has served is void.
func TestWordsOnRecord(t *testing.T) {
	serving, lost := func(*plan.Observed) {}, twoVolumesLost
	wanted := func(o *plan.Observed) {
		lost(o)
		o.Recovery = &plan.Recovery{Backup: "b", Told: true, Look: plan.Look{Done: true}}
	}
	none, stop := plan.Step{Kind: plan.Wait}, plan.Step{Kind: plan.StopIncarnation}
	raise := plan.Step{Kind: plan.RaiseIncarnation}
	cases := map[string]struct {
		word         *v1alpha1.RecoverySpec
		void, obeyed string
		seen         change
		step         plan.Step
		wantVoid     string
		wantObeyed   string
	}{
		"no word":                        {nil, "", "", serving, none, "", ""},
		"it serves under the word":       {&v1alpha1.RecoverySpec{Incarnation: 1, BackupName: "b"}, "", "", serving, none, "1/b", ""},
		"it does not":                    {&v1alpha1.RecoverySpec{Incarnation: 1, BackupName: "b"}, "", "", lost, none, "", ""},
		"it has":                         {&v1alpha1.RecoverySpec{Incarnation: 1, BackupName: "b"}, "1/b", "", lost, none, "1/b", ""},
		"with another backup it has not": {&v1alpha1.RecoverySpec{Incarnation: 1, BackupName: "c"}, "1/b", "", lost, none, "", ""},
		"it was taken away":              {nil, "1/b", "1/b", lost, none, "", ""},
		"a word for another incarnation": {&v1alpha1.RecoverySpec{Incarnation: 2, BackupName: "b"}, "", "", serving, none, "", ""},
		"members are stopped":            {&v1alpha1.RecoverySpec{Incarnation: 1, BackupName: "b"}, "", "", wanted, stop, "", "1/b"},
		"they are waited for":            {&v1alpha1.RecoverySpec{Incarnation: 1, BackupName: "b"}, "", "", wanted, plan.Step{Kind: plan.Wait, Reason: v1alpha1.ReasonRecovering}, "", "1/b"},
		"one may run":                    {&v1alpha1.RecoverySpec{Incarnation: 1, BackupName: "b"}, "", "", wanted, plan.Step{Kind: plan.Wait, Reason: v1alpha1.ReasonRecoveryBlocked}, "", "1/b"},
		"the quorum is waited for":       {&v1alpha1.RecoverySpec{Incarnation: 1, BackupName: "b"}, "", "", wanted, plan.Step{Kind: plan.Wait, Reason: v1alpha1.ReasonDataMissing}, "", ""},
		"they were":                      {&v1alpha1.RecoverySpec{Incarnation: 1, BackupName: "b"}, "", "1/b", lost, none, "", "1/b"},
		"it cannot be done any more": {&v1alpha1.RecoverySpec{Incarnation: 1, BackupName: "b"}, "", "1/b", func(o *plan.Observed) {
			lost(o)
			o.Recovery = &plan.Recovery{Backup: "b", Told: true, Blocked: "it is gone"}
		}, none, "", ""},
		"they were for another backup":   {&v1alpha1.RecoverySpec{Incarnation: 1, BackupName: "c"}, "", "1/b", lost, none, "", ""},
		"they were, and it serves again": {&v1alpha1.RecoverySpec{Incarnation: 1, BackupName: "b"}, "", "1/b", serving, none, "1/b", ""},
		"the next incarnation begins":    {&v1alpha1.RecoverySpec{Incarnation: 1, BackupName: "b"}, "", "1/b", lost, raise, "", ""},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			c := cluster()
			c.Spec.Recovery, c.Status.Incarnation, c.Status.VoidRecovery, c.Status.ObeyedRecovery = tc.word, 1, tc.void, tc.obeyed
			seen := healthy(tc.seen)
			seen.Incarnation = 1
			if tc.step.Kind == plan.RaiseIncarnation {
				c.Status.Incarnation = 2
			}
			Report(c, Outcome{Seen: seen, Step: tc.step})
			if s := c.Status; s.VoidRecovery != tc.wantVoid || s.ObeyedRecovery != tc.wantObeyed {
				t.Errorf("void %q, obeyed %q, want %q and %q", s.VoidRecovery, s.ObeyedRecovery, tc.wantVoid, tc.wantObeyed)
			}
		})
	}
}

// TestAWordThatCannotBeObeyed calls for the user, whatever is done meanwhile.
func TestAWordThatCannotBeObeyed(t *testing.T) {
	held := &plan.Recovery{Backup: "b", Told: true, Blocked: "EtcdBackup b is gone — why — what"}
	for _, step := range []plan.Step{{Kind: plan.Wait, Reason: v1alpha1.ReasonDataMissing, Message: "lost"}, {Kind: plan.StartMembers, Reason: "Repairing", Message: "starting"}} {
		c := cluster()
		Report(c, Outcome{Seen: healthy(twoVolumesLost, func(o *plan.Observed) { o.Recovery = held }), Step: step})
		is := meta.FindStatusCondition(c.Status.Conditions, v1alpha1.ConditionStalled)
		if is.Status != metav1.ConditionTrue || is.Reason != v1alpha1.ReasonRecoveryBlocked || is.Message != held.Blocked {
			t.Errorf("while the step is %s, Stalled is %+v", step.Kind, is)
		}
	}
}

// TestALookIsTold: that the backup is read, and that it cannot be, stands where users look; it
// is nothing that calls for them, and by itself no word that was obeyed.
func TestALookIsTold(t *testing.T) {
	wait := plan.Step{Kind: plan.Wait, Reason: v1alpha1.ReasonDataMissing, Message: "lost"}
	start := plan.Step{Kind: plan.StartMembers, Reason: "Repairing", Message: "starting"}
	check := plan.Step{Kind: plan.CheckBackup, Reason: v1alpha1.ReasonLooking, Message: "it is read"}
	for name, tc := range map[string]struct {
		look           plan.Look
		step           plan.Step
		reason, says   string
		moving, called metav1.ConditionStatus
	}{
		"nobody reads it yet":             {plan.Look{Due: true}, check, v1alpha1.ReasonLooking, "reading the backup b to its end before anything is stopped", metav1.ConditionTrue, metav1.ConditionFalse},
		"it is read":                      {plan.Look{Waits: "Job x has read 40% of 10 MiB, try 1"}, wait, v1alpha1.ReasonLooking, "has read 40% of 10 MiB", metav1.ConditionTrue, metav1.ConditionFalse},
		"it is, and a pod is started":     {plan.Look{Waits: "Job x was started"}, start, v1alpha1.ReasonLooking, "Job x was started", metav1.ConditionTrue, metav1.ConditionFalse},
		"it cannot be":                    {plan.Look{Failed: "it is torn — why — what"}, wait, v1alpha1.ReasonRecoveryBlocked, "it is torn", metav1.ConditionFalse, metav1.ConditionTrue},
		"it cannot, and a pod is started": {plan.Look{Failed: "it is torn — why — what"}, start, v1alpha1.ReasonRecoveryBlocked, "it is torn", metav1.ConditionFalse, metav1.ConditionTrue},
		"it was":                          {plan.Look{Done: true}, plan.Step{Kind: plan.Wait, Reason: v1alpha1.ReasonRecovering, Message: "they stop"}, v1alpha1.ReasonQuorumLost, "", metav1.ConditionTrue, metav1.ConditionFalse},
	} {
		t.Run(name, func(t *testing.T) {
			c := cluster()
			c.Spec.Recovery, c.Status.Incarnation = &v1alpha1.RecoverySpec{Incarnation: 1, BackupName: "b"}, 1
			seen := healthy(twoVolumesLost, func(o *plan.Observed) {
				o.Incarnation, o.Recovery = 1, &plan.Recovery{Backup: "b", Told: true, Look: tc.look}
			})
			Report(c, Outcome{Seen: seen, Step: tc.step})
			is := func(kind string) *metav1.Condition { return meta.FindStatusCondition(c.Status.Conditions, kind) }
			if r := is(v1alpha1.ConditionReady); r.Reason != tc.reason || !strings.Contains(r.Message, tc.says) {
				t.Errorf("Ready is %+v, want %s", r, tc.reason)
			}
			if moving, called := is(v1alpha1.ConditionReconciling).Status, is(v1alpha1.ConditionStalled).Status; moving != tc.moving || called != tc.called {
				t.Errorf("Reconciling %s and Stalled %s", moving, called)
			}
			if a := is(v1alpha1.ConditionAvailable); a.Reason != v1alpha1.ReasonQuorumLost {
				t.Errorf("Available is %+v", a)
			}
			if obeyed := c.Status.ObeyedRecovery != ""; obeyed != tc.look.Done {
				t.Errorf("obeyed is %q", c.Status.ObeyedRecovery)
			}
		})
	}
	told := Events(v1alpha1.EtcdClusterStatus{}, v1alpha1.EtcdClusterStatus{}, Outcome{Step: check}, StatusLost)
	if len(told) != 1 || told[0].Reason != string(plan.CheckBackup) || told[0].Type != "Normal" {
		t.Errorf("told is %+v", told)
	}
	c := cluster()
	Report(c, Outcome{Seen: healthy(func(o *plan.Observed) { o.SpentCheck = "j1" }), Step: plan.Step{Kind: plan.DropCheck, Reason: "Repairing", Message: "deleting it"}})
	if r := meta.FindStatusCondition(c.Status.Conditions, v1alpha1.ConditionReady); r.Status != metav1.ConditionTrue {
		t.Errorf("while a Job goes, Ready is %+v", r)
	}
}

// TestRaiseIsTold: the members of before are members no more, and the loss is told by an
// event, but only once it is written.
func TestRaiseIsTold(t *testing.T) {
	c := cluster()
	c.Status.Incarnation, c.Status.Recovery = 2, &v1alpha1.RecoveryStatus{Incarnation: 2, BackupName: "b", Time: metav1.NewTime(time.Unix(1, 0))}
	o := Outcome{Seen: healthy(twoVolumesLost), Step: plan.Step{Kind: plan.RaiseIncarnation, Reason: "Recovering", Message: "what was acknowledged since the backup is lost"}}
	Report(c, o)
	if s := c.Status; len(s.Members) > 0 || s.Replicas != 0 || s.Leader != "" || !strings.HasPrefix(s.MembersSummary, "0/") {
		t.Errorf("status is %+v", s)
	}
	told := func(written Written) int {
		n := 0
		for _, e := range Events(v1alpha1.EtcdClusterStatus{}, c.Status, o, written) {
			if e.Reason == string(plan.RaiseIncarnation) && e.Type == "Warning" {
				n++
			}
		}
		return n
	}
	if told(StatusWritten) != 1 || told(StatusLost) != 0 {
		t.Errorf("told %d times once it is written, and %d when it is not", told(StatusWritten), told(StatusLost))
	}
	failed := cluster()
	failed.Status.Incarnation = 1
	o.Err = errors.New("no answer")
	if Report(failed, o); len(failed.Status.Members) == 0 {
		t.Error("the members are forgotten although nothing has begun")
	}
}
