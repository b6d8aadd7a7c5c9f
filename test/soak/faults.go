package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/test/soak/testbed"
)

// fault is a harm that can be done. It returns once it is done and, unless it
// leaves that to soak.later, undone.
type fault struct {
	name string
	do   func(ctx context.Context, s *soak, x *subject) (note string, err error)
	// members says what may become of the cluster's members.
	members membership
	// amid is how long after its beginning the operator is killed, if it is.
	amid span
	// begins says when that is.
	begins beginning
}

type membership int

const (
	// same: all members keep name and ID.
	same membership = iota
	// changed: members are replaced.
	changed
)

type beginning int

const (
	// atOnce: the harm is done to the subject from the start.
	atOnce beginning = iota
	// whenSaid: the fault has a cluster of its own, or prepares something, and begins
	// the strike itself.
	whenSaid
)

// How long a fault is in its midst.
var (
	atOnceAfter = anywhereIn(100 * time.Millisecond)

	briefly = anywhereIn(800 * time.Millisecond)
	aWhile  = anywhereIn(6 * time.Second)
	long    = anywhereIn(40 * time.Second)
)

// faults that a soak deals out.
var faults = []fault{
	{name: "kill a follower", do: killing(follower), amid: atOnceAfter, begins: whenSaid},
	{name: "kill the leader", do: killing(leader), amid: atOnceAfter, begins: whenSaid},
	{name: "kill all", do: killing(everybody), amid: atOnceAfter, begins: whenSaid},
	{name: "hang a follower", do: hanging(follower, upTo(15*time.Second)), amid: aWhile},
	{name: "hang the leader", do: hanging(leader, exactly(30*time.Second)), amid: long},
	{name: "hang a majority", do: hangMajority, amid: aWhile},
	{name: "delete a pod", do: deletePods(anybody), amid: briefly},
	{name: "delete two pods", do: deletePods(two), amid: briefly},
	{name: "delete all pods", do: deletePods(everybody), amid: briefly},
	{name: "drain all members", do: drain, amid: aWhile},
	{name: "drain two nodes", do: drainTwo, amid: briefly, begins: whenSaid},
	{name: "lose a volume and its pod", do: loseVolume(anybody, withPod), members: changed, amid: aWhile},
	{name: "lose a follower's volume", do: loseVolume(follower, alive), members: changed, amid: aWhile},
	{name: "lose the leader's volume", do: loseVolume(leader, alive), members: changed, amid: aWhile},
	{name: "wipe the data", do: wipe, members: changed, amid: aWhile},
	{name: "corrupt the log", do: corrupt, members: changed, amid: aWhile},
	{name: "remove a member by hand", do: removeByHand, members: changed, amid: aWhile},
	{name: "add a member by hand", do: addByHand, members: changed, amid: aWhile},
	{name: "change the size", do: resize, members: changed, amid: aWhile},
	{name: "change the mind", do: waver, members: changed, amid: aWhile},
	{name: "pause a growth", do: pauseGrowth, members: changed, amid: aWhile},
	{name: "lose the quorum for good", do: bereave, amid: aWhile, begins: whenSaid},
	{name: "make the cluster again", do: remake, amid: briefly, begins: whenSaid},
	{name: "cut a node off", do: cutNode, amid: briefly},
	{name: "force-delete behind a cut", do: forceDelete, amid: long},
	{name: "cut two nodes off", do: cutTwo, amid: long},
	{name: "restart a node", do: restartNode, amid: briefly},
	{name: "lose a node", do: loseNode, members: changed, amid: long},
	{name: "cut a kubelet off", do: cutKubelet, members: changed, amid: anywhereIn(100 * time.Second)},
	{name: "lose half of the packets", do: losePackets, amid: aWhile},
	{name: "slow a link down", do: slowLink, amid: aWhile},
	{name: "stop the DNS", do: stopDNS, amid: aWhile},
	{name: "wall a newcomer in", do: wallNewcomer, amid: long, begins: whenSaid},
	{name: "roll through the releases", do: roll, amid: long, begins: whenSaid},
	{name: "hang the operator", do: hangOperator, members: changed, amid: long},
}

// pick chooses members of a cluster.
type pick func(r *rand.Rand, voters []string, leader string) []string

func leader(_ *rand.Rand, _ []string, leader string) []string    { return []string{leader} }
func everybody(_ *rand.Rand, voters []string, _ string) []string { return voters }
func anybody(r *rand.Rand, voters []string, _ string) []string   { return choice(r, voters, 1) }
func two(r *rand.Rand, voters []string, _ string) []string       { return choice(r, voters, 2) }
func follower(r *rand.Rand, voters []string, leader string) []string {
	return choice(r, slices.DeleteFunc(slices.Clone(voters), func(m string) bool { return m == leader }), 1)
}

func choice(r *rand.Rand, of []string, n int) []string {
	of = slices.Clone(of)
	r.Shuffle(len(of), func(i, j int) { of[i], of[j] = of[j], of[i] })
	return of[:min(n, len(of))]
}

func (s *soak) pick(ctx context.Context, x *subject, p pick) ([]string, error) {
	object, err := x.Get(ctx)
	if err != nil {
		return nil, err
	}
	var voters []string
	for _, m := range object.Status.Members {
		voters = append(voters, m.Name)
	}
	return p(s.random, voters, object.Status.Leader), nil
}

func killing(p pick) func(context.Context, *soak, *subject) (string, error) {
	return func(ctx context.Context, s *soak, x *subject) (string, error) {
		who, err := s.pick(ctx, x, p)
		if err != nil {
			return "", err
		}
		before, err := x.Pods(ctx)
		if err != nil {
			return "", err
		}
		if err := x.Signal(ctx, syscall.SIGKILL, who...); err != nil {
			return "", err
		}
		// The container is started again in a second, before anybody is told that it was
		// away: the operator dies within a tenth of that.
		s.later(func(context.Context) error { return nil })
		s.strike.begin(ctx, x.Cluster)
		return list(who), within(ctx, recovery, func(ctx context.Context) error {
			now, err := x.Pods(ctx)
			for _, m := range who {
				if restarts(now[m]) <= restarts(before[m]) {
					err = errors.Join(err, fmt.Errorf("the container of %s was not started again", m))
				}
			}
			return err
		})
	}
}

func restarts(pod corev1.Pod) (sum int) {
	for _, s := range pod.Status.ContainerStatuses {
		sum += int(s.RestartCount)
	}
	return sum
}

// span chooses how long something lasts.
type span func(r *rand.Rand) time.Duration

func upTo(d time.Duration) span {
	return func(r *rand.Rand) time.Duration { return (1 + time.Duration(r.IntN(int(d/time.Second)))) * time.Second }
}

func anywhereIn(d time.Duration) span {
	return func(r *rand.Rand) time.Duration { return time.Duration(r.Int64N(int64(d))) }
}

func exactly(d time.Duration) span { return func(*rand.Rand) time.Duration { return d } }

func hanging(p pick, long span) func(context.Context, *soak, *subject) (string, error) {
	return func(ctx context.Context, s *soak, x *subject) (string, error) {
		who, err := s.pick(ctx, x, p)
		if err != nil {
			return "", err
		}
		if err := s.hang(ctx, x, who...); err != nil {
			return "", err
		}
		d := long(s.random)
		return fmt.Sprintf("%s for %s", list(who), d), pause(ctx, d)
	}
}

// hangMajority: the loss of the quorum must be told in time, and nothing done.
func hangMajority(ctx context.Context, s *soak, x *subject) (string, error) {
	who, err := s.pick(ctx, x, func(r *rand.Rand, voters []string, _ string) []string { return choice(r, voters, len(voters)/2+1) })
	if err != nil {
		return "", err
	}
	if err := s.hang(ctx, x, who...); err != nil {
		return "", err
	}
	return list(who), s.tellsLoss(ctx, x.Cluster)
}

// tellsLoss says that a cluster's loss of quorum is not told in time.
func (s *soak) tellsLoss(ctx context.Context, c testbed.Cluster) error {
	return within(ctx, s.tells(), func(ctx context.Context) error {
		return says(ctx, c, v1alpha1.ConditionAvailable, metav1.ConditionFalse, v1alpha1.ReasonQuorumLost)
	})
}

func deletePods(p pick) func(context.Context, *soak, *subject) (string, error) {
	return func(ctx context.Context, s *soak, x *subject) (string, error) {
		who, err := s.pick(ctx, x, p)
		if err != nil {
			return "", err
		}
		return list(who), s.delete(ctx, x, who...)
	}
}

func (s *soak) delete(ctx context.Context, x *subject, members ...string) error {
	for _, m := range members {
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: x.Namespace, Name: m}}
		if err := client.IgnoreNotFound(s.Kube.Delete(ctx, pod)); err != nil {
			return fmt.Errorf("deleting pod %s: %w", m, err)
		}
	}
	return nil
}

// drain evicts all members, each as soon as the budget lets it go.
func drain(ctx context.Context, s *soak, x *subject) (string, error) {
	who, err := s.pick(ctx, x, everybody)
	if err != nil {
		return "", err
	}
	refused := 0
	for _, m := range choice(s.random, who, len(who)) {
		err := within(ctx, recovery, func(ctx context.Context) error {
			err := s.evict(ctx, x, m)
			if apierrors.IsTooManyRequests(err) {
				refused++
			}
			return err
		})
		if err != nil {
			return "", fmt.Errorf("evicting %s: %w", m, err)
		}
	}
	return fmt.Sprintf("%s, %d times refused", list(who), refused), nil
}

func (s *soak) evict(ctx context.Context, x *subject, member string) error {
	return s.API.PolicyV1().Evictions(x.Namespace).Evict(ctx, &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Namespace: x.Namespace, Name: member}})
}

type withVolume int

const (
	alive withVolume = iota
	withPod
)

func loseVolume(p pick, pod withVolume) func(context.Context, *soak, *subject) (string, error) {
	return func(ctx context.Context, s *soak, x *subject) (string, error) {
		who, err := s.pick(ctx, x, p)
		if err != nil {
			return "", err
		}
		for _, m := range who {
			claim := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: x.Namespace, Name: "data-" + m}}
			if err := s.Kube.Delete(ctx, claim); err != nil {
				return "", fmt.Errorf("deleting claim %s: %w", claim.Name, err)
			}
		}
		if pod == withPod {
			if err := s.delete(ctx, x, who...); err != nil {
				return "", err
			}
		}
		return list(who), s.replaced(ctx, x, who...)
	}
}

// replaced waits until these are members no more.
func (s *soak) replaced(ctx context.Context, x *subject, who ...string) error {
	return within(ctx, recovery, func(ctx context.Context) error {
		object, err := x.Get(ctx)
		if err != nil {
			return err
		}
		for _, m := range who {
			if _, still := ids(object)[m]; still {
				return fmt.Errorf("%s is still a member", m)
			}
		}
		return nil
	})
}

// quarantined says that the volumes of these are not kept.
func (s *soak) quarantined(ctx context.Context, x *subject, who ...string) error {
	claims, err := x.Claims(ctx)
	if err != nil {
		return err
	}
	for _, m := range who {
		if claims["data-"+m].Labels[v1alpha1.LabelQuarantined] == "" {
			return fmt.Errorf("the claim of %s is not in quarantine", m)
		}
	}
	return nil
}

func wipe(ctx context.Context, s *soak, x *subject) (string, error) {
	return s.damage(ctx, x, func(data string) error { return os.RemoveAll(filepath.Join(data, "member")) })
}

// corrupt overwrites part of the write-ahead log. etcd fails on it, and is
// started again and again by the kubelet, later and later.
func corrupt(ctx context.Context, s *soak, x *subject) (string, error) {
	return s.damage(ctx, x, func(data string) error {
		logs, err := filepath.Glob(filepath.Join(data, "member", "wal", "*.wal"))
		if err != nil || len(logs) == 0 {
			return fmt.Errorf("finding the log in %s: %w", data, errors.Join(err, os.ErrNotExist))
		}
		f, err := os.OpenFile(slices.Max(logs), os.O_WRONLY, 0)
		if err != nil {
			return fmt.Errorf("opening the log: %w", err)
		}
		noise := make([]byte, 4096)
		for i := range noise {
			noise[i] = byte(s.random.Uint32())
		}
		_, err = f.WriteAt(noise, 512)
		return errors.Join(err, f.Close())
	})
}

// damage harms the data of one member, kills it, and waits for the replacement.
func (s *soak) damage(ctx context.Context, x *subject, do func(data string) error) (string, error) {
	who, err := s.pick(ctx, x, anybody)
	if err != nil {
		return "", err
	}
	disk, err := s.Disk(ctx, x.Namespace, "data-"+who[0])
	if err != nil {
		return "", err
	}
	if err := do(filepath.Join(disk, "data")); err != nil {
		return "", err
	}
	if err := x.Signal(ctx, syscall.SIGKILL, who...); err != nil {
		return "", err
	}
	if err := s.replaced(ctx, x, who...); err != nil {
		return "", err
	}
	return list(who), within(ctx, s.tells(), func(ctx context.Context) error { return s.quarantined(ctx, x, who...) })
}

func removeByHand(ctx context.Context, s *soak, x *subject) (string, error) {
	who, err := s.pick(ctx, x, follower)
	if err != nil {
		return "", err
	}
	object, err := x.Get(ctx)
	if err != nil {
		return "", err
	}
	listed, err := x.Etcd(ctx, object.Status.Leader)
	if err != nil {
		return "", err
	}
	cl, err := x.Client(ctx, object.Status.Leader)
	if err != nil {
		return "", err
	}
	defer func() { _ = cl.Close() }()
	// etcd takes no change in the first seconds after a member has connected.
	err = within(ctx, recovery, func(ctx context.Context) error { _, err := cl.MemberRemove(ctx, listed[who[0]]); return err })
	if err != nil {
		return "", fmt.Errorf("removing %s: %w", who[0], err)
	}
	if err := s.replaced(ctx, x, who...); err != nil {
		return "", err
	}
	return list(who), within(ctx, s.tells(), func(ctx context.Context) error { return s.quarantined(ctx, x, who...) })
}

// addByHand: a stranger is named, and holds a change of size up until it is
// removed by hand.
func addByHand(ctx context.Context, s *soak, x *subject) (string, error) {
	voters, err := x.Voters(ctx)
	if err != nil {
		return "", err
	}
	cl, err := x.Client(ctx, voters...)
	if err != nil {
		return "", err
	}
	defer func() { _ = cl.Close() }()
	const url = "https://stranger.example:2380"
	var stranger uint64
	err = within(ctx, recovery, func(ctx context.Context) error {
		added, err := cl.MemberAddAsLearner(ctx, []string{url})
		if err == nil {
			stranger = added.Member.ID
		}
		return err
	})
	if err != nil {
		return "", fmt.Errorf("adding a stranger: %w", err)
	}
	s.later(func(ctx context.Context) error { return x.Edit(ctx, fmt.Sprintf(`{"spec":{"size":%d}}`, x.size)) })
	if err := x.Edit(ctx, fmt.Sprintf(`{"spec":{"size":%d}}`, x.size+2)); err != nil {
		return "", err
	}
	err = within(ctx, s.tells(), func(ctx context.Context) error {
		return x.says(ctx, v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonUnknownMember)
	})
	if err == nil {
		err = pause(ctx, 3*time.Second)
	}
	if listed, unread := x.Etcd(ctx, voters...); err == nil && (unread != nil || len(listed) != x.size+1) {
		err = fmt.Errorf("members changed beside a stranger: %v: %w", listed, errors.Join(unread))
	}
	_, removed := cl.MemberRemove(ctx, stranger)
	return url, errors.Join(err, removed)
}

// resize goes to other sizes and back.
func resize(ctx context.Context, s *soak, x *subject) (string, error) {
	sizes := otherSizes(s.random, x.size)[:1+s.random.IntN(2)]
	for _, size := range append(sizes, x.size) {
		if err := x.Edit(ctx, fmt.Sprintf(`{"spec":{"size":%d}}`, size)); err != nil {
			return "", err
		}
		if err := s.heals(ctx, x.Cluster); err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("%d, %v, %d", x.size, sizes, x.size), nil
}

// otherSizes are the sizes that a cluster may have, but for one, in any order.
func otherSizes(r *rand.Rand, not int) []int {
	of := slices.DeleteFunc([]int{1, 3, 5, 7}, func(n int) bool { return n == not })
	r.Shuffle(len(of), func(i, j int) { of[i], of[j] = of[j], of[i] })
	return of
}

// waver edits the size faster than the operator can follow.
func waver(ctx context.Context, s *soak, x *subject) (string, error) {
	var note []string
	for range 2 + s.random.IntN(4) {
		size := 1 + 2*s.random.IntN(4)
		if err := x.Edit(ctx, fmt.Sprintf(`{"spec":{"size":%d}}`, size)); err != nil {
			return "", err
		}
		d := time.Duration(s.random.IntN(5000)) * time.Millisecond
		note = append(note, fmt.Sprintf("%d for %s", size, d))
		if err := pause(ctx, d); err != nil {
			return "", err
		}
	}
	return strings.Join(note, ", "), x.Edit(ctx, fmt.Sprintf(`{"spec":{"size":%d}}`, x.size))
}

// pauseGrowth: nothing changes while the cluster is paused.
func pauseGrowth(ctx context.Context, s *soak, x *subject) (string, error) {
	s.later(func(ctx context.Context) error {
		return x.Edit(ctx, fmt.Sprintf(`{"spec":{"size":%d,"paused":false}}`, x.size))
	})
	if err := x.Edit(ctx, fmt.Sprintf(`{"spec":{"size":%d}}`, min(7, x.size+2))); err != nil {
		return "", err
	}
	d := time.Duration(s.random.IntN(5000)) * time.Millisecond
	if err := pause(ctx, d); err != nil {
		return "", err
	}
	if err := x.Edit(ctx, `{"spec":{"paused":true}}`); err != nil {
		return "", err
	}
	err := within(ctx, s.tells(), func(ctx context.Context) error {
		return x.says(ctx, v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonPaused)
	})
	if err != nil {
		return "", err
	}
	before, err := x.written(ctx)
	if err != nil {
		return "", err
	}
	if err := pause(ctx, 5*time.Second); err != nil {
		return "", err
	}
	after, err := x.written(ctx)
	if err == nil && before != after {
		err = fmt.Errorf("something was written while the cluster was paused:\n%s\n%s", before, after)
	}
	return fmt.Sprintf("after %s", d), err
}

// written is what tells one state of what the operator writes from the next.
func (x *subject) written(ctx context.Context) (string, error) {
	pods, err := x.Pods(ctx)
	if err != nil {
		return "", err
	}
	claims, err := x.Claims(ctx)
	if err != nil {
		return "", err
	}
	voters, err := x.Voters(ctx)
	if err != nil {
		return "", err
	}
	listed, err := x.Etcd(ctx, voters...)
	if err != nil {
		return "", err
	}
	var out []string
	for name, pod := range pods {
		out = append(out, fmt.Sprint("pod ", name, pod.UID, pod.Annotations))
	}
	for name, claim := range claims {
		out = append(out, fmt.Sprint("claim ", name, claim.UID, claim.Annotations[v1alpha1.AnnotationMemberID], claim.Labels))
	}
	slices.Sort(out)
	return fmt.Sprint(out, listed), nil
}

// says is nil when a condition is as it should be.
func (x *subject) says(ctx context.Context, kind string, is metav1.ConditionStatus, reason string) error {
	return says(ctx, x.Cluster, kind, is, reason)
}

func says(ctx context.Context, c testbed.Cluster, kind string, is metav1.ConditionStatus, reason string) error {
	object, err := c.Get(ctx)
	if err != nil {
		return err
	}
	found := meta.FindStatusCondition(object.Status.Conditions, kind)
	if found == nil || found.Status != is || found.Reason != reason {
		return fmt.Errorf("%s of %s is %+v, not %s/%s", kind, c.Name, found, is, reason)
	}
	return nil
}

// bereave founds a cluster and takes its quorum away for good.
func bereave(ctx context.Context, s *soak, _ *subject) (string, error) {
	c, err := s.throwaway(ctx, "bereft", `{storage: {whenDeleted: Delete}}`)
	if err != nil {
		return "", err
	}
	x := &subject{Cluster: c, size: 3}
	who, err := s.pick(ctx, x, two)
	if err != nil {
		return "", err
	}
	for _, m := range who {
		claim := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: c.Namespace, Name: "data-" + m}}
		if err := s.Kube.Delete(ctx, claim); err != nil {
			return "", fmt.Errorf("deleting claim %s: %w", claim.Name, err)
		}
	}
	if err := s.delete(ctx, x, who...); err != nil {
		return "", err
	}
	s.strike.begin(ctx, c)
	if err := s.tellsLoss(ctx, c); err != nil {
		return "", err
	}
	if err := pause(ctx, 5*time.Second); err != nil {
		return "", err
	}
	claims, err := c.Claims(ctx)
	if err == nil && len(claims) != 1 {
		err = fmt.Errorf("%d claims are there, and one was left", len(claims))
	}
	return list(who), errors.Join(err, s.tellsLoss(ctx, c))
}

// throwaway founds a cluster for one fault.
func (s *soak) throwaway(ctx context.Context, name, spec string) (testbed.Cluster, error) {
	c, err := s.apply(ctx, name, spec)
	if err != nil {
		return c, err
	}
	s.later(func(ctx context.Context) error { return s.destroy(ctx, c) })
	return c, s.heals(ctx, c)
}

// destroy deletes a cluster and all its claims, and waits until they are gone.
func (s *soak) destroy(ctx context.Context, c testbed.Cluster) error {
	object := &v1alpha1.EtcdCluster{ObjectMeta: metav1.ObjectMeta{Namespace: c.Namespace, Name: c.Name}}
	if err := client.IgnoreNotFound(s.Kube.Delete(ctx, object)); err != nil {
		return fmt.Errorf("deleting cluster %s: %w", c.Name, err)
	}
	err := s.Kube.DeleteAllOf(ctx, &corev1.PersistentVolumeClaim{}, client.InNamespace(c.Namespace), client.MatchingLabels{v1alpha1.LabelCluster: c.Name})
	return errors.Join(err, within(ctx, recovery, func(ctx context.Context) error {
		pods, err := c.Pods(ctx)
		if err == nil && len(pods) > 0 {
			err = fmt.Errorf("%d pods of %s are still there", len(pods), c.Name)
		}
		return err
	}))
}

// remake deletes a cluster and makes it again: the old volumes are not touched.
func remake(ctx context.Context, s *soak, _ *subject) (string, error) {
	c, err := s.throwaway(ctx, "remade", `{}`)
	if err != nil {
		return "", err
	}
	old, err := c.Claims(ctx)
	if err != nil {
		return "", err
	}
	object, err := c.Get(ctx)
	if err != nil {
		return "", err
	}
	if err := s.Kube.Delete(ctx, object); err != nil {
		return "", fmt.Errorf("deleting cluster %s: %w", c.Name, err)
	}
	if _, err := s.apply(ctx, "remade", `{}`); err != nil {
		return "", err
	}
	s.strike.begin(ctx, c)
	return "", within(ctx, recovery, func(ctx context.Context) error {
		if err := says(ctx, c, v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonHealthy); err != nil {
			return err
		}
		now, err := c.Claims(ctx)
		if err != nil {
			return err
		}
		for name, claim := range old {
			if now[name].UID != claim.UID || now[name].Labels[v1alpha1.LabelClusterUID] != string(object.UID) {
				return fmt.Errorf("the old claim %s was touched", name)
			}
		}
		if len(now) != 2*len(old) {
			return fmt.Errorf("%d claims are there, not %d", len(now), 2*len(old))
		}
		return nil
	})
}

func list(names []string) string { return strings.Join(names, ", ") }
