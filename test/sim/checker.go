package sim

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/etcd"
	"github.com/quorate/quorate/internal/member"
	"github.com/quorate/quorate/internal/plan"
	"github.com/quorate/quorate/internal/resources"
)

// probeFresh is how old the probe behind Available=True may be.
const probeFresh = 15 * time.Second

// write is a write of an operator to the API server.
type write struct {
	op      *Operator
	method  string
	object  client.Object
	options client.DeleteOptions
	// patch is the body of a patch.
	patch []byte
}

// checker looks after the invariants. What it finds is kept: a run that broke
// one has failed, however it ends.
type checker struct {
	w     *World
	found []string

	// latched is what was once latched, by the cluster's UID.
	latched map[types.UID]*latch
	// ids are the member IDs by cluster UID and member name.
	ids map[string]uint64
	// paused is true while the pass began on a cluster known to be paused.
	paused bool
	// suspicions are about the write that is being made.
	suspicions []suspicion
	// statusLost is true once somebody has emptied status, statusForgotten while
	// a pass began before that.
	statusLost, statusForgotten bool
	// agreedAt is when etcd's members and ours were last the same, faultAt when
	// something was last disturbed.
	agreedAt, faultAt time.Time
	// lostSince is when each voter was first seen to be lost.
	lostSince map[uint64]time.Time
	// trustChanged is true when any certificate may have changed since they were compared.
	trustChanged bool
	// plaintextEnds is true once the user has wanted no plaintext.
	plaintextEnds bool
	// revenants are the names that were added by a call that was held up.
	revenants map[string]bool
	// filledFrom is the backup that the volumes of each incarnation were filled from.
	filledFrom map[int64]string
}

// latch is what only grows.
type latch struct {
	founders    string
	clusterID   string
	nextOrdinal int32
	incarnation int64
}

func newChecker(w *World) *checker {
	return &checker{w: w, latched: map[types.UID]*latch{}, ids: map[string]uint64{}, lostSince: map[uint64]time.Time{}, revenants: map[string]bool{}, filledFrom: map[int64]string{}}
}

// Violations of the invariants so far, etcd's own among them.
func (w *World) Violations() []string {
	w.check.always()
	return w.check.found
}

func (k *checker) violate(rule, format string, args ...any) {
	text := rule + ": " + fmt.Sprintf(format, args...)
	if !slices.Contains(k.found, text) {
		k.found = append(k.found, text)
		k.w.note("VIOLATION %s", text)
	}
}

// always holds at every moment.
func (k *checker) always() {
	for _, v := range k.w.Etcd.Violations() {
		rule, text, _ := strings.Cut(v, ": ")
		k.violate(rule, "%s", text)
	}
	c := k.w.Cluster()
	if c == nil {
		return
	}
	k.writtenOnce(c)
	k.membership(c)
	k.available(c)
	k.agree(c)
	k.losses(c)
	k.trust(c)
	k.transport(c)
	k.mixture(c)
}

// mixture: while an incarnation runs, or may be begun, nothing of an older one runs that
// could be a quorum, and nothing at all where it would be heard of.
func (k *checker) mixture(c *v1alpha1.EtcdCluster) {
	if c.Status.Incarnation <= 1 {
		return
	}
	older := map[string]int{}
	for _, r := range k.w.nodes.runs {
		if r.process == nil || r.process.Flags.Token == resources.Token(c) || !strings.HasPrefix(r.process.Flags.Token, resources.ClusterUID(c)) {
			continue
		}
		if _, exited := k.w.Etcd.Exited(r.process); exited {
			continue
		}
		older[r.process.Flags.Token]++
		if k.w.nodes.nodeReady(r.node) {
			k.violate("mixture", "%s of %s runs while status is about incarnation %d", r.process.Flags.Name, r.process.Flags.Token, c.Status.Incarnation)
		}
	}
	for token, n := range older {
		if n >= plan.Majority(int(c.Spec.Size)) {
			k.violate("mixture", "%d of %s run beside incarnation %d", n, token, c.Status.Incarnation)
		}
	}
}

// filled: all volumes of an incarnation begin with the same backup, which is the one on record.
func (k *checker) filled(incarnation int64, id string) {
	c := k.w.Cluster()
	if c == nil {
		return
	}
	if r := c.Status.Recovery; r != nil && r.Incarnation == incarnation {
		recorded := r.BackupID
		if r.Survivor != nil {
			recorded = r.Survivor.Name + "/" + r.Survivor.VolumeUID
		}
		if recorded != id {
			k.violate("one backup", "a volume of incarnation %d is filled from %s, and %s is on record", incarnation, id, recorded)
		}
	}
	if was := k.filledFrom[incarnation]; was != "" && was != id {
		k.violate("one backup", "a volume of incarnation %d is filled from %s, and another was from %s", incarnation, id, was)
	}
	k.filledFrom[incarnation] = id
}

// writtenOnce: founders and cluster ID are latched, ordinals only rise.
func (k *checker) writtenOnce(c *v1alpha1.EtcdCluster) {
	// What has adopted a cluster is that cluster.
	uid := types.UID(resources.ClusterUID(c))
	l := k.latched[uid]
	if l == nil {
		l = &latch{}
		k.latched[uid] = l
	}
	if c.Status.Incarnation > max(1, l.incarnation) {
		// What it was before is another cluster.
		l.founders, l.clusterID = "", ""
	}
	founders := strings.Join(c.Status.Founders, ",")
	if founders != "" {
		if l.founders != "" && l.founders != founders {
			k.violate("I3", "status.founders were %s and are %s", l.founders, founders)
		}
		l.founders = founders
	}
	if id := c.Status.ClusterID; id != "" {
		if l.clusterID == "" {
			k.latchComesLast(c)
		}
		if l.clusterID != "" && l.clusterID != id {
			k.violate("I3", "status.clusterID was %s and is %s", l.clusterID, id)
		}
		l.clusterID = id
	}
	if len(c.Status.Founders) > 0 && (c.Status.NextOrdinal < l.nextOrdinal || c.Status.Incarnation < l.incarnation) {
		k.violate("ordinals", "nextOrdinal went from %d to %d, incarnation from %d to %d",
			l.nextOrdinal, c.Status.NextOrdinal, l.incarnation, c.Status.Incarnation)
	}
	l.nextOrdinal, l.incarnation = max(l.nextOrdinal, c.Status.NextOrdinal), max(l.incarnation, c.Status.Incarnation)
}

// latchComesLast: before status names the cluster the member IDs are on the
// volumes of the founders that have started, as far as these stay. Some may have
// started since the operator looked.
func (k *checker) latchComesLast(c *v1alpha1.EtcdCluster) {
	truth, ok := k.w.Etcd.Truth(resources.Token(c))
	if !ok {
		return
	}
	recorded, could := 0, 0
	for _, m := range truth.Members {
		name, _ := resources.MemberOfURL(c, m.PeerURLs[0])
		holder := k.volumeOf(name)
		if !m.Started() || holder == nil || holder.GetDeletionTimestamp() != nil {
			continue
		}
		could++
		if holder.GetAnnotations()[v1alpha1.AnnotationMemberID] != "" {
			recorded++
		}
	}
	if 2*recorded < could {
		k.violate("I3", "status.clusterID is latched while %d of %d volumes carry a member ID", recorded, could)
	}
}

// volumeOf a member: its claim, or the pod that holds its data in memory.
func (k *checker) volumeOf(name string) client.Object {
	if pod := k.w.Pod(name); pod != nil && resources.PodInMemory(pod) {
		return pod
	}
	if claim := k.w.Claim(name); claim != nil {
		return claim
	}
	return nil
}

// membership: one learner at most, and no name has two member IDs.
func (k *checker) membership(c *v1alpha1.EtcdCluster) {
	truth, ok := k.w.Etcd.Truth(resources.Token(c))
	if !ok {
		return
	}
	learners := 0
	for _, m := range truth.Members {
		if m.Learner {
			learners++
		}
		name, ours := resources.MemberOfURL(c, m.PeerURLs[0])
		if !ours {
			continue
		}
		key := resources.ClusterUID(c) + "/" + name
		known := k.ids[key]
		if known != 0 && known != m.ID && k.revenants[name] && m.Learner && !m.Started() {
			continue
		}
		if known != 0 && known != m.ID {
			k.violate("names", "%s is member %x and was %x", name, m.ID, known)
		}
		k.ids[key] = m.ID
	}
	if learners > 1 {
		k.violate("I5", "%d learners", learners)
	}
}

// available: what status says of an operator that is alive was probed lately.
// A new operator has as long to look for the first time, and one whose caches
// are held back cannot know what status says.
func (k *checker) available(c *v1alpha1.EtcdCluster) {
	if !conditionTrue(c, v1alpha1.ConditionAvailable) || c.DeletionTimestamp != nil {
		return
	}
	alive := false
	for _, op := range k.w.operators {
		other := c.Status.Operator != "" && c.Status.Operator != op.reconciler.Installation
		if op.dead.Load() || op.parked != nil || other {
			continue
		}
		alive = true
		now := k.w.Clock.Now()
		if op.hindered || now.Sub(latest(op.lastRead, op.started, op.releasedAt)) <= probeFresh {
			return
		}
	}
	if alive {
		k.violate("I9", "Available=True, and no linearizable read has succeeded for more than %v", probeFresh)
	}
}

func latest(times ...time.Time) time.Time {
	return slices.MaxFunc(times, time.Time.Compare)
}

// beforePass notes whether the operator has heard that the cluster is paused.
func (k *checker) beforePass(op *Operator) {
	op.proposed, op.relisted, op.heldUp = false, false, false
	heard := &v1alpha1.EtcdCluster{}
	k.paused = get(op.cache.objects, k.w.Key, heard) == nil && heard.Spec.Paused
	k.statusForgotten = k.statusLost
}

func (k *checker) afterPass(*Operator) { k.always() }

// beforeWrite looks at a write while the world is still as it was.
func (k *checker) beforeWrite(wr write) {
	wr.op.writes++
	c := k.w.Cluster()
	if c == nil {
		return
	}
	status := wr.method == "patch status"
	if k.paused && c.Spec.Paused && !status && c.DeletionTimestamp == nil {
		k.violate("I12", "%s %s of a paused cluster", wr.method, wr.object.GetName())
	}
	if status {
		if wr.op.statusWrites++; wr.op.statusWrites > 1 {
			k.violate("status", "%d status patches in one pass", wr.op.statusWrites)
		}
	}
	if strings.HasPrefix(wr.method, "patch") && versionIn(wr.patch) == "" {
		k.violate("locks", "%s of %s %s without an optimistic lock", wr.method, kindOf(wr.object), wr.object.GetName())
	}
	if k.statusLost && !k.statusForgotten {
		// It goes by what it has read before status was lost.
		return
	}
	switch o := wr.object.(type) {
	case *corev1.PersistentVolumeClaim:
		k.claimWritten(c, wr, o)
	case *corev1.Pod:
		k.podWritten(c, wr, o)
	case *corev1.Secret:
		k.trustChanged = true
		if wr.method == "delete" {
			k.secretDeleted(c, o)
		}
	}
}

// afterWrite holds against a write what it has done, not what was refused.
func (k *checker) afterWrite(err error) {
	for _, s := range k.suspicions {
		if err == nil {
			k.violate(s.rule, "%s", s.text)
		}
	}
	k.suspicions = nil
	k.always()
}

// suspicion is a violation if the write that it is about succeeds.
type suspicion struct{ rule, text string }

func (k *checker) suspect(rule, format string, args ...any) {
	k.suspicions = append(k.suspicions, suspicion{rule, fmt.Sprintf(format, args...)})
}

// claimWritten: a claim is created for a founder or a joiner on record, never
// anew for a volume that is on record or has held data, and deleted only when it
// cannot hold data of a member, or with the cluster.
func (k *checker) claimWritten(c *v1alpha1.EtcdCluster, wr write, claim *corev1.PersistentVolumeClaim) {
	name := claim.Labels[v1alpha1.LabelMember]
	live := k.w.Claim(name)
	switch wr.method {
	case "create":
		if !wr.op.heldUp {
			k.claimCreated(c, name, claim)
		}
	case "patch":
		if live != nil {
			k.quarantined(c, wr, live)
			k.condemned(claim, live)
		}
	case "delete":
		if live == nil {
			return
		}
		if wr.options.Preconditions == nil || wr.options.Preconditions.UID == nil {
			k.suspect("I7", "claim %s is deleted whatever its UID", claim.Name)
		}
		withCluster := c.DeletionTimestamp != nil && c.Spec.Storage.WhenDeleted == v1alpha1.WhenDeletedDelete
		if withCluster && live.Labels[v1alpha1.LabelClusterUID] == resources.ClusterUID(c) {
			return
		}
		k.claimDeleted(c, live)
	}
}

func (k *checker) claimCreated(c *v1alpha1.EtcdCluster, name string, claim *corev1.PersistentVolumeClaim) {
	founder := slices.Contains(c.Status.Founders, name)
	if !founder && c.Status.Joiner != name {
		k.suspect("I3", "claim %s is created before its member is on record", claim.Name)
	}
	if c.Status.FounderVolumes[name] != "" && k.w.Claim(name) == nil {
		k.suspect("I4", "claim %s is made anew, and the volume that is on record is lost", claim.Name)
	}
	if k.ids[resources.ClusterUID(c)+"/"+name] != 0 && !founder && k.w.Claim(name) == nil {
		k.suspect("names", "claim %s is made for a name that was a member's", claim.Name)
	}
}

// stillMember says that etcd lists the member whose ID the claim carries, or
// that nobody can tell.
func (k *checker) stillMember(c *v1alpha1.EtcdCluster, claim *corev1.PersistentVolumeClaim) bool {
	truth, ok := k.w.Etcd.Truth(resources.Token(c))
	id, err := strconv.ParseUint(claim.Annotations[v1alpha1.AnnotationMemberID], 16, 64)
	if !ok || err != nil {
		return true
	}
	return slices.ContainsFunc(truth.Members, func(m etcd.Member) bool { return m.ID == id })
}

// podWritten: a pod is made for a volume that is on record, and deleting one
// never takes a healthy voter that the quorum needs.
func (k *checker) podWritten(c *v1alpha1.EtcdCluster, wr write, pod *corev1.Pod) {
	switch wr.method {
	case "create":
		if on := k.unheard(pod.Name); on != "" && !wr.op.heldUp {
			k.suspect("I4", "pod %s is created while a process of its member runs on %s", pod.Name, on)
		}
		claim := k.w.Claim(pod.Name)
		if claim == nil {
			return
		}
		id, _ := strconv.ParseUint(claim.Annotations[v1alpha1.AnnotationMemberID], 16, 64)
		onRecord := c.Status.FounderVolumes[pod.Name] == string(claim.UID) || id != 0
		if !onRecord && (!resources.Held(pod) || c.Status.Joiner != pod.Name) {
			k.suspect("I4", "pod %s is created and its volume is not on record", pod.Name)
		}
		if id != 0 && k.mayHoldWrites(c, id) && pod.Annotations[member.AnnotationMayBeEmpty] == "true" {
			k.suspect("I4", "pod %s may start on an empty directory, and its member has started before", pod.Name)
		}
	case "delete", "evict":
		if wr.options.Preconditions == nil || wr.options.Preconditions.UID == nil {
			k.suspect("I2", "pod %s is deleted whatever its UID", pod.Name)
		}
		k.takesVoter(c, wr, pod.Name)
	case "patch":
		if live := k.w.Pod(pod.Name); live != nil {
			k.released(c, wr, live)
		}
	}
}

// unheard is a node that is not heard of and on which a process of the member runs;
// empty for none.
func (k *checker) unheard(name string) string {
	for _, r := range k.w.nodes.runs {
		if r.process == nil || r.process.Flags.Name != name || k.w.nodes.nodeReady(r.node) {
			continue
		}
		if _, exited := k.w.Etcd.Exited(r.process); !exited {
			return r.node
		}
	}
	return ""
}

// takesVoter: the pod of a member that votes and serves goes only to be made again from
// another spec, or without a survivor's volume, and only while the others are a quorum, which one alone never has. Where
// there are others, it does not lead. What was held up on its way may come when the
// spec and the leader are others again; never when the others are no quorum.
func (k *checker) takesVoter(c *v1alpha1.EtcdCluster, wr write, name string) {
	healthy, voters, taken := k.healthyVoters(c)
	if !taken[name] || k.carriedBack(c) {
		return
	}
	pod := k.w.Pod(name)
	if voters > 1 && healthy-1 < plan.Majority(voters) {
		k.suspect("I2", "pod %s is restarted, and %d of %d voters are healthy without it", name, healthy-1, voters)
	}
	if wr.op.heldUp {
		return
	}
	same := pod != nil && pod.Annotations[v1alpha1.AnnotationTemplateHash] == resources.TemplateHash(resources.OnMedium(c, v1alpha1.MediumDisk)) &&
		pod.Annotations[v1alpha1.AnnotationTrust] == k.wantedTrust(c) && !resources.MountsSurvivor(pod)
	if pod == nil || resources.PodInMemory(pod) || same {
		k.suspect("I2", "pod %s is deleted, a healthy voter of %d, of whom %d are healthy", name, voters, healthy)
	}
	if voters > 1 && k.w.Leader() == name {
		k.suspect("leader", "pod %s is restarted while it leads", name)
	}
}

// carriedBack says that all members are stopped for an EtcdRestore: status named it before,
// and it stands.
func (k *checker) carriedBack(c *v1alpha1.EtcdCluster) bool {
	was := c.Status.Restore
	if was == nil || was.Begun == nil {
		return false
	}
	r, there := k.w.API.find("EtcdRestore", client.ObjectKey{Namespace: c.Namespace, Name: was.Name}).(*v1alpha1.EtcdRestore)
	return there && string(r.UID) == was.UID && resources.RestoreStands(c, r)
}

func (k *checker) healthyVoters(c *v1alpha1.EtcdCluster) (healthy, voters int, names map[string]bool) {
	names = map[string]bool{}
	truth, ok := k.w.Etcd.Truth(resources.Token(c))
	if !ok {
		return 0, 0, names
	}
	for _, m := range truth.Members {
		if !m.Learner {
			voters++
		}
	}
	for _, r := range k.w.nodes.running() {
		if k.w.Etcd.Ready(r.process) {
			healthy++
			names[r.process.Flags.Name] = true
		}
	}
	return healthy, voters, names
}

// AtRest: what holds once a founded cluster has settled: no member that has
// started may start on an empty directory again.
func (k *checker) atRest() {
	c := k.w.Cluster()
	if c == nil || c.Status.ClusterID == "" {
		return
	}
	for _, o := range k.w.API.all("Pod") {
		pod := o.(*corev1.Pod)
		if pod.Annotations[member.AnnotationMayBeEmpty] == "true" && k.ids[resources.ClusterUID(c)+"/"+pod.Name] != 0 && podReady(pod) {
			k.violate("I4", "pod %s may still start on an empty directory, and its member has started", pod.Name)
		}
	}
	k.settled(c)
	// Who has lost status, or has adopted the volumes, knows them by the member IDs on them.
	if len(c.Status.FounderVolumes) != len(c.Status.Founders) && !k.statusLost && c.Spec.Adopt == nil {
		k.violate("I4", "status names %d of %d founders' volumes", len(c.Status.FounderVolumes), len(c.Status.Founders))
	}
}

func podReady(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}
