package plan

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// carriedBack is a cluster of three that serves, and the word of an EtcdRestore.
func carriedBack(changes ...func(*Recovery)) Observed {
	word := &Recovery{Backup: "nightly", Restore: "back", RestoreUID: "e7"}
	for _, change := range changes {
		change(word)
	}
	return founded().with(func(o *Observed) { o.Recovery, o.Incarnation = word, 1 })
}

func begun(r *Recovery)   { r.Begun = true }
func late(r *Recovery)    { r.Late = "the safety backup is old" }
func blocked(r *Recovery) { r.Blocked = "EtcdBackup nightly is gone" }

func downgrading36(o *Observed)   { o.Downgrade = "3.6.0" }
func downgradeOnFile(o *Observed) { o.DowngradeBegun = "3.6" }
func turning(o *Observed)         { o.TLS, o.PlaintextPeers = true, true }
func listsOthers(o *Observed)     { o.ForeignMembers = []string{"http://10.0.0.9:2380"} }
func hasJoiner(o *Observed)       { o.Joiner = "a-0003"; o.Members = append(o.Members, joiner(3)) }
func comingLacks(o *Observed) {
	o.Coming = []string{"a-0003", "a-0004", "a-0005"}
	o.ComingLack = &Lack{What: "cert-manager has not issued a-0003-peer-issued (no such issuer)", Do: "see its issuer"}
}

func noVolumes(o *Observed) {
	o.VolumeLack = &Lack{What: "ResourceQuota team has no room", Do: "raise it"}
}
func planOnly(o *Observed)   { o.Planned = true }
func notFounded(o *Observed) { o.ClusterID = 0 }
func everybody(edits ...edit) change {
	return func(o *Observed) {
		for i := range o.Members {
			for _, e := range edits {
				e(&o.Members[i])
			}
		}
	}
}

func terminating(m *Member) { m.Pod = PodTerminating }
func lostNode(m *Member)    { crashed(m); m.RunningElsewhere = true }

// TestRestoreInPlace: members are stopped on the word that status names, and on no other.
func TestRestoreInPlace(t *testing.T) {
	all := []string{"a-0000", "a-0001", "a-0002"}
	one := carriedBack(begun).with(alone, everybody(crashed))
	one.Members[1].RunningElsewhere = true
	for name, tc := range map[string]struct {
		seen   Observed
		want   Kind
		reason string
		on     []string
		// held is a part of what it waits for; empty if it is not held.
		held string
	}{
		"it is put on record first":            {carriedBack(), LatchRestore, "Restoring", nil, ""},
		"then the members are stopped":         {carriedBack(begun), StopIncarnation, "Restoring", all, ""},
		"though it is late by now":             {carriedBack(begun, late), StopIncarnation, "Restoring", all, ""},
		"though no read succeeds":              {carriedBack(begun).with(alone), StopIncarnation, "Restoring", all, ""},
		"they are waited for":                  {carriedBack(begun).with(everybody(terminating)), Wait, "Restoring", all, ""},
		"then the new incarnation begins":      {carriedBack(begun).with(alone, everybody(crashed)), RaiseIncarnation, "Restoring", all, ""},
		"one may run elsewhere":                {one, RaiseIncarnation, "Restoring", all, ""},
		"all may run elsewhere":                {carriedBack(begun).with(alone, everybody(lostNode)), Wait, "RestoreBlocked", all, ""},
		"paused":                               {carriedBack().with(pausedByUser), Pause, "Paused", nil, "paused"},
		"paused in the middle":                 {carriedBack(begun).with(pausedByUser, alone, everybody(crashed)), Pause, "Paused", nil, "paused"},
		"only planned":                         {carriedBack().with(planOnly), Pause, "Planned", nil, "plan"},
		"the backup cannot be restored":        {carriedBack(blocked), Settled, "", nil, "is gone"},
		"or not any more":                      {carriedBack(begun, blocked).with(alone, everybody(crashed)), StartMembers, "", all, "is gone"},
		"taken back in the middle":             {founded().with(alone, everybody(crashed)), StartMembers, "", all, ""},
		"the safety backup is old":             {carriedBack(late), Settled, "", nil, "is old"},
		"etcd is being downgraded":             {carriedBack().with(downgrading36), Settled, "", nil, "downgraded"},
		"a downgrade is on record":             {carriedBack().with(downgradeOnFile), Settled, "", nil, "downgraded"},
		"members turn to TLS":                  {carriedBack().with(turning), Settled, "", nil, "TLS"},
		"the medium was changed to memory":     {carriedBack().with(wantsMemory), Settled, "", nil, "spec.storage.medium is Memory"},
		"even in the middle":                   {carriedBack(begun).with(wantsMemory, alone, everybody(crashed)), StartMembers, "", all, "spec.storage.medium is Memory"},
		"one is still in memory":               {carriedBack().with(of(1, inPod)), Wait, "Replacing", nil, "has its data in memory"},
		"others are listed":                    {carriedBack().with(listsOthers), Wait, "UnknownMember", nil, "10.0.0.9"},
		"not founded":                          {carriedBack().with(notFounded), LatchCluster, "", nil, "not founded"},
		"a certificate is due in the meantime": {carriedBack(late).with(certificatesDue), IssueCertificates, "", nil, "is old"},
		"the list was not read":                {carriedBack().with(alone), Settled, "", nil, "list was not confirmed"},
		"nor is anybody there":                 {carriedBack().with(alone, everybody(crashed)), StartMembers, "", all, "list was not confirmed"},
		"who comes has no certificates":        {carriedBack().with(comingLacks), Settled, "", nil, "a-0003, a-0004, a-0005, which begin the next incarnation, could not start — see its issuer, or delete EtcdRestore back"},
		"they are asked for meanwhile":         {carriedBack().with(comingLacks, certificatesDue), IssueCertificates, "", nil, "no such issuer"},
		"though it was begun by then":          {carriedBack(begun).with(comingLacks, certificatesDue), StopIncarnation, "Restoring", all, ""},
		"also for the new incarnation":         {carriedBack(begun).with(comingLacks, alone, everybody(crashed)), RaiseIncarnation, "Restoring", all, ""},
		"there is no room for new volumes":     {carriedBack().with(noVolumes), Settled, "", nil, "would have no volumes — raise it, or delete EtcdRestore back"},
		"though it was begun before":           {carriedBack(begun).with(noVolumes), StopIncarnation, "Restoring", all, ""},
		"labels are put back in the middle":    {carriedBack(begun).with(everybody(mislabelled)), RestoreLabels, "", all, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := Next(tc.seen)
			if got.Kind != tc.want || (tc.reason != "" && got.Reason != tc.reason) {
				t.Errorf("Next() = %s/%s %v (%s), want %s/%s", got.Kind, got.Reason, got.Members, got.Message, tc.want, tc.reason)
			}
			if diff := cmp.Diff(tc.on, got.Members); tc.on != nil && diff != "" {
				t.Errorf("Next() = %s on other members (-want +got):\n%s", got.Kind, diff)
			}
			if held := tc.seen.RestoreHeld(); (held == "") != (tc.held == "") || !strings.Contains(held, tc.held) {
				t.Errorf("RestoreHeld() = %q, want %q", held, tc.held)
			} else if (tc.seen.ComingLack != nil || tc.seen.VolumeLack != nil) && held != "" && strings.Count(held, " — ") != 2 {
				t.Errorf("the message is not in three parts: %s", held)
			}
		})
	}
}

// TestAMemberThatJoinsIsWaitedFor: the old members are to be complete when they are kept.
func TestAMemberThatJoinsIsWaitedFor(t *testing.T) {
	for name, seen := range map[string]Observed{
		"a joiner":  carriedBack().with(hasJoiner),
		"a learner": carriedBack().with(everybody(func(m *Member) { m.Learner = m.Ordinal == 2 })),
	} {
		if got := Next(seen); got.Kind == LatchRestore || got.Kind == StopIncarnation || seen.RestoreHeld() == "" {
			t.Errorf("%s: Next() = %s (%s), held by %q", name, got.Kind, got.Message, seen.RestoreHeld())
		}
	}
}

// TestARestoreIsForecast: the plan goes as far as the new incarnation.
func TestARestoreIsForecast(t *testing.T) {
	var got []string
	for _, step := range Forecast(carriedBack().with(planOnly)) {
		got = append(got, string(step.Kind))
	}
	if want := "LatchRestore StopIncarnation RaiseIncarnation"; strings.Join(got, " ") != want {
		t.Errorf("Forecast() = %v, want %s", got, want)
	}
	got = nil
	for _, step := range Forecast(carriedBack().with(planOnly, comingLacks, certificatesDue)) {
		got = append(got, string(step.Kind))
	}
	if want := "IssueCertificates LatchRestore StopIncarnation RaiseIncarnation"; strings.Join(got, " ") != want {
		t.Errorf("with certificates to be asked for Forecast() = %v, want %s", got, want)
	}
}
