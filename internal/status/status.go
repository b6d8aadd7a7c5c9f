// Package status turns what was observed and decided into what users read:
// conditions, members, the summary columns, and events. It is pure: it imports
// neither observe nor perform, and decides nothing.
package status

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilnet "k8s.io/apimachinery/pkg/util/net"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/pki"
	"github.com/quorate/quorate/internal/plan"
	"github.com/quorate/quorate/internal/resources"
)

// Outcome is one pass: what was seen, what was decided, and how that went.
type Outcome struct {
	Seen plan.Observed
	Step plan.Step
	// Err is what the API server or etcd said to the step; nil if it was done.
	Err error

	// voters are the members that vote, as far as is known.
	voters []string
}

// Report writes the pass into the cluster's status.
func Report(c *v1alpha1.EtcdCluster, o Outcome) {
	s := &c.Status
	o.Step = told(o)
	s.ObservedGeneration = c.Generation
	s.Selector = resources.SelectorString(c)
	s.Members = members(s.Members, o.Seen)
	s.NextOrdinal = unused(s.NextOrdinal, o.Seen)
	o.voters = voters(s.Members, o.Seen)
	s.Replicas = replicas(o.Seen)
	s.MembersSummary = fmt.Sprintf("%d/%d", o.Seen.HealthyVoters(), c.Spec.Size)
	s.Leader = leader(o.Seen)
	s.Version = version(o.Seen, s.Version)
	s.OldEntries = oldEntries(s.OldEntries, o.Seen)
	s.Plan = forecast(o.Seen)
	s.Downgrade = downgrade(s.Downgrade, o.Seen)
	s.Operation = operation(s.Operation, o.Step, metav1.Now())
	set(c, available(o), ready(o), reconciling(o), stalled(o))
	setOrRemove(c, v1alpha1.ConditionStorageReady, storageReady(o.Seen))
	setOrRemove(c, v1alpha1.ConditionKnownDefect, knownDefect(s.Version))
	setOrRemove(c, v1alpha1.ConditionOldVolumes, oldVolumes(o.Seen))
	setOrRemove(c, v1alpha1.ConditionTLSReady, tlsReady(c, o))
	setOrRemove(c, v1alpha1.ConditionBackupReady, backupReady(o.Seen))
	s.Backup = backupStatus(o.Seen)
	setOrRemove(c, v1alpha1.ConditionDefragmentationFailed, defragmentationFailed(o.Seen))
	if is := cmp.Or(dataConsistent(o.Seen), meta.FindStatusCondition(s.Conditions, v1alpha1.ConditionDataConsistent)); is != nil {
		// What was found last stays true, of this spec as well.
		set(c, *is)
	}
	s.PlaintextPeers = plaintextPeers(s.PlaintextPeers, o.Seen)
	s.TLS = tlsStatus(c, s.TLS, o.Seen)
	s.VoidRecovery = voidRecovery(c, o.Seen)
	s.ObeyedRecovery = obeyedRecovery(c, o)
	s.Restore = restoreStatus(s.Restore, o)
	positions(s, o.Seen)
	copied(s, o.Seen)
	if o.Step.Kind == plan.RaiseIncarnation && o.Err == nil {
		// Those who were seen are members no more; what was known of them stands in
		// status.recovery.
		s.PlaintextPeers = !resources.TLS(c)
		s.Members, s.Replicas, s.Leader, s.MembersSummary = nil, 0, "", fmt.Sprintf("0/%d", c.Spec.Size)
	}
}

// told is the step that status speaks of: a comparison changes nothing, and is begun every
// hour, and a leader that is moved from a slow disk has the cluster be no less healthy, so
// what is told is what there would be without it.
func told(o Outcome) plan.Step {
	rest := o.Seen
	switch {
	case o.Step.Kind == plan.Compare:
		rest.CompareDue = false
	case o.Step.Kind == plan.MoveLeader && o.Step.Reason == v1alpha1.ReasonHealthy:
		rest.LeaderSettled = false // no leader is moved for a slow disk then
	default:
		return o.Step
	}
	return plan.Next(rest)
}

// unused is the number of the next new member: above all that were ever seen, those
// that somebody added by hand among them, for no name is borne twice.
func unused(next int32, seen plan.Observed) int32 {
	if next == 0 {
		return 0
	}
	for _, m := range seen.Members {
		if m.Ordinal < math.MaxInt32 {
			next = max(next, int32(m.Ordinal)+1) //nolint:gosec // just compared
		}
	}
	return next
}

// Falls says that status calls the cluster available and this look does not. That is
// told before anything is done about it: an API server that hangs in what is done
// would keep a claim standing that is known to be wrong.
func Falls(c *v1alpha1.EtcdCluster, seen plan.Observed) bool {
	o := Outcome{Seen: seen, voters: voters(members(c.Status.Members, seen), seen)}
	return meta.IsStatusConditionTrue(c.Status.Conditions, v1alpha1.ConditionAvailable) && available(o).Status != metav1.ConditionTrue
}

// ReportBlind writes that the pass could not look: what was known stays, and
// nothing is claimed of what was not asked.
func ReportBlind(c *v1alpha1.EtcdCluster, err error) {
	c.Status.ObservedGeneration = c.Generation
	message := fmt.Sprintf("%s — the operator cannot see the cluster and does nothing to it — it looks again every few seconds; if the error speaks of rights, apply the operator's RBAC again", err)
	set(c,
		condition(v1alpha1.ConditionAvailable, metav1.ConditionUnknown, v1alpha1.ReasonObservationFailed, message),
		condition(v1alpha1.ConditionReady, metav1.ConditionUnknown, v1alpha1.ReasonObservationFailed, message),
		condition(v1alpha1.ConditionReconciling, metav1.ConditionTrue, v1alpha1.ReasonObservationFailed, message),
		condition(v1alpha1.ConditionStalled, metav1.ConditionFalse, v1alpha1.ReasonNone, ""))
}

func setOrRemove(c *v1alpha1.EtcdCluster, kind string, is *metav1.Condition) {
	if is == nil {
		// Removing what is not there copies all that is.
		if meta.FindStatusCondition(c.Status.Conditions, kind) != nil {
			meta.RemoveStatusCondition(&c.Status.Conditions, kind)
		}
		return
	}
	set(c, *is)
}

// set is the only place that touches conditions.
func set(c *v1alpha1.EtcdCluster, conditions ...metav1.Condition) {
	for _, condition := range conditions {
		condition.ObservedGeneration = c.Generation
		condition.Message = short(condition.Message)
		meta.SetStatusCondition(&c.Status.Conditions, condition)
	}
}

// short keeps a message below the API's limit of 32 KiB, with room for what
// reads it.
func short(message string) string { return cut(message, 2048) }

func cut(message string, most int) string {
	if len(message) <= most {
		return message
	}
	// A rune that is cut in two would come back from the API server as another
	// one, and be written again on every pass.
	return strings.ToValidUTF8(message[:most], "") + " …"
}

func condition(kind string, is metav1.ConditionStatus, reason, message string) metav1.Condition {
	return metav1.Condition{Type: kind, Status: is, Reason: reason, Message: message}
}

// available says True only of what was probed in this very pass: a
// linearizable read, and a proposal since the last doubt.
func available(o Outcome) metav1.Condition {
	seen := o.Seen
	is := func(s metav1.ConditionStatus, reason, message string) metav1.Condition {
		return condition(v1alpha1.ConditionAvailable, s, reason, message)
	}
	running, answering, led := 0, 0, false
	for _, m := range seen.Members {
		if m.PodReady {
			running++
		}
		if m.Answers && slices.Contains(o.voters, m.Name) {
			answering++
			led = led || m.FollowsLeader
		}
	}
	quorum := plan.Majority(max(1, len(o.voters)))
	switch {
	case seen.ReadOK && seen.ProposeFailed == "":
		return is(metav1.ConditionTrue, v1alpha1.ReasonProbeSucceeded, "a linearizable read succeeded, and a proposal since the last doubt")
	case seen.ReadOK && len(seen.Alarms) > 0:
		return is(metav1.ConditionFalse, v1alpha1.ReasonAlarm, alarm(seen))
	case seen.ReadOK:
		return is(metav1.ConditionFalse, v1alpha1.ReasonProbeFailed, "reads succeed and a proposal does not: "+seen.ProposeFailed)
	case seen.ClusterID == 0 && seen.Adoption != nil:
		return is(metav1.ConditionFalse, v1alpha1.ReasonAdopting, "the deleted cluster is being brought back; Ready says how far that is")
	case seen.ClusterID == 0:
		return is(metav1.ConditionFalse, v1alpha1.ReasonFounding, "the cluster is being founded")
	case restoring(seen):
		return stoppedFor(seen)
	case refused(seen):
		return is(metav1.ConditionUnknown, v1alpha1.ReasonAuthFailed, "the operator may not read: "+seen.ReadFailed)
	case answering >= quorum:
		return is(metav1.ConditionFalse, v1alpha1.ReasonProbeFailed, fmt.Sprintf("%d of %d voters answer, and a linearizable read does not succeed%s%s", answering, len(o.voters), because(seen.ReadFailed), troubles(seen)))
	case running >= quorum && (answering == 0 || led):
		return is(metav1.ConditionUnknown, v1alpha1.ReasonProbeFailed, fmt.Sprintf("%d of %d pods are ready, and the operator reaches %s%s", running, len(seen.Members), few(answering), troubles(seen)))
	default:
		return is(metav1.ConditionFalse, v1alpha1.ReasonQuorumLost, quorumLost(seen, o.voters, running))
	}
}

// refused says that etcd answers and does not let the operator read.
func refused(seen plan.Observed) bool {
	return slices.ContainsFunc(seen.Problems, func(p plan.Problem) bool { return p.Reason == v1alpha1.ReasonAuthFailed })
}

func few(members int) string {
	if members == 0 {
		return "none of the members"
	}
	return fmt.Sprintf("only %d of the members", members)
}

func because(why string) string {
	if why == "" {
		return ""
	}
	return ": " + why
}

// quorumLost says who is left and how far they have come, whose data is left, what
// happens by itself and what the user must decide.
func quorumLost(seen plan.Observed, voters []string, running int) string {
	var answer, data, applied []string
	for _, m := range seen.Members {
		if m.Answers && slices.Contains(voters, m.Name) {
			answer = append(answer, m.Name)
			applied = append(applied, fmt.Sprintf("%s in term %d up to index %d, which is revision %d", m.Name, m.Term, m.Applied, m.Revision))
		}
		if m.Volume == plan.VolumeBound && !m.Held {
			data = append(data, m.Name)
		}
	}
	quorum := plan.Majority(max(1, len(voters)))
	next := "missing pods are started on their volumes by themselves, and nothing is removed or deleted — see why the others do not answer"
	if len(data) < quorum {
		next = "nothing is removed, deleted or started anew — " + seen.WayOut()
	}
	if len(applied) > 0 {
		next += "; of raft's log " + strings.Join(applied, ", ") + " is applied"
	}
	if len(data) < quorum {
		next += furthest(seen) + "; " + newestBackup(seen.Backups)
	}
	if seen.RecoveryVoid {
		next += "; spec.recovery was said while the cluster served, which makes it void: take it away, and say it again if it is still to be done"
	}
	if running >= quorum {
		next += fmt.Sprintf("; the kubelets call %d of the pods ready, so it may be the network between the members that has failed", running)
	}
	return fmt.Sprintf("%d of %d voters answer (%s) and %d are needed: nothing can be read or written — the data of %s is left — %s%s",
		len(answer), len(voters), list(answer), quorum, list(data), next, troubles(seen))
}

// newestBackup is what could be restored at once; what was written since is not in it.
func newestBackup(b *plan.Backups) string {
	text := "no EtcdBackup of the cluster is verified"
	if b == nil {
		return text
	}
	if last := b.LastVerified; last.Name != "" {
		text = fmt.Sprintf("the newest verified backup is %s, of %s, up to revision %d", last.Name, last.Began.UTC().Format(time.RFC3339), last.Revision)
	}
	if b.Archive != "" && b.ArchivedRevision > b.LastVerified.Revision {
		text += fmt.Sprintf("; archive %s goes up to revision %d, which a new cluster can begin with by restoreFrom.archiveName", b.Archive, b.ArchivedRevision)
	}
	return text
}

func list(names []string) string {
	if len(names) == 0 {
		return "nobody"
	}
	return strings.Join(names, ", ")
}

// voters are the members that vote: by etcd's list, or by what was last known of
// them. While nothing ever was, everybody counts but the joiner.
func voters(members []v1alpha1.MemberStatus, seen plan.Observed) []string {
	var out []string
	for _, m := range members {
		if m.Role == v1alpha1.RoleVoter {
			out = append(out, m.Name)
		}
	}
	if len(out) > 0 {
		return out
	}
	for _, m := range seen.Members {
		if !m.Joiner && !m.Learner {
			out = append(out, m.Name)
		}
	}
	return out
}

// state is the one word and the sentence that Ready, Reconciling and Stalled
// tell the same story with.
type state struct {
	reason, message string
	kind            kind
}

type kind int

const (
	good kind = iota
	moving
	stuck
	// resting: not as it should be, and nobody works on it.
	resting
)

// stateOf ranks what is known: what the user must do comes first.
func stateOf(o Outcome) state {
	seen, step := o.Seen, o.Step
	switch {
	case step.Kind == plan.Pause:
		return state{step.Reason, step.Message, resting}
	case o.Err != nil:
		return failure(o)
	case seen.RecoveryHeld() != "":
		// Whoever has said the word knows of the loss.
		return state{v1alpha1.ReasonRecoveryBlocked, seen.RecoveryHeld(), stuck}
	case seen.Looking() != "":
		return state{v1alpha1.ReasonLooking, seen.Looking(), moving}
	case step.Kind == plan.Wait && step.Reason == v1alpha1.ReasonDataMissing:
		return state{step.Reason, step.Message, stuck}
	case len(problems(o)) > 0:
		return problem(problems(o)[0])
	case step.Kind == plan.Wait && notBuilt(step.Reason):
		return state{step.Reason, step.Message, stuck}
	case step.Reason == v1alpha1.ReasonRestoring:
		return state{step.Reason, step.Message, moving}
	case seen.ClusterID != 0 && !seen.ReadOK:
		return unavailable(o)
	case step.Kind != plan.Settled && !housekeeping(o):
		return state{step.Reason, step.Message, moving}
	case len(seen.Alarms) > 0:
		return state{v1alpha1.ReasonAlarm, alarm(seen), stuck}
	case seen.ProposeFailed != "":
		return unavailable(o)
	default:
		return state{v1alpha1.ReasonHealthy, step.Message, good}
	}
}

// housekeeping says that all is well once the step is done, which it is: the
// renewal of a certificate must not make a healthy cluster look unready.
func housekeeping(o Outcome) bool {
	rest := o.Seen
	rest.CertificatesDue, rest.ObjectsDue, rest.Expired, rest.FinalizerDue, rest.SpentCheck = nil, nil, nil, false, ""
	return plan.Next(rest).Kind == plan.Settled
}

func alarm(seen plan.Observed) string {
	return fmt.Sprintf("etcd raised %s — it refuses writes until the alarm is disarmed — the operator does that as soon as every database has room again, or the member whose data differs is replaced; Ready says what it is at, or what it waits for",
		strings.Join(seen.Alarms, ", "))
}

func unavailable(o Outcome) state {
	a := available(o)
	return state{a.Reason, a.Message, moving}
}

// problems that the summary tells of: all of them while something is undone, and
// at rest those that need the user.
func problems(o Outcome) []plan.Problem {
	var out []plan.Problem
	for _, p := range o.Seen.Problems {
		if o.Step.Kind != plan.Settled || p.Severity == plan.Stalling {
			out = append(out, p)
		}
	}
	if o.Seen.ClusterID == 0 {
		out = append(out, o.Seen.TLSProblems...)
	}
	return out
}

// notBuilt are wishes that the operator does not fulfil, or not as they are, and what it
// leaves to the user.
func notBuilt(reason string) bool {
	switch reason {
	case v1alpha1.ReasonVolumeChangePending, v1alpha1.ReasonRollHalted,
		v1alpha1.ReasonInvalidOptions, v1alpha1.ReasonAlarm, v1alpha1.ReasonDataDiffers, v1alpha1.ReasonAdoptBlocked, v1alpha1.ReasonRecoveryBlocked,
		v1alpha1.ReasonRestoreBlocked:
		return true
	}
	return false
}

func problem(first plan.Problem) state {
	s := state{first.Reason, first.Message, moving}
	if first.Severity == plan.Stalling {
		s.kind = stuck
	}
	return s
}

// failure carries the API server's own words. It is tried again by itself, so
// it heals when the world is mended. The user is called when the answer was a
// refusal; one that never came, or came from a server in trouble, may be another
// the next time.
func failure(o Outcome) state {
	reason := v1alpha1.ReasonApplyFailed
	if o.Step.Kind == plan.StartMembers {
		reason = v1alpha1.ReasonMemberPodRejected
	}
	if o.Step.Kind == plan.EnableDowngrade {
		reason = v1alpha1.ReasonDowngradeRefused
	}
	if o.Step.Kind == plan.CreateVolumes {
		reason = v1alpha1.ReasonVolumePending
	}
	s := state{reason, fmt.Sprintf("%s — %s stays undone until it is taken — it is tried again every few seconds",
		strings.ReplaceAll(o.Err.Error(), "\n", "; "), lower(string(o.Step.Kind))), stuck}
	if Passing(o.Err) {
		s.kind = moving
	}
	return s
}

// oldEntries is up to which index the logs may hold entries of etcd 3.5. They do while a
// member runs it; and once none does, until each of them has applied as many changes
// since as it takes until the next snapshot, from which it would start again.
func oldEntries(before int64, seen plan.Observed) int64 {
	if older := slices.ContainsFunc(seen.Members, func(m plan.Member) bool { return m.Listed && !strings.HasPrefix(m.Version, "3.7.") }); !older && seen.List {
		// Whoever runs 3.7 has read its log.
		return 0
	}
	least, most := int64(math.MaxInt64), int64(0)
	for _, m := range seen.Members {
		if strings.HasPrefix(m.Version, "3.5.") {
			return -1
		}
		if !m.Listed {
			continue
		}
		if !m.Answers || m.SnapshotCount == 0 {
			return before
		}
		applied := int64(min(m.Applied, math.MaxInt64)) //nolint:gosec // just compared
		least, most = min(least, applied-m.SnapshotCount), max(most, applied)
	}
	switch {
	case before == -1 && most > 0:
		return most
	case before > 0 && least < math.MaxInt64 && least > before:
		return 0
	default:
		return before
	}
}

// forecast is what would be done, in the words of the steps.
func forecast(seen plan.Observed) []string {
	var out []string
	if seen.Planned {
		for _, step := range plan.Forecast(seen) {
			out = append(out, cut(string(step.Kind)+": "+step.Message, 256))
		}
	}
	return out
}

// downgrade is on record until etcd has ended it: because the last member runs the older
// release, or because it was cancelled and is not asked for any more.
func downgrade(before string, seen plan.Observed) string {
	over := seen.DowngradeTo != before || plan.Minor(seen.Version) != before
	if !over {
		over = !slices.ContainsFunc(seen.Members, func(m plan.Member) bool { return m.Listed && plan.Minor(m.Version) != before })
	}
	if seen.List && seen.Downgrade == "" && over {
		return ""
	}
	return before
}

// operation is the work that the step is part of; nil at rest, and while what is broken
// is mended.
func operation(before *v1alpha1.OperationStatus, step plan.Step, now metav1.Time) *v1alpha1.OperationStatus {
	kind := cmp.Or(step.Operation, step.Reason)
	switch kind {
	case v1alpha1.ReasonFounding, v1alpha1.ReasonGrowing, v1alpha1.ReasonShrinking, v1alpha1.ReasonReplacing,
		v1alpha1.ReasonUpgrading, v1alpha1.ReasonDowngrading, v1alpha1.ReasonRolling, v1alpha1.ReasonDefragmenting,
		v1alpha1.ReasonRotating:
	default:
		return nil
	}
	out := &v1alpha1.OperationStatus{Kind: kind, Since: now.Rfc3339Copy()}
	if before != nil && before.Kind == kind {
		out.Since = before.Since
	}
	if step.Kind == plan.Wait {
		out.BlockedBy = short(step.Message)
		return out
	}
	out.Step = string(step.Kind)
	if len(step.Members) == 1 {
		out.Member = step.Members[0]
	}
	return out
}

// Passing says that an error is nobody's word on what was asked, and may be another one the next
// time: of a server in trouble, of a webhook that does not work, or of a call that was cut short.
func Passing(err error) bool {
	return apierrors.IsTimeout(err) || apierrors.IsServerTimeout(err) || apierrors.IsTooManyRequests(err) ||
		apierrors.IsInternalError(err) || apierrors.IsServiceUnavailable(err) || apierrors.IsUnexpectedServerError(err) ||
		errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) || utilnet.IsConnectionRefused(err) || utilnet.IsConnectionReset(err)
}

func lower(s string) string { return strings.ToLower(s[:1]) + s[1:] }

func ready(o Outcome) metav1.Condition {
	s := stateOf(o)
	is := metav1.ConditionFalse
	if s.kind == good {
		is = metav1.ConditionTrue
	}
	return condition(v1alpha1.ConditionReady, is, s.reason, s.message)
}

// reconciling and stalled are never both True, for readers such as kstatus
// take the first they find.
func reconciling(o Outcome) metav1.Condition {
	switch s := stateOf(o); s.kind {
	case moving:
		return condition(v1alpha1.ConditionReconciling, metav1.ConditionTrue, s.reason, s.message)
	case resting:
		return condition(v1alpha1.ConditionReconciling, metav1.ConditionFalse, s.reason, s.message)
	default:
		return condition(v1alpha1.ConditionReconciling, metav1.ConditionFalse, v1alpha1.ReasonNone, "")
	}
}

func stalled(o Outcome) metav1.Condition {
	if s := stateOf(o); s.kind == stuck {
		return condition(v1alpha1.ConditionStalled, metav1.ConditionTrue, s.reason, s.message)
	}
	return condition(v1alpha1.ConditionStalled, metav1.ConditionFalse, v1alpha1.ReasonNone, "")
}

// storageReady tells of volumes that are lost or on their way out; nil before there
// are any, and for members in memory, whose volume is their pod.
func storageReady(seen plan.Observed) *metav1.Condition {
	onVolumes := slices.ContainsFunc(seen.Members, func(m plan.Member) bool { return !m.InMemory })
	if seen.ClusterID == 0 || !onVolumes {
		return nil
	}
	var lost []string
	for _, m := range seen.Members {
		listed := (m.Listed || (!seen.List && !m.Joiner)) && !m.InMemory
		if listed && m.Volume != plan.VolumeBound && m.Volume != plan.VolumePending {
			lost = append(lost, m.Name+" ("+m.VolumeTrouble()+")")
		}
	}
	is := condition(v1alpha1.ConditionStorageReady, metav1.ConditionTrue, v1alpha1.ReasonVolumesInOrder, "every member has its volume")
	if len(lost) > 0 {
		is = condition(v1alpha1.ConditionStorageReady, metav1.ConditionFalse, v1alpha1.ReasonVolumeLost, fmt.Sprintf(
			"the volumes of %s are lost or on their way out — these members lose their data, or have lost it — %s",
			strings.Join(lost, ", "), afterLoss(seen)))
	} else if slow := slowDisks(seen); len(slow) > 0 {
		is = condition(v1alpha1.ConditionStorageReady, metav1.ConditionFalse, v1alpha1.ReasonSlowDisk, fmt.Sprintf(
			"syncing etcd's log to disk takes long on average: %s — writes wait for the disks of a majority, and a member whose disk stops for longer than the election timeout loses the leadership — see what else uses the disk of its node; nobody is replaced for that, and another member leads if it has a faster disk",
			strings.Join(slow, ", ")))
	}
	return &is
}

// afterLoss is what comes of volumes that are lost, and what the user can do.
func afterLoss(seen plan.Observed) string {
	bound := 0
	for _, m := range seen.Members {
		if m.Volume == plan.VolumeBound && !m.Joiner {
			bound++
		}
	}
	switch {
	case seen.Quorate():
	case bound < plan.Majority(seen.KnownVoters()):
		return "nobody is replaced without a quorum of the others, for which too few volumes are left — " + seen.WayOut()
	default:
		return "nobody is replaced until the others are proven to be a quorum; Ready says what holds that up"
	}
	return "each is replaced as soon as the others are proven to be a quorum; take a backup while they are"
}

func slowDisks(seen plan.Observed) []string {
	var slow []string
	for _, m := range seen.Members {
		if m.SlowDisk > 0 && m.Listed {
			slow = append(slow, fmt.Sprintf("%s %s or longer", m.Name, m.SlowDisk))
		}
	}
	return slow
}

// dataConsistent is nil while nothing new is known.
func dataConsistent(seen plan.Observed) *metav1.Condition {
	found := seen.Comparison
	is := condition(v1alpha1.ConditionDataConsistent, metav1.ConditionFalse, v1alpha1.ReasonDataDiffers, "")
	var given []string
	for _, m := range seen.Members {
		if m.Voter() && m.Answers && (m.Volume == plan.VolumeRefused || slices.Contains(found.Differ, m.ID)) {
			given = append(given, m.Name)
		}
	}
	corrupt := slices.ContainsFunc(seen.Raised, func(a plan.Alarm) bool { return a.Kind == "CORRUPT" })
	switch {
	case len(given) > 0:
		is.Message = fmt.Sprintf("the data of %s is not that of the others — what it answers may be wrong — Ready says what is done about it", strings.Join(given, ", "))
	case corrupt:
		is.Message = fmt.Sprintf("etcd raised %s — the data of its members may differ — Ready says what is done about it", strings.Join(seen.Alarms, ", "))
	case found.Revision == 0 || len(found.Agree) < seen.Voters():
		return nil
	default:
		is = condition(v1alpha1.ConditionDataConsistent, metav1.ConditionTrue, v1alpha1.ReasonDataEqual, "the data of all members was the same when it was last compared, which is done every hour")
	}
	return &is
}

// defragmentationFailed is nil while there is no failure to wait after.
func defragmentationFailed(seen plan.Observed) *metav1.Condition {
	if seen.DefragmentHeld == "" {
		return nil
	}
	is := condition(v1alpha1.ConditionDefragmentationFailed, metav1.ConditionTrue, v1alpha1.ReasonDefragmentFailed, seen.DefragmentHeld)
	return &is
}

// staleReads are the first releases of each minor without etcd's issue 20418: a
// member that was paused may answer a linearizable read with old data.
var staleReads = map[string]string{"3.5": "3.5.28", "3.6": "3.6.9"}

// knownDefect tells of a defect that the lowest version which runs has.
func knownDefect(version string) *metav1.Condition {
	minor := version[:max(0, strings.LastIndex(version, "."))]
	mended := staleReads[minor]
	if mended == "" || !older(version, mended) {
		return nil
	}
	is := condition(v1alpha1.ConditionKnownDefect, metav1.ConditionTrue, v1alpha1.ReasonStaleReads, fmt.Sprintf(
		"etcd %s may answer a linearizable read with old data after its process was paused (etcd issue 20418) — clients may act on what is no longer true — use %s or later",
		version, mended))
	return &is
}

// oldVolumes tells of claims that a namesake left behind: the new cluster never
// touches them, and the user may have expected it to.
func oldVolumes(seen plan.Observed) *metav1.Condition {
	if len(seen.OldVolumes) == 0 {
		return nil
	}
	var claims []string
	for _, v := range seen.OldVolumes {
		claims = append(claims, fmt.Sprintf("%s (cluster UID %s)", v.Claim, v.ClusterUID))
	}
	if seen.Adoption != nil && seen.ClusterID == 0 {
		// Until it serves it may be these that are meant.
		c := condition(v1alpha1.ConditionOldVolumes, metav1.ConditionTrue, v1alpha1.ReasonOldVolumesFound, fmt.Sprintf(
			"the claims %s belong to another deleted cluster of the same name — they are not used: spec.adopt names %s — keep them until the cluster serves: if it is they that are meant, create it anew with their UID",
			strings.Join(claims, ", "), seen.Adoption.ClusterUID))
		return &c
	}
	if seen.Adoption != nil {
		c := condition(v1alpha1.ConditionOldVolumes, metav1.ConditionTrue, v1alpha1.ReasonOldVolumesFound, fmt.Sprintf(
			"the claims %s belong to another deleted cluster of the same name — they are not used: spec.adopt names %s — if nobody wants their data, delete them: kubectl delete pvc -l %s=%s",
			strings.Join(claims, ", "), seen.Adoption.ClusterUID, v1alpha1.LabelClusterUID, seen.OldVolumes[0].ClusterUID))
		return &c
	}
	c := condition(v1alpha1.ConditionOldVolumes, metav1.ConditionTrue, v1alpha1.ReasonOldVolumesFound, fmt.Sprintf(
		"the claims %s belong to a deleted cluster of the same name — they are not used, so this cluster started empty — to get their data back, delete this cluster and create it again with spec.adopt, see docs/old-volumes.md; to be rid of them delete them: kubectl delete pvc -l %s=%s",
		strings.Join(claims, ", "), v1alpha1.LabelClusterUID, seen.OldVolumes[0].ClusterUID))
	return &c
}

// tlsReady is nil without TLS, and before anything was looked at.
func tlsReady(c *v1alpha1.EtcdCluster, o Outcome) *metav1.Condition {
	seen := o.Seen
	if !resources.TLS(c) || len(seen.Members) == 0 {
		return nil
	}
	// The joiner does not run before it has its certificates: nothing lacks any.
	due := slices.DeleteFunc(slices.Clone(seen.CertificatesDue), func(secret string) bool {
		return o.Err == nil && seen.Joiner != "" && secret == "Secret "+pki.MemberSecret(seen.Joiner)
	})
	is := condition(v1alpha1.ConditionTLSReady, metav1.ConditionTrue, v1alpha1.ReasonCertificatesValid, "every certificate is in order")
	if doing := rotating(seen); doing != "" {
		is = condition(v1alpha1.ConditionTLSReady, metav1.ConditionTrue, v1alpha1.ReasonRotating, "every certificate is in order; "+doing)
	}
	if len(seen.TLSProblems) > 0 {
		first := seen.TLSProblems[0]
		is = condition(v1alpha1.ConditionTLSReady, metav1.ConditionFalse, first.Reason, first.Message)
	} else if issued := o.Step.Kind == plan.IssueCertificates && o.Err == nil; len(due) > 0 && !issued {
		is = condition(v1alpha1.ConditionTLSReady, metav1.ConditionFalse, v1alpha1.ReasonRepairing, "certificates are due: "+strings.Join(due, ", "))
	}
	return &is
}

func members(before []v1alpha1.MemberStatus, seen plan.Observed) []v1alpha1.MemberStatus {
	out := make([]v1alpha1.MemberStatus, 0, len(seen.Members))
	for _, m := range seen.Members {
		was := previous(before, m.Name)
		s := v1alpha1.MemberStatus{Name: m.Name, Version: cmp.Or(m.Version, was.Version), Health: metav1.ConditionFalse, Message: short(m.Trouble)}
		switch {
		case m.ID != 0:
			s.ID = fmt.Sprintf("%x", m.ID)
		case m.RecordedID != 0:
			s.ID = fmt.Sprintf("%x", m.RecordedID)
		}
		switch {
		case m.Listed && m.Learner:
			s.Role = v1alpha1.RoleLearner
		case m.Listed:
			s.Role = v1alpha1.RoleVoter
		case !seen.List:
			// Nobody can be asked, and nobody can have changed it.
			s.Role = was.Role
		}
		if m.Answers && m.FollowsLeader {
			s.Health = metav1.ConditionTrue
		} else if !m.Answers && m.PodReady {
			s.Health = metav1.ConditionUnknown
		}
		s.DBSize = size(was.DBSize, m.DBSize)
		s.Position = was.Position
		out = append(out, s)
	}
	return out
}

// previous is what was last known of a member.
func previous(before []v1alpha1.MemberStatus, name string) v1alpha1.MemberStatus {
	for _, b := range before {
		if b.Name == name {
			return b
		}
	}
	return v1alpha1.MemberStatus{}
}

// size is rounded to a tenth: a database that grows with every write must not
// cost a write to the API server on every pass.
func size(before *resource.Quantity, bytes int64) *resource.Quantity {
	if bytes == 0 {
		return before
	}
	if before != nil {
		if was := before.Value(); bytes <= was+was/10 && bytes >= was-was/10 {
			return before
		}
	}
	const step = 64 << 10
	return resource.NewQuantity((bytes+step-1)/step*step, resource.BinarySI)
}

func replicas(seen plan.Observed) int32 {
	return int32(seen.KnownVoters()) //nolint:gosec // a handful of members
}

func leader(seen plan.Observed) string {
	for _, m := range seen.Members {
		if m.Leads {
			return m.Name
		}
	}
	return ""
}

// version is the lowest that any member runs: a cluster is as old as its
// oldest member.
func version(seen plan.Observed, before string) string {
	lowest := ""
	for _, m := range seen.Members {
		if m.Version != "" && (lowest == "" || older(m.Version, lowest)) {
			lowest = m.Version
		}
	}
	if lowest == "" {
		return before
	}
	return lowest
}

func older(a, b string) bool {
	var x, y [3]int
	_, errA := fmt.Sscanf(a, "%d.%d.%d", &x[0], &x[1], &x[2])
	_, errB := fmt.Sscanf(b, "%d.%d.%d", &y[0], &y[1], &y[2])
	if errA != nil || errB != nil {
		return a < b
	}
	for i := range x {
		if x[i] != y[i] {
			return x[i] < y[i]
		}
	}
	return false
}

func troubles(seen plan.Observed) string {
	var out []string
	for _, m := range seen.Members {
		if m.Trouble != "" {
			out = append(out, m.Name+": "+m.Trouble)
		}
	}
	if len(out) == 0 {
		return ""
	}
	return " (" + strings.Join(out, "; ") + ")"
}
