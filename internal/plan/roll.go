package plan

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// rolling rules: a pod that runs and was made from an older spec is made again from the
// new one, one member at a time, the leader last and only after it has handed over.
//
// Nothing is restarted while anything is wrong that a restart could make worse. But no
// gate stands in the way of its own cure: who is unwell and outdated is restarted first,
// and a database that is full does not hold up a larger quota.
var rolling = []rule{optionTrouble, rollImage, rollWait, handOver, roll, readdressWait, readdress, beginDowngrade, rollBarred}

// outdated says that a voter runs in a pod that was made from an older spec, and has its
// data elsewhere. One whose pod does not run is made again at once, by restartOutdated.
func (m Member) outdated() bool {
	return m.Voter() && m.PodOutdated && !m.InMemory && m.Pod == PodRunning && !m.Held && m.Volume == VolumeBound && m.sound() && m.recorded()
}

// recorded says that the member's ID is where its data is. Until then its pod is not made
// again: nobody could tell its volume from one that was never used.
func (m Member) recorded() bool { return m.RecordedID != 0 && m.RecordedID == m.ID }

// stale are the outdated members in the order in which they are restarted: the leader
// last, and of the others the youngest first.
func (o Observed) stale() []Member {
	if o.OptionTrouble != "" {
		// Nobody is restarted with an option that etcd does not start with.
		return nil
	}
	return o.inTurn(Member.outdated)
}

// inTurn are members in the order in which they are restarted or made to stand still: the
// leader last, and of the others the youngest first.
func (o Observed) inTurn(are func(Member) bool) []Member {
	var out []Member
	for _, m := range o.Members {
		if are(m) {
			out = append(out, m)
		}
	}
	slices.SortStableFunc(out, func(a, b Member) int {
		switch {
		case a.Leads:
			return 1
		case b.Leads:
			return -1
		default:
			return cmp.Compare(b.Ordinal, a.Ordinal)
		}
	})
	return out
}

// full says that etcd refuses proposals because a database is full, and nothing else is
// wrong.
func (o Observed) full() bool {
	return len(o.Alarms) > 0 && !slices.ContainsFunc(o.Alarms, func(a string) bool { return !strings.HasPrefix(a, "NOSPACE") })
}

// kept says that the voters are a quorum while this one is down.
func (o Observed) kept(m Member) bool {
	left := o.steady()
	if m.lasting() {
		left--
	}
	return o.Voters() == 1 || left >= Majority(o.Voters())
}

// change is the reason that the conditions give for a roll.
func (o Observed) change() string {
	if o.lowers() && (o.lowering() || o.Operation == "Downgrading") {
		return "Downgrading"
	}
	if slices.ContainsFunc(o.Members, func(m Member) bool { return m.outdated() && m.Version != "" && m.Version != o.Version }) {
		return "Upgrading"
	}
	if o.Operation == "Upgrading" {
		return o.Operation
	}
	if slices.ContainsFunc(o.Members, func(m Member) bool { return m.outdated() && m.TrustOutdated }) {
		return "Rotating"
	}
	return "Rolling"
}

// enters says that the next restart is the first of a minor release that no voter runs.
// What comes after it, and the way back, are not held up by what the first is.
func (o Observed) enters() bool {
	return o.Barred() == "" && !slices.ContainsFunc(o.Members, func(m Member) bool {
		step, known := minors(m.Version, o.Version)
		return m.Voter() && (!known || step == 0)
	})
}

// rollUnwell restarts a member that is outdated and not healthy before the others: the
// new spec may be what it needs, and nothing is lost by it, as the others are a quorum.
func rollUnwell(o Observed) (Step, bool) {
	for _, m := range o.stale() {
		if !m.Healthy() && m.Steady && o.serves() && o.kept(m) {
			return Step{Kind: RestartMember, Members: []string{m.Name}, ID: m.ID, Reason: o.change(), Message: fmt.Sprintf(
				"restarting %s %s first: it is not healthy%s", m.Name, m.source(), because(m.Trouble))}, true
		}
	}
	return Step{}, false
}

// rollSilent restarts, where no quorum is left, a member that runs and has answered nobody
// for long, if it was made from an older spec: that one may be why it hangs, and only its
// own volume is needed for it to come back.
func rollSilent(o Observed) (Step, bool) {
	if o.List || o.OptionTrouble != "" || o.Barred() != "" {
		return Step{}, false
	}
	for _, m := range o.Members {
		if m.silent() {
			return Step{Kind: RestartMember, Members: []string{m.Name}, ID: m.RecordedID, Reason: o.change(), Message: fmt.Sprintf(
				"restarting %s from the new spec: it runs, and has answered nobody for failover.replaceAfter%s", m.Name, because(m.Trouble))}, true
		}
	}
	return Step{}, false
}

// silent says that a member runs in a pod of an older spec, on its own volume, and has
// answered nobody, the kubelet neither, for long.
func (m Member) silent() bool {
	return m.Pod == PodRunning && m.PodOutdated && !m.InMemory && !m.Held && m.Volume == VolumeBound && m.RecordedID != 0 &&
		!m.Answers && !m.PodReady && m.LongSilent && m.Steady && !m.mistaken() && !m.NodeDown
}

// Barred says why etcd of the wanted version cannot open the data of the members;
// empty if it can.
//
// etcd 3.7 panics over entries of the log that 3.5 has written, before the data is
// looked at (measured: 3.5.35 to 3.6.16 to 3.7.3 within a minute); and it wants members
// of 3.6 to run 3.6.11 or later (etcd's upgrade guide). Until it can, pods are made as
// if spec.version were that of the oldest member.
func (o Observed) Barred() string {
	if wanted, known := minor(o.Version); known && wanted >= 7 {
		if why := o.barredFrom37(); why != "" {
			return why
		}
	}
	for _, m := range o.Members {
		if !m.Voter() || m.Version == "" {
			continue
		}
		step, known := minors(m.Version, o.Version)
		switch {
		case !known:
		case step > 1:
			return fmt.Sprintf("%s runs etcd %s and spec.version is %s — etcd migrates its data one minor release at a time — set spec.version to a release of the next minor first",
				m.Name, m.Version, o.Version)
		case step < 0 && o.lowers() && o.volatile():
			return fmt.Sprintf("%s runs etcd %s, spec.update.downgradeTo asks for an older release, and a member has its data in memory — it would have to be replaced, and nobody joins during a downgrade — set storage.medium to Disk first, or put spec.version back",
				m.Name, m.Version)
		case step < 0 && !o.behind() && !o.lowering():
			return fmt.Sprintf("every member runs etcd %s or newer and spec.version is %s — an older etcd cannot open the data of a newer one — put spec.version back, or ask for a downgrade with spec.update.downgradeTo",
				m.Version, o.Version)
		}
	}
	return ""
}

func (o Observed) barredFrom37() string {
	for _, m := range o.Members {
		if is, known := minor(m.Version); m.Voter() && known && is == 6 && patchOf(m.Version) < 11 {
			return fmt.Sprintf("%s runs etcd %s and spec.version is %s — 3.7 joins members of 3.6.11 and later only — set spec.version to the newest 3.6.x first", m.Name, m.Version, o.Version)
		}
	}
	if o.OldEntries == 0 || !o.opened(6) {
		return ""
	}
	return fmt.Sprintf("spec.version is %s, and the members' logs may still hold entries that etcd 3.5 has written — 3.7 cannot read them and would not start — wait until every member has taken a snapshot on 3.6, which it does after spec.etcd.snapshotCount changes (10000); with a smaller one it takes less", o.Version)
}

// opened says that a voter runs this minor release or an older one.
func (o Observed) opened(least int) bool {
	return slices.ContainsFunc(o.Members, func(m Member) bool {
		n, known := minor(m.Version)
		return m.Voter() && (!known || n <= least)
	})
}

func patchOf(version string) int {
	n, err := strconv.Atoi(version[strings.LastIndexByte(version, '.')+1:])
	if err != nil {
		return 0
	}
	return n
}

// passes are the releases that a cluster passes through on its way over several minor
// releases: the newest known one of each, by minor release.
var passes = map[int]string{6: "3.6.16"}

// Hop is the version that the pods are made of now: the wanted one or, with
// spec.update.through and while a voter is further away, the one in between that comes
// next.
func (o Observed) Hop() string {
	if !o.Through || o.Pinned {
		return o.Version
	}
	wanted, known := minor(o.Version)
	oldest := wanted
	for _, m := range o.Members {
		if n, ok := minor(m.Version); ok && m.Voter() {
			if n == 6 && wanted > 6 && patchOf(m.Version) < 11 {
				n-- // 3.7 joins members of 3.6.11 and later only.
			}
			oldest = min(oldest, n)
		}
	}
	if next := passes[oldest+1]; known && wanted-oldest > 1 && next != "" {
		return next
	}
	return o.Version
}

// behind says that a voter still runs the minor release that is wanted, or an older
// one: then etcd's cluster version has not moved beyond it, and the others may go back.
func (o Observed) behind() bool {
	return slices.ContainsFunc(o.Members, func(m Member) bool {
		step, known := minors(m.Version, o.Version)
		return m.Voter() && known && step >= 0
	})
}

// minors is how many minor releases lie between two versions; false for what is none.
func minors(from, to string) (int, bool) {
	a, ok := minor(from)
	b, too := minor(to)
	return b - a, ok && too
}

func minor(version string) (int, bool) {
	parts := strings.Split(version, ".")
	if len(parts) != 3 || parts[0] != "3" {
		return 0, false
	}
	n, err := strconv.Atoi(parts[1])
	return n, err == nil
}

// optionTrouble restarts nobody, and founds nothing, with options that etcd would refuse.
func optionTrouble(o Observed) (Step, bool) {
	return Step{Kind: Wait, Reason: "InvalidOptions", Operation: "Rolling", Message: o.OptionTrouble}, o.OptionTrouble != ""
}

// rollBarred says that the wanted version cannot be. Whatever else the spec asks for has
// been rolled by then, at the version that is.
func rollBarred(o Observed) (Step, bool) {
	why := o.Barred()
	return Step{Kind: Wait, Reason: "RollHalted", Operation: "Upgrading", Message: why}, why != ""
}

// rollImage stops a roll whose image is not of the version that the spec says.
func rollImage(o Observed) (Step, bool) {
	stale, why := o.stale(), ""
	if o.Barred() != "" {
		return Step{}, false
	}
	for _, m := range o.Members {
		if why == "" && len(stale) > 0 && m.Voter() && !m.PodOutdated && m.Pod == PodRunning && m.Answers && m.Version != o.Version && o.Version != "" {
			why = fmt.Sprintf("%s was made from the new spec and runs etcd %s, and spec.version is %s — the image is not of the version that it is taken for — correct spec.image, or spec.version",
				m.Name, m.Version, o.Version)
		}
	}
	return Step{Kind: Wait, Members: names(stale, Member.outdated), Reason: "RollHalted", Operation: o.change(), Message: why}, why != ""
}

// rollWait says what the next restart waits for.
func rollWait(o Observed) (Step, bool) {
	stale := o.stale()
	if len(stale) == 0 {
		return Step{}, false
	}
	next := stale[0]
	reason, why := o.unsettled(o.change())
	switch {
	case why != "":
	case !o.kept(next):
		why = "a second look confirms that all voters are healthy"
	case o.cramped() != "":
		why = o.cramped()
	case o.lowering():
		why = o.rewritten()
	}
	return Step{Kind: Wait, Members: names(stale, Member.outdated), Reason: reason, Operation: o.change(), Message: fmt.Sprintf(
		"%s to be restarted %s; %s is next: %s", enumerate(stale), next.source(), next.Name, why)}, why != ""
}

// unsettled says why nobody should be restarted now, and with which reason; empty if
// all is well.
func (o Observed) unsettled(reason string) (because, why string) {
	switch {
	case o.Downgrade != "" && o.enters() && !o.lowering():
		return "Downgrading", fmt.Sprintf("etcd is being downgraded to %s — finish that, or end it with etcdctl downgrade cancel", o.Downgrade)
	case len(o.Alarms) > 0 && (!o.full() || o.enters()):
		return "AlarmActive", fmt.Sprintf("etcd raised %s — a member that is restarted now might not come back as it was — disarm it first", strings.Join(o.Alarms, ", "))
	case o.Expiring != "":
		why = o.Expiring
	case len(o.CertificatesDue) > 0:
		why = "certificates are due, and a pod does not start without its own"
	case !o.serves():
		why = "a linearizable read got no answer"
	case o.ProposeFailed != "" && !o.full():
		why = "etcd refuses proposals: " + o.ProposeFailed
	case o.HealthyVoters() < o.Voters():
		why = "all voters must be healthy" + troubles(o)
	case slices.ContainsFunc(o.Members, func(m Member) bool { return m.Voter() && !m.CaughtUp }):
		why = "all voters must have the leader's log"
	case o.steady() < o.Voters():
		why = "a second look confirms that all voters are healthy"
	case !o.LeaderSettled && o.Voters() > 1:
		why = "the leader is new, and nobody is restarted before it has led for a second"
	}
	return reason, why
}

// handsOver says that the next to be restarted leads and can hand over. One that takes no
// proposal, and no alarm says why, leaves that to its etcd, which hands over as it ends.
func (o Observed) handsOver(stale []Member) bool {
	return len(stale) > 0 && stale[0].Leads && o.Voters() > 1 && (o.ProposeFailed == "" || o.alarmed())
}

// handOver moves the leadership off the leader before it is restarted, which is last:
// whoever takes it is of the new spec.
func handOver(o Observed) (Step, bool) {
	stale := o.stale()
	if !o.handsOver(stale) {
		return Step{}, false
	}
	from := stale[0]
	to, found := o.successor(from)
	return Step{Kind: MoveLeader, Members: []string{from.Name, to.Name}, ID: to.ID, Reason: o.change(), Message: fmt.Sprintf(
		"handing the leadership from %s to %s before %s is restarted", from.Name, to.Name, from.Name)}, found
}

func roll(o Observed) (Step, bool) {
	stale := o.stale()
	if len(stale) == 0 || o.handsOver(stale) {
		return Step{}, false
	}
	m := stale[0]
	message := fmt.Sprintf("restarting %s %s%s", m.Name, m.source(), o.more(len(stale)-1))
	if o.Voters() == 1 {
		message = fmt.Sprintf("restarting %s %s: it is the only member, so nobody is served meanwhile", m.Name, m.source())
	}
	return Step{Kind: RestartMember, Members: []string{m.Name}, ID: m.ID, Reason: o.change(), Message: message}, true
}

// more says how many voters get the same done to them afterwards.
func (o Observed) more(n int) string {
	if n == 0 {
		return fmt.Sprintf("; the last of %d", o.Voters())
	}
	return fmt.Sprintf("; then %d more of %d", n, o.Voters())
}

// source is what a member is restarted from.
func (m Member) source() string {
	if m.TrustOutdated {
		return "with the present authorities"
	}
	return "from the new spec"
}

func enumerate(members []Member) string {
	if len(members) == 1 {
		return members[0].Name + " is"
	}
	return abbreviate(names(members, func(Member) bool { return true })) + " are"
}
