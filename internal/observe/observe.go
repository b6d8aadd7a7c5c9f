// Package observe looks at a cluster once: at its objects in Kubernetes and its
// members in etcd, joined into one struct per member. It reads and never
// writes, and judges what depends on the clock, so that plan need not.
package observe

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/apitime"
	"github.com/quorate/quorate/internal/etcd"
	"github.com/quorate/quorate/internal/pki"
	"github.com/quorate/quorate/internal/plan"
	"github.com/quorate/quorate/internal/resources"
	"github.com/quorate/quorate/internal/snapshot"
)

// Observer looks at clusters. It keeps, per cluster and in memory only, when it
// last read the Secrets and whether etcd's write path is in doubt.
type Observer struct {
	// Cached reads from the informers' caches.
	Cached client.Reader
	// Live reads from the API server.
	Live client.Reader
	// Cluster reads nodes and storage classes; nil when the operator may not.
	Cluster client.Reader
	// Backups lists EtcdBackups and EtcdBackupSchedules by IndexClusterRef, from the caches;
	// without it nothing is told of them.
	Backups client.Reader
	// Restores lists EtcdRestores by IndexClusterRef, from the caches; without it none is
	// carried out.
	Restores client.Reader
	// Dialer reaches members.
	Dialer etcd.Dialer
	// Greeter shakes hands with members; without it no authority is rotated to its end.
	Greeter etcd.Greeter
	// Meter reads what members measure; without it no disk is called slow.
	Meter etcd.Meter
	// Progress asks the pod with this address how far it is with a backup; without it nothing is
	// told of one before it has ended.
	Progress func(ctx context.Context, podIP string) (*snapshot.Progress, error)
	// Clock tells the time.
	Clock clock.PassiveClock
	// ServerTime tells the API server's time, if it is known.
	ServerTime apitime.Source
	// Operator says where the operator's own pods run.
	Operator resources.OperatorPeer

	mu     sync.Mutex
	memory map[types.NamespacedName]*memory
}

// memory is what the observer remembers of one cluster. All of it can be lost.
type memory struct {
	uid          types.UID
	certificates certificatesSeen
	proven       proof
	watched      watched
	// suspicious is true after a look that missed a member's volume: from then
	// on the API server is asked, for a cache that lags shows the same.
	suspicious bool
	reach      reach
	// filling is what kept a founder's volume from being filled, when it was last asked.
	filling hindrance
	// overdue is since when each quarantined claim has been seen overdue.
	overdue map[types.UID]time.Time
	// lostSince is since when status has told of a lost quorum; zero while it does not.
	lostSince time.Time
	// again is the word about an incarnation that never came to be, and againSince since
	// when it has stood there.
	again      string
	againSince time.Time
	// checkGone says that there is no Job that read a backup for spec.recovery, and that this
	// process has made none since it looked.
	checkGone bool
	// revisions of the keys over time.
	revisions revisions
	// disks of the members, by name.
	disks map[string]*disk
	// wanted are the fixed objects as they should be.
	wanted wanted
	// agreed are the fixed objects that were in order, by kind and name.
	agreed map[string]agreement
}

// Observe looks once.
func (o *Observer) Observe(ctx context.Context, c *v1alpha1.EtcdCluster) (plan.Observed, error) {
	seen := onRecord(c)
	if id := c.Status.ClusterID; id != "" {
		parsed, err := strconv.ParseUint(id, 16, 64)
		if err != nil {
			return seen, fmt.Errorf("reading status.clusterID %q: %w", id, err)
		}
		seen.ClusterID = parsed
	}
	m := o.remember(c)
	kube, err := o.kubernetes(ctx, c, m)
	if err != nil {
		return seen, err
	}
	seen.OldVolumes, seen.Adoption, seen.Incarnation = kube.oldVolumes, kube.adoption, kube.incarnation
	seen.RecoveryVoid = c.Spec.Recovery != nil && c.Status.VoidRecovery == resources.RecoveryWord(c)
	if err := o.said(ctx, c, m, kube, &seen); err != nil {
		return seen, err
	}
	if seen.Backups, err = o.backups(ctx, c); err != nil {
		return seen, err
	}
	if len(c.Status.Founders) == 0 {
		seen.RecoveredFounders, seen.RecoveredFloor = resources.Founders(kube.objects()...), resources.FloorOf(kube.objects()...)
		seen.FounderNames = kube.freeNames(c)
		return seen, nil
	}
	members := kube.members(c)
	certificates, err := o.certified(ctx, c, m, kube, members, &seen)
	if err != nil {
		return seen, err
	}
	endpoints := kube.endpoints(c)
	o.remind(m, endpoints, certificates.credentials)
	look := o.etcd(ctx, c, m, certificates.credentials, endpoints, seen.ClusterID)
	o.fixed(ctx, kube, members)
	join(c, &seen, members, look)
	recall(c, seen.Members)
	recallPositions(c, &seen)
	seen.Copied = kube.copied()
	seen.Version = seen.Hop()
	made := resources.MadeAs(c, seen)
	seen.OptionTrouble = resources.OptionTrouble(made)
	if made != c {
		kube.madeFrom(made, seen.Members)
	}
	certificates.judgeTrust(kube, seen.Members)
	seen.Authorities = certificates.authorities()
	seen.Expired = m.expired(c, kube)
	o.disks(ctx, c, m, endpoints, certificates.credentials, seen.Members)
	leader, term := look.leads()
	m.watched.judge(c, &seen, kube, leader, term)
	m.suspicious = slices.ContainsFunc(seen.Members, func(m plan.Member) bool { return m.Dead() || m.Doomed() })
	if seen.ObjectsDue, err = o.objects(ctx, c, m, &seen); err != nil {
		return seen, err
	}
	o.upkeep(c, m, &seen, look)
	return seen, o.problems(ctx, c, m, kube, certificates, &seen)
}

// problems are what the world refuses, the worst first.
func (o *Observer) problems(ctx context.Context, c *v1alpha1.EtcdCluster, m *memory, kube *kubernetes, certificates certificatesSeen, seen *plan.Observed) error {
	seen.TLSProblems = certificates.problems
	seen.Uncertified = certificates.lacking && len(certificates.problems) > 0
	seen.Expiring = unsafe(seen.TLSProblems)
	seen.Problems = append(seen.Problems, certificates.conflicts...)
	seen.Problems = append(seen.Problems, kube.problems(*seen)...)
	seen.Problems = append(seen.Problems, o.hindered(ctx, m, kube, *seen)...)
	if problem, found := o.storageClass(ctx, kube); found {
		seen.Problems = append([]plan.Problem{problem}, seen.Problems...)
	}
	if void, is := recoveryVoid(c); is && seen.ReadOK {
		seen.Problems = append(seen.Problems, void)
	}
	point, blocked, err := o.restoreBlocked(ctx, c)
	if err != nil {
		return err
	}
	seen.Point = point
	seen.Problems = append(seen.Problems, blocked...)
	worstFirst(seen.Problems)
	return nil
}

// upkeep is what the rules of maintenance go by: quotas, history and the window.
func (o *Observer) upkeep(c *v1alpha1.EtcdCluster, m *memory, seen *plan.Observed, l look) {
	for i, member := range seen.Members {
		if member.Answers {
			seen.Members[i].Quota = quota(c, member, member.Quota)
		}
	}
	seen.CompactTo = m.revisions.unwanted(c, o.Clock.Now(), l.revision())
	state, problem := window(c, o.Clock.Now())
	if seen.Window = state; problem != nil {
		seen.Problems = append(seen.Problems, *problem)
	}
}

// unsafe says why nobody should be restarted, going by what is wrong with certificates. The
// end of an authority is no reason: its rotation restarts members. Nor is what others
// provide and is not used, or what they do not provide: the present certificates go on.
func unsafe(problems []plan.Problem) string {
	for _, p := range problems {
		if !slices.Contains(goingOn, p.Reason) {
			return p.Message
		}
	}
	return ""
}

// goingOn are the reasons for which members may be restarted.
var goingOn = []string{
	pki.ReasonAuthorityExpiring, pki.ReasonAuthorityRefused, pki.ReasonCertificateRefused, pki.ReasonCertificateNotIssued,
	pki.ReasonCertificateExpiring, pki.ReasonIssuerUnavailable,
}

// recall the versions of members that do not answer: what they ran decides what may open
// their data. And who does not vote, which nobody can be asked while the quorum is lost.
func recall(c *v1alpha1.EtcdCluster, members []plan.Member) {
	for _, was := range c.Status.Members {
		for i := range members {
			if members[i].Name == was.Name && members[i].Version == "" {
				members[i].Version = was.Version
			}
		}
	}
	votes := func(m v1alpha1.MemberStatus) bool { return m.Role == v1alpha1.RoleVoter }
	for i := range members {
		members[i].LastNoVoter = slices.ContainsFunc(c.Status.Members, votes) &&
			!slices.ContainsFunc(c.Status.Members, func(m v1alpha1.MemberStatus) bool { return m.Name == members[i].Name && votes(m) })
	}
}

// onRecord is what the cluster itself says: what is wanted, and what was written down.
func onRecord(c *v1alpha1.EtcdCluster) plan.Observed {
	return plan.Observed{
		Paused:         c.Spec.Paused,
		Planned:        c.Annotations[v1alpha1.AnnotationPlan] == "true",
		Size:           int(c.Spec.Size),
		Version:        c.Spec.Version,
		Through:        c.Spec.Update.Through,
		DowngradeTo:    c.Spec.Update.DowngradeTo,
		DowngradeBegun: c.Status.Downgrade,
		OldEntries:     c.Status.OldEntries,
		Quota:          c.Spec.Etcd.QuotaBackendBytes.Value(),
		Pinned:         c.Spec.Image.Digest != "",
		TLS:            resources.TLS(c),
		TLSAlone:       c.Spec.TLS.Mode == v1alpha1.TLSEnabled,
		PlaintextPeers: c.Status.PlaintextPeers || !resources.TLS(c),
		InMemory:       resources.InMemory(c),
		Operation:      operation(c),
		Founders:       c.Status.Founders,
		VolumesLatched: len(c.Status.Founders) > 0 && len(c.Status.FounderVolumes) == len(c.Status.Founders),
		Joiner:         c.Status.Joiner,
		FinalizerDue: controllerutil.ContainsFinalizer(c, v1alpha1.Finalizer) !=
			(c.Spec.Storage.WhenDeleted == v1alpha1.WhenDeletedDelete),
	}
}

func worstFirst(problems []plan.Problem) {
	slices.SortStableFunc(problems, func(a, b plan.Problem) int { return cmp.Compare(b.Severity, a.Severity) })
}

// Forget drops what is remembered of a cluster, and its connections.
func (o *Observer) Forget(cluster types.NamespacedName) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if m, ok := o.memory[cluster]; ok {
		o.Dialer.Keep(string(m.uid))
		delete(o.memory, cluster)
	}
}

func (o *Observer) remember(c *v1alpha1.EtcdCluster) *memory {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.memory == nil {
		o.memory = map[types.NamespacedName]*memory{}
	}
	key := client.ObjectKeyFromObject(c)
	m, ok := o.memory[key]
	if ok && m.uid != c.UID {
		o.Dialer.Keep(string(m.uid))
		ok = false
	}
	if !ok {
		m = &memory{uid: c.UID}
		o.memory[key] = m
	}
	return m
}

// operation is the reason of the work that status says is under way: until a member is
// healthy that was restarted or has joined, that is part of it.
func operation(c *v1alpha1.EtcdCluster) string {
	if o := c.Status.Operation; o != nil && o.Kind != v1alpha1.ReasonFounding {
		return o.Kind
	}
	return ""
}

// Moving says that the cluster is being founded or that its members change: then
// each step builds on the one before it, and waiting for a cache would cost time.
func Moving(c *v1alpha1.EtcdCluster) bool {
	learning := slices.ContainsFunc(c.Status.Members, func(m v1alpha1.MemberStatus) bool { return m.Role == v1alpha1.RoleLearner })
	return c.Status.ClusterID == "" || c.Status.Joiner != "" || learning
}

// reader reads from the caches while nothing moves and nobody is missing, when a
// stale answer costs a pass at most, since every step that matters looks again.
func (o *Observer) reader(c *v1alpha1.EtcdCluster, m *memory) client.Reader {
	if Moving(c) || m.suspicious {
		return o.Live
	}
	return o.Cached
}

func statusOf(pod *corev1.Pod) (corev1.ContainerStatus, bool) {
	i := slices.IndexFunc(pod.Status.ContainerStatuses, func(s corev1.ContainerStatus) bool { return s.Name == resources.EtcdContainer })
	if i < 0 {
		return corev1.ContainerStatus{}, false
	}
	return pod.Status.ContainerStatuses[i], true
}
