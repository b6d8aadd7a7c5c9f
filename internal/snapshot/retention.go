package snapshot

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// OrphansAfter is the age from which what has no manifest, and an upload that was not ended, is
// taken for left behind. A backup may be made for 168h (an EtcdBackup's timeout), and whoever
// prunes does not see who works on it.
const OrphansAfter = 192 * time.Hour

// Policy says how many backups stay. A backup stays if any of the rules keeps it.
// The zero Policy keeps everything.
type Policy struct {
	// Last keeps the newest so many.
	Last int
	// Hourly, Daily and Weekly keep the newest of each of the newest so many hours,
	// days and weeks (from Monday) that have a backup.
	Hourly, Daily, Weekly int
	// Location is where hours, days and weeks begin; nil is UTC.
	Location *time.Location
}

// Empty says that the policy has no rule, and everything stays.
func (p Policy) Empty() bool { return p.Last <= 0 && p.Hourly <= 0 && p.Daily <= 0 && p.Weekly <= 0 }

// Kept is a backup that stays.
type Kept struct {
	Backup
	// Reasons why, at least one.
	Reasons []string
}

// Dropped is a backup that goes, or has gone.
type Dropped struct {
	ID string `json:"id"`
	// Reason why none of the rules keeps it.
	Reason string `json:"reason"`
}

// Retain divides the backups of one cluster, newest first. Whatever the policy, it
// keeps the newest of all and the newest verified one.
//
// Newest means: by revision, and by time only between equal ones, since clocks are
// set back and revisions are not. A restore makes a cluster with another ID, and
// its revisions may begin below: backups of one ID stand together, and the ID with
// the latest backup by time comes first.
func Retain(policy Policy, backups []Backup) (keep []Kept, drop []Dropped) {
	sorted := Newest(backups)
	reasons := make([][]string, len(sorted))
	because := func(i int, reason string) { reasons[i] = append(reasons[i], reason) }
	for i := range sorted {
		switch {
		case policy.Empty():
			because(i, "there is no rule that drops any")
		case i < policy.Last:
			because(i, fmt.Sprintf("one of the last %d", policy.Last))
		case i == 0:
			because(i, "the newest")
		}
	}
	if i := slices.IndexFunc(sorted, func(b Backup) bool { return b.Verified != nil }); i >= 0 {
		because(i, "the newest verified one")
	}
	for _, period := range policy.periods() {
		for _, i := range newestOfEach(sorted, period.of, period.count) {
			because(i, fmt.Sprintf("the newest of its %s, one of the last %d", period.name, period.count))
		}
	}
	for i, b := range sorted {
		if len(reasons[i]) > 0 {
			keep = append(keep, Kept{Backup: b, Reasons: reasons[i]})
		} else {
			drop = append(drop, Dropped{ID: b.ID, Reason: policy.whyNot(i)})
		}
	}
	return keep, drop
}

// Expire names the bases that an archiver took by itself and that no point since a time needs.
// The newest of before that time that is fit is what those points are put together from, so it
// stays, and with it all that is newer. So does the newest verified backup, and whatever is no
// archiver's: that may go any day, so nothing goes because of it either.
func Expire(since time.Time, backups []Backup) (drop []Dropped) {
	sorted := Newest(backups)
	before := func(b Backup) bool { return !b.Began.After(since) }
	base := slices.IndexFunc(sorted, func(b Backup) bool { return before(b) && !b.Unfit && b.ArchiveBase })
	verified := slices.IndexFunc(sorted, func(b Backup) bool { return b.Verified != nil })
	if base < 0 {
		return nil
	}
	for i, b := range sorted[base+1:] {
		if b.ArchiveBase && before(b) && base+1+i != verified {
			drop = append(drop, Dropped{ID: b.ID, Reason: fmt.Sprintf("a base of before %s; %s is the one that points since then need", since.UTC().Format(time.RFC3339), sorted[base].ID)})
		}
	}
	return drop
}

// whyNot words why the backup at this place, counted from the newest, goes.
func (p Policy) whyNot(place int) string {
	return fmt.Sprintf("number %d from the newest; last %d, hourly %d, daily %d and weekly %d keep newer or other ones",
		place+1, p.Last, p.Hourly, p.Daily, p.Weekly)
}

type period struct {
	name  string
	count int
	of    func(time.Time) string
}

func (p Policy) periods() []period {
	in := p.Location
	if in == nil {
		in = time.UTC
	}
	return []period{
		// With the offset: an hour that a clock goes through twice is two hours.
		{"hour", p.Hourly, func(t time.Time) string { return t.In(in).Format("2006-01-02T15 -0700") }},
		{"day", p.Daily, func(t time.Time) string { return t.In(in).Format(time.DateOnly) }},
		{"week", p.Weekly, func(t time.Time) string {
			year, week := t.In(in).ISOWeek()
			return fmt.Sprintf("%d-%d", year, week)
		}},
	}
}

// newestOfEach returns the places of the first backup of each of the first count
// periods.
func newestOfEach(sorted []Backup, of func(time.Time) string, count int) []int {
	var places []int
	seen := map[string]bool{}
	for i, b := range sorted {
		name := of(b.Began)
		if len(seen) >= count || seen[name] {
			continue
		}
		seen[name] = true
		places = append(places, i)
	}
	return places
}

// Newest sorts backups of one cluster as Retain does, and leaves its argument alone.
func Newest(backups []Backup) []Backup {
	latest := map[string]time.Time{}
	for _, b := range backups {
		if b.Began.After(latest[b.ClusterID]) {
			latest[b.ClusterID] = b.Began
		}
	}
	sorted := slices.Clone(backups)
	slices.SortStableFunc(sorted, func(a, b Backup) int {
		return cmp.Or(
			latest[b.ClusterID].Compare(latest[a.ClusterID]),
			cmp.Compare(b.ClusterID, a.ClusterID),
			cmp.Compare(b.Revision, a.Revision),
			b.Began.Compare(a.Began),
			cmp.Compare(b.ID, a.ID),
		)
	})
	return sorted
}
