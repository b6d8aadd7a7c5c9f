package plan

import (
	"strings"
	"testing"
)

// rolledOut is a cluster with nothing to do.
func rolledOut(n int, changes ...change) Observed {
	o := inOrder(n)
	for i := range o.Members {
		o.Members[i].PodOutdated = false
	}
	return o.with(changes...)
}

func small(m *Member)      { m.VolumeSmall = true }
func grows(m *Member)      { m.VolumeGrows = true }
func otherClass(m *Member) { m.VolumeElsewhere, m.VolumeOutdated = true, true }
func onVolume(m *Member)   { m.VolumeElsewhere, m.MediumDiffers = true, true }
func inPod(m *Member)      { m.VolumeElsewhere, m.MediumDiffers, m.InMemory = true, true, true }
func fixedSize(m *Member)  { m.VolumeSmall, m.VolumeFixed = true, "class slow does not allow expansion" }
func lean(m *Member)       { m.PodResize = true }
func resizing(m *Member)   { m.PodResizing = true }
func has(mib int64) edit   { return func(m *Member) { m.VolumeSize = mib << 20 } }
func quota(mib int64) change {
	return func(o *Observed) { o.Quota = mib << 20 }
}

func wantsMemory(o *Observed) { o.InMemory = true }

// TestChangesInPlace holds one look of each kind at volumes and resources that follow the
// spec without a restart.
func TestChangesInPlace(t *testing.T) {
	unwell := func(m *Member) { crashed(m); runs(m); m.Trouble = "it does not answer" }
	cases := map[string]struct {
		observed Observed
		want     Kind
		on       string
		reason   string
		message  string
	}{
		"a small volume grows":                      {observed: rolledOut(3, of(0, small), of(1, small)), want: ExpandVolumes, on: "a-0000"},
		"the next waits for it":                     {observed: rolledOut(3, of(0, grows), of(1, small)), want: Wait, reason: "Expanding", message: "a-0000, a-0001"},
		"until it is large":                         {observed: rolledOut(3, of(1, small)), want: ExpandVolumes, on: "a-0001"},
		"a class that does not allow it":            {observed: rolledOut(3, of(0, fixedSize), of(1, fixedSize)), want: Wait, reason: "VolumeChangePending", message: "class slow does not allow expansion"},
		"a repair is not held up by it":             {observed: rolledOut(3, of(0, fixedSize), of(2, crashed)), want: StartMembers, on: "a-0002"},
		"a quota waits for the file system":         {observed: inOrder(3, quota(8192), of(1, has(8192)), of(0, has(16384)), of(2, has(16384))), want: Wait, message: "the volume of a-0001 has 8192 MiB"},
		"and is rolled out then":                    {observed: inOrder(3, quota(8192), of(1, has(16384)), of(0, has(16384)), of(2, has(16384))), want: RestartMember},
		"another class takes another member":        {observed: rolledOut(3, of(0, otherClass), of(1, otherClass), of(2, otherClass)), want: AllotMember, reason: "Replacing", message: "a-0002 is to be replaced (its volume is of another class"},
		"which joins before the old one goes":       {observed: rolledOut(3, of(0, otherClass), of(1, otherClass), of(2, otherClass)).with(func(o *Observed) { o.Members = append(o.Members, joiner(3, ready)); o.Joiner = "a-0003" }), want: AddLearner, on: "a-0003"},
		"and then it goes":                          {observed: rolledOut(4, of(0, otherClass), of(1, otherClass), of(2, otherClass), size(3)), want: RemoveMember, on: "a-0002"},
		"one at a time":                             {observed: rolledOut(3, of(0, otherClass), of(1, otherClass)), want: AllotMember, message: "a-0001 is to be replaced"},
		"the leader is last, and hands over":        {observed: rolledOut(4, of(0, otherClass), size(3)), want: MoveLeader, on: "a-0000"},
		"a single member moves":                     {observed: rolledOut(1, of(0, otherClass)), want: AllotMember},
		"a lost member comes before a move":         {observed: rolledOut(3, of(0, otherClass), of(1, crashed, volume(VolumeLost))), want: AllotMember, message: "a-0001 is to be replaced (its volume is gone)"},
		"memory takes another member, too":          {observed: rolledOut(3, wantsMemory, of(0, onVolume), of(1, onVolume), of(2, onVolume)), want: AllotMember, reason: "Replacing", message: "a-0002 is to be replaced (its data is on a volume, and spec.storage.medium is Memory)"},
		"and so does a volume for one in memory":    {observed: rolledOut(3, of(0, inPod), of(1, inPod), of(2, inPod)), want: AllotMember, reason: "Replacing", message: "a-0002 is to be replaced (its data is in memory, and spec.storage.medium is Disk)"},
		"it goes when the other votes":              {observed: rolledOut(4, of(0, inPod), of(1, inPod), of(2, inPod), size(3)), want: RemoveMember, on: "a-0002"},
		"not while one that stays is unwell":        {observed: rolledOut(4, wantsMemory, of(0, onVolume), of(1, onVolume), of(2, onVolume), of(3, unwell), size(3)), want: Wait},
		"a single member moves to memory":           {observed: rolledOut(1, wantsMemory, of(0, onVolume)), want: AllotMember},
		"and hands over when it leads":              {observed: rolledOut(2, wantsMemory, of(0, onVolume), size(1)), want: MoveLeader, on: "a-0000"},
		"one that is to move is made again first":   {observed: rolledOut(3, wantsMemory, of(1, onVolume, crashed)), want: StartMembers, on: "a-0001"},
		"a joiner for the other medium is dropped":  {observed: rolledOut(3, of(0, inPod)).with(func(o *Observed) { o.Members = append(o.Members, joiner(3, ready, inPod)); o.Joiner = "a-0003" }), want: DropJoiner, on: "a-0003"},
		"a pod is given what the spec says":         {observed: rolledOut(3, of(0, lean), of(1, lean)), want: ResizePod, on: "a-0000"},
		"the next waits until the kubelet has done": {observed: rolledOut(3, of(0, resizing), of(1, lean)), want: Wait, reason: "Resizing"},
		"and until it is healthy":                   {observed: rolledOut(3, of(0, unwell), of(1, lean)), want: Wait},
		"the unwell are given theirs first":         {observed: rolledOut(3, of(0, lean), of(1, lean, unwell)), want: ResizePod, on: "a-0001"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			got := Next(tc.observed)
			on := tc.on == "" || (len(got.Members) > 0 && got.Members[0] == tc.on)
			if got.Kind != tc.want || !on || (tc.reason != "" && got.Reason != tc.reason) || !strings.Contains(got.Message, tc.message) {
				t.Fatalf("Next() = %s/%s %v (%s), want %s/%s on %s and %q", got.Kind, got.Reason, got.Members, got.Message, tc.want, tc.reason, tc.on, tc.message)
			}
		})
	}
}

// TestOptionTrouble: nobody is restarted, and nothing founded, with options that etcd would
// not start with; whatever is broken is repaired all the same.
func TestOptionTrouble(t *testing.T) {
	trouble := func(o *Observed) { o.OptionTrouble = "etcd has no flag log-levl" }
	cases := map[string]struct {
		observed Observed
		want     Kind
	}{
		"nobody is restarted":    {inOrder(3, trouble), Wait},
		"not even the unwell":    {inOrder(3, trouble, of(1, crashed, runs)), Wait},
		"a missing pod is made":  {inOrder(3, trouble, of(1, crashed)), StartMembers},
		"a lost volume replaced": {rolledOut(3, trouble, of(1, crashed, volume(VolumeLost))), AllotMember},
		"nothing is founded":     {founders(member(0), member(1), member(2)).with(trouble), Wait},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if got := Next(tc.observed); got.Kind != tc.want {
				t.Errorf("Next() = %s (%s), want %s", got.Kind, got.Message, tc.want)
			}
		})
	}
}
