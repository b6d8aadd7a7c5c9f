package e2e

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
)

// A default of this build, and of the next one.
const (
	defaultNow  = `"--tls-min-version=TLS1.2"`
	defaultNext = `"--tls-min-version=TLS1.3"`
)

// buildNext makes and loads images of an operator and a guard that differ from those
// that run: another version, and another default for members.
func buildNext(ctx context.Context) (operator, member string) {
	GinkgoHelper()
	dir := GinkgoT().TempDir()
	flags := filepath.Join(root, "internal", "resources", "flags.go")
	source, err := os.ReadFile(flags)
	Expect(err).NotTo(HaveOccurred())
	Expect(strings.Count(string(source), defaultNow)).To(Equal(1), "the default that is changed stands once in "+flags)
	next := filepath.Join(dir, "flags.go")
	Expect(os.WriteFile(next, []byte(strings.Replace(string(source), defaultNow, defaultNext, 1)), 0o600)).To(Succeed())
	overlay := filepath.Join(dir, "overlay.json")
	content, err := json.Marshal(map[string]any{"Replace": map[string]string{flags: next}})
	Expect(err).NotTo(HaveOccurred())
	Expect(os.WriteFile(overlay, content, 0o600)).To(Succeed())

	cluster := filepath.Join(root, ".cluster", "bin", "cluster")
	var images []string
	for _, program := range []string{"operator", "member"} {
		binary, archive, image := filepath.Join(dir, program), filepath.Join(dir, program+".tar"), "ghcr.io/quorate/"+program+":next"
		Expect(sh(ctx, "env", "CGO_ENABLED=0", "go", "build", "-trimpath", "-overlay="+overlay, "-ldflags=-s -w -X main.version=next", "-o", binary, "./cmd/"+program)).
			Error().NotTo(HaveOccurred())
		Expect(sh(ctx, cluster, "image", "-o", archive, "-t", image, "--user", "65532:65532", "--entrypoint", "/"+program, binary+":/"+program)).Error().NotTo(HaveOccurred())
		Expect(sh(ctx, cluster, "load-image", archive)).Error().NotTo(HaveOccurred())
		images = append(images, image)
	}
	return images[0], images[1]
}

// madeOf is what of the operator's own went into a pod; nothing while there is none.
func madeOf(pod corev1.Pod) (guard string, flags string) {
	for _, container := range pod.Spec.InitContainers {
		guard = container.Image
	}
	for _, container := range pod.Spec.Containers {
		if container.Name == "etcd" {
			flags = strings.Join(append(container.Command, container.Args...), " ")
		}
	}
	return guard, flags
}

var _ = Describe("An upgrade of the operator", Label(local, deep), Serial, func() {
	It("to a build with another guard and other defaults restarts nobody, nor does the way back; the next roll takes them in", func(ctx SpecContext) {
		ns := newNamespace(ctx)
		c, old := apply(ctx, ns, "kept", `{}`), apply(ctx, ns, "old", `{size: 1}`)
		c.settles(ctx)
		old.settles(ctx)
		l, was := c.startLoad(ctx), lives(c.pods(ctx))
		operator, member := buildNext(ctx)
		DeferCleanup(func(ctx SpecContext) {
			Expect(sh(ctx, "make", "deploy")).Error().NotTo(HaveOccurred())
			operatorWorks(ctx)
		}, NodeTimeout(2*patience))

		By("upgrading")
		Expect(kubectl(ctx, "-n", operatorNamespace, "set", "env", "deployment/"+operatorName, "MEMBER_IMAGE="+member)).Error().NotTo(HaveOccurred())
		Expect(kubectl(ctx, "-n", operatorNamespace, "set", "image", "deployment/"+operatorName, "operator="+operator)).Error().NotTo(HaveOccurred())
		Expect(kubectl(ctx, "-n", operatorNamespace, "rollout", "status", "deployment/"+operatorName, "--timeout=60s")).Error().NotTo(HaveOccurred())
		operatorWorks(ctx)
		young := found(ctx, ns, "young", `{size: 1}`)
		guard, flags := madeOf(young.pods(ctx)[young.member(0)])
		Expect(guard).To(Equal(member))
		Expect(flags).To(ContainSubstring("TLS1.3"), "the new operator's own defaults")
		Consistently(ctx, func() map[string]string { return lives(c.pods(ctx)) }).WithTimeout(10 * time.Second).Should(Equal(was))

		By("changing an option")
		old.edit(ctx, `{spec: {etcd: {snapshotCount: 20000}}}`)
		Eventually(ctx, func(g Gomega) {
			guard, flags := madeOf(old.pods(ctx)[old.member(0)])
			g.Expect(guard).To(Equal(member))
			g.Expect(flags).To(And(ContainSubstring("TLS1.3"), ContainSubstring("--snapshot-count=20000")))
		}).Should(Succeed())
		old.settles(ctx)

		By("going back")
		before := lives(old.pods(ctx))
		Expect(sh(ctx, "make", "deploy")).Error().NotTo(HaveOccurred())
		operatorWorks(ctx)
		again := found(ctx, ns, "again", `{size: 1}`)
		_, flags = madeOf(again.pods(ctx)[again.member(0)])
		Expect(flags).NotTo(ContainSubstring("TLS1.3"))
		Expect(lives(old.pods(ctx))).To(Equal(before))
		Expect(lives(c.pods(ctx))).To(Equal(was))
		holds(ctx, l)
	}, NodeTimeout(3*patience))
})
