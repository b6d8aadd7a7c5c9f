package api

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"
)

var _ = Describe("An EtcdCluster that is applied", func() {
	for _, c := range cases {
		verdict := "is accepted"
		if c.want != "" {
			verdict = "is refused"
		}
		It(verdict+" with "+c.name, func(ctx context.Context) {
			name := c.object
			if name == "" {
				name = "case"
			}
			var err error
			if c.before == "" {
				err = try(ctx, cluster(name, c.spec))
			} else {
				existing := cluster(name, c.before)
				create(ctx, existing)
				if c.status != "" {
					Expect(patchStatus(ctx, existing, c.status)).To(Succeed())
				}
				edited := cluster(name, c.spec)
				edited.SetResourceVersion(existing.GetResourceVersion())
				err = k8s.Update(ctx, edited, client.FieldValidation("Strict"))
			}
			if c.want == "" {
				Expect(err).NotTo(HaveOccurred())
				return
			}
			expectRefusal(err, c.want)
		})
	}

	It("has a case for every rule of the schema", func() {
		for path, rules := range rulesOf(schema()) {
			for _, rule := range rules {
				words := words(rule)
				Expect(words).NotTo(BeEmpty(), "%s: %s has no message", path, rule.Rule)
				Expect(covered(words)).To(BeTrue(), "no case is refused with: %s: %s", path, words)
			}
		}
	})

	It("gets a message of three parts from every rule", func() {
		for path, rules := range rulesOf(schema()) {
			for _, rule := range rules {
				// An expression may choose between two messages.
				for _, message := range append(strings.Split(rule.MessageExpression, ".format([self]) : '"), rule.Message) {
					Expect(message == "" || hasThreeParts(message)).To(BeTrue(), "%s: %s", path, message)
				}
			}
		}
	})
})

// covered tells whether some case wants an answer with these words.
func covered(words string) bool {
	for _, c := range cases {
		if strings.Contains(c.want, words) {
			return true
		}
	}
	for _, c := range statusCases {
		if strings.Contains(c.want, words) {
			return true
		}
	}
	// Stores are the same wherever they are named.
	return answered(words)
}

var (
	literal     = regexp.MustCompile(`'([^']*)'`)
	placeholder = regexp.MustCompile(`%[sd]`)
)

// words is the longest fixed part of a rule's message: it tells the rule from
// every other.
func words(rule apiextensionsv1.ValidationRule) string {
	longest := ""
	if rule.MessageExpression == "" {
		return rule.Message
	}
	for _, match := range literal.FindAllStringSubmatch(rule.MessageExpression, -1) {
		for _, part := range placeholder.Split(match[1], -1) {
			if strings.Contains(part, " — ") && len(part) > len(longest) {
				longest = part
			}
		}
	}
	return longest
}

// crd is the definition as it is installed.
func crd() *apiextensionsv1.CustomResourceDefinition {
	GinkgoHelper()
	text, err := os.ReadFile(filepath.Join(root, "config/crd/bases/etcd.quorate.dev_etcdclusters.yaml"))
	Expect(err).NotTo(HaveOccurred())
	definition := &apiextensionsv1.CustomResourceDefinition{}
	asJSON, err := yaml.YAMLToJSON(text)
	Expect(err).NotTo(HaveOccurred())
	Expect(json.Unmarshal(asJSON, definition)).To(Succeed())
	return definition
}

func schema() *apiextensionsv1.JSONSchemaProps {
	GinkgoHelper()
	return crd().Spec.Versions[0].Schema.OpenAPIV3Schema
}

// rulesOf lists every rule below a schema, by path.
func rulesOf(s *apiextensionsv1.JSONSchemaProps) map[string][]apiextensionsv1.ValidationRule {
	found := map[string][]apiextensionsv1.ValidationRule{}
	walk("", s, func(path string, s *apiextensionsv1.JSONSchemaProps) {
		if len(s.XValidations) > 0 {
			found[path] = s.XValidations
		}
	})
	return found
}

// walk visits a schema and all below it.
func walk(path string, s *apiextensionsv1.JSONSchemaProps, visit func(string, *apiextensionsv1.JSONSchemaProps)) {
	visit(path, s)
	for name, property := range s.Properties {
		walk(path+"."+name, &property, visit)
	}
	if s.Items != nil && s.Items.Schema != nil {
		walk(path+"[]", s.Items.Schema, visit)
	}
	if s.AdditionalProperties != nil && s.AdditionalProperties.Schema != nil {
		walk(path+"{}", s.AdditionalProperties.Schema, visit)
	}
}
