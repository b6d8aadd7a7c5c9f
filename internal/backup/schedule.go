package backup

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/snapshot"
)

// ItemState is how far a backup of a schedule has come.
type ItemState int

const (
	// ItemActive: it is not known yet what becomes of it.
	ItemActive ItemState = iota
	// ItemGood: it is as it was asked for: saved and, if that was asked for, verified.
	ItemGood
	// ItemFailed: it was given up.
	ItemFailed
	// ItemLeaving: it is being deleted.
	ItemLeaving
)

// Item is one backup of a schedule.
type Item struct {
	// Name and UID of the EtcdBackup.
	Name, UID string
	// Slot is when it was due.
	Slot  time.Time
	State ItemState
	// Saved says that it lies in the store, whatever has become of its verification.
	Saved bool
	// Condemned says that a drill has shown that it cannot be restored.
	Condemned bool
	// Backup is what retention decides by; its ID is the EtcdBackup's name.
	Backup snapshot.Backup
	// Drilled is when its last drill ended; zero if none has. What ended before DrillAfter
	// does not count.
	Drilled, DrillAfter time.Time
	// Size of the object in the store, in bytes.
	Size int64
	// Took is how long it took to be saved; zero if that is not known.
	Took time.Duration
	// InUse says that a cluster is being filled from it, or is to be, or that it may be what a
	// point of an archive is put together from: without its objects those founders that have
	// not come to it could never be filled.
	InUse bool
	// Message says why it failed, or why it is still active.
	Message string
}

// why it failed; what is said of that backup alone is not said of the schedule.
func (i Item) why() string {
	why, _, _ := strings.Cut(i.Message, NoMore)
	return why
}

// DrillOrdered says that it is being tried out again.
func (i Item) DrillOrdered(now time.Time) bool {
	return redrillDue(i.Drilled, i.DrillAfter, now)
}

// Timetable is a parsed schedule.
type Timetable interface {
	// Next is the first time after t; zero if there is none.
	Next(t time.Time) time.Time
	// Latest is the last time after from and not after now; zero if there was none.
	Latest(from, now time.Time) time.Time
}

// Plan is one look at an EtcdBackupSchedule.
type Plan struct {
	Name string
	Now  time.Time
	// Created is when the schedule was.
	Created time.Time
	// Last is the last slot that status names; zero for none.
	Last time.Time
	// Timetable, or Invalid, which says why there is none.
	Timetable Timetable
	Invalid   string

	Suspend     bool
	Concurrency v1alpha1.ConcurrencyPolicy
	Policy      snapshot.Policy
	// Verifies says that every backup is tried out.
	Verifies bool
	// DrillEvery is how often each good backup is tried out again; zero for never.
	DrillEvery time.Duration
	// Items are the backups of the schedule, in any order.
	Items []Item
}

// keptFailures is how many failed backups are kept to be looked at.
const keptFailures = 3

// leavingAtOnce bounds how many backups are on their way out side by side: each has a
// Job of its own.
const leavingAtOnce = 3

// Turn is what to do now.
type Turn struct {
	// Due is the slot to make a backup for; zero if none is.
	Due time.Time
	// Replaces is the active backup that goes first; nil if none does.
	Replaces *Item
	// Drill is the backup to try out again; nil if none is.
	Drill *Item
	// Drop are the backups to delete, with the reasons.
	Drop []Drop
	// Next is when the next one is due; zero if none ever is.
	Next time.Time
}

// Drop is a backup that retention does not keep.
type Drop struct {
	Item
	Reason string
}

// Take decides. Two things hold whatever the clock does: no slot gets two backups,
// since the name of a backup is made from its slot and no slot is taken again that is
// not later than the last; and the newest verified backup is never dropped.
func (p Plan) Take() Turn {
	var t Turn
	if p.Invalid != "" {
		return t
	}
	t.Next = p.Timetable.Next(p.Now)
	if p.Suspend {
		t.Next = time.Time{}
		return t
	}
	t.Drop = p.drop()
	if item := p.nextDrill(); item != nil && p.active() == nil && !p.drillAt(item).After(p.Now) {
		t.Drill = item
	}
	due := p.Timetable.Latest(p.last(), p.Now)
	if due.IsZero() {
		return t
	}
	active := p.active()
	switch {
	case active == nil:
		t.Due = due
	case p.Concurrency == v1alpha1.ConcurrencyReplace && active.Saved:
		// It lies in the store, and is only being tried out: given up for one that has not
		// begun, nothing younger than the last verified one would be left in the meantime, and
		// with drills that take longer than a period never. One between it and the first goes
		// instead, whose drill would never end either if that were to go.
		t.Due, t.Replaces = due, p.between()
	case p.Concurrency == v1alpha1.ConcurrencyReplace && !active.InUse:
		t.Due, t.Replaces = due, active
	}
	return t
}

// nextDrill is the good backup whose last drill is the longest ago; nil while another is
// being tried out again, or if none ever is.
func (p Plan) nextDrill() *Item {
	var found *Item
	for i := range p.Items {
		item := &p.Items[i]
		switch {
		case p.DrillEvery <= 0 || !p.Verifies || item.State == ItemGood && item.DrillOrdered(p.Now):
			return nil
		case item.State != ItemGood || item.Drilled.IsZero():
		case found == nil || item.Drilled.Before(found.Drilled):
			found = item
		}
	}
	return found
}

func (p Plan) drillAt(item *Item) time.Time { return item.Drilled.Add(p.DrillEvery) }

// last is the time from which on slots are looked for. One that lies in the future was
// written while a clock was wrong: nothing that is due from now on may wait for it.
func (p Plan) last() time.Time {
	last := p.Last
	if last.IsZero() {
		last = p.Created
	}
	for _, item := range p.Items {
		if item.Slot.After(last) && !item.Slot.After(p.Now) {
			last = item.Slot
		}
	}
	if last.After(p.Now) {
		return p.Now
	}
	return last
}

// active is the newest backup of which it is not known yet what becomes of it.
func (p Plan) active() *Item {
	var found *Item
	for i := range p.Items {
		if item := &p.Items[i]; item.State == ItemActive && (found == nil || item.Slot.After(found.Slot)) {
			found = item
		}
	}
	return found
}

// between is the oldest of such backups that nobody needs, but for the first of all, whose drill has
// come the furthest, and the last; nil if there is none.
func (p Plan) between() *Item {
	var active []*Item
	for i := range p.Items {
		if item := &p.Items[i]; item.State == ItemActive {
			active = append(active, item)
		}
	}
	slices.SortFunc(active, func(a, b *Item) int { return a.Slot.Compare(b.Slot) })
	if len(active) == 0 {
		return nil
	}
	active = active[:len(active)-1]
	for _, item := range active[min(1, len(active)):] {
		if !item.InUse {
			return item
		}
	}
	return nil
}

// counted are the backups that retention counts together.
type counted struct {
	// clusterUID: a cluster that was made anew under the name of one that is gone is another
	// one, and its backups do not take the place of those of the data that was lost.
	clusterUID string
	// untried are saved, and no drill has ended that shows them to be good or bad: they do not
	// take the place of a good one, and may be all that there is.
	untried bool
}

// drop is what retention does not keep: of the good ones of each cluster, and of those that
// could not be tried out, by the policy; of those that are of no use all but the last few.
// What is being restored is spared for now, and holds nothing else up.
func (p Plan) drop() []Drop {
	byPolicy := map[counted][]snapshot.Backup{}
	var failed []Item
	byName := map[string]Item{}
	leaving := 0
	for _, item := range p.Items {
		byName[item.Name] = item
		switch {
		case item.State == ItemGood, item.State == ItemFailed && item.Saved && !item.Condemned:
			kind := counted{item.Backup.ClusterUID, item.State == ItemFailed}
			byPolicy[kind] = append(byPolicy[kind], item.Backup)
		case item.State == ItemFailed:
			failed = append(failed, item)
		case item.State == ItemLeaving:
			leaving++
		}
	}
	var out []Drop
	for _, backups := range byPolicy {
		_, dropped := snapshot.Retain(p.Policy, backups)
		for _, d := range dropped {
			out = append(out, Drop{byName[d.ID], d.Reason})
		}
	}
	slices.SortFunc(out, func(a, b Drop) int { return cmp.Or(a.Slot.Compare(b.Slot), cmp.Compare(a.Name, b.Name)) })
	slices.SortFunc(failed, func(a, b Item) int { return cmp.Or(b.Slot.Compare(a.Slot), cmp.Compare(a.Name, b.Name)) })
	for _, item := range failed[min(keptFailures, len(failed)):] {
		out = append(out, Drop{item, fmt.Sprintf("it failed, and %d later ones that failed are kept", keptFailures)})
	}
	out = slices.DeleteFunc(out, func(d Drop) bool { return d.InUse })
	return out[:min(len(out), max(0, leavingAtOnce-leaving))]
}

// Newest good backup, and the newest verified one of the same cluster; nil if there is none.
func (p Plan) Newest() (good, verified *Item) {
	var backups []snapshot.Backup
	byName := map[string]*Item{}
	present := p.present()
	for i := range p.Items {
		if item := &p.Items[i]; item.State == ItemGood && item.Backup.ClusterUID == present {
			backups = append(backups, item.Backup)
			byName[item.Name] = item
		}
	}
	for _, b := range snapshot.Newest(backups) {
		if good == nil {
			good = byName[b.ID]
		}
		if verified == nil && b.Verified != nil {
			verified = byName[b.ID]
		}
	}
	return good, verified
}

// present is the UID of the cluster that the latest good backup is of. Those of an earlier one
// of its name say nothing of what it holds.
func (p Plan) present() string {
	var latest *Item
	for i := range p.Items {
		if item := &p.Items[i]; item.State == ItemGood && (latest == nil || item.Backup.Began.After(latest.Backup.Began)) {
			latest = item
		}
	}
	if latest == nil {
		return ""
	}
	return latest.Backup.ClusterUID
}

// SlotName is the name of the backup of a slot: the same for every operator that
// looks, whatever it remembers.
func SlotName(schedule string, slot time.Time) string {
	return schedule + "-" + slot.UTC().Format("20060102-1504")
}
