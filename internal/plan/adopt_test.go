package plan

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const oldUID = "0ld"

// volumes of a deleted cluster of three that are all there.
func old(changes ...func(*Adoption)) Observed {
	a := &Adoption{ClusterUID: oldUID, Incarnation: 1, Founders: []string{"a-0000", "a-0001", "a-0002"}}
	for i := range 3 {
		a.Volumes = append(a.Volumes, AdoptedVolume{Member: fmt.Sprintf("a-%04d", i), Volume: VolumeBound, Recorded: true})
	}
	for _, change := range changes {
		change(a)
	}
	return Observed{Size: 3, Adoption: a, FounderNames: []string{"a-0003", "a-0004", "a-0005"}}
}

func lying(volumes int) func(*Adoption) {
	return func(a *Adoption) { a.Volumes = a.Volumes[:volumes] }
}

// oneMore has a volume beside those of the founders.
func oneMore(a *Adoption) {
	a.Volumes = append(a.Volumes, AdoptedVolume{Member: fmt.Sprintf("a-%04d", len(a.Volumes)), Volume: VolumeBound, Recorded: true})
}

func ofVolumes(volume func(*AdoptedVolume), of ...int) func(*Adoption) {
	return func(a *Adoption) {
		for _, i := range of {
			volume(&a.Volumes[i])
		}
	}
}

// taken is an adopted cluster of three that has begun to come back: all of its volumes
// are there, and nobody runs yet.
func taken(edits ...edit) Observed {
	o := founders(member(0, append([]edit{claimed, recorded}, edits...)...), member(1, claimed, recorded), member(2, claimed, recorded))
	o.Adoption = &Adoption{ClusterUID: oldUID}
	return o
}

func TestAdopt(t *testing.T) {
	all := []string{"a-0000", "a-0001", "a-0002"}
	is := func(v Volume) func(*AdoptedVolume) { return func(a *AdoptedVolume) { a.Volume = v } }
	unrecorded := func(a *AdoptedVolume) { a.Recorded = false }
	cases := map[string]struct {
		seen   Observed
		want   Kind
		reason string
		on     []string
	}{
		"all volumes are there":                   {old(), Adopt, "Adopting", all},
		"a majority is there":                     {old(lying(2)), Adopt, "Adopting", all},
		"no volume names a founder":               {old(lying(2), func(a *Adoption) { a.Founders = nil }), Adopt, "Adopting", all[:2]},
		"one more is there than there are to be":  {old(oneMore), Wait, "AdoptBlocked", nil},
		"two more are there than there are to be": {old(oneMore, oneMore), Wait, "AdoptBlocked", nil},
		"one more, which holds no data":           {old(oneMore, ofVolumes(unrecorded, 3)), Adopt, "Adopting", all},
		"a minority is there":                     {old(lying(1)), Wait, "AdoptBlocked", nil},
		"none is there":                           {old(lying(0)), Wait, "AdoptBlocked", nil},
		"only another's are there":                {old(lying(0), func(a *Adoption) { a.Others = []string{"other"} }), Wait, "AdoptBlocked", nil},
		"two are being deleted":                   {old(ofVolumes(is(VolumeTerminating), 0, 2)), Wait, "AdoptBlocked", nil},
		"one is being deleted":                    {old(ofVolumes(is(VolumeTerminating), 0)), Adopt, "Adopting", all},
		"two have no member":                      {old(ofVolumes(unrecorded, 0, 2)), Wait, "AdoptBlocked", nil},
		"two were refused":                        {old(ofVolumes(is(VolumeRefused), 0, 2)), Wait, "AdoptBlocked", nil},
		"two are lost":                            {old(ofVolumes(is(VolumeLost), 1, 2)), Wait, "AdoptBlocked", nil},
		"two were never bound":                    {old(ofVolumes(is(VolumePending), 1, 2)), Wait, "AdoptBlocked", nil},
		"a pod still uses one":                    {old(func(a *Adoption) { a.Pods = []string{"a-0001"} }), Wait, "Adopting", nil},
		"they have another's name":                {old(func(a *Adoption) { a.Elsewhere = "b" }), Wait, "AdoptBlocked", nil},
		"paused":                                  {old().with(pausedByUser), Pause, "Paused", nil},
		"certificates come first":                 {taken().with(certificatesDue), IssueCertificates, "", nil},
		"objects come first":                      {taken().with(objectsDue), ApplyObjects, "", nil},
		"old Secrets are waited for":              {taken().with(problem("NameConflict")), Wait, "NameConflict", nil},
		"and a refused write is no way past them": {taken().with(problem("NameConflict"), objectsDue, func(o *Observed) { o.Skip = []Kind{ApplyObjects} }), Wait, "NameConflict", nil},
		"one that left long ago is not missed": {
			func() Observed {
				o := taken(runs)
				o.Members[1], o.Members[2] = member(1, claimed, recorded, runs), member(2)
				return o
			}(), Wait, "Degraded", nil,
		},
		"then all are started":   {taken(), StartMembers, "", all},
		"those of whom one runs": {taken(runs).with(problem("NameConflict"), certificatesDue), StartMembers, "", all[1:]},
		"all of them are lost before they start": {
			func() Observed {
				o := founders(member(0), member(1), member(2))
				o.Adoption = &Adoption{ClusterUID: oldUID}
				return o
			}(), Wait, "DataMissing", all,
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			got := Next(tc.seen)
			if got.Kind != tc.want || (tc.reason != "" && got.Reason != tc.reason) {
				t.Errorf("Next() = %s/%s %v (%s), want %s/%s", got.Kind, got.Reason, got.Members, got.Message, tc.want, tc.reason)
			}
			if others := tc.seen.Adoption.Others; len(others) > 0 && !strings.Contains(got.Message, "found other, spec.adopt names "+oldUID) {
				t.Errorf("the UID that is found is not named: %s", got.Message)
			}
			if diff := cmp.Diff(tc.on, got.Members); tc.on != nil && diff != "" {
				t.Errorf("Next() = %s on other members (-want +got):\n%s", got.Kind, diff)
			}
		})
	}
}

// TestAdoptionNeverFounds goes through every set of three volumes in every state: nothing
// is made for a cluster that is to be brought back, and it is taken over only by a
// majority of what was a member's, and only where none would be given up.
func TestAdoptionNeverFounds(t *testing.T) {
	kinds := []AdoptedVolume{{}, {Volume: VolumePending}}
	for _, v := range []Volume{VolumeBound, VolumeTerminating, VolumeLost, VolumeRefused} {
		kinds = append(kinds, AdoptedVolume{Volume: v}, AdoptedVolume{Volume: v, Recorded: true})
	}
	n := 0
	for _, size := range []int{1, 3, 5} {
		for i := range kinds {
			for j := range kinds {
				for k := range kinds {
					n++
					o, sound := old(lying(0)), 0
					o.Size = size
					for m, v := range []AdoptedVolume{kinds[i], kinds[j], kinds[k]} {
						if v == (AdoptedVolume{}) {
							continue
						}
						if v.Member = fmt.Sprintf("a-%04d", m); v.Recorded && v.Volume == VolumeBound {
							sound++
						}
						o.Adoption.Volumes = append(o.Adoption.Volumes, v)
					}
					step := Next(o)
					if step.Kind != Wait && step.Kind != Adopt {
						t.Fatalf("%s %v of %+v", step.Kind, step.Members, o.Adoption.Volumes)
					}
					if fits := sound >= Majority(size) && sound <= size; fits != (step.Kind == Adopt) || slices.Contains(step.Members, "a-0003") {
						t.Fatalf("%s %v with %d of %d sound volumes: %+v", step.Kind, step.Members, sound, size, o.Adoption.Volumes)
					}
				}
			}
		}
	}
	t.Logf("%d states", n)
}
