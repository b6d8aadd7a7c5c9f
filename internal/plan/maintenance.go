package plan

import (
	"fmt"
	"slices"
	"strings"
)

// tendingFirst rules come before anybody is restarted, added or removed by choice: one
// member stands still already, and the leader of a cluster decides what a new member is
// given.
var tendingFirst = []rule{choreUnderWay, leaveDiverged}

// mending rules come once every member is healthy and nobody joins or leaves, and before
// anything is rolled: a database that is full refuses every write until it is healed, and
// a member that differs refuses to start again, so that a roll would end at it. Data that
// differs comes first, since nothing else is done to data that nobody can trust.
var mending = []rule{compare, condemn, doubtData, heedCorrupt, compactFull, makeRoom}

// tending rules come last: what a database gives back is worth least, and a full one that
// cannot be healed may be about to get a larger quota by a roll.
var tending = []rule{advise, leaveSlowDisk, defragment}

// Kinds of alarm.
const (
	alarmNoSpace = "NOSPACE"
	alarmCorrupt = "CORRUPT"
)

// Alarm that etcd has raised.
type Alarm struct {
	// Kind is NOSPACE or CORRUPT.
	Kind string
	// ID of the member that it is about; zero for all of them.
	ID uint64
}

// Chore is a call to one member that takes longer than a look.
type Chore struct {
	// Kind is Defragment, Compact or Compare; empty for none.
	Kind Kind
	// Member that is asked; empty for all of them.
	Member string
}

// Comparison of the voters' data at one revision and with the same history.
type Comparison struct {
	// Revision that the data was compared at; zero while it was not.
	Revision int64
	// Agree are the IDs of the largest group of voters with equal data, Differ those of
	// voters with other data. Who could not be compared is in neither.
	Agree, Differ []uint64
	// Twice says that two comparisons in a row, some seconds apart, have found this.
	Twice bool
}

// Quorate counts what no alarm refuses, too: the alarms could be listed, and that is a
// proposal. Without it a member that is lost while a database is full, or one whose data
// is corrupt, could never be replaced.
func (o Observed) alarmed() bool { return len(o.Raised) > 0 }

func (o Observed) raised(kind string) []Alarm {
	return slices.DeleteFunc(slices.Clone(o.Raised), func(a Alarm) bool { return a.Kind != kind })
}

// choreUnderWay waits for a member that stands still by our hand. It ends by itself, in
// minutes at most; pods, certificates and Services are seen to meanwhile.
func choreUnderWay(o Observed) (Step, bool) {
	what := map[Kind]string{Defragment: "defragments its database", Compact: "discards old revisions"}[o.Chore.Kind]
	return Step{Kind: Wait, Members: []string{o.Chore.Member}, Reason: "Defragmenting", Message: fmt.Sprintf(
		"%s %s, and nobody is restarted, added or removed meanwhile", o.Chore.Member, what)}, what != ""
}

// leaveDiverged moves the leadership off a member whose data was given up: a new member
// gets its data from the leader.
func leaveDiverged(o Observed) (Step, bool) {
	from, led := o.Leader()
	to, found := o.successor(from)
	return Step{Kind: MoveLeader, Members: []string{from.Name, to.Name}, ID: to.ID, Reason: o.direction(), Message: fmt.Sprintf(
			"handing the leadership from %s to %s: %s", from.Name, to.Name, from.loss())},
		led && found && from.Volume == VolumeRefused && o.Quorate()
}

// leaveSlowDisk moves the leadership off a member whose disk has been slow for a minute:
// etcd's leader takes the next proposals when it has synced the last ones, so that every
// write waits for its disk. It comes when nothing else is to be done, so that it never
// undoes what a roll has handed over, and it replaces nobody: the data is in order.
func leaveSlowDisk(o Observed) (Step, bool) {
	from, led := o.Leader()
	to, found := o.successor(from)
	return Step{Kind: MoveLeader, Members: []string{from.Name, to.Name}, ID: to.ID, Reason: "Healthy", Message: fmt.Sprintf(
			"handing the leadership from %s to %s: syncing the log of %s takes %s or longer", from.Name, to.Name, from.Name, from.SlowDisk)},
		led && found && from.SlowLong && to.SlowDisk == 0 && o.Quorate() && o.LeaderSettled
}

// compare asks for the hash of every voter's data, now and then, and when etcd says that
// one differs. Members of different versions may keep different traces of what was
// deleted, so they are not compared.
func compare(o Observed) (Step, bool) {
	versions := map[string]bool{}
	for _, m := range o.Members {
		versions[m.Version] = true
	}
	return Step{Kind: Compare, Reason: "Healthy", Message: "comparing the members' data"},
		o.CompareDue && o.Chore.Kind == "" && o.Quorate() && len(versions) == 1 && o.Voters() > 1
}

// different are the voters whose data is not that of the others, and was not given up yet.
func (o Observed) different() []Member {
	var out []Member
	for _, m := range o.Members {
		if m.Voter() && m.Volume != VolumeRefused && slices.Contains(o.Comparison.Differ, m.ID) {
			out = append(out, m)
		}
	}
	return out
}

// doubtful says that somebody's data is not what it should be, and that it is not settled
// whose.
func (o Observed) doubtful() bool { return len(o.different()) > 0 || len(o.raised(alarmCorrupt)) > 0 }

// asItStands is the cluster with as many members as it has, while data is in doubt: a new
// member gets the data of the leader, whatever that is, and with each one that comes or goes
// by choice the majority may turn out to be the wrong one. Who is lost is replaced; of an even
// number one is there for another that has not gone yet, and is no reason for one more.
func (o Observed) asItStands() Observed {
	if voters := o.Voters(); voters > 0 && o.doubtful() {
		o.Size = max(count(o.Members, Member.sound), min(o.Size, voters-1+voters%2))
	}
	return o
}

// decided says that a majority of all voters has equal data: what else there is, is wrong.
func (o Observed) decided() bool { return len(o.Comparison.Agree) >= Majority(o.Voters()) }

// condemn gives up the data of one member that differs from a majority. It goes on voting,
// since raft's log is not what differs, until a new member has taken its place.
func condemn(o Observed) (Step, bool) {
	bad := slices.DeleteFunc(o.different(), func(m Member) bool { return m.InMemory })
	if len(bad) == 0 || !o.Comparison.Twice || !o.decided() || !o.Quorate() {
		return Step{}, false
	}
	m := bad[0]
	return Step{Kind: Condemn, Members: []string{m.Name}, ID: m.ID, Reason: "Replacing", Message: fmt.Sprintf(
		"the data of %s differs from that of %d of %d voters at revision %d — what it answers is wrong — it is replaced by a new member, and its volume kept in quarantine",
		m.Name, len(o.Comparison.Agree), o.Voters(), o.Comparison.Revision)}, m.Steady && m.Volume == VolumeBound && o.spares(m)
}

// doubtData stops whatever would be done by choice while data differs: who is restarted
// compares itself with its peers first, and does not start.
func doubtData(o Observed) (Step, bool) {
	bad := o.different()
	if len(bad) == 0 {
		return Step{}, false
	}
	wait := func(reason, format string, args ...any) (Step, bool) {
		return Step{Kind: Wait, Members: names(bad, Member.Voter), Reason: reason, Message: fmt.Sprintf(
			"the data of %s differs from that of %d other voters", strings.Join(names(bad, Member.Voter), ", "), len(o.Comparison.Agree)) +
			fmt.Sprintf(format, args...)}, true
	}
	switch {
	case !o.Comparison.Twice:
		return wait("Comparing", ": a second comparison confirms it")
	case !o.decided():
		return wait("DataDiffers", " — no majority of the %d voters has equal data, so nobody can tell which is right, and nothing is restarted, replaced or disarmed — compare them (etcdctl endpoint hashkv --cluster), save what you need, and delete the claims and pods of those that are wrong, or restore a backup into a new cluster", o.Voters())
	case bad[0].InMemory:
		return wait("DataDiffers", " — what it answers is wrong, and its data goes with its pod, which is not deleted without your word — kubectl delete pod %s, and a new member takes its place", bad[0].Name)
	default:
		return wait("Comparing", ": it is replaced once the others are known to be a quorum without it")
	}
}

// heedCorrupt disarms CORRUPT once the members that it is about are gone and all that are
// left have equal data; until then etcd refuses writes, and rightly so.
func heedCorrupt(o Observed) (Step, bool) {
	raised := o.raised(alarmCorrupt)
	if len(raised) == 0 {
		return Step{}, false
	}
	listed := slices.ContainsFunc(raised, func(a Alarm) bool {
		return a.ID == 0 || slices.ContainsFunc(o.Members, func(m Member) bool { return m.Listed && m.ID == a.ID })
	})
	switch {
	case o.Comparison.Revision == 0 || len(o.Comparison.Agree) < o.Voters():
		return Step{Kind: Wait, Reason: "Comparing", Message: fmt.Sprintf(
			"etcd raised %s and refuses writes: the members' data is compared", strings.Join(o.Alarms, ", "))}, true
	case listed:
		return Step{Kind: Wait, Reason: "AlarmActive", Message: fmt.Sprintf(
			"etcd raised %s and refuses writes, and the data of all %d voters is the same — a difference that is gone may have been served all the same, so the operator does not decide — look at what was written, then etcdctl alarm disarm",
			strings.Join(o.Alarms, ", "), o.Voters())}, true
	default:
		return Step{Kind: Disarm, Alarm: alarmCorrupt, Reason: "AlarmActive", Operation: "Replacing", Message: fmt.Sprintf(
			"disarming CORRUPT: those that it was about are gone, and the data of all %d voters is the same at revision %d", o.Voters(), o.Comparison.Revision)}, true
	}
}

// roomy says that the member's database is well below its quota.
func (m Member) roomy() bool { return m.Quota > 0 && m.DBSize*10 < m.Quota*9 }

// reclaimable says that a defragmentation may make the member roomy. The first one is tried
// whatever is said to be in use: etcd counts that anew only when it writes, so what a
// compaction has freed is not told by a member that takes no writes (seen with etcd 3.6.16,
// in 1 of 36 full databases, for ever). One that was not enough is tried again only when a
// tenth of the quota has come free since: members discard history at their own pace.
func (m Member) reclaimable() bool {
	fits := m.DBSizeInUse*10 <= m.Quota*9
	worth := (m.DBSize-m.DBSizeInUse)*10 >= m.Quota
	return m.Quota > 0 && (!m.Defragmented || fits && worth)
}

// compactFull discards what the user does not want to keep; never more than that.
func compactFull(o Observed) (Step, bool) {
	leader, led := o.Leader()
	return Step{Kind: Compact, Members: []string{leader.Name}, Reason: "AlarmActive", Operation: "Defragmenting", Message: fmt.Sprintf(
			"the database is full (%s): discarding the history up to revision %d, as spec.etcd.autoCompaction says", strings.Join(o.Alarms, ", "), o.CompactTo)},
		o.full() && led && o.serves() && o.CompactTo > 0 && o.DefragmentHeld == ""
}

// makeRoom defragments the members of a full cluster one by one, and lets it take writes
// again when all of them have room.
func makeRoom(o Observed) (Step, bool) {
	if !o.full() || !o.serves() {
		return Step{}, false
	}
	narrow := o.narrow()
	if len(narrow) == 0 {
		return Step{Kind: Disarm, Alarm: alarmNoSpace, Reason: "AlarmActive", Operation: "Defragmenting", Message: fmt.Sprintf(
			"every database is below 90 %% of its quota%s: disarming NOSPACE", sizes(o))}, true
	}
	if o.DefragmentHeld != "" || slices.ContainsFunc(narrow, func(m Member) bool { return !m.reclaimable() }) {
		return Step{}, false
	}
	return o.tend(narrow, "AlarmActive")
}

// narrow are the members without room, those that have to be defragmented first.
func (o Observed) narrow() []Member {
	return o.inTurn(func(m Member) bool { return m.Listed && !m.roomy() })
}

// tend defragments the first of the members, which stands still meanwhile: so all voters
// are healthy and were so in more than one look, and it does not lead.
func (o Observed) tend(members []Member, reason string) (Step, bool) {
	m, why := members[0], ""
	switch {
	case o.Chore.Kind != "":
		why = "the members' data is being compared"
	case o.HealthyVoters() < o.Voters() || o.steady() < o.Voters():
		why = "a second look confirms that all voters are healthy"
	case !o.LeaderSettled && o.Voters() > 1:
		why = "the leader is new, and nobody is made to stand still before it has led for a second"
	}
	if why != "" {
		return Step{Kind: Wait, Members: []string{m.Name}, Reason: "Defragmenting", Message: fmt.Sprintf("%s is to be defragmented: %s", m.Name, why)}, true
	}
	if m.Leads && o.Voters() > 1 {
		to, found := o.successor(m)
		return Step{Kind: MoveLeader, Members: []string{m.Name, to.Name}, ID: to.ID, Reason: reason, Operation: "Defragmenting", Message: fmt.Sprintf(
			"handing the leadership from %s to %s before %s is defragmented", m.Name, to.Name, m.Name)}, found
	}
	return Step{Kind: Defragment, Members: []string{m.Name}, ID: m.ID, Reason: reason, Operation: "Defragmenting", Message: fmt.Sprintf(
		"defragmenting %s, which answers nobody meanwhile: %s of %s are in use%s",
		m.Name, bytes(m.DBSizeInUse), bytes(m.DBSize), o.more(len(members)-1))}, true
}

// advise says what to do about a full database that cannot be healed.
func advise(o Observed) (Step, bool) {
	why := "its data is more than 90 % of its quota, and defragmenting gives nothing back — delete keys, or raise spec.etcd.quotaBackendBytes, and the operator does the rest"
	if o.DefragmentHeld != "" {
		why = o.DefragmentHeld
	}
	return Step{Kind: Wait, Members: names(o.narrow(), Member.Voter), Reason: "AlarmActive", Message: fmt.Sprintf(
		"etcd raised %s and refuses writes%s — %s", strings.Join(o.Alarms, ", "), sizes(o), why)}, o.full()
}

const (
	// worthwhile is how much a defragmentation has to give back: it stops a member for
	// seconds.
	worthwhile = 100 << 20
)

// fragmented says that half of the member's database, and a worthwhile part of it, is
// free.
func (m Member) fragmented() bool {
	free, least := m.DBSize-m.DBSizeInUse, int64(worthwhile)
	if m.Quota > 0 {
		least = min(least, m.Quota/4)
	}
	return m.Voter() && free*2 >= m.DBSize && free >= least
}

// defragment gives free space back while nothing else goes on. A cluster of one, which
// serves nobody meanwhile, waits for a window of its own.
func defragment(o Observed) (Step, bool) {
	fragmented := o.inTurn(Member.fragmented)
	if len(fragmented) == 0 || o.Window == WindowClosed || o.DefragmentHeld != "" || len(o.Alarms) > 0 || !o.Quorate() ||
		o.Downgrade != "" || (o.Voters() == 1 && o.Window != WindowOpen) {
		return Step{}, false
	}
	return o.tend(fragmented, "Defragmenting")
}

// sizes of the members' databases, in a few words.
func sizes(o Observed) string {
	var out []string
	for _, m := range o.Members {
		quota := "an unknown quota"
		if m.Quota > 0 {
			quota = bytes(m.Quota)
		}
		if m.Listed {
			out = append(out, fmt.Sprintf("%s: %s of %s, %s in use", m.Name, bytes(m.DBSize), quota, bytes(m.DBSizeInUse)))
		}
	}
	return " (" + abbreviate(out) + ")"
}

// bytes to two digits: a database that grows with every write must not be another message
// on every pass.
func bytes(n int64) string {
	mebibytes, unit := n>>20, int64(1)
	for mebibytes/unit >= 100 {
		unit *= 10
	}
	return fmt.Sprintf("%d MiB", mebibytes/unit*unit)
}
