package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/api/v1alpha1"
)

// nodes chooses some that run members of the cluster; not the one with the operator's
// working replica when that is to be killed while the others are away.
func (s *soak) nodes(ctx context.Context, x *subject, n int) ([]string, map[string]corev1.Pod, error) {
	pods, err := x.Pods(ctx)
	if err != nil {
		return nil, nil, err
	}
	var out []string
	for _, pod := range pods {
		out = append(out, pod.Spec.NodeName)
	}
	slices.Sort(out)
	out = slices.Compact(out)
	if s.strike != nil {
		w, err := s.working(ctx)
		if err != nil {
			return nil, nil, err
		}
		spared := slices.DeleteFunc(slices.Clone(out), func(node string) bool { return node == w.pod.Spec.NodeName })
		if len(spared) >= n {
			out = spared
		}
	}
	return choice(s.random, out, n), pods, nil
}

// cut cuts a node off until it is mended.
func (s *soak) cut(ctx context.Context, node string) error {
	s.later(func(ctx context.Context) error {
		_, err := s.Machine(ctx, "heal", node)
		return errors.Join(err, s.nodeIs(ctx, node, corev1.ConditionTrue))
	})
	_, err := s.Machine(ctx, "partition", node)
	return err
}

// power takes a node's power until it is mended.
func (s *soak) power(ctx context.Context, node string) error {
	s.later(func(ctx context.Context) error {
		_, err := s.Machine(ctx, "start-node", node)
		return errors.Join(err, s.nodeIs(ctx, node, corev1.ConditionTrue))
	})
	_, err := s.Machine(ctx, "kill-node", node)
	return err
}

// nodeIs waits until Kubernetes holds a node for Ready, or for unknown.
func (s *soak) nodeIs(ctx context.Context, name string, is corev1.ConditionStatus) error {
	return within(ctx, recovery, func(ctx context.Context) error {
		node := &corev1.Node{}
		if err := s.Kube.Get(ctx, client.ObjectKey{Name: name}, node); err != nil {
			return fmt.Errorf("reading node %s: %w", name, err)
		}
		for _, c := range node.Status.Conditions {
			if c.Type == corev1.NodeReady && c.Status != is {
				return fmt.Errorf("node %s is Ready=%s: %s", name, c.Status, c.Message)
			}
		}
		return nil
	})
}

// cutNode: nobody is replaced when the node is back in time.
func cutNode(ctx context.Context, s *soak, x *subject) (string, error) {
	nodes, _, err := s.nodes(ctx, x, 1)
	if err != nil {
		return "", err
	}
	d := time.Duration(5+s.random.IntN(40)) * time.Second
	if err := s.cut(ctx, nodes[0]); err != nil {
		return "", err
	}
	return fmt.Sprintf("%s for %s", nodes[0], d), pause(ctx, d)
}

// forceDelete: no second pod is made for a process that may still run.
func forceDelete(ctx context.Context, s *soak, x *subject) (string, error) {
	nodes, pods, err := s.nodes(ctx, x, 1)
	if err != nil {
		return "", err
	}
	who := membersOn(nodes[0], pods)
	if err := s.cut(ctx, nodes[0]); err != nil {
		return "", err
	}
	if err := s.nodeIs(ctx, nodes[0], corev1.ConditionUnknown); err != nil {
		return "", err
	}
	if err := s.forceDelete(ctx, x, who[0]); err != nil {
		return "", err
	}
	if err := pause(ctx, 10*time.Second); err != nil {
		return "", err
	}
	after, err := x.Pods(ctx)
	if _, again := after[who[0]]; again {
		err = fmt.Errorf("pod %s was made again while its process may still run on %s", who[0], nodes[0])
	}
	return who[0] + " on " + nodes[0], err
}

// forceDelete deletes a pod without asking its kubelet.
func (s *soak) forceDelete(ctx context.Context, x *subject, member string) error {
	now := int64(0)
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: x.Namespace, Name: member}}
	if err := s.Kube.Delete(ctx, pod, &client.DeleteOptions{GracePeriodSeconds: &now}); err != nil {
		return fmt.Errorf("forcing the deletion of %s: %w", member, err)
	}
	return nil
}

// membersOn are the pods that run on a node, by name and in order.
func membersOn(node string, pods map[string]corev1.Pod) []string {
	var who []string
	for name, pod := range pods {
		if pod.Spec.NodeName == node {
			who = append(who, name)
		}
	}
	slices.Sort(who)
	return who
}

// cutTwo: with two nodes away nobody is replaced.
func cutTwo(ctx context.Context, s *soak, x *subject) (string, error) {
	nodes, _, err := s.nodes(ctx, x, 2)
	if err != nil {
		return "", err
	}
	for _, n := range nodes {
		if err := s.cut(ctx, n); err != nil {
			return "", err
		}
	}
	for _, n := range nodes {
		if err := s.nodeIs(ctx, n, corev1.ConditionUnknown); err != nil {
			return "", err
		}
	}
	return list(nodes), pause(ctx, time.Duration(5+s.random.IntN(20))*time.Second)
}

func restartNode(ctx context.Context, s *soak, x *subject) (string, error) {
	nodes, _, err := s.nodes(ctx, x, 1)
	if err != nil {
		return "", err
	}
	d := time.Duration(s.random.IntN(25)) * time.Second
	if err := s.power(ctx, nodes[0]); err != nil {
		return "", err
	}
	return fmt.Sprintf("%s for %s", nodes[0], d), pause(ctx, d)
}

// loseNode waits until the members on a node, with or without power, have been
// replaced; the node comes back afterwards, and so do processes that it ran.
func loseNode(ctx context.Context, s *soak, x *subject) (string, error) {
	node, who, _, err := s.spareNode(ctx, x)
	if err != nil {
		return "", err
	}
	how, harm := "cut off", s.cut
	if s.random.IntN(2) == 0 {
		how, harm = "without power", s.power
	}
	if err := harm(ctx, node); err != nil {
		return "", err
	}
	return fmt.Sprintf("%s %s: %s", node, how, list(who)), s.replaced(ctx, x, who...)
}

// drainTwo empties two nodes of the cluster's pods at once, as their administrator does:
// the budget lets one go after the other.
func drainTwo(ctx context.Context, s *soak, _ *subject) (string, error) {
	// Its volumes can be used on every node; the pods of others are spared.
	x := s.subjects[len(s.subjects)-1]
	nodes, _, err := s.nodes(ctx, x, 2)
	if err != nil {
		return "", err
	}
	kubectl := filepath.Join(s.Root, ".cluster", "bin", "kubectl")
	s.later(func(ctx context.Context) error {
		_, err := s.Run(ctx, kubectl, append([]string{"uncordon"}, nodes...)...)
		return errors.Join(err, s.spread(ctx, x))
	})
	done := make(chan error, len(nodes))
	for _, node := range nodes {
		go func() {
			_, err := s.Run(ctx, kubectl, "drain", node, "--pod-selector="+v1alpha1.LabelCluster+"="+x.Name,
				"--ignore-daemonsets", "--delete-emptydir-data", "--timeout="+recovery.String())
			done <- err
		}()
	}
	s.strike.begin(ctx, x.Cluster)
	for range nodes {
		err = errors.Join(err, <-done)
	}
	if err != nil {
		return "", err
	}
	pods, err := x.Pods(ctx)
	for _, node := range nodes {
		if left := membersOn(node, pods); len(left) > 0 {
			err = errors.Join(err, fmt.Errorf("%s are still on the drained node %s", list(left), node))
		}
	}
	return list(nodes), err
}

// spread evicts members until no node has more than two: the loss of one would be the
// loss of the quorum.
func (s *soak) spread(ctx context.Context, x *subject) error {
	return within(ctx, recovery, func(ctx context.Context) error {
		if err := x.Healthy(ctx); err != nil {
			return err
		}
		pods, err := x.Pods(ctx)
		if err != nil {
			return err
		}
		for _, pod := range pods {
			if crowd := membersOn(pod.Spec.NodeName, pods); len(crowd) > 2 {
				return errors.Join(s.evict(ctx, x, crowd[0]), fmt.Errorf("%d members run on %s", len(crowd), pod.Spec.NodeName))
			}
		}
		return nil
	})
}
