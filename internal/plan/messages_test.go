package plan

import (
	"strings"
	"testing"
)

// TestWordsOfMessages: what users read names whom it is about, in words that fit one and
// several.
func TestWordsOfMessages(t *testing.T) {
	all := func(edits ...edit) Observed {
		o := founded()
		for i := range o.Members {
			for _, e := range edits {
				e(&o.Members[i])
			}
		}
		return o
	}
	single := settledWith(1).with(size(3))
	gone := func(m *Member) { off(m); m.Pod, m.Leaving, m.Steady = PodAbsent, false, true }
	for name, tc := range map[string]struct {
		seen Observed
		want string
	}{
		"one volume cannot grow":   {founded(volumeOutdated, fixedSize), "a-0002 has size 8Gi, and spec.storage.size is 9Gi (class slow does not allow expansion)"},
		"one pod is missing":       {founded(crashed), "the pod of a-0002 is missing and is made again on its volume"},
		"all pods are":             {all(crashed).with(alone), "the pods of a-0000, a-0001, a-0002 are missing and are made again on their volumes"},
		"one pod has ended":        {founded(crashed, ended), "the pod of a-0002 has ended and is made again"},
		"one member is down":       {founded(crashed, waiting), "1 of 3 members is not healthy"},
		"one goes with its volume": {founded(leaving, volume(VolumeTerminating)), "the pod of a-0002 with its volume is being deleted: it is replaced by a new member as soon as the process has ended; 2 of 3 voters stay"},
		"nobody ends its process":  {founded(leaving, volume(VolumeTerminating), func(m *Member) { m.NodeDown = true }), "the node of a-0002 is not Ready, so that nobody ends the process there — bring the node back, or taint it as out-of-service"},
		"one voter is too few":     {single, "spec.size is 3 and the cluster has 1 voter: "},
		"three are too few":        {settledWith(3).with(size(5)), "spec.size is 5 and the cluster has 3 voters: "},
		"one was removed by hand":  {founded(gone), "a-0002 is a member no more: the volume is kept in quarantine"},
		"its pod is deleted first": {founded(gone, runs), "etcd does not list a-0002 any more: the pod is deleted"},
	} {
		if got := Next(tc.seen); !strings.Contains(got.Message, tc.want) {
			t.Errorf("%s: %s: %s; want %q", name, got.Kind, got.Message, tc.want)
		}
	}
}
