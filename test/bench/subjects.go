package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/pki"
	"github.com/quorate/quorate/test/soak/testbed"
)

// quorate is a cluster by the operator.
type quorate struct {
	c       client.Client
	reached testbed.Cluster
	cluster *v1alpha1.EtcdCluster
}

func newQuorate(bed *testbed.Bed, run int) *quorate {
	return newCluster(bed, fmt.Sprintf("ours%d", run), members)
}

func newCluster(bed *testbed.Bed, name string, size int32) *quorate {
	cluster := &v1alpha1.EtcdCluster{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace}}
	cluster.Spec.Size = size
	cluster.Spec.Version = etcdVersion
	cluster.Spec.Storage.Size = resource.MustParse(volumeSize)
	cluster.Spec.Storage.WhenDeleted = v1alpha1.WhenDeletedDelete
	cluster.Spec.Etcd.QuotaBackendBytes = resource.MustParse(quota)
	cluster.Spec.Etcd.MaxRequestBytes = resource.MustParse("1536Ki")
	cluster.Spec.TLS.LeafDuration = metav1.Duration{Duration: pki.DefaultLeafDuration}
	cluster.Spec.Failover.ReplaceAfter = metav1.Duration{Duration: 5 * time.Minute}
	cluster.Spec.Failover.LearnerTimeout = metav1.Duration{Duration: 15 * time.Minute}
	return &quorate{c: bed.Kube, reached: testbed.Cluster{Bed: bed, Namespace: namespace, Name: name}, cluster: cluster}
}

func (q *quorate) etcd() testbed.Cluster { return q.reached }

func (q *quorate) name() string { return "quorate" }

func (q *quorate) apply(ctx context.Context) error { return q.c.Create(ctx, q.cluster) }

// ready asks the operator and the kubelet: Ready=True with three voters, and
// three ready pods.
func (q *quorate) ready(ctx context.Context) (bool, error) {
	live := &v1alpha1.EtcdCluster{}
	if err := q.c.Get(ctx, client.ObjectKeyFromObject(q.cluster), live); err != nil {
		return false, err
	}
	if !meta.IsStatusConditionTrue(live.Status.Conditions, v1alpha1.ConditionReady) || live.Status.MembersSummary != "3/3" {
		return false, nil
	}
	pods, err := q.pods(ctx)
	return allReady(pods, members), err
}

func (q *quorate) pods(ctx context.Context) ([]corev1.Pod, error) {
	return podsOf(ctx, q.c, client.MatchingLabels{v1alpha1.LabelCluster: q.cluster.Name})
}

func (q *quorate) remove(ctx context.Context) error {
	if err := q.c.Delete(ctx, q.cluster); err != nil {
		return err
	}
	return gone(ctx, q.c, client.MatchingLabels{v1alpha1.LabelCluster: q.cluster.Name})
}

// statefulSet is what a careful user would write by hand: one static list, all
// at once, TLS on every port.
type statefulSet struct {
	c       client.Client
	reached testbed.Cluster
	base    string
}

func newStatefulSet(bed *testbed.Bed, run int) *statefulSet {
	base := fmt.Sprintf("bare%d", run)
	return &statefulSet{c: bed.Kube, reached: testbed.Cluster{Bed: bed, Namespace: namespace, Name: base}, base: base}
}

func (s *statefulSet) etcd() testbed.Cluster { return s.reached }

func (s *statefulSet) name() string { return "statefulset" }

func (s *statefulSet) labels() map[string]string { return map[string]string{"app": s.base} }

func (s *statefulSet) apply(ctx context.Context) error {
	objects := append(s.secrets(), s.service(), s.set())
	for _, o := range objects {
		if err := s.c.Create(ctx, o); err != nil {
			return fmt.Errorf("creating %s: %w", o.GetName(), err)
		}
	}
	return nil
}

func (s *statefulSet) pod(i int) string { return fmt.Sprintf("%s-%d", s.base, i) }

// secrets are made before the clock starts to count for the API server; the
// operator's own are counted, since it has to make them.
func (s *statefulSet) secrets() []client.Object {
	var names []string
	for i := range members {
		names = append(names, s.pod(i))
	}
	made := pki.Plan(time.Now(), pki.Inputs{
		Cluster: s.base, Namespace: namespace, Members: names, Authorities: pki.AuthorityMayBeCreated,
		Secrets: map[string]map[string][]byte{},
	})
	var out []client.Object
	for _, secret := range made.Create {
		out = append(out, &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Name: secret.Name, Namespace: namespace, Labels: s.labels()},
			Type:       secret.Type, Data: secret.Data,
		})
	}
	return out
}

func (s *statefulSet) service() client.Object {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: s.base, Namespace: namespace, Labels: s.labels()},
		Spec: corev1.ServiceSpec{
			ClusterIP: corev1.ClusterIPNone, PublishNotReadyAddresses: true, Selector: s.labels(),
			Ports: []corev1.ServicePort{{Name: "peer", Port: 2380}, {Name: "client", Port: 2379}},
		},
	}
}

func (s *statefulSet) set() client.Object {
	return &appsv1.StatefulSet{
		ObjectMeta: metav1.ObjectMeta{Name: s.base, Namespace: namespace, Labels: s.labels()},
		Spec: appsv1.StatefulSetSpec{
			Replicas: new(int32(members)), ServiceName: s.base, PodManagementPolicy: appsv1.ParallelPodManagement,
			Selector: &metav1.LabelSelector{MatchLabels: s.labels()},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: s.labels()}, Spec: s.podSpec()},
			VolumeClaimTemplates: []corev1.PersistentVolumeClaim{{
				ObjectMeta: metav1.ObjectMeta{Name: "data", Labels: s.labels()},
				Spec: corev1.PersistentVolumeClaimSpec{
					AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
					Resources: corev1.VolumeResourceRequirements{
						Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse(volumeSize)},
					},
				},
			}},
		},
	}
}

func (s *statefulSet) podSpec() corev1.PodSpec {
	spread := corev1.TopologySpreadConstraint{
		MaxSkew: 1, TopologyKey: "kubernetes.io/hostname", WhenUnsatisfiable: corev1.ScheduleAnyway,
		LabelSelector: &metav1.LabelSelector{MatchLabels: s.labels()},
	}
	sources := make([]corev1.VolumeProjection, 0, members)
	for i := range members {
		var items []corev1.KeyToPath
		for _, key := range []string{pki.KeyClientCA, pki.KeyServerCert, pki.KeyServerKey, pki.KeyPeerCA, pki.KeyPeerCert, pki.KeyPeerKey} {
			items = append(items, corev1.KeyToPath{Key: key, Path: s.pod(i) + "/" + key})
		}
		sources = append(sources, corev1.VolumeProjection{Secret: &corev1.SecretProjection{
			LocalObjectReference: corev1.LocalObjectReference{Name: pki.MemberSecret(s.pod(i))}, Items: items,
		}})
	}
	return corev1.PodSpec{
		AutomountServiceAccountToken: new(false),
		SecurityContext: &corev1.PodSecurityContext{
			RunAsNonRoot: new(true), RunAsUser: new(int64(65532)), RunAsGroup: new(int64(65532)), FSGroup: new(int64(65532)),
			FSGroupChangePolicy: new(corev1.FSGroupChangeOnRootMismatch),
		},
		TopologySpreadConstraints: []corev1.TopologySpreadConstraint{spread},
		Containers:                []corev1.Container{s.container()},
		Volumes:                   []corev1.Volume{{Name: "tls", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: sources}}}},
	}
}

func (s *statefulSet) container() corev1.Container {
	host := "https://$(POD_NAME)." + s.base + "." + namespace + ".svc"
	var founders []string
	for i := range members {
		founders = append(founders, fmt.Sprintf("%s=https://%s.%s.%s.svc:2380", s.pod(i), s.pod(i), s.base, namespace))
	}
	tls := "/tls/$(POD_NAME)/"
	return corev1.Container{
		Name: "etcd", Image: "quay.io/coreos/etcd:v" + etcdVersion,
		Env: []corev1.EnvVar{{Name: "POD_NAME", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.name"}}}},
		Command: []string{
			"/usr/local/bin/etcd", "--name=$(POD_NAME)", "--data-dir=/var/lib/etcd/data",
			"--initial-cluster=" + strings.Join(founders, ","), "--initial-cluster-state=new", "--initial-cluster-token=" + s.base,
			"--listen-peer-urls=https://0.0.0.0:2380", "--listen-client-urls=https://0.0.0.0:2379",
			"--initial-advertise-peer-urls=" + host + ":2380", "--advertise-client-urls=" + host + ":2379",
			"--listen-metrics-urls=http://0.0.0.0:2381",
			"--client-cert-auth", "--trusted-ca-file=" + tls + pki.KeyClientCA, "--cert-file=" + tls + pki.KeyServerCert, "--key-file=" + tls + pki.KeyServerKey,
			"--peer-client-cert-auth", "--peer-trusted-ca-file=" + tls + pki.KeyPeerCA, "--peer-cert-file=" + tls + pki.KeyPeerCert, "--peer-key-file=" + tls + pki.KeyPeerKey,
			"--peer-skip-client-san-verification",
		},
		StartupProbe: httpProbe("/livez", 1, 900), LivenessProbe: httpProbe("/livez", 10, 6), ReadinessProbe: httpProbe("/readyz", 1, 3),
		VolumeMounts: []corev1.VolumeMount{{Name: "data", MountPath: "/var/lib/etcd"}, {Name: "tls", MountPath: "/tls"}},
	}
}

func httpProbe(path string, period, failures int32) *corev1.Probe {
	return &corev1.Probe{
		ProbeHandler:  corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: path, Port: intstr.FromInt32(2381)}},
		PeriodSeconds: period, TimeoutSeconds: 5, FailureThreshold: failures,
	}
}

// ready is the kubelet's word: /readyz is answered once the member serves.
func (s *statefulSet) ready(ctx context.Context) (bool, error) {
	pods, err := s.pods(ctx)
	return allReady(pods, members), err
}

func (s *statefulSet) pods(ctx context.Context) ([]corev1.Pod, error) {
	return podsOf(ctx, s.c, client.MatchingLabels(s.labels()))
}

func (s *statefulSet) remove(ctx context.Context) error {
	if err := s.c.Delete(ctx, s.set(), client.PropagationPolicy(metav1.DeletePropagationBackground)); err != nil {
		return err
	}
	if err := s.c.DeleteAllOf(ctx, &corev1.PersistentVolumeClaim{}, client.InNamespace(namespace), client.MatchingLabels(s.labels())); err != nil {
		return err
	}
	return gone(ctx, s.c, client.MatchingLabels(s.labels()))
}

func podsOf(ctx context.Context, c client.Client, labels client.MatchingLabels) ([]corev1.Pod, error) {
	var list corev1.PodList
	err := c.List(ctx, &list, client.InNamespace(namespace), labels)
	return list.Items, err
}

// gone waits until neither pods nor claims are left.
func gone(ctx context.Context, c client.Client, labels client.MatchingLabels) error {
	return until(ctx, func(ctx context.Context) (bool, error) {
		pods, err := podsOf(ctx, c, labels)
		if err != nil || len(pods) > 0 {
			return false, err
		}
		var claims corev1.PersistentVolumeClaimList
		err = c.List(ctx, &claims, client.InNamespace(namespace), labels)
		return len(claims.Items) == 0, err
	})
}

func ignoreExisting(err error) error {
	if apierrors.IsAlreadyExists(err) || apierrors.IsForbidden(err) {
		// The namespace of the last run is on its way out.
		return nil
	}
	return err
}
