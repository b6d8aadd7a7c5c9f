package controllers

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/quorate/quorate/internal/etcd"
	"github.com/quorate/quorate/internal/plan"
)

// TestDoubts: a leader is doubted when it has refused for long, and all voters answer.
func TestDoubts(t *testing.T) {
	three := func(leads, healthy int) plan.Observed {
		var o plan.Observed
		for i := range 3 {
			o.Members = append(o.Members, plan.Member{ID: uint64(i) + 1, Listed: true, Answers: i < healthy, FollowsLeader: i < healthy, Leads: i == leads})
		}
		return o
	}
	refused, other := fmt.Errorf("adding: %w", etcd.ErrUnhealthyCluster), errors.New("another")
	type moment struct {
		after time.Duration
		seen  plan.Observed
		err   error
		want  bool
	}
	for name, story := range map[string][]moment{
		"it refuses for long":               {{0, three(0, 3), refused, false}, {doubtedAfter - 1, three(0, 3), refused, false}, {1, three(0, 3), refused, true}},
		"it has taken the change":           {{0, three(0, 3), refused, false}, {time.Second, three(0, 3), nil, false}, {doubtedAfter, three(0, 3), refused, false}},
		"another one leads":                 {{0, three(0, 3), refused, false}, {doubtedAfter, three(1, 3), refused, false}, {doubtedAfter, three(1, 3), refused, true}},
		"a voter does not answer":           {{0, three(0, 3), refused, false}, {time.Second, three(0, 2), refused, false}, {doubtedAfter, three(0, 3), refused, false}},
		"it refuses for another reason":     {{0, three(0, 3), other, false}, {doubtedAfter, three(0, 3), other, false}},
		"and in between for that of before": {{0, three(0, 3), refused, false}, {doubtedAfter, three(0, 3), other, true}},
	} {
		var d doubts
		cluster, now := types.NamespacedName{Name: "c"}, time.Unix(1e9, 0)
		for i, m := range story {
			now = now.Add(m.after)
			if got := d.of(cluster, m.seen, now); got != m.want {
				t.Errorf("%s: moment %d: %v, want %v", name, i, got, m.want)
			}
			d.note(cluster, m.seen, plan.Step{Kind: plan.AddLearner}, m.err, now)
		}
		d.forget(cluster)
		if d.of(cluster, story[0].seen, now.Add(time.Hour)) {
			t.Errorf("%s: a cluster that is gone is doubted", name)
		}
	}
}
