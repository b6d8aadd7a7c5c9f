// Package api tests the API as users meet it: a real kube-apiserver with the CRD
// of config/crd takes or refuses what they apply, with the words that they read.
// Nothing of the operator runs here.
package api

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/yaml"

	"github.com/quorate/quorate/api/v1alpha1"
)

const root = "../../.."

var (
	environment *envtest.Environment
	config      *rest.Config
	k8s         client.Client
	kubeconfig  string
	assets      string
)

func TestAPI(t *testing.T) {
	assets = os.Getenv("KUBEBUILDER_ASSETS")
	if assets == "" {
		assets = filepath.Join(root, ".cluster", "bin")
	}
	for _, name := range []string{"kube-apiserver", "etcd", "kubectl"} {
		if _, err := os.Stat(filepath.Join(assets, name)); err != nil {
			t.Fatalf("%s is not in %s — the API server is real here — run: make setup", name, assets)
		}
	}
	environment = &envtest.Environment{
		BinaryAssetsDirectory: assets,
		CRDDirectoryPaths:     []string{filepath.Join(root, "config", "crd", "bases")},
		ErrorIfCRDPathMissing: true,
	}
	RegisterFailHandler(Fail)
	RunSpecs(t, "API")
}

var _ = BeforeSuite(func() {
	var err error
	config, err = environment.Start()
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(func() { Expect(environment.Stop()).To(Succeed()) })

	config.QPS = -1
	config.WarningHandler = rest.NoWarnings{}
	config.Timeout = 10 * time.Second // an answer that takes longer is a rule that hangs
	scheme := runtime.NewScheme()
	utilruntime.Must(clientgoscheme.AddToScheme(scheme))
	utilruntime.Must(v1alpha1.AddToScheme(scheme))
	utilruntime.Must(apiextensionsv1.AddToScheme(scheme))
	k8s, err = client.New(config, client.Options{Scheme: scheme})
	Expect(err).NotTo(HaveOccurred())
	user, err := environment.AddUser(envtest.User{Name: "admin", Groups: []string{"system:masters"}}, nil)
	Expect(err).NotTo(HaveOccurred())
	text, err := user.KubeConfig()
	Expect(err).NotTo(HaveOccurred())
	kubeconfig = filepath.Join(GinkgoT().TempDir(), "kubeconfig")
	Expect(os.WriteFile(kubeconfig, text, 0o600)).To(Succeed())
})

// cluster is an EtcdCluster with the spec that the YAML says, as a user writes
// it; without a spec when that is empty.
func cluster(name, spec string) *unstructured.Unstructured {
	GinkgoHelper()
	object := map[string]any{
		"apiVersion": "etcd.quorate.dev/v1alpha1", "kind": "EtcdCluster",
		"metadata": map[string]any{"name": name, "namespace": "default"},
	}
	if spec != "" {
		var parsed any
		Expect(yaml.Unmarshal([]byte(spec), &parsed)).To(Succeed(), spec)
		object["spec"] = parsed
	}
	return &unstructured.Unstructured{Object: object}
}

// try asks the API server whether it would take a new object.
func try(ctx context.Context, object *unstructured.Unstructured) error {
	return k8s.Create(ctx, object, client.DryRunAll, client.FieldValidation("Strict"))
}

// create makes the object, and removes it when the spec ends.
func create(ctx context.Context, object *unstructured.Unstructured) {
	GinkgoHelper()
	Expect(k8s.Create(ctx, object, client.FieldValidation("Strict"))).To(Succeed())
	DeferCleanup(func(ctx context.Context) {
		Expect(client.IgnoreNotFound(k8s.Delete(ctx, object))).To(Succeed())
	})
}

// expectRefusal sees that the answer says what is wanted, and nothing that only
// the author of a rule understands.
func expectRefusal(err error, want string) {
	GinkgoHelper()
	Expect(err).To(HaveOccurred(), "it was accepted")
	Expect(apierrors.IsInvalid(err) || apierrors.IsBadRequest(err)).To(BeTrue(), "%v", err)
	Expect(err.Error()).To(ContainSubstring(want))
	expectReadable(err)
}

// kubectl runs as a user runs it, and returns both of its outputs.
func kubectl(ctx context.Context, stdin string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(assets, "kubectl"), append([]string{"--kubeconfig", kubeconfig}, args...)...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// leaks are the words of a rule that failed instead of answering.
var leaks = []string{"evaluating rule", "no such key", "no such overload", "failed rule:", "call cost exceeds", "internal error"}

func expectReadable(err error) {
	GinkgoHelper()
	for _, leak := range leaks {
		Expect(err.Error()).NotTo(ContainSubstring(leak))
	}
}

// has three parts: what is wrong — why it matters — what to do.
func hasThreeParts(message string) bool { return strings.Count(message, " — ") == 2 }
