package controllers

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/priorityqueue"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/quorate/quorate/api/v1alpha1"
)

// TestUnwellClustersComeFirst: when the operator starts, the first list names all
// clusters to both handlers, in any order.
func TestUnwellClustersComeFirst(t *testing.T) {
	queue := priorityqueue.New[reconcile.Request]("test")
	defer queue.ShutDown()
	ready := func(name string, is metav1.ConditionStatus) *v1alpha1.EtcdCluster {
		c := &v1alpha1.EtcdCluster{ObjectMeta: metav1.ObjectMeta{Name: name}}
		if is != "" {
			c.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionReady, Status: is}}
		}
		return c
	}
	for _, c := range []*v1alpha1.EtcdCluster{
		ready("well-1", metav1.ConditionTrue), ready("degraded", metav1.ConditionFalse), ready("well-2", metav1.ConditionTrue),
		ready("lost", metav1.ConditionUnknown), ready("new", ""), ready("well-3", metav1.ConditionTrue),
	} {
		first := event.CreateEvent{Object: c, IsInInitialList: true}
		(&handler.EnqueueRequestForObject{}).Create(t.Context(), first, queue)
		unwellFirst().Create(t.Context(), first, queue)
	}
	var order []string
	for range 6 {
		r, _, _ := queue.GetWithPriority()
		order = append(order, r.Name)
		queue.Done(r)
	}
	if diff := cmp.Diff([]string{"degraded", "lost", "new", "well-1", "well-2", "well-3"}, order); diff != "" {
		t.Error(diff)
	}
}

// TestCachedPods: a pod in the cache has all that is read of it.
func TestCachedPods(t *testing.T) {
	pod := func() *corev1.Pod {
		return &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: "a-0000", UID: "u", Annotations: map[string]string{"k": "v"}, ManagedFields: []metav1.ManagedFieldsEntry{{}}},
			Spec: corev1.PodSpec{
				NodeName: "n1", SchedulingGates: []corev1.PodSchedulingGate{{Name: "g"}},
				Volumes:    []corev1.Volume{{Name: "data"}},
				Containers: []corev1.Container{{Name: "etcd", Image: "etcd:v1", Command: []string{"long", "--listen-client-urls=https://0.0.0.0:2379"}, Env: []corev1.EnvVar{{Name: "E"}}}},
			},
			Status: corev1.PodStatus{PodIP: "10.0.0.1", ContainerStatuses: []corev1.ContainerStatus{{Name: "etcd", RestartCount: 1}}},
		}
	}
	want := pod()
	want.ManagedFields = nil
	want.Spec.Volumes = nil
	want.Spec.Containers = []corev1.Container{{Name: "etcd", Image: "etcd:v1", Command: []string{"--listen-client-urls=https://0.0.0.0:2379"}}}
	for kind, by := range Watched() {
		if _, pods := kind.(*corev1.Pod); !pods {
			continue
		}
		got, err := by.Transform(pod())
		if diff := cmp.Diff(client.Object(want), got); err != nil || diff != "" {
			t.Errorf("%v, %s", err, diff)
		}
	}
	// The cache hands over what it deleted without having seen it, too.
	if got, err := slimPod("gone"); err != nil || got != "gone" {
		t.Errorf("%v, %v", got, err)
	}
}
