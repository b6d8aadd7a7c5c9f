package api

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/quorate/quorate/api/v1alpha1"
)

// edge is a spec with one strange value in it.
type edge struct {
	path string
	spec map[string]any
}

// values are what is tried at a leaf: every type, and the ends of each.
func values() []any {
	return []any{
		nil, true, "", " ", "x", "é—🙈\u202e\u0000\n", "-1", "0", "1e999999999", "99999999999999999999", "%s%d'\"\\", "$(POD_NAME)",
		strings.Repeat("a", 70_000),
		int64(-1), int64(0), int64(1), int64(math.MaxInt32) + 1, int64(math.MaxInt64), int64(math.MinInt64), 1.5, 1e300,
		[]any{},
		[]any{nil},
		[]any{"x", "x"},
		map[string]any{},
		map[string]any{"": ""},
		map[string]any{"x": nil},
	}
}

// minimal is the least that a schema asks for.
func minimal(s *apiextensionsv1.JSONSchemaProps) any {
	switch {
	case s.XIntOrString:
		return "1"
	case s.Type == "object":
		object := map[string]any{}
		for _, name := range s.Required {
			property := s.Properties[name]
			object[name] = minimal(&property)
		}
		return object
	case s.Type == "array":
		return []any{}
	case s.Type == "integer", s.Type == "number":
		return int64(1)
	case s.Type == "boolean":
		return false
	default:
		return "x"
	}
}

// edges puts each of the values in every place that a schema has, leaf or not,
// with the least around it.
func edges(path string, s *apiextensionsv1.JSONSchemaProps, emit func(path string, value any)) {
	for _, v := range values() {
		emit(path, v)
	}
	for name, property := range s.Properties {
		edges(path+"."+name, &property, func(p string, v any) {
			object := minimal(s).(map[string]any)
			object[name] = v
			emit(p, object)
		})
	}
	if s.Items != nil && s.Items.Schema != nil {
		edges(path+"[0]", s.Items.Schema, func(p string, v any) { emit(p, []any{v}) })
	}
	if s.AdditionalProperties != nil && s.AdditionalProperties.Schema != nil {
		edges(path+"{x}", s.AdditionalProperties.Schema, func(p string, v any) { emit(p, map[string]any{"x": v}) })
		for _, key := range []string{"", "a b", "é—🙈\n", "%s", strings.Repeat("a", 70_000)} {
			emit(path+"{}", map[string]any{key: minimal(s.AdditionalProperties.Schema)})
		}
	}
}

// prune leaves one of two fields that are the same to the last leaf.
func prune(s apiextensionsv1.JSONSchemaProps) apiextensionsv1.JSONSchemaProps {
	template := s.Properties["podTemplate"]
	delete(template.Properties["affinity"].Properties, "podAffinity")
	delete(s.Properties["networkPolicy"].Properties, "metricsFrom")
	return s
}

// known are the resources that a pod of etcd may ask for: the map takes no other,
// so that the generator's key would never get past the keys.
var known = []string{"cpu", "memory", "ephemeral-storage"}

var _ = Describe("A strange value in any field", func() {
	It("is refused in plain words, or accepted and readable", func(ctx context.Context) {
		spec := prune(schema().Properties["spec"])
		var all []edge
		edges("spec", &spec, func(path string, value any) {
			if object, ok := value.(map[string]any); ok {
				all = append(all, edge{path, object})
			} else if path == "spec" {
				all = append(all, edge{path, map[string]any{"not-a-spec": value}})
			}
		})
		for _, list := range []string{"limits", "requests"} {
			for _, name := range known {
				for _, v := range values() {
					all = append(all, edge{"spec.podTemplate.resources." + list + "." + name, map[string]any{
						"podTemplate": map[string]any{"resources": map[string]any{list: map[string]any{name: v}}},
					}})
				}
			}
		}
		Expect(len(all)).To(BeNumerically(">", 3000))

		accepted := 0
		var slowest time.Duration
		for _, e := range all {
			object := &unstructured.Unstructured{Object: map[string]any{
				"apiVersion": "etcd.quorate.dev/v1alpha1", "kind": "EtcdCluster",
				"metadata": map[string]any{"name": "edge", "namespace": "default"},
				"spec":     e.spec,
			}}
			start := time.Now()
			err := try(ctx, object)
			slowest = max(slowest, time.Since(start))
			if err != nil {
				Expect(apierrors.IsInvalid(err) || apierrors.IsBadRequest(err)).To(BeTrue(), "%s: %s: %v", e.path, short(e.spec), err)
				for _, leak := range leaks {
					Expect(err.Error()).NotTo(ContainSubstring(leak), "%s: %s", e.path, short(e.spec))
				}
				continue
			}
			accepted++
			text, err := json.Marshal(object.Object)
			Expect(err).NotTo(HaveOccurred())
			// One object that the operator cannot read would blind it for all.
			Expect(json.Unmarshal(text, &v1alpha1.EtcdCluster{})).To(Succeed(), "%s: %s", e.path, short(e.spec))
		}
		AddReportEntry("edges", fmt.Sprintf("%d values, %d accepted, slowest answer %s", len(all), accepted, slowest))
		Expect(accepted).To(BeNumerically(">", 100))
		Expect(slowest).To(BeNumerically("<", 5*time.Second))
	})
})

// short is a spec as a failure shows it.
func short(spec map[string]any) string {
	text, err := json.Marshal(spec)
	if err != nil {
		return err.Error()
	}
	return string(text[:min(len(text), 300)])
}
