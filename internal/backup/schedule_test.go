package backup

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/snapshot"
)

// every is a timetable: whole multiples of a duration.
type every time.Duration

func (e every) Next(t time.Time) time.Time {
	return t.Truncate(time.Duration(e)).Add(time.Duration(e))
}

func (e every) Latest(from, now time.Time) time.Time {
	if latest := now.Truncate(time.Duration(e)); latest.After(from) {
		return latest
	}
	return time.Time{}
}

var noon = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

// good is a backup of that hour, counted from noon.
func good(hour int, changes ...func(*Item)) Item {
	slot := noon.Add(time.Duration(hour) * time.Hour)
	item := Item{Name: SlotName("s", slot), UID: fmt.Sprint(hour), Slot: slot, State: ItemGood, Saved: true}
	item.Backup = snapshot.Backup{ID: item.Name, ClusterID: "c1", Revision: int64(1000 + hour), Began: slot, Verified: &slot}
	for _, change := range changes {
		change(&item)
	}
	return item
}

func unverified(i *Item) { i.Backup.Verified = nil }
func failed(i *Item)     { i.State, i.Message, i.Saved = ItemFailed, "no bucket", false }
func untried(i *Item)    { i.State, i.Message, i.Backup.Verified = ItemFailed, "no key", nil }
func useless(i *Item)    { untried(i); i.Condemned = true }
func earlier(i *Item)    { i.Backup.ClusterUID, i.Backup.ClusterID = "u0", "c0" }
func active(i *Item)     { i.State = ItemActive }
func unsaved(i *Item)    { i.State, i.Saved = ItemActive, false }
func goes(i *Item)       { i.State = ItemLeaving }
func inUse(i *Item)      { i.InUse = true }

func hourly(changes ...func(*Plan)) Plan {
	p := Plan{
		Name: "s", Now: noon.Add(30 * time.Minute), Created: noon.Add(-48 * time.Hour), Last: noon,
		Timetable: every(time.Hour), Policy: snapshot.Policy{Last: 2}, Verifies: true, Concurrency: v1alpha1.ConcurrencyForbid,
	}
	for _, change := range changes {
		change(&p)
	}
	return p
}

func with(items ...Item) func(*Plan) { return func(p *Plan) { p.Items = items } }
func replacing(p *Plan)              { p.Concurrency = v1alpha1.ConcurrencyReplace }
func at(now time.Time) func(*Plan)   { return func(p *Plan) { p.Now = now } }

func TestTake(t *testing.T) {
	later := noon.Add(time.Hour)
	cases := map[string]struct {
		plan     Plan
		due      time.Time
		replaces string
		drop     []string
	}{
		"nothing is due":                                 {hourly(), time.Time{}, "", nil},
		"one is due":                                     {hourly(at(later)), later, "", nil},
		"many were missed: one, the last":                {hourly(at(later.Add(5*time.Hour + time.Minute))), later.Add(5 * time.Hour), "", nil},
		"a new schedule waits for its first":             {hourly(func(p *Plan) { p.Last, p.Created = time.Time{}, noon.Add(time.Minute) }), time.Time{}, "", nil},
		"status is lost: no slot comes twice":            {hourly(at(later), with(good(1)), func(p *Plan) { p.Last = time.Time{} }), time.Time{}, "", nil},
		"suspended":                                      {hourly(at(later), with(good(-1), good(-2), good(-3)), func(p *Plan) { p.Suspend = true }), time.Time{}, "", nil},
		"the last one is under way":                      {hourly(at(later), with(good(0, active))), time.Time{}, "", nil},
		"it is replaced":                                 {hourly(at(later), with(good(0, unsaved)), replacing), later, SlotName("s", noon), nil},
		"one that lies in the store is not":              {hourly(at(later), with(good(0, active)), replacing), later, "", nil},
		"nor one in use, which holds up nobody":          {hourly(at(later), with(good(0, active, inUse)), replacing), later, "", nil},
		"the clock was an hour fast":                     {hourly(func(p *Plan) { p.Last = later }), time.Time{}, "", nil},
		"retention":                                      {hourly(with(good(0), good(-1), good(-2), good(-3))), time.Time{}, "", []string{SlotName("s", noon.Add(-3*time.Hour)), SlotName("s", noon.Add(-2*time.Hour))}},
		"the last verified one stays":                    {hourly(with(good(0, unverified), good(-1, unverified), good(-2, unverified), good(-3))), time.Time{}, "", []string{SlotName("s", noon.Add(-2*time.Hour))}},
		"one that is not tried yet does not push it out": {hourly(with(good(0, active), good(-1), good(-2))), time.Time{}, "", nil},
		"failed ones are kept for a while":               {hourly(with(good(0, failed), good(-1, failed), good(-2, failed), good(-3, failed))), time.Time{}, "", []string{SlotName("s", noon.Add(-3*time.Hour))}},
		"failed ones take no good one's place":           {hourly(with(good(0, failed), good(-1, failed), good(-2), good(-3))), time.Time{}, "", nil},
		"nor do those that could not be tried out":       {hourly(with(good(0, untried), good(-1, untried), good(-2), good(-3))), time.Time{}, "", nil},
		"which are counted by themselves":                {hourly(with(good(0, untried), good(-1, untried), good(-2, untried), good(-3, untried), good(-4))), time.Time{}, "", []string{SlotName("s", noon.Add(-3*time.Hour)), SlotName("s", noon.Add(-2*time.Hour))}},
		"those of no use are kept like failed ones":      {hourly(with(good(0, useless), good(-1, failed), good(-2, useless), good(-3, useless))), time.Time{}, "", []string{SlotName("s", noon.Add(-3*time.Hour))}},
		"a new cluster drops none of one that is lost":   {hourly(with(good(0), good(-1), good(-2, earlier), good(-3, earlier))), time.Time{}, "", nil},
		"nor any that was tried in vain":                 {hourly(with(good(0), good(-1), good(-2, earlier, untried), good(-3, earlier, untried))), time.Time{}, "", nil},
		"each has its own policy":                        {hourly(with(good(0), good(-1), good(-2), good(-3, earlier), good(-4, earlier), good(-5, earlier))), time.Time{}, "", []string{SlotName("s", noon.Add(-5*time.Hour)), SlotName("s", noon.Add(-2*time.Hour))}},
		"not too many at once":                           {hourly(with(good(0), good(-1), good(-2), good(-3), good(-4, goes), good(-5, goes))), time.Time{}, "", []string{SlotName("s", noon.Add(-3*time.Hour))}},
		"what is being restored stays":                   {hourly(with(good(0), good(-1), good(-2, inUse), good(-3))), time.Time{}, "", []string{SlotName("s", noon.Add(-3*time.Hour))}},
		"so does a failed one":                           {hourly(with(good(0, failed), good(-1, failed), good(-2, failed), good(-3, failed, inUse))), time.Time{}, "", nil},
		"it holds nobody else up":                        {hourly(with(good(0), good(-1), good(-2), good(-3), good(-4, inUse), good(-5, inUse), good(-6, inUse))), time.Time{}, "", []string{SlotName("s", noon.Add(-3*time.Hour)), SlotName("s", noon.Add(-2*time.Hour))}},
		"nor the one before, whose drill is further":     {hourly(at(later), with(good(0, active), good(-1, active)), replacing), later, "", nil},
		"one between them goes":                          {hourly(at(later), with(good(0, active), good(-1, active), good(-2, active)), replacing), later, SlotName("s", noon.Add(-time.Hour)), nil},
		"which is the oldest of those":                   {hourly(at(later), with(good(0, active), good(-1, active), good(-2, active), good(-3, active)), replacing), later, SlotName("s", noon.Add(-2*time.Hour)), nil},
		"that nobody needs":                              {hourly(at(later), with(good(0, active), good(-1, active), good(-2, active, inUse), good(-3, active)), replacing), later, SlotName("s", noon.Add(-time.Hour)), nil},
		"what is needed is not replaced either":          {hourly(at(later), with(good(0, unsaved, inUse)), replacing), time.Time{}, "", nil},
		"an invalid schedule does nothing":               {hourly(with(good(0), good(-1), good(-2)), func(p *Plan) { p.Timetable, p.Invalid = nil, "no" }), time.Time{}, "", nil},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			turn := tc.plan.Take()
			if !turn.Due.Equal(tc.due) {
				t.Errorf("due at %s, want %s", turn.Due, tc.due)
			}
			replaces := ""
			if turn.Replaces != nil {
				replaces = turn.Replaces.Name
			}
			var drop []string
			for _, d := range turn.Drop {
				drop = append(drop, d.Name)
			}
			if replaces != tc.replaces || !slices.Equal(drop, tc.drop) {
				t.Errorf("replaces %q, want %q; drops %v, want %v", replaces, tc.replaces, drop, tc.drop)
			}
		})
	}
}

// TestTheLastVerifiedStays: of each cluster that bore the name, whatever there is, and whatever
// the policy says. Of what was saved and could not be tried out the last one stays as well.
func TestTheLastVerifiedStays(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	states := []ItemState{ItemActive, ItemGood, ItemGood, ItemGood, ItemFailed, ItemLeaving}
	for range 20000 {
		p := hourly(func(p *Plan) {
			p.Policy = snapshot.Policy{Last: random.IntN(3), Hourly: random.IntN(3), Daily: random.IntN(2), Weekly: random.IntN(2)}
			for hour := range random.IntN(8) {
				item := good(-hour)
				item.State = states[random.IntN(len(states))]
				if random.IntN(2) == 0 {
					item.Backup.Verified = nil
				}
				item.Backup.Revision += int64(random.IntN(3) * 1000)
				item.Condemned = item.State == ItemFailed && random.IntN(2) == 0
				if random.IntN(3) == 0 {
					earlier(&item)
				}
				p.Items = append(p.Items, item)
			}
		})
		drop := p.Take().Drop
		for _, last := range lasts(p.Items) {
			if slices.ContainsFunc(drop, func(d Drop) bool { return d.Name == last }) {
				t.Fatalf("%s, which may be all that there is, is dropped: %+v", last, p)
			}
		}
		for _, d := range drop {
			if d.State != ItemGood && d.State != ItemFailed {
				t.Fatalf("dropped although it is not known what becomes of it: %+v", d)
			}
		}
	}
}

// lasts are the newest verified backup of each cluster, and the newest that could not be tried
// out, by name.
func lasts(items []Item) (names []string) {
	for _, uid := range []string{"", "u0"} {
		var verified, untried []snapshot.Backup
		for _, item := range items {
			switch {
			case item.Backup.ClusterUID != uid:
			case item.State == ItemGood && item.Backup.Verified != nil:
				verified = append(verified, item.Backup)
			case item.State == ItemFailed && !item.Condemned:
				untried = append(untried, item.Backup)
			}
		}
		for _, of := range [][]snapshot.Backup{verified, untried} {
			if len(of) > 0 {
				names = append(names, snapshot.Newest(of)[0].ID)
			}
		}
	}
	return names
}

// TestAtMostOncePerSlot: no slot gets two backups, whether the clock jumps back and
// forth or retention deletes, and although every fifth write of status is lost.
func TestAtMostOncePerSlot(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for round := range 600 {
		jumps := round%2 == 0
		made := map[string]int{}
		exists := map[string]Item{}
		p := hourly()
		if jumps {
			p.Policy = snapshot.Policy{Last: 1000}
		}
		now := noon
		for range 60 {
			now = now.Add(time.Duration(random.IntN(50)) * time.Minute)
			p.Now = now
			if jumps && random.IntN(6) == 0 {
				p.Now = now.Add(time.Duration(random.IntN(600)-300) * time.Minute) // for one look
			}
			p.Items = nil
			for _, item := range exists {
				p.Items = append(p.Items, item)
			}
			turn := p.Take()
			last := p.Last
			switch {
			case !turn.Due.IsZero():
				last = turn.Due
				name := SlotName(p.Name, turn.Due)
				if _, there := exists[name]; !there { // or the API server says it exists
					made[name]++
					exists[name] = Item{Name: name, Slot: turn.Due, State: ItemGood, Backup: snapshot.Backup{ID: name, Began: turn.Due, Revision: turn.Due.Unix()}}
				}
			case p.Last.After(p.Now):
				last = p.Now
			}
			for _, d := range turn.Drop {
				delete(exists, d.Name)
			}
			if random.IntN(5) > 0 { // or writing status fails
				p.Last = last
			}
		}
		for name, times := range made {
			if times > 1 {
				t.Fatalf("%s was made %d times", name, times)
			}
		}
	}
}

func TestScheduleReady(t *testing.T) {
	later := noon.Add(2 * time.Hour)
	cases := map[string]struct {
		plan    Plan
		failure error
		want    string
	}{
		"well":                      {hourly(with(good(0))), nil, "True/OnSchedule"},
		"not due yet":               {hourly(func(p *Plan) { p.Created = noon }), nil, "True/Pending"},
		"the last failed":           {hourly(with(good(-1), good(0, failed))), nil, "False/Failed"},
		"an older one failed":       {hourly(with(good(-1, failed), good(0))), nil, "True/OnSchedule"},
		"overdue":                   {hourly(with(good(0)), at(later)), nil, "False/Overdue"},
		"none ever":                 {hourly(), nil, "False/Overdue"},
		"nothing is verified":       {hourly(with(good(0, unverified))), nil, "False/NotVerified"},
		"nothing is to be":          {hourly(with(good(0, unverified)), func(p *Plan) { p.Verifies = false }), nil, "True/OnSchedule"},
		"only an earlier one's are": {hourly(with(good(0, unverified), good(-1, earlier))), nil, "False/NotVerified"},
		"a clock ran ahead":         {hourly(with(good(0), good(100)), at(later)), nil, "False/Overdue"},
		"and what comes then fails": {hourly(with(good(100), good(0, failed)), at(noon.Add(time.Minute)), func(p *Plan) { p.Created = noon.Add(-time.Minute) }), nil, "False/Failed"},
		"a failure from ahead":      {hourly(with(good(100, failed), good(0))), nil, "True/OnSchedule"},
		"suspended":                 {hourly(with(good(0)), at(later), func(p *Plan) { p.Suspend = true }), nil, "True/Suspended"},
		"invalid":                   {hourly(func(p *Plan) { p.Timetable, p.Invalid = nil, "no — why — do" }), nil, "False/InvalidSchedule"},
		"the API server refuses":    {hourly(with(good(0))), fmt.Errorf("quota"), "False/ApplyFailed"},
		"one under way in between":  {hourly(with(good(0), good(1, active)), at(noon.Add(90*time.Minute))), nil, "True/OnSchedule"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			s := &v1alpha1.EtcdBackupSchedule{}
			s.Name = "s"
			ReportSchedule(s, tc.plan, tc.plan.Take(), time.Time{}, tc.failure)
			got := told(s.Status.Conditions)
			if got["Ready"] != tc.want {
				t.Errorf("Ready is %s, want %s", got["Ready"], tc.want)
			}
			again := s.DeepCopy()
			ReportSchedule(again, tc.plan, tc.plan.Take(), time.Time{}, tc.failure)
			if fmt.Sprint(again.Status) != fmt.Sprint(s.Status) {
				t.Error("a second pass says something else")
			}
		})
	}
}

// TestWhatHasRotted is not told of any more: no restore would find it.
func TestWhatHasRotted(t *testing.T) {
	s := &v1alpha1.EtcdBackupSchedule{}
	tell := func(p Plan) { ReportSchedule(s, p, p.Take(), time.Time{}, nil) }
	tell(hourly(with(good(0))))
	if s.Status.LastSuccessTime == nil || s.Status.LastVerified == "" || s.Status.LastVerifiedTime == nil {
		t.Fatalf("nothing is told of a good one: %+v", s.Status)
	}
	tell(hourly(with(good(0, failed, unverified))))
	if s.Status.LastSuccessTime != nil || s.Status.LastVerified != "" || s.Status.LastVerifiedTime != nil {
		t.Errorf("it is still told of: %+v", s.Status)
	}
}

// TestFastClock: a slot that was written while the clock was hours ahead is forgotten
// as soon as the clock is right, and the next one that comes is taken.
func TestFastClock(t *testing.T) {
	p := hourly(func(p *Plan) { p.Last = noon.Add(10 * time.Hour) })
	s := &v1alpha1.EtcdBackupSchedule{}
	ReportSchedule(s, p, p.Take(), time.Time{}, nil)
	if got := s.Status.LastScheduleTime; got == nil || !got.Time.Equal(p.Now) {
		t.Fatalf("the last slot is %s, want %s", got, p.Now)
	}
	p.Last, p.Now = s.Status.LastScheduleTime.Time, noon.Add(time.Hour)
	if turn := p.Take(); !turn.Due.Equal(noon.Add(time.Hour)) {
		t.Errorf("due at %s", turn.Due)
	}
}

// TestWake: an hour that brings nothing is slept through, and lateness is told when it
// begins.
func TestWake(t *testing.T) {
	p := hourly(with(good(0)))
	if got := p.Wake(p.Take()); !got.Equal(noon.Add(time.Hour)) {
		t.Errorf("wakes at %s", got)
	}
	p.Suspend = true
	if got := p.Wake(p.Take()); !got.IsZero() {
		t.Errorf("suspended, it wakes at %s", got)
	}
}
