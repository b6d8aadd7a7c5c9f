package api

import (
	"context"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// install puts a definition in force, and waits until an even size gets the
// answer that it then must get.
func install(ctx context.Context, definition *apiextensionsv1.CustomResourceDefinition, evenRefused bool) {
	GinkgoHelper()
	live := &apiextensionsv1.CustomResourceDefinition{}
	Expect(k8s.Get(ctx, client.ObjectKeyFromObject(definition), live)).To(Succeed())
	live.Spec = definition.Spec
	Expect(k8s.Update(ctx, live)).To(Succeed())
	Eventually(func(ctx context.Context) bool {
		return try(ctx, cluster("even", `{size: 2}`)) != nil
	}).WithContext(ctx).WithTimeout(20 * time.Second).WithPolling(50 * time.Millisecond).Should(Equal(evenRefused))
}

// without strips every rule, as an older release may have lacked it.
func without(definition *apiextensionsv1.CustomResourceDefinition) *apiextensionsv1.CustomResourceDefinition {
	var strip func(s *apiextensionsv1.JSONSchemaProps)
	strip = func(s *apiextensionsv1.JSONSchemaProps) {
		s.XValidations = nil
		for name, property := range s.Properties {
			strip(&property)
			s.Properties[name] = property
		}
	}
	strip(definition.Spec.Versions[0].Schema.OpenAPIV3Schema)
	return definition
}

// What an older release took: it must not stand in the way of an edit elsewhere.
var ratchets = []struct{ name, object, spec, worse string }{
	{name: "an even size", spec: `{size: 2}`, worse: `{"size": 4}`},
	{name: "an old version", spec: `{version: 3.4.30}`, worse: `{"version": "3.4.31"}`},
	{name: "a tag in the repository", spec: `{image: {repository: "x:v1"}}`, worse: `{"image": {"repository": "x:v2"}}`},
	{name: "a volume too small for the quota", spec: `{storage: {size: 1Gi}}`, worse: `{"etcd": {"quotaBackendBytes": "3Gi"}}`},
	{name: "memory without a limit", spec: `{storage: {medium: Memory}}`, worse: `{"storage": {"size": "9Gi"}}`},
	{name: "memory with too small a limit", spec: `{storage: {medium: Memory}, podTemplate: {resources: {limits: {memory: 1Gi}}}}`, worse: `{"podTemplate": {"resources": {"limits": {"memory": "2Gi"}}}}`},
	{name: "an early election", spec: `{etcd: {electionMs: 300}}`, worse: `{"etcd": {"electionMs": 400}}`},
	{name: "short-lived leaves", spec: `{tls: {leafDuration: 1m}}`, worse: `{"tls": {"leafDuration": "2m"}}`},
	{name: "a flag of the operator", spec: `{etcd: {extraArgs: {data-dir: x}}}`, worse: `{"etcd": {"extraArgs": {"wal-dir": "y"}}}`},
	{name: "a label of the operator", spec: `{podTemplate: {labels: {etcd.quorate.dev/x: "y"}}}`, worse: `{"podTemplate": {"labels": {"etcd.quorate.dev/z": "y"}}}`},
	{name: "too long a name", object: "a-name-of-more-than-forty-characters-is-a-long-one", spec: `{}`},
}

var _ = Describe("An EtcdCluster from before a rule", Ordered, func() {
	BeforeAll(func(ctx context.Context) {
		install(ctx, without(crd()), false)
		DeferCleanup(func(ctx context.Context) { install(ctx, crd(), true) })
		for i, r := range ratchets {
			if r.object == "" {
				ratchets[i].object = "ratchet-" + string(rune('a'+i))
			}
			object := cluster(ratchets[i].object, r.spec)
			Expect(k8s.Create(ctx, object)).To(Succeed())
			DeferCleanup(func(ctx context.Context) { Expect(k8s.Delete(ctx, object)).To(Succeed()) })
		}
		install(ctx, crd(), true)
	})

	for i, r := range ratchets {
		It("may keep "+r.name+" while something else is edited, and not make it worse", func(ctx context.Context) {
			object := cluster(ratchets[i].object, "")
			edit := func(spec string) error {
				return k8s.Patch(ctx, object, client.RawPatch(types.MergePatchType, []byte(`{"spec":`+spec+`}`)))
			}
			Expect(edit(`{"paused": true, "failover": {"replaceAfter": "7m"}}`)).To(Succeed())
			Expect(edit(`{"etcd": {"snapshotCount": 20000}, "networkPolicy": {"metricsFrom": [{"podSelector": {}}]}}`)).To(Succeed())
			Expect(patchStatus(ctx, object, `{"leader": "x"}`)).To(Succeed())
			if r.worse != "" {
				expectRefusal(edit(r.worse), " — ")
			}
		})
	}
})
