package main

import (
	"context"
	"fmt"
	"hash/fnv"
	"net"
	"strconv"
	"strings"
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/etcd/etcdtest"
	guard "github.com/quorate/quorate/internal/member"
	"github.com/quorate/quorate/internal/pki"
	"github.com/quorate/quorate/internal/resources"
)

// kubeletWorkers play all kubelets, the scheduler and the provisioner.
const kubeletWorkers = 8

// job is an object that has changed.
type job struct {
	claim bool
	key   client.ObjectKey
}

// kubelet gives claims volumes, pods nodes and addresses, and members life.
type kubelet struct {
	w       *world
	objects cache.Cache
	queue   workqueue.TypedRateLimitingInterface[job]
	// addresses that were given away.
	addresses atomic.Uint32
}

func (w *world) startKubelet(ctx context.Context) error {
	ctx, w.stopKubelet = context.WithCancel(ctx)
	objects, err := cache.New(w.config, cache.Options{Scheme: w.c.Scheme()})
	if err != nil {
		return fmt.Errorf("making the kubelet's cache: %w", err)
	}
	k := &kubelet{w: w, objects: objects, queue: workqueue.NewTypedRateLimitingQueue(workqueue.DefaultTypedControllerRateLimiter[job]())}
	w.fleet.onChange = func(m *member) { k.queue.Add(job{key: client.ObjectKey{Namespace: m.namespace, Name: m.name}}) }
	for _, kind := range []client.Object{&corev1.Pod{}, &corev1.PersistentVolumeClaim{}} {
		informer, err := objects.GetInformer(ctx, kind, cache.BlockUntilSynced(false))
		if err != nil {
			return fmt.Errorf("watching as the kubelet: %w", err)
		}
		_, claims := kind.(*corev1.PersistentVolumeClaim)
		add := func(o any) {
			if o, ok := o.(client.Object); ok {
				k.queue.Add(job{claim: claims, key: client.ObjectKeyFromObject(o)})
			}
		}
		if _, err := informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{AddFunc: add, UpdateFunc: func(_, o any) { add(o) }}); err != nil {
			return fmt.Errorf("watching as the kubelet: %w", err)
		}
	}
	w.kubelets.Go(func() { _ = objects.Start(ctx) })
	w.kubelets.Go(func() { <-ctx.Done(); k.queue.ShutDown() })
	for range kubeletWorkers {
		w.kubelets.Go(func() { k.work(ctx) })
	}
	return nil
}

func (k *kubelet) work(ctx context.Context) {
	for {
		j, over := k.queue.Get()
		if over {
			return
		}
		err := k.sync(ctx, j)
		switch {
		case err == nil:
			k.queue.Forget(j)
		case ctx.Err() == nil:
			if !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) {
				say("kubelet: %s: %v", j.key, err)
			}
			k.queue.AddRateLimited(j)
		}
		k.queue.Done(j)
	}
}

func (k *kubelet) sync(ctx context.Context, j job) error {
	if j.claim {
		return k.bind(ctx, j.key)
	}
	pod := &corev1.Pod{}
	if err := k.objects.Get(ctx, j.key, pod); err != nil || !pod.DeletionTimestamp.IsZero() {
		return client.IgnoreNotFound(err)
	}
	if pod.Spec.NodeName == "" {
		return k.schedule(ctx, pod)
	}
	m, err := k.start(ctx, pod)
	if err != nil || m == nil {
		return err
	}
	return k.report(ctx, pod, m)
}

// bind gives a claim its volume, as a provisioner does.
func (k *kubelet) bind(ctx context.Context, key client.ObjectKey) error {
	claim := &corev1.PersistentVolumeClaim{}
	if err := k.objects.Get(ctx, key, claim); err != nil || claim.Status.Phase == corev1.ClaimBound {
		return client.IgnoreNotFound(err)
	}
	if claim.Spec.VolumeName == "" {
		claim.Spec.VolumeName = "pvc-" + string(claim.UID)
		return k.w.c.Update(ctx, claim)
	}
	claim.Status.Phase = corev1.ClaimBound
	claim.Status.AccessModes = claim.Spec.AccessModes
	claim.Status.Capacity = claim.Spec.Resources.Requests
	return k.w.c.Status().Update(ctx, claim)
}

// schedule by a hash, so that the members of a cluster land anywhere.
func (k *kubelet) schedule(ctx context.Context, pod *corev1.Pod) error {
	h := fnv.New32()
	fmt.Fprint(h, pod.UID)
	return k.w.c.SubResource("binding").Create(ctx, pod, &corev1.Binding{
		Target: corev1.ObjectReference{Kind: "Node", Name: fmt.Sprintf("node-%d", h.Sum32()%nodeCount)},
	})
}

// start runs the pod's etcd unless it runs; without a volume or a Secret it
// waits.
func (k *kubelet) start(ctx context.Context, pod *corev1.Pod) (*member, error) {
	if m := k.w.fleet.of(client.ObjectKeyFromObject(pod)); m != nil {
		return m, nil
	}
	claim := &corev1.PersistentVolumeClaim{}
	if err := k.objects.Get(ctx, client.ObjectKey{Namespace: pod.Namespace, Name: resources.ClaimName(pod.Name)}, claim); err != nil {
		return nil, err
	}
	if claim.Status.Phase != corev1.ClaimBound {
		return nil, fmt.Errorf("claim %s is not bound yet", claim.Name)
	}
	var secret map[string][]byte
	if !k.w.options.plaintext {
		live := &corev1.Secret{}
		if err := k.w.c.Get(ctx, client.ObjectKey{Namespace: pod.Namespace, Name: pki.MemberSecret(pod.Name)}, live); err != nil {
			return nil, err
		}
		secret = live.Data
	}
	return k.w.fleet.start(boot{
		cluster: pod.Labels[v1alpha1.LabelClusterUID], namespace: pod.Namespace, node: pod.Spec.NodeName,
		volume: claim.Spec.VolumeName, address: net.JoinHostPort(k.address(), strconv.Itoa(resources.ClientPort)),
		flags: flagsOf(pod), secret: secret,
	})
}

// address is the next one of 127.64.0.0/10, where nobody else listens.
func (k *kubelet) address() string {
	n := k.addresses.Add(1)
	return fmt.Sprintf("127.%d.%d.%d", 64+n/(250*250), n/250%250, 1+n%250)
}

// flagsOf etcd in the pod, with the orders that the guard takes from the pod's
// annotations.
func flagsOf(pod *corev1.Pod) etcdtest.Flags {
	flag := func(name string) string {
		for _, word := range pod.Spec.Containers[0].Command {
			if value, ok := strings.CutPrefix(word, "--"+name+"="); ok {
				return value
			}
		}
		return ""
	}
	initial := map[string]string{}
	for entry := range strings.SplitSeq(pod.Annotations[guard.AnnotationInitialCluster], ",") {
		name, url, _ := strings.Cut(entry, "=")
		initial[name] = url
	}
	return etcdtest.Flags{
		Name: flag("name"), PeerURL: flag("initial-advertise-peer-urls"), ClientURL: flag("advertise-client-urls"),
		InitialCluster: initial, State: etcdtest.State(pod.Annotations[guard.AnnotationInitialClusterState]), Token: flag("initial-cluster-token"),
	}
}

// report writes the pod's status when it has changed, with all that a kubelet
// writes, for the operator keeps it in memory.
func (k *kubelet) report(ctx context.Context, pod *corev1.Pod, m *member) error {
	is := corev1.ConditionFalse
	if m.ready() {
		is = corev1.ConditionTrue
	}
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReady && c.Status == is {
			return nil
		}
	}
	host, _, err := net.SplitHostPort(m.address)
	if err != nil {
		return fmt.Errorf("splitting %s: %w", m.address, err)
	}
	now := metav1.Now()
	s := &pod.Status
	s.Phase, s.StartTime, s.ObservedGeneration = corev1.PodRunning, &pod.CreationTimestamp, pod.Generation
	s.HostIP, s.HostIPs = "10.1.0.1", []corev1.HostIP{{IP: "10.1.0.1"}}
	s.PodIP, s.PodIPs = host, []corev1.PodIP{{IP: host}}
	s.QOSClass = corev1.PodQOSBurstable
	s.Conditions = nil
	for _, kind := range []corev1.PodConditionType{"PodReadyToStartContainers", corev1.PodInitialized, corev1.PodReady, corev1.ContainersReady, corev1.PodScheduled} {
		status := corev1.ConditionTrue
		if kind == corev1.PodReady || kind == corev1.ContainersReady {
			status = is
		}
		s.Conditions = append(s.Conditions, corev1.PodCondition{Type: kind, Status: status, LastTransitionTime: now, ObservedGeneration: pod.Generation})
	}
	started := true
	ran := corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{Reason: "Completed", StartedAt: now, FinishedAt: now, ContainerID: containerID(pod, "init")}}
	s.InitContainerStatuses = []corev1.ContainerStatus{{Name: pod.Spec.InitContainers[0].Name, Ready: true, State: ran, Image: pod.Spec.InitContainers[0].Image, ImageID: imageID, ContainerID: containerID(pod, "init")}}
	s.ContainerStatuses = []corev1.ContainerStatus{{
		Name: resources.EtcdContainer, Ready: is == corev1.ConditionTrue, Started: &started, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: now}},
		Image: pod.Spec.Containers[0].Image, ImageID: imageID, ContainerID: containerID(pod, "etcd"),
	}}
	return k.w.c.Status().Update(ctx, pod)
}

const imageID = "quay.io/coreos/etcd@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

func containerID(pod *corev1.Pod, name string) string {
	return fmt.Sprintf("containerd://%064x", string(pod.UID)[:16]+name)
}
