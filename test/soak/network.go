package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/test/soak/testbed"
)

// Faults of the network that are less than a cut: nftables drops packets, and a token
// bucket holds them up. The kernel that this was written on has no netem, so a delay is
// one of packets that queue.

// filter names the table that a fault adds to a network.
const filter = "quorate_soak"

// fence drops packets in a network until it is mended. The rules are nft's, after the
// chain: "in" or "out".
func (s *soak) fence(ctx context.Context, run func(ctx context.Context, program string, args ...string) error, rules ...string) error {
	s.later(func(ctx context.Context) error {
		if err := run(ctx, "nft", "delete", "table", "inet", filter); err != nil && !errors.Is(err, testbed.ErrNoProcess) {
			return err
		}
		return nil
	})
	commands := []string{
		"add table inet " + filter,
		"add chain inet " + filter + " in { type filter hook input priority 0; }",
		"add chain inet " + filter + " out { type filter hook output priority 0; }",
	}
	for _, rule := range rules {
		commands = append(commands, "add rule inet "+filter+" "+rule)
	}
	return run(ctx, "nft", strings.Join(commands, "; "))
}

// networkOf a pod, for as long as it runs.
func (s *soak) networkOf(pod corev1.Pod) func(ctx context.Context, program string, args ...string) error {
	return func(ctx context.Context, program string, args ...string) error {
		return s.InNetworkOf(ctx, pod, program, args...)
	}
}

// apiServer as the kubelets of the local cluster reach it.
const apiServer = "172.30.0.1"

// cutKubelet: the node is lost to Kubernetes, and etcd on it serves on. Its pod is
// deleted by force; no second process of the member is started, a new member takes its
// place once it has been removed from etcd, and the old process ends by itself.
func cutKubelet(ctx context.Context, s *soak, x *subject) (string, error) {
	node, who, pods, err := s.spareNode(ctx, x)
	if err != nil {
		return "", err
	}
	s.later(func(ctx context.Context) error { return s.nodeIs(ctx, node, corev1.ConditionTrue) })
	inside := func(ctx context.Context, program string, args ...string) error {
		return s.InNetworkOfNode(ctx, node, program, args...)
	}
	if err := s.fence(ctx, inside, "out ip daddr "+apiServer+" drop"); err != nil {
		return "", err
	}
	if err := s.nodeIs(ctx, node, corev1.ConditionUnknown); err != nil {
		return "", err
	}
	if err := s.stays(ctx, x, who); err != nil {
		return "", err
	}
	if err := s.forceDelete(ctx, x, who[0]); err != nil {
		return "", err
	}
	if err := pause(ctx, 10*time.Second); err != nil {
		return "", err
	}
	after, err := x.Pods(ctx)
	if err != nil {
		return "", err
	}
	if _, again := after[who[0]]; again {
		return "", fmt.Errorf("pod %s was made again while its process runs on %s", who[0], node)
	}
	if err := s.replaced(ctx, x, who[0]); err != nil {
		return "", err
	}
	return who[0] + " on " + node, within(ctx, recovery, func(context.Context) error {
		pids, err := testbed.Processes(pods[who[0]], testbed.Etcd)
		if err == nil && len(pids) > 0 {
			err = fmt.Errorf("etcd of %s, which was removed, still runs: %v", who[0], pids)
		}
		return err
	})
}

// stays says that members were given up although only their node is away.
func (s *soak) stays(ctx context.Context, x *subject, who []string) error {
	if err := pause(ctx, 5*time.Second); err != nil {
		return err
	}
	object, err := x.Get(ctx)
	if err != nil {
		return err
	}
	for _, m := range who {
		if ids(object)[m] == "" {
			return fmt.Errorf("%s was given up while it answers", m)
		}
	}
	return nil
}

// spareNode is a node without whose members the cluster keeps its quorum.
func (s *soak) spareNode(ctx context.Context, x *subject) (string, []string, map[string]corev1.Pod, error) {
	nodes, pods, err := s.nodes(ctx, x, 3)
	if err != nil {
		return "", nil, nil, err
	}
	i := slices.IndexFunc(nodes, func(node string) bool { return len(membersOn(node, pods)) <= (x.size-1)/2 })
	if i < 0 {
		return "", nil, nil, fmt.Errorf("there is no node that %s could do without: %v", x.Name, nodes)
	}
	return nodes[i], membersOn(nodes[i], pods), pods, nil
}

// losePackets: half of what a member sends to and hears from the others is lost, or of
// one of both. It is slow, and nobody is replaced.
func losePackets(ctx context.Context, s *soak, x *subject) (string, error) {
	who, err := s.pick(ctx, x, anybody)
	if err != nil {
		return "", err
	}
	pods, err := x.Pods(ctx)
	if err != nil {
		return "", err
	}
	const half = " numgen random mod 100 < 50 drop"
	var rules []string
	ways := [][]string{{"in"}, {"out"}, {"in", "out"}}[s.random.IntN(3)]
	for _, way := range ways {
		rules = append(rules, way+" tcp dport 2380"+half, way+" tcp sport 2380"+half)
	}
	if err := s.fence(ctx, s.networkOf(pods[who[0]]), rules...); err != nil {
		return "", err
	}
	d := time.Duration(10+s.random.IntN(30)) * time.Second
	return fmt.Sprintf("%s, %s for %s", list(who), strings.Join(ways, " and "), d), pause(ctx, d)
}

// slowLink: what a member sends waits in a queue for up to 400 ms.
func slowLink(ctx context.Context, s *soak, x *subject) (string, error) {
	who, err := s.pick(ctx, x, anybody)
	if err != nil {
		return "", err
	}
	pods, err := x.Pods(ctx)
	if err != nil {
		return "", err
	}
	inside := s.networkOf(pods[who[0]])
	s.later(func(ctx context.Context) error {
		if err := inside(ctx, "tc", "qdisc", "del", "dev", "eth0", "root"); err != nil && !errors.Is(err, testbed.ErrNoProcess) {
			return err
		}
		return nil
	})
	if err := inside(ctx, "tc", "qdisc", "add", "dev", "eth0", "root", "tbf", "rate", "256kbit", "burst", "4kb", "latency", "400ms"); err != nil {
		return "", err
	}
	d := time.Duration(10+s.random.IntN(30)) * time.Second
	return fmt.Sprintf("%s for %s", list(who), d), pause(ctx, d)
}

// stopDNS: the cluster serves on, and a member that starts meanwhile finds the others
// once names can be looked up again.
func stopDNS(ctx context.Context, s *soak, x *subject) (string, error) {
	who, err := s.pick(ctx, x, follower)
	if err != nil {
		return "", err
	}
	pid, err := s.Daemon("coredns")
	if err != nil {
		return "", err
	}
	s.later(func(context.Context) error { return syscall.Kill(pid, syscall.SIGCONT) })
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		return "", fmt.Errorf("stopping the cluster's DNS: %w", err)
	}
	if err := s.delete(ctx, x, who...); err != nil {
		return "", err
	}
	d := time.Duration(10+s.random.IntN(30)) * time.Second
	if err := pause(ctx, d); err != nil {
		return "", err
	}
	voters, err := x.Voters(ctx)
	if err == nil && len(voters) != x.size {
		err = fmt.Errorf("%v vote while names cannot be looked up", voters)
	}
	return fmt.Sprintf("%s starts again, for %s", list(who), d), err
}

// wallNewcomer: a policy of somebody else's, which this network would not enforce, keeps
// a new member from the others. The learner is told of, given up, and another one joins.
func wallNewcomer(ctx context.Context, s *soak, _ *subject) (string, error) {
	c, err := s.throwaway(ctx, "walled", `{storage: {whenDeleted: Delete}, failover: {learnerTimeout: 1m}}`)
	if err != nil {
		return "", err
	}
	newcomer, err := s.held(ctx, c)
	if err != nil {
		return "", err
	}
	if err := s.fence(ctx, s.networkOf(newcomer), "in tcp dport 2380 drop", "in tcp sport 2380 drop", "out tcp dport 2380 drop", "out tcp sport 2380 drop"); err != nil {
		return "", err
	}
	if err := c.Edit(ctx, `{"spec":{"paused":false}}`); err != nil {
		return "", err
	}
	s.strike.begin(ctx, c)
	x := &subject{Cluster: c, size: 5}
	// etcd fails when it cannot ask any member for the others, and is started again and
	// again: that is told first.
	err = within(ctx, recovery, func(ctx context.Context) error {
		slow := x.says(ctx, v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonLearnerNotSynced)
		fails := x.says(ctx, v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonMemberCrashLooping)
		if slow == nil || fails == nil {
			return nil
		}
		return errors.Join(slow, fails)
	})
	if err != nil {
		return "", err
	}
	if err := s.replaced(ctx, x, newcomer.Name); err != nil {
		return "", err
	}
	told, err := s.told(ctx, c, "RemoveMember", "removing the learner "+newcomer.Name)
	if err != nil {
		return "", err
	}
	return newcomer.Name + ": " + told, s.heals(ctx, c)
}

// held has a cluster grow and pauses it when the pod of the new member is there, so that
// its guard waits.
func (s *soak) held(ctx context.Context, c testbed.Cluster) (corev1.Pod, error) {
	if err := c.Edit(ctx, `{"spec":{"size":5}}`); err != nil {
		return corev1.Pod{}, err
	}
	var pod corev1.Pod
	seen := func(ctx context.Context) error {
		object, err := c.Get(ctx)
		if err != nil {
			return err
		}
		pods, err := c.Pods(ctx)
		if err != nil {
			return err
		}
		found, there := pods[object.Status.Joiner]
		if !there {
			return errors.New("no member is being prepared")
		}
		pod = found
		return nil
	}
	if err := quickly(ctx, recovery, seen); err != nil {
		return pod, err
	}
	if err := c.Edit(ctx, `{"spec":{"paused":true}}`); err != nil {
		return pod, err
	}
	return pod, within(ctx, recovery, func(context.Context) error {
		pids, err := testbed.Processes(pod, "")
		if err == nil && len(pids) == 0 {
			err = testbed.ErrNoProcess
		}
		return err
	})
}

// told is the event of that reason whose note begins so.
func (s *soak) told(ctx context.Context, c testbed.Cluster, reason, note string) (string, error) {
	var events eventsv1.EventList
	if err := s.Kube.List(ctx, &events, client.InNamespace(c.Namespace)); err != nil {
		return "", fmt.Errorf("listing events: %w", err)
	}
	for _, e := range events.Items {
		if e.Regarding.Name == c.Name && e.Reason == reason && strings.HasPrefix(e.Note, note) {
			return e.Note, nil
		}
	}
	return "", fmt.Errorf("no event %s of %s says %q", reason, c.Name, note)
}

// hungFor is longer than the operator's Lease lasts, and shorter than its liveness probe
// takes to have it killed.
const hungFor = 25 * time.Second

// hangOperator: the replica that works stops in the middle of a change of size, another
// one takes over, and then the first goes on with what it was about.
func hangOperator(ctx context.Context, s *soak, x *subject) (string, error) {
	w, err := s.working(ctx)
	if err != nil {
		return "", err
	}
	s.later(func(ctx context.Context) error { return x.Edit(ctx, fmt.Sprintf(`{"spec":{"size":%d}}`, x.size)) })
	size := otherSizes(s.random, x.size)[0]
	d := time.Duration(s.random.IntN(4000)) * time.Millisecond
	if err := x.Edit(ctx, fmt.Sprintf(`{"spec":{"size":%d}}`, size)); err != nil {
		return "", err
	}
	if err := pause(ctx, d); err != nil {
		return "", err
	}
	s.watch.excuse()
	if err := testbed.Signal(w.pod, "/operator", syscall.SIGSTOP); err != nil {
		return "", err
	}
	err = pause(ctx, hungFor)
	goesOn := testbed.Signal(w.pod, "/operator", syscall.SIGCONT)
	if errors.Is(goesOn, testbed.ErrNoProcess) {
		// It was killed meanwhile, and the kubelet has started another one.
		goesOn = nil
	}
	if err := errors.Join(err, goesOn); err != nil {
		return "", err
	}
	return fmt.Sprintf("%s for %s, %s after the size became %d", w.pod.Name, hungFor, d, size), s.heals(ctx, x.Cluster)
}
