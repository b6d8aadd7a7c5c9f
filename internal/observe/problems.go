package observe

import (
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/plan"
	"github.com/quorate/quorate/internal/resources"
	"github.com/quorate/quorate/internal/snapshot"
)

// crashMemory is longer than the kubelet's longest pause between two tries, five
// minutes, and the time that a try takes.
const crashMemory = 10 * time.Minute

// problems are what the pods complain of, in the API's own words. What became of
// the pod of a removed member is nobody's problem.
func (k *kubernetes) problems(seen plan.Observed) []plan.Problem {
	var out []plan.Problem
	for i := range k.pods {
		m, known := seen.Member(k.pods[i].Name)
		if !known || seen.Removed(m) {
			continue
		}
		if p, found := podProblem(&k.pods[i], k.now); found {
			out = append(out, p)
		}
	}
	return out
}

func podProblem(pod *corev1.Pod, now time.Time) (plan.Problem, bool) {
	if !pod.DeletionTimestamp.IsZero() {
		return plan.Problem{}, false
	}
	if text := unscheduled(pod); text != "" {
		// A cluster autoscaler may help; so this is not for the user yet.
		return plan.Problem{Reason: v1alpha1.ReasonMemberUnschedulable, Message: fmt.Sprintf(
			"pod %s cannot be scheduled: %s — the member does not run until a node takes it, and nothing is lost meanwhile — make room on a node or add one, or change what spec.podTemplate asks of nodes", pod.Name, text)}, true
	}
	if pod.Status.Phase == corev1.PodFailed {
		return plan.Problem{Reason: v1alpha1.ReasonMemberPodRejected, Message: fmt.Sprintf(
			"pod %s has ended: %s %s — the member does not run — it is made again after some seconds; if that goes on, mend what the kubelet names",
			pod.Name, pod.Status.Reason, firstLine(pod.Status.Message))}, true
	}
	if text := resizing(pod); strings.HasPrefix(text, corev1.PodReasonInfeasible) {
		return plan.Problem{Reason: v1alpha1.ReasonResizeInfeasible, Severity: plan.Stalling, Message: fmt.Sprintf(
			"pod %s cannot be given the CPU and memory of the spec on its node: %s — it goes on with what it has, and no other pod is changed — ask for less in spec.podTemplate.resources, or drain the node so that the pod is made elsewhere", pod.Name, text)}, true
	}
	for _, status := range containers(pod) {
		if p, found := containerProblem(pod, status, now); found {
			return p, true
		}
	}
	return plan.Problem{}, false
}

func containers(pod *corev1.Pod) []corev1.ContainerStatus {
	return append(append([]corev1.ContainerStatus{}, pod.Status.InitContainerStatuses...), pod.Status.ContainerStatuses...)
}

func containerProblem(pod *corev1.Pod, status corev1.ContainerStatus, now time.Time) (plan.Problem, bool) {
	waiting := status.State.Waiting
	if waiting == nil {
		// Between two crashes the container runs for a moment; saying that all
		// is well then would make the conditions flap. A crash of long ago has
		// nothing to do with a member that is not ready now.
		if status.RestartCount > crashes(status) && !status.Ready && recentlyEnded(status, now) {
			return crashProblem(pod, status)
		}
		return plan.Problem{}, false
	}
	problem := plan.Problem{Severity: plan.Stalling}
	switch waiting.Reason {
	case "ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable":
		problem.Reason = v1alpha1.ReasonImagePullFailed
		problem.Message = fmt.Sprintf("image %s of pod %s cannot be pulled: %s — the member does not run without it — correct spec.version or spec.image, or make the image available",
			status.Image, pod.Name, firstLine(waiting.Message))
	case "CrashLoopBackOff":
		return crashProblem(pod, status)
	case "CreateContainerConfigError", "CreateContainerError", "RunContainerError":
		problem.Reason = v1alpha1.ReasonMemberPodRejected
		problem.Message = fmt.Sprintf("container %s of pod %s cannot be made: %s — the member does not run without it — correct what it names",
			status.Name, pod.Name, firstLine(waiting.Message))
	default:
		return plan.Problem{}, false
	}
	return problem, true
}

// crashes is how many of them are borne before anything is told between two tries. Whoever
// fills a volume says itself why it ended.
func crashes(status corev1.ContainerStatus) int32 {
	if status.Name == resources.RestoreContainer {
		return 0
	}
	return 1
}

// recentlyEnded says that the container last ended within crashMemory.
func recentlyEnded(status corev1.ContainerStatus, now time.Time) bool {
	ended := status.LastTerminationState.Terminated
	return ended != nil && now.Sub(ended.FinishedAt.Time) < crashMemory
}

func crashProblem(pod *corev1.Pod, status corev1.ContainerStatus) (plan.Problem, bool) {
	ended := status.LastTerminationState.Terminated
	if ended == nil || ended.ExitCode == 0 || refusal(pod) != "" {
		// A refusal of the guard is a loss of data, and told as one.
		return plan.Problem{}, false
	}
	if result, err := snapshot.ParseResult(ended.Message); err == nil && status.Name == resources.RestoreContainer {
		return plan.Problem{Reason: v1alpha1.ReasonRestoreBlocked, Severity: plan.Stalling, Message: result.Message + "; it is tried again by itself"}, true
	}
	if ended.Reason == "OOMKilled" {
		return plan.Problem{Reason: v1alpha1.ReasonMemberOOM, Severity: plan.Stalling, Message: fmt.Sprintf(
			"container %s of pod %s was killed for using more memory than its limit — the member cannot serve — raise spec.podTemplate.resources.limits.memory", status.Name, pod.Name)}, true
	}
	return plan.Problem{Reason: v1alpha1.ReasonMemberCrashLooping, Severity: plan.Stalling, Message: fmt.Sprintf(
		"container %s of pod %s ended %d times, the last time with code %d: %s — the member cannot serve — correct spec.etcd, or look at kubectl logs %s -c %s --previous",
		status.Name, pod.Name, status.RestartCount, ended.ExitCode, lastLine(ended.Message), pod.Name, status.Name)}, true
}

func unscheduled(pod *corev1.Pod) string {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse && c.Reason == corev1.PodReasonUnschedulable {
			return c.Message
		}
	}
	return ""
}

// waitingText says in a line why etcd does not run in the pod; empty when it
// does.
func waitingText(pod *corev1.Pod) string {
	if !pod.DeletionTimestamp.IsZero() {
		return "its pod is being deleted"
	}
	if pod.Status.Phase == corev1.PodFailed || pod.Status.Phase == corev1.PodSucceeded {
		return "its pod has ended: " + pod.Status.Reason + " " + firstLine(pod.Status.Message)
	}
	if text := unscheduled(pod); text != "" {
		return "its pod cannot be scheduled: " + text
	}
	for _, status := range containers(pod) {
		if waiting := status.State.Waiting; waiting != nil && waiting.Reason != "PodInitializing" {
			return "container " + status.Name + " waits: " + waiting.Reason
		}
	}
	if pod.Status.Phase == corev1.PodPending {
		return "its pod is starting"
	}
	return ""
}
