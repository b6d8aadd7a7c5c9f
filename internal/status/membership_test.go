package status

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/plan"
)

// sized is a wish for n voters.
func sized(n int) change { return func(o *plan.Observed) { o.Size = n } }

// joining prepares a fourth member.
func joining(o *plan.Observed) {
	o.Joiner = "a-0003"
	o.Members = append(o.Members, plan.Member{
		Name: "a-0003", Ordinal: 3, Joiner: true, Volume: plan.VolumePending, Pod: plan.PodWaiting, Held: true,
		Trouble: "its pod is starting",
	})
}

// learning has the fourth member catch up.
func learning(o *plan.Observed) {
	o.Members = append(o.Members, plan.Member{
		Name: "a-0003", Ordinal: 3, Volume: plan.VolumeBound, RecordedID: 4, Booted: true, Pod: plan.PodRunning, Started: true,
		Listed: true, ID: 4, Learner: true, Answers: true, FollowsLeader: true, Trouble: "it is a learner and does not vote yet",
	})
}

// removed is a fourth member that a scale-in has just removed.
func removed(o *plan.Observed) {
	o.Members = append(o.Members, plan.Member{
		Name: "a-0003", Ordinal: 3, Volume: plan.VolumeBound, RecordedID: 4, Booted: true, Leaving: true, Pod: plan.PodRunning,
		Trouble: "etcd's member list does not name it",
	})
}

func nodeGone(o *plan.Observed) {
	down(1)(o)
	o.Members[2].Gone, o.Members[2].Trouble = true, "its node node-2 is not Ready"
}

func doomed(o *plan.Observed) { o.Members[2].Volume = plan.VolumeTerminating }

func stranger(o *plan.Observed) {
	o.ForeignMembers = []string{"http://10.9.9.9:2380"}
	o.Problems = append(o.Problems, plan.Problem{
		Reason: v1alpha1.ReasonUnknownMember, Severity: plan.Stalling, Message: "etcd lists member 9 at http://10.9.9.9:2380 — why — what to do",
	})
}

// TestReplicas: what kubectl scale compares with is the number of voters. A
// learner is none, and while nobody can be asked it is whoever is known.
func TestReplicas(t *testing.T) {
	cases := map[string]struct {
		seen plan.Observed
		want int32
	}{
		"three voters":                        {healthy(), 3},
		"one of them is down":                 {healthy(down(1)), 3},
		"one is prepared to join":             {healthy(sized(5), joining), 3},
		"one is a learner":                    {healthy(sized(5), learning), 3},
		"the learner has become a voter":      {healthy(sized(5), learning, func(o *plan.Observed) { o.Members[3].Learner = false }), 4},
		"one was removed and its pod is left": {healthy(removed), 3},
		"somebody else's member votes too":    {healthy(stranger), 4},
		"nobody can be asked":                 {healthy(down(2)), 3},
		"nobody can be asked of the joiner":   {healthy(joining, down(2)), 3},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			c := cluster()
			pass(c, tc.seen, nil)
			if c.Status.Replicas != tc.want {
				t.Errorf("status.replicas is %d, want %d", c.Status.Replicas, tc.want)
			}
		})
	}
}

func TestRoles(t *testing.T) {
	c := cluster()
	pass(c, healthy(sized(5), learning), nil)
	want := []v1alpha1.MemberRole{v1alpha1.RoleVoter, v1alpha1.RoleVoter, v1alpha1.RoleVoter, v1alpha1.RoleLearner}
	if diff := cmp.Diff(want, roles(c)); diff != "" {
		t.Errorf("roles (-want +got):\n%s", diff)
	}
	// Nobody can be asked, and nobody can have changed who votes.
	pass(c, healthy(sized(5), learning, down(2)), nil)
	if got := roles(c); !slices.Equal(got[:3], want[:3]) {
		t.Errorf("roles %v after the loss of the quorum, want %v", got, want)
	}
	// Removed, and what it has left is still there.
	pass(c, healthy(removed), nil)
	want[3] = ""
	if diff := cmp.Diff(want, roles(c)); diff != "" {
		t.Errorf("roles (-want +got):\n%s", diff)
	}
}

func roles(c *v1alpha1.EtcdCluster) []v1alpha1.MemberRole {
	var out []v1alpha1.MemberRole
	for _, m := range c.Status.Members {
		out = append(out, m.Role)
	}
	return out
}

// TestQuorumLost: the message says who is left, whose data is left, what happens
// by itself and what the user must decide.
func TestQuorumLost(t *testing.T) {
	cases := map[string]struct {
		lost change
		want []string
		not  string
	}{
		"the volumes are there": {
			down(2),
			[]string{"1 of 3 voters answer (a-0000) and 2 are needed", "a-0000 in term 4 up to index 12, which is revision 9 is applied", "the data of a-0000, a-0001, a-0002 is left", "started on their volumes by themselves"},
			"go on with a backup",
		},
		"two volumes are lost": {
			twoVolumesLost,
			[]string{"1 of 3 voters answer (a-0000)", "the data of a-0000 is left", "bring a volume back, or go on with a survivor's volume or a backup by spec.recovery", "no EtcdBackup of the cluster is verified"},
			"started on their volumes by themselves",
		},
		"two volumes are lost, and there is a backup": {
			func(o *plan.Observed) {
				twoVolumesLost(o)
				o.Backups = &plan.Backups{LastVerified: plan.Backup{Name: "nightly-1", Began: time.Unix(0, 0), Revision: 7}}
			},
			[]string{"the newest verified backup is nightly-1, of 1970-01-01T00:00:00Z, up to revision 7"},
			"no EtcdBackup",
		},
		"two volumes are lost, and there is an archive": {
			func(o *plan.Observed) {
				twoVolumesLost(o)
				o.Backups = &plan.Backups{LastVerified: plan.Backup{Name: "nightly-1", Began: time.Unix(0, 0), Revision: 7}, Archive: "continuous", ArchivedRevision: 8}
			},
			[]string{"up to revision 7; archive continuous goes up to revision 8, which a new cluster can begin with by restoreFrom.archiveName"},
			"no EtcdBackup",
		},
		"two volumes are lost, and the archive is older": {
			func(o *plan.Observed) {
				twoVolumesLost(o)
				o.Backups = &plan.Backups{LastVerified: plan.Backup{Name: "nightly-1", Began: time.Unix(0, 0), Revision: 7}, Archive: "continuous", ArchivedRevision: 6}
			},
			[]string{"up to revision 7"},
			"archive continuous",
		},
		"two volumes are lost, and the word for it is void": {
			func(o *plan.Observed) {
				twoVolumesLost(o)
				o.RecoveryVoid = true
			},
			[]string{"spec.recovery was said while the cluster served, which makes it void: take it away"},
			"by themselves",
		},
		"nothing is left": {
			func(o *plan.Observed) {
				down(3)(o)
				for i := range o.Members {
					o.Members[i].Pod, o.Members[i].Volume = plan.PodAbsent, plan.VolumeAbsent
				}
			},
			[]string{"0 of 3 voters answer (nobody)", "the data of nobody is left"},
			"by themselves",
		},
		"a joiner's volume is nobody's data": {
			func(o *plan.Observed) {
				twoVolumesLost(o)
				joining(o)
				o.Members[3].Volume = plan.VolumeBound
			},
			[]string{"of 3 voters", "the data of a-0000 is left"},
			"a-0003 is left",
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			c := cluster()
			pass(c, healthy(), nil)
			pass(c, healthy(tc.lost, func(o *plan.Observed) { o.Members[0].Term, o.Members[0].Applied, o.Members[0].Revision = 4, 12, 9 }), nil)
			got := conditionOf(t, c, v1alpha1.ConditionAvailable)
			if got.Reason != v1alpha1.ReasonQuorumLost {
				t.Errorf("Available is %s (%s)", got.Status, got.Reason)
			}
			for _, want := range tc.want {
				if !strings.Contains(got.Message, want) {
					t.Errorf("the message does not say %q: %s", want, got.Message)
				}
			}
			if strings.Contains(got.Message, tc.not) {
				t.Errorf("the message says %q: %s", tc.not, got.Message)
			}
		})
	}
}

// TestMembershipEvents: every change of who is a member, and what becomes of data, is
// told; what prepares a change, or undoes that, is in the conditions.
func TestMembershipEvents(t *testing.T) {
	cases := map[plan.Kind]bool{
		plan.AddLearner: true, plan.Promote: true, plan.MoveLeader: true, plan.RemoveMember: true, plan.DropJoiner: true,
		plan.StopMembers: true, plan.DeleteVolumes: true, plan.QuarantineVolumes: true, plan.DeleteExpired: true,
		plan.AllotMember: false, plan.HoldMembers: false, plan.ReleaseMembers: false, plan.DiscardMembers: false,
		plan.CreateVolumes: false, plan.RecordMembers: false, plan.Wait: false,
	}
	for kind, told := range cases {
		t.Run(string(kind), func(t *testing.T) {
			c := cluster()
			pass(c, healthy(sized(5)), nil)
			outcome := Outcome{Seen: healthy(sized(5)), Step: plan.Step{Kind: kind, Message: "adding a-0003 to etcd as a learner"}}
			var want []Event
			if told {
				want = []Event{{Type: "Normal", Reason: string(kind), Action: string(kind), Message: outcome.Step.Message}}
			}
			if diff := cmp.Diff(want, Events(c.Status, c.Status, outcome, StatusWritten)); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
			outcome.Err = fmt.Errorf("refused")
			if got := Events(c.Status, c.Status, outcome, StatusWritten); len(got) > 0 {
				t.Errorf("events of a step that was refused: %v", got)
			}
		})
	}
}
