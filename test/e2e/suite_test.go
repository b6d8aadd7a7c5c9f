// Package e2e tries Quorate on a real Kubernetes with real etcd, installed as a
// user installs it. Every spec has namespaces of its own.
//
//	make test-e2e                      the local cluster of test/cluster, brought up when needed
//	CLUSTER=existing make test-e2e     the cluster that KUBECONFIG names, without the specs that
//	                                   need its machines (label local); OPERATOR_IMAGE,
//	                                   MEMBER_IMAGE, BACKUP_IMAGE and LEADER_ELECTOR_IMAGE name images that
//	                                   it can pull
//	go test ./test/e2e -ginkgo.focus=X some of them, one after the other
//
// Specs run in several processes at once, for most of their time they wait. What
// disturbs clusters other than its own is Serial and comes last; what takes long
// begins first.
package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/quorate/quorate/test/soak/testbed"
)

const (
	// promised is how long the operator may take to put on record what it
	// meets in the world.
	promised = 15 * time.Second
	// patience is for whatever has no promise: a machine with two cores runs
	// Kubernetes and a dozen members, and may do other things besides. It bounds
	// a wait and measures nothing.
	patience = 4 * time.Minute
	// poll is how often the world is looked at.
	poll = 100 * time.Millisecond
	// local labels specs that kill processes, cut cables or touch disks.
	local = "local"
	// deep labels specs of make test-deep: make test has ten minutes, and one of each thing
	// that users come for.
	deep = "deep"
)

// The cluster under test, set once by BeforeSuite.
var (
	root   string // of the repository
	bed    *testbed.Bed
	config *rest.Config
	kube   client.Client
	api    kubernetes.Interface
)

// existing says that the user named the cluster to use.
func existing() bool { return os.Getenv("CLUSTER") == "existing" }

func TestEndToEnd(t *testing.T) {
	RegisterFailHandler(Fail)
	suite, reporter := GinkgoConfiguration()
	if existing() {
		fmt.Println("CLUSTER=existing: the specs that need the nodes' machines (label local) are not selected")
		suite.LabelFilter = strings.TrimPrefix(suite.LabelFilter+" && !"+local, " && ")
	}
	SetDefaultEventuallyPollingInterval(poll)
	SetDefaultEventuallyTimeout(patience)
	SetDefaultConsistentlyPollingInterval(poll)
	EnforceDefaultTimeoutsWhenUsingContexts()
	RunSpecs(t, "Quorate on a real cluster", suite, reporter)
}

var _ = SynchronizedBeforeSuite(func(ctx SpecContext) {
	root = repository()
	By("bringing the cluster up and installing the operator")
	Expect(sh(ctx, "make", "cluster-up", "deploy")).Error().NotTo(HaveOccurred())
}, func(ctx SpecContext) {
	root = repository()
	if !existing() {
		Expect(os.Setenv("KUBECONFIG", filepath.Join(root, ".cluster", "kubeconfig"))).To(Succeed())
	}
	connect()
	operatorWorks(ctx)
}, NodeTimeout(20*time.Minute))

// repository is found upwards, from the directory that go test runs in.
func repository() string {
	dir, err := os.Getwd()
	Expect(err).NotTo(HaveOccurred())
	return filepath.Dir(filepath.Dir(dir))
}

func connect() {
	log.SetLogger(GinkgoLogr)
	var err error
	bed, err = testbed.Connect(root, "quorate-e2e")
	Expect(err).NotTo(HaveOccurred())
	config, kube, api = bed.Config, bed.Kube, bed.API
	if existing() {
		bed.Dial = dialHost
	}
}

// sh runs a program in the repository's root and returns what it printed.
func sh(ctx context.Context, program string, args ...string) (string, error) {
	return shWith(ctx, "", program, args...)
}

// shWith feeds it standard input.
func shWith(ctx context.Context, input, program string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir, cmd.Stdin = root, strings.NewReader(input)
	out, err := cmd.CombinedOutput()
	text := strings.TrimSpace(string(out))
	if err != nil {
		return text, fmt.Errorf("running %s %s: %w\n%s", program, strings.Join(args, " "), err, text)
	}
	return text, nil
}

// kubectl is the one that the local cluster brings, or the user's own.
func kubectl(ctx context.Context, args ...string) (string, error) {
	return kubectlWith(ctx, "", args...)
}

func kubectlWith(ctx context.Context, input string, args ...string) (string, error) {
	program := filepath.Join(root, ".cluster", "bin", "kubectl")
	if existing() {
		if own, err := exec.LookPath("kubectl"); err == nil {
			program = own
		}
	}
	return shWith(ctx, input, program, args...)
}
