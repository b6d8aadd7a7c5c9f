package e2e

import (
	"context"
	"fmt"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/quorate/quorate/api/v1alpha1"
)

// obstacle is something in the world that keeps a cluster from being founded.
type obstacle struct {
	name, spec string
	// before makes it stand in the way, in a namespace of its own.
	before func(ctx context.Context, ns string)
	// shown says that the API shows it, for what the world takes its time to
	// notice; nil if that is at once.
	shown func(ctx context.Context, c cluster) bool
	// condition, reason and text are what status says of it, in time from then.
	condition, reason string
	text              func(ns string) string
	// mend takes it out of the way.
	mend func(ctx context.Context, c cluster)
}

func says(text string) func(string) string { return func(string) string { return text } }

func editing(patch string) func(context.Context, cluster) {
	return func(ctx context.Context, c cluster) { c.edit(ctx, patch) }
}

// making an object in the namespace; deleting one of that kind and name.
func making(text string) func(context.Context, string) {
	return func(ctx context.Context, ns string) { create(ctx, ns, text) }
}

func deleting(text string) func(context.Context, cluster) {
	return func(ctx context.Context, c cluster) {
		object := &unstructured.Unstructured{}
		Expect(yaml.Unmarshal([]byte(text), &object.Object)).To(Succeed())
		object.SetNamespace(c.namespace)
		Expect(kube.Delete(ctx, object)).To(Succeed())
	}
}

func nothing(context.Context, string) {}

const (
	podQuota   = `{apiVersion: v1, kind: ResourceQuota, metadata: {name: none}, spec: {hard: {pods: "0"}}}`
	claimQuota = `{apiVersion: v1, kind: ResourceQuota, metadata: {name: none}, spec: {hard: {persistentvolumeclaims: "0"}}}`
	ownService = `{apiVersion: v1, kind: Service, metadata: {name: taken-client}, spec: {selector: {app: web}, ports: [{port: 80}]}}`
	ownSecret  = `{apiVersion: v1, kind: Secret, metadata: {name: mine-client-tls}, stringData: {password: mine}}`
)

var obstacles = []obstacle{
	{
		name: "class", spec: `{size: 1, storage: {storageClassName: no-such-class}}`, before: nothing,
		condition: v1alpha1.ConditionStalled, reason: v1alpha1.ReasonStorageClassNotFound,
		text: says(`"no-such-class" not found`), mend: editing(`{spec: {storage: {storageClassName: null}}}`),
	},
	{
		name: "later", spec: `{size: 1, storage: {storageClassName: made-later}}`, before: nothing,
		condition: v1alpha1.ConditionStalled, reason: v1alpha1.ReasonStorageClassNotFound,
		text: says(`"made-later" not found`), mend: copyDefaultClass("made-later"),
	},
	{
		name: "podquota", spec: `{}`, before: making(podQuota),
		condition: v1alpha1.ConditionStalled, reason: v1alpha1.ReasonMemberPodRejected,
		text: says("exceeded quota: none"), mend: deleting(podQuota),
	},
	{
		name: "claimquota", spec: `{}`, before: making(claimQuota),
		condition: v1alpha1.ConditionStalled, reason: v1alpha1.ReasonVolumePending,
		text: says("exceeded quota: none"), mend: deleting(claimQuota),
	},
	{
		name: "image", spec: `{size: 1, version: 3.6.998}`, before: nothing, shown: imageMissing,
		condition: v1alpha1.ConditionStalled, reason: v1alpha1.ReasonImagePullFailed,
		text: says("quay.io/coreos/etcd:v3.6.998"), mend: editing(`{spec: {version: 3.6.16}}`),
	},
	{
		name: "selector", spec: `{size: 1, podTemplate: {nodeSelector: {disk: fast}}}`, before: nothing,
		condition: v1alpha1.ConditionReconciling, reason: v1alpha1.ReasonMemberUnschedulable,
		text: says("didn't match Pod's node affinity/selector"), mend: editing(`{spec: {podTemplate: {nodeSelector: null}}}`),
	},
	{
		name: "admission", spec: `{size: 1}`, before: denyPods,
		condition: v1alpha1.ConditionStalled, reason: v1alpha1.ReasonMemberPodRejected,
		text: says("no pods on my watch"), mend: allowPods,
	},
	{
		name: "priority", spec: `{size: 1, podTemplate: {priorityClassName: no-such-priority}}`, before: nothing,
		condition: v1alpha1.ConditionStalled, reason: v1alpha1.ReasonMemberPodRejected,
		text: says("no PriorityClass with name no-such-priority was found"), mend: editing(`{spec: {podTemplate: {priorityClassName: null}}}`),
	},
	{
		name: "taken", spec: `{size: 1}`, before: making(ownService),
		condition: v1alpha1.ConditionStalled, reason: v1alpha1.ReasonNameConflict,
		text: func(ns string) string { return "Service " + ns + "/taken-client" }, mend: deleting(ownService),
	},
	{
		name: "mine", spec: `{size: 1}`, before: making(ownSecret),
		condition: v1alpha1.ConditionStalled, reason: v1alpha1.ReasonNameConflict,
		text: func(ns string) string { return "Secret " + ns + "/mine-client-tls" }, mend: deleting(ownSecret),
	},
}

var _ = Describe("What only the world can tell", Label(deep), Ordered, ContinueOnFailure, func() {
	clusters := map[string]cluster{}
	BeforeAll(func(ctx SpecContext) {
		for _, o := range obstacles {
			ns := newNamespace(ctx)
			o.before(ctx, ns)
			clusters[o.name] = apply(ctx, ns, o.name, o.spec)
		}
	}, NodeTimeout(patience))

	for _, o := range obstacles {
		It("becomes a condition in time: "+o.reason+" of "+o.name, func(ctx SpecContext) {
			c := clusters[o.name]
			if o.shown != nil {
				Eventually(ctx, func() bool { return o.shown(ctx, c) }).Should(BeTrue(), "the API does not show "+o.name)
			}
			c.reports(ctx, promised, o.condition, "True", o.reason, o.text(c.namespace))
			c.says(ctx, Default, v1alpha1.ConditionReady, "False", o.reason, "")
		}, NodeTimeout(patience))
	}
	It("heals by itself", func(ctx SpecContext) {
		for _, o := range obstacles {
			o.mend(ctx, clusters[o.name])
		}
		for _, o := range obstacles {
			By(o.name)
			c := clusters[o.name]
			c.becomesReady(ctx)
			c.serves(ctx, c.member(0))
			Expect(c.get(ctx).Status.Conditions).To(ContainElement(And(HaveField("Type", v1alpha1.ConditionStalled), HaveField("Status", BeEquivalentTo("False")))))
			Expect(c.get(ctx).Status.NextOrdinal).To(Equal(c.get(ctx).Spec.Size), "no name was spent on it")
		}
	}, NodeTimeout(2*patience))
})

// imageMissing says that a kubelet has given up a first pull, which takes it as
// long as its container runtime tries again.
func imageMissing(ctx context.Context, c cluster) bool {
	for _, pod := range c.pods(ctx) {
		for _, s := range pod.Status.ContainerStatuses {
			if w := s.State.Waiting; w != nil && (w.Reason == "ErrImagePull" || w.Reason == "ImagePullBackOff") {
				return true
			}
		}
	}
	return false
}

// copyDefaultClass makes a class of the default class's kind.
func copyDefaultClass(name string) func(context.Context, cluster) {
	return func(ctx context.Context, _ cluster) {
		out, err := kubectl(ctx, "get", "storageclass", "-o", `jsonpath={range .items[?(@.metadata.annotations.storageclass\.kubernetes\.io/is-default-class=="true")]}{.provisioner} {.parameters}{end}`)
		Expect(err).NotTo(HaveOccurred())
		provisioner, parameters, _ := strings.Cut(out, " ")
		create(ctx, "", fmt.Sprintf("{apiVersion: storage.k8s.io/v1, kind: StorageClass, metadata: {name: %s}, provisioner: %s, parameters: %s}", name, provisioner, parameters))
	}
}

// denyPods has admission refuse every pod of the namespace, and waits until it
// does.
func denyPods(ctx context.Context, ns string) {
	create(ctx, "", fmt.Sprintf(`
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: %s}
spec:
  failurePolicy: Fail
  matchConstraints:
    resourceRules: [{apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [pods]}]
  validations: [{expression: "false", message: no pods on my watch}]
`, ns))
	create(ctx, "", fmt.Sprintf(`
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: %s}
spec:
  policyName: %s
  validationActions: [Deny]
  matchResources: {namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: %s}}}
`, ns, ns, ns))
	Eventually(ctx, func() error {
		pod := &unstructured.Unstructured{}
		Expect(yaml.Unmarshal([]byte(applicationPod("try", "try", "try")), &pod.Object)).To(Succeed())
		pod.SetNamespace(ns)
		return kube.Create(ctx, pod, client.DryRunAll)
	}).Should(MatchError(ContainSubstring("no pods on my watch")))
}

func allowPods(ctx context.Context, c cluster) {
	_, err := kubectl(ctx, "delete", "validatingadmissionpolicybinding", c.namespace)
	Expect(err).NotTo(HaveOccurred())
}
