package e2e

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/quorate/quorate/api/v1alpha1"
)

// inUse are the namespaces of the specs that run now; a failure dumps them.
var inUse []string

// newNamespace makes a namespace that takes only pods of the restricted
// profile. At the end of the node that asked for it, its clusters go, and their
// volumes, which are 128 MiB each for etcd's log alone: kept to the end they
// filled the disk. It goes itself at the end of the suite, for Kubernetes lets a
// namespace with running pods wait for half of their grace period.
func newNamespace(ctx context.Context) string {
	GinkgoHelper()
	ns := createNamespace(ctx)
	inUse = append(inUse, ns.Name)
	DeferCleanup(func(ctx SpecContext) {
		inUse = slices.DeleteFunc(inUse, func(n string) bool { return n == ns.Name })
		for _, kind := range []client.Object{&v1alpha1.EtcdCluster{}, &corev1.PersistentVolumeClaim{}} {
			Expect(client.IgnoreNotFound(kube.DeleteAllOf(ctx, kind, client.InNamespace(ns.Name)))).To(Succeed())
		}
	}, NodeTimeout(patience))
	return ns.Name
}

func createNamespace(ctx context.Context) *corev1.Namespace {
	GinkgoHelper()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
		GenerateName: "e2e-",
		Labels: map[string]string{
			"pod-security.kubernetes.io/enforce": "restricted",
			"quorate.dev/e2e":                    ofSuite["quorate.dev/e2e"],
		},
	}}
	Expect(kube.Create(ctx, ns)).To(Succeed())
	return ns
}

// ofSuite selects the suite's namespaces.
var ofSuite = client.MatchingLabels{"quorate.dev/e2e": "true"}

// Nothing may be left: no pod after its cluster, and no namespace that hangs.
var _ = SynchronizedAfterSuite(func() {}, func(ctx SpecContext) {
	if kube == nil {
		return
	}
	var namespaces corev1.NamespaceList
	Expect(kube.List(ctx, &namespaces, ofSuite)).To(Succeed())
	for _, ns := range namespaces.Items {
		Expect(client.IgnoreNotFound(kube.DeleteAllOf(ctx, &v1alpha1.EtcdCluster{}, client.InNamespace(ns.Name)))).To(Succeed())
	}
	for _, ns := range namespaces.Items {
		Eventually(ctx, func(g Gomega) {
			var pods corev1.PodList
			g.Expect(kube.List(ctx, &pods, client.InNamespace(ns.Name), client.HasLabels{v1alpha1.LabelCluster})).To(Succeed())
			g.Expect(pods.Items).To(BeEmpty(), "pods of clusters that were deleted")
		}).Should(Succeed())
		Expect(client.IgnoreNotFound(kube.Delete(ctx, &ns))).To(Succeed())
	}
	Eventually(ctx, func(g Gomega) {
		g.Expect(kube.List(ctx, &namespaces, ofSuite)).To(Succeed())
		var left []string
		for _, n := range namespaces.Items {
			left = append(left, n.Name+": "+conditionsOf(n))
		}
		g.Expect(left).To(BeEmpty())
	}).Should(Succeed())
}, NodeTimeout(2*patience))

func conditionsOf(n corev1.Namespace) string {
	var out []string
	for _, c := range n.Status.Conditions {
		if c.Status == corev1.ConditionTrue {
			out = append(out, c.Message)
		}
	}
	return strings.Join(out, "; ")
}

// A failure shows what the cluster looked like, before it is cleaned up.
var _ = JustAfterEach(func(ctx SpecContext) {
	if !CurrentSpecReport().Failed() {
		return
	}
	for _, ns := range inUse {
		if len(inUse) > 1 && content(ctx, ns) {
			continue
		}
		AddReportEntry("namespace "+ns, dump(ctx, ns), ReportEntryVisibilityFailureOrVerbose)
		AddReportEntry(membersEntry, complaints(ctx, ns), ReportEntryVisibilityFailureOrVerbose)
	}
	AddReportEntry(machineEntry, pressure(), ReportEntryVisibilityFailureOrVerbose)
	pods, _ := kubectl(ctx, "-n", operatorNamespace, "get", "pods", "--no-headers", "-o", "wide")
	AddReportEntry(operatorEntry, pods, ReportEntryVisibilityFailureOrVerbose)
	logs, _ := kubectl(ctx, "-n", operatorNamespace, "logs", "-l", "app.kubernetes.io/name="+operatorName, "--tail=400", "--prefix", "--ignore-errors")
	AddReportEntry("operator", lastLines(linesWith(logs, inUse...), 60), ReportEntryVisibilityFailureOrVerbose)
}, NodeTimeout(patience))

// content says that all clusters of a namespace are Ready.
func content(ctx context.Context, ns string) bool {
	out, err := kubectl(ctx, "-n", ns, "get", "etcdclusters", "-o", `jsonpath={.items[*].status.conditions[?(@.type=="Ready")].status}`)
	return err == nil && !strings.Contains(out, "False")
}

func dump(ctx context.Context, ns string) string {
	var out strings.Builder
	for _, args := range [][]string{
		{"get", "etcdclusters", "-o", "yaml"},
		{"get", "pods,pvc,svc,pdb", "-o", "wide"},
		{"get", "etcdbackups,etcdbackupschedules,etcdarchives,etcdrestores,jobs", "-o", "custom-columns=KIND:.kind,NAME:.metadata.name,AGE:.metadata.creationTimestamp,CONDITIONS:.status.conditions"},
		{"logs", "--selector=" + v1alpha1.LabelBackup, "--prefix", "--tail=8", "--ignore-errors"},
		{"get", "events", "--sort-by=.metadata.creationTimestamp", "-o", "custom-columns=LAST:.lastTimestamp,TYPE:.type,REASON:.reason,OBJECT:.involvedObject.name,MESSAGE:.message"},
	} {
		text, err := kubectl(ctx, append([]string{"-n", ns}, args...)...)
		if err != nil {
			text = err.Error()
		}
		fmt.Fprintf(&out, "$ kubectl -n %s %s\n%s\n\n", ns, strings.Join(args[:2], " "), lastLines(text, 150))
	}
	return out.String()
}

// complaints are what the members of a namespace have warned of lately, and who led them: why
// they did not answer is gone with their pods.
func complaints(ctx context.Context, ns string) string {
	logs, _ := kubectl(ctx, "-n", ns, "logs", "--selector=app.kubernetes.io/name=etcd", "--prefix", "--since=3m", "--tail=2000", "--ignore-errors")
	return lastLines(linesWith(logs, `"level":"warn"`, `"level":"error"`, `"level":"fatal"`, "elected leader", "lost leader"), 60)
}

// pressure is how busy the machine is on which all of it runs.
func pressure() string {
	var out strings.Builder
	for _, file := range []string{"loadavg", "pressure/cpu", "pressure/io", "pressure/memory"} {
		text, err := os.ReadFile("/proc/" + file)
		if err != nil {
			continue // not every kernel tells
		}
		fmt.Fprintf(&out, "%s: %s\n", file, firstLines(string(text), 1)[0])
	}
	return out.String()
}

func lastLines(text string, n int) string {
	lines := strings.Split(text, "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

func linesWith(text string, words ...string) string {
	var out []string
	for line := range strings.Lines(text) {
		if slices.ContainsFunc(words, func(s string) bool { return strings.Contains(line, s) }) {
			out = append(out, strings.TrimRight(line, "\n"))
		}
	}
	return strings.Join(out, "\n")
}

// create makes an object of YAML, in a namespace unless that is empty, and
// removes it at the end if it has none.
func create(ctx context.Context, ns, text string) *unstructured.Unstructured {
	GinkgoHelper()
	object := &unstructured.Unstructured{}
	Expect(yaml.UnmarshalStrict([]byte(text), &object.Object)).To(Succeed(), text)
	object.SetNamespace(ns)
	Expect(kube.Create(ctx, object)).To(Succeed())
	if ns == "" {
		DeferCleanup(func(ctx SpecContext) {
			Expect(client.IgnoreNotFound(kube.Delete(ctx, object))).To(Succeed())
		}, NodeTimeout(patience))
	}
	return object
}

// remove deletes an object and waits until it is gone.
func remove(ctx context.Context, object client.Object, opts ...client.DeleteOption) {
	GinkgoHelper()
	Expect(client.IgnoreNotFound(kube.Delete(ctx, object, opts...))).To(Succeed())
	Eventually(ctx, func() bool {
		left := object.DeepCopyObject().(client.Object)
		err := kube.Get(ctx, client.ObjectKeyFromObject(object), left)
		return apierrors.IsNotFound(err) || (err == nil && left.GetUID() != object.GetUID())
	}).Should(BeTrue(), func() string { return object.GetName() + " was deleted and is still there" })
}

// named makes an object to get or delete.
func named[T any, P interface {
	*T
	client.Object
}](ns, name string) P {
	object := P(new(T))
	object.SetNamespace(ns)
	object.SetName(name)
	return object
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
