package e2e

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	appsv1 "k8s.io/api/apps/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"
)

// What config/default installs.
const (
	operatorNamespace = "quorate-system"
	operatorName      = "quorate-operator"
	metricsPort       = 8443
	healthPort        = 8081
)

// operatorPods are those that are Ready and stay: one of the release before is Ready, and may
// hold the Lease, until it has ended.
func operatorPods(ctx context.Context) ([]corev1.Pod, error) {
	var list corev1.PodList
	err := kube.List(ctx, &list, client.InNamespace(operatorNamespace), client.MatchingLabels{"app.kubernetes.io/name": operatorName})
	var out []corev1.Pod
	for _, pod := range list.Items {
		if ready(pod) && pod.DeletionTimestamp == nil {
			out = append(out, pod)
		}
	}
	return out, err
}

// leaseHolder is the process of the operator that works; empty if none does.
func leaseHolder(ctx context.Context) (string, error) {
	lease := named[coordinationv1.Lease](operatorNamespace, operatorName)
	if err := kube.Get(ctx, client.ObjectKeyFromObject(lease), lease); err != nil {
		return "", err
	}
	return ptr.Deref(lease.Spec.HolderIdentity, ""), nil
}

// operatorLeader is the name of the operator's pod that works.
func operatorLeader(ctx context.Context) (string, error) {
	holder, err := leaseHolder(ctx)
	pod, _, _ := strings.Cut(holder, "_")
	return pod, err
}

// operatorWorks waits until both replicas are Ready and one of them leads, and
// returns that one.
func operatorWorks(ctx context.Context) string {
	GinkgoHelper()
	var leader string
	Eventually(ctx, func(g Gomega) {
		pods, err := operatorPods(ctx)
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(pods).To(HaveLen(2), "replicas that are Ready")
		leader, err = operatorLeader(ctx)
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(pods).To(ContainElement(HaveField("ObjectMeta.Name", leader)), "the holder of the Lease")
	}).Should(Succeed())
	return leader
}

// scaleOperator sets the number of replicas and waits until it is so.
func scaleOperator(ctx context.Context, replicas int) {
	GinkgoHelper()
	patch := client.RawPatch("application/merge-patch+json", fmt.Appendf(nil, `{"spec":{"replicas":%d}}`, replicas))
	Expect(kube.Patch(ctx, named[appsv1.Deployment](operatorNamespace, operatorName), patch)).To(Succeed())
	Eventually(ctx, func(g Gomega) {
		var list corev1.PodList
		g.Expect(kube.List(ctx, &list, client.InNamespace(operatorNamespace), client.MatchingLabels{"app.kubernetes.io/name": operatorName})).To(Succeed())
		g.Expect(list.Items).To(HaveLen(replicas))
	}).Should(Succeed())
	if replicas > 0 {
		operatorWorks(ctx)
	}
}

// request asks a port of an operator's pod over HTTP, or HTTPS with a token.
func request(ctx context.Context, pod string, port int, path, token string) (int, string) {
	GinkgoHelper()
	dial := dialHost(operatorNamespace)
	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, address string) (net.Conn, error) { return dial(ctx, address) },
		// The certificate is self-signed; who asks is what matters here.
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // it is self-signed, see above
		DisableKeepAlives: true,
	}
	scheme := "http"
	if port == metricsPort {
		scheme = "https"
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("%s://%s:%d%s", scheme, pod, port, path), nil)
	Expect(err).NotTo(HaveOccurred())
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := (&http.Client{Transport: transport}).Do(r)
	Expect(err).NotTo(HaveOccurred())
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	Expect(err).NotTo(HaveOccurred())
	return response.StatusCode, string(body)
}

// tokenOf makes a ServiceAccount and a token of it.
func tokenOf(ctx context.Context, ns, account string) string {
	GinkgoHelper()
	Expect(kube.Create(ctx, named[corev1.ServiceAccount](ns, account))).To(Succeed())
	review, err := api.CoreV1().ServiceAccounts(ns).CreateToken(ctx, account, &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	Expect(err).NotTo(HaveOccurred())
	return review.Status.Token
}

// metricsToken is a token that may read the operator's metrics.
func metricsToken(ctx context.Context, ns string) string {
	GinkgoHelper()
	token := tokenOf(ctx, ns, "scraper")
	binding := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: ns + "-scraper"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "quorate-metrics-reader"},
		Subjects:   []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: ns, Name: "scraper"}},
	}
	Expect(kube.Create(ctx, binding)).To(Succeed())
	DeferCleanup(func(ctx SpecContext) {
		Expect(client.IgnoreNotFound(kube.Delete(ctx, binding))).To(Succeed())
	}, NodeTimeout(patience))
	return token
}

var _ = Describe("The operator", func() {
	It("is live and ready, and shows its metrics only to those who may read them", func(ctx SpecContext) {
		ns, leader := newNamespace(ctx), operatorWorks(ctx)
		for _, path := range []string{"/healthz", "/readyz"} {
			code, body := request(ctx, leader, healthPort, path, "")
			Expect(code).To(Equal(http.StatusOK), path+": "+body)
		}
		code, _ := request(ctx, leader, metricsPort, "/metrics", "")
		Expect(code).To(Equal(http.StatusUnauthorized), "without a token")
		code, body := request(ctx, leader, metricsPort, "/metrics", "not-a-token")
		Expect(code).NotTo(Equal(http.StatusOK), "with a wrong token")
		Expect(body).NotTo(ContainSubstring("controller_runtime"))
		code, _ = request(ctx, leader, metricsPort, "/metrics", tokenOf(ctx, ns, "nobody"))
		Expect(code).To(Equal(http.StatusForbidden), "with the token of an account without the right")
		token := metricsToken(ctx, ns)
		Eventually(ctx, func() int { code, _ := request(ctx, leader, metricsPort, "/metrics", token); return code }).Should(Equal(http.StatusOK))
		_, body = request(ctx, leader, metricsPort, "/metrics", token)
		Expect(body).To(ContainSubstring(`controller_runtime_reconcile_total{controller="etcdcluster"`))
	}, NodeTimeout(patience))

	It("runs in a namespace of the restricted profile, as nobody in particular", func(ctx SpecContext) {
		ns := named[corev1.Namespace]("", operatorNamespace)
		Expect(kube.Get(ctx, client.ObjectKeyFromObject(ns), ns)).To(Succeed())
		Expect(ns.Labels).To(HaveKeyWithValue("pod-security.kubernetes.io/enforce", "restricted"))
		pods, err := operatorPods(ctx)
		Expect(err).NotTo(HaveOccurred())
		Expect(pods).NotTo(BeEmpty())
		for _, pod := range pods {
			Expect(pod.Spec.SecurityContext.RunAsNonRoot).To(HaveValue(BeTrue()))
			for _, container := range pod.Spec.Containers {
				Expect(container.SecurityContext.ReadOnlyRootFilesystem).To(HaveValue(BeTrue()))
				Expect(container.SecurityContext.AllowPrivilegeEscalation).To(HaveValue(BeFalse()))
			}
		}
	}, NodeTimeout(patience))

	It("may not list or watch Secrets, and touches nothing but what it must", func(ctx SpecContext) {
		as := "--as=system:serviceaccount:" + operatorNamespace + ":" + operatorName
		for _, forbidden := range [][]string{
			{"list", "secrets"},
			{"watch", "secrets"},
			{"delete", "nodes"},
			{"create", "pods", "--subresource=exec"},
			{"delete", "etcdclusters"},
			{"create", "clusterroles"},
			{"delete", "persistentvolumes"},
		} {
			out, err := kubectl(ctx, append([]string{"auth", "can-i", as, "-A"}, forbidden...)...)
			Expect(err).To(HaveOccurred(), strings.Join(forbidden, " ")+": "+out)
		}
	}, NodeTimeout(patience))

	It("hands over to its other replica when it is asked to go", Serial, func(ctx SpecContext) {
		leader := operatorWorks(ctx)
		Expect(kube.Delete(ctx, named[corev1.Pod](operatorNamespace, leader))).To(Succeed())
		Eventually(ctx, func() (string, error) { return operatorLeader(ctx) }).ShouldNot(Or(Equal(leader), BeEmpty()))
		found(ctx, newNamespace(ctx), "after", `{size: 1}`)
		operatorWorks(ctx)
	}, NodeTimeout(2*patience))

	It("works in the namespaces of a list with Roles only", Label(deep), Serial, func(ctx SpecContext) {
		watched, other := newNamespace(ctx), newNamespace(ctx)
		images := imagesOf(ctx)
		DeferCleanup(func(ctx SpecContext) {
			Expect(sh(ctx, "make", "deploy")).Error().NotTo(HaveOccurred())
			operatorWorks(ctx)
		}, NodeTimeout(2*patience))
		for _, kind := range []client.Object{named[rbacv1.ClusterRoleBinding]("", operatorName), named[rbacv1.ClusterRole]("", operatorName)} {
			Expect(client.IgnoreNotFound(kube.Delete(ctx, kind))).To(Succeed())
		}
		Expect(kubectlWith(ctx, images(namespacedConfig(ctx, watched)), "apply", "--server-side", "--force-conflicts", "-f", "-")).Error().NotTo(HaveOccurred())
		Expect(kubectl(ctx, "-n", operatorNamespace, "rollout", "status", "deployment/"+operatorName, "--timeout=90s")).Error().NotTo(HaveOccurred())

		ignored := apply(ctx, other, "ignored", `{size: 1}`)
		c := found(ctx, watched, "watched", `{}`)
		c.runs(ctx, c.members(3)...)
		c.serves(ctx, c.member(0))
		Expect(kube.Delete(ctx, named[corev1.Pod](c.namespace, c.member(1)))).To(Succeed())
		Eventually(ctx, func() bool { return ready(c.pods(ctx)[c.member(1)]) }).Should(BeTrue())
		Expect(ignored.get(ctx).Status.Conditions).To(BeEmpty(), "a cluster outside the list is none of its business")
	}, NodeTimeout(2*patience))
})

// imagesOf returns what puts the images of the running operator into manifests.
func imagesOf(ctx context.Context) func(string) string {
	GinkgoHelper()
	deployment := named[appsv1.Deployment](operatorNamespace, operatorName)
	Expect(kube.Get(ctx, client.ObjectKeyFromObject(deployment), deployment)).To(Succeed())
	container := deployment.Spec.Template.Spec.Containers[0]
	var member string
	for _, env := range container.Env {
		if env.Name == "MEMBER_IMAGE" {
			member = env.Value
		}
	}
	return func(manifests string) string {
		manifests = regexp.MustCompile(`ghcr\.io/quorate/operator:\S+`).ReplaceAllLiteralString(manifests, container.Image)
		return regexp.MustCompile(`ghcr\.io/quorate/member:\S+`).ReplaceAllLiteralString(manifests, member)
	}
}

// namespacedConfig renders config/namespaced for a namespace, edited as its
// comment says.
func namespacedConfig(ctx context.Context, ns string) string {
	GinkgoHelper()
	dir := GinkgoT().TempDir()
	Expect(os.CopyFS(dir, os.DirFS(filepath.Join(root, "config")))).To(Succeed())
	watched := filepath.Join(dir, "namespaced", "watched", "kustomization.yaml")
	replaceIn(watched, "namespace: default", "namespace: "+ns)
	replaceIn(filepath.Join(dir, "namespaced", "kustomization.yaml"), "value: default", "value: "+ns)
	manifests, err := kubectl(ctx, "kustomize", filepath.Join(dir, "namespaced"))
	Expect(err).NotTo(HaveOccurred())
	for part := range strings.SplitSeq(manifests, "\n---\n") {
		var object metav1.PartialObjectMetadata
		Expect(yaml.Unmarshal([]byte(part), &object)).To(Succeed())
		if strings.HasPrefix(object.Kind, "ClusterRole") {
			Expect(object.Name).NotTo(Equal(operatorName), "the operator of some namespaces has no ClusterRole over the objects of clusters")
		}
	}
	return manifests
}

func replaceIn(path, old, with string) {
	GinkgoHelper()
	text, err := os.ReadFile(path)
	Expect(err).NotTo(HaveOccurred())
	Expect(string(text)).To(ContainSubstring(old), path)
	Expect(os.WriteFile(path, []byte(strings.ReplaceAll(string(text), old, with)), 0o600)).To(Succeed())
}
