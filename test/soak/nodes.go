package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/test/soak/testbed"
)

// What config/default installs.
const (
	operatorNamespace = "quorate-system"
	operatorName      = "quorate-operator"
)

// nodes chooses some that run members of the cluster.
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
	return choice(s.random, slices.Compact(out), n), pods, nil
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
	now := int64(0)
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: x.Namespace, Name: who[0]}}
	if err := s.Kube.Delete(ctx, pod, &client.DeleteOptions{GracePeriodSeconds: &now}); err != nil {
		return "", fmt.Errorf("forcing the deletion of %s: %w", who[0], err)
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
	nodes, pods, err := s.nodes(ctx, x, 1)
	if err != nil {
		return "", err
	}
	who := membersOn(nodes[0], pods)
	how, harm := "cut off", s.cut
	if s.random.IntN(2) == 0 {
		how, harm = "without power", s.power
	}
	if err := harm(ctx, nodes[0]); err != nil {
		return "", err
	}
	return fmt.Sprintf("%s %s: %s", nodes[0], how, list(who)), s.replaced(ctx, x, who...)
}

// killOperator kills the operator's working replica in the middle of something.
func killOperator(of func(context.Context, *soak, *subject) (string, error)) func(context.Context, *soak, *subject) (string, error) {
	return func(ctx context.Context, s *soak, x *subject) (string, error) {
		done := make(chan error, 1)
		d := time.Duration(s.random.IntN(6000)) * time.Millisecond
		var note string
		go func() {
			var err error
			note, err = of(ctx, s, x)
			done <- err
		}()
		err := pause(ctx, d)
		if err == nil {
			err = s.killLeader(ctx)
		}
		return fmt.Sprintf("after %s", d) + "; " + note, errors.Join(err, <-done)
	}
}

func (s *soak) killLeader(ctx context.Context) error {
	lease := &coordinationv1.Lease{}
	if err := s.Kube.Get(ctx, client.ObjectKey{Namespace: operatorNamespace, Name: operatorName}, lease); err != nil {
		return fmt.Errorf("reading the operator's Lease: %w", err)
	}
	if lease.Spec.HolderIdentity == nil {
		return errors.New("nobody holds the operator's Lease")
	}
	name, _, _ := strings.Cut(*lease.Spec.HolderIdentity, "_")
	pod := &corev1.Pod{}
	if err := s.Kube.Get(ctx, client.ObjectKey{Namespace: operatorNamespace, Name: name}, pod); err != nil {
		return fmt.Errorf("reading the operator's pod %s: %w", name, err)
	}
	s.watch.operatorKilled()
	return testbed.Signal(*pod, "/operator", syscall.SIGKILL)
}
