package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/yaml"

	"github.com/quorate/quorate/api/v1alpha1"
)

const (
	operatorNamespace = "quorate-system"
	operatorUser      = "system:serviceaccount:quorate-system:quorate-operator"
	// perNamespace clusters live together.
	perNamespace = 10
	nodeCount    = 3
)

// world is Kubernetes as far as the operator can tell.
type world struct {
	options            *options
	environment        *envtest.Environment
	config             *rest.Config
	c                  client.WithWatch
	operatorKubeconfig string
	audit              *audit
	fleet              *fleet

	stopKubelet context.CancelFunc
	kubelets    sync.WaitGroup
}

func newWorld(ctx context.Context, o *options) (*world, error) {
	w := &world{options: o, fleet: newFleet(o.plaintext), audit: &audit{log: filepath.Join(o.workDir, "audit.log")}}
	ok := false
	defer func() {
		if !ok {
			w.stop()
		}
	}()
	if err := w.startAPIServer(); err != nil {
		return nil, err
	}
	for _, do := range []func(context.Context) error{w.createNodes, w.admitOperator, w.startKubelet} {
		if err := do(ctx); err != nil {
			return nil, err
		}
	}
	ok = true
	return w, nil
}

// startAPIServer starts etcd and kube-apiserver. Every cluster has a Service
// with an address of its own, for which envtest's range is too small, and every
// request of the operator is logged.
func (w *world) startAPIServer() error {
	assets := os.Getenv("KUBEBUILDER_ASSETS")
	if assets == "" {
		assets = filepath.Join(".cluster", "bin")
	}
	policy := filepath.Join(w.options.workDir, "audit-policy.yaml")
	if err := os.WriteFile(policy, []byte(auditPolicy), 0o600); err != nil {
		return fmt.Errorf("writing the audit policy: %w", err)
	}
	w.environment = &envtest.Environment{
		BinaryAssetsDirectory: assets,
		CRDDirectoryPaths:     []string{filepath.Join("config", "crd", "bases")},
		ErrorIfCRDPathMissing: true,
	}
	w.environment.ControlPlane.GetAPIServer().Configure().
		Set("service-cluster-ip-range", "10.0.0.0/16").
		Set("audit-policy-file", policy).
		Set("audit-log-path", w.audit.log).
		Set("audit-log-maxsize", "8192")
	config, err := w.environment.Start()
	if err != nil {
		return fmt.Errorf("starting the API server from %s (run from the top of the tree, after make setup-assets): %w", assets, err)
	}
	config.QPS = -1
	config.WarningHandler = rest.NoWarnings{}
	w.config = config
	scheme := runtime.NewScheme()
	utilruntime.Must(clientgoscheme.AddToScheme(scheme))
	utilruntime.Must(v1alpha1.AddToScheme(scheme))
	if w.c, err = client.NewWithWatch(config, client.Options{Scheme: scheme}); err != nil {
		return fmt.Errorf("making a client: %w", err)
	}
	return nil
}

// admitOperator lets the operator in as a service account, with the rights that
// it is installed with, so that the API server serves it as it does in a real
// cluster.
func (w *world) admitOperator(ctx context.Context) error {
	role := &rbacv1.ClusterRole{}
	raw, err := os.ReadFile(filepath.Join("config", "rbac", "generated", "role.yaml"))
	if err == nil {
		err = yaml.Unmarshal(raw, role)
	}
	if err != nil {
		return fmt.Errorf("reading the operator's role: %w", err)
	}
	subject := []rbacv1.Subject{{Kind: rbacv1.UserKind, APIGroup: rbacv1.GroupName, Name: operatorUser}}
	leases := []rbacv1.PolicyRule{
		{APIGroups: []string{"coordination.k8s.io"}, Resources: []string{"leases"}, Verbs: []string{"create", "get", "update", "patch"}},
		{APIGroups: []string{"", "events.k8s.io"}, Resources: []string{"events"}, Verbs: []string{"create", "patch"}},
	}
	inNamespace := metav1.ObjectMeta{Name: "quorate-leader-election", Namespace: operatorNamespace}
	for _, o := range []client.Object{
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: operatorNamespace}},
		role,
		&rbacv1.ClusterRoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: role.Name}, Subjects: subject,
			RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role.Name},
		},
		&rbacv1.Role{ObjectMeta: inNamespace, Rules: leases},
		&rbacv1.RoleBinding{
			ObjectMeta: inNamespace, Subjects: subject,
			RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: inNamespace.Name},
		},
	} {
		if err := w.c.Create(ctx, o); err != nil {
			return fmt.Errorf("creating %T %s: %w", o, o.GetName(), err)
		}
	}
	user, err := w.environment.AddUser(envtest.User{Name: operatorUser, Groups: []string{"system:serviceaccounts", "system:serviceaccounts:" + operatorNamespace}}, nil)
	if err != nil {
		return fmt.Errorf("making the operator's user: %w", err)
	}
	text, err := user.KubeConfig()
	if err != nil {
		return fmt.Errorf("making the operator's kubeconfig: %w", err)
	}
	w.operatorKubeconfig = filepath.Join(w.options.workDir, "kubeconfig")
	if err := os.WriteFile(w.operatorKubeconfig, text, 0o600); err != nil {
		return fmt.Errorf("writing the operator's kubeconfig: %w", err)
	}
	return nil
}

func (w *world) createNodes(ctx context.Context) error {
	for i := range nodeCount {
		node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("node-%d", i)}}
		if err := w.c.Create(ctx, node); err != nil {
			return fmt.Errorf("creating node %s: %w", node.Name, err)
		}
		node.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, LastHeartbeatTime: metav1.Now()}}
		if err := w.c.Status().Update(ctx, node); err != nil {
			return fmt.Errorf("making node %s ready: %w", node.Name, err)
		}
	}
	return nil
}

// createClusters asks for all of them, with nothing but defaults.
func (w *world) createClusters(ctx context.Context) error {
	for i := range w.options.clusters {
		namespace := fmt.Sprintf("team-%03d", i/perNamespace)
		if i%perNamespace == 0 {
			if err := w.c.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}); err != nil {
				return fmt.Errorf("creating namespace %s: %w", namespace, err)
			}
		}
		if err := w.c.Create(ctx, w.cluster(namespace, fmt.Sprintf("etcd-%04d", i))); err != nil {
			return fmt.Errorf("creating cluster %d: %w", i, err)
		}
	}
	return nil
}

func (w *world) cluster(namespace, name string) *v1alpha1.EtcdCluster {
	c := &v1alpha1.EtcdCluster{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace}}
	c.Spec.Size = 3
	c.Spec.Version = "3.6.16"
	c.Spec.Storage.Size = resource.MustParse("8Gi")
	c.Spec.Etcd.QuotaBackendBytes = resource.MustParse("2Gi")
	c.Spec.Etcd.MaxRequestBytes = resource.MustParse("1536Ki")
	c.Spec.TLS.LeafDuration = metav1.Duration{Duration: 90 * 24 * time.Hour}
	c.Spec.Failover.ReplaceAfter = metav1.Duration{Duration: 5 * time.Minute}
	c.Spec.Failover.LearnerTimeout = metav1.Duration{Duration: 15 * time.Minute}
	if w.options.plaintext {
		c.Spec.TLS.Mode = v1alpha1.TLSDisabled
	}
	return c
}

// ready counts the clusters of which the operator says that all is well.
func (w *world) ready(ctx context.Context) (int, error) {
	var list v1alpha1.EtcdClusterList
	if err := w.c.List(ctx, &list); err != nil {
		return 0, fmt.Errorf("listing clusters: %w", err)
	}
	n := 0
	for i := range list.Items {
		s := &list.Items[i].Status
		if meta.IsStatusConditionTrue(s.Conditions, v1alpha1.ConditionReady) && s.MembersSummary == "3/3" {
			n++
		}
	}
	return n, nil
}

// stop ends everything that was started.
func (w *world) stop() {
	if w.stopKubelet != nil {
		w.stopKubelet()
		w.kubelets.Wait()
	}
	w.fleet.stop()
	if err := w.environment.Stop(); err != nil {
		fmt.Fprintln(os.Stderr, "scale: stopping the API server:", err)
	}
}
